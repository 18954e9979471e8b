"""Into FiftyOne and out of it."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.data.curation.record import Record, counts, difference, export_record, replay
from toolkit.data.dataset import Dataset
from toolkit.data.formats.common import picture_size
from toolkit.data.mongod import check_mongod
from toolkit.data.splitting import SPLITS
from toolkit.runtime import InputError, progress, require

TRUTH, POINTS = "ground_truth", "keypoints"
F = TypeVar("F", bound=Callable[..., Any])


def fiftyone() -> ModuleType:
    """FiftyOne, imported with its database checked first: it waits a minute for one that is not there."""
    if "fiftyone" not in sys.modules:
        if fault := check_mongod():
            raise InputError(fault)
        for name, value in (
            ("FIFTYONE_DATABASE_VALIDATION", "false"),
            ("FIFTYONE_SHOW_PROGRESS_BARS", "false"),  # it writes them to stdout; ours go to stderr
            ("FIFTYONE_LOGGING_LEVEL", "WARNING"),
        ):
            os.environ.setdefault(name, value)
    return require("fiftyone", "curation")


def connection_errors() -> tuple[type[BaseException], ...]:
    """What FiftyOne raises where its database went away."""
    from pymongo.errors import ConnectionFailure

    return (ConnectionFailure, ConnectionError)


def asks_database(function: F) -> F:
    """Turn a database that went away into InputError with one sentence."""

    @functools.wraps(function)
    def asked(*args: Any, **kwargs: Any) -> Any:
        fiftyone()
        try:
            return function(*args, **kwargs)
        except connection_errors() as error:
            raise InputError(
                "FiftyOne's database stopped in the middle of this step: the dataset on disk is untouched, "
                "and what was curated is in the record where `saving` was used; start again from there"
            ) from error

    return asked  # type: ignore[return-value]


# ---- in -----------------------------------------------------------------------------------------------


@asks_database
def to_fiftyone(dataset: Dataset, name: str, record: Record | None = None, persistent: bool = False) -> Any:
    """A FiftyOne dataset called `name` with these pictures, boxes, identifiers, flags, keypoints and splits.

    `record` (from an earlier session) is replayed first and its tags are set, so that work goes on where it
    stopped. `persistent` keeps the FiftyOne dataset in the database after this process ends.
    InputError where `name` is taken, a class number has no name, or a size that is not recorded cannot be
    read off the picture.
    """
    fo = fiftyone()
    tags: dict[int, list[str]] = {}
    came = dataset.image_ids.tolist()
    if record is not None:
        dataset = replay(dataset, record)
        tags = {int(key): entry.get("tags", []) for key, entry in record["pictures"].items()}
    if fo.dataset_exists(name):
        raise InputError(f"FiftyOne has a dataset called {name!r} already: choose another name or delete it")
    if dataset.labels.size and not (
        dataset.labels.min() >= 0 and dataset.labels.max() < len(dataset.classes)
    ):
        raise InputError(
            f"{dataset.root} has boxes of a class without a name: run `toolkit data doctor` on it first"
        )
    dataset = _with_sizes(dataset)
    fo_dataset = fo.Dataset(name, persistent=persistent)
    try:
        fo_dataset.default_classes = list(dataset.classes)
        fo_dataset.info = {
            "root": str(dataset.root),
            "splits": sorted({*dataset.splits.tolist(), *SPLITS} - {""}),
            "keypoints": 0 if dataset.keypoints is None else dataset.keypoints.shape[1],
            "areas": dataset.areas is not None,
            "image_ids": came,
        }
        _declare_fields(fo, fo_dataset, dataset)
        step = 256
        for first in progress(range(0, len(dataset), step), "into FiftyOne"):
            rows = range(first, min(first + step, len(dataset)))
            batch = [_sample(fo, dataset, i, tags) for i in rows]  # all their fields are declared already
            fo_dataset.add_samples(batch, expand_schema=False, validate=False, progress=False)
    except BaseException:
        with suppress(*connection_errors()):  # nobody finds half a dataset; a dead database has none
            fo_dataset.delete()
        raise
    return fo_dataset


def _declare_fields(fo: ModuleType, fo_dataset: Any, dataset: Dataset) -> None:
    """What the App should show and edit, with types."""
    fo_dataset.add_sample_field("image_id", fo.IntField)
    fo_dataset.add_sample_field("file", fo.StringField)
    fo_dataset.add_sample_field(TRUTH, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    attributes = {"box_id": fo.IntField, "iscrowd": fo.BooleanField, "ignore": fo.BooleanField}
    if dataset.areas is not None:
        attributes["mask_share"] = fo.FloatField
    for attribute, kind in attributes.items():
        fo_dataset.add_sample_field(f"{TRUTH}.detections.{attribute}", kind)
    if dataset.original_sizes is not None:
        fo_dataset.add_sample_field("original_size", fo.ListField, subfield=fo.IntField)
    if dataset.keypoints is not None:
        fo_dataset.add_sample_field(POINTS, fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
        fo_dataset.add_sample_field(f"{POINTS}.keypoints.box_id", fo.IntField)
        fo_dataset.add_sample_field(f"{POINTS}.keypoints.visibility", fo.ListField, subfield=fo.FloatField)


def _with_sizes(dataset: Dataset) -> Dataset:
    """What is not recorded is read off the pictures' headers."""
    sizes = dataset.sizes.copy()
    for i in np.flatnonzero((sizes <= 0).any(axis=1)).tolist():
        sizes[i] = _size_of(dataset.path(i))
    return replace(dataset, sizes=sizes)


