"""One cell of a study: trained, scored, its cost measured."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from toolkit.ablation.plan import Plan
from toolkit.data.dataset import Dataset
from toolkit.evaluation import coco, columns, widerface
from toolkit.evaluation.score import PUBLISHED, in_originals, predict, wider_truth
from toolkit.runtime import InputError
from toolkit.training.checkpoint import trained
from toolkit.training.config import Config, read_config
from toolkit.training.detection import VALIDATION
from toolkit.training.loop import train
from toolkit.training.recipe import recipe
from toolkit.training.splits import splits


def run_cell(config: Config, dataset: Dataset, folder: Path, plan: Plan, show: Any = None) -> dict[str, Any]:
    """Train a cell, going on where a killed worker left it, and score it. Returns what the store keeps.

    Raises InputError for a training that diverges."""
    if plan.budget.seconds is not None and not (folder / "config.yaml").exists():
        config = _for_seconds(config, dataset, folder, plan.budget.seconds)
    result = train(config, folder, (folder / "config.yaml").exists(), dataset, show)
    if not result.finished:
        raise KeyboardInterrupt
    config = read_config(folder / "config.yaml")
    pictures = result.steps * config.recipe.batch * config.recipe.accumulate
    rate = result.pictures_per_second  # 0 where all had been done before
    answer: dict[str, Any] = {
        "steps": result.steps,
        "pictures": pictures,
        "seconds": result.seconds,
        "training_seconds": round(pictures / rate, 1) if rate else result.seconds,  # without validations
        "map50": result.score,
        "score": result.score,
    }
    if plan.budget.steps is not None and result.steps != plan.budget.steps:
        raise InputError(f"{result.steps} steps were made where {plan.budget.steps} were to be")
    if plan.test_split or plan.score == "widerface":
        answer |= score(plan, folder / "best.pt", dataset)
    if not math.isfinite(answer["score"]):
        raise InputError(f"the score is {answer['score']}: the pictures that it is taken on have no objects")
    return answer


def score(plan: Plan, weights: Path, dataset: Dataset) -> dict[str, float]:
    """The best checkpoint on the test split, or on the validation split where there is none."""
    model = trained(weights)
    part = dataset.split(plan.test_split or plan.val_split)
    if plan.score == "widerface":
        found = in_originals(predict(model, part, PUBLISHED), part)
        scores = widerface.evaluate(wider_truth(plan.data, part), found)
        answer = {name: getattr(scores, name) for name in widerface.SETTINGS}
        return {**answer, "score": answer["hard"]}
    found = predict(model, part, VALIDATION)
    return {"score": float(coco.coco(columns.Truth.from_dataset(part), found).ap50)}


def _for_seconds(config: Config, dataset: Dataset, folder: Path, seconds: float) -> Config:
    """The configuration with as many epochs as fit into `seconds`, by the speed of a short run."""
    train_set, _ = splits(config, dataset)
    per_step = config.recipe.batch * config.recipe.accumulate
    short = config.model_copy(update={"stop_at": 12})
    with tempfile.TemporaryDirectory() as trial:
        result = train(short, trial, False, dataset)
    epochs = max(1, int(seconds * result.pictures_per_second / per_step)) / max(1, len(train_set) // per_step)
    return config.model_copy(update={"recipe": recipe(config.recipe, epochs=epochs)})
