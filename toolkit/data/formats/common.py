"""What the readers share about pictures: listing and measuring them, finding them by the names in labels."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.pictures import IMAGE_SUFFIXES, Unreadable
from toolkit.pictures import picture_size as picture_size
from toolkit.runtime import InputError

PICTURE_EXTENSIONS = tuple(sorted(IMAGE_SUFFIXES))


def is_picture(name: str) -> bool:
    """Whether a file name ends as a picture's does."""
    return name.lower().endswith(PICTURE_EXTENSIONS)


def list_files(folder: Path, accept: Callable[[str], bool] = is_picture) -> list[str]:
    """Names below `folder`, relative and sorted; hidden folders and files, and what a Mac's archives add, are
    left out."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        inside = os.path.relpath(parent, folder)
        prefix = "" if inside == "." else inside.replace(os.sep, "/") + "/"
        paths += [prefix + name for name in files if not name.startswith(".") and accept(name)]
    return sorted(paths)


_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")


def fault_of(path: str | Path) -> str:
    """What is wrong with a picture's file by its first bytes: "missing", "is empty", or why its header cannot
    be read; "" where it begins as a picture. Much faster than `picture_size`."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(16)
    except OSError:
        return "missing"
    if not head:
        return "is empty"
    if head.startswith(_MAGIC):
        return ""
    try:
        picture_size(path)
    except Unreadable as error:
        return error.reason
    return ""


def size_or_zero(path: Path) -> tuple[int, int]:
    """As `picture_size`; (0, 0), "not recorded", for a picture that the doctor should complain about."""
    try:
        return picture_size(path)
    except InputError:
        return 0, 0


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


def find_file(text: str, bases: Sequence[Path]) -> str | None:
    """The absolute path of the file that a list or a task names: as given, or below one of `bases` after as
    few leading folders as possible were dropped (lists travel between machines; CVAT puts "data/" before)."""
    text = text.strip().replace("\\", "/")
    if os.path.isabs(text) and os.path.isfile(text):
        return os.path.normpath(text)
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    for drop in range(len(parts)):
        for base in bases:
            candidate = os.path.join(os.path.abspath(base), *parts[drop:])
            if os.path.isfile(candidate):
                return candidate
    return None


class PictureFolder:
    """The pictures below a folder, found by the names that labels give them; nothing outside it is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def names(self) -> list[str]:
        """Relative and sorted."""
        return list_files(self.folder) if self.folder.is_dir() else []

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Names by their last part, with and without its ending."""
        index: dict[str, list[str]] = {}
        for name in self.names:
            last = folded(name.rsplit("/", 1)[-1])
            for key in {last, os.path.splitext(last)[0]}:
                index.setdefault(key, []).append(name)
        return index

    def find(self, name: str, near: str = "") -> str | None:
        """The one picture that `name` means: as given, otherwise by as many of its last parts as fit (lists
        travel between machines), whatever the case of its letters, and by its stem where no ending fits.
        None where there is none, or where several fit equally well, even with regard to `near`, the folder
        of the labels (relative, "" for none), in or below which a picture comes first.
        """
        parts = path_parts(name)
        if not parts:
            return None
        beside = path_parts(near)
        for plain in dict.fromkeys(("/".join(beside + parts), "/".join(parts))):
            if ".." not in name and is_picture(plain) and os.path.isfile(self.folder / plain):
                return plain
        best = self._fitting(parts)
        if len(best) > 1 and beside:
            best = [each for each in best if each.startswith("/".join(beside) + "/")]
        return best[0] if len(best) == 1 else None

    def _fitting(self, parts: list[str]) -> list[str]:
        """The pictures whose last parts fit best."""
        last = folded(parts[-1])
        spellings = (last, unquote(last), re.sub(r"^[0-9a-f]{8}-", "", last))  # Label Studio's uploads
        keys = [*spellings, *(os.path.splitext(name)[0] for name in spellings)]
        candidates = next((self._by_name[key] for key in keys if key in self._by_name), [])
        fits = {each: same_end(parts[:-1], each.split("/")[:-1]) for each in candidates}
        return [each for each in candidates if fits[each] == max(fits.values())]

    def why_not(self, name: str) -> str:
        """What to say of a name that `find` does not find."""
        several = self._fitting(path_parts(name)) if path_parts(name) else []
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


def same_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many last parts are the same."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if folded(a) != folded(b):
            break
        count += 1
    return count


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
        size: recorded (width, height), if any; it is kept for the doctor even if the file has another.
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
    actual = (0, 0)
    try:
        actual = picture_size(pictures.folder / file)
    except Unreadable as error:
        if columns.faults != "keep":
            columns.skip(file, error.reason)
            return None
    size = size if min(size) > 0 else actual
    return columns.add_picture(file, size, split, **more)
