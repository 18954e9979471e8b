"""What the networks of a study cost: multiply-adds, file size, milliseconds; measured once and kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from toolkit.ablation.cells import cell_config, cells, network_cost
from toolkit.ablation.effects import words
from toolkit.ablation.plan import Plan
from toolkit.bootstrap import Interval
from toolkit.data.dataset import Dataset
from toolkit.device import report, timing
from toolkit.export.folder import Distance, FileName, open_export
from toolkit.export.write import export_model
from toolkit.files import write_json
from toolkit.models.cost import Costs
from toolkit.models.detector import Detector
from toolkit.runtime import InputError, progress
from toolkit.stopwatch import interleave, median
from toolkit.text import read_record
from toolkit.training.config import Config

REMEDY = "remove it, and it is measured again"


class _Latency(BaseModel):
    latency_ms: Distance


class NetworkCosts(_Latency):
    """What costs.json has of a network; `latency_ms` is of this machine, with the 95 % interval of that
    median, which records of version 0.1 do not have."""

    params: int = Field(ge=0)
    macs: int = Field(ge=0)
    bflops: Distance
    kilobytes: Distance
    latency_low_ms: Distance | None = None
    latency_high_ms: Distance | None = None
    network: FileName


def network_key(config: Config) -> str:
    """Equal for all cells that share a network."""
    return json.dumps([config.model, config.changes], sort_keys=True)


def costs(config: Config, folder: Path) -> dict[str, Any]:
    """Costs of the network of a run, which is exported into `folder` with random weights.

    Returns "params", "macs", "bflops", "kilobytes" (of the fp16 ncnn files) and "network", the folder's name.
    """
    model = config.origin.build(Detector, **config.changes)
    cost = network_cost(model, config.model)
    if not (folder / "spec.json").exists():
        # all or none: a study compares like with like; what random weights keep in fp16 says nothing
        export_model(model, folder, ["ncnn", "ncnn-fp16"], strict=True, accept_loss=True)
    size = sum(path.stat().st_size for path in folder.glob("*fp16*"))
    return {
        "params": cost.params,
        "macs": cost.macs,
        "bflops": cost.bflops,
        "kilobytes": size / 1000,
        "network": folder.name,
    }


def planned_costs(plan: Plan, dataset: Dataset) -> Costs:
    """What the networks of a study cost, before anything is trained: by their levels and matching, with the
    width where it was changed. A network that cannot be built is left out; its cells will say why."""
    planned = Costs()
    for cell in (cell for cell in cells(plan) if cell.seed == plan.seeds[0]):
        try:
            config = cell_config(plan, cell, dataset)
            model = config.origin.build(Detector, **config.changes)
            width = f", width {config.changes['width']:g}" if cell.matching == "width" else ""
            planned[words(cell.levels) + width] = network_cost(model, config.model)
        except InputError:
            continue
    return planned


def latencies(folders: Sequence[Path], rounds: int = 100) -> list[Interval]:
    """Median milliseconds of exported networks on this machine, one thread, interleaved; with intervals."""
    calls = {}
    for folder in folders:
        model = open_export(folder, "ncnn", threads=1)
        width, height = model.io.input_size
        x = np.random.default_rng(0).random((1, model.io.channels, height, width), np.float32)
        calls[str(folder)] = partial(model.predict, x)
    times = interleave(calls, rounds=rounds)
    return [median(times[str(folder)]) for folder in folders]


def measure_latency(network: Path, device: str) -> float:
    """Milliseconds of an exported network, measured once and kept in its folder: all trials compare with one
    figure. On a device with postprocessing, on this machine without."""
    file = network / "latency.json"
    if not file.exists():
        if device:
            ((_, reading),) = timing.measure([network], [device])
            latency = report.summary(reading)[report.NCNN_COLUMN].p50
        else:
            latency = latencies([network])[0].value
        write_json(file, {"latency_ms": latency})
    return read_record(file, _Latency, REMEDY).latency_ms


def read_costs(folder: Path) -> dict[str, dict[str, Any]]:
    """costs.json of a study by `network_key`; nothing where there is none. InputError where it is damaged."""
    file = folder / "costs.json"
    if not file.exists():
        return {}
    rows = read_record(file, dict[str, NetworkCosts], REMEDY)
    return {key: row.model_dump(exclude_none=True) for key, row in rows.items()}


def measure_costs(plan: Plan, folder: Path, dataset: Dataset) -> None:
    """Write costs.json: every network of the study, exported and timed before any training runs."""
    file = folder / "costs.json"
    if file.exists():
        return
    networks: dict[str, Config] = {}
    for cell in progress([c for c in cells(plan) if c.seed == plan.seeds[0]], "building the cells"):
        try:
            config = cell_config(plan, cell, dataset)
        except InputError:
            continue  # the run of the cell will report it
        networks.setdefault(network_key(config), config)
    paths = [folder / "networks" / str(i) for i in range(len(networks))]
    network_costs: dict[str, dict[str, Any]] = {}
    for (key, config), path in progress(
        list(zip(networks.items(), paths, strict=True)), "exporting the networks"
    ):
        try:
            network_costs[key] = costs(config, path)
        except InputError as error:
            print(f"cannot measure the costs of {key}: {error}", file=sys.stderr)
    exported = [folder / "networks" / cost["network"] for cost in network_costs.values()]
    times = latencies(exported) if exported else []
    for cost, latency in zip(network_costs.values(), times, strict=True):
        cost["latency_ms"] = latency.value
        cost |= {"latency_low_ms": latency.low, "latency_high_ms": latency.high}
    write_json(file, network_costs)
