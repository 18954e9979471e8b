"""What surrounds YOLO's label files: names of classes, and which pictures are of which split.

Settings are darknet's `.data`, ultralytics' `data.yaml` under any name, or a bare file of names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.data.builder import Columns
from toolkit.data.class_names import shown
from toolkit.data.formats.common import path_parts
from toolkit.data.formats.survey import Survey, is_names_file, kind_of
from toolkit.data.formats.text import Note, numbered_lines, read_text
from toolkit.data.reach import current, is_inside, takes_neighbour
from toolkit.data.splitting import SPLIT_WORDS, split_of, split_order
from toolkit.runtime import InputError
from toolkit.text import parse_yaml, short


@dataclass(frozen=True)
class YoloSettings:
    """Names of classes and where the splits are."""

    names: list[str] | None  # None: no file has them
    source: str  # the file that has the names
    entries: list[tuple[str, str]]  # split, list file or folder, as written
    folder: Path  # that the entries are relative to
    base: str = ""  # data.yaml's `path`
    points: tuple[int, ...] = ()  # data.yaml's `kpt_shape`: label lines hold a box and key points


def yolo_settings(path: Path, files: Survey, columns: Columns) -> YoloSettings:
    """The settings of a file, or those that a folder has: its own, those deeper in it, one above it."""
    configs = [path] if path.is_file() else _configs(files)
    for config in configs:
        if config.suffix.lower() == ".data":
            return _darknet(config, files, columns)
        settings = _yaml(config, columns)
        if settings is not None and settings.names is None:
            names, source = _names_beside(files, columns.note)
            return replace(settings, names=names, source=source)
        if settings is not None:
            return settings
    names, source = _names_beside(files, columns.note)
    return YoloSettings(names, source, [], files.top)


def _configs(files: Survey) -> list[Path]:
    """`.data` and yaml files, the nearest to the top first; those above only where there are none."""
    inside = sorted(files.ending(".data", ".yaml", ".yml"), key=lambda name: (name.count("/"), name))
    inside.sort(key=lambda name: not name.endswith(".data"))
    beside = () if inside else sorted(files.top.resolve().parent.glob("*.y*ml"))
    above = [path for path in beside if takes_neighbour(path)]
    configs = [path for path in (*(files.top / n for n in inside), *above) if kind_of(path) == "settings"]
    nearest = [path for path in configs if len(path.parts) == len(configs[0].parts)]
    if len({path.parent for path in nearest}) > 1 and not above:
        raise InputError(
            f"{files.top} holds several data sets ({shown([str(path) for path in nearest], 3)}): import them "
            "one by one"
        )
    return configs


def _darknet(config: Path, files: Survey, columns: Columns) -> YoloSettings:
    settings: dict[str, str] = {}
    for number, line in numbered_lines(config, columns.note):
        key, equals, value = line.partition("=")
        if equals:
            settings.setdefault(key.strip().lower(), value.strip())
        elif not line.startswith("#"):
            raise InputError(f"{config}, line {number}: expected key = value, found {line!r}")
    others = {"classes", "names", "backup", "results", "eval"}
    entries = [(split_of(key), value) for key, value in settings.items() if key not in others and value]
    file = _names_file(settings.get("names", ""), files.top)
    if file is not None:
        return YoloSettings(_names_in(file, columns.note), str(file), _ordered(entries), files.top)
    names, source = _names_beside(files, columns.note)
    if "names" in settings and names is None:
        sentence = f"the names file {short(settings['names'])} of {config} is missing in {files.top}"
        if columns.faults == "refuse":
            raise InputError(sentence)
        columns.note(sentence)
    return YoloSettings(names, source, _ordered(entries), files.top)


def _yaml(config: Path, columns: Columns) -> YoloSettings | None:
    """None for YAML that is no description of a data set."""
    settings = parse_yaml(read_text(config, columns.note), config, plain=True)  # "on" is a name, not True
    if not isinstance(settings, dict) or not {"names", "train", "val", "nc"} & settings.keys():
        return None
    entries = []
    for key, value in settings.items():
        if str(key).lower() in SPLIT_WORDS and value:
            values = value if isinstance(value, list) else [value]
            entries += [(split_of(str(key).lower()), each) for each in values if isinstance(each, str)]
    names = _yaml_names(settings.get("names"), config, columns)
    shape = settings.get("kpt_shape")
    is_shape = isinstance(shape, list) and all(isinstance(n, str) and n.isdecimal() for n in shape)
    points = tuple(int(n) for n in shape or ()) if is_shape else ()
    base = settings.get("path")
    return YoloSettings(
        names, str(config), _ordered(entries), config.parent, base if isinstance(base, str) else "", points
    )


def _yaml_names(value: Any, config: Path, columns: Columns) -> list[str] | None:
    """A list, a mapping from numbers, or the name of a file."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not all(isinstance(name, str) for name in values):
        raise InputError(f"{config}: expected names of classes, found lists or mappings in their place")
    if isinstance(value, dict):
        try:
            numbered = {int(number): name for number, name in value.items()}
        except (TypeError, ValueError):
            raise InputError(f"{config}: expected names numbered from 0 on, found {_few(value)}") from None
        count = max(numbered, default=-1) + 1
        if min(numbered, default=0) < 0 or count > 100_000:
            raise InputError(f"{config}: expected names numbered from 0 on, found {_few(numbered)}")
        if count != len(numbered) and columns.faults == "refuse":
            raise InputError(f"{config}: expected names numbered from 0 on, found {_few(numbered)}")
        if count != len(numbered):
            columns.note("numbers without a name are classes called by their number", str(config))
        return [numbered.get(i, str(i)) for i in range(count)]
    if isinstance(value, list):
        return [name.strip() for name in value]
    if not isinstance(value, str):
        return None
    file = _names_file(value, config.parent)
    if file is None and re.search(r"[/\\]|\.(txt|names)$", value):
        sentence = f"the names file {short(value)} of {config} is missing in {config.parent}"
        if columns.faults == "refuse":
            raise InputError(sentence)
        columns.note(sentence)
        return None
    return _names_in(file, columns.note) if file else value.replace(",", " ").split() or None


