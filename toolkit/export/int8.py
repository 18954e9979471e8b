"""NCNN int8 after training: ranges from calibration pictures, weights and scales in ncnn's own format.

ncnn2table and ncnn2int8 are in no wheel; the wheel runs what they would write. The format is that of ncnn's
`Convolution::load_model`: weights behind the flag 0x000D4B38, bias, one weight scale per output channel (per
group in a ConvolutionDepthWise), the input's scale, and, where `int8_scale_term` (key 8) is above 100, the
scale of the output, which then stays int8. Everything is symmetric: integer = round(scale * value) in
-127..127. A layer whose input is float quantises it by itself, so any set of layers may stay float.

Every processor is to get the same result, to the last bit. Rounding errors of float32 differ between
processors, with the order of additions and with fused multiply-adds; they would carry some values over the
edge between two integers, the layers behind would enlarge that, and a phone would not find what was scored
here. So
- int8 layers have weight scales by which a sum of integers becomes float32 without rounding
  (`weight_scales`);
- float convolutions that an int8 layer follows have inputs and weights of so few digits that, within the
  calibrated range, every sum is exact (`on_grid`);
- sigmoids, of squeeze-and-excitation, are rounded to `SIGMOID_GRID`.
Not so: pooling over a whole picture (of which the sigmoid's rounding leaves little), activations other than
ReLU, leaky ReLU and sigmoid, float InnerProducts, float 3x3 convolutions by Winograd, depthwise layers in
int8 (`float_layers`), and apps that compute the float layers in half precision.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.detect import find_images, load_image, preprocess
from toolkit.export.ncnn import INPUT, NcnnModel
from toolkit.models.landmarks import LandmarkIO, NetworkIO, decode_points
from toolkit.models.ncnn_file import FLOAT, HALF, INT8, Floats, Layer, read_model
from toolkit.models.spec import HeadIO, ModelIO
from toolkit.runtime import InputError, progress, whole_file

METHODS = ("minmax", "percentile", "mse", "kl")
ACTIVATION, LEAKY, SIGMOID = "9", "2", "4"
LINEAR_FROM_0 = ("0", "1", LEAKY)  # none, ReLU, leaky ReLU: f(s x) = s f(x) for s > 0
DEPTHWISE = "ConvolutionDepthWise"
CONVOLUTIONS = ("Convolution", DEPTHWISE)
DIGITS, HALF_DIGITS = 24, 11  # of a float32 and a float16, in bits
SIGMOID_GRID = 2.0**-10
FLOOR = 2  # of UnaryOp; its rounding to the nearest gives zeros on ARM (ncnn 20261020)
BINS = 2048
MINIMUM = 8  # calibration pictures
# Multiply-adds that calibration and each layer's sensitivity may take: about 5 and 10 s on one x86 core.
CALIBRATION_MACS, SENSITIVITY_MACS = 40e9, 80e9
JUDGES = 16  # pictures on which outputs are compared, at most
# Depthwise layers stay float: with a scale for each channel they are as large in int8, they take longer on
# x86_64, and there ncnn divides by their scales with an approximate reciprocal. Of the others, the most
# sensitive first, as many as it takes for the outputs to be this close to float32 (detections, landmarks) ...
GOOD_ERROR, GOOD_DISTANCE = 0.08, 0.004
# ... or until this part of all layers is float besides, or the files reach that part of the float32 files.
FLOAT_PART, SIZE_PART = 1 / 6, 0.345


@dataclass(frozen=True)
class Sensitivity:
    """What quantising this layer alone does to the outputs (`output_error`)."""

    name: str
    kind: str
    weights: int
    error: float


@dataclass(frozen=True)
class Quantized:
    """`errors`: `output_error` of every method tried with all layers int8 but those named by the caller, or
    the depthwise ones; `error`: of what was written. `bytes` and `float_bytes`: both files, int8 and
    float32."""

    files: tuple[Path, Path]
    method: str
    float_layers: tuple[str, ...]
    errors: dict[str, float]
    error: float
    sensitivity: tuple[Sensitivity, ...]
    pictures: int
    bytes: int
    float_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "files": [file.name for file in self.files]}


# --- files -------------------------------------------------------------------------------------------


def encode(
    layers: Sequence[Layer], peaks: Mapping[str, float], quantised: Collection[str]
) -> tuple[str, bytes]:
    """-> .param and .bin; `quantised` layers as int8, the others' weights as float16 (ncnn computes with them
    in float32 all the same), as `on_grid` has them where an int8 layer follows.

    `peaks`: blob -> the value that becomes 127. A convolution without activation that is read by int8
    convolutions alone gives int8 itself, with the scale that these would use. (Behind an activation ncnn
    multiplies by both scales at once on ARM, one after the other on x86_64.)
    """
    source, readers = _source(layers), _readers(layers)
    followed = _followed(layers, quantised)
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
                bias = _corrected(layer, whole, of_weights)
                stored = _flagged(INT8, whole)
            else:
                if layer.name in rounded:
                    grid, weight, bias = rounded[layer.name]
                    (blob,) = inputs
                    if read not in centred:
                        more, blob = _centring(blob, grid, read == INPUT)
                        lines += more
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
        if options.get(ACTIVATION) == SIGMOID and followed.intersection(outputs):
            (blob,) = outputs
            outputs = (f"{blob}e",)
            after, last = _centring(f"{blob}e", SIGMOID_GRID)
            after.append(_line("UnaryOp", f"{blob}f", [last], [f"{blob}f"], {"0": FLOOR}))
            after.append(_scaling(f"{blob}f", blob, SIGMOID_GRID))
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


def _centring(blob: str, grid: float, given: bool = False) -> tuple[list[str], str]:
    """Layers to `blob` / grid + 1/2, which only needs rounding down, and that blob's name. `given`: it is the
    network's input. Names are blobs' with letters: p a b d (a copy), m (scaled), s (shifted), r (rounded);
    e and f for a sigmoid before and after its rounding."""
    lines, factor = [], 1 / grid
    if given:
        # arithmetic works in place, where ncnn crashes on the caller's memory: first a sum of two blobs
        twice, copy = [f"{blob}a", f"{blob}b"], f"{blob}d"
        lines.append(_line("Split", f"{blob}p", [blob], twice, {}))
        lines.append(_line("BinaryOp", copy, twice, [copy], {"0": 0}))
        blob, factor = copy, factor / 2
    if factor != 1:
        lines.append(_scaling(blob, f"{blob}m", factor))
        blob = f"{blob}m"
    shifted = f"{blob}s"
    lines.append(_line("BinaryOp", shifted, [blob], [shifted], {"0": 0, "1": 1, "2": 0.5}))
    return lines, shifted


def _scaling(blob: str, result: str, factor: float) -> str:
    # with a point: ncnn once took the bits of a whole number for a float
    number = np.format_float_positional(factor, trim="0")
    return _line("BinaryOp", f"{result}x", [blob], [result], {"0": 2, "1": 1, "2": number})


def _flagged(flag: int, weight: NDArray[Any]) -> bytes:
    """Weights as ncnn's ModelBin reads them: their kind, then they, filled up to four bytes."""
    data = weight.tobytes()
    return np.uint32(flag).tobytes() + data + bytes(-len(data) % 4)


