"""The table of label formats, and the table of signs by which they are told apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.class_names import shown
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.folders import check_apart, fresh_folder, is_canonical
from toolkit.data.formats.coco import read_coco
from toolkit.data.formats.coco_writer import write_coco_folder
from toolkit.data.formats.createml import read_createml
from toolkit.data.formats.cvat import read_cvat, write_cvat
from toolkit.data.formats.fiftyone import read_fiftyone
from toolkit.data.formats.folder import read_folder, write_folder
from toolkit.data.formats.kitti import read_kitti
from toolkit.data.formats.label_studio import read_label_studio, write_label_studio
from toolkit.data.formats.labelme import read_labelme
from toolkit.data.formats.landmarks import read_face_crops, read_landmarks, write_landmarks
from toolkit.data.formats.remarks import alternatives, with_remarks
from toolkit.data.formats.retinaface import read_retinaface
from toolkit.data.formats.survey import (
    LABEL_SUFFIXES,
    Survey,
    dataset_top,
    is_plain_folder,
    kind_of,
    survey,
)
from toolkit.data.formats.table import read_table
from toolkit.data.formats.via import read_via
from toolkit.data.formats.voc import read_voc, write_voc
from toolkit.data.formats.widerface import read_widerface, write_widerface
from toolkit.data.formats.yolo import read_yolo, write_yolo
from toolkit.data.intake import Candidate, Faults, Intake, Skipped, kept_intake
from toolkit.data.reach import STRAY, Reach, reaching, takes_neighbour, top_of
from toolkit.runtime import InputError


@dataclass(frozen=True)
class LabelFormat:
    """A reader (path, images, faults, its own options) and a writer (dataset, folder, link)."""

    read: Callable[..., Dataset]
    write: Callable[..., None] | None = None
    takes_scores: bool = False


FORMATS = {
    "coco": LabelFormat(read_coco, write_coco_folder, takes_scores=True),
    "voc": LabelFormat(read_voc, write_voc),
    "yolo": LabelFormat(read_yolo, write_yolo),
    "widerface": LabelFormat(read_widerface, write_widerface),
    "landmarks": LabelFormat(read_landmarks, write_landmarks),
    "face-crops": LabelFormat(read_face_crops),
    "label-studio": LabelFormat(read_label_studio, write_label_studio, takes_scores=True),
    "cvat": LabelFormat(read_cvat, write_cvat),
    "labelme": LabelFormat(read_labelme),
    "createml": LabelFormat(read_createml),
    "via": LabelFormat(read_via),
    "fiftyone": LabelFormat(read_fiftyone),
    "kitti": LabelFormat(read_kitti),
    "retinaface": LabelFormat(read_retinaface),
    "table": LabelFormat(read_table),
    "folder": LabelFormat(read_folder, write_folder),
}


ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")  # the first is read


@dataclass(frozen=True)
class Sign:
    """What speaks for a format. The highest score decides; the others are named as candidates."""

    format: str
    score: int  # 0..100
    sign: str
    file: Callable[[Survey], str]  # the first file that shows it, "" where none does


def _kind(name: str) -> Callable[[Survey], str]:
    return lambda files: files.first(name)


def _text_beside_picture(files: Survey) -> str:
    stems = {name.rsplit("/", 1)[-1].rpartition(".")[0] for name in files.pictures}
    texts = (name for name in files.ending(".txt") if name.rsplit("/", 1)[-1][:-4] in stems)
    return next(texts, "")


def _bare_pictures(files: Survey) -> str:
    return files.pictures[0] if files.pictures and not files.labels else ""


SIGNS = (
    Sign("face-crops", 95, "a JSON list of faces cut out of their pictures", _kind("face-crops")),
    Sign("widerface", 92, "a list of pictures, counts and faces", _kind("widerface")),
    Sign("retinaface", 90, "a list of '# picture' lines and faces", _kind("retinaface")),
    Sign("widerface", 88, "a list of pictures and boxes without counts", _kind("widerface-bare")),
    Sign("landmarks", 86, "a list of points and pictures", _kind("landmarks")),
    Sign("label-studio", 82, "a JSON list of tasks", _kind("label-studio")),
    Sign("createml", 82, "a JSON list of pictures with annotations", _kind("createml")),
    Sign("via", 82, "regions of VGG Image Annotator", _kind("via")),
    Sign("fiftyone", 82, "JSON of samples or labels as FiftyOne exports it", _kind("fiftyone")),
    Sign("coco", 80, "JSON with images, annotations, categories", _kind("coco")),
    Sign("cvat", 78, "XML with the root <annotations>", _kind("cvat")),
    Sign("labelme", 76, "JSON with shapes, one for each picture", _kind("labelme")),
    Sign("voc", 74, "XML with the root <annotation>", _kind("voc")),
    Sign("kitti", 72, "lines of a class and 14 numbers", _kind("kitti")),
    Sign("yolo", 70, "lines of a class number and fractions", _kind("yolo-lines")),
    Sign("table", 68, "a table of boxes", _kind("table")),
    Sign("yolo", 50, "a file with names of classes and lists", _kind("settings")),
    Sign("yolo", 40, "a .txt for a picture", _text_beside_picture),
    Sign("yolo", 30, "names of classes", lambda files: files.first("names") if files.pictures else ""),
    Sign("folder", 10, "pictures, and no file that may be labels", _bare_pictures),
)


def candidates(files: Survey) -> list[Candidate]:
    """The formats that files may be of, the likeliest first; one entry for a format, its best sign."""
    best: dict[str, Candidate] = {}
    for sign in sorted(SIGNS, key=lambda sign: -sign.score):
        if sign.format not in best and (file := sign.file(files)):
            best[sign.format] = Candidate(sign.format, sign.score, f"{sign.sign} ({file})")
    return list(best.values())


def detect_format(path: str | Path) -> str:
    """Recognises the format of labels by the files that are there.

    Args:
        path: a folder or a label file.

    Returns:
        A name in `FORMATS`.

    Raises:
        InputError: there is nothing, or nothing of a known format.
    """
    top = _existing(path)
    with reaching(top_of(top), top):
        return _recognised(top, pictures_apart=True)[0].format


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} is not there")
    if path.suffix.lower() in ARCHIVES[1:] and path.is_file():
        raise InputError(f"{path} is an archive that is not read: unpack it, or pack it as .zip")
    if path.suffix.lower() == ".zip" and path.is_file():
        raise InputError(f"{path} is an archive: unpack it, or use toolkit data import, which does")
    return dataset_top(path)


def _recognised(path: Path, pictures_apart: bool = False) -> list[Candidate]:
    if is_canonical(path):
        return [Candidate("coco", 100, "annotations/*.json beside images/")]
    files = survey(path)
    ranking = candidates(files)
    names = ", ".join(FORMATS)
    apart = pictures_apart or (ranking and ranking[0].format == "labelme")  # which may hold its pictures
    if ranking and path.is_dir() and not files.pictures and not apart:
        raise InputError(
            f"{path} has label files ({shown(files.labels, 4)}) and no pictures: --images names their folder"
        )
    if not ranking and files.labels:
        with_pictures = f"{len(files.pictures)} pictures and " if files.pictures else ""
        raise InputError(
            f"{path} has {with_pictures}label files of no format that is read ({shown(files.labels, 4)}): "
            f"expected one of {names}; --format folder takes the pictures alone"
        )
    if not ranking:
        others = f"; {shown(files.others, 4)} cannot be read" if files.others else ""
        if archives := [file.name for file in sorted(path.glob("*")) if file.suffix.lower() in ARCHIVES]:
            others += f"; {shown(archives, 4)} is an archive: import it by its name, or unpack it"
        raise InputError(f"{path} has no pictures and no labels of a known format ({names}){others}")
    if ranking[0].format == "folder" and (near := labels_nearby(path)):
        raise InputError(
            f"{path} has pictures and no labels, but labels are near ({near}): give {Path(near).parent}, or "
            "--format folder for the pictures alone"
        )
    return ranking


def labels_nearby(path: Path) -> str:
    """A folder or file of labels next to a folder of pictures, or next to the one around it where both have
    plain names (`images/train`); "" where there is none."""
    folder = path.resolve()
    while True:
        for name in ("labels", "Annotations", "annotations"):
            beside = folder.parent / name
            if beside != folder and takes_neighbour(beside) and survey(beside).labels:
                return str(beside)
        if not is_plain_folder(folder.name):
            return ""
        files = [file for file in folder.parent.glob("*.*") if file.name.lower().endswith(LABEL_SUFFIXES)]
        near = (file for file in sorted(files)[:100] if takes_neighbour(file))
        labels = [file for file in near if kind_of(file) not in ("", "names")]
        if labels:
            return str(labels[0])
        folder = folder.parent


def read(
    path: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    faults: Faults = "skip",
    allow_outside: bool = False,
    **options: Any,
) -> Dataset:
    """Reads a data set in any known format, and nothing that is not in its folder.

    Args:
        path: a folder, one that holds nothing but such a folder, or a label file.
        format: a name in `FORMATS`; None recognises it (`SIGNS`).
        classes: class names, in their order; boxes are matched to them by name. For YOLO files without
            names they are the names.
        images: folder of the pictures, where they are apart from the labels.
        faults: "skip" leaves out pictures that are missing or do not decode and labels that are at fault,
            and counts them in `Dataset.intake`; "refuse" raises at the first; "keep" keeps what the doctor
            examines: missing and unreadable pictures, labels without a name (beyond the names in YOLO files;
            -1 where classes were given, and in COCO files).
        allow_outside: also read what links, lists and settings name outside `path` and `images`. Otherwise
            it is left out and listed in the intake. Where `path` is YOLO's settings, the folders of its
            splits count as the set's own, wherever they are, with the folders of labels beside them.
        options: further options of the format's reader (`one_based`, `lists`, `points`).

    Returns:
        The pictures and boxes of all splits.

    Raises:
        InputError: the format is not known, there are no pictures, not one of the labels can be read, or
            anything is at fault and `faults` is "refuse".
    """
    top = _existing(path)
    folders = [top_of(top), top, *([images] if images is not None else [])]
    with reaching(*folders, everywhere=allow_outside) as reach:
        try:
            dataset = _read(top, format, classes, images, faults, options)
        except InputError as error:
            raise InputError("; ".join([str(error), *reach.sentences()])) from None
        return _without_strays(dataset, reach, faults)


def _without_strays(dataset: Dataset, reach: Reach, faults: Faults) -> Dataset:
    """The pictures that are in the set's folders; the others are listed as skipped. What an earlier import
    has recorded is left out of the intake then, so that these are said."""
    for name in dataset.files if not reach.everywhere else ():
        path = os.path.join(dataset.root, name)
        if not reach.holds(path):
            reach.strays.setdefault(path, STRAY)
    found = {**reach.strays, **reach.unfit}
    strays = [Skipped(*item) for item in sorted(found.items())]
    sentences = reach.sentences()
    if not strays:
        return dataset
    if faults == "refuse":
        raise InputError(f"{dataset.root}: {'; '.join(sentences)}")
    lost = [i for i, name in enumerate(dataset.files) if os.path.join(dataset.root, name) in found]
    kept = np.setdiff1d(np.arange(len(dataset)), lost)
    if not len(kept):
        raise InputError(f"{dataset.root} has no picture of its own: {'; '.join(sentences)}")
    intake, part = dataset.intake, dataset.subset(kept) if lost else dataset
    if intake.source:
        intake = Intake(intake.format, intake.why)
    listed = {skipped.file for skipped in intake.skipped}
    notes = (*intake.notes, *sentences)
    skipped = (*intake.skipped, *(each for each in strays if each.file not in listed))
    return replace(part, intake=replace(intake, skipped=skipped, notes=notes))


def _read(
    top: Path,
    format: str | None,
    classes: Sequence[str] | None,
    images: str | Path | None,
    faults: Faults,
    options: dict[str, Any],
) -> Dataset:
    """As `read`, where it is known what may be read."""
    if format is None:
        ranking = _recognised(top, images is not None)
        format, why = ranking[0].format, ranking[0].sign
    else:
        ranking, why = [], "as asked for"
    _known(format)
    if foreign := options.keys() - signature(FORMATS[format].read).parameters.keys():
        raise InputError(f"the format {format} has no option {', '.join(sorted(foreign))}: leave it out")
    if format == "yolo":
        options["classes"] = classes
    try:
        dataset = FORMATS[format].read(top, images=images, faults=faults, **options)
    except InputError as error:
        if others := alternatives(ranking, format):
            raise InputError("; ".join([str(error), *others])) from None
        raise
    if classes:
        dataset = match_classes(dataset, classes, faults)
    if is_canonical(top) and (intake := kept_intake(top)) is not None:
        return replace(dataset, intake=intake)
    intake = replace(dataset.intake, format=format, why=why, candidates=tuple(ranking))
    return replace(dataset, intake=with_remarks(replace(dataset, intake=intake), Path(images or top), faults))


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
        writable = ", ".join(name for name, row in FORMATS.items() if row.write)
        raise InputError(f"{format} can only be read: write one of {writable}")
    if not len(dataset):
        raise InputError(f"there are no pictures to write to {path}: expected at least one")
    if dataset.labels.size and not 0 <= dataset.labels.min() <= dataset.labels.max() < len(dataset.classes):
        raise InputError(
            f"{dataset.root} has a box whose class is not among its {len(dataset.classes)} names"
        )
    check_apart(Path(path), [dataset.root])
    arguments = [scores] if chosen.takes_scores else []
    with fresh_folder(path, overwrite) as temporary:
        try:
            chosen.write(dataset, temporary, link, *arguments)
        except UnicodeEncodeError as error:
            part = error.object[max(0, error.start - 20) : error.end + 20]
            raise InputError(f"{format} cannot hold a name that is no text ({part!r}): rename it") from None


def _known(format: str) -> str:
    if format not in FORMATS:
        raise InputError(f"there is no format {format!r}: choose one of {', '.join(FORMATS)}")
    return format
