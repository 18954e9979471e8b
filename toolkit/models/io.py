"""What a network takes, gives and finds: sizes, normalisation, heads, classes or points.

`ModelIO` is that of a detector, `LandmarkIO` that of a landmark network; both are a `NetworkIO`. Evaluation,
export and devices read only this, and spec.json in an exported folder is its serialised form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.models.decode import Floats, probabilities
from toolkit.runtime import InputError

Outputs = Sequence[Floats]  # of one picture, in the network's order, without the batch dimension


class NetworkIO(Protocol):
    """How to feed a network, and what its outputs are.

    The input is float32 (N, 3, H, W), (pixel - mean) * scale with pixels 0..255 in `channel_order`.
    `task`: "detection" or "landmarks". `found`: what one picture gives, such as "20 classes". `outputs`: how
    many arrays the network gives. `threshold`: the score from which an object counts unless another was
    chosen; None where there is no score. `good_error`: the `output_error` below which an int8 file is as
    good as the float32 one for every practical purpose.
    """

    task: ClassVar[str]
    good_error: ClassVar[float]

    @property
    def input_size(self) -> tuple[int, int]: ...  # width, height

    @property
    def stride(self) -> int: ...

    @property
    def channel_order(self) -> str: ...

    @property
    def mean(self) -> float: ...

    @property
    def scale(self) -> float: ...

    @property
    def outputs(self) -> int: ...

    @property
    def heads(self) -> tuple[HeadIO, ...]: ...  # none where no boxes are found

    @property
    def threshold(self) -> float | None: ...

    @property
    def found(self) -> str: ...

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]: ...

    def with_size(self, size: tuple[int, int]) -> NetworkIO: ...

    def output_error(self, wanted: Sequence[Outputs], given: Sequence[Outputs]) -> float: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class HeadIO:
    """One output map: cells of `stride` px, `anchors` (w, h) in px of the network input."""

    stride: int
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float = 1.0
    new_coords: bool = False

    def relative_anchors(self, grid: tuple[int, int]) -> Floats:
        """The anchors (A, 2) relative to an input that gives a map of `grid` (columns, rows)."""
        sides = np.array(grid, np.float32) * np.float32(self.stride)
        return np.array(self.anchors, np.float32) / sides

    def cells(self, raw: Floats) -> NDArray[np.float64]:
        """The raw map of one picture (1, A * (5 + C), h, w), or without the 1 -> (A, 5 + C, h * w)."""
        channels, h, w = raw.shape[-3:]
        return raw.reshape(len(self.anchors), channels // len(self.anchors), h * w).astype(np.float64)

    def cell_scores(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cells (A, 5 + C, K) -> objectness x class probability (A, C, K)."""
        answers = probabilities(cells[:, 4:], self)
        return answers[:, :1] * answers[:, 1:]


