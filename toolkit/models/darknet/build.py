"""A section of a cfg as a torch module, kind by kind, after the parse functions of darknet's parser.c."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from torch import nn

from toolkit.models.blocks import ACTIVATIONS, Shortcut
from toolkit.models.bounds import LARGEST_WINDOW, MOST_VALUES
from toolkit.models.darknet.cfg import Section
from toolkit.models.darknet.heads import HEADS
from toolkit.models.darknet.layers import Concat, Reorg, Sam, ScaleChannels, WeightedShortcut
from toolkit.models.darknet.windows import convolutional, local_avgpool, maxpool
from toolkit.models.darknet.wiring import Built, Layers, activation_of, layers_named, plain_activation_of

# Kinds that stay refused, and why.
RECURRENT = "layers with a memory of earlier pictures are not supported"
_DENSE = "the fully connected detectors of YOLOv1 are not supported"
_CLASSIFIER = "a layer of a classifier, which is not supported in a detector"
REFUSED = {
    **dict.fromkeys(("crnn", "rnn", "gru", "lstm", "conv_lstm", "history"), RECURRENT),
    **dict.fromkeys(("detection", "connected", "local", "crop"), _DENSE),
    **dict.fromkeys(("softmax", "cost"), _CLASSIFIER),
    "normalization": "local response normalization is not supported",
    "implicit": "implicit knowledge (YOLOR) is not supported",
}
_MOST_UPSAMPLING = 64
# Options that change the result of a layer and are not implemented: refused unless they have this value.
UNSUPPORTED = dict.fromkeys(
    (
        *("binary", "xnor", "reverse", "rotate", "stretch", "stretch_sway", "sway", "deform", "flipped"),
        *("dontload", "dontloadscales", "maxpool_zero_nonmax"),
    ),
    "0",
)


def _avgpool(section: Section, layers: Layers) -> Built:
    return Built(nn.AdaptiveAvgPool2d(1), [layers.count - 1], (layers.last[0], 1, 1))


def _upsample(section: Section, layers: Layers) -> Built:
    c, h, w = layers.last
    stride = section.integer("stride", 2, low=1, high=_MOST_UPSAMPLING)
    if section.real("scale", 1) != 1:
        raise section.fail(f"{section.shown('scale')} is not supported: expected 1")
    module = nn.Upsample(scale_factor=float(stride), mode="nearest")
    return Built(module, [layers.count - 1], (c, h * stride, w * stride), Fraction(1, stride))


def _route(section: Section, layers: Layers) -> Built:
    return _concat(section, layers, section.integer("groups", 1, low=1), section.integer("group_id", 0))


def _route_lhalf(section: Section, layers: Layers) -> Built:
    """Not darknet's: the first half of the channels."""
    return _concat(section, layers, 2, 0)


