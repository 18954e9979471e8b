"""FiftyOne's own exports: FiftyOneImageDetectionDataset and FiftyOneDataset, read without FiftyOne."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.data.builder import Columns
from toolkit.data.class_names import shown
from toolkit.data.dataset import Dataset
from toolkit.data.formats.adding import add_box, add_once, number, recorded_size, with_classes
from toolkit.data.formats.common import PictureFolder
from toolkit.data.formats.json_stream import stream_json
from toolkit.data.formats.shapes import Box, enclosing
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.intake import Faults
from toolkit.data.splitting import SPLIT_WORDS, split_of_list
from toolkit.runtime import InputError, progress

_BOXES = {"Detections": "detections", "Detection": "", "Polylines": "polylines", "Polyline": ""}
_OTHERS = {
    "Classification": "classifications",
    "Classifications": "classifications",
    "Keypoint": "key points",
    "Keypoints": "key points",
    "Segmentation": "segmentations",
    "Heatmap": "heatmaps",
    "Regression": "regressions",
    "GeoLocation": "places",
    "GeoLocations": "places",
    "TemporalDetection": "events in videos",
    "TemporalDetections": "events in videos",
}


def read_fiftyone(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """FiftyOneImageDetectionDataset (labels.json: {"classes", "labels": {name: [...]}}) and FiftyOneDataset
    (samples.json and metadata.json), with the pictures anywhere below the folder.

    Of a FiftyOneDataset one field counts: `ground_truth` where it has boxes, otherwise the one with the most,
    those with scores last; a note names the others. Polylines become the boxes around them; instance masks
    and scores are dropped, labels without a box are left out. A tag train, val or test is the split,
    otherwise the folder. Classes are in the order of the export where it has one, otherwise sorted.
    """
    folder, files = files_of_kind(Path(path), "fiftyone")
    if not files:
        raise InputError(f"{path} has no labels of FiftyOne: expected labels.json or samples.json")
    columns = Columns(faults)
    boxes = _Boxes(columns, PictureFolder(Path(images) if images else folder))
    for name in files:
        near = "" if images else name.rpartition("/")[0]
        boxes.add_file(folder / name, split_of_list(name), near)
    return with_classes(columns, boxes.pictures.folder, boxes.labels, path, boxes.classes)


@dataclass
class _Boxes:
    """Labels of all files on their way into the columns."""

    columns: Columns
    pictures: PictureFolder
    labels: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)  # the pictures so far
    classes: list[str] = field(default_factory=list)  # as the exports list them

    def add_file(self, file: Path, split: str, near: str) -> None:
        """Add what a labels.json or a samples.json has."""
        names: list[Any] = []
        chosen = ""
        for key, value in progress(stream_json(file), f"reading {file.name}"):
            if key == "classes" and value is not None:
                names.append(value)
            elif key == "labels" and isinstance(value, dict):
                for name, labels in value.items():
                    self._add_picture(name, (0, 0), split, near, f"{file}, {name!r}", labels, names)
                self.classes += map(str, names)
            elif key == "samples":
                if not chosen:
                    chosen = self._choose_field(file)
                    self.classes += _listed_classes(file.with_name("metadata.json"), chosen)
                self._add_sample(value, chosen, split, near, file)

    def _choose_field(self, file: Path) -> str:
        """The field of the samples whose boxes are read, "-" where none has any."""
        counts: Counter[str] = Counter()
        scored: Counter[str] = Counter()
        for key, sample in stream_json(file):
            for name, value in sample.items() if key == "samples" and isinstance(sample, dict) else ():
                if isinstance(value, dict) and str(value.get("_cls")) in _BOXES:
                    labels = _labels_of(value)
                    counts[name] += len(labels)
                    scored[name] += any(isinstance(each, dict) and _is_scored(each) for each in labels)
        if not counts:
            return "-"
        chosen = max(
            counts,
            key=lambda name: (bool(counts[name]), name == "ground_truth", not scored[name], counts[name]),
        )
        others = [f"{name} ({count})" for name, count in counts.items() if name != chosen and count]
        if others:
            self.columns.note(
                f"the boxes of the field {chosen!r} were read; others: {shown(others)}", file.name
            )
        return chosen

    def _add_sample(self, sample: Any, chosen: str, split: str, near: str, file: Path) -> None:
        columns = self.columns
        if not isinstance(sample, dict) or not isinstance(sample.get("filepath"), str):
            columns.leave_out(
                "samples without a picture", f"{file}: a sample has no filepath: {str(sample)[:80]}"
            )
            return
        name = sample["filepath"]
        place = f"{file}, {name!r}"
        for value in sample.values():
            if isinstance(value, dict) and (kind := _OTHERS.get(str(value.get("_cls")))):
                columns.leave_out(kind, f"{place}: {kind} have no box", max(1, len(_labels_of(value))))
        tags = sample.get("tags")
        words = [SPLIT_WORDS.get(str(tag).lower(), "") for tag in tags] if isinstance(tags, list) else []
        metadata = sample.get("metadata")
        size = (0, 0)
        if isinstance(metadata, dict):
            size = recorded_size(metadata.get("width"), metadata.get("height"))
        own = next((word for word in words if word), "") or split
        self._add_picture(name, size, own, near, place, _labels_of(sample.get(chosen)), [])

    def _add_picture(
        self,
        name: str,
        size: tuple[int, int],
        split: str,
        near: str,
        place: str,
        labels: Any,
        names: list[Any],
    ) -> None:
        """Add a picture and its labels; `names` are those that numbers in the labels stand for."""
        columns = self.columns
        if not isinstance(labels, list):
            if labels is not None:
                columns.leave_out(
                    "classifications", f"{place}: expected a list of boxes, found {str(labels)[:80]}"
                )
            labels = []
        count = len(labels)
        picture = add_once(columns, self.pictures, self.seen, name, split, place, count, size, near)
        if picture is None:
            return
        for label in labels:
            try:
                box = self._box(label, *columns.size_of(picture), place)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                columns.leave_out("labels without a box", f"{place}: {str(label)[:80]}")
                continue
            text = label.get("label")
            if isinstance(text, int) and 0 <= text < len(names):
                text = names[text]
            if text is None or not str(text).strip():
                columns.leave_out("boxes without a class", f"{place}: {str(label)[:80]}")
                continue
            if _is_scored(label):
                columns.note("scores were dropped", place)
            attributes = label.get("attributes")
            flags = {**(attributes if isinstance(attributes, dict) else {}), **label}
            ignore = any(_is_set(flags.get(key)) for key in ("ignore", "difficult"))
            crowd = _is_set(flags.get("iscrowd")) or _is_set(flags.get("IsGroupOf"))
            add_box(columns, self.labels, picture, str(text), box, place, ignore, crowd=crowd)

    def _box(self, label: Any, width: int, height: int, place: str) -> Box:
        """The box xyxy px of a label in fractions of its picture."""
        if "points" in label:
            points = [(number(x) * width, number(y) * height) for part in label["points"] for x, y in part]
            if len(points) < 3:
                raise ValueError("a polyline of fewer than three points")
            self.columns.note("polylines became the upright boxes around them", place)
            return enclosing(points)
        x, y, w, h = (number(value) for value in label["bounding_box"])
        if label.get("mask") or label.get("mask_path"):
            self.columns.note("instance masks were dropped: their boxes were read", place)
        return x * width, y * height, (x + w) * width, (y + h) * height


def _labels_of(value: Any) -> list[Any]:
    """The single labels of a field of a sample."""
    if not isinstance(value, dict):
        return []
    key = _BOXES.get(str(value.get("_cls")), str(value.get("_cls")).lower())
    labels = value.get(key) if key else [value]
    return labels if isinstance(labels, list) else []


def _is_scored(label: dict[str, Any]) -> bool:
    return label.get("confidence") is not None


def _is_set(value: Any) -> bool:
    """Whether a flag is set; older exports wrap it in an object."""
    return bool(value.get("value")) if isinstance(value, dict) else bool(value)


def _listed_classes(file: Path, chosen: str) -> list[str]:
    """The classes that metadata.json lists for a field, or for all."""
    metadata: dict[str, Any] = {}
    if file.is_file():
        for key, value in stream_json(file):
            if key == "default_classes":
                metadata.setdefault(key, []).append(value)
            elif key in ("classes", "info") and isinstance(value, dict):
                metadata |= {key: value}
    info = metadata.get("info", {})
    lists: Iterator[Any] = iter(
        (
            metadata.get("classes", {}).get(chosen),
            metadata.get("default_classes"),
            info["classes"].get(chosen) if isinstance(info.get("classes"), dict) else None,
            info.get("default_classes"),
        )
    )
    return [str(name) for name in next((names for names in lists if isinstance(names, list) and names), [])]
