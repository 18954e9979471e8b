"""What files lie in a folder of labels, and what kind each of them is, from its first lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from toolkit.data.formats.box_lines import box_line
from toolkit.data.formats.coco_annotation import OTHER_TASKS
from toolkit.data.formats.common import is_picture, list_files
from toolkit.data.formats.json_stream import stream_json
from toolkit.data.formats.kitti import kitti_fields
from toolkit.data.formats.table_header import fields_of, layout
from toolkit.data.formats.text import are_numbers, check_label_file
from toolkit.data.splitting import SPLIT_WORDS
from toolkit.runtime import InputError
from toolkit.text import decode_text

LABEL_SUFFIXES = tuple(
    ".txt .xml .json .jsonl .ndjson .csv .tsv .yaml .yml .data .names .labels .pbtxt .mat .parquet .tfrecord "
    ".tfrecords .xls .xlsx".split()
)
_PLAIN_FOLDERS = {"images", "image", "labels", "jpegimages", "annotations", "imagesets", "data", "img", "ann"}
_DOCUMENTS = re.compile(
    r"readme|licen[cs]e|changelog|requirements|notice|citation|copying|import\.json$|label_config\.xml$", re.I
)
_NAME_FILES = re.compile(
    r"(.*\.names|.*\.labels|(.*_)?class(es)?(_names|_list)?\.txt|names\.txt|labels\.txt|labelmap\.txt)$", re.I
)
_SAMPLES = 12  # files of one suffix that are looked into
_HEAD = 1 << 16  # bytes of a file that are looked at


@dataclass(frozen=True)
class Survey:
    """The files below a folder, by what they seem to be."""

    top: Path
    pictures: tuple[str, ...]  # relative and sorted, as everything here
    labels: tuple[str, ...]  # files that may be labels
    others: tuple[str, ...]  # pictures of types that are not read
    imports: tuple[str, ...] = ()  # folders that an import has written

    def ending(self, *suffixes: str) -> list[str]:
        """Label files with one of these suffixes."""
        return [name for name in self.labels if name.lower().endswith(suffixes)]

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """Kind -> the files of it, of the first few of each suffix and each folder; "" is unknown."""
        kinds: dict[str, list[str]] = {}
        for name in self._samples():
            kinds.setdefault(kind_of(self.top / name), []).append(name)
        return kinds

    def _samples(self) -> Iterator[str]:
        """Some of the label files, from the top down, of each suffix."""
        for suffix in LABEL_SUFFIXES:
            names = sorted(self.ending(suffix), key=lambda name: (name.count("/"), name))
            filled = (name for name in names if _is_filled(self.top / name))
            spread = names[:: max(1, len(names) // _SAMPLES)]
            samples = [*islice(filled, _SAMPLES), *(name for name in spread if _is_filled(self.top / name))]
            yield from dict.fromkeys(samples or names[:_SAMPLES])

    def first(self, kind: str) -> str:
        """The first file of a kind, "" where there is none."""
        return next(iter(self.kinds.get(kind, [])), "")


def _is_filled(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:  # a link that leads nowhere
        return False


def survey(path: Path) -> Survey:
    """Look through a folder, or at one label file."""
    if path.is_file():
        return Survey(path.parent, (), (path.name,), ())
    pictures, labels, others = [], [], []
    imports: list[str] = []
    for name in list_files(path, lambda name: True, imports):
        last = name.rsplit("/", 1)[-1]
        if is_picture(last):
            pictures.append(name)
        elif last.lower().endswith(LABEL_SUFFIXES):
            if not _DOCUMENTS.match(last):
                labels.append(name)
        elif is_other_picture(last):
            others.append(name)
    return Survey(path, tuple(pictures), tuple(labels), tuple(others), tuple(sorted(imports)))


def is_names_file(name: str) -> bool:
    """Whether a file holds names of classes, by its own name."""
    return _NAME_FILES.match(name.rsplit("/", 1)[-1]) is not None


def is_other_picture(name: str) -> bool:
    """Whether a file name ends as a picture's of a type that is not read."""
    from toolkit.pictures import OTHER_PICTURE_SUFFIXES

    return os.path.splitext(name)[1].lower() in OTHER_PICTURE_SUFFIXES


def is_plain_folder(name: str) -> bool:
    """Whether a folder's name only says what is in it, or which split."""
    return name.lower() in _PLAIN_FOLDERS or name.lower() in SPLIT_WORDS


def dataset_top(path: Path) -> Path:
    """`path`, or the folder in it that has the data set, where it holds nothing else."""
    while path.is_dir():
        entries = [entry for entry in path.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
        entries = [entry for entry in entries if not _DOCUMENTS.match(entry.name)]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].is_symlink():
            break
        if is_plain_folder(entries[0].name):
            break
        path = entries[0]
    return path


