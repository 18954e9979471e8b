"""MNN through its own converter and quantiser, which its wheel carries as a compiled module.

MNN's console scripts and MNN.tools install a logging package over pip when they run, so they are not used.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from toolkit.files import temporary_folder, whole_file
from toolkit.machine import allowed_cores
from toolkit.models.io import NetworkIO
from toolkit.models.network import FromMaps
from toolkit.pictures import save_image
from toolkit.runtime import InputError, engine_lines, require

INPUT = "images"
# MNN's Winograd convolutions (dense, 3x3, stride 1) are off by 1e-3 of the largest output, where its plain
# ones are at 1e-5. A file cannot say so, an app has to: at level 0 of this hint no convolution is Winograd's.
WINOGRAD_HINT = 3  # Interpreter::WINOGRAD_MEMORY_LEVEL in MNN/Interpreter.hpp
HINTS = {"WINOGRAD_MEMORY_LEVEL": 0}
# What MNNConvert is told for each; "int8" goes through the quantiser afterwards.
PRECISIONS = {"fp32": (), "fp16": ("--fp16",), "int8-weights": ("--weightQuantBits", "8"), "int8": ()}


def export(
    onnx_file: Path,
    folder: Path,
    precision: str,
    io: NetworkIO,
    samples: NDArray[np.float32] | None = None,
) -> list[Path]:
    """Write `model-<precision>.mnn` into `folder` from a `model.onnx` of this toolkit. -> [file].

    "fp16" and "int8-weights" (per channel) only store weights so: a smaller file, arithmetic stays float32
    unless an engine is told otherwise. "int8" quantises weights (per channel) and activations, whose ranges
    come from `samples` (N, 3, H, W): network inputs as `io` has them, at the exported size; some 64 of them
    keep as much as 200 in a third of the time. Of MNN's methods for activations only EMA is used: KL and
    ADMM crash in MNN 3.6.1 on these networks. It can cost much (a third of nano-voc's mAP): compare before
    use.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: MNN has {', '.join(PRECISIONS)}")
    target = folder / f"model-{precision}.mnn"
    if precision != "int8":
        convert(onnx_file, target, "ONNX", options=PRECISIONS[precision])
        return [target]
    if samples is None or not len(samples):
        raise InputError("MNN int8 is calibrated on pictures and none were given: name some with samples")
    pixels = samples / np.float32(io.scale) + np.float32(io.mean)
    if samples.ndim != 4 or samples.shape[1] != io.channels or pixels.min() < -0.5 or pixels.max() > 255.5:
        low, high = (0 - io.mean) * io.scale, (255 - io.mean) * io.scale
        raise InputError(
            f"MNN int8 is calibrated on network inputs (N, {io.channels}, H, W) in {low:g}..{high:g}, found "
            f"{samples.shape} in {samples.min():g}..{samples.max():g}"
        )
    if io.channel_order == "BGR":
        pixels = pixels[:, ::-1]
    with temporary_folder() as work:
        source, pictures = work / "model.mnn", work / "pictures"
        convert(onnx_file, source, "ONNX")
        # At the network's own size and without loss, so that the quantiser's reader changes no pixel.
        for i, chw in enumerate(pixels):
            rgb = np.rint(chw).astype(np.uint8).transpose(1, 2, 0).repeat(3 // io.channels, 2)
            save_image(pictures / f"{i:05d}.png", np.ascontiguousarray(rgb))
        settings = {
            "format": io.channel_order,
            "mean": [io.mean] * io.channels,
            "normal": [io.scale] * io.channels,
            "width": samples.shape[3],
            "height": samples.shape[2],
            "path": f"{pictures}/",
            "used_sample_num": len(samples),
            "batch_size": min(8, len(samples)),
            "feature_quantize_method": "EMA",
            "weight_quantize_method": "MAX_ABS",
        }
        (work / "settings.json").write_text(json.dumps(settings))
        with whole_file(target) as temporary:
            _run("mnnquant", [source, temporary.resolve(), work / "settings.json"], temporary)
            Path(f"{temporary}.json").unlink(missing_ok=True)  # the ranges, which the model holds as well
    return [target]


def convert(
    source: Path, target: Path, kind: str, weights: Path | None = None, options: Sequence[str] = ()
) -> None:
    """Convert `source` to the .mnn file `target`, which appears whole or not at all.

    `kind`: MNN's name for the format, "ONNX" or "CAFFE" (`source` the prototxt, `weights` the caffemodel).
    `options`: further arguments of MNNConvert. Raises InputError with MNN's own last words where it fails.
    """
    for file in (source, weights):
        if file is not None and not file.is_file():
            raise InputError(f"there is no {file} to convert to MNN")
    arguments: list[str | Path] = ["-f", kind, "--bizCode", "MNN", *options]
    if weights is None:
        arguments += ["--modelFile", source.resolve()]
    else:
        arguments += ["--modelFile", weights.resolve(), "--prototxt", source.resolve()]
    with whole_file(target) as temporary:
        _run("mnnconvert", [*arguments, "--MNNModel", temporary.resolve()], temporary)


def _run(tool: str, arguments: Sequence[str | Path], result: Path) -> None:
    """Run a tool of MNN's wheel in a process of its own, which may print and crash, and open what it made:
    the tools report success whatever happens, a full disk included."""
    _load_mnn()
    script = (
        "import sys, MNN, _tools\n"
        f"_tools.{tool}(sys.argv[2:])\n"
        "MNN.nn.load_module_from_file(sys.argv[1], [], [])"
    )
    with temporary_folder() as work:  # the converter leaves notes where it runs
        run = subprocess.run(
            [sys.executable, "-P", "-c", script, result.resolve(), tool, *arguments],
            cwd=work,
            capture_output=True,
            text=True,
            errors="replace",
        )
    if run.returncode:
        lines = [
            line for line in run.stdout.splitlines() if re.search("error|fail|can't|not support", line, re.I)
        ]
        reason = lines[0].strip() if lines else f"it ended with code {run.returncode}"
        raise InputError(f"MNN's {tool} cannot take this file: {reason}")


def _load_mnn() -> ModuleType:
    with engine_lines():
        return require("MNN", "export")


class MnnModel(FromMaps):
    """A .mnn file in MNN's wheel: `.io` and `.predict` as every backend has them."""

    def __init__(self, path: Path, io: NetworkIO, threads: int = 0):
        if not path.is_file():
            raise InputError(f"there is no {path}: expected an .mnn file made by toolkit export")
        self.path, self.io = path, io
        mnn = _load_mnn()
        self.expr = mnn.expr
        # The thread_num of load_module_from_file is not heeded in MNN 3.6.1. High: no fp16 arithmetic.
        settings = {"backend": "CPU", "numThread": threads or allowed_cores(), "precision": "high"}
        outputs = [f"map{i}" for i in range(io.outputs)]
        with engine_lines():
            try:
                self.runtime = mnn.nn.create_runtime_manager((settings,))
                self.runtime.set_hint(WINOGRAD_HINT, HINTS["WINOGRAD_MEMORY_LEVEL"])
                self.module = mnn.nn.load_module_from_file(
                    str(path), [INPUT], outputs, runtime_manager=self.runtime
                )
            except SystemError:  # how its binding reports every failure
                raise InputError(
                    f"MNN cannot open {path}: it is damaged or no export of a network with "
                    f"{io.outputs} outputs"
                ) from None

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W), any multiple of the stride -> raw head maps."""
        self.io.check_size((x.shape[3], x.shape[2]))
        expr = self.expr
        variable = expr.const(np.ascontiguousarray(x, np.float32), list(x.shape), expr.NCHW)
        # .read() points into memory that the next call reuses
        return [expr.convert(raw, expr.NCHW).read().copy() for raw in self.module.forward([variable])]
