"""All formats of one exported network side by side: outputs, detections, score, size and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from toolkit import viz
from toolkit.bootstrap import Interval
from toolkit.evaluation.paired import Figures
from toolkit.export.folder import Exported
from toolkit.export.parity import detection_parity, matched, output_difference, probe_input
from toolkit.export.parity import layer_parity as compare_layers
from toolkit.export.registry import FORMATS
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.models.detector import Detector
from toolkit.models.network import Detecting, finds_objects
from toolkit.pictures import Image
from toolkit.runtime import InputError, announced, progress
from toolkit.stopwatch import interleave, paired_ratio
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Largest difference to torch by the largest output, and the part of torch's detections that may get lost: of
# very many, one is so near a threshold that rounding decides.
LIMITS = {"fp32": (1e-4, 0.005), "fp16": (0.05, 0.05), "int8": (float("inf"), 0.25)}
# That the score of an int8 file may fall: with its whole interval beyond it, the rung falls short.
POINTS = 1.0
SAME_TIME = 0.03  # of a ratio of times: nearer to 1 is no faster


@dataclass(frozen=True)
class Rung:
    """One format compared with torch.

    Attributes:
        difference, relative: of the raw maps on one photograph, and divided by the largest output; None where
            the maps stay inside the file.
        wanted: detections of torch over all pictures.
        matched: those found here too (same class, IoU above .5).
        extra: detections of this format alone.
        latency_ms: median of one picture's network, with decoding and suppression for an end-to-end file.
        changes: figure -> points above torch's (below 0: worse), with 95 % interval, where they were scored.
        speed: time by that of the same engine's float32 file, in paired rounds; None for float32.
        instructions: that the timing runner executes on arm64 for the network, where they were counted
            (`device.instructions`).
        fault: what falls short, and for a float file the first layer that shows it (MNN and OpenVINO show
            outputs alone).
    """

    name: str
    kilobytes: float | None
    difference: float | None
    relative: float | None
    wanted: int
    matched: int
    extra: int
    scores: Mapping[str, float]
    latency_ms: float
    fault: str = ""
    instructions: int | None = None
    changes: Mapping[str, Interval] = field(default_factory=dict)
    speed: Interval | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def change(self) -> str:
        """The figure that changed most, in words; "" where none was scored."""
        if not self.changes:
            return ""
        name = max(self.changes, key=lambda name: abs(self.changes[name].value))
        return f"{name} {_points(self.changes[name])}"

    def doubt(self) -> str:
        """Words for a score that fell by more than `POINTS`, where chance may have made it; "" for none."""
        fell = {name: change for name, change in self.changes.items() if change.value < -POINTS}
        if self.fault or not fell:
            return ""
        name = min(fell, key=lambda name: fell[name].value)
        return f"perhaps: {name} {_points(fell[name])}, more pictures would tell"


def _points(change: Interval) -> str:
    value, low, high = (round(each, 1) + 0.0 for each in (change.value, change.low, change.high))  # no -0.0
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


class Ladder(list[Rung], Shown):
    """The rungs, torch's first."""

    def caption(self) -> str:
        """As `verdict`."""
        return verdict(self)

    def columns(self) -> dict[str, list[str]]:
        """As `table`."""
        return table(self)

    def strong(self) -> str:
        return "torch"

    def figure(self) -> Figure | None:
        """Difference, size, time, and where it was scored the figure that changes most, side by side; None
        of torch alone."""
        formats = [rung for rung in self if rung.name != "torch"]
        if not formats:
            return None
        columns: dict[str, list[float]] = {
            "difference / largest output": [rung.relative or math.nan for rung in formats],
            "kB": [rung.kilobytes or math.nan for rung in formats],
            "ms here": [rung.latency_ms for rung in formats],
        }
        changes = [rung.changes for rung in formats if rung.changes]
        spans: dict[str, tuple[list[float], list[float]]] = {}
        if changes:
            name = max(changes[0], key=lambda name: max(abs(change[name].value) for change in changes))
            title, none = f"{name}, points from torch", Interval(math.nan, math.nan, math.nan)
            scored = [rung.changes.get(name, none) for rung in formats]
            columns[title] = [change.value for change in scored]
            spans[title] = [change.low for change in scored], [change.high for change in scored]
        names, kinds = [rung.name for rung in formats], [FORMATS[rung.name].precision for rung in formats]
        return viz.panels(names, columns, spans, kinds, ["difference / largest output"])


