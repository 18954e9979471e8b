"""What a person gets in equal minutes on this machine: fastest-v2 and nano here, the smallest current network
of ultralytics there, each from random weights and from what its project ships; same pictures, input, cores.

python -m tests.benchmarks.equal_minutes bccd|fod --python .venv-peers/bin/python --shipped yolo26n.pt
    [--minutes 20] [--fod FOLDER]        (six times the minutes, and some more)

`make bench-peers` makes the peer's environment. --shipped: the peer's own weights; without the file that row
is left out, and said. FOD-A (thenorthwes/fodadataset) is a VOC set of frames of clips: each class is divided
in time, at cuts of the scene. Runs are kept in --work; one that has ended is not run again.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.benchmarks.peers import called, written_for_peer
from tests.benchmarks.record import RESULTS, spread, write
from tests.benchmarks.training import run
from toolkit import viz
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.evaluation.coco import coco
from toolkit.evaluation.columns import Detections, Truth
from toolkit.evaluation.score import PROTOCOLS, predict
from toolkit.export.folder import Exported
from toolkit.export.write import export_model
from toolkit.files import whole_file
from toolkit.pictures import load_image
from toolkit.runtime import InputError, require
from toolkit.stopwatch import interleave
from toolkit.training.checkpoint import trained

PEER = Path(__file__).with_name("peer_training.py")
PICTURE = Path(__file__).parents[2] / "docs" / "pages" / "equal-minutes.png"
SIDE, CORES = 320, 2
SHORT = 2400  # pictures of the training that tells the speed: fewer measure its start
OURS = {"fastest-v2": "fastest-v2", "nano": "nano-coco"}
STRIDE, CUT = 10, 20.0  # every tenth frame; mean difference of thumbnails between scenes, 0..255
FEWEST = {"train": 40, "val": 8, "test": 12}  # pictures of a class


def divided(dataset: Dataset) -> Dataset:
    """FOD-A with the splits train, val and test: about .6, .15 and .25 of each class's frames, in time, at
    the cuts of the scene nearest to that. Classes without cuts, or with too few pictures, are left out."""
    order = np.argsort(dataset.files, kind="stable")[::STRIDE]
    order = np.array([i for i in order if len(set(dataset.labels[dataset.rows(i)].tolist())) == 1])
    thumbnails = [
        cv2.resize(load_image(dataset.path(i)), (16, 16), interpolation=cv2.INTER_AREA) for i in order
    ]
    change = np.abs(np.diff(np.stack(thumbnails).astype(float), axis=0)).mean(axis=(1, 2, 3))
    cuts = np.concatenate(([True], change > CUT))
    first = np.array([dataset.labels[dataset.rows(i)][0] for i in order])
    splits = np.full(len(dataset), "", "U5")
    for label in range(len(dataset.classes)):
        frames = np.flatnonzero(first == label)
        starts = np.flatnonzero(cuts[frames])
        ends = (
            [int(starts[np.abs(starts - part * len(frames)).argmin()]) for part in (0.6, 0.75)]
            if len(starts)
            else [0, 0]
        )
        parts = dict(zip(FEWEST, np.split(frames, ends), strict=True))
        if all(len(parts[name]) >= fewest for name, fewest in FEWEST.items()):
            for name, rows in parts.items():
                splits[order[rows]] = name
    chosen = replace(dataset, splits=splits).subset(np.flatnonzero(splits != ""))
    kept = np.unique(chosen.labels)
    return replace(
        chosen,
        classes=tuple(dataset.classes[label] for label in kept),
        labels=np.searchsorted(kept, chosen.labels),
    )


def ours(work: Path, name: str, weights: str | None, dataset: Dataset, minutes: float) -> dict[str, Any]:
    """A training here whose steps fill the minutes, by the speed of a short one."""
    settings = {
        "data": "data",
        "model": OURS[name],
        "weights": weights,
        "size": (SIDE, SIDE),
        "validations": 10,
    }
    folder = work / f"{name}-{weights or 'random'}"
    pictures = len(dataset.split("train"))
    short = {"epochs": max(1.0, SHORT / pictures)}
    speed = run(folder / "speed", dataset, short, **settings).pictures_per_second
    epochs = max(1.0, minutes * 60 * speed / pictures)
    result = run(folder / "run", dataset, {"epochs": epochs}, **settings)
    network = trained(folder / "run" / "best.pt")
    export_model(network, folder / "files", ["ncnn"], name=name)
    history = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    found = predict(network, dataset.split("test"), PROTOCOLS["coco"])
    return {
        "minutes": round(result.seconds / 60, 2),
        "epochs": round(epochs, 1),
        "parameters": sum(p.numel() for p in network.parameters()),
        "curve": [point(r["step"] / result.steps * result.seconds, r["map50"]) for r in history],
        **scored(dataset.split("test"), found),
        "kB": round(Exported.read(folder / "files").bytes("ncnn") / 1000),
        "files": str(folder / "files"),
    }


def theirs(work: Path, python: Path, model: str, dataset: Dataset, minutes: float) -> dict[str, Any]:
    """A training by the peer, whose detections are scored here."""
    folder = work / f"peer-{Path(model).stem}-{Path(model).suffix[1:]}"
    test = dataset.split("test")
    if not (folder / "answer.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = written_for_peer(dataset, folder)
        words = [PEER, data.absolute(), model, SIDE, minutes, folder.absolute()]
        called(python, words, folder, stdout=sys.stderr)
    answer = json.loads((folder / "answer.json").read_text())
    rows = [answer["detections"][Path(file).name] for file in test.files]
    found = Detections.from_pictures((np.array(b), np.array(s), np.array(c, int)) for b, s, c in rows)
    files = Path(answer["ncnn"])
    return {
        "minutes": round(answer["curve"][-1]["seconds"] / 60, 2),
        "epochs": len(answer["curve"]),
        "parameters": answer["parameters"],
        "version": answer["version"],
        "curve": [point(row["seconds"], row["map50"]) for row in answer["curve"]],
        **scored(test, found),
        "kB": round(sum(path.stat().st_size for path in files.glob("*.ncnn.*")) / 1000),
        "files": str(files),
    }


def point(seconds: float, map50: float) -> list[float]:
    return [round(seconds / 60, 2), round(map50, 4)]


def scored(test: Dataset, found: Detections) -> dict[str, float]:
    scores = coco(Truth.from_dataset(test), found)
    return {"mAP50": round(scores.ap50, 4), "mAP": round(scores.ap, 4)}


def opened(files: Path) -> Callable[[], Any]:
    """One picture through the ncnn files of either project, on all cores."""
    ncnn = require("ncnn", "export")
    net = ncnn.Net()
    net.opt.num_threads = CORES
    (param,) = files.glob("*.param")
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    x = np.random.default_rng(0).random((3, SIDE, SIDE), np.float32)

    def call() -> list[Any]:
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], ncnn.Mat(x))
        return [extractor.extract(name) for name in net.output_names()]

    return call


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.equal_minutes", description=__doc__)
    parser.add_argument("data", choices=("bccd", "fod"))
    parser.add_argument("--python", type=Path, required=True, help="of the peer's environment")
    parser.add_argument("--shipped", type=Path, default="yolo26n.pt", help="the peer's own weights")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--fod", type=Path, help="folder of FOD-A")
    parser.add_argument("--work", type=Path, default=Path("exports/figures/equal-minutes"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.result = RESULTS / f"equal_minutes-{given.data}.json"
    if given.data == "fod" and given.fod is None:
        raise InputError("fod needs --fod: the folder of thenorthwes/fodadataset")
    whole = load("bccd") if given.data == "bccd" else load(str(given.fod))
    dataset = whole if given.data == "bccd" else divided(whole)
    work = given.work / f"{given.data}-{given.minutes:g}"
    rows: dict[str, dict[str, Any]] = {}
    for name in OURS:
        for weights in (None, "published"):
            start = "shipped weights" if weights else "random weights"
            rows[f"{name}, {start}"] = ours(work, name, weights, dataset, given.minutes)
            print(rows, file=sys.stderr)
    peer, shipped = given.shipped.stem, given.shipped.absolute()
    for model, start in ((f"{peer}.yaml", "random weights"), (shipped, "shipped weights")):
        if model == shipped and not shipped.is_file():
            print(f"left out: there is no {shipped}", file=sys.stderr)
            continue
        rows[f"{peer}, {start}"] = theirs(work, given.python, str(model), dataset, given.minutes)
    times = interleave({name: opened(Path(row.pop("files"))) for name, row in rows.items()}, seconds=30)
    for name, row in rows.items():
        row["ncnn"] = spread(times[name])
    figures = {
        "pictures": {split: len(dataset.split(split)) for split in FEWEST},
        "pictures left out": len(whole) - len(dataset),
        "classes": list(dataset.classes),
        "classes left out": sorted(set(whole.classes) - set(dataset.classes)),
        "rows": rows,
    }
    write("equal_minutes", given, ["torch", "ncnn"], figures)
    draw()


def draw() -> None:
    """Both data sets' curves, in one picture."""
    panels = {}
    for data, title in (("bccd", "BCCD"), ("fod", "FOD-A")):
        path = RESULTS / f"equal_minutes-{data}.json"
        if path.exists():
            rows = json.loads(path.read_text())["rows"]
            panels[title] = {name: tuple(zip(*row["curve"], strict=True)) for name, row in rows.items()}
    networks = {name: name.partition(",")[0] for series in panels.values() for name in series}
    figure = viz.tradeoffs(
        panels, "minutes of training on two cores", "mAP50 of the validation pictures", networks, "linear"
    )
    with whole_file(PICTURE) as temporary:
        figure.savefig(temporary, format="png")


if __name__ == "__main__":
    main()
