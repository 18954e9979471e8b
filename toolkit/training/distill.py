"""Learning from a larger network as well as from the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from toolkit.data.class_names import compare_classes
from toolkit.models.io import ModelIO
from toolkit.runtime import InputError
from toolkit.training.losses.modern import flatten, pair_iou


def check_teacher(student: ModelIO, teacher: ModelIO) -> None:
    """Raises InputError unless both networks have the same classes, strides and number of anchors a head."""
    if teacher.classes != student.classes:
        names = ("the teacher", "the student")
        differences = compare_classes(teacher.classes, student.classes).sentences(*names)
        raise InputError(
            f"the teacher has {len(teacher.classes)} classes and the student {len(student.classes)}, or they "
            "differ in names or order: a teacher must be trained on the same classes"
            + "".join(f"; {sentence}" for sentence in differences)
        )
    grids = [[(head.stride, len(head.anchors)) for head in io.heads] for io in (student, teacher)]
    if grids[0] != grids[1]:
        raise InputError(
            f"the heads (stride, anchors) of the student are {grids[0]} and of the teacher {grids[1]}: they "
            "must agree, choose a teacher of the same family"
        )


def distill_loss(
    maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], io: ModelIO, teacher: ModelIO
) -> Tensor:
    """How far the student's raw maps are from the teacher's, summed over the batch.

    The objectness counts everywhere, classes and boxes (1 - CIoU) in proportion to the teacher's objectness.
    Decoded boxes are compared, so anchors may differ (in the spirit of arXiv:1906.03609).
    """
    boxes, logits, _, _ = flatten(maps, io)
    teacher_boxes, teacher_logits, _, _ = flatten([m.detach() for m in teacher_maps], teacher)
    seen = teacher_logits[..., 0].sigmoid()
    objectness = F.binary_cross_entropy_with_logits(logits[..., 0], seen, reduction="sum")
    classes = F.binary_cross_entropy_with_logits(
        logits[..., 1:], teacher_logits[..., 1:].sigmoid(), reduction="none"
    )
    box_errors = 1 - pair_iou(boxes, teacher_boxes, "ciou")
    return objectness + (seen * (classes.sum(-1) + 5 * box_errors)).sum()
