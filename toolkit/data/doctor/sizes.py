"""Faults 8 and 9: labels that ignore EXIF's rotation, and recorded sizes that are not the picture's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.data.doctor.boxes import inside
from toolkit.data.doctor.findings import Finding, by, of_picture
from toolkit.data.doctor.orientation import (
    SHOWN,
    SHOWN_SCALED,
    STORED,
    STORED_SCALED,
    readings_of,
)
from toolkit.data.doctor.pictures import Pictures

_TURNS = {
    2: "mirrored",
    3: "upside down",
    4: "mirrored and upside down",
    5: "mirrored and turned by 90 degrees",
    6: "turned by 90 degrees",
    7: "mirrored and turned by 270 degrees",
    8: "turned by 270 degrees",
}
MENDS = {"turn labels": STORED, "turn fractions": STORED_SCALED, "scale labels": SHOWN_SCALED}


class Frames(NamedTuple):
    """Pictures that the labels are meant for."""

    sizes: NDArray[np.int32]  # (n, 2) width, height in which the labels count
    findings: list[Finding]
    stored: frozenset[int] = frozenset()  # pictures whose labels are for them as stored, before EXIF's turn
    undecided: frozenset[int] = frozenset()  # pictures of which nobody knows: nothing in them is mended


class _Sizes:
    """The sizes of a data set's pictures, and how many boxes leave each of them."""

    def __init__(self, dataset: Dataset, seen: Pictures) -> None:
        self.recorded = dataset.sizes
        self.stored = seen.sizes
        self.shown = np.where((seen.turns >= 5)[:, None], seen.sizes[:, ::-1], seen.sizes)
        self.outside = {
            name: _boxes_outside(dataset, getattr(self, name)) for name in ("recorded", "stored", "shown")
        }

    def kind(self, i: int) -> str:
        """Which size is recorded."""
        if not (self.recorded[i] > 0).all():
            return "none"
        stored, shown = (bool((self.recorded[i] == size[i]).all()) for size in (self.stored, self.shown))
        return {(True, True): "both", (True, False): "stored", (False, True): "shown"}.get(
            (stored, shown), "other"
        )


def size_findings(dataset: Dataset, seen: Pictures | None) -> Frames:
    """Faults 8 and 9, and the size that the labels of each picture are meant for."""
    if seen is None:
        return Frames(dataset.sizes, [])
    sizes = _Sizes(dataset, seen)
    frames = dataset.sizes.copy()
    decodes = np.array([bool(digest) for digest in seen.digests], np.bool_)
    kinds = {i: sizes.kind(i) for i in np.flatnonzero(decodes).tolist()}
    turned = [i for i in kinds if seen.turns[i] != 1]
    readings = dict(
        zip(
            turned,
            readings_of([seen.scores[i] for i in turned], [kinds[i] for i in turned]),
            strict=True,
        )
    )
    findings, stored, undecided = [], set(), set()
    for i, kind in kinds.items():
        reading = readings.get(i, SHOWN)
        labelled = i in readings and seen.scores[i].shape[1] > 0
        if reading is None and (kind == "shown" or not labelled):
            reading = SHOWN  # as is usual, unless the boxes speak against it
        if reading is None:
            undecided.add(i)
            frames[i] = _frame_that_fits(sizes, i)
            what = "may be for it as stored or as shown: undecided, they fit both readings"
            findings.append(_rotation(dataset, seen, i, what))
        elif reading in (STORED, STORED_SCALED):
            stored.add(i)
            if reading == STORED:
                frames[i] = sizes.stored[i]
                what, mend = f"are for {by(sizes.stored[i])} as stored", "turn labels"
            else:
                what, mend = f"were fractions of {by(sizes.stored[i])} as stored", "turn fractions"
            findings.append(_rotation(dataset, seen, i, what, mend))
        elif reading == SHOWN_SCALED:
            what = f"its labels were fractions of {by(sizes.shown[i])} as shown"
            findings.append(_mismatch(dataset, sizes, i, what, "scale labels"))
        elif kind == "stored":
            frames[i] = sizes.shown[i]
            what = f"its labels are for {by(sizes.shown[i])} as shown"
            findings.append(_mismatch(dataset, sizes, i, what, "record size"))
        elif kind == "none":
            frames[i] = sizes.shown[i]
        if kind == "other" and i not in stored:
            sure, what = _other_size(sizes, i)
            if sure and i not in undecided:
                frames[i] = sizes.shown[i]
            findings.append(
                _mismatch(dataset, sizes, i, what, "record size" if sure and i not in undecided else "")
            )
    return Frames(frames, findings, frozenset(stored), frozenset(undecided))


def _other_size(sizes: _Sizes, i: int) -> tuple[bool, str]:
    """Whether the boxes are for the picture as shown all the same, and the sentence about it."""
    backwards = bool((sizes.recorded[i] == sizes.shown[i, ::-1]).all())
    actual, recorded = sizes.outside["shown"][i], sizes.outside["recorded"][i]
    sure = bool(actual < recorded or (backwards and actual == recorded))
    if backwards:
        return sure, "width and height are swapped"
    return sure, "the boxes fit the picture" if sure else "the boxes may be at another scale"


def _frame_that_fits(sizes: _Sizes, i: int) -> NDArray[np.int32]:
    """The size which no box leaves, so that an undecided picture is not blamed for its boxes as well."""
    for name in ("recorded", "shown", "stored"):
        size: NDArray[np.int32] = getattr(sizes, name)[i]
        if (size > 0).all() and not sizes.outside[name][i]:
            return size
    largest: NDArray[np.int32] = np.maximum(sizes.shown[i], sizes.stored[i])
    return largest


def _rotation(dataset: Dataset, seen: Pictures, i: int, what: str, mend: str = "") -> Finding:
    turn = int(seen.turns[i])
    sentence = f"asks to be shown {_TURNS[turn]} (EXIF orientation {turn}), and its labels {what}"
    return of_picture("exif-rotation", dataset, i, sentence, mend)


def _mismatch(dataset: Dataset, sizes: _Sizes, i: int, what: str, mend: str) -> Finding:
    sentence = f"is recorded as {by(sizes.recorded[i])} and is {by(sizes.shown[i])}: {what}"
    return of_picture("size-mismatch", dataset, i, sentence, mend)


def _boxes_outside(dataset: Dataset, sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) how many boxes leave pictures of `sizes` (n, 2)."""
    owners = dataset.owners()
    return np.bincount(owners[~inside(dataset.boxes, sizes[owners])], minlength=len(dataset))
