"""A mended copy of a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.data.doctor.findings import Report
from toolkit.data.doctor.orientation import as_shown, corners
from toolkit.data.doctor.pictures import header, pixels_as_stored
from toolkit.data.doctor.sizes import MENDS
from toolkit.data.folders import fresh_folder
from toolkit.data.formats.canonical import save
from toolkit.files import write_json
from toolkit.pictures import image_bytes, picture_size
from toolkit.runtime import InputError


def fix(dataset: Dataset, report: Report, output: str | Path) -> list[dict[str, Any]]:
    """Writes a mended copy of a data set; the data set itself is not touched.

    Only what needs no guess is mended: boxes cut at the border, corners put in order, units converted,
    repeated and empty boxes and those of classes without a name dropped, certain swaps undone, wrong sizes
    recorded anew, pictures that do not decode left out, labels that ignore EXIF's rotation turned with their
    picture. Pictures are copied as they are.

    Args:
        dataset: as given to `examine`.
        report: what `examine` found in it.
        output: the new canonical folder.

    Returns:
        One entry for each change; `output`/fixes.json holds them too.

    Raises:
        InputError: `output` holds something already, or no picture decodes.
    """
    boxes, sizes = dataset.boxes.copy(), dataset.sizes.copy()
    keypoints = None if dataset.keypoints is None else dataset.keypoints.copy()
    keep_box, keep_picture = np.ones(len(boxes), bool), np.ones(len(dataset), bool)
    changes = []
    for finding in report.findings:
        rows = dataset.rows(finding.picture)
        match finding.mend:
            case "move box":
                boxes[finding.row] = finding.box
            case "drop box":
                keep_box[finding.row] = False
            case "swap picture":
                boxes[rows] = boxes[rows][:, [1, 0, 3, 2]]
                if keypoints is not None:
                    keypoints[rows] = keypoints[rows][:, :, [1, 0, 2]]
            case "drop picture":
                keep_picture[finding.picture] = False
            case "turn labels" | "turn fractions" | "scale labels":
                own = None if keypoints is None else keypoints[rows]
                path = dataset.path(finding.picture)
                boxes[rows], own = _turn_labels(boxes[rows], own, path, MENDS[finding.mend])
                if keypoints is not None:
                    keypoints[rows] = own
                sizes[finding.picture] = picture_size(path)
            case "record size":
                sizes[finding.picture] = picture_size(dataset.path(finding.picture))
            case _:
                continue
        changes.append(
            {
                "fault": finding.fault,
                "done": finding.mend,
                "file": finding.file,
                "box_id": finding.box_id,
                "box": finding.box,
                "sentence": finding.sentence,
            }
        )
    kept = np.flatnonzero(keep_picture)
    if not len(kept):
        raise InputError(f"no picture of {dataset.root} decodes: there is nothing to copy")
    originals = dataset.original_sizes
    if originals is not None:
        exchanged = (sizes == dataset.sizes[:, ::-1]).all(axis=1) & (sizes != dataset.sizes).any(axis=1)
        originals = np.where(exchanged[:, None], originals[:, ::-1], originals)
    mended = replace(dataset, boxes=boxes, sizes=sizes, keypoints=keypoints, original_sizes=originals)
    mended = mended.keep_boxes(keep_box).subset(kept)
    with fresh_folder(output) as temporary:
        save(mended, temporary, link=False, overwrite=True)
        write_json(temporary / "fixes.json", changes)
    return changes


def _turn_labels(
    boxes: NDArray[np.float32], points: NDArray[np.float32] | None, path: Path, reading: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Boxes (k, 4) and keypoints (k, p, 3) of a picture, by `reading` -> for it as shown."""
    size, turn = _stored(path)
    boxes = corners(as_shown, boxes, reading, turn, size).astype(np.float32)
    if points is not None:
        places = as_shown(points[..., :2].reshape(-1, 2), reading, turn, size).reshape(*points.shape[:2], 2)
        unlabelled = (points == 0).all(axis=2, keepdims=True)  # COCO's 0, 0, 0
        points = np.where(unlabelled, 0, np.concatenate((places, points[..., 2:]), axis=2)).astype(np.float32)
    return boxes, points


def _stored(path: Path) -> tuple[tuple[int, int], int]:
    """(w, h) of a picture as stored, and its EXIF orientation."""
    data = image_bytes(path).tobytes()
    turn = header(data)[1]
    height, width = pixels_as_stored(data, str(path), turn).shape[:2]
    return (width, height), turn
