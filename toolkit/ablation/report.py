"""The report of a study: scores and costs of its networks, effects of its factors, pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.ablation.cells import cells
from toolkit.ablation.effects import Effect, Fit, contrasts, fit, judged, level_text
from toolkit.ablation.plan import Plan, stored_plan
from toolkit.ablation.results import COSTS, MATCHINGS, UNDRAWN, Line, Networks, StudyReport, study_table
from toolkit.ablation.store import Store, own_database
from toolkit.bootstrap import Interval
from toolkit.device.readings import Reading, read_timings
from toolkit.device.settings import Load
from toolkit.device.timing import measure
from toolkit.evaluation import widerface
from toolkit.files import whole_file, write_json
from toolkit.moved import at_old_place
from toolkit.page import Section, Table, write_page
from toolkit.runtime import InputError, environment
from toolkit.stopwatch import median
from toolkit.text import in_markdown

LOOK_SECONDS = 2.0  # between two looks at a study that runs
TOLERATED = 0.1  # relative deviation from a budget in seconds
SCORES = ("score", "map50", *widerface.SETTINGS)


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


def device_costs(folder: Path, rows: Sequence[Line]) -> dict[str, dict[str, Interval]]:
    """{network: {device: milliseconds}} of the networks in `rows` that were timed: inference and
    postprocessing, one thread, the latest reading of each device."""
    times = {}
    for name in sorted({row["network"] for row in rows if "network" in row}):
        network = folder / "networks" / name
        readings = read_timings(network) if (network / "timing.json").exists() else []
        times[name] = {
            f"{reading.machine}, ms": median(
                reading.samples.stages["inference"] + reading.samples.stages["postprocess"]
            )
            for reading in readings
            if not reading.emulated and _comparable(reading)
        }
    return times


def markdown(lines: Sequence[Line], score: str = "score", costs: Mapping[str, str] = COSTS) -> str:
    """The lines of `study_table` as a Markdown table."""
    if not lines:
        return "No cell has finished.\n"
    return Networks(lines, score, costs, None, 0).markdown()


def read_report(folder: str | Path, url: str = "", score: str = "score") -> StudyReport:
    """The report of a study as its store is now.

    Args:
        folder: of the study.
        url: database of the study, if `run_study` was given one.
        score: "score", or another score of the cells, such as "easy".

    Returns:
        What shows itself, with `networks`, `interactions()` and `networks.against("latency_ms")`.

    Raises:
        InputError: there is no study, no cell has finished, or the cells have no such score.
    """
    folder = Path(folder)
    plan = stored_plan(folder)
    if not url and not (folder / "study.db").is_file():
        raise InputError(f"{folder} has no study.db: name the database of the study with --storage")
    store = Store(plan, url or own_database(folder))
    rows = runs(store)
    timed = device_costs(folder, rows)
    rows = [with_times(row, timed.get(row.get("network", ""), {})) for row in rows]
    costs = {**COSTS, **{name: name for times in timed.values() for name in times}}
    finished = [row for row in rows if "fault" not in row]
    if not finished:
        raise InputError(f"no cell of {folder} has finished yet: run the study first")
    scores = [name for name in SCORES if all(name in row for row in finished)]
    if score not in scores:
        raise InputError(f"the cells of {folder} have no score {score!r}: they have {', '.join(scores)}")
    lines = study_table(rows, score, costs)
    effects, notes = _effects_of(plan, finished, score)
    return StudyReport(
        plan=plan,
        networks=Networks(lines, title_of(plan, score), costs, planned(plan), len(rows)),
        rows=[{**row, "value": float(row[score])} for row in finished],
        failed=len(rows) - len(finished),
        effects=effects,
        notes=notes,
        importances=importances(store, plan),
    )


def title_of(plan: Plan, score: str) -> str:
    """Name of a score in tables and pictures."""
    if score == "map50" or (score == "score" and plan.score == "map50"):
        return "mAP50"
    return f"WIDER {'hard' if score == 'score' else score}"


def planned(plan: Plan) -> int | None:
    """Number of cells of a study; None for a search, which tries as many as it needs."""
    return len(cells(plan)) if plan.search is None else None


def networks_so_far(store: Store, workers: int) -> Networks:
    """The networks of a study that runs, of as many cells as have ended, with an estimate of the time that
    its workers need for what is left."""
    rows, total = runs(store), planned(store.plan)
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    left = (total - len(rows)) * float(np.mean(seconds)) / workers if total and seconds else None
    return Networks(study_table(rows), title_of(store.plan, "score"), COSTS, total, len(rows), left)


@contextmanager
def watched(store: Store, workers: int, show: Callable[[Networks], None] | None) -> Iterator[None]:
    """Call `show` with the networks so far whenever cells have ended inside the block, and at its end. The
    calls come from a thread: the block itself may be busy with a cell, or wait for other processes."""
    over, shown = threading.Event(), 0

    def look() -> None:
        nonlocal shown
        networks = networks_so_far(store, workers)
        if show is not None and networks.ended > shown:
            shown = networks.ended
            show(networks)

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            # a database that is busy for a moment: the next look finds more
            with suppress(InputError), store.reachable():
                look()

    thread = threading.Thread(target=watch, daemon=True)
    if show is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if show is not None:
            thread.join()
            look()


def with_times(row: Line, times: Mapping[str, Interval]) -> dict[str, Any]:
    """A cell with the milliseconds of its network on devices, and their intervals."""
    return {
        **row,
        **{title: time.value for title, time in times.items()},
        "intervals": {title: [time.low, time.high] for title, time in times.items()},
    }


def write_report(folder: str | Path, url: str = "", score: str = "score") -> dict[str, Any]:
    """Write report.html, report.md, report.json and pictures into the folder of a study.

    Args, Raises: as of `read_report`.

    Returns:
        The content of report.json.
    """
    folder = Path(folder)
    report = read_report(folder, url, score)
    plan = report.plan
    answer: dict[str, Any] = {
        "study": plan.name,
        "score": score,
        "budget": {name: value for name, value in plan.budget if value is not None},
        "cells": report.networks.ended,
        "failed": report.failed,
        "table": report.networks.lines,
        "effects": {
            matching: [{**asdict(effect), "shown": effect.shown} for effect in part]
            for matching, part in report.effects.items()
        },
        "importances": report.importances,
        "environment": environment(),
    }
    budget = []
    if plan.budget.seconds is not None:
        answer["seconds"] = {row["key"]: row.get("training_seconds", row["seconds"]) for row in report.rows}
        budget = [_budget(plan.budget.seconds, answer["seconds"])]
    pictures = draw(folder, report)
    text = [f"# {in_markdown(plan.name)}\n", report.networks.markdown(), report.caption(), *budget]
    for matching, part in report.effects.items():
        sentences = [*(effect.sentence() for effect in part), *report.notes[matching]]
        text += [f"\n## Effects, {MATCHINGS[matching]}\n", *(f"- {line}" for line in sentences)]
    text += ["\n## Importance of the factors (fANOVA, by Optuna)\n"]
    text += [f"- {name}: {value:.3f}" for name, value in report.importances.items()] or ["- not measured"]
    text += ["\n## Pictures\n", *(f"![{caption}]({file})" for file, caption in pictures.items())]
    with whole_file(folder / "report.md") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
    write_json(folder / "report.json", answer)
    write_page(folder / "report.html", plan.name, report.caption(), _sections(report, pictures, budget))
    return answer


def _sections(
    report: StudyReport, pictures: Mapping[str, str], budget: Sequence[str]
) -> dict[str, Section | str]:
    """The parts of report.html."""
    effects = {file: caption for file, caption in pictures.items() if file.startswith(("effects", "inter"))}
    others = {file: caption for file, caption in pictures.items() if file not in effects}
    remarks = " ".join(dict.fromkeys(line for part in report.notes.values() for line in part))
    return {
        "Effects": Section(remarks, effects, [Table("Effects", "report.json", report.columns())]),
        "Networks": Section(
            " ".join([report.networks.caption(), *budget]),
            others,
            [Table("Networks", "report.json", report.networks.columns())],
            {},
            {"report.md": "the report as text", "report.json": "all figures"},
        ),
    }


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


def draw(folder: Path, report: StudyReport) -> dict[str, str]:
    """Draw the report into the folder of a study -> file and caption of each picture."""
    score = report.networks.score
    figures = {
        f"effects-{matching}.png": (f"Effects on {score}, {MATCHINGS[matching]}", report.forest([matching]))
        for matching in report.effects
    }
    figures["interactions.png"] = ("Means over two factors at a time", report.interactions())
    figures["networks.png"] = (f"{score} of every network and seed", report.networks.figure())
    for cost, title in report.networks.costs.items():
        if cost not in UNDRAWN:
            plain = "".join(c if c.isalnum() or c in "_-" else "_" for c in cost)
            figures[f"cost-{plain}.png"] = (f"{score} against {title}", report.networks.against(cost))
    captions = {}
    for file, (caption, figure) in figures.items():
        if figure is not None:
            figure.savefig(folder / file)
            captions[file] = caption
    return captions


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
