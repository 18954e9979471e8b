"""A plain folder of pictures without labels."""

from __future__ import annotations

from pathlib import Path

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.common import PictureFolder, add_named_picture
from toolkit.data.intake import Faults
from toolkit.runtime import progress


def read_folder(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """Pictures without labels: all below the folder, sorted by name; no classes, no boxes, no splits."""
    pictures = PictureFolder(Path(images or path))
    columns = Columns(faults)
    for name in progress(pictures.names, "reading pictures"):
        add_named_picture(columns, pictures, name, "", "the folder")
    return columns.dataset(pictures.folder, (), path)


def write_folder(dataset: Dataset, folder: Path, link: bool) -> None:
    """The pictures only."""
    place_pictures(dataset, folder, unique_names(dataset.files), link)
