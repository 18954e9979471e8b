"""PASCAL VOC XML."""

from __future__ import annotations

import os
import re
from math import pi, radians
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import numpy as np

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.adding import LIMIT, add_box, leave_out_all, number, recorded_size, with_classes
from toolkit.data.formats.common import PictureFolder, add_named_picture, filled_sizes, list_files
from toolkit.data.formats.pairing import PICTURE_FOLDERS, Pair, Pairing, listed_classes
from toolkit.data.formats.shapes import Box, enclosing, turned
from toolkit.data.formats.text import read_text, written, xml_root
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_order
from toolkit.runtime import InputError, progress

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SHAPES = {  # in place of <bndbox>: what is said where they become boxes
    "robndbox": "rotated boxes became the upright boxes around them",
    "polygon": "polygons became the boxes around them",
    "segm": "masks became the boxes around them",
    "segmentation": "masks became the boxes around them",
    "points": "points around objects became the boxes around them",
    "ellipse": "ellipses became the boxes around them",
    "box": "",
    "bbox": "",
}


def read_voc(
    path: str | Path, images: str | Path | None = None, faults: Faults = "skip", one_based: bool = False
) -> Dataset:
    """PASCAL VOC XML. `difficult` becomes ignore; pose, truncated, occluded and parts are dropped.

    XML files and pictures may be anywhere below the folder: in `Annotations/` and `JPEGImages/` (or
    `images/`), beside each other, in a folder for each split. They belong together by their names, otherwise
    by `<filename>`, `<path>`; a picture without an XML file has no boxes. Splits are those of the lists
    (`ImageSets/Main/<split>.txt`, `ImageSets/`, or a list called as a split), otherwise of the folders;
    `trainval.txt` only counts for pictures of neither train nor val. Rotated boxes, polygons and masks as
    points become the boxes around them. Classes are those of `labelmap.txt` (CVAT), `label_list.txt`,
    `labels.txt` or `classes.txt`, otherwise all that occur, sorted.

    one_based: the devkit counts pixels from 1 and names the last one inside; True turns its corners into
    edges (x1 - 1, y1 - 1, x2, y2). False takes the numbers as they are, which is what annotation tools write.
    """
    path = Path(path)
    top = path if path.is_dir() else path.parent
    xml = list_files(top, lambda name: name.lower().endswith(".xml")) if path.is_dir() else [path.name]
    if not xml:
        raise InputError(f"{path} has no VOC label files: expected XML, in Annotations/ or beside pictures")
    columns, labels = Columns(faults), dict[str, int]()
    pictures = PictureFolder(Path(images or top))
    files = Pairing(top, xml, pictures, columns, path.is_file(), lambda file: _names_inside(file, columns))
    for pair, split in progress(files.with_splits(), "reading VOC"):
        if pair.label:
            _add_file(columns, labels, files, pair, split, 1.0 if one_based else 0.0)
        else:
            add_named_picture(columns, pictures, pair.picture, split, "the folder")
    root = _shortened(columns, pictures.folder)
    return with_classes(columns, root, labels, path, listed_classes(top, labels))


def _shortened(columns: Columns, folder: Path) -> Path:
    """The folder that has all pictures, `JPEGImages/` for one; their names count from there."""
    tops = {name.partition("/")[0] if "/" in name else "" for name in columns.files}
    top = tops.pop() if len(tops) == 1 else ""
    if top.casefold() not in PICTURE_FOLDERS:
        return folder
    columns.files[:] = [name[len(top) + 1 :] for name in columns.files]
    return folder / top