def _concat(section: Section, layers: Layers, groups: int, group: int) -> Built:
    inputs = layers_named(section, "layers", layers)
    parts = [layers.shapes[k + 1] for k in inputs]
    if len({s[1:] for s in parts}) > 1:
        layers.check_input()
        raise section.fail(f"its inputs differ in size: {', '.join(f'{s[2]}x{s[1]}' for s in parts)}")
    if not 0 <= group < groups or any(s[0] % groups for s in parts):
        raise section.fail(f"groups={groups} group_id={group} do not divide its input channels")
    shape = (sum(s[0] // groups for s in parts), *parts[0][1:])
    return Built(Concat(groups, group), inputs, shape)


def _shortcut(section: Section, layers: Layers) -> Built:
    c, h, w = layers.last
    inputs = layers_named(section, "from", layers)
    for k in inputs:
        if layers.shapes[k + 1][1:] != (h, w):
            layers.check_input()
            size = f"{layers.shapes[k + 1][2]}x{layers.shapes[k + 1][1]}"
            raise section.fail(f"layer {k} gives {size}, expected {w}x{h} here")
    kind = section.options.get("weights_type", "none")
    activation = activation_of(section)
    if kind == "none":
        return Built(Shortcut(activation), [layers.count - 1, *inputs], (c, h, w))
    normalization = section.options.get("weights_normalization", "none").removeprefix("avg_")
    if kind not in ("per_feature", "per_layer", "per_channel"):
        raise section.fail(
            f"{section.shown('weights_type')} is unknown: expected none, per_feature or per_channel"
        )
    if normalization not in ("none", "relu", "softmax"):
        raise section.fail(
            f"{section.shown('weights_normalization')} is unknown: expected none, relu or softmax"
        )
    module = WeightedShortcut(1 + len(inputs), c, kind == "per_channel", normalization, activation)
    return Built(module, [layers.count - 1, *inputs], (c, h, w))


def _scale_channels(section: Section, layers: Layers) -> Built:
    c, h, w = layers.last
    source = layers_named(section, "from", layers)[0]
    target = layers.shapes[source + 1]
    if section.integer("scale_wh", 0):
        if (c, h, w) != (1, *target[1:]):
            raise section.fail(
                f"expected a factor for each of {target[2]}x{target[1]} pixels, found {c} channels of {w}x{h}"
            )
    elif (c, h, w) != (target[0], 1, 1):
        raise section.fail(f"expected {target[0]} factors of 1x1, found {c} of {w}x{h}")
    return Built(ScaleChannels(plain_activation_of(section)), [layers.count - 1, source], target)


def _sam(section: Section, layers: Layers) -> Built:
    source = layers_named(section, "from", layers)[0]
    target = layers.shapes[source + 1]
    if target != layers.last:
        shapes = [f"{c} channels of {w}x{h}" for c, h, w in (target, layers.last)]
        raise section.fail(f"layer {source} gives {shapes[0]}, expected {shapes[1]} here")
    return Built(Sam(plain_activation_of(section)), [layers.count - 1, source], target)


def _reorg(section: Section, layers: Layers) -> Built:
    c, h, w = layers.last
    stride = section.integer("stride", 1, low=1, high=LARGEST_WINDOW)
    cubic, reverse = section.kind == "reorg3d", bool(section.integer("reverse", 0))
    # what the channels must be a multiple of in the order of reorg_cpu
    divisor = (stride**4 if cubic else stride**2) if reverse else (1 if cubic else stride**2)
    if c % divisor or (not reverse and (h % stride or w % stride)):
        layers.check_input()
        raise section.fail(f"stride={stride} does not divide its input, {c} channels of {w}x{h}")
    module = Reorg(stride, cubic, reverse)
    if reverse:
        return Built(
            module, [layers.count - 1], (c // stride**2, h * stride, w * stride), Fraction(1, stride)
        )
    return Built(module, [layers.count - 1], (c * stride**2, h // stride, w // stride), stride)


def _dropout(section: Section, layers: Layers) -> Built:
    probability = section.real("probability", 0.2, low=0.0)
    if probability > 1:
        raise section.fail(f"probability={probability:g} is too large: expected 0 to 1")
    return Built(nn.Dropout(probability), [layers.count - 1], layers.last)


def _activate(section: Section, layers: Layers) -> Built:
    return Built(ACTIVATIONS[plain_activation_of(section)](), [layers.count - 1], layers.last)


def _batchnorm(section: Section, layers: Layers) -> Built:
    return Built(nn.BatchNorm2d(layers.last[0], eps=1e-5), [layers.count - 1], layers.last)


def _pass(section: Section, layers: Layers) -> Built:
    """Layers that pass their input on; [contrastive] is a loss."""
    return Built(nn.Identity(), [layers.count - 1], layers.last)


BUILDERS: dict[str, Callable[[Section, Layers], Built]] = {
    "convolutional": convolutional,
    "maxpool": maxpool,
    "local_avgpool": local_avgpool,
    "avgpool": _avgpool,
    "upsample": _upsample,
    "route": _route,
    "route_lhalf": _route_lhalf,
    "shortcut": _shortcut,
    "scale_channels": _scale_channels,
    "sam": _sam,
    "reorg": _reorg,
    "reorg3d": _reorg,
    "dropout": _dropout,
    "activation": _activate,
    "batchnorm": _batchnorm,
    "contrastive": _pass,
    "empty": _pass,
}


def build_layer(section: Section, layers: Layers) -> Built:
    """The module of a section that is not a head.

    Args:
        section: of a kind in `BUILDERS`.
        layers: those before it.

    Raises:
        InputError: with file, section and line, if its kind, an option or its numbers are not supported or do
            not fit the layers before it.

    >>> pool = Section("maxpool", {"size": "2", "stride": "2"}, 7, "tiny.cfg")
    >>> build_layer(pool, Layers([], [(3, 64, 96)])).shape
    (3, 32, 48)
    """
    for key, harmless in UNSUPPORTED.items():
        if key == "reverse" and section.kind.startswith("reorg"):
            continue
        value = section.options.get(key)
        if value is not None and value != harmless:
            raise section.fail(f"{section.shown(key)} is not supported")
    if section.kind in REFUSED:
        raise section.fail(REFUSED[section.kind])
    if section.kind not in BUILDERS:
        raise section.fail(f"unknown layer: expected one of {', '.join((*BUILDERS, *HEADS))}")
    built = BUILDERS[section.kind](section, layers)
    channels, height, width = built.shape
    if channels * height * width > MOST_VALUES:
        raise section.fail(
            f"its output of {channels} channels of {width}x{height} is too large: expected {MOST_VALUES:,} "
            "numbers or less"
        )
    return built
