"""Checkpoints of the training loop: written whole, read without executing anything, transferred in part."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from toolkit.models import create_model
from toolkit.models.detector import SpecDetector
from toolkit.models.landmarks import LandmarkNet
from toolkit.models.network import TorchNetwork
from toolkit.models.zoo import SPECS, has_published_weights
from toolkit.runtime import InputError, whole_file

N = TypeVar("N", bound=TorchNetwork)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Whole or not at all. Raises InputError where the disk is full.

    To memory first: on a full disk torch.save aborts the process.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror or error}): the checkpoint before it is intact, make room "
            "and resume"
        ) from None


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this loop, read without executing anything. InputError where it is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {**state, "model": state["model"], "step": state["step"]}
    except Exception as error:
        raise InputError(
            f"{path} is not a checkpoint of a training: {str(error).splitlines()[0]}: name its best.pt"
        ) from None


@overload
def trained(path: str | Path) -> SpecDetector | LandmarkNet: ...


@overload
def trained(path: str | Path, kind: type[N]) -> N: ...


def trained(path: str | Path, kind: type[TorchNetwork] = TorchNetwork) -> TorchNetwork:
    """The network of a checkpoint, with its weights.

    Args:
        path: best.pt of a run.
        kind: SpecDetector or LandmarkNet where only one of them is of use.

    Returns:
        A detector or a landmark network, in evaluation mode; `io.task` says which.

    Raises:
        InputError: for a file that is missing, damaged or not a checkpoint of a whole network, and for a
            network of another kind.
    """
    state = load_checkpoint(path)
    try:
        model = network_as(kind, state["model_name"], **state["changes"])
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{path} has no network to use ({reason}): name the best.pt of a run") from None
    return model


def network_as(kind: type[N], name: str, **changes: Any) -> N:
    """`create_model`, typed; InputError for a network of another kind."""
    model: TorchNetwork = create_model(name, **changes)
    if not isinstance(model, kind):
        raise InputError(f"{name} is a network for {model.io.task}: name one of the same task")
    return model


def start_from(kind: type[N], name: str, weights: str) -> N:
    """The network with "published" weights or those of a .weights, .caffemodel or .param file, or that of a
    checkpoint."""
    if weights == "published" or weights.endswith((".weights", ".caffemodel", ".param")):
        return network_as(kind, name, weights=weights)
    return trained(weights, kind)


def open_teacher(name: str) -> SpecDetector:
    """A detector of the zoo with its published weights, or the best of a run's folder."""
    if name in SPECS and has_published_weights(name):
        return network_as(SpecDetector, name, weights="published")
    return trained(Path(name) / "best.pt" if Path(name).is_dir() else name, SpecDetector)


def fitting(source: TorchNetwork, model: TorchNetwork) -> dict[str, Tensor]:
    """The tensors of `source` that have the name and shape of one of `model`."""
    own = model.state_dict()
    return {
        key: value
        for key, value in source.state_dict().items()
        if key in own and own[key].shape == value.shape
    }


def transfer(model: SpecDetector, weights: str, name: str) -> None:
    """Copy into `model` what fits of the trained `weights` of network `name`: all tensors of the same shape,
    and of the outputs the boxes, the objectness and the classes of the same name."""
    source = start_from(SpecDetector, name, weights)
    fits = fitting(source, model)
    outputs = {key for key in model.state_dict() if ".out.conv." in key}
    if not set(fits) - outputs:
        raise InputError(
            f"nothing of {weights} fits {model.spec.name}: it belongs to another network, leave out the "
            "weights"
        )
    model.load_state_dict({key: value for key, value in fits.items() if key not in outputs}, strict=False)
    classes, source_classes = model.io.classes, source.io.classes
    pairs = [(i, source_classes.index(c)) for i, c in enumerate(classes) if c in source_classes]
    own, trained_state = model.state_dict(), source.state_dict()
    with torch.no_grad():
        for key in outputs & set(trained_state):
            rows = own[key].view(-1, 5 + len(classes), *own[key].shape[1:])
            source_rows = trained_state[key].view(-1, 5 + len(source_classes), *trained_state[key].shape[1:])
            if len(rows) == len(source_rows) and rows.shape[2:] == source_rows.shape[2:]:
                rows[:, :5] = source_rows[:, :5]
                for i, j in pairs:
                    rows[:, 5 + i] = source_rows[:, 5 + j]
