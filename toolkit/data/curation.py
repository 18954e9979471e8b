"""Curation in FiftyOne: a canonical dataset in, what the person decided out, with a record that survives.

    fo_dataset = to_fiftyone(dataset, "blood")
    with saving(fo_dataset, dataset, "record.json"):     # kept up to date while tags, splits, boxes change
        ...                                              # FiftyOne's own views, tags, edits, App
    kept, record = curated(dataset, fo_dataset, {"blurred": "out of focus"})

In FiftyOne a picture's split is one of its tags, where the App edits it; boxes are `ground_truth`, landmarks
`keypoints`, and both carry the identifiers that bring them back. FiftyOne is imported where it is used.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import SPLITS, Dataset
from toolkit.data.mongod import check_mongod
from toolkit.runtime import InputError, progress, require, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = list[NDArray[np.uint8]]  # RGB, H x W x 3
Embed = Callable[[Images], NDArray[np.floating]]  # pictures -> (N, D)
Detect = Callable[
    [Images], Sequence[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]]
]  # pictures -> per picture boxes (K, 4) xyxy px, scores (K,), class numbers (K,)
Record = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

TRUTH, POINTS = "ground_truth", "keypoints"
MATCH_IOU = 0.5


def fiftyone() -> ModuleType:
    """FiftyOne, imported with its database checked first: it waits a minute for one that is not there."""
    if "fiftyone" not in sys.modules:
        if fault := check_mongod():
            raise InputError(fault)
        for name, value in (
            ("FIFTYONE_DO_NOT_TRACK", "true"),
            ("FIFTYONE_DATABASE_VALIDATION", "false"),
            ("FIFTYONE_SHOW_PROGRESS_BARS", "false"),  # it writes them to stdout; ours go to stderr
            ("FIFTYONE_LOGGING_LEVEL", "WARNING"),
        ):
            os.environ.setdefault(name, value)
    return require("fiftyone", "curation")


def _asks_database(function: F) -> F:
    """Turn a database that went away into InputError with one sentence."""

    @functools.wraps(function)
    def asked(*args: Any, **kwargs: Any) -> Any:
        fiftyone()
        try:
            return function(*args, **kwargs)
        except _connection_errors() as error:
            raise InputError(f"{_GONE} Start this step again ({type(error).__name__})") from error

    return asked  # type: ignore[return-value]


_GONE = (
    "FiftyOne's database stopped in the middle of this step: what was in the dataset on disk is untouched, and "
    "what was curated is in the record where `saving` was used."
)


def _connection_errors() -> tuple[type[Exception], ...]:
    from pymongo.errors import ConnectionFailure

    return (ConnectionFailure, ConnectionError)


# ---- there and back -----------------------------------------------------------------------------------


@_asks_database
def to_fiftyone(dataset: Dataset, name: str, record: Record | None = None, persistent: bool = False) -> Any:
    """A FiftyOne dataset called `name` with these pictures, boxes, identifiers, flags, keypoints and splits.

    `record` (from an earlier session) is replayed first and its tags are set, so that work goes on where it
    stopped. `persistent` keeps the FiftyOne dataset in the database after this process ends.
    InputError where `name` is taken, a class number has no name, or a size that is not recorded cannot be
    read off the picture.
    """
    fo = fiftyone()
    tags: dict[int, list[str]] = {}
    if record is not None:
        dataset = replay(dataset, record)
        tags = {int(key): entry["tags"] for key, entry in record["pictures"].items() if entry.get("tags")}
    if fo.dataset_exists(name):
        raise InputError(f"FiftyOne has a dataset called {name!r} already: choose another name or delete it")
    if dataset.labels.size and not (
        0 <= dataset.labels.min() and dataset.labels.max() < len(dataset.classes)
    ):
        raise InputError(
            f"{dataset.root} has boxes of a class without a name: run `toolkit data doctor` on it"
        )
    sizes = _sizes(dataset)
    made = fo.Dataset(name, persistent=persistent)
    try:
        made.default_classes = list(dataset.classes)
        made.info = {
            "root": str(dataset.root),
            "splits": sorted({*dataset.splits.tolist(), *SPLITS} - {""}),
            "keypoints": 0 if dataset.keypoints is None else dataset.keypoints.shape[1],
            "areas": dataset.areas is not None,
        }
        _declare(fo, made, dataset)
        step = 256
        for first in progress(range(0, len(dataset), step), "into FiftyOne"):
            rows = range(first, min(first + step, len(dataset)))
            made.add_samples([_sample(fo, dataset, i, sizes[i], tags) for i in rows], progress=False)
    except BaseException:
        _forget(made)
        raise
    return made


def _forget(made: Any) -> None:
    try:
        made.delete()
    except _connection_errors():
        pass  # the database went away, and a dataset that is not persistent with it


def _declare(fo: Any, made: Any, dataset: Dataset) -> None:
    """Fields that the App should show and edit, with their types."""
    made.add_sample_field("image_id", fo.IntField)
    made.add_sample_field("file", fo.StringField)
    made.add_sample_field(TRUTH, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    attributes = {"box_id": fo.IntField, "iscrowd": fo.BooleanField, "ignore": fo.BooleanField}
    if dataset.areas is not None:
        attributes["mask_share"] = fo.FloatField
    for attribute, kind in attributes.items():
        made.add_sample_field(f"{TRUTH}.detections.{attribute}", kind)
    if dataset.original_sizes is not None:
        made.add_sample_field("original_size", fo.ListField, subfield=fo.IntField)
    if dataset.keypoints is not None:
        made.add_sample_field(POINTS, fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
        made.add_sample_field(f"{POINTS}.keypoints.box_id", fo.IntField)
        made.add_sample_field(f"{POINTS}.keypoints.visibility", fo.ListField, subfield=fo.FloatField)


def _sizes(dataset: Dataset) -> NDArray[np.int64]:
    """(n, 2); what is not recorded is read off the pictures' headers."""
    sizes = dataset.sizes.astype(np.int64)
    for i in np.flatnonzero((sizes <= 0).any(axis=1)):
        sizes[i] = _size_of(dataset.path(int(i)))
    return sizes


