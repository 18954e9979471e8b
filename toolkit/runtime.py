"""Errors, seeds, devices, progress, engines' own lines, environment stamp."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from toolkit.moved import at_old_place

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
LINE_SECONDS = 30.0  # between two lines about a long wait, where there is no bar
EXTRAS = {  # extra -> its main package
    "notebooks": "jupyterlab",
    "pictures": "pi_heif",
    "curation": "fiftyone",
    "export": "ncnn",
    "device": "adbutils",
    "search": "optuna",
    "training": "lightning",
    "cluster": "ray",
}


LONGEST = 1500  # characters of a sentence for people


def cut_middle(text: str) -> str:
    """A text of at most `LONGEST` characters and some: the middle of a longer one is left out."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"


class InputError(ValueError):
    """Bad input: one sentence with what was expected, what was found and what to do.

    The command line prints it and exits with code 2; in a notebook it is an ordinary ValueError. The middle
    of a very long one, which a stranger's names can make, is left out.
    """

    def __init__(self, *parts: str) -> None:
        super().__init__(*map(cut_middle, parts))


class MissingExtra(InputError):
    """A package of an extra is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise MissingExtra that names the extra which installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(
            f"this step needs the package {module.split('.')[0]!r}, which is not installed: "
            f'run pip install -e ".[{extra}]" in the project folder'
        ) from None


def missing_extras() -> dict[str, str]:
    """Extras whose main package is not installed -> the command that installs them."""
    return {
        extra: f'pip install -e ".[{extra}]"'
        for extra, package in EXTRAS.items()
        if importlib.util.find_spec(package) is None
    }


def fast() -> bool:
    """True if TOOLKIT_FAST=1 asks for runs small enough for continuous integration."""
    return os.environ.get("TOOLKIT_FAST", "") not in ("", "0")


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries draw from the global generator)
    torch.manual_seed(seed)


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks for the next step instead of returning them to the kernel, which
    would map them again page by page. Does nothing on other systems."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, (1 << 31) - 1)
            libc.mallopt(top_pad, 1 << 26)


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is a GPU if there is one. InputError if it is not usable."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(f"device {name!r} is not usable on this machine: use 'cpu' or 'auto'") from None
    return device


def progress(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar (count, rate, time left) on stderr or in the notebook; where stderr is no
    terminal, with a line every LINE_SECONDS."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):  # a notebook, not just a process that has imported its packages
        yield from _notebook_progress(items, title, total)
        return
    if not sys.stderr.isatty():
        yield from _logged_progress(items, title, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),  # a file's name, in some
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, rate="")
        begin = shown = time.monotonic()
        for count, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - shown > 0.2:  # an update costs as much as a small picture
                shown = now
                bar.update(task, completed=count, rate=f"{count / (now - begin):.1f}/s")


def _logged_progress(items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
    count, begin = 0, time.monotonic()

    def status() -> str:
        rate = count / (time.monotonic() - begin)
        left = f" of {total}, {(total - count) / rate:.0f} s left" if total and count else ""
        return f"{count}{left}, {rate:.1f}/s"

    with announced(title, LINE_SECONDS, status):
        for item in items:
            yield item
            count += 1


@contextmanager
def announced(
    title: str,
    first: float = 2.0,
    status: Callable[[], str] = lambda: "please wait",
    screen: TextIO | None = None,
) -> Iterator[None]:
    """Says on stderr, or on `screen`, what a wait is for: a line after `first` seconds, then one every
    LINE_SECONDS, each with the words of `status`. A shorter wait says nothing."""
    over = threading.Event()

    def tell() -> None:
        pause = first
        while not over.wait(pause):
            pause = LINE_SECONDS
            line = f"{title}: {status()}\n"
            if screen is not None or _messages is None:
                print(line, end="", file=screen or sys.stderr, flush=True)
            else:
                os.write(_messages, line.encode())

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _notebook_progress(items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
    """A plain display that is updated: rich's bar is a widget there, whose messages can stop a run without a
    browser (nbclient) for good. What takes less than a fifth of a second shows nothing."""
    from IPython.display import HTML, display

    handle: Any = None
    begin = shown = time.monotonic()
    try:
        for count, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - shown > 0.2:
                shown, rate = now, count / (now - begin)
                left = f" of {total}, {(total - count) / rate:.0f} s left" if total else ""
                bar = f'<progress value="{count}" max="{total}"></progress>' if total else ""
                text = HTML(f"{escape(title)} {bar} {count}{left}, {rate:.1f}/s")
                if handle is None:
                    handle = display(text, display_id=True)
                else:
                    handle.update(text)
    finally:
        if handle is not None:
            handle.update(HTML(""))


_ENGINE_LINES = threading.RLock()
_messages: int | None = None  # where stderr went before `engine_lines`, inside its block


def _is_open(stream: int) -> bool:
    try:
        os.fstat(stream)
    except OSError:
        return False
    return True


@contextmanager
def engine_lines() -> Iterator[list[str]]:
    """What C++ libraries print inside the block is kept off the terminal and off standard output, which
    belong to the caller. Yields a list that has the lines when the block ends. The streams are the whole
    process's, so one thread at a time is inside.

    >>> with engine_lines() as lines:
    ...     _ = os.write(2, b"layer Foo not exists or registered\\n")
    >>> lines
    ['layer Foo not exists or registered']
    """
    global _messages
    libc = ctypes.CDLL(None) if os.name == "posix" else ctypes.cdll.msvcrt
    lines: list[str] = []
    with _ENGINE_LINES, tempfile.TemporaryFile() as file:
        for python_stream in (sys.stdout, sys.stderr):
            if python_stream is not None:  # a service may have none
                python_stream.flush()
        libc.fflush(None)
        kept = {stream: os.dup(stream) for stream in (1, 2) if _is_open(stream)}
        outer, _messages = _messages, kept.get(2) if _messages is None else _messages
        for stream in kept:
            os.dup2(file.fileno(), stream)
        try:
            yield lines
        finally:
            _messages = outer
            libc.fflush(None)
            for stream, before in kept.items():
                os.dup2(before, stream)
                os.close(before)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """Versions, machine and date: the stamp that is stored with every figure."""
    import cv2
    import numpy as np
    import torch

    stamp: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    if torch.cuda.is_available():
        stamp["gpu"] = torch.cuda.get_device_name()
    return stamp


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