def _names_file(entry: str, top: Path) -> Path | None:
    """The file of names that an entry means."""
    file = resolved(entry, "", top) if entry.strip() else None
    return file if file is not None and file.is_file() else None


def _few(names: Iterable[object]) -> str:
    return shown([*map(str, names)])


def _names_beside(files: Survey, note: Note) -> tuple[list[str] | None, str]:
    """Names from the file of names nearest to the top, and that file."""
    named = [name for name in files.labels if is_names_file(name)]
    read = {name: _names_in(files.top / name, note) for name in named}
    rest = sorted((name for name in read if read[name]), key=lambda name: (name.count("/"), name))
    if rest:
        first = rest[0]
        others = [name for name in rest if read[name] != read[first]]
        if others and others[0].count("/") == first.count("/"):
            raise InputError(
                f"{files.top / first} and {files.top / others[0]} name other classes, or in another order: "
                "import the folders one by one"
            )
        if others:
            note("a file of names deeper in the folder has other names and does not count", others[0])
        return read[first], str(files.top / first)
    above = files.top.resolve().parent / "classes.txt"
    if takes_neighbour(above):
        return _names_in(above, note), str(above)
    return None, ""


def _names_in(file: Path, note: Note) -> list[str]:
    """One class a line: a blank line would shift the numbers of those after it."""
    names = [line.strip() for line in read_text(file, note).rstrip().splitlines()]
    if "" in names:
        raise InputError(
            f"{file}, line {names.index('') + 1}: expected the name of a class, found a blank line"
        )
    return names


def resolved(entry: str, base: str, top: Path) -> Path | None:
    """The file or folder that an entry means: as written, or below `top` after as few leading folders as
    possible were dropped (settings travel between machines). What is outside the data set counts only where
    that is allowed, and is noted otherwise."""
    written = Path(base, entry.strip())
    place = top / written
    outside = ""
    if os.path.exists(place):  # not Path.exists, which raises for too long a name
        if is_inside(place):
            return Path(os.path.normpath(place))
        if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(top)):
            outside = str(place)  # else settings above the folder speak of another part of their set
    parts = [*path_parts(base), *path_parts(entry)]
    for first, part in enumerate(parts):
        place = top.joinpath(*parts[first:])
        if os.path.exists(place) and is_inside(place):
            return place
        if part.lower() in SPLIT_WORDS:
            break  # the pictures of another split are not these
    if outside:
        current().strays[outside] = "is named in the settings and is outside the data set"
    return None


def _ordered(entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
    order = split_order(split for split, _ in entries)
    return sorted(entries, key=lambda entry: order.index(entry[0]))
