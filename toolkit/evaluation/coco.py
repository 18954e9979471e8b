"""COCO's average precision, by faster-coco-eval, with ignored objects as they are labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as bx
from toolkit.evaluation.columns import Detections, Floats, Ints, Truth, check_columns
from toolkit.runtime import InputError
from toolkit.tables import Shown


@dataclass(frozen=True, eq=False)
class CocoScores(Shown):
    """COCO's figures, in 0..1, and -1 (as pycocotools has it) where there is no object to find. As a table: a
    row for all classes and one for each."""

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
            **self.choices(),
            "per_class": self.per_class,
        }

    def caption(self) -> str:
        """What the protocol leaves open."""
        return (
            f"at most {self.max_detections} detections of a class in a picture; objects to be ignored: "
            f"{self.ignored}"
        )

    def columns(self) -> dict[str, list[str]]:
        """AP of all classes and of each; empty where there is no object to find."""
        titles = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "small", "ap_medium": "medium"}
        titles |= {"ap_large": "large"}
        rows = [{name: getattr(self, name) for name in titles}, *self.per_class.values()]
        cells = {
            title: ["" if row[name] < 0 else f"{row[name]:.3f}" for row in rows]
            for name, title in titles.items()
        }
        return {"class": ["all", *self.per_class], **cells}

    def strong(self) -> str:
        return "all"

    def choices(self) -> dict[str, Any]:
        """What the protocol leaves open: the detections that count, and objects to be ignored."""
        return {"max_detections": self.max_detections, "ignored": self.ignored}


def coco(
    truth: Truth, detections: Detections, ignored: str = "once", max_detections: int = 100
) -> CocoScores:
    """COCO's box AP and AR by faster-coco-eval, which gives pycocotools' figures.

    `Truth.crowd` is COCO's iscrowd: any number of detections inside a crowd region are dropped, inside being
    measured by the share of the detection's own area. `ignored` says what an object of `Truth.ignore` that
    is not a crowd is:
    "once": what COCO's matching itself calls ignored and what pycocotools would do if it did not overwrite
    `ignore` with `iscrowd`: no object to find; one detection that finds no countable object may take it by
    plain IoU, and is dropped; a second one is wrong.
    "crowd": as if it were a crowd region. "counted": an object as any other (pycocotools as it is).
    Source: cocoeval.py of pycocotools. InputError where there is nothing to find.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    check_columns(truth, detections)
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
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0
