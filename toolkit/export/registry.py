"""The table of export formats: a row says all there is to say about a format.

A new format is a module that writes and opens its files, and a row here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export import caffe, mnn, ncnn, onnx, openvino
from toolkit.export.fidelity import PICTURES, Fidelity, fidelity, sample_inputs
from toolkit.export.int8 import judge, quantize
from toolkit.export.int8.pictures import MINIMUM
from toolkit.export.litert.graph import INPUT as LITERT_INPUT
from toolkit.export.litert.model import LiteRtModel, Numbers, whole_numbers
from toolkit.export.litert.write import export as export_litert
from toolkit.export.parity import Comparison, detection_parity, map_parity
from toolkit.models.cost import measure
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import Detector
from toolkit.models.io import NetworkIO
from toolkit.models.network import Network, TorchNetwork
from toolkit.runtime import InputError

MNN_PICTURES = 64  # of those for calibration, at most: its quantiser is slow
FIDELITY_MACS = 100e9  # of the network on the pictures that files of lower precision are judged on


@dataclass(frozen=True)
class WriteJob:
    """What the writers of all formats share: the network, as it is and folded, and where files go."""

    model: TorchNetwork
    folded: TorchNetwork
    io: NetworkIO
    work: Path  # with a folder for each format, of those too that others start from and nobody asked for
    samples: NDArray[np.float32]  # calibration inputs (N, C, H, W); none where nobody gave pictures
    detection_output: bool = False
    method: str = "best"
    float_layers: Sequence[str] | None = None
    onnx_settings: onnx.OnnxSettings = onnx.OnnxSettings()
    notes: dict[str, Any] = field(default_factory=dict)  # format -> what its writer found out
    made: dict[str, list[Path]] = field(default_factory=dict)  # format -> its files, the opened one first
    tried: set[str] = field(default_factory=set)

    def affordable(self, macs: float, pictures: int) -> NDArray[np.float32]:
        """As many of the calibration inputs, evenly, as so many multiply-adds allow, at most `pictures`."""
        return self._affordable(self.samples, macs, pictures)

    def _affordable(self, samples: NDArray[np.float32], macs: float, pictures: int) -> NDArray[np.float32]:
        count = min(pictures, max(MINIMUM, int(macs / measure(self.model, self.io.input_size).macs)))
        return judge.evenly(samples, count)

    @cached_property
    def fidelity(self) -> Fidelity:
        """How files of lower precision are judged: on the calibration pictures, else on photographs."""
        pictures = self.samples if len(self.samples) else sample_inputs(self.io)
        return fidelity(self.model, self._affordable(pictures, FIDELITY_MACS, PICTURES))

    def detector(self, network: TorchNetwork) -> Detector:
        """The network as what `EngineFormat.tasks` has made sure of."""
        assert isinstance(network, Detector)
        return network

    def write(self, fmt: str) -> list[Path]:
        """The files of a format, written at the first call."""
        if fmt not in self.made:
            self.tried.add(fmt)
            folder = self.work / fmt
            folder.mkdir()
            self.made[fmt] = FORMATS[fmt].write(self, folder)
        return self.made[fmt]

    def source(self, fmt: str) -> Path:
        """The file of another format, from which one starts."""
        if fmt in self.tried and fmt not in self.made:
            raise InputError(f"it starts from {fmt}, which could not be made")
        return self.write(fmt)[0]


def _opens_another(job: WriteJob, folder: Path) -> list[Path]:
    raise ValueError("this format opens another one's files and has none to write")


def _values_themselves(path: Path) -> dict[str, Numbers]:
    return {}


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
        instead: what to use where the file loses too much.
        hints: settings of the engine without which the file is less exact; spec.json keeps them.
        tensors: file -> what the numbers of its inputs and outputs mean, for spec.json; {} where they are the
            values themselves.
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
    instead: str = ""
    hints: Mapping[str, int] = field(default_factory=dict)
    tensors: Callable[[Path], dict[str, Numbers]] = _values_themselves
    compare: Callable[[TorchNetwork, Network, NDArray[np.float32], float | None], Comparison] = map_parity

    def missing_package(self) -> str:
        """The first of `packages` that is not installed; "" for none."""
        return next((name for name in self.packages if importlib.util.find_spec(name) is None), "")


def _write_onnx(job: WriteJob, folder: Path) -> list[Path]:
    job.notes["onnx"] = job.onnx_settings.as_dict()
    return onnx.export(job.folded, folder, job.io.input_size, job.onnx_settings)


def _write_end2end(job: WriteJob, folder: Path) -> list[Path]:
    job.notes["onnx-end2end"] = job.onnx_settings.as_dict()
    network = job.detector(job.folded)
    return onnx.export_end2end(network, folder, job.io.input_size, settings=job.onnx_settings)


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
    if job.onnx_settings == onnx.OnnxSettings():
        source = job.source("onnx")
    else:  # MNN's files take any batch, whatever is asked of the ONNX files
        (source,) = onnx.export(job.folded, job.work, job.io.input_size)
    return mnn.export(source, folder, precision, job.io, job.affordable(20e9, MNN_PICTURES))


def _write_caffe(job: WriteJob, folder: Path) -> list[Path]:
    return caffe.export(job.folded, folder, job.io.input_size)


def _write_darknet(job: WriteJob, folder: Path) -> list[Path]:
    return save_darknet(job.detector(job.model), folder, size=job.io.input_size)


def _write_litert(precision: str, job: WriteJob, folder: Path) -> list[Path]:
    return export_litert(job.folded, folder, job.io, precision, job.affordable(60e9, len(job.samples)))


def _open_ncnn(precision: str, path: Path, io: NetworkIO, threads: int) -> Network:
    return ncnn.NcnnModel(path, io, precision, threads)


def _open_darknet(path: Path, io: NetworkIO, threads: int) -> Network:
    return load_darknet(path, path.with_suffix(".weights"), path.with_suffix(".names"))


_ONNX = partial(
    EngineFormat, "onnx", input=onnx.INPUT, output="map", packages=("onnx", "onnxscript", "onnxruntime")
)
_NCNN = partial(EngineFormat, "ncnn", input=ncnn.INPUT, output="out", packages=("ncnn", "pnnx"))
_MNN = partial(
    EngineFormat,
    "mnn",
    input=mnn.INPUT,
    output="map",
    packages=("onnx", "onnxscript", "MNN"),
    hints=mnn.HINTS,
)
_LITERT = partial(
    EngineFormat, "litert", open=LiteRtModel, input=LITERT_INPUT, output="map", packages=("ai_edge_litert",)
)

# fmt: off
FORMATS: dict[str, EngineFormat] = {
    "onnx": _ONNX("model.onnx", onnx.OnnxModel, _write_onnx, tolerance=1e-5, default=True),
    "onnx-end2end": _ONNX("model-end2end.onnx", onnx.EndToEndModel, _write_end2end, tasks=("detection",),
                          compare=detection_parity),
    "onnx-int8": _ONNX("model-int8.onnx", onnx.OnnxModel, _write_onnx_int8, precision="int8",
                       calibrated=True, instead="onnx, or more calibration pictures"),
    "ncnn": _NCNN("model-fp32.param", partial(_open_ncnn, "fp32"), partial(_write_ncnn, "fp32"),
                  tolerance=1e-5, default=True),
    "ncnn-fp16": _NCNN("model-fp16.param", partial(_open_ncnn, "fp16"), partial(_write_ncnn, "fp16"),
                       precision="fp16", default=True, instead="ncnn"),
    "ncnn-int8": _NCNN("model-int8.param", partial(_open_ncnn, "int8"), _write_ncnn_int8, precision="int8",
                       calibrated=True, instead="ncnn-fp16, more calibration pictures, or --float-layers"),
    "mnn": _MNN("model-fp32.mnn", mnn.MnnModel, partial(_write_mnn, "fp32"), tolerance=1e-5),
    "mnn-fp16": _MNN("model-fp16.mnn", mnn.MnnModel, partial(_write_mnn, "fp16"), precision="fp16",
                     instead="mnn"),
    "mnn-int8-weights": _MNN("model-int8-weights.mnn", mnn.MnnModel, partial(_write_mnn, "int8-weights"),
                             precision="int8", instead="mnn-fp16"),
    "mnn-int8": _MNN("model-int8.mnn", mnn.MnnModel, partial(_write_mnn, "int8"), precision="int8",
                     calibrated=True, instead="ncnn-int8, mnn-int8-weights, or more calibration pictures"),
    "caffe": EngineFormat("caffe", "model.prototxt", caffe.CaffeModel, _write_caffe, input=caffe.INPUT,
                          output="map", tolerance=2e-5),
    "litert": _LITERT("model-fp32.tflite", write=partial(_write_litert, "fp32"), tolerance=1e-5),
    "litert-fp16": _LITERT("model-fp16.tflite", write=partial(_write_litert, "fp16"), precision="fp16",
                           instead="litert"),
    "litert-int8": _LITERT("model-int8.tflite", write=partial(_write_litert, "int8"), precision="int8",
                           calibrated=True, tensors=whole_numbers,
                           instead="litert-fp16, or more calibration pictures"),
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
