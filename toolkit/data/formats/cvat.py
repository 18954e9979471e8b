"""CVAT's own XML, for images and for videos, version 1.1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import radians
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.adding import add_box, add_once, leave_out_all, number, recorded_size, with_classes
from toolkit.data.formats.common import PictureFolder, filled_sizes
from toolkit.data.formats.cvat_frames import Frames
from toolkit.data.formats.shapes import Box, enclosing, turned, turned_ellipse
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.formats.text import written, xml_root
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_of, split_of_list
from toolkit.runtime import InputError, progress

_BECAME = "became the upright boxes around them"
_WITHOUT_BOX = {
    "points": "points without a box",
    "polyline": "lines without a box",
    "tag": "tags of whole pictures",
}
_SHAPES = {"box", "polygon", "ellipse", "mask", "cuboid", "skeleton", *_WITHOUT_BOX}


def read_cvat(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """CVAT for images 1.1 and CVAT for video 1.1, one file or all below a folder.

    Rotated boxes, polygons, ellipses, masks, cuboids and skeletons become the upright boxes around them;
    points, polylines and tags are left out and counted, and so are attributes. A project's subset is the
    split, otherwise the file's or the picture's folder gives it. Classes are in the order of the task's
    labels. Frames of a video are pictures named by their number, as CVAT exports them
    (`frame_000000.jpg`); a shape that is outside in a frame is not there. Pictures that no file names stay
    outside.
    """
    folder, files = files_of_kind(Path(path), "cvat")
    if not files:
        raise InputError(f"{path} has no CVAT labels: expected .xml with <annotations>")
    reading = _Reading(Columns(faults), PictureFolder(Path(images or folder)))
    for name in files:
        near = "" if images else name.rpartition("/")[0]
        try:
            root = xml_root(folder / name, reading.columns.note)
            if root.tag != "annotations":
                raise InputError(f"{folder / name} is not CVAT's: expected <annotations>, found <{root.tag}>")
        except InputError as error:
            reading.columns.leave_out("label files that cannot be read", str(error))
            continue
        reading.names.extend(_label_names(root))
        split = split_of_list(name)
        for image in progress(root.findall("image"), f"reading {name}"):
            _add_image(reading, image, split, folder / name, near)
        if root.find("track") is not None:
            _add_video(reading, root, split, folder / name, near)
    return with_classes(reading.columns, reading.pictures.folder, reading.labels, path, reading.names)


@dataclass(frozen=True)
class _Reading:
    """What the files have given so far."""

    columns: Columns
    pictures: PictureFolder
    labels: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # of the tasks' labels, in their order
    seen: set[str] = field(default_factory=set)


def _label_names(root: Element) -> list[str]:
    """Names of the task's labels, without the points of skeletons."""
    labels = [label for meta in root.findall("meta") for label in meta.iter("label")]
    names = [(label.findtext("name") or "").strip() for label in labels if label.find("parent") is None]
    return [name for name in names if name]


def _add_image(reading: _Reading, image: Element, split: str, file: Path, near: str) -> None:
    name, subset = image.get("name", "").strip(), image.get("subset", "").strip()
    place = f"{file}, image {image.get('id', name)}"
    shapes = [shape for shape in image if isinstance(shape.tag, str)]
    if not name:
        reading.columns.leave_out("pictures without a name", f"{place}: expected name", max(1, len(shapes)))
        return
    split = split_of(subset) if subset else split
    # A project keeps the pictures of each subset in a folder of its name.
    below = f"{subset}/{name}"
    name = below if subset and reading.pictures.find(below, near) else name
    size = recorded_size(image.get("width"), image.get("height"))
    count = len(shapes)
    picture = add_once(reading.columns, reading.pictures, reading.seen, name, split, place, count, size, near)
    if picture is not None:
        for shape in shapes:
            _add_shape(reading, picture, shape, shape.get("label", ""), place)


