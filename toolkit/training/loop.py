"""The training loop: one call trains any network of the zoo on any data set, and goes on after anything.

Everything random follows from (seed, step), so a run that was killed and resumed ends, on a CPU, with the
very weights of one that was not. Lightning Fabric carries it from one CPU to several GPUs.
"""

from __future__ import annotations

import itertools
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from toolkit.data import anchors as anchor_tools
from toolkit.data import cards
from toolkit.data.augment import Augmentation, Batch
from toolkit.data.dataset import Dataset, load, match_classes
from toolkit.detect import Settings, load_image
from toolkit.evaluation import detection, predict
from toolkit.models import create_model, list_models
from toolkit.models.darknet import save_darknet
from toolkit.models.detector import SpecDetector
from toolkit.models.landmarks import LANDMARK_SPECS, NetworkIO, TorchNetwork
from toolkit.runtime import (
    InputError,
    environment,
    keep_freed_memory,
    pick_device,
    progress,
    require,
    seed_everything,
    whole_file,
)
from toolkit.training import landmarks
from toolkit.training.assign import yolo_layers
from toolkit.training.checkpoint import (
    load_checkpoint,
    open_teacher,
    save_checkpoint,
    start_from,
    trained,
    transfer,
)
from toolkit.training.darknet_norm import use_darknet_norm
from toolkit.training.distill import check_teacher, distill_loss
from toolkit.training.loader import BatchMaker, Maker, PictureCache, batches, steps_per_epoch
from toolkit.training.loss import Losses, darknet_loss
from toolkit.training.modern import modern_loss
from toolkit.training.recipe import Recipe, default_recipe, first_fault, read_yaml, recipe
from toolkit.training.show import draw_run

VALIDATION = Settings(conf=0.001, clip=False)
HALF_GAIN = 1.25
SAVE_EVERY = 300  # seconds between two checkpoints, if no validation comes first


