"""The timing runner. On this machine beside the same runner and ncnn built by GCC with its libgomp, and
beside the ncnn wheel in Python: what zig and the own thread pool cost. On ARM, under qemu: how far int8
detections lie from the wheel's, and how many instructions each format executes, by layer.

python -m tests.benchmarks.runner speed|int8|instructions      (5 minutes, with compiling 10; 5; 10)
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.exports import exported, network, parity_of, serve, split
from tests.benchmarks.load import ITSELF
from tests.benchmarks.record import ratio, run_part, spread
from tests.device.conftest import QEMU
from tests.device.wheel import Wheel, found_by
from toolkit.device.build import LAYERS, Compiler, build_runner, compiled
from toolkit.device.instructions import EMULATORS, Instructions, count_instructions
from toolkit.device.settings import RUNNER_FORMATS
from toolkit.export.folder import Exported
from toolkit.export.int8.pictures import MINIMUM, calibration_inputs
from toolkit.export.int8.quantize import quantize
from toolkit.export.registry import FORMATS
from toolkit.export.write import export_model
from toolkit.models.published import can_fetch, fetch
from toolkit.models.zoo import SPECS
from toolkit.pictures import load_image

NETWORKS = ("yoloface-500k-v2", "fastest-v2", "nano-coco")
COUNTED = ("yoloface-100k", "yoloface-500k-v2", "fastest-v2", "nano-voc")
TURNS, LOOPS = 16, 25


def by_gcc() -> Path:
    version = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout
    options = ("-DCMAKE_C_COMPILER=gcc", "-DCMAKE_CXX_COMPILER=g++")
    return compiled(Compiler(options, f"gcc {version.strip()}", "libgomp"), LAYERS, "gcc")


def samples(runner: Path, folder: Path, threads: int) -> float:
    """The median of a short run's inference times, ms."""
    from skimage.data import astronaut

    raw = folder / "astronaut.rgb"
    raw.write_bytes(astronaut().tobytes())
    words = ["bench", folder, "--raw", raw, "--size", "512x512", "--threads", threads, "--loops", LOOPS]
    run = subprocess.run([runner, *map(str, words)], capture_output=True, check=True)
    return float(np.median(json.loads(run.stdout)["samples"]["inference_ms"]))


def speed(work: Path) -> dict[str, Any]:
    """Medians of short runs in turns, the order drawn anew in each. The wheel's process is stopped while
    another one runs: idle threads spin."""
    os.environ.pop("OMP_WAIT_POLICY", None)
    os.environ |= ITSELF  # as elsewhere, where nobody says anything
    runners = {"zig, own threads": build_runner("x86_64"), "gcc, libgomp": by_gcc()}
    figures: dict[str, Any] = {}
    context = get_context("spawn")
    for name, threads in product(NETWORKS, (1, 2)):
        folder = work / f"runner-{name}"
        if not folder.exists():
            export_model(network(name), folder, ["ncnn"])
        here, there = context.Pipe()
        wheel = context.Process(target=serve, args=(name, folder, "ncnn", threads, there), daemon=True)
        wheel.start()
        here.send(1)
        here.recv()
        os.kill(wheel.pid or 0, signal.SIGSTOP)
        times: dict[str, list[float]] = {key: [] for key in (*runners, "wheel")}
        for turn in range(TURNS):
            for key in np.random.default_rng(turn).permutation(list(times)):
                if key == "wheel":
                    os.kill(wheel.pid or 0, signal.SIGCONT)
                    here.send(LOOPS)
                    times[key].append(float(np.median(here.recv())))
                    os.kill(wheel.pid or 0, signal.SIGSTOP)
                else:
                    times[key].append(samples(runners[key], folder, threads))
        wheel.kill()
        own = np.array(times["zig, own threads"])
        figures[f"{name}, {threads} threads"] = {
            **{key: spread(np.array(row)) for key, row in times.items()},
            **{f"own by {key}": ratio(own, np.array(times[key])) for key in ("gcc, libgomp", "wheel")},
        }
        print(name, threads, figures[f"{name}, {threads} threads"], file=sys.stderr)
    return figures


