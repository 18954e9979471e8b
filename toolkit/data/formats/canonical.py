"""The canonical folder: COCO JSON for each split, beside its pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from toolkit.data.dataset import Dataset
from toolkit.data.folders import fresh_folder, place_pictures, unique_names
from toolkit.data.formats.coco_writer import write_coco
from toolkit.data.intake import FILE_NAME
from toolkit.data.splitting import split_of, split_order
from toolkit.runtime import InputError


def save(dataset: Dataset, folder: str | Path, link: bool = True, overwrite: bool = False) -> Dataset:
    """Writes the canonical folder, whole or not at all.

    Identifiers, crowd, ignore, keypoints, areas, sizes and splits are kept, and in `import.json` what stayed
    outside when the labels were imported. On loading, pictures come split by split (`split_order`), within a
    split in the order they have here.

    Args:
        dataset: what to write.
        folder: the new folder.
        link: pictures are hard links to the sources where the file system allows it; False copies them,
            which is needed before pictures are edited in place.
        overwrite: replace a data set that is there.

    Returns:
        The data set in `folder`.

    Raises:
        InputError: the folder holds something already, a picture is missing, there are no pictures, or the
            name of a split cannot be the name of a file.
    """
    folder = Path(folder)
    if not len(dataset):
        raise InputError(f"there are no pictures to save to {folder}: expected at least one")
    names = unique_names(dataset.files)
    with fresh_folder(folder, overwrite) as temporary:
        placed = replace(dataset, files=names)
        place_pictures(dataset, temporary / "images", names, link)
        write_annotations(placed, temporary)
        if dataset.intake.format:
            totals = {"pictures": len(dataset), "boxes": len(dataset.labels), **dataset.counts()}
            record = json.dumps({**totals, **dataset.intake.as_dict()}, ensure_ascii=False, indent=1)
            (temporary / FILE_NAME).write_text(record + "\n", encoding="utf-8", errors="backslashreplace")
    return replace(placed, root=folder / "images")


def write_annotations(dataset: Dataset, folder: Path) -> None:
    """The `annotations` of a canonical folder whose `images` are there already."""
    (folder / "annotations").mkdir()
    for split in split_order(dataset.splits.tolist()):
        if split != "" and (split_of(split) != split or re.fullmatch(r"[\w.-]+", split) is None):
            raise InputError(
                f"{split!r} cannot name a split on disk: use train, val, test or another plain word"
            )
        write_coco(dataset.split(split), folder / "annotations" / f"{split or 'all'}.json")
