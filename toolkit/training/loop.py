"""The training loop: one call trains any network of the zoo on any data set, and goes on after anything.

Everything random follows from (seed, step), so a run that was killed and resumed ends, on a CPU, with the
very weights of one that was not. Lightning Fabric carries it from one CPU to several GPUs.
"""

from __future__ import annotations

import io
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from toolkit.data import anchors as anchor_tools
from toolkit.data.augment import Augmentation, Batch
from toolkit.data.dataset import Dataset, load, match_classes
from toolkit.detect import Settings
from toolkit.evaluation import detection, predict
from toolkit.models import create_model
from toolkit.models.darknet import read_names, save_weights, to_cfg
from toolkit.models.detector import SpecDetector
from toolkit.models.zoo import SPECS, published_files
from toolkit.runtime import InputError, environment, progress, require, seed_everything, whole_file
from toolkit.training.assign import yolo_layers
from toolkit.training.darknet_norm import use_darknet_norm
from toolkit.training.distill import distill_loss
from toolkit.training.loader import PictureCache, batches, steps_per_epoch
from toolkit.training.loss import Losses, darknet_loss, modern_loss
from toolkit.training.recipe import Recipe, first_fault, read_yaml, recipe

VALIDATION = Settings(conf=0.01, clip=False)


class Config(BaseModel):
    """A whole run, as its config.yaml holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: str
    model: str
    recipe: Recipe
    changes: dict[str, Any] = {}  # of the network's spec (toolkit.models.spec.change), such as se or width
    weights: str | None = None  # to start from: "published", or a .weights or .pt file
    size: tuple[int, int] | None = None  # of the network's input; None: see `input_size`
    anchors: Literal["auto", "keep", "fit"] = "auto"  # auto: fit where less than 98 % of the objects are reached
    train_split: str = "train"
    val_split: str = "val"
    teacher: str | None = None
    seed: int = 0
    validations: int = Field(10, ge=1)  # over the whole run
    device: str = "auto"
    devices: int = Field(1, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    threads: int = 0  # of torch on a CPU; 0: as it is
    workers: int = 0
    compile: bool = False
    cache_gb: float = 8.0
    stop_at: int | None = None  # leave after this step as if asked to by a signal


def read_config(source: dict[str, Any] | str | Path) -> Config:
    """A Config from a mapping or from a YAML file; `recipe` may be a name or a mapping of levers with a name.

    Raises InputError with the first field that does not fit.
    """
    data = source if isinstance(source, dict) else read_yaml(source, f"there is no settings file {source}")
    data = dict(data)
    chosen = data.get("recipe", "modern")
    if isinstance(chosen, dict):
        chosen = dict(chosen)
        pictures = chosen.pop("augmentation", {})
        chosen = recipe(chosen.pop("name", "modern"), **chosen, **pictures)
    elif not isinstance(chosen, Recipe):
        chosen = recipe(chosen)
    try:
        return Config(**{**data, "recipe": chosen})
    except ValidationError as error:
        raise InputError(first_fault("the settings", error)) from None


@dataclass(frozen=True)
class Result:
    """What a run came to; `best_weights` are those of the best validation."""

    folder: str
    map50: float
    step: int
    steps: int
    seconds: float
    pictures_per_second: float
    best_weights: str
    finished: bool


def train(
    config: Config,
    output: str | Path,
    resume: bool = False,
    dataset: Dataset | None = None,
    show: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Result:
    """Train, validate now and then, and keep the best weights in the folder `output`.

    The folder holds config.yaml, environment.json, metrics.jsonl, TensorBoard's events, curves.png,
    last.pt (to resume) and best.pt, best.weights, best.cfg, best.names (what `toolkit evaluate`, `export` and
    `detect` take). `dataset` replaces the one that `config.data` names. `show` is called with the history
    after each validation, in a notebook to draw it.

    SIGTERM and Ctrl-C save and leave: `Result.finished` is then False, and `resume=True` goes on.

    Raises InputError for settings that do not fit the data or the machine, for a folder that holds another
    run, and where the loss stops being a number; last.pt then still holds the last good state.
    """
    fabric_module = require("lightning.fabric", "training")
    output = Path(output)
    if config.devices > 1 and config.device == "auto" and not torch.cuda.is_available():
        config = config.model_copy(update={"device": "cpu"})
    accelerator = "cuda" if _device(config).type == "cuda" else "cpu"
    if accelerator == "cuda" and config.devices > torch.cuda.device_count():
        raise InputError(f"{config.devices} GPUs were asked for, this machine has {torch.cuda.device_count()}")
    if not resume and (output / "last.pt").exists():
        raise InputError(f"{output} holds a run already: go on with it (resume), or name another folder")
    if resume and not (output / "last.pt").is_file():
        raise InputError(f"{output} has no last.pt to resume from: start the run without resume")
    if dataset is None:
        dataset = load(config.data)
    output.mkdir(parents=True, exist_ok=True)
    if resume:
        config = _resumed(config, output)
    else:
        config = _measured(_completed(config, dataset), dataset)
        _write_yaml(output / "config.yaml", config)
        _write_json(output / "environment.json", environment())
    if config.threads:
        torch.set_num_threads(config.threads)
    precision = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[config.precision]
    fabric = fabric_module.Fabric(
        accelerator=accelerator,
        devices=config.devices,
        strategy="ddp_spawn" if config.devices > 1 else "auto",
        precision=precision,
    )
    outcome = fabric.launch(_run, config, output, resume, dataset, show if config.devices == 1 else None)
    return outcome if outcome is not None else Result(**json.loads((output / "result.json").read_text()))
