"""Search for the best network within limits on its cost, by a sampler, instead of all combinations."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.ablation.cells import Cell, cell_config
from toolkit.ablation.costs import costs, measure_latency, network_key
from toolkit.ablation.run_cell import run_cell
from toolkit.ablation.store import HEARTBEAT, Store, over_budget, quiet_optuna, worker_of
from toolkit.data.dataset import Dataset
from toolkit.files import Occupied, locked, no_place
from toolkit.runtime import InputError

if TYPE_CHECKING:
    import optuna

TRIES = 10  # cells that a search considers, per cell that it trains


def _in_order(levels: Sequence[Any]) -> bool:
    """Whether levels are ascending numbers, so that a sampler can learn from neighbours."""
    numbers = all(type(level) in (int, float) for level in levels)
    return numbers and list(levels) == sorted(levels)


def _parameter(level: Any, levels: Sequence[Any]) -> Any:
    return list(levels).index(level) if _in_order(levels) else json.dumps(level)


def _suggest(trial: optuna.Trial, name: str, levels: Sequence[Any]) -> Any:
    if _in_order(levels):
        return levels[trial.suggest_int(name, 0, len(levels) - 1)]
    return json.loads(str(trial.suggest_categorical(name, [json.dumps(level) for level in levels])))


def _neighbours(indices: tuple[int, ...], factors: Mapping[str, Sequence[Any]]) -> Iterator[tuple[int, ...]]:
    """The cells, as indices of levels, that are one step away: to the next level where a factor's levels are
    ordered, to any other level where they are not."""
    for place, (here, levels) in enumerate(zip(indices, factors.values(), strict=True)):
        others = (here - 1, here + 1) if _in_order(levels) else range(len(levels))
        for other in others:
            if other != here and 0 <= other < len(levels):
                yield (*indices[:place], other, *indices[place + 1 :])


def nearest_left(
    cell: Cell, factors: Mapping[str, Sequence[Any]], tried: AbstractSet[str], rng: random.Random
) -> Cell | None:
    """One of the cells with the fewest steps to `cell` whose keys are not `tried`; None where all are. Goes
    outward from the cell: the combinations may be too many to list."""
    ring = [tuple(levels.index(cell.levels[name]) for name, levels in factors.items())]
    seen = set(ring)
    while ring:
        cells = (
            replace(cell, levels={name: factors[name][i] for name, i in zip(factors, indices, strict=True)})
            for indices in ring
        )
        if left := [other for other in cells if other.key not in tried]:
            return rng.choice(left)
        around = (other for indices in ring for other in _neighbours(indices, factors))
        ring = list(dict.fromkeys(other for other in around if other not in seen))
        seen.update(ring)
    return None


class _NoTrial(Exception):
    """A sampler drew a cell again, or other workers run all that are left."""


def run_search(store: Store, dataset: Dataset, folder: Path) -> None:
    """Run trials until the search has trained its number of cells; what a worker of a search does."""
    plan, search = store.plan, store.plan.search
    assert search is not None
    states = store.optuna.trial.TrialState
    ended = (states.COMPLETE, states.PRUNED)
    rng = random.Random(store.seed)
    for part in ("cells", "networks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    combinations = math.prod(map(len, plan.factors.values()))

    def trials_in(*states: optuna.trial.TrialState) -> list[optuna.trial.FrozenTrial]:
        trials: list[optuna.trial.FrozenTrial] = store.study.get_trials(deepcopy=False, states=states)
        return trials

    def trained() -> int:
        return sum(max(over_budget(trial)) <= 0 for trial in trials_in(*ended))

    def full(number: float) -> bool:
        """Whether the trials before `number` are enough, if the running ones are within the limits."""
        return trained() + sum(t.number < number for t in trials_in(states.RUNNING)) >= search.trials

    def objective(trial: optuna.Trial) -> float:
        if full(trial.number):
            raise _NoTrial
        levels = {name: _suggest(trial, name, choices) for name, choices in plan.factors.items()}
        cell = Cell(levels, "as-is", plan.seeds[0])
        tried: set[str] = set()  # keys of cells
        try:
            with locked(folder / "cells" / cell.key), store.heartbeat(trial):
                others = trials_in(*ended, states.RUNNING)
                # without its own number: a trial that a killed worker left comes back with its key
                tried |= {t.user_attrs.get("key", "") for t in others if t.number != trial.number}
                if cell.key not in tried:
                    return _trial(store, trial, cell, dataset, folder)
        except Occupied:  # another worker was faster
            raise _NoTrial from None
        # the result would be the same: try the nearest cell that is left instead
        nearest = nearest_left(cell, plan.factors, tried, rng)
        if nearest is not None:
            store.study.enqueue_trial(
                {name: _parameter(level, plan.factors[name]) for name, level in nearest.levels.items()}
            )
        else:
            time.sleep(HEARTBEAT)  # other workers run the last cells; a cell whose worker dies comes back
        raise _NoTrial

    while len(trials_in(*ended)) < min(combinations, TRIES * search.trials) and trained() < search.trials:
        store.free_dead()
        if full(math.inf):
            time.sleep(HEARTBEAT / 10)
            continue
        with quiet_optuna():
            store.study.optimize(objective, n_trials=1, catch=_NoTrial)


def _trial(store: Store, trial: optuna.Trial, cell: Cell, dataset: Dataset, folder: Path) -> float:
    """Train a cell that a sampler chose, if its network is within the limits, and return its score."""
    plan, search = store.plan, store.plan.search
    assert search is not None

    def note(facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            trial.set_user_attr(name, value)

    note({"key": cell.key, "levels": cell.levels, "seed": cell.seed, "worker": worker_of(trial)})
    try:
        config = cell_config(plan, cell, dataset)
        network = folder / "networks" / hashlib.sha256(network_key(config).encode()).hexdigest()[:12]
        with locked(network, wait=True):  # cells share networks
            cost = costs(config, network)
    except InputError as error:
        note({"fault": str(error), "over": [1.0]})
        raise store.optuna.TrialPruned from None
    if search.latency_ms is not None:
        with locked(network, wait=True):  # a device that fails ends the search: it is not a fault of the cell
            cost["latency_ms"] = measure_latency(network, search.device)
    over = [
        (cost["macs"] / 1e6 if name == "mmac" else cost[name]) / limit - 1
        for name in ("latency_ms", "mmac", "bflops", "kilobytes")
        if (limit := getattr(search, name)) is not None
    ]
    note({**cost, "over": over or [0.0]})
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
    except KeyboardInterrupt:  # Optuna ends this trial: another one continues its cell
        store.study.enqueue_trial(trial.params)
        raise
    except InputError as error:
        note({"fault": str(error)})
        raise store.optuna.TrialPruned from None
    except Exception as error:
        if no_place(error):
            raise
        crash = store.crash(cell.key, error)
        note(crash)
        if "crash" in crash:
            raise
        raise store.optuna.TrialPruned from None
    note(answer)
    return float(answer["score"])
