"""Average precision as PASCAL VOC and darknet's `detector map` compute it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.bootstrap import Interval, intervals
from toolkit.evaluation.columns import Detections, Floats, Truth, check_columns
from toolkit.evaluation.matching import Matches, best_object, mark_matches, match, touches
from toolkit.runtime import InputError
from toolkit.tables import Shown
from toolkit.text import json_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def precision_recall(matches: Matches, class_id: int | None = None) -> tuple[Floats, Floats, Floats]:
    """Recall, precision and score (each (j,)) after each detection of one class, or of all pooled."""
    chosen = slice(None) if class_id is None else matches.class_ids == class_id
    right = np.cumsum(matches.right[chosen])
    total = matches.truths.sum() if class_id is None else matches.truths[class_id]
    ranks = np.arange(1, len(right) + 1)
    recall = right / total if total else np.zeros(len(right))
    return recall, right / ranks, matches.scores[chosen].astype(np.float64)


def average_precision(recall: Floats, precision: Floats, levels: Floats | None = None) -> float:
    """Area under the falling hull of a precision-recall curve in rank order, or, with `levels`, the mean of
    the best precision at or beyond each of those recalls."""
    if not len(recall):
        return 0.0
    hull = np.maximum.accumulate(precision[::-1])[::-1]
    if levels is None:
        return float(np.sum(np.diff(recall, prepend=0.0) * hull))
    at = np.searchsorted(recall, levels, "left")
    return float(np.mean(np.append(hull, 0.0)[at]))


@dataclass(frozen=True, eq=False)
class ClassScore:
    """One class; the three columns are its precision-recall curve, by falling score."""

    name: str
    truths: int
    detections: int
    ap: float  # 0..1, NaN where there is no object to find
    recall: Floats
    precision: Floats
    scores: Floats


@dataclass(frozen=True, eq=False)
class MapScores:
    """Mean average precision at one IoU."""

    protocol: str  # "voc" or "darknet"
    iou: float
    points: str
    difficult: str
    map: float  # 0..1
    per_class: tuple[ClassScore, ...]
    matches: Matches

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `map50` (named after the IoU), the choices, and AP and counts per class."""
        return {
            f"map{100 * self.iou:g}": self.map,
            "protocol": self.protocol,
            **self.choices(),
            "pictures": self.matches.pictures,
            "per_class": {
                c.name: {"ap": json_number(c.ap), "truths": c.truths, "detections": c.detections}
                for c in self.per_class
            },
        }

    def choices(self) -> dict[str, Any]:
        """What the protocol leaves open: IoU of a match, points of the curve, difficult objects."""
        return {"match_iou": self.iou, "points": self.points, "difficult": self.difficult}


def _class_scores(matches: Matches, classes: Sequence[str], levels: Floats | None) -> tuple[ClassScore, ...]:
    if not matches.truths.any():
        raise InputError("every object of the data set is marked to be ignored: nothing to find")
    scores = []
    for c, name in enumerate(classes):
        recall, precision, at = precision_recall(matches, c)
        ap = average_precision(recall, precision, levels) if matches.truths[c] else float("nan")
        scores.append(ClassScore(name, int(matches.truths[c]), len(at), ap, recall, precision, at))
    return tuple(scores)


def voc(
    truth: Truth,
    detections: Detections,
    iou: float = 0.5,
    points: str = "area",
    difficult: str = "ignored",
    pixel: float = 0.0,
) -> MapScores:
    """PASCAL VOC's AP per class and its mean over the classes that have objects; matching as in `match`.

    `points`: "area" (VOC2010 and later) or "11" (VOC2007: the mean precision at recalls 0, .1, ... 1).
    Source: the VOC devkit's VOCevaldet.m. InputError where there is nothing to find.

    >>> boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    >>> truth = Truth(("cat",), np.array([0, 2]), boxes, np.zeros(2, np.int32), *np.zeros((2, 2), bool))
    >>> picture = boxes[:1], np.array([0.9]), np.array([0])
    >>> voc(truth, Detections.from_pictures([picture])).map
    0.5
    """
    if points not in ("area", "11"):
        raise InputError(f"points must be 'area' or '11' for VOC, not {points!r}")
    matches = match(truth, detections, iou, difficult, pixel)
    # The devkit's recall levels carry the rounding of 0:.1:1; a recall of exactly .3 misses the fourth.
    levels = None if points == "area" else np.arange(11) * 0.1
    per_class = _class_scores(matches, truth.classes, levels)
    mean = float(np.nanmean([c.ap for c in per_class]))
    return MapScores("voc", iou, points, difficult, mean, per_class, matches)


