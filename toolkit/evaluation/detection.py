"""How good a detector is: COCO AP, VOC AP, darknet's own mAP, operating points, confusion and failures.

Everything works on columns: a `Truth` of n pictures with m boxes and `Detections` of k boxes. What the three
protocols do with an object of `Truth.ignore` (VOC's difficult, WIDER FACE's invalid) and of `Truth.crowd`
(COCO's iscrowd) is said at each function; outside `coco` a crowd region is never an object to find, and a
detection that finds nothing else and has at least `iou` of its own area inside one is dropped, that is,
counted neither as right nor as wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as bx
from toolkit import viz
from toolkit.data.dataset import Dataset
from toolkit.runtime import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.floating]

_PAIRS_AT_ONCE = 300_000  # of detections and objects of one picture: about 30 MB


@dataclass(frozen=True, eq=False)
class Truth:
    """What is really there: n pictures, m boxes; the boxes of picture i are `starts[i]:starts[i + 1]`."""

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
    """What a detector says: k boxes, in any order, after its NMS."""

    images: Ints  # (k,) index of the picture in the truth
    boxes: NDArray[np.float32]  # (k, 4) absolute xyxy pixels
    scores: Floats  # (k,)
    class_ids: Ints  # (k,) index into the truth's classes

    @classmethod
    def from_pictures(
        cls, pictures: Iterable[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]]
    ) -> Detections:
        """Boxes (a, 4), scores (a,) and class ids (a,) of picture 0, of picture 1 and so on."""
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
        known = {name: i for i, name in enumerate(classes)}
        lookup = np.array([known.get(name, -1) for name in names], np.int64)
        if (lookup < 0).all():
            raise InputError(
                f"the detector and the data set share no class: the detector knows {_some(names)}, "
                f"the data set has {_some(classes)}; rename the classes in the labels or use another detector"
            )
        ids = lookup[self.class_ids]
        return replace(self, class_ids=ids).select(ids >= 0)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check(truth: Truth, detections: Detections, iou: float = 0.5) -> None:
    if not 0 < iou <= 1:
        raise InputError(f"the IoU that makes a match lies above 0 and at most at 1, {iou:g} was given")
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
            f"{len(truth.classes)} classes ({_some(truth.classes)}): match the classes by name first"
        )
    bad = ~(np.isfinite(detections.boxes).all(axis=1) & np.isfinite(detections.scores))
    if bad.any():
        raise InputError(
            f"{bad.sum()} of {len(bad)} detections have a box or score that is not a number: "
            "the network's weights or its export are broken"
        )


# ---------------------------------------------------------------- who overlaps whom


def _overlaps(
    truth: Truth,
    detections: Detections,
    candidates: Bools,
    least: float,
    same_class: bool = True,
    of_detection: bool = False,
    pixel: float = 0.0,
) -> tuple[Ints, Ints, Floats]:
    """Pairs of a detection and a candidate object of its picture (and class) with an overlap of at least
    `least` (above 0): detection rows, truth rows, and the IoU or, with `of_detection`, the share of the
    detection's area."""
    classes = len(truth.classes) if same_class else 1
    keys = truth.images * classes + (truth.labels if same_class else 0)
    rows = np.flatnonzero(candidates)
    rows = rows[np.argsort(keys[rows], kind="stable")]
    wanted = detections.images * classes + (detections.class_ids if same_class else 0)
    low = np.searchsorted(keys[rows], wanted, "left")
    counts = np.searchsorted(keys[rows], wanted, "right") - low
    cuts = np.searchsorted(np.cumsum(counts), np.arange(_PAIRS_AT_ONCE, counts.sum(), _PAIRS_AT_ONCE))
    grow = np.array([0, 0, pixel, pixel])
    found, real = detections.boxes + grow, truth.boxes + grow
    (left, _, right, _), (low_x, _, high_x, _) = np.ascontiguousarray(found.T), np.ascontiguousarray(real.T)
    parts = []
    for part in np.split(np.arange(len(detections)), cuts):
        many = counts[part]
        d = np.repeat(part, many)
        within = np.arange(len(d)) - np.repeat(np.cumsum(many) - many, many)
        t = rows[np.repeat(low[part], many) + within]
        # Most pairs lie beside one another: finding that out first halves the time of a crowded picture.
        near = (np.repeat(left[part], many) < high_x[t]) & (low_x[t] < np.repeat(right[part], many))
        d, t = d[near], t[near]
        a, b = found[d], real[t]
        overlap: Floats
        if of_detection:
            inside = np.concatenate((np.maximum(a, b)[:, :2], np.minimum(a, b)[:, 2:]), axis=1)
            overlap = bx.area(inside) / np.maximum(bx.area(a), np.finfo(np.float64).tiny)
        else:
            overlap = bx.iou_aligned(a, b)
        keep = overlap >= least
        parts.append((d[keep], t[keep], overlap[keep]))
    d, t, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return d, t, overlap


