"""Checkpoints of the training loop: written whole, read without executing anything, transferred in part."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from toolkit.files import whole_file
from toolkit.models.blocks import SqueezeExcite
from toolkit.models.darknet.names import find_names
from toolkit.models.darknet.stored import Loaded, is_partial, stored_layers
from toolkit.models.darknet.weights import Header, load_weights
from toolkit.models.detector import Detector
from toolkit.models.landmarks import LandmarkNet
from toolkit.models.network import TorchNetwork
from toolkit.models.pt_file import check_fit, read_pt
from toolkit.models.zoo import SPECS, ZOO, has_published_weights
from toolkit.regular import opened
from toolkit.runtime import InputError
from toolkit.text import first_fault
from toolkit.training.origin import Origin, recorded_network

N = TypeVar("N", bound=TorchNetwork)
HEADER = 20  # bytes of the longest header of a darknet weights file


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Whole or not at all, and on the disk. OSError where that is full; the checkpoint before it is intact.

    To memory first: on a full disk torch.save aborts the process.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with whole_file(path, durable=True) as temporary:
        temporary.write_bytes(buffer.getvalue())


class OptimizerState(BaseModel):
    """A torch optimiser's `state_dict`."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True, extra="forbid")

    state: dict[int, dict[str, Tensor | float | None]]
    param_groups: list[dict[str, Any]]


class Checkpoint(BaseModel):
    """What best.pt and last.pt hold; the second group is last.pt's alone."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    model_name: str = Field(min_length=1, max_length=1000)
    cfg: str = ""
    changes: dict[str, Any]
    model: dict[str, Tensor]
    step: int = Field(ge=0)

    optimizer: OptimizerState | None = None
    average: dict[str, Tensor] | None = None
    history: list[dict[str, float]] = []
    best: float | None = None
    seconds: float = Field(0.0, ge=0)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this loop, read without executing anything. Its tensors are mapped from the
    file; `check_fit` compares them with a network. InputError where it is damaged."""
    state = read_pt(path)
    try:
        Checkpoint.model_validate(state)
    except ValidationError as error:
        fault = first_fault(f"{path} is not a checkpoint of a training", error)
        raise InputError(f"{fault}; name the best.pt of a run") from None
    return dict(state)


@overload
def trained(path: str | Path) -> Detector | LandmarkNet: ...


@overload
def trained(path: str | Path, kind: type[N]) -> N: ...


def trained(path: str | Path, kind: type[TorchNetwork] = TorchNetwork) -> TorchNetwork:
    """The network of a checkpoint, with its weights. A network from a cfg needs no other file.

    Args:
        path: best.pt of a run.
        kind: Detector or LandmarkNet where only one of them is of use.

    Returns:
        A detector or a landmark network, in evaluation mode; `io.task` says which.

    Raises:
        InputError: for a file that is missing, damaged or not a checkpoint of a whole network, and for a
            network of another kind.
    """
    state = load_checkpoint(path)
    with torch.device("meta"):  # weights of another network are refused before there is memory for this one
        shadow = recorded_network(kind, state)
    tensors = check_fit(path, state["model"], shadow.state_dict(), state["model_name"])
    model = recorded_network(kind, state)
    model.load_state_dict(tensors)
    return model


