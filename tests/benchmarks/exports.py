"""What the formats keep of a network's score, what they weigh, and how fast each engine is.

python -m tests.benchmarks.exports scores|files|engines|layers|stages      (10 minutes; 10; 5; 1; 1)
"""

import json
import os
import signal
import sys
import time
from functools import partial
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.record import ratio, run_part, spread
from tests.benchmarks.training import wider_split
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.evaluation.score import evaluate
from toolkit.export import ncnn
from toolkit.export.folder import Exported, open_export
from toolkit.export.int8 import pictures, ranges
from toolkit.export.openvino import load_openvino
from toolkit.export.parity import probe_input
from toolkit.export.registry import FORMATS, written_formats
from toolkit.export.write import export_model
from toolkit.models import create_model, list_models
from toolkit.models.detector import Detector
from toolkit.models.ncnn_file import read_model
from toolkit.models.published import can_fetch
from toolkit.samples import untrained
from toolkit.stopwatch import interleave

PICTURES = 200
ENGINES = (
    *("ncnn", "ncnn-fp16", "ncnn-int8", "mnn", "litert", "litert-int8", "onnx", "openvino", "caffe", "torch"),
)


def network(name: str) -> Detector:
    published = can_fetch(f"{name}/{name}.weights")
    return create_model(name, "published") if published else untrained(name)


def split(name: str) -> tuple[Dataset, Dataset]:
    """Pictures to calibrate and to score on: those of our split for faces, else the VOC subset's."""
    if "face" in name:
        return wider_split()
    everything = load("voc2012_sub1200")
    return everything.split("train"), everything.split("test")


def exported(name: str, work: Path) -> tuple[Detector, Path, float]:
    """A network in all formats, calibrated on `PICTURES` of its training pictures, and the seconds it took
    (0 where an earlier call left it)."""
    model, folder = network(name), work / f"export-{name}"
    if (folder / "spec.json").exists():
        return model, folder, 0.0
    training, _ = split(name)
    chosen = np.linspace(0, len(training) - 1, PICTURES).round().astype(int)
    begin = time.perf_counter()
    paths = [training.path(int(i)) for i in chosen]
    export_model(model, folder, written_formats(), calibration=paths, accept_loss=True)
    return model, folder, time.perf_counter() - begin


def bytes_of(folder: Path) -> dict[str, int]:
    exported = Exported.read(folder)
    return {fmt: exported.bytes(fmt) for fmt in exported.formats}


def scores(work: Path) -> dict[str, Any]:
    """Every rung scored on the test split, with the default settings of export."""
    return {name: scored(name, work) for name in ("yoloface-500k-v2", "fastest-v2", "nano-voc")}


def scored(name: str, work: Path) -> dict[str, Any]:
    """The score of a network in every format."""
    model, folder, _ = exported(name, work)
    _, test = split(name)
    metric = "widerface" if "face" in name else "darknet"
    rungs = {"torch": model, **{fmt: open_export(folder, fmt) for fmt in FORMATS}}
    figures: dict[str, Any] = {
        "metric": metric,
        "pictures": len(test),
        "kept float": parity_of(folder)["ncnn-int8"]["float_layers"],
    }
    for rung, backend in rungs.items():
        found = evaluate(backend, test, metric, "widerface_val")
        figures[rung] = {key: round(value, 4) for key, value in found.items()}
        print(name, rung, figures[rung], file=sys.stderr)
    return figures


def parity_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "parity.json").read_text())


def files(work: Path) -> dict[str, Any]:
    """All twelve networks in all formats: kilobytes, difference to torch, seconds for everything."""
    figures = {}
    for name in list_models("detection"):
        _, folder, seconds = exported(name, work)
        sizes = bytes_of(folder)
        figures[name] = {
            "seconds": round(seconds, 1) if seconds else None,
            "bytes": sizes,
            "ncnn int8 by fp32": round(sizes["ncnn-int8"] / sizes["ncnn"], 3),
            "relative difference": {
                fmt: float(f"{row['relative_difference']:.2g}")
                for fmt, row in parity_of(folder).items()
                if "relative_difference" in row
            },
        }
        print(name, figures[name], file=sys.stderr)
    return figures


def serve(name: str, folder: Path, engine: str, threads: int, pipe: Connection) -> None:
    """An engine in a process of its own: for each number received, as many timings."""
    torch.set_num_threads(threads)
    backend = network(name) if engine == "torch" else open_export(folder, engine, threads)
    x = probe_input(backend.io)
    while True:
        rounds = pipe.recv()
        for _ in range(5):
            backend.predict(x)
        times = []
        for _ in range(rounds):
            begin = time.perf_counter()
            backend.predict(x)
            times.append(1e3 * (time.perf_counter() - begin))
        pipe.send(times)


def engines(work: Path) -> dict[str, Any]:
    """Milliseconds of one picture's raw maps, and how many times as long as with ncnn. Each engine has a
    process, of which one runs at a time and all others are stopped: idle thread pools spin."""
    figures: dict[str, Any] = {}
    context = get_context("spawn")
    for name, threads in product(("yoloface-500k-v2", "fastest-v2", "nano-voc"), (1, 2)):
        _, folder, _ = exported(name, work)
        workers = {}
        for engine in ENGINES:
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(name, folder, engine, threads, there), daemon=True)
            process.start()
            here.send(1)
            here.recv()
            os.kill(process.pid or 0, signal.SIGSTOP)
            workers[engine] = process, here
        times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for turn in range(8):
            for engine in np.random.default_rng(turn).permutation(ENGINES):
                process, here = workers[engine]
                os.kill(process.pid or 0, signal.SIGCONT)
                here.send(25)
                times[engine] += here.recv()
                os.kill(process.pid or 0, signal.SIGSTOP)
        for process, _ in workers.values():
            process.kill()
        base = np.array(times["ncnn"])
        figures[f"{name}, {threads} threads"] = {
            engine: {**spread(np.array(row)), "by ncnn": ratio(np.array(row), base)}
            for engine, row in times.items()
        }
        print(
            name, threads, {e: round(float(np.median(row)), 2) for e, row in times.items()}, file=sys.stderr
        )
    return figures


