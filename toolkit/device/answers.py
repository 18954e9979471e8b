"""What devices answer, which is a stranger's word: bounded in length and time, and checked before use."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import PurePosixPath
from typing import IO

from toolkit.runtime import InputError
from toolkit.text import one_line, short

LIMIT = 1 << 26  # bytes of an answer, twenty times the longest reading
_TEMPORARY = {"tmp", "temp", "shm"}


def too_long(name: str) -> InputError:
    return InputError(f"{name} answers more than {LIMIT >> 20} MB: check what runs there")


def run_bounded(
    words: Sequence[str], name: str, data: bytes = b"", timeout: float = 60, folder: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end; with all that it started it ends by then, whatever happens.

    Args:
        words: its command line.
        name: of the device, for the error.
        data: its standard input.
        timeout: in seconds.
        folder: to run in; this process's own by default.

    Raises:
        subprocess.TimeoutExpired: it takes longer.
        InputError: it prints more than `LIMIT`.
    """
    lengthy, late = threading.Event(), threading.Event()
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            words, stdin=source, stdout=pipe, stderr=pipe, cwd=folder, start_new_session=True
        )

    def end() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def read(stream: IO[bytes] | None) -> bytes:
        assert stream is not None
        with stream:
            answer = stream.read(LIMIT + 1)
            if len(answer) > LIMIT:
                lengthy.set()
                end()
        return answer

    def expire() -> None:
        late.set()
        end()

    timer = threading.Timer(timeout, expire)
    timer.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            try:
                output, message = pool.map(read, (process.stdout, process.stderr))
            except BaseException:  # Ctrl-C: the pool waits for its threads
                end()
                raise
        process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            end()
            process.wait()
    if lengthy.is_set():
        raise too_long(name)
    if late.is_set():
        raise subprocess.TimeoutExpired(words, timeout)
    return subprocess.CompletedProcess(words, process.returncode, output, message)


def decoded(ended: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    output, message = (part.decode(errors="replace") for part in (ended.stdout, ended.stderr))
    return subprocess.CompletedProcess(ended.args, ended.returncode, output, message)


def made_folder(answer: str, name: str) -> str:
    """The folder that `mktemp -d` has made on a device, which is filled and then removed.

    Raises InputError where it is not toolkit-... in a folder for temporary files.
    """
    path = answer.strip("\n")
    folder = PurePosixPath(path)
    safe = re.fullmatch(r"(/[\w.+@=-]+)*/toolkit-\w+", path, re.ASCII) and ".." not in folder.parts
    if not safe or not _TEMPORARY & set(folder.parent.parts):
        raise InputError(
            f"{name} gives {short(answer)} as its temporary folder: expected toolkit-... in a "
            "folder such as /tmp; see what TMPDIR and mktemp are there"
        )
    return path


def last_line(text: str, otherwise: str = "no message") -> str:
    """The last line of a message, as it may be printed."""
    return one_line((text.strip().splitlines() or [otherwise])[-1], 400)


def whole_number(text: str) -> int | None:
    """The number that a text is; None where it is something else.

    >>> whole_number("-12"), whole_number("1e3"), whole_number("9" * 30)
    (-12, None, None)
    """
    return int(text) if re.fullmatch(r"-?[0-9]{1,15}", text) else None
