"""Which column of a table of boxes is what, from its header or from the shape of its first row."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.data.formats.common import is_picture
from toolkit.data.formats.text import are_numbers

_DELIMITERS = ",;\t|"
Shape = Literal["corners", "corner and size", "centre and size", "text", "text of corners"]

_PICTURE = (
    *("filename", "imagefilename", "imagename", "imagepath", "filepath", "imgpath", "path", "imagefile"),
    *("file", "image", "img", "imageid", "imgid", "imgname", "fname", "frame", "picture", "photo"),
    *("imageurl", "uri", "url"),
)
_CLASS = (
    *("classname", "class", "labelname", "label", "categoryname", "category", "objectname", "object"),
    *("objectclass", "classlabel", "cls", "name", "tag", "species", "type"),
    *("classid", "labelid", "categoryid", "classnumber", "target"),
)
_LEFT = ("xmin", "x1", "left", "minx", "xtl", "startx", "topleftx", "leftx", "x0")
_TOP = ("ymin", "y1", "top", "miny", "ytl", "starty", "toplefty", "topy", "y0")
_RIGHT = ("xmax", "x2", "right", "maxx", "xbr", "endx", "bottomrightx", "rightx")
_BOTTOM = ("ymax", "y2", "bottom", "maxy", "ybr", "endy", "bottomrighty", "bottomy")
_CENTRE_X = ("xcenter", "xcentre", "centerx", "centrex", "cx", "xc")
_CENTRE_Y = ("ycenter", "ycentre", "centery", "centrey", "cy", "yc")
_WIDTH, _HEIGHT = ("w", "bw", "width"), ("h", "bh", "height")
_TEXT = ("bbox", "bboxes", "box", "boundingbox", "bboxcoordinates")
_SPLIT = ("split", "set", "subset", "dataset", "partition", "usage", "mode")


@dataclass(frozen=True)
class Layout:
    """Numbers of columns, -1 where there is none."""

    picture: int
    box: tuple[int, ...]  # four, or the one that has all of the box as text
    shape: Shape
    label: int = -1
    width: int = -1  # of the picture
    height: int = -1
    split: int = -1
    crowd: int = -1
    score: int = -1
    bare: bool = False  # there is no header


def delimiter_of(line: str) -> str:
    """What separates the fields of a line: the likeliest of comma, semicolon, tab and bar.

    >>> delimiter_of('a.jpg;"x, y";3')
    ';'
    """
    plain = re.sub(r'"[^"]*"', "", line)
    return max(_DELIMITERS, key=plain.count)


def fields_of(line: str) -> list[str]:
    """The fields of one line, without the blanks around them."""
    try:
        fields = next(csv.reader([line], delimiter=delimiter_of(line), skipinitialspace=True), [])
    except csv.Error:
        return []
    return [field.strip() for field in fields]


def layout(fields: Sequence[str]) -> Layout | None:
    """What the columns are, from the first row of a table; None where it is no table of boxes."""
    return _bare(fields) or _named(fields)


def _bare(fields: Sequence[str]) -> Layout | None:
    """Rows of tools that write no header."""
    count = len(fields)
    if count in (5, 6) and is_picture(fields[0]):
        if are_numbers(fields[1:5]) or not any(fields[1:]):  # RetinaNet, keras-frcnn; without a box
            return Layout(0, (1, 2, 3, 4), "corners", 5 if count == 6 else -1, bare=True)
        if count == 6 and are_numbers(fields[2:]):
            return Layout(0, (2, 3, 4, 5), "corners", 1, bare=True)
    if count == 8 and is_picture(fields[0]) and are_numbers([*fields[1:3], *fields[4:]]):  # TensorFlow
        return Layout(0, (4, 5, 6, 7), "corners", 3, 1, 2, bare=True)
    if count == 8 and is_picture(fields[5]) and are_numbers([*fields[1:5], *fields[6:]]):  # makesense.ai
        return Layout(5, (1, 2, 3, 4), "corner and size", 0, 6, 7, bare=True)
    if count == 11 and is_picture(fields[1]) and are_numbers([*fields[3:5], *fields[7:9]]):  # AutoML Vision
        return Layout(1, (3, 4, 7, 8), "corners", 2, split=0, bare=True)
    return None


def _named(fields: Sequence[str]) -> Layout | None:
    """By the names in the header, whatever their case and the signs between their words."""
    plain = [re.sub(r"[^a-z0-9]", "", field.lower()) for field in fields]
    names = [re.sub(r"^(boundingbox|bndbox|bbox|box|bb|rect|roi|region)(?=.)", "", name) for name in plain]

    def column(wishes: Sequence[str], among: Sequence[str] = names) -> int:
        return next((among.index(wish) for wish in wishes if wish in among), -1)

    picture, label = column(_PICTURE, plain), column(_CLASS, plain)
    if picture < 0:
        return None
    if {"x0", "y0", "x1", "y1"} <= set(names):
        corners = [names.index(name) for name in ("x0", "y0", "x1", "y1")]
    else:
        corners = [column(wishes) for wishes in (_LEFT, _TOP, _RIGHT, _BOTTOM)]
    prefixed = [name if name != whole else "" for name, whole in zip(names, plain, strict=True)]
    places = [[column(wishes, prefixed), column(wishes)] for wishes in (_WIDTH, _HEIGHT)]
    size = [first if first >= 0 else second for first, second in places]
    centre = [column(_CENTRE_X), column(_CENTRE_Y)]
    corner = [column(("x", *_LEFT)), column(("y", *_TOP))]
    choices: list[tuple[list[int], Shape]] = [
        (corners, "corners"),
        (centre + size, "centre and size"),
        (corner + size, "corner and size"),
        ([column(("boxesstring",), plain)], "text of corners"),
        ([column(_TEXT, plain)], "text"),
    ]
    choice = next(((columns, name) for columns, name in choices if min(columns) >= 0), None)
    if choice is None:
        return None
    box, shape = choice
    width = column(("imagewidth", "imgwidth", "imwidth", "imagew", "imgw", "originalwidth", "width"), plain)
    height = column(
        ("imageheight", "imgheight", "imheight", "imageh", "imgh", "originalheight", "height"), plain
    )
    return Layout(
        picture,
        tuple(box),
        shape,
        -1 if label == picture else label,
        -1 if width in box else width,
        -1 if height in box else height,
        column(_SPLIT, plain),
        column(("isgroupof", "iscrowd", "crowd"), plain),
        column(("score", "confidence", "conf", "probability"), plain),
    )