def ladder(
    model: Detector,
    folder: str | Path,
    pictures: Sequence[Image | str | Path],
    score: Callable[..., Mapping[str, float]] | None = None,
    rungs: Sequence[str] = (),
    threads: int = 1,
    rounds: int = 30,
    show: Callable[[Ladder], object] = lambda rungs: None,
) -> Ladder:
    """torch and the formats of an exported folder side by side.

    Args:
        model: the network that was exported.
        folder: what `export_model` wrote.
        pictures: what detections are compared on.
        score: (network, size=(w, h)) -> figures, such as `evaluation.score.evaluate` with a data set, whose
            figures have intervals too: by these int8 is judged, and by detections where there are none.
        rungs: formats, "openvino" among them; all in the folder unless given.
        threads: of every engine, for the timing.
        rounds: of timing, in turns.
        show: called with the rungs so far after each one.

    Returns:
        A rung for torch and one for each format.

    Raises:
        InputError: the folder holds another network, or lacks a format.
    """
    exported = Exported.read(folder)
    io = exported.io
    if replace(model.io, input_size=io.input_size) != io:
        raise InputError(f"{folder} holds another network than the one it is compared with")
    networks = {name: exported.open(name, threads) for name in rungs or exported.formats}
    backends = {name: network for name, network in networks.items() if finds_objects(network)}
    settings = DetectSettings(size=io.input_size)
    x = probe_input(io)
    maps = model.predict(x)
    references = list(run(model, pictures, settings))
    calls: dict[str, Callable[[], Any]] = {"torch": partial(model.predict, x)}
    calls |= {name: partial(_call(name, backend), x) for name, backend in backends.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with announced("timing the formats in turn"):
            times = interleave(calls, rounds=rounds)
    finally:
        torch.set_num_threads(before)
    total = sum(len(boxes.scores) for boxes in references)
    of_torch: Mapping[str, float] = score(model, size=io.input_size) if score else {}
    results = Ladder()
    results.append(
        Rung("torch", None, 0.0, 0.0, total, total, 0, dict(of_torch), float(np.median(times["torch"])))
    )
    show(results)
    for name, backend in progress(list(backends.items()), "rungs"):
        difference = relative = None
        if _shows_maps(name):
            difference, reach = output_difference(maps, backend.predict(x))
            relative = difference / max(1.0, reach)
        here = list(run(backend, pictures, settings))
        pairs = sum(matched(a, b) for a, b in zip(references, here, strict=True))
        scores: Mapping[str, float] = score(backend, size=io.input_size) if score else {}
        changes = _changes(scores, of_torch)
        base = _float_format(name, backends)
        results.append(
            Rung(
                name,
                exported.bytes(name) / 1000,
                difference,
                relative,
                total,
                pairs,
                sum(len(boxes.scores) for boxes in here) - pairs,
                dict(scores),
                float(np.median(times[name])),
                _fault(name, exported, model, backend, x, relative, total, pairs, changes),
                changes=changes,
                speed=paired_ratio(times[name], times[base]) if base else None,
            )
        )
        show(results)
    return results


def _changes(scores: Mapping[str, float], of_torch: Mapping[str, float]) -> dict[str, Interval]:
    if isinstance(scores, Figures) and isinstance(of_torch, Figures):
        return scores.minus(of_torch)
    return {}


def _float_format(name: str, formats: Collection[str]) -> str:
    """The float32 format of the same engine, which one of lower precision is compared with; "" for none."""
    row = FORMATS[name]
    same = (
        other
        for other in formats
        if (FORMATS[other].engine, FORMATS[other].precision) == (row.engine, "fp32")
    )
    return next(same, "") if row.precision != "fp32" else ""


def _shows_maps(name: str) -> bool:
    return FORMATS[name].compare is not detection_parity


def _call(name: str, backend: Detecting) -> Callable[[Any], Any]:
    return backend.predict if _shows_maps(name) else partial(backend.find, settings=DetectSettings())


def _fault(
    name: str,
    exported: Exported,
    model: Detector,
    backend: Detecting,
    x: Any,
    relative: float | None,
    total: int,
    pairs: int,
    changes: Mapping[str, Interval],
) -> str:
    """What falls short of `LIMITS`, or of `POINTS` where int8 was scored, and the layer to look at."""
    limit, part = LIMITS[FORMATS[name].precision]
    faults = []
    if FORMATS[name].precision == "int8" and changes:  # a detection lost near the threshold is no loss
        part = float("inf")
        faults = [
            f"{figure} {_points(change)}" for figure, change in changes.items() if change.high < -POINTS
        ]
    if relative is not None and not relative <= limit:
        faults.append(f"outputs differ by {relative:.1g} of the largest, not {limit:g}")
    if total - pairs > part * total:
        faults.append(f"{total - pairs} of {total} detections are lost")
    if faults and name == "ncnn-int8":  # its channels are scaled anew, so that layers do not compare
        facts = exported.parity().get(name, {})
        rows = [
            row for row in facts.get("sensitivity", ()) if row["name"] not in facts.get("float_layers", ())
        ]
        if rows:
            worst = max(rows, key=lambda row: row["error"])
            faults.append(f"{worst['name']} tolerates int8 worst of the layers that are not float")
    elif faults and FORMATS[name].precision != "int8" and relative is not None:
        layer = compare_layers(model, backend, x).first_divergence(limit)
        faults += [f"first at {layer}"] if layer else []
    return ", ".join(faults)


def table(rungs: Sequence[Rung]) -> dict[str, list[str]]:
    """Columns {title: cells}; a cell that does not exist is empty."""
    columns: dict[str, list[str]] = {
        "rung": [rung.name for rung in rungs],
        "kB": ["" if r.kilobytes is None else f"{r.kilobytes:.1f}" for r in rungs],
        "difference / largest output": ["" if r.relative is None else f"{r.relative:.2g}" for r in rungs],
        "detections found, lost, more": [f"{r.matched}, {r.wanted - r.matched}, {r.extra}" for r in rungs],
        "ms": [f"{r.latency_ms:.2f}" for r in rungs],
    }
    if any(rung.instructions for rung in rungs):
        columns["instructions on arm64"] = [f"{r.instructions:,}" if r.instructions else "" for r in rungs]
    for name in rungs[0].scores:
        columns[name] = [f"{r.scores[name]:.4f}" for r in rungs]
    if any(rung.changes for rung in rungs):
        columns["largest change [95 %]"] = [r.change() for r in rungs]
    return {**columns, "falls short": [r.fault or r.doubt() for r in rungs]}


def verdict(rungs: Sequence[Rung]) -> str:
    """What the ladder comes to: the smallest file of lower precision that does not fall short, next to the
    float32 file of its engine, and the rungs that do."""
    by_name = {rung.name: rung for rung in rungs}
    pairs = [
        (r, by_name[base])
        for r in rungs[1:]
        if not (r.fault or r.doubt()) and (base := _float_format(r.name, list(by_name)[1:]))
    ]
    if len(rungs) < 2:
        return ""
    sentences = []
    if pairs:
        small, whole = min(pairs, key=lambda pair: pair[0].kilobytes or 0.0)
        parts = [f"{(small.kilobytes or 0.0) / (whole.kilobytes or 1.0):.0%} of the size of {whole.name}"]
        parts += [small.change() or f"{small.matched} of torch's {small.wanted} detections"]
        sentences.append(f"{small.name}: {', '.join([*parts, *_speed(small.speed)])}.")
        if any(change.low < -POINTS for change in small.changes.values()):
            sentences.append("It takes more pictures to exclude a loss of over one point.")
    worse = [rung.name for rung in rungs if rung.fault]
    counts = f"{len(worse)} of {len(rungs) - 1} formats"
    sentences.append(f"{counts} fall short: {', '.join(worse)}." if worse else "No format falls short.")
    unsure = [rung.name for rung in rungs if rung.doubt()]
    if unsure:
        sentences.append(f"More pictures would tell whether these do: {', '.join(unsure)}.")
    return " ".join(sentences)


def _speed(ratio: Interval | None) -> list[str]:
    if ratio is None:
        return []
    if ratio.high < 1 - SAME_TIME:
        return [f"{ratio.value:.2f} of the time on this machine"]
    return ["slower on this machine" if ratio.low > 1 + SAME_TIME else "no faster on this machine"]


def picture(rungs: Sequence[Rung], title: str = "") -> Figure:
    """Relative difference to torch of every rung, on a logarithmic axis, coloured by precision."""
    compared = [rung for rung in rungs if rung.relative is not None and rung.name != "torch"]
    return viz.dots(
        [rung.name for rung in compared],
        [rung.relative or 0.0 for rung in compared],
        [FORMATS[rung.name].precision for rung in compared],
        xlabel="largest difference to torch / largest output",
        title=title,
    )
