"""YOLO txt: darknet's, CVAT's, Label Studio's and data.yaml layouts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from toolkit import boxes as box_formats
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset, shown
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.common import (
    common_root,
    filled_sizes,
    find_file,
    list_files,
    numbered_lines,
    numbers,
    picture_size,
    read_text,
    size_or_zero,
)
from toolkit.data.splitting import SPLIT_WORDS, split_of, split_order
from toolkit.runtime import InputError, progress


def read_yolo(
    path: str | Path,
    images: str | Path | None = None,
    strict: bool = True,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """YOLO txt: `class cx cy w h` a line, relative to the picture, whose size is read from its header.

    `path` is a darknet `.data` file, a `data.yaml`, or a folder with one of them or with `classes.txt` or
    `*.names`. Without lists of pictures every picture counts, and folders called train, valid, ... give the
    splits. A label file is next to its picture, or in `labels` where the picture is in `images` or
    `JPEGImages`; an empty or absent one means no boxes. `classes` are the names where no file has them.
    `strict=False` keeps class numbers beyond the names, and pictures that are missing or unreadable.
    """
    path = Path(path)
    top = path if path.is_dir() else path.parent
    names, lists = _yolo_config(path)
    if names is None:
        if not classes:
            raise InputError(f"{path} has no class names: expected *.names, classes.txt, *.data or data.yaml")
        names = list(classes)
    if len(set(names)) != len(names):
        raise InputError(f"{path} gives two classes the same name ({shown(names)})")
    bases = [Path(images)] if images else [top]
    entries = _yolo_pictures(top, lists, bases, bool(images), strict)
    if not entries:
        raise InputError(f"{path} has no pictures: expected at least one")
    root = common_root([picture for picture, _, _ in entries], bases[0])
    columns, labelled = Columns(), 0
    for picture, label_files, split in progress(entries, "reading YOLO"):
        size = picture_size(picture) if strict else size_or_zero(Path(picture))
        index = columns.add_picture(os.path.relpath(picture, root).replace(os.sep, "/"), size, split)
        file = next((file for file in label_files if os.path.isfile(file)), None)
        if file is None:
            continue
        labelled += 1
        for number, line in numbered_lines(Path(file)):
            fields, place = line.split(), f"{file}, line {number}"
            if len(fields) != 5:
                raise InputError(
                    f"{place}: expected 'class cx cy w h', found {len(fields)} fields: {line[:60]!r}"
                )
            cx, cy, w, h = numbers(fields[1:], place, "four numbers cx cy w h")
            if not re.fullmatch(r"-?\d+", fields[0]):
                raise InputError(f"{place}: expected a whole class number, found {fields[0]!r}")
            label = int(fields[0])
            if strict and not 0 <= label < len(names):
                raise InputError(f"{place}: class {label} is not among the {len(names)} names")
            x, y, w, h = cx * size[0], cy * size[1], w * size[0], h * size[1]
            columns.add_box(index, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), label)
    if not labelled:
        raise InputError(
            f"{path} has no YOLO label files: none of its {len(entries)} pictures has a .txt file"
        )
    return columns.dataset(root, names, path)


def _yolo_config(path: Path) -> tuple[list[str] | None, list[tuple[str, str]]]:
    """(class names if there are any, [(split, list file or folder), ...])."""
    top = path if path.is_dir() else path.parent
    configs = [path] if path.is_file() else sorted(top.glob("*.data")) or sorted(top.glob("data.y*ml"))
    settings: dict[str, Any] = {}
    if configs and configs[0].suffix in (".yaml", ".yml"):
        try:
            settings = yaml.safe_load(read_text(configs[0]))
        except yaml.YAMLError as error:
            raise InputError(f"{configs[0]} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(settings, dict):
            raise InputError(f"{configs[0]} is not a dataset description: expected names, train, val")
    elif configs:
        for number, line in numbered_lines(configs[0]):
            key, equals, value = line.partition("=")
            if not equals:
                raise InputError(f"{configs[0]}, line {number}: expected key = value, found {line!r}")
            settings[key.strip()] = value.strip()
    names = settings.get("names")
    if isinstance(names, str):
        file = find_file(names, [top])
        if file is None:
            raise InputError(f"the names file {names!r} of {configs[0]} is missing")
        names = _names(Path(file))
    elif isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise InputError(
                f"{configs[0]}: expected names numbered from 0 on, found {shown([*map(str, names)])}"
            )
        names = [str(names[i]) for i in range(len(names))]
    elif names is not None:
        names = [str(name) for name in names]
    else:
        files = [*sorted(top.glob("*.names")), *(f for f in [top / "classes.txt"] if f.is_file())]
        names = _names(files[0]) if files else None
    lists = []
    for key, value in settings.items():
        if key not in ("classes", "names", "backup", "path", "nc", "results", "eval", "roboflow") and value:
            values = value if isinstance(value, list) else [value]
            lists += [(split_of(str(key)), str(entry)) for entry in values if isinstance(entry, str)]
    order = split_order(split for split, _ in lists)
    return names, sorted(lists, key=lambda item: order.index(item[0]))


def _names(file: Path) -> list[str]:
    """One class a line: a blank line would shift the numbers of those after it."""
    names = [line.strip() for line in read_text(file).rstrip().splitlines()]
    if "" in names:
        raise InputError(
            f"{file}, line {names.index('') + 1}: expected the name of a class, found a blank line"
        )
    return names


def _yolo_pictures(
    top: Path, lists: list[tuple[str, str]], bases: list[Path], apart: bool, strict: bool
) -> list[tuple[str, list[str], str]]:
    """(absolute picture, where its label file may be, split) of every picture."""
    entries: list[tuple[str, list[str], str]] = []

    def add(picture: str, text: str, split: str) -> None:
        stem = os.path.splitext(picture)[0]
        likely = [stem + ".txt"]
        for folder in ("images", "JPEGImages"):
            head, found, tail = stem.rpartition(f"{os.sep}{folder}{os.sep}")
            if found:
                likely.append(f"{head}{os.sep}labels{os.sep}{tail}.txt")
        if apart:  # pictures elsewhere: labels where the list says, or by name
            own = os.path.splitext(text)[0] + ".txt"
            found_here = find_file(own, [top, top / "labels"])
            likely = [found_here] if found_here else []
        entries.append((picture, likely, split))

    for split, entry in lists:
        if entry.endswith(".txt"):
            file = find_file(entry, [top])
            if file is None:
                raise InputError(f"the list of pictures {entry!r} is missing in {top}")
            for number, line in numbered_lines(Path(file)):
                picture = find_file(line, bases)
                if picture is None and not strict:
                    picture = os.path.join(os.path.abspath(bases[0]), line.lstrip("/"))
                if picture is None:
                    raise InputError(f"{file}, line {number}: the picture {line!r} is missing")
                add(picture, line, split)
        else:
            parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
            folder = Path(entry) if os.path.isabs(entry) else top.joinpath(*parts)
            if not folder.is_dir():
                raise InputError(f"the folder of pictures {entry!r} is missing in {top}")
            for name in list_files(folder):
                add(os.path.join(os.path.abspath(folder), name), name, split)
    if not lists:
        base = bases[0] if apart or not (top / "images").is_dir() else top / "images"
        for name in list_files(base):
            split = SPLIT_WORDS.get(name.split("/", 1)[0].lower(), "") if "/" in name else ""
            add(os.path.join(os.path.abspath(base), name), name, split)
        order = split_order(split for _, _, split in entries)
        entries.sort(key=lambda entry: order.index(entry[2]))
        used = {os.path.abspath(file) for _, likely, _ in entries for file in likely}
        labels = top / "labels"
        for name in list_files(labels, lambda name: name.endswith(".txt")) if labels.is_dir() else ():
            unused = os.path.join(os.path.abspath(labels), name) not in used and name != "classes.txt"
            if unused and strict:
                raise InputError(f"the picture of the label file {labels / name} is missing in {base}")
    return entries


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