def layers(work: Path) -> dict[str, Any]:
    """Each convolution alone, from float to float: milliseconds in float32 and in int8, one thread, also of
    those that `quantize` leaves float."""
    model, folder, _ = exported("yoloface-500k-v2", work)
    x = probe_input(model.io)[0]
    float32 = open_export(folder, "ncnn", threads=1)
    everything = work / "int8-everything"
    if not everything.exists():
        training, _ = split("yoloface-500k-v2")
        chosen = [training.path(i) for i in range(0, len(training), len(training) // pictures.MINIMUM)]
        export_model(
            model,
            everything,
            ["ncnn", "ncnn-int8"],
            calibration=chosen,
            method="minmax",
            float_layers=(),
            accept_loss=True,
        )
    quantised = open_export(everything, "ncnn-int8", threads=1)
    figures: dict[str, Any] = {}
    rows = read_model(folder / "model-fp32.param", folder / "model-fp32.bin")
    for layer in rows:
        if layer.weight is None:
            continue
        given = {ncnn.INPUT: x}
        if layer.inputs[0] != ncnn.INPUT:
            given = {layer.inputs[0]: float32.extract(x, [layer.inputs[0]], light=False)[0]}
        calls = {
            kind: partial(ranges.extract, engine, given, layer.outputs)
            for kind, engine in (("fp32", float32), ("int8", quantised))
        }
        times = interleave(calls, rounds=30, warmup=2)
        figures[layer.name] = {kind: round(float(np.median(row)), 4) for kind, row in times.items()}
    return {"milliseconds": figures}


def stages(work: Path) -> dict[str, Any]:
    """Where ncnn and OpenVINO spend nano-voc's milliseconds, by the height of the maps that layers give.

    ncnn: the time to the last map of a height less the time to the last of the height before (the fastest
    fifth of the runs), for it has no clock of its own. OpenVINO: its profile of layers.
    """
    _, folder, _ = exported("nano-voc", work)
    figures: dict[str, Any] = {}
    for threads in (1, 2):
        engine = open_export(folder, "ncnn", threads)
        x = probe_input(engine.io)
        rows = read_model(folder / "model-fp32.param", folder / "model-fp32.bin")
        blobs = [layer.outputs[0] for layer in rows if layer.weight is not None]
        heights = [blob.shape[1] for blob in engine.extract(x[0], blobs, light=False)]
        # what the heads come back to is in "rest"
        falling = [i for i in range(1, len(blobs)) if heights[i] < heights[i - 1] not in heights[i:]]
        ends = {"first layer": 0, **{str(heights[i - 1]): i - 1 for i in falling}}

        targets = {key: [blobs[i]] for key, i in ends.items()} | {"rest": engine.outputs}
        calls = {key: partial(run_to, engine, x[0], names) for key, names in targets.items()}
        times = interleave(calls, rounds=100, warmup=2)
        reached = {key: float(np.quantile(row, 0.2)) for key, row in times.items()}
        before = [0.0, *list(reached.values())[:-1]]
        figures[f"ncnn, {threads} threads"] = {
            key: round(value - start, 3) for (key, value), start in zip(reached.items(), before, strict=True)
        }
        figures[f"openvino, {threads} threads"] = profile(folder / "model.onnx", x, threads, list(ends))
        print(threads, figures, file=sys.stderr)
    return figures


def run_to(engine: ncnn.NcnnModel, chw: Any, names: list[str]) -> None:
    extractor = engine.net.create_extractor()
    chw = np.ascontiguousarray(chw)
    extractor.input(ncnn.INPUT, engine.ncnn.Mat(chw))
    for name in names:
        extractor.extract(name)


def profile(path: Path, x: Any, threads: int, keys: list[str]) -> dict[str, float]:
    """OpenVINO's milliseconds in layers whose maps have the heights `keys`; "rest" is all others."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": "YES"}
    compiled = load_openvino().Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    runs = []
    for _ in range(100):
        request.infer({0: x})
        spent = dict.fromkeys([*keys, "rest"], 0.0)
        seen: list[str] = []
        for layer in compiled.get_runtime_model().get_ordered_ops():
            took = layer.get_rt_info()["execTimeMcs"].astype(str)
            if not took.isdigit():
                continue
            first = "Convolution" in layer.get_rt_info()["layerType"].astype(str) and not seen
            seen += ["conv"] if first else []
            height = str(layer.get_output_shape(0)[2]) if layer.get_output_size() else ""
            spent["first layer" if first else height if height in spent else "rest"] += int(took) / 1e3
        runs.append(spent)
    return {key: round(float(np.quantile([run[key] for run in runs], 0.2)), 3) for key in runs[0]}


if __name__ == "__main__":
    parts = {"scores": scores, "files": files, "engines": engines, "layers": layers, "stages": stages}
    run_part("exports", __doc__ or "", parts, ["ncnn", "pnnx", "MNN", "onnx", "onnxruntime", "openvino"])
