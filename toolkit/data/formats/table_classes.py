"""Names of classes beside a table: RetinaNet's classes.csv, OpenImages' descriptions, lists of names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.formats.survey import kind_of, survey
from toolkit.data.formats.table_header import fields_of
from toolkit.data.formats.text import Note, numbered_lines


@dataclass(frozen=True)
class ClassNames:
    """Class as a table has it -> its name; `listed` are the names of files that number them, in order."""

    names: dict[str, str]
    listed: tuple[str, ...] = ()

    def name_of(self, text: str) -> str:
        """The name of a class; the text itself where no file has another."""
        if re.fullmatch(r"\d+\.0+", text):
            text = text.partition(".")[0]  # pandas' whole numbers beside empty fields
        return self.names.get(text, text)

    def ordered(self, present: Iterable[str], note: Note) -> list[str]:
        """All classes: the listed ones, then the others that boxes have, sorted, numbers by their value."""
        others = sorted(set(present) - set(self.listed))
        if others and all(re.fullmatch(r"\d{1,9}", name) for name in others):
            others.sort(key=int)
            note("classes are numbers, and no classes.csv or classes.txt names them", others[0])
        return [*self.listed, *others]


def class_names(folder: Path, note: Note) -> ClassNames:
    """The names that files of a folder give: name,id or id,name; identifier,name; a name a line."""
    numbered: dict[int, str] = {}
    names: dict[str, str] = {}
    for file in survey(folder).ending(".csv", ".tsv", ".txt", ".names"):
        last = file.rsplit("/", 1)[-1].lower()
        if not re.search("class|label|categor|names", last) or (kind := kind_of(folder / file)) == "table":
            continue
        lines = [line for _, line in numbered_lines(folder / file, note)]
        if kind == "names" and last.endswith((".txt", ".names")):
            numbered = numbered or dict(enumerate(lines))
            continue
        for fields in map(fields_of, lines):
            if len(fields) != 2 or not all(fields):
                continue
            first, second = fields
            if second.isdecimal() and len(second) < 10:
                numbered[int(second)] = first
            elif first.isdecimal() and len(first) < 10:
                numbered[int(first)] = second
            elif first.startswith("/"):  # OpenImages' /m/01g317
                names[first] = second
    names |= {str(i): name for i, name in numbered.items()}
    return ClassNames(names, tuple(dict.fromkeys(numbered[i] for i in sorted(numbered))))
