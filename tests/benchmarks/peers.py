"""Other trainers' loops against their own bare steps, each in an environment of its own (make bench-peers).

python -m tests.benchmarks.peers --python .venv-peers/bin/python        (five minutes)
"""

import json
import os
import subprocess
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from tests.benchmarks.record import RESULTS, write
from tests.benchmarks.training_step import BATCH, SIDE, STEPS
from toolkit.data.dataset import Dataset
from toolkit.data.formats import registry
from toolkit.data.toy import make_toy

PEER = Path(__file__).with_name("peer_ultralytics.py")


def written_for_peer(dataset: Dataset, folder: Path) -> Path:
    """A data set in YOLO's form below a folder, and the settings file that ultralytics reads."""
    registry.write(dataset, folder / "yolo", "yolo", overwrite=True)
    lists = {"path": str((folder / "yolo").absolute())}
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        file = folder / "yolo" / f"{name}.txt"
        if file.exists():  # this peer reads them relative to the list, by "./"
            file.write_text("".join(f"./{line}\n" for line in file.read_text().splitlines()))
            lists[split] = file.name
    settings = folder / "data.yaml"
    settings.write_text(yaml.safe_dump({**lists, "names": dict(enumerate(dataset.classes))}))
    return settings


def called(
    python: Path, words: Sequence[object], folder: Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A script run in the peer's environment, in a folder that its own settings stay in."""
    command = [str(word) for word in (python.absolute(), *words)]
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(folder.absolute())}
    return subprocess.run(command, check=True, cwd=folder, env=environment, **options)


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="of the peers' environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / "peers.json")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        toy = make_toy(folder / "toy", given.seed, BATCH * STEPS * 5 // 4, SIDE)
        data = written_for_peer(toy, folder)
        words = [PEER, data, SIDE, BATCH, given.rounds]
        done = called(given.python, words, folder, stdout=subprocess.PIPE, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    medians = {name: float(np.median(answer[name])) for name in ("bare", "loop")}
    figures = {
        "seconds_a_step": {name: round(value, 4) for name, value in medians.items()},
        "loop_by_bare": round(medians["loop"] / medians["bare"], 3),
        "version": answer["version"],
    }
    write(
        "peers",
        given,
        ["torch"],
        {f"ultralytics {answer['network']}, {SIDE} x {SIDE}, batch {BATCH}": figures},
    )


if __name__ == "__main__":
    main()
