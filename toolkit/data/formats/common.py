"""What the readers share: listing and measuring pictures, finding files, reading text and numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from toolkit.data.dataset import Dataset, shown
from toolkit.runtime import InputError

PICTURE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_EXIF_ORIENTATION, _EXIF_TURNED = 0x0112, (5, 6, 7, 8)


def is_picture(name: str) -> bool:
    """Whether a file name ends as a picture's does."""
    return name.lower().endswith(PICTURE_EXTENSIONS)


def list_files(folder: Path, accept: Callable[[str], bool] = is_picture) -> list[str]:
    """Names below `folder`, relative and sorted; hidden folders and files are left out."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(parent, folder)
        prefix = "" if inside == "." else inside.replace(os.sep, "/") + "/"
        paths += [prefix + name for name in files if not name.startswith(".") and accept(name)]
    return sorted(paths)


def picture_size(path: str | Path) -> tuple[int, int]:
    """(width, height) from the header, without decoding; as shown, that is after a JPEG's EXIF rotation,
    which is what OpenCV gives too. InputError where the file is missing or is not a picture."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # a PNG would be decoded to look for EXIF
            turned = (
                picture.format in ("JPEG", "MPO") and picture.getexif().get(_EXIF_ORIENTATION) in _EXIF_TURNED
            )
            return (height, width) if turned else (width, height)
    except FileNotFoundError:
        raise InputError(f"the picture {path} is missing") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"the picture {path} cannot be read ({error})") from None


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


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise InputError(f"{path} is not a text file: expected UTF-8 text") from None


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers."""
    return [(i, line.strip()) for i, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]


def numbers(fields: Sequence[str], place: str, what: str) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [float("nan")]
    if not all(map(isfinite, values)):
        raise InputError(f"{place}: expected {what}, found {shown(fields)!r}")
    return values


def written(values: NDArray[np.floating]) -> NDArray[np.str_]:
    """Numbers as the shortest text that gives the same float32 again; whole ones without a point."""
    values = np.asarray(values, np.float32)
    whole = (values == np.round(values)) & (np.abs(values) < 1e9)
    return np.where(
        whole, np.where(whole, values, 0).astype(np.int64).astype(np.str_), values.astype(np.str_)
    )
