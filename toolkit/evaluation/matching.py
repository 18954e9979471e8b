"""Pairing detections with labelled objects: by falling score, each object taken once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit import boxes as bx
from toolkit.evaluation.columns import Bools, Detections, Floats, Ints, Truth, check_columns
from toolkit.runtime import InputError

_PAIRS_AT_ONCE = 300_000  # of detections and objects of one picture: about 30 MB


def overlaps(
    truth: Truth,
    detections: Detections,
    candidates: Bools,
    least: float,
    same_class: bool = True,
    of_detection: bool = False,
    pixel: float = 0.0,
) -> tuple[Ints, Ints, Floats]:
    """Pairs of a detection and a candidate object of its picture (and class) with an overlap of at least
    `least` (above 0): detection rows, truth rows, and the IoU or, with `of_detection`, the share of the
    detection's area."""
    classes = len(truth.classes) if same_class else 1
    keys = truth.images * classes + (truth.labels if same_class else 0)
    rows = np.flatnonzero(candidates)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    detection_keys = detections.images * classes + (detections.class_ids if same_class else 0)
    low = np.searchsorted(keys[rows], detection_keys, "left")
    counts = np.searchsorted(keys[rows], detection_keys, "right") - low
    cuts = np.searchsorted(np.cumsum(counts), np.arange(_PAIRS_AT_ONCE, counts.sum(), _PAIRS_AT_ONCE))
    grow = np.array([0, 0, pixel, pixel])
    predicted, labelled = detections.boxes + grow, truth.boxes + grow
    (left, _, right, _), (low_x, _, high_x, _) = (
        np.ascontiguousarray(predicted.T),
        np.ascontiguousarray(labelled.T),
    )
    parts = []
    for part in np.split(np.arange(len(detections)), cuts):
        many = counts[part]
        d = np.repeat(part, many)
        within = np.arange(len(d)) - np.repeat(np.cumsum(many) - many, many)
        t = rows[np.repeat(low[part], many) + within]
        # Most pairs do not overlap: finding that out first halves the time of a crowded picture.
        near = (np.repeat(left[part], many) < high_x[t]) & (low_x[t] < np.repeat(right[part], many))
        d, t = d[near], t[near]
        a, b = predicted[d], labelled[t]
        overlap: Floats
        if of_detection:
            inside = np.concatenate((np.maximum(a, b)[:, :2], np.minimum(a, b)[:, 2:]), axis=1)
            overlap = bx.area(inside) / np.maximum(bx.area(a), np.finfo(np.float64).tiny)
        else:
            overlap = bx.iou_aligned(a, b)
        keep = overlap >= least
        parts.append((d[keep], t[keep], overlap[keep]))
    d, t, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return d, t, overlap


def best_object(
    truth: Truth,
    detections: Detections,
    candidates: Bools,
    iou: float,
    strict: bool = False,
    pixel: float = 0.0,
) -> Ints:
    """(k,) the candidate of the same class that each detection overlaps most (the first of equals), if by
    at least `iou` (more than `iou` with `strict`); else -1."""
    d, t, overlap = overlaps(truth, detections, candidates, iou, pixel=pixel)
    if strict:
        d, t, overlap = d[overlap > iou], t[overlap > iou], overlap[overlap > iou]
    order = np.lexsort((t, -overlap, d))
    first, at = np.unique(d[order], return_index=True)
    best = np.full(len(detections), -1, np.int64)
    best[first] = t[order][at]
    return best


def touches(truth: Truth, detections: Detections, candidates: Bools, iou: float, **how: bool) -> Bools:
    touching = np.zeros(len(detections), bool)
    if candidates.any():
        touching[overlaps(truth, detections, candidates, iou, **how)[0]] = True
    return touching


