"""Memory format and precision of a training, chosen by timing a few steps."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from toolkit.models.network import TorchNetwork
from toolkit.runtime import pick_device
from toolkit.training.config import Config

HALF_GAIN = 1.25


def autotuned(config: Config) -> Config:
    """The settings with the fastest memory format and precision, by a few interleaved steps of each; half
    precision must be faster by HALF_GAIN, since it also costs some accuracy."""
    config = config.model_copy(update={"threads": config.threads or torch.get_num_threads()})
    formats = [config.memory_format] if config.memory_format != "auto" else ["channels_last", "contiguous"]
    kinds = [config.precision] if config.precision != "auto" else ["fp32", "bf16"]
    choices = list(itertools.product(formats, kinds))
    if len(choices) > 1:
        steps = {}
        for layout, kind in choices:
            model = config.origin.build(TorchNetwork, **config.changes).train()
            steps[layout, kind] = bare_step(
                model, config.recipe.batch, layout, kind, pick_device(config.device)
            )
        costs = dict.fromkeys(steps, math.inf)
        for _ in range(4):
            for (layout, kind), step in steps.items():
                begin = time.perf_counter()
                step()
                cost = (time.perf_counter() - begin) * (HALF_GAIN if kind != "fp32" else 1)
                costs[layout, kind] = min(costs[layout, kind], cost)
        choices = [min(costs, key=lambda choice: costs[choice])]
    return config.model_copy(update={"memory_format": choices[0][0], "precision": choices[0][1]})


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
