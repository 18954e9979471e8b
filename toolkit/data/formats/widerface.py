"""WIDER FACE lists."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from toolkit import boxes as box_formats
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.adding import LIMIT, leave_out_all
from toolkit.data.formats.common import (
    PictureFolder,
    add_named_picture,
    filled_sizes,
    is_picture,
    list_files,
)
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.formats.text import numbered_lines, read_text, written
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_of, split_of_folders, split_of_list, split_order
from toolkit.runtime import InputError, progress


def read_widerface(
    path: str | Path, images: str | Path | None = None, faults: Faults = "skip", lists: str | None = None
) -> Dataset:
    """WIDER FACE: `wider_face_split/wider_face_<split>_bbx_gt.txt` and `WIDER_<split>/images/`, and lists of
    that kind anywhere below `path`: with or without counts, with four or more numbers a face (x, y, w, h,
    blur, expression, illumination, invalid, occlusion, pose). Invalid faces become ignore; the other
    attributes are dropped. One class, "face". Faces of no or negative size stay, as the official lists have
    some. The .mat files are not read.

    A copy with smaller pictures has `sizes.csv` (file, orig_w, orig_h, w, h): its ground truth stays in the
    pixels of the originals on disk, and the Dataset holds boxes in the pixels of the pictures that are there,
    with `original_sizes` (multiply by `original_scale()` to get back).

    With one ground truth file the names are `event/picture.jpg`, with several they begin at `WIDER_<split>`.
    lists: a folder in `path` with `<split>.txt` files of picture names, which replace the official splits.
    """
    path = Path(path)
    files = _list_files(path)
    top = path if path.is_dir() else path.parent
    if path.is_file() and top.name == "wider_face_split":
        top = top.parent
    originals = _original_sizes(top / "sizes.csv")
    listed = _listed_splits(top / lists) if lists else None
    splits = [split_of(_word(file) or split_of_list(file.relative_to(top).as_posix())) for file in files]
    order = split_order(splits)
    parts = sorted(zip(splits, files, strict=True), key=lambda part: order.index(part[0]))
    folders = [Path(images) if images else _picture_folder(file, top) for _, file in parts]
    root = folders[0] if len(set(folders)) == 1 else top
    columns, pictures = Columns(faults), PictureFolder(root)
    for (split, file), folder in zip(parts, folders, strict=True):
        prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
        for name, faces, place in progress(_wider_records(file, columns), f"reading {file.name}"):
            if originals is not None and name not in originals:
                columns.skip(name, f"{top / 'sizes.csv'} has no line for {name!r}")
                leave_out_all(columns, len(faces), place)
                continue
            original, size = originals[name] if originals is not None else (None, (0, 0))
            own = split if listed is None else listed.get(name, "")
            picture = add_named_picture(
                columns, pictures, prefix + name, own, place, size, original_size=original
            )
            if picture is None:
                leave_out_all(columns, len(faces), place)
                continue
            if listed is None:
                columns.splits[picture] = own or split_of_folders(columns.files[picture])
            scale_x, scale_y = (size[0] / original[0], size[1] / original[1]) if original else (1.0, 1.0)
            for x, y, w, h, *attributes in faces:
                box = (x * scale_x, y * scale_y, (x + w) * scale_x, (y + h) * scale_y)
                columns.add_box(picture, box, 0, ignore=len(attributes) > 3 and bool(attributes[3]))
    return columns.dataset(root, ("face",), path)


def _list_files(path: Path) -> list[Path]:
    """The official lists, otherwise others of that kind."""
    if path.is_file():
        return [path]
    names = list_files(path, lambda name: re.fullmatch(r"wider_face_.*_bbx_gt\.txt", name) is not None)
    names = names or files_of_kind(path, "widerface", "widerface-bare")[1]
    if not names:
        matlab = list_files(path, lambda name: name.lower().endswith(".mat"))
        also = f"; {matlab[0]} is MATLAB's, which is not read: take the .txt lists" if matlab else ""
        raise InputError(
            f"{path} has no WIDER FACE labels: expected wider_face_split/wider_face_*_bbx_gt.txt{also}"
        )
    return [path / name for name in names]


def _word(file: Path) -> str:
    """What an official list has in its name for the split."""
    match = re.search(r"wider_face_(\w+)_bbx_gt", file.name)
    return match[1] if match else ""


def _picture_folder(file: Path, top: Path) -> Path:
    """Where a list's pictures are: `WIDER_<split>/images`, images/ beside the list or in `top`, or `top`."""
    choices = [top / f"WIDER_{_word(file)}" / "images", file.parent / "images", top / "images"]
    return next((folder for folder in choices if folder.is_dir()), top)