def _add_file(
    columns: Columns, labels: dict[str, int], files: Pairing, pair: Pair, split: str, shift: float
) -> None:
    """Add a picture and the objects of its XML file; `shift` px are taken from the first corner."""
    path = files.top / pair.label
    try:
        root = _root(path, columns)
    except InputError as error:
        files.leave_out_damaged(pair, split, str(error))
        return
    name = pair.picture or (root.findtext("filename") or "").strip() or f"{Path(pair.label).stem}.jpg"
    size = _size(root, path, columns)
    picture = add_named_picture(columns, files.pictures, name, split, str(path), size)
    if picture is None:
        leave_out_all(columns, sum(1 for _ in root.iter("object")), path)
        return
    for item in root.iter("object"):
        _add_object(columns, labels, picture, item, path, shift)


def _root(path: Path, columns: Columns) -> Element:
    """The <annotation> of a file, with tags in lower case and without namespaces where they are odd.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    root = xml_root(path, columns.note)
    if root.tag != "annotation" or root.find("object") is None:
        for element in root.iter():
            if isinstance(element.tag, str):
                element.tag = element.tag.rpartition("}")[2].lower()
    if root.tag != "annotation":
        raise InputError(f"{path} is not a VOC label file: expected <annotation>, found <{root.tag}>")
    return root


def _names_inside(path: Path, columns: Columns) -> list[str]:
    root = _root(path, columns)
    return [(root.findtext(tag) or "").strip() for tag in ("filename", "path")]


def _size(root: Element, path: Path, columns: Columns) -> tuple[int, int]:
    """The recorded (width, height); zeros where there is none, or none that can be."""
    size = root.find("size")
    tags = ("width", "height")
    if size is None:
        size, tags = root.find("imagesize"), ("ncols", "nrows")  # LabelMe's XML
    if size is None:
        return 0, 0
    texts = [(size.findtext(tag) or "").strip() for tag in tags]
    recorded = recorded_size(*texts)
    if recorded == (0, 0) and any(text not in ("", "0") for text in texts):
        tag, text = next(pair for pair in zip(tags, texts, strict=True) if not recorded_size(pair[1], 1)[0])
        odd = _Odd("", f"expected a number in <{tag}>, found {text!r}", tag, text)
        sentence = f"{path}{_line(path, odd)}: {odd}"
        if columns.faults == "refuse":
            raise InputError(sentence)
        columns.note("sizes that are not numbers were taken from the pictures", sentence)
    return recorded


def _add_object(
    columns: Columns, labels: dict[str, int], picture: int, item: Element, path: Path, shift: float
) -> None:
    fields = {child.tag: child for child in item}
    name = (fields["name"].text or "").strip() if "name" in fields else ""
    if not (name or (name := _other_class(fields))):
        columns.leave_out("objects without a class", f"{path}: an <object> has no <name>")
        return
    difficult = fields.get("difficult")
    ignore = difficult is not None and difficult.text != "0" and _is_true(difficult.text)
    if "confidence" in fields or "score" in fields:
        columns.note("scores were dropped", str(path))
    boxes = [fields["bndbox"]] if "bndbox" in fields else []
    if len(fields) < len(item):  # something is there twice
        boxes = item.findall("bndbox")
    try:
        corners = [_corners(box, columns, path) for box in boxes] or [_of_shape(fields, columns, path)]
    except _Odd as odd:
        columns.leave_out(odd.kind, f"{path}{_line(path, odd)}: {odd}")
        return
    for x1, y1, x2, y2 in corners:
        add_box(columns, labels, picture, name, (x1 - shift, y1 - shift, x2, y2), path, ignore)


class _Odd(Exception):
    """An object that has no box: its kind, a sentence, and the tag and text at fault."""

    def __init__(self, kind: str, sentence: str, tag: str = "", text: str = "") -> None:
        super().__init__(sentence)
        self.kind, self.tag, self.text = kind, tag, text


def _other_class(fields: dict[str, Element]) -> str:
    for tag in ("label", "class"):
        if tag in fields and (text := (fields[tag].text or "").strip()):
            return text
    guesses = fields.get("possibleresult")  # FAIR1M
    return "" if guesses is None else (guesses.findtext("name") or "").strip()


def _is_true(text: str | None) -> bool:
    word = (text or "").strip().lower()
    return word in ("true", "yes") or (word.isdigit() and bool(word.strip("0")))


def _corners(box: Element, columns: Columns, path: Path) -> Box:
    """xyxy of a <bndbox>."""
    texts = {child.tag: child.text for child in box}
    try:
        x1, y1 = float(texts["xmin"] or ""), float(texts["ymin"] or "")
        x2, y2 = float(texts["xmax"] or ""), float(texts["ymax"] or "")
        if abs(x1) + abs(y1) + abs(x2) + abs(y2) < LIMIT:  # no NaN either
            return x1, y1, x2, y2
    except (KeyError, ValueError):
        pass
    return _around(box, columns, path)


def _of_shape(fields: dict[str, Element], columns: Columns, path: Path) -> Box:
    """xyxy around whatever an object without <bndbox> has."""
    for tag, sentence in _SHAPES.items():
        if tag in fields:
            box = _around(fields[tag], columns, path)
            if sentence and getattr(fields.get("type"), "text", "") != "bounding_box":
                columns.note(sentence, str(path))
            return box
    if "point" in fields:
        raise _Odd("points without a box", "an <object> is a <point>")
    raise _Odd("objects without a box", "an <object> has no <bndbox>")


def _around(element: Element, columns: Columns, path: Path) -> Box:
    """xyxy around the numbers inside an element, whatever they are called: corners, centre and size (and an
    angle in radians, or in degrees where it is larger than a turn), x1, y1, x2, ..., points of <x> and <y>,
    or text of pairs."""
    leaves = [(str(each.tag).lower(), (each.text or "").strip()) for each in element.iter() if not len(each)]
    texts = dict(leaves)

    def value(tag: str, text: str | None = None) -> float:
        text = texts.get(tag, "") if text is None else text
        if "," in text:
            columns.note("commas in numbers were read as decimal points", str(path))
        try:
            return number(text)
        except ValueError:
            sentence = f"expected a number in <{tag}>, found {text!r}"
            raise _Odd("boxes with something else than numbers", sentence, tag, text) from None

    width = "width" if "width" in texts else "w"
    height = "height" if "height" in texts else "h"
    if texts.keys() & set(_CORNERS):
        return value("xmin"), value("ymin"), value("xmax"), value("ymax")
    if "cx" in texts:
        angle = value("angle", texts.get("angle", "0"))
        angle = angle if abs(angle) <= 2 * pi else radians(angle)
        return turned(value("cx"), value("cy"), value(width), value(height), angle)
    if texts.keys() >= {"x", "y", width, height}:
        x, y = value("x"), value("y")
        return x, y, x + value(width), y + value(height)
    numbers = [(tag, text) for tag, text in leaves if tag[:1] in ("x", "y")]
    if not numbers:  # <point>1.5,2</point>, or one text of all
        numbers = [(tag, text) for tag, all in leaves for text in re.split(r"[\s,;()\[\]]+", all) if text]
        xs, ys = numbers[::2], numbers[1::2]
    else:
        xs = [leaf for leaf in numbers if leaf[0].startswith("x")]
        ys = [leaf for leaf in numbers if leaf[0].startswith("y")]
    if len(xs) != len(ys) or len(xs) < 2 + (element.tag == "polygon"):
        raise _Odd("polygons of too few points", f"a <{element.tag}> has {len(xs)} x and {len(ys)} y")
    return enclosing((value(*x), value(*y)) for x, y in zip(xs, ys, strict=True))


def _line(path: Path, odd: _Odd) -> str:
    """Where the text at fault is: ", line 7"."""
    if not odd.tag:
        return ""
    lines = enumerate(read_text(path).splitlines(), 1)
    line = next((i for i, text in lines if f"<{odd.tag}>" in text and odd.text in text), 1)
    return f", line {line}"


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