def darknet(
    truth: Truth,
    detections: Detections,
    iou: float = 0.5,
    points: str = "area",
    difficult: str = "dropped",
) -> MapScores:
    """What `darknet detector map` prints, from detections above .005 after NMS: one per box *and* class, and
    *not* clipped to the picture (clipping raises the mAP of the published networks by .5 to .8 points).

    Each detection takes the object of its class that it overlaps most, if the IoU is above `iou`; by falling
    score over all pictures the first to take an object is right, later ones are wrong. The mean is over *all*
    classes, those without an object counting 0.

    `points`: "area" (`-points 0`), "11" or "101". `difficult` says what an object of `Truth.ignore` is:
    "dropped": absent from the labels, as darknet's voc_label.py leaves them out, so that its detection is
    wrong (the published scores are of such labels); "counted": an object as any other; "ignored" (a
    `difficult=` list in the .data file): absent, and a detection that finds no other object and overlaps it
    is dropped.
    Source: validate_detector_map in darknet's detector.c. InputError where there is nothing to find.
    """
    if points not in ("area", "11", "101"):
        raise InputError(f"points must be 'area', '11' or '101' for darknet, not {points!r}")
    if difficult not in ("counted", "dropped", "ignored"):
        raise InputError(f"difficult must be 'counted', 'dropped' or 'ignored', not {difficult!r}")
    check_columns(truth, detections, iou)
    countable = ~truth.crowd if difficult == "counted" else ~truth.crowd & ~truth.ignore
    best = best_object(truth, detections, countable, iou, strict=True)
    dropped = (best < 0) & touches(truth, detections, truth.crowd, iou, of_detection=True)
    if difficult == "ignored":
        dropped |= (best < 0) & (best_object(truth, detections, truth.ignore, iou, strict=True) >= 0)
    matches = mark_matches(truth, detections, best, dropped, countable)
    levels = None if points == "area" else np.arange(int(points)) / (int(points) - 1)
    per_class = _class_scores(matches, truth.classes, levels)
    mean = float(np.mean([np.nan_to_num(c.ap) for c in per_class]))
    return MapScores("darknet", iou, points, difficult, mean, per_class, matches)


def _drawn_aps(
    truth: Truth, detections: Detections, iou: float
) -> Callable[[NDArray[np.int64] | None], NDArray[np.float64]]:
    """A function from how often each picture counts to VOC's (C,) APs; NaN for a class without objects."""
    matches = match(truth, detections, iou)
    countable = ~truth.crowd & ~truth.ignore
    objects = np.zeros((len(truth), len(truth.classes)), np.int64)
    np.add.at(objects, (truth.images[countable], truth.labels[countable]), 1)
    images = detections.images[matches.rows]
    columns = [
        (images[c], matches.right[c]) for c in (matches.class_ids == i for i in range(objects.shape[1]))
    ]

    def aps(weights: NDArray[np.int64] | None) -> NDArray[np.float64]:
        times = np.ones(len(truth), np.int64) if weights is None else weights
        answer = np.full(len(columns), np.nan)
        for c, total in enumerate(times @ objects):
            if total:
                at, marks = columns[c]
                right, shown = np.cumsum(times[at] * marks), np.cumsum(times[at])
                answer[c] = average_precision(right / total, right / np.maximum(shown, 1))
        return answer

    return aps


def _mean(aps: NDArray[np.float64]) -> float:
    known = aps[~np.isnan(aps)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True, eq=False)
class ClassIntervals(Shown):
    """VOC's AP of every class that has objects, and their mean, with 95 % intervals over other pictures."""

    iou: float
    mean: Interval
    per_class: dict[str, Interval]  # the best first
    objects: dict[str, int]
    pictures: int

    def caption(self) -> str:
        """The mean, and what the intervals are."""
        return (
            f"VOC AP{100 * self.iou:g}, mean of the classes: {self.mean}. Intervals are 95 %, by drawing the "
            f"{self.pictures:,} pictures with replacement."
        )

    def columns(self) -> dict[str, list[str]]:
        """A row for each class."""
        return {
            "class": list(self.per_class),
            "objects": [f"{self.objects[name]:,}" for name in self.per_class],
            f"AP{100 * self.iou:g}": [f"{each.value:.3f}" for each in self.per_class.values()],
            "95 %": [f"[{each.low:.3f}, {each.high:.3f}]" for each in self.per_class.values()],
        }

    def figure(self) -> Figure:
        """Bars with intervals; the mean is the title."""
        from toolkit import viz

        rows = list(self.per_class.items())
        errors = np.array([[each.value - each.low, each.high - each.value] for _, each in rows]).T
        mean = f"{self.mean.value:.3f} [{self.mean.low:.3f}, {self.mean.high:.3f}]"
        title = f"AP{100 * self.iou:g} {mean}, mean of {len(rows)} classes"
        return viz.bars(
            [f"{name} ({self.objects[name]:,})" for name, _ in rows],
            [each.value for _, each in rows],
            np.maximum(errors, 0),
            xlabel=f"VOC AP{100 * self.iou:g}, 95 % intervals; objects in brackets",
            title=title,
            form="{:.3f}",
        )


def by_class(
    truth: Truth, detections: Detections, iou: float = 0.5, rounds: int = 1000, seed: int = 0
) -> ClassIntervals:
    """VOC's AP by class as of `voc`, with intervals.

    Args:
        truth, detections: of the same pictures and classes.
        iou: least overlap of a match.
        rounds: draws of pictures.
        seed: of the draws.

    Raises:
        InputError: there is nothing to find.
    """
    _class_scores(match(truth, detections, iou), truth.classes, None)  # the sentence where nothing is to find
    aps = _drawn_aps(truth, detections, iou)

    def figures(weights: NDArray[np.int64] | None, _: np.random.Generator) -> NDArray[np.float64]:
        classes = aps(weights)
        return np.append(_mean(classes), classes)

    mean, *each = intervals(figures, len(truth), rounds, seed=seed)
    counted = truth.labels[~truth.crowd & ~truth.ignore]
    objects = np.bincount(counted, minlength=len(truth.classes))
    rows = [row for row in zip(truth.classes, each, objects.tolist(), strict=True) if row[2]]
    rows.sort(key=lambda row: -row[1].value)
    return ClassIntervals(
        iou, mean, {name: ap for name, ap, _ in rows}, {name: count for name, _, count in rows}, len(truth)
    )
