"""Label Studio's own JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from math import cos, radians, sin
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import quoteattr

import numpy as np
from defusedxml import DefusedXmlException, ElementTree
from numpy.typing import NDArray

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.coco import stream_json
from toolkit.data.formats.common import (
    common_root,
    filled_sizes,
    find_file,
    is_picture,
    picture_size,
)
from toolkit.runtime import InputError, progress


def read_label_studio(path: str | Path, images: str | Path | None = None, strict: bool = True) -> Dataset:
    """Label Studio's own JSON (a list of tasks) or JSON-MIN; `path` is the file or the folder that has it.

    Of a task the newest annotation that was not cancelled counts; tasks whose annotations were all cancelled
    are left out. Predictions count only in a file in which nothing is annotated yet. A rotated box becomes
    the upright one around it. Pictures are searched by the end of their address in `images` or beside the
    file. Classes are those of `label_config.xml` beside the file, otherwise all that occur, sorted. What
    `write` puts into a task (split, identifiers, ignore, crowd) is read back, also after it was corrected.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        files = [path / "tasks.json"] if (path / "tasks.json").is_file() else sorted(path.glob("*.json"))
        if len(files) != 1:
            raise InputError(f"{path} has {len(files)} JSON files: expected one export of Label Studio")
        file = files[0]
    reviewed = any(_annotated(task) for _, task in stream_json(file) if isinstance(task, dict))
    bases = [Path(images)] if images else [file.parent / "images", file.parent]
    columns = Columns()
    labels: dict[str, int] = {}
    paths: list[str] = []
    for key, task in progress(stream_json(file), f"reading {file.name}"):
        if key or not isinstance(task, dict):
            raise InputError(f"{file} is not an export of Label Studio: expected a list of tasks")
        place = f"{file}, task {task.get('id', len(columns) + 1)}"
        try:
            data = task.get("data", task)
            regions = _regions(task, reviewed)
            if regions is None:
                continue
            address = data.get("image") or next(v for v in data.values() if is_picture(str(v)))
            picture = _task_picture(str(address), bases)
            if picture is None:
                raise InputError(f"{place}: the picture {address!r} is missing in {bases[0]}")
            paths.append(picture)
            size = picture_size(picture)
            if regions:
                size = regions[0]["original_width"], regions[0]["original_height"]
            identifier = data.get("image_id")
            columns.add_picture(
                str(len(paths)),  # named below, when all are known
                size,
                str(data.get("split", "")),
                identifier if isinstance(identifier, int) else None,
            )
            for region in regions:
                _add_region(columns, region, labels)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, StopIteration) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{place} is not as Label Studio has it ({error!r})") from None
    if not paths:
        raise InputError(f"{file} has no pictures: expected at least one task")
    root = common_root(paths, Path(images) if images else file.parent)
    columns.files[:] = [os.path.relpath(picture, root).replace(os.sep, "/") for picture in paths]
    dataset = columns.dataset(root, tuple(labels), file)
    classes = _label_config(file.parent / "label_config.xml")
    return match_classes(dataset, classes + sorted(set(labels) - set(classes)))


def _annotated(task: dict[str, Any]) -> bool:
    return "data" not in task or bool(task.get("annotations") or task.get("completions"))


def _regions(task: dict[str, Any], reviewed: bool) -> list[dict[str, Any]] | None:
    """The regions of a task, None where it was cancelled."""
    if "data" not in task:  # JSON-MIN: the values are the regions
        lists = [value for value in task.values() if isinstance(value, list)]
        return [{**v, "value": v} for value in lists for v in value if isinstance(v, dict)]
    annotations = task.get("annotations") or task.get("completions") or []
    if not reviewed:
        annotations = task.get("predictions") or []
    if not annotations:
        return []
    kept = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
    if not kept:
        return None
    newest = max(kept, key=lambda a: str(a.get("updated_at") or a.get("created_at") or ""))
    return [r for r in newest.get("result") or [] if _region_label(r.get("value") or {})]


def _region_label(value: dict[str, Any]) -> str:
    """The class of a rectangle; "" for every other kind of region."""
    names = value.get("rectanglelabels") or value.get("labels") or []
    return str(names[0]) if names and "width" in value and "x" in value else ""


