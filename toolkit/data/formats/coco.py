"""COCO JSON, read as a stream: what the canonical form on disk is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.builder import Columns
from toolkit.data.class_names import shown
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.folders import COCO_WORDS, is_canonical
from toolkit.data.formats.adding import LIMIT, in_order, numbers
from toolkit.data.formats.coco_annotation import (
    CATEGORY_LIMIT,
    OTHER_TASKS,
    PICTURE_LIMIT,
    Identifiers,
    box_of_mask,
)
from toolkit.data.formats.common import (
    PictureFolder,
    fault_of,
    list_files,
    path_parts,
    picture_size,
)
from toolkit.data.formats.json_stream import counted, stream_json
from toolkit.data.formats.shapes import Box
from toolkit.data.intake import Faults
from toolkit.data.splitting import SPLIT_WORDS, SPLITS, split_of, split_order
from toolkit.pictures import Unreadable
from toolkit.runtime import InputError

_FALSE = (0, None, "0")  # as tools write that a flag is not set


def _coco_files(path: Path, columns: Columns) -> list[tuple[str, Path]]:
    """The annotation files of a COCO folder with their splits: `annotations/*.json`, else `*.json`, else
    those of folders called train, valid, test, ..., else any below; in the order of `split_order`."""
    if path.is_file():
        files = [path]
    else:
        files = _json_in(path / "annotations") or _coco_like(_json_in(path), columns)
        if not files:
            names = list_files(path, lambda name: name.lower().endswith(".json"))
            deeper = _coco_like([path / name for name in names if "/" in name], columns)
            files = [file for file in deeper if file.parent.name.lower() in SPLIT_WORDS] or deeper
        with_boxes = [file for file in files if not file.name.startswith(OTHER_TASKS)]
        for prefix in COCO_WORDS:
            with_boxes = [file for file in with_boxes if file.name.startswith(prefix)] or with_boxes
        if len(with_boxes) < len(files):
            others = sorted({file.name for file in files} - {file.name for file in with_boxes})
            columns.note(f"files of COCO's other tasks stay outside: {shown(others)}")
        files = with_boxes
    if not files:
        raise InputError(f"{path} has no COCO annotations: expected annotations/*.json or *.json")
    named = []
    for file in files:
        split = split_of(file.stem)
        if split not in SPLITS and file.parent.name.lower() in SPLIT_WORDS:
            split = SPLIT_WORDS[file.parent.name.lower()]
        if len(files) == 1 and split not in SPLITS and file.parent.name != "annotations":
            split = ""  # a lone file is named after anything
        named.append((split, file))
    order = split_order(split for split, _ in named)
    return sorted(named, key=lambda pair: (order.index(pair[0]), pair[1]))


def _json_in(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.glob("*")) if file.suffix.lower() == ".json"]
    return [file for file in files if file.is_file() and not file.name.startswith(".")]


def _coco_like(files: Sequence[Path], columns: Columns) -> list[Path]:
    """The files that begin as COCO's do; a lone one is believed, and those that are no JSON are left out."""
    return list(files) if len(files) == 1 else [file for file in files if _begins_as_coco(file, columns)]


def _begins_as_coco(file: Path, columns: Columns) -> bool:
    keys = ("images", "annotations", "categories")
    try:
        return any(key in keys for key, _ in islice(stream_json(file), 100))
    except InputError as error:
        columns.leave_out("label files that cannot be read", str(error))
        return False


@dataclass
class _Reading:
    """What is gathered over the files of a data set."""

    columns: Columns
    classes: dict[str, int] = field(default_factory=dict)  # names and their numbers
    parents: set[str] = field(default_factory=set)  # names that other categories have as supercategory
    skipped: list[int] = field(default_factory=list)  # pictures that do not come in


