"""Projects of VGG Image Annotator 3, in the words of version 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Numbers that stand for shapes, and what their coordinates are called in version 2.
_SHAPES: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("point", ("cx", "cy")),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
    5: ("line", ()),
    6: ("polyline", ()),
    7: ("polygon", ()),
    8: ("rect", ("x", "y", "width", "height")),
    9: ("circle", ("cx", "cy", "r")),
}


def from_version_3(project: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The regions of every picture as version 2 has them; what cannot be read is a region without a shape."""
    files = dict(_objects(project.get("file")))
    names: dict[str, str] = {}
    for view, values in _objects(project.get("view")):
        numbers = values.get("fid_list")
        name = files.get(str(numbers[0]), {}).get("fname") if isinstance(numbers, list) and numbers else None
        if isinstance(name, str):
            names[view] = name
    regions: dict[str, list[Any]] = {name: [] for name in names.values()}
    attributes = dict(_objects(project.get("attribute")))
    for key, values in _objects(project.get("metadata")):
        if not values.get("xy"):
            continue  # a value of the whole picture
        name = names.get(str(values.get("vid")), f"view {values.get('vid')} of {key}")
        regions.setdefault(name, []).append(
            {
                "shape_attributes": _shape(values["xy"]),
                "region_attributes": _values(values.get("av"), attributes),
            }
        )
    return regions


def _objects(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """The objects in an object."""
    items = value.items() if isinstance(value, dict) else ()
    return [(key, each) for key, each in items if isinstance(each, dict)]


def _shape(numbers: Any) -> dict[str, Any]:
    try:
        kind, names = _SHAPES[int(numbers[0])]
        rest = list(numbers[1:])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return {}
    if kind == "polygon":
        return {"name": kind, "all_points_x": rest[::2], "all_points_y": rest[1::2]}
    return {"name": kind, **dict(zip(names, rest, strict=False))}


def _values(chosen: Any, attributes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Attribute -> value or, for one of several, the texts that are chosen."""
    values: dict[str, Any] = {}
    for key, value in chosen.items() if isinstance(chosen, dict) else ():
        attribute = attributes.get(key, {})
        options = attribute.get("options")
        name = str(attribute.get("aname") or key)
        if isinstance(options, dict) and options:
            texts = [str(options.get(part.strip(), part)) for part in str(value).split(",")]
            values[name] = [text for text in texts if text]
        else:
            values[name] = value
    return values