@dataclass(frozen=True, eq=False)
class Matches:
    """Every detection that counts, by falling score, and whether it is right."""

    rows: Ints  # (j,) into the detections
    scores: Floats  # (j,)
    class_ids: Ints  # (j,)
    objects: Ints  # (j,) row of the object it finds, -1 for none
    right: Bools  # (j,) the first detection of its object; others of the same object are wrong
    truths: Ints  # (C,) objects to find per class
    pictures: int


def mark_matches(
    truth: Truth, detections: Detections, best: Ints, dropped: Bools, countable: Bools
) -> Matches:
    order = np.argsort(-detections.scores, kind="stable")
    order = order[~dropped[order]]
    objects = best[order]
    right = np.zeros(len(order), bool)
    unique, first = np.unique(objects, return_index=True)
    right[first[unique >= 0]] = True
    return Matches(
        order,
        detections.scores[order],
        detections.class_ids[order],
        objects,
        right,
        np.bincount(truth.labels[countable], minlength=len(truth.classes)),
        len(truth),
    )


def match(
    truth: Truth, detections: Detections, iou: float = 0.5, difficult: str = "ignored", pixel: float = 0.0
) -> Matches:
    """Pairs detections with objects as the VOC devkit does.

    By falling score, each detection takes the object of its class that it overlaps most, if the IoU is at
    least `iou`; the first to take an object is right, later ones are wrong.

    Args:
        truth: labelled objects.
        detections: of the same pictures and classes.
        iou: least overlap, above 0 and at most 1.
        difficult: what an object of `Truth.ignore` is. "ignored": it need not be found, and detections
            whose best object it is are dropped, however many there are; "counted": an object like any
            other.
        pixel: 1.0 for corners that include their last pixel, as in the devkit; 0.0 for plain coordinates.

    Returns:
        Right and wrong detections by falling score, with counts of objects and pictures.
    """
    # not boxes.match_greedily: a detection takes its best object even if that is taken, and is then wrong
    check_columns(truth, detections, iou)
    if difficult not in ("ignored", "counted"):
        raise InputError(f"difficult must be 'ignored' or 'counted', not {difficult!r}")
    best = best_object(truth, detections, ~truth.crowd, iou, pixel=pixel)
    dropped = (best < 0) & touches(truth, detections, truth.crowd, iou, of_detection=True)
    countable = ~truth.crowd
    if difficult == "ignored":
        dropped |= (best >= 0) & truth.ignore[best]
        countable = countable & ~truth.ignore
    return mark_matches(truth, detections, best, dropped, countable)


def pair_up(truth: Truth, detections: Detections, threshold: float, iou: float) -> tuple[Ints, Ints, Bools]:
    """Detections of `threshold` and above (rows), the object each takes (-1 for none), and which of them are
    dropped. Objects and detections pair one to one, of one class first, by falling IoU."""
    # boxes.match_greedily by sparse pairs of all pictures at once, and with class before IoU
    rows = np.flatnonzero(detections.scores >= threshold)
    shown = detections.select(rows)
    taken = np.full(len(rows), -1, np.int64)
    d, t, overlap = overlaps(truth, shown, ~truth.crowd & ~truth.ignore, iou, same_class=False)
    order = np.lexsort((t, d, -overlap, shown.class_ids[d] != truth.labels[t]))
    d, t = d[order], t[order]
    while len(d):
        # What comes first for its detection and for its object, going through one by one would take.
        first = np.zeros((2, len(d)), bool)
        first[0, np.unique(d, return_index=True)[1]] = True
        first[1, np.unique(t, return_index=True)[1]] = True
        both = first.all(axis=0)
        taken[d[both]] = t[both]
        free = ~np.isin(d, d[both]) & ~np.isin(t, t[both])
        d, t = d[free], t[free]
    ignored = touches(truth, shown, truth.ignore & ~truth.crowd, iou, same_class=False)
    crowds = touches(truth, shown, truth.crowd, iou, same_class=False, of_detection=True)
    return rows, taken, (taken < 0) & (ignored | crowds)
