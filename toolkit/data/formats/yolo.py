"""YOLO txt: darknet's, ultralytics', CVAT's, Label Studio's and Roboflow's layouts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from toolkit import boxes as box_formats
from toolkit.data.builder import Columns
from toolkit.data.class_names import shown
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.adding import leave_out_all
from toolkit.data.formats.common import (
    PictureFolder,
    common_root,
    filled_sizes,
    folded,
    is_picture,
    path_parts,
    picture_size,
)
from toolkit.data.formats.survey import Survey, is_names_file, kind_of, survey
from toolkit.data.formats.text import numbered_lines
from toolkit.data.formats.yolo_lines import LineReader, hold_key_points
from toolkit.data.formats.yolo_settings import YoloSettings, resolved, yolo_settings
from toolkit.data.intake import Faults
from toolkit.data.reach import current, is_inside, takes_neighbour
from toolkit.data.splitting import split_of_folders, split_order
from toolkit.pictures import Unreadable
from toolkit.runtime import InputError, progress

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
            (`yolo_settings`). Settings that are given as the path may name lists and folders of pictures
            elsewhere; those of a folder may not.
        images: folder of the pictures, where they are apart from the labels.
        faults: "keep" keeps class numbers beyond the names, and pictures that are missing or unreadable.
        classes: the names, where no file has them.
    """
    path, columns = Path(path), Columns(faults)
    root, names = _read_all(path, images, classes, columns)  # apart: what it holds is freed before the end
    dataset = columns.dataset(root, names, path)
    distinct = list(dict.fromkeys(names))
    return dataset if len(distinct) == len(names) else match_classes(dataset, distinct, "keep")


def _read_all(
    path: Path, images: str | Path | None, classes: Sequence[str] | None, columns: Columns
) -> tuple[Path, list[str]]:
    """Fill `columns`; returns the folder of the pictures and the names of the classes."""
    top = path if path.is_dir() else path.parent
    files = survey(top)
    settings = yolo_settings(path, files, columns)
    names = settings.names
    if names is None and classes and not all(name.isdecimal() for name in classes):
        names = list(classes)
    if names is not None and len(set(names)) != len(names):
        if columns.faults == "refuse":
            raise InputError(f"{settings.source} gives two classes the same name ({shown(names)})")
        columns.note("two classes of one name are one class", settings.source)
    pictures = _pictures(path, files, settings, images, columns)
    if not pictures:
        reasons = f": {columns.skipped[0].reason}" if columns.skipped else ": expected at least one"
        raise InputError(f"{path} has no pictures{reasons}")
    root = common_root([picture for picture, _ in pictures], Path(images) if images else top)
    label_files = _LabelFiles(top, files, pictures)
    seen = _read_labels(pictures, label_files, root, names, settings, columns)
    _leave_out_unused(label_files, files, columns)
    if not label_files.used:
        raise InputError(
            f"{path} has no YOLO label files: none of its {len(pictures)} pictures has a .txt file"
        )
    if names is None:
        names = [str(i) for i in range(max(seen, default=-1) + 1)]
        columns.note("no file has names of classes: they are called by their numbers; --classes gives names")
    return root, names


# ---- pictures and their splits ------------------------------------------------------------------------


def _pictures(
    path: Path, files: Survey, settings: YoloSettings, images: str | Path | None, columns: Columns
) -> list[tuple[str, str]]:
    """(absolute path, split) of every picture."""
    folder = PictureFolder(Path(images) if images else files.top)
    splits: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    listed = False
    for split, entry in settings.entries:
        target = _target(entry, settings, chosen=path.is_file())
        if target is None:
            _absent_split(split, entry, files.top, columns)
            continue
        listed = True
        for picture in _listed(target, folder, columns):
            if splits.setdefault(picture, split) != split:
                repeated.setdefault(split, []).append(picture)
    for split, others in repeated.items():
        columns.note(
            f"{split or 'all'} names {len(others)} pictures that another split has: each counts once, in "
            "the first of them",
            others[0],
        )
    if not listed:
        names = folder.names if images or files.top.resolve() == folder.folder else files.pictures
        base = os.path.abspath(folder.folder)
        splits = {os.path.join(base, name): split_of_folders(name) for name in names}
    order = split_order(splits.values())
    return sorted(splits.items(), key=lambda item: order.index(item[1]))


def _target(entry: str, settings: YoloSettings, chosen: bool) -> Path | None:
    """The list or folder of a split; None where it is not there, or outside of what may be read. In settings
    that the user has chosen it may be anywhere: its folder, and that of the labels, then count as the set's
    own."""
    entry = entry.partition("*")[0]  # of a pattern
    place = settings.folder / settings.base / entry.strip()
    if chosen and os.path.exists(place) and not is_inside(place):
        folder = os.path.abspath(place if place.is_dir() else place.parent)
        current().add(folder)
        for labels in _mirrors(os.path.join(folder, "")):
            takes_neighbour(Path(labels))
    return resolved(entry, settings.base, settings.folder)


def _absent_split(split: str, entry: str, top: Path, columns: Columns) -> None:
    what = "list" if entry.lower().endswith(".txt") else "folder"
    if columns.faults == "refuse":
        raise InputError(f"the {what} of pictures {entry!r} is missing in {top}")
    columns.note(f"the split {split or 'all'!r} is left out: its {what} {entry!r} is not in {top}")


