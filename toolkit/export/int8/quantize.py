"""NCNN int8 from the float .param and .bin and calibration pictures, in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.export.int8.file import encode
from toolkit.export.int8.graph import CONVOLUTIONS, DEPTHWISE, channels_read, source_of
from toolkit.export.int8.judge import Bench, Sensitivity, evenly, open_files
from toolkit.export.int8.pictures import MINIMUM, checked_samples, warn_of_colours
from toolkit.export.int8.ranges import (
    METHODS,
    equalise,
    extract,
    measure_channel_peaks,
    measure_statistics,
    threshold,
)
from toolkit.export.ncnn import INPUT, NcnnModel
from toolkit.files import temporary_folder, whole_file
from toolkit.models.io import NetworkIO
from toolkit.models.ncnn_file import Floats, Layer, read_model
from toolkit.runtime import InputError, progress
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Multiply-adds that calibration and each layer's sensitivity may take: about 5 and 10 s on one x86 core.
CALIBRATION_MACS, SENSITIVITY_MACS = 40e9, 80e9
JUDGES = 16  # pictures on which outputs are compared, at most
# What int8 does not speed up stays float, by instructions on arm64 (tests/benchmarks/results, by layer):
# depthwise layers, which take 1.1 to 3.2 times as many in int8, are as large in it, having a scale for each
# channel, and on x86_64 are divided by these with an approximate reciprocal; and convolutions that read fewer
# channels than this, which take 1.3 to 1.5 times as many.
FEW_CHANNELS = 8
# Of the others the more sensitive half, by squared error (squares add up) for each multiply-add, as many as
# it takes for the outputs to be as close to float32 as `NetworkIO.good_error`, or until this part of all
# layers is float besides, or the files reach that part of the float32 files.
FLOAT_PART, SIZE_PART = 1 / 5, 0.345


@dataclass(frozen=True)
class Quantized:
    """`errors`: `output_error` of every method tried with all layers int8 but those named by the caller, or
    those that int8 does not speed up; `error`: of what was written. `bytes` and `float_bytes`: both files,
    int8 and float32."""

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


def quantize(
    param: str | Path,
    binary: str | Path,
    io: NetworkIO,
    samples: Floats,
    folder: str | Path,
    method: str = "best",
    float_layers: Sequence[str] | None = None,
) -> Quantized:
    """Writes model-int8.param and model-int8.bin from a float32 ncnn model of this toolkit.

    Both files appear whole or not at all. Warns where the pictures are grey or seem to have red and blue
    exchanged.

    Args:
        param, binary: the float32 files.
        io: of the network.
        samples: (N, 3, H, W) float32 network inputs (`calibration_inputs`), at least `MINIMUM`; of large
            networks an even part is used.
        folder: where the files go.
        method: how the range of an input is found, one of `METHODS`, or "best" for that of the least error.
        float_layers: names in the .param that stay float; None keeps those that int8 does not speed up
            (depthwise, `FEW_CHANNELS`) and lets the sensitivities choose others (`NetworkIO.good_error`,
            `FLOAT_PART`, `SIZE_PART`); () quantises all.

    Returns:
        The files, the method, the float layers and the sensitivity of every layer.

    Raises:
        InputError: bad samples, an unknown method or layer, or files that are not a float32 model.
    """
    param, binary, folder = Path(param), Path(binary), Path(folder)
    check_method(method)
    samples = checked_samples(samples, io)
    layers = read_model(param, binary)
    source = source_of(layers)
    weighted = {layer.name: source[layer.inputs[0]] for layer in layers if layer.quantisable}
    unknown = sorted(set(float_layers or ()) - set(weighted))
    if unknown:
        raise InputError(
            f"{param.name} has no layer {unknown[0]!r} to quantise: it has {', '.join(weighted)}"
        )
    read = list(dict.fromkeys(weighted.values()))
    model = NcnnModel(param, io, "fp32", threads=1)
    if io.heads:
        warn_of_colours(model, io, evenly(samples, JUDGES))
    macs = _macs(layers, model, samples[0])
    total = sum(macs.values())
    seen = evenly(samples, max(MINIMUM, CALIBRATION_MACS / total))
    judges = evenly(samples, np.clip(SENSITIVITY_MACS / total / len(weighted), 2, JUDGES))

    with temporary_folder() as work:
        layers, channels = equalise(layers, measure_channel_peaks(model, read, seen))
        tops = {blob: max(float(peak.max()), 1e-12) for blob, peak in channels.items()}
        equal = open_files(*encode(layers, {}, ()), io, work)
        histograms, means = measure_statistics(equal, tops, seen)
        layers = [
            replace(layer, input_mean=means[weighted[layer.name]], input_peak=tops[weighted[layer.name]])
            if layer.quantisable
            else layer
            for layer in layers
        ]
        blobs = [blob for layer in layers for blob in layer.outputs]
        bench = Bench(layers, io, work, [extract(equal, {INPUT: x}, blobs) for x in judges])

        if float_layers is None:
            floats = {layer.name for layer in layers if layer.quantisable and not _gains(layer)}
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
            floats, error = _sensitive(bench, peaks, rows, macs, floats, error, SIZE_PART * float_bytes)
        text, data = bench.encode(peaks, floats)

    files = folder / "model-int8.param", folder / "model-int8.bin"
    with whole_file(files[0]) as new_param, whole_file(files[1]) as new_binary:
        new_param.write_text(text)
        new_binary.write_bytes(data)
    kept = tuple(name for name in weighted if name in floats)
    return Quantized(
        files, method, kept, errors, error, tuple(rows), len(seen), len(text) + len(data), float_bytes
    )


def check_method(method: str) -> None:
    """Raises InputError unless it is "best" or one of `METHODS`."""
    if method not in ("best", *METHODS):
        raise InputError(f"unknown method {method!r}: known are best, {', '.join(METHODS)}")


def _gains(layer: Layer) -> bool:
    """Whether int8 takes fewer instructions than float32 on arm64."""
    few = layer.kind in CONVOLUTIONS and channels_read(layer) < FEW_CHANNELS
    return layer.kind != DEPTHWISE and not few


def _sensitive(
    bench: Bench,
    peaks: Mapping[str, float],
    rows: Sequence[Sensitivity],
    macs: Mapping[str, float],
    floats: set[str],
    error: float,
    limit: float,
) -> tuple[set[str], float]:
    """`floats` and the layers that stay float besides, and the error then: of the more sensitive half those
    first that take the most squared error away for a multiply-add, each only where the files stay below
    `limit` bytes."""

    def size(floats: Collection[str]) -> int:
        return sum(map(len, bench.encode(peaks, floats)))

    # of a tiny network the .param is a good part: a twentieth more is allowed
    limit = limit if size(floats) <= limit else 1.05 * size(floats)
    most = len(floats) + FLOAT_PART * len(rows)
    middle = float(np.median([row.error for row in rows]))
    sensitive = [row for row in rows if row.name not in floats and row.error > middle]
    for row in sorted(sensitive, key=lambda row: -(row.error**2) / macs[row.name]):
        if error <= bench.io.good_error or len(floats) + 1 > most:
            break
        if size({*floats, row.name}) <= limit:
            floats = {*floats, row.name}
            error = bench.error(peaks, floats)
    return floats, error


def _macs(layers: Sequence[Layer], model: NcnnModel, x: Floats) -> dict[str, float]:
    """Multiply-adds of one picture in each layer that has weights, by name."""
    weights = {layer.name: (layer.outputs[0], layer.weight) for layer in layers if layer.weight is not None}
    blobs = extract(model, {INPUT: x}, [blob for blob, _ in weights.values()])
    return {name: float(weight[0].size * blobs[blob].size) for name, (blob, weight) in weights.items()}


class Int8Facts(dict[str, Any], Shown):
    """What parity.json keeps of an ncnn-int8 file (`Quantized.as_dict`), shown: the error that each layer
    makes alone, and the methods for ranges."""

    def caption(self) -> str:
        """What was written."""
        kept = ", ".join(self["float_layers"]) or "none"
        return f"Ranges by {self['method']}, error {self['error']:.4f}. Layers that stay float: {kept}."

    def columns(self) -> dict[str, list[str]]:
        """A row for each method."""
        errors = self["errors"]
        return {
            "method for ranges": list(errors),
            "error, int8 wherever it is faster": [f"{error:.4f}" for error in errors.values()],
        }

    def strong(self) -> str:
        return str(self["method"])

    def figure(self) -> Figure:
        """The layers in running order, int8 and kept float in two colours."""
        from toolkit import viz

        rows = self["sensitivity"]
        return viz.layer_profile(
            ["kept float" if row["name"] in self["float_layers"] else "int8" for row in rows],
            {"error of the outputs with this layer alone in int8": [row["error"] for row in rows]},
            xlabel="layer in running order",
        )


def picture(quantized: Quantized) -> Figure:
    """The layers in running order as columns, as of `Int8Facts`."""
    return Int8Facts(quantized.as_dict()).figure()
