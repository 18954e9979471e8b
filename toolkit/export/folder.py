"""An exported network on disk: spec.json, its files, its threshold, and opening it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from toolkit.export.registry import FORMATS
from toolkit.files import write_json
from toolkit.models.io import HeadIO, LandmarkIO, ModelIO, NetworkIO, read_io
from toolkit.models.network import Network
from toolkit.runtime import InputError


@dataclass(frozen=True)
class FileFacts:
    """Size and sha256 of one file, as spec.json has them; a file without them fails `Exported.check`."""

    bytes: int = 0
    sha256: str = ""

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        return cls(path.stat().st_size, _sha256(path))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_keys(folder: Path, io: Mapping[str, Any]) -> None:
    """InputError where the io of a spec.json, or one of its heads, has a key of a newer version."""
    parts: list[tuple[str, Mapping[str, Any], type]] = [("io", io, LandmarkIO if "points" in io else ModelIO)]
    parts += [("a head", head, HeadIO) for head in io.get("heads", ())]
    for place, part, kind in parts:
        unknown = sorted(set(part) - {each.name for each in fields(kind)})
        if unknown:
            raise InputError(
                f"{folder / 'spec.json'} has {unknown[0]!r} in {place}, which this version does not know: "
                "update it"
            )


@dataclass(frozen=True)
class Exported:
    """An exported folder, as its spec.json describes it.

    `files`: format -> file name -> facts. `threshold`: the score from which an object counts; None where
    there is no score. `versions` and `environment`: of the machine that wrote it.
    """

    folder: Path
    name: str
    io: NetworkIO
    files: Mapping[str, Mapping[str, FileFacts]]
    threshold: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> Exported:
        """Reads spec.json. Raises InputError where it is missing, damaged or of a newer version."""
        folder = Path(folder)
        try:
            spec = json.loads((folder / "spec.json").read_text())
            unknown = sorted(set(spec["formats"]) - set(FORMATS))
            if unknown:
                raise InputError(
                    f"{folder} holds the format {unknown[0]}, which this version does not know: update it"
                )
            _check_keys(folder, spec["io"])
            exported = cls(
                folder,
                str(spec["name"]),
                read_io(spec["io"]),
                {
                    fmt: {name: FileFacts(**facts) for name, facts in entry["files"].items()}
                    for fmt, entry in spec["formats"].items()
                },
                spec.get("threshold"),
                spec["versions"],
                spec["environment"],
            )
            exported.io.check_size(exported.io.input_size)
            entries = spec["formats"].values()
            whole = bool(entries) and all(entry["file"] in entry["files"] for entry in entries)
        except OSError:
            raise InputError(f"{folder} has no spec.json: expected a folder made by toolkit export") from None
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise InputError(f"{folder / 'spec.json'} is damaged: export the network again")
        return exported

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
            why = f"; {stored} was left out, because it {fault}" if fault else ""
            raise InputError(f"{self.folder} has no {stored}: it has {', '.join(self.formats)}{why}")
        return self.files[stored]

    def paths(self, fmt: str) -> list[Path]:
        """The files of a format."""
        return [self.folder / name for name in self.facts(fmt)]

    def bytes(self, fmt: str) -> int:
        """Size of all files of a format."""
        return sum(facts.bytes for facts in self.facts(fmt).values())

    def check(self, fmt: str) -> None:
        """Raises InputError where a file of the format is missing or differs from its sha256."""
        for name, facts in self.facts(fmt).items():
            path = self.folder / name
            if not path.is_file() or _sha256(path) != facts.sha256:
                raise InputError(
                    f"{path} is missing or differs from spec.json (sha256): export the network again"
                )

    def open(self, fmt: str = "", threads: int = 0) -> Network:
        """The network in a format, the first unless given, its files checked against their sha256.

        `threads`: 0 leaves the choice to the engine.
        """
        fmt = fmt or self.formats[0]
        self.check(fmt)
        return FORMATS[fmt].open(self.folder / FORMATS[fmt].file, self.io, threads)

    def parity(self) -> dict[str, Any]:
        """What parity.json says of every format, those among them that were left out ("fault")."""
        file = self.folder / "parity.json"
        facts: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return facts

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
                }
                for fmt, files in self.files.items()
            },
            "versions": dict(self.versions),
            "environment": dict(self.environment),
        }

    def save(self, folder: Path | None = None) -> None:
        """Writes spec.json, into another folder where one is given."""
        write_json((folder or self.folder) / "spec.json", self.as_dict())

    def only(self, formats: Sequence[str]) -> Exported:
        """The same network with these formats alone."""
        return replace(self, files={fmt: self.files[fmt] for fmt in formats})


def split_format(source: str) -> tuple[str, str]:
    """`FOLDER:FORMAT` -> its two parts; the format is "" where none is named.

    >>> split_format("exports/net:ncnn"), split_format("C:/nets/net")
    (('exports/net', 'ncnn'), ('C:/nets/net', ''))
    """
    folder, _, fmt = source.rpartition(":")
    if Path(source).exists() or len(folder) < 2:  # "C" is a drive
        return source, ""
    return folder, fmt


def write_threshold(source: str, threshold: float) -> None:
    """Keeps a chosen threshold in spec.json, where `source` (as for `networks.open_model`) is an exported
    folder; anything else has no place for it."""
    folder = Path(split_format(source)[0])
    if folder.is_dir():
        replace(Exported.read(folder), threshold=threshold).save()


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
