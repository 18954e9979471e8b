"""Faults 1 to 5: what the columns of boxes say by themselves.

Everything is computed on whole columns; sentences are made for the rows at fault only.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as geometry
from toolkit.data.dataset import Dataset
from toolkit.data.doctor.findings import Finding, by, of_box, of_picture

BORDER_PX = 0.5  # how far rounding may carry a box over the border
SAME_BOX_IOU = 0.8  # two objects of one class hardly ever overlap this much
SURE_IOU = 0.9  # and never this much: the second box can be dropped without looking
MOST_COMPARED = 20_000  # boxes of a picture
ODDS = 20.0  # log likelihood ratio for "all boxes are swapped"; of 4,800 good pictures the worst has 19

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Rows:
    """The box columns of a dataset as the checks need them."""

    dataset: Dataset
    owners: NDArray[np.int64]  # (m,)
    boxes: Floats  # (m, 4)
    sizes: NDArray[np.int32]  # (m, 2) of the picture that the box is in
    known: Mask  # (m,) whether that size is

    def findings(
        self, fault: str, mask: Mask, say: Callable[[int], str], mend: str = "", to: Floats | None = None
    ) -> list[Finding]:
        return [
            of_box(
                fault,
                self.dataset,
                int(self.owners[row]),
                row,
                say(row),
                mend,
                None if to is None else to[row],
            )
            for row in np.flatnonzero(mask).tolist()
        ]


def inside(boxes: NDArray[np.floating], sizes: NDArray[np.integer]) -> Mask:
    """(m,) whether boxes (m, 4) are in pictures of `sizes` (m, 2), give or take rounding."""
    result: Mask = np.all((boxes >= -BORDER_PX) & (boxes <= np.tile(sizes, 2) + BORDER_PX), axis=1)
    return result


def box_findings(dataset: Dataset, frames: NDArray[np.int32], turned: Set[int]) -> list[Finding]:
    """Faults 1, 2, 4 and 5 in pictures of size `frames` (n, 2).

    `turned`: pictures with a rotation at fault, which explains shapes that look swapped.
    """
    owners = dataset.owners()
    sizes = frames[owners]
    rows = _Rows(dataset, owners, dataset.boxes.astype(np.float64), sizes, np.all(sizes > 0, axis=1))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        findings, bad = _wrong_units(rows)
        # Fractions of a picture that nobody could measure have become zeros: they say nothing.
        unmeasured = ~rows.known & np.all(rows.boxes == 0, axis=1)
        more, empty = _degenerate(rows, ~bad & ~unmeasured)
        findings += more
        findings += _outside_or_swapped(rows, frames, bad | empty, turned)
        findings += _per_cent(rows, frames, bad)
    return findings


def _wrong_units(rows: _Rows) -> tuple[list[Finding], Mask]:
    """Fault 5, box by box."""
    boxes = rows.boxes
    span = np.tile(rows.sizes, 2).astype(np.float64)
    large = rows.known & np.isfinite(boxes).all(axis=1) & (rows.sizes >= 16).all(axis=1)
    # Fractions where pixels belong: nothing reaches past pixel 1. A reader that counts VOC's pixels from 1
    # has taken 1 off left and top: give it back.
    lowered = np.all((boxes[:, :2] < 0) & (boxes[:, :2] >= -1), axis=1)
    raised = boxes + lowered[:, None] * np.array([1, 1, 0, 0])
    enlarged = raised * span
    fractions = large & (raised >= 0).all(axis=1) & (raised <= 1.01).all(axis=1)
    fractions &= (boxes % 1 != 0).any(axis=1)  # [0, 0, 0, 1] is just an empty box
    corners = (enlarged[:, 2:] - enlarged[:, :2] >= 1).all(axis=1)  # or else centre and size
    # Pixels where fractions belong: twice as large as its picture, and inside once divided by its size.
    shrunk = boxes / np.maximum(span, 1)
    pixels = large & (boxes[:, 2:] - boxes[:, :2] >= 2 * rows.sizes).all(axis=1) & inside(shrunk, rows.sizes)
    per_cent = bool(pixels.any()) and shrunk[pixels].max() <= 100 and rows.sizes[pixels].min() > 200
    wrong = "is in fractions of the picture, where pixels belong"
    written = "was in pixels, where fractions of the picture belong"
    findings = rows.findings("wrong-unit", fractions & corners, lambda row: wrong, "move box", enlarged)
    findings += rows.findings("wrong-unit", fractions & ~corners, lambda row: wrong)
    if per_cent:  # all of them end at 100: pixels or per cent, who knows
        written = "was in pixels or per cent, where fractions of the picture belong"
        findings += rows.findings("wrong-unit", pixels, lambda row: written)
    else:
        findings += rows.findings("wrong-unit", pixels, lambda row: written, "move box", shrunk)
    return findings, fractions | pixels


def _degenerate(rows: _Rows, use: Mask) -> tuple[list[Finding], Mask]:
    """Fault 2; and of fault 4 the boxes of which one corner is swapped."""
    boxes = rows.boxes
    finite = np.all(np.isfinite(boxes), axis=1)
    wh = boxes[:, 2:] - boxes[:, :2]
    empty = use & (~finite | (wh <= 0).any(axis=1))
    # One pixel wide is what readers make of left = right in formats that count both ends.
    line = use & ~empty & ((wh * rows.dataset.original_scale()[rows.owners]) <= 1.001).any(axis=1)
    sorted_box = np.concatenate(
        (np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])), 1
    )
    backwards = empty & finite & rows.known & (wh < 0).any(axis=1)
    tidy = backwards & _is_box(sorted_box, rows.sizes)
    halves = _is_box(boxes[:, [1, 0, 2, 3]], rows.sizes) | _is_box(boxes[:, [0, 1, 3, 2]], rows.sizes)
    halves &= backwards & ~tidy

    def why(row: int) -> str:
        if not finite[row]:
            return "is not made of finite numbers"
        width, height = wh[row]
        return (
            "ends before it begins"
            if min(width, height) < 0
            else f"is {width:g} px wide and {height:g} px high"
        )

    findings = rows.findings(
        "degenerate", tidy, lambda row: "has its corners in the wrong order", "move box", sorted_box
    )
    findings += rows.findings("degenerate", line | (empty & ~tidy & ~halves), why, "drop box")
    findings += rows.findings(
        "swapped-xy", halves, lambda row: "is a box only with x and y of one corner swapped"
    )
    return findings, empty | line


def _is_box(boxes: Floats, sizes: NDArray[np.int32]) -> Mask:
    return inside(boxes, sizes) & (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1)


def _outside_or_swapped(rows: _Rows, frames: NDArray[np.int32], bad: Mask, turned: Set[int]) -> list[Finding]:
    """Faults 1 and 4. A box that fits only with x and y swapped gets both: either may be it."""
    boxes, sizes = rows.boxes, rows.sizes
    outside = rows.known & ~bad & ~inside(boxes, sizes)
    clipped = np.clip(boxes, 0, np.tile(sizes, 2))
    share = geometry.area(clipped) / np.maximum(geometry.area(boxes), 1e-9)
    # A box that is out by a little is just that.
    fits = outside & inside(boxes[:, [1, 0, 3, 2]], sizes) & (share < 0.9)
    whole = _swapped_pictures(rows, frames, fits, bad)
    sure = [i for i, (_, certain) in whole.items() if certain]
    explained = outside & np.isin(rows.owners, sure)
    cut = outside & ~fits & ~explained & (share >= 0.5)

    def how_far(row: int) -> str:
        (x1, y1, x2, y2), (width, height) = boxes[row], sizes[row]
        over = {"left": -x1, "top": -y1, "right": x2 - width, "bottom": y2 - height}
        side = max(over, key=lambda name: over[name])
        apart = x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0
        how = "is wholly outside" if apart else f"goes {over[side]:.4g} px over the {side} of"
        return f"{how} the {by(sizes[row])} picture"

    findings = rows.findings("outside", cut, how_far, "move box", clipped)
    findings += rows.findings("outside", outside & ~cut & ~explained, how_far)
    findings += rows.findings(
        "swapped-xy",
        fits & ~explained,
        lambda row: f"is inside the {by(sizes[row])} picture if x and y are swapped",
    )
    huge = outside & (np.abs(boxes).max(axis=1, initial=0) >= 10 * np.maximum(sizes.max(axis=1), 16))
    findings += rows.findings(
        "wrong-unit",
        huge,
        lambda row: f"is far beyond the {by(sizes[row])} picture: pixels where fractions belong?",
    )
    for i, (sentence, certain) in whole.items():
        if certain or i not in turned:
            findings.append(
                of_picture("swapped-xy", rows.dataset, i, sentence, "swap picture" if certain else "")
            )
    return findings


def _swapped_pictures(
    rows: _Rows, frames: NDArray[np.int32], fits: Mask, bad: Mask
) -> dict[int, tuple[str, bool]]:
    """Pictures whose every box is swapped: {picture: (sentence, whether that is certain)}.

    Certain: several boxes leave the picture, and all stay inside once swapped. Likely: no box need leave it
    (swapped fractions never do), but the shapes are far from what their classes have elsewhere, and swapped
    they are usual.
    """
    n, total = len(rows.dataset), np.diff(rows.dataset.starts)
    out = np.bincount(rows.owners[fits], minlength=n)
    stay = np.bincount(rows.owners[inside(rows.boxes[:, [1, 0, 3, 2]], rows.sizes)], minlength=n)
    result = {
        int(i): (f"has {out[i]} of its {total[i]} boxes outside, and all inside with x and y swapped", True)
        for i in np.flatnonzero((out >= 2) & (stay == total))
    }
    likely = "has boxes whose shapes are usual for their classes only with x and y swapped"
    for change in (swapped_in_pixels, swapped_as_fractions):
        odds = shape_odds(rows.dataset, frames, change, ~bad)
        for i in np.flatnonzero(odds > ODDS):
            result.setdefault(int(i), (likely, False))
    return result


# What a mistake does to the shape log(width / height) of a box in a picture of log(width / height) `aspect`.
def swapped_in_pixels(shape: Floats, aspect: Floats) -> Floats:
    return -shape


def swapped_as_fractions(shape: Floats, aspect: Floats) -> Floats:
    return 2 * aspect - shape


def shape_odds(
    dataset: Dataset,
    frames: NDArray[np.int32],
    change: Callable[[Floats, Floats], Floats],
    use: Mask | None = None,
) -> Floats:
    """(n,) log likelihood ratio that a mistake has changed the shapes of all boxes of a picture.

    The shape has a heavy-tailed distribution per class (Student t, 3 degrees of freedom, around the median
    of the set, no narrower than .1). Boxes at the border are cut off and say nothing.
    """
    owners, classes = dataset.owners(), len(dataset.classes)
    sizes, boxes = frames[owners], dataset.boxes.astype(np.float64)
    chosen = (boxes[:, :2] > 2).all(axis=1) & (boxes[:, 2:] < sizes - 2).all(axis=1)
    chosen &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (dataset.labels >= 0) & (dataset.labels < classes)
    rows = np.flatnonzero(chosen if use is None else chosen & use)
    labels, wh = dataset.labels[rows], boxes[rows, 2:] - boxes[rows, :2]
    shape = np.log(wh[:, 0] / wh[:, 1])
    aspect = np.log(sizes[rows, 0] / sizes[rows, 1])
    usual, spread = np.zeros(classes), np.full(classes, np.inf)
    for c in range(classes):
        if (mine := shape[labels == c]).size >= 20:
            usual[c] = np.median(mine)
            spread[c] = max(0.1, 1.48 * float(np.median(np.abs(mine - usual[c]))))

    def log_likelihood(values: Floats) -> Floats:
        result: Floats = -2 * np.log1p(((values - usual[labels]) / spread[labels]) ** 2 / 3)
        return result

    gain = log_likelihood(change(shape, aspect)) - log_likelihood(shape)
    return np.bincount(owners[rows], gain, minlength=len(dataset)).astype(np.float64)


def _per_cent(rows: _Rows, frames: NDArray[np.int32], bad: Mask) -> list[Finding]:
    """Fault 5 of a whole set: every box ends at 100 in pictures that go on far beyond."""
    used = rows.boxes[~bad & np.isfinite(rows.boxes).all(axis=1)]
    labelled = np.flatnonzero(np.diff(rows.dataset.starts))
    if len(used) < 20 or len(labelled) < 5 or not 60 <= used.max() <= 100.5 or frames[labelled].min() <= 200:
        return []
    what = "is part of a set without a box beyond 100, in pictures of {}: per cent in place of pixels?"
    return [of_picture("wrong-unit", rows.dataset, int(i), what.format(by(frames[i]))) for i in labelled]


def duplicate_boxes(dataset: Dataset, frames: NDArray[np.int32]) -> list[Finding]:
    """Fault 3. Boxes are sorted by picture and left side; each is compared with those that begin near it."""
    owners, boxes = dataset.owners(), dataset.boxes.astype(np.float64)
    with np.errstate(invalid="ignore"):
        proper = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1)
    many = np.bincount(owners, minlength=len(dataset)) > MOST_COMPARED
    # a crowd's box may well repeat one of its members
    rows = np.flatnonzero(proper & ~dataset.crowd & ~many[owners])
    rows = rows[np.lexsort((boxes[rows, 0], owners[rows]))]
    box, owner, label = boxes[rows], owners[rows], dataset.labels[rows]
    reach = np.maximum(1.0, (1 / SAME_BOX_IOU - 1) * (box[:, 2] - box[:, 0]))
    fills = geometry.area(box) > 0.95 * np.maximum(frames[owner].prod(axis=1), 1)
    first: dict[int, tuple[int, float]] = {}  # row: (an earlier row that it repeats, their overlap)
    active, step = np.arange(len(rows)), 1
    while active.size:
        active = active[active + step < len(rows)]
        other = active + step
        near = (owner[other] == owner[active]) & (box[other, 0] - box[active, 0] <= reach[active])
        active, other = active[near], other[near]
        overlap = geometry.iou_aligned(box[active], box[other])
        apart = np.abs(box[active] - box[other]).max(axis=1)
        side = (box[active, 2:] - box[active, :2]).min(axis=1)
        one_class = label[active] == label[other]
        hit = one_class & ((overlap >= SAME_BOX_IOU) | ((apart <= 1) & (side >= 4)))
        hit |= ~one_class & (apart <= BORDER_PX) & ~fills[active]  # two things may both fill a picture
        for a, b, value in zip(rows[active[hit]], rows[other[hit]], overlap[hit], strict=True):
            low, high = int(min(a, b)), int(max(a, b))
            if high not in first or low < first[high][0]:
                first[high] = (low, float(value))
        step += 1
    what = f"has more than {MOST_COMPARED:,} boxes, which are not compared with each other"
    findings = [of_picture("duplicate-box", dataset, int(i), what) for i in np.flatnonzero(many)]
    return findings + [
        _repeat(dataset, int(owners[row]), row, earlier, iou) for row, (earlier, iou) in first.items()
    ]


def _repeat(dataset: Dataset, i: int, row: int, earlier: int, iou: float) -> Finding:
    labels = [int(dataset.labels[r]) for r in (earlier, row)]
    what = f"repeats box {dataset.box_ids[earlier]} of the same class (IoU {iou:.2f})"
    mend = "drop box" if iou >= SURE_IOU else ""
    if labels[0] != labels[1]:
        names: list[Any] = [dataset.classes[c] if 0 <= c < len(dataset.classes) else c for c in labels]
        what = f"repeats box {dataset.box_ids[earlier]} under another class ({names[0]} and {names[1]})"
        mend = ""
    return of_box("duplicate-box", dataset, i, row, what, mend)
