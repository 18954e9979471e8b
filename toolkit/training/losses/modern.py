"""The modern recipe's loss over the network's own anchors, so that what is exported does not change: three
assigners, boxes by autograd, objectness that learns the overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.models.decode import box_numbers, confidences, decode_boxes
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError
from toolkit.training.assign import IOU_KINDS, YoloLayer, darknet_matches, own_cells, shape_iou
from toolkit.training.losses.common import Losses, best_overlap, wide

ASSIGNERS = ("anchor", "simota", "tal")
SHAPE_IOU = 0.2  # least overlap of widths and heights of an anchor that may answer for a truth
ANCHOR_IOU = 0.5  # the same for "anchor", where shape alone decides
TOP = 10  # "simota": best overlaps that decide how many answer; "tal": how many answer
ALPHA, BETA = 1.0, 6.0  # "tal": powers of score and overlap (arXiv:2108.07755)
CAP = 8.0  # of tw and th: boxes of 3,000 anchors
LEAST_WEIGHT = 0.1  # "tal": so that an object which nothing sees yet teaches something


def pair_iou(a: Tensor, b: Tensor, kind: str = "iou") -> Tensor:
    """Overlap of broadcast boxes cxcywh (..., 4) -> (...): "iou", "giou", "diou" or "ciou"
    (arXiv:1902.09630, arXiv:1911.08287; CIoU's trade-off without gradient, as its paper has it)."""
    if kind not in IOU_KINDS:
        raise InputError(f"unknown overlap {kind!r}: expected {', '.join(IOU_KINDS)}")
    low_a, high_a = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    low_b, high_b = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    shared = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp_min(0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    iou = shared / union.clamp_min(1e-12)
    if kind == "iou":
        return iou
    hull = torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)
    if kind == "giou":
        area = hull.prod(-1).clamp_min(1e-12)
        return iou - (area - union) / area
    distance = (a[..., :2] - b[..., :2]).square().sum(-1) / hull.square().sum(-1).clamp_min(1e-12)
    if kind == "diou":
        return iou - distance
    angle = torch.atan2(a[..., 2], a[..., 3]) - torch.atan2(b[..., 2], b[..., 3])
    v = 4 / math.pi**2 * angle.square()
    alpha = (v / (1 - iou + v + 1e-9)).detach()
    return iou - distance - alpha * v


def flatten(maps: Sequence[Tensor], io: ModelIO) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw maps of all heads as one list of K candidates a picture: boxes cxcywh (N, K, 4) and logits
    (N, K, 1 + C); and of each candidate its anchor (K, 2), relative to the input's width and height, and
    its place (K, 4): head, anchor within the head, row, column.

    Boxes are decoded by `toolkit.models.decode.decode_boxes`, with tw and th up to `CAP`, beyond which a
    gradient would only be noise; float32 whatever the network runs in.
    """
    boxes, logits, anchors, origins = [], [], [], []
    for i, (raw, head) in enumerate(zip(maps, io.heads, strict=True)):
        n, channels, h, w = raw.shape
        a = len(head.anchors)
        flat = wide(raw).view(n, a, channels // a, h, w).permute(0, 1, 3, 4, 2)  # (N, A, h, w, 5 + C)
        grid = flat.new_tensor([w, h])
        origin = torch.cartesian_prod(*(torch.arange(k, device=raw.device) for k in (1, a, h, w)))
        origin = origin.view(-1, 4) + origin.new_tensor([i, 0, 0, 0])
        corner = origin[: h * w, [3, 2]].view(h, w, 2)
        size = flat.new_tensor(head.anchors) / (grid * head.stride)  # (A, 2)
        _, box = decode_boxes(box_numbers(flat, head), corner, grid, size[:, None, None], head, cap=CAP)
        boxes.append(box.reshape(n, -1, 4))
        logits.append(_logits(flat, head).reshape(n, a * h * w, -1))
        anchors.append(size.repeat_interleave(h * w, 0))
        origins.append(origin)
    return torch.cat(boxes, 1), torch.cat(logits, 1), torch.cat(anchors), torch.cat(origins)


def _logits(flat: Tensor, head: HeadIO) -> Tensor:
    """Cells (..., 5 + C) -> logits of objectness and classes (..., 1 + C). With new_coords and with a softmax
    over the classes those of the probabilities, so that the loss is that of what detection reads."""
    if not (head.new_coords or head.softmax):
        return flat[..., head.values - 1 :]
    objectness, classes = confidences(flat, head)
    return torch.cat((objectness[..., None], classes), -1).logit(1e-6)


@dataclass(frozen=True)
class Matches:
    """Which candidates answer for which truth, each (P,); a candidate answers for one truth at most."""

    place: Tensor  # picture * K + candidate, rising
    truth: Tensor
    quality: Tensor  # what an IoU-aware objectness learns: the overlap, or "tal"'s alignment
    weight: Tensor  # of the box and of the classes: 1, but for "tal"


@torch.no_grad()
def assign(
    boxes: Tensor,
    logits: Tensor,
    anchors: Tensor,
    origins: Tensor,
    truths: Tensor,
    labels: Tensor,
    picture: Tensor,
    assigner: str = "simota",
) -> Matches:
    """The first four are of `flatten`; truths cxcywh (M, 4), labels and picture (M,).

    A truth's candidates are the anchors, in the cell of its centre and the eight around (a box's centre
    cannot leave its cell, so others could not meet it), whose shape overlaps it by SHAPE_IOU or more; the
    best shape in its own cell is always one.
    "anchor": those in its own cell above ANCHOR_IOU, as YOLOv3 has it.
    "simota" (YOLOX, arXiv:2107.08430): the cheapest by class and 3 x -log IoU, as many as the sum of the ten
    best overlaps says.
    "tal" (TOOD, arXiv:2108.07755): the ten best by alignment, score^ALPHA IoU^BETA; `quality` is the
    alignment, scaled to the truth's best overlap.
    A candidate that several truths want goes to the one that it suits best.
    """
    if assigner not in ASSIGNERS:
        raise InputError(f"unknown assigner {assigner!r}: expected {', '.join(ASSIGNERS)}")
    k = boxes.shape[1]
    candidate, valid, home = _around(origins, truths)
    shape = shape_iou(truths[:, None, 2:], anchors[candidate])  # (M, Q)
    first = torch.where(home, shape, -1).argmax(1, keepdim=True)
    allowed = (valid & (shape > SHAPE_IOU)).scatter(1, first, True)
    row, column = allowed.nonzero(as_tuple=True)
    place = picture[row] * k + candidate[row, column]
    overlap = torch.zeros_like(shape)
    # What is not a number answers for nothing here; the loss itself shows it.
    overlap[row, column] = pair_iou(boxes.flatten(0, 1)[place], truths[row]).nan_to_num()
    quality, weight = overlap, torch.ones_like(overlap)
    if assigner == "anchor":
        chosen = (home & (shape > ANCHOR_IOU)).scatter(1, first, True)
        cost = 1 - shape
    else:
        chances = logits.flatten(0, 1)[place].sigmoid().nan_to_num()  # (S, 1 + C)
        top = min(TOP, allowed.shape[1])
        cost = torch.full_like(shape, math.inf)
        if assigner == "simota":
            score = (chances[:, :1] * chances[:, 1:]).sqrt().clamp(1e-6, 1 - 1e-6)
            target = F.one_hot(labels[row], score.shape[1]).to(score.dtype)
            class_cost = F.binary_cross_entropy(score, target, reduction="none").sum(1)
            cost[row, column] = class_cost - 3 * overlap[row, column].clamp_min(1e-8).log()
            count = overlap.topk(top, 1).values.sum(1).long().clamp_min(1)
        else:
            score = chances[:, 0] * chances[:, 1:].gather(1, labels[row, None])[:, 0]
            cost[row, column] = -(score**ALPHA) * overlap[row, column] ** BETA
            count = torch.full_like(labels, top)
            scale = overlap.amax(1, keepdim=True) / cost.amin(1, keepdim=True).clamp_max(-1e-30)
            quality = torch.where(allowed, cost, 0) * scale
            weight = quality.clamp_min(LEAST_WEIGHT)
        cheapest = cost.topk(top, 1, largest=False)
        within = torch.arange(top, device=cost.device) < count[:, None]
        chosen = torch.zeros_like(allowed).scatter(1, cheapest.indices, within & cheapest.values.isfinite())
    truth, column = chosen.nonzero(as_tuple=True)
    place = picture[truth] * k + candidate[truth, column]
    order = torch.argsort(cost[truth, column], stable=True)
    order = order[torch.argsort(place[order], stable=True)]
    place = place[order]
    best = torch.ones_like(place, dtype=torch.bool)
    best[1:] = place[1:] != place[:-1]
    order = order[best]
    truth, column = truth[order], column[order]
    return Matches(place[best], truth, quality[truth, column], weight[truth, column])


def _around(origins: Tensor, truths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every anchor of every head in the 3 x 3 cells around each truth's centre: candidate (M, Q), whether
    that cell exists (M, Q), and whether it is the truth's own (M, Q)."""
    candidates, valid, home = [], [], []
    start = 0
    for last in _last_of_heads(origins):
        _, a, h, w = (origins[last] + 1).tolist()
        size = truths.new_tensor([w, h])
        own = torch.stack(own_cells(truths[:, :2], (w, h)), 1)  # (M, 2)
        step = torch.arange(-1, 2, device=truths.device)
        offset = torch.cartesian_prod(step, step)  # (9, 2)
        cell = own[:, None] + offset  # (M, 9, 2)
        exists = ((cell >= 0) & (cell < size)).all(-1)
        index = (cell[..., 1] * w + cell[..., 0]).where(exists, 0)
        anchor = torch.arange(a, device=truths.device)[:, None] * (h * w) + start
        candidates.append((index[:, None] + anchor).flatten(1))  # (M, A * 9)
        valid.append(exists[:, None].expand(-1, a, 9).flatten(1))
        home.append((offset == 0).all(-1).expand(len(truths), a, 9).flatten(1))
        start += a * h * w
    return torch.cat(candidates, 1), torch.cat(valid, 1), torch.cat(home, 1)


