"""A controlled study: factors and a budget in, one trained cell for each combination and seed out.

Optuna's store holds the cells, so that any number of workers on any number of machines share them. Each cell
is one trial that is entered once; a worker takes it, keeps a heartbeat while it trains, and what a killed
worker held is taken up again. Nothing that is finished runs twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.data.augment import Augmentation
from toolkit.data.dataset import Dataset, load
from toolkit.device import timing
from toolkit.evaluation import PUBLISHED, detection, in_originals, predict, wider_truth, widerface
from toolkit.export import export_model, open_export
from toolkit.models import create_model
from toolkit.models.cost import Cost, measure
from toolkit.models.detector import SpecDetector
from toolkit.models.spec import KINDS, WrongKind
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError, progress, require, whole_file
from toolkit.timing import interleave
from toolkit.training.checkpoint import trained
from toolkit.training.loop import VALIDATION, Config, complete, read_config, splits, train
from toolkit.training.recipe import Recipe, first_fault, read_yaml, recipe

if TYPE_CHECKING:
    import optuna

STRUCTURE = ("se", "csp", "spp", "activation")  # may be matched by width
SHAPE = (*STRUCTURE, "width", "input_size")
RUN = ("order",)  # fields of a run: the order of the data alone
LEVERS = (*Recipe.model_fields, *(field.name for field in fields(Augmentation)))
BUDGETED = ("batch", "accumulate")  # change what a number of steps or epochs means
TOLERANCE = 0.02  # of BFLOPs, where networks are matched by width
HEARTBEAT, GRACE = 10, 40  # seconds
RETRIES = 5  # of a cell whose worker dies, in one go; the next run of the study begins anew
CRASHES = 3  # unexpected errors of a cell, after which it counts as failed
TRIES = 10  # cells that a search looks at, for each that it is to train


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
                    create_model(plan.model, **_changes(plan, {name: level}))
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


@dataclass(frozen=True)
class Cell:
    """One training of a study. `matching`: "base" (nothing to match), "as-is" or "width"."""

    levels: dict[str, Any]
    matching: str
    seed: int

    @property
    def key(self) -> str:
        """A name for its folder: the levels in words, with what makes them unique."""
        text = json.dumps([self.levels, self.matching, self.seed], sort_keys=True)
        words = "-".join(f"{k}={v}" for k, v in self.levels.items())
        plain = "".join(c if c.isalnum() or c in "=-." else "_" for c in words)[:80]
        return f"{plain}-{self.matching}-s{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def cells(plan: Plan) -> list[Cell]:
    """All cells of the factorial, seed by seed, so that a study that is stopped early is balanced."""
    names, found = list(plan.factors), []
    for seed in plan.seeds:
        for indices in itertools.product(*(range(len(levels)) for levels in plan.factors.values())):
            if sum(indices) % plan.fraction:
                continue
            levels = {name: plan.factors[name][i] for name, i in zip(names, indices, strict=True)}
            found += [Cell(levels, matching, seed) for matching in _matchings(plan, levels)]
    return found


def _matchings(plan: Plan, levels: dict[str, Any]) -> tuple[str, ...]:
    """A cell whose network is the base's own at that input size, or costs the same, needs no matching."""
    plain = {name: level for name, level in levels.items() if name not in STRUCTURE}
    try:
        own, base = (create_model(plan.model, **_changes(plan, part)) for part in (levels, plain))
        if own.spec == base.spec:
            return ("base",)
        if plan.matching == "as-is":
            return ("as-is",)
        if abs(_cost(own).bflops / _cost(base).bflops - 1) <= TOLERANCE:
            return ("base",)
    except InputError:
        return ("as-is",)  # which will be marked as one that cannot be built
    return ("as-is", "width") if plan.matching == "both" else ("width",)


def _changes(plan: Plan, levels: dict[str, Any]) -> dict[str, Any]:
    return {**plan.changes, **{name: level for name, level in levels.items() if name in SHAPE}}


