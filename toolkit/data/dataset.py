"""A detection dataset in memory: one row per picture, one row per box, plain numpy columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dataset:
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

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, i: int) -> slice:
        """The rows of picture i in the box columns."""
        return slice(int(self.starts[i]), int(self.starts[i + 1]))

    def path(self, i: int) -> Path:
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
            box_ids=self.box_ids[rows],
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            ignore=self.ignore[rows],
            keypoints=None if self.keypoints is None else self.keypoints[rows],
        )

    def split(self, name: str) -> Dataset:
        """The pictures of one split, in their order."""
        return self.subset(np.flatnonzero(self.splits == name))
