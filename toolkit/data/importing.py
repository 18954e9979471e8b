"""Foreign labels into the canonical folder, and labels made by a network."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.archives import directory_bytes
from toolkit.data import catalog
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.folders import check_apart
from toolkit.data.formats import canonical
from toolkit.data.formats.registry import read, write
from toolkit.data.intake import Faults, Intake
from toolkit.data.readable import skipped_pictures
from toolkit.files import locked, no_place, scratch_folder
from toolkit.pictures import picture_size
from toolkit.runtime import InputError, progress
from toolkit.text import decode_text, file_bytes, one_line, short


def import_dataset(
    source: str | Path,
    output: str | Path,
    format: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    onto: str | Path | None = None,
    link: bool = True,
    overwrite: bool = False,
    faults: Faults = "skip",
    allow_outside: bool = False,
    **options: Any,
) -> Dataset:
    """Turns labels of any known format into the canonical folder.

    Args:
        source: a folder, a label file, a .zip of one, or the name of a card.
        output: the canonical folder to make; it appears whole or not at all. Its `import.json` says what
            stayed outside (`Dataset.intake`).
        format: a name in `formats.FORMATS`; found out unless given.
        classes: class names, in their order; boxes are matched to them by name.
        images: folder of the pictures, where they are apart from the labels.
        onto: a data set by name or path whose pictures were labelled: it is written with these labels
            (`with_labels`).
        link: hard links instead of copies, where the file system allows it.
        overwrite: replace a data set that is there.
        faults: "skip" leaves out what is at fault and counts it, "refuse" raises at the first.
        allow_outside: as in `formats.read`; never for what an archive holds.
        options: further options of the format's reader.

    Returns:
        The data set in `output`.

    Raises:
        InputError: the format is unknown, no pictures are there or not one label can be read; with "refuse"
            also where anything is missing or damaged.
    """
    path, output = Path(source), Path(output)
    if format is None and not path.exists():
        dataset = catalog.load(source, faults, allow_outside)
        dataset = match_classes(dataset, classes, faults) if classes else dataset
        return _saved(dataset, source, output, onto, link, overwrite)
    if path.suffix.lower() != ".zip" or path.is_dir():
        dataset = read(
            path,
            format,
            classes=classes,
            images=images,
            faults=faults,
            allow_outside=allow_outside,
            **options,
        )
        return _saved(dataset, source, output, onto, link, overwrite)
    with locked(output), scratch_folder(output, "unpacked") as folder:
        temporary = str(folder)
        unpack(path, folder)
        try:
            dataset = read(temporary, format, classes=classes, images=images, faults=faults, **options)
        except InputError as error:
            raise InputError(str(error).replace(temporary, path.name)) from None
        dataset = replace(dataset, intake=dataset.intake.renamed(temporary, path.name))
        return _saved(dataset, source, output, onto, link, overwrite)


def _saved(
    dataset: Dataset,
    source: str | Path,
    output: Path,
    onto: str | Path | None,
    link: bool,
    overwrite: bool,
) -> Dataset:
    intake = replace(dataset.intake, source=str(source))
    if onto is not None:
        dataset = with_labels(catalog.load(onto), dataset)
    check_apart(output, [dataset.root, *([Path(source)] if Path(source).exists() else [])])
    return canonical.save(replace(dataset, intake=intake), output, link, overwrite)


def with_labels(dataset: Dataset, labels: Dataset) -> Dataset:
    """A data set with the labels that came back from an annotation tool.

    Args:
        dataset: some of whose pictures were labelled.
        labels: the pictures that were, found by their names in it. Their boxes take the place of those that
            the data set has for them; every other picture, all splits and identifiers of pictures stay.

    Returns:
        The data set with the classes of both, its own first.

    Raises:
        InputError: a picture of `labels` is not in the data set, or either has keypoints.
    """
    place = {name: i for i, name in enumerate(dataset.files)}
    strangers = [name for name in labels.files if name not in place]
    if strangers:
        raise InputError(
            f"{dataset.root} has no picture {short(strangers[0])}: {len(strangers)} of {len(labels)} "
            "pictures with new labels are not in it; name the data set that they were taken from"
        )
    if dataset.keypoints is not None or labels.keypoints is not None:
        raise InputError(f"{dataset.root} or its new labels have keypoints, which no annotation tool keeps")
    targets = np.array([place[name] for name in labels.files], np.int64)
    classes = tuple(dict.fromkeys((*dataset.classes, *labels.classes)))
    old = dataset.keep_boxes(~np.isin(dataset.owners(), targets))
    owners = np.concatenate((old.owners(), targets[labels.owners()]))
    order = np.argsort(owners, kind="stable")
    numbers = np.array([classes.index(name) for name in labels.classes], np.int32)
    columns: dict[str, Any] = {
        "boxes": np.concatenate((old.boxes, labels.boxes)),
        "labels": np.concatenate((old.labels, numbers[labels.labels])),
        "crowd": np.concatenate((old.crowd, labels.crowd)),
        "ignore": np.concatenate((old.ignore, labels.ignore)),
        "box_ids": np.concatenate(
            (old.box_ids, old.box_ids.max(initial=0) + 1 + np.arange(len(labels.boxes)))
        ),
    }
    if old.areas is not None:
        sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
        columns["areas"] = np.concatenate((old.areas, sides.prod(axis=1)))
    return replace(
        dataset,
        classes=classes,
        starts=np.searchsorted(owners[order], np.arange(len(dataset) + 1)).astype(np.int64),
        **{name: column[order] for name, column in columns.items()},
    )


RATIO = 100  # of what a .zip holds to its own size; pictures have 1, labels some 10
LEAST = 100_000_000  # bytes that a .zip may unpack to whatever its size
DIRECTORY = 50_000_000  # bytes of a .zip's list of entries: half a million


def unpack(archive: Path, folder: Path) -> None:
    """Extract a .zip into `folder`, without the files that a Mac adds. Archives inside it stay packed.

    Raises:
        InputError: it is damaged or needs a password. Before anything is written: it has an entry that leads
            out of it or is neither file nor folder, too many entries, unpacks to more than `RATIO` times its
            size, or to more than the disk holds.
    """
    size = file_bytes(archive, sys.maxsize)
    with archive.open("rb") as file:
        length = directory_bytes(file, size)
    if length > DIRECTORY:
        raise InputError(f"{archive} is refused: it has more entries than a data set has")
    try:
        with zipfile.ZipFile(archive, metadata_encoding=_name_encoding(archive)) as packed:
            entries = [entry for entry in packed.infolist() if not entry.filename.startswith("__MACOSX/")]
            for entry in entries:
                name = PurePosixPath(entry.filename.replace("\\", "/"))
                outside = name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:", entry.filename)
                if outside or not name.parts:
                    raise InputError(
                        f"{archive} is refused: the entry {short(entry.filename)} leads out of it"
                    )
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise InputError(
                        f"{archive} is refused: the entry {short(entry.filename)} is a link or a device"
                    )
            total = sum(entry.file_size for entry in entries)  # zipfile reads no more of an entry
            if total > max(LEAST, RATIO * size):
                raise InputError(
                    f"{archive} is refused: its {size:,} bytes unpack to {total:,}: expected at most {RATIO} "
                    "times its size"
                )
            if total > shutil.disk_usage(folder).free:
                raise InputError(f"{archive} unpacks to more than the disk of {folder} has free")
            for entry in progress(entries, f"unpacking {archive.name}"):
                entry.filename = entry.filename.replace("\\", "/")
                packed.extract(entry, folder)
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:
        # damage; an unknown compression or a password; a cut file; damage inside what is compressed
        raise InputError(f"{archive} is not a readable .zip archive ({error})") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:  # names that no file can have, or a file and a folder of one name
        if no_place(error):
            raise
        raise InputError(f"{archive} cannot be unpacked: {one_line(str(error))}") from None


def _name_encoding(archive: Path) -> str:
    """The encoding of file names that do not say theirs: zip means code page 437, Windows writes its own."""
    with zipfile.ZipFile(archive) as packed:
        unmarked = [entry.filename for entry in packed.infolist() if not entry.flag_bits & 0x800]
    _, encoding = decode_text("\n".join(unmarked).encode("cp437", "replace"))
    return encoding


def prelabel(
    dataset: Dataset,
    detections: Iterable[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]],
    classes: Sequence[str],
    output: str | Path,
    format: str = "label-studio",
    *,
    unreadable: Mapping[int, str] | None = None,
    link: bool = True,
    overwrite: bool = False,
) -> Dataset:
    """Writes pictures with a network's boxes for correction in an annotation tool.

    The corrected labels come back through `read` or `import_dataset`.

    Args:
        dataset: the pictures; labels that it has are replaced.
        detections: for each picture in order boxes (k, 4) xyxy px, scores (k,) and indices into `classes`
            (k,). Boxes are clipped to the picture; those with nothing left are dropped.
        classes: names.
        output: folder for the tool.
        format: a name in `formats.FORMATS` that is written.
        unreadable: position -> reason of pictures that do not decode, as `toolkit.inference.run.run` enters
            it while the detections come; they are left out and listed in `Dataset.intake` of the result.
        link, overwrite: as in `import_dataset`.

    Returns:
        What was written.

    Raises:
        InputError: no picture decodes, or as `write`.
    """
    columns, scores = Columns(), []
    rows = zip(dataset.files, dataset.sizes.tolist(), detections, strict=True)
    for place, (name, size, (boxes, confidences, class_ids)) in enumerate(
        progress(rows, "labelling", len(dataset))
    ):
        if place in (unreadable or {}):
            continue
        size = size if min(size) > 0 else picture_size(dataset.path(place))
        i = columns.add_picture(name, size, str(dataset.splits[place]), int(dataset.image_ids[place]))
        inside = box_formats.clip(np.asarray(boxes, np.float32).reshape(-1, 4), *size)
        for box, score, class_id in zip(inside, confidences, class_ids, strict=True):
            if box[2] > box[0] and box[3] > box[1]:
                columns.add_box(i, box.tolist(), int(class_id))
                scores.append(float(score))
    skipped = skipped_pictures(dataset.files, unreadable or {})
    labelled = columns.dataset(dataset.root, classes, dataset.root)
    labelled = replace(labelled, intake=Intake(skipped=skipped))
    write(labelled, output, format, link=link, overwrite=overwrite, scores=np.array(scores, np.float32))
    return labelled
