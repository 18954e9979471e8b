"""Checkpoints of the training loop: written whole, read without executing anything, taken over in part."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from toolkit.models import create_model
from toolkit.models.detector import SpecDetector
from toolkit.models.zoo import SPECS, has_published_weights
from toolkit.runtime import InputError, whole_file


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
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
            f"cannot write {path} ({error.strerror or error}): the last one that was written is whole, "
            "make room and resume"
        ) from None


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this loop, read without executing anything. InputError where it is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["model"], state["step"]
        return state
    except Exception as error:
        raise InputError(f"{path} is no checkpoint of a training: {str(error).splitlines()[0]}") from None


def trained(path: str | Path) -> SpecDetector:
    """The network of a checkpoint, with its weights."""
    state = load_checkpoint(path)
    model = create_model(state["model_name"], **state["changes"])
    model.load_state_dict(state["model"])
    return model


def open_teacher(name: str) -> SpecDetector:
    """A network of the zoo with its published weights, or the best of a run's folder."""
    if name in SPECS and has_published_weights(name):
        return create_model(name, "published")
    return trained(Path(name) / "best.pt" if Path(name).is_dir() else name)


def start_from(weights: str, name: str) -> SpecDetector:
    """The network that "published", a .weights file (both of network `name`) or a checkpoint holds."""
    if weights == "published" or weights.endswith(".weights"):
        return create_model(name, weights)
    return trained(weights)


def transfer(model: SpecDetector, weights: str, name: str) -> None:
    """Take over from trained weights of network `name` what fits `model`: all tensors of the same shape, and
    of the outputs the boxes, the objectness and the classes of the same name."""
    source = start_from(weights, name)
    theirs, mine = source.state_dict(), model.state_dict()
    fits = {key: value for key, value in theirs.items() if key in mine and mine[key].shape == value.shape}
    outputs = {key for key in mine if ".out.conv." in key}
    if not set(fits) - outputs:
        raise InputError(f"nothing of {weights} fits {model.spec.name}: it belongs to another network")
    model.load_state_dict({key: value for key, value in fits.items() if key not in outputs}, strict=False)
    pairs = [
        (i, source.io.classes.index(c)) for i, c in enumerate(model.io.classes) if c in source.io.classes
    ]
    with torch.no_grad():
        for key in outputs & set(theirs):
            ours = mine[key].view(-1, 5 + len(model.io.classes), *mine[key].shape[1:])
            other = theirs[key].view(-1, 5 + len(source.io.classes), *theirs[key].shape[1:])
            if len(ours) == len(other) and ours.shape[2:] == other.shape[2:]:
                ours[:, :5] = other[:, :5]
                for i, j in pairs:
                    ours[:, 5 + i] = other[:, 5 + j]
