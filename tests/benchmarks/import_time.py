"""`import toolkit` against `import torch`, each in a fresh interpreter, in turns.

Shows: at most 1.5 times as long, and none of the heavy packages loaded. Run on a quiet machine:
python -m tests.benchmarks.import_time
"""

import json
import subprocess
import sys
from functools import partial

from tests.benchmarks.record import options, ratio, spread, write
from toolkit.stopwatch import interleave

LIMIT = 1.5
# What DESIGN forbids, by the names under which they are imported.
FORBIDDEN = (
    "fiftyone supervision onnx onnxruntime onnxscript ncnn pnnx MNN optuna lightning ray "
    "jupyterlab jupyter_client ipykernel ipywidgets IPython nbclient"
).split()


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def main() -> None:
    given = options("import_time", __doc__.splitlines()[0], "rounds", 20)
    calls = {name: partial(python, f"import {name}") for name in ("toolkit", "torch")}
    times = interleave(calls, rounds=given.rounds, warmup=0, seed=given.seed)
    loaded = json.loads(python("import json, sys, toolkit; print(json.dumps(list(sys.modules)))"))
    figures = {
        "rounds": len(times["toolkit"]),
        "toolkit": spread(times["toolkit"]),
        "torch": spread(times["torch"]),
        "toolkit_to_torch": ratio(times["toolkit"], times["torch"]),
        "limit": LIMIT,
        "forbidden_loaded": [name for name in FORBIDDEN if name in loaded],
    }
    figures["passed"] = figures["toolkit_to_torch"]["median"] <= LIMIT and not figures["forbidden_loaded"]
    write("import_time", given, [], figures)


if __name__ == "__main__":
    main()
