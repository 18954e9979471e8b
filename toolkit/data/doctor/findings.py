"""What the doctor says: the list of faults, one finding, the whole report."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.data.intake import Intake
from toolkit.tables import Shown

FAULTS = {
    "outside": "box outside the picture",
    "degenerate": "box without an area",
    "duplicate-box": "the same box twice",
    "swapped-xy": "x and y swapped",
    "wrong-unit": "fractions and pixels mixed up",
    "class-range": "class that the list of classes does not have",
    "undecodable": "picture that does not decode",
    "exif-rotation": "EXIF rotation that the labels ignore",
    "size-mismatch": "recorded size that is not the picture's",
    "exact-duplicate": "the same picture in two splits",
    "near-duplicate": "nearly the same picture in two splits",
    "unlabelled": "picture without labels in a labelled set",
    "no-labels": "no labels at all",
    "empty-split": "split without objects",
}
NEED_PICTURES = ("undecodable", "exif-rotation", "size-mismatch", "exact-duplicate", "near-duplicate")
NOWHERE = -1  # the index of a picture that is on disk but not in the dataset, and of no picture at all
WHOLE = "everything that the labels hold came in"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault at one place. `mend` says what `fix` does about it, "" where that would be a guess."""

    fault: str  # a key of FAULTS
    picture: int  # index into the dataset, or NOWHERE
    file: str
    sentence: str
    row: int | None = None  # row in the box columns
    box_id: int | None = None
    other: str | None = None  # the other picture of a pair
    mend: str = ""  # "move box", "drop box", "swap picture", "drop picture", "turn labels", "turn fractions",
    # "scale labels", "record size"
    box: tuple[float, ...] | None = None  # where "move box" puts it, xyxy px


@dataclass(frozen=True)
class Report(Shown):
    """What `examine` found. `summary` holds the reports that are not faults: balance, sizes, anchors."""

    source: str
    pictures: int
    boxes: int
    decoded: bool  # False: the faults in NEED_PICTURES were not looked for
    findings: list[Finding]
    summary: dict[str, Any]
    intake: Intake = field(default_factory=Intake)  # what the import left out
    as_stored: frozenset[int] = frozenset()  # pictures whose labels are for them before EXIF's rotation

    def caption(self) -> str:
        """How much was looked at, and the observations."""
        kinds = len(FAULTS) - (0 if self.decoded else len(NEED_PICTURES))
        looked = f"{self.pictures:,} pictures, {self.boxes:,} boxes, {kinds} kinds of faults looked for"
        return "; ".join([looked, *self.observations])

    def columns(self) -> dict[str, list[object]]:
        """A row for each fault that was found; of all faults "none" where none was."""
        counts = {FAULTS[fault]: count for fault, count in self.counts.items() if count}
        examples = {FAULTS[finding.fault]: finding.sentence for finding in reversed(self.findings)}
        return {
            "fault": list(counts) or ["none"],
            "count": list(counts.values()) or [0],
            "first": [examples[title] for title in counts] or [""],
        }

    @property
    def counts(self) -> dict[str, int]:
        """Findings per fault, every fault named."""
        counts = Counter(finding.fault for finding in self.findings)
        return {fault: counts[fault] for fault in FAULTS}

    @property
    def observations(self) -> list[str]:
        """The sentences of the reports that are not faults."""
        sentences: list[str] = list(self.summary["balance"]["sentences"])
        if count := self.summary.get("repeated_within_split"):
            sentences.append(f"{count} pictures repeat another one of the same split exactly")
        sentences += self.summary.get("network", {}).get("sentences", [])
        return sentences

    @property
    def import_sentences(self) -> list[str]:
        """What the import left out, skipped and noted; nothing for a data set that was made in memory."""
        if not self.intake.format:
            return []
        return self.intake.sentences() + ([WHOLE] if self.intake.whole and self.boxes else [])

    @property
    def notes(self) -> list[str]:
        """The observations, and what the import left out."""
        return self.observations + self.import_sentences

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "source": self.source,
            "pictures": self.pictures,
            "boxes": self.boxes,
            "decoded": self.decoded,
            "faults": [
                {"number": number, "fault": fault, "title": FAULTS[fault], "count": count}
                for number, (fault, count) in enumerate(self.counts.items(), start=1)
            ],
            "findings": [asdict(finding) for finding in self.findings],
            "intake": self.intake.as_dict(),
            "left_out": [asdict(part) for part in self.intake.left_out],
            "skipped": [asdict(picture) for picture in self.intake.skipped],
            **self.summary,
        }


def of_picture(fault: str, dataset: Dataset, i: int, what: str, mend: str = "") -> Finding:
    """A finding about picture `i` as a whole; `what` goes on after its name."""
    return Finding(fault, i, dataset.files[i], f"{dataset.files[i]} {what}", mend=mend)


def of_box(
    fault: str, dataset: Dataset, i: int, row: int, what: str, mend: str = "", box: NDArray[Any] | None = None
) -> Finding:
    """A finding about one box of picture `i`; `what` goes on after its corners."""
    corners = ", ".join(f"{x:g}" for x in np.round(dataset.boxes[row].astype(float), 3))
    sentence = f"{dataset.files[i]}: the box [{corners}] {what}"
    place = None if box is None else tuple(round(float(x), 3) for x in box)
    box_id = int(dataset.box_ids[row])
    return Finding(fault, i, dataset.files[i], sentence, row, box_id, mend=mend, box=place)


def by(size: NDArray[np.integer]) -> str:
    """A size in words."""
    return f"{size[0]} x {size[1]}"
