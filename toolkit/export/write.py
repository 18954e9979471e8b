"""Writing an exported folder, every file compared with torch."""

from __future__ import annotations

import importlib.metadata
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.export import ncnn
from toolkit.export.folder import Exported, FileFacts
from toolkit.export.int8.pictures import calibration_inputs
from toolkit.export.int8.quantize import check_method
from toolkit.export.onnx import OnnxSettings
from toolkit.export.parity import probe_input
from toolkit.export.registry import DEFAULT, FORMATS, WriteJob, formats_of, written_formats
from toolkit.files import check_place, no_place, temporary_folder, whole_folder, write_json
from toolkit.models.io import NetworkIO
from toolkit.models.network import TorchNetwork, fold
from toolkit.runtime import LINE_SECONDS, InputError, announced, environment, progress

ALL = "all"


def export_model(
    model: TorchNetwork,
    output: str | Path,
    formats: Sequence[str] | str = DEFAULT,
    size: tuple[int, int] | None = None,
    calibration: str | Path | Sequence[str | Path] | None = None,
    detection_output: bool = False,
    method: str = "best",
    float_layers: Sequence[str] | None = None,
    cpp: bool = False,
    name: str = "",
    strict: bool = False,
    accept_loss: bool = False,
    onnx_settings: OnnxSettings = OnnxSettings(),
) -> dict[str, Any]:
    """Writes a network in several formats into one folder, every file compared with torch.

    A format that fails is left out, and the result says why; the others are written. What cannot succeed, for
    want of a package or of pictures, is said in a warning before work begins. The folder appears whole or not
    at all. It replaces an older export, never another folder, and keeps that one's timings, and its
    threshold where name and io are the same.

    Files of lower precision are judged by what they find on the calibration pictures, or on sample
    photographs where there are none (`fidelity.fidelity`).

    Args:
        model: a detector or a landmark network in torch.
        output: the folder, which also gets spec.json and parity.json.
        formats: names in `FORMATS`, or "all" for those that fit the network; landmark networks have every
            format but those for detectors alone.
        size: network input (w, h), the network's own unless given.
        calibration: pictures for int8 formats, a folder, a .txt list or paths (`calibration_inputs`); for
            landmark networks faces cut out (`toolkit.faces.cut`).
        detection_output: adds an ncnn .param that ends in Yolov3DetectionOutput, for older apps.
        method, float_layers: of NCNN int8, see `int8.quantize.quantize`.
        cpp: adds a C++ sample that runs the ncnn files.
        name: the network's name in spec.json; its spec's, or the folder's, unless given.
        strict: all formats or none.
        accept_loss: keeps files of lower precision that lose more than the limit.
        onnx_settings: opset, batch and simplification of the ONNX files.

    Returns:
        The content of parity.json: format -> differences to torch; "fault" says why a format was left out.

    Raises:
        InputError: no format can be written, or with `strict` one cannot: it cannot be made, a float32 file
            differs from torch by more than its tolerance and rounding explain (`parity.map_parity`), or one
            of lower precision loses too much. Nothing is written then.

    >>> from tempfile import mkdtemp
    >>> from toolkit.models.zoo import create_model
    >>> list(export_model(create_model("yoloface-50k"), Path(mkdtemp()) / "net", ["darknet"]))
    ['darknet']
    """
    output = Path(output)
    chosen = _chosen(model, formats)
    check_place(output, "spec.json", "an exported network")
    if detection_output:
        ncnn.check_detection_output(model.io)
    known = _known_faults(chosen, calibration is not None)
    parity: dict[str, dict[str, Any]] = {fmt: {"fault": fault} for fmt, fault in known.items()}
    possible = [fmt for fmt in FORMATS if fmt in chosen and fmt not in known]
    if known and (strict or not possible):
        raise InputError(_sentence(known))
    check_method(method)
    if known:
        warnings.warn(f"left out: {_sentence(known)}", stacklevel=2)
    io = model.io.with_size(size or model.io.input_size)
    samples = _samples(io, calibration)
    model = model.eval()
    with whole_folder(output, durable=True) as folder, temporary_folder() as work:
        job = WriteJob(
            model, fold(model), io, work, samples, detection_output, method, float_layers, onnx_settings
        )
        files: dict[str, dict[str, FileFacts]] = {}
        x = probe_input(io)
        for fmt in progress(possible, "export"):
            with announced(f"writing and comparing {fmt}", LINE_SECONDS):
                parity[fmt] = _attempt(job, fmt, x, accept_loss)
            if "fault" not in parity[fmt]:
                job.made[fmt] = [Path(shutil.move(path, folder / path.name)) for path in job.made[fmt]]
                files[fmt] = {path.name: FileFacts.of(path) for path in job.made[fmt]}
            elif strict:
                break
        faults = faults_of(parity)
        if (strict and faults) or not files:
            raise InputError(f"{_sentence(faults)}, and nothing was written")
        if cpp:
            shutil.copytree(Path(__file__).parent / "cpp", folder / "cpp")
        packages = {"torch", *(package for fmt in files for package in FORMATS[fmt].packages)}
        exported = Exported(
            folder,
            name or getattr(getattr(model, "spec", None), "name", output.name),
            io,
            files,
            io.threshold,
            {package: importlib.metadata.version(package) for package in sorted(packages)},
            environment(),
            {fmt: tensors for fmt in files if (tensors := FORMATS[fmt].tensors(folder / FORMATS[fmt].file))},
        )
        _carry_over(output, exported).save()
        parity = {fmt: parity[fmt] for fmt in FORMATS if fmt in parity}
        write_json(folder / "parity.json", parity)
    return parity


