"""The evaluation protocols retold with their loops, plainly, and pycocotools on the same columns."""

import contextlib
from operator import attrgetter

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from toolkit.evaluation.coco import CocoScores
from toolkit.evaluation.columns import Detections, Truth
from toolkit.evaluation.widerface import WiderTruth

COCO_NAMES = "ap ap50 ap75 ap_small ap_medium ap_large ar1 ar10 ar_max ar_small ar_medium ar_large".split()


def figures(scores: CocoScores) -> list[float]:
    """COCO's twelve, in pycocotools' order."""
    return list(attrgetter(*COCO_NAMES)(scores))


class _Honouring(COCOeval):
    """Takes `difficult` for COCO's own `ignore`, which pycocotools overwrites with `iscrowd`."""

    def _prepare(self) -> None:
        super()._prepare()
        for group in self._gts.values():
            for row in group:
                row["ignore"] = row["ignore"] or row["difficult"]


def pycocotools(truth: Truth, detections: Detections, ignored: str) -> list[float]:
    """Its twelve figures; `ignored` as in `toolkit.evaluation.detection.coco`."""

    def xywh(boxes: np.ndarray) -> list[list[float]]:
        wide = boxes.astype(float)
        return np.concatenate((wide[:, :2], wide[:, 2:] - wide[:, :2]), axis=1).tolist()

    crowd = truth.crowd | truth.ignore if ignored == "crowd" else truth.crowd
    objects = zip(truth.images, truth.labels, xywh(truth.boxes), crowd, truth.ignore, strict=True)
    annotations = [
        {
            "id": i,
            "image_id": int(picture),
            "category_id": int(label),
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(in_crowd),
            "difficult": int(difficult),
        }
        for i, (picture, label, box, in_crowd, difficult) in enumerate(objects, 1)
    ]
    found = [
        {"image_id": int(picture), "category_id": int(c), "bbox": box, "score": float(score)}
        for picture, c, box, score in zip(
            detections.images, detections.class_ids, xywh(detections.boxes), detections.scores, strict=True
        )
    ]
    with contextlib.redirect_stdout(None):
        known = COCO()
        known.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": i} for i in range(len(truth.classes))],
            "annotations": annotations,
        }
        known.createIndex()
        kind = _Honouring if ignored == "once" else COCOeval
        evaluator = kind(known, known.loadRes(found), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


def iou(a: np.ndarray, b: np.ndarray, pixel: float = 0.0) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0]) + pixel
    h = min(a[3], b[3]) - max(a[1], b[1]) + pixel
    if w <= 0 or h <= 0:
        return 0.0
    areas = [(box[2] - box[0] + pixel) * (box[3] - box[1] + pixel) for box in (a, b)]
    return w * h / (sum(areas) - w * h)


def share_inside(box: np.ndarray, region: np.ndarray) -> float:
    w = min(box[2], region[2]) - max(box[0], region[0])
    h = min(box[3], region[3]) - max(box[1], region[1])
    return w * h / ((box[2] - box[0]) * (box[3] - box[1])) if w > 0 and h > 0 else 0.0


def darknet_ap(
    truth: Truth, detections: Detections, points: int, difficult: str
) -> tuple[float, list[float]]:
    """`detector map` retold with its loops: one rank per detection of all classes, a row per class."""
    classes = len(truth.classes)
    images = truth.images
    known = ~truth.crowd if difficult == "counted" else ~truth.crowd & ~truth.ignore
    entries = []
    for k in range(len(detections)):
        best, most = -1, 0.0
        here = np.flatnonzero((images == detections.images[k]) & (truth.labels == detections.class_ids[k]))
        for t in here[known[here]]:
            overlap = iou(detections.boxes[k], truth.boxes[t])
            if overlap > 0.5 and overlap > most:
                best, most = int(t), overlap
        if best < 0:
            if any(share_inside(detections.boxes[k], truth.boxes[t]) >= 0.5 for t in here[truth.crowd[here]]):
                continue
            lost = here[truth.ignore[here]]
            if difficult == "ignored" and any(iou(detections.boxes[k], truth.boxes[t]) > 0.5 for t in lost):
                continue
        entries.append((-float(detections.scores[k]), k, int(detections.class_ids[k]), best))
    entries.sort()
    tp, fp = np.zeros((len(entries) + 1, classes)), np.zeros((len(entries) + 1, classes))
    seen = set()
    for rank, (_, _, c, best) in enumerate(entries, 1):
        tp[rank], fp[rank] = tp[rank - 1], fp[rank - 1]
        if best >= 0 and best not in seen:
            seen.add(best)
            tp[rank, c] += 1
        else:
            fp[rank, c] += 1
    aps = []
    for c in range(classes):
        total = int((truth.labels[known] == c).sum())
        precision = [
            tp[r, c] / (tp[r, c] + fp[r, c]) if tp[r, c] + fp[r, c] else 0.0 for r in range(1, len(tp))
        ]
        recall = [tp[r, c] / total if total else 0.0 for r in range(1, len(tp))]
        ap = 0.0
        if points == 0 and recall:
            last_recall, last_precision = recall[-1], precision[-1]
            for r in range(len(recall) - 2, -1, -1):
                step = last_recall - recall[r]
                last_recall = recall[r]
                last_precision = max(last_precision, precision[r])
                ap += step * last_precision
            ap += last_recall * last_precision
        elif recall:
            for point in range(points):
                level = point / (points - 1)
                ap += max((p for p, r in zip(precision, recall, strict=True) if r >= level), default=0.0)
            ap /= points
        aps.append(ap)
    return sum(aps) / classes, aps


