"""Start of the command and of `import toolkit` against `import torch`, each in a fresh interpreter.

All are timed in turns, so that each ratio is one of paired times. Shows: every ratio within its limit, and
none of the heavy packages loaded. Run on a quiet machine: python -m tests.benchmarks.import_time
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from tests.benchmarks.record import options, ratio, spread, write
from toolkit.pictures import save_image
from toolkit.stopwatch import interleave

# What neither `import toolkit` nor the command's own start may load, by the names under which it is imported.
FORBIDDEN = (
    "torch numpy cv2 scipy skimage fiftyone supervision onnx onnxruntime onnxscript ncnn pnnx MNN optuna "
    "lightning ray jupyterlab jupyter_client ipykernel ipywidgets IPython nbclient"
).split()
COMMAND = ("-m", "toolkit.cli")
COMPLETION = {"_TOOLKIT_COMPLETE": "complete_bash", "COMP_WORDS": "toolkit data im", "COMP_CWORD": "2"}
# name -> (arguments of Python, variables of the environment)
STARTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "import toolkit": (("-c", "import toolkit"), {}),
    "toolkit --help": ((*COMMAND, "--help"), {}),
    "toolkit --version": ((*COMMAND, "--version"), {}),
    "completion script": ((*COMMAND, "--show-completion", "bash"), {}),
    "completion": (COMMAND, COMPLETION),
}
IMPORT = "toolkit data import"
LIMITS = {**dict.fromkeys(STARTS, 0.15), IMPORT: 0.6}  # times as long as `import torch`


def python(arguments: Sequence[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, *arguments]
    return subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, **variables})


def loaded(arguments: Sequence[str], variables: dict[str, str]) -> list[str]:
    """The packages of `FORBIDDEN` that a start of Python loads."""
    lines = python(("-X", "importtime", *arguments), variables).stderr.splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return [name for name in FORBIDDEN if name in modules]


def small_dataset(folder: Path) -> Path:
    """Four pictures with a box each, in YOLO's layout."""
    for i in range(4):
        save_image(folder / "images" / f"{i}.png", np.full((96, 128, 3), 60 * i, np.uint8))
        label = folder / "labels" / f"{i}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 .5 .5 .25 .25\n")
    (folder / "data.yaml").write_text("names: [thing]\ntrain: images\n")
    return folder


def main() -> None:
    given = options("import_time", __doc__.splitlines()[0], "rounds", 20)
    with tempfile.TemporaryDirectory() as work:
        source, numbers = small_dataset(Path(work) / "source"), count()

        def import_data() -> None:
            python((*COMMAND, "data", "import", str(source), f"{work}/{next(numbers)}"), {})

        calls = {name: partial(python, *start) for name, start in STARTS.items()}
        calls |= {IMPORT: import_data, "import torch": partial(python, ("-c", "import torch"), {})}
        times = interleave(calls, rounds=given.rounds, warmup=0, seed=given.seed)
    figures = {
        "rounds": given.rounds,
        "torch": spread(times["import torch"]),
        "starts": {
            name: {
                **spread(times[name]),
                "by torch": ratio(times[name], times["import torch"]),
                "limit": limit,
            }
            for name, limit in LIMITS.items()
        },
        "forbidden_loaded": sorted({name for start in STARTS.values() for name in loaded(*start)}),
    }
    passed = all(row["by torch"]["median"] <= row["limit"] for row in figures["starts"].values())
    figures["passed"] = passed and not figures["forbidden_loaded"]
    write("import_time", given, [], figures)


if __name__ == "__main__":
    main()
