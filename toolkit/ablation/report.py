"""The report of a study: scores and costs of its networks, effects of its factors, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from toolkit.files import whole_file, write_json
from toolkit.moved import at_old_place
from toolkit.runtime import InputError, environment
from toolkit.text import in_markdown

TOLERATED = 0.1  # relative deviation from a budget in seconds
SCORES = ("score", "map50", *widerface.SETTINGS)
COSTS = {
    "latency_ms": "ncnn, ms",
    "mmac": "MMAC",
    "bflops": "BFLOPs",
    "kilobytes": "kB",
    "params": "parameters",
}
UNDRAWN = ("params", "bflops")  # one looks like kilobytes, the other like MMAC
MATCHINGS = {"as-is": "networks as they are", "width": "networks matched by width"}


def runs(store: Store) -> list[dict[str, Any]]:
    """The cells of a study that have finished or failed.

    Args:
        store: of the study, as `run_study` returns it.

    Returns:
        One row per cell, ordered by "key": "levels", "matching", "seed", "score" and other scores, costs,
        and for a failed cell its "fault".
    """
    states = store.optuna.trial.TrialState
    rows = []
    for trial in store.study.get_trials(deepcopy=False):
        failed = trial.state in (states.FAIL, states.PRUNED) and "fault" in trial.user_attrs
        if trial.state == states.COMPLETE or failed:
            row = {name: value for name, value in trial.user_attrs.items() if name != "worker"}
            rows.append(row | ({"mmac": row["macs"] / 1e6} if "macs" in row else {}))
    return sorted(rows, key=lambda row: row["key"])


def time_study(
    folder: str | Path, devices: Sequence[str], loops: int = 50, ssh_config: str | Path | None = None
) -> int:
    """Time every network of a study on devices; the next report has a column of milliseconds per device.

    Args:
        folder: of the study.
        devices: as in `toolkit.device.timing.measure`; float32, one thread.
        loops: timed runs of each network.
        ssh_config: for boards reached by ssh; by default the user's own.

    Returns:
        The number of networks.

    Raises:
        InputError: the folder has no networks of a study, or a device fails.
    """
    networks = sorted(path.parent for path in (Path(folder) / "networks").glob("[!.]*/spec.json"))
    if not networks:
        raise InputError(f"{folder} has no networks of a study: expected a folder of `toolkit ablate run`")
    measure(networks, devices, load=Load(loops=loops), ssh_config=ssh_config)
    return len(networks)


def _comparable(reading: Reading) -> bool:
    settings = reading.settings
    return (reading.model.format, settings.threads, settings.powersave) == ("ncnn", 1, 0)


def device_costs(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """{network: {device: milliseconds}} of the networks in `rows` that were timed: inference and
    postprocessing, one thread, the latest reading of each device."""
    times = {}
    for name in sorted({row["network"] for row in rows if "network" in row}):
        network = folder / "networks" / name
        readings = read_timings(network) if (network / "timing.json").exists() else []
        times[name] = {
            f"{reading.machine}, ms": summary(reading)[NCNN_COLUMN].p50
            for reading in readings
            if not reading.emulated and _comparable(reading)
        }
    return times


def study_table(
    rows: Sequence[Mapping[str, Any]], score: str = "score", costs: Mapping[str, str] = COSTS
) -> list[dict[str, Any]]:
    """The networks of a study: score over the seeds, and costs.

    Args:
        rows: cells, from `runs`.
        score: the score to average.
        costs: field of a row -> title, for the costs to include.

    Returns:
        One line per combination of levels and matching: its levels as text, "matching", "seeds", "mean" and
        "sd" of the score over the seeds (None if too few finished), costs, "fault".

    >>> rows = [{"levels": {"se": True}, "seed": s, "score": 0.5 + s / 10} for s in range(2)]
    >>> (line,) = study_table(rows)
    >>> line["se"], line["seeds"], round(line["mean"], 2)
    ('on', 2, 0.55)
    """
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
    """The lines of `study_table` as a Markdown table."""
    if not lines:
        return "No cell has finished.\n"
    levels = [name for name in lines[0] if name not in ("mean", "sd", "fault", *costs)]
    measured = [name for name in costs if any(name in line for line in lines)]
    titles = [*levels, score, *(costs[name] for name in measured)]
    text = ["| " + " | ".join(map(in_markdown, titles)) + " |", "|" + "---|" * len(titles)]
    for line in lines:
        mean, sd = line["mean"], line["sd"]
        value = "" if mean is None else f"{mean:.4f}" + ("" if sd is None else f" ± {sd:.4f}")
        cells = [str(line[name]) for name in levels]
        cells.append(f"{value} failed: {line['fault']}".strip() if line["fault"] else value)
        numbers = [line.get(name) for name in measured]
        cells += ["not measured" if n is None else f"{n:,.0f}" if n >= 1000 else f"{n:.4g}" for n in numbers]
        text.append("| " + " | ".join(map(in_markdown, cells)) + " |")
    return "\n".join(text) + "\n"


def write_report(folder: str | Path, url: str = "", score: str = "score") -> dict[str, Any]:
    """Write report.md, report.json and pictures into the folder of a study.

    Args:
        folder: of the study.
        url: database of the study, if `run_study` was given one.
        score: "score", or another score of the cells, such as "easy".

    Returns:
        The content of report.json.

    Raises:
        InputError: there is no study, no cell has finished, or the cells have no such score.
    """
    folder = Path(folder)
    plan = stored_plan(folder)
    if not url and not (folder / "study.db").is_file():
        raise InputError(f"{folder} has no study.db: name the database of the study with --storage")
    store = Store(plan, url or f"sqlite:///{(folder / 'study.db').absolute()}")
    rows = runs(store)
    timed = device_costs(folder, rows)
    rows = [{**row, **timed.get(row.get("network", ""), {})} for row in rows]
    costs = {**COSTS, **{name: name for times in timed.values() for name in times}}
    finished = [row for row in rows if "fault" not in row]
    if not finished:
        raise InputError(f"no cell of {folder} has finished yet: run the study first")
    scores = [name for name in SCORES if all(name in row for row in finished)]
    if score not in scores:
        raise InputError(f"the cells of {folder} have no score {score!r}: they have {', '.join(scores)}")
    lines = study_table(rows, score, costs)
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
    text = [f"# {in_markdown(plan.name)}\n", markdown(lines, score, costs)]
    if plan.budget.seconds is not None:
        answer["seconds"] = {row["key"]: row.get("training_seconds", row["seconds"]) for row in finished}
        text += ["## Budget\n", _budget(plan.budget.seconds, answer["seconds"])]
    effects, notes = _effects_of(plan, finished, score)
    tests = sum(map(len, effects.values()))
    if tests:
        text += [
            "\nThe intervals are 95 % intervals of single effects, not corrected; p is corrected for all "
            f"{tests} tests of the study (Holm), and an effect is shown if p is below {LEVEL:g}."
        ]
    for matching, part in effects.items():
        answer["effects"][matching] = [{**asdict(effect), "shown": effect.shown} for effect in part]
        sentences = [*(effect.sentence() for effect in part), *notes[matching]]
        text += [f"\n## Effects, {MATCHINGS[matching]}\n", *(f"- {line}" for line in sentences)]
    answer["importances"] = importances(store, plan)
    text += ["\n## Importance of the factors (fANOVA, by Optuna)\n"]
    text += [f"- {name}: {value:.3f}" for name, value in answer["importances"].items()] or ["- not measured"]
    draw(folder, lines, answer, score, costs)
    with whole_file(folder / "report.md") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    write_json(folder / "report.json", answer)
    return answer


def _budget(seconds: float, used: Mapping[str, float]) -> str:
    """How close the cells came to a budget in seconds, from which their number of steps was estimated."""
    off = [f"{key} ({s:.1f} s)" for key, s in used.items() if abs(s / seconds - 1) > TOLERATED]
    return (
        f"{seconds:g} s of training for each cell, without validation; the cells used "
        f"{min(used.values()):.1f} to {max(used.values()):.1f} s. "
        f"Off by more than {TOLERATED:.0%}: {', '.join(off) or 'none'}."
    )


def _effects_of(
    plan: Plan, finished: Sequence[Mapping[str, Any]], score: str
) -> tuple[dict[str, list[Effect]], dict[str, list[str]]]:
    """By matching: the effects, corrected together because base cells belong to both, and notes."""
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
        remarks = notes[matching] = [
            f"{name}: only {', '.join(map(level_text, choices)) or 'no level'} finished, so there is nothing "
            "to compare."
            for name, choices in present.items()
            if name not in varied
        ]
        if not varied:
            continue
        model = contrasts(levels, varied)
        remarks += model.left
        try:
            fits[matching] = fit(model, [float(row[score]) for row in rows])
        except InputError as error:
            remarks.append(f"{error}.")
    effects = dict(zip(fits, judged(list(fits.values())), strict=True))
    return {matching: effects.get(matching, []) for matching in notes}, notes


def importances(store: Store, plan: Plan) -> dict[str, float]:
    """Share of each factor in the variance of the score, by Optuna's fANOVA; empty if too few finished."""
    optuna = store.optuna
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares = optuna.importance.get_param_importances(
            store.study, evaluator=evaluator, params=list(plan.factors)
        )
    except (ValueError, RuntimeError):
        return {}
    return {name: float(value) for name, value in shares.items() if np.isfinite(value)}


