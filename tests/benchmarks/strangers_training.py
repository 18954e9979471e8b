"""Training of networks that are only cfg files: yolov4-tiny from scratch on the toy set, and Yolo-Fastest 1.1
from its published weights on BCCD, with both recipes.

python -m tests.benchmarks.strangers_training FOLDER      (half an hour; needs TOOLKIT_DATA)

FOLDER has, anywhere inside, yolov4-tiny.cfg of AlexeyAB/darknet, and yolo-fastest-1.1.cfg, its .weights and
coco.names of dog-qiuqiu/Yolo-Fastest.
"""

import hashlib
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.benchmarks.record import RESULTS, write
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.data.toy import make_toy
from toolkit.evaluation.coco import coco
from toolkit.evaluation.columns import Truth
from toolkit.evaluation.score import predict
from toolkit.models.darknet.network import load_darknet
from toolkit.runtime import InputError
from toolkit.training.checkpoint import trained
from toolkit.training.config import merged_config
from toolkit.training.detection import VALIDATION
from toolkit.training.loop import train

MODULE = "strangers_training"


def only(folder: Path, name: str) -> Path:
    """The file of this name, of which copies count once."""
    files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(folder.rglob(name))}
    if len(files) != 1:
        raise InputError(f"expected one {name} in {folder}, found {len(files)}")
    return next(iter(files.values()))


def origin(*files: Path) -> dict[str, str]:
    return {path.name: f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files}


def difference(run: Path, x: np.ndarray) -> dict[str, float]:
    """Largest difference of the raw maps of best.pt to those of its darknet files, read here and by OpenCV,
    whose batch norms add 1e-6 to the variance where darknet adds 1e-5."""
    cfg, weights, names = (run / f"best.{end}" for end in ("cfg", "weights", "names"))
    maps = trained(run / "best.pt").predict(x)
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(x)
    layers = net.getLayerNames()
    inputs = [layers[i - 1] for i, layer in enumerate(layers) if layer.startswith("yolo_")]
    read = {
        "load_darknet": load_darknet(cfg, weights, names).predict(x),
        "opencv": [raw.reshape(1, *m.shape[2:], m.shape[1]).transpose(0, 3, 1, 2)
                   for raw, m in zip(net.forward(inputs), maps, strict=True)],
    }  # fmt: skip
    return {
        name: round(max(float(np.abs(a - b).max()) for a, b in zip(maps, others, strict=True)), 7)
        for name, others in read.items()
    }


def run(folder: Path, dataset: Dataset, cfg: Path, levers: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Train from a copy of the cfg that is gone afterwards; mAP50 of the best weights, on the test split once
    where there is one."""
    copy = folder.with_suffix(".copy") / cfg.name
    copy.parent.mkdir(parents=True)
    shutil.copy(cfg, copy)
    config = merged_config(None, levers, model=str(copy), **settings)
    shutil.rmtree(copy.parent)
    result = train(config, folder, dataset=dataset)
    network = trained(folder / "best.pt")
    width, height = network.io.input_size
    x = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    figures: dict[str, Any] = {
        "input": [width, height],
        "epochs": levers["epochs"],
        "steps": result.steps,
        "val_map50": result.score,
        "seconds": result.seconds,
        "pictures_per_second": result.pictures_per_second,
        "largest_difference_to": difference(folder, x),
    }
    test = dataset.split("test")
    if len(test):
        found = predict(network, test, VALIDATION)
        figures["test_map50"] = round(float(coco(Truth.from_dataset(test), found).ap50), 4)
    print(folder.name, figures, file=sys.stderr, flush=True)
    return figures


def main() -> None:
    parser = ArgumentParser(prog=f"python -m tests.benchmarks.{MODULE}", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--epochs", type=float, default=20, help="of yolov4-tiny; Yolo-Fastest has twice that"
    )
    parser.add_argument("--recipes", nargs="+", default=["modern", "seed"])
    parser.add_argument("--pictures", type=int, default=1000, help="of the toy set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / f"{MODULE}.json")
    given = parser.parse_args()
    tiny = only(given.folder, "yolov4-tiny.cfg")
    fastest, weights, names = (
        only(given.folder, name)
        for name in ("yolo-fastest-1.1.cfg", "yolo-fastest-1.1.weights", "coco.names")
    )
    figures: dict[str, Any] = {"files": origin(tiny, fastest, weights, names)}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        toy = make_toy(work / "toy", given.seed, given.pictures)
        bccd = load("bccd")
        for recipe in given.recipes:
            figures[f"yolov4-tiny, toy set, {recipe}"] = run(
                work / f"tiny-{recipe}", toy, tiny, {"epochs": given.epochs},
                recipe=recipe, data="toy", size=(160, 160), seed=given.seed,
            )  # fmt: skip
            figures[f"Yolo-Fastest 1.1, BCCD, {recipe}"] = run(
                work / f"fastest-{recipe}", bccd, fastest, {"epochs": 2 * given.epochs},
                recipe=recipe, data="bccd", weights=str(weights), names=names, size=(320, 320),
                seed=given.seed,
            )  # fmt: skip
    sys.argv[1] = "FOLDER"  # a place of this machine
    write(MODULE, given, ["lightning"], figures)


if __name__ == "__main__":
    main()
