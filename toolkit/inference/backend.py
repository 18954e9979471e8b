"""What an inference engine offers, the settings of a detection, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from toolkit.boxes import NMS_KINDS, Placement, letterbox, stretch
from toolkit.models.io import LandmarkIO, ModelIO
from toolkit.runtime import InputError

RESIZES = ("bilinear", "darknet")
FITS: dict[str, Callable[[tuple[int, int], tuple[int, int]], Placement]] = {
    "stretch": stretch,
    "letterbox": letterbox,
}


class Backend(Protocol):
    @property
    def io(self) -> ModelIO: ...

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]: ...


class LandmarkBackend(Protocol):
    """A network that places points in a face cut out; `predict` gives [(N, 2 points)]."""

    @property
    def io(self) -> LandmarkIO: ...

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]: ...


@runtime_checkable
class Suppressing(Protocol):
    """A network with decoding and plain suppression inside, such as a model-end2end.onnx."""

    @property
    def io(self) -> ModelIO: ...

    def find(self, x: NDArray[np.float32], conf: float, iou: float) -> list[Boxes]:
        """(N, 3, H, W) -> detections of each picture, boxes xyxy relative to the input."""
        ...


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


@dataclass(frozen=True)
class Boxes:
    """Detections of one picture, by falling score."""

    boxes: NDArray[np.float32]  # (K, 4) xyxy in pixels of the picture
    scores: NDArray[np.float32]  # (K,)
    class_ids: NDArray[np.int64]  # (K,)
