"""Exported networks: one folder each, written whole, checked against torch, opened again as a detector."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.detect import Backend, LandmarkBackend, Settings, suppress
from toolkit.export import caffe, int8, mnn, ncnn, onnx, openvino
from toolkit.export.parity import matched
from toolkit.models.cost import measure
from toolkit.models.darknet import load_darknet, save_darknet
from toolkit.models.detector import Detector, fold
from toolkit.models.landmarks import LandmarkIO, LandmarkNet, NetworkIO, TorchNetwork, read_io
from toolkit.models.spec import ModelIO
from toolkit.models.zoo import create_model, has_published_weights, list_models
from toolkit.runtime import InputError, environment, progress, whole_file, whole_folder
from toolkit.training.checkpoint import trained


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
        count = min(pictures, max(int8.MINIMUM, int(macs / measure(self.model, self.io.input_size).macs)))
        return int8.evenly(self.samples, count)

    def source(self, fmt: str) -> Path:
        """The file of another format, written before or written now."""
        for folder in (self.folder, self.work):
            if (folder / FORMATS[fmt].file).exists():
                return folder / FORMATS[fmt].file
        return FORMATS[fmt].write(self, self.work)[0]


@dataclass(frozen=True)
class Format:
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
    made = int8.quantize(
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
    "onnx": Format(
        "model.onnx",
        lambda job, folder: onnx.export(job.folded, folder, job.io.input_size),
        onnx.OnnxModel,
        1e-5,
    ),
    "onnx-end2end": Format(
        "model-end2end.onnx",
        lambda job, folder: onnx.export_end2end(job.folded, folder, job.io.input_size),
        onnx.EndToEndModel,
    ),
    "onnx-int8": Format(
        "model-int8.onnx",
        lambda job, folder: onnx.export_int8(
            job.source("onnx"), folder, job.affordable(60e9, len(job.samples))
        ),
        onnx.OnnxModel,
    ),
    "ncnn": Format("model-fp32.param", partial(_write_ncnn, "fp32"), partial(_open_ncnn, "fp32"), 1e-5),
    "ncnn-fp16": Format("model-fp16.param", partial(_write_ncnn, "fp16"), partial(_open_ncnn, "fp16")),
    "ncnn-int8": Format("model-int8.param", _write_ncnn_int8, partial(_open_ncnn, "int8")),
    "mnn": Format("model-fp32.mnn", partial(_write_mnn, "fp32"), mnn.MnnModel, 1e-5),
    "mnn-fp16": Format("model-fp16.mnn", partial(_write_mnn, "fp16"), mnn.MnnModel),
    "mnn-int8-weights": Format("model-int8-weights.mnn", partial(_write_mnn, "int8-weights"), mnn.MnnModel),
    "mnn-int8": Format("model-int8.mnn", partial(_write_mnn, "int8"), mnn.MnnModel),
    "caffe": Format(
        "model.prototxt",
        lambda job, folder: caffe.export(job.folded, folder, job.io.input_size),
        caffe.CaffeModel,
        2e-5,
    ),
    "darknet": Format(
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
# Difference to torch that passes beside `Format.tolerance`, in units of torch's own distance from float64: a
# network with random weights can turn rounding into 1e-3, a trained one stays near 2e-6.
NOISE = 4


def formats_of(model: TorchNetwork) -> list[str]:
    """The formats that a network can be written in."""
    return [fmt for fmt in FORMATS if isinstance(model, Detector) or fmt not in FOR_DETECTORS]


def export_model(
    model: TorchNetwork,
    output: str | Path,
    formats: Sequence[str] = DEFAULT,
    size: tuple[int, int] | None = None,
    calibration: str | Path | Sequence[str | Path] | None = None,
    detection_output: bool = False,
    method: str = "best",
    float_layers: Sequence[str] | None = None,
    cpp: bool = False,
    name: str = "",
) -> dict[str, Any]:
    """Write `formats` of `model` into the folder `output`, with spec.json and parity.json; -> parity.json.

    `size`: network input (w, h), the network's own unless given. `calibration`: the pictures that int8
    formats need (`int8.calibration_inputs`); `method` and `float_layers` as `int8.quantize` has them. `cpp`
    adds a C++ sample that runs the ncnn files. Landmark networks have every format but those
    `FOR_DETECTORS`; their calibration pictures are faces cut out (`toolkit.faces.cut`). The folder appears
    whole or not at all; it replaces an older export, never another folder, and takes over its timing.json,
    and its threshold where name and io are the same. Raises InputError for what
    cannot be exported so, a float32 file that differs from torch by more than its tolerance and `NOISE` allow
    among it; nothing is written then.
    """
    output = Path(output)
    unknown = [fmt for fmt in formats if fmt not in FORMATS]
    if unknown or not formats:
        raise InputError(
            f"unknown format {unknown[0] if unknown else '(none)'}: known are {', '.join(FORMATS)}"
        )
    if output.exists() and not (output / "spec.json").exists():
        raise InputError(f"{output} exists and is no exported network: name another folder")
    if isinstance(model, LandmarkNet) and (detection_output or set(formats) & set(FOR_DETECTORS)):
        raise InputError(
            f"a landmark network has no boxes to decode, which {', '.join(FOR_DETECTORS)} and detection "
            "output are for: leave them out"
        )
    size = model.io.check_size(size or model.io.input_size)
    io: NetworkIO = replace(model.io, input_size=size)
    samples = np.zeros((0, 3, size[1], size[0]), np.float32)
    if any(fmt in CALIBRATED for fmt in formats):
        if calibration is None:
            wanting = next(fmt for fmt in formats if fmt in CALIBRATED)
            raise InputError(f"{wanting} is calibrated on pictures: name a folder or list (--calibration)")
        samples = int8.calibration_inputs(calibration, io)
    model = model.eval()
    x = probe_input(io)
    wanted = model.predict(x)
    noise, _ = compare(copy.deepcopy(model).double().predict(x), wanted)
    parity: dict[str, Any] = {}
    with whole_folder(output) as folder, tempfile.TemporaryDirectory() as work:
        job = Job(model, fold(model), io, folder, Path(work), samples, detection_output, method, float_layers)
        entries: dict[str, Any] = {}
        for fmt in progress([fmt for fmt in FORMATS if fmt in formats], "export"):
            entries[fmt] = _entry(FORMATS[fmt].file, FORMATS[fmt].write(job, folder))
            opened = FORMATS[fmt].open(folder / FORMATS[fmt].file, io, 0)
            if fmt == "onnx-end2end":
                parity[fmt] = _same_detections(job.model, opened, x)
                continue
            difference, reach = compare(wanted, opened.predict(x))
            tolerance = FORMATS[fmt].tolerance
            limit = None if tolerance is None else max(tolerance * max(1.0, reach), NOISE * noise)
            parity[fmt] = {
                "max_difference": difference,
                "largest_output": reach,
                "relative_difference": difference / max(1.0, reach),
                "float32_noise": noise,
                "tolerance": limit,
                **job.notes.get(fmt, {}),
            }
            if limit is not None and not difference <= limit:
                raise InputError(
                    f"{fmt} differs from torch by {difference:.2g}, not at most {limit:.2g}, and nothing was "
                    "written: leave that format out, and report the network"
                )
        if cpp:
            shutil.copytree(Path(__file__).parent / "cpp", folder / "cpp")
        engines = {fmt.partition("-")[0] for fmt in entries}
        packages = {"torch", *(package for engine in engines for package in PACKAGES.get(engine, ()))}
        spec = {
            "name": name or getattr(getattr(model, "spec", None), "name", output.name),
            "io": io.as_dict(),
            "input": {"onnx": onnx.INPUT, "ncnn": ncnn.INPUT, "mnn": mnn.INPUT, "caffe": caffe.INPUT},
            "outputs": {
                engine: [f"{stem}{i}" for i in range(io.outputs)]
                for engine, stem in (("onnx", "map"), ("ncnn", "out"), ("mnn", "map"), ("caffe", "map"))
            },
            **({"threshold": 0.25} if isinstance(io, ModelIO) else {}),
            "formats": entries,
            "versions": {package: importlib.metadata.version(package) for package in sorted(packages)},
            "environment": environment(),
        }
        if output.exists():
            _take_over(output, folder, spec)
        (folder / "spec.json").write_text(json.dumps(spec, indent=1) + "\n")
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
    return parity


def _take_over(old: Path, folder: Path, spec: dict[str, Any]) -> None:
    """What was measured with and chosen for an older export of the folder."""
    if (old / "timing.json").exists():  # its readings name their files' sha256
        shutil.copy(old / "timing.json", folder)
    try:
        before = read_spec(old)
    except InputError:
        return  # damaged: to be exported anew
    same = all(before.get(key) == json.loads(json.dumps(spec[key])) for key in ("name", "io"))
    if same and "threshold" in before:
        spec["threshold"] = before["threshold"]


def _same_detections(model: Detector, opened: onnx.EndToEndModel, x: NDArray[np.float32]) -> dict[str, Any]:
    """torch's detections on `x`, from the 300 best candidates, and how many an end-to-end file finds."""
    (candidates,) = model.decode(model.predict(x), 0.0)
    best = np.sort(candidates.scores)[::-1]
    settings = Settings(conf=float(best[: 300 + 1][-1])) if len(best) else Settings()
    (candidates,) = model.decode(model.predict(x), settings.conf)
    wanted = suppress(candidates, settings)
    (found,) = opened.find(x, settings.conf, settings.iou)
    pairs = matched(wanted, found)
    if pairs < 0.98 * max(len(wanted.scores), len(found.scores)):
        raise InputError(
            f"onnx-end2end finds {pairs} of torch's {len(wanted.scores)} detections and "
            f"{len(found.scores) - pairs} others, and nothing was written: leave that format out, and report "
            "the network"
        )
    return {"detections": len(wanted.scores), "matched": pairs, "extra": len(found.scores) - pairs}


