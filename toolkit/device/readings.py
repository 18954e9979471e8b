"""Readings: the runner's JSON, checked, and kept in timing.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from toolkit.export.folder import Exported
from toolkit.files import write_json
from toolkit.runtime import InputError

STAGES = ("preprocess", "inference", "postprocess", "landmarks")  # the last one where a cascade was timed
EMULATORS = ("goldfish", "ranchu")  # Build.HARDWARE of Android's own
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Model(_Part):
    name: str
    format: Literal["ncnn", "ncnn-fp16", "ncnn-int8"]
    sha256: dict[str, str] = Field(min_length=1)


class Input(_Part):
    picture: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class RunnerSettings(_Part):
    threads: int = Field(ge=1)
    powersave: Literal[0, 1, 2]
    precision: Literal["fp32", "fp16", "int8"]
    vulkan: bool = False
    conf: float
    run_as: Literal["program", "app"]


class Samples(_Part):
    """One entry for each timed loop; `start_ms` counts from the first, `landmarks_ms` is of all faces
    together."""

    start_ms: list[Milliseconds] = Field(min_length=1)
    preprocess_ms: list[Milliseconds]
    inference_ms: list[Milliseconds]
    postprocess_ms: list[Milliseconds]
    landmarks_ms: list[Milliseconds] | None = None

    @model_validator(mode="after")
    def _even(self) -> Samples:
        lists = [getattr(self, name) for name in type(self).model_fields]
        if len({len(values) for values in lists if values is not None}) > 1:
            raise ValueError("the lists of samples differ in length")
        return self

    @property
    def stages(self) -> dict[str, NDArray[np.float64]]:
        """Milliseconds (N,) of each stage that was timed, in running order."""
        lists = {stage: getattr(self, f"{stage}_ms") for stage in STAGES}
        return {stage: np.array(values) for stage, values in lists.items() if values is not None}


class Detection(_Part):
    label: str = Field(alias="class")
    score: float
    box: tuple[float, float, float, float]  # xyxy px of the picture, not clipped
    landmarks: list[tuple[float, float]] | None = None  # x, y px of the picture


class Reading(_Part):
    """A benchmark as the runner prints it, with the device, the date and the parity that `measure` adds."""

    version: Literal[1] = Field(alias="schema")
    kind: Literal["bench"]
    model: Model
    landmarks: Model | None = None  # the landmark network of a cascade
    input: Input
    settings: RunnerSettings
    runtime: dict[str, Any]
    cpu: dict[str, Any]
    load_ms: Milliseconds
    samples: Samples
    detections: list[Detection]
    device: dict[str, Any] = {}
    date: str = ""
    emulated: bool = False
    parity: dict[str, Any] = {}

    def as_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def network(self) -> str:
        """The name of the network, or of both of a cascade."""
        return self.model.name if self.landmarks is None else f"{self.model.name} + {self.landmarks.name}"

    @property
    def machine(self) -> str:
        """Where it was made, in words for tables and figures."""
        if self.device.get("kind") == "local":
            return f"this machine: {self.device['cpu']}, not a phone"
        words = [str(self.device[key]) for key in ("manufacturer", "model") if self.device.get(key)]
        return " ".join(dict.fromkeys(words)) or "unknown device"


def read_reading(data: Any, source: str) -> Reading:
    """A reading from parsed JSON; `source` names it in the error."""
    try:
        return Reading.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the whole"
        raise InputError(
            f"{source} is not a reading of this version (schema 1): {where}: {fault['msg'].lower()}; make it "
            "with toolkit time or the app's benchmark"
        ) from None


def read_timings(folder: str | Path) -> list[Reading]:
    """The readings that an exported folder keeps, oldest first; none where it was never timed."""
    file = Exported.read(folder).timing_file
    return _read_file(file) if file.exists() else []


def _read_file(file: Path) -> list[Reading]:
    """A file with one reading, a list of them, or {"readings": [...]}."""
    try:
        data = json.loads(file.read_text())
    except OSError:
        raise InputError(f"there is no file {file} with readings") from None
    except ValueError:
        raise InputError(f"{file} is not JSON: expected readings of toolkit time or of the app") from None
    rows = data.get("readings", [data]) if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise InputError(f"{file} holds no readings: expected those of toolkit time or of the app")
    return [read_reading(row, str(file)) for row in rows]


def keep(folder: str | Path, readings: Iterable[Reading]) -> int:
    """Add readings to timing.json of an exported folder; one that is there already is left out. -> how many
    are new."""
    file = Path(folder) / "timing.json"
    with FileLock(file.with_name(".timing.json.lock")):  # two terminals may time two phones at once
        stored = read_timings(folder)
        new = [reading for reading in readings if reading not in stored]
        write_json(file, {"readings": [reading.as_dict() for reading in (*stored, *new)]})
    return len(new)


def import_readings(files: Sequence[str | Path], exports: str | Path = "exports") -> dict[Path, int]:
    """Readings made inside the app, into the exported folders below `exports` that have the same sha256.
    -> {folder: new readings}. A cascade's go to its detector. Raises InputError, and keeps nothing, where one
    fits no folder."""
    found_specs = sorted(Path(exports).rglob("spec.json"))
    folders = [path.parent for path in found_specs if "assets" not in path.parts]  # an app's copies
    exported = {folder: Exported.read(folder) for folder in folders}
    by_hash = {
        files_fingerprint({name: facts.sha256 for name, facts in network.facts(fmt).items()}): folder
        for folder, network in exported.items()
        for fmt in network.formats
    }
    added: dict[Path, list[Reading]] = {}
    for file in files:
        for reading in _read_file(Path(file)):
            networks = [reading.model, *([reading.landmarks] if reading.landmarks else [])]
            for network in networks:
                if files_fingerprint(network.sha256) not in by_hash:
                    raise InputError(
                        f"{file} is of a network {network.name} ({network.format}) whose sha256 none of the "
                        f"{len(folders)} exported networks in {exports} has: name their folder with --exports"
                    )
            folder = by_hash[files_fingerprint(reading.model.sha256)]
            emulated = reading.emulated or reading.device.get("hardware") in EMULATORS
            added.setdefault(folder, []).append(reading.model_copy(update={"emulated": emulated}))
    return {folder: keep(folder, readings) for folder, readings in added.items()}


def files_fingerprint(hashes: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """What an ncnn format consists of; a .detection.param beside it is none of the runner's."""
    return frozenset((name, value) for name, value in hashes.items() if not name.endswith(".detection.param"))
