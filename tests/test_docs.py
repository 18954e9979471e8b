"""The reference that make docs builds: every module has a place, and nothing in it warns."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "pages"


def test_every_module_stands_on_one_page():
    named = [
        m for page in sorted(PAGES.glob("*.md")) for m in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]
    assert len(named) == len(set(named))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "toolkit").rglob("*.py")
        if (path.parent / "__init__.py").exists()
    }
    packages = {name.removesuffix(".__init__") for name in modules if name.endswith(".__init__")}
    parts = ("toolkit.data.formats.", "toolkit.data.doctor.", "toolkit.data.curation.")  # told as one
    alone = {name for name in modules if not name.endswith("__init__") and not name.startswith(parts)}
    assert alone - set(named) == {"toolkit.cli"}
    assert set(named) <= alone | packages


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
    page = (tmp_path / "site" / "networks" / "index.html").read_text()
    assert "toolkit.models.spec.change" in page
