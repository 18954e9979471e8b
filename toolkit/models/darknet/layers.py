"""The layers of darknet that no other network here has. Shapes in comments are (N, C, H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.models.blocks import ACTIVATIONS, ConvBNAct


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
    """darknet's [scale_channels]: the maps of `from` times one factor per channel, or with scale_wh one per
    pixel, then an activation."""

    def __init__(self, activation: str = "linear"):
        super().__init__()
        self.act = ACTIVATIONS[activation]()

    def forward(self, factors: Tensor, x: Tensor) -> Tensor:
        scaled: Tensor = self.act(x * factors)  # (N, C, H, W) * (N, C, 1, 1) or (N, 1, H, W)
        return scaled


class Sam(ScaleChannels):
    """darknet's [sam], spatial attention (https://arxiv.org/abs/1807.06521): two maps multiplied value by
    value, then an activation."""


class Reorg(nn.Module):
    """darknet's [reorg] and [reorg3d]: each cell of stride x stride becomes a pixel with as many times the
    channels.

    reorg_cpu reads the C x H x W values as a map of C / stride^2 channels with sides longer by `stride`, and
    only with [reorg3d] these are the map's own: there the neighbours of a pixel go to channels of their own.
    YOLOv2 is trained with the other order. On the way back it is [reorg3d] that reads another map.

    Args:
        stride: side of a cell.
        cubic: [reorg3d].
        reverse: the way back, from channels to pixels.
    """

    def __init__(self, stride: int, cubic: bool = False, reverse: bool = False):
        super().__init__()
        self.stride, self.cubic, self.reverse = stride, cubic, reverse

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        n, c, h, w = x.shape
        # One permutation of four axes behind the batch, as many as ncnn has: rows of all channels, row in the
        # cell, columns, column in the cell.
        if self.reverse:
            columns = w * s if self.cubic else w
            cells = x.reshape(n, s, s, -1, columns).permute(0, 3, 1, 4, 2)
            return cells.reshape(n, c // s**2, h * s, w * s)
        columns = w // s if self.cubic else w
        cells = x.reshape(n, -1, s, columns, s).permute(0, 2, 4, 1, 3)
        return cells.reshape(n, c * s**2, h // s, w // s)


class LocalAvgPool(nn.Module):
    """darknet's [local_avgpool]: means of windows. `padding` is the total, of which padding // 2 is on the
    left and top; what is outside the map does not count."""

    def __init__(self, size: int, stride: int, padding: int):
        super().__init__()
        self.size, self.stride = size, stride
        left, right = padding // 2, padding - padding // 2
        self.pad = (0, 0, 0, 0)
        if right <= size // 2 and left == right:
            self.pool = nn.AvgPool2d(size, stride, left, count_include_pad=False)
        elif left == 0 and right < stride and right == size - 1:
            # torch's last window may reach over the edge
            self.pool = nn.AvgPool2d(size, stride, 0, ceil_mode=True, count_include_pad=False)
        else:
            self.pad = (left, right, left, right)
            self.pool = nn.AvgPool2d(size, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pool(F.pad(x, self.pad) if any(self.pad) else x)
        if any(self.pad):  # the share of each window that is inside
            y = y / self.pool(F.pad(torch.ones_like(x[:1, :1]), self.pad))
        return y


class DepthMaxPool(nn.Module):
    """darknet's [maxpool] with maxpool_depth: the largest of the channels g, g + out_channels, ..."""

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        return x.reshape(n, -1, self.out_channels, h, w).amax(1)


class Blur(nn.Module):
    """What follows a layer with antialiasing= (https://arxiv.org/abs/1904.11486), which itself has stride 1:
    a 3x3 binomial filter, or with antialiasing=2 a mean of 2x2, with the stride of the layer."""

    kernel: Tensor

    def __init__(self, channels: int, kind: int, stride: tuple[int, int]):
        super().__init__()
        row = torch.tensor([0.5, 0.5] if kind == 2 else [0.25, 0.5, 0.25])
        kernel = torch.outer(row, row).expand(channels, 1, -1, -1).clone()
        self.register_buffer("kernel", kernel, persistent=False)
        self.stride, self.padding = stride, 0 if kind == 2 else 1

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, None, self.stride, self.padding, groups=len(self.kernel))


class WeightedShortcut(nn.Module):
    """darknet's [shortcut] with weights_type: a weighted sum of feature maps of one size, then an activation.

    Args:
        inputs: number of maps.
        channels: of the first map; the others add the channels that it has too.
        per_channel: a weight per map and channel, else one per map.
        normalization: "none"; "relu" or "softmax": the weights of a channel share 1 (less, by 1e-4).
        activation: as of a convolution.
    """

    def __init__(
        self, inputs: int, channels: int, per_channel: bool, normalization: str, activation: str = "linear"
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inputs, channels if per_channel else 1))
        self.normalization = normalization
        self.act = ACTIVATIONS[activation]()

    def forward(self, *inputs: Tensor) -> Tensor:
        weight: Tensor = self.weight
        if self.normalization == "relu":
            weight = weight.relu() / (weight.relu().sum(0) + 1e-4)
        elif self.normalization == "softmax":
            powers = (weight - weight.amax(0)).exp()
            weight = powers / (powers.sum(0) + 1e-4)
        factors = weight.expand(-1, inputs[0].shape[1])[:, None, :, None, None]  # (inputs, 1, C, 1, 1)
        y = inputs[0] * factors[0]
        for other, factor in zip(inputs[1:], factors[1:], strict=True):
            c, c_other = y.shape[1], other.shape[1]
            if c_other >= c:
                y = y + other[:, :c] * factor
            else:
                y = torch.cat((y[:, :c_other] + other * factor[:, :c_other], y[:, c_other:]), 1)
        result: Tensor = self.act(y)
        return result


class SharedConv(ConvBNAct):
    """A [convolutional] with share_index: weights, bias and batch norm are another layer's, and are not in a
    weights file again; stride, dilation and activation are its own."""

    def share(self, other: ConvBNAct) -> None:
        self.conv.weight, self.conv.bias, self.norm = other.conv.weight, other.conv.bias, other.norm
