"""Anchors for a data set: k-means with the IoU distance, genetic refinement, how well they fit, which head.

An object's or anchor's size is (width, height) in pixels of the network's input; the overlap of two sizes is
the IoU of boxes with one centre. Sources: YOLOv2 (arXiv:1612.08242) for the clustering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit import boxes as bx
from toolkit.data.dataset import Dataset
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError, progress
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sizes = NDArray[np.float32]


def object_sizes(dataset: Dataset, input_size: tuple[int, int], resize: str = "stretch") -> Sizes:
    """Sizes of a data set's objects at a network input.

    Args:
        dataset: labelled pictures; crowd regions, ignored and empty boxes do not count.
        input_size: (w, h) px.
        resize: "stretch" or "letterbox".

    Returns:
        (m, 2) widths and heights, px of the input.

    Raises:
        InputError: a picture has no recorded size.
    """
    unknown = np.flatnonzero((dataset.sizes <= 0).any(axis=1) & (np.diff(dataset.starts) > 0))
    if len(unknown):
        raise InputError(
            f"{len(unknown)} pictures have no recorded size, the first is {dataset.files[unknown[0]]!r}: "
            "import the data set again with its pictures at hand"
        )
    scale = input_scale(dataset.sizes, input_size, resize)
    sizes = (dataset.boxes[:, 2:] - dataset.boxes[:, :2]) * np.repeat(scale, np.diff(dataset.starts), axis=0)
    keep = ~dataset.crowd & ~dataset.ignore & (sizes > 0).all(axis=1)
    return sizes[keep].astype(np.float32)


def input_scale(sizes: NDArray[np.integer], input_size: tuple[int, int], resize: str) -> NDArray[np.float64]:
    """Px of a network input to one of a picture.

    Args:
        sizes: (n, 2) widths and heights of pictures, px; 0 where unknown.
        input_size: (w, h) px.
        resize: "stretch" or "letterbox".

    Returns:
        (n, 2) factors across and down.

    Raises:
        InputError: `resize` is something else.

    >>> input_scale(np.array([[200, 100]]), (50, 50), "letterbox").tolist()
    [[0.25, 0.25]]
    """
    if resize not in bx.FITS:
        raise InputError(f"fit must be one of {', '.join(bx.FITS)}, not {resize!r}")
    place = bx.FITS[resize]
    kinds, kind = np.unique(sizes, axis=0, return_inverse=True)
    inner = np.array([place((int(w), int(h)), input_size).inner if w and h else (1, 1) for w, h in kinds])
    scale: NDArray[np.float64] = (inner.reshape(-1, 2) / np.maximum(kinds, 1))[kind.ravel()]
    return scale


def wh_iou(sizes: ArrayLike, anchors: ArrayLike) -> Sizes:
    """All pairs of sizes (m, 2) and (a, 2) -> (m, a) in 0..1."""
    (w, h), (aw, ah) = np.asarray(sizes, np.float32).T, np.asarray(anchors, np.float32).T[..., None]
    both = np.minimum(w, aw) * np.minimum(h, ah)
    result: Sizes = (both / (w * h + aw * ah - both)).T
    return result


@dataclass(frozen=True)
class AnchorFit(Shown):
    """How well anchors fit objects."""

    recall: float  # best possible recall: part of the objects whose best anchor overlaps above `threshold`
    mean_iou: float  # mean overlap of an object with its best anchor
    threshold: float
    share: tuple[float, ...]  # part of the objects that each anchor is the best of
    below_stride: (
        float | None
    )  # part of the objects with both sides under the finest stride: less than a cell

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def columns(self) -> dict[str, list[str]]:
        """One row."""
        columns = {"best possible recall": [f"{self.recall:.1%}"], "mean IoU": [f"{self.mean_iou:.3f}"]}
        if self.below_stride is not None:
            columns["smaller than a cell"] = [f"{self.below_stride:.1%}"]
        return columns


def fit(
    sizes: ArrayLike, anchors: ArrayLike, strides: Sequence[int] = (), threshold: float = 0.5
) -> AnchorFit:
    """Best possible recall and mean best IoU of `anchors` (a, 2) on objects of `sizes` (m, 2).

    >>> fit([[10, 10], [40, 60]], [[10, 10]]).recall
    0.5
    """
    sizes = _objects(sizes)
    overlap = wh_iou(sizes, anchors)
    best = overlap.max(axis=1)
    share = np.bincount(overlap.argmax(axis=1), minlength=overlap.shape[1]) / len(sizes)
    below = float((sizes.max(axis=1) < min(strides)).mean()) if strides else None
    return AnchorFit(
        float((best > threshold).mean()),
        float(best.mean(dtype=np.float64)),
        threshold,
        tuple(share.tolist()),
        below,
    )


def _objects(sizes: ArrayLike) -> Sizes:
    sizes = np.asarray(sizes, np.float32).reshape(-1, 2)
    if not len(sizes):
        raise InputError(
            "there are no objects to fit anchors to: label some (crowd regions, boxes to ignore and empty "
            "boxes do not count)"
        )
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise InputError(
            "object sizes must be positive numbers of pixels: run `toolkit data doctor` on the set"
        )
    return sizes


def kmeans(sizes: ArrayLike, count: int, restarts: int = 6, seed: int = 0) -> Sizes:
    """(count, 2) anchors by rising area: k-means with the distance 1 - IoU, the best mean IoU of several
    starts. InputError where there are fewer different sizes than anchors.

    >>> kmeans([[10, 10], [10, 10], [40, 60], [40, 60]], 2).tolist()
    [[10.0, 10.0], [40.0, 60.0]]
    """
    sizes = _objects(sizes)
    different = np.unique(sizes, axis=0)
    if len(different) < count:
        raise InputError(
            f"{count} anchors need at least as many objects of different size, found {len(different)}: "
            "ask for fewer anchors or bring more labels"
        )
    generator = np.random.default_rng(seed)
    best, best_iou = different[:count], -1.0
    for _ in range(restarts):
        anchors = _spread(different, count, generator)
        owner = np.full(len(sizes), -1)
        for _ in range(100):
            overlap = wh_iou(sizes, anchors)
            mean, nearest = overlap.max(axis=1).mean(dtype=np.float64), overlap.argmax(axis=1)
            if mean > best_iou:
                best, best_iou = anchors.copy(), mean
            if (nearest == owner).mean() > 0.999:
                break
            owner = nearest
            for a in range(count):
                if (owner == a).any():
                    anchors[a] = np.median(sizes[owner == a], axis=0)
    return _sorted(best)


def _spread(different: Sizes, count: int, generator: np.random.Generator) -> Sizes:
    """Starting points drawn far from one another (k-means++)."""
    chosen = [int(generator.integers(len(different)))]
    distance = np.ones(len(different), np.float64)
    while len(chosen) < count:
        distance = np.minimum(distance, 1 - wh_iou(different, different[chosen[-1:]])[:, 0])
        distance[chosen] = 0
        weight = distance**2
        chosen.append(int(generator.choice(len(different), p=weight / weight.sum())))
    return different[chosen].copy()


def refine(
    sizes: ArrayLike, anchors: ArrayLike, generations: int = 1000, seed: int = 0, threshold: float = 0.5
) -> Sizes:
    """(a, 2) anchors by rising area, improved by random changes of their sides, each kept only if it raises
    recall + 2 x mean IoU (see `AnchorFit`) and does not lower the recall."""
    sizes = _objects(sizes)
    generator = np.random.default_rng(seed)
    best = np.array(anchors, np.float32)
    overlap = wh_iou(sizes, best).max(axis=1)
    recall = float((overlap > threshold).mean())
    fitness = recall + 2 * float(overlap.mean(dtype=np.float64))
    for generation in progress(range(generations), "refining anchors"):
        # Nearly all anchors at once or only a few of them, in ever finer steps.
        step = 0.15 * (1 - generation / generations) + 0.01
        moved = generator.random((len(best), 1)) < generator.choice([0.2, 0.9])
        factor = np.exp(generator.normal(0, step, best.shape) * moved)
        candidate = np.maximum(best * factor, 1).astype(np.float32)
        overlap = wh_iou(sizes, candidate).max(axis=1)
        new_recall = float((overlap > threshold).mean())
        new_fitness = new_recall + 2 * float(overlap.mean(dtype=np.float64))
        if new_fitness > fitness and new_recall >= recall:
            best, recall, fitness = candidate, new_recall, new_fitness
    return _sorted(best)


def _sorted(anchors: Sizes) -> Sizes:
    return anchors[np.argsort(anchors.prod(axis=1), kind="stable")]


@dataclass(frozen=True, eq=False)
class FittedAnchors:
    """Anchors for objects of given sizes, and what was out of the ordinary."""

    anchors: Sizes  # (count, 2) by rising area
    notes: tuple[str, ...] = ()  # sentences


def fitted(
    sizes: ArrayLike,
    count: int,
    published: ArrayLike | None = None,
    generations: int = 1000,
    seed: int = 0,
    threshold: float = 0.5,
) -> FittedAnchors:
    """Anchors for objects of given sizes: k-means, then `refine`. Where that gives fewer different anchors
    than asked for (few objects, or objects of nearly one size), the rest are spread around them.

    Args:
        sizes: (m, 2) widths and heights, px of the input; at least one.
        count: number of anchors.
        published: (count, 2) anchors to start from instead, where their recall is better.
        generations: of `refine`.
        seed: of everything drawn.
        threshold: overlap of widths and heights from which an object is reached.

    Returns:
        `count` anchors, no two of them the same in whole pixels, and a note where they were spread.

    Raises:
        InputError: no objects, sizes that are not positive numbers, or a count below 1.

    >>> spread = fitted([[20, 20]], 3)
    >>> spread.anchors.round().tolist()
    [[18.0, 18.0], [20.0, 20.0], [22.0, 22.0]]
    >>> spread.notes[0].partition(": ")[0]
    'the sizes of the objects give 1 of 3 anchors'
    """
    sizes = _objects(sizes)
    if count < 1:
        raise InputError(f"expected a number of anchors of at least 1, found {count}")
    anchors = np.unique(sizes, axis=0)
    if len(anchors) >= count:
        starts = [kmeans(sizes, count, seed=seed)]
        if published is not None and len(np.asarray(published)) == count:
            starts.append(np.asarray(published, np.float32))
        fits = [fit(sizes, start, threshold=threshold) for start in starts]
        best = max(range(len(starts)), key=lambda i: (fits[i].recall, fits[i].mean_iou))
        anchors = refine(sizes, starts[best], generations, seed, threshold)
    pixels, first = np.unique(_pixels(anchors), axis=0, return_index=True)
    if len(pixels) == count:
        return FittedAnchors(anchors)
    centres = anchors[np.sort(first)]
    anchors, low, high = _filled_up(centres, fit(sizes, centres).share, count)
    note = (
        f"the sizes of the objects give {len(centres)} of {count} anchors: the others are spread around "
        f"{'it' if len(centres) == 1 else 'them'}, with sides {low:.2f} to {high:.2f} times as long"
    )
    return FittedAnchors(anchors, (note,))


def find(
    sizes: ArrayLike,
    count: int,
    published: ArrayLike | None = None,
    generations: int = 1000,
    seed: int = 0,
    threshold: float = 0.5,
) -> Sizes:
    """(count, 2) anchors by rising area for objects of given sizes: those of `fitted`, without its notes."""
    return fitted(sizes, count, published, generations, seed, threshold).anchors


def _pixels(anchors: Sizes) -> NDArray[np.int64]:
    """In whole pixels, as a cfg has them."""
    return np.maximum(np.rint(anchors), 1).astype(np.int64)


def _filled_up(centres: Sizes, share: Sequence[float], count: int) -> tuple[Sizes, float, float]:
    """(count, 2) anchors that differ in whole pixels: the centres, and others of the same shape around those
    with the largest share of the objects; with the smallest and largest factor of their sides."""
    weight = np.maximum(share, 1e-6)
    per_centre = np.ones(len(centres), np.int64)
    for _ in range(count - len(centres)):
        per_centre[(weight / per_centre).argmax()] += 1
    # Each pair of neighbours overlaps by .8, and a few steps away from a centre still by more than half.
    step = min(0.105, 3 / count)
    anchors, factors = list(centres), [1.0]
    taken = {tuple(size) for size in _pixels(centres).tolist()}
    for centre, number in zip(centres, per_centre.tolist(), strict=True):
        k = 1
        while number > 1:
            factor = math.exp(step * ((k + 1) // 2) * (1 if k % 2 else -1))
            size = tuple(_pixels(centre * factor).tolist())
            k += 1
            if size not in taken:
                taken.add(size)
                anchors.append(centre * np.float32(factor))
                factors.append(factor)
                number -= 1
    return _sorted(np.array(anchors, np.float32)), min(factors), max(factors)


def to_heads(anchors: ArrayLike, strides: Sequence[int], rule: str = "even") -> tuple[tuple[int, ...], ...]:
    """Which anchors (indices into them by rising area: darknet's mask) each head takes, in the order of
    `strides`; the coarsest head takes the largest.

    "even": equal numbers, what a network with a fixed number of anchors per head needs. "stride": an anchor
    goes to the coarsest head of which it covers two cells (sqrt(w h) >= 2 strides), the rest to the finest;
    a head may go empty. InputError where the anchors cannot be shared out evenly.

    >>> to_heads([[10, 10], [20, 20], [60, 60], [90, 90]], (32, 16))
    ((2, 3), (0, 1))
    """
    sides = np.sqrt(np.sort(np.asarray(anchors, np.float32).prod(axis=1)))
    fine_first = np.argsort(strides, kind="stable")
    if rule == "even":
        if len(sides) % len(strides):
            raise InputError(f"{len(sides)} anchors cannot be shared evenly by {len(strides)} heads")
        owner = np.repeat(np.arange(len(strides)), len(sides) // len(strides))
    elif rule == "stride":
        steps = 2.0 * np.asarray(strides)[fine_first]
        owner = np.clip(np.searchsorted(steps, sides, "right") - 1, 0, None)
    else:
        raise InputError(f"rule must be 'even' or 'stride', not {rule!r}")
    masks = [tuple(np.flatnonzero(owner == i).tolist()) for i in range(len(strides))]
    return tuple(masks[int(np.flatnonzero(fine_first == i)[0])] for i in range(len(strides)))


@dataclass(frozen=True)
class CfgLine:
    """Anchors as a cfg has them."""

    text: str  # of `anchors=`
    unit: str

    def as_dict(self) -> dict[str, str]:
        return {"anchors": self.text, "unit": self.unit}


@dataclass(frozen=True, eq=False)
class AnchorSearch(Shown):
    """Anchors found for a data set, next to a network's own."""

    sizes: Sizes  # (m, 2) of the objects
    own: Sizes  # (a, 2)
    anchors: Sizes  # (count, 2)
    own_fit: AnchorFit
    fit: AnchorFit
    masks: tuple[tuple[int, ...], ...]  # per head; empty where the heads cannot share the anchors evenly
    notes: tuple[str, ...] = ()  # sentences about what was out of the ordinary
    cfg_lines: tuple[CfgLine, ...] = ()  # what a cfg of the network takes

    def caption(self) -> str:
        """What was out of the ordinary."""
        return " ".join(self.notes)

    def columns(self) -> dict[str, list[str]]:
        """The network's own anchors and the new ones."""
        sets = (self.own, self.anchors)
        pixels = ["  ".join(f"{w:.0f}x{h:.0f}" for w, h in anchors) for anchors in sets]
        own, new = self.own_fit.columns(), self.fit.columns()
        fits = {title: own[title] + new[title] for title in own}
        return {"anchors": ["the network's", "new"], **fits, "width x height, px": pixels}

    def strong(self) -> str:
        return "new"

    def figure(self) -> Figure:
        """Both over the sizes of the objects."""
        from toolkit import viz

        return viz.anchors_on_boxes(self.sizes, {"the network's": self.own, "new": self.anchors})


def cfg_lines(
    anchors: ArrayLike, heads: Sequence[HeadIO], masks: Sequence[Sequence[int]]
) -> tuple[CfgLine, ...]:
    """The `anchors=` of a cfg: all in one line in px for [yolo] and its kin; for each [region] its own, in
    cells. Where there are no masks, so that nobody's own are known, all are in px.

    Args:
        anchors: (a, 2) by rising area, px of the input.
        heads: of the network.
        masks: per head, as `to_heads` gives them.

    >>> [line.text for line in cfg_lines([[32, 64]], [HeadIO(32, ((16, 16),), softmax=True)], [[0]])]
    ['1,2']
    """
    anchors = np.asarray(anchors, np.float32)
    own = [(head.stride, list(mask)) for head, mask in zip(heads, masks, strict=False) if head.softmax]
    lines = [CfgLine(_cfg_text(anchors[mask] / stride, 4), f"cells of {stride} px") for stride, mask in own]
    if len(own) < len(heads):
        lines.insert(0, CfgLine(_cfg_text(anchors, 1), "px of the input"))
    return tuple(lines)


def _cfg_text(sizes: NDArray[np.floating[Any]], digits: int) -> str:
    return ", ".join(",".join(_number(side, digits) for side in size) for size in sizes.tolist())


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def search(dataset: Dataset, io: ModelIO, count: int = 0, resize: str = "") -> AnchorSearch:
    """Find anchors for a data set at the input and heads of a network.

    Args:
        dataset: labelled pictures.
        io: of the network.
        count: number of anchors, 0 for as many as the network has.
        resize: "stretch" or "letterbox"; the network's own fit unless given.

    Raises:
        InputError: pictures without a recorded size, no objects, or a negative count.
    """
    strides = [head.stride for head in io.heads]
    own = _sorted(np.array([anchor for head in io.heads for anchor in head.anchors], np.float32))
    sizes = object_sizes(dataset, io.input_size, resize or io.fit)
    result = fitted(sizes, count or len(own), own)
    anchors = result.anchors
    own_fit, new_fit = (fit(sizes, each, strides) for each in (own, anchors))
    masks = to_heads(anchors, strides) if len(anchors) % len(strides) == 0 else ()
    lines = cfg_lines(anchors, io.heads, masks)
    return AnchorSearch(sizes, own, anchors, own_fit, new_fit, masks, result.notes, lines)
