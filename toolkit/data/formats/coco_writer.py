"""COCO JSON, written as a stream: what the canonical form on disk is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.common import filled_sizes
from toolkit.data.formats.json_stream import counted
from toolkit.data.splitting import split_order
from toolkit.runtime import InputError


def write_coco(dataset: Dataset, path: Path, scores: NDArray[np.floating] | None = None) -> None:
    """All pictures of `dataset`, whatever their split, as one COCO JSON file, written as a stream.

    Boxes are decimals that give the same float32 corners when they are read; `scores` (m,) adds `score`.
    """
    if not np.isfinite(dataset.boxes).all():
        raise InputError(f"{dataset.root}: a box is not made of finite numbers and cannot be written")
    encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one for each record
    keypoints = dataset.keypoints
    extra = (
        {}
        if keypoints is None
        else {"keypoints": [str(k + 1) for k in range(keypoints.shape[1])], "skeleton": []}
    )
    # Halves of characters, as names of files may have them, become JSON's own escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:

        def write_list(name: str, records: Iterable[dict[str, Any]], last: bool = False) -> None:
            file.write(f'"{name}": [')
            title = f"writing {path.name}, thousands of {name}"
            for i, record in enumerate(counted(iter(records), title)):
                file.write("\n" if i == 0 else ",\n")
                file.write(encode(record))
            file.write("]\n}\n" if last else "],\n")

        file.write("{\n")
        write_list(
            "categories",
            (
                {"id": i + 1, "name": name, "supercategory": "", **extra}
                for i, name in enumerate(dataset.classes)
            ),
        )
        write_list("images", _coco_images(dataset))
        write_list("annotations", _coco_annotations(dataset, scores), last=True)


def _coco_images(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for i, name in enumerate(dataset.files):
        width, height = dataset.sizes[i].tolist()
        record = {"id": int(dataset.image_ids[i]), "file_name": name, "width": width, "height": height}
        if dataset.original_sizes is not None:
            record["original_width"], record["original_height"] = dataset.original_sizes[i].tolist()
        yield record


def _coco_annotations(dataset: Dataset, scores: NDArray[np.floating] | None) -> Iterator[dict[str, Any]]:
    picture_ids = np.repeat(dataset.image_ids, np.diff(dataset.starts))
    for start in range(0, len(dataset.labels), 1 << 16):
        rows = slice(start, start + (1 << 16))
        bbox = _short(dataset.boxes[rows])
        areas = box_formats.area(dataset.boxes[rows]) if dataset.areas is None else dataset.areas[rows]
        columns = zip(
            dataset.box_ids[rows].tolist(),
            picture_ids[rows].tolist(),
            dataset.labels[rows].tolist(),
            bbox.tolist(),
            _decimals(areas),
            dataset.crowd[rows].tolist(),
            dataset.ignore[rows].tolist(),
            strict=True,
        )
        for i, (box_id, picture, label, box, area, crowd, ignore) in enumerate(columns, start):
            record = {
                "id": box_id,
                "image_id": picture,
                "category_id": label + 1,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
                "ignore": int(ignore),
                "segmentation": [],
            }
            if dataset.keypoints is not None:
                record["keypoints"] = _decimals(dataset.keypoints[i].reshape(-1))
                record["num_keypoints"] = int((dataset.keypoints[i, :, 2] > 0).sum())
            if scores is not None:
                record["score"] = round(float(scores[i]), 6)
            yield record


def _decimals(values: NDArray[np.float32]) -> list[float]:
    """Python floats with the fewest digits that give the same float32 again (0.1, not 0.10000000149)."""
    return [float(text) for text in np.asarray(values, np.float32).astype(np.str_)]


def _short(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """xyxy float32 -> xywh float64 with few digits that give the same corners, where four decimals do."""
    exact = boxes.astype(np.float64)
    exact[:, 2:] -= exact[:, :2]
    short = np.round(exact, 4)
    same = (box_formats.xywh_to_xyxy(short).astype(np.float32) == boxes).all(axis=1)
    return np.where(same[:, None], short, exact)


def write_coco_folder(
    dataset: Dataset, folder: Path, link: bool, scores: NDArray[np.floating] | None = None
) -> None:
    """`annotations/instances_<split>.json` (default: no split) and `images/`, as CVAT has them."""
    names = unique_names(dataset.files)
    place_pictures(dataset, folder / "images", names, link)
    (folder / "annotations").mkdir()
    dataset = replace(filled_sizes(dataset), files=names)
    for split in split_order(dataset.splits.tolist()):
        chosen = np.flatnonzero(dataset.splits == split)
        rows = np.isin(dataset.owners(), chosen)
        target = folder / "annotations" / f"instances_{split or 'default'}.json"
        write_coco(dataset.subset(chosen), target, None if scores is None else scores[rows])
