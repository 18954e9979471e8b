"""What `pip install -e .` leaves behind: the package is found from every folder."""

import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools.build_meta import build_editable; build_editable({!r})"
FIND = "import site; site.addsitedir({!r}); import toolkit; print(toolkit.__file__)"


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
