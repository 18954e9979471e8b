"""The table of export formats: a row says how a format is written, opened and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export import caffe, mnn, ncnn, onnx
from toolkit.export.int8 import judge, quantize
from toolkit.export.int8.pictures import MINIMUM
from toolkit.models.cost import measure
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import Detector
from toolkit.models.io import ModelIO, NetworkIO
from toolkit.models.network import TorchNetwork


@dataclass(frozen=True)
class Job:
    """What the writers of all formats share: the network, as it is and folded, and where files go."""

    model: Any  # a TorchNetwork; a Detector where a format is one of FOR_DETECTORS
    folded: Any
    io: NetworkIO
    folder: Path
    work: Path  # for files that another format starts from and nobody asked for
    samples: NDArray[np.float32]  # calibration inputs (N, 3, H, W); none where no format needs them
    detection_output: bool = False
    method: str = "best"
    float_layers: Sequence[str] | None = None
    notes: dict[str, Any] = field(default_factory=dict)  # format -> what its writer found out

    def affordable(self, macs: float, pictures: int) -> NDArray[np.float32]:
        """As many of the calibration inputs, evenly, as so many multiply-adds allow, at most `pictures`."""
        count = min(pictures, max(MINIMUM, int(macs / measure(self.model, self.io.input_size).macs)))
        return judge.evenly(self.samples, count)

    def source(self, fmt: str) -> Path:
        """The file of another format, written before or written now."""
        for folder in (self.folder, self.work):
            if (folder / FORMATS[fmt].file).exists():
                return folder / FORMATS[fmt].file
        return FORMATS[fmt].write(self, self.work)[0]


@dataclass(frozen=True)
class EngineFormat:
    """How a format is written and opened. `tolerance`: the largest difference to torch that passes, relative
    to the largest output; None where precision is given away on purpose."""

    file: str  # the one that is opened
    write: Callable[[Job, Path], list[Path]]
    open: Callable[[Path, Any, int], Any]
    tolerance: float | None = None


def _write_ncnn(precision: str, job: Job, folder: Path) -> list[Path]:
    return ncnn.export(job.folded, folder, job.io.input_size, precision, job.detection_output)


def _write_ncnn_int8(job: Job, folder: Path) -> list[Path]:
    param = job.source("ncnn")
    made = quantize.quantize(
        param, param.with_suffix(".bin"), job.io, job.samples, folder, job.method, job.float_layers
    )
    job.notes["ncnn-int8"] = made.as_dict()
    return list(made.files)


def _write_mnn(precision: str, job: Job, folder: Path) -> list[Path]:
    return mnn.export(job.source("onnx"), folder, precision, job.io, job.affordable(20e9, MNN_PICTURES))


def _open_ncnn(precision: str, path: Path, io: NetworkIO, threads: int) -> ncnn.NcnnModel:
    return ncnn.NcnnModel(path, io, precision, threads)


def _open_darknet(path: Path, io: ModelIO, threads: int) -> Detector:
    return load_darknet(path, path.with_suffix(".weights"), path.with_suffix(".names"))


FORMATS = {
    "onnx": EngineFormat(
        "model.onnx",
        lambda job, folder: onnx.export(job.folded, folder, job.io.input_size),
        onnx.OnnxModel,
        1e-5,
    ),
    "onnx-end2end": EngineFormat(
        "model-end2end.onnx",
        lambda job, folder: onnx.export_end2end(job.folded, folder, job.io.input_size),
        onnx.EndToEndModel,
    ),
    "onnx-int8": EngineFormat(
        "model-int8.onnx",
        lambda job, folder: onnx.export_int8(
            job.source("onnx"), folder, job.affordable(60e9, len(job.samples))
        ),
        onnx.OnnxModel,
    ),
    "ncnn": EngineFormat("model-fp32.param", partial(_write_ncnn, "fp32"), partial(_open_ncnn, "fp32"), 1e-5),
    "ncnn-fp16": EngineFormat("model-fp16.param", partial(_write_ncnn, "fp16"), partial(_open_ncnn, "fp16")),
    "ncnn-int8": EngineFormat("model-int8.param", _write_ncnn_int8, partial(_open_ncnn, "int8")),
    "mnn": EngineFormat("model-fp32.mnn", partial(_write_mnn, "fp32"), mnn.MnnModel, 1e-5),
    "mnn-fp16": EngineFormat("model-fp16.mnn", partial(_write_mnn, "fp16"), mnn.MnnModel),
    "mnn-int8-weights": EngineFormat(
        "model-int8-weights.mnn", partial(_write_mnn, "int8-weights"), mnn.MnnModel
    ),
    "mnn-int8": EngineFormat("model-int8.mnn", partial(_write_mnn, "int8"), mnn.MnnModel),
    "caffe": EngineFormat(
        "model.prototxt",
        lambda job, folder: caffe.export(job.folded, folder, job.io.input_size),
        caffe.CaffeModel,
        2e-5,
    ),
    "darknet": EngineFormat(
        "model.cfg",
        lambda job, folder: save_darknet(job.model, folder, size=job.io.input_size),
        _open_darknet,
        1e-5,
    ),
}

DEFAULT = ("onnx", "ncnn", "ncnn-fp16")
FOR_DETECTORS = ("onnx-end2end", "darknet")
CALIBRATED = ("onnx-int8", "ncnn-int8", "mnn-int8")
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "ncnn": ("ncnn", "pnnx"), "mnn": ("onnx", "MNN")}
MNN_PICTURES = 64  # of those for calibration, at most: its quantiser is slow


def formats_of(model: TorchNetwork) -> list[str]:
    """The formats that a network can be written in."""
    return [fmt for fmt in FORMATS if isinstance(model, Detector) or fmt not in FOR_DETECTORS]
