"""Tables of boxes: CSV as Roboflow, TensorFlow, RetinaNet, OpenImages, Kaggle have it, and keras' lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from toolkit.data.builder import Columns
from toolkit.data.class_names import shown
from toolkit.data.dataset import Dataset
from toolkit.data.formats.adding import add_box, leave_out_all, number, recorded_size, with_classes
from toolkit.data.formats.box_lines import box_line
from toolkit.data.formats.common import PictureFolder, add_named_picture, is_picture
from toolkit.data.formats.shapes import Box
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.formats.table_classes import ClassNames, class_names
from toolkit.data.formats.table_header import Layout, delimiter_of, layout
from toolkit.data.formats.text import NUMBER, ROW, Note, encoding_of, note_guess, stream_lines
from toolkit.data.intake import Faults
from toolkit.data.splitting import SPLIT_WORDS, split_of_folders, split_of_list, split_order
from toolkit.runtime import InputError, progress

_LINES = Layout(0, (1, 2, 3, 4), "corners", 5)  # `box_line`, with the picture first
_NOTHING = {"", "nan", "none", "null", "na", "n/a", "[]", "no_box"}
_FRACTIONS = 1.01  # rounding may lead a little beyond 1
_NUMBER = re.compile(NUMBER)


def read_table(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """Tables with a box a row, or lines of a picture and all of its boxes (keras-yolo3's, OpenCV's).

    All tables below `path` are read (comma, semicolon, tab or bar between the fields). What the columns are
    follows from the header, or from the first row where there is none. The split is that of a column, of the
    table's folder or name, or of the picture's folder; a box that two tables have counts once. A table in
    which no coordinate is above 1 has fractions of the pictures. Rows without a box are pictures without
    boxes; pictures that no table names stay outside and are counted in a note.

    Classes are in the order of classes.csv (RetinaNet's name,id) or classes.txt where there is one, otherwise
    sorted; numbers and OpenImages' identifiers are replaced by the names in such files. Without a column of
    classes all are "object".
    """
    folder, files = files_of_kind(Path(path), "table")
    if not files:
        raise InputError(
            f"{path} has no table of boxes: expected a .csv with filename, class, xmin, ymin, ..."
        )
    order = split_order(map(split_of_list, files))
    files = sorted(files, key=lambda name: order.index(split_of_list(name)))
    columns = Columns(faults)
    pictures = PictureFolder(Path(images) if images else folder)
    boxes = _Boxes(columns, pictures, class_names(folder, columns.note), several=len(files) > 1)
    for name in files:
        near = "" if images else name.rpartition("/")[0]
        boxes.add_table(_Table(folder / name, columns.note, split_of_list(name), near))
    classes = boxes.names.ordered(boxes.labels, columns.note)
    return with_classes(columns, pictures.folder, boxes.labels, path, classes)


class _Table:
    """One file: what its columns are, and its rows; its split, and the folder in which it is."""

    def __init__(self, file: Path, note: Note, split: str, near: str) -> None:
        self.file, self.split, self.near = file, split, near
        self.encoding = encoding_of(file)
        note_guess(self.encoding, file, note)
        self.is_lines = any(map(box_line, islice(self._lines(), 200)))
        _, first = next(self._raw_rows(), (0, []))
        chosen = _LINES if self.is_lines else layout(first)
        if chosen is None:
            raise InputError(
                f"{file} is not a table of boxes: expected a header such as filename, class, xmin, ymin, "
                f"xmax, ymax, found {shown(first)}"
            )
        self.layout = chosen

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line, fields) without the header."""
        rows = self._raw_rows()
        if not self.is_lines and not self.layout.bare:
            next(rows)
        return rows

    def _lines(self) -> Iterator[str]:
        return stream_lines(self.file, self.encoding)

    def _raw_rows(self) -> Iterator[tuple[int, list[str]]]:
        if self.is_lines:
            for count, line in enumerate(self._lines(), 1):
                yield from ((count, row) for row in _line_rows(line.strip()))
            return
        start = next((line for line in self._lines() if line.strip() and line[:4] != "sep="), "")
        length = 0  # of the row

        def lines() -> Iterator[str]:
            nonlocal length
            for line in self._lines():
                length += len(line)
                if length > ROW:
                    raise InputError(f"{self.file} has a row of more than {ROW:,} characters: divide it")
                yield line

        table = csv.reader(  # strict: a quotation mark without its second would swallow rows
            lines(), delimiter=delimiter_of(start), skipinitialspace=True, strict=True
        )
        try:
            for row in table:
                length = 0
                fields = [value.strip() for value in row]
                if any(fields) and not fields[0].startswith("sep="):
                    yield table.line_num, fields
        except csv.Error as error:
            raise InputError(f"{self.file}, line {table.line_num}: this is not a table ({error})") from None

    def boxes_of(self, row: list[str]) -> list[list[str]]:
        """The texts of a row's boxes, four each unless something is wrong; [] where it has none."""
        fields = [row[i] if i < len(row) else "" for i in self.layout.box]
        if all(text.lower() in _NOTHING for text in fields):
            classed = self.field(row, self.layout.label).lower() not in _NOTHING
            cut = not self.is_lines and len(row) <= max(self.layout.box) and len(row) > 1
            return [fields] if classed or cut else []  # else a picture without objects
        if not self.layout.shape.startswith("text"):
            return [fields]
        values = _NUMBER.findall(fields[0])
        return [values[i : i + 4] for i in range(0, len(values), 4)] or [[]]

    def are_fractions(self) -> bool:
        """Whether no coordinate is above 1, and there is one."""
        largest = 0.0
        for _, row in self.rows():
            for texts in self.boxes_of(row):
                try:
                    largest = max(largest, *map(number, texts))
                except (ValueError, TypeError):
                    continue
                if largest > _FRACTIONS:
                    return False
        return largest > 0

    def field(self, row: list[str], column: int) -> str:
        """A field of a row, "" where there is none."""
        return row[column] if 0 <= column < len(row) else ""


def _line_rows(line: str) -> list[list[str]]:
    """A line as rows of picture, corners and class; a row of nothing where it names no picture."""
    if parsed := box_line(line):
        name, boxes = parsed
        return [[name, *box] for box in boxes] or [[name]]
    return ([[line]] if is_picture(line) else [[]]) if line else []


@dataclass
class _Boxes:
    """Boxes of all tables on their way into the columns."""

    columns: Columns
    pictures: PictureFolder
    names: ClassNames
    several: bool  # there is more than one table
    labels: dict[str, int] = field(default_factory=dict)
    indices: dict[tuple[str, str], int | None] = field(default_factory=dict)  # (near, name) -> picture
    by_file: dict[str, int] = field(default_factory=dict)
    origins: dict[tuple[int, str, Box], Path] = field(default_factory=dict)  # box -> its table

    def add_table(self, table: _Table) -> None:
        """Add all rows of a table."""
        note, name = self.columns.note, table.file.name
        if table.layout.shape == "text":
            note("a column with boxes as text was read as x, y, width, height", name)
        if table.layout.score >= 0:
            note("a column of scores was dropped", name)
        fractions = table.are_fractions()
        if fractions:
            note("boxes whose numbers are at most 1 were read as fractions of the picture", name)
        for line, row in progress(table.rows(), f"reading {name}"):
            self._add_row(table, row, fractions, f"{table.file}, line {line}")

    def _add_row(self, table: _Table, row: list[str], fractions: bool, place: str) -> None:
        columns, chosen = self.columns, table.layout
        picture_name = table.field(row, chosen.picture)
        boxes = table.boxes_of(row)
        if not picture_name:
            columns.leave_out("rows without a picture's name", f"{place}: found {shown(row)!r}")
            return
        word = table.field(row, chosen.split).lower().replace("validate", "val")
        split = SPLIT_WORDS.get(word, "") or table.split
        size = recorded_size(table.field(row, chosen.width), table.field(row, chosen.height))
        picture = self._picture(picture_name, table.near, split, place, size)
        if picture is None:
            leave_out_all(columns, len(boxes), place)
            return
        crowd = table.field(row, chosen.crowd).lower() in ("1", "1.0", "true")
        for texts in boxes:
            try:
                x1, y1, x2, y2 = _corners([number(text) for text in texts], chosen)
            except ValueError:
                columns.leave_out(
                    "rows without a whole box", f"{place}: expected four numbers, found {shown(texts)!r}"
                )
                continue
            label = table.field(row, chosen.label)
            if chosen.label < 0 or (table.is_lines and not label):
                columns.note("boxes have no class: all such are 'object'", place)
                label = "object"
            if not label or (x1 == y1 == x2 == y2 == 0 and label.lower() in _NOTHING):
                if x1 or y1 or x2 or y2:
                    columns.leave_out("boxes without a class", f"{place}: found {shown(row)!r}")
                continue
            if fractions:
                width, height = columns.size_of(picture)
                x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
            self._add_box(picture, self.names.name_of(label), (x1, y1, x2, y2), table.file, place, crowd)

    def _add_box(self, picture: int, label: str, box: Box, table: Path, place: str, crowd: bool) -> None:
        if self.several and self.origins.setdefault((picture, label, box), table) != table:
            self.columns.note("boxes that two tables have count once", place)
            return
        add_box(self.columns, self.labels, picture, label, box, place, crowd=crowd)

    def _picture(self, name: str, near: str, split: str, place: str, size: tuple[int, int]) -> int | None:
        """Its index; it is added with its first row, under whatever name."""
        if "://" in name:
            name = name.partition("?")[0]
        key = (near, name)
        if key in self.indices:
            return self.indices[key]
        file = self.pictures.find(name, near)
        index = self.by_file.get(file) if file else None
        if index is None:
            index = add_named_picture(self.columns, self.pictures, name, split, place, size, near)
            if index is not None:
                file = self.columns.files[index]
                self.by_file[file] = index
                self.columns.splits[index] = split or split_of_folders(file)
        self.indices[key] = index
        return index


def _corners(values: list[float], chosen: Layout) -> Box:
    """The box xyxy of four numbers; ValueError where there are not four."""
    a, b, c, d = values
    if chosen.shape in ("corner and size", "text"):
        return a, b, a + c, b + d
    if chosen.shape == "centre and size":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d
