"""CreateML's JSON, as Roboflow, RectLabel and Apple's own tool write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.formats.adding import add_box, add_once, number, with_classes
from toolkit.data.formats.common import PictureFolder
from toolkit.data.formats.json_stream import stream_json
from toolkit.data.formats.shapes import Box
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_of_list
from toolkit.runtime import InputError, progress

_PICTURE = ("image", "imagefilename", "imageFilename", "filename", "path")


def read_createml(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """CreateML: lists of {"image", "annotations": [{"label", "coordinates": {x, y, width, height}}]} where
    x, y is the centre; the older names "imagefilename" and "annotation" as well.

    All JSON files of that kind below `path` are read; a file's folder (train, valid, test) or name gives the
    split, otherwise the picture's folder. Boxes of a file in which no number is above 1 are fractions.
    Classes are sorted. A picture that no file names stays outside and is counted in a note.
    """
    folder, files = files_of_kind(Path(path), "createml")
    if not files:
        raise InputError(f"{path} has no CreateML labels: expected *.json with a list of pictures")
    pictures = PictureFolder(Path(images) if images else folder)
    columns = Columns(faults)
    labels: dict[str, int] = {}
    seen: set[str] = set()
    for name in progress(files, "reading CreateML"):
        try:
            records = _records(folder / name)
        except InputError as error:
            columns.leave_out("label files that cannot be read", str(error))
            continue
        fractions = _are_fractions(records)
        if fractions:
            columns.note("boxes whose numbers are at most 1 were read as fractions of the picture", name)
        for i, record in enumerate(records, 1):
            place = f"{folder / name}, picture {i}"
            near = "" if images else name.rpartition("/")[0]
            _add_record(columns, pictures, seen, labels, record, place, split_of_list(name), near, fractions)
    return with_classes(columns, pictures.folder, labels, path)


def _records(file: Path) -> list[dict[str, Any]]:
    """The pictures of a file; InputError where it is damaged or no list of them."""
    pairs = list(stream_json(file))
    if not all(key == "" and isinstance(record, dict) for key, record in pairs):
        raise InputError(f"{file} is not as CreateML has it: expected a list of pictures")
    return [record for _, record in pairs]


def _add_record(
    columns: Columns,
    pictures: PictureFolder,
    seen: set[str],
    labels: dict[str, int],
    record: dict[str, Any],
    place: str,
    split: str,
    near: str,
    fractions: bool,
) -> None:
    annotations = _annotations(record)
    name = next((record[key] for key in _PICTURE if isinstance(record.get(key), str) and record[key]), "")
    if not name:
        columns.leave_out(
            "entries without a picture's name", f"{place}: expected 'image'", max(1, len(annotations))
        )
        return
    picture = add_once(columns, pictures, seen, name, split, place, len(annotations), near=near)
    if picture is None:
        return
    for annotation in annotations:
        try:
            x, y, w, h = _coordinates(annotation)
        except (KeyError, TypeError, ValueError, AttributeError):
            text = str(annotation)[:80]
            columns.leave_out("annotations without a box", f"{place}: expected coordinates, found {text}")
            continue
        label = annotation.get("label")
        if label is None or not str(label).strip():
            columns.leave_out("boxes without a class", f"{place}: an annotation has no 'label'")
            continue
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        if fractions:
            width, height = columns.size_of(picture)
            box = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        add_box(columns, labels, picture, str(label).strip(), box, place)


def _annotations(record: dict[str, Any]) -> list[Any]:
    """Whatever stands there as a list: a single one is also written without brackets."""
    value = record.get("annotations", record.get("annotation"))
    return value if isinstance(value, list) else [] if value is None else [value]


def _coordinates(annotation: Any) -> Box:
    """Centre x, y, width and height."""
    values = annotation["coordinates"]
    return (number(values["x"]), number(values["y"]), number(values["width"]), number(values["height"]))


def _are_fractions(records: list[dict[str, Any]]) -> bool:
    """Whether a file has its boxes in fractions of the pictures: it has some, and no number above 1."""
    largest = 0.0
    for record in records:
        for annotation in _annotations(record):
            try:
                largest = max(largest, *_coordinates(annotation))
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
    return 0 < largest <= 1
