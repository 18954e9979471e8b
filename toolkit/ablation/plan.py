"""The plan of a study: factors, levels, seeds and budget, as read from study.yaml."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.data.augment import Augmentation
from toolkit.models.detector import Detector
from toolkit.models.spec import KINDS, WrongKind
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError
from toolkit.text import first_fault, read_record, read_yaml, short
from toolkit.training.checkpoint import check_published
from toolkit.training.config import Seed, read_config, read_recipe
from toolkit.training.origin import Origin, check_changes, read_origin
from toolkit.training.recipe import LONGEST, DetectionRecipe, recipe

STRUCTURE = ("se", "csp", "spp", "activation")  # may be matched by width
SHAPE = (*STRUCTURE, "width", "input_size")
RUN = ("order",)  # settings of a run that are not in its recipe
LEVERS = (*DetectionRecipe.model_fields, *(field.name for field in fields(Augmentation)))
CFG_FIELDS = ("cfg", "names", "partial")
BUDGETED = ("batch", "accumulate")  # change what a number of steps or epochs means
MOST_CELLS = 10_000  # of a study
MOST_LEVELS = 1000  # of a factor


class Budget(BaseModel):
    """How long every cell trains: exactly one of the three is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float | None = Field(None, gt=0, le=LONGEST)
    steps: int | None = Field(None, ge=1, le=10**9)
    seconds: float | None = Field(None, gt=0, le=10**8)


class Search(BaseModel):
    """A sampler chooses the cells, within limits on the cost of a network.

    `trials` counts the cells that are trained; a network over a limit is rejected before its training. The
    search ends after `TRIES` times as many cells, trained or rejected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int = Field(ge=1, le=MOST_CELLS)
    sampler: Literal["tpe", "nsga2", "random"] = "tpe"
    latency_ms: float | None = Field(None, gt=0)  # of ncnn, one thread
    device: str = ""  # where it is timed, as in `toolkit time --device`; "": ncnn's wheel on this machine
    mmac: float | None = Field(None, gt=0)  # million multiply-adds
    bflops: float | None = Field(None, gt=0)
    kilobytes: float | None = Field(None, gt=0)
    prune: bool = True  # stop a training that is worse than half of the others at the same step


class Plan(BaseModel):
    """A study as its YAML file describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    data: str = "toy"
    model: str = "fastest-v2"  # name in the zoo, or file name of a darknet cfg
    cfg: str = ""  # text of that cfg
    names: tuple[str, ...] = ()  # of its classes and those of its weights
    changes: dict[str, Any] = {}  # of the base network
    weights: str | None = None
    partial: bool = False  # `weights` go as far as they go
    recipe: DetectionRecipe
    factors: dict[str, list[Any]]  # name -> levels
    seeds: list[Seed] = Field([0, 1, 2], min_length=1)
    budget: Budget
    fraction: Literal[1, 2] = 1  # 2: only the half whose level indices have an even sum
    matching: Literal["as-is", "width", "both"] = "as-is"
    score: Literal["map50", "widerface"] = "map50"
    test_split: str = ""  # scored once with the best checkpoint; "": the validation score counts
    val_split: str = "val"
    validations: int = Field(4, ge=1, le=10_000)
    search: Search | None = None

    @property
    def origin(self) -> Origin:
        """The network before its changes."""
        return Origin(self.model, self.cfg, self.names)

    @property
    def own_network(self) -> dict[str, Any]:
        """The fields that a training has too, and that say what its network is and starts from."""
        return {name: getattr(self, name) for name in ("model", "cfg", "names", "weights", "partial")}