def _label(line: Mapping[str, Any], costs: Mapping[str, str]) -> str:
    """The levels of a line in few words: the factors that are on, and whether its width was matched."""
    others = ("matching", "mean", "sd", "seeds", "fault", *costs)
    levels = {name: str(level) for name, level in line.items() if name not in others}
    words = [name if level == "on" else level for name, level in levels.items() if level != "off"]
    return ", ".join(words or ["all off"]) + (" (width)" if line["matching"] == "width" else "")


def draw(
    folder: Path,
    lines: Sequence[Mapping[str, Any]],
    answer: Mapping[str, Any],
    score: str,
    costs: Mapping[str, str] = COSTS,
) -> None:
    """Draw the effects, and the score against each measured cost."""
    done = [line for line in lines if line["mean"] is not None]
    for cost, title in costs.items():
        points = {}
        for line in done:
            if cost in line:
                points[_label(line, costs)] = (float(line[cost]), float(line["mean"]))
        if len(points) > 1 and cost not in UNDRAWN:
            plain = "".join(c if c.isalnum() or c in "_-" else "_" for c in cost)
            viz.pareto(points, title, score).savefig(folder / f"pareto-{plain}.png")
    for matching, effects in answer["effects"].items():
        if effects:
            errors = np.array([[e["difference"] - e["low"], e["high"] - e["difference"]] for e in effects]).T
            figure = viz.bars(
                [e["name"] for e in effects],
                [e["difference"] for e in effects],
                errors,
                xlabel=f"change of {score}",
                title=f"{answer['study']}: effects with 95 % intervals, {MATCHINGS[matching]}",
                form="{:+.4f}",
            )
            figure.savefig(folder / f"effects-{matching}.png")


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
