"""Running a study: workers that share the cells of its store.

Any number of workers on any number of machines may run. Each cell is one trial of Optuna, entered once; a
worker takes it and sends a heartbeat while it trains, and the cell of a killed worker is resumed by another.
No finished cell runs twice.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from toolkit.ablation.cells import Cell, cell_config, cells
from toolkit.ablation.costs import measure_costs, network_key, read_costs
from toolkit.ablation.plan import Plan, check, plan_record, stored_plan
from toolkit.ablation.report import watched
from toolkit.ablation.results import Networks
from toolkit.ablation.run_cell import run_cell
from toolkit.ablation.search import run_search
from toolkit.ablation.store import HEARTBEAT, Store, own_database
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.files import locked, no_place, write_json
from toolkit.moved import at_old_place
from toolkit.runtime import InputError, require

PATIENCE = 60  # seconds that a worker has to save what it has


def work(plan: Plan, url: str, folder: Path, threads: int = 0, worker: int = 0) -> None:
    """Run cells until none is left: what every worker does, on any machine that reaches the store.

    An unexpected error ends the worker and leaves its cell to the next run, up to CRASHES times.
    """
    store = Store(plan, url, worker)
    if threads:
        torch.set_num_threads(threads)
    dataset = load(plan.data)
    with store.reachable():
        if plan.search is not None:
            run_search(store, dataset, folder)
        else:
            _run_cells(store, dataset, folder)


def _run_cells(store: Store, dataset: Dataset, folder: Path) -> None:
    plan = store.plan
    while True:
        trial = store.take()
        if trial is None:
            if not store.unfinished():
                return
            time.sleep(HEARTBEAT / 10)
            continue
        cell = Cell(trial.user_attrs["levels"], trial.user_attrs["matching"], trial.user_attrs["seed"])
        # who was taken for dead may still be at it: no fault of the cell
        with store.heartbeat(trial), locked(folder / "cells" / cell.key, wait=True):
            try:
                answer = _attempt(plan, cell, dataset, folder)
            except KeyboardInterrupt:
                store.give_back(trial)
                raise
            except Exception as error:
                if no_place(error):
                    store.give_back(trial)
                    raise
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
        network_costs = read_costs(folder)
        answer = run_cell(config, dataset, folder / "cells" / cell.key, plan)
        return {**answer, **network_costs.get(network_key(config), {})}
    except InputError as error:
        return {"fault": str(error)}


def run_study(
    plan: Plan,
    folder: str | Path,
    workers: int = 1,
    url: str = "",
    use_ray: bool = False,
    quiet: bool = False,
    show: Callable[[Networks], None] | None = None,
) -> Store:
    """Run what is left of a study.

    Args:
        plan: the study, from `read_plan`.
        folder: of the study: networks, checkpoints, store. Several machines may run the same study at the
            same time if they share this folder and the database.
        workers: processes on this machine, which share its cores, or Ray tasks.
        url: SQLAlchemy address of the database; by default a SQLite file in the folder.
        use_ray: start the workers through Ray.
        quiet: send the messages of several processes to workers.log in the folder.
        show: called with the networks so far, their intervals and the time left, whenever cells have ended;
            from another thread.

    Returns:
        The store; `toolkit.ablation.report.runs` lists its cells.

    Raises:
        InputError: a level that no cell can have, data or a database that cannot be used, or a study that
            began with another plan (nothing is written); or, at the end, cells that did not finish.
    """
    check(plan)
    dataset = load(plan.data)
    factorial = cells(plan) if plan.search is None else []
    folder = Path(folder).absolute()
    if not url:
        folder.mkdir(parents=True, exist_ok=True)
        url = own_database(folder)
    with locked(folder, wait=True):  # who joins a study waits until its networks are measured
        store = Store(plan, url)
        write_json(folder / "plan.json", plan_record(plan))
        if plan.search is None:
            measure_costs(plan, folder, dataset)
            with store.reachable():
                store.enter(factorial)
    threads = max(1, torch.get_num_threads() // max(1, workers))
    with watched(store, max(1, workers), show):
        _start(plan, url, folder, store, workers, threads, use_ray, quiet)
    with store.reachable():
        left = store.missing(factorial)
    if left:
        raise InputError(f"{len(left)} of {len(factorial)} cells did not finish: run the study again")
    return store


def _start(
    plan: Plan, url: str, folder: Path, store: Store, workers: int, threads: int, use_ray: bool, quiet: bool
) -> None:
    """Let the workers run until no cell is left."""
    if use_ray:
        _work_on_ray(plan, url, folder, threads, workers)
    elif workers <= 1:
        work(plan, url, folder)
    else:
        command = [sys.executable, "-m", "toolkit.cli.worker", str(os.getpid()), str(folder), url]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with (folder / "workers.log").open("ab") if quiet else nullcontext() as log:
            processes = [
                subprocess.Popen([*command, str(threads), str(i)], env=environment, stderr=log)
                for i in range(workers)
            ]
        try:
            codes = [process.wait() for process in processes]
        except BaseException:
            _end(processes)
            raise
        with store.reachable():
            ended_early = any(codes) and (plan.search is not None or store.unfinished())
        if ended_early:
            raise InputError(f"{sum(map(bool, codes))} of {workers} workers ended early: run the study again")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let workers save what they have, and wait for them."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _work_on_ray(plan: Plan, url: str, folder: Path, threads: int, workers: int) -> None:
    if not os.environ.get("RAY_ADDRESS"):  # read by Ray when it is imported: its servers listen on 127.0.0.1
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = require("ray", "cluster")
    own = not ray.is_initialized()
    if own:
        _start_ray(ray, workers)
    task = ray.remote(num_cpus=1)(work_from_folder)
    try:
        ray.get([task.remote(str(folder), url, threads, i) for i in range(workers)])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        raise
    finally:
        if own:
            ray.shutdown()


def _start_ray(ray: ModuleType, workers: int) -> None:
    """The cluster that RAY_ADDRESS names, else one of this machine alone, which nobody else can reach."""
    cluster = os.environ.get("RAY_ADDRESS", "")
    if not cluster:
        cores = max(workers, os.cpu_count() or 1)
        ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
        return
    host, _, port = cluster.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself waits for minutes
            socket.create_connection((host, int(port)), 10).close()
        ray.init(cluster, log_to_driver=False)
    except (OSError, OverflowError, ValueError):
        raise InputError(
            f"no Ray cluster answers at {cluster}, which RAY_ADDRESS names: start it, or unset RAY_ADDRESS"
        ) from None


def work_from_folder(folder: str, url: str, threads: int, worker: int) -> None:
    """What a worker process does: `work` on the study that `run_study` has begun in a folder."""
    work(stored_plan(folder), url, Path(folder), threads, worker)


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