def _listed(target: Path, folder: PictureFolder, columns: Columns) -> list[str]:
    """Absolute paths of the pictures that a list names or a folder has."""
    if target.is_dir():
        base = os.path.abspath(target)
        return [os.path.join(base, name) for name in PictureFolder(target).names]
    if is_picture(target.name):
        return [os.path.abspath(target)]
    pictures = []
    for number, line in numbered_lines(target, columns.note):
        name = folder.find(line)
        if name is None and os.path.isabs(line) and os.path.isfile(line):
            if is_inside(line):
                pictures.append(os.path.normpath(line))
            else:
                current().strays[line] = f"is named in {target}, line {number}, and is outside the data set"
        elif name is not None:
            pictures.append(os.path.join(os.path.abspath(folder.folder), name))
        elif columns.faults == "keep":
            pictures.append(os.path.join(os.path.abspath(folder.folder), *path_parts(line)))
        else:
            columns.skip(line, f"{target}, line {number}: the picture {line!r} is missing in {folder.folder}")
    return pictures


# ---- labels -------------------------------------------------------------------------------------------


class _LabelFiles:
    """The .txt files of a folder, found by the picture that they are for."""

    def __init__(self, top: Path, files: Survey, pictures: Sequence[tuple[str, str]]) -> None:
        self.top = os.path.abspath(top)
        self.used: set[str] = set()
        self._pictures = pictures
        self._names = [name for name in files.ending(".txt") if not is_names_file(name)]
        self._by_place: dict[tuple[str, ...], dict[str, str]] = {}
        for name in self._names:
            place = _place(os.path.join(self.top, os.path.dirname(name)))
            self._by_place.setdefault(place, {}).setdefault(_stem(name), name)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self._names:
            names.setdefault(_stem(name), []).append(name)
        return names

    @cached_property
    def _namesakes(self) -> Counter[str]:
        return Counter(_stem(picture) for picture, _ in self._pictures)

    def find(self, picture: str) -> str | None:
        """The label file of a picture: of the same stem, in the same folder or in one that mirrors it; in any
        folder where the stem is the only one."""
        stem = _stem(picture)
        name = self._by_place.get(_place(os.path.dirname(picture)), {}).get(stem)
        if name is None:
            candidates = self._by_stem.get(stem, [])
            name = candidates[0] if len(candidates) == 1 == self._namesakes[stem] else None
            if not candidates and not picture.startswith(self.top + os.sep):
                beside = os.path.splitext(picture)[0] + ".txt"
                name = beside if os.path.isfile(beside) else _mirrored(beside)
        if name is None:
            return None
        self.used.add(name)
        return os.path.join(self.top, name)  # a path that is whole stays itself

    def first_lines(self, count: int = 300) -> Iterator[str]:
        """The lines of the first files."""
        for name in self._names[:count]:
            with suppress(InputError):
                yield from (line for _, line in numbered_lines(Path(self.top, name)))

    @property
    def unused(self) -> list[str]:
        """Files that are for no picture, sorted."""
        return [os.path.join(self.top, name) for name in sorted(self._names) if name not in self.used]


def _mirrored(beside: str) -> str | None:
    """The file in `labels` for one in `images`."""
    return next(filter(os.path.isfile, _mirrors(beside)), None)


def _mirrors(path: str) -> Iterator[str]:
    """The paths in `labels` that may be for one in `images`."""
    for folder in ("images", "JPEGImages"):
        head, middle, tail = path.rpartition(f"{os.sep}{folder}{os.sep}")
        if middle:
            yield f"{head}{os.sep}labels{os.sep}{tail}"


def _stem(path: str) -> str:
    return folded(os.path.splitext(os.path.basename(path))[0])


@cache
def _place(folder: str) -> tuple[str, ...]:
    """The parts of a folder's path without those that only say what is in it."""
    return tuple(part for part in folder.split(os.sep) if part.casefold() not in _KIND_FOLDERS)


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
    reader = LineReader(columns, names, settings.points, hold_key_points(label_files.first_lines()))
    prefix = os.path.join(os.path.abspath(root), "")
    for picture, split in progress(pictures, "reading YOLO"):
        file, name = label_files.find(picture), picture.removeprefix(prefix).replace(os.sep, "/")
        lines: list[tuple[int, str]] = []
        fault, size = "", (0, 0)
        try:
            lines = numbered_lines(Path(file), columns.note) if file else []
            size = picture_size(picture)
        except Unreadable as error:
            fault = error.reason
        except InputError as error:
            fault = str(error)
            columns.leave_out("label files that cannot be read", fault)
        if fault and columns.faults != "keep":
            columns.skip(name, fault)
            leave_out_all(columns, len(lines), file)
            continue
        index = columns.add_picture(name, size, split)
        for number, line in lines:
            if (parsed := reader.read(line, f"{file}, line {number}")) is None:
                continue
            label, (x1, y1, x2, y2) = parsed
            numbers.add(label)
            width, height = size
            columns.add_box(index, (x1 * width, y1 * height, x2 * width, y2 * height), label)
    return numbers


def _leave_out_unused(label_files: _LabelFiles, files: Survey, columns: Columns) -> None:
    """Count the boxes of label files that are for no picture; lists and other texts are none."""
    stems, others = ({_stem(name) for name in names} for names in (files.pictures, files.others))
    for file in label_files.unused:
        if kind_of(Path(file)) == "yolo-lines":
            kind, what = "boxes of pictures that did not come in", "is missing"
            if _stem(file) in stems:
                kind, what = "boxes of pictures that no list names", "is in no list"
            elif _stem(file) in others:
                what = "is of a type that is not read"
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
