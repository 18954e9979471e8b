"""Columns of a data set, filled row by row by the readers."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.data.dataset import Dataset
from toolkit.runtime import InputError


class Columns:
    """Collects the columns of a Dataset, picture by picture, in packed arrays (no object per box)."""

    def __init__(self) -> None:
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
        self._image_ids.append(len(self.files) + 1 if image_id is None else image_id)
        self._sizes.extend((int(size[0]), int(size[1])))
        if original_size is not None:
            if len(self._original_sizes) != 2 * len(self.files):
                raise InputError(f"{file} has an original size and pictures before it have none")
            self._original_sizes.extend((int(original_size[0]), int(original_size[1])))
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
        self._box_pictures.append(picture)
        self._box_ids.append(row + 1 if box_id is None else box_id)
        self._boxes.extend(box)
        self._labels.append(label)
        self._crowd.append(bool(crowd))
        self._ignore.append(bool(ignore))
        self._areas.append(np.nan if area is None else area)

    @property
    def boxes_so_far(self) -> int:
        return len(self._labels)

    def resolve(
        self, first: int, first_box: int, labels: Mapping[int, int], source: Path, strict: bool
    ) -> None:
        """Turn the image and category identifiers that the boxes from `first_box` on were added with into
        indices: pictures from `first` on by their identifier, categories by `labels`."""
        ids = np.array(self._image_ids[first:], np.int64)
        order = np.argsort(ids, kind="stable")
        if (np.diff(ids[order]) == 0).any():
            raise InputError(f"{source} gives two pictures the same id")
        if first_box == self.boxes_so_far:
            return
        picture_ids = np.frombuffer(self._box_pictures, np.int64)[first_box:]
        place = np.searchsorted(ids, picture_ids, sorter=order).clip(max=len(ids) - 1)
        present = ids[order[place]] == picture_ids
        if not present.all():
            raise InputError(
                f"{source} has an annotation of picture id {picture_ids[~present][0]}, which is not "
                "among its images"
            )
        picture_ids[:] = order[place] + first
        category_ids = np.frombuffer(self._labels, np.int32)[first_box:]
        categories, inverse = np.unique(category_ids, return_inverse=True)
        unknown = [c for c in categories.tolist() if c not in labels]
        if unknown and strict:
            raise InputError(
                f"{source} has an annotation of category id {unknown[0]}, which is not among its categories"
            )
        category_ids[:] = np.array([labels.get(c, -1) for c in categories.tolist()], np.int32)[inverse]

    def dataset(self, root: Path, classes: Sequence[str], source: str | Path) -> Dataset:
        """The finished Dataset, boxes sorted by picture (their order within a picture is kept).

        Raises InputError for no pictures and for numbers that are not finite; identifiers that are not unique
        (several files that each count from one) are numbered anew.
        """
        n, m = len(self.files), len(self._labels)
        if n == 0:
            raise InputError(f"{source} has no pictures: expected at least one")
        pictures = np.frombuffer(self._box_pictures, np.int64) if m else np.zeros(0, np.int64)
        boxes = np.array(self._boxes, np.float32).reshape(m, 4)
        if not np.isfinite(boxes).all():
            bad = self.files[int(pictures[np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0]])]
            raise InputError(f"{source}: a box of {bad} is not made of finite numbers")
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
        return Dataset(
            root=root,
            classes=tuple(classes),
            files=self.files,
            image_ids=_unique(np.array(self._image_ids, np.int64)),
            sizes=np.array(self._sizes, np.int32).reshape(n, 2),
            splits=np.array(self.splits, np.str_),
            starts=np.searchsorted(pictures, np.arange(n + 1)).astype(np.int64),
            original_sizes=np.array(self._original_sizes, np.int32).reshape(n, 2)
            if self._original_sizes
            else None,
            **columns,
        )


def _unique(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1, dtype=np.int64)