def int8(work: Path) -> dict[str, Any]:
    """The largest difference of scores and edges, of detections above the threshold in spec.json or the ten
    best. Networks with published weights, calibrated as `exports scores` has them."""
    figures: dict[str, Any] = {}
    for name in (each for each in SPECS if can_fetch(f"{each}/{each}.weights")):
        _, folder, _ = exported(name, work)
        image = load_image(fetch(f"images/{'person' if 'face' in name else 'dog'}.jpg"))
        raw = work / "picture.rgb"
        raw.write_bytes(image.tobytes())
        size = f"{image.shape[1]}x{image.shape[0]}"
        wheel = Wheel(folder, "ncnn-int8", image)
        conf = min(Exported.read(folder).threshold, wheel.conf())
        words = ["detect", folder, "--raw", raw, "--size", size, "--format", "ncnn-int8", "--conf", conf]
        figures[name] = {}
        for abi, emulator in QEMU.items():
            run = [emulator, "-cpu", "max", build_runner(abi), *words]
            done = subprocess.run([*map(str, run)], capture_output=True, check=True)
            candidates = wheel.found(conf / 2, suppressed=False)
            figures[name][abi] = round(found_by(json.loads(done.stdout)).from_nearest(candidates), 4)
        print(name, figures[name], file=sys.stderr)
    return figures


def kinds(folder: Path, fmt: str) -> dict[str, str]:
    """Name of each layer -> "depthwise", "1x1", "3x3", "rounding" (of what a float layer in int8 files reads)
    or "other"."""
    own = Path(folder, "model-fp32.param").read_text()
    found = {}
    for line in (folder / FORMATS[fmt].file).read_text().splitlines()[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        options = dict(word.split("=", 1) for word in rest[int(inputs) + int(outputs) :])
        if kind == "ConvolutionDepthWise":
            found[name] = "depthwise"
        elif kind == "Convolution":
            found[name] = f"{options['1']}x{options['1']}"
        else:
            found[name] = "other" if f" {name} " in own else "rounding"
    return found


def by_kind(count: Instructions, kind_of: dict[str, str]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for name, instructions in count.layers.items():
        sums[kind_of[name]] += instructions
    return {"total": count.total, **sums}


def instructions(work: Path) -> dict[str, Any]:
    """Of every format by kind of layer; on arm64 also by layer, and with all layers int8, which shows where
    int8 takes more than float32."""
    figures: dict[str, Any] = {}
    for name in COUNTED:
        model, folder, _ = exported(name, work)
        facts = parity_of(folder)["ncnn-int8"]
        figures[name] = {key: facts[key] for key in ("error", "bytes", "float_bytes", "fidelity")}
        for abi in EMULATORS:
            counts = {fmt: count_instructions(folder, fmt, abi) for fmt in RUNNER_FORMATS}
            rows = {fmt: by_kind(count, kinds(folder, fmt)) for fmt, count in counts.items()}
            figures[name][abi] = rows
            print(name, abi, rows, file=sys.stderr)
            if abi != "arm64-v8a":
                continue
            everything = work / f"all-int8-{name}"
            shutil.copytree(folder, everything, dirs_exist_ok=True)
            training, _ = split(name)
            samples = calibration_inputs([training.path(i) for i in range(MINIMUM)], model.io)
            files = (folder / "model-fp32.param", folder / "model-fp32.bin")
            quantize(*files, model.io, samples, everything, "minmax", ())
            counts["all int8"] = count_instructions(everything, "ncnn-int8", abi)
            rows["all int8"] = by_kind(counts["all int8"], kinds(everything, "ncnn-int8"))
            float_layers = set(facts["float_layers"])
            figures[name]["layers"] = {
                layer: {
                    "kind": kind,
                    "float in int8": layer in float_layers,
                    **{key: count.layers.get(layer) for key, count in counts.items()},
                }
                for layer, kind in kinds(folder, "ncnn-int8").items()
                if kind in ("depthwise", "1x1", "3x3", "rounding")
            }
    return figures


if __name__ == "__main__":
    parts = {"speed": speed, "int8": int8, "instructions": instructions}
    run_part("runner", __doc__ or "", parts, ["ncnn", "ziglang"])
