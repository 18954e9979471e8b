"""What the reference makes of docstrings and of the comments of fields."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)(>>> .*(?:\n *\S.*)*)", re.MULTILINE)  # up to an empty line


class Docstrings(griffe.Extension):
    """Examples are code, and a field of a class has its comment as text."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fences around examples, which Markdown takes for quotations."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"\1```pycon\n\1\2\n\1```", obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Every field of a class without a list of `Attributes` gets a docstring, empty where it has no
        comment: without one the reference would not list it."""
        if cls.docstring and "Attributes:" in cls.docstring.value:
            return
        for field in cls.attributes.values():
            if (
                field.annotation is None
                or field.docstring
                or field.name == "model_config"
                or not field.lineno
            ):
                continue
            field.docstring = griffe.Docstring(_comment(cls, field), parent=field)


def _comment(cls: griffe.Class, field: griffe.Attribute) -> str:
    lines = cls.lines_collection[field.filepath]
    beside = lines[field.endlineno - 1].partition("  # ")[2]
    if beside:
        return f"{beside[0].upper()}{beside[1:]}."
    first = field.lineno - 1
    while lines[first - 1].strip().startswith("# "):
        first -= 1
    above = " ".join(line.strip(" #") for line in lines[first : field.lineno - 1])
    return above and f"{above[0].upper()}{above[1:]}."
