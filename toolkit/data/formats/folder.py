"""A plain folder of pictures without labels."""

from __future__ import annotations

from pathlib import Path

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.common import list_files, picture_size, size_or_zero
from toolkit.runtime import progress


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
