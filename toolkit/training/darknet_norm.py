"""Where darknet's layers train differently from torch's: batch norm, channel scaling, the build for a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.models.blocks import ConvBNAct, SqueezeExcite
from toolkit.models.darknet.layers import ScaleChannels
from toolkit.models.darknet.network import CfgDetector


class _Normalise(torch.autograd.Function):
    """(N, C, H, W) -> the same, with darknet's forward and backward.

    normalize_cpu, then mean_delta_cpu, variance_delta_cpu and normalize_delta_cpu: the variance is the
    unbiased one in both directions, but its derivative is taken as if it were the biased one, and one of
    three terms adds eps outside the root. The fork's forward has an eps of 1e-6.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, fork: bool
    ) -> Tensor:
        forward_eps = 1e-6 if fork else eps
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.forward_eps = eps, forward_eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, forward_eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        inverse = torch.rsqrt(var + ctx.eps)
        outside = (torch.sqrt(var) + ctx.eps).reciprocal()
        # torch's formula is w s (g - mean(g) - s^2 (x - mean(x)) mean(g (x - mean(x)))). Of darknet's three
        # terms the first has `outside` for s and the others `inverse`. With the `scale` below for s, and w to
        # match, the first and the third are darknet's; the second then lacks a constant in each channel.
        scale = torch.sqrt(inverse.pow(3) / outside)
        d_x, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight * outside / scale, None, None, mean, scale, True, ctx.eps, [True, True, True]
        )
        rest = weight * (outside - inverse) * d_bias / (x.numel() // x.shape[1])
        # a row of pixels at once: one pixel's channels are too few for the processor's vectors
        d_x += torch.empty_like(d_x[:1, :, :1]).copy_(rest[:, None, None])
        return d_x, d_weight * torch.rsqrt(var + ctx.forward_eps) / scale, d_bias, None, None, None, None


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance (C,) of (N, C, H, W), float32 (of float64: float64), ten times as fast as
    torch.var_mean."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    unused = x.new_zeros(2, x.shape[1], dtype=kind)  # running statistics, which decide the result's type
    mean, var = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
    count = x.numel() // x.shape[1]
    return mean, var * (count / (count - 1))


class DarknetBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that trains as darknet's does (running statistics .9 / .1, as torch's) and evaluates as
    torch's. `fork`: the arithmetic of the seed's build, else today's."""

    fork = False

    def forward(self, input: Tensor) -> Tensor:
        if (
            not self.training or input.numel() == input.shape[1]
        ):  # one value has no variance: torch's own error
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            mean, var = statistics(input)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var, self.momentum)
            self.num_batches_tracked += 1
        result: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, mean, var, self.eps, self.fork
        )
        return result


class _ShareGradient(torch.autograd.Function):
    """Factors as they are; their gradient is divided by the number of pixels that each one scaled."""

    @staticmethod
    def forward(ctx: Any, factors: Tensor, pixels: int) -> Tensor:
        ctx.pixels = pixels
        return factors.view_as(factors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] / ctx.pixels, None


def _shared(factors: Tensor, x: Tensor) -> Tensor:
    pixels = x.shape[2] * x.shape[3]
    result: Tensor = _ShareGradient.apply(factors, pixels)  # type: ignore[no-untyped-call]
    return result


class DarknetSqueezeExcite(SqueezeExcite):
    """backward_scale_channels_layer gives the factors a mean over the map; their gradient is the sum."""

    def forward(self, x: Tensor) -> Tensor:
        return x * _shared(self.excite(self.squeeze(self.pool(x))), x)


class DarknetScaleChannels(ScaleChannels):
    """The same for a network made from a cfg; with scale_wh darknet's is the sum, too."""

    def forward(self, factors: Tensor, x: Tensor) -> Tensor:
        return super().forward(_shared(factors, x) if factors.shape[2:] == (1, 1) else factors, x)


TRAINS_AS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: DarknetBatchNorm2d,
    SqueezeExcite: DarknetSqueezeExcite,
    ScaleChannels: DarknetScaleChannels,
}


def use_darknet_norm(model: nn.Module, fork: bool = True) -> nn.Module:
    """Let the batch norms and squeeze-and-excites of `model` train with darknet's arithmetic, in place.

    Parameters, buffers, state_dict keys and what the network computes in evaluation stay. `fork`: the seed's
    build, else today's. -> `model`.
    """
    for module in model.modules():
        replacement = TRAINS_AS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
        if isinstance(module, DarknetBatchNorm2d):
            module.fork = fork
    return model


def cpu_build_forward(model: CfgDetector, x: Tensor) -> list[Tensor]:
    """The raw maps, with the gradients of darknet built for a CPU, for comparison with it only.

    There a convolution's backward pass overwrites the gradient of its input (col2im_cpu_ext) where it should
    add to it, so a layer's output hears only of its first convolution and of readers before that one: skip
    connections pass nothing back. Nor are the biases of batch norms updated. Builds for a GPU, which trained
    every published network, have neither fault.
    """
    first: dict[int, int] = {}  # layer -> the first convolution that reads it
    for i, (layer, sources) in enumerate(zip(model.layers, model.sources, strict=True)):
        if isinstance(layer, ConvBNAct):
            first.setdefault(sources[0], i)
    outputs = {-1: x}
    for i, (layer, sources) in enumerate(zip(model.layers, model.sources, strict=True)):
        outputs[i] = layer(*(outputs[s].detach() if i > first.get(s, i) else outputs[s] for s in sources))
    return [outputs[i] for i in model.heads]
