"""Columns of a data set, filled row by row by the readers."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.data.dataset import Dataset
from toolkit.data.intake import Faults, Intake, LeftOut, Skipped
from toolkit.runtime import InputError

CLASSES = 100_000
POINTS = 1000  # key points of a box
POINT_BYTES = 1_000_000_000  # that key points of all boxes take, with those that have none
LONGEST = 1000  # characters of a sentence
DROPPED = -1  # the picture of a box that does not come in


class Columns:
    """Collects the columns of a Dataset, picture by picture, in packed arrays (no object per box), and what
    stays outside.

    Args:
        faults: "refuse" makes `leave_out` and `skip` raise InputError with their sentence.
    """

    def __init__(self, faults: Faults = "refuse") -> None:
        self.faults = faults
        self.skipped: list[Skipped] = []
        self._left_out: dict[str, LeftOut] = {}
        self._notes: dict[str, str] = {}
        self.files: list[str] = []
        self.splits: list[str] = []
        self._image_ids = array("q")
        self._sizes = array("i")
        self._original_sizes = array("i")
        self._box_pictures = array("q")
        self._box_ids = array("q")
        self._boxes = array("f")
        self._labels = array("i")
        self._crowd = array("b")
        self._ignore = array("b")
        self._areas = array("f")
        self._keypoints = array("f")
        self._keypoint_rows = array("q")
        self._points = 0

    def __len__(self) -> int:
        return len(self.files)

    def leave_out(self, kind: str, example: str, count: int = 1) -> None:
        """Count labels that stay outside: `kind` is a plural ("boxes without an area"), `example` a sentence
        with file and place, of which the first is kept."""
        kind, example = kind[:LONGEST], example[:LONGEST]
        if self.faults == "refuse":
            raise InputError(example)
        before = self._left_out.get(kind, LeftOut(kind, 0, example))
        self._left_out[kind] = LeftOut(kind, before.count + count, before.example)

    def skip(self, file: str, reason: str) -> None:
        """Leave a picture outside that is missing, does not decode or is of a type that is not read."""
        file, reason = file[:LONGEST], reason[:LONGEST]
        if self.faults == "refuse":
            raise InputError(reason if file in reason else f"the picture {file} {reason}")
        self.skipped.append(Skipped(file, reason))

    def note(self, sentence: str, example: str = "") -> None:
        """Something a reader decided that people should see; said once, with its first example."""
        self._notes.setdefault(sentence[:LONGEST], example[:LONGEST])

    @property
    def intake(self) -> Intake:
        """What stayed outside so far."""
        notes = (f"{text} (the first: {first})" if first else text for text, first in self._notes.items())
        return Intake(
            left_out=tuple(self._left_out.values()), skipped=tuple(self.skipped), notes=tuple(notes)
        )

    def add_picture(
        self,
        file: str,
        size: tuple[int, int] = (0, 0),
        split: str = "",
        image_id: int | None = None,
        original_size: tuple[int, int] | None = None,
    ) -> int:
        """Append a picture and return its index; `file` must stay inside the dataset's folder."""
        parts = PurePosixPath(file).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise InputError(f"the picture name {file!r} leads out of the dataset's folder")
        if original_size is not None and len(self._original_sizes) != 2 * len(self.files):
            raise InputError(f"{file} has an original size and pictures before it have none")
        # Whatever is no number is refused before anything is added.
        sizes = array("i", [int(side) for side in size])
        original_sizes = array("i", [int(side) for side in original_size or ()])
        self._image_ids.append(len(self.files) + 1 if image_id is None else image_id)
        self._sizes.extend(sizes)
        self._original_sizes.extend(original_sizes)
        self.files.append(file)
        self.splits.append(split)
        return len(self.files) - 1

    def add_box(
        self,
        picture: int,
        box: Sequence[float],
        label: int,
        crowd: bool = False,
        ignore: bool = False,
        box_id: int | None = None,
        keypoints: Sequence[float] = (),
        area: float | None = None,
    ) -> None:
        """Append a box xyxy of picture number `picture`; `keypoints` is a flat x, y, visibility, x, ..."""
        row = len(self._labels)
        if keypoints:
            if len(keypoints) % 3 or (self._points and len(keypoints) != 3 * self._points):
                raise InputError(
                    f"every box with keypoints needs the same number of x, y, visibility triplets: "
                    f"found {len(keypoints)} numbers after boxes with {3 * self._points}"
                )
            self._points = len(keypoints) // 3
            self._keypoints.extend(keypoints)
            self._keypoint_rows.append(row)
        own_area = np.nan if area is None else float(area)  # refused before anything is added
        self._box_pictures.append(picture)
        self._box_ids.append(row + 1 if box_id is None else box_id)
        self._boxes.extend(box)
        self._labels.append(label)
        self._crowd.append(bool(crowd))
        self._ignore.append(bool(ignore))
        self._areas.append(own_area)

    @property
    def boxes_so_far(self) -> int:
        return len(self._labels)

    def size_of(self, picture: int) -> tuple[int, int]:
        """The recorded (width, height) of a picture, zeros where there is none."""
        return self._sizes[2 * picture], self._sizes[2 * picture + 1]

    def record_size(self, picture: int, size: tuple[int, int]) -> None:
        """Set the (width, height) of a picture."""
        self._sizes[2 * picture : 2 * picture + 2] = array("i", size)

    def ids_from(self, first: int) -> list[int]:
        """The identifiers of the pictures from `first` on."""
        return self._image_ids[first:].tolist()

    def labels_from(self, first_box: int) -> list[int]:
        """The distinct labels of the boxes from `first_box` on, by rising number."""
        return sorted(set(self._labels[first_box:]))

    def resolve(
        self,
        first: int,
        first_box: int,
        labels: Mapping[int, int],
        source: Path,
        picture_aliases: Mapping[int, int],
    ) -> None:
        """Turn the identifiers that the boxes from `first_box` on were added with into indices: pictures from
        `first` on by their identifier, categories by `labels`.

        `picture_aliases` maps further identifiers of pictures to those that the pictures have. Boxes of
        pictures or categories that are not there are left out; with "keep" an unknown category is -1.
        """
        ids = np.array(self._image_ids[first:], np.int64)
        order = np.argsort(ids, kind="stable")
        if (np.diff(ids[order]) == 0).any():
            raise InputError(f"{source} gives two pictures the same id")
        if first_box == self.boxes_so_far:
            return
        picture_ids = np.frombuffer(self._box_pictures, np.int64)[first_box:]
        if picture_aliases:
            distinct, inverse = np.unique(picture_ids, return_inverse=True)
            named = [picture_aliases.get(number, number) for number in distinct.tolist()]
            picture_ids[:] = np.array(named, np.int64)[inverse]
        place = np.searchsorted(ids, picture_ids, sorter=order).clip(max=len(ids) - 1)
        present = ids[order[place]] == picture_ids
        if not present.all():
            self.leave_out(
                "annotations of pictures that are not listed",
                f"{source} has an annotation of picture id {picture_ids[~present][0]}, which is not among "
                "its images",
                int((~present).sum()),
            )
        picture_ids[:] = np.where(present, order[place] + first, DROPPED)
        category_ids = np.frombuffer(self._labels, np.int32)[first_box:]
        categories, inverse = np.unique(category_ids, return_inverse=True)
        unknown = [c for c in categories.tolist() if c not in labels]
        category_ids[:] = np.array([labels.get(c, -1) for c in categories.tolist()], np.int32)[inverse]
        if unknown and self.faults != "keep":
            lost = (category_ids < 0) & present
            if lost.any():  # else their pictures are not listed either
                self.leave_out(
                    "annotations of categories that are not listed",
                    f"{source} has an annotation of category id {unknown[0]}, which is not among its "
                    "categories",
                    int(lost.sum()),
                )
            picture_ids[category_ids < 0] = DROPPED

    def dataset(
        self, root: Path, classes: Sequence[str], source: str | Path, skipped: Sequence[int] = ()
    ) -> Dataset:
        """The finished Dataset, boxes sorted by picture (their order within a picture is kept), without the
        pictures numbered in `skipped`.

        Raises InputError for no pictures, for labels of which not one came in, and for numbers that are not
        finite; identifiers that are not unique (several files that each count from one) are numbered anew.
        """
        n, m = len(self.files), len(self._labels)
        if n == 0:
            reasons = [f"{picture.file}: {picture.reason}" for picture in self.skipped]
            reasons += [part.example for part in self._left_out.values()]
            why = f", the first that stayed outside: {reasons[0]}" if reasons else ": expected at least one"
            raise InputError(f"{source} has no pictures{why}")
        if m == 0 and self._left_out and self.faults != "keep":
            worst = max(self._left_out.values(), key=lambda part: part.count)
            raise InputError(
                f"{source}: none of its labels could be read: {worst.count} {worst.kind}, the first: "
                f"{worst.example}"
            )
        if len(classes) > CLASSES:
            raise InputError(f"{source} has {len(classes):,} classes: expected {CLASSES:,} at most")
        if m * self._points * 12 > POINT_BYTES:
            raise InputError(
                f"{source}: {self._points} key points for each of {m:,} boxes take more memory than is "
                "allowed: divide the labels into several files"
            )
        pictures = np.frombuffer(self._box_pictures, np.int64) if m else np.zeros(0, np.int64)
        boxes = np.array(self._boxes, np.float32).reshape(m, 4)
        finite = np.isfinite(boxes).all(axis=1) | (pictures < 0)
        if not finite.all() and self.faults != "keep":
            bad = self.files[int(pictures[np.flatnonzero(~finite)[0]])]
            self.leave_out(
                "boxes that are not made of finite numbers",
                f"{source}: a box of {bad} is not made of finite numbers",
                int((~finite).sum()),
            )
            pictures = np.where(finite, pictures, DROPPED)
            boxes[~finite] = 0
        keypoints = None
        if self._points:
            keypoints = np.zeros((m, self._points, 3), np.float32)
            keypoints[np.array(self._keypoint_rows, np.int64)] = np.array(
                self._keypoints, np.float32
            ).reshape(-1, self._points, 3)
            if not np.isfinite(keypoints).all():
                raise InputError(f"{source}: a keypoint is not made of finite numbers")
        if self._original_sizes and len(self._original_sizes) != 2 * n:
            raise InputError(f"{source}: only some of the pictures have an original size")
        columns: dict[str, NDArray[Any]] = {
            "box_ids": _unique(np.array(self._box_ids, np.int64)),
            "boxes": boxes,
            "labels": np.array(self._labels, np.int32),
            "crowd": np.array(self._crowd, np.bool_),
            "ignore": np.array(self._ignore, np.bool_),
        }
        areas = np.array(self._areas, np.float32)
        own = box_formats.area(boxes)
        areas = np.where(np.isfinite(areas), areas, own)
        if not np.allclose(areas, own, rtol=1e-3, atol=0.01):
            columns["areas"] = areas
        if keypoints is not None:
            columns["keypoints"] = keypoints
        if m and (np.diff(pictures) < 0).any():
            order = np.argsort(pictures, kind="stable")
            pictures = pictures[order]
            columns = {name: column[order] for name, column in columns.items()}
        starts = np.searchsorted(pictures, np.arange(n + 1)).astype(np.int64)
        if starts[0]:  # boxes that do not come in
            columns = {name: column[starts[0] :] for name, column in columns.items()}
        dataset = Dataset(
            root=root,
            classes=tuple(classes),
            files=self.files,
            image_ids=_unique(np.array(self._image_ids, np.int64)),
            sizes=np.array(self._sizes, np.int32).reshape(n, 2),
            splits=np.array(self.splits, np.str_),
            starts=starts - starts[0],
            original_sizes=np.array(self._original_sizes, np.int32).reshape(n, 2)
            if self._original_sizes
            else None,
            intake=self.intake,
            **columns,
        )
        return self._without(dataset, skipped, source) if skipped else dataset

    def _without(self, dataset: Dataset, skipped: Sequence[int], source: str | Path) -> Dataset:
        """Without pictures that were skipped after their boxes had been read."""
        kept = np.setdiff1d(np.arange(len(dataset)), np.array(skipped))
        if not len(kept):
            raise InputError(
                f"{source}: not one of its {len(dataset)} pictures can be read, the first: "
                f"{self.skipped[0].reason}; --images names the folder of the pictures"
            )
        rest = dataset.subset(kept)
        if lost := len(dataset.labels) - len(rest.labels):
            first = self.skipped[0]
            example = first.reason if first.file in first.reason else f"{first.file} {first.reason}"
            self.leave_out("boxes of pictures that did not come in", example, lost)
        return replace(rest, intake=self.intake)

    def takes_points(self, numbers: int) -> bool:
        """Whether a box may have key points of so many numbers: as many as those before it."""
        return numbers % 3 == 0 and numbers <= 3 * POINTS and self._points in (0, numbers // 3)


def _unique(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1, dtype=np.int64)
