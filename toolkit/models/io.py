"""Inputs and outputs of a network: size, normalisation, heads, classes or points.

`ModelIO` describes a detector, `LandmarkIO` a landmark network; both are a `NetworkIO`. Evaluation, export
and devices read only this; spec.json in an exported folder is its serialised form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from toolkit.boxes import FITS
from toolkit.models.bounds import (
    LARGEST_ANCHOR,
    LONGEST_NAME,
    LONGEST_SIDE,
    MOST_ANCHORS,
    MOST_CLASSES,
    MOST_POINTS,
)
from toolkit.models.decode import Floats, box_numbers, confidences
from toolkit.runtime import InputError
from toolkit.text import first_fault, short

ORDERS = ("RGB", "BGR", "GRAY")  # of channels; landmark networks take one of the first two
# What a spec.json may say, above all networks that people have.
MOST_PIXELS = 2**25  # of an input, 8K
MOST_OUTPUTS = 2**26  # numbers of all maps of one picture
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
Anchor = Annotated[float, Field(ge=0, le=LARGEST_ANCHOR)]
Factor = Annotated[float, Field(ge=-1e6, le=1e6)]
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Outputs = Sequence[Floats]  # of one picture, in the order of the network, without the batch dimension


def channels_of(channel_order: str) -> int:
    """Channels of pictures in an order: 1 for "GRAY", otherwise 3."""
    return 1 if channel_order == "GRAY" else 3


def check_multiple(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return `size` (w, h) px; raise InputError unless both sides are positive multiples of the stride, and
    not larger than any network takes."""
    if max(size) > LONGEST_SIDE or size[0] * size[1] > MOST_PIXELS:
        raise InputError(
            f"the input size {short(size[0])}x{short(size[1])} is too large: expected sides up to "
            f"{LONGEST_SIDE} px, and {MOST_PIXELS} px in all"
        )
    if any(side <= 0 or side % stride for side in size):
        width, height = (max(1, round(side / stride)) * stride for side in size)
        raise InputError(
            f"the input size {size[0]}x{size[1]} is not a multiple of this network's stride {stride}: use "
            f"for example {width}x{height}"
        )
    return size


