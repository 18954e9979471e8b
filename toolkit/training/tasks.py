"""What the loop asks of a task, and the tasks there are: detection and landmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from toolkit.data.dataset import Dataset
from toolkit.models.network import TorchNetwork
from toolkit.training.config import Config
from toolkit.training.detection import DetectionTask
from toolkit.training.landmarks import LandmarkTask
from toolkit.training.loader import Maker, TrainingBatch
from toolkit.training.losses.common import Losses
from toolkit.training.recipe import Recipe
from toolkit.training.show import History

N = TypeVar("N", bound=TorchNetwork)
B = TypeVar("B", bound=TrainingBatch)


class TrainingTask(Protocol[N, B]):
    """A kind of training, for networks N that learn from batches B.

    `name`: the task in a network's io. `metric`: the figure by which weights are chosen; `sign` is -1 where
    less is better; `useless` is a score that helps nobody. `recipe`: the kind that fits, with the names of
    its `losses`. `best`: the file of the best weights that other commands take.
    """

    name: str
    metric: str
    sign: int
    useless: float
    default_recipe: Recipe
    recipe: type[Recipe]
    best: str

    def complete(self, config: Config, dataset: Dataset) -> Config:
        """The settings with what follows from the data; InputError where they do not fit it."""
        ...

    def parts(self, config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
        """What to train on and what to validate with."""
        ...

    def build(self, config: Config) -> N:
        """The network with the weights that it starts from."""
        ...

    def maker(self, config: Config, model: N, train_set: Dataset) -> Maker[B]:
        """Its batches."""
        ...

    def losses(
        self, config: Config, model: N, train_set: Dataset, device: torch.device
    ) -> Callable[[list[Tensor], B, Tensor], Losses]:
        """The loss of (outputs, batch, network input)."""
        ...

    def validate(self, network: N, val_set: Dataset) -> float:
        """The metric."""
        ...

    def save(self, network: N, folder: Path) -> None:
        """Files of the best weights, next to best.pt."""
        ...

    def draw(self, folder: Path, history: History, network: N, val_set: Dataset) -> None:
        """Pictures of a run with its best weights: curves.png and pictures.png at least."""
        ...


# Any: each task goes with its own network and batch, which a table of all cannot say
TASKS: dict[str, TrainingTask[Any, Any]] = {task.name: task for task in (DetectionTask(), LandmarkTask())}


def task_of(config: Config) -> TrainingTask[Any, Any]:
    """The task of a run, by its network. InputError for an unknown network and for another task's recipe."""
    task = TASKS[config.origin.task]
    config.recipe_as(task.recipe)
    return task


def complete(config: Config, dataset: Dataset) -> Config:
    """The settings of a run with what follows from the data.

    Args:
        config: as `read_config` returns it.
        dataset: the whole data set, with all its splits.

    Returns:
        The settings with classes, input size and anchors, or the number of points, in `changes`.

    Raises:
        InputError: where the settings do not fit the data.
    """
    return task_of(config).complete(config, dataset)


def build(config: Config) -> TorchNetwork:
    """The network of a run, with the weights that it starts from.

    Args:
        config: as `complete` returns it; seeds everything with its `seed`.

    Returns:
        The network, fresh where `config.weights` has nothing that fits.

    Raises:
        InputError: where nothing of `config.weights` fits.
    """
    network: TorchNetwork = task_of(config).build(config)
    return network
