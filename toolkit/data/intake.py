"""What a reader made of labels: their format, what decided, and everything that stayed outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from toolkit.text import parse_json, read_bytes

Faults = Literal["skip", "refuse", "keep"]  # leave out and count; raise at the first; keep for the doctor
RECORD_BYTES = 50_000_000
FILE_NAME = "import.json"  # beside the annotations of a canonical folder


@dataclass(frozen=True)
class Candidate:
    """A format that labels may be of, and the sign that speaks for it."""

    format: str
    score: int  # 0..100; the highest decides
    sign: str  # what was seen, with the file


@dataclass(frozen=True)
class LeftOut:
    """Labels of one kind that did not come in."""

    kind: str  # "boxes without an area"
    count: int
    example: str  # the first one: a sentence with its file and place


@dataclass(frozen=True)
class Skipped:
    """A picture that did not come in."""

    file: str
    reason: str


@dataclass(frozen=True)
class Intake:
    """How a data set came in. Empty for one that was made in memory.

    >>> Intake("yolo", left_out=(LeftOut("boxes without an area", 2, "a.txt, line 3: ..."),)).sentences()
    ['left out: 2 boxes without an area (the first: a.txt, line 3: ...)']
    """

    format: str = ""
    why: str = ""
    candidates: tuple[Candidate, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""  # what was read

    @property
    def whole(self) -> bool:
        """Whether every picture and label came in."""
        return not self.left_out and not self.skipped

    def sentences(self, limit: int = 20) -> list[str]:
        """A line for each kind of label left out, each picture skipped (the first `limit`) and each note."""
        lines = [f"left out: {part.count} {part.kind} (the first: {part.example})" for part in self.left_out]
        lines += [f"skipped: {picture.file}: {picture.reason}" for picture in self.skipped[:limit]]
        if len(self.skipped) > limit:
            lines.append(f"... {len(self.skipped)} pictures skipped in all")
        return lines + [f"note: {note}" for note in self.notes]

    def renamed(self, folder: str, name: str) -> Intake:
        """The same with `name` in place of a folder that only existed while labels were read."""
        return replace(
            self,
            why=self.why.replace(folder, name),
            left_out=tuple(replace(p, example=p.example.replace(folder, name)) for p in self.left_out),
            skipped=tuple(
                Skipped(p.file.replace(folder, name), p.reason.replace(folder, name)) for p in self.skipped
            ),
            notes=tuple(note.replace(folder, name) for note in self.notes),
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Intake:
        """The inverse of `as_dict`; other keys do not matter."""
        return cls(
            str(values.get("format", "")),
            str(values.get("why", "")),
            tuple(Candidate(**each) for each in values.get("candidates", ())),
            tuple(
                LeftOut(str(e["kind"]), int(e["count"]), str(e["example"]))
                for e in values.get("left_out", ())
            ),
            tuple(Skipped(str(e["file"]), str(e["reason"])) for e in values.get("skipped", ())),
            tuple(map(str, values.get("notes", ()))),
            str(values.get("source", "")),
        )


def kept_intake(folder: Path) -> Intake | None:
    """The intake that an earlier import has written beside a canonical folder; None where there is none."""
    try:
        path = folder / FILE_NAME
        record = parse_json(read_bytes(path, RECORD_BYTES), path, lenient=True)
        return Intake.from_dict(record) if record["format"] and "left_out" in record else None
    except (ValueError, OverflowError, TypeError, AttributeError, KeyError):  # an InputError, too
        return None
