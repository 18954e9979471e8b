"""A mended copy of a dataset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.data.doctor.findings import Report
from toolkit.data.doctor.pictures import EXIF_ORIENTATION
from toolkit.data.folders import fresh_folder
from toolkit.data.formats.canonical import save
from toolkit.runtime import InputError


def fix(dataset: Dataset, report: Report, output: str | Path) -> list[dict[str, Any]]:
    """Writes a mended copy of a data set; the data set itself is not touched.

    Only what needs no guess is mended: boxes cut at the border, corners put in order, units converted,
    repeated and empty boxes and those of classes without a name dropped, certain swaps undone, wrong sizes
    recorded anew, pictures that do not decode left out, EXIF rotation that the labels ignore taken out of
    the copy.

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
    upright: list[int] = []
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
            case "upright":
                upright.append(finding.picture)
            case "record size":
                sizes[finding.picture] = _stored_size(dataset.path(finding.picture))
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
    mended = replace(dataset, boxes=boxes, sizes=sizes, keypoints=keypoints)
    mended = mended.keep_boxes(keep_box).subset(kept)
    with fresh_folder(output) as temporary:
        placed = save(mended, temporary, link=False, overwrite=True)
        for i in upright:
            if keep_picture[i]:
                _clear_orientation(placed.path(int(np.searchsorted(kept, i))))
        (temporary / "fixes.json").write_text(json.dumps(changes, indent=1), encoding="utf-8")
    return changes


def _stored_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as header:
        return header.size


def _clear_orientation(path: Path) -> None:
    """Set EXIF orientation to 1 in a JPEG file's bytes: the pixels are not encoded anew."""
    data = bytearray(path.read_bytes())
    start = data.index(b"Exif\0\0") + 6
    order: Any = "little" if data[start : start + 2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[start + at : start + at + size], order)

    table = number(4, 4)
    for entry in range(table + 2, table + 2 + 12 * number(table, 2), 12):
        if number(entry, 2) == EXIF_ORIENTATION:
            data[start + entry + 8 : start + entry + 10] = (1).to_bytes(2, order)
    path.write_bytes(data)
