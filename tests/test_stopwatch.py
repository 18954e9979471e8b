"""Interleaved timing and the interval of paired ratios."""

from time import sleep

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.runtime import InputError
from toolkit.stopwatch import interleave, paired_ratio


def test_every_callable_runs_in_turn():
    log: list[str] = []
    times = interleave({n: lambda n=n: log.append(n) for n in "abc"}, rounds=40, warmup=2)
    assert {name: t.shape for name, t in times.items()} == {"a": (40,), "b": (40,), "c": (40,)}
    turns = np.array(log).reshape(41, 3, 3)  # one uncounted round; two untimed calls and the timed one
    assert (turns == turns[:, :, :1]).all()
    orders = {"".join(turn) for turn in turns[:, :, 0]}
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(orders) == 6  # all orders come up in 41 rounds with this seed


def test_times_are_milliseconds():
    times = interleave({"short": lambda: sleep(0.02), "long": lambda: sleep(0.06)}, rounds=7, warmup=0)
    assert (times["short"] >= 20).all()
    assert (times["long"] >= 60).all()
    assert np.median(times["short"]) < 60
    ratio = paired_ratio(times["long"], times["short"])
    assert 1.5 < ratio.value < 4


def test_seconds_set_the_length():
    (short,) = interleave({"wait": lambda: sleep(0.001)}, seconds=0.001).values()
    (long,) = interleave({"wait": lambda: sleep(0.001)}, seconds=0.2).values()
    assert len(short) == 5
    assert 20 < len(long) < 200


def test_ratio_of_noisy_pairs():
    rng = np.random.default_rng(3)
    drift = np.linspace(1, 3, 400)  # the machine slows down threefold under both
    a = 1.1 * drift * rng.lognormal(0, 0.05, 400)
    b = drift * rng.lognormal(0, 0.05, 400)
    ratio = paired_ratio(a, b)
    assert ratio.low < 1.1 < ratio.high
    assert ratio.high - ratio.low < 0.04
    assert str(ratio) == f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        a, b = rng.lognormal(0, 0.2, (2, 50))
        ratio = paired_ratio(a, b, draws=300, seed=i)
        hits += ratio.low <= 1 <= ratio.high
    assert 0.90 <= hits / 200 <= 0.99


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30), st.floats(0.1, 10))
def test_ratio_properties(times, factor):
    a = np.array(times)
    ratio = paired_ratio(factor * a, a, draws=50)
    assert ratio.value == pytest.approx(factor)
    assert ratio.low == pytest.approx(factor)
    assert ratio.high == pytest.approx(factor)
    mixed = paired_ratio(a, a[::-1], draws=50)
    assert mixed.low <= mixed.high
    assert (a / a[::-1]).min() <= mixed.low
    assert mixed.high <= (a / a[::-1]).max()


def test_bad_input():
    with pytest.raises(InputError, match="nothing to time"):
        interleave({})
    with pytest.raises(InputError, match="above 0, found 0 and -1"):
        interleave({"a": list}, seconds=-1)
    with pytest.raises(InputError, match="above 0, found -2 and 3"):
        interleave({"a": list}, rounds=-2)
    with pytest.raises(InputError, match=r"\(3,\) and \(2,\)"):
        paired_ratio([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="one length"):
        paired_ratio([], [])
