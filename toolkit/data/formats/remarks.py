"""What people should know of a data set that no reader sees by itself: what lies beside its labels, and what
looks like a slip."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from toolkit.data.class_names import difference, plain, shown
from toolkit.data.dataset import Dataset
from toolkit.data.folders import is_canonical
from toolkit.data.formats.common import folded, picture_size
from toolkit.data.formats.survey import Survey, kind_of, survey
from toolkit.data.intake import Candidate, Faults, Intake, LeftOut, Skipped
from toolkit.runtime import InputError

_OTHER_TYPE = "pictures of this type are not read: convert it first"
_READ_BESIDE = ("metadata.json", "notes.json")  # FiftyOne's and Label Studio's, beside their labels
_CLEAR = 60  # the least score of a sign that lines of labels are there
_LOOKED_AT = 200  # pictures whose header is compared with the recorded size
_ENDINGS = {"voc": ".xml", "yolo": ".txt", "kitti": ".txt", "labelme": ".json"}  # of labels, by format
# Formats with a label file for each picture, by the kind of such a file.
_BY_PICTURE = {"voc": "voc", "yolo-lines": "yolo", "labelme": "labelme", "kitti": "kitti"}


def with_remarks(dataset: Dataset, pictures: Path, faults: Faults) -> Intake:
    """The intake of a data set that was just read, with remarks.

    Args:
        dataset: with its format and candidates in the intake.
        pictures: the folder, or the label file, in which pictures were searched.
        faults: "refuse" raises where anything was left out.
    """
    intake = dataset.intake
    alone = pictures.is_file()
    files = survey(pictures.parent if alone else pictures)
    others = () if alone else files.others
    lost = _labels_of_other_formats(dataset, files)
    if faults == "refuse" and (others or lost):
        raise InputError(f"{pictures / others[0]}: {_OTHER_TYPE}" if others else lost[0].example)
    return replace(
        intake,
        left_out=(*intake.left_out, *lost),
        skipped=(*intake.skipped, *(Skipped(name, _OTHER_TYPE) for name in others)),
        notes=(*_first_notes(dataset), *intake.notes, *_notes(dataset, files)),
    )


def _first_notes(dataset: Dataset) -> Iterator[str]:
    if dataset.intake.format == "folder":
        yield "no label files: the pictures came in without labels"
    elif not len(dataset.labels):
        yield f"no label at all: none of the {len(dataset)} pictures has a box"


def _notes(dataset: Dataset, files: Survey) -> Iterator[str]:
    intake = dataset.intake
    yield from alternatives(intake.candidates, intake.format)
    if unlisted := _unlisted(dataset, files):
        yield f"{len(unlisted)} pictures are in no label file and stay outside (the first: {unlisted[0]})"
    if gifs := [name for name in dataset.files if name.lower().endswith(".gif")]:
        yield f"{len(gifs)} GIF pictures came in: their first frame counts (the first: {gifs[0]})"
    if unread := _unread(intake, files):
        yield f"files of no format that is read stay outside: {shown(unread, 4)}"
    if files.imports:
        yield f"data sets that an import has written there are not read again: {shown(files.imports, 4)}"
    flat = (dataset.boxes[:, 2:] <= dataset.boxes[:, :2]).any(axis=1)
    if flat.any():
        yield f"{flat.sum()} boxes have no area: toolkit data doctor lists them"
    yield from _size_notes(dataset)
    yield from _class_notes(dataset)


def alternatives(candidates: Iterable[Candidate], format: str) -> list[str]:
    """Sentences about the other formats that label files may be of."""
    others = (other for other in candidates if other.format != format and other.score >= _CLEAR)
    return [f"other labels lie there too: {each.sign}; --format {each.format} reads those" for each in others]


def _unread(intake: Intake, files: Survey) -> list[str]:
    """JSON and XML files of no known kind, of which the intake speaks neither by name nor as damaged."""
    damaged = any(part.kind == "label files that cannot be read" for part in intake.left_out)
    if damaged or is_canonical(files.top):
        return []
    names = [name for name in files.kinds.get("", ()) if name.lower().endswith((".json", ".xml"))]
    mentioned = " ".join((*_READ_BESIDE, *intake.notes))
    return [name for name in names if name.rsplit("/", 1)[-1] not in mentioned]


def _unlisted(dataset: Dataset, files: Survey) -> list[str]:
    """Pictures of the folder that the data set neither has nor has skipped."""
    root, top = (
        os.path.join(os.path.abspath(folder), "").replace(os.sep, "/") for folder in (dataset.root, files.top)
    )
    skipped = [each.file for each in dataset.intake.skipped]
    taken = {*skipped, *((root + name).removeprefix(top) for name in (*dataset.files, *skipped))}
    return [name for name in files.pictures if name not in taken]


def _labels_of_other_formats(dataset: Dataset, files: Survey) -> list[LeftOut]:
    """Label files of another format than the one read, for pictures that came in without a box."""
    empty = {_stem(dataset.files[i]) for i in np.flatnonzero(np.diff(dataset.starts) == 0).tolist()}
    if not empty or dataset.intake.format == "folder":
        return []
    endings = {".xml", ".txt", ".json"} - {_ENDINGS.get(dataset.intake.format, "")}
    others = [name for name in files.ending(*endings) if _stem(name) in empty]
    kinds = {name: _BY_PICTURE.get(kind_of(files.top / name), "") for name in others}
    lost = [name for name, format in kinds.items() if format not in ("", dataset.intake.format)]
    if not lost:
        return []
    sentence = (
        f"{files.top / lost[0]} is of the format {kinds[lost[0]]}, and its picture came in without a box as "
        f"{dataset.intake.format}: import the formats one by one"
    )
    return [LeftOut("label files of another format", len(lost), sentence)]


def _stem(name: str) -> str:
    return folded(os.path.splitext(name.rsplit("/", 1)[-1])[0])


def _size_notes(dataset: Dataset) -> Iterator[str]:
    """A note where recorded sizes are not those of the pictures, of some that are looked at."""
    rows = np.flatnonzero((dataset.sizes > 0).all(axis=1))
    looked_at = rows[:: max(1, len(rows) // _LOOKED_AT)][:_LOOKED_AT].tolist()
    wrong = []
    for i in looked_at:
        try:
            size, recorded = picture_size(dataset.path(i)), tuple(dataset.sizes[i].tolist())
        except InputError:
            continue  # kept for the doctor
        if recorded != size:
            wrong.append((dataset.files[i], recorded, size))
    if wrong:
        name, recorded, size = wrong[0]
        yield (
            f"the recorded size of {len(wrong)} of {len(looked_at)} pictures looked at is not the picture's, "
            f"so that boxes may be at another scale or turned: toolkit data doctor tells (the first: {name} "
            f"is recorded as {recorded[0]} x {recorded[1]} and is {size[0]} x {size[1]})"
        )


def _class_notes(dataset: Dataset) -> Iterator[str]:
    """Classes whose names differ in nothing but case, blanks or Unicode form."""
    forms: dict[str, list[str]] = {}
    for name in dataset.classes:
        forms.setdefault(plain(name), []).append(name)
    for alike in forms.values():
        for one, other in combinations(alike[:3], 2):
            yield f"the classes {one!r} and {other!r} are two, and differ in {difference(one, other)} only"
