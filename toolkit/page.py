"""A report as one HTML file, with its pictures inside and links to the files of its figures."""

from __future__ import annotations

import base64
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from toolkit.files import whole_file

LONG = 40  # characters of a cell that may be wrapped
SCREEN = 96 / 160  # viz draws 160 dots per inch, a page has 96


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        title: caption.
        file: where the figures come from, relative to the folder of the page.
        columns: title -> cells; the first column is aligned to the left, the others to the right.
    """

    title: str
    file: str
    columns: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One part of a report. All files are relative to the folder of the page.

    Attributes:
        text: introduction.
        pictures: file -> caption.
        tables: in order; the first one's file is the source of the key figures.
        key: name -> figure, for the head of the page.
        files: file or folder -> what it is, for links at the end.
    """

    text: str
    pictures: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    key: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def read_section(data: Mapping[str, Any]) -> Section:
    """A Section from `dataclasses.asdict`, also after JSON.

    >>> from dataclasses import asdict
    >>> section = Section("Text", {"a.png": "A"}, (Table("T", "f.json", {"x": ["1"]}),))
    >>> read_section(asdict(section)) == section
    True
    """
    return Section(**{**data, "tables": tuple(Table(**table) for table in data["tables"])})


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --ink: #1b1f24; --soft: #5b6570; --line: #d9dee3; --page: #ffffff; --link: #0058a3; --warn: #a33c00 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --soft: #a0a9b2; --line: #3a424a; --page: #16191d; --link: #7cbcf5;
    --warn: #f0a070 }
}
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 70rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
a { color: var(--link) }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem }
h2 { font-size: 1.3rem; margin: 0 0 .5rem }
p, ul { max-width: 46rem }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1.4rem }
figure { margin: 1rem 1rem 1rem 0; display: inline-block; vertical-align: top; max-width: 100% }
nav ol { columns: 17rem; padding-left: 1.6rem; margin: .5rem 0 0; max-width: none }
img { max-width: 100%; height: auto; display: block; background: #fff; border-radius: 4px }
figcaption, caption, .soft { font-size: .875rem; color: var(--soft) }
figcaption, .soft, caption, dd, li { overflow-wrap: anywhere }
.table { overflow-x: auto; margin: 1rem 1rem 1rem 0; display: inline-block; vertical-align: top;
  max-width: 100% }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding-bottom: .3rem }
th, td { text-align: right; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
th { font-weight: 600; vertical-align: bottom }
td { white-space: nowrap }
td.long { white-space: normal; min-width: 14rem }
th:first-child, td:first-child { text-align: left }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .8rem 1rem;
  margin: 1.2rem 0 .6rem }
dt { font-size: .875rem; color: var(--soft) }
dd { margin: 0; font-size: 1.45rem; font-weight: 600; line-height: 1.25 }
dd a { text-decoration: none }
.skipped { color: var(--warn) }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0 } a { color: inherit }
  figure, tr { break-inside: avoid } h2 { break-after: avoid } .table { overflow: visible }
}
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$text</p>
$key
$lead
</header>
$contents
<main>
$sections
</main>
</body>
</html>
""")


def write_page(
    path: str | Path,
    title: str,
    text: str,
    sections: Mapping[str, Section | str],
    lead: Sequence[str] = (),
    contents: Mapping[str, str] | None = None,
) -> None:
    """Write a report: title, text, key figures, leading pictures, a list of contents, then every section
    under its title.

    Args:
        path: of the HTML file; pictures and links are relative to its folder.
        title: of the page.
        text: introduction.
        sections: title -> Section, or the reason (str) why it was skipped.
        lead: pictures of the sections that are moved to the head of the page.
        contents: title -> remark, for a list that links to the sections; it may name others that are missing.
    """
    path = Path(path)
    root = path.parent
    shown = {name: part for name, part in sections.items() if isinstance(part, Section)}
    captions = {file: caption for part in shown.values() for file, caption in part.pictures.items()}
    key = [
        f"<div><dt>{escape(name)}</dt><dd>{_link(part.tables[0].file, figure)}</dd></div>"
        for part in shown.values()
        for name, figure in part.key.items()
    ]
    body = [
        f'<section id="{_anchor(name)}">\n<h2>{escape(name)}</h2>\n'
        + (_section(root, part, lead) if isinstance(part, Section) else _skipped(part))
        + "\n</section>"
        for name, part in sections.items()
    ]
    page = _PAGE.substitute(
        title=escape(title),
        text=escape(text),
        lead="\n".join(_figure(root, file, captions[file]) for file in lead if file in captions),
        key=f"<dl>\n{chr(10).join(key)}\n</dl>" if key else "",
        contents=_contents(contents, sections) if contents else "",
        sections="\n".join(body),
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _contents(contents: Mapping[str, str], present: Container[str]) -> str:
    def line(name: str, remark: str) -> str:
        title = escape(name)
        link = f'<a href="#{_anchor(name)}">{title}</a>' if name in present else title
        return f'<li>{link} <span class="soft">{escape(remark)}</span></li>'

    lines = "\n".join(line(name, remark) for name, remark in contents.items())
    return f'<nav aria-label="Contents">\n<ol>\n{lines}\n</ol>\n</nav>'


def _section(root: Path, part: Section, lead: Sequence[str]) -> str:
    text = re.sub("`([^`]+)`", r"<code>\1</code>", escape(part.text))  # commands
    lines = [f"<p>{text}</p>"]
    lines += [_figure(root, file, caption) for file, caption in part.pictures.items() if file not in lead]
    lines += [_table(table) for table in part.tables]
    if part.files:
        links = "; ".join(f"{_link(file, file)}: {escape(label)}" for file, label in part.files.items())
        lines.append(f'<p class="soft">{links}</p>')
    return "\n".join(lines)


def _skipped(reason: str) -> str:
    return f'<p class="skipped">Skipped: {escape(reason)}.</p>'


def _figure(root: Path, file: str, caption: str) -> str:
    kind, data, width, height = _embedded(root / file)
    return (
        f'<figure style="width:{width}px"><img src="data:image/{kind};base64,{data}" alt="{escape(caption)}" '
        f'width="{width}" height="{height}"><figcaption>{escape(caption)}. {_link(file, file)}'
        "</figcaption></figure>"
    )


def _embedded(path: Path) -> tuple[str, str, int, int]:
    """Format, base64 and size on the page; as JPEG where that is smaller, as for photographs."""
    data = path.read_bytes()
    picture: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
    kind, data = min(("png", data), ("jpeg", coded.tobytes()), key=lambda choice: len(choice[1]))
    height, width = (round(side * SCREEN) for side in picture.shape[:2])
    return kind, base64.b64encode(data).decode(), width, height


def _table(table: Table) -> str:
    rows: Iterable[tuple[str, ...]] = zip(*table.columns.values(), strict=True)
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    caption = f"<caption>{escape(table.title)}. {_link(table.file, table.file)}</caption>"
    return (
        f'<div class="table" tabindex="0"><table>{caption}\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    kind = ' class="long"' if len(text) > LONG else ""
    return f"<td{kind}>{escape(text)}</td>"


def _link(file: str, text: str) -> str:
    return f'<a href="{quote(file)}">{escape(text)}</a>'


def _anchor(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
