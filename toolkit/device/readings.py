"""Readings: the runner's JSON, checked, and kept in timing.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from toolkit.device.settings import HERE_FORMATS, RUNNER_FORMATS
from toolkit.export.folder import Count, Distance, Exported, FileName, Finite, Sha256, Word
from toolkit.files import locked, write_json
from toolkit.runtime import InputError
from toolkit.text import MEGABYTE, one_line, read_json

STAGES = ("preprocess", "inference", "postprocess", "landmarks")  # the last one where a cascade was timed
EMULATORS = ("goldfish", "ranchu")  # Build.HARDWARE of Android's own
READINGS_BYTES = 64 * MEGABYTE  # of a file, and of what a device sends
UNKNOWN = "unknown device"
MOST_SAMPLES = 500_000  # of a reading; the runner ends there too
Times = Annotated[list[Distance], Field(max_length=MOST_SAMPLES)]  # ms
Point = tuple[Finite, Finite]


def _can_be_timed(name: str) -> str:
    if name not in (*RUNNER_FORMATS, *HERE_FORMATS):
        raise ValueError(f"it is none of the formats that are timed ({', '.join(RUNNER_FORMATS)} and others)")
    return name


TimedFormat = Annotated[str, AfterValidator(_can_be_timed)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Model(_Part):
    name: Word
    format: TimedFormat
    sha256: dict[FileName, Sha256] = Field(min_length=1, max_length=100)


class Input(_Part):
    picture: Word
    width: int = Field(ge=1, le=10**6)
    height: int = Field(ge=1, le=10**6)


class RunnerSettings(_Part):
    threads: int = Field(ge=1, le=1024)
    powersave: Literal[0, 1, 2]
    precision: Literal["fp32", "fp16", "int8"]
    vulkan: bool = False
    conf: float = Field(ge=0, le=1)
    iou: float | None = Field(None, ge=0, le=1)  # the usual one where none is given
    run_as: Literal["program", "app", "browser", "package"]  # package: an engine's, for Python
    backend: Literal["", "wasm", "webgpu"] = ""  # of a browser


class Samples(_Part):
    """One entry for each timed loop; `start_ms` counts from the first, `landmarks_ms` is of all faces
    together."""

    start_ms: Annotated[Times, Field(min_length=1)]
    preprocess_ms: Times
    inference_ms: Times
    postprocess_ms: Times
    landmarks_ms: Times | None = None

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
    label: Annotated[str, Field(max_length=1000)] = Field(alias="class")
    score: float = Field(ge=0, le=1)
    box: tuple[Finite, Finite, Finite, Finite]  # xyxy px of the picture, not clipped
    landmarks: list[Point] | None = Field(None, max_length=10_000)  # x, y px of the picture


class Agreement(_Part):
    """How far the detections are from those of this machine (`agreement.compare_detections`)."""

    wanted: Count
    found: Count
    matched: Count
    score: Distance
    box_px: Distance
    points: Distance | None = None
    agrees: bool | None


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
    load_ms: Distance
    samples: Samples
    detections: list[Detection] = Field(max_length=100_000)
    device: dict[str, Any] = {}
    date: Word = ""
    emulated: bool = False
    parity: dict[str, Any] = {}

    @field_validator("parity")
    @classmethod
    def _compared(cls, parity: dict[str, Any]) -> dict[str, Any]:
        if parity:
            Agreement.model_validate(parity)
        return parity

    def as_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def network(self) -> str:
        """The name of the network, or of both of a cascade."""
        return self.model.name if self.landmarks is None else f"{self.model.name} + {self.landmarks.name}"

    @property
    def machine(self) -> str:
        """Where it was made, in words for tables and figures."""
        if self.settings.run_as != "browser":
            return self.place
        known = f" on {self.place}" if self.place != UNKNOWN else ""
        return f"browser ({self.settings.backend}), not native: {_browser(self.device)}{known}"

    @property
    def place(self) -> str:
        """The machine alone, whatever ran on it; `UNKNOWN` where a browser does not tell."""
        if self.device.get("kind") == "local" or self.device.get("address") == "browser":
            return f"this machine: {one_line(str(self.device.get('cpu')))}, not a phone"
        words = [one_line(str(self.device[key])) for key in ("manufacturer", "model") if self.device.get(key)]
        return " ".join(dict.fromkeys(words)) or UNKNOWN


def _browser(device: Mapping[str, Any]) -> str:
    """Name and system of a browser, from what it says of itself."""
    agent = one_line(str(device.get("user_agent", "")), 300)
    system = re.search(r"\(([^;)]+)", agent)
    # the last of them that is named: the others are there for the sake of old pages
    names = re.findall(r"(Chrome|Firefox|Edg|OPR|Version)/(\d+)", agent)
    name = f"{names[-1][0]} {names[-1][1]}".replace("Version", "Safari") if names else "unknown"
    return f"{name}, {system[1]}" if system else name


def read_reading(data: Any, source: str) -> Reading:
    """A reading from parsed JSON; `source` names it in the error."""
    try:
        return Reading.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part)[:40] for part in fault["loc"]) or "the whole"
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
    data = read_json(file, READINGS_BYTES)
    rows = data.get("readings", [data]) if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise InputError(f"{file} holds no readings: expected those of toolkit time or of the app")
    return [read_reading(row, str(file)) for row in rows]


def keep(folder: str | Path, readings: Iterable[Reading]) -> int:
    """Add readings to timing.json of an exported folder; one that is there already is left out. -> how many
    are new. Raises InputError for a reading of other files than the folder has, and for too many."""
    file = Path(folder) / "timing.json"
    with locked(file, wait=True):  # two terminals may time two phones at once
        exported = Exported.read(folder)
        stored = read_timings(folder)
        new = [reading for reading in readings if reading not in stored]
        for reading in new:
            check_files(reading.model, exported)
        data = {"readings": [reading.as_dict() for reading in (*stored, *new)]}
        if len(json.dumps(data, indent=1)) > READINGS_BYTES:
            raise InputError(
                f"{file} would have more than {READINGS_BYTES:,} bytes: move it away, and begin anew"
            )
        write_json(file, data)
    return len(new)


def check_files(model: Model, exported: Exported) -> None:
    """InputError where a reading is of other files (sha256) than a folder has."""
    if files_fingerprint(model.sha256) != files_fingerprint(exported.sha256(model.format)):
        raise InputError(
            f"a reading of {model.name} ({model.format}) is of files with another sha256 than those in "
            f"{exported.folder}: time the network again"
        )


def import_readings(files: Sequence[str | Path], exports: str | Path = "exports") -> dict[Path, int]:
    """Readings made inside the app, into the exported folders below `exports` that have the same sha256.
    -> {folder: new readings}. A cascade's go to its detector. Raises InputError, and keeps nothing, where one
    fits no folder."""
    folders = [
        path.parent
        for path in sorted(Path(exports).rglob("spec.json"))
        # neither an app's copies nor the unfinished folder of an export that was killed
        if not any(part == "assets" or part.startswith(".") for part in path.relative_to(exports).parts)
    ]
    exported = {folder: Exported.read(folder) for folder in folders}
    by_hash = {
        files_fingerprint(network.sha256(fmt)): folder
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
