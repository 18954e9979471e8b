"""Detectors as data: `DetectorSpec` describes the architecture, its `.io` the inputs and outputs.

Specs are frozen; `change(spec, ...)` makes a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

from toolkit.models.blocks import ACTIVATIONS
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError


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

    `csp` is the pooling window of the cross-stage partial path, 0 for none.
    """

    hidden: int
    channels: int
    block_hidden: int
    repeats: int
    stride: int = 2
    csp: int = 0


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
    known = {field.name for field in fields(DetectorSpec)} | {"se", "csp", "spp", "anchors"}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InputError(f"unknown change {unknown[0]!r}: a spec has {', '.join(sorted(known))}")
    if "se" in changes:
        ratios = _per_item(changes.pop("se"), len(spec.heads), "se")
        heads = (
            _with_se(head, 2 if ratio is True else int(ratio))
            for head, ratio in zip(spec.heads, ratios, strict=True)
        )
        spec = replace(spec, heads=tuple(heads))
    if "csp" in changes:
        value = changes.pop("csp")
        if not isinstance(value, (tuple, list)):
            value = [value if stage.stride == 2 else 0 for stage in spec.stages]
        windows = [
            2 if window is True else int(window) for window in _per_item(value, len(spec.stages), "csp")
        ]
        stages = (replace(stage, csp=w) for stage, w in zip(spec.stages, windows, strict=True))
        spec = replace(spec, stages=tuple(stages))
    if "spp" in changes:
        spec = replace(spec, neck=replace(spec.neck, spp=tuple(changes.pop("spp") or ())))
    if "anchors" in changes:
        spec = replace(spec, heads=_deal_anchors(spec.heads, changes.pop("anchors")))
    if "input_size" in changes:
        size = changes["input_size"]
        if not isinstance(size, int) and (isinstance(size, str) or len(size) != 2):
            raise WrongKind(f"input_size takes {KINDS['input_size']}, not {size!r}")
        changes["input_size"] = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if "classes" in changes:
        names = changes["classes"]
        changes["classes"] = (
            tuple(f"class{i}" for i in range(names)) if isinstance(names, int) else tuple(names)
        )
        if not changes["classes"]:
            raise InputError("a detector needs at least one class, none was given")
    if changes.get("activation", spec.activation) not in ACTIVATIONS:
        raise WrongKind(f"activation takes {KINDS['activation']}, not {changes['activation']!r}")
    if changes.get("width", 1) <= 0:
        raise InputError(f"width is a factor above 0, not {changes['width']}")
    spec = replace(spec, **changes)
    spec.io.check_size(spec.input_size)
    return spec


def _deal_anchors(heads: tuple[Head, ...], anchors: Any) -> tuple[Head, ...]:
    boxes = tuple((w, h) for w, h in anchors)
    count = sum(len(head.anchors) for head in heads)
    if len(boxes) != count:
        raise InputError(f"this network has {count} anchors, {len(boxes)} were given")
    dealt, end = [], count
    for head in heads:
        start = end - len(head.anchors)
        dealt.append(replace(head, anchors=boxes[start:end]))
        end = start
    return tuple(dealt)
