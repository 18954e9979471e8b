"""What a training is at a step: weights, optimiser, averages and history, saved and loaded as a whole."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.models.network import TorchNetwork
from toolkit.models.pt_file import check_fit
from toolkit.runtime import InputError
from toolkit.training.checkpoint import load_checkpoint, save_checkpoint
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

    def load(self, path: Path) -> None:
        """Continue from a last.pt. InputError where it is damaged, of another network, or no last.pt."""
        state = load_checkpoint(path)
        lacking = sorted(self.state_dict().keys() - state.keys() - {"cfg"})
        if lacking or (state["average"] is None) != (self.average is None):
            reason = f"it has no {lacking[0]}" if lacking else "it is of a run with another lever ema"
            raise InputError(f"{path} is not the last state of this run ({reason}): start it again")
        name = state["model_name"]
        moments = _moments(path, state["optimizer"], self.optimizer)
        if self.average is not None:
            average = check_fit(path, state["average"], self.average, name)
            self.average = {key: value.clone() for key, value in average.items()}  # no more of the file
        self.model.load_state_dict(check_fit(path, state["model"], self.model.state_dict(), name))
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.step, self.history = state["step"], list(state["history"])
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


def _moments(path: Path, stored: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[int, Any]:
    """What an optimiser kept of each of its parameters. InputError where a checkpoint's does not fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sgd = isinstance(optimizer, torch.optim.SGD)
    names = {"momentum_buffer"} if sgd else {"step", "exp_avg", "exp_avg_sq"}
    for i, values in stored["state"].items():
        fits = (
            0 <= i < len(parameters)
            and (not values or values.keys() == names)
            and all(
                (value is None and sgd)
                or (
                    isinstance(value, Tensor)
                    and value.shape == (() if name == "step" else parameters[i].shape)
                    and bool(torch.isfinite(value).all())
                )
                for name, value in values.items()
            )
        )
        if not fits:
            raise InputError(
                f"{path} has moments of the optimiser that do not fit parameter {i} of this network: start "
                "the run again"
            )
    return copy.deepcopy(stored["state"])  # not mapped from the file


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
