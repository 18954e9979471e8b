"""Building blocks of all networks here. Shapes in comments are (N, C, H, W).

Submodules are registered in the order in which darknet stores their weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pointwise(nn.Module):
    """A function without parameters as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def extra_repr(self) -> str:
        return self.function.__name__

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


# darknet's activations that torch does not have, after activations.h
def _hard_mish(x: Tensor) -> Tensor:
    low = x.clamp(-2, 0)
    return x.relu() + low * low / 2 + low


def _loggy(x: Tensor) -> Tensor:
    return 2 * x.sigmoid() - 1


def _ramp(x: Tensor) -> Tensor:
    return x.relu() + 0.1 * x


def _plse(x: Tensor) -> Tensor:
    middle = x.clamp(-4, 4)
    return 0.125 * middle + 0.5 + 0.01 * (x - middle)


def _lhtan(x: Tensor) -> Tensor:
    middle = x.clamp(0, 1)
    return middle + 0.001 * (x - middle)


def _stair(x: Tensor) -> Tensor:
    whole = x.floor()
    odd = whole - 2 * (whole / 2).floor()
    return (x / 2).floor() + odd * (x - whole)


# Keyed by darknet's names.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "logistic": nn.Sigmoid,
    "mish": nn.Mish,
    "swish": nn.SiLU,
    "hardswish": nn.Hardswish,
    "hard_mish": lambda: Pointwise(_hard_mish),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": lambda: nn.GELU("tanh"),
    "tanh": nn.Tanh,
    "hardtan": nn.Hardtanh,
    "relie": lambda: nn.LeakyReLU(0.01),
    "loggy": lambda: Pointwise(_loggy),
    "ramp": lambda: Pointwise(_ramp),
    "plse": lambda: Pointwise(_plse),
    "lhtan": lambda: Pointwise(_lhtan),
    "stair": lambda: Pointwise(_stair),
}


class ConvBNAct(nn.Module):
    """Convolution, batch norm (or a bias, with `norm=False`) and activation: darknet's [convolutional].

    `padding` is size // 2 by default, and in darknet counted in steps of the dilation.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: int = 1,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        activation: str = "relu",
        norm: bool = True,
        padding: int | None = None,
        dilation: int = 1,
    ):
        super().__init__()
        padding = dilation * (size // 2 if padding is None else padding)
        self.conv = nn.Conv2d(c_in, c_out, size, stride, padding, dilation, groups, bias=not norm)
        self.norm = nn.BatchNorm2d(c_out, eps=1e-5) if norm else None
        # PReLU is not in darknet; it is the only activation with weights
        self.act = nn.PReLU(c_out) if activation == "prelu" else ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        y: Tensor = self.act(x)
        return y


def depthwise(channels: int, stride: int = 1, activation: str = "relu") -> ConvBNAct:
    """Depthwise 3x3 convolution."""
    return ConvBNAct(channels, channels, 3, stride, channels, activation)


class LinearBN(nn.Module):
    """Fully connected layer and batch norm: (N, C) -> (N, C_out)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.linear = nn.Linear(c_in, c_out)
        self.norm: nn.BatchNorm1d | None = nn.BatchNorm1d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        if self.norm is not None:
            y = self.norm(y)
        return y


class MaxPool(nn.Module):
    """darknet's [maxpool]. `padding` is the total (size - 1 by default), of which padding // 2 is on the left
    and top; the output side is (side + padding - size) // stride + 1.

    Written with torch's symmetric padding where that gives the same windows: every format has it, and no
    file needs a value below all others, which ncnn's .param cannot hold.
    """

    def __init__(self, size: int, stride: int, padding: int | None = None):
        super().__init__()
        self.size, self.stride = size, stride
        total = size - 1 if padding is None else padding
        left, right = total // 2, total - total // 2
        self.pad, self.mode = (0, 0, 0, 0), "constant"
        self.first = 0  # windows left out at the top and on the left
        if right <= size // 2 and (left == right or stride == 2):
            self.pool = nn.MaxPool2d(size, stride, left, ceil_mode=left < right)
        elif right <= size // 2 and stride == 1:
            self.pool = nn.MaxPool2d(size, 1, right)
            self.first = 1  # it begins one cell further out
        else:
            self.pad = (left, right, left, right)
            # repeating the edge adds nothing to a maximum, as long as every window reaches the picture
            self.mode = "replicate" if right < size else "constant"
            self.pool = nn.MaxPool2d(size, stride)

    def forward(self, x: Tensor) -> Tensor:
        if any(self.pad):
            fill = float("-inf") if self.mode == "constant" else None
            x = F.pad(x, self.pad, mode=self.mode, value=fill)
        y: Tensor = self.pool(x)
        return y[:, :, self.first :, self.first :] if self.first else y