def _last_of_heads(origins: Tensor) -> list[int]:
    """The index of each head's last candidate."""
    return (torch.bincount(origins[:, 0]).cumsum(0) - 1).tolist()


def modern_loss(
    maps: Sequence[Tensor],
    truths: Tensor,
    labels: Tensor,
    picture: Tensor,
    ignore: Tensor,
    io: ModelIO,
    assigner: str = "simota",
    iou_kind: str = "ciou",
    iou_aware: bool = True,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    box_weight: float = 5.0,
    obj_weight: float = 1.0,
    cls_weight: float = 1.0,
    spare_iou: float = 1.0,
) -> Losses:
    """Sum over the batch of box_weight (1 - IoU) and binary cross-entropy of objectness and of classes.

    Args:
        maps: raw head maps (N, A * (5 + C), h, w), coarsest first.
        truths: (M, 4) cxcywh 0..1.
        labels: (M,).
        picture: (M,) index within the batch.
        ignore: (M,). A predicted box that is more than half inside such a region is not background.
        io: of the network.
        assigner: as in `assign`.
        iou_kind: as in `pair_iou`.
        iou_aware: the objectness of a positive learns its overlap (with "tal" its alignment) instead of 1.
        label_smoothing: s; classes learn 1 - s / 2 and s / 2.
        class_weights: (C,), multiply the box and class parts of their objects.
        box_weight: of the boxes.
        obj_weight: of the objectness.
        cls_weight: of the classes.
        spare_iou: a predicted box whose IoU with a truth is above it is not background; 1 spares none.

    Returns:
        The sum, with the weight of the positives.

    Raises:
        InputError: for an unknown assigner or kind of IoU.
    """
    with torch.autocast(maps[0].device.type, enabled=False):
        boxes, logits, anchors, origins = flatten(maps, io)
        regions, in_regions = truths[ignore].to(boxes.dtype), picture[ignore]
        truths, labels, picture = truths[~ignore].to(boxes.dtype), labels[~ignore], picture[~ignore]
        matches = assign(boxes, logits, anchors, origins, truths, labels, picture, assigner)
        place, truth = matches.place, matches.truth
        target = torch.zeros_like(logits[..., 0])
        target.view(-1)[place] = matches.quality if iou_aware else 1.0
        background = torch.ones_like(target)
        if len(regions):
            background[best_overlap(boxes.detach(), regions, in_regions, inside=True) > 0.5] = 0
        if spare_iou < 1:
            background[best_overlap(boxes.detach(), truths, picture) > spare_iou] = 0
        background.view(-1)[place] = 1
        objectness = F.binary_cross_entropy_with_logits(logits[..., 0], target, background, reduction="sum")
        weight = matches.weight if class_weights is None else matches.weight * class_weights[labels[truth]]
        box_errors = 1 - pair_iou(boxes.flatten(0, 1)[place], truths[truth], iou_kind)
        names = F.one_hot(labels[truth], len(io.classes)).to(logits.dtype)
        classes = F.binary_cross_entropy_with_logits(
            logits.flatten(0, 1)[place, 1:],
            names * (1 - label_smoothing) + label_smoothing / 2,
            weight[:, None].expand_as(names),
            reduction="sum",
        )
    parts = {
        "box": box_weight * (box_errors * weight).sum(),
        "objectness": obj_weight * objectness,
        "classes": cls_weight * classes,
    }
    total = torch.stack(list(parts.values())).sum()
    return Losses(total, matches.weight.sum(), {name: part.detach() for name, part in parts.items()})