def _size_of(path: Path | str) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as header:
            return header.size
    except OSError:
        raise InputError(
            f"the size of {path} is not recorded and the picture cannot be opened: run `toolkit data doctor`"
        ) from None


def _sample(fo: Any, dataset: Dataset, i: int, size: NDArray[np.int64], tags: Mapping[int, list[str]]) -> Any:
    scale = np.array([*size, *size], np.float64)
    detections, points = [], []
    for row in range(*dataset.rows(i).indices(len(dataset.boxes))):
        box = dataset.boxes[row].astype(np.float64)
        extra = {}
        if dataset.areas is not None:
            # As a share of the box, so that it follows a box that somebody resizes.
            own = float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
            extra["mask_share"] = float(dataset.areas[row]) / own if own else None
        detections.append(
            fo.Detection(
                label=dataset.classes[dataset.labels[row]],
                bounding_box=[*(box[:2] / scale[:2]), *((box[2:] - box[:2]) / scale[:2])],
                box_id=int(dataset.box_ids[row]),
                iscrowd=bool(dataset.crowd[row]),
                ignore=bool(dataset.ignore[row]),
                **extra,
            )
        )
        if dataset.keypoints is not None:
            marks = dataset.keypoints[row].astype(np.float64)
            absent = ~marks.any(axis=1)
            places = np.where(absent[:, None], np.nan, marks[:, :2] / scale[:2])  # the App leaves NaN out
            points.append(
                fo.Keypoint(
                    label=dataset.classes[dataset.labels[row]],
                    points=places.tolist(),
                    box_id=int(dataset.box_ids[row]),
                    visibility=marks[:, 2].tolist(),
                )
            )
    split, image_id = str(dataset.splits[i]), int(dataset.image_ids[i])
    sample = fo.Sample(
        filepath=str(dataset.path(i)),
        tags=[*([split] if split else []), *tags.get(image_id, [])],
        metadata=fo.ImageMetadata(width=int(size[0]), height=int(size[1])),
        image_id=image_id,
        file=dataset.files[i],
    )
    sample[TRUTH] = fo.Detections(detections=detections)
    if dataset.original_sizes is not None:
        sample["original_size"] = dataset.original_sizes[i].tolist()
    if dataset.keypoints is not None:
        sample[POINTS] = fo.Keypoints(keypoints=points)
    return sample


@_asks_database
def from_fiftyone(view: Any) -> Dataset:
    """The pictures of a FiftyOne dataset or view, in its order, as a canonical dataset.

    Pictures and boxes that were added in FiftyOne get new identifiers. InputError for a label that is not
    among the dataset's `default_classes` (add it there if it is meant) and for a picture with two split tags.
    """
    return _read(view)[0]


