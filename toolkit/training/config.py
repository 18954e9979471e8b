"""The settings of a training run, as config.yaml has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError

from toolkit.runtime import InputError, whole_file
from toolkit.training.recipe import DEFAULTS, Recipe, default_recipe, first_fault, read_yaml, recipe

R = TypeVar("R", bound=Recipe)


class Config(BaseModel):
    """All settings of a run, as its config.yaml has them."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: str  # name of a data set's card, or a folder
    model: str  # name in the zoo
    recipe: SerializeAsAny[Recipe]
    changes: dict[str, Any] = {}  # of the network's spec (toolkit.models.spec.change), such as se or width
    weights: str | None = None  # to start from: "published", or a .weights, .caffemodel or .pt file
    size: tuple[int, int] | None = None  # network input (w, h); None: see training.detection.input_size
    # auto: those of `weights` for the same classes; else fitted where under 98 % of the objects are reached
    anchors: Literal["auto", "keep", "fit"] = "auto"
    train_split: str = "train"
    val_split: str = "val"
    teacher: str | None = None  # name in the zoo, or the folder of a run
    seed: int = 0
    order: int | None = None  # separate seed for the order and augmentation of the pictures
    validations: int = Field(10, ge=1)  # over the whole run
    device: str = "auto"
    devices: int = Field(1, ge=1)  # processes or GPUs
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    threads: int = 0  # of torch on a CPU; 0: unchanged
    workers: int = 0  # processes that make batches; 0: a thread
    compile: bool = False
    cache_gb: float = 8.0  # largest file of decoded pictures
    stop_at: int | None = None  # leave after this step, as after a signal
    # "validation", "anchors": what `tasks.complete` decided where the data left it open
    notes: dict[str, str] = {}

    def recipe_as(self, kind: type[R]) -> R:
        """The recipe, typed; InputError where it is for another task than this kind."""
        if not isinstance(self.recipe, kind):
            raise InputError(
                f"the recipe {self.recipe.name!r} is for {self.recipe.task} and does not fit {self.model}: "
                f"use the recipe {DEFAULTS[kind.task].name!r}, or one whose loss is {', '.join(kind.losses)}"
            )
        return self.recipe


def read_config(source: Mapping[str, Any] | str | Path) -> Config:
    """The settings of a run from a mapping or a YAML file.

    Args:
        source: fields of `Config`; `recipe` may be left out, a name, a mapping of levers, or a `Recipe`.

    Returns:
        The settings, with defaults for what was left out.

    Raises:
        InputError: names the first field that does not fit.

    >>> config = read_config({"data": "toy", "model": "landmark106"})
    >>> config.recipe.name, config.seed
    ('landmarks', 0)
    """
    data = _mapping(source)
    chosen = recipe(data.pop("recipe", default_recipe(str(data.get("model", "")))))
    try:
        return Config(**data, recipe=chosen)
    except ValidationError as error:
        raise InputError(first_fault("the settings", error)) from None


def merged_config(
    source: Mapping[str, Any] | str | Path | None = None,
    levers: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Config:
    """Settings of a file with others on top: what `toolkit train` runs with.

    Args:
        source: as in `read_config`, or None for no file. Without `data` and `model`: fastest-v2 on the toy
            set.
        levers: of the recipe, by name.
        **settings: fields of `Config`; None and "" leave what `source` has.

    Returns:
        The merged settings.

    Raises:
        InputError: names the first field or lever that does not fit.

    >>> stored = {"seed": 3, "recipe": {"name": "seed", "batch": 8}}
    >>> config = merged_config(stored, {"ema": 0.9}, model="nano-voc")
    >>> config.model, config.seed, config.recipe.batch, config.recipe.ema
    ('nano-voc', 3, 8, 0.9)
    """
    stated = {name: value for name, value in settings.items() if value not in (None, "")}
    data = {"data": "toy", "model": "fastest-v2", **_mapping(source or {}), **stated}
    base = data.get("recipe", default_recipe(str(data["model"])))
    return read_config({**data, "recipe": recipe(base, **(levers or {}))})


def check_resumed(
    stored: Config, settings: Mapping[str, Any] | None = None, levers: Mapping[str, Any] | None = None
) -> None:
    """Raises InputError where settings, or levers of the recipe, are not those of the run that is resumed."""
    changed = recipe(stored.recipe, **(levers or {}))
    pairs = [(name, getattr(stored, name), value) for name, value in (settings or {}).items()]
    pairs += [(name, getattr(stored.recipe, name), getattr(changed, name)) for name in levers or {}]
    for name, own, value in pairs:
        if own != value:
            raise InputError(
                f"the run has {name} = {own}, not {value}: resume it without that, or name another folder"
            )


def read_levers(texts: Iterable[str]) -> dict[str, Any]:
    """Levers from texts such as "ema=0" and "scale=[0.9, 1.1]"; values are YAML. InputError for others.

    >>> read_levers(["ema=0", "scale=[0.9, 1.1]", "assigner=tal"])
    {'ema': 0, 'scale': [0.9, 1.1], 'assigner': 'tal'}
    """
    levers = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            levers[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise InputError(f"a lever is NAME=VALUE, such as ema=0: found {text!r}")
    return levers


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


def _mapping(source: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    return read_yaml(source, f"there is no settings file {source}: name a config.yaml")
