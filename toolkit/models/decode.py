"""The one decoding: from raw head maps to boxes, in numpy and in torch, and the suppression behind it.

darknet's get_yolo_box and get_yolo_detections: x = (i + sigmoid(tx) s - (s - 1) / 2) / w with s = scale_x_y,
width = exp(tw) anchor_w / net_w; new_coords (YOLOv4-csp) has no sigmoid and (2 tw)^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.boxes import cxcywh_to_xyxy, nms

if TYPE_CHECKING:
    from toolkit.models.io import ModelIO

Floats = NDArray[np.float32]
Array = TypeVar("Array", NDArray[np.floating], Tensor)
LARGEST = 20.0  # of tw and th, boxes of 5e8 anchors: what exp makes of more, and areas, may be infinite


@dataclass(frozen=True)
class Candidates:
    """Boxes above the threshold in one picture, before suppression; a cell may appear once per class."""

    boxes_norm: Floats  # (K, 4) xyxy relative to the network input
    scores: Floats  # (K,) objectness x class probability, 0..1
    class_ids: NDArray[np.int64]  # (K,)
    objectness: Floats  # (K,)


@dataclass(frozen=True)
class Boxes:
    """Detections of one picture, by falling score."""

    boxes: Floats  # (K, 4) xyxy in pixels of the picture, or relative to the input where a docstring says so
    scores: Floats  # (K,)
    class_ids: NDArray[np.int64]  # (K,)


class Coordinates(Protocol):
    """What a head says about its boxes: `HeadIO` and darknet's own layers have it."""

    @property
    def scale_x_y(self) -> float: ...

    @property
    def new_coords(self) -> bool: ...


class Suppression(Protocol):
    """Thresholds of a detection: on objectness and score, and on the overlap within a class."""

    @property
    def conf(self) -> float: ...

    @property
    def iou(self) -> float: ...

    @property
    def nms(self) -> str: ...


def probabilities(raw: Array, head: Coordinates) -> Array:
    """Raw objectness, classes or offsets, any shape -> 0..1: the sigmoid, but for new_coords."""
    if head.new_coords:
        return raw
    if isinstance(raw, Tensor):
        return raw.sigmoid()
    with np.errstate(over="ignore"):
        return np.reciprocal(1 + np.exp(-raw))


def decode_boxes(
    raw: Array, corner: Array, grid: Array, anchors: Array, head: Coordinates, cap: float | None = LARGEST
) -> tuple[Array, Array]:
    """Raw tx, ty, tw, th (..., 4) -> the box's centre within its cell (..., 2) in cells, and the box
    cxcywh (..., 4) relative to the network's input.

    `corner` (..., 2): column and row of the cell. `grid` (2,): columns and rows of the map. `anchors`
    (..., 2) relative to the input. All are numpy or all are torch. `cap`: tw and th count up to it, None
    without a limit (as darknet has it, where a box may be infinite).
    """
    s = head.scale_x_y
    offset = probabilities(raw[..., :2], head) * s - (s - 1) / 2
    wh = raw[..., 2:4]
    if isinstance(wh, Tensor):
        if not head.new_coords and cap is not None:
            wh = wh.clamp(max=cap)
        size = (2 * wh).square() if head.new_coords else wh.exp()
        return offset, torch.cat(((corner + offset) / grid, size * anchors), -1)
    if not head.new_coords and cap is not None:
        wh = np.minimum(wh, np.float32(cap))
    size = np.square(2 * wh) if head.new_coords else np.exp(wh)
    return offset, np.concatenate(((corner + offset) / grid, size * anchors), -1)


def decode(maps: Sequence[Tensor] | Sequence[Floats], io: ModelIO, conf: float) -> list[Candidates]:
    """Raw head maps, each (N, A * (5 + C), h, w) -> the candidates of each of the N pictures.

    A cell counts where its objectness is above `conf`, a class there where objectness x class probability is
    above `conf`. Unlike darknet's, a box stays finite: tw and th count up to `LARGEST`.
    """
    arrays = [m.detach().float().cpu().numpy() if isinstance(m, Tensor) else np.asarray(m) for m in maps]
    parts: list[list[tuple[NDArray[np.generic], ...]]] = [[] for _ in range(len(arrays[0]))]
    for raw, head in zip(arrays, io.heads, strict=True):
        n, _, h, w = raw.shape
        cells = raw.reshape(n, len(head.anchors), 5 + len(io.classes), h, w)
        image, anchor, row, column = np.nonzero(probabilities(cells[:, :, 4], head) > conf)
        picked = cells[image, anchor, :, row, column]  # (K, 5 + C)
        objectness = probabilities(picked[:, 4], head)
        grid = np.array([w, h], np.float32)
        corner = np.stack((column, row), 1).astype(np.float32)
        _, boxes = decode_boxes(picked[:, :4], corner, grid, head.relative_anchors((w, h))[anchor], head)
        boxes = cxcywh_to_xyxy(boxes).astype(np.float32)
        scores = objectness[:, None] * probabilities(picked[:, 5:], head)
        cell, class_ids = np.nonzero(scores > conf)
        order = image[cell]
        for i in range(n):
            mine = order == i
            k = cell[mine]
            parts[i].append((boxes[k], scores[k, class_ids[mine]], class_ids[mine], objectness[k]))
    return [Candidates(*(np.concatenate(column) for column in zip(*part, strict=True))) for part in parts]


def suppress(candidates: Candidates, settings: Suppression) -> Boxes:
    """Candidates of one picture -> what is left of them, by falling score, still relative to the input."""
    keep = nms(candidates.boxes_norm, candidates.scores, candidates.class_ids, settings.iou, settings.nms)
    return Boxes(candidates.boxes_norm[keep], candidates.scores[keep], candidates.class_ids[keep])
