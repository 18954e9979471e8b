"""The `toolkit` command: reads options, calls the library, prints a table or one JSON object."""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from toolkit import __version__
from toolkit.cli.answer import explained, print_message

# name -> (file in this folder, the Typer in it, help in the list); a command's file is loaded when it is used
COMMANDS = {
    "models": ("networks", "app", "The networks of the zoo: size, parameters, cost, published weights."),
    "export": ("networks", "app", "Export a network; each file is checked against torch."),
    "package": (
        "networks",
        "app",
        "Write an app around exported networks: camera, pictures, sliders, timing. For Android or a browser.",
    ),
    "detect": ("find", "app", "Detect objects in a picture, a folder, a video, a camera or a stream."),
    "landmarks": (
        "find",
        "app",
        "Detect faces and their landmarks in a picture, folder, video, camera or stream.",
    ),
    "train": (
        "train",
        "app",
        "Train a network on your data: settings, curves and best weights in one folder.",
    ),
    "doctor": (
        "machine",
        "app",
        "Versions and hardware of this machine, and the extras that are not installed.",
    ),
    "demo": (
        "machine",
        "app",
        "Run the whole chain on a generated data set: curate, ablate, train, export, package, time, report.",
    ),
    "data": ("data", "app", "Import, check and curate data; fit anchors to it."),
    "evaluate": ("evaluate", "app", "Score a network by the protocols of published tables."),
    "parity": ("parity", "app", "Compare backends of one network."),
    "ablate": ("ablate", "app", "Controlled studies: factors, a budget, effects with intervals."),
    "time": (
        "device",
        "time_app",
        "Time exported networks on phones, boards, this machine and in browsers. `time FOLDER` is short for "
        "`time run FOLDER`.",
    ),
    "serve": (
        "device",
        "serve_app",
        "Serve a page with exported networks to a phone: live boxes there, its milliseconds back here.",
    ),
    "device": ("device", "device_app", "The timing runner for phones and boards."),
}


class LazyGroup(TyperGroup):
    """The list of commands without their files, which have the options of every command to set up."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=text) for name, (_, _, text) in COMMANDS.items()}

    def invoke(self, ctx: Any) -> Any:  # typer would end on some errors by itself
        with explained():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer's own copy of click is private
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, rest


def load_command(name: str) -> Any:
    """The command or group of commands called `name`, from its file."""
    file, attribute, text = COMMANDS[name]
    group = get_group(getattr(importlib.import_module(f"toolkit.cli.{file}"), attribute))
    if name in group.commands:
        return group.commands[name]
    group.name, group.help = name, text
    return group


app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, cls=LazyGroup)


@app.callback(invoke_without_command=True)
def toolkit(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def _print_warning(message: Warning | str, *where: Any, **place: Any) -> None:
    print_message(f"warning: {message}")


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a check failed, 2 bad input, 3 done in part, 130 after Ctrl-C, 143
    after SIGTERM."""
    warnings.showwarning = _print_warning  # a sentence, without a line of our source
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal's encoding does not have
    with explained():
        app(prog_name="toolkit")
