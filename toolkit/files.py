"""Files and folders that are written whole or not at all, by one process at a time.

A lock is the kernel's own (`flock`), so that of a killed process is free at once. What a killed process left
next to a target has a name that follows from the target's, and the next call for that target removes it, or
puts it back where it is the only copy.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from toolkit.runtime import InputError, announced

# Errors that end any writing, whatever is written: files find no place.
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
INSIDE = ".toolkit.lock"  # lock of a folder whose parent cannot be written
WORK = "toolkit-work-"  # how temporary folders begin

_HELD: set[tuple[Path, int]] = set()  # (folder, thread) that are inside `locked`


class Occupied(InputError):
    """Another process works in a folder."""


def latest(pattern: str, default: str) -> str:
    """The newest path that fits a pattern, or the default where none does: how a notebook takes up what the
    one before it has made.

    Args:
        pattern: as "../exports/runs/*/best.cfg", with * for any name that does not begin with a dot.
        default: a path or a name.

    >>> latest("no such folder/*", "toy")
    'toy'
    """
    return max(glob.glob(pattern), key=os.path.getmtime, default=default)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but the lock of who works in it."""
    return all(entry.name == INSIDE for entry in folder.iterdir())


def check_place(folder: str | Path, mark: str | Path, kind: str) -> None:
    """Checks that results may go into a folder: one that is missing, empty, or holds the file `mark`, by
    which an earlier result of that kind is known. InputError for anything else."""
    folder = Path(folder)
    put_back(folder)
    if folder.is_dir() and (is_empty(folder) or (folder / mark).exists()):
        return
    if folder.exists():
        raise InputError(f"{folder} exists and is not {kind}: name another folder")


def os_sentence(error: OSError) -> str:
    """An error of the system in one sentence: what failed, with which file, what to do.

    >>> os_sentence(OSError(errno.ENOSPC, "No space left on device", "exports/net/net.onnx"))
    'exports/net/net.onnx cannot be written (No space left on device): make room there, or name another place'
    """
    why = error.strerror or str(error) or type(error).__name__
    path = error.filename
    if error.errno in NO_PLACE:
        path = error.filename2 or path  # the second is the target of a copy
        temporary = os.environ.get("TMPDIR", "/tmp")
        place = os.fsdecode(path) if path else f"a file of the output, or in {temporary} (TMPDIR),"
        remedy = "remount it to write" if error.errno == errno.EROFS else "make room there"
        return f"{place} cannot be written ({why}): {remedy}, or name another place"
    if not path:
        return why
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{os.fsdecode(path)} cannot be used ({why}): change its permissions, or name another place"
    return f"{os.fsdecode(path)} cannot be used ({why})"


def no_place(error: BaseException) -> bool:
    """Whether an error says that no more files can be written: a fault of the machine, not of the input."""
    return isinstance(error, OSError) and error.errno in NO_PLACE


@contextmanager
def naming(path: str | Path, temporary: Path | None = None) -> Iterator[None]:
    """Errors of the system inside the block that name no file, as writing knows only a number, or a part of
    `temporary`, name `path`."""
    try:
        yield
    except shutil.Error as error:  # of copying many files: the first says it
        number = re.match(r"\[Errno (\d+)\]", str(error.args[0][0][2])) if error.args[0] else None
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
    except OSError as error:
        name = error.filename2 or error.filename  # the second is the target of a copy
        if name is None:
            own = error.errno in (*NO_PLACE, errno.EIO)
        else:
            own = temporary is not None and Path(os.fsdecode(name)).is_relative_to(temporary)
        if own:
            error.filename, error.filename2 = str(path), None
        raise


def _grabbed(path: Path, target: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int | None:
    """An open file at `path`, made where missing, with its lock held; None where another process has it.
    Errors name `target`."""
    import filelock

    while True:
        with naming(target, path):
            handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not filelock.lock_descriptor(handle, blocking=False):
                os.close(handle)
                return None
        except OSError:
            pass  # a file system without locks: as if nobody else were there
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False)):
                return handle
        os.close(handle)  # another process has moved or removed it meanwhile


def _grabbed_lock(file: Path, folder: Path) -> int | None:
    """As `_grabbed`; that of another user, which cannot be written, is opened to read."""
    try:
        return _grabbed(file, folder)
    except PermissionError:
        if not os.access(file, os.R_OK):
            raise
    with suppress(FileNotFoundError):  # the other process has just ended
        return _grabbed(file, folder, os.O_RDONLY)
    return None


