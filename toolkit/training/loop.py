"""The training loop: one call trains any network, of the zoo or from a darknet cfg, on any data set, and
resumes after anything.

Everything random follows from (seed, step), so a run that was killed and resumed ends, on a CPU, with the
very weights of one that was not. Lightning Fabric carries it from one CPU to several GPUs.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.files import locked, whole_file, write_json
from toolkit.models.network import TorchNetwork
from toolkit.moved import at_old_place
from toolkit.pictures import load_image
from toolkit.runtime import InputError, environment, keep_freed_memory, pick_device, progress, require
from toolkit.signals import leaving
from toolkit.tables import Shown
from toolkit.text import read_json
from toolkit.training.autotune import autotuned
from toolkit.training.checkpoint import load_checkpoint, save_checkpoint, trained
from toolkit.training.config import Config, check_resumed, check_step_memory, read_config, write_config
from toolkit.training.loader import TrainingBatch, batches, network_input, steps_per_epoch
from toolkit.training.show import History, RunHistory
from toolkit.training.state import RunState
from toolkit.training.tasks import TASKS, TrainingTask, task_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

Show = Callable[[History], None]
Parts = tuple[Dataset, Dataset]  # what to train on, what to validate with

GROWN = 3.0  # times the loss of the first validation, from which a training has diverged
SAVE_EVERY = 300  # seconds between two checkpoints, if no validation comes first
REMEDY = "lower learning_rate or set clip, both levers of the recipe"
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Result(Shown):
    """The outcome of a run.

    `score`: the best validation's `metric`: mAP50 (0..1) of a detector, the mean error of landmarks (nme);
    None where a run was stopped before its first validation. `best_weights` are those of that validation;
    `pictures_per_second` leaves out the validations. `notes` say how the validation pictures and the anchors
    were chosen where the data left it open. `diverged` says why the weights are of no use; "" where they
    may be.
    """

    folder: str
    metric: str
    score: float | None
    step: int
    steps: int
    seconds: float
    pictures_per_second: float
    best_weights: str
    finished: bool
    notes: tuple[str, ...] = ()
    diverged: str = ""

    def caption(self) -> str:
        """What a person should know of it."""
        return " ".join(note[:1].upper() + note[1:] + "." for note in (self.diverged, *self.notes) if note)

    def columns(self) -> dict[str, list[str]]:
        """Score, steps, time."""
        score = "not validated" if self.score is None else f"{self.score:.4f}"
        return {
            "": [self.metric, "steps", "seconds", "pictures a second", "best weights"],
            "this run": [
                score,
                f"{self.step:,} of {self.steps:,}",
                f"{self.seconds:.0f}",
                f"{self.pictures_per_second:.0f}",
                self.best_weights if self.score is not None else "none yet",
            ],
        }

    @property
    def history(self) -> RunHistory | None:
        """The validations; None before the first."""
        sign = next(task.sign for task in TASKS.values() if task.metric == self.metric)
        return RunHistory.read(self.folder, self.metric, sign)

    def figure(self) -> Figure | None:
        """The curves of the validations; None before the first."""
        return None if self.history is None else self.history.figure()


def train(
    config: Config,
    output: str | Path,
    resume: bool = False,
    dataset: Dataset | None = None,
    show: Show | None = None,
) -> Result:
    """Train, validate at equal distances, and keep the best weights.

    SIGTERM and Ctrl-C save and leave: `Result.finished` is then False, and `resume=True` continues.

    Args:
        config: settings of the run, as `read_config` returns them.
        output: the run's folder, for config.yaml, environment.json, metrics.jsonl, tensorboard/, the pictures
            of the task (curves.png, pictures.png), last.pt (to resume) and best.pt; of a detector also
            best.weights, best.cfg and best.names, which `toolkit evaluate`, `export` and `detect` take.
        resume: continue the run in `output`; of `config`, only what does not change its result is taken.
        dataset: replaces the one that `config.data` names.
        show: called with the history after each validation, in a notebook to draw it; without it a line is
            written to stderr.

    Returns:
        The outcome, which result.json in the folder holds too.

    Raises:
        InputError: for settings that do not fit the data or the machine, for a folder that holds another run,
            and where the loss stops being a number; last.pt then still holds the last good state.
    """
    fabric_module = require("lightning.fabric", "training")
    require("tensorboard", "training")
    output = Path(output)
    if config.devices > 1 and config.device == "auto" and not torch.cuda.is_available():
        config = config.model_copy(update={"device": "cpu"})
    accelerator = "cuda" if pick_device(config.device).type == "cuda" else "cpu"
    if accelerator == "cuda" and config.devices > torch.cuda.device_count():
        raise InputError(
            f"devices = {config.devices}, but this machine has {torch.cuda.device_count()} GPUs: use fewer, "
            "or the device cpu"
        )
    if not resume and (output / "last.pt").exists():
        raise InputError(
            f"{output} holds a run already: continue it (--resume, resume=True), or name another folder"
        )
    if resume and not (output / "config.yaml").is_file():
        raise InputError(f"{output} holds no run to resume: start it without --resume (resume=True)")
    if dataset is None:
        dataset = load(config.data)
        if not dataset.intake.source:  # what an earlier import has recorded is no news
            for sentence in dataset.intake.sentences():
                print(sentence, file=sys.stderr)
    if not dataset.classes:
        raise InputError(
            f"{config.data} has no labels to train on: it is {len(dataset)} pictures without classes"
        )
    keep_freed_memory()
    with locked(output):
        return _launch(fabric_module, accelerator, config, output, resume, dataset, show)


def _launch(
    fabric_module: ModuleType,
    accelerator: str,
    config: Config,
    output: Path,
    resume: bool,
    dataset: Dataset,
    show: Show | None,
) -> Result:
    """Write the run's settings, or read them, and train in as many processes as they say."""
    config = _resumed(config, output) if resume else task_of(config).complete(config, dataset)
    parts = task_of(config).parts(config, dataset)
    if not resume:
        if accelerator == "cpu":
            check_step_memory(config)
        config = autotuned(config, _steps(config, len(parts[0])))
        output.mkdir(parents=True, exist_ok=True)
        write_config(output / "config.yaml", config)
        write_json(output / "environment.json", environment())
        for note in (f"recipe {config.recipe.name}, {config.recipe.epochs:g} epochs", *config.notes.values()):
            print(f"note: {note}", file=sys.stderr)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or before)
    fabric = fabric_module.Fabric(
        accelerator=accelerator,
        devices=config.devices,
        strategy="ddp_spawn" if config.devices > 1 else "auto",
        precision=PRECISIONS[config.precision],
    )
    show = show if config.devices == 1 else None
    # as a partial: Fabric looks into arguments, and may not into frozen dataclasses
    work = partial(_run, config=config, output=output, resume=resume, parts=parts, show=show)
    try:
        fabric.launch(work)
    except ProcessRaisedException as error:
        message = str(error).strip().splitlines()[-1]
        kind = f"{InputError.__module__}.{InputError.__qualname__}: "
        if not message.startswith(kind):
            raise
        raise InputError(message.removeprefix(kind)) from None
    finally:
        torch.set_num_threads(before)
    result = read_json(output / "result.json")
    return Result(**{**result, "notes": tuple(result["notes"])})