class Config(BaseModel):
    """A whole run, as its config.yaml holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data: str
    model: str
    recipe: Recipe
    changes: dict[str, Any] = {}  # of the network's spec (toolkit.models.spec.change), such as se or width
    weights: str | None = None  # to start from: "published", or a .weights or .pt file
    size: tuple[int, int] | None = None  # of the network's input; None: see `input_size`
    # auto: those of `weights` for the same classes; else fitted where under 98 % of the objects are reached
    anchors: Literal["auto", "keep", "fit"] = "auto"
    train_split: str = "train"
    val_split: str = "val"
    teacher: str | None = None
    seed: int = 0
    order: int | None = None  # a seed of its own for the order and augmentation of the pictures
    validations: int = Field(10, ge=1)  # over the whole run
    device: str = "auto"
    devices: int = Field(1, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    threads: int = 0  # of torch on a CPU; 0: as it is
    workers: int = 0
    compile: bool = False
    cache_gb: float = 8.0
    stop_at: int | None = None  # leave after this step as if asked to by a signal


def read_config(source: dict[str, Any] | str | Path) -> Config:
    """A Config from a mapping or from a YAML file; `recipe` may be a name or a mapping of levers with a name.

    Raises InputError with the first field that does not fit.
    """
    data = source if isinstance(source, dict) else read_yaml(source, f"there is no settings file {source}")
    data = dict(data)
    chosen = recipe(data.pop("recipe", default_recipe(str(data.get("model", "")))))
    try:
        return Config(**data, recipe=chosen)
    except ValidationError as error:
        raise InputError(first_fault("the settings", error)) from None


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


@dataclass(frozen=True)
class Task:
    """What the loop asks about a kind of network.

    `metric` names the figure by which weights are chosen, `sign` is -1 where the least is best. `complete`
    fills in what follows from the data; `parts`: pictures to train on and to validate with; `build`: the
    network with the weights that it starts from; `maker`: its batches, whose `images` are (N, H, W, 3) uint8
    RGB; `losses(config, model, training pictures, device)` -> (outputs, batch, x) -> Losses; `validate`: the
    metric; `save`: files of the best weights beside best.pt; `draw`: pictures of a finished run; `best`: the
    file of the best weights that other commands take.
    """

    metric: str
    sign: int
    complete: Callable[[Config, Dataset], Config]
    parts: Callable[[Config, Dataset], tuple[Dataset, Dataset]]
    build: Callable[[Config], Any]
    maker: Callable[[Config, Any, Dataset], Maker]
    losses: Callable[[Config, Any, Dataset, torch.device], Callable[[list[Tensor], Any, Tensor], Losses]]
    validate: Callable[[Any, Dataset], float]
    save: Callable[[Any, Path], Any]
    draw: Callable[[Path, list[dict[str, Any]], Any, Dataset], None]
    best: str


def task_of(config: Config) -> Task:
    """Detection or landmarks, by the network. InputError for an unknown one and for a loss of the other."""
    if config.model not in list_models():
        raise InputError(f"unknown network {config.model!r}: known are {', '.join(list_models())}")
    if config.model in LANDMARK_SPECS:
        task, losses, name = LANDMARKS, landmarks.LOSSES, "landmarks"
    else:
        task, losses, name = DETECTION, ("modern", "darknet", "darknet-fork"), "modern"
    if config.recipe.loss not in losses:
        raise InputError(
            f"the loss {config.recipe.loss!r} does not fit {config.model}, which has {', '.join(losses)}: "
            f"train with the recipe {name}"
        )
    return task


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
        config = _measured(task_of(config).complete(config, dataset))
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


# --- before the run --------------------------------------------------------------------------------------


def input_size(dataset: Dataset, own: tuple[int, int], stride: int) -> tuple[int, int]:
    """The network's own input (w, h), or, where the middle one of the pictures is smaller, that picture's
    sides rounded up to the stride: enlarged pictures cost time and show nothing new."""
    known = dataset.sizes[(dataset.sizes > 0).all(1)]
    if not len(known):
        return own
    middle = np.ceil(np.median(known, axis=0) / stride).astype(int) * stride
    width, height = (min(a, int(b)) for a, b in zip(own, middle, strict=True))
    return width, height


def splits(config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The pictures to train on and those to validate with; without a validation split, a tenth of the
    training pictures, the same for every seed. Raises InputError where either has no objects."""
    train_set, val_set = dataset.split(config.train_split), dataset.split(config.val_split)
    if not len(train_set):
        have = ", ".join(sorted({str(s) or "(none)" for s in dataset.splits}))
        raise InputError(f"{config.data} has no split {config.train_split!r}: it has {have}")
    if not len(val_set):
        order = np.random.default_rng(0).permutation(len(train_set))
        held = max(1, len(order) // 10)
        train_set, val_set = train_set.subset(np.sort(order[held:])), train_set.subset(np.sort(order[:held]))
    for name, part in (("training", train_set), ("validation", val_set)):
        if not (~(part.ignore | part.crowd)).any():
            raise InputError(f"the {name} pictures of {config.data} have no objects: nothing to learn from")
    return train_set, val_set


def complete(config: Config, dataset: Dataset) -> Config:
    """The configuration with the classes of the data set, the network's input size and anchors that fit
    written into `changes`. Raises InputError for settings that do not fit the data."""
    if config.teacher and config.recipe.loss != "modern":
        raise InputError(
            f"the loss {config.recipe.loss!r} learns from labels alone: leave out the teacher, or train with "
            "the recipe modern"
        )
    train_set, _ = splits(config, dataset)
    changes = {"classes": list(dataset.classes), **config.changes}
    if config.size is not None:
        changes["input_size"] = list(config.size)
    spec = create_model(config.model, **changes).spec
    match_classes(dataset, spec.classes)
    if "input_size" not in changes:
        changes["input_size"] = list(input_size(train_set, spec.input_size, spec.stride))
        spec = create_model(config.model, **changes).spec
    if config.weights and "anchors" not in changes and config.anchors == "auto":
        source = start_from(config.weights, config.model)
        if source.io.classes == spec.classes:  # its boxes go on as they are
            changes["anchors"] = [list(a) for head in reversed(source.spec.heads) for a in head.anchors]
    if config.anchors != "keep" and "anchors" not in changes:
        sizes = anchor_tools.object_sizes(train_set, spec.input_size)
        own = [anchor for head in spec.heads for anchor in head.anchors]
        if config.anchors == "fit" or anchor_tools.fit(sizes, own).recall < 0.98:
            found = anchor_tools.find(sizes, len(own))
            changes["anchors"] = [[max(1, round(float(w))), max(1, round(float(h)))] for w, h in found]
    levers = config.recipe
    if config.data in cards.names() and not cards.card(config.data).mirrored:
        plain = replace(levers.augmentation, flip=0.0)  # a mirrored digit is no digit
        levers = levers.model_copy(update={"augmentation": plain})
    return config.model_copy(update={"changes": changes, "recipe": levers})


def _measured(config: Config) -> Config:
    """The configuration with memory format and precision chosen by a few steps each, in turns: the fastest,
    where half precision counts only if it is faster by HALF_GAIN, since it also costs some accuracy."""
    config = config.model_copy(update={"threads": config.threads or torch.get_num_threads()})
    formats = [config.memory_format] if config.memory_format != "auto" else ["channels_last", "contiguous"]
    kinds = [config.precision] if config.precision != "auto" else ["fp32", "bf16"]
    choices = list(itertools.product(formats, kinds))
    if len(choices) > 1:
        steps = {}
        for layout, kind in choices:
            model = create_model(config.model, **config.changes).train()
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
    x = torch.rand(batch, 3, height, width, device=device).to(memory_format=layout)
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}

    def step() -> None:
        with torch.autocast(device.type, kinds[precision]) if precision in kinds else nullcontext():
            maps = model(x)
        optimizer.zero_grad()
        torch.stack([m.float().square().mean() for m in maps]).sum().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


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


