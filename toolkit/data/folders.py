"""Folders of a data set: made whole, filled with pictures under unique names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from toolkit.data.dataset import Dataset
from toolkit.runtime import InputError, progress, whole_folder


def unique_names(files: Sequence[str], by_stem: bool = False) -> list[str]:
    """Relative names that stay apart on every file system: a repeated one (upper and lower case are one)
    gets `_2`, `_3`, ... before its extension. `by_stem` also keeps apart names that differ in the
    extension only, for formats that name the label file after the picture."""

    def key(name: str) -> str:
        return (os.path.splitext(name)[0] if by_stem else name).casefold()

    taken = {key(name) for name in files}
    free = set(taken)
    names = []
    for name in files:
        if key(name) in free:
            free.remove(key(name))
        else:
            stem, extension = os.path.splitext(name)
            count = 2
            while key(f"{stem}_{count}{extension}") in taken:
                count += 1
            name = f"{stem}_{count}{extension}"
            taken.add(key(name))
        names.append(name)
    return names


def fresh_folder(folder: str | Path, overwrite: bool = False) -> AbstractContextManager[Path]:
    """`runtime.whole_folder`, which refuses to replace a folder that holds anything unless told to."""
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise InputError(f"{folder} exists already: choose another place for the output or remove it first")
    return whole_folder(folder)


def place_pictures(
    dataset: Dataset, folder: Path, names: Sequence[str], link: bool, title: str = "pictures"
) -> None:
    """Put every picture into `folder` under its name: a hard link where the file system can, else a copy."""
    folders: set[Path] = set()
    for i, name in enumerate(progress(names, title)):
        target = folder / name
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.add(target.parent)
        try:
            if link:
                try:
                    source = os.path.join(dataset.root, dataset.files[i])
                    os.link(os.path.realpath(source) if os.path.islink(source) else source, target)
                    continue
                except FileNotFoundError:
                    raise
                except OSError:
                    pass  # another file system, or one without hard links
            shutil.copyfile(dataset.path(i), target)
        except FileNotFoundError:
            raise InputError(f"the picture {dataset.path(i)} is missing") from None


def is_canonical(path: Path) -> bool:
    """Whether it is a folder as `formats.canonical.save` writes it."""
    return (path / "images").is_dir() and any((path / "annotations").glob("*.json"))
