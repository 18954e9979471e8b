"""How a command answers: a table for people or one JSON object, messages on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


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
