"""What notebooks show besides figures: choices with a default, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from toolkit.runtime import InputError, require

if TYPE_CHECKING:
    from IPython.display import HTML
    from ipywidgets import Dropdown


def dropdown(title: str, options: Sequence[str], default: str) -> Dropdown:
    """A choice whose `.value` is `default` until somebody moves it: a run without hands is a real run.

    Raises InputError where the default is none of the options.
    """
    if default not in options:
        raise InputError(f"{title} must be one of {', '.join(options)}, not {default!r}")
    widgets = require("ipywidgets", "notebooks")
    return widgets.Dropdown(options=list(options), value=default, description=title)


def table(columns: Mapping[str, Iterable[Any]], strong: str = "") -> HTML:
    """Columns {title: cells} of text and numbers; the first stands to the left, the others to the right.

    The row whose first cell is `strong` stands out. Raises InputError where the columns differ in length.
    """
    display = require("IPython.display", "notebooks")
    cells = [list(column) for column in columns.values()]
    if len({len(column) for column in cells}) > 1:
        lengths = ", ".join(f"{title} {len(c)}" for title, c in zip(columns, cells, strict=True))
        raise InputError(f"the columns of a table have one length, found {lengths}")
    rows = [("th", tuple(columns)), *(("td", row) for row in zip(*cells, strict=True))]
    lines = []
    for tag, row in rows:
        weight = "bold" if tag == "th" or (strong and row[0] == strong) else "normal"
        style = f"font-weight: {weight}; text-align: "
        lines.append(
            "".join(
                f'<{tag} style="{style}{"right" if i else "left"}">{escape(str(cell))}</{tag}>'
                for i, cell in enumerate(row)
            )
        )
    return display.HTML(f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>")
