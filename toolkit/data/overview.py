"""A data set at a glance, as figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.pictures import load_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture_grid(dataset: Dataset, count: int = 10, title: str = "") -> Figure:
    """Pictures at equal distances, with their boxes. InputError for one that does not decode."""
    from toolkit.viz import draw_boxes, image_grid

    some = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    drawn = [
        draw_boxes(
            load_image(dataset.path(i)),
            dataset.boxes[rows],
            dataset.labels[rows],
            None,
            dataset.classes,
            scale=2,
        )
        for i, rows in zip(some, map(dataset.rows, some), strict=True)
    ]
    return image_grid(drawn, [Path(dataset.files[i]).name for i in some], 5, title, 2.8)


def class_bars(dataset: Dataset) -> Figure:
    """Boxes of each class in each split."""
    from toolkit.viz import bars

    counts = {name: np.array(each) for name, each in dataset.columns().items() if name != "class"}
    return bars(
        dataset.classes,
        counts,
        xlabel="boxes",
        title="Boxes of each class",
        form="{:.0f}",
    )
