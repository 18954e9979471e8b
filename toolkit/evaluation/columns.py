"""Labelled objects and detections as plain numpy columns: what every evaluator takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.class_names import compare_classes, shown
from toolkit.data.dataset import Dataset
from toolkit.runtime import InputError

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Truth:
    """Labelled objects: n pictures, m boxes; the boxes of picture i are `starts[i]:starts[i + 1]`."""

    classes: tuple[str, ...]
    starts: Ints  # (n + 1,)
    boxes: NDArray[np.float32]  # (m, 4) absolute xyxy pixels
    labels: NDArray[np.int32]  # (m,) index into classes
    crowd: Bools  # (m,)
    ignore: Bools  # (m,)
    areas: Floats | None = None  # (m,) COCO's own areas (of the segment) in px²; None: the boxes' areas

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Truth:
        return cls(
            dataset.classes, dataset.starts, dataset.boxes, dataset.labels, dataset.crowd, dataset.ignore
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def images(self) -> Ints:
        """(m,) the picture of every box."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.starts))


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections: k boxes, in any order, after its NMS."""

    images: Ints  # (k,) index of the picture in the truth
    boxes: NDArray[np.float32]  # (k, 4) absolute xyxy pixels
    scores: Floats  # (k,)
    class_ids: Ints  # (k,) index into the truth's classes

    @classmethod
    def from_pictures(
        cls, pictures: Iterable[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]]
    ) -> Detections:
        """Boxes (a, 4), scores (a,) and class ids (a,) of picture 0, of picture 1 and so on.

        >>> picture = np.array([[0, 0, 10, 10]]), np.array([0.9]), np.array([0])
        >>> len(Detections.from_pictures([picture, picture]))
        2
        """
        rows = list(pictures)
        counts = [len(boxes) for boxes, _, _ in rows]
        return cls(
            np.repeat(np.arange(len(rows), dtype=np.int64), counts),
            np.concatenate(
                [np.zeros((0, 4)), *(np.reshape(b, (-1, 4)) for b, _, _ in rows)], dtype=np.float32
            ),
            np.concatenate([np.zeros(0), *(s for _, s, _ in rows)], dtype=np.float32),
            np.concatenate([np.zeros(0, np.int64), *(np.asarray(c, np.int64) for _, _, c in rows)]),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: NDArray[Any]) -> Detections:
        """The detections at `rows` (a mask or indices)."""
        return Detections(self.images[rows], self.boxes[rows], self.scores[rows], self.class_ids[rows])

    def by_name(self, names: Sequence[str], classes: Sequence[str]) -> Detections:
        """Class ids of a network's `names` turned into those of a data set's `classes`, by name; detections
        of classes that the data set does not have are left out. InputError where no name is shared."""
        index = {name: i for i, name in enumerate(classes)}
        lookup = np.array([index.get(name, -1) for name in names], np.int64)
        if (lookup < 0).all():
            advice = compare_classes(names, classes).advice("the detector")
            what = "; ".join(advice) or "rename the classes in the labels or use another detector"
            raise InputError(
                f"the detector and the data set share no class: the detector knows {shown(names, 5)}, "
                f"the data set has {shown(classes, 5)}; {what}"
            )
        ids = lookup[self.class_ids]
        return replace(self, class_ids=ids).select(ids >= 0)


def check_columns(truth: Truth, detections: Detections, iou: float = 0.5) -> None:
    if not 0 < iou <= 1:
        raise InputError(f"the IoU of a match must be above 0 and at most 1, not {iou:g}")
    if not len(truth):
        raise InputError("the data set has no pictures: nothing to evaluate")
    if not len(truth.labels):
        raise InputError("the data set has no labelled objects: nothing to evaluate")
    if not len(detections):
        return
    if detections.images.min() < 0 or detections.images.max() >= len(truth):
        raise InputError(
            f"detections belong to pictures {detections.images.min()} to {detections.images.max()}, but the "
            f"data set has {len(truth)}: evaluate them on the set they were made on"
        )
    if detections.class_ids.min() < 0 or detections.class_ids.max() >= len(truth.classes):
        raise InputError(
            f"a detection has class {detections.class_ids.max()}, but the data set has "
            f"{len(truth.classes)} classes ({shown(truth.classes, 5)}): match the classes by name first"
        )
    bad = ~(np.isfinite(detections.boxes).all(axis=1) & np.isfinite(detections.scores))
    if bad.any():
        raise InputError(
            f"{bad.sum()} of {len(bad)} detections have a box or score that is not a number: "
            "the network's weights or its export are broken"
        )