class Shortcut(nn.Module):
    """Sum of feature maps of one spatial size, then an activation: darknet's [shortcut].

    If an input has another number of channels than the first, only the common ones are added
    (yolov3-tiny-prn).
    """

    def __init__(self, activation: str = "linear"):
        super().__init__()
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            c, c_other = x.shape[1], other.shape[1]
            if c == c_other:
                x = x + other
            elif c < c_other:
                x = x + other[:, :c]
            else:
                x = torch.cat((x[:, :c_other] + other, x[:, c_other:]), 1)
        y: Tensor = self.act(x)
        return y


class SqueezeExcite(nn.Module):
    """Channel attention (https://arxiv.org/abs/1709.01507); convolutions with a bias, no batch norm."""

    def __init__(self, channels: int, ratio: int = 2):
        super().__init__()
        squeezed = max(1, channels // ratio)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = ConvBNAct(channels, squeezed, activation="relu", norm=False)
        self.excite = ConvBNAct(squeezed, channels, activation="logistic", norm=False)

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.excite(self.squeeze(self.pool(x)))
        return x * factors  # (N, C, H, W) * (N, C, 1, 1)

    def open(self) -> None:
        """All factors become .95, so that a trained network to which this is added starts as it was."""
        assert self.excite.conv.bias is not None
        nn.init.zeros_(self.excite.conv.weight)
        nn.init.constant_(self.excite.conv.bias, 3.0)


class InvertedResidual(nn.Module):
    """MobileNetV2's block (https://arxiv.org/abs/1801.04381): expand, depthwise 3x3, squeeze-and-excite with
    the ratio `se` unless that is 0 (https://arxiv.org/abs/1905.02244), linear projection, plus the input if
    `residual`."""

    def __init__(
        self,
        c_in: int,
        hidden: int,
        c_out: int,
        activation: str = "relu",
        residual: bool = True,
        stride: int = 1,
        se: int = 0,
    ):
        super().__init__()
        self.expand = ConvBNAct(c_in, hidden, activation=activation)
        self.depthwise = depthwise(hidden, stride, activation)
        self.attention = SqueezeExcite(hidden, se) if se else nn.Identity()
        self.project = ConvBNAct(hidden, c_out, activation="linear")
        self.shortcut = Shortcut() if residual else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.attention(self.depthwise(self.expand(x))))
        if self.shortcut is not None:
            y = self.shortcut(y, x)
        return y


class Stage(nn.Module):
    """Inverted residuals at one resolution; the first may halve it.

    `csp` > 0 adds the cross-stage partial path of the seed (after https://arxiv.org/abs/1911.11929): the
    expanded input, max-pooled with a `csp` x `csp` window, is concatenated with a 1x1 convolution of the
    residuals. `se`: ratio of squeeze-and-excite in the residuals, 0 for none. Returns the output and the
    expanded input, which a head of finer stride concatenates.
    """

    def __init__(
        self,
        c_in: int,
        hidden: int,
        channels: int,
        block_hidden: int,
        repeats: int,
        stride: int,
        csp: int,
        activation: str,
        se: int = 0,
    ):
        super().__init__()
        self.expand = ConvBNAct(c_in, hidden, activation=activation)
        self.depthwise = depthwise(hidden, stride, activation)
        self.project = ConvBNAct(hidden, channels, activation="linear")
        self.blocks = nn.Sequential(
            *(InvertedResidual(channels, block_hidden, channels, activation, se=se) for _ in range(repeats))
        )
        self.merge = ConvBNAct(channels, hidden, activation=activation) if csp else None
        self.pool = MaxPool(csp, stride) if csp else None
        self.out_channels = 2 * hidden if csp else channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.expand(x)  # (N, hidden, H, W)
        x = self.blocks(self.project(self.depthwise(hidden)))  # (N, channels, H / stride, W / stride)
        if self.merge is not None and self.pool is not None:
            x = torch.cat((self.pool(hidden), self.merge(x)), 1)  # (N, 2 hidden, H / stride, W / stride)
        return x, hidden


class SPP(nn.Module):
    """Spatial pyramid pooling: max-pools of the given odd sizes, largest first, and the input itself."""

    def __init__(self, sizes: tuple[int, ...]):
        super().__init__()
        self.pools = nn.ModuleList(MaxPool(size, 1) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*[pool(x) for pool in self.pools][::-1], x], 1)  # (N, C (1 + sizes), H, W)
