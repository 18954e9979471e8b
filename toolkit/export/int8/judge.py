"""How much an int8 network departs from its float network, by layer and at the outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export.int8.file import encode
from toolkit.export.int8.ranges import extract
from toolkit.export.ncnn import INPUT, NcnnModel
from toolkit.models.io import HeadIO, LandmarkIO, ModelIO, NetworkIO
from toolkit.models.landmarks import decode_points
from toolkit.models.ncnn_file import Floats, Layer


@dataclass(frozen=True)
class Sensitivity:
    """What quantising this layer alone does to the outputs (`output_error`)."""

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
        """`output_error` with all layers int8 but `floats`; those before `start`, which must be float, do not
        run: what they gave is known."""
        model = open_files(*self.encode(peaks, floats), self.io, self.folder)
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


def open_files(param: str, binary: bytes, io: NetworkIO, folder: Path) -> NcnnModel:
    path = folder / "trial.param"
    path.write_text(param)
    path.with_suffix(".bin").write_bytes(binary)
    return NcnnModel(path, io, "int8", threads=1)


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
            p, q = head_cells(a, head, io), head_cells(b, head, io)
            score, score2 = (cell_scores(m, head.new_coords) for m in (p, q))
            boxes = np.abs(p[:, :4] - q[:, :4]).mean(1)
            apart += float(np.abs(score - score2).sum() + (score.sum(1) * boxes).sum())
            total += float(score.sum())
    return apart / max(total, 1e-12)


def head_cells(raw: Floats, head: HeadIO, io: ModelIO) -> NDArray[np.float64]:
    """Raw head map of one picture -> (A, 5 + C, cells)."""
    return raw.reshape(len(head.anchors), 5 + len(io.classes), -1).astype(np.float64)


def cell_scores(cells: NDArray[Any], probabilities: bool) -> NDArray[Any]:
    """(A, 5 + C, cells) -> objectness x class probability (A, C, cells)."""
    p = cells[:, 4:] if probabilities else 1 / (1 + np.exp(-np.clip(cells[:, 4:], -60, 60)))
    return p[:, :1] * p[:, 1:]