def _add_region(columns: Columns, region: dict[str, Any], labels: dict[str, int]) -> None:
    value = region["value"]
    label = _region_label(value)
    if not label:
        return
    width, height = region["original_width"], region["original_height"]
    x, y = value["x"] / 100 * width, value["y"] / 100 * height
    w, h = value["width"] / 100 * width, value["height"] / 100 * height
    box = (x, y, x + w, y + h)
    turn = radians(value.get("rotation") or 0)
    if turn:  # clockwise about the top left corner; the upright box around it
        xs = (0.0, w * cos(turn), w * cos(turn) - h * sin(turn), -h * sin(turn))
        ys = (0.0, w * sin(turn), w * sin(turn) + h * cos(turn), h * cos(turn))
        box = (x + min(xs), y + min(ys), x + max(xs), y + max(ys))
    notes = (region.get("meta") or {}).get("text") or []
    identifier = str(region.get("id", ""))
    columns.add_box(
        len(columns) - 1,
        box,
        labels.setdefault(label, len(labels)),
        "crowd" in notes,
        "ignore" in notes,
        int(identifier) if re.fullmatch(r"\d{1,18}", identifier) else None,
    )


def _task_picture(address: str, bases: Sequence[Path]) -> str | None:
    """The file behind a task's address: a path, a URL, `/data/local-files/?d=<path>` or
    `/data/upload/<project>/<eight hexadecimal digits>-<name>`."""
    parts = urlsplit(address)
    text = parse_qs(parts.query)["d"][0] if "d=" in parts.query else unquote(parts.path)
    return (
        find_file(text, bases)
        or find_file(address, bases)
        or find_file(re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(text).name), bases)
    )


def _label_config(file: Path) -> list[str]:
    if not file.is_file():
        return []
    try:
        return [item.get("value") for item in ElementTree.parse(file).getroot().iter("Label")]
    except (ParseError, DefusedXmlException) as error:
        raise InputError(f"{file} is not valid XML: {error}") from None


def write_label_studio(
    dataset: Dataset, folder: Path, link: bool, scores: NDArray[np.floating] | None = None
) -> None:
    """`tasks.json` (boxes as predictions, to be corrected by a person), `label_config.xml` (the labelling
    interface they belong to) and `images/`. Label Studio serves the pictures where
    LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED is true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT is here."""
    dataset = filled_sizes(dataset)
    names = unique_names(dataset.files)
    place_pictures(dataset, folder / "images", names, link)
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        for i, name in enumerate(progress(names, "writing tasks")):
            width, height = dataset.sizes[i].tolist()
            regions = []
            for row in range(dataset.starts[i], dataset.starts[i + 1]):
                x1, y1, x2, y2 = dataset.boxes[row].tolist()
                region: dict[str, Any] = {
                    "id": str(dataset.box_ids[row]),
                    "type": "rectanglelabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": {
                        "x": x1 / width * 100,
                        "y": y1 / height * 100,
                        "width": (x2 - x1) / width * 100,
                        "height": (y2 - y1) / height * 100,
                        "rotation": 0,
                        "rectanglelabels": [dataset.classes[dataset.labels[row]]],
                    },
                }
                flags = (("ignore", dataset.ignore[row]), ("crowd", dataset.crowd[row]))
                if any(value for _, value in flags):
                    region["meta"] = {"text": [word for word, value in flags if value]}
                if scores is not None:
                    region["score"] = round(float(scores[row]), 6)
                regions.append(region)
            data = {
                "image": f"/data/local-files/?d=images/{quote(name)}",
                "image_id": int(dataset.image_ids[i]),
                "split": str(dataset.splits[i]),
            }
            predictions = [{"model_version": "toolkit", "result": regions}]
            file.write(("[\n" if i == 0 else ",\n") + json.dumps({"data": data, "predictions": predictions}))
        file.write("\n]\n")
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dataset.classes)
    (folder / "label_config.xml").write_text(
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n'
        f"{labels}  </RectangleLabels>\n</View>\n",
        encoding="utf-8",
    )
