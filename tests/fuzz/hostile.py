"""Hostile inputs, each opened by the command: what it says, how long it takes, what it leaves.

`python -m tests.fuzz.hostile [--only KIND] [--name PART] [--real 20]` tries them all and writes
tests/benchmarks/results/hostile.json.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.fuzz import cases_data, cases_networks, cases_pictures, cases_settings  # noqa: F401 (fill CASES)
from tests.fuzz.places import CASES, SECRET, Case, Place, make_base, make_outside
from tests.fuzz.watched import CONTEXT, LONGEST_SENTENCE

SECONDS = 30.0
MEMORY_MB = 1500.0
GOOD = (0, 1, 2, 3)  # exit codes


@dataclass(frozen=True)
class Trial:
    """How a case went.

    Attributes:
        exit: the exit code; negative for a signal.
        traceback: whether there was one.
        hang: whether it took too long, and was ended.
        megabytes: largest memory of the process and those that it started.
        outside: where bytes from outside were found.
        executed: whether code of the input ran.
        left: what a refused input (exit code 2) leaves behind.
        said: the last line of stderr.
    """

    name: str
    kind: str
    exit: int
    traceback: bool
    hang: bool
    seconds: float
    megabytes: float
    outside: list[str]
    executed: bool
    left: list[str]
    said: str

    @property
    def faults(self) -> list[str]:
        """What is wrong; empty where it went as it should."""
        return [name for name, found in FAULTS.items() if found(self)]


FAULTS: dict[str, Callable[[Trial], bool]] = {
    "traceback": lambda trial: trial.traceback,
    "hang": lambda trial: trial.hang,
    "memory": lambda trial: trial.megabytes > MEMORY_MB,
    "outside bytes": lambda trial: bool(trial.outside),
    "code run": lambda trial: trial.executed,
    "crash": lambda trial: not trial.hang and trial.megabytes <= MEMORY_MB and trial.exit not in GOOD,
    "left behind": lambda trial: bool(trial.left),
    "no sentence": lambda trial: trial.exit == 2 and not trial.said.strip(),
    "long sentence": lambda trial: len(trial.said) > LONGEST_SENTENCE,
}


def run_command(words: Sequence[str], folder: Path, environment: dict[str, str], plain_user: bool) -> None:
    """The command, in this process, with its output in files."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder.parent / name, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
    if plain_user:
        without_override()
    sys.argv = ["toolkit", *words]
    from toolkit.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def without_override() -> None:
    """Give up root's right to open what its mode forbids."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    overriding = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for i in (0, 1):  # effective, permitted
        data[i] &= ~overriding
    libc.capset(header, data)


class _Started:
    """A command in a forked child, or in a process of its own."""

    def __init__(self, case: Case, place: Place, environment: dict[str, str], real: bool):
        words, top = case.words(place), place.folder.parent
        if real:
            with (top / "stdout").open("wb") as out, (top / "stderr").open("wb") as err:
                self.process: Any = subprocess.Popen(
                    [sys.executable, "-m", "toolkit.cli", *words],
                    cwd=place.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    env={**os.environ, **environment},
                )
        else:
            given = (words, place.folder, environment, case.plain_user)
            self.process = CONTEXT.Process(target=run_command, args=given)
            self.process.start()
        self.pid = self.process.pid

    def ended(self) -> int | None:
        """The exit code, None while it runs."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        self.process.join(0.02)
        return self.process.exitcode

    def kill(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.wait() if isinstance(self.process, subprocess.Popen) else self.process.join()


def _tree_mb(pid: int) -> float:
    """The largest memory of a process until now, and of those that it started."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        started = [
            child
            for task in Path(f"/proc/{pid}/task").glob("*/children")
            for child in task.read_text().split()
        ]
    except OSError:  # it has ended
        return 0.0
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
    return kilobytes * 1024 / 1e6 + sum(_tree_mb(int(child)) for child in started)


def try_case(case: Case, top: Path, base: Path, real: bool = False) -> Trial:
    """Build a case below `top`, run its command, and look at what it did."""
    place = Place(top / "in", top / "outside", base)
    top.mkdir(parents=True)
    make_outside(place.outside)
    for folder in (place.folder, top / "tmp"):
        folder.mkdir()
    place.put("a.jpg", (base / "a.jpg").read_bytes())
    case.build(place)
    before = {path: _stamp(path) for path in _files(place.folder)}
    environment = {"TMPDIR": str(top / "tmp"), "MARKER": str(top / "marker"), **case.environment}
    patience = min(SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), 2 * SECONDS)
    begin, peak, hang = time.monotonic(), 0.0, False
    started = _Started(case, place, environment, case.real or (real and not case.plain_user))
    while (code := started.ended()) is None:
        peak = max(peak, _tree_mb(started.pid))
        if time.monotonic() - begin > patience or peak > 3 * MEMORY_MB:
            hang = peak <= 3 * MEMORY_MB
            started.kill()
            code = -signal.SIGKILL
            break
        time.sleep(0.03)
    seconds = time.monotonic() - begin
    os.chmod(place.folder, 0o755)
    stdout, stderr = (
        (top / name).read_bytes() if (top / name).exists() else b"" for name in ("stdout", "stderr")
    )
    new = [path for path in _files(place.folder) if before.get(path) != _stamp(path)]
    new += _files(top / "tmp")
    lines = stderr.decode(errors="replace").strip().splitlines()
    said = next((line for line in lines if line.startswith("error")), lines[-1] if lines else "")
    shown = [name for name, data in (("stdout", stdout), ("stderr", stderr)) if SECRET.encode() in data]
    return Trial(
        case.name,
        case.kind,
        code,
        b"Traceback (most recent call last)" in stderr,
        hang,
        round(seconds, 2),
        round(peak, 1),
        shown + [str(path.relative_to(top)) for path in new if _holds_secret(path)],
        (top / "marker").exists(),
        [str(path.relative_to(top)) for path in new if code == 2 and not _expected(path)],
        said,
    )


def tried(case: Case, folder: Path, base: Path, real: bool = False) -> Trial:
    """`try_case` in a fork, which has more loaded than it needs and lacks threads that libraries began. Where
    that may be why it crashes, hangs or is too large, it is tried in a process of its own."""
    trial = try_case(case, folder / "first", base, real)
    if {"crash", "hang", "memory"} & set(trial.faults) and not (real or case.real or case.plain_user):
        return try_case(case, folder / "again", base, True)
    return trial


def _stamp(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns


def _files(folder: Path) -> Iterable[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _expected(path: Path) -> bool:
    """Files that stay: locks, and what engines leave in a temporary folder."""
    return path.name.endswith(".lock") or ("/tmp/" in str(path) and not path.is_file())


def _holds_secret(path: Path) -> bool:
    return (
        not path.is_symlink()
        and path.is_file()
        and path.stat().st_size < 1 << 28
        and SECRET.encode() in path.read_bytes()
    )


def chosen(only: str = "", name: str = "") -> list[Case]:
    return [case for case in CASES if only in ("", case.kind) and name in case.name]


def try_all(cases: Sequence[Case], real: int = 0, keep: Path | None = None) -> list[Trial]:
    """Try cases one after another; every n-th of `real` in a process of its own."""
    trials = []
    with TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as folder:
        base = Path(folder, "base")
        make_base(base)
        step = max(1, len(cases) // real) if real else len(cases) + 1
        for i, case in enumerate(cases):
            top = Path(folder, f"{i}")
            trial = tried(case, top, base, i % step == step - 1)
            trials.append(trial)
            faults = ", ".join(trial.faults) or "ok"
            print(
                f"{i + 1}/{len(cases)} {_line(trial)}: {faults}: {trial.said[:150]}",
                file=sys.stderr,
                flush=True,
            )
            if trial.faults and keep is not None:
                _keep(case, trial, top, keep)
            for path in (top, *(Path(parent) for parent, _, _ in os.walk(top))):
                path.chmod(0o755)
            shutil.rmtree(top, ignore_errors=True)
    return trials


def _line(trial: Trial) -> str:
    return f"{trial.kind}: {trial.name}: exit {trial.exit}, {trial.seconds} s, {trial.megabytes:.0f} MB"


def _keep(case: Case, trial: Trial, top: Path, keep: Path) -> None:
    """The end of what a failing command said, in one file."""
    last = sorted(top.glob("*/stderr"), key=lambda path: path.stat().st_mtime_ns)[-1]
    text = last.read_text(errors="replace")
    with keep.open("a") as file:
        places = f"outside {trial.outside[:3]}, left {trial.left[:4]}"
        file.write(f"\n- [{', '.join(trial.faults)}] {_line(trial)}, {places}\n  `toolkit {case.command}`\n")
        file.write(f"```\n{text.strip()[-1200:]}\n```\n")


def counts(trials: Sequence[Trial]) -> dict[str, int]:
    """How many went which way."""
    exits = Counter(trial.exit for trial in trials if not trial.faults)
    faults = Counter(fault for trial in trials for fault in trial.faults)
    return {
        "inputs": len(trials),
        **{f"exit {code}": exits[code] for code in GOOD},
        **{name: faults[name] for name in FAULTS},
    }


def main() -> None:
    from tests.benchmarks.record import RESULTS, write

    parser = ArgumentParser(prog="python -m tests.fuzz.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="a kind")
    parser.add_argument("--name", default="", help="part of a name")
    parser.add_argument("--real", type=int, default=20, help="how many run in processes of their own")
    parser.add_argument("--keep", type=Path, help="file for what failing commands said")
    parser.add_argument("--result", type=Path, default=RESULTS / "hostile.json")
    given = parser.parse_args()
    given.seed = 0
    trials = try_all(chosen(given.only, given.name), given.real, given.keep)
    kinds = {
        kind: counts([t for t in trials if t.kind == kind]) for kind in dict.fromkeys(t.kind for t in trials)
    }
    rows = {**kinds, "all": counts(trials)}
    columns = list(rows["all"])
    print(" ".join([f"{'kind':22}", *(f"{re.sub('[^a-z0-9 ]', '', name):>9.9}" for name in columns)]))
    for kind, row in rows.items():
        print(" ".join([f"{kind:22}", *(f"{row[name]:9}" for name in columns)]))
    for trial in trials:
        if trial.faults:
            print(f"{trial.kind}: {trial.name}: {', '.join(trial.faults)}")
    if not given.only and not given.name:
        slowest, largest = max(t.seconds for t in trials), max(t.megabytes for t in trials)
        failing = [{**asdict(t), "said": t.said[:300], "faults": t.faults} for t in trials if t.faults]
        figures = {"counts": rows, "slowest_s": slowest, "largest_mb": largest, "failing": failing}
        write("hostile", given, [], figures, "tests.fuzz")


if __name__ == "__main__":
    main()
