"""The wiring of a cfg: the layers before one, what it takes from them and what it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from torch import nn

from toolkit.models.blocks import ACTIVATIONS
from toolkit.models.bounds import MOST_INPUTS
from toolkit.models.darknet.cfg import Section, cut
from toolkit.models.darknet.heads import Shape
from toolkit.models.io import check_multiple


class Built(NamedTuple):
    """A layer of a cfg."""

    module: nn.Module
    sources: list[int]  # indices of its input layers, -1 for the input of the network
    shape: Shape
    stride: Fraction | int = 1  # of its output relative to that of its first input


@dataclass(frozen=True)
class Layers:
    """The layers before the one that is built: `shapes[k + 1]` is the output of layer k, `shapes[0]` the
    input of the network. `strides` are those of the same maps."""

    modules: Sequence[nn.Module]
    shapes: Sequence[Shape]
    strides: Sequence[Fraction] = (Fraction(1),)

    @property
    def count(self) -> int:
        return len(self.modules)

    @property
    def last(self) -> Shape:
        return self.shapes[-1]

    def check_input(self) -> None:
        """InputError where a side of the network's input is no multiple of the stride so far: what maps that
        do not fit each other come from, more often than from the layer that finds it."""
        _, height, width = self.shapes[0]
        check_multiple((width, height), ceil(max(self.strides)))


def activation_of(section: Section, default: str = "linear") -> str:
    activation = section.options.get("activation", default)
    if activation not in ACTIVATIONS:
        raise section.fail(
            f"unknown activation {cut(activation)!r}: expected one of {', '.join(ACTIVATIONS)}"
        )
    return activation


def plain_activation_of(section: Section) -> str:
    """Of a layer whose activate_array has neither swish nor mish."""
    activation = activation_of(section)
    if activation in ("swish", "mish", "hard_mish"):
        raise section.fail(f"activation={activation} does not work in this layer, in darknet either")
    return activation


def layers_named(section: Section, key: str, layers: Layers) -> list[int]:
    values = section.integers(key)
    if not values:
        raise section.fail(f"{key}= names no layer")
    if len(values) > MOST_INPUTS:
        raise section.fail(f"{key}= names {len(values):,} layers: expected {MOST_INPUTS:,} or less")
    return [layer_named(section, key, value, layers) for value in values]


def layer_named(section: Section, key: str, value: int, layers: Layers) -> int:
    index = value if value >= 0 else layers.count + value
    if not 0 <= index < layers.count:
        expected = f"one of the layers 0 to {layers.count - 1} before it" if layers.count else "no layer here"
        raise section.fail(f"{key}={value} means layer {index}, expected {expected}")
    return index
