"""The notebooks as pages of the book: with their outputs where `make docs` has executed them into
exports/book, otherwise as they are committed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
TEMPLATE = """{% extends 'markdown/index.md.j2' %}
{% block data_png %}
{% set words = output | get_metadata('alt', 'image/png') or 'Figure' %}
![{{ words }}]({{ output.metadata.filenames['image/png'] | path2url }})
{% endblock data_png %}"""

EXECUTED = (
    "*Executed in its small form (TOOLKIT_FAST=1), without what needs a click. Its file: notebooks/{}.*"
)
SOURCE = "*As it is committed: `make docs` adds the outputs. Its file: notebooks/{}.*"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds course/NAME.md and its pictures."""
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        executed = ROOT / "exports" / "book" / source.name
        notebook = nbformat.read(executed if executed.exists() else source, as_version=4)
        for file, content in as_page(notebook, source.stem).items():
            files.append(File.generated(config, f"course/{file}", content=content))
    return files


def as_page(notebook: nbformat.NotebookNode, name: str) -> dict[str, str | bytes]:
    """NAME.md and the pictures of its outputs."""
    for cell in notebook.cells:
        cell["outputs"] = [_for_a_page(output) for output in cell.get("outputs", ()) if not _moves(output)]
    notebook.metadata.setdefault("language_info", {"name": "python"})
    names = {"unique_key": name, "output_files_dir": name}
    text, made = MarkdownExporter(raw_template=TEMPLATE).from_notebook_node(notebook, names)
    note = (EXECUTED if any(cell["outputs"] for cell in notebook.cells) else SOURCE).format(f"{name}.ipynb")
    title, _, rest = (
        text.replace(".ipynb)", ".md)").replace("](../docs/pages/", "](../").lstrip().partition("\n")
    )
    return {f"{name}.md": f"{title}\n\n{note}\n{rest}", **made["outputs"]}


def _moves(output: nbformat.NotebookNode) -> bool:
    """A widget, which needs a kernel."""
    return any("widget" in kind for kind in output.get("data", {}))


def _for_a_page(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without blank lines, at which Markdown ends HTML, and without links to files that the run has made."""
    html = output.get("data", {}).get("text/html")
    if html:
        html = re.sub(r"\n\s*\n", "\n", html)
        output["data"]["text/html"] = re.sub(r"<a href='[^':]*'[^>]*>(.*?)</a>", r"<code>\1</code>", html)
    return output
