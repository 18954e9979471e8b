"""The plan of a study: factors, levels, seeds, budget, as study.yaml holds them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.data.augment import Augmentation
from toolkit.models import create_model
from toolkit.models.spec import KINDS, WrongKind
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError
from toolkit.training.config import read_config
from toolkit.training.recipe import Recipe, first_fault, read_yaml, recipe

STRUCTURE = ("se", "csp", "spp", "activation")  # may be matched by width
SHAPE = (*STRUCTURE, "width", "input_size")
RUN = ("order",)  # fields of a run: the order of the data alone
LEVERS = (*Recipe.model_fields, *(field.name for field in fields(Augmentation)))
BUDGETED = ("batch", "accumulate")  # change what a number of steps or epochs means


class Budget(BaseModel):
    """What every cell gets. One of the three is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)


class Search(BaseModel):
    """Let a sampler choose the cells, within limits on what a network costs. `trials` counts the cells that
    are trained: one over the limit is known before its training. After `TRIES` times as many the search ends
    with what it has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(ge=1)
    sampler: Literal["tpe", "nsga2", "random"] = "tpe"
    latency_ms: float | None = Field(None, gt=0)  # of ncnn, one thread
    device: str = ""  # where that is timed, as `toolkit time --device` has it; "": ncnn's wheel here
    bflops: float | None = Field(None, gt=0)
    kilobytes: float | None = Field(None, gt=0)
    prune: bool = True  # stop what is worse than half of the others at the same step


class Plan(BaseModel):
    """A study as its YAML file states it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    data: str = "toy"
    model: str = "fastest-v2"
    changes: dict[str, Any] = {}  # of the base network
    weights: str | None = None
    recipe: Recipe
    factors: dict[str, list[Any]]  # each with its levels
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    budget: Budget
    fraction: Literal[1, 2] = 1  # 2: half of the factorial, where the levels' indices sum to an even number
    matching: Literal["as-is", "width", "both"] = "as-is"
    score: Literal["map50", "widerface"] = "map50"
    test_split: str = ""  # scored once with the best checkpoint; otherwise the validation's own figure counts
    val_split: str = "val"
    validations: int = Field(4, ge=1)
    search: Search | None = None


def read_plan(source: dict[str, Any] | str | Path) -> Plan:
    """A Plan from a mapping or a YAML file. Raises InputError with the first thing that does not fit."""
    data = dict(source if isinstance(source, dict) else read_yaml(source, f"there is no study file {source}"))
    base = recipe(data.pop("recipe", "modern"))
    try:
        plan = Plan(**data, recipe=base)
    except ValidationError as error:
        raise InputError(first_fault("the study", error)) from None
    if plan.model not in SPECS:
        raise InputError(f"unknown network {plan.model!r}: known are {', '.join(SPECS)}")
    if "epochs" in plan.factors:
        raise InputError("epochs cannot be a factor, as the budget sets them: run a study for each budget")
    known = {*SHAPE, *RUN, *LEVERS} - {"name", "augmentation", "kind", "epochs"}
    for name, levels in plan.factors.items():
        if name not in known:
            raise InputError(f"unknown factor {name!r}: known are {', '.join(sorted(known))}")
        try:
            different = len({json.dumps(level) for level in levels})
        except TypeError:  # such as a date, which YAML knows
            raise InputError(
                f"the levels of {name} are to be numbers, words or lists: found {levels}"
            ) from None
        if len(levels) < 2 or different < len(levels):
            raise InputError(f"the factor {name} needs two or more levels, all different: found {levels}")
    if not plan.factors:
        raise InputError("a study needs a factor, such as `se: [false, true]`")
    given = [name for name, value in plan.budget if value is not None]
    if len(given) != 1:
        raise InputError(f"a budget is one of epochs, steps and seconds: found {', '.join(given) or 'none'}")
    touched = sorted(set(plan.factors) & set(BUDGETED))
    if touched and given != ["seconds"]:
        raise InputError(
            f"the factor {touched[0]} changes how many steps or pictures a cell gets, so a budget of "
            f"{given[0]} would not be matched: give the budget in seconds"
        )
    if plan.fraction == 2 and len(plan.factors) < 3:
        raise InputError("half of a factorial mixes up its factors where there are fewer than three: run all")
    if plan.matching != "as-is" and "width" in plan.factors:
        raise InputError("width cannot be a factor where networks are matched by width: choose one")
    return plan


def stored_plan(folder: str | Path) -> Plan:
    """The plan of a study's folder. Raises InputError where it holds none or a damaged one."""
    file = Path(folder) / "plan.json"
    if not file.is_file():
        raise InputError(f"{folder} holds no study: expected the folder that `toolkit ablate run` wrote")
    try:
        data = json.loads(file.read_text())
    except ValueError:  # of JSON, and of UTF-8
        data = None
    if not isinstance(data, dict):
        raise InputError(f"{file} is damaged: run the study again, which writes it anew")
    return read_plan(data)


def check(plan: Plan) -> None:
    """Raises InputError for a level that no cell can have: a lever out of its range, or what is of the wrong
    kind for a network. A network that cannot be built for another reason, such as an input beside the stride,
    is the fault of its cell, which is kept, and the rest goes on."""
    for name, levels in [("", [None]), *plan.factors.items()]:
        for level in levels:
            try:
                if name in SHAPE:
                    create_model(plan.model, **spec_changes(plan, {name: level}))
                elif name in RUN:
                    read_config({"data": plan.data, "model": plan.model, name: level})
                elif name:
                    recipe(plan.recipe, **{name: level})
                else:
                    create_model(plan.model, **plan.changes)
            except (InputError, TypeError, ValueError) as error:
                if (name in SHAPE or not name) and not isinstance(error, WrongKind):
                    continue
                if name in SHAPE:
                    raise InputError(f"the factor {name} takes {KINDS[name]}, not {level!r}") from None
                if name and not isinstance(error, InputError):
                    own = {**vars(plan.recipe.augmentation), **dict(plan.recipe)}[name]
                    raise InputError(
                        f"the factor {name} takes values such as {own!r}, not {level!r}"
                    ) from None
                what = f"the factor {name} cannot be {level!r}" if name else "the study's changes do not fit"
                raise InputError(f"{what}: {error}") from None


def spec_changes(plan: Plan, levels: dict[str, Any]) -> dict[str, Any]:
    return {**plan.changes, **{name: level for name, level in levels.items() if name in SHAPE}}


def plan_record(plan: Plan) -> dict[str, Any]:
    data = plan.model_dump()
    data["recipe"]["augmentation"] = vars(plan.recipe.augmentation)
    return json.loads(json.dumps(data))
