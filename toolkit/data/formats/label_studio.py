"""Label Studio's own JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats.adding import add_box, leave_out_all, recorded_size, with_classes
from toolkit.data.formats.common import add_named_picture, filled_sizes
from toolkit.data.formats.label_studio_shapes import region_box
from toolkit.data.formats.label_studio_tasks import (
    StudioPictures,
    address_of,
    annotated,
    names_of,
    other_kind,
    regions_of,
    tasks_of,
)
from toolkit.data.formats.survey import files_of_kind
from toolkit.data.formats.text import xml_root
from toolkit.data.intake import Faults
from toolkit.data.splitting import split_of_list, split_order
from toolkit.runtime import InputError, progress


def read_label_studio(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """Label Studio's own JSON (a list of tasks), JSON-MIN or CSV; `path` is a file or a folder that has some.

    Of a task the newest annotation that was not cancelled counts; tasks whose annotations were all cancelled
    are left out. Predictions count only in a file in which nothing is annotated yet. Polygons, ellipses,
    rotated boxes and brush masks become the upright boxes around them, a region with several labels a box for
    each. Key points, choices and texts are left out. Pictures are searched by the end of their address in
    `images` or below the folder. Classes are those of `label_config.xml` beside the file, otherwise all that
    occur, sorted. What `write` puts into a task (split, identifiers, ignore, crowd) is read back, also after
    it was corrected.
    """
    path = Path(path)
    if (path / "tasks.json").is_file():
        path = path / "tasks.json"
    folder, names = files_of_kind(path, "label-studio")
    if not names:
        raise InputError(f"{path} has no export of Label Studio: expected a .json with a list of tasks")
    order = split_order(map(split_of_list, names))
    columns = Columns(faults)
    tasks = _Tasks(columns, StudioPictures(Path(images) if images else folder))
    # Of several exports of a project the last by name has the newest state.
    for name in sorted(sorted(names, reverse=True), key=lambda name: order.index(split_of_list(name))):
        tasks.add_file(folder / name, split_of_list(name))
    root = tasks.pictures.folder
    firsts = {file.partition("/")[0] for file in columns.files}
    if len(firsts) == 1 and all("/" in file for file in columns.files):
        root /= firsts.pop()
        columns.files[:] = [file.partition("/")[2] for file in columns.files]
    return with_classes(columns, root, tasks.labels, path, _label_config(folder / "label_config.xml"))


@dataclass
class _Tasks:
    """Tasks on their way into the columns."""

    columns: Columns
    pictures: StudioPictures
    labels: dict[str, int] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)  # the pictures so far

    def add_file(self, file: Path, split: str) -> None:
        """Add all tasks of an export; `split` is for those that do not give their own."""
        reviewed = any(annotated(task) for task in tasks_of(file))
        if not reviewed:
            self.columns.note(
                "nothing is annotated yet: the predictions were read, without scores", file.name
            )
        for i, task in enumerate(progress(tasks_of(file), f"reading {file.name}"), 1):
            place = f"{file}, task {task.get('id', i) if isinstance(task, dict) else i}"
            try:
                self._add_task(task, reviewed, split, place)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
                if isinstance(error, InputError):
                    raise
                self.columns.leave_out(
                    "tasks that are not as Label Studio has them",
                    f"{place} is not as Label Studio has it ({error!r})",
                )

    def _add_task(self, task: dict[str, Any], reviewed: bool, split: str, place: str) -> None:
        columns = self.columns
        data = task.get("data", task)
        regions = regions_of(task, reviewed, columns, place)
        if regions is None:
            columns.leave_out(
                "tasks that were skipped in Label Studio", f"{place} was skipped by its annotator"
            )
            return
        address = address_of(data)
        file = self.pictures.behind(address)
        if file is not None and file in self.files:
            columns.leave_out(
                "tasks of a picture that has come in already", f"{place}: {file} is in another task"
            )
            return
        labelled = {str(region.get("id")) for region in regions if names_of(region["value"])}
        sizes = (recorded_size(r.get("original_width"), r.get("original_height")) for r in regions)
        identifier = data.get("image_id")
        picture = add_named_picture(
            columns,
            self.pictures,
            file or address,
            str(data.get("split") or "") or split,
            place,
            next((size for size in sizes if size[0]), (0, 0)),
            image_id=identifier if type(identifier) is int and abs(identifier) < 1 << 60 else None,
        )
        if picture is None:
            leave_out_all(columns, len(regions), place)
            return
        self.files.add(columns.files[picture])
        for region in regions:
            self._add_region(region, picture, place, str(region.get("id")) in labelled)

    def _add_region(self, region: dict[str, Any], picture: int, place: str, named: bool) -> None:
        """Add the boxes of a region; `named` says that a region of the same id has its label."""
        columns, value = self.columns, region["value"]
        names = names_of(value)
        if kind := other_kind(region, value):
            columns.leave_out(
                kind, f"{place}: a region is none of the shapes that have a box: {str(value)[:80]}"
            )
            return
        if not names:
            if not named:
                columns.leave_out("regions without a label", f"{place}: {str(value)[:80]}")
            return
        if region.get("image_rotation"):
            columns.note("regions drawn on a turned picture were read as they are written", place)
        width, height = recorded_size(region.get("original_width"), region.get("original_height"))
        if not width:
            width, height = columns.size_of(picture)
        try:
            box, shape = region_box(value, width, height)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            kind = (
                "polygons of fewer than three points"
                if "three points" in str(error)
                else "regions without a box"
            )
            columns.leave_out(kind, f"{place}: {error!r} in {str(value)[:80]}")
            return
        if shape:
            columns.note(f"{shape} became the upright boxes around them", place)
        if len(names) > 1:
            columns.note("regions with several labels became a box for each", place)
        meta = region.get("meta")
        remarks = (meta.get("text") if isinstance(meta, dict) else None) or []
        identifier = str(region.get("id", ""))
        number = int(identifier) if re.fullmatch(r"\d{1,18}", identifier) and len(names) == 1 else None
        for name in names:
            add_box(
                columns, self.labels, picture, name, box, place, "ignore" in remarks,
                crowd="crowd" in remarks, box_id=number,
            )  # fmt: skip


def _label_config(file: Path) -> list[str]:
    if not file.is_file():
        return []
    labels = (
        item.get("alias") or item.get("value")
        for control in xml_root(file).iter()
        if str(control.tag).endswith("Labels") and control.tag != "KeyPointLabels"
        for item in control.iter("Label")
    )
    return list(dict.fromkeys(label for label in labels if label))


def write_label_studio(
    dataset: Dataset, folder: Path, link: bool, scores: NDArray[np.floating] | None = None
) -> None:
    """`tasks.json` (boxes as predictions, to be corrected by a person), `label_config.xml` (the labelling
    interface they belong to) and `images/`. Label Studio serves the pictures where
    LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED is true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT is here."""
    dataset = filled_sizes(dataset)
    names = unique_names(dataset.files)
    place_pictures(dataset, folder / "images", names, link)
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        for i, name in enumerate(progress(names, "writing tasks")):
            width, height = dataset.sizes[i].tolist()
            regions = []
            for row in range(dataset.starts[i], dataset.starts[i + 1]):
                x1, y1, x2, y2 = dataset.boxes[row].tolist()
                region: dict[str, Any] = {
                    "id": str(dataset.box_ids[row]),
                    "type": "rectanglelabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": {
                        "x": x1 / width * 100,
                        "y": y1 / height * 100,
                        "width": (x2 - x1) / width * 100,
                        "height": (y2 - y1) / height * 100,
                        "rotation": 0,
                        "rectanglelabels": [dataset.classes[dataset.labels[row]]],
                    },
                }
                flags = (("ignore", dataset.ignore[row]), ("crowd", dataset.crowd[row]))
                if any(value for _, value in flags):
                    region["meta"] = {"text": [word for word, value in flags if value]}
                if scores is not None:
                    region["score"] = round(float(scores[row]), 6)
                regions.append(region)
            data = {
                "image": f"/data/local-files/?d=images/{quote(name)}",
                "image_id": int(dataset.image_ids[i]),
                "split": str(dataset.splits[i]),
            }
            predictions = [{"model_version": "toolkit", "result": regions}]
            file.write(("[\n" if i == 0 else ",\n") + json.dumps({"data": data, "predictions": predictions}))
        file.write("\n]\n")
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dataset.classes)
    (folder / "label_config.xml").write_text(
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n'
        f"{labels}  </RectangleLabels>\n</View>\n",
        encoding="utf-8",
    )
