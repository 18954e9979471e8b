"""Writing an exported folder, every file compared with torch."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export import caffe, mnn, ncnn, onnx
from toolkit.export.folder import file_entry, read_spec
from toolkit.export.int8 import pictures
from toolkit.export.parity import matched, output_difference, probe_input
from toolkit.export.registry import CALIBRATED, DEFAULT, FOR_DETECTORS, FORMATS, PACKAGES, Job
from toolkit.inference.backend import DetectSettings
from toolkit.models.decode import suppress
from toolkit.models.detector import Detector
from toolkit.models.io import ModelIO, NetworkIO
from toolkit.models.landmarks import LandmarkNet
from toolkit.models.network import TorchNetwork, fold
from toolkit.runtime import InputError, environment, progress, whole_folder

# Difference to torch that passes beside `Format.tolerance`, in units of torch's own distance from float64: a
# network with random weights can turn rounding into 1e-3, a trained one stays near 2e-6.
NOISE = 4


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
        samples = pictures.calibration_inputs(calibration, io)
    model = model.eval()
    x = probe_input(io)
    wanted = model.predict(x)
    noise, _ = output_difference(copy.deepcopy(model).double().predict(x), wanted)
    parity: dict[str, Any] = {}
    with whole_folder(output) as folder, tempfile.TemporaryDirectory() as work:
        job = Job(model, fold(model), io, folder, Path(work), samples, detection_output, method, float_layers)
        entries: dict[str, Any] = {}
        for fmt in progress([fmt for fmt in FORMATS if fmt in formats], "export"):
            entries[fmt] = file_entry(FORMATS[fmt].file, FORMATS[fmt].write(job, folder))
            opened = FORMATS[fmt].open(folder / FORMATS[fmt].file, io, 0)
            if fmt == "onnx-end2end":
                parity[fmt] = _same_detections(job.model, opened, x)
                continue
            difference, reach = output_difference(wanted, opened.predict(x))
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
    settings = DetectSettings(conf=float(best[: 300 + 1][-1])) if len(best) else DetectSettings()
    (candidates,) = model.decode(model.predict(x), settings.conf)
    wanted = suppress(candidates, settings)
    (found,) = opened.find(x, settings)
    pairs = matched(wanted, found)
    if pairs < 0.98 * max(len(wanted.scores), len(found.scores)):
        raise InputError(
            f"onnx-end2end finds {pairs} of torch's {len(wanted.scores)} detections and "
            f"{len(found.scores) - pairs} others, and nothing was written: leave that format out, and report "
            "the network"
        )
    return {"detections": len(wanted.scores), "matched": pairs, "extra": len(found.scores) - pairs}