@dataclass(frozen=True)
class Start(Generic[N]):
    """A trained network to start from.

    Attributes:
        network: with its weights.
        fresh: names of its tensors that a partial weights file does not reach.
        note: how far such a file goes, and where the class names are from; "" where that is plain.
    """

    network: N
    fresh: frozenset[str] = frozenset()
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether all its weights are trained."""
        return not self.fresh


def start_from(kind: type[N], origin: Origin, weights: str, partial: bool = False) -> Start[N]:
    """What a training starts from.

    Args:
        kind: class of the network.
        origin: the network that is trained, before its changes.
        weights: "published", or a network of the zoo whose published weights start this one; a darknet
            .weights file, whole (of any number of classes) or partial (.conv.15), a .caffemodel or .param
            file, or a checkpoint.
        partial: a .weights file is partial, too.

    Raises:
        InputError: the weights cannot be read or belong to another network.
    """
    check_published(origin, weights)
    cut = is_partial(weights)
    if (cut or weights.endswith(".weights")) and origin.task == "detection":
        return _from_darknet(kind, origin, Path(weights), partial or cut)
    if partial:
        raise InputError(
            f"--partial is for darknet weights (.weights, .conv.N), not for {weights}: leave it out"
        )
    if weights in ZOO:
        task = ZOO[weights].io.task
        if task != origin.task:
            raise InputError(
                f"{weights} is a network of {task} and {origin.name} one of {origin.task}: start from a "
                "network of the same task"
            )
        return Start(Origin(weights).build(kind, weights="published"), note=f"starts from {weights}")
    if weights == "published" or weights.endswith((".weights", ".caffemodel", ".param")):
        return Start(origin.build(kind, weights=weights))
    return Start(trained(weights, kind))


def check_published(origin: Origin, weights: str | None) -> None:
    """InputError for the published weights of a cfg."""
    if weights == "published" and origin.cfg:
        raise InputError(
            f"published weights belong to the networks of the zoo: name a .weights file of {origin.name}, or "
            "a partial one such as .conv.15"
        )


def _from_darknet(kind: type[N], origin: Origin, path: Path, partial: bool) -> Start[N]:
    count, own = _classes(kind, origin, path), len(origin.shadow(Detector).io.classes)
    sentences = []
    if count is None or (count == own and (origin.names or not origin.cfg)):
        network = origin.build(kind)
    else:
        found = find_names(path, count)
        network = origin.build(kind, classes=found.names or count)
        sentences += [f"{path.name} has {count} classes, {origin.name} has {own}"] * (count != own)
        sentences += [found.sentence] * bool(found.names)
    load_weights(network, path, partial and count is None)
    loaded = network.loaded
    assert isinstance(loaded, Loaded)
    rest = stored_layers(network)[loaded.layers :]
    if not rest:
        return Start(network, note="; ".join(sentences))
    missing = {tensor.data_ptr() for layer in rest for tensor in layer.tensors}
    fresh = frozenset(key for key, value in network.state_dict().items() if value.data_ptr() in missing)
    return Start(network, fresh, "; ".join([f"{path.name}: {loaded}", *sentences]))


def _classes(kind: type[TorchNetwork], origin: Origin, path: Path) -> int | None:
    """The number of classes with which the network has as many weights as the file, None where there is
    none: a map has so many channels for each class, so the size of the file tells."""
    try:
        with opened(path) as file:
            start, size = file.read(HEADER), path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror or error}") from None
    if len(start) < HEADER:
        return None  # `load_weights` says what it is
    have, odd = divmod(size - len(Header.unpack(start).pack()), 4)
    one, two = (_floats(origin.shadow(kind, classes=classes)) for classes in (1, 2))
    more, rest = divmod(have - one, two - one)
    return more + 1 if more >= 0 and not rest and not odd else None


def _floats(network: TorchNetwork) -> int:
    return sum(layer.floats for layer in stored_layers(network))


def open_teacher(name: str) -> Detector:
    """A detector of the zoo with its published weights, or the best of a run's folder."""
    if name in SPECS and has_published_weights(name):
        return Origin(name).build(Detector, weights="published")
    path = Path(name) / "best.pt" if Path(name).is_dir() else Path(name)
    if path.suffix != ".pt":
        known = ", ".join(each for each in SPECS if has_published_weights(each))
        raise InputError(
            f"a teacher is trained: expected one of {known}, a run's folder or its best.pt, not {name!r}"
        )
    return trained(path, Detector)


def fitting(source: TorchNetwork, model: TorchNetwork) -> dict[str, Tensor]:
    """The tensors of `source` that have the name and shape of one of `model`."""
    own = model.state_dict()
    return {
        key: value
        for key, value in source.state_dict().items()
        if key in own and own[key].shape == value.shape
    }


def inner_tensors(model: Detector, start: Start[Detector], weights: str) -> dict[str, Tensor]:
    """The trained tensors that fit `model`, without those of its outputs. InputError where none does:
    `weights`, as the message names them, are another network's."""
    left = output_keys(model) | start.fresh
    inner = {key: value for key, value in fitting(start.network, model).items() if key not in left}
    if not any(value.is_floating_point() for value in inner.values()):
        raise InputError(
            f"nothing of {weights} fits the network: it belongs to another one, leave out the weights"
        )
    return inner


def transfer(model: Detector, start: Start[Detector], weights: str) -> None:
    """Copy into `model` what fits of a trained network: all tensors of the same name and shape, and of the
    outputs the boxes, the objectness and the classes of the same name. `weights` is for messages."""
    source, tensors = start.network, inner_tensors(model, start, weights)
    model.load_state_dict(tensors, strict=False)
    open_added(model, tensors)
    places = {name: i for i, name in enumerate(source.io.classes)}
    pairs = [(i, places[name]) for i, name in enumerate(model.io.classes) if name in places]
    for layer, other, head in zip(
        model.output_layers(), source.output_layers(), model.io.heads, strict=False
    ):
        if start.fresh.isdisjoint(_keys(source, other)):
            _transfer_rows(layer.conv, other.conv, head.values, len(model.io.classes), len(places), pairs)


def open_added(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Let through what squeeze-and-excite sees where it has no trained weights among `tensors`: a network to
    which it was added starts as it was."""
    for name, module in model.named_modules():
        if isinstance(module, SqueezeExcite) and f"{name}.excite.conv.weight" not in tensors:
            module.open()


def output_keys(model: Detector) -> set[str]:
    """Names of the tensors of the convolutions that give the maps."""
    return {key for layer in model.output_layers() for key in _keys(model, layer)}


def _keys(model: nn.Module, block: nn.Module) -> list[str]:
    """Names of the tensors of a block."""
    name = next(name for name, module in model.named_modules() if module is block)
    return [f"{name}.{key}" for key in block.state_dict()]


@torch.no_grad()
def _transfer_rows(
    conv: nn.Conv2d,
    source: nn.Conv2d,
    values: int,
    classes: int,
    source_classes: int,
    pairs: Sequence[tuple[int, int]],
) -> None:
    """The filters of each anchor: its `values` before the classes, and the `pairs` of classes."""
    for own, other in ((conv.weight, source.weight), (conv.bias, source.bias)):
        assert own is not None
        assert other is not None
        rows = own.view(-1, values + classes, *own.shape[1:])
        source_rows = other.view(-1, values + source_classes, *other.shape[1:])
        if len(rows) == len(source_rows) and rows.shape[2:] == source_rows.shape[2:]:
            rows[:, :values] = source_rows[:, :values]
            for i, j in pairs:
                rows[:, values + i] = source_rows[:, values + j]
