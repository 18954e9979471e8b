"""Progress of the demo on the screen, and the log that takes what the stages print."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from toolkit.demo.stages import STAGES, DemoStage
from toolkit.files import naming
from toolkit.runtime import LINE_SECONDS, announced

RULE = "-----"  # before the title of a stage in the log


@contextmanager
def output_into(log: Path) -> Iterator[TextIO]:
    """Send what the stages and the programs they start print to `log`; yield the real stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    originals = [os.dup(1), os.dup(2)]
    try:
        with naming(log), log.open("ab") as file, os.fdopen(originals[1], "w", closefd=False) as screen:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield screen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(originals, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextmanager
def progress_view(screen: TextIO, log: Path) -> Iterator[Callable[[DemoStage, str], None]]:
    """Yield a function (stage, status) that shows progress: a live table on a terminal, otherwise one line
    per call, and one every LINE_SECONDS with the log's last. An empty status means that the stage begins."""
    status: dict[DemoStage, str] = {}
    started: dict[DemoStage, float] = {}

    def tell(stage: DemoStage, text: str) -> None:
        status[stage] = text
        started[stage] = time.monotonic()
        if not screen.isatty():
            place = f"[{STAGES.index(stage) + 1}/{len(STAGES)}]"
            print(f"{place} {stage.title}: {text or 'begins'}", file=screen, flush=True)

    def now() -> str:
        stage = next(reversed(status), STAGES[0])
        seconds = time.monotonic() - started.get(stage, time.monotonic())
        return f"{stage.title}, {seconds:.0f} s  {_last_line(log)}".rstrip()

    if not screen.isatty():
        with announced("at work", LINE_SECONDS, now, screen):
            yield tell
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def grid() -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for stage in STAGES:
            text = status.get(stage)
            if text == "":
                running = f"{time.monotonic() - started[stage]:.0f} s  {_last_line(log)}"
                table.add_row(Text(stage.title, "bold"), Text(running, "cyan"))
            else:
                style = "yellow" if (text or "").startswith("skipped") else ""
                table.add_row(Text(stage.title, style if text else "dim"), Text(text or "", style))
        return table

    with Live(
        get_renderable=grid,
        console=Console(file=screen),
        refresh_per_second=4,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield tell


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 400))
        lines = file.read().decode(errors="replace").splitlines()
    last = next((line.strip()[:100] for line in reversed(lines) if line.strip()), "")
    return "" if last.startswith(RULE) else "".join(filter(str.isprintable, last))
