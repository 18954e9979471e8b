"""Effects of factors from the scores of a study, with intervals and corrected p values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from toolkit.runtime import InputError

LEVEL = 0.05  # significance level of all tests of a study together
POWER = 0.8  # of the smallest detectable effect


@dataclass(frozen=True)
class Effect:
    """Change of the score from one level of a factor to another, averaged over the other factors; or an
    interaction: how much larger that change is at the second level of another factor.

    Attributes:
        name: such as "se: off to on" or "se x csp".
        difference: of the scores.
        low, high: 95 % interval of the difference, not corrected for other tests.
        p: p value, corrected for all tests of the study (Holm).
        detectable: size of an effect that would be found with a probability of POWER, were it the only one.

    >>> effect = Effect("se: off to on", 0.012, 0.004, 0.020, p=0.01, detectable=0.011)
    >>> effect.shown, effect.sentence()
    (True, 'se: off to on: +0.0120 [+0.0040, +0.0200], p = 0.01.')
    """

    name: str
    difference: float
    low: float
    high: float
    p: float
    detectable: float

    @property
    def shown(self) -> bool:
        return self.p < LEVEL

    def sentence(self) -> str:
        value = f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        if self.shown:
            return f"{self.name}: {value}, p = {self.p:.2g}."
        return (
            f"{self.name}: no effect shown ({value}, p = {self.p:.2g}); one of {self.detectable:.4f} "
            "would probably have been detected."
        )


@dataclass(frozen=True)
class Contrasts:
    """What the runs of a study can show.

    Attributes:
        design: (runs, columns) of the linear model.
        names: of the tested effects.
        weights: (tests, columns) of the coefficients, one row per name.
        left: sentences about what cannot be tested.
    """

    design: NDArray[np.float64]
    names: list[str]
    weights: NDArray[np.float64]
    left: list[str]


@dataclass(frozen=True)
class Fit:
    """Differences by name and their standard errors, with `freedom` degrees of freedom."""

    names: list[str]
    differences: NDArray[np.float64]
    errors: NDArray[np.float64]
    freedom: int


MEAN = "the mean of all runs"


def contrasts(levels: Mapping[str, Sequence[Any]], factors: Mapping[str, Sequence[Any]]) -> Contrasts:
    """The linear model of a study's runs: main effects, and interactions of two factors with two levels each.

    Levels are coded by their deviation from the mean, so main effects are averages over the other factors. A
    main effect outside the row space of the design is left out. An interaction that the runs cannot separate
    from an earlier column has no column of its own; the effect that includes it is named so, as in
    "a x b (or c x d)" (the alias matrix of Box and Wilson 1951).

    Args:
        levels: factor -> (N,) level of each run.
        factors: factor -> its levels; the others are compared with the first.
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
        terms = dict.fromkeys(owners[i] for i in np.flatnonzero(np.abs(row) > 1e-8))
        return [name for name in terms if name not in (MEAN, but)] or [MEAN]

    tests = []
    for name, choices in factors.items():
        codes, start = _codes(len(choices)), owners.index(name)
        for k in range(1, len(choices)):
            row = np.zeros(len(owners))
            row[start : start + len(choices) - 1] = codes[k] - codes[0]
            tests.append((f"{name}: {level_text(choices[0])} to {level_text(choices[k])}", name, row))
    untested = [f"{a} x {b}" for a, b in pairs if len(factors[a]) > 2 or len(factors[b]) > 2]
    two = [f"{a} x {b}" for a, b in pairs if f"{a} x {b}" in owners and f"{a} x {b}" not in untested]
    tests += [(pair, pair, 4.0 * (np.array(owners) == pair)) for pair in two]
    names, weights, left, carried = [], [], [], set()
    for label, name, row in tests:
        lost = row - row @ inverse @ design
        if np.abs(lost).max() > 1e-8:
            left.append(f"{label} cannot be separated from {', '.join(touched(lost, name))}.")
            continue
        also = list(dict.fromkeys(pair for pair, column in hidden if abs(row @ inverse @ column) > 1e-8))
        carried |= set(also)
        names.append(f"{label} (or {', '.join(also)})" if also else label)
        weights.append(row)
    for pair, column in dict(hidden).items():
        if pair not in carried:
            left.append(f"{pair} cannot be separated from {', '.join(touched(inverse @ column))}.")
    if carried:
        left.append(
            "An effect with 'or' may be either of the two: these runs cannot separate them. Interactions of "
            "three factors are assumed to be zero."
        )
    if untested:
        left.append(f"Not tested, because a factor has three or more levels: {', '.join(untested)}.")
    return Contrasts(design, names, np.array(weights).reshape(-1, len(owners)), left)