def best_object(
    truth: Truth,
    detections: Detections,
    candidates: Bools,
    iou: float,
    strict: bool = False,
    pixel: float = 0.0,
) -> Ints:
    """(k,) the candidate of the same class that each detection overlaps most (the first of equals), if by
    at least `iou` (more than `iou` with `strict`); else -1."""
    d, t, overlap = _overlaps(truth, detections, candidates, iou, pixel=pixel)
    if strict:
        d, t, overlap = d[overlap > iou], t[overlap > iou], overlap[overlap > iou]
    order = np.lexsort((t, -overlap, d))
    first, at = np.unique(d[order], return_index=True)
    best = np.full(len(detections), -1, np.int64)
    best[first] = t[order][at]
    return best


def _touches(truth: Truth, detections: Detections, candidates: Bools, iou: float, **how: bool) -> Bools:
    found = np.zeros(len(detections), bool)
    if candidates.any():
        found[_overlaps(truth, detections, candidates, iou, **how)[0]] = True
    return found


# ---------------------------------------------------------------- right or wrong, by falling score


@dataclass(frozen=True, eq=False)
class Matches:
    """Every detection that counts, by falling score, and whether it is right."""

    rows: Ints  # (j,) into the detections
    scores: Floats  # (j,)
    class_ids: Ints  # (j,)
    objects: Ints  # (j,) row of the object it finds, -1 for none
    right: Bools  # (j,) the first detection of its object; others of the same object are wrong
    truths: Ints  # (C,) objects to find per class
    pictures: int


def _matches(truth: Truth, detections: Detections, best: Ints, dropped: Bools, countable: Bools) -> Matches:
    order = np.argsort(-detections.scores, kind="stable")
    order = order[~dropped[order]]
    objects = best[order]
    right = np.zeros(len(order), bool)
    found, first = np.unique(objects, return_index=True)
    right[first[found >= 0]] = True
    return Matches(
        order,
        detections.scores[order],
        detections.class_ids[order],
        objects,
        right,
        np.bincount(truth.labels[countable], minlength=len(truth.classes)),
        len(truth),
    )


def match(
    truth: Truth, detections: Detections, iou: float = 0.5, difficult: str = "ignored", pixel: float = 0.0
) -> Matches:
    """The VOC devkit's matching: by falling score, each detection takes the object of its class that it
    overlaps most, if the IoU is at least `iou`; the first to take an object is right, later ones are wrong.

    `difficult` says what an object of `Truth.ignore` is: "ignored": no object to find, and a detection whose
    best object it is is dropped, however many there are; "counted": an object as any other.
    `pixel`: 1.0 for corners that include their last pixel, as the devkit's do; 0.0 for plain coordinates.
    """
    _check(truth, detections, iou)
    if difficult not in ("ignored", "counted"):
        raise InputError(f"difficult must be 'ignored' or 'counted', not {difficult!r}")
    best = best_object(truth, detections, ~truth.crowd, iou, pixel=pixel)
    dropped = (best < 0) & _touches(truth, detections, truth.crowd, iou, of_detection=True)
    countable = ~truth.crowd
    if difficult == "ignored":
        dropped |= (best >= 0) & truth.ignore[best]
        countable = countable & ~truth.ignore
    return _matches(truth, detections, best, dropped, countable)


