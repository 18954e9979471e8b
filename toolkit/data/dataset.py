"""A detection dataset: in memory plain numpy columns, on disk COCO JSON next to its pictures.

The canonical folder is `annotations/<split>.json` (pictures of no split: `all.json`) and `images/...`;
`file_name` is relative to `images`. Besides COCO's own fields an annotation carries `ignore`, and a picture
that was reduced carries `original_width` and `original_height`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.class_names import compare_classes, shown
from toolkit.data.intake import Faults, Intake
from toolkit.moved import at_old_place
from toolkit.runtime import InputError
from toolkit.tables import Shown


@dataclass(frozen=True, eq=False)
class Dataset(Shown):
    """Columns of n pictures and m boxes; the boxes of picture i are the rows `starts[i]:starts[i + 1]`.

    A hundred thousand pictures with a million boxes take about 60 MB.
    """

    root: Path  # the folder that `files` are relative to
    classes: tuple[str, ...]
    files: list[str]  # n
    image_ids: NDArray[np.int64]  # (n,)
    sizes: NDArray[np.int32]  # (n, 2) width, height; 0 where not recorded
    splits: NDArray[np.str_]  # (n,) "train", "val", "test" or ""
    starts: NDArray[np.int64]  # (n + 1,)
    box_ids: NDArray[np.int64]  # (m,)
    boxes: NDArray[np.float32]  # (m, 4) absolute xyxy pixels
    labels: NDArray[np.int32]  # (m,) index into classes
    crowd: NDArray[np.bool_]  # (m,) COCO's iscrowd
    ignore: NDArray[np.bool_]  # (m,) VOC's difficult, WIDER FACE's invalid
    keypoints: NDArray[np.float32] | None = None  # (m, k, 3) x, y, visibility as COCO has them
    areas: NDArray[np.float32] | None = None  # (m,) COCO's mask areas; None: the areas of the boxes
    original_sizes: NDArray[np.int32] | None = (
        None  # (n, 2) before the pictures were reduced; None: as `sizes`
    )
    intake: Intake = field(default_factory=Intake)  # how the labels came in, and what stayed outside

    def __len__(self) -> int:
        return len(self.files)

    def caption(self) -> str:
        """Pictures, boxes and splits."""
        splits = ", ".join(f"{name or 'no split'} {n:,}" for name, n in self.counts()["splits"].items())
        return f"{self.root}: {len(self):,} pictures ({splits}), {len(self.boxes):,} boxes"

    def columns(self) -> dict[str, list[object]]:
        """Boxes of each class in each split."""
        owners = np.repeat(self.splits, np.diff(self.starts))
        columns: dict[str, list[object]] = {"class": list(self.classes)}
        for split in sorted(set(self.splits.tolist())):
            inside = self.labels[(owners == split) & (self.labels >= 0) & (self.labels < len(self.classes))]
            columns[split or "boxes"] = np.bincount(inside, minlength=len(self.classes)).tolist()
        return columns

    def rows(self, i: int) -> slice:
        """The rows of picture i in the box columns."""
        return slice(int(self.starts[i]), int(self.starts[i + 1]))

    def owners(self) -> NDArray[np.int64]:
        """(m,) the picture of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def path(self, i: int) -> Path:
        """The file of picture i."""
        return self.root / self.files[i]

    def subset(self, indices: NDArray[np.integer]) -> Dataset:
        """The pictures at `indices` in that order, with their boxes; identifiers are kept."""
        indices = np.asarray(indices, np.int64)
        counts = np.diff(self.starts)[indices]
        starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        rows = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[indices], counts)
        return replace(
            self,
            files=[self.files[i] for i in indices],
            image_ids=self.image_ids[indices],
            sizes=self.sizes[indices],
            splits=self.splits[indices],
            starts=starts,
            original_sizes=None if self.original_sizes is None else self.original_sizes[indices],
            **self._box_columns(rows),
        )

    def keep_boxes(self, keep: NDArray[np.bool_]) -> Dataset:
        """The boxes where `keep` (m,) is true; all pictures stay."""
        starts = np.concatenate(([0], np.cumsum(keep)))[self.starts].astype(np.int64)
        return replace(self, starts=starts, **self._box_columns(keep))

    def merged(self, targets: NDArray[np.integer]) -> Dataset:
        """The boxes of picture i moved to picture `targets[i]`, and only the pictures that are a target."""
        owners = np.asarray(targets)[self.owners()]
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], np.arange(len(self) + 1)).astype(np.int64)
        moved = replace(self, starts=starts, **self._box_columns(order))
        return moved.subset(np.unique(targets))

    def _box_columns(self, rows: NDArray[Any]) -> dict[str, Any]:
        names = ("box_ids", "boxes", "labels", "crowd", "ignore", "keypoints", "areas")
        columns = {name: getattr(self, name) for name in names}
        return {name: None if column is None else column[rows] for name, column in columns.items()}

    def labelled(self) -> Dataset:
        """The pictures that have a box."""
        return self.subset(np.flatnonzero(np.diff(self.starts)))

    def split(self, name: str) -> Dataset:
        """The pictures of one split, in their order."""
        return self.subset(np.flatnonzero(self.splits == name))

    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures per split (`splits`) and boxes per class (`classes`)."""
        splits = {str(name): int((self.splits == name).sum()) for name in sorted(set(self.splits.tolist()))}
        inside = self.labels[(self.labels >= 0) & (self.labels < len(self.classes))]
        boxes = np.bincount(inside, minlength=len(self.classes)).tolist()
        classes = dict(zip(self.classes, boxes, strict=True))
        return {"splits": splits, "classes": classes}

    def original_scale(self) -> NDArray[np.float64]:
        """(n, 2) factors that take x, y in the pixels of a picture to those of its original.

        Ones where nothing was reduced. Boxes are always in the pixels of the pictures that are there; an
        evaluation protocol that is defined on the originals multiplies by these.
        """
        if self.original_sizes is None:
            return np.ones((len(self), 2))
        return self.original_sizes / np.maximum(self.sizes, 1)


def match_classes(dataset: Dataset, classes: Sequence[str], faults: Faults = "refuse") -> Dataset:
    """The same boxes with labels that count in `classes`, matched by name.

    Args:
        dataset: its boxes may have numbers beyond its own names.
        classes: class names, in their order; those that the dataset lacks stay without boxes.
        faults: what becomes of a box whose class is not in `classes`: "refuse" raises, "skip" drops it,
            "keep" gives it the label -1. "skip" also notes in the intake which names do not match, and what
            they nearly are.

    Raises:
        InputError: a box of another class ("refuse"), or no box of any of the classes while there are boxes
            of others ("skip").
    """
    index = {name: i for i, name in enumerate(classes)}
    n = len(dataset.classes)
    numbers = np.unique(dataset.labels)
    beyond = [label for label in numbers.tolist() if not 0 <= label < n]
    unknown = [dataset.classes[i] for i in numbers.tolist() if 0 <= i < n and dataset.classes[i] not in index]
    if faults == "refuse" and beyond:
        raise InputError(f"{dataset.root} has a box of class number {beyond[0]} and {n} class names")
    advice = compare_classes(classes, dataset.classes).advice("the names asked for")
    if faults == "refuse" and unknown:
        raise InputError(
            f"{dataset.root} has boxes of class {unknown[0]!r}, which is not among the names asked for "
            + "; ".join((f"({shown(classes)})", *advice))
        )
    table = np.array([*(index.get(name, -1) for name in dataset.classes), -1], np.int32)
    inside = (dataset.labels >= 0) & (dataset.labels < n)
    labels = table[np.where(inside, dataset.labels, n)]
    matched = replace(dataset, classes=tuple(classes), labels=labels)
    absent = [name for name in classes if name not in dataset.classes]
    if faults != "skip" or not (absent or (labels < 0).any()):
        return matched
    if labels.size and not (labels >= 0).any():
        raise InputError(
            f"{dataset.root} has no box of the classes asked for ({shown(classes)}): its classes are "
            + "; ".join((shown(dataset.classes), *advice))
        )
    notes = []
    if (labels < 0).any():
        others = [*unknown, *(f"number {label}" for label in beyond)]
        notes.append(
            f"{(labels < 0).sum()} boxes of classes that were not asked for stay outside: {shown(others)}"
        )
    if absent:
        notes.append(
            f"the labels have no class {shown(absent)}, which was asked for: their classes are "
            f"{shown(dataset.classes)}"
        )
    intake = replace(dataset.intake, notes=(*dataset.intake.notes, *notes, *advice))
    return replace(matched.keep_boxes(labels >= 0), intake=intake)


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
