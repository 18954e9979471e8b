"""Exported networks: one folder each, written whole, checked against torch, opened again as a detector."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import toolkit.export.ncnn
import toolkit.export.onnx
from toolkit.detect import Backend
from toolkit.models.darknet import load_darknet
from toolkit.models.detector import Detector, fold
from toolkit.models.spec import ModelIO
from toolkit.models.zoo import SPECS, create_model, published_files
from toolkit.runtime import InputError, environment, progress, whole_file, whole_folder

FORMATS = ("onnx", "ncnn", "ncnn-fp16")
# Largest difference to torch that passes, relative to the largest output (14 to 30 in the published
# networks), or NOISE times torch's own distance from float64, whichever is more: a network with random
# weights can turn rounding into 1e-3, a trained one stays near 2e-6.
TOLERANCES = {"onnx": 1e-5, "ncnn": 1e-5}
NOISE = 4


def export_model(
    model: Detector,
    output: str | Path,
    formats: Sequence[str] = FORMATS,
    size: tuple[int, int] | None = None,
    detection_output: bool = False,
    name: str = "",
) -> dict[str, Any]:
    """Write `formats` of `model` into the folder `output`, with spec.json and parity.json; -> parity.json.

    `size`: network input (w, h), the network's own unless given. The folder appears whole or not at all; it
    replaces an older export, never another folder. A float32 file that differs from torch by more than
    `TOLERANCES` and `NOISE` allow raises RuntimeError and nothing is written.
    """
    output = Path(output)
    unknown = [fmt for fmt in formats if fmt not in FORMATS]
    if unknown or not formats:
        raise InputError(
            f"unknown format {unknown[0] if unknown else '(none)'}: known are {', '.join(FORMATS)}"
        )
    if output.exists() and not (output / "spec.json").exists():
        raise InputError(f"{output} exists and is no exported network: name another folder")
    size = model.io.check_size(size or model.io.input_size)
    io = ModelIO.from_dict({**model.io.as_dict(), "input_size": size})
    model = model.eval()
    x = probe_input(io)
    wanted = model.predict(x)
    noise, _ = compare(copy.deepcopy(model).double().predict(x), wanted)
    folded = fold(model)
    parity: dict[str, Any] = {}
    with whole_folder(output) as folder:
        entries: dict[str, Any] = {}
        for fmt in progress(formats, "export"):
            if fmt == "onnx":
                files = toolkit.export.onnx.export(folded, folder, size)
            else:
                precision = "fp16" if fmt == "ncnn-fp16" else "fp32"
                files = toolkit.export.ncnn.export(folded, folder, size, precision, detection_output)
            entries[fmt] = {
                "file": files[0].name,
                "files": {
                    path.name: {
                        "bytes": path.stat().st_size,
                        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    }
                    for path in files
                },
            }
            difference, reach = compare(wanted, _open_file(files[0], io, fmt).predict(x))
            limit = max(TOLERANCES[fmt] * max(1.0, reach), NOISE * noise) if fmt in TOLERANCES else None
            parity[fmt] = {
                "max_difference": difference,
                "largest_output": reach,
                "relative_difference": difference / max(1.0, reach),
                "float32_noise": noise,
                "tolerance": limit,
            }
            if limit is not None and not difference <= limit:
                raise RuntimeError(
                    f"{fmt} differs from torch by {difference:.2g}, not {limit:.2g}: nothing was written"
                )
        spec = {
            "name": name or getattr(getattr(model, "spec", None), "name", output.name),
            "io": io.as_dict(),
            "input": {"onnx": toolkit.export.onnx.INPUT, "ncnn": toolkit.export.ncnn.INPUT},
            "outputs": {
                "onnx": [f"map{i}" for i in range(len(io.heads))],
                "ncnn": [f"out{i}" for i in range(len(io.heads))],
            },
            "threshold": 0.25,
            "formats": entries,
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("torch", "onnx", "onnxscript", "ncnn", "pnnx")
            },
            "environment": environment(),
        }
        (folder / "spec.json").write_text(json.dumps(spec, indent=1) + "\n")
        (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")
    return parity


def probe_input(io: ModelIO) -> np.ndarray:
    """(1, 3, H, W): a photograph at the network's size, the same for every comparison."""
    from skimage.data import astronaut

    from toolkit.detect import preprocess

    return preprocess(astronaut(), io)[0][None]


def compare(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> tuple[float, float]:
    """Largest absolute difference over all maps, and the largest absolute value wanted."""
    difference = max(float(np.abs(a - b).max()) for a, b in zip(wanted, found, strict=True))
    return difference, max(float(np.abs(a).max()) for a in wanted)


def _open_file(path: Path, io: ModelIO, fmt: str, threads: int = 0) -> Backend:
    if fmt == "onnx":
        return toolkit.export.onnx.OnnxModel(path, io, threads)
    return toolkit.export.ncnn.NcnnModel(path, io, "fp16" if fmt.endswith("fp16") else "fp32", threads)


def read_spec(folder: str | Path) -> dict[str, Any]:
    """spec.json of an exported folder. Raises InputError where it is missing or damaged."""
    folder = Path(folder)
    try:
        spec = json.loads((folder / "spec.json").read_text())
        ModelIO.from_dict(spec["io"])
        return spec
    except OSError:
        raise InputError(f"{folder} has no spec.json: expected a folder made by toolkit export") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'spec.json'} is damaged: export the network again") from None


def write_threshold(source: str, threshold: float) -> None:
    """Keep a chosen threshold in spec.json, where `source` (as for `open_model`) is an exported folder."""
    folder = Path(source.partition(":")[0])
    if folder.is_dir():
        spec = {**read_spec(folder), "threshold": threshold}
        with whole_file(folder / "spec.json") as temporary:
            temporary.write_text(json.dumps(spec, indent=1) + "\n")


def open_export(folder: str | Path, fmt: str = "", threads: int = 0) -> Backend:
    """A network exported before; `fmt` is one of its formats, the first unless given.

    Every file is checked against the sha256 in spec.json. `threads`: 0 leaves the choice to the engine.
    """
    folder = Path(folder)
    spec = read_spec(folder)
    fmt = fmt or next(iter(spec["formats"]))
    if fmt not in spec["formats"]:
        raise InputError(f"{folder} has no {fmt}: it has {', '.join(spec['formats'])}")
    entry = spec["formats"][fmt]
    for file, facts in entry["files"].items():
        path = folder / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
            raise InputError(
                f"{path} is missing or differs from spec.json (sha256): export the network again"
            )
    return _open_file(folder / entry["file"], ModelIO.from_dict(spec["io"]), fmt, threads)


def open_model(source: str, weights: str | Path | None = None, threads: int = 0) -> Backend:
    """What people name on the command line:

    a network of the zoo (`fastest-v2`; published weights where there are any and none are given), a darknet
    .cfg (with the .weights and .names of its name, or the only .names, beside it), or an exported folder,
    `FOLDER` or `FOLDER:FORMAT`.
    """
    if source in SPECS:
        if weights is None and f"{source}/{source}.weights" in published_files():
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
    if Path(path).is_dir():
        if weights is not None:
            raise InputError(f"{path} is an exported network and has its weights: leave --weights out")
        return open_export(path, fmt, threads)
    raise InputError(
        f"{source!r} is no network: expected one of {', '.join(SPECS)}, a .cfg file or an exported folder"
    )
