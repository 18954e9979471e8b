"""A training in a notebook cell: curves and detections at each validation, and a button to stop it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from toolkit.data.dataset import Dataset
from toolkit.models.detector import Detector
from toolkit.runtime import require
from toolkit.signals import leave, leaving
from toolkit.tables import embedded
from toolkit.training.checkpoint import trained
from toolkit.training.config import Config
from toolkit.training.loop import Result, train
from toolkit.training.show import History, RunHistory, found_grid
from toolkit.training.splits import splits


async def train_live(config: Config, output: str | Path, dataset: Dataset, resume: bool = False) -> Result:
    """Train a detector as `toolkit.training.loop.train` does, and show it while it trains.

    At each validation the curves and some detections of the best weights so far appear below the cell. The
    button "Stop and save" ends the training in good order, as does an interrupt of the kernel. The training
    runs in a thread and the cell awaits it, because a kernel receives clicks only while a cell awaits
    something: ipykernel 7 does so; with an older one the interrupt remains.

    Args:
        config, output, dataset, resume: as of `train`.

    Returns:
        The outcome; `Result.finished` is False where the training was stopped, and `resume=True` continues.

    Raises:
        InputError: as `train`, or ipywidgets is not installed.
    """
    widgets = require("ipywidgets", "notebooks")
    display = require("IPython.display", "notebooks")
    val_set = splits(config, dataset)[1]
    button = widgets.Button(description="Stop and save", icon="stop")
    button.on_click(lambda _: leave())
    page = widgets.HTML("<p>Waiting for the first validation.</p>")
    display.display(widgets.VBox([button, page]))

    def show(history: History) -> None:
        pictures = found_grid(trained(Path(output) / "best.pt", Detector), val_set)
        page.value = embedded(RunHistory(history).figure(), "score and loss") + embedded(
            pictures, "detections"
        )

    try:
        with leaving():  # signals come to this thread alone, and are handed on to the training
            return await asyncio.to_thread(train, config, output, resume, dataset, show)
    finally:
        button.disabled = True
