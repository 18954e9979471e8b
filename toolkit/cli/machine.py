"""`toolkit doctor` and `toolkit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.answer import print_answer, table
from toolkit.cli.options import Json

app = typer.Typer()


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend FiftyOne's database server where it cannot start.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What this machine has and lacks. Exit code 1 where something lacks."""
    from importlib.util import find_spec

    from toolkit.data.mongod import check_mongod, repair_mongod
    from toolkit.runtime import environment

    if fix and find_spec("fiftyone") is not None and check_mongod():
        repair_mongod()
    packages = {
        "notebooks": "jupyterlab",
        "curation": "fiftyone",
        "export": "ncnn",
        "device": "adbutils",
        "search": "optuna",
        "training": "lightning",
        "cluster": "ray",
    }
    lacking = {
        f"extra {extra}": f'pip install -e ".[{extra}]"'
        for extra, name in packages.items()
        if find_spec(name) is None
    }
    fault = check_mongod() if find_spec("fiftyone") is not None else None
    if fault:
        lacking["database"] = fault
    stamp = environment()
    rows = [[key, str(value)] for key, value in {**stamp, **lacking}.items()]
    print_answer({"environment": stamp, "lacking": lacking}, as_json, table("", ["", ""], rows))
    if lacking:
        raise typer.Exit(1)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path("exports/demo"),
    as_json: Json = False,
) -> None:
    """The whole chain on a made data set: curate, ablate, train, export, package, time; and a page of it.

    Interrupted, it goes on where it was. TOOLKIT_FAST=1 makes it small."""
    from toolkit.demo import run

    answer = run(output)
    print_answer(answer, as_json, f"everything is on the page {answer['page']}")
