"""What is wrong with a weights file: another kind of file, cut, over-long, or of another network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.models.darknet.stored import Loaded, Stored
from toolkit.models.detector import Detector
from toolkit.runtime import InputError

# Beginnings of files that are often taken for weights.
_OTHERS = (
    (
        rb"\s*<(!doctype|html|\?xml|head|body)",
        "a web page: download the file itself, not the page that shows it",
    ),
    (rb"version https://git-lfs", "a Git LFS pointer{size}: run `git lfs pull` in its repository"),
    (rb"PK\x03\x04", "a zip file, as PyTorch writes: expected darknet's own weights"),
    (rb"\x80[\x02-\x05]", "a Python pickle, as PyTorch wrote: expected darknet's own weights"),
    (rb"[\s\S]{8}\{\s*\"", "a safetensors file: expected darknet's own weights"),
    (rb"\x1f\x8b|BZh|7z\xbc\xaf|\xfd7zXZ|Rar!", "a packed file: unpack it"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes: expected darknet's own weights"),
    (rb"\[net", "a cfg: expected the .weights file next to it"),
    (rb"[\t\n\r -~]{8}", "text ({text}): expected darknet's weights"),
)


def check_kind(path: Path, head: bytes, count: int) -> None:
    """InputError if a file is something else than weights, by its first bytes and the number of all."""
    for beginning, kind in _OTHERS:
        if re.match(beginning, head, re.IGNORECASE):
            size = re.search(rb"^size (\d+)", head, re.MULTILINE)
            found = kind.format(
                size=f" to a file of {int(size[1]):,} bytes" if size else "",
                text=repr(head[:40].decode("ascii", "replace").strip()),
            )
            raise InputError(f"{path.name} ({count:,} bytes) is {found}")
    if count < 20:
        raise InputError(f"{path.name} has {count} bytes and is truncated: expected a darknet weights file")


def _sizes(path: Path, model: nn.Module, size: int, start: int, layers: Sequence[Stored]) -> str:
    """File and network in bytes, and what would fit, for a message."""
    need = start + 4 * sum(layer.floats for layer in layers)
    fits = _fitting_classes(model, size - need)
    hint = f" (it would fit with classes={fits})" if fits else ""
    return f"{path.name} has {size:,} bytes, the weights of this network have {need:,}{hint}"


def _fitting_classes(model: nn.Module, surplus: int) -> int:
    """Number of classes with which a detector would have `surplus` bytes more of weights, 0 for none."""
    if not isinstance(model, Detector) or not surplus:
        return 0
    per_class = sum(
        4 * len(head.anchors) * (layer.conv.weight[0].numel() + 1)
        for head, layer in zip(model.io.heads, model.output_layers(), strict=False)
    )
    extra, rest = divmod(surplus, per_class) if per_class else (0, 1)
    return max(0, len(model.io.classes) + extra) if not rest else 0


def check_values(
    path: Path,
    model: nn.Module,
    size: int,
    start: int,
    layers: Sequence[Stored],
    parts: Sequence[Sequence[Tensor]],
) -> None:
    """InputError if the whole layers have values that no network has."""
    for layer, tensors in zip(layers, parts, strict=False):
        # Published files have variances of -7e-44; below -eps the square root fails.
        negative = any(
            tensor is layer.variance and bool((part <= -1e-5).any())
            for tensor, part in zip(layer.tensors, tensors, strict=True)
        )
        if negative or not all(bool(torch.isfinite(part).all()) for part in tensors):
            raise InputError(
                f"{_sizes(path, model, size, start, layers)}, and its values for {layer.name} are negative "
                "variances or not finite: it belongs to another network or is damaged"
            )


def check_extent(
    path: Path,
    model: nn.Module,
    size: int,
    start: int,
    layers: Sequence[Stored],
    loaded: Loaded,
    partial: bool,
) -> None:
    """InputError unless the file ends where it may; a warning if a partial one ends inside a layer."""
    difference = size - start - 4 * sum(layer.floats for layer in layers)
    if difference == 0:
        return
    sizes = _sizes(path, model, size, start, layers)
    if difference > 0:
        raise InputError(
            f"{sizes}, {difference:,} fewer: the file is over-long or belongs to another network"
        )
    if partial and loaded.layers:
        if loaded.cut:
            warnings.warn(
                f"{path.name}: {loaded}, where darknet writes whole layers only: it is cut or belongs to "
                "another network",
                stacklevel=3,
            )
        return
    if loaded.layers and not loaded.cut:
        raise InputError(
            f"{sizes}: it is a partial file of {loaded.layers} layers, the first without weights is "
            f"{loaded.missing}: `toolkit train --partial` and load_darknet(..., partial=True) load it as far "
            "as it goes"
        )
    raise InputError(
        f"{sizes}, {-difference:,} more: the file is truncated inside {loaded.missing} or belongs to another "
        "network"
    )
