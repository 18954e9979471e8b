"""What a detector gets wrong: the confusion matrix, failures by kind, and pictures of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as bx
from toolkit import viz
from toolkit.data.dataset import Dataset
from toolkit.evaluation.average_precision import precision_recall
from toolkit.evaluation.columns import Detections, Ints, Truth, check_columns
from toolkit.evaluation.matching import Matches, pair_up
from toolkit.evaluation.operating import OperatingPoint
from toolkit.pictures import load_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion(truth: Truth, detections: Detections, threshold: float, iou: float = 0.5) -> NDArray[np.int64]:
    """Which class is taken for which.

    Detections of `threshold` and above pair with objects one to one where the IoU is at least `iou`, those
    of one class first, then by falling IoU. A detection left over that overlaps an ignored object that
    much, or has that share of its area in a crowd region, is dropped; so are ignored objects and crowd
    regions.

    Args:
        truth, detections: of the same pictures and classes.
        threshold: least score.
        iou: least overlap of a pair.

    Returns:
        (C + 1, C + 1) counts; the row is the labelled class, the column the detected one. The last row is
        background (false positives), the last column missed objects.
    """
    check_columns(truth, detections, iou)
    rows, taken, dropped = pair_up(truth, detections, threshold, iou)
    background = len(truth.classes)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    hit = taken >= 0
    predicted = detections.class_ids[rows]
    np.add.at(matrix, (truth.labels[taken[hit]], predicted[hit]), 1)
    matrix[background] += np.bincount(predicted[~hit & ~dropped], minlength=background + 1)
    missed = np.setdiff1d(np.flatnonzero(~truth.crowd & ~truth.ignore), taken)
    matrix[:, background] += np.bincount(truth.labels[missed], minlength=background + 1)
    return matrix


@dataclass(frozen=True, eq=False)
class Failures:
    """The worst of each kind first."""

    false_positives: Ints  # (a,) detections of nothing, by falling score
    missed: Ints  # (b,) objects without a detection, by falling area
    wrong_class: Ints  # (c, 2) detection and the object of another class it is on, by falling score

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}


def failures(
    truth: Truth, detections: Detections, threshold: float, iou: float = 0.5, limit: int | None = None
) -> Failures:
    """What goes wrong at a threshold, with the pairs of `confusion`.

    Args:
        truth, detections: of the same pictures and classes.
        threshold: least score.
        iou: least overlap of a pair.
        limit: most rows of each kind.

    Returns:
        Rows of detections and of objects, by kind of failure.
    """
    check_columns(truth, detections, iou)
    rows, taken, dropped = pair_up(truth, detections, threshold, iou)
    missed = np.setdiff1d(np.flatnonzero(~truth.crowd & ~truth.ignore), taken)
    missed = missed[np.argsort(-bx.area(truth.boxes[missed]), kind="stable")]
    order = np.argsort(-detections.scores[rows], kind="stable")
    rows, taken, dropped = rows[order], taken[order], dropped[order]
    nothing = rows[(taken < 0) & ~dropped]
    wrong = (taken >= 0) & (truth.labels[taken] != detections.class_ids[rows])
    return Failures(nothing[:limit], missed[:limit], np.stack((rows[wrong], taken[wrong]), axis=1)[:limit])


def failure_gallery(dataset: Dataset, detections: Detections, worst: Failures, limit: int = 6) -> Figure:
    """The first `limit` of each kind of failure, a row per kind, cut out of their pictures: the wrong
    detection or missed object in orange, labelled objects in green. InputError for a picture that does not
    decode."""
    truth = Truth.from_dataset(dataset)
    pictures = truth.images

    def detection_name(d: int) -> str:
        return f"{truth.classes[detections.class_ids[d]]} {detections.scores[d]:.2f}"

    def object_name(t: int) -> str:
        result: str = truth.classes[truth.labels[t]]
        return result

    false, missed, wrong = worst.false_positives[:limit], worst.missed[:limit], worst.wrong_class[:limit]
    kinds = [
        [(f"false: {detection_name(d)}", detections.images[d], detections.boxes[d]) for d in false],
        [(f"missed: {object_name(t)}", pictures[t], truth.boxes[t]) for t in missed],
        [
            (f"{object_name(t)} taken for {detection_name(d)}", detections.images[d], detections.boxes[d])
            for d, t in wrong
        ],
    ]
    columns = max(1, *(len(cells) for cells in kinds))
    images, titles = [], []
    for cells in filter(None, kinds):
        for title, i, box in cells:
            picture = load_image(dataset.path(int(i)))
            images.append(_cut_out(picture, truth.boxes[dataset.rows(int(i))], box))
            titles.append(title)
        empty = columns - len(cells)
        images += [np.full((8, 8, 3), 255, np.uint8)] * empty
        titles += [""] * empty
    return viz.image_grid(images, titles, columns)


def draw(
    folder: str | Path, dataset: Dataset, detections: Detections, matches: Matches, point: OperatingPoint
) -> None:
    """precision_recall.png, confusion.png and failures.png in `folder`, the last two at `point`."""
    folder, truth = Path(folder), Truth.from_dataset(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    recall, precision, _ = precision_recall(matches)
    curves = {"all classes": (recall, precision)}
    viz.precision_recall(curves, point=(point.recall, point.precision)).savefig(
        folder / "precision_recall.png"
    )
    matrix = confusion(truth, detections, point.threshold)
    viz.confusion(matrix, dataset.classes).savefig(folder / "confusion.png")
    worst = failures(truth, detections, point.threshold)
    failure_gallery(dataset, detections, worst).savefig(folder / "failures.png")


def _cut_out(
    picture: NDArray[Any], objects: NDArray[np.float32], box: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A square around `box` with half of its length on each side, and what is in it."""
    size = np.array([picture.shape[1], picture.shape[0]])
    side = np.minimum(max(2 * (box[2:] - box[:2]).max(), 32), size).astype(int)
    corner = np.clip((box[:2] + box[2:] - side) / 2, 0, size - side).astype(int)
    boxes = np.concatenate((objects, box[None])) - np.tile(corner, 2).astype(np.float32)
    colours = np.append(np.full(len(objects), 2), 1)
    inside = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < side).all(axis=1)
    (left, top), (right, bottom) = corner, corner + side
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    return viz.draw_boxes(part, boxes[inside], colours[inside], long_side=320, scale=2.5)
