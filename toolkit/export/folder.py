"""An exported network on disk: spec.json, its files, its threshold, and opening it again."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.export.litert.model import Numbers
from toolkit.export.registry import FORMATS
from toolkit.export.trial import try_out
from toolkit.files import write_json
from toolkit.models.io import HeadIO, LandmarkIO, ModelIO, NetworkIO, read_io
from toolkit.models.network import Network
from toolkit.runtime import InputError
from toolkit.tables import Shown
from toolkit.text import check_record, one_line, read_record, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REMEDY = "export the network again"

Word = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
# A file of the folder itself, on any system.
FileName = Annotated[str, Field(max_length=255, pattern=r"^[^/\\:\x00-\x1f\x7f]*[^/\\:\x00-\x1f\x7f.]$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**40)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Distance = Annotated[Finite, Field(ge=0)]


@dataclass(frozen=True)
class FileFacts:
    """Size and sha256 of one file, as spec.json has them; a file without them fails `Exported.check`."""

    bytes: Count = 0
    sha256: Sha256 = ""

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        return cls(path.stat().st_size, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Format(BaseModel):
    file: FileName
    files: dict[FileName, FileFacts] = Field(max_length=1000)
    tensors: dict[Word, Numbers] = Field({}, max_length=1000)

    @model_validator(mode="after")
    def _has_its_file(self) -> _Format:
        if self.file not in self.files:
            raise ValueError(f"{short(self.file)} is opened and not among the files")
        return self


class _Spec(BaseModel):
    name: Word
    io: dict[str, Any]
    formats: dict[str, _Format] = Field(min_length=1)
    threshold: float | None = Field(None, ge=0, le=1)
    versions: dict[str, str]
    environment: dict[str, Any]


class _Layer(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    error: Finite


class _Comparison(BaseModel):
    """What parity.json says of a format, with notes of its writer."""

    model_config = ConfigDict(extra="allow")

    fault: str = ""
    accepted: str = ""
    max_difference: Distance | None = None
    largest_output: Distance | None = None
    relative_difference: Distance | None = None
    float32_noise: Distance | None = None
    tolerance: Distance | None = None
    detections: Count | None = None
    matched: Count | None = None
    extra: Count | None = None
    fidelity: dict[str, Any] = {}
    sensitivity: list[_Layer] = []
    float_layers: list[str] = []


def _part(data: Any, key: str) -> dict[str, Any]:
    part = data.get(key) if isinstance(data, dict) else None
    return part if isinstance(part, dict) else {}


def _check_newer(folder: Path, data: Any) -> None:
    """InputError where a spec.json has a format, or a key of its io or of a head, of a newer version."""
    unknown = sorted(set(_part(data, "formats")) - set(FORMATS))
    if unknown:
        raise InputError(
            f"{folder} holds the format {short(unknown[0])}, which this version does not know: update it"
        )
    io = _part(data, "io")
    heads = io["heads"] if isinstance(io.get("heads"), list) else []
    parts: list[tuple[str, Any, type]] = [("io", io, LandmarkIO if "points" in io else ModelIO)]
    parts += [("a head", each, HeadIO) for each in heads if isinstance(each, dict)]
    for place, part, kind in parts:
        unknown = sorted(set(part) - {each.name for each in fields(kind)})
        if unknown:
            raise InputError(
                f"{folder / 'spec.json'} has {short(unknown[0])} in {place}, which this version does not "
                "know: update it"
            )


def _check_links(folder: Path) -> None:
    """InputError for a link that leaves the folder: it could be any file of this machine."""
    root = os.path.realpath(folder)
    with os.scandir(folder) as entries:
        links = [entry.path for entry in entries if entry.is_symlink()]
    for link in links:
        if os.path.dirname(os.path.realpath(link)) != root:
            raise InputError(f"{link} is a link that leaves the folder: put the file itself there")


@dataclass(frozen=True)
class Exported(Shown):
    """An exported folder, as its spec.json describes it. As a table: its formats.

    `files`: format -> file name -> facts. `threshold`: the score from which an object counts; None where
    there is no score. `versions` and `environment`: of the machine that wrote it. `tensors`: format -> what
    the numbers of its inputs and outputs mean, where they are whole ones.
    """

    folder: Path
    name: str
    io: NetworkIO
    files: Mapping[str, Mapping[str, FileFacts]]
    threshold: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Mapping[str, Numbers]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> Exported:
        """Reads spec.json. Raises InputError, with the field, where it is missing, damaged, of a newer
        version, or names files outside the folder."""
        folder = Path(folder)
        file = folder / "spec.json"
        if not file.exists():
            raise InputError(f"{folder} has no spec.json: expected a folder made by toolkit export")
        _check_links(folder)
        data = read_record(file, dict[str, Any], REMEDY)
        _check_newer(folder, data)
        spec = check_record(data, _Spec, file, REMEDY)
        io = read_io(spec.io, str(file))
        files = {fmt: entry.files for fmt, entry in spec.formats.items()}
        tensors = {fmt: entry.tensors for fmt, entry in spec.formats.items() if entry.tensors}
        return cls(folder, spec.name, io, files, spec.threshold, spec.versions, spec.environment, tensors)

    def caption(self) -> str:
        """The network and the formats that were left out."""
        width, height = self.io.input_size
        left_out = {fmt: facts.get("fault") for fmt, facts in self.parity().items() if fmt not in self.files}
        faults = [f"; {fmt} was left out: it {fault}" for fmt, fault in left_out.items() if fault]
        return f"{self.name}, {width}x{height}{''.join(faults)}"

    def columns(self) -> dict[str, list[str]]:
        """Size of each format, and how far its outputs were from torch's when it was written."""
        parity = self.parity()
        facts = [parity.get(fmt, {}) for fmt in self.formats]
        return {
            "format": list(self.formats),
            "kB": [f"{self.bytes(fmt) / 1000:,.1f}" for fmt in self.formats],
            "difference / largest output": [_shortly(each.get("relative_difference")) for each in facts],
            "allowed": [_allowed(each) for each in facts],
        }

    def figure(self) -> Figure:
        """The two side by side, by precision."""
        from toolkit import viz

        parity = self.parity()
        differences = [parity.get(fmt, {}).get("relative_difference") or math.nan for fmt in self.formats]
        columns = {
            "kB": [self.bytes(fmt) / 1000 for fmt in self.formats],
            "difference / largest output": differences,
        }
        precisions = [FORMATS[fmt].precision for fmt in self.formats]
        return viz.panels(self.formats, columns, groups=precisions, log=["difference / largest output"])

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the formats in the folder."""
        return tuple(self.files)

    @property
    def timing_file(self) -> Path:
        """Where readings of devices are kept."""
        return self.folder / "timing.json"

    def of_engine(self, engine: str) -> tuple[str, ...]:
        """Names of the formats in the folder that `engine` runs."""
        return tuple(fmt for fmt in self.formats if FORMATS[fmt].engine == engine)

    def facts(self, fmt: str) -> Mapping[str, FileFacts]:
        """Files of a format, or of the one whose files it opens. Raises InputError where it is not here."""
        stored = FORMATS[fmt].opens or fmt if fmt in FORMATS else fmt
        if stored not in self.files:
            fault = self.parity().get(stored, {}).get("fault", "")
            why = f"; {stored} was left out, because it {one_line(fault)}" if fault else ""
            raise InputError(f"{self.folder} has no {stored}: it has {', '.join(self.formats)}{why}")
        return self.files[stored]

    def paths(self, fmt: str) -> list[Path]:
        """The files of a format."""
        return [self.folder / name for name in self.facts(fmt)]

    def sha256(self, fmt: str) -> dict[str, str]:
        """File name -> sha256 of the files of a format."""
        return {name: facts.sha256 for name, facts in self.facts(fmt).items()}

    def bytes(self, fmt: str) -> int:
        """Size of all files of a format."""
        return sum(facts.bytes for facts in self.facts(fmt).values())

    def check(self, fmt: str) -> None:
        """Raises InputError where a file of the format is missing or differs from its sha256."""
        for name, facts in self.facts(fmt).items():
            path = self.folder / name
            whole = path.is_file() and path.stat().st_size == facts.bytes and _sha256(path) == facts.sha256
            if not whole:
                raise InputError(
                    f"{path} is missing or differs from spec.json (sha256): export the network again"
                )

    def open(self, fmt: str = "", threads: int = 0) -> Network:
        """The network in a format, the first unless given, its files checked against their sha256.

        `threads`: 0 leaves the choice to the engine.
        """
        fmt = fmt or self.formats[0]
        self.check(fmt)
        if FORMATS[fmt].file not in self.facts(fmt):
            raise InputError(
                f"{self.folder / 'spec.json'} has no {FORMATS[fmt].file} among the files of {fmt}: {REMEDY}"
            )
        path = self.folder / FORMATS[fmt].file
        try_out(FORMATS[fmt].engine, path, self.io, [facts.sha256 for facts in self.facts(fmt).values()])
        return FORMATS[fmt].open(path, self.io, threads)

    def parity(self) -> dict[str, Any]:
        """What parity.json says of every format, those among them that were left out ("fault"). Raises
        InputError, with the field, where it is damaged."""
        file = self.folder / "parity.json"
        if not file.exists():
            return {}
        facts = read_record(file, dict[str, _Comparison], REMEDY)
        return {fmt: comparison.model_dump(exclude_unset=True) for fmt, comparison in facts.items()}

    def as_dict(self) -> dict[str, Any]:
        """The content of spec.json."""
        rows = [row for row in FORMATS.values() if row.input]
        return {
            "name": self.name,
            "io": self.io.as_dict(),
            "input": {row.engine: row.input for row in rows},
            "outputs": {
                row.engine: [f"{row.output}{i}" for i in range(self.io.outputs)] for row in rows if row.output
            },
            "hints": {
                FORMATS[fmt].engine: dict(FORMATS[fmt].hints) for fmt in self.files if FORMATS[fmt].hints
            },
            **({} if self.threshold is None else {"threshold": self.threshold}),
            "formats": {
                fmt: {
                    "file": FORMATS[fmt].file,
                    "files": {name: vars(facts) for name, facts in files.items()},
                    **self._tensors_of(fmt),
                }
                for fmt, files in self.files.items()
            },
            "versions": dict(self.versions),
            "environment": dict(self.environment),
        }

    def _tensors_of(self, fmt: str) -> dict[str, Any]:
        tensors = self.tensors.get(fmt, {})
        return {"tensors": {name: vars(numbers) for name, numbers in tensors.items()}} if tensors else {}

    def save(self, folder: Path | None = None) -> None:
        """Writes spec.json, into another folder where one is given."""
        write_json((folder or self.folder) / "spec.json", self.as_dict())

    def only(self, formats: Sequence[str]) -> Exported:
        """The same network with these formats alone."""
        tensors = {fmt: part for fmt, part in self.tensors.items() if fmt in formats}
        return replace(self, files={fmt: self.files[fmt] for fmt in formats}, tensors=tensors)


def _shortly(number: float | None) -> str:
    return "" if number is None else f"{number:.1g}"


def _allowed(facts: Mapping[str, Any]) -> str:
    """The limit of the difference on the same scale, or that precision is given away on purpose."""
    if facts.get("tolerance") is None:
        return "any" if facts.get("largest_output") is not None else ""
    return f"{facts['tolerance'] / max(1.0, facts['largest_output']):.1g}"


def split_format(source: str) -> tuple[str, str]:
    """`FOLDER:FORMAT` -> its two parts; the format is "" where none is named.

    >>> split_format("exports/net:ncnn"), split_format("C:/nets/net")
    (('exports/net', 'ncnn'), ('C:/nets/net', ''))
    """
    folder, _, fmt = source.rpartition(":")
    if Path(source).exists() or len(folder) < 2:  # "C" is a drive
        return source, ""
    return folder, fmt


def write_threshold(source: str, threshold: float) -> bool:
    """Keeps a chosen threshold in spec.json, where `source` (as for `networks.open_model`) is an exported
    folder; anything else has no place for it. Returns whether it is kept."""
    folder = _exported_folder(source)
    if folder is not None:
        replace(Exported.read(folder), threshold=threshold).save()
    return folder is not None


def kept_threshold(source: str) -> float | None:
    """The threshold of an exported folder, what `write_threshold` has kept or the default; else None."""
    folder = _exported_folder(source)
    return None if folder is None else Exported.read(folder).threshold


def _exported_folder(source: str) -> Path | None:
    folder = Path(split_format(source)[0])
    return folder if (folder / "spec.json").is_file() else None


def open_export(folder: str | Path, fmt: str = "", threads: int = 0) -> Network:
    """Opens an exported network again.

    Args:
        folder: what `export_model` wrote.
        fmt: one of its formats, or "openvino" for the ONNX file in OpenVINO; the first unless given.
        threads: of the engine; 0 leaves the choice to it.

    Returns:
        A network with `io` and `predict`; a detector also has `find`.

    Raises:
        InputError: the folder is not an export, lacks the format, or a file differs from its sha256.
    """
    return Exported.read(folder).open(fmt, threads)


def read_spec(folder: str | Path) -> dict[str, Any]:
    """spec.json of an exported folder as version 0.1 gave it; `Exported.read` has the same as an object."""
    return Exported.read(folder).as_dict()
