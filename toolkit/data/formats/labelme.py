"""LabelMe's JSON, a file for each picture, also as X-AnyLabeling writes it."""

from __future__ import annotations

from collections.abc import Sequence
from math import dist
from pathlib import Path
from typing import Any

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.formats.adding import add_box, leave_out_all, number, recorded_size, with_classes
from toolkit.data.formats.common import PictureFolder, add_named_picture
from toolkit.data.formats.pairing import Pair, Pairing, listed_classes
from toolkit.data.formats.shapes import enclosing
from toolkit.data.formats.survey import survey
from toolkit.data.formats.text import read_json
from toolkit.data.intake import Faults
from toolkit.runtime import InputError, progress

_WITHOUT_BOX = {
    "point": "points without a box",
    "points": "points without a box",
    "line": "lines without a box",
    "linestrip": "lines without a box",
}
_NOTES = {
    "polygon": "polygons became the boxes around them",
    "circle": "circles became the boxes around them",
    "mask": "masks became the boxes around them",
    "rotation": "rotated boxes became the upright boxes around them",
    "quadrilateral": "quadrilaterals became the boxes around them",
    "cuboid": "cuboids became the boxes around them",
}


def read_labelme(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """LabelMe's JSON: rectangles; polygons, circles, masks and rotated boxes become the boxes around them, a
    group of polygons one box. Points and lines are left out and counted. `difficult` becomes ignore.

    The JSON files and the pictures may be anywhere below the folder; they belong together by their names,
    otherwise by `imagePath`. A picture without a JSON file has no boxes. Splits are those of folders and of
    lists (`train.txt`). Classes are those of a `labels.txt` beside, otherwise all that occur, sorted.
    """
    path = Path(path)
    top = path if path.is_dir() else path.parent
    names = survey(path).ending(".json") if path.is_dir() else [path.name]
    columns, labels = Columns(faults), dict[str, int]()
    contents = {name: _content(top / name, columns) for name in progress(names, "reading LabelMe")}
    files = [name for name, content in contents.items() if content is not None]
    if not any(isinstance(content, dict) for content in contents.values()):
        raise InputError(f"{path} has no LabelMe labels: expected .json with shapes and imagePath")
    pictures = PictureFolder(Path(images or top))

    def names_inside(file: Path) -> list[str]:
        content = contents[file.relative_to(top).as_posix()]
        return [_name(content)] if isinstance(content, dict) else []

    pairing = Pairing(top, files, pictures, columns, path.is_file(), names_inside)
    for pair, split in progress(pairing.with_splits(), "measuring pictures"):
        content = contents[pair.label] if pair.label else None
        if isinstance(content, InputError):
            pairing.leave_out_damaged(pair, split, str(content))
        elif content:
            _add_file(columns, labels, pairing, pair, split, content)
        else:
            add_named_picture(columns, pictures, pair.picture, split, "the folder")
    return with_classes(columns, pictures.folder, labels, path, listed_classes(top, labels))


def _content(file: Path, columns: Columns) -> dict[str, Any] | InputError | None:
    """What a file holds, with True for the picture inside it; None for one that is not LabelMe's."""
    try:
        content = read_json(file, columns.note)
    except InputError as error:
        return error
    if not isinstance(content, dict) or not isinstance(content.get("shapes", ()), list):
        columns.note("JSON files that are not LabelMe's were not read", str(file))
        return None
    content["imageData"] = bool(content.get("imageData"))
    return content


def _name(content: dict[str, Any]) -> str:
    name = content.get("imagePath")
    return name if isinstance(name, str) else ""


def _add_file(
    columns: Columns,
    labels: dict[str, int],
    pairing: Pairing,
    pair: Pair,
    split: str,
    content: dict[str, Any],
) -> None:
    place = str(pairing.top / pair.label)
    shapes = content.get("shapes") or []
    name = pair.picture or _name(content) or f"{Path(pair.label).stem}.jpg"
    size = recorded_size(content.get("imageWidth"), content.get("imageHeight"))
    picture: int | None
    if not pair.picture and content["imageData"] and columns.faults != "keep":
        reason = f"the picture {name!r} is missing in {pairing.pictures.folder}, and is inside {place}"
        columns.skip(name, f"{reason}: labelme_export_json writes it out")
        picture = None
    else:
        picture = add_named_picture(columns, pairing.pictures, name, split, place, size)
    if picture is None:
        leave_out_all(columns, len(shapes), place)
        return
    for group in _groups(shapes, columns, place):
        _add_shape(columns, labels, picture, group, place)


def _groups(shapes: Sequence[Any], columns: Columns, place: str) -> list[list[dict[str, Any]]]:
    """Shapes, with the polygons and masks of one label and group together: the parts of one object."""
    groups: dict[object, list[dict[str, Any]]] = {}
    for i, shape in enumerate(shapes):
        if not isinstance(shape, dict):
            columns.leave_out("shapes that are not as LabelMe has them", f"{place}: found {str(shape)[:60]}")
            continue
        kind, group = _kind(shape), shape.get("group_id")
        parts = kind in ("polygon", "mask") and group is not None
        key = (str(shape.get("label")), str(group)) if parts else i
        groups.setdefault(key, []).append(shape)
        if len(groups[key]) > 1:
            columns.note("polygons of one group became one box", place)
    return list(groups.values())


def _kind(shape: dict[str, Any]) -> str:
    return str(shape.get("shape_type") or "polygon").lower()


def _add_shape(
    columns: Columns, labels: dict[str, int], picture: int, parts: list[dict[str, Any]], place: str
) -> None:
    shape, kind = parts[0], _kind(parts[0])
    if kind in _WITHOUT_BOX:
        columns.leave_out(_WITHOUT_BOX[kind], f"{place}: a {kind} has no box")
        return
    label = shape.get("label")
    name = "" if label is None else str(label).strip()
    if not name:
        columns.leave_out("shapes without a class", f"{place}: a {kind} has no label")
        return
    try:
        box = enclosing(corner for part in parts for corner in _corners(part, _kind(part)))
    except (TypeError, ValueError, KeyError, IndexError) as error:
        columns.leave_out("shapes of odd points", f"{place}: the {kind} {name}: {error}")
        return
    if kind != "rectangle":
        columns.note(_NOTES.get(kind, f"shapes of the kind {kind} became the boxes around them"), place)
    if shape.get("score") is not None:
        columns.note("scores were dropped", place)
    add_box(columns, labels, picture, name, box, place, shape.get("difficult") is True)


def _corners(shape: dict[str, Any], kind: str) -> list[tuple[float, float]]:
    """Two opposite corners of the box around a shape, or all its points. ValueError for too few of them."""
    points = [_point(point) for point in shape["points"]]
    least = 2 if kind in ("rectangle", "circle", "mask") else 3
    if len(points) < least:
        raise ValueError(f"expected {least} points at least, found {len(points)}")
    if kind == "circle":
        (x, y), radius = points[0], dist(points[0], points[1])
        return [(x - radius, y - radius), (x + radius, y + radius)]
    if kind == "mask":  # its last pixel is inside
        x1, y1, x2, y2 = enclosing(points)
        return [(x1, y1), (x2 + 1, y2 + 1)]
    return points


def _point(point: Any) -> tuple[float, float]:
    x, y = (point["x"], point["y"]) if isinstance(point, dict) else point
    return number(x), number(y)