def _read(view: Any) -> tuple[Dataset, dict[int, list[str]], dict[int, list[str]]]:
    """The dataset, and the tags (other than splits) of pictures and of boxes by identifier."""
    root_dataset = view._root_dataset
    info, classes = root_dataset.info, list(root_dataset.default_classes)
    root = Path(info.get("root", "/"))
    detections = f"{TRUTH}.detections"
    schema = root_dataset.get_field_schema(flat=True)

    def column(path: str) -> list[Any]:
        return view.values(path) if path in schema else [None] * len(paths)

    paths = view.values("filepath")
    image_ids, files, tags = column("image_id"), column("file"), view.values("tags")
    widths, heights = column("metadata.width"), column("metadata.height")
    originals = column("original_size")
    labels, places = column(f"{detections}.label"), column(f"{detections}.bounding_box")
    box_ids, box_tags = column(f"{detections}.box_id"), column(f"{detections}.tags")
    crowd, ignore = column(f"{detections}.iscrowd"), column(f"{detections}.ignore")
    shares = column(f"{detections}.mask_share")
    point_ids = column(f"{POINTS}.keypoints.box_id")
    points, visibility = column(f"{POINTS}.keypoints.points"), column(f"{POINTS}.keypoints.visibility")

    n, known_splits = len(paths), set(info.get("splits", SPLITS))
    names = [files[i] or _relative(paths[i], root) for i in range(n)]
    sizes = np.array(
        [(widths[i], heights[i]) if widths[i] else _size_of(paths[i]) for i in range(n)], np.int64
    ).reshape(n, 2)
    counts = [len(entry or ()) for entry in labels]
    flat = functools.partial(_flat, counts)
    scale = np.repeat(sizes, counts, axis=0).astype(np.float64)
    rel = np.array(flat(places), np.float64).reshape(-1, 4)
    boxes = np.concatenate((rel[:, :2], rel[:, :2] + rel[:, 2:]), axis=1) * np.tile(scale, 2)
    number = {name: c for c, name in enumerate(classes)}
    try:
        numbers = [number[label] for label in flat(labels)]
    except KeyError as error:
        raise InputError(
            f"a box in FiftyOne has the label {error.args[0]!r}, which is not one of {', '.join(classes)}: correct "
            "it, or add it to the dataset's default_classes"
        ) from None
    ids = _identifiers(flat(box_ids))
    picture_ids = _identifiers(image_ids)
    owners = np.repeat(np.arange(n), counts)

    keypoints = None
    if k := info.get("keypoints", 0):
        keypoints = np.zeros((len(ids), k, 3), np.float32)
        row_of = {int(box): row for row, box in enumerate(ids)}
        for i in range(n):
            for box, place, seen in zip(
                point_ids[i] or (), points[i] or (), visibility[i] or (), strict=True
            ):
                row = row_of.get(box, -1)
                if row >= 0 and owners[row] == i:
                    marks = np.array(place, np.float64) * sizes[i]
                    keypoints[row] = np.nan_to_num(np.column_stack((marks, seen)))
    areas = None
    if info.get("areas"):
        own = (boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0)
        areas = np.array([1.0 if share is None else share for share in flat(shares)]) * own
    dataset = Dataset(
        root=root,
        classes=tuple(classes),
        files=names,
        image_ids=picture_ids,
        sizes=sizes.astype(np.int32),
        splits=np.array([_split_of(t, known_splits, f) for t, f in zip(tags, names, strict=True)], np.str_),
        starts=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        box_ids=ids,
        boxes=boxes.astype(np.float32),
        labels=np.array(numbers, np.int32),
        crowd=np.array([bool(value) for value in flat(crowd)], np.bool_),
        ignore=np.array([bool(value) for value in flat(ignore)], np.bool_),
        keypoints=keypoints,
        areas=None if areas is None else areas.astype(np.float32),
        original_sizes=None if not n or originals[0] is None else np.array(originals, np.int32),
    )
    picture_tags = {
        int(p): [tag for tag in t if tag not in known_splits] for p, t in zip(picture_ids, tags, strict=True)
    }
    marked = {int(box): list(t) for box, t in zip(ids, flat(box_tags), strict=True) if t}
    return dataset, picture_tags, marked


def _flat(counts: list[int], values: list[Any]) -> list[Any]:
    """Values per box from lists per picture; None for all boxes of a picture that has no list."""
    result: list[Any] = []
    for count, entry in zip(counts, values, strict=True):
        result.extend(entry if entry is not None else [None] * count)
    return result


def _identifiers(given: list[int | None]) -> NDArray[np.int64]:
    """The identifiers, with new ones where there is none or a copy brought its original's along."""
    following = max((value for value in given if value is not None), default=0) + 1
    taken: set[int] = set()
    result = np.zeros(len(given), np.int64)
    for row, value in enumerate(given):
        if value is None or value in taken:
            value = following
            following += 1
        taken.add(value)
        result[row] = value
    return result


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _split_of(tags: list[str], known: set[str], file: str) -> str:
    found = [tag for tag in tags if tag in known]
    if len(found) > 1:
        raise InputError(
            f"{file} is tagged {' and '.join(found)} in FiftyOne: a picture belongs to one split"
        )
    return found[0] if found else ""


