"""Ranges of activations from calibration pictures: min-max, percentile, MSE and KL, and equalisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toolkit.export.int8.exact import on_grid
from toolkit.export.int8.graph import DEPTHWISE, readers_of, scales_through
from toolkit.export.ncnn import INPUT, NcnnModel
from toolkit.models.ncnn_file import Floats, Layer
from toolkit.runtime import progress

METHODS = ("minmax", "percentile", "mse", "kl")
BINS = 2048


def extract(model: NcnnModel, inputs: Mapping[str, Floats], blobs: Iterable[str]) -> dict[str, Floats]:
    """Blobs of one picture. Layers that only lead to what is `inputs` do not run; a blob that cannot be made
    from it crashes ncnn."""
    extractor = model.net.create_extractor()
    extractor.set_light_mode(False)
    for blob, value in inputs.items():
        extractor.input(blob, model.ncnn.Mat(value))
    return {blob: np.array(extractor.extract(blob)[1]) for blob in blobs}


def equalise(layers: Sequence[Layer], peaks: Mapping[str, Floats]) -> tuple[list[Layer], dict[str, Floats]]:
    """The same function with channels of like size, where one convolution alone reads another.

    `peaks`: blob -> largest absolute value of each channel. A channel times s behind a ReLU (or nothing, or a
    leaky ReLU) is the weights and the bias before it times s and those after it divided by s, in exact
    arithmetic. A depthwise reader has a scale for each channel, so s makes all channels equally large; for
    any other reader s = sqrt(largest weight that reads it / peak) shares the spread between both sides
    (Nagel et al., arXiv:1906.04721; Xiao et al., arXiv:2211.10438). -> the layers and their peaks.
    """
    readers = readers_of(layers)
    maker = {blob: layer.name for layer in layers for blob in layer.outputs}
    changed = {layer.name: layer for layer in layers}
    peaks = dict(peaks)
    for blob, peak in peaks.items():
        before = changed[maker[blob]]
        after = changed[readers[blob][0].name] if len(readers[blob]) == 1 else None
        if after is None or not after.quantisable or not scales_through(before):
            continue
        if before.weight is None or before.bias is None or after.weight is None or after.bias is None:
            continue
        depthwise = after.kind == DEPTHWISE
        # (outputs, channels, kernel), or (channels, 1, kernel)
        weight = after.weight.reshape(len(after.weight), 1 if depthwise else len(peak), -1)
        reads = np.abs(weight).max((1, 2) if depthwise else (0, 2))
        s = channel_factors(peak, reads, depthwise)
        if s is None:
            continue
        divided = weight / (s[:, None, None] if depthwise else s[None, :, None])
        grid, *_ = on_grid(divided.reshape(after.weight.shape), after.bias, float((peak * s).max()))
        # where float16 has room for the weights, such that whole numbers are the grid
        grid = max(
            grid, 2.0 ** np.ceil(np.log2(max(float(np.abs(before.weight * s[:, None]).max()), 1e-30) / 2**15))
        )
        s, divided = s / np.float32(grid), divided * np.float32(grid)
        changed[before.name] = replace(before, weight=before.weight * s[:, None], bias=before.bias * s)
        changed[after.name] = replace(after, weight=divided.reshape(after.weight.shape))
        peaks[blob] = peak * s
    return [changed[layer.name] for layer in layers], peaks


def channel_factors(peak: Floats, reads: Floats, depthwise: bool) -> Floats | None:
    """What each channel is multiplied with to be equalised; None where no channel is alive.

    Args:
        peak: (C,) largest absolute value of each.
        reads: (C,) largest weight that reads it.
        depthwise: whether a depthwise convolution reads them.
    """
    live = (peak > 1e-6 * peak.max()) & (reads > 0)
    if not live.any():
        return None
    s = np.ones_like(peak)
    s[live] = peak.max() / peak[live] if depthwise else np.sqrt(reads[live] / peak[live])
    s[live] /= np.exp(np.log(s[live]).mean())
    return s.clip(1e-3, 1e3)


def threshold(histogram: NDArray[np.integer], peak: float, method: str) -> float:
    """The value that becomes 127, from a histogram of absolute values over 0..`peak` (equal bins).

    "minmax": the peak; "percentile": 99.99 % are below; "mse": the least squared error of rounding and
    clipping; "kl": the least Kullback-Leibler divergence of 128 levels (Migacz, "8-bit inference with
    TensorRT", 2017; ncnn2table's default).
    """
    bins = len(histogram)
    counts = histogram.astype(np.float64)
    if method == "minmax" or not counts.any():
        return peak
    if method == "percentile":
        share = np.cumsum(counts) / counts.sum()
        return peak * (int(np.searchsorted(share, 0.9999)) + 1) / bins
    if method == "mse":
        values = (np.arange(bins) + 0.5) / bins * peak

        def squared(top: float) -> float:
            return float(counts @ (values - np.minimum(np.rint(values * 127 / top), 127) * top / 127) ** 2)

        result: float = min(np.linspace(0.2, 1, 81) * peak, key=squared)
        return result
    counts[0] = 0  # the zeros behind a ReLU are exact at any scale
    used = counts > 0

    def divergence(cut: int) -> float:
        p = counts[:cut].copy()
        p[-1] += counts[cut:].sum()
        level = np.arange(cut) * 128 // cut
        mass = np.bincount(level, counts[:cut], 128)
        width = np.bincount(level, used[:cut], 128)
        q = np.where(used[:cut], (mass / np.maximum(width, 1))[level], 0)
        p, q = (np.where(v > 0, v, 1e-4) for v in (p, q))
        p, q = p / p.sum(), q / q.sum()
        return float((p * np.log(p / q)).sum())

    return peak * min(range(128, bins + 1, 16), key=divergence) / bins


def measure_channel_peaks(model: NcnnModel, blobs: Sequence[str], samples: Floats) -> dict[str, Floats]:
    """Blob -> largest absolute value of each channel."""
    peaks: dict[str, Floats] = {}
    for x in progress(samples, "calibration: channels"):
        for blob, value in extract(model, {INPUT: x}, blobs).items():
            peak = np.abs(value.reshape(len(value), -1)).max(1)
            peaks[blob] = np.maximum(peaks.get(blob, np.float32(0)), peak)
    return peaks


def measure_statistics(
    model: NcnnModel, tops: Mapping[str, float], samples: Floats
) -> tuple[dict[str, NDArray[np.int64]], dict[str, Floats]]:
    """Blob -> histogram of absolute values over 0..top, and mean of each channel."""
    histograms = {blob: np.zeros(BINS, np.int64) for blob in tops}
    means: dict[str, Floats] = {}
    for x in progress(samples, "calibration: ranges"):
        for blob, value in extract(model, {INPUT: x}, tops).items():
            flat = value.reshape(len(value), -1)
            bins = np.minimum(np.abs(flat) * (BINS / tops[blob]), BINS - 1).astype(np.int32)
            histograms[blob] += np.bincount(bins.ravel(), minlength=BINS)
            means[blob] = means.get(blob, np.float32(0)) + flat.mean(1) / np.float32(len(samples))
    return histograms, means
