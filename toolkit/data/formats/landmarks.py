"""Landmark lists (WFLW, 106 points) and cut out faces."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.coco import stream_json
from toolkit.data.formats.common import (
    list_files,
    numbered_lines,
    numbers,
    size_or_zero,
    written,
)
from toolkit.data.splitting import split_order
from toolkit.runtime import InputError, progress

_POINTS, _EXTRAS = (5, 68, 98, 106), (0, 4, 10)  # a WFLW line may end in a rectangle and six attributes


def read_landmarks(
    path: str | Path, images: str | Path | None = None, strict: bool = True, points: int | None = None
) -> Dataset:
    """Lists of landmarks, one face a line: x0 y0 ... xk yk, a rectangle x1 y1 x2 y2 if there is one, six
    attributes if there are any (dropped), and the picture's name at the end or at the beginning (WFLW's
    `list_98pt_rect_attr_*.txt` and `list_98pt_*.txt`, 106-point lists).

    One class, "face"; keypoints are all visible (2); without a rectangle the box is the points' bounds.
    points: how many there are, where it is not 5, 68, 98 or 106. A folder's lists are all its `*.txt`, those
    with rectangles only if it has some. Pictures are in `images` or a folder of that kind next to the lists.
    """
    path = Path(path)
    files = [path] if path.is_file() else [path / n for n in list_files(path, lambda n: n.endswith(".txt"))]
    files = [f for f in files if "rect_attr" in f.name] or files
    if not files:
        raise InputError(f"{path} has no landmark lists: expected *.txt")
    top = path if path.is_dir() else path.parent
    words = [next((w for w in ("train", "val", "test") if w in file.stem.lower()), "") for file in files]
    order = split_order(words)
    columns, pictures = Columns(), {}
    folder: Path | None = None
    bases = (
        [Path(images)] if images else [top / "images", top / "WFLW_images", top.parent / "WFLW_images", top]
    )
    for split, file in sorted(zip(words, files, strict=True), key=lambda part: order.index(part[0])):
        for number, line in progress(numbered_lines(file), f"reading {file.name}"):
            name, values, count = _landmark_line(line, points, f"{file}, line {number}")
            if folder is None:
                folder = next((base for base in bases if os.path.isfile(base / name)), bases[0])
            if (name, split) not in pictures:
                if strict and not os.path.isfile(folder / name):
                    raise InputError(f"{file}, line {number}: the picture {name!r} is missing in {folder}")
                pictures[name, split] = columns.add_picture(name, size_or_zero(folder / name), split)
            face = np.array(values[: 2 * count], np.float64).reshape(count, 2)
            box = values[2 * count : 2 * count + 4] or [*face.min(axis=0), *face.max(axis=0)]
            keypoints = np.concatenate((face, np.full((count, 1), 2.0)), axis=1).reshape(-1).tolist()
            columns.add_box(pictures[name, split], box, 0, keypoints=keypoints)
    return columns.dataset(folder or top, ("face",), path)


def _landmark_line(line: str, points: int | None, place: str) -> tuple[str, list[float], int]:
    """(picture name, numbers, number of points)"""
    fields = line.split()
    name_first = not re.fullmatch(r"[-+.\deE]+", fields[0])
    name, rest = (fields[0], fields[1:]) if name_first else (fields[-1], fields[:-1])
    for count in (points,) if points else _POINTS:
        if len(rest) - 2 * count in _EXTRAS:
            return name.replace("\\", "/"), numbers(rest, place, "coordinates"), count
    raise InputError(
        f"{place}: expected the coordinates of {points or '5, 68, 98 or 106'} points and a picture's name, "
        f"found {len(rest)} numbers"
    )


def read_face_crops(path: str | Path, images: str | Path | None = None, strict: bool = True) -> Dataset:
    """Faces cut out of their pictures: `annotations.json`, a list of {"crop", "size", "landmarks98_crop"},
    and `crops/`. One face a crop, all of split "test"; the box is the points' bounds."""
    path = Path(path)
    folder = Path(images) if images else path / "crops"
    columns = Columns()
    for _, record in progress(stream_json(path / "annotations.json"), "reading crops"):
        try:
            name, size, face = (
                record["crop"],
                record["size"],
                np.array(record["landmarks98_crop"], np.float64),
            )
            box = [*face.min(axis=0), *face.max(axis=0)]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path / 'annotations.json'}: a face is not as expected ({error!r})") from None
        if strict and not os.path.isfile(folder / name):
            raise InputError(f"the picture {name!r} is missing in {folder}")
        keypoints = np.concatenate((face, np.full((len(face), 1), 2.0)), axis=1).reshape(-1).tolist()
        columns.add_box(columns.add_picture(name, (size, size), "test"), box, 0, keypoints=keypoints)
    return columns.dataset(folder, ("face",), path)


def write_landmarks(dataset: Dataset, folder: Path, link: bool) -> None:
    """`list_<k>pt_rect_attr_<split>.txt` as WFLW has it (attributes 0) and `images/`."""
    if dataset.keypoints is None or len(dataset.classes) != 1:
        raise InputError(f"a landmark list holds keypoints of one class: {dataset.root} has other labels")
    names = unique_names(dataset.files)
    if any(re.search(r"\s", name) for name in names):
        raise InputError("a landmark list cannot hold picture names with blanks: rename the pictures")
    place_pictures(dataset, folder / "images", names, link)
    points = dataset.keypoints[:, :, :2].reshape(len(dataset.labels), -1)
    for split in split_order(dataset.splits.tolist()):
        lines = [
            " ".join((*written(points[row]), *written(dataset.boxes[row]), *"000000", names[i])) + "\n"
            for i in np.flatnonzero(dataset.splits == split)
            for row in range(dataset.starts[i], dataset.starts[i + 1])
        ]
        target = folder / f"list_{dataset.keypoints.shape[1]}pt_rect_attr_{split or 'all'}.txt"
        target.write_text("".join(lines), encoding="utf-8")
