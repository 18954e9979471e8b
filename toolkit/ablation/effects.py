"""Effects of factors from the scores of a study, with intervals and corrected p-values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from toolkit.runtime import InputError

LEVEL = 0.05  # of all tests of a study together
POWER = 0.8  # of the smallest detectable effect


@dataclass(frozen=True)
class Effect:
    """What turning one factor does to the score on average over the others, or an interaction: how much more
    one factor does at the second level of another."""

    name: str
    difference: float
    low: float
    high: float
    p: float  # corrected for all tests of the study (Holm)
    detectable: float  # found with a probability of POWER, were it the only one

    @property
    def shown(self) -> bool:
        return self.p < LEVEL

    def sentence(self) -> str:
        value = f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        if self.shown:
            return f"{self.name}: {value}, p = {self.p:.2g}."
        return (
            f"{self.name}: no effect shown ({value}, p = {self.p:.2g}); one of {self.detectable:.4f} "
            "would most likely have been seen."
        )


@dataclass(frozen=True)
class Contrasts:
    """What a study's runs can tell: `names` of what is tested, each with its row of `weights` (tests,
    columns) for the coefficients of `design` (runs, columns); in `left`, sentences on what is not."""

    design: NDArray[np.float64]
    names: list[str]
    weights: NDArray[np.float64]
    left: list[str]


@dataclass(frozen=True)
class Fit:
    """Differences by name with their standard errors, on `freedom` degrees."""

    names: list[str]
    differences: NDArray[np.float64]
    errors: NDArray[np.float64]
    freedom: int


MEAN = "the mean of all runs"


def contrasts(levels: Mapping[str, Sequence[Any]], factors: Mapping[str, Sequence[Any]]) -> Contrasts:
    """The model of a study's runs: main effects and two-way interactions, those of two levels tested.

    levels {factor: (N,) level of each run}, factors {factor: its levels, the first to compare with}. Levels
    are coded by their deviation from the mean, so main effects are averages over the other factors. A main
    effect outside the design's row space is left out. An interaction that the runs cannot tell apart from
    what stands in the model already has no column; what would carry it says so: "a x b (or c x d)" (the
    alias matrix of Box and Wilson 1951).
    """
    coded = {
        name: _codes(len(choices))[[list(choices).index(level) for level in levels[name]]]
        for name, choices in factors.items()
    }
    columns, owners = [np.ones(len(next(iter(levels.values()))))], [MEAN]
    for name, codes in coded.items():
        columns += list(codes.T)
        owners += [name] * codes.shape[1]
    hidden: list[tuple[str, NDArray[np.float64]]] = []
    pairs = list(itertools.combinations(factors, 2))
    for a, b in pairs:
        for column in (coded[a][:, :, None] * coded[b][:, None]).reshape(len(columns[0]), -1).T:
            if np.linalg.matrix_rank(np.stack([*columns, column])) == np.linalg.matrix_rank(
                np.stack(columns)
            ):
                hidden.append((f"{a} x {b}", column))
            else:
                columns.append(column)
                owners.append(f"{a} x {b}")
    design = np.stack(columns, 1)
    inverse = np.linalg.pinv(design)

    def touched(row: NDArray[np.float64], but: str = "") -> list[str]:
        found = dict.fromkeys(owners[i] for i in np.flatnonzero(np.abs(row) > 1e-8))
        return [name for name in found if name not in (MEAN, but)] or [MEAN]

    wanted = []
    for name, choices in factors.items():
        codes, start = _codes(len(choices)), owners.index(name)
        for k in range(1, len(choices)):
            row = np.zeros(len(owners))
            row[start : start + len(choices) - 1] = codes[k] - codes[0]
            wanted.append((f"{name}: {level_text(choices[0])} to {level_text(choices[k])}", name, row))
    untested = [f"{a} x {b}" for a, b in pairs if len(factors[a]) > 2 or len(factors[b]) > 2]
    two = [f"{a} x {b}" for a, b in pairs if f"{a} x {b}" in owners and f"{a} x {b}" not in untested]
    wanted += [(pair, pair, 4.0 * (np.array(owners) == pair)) for pair in two]
    names, weights, left, carried = [], [], [], set()
    for label, name, row in wanted:
        lost = row - row @ inverse @ design
        if np.abs(lost).max() > 1e-8:
            left.append(f"{label} could not be told apart from {', '.join(touched(lost, name))}.")
            continue
        also = list(dict.fromkeys(pair for pair, column in hidden if abs(row @ inverse @ column) > 1e-8))
        carried |= set(also)
        names.append(f"{label} (or {', '.join(also)})" if also else label)
        weights.append(row)
    for pair, column in dict(hidden).items():
        if pair not in carried:
            left.append(f"{pair} could not be told apart from {', '.join(touched(inverse @ column))}.")
    if carried:
        left.append(
            "What stands behind 'or' may be what a line shows: these runs cannot tell the two apart. "
            "Interactions of three factors are taken to be none."
        )
    if untested:
        left.append(f"Not tested, as a factor of three or more levels is in it: {', '.join(untested)}.")
    return Contrasts(design, names, np.array(weights).reshape(-1, len(owners)), left)


def fit(known: Contrasts, scores: ArrayLike) -> Fit:
    """The contrasts' values for scores (N,), by least squares. Raises InputError where there is nothing to
    compare or no residuals are left to judge by."""
    y = np.asarray(scores, float)
    if not known.names:
        raise InputError("there is nothing to compare in the cells that finished")
    freedom = len(y) - int(np.linalg.matrix_rank(known.design))
    if freedom < 1:
        raise InputError(
            f"{len(y)} finished runs leave nothing to judge {len(known.names)} effects by: add seeds to the "
            "study"
        )
    inverse = np.linalg.pinv(known.design)
    coefficients = inverse @ y
    residual = y - known.design @ coefficients
    variance = float(residual @ residual) / freedom
    if variance < 1e-18:
        raise InputError(
            f"the scores of {len(y)} runs do not vary from seed to seed, so nothing can be judged by them: "
            "give the study a larger budget"
        )
    rows = known.weights @ inverse
    return Fit(
        known.names, known.weights @ coefficients, np.sqrt(variance * (rows * rows).sum(axis=1)), freedom
    )


def judged(fits: Sequence[Fit]) -> list[list[Effect]]:
    """The effects of each fit: Student's intervals, and p values corrected by Holm over all fits together."""
    p = [2 * stats.t.sf(np.abs(found.differences) / found.errors, found.freedom) for found in fits]
    corrected = iter(holm(np.concatenate(p) if p else ()))
    tests = sum(map(len, p))
    answer = []
    for found in fits:
        reach = float(stats.t.ppf(1 - LEVEL / 2, found.freedom))
        strictest = float(stats.t.ppf(1 - LEVEL / 2 / tests, found.freedom))
        power = float(stats.t.ppf(POWER, found.freedom))
        answer.append(
            [
                Effect(name, d, d - reach * e, d + reach * e, float(next(corrected)), (strictest + power) * e)
                for name, d, e in zip(
                    found.names, found.differences.tolist(), found.errors.tolist(), strict=True
                )
            ]
        )
    return answer


def effects(
    levels: Mapping[str, Sequence[Any]], factors: Mapping[str, Sequence[Any]], scores: ArrayLike
) -> list[Effect]:
    """Main effects and two-way interactions of a study's runs, from one least-squares model of all of them:
    `contrasts`, `fit` and `judged` in one. Raises what `fit` raises."""
    return judged([fit(contrasts(levels, factors), scores)])[0]


def _codes(count: int) -> NDArray[np.float64]:
    """(levels, levels - 1) deviation codes: the last level is minus the sum of the others."""
    return np.vstack([np.eye(count - 1), -np.ones(count - 1)])


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """p values corrected for testing them together (Holm 1979), in the given order."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(raised, 1)
    return corrected


def level_text(level: Any) -> str:
    if isinstance(level, bool):
        return "on" if level else "off"
    return "x".join(map(str, level)) if isinstance(level, list) else str(level)
