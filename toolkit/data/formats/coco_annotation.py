"""The parts of a COCO annotation that tools write in their own ways: identifiers and masks."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.formats.adding import numbers
from toolkit.data.formats.shapes import Box, enclosing

OTHER_TASKS = ("captions_", "image_info_", "stuff_", "panoptic_")  # how files without boxes begin
# Whole numbers below these stay as they are; those for other identifiers begin here and go down.
PICTURE_LIMIT, CATEGORY_LIMIT = 1 << 62, 1 << 30


class Identifiers:
    """Whole numbers for identifiers of any type: a number stays itself, also as text."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.others: dict[str, int] = {}  # texts and their numbers

    def number(self, identifier: Any) -> int:
        """The number of an identifier; TypeError where it is neither a number nor text."""
        if type(identifier) is int and abs(identifier) < self.limit:
            return identifier
        if isinstance(identifier, float) and identifier.is_integer() and abs(identifier) < self.limit:
            return int(identifier)
        if isinstance(identifier, bool) or not isinstance(identifier, (str, int, float)):
            raise TypeError(f"an identifier that is neither a number nor text: {identifier!r}")
        text = str(identifier).strip()
        plain = text.lstrip("-")
        if plain.isascii() and plain.isdigit() and len(plain) < 19:
            number = int(text)
            if str(number) == text and abs(number) < self.limit:
                return number
        return self.others.setdefault(text, -self.limit - len(self.others))


def box_of_mask(segmentation: Any) -> Box | None:
    """The box xyxy around a mask: polygons (lists of x, y, x, y, ... or of pairs) or run lengths (a list of
    counts, or COCO's compressed text); None where there is no mask or it is empty.

    Raises:
        KeyError, TypeError, ValueError: it is not as COCO has it.
    """
    runs = isinstance(segmentation, dict)
    box = _box_of_runs(segmentation) if runs else _box_of_polygons(segmentation)
    return box if box is not None and all(map(isfinite, box)) else None


def _box_of_polygons(polygons: Any) -> Box | None:
    if not isinstance(polygons, list) or not polygons:
        return None
    if isinstance(polygons[0], (int, float, str)):  # one polygon that is not in a list of its own
        polygons = [polygons]
    points: list[tuple[float, float]] = []
    for polygon in polygons:
        if polygon and isinstance(polygon[0], (list, tuple)):
            points += [(float(x), float(y)) for x, y, *_ in polygon]
        else:
            values = numbers(polygon)
            points += zip(values[::2], values[1::2], strict=False)
    return enclosing(points) if len(points) > 1 else None


def _box_of_runs(mask: dict[str, Any]) -> Box | None:
    """COCO's run lengths go down the columns and begin with background."""
    height, width = (int(side) for side in mask["size"])
    counts = mask["counts"]
    runs = _decompressed(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    if min(height, width) <= 0 or not len(runs) or runs.min() < 0 or runs.max() > height * width:
        return None
    ends = np.cumsum(runs)
    if ends[-1] > height * width:
        return None
    first, last = ends[:-1:2], ends[1::2] - 1  # of the runs of foreground
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        return None
    across = last // height > first // height  # a run that goes on in the next column touches both borders
    top = 0 if across.any() else int((first % height).min())
    bottom = height if across.any() else int((last % height).max()) + 1
    return float(first.min() // height), float(top), float(last.max() // height + 1), float(bottom)


def _decompressed(text: str) -> NDArray[np.int64]:
    """Run lengths from COCO's text: groups of six bits, the difference to the run before last
    (cocoapi, rleFrString)."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            if at == len(text) or shift > 60:
                raise ValueError("run lengths that end too early")
            bits = ord(text[at]) - 48
            value |= (bits & 31) << shift
            more, at, shift = bool(bits & 32), at + 1, shift + 5
            if not more and bits & 16:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return np.array(runs, np.int64)
