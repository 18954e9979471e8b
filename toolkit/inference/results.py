"""Detections as supervision, plain records, COCO rows, or drawn on the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.models.decode import Boxes
from toolkit.models.io import ModelIO
from toolkit.pictures import Image

if TYPE_CHECKING:
    import supervision


def to_supervision(found: Boxes, io: ModelIO) -> supervision.Detections:
    """The same detections in supervision's container."""
    import supervision

    names = np.array(io.classes, dtype=object)[found.class_ids].astype(str)
    return supervision.Detections(
        xyxy=found.boxes,
        confidence=found.scores,
        class_id=found.class_ids,
        data={"class_name": names},
    )


def as_records(found: Boxes, io: ModelIO) -> list[dict[str, Any]]:
    """Detections as plain dictionaries: class, score, box (xyxy px)."""
    return [
        {"class": io.classes[c], "score": round(float(s), 5), "box": [round(float(v), 2) for v in b]}
        for b, s, c in zip(found.boxes, found.scores, found.class_ids, strict=True)
    ]


def as_coco(found: Boxes, image_id: int) -> list[dict[str, Any]]:
    """Detections as rows of a COCO results file (category_id = class index + 1, bbox xywh px)."""
    return [
        {
            "image_id": image_id,
            "category_id": int(c) + 1,
            "bbox": [round(float(v), 2) for v in (b[0], b[1], b[2] - b[0], b[3] - b[1])],
            "score": round(float(s), 5),
        }
        for b, s, c in zip(found.boxes, found.scores, found.class_ids, strict=True)
    ]


def annotate(image: Image, found: Boxes, io: ModelIO) -> Image:
    """A copy of the picture, at its own size, with boxes, class names and scores."""
    from toolkit import viz

    return viz.draw_boxes(image, found.boxes, found.class_ids, found.scores, io.classes, long_side=0)
