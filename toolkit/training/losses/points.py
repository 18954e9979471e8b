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
from toolkit.training.recipe import LandmarkLoss

if TYPE_CHECKING:
    from toolkit.training.landmarks import FaceBatch

WING, CURVATURE = 10.0, 2.0  # px of the cut: width and curvature of the wing loss


def landmark_loss(outputs: Sequence[Tensor], batch: FaceBatch, io: LandmarkIO, kind: LandmarkLoss) -> Losses:
    """The sum over the faces of the mean over their labelled points, with distances in px of the cut.

    "wing": logarithmic within 10 px and linear beyond, for x and y each (Feng et al., arXiv:1711.06753).
    "smooth-l1": quadratic within 1 px. "gaussian": minus the logarithm of a normal density around each point,
    whose spread is the network's second output, so that points it cannot know weigh less (Kendall and Gal,
    arXiv:1703.04977), times that spread, without which hard points are given up (Seitzer et al.,
    arXiv:2203.09168).
    """
    sides = torch.tensor(io.input_size, device=outputs[0].device)
    offsets = (outputs[0].float().view(-1, io.points, 2) - batch.points) * sides  # (N, P, 2) px
    if kind == "wing":
        lengths = offsets.abs()
        constant = WING - WING * math.log(1 + WING / CURVATURE)  # joins both branches
        near = WING * torch.log1p(lengths / CURVATURE)
        errors = torch.where(lengths < WING, near, lengths - constant).mean(2)
    elif kind == "smooth-l1":
        errors = F.smooth_l1_loss(offsets, torch.zeros_like(offsets), reduction="none").mean(2)
    else:
        spread = outputs[1].float().clamp(-3, 5)  # logarithm of px
        errors = offsets.square().sum(2) * torch.exp(-2 * spread) / 2 + 2 * spread
        errors = errors * spread.detach().exp()
    labelled = batch.labelled
    total = ((errors * labelled).sum(1) / labelled.sum(1).clamp_min(1)).sum()
    return Losses(total, torch.tensor(float(len(labelled)), device=total.device), {kind: total.detach()})
