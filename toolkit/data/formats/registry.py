"""The table of label formats, and how they are told apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.folders import fresh_folder
from toolkit.data.formats.coco import read_coco, stream_json, write_coco_folder
from toolkit.data.formats.common import list_files, numbered_lines
from toolkit.data.formats.folder import read_folder, write_folder
from toolkit.data.formats.label_studio import read_label_studio, write_label_studio
from toolkit.data.formats.landmarks import read_face_crops, read_landmarks, write_landmarks
from toolkit.data.formats.voc import read_voc, write_voc
from toolkit.data.formats.widerface import read_widerface, write_widerface
from toolkit.data.formats.yolo import read_yolo, write_yolo
from toolkit.runtime import InputError


@dataclass(frozen=True)
class LabelFormat:
    """A reader (path, images, strict, its own options) and a writer (dataset, folder, link)."""

    read: Callable[..., Dataset]
    write: Callable[..., None] | None
    takes_scores: bool = False


FORMATS = {
    "coco": LabelFormat(read_coco, write_coco_folder, takes_scores=True),
    "voc": LabelFormat(read_voc, write_voc),
    "yolo": LabelFormat(read_yolo, write_yolo),
    "widerface": LabelFormat(read_widerface, write_widerface),
    "landmarks": LabelFormat(read_landmarks, write_landmarks),
    "face-crops": LabelFormat(read_face_crops, None),
    "label-studio": LabelFormat(read_label_studio, write_label_studio, takes_scores=True),
    "folder": LabelFormat(read_folder, write_folder),
}


def detect_format(path: str | Path) -> str:
    """Recognises the format of labels by the files that are there.

    Args:
        path: a folder or a label file.

    Returns:
        A name in `FORMATS`.

    Raises:
        InputError: there is nothing, or nothing of a known format.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} is not there")
    if path.is_file():
        return _detect_file(path)
    if (path / "annotations.json").is_file() and (path / "crops").is_dir():
        return "face-crops"
    if any(path.glob("annotations/*.json")):
        return "coco"
    if any(path.glob("**/wider_face_*_bbx_gt.txt")):
        return "widerface"
    if any(path.glob("Annotations/**/*.xml")) or any(
        f.name != "label_config.xml" for f in path.glob("*.xml")
    ):
        return "voc"
    if any(any(path.glob(p)) for p in ("*.data", "data.yaml", "data.yml", "*.names", "classes.txt")):
        return "yolo"
    for file in [*sorted(path.glob("*.json")), *sorted(path.glob("*/*.json"))]:
        return _detect_file(file)
    if list_files(path, lambda name: name.startswith("list") and name.endswith(".txt")):
        return "landmarks"
    names = list_files(path)
    if not names:
        raise InputError(f"{path} has no pictures and no labels of a known format ({', '.join(FORMATS)})")
    if any((path / (os.path.splitext(name)[0] + ".txt")).is_file() for name in names[:100]):
        return "yolo"
    return "folder"


def _detect_file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".json":
        key, _ = next(stream_json(path), ("images", None))
        return "label-studio" if key == "" else "coco"
    if suffix in (".data", ".yaml", ".yml"):
        return "yolo"
    if suffix == ".txt":
        lines = numbered_lines(path)[:2]
        return "widerface" if len(lines) == 2 and lines[1][1].isdigit() else "landmarks"
    if suffix == ".zip":
        raise InputError(f"{path} is an archive: unpack it, or use import_dataset, which does")
    raise InputError(f"{path} is not a label file of a known format ({', '.join(FORMATS)})")


def read(
    path: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    strict: bool = True,
    **options: Any,
) -> Dataset:
    """Reads a data set in any known format.

    Args:
        path: a folder or a label file.
        format: a name in `FORMATS`; None recognises it (`detect_format`).
        classes: class names, in their order; boxes are matched to them by name. For YOLO files without
            names they are the names.
        images: folder of the pictures, where they are apart from the labels.
        strict: False keeps what the doctor examines: missing and unreadable pictures, labels without a name
            (beyond the names in YOLO files; -1 where classes were given, and in COCO files).
        options: further options of the format's reader (`one_based`, `lists`, `points`).

    Returns:
        The pictures and boxes of all splits.

    Raises:
        InputError: a picture or class is missing, or a label file is malformed or empty.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} is not there")
    format = _known(format or detect_format(path))
    if format == "yolo":
        options["classes"] = classes
    dataset = FORMATS[format].read(path, images=images, strict=strict, **options)
    return match_classes(dataset, classes, strict) if classes else dataset


def write(
    dataset: Dataset,
    path: str | Path,
    format: str,
    *,
    link: bool = True,
    overwrite: bool = False,
    scores: NDArray[np.floating] | None = None,
) -> None:
    """Writes a data set and its pictures in a format, whole or not at all.

    Args:
        dataset: what to write; what a format cannot hold is in the table of this package.
        path: the new folder.
        format: a name in `FORMATS` that is written.
        link: hard links instead of copies, where the file system allows it.
        overwrite: replace what is there.
        scores: (m,) of the boxes, kept by coco and label-studio.

    Raises:
        InputError: the folder holds something already, or the format cannot express the data set.
    """
    chosen = FORMATS[_known(format)]
    if chosen.write is None:
        raise InputError(f"{format} can only be read: write coco or landmarks instead")
    if not len(dataset):
        raise InputError(f"there are no pictures to write to {path}: expected at least one")
    if dataset.labels.size and not 0 <= dataset.labels.min() <= dataset.labels.max() < len(dataset.classes):
        raise InputError(
            f"{dataset.root} has a box whose class is not among its {len(dataset.classes)} names"
        )
    with fresh_folder(path, overwrite) as temporary:
        if chosen.takes_scores:
            chosen.write(dataset, temporary, link, scores)
        else:
            chosen.write(dataset, temporary, link)


def _known(format: str) -> str:
    if format not in FORMATS:
        raise InputError(f"there is no format {format!r}: choose one of {', '.join(FORMATS)}")
    return format
