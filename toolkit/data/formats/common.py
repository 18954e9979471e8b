"""What the readers share about pictures: listing and measuring them, finding them by the names in labels."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

import numpy as np

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.intake import FILE_NAME, kept_intake
from toolkit.data.reach import current, is_inside, is_readable
from toolkit.headers import header_of
from toolkit.pictures import IMAGE_SUFFIXES, Unreadable, max_pixels, why_unreadable
from toolkit.pictures import picture_size as picture_size
from toolkit.regular import opened

T = TypeVar("T")

_LONGEST = 4096  # characters of a path
_EXTENSIONS = tuple(sorted(IMAGE_SUFFIXES))


def is_picture(name: str) -> bool:
    """Whether a file name ends as a picture's does."""
    return name.lower().endswith(_EXTENSIONS)


def list_files(
    folder: Path, accept: Callable[[str], bool] = is_picture, imports: list[str] | None = None
) -> list[str]:
    """Names below `folder`, relative and sorted; hidden folders and files, what a Mac's archives add, and
    data sets that an import has put there are left out. The last are added to `imports`."""
    paths: list[str] = []
    prefixes = [""]  # of folders to look through
    seen: set[str] = set()
    while prefixes:
        prefix = prefixes.pop()
        files, folders = _entries(os.path.join(folder, prefix), seen)
        if prefix and FILE_NAME in files and kept_intake(Path(folder, prefix)):
            if imports is not None:
                imports.append(prefix[:-1])
            continue
        paths += [prefix + name for name in files if accept(name)]
        prefixes += [f"{prefix}{name}/" for name in folders]
    return sorted(paths)


def _entries(folder: str, seen: set[str]) -> tuple[list[str], list[str]]:
    """The files and folders in a folder that are looked at. A link to a folder is followed only where all is
    allowed, and once: real folders are added to `seen`."""
    files, folders = [], []
    try:
        entries = list(os.scandir(folder))
    except OSError:  # no right to read it, or a name that is too long
        return [], []
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_file(follow_symlinks=False):
            files.append(entry.name)
        elif entry.is_dir(follow_symlinks=False):
            folders.append(entry.name)
        elif entry.is_symlink() and os.path.isdir(entry.path):
            if current().allows_folder(entry.path, seen):
                folders.append(entry.name)
        elif is_readable(entry.path):
            files.append(entry.name)
    return files, folders


