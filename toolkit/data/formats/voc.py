"""PASCAL VOC XML."""

from __future__ import annotations

import os
import re
from math import isfinite
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.common import (
    filled_sizes,
    list_files,
    numbered_lines,
    read_text,
    size_or_zero,
    written,
)
from toolkit.data.splitting import split_of, split_order
from toolkit.runtime import InputError, progress


def read_voc(
    path: str | Path, images: str | Path | None = None, strict: bool = True, one_based: bool = False
) -> Dataset:
    """PASCAL VOC XML. `difficult` becomes ignore; pose, truncated, occluded and parts are dropped.

    Layouts: `Annotations/`, `JPEGImages/` (or `images/`) and `ImageSets/Main/<split>.txt`, or XML files
    beside pictures. A picture is found by the name of its XML file, otherwise by `<filename>`; one without
    an XML file has no boxes. `trainval.txt` only counts for pictures of neither train nor val. Classes are
    those of `labelmap.txt` (CVAT), otherwise all that occur, sorted.

    one_based: the devkit counts pixels from 1 and names the last one inside; True turns its corners into
    edges (x1 - 1, y1 - 1, x2, y2). False takes the numbers as they are, which is what annotation tools write.
    """
    path = Path(path)
    labels_folder = path / "Annotations" if (path / "Annotations").is_dir() else path
    xml = {name[:-4]: name for name in list_files(labels_folder, lambda name: name.lower().endswith(".xml"))}
    if not xml:
        raise InputError(f"{path} has no VOC label files: expected Annotations/*.xml")
    folders = (
        [Path(images)] if images else [path / "JPEGImages", path / "images", path / "Images", labels_folder]
    )
    folder = next((folder for folder in folders if folder.is_dir()), labels_folder)
    pictures: dict[str, list[str]] = {}
    for name in list_files(folder):
        pictures.setdefault(os.path.splitext(name)[0], []).append(name)

    columns, classes = Columns(), _labelmap(path)
    labels: dict[str, int] = {}
    used: set[str] = set()
    shift = 1.0 if one_based else 0.0
    for stem, split in progress(_voc_order(path, xml, pictures), "reading VOC"):
        named, size = "", (0, 0)
        objects: list[tuple[str, list[float], bool]] = []
        if stem in xml:
            named, size, objects = _read_voc_file(labels_folder / xml[stem])
        choices = pictures.get(stem) or pictures.get(os.path.splitext(named)[0]) or []
        if not choices and strict:
            raise InputError(f"the picture of {labels_folder / xml[stem]} is missing in {folder}")
        name = named if named in choices else choices[0] if choices else named or f"{stem}.jpg"
        if name in used and stem not in xml:
            continue  # an XML file of another name has claimed it
        used.add(name)
        picture = columns.add_picture(name, size if min(size) > 0 else size_or_zero(folder / name), split)
        for label, box, difficult in objects:
            x1, y1, x2, y2 = box
            index = labels.setdefault(label, len(labels))
            columns.add_box(picture, (x1 - shift, y1 - shift, x2, y2), index, ignore=difficult)
    dataset = columns.dataset(folder, tuple(labels), path)
    if not classes:
        return match_classes(dataset, sorted(labels))
    if "background" not in labels:
        classes = [name for name in classes if name != "background"]
    return match_classes(dataset, classes + sorted(set(labels) - set(classes)))


def _labelmap(path: Path) -> list[str]:
    """CVAT's `labelmap.txt`: name:colour:parts:actions, one class a line."""
    file = path / "labelmap.txt"
    lines = numbered_lines(file) if file.is_file() else []
    return [line.rsplit(":", 3)[0] for _, line in lines if not line.startswith("#")]


def _voc_order(path: Path, xml: dict[str, str], pictures: dict[str, list[str]]) -> list[tuple[str, str]]:
    """(stem, split) of every picture: list by list, then those of no list."""
    split_by_stem: dict[str, str] = {}
    folder = path / "ImageSets" / "Main"
    lists = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    order = split_order(split_of(file.stem) for file in lists)
    # trainval only tells where a picture that train and val leave out belongs
    lists.sort(key=lambda file: (file.stem == "trainval", order.index(split_of(file.stem)), file.stem))
    for file in lists:
        split = "train" if file.stem == "trainval" else split_of(file.stem)
        for number, line in numbered_lines(file):
            if line not in xml and line not in pictures:
                if re.fullmatch(r"\S+\s+-?[01]", line):
                    break  # a list of one class of the devkit: every picture with -1, 0 or 1
                raise InputError(f"{file}, line {number}: {line!r} has neither a label file nor a picture")
            taken = split_by_stem.setdefault(line, split)
            if taken != split and file.stem != "trainval":
                raise InputError(f"{file}, line {number}: {line!r} is in the split {taken!r} already")
    rest = sorted(xml) + sorted(stem for stem in pictures if stem not in xml)
    order = split_order(split_by_stem.values())
    listed = sorted(split_by_stem.items(), key=lambda item: order.index(item[1]))
    return listed + [(stem, "") for stem in rest if stem not in split_by_stem]


