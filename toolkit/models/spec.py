"""Detectors as data: `DetectorSpec` describes the architecture, its `.io` the inputs and outputs.

Specs are frozen; `change(spec, ...)` makes a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from numbers import Real
from typing import Any, TypeGuard

import numpy as np

from toolkit.models.blocks import ACTIVATIONS
from toolkit.models.bounds import LARGEST_ANCHOR, LARGEST_WINDOW, LONGEST_SIDE, MOST_CLASSES
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError
from toolkit.text import short

WIDTHS = (0.001, 16.0)  # factor on channels
MOST_POOLS = 16


class WrongKind(InputError):
    """A change with a value of the wrong type, such as a word for a width."""


@dataclass(frozen=True)
class Stem:
    """3x3 convolution of stride 2, 1x1 convolution if `expand`, depthwise 3x3, linear 1x1 to `out`."""

    channels: int
    out: int
    expand: bool = False


@dataclass(frozen=True)
class Stage:
    """Inverted residuals: one `hidden` wide with `stride` to `channels`, then `repeats` of `block_hidden`.

    `csp` is the pooling window of the cross-stage partial path, 0 for none. `se` is the ratio of
    squeeze-and-excite behind every depthwise convolution but the stage's first (as in MobileNetV3,
    arXiv:1905.02244), 0 for none.
    """

    hidden: int
    channels: int
    block_hidden: int
    repeats: int
    stride: int = 2
    csp: int = 0
    se: int = 0


@dataclass(frozen=True)
class Conv:
    """1x1 convolution with batch norm; `linear` omits the activation."""

    channels: int
    linear: bool = False


@dataclass(frozen=True)
class Depthwise:
    """3x3 depthwise convolution."""


@dataclass(frozen=True)
class SE:
    """Squeeze-and-excite with channels // ratio hidden channels."""

    ratio: int = 2


@dataclass(frozen=True)
class Residual:
    """Inverted residual of the given hidden width; channels stay the same."""

    hidden: int


HeadLayer = Conv | Depthwise | SE | Residual


@dataclass(frozen=True)
class Head:
    """One detection head: `body`, then a 1x1 convolution to the raw map.

    Every head after the first starts from the tap of the previous head (the output of its layer `tap`),
    reduced to `reduce` channels unless that is 0, upsampled by 2 and concatenated with the stage of the same
    resolution.
    """

    anchors: tuple[tuple[int, int], ...]
    body: tuple[HeadLayer, ...]
    scale_x_y: float = 1.0
    reduce: int = 0
    tap: int = 0


@dataclass(frozen=True)
class Neck:
    """`spp`: pooling windows after the last stage. `top`: width of a 1x1 convolution that is upsampled into
    the first head, for networks without a head at the stride of the last stage."""

    spp: tuple[int, ...] = ()
    top: int = 0


@dataclass(frozen=True)
class DetectorSpec:
    """A single-stage detector on a MobileNetV2-like backbone; heads are listed coarsest first."""

    name: str
    input_size: tuple[int, int]  # width, height
    classes: tuple[str, ...]
    stem: Stem
    stages: tuple[Stage, ...]
    heads: tuple[Head, ...]
    neck: Neck = Neck()
    activation: str = "relu"
    width: float = 1.0

    def scaled(self, channels: int) -> int:
        """Channels under the width multiplier."""
        return max(1, round(channels * self.width))

    @property
    def se(self) -> tuple[bool, ...]:
        """Per head: whether it has squeeze-and-excite."""
        return tuple(any(isinstance(layer, SE) for layer in head.body) for head in self.heads)

    @property
    def csp(self) -> tuple[bool, ...]:
        """Per stage: whether it has the cross-stage partial path."""
        return tuple(stage.csp > 0 for stage in self.stages)

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the heads."""
        first = self.stride // 2 if self.neck.top else self.stride
        return tuple(first >> i for i in range(len(self.heads)))

    @property
    def stride(self) -> int:
        """Stride of the last stage."""
        return 2 * prod(stage.stride for stage in self.stages)

    @property
    def io(self) -> ModelIO:
        heads = tuple(
            HeadIO(stride, tuple((float(w), float(h)) for w, h in head.anchors), head.scale_x_y)
            for head, stride in zip(self.heads, self.strides, strict=True)
        )
        return ModelIO(self.input_size, self.classes, heads, self.stride)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, tuple | list | np.ndarray)


def check_number(name: str, value: Any, low: float, high: float) -> None:
    """InputError where a change is not a number from `low` to `high`; WrongKind where it is not a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise WrongKind(f"{name} takes {KINDS.get(name, 'a number')}, not {short(value)}")
    if not low <= value <= high:
        raise InputError(f"{name} is {short(value)}: expected {low:g} to {high:g}")


