"""Foreign labels into the canonical folder, and labels made by a network."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.data import catalog
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.formats import canonical
from toolkit.data.formats.common import filled_sizes
from toolkit.data.formats.registry import read, write
from toolkit.runtime import InputError, progress


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
    """Turns labels of any known format into the canonical folder.

    Args:
        source: a folder, a label file, a .zip of one, or the name of a card.
        output: the canonical folder to make; it appears whole or not at all.
        format: a name in `formats.FORMATS`; found out unless given.
        classes: class names, in their order; boxes are matched to them by name.
        images: folder of the pictures, where they are apart from the labels.
        link: hard links instead of copies, where the file system allows it.
        overwrite: replace a data set that is there.
        options: further options of the format's reader.

    Returns:
        The data set in `output`.

    Raises:
        InputError: the format is unknown, or labels or pictures are missing or damaged.
    """
    path = Path(source)
    if format is None and not path.exists():
        dataset = catalog.load(source)
        return canonical.save(
            match_classes(dataset, classes) if classes else dataset, output, link, overwrite
        )
    if path.suffix.lower() != ".zip":
        dataset = read(path, format, classes=classes, images=images, **options)
        return canonical.save(dataset, output, link, overwrite)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        unpack(path, Path(temporary))
        inside = list(Path(temporary).iterdir())
        top = inside[0] if len(inside) == 1 and inside[0].is_dir() else Path(temporary)
        return canonical.save(
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
    """Writes pictures with a network's boxes for correction in an annotation tool.

    The corrected labels come back through `read` or `import_dataset`.

    Args:
        dataset: the pictures; labels that it has are replaced.
        detections: for each picture in order boxes (k, 4) xyxy px, scores (k,) and indices into `classes`
            (k,). Boxes are clipped to the picture; those with nothing left are dropped.
        classes: names.
        output: folder for the tool.
        format: a name in `formats.FORMATS` that is written.
        link, overwrite: as in `import_dataset`.

    Returns:
        What was written.
    """
    dataset = filled_sizes(dataset)
    columns, scores = Columns(), []
    rows = zip(dataset.files, dataset.sizes.tolist(), detections, strict=True)
    for i, (name, size, (boxes, confidences, class_ids)) in enumerate(
        progress(rows, "labelling", len(dataset))
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
