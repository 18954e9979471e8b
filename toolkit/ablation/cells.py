"""The cells of a study: combinations of levels and seeds, and the training settings of each."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any

from toolkit.ablation.plan import LEVERS, RUN, STRUCTURE, Plan, spec_changes
from toolkit.data.dataset import Dataset
from toolkit.models import create_model
from toolkit.models.cost import Cost, measure
from toolkit.models.detector import Detector
from toolkit.runtime import InputError
from toolkit.text import one_line
from toolkit.training.config import Config, read_config
from toolkit.training.recipe import recipe
from toolkit.training.splits import splits
from toolkit.training.tasks import complete

TOLERANCE = 0.02  # relative, of BFLOPs, when networks are matched by width


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes:
        levels: factor -> its level in this cell.
        matching: "as-is", "width" (the width is changed until the network costs as much as the base), or
            "base" (the network is the base itself or costs the same, so there is nothing to match).
        seed: of the training.
    """

    levels: dict[str, Any]
    matching: str
    seed: int

    @property
    def key(self) -> str:
        """Name of its folder: the levels in words and a hash that makes it unique."""
        text = json.dumps([self.levels, self.matching, self.seed], sort_keys=True)
        words = "-".join(f"{k}={v}" for k, v in self.levels.items())
        plain = "".join(c if c.isalnum() or c in "=-." else "_" for c in words)[:80]
        return f"{plain}-{self.matching}-s{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def cells(plan: Plan) -> list[Cell]:
    """All cells of a study, seed by seed, so that a study that is stopped early is balanced.

    >>> from toolkit.ablation.plan import read_plan
    >>> factors = {"se": [False, True], "ema": [0, 0.99]}
    >>> plan = read_plan({"name": "se", "factors": factors, "budget": {"steps": 9}, "seeds": [0, 1]})
    >>> len(cells(plan)), cells(plan)[0].levels
    (8, {'se': False, 'ema': 0})
    """
    names, factorial = list(plan.factors), []
    for seed in plan.seeds:
        for indices in itertools.product(*(range(len(levels)) for levels in plan.factors.values())):
            if sum(indices) % plan.fraction:
                continue
            levels = {name: plan.factors[name][i] for name, i in zip(names, indices, strict=True)}
            factorial += [Cell(levels, matching, seed) for matching in _matchings(plan, levels)]
    return factorial


def _matchings(plan: Plan, levels: dict[str, Any]) -> tuple[str, ...]:
    """How a combination is matched: not at all if its network is the base, or costs the same."""
    plain = {name: level for name, level in levels.items() if name not in STRUCTURE}
    if plain == levels:
        return ("base",)
    try:
        own, base = (create_model(plan.model, **spec_changes(plan, part)) for part in (levels, plain))
        if own.spec == base.spec:
            return ("base",)
        if plan.matching == "as-is":
            return ("as-is",)
        if abs(network_cost(own).bflops / network_cost(base).bflops - 1) <= TOLERANCE:
            return ("base",)
    except InputError:
        return ("as-is",)  # its run will report that it cannot be built
    return ("as-is", "width") if plan.matching == "both" else ("width",)


def network_cost(model: Detector, name: str = "the network") -> Cost:
    """Cost of a network. Raises InputError if its changes make it impossible to run."""
    try:
        return measure(model)
    except (RuntimeError, TypeError) as error:  # from torch, such as for a pooling window of 0 or 2.5 px
        raise InputError(f"{name} cannot be run with these changes: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """The first line of a message, as it may be printed."""
    return one_line((str(error).splitlines() or [type(error).__name__])[0], 400)


def matched_width(model: str, changes: dict[str, Any], bflops: float) -> float:
    """The width multiplier with which the network costs `bflops`. InputError if none is within TOLERANCE."""

    def cost(width: float) -> float:
        return network_cost(create_model(model, **changes, width=width)).bflops

    low, high = 0.25, 4.0
    bflops_at: dict[float, float] = {}
    for _ in range(14):
        middle = round((low * high) ** 0.5, 4)
        bflops_at[middle] = cost(middle)
        if abs(bflops_at[middle] / bflops - 1) < TOLERANCE / 8:
            break
        low, high = (middle, high) if bflops_at[middle] < bflops else (low, middle)
    best = min(bflops_at, key=lambda width: abs(bflops_at[width] / bflops - 1))
    if abs(bflops_at[best] / bflops - 1) > TOLERANCE:
        raise InputError(
            f"no width brings {model} with {changes} to {bflops:.4f} BFLOPs: "
            f"the nearest is {bflops_at[best]:.4f}"
        )
    return best


def cell_config(plan: Plan, cell: Cell, dataset: Dataset) -> Config:
    """Settings of a cell's training. Raises InputError for a network that cannot be built."""
    changes = spec_changes(plan, cell.levels)
    levers = {name: value for name, value in cell.levels.items() if name in LEVERS}
    run = {name: value for name, value in cell.levels.items() if name in RUN}
    if plan.budget.epochs is not None:
        levers["epochs"] = plan.budget.epochs
    base = {
        "data": plan.data, **plan.own_network, "seed": cell.seed, **run,
        "val_split": plan.val_split, "validations": plan.validations,
        "precision": "fp32", "memory_format": "channels_last",
    }  # fmt: skip
    config = complete(
        read_config({**base, "changes": changes, "recipe": recipe(plan.recipe, **levers)}), dataset
    )
    if cell.matching == "width":
        plain = {
            name: value
            for name, value in config.changes.items()
            if name not in cell.levels or name not in STRUCTURE
        }
        target = network_cost(create_model(plan.model, **plain)).bflops
        width = matched_width(plan.model, config.changes, target)
        config = config.model_copy(update={"changes": {**config.changes, "width": width}})
    if plan.budget.steps is not None:
        train_set, _ = splits(config, dataset)
        per_step = config.recipe.batch * config.recipe.accumulate
        epochs = plan.budget.steps / max(1, len(train_set) // per_step)
        config = config.model_copy(update={"recipe": recipe(config.recipe, epochs=epochs)})
    network_cost(config.origin.build(Detector, **config.changes), config.model)
    return config
