"""What a file of lower precision keeps of float32, judged on pictures: detections, or points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.boxes import iou_aligned, nms
from toolkit.export.parity import Comparison
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.models.decode import Candidates, Floats, decode
from toolkit.models.io import ModelIO, NetworkIO
from toolkit.models.network import Detecting, Landmarking, Network, finds_objects, places_landmarks

LIMIT = 0.9  # the least part of float32's detections that a file must keep
POINT_LIMIT = 4  # the largest distance of points, in `NetworkIO.good_error`
PICTURES = 64
BEST = 300  # candidates that count where float32 finds nothing
RIVALS = 1000  # candidates of a picture that go into suppression, the best

Rows = NDArray[np.intp]
# An opened file -> how far it is from float32.
Fidelity = Callable[[Network], Comparison]


def fidelity(model: Network, pictures: Floats) -> Fidelity:
    """How files of lower precision are compared with the network in float32, by what it finds.

    Args:
        model: the network in torch, which runs on the pictures at once.
        pictures: (N, C, H, W) network inputs.

    Returns:
        An opened file of the same network -> the facts, and the fault where it loses too much.
    """
    if finds_objects(model):
        return detection_fidelity(model, pictures)
    assert places_landmarks(model)
    return point_fidelity(model, pictures)


@dataclass(frozen=True)
class Cells:
    """Every cell, anchor and class of one picture, in an order that all engines share."""

    all: Candidates

    @classmethod
    def of(cls, maps: list[Floats], io: ModelIO) -> Cells:
        return cls(decode(maps, io, -np.inf)[0])

    def detections(self, threshold: float) -> Rows:
        """Rows that are above the threshold and survive suppression."""
        boxes, scores, class_ids = self.all.boxes_norm, self.all.scores, self.all.class_ids
        rows = np.flatnonzero(scores > threshold)
        rows = rows[np.argsort(-scores[rows], kind="stable")[:RIVALS]]
        return rows[nms(boxes[rows], scores[rows], class_ids[rows], DetectSettings().iou)]

    def has(self, other: Cells, rows: Rows, least: float) -> NDArray[np.bool_]:
        """Which of the other's rows are here as well: a score above `least`, an IoU above .5."""
        overlaps = iou_aligned(self.all.boxes_norm[rows], other.all.boxes_norm[rows])
        return (self.all.scores[rows] > least) & (overlaps > 0.5)


def detection_fidelity(model: Detecting, pictures: Floats) -> Fidelity:
    """Compares by detections above the network's threshold; above the score of float32's `BEST`th candidate
    where none is.

    A detection is kept where the file gives the same box (IoU above .5) and class in the same cell with half
    the threshold or more, so that scores which rounding moves across the threshold do not count; how far
    they move on average is the score change. The file's own detections that float32 does not give so are
    new. (Cells are compared because the one that wins a suppression may be another one each time.)
    """
    maps = [model.predict(x[None]) for x in pictures]
    threshold = _threshold(maps, model.io)

    def compare(opened: Network) -> Comparison:
        assert finds_objects(opened)
        kept, total, new, changes = 0, 0, 0, 0.0
        for x, reference in zip(pictures, maps, strict=True):
            outputs = opened.predict(x[None])
            if not all(np.isfinite(each).all() for each in (*reference, *outputs)):
                return Comparison({"pictures": len(pictures)}, "gives outputs that are not finite")
            here, there = Cells.of(reference, model.io), Cells.of(outputs, model.io)
            rows, own = here.detections(threshold), there.detections(threshold)
            total += len(rows)
            kept += int(there.has(here, rows, threshold / 2).sum())
            new += int((~here.has(there, own, threshold / 2)).sum())
            changes += float((there.all.scores[rows] - here.all.scores[rows]).sum())
        facts = {
            "pictures": len(pictures),
            "threshold": threshold,
            "detections": total,
            "kept": kept,
            "lost": total - kept,
            "new": new,
            "score_change": changes / max(total, 1),
            "limit": LIMIT,
        }
        return Comparison(facts, _detection_fault(total, kept, new, threshold))

    return compare


def _threshold(maps: list[list[Floats]], io: ModelIO) -> float:
    default = io.threshold
    assert default is not None
    scores = np.concatenate([np.sort(Cells.of(each, io).all.scores)[-BEST - 1 :] for each in maps])
    best = np.sort(scores)[::-1]
    return default if best[0] > default else float(best[: BEST + 1][-1])


def _detection_fault(total: int, kept: int, new: int, threshold: float) -> str:
    above = f"float32's {total} detections above {threshold:.2g}"
    if kept < LIMIT * total:
        return f"keeps {kept} of {above}, which is {kept / total:.0%} and not at least {LIMIT:.0%}"
    return f"finds {new} besides {above}" if new > total else ""


def point_fidelity(model: Landmarking, pictures: Floats) -> Fidelity:
    """Compares by the distance of points (`LandmarkIO.output_error`)."""
    reference = [model.predict(x[None]) for x in pictures]
    io: NetworkIO = model.io
    limit = POINT_LIMIT * io.good_error

    def compare(opened: Network) -> Comparison:
        error = io.output_error(reference, [opened.predict(x[None]) for x in pictures])
        facts: dict[str, Any] = {"pictures": len(pictures), "point_error": error, "limit": limit}
        if error <= limit:
            return Comparison(facts)
        fault = f"moves points by {error:.2g} sides of the crop on average, not at most {limit:.2g}"
        return Comparison(facts, fault)

    return compare


def sample_inputs(io: NetworkIO) -> Floats:
    """(14, C, H, W): photographs and their mirror images, where nobody names pictures."""
    from toolkit.samples import photographs

    both = [picture[:, ::side] for picture in photographs().values() for side in (1, -1)]
    return np.stack([preprocess(np.ascontiguousarray(picture), io)[0] for picture in both])
