"""The notebooks at full size: how many seconds each takes, and a page of each with its pictures.

python -m tests.benchmarks.notebooks [NAME ...]      (about an hour; a NAME is a file's, such as 05_evaluate)

The pages lie below exports/notebooks. The picture of the cell with the tag "opening" becomes the one that the
notebook opens with, in docs/pages/img. Seconds are kept with the day on which they were measured. With
--book the notebooks are run in their small form, and kept in exports/book with their outputs.
"""

import base64
import json
import os
import re
import sys
import time
from argparse import ArgumentParser
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from tests.benchmarks.record import RESULTS, write
from toolkit.files import whole_file

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
PAGES = ROOT / "exports" / "notebooks"
BOOK = ROOT / "exports" / "book"
OPENINGS = ROOT / "docs" / "pages" / "img"


def execute(path: Path, work: Path, timeout: int | None = None) -> nbformat.NotebookNode:
    """Run by a clean kernel in `work`, which is laid out as the project -> the notebook with its outputs.

    `timeout`: seconds for one cell. Raises nbclient's CellExecutionError with what the cell said.
    """
    folder = work / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=place).execute()


def write_page(notebook: nbformat.NotebookNode, path: Path) -> None:
    """One HTML file with the pictures in it, in which what leads to another notebook leads to its page; or
    the notebook itself."""
    if path.suffix == ".ipynb":
        with whole_file(path) as file:
            nbformat.write(notebook, file)
        return
    html, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    with whole_file(path) as file:
        html = html.replace('.ipynb">', '.html">').replace('="../docs/', '="../../docs/')
        file.write_text(html, encoding="utf-8")


def write_opening(notebook: nbformat.NotebookNode, path: Path) -> None:
    """The first picture of the cell with the tag "opening", if there is one: an output, or within HTML."""
    for cell in notebook.cells:
        if "opening" in cell.metadata.get("tags", ()):
            outputs = [output.get("data", {}) for output in cell.outputs]
            pages = " ".join(data.get("text/html", "") for data in outputs)
            inside = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", pages)
            pictures = [data["image/png"] for data in outputs if "image/png" in data] + inside
            with whole_file(path) as file:
                file.write_bytes(base64.b64decode(pictures[0]))


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NOTEBOOKS)}; all")
    parser.add_argument("--book", action="store_true", help="small form, for docs/course.py")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NOTEBOOKS):
        parser.error(f"there is no notebook {', '.join(sorted(unknown))}: choose of {', '.join(NOTEBOOKS)}")
    os.environ["TOOLKIT_FAST"] = "1" if given.book else "0"
    seconds = {}
    for name in given.names or NOTEBOOKS:
        with TemporaryDirectory() as work:
            begin = time.perf_counter()
            notebook = execute(NOTEBOOKS[name], Path(work))
            seconds[name] = round(time.perf_counter() - begin, 1)
        page = BOOK / f"{name}.ipynb" if given.book else PAGES / f"{name}.html"
        write_page(notebook, page)
        if not given.book:
            write_opening(notebook, OPENINGS / f"{name}.png")
        print(f"{name}: {seconds[name]} s, {page}", file=sys.stderr)
    if not given.book:
        given.seed, given.result = 0, RESULTS / "notebooks.json"  # SEED as it stands in each of them
        kept = json.loads(given.result.read_text())
        days = kept["days"] | dict.fromkeys(seconds, date.today().isoformat())
        figures = {"seconds": kept["seconds"] | seconds, "days": days}
        write("notebooks", given, ["nbclient", "jupyterlab"], figures)


if __name__ == "__main__":
    main()
