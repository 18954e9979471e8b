"""What a study says: effects with honest intervals, what would not have been seen, accuracy beside cost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from toolkit import viz
from toolkit.ablation.study import Plan, Store, stored_plan
from toolkit.device.timing import NCNN_COLUMN, Load, Reading, measure, read_timings, summary
from toolkit.evaluation import widerface
from toolkit.runtime import InputError, environment, whole_file

LEVEL = 0.05  # of all tests of a study together
POWER = 0.8  # of the smallest detectable effect
TOLERATED = 0.1  # of a budget of seconds
SCORES = ("score", "map50", *widerface.SETTINGS)
COSTS = {"latency_ms": "ncnn, ms", "bflops": "BFLOPs", "kilobytes": "kB", "params": "parameters"}


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
            wanted.append((f"{name}: {_text(choices[0])} to {_text(choices[k])}", name, row))
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


def _text(level: Any) -> str:
    if isinstance(level, bool):
        return "on" if level else "off"
    return "x".join(map(str, level)) if isinstance(level, list) else str(level)


# --- a study's table -------------------------------------------------------------------------------------


def runs(store: Store) -> list[dict[str, Any]]:
    """The study's cells as rows, finished or failed: levels, matching, seed, scores, costs, fault."""
    states = store.optuna.trial.TrialState
    rows = []
    for trial in store.study.get_trials(deepcopy=False):
        failed = trial.state in (states.FAIL, states.PRUNED) and "fault" in trial.user_attrs
        kept = trial.state == states.COMPLETE or failed
        if kept:
            rows.append(dict(trial.user_attrs))
    return sorted(rows, key=lambda row: row["key"])


def time_study(
    folder: str | Path, devices: Sequence[str], loops: int = 50, ssh_config: str | Path | None = None
) -> int:
    """Time every network of a study on devices (`toolkit.device.timing.measure`, float32, one thread). The
    readings stay with the networks, and the next report has a column of costs for each device. -> how many
    networks. Raises InputError where there is no study or a device fails."""
    networks = sorted(path.parent for path in (Path(folder) / "networks").glob("*/spec.json"))
    if not networks:
        raise InputError(f"{folder} holds no networks of a study: expected what `toolkit ablate run` wrote")
    measure(networks, devices, load=Load(loops=loops), ssh_config=ssh_config)
    return len(networks)


def _comparable(reading: Reading) -> bool:
    settings = reading.settings
    return (reading.model.format, settings.threads, settings.powersave) == ("ncnn", 1, 0)


