"""Sizes, anchors and heads of a data set, compared: results that show themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from toolkit import boxes as bx
from toolkit import viz
from toolkit.data import anchors
from toolkit.data.anchors import AnchorFit, Sizes
from toolkit.data.dataset import Dataset
from toolkit.models.io import ModelIO
from toolkit.pictures import load_image
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMITS = np.linspace(0.3, 0.95, 27)  # required overlaps


@dataclass(frozen=True, eq=False)
class FitSizes(Shown):
    """Object sizes at a network's input by the way pictures are resized to it."""

    io: ModelIO
    sizes: Mapping[str, Sizes]  # "stretch" and "letterbox" -> (m, 2)

    def caption(self) -> str:
        """The input."""
        return "Sizes of the objects at {} x {}".format(*self.io.input_size)

    def columns(self) -> dict[str, list[str]]:
        """Medians, and how the network's own anchors suit them."""
        own = np.array([anchor for head in self.io.heads for anchor in head.anchors], np.float32)
        sizes, finest = self.sizes.values(), min(head.stride for head in self.io.heads)
        return {
            "resize": list(self.sizes),
            "median width, px": [f"{np.median(s[:, 0]):.1f}" for s in sizes],
            "median height, px": [f"{np.median(s[:, 1]):.1f}" for s in sizes],
            "median width / height": [f"{np.median(s[:, 0] / s[:, 1]):.2f}" for s in sizes],
            f"smaller than a cell of {finest} px": [f"{(s.max(1) < finest).mean():.1%}" for s in sizes],
            "recall of the network's anchors": [f"{anchors.fit(s, own).recall:.1%}" for s in sizes],
        }

    def strong(self) -> str:
        return self.io.fit

    def figure(self) -> Figure:
        """Cumulative distribution of the sides."""
        parts = np.linspace(0, 1, 101)
        lines = {way: (np.quantile(np.sqrt(s.prod(axis=1)), parts), parts) for way, s in self.sizes.items()}
        return viz.curves(lines, "side of a square of the object's area, px", "part of the objects below it")


def fit_sizes(dataset: Dataset, io: ModelIO) -> FitSizes:
    """Sizes of the objects of a data set, stretched and letterboxed to a network's input. InputError as
    `anchors.object_sizes`."""
    return FitSizes(io, {way: anchors.object_sizes(dataset, io.input_size, way) for way in bx.FITS})


@dataclass(frozen=True, eq=False)
class AnchorSets(Shown):
    """Sets of anchors on the same objects."""

    sizes: Sizes  # (m, 2) of the objects, px
    sets: Mapping[str, Sizes]  # name -> (a, 2)

    @property
    def fits(self) -> dict[str, AnchorFit]:
        """How well each set fits."""
        return {name: anchors.fit(self.sizes, each) for name, each in self.sets.items()}

    def columns(self) -> dict[str, list[str]]:
        """A row for each set."""
        fits = self.fits.values()
        return {
            "anchors": list(self.sets),
            "best possible recall": [f"{each.recall:.1%}" for each in fits],
            "mean IoU": [f"{each.mean_iou:.3f}" for each in fits],
            "width x height, px": ["  ".join(f"{w:.0f}x{h:.0f}" for w, h in a) for a in self.sets.values()],
        }

    def strong(self) -> str:
        return list(self.sets)[-1]

    def figure(self) -> Figure:
        """Recall at rising overlap: one half is lenient, and two good sets differ only beyond it."""
        lines = {
            name: (LIMITS, [anchors.fit(self.sizes, each, threshold=limit).recall for limit in LIMITS])
            for name, each in self.sets.items()
        }
        return viz.curves(lines, "required overlap", "best possible recall")


