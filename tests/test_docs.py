"""The book that make docs builds: every module is on one page, every page in the navigation, and the build
has no warnings."""

import base64
import os
import re
import subprocess
import sys
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import toolkit
from toolkit.ablation.plan import Budget, Plan, Search
from toolkit.moved import MOVED
from toolkit.training.config import Config
from toolkit.training.recipe import DetectionRecipe, Recipe

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "pages"
SETTINGS = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text())
# One entry documents all modules of these packages.
WHOLE = (
    "toolkit.data.formats",
    "toolkit.data.doctor",
    "toolkit.data.curation",
    "toolkit.training.losses",
    "toolkit.export.int8",
    "toolkit.export.litert",
    "toolkit.demo",
)
# Commands have help texts; the others hand on names of version 0.1.
WITHOUT_PAGE = (
    "toolkit.cli",
    "toolkit.moved",
    "toolkit.detect",
    "toolkit.timing",
    "toolkit.evaluation.detection",
)


@pytest.fixture(scope="module")
def course():
    """The hook that adds the notebooks."""
    spec = spec_from_file_location("course", ROOT / "docs" / "course.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_is_on_one_page():
    named = [
        m for page in sorted(PAGES.rglob("*.md")) for m in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]
    assert len(named) == len(set(named))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "toolkit").rglob("*.py")
        if (path.parent / "__init__.py").exists()
    }
    parts = tuple(f"{name}." for name in (*WHOLE, *WITHOUT_PAGE))
    alone = {name for name in modules if not name.endswith("__init__") and not name.startswith(parts)}
    assert set(named) == (alone - set(WITHOUT_PAGE)) | set(WHOLE) | {"toolkit"}


def test_every_page_is_in_the_navigation():
    def files(entry):
        if isinstance(entry, str):
            return [entry]
        return [
            file for part in (entry.values() if isinstance(entry, dict) else entry) for file in files(part)
        ]

    nav = files(SETTINGS["nav"])
    pages = [str(page.relative_to(PAGES)) for page in PAGES.rglob("*.md")]
    course = [f"course/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert sorted(nav) == sorted(pages + course)
    assert [page for page in nav if page in course] == sorted(course)


def test_the_book_names_the_version():
    assert SETTINGS["copyright"] == f"toolkit {toolkit.__version__}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book, and what mkdocs says."""
    folder = tmp_path_factory.mktemp("book") / "site"
    words = [
        "build",
        "--quiet",
        "--config-file",
        ROOT / "docs" / "mkdocs.yml",
        "--site-dir",
        folder,
    ]
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    return folder, build


def test_the_reference_builds_without_a_warning(site):
    folder, build = site
    assert (build.returncode, build.stderr) == (0, "")
    for page, name in (
        ("networks", "toolkit.models.spec.change"),
        ("data", "toolkit.data.formats.registry.read"),
        ("data", "toolkit.data.doctor.examine"),
        ("export", "toolkit.export.int8.quantize.quantize"),
        ("training", "toolkit.training.losses.darknet"),
    ):
        assert f'id="{name}"' in (folder / page / "index.html").read_text()


def test_examples_are_code(site):
    text = (site[0] / "networks" / "index.html").read_text()
    assert "<span class=\"go\">['landmark106']" in text
    assert [
        page for page in site[0].rglob("*.html") if "<blockquote>\n<blockquote>" in page.read_text()
    ] == []


def test_every_link_of_the_book_leads_somewhere(site):
    """Raw HTML and generated pages too, of which mkdocs does not look at the links."""
    texts = {page: page.read_text() for page in site[0].rglob("*.html") if page.name != "404.html"}
    ids = {page: set(re.findall(r'\bid="([^"]*)"', text)) for page, text in texts.items()}
    dead = []
    for page, text in texts.items():
        for link in set(
            re.findall(r"""\b(?:href|src)=["']([^"']*)["']""", re.sub(r"<pre.*?</pre>", "", text, flags=re.S))
        ):
            path, _, anchor = unescape(unquote(link)).partition("#")
            if re.match(r"[a-z]+:|//", path):
                continue
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and anchor not in ids.get(target, {anchor})):
                dead.append(f"{page.relative_to(site[0])}: {link}")
    assert len(texts) > 40
    assert dead == []


def test_every_picture_of_the_book_says_what_it_shows(site):
    pictures = [
        (page.parent.name, picture)
        for page in site[0].rglob("*.html")
        for picture in re.findall(r"<img [^>]*>", re.sub(r"data:[^\"']*", "", page.read_text()))
    ]
    assert pictures
    assert [each for each in pictures if not re.search(r"""alt=["'][^"']""", each[1])] == []


def test_fields_of_settings_are_in_the_reference(site):
    text = (site[0] / "ablation" / "index.html").read_text() + (
        site[0] / "training" / "index.html"
    ).read_text()
    for kind in (Plan, Budget, Search, Config, DetectionRecipe, Recipe):
        own = kind.__annotations__.keys() - {"task", "losses"}
        assert [name for name in own if f'id="{kind.__module__}.{kind.__name__}.{name}"' not in text] == []
    assert "AdamW's first beta." in text  # a comment beside a field


def test_a_notebook_becomes_a_page(course):
    data = {"image/png": base64.b64encode(b"png").decode(), "text/plain": "figure"}
    link = {"text/html": "<table>\n\n<tr><td><a href='../exports/a.html'>a</a></td></tr></table>"}
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Dropdown()"}
    outputs = [
        new_output("display_data", data, metadata={"image/png": {"alt": "Costs"}}),
        new_output("display_data", link),
        new_output("display_data", widget),
    ]
    cells = [new_markdown_cell("# Title\n\n[next](01_curate.ipynb)"), new_code_cell("1 + 1", outputs=outputs)]
    page = course.as_page(new_notebook(cells=cells), "name")
    (picture,) = page.keys() - {"name.md"}
    text = page["name.md"]
    assert page[picture] == b"png"
    assert f"![Costs]({picture})" in text
    assert text.startswith("# Title\n\n*Executed")
    for part in (
        "[next](01_curate.md)",
        "```python\n1 + 1\n```",
        "<table>\n<tr><td><code>a</code></td></tr></table>",
    ):
        assert part in text
    assert "Dropdown" not in text


def test_the_changelog_lists_every_name_that_moved():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", text, re.MULTILINE))
    moved = {f"{module}.{name}": new for module, names in MOVED.items() for name, new in names.items()}
    assert {old: rows.get(old) for old in moved} == moved
    assert f"## [{toolkit.__version__}]" in text


def test_the_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == toolkit.__version__


def test_every_form_for_an_issue_asks_for_the_machine():
    forms = {
        path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir()
    }
    asked = {name: str(form.get("body")) for name, form in forms.items() if name != "config.yml"}
    assert set(asked) == {"bug.yml", "labels.yml", "export.yml"}
    assert [name for name, body in asked.items() if "toolkit doctor --json" not in body] == []
