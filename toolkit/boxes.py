"""Boxes: formats, overlap measures, non-maximum suppression and resize geometry.

Boxes are float32 arrays (N, 4) in absolute xyxy pixels unless a suffix says otherwise
(`_cxcywh`, `_xywh`, `_norm`). A degenerate box (no width or height) has area 0 and IoU 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
NMS_KINDS = ("plain", "diou")


def cxcywh_to_xyxy(boxes: Floats) -> Floats:
    """(..., 4) centre, width, height -> corners."""
    half = boxes[..., 2:] / 2
    return np.concatenate((boxes[..., :2] - half, boxes[..., :2] + half), axis=-1)


def xyxy_to_cxcywh(boxes: Floats) -> Floats:
    """(..., 4) corners -> centre, width, height."""
    return np.concatenate(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), axis=-1)


def xywh_to_xyxy(boxes: Floats) -> Floats:
    """(..., 4) COCO's left, top, width, height -> corners."""
    return np.concatenate((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), axis=-1)


def xyxy_to_xywh(boxes: Floats) -> Floats:
    """(..., 4) corners -> COCO's left, top, width, height."""
    return np.concatenate((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), axis=-1)


def clip(boxes: Floats, width: float, height: float) -> Floats:
    """Boxes (N, 4) cut to a picture of width x height."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def area(boxes: Floats) -> Floats:
    """(..., 4) -> (...)"""
    return np.clip(boxes[..., 2] - boxes[..., 0], 0, None) * np.clip(boxes[..., 3] - boxes[..., 1], 0, None)


def _intersection(a: Floats, b: Floats) -> Floats:
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    result: Floats = np.prod(np.clip(high - low, 0, None), axis=-1)
    return result


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def iou_aligned(a: Floats, b: Floats, kind: str = "iou") -> Floats:
    """Overlap of broadcast boxes (..., 4), (..., 4) -> (...).

    `kind`: "iou" in 0..1; "giou" (arXiv:1902.09630) and "diou", "ciou" (arXiv:1911.08287) in -1..1.
    """
    intersection = _intersection(a, b)
    union = area(a) + area(b) - intersection
    iou = _ratio(intersection, union)
    if kind == "iou":
        return iou
    hull = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])
    if kind == "giou":
        hull_area = np.prod(hull, axis=-1)
        return iou - _ratio(hull_area - union, hull_area)
    centre2 = np.sum(((a[..., :2] + a[..., 2:]) / 2 - (b[..., :2] + b[..., 2:]) / 2) ** 2, axis=-1)
    diou = iou - _ratio(centre2, np.sum(hull**2, axis=-1))
    if kind == "diou":
        return diou
    if kind == "ciou":
        size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
        angle = np.arctan2(size_a[..., 0], size_a[..., 1]) - np.arctan2(size_b[..., 0], size_b[..., 1])
        v = 4 / np.pi**2 * angle**2
        return diou - _ratio(v * v, 1 - iou + v)
    raise ValueError(f"iou kind must be iou, giou, diou or ciou, not {kind!r}")


def iou(a: Floats, b: Floats, kind: str = "iou") -> Floats:
    """All pairs of boxes (N, 4) and (M, 4) -> (N, M); kinds as in `iou_aligned`."""
    return iou_aligned(a[:, None], b[None], kind)


def match_greedily(overlaps: Floats, threshold: float, best_first: bool = False) -> NDArray[np.intp]:
    """Pair rows with columns, each column once: rows in order take their best free column.

    Args:
        overlaps: (N, M), such as the IoU of N detections by falling score with M objects.
        threshold: a pair overlaps by strictly more.
        best_first: take pairs by falling overlap instead of row by row.

    Returns:
        (N,) the column of each row, -1 where none is left.

    >>> overlaps = np.array([[0.8, 0.6], [0.9, 0.7], [0.9, 0.4]])
    >>> match_greedily(overlaps, 0.5)
    array([ 0,  1, -1])
    >>> match_greedily(overlaps, 0.5, best_first=True)
    array([ 1,  0, -1])
    """
    overlaps = np.asarray(overlaps, np.float64)
    rows, columns = np.nonzero(overlaps > threshold)
    falling = -overlaps[rows, columns]
    order = np.lexsort((falling,) if best_first else (falling, rows))
    pairs = np.full(len(overlaps), -1, np.intp)
    free = np.ones(overlaps.shape[1], bool)
    for i, j in zip(rows[order], columns[order], strict=True):
        if pairs[i] < 0 and free[j]:
            pairs[i], free[j] = j, False
    return pairs


def nms(
    boxes: Floats, scores: Floats, class_ids: NDArray[np.integer], threshold: float, kind: str = "plain"
) -> NDArray[np.intp]:
    """Indices kept by greedy per-class suppression, by falling score.

    A box goes when its overlap with a kept box of its class is strictly above `threshold`.
    "plain": IoU, as darknet's do_nms_sort. "diou": darknet's greedynms, IoU - (d2 / c2) ** 0.6 with d the
    centre distance and c the enclosing diagonal (newer builds' diounms_sort). Boxes in any one unit.
    """
    if kind not in NMS_KINDS:
        raise ValueError(f"NMS kind must be one of {NMS_KINDS}, not {kind!r}")
    if not len(scores):
        return np.zeros(0, np.intp)
    order = np.argsort(-scores, kind="stable")
    survivors = _greedy_plain if kind == "plain" else _greedy_diou
    kept = []
    for class_id in np.unique(class_ids):
        rows = order[class_ids[order] == class_id]
        kept.append(rows[survivors(boxes[rows], threshold)])
    result = np.concatenate(kept)
    return result[np.argsort(-scores[result], kind="stable")]


def _greedy_plain(boxes: Floats, threshold: float) -> NDArray[np.intp]:
    """Indices of the survivors among `boxes` (N, 4) by falling score."""
    falling = np.arange(len(boxes), 0, -1, dtype=np.float32)
    kept = cv2.dnn.NMSBoxes(xyxy_to_xywh(boxes.astype(np.float64)), falling, 0.0, threshold)  # type: ignore[arg-type]
    return np.asarray(kept, np.intp)


def _greedy_diou(boxes: Floats, threshold: float) -> NDArray[np.intp]:
    """The same under darknet's measure."""
    low, high = boxes[:, :2].T, boxes[:, 2:].T  # (2, N)
    areas = area(boxes)
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        best, rest = slice(i, i + 1), slice(i + 1, None)
        sides = np.minimum(high[:, best], high[:, rest]) - np.maximum(low[:, best], low[:, rest])
        shared = np.clip(sides, 0, None).prod(0)
        hull = np.maximum(high[:, best], high[:, rest]) - np.minimum(low[:, best], low[:, rest])
        apart = (low[:, best] + high[:, best] - low[:, rest] - high[:, rest]) / 2
        overlap = _ratio(shared, areas[i] + areas[rest] - shared)
        overlap = overlap - _ratio((apart**2).sum(0), (hull**2).sum(0)) ** 0.6
        alive[rest] &= overlap <= threshold
    return np.flatnonzero(alive)


@dataclass(frozen=True)
class Placement:
    """Where a picture of `size` (w, h) lies inside a network input: `inner` (w, h) pixels at `offset` (x, y)
    of an input of `outer` (w, h)."""

    size: tuple[int, int]
    outer: tuple[int, int]
    inner: tuple[int, int]
    offset: tuple[int, int]

    def to_image(self, boxes_norm: Floats) -> Floats:
        """Boxes (N, 4) xyxy relative to the network input -> pixels of the picture (not clipped)."""
        scale = np.array([self.outer[0] / self.inner[0], self.outer[1] / self.inner[1]] * 2, np.float32)
        shift = np.array([self.offset[0] / self.inner[0], self.offset[1] / self.inner[1]] * 2, np.float32)
        return ((boxes_norm * scale - shift) * np.array(self.size * 2, np.float32)).astype(np.float32)

    def to_input(self, boxes: Floats) -> Floats:
        """Boxes (N, 4) xyxy in pixels of the picture -> pixels of the network input."""
        scale = np.array([self.inner[0] / self.size[0], self.inner[1] / self.size[1]] * 2, np.float32)
        return (boxes * scale + np.array(self.offset * 2, np.float32)).astype(np.float32)


def stretch(size: tuple[int, int], outer: tuple[int, int]) -> Placement:
    """The picture fills the input, its proportions lost: what darknet does unless asked otherwise."""
    return Placement(size, outer, outer, (0, 0))


def letterbox(size: tuple[int, int], outer: tuple[int, int]) -> Placement:
    """The picture keeps its proportions, centred (darknet's letterbox_image, its integer arithmetic).

    Boxes come back from where the picture is; darknet's correct_yolo_boxes takes half of an odd border as it
    is and puts them up to half a pixel of the input off.
    """
    (w, h), (ow, oh) = size, outer
    inner = (ow, h * ow // w) if ow / w < oh / h else (w * oh // h, oh)
    inner = (max(1, inner[0]), max(1, inner[1]))
    return Placement(size, outer, inner, ((ow - inner[0]) // 2, (oh - inner[1]) // 2))


FITS: dict[str, Callable[[tuple[int, int], tuple[int, int]], Placement]] = {
    "stretch": stretch,
    "letterbox": letterbox,
}


def padded(size: tuple[int, int], long_side: int, multiple: int) -> Placement:
    """The picture keeps its proportions, its longer side `long_side` px, in the smallest input around it
    whose sides are multiples of `multiple`."""
    scale = long_side / max(size)
    inner = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    outer = (-(-inner[0] // multiple) * multiple, -(-inner[1] // multiple) * multiple)
    return Placement(size, outer, inner, ((outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2))