def _entry(file: str, files: Sequence[Path]) -> dict[str, Any]:
    facts = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in files
    }
    return {"file": file, "files": facts}


def probe_input(io: NetworkIO) -> np.ndarray:
    """(1, 3, H, W): a photograph at the network's size, the same for every comparison."""
    from skimage.data import astronaut

    from toolkit.detect import preprocess

    return preprocess(astronaut(), io)[0][None]


def compare(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> tuple[float, float]:
    """Largest absolute difference over all maps, and the largest absolute value wanted."""
    differences = [np.abs(a - b).max() for a, b in zip(wanted, found, strict=True)]
    # numpy's maximum: a NaN in any map must come out
    return float(np.max(differences)), float(np.max([np.abs(a).max() for a in wanted]))


def read_spec(folder: str | Path) -> dict[str, Any]:
    """spec.json of an exported folder. Raises InputError where it is missing or damaged."""
    folder = Path(folder)
    try:
        spec = json.loads((folder / "spec.json").read_text())
        io = read_io(spec["io"])
        io.check_size((int(io.input_size[0]), int(io.input_size[1])))
        whole = bool(spec["formats"]) and all(e["file"] in e["files"] for e in spec["formats"].values())
    except OSError:
        raise InputError(f"{folder} has no spec.json: expected a folder made by toolkit export") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{folder / 'spec.json'} is damaged: export the network again")
    strange = sorted(set(spec["formats"]) - set(FORMATS))
    if strange:
        raise InputError(
            f"{folder} holds the format {strange[0]}, which this version does not know: update it"
        )
    return spec


def write_threshold(source: str, threshold: float) -> None:
    """Keep a chosen threshold in spec.json, where `source` (as for `open_model`) is an exported folder."""
    folder = Path(source.partition(":")[0])
    if folder.is_dir():
        spec = {**read_spec(folder), "threshold": threshold}
        with whole_file(folder / "spec.json") as temporary:
            temporary.write_text(json.dumps(spec, indent=1) + "\n")


def open_export(folder: str | Path, fmt: str = "", threads: int = 0) -> Any:
    """A network exported before, a `Backend` or a `LandmarkBackend`; `fmt` is one of its formats, the first
    unless given.

    "openvino" opens the ONNX file in OpenVINO. Every file is checked against the sha256 in spec.json.
    `threads`: 0 leaves the choice to the engine.
    """
    folder = Path(folder)
    spec = read_spec(folder)
    fmt = fmt or next(iter(spec["formats"]))
    file_of = "onnx" if fmt == "openvino" else fmt
    if file_of not in spec["formats"]:
        raise InputError(f"{folder} has no {file_of}: it has {', '.join(spec['formats'])}")
    entry = spec["formats"][file_of]
    for file, facts in entry["files"].items():
        path = folder / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
            raise InputError(
                f"{path} is missing or differs from spec.json (sha256): export the network again"
            )
    io = read_io(spec["io"])
    if fmt == "openvino":
        return openvino.OpenVinoModel(folder / entry["file"], io, threads)
    return FORMATS[fmt].open(folder / entry["file"], io, threads)


def open_model(source: str, weights: str | Path | None = None, threads: int = 0) -> Backend:
    """The detector that `open_network` finds. Raises InputError where it is none."""
    network = open_network(source, weights, threads)
    if isinstance(network.io, LandmarkIO):
        raise InputError(
            f"{source} places landmarks and finds no objects: name one of "
            f"{', '.join(list_models('detection'))}, a .cfg file or an exported detector"
        )
    return network


def open_landmarks(source: str, weights: str | Path | None = None, threads: int = 0) -> LandmarkBackend:
    """The landmark network that `open_network` finds. Raises InputError where it is none."""
    network = open_network(source, weights, threads)
    if not isinstance(network.io, LandmarkIO):
        raise InputError(
            f"{source} finds objects and places no landmarks: name {', '.join(list_models('landmarks'))} or "
            "an exported landmark network"
        )
    return network


def open_network(source: str, weights: str | Path | None = None, threads: int = 0) -> Any:
    """What people name on the command line, a `Backend` or a `LandmarkBackend`:

    a network of the zoo (`fastest-v2`; published weights where there are any and none are given), a darknet
    .cfg (with the .weights and .names of its name, or the only .names, beside it), a checkpoint of a training
    (`RUN/best.pt`), or an exported folder, `FOLDER` or `FOLDER:FORMAT`.
    """
    if source in list_models():
        if weights is None and has_published_weights(source):
            weights = "published"
        if weights is None:
            raise InputError(f"{source} has no published weights: name a .weights or .pt file with --weights")
        return create_model(source, weights)
    path, _, fmt = source.partition(":")
    if Path(path).suffix == ".cfg":
        beside = Path(path).with_suffix(".weights")
        if weights is None and not beside.is_file():
            raise InputError(f"there is no {beside} beside the cfg: name the weights with --weights")
        named = Path(path).with_suffix(".names")
        others = list(Path(path).parent.glob("*.names"))
        names = named if named.is_file() else others[0] if len(others) == 1 else None
        return load_darknet(path, weights or beside, names)
    if Path(path).suffix == ".pt" and weights is None:
        return trained(path).eval()
    if Path(path).is_dir():
        if weights is not None:
            raise InputError(f"{path} is an exported network and has its weights: leave --weights out")
        return open_export(path, fmt, threads)
    raise InputError(
        f"{source!r} is no network: expected one of {', '.join(list_models())}, a .cfg or .pt file or an "
        "exported folder"
    )