def device_costs(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """{network: {device: milliseconds}} of the networks in `rows` that were timed: forward and
    post-processing, one thread, the latest reading of a device."""
    found = {}
    for name in sorted({row["network"] for row in rows if "network" in row}):
        network = folder / "networks" / name
        readings = read_timings(network) if (network / "timing.json").exists() else []
        found[name] = {
            f"{reading.machine}, ms": summary(reading)[NCNN_COLUMN].p50
            for reading in readings
            if not reading.emulated and _comparable(reading)
        }
    return found


def table(
    rows: Sequence[Mapping[str, Any]], score: str = "score", costs: Mapping[str, str] = COSTS
) -> list[dict[str, Any]]:
    """One line for each combination of levels and matching: mean and standard deviation of the score over
    its seeds (None where too few finished), and what the network costs, `costs` {field of a row: title}."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row["levels"], row.get("matching", "as-is")]), []).append(row)
    lines = []
    for group in groups.values():
        scores = [float(row[score]) for row in group if "fault" not in row]
        lines.append(
            {
                **{name: _text(level) for name, level in group[0]["levels"].items()},
                "matching": group[0].get("matching", "as-is"),
                "seeds": len(scores),
                "mean": float(np.mean(scores)) if scores else None,
                "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                **{cost: group[0][cost] for cost in costs if cost in group[0]},
                "fault": next((str(row["fault"]) for row in group if "fault" in row), ""),
            }
        )
    return lines


def markdown(
    lines: Sequence[Mapping[str, Any]], score: str = "score", costs: Mapping[str, str] = COSTS
) -> str:
    """The table as README files have it."""
    if not lines:
        return "No cell has finished.\n"
    levels = [name for name in lines[0] if name not in ("mean", "sd", "fault", *costs)]
    measured = [name for name in costs if any(name in line for line in lines)]
    titles = [*levels, score, *(costs[name] for name in measured)]
    text = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for line in lines:
        mean, sd = line["mean"], line["sd"]
        value = "" if mean is None else f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}")
        cells = [str(line[name]) for name in levels]
        cells.append(f"{value} failed: {line['fault']}".strip() if line["fault"] else value)
        numbers = [line.get(name) for name in measured]
        cells += ["not measured" if n is None else f"{n:,.0f}" if n >= 1000 else f"{n:.4g}" for n in numbers]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def write_report(folder: str | Path, url: str = "", score: str = "score") -> dict[str, Any]:
    """report.md, report.json and pictures beside a study's store -> what report.json holds.

    `score`: "score" or one of the figures that cells keep, such as "easy". Raises InputError where there is
    no study or too little of it has finished.
    """
    folder = Path(folder)
    plan = stored_plan(folder)
    if not url and not (folder / "study.db").is_file():
        raise InputError(
            f"{folder} holds no study.db: name the database that the study ran with by --storage"
        )
    store = Store(plan, url or f"sqlite:///{(folder / 'study.db').absolute()}")
    rows = runs(store)
    timed = device_costs(folder, rows)
    rows = [{**row, **timed.get(row.get("network", ""), {})} for row in rows]
    costs = {**COSTS, **{name: name for found in timed.values() for name in found}}
    finished = [row for row in rows if "fault" not in row]
    if not finished:
        raise InputError(f"no cell of {folder} has finished yet: run the study first")
    there = [name for name in SCORES if all(name in row for row in finished)]
    if score not in there:
        raise InputError(f"the cells of {folder} have no score {score!r}: they have {', '.join(there)}")
    lines = table(rows, score, costs)
    answer: dict[str, Any] = {
        "study": plan.name,
        "score": score,
        "budget": {name: value for name, value in plan.budget if value is not None},
        "cells": len(rows),
        "failed": len(rows) - len(finished),
        "table": lines,
        "effects": {},
        "environment": environment(),
    }
    text = [f"# {plan.name}\n", markdown(lines, score, costs)]
    if plan.budget.seconds is not None:
        answer["seconds"] = {row["key"]: row.get("training_seconds", row["seconds"]) for row in finished}
        text += ["## Budget\n", _budget(plan.budget.seconds, answer["seconds"])]
    found, notes = _effects_of(plan, finished, score)
    tests = sum(map(len, found.values()))
    if tests:
        text += [
            "\nThe intervals below are 95 % ones, each for itself and not corrected; p is corrected for all "
            f"{tests} tests of the study (Holm), and an effect is shown where it is below {LEVEL:g}."
        ]
    for matching, part in found.items():
        answer["effects"][matching] = [{**asdict(effect), "shown": effect.shown} for effect in part]
        said = [*(effect.sentence() for effect in part), *notes[matching]]
        text += [f"\n## Effects, networks {matching}\n", *(f"- {line}" for line in said)]
    answer["importances"] = importances(store, plan)
    text += ["\n## Importance (Optuna, fANOVA)\n"]
    text += [f"- {name}: {value:.3f}" for name, value in answer["importances"].items()] or ["- not measured"]
    draw(folder, lines, answer, score, costs)
    for name, content in (
        ("report.md", "\n".join(text) + "\n"),
        ("report.json", json.dumps(answer, indent=1, allow_nan=False)),
    ):
        with whole_file(folder / name) as temporary:
            temporary.write_text(content)
    return answer


def _budget(seconds: float, used: Mapping[str, float]) -> str:
    """How near the cells came to a budget of seconds, which sets their steps beforehand and stops nobody."""
    off = [f"{key} ({s:.1f} s)" for key, s in used.items() if abs(s / seconds - 1) > TOLERATED]
    return (
        f"{seconds:g} s of training without validations for each cell; used were {min(used.values()):.1f} to "
        f"{max(used.values()):.1f} s. Off by more than {TOLERATED:.0%}: {', '.join(off) or 'none'}."
    )


def _effects_of(
    plan: Plan, finished: Sequence[Mapping[str, Any]], score: str
) -> tuple[dict[str, list[Effect]], dict[str, list[str]]]:
    """By matching: the effects, corrected together as base cells serve both, and what is to be said beside
    them."""
    matchings = {"both": ("as-is", "width")}.get(plan.matching, (plan.matching,))
    fits: dict[str, Fit] = {}
    notes: dict[str, list[str]] = {}
    for matching in matchings if plan.search is None else ():
        rows = [row for row in finished if row.get("matching") in ("base", matching)]
        levels = {name: [row["levels"][name] for row in rows] for name in plan.factors}
        present = {
            name: [level for level in choices if level in levels[name]]
            for name, choices in plan.factors.items()
        }
        varied = {name: choices for name, choices in present.items() if len(choices) > 1}
        said = notes[matching] = [
            f"{name}: {', '.join(map(_text, choices)) or 'nothing'} alone finished, so there is nothing to "
            "compare."
            for name, choices in present.items()
            if name not in varied
        ]
        if not varied:
            continue
        known = contrasts(levels, varied)
        said += known.left
        try:
            fits[matching] = fit(known, [float(row[score]) for row in rows])
        except InputError as error:
            said.append(f"{error}.")
    found = dict(zip(fits, judged(list(fits.values())), strict=True))
    return {matching: found.get(matching, []) for matching in notes}, notes


def importances(store: Store, plan: Plan) -> dict[str, float]:
    """Optuna's share of each factor in the variance of the score; nothing where too few cells finished."""
    optuna = store.optuna
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(
            store.study, evaluator=evaluator, params=list(plan.factors)
        )
    except (ValueError, RuntimeError):
        return {}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _label(line: Mapping[str, Any], costs: Mapping[str, str]) -> str:
    """A line's levels in few words: what is on by its name, and whether its width was matched."""
    known = ("matching", "mean", "sd", "seeds", "fault", *costs)
    levels = {name: str(level) for name, level in line.items() if name not in known}
    words = [name if level == "on" else level for name, level in levels.items() if level != "off"]
    return ", ".join(words or ["all off"]) + (" (width)" if line["matching"] == "width" else "")


def draw(
    folder: Path,
    lines: Sequence[Mapping[str, Any]],
    answer: Mapping[str, Any],
    score: str,
    costs: Mapping[str, str] = COSTS,
) -> None:
    """effects.png and a Pareto front against each cost that was measured."""
    done = [line for line in lines if line["mean"] is not None]
    for cost, title in costs.items():
        points = {}
        for line in done:
            if cost in line:
                points[_label(line, costs)] = (float(line[cost]), float(line["mean"]))
        if len(points) > 1 and cost != "params":
            plain = "".join(c if c.isalnum() or c in "_-" else "_" for c in cost)
            viz.pareto(points, title, score).savefig(folder / f"pareto-{plain}.png")
    for matching, found in answer["effects"].items():
        if found:
            errors = np.array([[e["difference"] - e["low"], e["high"] - e["difference"]] for e in found]).T
            figure = viz.bars(
                [e["name"] for e in found],
                [e["difference"] for e in found],
                errors,
                xlabel=f"change of {score}",
                title=f"{answer['study']}, {matching}: effects, 95 % intervals",
                form="{:+.4f}",
            )
            figure.savefig(folder / f"effects-{matching}.png")