def _resumed(config: Config, output: Path) -> Config:
    """The run's own settings; only what does not change the result may differ."""
    stored = read_config(output / "config.yaml")
    last = output / "last.pt"
    model = load_checkpoint(last)["model_name"] if last.exists() else stored.model
    if (config.model, config.data) != (stored.model, stored.data) or model != config.model:
        raise InputError(
            f"{output} holds a run of {model} on {stored.data}, not of {config.model} on {config.data}: "
            "resume with the same, or name another folder"
        )
    if config.cfg != stored.cfg:
        raise InputError(
            f"{output} holds a run of another {stored.model}: leave --model out, as it has its cfg, or name "
            "another folder"
        )
    names = [name for name in ("seed", "size", "weights", "teacher") if getattr(config, name) is not None]
    check_resumed(stored, {name: getattr(config, name) for name in names})
    free = ("device", "devices", "workers", "stop_at", "cache_gb")
    return stored.model_copy(update={name: getattr(config, name) for name in free})


def _steps(config: Config, pictures: int) -> int:
    """Steps of the whole run."""
    levers = config.recipe
    per_epoch = steps_per_epoch(pictures, levers.batch, config.devices, levers.accumulate)
    return max(1, round(levers.epochs * per_epoch))


def _run(fabric: Fabric, config: Config, output: Path, resume: bool, parts: Parts, show: Show | None) -> None:
    """The training itself, in every process; the first one writes."""
    run = Run(fabric, config, output, resume, parts)
    state, first, validating = run.state, run.state.step, 0.0
    validations = {round(run.steps * (i + 1) / config.validations) for i in range(config.validations)}
    todo = range(first, run.steps)
    board = _board(output, state) if fabric.is_global_zero else None
    run.model.train()
    with leaving() as signals:
        for _ in todo if board is None else progress(todo, "training", len(todo)):
            run.step()
            if board is not None and state.step in validations | {run.steps}:
                before = time.perf_counter()
                run.validate()
                _show(run, board, show)
                validating += time.perf_counter() - before
            signalled = run.shared(torch.tensor(len(signals), device=fabric.device))
            leave = state.step == config.stop_at or bool(signalled)
            if board is not None and (leave or time.monotonic() - state.saved > SAVE_EVERY):
                state.save(output / "last.pt")
            if leave:
                break
    run.stream.close()
    if board is None:
        return
    pictures = (state.step - first) * config.recipe.batch * config.recipe.accumulate * fabric.world_size
    training = time.perf_counter() - state.begin - validating
    result = Result(
        folder=str(output),
        metric=run.task.metric,
        score=state.best,
        step=state.step,
        steps=run.steps,
        seconds=round(state.seconds, 1),
        pictures_per_second=round(pictures / max(training, 1e-9), 1),
        best_weights=str(output / run.task.best),
        finished=state.step == run.steps,
        notes=tuple(note for note in (*config.notes.values(), run.maker.cache.note) if note),
        diverged=_diverged(run.task, state.history) if state.step == run.steps else "",
    )
    if result.diverged:
        print(f"warning: {result.diverged}", file=sys.stderr)
    write_json(output / "result.json", asdict(result))
    if state.history:
        run.task.draw(output, state.history, trained(output / "best.pt"), run.val_set)
        board.add_image("pictures", load_image(output / "pictures.png"), state.step, dataformats="HWC")
    board.close()


