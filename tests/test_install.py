"""Setting up: `pip install -e .` leaves a package that every folder finds; make says what it does."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools.build_meta import build_editable; build_editable({!r})"
FIND = "import site; site.addsitedir({!r}); import toolkit; print(toolkit.__file__)"


@pytest.fixture
def make(tmp_path):
    """make(targets...) -> what it prints, in an environment of programs that print their arguments."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "ready").touch()
    for name in ("toolkit", "jupyter"):
        program = tmp_path / "bin" / name
        program.write_text('#!/bin/sh\necho "runs $(basename "$0") $*"\n')
        program.chmod(0o755)

    def make(*targets: str) -> list[str]:
        words = ["make", "--silent", "--no-print-directory", f"VENV={tmp_path}", *targets]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()

    return make


def test_make_says_what_it_does_and_how_long_before_it_begins(make):
    said, run = make("demo")
    assert said.startswith("make demo ")
    assert " minutes" in said
    assert run == "runs toolkit demo"
    listed = [line.split()[1] for line in make("help") if line.startswith("make ")]
    assert {"demo", "test", "lab", "docs", "check"} <= set(listed)


def test_lab_opens_the_first_notebook(make):
    _, run = make("lab")
    files = [
        re.search(r"/lab/tree/(\S+?ipynb)", text)[1] for text in (run, (ROOT / "Dockerfile").read_text())
    ]
    assert files == ["notebooks/00_quickstart.ipynb"] * 2
    assert (ROOT / files[0]).is_file()
    assert ("--allow-root" in run) == (os.getuid() == 0)


def test_the_folder_above_a_clone_does_not_hide_the_package(tmp_path):
    clone, wheels, site = tmp_path / "toolkit", tmp_path / "wheels", tmp_path / "site"
    copytree(ROOT / "toolkit", clone / "toolkit", ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, clone)
    wheels.mkdir()
    subprocess.run(
        [sys.executable, "-c", BUILD.format(str(wheels))], cwd=clone, check=True, capture_output=True
    )
    (wheel,) = wheels.iterdir()
    zipfile.ZipFile(wheel).extractall(site)
    (clone / "toolkit" / "__init__.py").write_text("")  # its imports are not in this interpreter
    # -S: without the packages of this environment, in which the project may be installed
    alone = [sys.executable, "-S", "-c", FIND.format(str(site))]
    run = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True, env={})
    assert run.stdout.strip() == str(clone / "toolkit" / "__init__.py"), run.stderr
