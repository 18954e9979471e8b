"""What a training step costs beside busy processes, as libgomp waits by itself and as the toolkit has it
wait; and how long a small training is silent.

python -m tests.benchmarks.load        (ten minutes, a quiet machine)
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tests.benchmarks.record import options, write
from toolkit.machine import WAITING, WAITING_CHOICES

BATCH, SIDE, STEPS = 32, 320, 8
# A policy that is set stays: this is what libgomp does where nobody says anything.
ITSELF = {"GOMP_SPINCOUNT": "300000"}
STEP = f"""
import sys
from pathlib import Path
from toolkit.data.toy import make_toy
from toolkit.training.config import read_config
from toolkit.training.loop import train
from toolkit.training.recipe import recipe

folder, name, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
toy = make_toy(folder / name / "toy", count={BATCH * STEPS * 5 // 4}, size={SIDE})
config = read_config({{
    "data": "made", "model": "fastest-v2", "recipe": recipe("modern", batch={BATCH}, epochs=1),
    "device": "cpu", "memory_format": "channels_last", "precision": "fp32", "validations": 1,
    "size": ({SIDE}, {SIDE}), "threads": threads,
}})
result = train(config, folder / name / "run", dataset=toy)
print({BATCH} / result.pictures_per_second)
"""
FIRST_STEP = """
import sys, time
begin = time.monotonic()
from pathlib import Path
from toolkit.training.config import read_config
from toolkit.training.loop import Run, train
from toolkit.data.toy import make_toy

first = Run.step
def told(run):
    print(time.monotonic() - begin)
    raise SystemExit(0)
Run.step = told
folder = Path(sys.argv[1])
toy = make_toy(folder / "toy", count=5, size=160)
begin = time.monotonic()
config = read_config({"data": "made", "model": "fastest-v2", "recipe": {"epochs": 2}})
train(config, folder / "run", dataset=toy)
"""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """That many processes which want a core each."""
    spin = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spin) for _ in range(count)]
    try:
        time.sleep(1)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(code: str, waiting: Mapping[str, str], *arguments: str) -> float:
    """What a program prints last, run in a process whose OpenMP waits like that."""
    outer = {name: value for name, value in os.environ.items() if name not in WAITING_CHOICES}
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, env={**outer, **waiting}, capture_output=True, text=True, check=True)
    return float(run.stdout.splitlines()[-1])


def figures(rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds of a step, pictures and all, in turn, and how many times as long as alone."""
    os.environ["TOOLKIT_CACHE"] = str(folder / "cache")
    ways = {  # how it waits, threads; 0: chosen by the free cores
        "as libgomp waits, all cores": (ITSELF, os.cpu_count() or 1),
        "as the toolkit has it wait, all cores": (WAITING, os.cpu_count() or 1),
        "as the toolkit has it wait, threads by free cores": (WAITING, 0),
    }
    times: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for round_ in range(rounds):
        for count in (0, 1, 2):
            beside = f"beside {count} busy processes" if count else "alone"
            with busy(count):
                for i, (name, (waiting, threads)) in enumerate(ways.items()):
                    run = f"{round_}-{count}-{i}"
                    spent = seconds(STEP, waiting, str(folder), run, str(threads))
                    times[name].setdefault(beside, []).append(spent)
                    print(f"{name}, {beside}: {spent:.3f} s a step", file=sys.stderr)
    medians = {
        name: {beside: round(float(np.median(values)), 4) for beside, values in each.items()}
        for name, each in times.items()
    }
    before = medians["as libgomp waits, all cores"]["alone"]
    return {
        "seconds_a_step": medians,
        "by_the_same_alone": {
            name: {beside: round(value / each["alone"], 2) for beside, value in each.items()}
            for name, each in medians.items()
        },
        "alone_by_libgomp_alone": {name: round(each["alone"] / before, 3) for name, each in medians.items()},
    }


def silence(rounds: int, folder: Path) -> dict[str, float]:
    """Seconds from `train` to the first step: five pictures, two epochs, the settings left to the toolkit."""
    spent = [seconds(FIRST_STEP, WAITING, str(folder / str(i))) for i in range(rounds)]
    return {"median_s": round(float(np.median(spent)), 2), "longest_s": round(max(spent), 2)}


if __name__ == "__main__":
    given = options("load", __doc__ or "", "rounds", 3)
    with TemporaryDirectory() as temporary:
        step = figures(given.rounds, Path(temporary))
        before_first = silence(given.rounds, Path(temporary))
    write(
        "load",
        given,
        ["torch"],
        {f"fastest-v2, {SIDE} x {SIDE}, batch {BATCH}": step, "before the first step": before_first},
    )