def precision_recall(matches: Matches, class_id: int | None = None) -> tuple[Floats, Floats, Floats]:
    """Recall, precision and score (each (j,)) after each detection of one class, or of all pooled."""
    chosen = slice(None) if class_id is None else matches.class_ids == class_id
    right = np.cumsum(matches.right[chosen])
    total = matches.truths.sum() if class_id is None else matches.truths[class_id]
    ranks = np.arange(1, len(right) + 1)
    recall = right / total if total else np.zeros(len(right))
    return recall, right / ranks, matches.scores[chosen].astype(np.float64)


def average_precision(recall: Floats, precision: Floats, levels: Floats | None = None) -> float:
    """Area under the falling hull of a precision-recall curve in rank order, or, with `levels`, the mean of
    the best precision at or beyond each of those recalls."""
    if not len(recall):
        return 0.0
    hull = np.maximum.accumulate(precision[::-1])[::-1]
    if levels is None:
        return float(np.sum(np.diff(recall, prepend=0.0) * hull))
    at = np.searchsorted(recall, levels, "left")
    return float(np.mean(np.append(hull, 0.0)[at]))


# ---------------------------------------------------------------- VOC and darknet


@dataclass(frozen=True, eq=False)
class ClassScore:
    """One class; the three columns are its precision-recall curve, by falling score."""

    name: str
    truths: int
    detections: int
    ap: float  # 0..1, NaN where there is no object to find
    recall: Floats
    precision: Floats
    scores: Floats


