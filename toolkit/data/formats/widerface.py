"""WIDER FACE lists."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from toolkit import boxes as box_formats
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.common import (
    filled_sizes,
    is_picture,
    numbered_lines,
    numbers,
    read_text,
    size_or_zero,
    written,
)
from toolkit.data.splitting import split_of, split_order
from toolkit.runtime import InputError, progress


def read_widerface(
    path: str | Path, images: str | Path | None = None, strict: bool = True, lists: str | None = None
) -> Dataset:
    """WIDER FACE: `wider_face_split/wider_face_<split>_bbx_gt.txt` and `WIDER_<split>/images/`. Invalid faces
    become ignore; the other attributes are dropped. One class, "face".

    A copy with smaller pictures has `sizes.csv` (file, orig_w, orig_h, w, h): its ground truth stays in the
    pixels of the originals on disk, and the Dataset holds boxes in the pixels of the pictures that are there,
    with `original_sizes` (multiply by `original_scale()` to get back).

    With one ground truth file the names are `event/picture.jpg`, with several they begin at `WIDER_<split>`.
    lists: a folder in `path` with `<split>.txt` files of picture names, which replace the official splits.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("**/wider_face_*_bbx_gt.txt"))
    if not files:
        raise InputError(
            f"{path} has no WIDER FACE labels: expected wider_face_split/wider_face_*_bbx_gt.txt"
        )
    top = (
        path
        if path.is_dir()
        else path.parent.parent
        if path.parent.name == "wider_face_split"
        else path.parent
    )
    originals = _original_sizes(top / "sizes.csv")
    listed = _listed_splits(top / lists) if lists else None
    words = [match[1] if (match := re.search(r"wider_face_(\w+)_bbx_gt", f.name)) else "" for f in files]
    order = split_order(map(split_of, words))
    parts = sorted(zip(words, files, strict=True), key=lambda part: order.index(split_of(part[0])))
    folders = [Path(images)] if images else [top / f"WIDER_{word}" / "images" for word, _ in parts]
    root = folders[0] if len(parts) == 1 or images else top
    columns = Columns()
    for (word, file), folder in zip(parts, folders * len(parts) if images else folders, strict=False):
        prefix = "" if folder == root else folder.relative_to(root).as_posix() + "/"
        for name, faces in progress(_wider_records(file), f"reading {file.name}"):
            if strict and not os.path.isfile(folder / name):
                raise InputError(f"the picture {name!r} that {file} names is missing in {folder}")
            scale_x = scale_y = 1.0
            original = None
            if originals is not None:
                if name not in originals:
                    raise InputError(f"{top / 'sizes.csv'} has no line for {name!r}")
                original, size = originals[name]
                scale_x, scale_y = size[0] / original[0], size[1] / original[1]
            else:
                size = size_or_zero(folder / name)
            split = split_of(word) if listed is None else listed.get(name, "")
            picture = columns.add_picture(prefix + name, size, split, original_size=original)
            for x, y, w, h, *attributes in faces:
                box = (x * scale_x, y * scale_y, (x + w) * scale_x, (y + h) * scale_y)
                columns.add_box(picture, box, 0, ignore=bool(attributes[3]))
    return columns.dataset(root, ("face",), path)


def _wider_records(file: Path) -> Iterator[tuple[str, list[list[float]]]]:
    """(name, faces of ten numbers x, y, w, h, blur, expression, illumination, invalid, occlusion, pose)."""
    lines = iter(numbered_lines(file))
    held: tuple[int, str] | None = None
    while True:
        number, name = held or next(lines, (0, ""))
        held = None
        if not name:
            return
        if not is_picture(name):
            raise InputError(f"{file}, line {number}: expected the name of a picture, found {name[:60]!r}")
        number, text = next(lines, (number + 1, ""))
        if not text.isdigit():
            raise InputError(f"{file}, line {number}: expected the number of faces, found {text[:60]!r}")
        faces = []
        for _ in range(int(text)):
            number, line = next(lines, (number + 1, ""))
            fields = line.split()
            if len(fields) != 10:
                raise InputError(f"{file}, line {number}: expected ten numbers a face, found {line[:60]!r}")
            faces.append(numbers(fields, f"{file}, line {number}", "ten numbers a face"))
        if not faces:
            # the official lists put one line of zeros after a count of 0
            held = next(lines, None)
            if held and set(held[1].split()) == {"0"}:
                held = None
        yield name, faces


def _original_sizes(file: Path) -> dict[str, tuple[tuple[int, int], tuple[int, int]]] | None:
    """name -> (original size, size) of a `sizes.csv`; None where there is none."""
    if not file.is_file():
        return None
    sizes = {}
    for number, row in enumerate(csv.DictReader(read_text(file).splitlines()), 2):
        try:
            original, size = (int(row["orig_w"]), int(row["orig_h"])), (int(row["w"]), int(row["h"]))
            name = row["file"]
        except (KeyError, TypeError, ValueError):
            original = size = (0, 0)
            name = ""
        if min(original + size) <= 0:
            raise InputError(f"{file}, line {number}: expected file,orig_w,orig_h,w,h with positive sizes")
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