_HEAD = 64  # bytes in which PNG, BMP and WebP have their size
# Each is enough by itself: JPEG, GIF, JPEG 2000.
_BEGINNINGS = (b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")


def fault_of(path: str | Path) -> str:
    """What is wrong with a picture's file by its first bytes: "is missing", "is empty", or why its header
    cannot be read; "" where it begins as a picture. Much faster than `picture_size`."""
    try:
        with opened(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        return why_unreadable(path, error)
    if not head:
        return "is empty"
    if head.startswith(_BEGINNINGS):
        return ""
    header = header_of(head) if head.startswith((b"\x89PNG", b"BM", b"RIFF")) else None
    if header and header.pixels <= max_pixels():
        return ""
    try:
        picture_size(path)
    except Unreadable as error:
        return error.reason
    return ""


def filled_sizes(dataset: Dataset) -> Dataset:
    """`dataset` with every size recorded, from the headers where it was not."""
    missing = np.flatnonzero((dataset.sizes <= 0).any(axis=1))
    if not missing.size:
        return dataset
    sizes = dataset.sizes.copy()
    for i in missing:
        sizes[i] = picture_size(dataset.path(int(i)))
    return replace(dataset, sizes=sizes)


def common_root(paths: Sequence[str], top: Path) -> Path:
    """The folder to name absolute picture paths from: `top` or, where all are in one folder of it, that one;
    what they have in common where some are outside."""
    inside = os.path.abspath(top) + os.sep
    if all(path.startswith(inside) for path in paths):
        firsts = {path[len(inside) :].split(os.sep, 1)[0] for path in paths}
        first = next(iter(firsts))
        deeper = len(firsts) == 1 and all(path.startswith(inside + first + os.sep) for path in paths)
        return Path(inside + first) if deeper else Path(inside)
    return Path(os.path.commonpath([os.path.dirname(path) for path in paths]))


class PictureFolder:
    """The pictures below a folder, found by the names that labels give them; nothing outside it is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def names(self) -> list[str]:
        """Relative and sorted."""
        return list_files(self.folder) if self.folder.is_dir() else []

    @cached_property
    def _by_name(self) -> NameIndex[str]:
        return NameIndex((name, name) for name in self.names)

    @cached_property
    def _by_stem(self) -> NameIndex[str]:
        return NameIndex((os.path.splitext(name)[0], name) for name in self.names)

    def find(self, name: str, near: str = "") -> str | None:
        """The one picture that `name` means: as given, otherwise by as many of its last parts as fit (lists
        travel between machines), whatever the case of its letters, and by its stem where no ending fits.
        None where there is none, or where several fit equally well, even with regard to `near`, the folder
        of the labels (relative, "" for none), in or below which a picture comes first.
        """
        parts = path_parts(name) if len(name) <= _LONGEST else []
        if not parts:
            return None
        beside = path_parts(near)
        for plain in dict.fromkeys(("/".join(beside + parts), "/".join(parts))):
            path = os.path.join(self.folder, plain)
            if ".." not in name and is_picture(plain) and os.path.isfile(path) and is_inside(path):
                return plain
        best = self._fitting(parts)
        if len(best) > 1 and beside:
            best = [each for each in best if each.startswith("/".join(beside) + "/")]
        return best[0] if len(best) == 1 else None

    def _fitting(self, parts: list[str]) -> list[str]:
        """The pictures whose last parts fit best."""
        if not parts:
            return []
        last = parts[-1]
        spellings = (last, unquote(last), re.sub(r"^[0-9a-fA-F]{8}-", "", last))  # Label Studio's uploads
        for key in (*spellings, *(os.path.splitext(name)[0] for name in spellings)):
            for index in (self._by_name, self._by_stem):
                if names := index.fitting([*parts[:-1], key]):
                    return names
        return []

    def why_not(self, name: str) -> str:
        """What to say of a name that `find` does not find."""
        several = self._fitting(path_parts(name[:_LONGEST]))
        if len(several) > 1:
            return f"fits several files in {self.folder} ({', '.join(several[:3])})"
        return f"is missing in {self.folder}"


def path_parts(text: str) -> list[str]:
    """The parts of a path of any system, without drive, "." and "..".

    >>> path_parts("C:\\\\data\\\\..\\\\a.jpg")
    ['data', 'a.jpg']
    """
    text = re.sub(r"^[A-Za-z]:", "", text.strip().replace("\\", "/"))
    return [part for part in text.split("/") if part not in ("", ".", "..")]


def folded(name: str) -> str:
    """A name by which it is compared: whatever its case, and whether its accents are composed (Macs take them
    apart)."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


class NameIndex(Generic[T]):
    """Values by the last parts of their names, whatever the case.

    Args:
        pairs: (name, value); the parts of a name are separated by "/".

    >>> NameIndex([("a/x.jpg", 1), ("b/x.jpg", 2)]).fitting(["elsewhere", "B", "x.jpg"])
    [2]
    """

    def __init__(self, pairs: Iterable[tuple[str, T]]) -> None:
        self._values: dict[str, list[T]] = {}
        self._depth = 0
        for name, value in pairs:
            parts = folded(name).split("/")
            self._depth = max(self._depth, len(parts))
            for first in range(len(parts)):
                self._values.setdefault("/".join(parts[first:]), []).append(value)

    def fitting(self, parts: Sequence[str]) -> list[T]:
        """The values whose names have the most last parts in common with `parts`; none without the last."""
        parts = [folded(part) for part in parts[-self._depth :]]
        ends = ("/".join(parts[first:]) for first in range(len(parts)))
        return next((self._values[end] for end in ends if end in self._values), [])


def add_named_picture(
    columns: Columns,
    pictures: PictureFolder,
    name: str,
    split: str,
    place: str,
    size: tuple[int, int] = (0, 0),
    near: str = "",
    **more: Any,
) -> int | None:
    """Add the picture that labels call `name`, and return its index in `columns`.

    Args:
        columns: where to add it; a picture that is missing or does not decode is skipped there, None.
        pictures: where to look for it.
        name: as the labels have it.
        split: its split.
        place: file and line of the labels, for the sentence.
        size: recorded (width, height); zeros where there is none. It is kept even if the file has another,
            which the doctor finds.
        near: as in `PictureFolder.find`.
        more: `image_id`, `original_size`, as in `Columns.add_picture`.
    """
    file = pictures.find(name, near)
    if file is None:
        if columns.faults == "keep":
            plain = "/".join(path_parts(name)) or name
            return columns.add_picture(plain, size, split, **more)
        columns.skip(name, f"the picture {name!r} that {place} names {pictures.why_not(name)}")
        return None
    path, reason = f"{pictures.folder}/{file}", ""
    if min(size) > 0:
        reason = fault_of(path)  # the first bytes are enough, in a fifth of the time
    else:
        try:
            size = picture_size(path)
        except Unreadable as error:
            reason = error.reason
    if reason and columns.faults != "keep":
        columns.skip(file, reason)
        return None
    return columns.add_picture(file, size, split, **more)
