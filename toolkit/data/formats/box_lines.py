"""Text lines of a picture and all of its boxes."""

from __future__ import annotations

import re

from toolkit.data.formats.common import is_picture

Row = tuple[str, str, str, str, str]  # x1, y1, x2, y2, class; "" where there is no class

_COMMAS = re.compile(r"[-+\d.eE]+(?:,[-+\d.eE]+){3}(?:,[^,\s]+)?")
_COUNTED = re.compile(r"(.+\.\w+)\s+(\d+)((?:\s+-?\d+)*)")


def box_line(line: str) -> tuple[str, list[Row]] | None:
    """The picture of a line and its boxes, as texts; None where it is no such line.

    `path x1,y1,x2,y2,class x1,...` is keras-yolo3's, `path count x y w h x ...` OpenCV's.

    >>> box_line("a b.jpg 1,2,3,4,0")
    ('a b.jpg', [('1', '2', '3', '4', '0')])
    >>> box_line("a.jpg  1  10 20 30 40")
    ('a.jpg', [('10', '20', '40', '60', '')])
    """
    if (counted := _COUNTED.fullmatch(line.strip())) and is_picture(counted[1]):
        values = [int(field) for field in counted[3].split()]
        if len(values) == 4 * int(counted[2]):
            groups = zip(values[::4], values[1::4], values[2::4], values[3::4], strict=True)
            return counted[1], [(str(x), str(y), str(x + w), str(y + h), "") for x, y, w, h in groups]
    tokens = line.split()
    first = len(tokens)
    while first and _COMMAS.fullmatch(tokens[first - 1]):
        first -= 1
    name = line.rsplit(None, len(tokens) - first)[0].strip() if first else ""
    if first == len(tokens) or not is_picture(name):
        return None
    rows: list[Row] = []
    for token in tokens[first:]:
        x1, y1, x2, y2, *label = token.split(",")
        rows.append((x1, y1, x2, y2, label[0] if label else ""))
    return name, rows