def _size_of(path: Path | str) -> tuple[int, int]:
    try:
        return picture_size(path)
    except InputError as error:
        raise InputError(f"{error}, and its size is not recorded: run `toolkit data doctor` first") from None


def _sample(fo: ModuleType, dataset: Dataset, i: int, tags: Mapping[int, list[str]]) -> Any:
    size = dataset.sizes[i].astype(np.float64)
    detections, points = [], []
    for row in range(int(dataset.starts[i]), int(dataset.starts[i + 1])):
        label, box_id = dataset.classes[dataset.labels[row]], int(dataset.box_ids[row])
        low, high = dataset.boxes[row].astype(np.float64).reshape(2, 2)
        more = {}
        if dataset.areas is not None:
            # As a share of the box, so that it follows a box that somebody resizes.
            own = float(np.prod(high - low))
            more["mask_share"] = float(dataset.areas[row]) / own if own > 0 else None
        detections.append(
            fo.Detection(
                label=label,
                bounding_box=[*(low / size), *((high - low) / size)],
                box_id=box_id,
                iscrowd=bool(dataset.crowd[row]),
                ignore=bool(dataset.ignore[row]),
                **more,
            )
        )
        if dataset.keypoints is not None:
            marks = dataset.keypoints[row].astype(np.float64)
            places = np.where(marks.any(axis=1)[:, None], marks[:, :2] / size, np.nan)  # NaN is not drawn
            visibility = marks[:, 2].tolist()
            points.append(
                fo.Keypoint(label=label, points=places.tolist(), box_id=box_id, visibility=visibility)
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


# ---- out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """What a view holds; tags (other than splits) by the identifier of the picture, of the box."""

    dataset: Dataset
    tags: dict[int, list[str]]
    box_tags: dict[int, list[str]]


@asks_database
def from_fiftyone(view: Any) -> Dataset:
    """The pictures of a FiftyOne dataset or view, in its order, as a canonical dataset.

    Pictures and boxes that were added in FiftyOne get new identifiers. InputError for a label that is not
    among the dataset's `default_classes` (add it there if it is meant) and for a picture with two split tags.
    """
    return _read(view).dataset


def _read(view: Any) -> _Read:
    home = view._root_dataset
    info, classes = home.info, list(home.default_classes)
    root, splits = Path(info.get("root", "/")), set(info.get("splits", SPLITS))
    schema = home.get_field_schema(flat=True)
    paths, tags = view.values(["filepath", "tags"])
    n = len(paths)

    def column(path: str) -> list[Any]:
        """A value per picture, None where there is none."""
        return view.values(path) if path in schema else [None] * n

    counts_ = [len(entry or ()) for entry in column(f"{TRUTH}.detections.label")]

    def flat(name: str) -> list[Any]:
        """An attribute per box, None where there is none."""
        entries = zip(column(f"{TRUTH}.detections.{name}"), counts_, strict=True)
        return [value for entry, count in entries for value in (entry or [None] * count)]

    files = [file or _relative(path, root) for file, path in zip(column("file"), paths, strict=True)]
    recorded = zip(column("metadata.width"), column("metadata.height"), paths, strict=True)
    sizes = np.array([(w, h) if w else _size_of(path) for w, h, path in recorded], np.int64).reshape(n, 2)
    image_ids, box_ids = _identifiers(column("image_id")), _identifiers(flat("box_id"))
    owners = np.repeat(np.arange(n), counts_)
    rel = np.array(flat("bounding_box"), np.float64).reshape(-1, 4)
    boxes = np.concatenate((rel[:, :2], rel[:, :2] + rel[:, 2:]), axis=1) * np.tile(sizes[owners], 2)
    numbers = {name: c for c, name in enumerate(classes)}
    try:
        labels = [numbers[label] for label in flat("label")]
    except KeyError as error:
        raise InputError(
            f"a box in FiftyOne has the label {error.args[0]!r}, which is not one of {', '.join(classes)}: "
            "correct it, or add it to the dataset's default_classes"
        ) from None
    keypoints = None
    if k := info.get("keypoints", 0):
        entries = zip(
            *(column(f"{POINTS}.keypoints.{x}") for x in ("box_id", "points", "visibility")), strict=True
        )
        keypoints = _keypoints(list(entries), box_ids, owners, sizes, k)
    areas = None
    if info.get("areas"):
        own = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
        shares = np.array([1.0 if share is None else share for share in flat("mask_share")])
        areas = (shares * own).astype(np.float32)
    originals = column("original_size")
    dataset = Dataset(
        root=root,
        classes=tuple(classes),
        files=files,
        image_ids=image_ids,
        sizes=sizes.astype(np.int32),
        splits=np.array([_split_of(t, splits, f) for t, f in zip(tags, files, strict=True)], np.str_),
        starts=np.concatenate(([0], np.cumsum(counts_))).astype(np.int64),
        box_ids=box_ids,
        boxes=boxes.astype(np.float32),
        labels=np.array(labels, np.int32),
        crowd=np.array([bool(value) for value in flat("iscrowd")], np.bool_),
        ignore=np.array([bool(value) for value in flat("ignore")], np.bool_),
        keypoints=keypoints,
        areas=areas,
        original_sizes=None if n == 0 or None in originals else np.array(originals, np.int32),
    )
    own_tags = ([tag for tag in entry if tag not in splits] for entry in tags)
    box_tags = zip(box_ids.tolist(), flat("tags"), strict=True)
    return _Read(
        dataset,
        dict(zip(image_ids.tolist(), own_tags, strict=True)),
        {box_id: list(entry) for box_id, entry in box_tags if entry},
    )


def _keypoints(
    entries: list[tuple[Any, Any, Any]],
    box_ids: NDArray[np.int64],
    owners: NDArray[np.intp],
    sizes: NDArray[np.int64],
    k: int,
) -> NDArray[np.float32]:
    """(m, k, 3) from the landmarks of each picture; zero for a box that has none left."""
    result = np.zeros((len(box_ids), k, 3), np.float32)
    row_of = {box_id: row for row, box_id in enumerate(box_ids.tolist())}
    for i, (ids, places, visibility) in enumerate(entries):
        for box_id, place, seen in zip(ids or (), places or (), visibility or (), strict=True):
            row = row_of.get(box_id, -1)
            if row >= 0 and owners[row] == i:
                marks = np.array(place, np.float64) * sizes[i]
                result[row] = np.nan_to_num(np.column_stack((marks, seen)))
    return result


def _identifiers(given: list[int | None]) -> NDArray[np.int64]:
    """The identifiers, with new ones where there is none or a copy brought its original's along."""
    following = max((value for value in given if value is not None), default=0) + 1
    taken: set[int] = set()
    for row, value in enumerate(given):
        if value is None or value in taken:
            given[row] = value = following
            following += 1
        taken.add(value)
    return np.array(given, np.int64)


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _split_of(tags: list[str], splits: set[str], file: str) -> str:
    named = [tag for tag in tags if tag in splits]
    if len(named) > 1:
        raise InputError(f"{file} is tagged {' and '.join(named)} in FiftyOne: a picture has one split")
    return named[0] if named else ""


# ---- what was decided ---------------------------------------------------------------------------------


@asks_database
def curated(dataset: Dataset, view: Any, reasons: Mapping[str, str] | None = None) -> tuple[Dataset, Record]:
    """`dataset` as curated in FiftyOne, and the record of what was removed and why, moved and edited.

    A picture stays when it is in `view` (the FiftyOne dataset or any view into it) and carries no tag of
    `reasons`; a box stays when it is there and carries none. `reasons` maps a tag to the sentence that the
    record gives. Splits and boxes are taken over as edited. Pictures keep the order of `dataset`. Pictures of
    `dataset` that never came into FiftyOne stay as they are; the record lists them as `outside`.
    """
    home = view._root_dataset
    chosen, every = _read(view), _read(home)
    outside = _outside(dataset, home)
    record = difference(dataset, chosen.dataset, every.tags, every.box_tags, reasons, outside)
    record["view"] = [str(stage) for stage in getattr(view, "_stages", ())]
    result = replay(dataset, record)
    record["after"] = counts(result)
    return result, record


def _outside(dataset: Dataset, fo_dataset: Any) -> list[int]:
    """The identifiers of the pictures that `to_fiftyone` did not get."""
    came = set(fo_dataset.info.get("image_ids", dataset.image_ids.tolist()))
    return [image_id for image_id in dataset.image_ids.tolist() if image_id not in came]


@contextmanager
def saving(fo_dataset: Any, dataset: Dataset, path: str | Path, every: float = 2.0) -> Iterator[None]:
    """Keep the record of what differs from `dataset` in a file while the block runs, whoever changes it.

    Every `every` seconds a change anywhere (App, notebook, another process) rewrites the file, whole or not
    at all; once more at the end. A database that dies loses at most that much, and `to_fiftyone(dataset,
    name, record=read_record(path))` goes on from there. InputError at the end where the database went away.
    """
    saved = _Saved(fo_dataset, dataset, Path(path))
    asks_database(saved.write)()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every):
            try:
                saved.write()
            except InputError:  # a half-made edit, such as two split tags: the next round may be fine
                continue
            except connection_errors():
                return

    thread = threading.Thread(target=watch, name="curation record", daemon=True)
    thread.start()
    try:
        try:
            yield
        finally:
            stop.set()
            thread.join()
        saved.write()
    except InputError as error:
        if not isinstance(error.__cause__, connection_errors()):
            raise
        raise saved.stopped() from error
    except connection_errors() as error:
        raise saved.stopped() from error


class _Saved:
    """A record on disk and the state of FiftyOne that it shows."""

    def __init__(self, fo_dataset: Any, dataset: Dataset, path: Path) -> None:
        self.fo_dataset, self.dataset, self.path = fo_dataset, dataset, path
        self.stamp: Any = None
        self.record: Record = {}

    def write(self) -> None:
        stamp = (self.fo_dataset.count(), self.fo_dataset.max("last_modified_at"))
        if stamp != self.stamp:
            edited = _read(self.fo_dataset)
            outside = _outside(self.dataset, self.fo_dataset)
            self.record = difference(
                self.dataset, edited.dataset, edited.tags, edited.box_tags, outside=outside
            )
            export_record(self.record, self.path)
            self.stamp = stamp

    def stopped(self) -> InputError:
        return InputError(
            f"FiftyOne's database stopped: {self.path} holds the tags, splits and edits of "
            f"{len(self.record['pictures'])} pictures as of {self.record['date']}; start again and pass "
            f"record=read_record({str(self.path)!r}) to to_fiftyone"
        )
