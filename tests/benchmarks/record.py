"""How a benchmark keeps its figures: one small JSON file with the command, the seed and the machine."""

import json
import os
import re
import resource
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.files import whole_file
from toolkit.runtime import environment
from toolkit.stopwatch import paired_ratio

RESULTS = Path(__file__).parent / "results"


def options(module: str, about: str, length: str, default: int, **sizes: int) -> Namespace:
    """`length` ("rounds" or "seconds", per comparison), `sizes` with their defaults, --seed, --result."""
    parser = ArgumentParser(prog=f"python -m tests.benchmarks.{module}", description=about)
    parser.add_argument(f"--{length}", type=int, default=default, help="of measuring, per comparison")
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / f"{module}.json")
    return parser.parse_args()


def run_part(
    module: str, about: str, parts: Mapping[str, Callable[[Path], dict[str, Any]]], packages: list[str]
) -> None:
    """A part of a module's figures, chosen by name, whose long runs lie in --work and are gone on with."""
    parser = ArgumentParser(prog=f"python -m tests.benchmarks.{module}", description=about)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--work", type=Path, default=Path("exports/figures"), help="runs, to go on with")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.result = RESULTS / f"{module}-{given.part}.json"
    given.work.mkdir(parents=True, exist_ok=True)
    write(module, given, packages, parts[given.part](given.work))


def spread(times: np.ndarray) -> dict[str, float]:
    """Median and quartiles of milliseconds (rounds,)."""
    low, middle, high = np.percentile(times, [25, 50, 75])
    return {"median_ms": round(middle, 3), "low_ms": round(low, 3), "high_ms": round(high, 3)}


def ratio(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """The paired ratio and its 95 % interval."""
    found = paired_ratio(first, second)
    return {"median": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def alone(call: Callable[..., Any], *given: Any) -> Any:
    """What `call` returns in a new process, which may start others."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *given).result()


def peak_mb() -> float:
    """Peak resident memory of this process, without those that it started, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage begins with the peak of the process that started this one
        kilobytes = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
        return round(kilobytes * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)  # macOS counts bytes


def write(
    module: str,
    given: Namespace,
    packages: list[str],
    figures: dict[str, Any],
    package: str = "tests.benchmarks",
) -> None:
    """Write the result file whole, and show it. `package` is that of the module."""
    command = " ".join(["python -m", f"{package}.{module}", *sys.argv[1:]])
    stamp = {**environment(), **{name: version(name) for name in packages}}
    result = {
        "command": command,
        "seed": given.seed,
        "environment": stamp,
        "load_average": [round(v, 2) for v in os.getloadavg()],
        **figures,
    }
    with whole_file(given.result) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    print(f"wrote {given.result}", file=sys.stderr)
