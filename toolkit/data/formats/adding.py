"""Numbers and boxes of labels, checked on their way into the columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset, match_classes
from toolkit.data.formats.common import PictureFolder, add_named_picture
from toolkit.data.formats.shapes import Box
from toolkit.data.splitting import split_of_folders

LIMIT = 1e7  # px; no picture is larger


def number(value: object) -> float:
    """A number of any type that labels have, also as text and with a decimal comma.

    >>> number(" 1,5 ")
    1.5

    Raises:
        ValueError: it is none, or not finite, or beyond every picture.
    """
    if isinstance(value, str):
        value = value.strip()
        value = value.replace(",", ".") if value.count(",") == 1 and "." not in value else value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number")
    try:
        result = float(value)
    except OverflowError:
        result = float("inf")
    if not abs(result) < LIMIT:
        raise ValueError(f"{value!r} is not a coordinate")
    return result


def numbers(values: Iterable[Any]) -> list[float]:
    """As `number` for many, of numbers and texts as Python has them; ValueError or TypeError for others."""
    result = [float(value) for value in values]
    if not all(abs(value) < LIMIT for value in result):
        raise ValueError("numbers that are not coordinates")
    return result


def recorded_size(width: object, height: object) -> tuple[int, int]:
    """(width, height) as labels record it; (0, 0), not recorded, where it is not two positive numbers."""
    try:
        size = int(number(width)), int(number(height))
    except ValueError:
        return 0, 0
    return size if min(size) > 0 else (0, 0)


def in_order(columns: Columns, box: Box, place: object) -> Box:
    """The box with its corners in their order, which a note says; for the doctor ("keep") as it is."""
    x1, y1, x2, y2 = box
    if columns.faults == "keep" or (x1 <= x2 and y1 <= y2):
        return box
    columns.note("corners in the wrong order were exchanged", str(place))
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def add_box(
    columns: Columns,
    labels: dict[str, int],
    picture: int,
    name: str,
    box: Box,
    place: object,
    ignore: bool = False,
    **more: Any,
) -> None:
    """Add a box of class `name`, which gets a number in `labels` with its first box.

    Corners in the wrong order are exchanged, and a box without an area is left out; both are kept as they are
    for the doctor (`columns.faults` "keep").

    Args:
        columns: where to add it.
        labels: numbers of the classes so far.
        picture: its index in `columns`.
        name: its class.
        box: xyxy px, finite.
        place: file and place in it, for the sentences.
        ignore: as in `Dataset.ignore`.
        more: `crowd`, `box_id`, `keypoints`, as in `Columns.add_box`.
    """
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2) and columns.faults != "keep":
        if x1 == x2 or y1 == y2:
            columns.leave_out(
                "boxes without an area", f"{place}: the {name} at {x1:g} {y1:g} {x2:g} {y2:g} has no area"
            )
            return
        box = in_order(columns, box, place)
    columns.add_box(picture, box, labels.setdefault(name, len(labels)), ignore=ignore, **more)


def with_classes(
    columns: Columns, root: Path, labels: Mapping[str, int], source: str | Path, listed: Iterable[str] = ()
) -> Dataset:
    """The finished data set of labels that came by name.

    Args:
        columns: its pictures and boxes.
        root: the folder that the pictures' names are relative to.
        labels: the number of each class in `columns`.
        source: what was read, for the sentences.
        listed: the classes of a list, which come first and in its order; the others are sorted.
    """
    first = list(dict.fromkeys(listed))
    dataset = columns.dataset(root, tuple(labels), source)
    return match_classes(dataset, [*first, *sorted(labels.keys() - set(first))], "keep")


def leave_out_all(columns: Columns, count: int, place: object) -> None:
    """Count the labels of a picture that did not come in."""
    if count:
        columns.leave_out(
            "boxes of pictures that did not come in", f"{place}: its picture did not come in", count
        )


def add_once(
    columns: Columns,
    pictures: PictureFolder,
    seen: set[str],
    name: str,
    split: str,
    place: str,
    count: int,
    size: tuple[int, int] = (0, 0),
    near: str = "",
) -> int | None:
    """As `add_named_picture`, where several label files may name a picture: the first counts.

    Args:
        columns, pictures, name, split, place, size, near: as there; without a split that of the picture's
            folders is taken.
        seen: the pictures so far; this one is added.
        count: its labels, to be counted where it does not come in.
    """
    file = pictures.find(name, near)
    if file is not None and file in seen:
        if count:
            columns.leave_out(
                "boxes of pictures that came in before",
                f"{place}: {file} came in before, with other labels",
                count,
            )
        return None
    picture = add_named_picture(columns, pictures, name, split, place, size, near)
    if picture is None:
        leave_out_all(columns, count, place)
        return None
    seen.add(columns.files[picture])
    columns.splits[picture] = split or split_of_folders(columns.files[picture])
    return picture