def _cost(model: SpecDetector) -> Cost:
    try:
        return measure(model)
    except (RuntimeError, TypeError) as error:  # torch's, of a pooling window of 0 or 2.5 px and the like
        raise InputError(
            f"{model.spec.name} cannot be run with these changes: {_first_line(error)}"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def matched_width(model: str, changes: dict[str, Any], bflops: float) -> float:
    """The width multiplier that brings the network to `bflops`, within TOLERANCE; else InputError."""

    def cost(width: float) -> float:
        return _cost(create_model(model, **changes, width=width)).bflops

    low, high = 0.25, 4.0
    tried: dict[float, float] = {}
    for _ in range(14):
        middle = round((low * high) ** 0.5, 4)
        tried[middle] = cost(middle)
        if abs(tried[middle] / bflops - 1) < TOLERANCE / 8:
            break
        low, high = (middle, high) if tried[middle] < bflops else (low, middle)
    best = min(tried, key=lambda width: abs(tried[width] / bflops - 1))
    if abs(tried[best] / bflops - 1) > TOLERANCE:
        raise InputError(
            f"no width brings {model} with {changes} to {bflops:.4f} BFLOPs: {tried[best]:.4f} is nearest"
        )
    return best


def cell_config(plan: Plan, cell: Cell, dataset: Dataset) -> Config:
    """The settings of a cell's training. Raises InputError for a cell that cannot be built."""
    changes = _changes(plan, cell.levels)
    levers = {name: value for name, value in cell.levels.items() if name in LEVERS}
    run = {name: value for name, value in cell.levels.items() if name in RUN}
    if plan.budget.epochs is not None:
        levers["epochs"] = plan.budget.epochs
    base = {
        "data": plan.data, "model": plan.model, "weights": plan.weights, "seed": cell.seed, **run,
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
        target = _cost(create_model(plan.model, **plain)).bflops
        width = matched_width(plan.model, config.changes, target)
        config = config.model_copy(update={"changes": {**config.changes, "width": width}})
    if plan.budget.steps is not None:
        train_set, _ = splits(config, dataset)
        per_step = config.recipe.batch * config.recipe.accumulate
        epochs = plan.budget.steps / max(1, len(train_set) // per_step)
        config = config.model_copy(update={"recipe": recipe(config.recipe, epochs=epochs)})
    _cost(create_model(config.model, **config.changes))
    return config


# --- what a network costs --------------------------------------------------------------------------------


def network_key(config: Config) -> str:
    return json.dumps([config.model, config.changes], sort_keys=True)


def costs(config: Config, folder: Path) -> dict[str, Any]:
    """Parameters, MACs, BFLOPs and the size of the half-precision ncnn file of a run's network, exported into
    `folder` with the weights that it starts from, and the folder's name ("network")."""
    model = create_model(config.model, **config.changes)
    cost = _cost(model)
    if not (folder / "spec.json").exists():
        export_model(model, folder, ["ncnn", "ncnn-fp16"])
    size = sum(path.stat().st_size for path in folder.glob("*fp16*"))
    return {
        "params": cost.params,
        "macs": cost.macs,
        "bflops": cost.bflops,
        "kilobytes": size / 1000,
        "network": folder.name,
    }


def latencies(folders: Sequence[Path], rounds: int = 30) -> list[float]:
    """Median milliseconds of exported networks on this machine, one thread, measured in turns."""
    calls = {}
    for folder in folders:
        model = open_export(folder, "ncnn", threads=1)
        width, height = model.io.input_size
        x = np.random.default_rng(0).random((1, 3, height, width), np.float32)
        calls[str(folder)] = partial(model.predict, x)
    times = interleave(calls, rounds=rounds)
    return [float(np.median(times[str(folder)])) for folder in folders]


# --- the store -------------------------------------------------------------------------------------------


class Store:
    """A study in Optuna's store: its cells, who runs them, what they came to."""

    def __init__(self, plan: Plan, url: str, worker: int = 0):
        """Raises InputError for a database that cannot be used, and where the study began with another plan.
        `worker`: its number, for a sampler that draws otherwise than the others'."""
        self.optuna = require("optuna", "search")
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)
        self.plan, self.url = plan, url
        with _quiet(), self._reachable():
            callback = self.optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)
            self.storage = self.optuna.storages.RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=callback,
            )
            self.study = self.optuna.create_study(
                study_name=plan.name,
                storage=self.storage,
                direction="maximize",
                load_if_exists=True,
                pruner=self.optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0),
            )
            self._claims()
            begun = len(self.study.get_trials(deepcopy=False))
            # one worker draws the same each time; others, and one that goes on, draw something else
            sequence = np.random.SeedSequence([plan.seeds[0] % 2**32, worker, begun])
            self.seed = int(sequence.generate_state(1)[0])
            self.study.sampler = _sampler(self.optuna, plan.search, self.seed)
        self._same_plan()

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """What a database's driver says of an address, as bad input."""
        import sqlalchemy

        kind, where = self.url.split(":")[0], self.url.split("@")[-1]  # without a password
        try:
            yield
        except ImportError as error:
            module = str(getattr(error.__cause__, "name", None) or error)
            package = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
            raise InputError(
                f"a {kind} database needs the Python package {module}, which is not installed: "
                f'run pip install "{package.get(module, module)}"'
            ) from None
        except (sqlalchemy.exc.SQLAlchemyError, self.optuna.exceptions.OptunaError, RuntimeError) as error:
            said = error.__cause__ if error.__cause__ is not None else error
            raise InputError(
                f"the database {where} cannot be used ({_first_line(said)}): expected an address such as "
                "sqlite:////folder/study.db or postgresql://user@host/name, and a database there"
            ) from None

    def _same_plan(self) -> None:
        text = json.dumps(_stated(self.plan), sort_keys=True)
        stored = self.study.user_attrs.get("plan")
        if stored is None:
            self.study.set_user_attr("plan", text)
        elif stored != text:
            now, then = json.loads(text), json.loads(stored)
            changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
            raise InputError(
                f"the study {self.plan.name} began with another {', '.join(changed)}: restore it, "
                "or give the study a new name"
            )

    def _claims(self) -> None:
        """Optuna's own change of state is not atomic on SQLite: a row that can be entered once is."""
        import sqlalchemy

        self.claimed = sqlalchemy.Table(
            "toolkit_claims",
            sqlalchemy.MetaData(),
            sqlalchemy.Column("trial_id", sqlalchemy.Integer, primary_key=True, autoincrement=False),
        )
        try:
            self.claimed.create(self.storage.engine, checkfirst=True)
        except sqlalchemy.exc.OperationalError:  # another worker was quicker
            self.claimed.create(self.storage.engine, checkfirst=True)

    def _counts(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether a trial stands for its cell: not one whose worker died, nor a second entry, dropped."""
        states = self.optuna.trial.TrialState
        return trial.state not in (states.FAIL, states.PRUNED) or "fault" in trial.user_attrs

    def missing(self, wanted: Sequence[Cell]) -> list[Cell]:
        """The cells that neither wait nor run nor are finished."""
        trials = self.study.get_trials(deepcopy=False)
        entered = {trial.user_attrs.get("key") for trial in trials if self._counts(trial)}
        return [cell for cell in wanted if cell.key not in entered]

    def enter(self, wanted: Sequence[Cell]) -> None:
        """Add the cells that are missing."""
        distribution = self.optuna.distributions.CategoricalDistribution
        for cell in self.missing(wanted):
            named = {name: json.dumps(level) for name, level in cell.levels.items()}
            choices = {name: tuple(map(json.dumps, levels)) for name, levels in self.plan.factors.items()}
            self.study.add_trial(
                self.optuna.trial.create_trial(
                    state=self.optuna.trial.TrialState.WAITING,
                    params=named,
                    distributions={name: distribution(values) for name, values in choices.items()},
                    user_attrs={
                        "key": cell.key, "levels": cell.levels, "matching": cell.matching, "seed": cell.seed
                    },
                )
            )  # fmt: skip

    def take(self) -> optuna.trial.FrozenTrial | None:
        """The next cell, now this worker's alone; None where none waits. Cells of dead workers wait again."""
        import sqlalchemy

        states = self.optuna.trial.TrialState
        with _quiet():
            self.optuna.storages.fail_stale_trials(self.study)
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state != states.WAITING:
                continue
            try:
                self.storage.record_heartbeat(trial._trial_id)
                if not self.storage.set_trial_state_values(trial._trial_id, states.RUNNING):
                    continue
                with self.storage.engine.begin() as connection:
                    connection.execute(self.claimed.insert().values(trial_id=trial._trial_id))
            except (sqlalchemy.exc.IntegrityError, self.optuna.exceptions.UpdateFinishedTrialError):
                continue  # another worker was quicker
            if self._is_first(trial):
                return trial
            self.storage.set_trial_state_values(trial._trial_id, states.PRUNED)
        return None

    def _is_first(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Two workers that begin a study together may enter a cell twice: the first one counts."""
        same = (
            other.number
            for other in self.study.get_trials(deepcopy=False)
            if other.user_attrs.get("key") == trial.user_attrs["key"] and self._counts(other)
        )
        return min(same) == trial.number

    def finish(self, trial: optuna.trial.FrozenTrial, answer: dict[str, Any]) -> None:
        """Keep what a cell came to: its scores, or the fault or crash that ended it."""
        states = self.optuna.trial.TrialState
        try:
            for name, value in answer.items():
                self.storage.set_trial_user_attr(trial._trial_id, name, value)
            if "score" in answer:
                self.storage.set_trial_state_values(trial._trial_id, states.COMPLETE, [answer["score"]])
            else:
                self.storage.set_trial_state_values(trial._trial_id, states.FAIL)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            pass  # this worker was taken for dead, and another has taken over

    def crash(self, key: str, error: Exception) -> dict[str, str]:
        """What to keep of an unexpected error: a "crash", after which the next run tries the cell again, or,
        when it happens for the CRASHES-th time, its "fault"."""
        same = [t for t in self.study.get_trials(deepcopy=False) if t.user_attrs.get("key") == key]
        before = sum("crash" in trial.user_attrs for trial in same)
        return {"crash" if before + 1 < CRASHES else "fault": f"{type(error).__name__}: {_first_line(error)}"}

    def unfinished(self) -> bool:
        states = self.optuna.trial.TrialState
        open_states = (states.WAITING, states.RUNNING)
        return bool(self.study.get_trials(deepcopy=False, states=open_states))

    @contextmanager
    def heartbeat(self, trial: optuna.trial.FrozenTrial | optuna.Trial) -> Iterator[None]:
        """Tell the others that this worker lives."""
        over = threading.Event()

        def beat() -> None:
            pause = HEARTBEAT
            while not over.wait(pause):
                try:
                    self.storage.record_heartbeat(trial._trial_id)
                    pause = HEARTBEAT
                except Exception:  # a database that is locked or out of reach for a moment
                    pause = 1

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's remarks that heartbeats are experimental."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _sampler(optuna: Any, search: Search | None, seed: int) -> Any:
    if search is None or search.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    if search.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(constraints_func=_over_budget, population_size=10, seed=seed)
    return optuna.samplers.TPESampler(
        constraints_func=_over_budget, n_startup_trials=5, multivariate=True, seed=seed
    )


def _over_budget(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    """Above 0 for a network that costs too much."""
    return trial.user_attrs.get("over", [0.0])


def _stated(plan: Plan) -> dict[str, Any]:
    data = plan.model_dump()
    data["recipe"]["augmentation"] = vars(plan.recipe.augmentation)
    return json.loads(json.dumps(data))


# --- running ---------------------------------------------------------------------------------------------


def run_cell(config: Config, dataset: Dataset, folder: Path, plan: Plan, show: Any = None) -> dict[str, Any]:
    """Train a cell, going on where a killed worker left it, and score it. Returns what the store keeps.

    Raises InputError for a training that diverges."""
    if plan.budget.seconds is not None and not (folder / "config.yaml").exists():
        config = _for_seconds(config, dataset, folder, plan.budget.seconds)
    result = train(config, folder, (folder / "config.yaml").exists(), dataset, show)
    if not result.finished:
        raise KeyboardInterrupt
    config = read_config(folder / "config.yaml")
    pictures = result.steps * config.recipe.batch * config.recipe.accumulate
    rate = result.pictures_per_second  # 0 where all had been done before
    answer: dict[str, Any] = {
        "steps": result.steps,
        "pictures": pictures,
        "seconds": result.seconds,
        "training_seconds": round(pictures / rate, 1) if rate else result.seconds,  # without validations
        "map50": result.score,
        "score": result.score,
    }
    if plan.budget.steps is not None and result.steps != plan.budget.steps:
        raise InputError(f"{result.steps} steps were made where {plan.budget.steps} were to be")
    if plan.test_split or plan.score == "widerface":
        answer |= score(plan, folder / "best.pt", dataset)
    if not math.isfinite(answer["score"]):
        raise InputError(f"the score is {answer['score']}: the pictures that it is taken on have no objects")
    return answer


def score(plan: Plan, weights: Path, dataset: Dataset) -> dict[str, float]:
    """The best checkpoint on the test split, or on the validation split where there is none."""
    model = trained(weights)
    part = dataset.split(plan.test_split or plan.val_split)
    if plan.score == "widerface":
        found = in_originals(predict(model, part, PUBLISHED), part)
        scores = widerface.evaluate(wider_truth(plan.data, part), found)
        answer = {name: getattr(scores, name) for name in widerface.SETTINGS}
        return {**answer, "score": answer["hard"]}
    found = predict(model, part, VALIDATION)
    return {"score": float(detection.coco(detection.Truth.from_dataset(part), found).ap50)}


def _for_seconds(config: Config, dataset: Dataset, folder: Path, seconds: float) -> Config:
    """The configuration with as many epochs as fit into `seconds`, by the speed of a short run."""
    train_set, _ = splits(config, dataset)
    per_step = config.recipe.batch * config.recipe.accumulate
    short = config.model_copy(update={"stop_at": 12})
    with tempfile.TemporaryDirectory() as trial:
        result = train(short, trial, False, dataset)
    epochs = max(1, int(seconds * result.pictures_per_second / per_step)) / max(1, len(train_set) // per_step)
    return config.model_copy(update={"recipe": recipe(config.recipe, epochs=epochs)})


def work(plan: Plan, url: str, folder: Path, threads: int = 0, worker: int = 0) -> None:
    """Run cells until none is left: what every worker does, on any machine that reaches the store.

    An unexpected error ends the worker and leaves its cell to the next run, CRASHES times in all."""
    store = Store(plan, url, worker)
    if threads:
        torch.set_num_threads(threads)
    dataset = load(plan.data)
    if plan.search is not None:
        _search(store, dataset, folder)
        return
    while True:
        trial = store.take()
        if trial is None:
            if not store.unfinished():
                return
            time.sleep(HEARTBEAT / 10)
            continue
        cell = Cell(trial.user_attrs["levels"], trial.user_attrs["matching"], trial.user_attrs["seed"])
        with store.heartbeat(trial):
            try:
                answer = _attempt(plan, cell, dataset, folder)
            except Exception as error:
                answer = store.crash(cell.key, error)
                store.finish(trial, answer)
                if "crash" in answer:
                    raise
                traceback.print_exc()
            else:
                store.finish(trial, answer)
        done = len(store.study.get_trials(deepcopy=False, states=(store.optuna.trial.TrialState.COMPLETE,)))
        print(f"{done} cells done, last {cell.key}", file=sys.stderr)


def _attempt(plan: Plan, cell: Cell, dataset: Dataset, folder: Path) -> dict[str, Any]:
    try:
        config = cell_config(plan, cell, dataset)
        known = json.loads((folder / "costs.json").read_text()) if (folder / "costs.json").exists() else {}
        answer = run_cell(config, dataset, folder / "cells" / cell.key, plan)
        return {**answer, **known.get(network_key(config), {})}
    except InputError as error:
        return {"fault": str(error)}


def _in_order(levels: Sequence[Any]) -> bool:
    """Whether levels are numbers from small to large, so that a sampler may reason from neighbours."""
    numbers = all(type(level) in (int, float) for level in levels)
    return numbers and list(levels) == sorted(levels)


def _parameter(level: Any, levels: Sequence[Any]) -> Any:
    return list(levels).index(level) if _in_order(levels) else json.dumps(level)


def _suggest(trial: optuna.Trial, name: str, levels: Sequence[Any]) -> Any:
    if _in_order(levels):
        return levels[trial.suggest_int(name, 0, len(levels) - 1)]
    return json.loads(str(trial.suggest_categorical(name, [json.dumps(level) for level in levels])))


def _steps(a: dict[str, Any], b: dict[str, Any], factors: dict[str, Any]) -> int:
    """How far two cells lie apart: levels of ordered factors, and one for each other that differs."""
    total = 0
    for name, levels in factors.items():
        apart = abs(list(levels).index(a[name]) - list(levels).index(b[name]))
        total += apart if _in_order(levels) else min(apart, 1)
    return total


def _latency(network: Path, device: str) -> float:
    """Milliseconds of an exported network, measured once and kept beside it: all trials are held to one
    figure. On a device with postprocessing, here without."""
    file = network / "latency.json"
    if not file.exists():
        if device:
            ((_, reading),) = timing.measure([network], [device])
            found = timing.summary(reading)[timing.NCNN_COLUMN].p50
        else:
            (found,) = latencies([network])
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps({"latency_ms": found}))
    return float(json.loads(file.read_text())["latency_ms"])


class _NoTrial(Exception):
    """A sampler drew a cell again, or others run all that are left to be trained."""


def _search(store: Store, dataset: Dataset, folder: Path) -> None:
    plan, search = store.plan, store.plan.search
    assert search is not None
    states = store.optuna.trial.TrialState
    ended = (states.COMPLETE, states.PRUNED)
    rng = random.Random(store.seed)
    for part in ("cells", "networks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    factorial = [
        Cell(dict(zip(plan.factors, levels, strict=True)), "as-is", plan.seeds[0])
        for levels in itertools.product(*plan.factors.values())
    ]

    def known(*states: Any) -> list[optuna.trial.FrozenTrial]:
        return store.study.get_trials(deepcopy=False, states=states)

    def trained() -> int:
        return sum(max(_over_budget(trial)) <= 0 for trial in known(*ended))

    def full(number: float) -> bool:
        """Whether those that began before trial `number` are enough, if the running ones fit the limits."""
        return trained() + sum(t.number < number for t in known(states.RUNNING)) >= search.trials

    def objective(trial: optuna.Trial) -> float:
        if full(trial.number):
            raise _NoTrial
        levels = {name: _suggest(trial, name, choices) for name, choices in plan.factors.items()}
        cell = Cell(levels, "as-is", plan.seeds[0])
        tried: set[str] = set()
        try:
            with FileLock(folder / "cells" / f".{cell.key}.lock", timeout=0), store.heartbeat(trial):
                taken = known(*ended, states.RUNNING)
                # without its own number: what a killed worker left comes back with its key
                tried |= {t.user_attrs.get("key", "") for t in taken if t.number != trial.number}
                if cell.key not in tried:
                    return _trial(store, trial, cell, dataset, folder)
        except Timeout:  # another worker was quicker
            raise _NoTrial from None
        # it would give the same: try the nearest that is left instead
        left = [other for other in factorial if other.key not in tried]
        if left:
            rng.shuffle(left)
            nearest = min(left, key=lambda other: _steps(levels, other.levels, plan.factors))
            store.study.enqueue_trial(
                {name: _parameter(level, plan.factors[name]) for name, level in nearest.levels.items()}
            )
        else:
            time.sleep(HEARTBEAT)  # others run the last ones; a cell whose worker dies comes back
        raise _NoTrial

    while len(known(*ended)) < min(len(factorial), TRIES * search.trials) and trained() < search.trials:
        with _quiet():
            if full(math.inf):
                time.sleep(HEARTBEAT / 10)
                store.optuna.storages.fail_stale_trials(store.study)
            else:
                store.study.optimize(objective, n_trials=1, catch=_NoTrial)


def _trial(store: Store, trial: optuna.Trial, cell: Cell, dataset: Dataset, folder: Path) -> float:
    """Train a cell that a sampler chose, if its network is within the limits -> its score."""
    plan, search = store.plan, store.plan.search
    assert search is not None

    def note(facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            trial.set_user_attr(name, value)

    note({"key": cell.key, "levels": cell.levels, "seed": cell.seed})
    try:
        config = cell_config(plan, cell, dataset)
        network = folder / "networks" / hashlib.sha256(network_key(config).encode()).hexdigest()[:12]
        lock = FileLock(network.with_name(f".{network.name}.lock"))  # cells share networks
        with lock:
            found = costs(config, network)
    except InputError as error:
        note({"fault": str(error), "over": [1.0]})
        raise store.optuna.TrialPruned from None
    if search.latency_ms is not None:
        with lock:  # a device that fails ends the search: it is no fault of the cell's
            found["latency_ms"] = _latency(network, search.device)
    over = [
        found[name] / limit - 1
        for name in ("latency_ms", "bflops", "kilobytes")
        if (limit := getattr(search, name)) is not None
    ]
    note({**found, "over": over or [0.0]})
    if max(over, default=0.0) > 0:
        raise store.optuna.TrialPruned

    def report(history: list[dict[str, Any]]) -> None:
        trial.report(history[-1]["map50"], history[-1]["step"])
        if search.prune and trial.should_prune():
            raise store.optuna.TrialPruned

    try:
        answer = run_cell(config, dataset, folder / "cells" / cell.key, plan, report)
    except store.optuna.TrialPruned:
        raise
    except KeyboardInterrupt:  # Optuna ends this trial: another goes on with its cell
        store.study.enqueue_trial(trial.params)
        raise
    except InputError as error:
        note({"fault": str(error)})
        raise store.optuna.TrialPruned from None
    except Exception as error:
        crash = store.crash(cell.key, error)
        note(crash)
        if "crash" in crash:
            raise
        raise store.optuna.TrialPruned from None
    note(answer)
    return float(answer["score"])


def measure_costs(plan: Plan, folder: Path, dataset: Dataset) -> None:
    """costs.json: every network of the study, exported and timed side by side, before anything else runs."""
    file = folder / "costs.json"
    if file.exists():
        return
    networks: dict[str, Config] = {}
    for cell in progress([c for c in cells(plan) if c.seed == plan.seeds[0]], "building the cells"):
        try:
            config = cell_config(plan, cell, dataset)
        except InputError:
            continue  # its own run will say so
        networks.setdefault(network_key(config), config)
    paths = [folder / "networks" / str(i) for i in range(len(networks))]
    found: dict[str, dict[str, Any]] = {}
    for (key, config), path in progress(
        list(zip(networks.items(), paths, strict=True)), "exporting the networks"
    ):
        try:
            found[key] = costs(config, path)
        except InputError as error:
            print(f"no costs of {key}: {error}", file=sys.stderr)
    exported = [folder / "networks" / cost["network"] for cost in found.values()]
    for cost, latency in zip(found.values(), latencies(exported) if exported else (), strict=True):
        cost["latency_ms"] = latency
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(found, indent=1))


def run_study(
    plan: Plan,
    folder: str | Path,
    workers: int = 1,
    url: str = "",
    use_ray: bool = False,
    quiet: bool = False,
) -> Store:
    """Run what is left of a study in its folder, and return its store.

    `url`: any SQLAlchemy address, by default a SQLite file in the folder; the same study may be run from
    several machines at once, if they share the folder as well. `workers`: processes on this machine, which
    share its cores, or Ray tasks; `quiet` sends what several processes say to workers.log in the folder, for
    a notebook that shows the store itself.

    Raises InputError, and writes nothing, for levels that no cell can have, where the data or the database
    cannot be used and where the study began with another plan; later, where cells did not finish.
    """
    check(plan)
    dataset = load(plan.data)
    wanted = cells(plan) if plan.search is None else []
    folder = Path(folder).absolute()
    if not url:
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder / 'study.db'}"
    store = Store(plan, url)
    with whole_file(folder / "plan.json") as temporary:
        temporary.write_text(json.dumps(_stated(plan), indent=1))
    if plan.search is None:
        measure_costs(plan, folder, dataset)
        store.enter(wanted)
    threads = max(1, torch.get_num_threads() // max(1, workers))
    if use_ray:
        _work_on_ray(plan, url, folder, threads, workers)
    elif workers <= 1:
        work(plan, url, folder)
    else:
        command = [sys.executable, "-m", "toolkit.ablation.study", str(folder), url, str(threads)]
        # threads that spin while they wait would take the cores from the other workers
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "OMP_NUM_THREADS": str(threads)}
        with (folder / "workers.log").open("ab") if quiet else nullcontext() as log:
            processes = [
                subprocess.Popen([*command, str(i)], env=environment, stderr=log) for i in range(workers)
            ]
        try:
            codes = [process.wait() for process in processes]
        except BaseException:
            for process in processes:
                process.terminate()
            raise
        if any(codes) and (plan.search is not None or store.unfinished()):
            raise InputError(f"{sum(map(bool, codes))} of {workers} workers ended early: run the study again")
    if left := store.missing(wanted):
        raise InputError(f"{len(left)} of {len(wanted)} cells did not finish: run the study again")
    return store


def _work_on_ray(plan: Plan, url: str, folder: Path, threads: int, workers: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "cluster")
    if not ray.is_initialized():
        ray.init(num_cpus=max(workers, os.cpu_count() or 1), include_dashboard=False, log_to_driver=False)
    task = ray.remote(num_cpus=1)(_work_from_folder)
    try:
        ray.get([task.remote(str(folder), url, threads, i) for i in range(workers)])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        raise


def _work_from_folder(folder: str, url: str, threads: int, worker: int) -> None:
    work(stored_plan(folder), url, Path(folder), threads, worker)


if __name__ == "__main__":
    try:
        _work_from_folder(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