def read_plan(source: dict[str, Any] | str | Path) -> Plan:
    """Read and check a study.

    Args:
        source: a mapping, or the path of a YAML file, with the fields of `Plan`; `recipe` may be a name,
            `model` the path of a darknet cfg, whose text the plan then has, and `names` the file of its class
            names.

    Returns:
        The plan, frozen.

    Raises:
        InputError: the first field, factor or level that is missing, unknown or out of range.

    >>> plan = read_plan({"name": "se", "factors": {"se": [False, True]}, "budget": {"steps": 100}})
    >>> plan.model, plan.seeds, plan.budget.steps
    ('fastest-v2', [0, 1, 2], 100)
    """
    data = dict(source if isinstance(source, dict) else read_yaml(source, f"there is no study file {source}"))
    model = str(data.get("model", Plan.model_fields["model"].default))
    origin, _ = read_origin(model, str(data.get("cfg", "")), data.pop("names", None) or None)
    data |= {"model": origin.name, "cfg": origin.cfg, "names": origin.names}
    check_changes(data.get("changes"))
    base = read_recipe(data.pop("recipe", "modern"), origin)
    if not isinstance(base, DetectionRecipe):
        raise InputError(f"a study trains detectors, the recipe {base.name} is for {base.task}: use modern")
    try:
        plan = Plan(**data, recipe=base)
    except ValidationError as error:
        raise InputError(first_fault("the study", error)) from None
    if not plan.cfg and plan.model not in SPECS:
        raise InputError(
            f"unknown network {short(plan.model)}: expected one of {', '.join(SPECS)}, or a darknet .cfg"
        )
    check_published(plan.origin, plan.weights)
    if plan.cfg:
        plan.origin.shadow(Detector, **plan.changes)
    if "epochs" in plan.factors:
        raise InputError("epochs cannot be a factor, as the budget sets them: run a study for each budget")
    names = {*SHAPE, *RUN, *LEVERS} - {"name", "augmentation", "kind", "epochs"}
    for name, levels in plan.factors.items():
        if name not in names:
            raise InputError(f"unknown factor {short(name)}: expected one of {', '.join(sorted(names))}")
        if plan.cfg and name in (*STRUCTURE, "width", "freeze"):
            raise InputError(
                f"the factor {name} needs a network of the zoo, whose blocks are known: of {plan.model} the "
                "levers of the recipe and input_size can be factors"
            )
        try:
            different = len({json.dumps(level) for level in levels})
        except TypeError:  # such as a date, which YAML has
            raise InputError(
                f"the levels of {name} must be numbers, words or lists, found {short(levels)}"
            ) from None
        if len(levels) < 2 or different < len(levels):
            raise InputError(f"the factor {name} needs two or more different levels, found {short(levels)}")
        if len(levels) > MOST_LEVELS:
            raise InputError(f"the factor {name} has {len(levels)} levels: expected {MOST_LEVELS} at most")
    if not plan.factors:
        raise InputError("a study needs a factor, such as `se: [false, true]`")
    units = [name for name, value in plan.budget if value is not None]
    if len(units) != 1:
        raise InputError(f"a budget is one of epochs, steps and seconds, found {', '.join(units) or 'none'}")
    touched = sorted(set(plan.factors) & set(BUDGETED))
    if touched and units != ["seconds"]:
        raise InputError(
            f"the factor {touched[0]} changes how many steps or pictures a cell gets, so a budget in "
            f"{units[0]} would not be the same for all cells: give the budget in seconds"
        )
    if plan.fraction == 2 and len(plan.factors) < 3:
        raise InputError("half of a factorial cannot separate fewer than three factors: set fraction to 1")
    if plan.matching != "as-is" and plan.cfg:
        raise InputError(
            f"matching = {plan.matching} changes the width, which a cfg does not have: set it to as-is"
        )
    if plan.matching != "as-is" and "width" in plan.factors:
        raise InputError(
            "width cannot be a factor while networks are matched by width: remove one of the two"
        )
    if plan.search is None:
        _check_number(plan)
    return plan


def _check_number(plan: Plan) -> None:
    """InputError for more than `MOST_CELLS` cells, before any of them is made."""
    combinations = math.prod(map(len, plan.factors.values()))
    count = combinations * len(plan.seeds) * (1 + (plan.matching == "both")) // plan.fraction
    if count > MOST_CELLS:
        numbers = " x ".join(f"{len(levels)} {name}" for name, levels in [*plan.factors.items()][:8])
        raise InputError(
            f"the study {short(plan.name)} has up to {short(count)} cells ({numbers}, {len(plan.seeds)} "
            f"seeds): expected {MOST_CELLS} at most; leave factors or levels out, or name a search"
        )


def stored_plan(folder: str | Path) -> Plan:
    """The plan kept in a study's folder. Raises InputError if there is none or it is damaged."""
    file = Path(folder) / "plan.json"
    if not file.is_file():
        raise InputError(f"{folder} has no study: expected a folder that `toolkit ablate run` wrote")
    return read_plan(read_record(file, dict[str, Any], "run the study again to rewrite it"))


def check(plan: Plan) -> None:
    """Raise InputError for a level that no cell can have: a value out of range or of the wrong type.

    A network that cannot be built for another reason, such as an input size that is not a multiple of the
    stride, is a fault of its cell only: the cell is marked and the others run.
    """
    for name, levels in [("", [None]), *plan.factors.items()]:
        for level in levels:
            try:
                if name in SHAPE:
                    plan.origin.build(Detector, **spec_changes(plan, {name: level}))
                elif name in RUN:
                    read_config({"data": plan.data, **plan.own_network, name: level})
                elif name:
                    recipe(plan.recipe, **{name: level})
                else:
                    plan.origin.build(Detector, **plan.changes)
            except (InputError, TypeError, ValueError) as error:
                if (name in SHAPE or not name) and not isinstance(error, WrongKind):
                    continue
                if name in SHAPE:
                    raise InputError(f"the factor {name} takes {KINDS[name]}, not {short(level)}") from None
                if name and not isinstance(error, InputError):
                    own = {**vars(plan.recipe.augmentation), **dict(plan.recipe)}[name]
                    raise InputError(
                        f"the factor {name} takes values such as {own!r}, not {short(level)}"
                    ) from None
                what = (
                    f"the factor {name} cannot be {short(level)}"
                    if name
                    else "the study's changes do not fit"
                )
                raise InputError(f"{what}: {error}") from None


def spec_changes(plan: Plan, levels: dict[str, Any]) -> dict[str, Any]:
    """Changes of the network: those of the plan, and the levels that concern its shape."""
    return {**plan.changes, **{name: level for name, level in levels.items() if name in SHAPE}}


def plan_record(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it; `read_plan` reads it back."""
    data = plan.model_dump()
    data["recipe"]["augmentation"] = vars(plan.recipe.augmentation)
    for name in CFG_FIELDS:
        if not data[name]:  # as in the records of version 0.1
            del data[name]
    record: dict[str, Any] = json.loads(json.dumps(data))
    return record
