"""How a network is taught: the seed's recipe, a modern one, and every lever between them as a field.

A recipe is data: `Recipe.model_copy(update={...})` or `recipe("modern", ema=0)` turns one lever and leaves
the rest, which is what an ablation does.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.data.augment import Augmentation
from toolkit.models.landmarks import LANDMARK_SPECS
from toolkit.runtime import InputError


class Recipe(BaseModel):
    """Every lever of a training. Shares are parts of the whole budget, 0..1; 0 or None turns a lever off."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    # loss
    loss: Literal["modern", "darknet", "darknet-fork", "wing", "smooth-l1", "gaussian"]
    assigner: Literal["anchor", "simota", "tal"] = "simota"
    iou_kind: Literal["iou", "giou", "diou", "ciou"] = "ciou"
    iou_aware: bool = True
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    box_weight: float = Field(5.0, ge=0)
    obj_weight: float = Field(1.0, ge=0)
    cls_weight: float = Field(1.0, ge=0)
    distill_weight: float = Field(1.0, ge=0)  # of the teacher's part, where there is a teacher
    # optimiser and schedule
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)  # AdamW's first beta
    weight_decay: float = Field(ge=0)  # on the weights of convolutions
    schedule: Literal["cosine", "steps"] = "cosine"
    warmup: float = Field(0.05, ge=0, le=1)  # share
    last_rate: float = Field(0.01, ge=0, le=1)  # of the learning rate, where the cosine ends
    batch: int = Field(32, ge=1)
    accumulate: int = Field(1, ge=1)  # batches to one step of the optimiser
    clip: float = Field(10.0, ge=0)  # longest gradient
    ema: float = Field(0.998, ge=0, lt=1)  # decay a step of the averaged weights
    # pictures
    augmentation: Augmentation
    plain_share: float = Field(0.15, ge=0, le=1)  # the last part of the budget, without mosaic
    multi_scale: float = Field(0.0, ge=0, lt=1)  # darknet's `random`: sides by up to 1 + r, or as much less
    freeze: float = Field(0.0, ge=0, le=1)  # the first part of the budget, with the backbone frozen
    epochs: float = Field(gt=0)

    def rate(self, share: float, start: float = 0.0) -> float:
        """The learning rate's factor, 0..1, when `share` of the budget is over.

        "steps": darknet's burn-in (share / warmup) ** 4, then a tenth at 80 % and again at 90 %.
        "cosine": linear warm-up, then half a cosine down to `last_rate`. `start`: share of one step, so that
        the first step moves.
        """
        if self.warmup and share + start < self.warmup:
            part = (share + start) / self.warmup
            return part**4 if self.schedule == "steps" else part
        if self.schedule == "steps":
            return 0.1 ** ((share >= 0.8) + (share >= 0.9))
        part = (share - self.warmup) / max(1 - self.warmup, 1e-9)
        return self.last_rate + (1 - self.last_rate) * (1 + math.cos(math.pi * min(part, 1))) / 2


SEED = Recipe(
    name="seed",
    loss="darknet-fork",
    optimizer="sgd",
    learning_rate=0.001,
    momentum=0.9,
    weight_decay=0.0005,
    schedule="steps",
    warmup=0.02,
    clip=0,
    ema=0,
    distill_weight=0,
    augmentation=Augmentation(
        kind="seed", flip=0.5, hue=0.1, saturation=1.5, exposure=1.5, jitter=0.1, fill=None
    ),
    plain_share=0,
    epochs=60,
)
# The mosaic's pieces stay at about their own size: a small network cannot see them reduced, as is usual.
MODERN = Recipe(
    name="modern",
    loss="modern",
    assigner="tal",
    learning_rate=0.02,
    weight_decay=0.01,
    batch=16,
    augmentation=Augmentation(
        flip=0.5,
        hue=0.05,
        saturation=1.6,
        exposure=1.6,
        scale=(0.8, 1.25),
        translate=0.1,
        mosaic=0.6,
        mosaic_scale=(0.7, 1.1),
    ),
    plain_share=0.2,
    epochs=42,
)
# For landmark networks; the last three losses are theirs, the first three detectors'.
LANDMARKS = Recipe(
    name="landmarks",
    loss="wing",
    learning_rate=0.004,
    weight_decay=0.01,
    batch=32,
    augmentation=Augmentation(
        flip=0.5,
        hue=0.03,
        saturation=1.5,
        exposure=1.6,
        scale=(0.9, 1.15),
        aspect=1.15,
        translate=0.06,
        rotate=25.0,
        occlude=0.3,
        poses=1.0,
    ),
    epochs=120,
)
RECIPES = {recipe.name: recipe for recipe in (SEED, MODERN, LANDMARKS)}


def default_recipe(model: str) -> str:
    """The name of the recipe that a network is trained with unless another is given."""
    return "landmarks" if model in LANDMARK_SPECS else "modern"


def recipe(name: str | Path | Recipe | dict[str, Any], **changes: Any) -> Recipe:
    """A recipe by name ("seed", "modern", "landmarks"), from a YAML file or from a mapping, with some levers
    changed.

    What a file or mapping leaves out is as in the recipe of its `name`, in "modern" where it has its own.
    `changes` are fields of `Recipe`; fields of `Augmentation` may be given among them. Raises InputError for
    an unknown name or lever and for a value out of range.
    """
    if isinstance(name, Recipe):
        base = dict(name)
    elif not isinstance(name, dict) and str(name) in RECIPES:
        base = dict(RECIPES[str(name)])
    else:
        given = (
            name
            if isinstance(name, dict)
            else read_yaml(
                name, f"unknown recipe {str(name)!r}: known are {', '.join(RECIPES)}, or a .yaml file"
            )
        )
        ground = RECIPES.get(str(given.get("name", "modern")), MODERN)
        base = {**dict(ground), **given}
        base["augmentation"] = {**asdict(ground.augmentation), **(given.get("augmentation") or {})}
    levers = {field.name for field in dataclass_fields(Augmentation)}
    pictures = base["augmentation"]
    pictures = dict(pictures) if isinstance(pictures, dict) else asdict(pictures)
    pictures |= {key: changes.pop(key) for key in list(changes) if key in levers}
    pictures = {key: tuple(value) if isinstance(value, list) else value for key, value in pictures.items()}
    changes = {**base, **changes}
    del changes["augmentation"]
    unknown = sorted(set(changes) - set(Recipe.model_fields)) + sorted(set(pictures) - levers)
    if unknown:
        known = sorted({*Recipe.model_fields, *levers} - {"augmentation"})
        raise InputError(f"unknown lever {unknown[0]!r}: a recipe has {', '.join(known)}")
    try:
        return Recipe(**changes, augmentation=Augmentation(**pictures))
    except ValidationError as error:
        raise InputError(first_fault("the recipe", error)) from None


def read_yaml(path: str | Path, otherwise: str) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises InputError, with the sentence `otherwise` where there is no
    such file."""
    if not Path(path).is_file():
        raise InputError(otherwise)
    try:
        data = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no settings: expected lines such as `model: fastest-v2`")
    return data


def first_fault(what: str, error: ValidationError) -> str:
    """pydantic's first complaint as one sentence."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{what}: {where} = {fault['input']!r} is not accepted: {fault['msg'].lower()}"