def files_of_kind(path: Path, *kinds: str) -> tuple[Path, list[str]]:
    """The folder, and the label files below it that are of one of these kinds, relative and sorted; `path`
    may also be one file, which is taken whatever it seems to be."""
    if path.is_file():
        return path.parent, [path.name]
    return path, [name for name in survey(path).labels if kind_of(path / name) in kinds]


def kind_of(path: Path) -> str:
    """The kind of one label file, "" where it is unknown.

    coco, label-studio, labelme, createml, via, fiftyone, face-crops; voc, cvat; yolo-lines, kitti, widerface,
    widerface-bare, retinaface, landmarks, picture-list, names; table; settings (yaml or .data).
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return "" if path.name.startswith(OTHER_TASKS) else _json_kind(path)
        check_label_file(path)
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if suffix in (".names", ".labels"):
            return "names"
        if suffix == ".mat":
            return ""
        if len(head) == _HEAD:  # a cut in a line, or in a character
            head = head[: head.rfind(b"\n") + 1] or head
        text, _ = decode_text(head)
    except (OSError, UnicodeError, InputError):
        return ""
    if suffix == ".xml":
        return _xml_kind(text)
    if suffix in (".yaml", ".yml"):
        return "settings" if re.search(r"""^[\s{]*["']?(names|train|val|nc)["']?\s*:""", text, re.M) else ""
    if suffix == ".data":
        return "settings" if re.search(r"^\s*(classes|names|train|valid)\b", text, re.M) else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if suffix in (".csv", ".tsv"):
        return _csv_kind(lines)
    return _txt_kind(lines) or ("names" if is_names_file(path.name) else "")


def _json_kind(path: Path) -> str:
    for key, value in islice(stream_json(path), 2000):
        if key in ("images", "annotations"):  # Label Studio's notes.json has categories only
            return "coco"
        if key in ("shapes", "imagePath"):
            return "labelme"
        if key.startswith("_via_") or (isinstance(value, dict) and {"filename", "regions"} <= value.keys()):
            return "via"
        if key == "project" and isinstance(value, dict) and "vid_list" in value:  # version 3
            return "via"
        if key == "samples" or (key == "labels" and isinstance(value, dict)):
            return "fiftyone"
        if key == "":
            return _list_kind(value)
    return ""


def _list_kind(value: object) -> str:
    """The kind of a JSON list, by its first element."""
    if not isinstance(value, dict):
        return ""
    keys = value.keys()
    if "crop" in keys:
        return "face-crops"
    if "data" in keys or "annotation_id" in keys:
        return "label-studio"
    if keys & {"annotations", "annotation"} and keys & {"image", "imagefilename", "imageFilename"}:
        return "createml"
    return "label-studio" if "image" in keys or "annotations" in keys else ""


def _xml_kind(text: str) -> str:
    root = re.search(r"<([A-Za-z_][\w.-]*)", re.sub(r"<[?!].*?>", "", text[:8192], flags=re.S))
    name = root[1] if root else ""
    if name == "annotations":
        return "cvat" if re.search(r"<(image|track|meta)\b", text) else ""
    return "voc" if name == "annotation" else ""


def _csv_kind(lines: list[str]) -> str:
    fields = fields_of(next((line for line in lines if not re.fullmatch(r"sep=.", line)), ""))
    header = {field.strip("#").lower() for field in fields}
    if "region_shape_attributes" in header:
        return "via"
    if {"annotation_id", "annotator"} <= header:
        return "label-studio"
    return "table" if layout(fields) else ""


def _txt_kind(lines: list[str]) -> str:
    if not lines:
        return ""
    lines = lines[:200]
    first = lines[0].split()
    counted = len(lines) > 1 and lines[1].isdigit()  # WIDER FACE's list of a picture called #...
    name = " ".join(first).rstrip("0123456789 ")  # SCRFD's lists have the size behind it
    if lines[0].startswith("#") and (is_picture(name) or is_picture(lines[0])) and not counted:
        return "retinaface"
    if first and are_numbers(first):
        return "yolo-lines" if len(first) >= 5 else ""
    if any(map(box_line, lines)):
        return "table"
    if kitti_fields(lines[0]):
        return "kitti"
    ends = is_picture(first[0]) or is_picture(first[-1])
    if ends and len(first) >= 11 and are_numbers(first[1:-1]):
        return "landmarks"
    if kind := _face_list_kind(lines):
        return kind
    if layout(fields_of(lines[0])):
        return "table"
    return ""


def _face_list_kind(lines: list[str]) -> str:
    """The kind of a list in which a picture's name has a line of its own."""
    counts = [line.isdigit() for line in lines]
    faces = [len(line.split()) >= 4 and are_numbers(line.split()) for line in lines]
    if counts[1:2] == [True] and (is_picture(lines[0]) or faces[2:3] == [True]):
        return "widerface"
    if is_picture(lines[0]):
        return "widerface" if any(counts) else "widerface-bare" if any(faces) else "picture-list"
    return ""
