"""Other trainers' loops against their own bare steps, each in an environment of its own (make bench-peers).

python -m tests.benchmarks.peers --python .venv-peers/bin/python        (five minutes)
"""

import json
import os
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from tests.benchmarks.record import RESULTS, write
from tests.benchmarks.training_step import BATCH, SIDE, STEPS
from toolkit.data.formats import registry
from toolkit.data.toy import make_toy

PEER = Path(__file__).with_name("peer_ultralytics.py")


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
        registry.write(toy, folder / "yolo", "yolo")
        lists = {"path": str(folder / "yolo"), "train": "train.txt", "val": "valid.txt"}
        for name in ("train.txt", "valid.txt"):  # this peer reads them relative to the list, by "./"
            lines = (folder / "yolo" / name).read_text().splitlines()
            (folder / "yolo" / name).write_text("".join(f"./{line}\n" for line in lines))
        names = dict(enumerate(toy.classes))
        (folder / "data.yaml").write_text(yaml.safe_dump({**lists, "names": names}))
        command = [given.python.absolute(), PEER, folder / "data.yaml", SIDE, BATCH, given.rounds]
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=folder,
            env={**os.environ, "YOLO_CONFIG_DIR": str(folder)},
        )
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
