"""YOLO txt: darknet's, ultralytics', CVAT's, Label Studio's and Roboflow's layouts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from toolkit import boxes as box_formats
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset, match_classes, shown
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.adding import leave_out_all
from toolkit.data.formats.common import (
    PictureFolder,
    common_root,
    filled_sizes,
    folded,
    is_picture,
    picture_size,
)
from toolkit.data.formats.shapes import Box, enclosing
from toolkit.data.formats.survey import Survey, is_names_file, kind_of, survey
from toolkit.data.formats.text import numbered_lines
from toolkit.data.formats.yolo_settings import YoloSettings, resolved, yolo_settings
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_of_folders, split_order
from toolkit.pictures import Unreadable
from toolkit.runtime import InputError, progress

_LARGEST = 20.0  # fraction of a picture that a box may lie or reach: a sliver may be labelled far beyond it
_KIND_FOLDERS = {"images", "image", "img", "imgs", "jpegimages", "labels", "label", "annotations", "txt"}


def read_yolo(
    path: str | Path,
    images: str | Path | None = None,
    faults: Faults = "skip",
    classes: Sequence[str] | None = None,
) -> Dataset:
    """YOLO txt: `class cx cy w h` a line, relative to the picture, whose size is read from its header.

    Polygons and lines with key points become the boxes around them; a score after the box is dropped. A
    picture's label file has its stem and lies beside it or in a folder `labels` that mirrors `images`; an
    empty or absent one means no boxes. Without lists of pictures every picture counts, and folders called
    train, valid, ... give the splits. A picture that several splits name counts in the first.

    Args:
        path: darknet's `.data`, a data.yaml, or a folder; names of classes are searched in it and above it
            (`yolo_settings`).
        images: folder of the pictures, where they are apart from the labels.
        faults: "keep" keeps class numbers beyond the names, and pictures that are missing or unreadable.
        classes: the names, where no file has them.
    """
    path = Path(path)
    top = path if path.is_dir() else path.parent
    files, columns = survey(top), Columns(faults)
    settings = yolo_settings(path, files, columns)
    names = settings.names or (list(classes) if classes else None)
    if names is not None and len(set(names)) != len(names):
        if faults == "refuse":
            raise InputError(f"{settings.source} gives two classes the same name ({shown(names)})")
        columns.note("two classes of one name are one class", settings.source)
    pictures = _pictures(path, files, settings, images, columns)
    if not pictures:
        reasons = f": {columns.skipped[0].reason}" if columns.skipped else ": expected at least one"
        raise InputError(f"{path} has no pictures{reasons}")
    root = common_root([picture for picture, _ in pictures], Path(images) if images else top)
    label_files = _LabelFiles(top, files, [picture for picture, _ in pictures])
    seen = _read_labels(pictures, label_files, root, names, settings, columns)
    _leave_out_unused(label_files, files, columns)
    if not label_files.used:
        raise InputError(
            f"{path} has no YOLO label files: none of its {len(pictures)} pictures has a .txt file"
        )
    if names is None:
        names = [str(i) for i in range(max(seen, default=-1) + 1)]
        columns.note("no file has names of classes: they are called by their numbers; --classes gives names")
    dataset = columns.dataset(root, names, path)
    distinct = list(dict.fromkeys(names))
    return dataset if len(distinct) == len(names) else match_classes(dataset, distinct, "keep")


# ---- pictures and their splits ------------------------------------------------------------------------


def _pictures(
    path: Path, files: Survey, settings: YoloSettings, images: str | Path | None, columns: Columns
) -> list[tuple[str, str]]:
    """(absolute path, split) of every picture."""
    folder = PictureFolder(Path(images) if images else files.top)
    splits: dict[str, str] = {}
    twice: dict[str, list[str]] = {}
    listed = False
    for split, entry in settings.entries:
        target = _target(entry, settings, files.top, outside=path.is_file())
        if target is None:
            _absent_split(split, entry, files.top, columns)
            continue
        listed = True
        for picture in _listed(target, folder, path.is_file(), columns):
            if splits.setdefault(picture, split) != split or picture in twice.get(split, ()):
                twice.setdefault(split, []).append(picture)
    for split, repeated in twice.items():
        columns.note(
            f"{split or 'all'} names {len(repeated)} pictures that another split has: each counts once, in "
            "the first of them",
            repeated[0],
        )
    if not listed:
        names = folder.names if images or files.top.resolve() == folder.folder else files.pictures
        base = os.path.abspath(folder.folder)
        splits = {os.path.join(base, name): split_of_folders(name) for name in names}
    order = split_order(splits.values())
    return sorted(splits.items(), key=lambda item: order.index(item[1]))


def _target(entry: str, settings: YoloSettings, top: Path, outside: bool) -> Path | None:
    """The list or folder of a split; None where it is not there, or outside a folder that is read."""
    folder = entry.partition("*")[0]  # of a pattern
    target = resolved(folder, settings.base, settings.folder, outside)
    inside = target is not None and os.path.abspath(target).startswith(os.path.abspath(top))
    return target if inside or outside else None


def _absent_split(split: str, entry: str, top: Path, columns: Columns) -> None:
    what = "list" if entry.lower().endswith(".txt") else "folder"
    if columns.faults == "refuse":
        raise InputError(f"the {what} of pictures {entry!r} is missing in {top}")
    columns.note(f"the split {split or 'all'!r} is left out: its {what} {entry!r} is not there")


def _listed(target: Path, folder: PictureFolder, outside: bool, columns: Columns) -> list[str]:
    """Absolute paths of the pictures that a list names or a folder has."""
    if target.is_dir():
        base = os.path.abspath(target)
        return [os.path.join(base, name) for name in PictureFolder(target).names]
    if is_picture(target.name):
        return [os.path.abspath(target)]
    pictures = []
    for number, line in numbered_lines(target, columns.note):
        name = folder.find(line)
        if outside and name is None and os.path.isabs(line) and os.path.isfile(line):
            pictures.append(os.path.normpath(line))
        elif name is not None:
            pictures.append(os.path.join(os.path.abspath(folder.folder), name))
        elif columns.faults == "keep":
            pictures.append(os.path.join(os.path.abspath(folder.folder), line.lstrip("/")))
        else:
            columns.skip(line, f"{target}, line {number}: the picture {line!r} is missing in {folder.folder}")
    return pictures


# ---- labels -------------------------------------------------------------------------------------------


class _LabelFiles:
    """The .txt files of a folder, found by the picture that they are for."""

    def __init__(self, top: Path, files: Survey, pictures: Sequence[str]) -> None:
        self.top = os.path.abspath(top)
        self.used: set[str] = set()
        self._by_stem: dict[str, list[str]] = {}
        for name in files.ending(".txt"):
            if not is_names_file(name):
                self._by_stem.setdefault(_stem(name), []).append(os.path.join(self.top, name))
        self._namesakes: dict[str, int] = {}
        for picture in pictures:
            self._namesakes[_stem(picture)] = self._namesakes.get(_stem(picture), 0) + 1

    def find(self, picture: str) -> str | None:
        """The label file of a picture: of the same stem, in the same folder or in one that mirrors it; in any
        folder where the stem is the only one."""
        stem = _stem(picture)
        candidates = self._by_stem.get(stem)
        if candidates is None:
            beside = os.path.splitext(picture)[0] + ".txt"
            outside = not picture.startswith(self.top + os.sep)
            chosen = beside if outside and os.path.isfile(beside) else _mirrored(beside) if outside else None
        else:
            place = _place(picture)
            chosen = next((file for file in candidates if _place(file) == place), None)
            if chosen is None and len(candidates) == 1 and self._namesakes.get(stem) == 1:
                chosen = candidates[0]
        if chosen is not None:
            self.used.add(chosen)
        return chosen

    @property
    def unused(self) -> list[str]:
        """Files that are for no picture, sorted."""
        return sorted(file for each in self._by_stem.values() for file in each if file not in self.used)


def _mirrored(beside: str) -> str | None:
    """The file in `labels` for one in `images`."""
    for folder in ("images", "JPEGImages"):
        head, folder_found, tail = beside.rpartition(f"{os.sep}{folder}{os.sep}")
        if folder_found and os.path.isfile(file := f"{head}{os.sep}labels{os.sep}{tail}"):
            return file
    return None


def _stem(path: str) -> str:
    return folded(os.path.splitext(os.path.basename(path))[0])


def _place(path: str) -> tuple[str, ...]:
    """The folders of a path without those that only say what is in them."""
    return tuple(part for part in path.split(os.sep)[:-1] if part.casefold() not in _KIND_FOLDERS)


def _read_labels(
    pictures: Sequence[tuple[str, str]],
    label_files: _LabelFiles,
    root: Path,
    names: list[str] | None,
    settings: YoloSettings,
    columns: Columns,
) -> set[int]:
    """Fill `columns`; returns the class numbers that occur."""
    numbers: set[int] = set()
    reader = _LineReader(columns, names, settings.points)
    prefix = os.path.join(os.path.abspath(root), "")
    for picture, split in progress(pictures, "reading YOLO"):
        file = label_files.find(picture)
        size = (0, 0)
        try:
            size = picture_size(picture)
        except Unreadable as error:
            if columns.faults != "keep":
                columns.skip(picture.removeprefix(prefix), error.reason)
                leave_out_all(columns, len(numbered_lines(Path(file))) if file else 0, file)
                continue
        index = columns.add_picture(picture.removeprefix(prefix).replace(os.sep, "/"), size, split)
        for number, line in numbered_lines(Path(file), columns.note) if file else ():
            if (parsed := reader.read(line, f"{file}, line {number}")) is None:
                continue
            label, (x1, y1, x2, y2) = parsed
            numbers.add(label)
            width, height = size
            columns.add_box(index, (x1 * width, y1 * height, x2 * width, y2 * height), label)
    return numbers


def _plausible(cx: float, cy: float, w: float, h: float) -> bool:
    """Whether numbers may be fractions of a picture; pixels are larger."""
    return -_LARGEST < cx < _LARGEST and -_LARGEST < cy < _LARGEST and w < _LARGEST and h < _LARGEST


@dataclass(frozen=True)
class _LineReader:
    """Turns label lines into class numbers and boxes, and leaves out what is none."""

    columns: Columns
    names: list[str] | None
    points: tuple[int, ...]  # key points of a line, and numbers of each

    def read(self, line: str, place: str) -> tuple[int, Box] | None:
        """(class number, xyxy in fractions of the picture); None where the line is left out."""
        fields = line.split()
        if len(fields) == 5 and self.names is not None:  # as nearly all lines are
            try:
                number, (cx, cy, w, h) = int(fields[0]), map(float, fields[1:])
                if 0 <= number < len(self.names) and _plausible(cx, cy, w, h) and w > 0 < h:
                    return number, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            except ValueError:
                pass
        if "," in line:
            fields = line.replace(",", "." if len(fields) >= 5 else " ").split()
        if len(fields) < 5:
            self._leave_out("lines of too few numbers", place, line, f"found {len(fields)} fields")
            return None
        try:
            values = [float(field) for field in fields[1:]]
        except ValueError:
            values = [float("nan")]
        if not all(map(isfinite, values)):
            self._leave_out("lines with something else than numbers", place, line, "found other than numbers")
            return None
        label = self._label(fields[0], place, line)
        if label is None:
            return None
        if len(values) > 5 and not self._has_key_points(values):
            return label, enclosing(zip(values[::2], values[1::2], strict=False))
        if len(values) == 5:
            self.columns.note("a sixth number in a line, a score, was dropped", place)
        cx, cy, w, h = values[:4]
        if self.columns.faults != "keep":
            if not _plausible(cx, cy, w, h):
                self._leave_out("lines that are no fractions of the picture", place, line, "found pixels")
                return None
            if w <= 0 or h <= 0:
                self._leave_out("boxes without an area", place, line, "found")
                return None
        return label, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)

    def _leave_out(self, kind: str, place: str, line: str, what: str) -> None:
        self.columns.leave_out(kind, f"{place}: expected 'class cx cy w h', {what}: {line[:60]!r}")

    def _label(self, field: str, place: str, line: str) -> int | None:
        try:
            number = float(field)
        except ValueError:
            number = float("nan")
            if self.names and field in self.names:
                number = self.names.index(field)
        if not isfinite(number) or number != int(number) or abs(number) > 1e6:
            self.columns.leave_out(
                "lines without a class number", f"{place}: expected a whole class number, found {field!r}"
            )
            return None
        label = int(number)
        if self.columns.faults == "keep" or (label >= 0 and (self.names is None or label < len(self.names))):
            return label
        count = len(self.names or ())
        self.columns.leave_out(
            "boxes of classes beyond the names", f"{place}: class {label} is not among the {count} names"
        )
        return None

    def _has_key_points(self, values: list[float]) -> bool:
        """Whether numbers are a box and key points, not a polygon.

        data.yaml's `kpt_shape` says so; else an odd count, or a visibility (0, 1, 2) in every third place.
        """
        extra = len(values) - 4
        if self.points:
            points = extra == self.points[0] * (self.points[1] if len(self.points) > 1 else 2)
        else:
            marked = extra % 3 == 0 and all(value in (0, 1, 2) for value in values[6::3])
            points = len(values) % 2 == 1 or marked
        kind = (
            "lines with key points were read as their boxes"
            if points
            else "polygons became the boxes around them"
        )
        self.columns.note(kind)
        return points


def _leave_out_unused(label_files: _LabelFiles, files: Survey, columns: Columns) -> None:
    """Count the boxes of label files that are for no picture; lists and other texts are none."""
    stems = {_stem(name) for name in files.pictures}
    for file in label_files.unused:
        if os.path.getsize(file) and kind_of(Path(file)) == "yolo-lines" and columns.faults != "keep":
            kind, what = "boxes of pictures that did not come in", "is missing"
            if _stem(file) in stems:
                kind, what = "boxes of pictures that no list names", "is in no list"
            count = len(numbered_lines(Path(file)))
            columns.leave_out(kind, f"the picture of the label file {file} {what}", count)


def write_yolo(dataset: Dataset, folder: Path, link: bool) -> None:
    """CVAT's "YOLO 1.1", which darknet reads from inside the folder: `obj.data`, `obj.names`, a list for each
    split (`train.txt`, `valid.txt`, ...; `all.txt`: none) and `obj_data/` with txt files beside pictures."""
    dataset = filled_sizes(dataset)
    names = unique_names(dataset.files, by_stem=True)
    place_pictures(dataset, folder / "obj_data", names, link)
    whole = np.repeat(dataset.sizes.astype(np.float64), np.diff(dataset.starts), axis=0)
    relative = box_formats.xyxy_to_cxcywh(dataset.boxes.astype(np.float64)) / np.concatenate(
        (whole, whole), 1
    )
    for i, name in enumerate(progress(names, "writing YOLO")):
        rows = dataset.rows(i)
        lines = (
            f"{label} " + " ".join(f"{value:.10g}" for value in values) + "\n"
            for label, values in zip(dataset.labels[rows].tolist(), relative[rows].tolist(), strict=True)
        )
        file = folder / "obj_data" / (os.path.splitext(name)[0] + ".txt")
        file.write_text("".join(lines), encoding="utf-8")
    settings = [f"classes = {len(dataset.classes)}"]
    for split in split_order(dataset.splits.tolist()):
        word = {"": "all", "val": "valid"}.get(split, split)
        listed = "".join(f"obj_data/{names[i]}\n" for i in np.flatnonzero(dataset.splits == split))
        (folder / f"{word}.txt").write_text(listed, encoding="utf-8")
        settings.append(f"{word} = {word}.txt")
    settings += ["names = obj.names", "backup = backup/"]
    (folder / "obj.data").write_text("\n".join(settings) + "\n", encoding="utf-8")
    (folder / "obj.names").write_text("".join(f"{name}\n" for name in dataset.classes), encoding="utf-8")
