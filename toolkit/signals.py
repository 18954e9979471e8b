"""Ctrl-C and SIGTERM: both end a command in good order, and a second one ends it at once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_RECEIVED: list[int] = []  # by this process, in their order
_INSIDE: list[list[int]] = []  # what each open block of `leaving` has received


def exit_code() -> int:
    """What a shell expects of a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_RECEIVED[0] if _RECEIVED else signal.SIGINT)


@contextmanager
def _handled(handler: Callable[[int], None]) -> Iterator[Callable[[], None]]:
    """Both signals go to `handler` inside the block, or until the function that it yields is called. Not one
    that this process was started to ignore, as in the background of a script. Signals reach the main thread
    alone: elsewhere nothing changes."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for kind in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(kind) not in (signal.SIG_IGN, None):
                before[kind] = signal.signal(kind, lambda number, _: handler(number))

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    try:
        yield restore
    finally:
        restore()


@contextmanager
def interrupting() -> Iterator[None]:
    """For a command: SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that what was begun is undone; a
    second signal ends the process at once. Where a library makes another error of it, it is one again."""
    raised = False

    def stop(number: int) -> None:
        nonlocal raised
        if _RECEIVED:
            os._exit(exit_code())
        _RECEIVED.append(number)
        raised = True
        raise KeyboardInterrupt

    with _handled(stop):
        try:
            yield
        except Exception as error:
            if raised:
                raise KeyboardInterrupt from error
            raise


@contextmanager
def leaving() -> Iterator[list[int]]:
    """Collects the first signal inside the block, so that it does not end the process in mid-step. A second
    one has the effect that it has outside."""
    received: list[int] = []

    def note(number: int) -> None:
        leave(number)
        _RECEIVED.append(number)
        restore()

    _INSIDE.append(received)
    try:
        with _handled(note) as restore:
            yield received
    finally:
        _INSIDE[:] = [other for other in _INSIDE if other is not received]


def leave(number: int = signal.SIGINT) -> None:
    """A signal to all open blocks of `leaving`, those of other threads as well; as of a button."""
    for received in _INSIDE:
        received.append(number)


def end_with_parent(parent: int) -> None:
    """SIGTERM comes when the process `parent`, which started this one, has ended, or now if it has ended
    already; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