def _followed(layers: Sequence[Layer], quantised: Collection[str]) -> set[str]:
    """The blobs that lead to an int8 layer."""
    followed: set[str] = set()
    for layer in reversed(layers):
        if layer.name in quantised or followed.intersection(layer.outputs):
            followed.update(layer.inputs)
    return followed


def _roundings(
    layers: Sequence[Layer], peaks: Mapping[str, float], quantised: Collection[str], followed: set[str]
) -> tuple[dict[str, tuple[float, Floats, Floats]], set[str]]:
    """-> `on_grid` of the float convolutions that an int8 layer follows, by name; those of their inputs to
    which the layer before adds the half that makes rounding of ncnn's rounding down."""
    source, readers = _source(layers), _readers(layers)
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
            if grid == 1 and len(readers[read]) == 1 and _scales_through(maker) and not shrinks:
                centred.add(read)
    return rounded, centred


def _scales_through(layer: Layer) -> bool:
    """Whether weights and bias times s > 0 give the output times s."""
    return layer.weight is not None and layer.options.get(ACTIVATION, "0") in LINEAR_FROM_0


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
            found = left & (1 / (input_scale * near) == factor)
            scales[found] = near[found]
            left &= ~found
        factor = factor * (1 + 1e-9)
    return scales


def _with_digits(values: NDArray[Any], digits: NDArray[Any]) -> NDArray[Any]:
    """The least numbers that are not below `values` and have so many binary digits."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.ceil(np.ldexp(fraction, digits)), exponent - digits)


def integers(weight: Floats, scales: Floats) -> NDArray[np.int8]:
    """(outputs, n), (outputs,) -> int8 (outputs, n)."""
    return np.rint(weight * scales[:, None]).clip(-127, 127).astype(np.int8)


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


def _corrected(layer: Layer, whole: NDArray[np.int8], scales: Floats) -> Floats:
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
    return layer.bias - (per_input * inputs).sum(1)


def _source(layers: Iterable[Layer]) -> dict[str, str]:
    """Blob -> the blob of which it is a copy (behind a Split), or itself."""
    source: dict[str, str] = {}
    for layer in layers:
        for blob in layer.outputs:
            source[blob] = source[layer.inputs[0]] if layer.kind == "Split" else blob
    return source


def _readers(layers: Iterable[Layer]) -> dict[str, list[Layer]]:
    """Source blob -> the layers that read it, one of kind "Output" where it is an output of the network."""
    layers = list(layers)
    source = _source(layers)
    read = {blob for layer in layers for blob in layer.inputs}
    results = [Layer("Output", blob, (blob,), (), {}) for blob in source if blob not in read]
    readers: dict[str, list[Layer]] = {blob: [] for blob in source.values()}
    for layer in (*layers, *results):
        if layer.kind != "Split":
            for blob in layer.inputs:
                readers[source[blob]].append(layer)
    return readers


# --- running -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bench:
    """One network and the pictures on which its int8 forms are judged. `inside`: every blob of each
    picture with all layers float (their weights in half precision)."""

    layers: Sequence[Layer]
    io: NetworkIO
    folder: Path
    inside: Sequence[Mapping[str, Floats]]

    @property
    def weighted(self) -> list[str]:
        return [layer.name for layer in self.layers if layer.quantisable]

    def encode(self, peaks: Mapping[str, float], floats: Collection[str]) -> tuple[str, bytes]:
        return encode(self.layers, peaks, [name for name in self.weighted if name not in floats])

    def error(self, peaks: Mapping[str, float], floats: Collection[str], start: int = 0) -> float:
        """`output_error` with all layers int8 but `floats`; those before `start`, which must be float, do not
        run: what they gave is known."""
        model = _open(*self.encode(peaks, floats), self.io, self.folder)
        outputs = _outputs(self.io)
        known = {INPUT, *(blob for layer in self.layers[:start] for blob in layer.outputs)}
        needed = known & {*outputs, *(blob for layer in self.layers[start:] for blob in layer.inputs)}
        wanted = [[blobs[out] for out in outputs] for blobs in self.inside]
        found = [
            list(extract(model, {blob: blobs[blob] for blob in needed}, outputs).values())
            for blobs in self.inside
        ]
        return output_error(wanted, found, self.io)


def _outputs(io: NetworkIO) -> list[str]:
    return [f"out{i}" for i in range(io.outputs)]


def _open(param: str, binary: bytes, io: NetworkIO, folder: Path) -> NcnnModel:
    path = folder / "trial.param"
    path.write_text(param)
    path.with_suffix(".bin").write_bytes(binary)
    return NcnnModel(path, io, "int8", threads=1)


def extract(model: NcnnModel, given: Mapping[str, Floats], blobs: Iterable[str]) -> dict[str, Floats]:
    """Blobs of one picture. Layers that only lead to what is `given` do not run; a blob that cannot be made
    from it crashes ncnn."""
    extractor = model.net.create_extractor()
    extractor.set_light_mode(False)
    for blob, value in given.items():
        extractor.input(blob, model.ncnn.Mat(value))
    return {blob: np.array(extractor.extract(blob)[1]) for blob in blobs}


def evenly(samples: Floats, count: float) -> Floats:
    """At most `count` of the pictures, evenly spread."""
    wanted = min(int(count), len(samples))
    return samples[np.linspace(0, len(samples) - 1, wanted).round().astype(int)]


def output_error(
    wanted: Sequence[Sequence[Floats]], found: Sequence[Sequence[Floats]], io: NetworkIO
) -> float:
    """How far the outputs are from float32's. Of landmarks: the mean distance of the points, in sides of the
    cut. Of detections their raw material, over all cells and anchors of all pictures:

    sum(|score - score'| + score x mean |box - box'|) / sum(score), where a score is objectness x class
    probability and a box its four raw numbers. 0 is equal; cells that nobody would look at weigh nothing.
    """
    if isinstance(io, LandmarkIO):
        steps = [decode_points(a, io) - decode_points(b, io) for a, b in zip(wanted, found, strict=True)]
        return float(np.linalg.norm(steps, axis=-1).mean())
    apart = total = 0.0
    for picture, other in zip(wanted, found, strict=True):
        for a, b, head in zip(picture, other, io.heads, strict=True):
            p, q = _cells(a, head, io), _cells(b, head, io)
            score, score2 = (_scores(m, head.new_coords) for m in (p, q))
            boxes = np.abs(p[:, :4] - q[:, :4]).mean(1)
            apart += float(np.abs(score - score2).sum() + (score.sum(1) * boxes).sum())
            total += float(score.sum())
    return apart / max(total, 1e-12)


def _cells(raw: Floats, head: HeadIO, io: ModelIO) -> NDArray[np.float64]:
    """Raw head map of one picture -> (A, 5 + C, cells)."""
    return raw.reshape(len(head.anchors), 5 + len(io.classes), -1).astype(np.float64)


def _scores(cells: NDArray[Any], probabilities: bool) -> NDArray[Any]:
    """(A, 5 + C, cells) -> objectness x class probability (A, C, cells)."""
    p = cells[:, 4:] if probabilities else 1 / (1 + np.exp(-np.clip(cells[:, 4:], -60, 60)))
    return p[:, :1] * p[:, 1:]


# --- ranges ------------------------------------------------------------------------------------------


def equalise(layers: Sequence[Layer], peaks: Mapping[str, Floats]) -> tuple[list[Layer], dict[str, Floats]]:
    """The same function with channels of like size, where one convolution alone reads another.

    `peaks`: blob -> largest absolute value of each channel. A channel times s behind a ReLU (or nothing, or a
    leaky ReLU) is the weights and the bias before it times s and those after it divided by s, in exact
    arithmetic. A depthwise reader has a scale for each channel, so s makes all channels equally large; for
    any other reader s = sqrt(largest weight that reads it / peak) shares the spread between both sides
    (Nagel et al., arXiv:1906.04721; Xiao et al., arXiv:2211.10438). -> the layers and their peaks.
    """
    readers = _readers(layers)
    maker = {blob: layer.name for layer in layers for blob in layer.outputs}
    changed = {layer.name: layer for layer in layers}
    peaks = dict(peaks)
    for blob, peak in peaks.items():
        before = changed[maker[blob]]
        after = changed[readers[blob][0].name] if len(readers[blob]) == 1 else None
        if after is None or not after.quantisable or not _scales_through(before):
            continue
        if before.weight is None or before.bias is None or after.weight is None or after.bias is None:
            continue
        depthwise = after.kind == DEPTHWISE
        # (outputs, channels, kernel), or (channels, 1, kernel)
        weight = after.weight.reshape(len(after.weight), 1 if depthwise else len(peak), -1)
        reads = np.abs(weight).max((1, 2) if depthwise else (0, 2))
        live = (peak > 1e-6 * peak.max()) & (reads > 0)
        if not live.any():
            continue
        s = np.ones_like(peak)
        s[live] = peak.max() / peak[live] if depthwise else np.sqrt(reads[live] / peak[live])
        s[live] /= np.exp(np.log(s[live]).mean())
        s = s.clip(1e-3, 1e3)
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


def threshold(histogram: NDArray[np.integer], peak: float, method: str) -> float:
    """The value that becomes 127, from a histogram of absolute values over 0..`peak` (equal bins).

    "minmax": the peak; "percentile": 99.99 % lie below; "mse": the least squared error of rounding and
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

        return min(np.linspace(0.2, 1, 81) * peak, key=squared)
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


