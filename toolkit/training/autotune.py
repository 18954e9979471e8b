"""Threads, memory format and precision of a training, chosen by timing a few steps."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from toolkit.files import write_json
from toolkit.machine import allowed_cores, cache_folder, free_cores
from toolkit.models.network import TorchNetwork
from toolkit.runtime import InputError, announced, cpu_name, pick_device
from toolkit.text import read_json
from toolkit.training.config import Config

ROUNDS = 4  # of timing, after one to warm up
SHARE, LIMIT = 0.05, 10.0  # of the run's steps, and seconds, that choosing may take
HALF_GAIN = 1.25  # half precision costs some accuracy
FEWER_GAIN = 1.1  # fewer threads are slower once the others have gone


@dataclass(frozen=True)
class Choice:
    """How the steps of a training are computed."""

    threads: int
    memory_format: str
    precision: str

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads > 1)}, {self.memory_format}, {self.precision}"


def autotuned(config: Config, steps: int) -> Config:
    """The settings with the fastest number of threads, memory format and precision.

    Threads are as many as the process may use, or fewer where others keep cores busy and that is faster by
    FEWER_GAIN. Half precision must be faster by HALF_GAIN, and is tried only where the processor has it.
    Timing takes at most SHARE of the run's steps, and begins no step after LIMIT seconds; a run too short for
    it takes as many threads as there are free cores, channels_last and fp32. Memory format and precision are
    remembered for each machine, network, size and batch.

    Args:
        config: as `complete` returns it; what it states is kept.
        steps: of the whole run.

    Returns:
        The settings with the choice; the note "machine" says what it is and how it came about.
    """
    if config.threads and "auto" not in (config.memory_format, config.precision):
        return config
    device = pick_device(config.device)
    cap = min(torch.get_num_threads(), allowed_cores())
    counts = [config.threads or cap]
    if device.type == "cpu" and not config.threads:
        counts = sorted({cap, max(1, min(cap, round(free_cores())))})
    formats = [config.memory_format] if config.memory_format != "auto" else ["channels_last", "contiguous"]
    precisions = [config.precision] if config.precision != "auto" else ["fp32"] + ["bf16"] * has_bf16(device)
    file = cache_folder() / "choices" / f"{_key(config, device, formats, precisions)}.json"
    several = len(formats) * len(precisions) > 1
    stored = _remembered(file, formats, precisions) if several else None
    if stored:
        formats, precisions = [stored[0]], [stored[1]]
    choice = Choice(counts[0], formats[0], precisions[0])
    threads = [replace(choice, threads=count) for count in counts]
    kinds = [replace(choice, memory_format=a, precision=b) for a, b in itertools.product(formats, precisions)]
    begin, budget = time.perf_counter(), int(SHARE * steps)
    with announced("choosing threads, memory format and precision"):
        best, spent = _fastest(config, device, threads, budget, begin + LIMIT)
        kinds = [replace(kind, threads=best.threads) for kind in kinds]
        best, more = _fastest(config, device, kinds, budget - spent, begin + LIMIT)
    if more:
        write_json(file, {"memory_format": best.memory_format, "precision": best.precision})
    how = f"timed in {time.perf_counter() - begin:.1f} s" if spent + more else ""
    if stored:
        how = f"{how}; " * bool(how) + "memory format and precision as timed before"
    elif several and not more:
        how = "not timed: the run is short, or its steps are long"
    busy = f"; others keep {cap - counts[0]} of {cap} cores busy" if len(counts) > 1 else ""
    notes = {**config.notes, "machine": f"steps run with {best}{f' ({how})' * bool(how)}{busy}"}
    return config.model_copy(update={**asdict(best), "notes": notes})


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself; elsewhere it is emulated, and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # of newer versions of torch; without it nothing is tried
    facts: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(facts.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def _key(config: Config, device: torch.device, *choices: Sequence[str]) -> str:
    facts = [config.origin.record(config.changes), config.recipe.batch, str(device), cpu_name()]
    text = json.dumps([*facts, torch.__version__, *choices], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _remembered(file: Path, formats: Sequence[str], precisions: Sequence[str]) -> tuple[str, str] | None:
    """Memory format and precision of an earlier run, where they are among those that may be taken."""
    try:
        facts = read_json(file)
        kind = facts["memory_format"], facts["precision"]
    except (InputError, KeyError, TypeError):  # none yet, or damaged: it is timed again
        return None
    return kind if kind[0] in formats and kind[1] in precisions else None


def _fastest(
    config: Config, device: torch.device, choices: Sequence[Choice], budget: int, deadline: float
) -> tuple[Choice, int]:
    """The choice with the fastest step, and the steps that timing took: the first one and 0 where there is no
    choice, or it would take more than `budget` steps or longer than until `deadline`."""
    if len(choices) == 1 or len(choices) * (ROUNDS + 1) > budget:
        return choices[0], 0
    costs: dict[Choice, list[float]] = {choice: [] for choice in choices}
    most = max(choice.threads for choice in choices)
    before = torch.get_num_threads()
    timed: dict[Choice, Callable[[], None]] = {}
    try:
        for _ in range(ROUNDS + 1):
            for choice in choices:
                if time.perf_counter() > deadline:
                    break
                torch.set_num_threads(choice.threads)
                if choice not in timed:
                    model = config.origin.build(TorchNetwork, **config.changes).train()
                    batch, layout, precision = config.recipe.batch, choice.memory_format, choice.precision
                    timed[choice] = bare_step(model, batch, layout, precision, device)
                start = time.perf_counter()
                timed[choice]()
                gain = FEWER_GAIN if choice.threads < most else 1.0
                gain *= HALF_GAIN if choice.precision != "fp32" else 1.0
                costs[choice].append((time.perf_counter() - start) * gain)
    finally:
        torch.set_num_threads(before)
    if min(map(len, costs.values())) < 2:
        return choices[0], 0
    return min(choices, key=lambda choice: min(costs[choice][1:])), sum(map(len, costs.values()))


def bare_step(
    model: TorchNetwork, batch: int, memory_format: str, precision: str, device: torch.device
) -> Callable[[], None]:
    """One forward, backward and optimiser step on random pictures in memory, as a function to time."""
    layout = getattr(torch, f"{memory_format}_format" if memory_format == "contiguous" else memory_format)
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), 1e-6, 0.9)
    width, height = model.io.input_size
    x = torch.rand(batch, model.io.channels, height, width, device=device).to(memory_format=layout)
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}

    def step() -> None:
        with torch.autocast(device.type, kinds[precision]) if precision in kinds else nullcontext():
            maps = model(x)
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack([m.float().square().mean() for m in maps]).sum())
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step