class NetworkIO(Protocol):
    """How to feed a network, and what its outputs are.

    The input is float32 (N, channels, H, W), (pixel - mean) * scale with pixels 0..255 in `channel_order`.

    Attributes:
        task: "detection" or "landmarks".
        channel_order: "RGB", "BGR" or "GRAY".
        channels: 1 for "GRAY", otherwise 3.
        fit: how a picture is fitted into the input unless told otherwise, "stretch" or "letterbox".
        good_error: an int8 file whose `output_error` is below this is as good in use as the float32 file.
        outputs: number of output arrays.
        heads: detection heads, coarsest first; empty for a network that finds no boxes.
        threshold: default score threshold; None for a network without scores.
        summary: what the network finds, such as "20 classes".
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
    def channels(self) -> int: ...

    @property
    def fit(self) -> str: ...

    @property
    def mean(self) -> float: ...

    @property
    def scale(self) -> float: ...

    @property
    def outputs(self) -> int: ...

    @property
    def heads(self) -> tuple[HeadIO, ...]: ...

    @property
    def threshold(self) -> float | None: ...

    @property
    def summary(self) -> str: ...

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]: ...

    def with_size(self, size: tuple[int, int]) -> NetworkIO: ...

    def output_error(self, expected: Sequence[Outputs], outputs: Sequence[Outputs]) -> float: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class HeadIO:
    """One detection head: a map with cells of `stride` px and `anchors` (w, h) in px of the network input.

    The channels of an anchor are the four numbers of a box, the objectness and C classes. `decode_boxes` and
    `confidences` have the formulas.

    Attributes:
        scale_x_y, new_coords: options of darknet's [yolo] layer.
        softmax: the classes exclude each other (darknet's [region] layer).
        gaussian: each number of a box is followed by its uncertainty (darknet's [Gaussian_yolo] layer).
    """

    stride: Side
    anchors: Annotated[tuple[tuple[Anchor, Anchor], ...], Field(min_length=1, max_length=MOST_ANCHORS)]
    scale_x_y: Factor = 1.0
    new_coords: bool = False
    softmax: bool = False
    gaussian: bool = False

    @property
    def values(self) -> int:
        """Channels of an anchor before its classes: 5, or 9 with uncertainties."""
        return 9 if self.gaussian else 5

    def channels(self, classes: int) -> int:
        """Channels of the raw map."""
        return len(self.anchors) * (self.values + classes)

    def relative_anchors(self, grid: tuple[int, int]) -> Floats:
        """Anchors (A, 2) relative to the size of an input whose map has `grid` (columns, rows) cells."""
        sides = np.array(grid, np.float32) * np.float32(self.stride)
        return np.array(self.anchors, np.float32) / sides

    def cells(self, raw: Floats) -> NDArray[np.float64]:
        """Raw map of one picture, (1, A * (5 + C), h, w) or (A * (5 + C), h, w) -> (A, h * w, 5 + C)."""
        channels, h, w = raw.shape[-3:]
        cells = raw.reshape(len(self.anchors), channels // len(self.anchors), h * w)
        return cells.transpose(0, 2, 1).astype(np.float64)

    def cell_scores(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cells (A, K, 5 + C) -> objectness x class probability (A, K, C)."""
        objectness, classes = confidences(cells, self)
        return objectness[..., None] * classes


@dataclass(frozen=True)
class ModelIO:
    """How to feed a detector and read its outputs; see `NetworkIO`.

    `heads` are in the order of the outputs, coarsest first. Input sides must be multiples of `stride`, the
    stride of the deepest feature map. `fit` is what the network was trained with.

    >>> io = ModelIO((320, 320), ("cat", "dog"), (HeadIO(32, ((12.0, 18.0),)),), stride=32)
    >>> io.summary, io.with_size((352, 288)).input_size
    ('2 classes', (352, 288))
    """

    input_size: tuple[Side, Side]  # width, height
    classes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_CLASSES)]
    heads: Annotated[tuple[HeadIO, ...], Field(min_length=1, max_length=64)]
    stride: Side
    channel_order: str = "RGB"
    mean: Factor = 0.0
    scale: Factor = 1 / 255
    fit: str = "stretch"

    task: ClassVar[str] = "detection"
    good_error: ClassVar[float] = 0.08
    threshold: ClassVar[float | None] = 0.25

    @property
    def channels(self) -> int:
        return channels_of(self.channel_order)

    @property
    def outputs(self) -> int:
        return len(self.heads)

    @property
    def summary(self) -> str:
        return f"{len(self.classes)} classes"

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return `size` (w, h); raise InputError unless both sides are positive multiples of the stride."""
        return check_multiple(size, self.stride)

    def with_size(self, size: tuple[int, int]) -> ModelIO:
        """The same network with inputs of `size` (w, h); InputError as in `check_size`."""
        return replace(self, input_size=self.check_size(size))

    def output_error(self, expected: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
        """Difference between raw maps of the same pictures, weighted by score; 0 means equal.

        sum(|score - score'| + score x mean |box - box'|) / sum(score) over all cells and anchors, where a
        score is objectness x class probability and a box its four raw numbers. Cells without a score do
        not count.
        """
        difference = total = 0.0
        for picture, other in zip(expected, outputs, strict=True):
            for a, b, head in zip(picture, other, self.heads, strict=True):
                p, q = head.cells(a), head.cells(b)
                score, score2 = head.cell_scores(p), head.cell_scores(q)
                boxes = np.abs(box_numbers(p, head) - box_numbers(q, head)).mean(-1)
                difference += float(np.abs(score - score2).sum() + (score.sum(-1) * boxes).sum())
                total += float(score.sum())
        return difference / max(total, 1e-12)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class LandmarkIO:
    """How to feed a landmark network and read its output; see `NetworkIO`.

    The input is a face crop. The output (N, 2 * points) is x0 y0 x1 y1 ... relative to the crop, 0..1 inside
    it. `crop` gives the crop around the centre of a face box of w x h: crop[0] * w to the left and right,
    crop[1] * h up, crop[2] * h down.

    >>> LandmarkIO((112, 112), 106).summary
    '106 points'
    """

    input_size: tuple[Side, Side]  # width, height
    points: Annotated[int, Field(ge=1, le=MOST_POINTS)]
    crop: tuple[Factor, Factor, Factor] = (0.55, 0.35, 0.55)
    channel_order: str = "BGR"
    mean: Factor = 127.5
    scale: Factor = 1 / 127.5

    task: ClassVar[str] = "landmarks"
    good_error: ClassVar[float] = 0.004
    threshold: ClassVar[float | None] = None
    heads: ClassVar[tuple[HeadIO, ...]] = ()
    stride: ClassVar[int] = 1
    outputs: ClassVar[int] = 1
    fit: ClassVar[str] = "stretch"

    @property
    def channels(self) -> int:
        return channels_of(self.channel_order)

    @property
    def summary(self) -> str:
        return f"{self.points} points"

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return `size` (w, h); raise InputError unless it is the network's own: its last layer is dense."""
        if tuple(size) != self.input_size:
            raise InputError(
                f"this landmark network takes {self.input_size[0]}x{self.input_size[1]} only, not "
                f"{size[0]}x{size[1]}: create another one with input_size={size[0]}"
            )
        return size

    def with_size(self, size: tuple[int, int]) -> LandmarkIO:
        """The network itself; InputError as in `check_size`."""
        self.check_size(size)
        return self

    def points_of(self, outputs: Outputs) -> Floats:
        """Outputs of `predict` -> points (N, P, 2), x and y relative to the crop. InputError for outputs of
        another number of points."""
        points = np.asarray(outputs[0], np.float32)
        if points.shape[-1:] != (2 * self.points,):
            raise InputError(
                f"the network gives outputs of the shape {points.shape}, not of {2 * self.points} numbers "
                "for a picture: export it again"
            )
        return points.reshape(-1, self.points, 2)

    def output_error(self, expected: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
        """Mean distance between the points of the same faces, in sides of the crop."""
        offsets = [self.points_of(a) - self.points_of(b) for a, b in zip(expected, outputs, strict=True)]
        return float(np.linalg.norm(offsets, axis=-1).mean())

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_io(data: Mapping[str, Any], source: str = "spec.json") -> ModelIO | LandmarkIO:
    """The `io` of a spec.json: with `points` that of a landmark network, otherwise that of a detector.

    Args:
        data: its JSON.
        source: the file that it is from, for the sentence.

    Raises:
        InputError: a field is missing, of another type or out of bounds, or it is of a newer version.
    """
    landmarks = "points" in data
    kind: type[ModelIO | LandmarkIO] = LandmarkIO if landmarks else ModelIO
    choices = {"channel_order": ORDERS[:2] if landmarks else ORDERS, "fit": tuple(FITS)}
    for key, known in choices.items():
        if data.get(key, known[0]) not in known:
            raise InputError(
                f"{source} has {key} {short(data[key])}, which this version does not know (it knows "
                f"{', '.join(known)}): update it"
            )
    try:
        io: ModelIO | LandmarkIO = TypeAdapter(kind).validate_python(dict(data))
        io.check_size(io.input_size)
    except ValidationError as error:
        raise InputError(first_fault(f"the io of {source}", error)) from None
    except InputError as error:
        raise InputError(f"the io of {source}: {error}") from None
    width, height = io.input_size
    classes = len(io.classes) if isinstance(io, ModelIO) else 0
    numbers = sum(
        (width // head.stride) * (height // head.stride) * head.channels(classes) for head in io.heads
    )
    if numbers > MOST_OUTPUTS:
        raise InputError(
            f"the io of {source} has heads with {numbers:,} numbers for a picture: expected "
            f"{MOST_OUTPUTS:,} at most"
        )
    return io
