"""The `toolkit` command: reads options, calls the library, prints a table or one JSON object."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from toolkit import __version__
from toolkit.cli import ablate, data, device, evaluate, find, machine, networks, parity, train
from toolkit.cli.answer import print_message
from toolkit.runtime import InputError

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
for commands in (networks.app, find.app, train.app, machine.app):
    app.add_typer(commands)
for name, commands in (
    ("data", data.app),
    ("evaluate", evaluate.app),
    ("parity", parity.app),
    ("ablate", ablate.app),
    ("time", device.time_app),
    ("device", device.device_app),
):
    app.add_typer(commands, name=name)


@app.callback(invoke_without_command=True)
def toolkit(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: bad input is one sentence on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        print_message(f"error: {error}")
        sys.exit(2)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print_message(f"error: {error.strerror or error}{where}")
        sys.exit(2)
    except KeyboardInterrupt:
        print_message("interrupted")
        sys.exit(130)
