"""`toolkit ablate`: run a study, report it, time its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import Devices, Json, Loops, SshConfig

app = typer.Typer(no_args_is_help=True, help="Controlled studies: factors, a budget, honest effects.")


@app.command("run")
def ablate_run(
    study: Annotated[Path, typer.Argument(help="A study.yaml: factors, levels, seeds, budget.")],
    output: Annotated[Path | None, typer.Option(help="Its folder; else exports/studies/NAME.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Start the workers through Ray.")] = False,
    storage: Annotated[
        str, typer.Option(help="An SQLAlchemy address shared by several machines; a file unless given.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Run what is left of a study; what is finished is not run again."""
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


@app.command("report")
def ablate_report(
    study: Annotated[Path, typer.Argument(help="The folder of a study.")],
    score: Annotated[str, typer.Option(help="score, or a figure that cells keep, such as easy.")] = "score",
    storage: Annotated[str, typer.Option(help="As given to `ablate run`.")] = "",
    as_json: Json = False,
) -> None:
    """Effects with intervals, and accuracy beside cost: report.md and pictures in the folder."""
    from toolkit.ablation.report import write_report

    answer = write_report(study, storage, score)
    print_answer(answer, as_json, (study / "report.md").read_text())


@app.command("time")
def ablate_time(
    study: Annotated[Path, typer.Argument(help="The folder of a study.")],
    device: Devices,
    loops: Loops = 50,
    ssh_config: SshConfig = None,
    as_json: Json = False,
) -> None:
    """Time every network of a study on a device: a column of cost in its report."""
    from toolkit.ablation.report import time_study

    networks = time_study(study, device, loops, ssh_config)
    print_message(f"run toolkit ablate report {study} to see them beside the scores")
    print_answer({"networks": networks}, as_json, f"{networks} networks timed")
