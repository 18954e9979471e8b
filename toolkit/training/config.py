"""The settings of a training run, as config.yaml has them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError

from toolkit.files import whole_file
from toolkit.models.bounds import GIGABYTE, LONGEST_SIDE, free_memory
from toolkit.models.cost import measure
from toolkit.models.network import TorchNetwork
from toolkit.runtime import InputError
from toolkit.text import first_fault, parse_yaml, read_yaml, short
from toolkit.training.origin import Origin, check_changes, read_origin
from toolkit.training.recipe import (
    DEFAULTS,
    RECIPES,
    Recipe,
    default_recipe,
    recipe,
)

R = TypeVar("R", bound=Recipe)
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Config(BaseModel):
    """All settings of a run, as its config.yaml has them."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    data: str  # name of a data set's card, or a folder
    model: str  # name in the zoo, or file name of a darknet cfg
    cfg: str = ""  # text of that cfg, without comments
    names: tuple[str, ...] = ()  # of its classes and those of its weights; the new ones are in `changes`
    recipe: SerializeAsAny[Recipe]
    # of a network of the zoo as in toolkit.models.spec.change; of a cfg classes, input_size and anchors
    changes: dict[str, Any] = {}
    weights: str | None = None  # to start from: "published", a name in the zoo, or a file (see `start_from`)
    partial: bool = False  # `weights` go as far as they go; .conv.N always do
    size: tuple[Side, Side] | None = None  # network input (w, h); None: see training.detection.input_size
    # auto: those of `weights` for the same classes; else fitted where under 98 % of the objects are reached
    anchors: Literal["auto", "keep", "fit"] = "auto"
    train_split: str = "train"
    val_split: str = "val"
    teacher: str | None = None  # name in the zoo, or the folder of a run
    seed: Seed = 0
    order: Seed | None = None  # separate seed for the order and augmentation of the pictures
    validations: int = Field(10, ge=1, le=10_000)  # over the whole run
    device: str = "auto"
    devices: int = Field(1, ge=1, le=64)  # processes or GPUs
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    threads: int = Field(0, ge=0, le=1024)  # of torch on a CPU; 0: unchanged
    workers: int = Field(0, ge=0, le=256)  # processes that make batches; 0: a thread
    compile: bool = False
    cache_gb: float = Field(8.0, ge=0, le=100_000)  # largest file of decoded pictures
    stop_at: int | None = Field(None, ge=0)  # leave after this step, as after a signal
    # "validation", "anchors" and others: what was decided where settings, data and cfg left it open
    notes: dict[str, str] = {}

    @property
    def origin(self) -> Origin:
        """The network before its changes."""
        return Origin(self.model, self.cfg, self.names)

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
        source: fields of `Config`; `model` may be the path of a darknet cfg, whose text the settings then
            have, and `names` the file with its class names; `recipe` may be left out, a name, a mapping of
            levers, or a `Recipe`. A recipe named for a cfg has the cfg's own levers (`cfg_levers`).

    Returns:
        The settings, with defaults for what was left out.

    Raises:
        InputError: names the first field that does not fit.

    >>> config = read_config({"data": "toy", "model": "landmark106"})
    >>> config.recipe.name, config.seed
    ('landmarks', 0)
    """
    return _read(_mapping(source), {})


def _read(data: dict[str, Any], levers: Mapping[str, Any]) -> Config:
    model = str(data.get("model", ""))
    origin, sentence = read_origin(model, str(data.get("cfg", "")), data.pop("names", None) or None)
    if origin.cfg:
        data |= {"model": origin.name, "cfg": origin.cfg, "names": origin.names}
    if sentence:
        notes = data.get("notes")
        data["notes"] = {**(notes if isinstance(notes, Mapping) else {}), "names": sentence}
    if data.get("weights") == "":
        data["weights"] = None
    if data.get("partial") and not data.get("weights"):
        raise InputError("--partial is about the weights to start from: name them with --weights")
    check_changes(data.get("changes"))
    chosen = read_recipe(data.pop("recipe", default_recipe(model)), origin, levers)
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
    stored = _mapping(source or {})
    model = Path(str(stated.get("model", "")))
    if stored.get("cfg") and model.name == stored.get("model") and not model.is_file():
        stated["model"] = stored["model"]  # the file is gone, the settings have its text
    elif "model" in stated:
        stored = {key: value for key, value in stored.items() if key not in ("cfg", "names")}
    return _read({"data": "toy", "model": "fastest-v2", **stored, **stated}, levers or {})


def read_recipe(
    named: str | Path | Recipe | Mapping[str, Any], origin: Origin, levers: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of a run: as `recipe`, and one that is named for a cfg has the cfg's own levers.

    Args:
        named: as in `recipe`.
        origin: the network.
        levers: that take precedence, by name.

    Raises:
        InputError: as `recipe`.
    """
    own = cfg_levers(named, origin) if isinstance(named, str) else {}
    return recipe(named, **{**own, **(levers or {})})


def cfg_levers(name: str, origin: Origin) -> dict[str, Any]:
    """Levers that the recipe `name` takes from a cfg: the loss of today's darknet, for which it was written,
    not that of the seed's fork, and the jitter of its last head; none for the modern recipe and the zoo."""
    if not origin.cfg or name not in RECIPES or RECIPES[name].loss != "darknet-fork":
        return {}
    return {"loss": "darknet", "jitter": origin.sections[-1].real("jitter", 0.2)}


def check_step_memory(config: Config) -> None:
    """Raises InputError where one step cannot fit into the memory that is free: its feature maps alone, in
    the smallest precision, are larger. Of a run on a CPU whose size is known."""
    network = config.origin.shadow(TorchNetwork, **config.changes)
    cost = measure(network, config.size or network.io.input_size)
    values = sum(math.prod(layer.output_shape) for layer in cost.layers)
    need, free = 2 * values * config.recipe.batch * config.devices, free_memory()
    if need > free:
        raise InputError(
            f"a step with batch = {config.recipe.batch} at {cost.input_size[0]}x{cost.input_size[1]} needs "
            f"over {need / GIGABYTE:,.1f} GB, and {free / GIGABYTE:,.1f} GB of memory are free: use a "
            "smaller batch, with accumulate as many times larger, or a smaller size"
        )


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
            levers[name] = parse_yaml(value, text)
        except InputError:
            equals = ""
        if not equals or name == "name":  # which a recipe has, and no lever turns
            raise InputError(f"a lever is NAME=VALUE, such as ema=0: found {short(text)}")
    return levers


def write_config(path: Path, config: Config) -> None:
    """What `read_config` reads."""
    data = config.model_dump()
    data["recipe"]["augmentation"] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(config.recipe.augmentation).items()
    }
    data["size"] = list(config.size) if config.size else None
    data["names"] = list(config.names)
    with whole_file(path) as temporary:
        temporary.write_text(yaml.dump(data, Dumper=_Dumper, sort_keys=False))


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines, such as a cfg, as it is."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _lines)


def _mapping(source: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    return read_yaml(source, f"there is no settings file {source}: name a config.yaml")


def data_of(network: str | Path, default: str) -> str:
    """The data set of the training that a network comes from, known by the config.yaml next to its best.cfg;
    the default for any other network."""
    settings = Path(network).with_name("config.yaml")
    return read_config(settings).data if settings.is_file() else default
