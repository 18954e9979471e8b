"""Our LiteRT files beside those of litert-torch, and our int8 ranges beside ai-edge-quantizer's.

The project does not depend on the two packages. They need an environment that also has the project's own:

python3.11 -m venv .venv-litert
.venv/bin/python -c 'import numpy, pathlib; print(pathlib.Path(numpy.__file__).parents[1])' \\
    > .venv-litert/lib/python3.11/site-packages/project.pth
.venv-litert/bin/pip install litert-torch==0.10.0 ai-edge-quantizer==0.10.0
.venv-litert/bin/python -m tests.benchmarks.litert_writers        (5 minutes)
"""

import sys
import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.benchmarks.exports import PICTURES, network, split
from tests.benchmarks.record import alone, options, ratio, spread, write
from toolkit.evaluation.score import evaluate
from toolkit.export.folder import open_export
from toolkit.export.int8.pictures import calibration_inputs
from toolkit.export.litert.file import read_operators
from toolkit.export.litert.model import LiteRtModel, open_interpreter
from toolkit.export.parity import probe_input
from toolkit.export.write import export_model
from toolkit.stopwatch import interleave

NETWORKS = ("yoloface-500k-v2", "fastest-v2", "nano-voc")
WAYS = ("ai-edge-litert", "ai-edge-quantizer", "litert-torch")  # each needs those before it
ERRORS = 50  # pictures on which int8 outputs are compared with torch's


def needed(requirement: str, found: dict[str, int]) -> dict[str, int]:
    """`found` with the bytes of each installed package that a requirement brings."""
    want = Requirement(requirement)
    package = distribution(want.name)
    for text in package.requires or []:
        each = Requirement(text)
        taken = each.marker is None or any(
            each.marker.evaluate({"extra": extra}) for extra in ("", *want.extras)
        )
        key = f"{canonicalize_name(each.name)}{sorted(each.extras) or ''}"
        if taken and key not in found:
            found[key] = 0
            try:
                needed(str(each).partition(";")[0], found)
            except PackageNotFoundError:
                del found[key]  # another platform's, or left out of this installation
    files = (Path(str(file.locate())) for file in package.files or [])
    found[canonicalize_name(want.name)] = sum(file.stat().st_size for file in files if file.is_file())
    return found


def sizes() -> dict[str, Any]:
    """What each way adds to the project's own requirements without an extra."""
    core = needed("toolkit", {})
    figures = {}
    for way in WAYS:
        added = {name: size for name, size in needed(way, {}).items() if name not in core and size}
        largest = sorted(added, key=lambda name: -added[name])[:5]
        figures[way] = {
            "version": distribution(way).version,
            "packages": len(added),
            "mb": round(sum(added.values()) / 1e6, 1),
            "largest": {name: round(added[name] / 1e6, 1) for name in largest},
        }
    return figures


def ours(name: str, folder: Path) -> float:
    """Seconds of our export to LiteRT in float32, the comparison with torch included."""
    torch.set_num_threads(1)
    model = network(name)
    begin = time.perf_counter()
    export_model(model, folder, ["litert"], name=name)
    return time.perf_counter() - begin


def theirs(name: str, path: Path, channels_last: bool) -> dict[str, float]:
    """Seconds that litert-torch takes to be imported and to convert. With `channels_last` input and outputs
    have the layout of ours."""
    torch.set_num_threads(1)
    model = network(name).eval()
    begin = time.perf_counter()
    import litert_torch

    imported = time.perf_counter()
    x = torch.from_numpy(probe_input(model.io))
    if channels_last:
        outputs = list(range(model.io.outputs))
        model, x = litert_torch.to_channel_last_io(model, [0], outputs), x.permute(0, 2, 3, 1)
    litert_torch.convert(model, (x.contiguous(),)).export(str(path))
    return {"import": imported - begin, "convert": time.perf_counter() - imported}


