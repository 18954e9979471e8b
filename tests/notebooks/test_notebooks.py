"""Every notebook runs from a clean kernel, shows pictures, and is committed in its source form."""

import ast
import json
import os
import re
from pathlib import Path

import matplotlib
import nbformat
import pytest

from tests.benchmarks.notebooks import NOTEBOOKS, ROOT, execute
from tests.benchmarks.record import RESULTS

names = pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)


def files() -> dict[str, int]:
    """What lies in the folders that a notebook could write into by mistake."""
    folders = ("notebooks", "exports", "datasets", "toolkit", "tests")
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(p): p.stat().st_mtime_ns for p in paths if "__pycache__" not in p.parts}


def outputs_of(path: Path, work: Path) -> list[dict]:
    """All outputs of a run in `work`; no file of the project was touched."""
    before = files()
    notebook = execute(path, work, timeout=600)
    assert files() == before
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """Fast mode and this copy of the package."""
    monkeypatch.setenv("TOOLKIT_FAST", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return monkeypatch


def pictures_in(outputs: list[dict]) -> int:
    """Those that are outputs of their own, and those within the HTML of results that show themselves."""
    data = [output.get("data", {}) for output in outputs]
    return sum(("image/png" in each) + "".join(each.get("text/html", "")).count("<img alt=") for each in data)


def assert_healthy(outputs: list[dict]) -> None:
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o["text"] for o in outputs if o.get("name") == "stderr" and "Warning" in o["text"]]
    assert pictures_in(outputs)


@names
def test_runs_and_shows_pictures(path, clean, tmp_path):
    outputs = outputs_of(path, tmp_path)
    assert_healthy(outputs)


def test_quickstart_without_any_weights(clean, tmp_path):
    """No TOOLKIT_ZOO, an empty cache, and nobody listens where the weights would come from."""
    clean.delenv("TOOLKIT_ZOO", raising=False)
    clean.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())
    clean.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clean.setenv("TOOLKIT_ZOO_HOST", "http://127.0.0.1:9")
    outputs = outputs_of(NOTEBOOKS["00_quickstart"], tmp_path)
    assert_healthy(outputs)
    markdown = " ".join(o["data"].get("text/markdown", "") for o in outputs if "data" in o)
    assert re.search(r"Random weights.*127\.0\.0\.1", markdown)
    tables = " ".join(o["data"].get("text/html", "") for o in outputs if "data" in o)
    assert "0 boxes with a score above 1" in tables
    assert pictures_in(outputs) >= 6
    exported = tmp_path / "exports" / "quickstart" / "fastest-v2"
    parity = json.loads((exported / "parity.json").read_text())
    assert set(parity) == {"onnx", "ncnn"}
    assert all(row["max_difference"] <= row["tolerance"] for row in parity.values())
    for words in ("209,864", "feature maps, MB", "time / time of torch", "ncnn", "opencv"):
        assert words in tables


def code(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@names
def test_source_form(path):
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) <= 15, cell.source
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    for word in ("Goal", "Inputs", "Outputs", "Expected time"):
        assert f"**{word}.**" in first.source


@names
def test_holds_no_logic(path):
    """Neither functions nor classes, one cell of settings in capitals with the seed, one way to choose a data
    set and one to close."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    settings = []
    for source in code(path):
        tree = ast.parse(source)
        assert not [node for node in ast.walk(tree) if isinstance(node, kinds)], source
        targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
        if any(isinstance(t, ast.Name) and t.id.isupper() for t in targets):
            settings.append({t.id for t in targets if isinstance(t, ast.Name)})
        assert "TOOLKIT_" not in source, "the environment is read in toolkit.runtime"
    assert len(settings) == 1
    assert "SEED" in settings[0]
    assert all(name.isupper() for name in settings[0])
    if "DATA" in settings[0]:
        assert sum("data = widgets.data_sets(DATA" in source for source in code(path)) == 1
    last = code(path)[-1]
    assert "environment()" in last
    assert "widgets.checked(checks, " in last


NUMBERS = {"half a": 0.5, "a": 1, "two": 2, "five": 5, "six": 6}


@names
def test_the_expected_time_is_not_shorter_than_what_was_measured(path):
    measured = json.loads((RESULTS / "notebooks.json").read_text())["seconds"][path.stem]
    first = nbformat.read(path, as_version=4).cells[0].source
    line = first.partition("**Expected time.**")[2].lower().strip()
    number = re.match(r"(?:about |under )?(half a|\w+) minutes?\b", line)[1]
    minutes = NUMBERS[number] if number in NUMBERS else float(number)
    assert 60 * minutes > measured / 1.2
