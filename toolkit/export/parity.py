"""Where two backends of one network part: layer by layer where both show layers, else by outputs."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.arrays import read_arrays
from toolkit.boxes import iou, match_greedily
from toolkit.inference.backend import DetectSettings
from toolkit.models.decode import Boxes
from toolkit.models.detector import Detector
from toolkit.models.io import NetworkIO
from toolkit.models.network import Network, ShowsLayers, TorchNetwork, finds_objects
from toolkit.moved import at_old_place
from toolkit.runtime import InputError
from toolkit.text import json_number

NOISE = 4
# One row of a darknet layers.csv: what it says of a layer's output.
STATISTICS = ("mean", "absmean", "min", "max", "v0", "v1", "v2", "v3")


@dataclass(frozen=True)
class Row:
    """One compared layer or output. `difference`: largest absolute one; `largest`: largest absolute value of
    the first backend."""

    name: str
    difference: float
    largest: float

    @property
    def relative(self) -> float:
        return self.difference / max(1.0, self.largest)


@dataclass(frozen=True)
class Parity:
    """`layers` may be empty where a backend shows none; `outputs` never is."""

    first: str
    second: str
    layers: tuple[Row, ...]
    outputs: tuple[Row, ...]

    @property
    def relative(self) -> float:
        """The worst output; NaN where there is one."""
        return float(np.max([row.relative for row in self.outputs]))

    def first_divergence(self, tolerance: float) -> str | None:
        """Name of the first layer (or output) whose relative difference exceeds `tolerance`."""
        return next((r.name for r in (*self.layers, *self.outputs) if not r.relative <= tolerance), None)

    def as_dict(self) -> dict[str, Any]:
        def rows(part: Sequence[Row]) -> list[dict[str, Any]]:
            return [
                {
                    "name": r.name,
                    "difference": json_number(r.difference),
                    "largest": json_number(r.largest),
                    "relative": json_number(r.relative),
                }
                for r in part
            ]

        return {
            "first": self.first,
            "second": self.second,
            "relative": json_number(self.relative),
            "outputs": rows(self.outputs),
            "layers": rows(self.layers),
        }


class DarknetReference:
    """darknet's own outputs for one input, from a .npz with `input` and `logits_<layer>`; `<net>.layers.csv`
    next to `<net>.raw.npz` adds statistics per layer."""

    def __init__(self, path: str | Path):
        path = Path(path)
        arrays = read_arrays(path)
        layers = {int(k.removeprefix("logits_")): k for k in arrays if re.fullmatch(r"logits_\d{1,9}", k)}
        maps = [arrays[layers[i]] for i in sorted(layers)]
        picture = arrays.get("input", np.zeros(0))
        numbers = all(each.dtype.kind == "f" for each in (picture, *maps))
        shaped = picture.ndim in (3, 4) and picture.size and all(each.ndim == 3 for each in maps)
        if not maps or not numbers or not shaped:
            raise InputError(f"{path} is not a darknet reference: expected arrays input and logits_<layer>")
        self.x = picture.reshape(1, -1, *picture.shape[-2:]).astype(np.float32)
        # (A * (5 + C), h, w); coarsest first
        self.maps = sorted((each[None] for each in maps), key=lambda m: m.shape[-1])
        csv = path.with_name(path.name.replace(".raw.npz", ".layers.csv"))
        self.statistics: list[NDArray[np.float64]] = []
        if csv != path and csv.is_file():
            table = np.genfromtxt(csv, delimiter=",", names=True, dtype=None, encoding="utf-8")
            convolutions = table[table["type"] == 0]
            self.statistics = [np.array([row[name] for name in STATISTICS]) for row in convolutions]

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if x.shape != self.x.shape or not np.array_equal(x, self.x):
            raise InputError("a darknet reference has outputs for its own input alone")
        return self.maps


def statistics(feature: NDArray[np.floating]) -> NDArray[np.float64]:
    """(C, H, W) -> the numbers of `STATISTICS`; v0 to v3 are values at fixed places, here the first four."""
    flat = feature.reshape(-1).astype(np.float64)
    return np.array([flat.mean(), np.abs(flat).mean(), flat.min(), flat.max(), *flat[:4]])


def _rows(names: Sequence[str], a: Sequence[NDArray[Any]], b: Sequence[NDArray[Any]]) -> tuple[Row, ...]:
    rows = []
    for name, p, q in zip(names, a, b, strict=True):
        if p.shape != q.shape:
            raise InputError(
                f"{name} has the shape {p.shape} on one side and {q.shape} on the other: two networks"
            )
        # NaN on either side must show as a difference, not vanish in a maximum
        difference = np.abs(p.astype(np.float64) - q.astype(np.float64))
        rows.append(Row(name, float(np.max(difference)), float(np.abs(p).max())))
    return tuple(rows)


def layer_parity(
    first: Network | DarknetReference,
    second: Network | DarknetReference,
    x: NDArray[np.float32] | None = None,
    names: tuple[str, str] = ("first", "second"),
) -> Parity:
    """Runs two networks on one input and compares them, layer by layer where both show layers.

    Args:
        first, second: networks on any engine, or darknet's own outputs.
        x: (1, 3, H, W) float32; a darknet reference has its own input.
        names: for the report.

    Returns:
        Differences of outputs and layers.

    Raises:
        InputError: there is no input, the networks differ in shape, or one gives detections instead of maps.
    """
    for side in (first, second):
        if isinstance(side, DarknetReference):
            x = side.x
    if x is None:
        raise InputError("parity needs an input: give x, or a darknet reference, which has its own")
    a, b = first.predict(x), second.predict(x)
    if len(a) != len(b):
        raise InputError(f"{names[0]} has {len(a)} outputs and {names[1]} {len(b)}: they are two networks")
    outputs = _rows([f"output {i}" for i in range(len(a))], a, b)

    labels: list[str] = []
    features: list[list[NDArray[Any]] | None] = []
    for side in (first, second):
        if isinstance(side, TorchNetwork):
            named = side.named_layers(x)
            labels = list(named)
            features.append(list(named.values()))
        else:
            features.append(side.layer_outputs(x) if isinstance(side, ShowsLayers) else None)
    references = [side.statistics if isinstance(side, DarknetReference) else [] for side in (first, second)]
    if any(references):
        stored = references[0] or references[1]
        features = [
            list(stored) if ref else ([statistics(f[0]) for f in maps] if maps is not None else None)
            for ref, maps in zip(references, features, strict=True)
        ]
    layers: tuple[Row, ...] = ()
    left, right = features
    if left is not None and right is not None and len(left) == len(right):
        layers = _rows(labels or [f"convolution {i}" for i in range(len(left))], left, right)
    return Parity(*names, layers, outputs)


def matched(reference: Boxes, detections: Boxes, overlap: float = 0.5) -> int:
    """How many detections of `reference` are among `detections`: same class and IoU above `overlap`, each
    taken once, by falling score."""
    count = 0
    for class_id in np.intersect1d(reference.class_ids, detections.class_ids):
        rows, columns = reference.class_ids == class_id, detections.class_ids == class_id
        pairs = match_greedily(iou(reference.boxes[rows], detections.boxes[columns]), overlap)
        count += int((pairs >= 0).sum())
    return count


@dataclass(frozen=True)
class Comparison:
    """A format compared with torch: what parity.json keeps, and what falls short ("" for nothing)."""

    facts: dict[str, Any]
    fault: str = ""


def map_parity(
    model: TorchNetwork, opened: Network, x: NDArray[np.float32], tolerance: float | None
) -> Comparison:
    """Raw outputs on one input. Besides `tolerance`, what passes is `NOISE` times torch's own distance from
    float64: random weights can turn rounding into 1e-3, trained ones stay near 2e-6."""
    reference = model.predict(x)
    noise, _ = output_difference(copy.deepcopy(model).double().predict(x), reference)
    difference, reach = output_difference(reference, opened.predict(x))
    limit = None if tolerance is None else max(tolerance * max(1.0, reach), NOISE * noise)
    facts = {
        "max_difference": json_number(difference),
        "largest_output": json_number(reach),
        "relative_difference": json_number(difference / max(1.0, reach)),
        "float32_noise": json_number(noise),
        "tolerance": None if limit is None else json_number(limit),
    }
    if limit is None or difference <= limit:
        return Comparison(facts)
    return Comparison(facts, f"differs from torch by {difference:.2g}, not at most {limit:.2g}")


def detection_parity(
    model: TorchNetwork, opened: Network, x: NDArray[np.float32], tolerance: float | None
) -> Comparison:
    """torch's detections, from its 300 best candidates, and how many of them a file with decoding and
    suppression inside finds."""
    assert isinstance(model, Detector)
    (candidates,) = model.decode(model.predict(x), 0.0)
    best = np.sort(candidates.scores)[::-1]
    settings = DetectSettings(conf=float(best[: 300 + 1][-1])) if len(best) else DetectSettings()
    (reference,) = model.find(x, settings)
    assert finds_objects(opened)
    (detections,) = opened.find(x, settings)
    pairs = matched(reference, detections)
    extra = len(detections.scores) - pairs
    facts = {"detections": len(reference.scores), "matched": pairs, "extra": extra}
    if pairs >= 0.98 * max(len(reference.scores), len(detections.scores)):
        return Comparison(facts)
    return Comparison(
        facts, f"finds {pairs} of torch's {len(reference.scores)} detections and {extra} others"
    )


def picture(parity: Parity, tolerance: float) -> Any:
    """Relative difference over the layers and outputs, on a logarithmic axis, with the tolerance."""
    from toolkit import viz

    rows = (*parity.layers, *parity.outputs)
    x = np.arange(len(rows))
    y = np.array([max(row.relative, 1e-12) for row in rows])
    return viz.curves(
        {
            "relative difference": (x, y),
            "tolerance": (x, np.full(len(rows), tolerance)),
        },
        xlabel=f"layer in running order; the last {len(parity.outputs)} are the outputs",
        ylabel="difference / largest value",
        title=f"{parity.first} against {parity.second}",
        log="y",
    )


def probe_input(io: NetworkIO) -> np.ndarray:
    """(1, 3, H, W): a photograph at the network's size, the same for every comparison."""
    from skimage.data import astronaut

    from toolkit.inference.preprocess import preprocess

    return preprocess(astronaut(), io)[0][None]


def output_difference(reference: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> tuple[float, float]:
    """Largest absolute difference over all maps, and the largest absolute value wanted."""
    differences = [np.abs(a - b).max() for a, b in zip(reference, outputs, strict=True)]
    # numpy's maximum: a NaN in any map must come out
    return float(np.max(differences)), float(np.max([np.abs(a).max() for a in reference]))


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
