"""Writing an exported folder, every file compared with torch."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.export.folder import Exported, FileFacts
from toolkit.export.int8.pictures import calibration_inputs
from toolkit.export.parity import probe_input
from toolkit.export.registry import DEFAULT, FORMATS, WriteJob, formats_of, written_formats
from toolkit.models.network import TorchNetwork, fold
from toolkit.runtime import InputError, environment, progress, whole_folder


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
    """Writes a network in several formats into one folder, every file compared with torch.

    The folder appears whole or not at all. It replaces an older export, never another folder, and keeps that
    one's timings, and its threshold where name and io are the same.

    Args:
        model: a detector or a landmark network in torch.
        output: the folder, which also gets spec.json and parity.json.
        formats: names in `FORMATS`; landmark networks have every format but those for detectors alone.
        size: network input (w, h), the network's own unless given.
        calibration: pictures for int8 formats, a folder, a .txt list or paths (`calibration_inputs`); for
            landmark networks faces cut out (`toolkit.faces.cut`).
        detection_output: adds an ncnn .param that ends in Yolov3DetectionOutput, for older apps.
        method, float_layers: of NCNN int8, see `int8.quantize.quantize`.
        cpp: adds a C++ sample that runs the ncnn files.
        name: the network's name in spec.json; its spec's, or the folder's, unless given.

    Returns:
        The content of parity.json: format -> differences to torch.

    Raises:
        InputError: something cannot be exported so, or a float32 file differs from torch by more than its
            tolerance and rounding explain (`parity.map_parity`); nothing is written then.
    """
    output = Path(output)
    names = written_formats()
    unknown = [fmt for fmt in formats if fmt not in names]
    if unknown or not formats:
        raise InputError(
            f"unknown format {unknown[0] if unknown else '(none)'}: known are {', '.join(names)}"
        )
    if output.exists() and not (output / "spec.json").exists():
        raise InputError(f"{output} exists and is not an exported network: name another folder")
    own = formats_of(model)
    unfit = [fmt for fmt in formats if fmt not in own] + ["detection output"] * (
        detection_output and not model.io.heads
    )
    if unfit:
        raise InputError(
            f"a network that finds {model.io.summary} has no boxes to decode, which "
            f"{' and '.join(unfit)} needs: leave it out, or choose among {', '.join(own)}"
        )
    io = model.io.with_size(size or model.io.input_size)
    samples = np.zeros((0, io.channels, io.input_size[1], io.input_size[0]), np.float32)
    calibrated = [fmt for fmt in formats if FORMATS[fmt].calibrated]
    if calibrated:
        if calibration is None:
            raise InputError(
                f"{calibrated[0]} is calibrated on pictures: name a folder or list (--calibration)"
            )
        samples = calibration_inputs(calibration, io)
    model = model.eval()
    x = probe_input(io)
    parity: dict[str, Any] = {}
    with whole_folder(output) as folder, tempfile.TemporaryDirectory() as work:
        job = WriteJob(
            model, fold(model), io, folder, Path(work), samples, detection_output, method, float_layers
        )
        files: dict[str, dict[str, FileFacts]] = {}
        for fmt in progress([fmt for fmt in FORMATS if fmt in formats], "export"):
            row = FORMATS[fmt]
            files[fmt] = {path.name: FileFacts.of(path) for path in row.write(job, folder)}
            comparison = row.compare(model, row.open(folder / row.file, io, 0), x, row.tolerance)
            parity[fmt] = {**comparison.facts, **job.notes.get(fmt, {})}
            if comparison.fault:
                raise InputError(
                    f"{fmt} {comparison.fault}, and nothing was written: leave that format out, and report "
                    "the network"
                )
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
        )
        _carry_over(output, exported).save()
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
    return parity


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
