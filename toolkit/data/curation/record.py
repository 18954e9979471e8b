"""The record of a curation: every difference between two states of a dataset, as plain JSON.

    {"date", "source", "classes", "reasons": {tag: sentence}, "before": {"pictures", "boxes", "splits"},
     "outside": [image ids of pictures that nobody looked at and that stay as they are],
     "pictures": {image id: {"file", "was": split, "tags",
        "removed": [why, ...], "split": {"from", "to"}, "new": {"size", "split"},
        "removed_boxes": [{box..., "reasons"}], "changed_boxes": [{"box_id", "from", "to"}], "added_boxes"}}}

Only pictures that differ or are tagged have an entry, with the keys that apply. `replay` needs no FiftyOne.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from toolkit import text
from toolkit.data.dataset import Dataset
from toolkit.files import write_json
from toolkit.runtime import InputError
from toolkit.tables import Shown
from toolkit.text import short

Record = dict[str, Any]
Tags = Mapping[int, Sequence[str]]  # by the identifier of a picture or of a box
RECORD_BYTES = 200_000_000  # of a few hundred thousand boxes that have changed
_BOX_COLUMNS = ("box_ids", "boxes", "labels", "crowd", "ignore", "keypoints", "areas")


def difference(
    before: Dataset,
    after: Dataset,
    tags: Tags | None = None,
    box_tags: Tags | None = None,
    reasons: Mapping[str, str] | None = None,
    outside: Sequence[int] = (),
) -> Record:
    """What turns `before` into `after`. Pictures and boxes tagged with a key of `reasons` count as removed.

    `tags` are those of every picture that FiftyOne still has, in `after` or not. `outside` are the image
    identifiers of those that never came into it: they stay as they are, and the record lists them.
    """
    tags, box_tags, reasons = tags or {}, box_tags or {}, reasons or {}
    place = {image_id: k for k, image_id in enumerate(after.image_ids.tolist())}
    entries: dict[str, Any] = {}
    beyond = set(outside)
    for i, image_id in enumerate(before.image_ids.tolist()):
        if image_id in beyond:
            continue
        mine = list(tags.get(image_id, ()))
        entry: dict[str, Any] = {"tags": mine} if mine else {}
        if why := [reasons[tag] for tag in mine if tag in reasons]:
            entry["removed"] = why
        elif (k := place.get(image_id)) is None:
            entry["removed"] = ["not in the view" if image_id in tags else "deleted in FiftyOne"]
        else:
            was, now = str(before.splits[i]), str(after.splits[k])
            if was != now:
                entry["split"] = {"from": was, "to": now}
            entry |= _box_changes(before, i, after, k, box_tags, reasons)
        if entry:
            entries[str(image_id)] = {"file": before.files[i], "was": str(before.splits[i]), **entry}
    for image_id in sorted(place.keys() - set(before.image_ids.tolist()), key=place.__getitem__):
        k = place[image_id]
        mine = list(tags.get(image_id, ()))
        if not any(tag in reasons for tag in mine):
            entries[str(image_id)] = {
                "file": after.files[k],
                "tags": mine,
                "new": {"size": after.sizes[k].tolist(), "split": str(after.splits[k])},
                "added_boxes": [_box_entry(after, row) for row in _rows(after, k)],
            }
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(before.root),
        "classes": list(after.classes),
        "reasons": dict(reasons),
        "before": counts(before),
        "outside": list(outside),
        "pictures": entries,
    }


def _rows(dataset: Dataset, i: int) -> range:
    return range(int(dataset.starts[i]), int(dataset.starts[i + 1]))


def _box_changes(
    before: Dataset, i: int, after: Dataset, k: int, box_tags: Tags, reasons: Mapping[str, str]
) -> dict[str, Any]:
    def why(box_id: int) -> list[str]:
        return [reasons[tag] for tag in box_tags.get(box_id, ()) if tag in reasons]

    old = {int(before.box_ids[row]): _box_entry(before, row) for row in _rows(before, i)}
    new = {int(after.box_ids[row]): _box_entry(after, row) for row in _rows(after, k)}
    new = {box_id: box for box_id, box in new.items() if not why(box_id)}
    changes = {
        "removed_boxes": [
            box | {"reasons": why(box_id) or ["deleted in FiftyOne"]}
            for box_id, box in old.items()
            if box_id not in new
        ],
        "changed_boxes": [
            {"box_id": box_id, "from": box, "to": new[box_id]}
            for box_id, box in old.items()
            if box_id in new and box != new[box_id]
        ],
        "added_boxes": [box for box_id, box in new.items() if box_id not in old],
    }
    return {kind: found for kind, found in changes.items() if found}


def _box_entry(dataset: Dataset, row: int) -> dict[str, Any]:
    entry = {
        "box_id": int(dataset.box_ids[row]),
        "class": dataset.classes[dataset.labels[row]],
        "box": dataset.boxes[row].tolist(),
        "crowd": bool(dataset.crowd[row]),
        "ignore": bool(dataset.ignore[row]),
    }
    if dataset.keypoints is not None:
        entry["keypoints"] = dataset.keypoints[row].tolist()
    if dataset.areas is not None:
        entry["area"] = float(dataset.areas[row])
    return entry


def counts(dataset: Dataset) -> dict[str, Any]:
    """Pictures, boxes, pictures per split."""
    names, numbers = np.unique(dataset.splits, return_counts=True)
    splits = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    return {"pictures": len(dataset), "boxes": len(dataset.boxes), "splits": splits}


def replay(dataset: Dataset, record: Record) -> Dataset:
    """The dataset with everything done to it that the record holds.

    Boxes that were added come after the old ones of their picture, pictures that were added come last.
    InputError where the record is about other pictures or boxes.
    """
    entries = {int(key): entry for key, entry in record["pictures"].items()}
    place = {image_id: i for i, image_id in enumerate(dataset.image_ids.tolist())}
    row_of = {box_id: row for row, box_id in enumerate(dataset.box_ids.tolist())}
    fresh = [(image_id, entry) for image_id, entry in entries.items() if "new" in entry]
    place |= {image_id: len(dataset) + k for k, (image_id, _) in enumerate(fresh)}
    m = len(dataset.boxes)
    splits = dataset.splits.tolist() + [entry["new"]["split"] for _, entry in fresh]
    stays = np.ones(len(splits), bool)
    take = np.arange(m)  # which row of the columns, patched ones behind the old ones; -1: none
    owners = dataset.owners()
    patch: list[dict[str, Any]] = []
    added: list[int] = []  # their pictures
    try:
        for image_id, entry in entries.items():
            i = place[image_id]
            stays[i] = "removed" not in entry
            if "split" in entry:
                splits[i] = entry["split"]["to"]
            for box in entry.get("removed_boxes", ()):
                take[row_of[box["box_id"]]] = -1
            for box in entry.get("changed_boxes", ()):
                take[row_of[box["box_id"]]] = m + len(patch)
                patch.append(box["to"])
        for image_id, entry in entries.items():
            for box in entry.get("added_boxes", ()):
                added.append(place[image_id])
                patch.append(box)
    except KeyError as error:
        raise InputError(
            f"the record is about other pictures: what it calls {error.args[0]} is not in {dataset.root}"
        ) from None
    _check_fit(patch, record["classes"], dataset)
    take = np.concatenate((take, m + len(patch) - len(added) + np.arange(len(added))))
    owners = np.concatenate((owners, np.array(added, np.int64)))
    order = np.argsort(owners, kind="stable")
    order = order[take[order] >= 0]

    old = replace(dataset, labels=_relabelled(dataset, record["classes"]))
    columns: dict[str, Any] = {}
    for name, more in _patch_columns(patch, record["classes"], dataset).items():
        column = getattr(old, name)
        columns[name] = None if column is None else np.concatenate((column, more))[take[order]]
    sizes = np.array([entry["new"]["size"] for _, entry in fresh], np.int32).reshape(-1, 2)
    originals = dataset.original_sizes
    whole = replace(
        dataset,
        classes=tuple(record["classes"]),
        files=dataset.files + [entry["file"] for _, entry in fresh],
        image_ids=np.array(list(place), np.int64),
        sizes=np.concatenate((dataset.sizes, sizes)),
        splits=np.array(splits, np.str_),
        starts=np.searchsorted(owners[order], np.arange(len(splits) + 1)).astype(np.int64),
        original_sizes=None if originals is None else np.concatenate((originals, sizes)),
        **columns,
    )
    return whole.subset(np.flatnonzero(stays))


def _check_fit(boxes: list[dict[str, Any]], classes: list[str], dataset: Dataset) -> None:
    """InputError where the boxes of a record, or those of the dataset, are of other classes or points."""
    for name in (*dataset.classes, *(box["class"] for box in boxes)):
        if name not in classes:
            raise InputError(f"the record does not fit {dataset.root}: it has no class {short(name)}")
    points = 0 if dataset.keypoints is None else dataset.keypoints.shape[1]
    for box in boxes:
        if len(box.get("keypoints", ())) not in (0, points):
            raise InputError(f"the record does not fit {dataset.root}, whose boxes have {points} key points")


def _relabelled(dataset: Dataset, classes: list[str]) -> Any:
    table = np.array([classes.index(name) for name in dataset.classes], np.int32)
    return table[dataset.labels] if len(dataset.labels) else dataset.labels


def _patch_columns(boxes: list[dict[str, Any]], classes: list[str], like: Dataset) -> dict[str, Any]:
    """Box entries of a record as the columns of a dataset."""
    m, k = len(boxes), 0 if like.keypoints is None else like.keypoints.shape[1]
    blank = np.zeros((k, 3)).tolist()
    return {
        "box_ids": np.array([box["box_id"] for box in boxes], np.int64),
        "boxes": np.array([box["box"] for box in boxes], np.float32).reshape(m, 4),
        "labels": np.array([classes.index(box["class"]) for box in boxes], np.int32),
        "crowd": np.array([box["crowd"] for box in boxes], np.bool_),
        "ignore": np.array([box["ignore"] for box in boxes], np.bool_),
        "keypoints": np.array([box.get("keypoints") or blank for box in boxes], np.float32).reshape(
            len(boxes), k, 3
        ),
        "areas": np.array([box.get("area", 0.0) for box in boxes], np.float32),
    }


@dataclass(frozen=True)
class Edits(Shown):
    """A record in numbers, with the pictures that were removed and why."""

    record: Record

    def columns(self) -> dict[str, list[object]]:
        """What was done, how often, and the first picture of each."""
        entries = self.record["pictures"].values()
        kinds = {
            "pictures removed": [entry for entry in entries if "removed" in entry],
            "pictures moved to another split": [entry for entry in entries if "split" in entry],
            "boxes changed": [entry for entry in entries for _ in entry.get("changed_boxes", ())],
            "boxes removed": [entry for entry in entries for _ in entry.get("removed_boxes", ())],
            "boxes added": [entry for entry in entries for _ in entry.get("added_boxes", ())],
        }
        for why in sorted({why for entry in entries for why in entry.get("removed", ())}):
            kinds[f"removed: {why}"] = [entry for entry in entries if why in entry.get("removed", ())]
        return {
            "in the record": list(kinds),
            "count": [len(each) for each in kinds.values()],
            "first picture": [each[0]["file"] if each else "" for each in kinds.values()],
        }

    def caption(self) -> str:
        """Before and after, and how many pictures nobody looked at."""
        before, after = self.record["before"], self.record.get("after")
        said = f"{before['pictures']:,} pictures with {before['boxes']:,} boxes before"
        said += f", {after['pictures']:,} with {after['boxes']:,} after" if after else ""
        outside = len(self.record.get("outside", ()))
        return said + (f"; {outside:,} were not looked at and stay as they are" if outside else "")


def export_record(record: Record, path: str | Path) -> None:
    """Write the record as JSON, whole or not at all."""
    write_json(path, record)


def _inside(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(f"{short(name)} leads out of the data set")
    return name


Identifier = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Pixels = Annotated[float, Field(ge=-1e9, le=1e9)]
Side = Annotated[int, Field(ge=1, lt=2**31)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class _Named(_Part):
    box_id: Identifier


class _Box(_Named):
    label: str = Field(alias="class")
    box: tuple[Pixels, Pixels, Pixels, Pixels]
    crowd: bool
    ignore: bool
    keypoints: list[tuple[Pixels, Pixels, Pixels]] | None = None
    area: Annotated[float, Field(ge=0, le=1e18)] | None = None


class _Change(_Named):
    to: _Box


class _Move(_Part):
    to: str


class _New(_Part):
    size: tuple[Side, Side]
    split: str


class _Picture(_Part):
    file: Annotated[str, AfterValidator(_inside)]
    split: _Move | None = None
    new: _New | None = None
    removed_boxes: list[_Named] = []
    changed_boxes: list[_Change] = []
    added_boxes: list[_Box] = []


class _Content(_Part):
    """What `replay` needs of a record."""

    classes: list[str]
    pictures: dict[Identifier, _Picture]


def read_record(path: str | Path) -> Record:
    """A record from `export_record` or `saving`. InputError where the file is something else."""
    content = text.read_record(path, _Content, "expected a record of curation", RECORD_BYTES)
    return content.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
