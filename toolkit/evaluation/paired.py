"""Scores of two networks on the same pictures: how far apart they are, with an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from toolkit.bootstrap import Interval
from toolkit.evaluation.columns import Bools, Floats
from toolkit.runtime import InputError

GROUPS = 25  # of pictures that are left out in turn: that many evaluations tell the interval
LEVEL = 0.95


class Figures(dict[str, float]):
    """Figures of a network by name, and what it takes to compare them with another network's.

    Args:
        pictures: number of pictures n.
        figures: (n,) which pictures count -> the figures of these.
        points: what a figure is multiplied by to be in points, 1 or 100.

    >>> ones = Figures(50, lambda kept: {"AP": 0.02 * kept.mean()}, 100)
    >>> ones.minus(Figures(50, lambda kept: {"AP": 0.0}, 100))["AP"].value
    2.0
    """

    def __init__(self, pictures: int, figures: Callable[[Bools], Mapping[str, float]], points: float) -> None:
        super().__init__(figures(np.ones(pictures, bool)))
        self._pictures, self._figures, self._points = pictures, figures, points

    @cached_property
    def _left_out(self) -> Floats:
        """(G, F) the figures in points without each group of pictures; the groups are the same for every
        network, which is what pairs them."""
        group = np.random.default_rng(0).permutation(self._pictures) % min(GROUPS, self._pictures)
        rows = [list(self._figures(group != g).values()) for g in range(group.max() + 1)]
        return self._points * np.array(rows)

    def minus(self, other: Figures) -> dict[str, Interval]:
        """How many points this network is above another one, with 95 % intervals by the jackknife over groups
        of pictures (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 11): it evaluates each
        network 25 times, where a bootstrap would a thousand times.

        Args:
            other: figures of the same pictures.

        Returns:
            Figure -> difference; {} where the pictures are too few, or their objects in one group alone.

        Raises:
            InputError: the other's are of other pictures or another metric.
        """
        from scipy.stats import t

        if (other._pictures, list(other)) != (self._pictures, list(self)):
            raise InputError(
                f"figures are compared on the same pictures: one has {', '.join(self)} of {self._pictures} "
                f"pictures, the other {', '.join(other)} of {other._pictures}"
            )
        if self._pictures < 2:
            return {}
        try:
            apart: NDArray[np.float64] = self._left_out - other._left_out
        except InputError:  # nothing to find without one of the groups
            return {}
        groups = len(apart)
        error = np.sqrt((groups - 1) * apart.var(axis=0))
        reach = error * t.ppf((1 + LEVEL) / 2, groups - 1)
        values = [self._points * (self[name] - other[name]) for name in self]
        return {
            name: Interval(float(value), float(value - half), float(value + half))
            for name, value, half in zip(self, values, reach, strict=True)
        }
