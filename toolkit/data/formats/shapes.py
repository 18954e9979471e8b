"""Shapes that labels have in place of boxes, and the upright boxes around them."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, hypot, sin

Box = tuple[float, float, float, float]  # xyxy


def enclosing(points: Iterable[tuple[float, float]]) -> Box:
    """The upright box xyxy around points; ValueError where there are none.

    >>> enclosing([(3, 1), (0, 5)])
    (0, 1, 3, 5)
    """
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def turned(cx: float, cy: float, w: float, h: float, angle: float) -> Box:
    """The upright box xyxy around a box of size (w, h) px turned by `angle` (radians) about its centre."""
    across = abs(w * cos(angle)) + abs(h * sin(angle))
    down = abs(w * sin(angle)) + abs(h * cos(angle))
    return cx - across / 2, cy - down / 2, cx + across / 2, cy + down / 2


def turned_ellipse(cx: float, cy: float, rx: float, ry: float, angle: float) -> Box:
    """The upright box xyxy around an ellipse of radii rx, ry px turned by `angle` (radians)."""
    across, down = hypot(rx * cos(angle), ry * sin(angle)), hypot(rx * sin(angle), ry * cos(angle))
    return cx - across, cy - down, cx + across, cy + down
