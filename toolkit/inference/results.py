"""Detections as supervision.Detections, plain records or COCO rows, or drawn on the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from toolkit.models.decode import Boxes
from toolkit.models.io import ModelIO
from toolkit.pictures import Image
from toolkit.tables import Shown

if TYPE_CHECKING:
    import supervision
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Found(Shown):
    """Detections in some pictures, as `toolkit.inference.run.find_in` gives them. As a table: a row for each
    picture; in a notebook: the pictures with their boxes."""

    picture_alone: ClassVar[bool] = True

    pictures: Mapping[str, Image]
    detections: Sequence[Boxes]
    io: ModelIO
    conf: float

    def caption(self) -> str:
        """The number of boxes."""
        boxes = sum(len(each.scores) for each in self.detections)
        return f"{boxes} boxes with a score above {self.conf:g} in {len(self.pictures)} pictures"

    def columns(self) -> dict[str, list[object]]:
        """Boxes and the eight highest scores of each picture."""
        scores = [
            [f"{self.io.classes[c]} {s:.2f}" for c, s in zip(each.class_ids, each.scores, strict=True)]
            for each in self.detections
        ]
        return {
            "picture": list(self.pictures),
            "boxes": [len(each.scores) for each in self.detections],
            "highest scores": [", ".join(words[:8]) for words in scores],
        }

    def figure(self) -> Figure:
        """The pictures with their boxes."""
        from toolkit import viz

        drawn = [
            viz.draw_boxes(image, each.boxes, each.class_ids, each.scores, self.io.classes, scale=2)
            for image, each in zip(self.pictures.values(), self.detections, strict=True)
        ]
        return viz.image_grid(drawn, list(self.pictures), columns=min(4, len(drawn)), cell=3)


def to_supervision(detections: Boxes, io: ModelIO) -> supervision.Detections:
    """Detections as supervision.Detections.

    Args:
        detections: of one picture, boxes in pixels.
        io: names the classes.

    Returns:
        The same boxes, with class names in `data["class_name"]`.

    >>> from toolkit.models.zoo import create_model
    >>> boxes = Boxes(np.array([[10, 20, 60, 80]], np.float32), np.array([0.9], np.float32), np.array([0]))
    >>> to_supervision(boxes, create_model("yoloface-50k").io).data["class_name"].tolist()
    ['face']
    """
    import supervision

    names = np.array(io.classes, dtype=object)[detections.class_ids].astype(str)
    return supervision.Detections(
        xyxy=detections.boxes,
        confidence=detections.scores,
        class_id=detections.class_ids,
        data={"class_name": names},
    )


def as_records(detections: Boxes, io: ModelIO) -> list[dict[str, Any]]:
    """Detections as plain dictionaries with class, score and box (xyxy px), for JSON.

    >>> from toolkit.models.zoo import create_model
    >>> boxes = Boxes(np.array([[10, 20, 60, 80]], np.float32), np.array([0.9], np.float32), np.array([0]))
    >>> as_records(boxes, create_model("yoloface-50k").io)
    [{'class': 'face', 'score': 0.9, 'box': [10.0, 20.0, 60.0, 80.0]}]
    """
    return [
        {"class": io.classes[c], "score": round(float(s), 5), "box": [round(float(v), 2) for v in b]}
        for b, s, c in zip(detections.boxes, detections.scores, detections.class_ids, strict=True)
    ]


def as_coco(detections: Boxes, image_id: int) -> list[dict[str, Any]]:
    """Detections as rows of a COCO results file: bbox xywh px, category_id = class index + 1.

    >>> boxes = Boxes(np.array([[10, 20, 60, 80]], np.float32), np.array([0.9], np.float32), np.array([0]))
    >>> as_coco(boxes, 7)
    [{'image_id': 7, 'category_id': 1, 'bbox': [10.0, 20.0, 50.0, 60.0], 'score': 0.9}]
    """
    return [
        {
            "image_id": image_id,
            "category_id": int(c) + 1,
            "bbox": [round(float(v), 2) for v in (b[0], b[1], b[2] - b[0], b[3] - b[1])],
            "score": round(float(s), 5),
        }
        for b, s, c in zip(detections.boxes, detections.scores, detections.class_ids, strict=True)
    ]


def annotate(image: Image, detections: Boxes, io: ModelIO, in_place: bool = False) -> Image:
    """Draw detections on a copy of the picture, with class names and scores.

    Args:
        image: RGB (H, W, 3) uint8.
        detections: boxes in pixels of the picture.
        io: names the classes.
        in_place: draw on the picture itself.

    Returns:
        The drawing, of the same size.

    >>> from toolkit.models.zoo import create_model
    >>> boxes = Boxes(np.array([[10, 20, 60, 80]], np.float32), np.array([0.9], np.float32), np.array([0]))
    >>> annotate(np.zeros((100, 120, 3), np.uint8), boxes, create_model("yoloface-50k").io).shape
    (100, 120, 3)
    """
    from toolkit import viz

    found = (detections.boxes, detections.class_ids, detections.scores)
    return viz.draw_boxes(image, *found, io.classes, long_side=0, in_place=in_place)
