"""Which tensors of a network a darknet weights file has, in its order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from toolkit.models.blocks import ConvBNAct
from toolkit.models.darknet.layers import SharedConv, WeightedShortcut


def is_partial(path: str | Path) -> bool:
    """Whether a file is what darknet's `partial` wrote, by its name.

    >>> is_partial("yolov4-tiny.conv.29"), is_partial("yolov4-tiny.weights")
    (True, False)
    """
    return re.search(r"\.conv\.\d+$", Path(path).name) is not None


class Stored(NamedTuple):
    """What a weights file has of one layer."""

    name: str  # of the module
    tensors: list[Tensor]  # in the order of the file
    variance: Tensor | None  # the one of them that is a variance

    @property
    def floats(self) -> int:
        """How many the file has, of four bytes each."""
        return sum(tensor.numel() for tensor in self.tensors)


def stored_layers(model: nn.Module) -> list[Stored]:
    """The layers that have weights, in the order of a weights file."""
    layers: list[Stored] = []
    inside: set[nn.Module] = set()  # batch norms that are part of a convolution
    for name, module in model.named_modules():
        match module:
            case SharedConv():
                pass  # its weights are those of a layer before it
            case ConvBNAct():
                norms = [] if module.norm is None else _norm_tensors(module.norm)
                inside.update([] if module.norm is None else [module.norm])
                bias = [] if module.conv.bias is None else [module.conv.bias]
                variance = None if module.norm is None else module.norm.running_var
                layers.append(Stored(name, [*norms, *bias, module.conv.weight], variance))
            case WeightedShortcut():
                layers.append(Stored(name, [module.weight], None))
            case nn.BatchNorm2d() if module not in inside:  # [batchnorm]
                layers.append(Stored(name, _norm_tensors(module), module.running_var))
    return layers


def _norm_tensors(norm: nn.BatchNorm2d) -> list[Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [norm.bias, norm.weight, norm.running_mean, norm.running_var]


@dataclass(frozen=True)
class Loaded:
    """How far a weights file went.

    Attributes:
        layers: layers of the network that it had weights for, from the first on.
        total: layers that have weights.
        missing: name of the first layer without weights, such as "layers.15"; "" if there is none.
        cut: bytes of that layer at the end of the file; 0 in a file that darknet's `partial` wrote.

    >>> str(Loaded(15, 24, "layers.21", 0))
    '15 of 24 layers were loaded; the first without weights is layers.21'
    """

    layers: int
    total: int
    missing: str
    cut: int

    def __str__(self) -> str:
        if not self.missing:
            return f"all {self.total} layers were loaded"
        end = f"; the file ends {self.cut:,} bytes into it" if self.cut else ""
        first = f"the first without weights is {self.missing}"
        return f"{self.layers} of {self.total} layers were loaded; {first}{end}"


def extent(layers: Sequence[Stored], size: int) -> Loaded:
    """How far `size` bytes of floats go."""
    ends = [0, *accumulate(4 * layer.floats for layer in layers)]
    whole = max(k for k, end in enumerate(ends) if end <= size)
    if whole == len(layers):
        return Loaded(whole, whole, "", 0)
    return Loaded(whole, len(layers), layers[whole].name, size - ends[whole])
