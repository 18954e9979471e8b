"""Readings as the table of the seed, and as pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from toolkit import viz
from toolkit.device.readings import STAGES, Reading, files_fingerprint
from toolkit.export.folder import Exported
from toolkit.runtime import InputError
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# The seed's NCNN column times forward and post-processing, its MNN column the forward pass alone.
NCNN_COLUMN, MNN_COLUMN = "inference + postprocess", "inference"
CORES = ("all", "little", "big")  # by ncnn's number for it, "powersave"
TITLES = {  # of formats and of a browser's engines in the table of engines, in its order
    "ncnn": "NCNN", "ncnn-fp16": "NCNN fp16", "ncnn-int8": "NCNN int8", "mnn": "MNN", "mnn-fp16": "MNN fp16",
    "mnn-int8": "MNN int8", "litert": "LiteRT", "litert-fp16": "LiteRT fp16", "litert-int8": "LiteRT int8",
    "onnx": "onnxruntime", "onnx-int8": "onnxruntime int8",
    "wasm": "browser, WASM", "webgpu": "browser, WebGPU",
}  # fmt: skip
NOT_A_TIMING = "emulated, not a timing"
TITLE = 48  # characters of a line that has room above the axes
REPLACED = "other files"  # the folder was exported again since


BUSY = 0.2  # part of the time of all cores that other work took before a run: more makes times too long


class Timings(list[tuple[Path, Reading]], Shown):
    """(folder, reading) of every run, as `timing.measure` gives them: what differs is in the table, what all
    have in common in the caption."""

    def caption(self) -> str:
        """Machines and dates, and a warning where other work ran beside."""
        readings = [reading for _, reading in self]
        words = list(dict.fromkeys(reading.machine for reading in readings))
        words += dict.fromkeys(reading.date[:10] for reading in readings)
        busiest = max([_busy(reading) for reading in readings], default=0.0)
        warning = (
            f" WARNING: up to {busiest:.0%} of the cores' time was taken by other work before a run, so "
        )
        warning += "these times are too long: repeat them on a quiet machine."
        return f"Medians in milliseconds. {'; '.join(words)}.{warning if busiest > BUSY else ''}"

    def columns(self) -> dict[str, list[str]]:
        """A row for each reading."""
        readings = [reading for _, reading in self]
        cascade = any(reading.landmarks for reading in readings)
        titles = ["forward + post-processing", "forward", *["landmarks"] * cascade, "p90 of all"]
        cells = [list(_times(reading, cascade).values()) for reading in readings]
        places = [reading.machine for reading in readings]
        return {
            "network": [reading.network for reading in readings],
            **({"device": places} if len(set(places)) > 1 else {}),
            "format": [reading.model.format for reading in readings],
            "threads": [_threads_and_cores(reading) for reading in readings],
            **{title: [row[i] for row in cells] for i, title in enumerate(titles)},
            "detections as here": [parity_text(reading) for reading in readings],
        }


def _busy(reading: Reading) -> float:
    """Part of the cores' time that was taken before the run, 0 where it is not known."""
    state = reading.device.get("before")
    part = state.get("busy") if isinstance(state, dict) else None
    return float(part) if isinstance(part, int | float) else 0.0


def _threads_and_cores(reading: Reading) -> str:
    cores = reading.settings.powersave
    return f"{reading.settings.threads}{f', {CORES[cores]} cores' * bool(cores)}"


@dataclass(frozen=True)
class Summary:
    """Of the timed loops, in milliseconds."""

    min: float
    p50: float
    p90: float
    max: float
    mean: float
    std: float
    first: float
    last: float


def summarise(samples: ArrayLike) -> Summary:
    """Statistics of (N,) milliseconds in the order in which they were measured; `std` of one is 0."""
    x = np.asarray(samples, float)
    p50, p90 = np.percentile(x, [50, 90])
    values = (x.min(), p50, p90, x.max(), x.mean(), x.std(ddof=1) if x.size > 1 else 0.0, x[0], x[-1])
    return Summary(*map(float, values))


def summary(reading: Reading) -> dict[str, Summary]:
    """Statistics of every stage, of `NCNN_COLUMN`, and of all stages together ("total"). Raises InputError
    for an emulated reading, which is not a timing."""
    if reading.emulated:
        raise InputError(f"the reading of {reading.model.name} from {reading.date} is {NOT_A_TIMING}")
    stages = reading.samples.stages
    parts = {
        **stages,
        NCNN_COLUMN: stages["inference"] + stages["postprocess"],
        "total": np.sum(list(stages.values()), axis=0),
    }
    return {name: summarise(samples) for name, samples in parts.items()}


