"""[convolutional] and the pooling layers of a cfg, after parse_convolutional, parse_maxpool and
parse_local_avgpool."""

from __future__ import annotations

from torch import nn

from toolkit.models.blocks import ConvBNAct, MaxPool
from toolkit.models.bounds import LARGEST_WINDOW, MOST_WEIGHTS
from toolkit.models.darknet.cfg import Section
from toolkit.models.darknet.heads import Shape
from toolkit.models.darknet.layers import Blur, DepthMaxPool, LocalAvgPool, SharedConv
from toolkit.models.darknet.wiring import Built, Layers, activation_of, layer_named

MOST_FILTERS = 65_536


def _strides(section: Section) -> tuple[int, int]:
    """Strides down and across."""
    stride = section.integer("stride", 1, low=1, high=LARGEST_WINDOW)
    x, y = (section.integer(key, -1, high=LARGEST_WINDOW) for key in ("stride_x", "stride_y"))
    return (y if y > 0 else stride), (x if x > 0 else stride)


def _pooled(section: Section, side: int, size: int, stride: int, padding: int) -> int:
    result = (side + padding - size) // stride + 1
    if result < 1:
        raise section.fail(f"size={size} is larger than its input of {side} with a padding of {padding}")
    return result


def _blurred(section: Section, shape: Shape, strides: tuple[int, int]) -> tuple[Blur, Shape]:
    """What antialiasing= adds behind a layer, and its output."""
    c, h, w = shape
    kind = section.integer("antialiasing")
    size, padding = (2, 0) if kind == 2 else (3, 2)
    out_h, out_w = (
        _pooled(section, h, size, strides[0], padding),
        _pooled(section, w, size, strides[1], padding),
    )
    return Blur(c, kind, strides), (c, out_h, out_w)


def convolutional(section: Section, layers: Layers) -> Built:
    c, h, w = layers.last
    size = section.integer("size", 1, low=1, high=LARGEST_WINDOW)
    filters = section.integer("filters", 1, low=1, high=MOST_FILTERS)
    groups, strides = section.integer("groups", 1, low=1), _strides(section)
    dilation = section.integer("dilation", 1, low=1, high=LARGEST_WINDOW) if size > 1 else 1
    padding = section.integer("padding", 0, low=0, high=LARGEST_WINDOW)
    pad = size // 2 if section.integer("pad", 0) else padding
    if c % groups or filters % groups:
        raise section.fail(f"filters={filters} groups={groups} size={size} do not fit {c} input channels")
    floats = filters * (c // groups) * size**2
    if floats > MOST_WEIGHTS:
        raise section.fail(
            f"filters={filters} size={size} need {floats:,} weights for {c} input channels: expected "
            f"{MOST_WEIGHTS:,} or less"
        )
    if dilation > 1 and 2 * pad != size - 1:
        raise section.fail(
            f"dilation={dilation} with size={size} and a padding of {pad} is not supported: expected an odd "
            "size with pad=1"
        )
    norm = bool(section.integer("batch_normalize", 0) or section.integer("cbn", 0))
    antialiasing = bool(section.integer("antialiasing", 0))
    step = (1, 1) if antialiasing else strides
    make = SharedConv if "share_index" in section.options else ConvBNAct
    module = make(c, filters, size, step, groups, activation_of(section, "logistic"), norm, pad, dilation)
    if isinstance(module, SharedConv):
        module.share(_shared(section, layers, module))
    shape = (
        filters,
        _pooled(section, h, size, step[0], 2 * pad),
        _pooled(section, w, size, step[1], 2 * pad),
    )
    if antialiasing:
        blur, shape = _blurred(section, shape, strides)
        return Built(nn.Sequential(module, blur), [layers.count - 1], shape, max(strides))
    return Built(module, [layers.count - 1], shape, max(strides))


def _shared(section: Section, layers: Layers, module: ConvBNAct) -> ConvBNAct:
    """The convolution that share_index= names, checked to fit."""
    index = layer_named(section, "share_index", section.integer("share_index"), layers)
    other = layers.modules[index]
    if isinstance(other, nn.Sequential):
        other = other[0]
    if (
        not isinstance(other, ConvBNAct)
        or other.conv.weight.shape != module.conv.weight.shape
        or (other.norm is None) != (module.norm is None)
    ):
        raise section.fail(
            f"{section.shown('share_index')} names layer {index}: expected a [convolutional] "
            "with its filters, size, groups, batch_normalize and input channels"
        )
    return other


def maxpool(section: Section, layers: Layers) -> Built:
    c, h, w = layers.last
    if section.integer("maxpool_depth", 0):
        out = section.integer("out_channels", 1, low=1)
        if c % out:
            raise section.fail(f"out_channels={out} does not divide its {c} input channels")
        return Built(DepthMaxPool(out), [layers.count - 1], (out, h, w))
    size, stride, padding = _window(section)
    antialiasing = bool(section.integer("antialiasing", 0))
    step = 1 if antialiasing else stride
    pool = MaxPool(size, step, None if padding == size - 1 else padding)
    shape = (c, _pooled(section, h, size, step, padding), _pooled(section, w, size, step, padding))
    if antialiasing:
        blur, shape = _blurred(section, shape, (stride, stride))
        return Built(nn.Sequential(pool, blur), [layers.count - 1], shape, stride)
    return Built(pool, [layers.count - 1], shape, stride)


def _window(section: Section) -> tuple[int, int, int]:
    """Size, stride and total padding of a pooling layer."""
    down, across = _strides(section)
    if down != across:
        raise section.fail(f"stride_x={across} stride_y={down}: pooling with two strides is not supported")
    size = section.integer("size", section.integer("stride", 1), low=1, high=LARGEST_WINDOW)
    padding = section.integer("padding", size - 1, low=0, high=LARGEST_WINDOW)
    if padding - padding // 2 >= size > 1 or (size == 1 and padding):
        raise section.fail(f"padding={padding} is too large for size={size}: some windows would be empty")
    return size, down, padding


def local_avgpool(section: Section, layers: Layers) -> Built:
    c, h, w = layers.last
    size, stride, padding = _window(section)
    shape = (c, _pooled(section, h, size, stride, padding), _pooled(section, w, size, stride, padding))
    return Built(LocalAvgPool(size, stride, padding), [layers.count - 1], shape, stride)
