"""Writing ncnn's int8 .param and .bin."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export.int8.exact import corrected_bias, integers, on_grid, weight_scales
from toolkit.export.int8.graph import (
    ACTIVATION,
    CONVOLUTIONS,
    LEAKY,
    SIGMOID,
    channels_read,
    followed_layers,
    readers_of,
    scales_through,
    source_of,
)
from toolkit.export.ncnn import INPUT
from toolkit.models.ncnn_file import FLOAT, HALF, INT8, Floats, Layer

SIGMOID_GRID = 2.0**-10
FLOOR = 2  # of UnaryOp; its rounding to the nearest gives zeros on ARM (ncnn 20261020)


def encode(
    layers: Sequence[Layer], peaks: Mapping[str, float], quantised: Collection[str]
) -> tuple[str, bytes]:
    """-> .param and .bin; `quantised` layers as int8, the others' weights as float16 (ncnn computes with them
    in float32 all the same), as `on_grid` has them where an int8 layer follows.

    `peaks`: blob -> the value that becomes 127. A convolution without activation that is read by int8
    convolutions alone gives int8 itself, with the scale that these would use. (Behind an activation ncnn
    multiplies by both scales at once on ARM, one after the other on x86_64.)
    """
    source, readers = source_of(layers), readers_of(layers)
    followed = followed_layers(layers, quantised)
    rounded, centred = _roundings(layers, peaks, quantised, followed)
    lines, parts = [], []
    for layer in layers:
        options, inputs, outputs = dict(layer.options), layer.inputs, layer.outputs
        if layer.weight is not None and layer.bias is not None:
            read, result = source[inputs[0]], source[layer.outputs[0]]
            weight, bias = layer.weight, layer.bias
            scales: list[Any] = []
            if layer.name in quantised:
                stays = ACTIVATION not in options and all(
                    each.name in quantised and each.kind in CONVOLUTIONS for each in (layer, *readers[result])
                )
                options["8"] = "101" if stays else "1"
                of_input = np.float32(127 / peaks[read])
                of_weights = weight_scales(weight, of_input)
                scales = [*of_weights, of_input, *([127 / peaks[result]] if stays else [])]
                whole = integers(weight, of_weights)
                bias = corrected_bias(layer, whole, of_weights)
                stored = _flagged(INT8, whole)
            else:
                if layer.name in rounded:
                    grid, weight, bias = rounded[layer.name]
                    (blob,) = inputs
                    if read not in centred:
                        more, blob, factors = _centring(blob, grid, channels_read(layer), read == INPUT)
                        lines += more
                        parts.append(factors)
                    lines.append(_line("UnaryOp", f"{blob}r", [blob], [f"{blob}r"], {"0": FLOOR}))
                    inputs = (f"{blob}r",)
                half = weight.astype(np.float16)
                too_fine = layer.name in rounded and (half != weight).any()
                stored = _flagged(FLOAT, weight) if too_fine else _flagged(HALF, half)
            if result in centred:
                bias = bias + np.float32(0.5)
            parts += [stored, bias.tobytes(), np.array(scales, np.float32).tobytes()]
        elif layer.slopes is not None:
            parts.append(layer.slopes.tobytes())
        sigmoid = options.get(ACTIVATION) == SIGMOID
        if layer.weight is not None and sigmoid and followed.intersection(outputs):
            (blob,) = outputs
            outputs = (f"{blob}e",)
            after, last, factors = _centring(f"{blob}e", SIGMOID_GRID, len(layer.weight))
            parts.append(factors)
            after.append(_line("UnaryOp", f"{blob}f", [last], [f"{blob}f"], {"0": FLOOR}))
            # with a point: ncnn once took the bits of a whole number for a float
            step = np.format_float_positional(SIGMOID_GRID, trim="0")
            after.append(_line("BinaryOp", f"{blob}x", [f"{blob}f"], [blob], {"0": 2, "1": 1, "2": step}))
        else:
            after = []
        lines += [_line(layer.kind, layer.name, inputs, outputs, options), *after]
    blobs = sum(int(line.split()[3]) for line in lines)
    return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines]) + "\n", b"".join(parts)


def _line(
    kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], options: Mapping[str, object]
) -> str:
    pairs = (f"{key}={value}" for key, value in options.items())
    return " ".join([kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs, *pairs])


def _centring(blob: str, grid: float, channels: int, is_input: bool = False) -> tuple[list[str], str, bytes]:
    """Layers to `blob` / grid + 1/2, which only needs rounding down, that blob's name and the layers' part of
    the .bin. `is_input`: it is the network's input. Names are blobs' with letters: p a b d (a copy),
    s (scaled and shifted), r (rounded); e and f for a sigmoid before and after its rounding."""
    lines, factor = [], 1 / grid
    if is_input:
        # arithmetic works in place, where ncnn crashes on the caller's memory: first a sum of two blobs
        twice, copy = [f"{blob}a", f"{blob}b"], f"{blob}d"
        lines.append(_line("Split", f"{blob}p", [blob], twice, {}))
        lines.append(_line("BinaryOp", copy, twice, [copy], {"0": 0}))
        blob, factor = copy, factor / 2
    shifted = f"{blob}s"
    # both in one layer, exact with and without fused multiply-add: the factor is a power of two
    lines.append(_line("Scale", shifted, [blob], [shifted], {"0": channels, "1": 1}))
    return lines, shifted, np.repeat(np.array([factor, 0.5], np.float32), channels).tobytes()


def _flagged(flag: int, weight: NDArray[Any]) -> bytes:
    """Weights as ncnn's ModelBin reads them: their kind, then they, filled up to four bytes."""
    data = weight.tobytes()
    return np.uint32(flag).tobytes() + data + bytes(-len(data) % 4)


def _roundings(
    layers: Sequence[Layer], peaks: Mapping[str, float], quantised: Collection[str], followed: set[str]
) -> tuple[dict[str, tuple[float, Floats, Floats]], set[str]]:
    """-> `on_grid` of the float convolutions that an int8 layer follows, by name; those of their inputs to
    which the layer before adds the half that makes rounding of ncnn's rounding down."""
    source, readers = source_of(layers), readers_of(layers)
    makers = {blob: layer for layer in layers for blob in layer.outputs}
    rounded, centred = {}, set()
    for layer in layers:
        if not layer.quantisable or layer.kind not in CONVOLUTIONS or layer.name in quantised:
            continue
        read = source[layer.inputs[0]]
        if layer.weight is None or layer.bias is None or read not in peaks:
            continue
        if followed.intersection(layer.outputs):
            rounded[layer.name] = on_grid(layer.weight, layer.bias, layer.input_peak)
            grid, *_ = rounded[layer.name]
            maker = makers[read]
            shrinks = maker.options.get(ACTIVATION) == LEAKY  # the half too
            if grid == 1 and len(readers[read]) == 1 and scales_through(maker) and not shrinks:
                centred.add(read)
    return rounded, centred