def write_config(path: Path, config: Config) -> None:
    """What `read_config` reads."""
    data = config.model_dump()
    data["recipe"]["augmentation"] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(config.recipe.augmentation).items()
    }
    data["size"] = list(config.size) if config.size else None
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(data, sort_keys=False))


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


# --- the network -----------------------------------------------------------------------------------------


def build(config: Config) -> SpecDetector:
    """The network of a run, with the weights that it starts from: of `config.weights`, everything that fits,
    with the outputs of classes that have the same names; the rest is fresh."""
    seed_everything(config.seed)
    model = create_model(config.model, **config.changes)
    modern = config.recipe.loss == "modern"
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if modern:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:  # darknet's make_convolutional_layer
                bound = math.sqrt(2 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
    with torch.no_grad():
        for head in model.heads:
            bias = head.out.conv.bias.view(-1, 5 + len(model.io.classes))  # type: ignore[union-attr, operator]
            bias.zero_()
            if modern:
                head.out.conv.weight.mul_(0.1)  # type: ignore[union-attr, operator]
                bias[:, 4:] = -math.log(99)  # an object is expected in one cell of a hundred
    if config.weights:
        transfer(model, config.weights, config.model)
    return model


def balanced(dataset: Dataset) -> Tensor:
    """(C,) weights by 1 / sqrt(objects of the class), with mean 1 over the objects."""
    counts = np.bincount(dataset.labels[~(dataset.ignore | dataset.crowd)], minlength=len(dataset.classes))
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay on the weights of convolutions alone, as darknet has it."""
    convolutions = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    return [{"params": convolutions, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


# --- the run ---------------------------------------------------------------------------------------------


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


def _save_best(output: Path, config: Config, task: Task, network: Any, step: int, score: float) -> None:
    state = {"model_name": config.model, "changes": config.changes, "model": network.state_dict()}
    save_checkpoint(output / "best.pt", {**state, "step": step, task.metric: score})
    task.save(network, output)


def _record(output: Path, history: list[dict[str, Any]]) -> None:
    with whole_file(output / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in history))


# --- detection -------------------------------------------------------------------------------------------


def _detection_parts(config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
    return splits(config, match_classes(dataset, config.changes["classes"]))


def _detection_maker(config: Config, model: SpecDetector, train_set: Dataset) -> BatchMaker:
    side = round(max(model.io.input_size) * (1 + config.recipe.multi_scale))
    cache = PictureCache(train_set, side, limit_gb=config.cache_gb)
    return BatchMaker(train_set, cache, config.seed if config.order is None else config.order)


def _detection_losses(
    config: Config, model: SpecDetector, train_set: Dataset, device: torch.device
) -> Callable[[list[Tensor], Batch, Tensor], Losses]:
    levers = config.recipe
    darknet = levers.loss != "modern"
    if darknet:
        use_darknet_norm(model, levers.loss == "darknet-fork")
    layers = yolo_layers(model) if darknet else ()
    classes = balanced(train_set).to(device) if levers.class_weights == "balanced" else None
    teacher = None
    if config.teacher:
        teacher = open_teacher(config.teacher).to(device)
        check_teacher(model.io, teacher.io)

    def losses(maps: list[Tensor], batch: Batch, x: Tensor) -> Losses:
        truths = (batch.boxes, batch.labels, batch.picture, batch.ignore)
        if darknet:
            size = (x.shape[3], x.shape[2])
            return darknet_loss(maps, *truths, layers, size, levers.loss == "darknet-fork")
        found = modern_loss(
            maps,
            *truths,
            model.io,
            levers.assigner,
            levers.iou_kind,
            levers.iou_aware,
            levers.label_smoothing,
            classes,
            levers.box_weight,
            levers.obj_weight,
            levers.cls_weight,
        )
        if teacher is None or not levers.distill_weight:
            return found
        with torch.no_grad():
            taught = teacher(x)
        lesson = levers.distill_weight * distill_loss(maps, taught, model.io, teacher.io)
        return Losses(found.total + lesson, found.positives, {**found.parts, "distill": lesson.detach()})

    return losses


def _map50(network: SpecDetector, val_set: Dataset) -> float:
    """COCO's mAP at IoU .5 on the validation pictures."""
    found = predict(network, val_set, VALIDATION)
    return float(detection.coco(detection.Truth.from_dataset(val_set), found).ap50)


def _save_darknet(network: SpecDetector, output: Path) -> None:
    save_darknet(network, output, "best")


DETECTION = Task(
    "map50", 1, complete, _detection_parts, build, _detection_maker, _detection_losses, _map50, _save_darknet,
    draw_run, "best.weights",
)  # fmt: skip
LANDMARKS = Task(
    "nme", -1, landmarks.complete, landmarks.parts, landmarks.build, landmarks.maker, landmarks.losses,
    landmarks.validate, landmarks.save, landmarks.draw, "best.pt",
)  # fmt: skip
