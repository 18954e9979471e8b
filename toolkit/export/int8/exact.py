"""Weight scales and weights whose arithmetic gives the same bits on every processor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export.int8.graph import DEPTHWISE
from toolkit.models.ncnn_file import Floats, Layer

DIGITS, HALF_DIGITS = 24, 11  # of a float32 and a float16, in bits


def weight_scales(weight: Floats, input_scale: np.float32) -> Floats:
    """(outputs, n) -> (outputs,): about 127 / largest absolute value; 0, as ncnn has it, where all are 0.

    ncnn multiplies a sum of integers by 1 / (input_scale x weight_scale). They are such that this factor
    has as many binary digits as the largest sum leaves free in a float32: the product is exact. (At least 3:
    the sums of thousands of values stay far below the largest.)
    """
    largest, total = np.abs(weight).max(1).astype(float), np.abs(weight).sum(1, dtype=float)
    left = largest > 1e-30  # without a scale that will do
    scales = np.divide(127, largest, out=np.zeros_like(largest), where=left).astype(np.float32)
    sums = np.divide(127 * 127 * total, largest, out=np.ones_like(total), where=left)
    digits = np.clip(DIGITS - np.ceil(np.log2(sums)), 3, 8).astype(int)
    factor = np.where(left, largest / 127 / input_scale, 1)
    for _ in range(16):  # of two factors one is found at once
        factor = _with_digits(factor, digits)
        inverse = (1 / (factor * input_scale)).astype(np.float32)
        for step in (0, -1, 1, -2, 2):  # whether the rounded inverse, or one beside it, leads back
            near = (inverse.view(np.int32) + np.int32(step)).view(np.float32)
            exact = left & (1 / (input_scale * near) == factor)
            scales[exact] = near[exact]
            left &= ~exact
        factor = factor * (1 + 1e-9)
    result: Floats = scales
    return result


def _with_digits(values: NDArray[Any], digits: NDArray[Any]) -> NDArray[Any]:
    """The least numbers that are not below `values` and have so many binary digits."""
    fraction, exponent = np.frexp(values)
    result: NDArray[Any] = np.ldexp(np.ceil(np.ldexp(fraction, digits)), exponent - digits)
    return result


def integers(weight: Floats, scales: Floats) -> NDArray[np.int8]:
    """(outputs, n), (outputs,) -> int8 (outputs, n)."""
    result: NDArray[np.int8] = np.rint(weight * scales[:, None]).clip(-127, 127).astype(np.int8)
    return result


def on_grid(weight: Floats, bias: Floats, peak: float) -> tuple[float, Floats, Floats]:
    """What makes a float layer's sums exact in any order: -> the power of two whose multiples its input must
    be; (outputs, n) weights for input in these multiples, (outputs,) bias, both rounded.

    Input (up to `peak`) and weights share the digits of a float32 that adding up leaves free, evenly. The
    grid is not so fine that its inverse were infinite in float16.
    """
    largest, total = np.abs(weight).max(1).astype(float), np.abs(weight).sum(1, dtype=float)
    spread = np.divide(total, largest, out=np.ones_like(total), where=largest > 0).max()
    digits = int(np.clip((DIGITS - 1 - np.log2(spread)) // 2, 1, HALF_DIGITS))
    grid = 2.0 ** max(np.ceil(np.log2(max(peak, 1e-12))) - digits, -15)
    least = np.maximum(grid * largest / 2**HALF_DIGITS, (2**digits * grid * total + np.abs(bias)) / 2**DIGITS)
    step = 2.0 ** np.ceil(np.log2(np.maximum(least, np.finfo(np.float32).tiny)))
    rounded = np.rint(weight * (grid / step)[:, None]) * step[:, None]
    return grid, rounded.astype(np.float32), (np.rint(bias / step) * step).astype(np.float32)


def corrected_bias(layer: Layer, whole: NDArray[np.int8], scales: Floats) -> Floats:
    """(outputs,): the bias less what rounding the weights adds on average."""
    if layer.weight is None or layer.bias is None:
        raise ValueError(f"{layer.name} has no weights")
    if layer.input_mean is None:
        return layer.bias
    step = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    rounding = whole * step[:, None] - layer.weight
    groups = int(layer.options["7"]) if layer.kind == DEPTHWISE else 1
    inputs = layer.input_mean.reshape(groups, -1).repeat(len(rounding) // groups, 0)  # (outputs, inputs)
    per_input = rounding.reshape(*inputs.shape, -1).sum(2)
    result: Floats = layer.bias - (per_input * inputs).sum(1)
    return result
