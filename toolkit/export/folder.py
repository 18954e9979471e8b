"""An exported network on disk: spec.json, its files, its threshold, and opening it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.export import openvino
from toolkit.export.registry import FORMATS
from toolkit.models.io import read_io
from toolkit.runtime import InputError, whole_file


def file_entry(file: str, files: Sequence[Path]) -> dict[str, Any]:
    facts = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in files
    }
    return {"file": file, "files": facts}


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
