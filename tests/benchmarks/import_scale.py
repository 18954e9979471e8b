"""Importing a large data set with two versions of the project, in turn and in one run.

    git worktree add ../before COMMIT
    python -m tests.benchmarks.import_scale ../before [--rounds N] [--pictures N] [--boxes M]    (ten minutes)

Every import runs in its own process, whose time and peak resident memory are reported. The sets are those of
`data_scale`, written once by this version.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.data_scale import step
from tests.benchmarks.record import RESULTS
from toolkit.files import whole_file
from toolkit.runtime import environment

FORMATS = ("coco", "yolo", "voc")
CODE = """
import json, sys
from pathlib import Path
from tests.benchmarks.data_scale import measured
print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]), 0, 0)))
"""


def imported(root: Path, folder: Path, name: str) -> dict[str, float]:
    """Boxes, seconds and peak megabytes of one import by the project in `root`."""
    shutil.rmtree(folder / f"from-{name}", ignore_errors=True)
    command = [sys.executable, "-c", CODE, f"import {name}", str(folder)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a checkout of the version to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--boxes", type=int, default=1_000_000)
    parser.add_argument("--result", type=Path, default=RESULTS / "import_scale.json")
    given = parser.parse_args()
    roots = {"before": given.before.resolve(), "after": Path(__file__).parents[2]}
    formats = {}
    with tempfile.TemporaryDirectory() as folder:
        step("make canonical", Path(folder), given.pictures, given.boxes)
        for name in FORMATS:
            step(f"write {name}", Path(folder), given.pictures, given.boxes)
            runs = {which: [] for which in roots}
            for _ in range(given.rounds):
                for which, root in roots.items():
                    runs[which].append(imported(root, Path(folder), name))
                    assert runs[which][-1]["boxes"] == given.boxes
            seconds = {which: [run["seconds"] for run in runs[which]] for which in roots}
            memory = {which: max(run["peak_mb"] for run in runs[which]) for which in roots}
            ratio = float(np.median(np.divide(seconds["after"], seconds["before"])))
            formats[name] = {"seconds": seconds, "peak_mb": memory, "ratio": round(ratio, 3)}
            print(name, formats[name], file=sys.stderr, flush=True)
            shutil.rmtree(Path(folder, name))
    result = {
        "command": f"python -m tests.benchmarks.import_scale BEFORE --rounds {given.rounds} "
        f"--pictures {given.pictures} --boxes {given.boxes}",
        "formats": formats,
        "environment": environment(),
    }
    with whole_file(given.result) as file:
        file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(formats))


if __name__ == "__main__":
    main()
