"""The examination: every check in turn, and the reports that are not faults."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.anchors import input_scale
from toolkit.data.dataset import Dataset
from toolkit.data.doctor.boxes import box_findings, duplicate_boxes
from toolkit.data.doctor.findings import FAULTS, Report
from toolkit.data.doctor.labels import class_findings, unlabelled, without_objects
from toolkit.data.doctor.pictures import duplicate_pictures, look_at, repeated, undecodable
from toolkit.data.doctor.sizes import size_findings

MISFIT_IOU = 0.25  # an object overlapping its best anchor by less (width and height only) fits none


def examine(dataset: Dataset, model_io: Any = None, pictures: bool = True) -> Report:
    """Looks for the faults that ruin a training, and measures balance, object sizes and anchors.

    Args:
        dataset: read with `faults="keep"`, so that it may hold bad values.
        model_io: of a detector (input size, heads with strides and anchors), for object sizes and anchors.
        pictures: False does not decode the pictures; five faults are then not looked for
            (`findings.NEED_PICTURES`).

    Returns:
        Findings, counts by fault, and notes.
    """
    seen = look_at(dataset) if pictures else None
    frames, findings, stored, undecided = size_findings(dataset, seen)
    turned = {finding.picture for finding in findings if finding.fault == "exif-rotation"}
    for finding in box_findings(dataset, frames, turned):
        guess = finding.picture in undecided and finding.mend in ("move box", "swap picture")
        findings.append(replace(finding, mend="", box=None) if guess else finding)
    findings += duplicate_boxes(dataset, frames)
    findings += class_findings(dataset)
    findings += unlabelled(dataset)
    findings += without_objects(dataset)
    summary: dict[str, Any] = {"balance": _balance(dataset)}
    if seen is not None:
        findings += undecodable(dataset, seen)
        findings += duplicate_pictures(dataset, seen)
        summary["repeated_within_split"] = repeated(dataset, seen)
    if model_io is not None:
        summary |= _fit_to_network(dataset, frames, model_io)
    order = {fault: number for number, fault in enumerate(FAULTS)}
    findings.sort(key=lambda finding: (order[finding.fault], finding.picture, finding.row or 0))
    return Report(
        str(dataset.root),
        len(dataset),
        len(dataset.boxes),
        pictures,
        findings,
        summary,
        dataset.intake,
        stored,
    )


def _balance(dataset: Dataset) -> dict[str, Any]:
    """Boxes and pictures per class; `ratio` is the most frequent class over the rarest that occurs."""
    names, count = dataset.classes, len(dataset.classes)
    use = (dataset.labels >= 0) & (dataset.labels < count) & ~dataset.ignore
    labels, owners = dataset.labels[use], dataset.owners()[use]
    boxes = np.bincount(labels, minlength=count)
    pictures = np.bincount(np.unique(owners * max(1, count) + labels) % max(1, count), minlength=count)
    present = boxes[boxes > 0]
    ratio = float(present.max() / present.min()) if present.size else 1.0
    sentences = []
    if ratio >= 10:
        high, low = int(boxes.argmax()), int(np.where(boxes > 0, boxes, boxes.max() + 1).argmin())
        sentences.append(
            f"class {names[high]!r} has {ratio:.0f} times as many boxes as {names[low]!r} "
            f"({boxes[high]} and {boxes[low]})"
        )
    if missing := [name for name, number in zip(names, boxes, strict=True) if number == 0]:
        sentences.append(f"no box of {', '.join(missing)}")
    return {
        "classes": [
            {"name": name, "boxes": int(b), "pictures": int(p)}
            for name, b, p in zip(names, boxes, pictures, strict=True)
        ],
        "ratio": round(ratio, 2),
        "sentences": sentences,
    }


def _fit_to_network(dataset: Dataset, frames: NDArray[np.int32], io: Any) -> dict[str, Any]:
    """Object sizes against the network's cells and anchors, with pictures at its input.

    Too small: the square of the object's area has a side below one cell of the finest head.
    """
    owners = dataset.owners()
    sizes = frames[owners]
    wh = (dataset.boxes[:, 2:] - dataset.boxes[:, :2]).astype(np.float64)
    use = (sizes > 0).all(axis=1) & np.isfinite(wh).all(axis=1) & (wh > 0).all(axis=1)
    use &= ~dataset.crowd & ~dataset.ignore
    width, height = io.input_size
    wh = (wh * input_scale(frames, (width, height), io.fit)[owners])[use]
    if not len(wh):
        return {}
    cell = min(head.stride for head in io.heads)
    side = np.sqrt(wh.prod(axis=1))
    small = side < cell
    anchors = np.concatenate([np.asarray(head.anchors, np.float64).reshape(-1, 2) for head in io.heads])
    best, nearest = np.zeros(len(wh)), np.zeros(len(wh), np.intp)
    for number, anchor in enumerate(anchors):
        both = np.minimum(wh, anchor).prod(axis=1)
        overlap = both / (wh.prod(axis=1) + anchor.prod() - both)
        nearest[overlap > best] = number
        best = np.maximum(best, overlap)
    misfit = best < MISFIT_IOU
    unused = sorted(set(range(len(anchors))) - set(np.unique(nearest).tolist()))
    sentences = []
    if small.mean() > 0.01:
        need = cell / max(float(np.quantile(side, 0.01)), 1e-6)
        larger = [math.ceil(length * need / 32) * 32 for length in (width, height)]
        sentences.append(
            f"{small.mean():.0%} of the objects are smaller than one cell ({cell} px) at {width} x {height}; "
            f"99 % would be larger at {larger[0]} x {larger[1]}"
        )
    if misfit.mean() > 0.01:
        sentences.append(
            f"{misfit.mean():.0%} of the objects fit no anchor (best overlap below {MISFIT_IOU}): compute "
            "anchors for this set"
        )
    if unused:
        shown = ", ".join(f"{anchors[a][0]:g} x {anchors[a][1]:g}" for a in unused)
        sentences.append(f"no object is nearest to the anchors {shown}")
    quantiles = ("0.05", "0.25", "0.5", "0.75", "0.95")
    return {
        "network": {
            "input_size": [int(width), int(height)],
            "cell_px": int(cell),
            "too_small": int(small.sum()),
            "too_small_share": round(float(small.mean()), 5),
            "side_px_quantiles": {q: round(float(np.quantile(side, float(q))), 2) for q in quantiles},
            "anchor_overlap_mean": round(float(best.mean()), 4),
            "anchor_misfits": int(misfit.sum()),
            "anchors_unused": [anchors[a].tolist() for a in unused],
            "sentences": sentences,
        }
    }