# ---- what was decided ---------------------------------------------------------------------------------


@_asks_database
def curated(dataset: Dataset, view: Any, reasons: Mapping[str, str] | None = None) -> tuple[Dataset, Record]:
    """`dataset` as curated in FiftyOne, and the record of what was removed and why, moved and edited.

    A picture stays when it is in `view` (the FiftyOne dataset or any view into it) and carries no tag of
    `reasons`; a box stays when it is there and carries none. `reasons` maps a tag to the sentence that the
    record gives. Splits and boxes are taken over as edited. Pictures keep the order of `dataset`.
    """
    after, tags, box_tags = _read(view)
    every = view._root_dataset
    if every is not view:
        _, tags, box_tags = _read(every)
    record = _difference(dataset, after, tags, box_tags, reasons or {})
    record["view"] = [str(stage) for stage in getattr(view, "_stages", ())]
    return replay(dataset, record), record


def _difference(
    before: Dataset,
    after: Dataset,
    tags: Mapping[int, list[str]],
    box_tags: Mapping[int, list[str]],
    reasons: Mapping[str, str],
) -> Record:
    """Everything that turns `before` into `after`: an entry per picture that differs or is tagged."""
    place = {int(image_id): i for i, image_id in enumerate(after.image_ids)}
    entries: dict[str, Any] = {}
    for i, image_id in enumerate(before.image_ids.tolist()):
        mine = tags.get(image_id, [])
        entry: dict[str, Any] = {"tags": mine} if mine else {}
        why = [reasons[tag] for tag in mine if tag in reasons]
        k = place.get(image_id)
        if k is None and not why:
            why = ["not in the view" if image_id in tags else "deleted in FiftyOne"]
        if why:
            entry["removed"] = why
        else:
            assert k is not None
            if before.splits[i] != after.splits[k]:
                entry["split"] = {"from": str(before.splits[i]), "to": str(after.splits[k])}
            entry |= _box_changes(before, i, after, k, box_tags, reasons)
        if entry:
            entries[str(image_id)] = {"file": before.files[i], "was": str(before.splits[i]), **entry}
    known = set(before.image_ids.tolist())
    for k, image_id in enumerate(after.image_ids.tolist()):
        if image_id not in known:
            rows = range(*after.rows(k).indices(len(after.boxes)))
            entries[str(image_id)] = {
                "file": after.files[k],
                "new": {"size": after.sizes[k].tolist(), "split": str(after.splits[k])},
                "added_boxes": [_box_entry(after, row) for row in rows],
            } | ({"tags": tags[image_id]} if tags.get(image_id) else {})
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(before.root),
        "classes": list(after.classes),
        "reasons": dict(reasons),
        "before": _summary(before),
        "pictures": entries,
    }


def _box_changes(
    before: Dataset,
    i: int,
    after: Dataset,
    k: int,
    box_tags: Mapping[int, list[str]],
    reasons: Mapping[str, str],
) -> dict[str, Any]:
    old = {int(before.box_ids[row]): row for row in range(*before.rows(i).indices(len(before.boxes)))}
    new = {int(after.box_ids[row]): row for row in range(*after.rows(k).indices(len(after.boxes)))}
    changes: dict[str, list[Any]] = {"removed_boxes": [], "changed_boxes": [], "added_boxes": []}
    for box_id, row in old.items():
        why = [reasons[tag] for tag in box_tags.get(box_id, []) if tag in reasons]
        if box_id not in new or why:
            gone = _box_entry(before, row)
            changes["removed_boxes"].append(gone | {"reasons": why or ["deleted in FiftyOne"]})
            continue
        was, now = _box_entry(before, row), _box_entry(after, new[box_id])
        if was != now:
            changes["changed_boxes"].append({"box_id": box_id, "from": was, "to": now})
    changes["added_boxes"] = [
        _box_entry(after, row)
        for box_id, row in new.items()
        if box_id not in old and not any(tag in reasons for tag in box_tags.get(box_id, []))
    ]
    return {name: found for name, found in changes.items() if found}


def _box_entry(dataset: Dataset, row: int) -> dict[str, Any]:
    entry = {
        "box_id": int(dataset.box_ids[row]),
        "class": dataset.classes[dataset.labels[row]],
        "box": [float(x) for x in dataset.boxes[row]],
        "crowd": bool(dataset.crowd[row]),
        "ignore": bool(dataset.ignore[row]),
    }
    if dataset.keypoints is not None:
        entry["keypoints"] = [float(x) for x in dataset.keypoints[row].ravel()]
    if dataset.areas is not None:
        entry["area"] = float(dataset.areas[row])
    return entry


