"""The toy set with what is wrong in people's data sets: each fault that the doctor looks for, once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.files import write_json
from toolkit.pictures import load_image
from toolkit.runtime import InputError

Labels = dict[str, Any]  # a COCO file
LEAST_TRAIN, LEAST_VAL = 10, 3  # pictures that are spoiled
ORIENTATION, TURNED = 0x0112, 6  # EXIF's tag, and a quarter turn


def plant_faults(folder: Path) -> dict[str, str]:
    """Spoils a toy set on disk (annotations/train.json and val.json, images/).

    Args:
        folder: of a toy set with pictures with boxes.

    Returns:
        Fault -> the picture that has it, for every fault of `toolkit.data.doctor.FAULTS` except "no-labels",
        which leaves no room for others. "empty-split" is a picture without objects in a split of its own.

    Raises:
        InputError: there are too few pictures.
    """
    files = {name: folder / "annotations" / f"{name}.json" for name in ("train", "val")}
    if not all(file.is_file() for file in files.values()):
        raise InputError(f"{folder} lacks a split: faults are planted into train and val")
    train, val = (json.loads(file.read_text()) for file in files.values())
    if len(train["images"]) < LEAST_TRAIN or len(val["images"]) < LEAST_VAL:
        raise InputError(
            f"{folder} has {len(train['images'])} pictures to train and {len(val['images'])} to validate: "
            f"expected {LEAST_TRAIN} and {LEAST_VAL} or more to plant faults into"
        )
    pictures = folder / "images"
    planted = {}
    for (fault, change), image in zip(_IN_TRAIN.items(), train["images"], strict=False):
        change(train, image, pictures / image["file_name"])
        planted[fault] = image["file_name"]
    originals = train["images"][-2:]
    copies = dict(zip(("exact-duplicate", "near-duplicate"), originals, strict=True))
    for (fault, original), image in zip(copies.items(), val["images"], strict=False):
        _copy(train, original, val, image, pictures, exact=fault == "exact-duplicate")
        planted[fault] = image["file_name"]
    empty = val["images"].pop()
    _forget(val, empty)
    planted["empty-split"] = empty["file_name"]
    for file, labels in ((files["train"], train), (files["val"], val)):
        write_json(file, labels)
    write_json(folder / "annotations" / "test.json", {**val, "images": [empty], "annotations": []})
    return planted


def _boxes(labels: Labels, image: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in labels["annotations"] if each["image_id"] == image["id"]]


def _forget(labels: Labels, image: dict[str, Any], path: Path | None = None) -> None:
    labels["annotations"] = [each for each in labels["annotations"] if each["image_id"] != image["id"]]


def _push_out(labels: Labels, image: dict[str, Any], path: Path) -> None:
    box = _boxes(labels, image)[0]["bbox"]
    box[0] = image["width"] - box[2] * 0.7


def _flatten(labels: Labels, image: dict[str, Any], path: Path) -> None:
    _boxes(labels, image)[0]["bbox"][3] = 0


def _repeat(labels: Labels, image: dict[str, Any], path: Path) -> None:
    following = max(each["id"] for each in labels["annotations"]) + 1
    labels["annotations"].append({**_boxes(labels, image)[0], "id": following})


def _as_fractions(labels: Labels, image: dict[str, Any], path: Path) -> None:
    for each in _boxes(labels, image):
        each["bbox"] = [side / image["width"] for side in each["bbox"]]  # toy pictures are square


def _misname(labels: Labels, image: dict[str, Any], path: Path) -> None:
    _boxes(labels, image)[0]["category_id"] = 1000


def _cut_short(labels: Labels, image: dict[str, Any], path: Path) -> None:
    _write(path, path.read_bytes()[:200])


def _widen(labels: Labels, image: dict[str, Any], path: Path) -> NDArray[np.uint8]:
    """Another half of a picture on its left, mirrored, so that its sides differ."""
    picture = load_image(path)
    more = picture.shape[1] // 2
    image["width"] += more
    for each in _boxes(labels, image):
        each["bbox"][0] += more
    wide: NDArray[np.uint8] = cv2.copyMakeBorder(picture, 0, 0, more, 0, cv2.BORDER_REFLECT).astype(np.uint8)
    return wide


def _swap(labels: Labels, image: dict[str, Any], path: Path) -> None:
    _write(path, _jpeg(_widen(labels, image, path)))
    for each in _boxes(labels, image):
        x, y, width, height = each["bbox"]
        each["bbox"] = [y, x, height, width]


def _turn(labels: Labels, image: dict[str, Any], path: Path) -> None:
    """The file asks to be shown turned, and the labels are for it as it is stored."""
    stored, turn = Image.open(io.BytesIO(_jpeg(_widen(labels, image, path)))), Image.Exif()
    turn[ORIENTATION] = TURNED
    data = io.BytesIO()
    stored.save(data, "JPEG", quality=95, exif=turn)
    _write(path, data.getvalue())


def _record_other_size(labels: Labels, image: dict[str, Any], path: Path) -> None:
    image["width"], image["height"] = image["width"] * 2, image["height"] * 2


def _copy(
    source: Labels, original: dict[str, Any], target: Labels, image: dict[str, Any], folder: Path, exact: bool
) -> None:
    """A picture of one split in the place of one of another, with its boxes; brightened and written again
    unless `exact`."""
    _forget(target, image)
    following = max((each["id"] for each in target["annotations"]), default=0) + 1
    target["annotations"] += [
        {**each, "id": following + k, "image_id": image["id"]}
        for k, each in enumerate(_boxes(source, original))
    ]
    path = folder / original["file_name"]
    brighter = cv2.convertScaleAbs(load_image(path), beta=25)
    _write(folder / image["file_name"], path.read_bytes() if exact else _jpeg(brighter, 80))


def _jpeg(picture: NDArray[Any], quality: int = 95) -> bytes:
    """Of an RGB picture (H, W, 3)."""
    colours = np.ascontiguousarray(picture[..., ::-1])
    data: bytes = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return data


def _write(path: Path, data: bytes) -> None:
    path.unlink()  # it may be a hard link of another set's
    path.write_bytes(data)


_IN_TRAIN: dict[str, Callable[[Labels, dict[str, Any], Path], None]] = {
    "outside": _push_out,
    "degenerate": _flatten,
    "duplicate-box": _repeat,
    "swapped-xy": _swap,
    "wrong-unit": _as_fractions,
    "class-range": _misname,
    "undecodable": _cut_short,
    "exif-rotation": _turn,
    "size-mismatch": _record_other_size,
    "unlabelled": _forget,
}
