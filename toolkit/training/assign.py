"""Which anchor in which cell answers for which truth in darknet, and the options that decide it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.models.darknet.cfg import Section
from toolkit.models.darknet.heads import anchors_of
from toolkit.models.darknet.network import CfgDetector
from toolkit.models.detector import SpecDetector
from toolkit.runtime import InputError

IOU_KINDS = ("iou", "giou", "diou", "ciou")


@dataclass(frozen=True)
class YoloLayer:
    """The options of one [yolo] layer that its loss depends on; the defaults are darknet's (parse_yolo).

    `anchors` are those of all heads, (w, h) in px of the network's input; `mask` picks this head's.
    `max_truths` per picture, later ones are not seen; None is the build's own limit: 90 in the seed's fork,
    200 in today's darknet.
    """

    anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    ignore_thresh: float = 0.5
    iou_thresh: float = 1.0
    iou_loss: str = "mse"
    iou_normalizer: float = 0.75
    cls_normalizer: float = 1.0
    obj_normalizer: float = 1.0
    scale_x_y: float = 1.0
    new_coords: bool = False
    max_delta: float = float("inf")
    max_truths: int | None = None


# Options that change the loss and that are not implemented: refused, not ignored. Value: what is harmless.
UNSUPPORTED = {
    **dict.fromkeys(("label_smooth_eps", "focal_loss", "objectness_smooth", "embedding_layer"), 0.0),
    **dict.fromkeys(("truth_thresh",), 1.0),
    **dict.fromkeys(("counters_per_class", "map", "iou_thresh_kind"), None),
}
UNSUPPORTED_NET = ("adversarial_lr", "badlabels_rejection_percentage", "num_sigmas_reject_badlabels")


def _from_section(section: Section) -> YoloLayer:
    if section.kind != "yolo":
        raise section.fail(
            "darknet's loss is that of [yolo] heads here: train with the recipe modern (--recipe modern)"
        )
    for key, harmless in UNSUPPORTED.items():
        if key not in section.options or section.options[key] == "iou":
            continue
        if harmless is None or section.real(key) != harmless:
            raise section.fail(
                f"{key}={section.options[key]} changes the loss and is not supported: remove it"
            )
    anchors = tuple(anchors_of(section))
    iou_loss = section.options.get("iou_loss", "mse")
    if iou_loss not in ("mse", *IOU_KINDS):
        raise section.fail(f"iou_loss={iou_loss} is unknown: expected mse, {', '.join(IOU_KINDS)}")
    default = YoloLayer(anchors, tuple(section.integers("mask") or range(len(anchors))))
    return YoloLayer(
        default.anchors,
        default.mask,
        ignore_thresh=section.real("ignore_thresh", default.ignore_thresh),
        iou_thresh=section.real("iou_thresh", default.iou_thresh),
        iou_loss=iou_loss,
        iou_normalizer=section.real("iou_normalizer", default.iou_normalizer),
        cls_normalizer=section.real("cls_normalizer", default.cls_normalizer),
        obj_normalizer=section.real("obj_normalizer", default.obj_normalizer),
        scale_x_y=section.real("scale_x_y", default.scale_x_y),
        new_coords=bool(section.integer("new_coords", 0)),
        max_delta=section.real("max_delta", default.max_delta),
        max_truths=section.integer("max") if "max" in section.options else None,
    )


def yolo_layers(model: nn.Module) -> tuple[YoloLayer, ...]:
    """The [yolo] options of a detector in the order of its outputs (coarsest first): a cfg's own, or, for a
    network built from a spec, those of the published detectors, as `to_cfg` writes them.

    Raises InputError for a cfg with an option that changes the loss and is not implemented, and for a network
    that is neither.
    """
    if isinstance(model, CfgDetector):
        net = model.sections[0]
        for key in UNSUPPORTED_NET:
            if net.real(key, 0.0):
                raise net.fail(f"{key}={net.options[key]} changes the loss and is not supported: remove it")
        return tuple(_from_section(model.sections[i + 1]) for i in model.heads)
    if not isinstance(model, SpecDetector):
        raise InputError(
            f"expected a detector made from a spec or a darknet cfg, found {type(model).__name__}: "
            "only these have a darknet loss"
        )
    layers = []
    anchors = tuple(anchor for head in reversed(model.io.heads) for anchor in head.anchors)
    end = len(anchors)
    for head in model.io.heads:
        start = end - len(head.anchors)
        layers.append(
            YoloLayer(
                anchors,
                tuple(range(start, end)),
                iou_thresh=0.213,
                iou_loss="ciou",
                iou_normalizer=0.07,
                scale_x_y=head.scale_x_y,
            )
        )
        end = start
    return tuple(layers)


def shape_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of widths and heights alone, as if both boxes had one centre: broadcast (..., 2) -> (...)."""
    shared = torch.minimum(a, b).prod(-1)
    return shared / (a.prod(-1) + b.prod(-1) - shared).clamp_min(1e-20)


def darknet_matches(
    boxes: Tensor, layer: YoloLayer, input_size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """darknet's positives of one [yolo] layer: (truth, anchor, cell), each (K,), by rising truth.

    A truth takes, at its centre's cell (row * w + column of `grid` (w, h)), the best of *all* anchors by
    width and height where that one is this head's and, with iou_thresh < 1, every other anchor of this head
    above iou_thresh. `anchor` counts within the head.
    """
    net = boxes.new_tensor(input_size)
    iou = shape_iou(boxes[:, None, 2:], boxes.new_tensor(layer.anchors) / net)
    taken = torch.zeros_like(iou, dtype=torch.bool)
    if len(boxes):
        taken.scatter_(1, iou.argmax(1, keepdim=True), True)
    if layer.iou_thresh < 1:
        taken |= iou > layer.iou_thresh
    truth, anchor = taken[:, list(layer.mask)].nonzero(as_tuple=True)
    column, row = own_cells(boxes[truth, :2], grid)
    return truth, anchor, row * grid[0] + column


def own_cells(centres: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Column and row of the cells of `grid` (w, h) that hold the centres (M, 2), 0..1; one on the right or
    lower edge belongs to the last cell."""
    column = (centres[:, 0] * grid[0]).long().clamp(0, grid[0] - 1)
    return column, (centres[:, 1] * grid[1]).long().clamp(0, grid[1] - 1)
