"""The modern recipe's loss: SimOTA assignment over the network's own anchors, so that what is exported does
not change, CIoU boxes by autograd, and objectness that learns the overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.models.spec import ModelIO
from toolkit.training.assign import shape_iou
from toolkit.training.loss import Losses

ASSIGNERS = ("anchor", "simota")
CENTRE_RADIUS = 1.5  # cells around a truth's centre in which an anchor may answer for it
SHAPE_IOU = 0.2  # least overlap of widths and heights of such an anchor with the truth
DYNAMIC_TOP = 10  # best overlaps that decide how many anchors a truth gets


def pair_iou(a: Tensor, b: Tensor, kind: str = "iou") -> Tensor:
    """Overlap of broadcast boxes cxcywh (..., 4) -> (...): "iou", "giou", "diou" or "ciou"
    (arXiv:1902.09630, arXiv:1911.08287; CIoU's trade-off without gradient, as its paper has it)."""
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
    """Raw maps of all heads as one list of K candidates a picture: the boxes cxcywh (N, K, 4) and logits
    (N, K, 1 + C), and of each candidate its cell's centre and side (K, 3) and its anchor (K, 2), all lengths
    relative to the input's width and height (the side: in cells per input, (K,) as 1 / w).

    Boxes are decoded as `toolkit.models.detector.decode` does; float32 whatever the network runs in.
    """
    boxes, logits, cells, anchors = [], [], [], []
    for raw, head in zip(maps, io.heads, strict=True):
        n, channels, h, w = raw.shape
        a = len(head.anchors)
        flat = raw.float().view(n, a, channels // a, h, w).permute(0, 1, 3, 4, 2)  # (N, A, h, w, 5 + C)
        grid = flat.new_tensor([w, h])
        rows, columns = torch.meshgrid(
            torch.arange(h, device=raw.device), torch.arange(w, device=raw.device), indexing="ij"
        )
        corner = torch.stack((columns, rows), -1)  # (h, w, 2)
        size = flat.new_tensor(head.anchors) / (grid * head.stride)  # (A, 2)
        s = head.scale_x_y
        xy = (corner + flat[..., :2].sigmoid() * s - (s - 1) / 2) / grid
        wh = flat[..., 2:4].clamp(max=8).exp() * size[:, None, None]
        boxes.append(torch.cat((xy, wh), -1).reshape(n, -1, 4))
        logits.append(flat[..., 4:].reshape(n, a * h * w, -1))
        centre = ((corner + 0.5) / grid).expand(a, h, w, 2).reshape(-1, 2)
        cells.append(torch.cat((centre, (1 / grid).expand(len(centre), 2)), 1))
        anchors.append(size[:, None, None].expand(a, h, w, 2).reshape(-1, 2))
    return torch.cat(boxes, 1), torch.cat(logits, 1), torch.cat(cells), torch.cat(anchors)


@torch.no_grad()
def assign(
    boxes: Tensor,
    logits: Tensor,
    cells: Tensor,
    anchors: Tensor,
    truths: Tensor,
    labels: Tensor,
    picture: Tensor,
    assigner: str = "simota",
) -> tuple[Tensor, Tensor]:
    """Which candidates answer for which truth -> (candidate, truth), each (P,); a candidate has one truth.

    Candidates of a truth are the anchors near its centre whose shape is near enough; where there is none,
    the nearest by shape in its own cell. "anchor" takes those in the truth's own cell whose shape overlaps it
    best, by .5 or more. "simota" (YOLOX, arXiv:2107.08430) takes the cheapest by class and overlap, as many
    as the sum of the ten best overlaps says. The first four are of `flatten`, truths cxcywh (M, 4).
    """
    k = len(cells)
    boxes, logits = boxes.nan_to_num(), logits.nan_to_num()  # the loss itself shows what is not a number
    shape = shape_iou(truths[:, 2:], anchors)  # (M, K)
    apart = (truths[:, None, :2] - cells[:, :2]).abs() / cells[:, 2:]  # in cells
    home = (apart <= 0.5).all(-1)
    best_shape = torch.where(home, shape, 0).argmax(1)
    if assigner == "anchor":
        chosen = home & (shape > 0.5)
        chosen[torch.arange(len(truths)), best_shape] = True
        cost = 1 - shape
    else:
        allowed = (apart <= CENTRE_RADIUS).all(-1) & (shape > SHAPE_IOU)
        allowed[torch.arange(len(truths)), best_shape] = True
        row, column = allowed.nonzero(as_tuple=True)
        place = picture[row] * k + column
        iou = pair_iou(boxes.flatten(0, 1)[place], truths[row])
        found = logits.flatten(0, 1)[place]
        score = (found[:, :1].sigmoid() * found[:, 1:].sigmoid()).sqrt().clamp(1e-6, 1 - 1e-6)
        wanted = F.one_hot(labels[row], score.shape[1]).float()
        price = F.binary_cross_entropy(score, wanted, reduction="none").sum(1) - 3 * iou.clamp_min(1e-8).log()
        cost = torch.full_like(shape, float("inf"))
        cost[row, column] = price
        overlaps = torch.zeros_like(shape)
        overlaps[row, column] = iou
        top = min(DYNAMIC_TOP, k)
        count = overlaps.topk(top, 1).values.sum(1).long().clamp_min(1)
        cheapest = cost.topk(top, 1, largest=False)
        within = torch.arange(top, device=cost.device) < count[:, None]
        chosen = torch.zeros_like(allowed)
        chosen.scatter_(1, cheapest.indices, within & cheapest.values.isfinite())
    truth, candidate = chosen.nonzero(as_tuple=True)
    # A candidate that several truths want goes to the one it costs least.
    price = cost[truth, candidate]
    place = picture[truth] * k + candidate
    order = torch.argsort(price, stable=True)
    order = order[torch.argsort(place[order], stable=True)]
    place, truth = place[order], truth[order]
    first = torch.ones_like(place, dtype=torch.bool)
    first[1:] = place[1:] != place[:-1]
    return place[first], truth[first]


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
) -> Losses:
    """Sum over the batch of box_weight (1 - IoU) and binary cross-entropy of objectness and of classes.

    maps: raw head maps. truths (M, 4) cxcywh 0..1, labels (M,), picture (M,), ignore (M,) as in a Batch:
    a predicted box that lies by more than half in an ignored region is no background. `iou_aware`: the
    objectness of a positive learns its overlap instead of 1. `label_smoothing`: classes learn
    1 - s / 2 and s / 2. `class_weights` (C,) multiply the box and class parts of their objects.
    """
    with torch.autocast(maps[0].device.type, enabled=False):
        boxes, logits, cells, anchors = flatten(maps, io)
        regions, in_regions = truths[ignore], picture[ignore]
        truths, labels, picture = truths[~ignore].to(boxes.dtype), labels[~ignore], picture[~ignore]
        target = torch.zeros_like(logits[..., 0])
        weight = torch.ones_like(target)
        for region, i in zip(regions.to(boxes.dtype), in_regions.tolist(), strict=True):
            box = boxes[i].detach()
            low = torch.maximum(box[:, :2] - box[:, 2:] / 2, region[:2] - region[2:] / 2)
            high = torch.minimum(box[:, :2] + box[:, 2:] / 2, region[:2] + region[2:] / 2)
            inside = (high - low).clamp_min(0).prod(1) / box[:, 2:].prod(1).clamp_min(1e-12)
            weight[i][inside > 0.5] = 0
        place, truth = assign(boxes, logits, cells, anchors, truths, labels, picture, assigner)
        found, wanted = boxes.flatten(0, 1)[place], truths[truth]
        importance = torch.ones_like(found[:, 0]) if class_weights is None else class_weights[labels[truth]]
        box = ((1 - pair_iou(found, wanted, iou_kind)) * importance).sum()
        overlap = pair_iou(found, wanted).detach() if iou_aware else torch.ones_like(found[:, 0])
        target.view(-1)[place] = overlap
        weight.view(-1)[place] = 1
        objectness = F.binary_cross_entropy_with_logits(logits[..., 0], target, weight, reduction="sum")
        answers = logits.flatten(0, 1)[place, 1:]
        names = F.one_hot(labels[truth], len(io.classes)).to(answers.dtype)
        names = names * (1 - label_smoothing) + label_smoothing / 2
        classes = F.binary_cross_entropy_with_logits(
            answers, names, importance[:, None].expand_as(answers), reduction="sum"
        )
    parts = {"box": box_weight * box, "objectness": obj_weight * objectness, "classes": cls_weight * classes}
    total = torch.stack(list(parts.values())).sum()
    return Losses(
        total, total.new_tensor(float(len(place))), {name: part.detach() for name, part in parts.items()}
    )
