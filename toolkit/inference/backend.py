"""The settings of a detection; what an engine offers is in toolkit.models.network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from toolkit.boxes import NMS_KINDS, Placement, letterbox, stretch
from toolkit.runtime import InputError

RESIZES = ("bilinear", "darknet")
FITS: dict[str, Callable[[tuple[int, int], tuple[int, int]], Placement]] = {
    "stretch": stretch,
    "letterbox": letterbox,
}


@dataclass(frozen=True)
class DetectSettings:
    """How pictures go in and boxes come out.

    `conf`: threshold on objectness and on score, 0..1. `iou`: suppression above this overlap, within a class.
    `nms`: "plain" or "diou" (toolkit.boxes.nms). `resize`: "bilinear" (OpenCV, on bytes) or "darknet"
    (align-corners, on floats, exact). `fit`: "stretch" or "letterbox". `size`: network input (w, h), the
    network's own unless given. `clip`: cut boxes to the picture, which darknet does not.
    `long_side`: makes the input for each picture by its own proportions, that side long (0: as the picture
    is), padded to a multiple of the stride; overrules `size` and `fit`.
    """

    conf: float = 0.25
    iou: float = 0.45
    nms: str = "plain"
    resize: str = "bilinear"
    fit: str = "stretch"
    size: tuple[int, int] | None = None
    clip: bool = True
    long_side: int | None = None

    def __post_init__(self) -> None:
        choices = (
            ("nms", self.nms, NMS_KINDS),
            ("resize", self.resize, RESIZES),
            ("fit", self.fit, tuple(FITS)),
        )
        for name, value, known in choices:
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        for name, number in (("conf", self.conf), ("iou", self.iou)):
            if not isinstance(number, (int, float)) or not 0 <= number <= 1:
                raise InputError(f"{name} is a number between 0 and 1, {number!r} was given")
