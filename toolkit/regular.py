"""Files that can be read to an end: not folders, pipes, sockets or devices, whatever they are called."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def why_not_regular(path: str | Path) -> str:
    """What is wrong with a path that should be a file, to follow its name in a sentence; "" for a file, or a
    link to one. A pipe would block whoever opens it, and a device such as /dev/zero has no end.

    >>> why_not_regular("/nowhere/a.jpg"), why_not_regular("/")
    ('is missing', 'is a folder, and not a file')
    """
    try:
        return _why_not(os.stat(path).st_mode)
    except PermissionError as error:  # of a folder on the way to it
        return f"cannot be read: {error.strerror}"
    except (OSError, ValueError):  # also a name that no file can have
        return "is missing"


def _why_not(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    kind = "folder" if stat.S_ISDIR(mode) else "pipe, a socket or a device"
    return f"is a {kind}, and not a file"


def opened(path: str | Path) -> BinaryIO:
    """A file, open for reading. FileNotFoundError where it is missing, OSError with the reason for what is
    not a file.

    What it is, is asked before, as some devices act when they are opened, and again of what was opened,
    without waiting, should another have taken the name meanwhile.
    """
    reason = why_not_regular(path)
    if reason == "is missing":
        raise FileNotFoundError(2, reason, str(path))
    if reason:
        raise OSError(22, reason, str(path))
    return open(path, "rb", opener=_handle)


def _handle(path: str, flags: int) -> int:
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # of a pipe it would wait for a writer
    if reason := _why_not(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(22, reason, path)
    return handle
