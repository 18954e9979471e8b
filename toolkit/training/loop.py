"""The training loop: one call trains any network of the zoo on any data set, and goes on after anything.

Everything random follows from (seed, step), so a run that was killed and resumed ends, on a CPU, with the
very weights of one that was not. Lightning Fabric carries it from one CPU to several GPUs.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.data.augment import Augmentation
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.models import create_model
from toolkit.models.io import NetworkIO
from toolkit.moved import at_old_place
from toolkit.pictures import load_image
from toolkit.runtime import (
    InputError,
    environment,
    keep_freed_memory,
    pick_device,
    progress,
    require,
    whole_file,
)
from toolkit.training.autotune import autotuned
from toolkit.training.checkpoint import load_checkpoint, save_checkpoint, trained
from toolkit.training.config import Config, read_config, write_config
from toolkit.training.loader import batches, steps_per_epoch
from toolkit.training.tasks import TrainingTask, task_of

SAVE_EVERY = 300  # seconds between two checkpoints, if no validation comes first


@dataclass(frozen=True)
class Result:
    """What a run came to.

    `score`: the best validation's `metric`, mAP50 (0..1) of a detector, the mean error of landmarks (nme).
    `best_weights` are those of that validation; `pictures_per_second` leaves out the validations.
    """

    folder: str
    metric: str
    score: float | None  # None where a run was stopped before its first validation
    step: int
    steps: int
    seconds: float
    pictures_per_second: float
    best_weights: str
    finished: bool


def train(
    config: Config,
    output: str | Path,
    resume: bool = False,
    dataset: Dataset | None = None,
    show: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Result:
    """Train, validate now and then, and keep the best weights in the folder `output`.

    The folder holds config.yaml, environment.json, metrics.jsonl, tensorboard/, the pictures of
    toolkit.training.show.draw_run, last.pt (to resume) and best.pt, best.weights, best.cfg, best.names (what
    `toolkit evaluate`, `export` and `detect` take). `dataset` replaces the one that `config.data` names.
    `show` is called with the history after each validation, in a notebook to draw it; without it a line is
    written to stderr.

    SIGTERM and Ctrl-C save and leave: `Result.finished` is then False, and `resume=True` goes on.

    Raises InputError for settings that do not fit the data or the machine, for a folder that holds another
    run, and where the loss stops being a number; last.pt then still holds the last good state.
    """
    fabric_module = require("lightning.fabric", "training")
    require("tensorboard", "training")
    output = Path(output)
    if config.devices > 1 and config.device == "auto" and not torch.cuda.is_available():
        config = config.model_copy(update={"device": "cpu"})
    accelerator = "cuda" if pick_device(config.device).type == "cuda" else "cpu"
    if accelerator == "cuda" and config.devices > torch.cuda.device_count():
        raise InputError(f"{config.devices} GPUs were asked for, there are {torch.cuda.device_count()}")
    if not resume and (output / "last.pt").exists():
        raise InputError(f"{output} holds a run already: go on with it (resume), or name another folder")
    if resume and not (output / "config.yaml").is_file():
        raise InputError(f"{output} holds no run to resume: start the run without resume")
    if dataset is None:
        dataset = load(config.data)
    output.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    if resume:
        config = _resumed(config, output)
    else:
        config = autotuned(task_of(config).complete(config, dataset))
        write_config(output / "config.yaml", config)
        _write_json(output / "environment.json", environment())
    if config.threads:
        torch.set_num_threads(config.threads)
    precision = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[config.precision]
    fabric = fabric_module.Fabric(
        accelerator=accelerator,
        devices=config.devices,
        strategy="ddp_spawn" if config.devices > 1 else "auto",
        precision=precision,
    )
    show = show if config.devices == 1 else None
    # as a partial: Fabric looks into arguments, and may not into frozen dataclasses
    work = partial(_run, config=config, output=output, resume=resume, dataset=dataset, show=show)
    try:
        fabric.launch(work)
    except torch.multiprocessing.ProcessRaisedException as error:
        said = str(error).strip().splitlines()[-1]
        kind = f"{InputError.__module__}.{InputError.__qualname__}: "
        if not said.startswith(kind):
            raise
        raise InputError(said.removeprefix(kind)) from None
    return Result(**json.loads((output / "result.json").read_text()))


def _resumed(config: Config, output: Path) -> Config:
    """The run's own configuration; only what does not change the result may differ."""
    stored = read_config(output / "config.yaml")
    last = output / "last.pt"
    held = load_checkpoint(last)["model_name"] if last.exists() else stored.model
    if (config.model, config.data) != (stored.model, stored.data) or held != config.model:
        raise InputError(
            f"{output} holds a run of {held} on {stored.data}, and {config.model} on "
            f"{config.data} was asked for: resume with the same, or name another folder"
        )
    free = ("device", "devices", "workers", "stop_at", "cache_gb")
    return stored.model_copy(update={name: getattr(config, name) for name in free})


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay on the weights of convolutions alone, as darknet has it."""
    convolutions = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    return [{"params": convolutions, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _run(
    fabric: Any,
    config: Config,
    output: Path,
    resume: bool,
    dataset: Dataset,
    show: Callable[[list[dict[str, Any]]], None] | None,
) -> None:
    """The training itself, in every process; the first one writes."""
    from torch.utils.tensorboard import SummaryWriter

    levers, world, main = config.recipe, fabric.world_size, fabric.global_rank == 0
    task = task_of(config)
    train_set, val_set = task.parts(config, dataset)
    model = task.build(config)
    losses = task.losses(config, model, train_set, fabric.device)
    with fabric.rank_zero_first():  # the others then find the decoded pictures made
        maker = task.maker(config, model, train_set)
    groups = parameter_groups(model, levers.weight_decay)
    optimizer: torch.optim.Optimizer
    fused = config.precision != "fp16"  # with it, Fabric could not clip
    if levers.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, levers.learning_rate, levers.momentum, fused=fused)
    else:
        optimizer = torch.optim.AdamW(groups, levers.learning_rate, (levers.momentum, 0.999), fused=fused)
    average = {k: v.clone() for k, v in floats(model).items()} if levers.ema else None

    io: NetworkIO = model.io
    width, height = io.input_size
    per_epoch = steps_per_epoch(len(maker), levers.batch, world, levers.accumulate)
    steps = max(1, round(levers.epochs * per_epoch))
    plain = replace(levers.augmentation, mosaic=0.0)
    layout = torch.channels_last if config.memory_format == "channels_last" else torch.contiguous_format
    validate_at = {round(steps * (i + 1) / config.validations) for i in range(config.validations)}

    def size_at(step: int) -> tuple[int, int]:
        if not levers.multi_scale:
            return width, height
        rng = np.random.default_rng((config.seed, step // 10, 7))
        draw = rng.uniform(1, 1 + levers.multi_scale) ** rng.choice((-1, 1))
        stride = io.stride
        sides = (round(draw * side / stride + 1) * stride for side in (width, height))
        w, h = sides
        return w, h

    def settings_at(step: int) -> Augmentation:
        return levers.augmentation if step < steps * (1 - levers.plain_share) else plain

    step, history, spent = 0, [], 0.0
    best: float | None = None
    if resume and (output / "last.pt").exists():
        state = load_checkpoint(output / "last.pt")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average = state["average"]
        step, history, best, spent = state["step"], state["history"], state["best"], state["seconds"]
    wrapped, optimizer = fabric.setup(model.to(memory_format=layout), optimizer)
    if average is not None:
        average = {key: value.to(fabric.device) for key, value in average.items()}
    current = list(floats(model).values())
    compiled = torch.compile(wrapped) if config.compile else wrapped

    def state_now() -> dict[str, Any]:
        return {
            "model_name": config.model,
            "changes": config.changes,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "step": step,
            "history": history,
            "best": best,
            "seconds": spent + time.perf_counter() - begin,
        }

    def shared(value: Tensor) -> Tensor:
        """Summed over the processes."""
        return fabric.all_reduce(value, reduce_op="sum") if world > 1 else value

    stream = batches(
        maker, levers.batch, size_at, settings_at, step, steps,
        fabric.global_rank, world, levers.accumulate, config.workers,
    )  # fmt: skip
    begin, first, saved, aside = time.perf_counter(), step, time.monotonic(), 0.0
    since: dict[str, list[float]] = {}  # losses of the steps since the last validation
    board = None
    if main:
        board = SummaryWriter(output / "tensorboard", purge_step=step)
        _record(output, history)  # without what a killed run wrote after its last checkpoint
    model.train()
    with leaving() as asked:
        for _ in progress(range(step, steps), "training", steps - step) if main else range(step, steps):
            rate = levers.learning_rate * levers.rate(step / steps, 1 / steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            if levers.freeze:
                frozen = step < levers.freeze * steps
                for part in (model.stem, model.stages):
                    part.requires_grad_(not frozen).train(not frozen)
            optimizer.zero_grad()
            count = torch.zeros((), device=fabric.device)
            sums: dict[str, Tensor] = {}
            for _ in range(levers.accumulate):
                batch = next(stream).to(fabric.device)
                pixels = batch.images.flip(-1) if io.channel_order == "BGR" else batch.images
                x = ((pixels.float() - io.mean) * io.scale).permute(0, 3, 1, 2)
                x = x.contiguous(memory_format=layout)
                found = losses(compiled(x), batch, x)
                fabric.backward(found.total)
                count += found.positives
                for name, value in found.parts.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
            divisor = shared(count).clamp_min(1)
            loss = float(shared(torch.stack(list(sums.values())).sum()) / divisor)
            means = {name: float(value / divisor) * world for name, value in sums.items()}
            for name, number in {"loss": loss, **means}.items():
                since.setdefault(name, []).append(number)
            if not math.isfinite(loss):
                if main:
                    save_checkpoint(output / "not_finite.pt", asdict(batch))
                raise InputError(
                    f"the loss is no longer a finite number at step {step + 1} (learning rate {rate:.2g}): "
                    f"lower learning_rate or raise clip; the batch is in {output / 'not_finite.pt'}"
                )
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, float(world / divisor))
            if levers.clip:
                fabric.clip_gradients(wrapped, optimizer, max_norm=levers.clip, error_if_nonfinite=False)
            optimizer.step()
            step += 1
            if average is not None:
                decay = min(levers.ema, (1 + step) / (10 + step))
                torch._foreach_lerp_(list(average.values()), current, 1 - decay)
            if board is not None and (step in validate_at or step == steps):
                paused = time.perf_counter()
                entry = {"step": step, "learning_rate": rate}
                entry |= {name: sum(values) / len(values) for name, values in since.items()}
                since.clear()
                network = _averaged(config, model, average)
                score = round(task.validate(network.to(fabric.device), val_set), 5)
                entry[task.metric] = score
                history.append(entry)
                _record(output, history)
                for name, number in entry.items():
                    board.add_scalar(name, number, step)
                if best is None or task.sign * score > task.sign * best:
                    best = score
                    _save_best(output, config, task, network.cpu(), step, best)
                save_checkpoint(output / "last.pt", state_now())
                saved = time.monotonic()
                if show is None:
                    print(f"step {step}/{steps}  loss {loss:.3f}  {task.metric} {score:.4f}", file=sys.stderr)
                else:
                    show(history)
                model.train()
                aside += time.perf_counter() - paused
            leave = step == config.stop_at or bool(shared(torch.tensor(len(asked), device=fabric.device)))
            if main and (leave or time.monotonic() - saved > SAVE_EVERY):
                save_checkpoint(output / "last.pt", state_now())
                saved = time.monotonic()
            if leave:
                break
    stream.close()  # type: ignore[attr-defined]
    if board is None:
        return
    seconds = time.perf_counter() - begin
    seen = (step - first) * levers.batch * levers.accumulate * world
    result = Result(
        folder=str(output),
        metric=task.metric,
        score=best,
        step=step,
        steps=steps,
        seconds=round(spent + seconds, 1),
        pictures_per_second=round(seen / max(seconds - aside, 1e-9), 1),
        best_weights=str(output / task.best),
        finished=step == steps,
    )
    _write_json(output / "result.json", asdict(result))
    if history:
        task.draw(output, history, trained(output / "best.pt"), val_set)
        board.add_image("pictures", load_image(output / "pictures.png"), step, dataformats="HWC")
    board.close()


@contextmanager
def leaving() -> Iterator[list[int]]:
    """A list that a SIGTERM or Ctrl-C inside the block fills, instead of ending the process in mid-step."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: asked.append(number)) for kind in kinds]
    try:
        yield asked
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def floats(model: nn.Module) -> dict[str, Tensor]:
    """Weights and running statistics, which share the memory of the model's own."""
    return {key: value for key, value in model.state_dict().items() if value.is_floating_point()}


def _averaged(config: Config, model: nn.Module, average: dict[str, Tensor] | None) -> Any:
    """The network as it will be used, with the averaged weights where there are any; what only serves the
    training is left out."""
    network = create_model(config.model, **config.changes)
    state = {**model.state_dict(), **(average or {})}
    network.load_state_dict({key: state[key].cpu() for key in network.state_dict()})
    return network


def _save_best(
    output: Path, config: Config, task: TrainingTask, network: Any, step: int, score: float
) -> None:
    state = {"model_name": config.model, "changes": config.changes, "model": network.state_dict()}
    save_checkpoint(output / "best.pt", {**state, "step": step, task.metric: score})
    task.save(network, output)


def _record(output: Path, history: list[dict[str, Any]]) -> None:
    with whole_file(output / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in history))


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
