"""The one decoding: raw head maps to boxes, in numpy and in torch, and the suppression that follows.

darknet's get_yolo_box and get_yolo_detections: x = (i + sigmoid(tx) s - (s - 1) / 2) / w with s = scale_x_y,
width = exp(tw) anchor_w / net_w; new_coords (YOLOv4-csp) has no sigmoid and (2 tw)^2. The classes of a
[region] (YOLOv2) share a softmax; those of a [Gaussian_yolo] are multiplied by 1 - the mean uncertainty of
the box (https://arxiv.org/abs/1904.04620).
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
from toolkit.runtime import InputError
from toolkit.text import short

if TYPE_CHECKING:
    from toolkit.models.io import HeadIO, ModelIO

Floats = NDArray[np.float32]
Array = TypeVar("Array", NDArray[np.floating], Tensor)
LARGEST = 20.0  # limit of tw and th (a box of 5e8 anchors): beyond it exp and areas overflow


@dataclass(frozen=True)
class Candidates:
    """Boxes above the threshold in one picture, before suppression; a cell may occur once per class."""

    boxes_norm: Floats  # (K, 4) xyxy relative to the network input
    scores: Floats  # (K,) objectness x class probability, 0..1
    class_ids: NDArray[np.int64]  # (K,)
    objectness: Floats  # (K,)


@dataclass(frozen=True)
class Boxes:
    """Detections of one picture, by falling score.

    Attributes:
        boxes: (K, 4) xyxy in pixels of the picture; relative to the input (0..1) where a docstring says so.
        scores: (K,) objectness x class probability, 0..1.
        class_ids: (K,) indices into the classes of the network.

    >>> empty = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    >>> len(empty.scores)
    0
    """

    boxes: Floats
    scores: Floats
    class_ids: NDArray[np.int64]


class Coordinates(Protocol):
    """How a head encodes its boxes: `HeadIO` and the [yolo] layers of a cfg have these."""

    @property
    def scale_x_y(self) -> float: ...

    @property
    def new_coords(self) -> bool: ...


class Suppression(Protocol):
    """Thresholds of a detection: objectness and score (`conf`), overlap within a class (`iou`)."""

    @property
    def conf(self) -> float: ...

    @property
    def iou(self) -> float: ...

    @property
    def nms(self) -> str: ...


def probabilities(raw: Array, head: Coordinates) -> Array:
    """Raw objectness, classes or offsets of any shape -> 0..1: the sigmoid, except with new_coords."""
    if head.new_coords:
        return raw
    if isinstance(raw, Tensor):
        return raw.sigmoid()
    with np.errstate(over="ignore"):
        sigmoid: NDArray[np.floating] = np.reciprocal(1 + np.exp(-raw))
    return sigmoid


def box_numbers(raw: Array, head: HeadIO) -> Array:
    """Cells (..., 5 + C), of a Gaussian head (..., 9 + C) -> tx, ty, tw, th (..., 4)."""
    return raw[..., 0:8:2] if head.gaussian else raw[..., :4]


def confidences(raw: Array, head: HeadIO) -> tuple[Array, Array]:
    """Cells (..., 5 + C), of a Gaussian head (..., 9 + C) -> objectness (...) and classes (..., C), 0..1,
    whose product is the score. The classes of a Gaussian head are reduced by the box's uncertainty."""
    objectness, logits = probabilities(raw[..., head.values - 1], head), raw[..., head.values :]
    classes = softmax(logits) if head.softmax else probabilities(logits, head)
    if head.gaussian:
        certainty = 1 - probabilities(raw[..., 1:8:2], head).mean(-1)
        classes = classes * certainty[..., None]
    return objectness, classes


def softmax(raw: Array) -> Array:
    """Over the last axis."""
    if isinstance(raw, Tensor):
        return raw.softmax(-1)
    powers = np.exp(raw - raw.max(-1, keepdims=True))
    shares: NDArray[np.floating] = powers / powers.sum(-1, keepdims=True)
    return shares


