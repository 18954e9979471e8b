"""Folders of a data set: made whole, filled with pictures under unique names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from toolkit.data.dataset import Dataset
from toolkit.files import is_empty, put_back, whole_folder
from toolkit.runtime import InputError, progress


def unique_names(files: Sequence[str], by_stem: bool = False) -> list[str]:
    """Relative names that stay apart on every file system: a repeated one (upper and lower case are one)
    gets `_2`, `_3`, ... before its extension. `by_stem` also keeps apart names that differ in the
    extension only, for formats that name the label file after the picture."""

    def key(name: str) -> str:
        return (os.path.splitext(name)[0] if by_stem else name).casefold()

    taken = {key(name) for name in files}
    free = set(taken)
    counts: dict[str, int] = {}  # the last number that a name was given
    names = []
    for name in files:
        if key(name) in free:
            free.remove(key(name))
        else:
            stem, extension = os.path.splitext(name)
            count = counts.get(key(name), 1) + 1
            while key(f"{stem}_{count}{extension}") in taken:
                count += 1
            counts[key(name)] = count
            name = f"{stem}_{count}{extension}"
            taken.add(key(name))
        names.append(name)
    return names


# What the writers put into the top folder of a data set, and what people add beside it.
_OWN_FOLDERS = re.compile(r"annotations|images|imagesets|jpegimages|obj_data|labels|wider_\w+|\..*", re.I)
_OWN_FILES = re.compile(r".*\.(json|txt|xml|csv|data|names|yaml|yml|md|html)|\..*", re.I)


def fresh_folder(folder: str | Path, overwrite: bool = False) -> AbstractContextManager[Path]:
    """`files.whole_folder`, which replaces a folder that holds anything only where told to, and then only
    where it holds nothing but a data set."""
    folder = Path(folder)
    put_back(folder)
    if folder.is_file() or (folder.is_dir() and not is_empty(folder) and not overwrite):
        raise InputError(f"{folder} exists already: name another place, or overwrite it (--overwrite)")
    for entry in folder.iterdir() if folder.is_dir() else ():
        own = _OWN_FOLDERS if entry.is_dir() else _OWN_FILES
        if not own.fullmatch(entry.name):
            raise InputError(
                f"{folder} is not replaced, as it holds {entry.name}, which is no part of a data set: remove "
                "it by hand, or choose another place for the output"
            )
    return whole_folder(folder)


def check_apart(output: Path, sources: Iterable[Path]) -> None:
    """Raises InputError where the new folder would replace one that is read, or a folder around it."""
    place = output.resolve()
    for source in sources:
        if place == source.resolve() or place in source.resolve().parents:
            raise InputError(
                f"the output {output} holds {source}, which is read: name a new folder, as the pictures and "
                "labels that are there are not changed"
            )


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


COCO_WORDS = ("instances_", "person_keypoints_")  # how COCO's own files with boxes begin


def is_canonical(path: Path) -> bool:
    """Whether it is a folder as `formats.canonical.save` writes it, not COCO's own of the same folders."""
    names = [file.name for file in (path / "annotations").glob("*.json")]
    own = bool(names) and not any(name.startswith(COCO_WORDS) for name in names)
    return own and (path / "images").is_dir()
