"""Losses on the points of landmark networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.models.io import LandmarkIO
from toolkit.training.losses.common import Losses

if TYPE_CHECKING:
    from toolkit.training.landmarks import FaceBatch

LOSSES = ("wing", "smooth-l1", "gaussian")
WING, CURVATURE = 10.0, 2.0  # px of the cut: width and curvature of the wing loss


def landmark_loss(outputs: Sequence[Tensor], batch: FaceBatch, io: LandmarkIO, kind: str) -> Losses:
    """The sum over the faces of the mean over their labelled points, with distances in px of the cut.

    "wing": logarithmic within 10 px and linear beyond, for x and y each (Feng et al., arXiv:1711.06753).
    "smooth-l1": quadratic within 1 px. "gaussian": minus the logarithm of a normal density around each point,
    whose spread the network gives beside it, so that points it cannot know weigh less (Kendall and Gal,
    arXiv:1703.04977), times that spread, without which hard points are given up (Seitzer et al.,
    arXiv:2203.09168).
    """
    side = torch.tensor(io.input_size, device=outputs[0].device)
    apart = (outputs[0].float().view(-1, io.points, 2) - batch.points) * side
    if kind == "wing":
        far = apart.abs()
        offset = WING - WING * math.log(1 + WING / CURVATURE)
        near = WING * torch.log1p(far / CURVATURE)
        each = torch.where(far < WING, near, far - offset).mean(2)
    elif kind == "smooth-l1":
        each = F.smooth_l1_loss(apart, torch.zeros_like(apart), reduction="none").mean(2)
    else:
        spread = outputs[1].float().clamp(-3, 5)  # logarithm of px
        each = apart.square().sum(2) * torch.exp(-2 * spread) / 2 + 2 * spread
        each = each * spread.detach().exp()
    known = batch.labelled
    total = ((each * known).sum(1) / known.sum(1).clamp_min(1)).sum()
    return Losses(total, torch.tensor(float(len(known)), device=total.device), {kind: total.detach()})
