"""Learning from a larger network as well as from the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from toolkit.models.io import ModelIO
from toolkit.runtime import InputError
from toolkit.training.losses.modern import flatten, pair_iou


def check_teacher(student: ModelIO, teacher: ModelIO) -> None:
    """Raises InputError unless both networks have the same classes, strides and number of anchors a head."""
    if teacher.classes != student.classes:
        raise InputError(
            f"the teacher knows {len(teacher.classes)} classes and the student {len(student.classes)}, "
            "or by other names: a teacher must be trained on the same classes"
        )
    grids = [[(head.stride, len(head.anchors)) for head in io.heads] for io in (student, teacher)]
    if grids[0] != grids[1]:
        raise InputError(
            f"the student's heads (stride, anchors) are {grids[0]}, the teacher's {grids[1]}: they must agree"
        )


def distill_loss(maps: Sequence[Tensor], taught: Sequence[Tensor], io: ModelIO, teacher: ModelIO) -> Tensor:
    """What the student's raw maps `maps` lack to the teacher's `taught`, summed: the objectness everywhere,
    classes and boxes (1 - CIoU) as far as the teacher sees an object there. Anchors may differ, since decoded
    boxes are compared (in the spirit of arXiv:1906.03609)."""
    boxes, logits, _, _ = flatten(maps, io)
    boxes_t, logits_t, _, _ = flatten([m.detach() for m in taught], teacher)
    seen = logits_t[..., 0].sigmoid()
    objectness = F.binary_cross_entropy_with_logits(logits[..., 0], seen, reduction="sum")
    names = F.binary_cross_entropy_with_logits(logits[..., 1:], logits_t[..., 1:].sigmoid(), reduction="none")
    apart = 1 - pair_iou(boxes, boxes_t, "ciou")
    return objectness + (seen * (names.sum(-1) + 5 * apart)).sum()