@dataclass(frozen=True)
class ModelIO:
    """How to feed a detector and read its outputs; see `NetworkIO`.

    `heads` are in the order of the outputs, coarsest first.
    """

    input_size: tuple[int, int]  # width, height
    classes: tuple[str, ...]
    heads: tuple[HeadIO, ...]
    stride: int  # the deepest; sides of the input must be multiples of it
    channel_order: str = "RGB"
    mean: float = 0.0
    scale: float = 1 / 255

    task: ClassVar[str] = "detection"
    good_error: ClassVar[float] = 0.08
    threshold: ClassVar[float | None] = 0.25

    @property
    def outputs(self) -> int:
        return len(self.heads)

    @property
    def found(self) -> str:
        return f"{len(self.classes)} classes"

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size itself, or InputError where it is not a positive multiple of the stride."""
        if any(side <= 0 or side % self.stride for side in size):
            raise InputError(
                f"the input size {size[0]}x{size[1]} is not a multiple of this network's stride "
                f"{self.stride}: use for example {max(1, round(size[0] / self.stride)) * self.stride}"
                f"x{max(1, round(size[1] / self.stride)) * self.stride}"
            )
        return size

    def with_size(self, size: tuple[int, int]) -> ModelIO:
        """The same network with inputs of `size` (w, h); InputError as `check_size`."""
        return replace(self, input_size=self.check_size(size))

    def output_error(self, wanted: Sequence[Outputs], given: Sequence[Outputs]) -> float:
        """How far the raw maps of some pictures are from those wanted, over all cells and anchors:

        sum(|score - score'| + score x mean |box - box'|) / sum(score), where a score is objectness x class
        probability and a box its four raw numbers. 0 is equal; cells of no score weigh nothing.
        """
        apart = total = 0.0
        for picture, other in zip(wanted, given, strict=True):
            for a, b, head in zip(picture, other, self.heads, strict=True):
                p, q = head.cells(a), head.cells(b)
                score, score2 = head.cell_scores(p), head.cell_scores(q)
                boxes = np.abs(p[:, :4] - q[:, :4]).mean(1)
                apart += float(np.abs(score - score2).sum() + (score.sum(1) * boxes).sum())
                total += float(score.sum())
        return apart / max(total, 1e-12)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelIO:
        heads = tuple(
            HeadIO(**{**head, "anchors": tuple((float(w), float(h)) for w, h in head["anchors"])})
            for head in data["heads"]
        )
        width, height = data["input_size"]
        return cls(
            **{**data, "input_size": (width, height), "classes": tuple(data["classes"]), "heads": heads}
        )


@dataclass(frozen=True)
class LandmarkIO:
    """How to feed a landmark network and read its output; see `NetworkIO`.

    The input is a face cut out of a picture. The output (N, 2 points) holds x0 y0 x1 y1 ... relative to that
    cut, 0..1, beyond it where a point lies outside.

    `crop`: the cut around a face's box of width w and height h, from its centre: crop[0] w to the left and to
    the right, crop[1] h up and crop[2] h down.
    """

    input_size: tuple[int, int]  # width, height
    points: int
    crop: tuple[float, float, float] = (0.55, 0.35, 0.55)
    channel_order: str = "BGR"
    mean: float = 127.5
    scale: float = 1 / 127.5

    task: ClassVar[str] = "landmarks"
    good_error: ClassVar[float] = 0.004
    threshold: ClassVar[float | None] = None
    heads: ClassVar[tuple[HeadIO, ...]] = ()
    stride: ClassVar[int] = 1  # no other size than `input_size` fits
    outputs: ClassVar[int] = 1

    @property
    def found(self) -> str:
        return f"{self.points} points"

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size itself, or InputError where it is not the network's own."""
        if tuple(size) != self.input_size:
            raise InputError(
                f"this landmark network takes {self.input_size[0]}x{self.input_size[1]}, not "
                f"{size[0]}x{size[1]}: its last layer fits one size only; make another with input_size"
            )
        return size

    def with_size(self, size: tuple[int, int]) -> LandmarkIO:
        """Itself, or InputError as `check_size`."""
        self.check_size(size)
        return self

    def points_of(self, outputs: Outputs) -> Floats:
        """What `predict` gives -> points (N, P, 2), x and y relative to the cut."""
        return np.asarray(outputs[0], np.float32).reshape(-1, self.points, 2)

    def output_error(self, wanted: Sequence[Outputs], given: Sequence[Outputs]) -> float:
        """The mean distance of the points of some faces to those wanted, in sides of the cut."""
        steps = [self.points_of(a) - self.points_of(b) for a, b in zip(wanted, given, strict=True)]
        return float(np.linalg.norm(steps, axis=-1).mean())

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LandmarkIO:
        width, height = data["input_size"]
        side, up, down = data["crop"]
        return cls(**{**data, "input_size": (int(width), int(height)), "crop": (side, up, down)})


def read_io(data: dict[str, Any]) -> ModelIO | LandmarkIO:
    """The `io` in a spec.json: a landmark network's has `points`, a detector's `heads`.

    Raises KeyError, TypeError or ValueError where it is neither.
    """
    return LandmarkIO.from_dict(data) if "points" in data else ModelIO.from_dict(data)
