"""`toolkit ablate`: run a study, report it, time its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import Devices, Json, Loops, SshConfig, output_option

app = typer.Typer(no_args_is_help=True)


@app.command("run")
def ablate_run(
    study: Annotated[
        Path, typer.Argument(help="study.yaml: network or .cfg, factors, levels, seeds, budget.")
    ],
    output: Annotated[Path | None, output_option("exports/studies/NAME")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Worker processes on this machine.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Start the workers through Ray.")] = False,
    storage: Annotated[
        str, typer.Option(help="SQLAlchemy URL shared by several machines (default: a file).")
    ] = "",
    as_json: Json = False,
) -> None:
    """Run or continue a study; finished cells are not run again. Exit code 3 if cells failed."""
    from toolkit.ablation.plan import read_plan
    from toolkit.ablation.report import runs
    from toolkit.ablation.study import run_study

    plan = read_plan(study)
    folder = output or Path("exports/studies") / plan.name
    rows = runs(run_study(plan, folder, workers, storage, ray))
    failed = [row for row in rows if "fault" in row]
    for row in failed:
        print_message(f"failed: {row['key']}: {row['fault']}")
    answer = {"folder": str(folder), "cells": len(rows), "failed": len(failed)}
    print_answer(answer, as_json, table("", ["", ""], [[name, str(value)] for name, value in answer.items()]))
    if failed:
        raise typer.Exit(3)


@app.command("report")
def ablate_report(
    study: Annotated[Path, typer.Argument(help="Study folder.")],
    score: Annotated[
        str, typer.Option(help="Figure to compare: score, or another one of the cells, such as easy.")
    ] = "score",
    storage: Annotated[str, typer.Option(help="SQLAlchemy URL, as in `ablate run`.")] = "",
    as_json: Json = False,
) -> None:
    """Report effects with intervals and accuracy against cost: report.md and plots in the folder."""
    from toolkit.ablation.report import write_report

    answer = write_report(study, storage, score)
    print_answer(answer, as_json, (study / "report.md").read_text(encoding="utf-8"))


@app.command("time")
def ablate_time(
    study: Annotated[Path, typer.Argument(help="Study folder.")],
    device: Devices,
    loops: Loops = 50,
    ssh_config: SshConfig = None,
    as_json: Json = False,
) -> None:
    """Time every network of a study on a device; the report gets a column of latency."""
    from toolkit.ablation.report import time_study

    networks = time_study(study, device, loops, ssh_config)
    print_message(f"run toolkit ablate report {study} to see the timings next to the scores")
    print_answer({"networks": networks}, as_json, f"{networks} networks timed")
