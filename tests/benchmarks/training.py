"""What training comes to: the toy set from scratch, BCCD, and faces under both recipes.

python -m tests.benchmarks.training toy|bccd|faces      (15 minutes; half an hour; an hour and more)
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.record import run_part
from toolkit.data.catalog import load, locate
from toolkit.data.dataset import Dataset
from toolkit.data.toy import make_toy
from toolkit.evaluation import widerface
from toolkit.evaluation.coco import coco
from toolkit.evaluation.columns import Truth
from toolkit.evaluation.score import PUBLISHED, in_originals, predict, wider_truth
from toolkit.runtime import InputError
from toolkit.training.checkpoint import trained
from toolkit.training.config import read_config
from toolkit.training.detection import VALIDATION
from toolkit.training.loop import Result, train
from toolkit.training.recipe import recipe

SEEDS = (0, 1, 2)
FACTORS = (0.1, 1 / 3, 1.0)  # the grid of learning rates: parts of each recipe's own


def run(folder: Path, dataset: Dataset, levers: dict[str, Any], **settings: Any) -> Result:
    """Train, or go on with what an earlier call left; a finished run is not trained again."""
    chosen = recipe(settings.pop("recipe", "modern"), **levers)
    config = read_config({"recipe": chosen, **settings})
    if (folder / "result.json").exists():
        kept = Result(**json.loads((folder / "result.json").read_text()))
        if kept.finished:
            return kept
    return train(config, folder, (folder / "config.yaml").exists(), dataset)


def toy(work: Path) -> dict[str, Any]:
    """The default recipe from scratch on toy sets of several seeds: validation mAP50 and seconds."""
    figures = {}
    for seed in SEEDS:
        if not (work / f"toy{seed}").exists():
            make_toy(work / f"toy{seed}", seed)
        dataset = load(str(work / f"toy{seed}"))
        config = {"data": "toy", "model": "fastest-v2"}
        result = run(work / f"toy-run{seed}", dataset, {}, **config)
        figures[f"toy seed {seed}"] = {"map50": result.score, "seconds": result.seconds}
        print(figures, file=sys.stderr)
    return figures


def bccd(work: Path) -> dict[str, Any]:
    """fastest-v2 at 320 from the published weights and from scratch: checkpoint and learning rate by the
    validation split, the test split scored once with the best."""
    dataset = load("bccd")
    test = dataset.split("test")
    figures: dict[str, Any] = {}
    for name, weights, epochs, rates in (
        ("published", "published", 40, (0.005, 0.02)),
        ("scratch", None, 100, (0.02,)),
    ):
        results = {}
        for rate in rates:
            folder = work / f"bccd-{name}-{rate}"
            results[rate] = run(
                folder, dataset, {"learning_rate": rate, "epochs": epochs},
                data="bccd", model="fastest-v2", weights=weights, size=(320, 320),
            )  # fmt: skip
        best = max(results, key=lambda rate: results[rate].score)
        found = predict(trained(Path(results[best].folder) / "best.pt"), test, VALIDATION)
        figures[name] = {
            "epochs": epochs,
            "val_map50": {str(rate): result.score for rate, result in results.items()},
            "learning_rate": best,
            "test_map50": round(float(coco(Truth.from_dataset(test), found).ap50), 4),
        }
        print(figures, file=sys.stderr)
    return figures


def wider_split() -> tuple[Dataset, Dataset]:
    """Our own split of WIDER FACE's validation pictures: to train on, with every tenth as "val"; to test."""
    everything = load("widerface_val")
    folder = locate("widerface_val")
    if folder is None or not (folder / "project_split").is_dir():
        raise InputError("widerface_val has no project_split: lists train.txt and test.txt of picture names")
    parts = []
    for name in ("train", "test"):
        wanted = set((folder / "project_split" / f"{name}.txt").read_text().split())
        parts.append(everything.subset(np.flatnonzero([file in wanted for file in everything.files])))
    training, test = parts
    names = np.where(np.arange(len(training)) % 10 == 0, "val", "train")
    return replace(training, splits=names), test