@dataclass(frozen=True)
class Answer:
    """An anchor of a cell that answers for a truth; `head` and `anchor` count as in `ModelIO.heads`."""

    truth: int
    head: int
    anchor: int
    row: int
    column: int


def answers(
    maps: Sequence[Tensor],
    truths: Tensor,
    labels: Tensor,
    picture: Tensor,
    io: ModelIO,
    assigner: str = "simota",
    layers: Sequence[YoloLayer] = (),
) -> list[Answer]:
    """Which anchors answer for each truth, in the order of the truths, to be shown.

    truths (M, 4) cxcywh 0..1. `assigner`: of `assign`, or "seed", darknet's rule, which needs the network's
    `yolo_layers`.
    """
    rows: list[tuple[int, ...]] = []
    if assigner == "seed":
        size = (maps[0].shape[3] * io.heads[0].stride, maps[0].shape[2] * io.heads[0].stride)
        for head, (raw, layer) in enumerate(zip(maps, layers, strict=True)):
            truth, anchor, cell = darknet_matches(truths, layer, size, (raw.shape[3], raw.shape[2]))
            place = (truth, torch.full_like(truth, head), anchor, cell // raw.shape[3], cell % raw.shape[3])
            rows += [tuple(row) for row in torch.stack(place, 1).tolist()]
    else:
        boxes, logits, anchors, origins = flatten([raw.detach() for raw in maps], io)
        matches = assign(boxes, logits, anchors, origins, truths, labels, picture, assigner)
        where = origins[matches.place % len(origins)]
        rows += [tuple(row) for row in torch.cat((matches.truth[:, None], where), 1).tolist()]
    return [Answer(*row) for row in sorted(rows)]
