"""Fault 8: pictures that EXIF turns when they are shown, and labels that are turned with them or not.

Recorded sizes do not tell: tools record the stored size beside boxes that were drawn on the shown picture.
The boxes tell. Read the right way they stay inside the picture and enclose things; read the wrong way they
lie anywhere. How well a box lies is measured against boxes of its size anywhere in the picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]  # (4, k) of the readings by the boxes; nan: not a reading of this picture


class Reading(NamedTuple):
    """What the numbers of a label are meant for."""

    shown: bool  # the picture as it is shown, turned by EXIF; else as it is stored
    scaled: bool  # fractions of that picture, multiplied by the size of the other one


READINGS = (Reading(False, False), Reading(True, False), Reading(False, True), Reading(True, True))
STORED, SHOWN, STORED_SCALED, SHOWN_SCALED = range(4)

# EXIF orientation: whether x and y are exchanged, and whether the result is then mirrored in x and in y.
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
MARGIN = 5.0  # log odds by which a reading must beat every other one: of one picture ...
POOLED_MARGIN = 8.0  # ... and of all pictures with the same kind of recorded size
_LEAD = 0.7  # mean log odds of a box; it is 1.5 where boxes are right, and less where a crowd is everywhere
_OUT = -4.0  # log odds of a box that leaves the picture
_SIDE = 512  # pixels of the long side at which pictures are measured
_BOXES = 40  # of a picture, at most; more add nothing
_ELSEWHERE = 150  # boxes anywhere in the picture that a box is compared with
_WEIGHTS = (0.7, 0.6, 0.25, 0.35)  # of border, colour, texture, detail: by logistic regression on real sets


def turned_size(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """(w, h) as shown of a picture stored as `size`, or the other way round."""
    return size[::-1] if _TURNS[turn][0] else size


def turned_points(points: NDArray[np.floating], turn: int, size: tuple[int, int]) -> Floats:
    """Points (k, 2) x, y px in a picture stored as `size` (w, h) -> where they are as it is shown."""
    swap, mirror_x, mirror_y = _TURNS[turn]
    moved: Floats = np.array(points[:, ::-1] if swap else points, np.float64)
    width, height = turned_size(size, turn)
    if mirror_x:
        moved[:, 0] = width - moved[:, 0]
    if mirror_y:
        moved[:, 1] = height - moved[:, 1]
    return moved


def corners(move: Callable[..., Floats], boxes: NDArray[np.floating], *arguments: Any) -> Floats:
    """Boxes (k, 4) xyxy px whose corners are moved by `move(points, *arguments)`, such as `as_shown`."""
    moved = [move(boxes[:, i : i + 2], *arguments) for i in (0, 2)]
    return np.hstack((np.minimum(*moved), np.maximum(*moved)))


def _back(turn: int) -> int:
    """The orientation that undoes one: a quarter turn is undone by the other one, all else by itself."""
    return {6: 8, 8: 6}.get(turn, turn)


def stored_pixels(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) as shown -> as stored."""
    swap, mirror_x, mirror_y = _TURNS[_back(turn)]
    pixels = pixels.transpose(1, 0, 2) if swap else pixels
    return np.ascontiguousarray(pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def as_shown(points: NDArray[np.floating], reading: int, turn: int, size: tuple[int, int]) -> Floats:
    """Points (k, 2) x, y px as recorded -> where they are in the picture as shown; it is stored as `size`."""
    shown, scaled = READINGS[reading]
    own, other = (turned_size(size, turn), size) if shown else (size, turned_size(size, turn))
    numbers = points.astype(np.float64) * (np.divide(own, other) if scaled else 1.0)
    return numbers if shown else turned_points(numbers, turn, size)


def possible(recorded: tuple[int, int], turn: int, size: tuple[int, int]) -> list[int]:
    """The readings to choose from, for a picture stored as `size`.

    A recorded size may be the one that fractions of the other picture were multiplied by. Nobody records the
    shown size beside pixels of the stored picture.
    """
    shown = turned_size(size, turn)
    if shown == size or recorded not in (size, shown):
        return [STORED, SHOWN]
    return [STORED_SCALED, SHOWN] if recorded == shown else [STORED, SHOWN, SHOWN_SCALED]


def score_readings(
    pixels: NDArray[np.uint8], boxes: NDArray[np.floating], recorded: tuple[int, int], turn: int
) -> Scores:
    """How well the boxes of a picture lie in each reading.

    Args:
        pixels: (H, W, 3) RGB as stored.
        boxes: (k, 4) xyxy px as recorded, finite.
        recorded: width and height of the labels, 0 where none are.
        turn: EXIF orientation, 2..8.

    Returns:
        Log odds (4, at most 40).
    """
    rng = np.random.default_rng(0)
    if len(boxes) > _BOXES:
        boxes = boxes[np.sort(rng.permutation(len(boxes))[:_BOXES])]
    size = (pixels.shape[1], pixels.shape[0])
    result = np.full((len(READINGS), len(boxes)), np.nan, np.float32)
    picture = _Picture(pixels)
    for reading in possible(recorded, turn, size):
        shown = corners(as_shown, boxes, reading, turn, size)
        placed = corners(turned_points, shown, _back(turn), turned_size(size, turn))
        over = np.maximum(-placed, placed - np.tile(size, 2)).max(axis=1)
        scores = picture.scores(placed, rng)
        result[reading] = np.where(over > max(2.0, 0.02 * min(size)), _OUT, scores)
    return result


class _Picture:
    """A picture as sums over rectangles: lightness, two colours, detail, steps in x, steps in y."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        height, width = pixels.shape[:2]
        self.scale = min(1.0, _SIDE / max(height, width))
        if self.scale < 1:
            small = (max(1, round(width * self.scale)), max(1, round(height * self.scale)))
            pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        self.size = np.array(pixels.shape[1::-1])
        lab = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32), (0, 0), 1.0)
        steps = [np.abs(cv2.Sobel(lab, cv2.CV_32F, *way)).sum(axis=2) for way in ((1, 0), (0, 1))]
        planes = np.dstack((lab, np.sqrt(sum(steps)), *map(np.sqrt, steps)))
        self.sums = cv2.integral(planes)
        self.squares = cv2.integral(planes[..., :4] ** 2)

    def scores(self, boxes: Floats, rng: np.random.Generator) -> Floats:
        """(k,) log odds that boxes (k, 4) in stored pixels enclose something, against blindly placed ones."""
        boxes = np.clip(boxes * self.scale, 0, np.tile(self.size, 2))
        wh = (boxes[:, 2:] - boxes[:, :2])[:, None]
        corners = rng.uniform(0, 1, (len(boxes), _ELSEWHERE, 2)) * (self.size - wh)
        elsewhere = np.concatenate((boxes[:, None], np.concatenate((corners, corners + wh), axis=2)), axis=1)
        features = self._features(elsewhere.reshape(-1, 4)).reshape(len(boxes), 1 + _ELSEWHERE, -1)
        mean, spread = features[:, 1:].mean(axis=1), features[:, 1:].std(axis=1)
        z = np.clip((features[:, 0] - mean) / (spread + 0.001 * mean + 0.02), -3, 3)
        enough = wh[:, 0].min(axis=1) >= 4  # fewer pixels say nothing
        scores: Floats = np.where(enough, np.clip(z @ np.array(_WEIGHTS), -1, 2.5), 0.0)
        return scores

    def _features(self, boxes: Floats) -> Floats:
        """(k, 4): strength of the borders, contrast with the surroundings in colour and in detail, detail."""
        inner = boxes + 0.1 * np.tile(boxes[:, 2:] - boxes[:, :2], 2) * np.array([1, 1, -1, -1])
        free = np.hstack((boxes[:, :2] > 2, boxes[:, 2:] < self.size - 2))  # not cut by the frame
        border = np.zeros(len(boxes))
        for side in range(4):
            axis = side % 2
            lines = inner.copy()
            strengths = []
            for offset in (-2.5, -1.5, -0.5, 0.5, 1.5):
                lines[:, axis] = np.clip(np.round(boxes[:, side] + offset), 0, self.size[axis] - 1)
                lines[:, axis + 2] = lines[:, axis] + 1
                sums, area = self._sum(self.sums, lines)
                strengths.append(sums[:, 4 + axis] / area)
            border += free[:, side] * np.max(strengths, axis=0)
        border /= np.maximum(1, free.sum(axis=1))

        margin = 0.2 * (boxes[:, 2:] - boxes[:, :2]).min(axis=1, keepdims=True) + 1
        inside, within = self._sum(self.sums, boxes)
        around, whole = self._sum(self.sums, np.hstack((boxes[:, :2] - margin, boxes[:, 2:] + margin)))
        inside2, _ = self._sum(self.squares, boxes)
        around2, _ = self._sum(self.squares, np.hstack((boxes[:, :2] - margin, boxes[:, 2:] + margin)))
        ring = np.maximum(whole - within, 1)
        mean, mean_ring = (inside / within[:, None])[:, :4], ((around - inside) / ring[:, None])[:, :4]
        variance = np.maximum(inside2 / within[:, None] - mean**2, 0)
        variance += np.maximum((around2 - inside2) / ring[:, None] - mean_ring**2, 0)
        contrast = np.log1p(4 * np.abs(mean - mean_ring) / np.sqrt(variance + 4))
        return np.column_stack((border, contrast[:, :3].mean(axis=1), contrast[:, 3], mean[:, 3]))

    def _sum(self, sums: Any, boxes: Floats) -> tuple[Floats, Floats]:
        """Sums (k, planes) of rectangles (k, 4), and their areas (k,), at least 1."""
        whole = np.clip(np.round(boxes), 0, np.tile(self.size, 2)).astype(np.int64)
        x1, y1, x2, y2 = whole.T
        area = np.maximum((x2 - x1) * (y2 - y1), 1).astype(np.float64)
        return sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1], area


def decide(scores: NDArray[np.floating], margin: float) -> int | None:
    """The reading (row of `scores`) that beats every other one by `margin`, with most boxes (columns) of one
    mind; None: undecided."""
    rows = np.flatnonzero(~np.isnan(scores).any(axis=1))
    if not scores.shape[1] or not len(rows):
        return None
    best = rows[np.argmax(scores[rows].sum(axis=1))]
    for other in rows[rows != best]:
        lead = (scores[best] - scores[other]).astype(np.float64)
        agreement = lead.sum() / max(float(np.sqrt((lead**2).sum())), 1e-9)
        if lead.sum() < margin or lead.mean() < _LEAD or agreement < min(3.0, 0.7 * len(lead) ** 0.5):
            return None
    return int(best)


def readings_of(scores: Sequence[Scores], kinds: Sequence[object]) -> list[int | None]:
    """The reading of each picture, None where undecided.

    Args:
        scores: of each picture, from `score_readings`.
        kinds: of each picture: which size is recorded. One tool has made all labels of a kind, so that they
            share a reading.

    Returns:
        By a picture's own boxes, or else by its kind's unless its own boxes speak against that.
    """
    result = [decide(own, MARGIN) for own in scores]
    groups: dict[object, list[int]] = defaultdict(list)
    for i, (kind, own) in enumerate(zip(kinds, scores, strict=True)):
        if own.shape[1]:
            groups[kind, np.isnan(own).any(axis=1).tobytes()].append(
                i
            )  # with the same readings to choose from
    for members in groups.values():
        totals = np.array([scores[i].sum(axis=1) for i in members], np.float64).T  # (4, pictures)
        totals = np.maximum(totals - np.nanmax(totals, axis=0), -MARGIN - 1)  # none outvotes many
        common = decide(totals, POOLED_MARGIN)
        if common is None:
            continue
        alone = [result[i] for i in members]
        against = sum(reading not in (None, common) for reading in alone)
        if against > 0.01 * alone.count(common):
            continue  # of two minds: the pictures are not of one tool
        for i, total in zip(members, totals.T, strict=True):
            if result[i] is None and total[common] >= -1.5:
                result[i] = common
    return result