def _summary(dataset: Dataset) -> dict[str, Any]:
    names, counts = np.unique(dataset.splits, return_counts=True)
    return {
        "pictures": len(dataset),
        "boxes": len(dataset.boxes),
        "splits": dict(zip(names.tolist(), counts.tolist(), strict=True)),
    }


def replay(dataset: Dataset, record: Record) -> Dataset:
    """The dataset with everything that the record holds done to it; FiftyOne is not needed.

    Boxes that were added come after the old ones of their picture, pictures that were added come last.
    InputError where the record is about other pictures.
    """
    entries = {int(key): entry for key, entry in record["pictures"].items()}
    known = set(dataset.image_ids.tolist())
    for image_id, entry in entries.items():
        if "new" not in entry and image_id not in known:
            raise InputError(
                f"the record is about other pictures: {entry['file']} (id {image_id}) is not in {dataset.root}"
            )
    classes = tuple(record["classes"])
    number = {name: c for c, name in enumerate(classes)}
    count = len(dataset.boxes)
    keep = np.ones(count, bool)
    labels = (
        np.array([number[name] for name in dataset.classes], np.int32)[dataset.labels]
        if count
        else dataset.labels
    )
    columns: dict[str, Any] = {
        "box_ids": dataset.box_ids,
        "boxes": dataset.boxes.copy(),
        "labels": labels,
        "crowd": dataset.crowd.copy(),
        "ignore": dataset.ignore.copy(),
        "keypoints": None if dataset.keypoints is None else dataset.keypoints.copy(),
        "areas": None if dataset.areas is None else dataset.areas.copy(),
    }
    splits = dataset.splits.astype(object)
    stays = np.ones(len(dataset), bool)
    added: list[tuple[int, dict[str, Any]]] = []
    row_of = {int(box_id): row for row, box_id in enumerate(dataset.box_ids)} if entries else {}

    def put(row: int, entry: dict[str, Any]) -> None:
        columns["boxes"][row] = entry["box"]
        columns["labels"][row] = number[entry["class"]]
        columns["crowd"][row], columns["ignore"][row] = entry["crowd"], entry["ignore"]
        if columns["keypoints"] is not None:
            columns["keypoints"][row] = np.reshape(entry["keypoints"], (-1, 3))
        if columns["areas"] is not None:
            columns["areas"][row] = entry["area"]

    fresh: list[tuple[int, dict[str, Any]]] = []
    for i, image_id in enumerate(dataset.image_ids.tolist()):
        if (entry := entries.get(image_id)) is None:
            continue
        stays[i] = "removed" not in entry
        if "split" in entry:
            splits[i] = entry["split"]["to"]
        for box in entry.get("removed_boxes", ()):
            keep[row_of[box["box_id"]]] = False
        for box in entry.get("changed_boxes", ()):
            put(row_of[box["box_id"]], box["to"])
        added += [(i, box) for box in entry.get("added_boxes", ())]
    for image_id, entry in entries.items():
        if "new" in entry:
            added += [(len(dataset) + len(fresh), box) for box in entry["added_boxes"]]
            fresh.append((image_id, entry))

    owners = np.repeat(np.arange(len(dataset)), np.diff(dataset.starts))
    if added:
        for name, column in columns.items():
            if column is not None:
                room = np.zeros((len(added), *column.shape[1:]), column.dtype)
                columns[name] = np.concatenate((column, room))
        for row, (_, box) in enumerate(added, start=count):
            columns["box_ids"][row] = box["box_id"]
            put(row, box)
        owners = np.concatenate((owners, [i for i, _ in added]))
        keep = np.concatenate((keep, np.ones(len(added), bool)))
    order = np.flatnonzero(keep)
    order = order[np.argsort(owners[order], kind="stable")]
    n = len(dataset) + len(fresh)
    originals = dataset.original_sizes
    new_sizes = np.array([entry["new"]["size"] for _, entry in fresh], np.int32).reshape(-1, 2)
    whole = replace(
        dataset,
        classes=classes,
        files=[*dataset.files, *(entry["file"] for _, entry in fresh)],
        image_ids=np.concatenate((dataset.image_ids, np.array([i for i, _ in fresh], np.int64))),
        sizes=np.concatenate((dataset.sizes, new_sizes)),
        splits=np.array([*splits, *(entry["new"]["split"] for _, entry in fresh)], np.str_),
        starts=np.searchsorted(owners[order], np.arange(n + 1)).astype(np.int64),
        original_sizes=None if originals is None else np.concatenate((originals, new_sizes)),
        **{name: None if column is None else column[order] for name, column in columns.items()},
    )
    return whole.subset(np.flatnonzero(np.concatenate((stays, np.ones(len(fresh), bool)))))


