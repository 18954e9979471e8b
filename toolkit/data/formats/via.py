"""VGG Image Annotator: projects, and its exports as JSON and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.formats.adding import add_box, add_once, number, with_classes
from toolkit.data.formats.common import PictureFolder
from toolkit.data.formats.shapes import Box, enclosing, turned_ellipse
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.formats.text import read_json, read_text
from toolkit.data.formats.via3 import from_version_3
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_of_list
from toolkit.runtime import InputError, progress

_CLASS_WORDS = ("class", "label", "category", "name", "object", "type")
_LISTS = ("dropdown", "radio", "checkbox")
_WITHOUT_BOX = {
    "point": "points without a box",
    "polyline": "lines without a box",
    "line": "lines without a box",
}
_NO_CLASS = "object"  # where no region has any attribute
_AROUND = {
    "circle": "circles became the boxes around them",
    "ellipse": "ellipses became the boxes around them",
    "polygon": "polygons became the boxes around them",
}


@dataclass
class _Entry:
    """A picture of a file, with its regions as VIA 2 writes them."""

    file: str  # relative
    picture: str
    regions: list[Any]


def read_via(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """VGG Image Annotator, versions 1 to 3: projects, and regions as JSON or CSV (1 and 2).

    The class is the attribute that most regions have (`class`, `label`, ... or one with a list of values
    where several do), a box for each value that is ticked; where no region has any, the class is "object".
    Circles, ellipses and polygons become the boxes around them; points and lines are left out and counted.
    Classes are in the order of the attribute's values, otherwise sorted. The folder or name of a file (train,
    val) or the picture's folder gives the split. Pictures that no file names stay outside.
    """
    folder, names = files_of_kind(Path(path), "via")
    if not names:
        raise InputError(f"{path} has no labels of VGG Image Annotator: expected .json or .csv with regions")
    columns, labels = Columns(faults), dict[str, int]()
    entries: list[_Entry] = []
    settings: dict[str, Any] = {}  # of the attributes, by name
    for name in sorted(names, key=lambda name: ("project" not in name.rsplit("/", 1)[-1].lower(), name)):
        try:
            entries += _entries(folder, name, settings, columns)
        except InputError as error:
            columns.leave_out("label files that cannot be read", str(error))
    attribute = _class_attribute(entries, settings, columns)
    options = _options(settings.get(attribute))
    pictures, seen = PictureFolder(Path(images or folder)), set[str]()
    for entry in progress(_distinct(entries, columns), "reading VIA"):
        place, split = f"{folder / entry.file}, {entry.picture}", split_of_list(entry.file)
        near, count = "" if images else entry.file.rpartition("/")[0], len(entry.regions)
        picture = add_once(columns, pictures, seen, entry.picture, split, place, count, near=near)
        if picture is None:
            continue
        for region in entry.regions:
            _add_region(columns, labels, picture, region, attribute, options, place)
    return with_classes(columns, pictures.folder, labels, path, options.values())


def _entries(folder: Path, name: str, settings: dict[str, Any], columns: Columns) -> list[_Entry]:
    """What one file says of pictures; the settings of its attributes are added to `settings`."""
    if name.lower().endswith(".csv"):
        return _entries_of_csv(folder, name, columns)
    content = read_json(folder / name, columns.note)
    if isinstance(content, dict) and "_via_img_metadata" in content:
        described = content.get("_via_attributes")
        of_regions = described.get("region") if isinstance(described, dict) else None
        settings.update(of_regions if isinstance(of_regions, dict) else {})
        content = content["_via_img_metadata"]
    elif isinstance(content, dict) and isinstance(content.get("metadata"), dict) and "view" in content:
        return [_Entry(name, picture, regions) for picture, regions in from_version_3(content).items()]
    if not isinstance(content, dict):
        raise InputError(
            f"{folder / name} is not as VGG Image Annotator has it: expected an object of pictures"
        )
    entries = []
    for key, value in content.items():
        if not isinstance(value, dict) or not isinstance(value.get("filename"), str):
            columns.leave_out("pictures without a name", f"{folder / name}: {key[:80]!r} has no filename")
            continue
        regions = value.get("regions") or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # version 1
        entries.append(_Entry(name, value["filename"], regions if isinstance(regions, list) else [regions]))
    return entries


def _entries_of_csv(folder: Path, name: str, columns: Columns) -> list[_Entry]:
    """A row a region; a picture without regions has a row of its own."""
    text = StringIO(read_text(folder / name, columns.note).lstrip("#\ufeff "), newline="")
    entries: dict[str, _Entry] = {}
    try:
        for i, row in enumerate(csv.DictReader(text), 2):
            values = {(key or "").strip(): value for key, value in row.items()}
            picture = values.get("filename")
            if not picture:
                columns.leave_out(
                    "pictures without a name", f"{folder / name}, line {i}: expected a filename"
                )
                continue
            entry = entries.setdefault(picture, _Entry(name, picture, []))
            parts = {key: _parsed(values.get(f"region_{key}")) for key in ("shape_attributes", "attributes")}
            if parts["shape_attributes"] != {}:
                shape, others = parts.values()
                entry.regions.append({"shape_attributes": shape, "region_attributes": others})
    except csv.Error as error:
        raise InputError(f"{folder / name} is not a table: {error}") from None
    return list(entries.values())


def _parsed(text: object) -> Any:
    """The JSON in a field; the text itself where it is none."""
    if not text:
        return {}
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError):
        return text


def _distinct(entries: list[_Entry], columns: Columns) -> list[_Entry]:
    """Without those that repeat what another says of a picture, or say nothing where another has regions: a
    project is often beside its exports."""
    by_picture: dict[tuple[str, str], list[_Entry]] = {}
    for entry in entries:
        earlier = by_picture.setdefault((entry.file.rpartition("/")[0], entry.picture), [])
        if any(other.regions == entry.regions for other in earlier):
            columns.note("files that repeat what others have were not counted again", entry.file)
        else:
            earlier.append(entry)
    groups = by_picture.values()
    return [entry for group in groups for entry in group if entry.regions or len(group) == 1]


def _class_attribute(entries: list[_Entry], settings: Mapping[str, Any], columns: Columns) -> str:
    """The attribute that most regions have a value of; of several the one that is called for a class, has a
    list of values, or has the fewest different ones. "" where no region has any."""
    values: dict[str, list[str]] = {}
    for entry in entries:
        for region in entry.regions:
            attributes = region.get("region_attributes") if isinstance(region, dict) else None
            for name, value in attributes.items() if isinstance(attributes, dict) else ():
                values.setdefault(name, []).extend([json.dumps(value)] if _ticked(value) else [])

    def rank(name: str) -> tuple[int, bool, bool, int]:
        kind = settings[name].get("type") if isinstance(settings.get(name), dict) else ""
        different = len(set(values[name]))
        return len(values[name]), name.casefold() in _CLASS_WORDS, kind in _LISTS, -different

    used = [name for name in values if values[name]]
    if not used:
        if any(entry.regions for entry in entries):
            columns.note(f"no region has an attribute: all are of the class {_NO_CLASS!r}")
        return ""
    best = max(used, key=rank)
    if len(used) > 1:
        others = ", ".join(repr(name) for name in used if name != best)
        columns.note(f"the attribute {best!r} of the regions was taken as the class, and {others} dropped")
    return best


def _ticked(value: object) -> list[str]:
    """The values of an attribute: a text, or those that are ticked of several."""
    if isinstance(value, dict):
        return [str(key).strip() for key, on in value.items() if on in (True, "true", 1)]
    texts = value if isinstance(value, list) else [value]
    return [str(text).strip() for text in texts if text is not None and str(text).strip()]


def _options(settings: object) -> dict[str, str]:
    """The values that an attribute may have -> their names: numbers stand for their description."""
    options = settings.get("options") if isinstance(settings, dict) else None
    if not isinstance(options, dict):
        return {}
    texts = {str(key).strip(): str(text or "").strip() for key, text in options.items()}
    return {key: text if key.isdigit() and text else key for key, text in texts.items() if key}


def _add_region(
    columns: Columns,
    labels: dict[str, int],
    picture: int,
    region: Any,
    attribute: str,
    options: Mapping[str, str],
    place: str,
) -> None:
    try:
        shape, attributes = region["shape_attributes"], region.get("region_attributes")
        kind = str(shape["name"])
        values = _ticked(attributes.get(attribute)) if attribute and attributes else []
        if kind in _WITHOUT_BOX:
            columns.leave_out(_WITHOUT_BOX[kind], f"{place}: a {kind} has no box")
            return
        box = _box_of(kind, shape)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        sentence = f"{place}: expected a shape, found {str(region)[:80]} ({error!r})"
        columns.leave_out("regions of odd shapes", sentence)
        return
    if attribute and not values:
        columns.leave_out("regions without a class", f"{place}: a {kind} has no value of {attribute!r}")
        return
    if kind in _AROUND:
        columns.note(_AROUND[kind], place)
    if len(values) > 1:
        columns.note("a region of several classes became a box for each", place)
    for value in values or [_NO_CLASS]:
        add_box(columns, labels, picture, options.get(value, value), box, place)


def _box_of(kind: str, shape: Mapping[str, Any]) -> Box:
    """xyxy around a shape; KeyError, TypeError or ValueError where it is none."""
    if kind.endswith("rect"):
        x, y = number(shape["x"]), number(shape["y"])
        return x, y, x + number(shape["width"]), y + number(shape["height"])
    if kind == "polygon":
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        if len(xs) < 3:
            raise ValueError(f"expected 3 points at least, found {len(xs)}")
        return enclosing((number(x), number(y)) for x, y in zip(xs, ys, strict=True))
    cx, cy = number(shape["cx"]), number(shape["cy"])
    if kind.endswith("circle"):
        return turned_ellipse(cx, cy, number(shape["r"]), number(shape["r"]), 0)
    if kind == "ellipse":
        return turned_ellipse(
            cx, cy, number(shape["rx"]), number(shape["ry"]), number(shape.get("theta") or 0)
        )
    raise ValueError(f"the shape {kind!r}")
