"""Whole-number LiteRT files: weights int8 with a scale for each filter, activations int8 with one each.

The scheme is that of Jacob et al., arXiv:1712.05877, as LiteRT's kernels and those for microcontrollers
have it. Channels are equalised and biases corrected as Nagel et al., arXiv:1906.04721, do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export.int8.ranges import channel_factors
from toolkit.export.litert.file import Graph, Operator, Scale, Tensor
from toolkit.runtime import InputError, progress

Floats = NDArray[np.float32]

METHODS = ("minmax", "percentile", "mse")  # how the range of a tensor is found
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
# Whose output has the scale of its inputs.
SAME_SCALE = {
    *("CONCATENATION", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "PAD", "PADV2", "RESHAPE"),
    *("RESIZE_NEAREST_NEIGHBOR", "SLICE", "TRANSPOSE"),
}
# Whose output has a scale of its own, whatever its range is.
FIXED = {
    "LOGISTIC": Scale(np.array([1 / 256], np.float32), -128),
    "TANH": Scale(np.array([1 / 128], np.float32)),
}
FREE = {"ADD", "AVERAGE_POOL_2D", "HARD_SWISH", "LEAKY_RELU", "MEAN", "MUL", "PRELU", "RELU", "RELU6", "SUB"}
KINDS = {*CONVOLUTIONS, *SAME_SCALE, *FIXED, *FREE}
# Between two convolutions these let a factor on a channel through.
PASSES = {"LEAKY_RELU", "MAX_POOL_2D", "PAD", "PRELU", "RELU"}
LEVELS = 127  # of a weight; -128 is not used
MOST_BIAS = 2**30  # its numbers are added to sums in 32 bits
TAIL = 5e-5  # part of the values that "percentile" leaves out on each side
BINS = 2048


@dataclass
class Statistics:
    """Of a tensor over all pictures.

    Attributes:
        low, high: smallest and largest value.
        peaks: largest absolute value of each channel.
        means: of each channel.
        counts: how many values are in each of `BINS` equal parts of low..high.
    """

    low: float
    high: float
    peaks: Floats
    means: Floats
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, other: Statistics) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.peaks, self.means = np.maximum(self.peaks, other.peaks), self.means + other.means


class Observer:
    """LiteRT's interpreter with a float32 file, whose tensors are looked at while it runs.

    Args:
        interpreter: that keeps all tensors.
        graph: of the file.
        order: index of each tensor in the file.
    """

    def __init__(self, interpreter: Any, graph: Graph, order: Mapping[Tensor, int]) -> None:
        self.interpreter, self.order = interpreter, order
        (self.entry,) = graph.inputs
        self.tensors = [self.entry, *(tensor for each in graph.operators for tensor in each.outputs)]

    def measure(self, samples: Floats) -> dict[Tensor, Statistics]:
        """Statistics, without counts, of every tensor that depends on the picture, over network inputs
        (N, C, H, W)."""
        found: dict[Tensor, Statistics] = {}
        for x in progress(samples, "calibration: channels"):
            for tensor, values in self._run(x):
                flat = values.reshape(-1, values.shape[-1])
                peaks, means = np.abs(flat).max(0), flat.mean(0) / len(samples)
                one = Statistics(float(flat.min()), float(flat.max()), peaks, means)
                if tensor in found:
                    found[tensor].add(one)
                else:
                    found[tensor] = one
        return found

    def count(self, samples: Floats, found: Mapping[Tensor, Statistics]) -> None:
        """Fill in the counts of statistics over the same inputs."""
        for x in progress(samples, "calibration: ranges"):
            for tensor, values in self._run(x):
                stat = found[tensor]
                width = max(stat.high - stat.low, 1e-12)
                bins = ((values.ravel() - stat.low) * (BINS / width)).astype(np.int32).clip(0, BINS - 1)
                stat.counts += np.bincount(bins, minlength=BINS)

    def _run(self, x: Floats) -> Iterator[tuple[Tensor, Floats]]:
        self.interpreter.set_tensor(self.order[self.entry], np.ascontiguousarray(x.transpose(1, 2, 0)[None]))
        self.interpreter.invoke()
        for tensor in self.tensors:
            yield tensor, self.interpreter.get_tensor(self.order[tensor])


def limits(stat: Statistics, method: str) -> tuple[float, float]:
    """Smallest and largest value that a tensor's 256 numbers stand for; 0 is between them.

    "minmax": of all pictures; "percentile": all but `TAIL` on each side; "mse": the least squared error of
    rounding and clipping.
    """
    low, high = min(stat.low, 0.0), max(stat.high, 0.0)
    if method == "minmax" or stat.low == stat.high:
        return low, high
    centres = stat.low + (np.arange(BINS) + 0.5) * (stat.high - stat.low) / BINS
    share = stat.counts / stat.counts.sum()
    if method == "percentile":
        below = np.cumsum(share)
        first, last = np.searchsorted(below, [TAIL, 1 - TAIL]).clip(0, BINS - 1)
        return min(float(centres[first]), 0.0), max(float(centres[last]), 0.0)

    def squared(pair: tuple[float, float]) -> float:
        step = max(pair[1] - pair[0], 1e-12) / 255
        rounded = np.rint((centres.clip(*pair) - pair[0]) / step) * step + pair[0]
        return float(share @ (rounded - centres) ** 2)

    parts = np.linspace(0.3, 1, 36)
    lows = low * parts if low < 0 else [0.0]
    highs = high * parts if high > 0 else [0.0]
    return min(((float(a), float(b)) for a in lows for b in highs), key=squared)


def scale_of(low: float, high: float) -> Scale:
    """Of numbers -128..127 that stand for low..high, one of them for 0."""
    step = np.float32(max(high - low, 1e-8) / 255)
    return Scale(np.array([step], np.float32), int(np.clip(np.rint(-128 - low / step), -128, 127)))


def equalise(graph: Graph, found: Mapping[Tensor, Statistics]) -> None:
    """The same function with channels of like size, where one convolution alone reads another's output.

    A channel times s behind a ReLU is the filter and the bias before it times s, and what reads it divided
    by s (`channel_factors`), as in `toolkit.export.int8.ranges.equalise`.
    """
    readers: dict[Tensor, list[Operator]] = defaultdict(list)
    for each in graph.operators:
        for tensor in each.inputs:
            readers[tensor].append(each)

    def only_reader(tensor: Tensor) -> Operator | None:
        return readers[tensor][0] if len(readers[tensor]) == 1 and tensor not in graph.outputs else None

    for before in graph.operators:
        bounded = before.options.get("fusedActivationFunction", 0) > 1  # as by ReLU6
        if before.kind not in CONVOLUTIONS or bounded:
            continue
        passed = [before.outputs[0]]
        after = only_reader(passed[-1])
        while after is not None and after.kind in PASSES:
            passed.append(after.outputs[0])
            after = only_reader(passed[-1])
        if after is None or after.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        peaks, weight = found[passed[-1]].peaks, after.inputs[1]
        depthwise = after.kind == "DEPTHWISE_CONV_2D"
        if weight.shape[3] != len(peaks):  # groups, or several filters for a channel
            continue
        reads = np.abs(weight.known).max((0, 1, 2))
        s = channel_factors(peaks, reads, depthwise)
        if s is None:
            continue
        filters, shift = before.inputs[1:]
        along = s if before.kind == "DEPTHWISE_CONV_2D" else s.reshape(-1, *[1] * (len(filters.shape) - 1))
        filters.values, shift.values, weight.values = filters.known * along, shift.known * s, weight.known / s
        for tensor in passed:
            found[tensor].peaks = found[tensor].peaks * s


def quantised(
    graph: Graph, found: Mapping[Tensor, Statistics], method: str, pixels: Scale, margin: float = 0.0
) -> Graph:
    """The graph in whole numbers, uint8 in, int8 out.

    Args:
        graph: in float32.
        found: statistics of its tensors.
        method: how their ranges are found, one of `METHODS`.
        pixels: scale of the input.
        margin: what the outputs' ranges are longer by on each side, as a part of them.

    Raises:
        InputError: an operator is not written in whole numbers here.
    """
    unknown = sorted({each.kind for each in graph.operators} - KINDS)
    if unknown:
        raise InputError(
            f"LiteRT's operator {unknown[0]} is not written in whole numbers here: export this network to "
            "litert or litert-fp16"
        )
    (entry,) = graph.inputs
    inner = Scale(pixels.scale, pixels.zero_point - 128)
    scale_for = _scales(graph, found, method, inner, margin)
    first = Tensor(entry.name, entry.shape, None, "uint8", pixels)
    made = {entry: Tensor(f"{entry.name}/int8", entry.shape, None, "int8", inner)}
    operators = [Operator("QUANTIZE", [first], [made[entry]])]
    for each in graph.operators:
        (output,) = each.outputs
        made[output] = Tensor(output.name, output.shape, None, "int8", scale_for(output))
        inputs = [made.get(tensor, tensor) for tensor in each.inputs]
        if each.kind in CONVOLUTIONS:
            inputs[1:] = _weights(each, inputs[0], found[each.inputs[0]].means)
        else:
            shared = made[output].scale if each.kind in SAME_SCALE else None
            inputs = [_constant(tensor, shared) if _is_real(tensor) else tensor for tensor in inputs]
        operators.append(Operator(each.kind, inputs, [made[output]], each.options))
    return Graph(operators, [first], [made[tensor] for tensor in graph.outputs])


def _is_real(tensor: Tensor) -> bool:
    return tensor.values is not None and tensor.dtype == "float32"


def _scales(
    graph: Graph, found: Mapping[Tensor, Statistics], method: str, inner: Scale, margin: float
) -> Callable[[Tensor], Scale]:
    """The scale of each tensor. Those that share one have the widest of their ranges."""
    parent: dict[Tensor, Tensor] = {}

    def root(tensor: Tensor) -> Tensor:
        while tensor in parent:
            tensor = parent[tensor]
        return tensor

    for each in graph.operators:
        for tensor in each.inputs if each.kind in SAME_SCALE else ():
            if tensor.values is None and root(tensor) is not root(each.outputs[0]):
                parent[root(tensor)] = root(each.outputs[0])
    ranges: dict[Tensor, tuple[float, float]] = {}
    for tensor, stat in found.items():
        low, high = limits(stat, method)
        room = margin * (high - low) if tensor in graph.outputs else 0.0
        low, high = low - room, high + room
        least, most = ranges.get(root(tensor), (0.0, 0.0))
        ranges[root(tensor)] = min(low, least), max(high, most)
    scales = {tensor: scale_of(*pair) for tensor, pair in ranges.items()}
    scales |= {root(each.outputs[0]): FIXED[each.kind] for each in graph.operators if each.kind in FIXED}
    scales |= {root(tensor): inner for tensor in graph.inputs}
    return lambda tensor: scales[root(tensor)]


def _weights(each: Operator, source: Tensor, means: Floats) -> list[Tensor]:
    """Weights and bias of a convolution. What rounding the weights adds to each output, for inputs that are
    `means`, is taken off the bias."""
    weight, bias = each.inputs[1:]
    assert source.scale is not None
    depthwise, unit = each.kind == "DEPTHWISE_CONV_2D", float(source.scale.scale[0])
    axis = 3 if depthwise else 0
    rows = np.moveaxis(weight.known, axis, 0).reshape(weight.shape[axis], -1)  # a filter each
    steps = np.maximum(np.abs(rows).max(1), 1e-8) / LEVELS
    steps = np.maximum(steps, np.abs(bias.known) / (unit * MOST_BIAS)).astype(np.float32)
    spread = steps if depthwise else steps.reshape(-1, *[1] * (len(weight.shape) - 1))
    numbers = np.rint(weight.known / spread).clip(-LEVELS, LEVELS)
    error = numbers * spread - weight.known
    shift = bias.known.astype(np.float64)
    if depthwise:
        shift -= error.sum((0, 1, 2)) * np.repeat(means, weight.shape[3] // len(means))
    elif weight.shape[-1] == len(means):  # else it has groups
        shift -= error.reshape(len(error), -1, len(means)).sum(1) @ means
    units = (unit * steps).astype(np.float32)
    wholes = np.rint(shift / units).clip(-(2**31) + 1, 2**31 - 1)
    return [
        Tensor(weight.name, weight.shape, numbers.astype(np.int8), "int8", Scale(steps, 0, axis)),
        Tensor(bias.name, bias.shape, wholes.astype(np.int32), "int32", Scale(units)),
    ]


def _constant(tensor: Tensor, scale: Scale | None) -> Tensor:
    values = tensor.known
    scale = scale or scale_of(min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    numbers = np.rint(values / scale.scale[0]) + scale.zero_point
    return Tensor(tensor.name, tensor.shape, numbers.clip(-128, 127).astype(np.int8), "int8", scale)
