"""How a network is trained: optimiser, schedule, pictures and losses, with every lever as a field.

`Recipe` has what all trainings share, `DetectionRecipe` and `LandmarkRecipe` add the levers of their task.
A recipe is data: `recipe("modern", ema=0)` turns one lever and leaves the rest, as an ablation does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from toolkit.data.augment import Augmentation
from toolkit.models.zoo import ZOO
from toolkit.runtime import InputError
from toolkit.text import first_fault, read_yaml, short

LONGEST = 100_000  # epochs of a training
DetectionLoss = Literal["modern", "darknet", "darknet-fork"]
LandmarkLoss = Literal["wing", "smooth-l1", "gaussian"]


class Recipe(BaseModel):
    """The levers of every training.

    Shares are parts of the whole budget, 0..1; 0 or None turns a lever off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    task: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]

    name: str
    loss: str
    # optimiser and schedule
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(gt=0, le=1e30)
    momentum: float = Field(0.9, ge=0, lt=1)  # AdamW's first beta
    weight_decay: float = Field(ge=0)  # on the weights of convolutions
    schedule: Literal["cosine", "steps"] = "cosine"
    warmup: float = Field(0.05, ge=0, le=1)  # share
    last_rate: float = Field(0.01, ge=0, le=1)  # where the cosine ends, relative to learning_rate
    batch: int = Field(32, ge=1, le=16_384)
    accumulate: int = Field(1, ge=1, le=10_000)  # batches in one step of the optimiser
    clip: float = Field(10.0, ge=0)  # largest norm of the gradient
    ema: float = Field(0.998, ge=0, lt=1)  # decay of the averaged weights in one step
    freeze: float = Field(0.0, ge=0, le=1)  # first share of the budget, with the backbone frozen
    epochs: float = Field(gt=0, le=LONGEST)
    # pictures
    augmentation: Augmentation

    def rate(self, share: float, start: float = 0.0) -> float:
        """The factor on the learning rate when a share of the budget is spent.

        "steps" is darknet's burn-in, (share / warmup) ** 4, then a tenth from 80 % and a hundredth from 90 %.
        "cosine" is a linear warm-up, then half a cosine down to `last_rate`.

        Args:
            share: spent part of the budget, 0..1.
            start: share of one step, added during the warm-up so that the first step moves.

        Returns:
            The factor, 0..1.

        >>> [round(RECIPES["seed"].rate(share), 3) for share in (0.01, 0.5, 0.85, 0.95)]
        [0.062, 1.0, 0.1, 0.01]
        """
        if self.warmup and share + start < self.warmup:
            part = (share + start) / self.warmup
            return part**4 if self.schedule == "steps" else part
        if self.schedule == "steps":
            return 0.1 ** ((share >= 0.8) + (share >= 0.9))
        part = (share - self.warmup) / max(1 - self.warmup, 1e-9)
        return self.last_rate + (1 - self.last_rate) * (1 + math.cos(math.pi * min(part, 1))) / 2

    def augmentation_at(self, step: int, steps: int) -> Augmentation:
        """The augmentation in a step, counted from 0, of a training of `steps`."""
        return self.augmentation

    def size_at(self, step: int, size: tuple[int, int], stride: int, seed: int) -> tuple[int, int]:
        """The network's input (w, h) in a step, for a network whose own input is `size`."""
        return size


