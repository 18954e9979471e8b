"""Which pictures to label next: those that the network is unsure of and that differ from what is labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.data.curation.features import embed_with, embeddings_of
from toolkit.data.dataset import Dataset
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.models.decode import Boxes
from toolkit.models.network import Detecting
from toolkit.runtime import InputError

LEAST_SCORE = 0.1  # a picture without a detection counts as one with this score
LEAST_DOUBT = 0.05  # so that pictures still differ where the network is sure of all


def doubt(scores: NDArray[np.floating]) -> float:
    """How unsure a network is of a picture: the sum of 4 s (1 - s) over the scores of its detections. A
    detection with a score of .5 counts 1, one with a score near 0 or 1 nearly 0.

    >>> doubt(np.array([0.5])), round(doubt(np.array([0.99, 0.99])), 2)
    (1.0, 0.08)
    """
    each = np.asarray(scores, np.float64) if len(scores) else np.array([LEAST_SCORE])
    return float((4 * each * (1 - each)).sum())


def label_next(
    embeddings: NDArray[np.floating], doubts: Sequence[float], labelled: NDArray[np.bool_], count: int
) -> list[int]:
    """The pictures that would teach most, the first first.

    Each next one has the largest product of its doubt and its distance (one minus the cosine) to the nearest
    picture that is labelled or chosen already: a copy of one of them comes last.

    Args:
        embeddings: (n, d).
        doubts: n, see `doubt`.
        labelled: (n,) those that need no labels.
        count: at most so many.

    >>> label_next(np.array([[1, 0], [1, 0], [0, 1]]), [1, 1, 0.9], np.array([True, False, False]), 2)
    [2, 1]
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
    distance = np.full(len(directions), 2.0)  # the largest there is
    for i in np.flatnonzero(labelled):
        distance = np.minimum(distance, 1 - directions @ directions[i])
    gain = np.maximum(np.asarray(doubts, np.float64), LEAST_DOUBT)
    free, chosen = ~labelled, list[int]()
    for _ in range(min(count, int(free.sum()))):
        best = int(np.where(free, gain * np.maximum(distance, 0), -1).argmax())
        chosen.append(best)
        free[best] = False
        distance = np.minimum(distance, 1 - directions @ directions[best])
    return chosen


@dataclass(frozen=True)
class Queue:
    """Pictures to label next."""

    pictures: NDArray[np.int64]  # indices into the data set, the first first
    detections: list[Boxes]  # of each of them, px
    unlabelled: int  # pictures without labels, of which they were chosen


def queue_of(
    dataset: Dataset,
    network: Detecting,
    count: int,
    conf: float = LEAST_SCORE,
    unreadable: dict[int, str] | None = None,
) -> Queue:
    """The pictures without labels that would teach a network most, with its detections.

    Args:
        dataset: some of its pictures have no labels.
        network: a detector on any engine.
        count: at most so many.
        conf: least score of the detections that are handed on.
        unreadable: as of `toolkit.inference.run.run`.

    Raises:
        InputError: every picture has labels, or one does not decode and `unreadable` is not given.
    """
    labelled = np.diff(dataset.starts) > 0
    if labelled.all():
        raise InputError(
            f"every picture of {dataset.root} has labels: expected some without, of which the next are chosen"
        )
    paths = [dataset.path(i) for i in range(len(dataset))]
    embeddings = embeddings_of(paths, embed_with(network), unreadable=unreadable)
    usable = np.setdiff1d(np.arange(len(dataset)), list(unreadable or ()))
    free = usable[~labelled[usable]]
    settings = DetectSettings(conf=min(conf, LEAST_SCORE))
    found = dict(zip(free.tolist(), run(network, [paths[i] for i in free], settings, batch=8), strict=True))
    doubts = [doubt(found[i].scores) if i in found else 0.0 for i in usable.tolist()]
    pictures = usable[label_next(embeddings[usable], doubts, labelled[usable], count)]
    detections = [_above(found[i], conf) for i in pictures.tolist()]
    return Queue(pictures, detections, int((~labelled).sum()))


def _above(boxes: Boxes, conf: float) -> Boxes:
    keep = boxes.scores >= conf
    return Boxes(boxes.boxes[keep], boxes.scores[keep], boxes.class_ids[keep])
