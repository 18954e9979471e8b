"""The book that make docs builds: every module is on one page, every page in the navigation, and the build
has no warnings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

import toolkit
from toolkit.moved import MOVED

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "pages"
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

    nav = files(yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text())["nav"])
    assert sorted(nav) == sorted(str(page.relative_to(PAGES)) for page in PAGES.rglob("*.md"))


def test_the_reference_builds_without_a_warning(tmp_path):
    words = [
        "build",
        "--quiet",
        "--config-file",
        ROOT / "docs" / "mkdocs.yml",
        "--site-dir",
        tmp_path / "site",
    ]
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert (build.returncode, build.stderr) == (0, "")
    for page, name in (
        ("networks", "toolkit.models.spec.change"),
        ("data", "toolkit.data.formats.registry.read"),
        ("data", "toolkit.data.doctor.examine"),
        ("export", "toolkit.export.int8.quantize.quantize"),
        ("training", "toolkit.training.losses.darknet"),
    ):
        assert f'id="{name}"' in (tmp_path / "site" / page / "index.html").read_text()


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
