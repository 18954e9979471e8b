"""What a study says: effects with honest intervals, what would not have been seen, accuracy beside cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import viz
from toolkit.ablation.effects import LEVEL, Effect, Fit, contrasts, fit, judged, level_text
from toolkit.ablation.plan import Plan, stored_plan
from toolkit.ablation.store import Store
from toolkit.device.readings import Reading, read_timings
from toolkit.device.report import NCNN_COLUMN, summary
from toolkit.device.settings import Load
from toolkit.device.timing import measure
from toolkit.evaluation import widerface
from toolkit.runtime import InputError, environment, whole_file

TOLERATED = 0.1  # of a budget of seconds


SCORES = ("score", "map50", *widerface.SETTINGS)


COSTS = {"latency_ms": "ncnn, ms", "bflops": "BFLOPs", "kilobytes": "kB", "params": "parameters"}


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
                **{name: level_text(level) for name, level in group[0]["levels"].items()},
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
            f"{name}: {', '.join(map(level_text, choices)) or 'nothing'} alone finished, so there is nothing "
            "to compare."
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
