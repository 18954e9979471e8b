"""The lines of YOLO's label files: boxes, polygons, boxes with key points or a score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from toolkit.data.builder import CLASSES, Columns
from toolkit.data.formats.shapes import Box, enclosing

_ENOUGH = 3  # lines from which a data set shows what its lines are
_LARGEST = 20.0  # fraction of a picture that a box may lie or reach: a sliver may be labelled far beyond it


def _plausible(cx: float, cy: float, w: float, h: float) -> bool:
    """Whether numbers may be fractions of a picture; pixels are larger."""
    return -_LARGEST < cx < _LARGEST and -_LARGEST < cy < _LARGEST and w < _LARGEST and h < _LARGEST


@dataclass(frozen=True)
class LineReader:
    """Turns label lines into class numbers and boxes, and leaves out what is none."""

    columns: Columns
    names: list[str] | None
    shape: tuple[int, ...] = ()  # data.yaml's `kpt_shape`: key points of a line, and numbers of each
    key_points: bool = False  # without it: whether long lines hold key points (`hold_key_points`)

    def read(self, line: str, place: str) -> tuple[int, Box] | None:
        """(class number, xyxy in fractions of the picture); None where the line is left out."""
        fields = line.split()
        if len(fields) == 5 and self.names is not None:  # as nearly all lines are
            try:
                number, (cx, cy, w, h) = int(fields[0]), map(float, fields[1:])
                if 0 <= number < len(self.names) and _plausible(cx, cy, w, h) and w > 0 < h:
                    return number, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            except ValueError:
                pass
        if "," in line:
            fields = line.replace(",", "." if len(fields) >= 5 else " ").split()
        if len(fields) < 5:
            self._leave_out("lines of too few numbers", place, line, f"found {len(fields)} fields")
            return None
        try:
            values = [float(field) for field in fields[1:]]
        except ValueError:
            values = [float("nan")]
        if not all(map(isfinite, values)):
            self._leave_out("lines with something else than numbers", place, line, "found other than numbers")
            return None
        label = self._label(fields[0], place, line)
        if label is None:
            return None
        cx, cy, w, h = values[:4]
        if len(values) > 5 and not self._has_key_points(values):
            x1, y1, x2, y2 = enclosing(zip(values[::2], values[1::2], strict=False))
            cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        elif len(values) == 5:
            self.columns.note("a sixth number in a line, a score, was dropped", place)
        if self.columns.faults != "keep":
            if not _plausible(cx, cy, w, h):
                self._leave_out("lines that are no fractions of the picture", place, line, "found pixels")
                return None
            if w <= 0 or h <= 0:
                self._leave_out("boxes without an area", place, line, "found")
                return None
        return label, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)

    def _leave_out(self, kind: str, place: str, line: str, what: str) -> None:
        self.columns.leave_out(kind, f"{place}: expected 'class cx cy w h', {what}: {line[:60]!r}")

    def _label(self, field: str, place: str, line: str) -> int | None:
        try:
            number = float(field)
        except ValueError:
            number = float("nan")
            if self.names and field in self.names:
                number = self.names.index(field)
        if not isfinite(number) or number != int(number) or abs(number) >= CLASSES:
            self.columns.leave_out(
                "lines without a class number",
                f"{place}: expected a whole class number, found {field[:60]!r} (they are below {CLASSES:,})",
            )
            return None
        label = int(number)
        if self.columns.faults == "keep" or (label >= 0 and (self.names is None or label < len(self.names))):
            return label
        count = len(self.names or ())
        self.columns.leave_out(
            "boxes of classes beyond the names", f"{place}: class {label} is not among the {count} names"
        )
        return None

    def _has_key_points(self, values: list[float]) -> bool:
        """Whether numbers are a box and key points, not a polygon."""
        if self.shape:
            points = len(values) - 4 == self.shape[0] * (self.shape[1] if len(self.shape) > 1 else 2)
        else:
            points = self.key_points or len(values) % 2 == 1 or _marked(values)
        kind = "lines with key points were read as their boxes"
        self.columns.note(kind if points else "polygons became the boxes around them")
        return points


def _marked(values: list[float]) -> bool:
    """Whether there is a visibility (0, 1, 2) in every third place behind the box."""
    return (len(values) - 4) % 3 == 0 and all(value in (0, 1, 2) for value in values[6::3])


def hold_key_points(lines: Iterable[str]) -> bool:
    """Whether the long lines of a data set are boxes with key points rather than polygons: by coordinates of
    -1, which stand for points that are not there; or because all lines are of one length, and by its first
    four numbers nearly every box is filled by its points, or half of them make no sense as points."""
    long = []
    for line in lines:
        try:
            values = [float(field) for field in line.split()[1:]]
        except ValueError:
            continue
        if len(values) > 5:
            long.append(values)
    if any(value <= -0.5 for values in long for value in values[4:]):
        return True
    if len(long) < _ENOUGH or len({len(values) for values in long}) > 1:
        return False
    if sum(map(_in_its_box, long)) < 0.9 * len(long):
        return False
    return sum(map(_fills_its_box, long)) >= 0.9 * len(long) or sum(map(_leaps, long)) >= 0.5 * len(long)


def _in_its_box(values: list[float]) -> bool:
    """Whether the points lie in the box that the first four numbers may be."""
    (cx, cy, w, h), xs, ys = values[:4], values[4::2], values[5::2]
    return all(abs(x - cx) <= 0.55 * w for x in xs) and all(abs(y - cy) <= 0.55 * h for y in ys)


def _fills_its_box(values: list[float]) -> bool:
    xs, ys = values[4::2], values[5::2]
    return max(xs) - min(xs) >= 0.2 * values[2] and max(ys) - min(ys) >= 0.2 * values[3]


def _leaps(values: list[float]) -> bool:
    """Whether the second point, if it is one, lies far from all others: it is a width and a height."""
    x1, y1, x2, y2 = enclosing(zip(values[:1] + values[4::2], values[1:2] + values[5::2], strict=True))
    away = max(x1 - values[2], values[2] - x2, y1 - values[3], values[3] - y2)
    return away > max(x2 - x1, y2 - y1)
