"""What a training is at a step: weights, optimiser, averages and history, saved and loaded as a whole."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.models.network import TorchNetwork
from toolkit.training.checkpoint import save_checkpoint
from toolkit.training.config import Config
from toolkit.training.recipe import Recipe
from toolkit.training.show import History


@dataclass(eq=False)
class RunState:
    """A run at the end of `step` steps; `save` writes all of it, and loading it resumes the run.

    `average`: moving averages of weights and running statistics, None without. `best`: the best validation.
    `earlier_seconds`: before this process. `losses`: of the steps since the last validation, by name; lost
    on a restart, as they are only shown.
    """

    config: Config
    model: TorchNetwork
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    step: int = 0
    history: History = field(default_factory=list)
    best: float | None = None
    earlier_seconds: float = 0.0
    begin: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.monotonic)
    losses: dict[str, list[float]] = field(default_factory=dict)
    current: list[Tensor] = field(default_factory=list)  # what `average` follows, in its order

    @classmethod
    def fresh(cls, config: Config, model: TorchNetwork) -> RunState:
        """Before the first step."""
        average = {k: v.clone() for k, v in floats(model).items()} if config.recipe.ema else None
        optimizer = make_optimizer(model, config.recipe, fused=config.precision != "fp16")
        return cls(config, model, optimizer, average)

    @property
    def seconds(self) -> float:
        """Spent on the run so far, by all processes one after the other."""
        return self.earlier_seconds + time.perf_counter() - self.begin

    def state_dict(self) -> dict[str, Any]:
        """What last.pt holds."""
        return {
            **self.config.origin.record(self.config.changes),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "history": self.history,
            "best": self.best,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a last.pt."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.history = state["average"], state["step"], state["history"]
        self.best, self.earlier_seconds = state["best"], state["seconds"]

    def save(self, path: Path) -> None:
        """Whole or not at all; InputError where the disk is full."""
        save_checkpoint(path, self.state_dict())
        self.saved = time.monotonic()

    def network(self) -> TorchNetwork:
        """A copy as it will be used, on the CPU: with the averaged weights where there are any, and without
        what only serves the training."""
        network = self.config.origin.build(TorchNetwork, **self.config.changes)
        state = {**self.model.state_dict(), **(self.average or {})}
        network.load_state_dict({key: state[key].cpu() for key in network.state_dict()})
        return network

    def start(self, device: torch.device) -> None:
        """Start the clock, with model and optimiser at their place in memory."""
        if self.average is not None:
            self.average = {key: value.to(device) for key, value in self.average.items()}
        self.current = list(floats(self.model).values())
        self.begin, self.saved = time.perf_counter(), time.monotonic()

    def note(self, **losses: float) -> None:
        """The losses of one step."""
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)

    def update_average(self, decay: float) -> None:
        """One step of the averages, which follow faster in the first steps."""
        if self.average is not None:
            decay = min(decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.values()), self.current, 1 - decay)


def floats(model: nn.Module) -> dict[str, Tensor]:
    """Weights and running statistics, which share the memory of the model's own."""
    return {key: value for key, value in model.state_dict().items() if value.is_floating_point()}


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay on the weights of convolutions alone, as darknet has it."""
    convolutions = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    return [{"params": convolutions, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def make_optimizer(model: nn.Module, levers: Recipe, fused: bool) -> torch.optim.Optimizer:
    """SGD or AdamW; `fused` is faster, but Fabric cannot clip with it in half precision."""
    groups = parameter_groups(model, levers.weight_decay)
    if levers.optimizer == "sgd":
        return torch.optim.SGD(groups, levers.learning_rate, levers.momentum, fused=fused)
    return torch.optim.AdamW(groups, levers.learning_rate, (levers.momentum, 0.999), fused=fused)
