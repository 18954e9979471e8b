"""One cell of a study, trained and scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from toolkit.ablation.plan import Plan
from toolkit.data.dataset import Dataset
from toolkit.evaluation.coco import coco
from toolkit.evaluation.score import evaluate, evaluate_by
from toolkit.files import temporary_folder
from toolkit.models.detector import Detector
from toolkit.runtime import InputError
from toolkit.training.checkpoint import trained
from toolkit.training.config import Config, read_config
from toolkit.training.detection import VALIDATION
from toolkit.training.loop import Show, train
from toolkit.training.recipe import recipe
from toolkit.training.splits import splits


def run_cell(
    config: Config, dataset: Dataset, folder: Path, plan: Plan, show: Show | None = None
) -> dict[str, Any]:
    """Train a cell, or resume it where a killed worker left it, and score it.

    Returns the entry for the store. Raises InputError for a training that diverges.
    """
    if plan.budget.seconds is not None and not (folder / "config.yaml").exists():
        config = _for_seconds(config, dataset, folder, plan.budget.seconds)
    result = train(config, folder, (folder / "config.yaml").exists(), dataset, show)
    if not result.finished:
        raise KeyboardInterrupt
    config = read_config(folder / "config.yaml")
    pictures = result.steps * config.recipe.batch * config.recipe.accumulate
    rate = result.pictures_per_second  # 0 if nothing was left to train
    answer: dict[str, Any] = {
        "steps": result.steps,
        "pictures": pictures,
        "seconds": result.seconds,
        "training_seconds": round(pictures / rate, 1) if rate else result.seconds,  # without validations
        "map50": result.score,
        "score": result.score,
    }
    if plan.budget.steps is not None and result.steps != plan.budget.steps:
        raise InputError(f"the training took {result.steps} steps instead of {plan.budget.steps}")
    if plan.test_split or plan.score == "widerface":
        answer |= score(plan, config, folder / "best.pt", dataset)
    if not math.isfinite(answer["score"]):
        raise InputError(f"the score is {answer['score']}: the evaluated pictures have no objects")
    return answer


def score(plan: Plan, config: Config, weights: Path, dataset: Dataset) -> dict[str, float]:
    """Scores of the best checkpoint on the test split, or on the validation pictures if there is none."""
    model = trained(weights, Detector)
    part = dataset.split(plan.test_split) if plan.test_split else splits(config, dataset)[1]
    if not len(part):
        there = ", ".join(sorted(set(dataset.splits.tolist()) - {""})) or "none"
        raise InputError(
            f"{plan.data} has no pictures in the split {plan.test_split!r} (the study's test_split), its "
            f"splits are {there}: change test_split, or leave it out"
        )
    if plan.score == "widerface":
        scores = evaluate(model, part, "widerface", plan.data)
        return {**scores, "score": scores["hard"]}
    return {"score": float(evaluate_by(coco, model, part, VALIDATION).scores.ap50)}


def _for_seconds(config: Config, dataset: Dataset, folder: Path, seconds: float) -> Config:
    """The settings with as many epochs as fit into `seconds`, judged by the speed of a short run."""
    train_set, _ = splits(config, dataset)
    per_step = config.recipe.batch * config.recipe.accumulate
    short = config.model_copy(update={"stop_at": 12})
    with temporary_folder() as trial:
        result = train(short, trial, False, dataset)
    epochs = max(1, int(seconds * result.pictures_per_second / per_step)) / max(1, len(train_set) // per_step)
    return config.model_copy(update={"recipe": recipe(config.recipe, epochs=epochs)})
