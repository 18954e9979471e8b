"""darknet's batch norm in training, which is not quite torch's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Normalise(torch.autograd.Function):
    """(N, C, H, W) -> the same, with darknet's forward and backward.

    mean_cpu, variance_cpu, normalize_cpu, then mean_delta_cpu, variance_delta_cpu, normalize_delta_cpu:
    the variance is the unbiased one (N H W - 1) in both directions, but its derivative is taken as if it were
    the biased one. The fork divides by sqrt(var) + 1e-6 forward and by sqrt(var + 1e-5) backward.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, fork: bool
    ) -> Tensor:
        std = torch.sqrt(var) + 1e-6 if fork else torch.sqrt(var + eps)
        ctx.save_for_backward(x, weight, mean, var, std)
        ctx.eps = eps
        return F.batch_norm(x, mean, std * std, weight, bias, False, 0.0, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, std = ctx.saved_tensors
        inverse = torch.rsqrt(var + ctx.eps)
        # torch's formula, given the mean and 1 / std to use, is darknet's.
        d_x, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight, None, None, mean, inverse, True, ctx.eps, [True, True, True]
        )
        return d_x, d_weight / (inverse * std), d_bias, None, None, None, None


class DarknetBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that trains as darknet's does; the same in evaluation, and the same state_dict keys.

    `fork` is the arithmetic of the seed's build, otherwise today's. darknet built for a CPU leaves the biases
    of its batch norms without a gradient, built for a GPU it does not: as here.
    """

    fork = False

    def forward(self, input: Tensor) -> Tensor:
        count = input.numel() // input.shape[1]
        if not self.training or count < 2:  # one value has no variance: torch's own error
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            wide = input if input.dtype == torch.float64 else input.float()
            var, mean = torch.var_mean(wide, (0, 2, 3))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1
        return _Normalise.apply(input, self.weight, self.bias, mean, var, self.eps, self.fork)  # type: ignore[no-any-return]


def use_darknet_norm(model: nn.Module, fork: bool = True) -> nn.Module:
    """Replace every BatchNorm2d below `model` by one that trains as darknet's; parameters, buffers and
    state_dict keys stay. Call it before an optimiser or a wrapper takes the model. -> `model`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                norm = DarknetBatchNorm2d(child.num_features, child.eps, child.momentum)
                norm.weight, norm.bias = child.weight, child.bias
                norm.running_mean, norm.running_var = child.running_mean, child.running_var
                norm.num_batches_tracked = child.num_batches_tracked
                norm.fork = fork
                setattr(parent, name, norm.train(child.training))
    return model
