"""The table of export formats: a row says all there is to say about a format.

A new format is a module that writes and opens its files, and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export import caffe, mnn, ncnn, onnx, openvino
from toolkit.export.int8 import judge, quantize
from toolkit.export.int8.pictures import MINIMUM
from toolkit.export.parity import Comparison, detection_parity, map_parity
from toolkit.models.cost import measure
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import Detector
from toolkit.models.io import NetworkIO
from toolkit.models.network import Network, TorchNetwork

MNN_PICTURES = 64  # of those for calibration, at most: its quantiser is slow


@dataclass(frozen=True)
class WriteJob:
    """What the writers of all formats share: the network, as it is and folded, and where files go."""

    model: TorchNetwork
    folded: TorchNetwork
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

    def detector(self, network: TorchNetwork) -> Detector:
        """The network as what `EngineFormat.tasks` has made sure of."""
        assert isinstance(network, Detector)
        return network

    def source(self, fmt: str) -> Path:
        """The file of another format, written before or written now."""
        for folder in (self.folder, self.work):
            if (folder / FORMATS[fmt].file).exists():
                return folder / FORMATS[fmt].file
        return FORMATS[fmt].write(self, self.work)[0]


def _opens_another(job: WriteJob, folder: Path) -> list[Path]:
    raise ValueError("this format opens another one's files and has none to write")


@dataclass(frozen=True)
class EngineFormat:
    """How a format is written, opened and compared.

    Attributes:
        engine: what runs it.
        file: the file that is opened; others are next to it.
        open: (file, io, threads) -> the network.
        write: (job, folder) -> the files, the opened one first.
        input, output: blob names, the outputs' without their number; "" where the file has none.
        packages: whose versions spec.json keeps.
        precision: of its arithmetic or weights: "fp32", "fp16" or "int8".
        tolerance: the largest difference to torch that passes, relative to the largest output; None where
            precision is given away on purpose.
        tasks: kinds of networks that fit (`NetworkIO.task`).
        calibrated: whether it needs pictures.
        default: whether it is written where nothing is asked for.
        opens: the format whose file it opens; it writes none of its own.
        compare: (torch network, the opened one, input, tolerance) -> how far they are apart.
    """

    engine: str
    file: str
    open: Callable[[Path, NetworkIO, int], Network]
    write: Callable[[WriteJob, Path], list[Path]] = _opens_another
    input: str = ""
    output: str = ""
    packages: tuple[str, ...] = ()
    precision: str = "fp32"
    tolerance: float | None = None
    tasks: tuple[str, ...] = ("detection", "landmarks")
    calibrated: bool = False
    default: bool = False
    opens: str = ""
    compare: Callable[[TorchNetwork, Network, NDArray[np.float32], float | None], Comparison] = map_parity


def _write_onnx(job: WriteJob, folder: Path) -> list[Path]:
    return onnx.export(job.folded, folder, job.io.input_size)


def _write_end2end(job: WriteJob, folder: Path) -> list[Path]:
    return onnx.export_end2end(job.detector(job.folded), folder, job.io.input_size)


def _write_onnx_int8(job: WriteJob, folder: Path) -> list[Path]:
    return onnx.export_int8(job.source("onnx"), folder, job.affordable(60e9, len(job.samples)))


def _write_ncnn(precision: str, job: WriteJob, folder: Path) -> list[Path]:
    return ncnn.export(job.folded, folder, job.io.input_size, precision, job.detection_output)


def _write_ncnn_int8(job: WriteJob, folder: Path) -> list[Path]:
    param = job.source("ncnn")
    quantized = quantize.quantize(
        param, param.with_suffix(".bin"), job.io, job.samples, folder, job.method, job.float_layers
    )
    job.notes["ncnn-int8"] = quantized.as_dict()
    return list(quantized.files)


def _write_mnn(precision: str, job: WriteJob, folder: Path) -> list[Path]:
    return mnn.export(job.source("onnx"), folder, precision, job.io, job.affordable(20e9, MNN_PICTURES))


def _write_caffe(job: WriteJob, folder: Path) -> list[Path]:
    return caffe.export(job.folded, folder, job.io.input_size)


def _write_darknet(job: WriteJob, folder: Path) -> list[Path]:
    return save_darknet(job.detector(job.model), folder, size=job.io.input_size)


def _open_ncnn(precision: str, path: Path, io: NetworkIO, threads: int) -> Network:
    return ncnn.NcnnModel(path, io, precision, threads)


def _open_darknet(path: Path, io: NetworkIO, threads: int) -> Network:
    return load_darknet(path, path.with_suffix(".weights"), path.with_suffix(".names"))


_ONNX = partial(
    EngineFormat, "onnx", input=onnx.INPUT, output="map", packages=("onnx", "onnxscript", "onnxruntime")
)
_NCNN = partial(EngineFormat, "ncnn", input=ncnn.INPUT, output="out", packages=("ncnn", "pnnx"))
_MNN = partial(EngineFormat, "mnn", input=mnn.INPUT, output="map", packages=("onnx", "MNN"))

# fmt: off
FORMATS: dict[str, EngineFormat] = {
    "onnx": _ONNX("model.onnx", onnx.OnnxModel, _write_onnx, tolerance=1e-5, default=True),
    "onnx-end2end": _ONNX("model-end2end.onnx", onnx.EndToEndModel, _write_end2end, tasks=("detection",),
                          compare=detection_parity),
    "onnx-int8": _ONNX("model-int8.onnx", onnx.OnnxModel, _write_onnx_int8, precision="int8",
                       calibrated=True),
    "ncnn": _NCNN("model-fp32.param", partial(_open_ncnn, "fp32"), partial(_write_ncnn, "fp32"),
                  tolerance=1e-5, default=True),
    "ncnn-fp16": _NCNN("model-fp16.param", partial(_open_ncnn, "fp16"), partial(_write_ncnn, "fp16"),
                       precision="fp16", default=True),
    "ncnn-int8": _NCNN("model-int8.param", partial(_open_ncnn, "int8"), _write_ncnn_int8, precision="int8",
                       calibrated=True),
    "mnn": _MNN("model-fp32.mnn", mnn.MnnModel, partial(_write_mnn, "fp32"), tolerance=1e-5),
    "mnn-fp16": _MNN("model-fp16.mnn", mnn.MnnModel, partial(_write_mnn, "fp16"), precision="fp16"),
    "mnn-int8-weights": _MNN("model-int8-weights.mnn", mnn.MnnModel, partial(_write_mnn, "int8-weights"),
                             precision="int8"),
    "mnn-int8": _MNN("model-int8.mnn", mnn.MnnModel, partial(_write_mnn, "int8"), precision="int8",
                     calibrated=True),
    "caffe": EngineFormat("caffe", "model.prototxt", caffe.CaffeModel, _write_caffe, input=caffe.INPUT,
                          output="map", tolerance=2e-5),
    "darknet": EngineFormat("darknet", "model.cfg", _open_darknet, _write_darknet, tolerance=1e-5,
                            tasks=("detection",)),
    "openvino": EngineFormat("openvino", "model.onnx", openvino.OpenVinoModel, opens="onnx"),
}
# fmt: on
DEFAULT = tuple(fmt for fmt, row in FORMATS.items() if row.default)


def written_formats(task: str = "") -> list[str]:
    """Names of the formats that `export_model` writes, for networks of a task or all."""
    return [fmt for fmt, row in FORMATS.items() if not row.opens and task in ("", *row.tasks)]


def formats_of(model: TorchNetwork) -> list[str]:
    """Names of the formats that a network can be written in."""
    return written_formats(model.io.task)
