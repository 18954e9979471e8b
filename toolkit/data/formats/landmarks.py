"""Landmark lists (WFLW, 106 points) and cut out faces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.data.builder import Columns
from toolkit.data.class_names import shown
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.adding import LIMIT, in_order, leave_out_all, numbers, recorded_size
from toolkit.data.formats.common import PictureFolder, add_named_picture, list_files
from toolkit.data.formats.json_stream import stream_json
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.formats.text import numbered_lines, written
from toolkit.data.intake import Faults
from toolkit.data.reach import takes_neighbour
from toolkit.data.splitting import split_of_list, split_order
from toolkit.runtime import InputError, progress

_POINTS, _EXTRAS = (5, 68, 98, 106), (0, 4, 10)  # a WFLW line may end in a rectangle and six attributes


def read_landmarks(
    path: str | Path, images: str | Path | None = None, faults: Faults = "skip", points: int | None = None
) -> Dataset:
    """Lists of landmarks, one face a line: x0 y0 ... xk yk, a rectangle x1 y1 x2 y2 if there is one, six
    attributes if there are any (dropped), and the picture's name at the end or at the beginning (WFLW's
    `list_98pt_rect_attr_*.txt` and `list_98pt_*.txt`, 106-point lists).

    One class, "face"; keypoints are all visible (2); without a rectangle the box is the points' bounds. Lines
    of another number of points than the first has are left out.
    points: how many there are, where it is not 5, 68, 98 or 106. A folder's lists are all its `*.txt` of this
    kind, those with rectangles only if it has some. Pictures are anywhere below `images`, a folder of that
    kind next to the lists, or `path`.
    """
    path = Path(path)
    top, names = files_of_kind(path, "landmarks")
    if not names:  # its first line is at fault, or has a number of points that is not known
        names = list_files(top, lambda name: name.lower().endswith(".txt"))
    names = [name for name in names if "rect_attr" in name] or names
    if not names:
        raise InputError(f"{path} has no landmark lists: expected *.txt of points and pictures' names")
    order = split_order(map(split_of_list, names))
    bases = [top / "images", top / "WFLW_images"]
    if takes_neighbour(top.absolute().parent / "WFLW_images"):
        bases.append(top.parent / "WFLW_images")
    folder = Path(images) if images else next((base for base in bases if base.is_dir()), top)
    columns, pictures = Columns(faults), PictureFolder(folder)
    indices: dict[tuple[str, str], int | None] = {}
    for name in sorted(names, key=lambda name: order.index(split_of_list(name))):
        split = split_of_list(name)
        lines = numbered_lines(top / name, columns.note)
        layout = _layout([line for _, line in lines[:200]], points)
        if layout.where != "after":
            columns.note(f"rectangles were read {layout.words}", str(top / name))
        for number, line in progress(lines, f"reading {name}"):
            place = f"{top / name}, line {number}"
            try:
                picture_name, values, count = _landmark_line(line, points, place)
            except InputError as error:
                columns.leave_out("lines that are not points and a picture's name", str(error))
                continue
            if points is None:
                points = count
            key = (picture_name, split)
            if key not in indices:
                indices[key] = add_named_picture(columns, pictures, picture_name, split, place)
            picture = indices[key]
            if picture is None:
                leave_out_all(columns, 1, place)
            else:
                corners, coordinates = layout.parts(values, count)
                face = np.array(coordinates, np.float64).reshape(count, 2)
                if not corners:
                    columns.note("boxes are the bounds of the points: the list has no rectangles", place)
                x1, y1, x2, y2 = corners or _bounds(face)
                box = in_order(columns, (x1, y1, x2, y2), place)
                columns.add_box(picture, box, 0, keypoints=_visible(face))
    return columns.dataset(folder, ("face",), path)


@dataclass(frozen=True)
class _Layout:
    """Where a line has the rectangle."""

    where: str  # "after" the points, as WFLW has it; "before" them; "sides": before, as x1 x2 y1 y2

    @property
    def words(self) -> str:
        return "before the points" + (", as left, right, top, bottom" if self.where == "sides" else "")

    def parts(self, values: list[float], count: int) -> tuple[list[float], list[float]]:
        """(rectangle xyxy or nothing, coordinates of the points)"""
        if len(values) != 2 * count + 4 or self.where == "after":  # with attributes it is WFLW's
            return values[2 * count : 2 * count + 4], values[: 2 * count]
        a, b, c, d = values[:4]
        return ([a, c, b, d] if self.where == "sides" else [a, b, c, d]), values[4 : 4 + 2 * count]


def _layout(lines: Sequence[str], points: int | None) -> _Layout:
    """The layout in which the rectangles are around the points."""
    shares = []
    for layout in map(_Layout, ("after", "before", "sides")):
        inside = []
        for line in lines:
            with suppress(InputError):
                _, values, count = _landmark_line(line, points, "")
                corners, coordinates = layout.parts(values, count)
                if corners:
                    (x1, y1, x2, y2), face = corners, np.array(coordinates).reshape(-1, 2)
                    slack = 0.2 * max(abs(x2 - x1), abs(y2 - y1))
                    near = (face >= (x1 - slack, y1 - slack)) & (face <= (x2 + slack, y2 + slack))
                    inside.append(near.all(axis=1).mean() if x1 < x2 and y1 < y2 else 0.0)
        shares.append((float(np.mean(inside)) if inside else 0.0, layout))
    best = max(shares, key=lambda share: share[0])
    return best[1] if shares[0][0] < 0.5 < 0.8 < best[0] else shares[0][1]


def _bounds(face: NDArray[np.float64]) -> list[float]:
    """The box xyxy of points (k, 2)."""
    return [*face.min(axis=0).tolist(), *face.max(axis=0).tolist()]


def _visible(face: NDArray[np.float64]) -> list[float]:
    """x, y, 2, x, ... of points (k, 2)."""
    values: list[float] = np.concatenate((face, np.full((len(face), 1), 2.0)), axis=1).reshape(-1).tolist()
    return values


def _landmark_line(line: str, points: int | None, place: str) -> tuple[str, list[float], int]:
    """(picture name, numbers, number of points)"""
    fields = line.split()
    name_first = not re.fullmatch(r"[-+.\deE]+", fields[0])
    name, rest = (fields[0], fields[1:]) if name_first else (fields[-1], fields[:-1])
    for count in (points,) if points else _POINTS:
        if len(rest) - 2 * count in _EXTRAS:
            with suppress(ValueError):
                return name, numbers(rest), count
    raise InputError(
        f"{place}: expected the coordinates of {points or '5, 68, 98 or 106'} points and a picture's name, "
        f"found {len(rest)} fields: {shown(rest)}"
    )


def read_face_crops(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """Faces cut out of their pictures: `annotations.json`, a list of {"crop", "size", "landmarks98_crop"},
    and `crops/`. One face a crop, all of split "test"; the box is the points' bounds."""
    path = Path(path)
    file = path if path.is_file() else path / "annotations.json"
    if not file.is_file():
        raise InputError(f"{path} has no annotations.json of cut out faces")
    columns = Columns(faults)
    pictures = PictureFolder(Path(images) if images else file.parent / "crops")
    for i, (_, record) in enumerate(progress(stream_json(file), "reading crops"), 1):
        place = f"{file}, face {i}"
        try:
            name, size = str(record["crop"]), int(record["size"])
            face = np.array(record["landmarks98_crop"], np.float64).reshape(98, 2)
            if not (np.abs(face) < LIMIT).all():
                raise ValueError("a point that is not finite")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            columns.leave_out("faces without their 98 points", f"{place} is not as expected ({error!r})")
            continue
        picture = add_named_picture(columns, pictures, name, "test", place, recorded_size(size, size))
        if picture is None:
            leave_out_all(columns, 1, place)
        else:
            columns.add_box(picture, _bounds(face), 0, keypoints=_visible(face))
    return columns.dataset(pictures.folder, ("face",), path)


def write_landmarks(dataset: Dataset, folder: Path, link: bool) -> None:
    """`list_<k>pt_rect_attr_<split>.txt` as WFLW has it (attributes 0) and `images/`."""
    if dataset.keypoints is None or len(dataset.classes) != 1:
        raise InputError(f"a landmark list holds keypoints of one class: {dataset.root} has other labels")
    names = unique_names(dataset.files)
    if any(re.search(r"\s", name) for name in names):
        raise InputError("a landmark list cannot hold picture names with blanks: rename the pictures")
    place_pictures(dataset, folder / "images", names, link)
    points = dataset.keypoints[:, :, :2].reshape(len(dataset.labels), -1)
    for split in split_order(dataset.splits.tolist()):
        lines = [
            " ".join((*written(points[row]), *written(dataset.boxes[row]), *"000000", names[i])) + "\n"
            for i in np.flatnonzero(dataset.splits == split)
            for row in range(dataset.starts[i], dataset.starts[i + 1])
        ]
        target = folder / f"list_{dataset.keypoints.shape[1]}pt_rect_attr_{split or 'all'}.txt"
        target.write_text("".join(lines), encoding="utf-8")
