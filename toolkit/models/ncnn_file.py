"""Layers of an ncnn model, read from its .param and .bin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.models.bounds import WEIGHTS_BYTES
from toolkit.runtime import InputError
from toolkit.text import read_bytes

PARAM_BYTES = 16_000_000  # of a .param; that of landmark106 has 10,000
Floats = NDArray[np.float32]

FLOAT, HALF, INT8 = 0, 0x01306B47, 0x000D4B38  # flags before the weights, in ncnn's modelbin.cpp
# Keys of a .param: number of weights, bias term.
KEYS = {"Convolution": ("6", "5"), "ConvolutionDepthWise": ("6", "5"), "InnerProduct": ("2", "1")}


@dataclass(frozen=True)
class Layer:
    """A line of a .param with its part of the .bin.

    Attributes:
        weight: (outputs, inputs x kernel).
        bias: (outputs,).
        slopes: (channels,) of a PReLU.
        input_mean: (channels,) mean of the input over the calibration pictures.
        input_peak: largest absolute value of the input over the calibration pictures.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, str]
    weight: Floats | None = None
    bias: Floats | None = None
    input_mean: Floats | None = None
    input_peak: float = 0.0
    slopes: Floats | None = None

    @property
    def quantisable(self) -> bool:
        """Whether the layer can be int8: it has weights and, if grouped, is depthwise, where ncnn's scale
        per group is a scale per channel."""
        if self.weight is None or self.kind != "ConvolutionDepthWise":
            return self.weight is not None
        window = int(self.options["1"]) * int(self.options.get("11", self.options["1"]))
        return self.options["7"] == self.options["0"] and self.weight.shape[1] == window


def read_model(param: Path, binary: Path) -> list[Layer]:
    """Layers of a float32 ncnn model, in running order. Layers without a bias get one of zeros.

    Raises InputError if the files are missing, damaged, not float32, or have weights of layers other than
    convolutions, inner products and PReLU.
    """
    try:
        lines = read_bytes(param, PARAM_BYTES).decode().splitlines()[2:]
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the ncnn model {param.name}: {error}") from None
    raw = read_bytes(binary, WEIGHTS_BYTES)
    at, layers = 0, []

    def take(count: int, kind: Any = np.float32) -> NDArray[Any]:
        nonlocal at
        if count < 0:
            raise ValueError(count)
        at += 4 * count
        return np.frombuffer(raw, kind, count, at - 4 * count).copy()

    try:
        for line in lines:
            kind, name, inputs, outputs, *rest = line.split()
            blobs = int(inputs) + int(outputs)
            options = dict(word.split("=", 1) for word in rest[blobs:])
            weight = bias = slopes = None
            if kind in KEYS:
                size_key, bias_key = KEYS[kind]
                count = int(options["0"])
                if not 0 < count <= int(options[size_key]):
                    raise ValueError(count)
                if take(1, np.uint32)[0] != FLOAT:
                    raise InputError(f"{param.name} is not float32: expected the files of the format ncnn")
                weight = take(int(options[size_key])).reshape(count, -1)
                bias = take(count) if options.get(bias_key) == "1" else np.zeros(count, np.float32)
                options[bias_key] = "1"  # int8 corrects its rounding there
            elif kind == "PReLU":
                slopes = take(int(options["0"]))
            ends = tuple(rest[: int(inputs)]), tuple(rest[int(inputs) : blobs])
            layers.append(Layer(kind, name, *ends, options, weight, bias, slopes=slopes))
    except InputError:
        raise
    except (ValueError, LookupError, ArithmeticError):
        raise InputError(
            f"{param.name} and {binary.name} are damaged or do not belong together: export the network again"
        ) from None
    if at != len(raw) or not layers:
        raise InputError(
            f"{binary.name} has {len(raw)} bytes, but the layers of {param.name} need {at}: the files must "
            f"belong together and have weights in {', '.join(KEYS)} and PReLU layers only"
        )
    return layers
