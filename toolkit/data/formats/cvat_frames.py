"""The pictures that stand for the frames of a video in CVAT's XML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from toolkit.data.builder import Columns
from toolkit.data.formats.common import PictureFolder


@dataclass(frozen=True)
class Frames:
    """Pictures by the number of their frame; the recorded size, as text."""

    files: dict[int, str]
    width: str
    height: str

    @classmethod
    def of(cls, root: Element, pictures: PictureFolder, near: str, columns: Columns) -> Frames:
        """The frames of a file in the folder `near`: named by their numbers or, where the numbers are others
        and there are as many pictures as the task has frames, in their order."""
        names = [name for name in pictures.names if name.startswith(f"{near}/")] or pictures.names
        names = sorted(names, key=lambda name: [int(part) for part in re.findall(r"\d{1,18}", name)] or [0])
        numbered = {number: name for name in names if (number := _number(name)) is not None}
        shapes = [shape for shape in root.iter() if shape.get("outside") != "1"]
        used = {int(text) for shape in shapes if (text := shape.get("frame", "")).isdecimal()}
        size = _whole(root, "size")
        first, last = _whole(root, "start_frame") or 0, _whole(root, "stop_frame")
        from_one = 0 not in numbered and 1 in numbered and len(numbered) == size
        if len(numbered) == len(names) and used <= numbered.keys() and not (first == 0 and from_one):
            files = numbered
        elif size == len(names):
            columns.note(
                "pictures were taken as the video's frames in their order", names[0] if names else ""
            )
            files = dict(enumerate(names, first))
        else:
            files = numbered
        inside = {number: name for number, name in files.items() if last is None or number <= last}
        return cls(inside, _text(root, "width"), _text(root, "height"))


def _number(name: str) -> int | None:
    """The number at the end of a picture's name."""
    digits = re.search(r"(\d{1,18})$", name.rsplit("/", 1)[-1].rpartition(".")[0])
    return int(digits[1]) if digits else None


def _text(root: Element, tag: str) -> str:
    for meta in root.findall("meta"):
        for element in meta.iter(tag):
            return (element.text or "").strip()
    return ""


def _whole(root: Element, tag: str) -> int | None:
    text = _text(root, tag)
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None
