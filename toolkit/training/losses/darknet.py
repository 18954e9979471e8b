"""darknet's own loss, with its hand-written gradient (yolo_layer.c, today's and the seed's fork)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.models.decode import decode_boxes, probabilities
from toolkit.training.assign import YoloLayer, darknet_matches
from toolkit.training.losses.common import Losses, best_overlap, wide


class _MinusDelta(torch.autograd.Function):
    """A layer's cost, whose gradient on the raw map is not its derivative but darknet's -delta."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, delta: Tensor) -> Tensor:
        ctx.save_for_backward(delta)
        ctx.dtype = raw.dtype
        return delta.square().sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (delta,) = ctx.saved_tensors
        return (delta * -grads[0]).to(ctx.dtype), None


def darknet_loss(
    maps: Sequence[Tensor],
    boxes: Tensor,
    labels: Tensor,
    picture: Tensor,
    ignore: Tensor,
    layers: Sequence[YoloLayer],
    input_size: tuple[int, int],
    fork: bool = True,
) -> Losses:
    """darknet's YOLO loss: the cost it prints, and on the raw maps the gradient it uses (`darknet_deltas`).

    `positives` is the number of pictures, by which darknet divides.
    """
    deltas = darknet_deltas(maps, boxes, labels, picture, ignore, layers, input_size, fork)
    costs = [_MinusDelta.apply(raw, delta) for raw, delta in zip(maps, deltas, strict=True)]  # type: ignore[no-untyped-call]
    total = torch.stack(costs).sum()
    parts = {"box": total.new_zeros(()), "objectness": total.new_zeros(()), "classes": total.new_zeros(())}
    for delta, layer in zip(deltas, layers, strict=True):
        squares = delta.square().sum((0, 2, 3)).view(len(layer.mask), -1).sum(0)  # (5 + C,)
        parts["box"] += squares[:4].sum()
        parts["objectness"] += squares[4]
        parts["classes"] += squares[5:].sum()
    return Losses(total, total.new_tensor(float(len(maps[0]))), parts)


def darknet_deltas(
    maps: Sequence[Tensor],
    boxes: Tensor,
    labels: Tensor,
    picture: Tensor,
    ignore: Tensor,
    layers: Sequence[YoloLayer],
    input_size: tuple[int, int],
    fork: bool = True,
) -> list[Tensor]:
    """darknet's `delta` of every [yolo] layer, the negative gradient on the raw map, in the maps' shapes.

    forward_yolo_layer of AlexeyAB's darknet: background objectness norm (0 - o), none where the predicted box
    overlaps a truth by more than ignore_thresh and some class is above .25; positives as in
    `darknet_matches`, objectness norm (1 - o), classes y - p, box deltas summed over the truths of one anchor
    and cell and, with iou_thresh < 1, divided by the number of classes there. `fork`: the seed's build, where
    norm is cls_normalizer, not obj_normalizer, and 90 truths count, not 200. `ignore` is not darknet's: a
    predicted box that is more than half inside such a region is not background.

    maps: N x A * (5 + C) x h x w each, in the order of `layers`; input_size: width and height in px of
    the input that gave them.
    """
    with torch.no_grad(), torch.autocast(maps[0].device.type, enabled=False):
        boxes, regions, in_regions = boxes[~ignore], boxes[ignore], picture[ignore]
        labels, picture = labels[~ignore], picture[~ignore]
        counts = torch.bincount(picture, minlength=len(maps[0]))
        rank = torch.arange(len(picture), device=picture.device) - (counts.cumsum(0) - counts)[picture]
        deltas = []
        for raw, layer in zip(maps, layers, strict=True):
            seen = rank < (layer.max_truths or (90 if fork else 200))
            truths = (boxes[seen].to(wide(raw).dtype), labels[seen], picture[seen])
            norm = layer.cls_normalizer if fork else layer.obj_normalizer
            deltas.append(_layer_delta(raw, *truths, regions, in_regions, layer, input_size, norm))
    return deltas