class DetectionRecipe(Recipe):
    """The levers of a detector's training."""

    task: ClassVar[str] = "detection"
    losses: ClassVar[tuple[str, ...]] = get_args(DetectionLoss)

    loss: DetectionLoss
    assigner: Literal["anchor", "simota", "tal"] = "simota"
    iou_kind: Literal["iou", "giou", "diou", "ciou"] = "ciou"
    iou_aware: bool = True
    spare_iou: float = Field(1.0, gt=0, le=1)  # boxes that overlap a truth more are not background
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    box_weight: float = Field(5.0, ge=0)
    obj_weight: float = Field(1.0, ge=0)
    cls_weight: float = Field(1.0, ge=0)
    distill_weight: float = Field(1.0, ge=0)  # of the teacher's part, where there is a teacher
    plain_share: float = Field(0.15, ge=0, le=1)  # last share of the budget, without mosaic
    # darknet's `random`: input sides are scaled by a factor in [1 / (1 + r), 1 + r]
    multi_scale: float = Field(0.0, ge=0, lt=1)

    def augmentation_at(self, step: int, steps: int) -> Augmentation:
        """Without mosaic in the last `plain_share` of the budget."""
        if step < steps * (1 - self.plain_share):
            return self.augmentation
        return replace(self.augmentation, mosaic=0.0)

    def size_at(self, step: int, size: tuple[int, int], stride: int, seed: int) -> tuple[int, int]:
        """With `multi_scale` another size every ten steps, as darknet does; multiples of the stride."""
        if not self.multi_scale:
            return size
        rng = np.random.default_rng((seed, step // 10, 7))
        factor = rng.uniform(1, 1 + self.multi_scale) ** rng.choice((-1, 1))
        width, height = (round(factor * side / stride + 1) * stride for side in size)
        return width, height


class LandmarkRecipe(Recipe):
    """The levers of a landmark network's training."""

    task: ClassVar[str] = "landmarks"
    losses: ClassVar[tuple[str, ...]] = get_args(LandmarkLoss)

    loss: LandmarkLoss


SEED = DetectionRecipe(
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
# The mosaic's pieces keep about their own size: a small network cannot see them at the usual reduced size.
MODERN = DetectionRecipe(
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
LANDMARKS = LandmarkRecipe(
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
RECIPES: dict[str, Recipe] = {each.name: each for each in (SEED, MODERN, LANDMARKS)}
DEFAULTS: dict[str, Recipe] = {each.task: each for each in (MODERN, LANDMARKS)}  # by task


def default_recipe(model: str) -> str:
    """The name of the recipe that a network is trained with unless another is named.

    Args:
        model: a name of the zoo; for any other name the answer is the detectors' recipe.

    Returns:
        A key of `RECIPES`.

    >>> default_recipe("fastest-v2"), default_recipe("landmark106")
    ('modern', 'landmarks')
    """
    spec = ZOO.get(model)
    return (DEFAULTS[spec.io.task] if spec else MODERN).name


def recipe(name: str | Path | Recipe | Mapping[str, Any], **changes: Any) -> Recipe:
    """A recipe, with some levers changed.

    Args:
        name: "seed", "modern" or "landmarks", a YAML file, a mapping, or a recipe. What a file or mapping
            leaves out is as in the recipe of its `name`; under any other name, as in the default recipe of
            the task that has its `loss`.
        **changes: fields of the recipe or of its `Augmentation`.

    Returns:
        A `DetectionRecipe` or a `LandmarkRecipe`.

    Raises:
        InputError: for an unknown name or lever and for a value out of range. A lever of another task is
            accepted at its default only, which earlier versions wrote into every config.yaml.

    >>> mine = recipe("modern", ema=0, mosaic=0.3)
    >>> mine.name, mine.ema, mine.augmentation.mosaic, mine.epochs
    ('modern', 0.0, 0.3, 42.0)
    """
    levers: dict[str, Any] = {}
    if isinstance(name, Recipe):
        base = name
    elif isinstance(name, str | Path) and str(name) in RECIPES:
        base = RECIPES[str(name)]
    else:
        unknown = f"unknown recipe {short(str(name))}: expected {', '.join(RECIPES)} or a .yaml file"
        if not isinstance(name, str | Path | Mapping):
            raise InputError(unknown)
        levers = dict(name) if isinstance(name, Mapping) else read_yaml(name, unknown)
        base = _base(levers)
        levers = _without_foreign(levers, base, MODERN)  # which once filled in what a mapping left out
    stated = levers.pop("augmentation", None) or {}
    if not isinstance(stated, Mapping):
        raise InputError(f"augmentation should be a mapping such as {{mosaic: 0.5}}, not {short(stated)}")
    names = {field.name for field in dataclass_fields(Augmentation)}
    pictures = {**asdict(base.augmentation), **stated, **{k: changes[k] for k in changes if k in names}}
    changes = {key: value for key, value in changes.items() if key not in names}
    levers = {**dict(base), **levers, **_without_foreign(changes, base)}
    strange = [key for key in levers if key not in type(base).model_fields]
    strange += [key for key in pictures if key not in names]
    if strange:
        known = sorted({*type(base).model_fields, *names} - {"augmentation"})
        raise InputError(f"unknown lever {short(strange[0])}: a recipe has {', '.join(known)}")
    try:
        augmentation = TypeAdapter(Augmentation).validate_python(pictures)
        return type(base)(**{**levers, "augmentation": augmentation})
    except ValidationError as error:
        raise InputError(first_fault("the recipe", error)) from None


def _base(levers: Mapping[str, Any]) -> Recipe:
    """The recipe that fills in what a mapping leaves out."""
    named, loss = RECIPES.get(str(levers.get("name")), MODERN), levers.get("loss")
    if loss is None or loss in named.losses:
        return named
    return next((each for each in DEFAULTS.values() if loss in each.losses), named)


def _without_foreign(levers: Mapping[str, Any], base: Recipe, *others: Recipe) -> dict[str, Any]:
    """Without the levers of other tasks, which must be at their default or as in `others`."""
    own, kept = type(base).model_fields, dict(levers)
    for other in DEFAULTS.values():
        for key, field in type(other).model_fields.items():
            if key in own or key not in kept:
                continue
            value = kept.pop(key)
            if value not in (field.default, *(getattr(each, key) for each in others)):
                raise InputError(
                    f"{key} = {short(value)} is a lever of {other.task}, which the recipe {base.name} for "
                    f"{base.task} does not have: leave it out, or set {key} to {field.default!r}"
                )
    return kept