def read_coco(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """COCO JSON: one file, or a folder (canonical, COCO's own, CVAT's "COCO 1.0", Label Studio's, Roboflow's,
    FiftyOne's). Identifiers, crowd, ignore, areas and keypoints are kept; masks and the names of keypoints
    are not: an annotation that has a mask and no box gets the box around it. A category that owns no box and
    is the parent of others is no class; two of one name are one class.
    Streamed: 100,000 pictures with a million boxes stay under 1 GB.

    Args:
        path: the file or folder.
        images: the folder of the pictures, where it is not one of the usual places beside the annotations;
            names that lead elsewhere are searched in it by their last parts.
        faults: "keep" keeps annotations of an unknown category (label -1) and pictures that are missing.
    """
    path = Path(path)
    reading = _Reading(Columns(faults))
    columns = reading.columns
    own = is_canonical(path)  # whose boxes come back as they were
    folders: list[tuple[Path, int]] = []
    for split, file in _coco_files(path, columns):
        first = len(columns)
        _read_coco_file(file, split, reading, own)
        folder = _picture_folder(file, path, split, columns.files[first:], images)
        _place_pictures(folder, first, file, reading)
        folders.append((folder, first))
    root = Path(os.path.commonpath([folder for folder, _ in folders]))
    ends = [first for _, first in folders[1:]] + [len(columns)]
    for (folder, first), end in zip(folders, ends, strict=True):
        if folder != root:
            prefix = folder.relative_to(root).as_posix()
            columns.files[first:end] = [f"{prefix}/{name}" for name in columns.files[first:end]]
    dataset = columns.dataset(root, tuple(reading.classes), path, skipped=reading.skipped)
    if not own and faults != "keep":
        dataset = _without_repeats(dataset)
    return _without_parents(dataset, reading.parents)


def _without_repeats(dataset: Dataset) -> Dataset:
    """The boxes of one file that several records name, as one picture."""
    keys = list(zip(dataset.files, dataset.splits.tolist(), strict=True))
    if len(set(keys)) == len(keys):
        return dataset
    first: dict[tuple[str, str], int] = {}
    targets = np.array([first.setdefault(key, i) for i, key in enumerate(keys)])
    repeated = dataset.files[int(np.flatnonzero(targets != np.arange(len(keys)))[0])]
    count = len(keys) - len(first)
    note = f"{count} records of a picture that another one names were joined with it (the first: {repeated})"
    intake = replace(dataset.intake, notes=(*dataset.intake.notes, note))
    return replace(dataset.merged(targets), intake=intake)


def _without_parents(dataset: Dataset, parents: set[str]) -> Dataset:
    """Without the classes that own no box and are only the parents of others."""
    used = set(np.unique(dataset.labels).tolist())
    dropped = [name for i, name in enumerate(dataset.classes) if name in parents and i not in used]
    if not dropped or len(dropped) == len(dataset.classes):
        return dataset
    note = f"categories that own no box and are the parents of others are no classes: {', '.join(dropped)}"
    intake = replace(dataset.intake, notes=(*dataset.intake.notes, note))
    classes = [name for name in dataset.classes if name not in dropped]
    return match_classes(replace(dataset, intake=intake), classes, "keep")


def _place_pictures(folder: Path, first: int, file: Path, reading: _Reading) -> None:
    """Find the pictures from `first` on in their folder, under the names that they have there; note those
    that do not come in, and record the sizes that the file lacks."""
    columns = reading.columns
    if columns.faults == "keep":
        return
    pictures = PictureFolder(folder)
    for i in range(first, len(columns)):
        name = columns.files[i]
        reason = fault_of(os.path.join(folder, name))
        if reason == "is missing" and (other := pictures.find(name)) is not None:
            name = columns.files[i] = other
            reason = fault_of(os.path.join(folder, name))
        if reason == "is missing":
            columns.skip(name, f"the picture {name!r} that {file} names {pictures.why_not(name)}")
        elif reason:
            columns.skip(name, reason)
        elif columns.size_of(i) == (0, 0):
            try:
                columns.record_size(i, picture_size(folder / name))
                continue
            except Unreadable as error:
                columns.skip(name, error.reason)
        else:
            continue
        reading.skipped.append(i)


def _picture_folder(
    file: Path, path: Path, split: str, names: Sequence[str], images: str | Path | None
) -> Path:
    """The folder that `names` are relative to: the first likely one that holds one of the first pictures."""
    base = path if path.is_dir() else file.parent
    if base.name == "annotations" and path.is_file():
        base = base.parent
    words = [split or "default", re.sub(r"^(instances|person_keypoints)_", "", file.stem), file.parent.name]
    tops = (
        [Path(images)]
        if images is not None
        else [base / "images", base, base / "data", file.parent, file.parent / "images", file.parent / "data"]
    )
    likely = [folder for top in tops for folder in (top, *(top / word for word in words)) if folder.is_dir()]
    for name in names[:100]:
        for folder in likely:
            if os.path.isfile(folder / name):
                return folder
    if images is None and file.parent.name.lower() in SPLIT_WORDS:
        return file.parent
    return tops[0] if tops[0].is_dir() else base


def _read_coco_file(file: Path, split: str, reading: _Reading, own: bool) -> None:
    columns, classes = reading.columns, reading.classes
    categories: dict[int, str] = {}
    picture_ids, category_ids = Identifiers(PICTURE_LIMIT), Identifiers(CATEGORY_LIMIT)
    first, first_box, key = len(columns), columns.boxes_so_far, None
    for key, element in counted(stream_json(file), f"reading {file.name}, thousands"):
        fault, kind = "", f"{key} that are not as COCO has them"
        try:
            if key == "annotations":
                fault = kind = _add_annotation(element, columns, picture_ids, category_ids, own)
            elif key == "images":
                _add_picture(element, split, columns, picture_ids)
            elif key == "categories":
                name = str(element.get("name", element["id"])).strip()
                categories[category_ids.number(element["id"])] = name
                reading.parents |= {str(element.get("supercategory") or "")} - {"", name}
            elif key == "":
                break
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            fault = str(error) if isinstance(error, InputError) else repr(error)
        if fault:
            sentence = f"{file}: an entry of {key!r} is not as COCO has it ({fault}): {str(element)[:120]}"
            columns.leave_out(kind, sentence)
    if key == "":
        raise InputError(f"{file} is not COCO JSON: expected an object with images, found a list")
    if first == len(columns):
        raise InputError(f"{file} has no pictures: expected COCO JSON with a list of images")
    if len(set(categories.values())) != len(categories):
        sentence = f"{file} gives two categories the same name"
        if columns.faults == "refuse":
            raise InputError(sentence)
        columns.note("two categories of one name are one class", str(file))
    if not categories and columns.faults != "refuse":
        columns.note("no categories are named: classes are called by their identifiers", str(file))
        texts = {number: text for text, number in category_ids.others.items()}
        categories = {i: texts.get(i, str(i)) for i in columns.labels_from(first_box)}
    numbers = {i: classes.setdefault(name, len(classes)) for i, name in categories.items()}
    columns.resolve(first, first_box, numbers, file, _aliases(columns, first, picture_ids))


def _aliases(columns: Columns, first: int, identifiers: Identifiers) -> dict[int, int]:
    """Numbers of texts that stand for a picture's name in place of its identifier."""
    if not identifiers.others:
        return {}
    own = {number: name for name, number in zip(columns.files[first:], columns.ids_from(first), strict=True)}
    by_name = {name: number for number, name in own.items()}
    return {
        number: by_name[text]
        for text, number in identifiers.others.items()
        if number not in own and text in by_name
    }


def _add_picture(element: dict[str, Any], split: str, columns: Columns, identifiers: Identifiers) -> None:
    name = element.get("file_name") or element.get("path") or element.get("coco_url")
    if not isinstance(name, str):
        raise ValueError("a file name that is no text")
    if name[:1] in "/." or "\\" in name or ":" in name or ".." in name:
        name = "/".join(path_parts(name))
    original = None
    if "original_width" in element:
        original = (element["original_width"], element["original_height"])
    size = (int(float(element.get("width") or 0)), int(float(element.get("height") or 0)))
    columns.add_picture(name, size, split, identifiers.number(element["id"]), original)


def _corners(box: Any) -> Box | None:
    """xyxy of COCO's x, y, w, h; None where they are no such numbers."""
    if isinstance(box, str):
        box = re.findall(r"[-+.\deE]+", box)
    try:
        x, y, w, h = map(float, box)
    except (TypeError, ValueError, OverflowError):
        return None
    return (x, y, x + w, y + h) if abs(x) + abs(y) + abs(w) + abs(h) < LIMIT else None


def _without_area(corners: Box | None, element: dict[str, Any], columns: Columns, own: bool) -> Box | str:
    """The box of an annotation whose own has no area, or is none: that around its mask, or with its corners
    exchanged; the kind of fault where there is neither. What is kept stays as it is."""
    keep = own or columns.faults == "keep"
    if corners is None or not (keep and any(corners)):
        around = box_of_mask(element.get("segmentation"))
        if around is not None:
            columns.note("masks without a box became the boxes around them")
        corners = around or corners
    if corners is None:
        return "annotations without a box or mask"
    x1, y1, x2, y2 = corners
    if keep or (x1 < x2 and y1 < y2):
        return corners
    if x1 == x2 or y1 == y2:
        return "boxes without an area"
    return in_order(columns, corners, str(element)[:120])


def _add_annotation(
    element: dict[str, Any],
    columns: Columns,
    picture_ids: Identifiers,
    category_ids: Identifiers,
    own: bool,
) -> str:
    """Add one annotation; returns the kind of fault where it cannot come in, "" otherwise."""
    picture, category, box = element["image_id"], element["category_id"], element.get("bbox")
    if type(picture) is not int or not -PICTURE_LIMIT < picture < PICTURE_LIMIT:
        picture = picture_ids.number(picture)
    if type(category) is not int or not -CATEGORY_LIMIT < category < CATEGORY_LIMIT:
        category = category_ids.number(category)
    corners = _corners(box)
    if corners is None or corners[0] >= corners[2] or corners[1] >= corners[3]:
        other = _without_area(corners, element, columns, own)
        if isinstance(other, str):
            return other
        corners = other
    points: list[float] = []
    if element.get("keypoints"):
        points = numbers(element["keypoints"])
        if not columns.takes_points(len(points)):
            columns.leave_out("key points of another number than those before", str(element)[:160])
            points = []
    identifier, area = element.get("id"), element.get("area")
    columns.add_box(
        picture,
        corners,
        category,
        element.get("iscrowd", 0) not in _FALSE,
        element.get("ignore", 0) not in _FALSE,
        identifier if type(identifier) is int and -PICTURE_LIMIT < identifier < PICTURE_LIMIT else None,
        points,
        area if isinstance(area, (int, float)) and area > 0 else None,
    )
    return ""
