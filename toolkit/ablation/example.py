"""Studies as text: the finished one that is in the package is opened and reported like any other, and one
of several evenings goes on where it was, on any machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.ablation.cells import cells
from toolkit.ablation.plan import Plan, plan_record, read_plan
from toolkit.ablation.store import Store, own_database
from toolkit.files import whole_file, write_json
from toolkit.runtime import InputError
from toolkit.text import read_yaml

FILE = Path(__file__).parent / "finished_study.yaml"
OWN = ("key", "levels", "matching", "seed", "mmac")  # of a row, which the plan gives or which follow


def write_example(
    plan: Plan, rows: Sequence[Mapping[str, Any]], stamp: Mapping[str, Any], path: Path
) -> None:
    """Write the cells of a study as text, which later versions of Optuna read as well: its own database
    changes with them.

    Args:
        plan: of the study.
        rows: its cells that have ended, from `toolkit.ablation.report.runs`.
        stamp: the command that ran it, and the environment.
        path: of the YAML file.
    """
    import yaml

    record = {
        **stamp,
        "plan": plan_record(plan),
        "cells": {row["key"]: {k: v for k, v in row.items() if k not in OWN} for row in rows},
    }
    plain = json.loads(json.dumps(record))  # torch's version is a string of its own type
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(plain, sort_keys=False, width=10_000, default_flow_style=None))


def open_example(folder: str | Path, path: Path = FILE) -> Path:
    """Lay out a study in a folder.

    Args:
        folder: for its plan and its store; nothing is changed in one that has a store already.
        path: of a file of `write_example`, by default the finished study of the package.

    Returns:
        The folder, for `toolkit.ablation.report.read_report` and `toolkit ablate report`. The cells that the
        file has not are run by `toolkit.ablation.study.run_study`.

    Raises:
        InputError: the file has cells that its plan has not.
    """
    folder = Path(folder)
    record = read_yaml(path, f"there is no study {path}: expected a file of write_example")
    plan, ended = read_plan(record.get("plan", {})), record.get("cells", {})
    planned = [cell for cell in cells(plan) if cell.key in ended]
    if len(planned) < len(ended):
        raise InputError(f"{path} has other cells than its plan: expected those of the plan; write it again")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "study.db").exists():
        write_json(folder / "plan.json", plan_record(plan))
        store = Store(plan, own_database(folder))
        store.enter(planned)
        while (trial := store.take()) is not None:
            store.finish(trial, ended[trial.user_attrs["key"]])
    return folder
