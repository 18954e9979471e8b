"""Operating points: the threshold for a wanted precision, recall or rate of false positives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.average_precision import precision_recall
from toolkit.evaluation.matching import Matches
from toolkit.runtime import InputError
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class OperatingPoint:
    """What a detector does when it shows detections of `threshold` and above, all classes pooled."""

    threshold: float
    precision: float
    recall: float
    f1: float
    false_positives: float  # per picture

    def as_dict(self) -> dict[str, float]:
        return dict(self.__dict__)


def operating_points(matches: Matches) -> NDArray[np.float64]:
    """Every operating point of a detector.

    Args:
        matches: detections paired with objects.

    Returns:
        (t, 5) threshold, precision, recall, F1 and false positives per picture, at every distinct score
        from the highest. A threshold is half way to the next lower score, so that > and >= do the same.
    """
    if not len(matches.scores):
        return np.zeros((0, 5))
    recall, precision, scores = precision_recall(matches)
    last = np.flatnonzero(np.append(np.diff(scores) < 0, True))  # equal scores are kept or dropped together
    recall, precision, scores = recall[last], precision[last], scores[last]
    lowest = np.nextafter(np.float32(scores[-1]), np.float32(-1))
    thresholds = np.append((scores[:-1] + scores[1:]) / 2, lowest)
    wrong = (last + 1) * (1 - precision) / matches.pictures
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.stack((thresholds, precision, recall, f1, wrong), axis=1)


def operating_point(
    matches: Matches,
    precision: float | None = None,
    recall: float | None = None,
    false_positives: float | None = None,
) -> OperatingPoint:
    """The threshold for one wish; for the best F1 without one.

    Args:
        matches: detections paired with objects.
        precision: least precision; the point with the highest recall is taken.
        recall: least recall; the point with the highest precision is taken.
        false_positives: most false positives per picture; the point with the highest recall is taken.

    Raises:
        InputError: more than one wish, no detections, or no threshold that fulfils it (says how far it
            gets).
    """
    wishes = {"precision": precision, "recall": recall, "false_positives": false_positives}
    chosen = {name: value for name, value in wishes.items() if value is not None}
    if len(chosen) > 1:
        raise InputError(f"an operating point takes one wish, not {len(chosen)}: {', '.join(chosen)}")
    table = operating_points(matches)
    if not len(table):
        raise InputError("the detector found nothing at all: there is no operating point to choose")
    if not chosen:
        return OperatingPoint(*table[np.argmax(table[:, 3])].tolist())
    ((name, value),) = chosen.items()
    if name == "false_positives":
        column, unit, best, fits = 4, "false positives per picture", table[:, 4].min(), table[:, 4] <= value
    else:
        column = 1 if name == "precision" else 2
        unit, best, fits = name, table[:, column].max(), table[:, column] >= value
    if not fits.any():
        raise InputError(
            f"no threshold gives {value:g} {unit}: the nearest this detector gets is {best:.4f}; ask for that"
        )
    rows = np.flatnonzero(fits)
    rank = table[rows, 1 if name == "recall" else 2]
    return OperatingPoint(*table[rows[np.argmax(rank)]].tolist())


def operating_point_for(wish: str, matches: Matches) -> OperatingPoint:
    """The operating point that a text asks for.

    Args:
        wish: "precision=.9", "recall=.8", "fp=.1" (false positives per picture) or "f1".
        matches: detections paired with objects.

    Raises:
        InputError: the text is something else, or no threshold reaches it.
    """
    name, _, value = wish.partition("=")
    if wish == "f1":
        return operating_point(matches)
    try:
        number = float(value)
        column = ("precision", "recall", "fp").index(name)
    except ValueError:
        raise InputError(
            f"an operating point is precision=, recall=, fp= with a number, or f1, not {wish!r}"
        ) from None
    levels: list[float | None] = [None, None, None]
    levels[column] = number
    return operating_point(matches, *levels)


@dataclass(frozen=True, eq=False)
class ChosenThreshold(Shown):
    """The operating point for a wish, among all operating points."""

    wish: str
    point: OperatingPoint
    points: NDArray[np.float64]  # (t, 5) as of `operating_points`

    def columns(self) -> dict[str, list[str]]:
        """One row, the point."""
        point = self.point
        return {
            "operating point": [self.wish],
            "threshold": [f"{point.threshold:.3f}"],
            "precision": [f"{point.precision:.3f}"],
            "recall": [f"{point.recall:.3f}"],
            "F1": [f"{point.f1:.3f}"],
            "false positives per picture": [f"{point.false_positives:.2f}"],
        }

    def figure(self) -> Figure:
        """Precision, recall and F1 over the threshold, the chosen one marked."""
        from toolkit import viz

        threshold, precision, recall, f1, _ = self.points.T
        series = {"precision": precision, "recall": recall, "F1": f1}
        return viz.thresholds(
            threshold, series, self.point.threshold, f"Chosen threshold: {self.point.threshold:.3f}"
        )


def choose(matches: Matches, **wish: float) -> ChosenThreshold:
    """The operating point for a wish as something that shows itself.

    Args:
        matches: detections paired with objects.
        wish: as of `operating_point`, such as precision=0.9; the best F1 without one.

    Raises:
        InputError: as `operating_point`.
    """
    text = " ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in wish.items())
    return ChosenThreshold(text or "best F1", operating_point(matches, **wish), operating_points(matches))