def export_record(record: Record, path: str | Path) -> None:
    """Write the record as JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1))


def read_record(path: str | Path) -> Record:
    """A record from `export_record` or `saving`. InputError where the file is something else."""
    try:
        record = json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a record of curation: {error}") from None
    if not isinstance(record, dict) or not {"pictures", "classes"} <= record.keys():
        raise InputError(f"{path} is not a record of curation: it has no pictures and classes")
    return record


@contextmanager
def saving(fo_dataset: Any, dataset: Dataset, path: str | Path, every: float = 2.0) -> Iterator[None]:
    """Keep the record of what has changed in FiftyOne in a file while the block runs, whoever changes it.

    Every `every` seconds a change anywhere (App, notebook, another process) rewrites the file, whole or not at
    all; once more at the end. A database that dies loses at most that much, and `to_fiftyone(dataset, name,
    record=read_record(path))` goes on from there. InputError at the end where the database went away.
    """
    path = Path(path)
    stop = threading.Event()
    state: dict[str, Any] = {"stamp": None, "error": None, "changed": 0, "time": ""}

    def write() -> None:
        stamp = (fo_dataset.count(), fo_dataset.max("last_modified_at"))
        if stamp != state["stamp"]:
            after, tags, box_tags = _read(fo_dataset)
            record = _difference(dataset, after, tags, box_tags, {})
            export_record(record, path)
            state.update(stamp=stamp, changed=len(record["pictures"]), time=record["date"])

    def watch() -> None:
        while not stop.wait(every):
            try:
                write()
            except (
                InputError
            ) as error:  # a half-made edit, such as two split tags: the next round may be fine
                state["error"] = error
            except _connection_errors() as error:
                state["error"] = error
                return

    _asks_database(write)()
    thread = threading.Thread(target=watch, name="curation record", daemon=True)
    thread.start()
    try:
        yield
    except (*_connection_errors(), InputError) as error:
        if isinstance(error, InputError) and not isinstance(error.__cause__, _connection_errors()):
            raise
        raise _stopped(state, path) from error
    finally:
        stop.set()
        thread.join()
    try:
        write()
    except _connection_errors() as error:
        raise _stopped(state, path) from error


def _stopped(state: Mapping[str, Any], path: Path) -> InputError:
    return InputError(
        f"FiftyOne's database stopped: {path} holds the tags, splits and edits of {state['changed']} pictures as of "
        f"{state['time']}; start again and pass record=read_record({str(path)!r}) to to_fiftyone"
    )


# ---- what to look at ----------------------------------------------------------------------------------


def embedding_model(embed: Embed) -> Any:
    """`embed` (pictures -> (N, D)) as a FiftyOne model, for FiftyOne's own functions that take one."""
    fiftyone()
    from fiftyone.core.models import EmbeddingsMixin, Model

    class Embedder(EmbeddingsMixin, Model):
        media_type = "image"
        has_embeddings = True
        ragged_batches = False
        transforms = None
        preprocess = False

        def predict(self, arg: Any) -> Any:
            raise NotImplementedError("this model embeds pictures and predicts nothing")

        def embed(self, arg: NDArray[np.uint8]) -> NDArray[np.floating]:
            return np.asarray(embed([arg]))[0]

        def embed_all(self, args: Images) -> NDArray[np.floating]:
            return np.asarray(embed(list(args)))

    return Embedder()


@_asks_database
def add_embeddings(
    view: Any, embed: Embed, field: str = "embedding", batch_size: int = 32
) -> NDArray[np.floating]:
    """Embeddings (N, D) of the view's pictures, also kept in `field` of each."""
    try:
        view.compute_embeddings(
            embedding_model(embed),
            field,
            batch_size=batch_size,
            skip_failures=False,
            progress=_bar("embeddings"),
        )
    except (OSError, ValueError) as error:
        raise InputError(f"a picture could not be embedded: {error}") from error
    return np.array(view.values(field))


@_asks_database
def add_uniqueness(view: Any, embeddings: NDArray[np.floating]) -> None:
    """`uniqueness` in 0..1 of each picture: how far its nearest neighbours are, 1 for the loneliest."""
    import fiftyone.brain as brain

    if len(embeddings) and not np.ptp(embeddings, axis=0).any():
        view.set_values("uniqueness", [0.0] * len(embeddings))  # all alike: FiftyOne would divide by zero
        return
    brain.compute_uniqueness(view, embeddings=np.asarray(embeddings, np.float64), progress=_bar("uniqueness"))