def table(
    readings: Sequence[tuple[str | Path, Reading]], scores: Mapping[str, float] = {}
) -> dict[str, list[str]]:
    """Columns of text, a row for each (folder, reading): the seed's table with both of its conventions.
    `scores`: {network: score}, where known. An emulated reading has no times. Landmarks have a column where
    any reading has them; size and input are of the files that were timed, where these are still there."""
    columns: dict[str, list[str]] = {}
    cascade = any(reading.landmarks for _, reading in readings)
    for folder, reading in readings:
        exported = Exported.read(folder)
        files = exported.files.get(reading.model.format, {})
        hashes = {name: facts.sha256 for name, facts in files.items()}
        present = files_fingerprint(hashes) == files_fingerprint(reading.model.sha256)
        score = scores.get(reading.model.name)
        row = {
            "network": reading.network,
            **({"score": "not measured" if score is None else f"{score:.4g}"} if scores else {}),
            "format": reading.model.format,
            "input": "x".join(map(str, exported.io.input_size)) if present else REPLACED,
            "kB": f"{sum(facts.bytes for facts in files.values()) / 1000:.0f}" if present else REPLACED,
            "device": reading.machine,
            "threads": str(reading.settings.threads),
            "cores": CORES[reading.settings.powersave],
            **_times(reading, cascade),
            "detections as here": parity_text(reading),
            "date": reading.date[:10],
        }
        for name, cell in row.items():
            columns.setdefault(name, []).append(cell)
    return columns


def table_of_engines(
    readings: Sequence[tuple[str | Path, Reading]], scores: Mapping[str, float] = {}
) -> dict[str, list[str]]:
    """Columns of text as in the seed's table: a row for each network on one device with so many threads and
    one set of cores, a column for each engine, in it the median milliseconds of the forward pass alone. The
    latest reading counts; emulated ones have no times, and a browser's are in a column of their own."""
    timed = [entry for entry in readings if not entry[1].emulated]
    engines = list(dict.fromkeys(_engine(reading) for _, reading in timed))
    engines.sort(key=[*TITLES.values(), *engines].index)
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for folder, reading in timed:
        width, height = Exported.read(folder).io.input_size
        score = scores.get(reading.model.name)
        place = (reading.network, f"{width}x{height}", reading.place, _threads_and_cores(reading))
        shown = "not measured" if score is None else f"{score:.4g}"
        row = rows.setdefault(place, dict.fromkeys(engines, "not measured") | {"score": shown})
        row[_engine(reading)] = f"{summary(reading)['inference'].p50:.3g}"
    return {
        **{
            title: [place[i] for place in rows]
            for i, title in enumerate(("network", "input", "device", "threads"))
        },
        "score": [row["score"] for row in rows.values()],
        **{f"{name}, ms": [row[name] for row in rows.values()] for name in engines},
    }


def _engine(reading: Reading) -> str:
    settings = reading.settings
    name = settings.backend if settings.run_as == "browser" else reading.model.format
    return f"{TITLES.get(name, name)}{', Vulkan' * settings.vulkan}"


def sentence(reading: Reading) -> str:
    """A reading in one line."""
    total = (
        "emulated, not a timing" if reading.emulated else f"{summary(reading)['total'].p50:.2f} ms a picture"
    )
    return f"{reading.network}, {_threads(reading)}, {reading.machine}: {total}; {parity_text(reading)}"


def record(folder: str | Path, reading: Reading) -> dict[str, Any]:
    """A reading for machines: statistics in milliseconds instead of samples, None where it is emulated."""
    times = None if reading.emulated else {name: asdict(s) for name, s in summary(reading).items()}
    fields = ("model", "landmarks", "settings", "device", "date", "emulated", "parity")
    kept = {key: value for key, value in reading.as_dict().items() if key in fields}
    return {"folder": str(folder), **kept, "milliseconds": times}


