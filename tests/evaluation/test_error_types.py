"""Errors by type on cases made by hand, and intervals of average precision over pictures."""

import numpy as np
import pytest

from toolkit.bootstrap import intervals
from toolkit.evaluation import average_precision, operating
from toolkit.evaluation.columns import Detections, Truth
from toolkit.evaluation.error_types import TYPES, error_types
from toolkit.evaluation.matching import match
from toolkit.runtime import InputError

CLASSES = ("cat", "dog")
BOX = [0.0, 0.0, 10.0, 10.0]  # the object of every picture
NEAR = [4.0, 0.0, 14.0, 10.0]  # IoU 60 / 140 with it
FAR = [50.0, 50.0, 60.0, 60.0]


def truth_of(labels, ignored=()):
    """One object, BOX, in every picture."""
    count = len(labels)
    ignore = np.isin(np.arange(count), ignored)
    boxes = np.tile(np.array(BOX, np.float32), (count, 1))
    crowd = np.zeros(count, bool)
    return Truth(CLASSES, np.arange(count + 1), boxes, np.array(labels, np.int32), crowd, ignore)


def detected(*rows):
    """Rows of picture, box, score, class."""
    images, boxes, scores, ids = zip(*rows, strict=True)
    return Detections(np.array(images), np.array(boxes, np.float32), np.array(scores), np.array(ids))


RIGHT = (0, BOX, 0.9, 0)


@pytest.mark.parametrize(
    ("labels", "row", "kind", "gain"),
    [
        # the other of two cats is found by the mended detection: AP 0.5 -> 1
        ([0, 0], (1, BOX, 0.8, 1), "class", 0.5),
        ([0, 0], (1, NEAR, 0.8, 0), "place", 0.5),
        # wrong above the right one: AP 0.25, without it 0.5; the mean of two classes where one is missed
        ([0, 0], (1, FAR, 0.95, 0), "background", 0.25),
        ([0, 1], (1, NEAR, 0.95, 0), "both", 0.25),
    ],
)
def test_one_error_of_each_type(labels, row, kind, gain):
    errors = error_types(truth_of(labels), detected(RIGHT, row))
    assert errors.counts[kind] == 1
    assert sum(errors.counts[name] for name in TYPES if name not in (kind, "missed")) == 0
    assert errors.lost[kind] == pytest.approx(gain)
    assert errors.counts["missed"] == (0 if kind in ("class", "place") else 1)


def test_doubles_and_missed_objects():
    """Found twice, the better one first; then the right one of the second picture: 1/2 + 2/3 / 2 as area."""
    errors = error_types(truth_of([0, 0, 0]), detected(RIGHT, (0, BOX, 0.8, 0), (1, BOX, 0.7, 0)))
    assert errors.counts == {**dict.fromkeys(TYPES, 0), "double": 1, "missed": 1}
    assert errors.ap == pytest.approx(1 / 3 + 2 / 9)
    assert errors.lost["double"] == pytest.approx(2 / 3 - errors.ap)
    assert errors.lost["missed"] == pytest.approx(1 / 2 + 1 / 3 - errors.ap)
    assert errors.strong() == "missed"


def test_an_object_is_mended_once_by_the_best_score():
    """Of two boxes near one object the better becomes right and the other goes."""
    errors = error_types(truth_of([0]), detected((0, NEAR, 0.9, 0), (0, NEAR, 0.5, 0)))
    assert errors.counts["place"] == 2
    assert errors.counts["missed"] == 0
    assert errors.lost["place"] == pytest.approx(1)


def test_a_near_box_of_a_found_object_goes():
    errors = error_types(truth_of([0, 0]), detected((0, NEAR, 0.95, 0), RIGHT))
    assert errors.counts["place"] == 1
    assert errors.lost["place"] == pytest.approx(0.25)


def test_a_class_that_is_missed_altogether():
    errors = error_types(truth_of([0, 1]), detected(RIGHT))
    assert errors.ap == pytest.approx(0.5)
    assert errors.lost["missed"] == pytest.approx(0.5)


def test_ignored_objects_and_the_threshold():
    rows = detected(RIGHT, (1, BOX, 0.8, 0), (0, FAR, 0.2, 0))
    errors = error_types(truth_of([0, 0], ignored=[1]), rows, threshold=0.5)
    assert errors.counts == dict.fromkeys(TYPES, 0)
    assert errors.ap == 1
    assert error_types(truth_of([0, 0], ignored=[1]), rows).counts["background"] == 1
    with pytest.raises(InputError, match="nothing to find"):
        error_types(truth_of([0], ignored=[0]), rows.select(rows.images == 0))
    with pytest.raises(InputError, match="background must be above 0 and below iou"):
        error_types(truth_of([0]), rows.select(rows.images == 0), background=0.5)


def test_errors_show_themselves():
    errors = error_types(truth_of([0, 0]), detected(RIGHT, (1, BOX, 0.8, 1)), threshold=0.3)
    assert "threshold of 0.300" in str(errors)
    assert errors.figure().axes[0].get_title(loc="left").startswith("Most is lost by: class")
    assert errors.columns()["gain in AP50"][0] == "+0.500"


def found_in(pictures, of):
    return detected(*[(i, BOX, 0.9 - i / 1000, 0) for i in pictures], (of, FAR, 0.01, 1))


def test_an_interval_is_that_of_a_share():
    """AP of detections without errors is the part of the objects that is found: its interval is binomial."""
    truth = truth_of([0] * 100)
    scores = average_precision.by_class(truth, found_in(range(60), 0))
    assert scores.mean.value == pytest.approx(average_precision.voc(truth, found_in(range(60), 0)).map)
    assert scores.mean.value == pytest.approx(0.6)
    reach = 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert (scores.mean.low, scores.mean.high) == pytest.approx((0.6 - reach, 0.6 + reach), abs=0.02)
    assert list(scores.per_class) == ["cat"]  # no dog is labelled
    both = average_precision.by_class(truth_of([0, 1]), detected((1, BOX, 0.9, 1)), rounds=20)
    assert list(both.per_class) == ["dog", "cat"]  # the best first
    assert both.objects == {"dog": 1, "cat": 1}
    assert "0.600 [0." in scores.figure().axes[0].get_title(loc="left")


def test_what_some_draws_do_not_have_is_left_out():
    def measure(weights, rng):
        return np.array([np.nan if weights is not None and weights[0] == 0 else 0.5])

    (interval,) = intervals(measure, 2, rounds=50)
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_the_chosen_threshold_is_marked():
    truth = truth_of([0] * 10)
    chosen = operating.choose(match(truth, found_in(range(8), 0)), recall=0.7)
    assert chosen.wish == "recall 0.7"
    assert chosen.point == operating.operating_point(match(truth, found_in(range(8), 0)), recall=0.7)
    (axes,) = chosen.figure().axes
    assert axes.lines[0].get_xdata()[0] == pytest.approx(chosen.point.threshold)
    dots = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([chosen.point.precision, chosen.point.recall, chosen.point.f1])
    assert f"{chosen.point.threshold:.3f}" in str(chosen)