def fit(model: Contrasts, scores: ArrayLike) -> Fit:
    """Least-squares fit to the scores (N,) of the runs. Raises InputError if there is nothing to compare, or
    no residuals from which to estimate the variance."""
    y = np.asarray(scores, float)
    if not model.names:
        raise InputError("there is nothing to compare in the finished cells")
    freedom = len(y) - int(np.linalg.matrix_rank(model.design))
    if freedom < 1:
        raise InputError(
            f"{len(y)} finished runs are too few to judge {len(model.names)} effects: add seeds to the study"
        )
    inverse = np.linalg.pinv(model.design)
    coefficients = inverse @ y
    residual = y - model.design @ coefficients
    variance = float(residual @ residual) / freedom
    if variance < 1e-18:
        raise InputError(
            f"the scores of {len(y)} runs do not vary from seed to seed, so effects cannot be judged: "
            "give the study a larger budget"
        )
    rows = model.weights @ inverse
    return Fit(
        model.names, model.weights @ coefficients, np.sqrt(variance * (rows * rows).sum(axis=1)), freedom
    )


def judged(fits: Sequence[Fit]) -> list[list[Effect]]:
    """Effects of each fit: Student's intervals, and p values corrected over all fits together (Holm)."""
    p = [2 * stats.t.sf(np.abs(each.differences) / each.errors, each.freedom) for each in fits]
    corrected = iter(holm(np.concatenate(p) if p else ()))
    tests = sum(map(len, p))
    answer = []
    for each in fits:
        reach = float(stats.t.ppf(1 - LEVEL / 2, each.freedom))
        strictest = float(stats.t.ppf(1 - LEVEL / 2 / tests, each.freedom))
        power = float(stats.t.ppf(POWER, each.freedom))
        answer.append(
            [
                Effect(name, d, d - reach * e, d + reach * e, float(next(corrected)), (strictest + power) * e)
                for name, d, e in zip(
                    each.names, each.differences.tolist(), each.errors.tolist(), strict=True
                )
            ]
        )
    return answer


def effects(
    levels: Mapping[str, Sequence[Any]], factors: Mapping[str, Sequence[Any]], scores: ArrayLike
) -> list[Effect]:
    """Main effects and two-way interactions of a study, from one least-squares model of all runs.

    Args:
        levels: factor -> (N,) level of each run.
        factors: factor -> its levels; the others are compared with the first.
        scores: (N,) of the runs.

    Raises:
        InputError: as `fit`.

    >>> se, scores = [False, False, True, True], [0.50, 0.52, 0.60, 0.62]
    >>> (effect,) = effects({"se": se}, {"se": [False, True]}, scores)
    >>> effect.name, round(effect.difference, 2)
    ('se: off to on', 0.1)
    """
    return judged([fit(contrasts(levels, factors), scores)])[0]


def mean_intervals(
    groups: Sequence[Sequence[float]], cells: Sequence[Sequence[float]] | None = None
) -> NDArray[np.float64]:
    """Means of groups of runs with 95 % intervals, from the standard deviation that all cells share (pooled,
    as in an analysis of variance).

    Args:
        groups: scores of each group.
        cells: scores of the runs that differ only by their seed; the groups themselves unless given.

    Returns:
        (groups, 3) mean, lower and upper bound; NaN where a group is empty, or no cell has two runs.

    >>> mean_intervals([[0.1, 0.3], [0.5, 0.7]]).round(2).tolist()
    [[0.2, -0.23, 0.63], [0.6, 0.17, 1.03]]
    """
    same = [np.asarray(cell, float) for cell in (groups if cells is None else cells) if len(cell)]
    freedom = sum(len(cell) - 1 for cell in same)
    squares = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in same)
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * (squares / freedom) ** 0.5 if freedom else np.nan
    rows = []
    for group in groups:
        mean = float(np.mean(group)) if len(group) else np.nan
        half = reach / len(group) ** 0.5 if len(group) else np.nan
        rows.append([mean, mean - half, mean + half])
    return np.array(rows).reshape(-1, 3)


def _codes(count: int) -> NDArray[np.float64]:
    """(levels, levels - 1) deviation codes: the last level is minus the sum of the others."""
    return np.vstack([np.eye(count - 1), -np.ones(count - 1)])


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """p values corrected for testing them together (Holm 1979), in the order of `p`.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
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


def words(levels: Mapping[str, Any]) -> str:
    """Levels of a network in few words: the factors that are on, and the values of the others.

    >>> words({"se": False, "csp": True, "input_size": 160})
    'csp, input_size 160'
    """
    texts = {name: level if isinstance(level, str) else level_text(level) for name, level in levels.items()}
    parts = [name if text == "on" else f"{name} {text}" for name, text in texts.items() if text != "off"]
    return ", ".join(parts or ["all off"])
