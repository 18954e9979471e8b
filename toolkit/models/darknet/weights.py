"""darknet weights files, read and written byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.files import whole_file
from toolkit.models.bounds import WEIGHTS_BYTES
from toolkit.models.darknet.damage import check_extent, check_kind, check_values
from toolkit.models.darknet.stored import Loaded, extent, stored_layers
from toolkit.runtime import InputError
from toolkit.text import file_bytes


@dataclass(frozen=True)
class Header:
    """First bytes of a weights file: version of the format, and number of pictures seen in training."""

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def long(self) -> bool:
        return self.major * 10 + self.minor >= 2

    def pack(self) -> bytes:
        version = np.array([self.major, self.minor, self.revision], "<i4").tobytes()
        return version + np.array([self.seen], "<u8" if self.long else "<u4").tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        major, minor, revision = (int(v) for v in np.frombuffer(data, "<i4", 3))
        header = cls(major, minor, revision)
        seen = np.frombuffer(data, "<u8" if header.long else "<u4", 1, 12)
        return cls(major, minor, revision, int(seen[0]))


def load_weights(model: nn.Module, path: str | Path, partial: bool = False) -> Header:
    """Load a darknet weights file, as darknet's load_weights, all or nothing.

    Args:
        model: a network whose blocks are in darknet's order; changed in place. The header is kept as
            `model.header`, for `save_weights`, and how far the file went as `model.loaded`, a `Loaded`.
        path: the .weights file.
        partial: load a file that ends early as far as it has whole layers, such as yolov3-tiny.conv.15 or
            another of darknet's `partial`. The layers after it keep what they have.

    Returns:
        The header.

    Raises:
        InputError: the file cannot be read, is something else, ends early or is over-long, or belongs to
            another network; `model` is then unchanged.

    >>> import tempfile
    >>> from toolkit.models.zoo import create_model
    >>> model, other = create_model("yoloface-50k"), create_model("yoloface-50k")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(model, Path(folder, "a.weights"), Header(seen=1000))
    ...     load_weights(other, Path(folder, "a.weights")).seen
    1000
    >>> torch.equal(model.stem[0].conv.weight, other.stem[0].conv.weight)
    True
    """
    weights = read_weights(model, path, partial)
    weights.fill(model)
    return weights.header


@dataclass(frozen=True, eq=False)
class Weights:
    """What a weights file has for a network: its header, how far it goes, and flat tensors of each layer."""

    header: Header
    loaded: Loaded
    parts: list[tuple[Tensor, ...]]

    def fill(self, model: nn.Module) -> None:
        """Put them into the network that they were read for, as `load_weights` says."""
        with torch.no_grad():
            for layer, tensors in zip(stored_layers(model), self.parts, strict=False):
                for tensor, part in zip(layer.tensors, tensors, strict=True):
                    tensor.copy_(part.view_as(tensor))
        model.header = self.header  # type: ignore[assignment]
        model.loaded = self.loaded  # type: ignore[assignment]


def read_weights(model: nn.Module, path: str | Path, partial: bool = False) -> Weights:
    """What `load_weights` loads, also for a network on torch's device "meta". Of the file no more is read
    than the network has. Raises InputError as there."""
    path = Path(path)
    size = file_bytes(path, WEIGHTS_BYTES)
    try:
        with path.open("rb") as file:
            beginning = file.read(1024)
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror or error}") from None
    check_kind(path, beginning, size)
    header = Header.unpack(beginning[:20])
    start = len(header.pack())
    layers = stored_layers(model)
    loaded = extent(layers, size - start)
    floats = [layer.floats for layer in layers[: loaded.layers]]
    values = torch.from_numpy(
        np.fromfile(path, "<f4", sum(floats), offset=start).astype(np.float32, copy=False)
    )
    parts = [
        torch.split(part, [tensor.numel() for tensor in layer.tensors])
        for layer, part in zip(layers, torch.split(values, floats), strict=False)
    ]
    check_values(path, model, size, start, layers, parts)
    check_extent(path, model, size, start, layers, loaded, partial)
    return Weights(header, loaded, parts)


def save_weights(model: nn.Module, path: str | Path, header: Header | None = None) -> None:
    """Write a darknet weights file, as darknet's save_weights; the file appears whole or not at all.

    Args:
        model: a network whose blocks are in darknet's order.
        path: the .weights file.
        header: by default the header of the file that `model` was loaded from, or a new one.

    >>> import tempfile
    >>> from toolkit.models.zoo import create_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(create_model("yoloface-50k"), Path(folder, "a.weights"))
    ...     Path(folder, "a.weights").stat().st_size  # a header of 20 bytes and 11,248 floats
    45012
    """
    header = header or getattr(model, "header", None) or Header()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(header.pack())
        for layer in stored_layers(model):
            for tensor in layer.tensors:
                file.write(tensor.detach().cpu().numpy().astype("<f4").tobytes())
