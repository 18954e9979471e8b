"""OpenVINO opens `model.onnx` as it is: no file of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from toolkit.export.onnx import by_batch, check_shape
from toolkit.models.io import NetworkIO
from toolkit.models.network import FromMaps
from toolkit.runtime import InputError, require


def load_openvino() -> ModuleType:
    """The package, without its telemetry: importing it reports to a server unless that part is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return require("openvino", "openvino")


class OpenVinoModel(FromMaps):
    """A `model.onnx` in OpenVINO on the CPU, in float32: `.io` and `.predict` as every backend has them."""

    def __init__(self, path: Path, io: NetworkIO, threads: int = 0):
        core = load_openvino().Core()
        self.path, self.io = path, io
        # On CPUs with bfloat16 or float16 arithmetic OpenVINO would take that.
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            self.model = core.compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise InputError(f"OpenVINO cannot open {path}: {str(error).strip().splitlines()[-1]}") from None
        if len(self.model.inputs) != 1 or len(self.model.outputs) != io.outputs:
            raise InputError(
                f"{path} is not an export of this toolkit: expected one input and {io.outputs} outputs"
            )
        batch, *sides = self.model.input().get_partial_shape()
        self.batch = batch.get_length() if batch.is_static else None
        self.shape = tuple(side.get_length() for side in sides)

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W) at the exported size -> raw head maps."""
        check_shape(self.path, self.shape, x)
        return by_batch(self._run, x, self.batch)

    def _run(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        outputs = self.model(x)
        return [np.array(outputs[output]) for output in self.model.outputs]