def _read_voc_file(file: Path) -> tuple[str, tuple[int, int], list[tuple[str, list[float], bool]]]:
    """(file name, size, [(class, xyxy, difficult), ...]) of one XML file."""
    try:
        root = ElementTree.parse(file).getroot()
    except ParseError as error:
        empty = file.stat().st_size == 0
        raise InputError(f"{file} is {'empty' if empty else 'not valid XML: ' + str(error)}") from None
    except (DefusedXmlException, UnicodeDecodeError, LookupError, ValueError) as error:
        raise InputError(f"{file} is refused: {error}") from None
    if root.tag != "annotation":
        raise InputError(f"{file} is not a VOC label file: expected <annotation>, found <{root.tag}>")

    def number(parent: Element | None, tag: str, default: str | None = None) -> float:
        text = (parent.findtext(tag) or "").strip() if parent is not None else ""
        try:
            value = float(text or default or "")
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            lines = read_text(file).splitlines()
            line = next((i for i, line in enumerate(lines, 1) if f"<{tag}>" in line and text in line), 1)
            raise InputError(f"{file}, line {line}: expected a number in <{tag}>, found {text!r}")
        return value

    size = root.find("size")
    objects = []
    for item in root.iter("object"):
        label = (item.findtext("name") or "").strip()
        box = item.find("bndbox")
        if not label or box is None:
            raise InputError(f"{file}: an <object> has no {'<bndbox>' if label else '<name>'}")
        corners = [number(box, tag) for tag in ("xmin", "ymin", "xmax", "ymax")]
        objects.append((label, corners, bool(number(item, "difficult", "0"))))
    named = (root.findtext("filename") or "").strip().replace("\\", "/")
    return named, (int(number(size, "width", "0")), int(number(size, "height", "0"))), objects


def write_voc(dataset: Dataset, folder: Path, link: bool) -> None:
    """`Annotations/`, `JPEGImages/`, `ImageSets/Main/<split>.txt` (default.txt: no split), `labelmap.txt`."""
    dataset = filled_sizes(dataset)
    names = unique_names(dataset.files, by_stem=True)
    place_pictures(dataset, folder / "JPEGImages", names, link)
    for i, name in enumerate(progress(names, "writing VOC")):
        width, height = dataset.sizes[i]
        rows = dataset.rows(i)
        objects = "".join(
            f"\t<object>\n\t\t<name>{escape(dataset.classes[label])}</name>\n"
            f"\t\t<difficult>{int(difficult)}</difficult>\n\t\t<bndbox>\n"
            f"\t\t\t<xmin>{x1}</xmin>\n\t\t\t<ymin>{y1}</ymin>\n"
            f"\t\t\t<xmax>{x2}</xmax>\n\t\t\t<ymax>{y2}</ymax>\n\t\t</bndbox>\n\t</object>\n"
            for (x1, y1, x2, y2), label, difficult in zip(
                written(dataset.boxes[rows]), dataset.labels[rows], dataset.ignore[rows], strict=True
            )
        )
        file = folder / "Annotations" / (os.path.splitext(name)[0] + ".xml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"<annotation>\n\t<filename>{escape(name)}</filename>\n\t<size>\n\t\t<width>{width}</width>\n"
            f"\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n{objects}</annotation>\n",
            encoding="utf-8",
        )
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in split_order(dataset.splits.tolist()):
        stems = [os.path.splitext(names[i])[0] for i in np.flatnonzero(dataset.splits == split)]
        (lists / f"{split or 'default'}.txt").write_text("".join(f"{s}\n" for s in stems), encoding="utf-8")
    header = "# label:color_rgb:parts:actions\n"
    labels = "".join(f"{name}:::\n" for name in dataset.classes)
    (folder / "labelmap.txt").write_text(header + labels, encoding="utf-8")