def _layer_delta(
    raw: Tensor,
    boxes: Tensor,
    labels: Tensor,
    picture: Tensor,
    regions: Tensor,
    in_regions: Tensor,
    layer: YoloLayer,
    input_size: tuple[int, int],
    norm: float,
) -> Tensor:
    n, channels, h, w = raw.shape
    a = len(layer.mask)
    cells = wide(raw).view(n, a, channels // a, h * w)
    delta = torch.zeros_like(cells)
    grid = cells.new_tensor([w, h])
    anchors = cells.new_tensor([layer.anchors[m] for m in layer.mask]) / cells.new_tensor(input_size)

    index = torch.arange(h * w, device=raw.device)
    corners = torch.stack((index % w, index // w), -1)  # (h w, 2)
    _, predicted = decode_boxes(
        cells[:, :, :4].transpose(2, 3), corners, grid, anchors[:, None], layer, cap=None
    )
    predicted = predicted.flatten(1, 2)  # (N, A h w, 4)
    sure = probabilities(cells[:, :, 5:].amax(2), layer) > 0.25
    spared = sure & (best_overlap(predicted, boxes, picture) > layer.ignore_thresh).view_as(sure)
    if len(regions):
        spared |= (best_overlap(predicted, regions.to(boxes), in_regions, inside=True) > 0.5).view_as(sure)
    delta[:, :, 4] = torch.where(spared, 0, -norm * probabilities(cells[:, :, 4], layer))

    truth, anchor, cell = darknet_matches(boxes, layer, input_size, (w, h))
    # Several truths may share an anchor and cell: one row of `place` each, `row` points into it.
    place, row = torch.unique((picture[truth] * a + anchor) * (h * w) + cell, return_inverse=True)
    where = (place // (h * w * a), place // (h * w) % a, slice(None), place % (h * w))
    values = cells[where]  # (K, 5 + C)
    answer = torch.zeros_like(values)
    xy, box = decode_boxes(values[:, :4], corners[where[3]], grid, anchors[where[1]], layer, cap=None)
    box_delta = _box_delta(xy, box, values[:, 2:4], boxes[truth], row, corners, where, anchors, grid, layer)
    answer[:, :4].index_add_(0, row, box_delta)
    answer[:, 4] = norm * (1 - probabilities(values[:, 4], layer))
    answer[row, 5 + labels[truth]] = 1
    answer[:, 5:] -= probabilities(values[:, 5:], layer)
    if layer.iou_thresh < 1:  # averages_yolo_deltas
        classes = torch.where(answer[:, 4] != 0, (answer[:, 5:] > 0).sum(1), 1)
        answer[:, :4] /= classes.clamp_min(1)[:, None]
    delta[where] = answer
    return delta.view_as(raw)


def _box_delta(
    xy: Tensor,
    box: Tensor,
    raw_wh: Tensor,
    truth: Tensor,
    row: Tensor,
    corners: Tensor,
    where: tuple[Any, ...],
    anchors: Tensor,
    grid: Tensor,
    layer: YoloLayer,
) -> Tensor:
    """delta_yolo_box of each match (K, 4)."""
    if layer.iou_loss == "mse":
        target_xy = truth[:, :2] * grid - corners[where[3]][row]
        ratio = truth[:, 2:] / anchors[where[1]][row]
        target_wh = (ratio / 4).sqrt() if layer.new_coords else ratio.log()
        step = torch.cat((target_xy - xy[row], target_wh - raw_wh[row]), 1)
        return step * (2 - truth[:, 2:3] * truth[:, 3:]) * layer.iou_normalizer
    step = _iou_delta(box[row], truth, layer.iou_loss)
    if not layer.new_coords:
        step[:, 2:] *= raw_wh[row].exp()
    step = torch.nan_to_num(step * layer.iou_normalizer, nan=0.0, posinf=0.0, neginf=0.0)
    return step.clamp(-layer.max_delta, layer.max_delta)


def _iou_delta(box: Tensor, truth: Tensor, kind: str) -> Tensor:
    """darknet's dx_box_iou: its "gradient" of IoU, GIoU, DIoU or CIoU to x, y, w, h of `box` (K, 4) cxcywh.

    Not the derivative: w and h have twice the overlap's share; the enclosing box's share of x and y has the
    wrong sign; CIoU's angle lacks 1 / (w^2 + h^2); and where the boxes are disjoint only the penalty is left.
    """
    size = torch.where(box[:, 2:] == 0, 1, box[:, 2:])
    low, high = box[:, :2] - size / 2, box[:, :2] + size / 2
    low_t, high_t = truth[:, :2] - truth[:, 2:] / 2, truth[:, :2] + truth[:, 2:] / 2
    side = torch.minimum(high, high_t) - torch.maximum(low, low_t)  # (K, 2), negative where disjoint
    shared = side.prod(1, keepdim=True)
    span = high - low
    union = span.prod(1, keepdim=True) + (high_t - low_t).prod(1, keepdim=True) - shared
    zero = torch.zeros_like(side)
    d_shared_low = torch.where(low > low_t, -side.flip(1), zero)
    d_shared_high = torch.where(high < high_t, side.flip(1), zero)
    d_union_low, d_union_high = -span.flip(1) - d_shared_low, span.flip(1) - d_shared_high
    d_low = (union * d_shared_low - shared * d_union_low) / union**2
    d_high = (union * d_shared_high - shared * d_union_high) / union**2
    d_low, d_high = (torch.where(union > 0, d, zero) for d in (d_low, d_high))

    hull = torch.maximum(high, high_t) - torch.minimum(low, low_t)
    disjoint = (side <= 0).any(1, keepdim=True)
    below, above = low < low_t, high > high_t  # where the prediction bounds the hull
    if kind == "giou":
        area = hull.prod(1, keepdim=True)
        d_area_low = torch.where(below, -hull.flip(1), zero)
        d_area_high = torch.where(above, hull.flip(1), zero)
        extra_low = (area * d_union_low - union * d_area_low) / area**2
        extra_high = (area * d_union_high - union * d_area_high) / area**2
        d_low = torch.where(disjoint, extra_low, d_low + extra_low)
        d_high = torch.where(disjoint, extra_high, d_high + extra_high)
    d_xy, d_wh = d_low + d_high, d_high - d_low
    if kind in ("diou", "ciou"):
        between = truth[:, :2] - box[:, :2]
        distance = between.square().sum(1, keepdim=True)
        diagonal = hull.square().sum(1, keepdim=True)
        move = above.to(hull) - below.to(hull)
        grow = (above.to(hull) + below.to(hull)) / 2
        extra_xy = (2 * between * diagonal - 2 * hull * move * distance) / diagonal**2
        extra_wh = 2 * hull * grow * distance / diagonal**2
        if kind == "ciou":
            angle = (torch.atan(truth[:, 2] / truth[:, 3]) - torch.atan(size[:, 0] / size[:, 1]))[:, None]
            v = 4 / torch.pi**2 * angle**2
            alpha = v / (1 - shared / union + v + 1e-6)
            extra_wh += alpha * 8 / torch.pi**2 * angle * torch.stack((size[:, 1], -size[:, 0]), 1)
        d_xy = torch.where(disjoint, extra_xy, d_xy + extra_xy)
        d_wh = torch.where(disjoint, extra_wh, d_wh + extra_wh)
    return torch.cat((d_xy, d_wh), 1)
