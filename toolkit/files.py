"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.runtime import InputError


def check_place(folder: str | Path, mark: str | Path, kind: str) -> None:
    """Checks that results may go into a folder: one that is missing, empty, or holds the file `mark`, by
    which an earlier result of that kind is known. InputError for anything else."""
    folder = Path(folder)
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / mark).exists()):
        return
    if folder.exists():
        raise InputError(f"{folder} exists and is not {kind}: name another folder")


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """A folder that appears at `path` complete or not at all: yields a temporary one next to it, which
    replaces `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            os.replace(path, old / path.name)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file that appears at `path` complete or not at all: yields a temporary name next to it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, data: Any) -> None:
    """A JSON file, written whole, for people to read. Raises ValueError for NaN and infinity, which JSON does
    not have."""
    with whole_file(path) as temporary:
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
