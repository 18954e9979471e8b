"""What a network takes, gives and finds: sizes, normalisation, heads, classes or points."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from toolkit.runtime import InputError


@dataclass(frozen=True)
class HeadIO:
    """One output map: cells of `stride` px, `anchors` (w, h) in px of the network input."""

    stride: int
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float = 1.0
    new_coords: bool = False


@dataclass(frozen=True)
class ModelIO:
    """How to feed a network and read its outputs: all that evaluation, export and devices may know of it.

    The input is RGB (or `channel_order`), float32, (pixel - mean) * scale with pixels 0..255.
    `heads` stand in the order of the outputs, coarsest first.
    """

    input_size: tuple[int, int]  # width, height
    classes: tuple[str, ...]
    heads: tuple[HeadIO, ...]
    stride: int  # the deepest; sides of the input must be multiples of it
    channel_order: str = "RGB"
    mean: float = 0.0
    scale: float = 1 / 255

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size itself, or InputError where it is no positive multiple of the stride."""
        if any(side <= 0 or side % self.stride for side in size):
            raise InputError(
                f"the input size {size[0]}x{size[1]} is no multiple of this network's stride {self.stride}: "
                f"use for example {max(1, round(size[0] / self.stride)) * self.stride}"
                f"x{max(1, round(size[1] / self.stride)) * self.stride}"
            )
        return size

    @property
    def outputs(self) -> int:
        """How many maps the network gives."""
        return len(self.heads)

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
    """How to feed a landmark network and read its output: the counterpart of `ModelIO`.

    The input is a face cut out, float32, (pixel - mean) * scale with pixels 0..255. The output (N, 2 points)
    holds x0 y0 x1 y1 ... relative to that cut, 0..1, beyond it where a point lies outside.

    `crop`: the cut around a face's box of width w and height h, from its centre: crop[0] w to the left and to
    the right, crop[1] h up and crop[2] h down.
    """

    input_size: tuple[int, int]  # width, height
    points: int
    crop: tuple[float, float, float] = (0.55, 0.35, 0.55)
    channel_order: str = "BGR"
    mean: float = 127.5
    scale: float = 1 / 127.5

    stride = 1  # no other size than `input_size` fits, so there is nothing to be a multiple of
    outputs = 1

    def check_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size itself, or InputError where it is not the network's own."""
        if tuple(size) != self.input_size:
            raise InputError(
                f"this landmark network takes {self.input_size[0]}x{self.input_size[1]}, not "
                f"{size[0]}x{size[1]}: its last layer fits one size only; make another with input_size"
            )
        return size

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LandmarkIO:
        width, height = data["input_size"]
        side, up, down = data["crop"]
        return cls(**{**data, "input_size": (int(width), int(height)), "crop": (side, up, down)})


NetworkIO = ModelIO | LandmarkIO


def read_io(data: dict[str, Any]) -> NetworkIO:
    """The `io` in a spec.json: a landmark network's has `points`, a detector's `heads`."""
    return LandmarkIO.from_dict(data) if "points" in data else ModelIO.from_dict(data)