def _lock_file(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = os.access(folder.parent, os.W_OK) or not folder.is_dir()
    return folder.with_name(f".{folder.name}.lock") if beside else folder / INSIDE


@contextmanager
def locked(folder: str | Path, wait: bool = False) -> Iterator[None]:
    """Only one process is inside the block for a folder (or a file), which need not exist yet.

    The lock is a file next to it, which goes when the block ends; a killed process holds no lock. A block
    inside another for the same folder, in one thread, is part of it.

    Args:
        folder: what is worked in.
        wait: wait for the other process instead of raising.

    Raises:
        Occupied: another process works in the folder.
    """
    folder = Path(os.path.abspath(folder))
    key = folder, threading.get_ident()
    if key in _HELD:
        yield
        return
    file = _lock_file(folder)
    handle = _grabbed_lock(file, folder)
    if handle is None and not wait:
        raise Occupied(f"another process works in {folder}: wait until it ends, or name another folder")
    if handle is None:
        with announced(f"another process works in {folder}"):
            while (handle := _grabbed_lock(file, folder)) is None:
                time.sleep(0.05)
    _HELD.add(key)
    try:
        yield
    finally:
        _HELD.remove(key)
        with suppress(OSError):  # on Windows an open file stays
            file.unlink()
        os.close(handle)


def _synced(path: Path) -> None:
    """On the disk, not only in the system's memory."""
    with suppress(OSError):  # some network file systems cannot, and Windows no folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _exchanged(first: Path, second: Path) -> bool:
    """Swap two paths in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)


def _removed(path: Path) -> None:
    """Remove a leftover of an earlier call, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _folder_lock(folder: Path) -> int | None:
    """An open folder, locked; None where another process has its lock, or it cannot be opened."""
    import filelock

    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        if filelock.lock_descriptor(handle, blocking=False):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder for the time of the block, where the system has its temporary files (TMPDIR). Those
    that killed processes left there are removed."""
    place = Path(tempfile.gettempdir())
    for leftover in place.glob(f"{WORK}*"):
        handle = _folder_lock(leftover)
        if handle is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(handle)
    made = Path(tempfile.mkdtemp(prefix=f".{WORK}", dir=place))
    handle = _folder_lock(made)
    folder = made.with_name(made.name[1:])  # only now is it one that others may remove
    os.replace(made, folder)
    try:
        with naming(f"{place} (TMPDIR)"):  # the folder itself is gone when that is read
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def scratch_folder(path: str | Path, mark: str) -> Iterator[Path]:
    """An empty folder next to `path`, on its disk, for the time of the block: `.NAME.mark`. Raises
    Occupied where another process has it."""
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{mark}")
    with locked(scratch), naming(path, scratch):
        _removed(scratch)
        scratch.mkdir(parents=True)
        try:
            yield scratch
        finally:
            with suppress(OSError):
                _removed(scratch)


def put_back(path: str | Path) -> None:
    """Where a call was killed between the two renames that replace a folder, its only copy comes back."""
    path = Path(os.path.abspath(path))
    old = _old(path)
    if old.exists() and not path.exists():
        with locked(path):
            if not path.exists():
                os.replace(old, path)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


@contextmanager
def whole_folder(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """A folder that appears at `path` complete or not at all: yields a temporary one next to it, which
    replaces `path` when the block ends without an error, in one step where the system can.

    `durable`: as in `whole_file`.

    Raises:
        Occupied: another process writes the same folder.
        InputError: it is the working directory, which would be lost to the shell.
    """
    path = Path(os.path.abspath(path))
    if path == Path.cwd():
        raise InputError(f"{path} is the working directory, which cannot be replaced: name another folder")
    old = _old(path)
    with locked(path):
        put_back(path)
        _removed(old)
        with scratch_folder(path, "new") as new:
            yield new
            for file in new.rglob("*") if durable else ():
                _synced(file)
            if not path.exists():
                os.replace(new, path)
            elif not _exchanged(new, path):
                os.replace(path, old)
                os.replace(new, path)
        with suppress(OSError):
            _removed(old)


def _claimed(path: Path) -> tuple[Path, int | None]:
    """An empty file next to `path` that no other process writes, and the handle that holds its lock. What a
    killed process left is used again."""
    if sys.platform == "win32":  # an open file cannot be moved there: a name of its own in place of a lock
        with naming(path, path.parent):
            handle, name = tempfile.mkstemp(path.suffix, f".{path.stem}.new", path.parent)
        os.close(handle)
        return Path(name), None
    for count in itertools.count():
        temporary = path.with_name(f".{path.stem}.new{count or ''}{path.suffix}")
        try:
            held = _grabbed(temporary, path)
        except PermissionError:
            if not os.path.lexists(temporary):
                raise
            continue  # another user's
        if held is not None:
            os.ftruncate(held, 0)
            break
    return temporary, held


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """The name of an empty file next to `path`, for the block to fill and to move; removed at an error."""
    temporary, handle = _claimed(path)
    try:
        yield temporary
    except BaseException:  # else it has been moved, and the name may be another process's by now
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def whole_file(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """A file that appears at `path` complete or not at all: yields a temporary name next to it, with the same
    suffix.

    `durable`: the file is on the disk before it replaces the one before it, so that one of them is there
    where the power fails; for what cannot be made again in a moment.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path) as temporary, naming(path, temporary):
        yield temporary
        if durable:
            _synced(temporary)
        os.replace(temporary, path)


def write_json(path: str | Path, data: Any) -> None:
    """A JSON file, written whole and to the disk, for people to read. Raises ValueError for NaN and infinity,
    which JSON does not have."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    with whole_file(path, durable=True) as temporary:
        # names of files need not be text: bytes of another system become JSON's own escapes
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