@_asks_database
def tag_duplicates(
    view: Any, embeddings: NDArray[np.floating] | None = None, threshold: float = 0.02
) -> dict[str, list[int]]:
    """Tag repeated pictures "exact duplicate" (equal files) or "near duplicate" (embeddings nearer than
    `threshold` in cosine distance), all but the one that is kept, whose file goes into `duplicate_of`.

    Returns the picture identifiers under each tag. Without `embeddings` only exact ones are looked for.
    """
    import fiftyone.brain as brain

    names = dict(zip(*view.values(["id", "file"]), strict=True))
    kept: dict[str, dict[str, str]] = {"exact duplicate": {}, "near duplicate": {}}
    for first, others in brain.compute_exact_duplicates(view, progress=_bar("exact duplicates")).items():
        kept["exact duplicate"] |= dict.fromkeys(others, first)
    if embeddings is not None and len(embeddings) > 1:
        index = brain.compute_near_duplicates(
            view, threshold=threshold, embeddings=np.asarray(embeddings, np.float64), progress=False
        )
        for first, pairs in index.neighbors_map.items():
            others = [other for other, _ in pairs if other not in kept["exact duplicate"]]
            kept["near duplicate"] |= dict.fromkeys(others, first)
    if "duplicate_of" not in view.get_field_schema():
        view._root_dataset.add_sample_field("duplicate_of", fiftyone().StringField)
    found = {}
    for tag, pairs_ in kept.items():
        if pairs_:
            view.select(list(pairs_)).tag_samples(tag)
            view.set_values("duplicate_of", {a: names[b] for a, b in pairs_.items()}, key_field="id")
        ids = dict(zip(*view.values(["id", "image_id"]), strict=True))
        found[tag] = [ids[a] for a in pairs_]
    return found


@_asks_database
def add_predictions(
    view: Any,
    detect: Detect,
    classes: Sequence[str] | None = None,
    field: str = "predictions",
    batch_size: int = 16,
) -> None:
    """A detector's boxes into `field`. `classes` names its class numbers (the dataset's own by default)."""
    fo = fiftyone()
    import cv2

    names = list(classes or view._root_dataset.default_classes)
    ids, paths = view.values(["id", "filepath"])
    made = {}
    for first in progress(range(0, len(ids), batch_size), "predictions"):
        images = []
        for path in paths[first : first + batch_size]:
            image = cv2.imread(path, cv2.IMREAD_COLOR)
            if image is None:
                raise InputError(f"{path} does not decode: run `toolkit data doctor` on the dataset first")
            images.append(image[..., ::-1].copy())
        answers = zip(ids[first : first + batch_size], images, detect(images), strict=True)
        for sample_id, image, (boxes, scores, numbers) in answers:
            height, width = image.shape[:2]
            rel = np.asarray(boxes, np.float64).reshape(-1, 4) / [width, height, width, height]
            made[sample_id] = fo.Detections(
                detections=[
                    fo.Detection(
                        label=names[int(c)],
                        bounding_box=[b[0], b[1], b[2] - b[0], b[3] - b[1]],
                        confidence=float(s),
                    )
                    for b, s, c in zip(rel.tolist(), scores, numbers, strict=True)
                ]
            )
    view.set_values(field, made, key_field="id")


@_asks_database
def add_mistakenness(view: Any, field: str = "predictions") -> None:
    """`mistakenness` of pictures and boxes (0..1, how likely the label is wrong), `possible_missing` and
    `possible_spurious` counts: where confident predictions and labels disagree."""
    import fiftyone.brain as brain

    brain.compute_mistakenness(view, field, label_field=TRUTH, progress=_bar("mistakenness"))


@_asks_database
def add_hardness(view: Any, field: str = "predictions") -> None:
    """`hardness` of each picture in 0..1: how much of its truth the detector misses or invents.

    One minus a soft Jaccard index: scores of right detections over (number of true boxes + scores of wrong
    detections); right is IoU at least .5 with a box of its class, each box once. Crowds are left to
    FiftyOne's matching.
    """
    key = "hardness_matches"
    view.evaluate_detections(
        field, gt_field=TRUTH, eval_key=key, iou=MATCH_IOU, classwise=True, progress=_bar("hardness")
    )
    try:
        outcomes, scores = view.values([f"{field}.detections.{key}", f"{field}.detections.confidence"])
        truths = view.values(f"{TRUTH}.detections.{key}")
    finally:
        view._root_dataset.delete_evaluation(key)
    hardness = []
    for outcome, score, truth in zip(outcomes, scores, truths, strict=True):
        right = sum(s for o, s in zip(outcome or (), score or (), strict=True) if o == "tp")
        wrong = sum(s for o, s in zip(outcome or (), score or (), strict=True) if o == "fp")
        whole = len(truth or ()) + wrong
        hardness.append(1 - right / whole if whole else 0.0)
    view.set_values("hardness", hardness)