def _wider_records(file: Path, columns: Columns) -> Iterator[tuple[str, list[list[float]], str]]:
    """(name, faces of four or more numbers, place of the name) of each picture."""
    record: _Record | None = None
    for line_number, line in numbered_lines(file, columns.note):
        place = f"{file}, line {line_number}"
        first = line.split()[0]
        if is_picture(line) or ("/" in line and not re.fullmatch(r"[-+.\d]+", first)):
            if record is not None:
                yield record.name, record.whole(columns), record.place
            record = _Record(line, place)
        elif record is None:
            columns.leave_out(
                "lines before the first picture",
                f"{place}: expected the name of a picture, found {line[:60]!r}",
            )
        else:
            record.take(line, columns, place)
    if record is not None:
        yield record.name, record.whole(columns), record.place


@dataclass
class _Record:
    """The lines of one picture."""

    name: str
    place: str
    count: int | None = None  # as the list gives it
    lines: int = 0
    faces: list[list[float]] = field(default_factory=list)

    def take(self, line: str, columns: Columns, place: str) -> None:
        """A line below the name: the count, or a face."""
        if line.isdecimal() and self.count is None and not self.lines:
            self.count = int(line[:9])
            return
        self.lines += 1
        try:
            values = [float(part) for part in line.split()]
        except ValueError:
            values = []
        if len(values) < 4 or not all(abs(value) < LIMIT for value in values):
            columns.leave_out(
                "lines without a box", f"{place}: expected x y w h and more, found {line[:60]!r}"
            )
            return
        self.faces.append(values)

    def whole(self, columns: Columns) -> list[list[float]]:
        """The faces; lines of zeros stand for none where the count is 0 or not given."""
        nothing = [not self.count and not any(face) for face in self.faces]
        faces = [face for face, empty in zip(self.faces, nothing, strict=True) if not empty]
        if self.count is not None and self.count != self.lines - sum(nothing):
            sentence = f"{self.place}: expected {self.count} faces, found {self.lines - sum(nothing)} lines"
            if columns.faults == "refuse":
                raise InputError(sentence)
            columns.note("counts of faces that are not those of the lines were passed over", sentence)
        return faces


def _original_sizes(file: Path) -> dict[str, tuple[tuple[int, int], tuple[int, int]]] | None:
    """name -> (original size, size) of a `sizes.csv`; None where there is none."""
    if not file.is_file():
        return None
    sizes = {}
    for line, row in enumerate(csv.DictReader(read_text(file).splitlines()), 2):
        try:
            original, size = (int(row["orig_w"]), int(row["orig_h"])), (int(row["w"]), int(row["h"]))
            name = row["file"]
        except (KeyError, TypeError, ValueError):
            original = size = (0, 0)
            name = ""
        if min(original + size) <= 0:
            raise InputError(f"{file}, line {line}: expected file,orig_w,orig_h,w,h with positive sizes")
        sizes[name] = (original, size)
    return sizes


def _listed_splits(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise InputError(f"{folder} has no lists of pictures: expected <split>.txt")
    return {line: split_of(file.stem) for file in files for _, line in numbered_lines(file)}


def write_widerface(dataset: Dataset, folder: Path, link: bool) -> None:
    """WIDER FACE's layout; ignore is written as invalid, the other attributes as 0. Where `original_sizes` is
    known the boxes are written in the originals' pixels (rounded to a thousandth) beside a `sizes.csv`."""
    if len(dataset.classes) != 1:
        raise InputError(f"WIDER FACE's format holds one class: {dataset.root} has {len(dataset.classes)}")
    dataset = filled_sizes(dataset)
    # pictures read from several lists carry the folder in their names
    names = unique_names([re.sub(r"^WIDER_\w+/images/", "", name) for name in dataset.files])
    scale = dataset.original_scale()
    if dataset.original_sizes is not None:
        rows = zip(names, dataset.original_sizes.tolist(), dataset.sizes.tolist(), strict=True)
        with (folder / "sizes.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "orig_w", "orig_h", "w", "h"))
            writer.writerows((name, *original, *size) for name, original, size in rows)
    (folder / "wider_face_split").mkdir()
    for split in split_order(dataset.splits.tolist()):
        word, chosen = split or "all", np.flatnonzero(dataset.splits == split)
        place_pictures(
            dataset.subset(chosen), folder / f"WIDER_{word}" / "images", [names[i] for i in chosen], link
        )
        records = []
        for i in chosen.tolist():
            boxes = box_formats.xyxy_to_xywh(dataset.boxes[dataset.rows(i)].astype(np.float64))
            if dataset.original_sizes is not None:
                boxes = np.round(boxes * np.tile(scale[i], 2), 3)
            ignored = dataset.ignore[dataset.rows(i)].tolist()
            records += [names[i], str(len(boxes))] + [
                f"{x} {y} {w} {h} 0 0 0 {int(ignore)} 0 0"
                for (x, y, w, h), ignore in zip(written(boxes), ignored, strict=True)
            ]
            if not ignored:
                records.append("0 0 0 0 0 0 0 0 0 0")
        target = folder / "wider_face_split" / f"wider_face_{word}_bbx_gt.txt"
        target.write_text("".join(f"{line}\n" for line in records), encoding="utf-8")