def faults_of(parity: Mapping[str, Any]) -> dict[str, str]:
    """Format -> why it was left out, from what `export_model` returns.

    >>> faults_of({"onnx": {"max_difference": 0.0}, "mnn": {"fault": "differs from torch by 1"}})
    {'mnn': 'differs from torch by 1'}
    """
    return {fmt: facts["fault"] for fmt, facts in parity.items() if "fault" in facts}


def _sentence(faults: Mapping[str, str]) -> str:
    """All faults, each once.

    >>> _sentence({"onnx-int8": "needs pictures", "mnn": "failed: no room", "mnn-int8": "needs pictures"})
    'each of onnx-int8, mnn-int8 needs pictures; mnn failed: no room'
    """
    formats: dict[str, list[str]] = {}
    for fmt, fault in faults.items():
        formats.setdefault(fault, []).append(fmt)
    subjects = [f"each of {', '.join(names)}" if len(names) > 1 else names[0] for names in formats.values()]
    return "; ".join(f"{subject} {fault}" for subject, fault in zip(subjects, formats, strict=True))


def _chosen(model: TorchNetwork, formats: Sequence[str] | str) -> list[str]:
    """The names asked for, all of which fit the network."""
    own = formats_of(model)
    if formats == ALL:
        return own
    names = [formats] if isinstance(formats, str) else list(formats)
    known = written_formats()
    unknown = [fmt for fmt in names if fmt not in known]
    if unknown or not names:
        raise InputError(
            f"unknown format {unknown[0] if unknown else '(none)'}: known are {', '.join(known)}"
        )
    unfit = [fmt for fmt in names if fmt not in own]
    if unfit:
        raise InputError(
            f"a network that finds {model.io.summary} has no boxes to decode, which {' and '.join(unfit)} "
            f"needs: leave it out, or choose among {', '.join(own)}"
        )
    return names


def _known_faults(formats: Sequence[str], has_pictures: bool) -> dict[str, str]:
    """What cannot succeed, before any work."""
    faults = {}
    for fmt in formats:
        missing = FORMATS[fmt].missing_package()
        if missing:
            faults[fmt] = (
                f"needs the package {missing!r}, which is not installed: "
                'run pip install -e ".[export]" in the project folder'
            )
        elif FORMATS[fmt].calibrated and not has_pictures:
            faults[fmt] = "is calibrated on pictures: name a folder or list (--calibration)"
    return faults


def _samples(io: NetworkIO, calibration: str | Path | Sequence[str | Path] | None) -> NDArray[np.float32]:
    if calibration is None:
        return np.zeros((0, io.channels, io.input_size[1], io.input_size[0]), np.float32)
    return calibration_inputs(calibration, io)


def _attempt(job: WriteJob, fmt: str, x: NDArray[np.float32], accept_loss: bool) -> dict[str, Any]:
    """Facts of a format that is written and compared, with its "fault" where it falls short.

    The one place where any exception of an engine counts: the other formats do not depend on it.
    """
    row = FORMATS[fmt]
    facts: dict[str, Any] = {}
    try:
        opened = row.open(job.write(fmt)[0], job.io, 0)
        comparison = row.compare(job.model, opened, x, row.tolerance)
        facts = {**comparison.facts, **job.notes.get(fmt, {})}
        if comparison.fault:
            return {**facts, "fault": comparison.fault}
        if row.instead:
            loss = job.fidelity(opened)
            facts["fidelity"] = loss.facts
            if loss.fault and accept_loss:
                facts["accepted"] = loss.fault
            elif loss.fault:
                facts["fault"] = f"{loss.fault}: use {row.instead}, or accept the loss (--accept-loss)"
    except InputError as error:
        return {**facts, "fault": f"failed: {error}"}
    except Exception as error:
        if no_place(error):  # whatever the format
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return {**facts, "fault": f"failed: {type(error).__name__}: {lines[0] if lines else 'no message'}"}
    return facts


def _carry_over(previous: Path, exported: Exported) -> Exported:
    """Timings and threshold of a previous export of the folder, where it was of the same network."""
    if (previous / "timing.json").exists():  # its readings name their files' sha256
        shutil.copy(previous / "timing.json", exported.folder)
    try:
        before = Exported.read(previous)
    except InputError:
        return exported  # missing, or damaged: that is why it is exported again
    same = (before.name, before.io) == (exported.name, exported.io)
    return replace(exported, threshold=before.threshold) if same else exported
