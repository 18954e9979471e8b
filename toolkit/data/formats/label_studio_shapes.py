"""The shapes of Label Studio's regions, all in percent of the picture, as upright boxes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from math import cos, radians, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.formats.adding import number
from toolkit.data.formats.shapes import Box, enclosing, turned_ellipse

_LARGEST = 200_000_000  # px of a mask


def region_box(value: Mapping[str, Any], width: int, height: int) -> tuple[Box, str]:
    """The upright box xyxy (px) around a region, and what it was ("" for an upright rectangle).

    Args:
        value: the region's `value`.
        width: of the picture it was drawn on, px.
        height: likewise.

    Raises:
        KeyError, TypeError, ValueError: it is none of the known shapes.
    """
    if "points" in value or "vertices" in value:
        points = [_point(each, width, height) for each in value.get("points") or value["vertices"]]
        if len(points) < 3:
            raise ValueError("a polygon of fewer than three points")
        return enclosing(points), "polygons"
    if "rle" in value or "imageDataURL" in value:
        return mask_box(_mask(value, width, height)), "masks"
    x, y = number(value["x"]) / 100 * width, number(value["y"]) / 100 * height
    turn = radians(number(value.get("rotation") or 0))
    if "radiusX" in value:
        a, b = number(value["radiusX"]) / 100 * width, number(value["radiusY"]) / 100 * height
        return turned_ellipse(x, y, a, b, turn), "ellipses"
    w, h = number(value["width"]) / 100 * width, number(value["height"]) / 100 * height
    if not turn:
        return (x, y, x + w, y + h), ""
    # Clockwise about the top left corner, in px.
    corners = ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))
    box = enclosing(
        (x + u * cos(turn) - v * sin(turn), y + u * sin(turn) + v * cos(turn)) for u, v in corners
    )
    return box, "rotated boxes"


def _point(point: Any, width: int, height: int) -> tuple[float, float]:
    x, y = (point["x"], point["y"]) if isinstance(point, dict) else point
    return number(x) / 100 * width, number(y) / 100 * height


def mask_box(mask: NDArray[np.bool_]) -> Box:
    """The box xyxy around what is true in a mask (h, w); ValueError where nothing is."""
    if not mask.any():
        raise ValueError("an empty mask")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _mask(value: Mapping[str, Any], width: int, height: int) -> NDArray[np.bool_]:
    """(height, width) where a brush has painted."""
    if "rle" in value:
        pixels = decode_rle(bytes(list(value["rle"])), width * height * 4)
        return pixels.reshape(height, width, 4)[:, :, 3] > 0
    import cv2

    _, _, text = str(value["imageDataURL"]).partition("base64,")
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise ValueError("a mask that does not decode")
    return (image[:, :, -1] if image.ndim == 3 else image) > 0


def decode_rle(data: bytes, size: int) -> NDArray[np.uint8]:
    """The `size` bytes behind Label Studio's own run lengths (thi.ng's rle-pack).

    A head: how many values (32 bits), bits of a value less one (5), bits of four lengths less one (4 each).
    Then runs: whether one value is repeated (1), which of the lengths (2), the length less one, values.

    Raises:
        ValueError: they are of another size, or cut off.
    """
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    if take(32) != size or size > _LARGEST:
        raise ValueError("a mask of another size than its picture")
    word = take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values = bytearray()
    while len(values) < size:
        if at >= len(bits):
            raise ValueError("a mask that is cut off")
        repeated = take(1)
        count = min(take(lengths[take(2)]) + 1, size - len(values))
        if repeated:
            values += bytes([take(word) & 255]) * count
        else:
            values += bytes(take(word) & 255 for _ in range(count))
    return np.frombuffer(bytes(values), np.uint8)