def wider(weights: Path, test: Dataset) -> dict[str, float]:
    found = in_originals(predict(trained(weights), test, PUBLISHED), test)
    scores = widerface.evaluate(wider_truth("widerface_val", test), found)
    return {name: round(getattr(scores, name), 4) for name in widerface.SETTINGS}


def faces(work: Path, epochs: float = 5) -> dict[str, Any]:
    """yoloface-500k-v2 on our split, both recipes: the learning rate of each from the same grid with the
    first seed and the validation pictures, three seeds with it (a rate at which one diverges is out: the next
    best is taken), the test pictures scored once for each run; and fine-tuned from the published weights."""
    training, test = wider_split()
    figures: dict[str, Any] = {"epochs": epochs, "pictures": [len(training), len(test)]}
    settings = {"data": "widerface_val", "model": "yoloface-500k-v2"}
    scores: dict[str, list[dict[str, float]]] = {}
    for name in ("seed", "modern"):
        grid, diverged = {}, []
        for rate in (round(recipe(name).learning_rate * factor, 6) for factor in FACTORS):
            folder = work / f"faces-{name}-{rate:g}-seed0"
            levers = {"learning_rate": rate, "epochs": epochs, "batch": 16}
            try:
                grid[rate] = run(folder, training, levers, recipe=name, **settings).score
            except InputError as error:  # it diverged
                print(error, file=sys.stderr)
                grid[rate] = 0.0
                diverged.append(f"{rate:g}")
            print(name, rate, grid[rate], file=sys.stderr)
        for best in sorted(grid, key=lambda rate: -grid[rate]):
            levers = {"learning_rate": best, "epochs": epochs, "batch": 16}
            folders = [work / f"faces-{name}-{best:g}-seed{seed}" for seed in SEEDS]
            try:
                for seed, folder in zip(SEEDS, folders, strict=True):
                    run(folder, training, levers, recipe=name, seed=seed, **settings)
                break
            except InputError as error:  # a rate at which any seed diverges is out
                diverged.append(f"{best:g}")
                print(error, file=sys.stderr)
        scores[name] = [wider(folder / "best.pt", test) for folder in folders]
        figures[f"recipe {name}"] = {
            "val_map50": {f"{rate:g}": score for rate, score in grid.items()},
            "diverged": diverged,
            "learning_rate": best,
            "test": scores[name],
        }
        print(figures[f"recipe {name}"], file=sys.stderr)
    figures["modern minus seed"] = {
        level: difference([s[level] for s in scores["modern"]], [s[level] for s in scores["seed"]])
        for level in widerface.SETTINGS
    }
    levers = {"learning_rate": 0.0015, "epochs": epochs, "batch": 16}
    run(work / "faces-published", training, levers, recipe="modern", weights="published", **settings)
    figures["fine-tuned"] = wider(work / "faces-published" / "best.pt", test)
    from toolkit import create_model

    found = in_originals(predict(create_model("yoloface-500k-v2", "published"), test, PUBLISHED), test)
    before = widerface.evaluate(wider_truth("widerface_val", test), found)
    figures["published"] = {name: round(getattr(before, name), 4) for name in widerface.SETTINGS}
    return figures


def difference(first: list[float], second: list[float]) -> dict[str, Any]:
    """Mean difference with its 95 % interval (Welch)."""
    from scipy import stats

    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    shown = bool(interval.low > 0 or interval.high < 0)
    middle = float(np.mean(first) - np.mean(second))
    return {
        "mean": round(middle, 4),
        "interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
        "shown": shown,
    }


if __name__ == "__main__":
    run_part("training", __doc__ or "", {"toy": toy, "bccd": bccd, "faces": faces}, ["lightning"])
