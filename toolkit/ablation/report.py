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
from toolkit.ablation.study import Plan, Store, read_plan
from toolkit.device.timing import NCNN_COLUMN, Load, Reading, measure, read_timings, summary
from toolkit.runtime import InputError, environment, whole_file

LEVEL = 0.05  # of all tests of a study together
POWER = 0.8  # of the smallest detectable effect
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
        if self.shown:
            return f"{self.name}: {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]."
        return (
            f"{self.name}: no effect shown ({self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]); "
            f"one of {self.detectable:.4f} would most likely have been seen."
        )


def effects(
    levels: Mapping[str, Sequence[Any]], factors: Mapping[str, Sequence[Any]], scores: ArrayLike
) -> list[Effect]:
    """Main effects and two-way interactions of a study's runs, from one least-squares model of all of them.

    levels {factor: (N,) level of each run}, factors {factor: its levels, the first to compare with}, scores
    (N,). Levels are coded by their deviation from the mean, so main effects are averages over the other
    factors. Intervals are Student's on the pooled residuals; p is corrected by Holm over everything that is
    tested. What a fraction of the factorial cannot tell apart from main effects is left out. Raises
    InputError where no residuals are left to judge by.
    """
    y = np.asarray(scores, float)
    coded = {
        name: np.stack([_codes(len(choices))[list(choices).index(level)] for level in levels[name]])
        for name, choices in factors.items()
    }
    columns, names, weights = [np.ones((len(y), 1))], [], []
    start = 1
    for name, choices in factors.items():
        columns.append(coded[name])
        for k in range(1, len(choices)):
            names.append(f"{name}: {_text(choices[0])} to {_text(choices[k])}")
            weights.append((start, _codes(len(choices))[k] - _codes(len(choices))[0]))
        start += len(choices) - 1
    design = np.concatenate(columns, 1)
    for a, b in itertools.combinations(factors, 2):
        if len(factors[a]) != 2 or len(factors[b]) != 2:
            continue
        column = coded[a] * coded[b]
        if np.linalg.matrix_rank(np.concatenate([design, column], 1)) == design.shape[1]:
            continue
        design = np.concatenate([design, column], 1)
        names.append(f"{a} x {b}")
        weights.append((design.shape[1] - 1, np.array([4.0])))
    freedom = len(y) - np.linalg.matrix_rank(design)
    if freedom < 1:
        raise InputError(
            f"{len(y)} finished runs leave nothing to judge {len(names)} effects by: add seeds to the study"
        )
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ coefficients
    variance = float(residual @ residual) / freedom
    if variance < 1e-18:
        raise InputError(
            f"the scores of {len(y)} runs do not vary from seed to seed, so nothing can be judged by them: "
            "give the study a larger budget"
        )
    covariance = variance * np.linalg.pinv(design.T @ design)
    differences, errors = [], []
    for first, weight in weights:
        part = slice(first, first + len(weight))
        differences.append(float(weight @ coefficients[part]))
        errors.append(float(np.sqrt(weight @ covariance[part, part] @ weight)))
    ratio = np.abs(differences) / np.array(errors)
    corrected = holm(2 * stats.t.sf(ratio, freedom))
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom))
    strictest = float(stats.t.ppf(1 - LEVEL / 2 / len(names), freedom))
    power = float(stats.t.ppf(POWER, freedom))
    return [
        Effect(n, d, d - reach * e, d + reach * e, float(p), (strictest + power) * e)
        for n, d, e, p in zip(names, differences, errors, corrected, strict=True)
    ]


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
    its seeds, and what the network costs, `costs` {field of a row: title}."""
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
                "mean": float(np.mean(scores)) if scores else float("nan"),
                "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan"),
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
        value = f"{line['mean']:.4f}" + (f" ± {line['sd']:.4f}" if line["sd"] == line["sd"] else "")
        cells = [str(line[name]) for name in levels]
        cells.append(f"failed: {line['fault']}" if line["fault"] else value)
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
    if not (folder / "plan.json").is_file():
        raise InputError(f"{folder} holds no study: expected the folder that `toolkit ablate run` wrote")
    plan = read_plan(json.loads((folder / "plan.json").read_text()))
    store = Store(plan, url or f"sqlite:///{(folder / 'study.db').absolute()}")
    rows = runs(store)
    timed = device_costs(folder, rows)
    rows = [{**row, **timed.get(row.get("network", ""), {})} for row in rows]
    costs = {**COSTS, **{name: name for found in timed.values() for name in found}}
    finished = [row for row in rows if "fault" not in row]
    if not finished:
        raise InputError(f"no cell of {folder} has finished yet: run the study first")
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
    for matching in ("as-is", "width") if plan.search is None else ():
        part = [row for row in finished if row.get("matching") in ("base", matching)]
        if matching == "width" and plan.matching == "as-is":
            continue
        answer["effects"][matching], said = _effects_of(plan, part, score)
        text += [f"\n## Effects, networks {matching}\n", *(f"- {line}" for line in said)]
    answer["importances"] = importances(store, plan)
    text += ["\n## Importance (Optuna, fANOVA)\n"]
    text += [f"- {name}: {value:.3f}" for name, value in answer["importances"].items()] or ["- not measured"]
    draw(folder, lines, answer, score, costs)
    for name, content in (
        ("report.md", "\n".join(text) + "\n"),
        ("report.json", json.dumps(answer, indent=1)),
    ):
        with whole_file(folder / name) as temporary:
            temporary.write_text(content)
    return answer


def _effects_of(
    plan: Plan, rows: Sequence[Mapping[str, Any]], score: str
) -> tuple[list[dict[str, Any]], list[str]]:
    levels = {name: [row["levels"][name] for row in rows] for name in plan.factors}
    present = {
        name: [level for level in choices if level in levels[name]] for name, choices in plan.factors.items()
    }
    varied = {name: choices for name, choices in present.items() if len(choices) > 1}
    try:
        found = effects(levels, varied, [float(row[score]) for row in rows])
    except InputError as error:
        return [], [f"{error}."]
    return [{**asdict(effect), "shown": effect.shown} for effect in found], [e.sentence() for e in found]


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
    return {name: float(value) for name, value in found.items()}


def draw(
    folder: Path,
    lines: Sequence[Mapping[str, Any]],
    answer: Mapping[str, Any],
    score: str,
    costs: Mapping[str, str] = COSTS,
) -> None:
    """effects.png and a Pareto front against each cost that was measured."""
    done = [line for line in lines if line["mean"] == line["mean"]]
    for cost, title in costs.items():
        points = {}
        for line in done:
            if cost in line:
                words = [str(line[k]) for k in line if k not in ("mean", "sd", "seeds", "fault", *costs)]
                points[", ".join(words)] = (float(line[cost]), float(line["mean"]))
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
                title=f"{answer['study']}, networks {matching}: effects with 95 % intervals",
                form="{:+.4f}",
            )
            figure.savefig(folder / f"effects-{matching}.png")