def decode_boxes(
    raw: Array, corner: Array, grid: Array, anchors: Array, head: Coordinates, cap: float | None = LARGEST
) -> tuple[Array, Array]:
    """Boxes of raw map values, after darknet's get_yolo_box. All arrays are numpy, or all are torch.

    Args:
        raw: (..., 4) or more, first tx, ty, tw, th; of a Gaussian head by `box_numbers`.
        corner: (..., 2) column and row of the cell.
        grid: (2,) columns and rows of the map.
        anchors: (..., 2) width and height relative to the network input.
        head: the encoding, such as a `HeadIO`.
        cap: upper limit of tw and th; None for no limit, as in darknet, where a box may be infinite.

    Returns:
        The centre within its cell (..., 2) in cells, and the box cxcywh (..., 4) relative to the input.

    >>> from toolkit.models.io import HeadIO
    >>> raw, corner, grid = np.zeros((1, 4)), np.array([[1.0, 2.0]]), np.array([4.0, 4.0])
    >>> decode_boxes(raw, corner, grid, np.array([[0.5, 0.25]]), HeadIO(8, ((16.0, 8.0),)))[1].tolist()
    [[0.375, 0.625, 0.5, 0.25]]
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
    """Boxes above a threshold, before suppression, after darknet's get_yolo_detections.

    A cell counts if its objectness is above `conf`, a class if objectness x class probability is. Unlike in
    darknet boxes stay finite: tw and th are limited to `LARGEST`.

    Args:
        maps: raw head maps (N, A * (5 + C), h, w), one per head of `io`, numpy or torch; of a Gaussian head
            (N, A * (9 + C), h, w).
        io: heads and classes of the network.
        conf: threshold, 0..1.

    Returns:
        The candidates of each of the N pictures.

    Raises:
        InputError: the maps are not those of the heads and classes of `io`, as a file of another network has.

    >>> from toolkit.models.io import HeadIO, ModelIO
    >>> io = ModelIO((64, 64), ("face",), (HeadIO(32, ((32.0, 32.0),)),), stride=32)
    >>> raw = np.full((1, 6, 2, 2), -9, np.float32)
    >>> raw[0, :, 1, 0] = [0, 0, 0, 0, 9, 9]  # a box on the lower left cell
    >>> (candidates,) = decode([raw], io, conf=0.5)
    >>> candidates.boxes_norm.tolist()
    [[0.0, 0.5, 0.5, 1.0]]
    """
    arrays = [m.detach().float().cpu().numpy() if isinstance(m, Tensor) else np.asarray(m) for m in maps]
    channels = [head.channels(len(io.classes)) for head in io.heads]
    if any(array.ndim != 4 for array in arrays) or [array.shape[1] for array in arrays] != channels:
        raise InputError(
            f"the network gives maps of the shapes {short([array.shape for array in arrays])}, and its heads "
            f"and classes need {short(channels)} channels: export it again, or name its own cfg and names"
        )
    parts: list[list[tuple[NDArray[np.generic], ...]]] = [[] for _ in range(len(arrays[0]))]
    for raw, head in zip(arrays, io.heads, strict=True):
        n, _, h, w = raw.shape
        cells = raw.reshape(n, len(head.anchors), head.values + len(io.classes), h, w)
        image, anchor, row, column = np.nonzero(probabilities(cells[:, :, head.values - 1], head) > conf)
        picked = cells[image, anchor, :, row, column]  # (K, 5 + C)
        objectness, classes = confidences(picked, head)
        grid = np.array([w, h], np.float32)
        corner = np.stack((column, row), 1).astype(np.float32)
        anchors = head.relative_anchors((w, h))[anchor]
        _, boxes = decode_boxes(box_numbers(picked, head), corner, grid, anchors, head)
        boxes = cxcywh_to_xyxy(boxes).astype(np.float32)
        scores = objectness[:, None] * classes
        cell, class_ids = np.nonzero(scores > conf)
        order = image[cell]
        for i in range(n):
            mine = order == i
            k = cell[mine]
            parts[i].append((boxes[k], scores[k, class_ids[mine]], class_ids[mine], objectness[k]))
    return [Candidates(*(np.concatenate(column) for column in zip(*part, strict=True))) for part in parts]


def suppress(candidates: Candidates, settings: Suppression) -> Boxes:
    """Candidates of one picture -> those that survive suppression, boxes still relative to the input."""
    keep = nms(candidates.boxes_norm, candidates.scores, candidates.class_ids, settings.iou, settings.nms)
    return Boxes(candidates.boxes_norm[keep], candidates.scores[keep], candidates.class_ids[keep])
