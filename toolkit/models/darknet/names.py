"""The class names of a cfg, where nobody names their file."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from toolkit.models.darknet.cfg import TEXT_BYTES, read_names
from toolkit.runtime import InputError
from toolkit.text import read_bytes


@dataclass(frozen=True)
class FoundNames:
    """The names of a cfg's classes, and where they are from.

    Attributes:
        names: a name for each class; empty where no file fits.
        sentence: the file, or why there is none, for people.
    """

    names: tuple[str, ...]
    sentence: str


def find_names(cfg: str | Path, count: int) -> FoundNames:
    """Look for the file of class names that belongs to a cfg.

    The file of the cfg's own name counts first, then all others that darknet's layout has: the `names =` of a
    .data file next to the cfg, the .names files next to it, and those in a folder `data` in its folder or
    next to that. A file fits whose number of names is that of the classes. Links that lead out of their
    folder do not count.

    Args:
        cfg: the .cfg file.
        count: its classes.

    Returns:
        The names of the one file that fits (copies of it count once), or none with the reason.
    """
    cfg = Path(cfg)
    own = cfg.with_suffix(".names")
    files, strays = _names_files(cfg)
    first = str(next(iter(strays), ""))
    stray = f"; {first} is a link that leads out of its folder: name it with --names" * bool(strays)
    if not files:
        return FoundNames((), f"no file of class names was found{stray}")
    contents = {file: _read(file) for file in files}
    fitting = {file: names for file, names in contents.items() if len(names) == count}
    if own in fitting:
        fitting = {own: fitting[own]}
    if len(set(fitting.values())) == 1:
        file = next(iter(fitting))
        return FoundNames(read_names(file), f"class names from {file}")
    if fitting:
        found = ", ".join(str(file) for file in fitting)
        return FoundNames((), f"{len(fitting)} files have {count} class names, {found}, and none is used")
    counts = ", ".join(f"{file} has {len(names)}" for file, names in list(contents.items())[:3])
    return FoundNames((), f"no file of {count} class names was found ({counts}){stray}")


def _names_files(cfg: Path) -> tuple[list[Path], list[Path]]:
    """Candidates, each once: the cfg's own, those of .data files, those next to it, darknet's `data`; and the
    links among them that lead out of their folder, which are none."""
    folder = cfg.parent
    named = [file for data in sorted(folder.glob("*.data")) for file in _named_by(data)]
    beside = [cfg.with_suffix(".names"), *sorted(folder.glob("*.names"))]
    roots = (folder / "data", _above(folder) / "data")
    files = [
        *beside[:1],
        *named,
        *beside[1:],
        *(file for root in roots for file in sorted(root.glob("*.names"))),
    ]
    there = [file for file in files if file.is_file()]
    strays = [file for file in there if file not in named and _leads_out(file)]
    unique = {file.resolve(): file for file in reversed(there) if file not in strays}
    return list(reversed(unique.values())), strays


def _leads_out(file: Path) -> bool:
    return not file.resolve().is_relative_to(file.parent.resolve())


def _named_by(data: Path) -> list[Path]:
    """What `names =` of a .data file means: a path from the folder of the file or, as darknet starts above
    `cfg`, the one above it. Nothing outside those folders."""
    try:
        text = read_bytes(data, TEXT_BYTES).decode("utf-8-sig", errors="replace")
    except InputError:  # it names nothing
        return []
    lines = (line.partition("=") for line in text.splitlines())
    value = {key.strip(): value.strip() for key, _, value in lines}.get("names", "")
    if not value or "\0" in value:
        return []
    roots = (data.parent, _above(data.parent))
    files = [root / value for root in roots if (root / value).resolve().is_relative_to(root.resolve())]
    return [file for file in files if file.is_file()][:1]


def _above(folder: Path) -> Path:
    """The folder that holds it, which "." does not name."""
    return Path(os.path.normpath(folder / ".."))


def _read(file: Path) -> tuple[str, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a file that is only looked at
            return read_names(file)
    except InputError:
        return ()  # it fits no cfg