def smallest(view: Any, count: int = 50) -> Any:
    """The pictures with the smallest labelled objects (share of the picture), smallest first."""
    expression = fiftyone().ViewField
    sides = expression("bounding_box")
    smallest_box = expression(f"{TRUTH}.detections").map(sides[2] * sides[3]).min()
    return view.match(expression(f"{TRUTH}.detections").length() > 0).sort_by(smallest_box).limit(count)


def rarest(view: Any, count: int = 50) -> Any:
    """Pictures with an object of the class that has the fewest boxes."""
    counts = view.count_values(f"{TRUTH}.detections.label")
    if not counts:
        return view.limit(0)
    label = min(counts, key=lambda name: (counts[name], name))
    return view.match(fiftyone().ViewField(f"{TRUTH}.detections.label").contains(label)).limit(count)


def hardest(view: Any, count: int = 50, by: str = "hardness") -> Any:
    """The pictures with the largest value of a field: "hardness", "mistakenness", "uniqueness"."""
    if by not in view.get_field_schema():
        raise InputError(f"the pictures have no field {by!r} yet: call add_{by} first")
    return view.sort_by(by, reverse=True).limit(count)


@_asks_database
def prepare(
    fo_dataset: Any, embed: Embed | None = None, detect: Detect | None = None, count: int = 50
) -> dict[str, int]:
    """Everything above in one go, as far as there is a backbone and a detector; saves the views to look at.

    Returns the number of pictures in each saved view.
    """
    if embed is not None:
        embeddings = add_embeddings(fo_dataset, embed)
        add_uniqueness(fo_dataset, embeddings)
        tag_duplicates(fo_dataset, embeddings)
    else:
        tag_duplicates(fo_dataset)
    views = {"smallest": smallest(fo_dataset, count), "rarest": rarest(fo_dataset, count)}
    views["duplicates"] = fo_dataset.match_tags(["exact duplicate", "near duplicate"])
    if embed is not None:
        views["most unique"] = hardest(fo_dataset, count, "uniqueness")
    if detect is not None:
        add_predictions(fo_dataset, detect)
        add_mistakenness(fo_dataset)
        add_hardness(fo_dataset)
        views["hardest"] = hardest(fo_dataset, count)
        views["most mistaken"] = hardest(fo_dataset, count, "mistakenness")
    for name, view in views.items():
        fo_dataset.save_view(name, view, overwrite=True)
    return {name: view.count() for name, view in views.items()}


@_asks_database
def grid(view: Any, count: int = 12, field: str = TRUTH, title: str = "") -> Figure:
    """The first pictures of a view with their boxes, as a matplotlib figure: the App's page without the App."""
    import cv2

    from toolkit.viz import draw_boxes, image_grid

    classes = list(view._root_dataset.default_classes)
    drawn, titles = [], []
    for sample in view.limit(count):
        image = cv2.imread(sample.filepath, cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(
                f"{sample.filepath} does not decode: run `toolkit data doctor` on the dataset first"
            )
        height, width = image.shape[:2]
        found = sample[field].detections if field in sample.field_names and sample[field] else []
        rel = np.array([detection.bounding_box for detection in found], np.float64).reshape(-1, 4)
        boxes = np.concatenate((rel[:, :2], rel[:, :2] + rel[:, 2:]), axis=1) * [width, height, width, height]
        names = classes + sorted({detection.label for detection in found} - set(classes))
        numbers = np.array([names.index(detection.label) for detection in found], int)
        drawn.append(draw_boxes(image[..., ::-1], boxes.astype(np.float32), numbers, classes=names, scale=2))
        titles.append(Path(sample.filepath).name)
    return image_grid(drawn, titles, title=title)


def _bar(title: str) -> Callable[[Any], None]:
    """A callback that turns FiftyOne's progress into this project's bar."""
    steps: list[Iterator[int]] = []
    at = 0

    def tick(state: Any) -> None:
        nonlocal at
        if not steps:
            steps.append(progress(range(int(state.total or 0) + 1), title))
        while at <= state.iteration and next(steps[0], None) is not None:
            at += 1

    return tick
