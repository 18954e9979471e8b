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

LIMIT = 0.9  # the least part of float32's detections that a file must keep; of new ones it may have 1 - LIMIT
MARGIN = 0.1  # of the threshold: a score so little below it still counts as found
POINT_LIMIT = 4  # the largest distance of points, in `NetworkIO.good_error`
PICTURES = 64
ENOUGH = 30  # detections on all pictures from which the network's own threshold judges
BEST = 300  # candidates that count where there are fewer
BEST_MARGIN = 0.2  # instead of MARGIN then: rounding moves low scores more, in parts of the score
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
    """Compares by detections above the network's threshold; where float32 has fewer than `ENOUGH`, above the
    score of its `BEST`th candidate.

    A detection is kept where the file gives the same box (IoU above .5) and class in the same cell with a
    score above the threshold less a margin, `MARGIN` of it (0.225 for 0.25) or `BEST_MARGIN`, so that a score
    which rounding moves across the threshold does not count as lost; how far scores move on average is the
    score change. The file's own detections above the threshold that float32 does not give so are new. (Cells
    are compared because the one that wins a suppression may be another one each time.)

    A file is at fault that keeps less than `LIMIT` of float32's detections, or that has more new ones than
    1 - `LIMIT` of their number.
    """
    maps = [model.predict(x[None]) for x in pictures]
    threshold, margin = _threshold(maps, model.io)
    least = threshold - margin

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
            kept += int(there.has(here, rows, least).sum())
            new += int((~here.has(there, own, least)).sum())
            changes += float((there.all.scores[rows] - here.all.scores[rows]).sum())
        facts = {
            "pictures": len(pictures),
            "threshold": threshold,
            "margin": margin,
            "detections": total,
            "kept": kept,
            "lost": total - kept,
            "new": new,
            "score_change": changes / max(total, 1),
            "limit": LIMIT,
        }
        return Comparison(facts, _detection_fault(facts))

    return compare


def _threshold(maps: list[list[Floats]], io: ModelIO) -> tuple[float, float]:
    """The score above which detections count, and the margin below it."""
    default = io.threshold
    assert default is not None
    count, best = 0, []
    for each in maps:
        cells = Cells.of(each, io)
        count += len(cells.detections(default))
        best.append(np.sort(cells.all.scores)[-BEST - 1 :])
    if count >= ENOUGH:
        return default, MARGIN * default
    threshold = min(default, float(np.sort(np.concatenate(best))[-BEST - 1 :][0]))
    return threshold, BEST_MARGIN * threshold


def _detection_fault(facts: dict[str, Any]) -> str:
    total, kept, new = facts["detections"], facts["kept"], facts["new"]
    above = f"float32's {total} detections above {facts['threshold']:.2g} (margin {facts['margin']:.2g})"
    if kept < LIMIT * total:
        return f"keeps {kept} of {above}, which is {kept / total:.1%} and not at least {LIMIT:.0%}"
    if new > (1 - LIMIT) * total:
        share = f"{new / total:.1%}" if total else "more"
        return f"finds {new} besides {above}, which is {share} and not at most {1 - LIMIT:.0%}"
    return ""


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
