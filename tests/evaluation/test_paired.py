"""Intervals of differences between two networks on the same pictures."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from tests.evaluation.test_widerface import made
from toolkit.evaluation import paired, widerface
from toolkit.evaluation.paired import Figures
from toolkit.evaluation.score import _wider_figures
from toolkit.runtime import InputError


def mean_of(values):
    return Figures(len(values), lambda kept: {"mean": float(values[kept].mean())}, 1)


def test_of_a_mean_the_interval_is_students(monkeypatch):
    rng = np.random.default_rng(1)
    first, second = rng.normal(3, 1, 40), rng.normal(1, 1, 40)
    monkeypatch.setattr(paired, "GROUPS", 40)
    difference = mean_of(first).minus(mean_of(second))["mean"]
    low, high = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert difference.value == pytest.approx((first - second).mean())
    assert (difference.low, difference.high) == pytest.approx((low, high))


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        common = rng.normal(0, 3, 200)  # hard pictures are hard for both
        difference = mean_of(common + rng.normal(1, 1, 200)).minus(mean_of(common))["mean"]
        inside += difference.low < 1 < difference.high
        assert difference.high - difference.low < 0.7  # unpaired it would be wider
    assert 0.91 < inside / 300 < 0.985


def test_what_does_not_compare():
    with pytest.raises(InputError, match="mean of 30 pictures, the other mean of 40"):
        mean_of(np.ones(30)).minus(mean_of(np.ones(40)))
    assert mean_of(np.ones(1)).minus(mean_of(np.ones(1))) == {}

    def nothing(kept):
        if not kept.all():
            raise InputError("nothing to find")
        return {"mean": 1.0}

    assert Figures(9, nothing, 1).minus(Figures(9, nothing, 1)) == {}


def test_of_faces_the_interval_is_about_the_bootstraps():
    truth, detections = made(3, pictures=300)
    fewer = detections.select(np.arange(len(detections)) % 5 > 0)
    figures = [
        Figures(300, partial(_wider_figures, widerface.judge(truth, each)), 100)
        for each in (fewer, detections)
    ]
    differences = figures[0].minus(figures[1])
    for level, bootstrap in widerface.compare(truth, [fewer], [detections], rounds=400).items():
        assert differences[level].value == pytest.approx(100 * bootstrap.value)
        width = differences[level].high - differences[level].low
        assert 0.6 < width / (100 * (bootstrap.high - bootstrap.low)) < 1.6
