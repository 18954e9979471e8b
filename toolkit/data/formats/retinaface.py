"""RetinaFace's label.txt: faces of WIDER FACE with five points."""

from __future__ import annotations

import re
from pathlib import Path

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.formats.adding import add_box, add_once, leave_out_all, number
from toolkit.data.formats.common import PictureFolder, is_picture
from toolkit.data.formats.shapes import Box
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.formats.text import numbered_lines
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_of_list
from toolkit.runtime import InputError, progress

_POINTS = 5


def read_retinaface(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """RetinaFace: after a line `# picture` one line a face, x y w h, five points x y flag where they are
    known, and how blurred it is (dropped). Where the line of the picture ends in its width and height, as
    SCRFD's lists have it, a face is x1 y1 x2 y2.

    All such lists below `path` are read, a picture is looked for in the list's folder first; the folder
    (train, val, test) or the name of a list gives the split. One class, "face"; keypoints (5) have visibility
    2, or 0 where the list has -1, and stay away where no face has one.
    """
    folder, files = files_of_kind(Path(path), "retinaface")
    if not files:
        raise InputError(f"{path} has no RetinaFace labels: expected label.txt with lines '# picture'")
    pictures = PictureFolder(Path(images) if images else folder)
    columns, seen = Columns(faults), set[str]()
    for name in files:
        near = "" if images else name.rpartition("/")[0]
        _read_list(columns, pictures, seen, folder / name, split_of_list(name), near)
    return columns.dataset(pictures.folder, ("face",), path)


def _read_list(
    columns: Columns, pictures: PictureFolder, seen: set[str], file: Path, split: str, near: str
) -> None:
    picture: int | None = None
    corners, started = False, False
    for line_number, line in progress(numbered_lines(file, columns.note), f"reading {file.name}"):
        place = f"{file}, line {line_number}"
        if line.startswith("#"):
            size = re.search(r"\s(\d+)\s+(\d+)$", line)
            name = (line[: size.start()] if size else line).lstrip("# \t")
            if not is_picture(name):
                columns.note("lines with # that name no picture were taken for remarks", place)
                continue
            corners, started = size is not None, True
            picture = add_once(columns, pictures, seen, name, split, place, 0, near=near)
        elif not started:
            columns.leave_out(
                "lines before the first picture", f"{place}: expected '# picture', found {line[:60]!r}"
            )
        elif picture is None:
            leave_out_all(columns, 1, place)
        elif (face := _face(line, corners)) is None:
            columns.leave_out("lines without a box", f"{place}: expected x y w h, found {line[:60]!r}")
        else:
            add_box(columns, {"face": 0}, picture, "face", face[0], place, keypoints=face[1])


def _face(line: str, corners: bool) -> tuple[Box, list[float]] | None:
    """The box xyxy and the points x, y, visibility, none where there are none; None for no face."""
    try:
        x, y, w, h, *rest = (number(field) for field in line.split())
    except ValueError:
        return None
    box = (x, y, w, h) if corners else (x, y, x + w, y + h)
    if len(rest) in (3 * _POINTS, 3 * _POINTS + 1):
        flat = [value for i in range(0, 3 * _POINTS, 3) for value in rest[i : i + 2]]
    elif len(rest) in (2 * _POINTS, 2 * _POINTS + 1):
        flat = rest[: 2 * _POINTS]
    else:
        return box, []
    points = list(zip(flat[::2], flat[1::2], strict=True))
    if all(x == y == -1 for x, y in points):
        return box, []
    return box, [v for x, y in points for v in ((0.0, 0.0, 0.0) if x == y == -1 else (x, y, 2.0))]
