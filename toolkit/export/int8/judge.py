"""How much an int8 network departs from its float network, by layer and at the outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.export.int8.file import encode
from toolkit.export.int8.ranges import extract
from toolkit.export.ncnn import INPUT, NcnnModel
from toolkit.models.io import NetworkIO
from toolkit.models.ncnn_file import Floats, Layer


@dataclass(frozen=True)
class Sensitivity:
    """What quantising this layer alone does to the outputs (`NetworkIO.output_error`)."""

    name: str
    kind: str
    weights: int
    error: float


@dataclass(frozen=True)
class Bench:
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
        """`NetworkIO.output_error` with all layers int8 but `floats`; those before `start`, which must be
        float, do not run: what they gave is known."""
        model = open_files(*self.encode(peaks, floats), self.io, self.folder)
        outputs = _outputs(self.io)
        available = {INPUT, *(blob for layer in self.layers[:start] for blob in layer.outputs)}
        needed = available & {*outputs, *(blob for layer in self.layers[start:] for blob in layer.inputs)}
        float_outputs = [[blobs[out] for out in outputs] for blobs in self.inside]
        int8_outputs = [
            list(extract(model, {blob: blobs[blob] for blob in needed}, outputs).values())
            for blobs in self.inside
        ]
        return self.io.output_error(float_outputs, int8_outputs)


def _outputs(io: NetworkIO) -> list[str]:
    return [f"out{i}" for i in range(io.outputs)]


def open_files(param: str, binary: bytes, io: NetworkIO, folder: Path) -> NcnnModel:
    path = folder / "trial.param"
    path.write_text(param)
    path.with_suffix(".bin").write_bytes(binary)
    return NcnnModel(path, io, "int8", threads=1)


def evenly(samples: Floats, count: float) -> Floats:
    """At most `count` of the pictures, evenly spread."""
    size = min(int(count), len(samples))
    result: Floats = samples[np.linspace(0, len(samples) - 1, size).round().astype(int)]
    return result