class Opened:
    """A file on one thread, whatever its layout and its names are: outputs come in the order of names."""

    def __init__(self, path: Path) -> None:
        self.interpreter = open_interpreter(path, threads=1)
        runner = self.interpreter.get_signature_runner()
        (self.input,) = runner.get_input_details().values()
        self.outputs = [each for _, each in sorted(runner.get_output_details().items())]

    def give(self, x: np.ndarray) -> None:
        """Network input (1, C, H, W)."""
        if tuple(self.input["shape"]) != x.shape:
            x = x.transpose(0, 2, 3, 1)
        scale, zero_point = self.input["quantization"]
        if scale:
            bounds = np.iinfo(self.input["dtype"])
            x = np.rint(x / scale + zero_point).clip(bounds.min, bounds.max)
        self.x = np.ascontiguousarray(x, self.input["dtype"])

    def run(self) -> list[np.ndarray]:
        self.interpreter.set_tensor(self.input["index"], self.x)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(each["index"]) for each in self.outputs]


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest, by the largest output."""
    rows = [
        (a if a.shape == b.shape else a.transpose(0, 3, 1, 2)) - b
        for a, b in zip(found, expected, strict=True)
    ]
    return max(np.abs(row).max() for row in rows) / max(np.abs(b).max() for b in expected)


def quantise(source: Path, target: Path, samples: np.ndarray) -> float:
    """ai-edge-quantizer's static int8 of a float file of ours: weights with a scale for each filter,
    activations with one each. -> seconds"""
    from ai_edge_quantizer import quantizer, recipe

    begin = time.perf_counter()
    work = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    inputs = [{"images": np.ascontiguousarray(x.transpose(1, 2, 0)[None])} for x in samples]
    ranges = work.calibrate({"serving_default": inputs}, num_threads=1)
    target.write_bytes(work.quantize(ranges, enable_progress_report=False).quantized_model)
    return time.perf_counter() - begin


def compare(name: str, work: Path, rounds: int, seed: int) -> dict[str, Any]:
    model = network(name)
    training, test = split(name)
    chosen = np.linspace(0, len(training) - 1, PICTURES).round().astype(int)
    paths = [training.path(int(i)) for i in chosen]
    alone_folder, folder = work / f"{name}-float", work / name
    seconds: dict[str, Any] = {"ours": alone(ours, name, alone_folder)}
    files = {"ours": alone_folder / "model-fp32.tflite"}
    for way, channels_last in (("litert-torch", False), ("litert-torch, channels last", True)):
        files[way] = work / f"{name}-{way}.tflite"
        seconds[way] = alone(theirs, name, files[way], channels_last)

    begin = time.perf_counter()
    export_model(model, folder, ["litert", "litert-int8"], calibration=paths, accept_loss=True, name=name)
    seconds["ours int8"] = time.perf_counter() - begin
    files["ours int8"] = folder / "model-int8.tflite"
    samples = calibration_inputs(paths, model.io)
    way = "ai-edge-quantizer int8"
    files[way] = work / f"{name}-int8.tflite"
    seconds[way] = quantise(files["ours"], files[way], samples)

    x = probe_input(model.io)
    expected = model.predict(x)
    opened = {way: Opened(path) for way, path in files.items()}
    for each in opened.values():
        each.give(x)
    times = interleave({way: each.run for way, each in opened.items()}, rounds=rounds, warmup=2, seed=seed)
    figures: dict[str, Any] = {}
    for way, path in files.items():
        took = seconds[way]
        parts = took if isinstance(took, dict) else {"": took}
        operators = Counter(kind for kind, _ in read_operators(path))
        figures[way] = {
            "seconds": round(sum(parts.values()), 1),
            "kb": round(path.stat().st_size / 1000, 1),
            "operators": sum(operators.values()),
            "transposes": operators["TRANSPOSE"],
            **spread(times[way]),
            "by ours": ratio(times[way], times["ours int8" if "int8" in way else "ours"]),
        }
        if isinstance(took, dict):
            figures[way]["seconds of the import"] = round(took["import"], 1)
        if "int8" not in way:
            figures[way]["relative difference"] = float(f"{difference(opened[way].run(), expected):.2g}")
    metric = "widerface" if "face" in name else "darknet"
    backends = {"torch": model, "ours": open_export(folder, "litert")}
    backends |= {way: LiteRtModel(path, model.io) for way, path in files.items() if "int8" in way}
    # The test split is small: what a score says is checked on the pictures that no calibration saw.
    others = training.subset(np.setdiff1d(np.arange(len(training)), chosen))
    shown = calibration_inputs([test.path(i) for i in range(len(test))], model.io, limit=ERRORS)
    maps = {way: [backend.predict(x[None]) for x in shown] for way, backend in backends.items()}
    scores = {}
    for way, backend in backends.items():
        scores[way] = {
            "test": rounded(evaluate(backend, test, metric, "widerface_val")),
            "others": rounded(evaluate(backend, others, metric, "widerface_val")),
            "error of outputs": round(model.io.output_error(maps["torch"], maps[way]), 4),
        }
    return {
        "files": figures,
        "pictures": {"calibration": len(samples), "test": len(test), "others": len(others)},
        "scores": scores,
    }


def rounded(found: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in found.items()}


def main() -> None:
    given = options("litert_writers", __doc__ or "", "rounds", 200)
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"added": sizes()}
    with TemporaryDirectory() as temporary:
        for name in NETWORKS:
            figures[name] = compare(name, Path(temporary), given.rounds, given.seed)
            print(name, figures[name]["scores"], file=sys.stderr)
    write("litert_writers", given, ["torch", *WAYS], figures)


if __name__ == "__main__":
    main()
