"""The settings of a training run, as config.yaml holds them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.runtime import InputError, whole_file
from toolkit.training.recipe import Recipe, default_recipe, first_fault, read_yaml, recipe


class Config(BaseModel):
    """A whole run, as its config.yaml holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: str
    model: str
    recipe: Recipe
    changes: dict[str, Any] = {}  # of the network's spec (toolkit.models.spec.change), such as se or width
    weights: str | None = None  # to start from: "published", or a .weights or .pt file
    size: tuple[int, int] | None = None  # of the network's input; None: see `input_size`
    # auto: those of `weights` for the same classes; else fitted where under 98 % of the objects are reached
    anchors: Literal["auto", "keep", "fit"] = "auto"
    train_split: str = "train"
    val_split: str = "val"
    teacher: str | None = None
    seed: int = 0
    order: int | None = None  # a seed of its own for the order and augmentation of the pictures
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
    chosen = recipe(data.pop("recipe", default_recipe(str(data.get("model", "")))))
    try:
        return Config(**data, recipe=chosen)
    except ValidationError as error:
        raise InputError(first_fault("the settings", error)) from None


def write_config(path: Path, config: Config) -> None:
    """What `read_config` reads."""
    data = config.model_dump()
    data["recipe"]["augmentation"] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(config.recipe.augmentation).items()
    }
    data["size"] = list(config.size) if config.size else None
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(data, sort_keys=False))