@dataclass(frozen=True, eq=False)
class MapScores:
    """Mean average precision at one IoU."""

    protocol: str  # "voc" or "darknet"
    iou: float
    points: str
    difficult: str
    map: float  # 0..1
    per_class: tuple[ClassScore, ...]
    matches: Matches

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `map50` (named after the IoU), the choices, and AP and counts per class."""
        return {
            f"map{100 * self.iou:g}": self.map,
            "protocol": self.protocol,
            "iou": self.iou,
            "points": self.points,
            "difficult": self.difficult,
            "pictures": self.matches.pictures,
            "per_class": {
                c.name: {"ap": _known(c.ap), "truths": c.truths, "detections": c.detections}
                for c in self.per_class
            },
        }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _class_scores(matches: Matches, classes: Sequence[str], levels: Floats | None) -> tuple[ClassScore, ...]:
    if not matches.truths.any():
        raise InputError("every object of the data set is marked to be ignored: nothing to find")
    scores = []
    for c, name in enumerate(classes):
        recall, precision, at = precision_recall(matches, c)
        ap = average_precision(recall, precision, levels) if matches.truths[c] else float("nan")
        scores.append(ClassScore(name, int(matches.truths[c]), len(at), ap, recall, precision, at))
    return tuple(scores)


def voc(
    truth: Truth,
    detections: Detections,
    iou: float = 0.5,
    points: str = "area",
    difficult: str = "ignored",
    pixel: float = 0.0,
) -> MapScores:
    """PASCAL VOC's AP per class and its mean over the classes that have objects; matching as in `match`.

    `points`: "area" (VOC2010 and later) or "11" (VOC2007: the mean precision at recalls 0, .1, ... 1).
    Source: the VOC devkit's VOCevaldet.m. InputError where there is nothing to find.
    """
    if points not in ("area", "11"):
        raise InputError(f"points must be 'area' or '11' for VOC, not {points!r}")
    matches = match(truth, detections, iou, difficult, pixel)
    # The devkit's recall levels carry the rounding of 0:.1:1; a recall of exactly .3 misses the fourth.
    levels = None if points == "area" else np.arange(11) * 0.1
    per_class = _class_scores(matches, truth.classes, levels)
    mean = float(np.nanmean([c.ap for c in per_class]))
    return MapScores("voc", iou, points, difficult, mean, per_class, matches)


def darknet(
    truth: Truth,
    detections: Detections,
    iou: float = 0.5,
    points: str = "area",
    difficult: str = "counted",
) -> MapScores:
    """What `darknet detector map` prints, from detections above .005 after NMS: one per box *and* class, and
    *not* clipped to the picture (clipping raises the mAP of the published networks by .5 to .8 points).

    Each detection takes the object of its class that it overlaps most, if the IoU is above `iou`; by falling
    score over all pictures the first to take an object is right, later ones are wrong. The mean is over *all*
    classes, those without an object counting 0.

    `points`: "area" (`-points 0`), "11" or "101". `difficult` says what an object of `Truth.ignore` is:
    "counted": an object as any other (darknet knows no difference); "dropped": absent from the labels, as
    darknet's voc_label.py leaves them out, so that its detection is wrong; "ignored" (a `difficult=` list in
    the .data file): absent, and a detection that finds no other object and overlaps it is dropped.
    Source: validate_detector_map in darknet's detector.c. InputError where there is nothing to find.
    """
    if points not in ("area", "11", "101"):
        raise InputError(f"points must be 'area', '11' or '101' for darknet, not {points!r}")
    if difficult not in ("counted", "dropped", "ignored"):
        raise InputError(f"difficult must be 'counted', 'dropped' or 'ignored', not {difficult!r}")
    _check(truth, detections, iou)
    countable = ~truth.crowd if difficult == "counted" else ~truth.crowd & ~truth.ignore
    best = best_object(truth, detections, countable, iou, strict=True)
    dropped = (best < 0) & _touches(truth, detections, truth.crowd, iou, of_detection=True)
    if difficult == "ignored":
        dropped |= (best < 0) & (best_object(truth, detections, truth.ignore, iou, strict=True) >= 0)
    matches = _matches(truth, detections, best, dropped, countable)
    levels = None if points == "area" else np.arange(int(points)) / (int(points) - 1)
    per_class = _class_scores(matches, truth.classes, levels)
    mean = float(np.mean([np.nan_to_num(c.ap) for c in per_class]))
    return MapScores("darknet", iou, points, difficult, mean, per_class, matches)


# ---------------------------------------------------------------- COCO


@dataclass(frozen=True, eq=False)
class CocoScores:
    """COCO's figures, in 0..1, and -1 (as pycocotools has it) where there is no object to find."""

    ap: float  # mean over IoU .50, .55, ... .95 and over the classes
    ap50: float
    ap75: float
    ap_small: float  # objects under 32² px
    ap_medium: float
    ap_large: float  # objects over 96² px
    ar1: float  # average recall with at most one detection per picture and class
    ar10: float
    ar_max: float
    ar_small: float
    ar_medium: float
    ar_large: float
    max_detections: int  # per picture and class
    ignored: str
    per_class: dict[str, dict[str, float]]  # name -> ap, ap50, ap75, ap_small, ap_medium, ap_large, ar_max
    recall: Floats  # (101,) the levels 0, .01, ... 1
    precision: Floats  # (C, 101) at IoU .5, all sizes; -1 for a class without objects

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the figures and those per class, without the curves; `ar_max` as `ar100` or whatever
        its limit is."""
        figures = {
            f"ar{self.max_detections}" if name == "ar_max" else name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name.startswith(("ap", "ar"))
        }
        return {
            **figures,
            "max_detections": self.max_detections,
            "ignored": self.ignored,
            "per_class": self.per_class,
        }


def coco(
    truth: Truth, detections: Detections, ignored: str = "once", max_detections: int = 100
) -> CocoScores:
    """COCO's box AP and AR by faster-coco-eval, which gives pycocotools' figures.

    `Truth.crowd` is COCO's iscrowd: any number of detections inside a crowd region are dropped, inside being
    measured by the share of the detection's own area. `ignored` says what an object of `Truth.ignore` that
    is no crowd is:
    "once": what COCO's matching itself calls ignored and what pycocotools would do if it did not overwrite
    `ignore` with `iscrowd`: no object to find; one detection that finds no countable object may take it by
    plain IoU, and is dropped; a second one is wrong.
    "crowd": as if it were a crowd region. "counted": an object as any other (pycocotools as it is).
    Source: cocoeval.py of pycocotools. InputError where there is nothing to find.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    _check(truth, detections)
    if ignored not in ("once", "crowd", "counted"):
        raise InputError(f"ignored must be 'once', 'crowd' or 'counted', not {ignored!r}")
    crowd = truth.crowd | truth.ignore if ignored == "crowd" else truth.crowd
    corners = truth.boxes.astype(np.float64)
    areas = bx.area(corners) if truth.areas is None else np.asarray(truth.areas, np.float64)
    if ignored == "once":
        # An area outside every range of sizes is how that evaluator marks an object to be ignored in a range.
        areas = np.where(truth.ignore & ~crowd, -1.0, areas)
    pictures = [{"id": i} for i in range(1, len(truth) + 1)]
    categories = [{"id": i} for i in range(1, len(truth.classes) + 1)]

    def annotations(images: Ints, labels: NDArray[Any], boxes: Floats, **more: list[Any]) -> COCO:
        columns = {
            "id": range(1, len(labels) + 1),  # 0 would read as "not matched"
            "image_id": (images + 1).tolist(),
            "category_id": (np.asarray(labels, np.int64) + 1).tolist(),
            "bbox": bx.xyxy_to_xywh(boxes).tolist(),
            **more,
        }
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return COCO({"images": pictures, "categories": categories, "annotations": rows})

    found = detections.boxes.astype(np.float64)
    evaluator = COCOeval_faster(
        annotations(
            truth.images, truth.labels, corners, area=areas.tolist(), iscrowd=crowd.astype(int).tolist()
        ),
        annotations(
            detections.images,
            detections.class_ids,
            found,
            area=np.prod(found[:, 2:] - found[:, :2], axis=1).tolist(),
            score=detections.scores.astype(np.float64).tolist(),
        ),
        "bbox",
        print_function=lambda *_: None,
    )
    evaluator.params.maxDets = [1, 10, max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"])  # (10 IoU, 101 recalls, C, 4 sizes, 3 limits)
    recall = np.asarray(evaluator.eval["recall"])  # (10 IoU, C, 4 sizes, 3 limits)

    def figures(c: slice) -> dict[str, float]:
        p, r = precision[:, :, c], recall[:, c]
        return {
            "ap": _measured(p[..., 0, 2]),
            "ap50": _measured(p[0, ..., 0, 2]),
            "ap75": _measured(p[5, ..., 0, 2]),
            "ap_small": _measured(p[..., 1, 2]),
            "ap_medium": _measured(p[..., 2, 2]),
            "ap_large": _measured(p[..., 3, 2]),
            "ar1": _measured(r[..., 0, 0]),
            "ar10": _measured(r[..., 0, 1]),
            "ar_max": _measured(r[..., 0, 2]),
            "ar_small": _measured(r[..., 1, 2]),
            "ar_medium": _measured(r[..., 2, 2]),
            "ar_large": _measured(r[..., 3, 2]),
        }

    per_class = {name: figures(slice(c, c + 1)) for c, name in enumerate(truth.classes)}
    return CocoScores(
        **figures(slice(None)),
        max_detections=max_detections,
        ignored=ignored,
        per_class=per_class,
        recall=np.linspace(0, 1, 101),
        precision=precision[0, :, :, 0, 2].T,
    )


def _measured(values: NDArray[Any]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


# ---------------------------------------------------------------- one threshold


@dataclass(frozen=True)
class OperatingPoint:
    """What a detector does when it shows detections of `threshold` and above, all classes pooled."""

    threshold: float
    precision: float
    recall: float
    f1: float
    false_positives: float  # per picture

    def as_dict(self) -> dict[str, float]:
        return dict(self.__dict__)


def operating_points(matches: Matches) -> NDArray[np.float64]:
    """(t, 5) threshold, precision, recall, F1 and false positives per picture at every distinct score, from
    the highest. The threshold lies half way to the next lower score, so that > and >= do the same."""
    if not len(matches.scores):
        return np.zeros((0, 5))
    recall, precision, scores = precision_recall(matches)
    last = np.flatnonzero(np.append(np.diff(scores) < 0, True))  # equal scores stand or fall together
    recall, precision, scores = recall[last], precision[last], scores[last]
    lowest = np.nextafter(np.float32(scores[-1]), np.float32(-1))
    thresholds = np.append((scores[:-1] + scores[1:]) / 2, lowest)
    wrong = (last + 1) * (1 - precision) / matches.pictures
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.stack((thresholds, precision, recall, f1, wrong), axis=1)


def operating_point(
    matches: Matches,
    precision: float | None = None,
    recall: float | None = None,
    false_positives: float | None = None,
) -> OperatingPoint:
    """The threshold for a wanted precision (the one with the highest recall), a wanted recall (the one with
    the highest precision), at most `false_positives` per picture (the one with the highest recall), or,
    nothing wanted, for the best F1. InputError where none reaches it, saying how far the detector gets.
    """
    wanted = {"precision": precision, "recall": recall, "false_positives": false_positives}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    if len(chosen) > 1:
        raise InputError(f"an operating point takes one wish, not {len(chosen)}: {', '.join(chosen)}")
    table = operating_points(matches)
    if not len(table):
        raise InputError("the detector found nothing at all: there is no operating point to choose")
    if not chosen:
        return OperatingPoint(*table[np.argmax(table[:, 3])].tolist())
    ((name, value),) = chosen.items()
    if name == "false_positives":
        column, unit, best, fits = 4, "false positives per picture", table[:, 4].min(), table[:, 4] <= value
    else:
        column = 1 if name == "precision" else 2
        unit, best, fits = name, table[:, column].max(), table[:, column] >= value
    if not fits.any():
        raise InputError(
            f"no threshold gives {value:g} {unit}: the nearest this detector gets is {best:.4f}; ask for that"
        )
    rows = np.flatnonzero(fits)
    rank = table[rows, 1 if name == "recall" else 2]
    return OperatingPoint(*table[rows[np.argmax(rank)]].tolist())


# ---------------------------------------------------------------- confusion and failures


def _pair_up(truth: Truth, detections: Detections, threshold: float, iou: float) -> tuple[Ints, Ints, Bools]:
    """Detections of `threshold` and above (rows), the object each takes (-1 for none), and which of them are
    dropped. Objects and detections pair one to one, of one class first, by falling IoU."""
    rows = np.flatnonzero(detections.scores >= threshold)
    shown = detections.select(rows)
    taken = np.full(len(rows), -1, np.int64)
    d, t, overlap = _overlaps(truth, shown, ~truth.crowd & ~truth.ignore, iou, same_class=False)
    order = np.lexsort((t, d, -overlap, shown.class_ids[d] != truth.labels[t]))
    d, t = d[order], t[order]
    while len(d):
        # What comes first for its detection and for its object, going through one by one would take.
        first = np.zeros((2, len(d)), bool)
        first[0, np.unique(d, return_index=True)[1]] = True
        first[1, np.unique(t, return_index=True)[1]] = True
        both = first.all(axis=0)
        taken[d[both]] = t[both]
        free = ~np.isin(d, d[both]) & ~np.isin(t, t[both])
        d, t = d[free], t[free]
    ignored = _touches(truth, shown, truth.ignore & ~truth.crowd, iou, same_class=False)
    crowds = _touches(truth, shown, truth.crowd, iou, same_class=False, of_detection=True)
    return rows, taken, (taken < 0) & (ignored | crowds)


def confusion(truth: Truth, detections: Detections, threshold: float, iou: float = 0.5) -> NDArray[np.int64]:
    """(C + 1, C + 1) counts: row = what it is, column = what the detector says; the last row is background
    (false positives), the last column objects that were missed.

    Detections of `threshold` and above and objects pair one to one where the IoU is at least `iou`, those of
    one class first, then by falling IoU. A detection left over that overlaps an ignored object that much, or
    has that share of its area in a crowd region, is dropped; so are ignored objects and crowd regions.
    """
    _check(truth, detections, iou)
    rows, taken, dropped = _pair_up(truth, detections, threshold, iou)
    background = len(truth.classes)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    hit = taken >= 0
    said = detections.class_ids[rows]
    np.add.at(matrix, (truth.labels[taken[hit]], said[hit]), 1)
    matrix[background] += np.bincount(said[~hit & ~dropped], minlength=background + 1)
    missed = np.setdiff1d(np.flatnonzero(~truth.crowd & ~truth.ignore), taken)
    matrix[:, background] += np.bincount(truth.labels[missed], minlength=background + 1)
    return matrix


@dataclass(frozen=True, eq=False)
class Failures:
    """The worst of each kind first."""

    false_positives: Ints  # (a,) detections of nothing, by falling score
    missed: Ints  # (b,) objects without a detection, by falling area
    wrong_class: Ints  # (c, 2) detection and the object of another class it lies on, by falling score

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}


def failures(
    truth: Truth, detections: Detections, threshold: float, iou: float = 0.5, limit: int | None = None
) -> Failures:
    """What goes wrong at a threshold, with the pairs of `confusion`: rows of the detections and of the truth,
    at most `limit` of each kind."""
    _check(truth, detections, iou)
    rows, taken, dropped = _pair_up(truth, detections, threshold, iou)
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

    def said(d: int) -> str:
        return f"{truth.classes[detections.class_ids[d]]} {detections.scores[d]:.2f}"

    def real(t: int) -> str:
        return truth.classes[truth.labels[t]]

    false, missed, wrong = worst.false_positives[:limit], worst.missed[:limit], worst.wrong_class[:limit]
    kinds = [
        [(f"false: {said(d)}", detections.images[d], detections.boxes[d]) for d in false],
        [(f"missed: {real(t)}", pictures[t], truth.boxes[t]) for t in missed],
        [(f"{real(t)} taken for {said(d)}", detections.images[d], detections.boxes[d]) for d, t in wrong],
    ]
    columns = max(1, *(len(cells) for cells in kinds))
    images, titles = [], []
    for cells in filter(None, kinds):
        for title, i, box in cells:
            path = dataset.path(int(i))
            picture = cv2.imread(str(path))
            if picture is None:
                raise InputError(
                    f"{path} is missing or does not decode: run `toolkit data doctor` on the set"
                )
            images.append(_cut_out(picture[..., ::-1], truth.boxes[dataset.rows(int(i))], box))
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
    """A square around `box` with half of its length on each side, and what lies in it."""
    size = np.array([picture.shape[1], picture.shape[0]])
    side = np.minimum(max(2 * (box[2:] - box[:2]).max(), 32), size).astype(int)
    corner = np.clip((box[:2] + box[2:] - side) / 2, 0, size - side).astype(int)
    boxes = np.concatenate((objects, box[None])) - np.tile(corner, 2).astype(np.float32)
    colours = np.append(np.full(len(objects), 2), 1)
    inside = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < side).all(axis=1)
    (left, top), (right, bottom) = corner, corner + side
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    return viz.draw_boxes(part, boxes[inside], colours[inside], long_side=320, scale=2.5)
