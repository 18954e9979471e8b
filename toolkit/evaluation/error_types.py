"""What a detector loses by each type of error, as TIDE counts them: class, place, both, double, background,
missed.

Source: Bolya, Foley, Hays and Hoffman, TIDE: A General Toolbox for Identifying Object Detection Errors, 2020
(https://arxiv.org/abs/2008.08115).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from toolkit.evaluation.average_precision import average_precision, precision_recall
from toolkit.evaluation.columns import Detections, Ints, Truth
from toolkit.evaluation.matching import Matches, match, overlaps
from toolkit.runtime import InputError
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TYPES = {
    "class": "right place, wrong class",
    "place": "right class, box too far off",
    "both": "wrong class, and box too far off",
    "double": "object that a better detection has found already",
    "background": "there is no object",
    "missed": "object that no detection is near",
}
CLASS, PLACE, BOTH, DOUBLE, BACKGROUND, RIGHT = range(6)


@dataclass(frozen=True, eq=False)
class ErrorTypes(Shown):
    """Errors by type.

    Attributes:
        ap: mean average precision over the classes, VOC's, at the overlap `iou`.
        lost: type -> what that mean would gain without these errors alone; they do not add up.
        counts: type -> number of errors among the detections of `threshold` and above.
        threshold: least score of what is counted.
        iou: least overlap of a right detection.
    """

    ap: float
    lost: dict[str, float]
    counts: dict[str, int]
    threshold: float
    iou: float

    def caption(self) -> str:
        """What is counted."""
        return (
            f"AP{100 * self.iou:g} is {self.ap:.3f}. Gain: what it would be higher without the errors of one "
            f"type, over all scores; errors: their number at a threshold of {self.threshold:.3f}."
        )

    def columns(self) -> dict[str, list[str]]:
        """A row for each type."""
        return {
            "type": list(TYPES),
            "what it is": list(TYPES.values()),
            f"gain in AP{100 * self.iou:g}": [f"{self.lost[name]:+.3f}" for name in TYPES],
            "errors": [f"{self.counts[name]:,}" for name in TYPES],
        }

    def strong(self) -> str:
        """The type that costs most."""
        return max(self.lost, key=self.lost.__getitem__)

    def figure(self) -> Figure:
        """Bars of the gains; the type that costs most is the title."""
        from toolkit import viz

        name = self.strong()
        return viz.bars(
            list(TYPES),
            [self.lost[each] for each in TYPES],
            xlabel=f"gain in AP{100 * self.iou:g} without these errors",
            title=f"Most is lost by: {name} ({TYPES[name]})",
            form="{:+.3f}",
        )


def error_types(
    truth: Truth,
    detections: Detections,
    threshold: float = 0.0,
    iou: float = 0.5,
    background: float = 0.1,
) -> ErrorTypes:
    """Sort the errors of a detector by type, and measure what each type costs.

    A wrong detection is a "place" error where it overlaps an object of its class by `background` or more but
    less than `iou`, else a "class" error where it overlaps one of another class by `iou`, else "double" where
    it overlaps one of its class by `iou`, else "background" where it overlaps none by `background`, else
    "both". An object that is not found, and that no class or place error is on, is "missed". Without its
    errors means: the best-scored class or place error on an object that is not found becomes right, every
    other wrong detection of the type goes, and so do missed objects; a class of which nothing is left to
    find then counts 1. Detections of ignored objects and crowds are left out, as in
    `matching.match`, whose matches are the right detections.

    Args:
        truth, detections: of the same pictures and classes.
        threshold: least score of the errors that are counted; what a type costs is measured over all scores.
        iou: least overlap of a right detection, 0..1.
        background: least overlap of a detection that is of an object at all, below `iou`.

    Raises:
        InputError: there is nothing to find, or the overlaps are not in order.
    """
    if not 0 < background < iou:
        raise InputError(f"background must be above 0 and below iou ({iou:g}), not {background:g}")
    matches = match(truth, detections, iou)
    if not matches.truths.any():
        raise InputError("every object of the data set is marked to be ignored: nothing to find")
    types, claimed = _types(truth, detections, matches, iou, background)
    whole = _mean_ap(matches, matches.truths)
    lost = {
        name: _mean_ap(_without(truth, matches, types, claimed, i), matches.truths) - whole
        for i, name in enumerate(TYPES)
    }
    seen = detections.select(detections.scores >= threshold)
    found = match(truth, seen, iou)
    counted, objects = _types(truth, seen, found, iou, background)
    counts = {name: int((counted == i).sum()) for i, name in enumerate(TYPES)}
    counts["missed"] = len(_missed(truth, found, objects))
    return ErrorTypes(whole, lost, counts, threshold, iou)


def _types(
    truth: Truth, detections: Detections, matches: Matches, iou: float, background: float
) -> tuple[Ints, Ints]:
    """(j,) type of each match, RIGHT for none, and the object that a class or place error is on, else -1."""
    wrong = np.flatnonzero(~matches.right)
    shown = detections.select(matches.rows[wrong])
    d, t, overlap = overlaps(truth, shown, ~truth.crowd & ~truth.ignore, background, same_class=False)
    same = shown.class_ids[d] == truth.labels[t]
    best = np.full((2, len(wrong)), 0.0)  # of another class, of its own
    owner = np.full((2, len(wrong)), -1, np.int64)
    order = np.argsort(overlap, kind="stable")  # the last to be entered stays
    best[same[order].astype(int), d[order]] = overlap[order]
    owner[same[order].astype(int), d[order]] = t[order]
    other, own = best
    place = (own >= background) & (own < iou)
    conditions = [place, other >= iou, own >= iou, np.maximum(own, other) < background]
    types, claimed = np.full(len(matches.rows), RIGHT), np.full(len(matches.rows), -1, np.int64)
    types[wrong] = np.select(conditions, [PLACE, CLASS, DOUBLE, BACKGROUND], BOTH)
    claimed[wrong] = np.where(place, owner[1], np.where(types[wrong] == CLASS, owner[0], -1))
    claimed[np.isin(claimed, matches.objects[matches.right])] = -1  # it is found by another detection
    return types, claimed


def _missed(truth: Truth, matches: Matches, claimed: Ints) -> Ints:
    """Objects that no detection finds or is near."""
    reached = np.concatenate([matches.objects[matches.right], claimed[claimed >= 0]])
    return np.setdiff1d(np.flatnonzero(~truth.crowd & ~truth.ignore), reached)


def _without(truth: Truth, matches: Matches, types: Ints, claimed: Ints, error: int) -> Matches:
    """The matches of the detector without one type of error."""
    if error == len(TYPES) - 1:
        missed = np.bincount(truth.labels[_missed(truth, matches, claimed)], minlength=len(truth.classes))
        return replace(matches, truths=matches.truths - missed)
    first = np.zeros(len(types), bool)  # matches are ordered by falling score
    first[np.unique(claimed, return_index=True)[1]] = True
    mended = (types == error) & first & (claimed >= 0)
    kept = (types != error) | mended
    classes = np.where(mended, truth.labels[claimed], matches.class_ids)
    return replace(
        matches,
        rows=matches.rows[kept],
        scores=matches.scores[kept],
        class_ids=classes[kept],
        objects=np.where(mended, claimed, matches.objects)[kept],
        right=(matches.right | mended)[kept],
    )


def _mean_ap(matches: Matches, truths: Ints) -> float:
    """Over the classes that have `truths` (C,) to find; 1 for one of which nothing is left to find."""
    aps = []
    for c in np.flatnonzero(truths):
        recall, precision, _ = precision_recall(matches, int(c))
        aps.append(average_precision(recall, precision) if matches.truths[c] else 1.0)
    return float(np.mean(aps))
