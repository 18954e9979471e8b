"""How far a data set reaches: nothing is read outside its folder unless that is allowed.

Links and names in a stranger's files can lead to any file that the user may read. `reaching` says, for all
that is read within it, which folders are the set's own; the readers ask `is_inside`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from toolkit.regular import why_not_regular

OPTION = "toolkit data import --allow-outside (allow_outside=True)"
STRAY = "is a link that leads out of the data set"
# Folders of labels, next to those of pictures.
_PAIRED = {"annotations", "annotation", "labels", "label", "imagesets", "main", "wider_face_split"}


class Reach:
    """The folders of a data set, and what was found to lead out of them.

    Args:
        folders: its own.
        everywhere: allow what is outside, too.
    """

    def __init__(self, folders: list[Path], everywhere: bool) -> None:
        self.everywhere = everywhere
        self.strays: dict[str, str] = {}  # path that leads out -> how
        self.unfit: dict[str, str] = {}  # path that is not a file -> what it is
        self._roots = [os.path.realpath(folder) for folder in folders]
        self._real_folders: dict[str, str] = {}

    def add(self, folder: str | Path) -> None:
        """Count a folder as the set's own."""
        self._roots.append(os.path.realpath(folder))

    def holds(self, path: str | Path) -> bool:
        """Whether a path, with links followed, is in one of the folders."""
        folder, name = os.path.split(os.path.abspath(path))
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        return any(real == root or real.startswith(os.path.join(root, "")) for root in self._roots)

    def allows_folder(self, link: str, seen: set[str]) -> bool:
        """Whether a link to a folder is followed: where all is allowed, and it leads out of the set; each
        once, which ends circles. One that leads out and is not followed is noted in `strays`."""
        real = os.path.realpath(link)
        if not self._roots or self.holds(link) or real in seen:
            return False
        if not self.everywhere:
            self.strays[link] = STRAY
        seen.add(real)
        return self.everywhere

    def sentences(self) -> list[str]:
        """What leads out, and what is not a file: a sentence each, with the first; none without any."""
        kinds = (
            (self.strays, "lead out of it and are not read", f": {OPTION} takes them in"),
            (self.unfit, "are not files and are not read", ""),
        )
        return [
            f"{len(found)} of its files and entries {what} (first: {' '.join(min(found.items()))}){remedy}"
            for found, what, remedy in kinds
            if found
        ]


_REACH: ContextVar[Reach | None] = ContextVar("reach", default=None)


def top_of(path: Path) -> Path:
    """The folder of the data set that a folder or label file belongs to: for a file its own, or the one
    around folders that are called for labels, which has the pictures beside them."""
    folder = path if path.is_dir() else path.parent
    folder = Path(os.path.abspath(folder))
    while path.is_file() and folder.name.lower() in _PAIRED and folder != folder.parent:
        folder = folder.parent
    return folder


def takes_neighbour(path: Path) -> bool:
    """Whether there is a file or folder of that name next to the data set's folder, which a reader looks for
    by itself; it then counts as the set's own. A link does not."""
    if path.is_symlink() or not path.exists():
        return False
    current().add(path)
    return True


@contextmanager
def reaching(*folders: str | Path, everywhere: bool = False) -> Iterator[Reach]:
    """Within the context nothing but what is in `folders` counts as inside; with `everywhere` all does."""
    reach = Reach([Path(folder) for folder in folders], everywhere)
    token = _REACH.set(reach)
    try:
        yield reach
    finally:
        _REACH.reset(token)


def current() -> Reach:
    """The reach of what is being read; everywhere where nothing was said."""
    return _REACH.get() or Reach([], everywhere=True)


def is_inside(path: str | Path) -> bool:
    """Whether a path may be read: it is in the data set's folders, or all is allowed."""
    reach = current()
    return reach.everywhere or reach.holds(path)


def is_readable(path: str) -> bool:
    """Whether a link, or what is not a file, counts as a file that may be read; one that leads nowhere does.
    What is wrong with others is noted in the reach."""
    reach = current()
    if not (reach.everywhere or reach.holds(path)):
        reach.strays[path] = STRAY
        return False
    reason = why_not_regular(path)
    if reason and reason != "is missing":
        reach.unfit[path] = reason
        return False
    return True
