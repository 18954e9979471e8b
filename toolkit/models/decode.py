"""The one decoding: from raw head maps to boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toolkit.boxes import cxcywh_to_xyxy
from toolkit.models.io import ModelIO


@dataclass(frozen=True)
class Candidates:
    """Boxes above the threshold in one picture, before suppression; a cell may appear once per class."""

    boxes_norm: NDArray[np.float32]  # (K, 4) xyxy relative to the network input
    scores: NDArray[np.float32]  # (K,) objectness x class probability, 0..1
    class_ids: NDArray[np.int64]  # (K,)
    objectness: NDArray[np.float32]  # (K,)


LARGEST = 20.0  # of tw and th, boxes of 5e8 anchors: what exp makes of more, and areas, may be infinite


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.reciprocal(1 + np.exp(-x))


def decode(maps: Sequence[Any], io: ModelIO, conf: float) -> list[Candidates]:
    """Raw head maps, each (N, A * (5 + C), h, w) -> the candidates of each of the N pictures.

    darknet's get_yolo_box and get_yolo_detections: x = (i + sigmoid(tx) s - (s - 1) / 2) / w with
    s = scale_x_y, width = exp(tw) anchor_w / net_w; new_coords has no sigmoid and (2 tw)^2. A cell counts
    where its objectness is above `conf`, a class there where objectness x class probability is above `conf`.
    Unlike darknet's, a box stays finite: tw and th count up to `LARGEST`.
    """
    arrays = [m.detach().float().cpu().numpy() if isinstance(m, Tensor) else np.asarray(m) for m in maps]
    parts: list[list[tuple[NDArray, ...]]] = [[] for _ in range(len(arrays[0]))]
    for raw, head in zip(arrays, io.heads, strict=True):
        n, _, h, w = raw.shape
        cells = raw.reshape(n, len(head.anchors), 5 + len(io.classes), h, w)
        squash = (lambda x: x) if head.new_coords else _sigmoid
        image, anchor, row, column = np.nonzero(squash(cells[:, :, 4]) > conf)
        picked = cells[image, anchor, :, row, column]  # (K, 5 + C)
        objectness = squash(picked[:, 4])
        s = np.float32(head.scale_x_y)
        xy = squash(picked[:, :2]) * s - (s - 1) / 2 + np.stack((column, row), 1)
        xy = xy / np.array([w, h], np.float32)
        anchors = np.array(head.anchors, np.float32)[anchor] / np.array([w, h], np.float32) / head.stride
        wh = picked[:, 2:4]
        wh = ((2 * wh) ** 2 if head.new_coords else np.exp(np.minimum(wh, LARGEST))) * anchors
        boxes = cxcywh_to_xyxy(np.concatenate((xy, wh), 1)).astype(np.float32)
        scores = objectness[:, None] * squash(picked[:, 5:])
        cell, class_ids = np.nonzero(scores > conf)
        order = image[cell]
        for i in range(n):
            mine = order == i
            k = cell[mine]
            parts[i].append((boxes[k], scores[k, class_ids[mine]], class_ids[mine], objectness[k]))
    return [Candidates(*(np.concatenate(column) for column in zip(*part, strict=True))) for part in parts]
