"""Label formats: readers and writers between other people's layouts and `Dataset`.

coco          COCO's own, CVAT "COCO 1.0", Label Studio, Roboflow, FiftyOne. Cannot hold: masks are dropped.
voc           VOC devkit, CVAT "PASCAL VOC 1.1", Label Studio, XML beside pictures. Cannot hold: identifiers,
              crowd, keypoints, areas, original sizes.
yolo          darknet, CVAT "YOLO 1.1", Label Studio, data.yaml, txt beside pictures. Cannot hold: all that
              voc cannot, and ignore.
widerface     WIDER FACE, also with reduced pictures. One class. Cannot hold: identifiers, crowd, keypoints,
              areas.
landmarks     WFLW and 106-point lists. One class. Cannot hold: pictures without faces, visibility,
              identifiers, crowd, ignore, areas, original sizes.
face-crops    WFLW faces cut out of their pictures (read only).
label-studio  its JSON and JSON-MIN with percent boxes. Cannot hold: keypoints, areas, original sizes.
folder        pictures without labels.

Every reader raises `InputError` in one sentence for a missing picture, a class that is not among the names, a
malformed or empty label file (with file and line) and a dataset of no pictures. Pictures come in a stable
order: as listed, otherwise sorted by name; splits in the order of `dataset.split_order`. A writer renames a
picture only where two names would fall together (`dataset.unique_names`).
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.data import dataset as dataset_module
from toolkit.data.dataset import (
    Columns,
    Dataset,
    fresh_folder,
    match_classes,
    place_pictures,
    split_order,
    unique_names,
)
from toolkit.data.formats.coco import read_coco, stream_json, write_coco
from toolkit.data.formats.common import (
    filled_sizes,
    list_files,
    numbered_lines,
    picture_size,
    size_or_zero,
)
from toolkit.data.formats.label_studio import read_label_studio, write_label_studio
from toolkit.data.formats.landmarks import read_face_crops, read_landmarks, write_landmarks
from toolkit.data.formats.voc import read_voc, write_voc
from toolkit.data.formats.widerface import read_widerface, write_widerface
from toolkit.data.formats.yolo import read_yolo, write_yolo
from toolkit.runtime import InputError, progress


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


def read_folder(path: str | Path, images: str | Path | None = None, strict: bool = True) -> Dataset:
    """Pictures without labels: all below the folder, sorted by name; no classes, no boxes, no splits."""
    path = Path(images or path)
    columns = Columns()
    for name in progress(list_files(path), "reading pictures"):
        columns.add_picture(name, picture_size(path / name) if strict else size_or_zero(path / name))
    return columns.dataset(path, (), path)


def write_folder(dataset: Dataset, folder: Path, link: bool) -> None:
    """The pictures only."""
    place_pictures(dataset, folder, unique_names(dataset.files), link)


@dataclass(frozen=True)
class Format:
    """A reader (path, images, strict, its own options) and a writer (dataset, folder, link)."""

    read: Callable[..., Dataset]
    write: Callable[..., None] | None
    takes_scores: bool = False


FORMATS = {
    "coco": Format(read_coco, write_coco_folder, takes_scores=True),
    "voc": Format(read_voc, write_voc),
    "yolo": Format(read_yolo, write_yolo),
    "widerface": Format(read_widerface, write_widerface),
    "landmarks": Format(read_landmarks, write_landmarks),
    "face-crops": Format(read_face_crops, None),
    "label-studio": Format(read_label_studio, write_label_studio, takes_scores=True),
    "folder": Format(read_folder, write_folder),
}


def detect_format(path: str | Path) -> str:
    """The name in FORMATS of what lies at `path`, from the files there; InputError where it is none."""
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
    """The dataset at `path`.

    Parameters
    ----------
    format: a name in FORMATS; None finds it out (`detect_format`).
    classes: the class names wanted, in their order. Boxes are matched to them by name (InputError for another
        class); for YOLO files without names they are the names.
    images: the folder of the pictures, where labels and pictures lie apart (exports without pictures).
    strict: False keeps what a doctor should see: missing and unreadable pictures, labels without a name
        (beyond the names in YOLO files; -1 where names were asked for or in COCO files).
    options: what the format's reader takes besides (`one_based`, `lists`, `points`).
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
    """Write `dataset` and its pictures (hard links where possible) to the folder `path`, whole or not at all.

    `scores` (m,) goes along in coco and label-studio. What a format cannot hold is in this module's table.
    InputError for a folder that holds something already and for a dataset the format cannot express.
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


def import_dataset(
    source: str | Path,
    output: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    link: bool = True,
    overwrite: bool = False,
    **options: Any,
) -> Dataset:
    """Turn `source` (a folder, a label file, a .zip of one, or the name of a card) into the canonical folder
    `output` and return the dataset there. Parameters as in `read` and `dataset.save`."""
    path = Path(source)
    if format is None and not path.exists():
        found = dataset_module.load(source)
        return dataset_module.save(
            match_classes(found, classes) if classes else found, output, link, overwrite
        )
    if path.suffix.lower() != ".zip":
        found = read(path, format, classes=classes, images=images, **options)
        return dataset_module.save(found, output, link, overwrite)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        unpack(path, Path(temporary))
        inside = list(Path(temporary).iterdir())
        top = inside[0] if len(inside) == 1 and inside[0].is_dir() else Path(temporary)
        return dataset_module.save(
            read(top, format, classes=classes, images=images, **options), output, link, overwrite
        )


def unpack(archive: Path, folder: Path) -> None:
    """Extract a .zip into `folder`. An entry that leads out of it, a link, or more than the disk holds is
    refused before anything is written."""
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            for entry in entries:
                name = PurePosixPath(entry.filename.replace("\\", "/"))
                if name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:", entry.filename):
                    raise InputError(f"{archive} is refused: the entry {entry.filename!r} leads out of it")
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise InputError(f"{archive} is refused: the entry {entry.filename!r} is a link")
            if sum(entry.file_size for entry in entries) > shutil.disk_usage(folder).free:
                raise InputError(f"{archive} unpacks to more than the disk of {folder} has free")
            for entry in progress(entries, f"unpacking {archive.name}"):
                packed.extract(entry, folder)
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:
        # damage; an unknown compression or a password; a cut file; damage inside what is compressed
        raise InputError(f"{archive} is not a readable .zip archive ({error})") from None


def prelabel(
    dataset: Dataset,
    detections: Iterable[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]],
    classes: Sequence[str],
    output: str | Path,
    format: str = "label-studio",
    *,
    link: bool = True,
    overwrite: bool = False,
) -> Dataset:
    """Write the pictures of `dataset` with a network's boxes for an annotation tool; return what was written.

    `detections` gives for each picture in order its boxes (k, 4) xyxy in its pixels, scores (k,) and indices
    into `classes` (k,). Boxes are cut to the picture; those with nothing left go. Labels that the dataset had
    are replaced. The corrected labels come back through `read` or `import_dataset`.
    """
    dataset = filled_sizes(dataset)
    columns, scores = Columns(), []
    found = zip(dataset.files, dataset.sizes.tolist(), detections, strict=True)
    for i, (name, size, (boxes, confidences, class_ids)) in enumerate(
        progress(found, "labelling", len(dataset))
    ):
        columns.add_picture(name, size, str(dataset.splits[i]), int(dataset.image_ids[i]))
        inside = box_formats.clip(np.asarray(boxes, np.float32).reshape(-1, 4), *size)
        for box, score, class_id in zip(inside, confidences, class_ids, strict=True):
            if box[2] > box[0] and box[3] > box[1]:
                columns.add_box(i, box.tolist(), int(class_id))
                scores.append(float(score))
    labelled = columns.dataset(dataset.root, classes, dataset.root)
    write(labelled, output, format, link=link, overwrite=overwrite, scores=np.array(scores, np.float32))
    return labelled
