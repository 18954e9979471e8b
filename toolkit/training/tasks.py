"""The kinds of training: one task for detectors, one for landmark networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.data.dataset import Dataset
from toolkit.models import list_models
from toolkit.models.landmarks import LANDMARK_SPECS
from toolkit.runtime import InputError
from toolkit.training import landmarks
from toolkit.training.config import Config
from toolkit.training.detection import (
    build,
    complete,
    detection_losses,
    detection_maker,
    detection_parts,
    map50,
    save_best_darknet,
)
from toolkit.training.loader import Maker
from toolkit.training.losses import points
from toolkit.training.losses.common import Losses
from toolkit.training.show import draw_run


@dataclass(frozen=True)
class TrainingTask:
    """What the loop asks about a kind of network.

    `metric` names the figure by which weights are chosen, `sign` is -1 where the least is best. `complete`
    fills in what follows from the data; `parts`: pictures to train on and to validate with; `build`: the
    network with the weights that it starts from; `maker`: its batches, whose `images` are (N, H, W, 3) uint8
    RGB; `losses(config, model, training pictures, device)` -> (outputs, batch, x) -> Losses; `validate`: the
    metric; `save`: files of the best weights beside best.pt; `draw`: pictures of a finished run; `best`: the
    file of the best weights that other commands take.
    """

    metric: str
    sign: int
    complete: Callable[[Config, Dataset], Config]
    parts: Callable[[Config, Dataset], tuple[Dataset, Dataset]]
    build: Callable[[Config], Any]
    maker: Callable[[Config, Any, Dataset], Maker]
    losses: Callable[[Config, Any, Dataset, torch.device], Callable[[list[Tensor], Any, Tensor], Losses]]
    validate: Callable[[Any, Dataset], float]
    save: Callable[[Any, Path], Any]
    draw: Callable[[Path, list[dict[str, Any]], Any, Dataset], None]
    best: str


def task_of(config: Config) -> TrainingTask:
    """Detection or landmarks, by the network. InputError for an unknown one and for a loss of the other."""
    if config.model not in list_models():
        raise InputError(f"unknown network {config.model!r}: known are {', '.join(list_models())}")
    if config.model in LANDMARK_SPECS:
        task, losses, name = LANDMARKS, points.LOSSES, "landmarks"
    else:
        task, losses, name = DETECTION, ("modern", "darknet", "darknet-fork"), "modern"
    if config.recipe.loss not in losses:
        raise InputError(
            f"the loss {config.recipe.loss!r} does not fit {config.model}, which has {', '.join(losses)}: "
            f"train with the recipe {name}"
        )
    return task


DETECTION = TrainingTask(
    "map50", 1, complete, detection_parts, build, detection_maker, detection_losses, map50, save_best_darknet,
    draw_run, "best.weights",
)  # fmt: skip
LANDMARKS = TrainingTask(
    "nme", -1, landmarks.complete, landmarks.parts, landmarks.build, landmarks.maker, landmarks.losses,
    landmarks.validate, landmarks.save, landmarks.draw, "best.pt",
)  # fmt: skip
