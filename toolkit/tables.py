"""Results that show themselves: a table in a shell, HTML with a picture in a notebook, a pandas frame."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from toolkit.runtime import InputError, require
from toolkit.text import in_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

MOST_ROWS = 60  # of a table that shows itself


class Shown(ABC):
    """What a result needs to show itself. A class gives `columns`, and where they say more, `caption`,
    `strong` and `figure`; with `picture_alone` a notebook shows the figure without the table."""

    picture_alone: ClassVar[bool] = False

    @abstractmethod
    def columns(self) -> Mapping[str, Iterable[object]]:
        """Title -> cells; all columns are equally long."""

    def caption(self) -> str:
        """A sentence above the table; "" for none."""
        return ""

    def strong(self) -> str:
        """The first cell of the row that matters most; "" for none."""
        return ""

    def figure(self) -> Figure | None:
        """A picture that says more than the table; None where there is none."""
        return None

    def table(self) -> DataFrame:
        """The columns as a pandas frame. InputError where pandas is not installed."""
        pandas = require("pandas", "notebooks")
        frame: DataFrame = pandas.DataFrame({title: list(cells) for title, cells in self.columns().items()})
        return frame

    def markdown(self) -> str:
        """The table as Markdown, the row that matters most in bold."""
        return markdown_table(self.columns(), self.strong())

    def latex(self) -> str:
        """The table as LaTeX for the package booktabs, the row that matters most in bold."""
        return latex_table(self.columns(), self.strong())

    def __str__(self) -> str:
        caption = self.caption()
        return (f"{caption}\n" if caption else "") + text_table(self.columns())

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._repr_pretty_ = Shown._repr_pretty_  # type: ignore[method-assign]  # else a dataclass' repr comes first

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython's text, which would be every field of every row."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        caption, figure = self.caption(), self.figure()
        parts = [f"<p>{escape(caption)}</p>"] if caption else []
        if figure is not None:
            parts.append(embedded(figure, caption or type(self).__name__))
        if figure is None or not self.picture_alone:
            parts.append(html_table(self.columns(), self.strong()))
        return "".join(parts)


def _cells(columns: Mapping[str, Iterable[object]]) -> list[list[str]]:
    cells = [[str(cell) for cell in column] for column in columns.values()]
    if len({len(column) for column in cells}) > 1:
        lengths = ", ".join(f"{title} {len(c)}" for title, c in zip(columns, cells, strict=True))
        raise InputError(f"the columns of a table must have one length, found {lengths}")
    return cells


def _is_number(column: Iterable[str]) -> bool:
    return all(cell[:1] in "+-.0123456789" for cell in column)


def text_table(columns: Mapping[str, Iterable[object]]) -> str:
    """A table of plain text: numbers to the right, text and the first column to the left.

    >>> print(text_table({"network": ["a", "bc"], "kB": [3, 12]}))
    network  kB
    a         3
    bc       12
    """
    cells = _cells(columns)
    parts = []
    for i, (title, column) in enumerate(zip(columns, cells, strict=True)):
        width = max(map(len, [title, *column]))
        right = i > 0 and _is_number(column)
        parts.append([each.rjust(width) if right else each.ljust(width) for each in (title, *column)])
    lines = ["  ".join(row).rstrip() for row in zip(*parts, strict=True)]
    left = len(lines) - 1 - MOST_ROWS
    return "\n".join(lines[: MOST_ROWS + 1] + ([f"... and {left} more"] if left > 0 else []))


def html_table(columns: Mapping[str, Iterable[object]], strong: str = "") -> str:
    """An HTML table.

    Args:
        columns: title -> cells. Numbers are aligned to the right, text and the first column to the left.
        strong: first cell of the row that is printed bold.

    Raises:
        InputError: the columns differ in length.

    >>> html_table({"network": ["a"], "kB": [3]}).count("<tr>")
    2
    """
    cells = _cells(columns)
    numbers = [i > 0 and _is_number(column) for i, column in enumerate(cells)]
    rows = [("th", tuple(columns)), *(("td", row) for row in zip(*cells, strict=True))]
    lines = []
    for tag, row in rows:
        # ipywidgets' HTML, unlike an output, has no space between columns
        weight = "bold" if tag == "th" or (strong and row[0] == strong) else "normal"
        style = f"font-weight: {weight}; padding-right: 1.5em; text-align: "
        lines.append(
            "".join(
                f'<{tag} style="{style}{"right" if number else "left"}">{escape(cell)}</{tag}>'
                for cell, number in zip(row, numbers, strict=True)
            )
        )
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def markdown_table(columns: Mapping[str, Iterable[object]], strong: str = "") -> str:
    """A table of Markdown; `strong` as of `html_table`.

    >>> print(markdown_table({"network": ["a"], "kB": [3]}, "a"), end="")
    | network | kB |
    |---|---|
    | **a** | **3** |
    """
    lines = [list(map(in_markdown, columns))]
    for row in zip(*_cells(columns), strict=True):
        words = [in_markdown(cell) for cell in row]
        bold = bool(strong) and row[0] == strong
        lines.append([f"**{word}**" if bold and word else word for word in words])
    head, *body = (f"| {' | '.join(line)} |\n" for line in lines)
    return head + "|" + "---|" * len(columns) + "\n" + "".join(body)


_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "\u00b1": r"$\pm$", "\u00d7": r"$\times$",
}  # fmt: skip


def latex_table(columns: Mapping[str, Iterable[object]], strong: str = "") -> str:
    r"""A table of LaTeX for the package booktabs; alignment and `strong` as of `html_table`.

    >>> print(latex_table({"network": ["a_b"], "kB": [3]}, "a_b"))
    \begin{tabular}{lr}
    \toprule
    network & kB \\
    \midrule
    \textbf{a\_b} & \textbf{3} \\
    \bottomrule
    \end{tabular}
    """
    cells = _cells(columns)
    align = "".join("r" if i and _is_number(column) else "l" for i, column in enumerate(cells))
    lines: list[str] = []
    for row in (tuple(columns), *zip(*cells, strict=True)):
        words = ["".join(_LATEX.get(c, c) for c in cell) for cell in row]
        if lines and strong and row[0] == strong:
            words = [rf"\textbf{{{word}}}" if word else "" for word in words]
        lines.append(" & ".join(words) + r" \\")
    head, *body = lines
    rules = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*rules, r"\bottomrule", r"\end{tabular}"])


def embedded(figure: Figure, alternative: str) -> str:
    """An HTML image of a figure, with its alternative text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img alt="{escape(alternative)}" src="data:image/png;base64,{data}"></p>'
