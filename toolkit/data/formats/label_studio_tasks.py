"""The tasks of Label Studio's exports: their pictures, their regions, and what kind a region is."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from toolkit.data.builder import Columns
from toolkit.data.formats.common import PictureFolder, is_picture
from toolkit.data.formats.json_stream import stream_json
from toolkit.data.formats.text import read_text
from toolkit.runtime import InputError

_OTHERS = {  # types of regions and keys of their values -> what they are
    "choices": "choices",
    "text": "texts",
    "textarea": "texts",
    "rating": "ratings",
    "taxonomy": "taxonomies",
    "number": "numbers",
    "relation": "relations",
}


class StudioPictures(PictureFolder):
    """Pictures found by the addresses that Label Studio gives them."""

    @cached_property
    def _as_stored(self) -> dict[str, str]:
        """Names as the server stores an upload, without blanks and most signs -> the picture."""
        return {_stored(name.rsplit("/", 1)[-1]): name for name in self.names}

    def behind(self, address: str) -> str | None:
        """The picture behind a task's address: a path, a URL, `/data/local-files/?d=<path>`,
        `/data/upload/<project>/<eight hexadecimal digits>-<name>`, or one of a cloud's store."""
        try:
            parts = urlsplit(address)
            query = parse_qs(parts.query)
        except ValueError:
            return self.find(address, "images")
        text = query["d"][0] if "d" in query else unquote(parts.path)
        if "fileuri" in query:
            with suppress(ValueError):
                text = base64.urlsafe_b64decode(query["fileuri"][0] + "==").decode()
        last = re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(text).name)
        choices = (self.find(name, "images") for name in (text, address, last) if name)
        return next((name for name in choices if name), None) or self._as_stored.get(_stored(last))


def _stored(name: str) -> str:
    return re.sub(r"[^-\w.]", "", name.replace(" ", "_")).casefold()


def tasks_of(file: Path) -> Iterator[Any]:
    """The tasks of an export; a row of a CSV is one as JSON-MIN has it."""
    if file.suffix.lower() == ".json":
        for key, task in stream_json(file):
            if key:
                raise InputError(f"{file} is not an export of Label Studio: expected a list of tasks")
            yield task
        return
    for row in _rows_of(file):
        values: dict[str, Any] = dict(row)
        for key, text in row.items():
            if isinstance(text, str) and text[:1] in ("[", "{"):
                with suppress(ValueError, RecursionError):
                    values[key] = json.loads(text)
        yield values


def _rows_of(file: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from csv.DictReader(io.StringIO(read_text(file), ""))
    except csv.Error as error:
        raise InputError(f"{file} is not a table: {error}") from None


def annotated(task: Any) -> bool:
    """Whether a person has worked on a task; those of flat exports are."""
    return isinstance(task, dict) and (
        "data" not in task or bool(task.get("annotations") or task.get("completions"))
    )


def address_of(data: dict[str, Any]) -> str:
    """Where the picture of a task is; ValueError where the task has none."""
    values = [data.get("image"), *data.values()]
    texts = [value[0] if isinstance(value, list) and value else value for value in values]
    for text in texts:
        if isinstance(text, str) and (text is data.get("image") or is_picture(text.partition("?")[0])):
            return text
    for text in texts:
        if isinstance(text, str) and re.match(r"/data/|/tasks/|\w+://", text):
            return text
    raise ValueError("it has no picture")


def regions_of(
    task: dict[str, Any], reviewed: bool, columns: Columns, place: str
) -> list[dict[str, Any]] | None:
    """The regions of a task, None where it was cancelled."""
    if "data" not in task:  # JSON-MIN: the values are the regions
        lists = [value if isinstance(value, list) else [value] for value in task.values()]
        return [{**v, "value": v} for value in lists for v in value if isinstance(v, dict)]
    annotations = task.get("annotations") or task.get("completions") or []
    if not reviewed:
        annotations = task.get("predictions") or []
    elif not annotations:
        columns.note("tasks that nobody has annotated came in without boxes", place)
        predicted = sum(len(each.get("result") or ()) for each in task.get("predictions") or ())
        if predicted:
            kind = "predictions of tasks that nobody has annotated"
            columns.leave_out(kind, f"{place} has predictions and no annotation", predicted)
    if not annotations:
        return []
    kept = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
    if not kept:
        return None
    if len(kept) > 1:
        columns.note("of several annotations of a task the newest was read", place)
    newest = max(kept, key=lambda a: str(a.get("updated_at") or a.get("created_at") or ""))
    regions = newest.get("result") or []
    values = (region.get("value") for region in regions)
    return [
        {**region, "value": value if isinstance(value, dict) else {}}
        for region, value in zip(regions, values, strict=True)
    ]


def names_of(value: dict[str, Any]) -> list[str]:
    """The labels of a region."""
    lists = (names for key, names in value.items() if key.endswith("labels") and isinstance(names, list))
    return [str(name) for name in next(lists, []) if str(name).strip()]


def other_kind(region: dict[str, Any], value: dict[str, Any]) -> str:
    """What a region without a box is, in the plural; "" for one that has a shape."""
    kind = str(region.get("type") or "")
    if kind.startswith("keypoint") or "keypointlabels" in value:
        return "key points"
    for key, plural in _OTHERS.items():
        if kind == key or key in value:
            return plural
    if value.keys() & {"points", "vertices", "rle", "imageDataURL", "radiusX", "height"}:
        return ""
    return f"regions of type {kind}" if kind else "regions without a shape"
