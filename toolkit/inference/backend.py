"""Settings of a detection; toolkit.models.network has the protocols of the engines."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.boxes import FITS, NMS_KINDS
from toolkit.runtime import InputError

RESIZES = ("bilinear", "darknet")


@dataclass(frozen=True)
class DetectSettings:
    """How pictures are preprocessed, and which boxes are kept.

    Attributes:
        conf: threshold of objectness and score, 0..1.
        iou: overlap above which boxes of one class suppress each other, 0..1.
        nms: "plain" or "diou", see `toolkit.boxes.nms`.
        resize: "bilinear" (OpenCV, on bytes) or "darknet" (align-corners, on floats, as darknet's).
        fit: "stretch" or "letterbox"; None for the network's own.
        size: input size (w, h) in px; None for the network's own.
        clip: clip boxes to the picture; darknet does not.
        long_side: input with the proportions of each picture, its long side this many px (0: as the picture)
            and padded to a multiple of the stride; `size` and `fit` do not apply then. None: off.

    Raises:
        InputError: a value out of range or not one of the choices.

    >>> DetectSettings(conf=0.4, fit="letterbox").iou
    0.45
    """

    conf: float = 0.25
    iou: float = 0.45
    nms: str = "plain"
    resize: str = "bilinear"
    fit: str | None = None
    size: tuple[int, int] | None = None
    clip: bool = True
    long_side: int | None = None

    def __post_init__(self) -> None:
        choices = (
            ("nms", self.nms, NMS_KINDS),
            ("resize", self.resize, RESIZES),
            ("fit", self.fit, (None, *FITS)),
        )
        for name, value, values in choices:
            if value not in values:
                raise InputError(f"{name} must be one of {', '.join(filter(None, values))}, not {value!r}")
        for name, number in (("conf", self.conf), ("iou", self.iou)):
            if not isinstance(number, (int, float)) or not 0 <= number <= 1:
                raise InputError(f"{name} must be a number between 0 and 1, not {number!r}")