def voc_ap(truth: Truth, detections: Detections, c: int, points: str, difficult: str, pixel: float) -> float:
    """VOCevaldet retold for one class; NaN where it has no object to find."""
    images = truth.images
    hard = truth.ignore if difficult == "ignored" else np.zeros(len(truth.labels), bool)
    total = int(((truth.labels == c) & ~truth.crowd & ~hard).sum())
    if not total:
        return float("nan")
    taken, tp, fp = set(), [], []
    for k in sorted(np.flatnonzero(detections.class_ids == c), key=lambda k: (-detections.scores[k], k)):
        best, most = -1, -1.0
        here = np.flatnonzero((images == detections.images[k]) & (truth.labels == c))
        for t in here[~truth.crowd[here]]:
            overlap = iou(detections.boxes[k], truth.boxes[t], pixel)
            if overlap > most:
                best, most = int(t), overlap
        if most >= 0.5:
            if hard[best]:
                continue
            tp.append(best not in taken)
            fp.append(best in taken)
            taken.add(best)
        elif not any(
            share_inside(detections.boxes[k], truth.boxes[t]) >= 0.5 for t in here[truth.crowd[here]]
        ):
            tp.append(False)
            fp.append(True)
    right, wrong = np.cumsum(tp), np.cumsum(fp)
    recall, precision = right / total, right / np.maximum(right + wrong, 1)
    if points == "11":
        return float(np.mean([max(precision[recall >= t], default=0.0) for t in np.arange(0, 1.1, 0.1)]))
    hull = np.concatenate(([0.0], precision, [0.0]))
    ends = np.concatenate(([0.0], recall, [1.0]))
    for i in range(len(hull) - 2, -1, -1):
        hull[i] = max(hull[i], hull[i + 1])
    steps = np.flatnonzero(ends[1:] != ends[:-1])
    return float(np.sum((ends[steps + 1] - ends[steps]) * hull[steps + 1]))


def wider_ap(truth: WiderTruth, detections: Detections, setting: int) -> float:
    """wider_eval.m retold with its loops: picture by picture, threshold by threshold."""
    scores = (detections.scores - detections.scores.min()) / np.ptp(detections.scores)
    proposals, recalled = np.zeros(1000), np.zeros(1000)
    for picture in range(len(truth)):
        rows = slice(truth.starts[picture], truth.starts[picture + 1])
        faces, asked = truth.boxes[rows], truth.counted[setting, rows]
        mine = np.flatnonzero(detections.images == picture)
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        if not len(faces) or not len(mine):
            continue
        state, good, recall_at = np.zeros(len(faces)), np.ones(len(mine)), []
        for rank, k in enumerate(mine):
            overlaps = [iou(detections.boxes[k], face, 1.0) for face in faces]
            best = int(np.argmax(overlaps))
            if overlaps[best] >= 0.5:
                if not asked[best]:
                    state[best], good[rank] = -1, -1
                elif state[best] == 0:
                    state[best] = 1
            recall_at.append((state == 1).sum())
        for t in range(1000):
            left = np.flatnonzero(scores[mine] >= 1 - (t + 1) / 1000)
            if len(left):
                proposals[t] += (good[: left[-1] + 1] == 1).sum()
                recalled[t] += recall_at[left[-1]]
    precision = np.divide(recalled, proposals, out=np.zeros(1000), where=proposals > 0)
    recall = recalled / max(truth.counted[setting].sum(), 1)
    hull = np.concatenate(([0.0], precision, [0.0]))
    ends = np.concatenate(([0.0], recall, [1.0]))
    for i in range(len(hull) - 2, -1, -1):
        hull[i] = max(hull[i], hull[i + 1])
    return float(np.sum(np.diff(ends) * hull[1:]))
