"""How a command answers: a table for people or one JSON object, messages on stderr, an exit code."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from toolkit.files import os_sentence
from toolkit.runtime import InputError, cut_middle
from toolkit.signals import exit_code, interrupting
from toolkit.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from toolkit.data.intake import Intake, Skipped


def print_message(text: str) -> None:
    """On stderr; the middle of a line that is very long is left out."""
    print("\n".join(map(cut_middle, printable(text).split("\n"))), file=sys.stderr)


@contextmanager
def explained() -> Iterator[None]:
    """Inside the block an error is a sentence on stderr and an exit code, where it is one of the input, the
    system, or the memory. Signals end the command (`signals.interrupting`). Nobody left to read the answer
    is no error: the command ends in silence, as from SIGPIPE."""
    try:
        with interrupting():
            yield
            if sys.stdout is not None:
                sys.stdout.flush()
    except InputError as error:
        _end(str(error))
    except BrokenPipeError as error:
        _end_unread()
        _end(f"a program that this one talks to has ended early ({error})")
    except OSError as error:
        _end(os_sentence(error))
    except RecursionError:
        _end("the input is nested too deeply")
    except MemoryError as error:
        _end_without_memory(error)
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):  # torch, CUDA
            raise
        _end_without_memory(error)
    except KeyboardInterrupt as error:
        print_message(": ".join(["interrupted", *map(str, error.args)]))
        sys.exit(exit_code())


def _end(sentence: str) -> NoReturn:
    print_message(f"error: {sentence}")
    sys.exit(2)


def _end_without_memory(error: Exception) -> NoReturn:
    reason = (str(error).splitlines() or [""])[0][:200]
    _end(f"there is not enough memory{reason and f' ({reason})'}: use a smaller batch, size or input")


def _end_unread() -> None:
    """End the process where standard output or standard error is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):  # on Windows
        return
    streams = select.poll()
    for stream in (1, 2):
        streams.register(stream, 0)
    gone = [stream for stream, event in streams.poll(0) if event & select.POLLERR]
    for stream in gone:  # what is still to be written would be an error again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    if gone:
        sys.exit(141)  # as a shell tells of SIGPIPE


def json_line(data: Any) -> str:
    """One line of JSON, which has no NaN and no infinity: InputError for these."""
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:
        raise InputError(
            "the results hold a number that is not finite: the network's weights or its export are broken"
        ) from None


def print_answer(data: dict[str, Any], as_json: bool, table: Table | str = "") -> None:
    """Print a table for people, or with `as_json` one JSON object; InputError as in `json_line`."""
    if as_json:
        print(json_line(data))
    elif isinstance(table, str):
        print(printable(table))
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

    result = Table(title=printable(title) or None, title_justify="left")
    for i, column in enumerate(columns):
        result.add_column(printable(column), justify="right" if i else "left", overflow="fold")
    for row in rows:
        result.add_row(*map(printable, row))
    return result


def table_of_columns(columns: dict[str, list[str]]) -> Table:
    """What several rows all have in common is in the title instead of a column."""
    first = next(iter(columns), "")
    common = {
        title: cells[0]
        for title, cells in columns.items()
        if title != first and len(cells) > 1 and len(set(cells)) == 1
    }
    varied = {title: cells for title, cells in columns.items() if title not in common}
    rows = [list(row) for row in zip(*varied.values(), strict=True)]
    return table("; ".join(f"{title}: {cell}" for title, cell in common.items()), list(varied), rows)
