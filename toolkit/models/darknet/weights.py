"""darknet weights files, read and written byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.models.blocks import ConvBNAct
from toolkit.runtime import InputError, whole_file


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and running statistics in the order of a weights file."""
    tensors: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, ConvBNAct):
            norm = module.norm
            if norm is not None:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                tensors += [norm.bias, norm.weight, norm.running_mean, norm.running_var]
            elif module.conv.bias is not None:
                tensors.append(module.conv.bias)
            tensors.append(module.conv.weight)
    return tensors


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


def load_weights(model: nn.Module, path: str | Path) -> Header:
    """Load a darknet weights file, as darknet's load_weights, all or nothing.

    Args:
        model: a network whose blocks are in darknet's order; changed in place. The header is kept as
            `model.header`, for `save_weights`.
        path: the .weights file.

    Returns:
        The header.

    Raises:
        InputError: the file cannot be read, is truncated or over-long, or belongs to another network;
            `model` is then unchanged.

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
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror or error}") from None
    if len(data) < 20:
        raise InputError(
            f"{path.name} has {len(data)} bytes and is truncated: expected a darknet weights file"
        )
    header = Header.unpack(data)
    body = data[len(header.pack()) :]
    tensors = _tensors(model)
    need, have = sum(t.numel() for t in tensors), len(body) / 4
    if have != need:
        reason = "truncated" if have < need else "over-long"
        raise InputError(
            f"{path.name} has {have:g} floats, this network needs {need}: the file is {reason} or belongs to "
            "another network"
        )
    values = torch.from_numpy(np.frombuffer(body, "<f4").astype(np.float32))
    variances = [
        m.norm.running_var for m in model.modules() if isinstance(m, ConvBNAct) and m.norm is not None
    ]
    parts = torch.split(values, [t.numel() for t in tensors])
    # Published files have variances of -7e-44; below -eps the square root fails.
    negative = any(
        bool((part <= -1e-5).any())
        for tensor, part in zip(tensors, parts, strict=True)
        if any(tensor is variance for variance in variances)
    )
    if negative or not torch.isfinite(values).all():
        raise InputError(
            f"{path.name} has the right size but negative variances or values that are not finite: "
            "it belongs to another network or is damaged"
        )
    with torch.no_grad():
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    model.header = header  # type: ignore[assignment]
    return header


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
        for tensor in _tensors(model):
            file.write(tensor.detach().cpu().numpy().astype("<f4").tobytes())
