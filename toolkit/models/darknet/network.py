"""A darknet cfg as a torch network, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from toolkit.models.blocks import ACTIVATIONS, ConvBNAct, MaxPool, Shortcut
from toolkit.models.darknet.cfg import Section, parse_cfg, read_names
from toolkit.models.darknet.weights import load_weights
from toolkit.models.detector import Detector
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError


class Concat(nn.Module):
    """darknet's [route]: feature maps concatenated; with `groups`, only group `group_id` of each."""

    def __init__(self, groups: int = 1, group_id: int = 0):
        super().__init__()
        self.groups, self.group_id = groups, group_id

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.groups > 1:
            inputs = tuple(x.chunk(self.groups, 1)[self.group_id] for x in inputs)
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)


class ScaleChannels(nn.Module):
    """darknet's [scale_channels]: the maps of `from` times one factor per channel, then an activation."""

    def __init__(self, activation: str = "linear"):
        super().__init__()
        self.act = ACTIVATIONS[activation]()

    def forward(self, factors: Tensor, x: Tensor) -> Tensor:
        scaled: Tensor = self.act(x * factors)  # (N, C, H, W) * (N, C, 1, 1)
        return scaled


class Built(NamedTuple):
    """A layer of a cfg."""

    module: nn.Module
    sources: list[int]  # indices of its input layers, -1 for the input of the network
    shape: tuple[int, int, int]  # channels, height, width


class CfgDetector(Detector):
    """A network built layer by layer from a cfg; `layers[i]` is darknet's layer i."""

    def __init__(self, sections: list[Section], classes: tuple[str, ...] | None = None):
        super().__init__()
        net = sections[0]
        self.sections = sections
        self.layers = nn.ModuleList()
        self.sources: list[list[int]] = []
        shape = (net.integer("channels", 3), net.integer("height"), net.integer("width"))
        if shape[0] != 3:
            raise net.fail(f"channels={shape[0]}, expected 3 (RGB)")
        self.input_size = (shape[2], shape[1])
        shapes = [shape]  # shapes[i + 1] is the output of layer i
        strides = [1]  # in the same order
        heads: list[tuple[int, HeadIO]] = []
        class_counts = set()
        for i, section in enumerate(sections[1:]):
            if section.kind == "yolo":
                heads.append((i, _head(section, shapes[-1], self.input_size)))
                class_counts.add(section.integer("classes", 20))
                built = Built(nn.Identity(), [i - 1], shapes[-1])
            else:
                built = _build(section, i, shapes)
            self.layers.append(built.module)
            self.sources.append(built.sources)
            shapes.append(built.shape)
            stride = strides[built.sources[0] + 1]
            if section.kind == "upsample":
                stride //= section.integer("stride", 2)
            elif section.kind in ("convolutional", "maxpool"):
                stride *= section.integer("stride", 1)
            strides.append(stride)
        if not heads:
            raise InputError(f"{net.source} has no [yolo] section: expected a YOLO detector")
        if len(class_counts) > 1:
            raise InputError(
                f"{net.source}: its [yolo] sections have different classes=: {sorted(class_counts)}"
            )
        count = class_counts.pop()
        if classes is not None and len(classes) != count:
            raise InputError(f"{net.source} has classes={count}, but there are {len(classes)} class names")
        heads.sort(key=lambda head: -head[1].stride)
        self.heads = [i for i, _ in heads]
        names = classes or tuple(f"class{i}" for i in range(count))
        self.io = ModelIO(self.input_size, names, tuple(head for _, head in heads), max(strides))
        self.io.check_size(self.input_size)
        self.last_use = {source: i for i, sources in enumerate(self.sources) for source in sources}

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = {-1: x}
        for i, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            outputs[i] = layer(*(outputs[source] for source in sources))
            for source in sources:
                if self.last_use[source] == i and source not in self.heads:
                    outputs.pop(source, None)
        return [outputs[i] for i in self.heads]


def _head(section: Section, shape: tuple[int, int, int], input_size: tuple[int, int]) -> HeadIO:
    numbers = section.reals("anchors")
    if len(numbers) % 2:
        raise section.fail(f"anchors= has {len(numbers)} numbers, expected pairs of width and height")
    anchors = list(zip(numbers[::2], numbers[1::2], strict=True))
    if section.integer("num", len(anchors)) != len(anchors):
        raise section.fail(f"num={section.options['num']}, but anchors= has {len(anchors)} pairs")
    mask = section.integers("mask") or list(range(len(anchors)))
    if any(not 0 <= m < len(anchors) for m in mask):
        raise section.fail(f"mask={section.options['mask']} points beyond the {len(anchors)} anchors")
    expected = len(mask) * (5 + section.integer("classes", 20))
    if shape[0] != expected:
        raise section.fail(
            f"{len(mask)} anchors and its classes need {expected} channels, but its input has {shape[0]}"
        )
    return HeadIO(
        stride=input_size[0] // shape[2],
        anchors=tuple(anchors[m] for m in mask),
        scale_x_y=section.real("scale_x_y", 1.0),
        new_coords=bool(section.integer("new_coords", 0)),
    )


# Options that change the result of a layer and are not implemented here: refused, not ignored.
UNSUPPORTED = {
    "dilation": "1",
    **dict.fromkeys(("antialiasing", "binary", "xnor", "share_index", "maxpool_depth", "reverse"), "0"),
    **dict.fromkeys(("rotate", "stretch", "stretch_sway", "sway", "deform", "assisted_excitation"), "0"),
    **dict.fromkeys(("stride_x", "stride_y"), None),
}


