"""How a command answers: a table for people or one JSON object, messages on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from toolkit.data.intake import Intake, Skipped


def print_message(text: str) -> None:
    print(text, file=sys.stderr)


def print_answer(data: dict[str, Any], as_json: bool, table: Table | str = "") -> None:
    if as_json:
        print(json.dumps(data))
    elif isinstance(table, str):
        print(table)
    else:  # without markup: names of files and extras have brackets and colons too
        from rich.console import Console

        width = None if sys.stdout.isatty() else 160
        Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def print_intake(intake: Intake) -> tuple[Skipped, ...]:
    """Say what stayed outside while labels were read, and return the pictures that were skipped, for
    `end_in_part`. What an earlier import has recorded is no news: nothing."""
    if intake.source:
        return ()
    for sentence in replace(intake, skipped=()).sentences():
        print_message(sentence)
    return intake.skipped


def end_in_part(skipped: Sequence[Skipped], limit: int = 20) -> None:
    """List the pictures that were skipped on stderr and end with exit code 3; nothing where none were."""
    from typer import Exit

    for picture in skipped[:limit]:
        print_message(f"skipped: {picture.file}: {picture.reason}")
    if len(skipped) > limit:
        print_message(f"... {len(skipped)} pictures skipped in all: use --json to see them")
    if skipped:
        raise Exit(3)


def as_json_list(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    return [{"file": picture.file, "reason": picture.reason} for picture in skipped]


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """First column to the left, numbers to the right."""
    from rich.table import Table

    result = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        result.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


def table_of_columns(columns: dict[str, list[str]]) -> Table:
    return table("", list(columns), [list(row) for row in zip(*columns.values(), strict=True)])