def _times(reading: Reading, cascade: bool) -> dict[str, str]:
    shown = {
        "forward + post-processing, ms": (NCNN_COLUMN, "p50"),
        "forward, ms": (MNN_COLUMN, "p50"),
        **({"landmarks, ms": ("landmarks", "p50")} if cascade else {}),
        "p90 of all, ms": ("total", "p90"),
    }
    if reading.emulated:
        return dict.fromkeys(shown, NOT_A_TIMING)
    figures = summary(reading)
    return {
        title: f"{getattr(figures[stage], statistic):.3g}" if stage in figures else "none"
        for title, (stage, statistic) in shown.items()
    }


def parity_text(reading: Reading) -> str:
    """Matched detections, how far off they are and whether they agree, in words."""
    p = reading.parity
    if not p:
        return "not compared"
    if not p["wanted"] and not p["found"]:
        return "nothing to compare"
    text = f"{p['matched']} of {p['wanted']}, score {p['score']:.1g} off"
    if "points" in p:
        text += f", points {p['points']:.1g} of a face"
    return text if p["agrees"] else f"DISAGREES: {text}, {p['found']} found"


def _threads(reading: Reading) -> str:
    count = reading.settings.threads
    return f"{count} thread{'s' * (count > 1)}"


def _label(reading: Reading, machines: Sequence[str], differ: bool) -> str:
    cores = reading.settings.powersave
    words = [f"{reading.network} {reading.model.format}"]
    words += [f"{CORES[cores]} cores"] * bool(cores) + ["Vulkan"] * reading.settings.vulkan
    words += [_threads(reading)] * differ
    number = f" ({machines.index(reading.machine) + 1})" if len(machines) > 1 else ""
    return ", ".join(words) + number


def _shown(readings: Sequence[Reading]) -> tuple[dict[str, Reading], str]:
    """The latest timing by its label, and a title: the machines, numbered as in the labels where there are
    several, and the threads where all have as many. Raises InputError where there is none."""
    timed = [reading for reading in readings if not reading.emulated]
    if not timed:
        raise InputError("there is no timing to draw: readings from an emulated processor are none")
    machines = list(dict.fromkeys(reading.machine for reading in timed))
    threads = list(dict.fromkeys(map(_threads, timed)))
    numbers = [f"({i + 1}) " if len(machines) > 1 else "" for i in range(len(machines))]
    lines = [*map("".join, zip(numbers, machines, strict=True)), *(threads if len(threads) == 1 else ())]
    title = "\n".join(textwrap.fill(line, TITLE) for line in lines)
    return {_label(reading, machines, len(threads) > 1): reading for reading in timed}, title


def draw_stages(readings: Sequence[Reading]) -> Figure:
    """Median milliseconds of each stage, stacked, for every setting."""
    shown, machines = _shown(readings)
    stages = {label: summary(reading) for label, reading in shown.items()}
    parts = {
        stage: [figures[stage].p50 if stage in figures else 0.0 for figures in stages.values()]
        for stage in STAGES
        if any(stage in figures for figures in stages.values())
    }
    return viz.stacked(list(shown), parts, "milliseconds, medians", machines)


def draw_accuracy(readings: Sequence[Reading], scores: Mapping[str, float], name: str = "score") -> Figure:
    """Forward and post-processing against the score, for networks in `scores` {network: score}. Raises
    InputError where none was timed."""
    shown, machines = _shown(readings)
    points = {
        label: (summary(r)[NCNN_COLUMN].p50, scores[r.model.name])
        for label, r in shown.items()
        if r.model.name in scores
    }
    if not points:
        raise InputError("none of the timed networks has a score: give one as NETWORK=SCORE")
    return viz.pareto(points, "forward + post-processing, ms", name, machines)


def draw_warming(readings: Sequence[Reading], points: int = 60) -> Figure:
    """All stages together over the seconds of each run: medians of up to `points` parts, with bands from the
    10th to the 90th percentile."""
    shown, machines = _shown(readings)
    lines, bands = {}, {}
    for label, reading in shown.items():
        total = np.sum(list(reading.samples.stages.values()), axis=0)
        parts = np.array_split(np.arange(len(total)), min(points, len(total)))
        seconds = [np.mean(np.array(reading.samples.start_ms)[part]) / 1000 for part in parts]
        low, middle, high = np.array([np.percentile(total[part], [10, 50, 90]) for part in parts]).T
        lines[label], bands[label] = (seconds, middle), (low, high)
    return viz.curves(lines, "seconds", "milliseconds for one picture", machines, bands)