def _add_video(reading: _Reading, root: Element, split: str, file: Path, near: str) -> None:
    """Tracks: the shapes of a frame are spread over all of them."""
    columns = reading.columns
    by_frame: dict[int, list[tuple[Element, str]]] = {}
    for track in root.findall("track"):
        for shape in track:
            if shape.get("outside") == "1":
                continue
            try:
                frame = int(number(shape.get("frame", "")))
            except ValueError:
                sentence = f"{file}, track {track.get('id')}: a <{shape.tag}> of frame {shape.get('frame')!r}"
                columns.leave_out("shapes without a frame", sentence)
                continue
            by_frame.setdefault(frame, []).append((shape, track.get("label", "")))
    frames = Frames.of(root, reading.pictures, near, columns)
    size = recorded_size(frames.width, frames.height)
    for frame in sorted(frames.files.keys() | by_frame.keys()):
        shapes = by_frame.get(frame, [])
        place = f"{file}, frame {frame}"
        if frame not in frames.files:
            leave_out_all(columns, len(shapes), place)
            continue
        name = frames.files[frame]
        picture = add_once(columns, reading.pictures, reading.seen, name, split, place, len(shapes), size)
        if picture is not None:
            for shape, label in shapes:
                _add_shape(reading, picture, shape, label, place)


def _add_shape(reading: _Reading, picture: int, shape: Element, label: str, place: str) -> None:
    columns = reading.columns
    kind, label = str(shape.tag), label.strip()
    if kind in _WITHOUT_BOX or kind not in _SHAPES:
        columns.leave_out(
            _WITHOUT_BOX.get(kind, f"shapes of the kind {kind}"), f"{place}: a <{kind}> has no box"
        )
        return
    if not label:
        columns.leave_out("shapes without a class", f"{place}: a <{kind}> has no label")
        return
    try:
        box, note = _box_of(shape)
    except (TypeError, ValueError) as error:
        columns.leave_out("shapes of odd numbers", f"{place}: the <{kind}> {label}: {error}")
        return
    if note:
        columns.note(f"{note} {_BECAME}", place)
    add_box(columns, reading.labels, picture, label, box, place)


def _box_of(shape: Element) -> tuple[Box, str]:
    """xyxy around a shape, and what it is where it is no box; ValueError or TypeError for odd numbers."""

    def value(name: str, default: str | None = None) -> float:
        return number(shape.get(name, default))

    angle = radians(value("rotation", "0"))
    if shape.tag == "box":
        box = value("xtl"), value("ytl"), value("xbr"), value("ybr")
        if not angle:
            return box, ""
        x1, y1, x2, y2 = box
        return turned((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, angle), "rotated boxes"
    if shape.tag == "ellipse":
        return turned_ellipse(value("cx"), value("cy"), value("rx"), value("ry"), angle), "ellipses"
    if shape.tag == "mask":
        x, y = value("left"), value("top")
        return (x, y, x + value("width"), y + value("height")), "masks"
    if shape.tag == "cuboid":
        xs = sorted(name for name in shape.attrib if name.startswith("x"))
        return _around([(value(name), value(f"y{name[1:]}")) for name in xs]), "cuboids"
    if shape.tag == "skeleton":
        visible = [part for part in shape.iter("points") if part.get("outside") != "1"]
        return _around([point for part in visible for point in _points(part)], 2), "skeletons"
    return _around(_points(shape)), "polygons"


def _points(shape: Element) -> list[tuple[float, float]]:
    """Points as CVAT writes them, x,y;x,y."""
    pairs = (text.split(",") for text in shape.get("points", "").split(";") if text.strip())
    return [(number(x), number(y)) for x, y in pairs]


def _around(points: Iterable[tuple[float, float]], least: int = 3) -> Box:
    points = list(points)
    if len(points) < least:
        raise ValueError(f"expected {least} points at least, found {len(points)}")
    return enclosing(points)


def write_cvat(dataset: Dataset, folder: Path, link: bool) -> None:
    """CVAT for images 1.1: `annotations.xml`, which CVAT takes under "Upload annotations" of a task that was
    made of the pictures beside it and has these labels. It cannot hold identifiers, `ignore` and crowds."""
    dataset = filled_sizes(dataset)
    names = unique_names(dataset.files)
    place_pictures(dataset, folder, names, link)
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name in dataset.classes:
        SubElement(SubElement(labels, "label"), "name").text = name
    for i, name in enumerate(progress(names, "writing CVAT")):
        width, height = map(str, dataset.sizes[i].tolist())
        image = SubElement(root, "image", id=str(i), name=name, width=width, height=height)
        if split := str(dataset.splits[i]):
            image.set("subset", split)
        rows = dataset.rows(i)
        for corners, label in zip(written(dataset.boxes[rows]), dataset.labels[rows], strict=True):
            places = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(str, corners), strict=True))
            SubElement(image, "box", {"label": dataset.classes[label], "occluded": "0", **places})
    ElementTree(root).write(folder / "annotations.xml", encoding="utf-8", xml_declaration=True)