def _build(section: Section, i: int, shapes: list[tuple[int, int, int]]) -> Built:
    """Module, sources and output shape of layer i; shapes[k + 1] is the output of layer k."""
    c, h, w = shapes[-1]
    for key, harmless in UNSUPPORTED.items():
        value = section.options.get(key)
        if value is not None and value != harmless:
            raise section.fail(f"{key}={value} is not supported")
    activation = section.options.get(
        "activation", "logistic" if section.kind == "convolutional" else "linear"
    )
    if activation not in ACTIVATIONS:
        raise section.fail(f"unknown activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")

    def sources(key: str) -> list[int]:
        values = section.integers(key)
        if not values:
            raise section.fail(f"{key}= names no layer")
        layers = [value if value >= 0 else i + value for value in values]
        for value, layer in zip(values, layers, strict=True):
            if not 0 <= layer < i:
                raise section.fail(
                    f"{key}={value} means layer {layer}, expected one of the layers 0 to {i - 1} before it"
                )
        return layers

    def pooled(side: int, size: int, stride: int, padding: int) -> int:
        result = (side + padding - size) // stride + 1
        if result < 1:
            raise section.fail(f"size={size} is larger than its input of {w}x{h}")
        return result

    match section.kind:
        case "convolutional":
            size, stride = section.integer("size", 1), section.integer("stride", 1)
            filters, groups = section.integer("filters", 1), section.integer("groups", 1)
            pad = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
            if min(size, stride, filters, groups) < 1 or c % groups or filters % groups:
                raise section.fail(
                    f"filters={filters} groups={groups} size={size} do not fit {c} input channels"
                )
            norm = bool(section.integer("batch_normalize", 0))
            module = ConvBNAct(c, filters, size, stride, groups, activation, norm, pad)
            shape = (filters, pooled(h, size, stride, 2 * pad), pooled(w, size, stride, 2 * pad))
            return Built(module, [i - 1], shape)
        case "maxpool":
            stride = section.integer("stride", 1)
            size = section.integer("size", stride)
            padding = section.integer("padding", size - 1)
            default = None if padding == size - 1 else padding
            shape = (c, pooled(h, size, stride, padding), pooled(w, size, stride, padding))
            return Built(MaxPool(size, stride, default), [i - 1], shape)
        case "avgpool":
            return Built(nn.AdaptiveAvgPool2d(1), [i - 1], (c, 1, 1))
        case "upsample":
            stride = section.integer("stride", 2)
            if section.real("scale", 1) != 1 or stride < 1:
                raise section.fail("only upsampling by an integer stride with scale=1 is supported")
            return Built(
                nn.Upsample(scale_factor=float(stride), mode="nearest"), [i - 1], (c, h * stride, w * stride)
            )
        case "route":
            inputs = sources("layers")
            groups, group = section.integer("groups", 1), section.integer("group_id", 0)
            parts = [shapes[k + 1] for k in inputs]
            if len({s[1:] for s in parts}) > 1:
                raise section.fail(f"its inputs differ in size: {', '.join(f'{s[2]}x{s[1]}' for s in parts)}")
            if not 0 <= group < groups or any(s[0] % groups for s in parts):
                raise section.fail(f"groups={groups} group_id={group} do not divide its input channels")
            return Built(Concat(groups, group), inputs, (sum(s[0] // groups for s in parts), *parts[0][1:]))
        case "shortcut":
            if section.options.get("weights_type", "none") != "none":
                raise section.fail(f"weights_type={section.options['weights_type']} is not supported")
            inputs = sources("from")
            for k in inputs:
                if shapes[k + 1][1:] != (h, w):
                    raise section.fail(
                        f"layer {k} gives {shapes[k + 1][2]}x{shapes[k + 1][1]}, expected {w}x{h} here"
                    )
            return Built(Shortcut(activation), [i - 1, *inputs], (c, h, w))
        case "scale_channels":
            inputs = sources("from")
            target = shapes[inputs[0] + 1]
            if section.integer("scale_wh", 0) or (h, w) != (1, 1) or target[0] != c:
                raise section.fail(f"expected {target[0]} factors of 1x1, found {c} of {w}x{h}")
            return Built(ScaleChannels(activation), [i - 1, inputs[0]], target)
        case "dropout":
            return Built(nn.Dropout(section.real("probability", 0.5)), [i - 1], (c, h, w))
    raise section.fail(
        "unknown layer: expected one of convolutional, maxpool, avgpool, upsample, route, shortcut, "
        "scale_channels, dropout, yolo"
    )


def load_darknet(
    cfg: str | Path, weights: str | Path | None = None, names: str | Path | None = None
) -> CfgDetector:
    """Load any darknet detector; layers as in AlexeyAB's darknet (parser.c).

    Args:
        cfg: the .cfg file. Options that change a layer and are not supported are refused.
        weights: the .weights file; None for random weights.
        names: file with a class name per line; None for class0, class1, ...

    Returns:
        The network in evaluation mode. `layers[i]` is darknet's layer i; `forward` maps (N, 3, H, W) in 0..1
        to raw head maps, coarsest first.

    Raises:
        InputError: with file, line and reason, if a file cannot be read or does not fit.

    >>> import tempfile
    >>> text = "[net]\\nwidth=64\\nheight=64\\n[convolutional]\\nfilters=7\\nsize=3\\nstride=32\\npad=1\\n"
    >>> text += "activation=linear\\n[yolo]\\nanchors=16,32\\nclasses=2\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "tiny.cfg").write_text(text)
    ...     model = load_darknet(Path(folder, "tiny.cfg"))
    >>> [tuple(maps.shape) for maps in model(torch.zeros(1, 3, 64, 64))]
    [(1, 7, 2, 2)]
    """
    model = CfgDetector(parse_cfg(cfg), read_names(names) if names else None)
    if weights is not None:
        load_weights(model, weights)
    return model.eval()
