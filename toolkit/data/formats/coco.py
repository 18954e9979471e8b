"""COCO JSON, read and written as a stream: what the canonical form on disk is made of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.common import filled_sizes
from toolkit.data.splitting import SPLIT_WORDS, SPLITS, split_of, split_order
from toolkit.runtime import InputError, progress

T = TypeVar("T")

_BLANK = re.compile(r"[ \t\r\n]*")


def stream_json(path: Path, chunk: int = 1 << 20) -> Iterator[tuple[str, Any]]:
    """The elements of the lists at the top of a JSON file, one by one, without holding the whole file.

    An object gives (key, element) for each list in it and (key, value) for anything else; a list at the top
    gives ("", element). Malformed text raises InputError with the line.
    """
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig") as file:
        buffer, at, lines = "", 0, 1

        def fail(what: str, place: int) -> NoReturn:
            raise InputError(
                f"{path} is not valid JSON: line {lines + buffer.count(chr(10), 0, place)}: {what}"
            )

        def more() -> bool:
            nonlocal buffer, at, lines
            try:
                piece = file.read(max(chunk, len(buffer) - at))
            except UnicodeDecodeError:
                fail("it is not UTF-8 text", len(buffer))
            if piece:
                lines += buffer.count("\n", 0, at)
                buffer, at = buffer[at:] + piece, 0
            return bool(piece)

        def peek() -> str:
            nonlocal at
            while True:
                at = _BLANK.match(buffer, at).end()  # type: ignore[union-attr]
                if at < len(buffer):
                    return buffer[at]
                if not more():
                    fail("it ends too early" if lines > 1 or buffer else "it is empty", at)

        def take(allowed: str) -> str:
            nonlocal at
            character = peek()
            if character not in allowed:
                fail(f"found {character!r} in place of {' or '.join(allowed)}", at)
            at += 1
            return character

        def value() -> Any:
            nonlocal at
            peek()
            while True:
                try:
                    result, end = decoder.raw_decode(buffer, at)
                except json.JSONDecodeError as error:
                    if not more():
                        fail(error.msg, error.pos)
                    continue
                except RecursionError:
                    fail("it is nested too deeply", at)
                if (end == len(buffer) or buffer[end] not in " \t\r\n:,]}") and more():
                    continue  # a number may go on in the next piece
                at = end
                return result

        def elements() -> Iterator[Any]:
            take("[")
            if peek() == "]":
                take("]")
                return
            while True:
                yield value()
                if take(",]") == "]":
                    return

        if peek() == "[":
            for element in elements():
                yield "", element
        else:
            take("{")
            while peek() != "}":
                key = value()
                take(":")
                if peek() == "[":
                    for element in elements():
                        yield key, element
                else:
                    yield key, value()
                if peek() == ",":
                    take(",")
                elif peek() != "}":
                    fail(f"found {peek()!r} in place of , or }}", at)
            take("}")
        try:
            trailing = peek()
        except InputError:
            return
        fail(f"found {trailing!r} after the end", at)


def coco_files(path: Path) -> list[tuple[str, Path]]:
    """The annotation files of a COCO folder with their splits: `annotations/*.json`, else `*.json`, else
    those of sub-folders called train, valid, test, ...; in the order of `split_order`."""
    if path.is_file():
        files = [path]
    else:
        files = sorted((path / "annotations").glob("*.json")) or sorted(path.glob("*.json"))
        if not files:
            files = [
                file for file in sorted(path.glob("*/*.json")) if file.parent.name.lower() in SPLIT_WORDS
            ]
        for prefix in ("instances_", "person_keypoints_"):
            files = [file for file in files if file.name.startswith(prefix)] or files
        files = [
            f for f in files if not f.name.startswith(("captions_", "image_info_", "stuff_", "panoptic_"))
        ]
    if not files:
        raise InputError(f"{path} has no COCO annotations: expected annotations/*.json or *.json")
    named = []
    for file in files:
        split = split_of(file.stem)
        if split == "" and file.parent.name.lower() in SPLIT_WORDS:
            split = SPLIT_WORDS[file.parent.name.lower()]
        if len(files) == 1 and split not in SPLITS and file.parent.name != "annotations":
            split = ""  # a lone file is named after anything
        named.append((split, file))
    order = split_order(split for split, _ in named)
    return sorted(named, key=lambda pair: (order.index(pair[0]), pair[1]))


def read_coco(path: str | Path, images: str | Path | None = None, strict: bool = True) -> Dataset:
    """COCO JSON: one file, or a folder as `coco_files` finds them (canonical, COCO's own, CVAT's "COCO 1.0",
    Label Studio's, Roboflow's, FiftyOne's). Identifiers, crowd, ignore, areas and keypoints are kept; masks
    and the names of keypoints are not. Streamed: 100,000 pictures with a million boxes stay under 1 GB.

    images: the folder of the pictures, where it is not one of the usual places beside the annotations.
    strict: False keeps annotations of an unknown category (label -1) and pictures that are missing.
    """
    path = Path(path)
    columns = Columns()
    classes: list[str] = []
    folders: list[tuple[Path, int]] = []
    for split, file in coco_files(path):
        first = len(columns)
        _read_coco_file(file, split, columns, classes, strict)
        names = columns.files[first:]
        folder = _picture_folder(file, path, split, names, images)
        for name in names if strict else ():
            if not os.path.isfile(folder / name):
                raise InputError(f"the picture {name!r} that {file} names is missing in {folder}")
        folders.append((folder, first))
    root = Path(os.path.commonpath([folder for folder, _ in folders]))
    ends = [first for _, first in folders[1:]] + [len(columns)]
    for (folder, first), end in zip(folders, ends, strict=True):
        if folder != root:
            prefix = folder.relative_to(root).as_posix()
            columns.files[first:end] = [f"{prefix}/{name}" for name in columns.files[first:end]]
    return columns.dataset(root, classes, path)


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
    return tops[0] if tops[0].is_dir() else base


def _counted(items: Iterator[T], title: str) -> Iterator[T]:
    """`items` with a progress bar that moves once in a thousand: a bar costs more than a record."""
    blocks = iter(lambda: list(islice(items, 1000)), [])
    return chain.from_iterable(progress(blocks, title))


def _read_coco_file(file: Path, split: str, columns: Columns, classes: list[str], strict: bool) -> None:
    categories: dict[int, str] = {}
    first, first_box, number = len(columns), columns.boxes_so_far, 0
    key = element = None
    try:
        for key, element in _counted(stream_json(file), f"reading {file.name}, thousands"):
            if key == "images":
                columns.add_picture(
                    element["file_name"].replace("\\", "/"),
                    (element.get("width") or 0, element.get("height") or 0),
                    split,
                    element["id"],
                    (element["original_width"], element["original_height"])
                    if "original_width" in element
                    else None,
                )
            elif key == "annotations":
                number += 1
                x, y, w, h = element["bbox"]
                columns.add_box(
                    element["image_id"],
                    (x, y, x + w, y + h),
                    element["category_id"],
                    element.get("iscrowd", 0),
                    element.get("ignore", 0),
                    element.get("id"),
                    element.get("keypoints") or (),
                    element.get("area"),
                )
            elif key == "categories":
                categories[element["id"]] = str(element["name"])
            elif key == "":
                raise InputError(f"{file} is not COCO JSON: expected an object with images, found a list")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file}: an entry of {key!r} is not as COCO has it ({error!r}): {str(element)[:120]}"
        ) from None
    if first == len(columns):
        raise InputError(f"{file} has no pictures: expected COCO JSON with a list of images")
    if len(set(categories.values())) != len(categories):
        raise InputError(f"{file} gives two categories the same name")
    classes.extend(name for name in categories.values() if name not in classes)
    columns.resolve(
        first, first_box, {i: classes.index(name) for i, name in categories.items()}, file, strict
    )


def write_coco(dataset: Dataset, path: Path, scores: NDArray[np.floating] | None = None) -> None:
    """All pictures of `dataset`, whatever their split, as one COCO JSON file, written as a stream.

    Boxes are decimals that give the same float32 corners when they are read; `scores` (m,) adds `score`.
    """
    if not np.isfinite(dataset.boxes).all():
        raise InputError(f"{dataset.root}: a box is not made of finite numbers and cannot be written")
    keypoints = dataset.keypoints
    extra = (
        {}
        if keypoints is None
        else {"keypoints": [str(k + 1) for k in range(keypoints.shape[1])], "skeleton": []}
    )
    with path.open("w", encoding="utf-8") as file:

        def write_list(name: str, records: Iterable[dict[str, Any]], last: bool = False) -> None:
            file.write(f'"{name}": [')
            counted = _counted(iter(records), f"writing {path.name}, thousands of {name}")
            for i, record in enumerate(counted):
                file.write("\n" if i == 0 else ",\n")
                file.write(json.dumps(record, ensure_ascii=False))
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
            decimals(areas),
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
                record["keypoints"] = decimals(dataset.keypoints[i].reshape(-1))
                record["num_keypoints"] = int((dataset.keypoints[i, :, 2] > 0).sum())
            if scores is not None:
                record["score"] = round(float(scores[i]), 6)
            yield record


def decimals(values: NDArray[np.float32]) -> list[float]:
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
        rows = np.isin(np.repeat(np.arange(len(dataset)), np.diff(dataset.starts)), chosen)
        target = folder / "annotations" / f"instances_{split or 'default'}.json"
        write_coco(dataset.subset(chosen), target, None if scores is None else scores[rows])