def sides_of(size: Any) -> tuple[int, int]:
    """Width and height in px of an `input_size`, which is one side or both. InputError as in `change`."""
    sides = (size, size) if isinstance(size, int) else size
    if not _is_list(sides) or len(sides) != 2:
        raise WrongKind(f"input_size takes {KINDS['input_size']}, not {short(size)}")
    for side in sides:
        check_number("input_size", side, 1, LONGEST_SIDE)
    return int(sides[0]), int(sides[1])


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Names of the classes; class0, class1, ... for their number alone. InputError as in `change`."""
    if isinstance(classes, int):
        count = int(classes)
    elif _is_list(classes):
        count = len(classes)
    else:
        raise WrongKind(f"classes are names or their number, not {short(classes)}")
    if not 1 <= count <= MOST_CLASSES:
        raise InputError(f"a detector needs 1 to {MOST_CLASSES:,} classes, {short(count)} were given")
    return tuple(f"class{i}" for i in range(count)) if isinstance(classes, int) else tuple(classes)


def anchor_sizes(anchors: Any, count: int) -> tuple[tuple[Any, Any], ...]:
    """The (w, h) in px of as many anchors as a network has. InputError as in `change`."""
    if not _is_list(anchors) or any(not _is_list(each) or len(each) != 2 for each in anchors):
        raise WrongKind(f"anchors takes a list of widths and heights, not {short(anchors)}")
    if len(anchors) != count:
        raise InputError(f"this network has {count} anchors, {len(anchors)} were given")
    for side in (side for each in anchors for side in each):
        check_number("an anchor", side, 1e-3, LARGEST_ANCHOR)
    return tuple((w, h) for w, h in anchors)


def _per_item(value: Any, count: int, what: str) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count:
        raise InputError(f"{what} takes one value or {count} of them, {len(values)} were given")
    return values


def _with_se(head: Head, ratio: int) -> Head:
    """The head with squeeze-and-excite after its first convolution, as in the seed; 0 removes it."""
    body = tuple(layer for layer in head.body if not isinstance(layer, SE))
    if not ratio:
        # The tap comes before SE in every published network, so its index stays the same.
        return replace(head, body=body)
    return replace(head, body=(*body[:1], SE(ratio), *body[1:]))


# Values of the changes that a study may make, for messages.
KINDS = {
    "se": "true, false, a squeeze ratio, or a list with one of them for each head",
    "stage_se": "true, false, a squeeze ratio, or a list with one of them for each stage",
    "csp": "true, false, a pooling window, or a list with one of them for each stage",
    "spp": "a list of pooling windows such as [3, 5, 9]",
    "activation": f"one of {', '.join(ACTIVATIONS)}",
    "width": "a factor above 0",
    "input_size": "one side or [width, height]",
}


def change(spec: DetectorSpec, **changes: Any) -> DetectorSpec:
    """Change the architecture of a detector.

    Args:
        spec: a spec, such as one of `toolkit.models.zoo.SPECS`.
        **changes: fields of the spec, and these short forms:

            - `se`: squeeze ratio (True means 2, False none), one for all heads or one per head
            - `stage_se`: squeeze ratio inside the residuals, one for all stages or one per stage
            - `csp`: pooling window (True means 2, False none), one for all stride-2 stages or one per stage
            - `spp`: pooling windows, () for none
            - `input_size`: side, or (width, height), in px
            - `classes`: names, or their number
            - `anchors`: all (w, h) in px from small to large; the coarsest head gets the largest

    Returns:
        A new spec.

    Raises:
        InputError: an unknown key or a value that does not fit; WrongKind if its type is wrong.

    >>> from toolkit.models.zoo import SPECS
    >>> small = change(SPECS["fastest-v2"], se=False, csp=False, width=0.75, input_size=224)
    >>> small.se, small.csp, small.input_size
    ((False, False), (False, False, False, False), (224, 224))
    """
    known = {field.name for field in fields(DetectorSpec)} | {"se", "stage_se", "csp", "spp", "anchors"}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InputError(f"unknown change {unknown[0]!r}: a spec has {', '.join(sorted(known))}")
    if "se" in changes:
        ratios = _per_item(changes.pop("se"), len(spec.heads), "se")
        heads = (_with_se(head, _whole("se", ratio)) for head, ratio in zip(spec.heads, ratios, strict=True))
        spec = replace(spec, heads=tuple(heads))
    if "stage_se" in changes:
        ratios = _per_item(changes.pop("stage_se"), len(spec.stages), "stage_se")
        stages = (
            replace(stage, se=_whole("stage_se", ratio))
            for stage, ratio in zip(spec.stages, ratios, strict=True)
        )
        spec = replace(spec, stages=tuple(stages))
    if "csp" in changes:
        value = changes.pop("csp")
        if not isinstance(value, (tuple, list)):
            value = [value if stage.stride == 2 else 0 for stage in spec.stages]
        windows = [_whole("csp", window) for window in _per_item(value, len(spec.stages), "csp")]
        stages = (replace(stage, csp=w) for stage, w in zip(spec.stages, windows, strict=True))
        spec = replace(spec, stages=tuple(stages))
    if "spp" in changes:
        pools = tuple(changes.pop("spp") or ())
        if len(pools) > MOST_POOLS:
            raise InputError(f"spp has {len(pools)} pooling windows: expected {MOST_POOLS} or less")
        for window in pools:
            check_number("spp", window, 1, LARGEST_WINDOW)
        spec = replace(spec, neck=replace(spec.neck, spp=pools))
    if "anchors" in changes:
        spec = replace(spec, heads=_deal_anchors(spec.heads, changes.pop("anchors")))
    if "input_size" in changes:
        changes["input_size"] = sides_of(changes["input_size"])
    if "classes" in changes:
        changes["classes"] = class_names(changes["classes"])
    if changes.get("activation", spec.activation) not in ACTIVATIONS:
        raise WrongKind(f"activation takes {KINDS['activation']}, not {short(changes['activation'])}")
    check_number("width", changes.get("width", 1.0), *WIDTHS)
    spec = replace(spec, **changes)
    spec.io.check_size(spec.input_size)
    return spec


def _whole(name: str, value: Any) -> int:
    """A ratio or window: 2 for True, 0 for False."""
    ratio = 2 if value is True else 0 if value is False else value
    check_number(name, ratio, 0, LARGEST_WINDOW)
    return int(ratio)


def _deal_anchors(heads: tuple[Head, ...], anchors: Any) -> tuple[Head, ...]:
    count = sum(len(head.anchors) for head in heads)
    boxes = anchor_sizes(anchors, count)
    dealt, end = [], count
    for head in heads:
        start = end - len(head.anchors)
        dealt.append(replace(head, anchors=boxes[start:end]))
        end = start
    return tuple(dealt)