def _channel_peaks(model: NcnnModel, blobs: Sequence[str], samples: Floats) -> dict[str, Floats]:
    """Blob -> largest absolute value of each channel."""
    peaks: dict[str, Floats] = {}
    for x in progress(samples, "calibration: channels"):
        for blob, value in extract(model, {INPUT: x}, blobs).items():
            peak = np.abs(value.reshape(len(value), -1)).max(1)
            peaks[blob] = np.maximum(peaks.get(blob, np.float32(0)), peak)
    return peaks


def _statistics(
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


# --- the whole ---------------------------------------------------------------------------------------


def quantize(
    param: str | Path,
    binary: str | Path,
    io: NetworkIO,
    samples: Floats,
    folder: str | Path,
    method: str = "best",
    float_layers: Sequence[str] | None = None,
) -> Quantized:
    """Write model-int8.param and model-int8.bin into `folder` from a float32 ncnn model of ours.

    `samples`: (N, 3, H, W) float32, preprocessed as `io` says (`calibration_inputs`), at least `MINIMUM`;
    of large networks an even part is used. `method`: how the range of an input is found, one of `METHODS`, or
    "best", which tries all and keeps the one with the least `output_error`. `float_layers`: names in the
    .param that stay float; None keeps depthwise layers and lets the sensitivities choose others
    (`GOOD_ERROR`, `FLOAT_PART`, `SIZE_PART`), () quantises everything. Both files appear whole.

    Raises InputError for bad samples, an unknown method or layer, and files that are no float32 model; warns
    where the pictures are grey or seem to have red and blue exchanged.
    """
    param, binary, folder = Path(param), Path(binary), Path(folder)
    if method not in ("best", *METHODS):
        raise InputError(f"unknown method {method!r}: known are best, {', '.join(METHODS)}")
    samples = _checked(samples, io)
    layers = read_model(param, binary)
    source = _source(layers)
    weighted = {layer.name: source[layer.inputs[0]] for layer in layers if layer.quantisable}
    unknown = sorted(set(float_layers or ()) - set(weighted))
    if unknown:
        raise InputError(
            f"{param.name} has no layer {unknown[0]!r} to quantise: it has {', '.join(weighted)}"
        )
    read = list(dict.fromkeys(weighted.values()))
    model = NcnnModel(param, io, "fp32", threads=1)
    if isinstance(io, ModelIO):
        _warn_of_colours(model, io, evenly(samples, JUDGES))
    macs = _macs(layers, model, samples[0])
    seen = evenly(samples, max(MINIMUM, CALIBRATION_MACS / macs))
    judges = evenly(samples, np.clip(SENSITIVITY_MACS / macs / len(weighted), 2, JUDGES))

    with tempfile.TemporaryDirectory() as work:
        layers, channels = equalise(layers, _channel_peaks(model, read, seen))
        tops = {blob: max(float(peak.max()), 1e-12) for blob, peak in channels.items()}
        equal = _open(*encode(layers, {}, ()), io, Path(work))
        histograms, means = _statistics(equal, tops, seen)
        layers = [
            replace(layer, input_mean=means[weighted[layer.name]], input_peak=tops[weighted[layer.name]])
            if layer.quantisable
            else layer
            for layer in layers
        ]
        blobs = [blob for layer in layers for blob in layer.outputs]
        bench = _Bench(layers, io, Path(work), [extract(equal, {INPUT: x}, blobs) for x in judges])

        if float_layers is None:
            floats = {each.name for each in layers if each.quantisable and each.kind == DEPTHWISE}
        else:
            floats = set(float_layers)
        tried = {
            name: {blob: threshold(histograms[blob], tops[blob], name) for blob in read}
            for name in (METHODS if method == "best" else (method,))
        }
        errors = {name: bench.error(peaks, floats) for name, peaks in tried.items()}
        method = min(errors, key=lambda name: errors[name])
        peaks = tried[method]
        rows = []
        for i, layer in enumerate(progress(layers, "sensitivity of each layer")):
            if layer.quantisable and layer.weight is not None:
                # without the others' peaks these are plain float, not rounded to a grid
                own = {weighted[layer.name]: peaks[weighted[layer.name]]}
                alone = bench.error(own, {*weighted} - {layer.name}, i)
                rows.append(Sensitivity(layer.name, layer.kind, layer.weight.size, alone))
        float_bytes = param.stat().st_size + binary.stat().st_size
        error = errors[method]
        if float_layers is None:
            floats, error = _sensitive(bench, peaks, rows, floats, error, SIZE_PART * float_bytes)
        text, data = bench.encode(peaks, floats)

    files = folder / "model-int8.param", folder / "model-int8.bin"
    with whole_file(files[0]) as new_param, whole_file(files[1]) as new_binary:
        new_param.write_text(text)
        new_binary.write_bytes(data)
    kept = tuple(name for name in weighted if name in floats)
    return Quantized(
        files, method, kept, errors, error, tuple(rows), len(seen), len(text) + len(data), float_bytes
    )


def _sensitive(
    bench: _Bench,
    peaks: Mapping[str, float],
    rows: Sequence[Sensitivity],
    floats: set[str],
    error: float,
    limit: float,
) -> tuple[set[str], float]:
    """`floats` and the layers that stay float besides, and the error then: the most sensitive first, each
    only where the files stay below `limit` bytes."""

    def size(floats: Collection[str]) -> int:
        return sum(map(len, bench.encode(peaks, floats)))

    # of a tiny network the .param is a good part: a twentieth more is allowed
    limit = limit if size(floats) <= limit else 1.05 * size(floats)
    good = GOOD_DISTANCE if isinstance(bench.io, LandmarkIO) else GOOD_ERROR
    most = len(floats) + FLOAT_PART * len(rows)
    for row in sorted((row for row in rows if row.name not in floats), key=lambda row: -row.error):
        if error <= good or len(floats) + 1 > most:
            break
        if size({*floats, row.name}) <= limit:
            floats = {*floats, row.name}
            error = bench.error(peaks, floats)
    return floats, error


def _macs(layers: Sequence[Layer], model: NcnnModel, x: Floats) -> float:
    """Multiply-adds of one picture."""
    weighted = {layer.outputs[0]: layer.weight for layer in layers if layer.weight is not None}
    blobs = extract(model, {INPUT: x}, weighted)
    return float(sum(weight[0].size * blobs[blob].size for blob, weight in weighted.items()))


# --- pictures ----------------------------------------------------------------------------------------


def calibration_inputs(
    pictures: str | Path | Sequence[str | Path], io: NetworkIO, limit: int = 200
) -> Floats:
    """(N, 3, H, W) float32 for `quantize`, by `toolkit.detect.preprocess`.

    `pictures`: a folder, a .txt with one path a line (relative to itself), or paths; `limit` of them, evenly
    spread, where there are more. Raises InputError where a picture is missing or does not decode, and for
    fewer than `MINIMUM`.
    """
    paths: list[str | Path]
    if not isinstance(pictures, (str, Path)):
        paths = list(pictures)
    elif Path(pictures).suffix == ".txt":
        try:
            lines = Path(pictures).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the list of pictures {pictures}: {error}") from None
        paths = [Path(pictures).parent / line.strip() for line in lines if line.strip()]
    else:
        paths = list(find_images(pictures))
    if min(len(paths), limit) < MINIMUM:
        raise InputError(
            f"calibration needs at least {MINIMUM} pictures, better 200, and {min(len(paths), limit)} were "
            "given: name a folder or a list with pictures like those the network will see"
        )
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    return np.stack(
        [preprocess(load_image(paths[i]), io)[0] for i in progress(chosen, "reading calibration pictures")]
    )


def _checked(samples: Floats, io: NetworkIO) -> Floats:
    samples = np.asarray(samples)
    if samples.ndim != 4 or samples.shape[1] != 3 or samples.dtype != np.float32:
        raise InputError(
            f"calibration takes float32 (N, 3, H, W), found {samples.dtype} {samples.shape}: "
            "make it with calibration_inputs"
        )
    if len(samples) < MINIMUM:
        raise InputError(f"calibration needs at least {MINIMUM} pictures, {len(samples)} were given")
    io.check_size((samples.shape[3], samples.shape[2]))
    low, high = (0 - io.mean) * io.scale, (255 - io.mean) * io.scale
    least, most = float(samples.min()), float(samples.max())
    if not low - 1e-3 <= least <= most <= high + 1e-3:
        raise InputError(
            f"this network takes values in {low:g}..{high:g}, the calibration pictures lie in "
            f"{least:g}..{most:g}: make them with calibration_inputs"
        )
    return np.ascontiguousarray(samples)


def _warn_of_colours(model: NcnnModel, io: ModelIO, samples: Floats) -> None:
    """The files cannot say in which order their colours stand, but the network can: it was trained on one."""
    grey = np.abs(samples - samples[:, :1]).max((1, 2, 3)) < 1e-3
    if grey.mean() > 0.5:
        warnings.warn(
            f"{grey.sum()} of {len(grey)} calibration pictures are grey: ranges found on them may not fit "
            "coloured ones",
            stacklevel=3,
        )
        return
    as_given, exchanged = (_best_scores(model, io, x) for x in (samples, samples[:, ::-1]))
    if exchanged.mean() > 1.1 * as_given.mean() and (exchanged > as_given).mean() > 0.7:
        warnings.warn(
            f"the network is surer of the calibration pictures with red and blue exchanged (best score "
            f"{exchanged.mean():.2f} on average, not {as_given.mean():.2f}): are they "
            f"{io.channel_order}?",
            stacklevel=3,
        )


def _best_scores(model: NcnnModel, io: ModelIO, samples: Floats) -> NDArray[np.float64]:
    """(N,): the best score in each picture."""
    best = []
    for x in samples:
        maps = zip(model.predict(x[None]), io.heads, strict=True)
        best.append(max(_scores(_cells(m, head, io), head.new_coords).max() for m, head in maps))
    return np.array(best)


def picture(quantized: Quantized) -> Any:
    """The layers in running order as columns: the error each makes alone, int8 and kept float in two
    colours."""
    from toolkit import viz

    return viz.layer_profile(
        ["kept float" if row.name in quantized.float_layers else "int8" for row in quantized.sensitivity],
        {"error of the outputs with this layer alone in int8": [row.error for row in quantized.sensitivity]},
        xlabel="layer in running order",
        title=f"Sensitivity to int8, ranges by {quantized.method}",
    )
