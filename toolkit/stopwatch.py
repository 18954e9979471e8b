"""Interleaved timing of callables on this machine; medians and paired ratios with an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.bootstrap import Interval, intervals
from toolkit.runtime import InputError


def interleave(
    callables: Mapping[str, Callable[[], Any]],
    seconds: float = 3.0,
    rounds: int = 0,
    warmup: int = 1,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Time callables in turns on this machine.

    A round runs every callable once, in a random order. A slow phase of the machine therefore affects all of
    them alike, and round i of one pairs with round i of another (see `paired_ratio`). One warm-up round is
    discarded.

    Args:
        callables: name -> what to time.
        seconds: shortest duration; used if `rounds` is 0.
        rounds: number of timed rounds; 0 for as many as fit into `seconds`, at least five.
        warmup: untimed calls right before each timed one, which refill the caches that another callable used.
        seed: of the random order.

    Returns:
        Name -> milliseconds, (rounds,).

    Raises:
        InputError: there is nothing to time, or neither rounds nor seconds are positive.

    >>> {name: times.shape for name, times in interleave({"a": list, "b": dict}, rounds=5).items()}
    {'a': (5,), 'b': (5,)}
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


def median(samples: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Interval:
    """The median of (N,) samples with its bootstrap interval.

    Args:
        samples: such as milliseconds of all rounds, at least one.
        level: coverage of the interval, 0..1.
        draws: resampled medians, whose percentiles are the interval's bounds.
        seed: of the resampling.

    >>> print(median([2.0, 2.0, 2.0]))
    2.000 [2.000, 2.000]
    """
    values = np.asarray(samples, float)

    def middle(weights: NDArray[np.int64] | None, _: np.random.Generator) -> NDArray[np.float64]:
        return np.atleast_1d(np.median(values if weights is None else np.repeat(values, weights)))

    return intervals(middle, values.size, draws, level, seed)[0]


def paired_ratio(
    first: ArrayLike, second: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """The median of the ratios `first / second` of all rounds, with its bootstrap interval.

    Args:
        first: times from `interleave`, (rounds,).
        second: times of the same rounds, (rounds,).
        level, draws, seed: as of `median`.

    Raises:
        InputError: the two differ in shape or are empty.

    >>> print(paired_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]))
    2.000 [2.000, 2.000]
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise InputError(f"paired times are two arrays of one length, found shapes {a.shape} and {b.shape}")
    return median(a / b, level, draws, seed)
