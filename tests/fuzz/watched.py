"""Calls in a process of their own, where a crash, a hang and a full memory belong to one input."""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LONGEST_SENTENCE = 2000

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.fuzz.preload"])


@dataclass(frozen=True)
class Limits:
    """What one input may take.

    Attributes:
        seconds: of one core.
        patience: in seconds on the clock; others may want the cores.
        megabytes: above what the libraries take.
    """

    seconds: float = 5.0
    patience: float = 40.0
    megabytes: float = 1000.0


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        end: "result" or "sentence", which are good, or "traceback", "long sentence", "memory", "slow",
            "hang", "crash".
        text: the sentence, or the last lines of a traceback.
        place: where it was raised, which tells one fault from another.
        seconds: of one core.
        megabytes: by which the memory grew.
    """

    end: str
    text: str = ""
    place: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0

    @property
    def good(self) -> bool:
        return self.end in ("result", "sentence")


def _peak_mb() -> float:
    """The largest memory of this process since it was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def attempt(call: Callable[[], Any], limits: Limits) -> Outcome:
    """Call what reads an input and judge how it ends."""
    from toolkit.runtime import InputError

    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of the call then
    before, begin = _peak_mb(), time.process_time()
    end, text, place = "result", "", ""
    try:
        call()
    except InputError as error:
        end, text = "sentence", str(error)
        if len(text) > LONGEST_SENTENCE:
            end, place = "long sentence", _place(error)
    except MemoryError as error:
        end, text, place = "memory", repr(error), _place(error)
    except BaseException as error:
        lines = traceback.format_exception(error)
        end, text, place = "traceback", "".join(lines[-4:])[-1500:], f"{type(error).__name__} {_place(error)}"
    seconds, megabytes = time.process_time() - begin, _peak_mb() - before
    if end in ("result", "sentence"):
        end = "memory" if megabytes > limits.megabytes else "slow" if seconds > limits.seconds else end
    return Outcome(end, text, place, round(seconds, 2), round(megabytes, 1))


def _place(error: BaseException) -> str:
    """The last line of the project's that a traceback goes through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/toolkit/" in frame.filename]
    return f"{own[-1].filename.rpartition('/toolkit/')[2]}:{own[-1].lineno}" if own else ""


def _serve(pipe: Connection, folder: Path, limits: Limits) -> None:
    faulthandler.enable((folder / "crash.txt").open("w"))
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + (3 << 30), resource.RLIM_INFINITY))
    sys.stderr = (folder / "stderr.txt").open("w")  # of readers that say what they chose
    while True:
        try:
            call, given = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(lambda: call(*given), limits))  # noqa: B023 (called at once)


class Watched:
    """Makes calls in a child, and starts another one where it dies or hangs."""

    def __init__(self, folder: Path, limits: Limits | None = None):
        self.folder, self.limits, self.starts = folder, limits or Limits(), 0
        self.process: Any = None

    def call(self, function: Callable[..., Any], *given: Any) -> Outcome:
        """How a call ends; `function` is one that its module names."""
        if self.process is None:
            self._start()
        self.pipe.send((function, given))
        if not self.pipe.poll(self.limits.patience):
            self.close()
            return Outcome("hang", seconds=self.limits.patience)
        try:
            outcome: Outcome = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            code, text = self.process.exitcode, (self.place / "crash.txt").read_text()
            self.close()
            own = next((line.strip() for line in text.splitlines() if "/toolkit/" in line), "")
            return Outcome("crash", f"exit code {code}\n{text[-1500:]}", own)
        return outcome

    def _start(self) -> None:
        self.starts += 1
        self.place = self.folder / f"child{self.starts}"
        self.place.mkdir(parents=True)
        self.pipe, other = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(other, self.place, self.limits), daemon=True)
        self.process.start()
        other.close()

    def close(self) -> None:
        if self.process is not None:
            self.pipe.close()
            self.process.kill()
            self.process.join()
            self.process = None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
