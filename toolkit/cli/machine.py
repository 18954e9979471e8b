"""`toolkit doctor` and `toolkit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.answer import print_answer, table
from toolkit.cli.options import Json, output_option

app = typer.Typer()


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair FiftyOne's database server if it cannot start.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Versions and hardware of this machine, and the extras that are not installed.

    Exit code 1 if FiftyOne's database cannot start."""
    from importlib.util import find_spec

    from toolkit.data.mongod import check_mongod, repair_mongod
    from toolkit.runtime import environment, missing_extras

    if fix and find_spec("fiftyone") is not None and check_mongod():
        repair_mongod()
    missing = {f"not installed: {extra}": command for extra, command in missing_extras().items()}
    fault = check_mongod() if find_spec("fiftyone") is not None else None
    if fault:
        missing["database"] = fault
    stamp = environment()
    rows = [[key, str(value)] for key, value in {**stamp, **missing}.items()]
    print_answer({"environment": stamp, "lacking": missing}, as_json, table("", ["", ""], rows))
    if fault:
        raise typer.Exit(1)


@app.command()
def demo(
    output: Annotated[Path, output_option()] = Path("exports/demo"),
    as_json: Json = False,
) -> None:
    """Run the whole chain on a generated data set: curate, ablate, train, export, package, time, report.

    An interrupted run is continued. TOOLKIT_FAST=1 makes it small."""
    from toolkit.demo import run

    answer = run(output)
    print_answer(answer, as_json, f"report: {answer['page']}")