class Run:
    """A training in one process: what stays the same from step to step, and the state that does not."""

    def __init__(self, fabric: Fabric, config: Config, output: Path, resume: bool, parts: Parts):
        self.fabric, self.config, self.output = fabric, config, output
        task, levers = task_of(config), config.recipe
        train_set, self.val_set = parts
        begun = resume and (output / "last.pt").exists()
        # the weights to start from are in last.pt by then, and their file may be gone
        model: TorchNetwork = task.build(config.model_copy(update={"weights": None}) if begun else config)
        self.losses = task.losses(config, model, train_set, fabric.device)
        with fabric.rank_zero_first():  # the other processes then map the pictures that it has decoded
            maker = task.maker(config, model, train_set)
        self.task, self.model, self.maker = task, model, maker
        self.drops = any(isinstance(module, nn.Dropout) for module in model.modules())
        self.state = RunState.fresh(config, model)
        if begun:
            self.state.load(output / "last.pt")
        channels_last = config.memory_format == "channels_last"
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        placed = model.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.wrapped, self.state.optimizer = fabric.setup(placed, self.state.optimizer)
        self.forward = torch.compile(self.wrapped) if config.compile else self.wrapped
        self.steps = _steps(config, len(maker))
        self.stream = batches(
            maker,
            levers.batch,
            lambda step: levers.size_at(step, model.io.input_size, model.io.stride, config.seed),
            lambda step: levers.augmentation_at(step, self.steps),
            self.state.step,
            self.steps,
            fabric.global_rank,
            fabric.world_size,
            levers.accumulate,
            config.workers,
        )
        self.state.start(fabric.device)

    def step(self) -> None:
        """One step of the optimiser, on the next `accumulate` batches."""
        state, levers, fabric = self.state, self.config.recipe, self.fabric
        rate = levers.learning_rate * levers.rate(state.step / self.steps, 1 / self.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        if levers.freeze:
            frozen = state.step < levers.freeze * self.steps
            for part in map(self.model.get_submodule, ("stem", "stages")):
                part.requires_grad_(not frozen).train(not frozen)
        if self.drops:  # the only part that draws from torch's own generator
            torch.manual_seed(hash((self.config.seed, state.step, fabric.global_rank)))
        state.optimizer.zero_grad()
        positives = torch.zeros((), device=fabric.device)
        sums: dict[str, Tensor] = {}
        for _ in range(levers.accumulate):
            batch = next(self.stream).to(fabric.device)
            x = self.network_input(batch)
            losses = self.losses(self.forward(x), batch, x)
            fabric.backward(losses.total)
            positives += losses.positives
            for name, value in losses.parts.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        divisor = self.shared(positives).clamp_min(1)
        loss = float(self.shared(torch.stack(list(sums.values())).sum()) / divisor)
        if not math.isfinite(loss):
            self.diverged(batch, rate)
        world = fabric.world_size
        state.note(loss=loss, **{name: float(value / divisor) * world for name, value in sums.items()})
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, float(world / divisor))
        if levers.clip:
            fabric.clip_gradients(
                self.wrapped, state.optimizer, max_norm=levers.clip, error_if_nonfinite=False
            )
        state.optimizer.step()
        state.step += 1
        state.update_average(levers.ema)

    def network_input(self, batch: TrainingBatch) -> Tensor:
        """(N, H, W, 3) uint8 RGB -> float32 (N, channels, H, W), as the network's io says."""
        return network_input(batch.images, self.model.io).contiguous(memory_format=self.layout)

    def shared(self, value: Tensor) -> Tensor:
        """Summed over the processes."""
        if self.fabric.world_size == 1:
            return value
        total = self.fabric.all_reduce(value, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def diverged(self, batch: TrainingBatch, rate: float) -> NoReturn:
        """Keep the batch whose loss is not finite, and stop."""
        file = self.output / "not_finite.pt"
        if self.fabric.is_global_zero:
            save_checkpoint(file, vars(batch))
        raise InputError(
            f"the loss is no longer a finite number at step {self.state.step + 1} (learning rate "
            f"{rate:.2g}): {REMEDY}; the batch is in {file}"
        )

    def validate(self) -> None:
        """Score the network as it will be used, keep the best, and save the state."""
        state, task = self.state, self.task
        entry = {"step": state.step, "learning_rate": state.optimizer.param_groups[0]["lr"]}
        entry |= {name: sum(values) / len(values) for name, values in state.losses.items()}
        state.losses.clear()
        network = state.network()
        score = round(task.validate(network.to(self.fabric.device), self.val_set), 5)
        if not math.isfinite(score):
            raise InputError(f"{task.metric} is no longer a finite number at step {state.step}: {REMEDY}")
        state.history.append(entry | {task.metric: score})
        _record(self.output, state.history)
        if state.best is None or task.sign * score > task.sign * state.best:
            state.best = score
            origin = self.config.origin.record(self.config.changes)
            weights = {"model": network.cpu().state_dict(), "step": state.step, task.metric: score}
            save_checkpoint(self.output / "best.pt", {**origin, **weights})
            task.save(network, self.output)
        state.save(self.output / "last.pt")
        self.model.train()


def _diverged(task: TrainingTask[Any, Any], history: History) -> str:
    """Why the weights of a run are of no use: no validation was better than nothing, or the loss grew."""
    if not history:
        return ""
    first, last = history[0], history[-1]
    if last["loss"] > GROWN * first["loss"]:
        return f"the loss grew from {first['loss']:.3g} to {last['loss']:.3g}: {REMEDY}"
    if all(task.sign * entry[task.metric] <= task.sign * task.useless for entry in history):
        return (
            f"{task.metric} was never better than {task.useless:.3g}: train longer, look at the labels "
            f"(toolkit data doctor), or {REMEDY}"
        )
    return ""


def _board(output: Path, state: RunState) -> SummaryWriter:
    """TensorBoard's writer; what a killed run wrote after its last checkpoint is dropped."""
    from torch.utils.tensorboard import SummaryWriter

    _record(output, state.history)
    return SummaryWriter(output / "tensorboard", purge_step=state.step)


def _show(run: Run, board: SummaryWriter, show: Show | None) -> None:
    """The last validation, on TensorBoard and to the caller or stderr."""
    history = run.state.history
    for name, number in history[-1].items():
        board.add_scalar(name, number, run.state.step)
    if show is None:
        loss, score = history[-1]["loss"], history[-1][run.task.metric]
        print(
            f"step {run.state.step}/{run.steps}  loss {loss:.3f}  {run.task.metric} {score:.4f}",
            file=sys.stderr,
        )
    else:
        show(history)


def _record(output: Path, history: History) -> None:
    with whole_file(output / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(entry, allow_nan=False) + "\n" for entry in history))


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
