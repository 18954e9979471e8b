"""Intervals by drawing with replacement (Efron and Tibshirani, An Introduction to the Bootstrap)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray[np.int64] | None, np.random.Generator], NDArray[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A figure, such as an AP, a difference or a median of milliseconds, and the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def intervals(
    measure: Measure, count: int, rounds: int = 1000, level: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Figures of a sample, such as pictures or rounds, and the intervals that other samples of the same kind
    would give.

    A difference of two is measured within one call, so that both see the same draws (paired).

    Args:
        measure: takes how often each one counts, (count,) or None for once each, and a generator for
            what else is drawn; returns (F,) figures, NaN for one that this draw does not have.
        count: size of the sample.
        rounds: draws.
        level: part of the draws within the interval, 0..1.
        seed: of the draws.

    Returns:
        F intervals around the figures of the whole sample.

    >>> marks = np.array([0.0, 1.0])
    >>> print(intervals(lambda weights, rng: np.average(marks, weights=weights)[None], 2)[0])
    0.500 [0.000, 1.000]
    """
    rng = np.random.default_rng(seed)
    values = measure(None, rng)
    draws = np.empty((rounds, len(values)))
    for r in range(rounds):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)
        draws[r] = measure(weights, rng)
    ends = [(1 - level) / 2, (1 + level) / 2]
    answer = []
    for value, column in zip(values, draws.T, strict=True):
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, ends) if len(known) else (np.nan, np.nan)
        answer.append(Interval(float(value), float(low), float(high)))
    return answer
