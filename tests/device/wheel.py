"""What the ncnn wheel finds, and how far two sets of detections lie apart."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.boxes import nms
from toolkit.device.agreement import ncnn_input
from toolkit.export.folder import open_export
from toolkit.models.decode import decode

LEAST = 0.002  # score of a candidate
FLOAT32 = 1e-4  # how far scores and edges may move between machines


@dataclass(frozen=True)
class Found:
    """Boxes relative to the picture (K, 4), scores (K,), class names (K,)."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def above(self, conf: float) -> "Found":
        keep = self.scores > conf
        return Found(self.boxes[keep], self.scores[keep], self.classes[keep])

    def apart(self, other: "Found") -> np.ndarray:
        """(K, M): the largest difference of score and edges; infinite between classes."""
        edges = np.abs(self.boxes[:, None] - other.boxes[None]).max(axis=2, initial=0)
        edges /= np.abs(self.boxes).max(axis=1, initial=1)[:, None]  # random weights give very large boxes
        scores = np.abs(self.scores[:, None] - other.scores[None])
        same = self.classes[:, None] == other.classes[None]
        return np.where(same, np.maximum(edges, scores), np.inf)

    def from_nearest(self, candidates: "Found") -> float:
        """How far the farthest detection lies from the candidate nearest to it."""
        return float(self.apart(candidates).min(axis=1, initial=np.inf).max(initial=0))


def assert_equal(found: Found, wanted: Found, tolerance: float = FLOAT32) -> None:
    """The same detections, in any order."""
    assert len(found.scores) == len(wanted.scores) > 0
    near = found.apart(wanted) <= tolerance
    assert near.any(axis=0).all()
    assert near.any(axis=1).all()


def found_by(reading: dict) -> Found:
    """The detections of a runner's answer."""
    size = np.array([reading["input"]["width"], reading["input"]["height"]] * 2)
    rows = reading["detections"]
    boxes = np.array([row["box"] for row in rows], float).reshape(-1, 4) / size
    return Found(boxes, np.array([row["score"] for row in rows]), np.array([row["class"] for row in rows]))


class Wheel:
    """What the ncnn wheel finds in a picture that ncnn has resized."""

    def __init__(self, folder: Path, fmt: str, image: np.ndarray):
        model = open_export(folder, fmt, threads=1)
        x, self.placement = ncnn_input(image, model.io)
        self.io = model.io
        (self.candidates,) = decode(model.predict(x[None]), model.io, LEAST)

    def conf(self, count: int = 10) -> float:
        """A threshold with about `count` candidates above it, in the widest gap thereabouts."""
        scores = np.sort(self.candidates.scores)[::-1][: 2 * count]
        gap = int(np.argmax(scores[count // 2 : -1] - scores[count // 2 + 1 :])) + count // 2
        return float(scores[gap] + scores[gap + 1]) / 2

    def found(self, conf: float, suppressed: bool = True) -> Found:
        keep = self.candidates.scores > conf
        boxes, scores, class_ids = (
            part[keep]
            for part in (self.candidates.boxes_norm, self.candidates.scores, self.candidates.class_ids)
        )
        if suppressed:
            kept = nms(boxes, scores, class_ids, 0.45)
            boxes, scores, class_ids = boxes[kept], scores[kept], class_ids[kept]
        size = np.array(self.placement.size * 2, np.float32)
        return Found(self.placement.to_image(boxes) / size, scores, np.array(self.io.classes)[class_ids])