@dataclass(frozen=True, eq=False)
class ByCount(Shown):
    """How well k-means fits with more and more anchors."""

    fits: Sequence[AnchorFit]  # of 1, 2, ... anchors

    def columns(self) -> dict[str, list[object]]:
        """A row for each number of anchors."""
        return {
            "anchors": list(range(1, len(self.fits) + 1)),
            "best possible recall": [f"{each.recall:.1%}" for each in self.fits],
            "mean IoU": [f"{each.mean_iou:.3f}" for each in self.fits],
        }

    def figure(self) -> Figure:
        """Both over the number of anchors."""
        counts = np.arange(1, len(self.fits) + 1)
        lines = {
            "best possible recall": (counts, [each.recall for each in self.fits]),
            "mean IoU": (counts, [each.mean_iou for each in self.fits]),
        }
        return viz.curves(lines, "number of anchors")


def by_count(sizes: Sizes, most: int = 12, seed: int = 0) -> ByCount:
    """k-means with 1 to `most` anchors on objects of sizes (m, 2), as far as there are different ones."""
    counts = range(1, min(most, len(np.unique(sizes, axis=0))) + 1)
    return ByCount([anchors.fit(sizes, anchors.kmeans(sizes, count, seed=seed)) for count in counts])


@dataclass(frozen=True, eq=False)
class ByHead(Shown):
    """Anchors of a network's heads: where they are, and where they would go by their size alone."""

    io: ModelIO
    sizes: Sizes  # (m, 2) of the objects, px

    def columns(self) -> dict[str, list[str]]:
        """A row for each anchor, from small to large."""
        heads = [(head.stride, anchor) for head in self.io.heads for anchor in head.anchors]
        heads.sort(key=lambda pair: float(np.prod(pair[1])))
        sides = np.array([anchor for _, anchor in heads], np.float32)
        strides = [head.stride for head in self.io.heads]
        by_size = anchors.to_heads(sides, strides, "stride")
        wish = {a: stride for stride, mask in zip(strides, by_size, strict=True) for a in mask}
        share = anchors.fit(self.sizes, sides).share
        return {
            "anchor, px": ["{:.0f} x {:.0f}".format(*anchor) for _, anchor in heads],
            "head of stride": [str(stride) for stride, _ in heads],
            "cells it covers": [f"{w / stride:.1f} x {h / stride:.1f}" for stride, (w, h) in heads],
            "best anchor of": [f"{part:.1%} of the objects" for part in share],
            "head by size alone": [str(wish[a]) for a in range(len(heads))],
        }

    def figure(self) -> Figure:
        """The anchors of each head over the sizes of the objects."""
        groups = {f"stride {head.stride}": np.array(head.anchors) for head in self.io.heads}
        return viz.anchors_on_boxes(self.sizes, groups, "Anchors by head")


def on_pictures(
    dataset: Dataset, sets: Mapping[str, Sizes], input_size: tuple[int, int], resize: str, count: int = 3
) -> Figure:
    """Pictures at the network's input with their objects in green, and over the centre of each the anchor
    that fits it best in red: a row for each set of anchors.

    Args:
        dataset: labelled pictures.
        sets: name -> anchors (a, 2), px of the input.
        input_size: (w, h) px.
        resize: "stretch" or "letterbox".
        count: pictures, from many objects to few.
    """
    fullest = np.argsort(-np.diff(dataset.starts), kind="stable")
    labelled = fullest[: max(1, int((np.diff(dataset.starts) > 0).sum()))]
    chosen = labelled[np.linspace(0, len(labelled) - 1, count + 2).astype(int)][1:-1]
    drawn, titles = [], []
    for name, each in sets.items():
        for i in chosen:
            inner = bx.FITS[resize](tuple(dataset.sizes[i].tolist()), input_size).inner
            picture: Any = cv2.resize(load_image(dataset.path(i)), inner)
            objects = dataset.boxes[dataset.rows(i)] * np.tile(inner / dataset.sizes[i], 2)
            centre, size = (objects[:, :2] + objects[:, 2:]) / 2, objects[:, 2:] - objects[:, :2]
            half = np.asarray(each)[anchors.wh_iou(size, each).argmax(axis=1)] / 2
            both = np.concatenate([objects, np.hstack([centre - half, centre + half])])
            drawn.append(viz.draw_boxes(picture, both, np.repeat([2, 1], len(objects))))
            titles.append(name)
    return viz.image_grid(drawn, titles, columns=count, cell=3)
