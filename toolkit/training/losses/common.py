"""What all losses share: their result, precision, and the best overlap of predicted boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAIRS = 1 << 22  # boxes compared at once; more would only take memory


@dataclass(frozen=True)
class Losses:
    """`total` (scalar, with gradient) is a sum, to be divided by the sum of `positives` over one step of the
    optimiser; `parts` are its summands, without gradient."""

    total: Tensor
    positives: Tensor
    parts: dict[str, Tensor]


def wide(raw: Tensor) -> Tensor:
    """Losses are computed in float32 whatever the network runs in (float64 stays)."""
    return raw if raw.dtype == torch.float64 else raw.float()


def best_overlap(predicted: Tensor, boxes: Tensor, picture: Tensor, inside: bool = False) -> Tensor:
    """(N, K, 4) and (M, 4) cxcywh -> (N, K), the best IoU with a box of the same picture, 0 without any;
    `inside` measures the share of the predicted box that is inside the other instead."""
    n, k, _ = predicted.shape
    best = predicted.new_zeros(n, k)
    low = (predicted[..., :2] - predicted[..., 2:] / 2).unbind(-1)
    high = (predicted[..., :2] + predicted[..., 2:] / 2).unbind(-1)
    area = predicted[..., 2] * predicted[..., 3]
    count = max(1, PAIRS // k)
    for some, where in zip(torch.split(boxes, count), torch.split(picture, count), strict=True):
        centre, half = some[:, :2, None], some[:, 2:, None] / 2
        sides = [
            (
                torch.minimum(high[d][where], centre[:, d] + half[:, d])
                - torch.maximum(low[d][where], centre[:, d] - half[:, d])
            ).clamp_min_(0)
            for d in (0, 1)
        ]
        shared = sides[0].mul_(sides[1])  # (m, K)
        own = area[where]
        whole = own if inside else own + some[:, 2:].prod(1)[:, None] - shared
        overlap = torch.where(shared > 0, shared / whole, 0)
        best.scatter_reduce_(0, where[:, None].expand_as(overlap), overlap, "amax")
    return best
