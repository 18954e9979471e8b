"""Timing callables side by side on this machine, and an honest interval for how they compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.runtime import InputError


def interleave(
    callables: Mapping[str, Callable[[], Any]],
    seconds: float = 3.0,
    rounds: int = 0,
    warmup: int = 1,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds {name: (rounds,)} of each callable, measured in turns.

    A round runs every callable once, in an order drawn anew: what slows the machine for a while falls on all
    of them alike, and round i of one pairs with round i of another (`paired_ratio`). `rounds`: how many; 0
    means until `seconds` have passed, five at least. `warmup`: untimed calls right before each timed one, so
    that nobody pays for the caches and busy threads that another left. A first round is not counted.

    Raises InputError where there is nothing to time or no length.
    """
    if not callables:
        raise InputError("there is nothing to time: give at least one callable")
    if rounds < 0 or (rounds == 0 and seconds <= 0):
        raise InputError(f"timing needs rounds or seconds above 0, found {rounds} and {seconds:g}")
    names = list(callables)
    rng = np.random.default_rng(seed)
    rows: list[list[float]] = []
    begin = perf_counter()
    while len(rows) <= (rounds or 5) or (not rounds and perf_counter() - begin < seconds):
        row = [0.0] * len(names)
        for i in rng.permutation(len(names)):
            call = callables[names[i]]
            for _ in range(warmup):
                call()
            start = perf_counter()
            call()
            row[i] = (perf_counter() - start) * 1e3
        rows.append(row)
    return dict(zip(names, np.array(rows[1:]).T, strict=True))


@dataclass(frozen=True)
class Ratio:
    """A median of paired ratios and the bounds of its interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def paired_ratio(
    first: ArrayLike, second: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Ratio:
    """How many times as long `first` takes as `second`, both (rounds,) from one `interleave`: the median of
    the ratios of each round, with its bootstrap interval (percentiles of `draws` resampled medians).

    Raises InputError where the two do not pair.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise InputError(f"paired times are two arrays of one length, found shapes {a.shape} and {b.shape}")
    ratios = a / b
    rng = np.random.default_rng(seed)
    medians = [np.median(rng.choice(ratios, ratios.size)) for _ in range(draws)]
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return Ratio(float(np.median(ratios)), float(low), float(high))
