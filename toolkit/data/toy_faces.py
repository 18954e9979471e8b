"""Toy faces: drawn heads with 98 points numbered as in WFLW, turned, tilted and talking, on photographs.

They need no network and take seconds: what landmark training runs on where no labelled faces are at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import fresh_folder
from toolkit.data.formats.canonical import write_annotations
from toolkit.data.toy import Picture, background, photographs_of
from toolkit.runtime import InputError, progress

POINTS = 98
Floats = NDArray[np.float64]


def make_toy_faces(
    folder: str | Path,
    seed: int = 0,
    count: int = 400,
    size: int = 160,
    splits: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Write `count` pictures of `size` x `size` px with one face each to the canonical folder `folder`.

    A head is turned by up to 30 degrees, nods by up to 15, is tilted by up to 20, and is between a half and
    three quarters of the picture wide; its proportions, mouth, gaze and colours vary, and one in four is in
    part hidden. All 98 points are labelled, hidden or not; the box is their bounds. No photograph of a
    background is in two of the `splits` (shares, by default {"train": .8, "val": .2}). The same arguments and
    library versions give the same files.
    """
    splits = dict(splits or {"train": 0.8, "val": 0.2})
    if size < 64 or count < len(splits) or min(splits.values()) <= 0:
        raise InputError(
            f"toy faces need pictures of at least 64 px, one for each split and positive shares: got {size} "
            f"px, {count} pictures and {splits}"
        )
    if not np.isclose(sum(splits.values()), 1):
        raise InputError(f"the shares of the splits must add up to 1: got {splits}")
    counts = np.diff(np.round(np.cumsum([0.0, *splits.values()]) * count)).astype(int)
    photographs = photographs_of(seed, tuple(splits.values()))
    columns = Columns()
    jobs = [(s, i) for s, wanted in enumerate(counts) for i in range(wanted)]
    with fresh_folder(folder, overwrite) as temporary:
        (temporary / "images").mkdir()
        for s, i in progress(jobs, "drawing toy faces"):
            rng = np.random.default_rng((seed, s, i))
            picture = background(rng, photographs[s], size)
            points = draw_face(rng, picture)
            name = f"{list(splits)[s]}_{i:05d}.jpg"
            _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (temporary / "images" / name).write_bytes(coded.tobytes())
            row = columns.add_picture(name, (size, size), list(splits)[s])
            keypoints = np.column_stack((points, np.full(POINTS, 2.0))).ravel().tolist()
            columns.add_box(row, [*points.min(0), *points.max(0)], 0, keypoints=keypoints)
        dataset = columns.dataset(Path(folder) / "images", ("face",), folder)
        write_annotations(dataset, temporary)
    return dataset


def head(rng: np.random.Generator) -> Floats:
    """The points (98, 3) of a head that looks ahead: x to the right, y down, z towards the viewer, in halves
    of its width, the origin between the eyes."""
    points = np.zeros((POINTS, 3))
    vary = rng.uniform(0.9, 1.1, 12)
    turn = np.linspace(-0.12, 1.12, 33) * np.pi
    points[:33, 0] = -np.cos(turn) / np.cos(turn).max()
    points[:33, 1] = -0.1 + 1.3 * vary[0] * np.sin(turn)
    points[:33, 2] = -0.75 + 0.45 * np.sin(turn)

    def ring(
        first: int, upper: int, lower: int, x: float, y: float, w: float, up: float, down: float
    ) -> None:
        """Points of an ellipse from its left corner: over the top, to the right corner, back below."""
        angles = np.concatenate((np.linspace(np.pi, 0, upper + 2), -np.linspace(0, np.pi, lower + 2)[1:-1]))
        heights = np.where(np.sin(angles) > 0, up, down)
        place = slice(first, first + len(angles))
        points[place, 0] = x + w * np.cos(angles)
        points[place, 1] = y - heights * np.sin(angles)

    apart, eye = 0.43 * vary[1], 0.17 * vary[2]
    lid = 0.085 * rng.uniform(0.3, 1.3)
    lift = -0.3 * vary[3] + 0.06 * rng.uniform(-1, 1)
    for side, first in ((-1, 33), (1, 42)):
        x = side * apart + np.linspace(-0.24, 0.24, 5) * vary[4]
        arch = lift - 0.07 * np.cos(np.linspace(-1.2, 1.2, 5))
        points[first : first + 5, 0], points[first : first + 5, 1] = x, arch
        below = slice(3, None, -1) if side < 0 else slice(4, 0, -1)
        lower = np.column_stack((x, arch + 0.07))[below]
        points[first + 5 : first + 9, :2] = lower
    ring(60, 3, 3, -apart, 0, eye, lid, lid * 0.8)
    ring(68, 3, 3, apart, 0, eye, lid, lid * 0.8)
    gaze = rng.uniform(-0.3, 0.3)
    points[96:98, 0] = np.array((-apart, apart)) + gaze * eye
    points[33:51, 2], points[60:76, 2], points[96:98, 2] = 0.05, -0.05, -0.05
    nose = 0.52 * vary[5]
    points[51:55, 1], points[51:55, 2] = np.linspace(0, nose, 4), np.linspace(0.05, 0.42, 4)
    points[55:60, 0] = np.linspace(-0.17, 0.17, 5) * vary[6]
    points[55:60, 1] = nose + 0.1 + 0.04 * np.array((-1, 0.3, 1, 0.3, -1))
    points[55:60, 2] = 0.2
    mouth, smile = 0.3 * vary[7], 0.08 * rng.uniform(-0.5, 1)
    low = nose + 0.3 * vary[8]
    opened = min(0.22 * max(0.0, rng.uniform(-1, 1)), points[16, 1] - low - 0.15)  # above the chin
    ring(76, 5, 5, 0, low, mouth, 0.09, 0.1 + opened)
    ring(88, 3, 3, 0, low, mouth * 0.85, 0.01, 0.01 + opened)
    points[76:96, 1] -= smile * (points[76:96, 0] / mouth) ** 2
    points[76:96, 2] = 0.1
    return points


def draw_face(rng: np.random.Generator, picture: Picture) -> Floats:
    """Draw a face into a square picture (in place). -> its points (98, 2) px."""
    size = picture.shape[0]
    points = head(rng)
    arc = np.linspace(0, np.pi, 16)
    crown = np.column_stack((np.cos(arc), points[0, 1] - 1.05 * np.sin(arc), np.full(16, -0.75)))
    flat = np.concatenate((points, crown)) @ _turned(*np.radians(rng.uniform(-1, 1, 3) * (30, 15, 20))).T
    flat = flat[:, :2] * rng.uniform(0.25, 0.36) * size
    flat += size / 2 - (flat.min(0) + flat.max(0)) / 2 + rng.uniform(-0.08, 0.08, 2) * size
    found, top = flat[:POINTS], flat[POINTS:]
    skin = rng.uniform(0.25, 1) * np.array((150, 185, 225)) + rng.uniform(-15, 25, 3)
    hair = rng.uniform(10, 120, 3)

    def fill(outline: Floats, colour: Floats) -> None:
        # sixteenths of a pixel, counted from the centres of pixels
        polygon = np.rint((outline - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(picture, [polygon], colour.clip(0, 255).tolist(), cv2.LINE_AA, 4)

    def hull(outline: Floats) -> Floats:
        return cv2.convexHull(outline.astype(np.float32))[:, 0].astype(np.float64)

    fill(hull(np.concatenate((found[:6], found[27:33], top))), hair)
    fill(hull(np.concatenate((found[:33], found[51] + (top - found[51]) * 0.75))), skin)
    fill(found[33:42], hair * 0.8)
    fill(found[42:51], hair * 0.8)
    for first, pupil in ((60, 96), (68, 97)):
        fill(found[first : first + 8], np.array((235.0, 240, 240)))
        radius = max(1, round(np.linalg.norm(found[first] - found[first + 4]) * 0.2))
        cv2.circle(picture, np.rint(found[pupil] - 0.5).astype(int).tolist(), radius, (40, 30, 20), -1)
    fill(found[54:60], skin * 0.82)
    fill(found[76:88], skin * (0.55, 0.55, 0.95))
    fill(found[88:96], np.array((40.0, 30, 60)))
    if rng.random() < 0.25:
        place, sides = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0.1, 0.3, 2) * size
        patch = cv2.boxPoints((place.tolist(), sides.tolist(), rng.uniform(0, 90)))
        fill(patch.astype(np.float64), rng.uniform(0, 255, 3))
    left, right = rng.uniform(0.65, 1.15, 2)
    light = np.linspace(left, right, size)[:, None]
    picture[:] = (picture * light + rng.normal(0, rng.uniform(0, 8), picture.shape)).clip(0, 255)
    result: Floats = found
    return result


def _turned(yaw: float, pitch: float, roll: float) -> Floats:
    """Rotation (3, 3) about y, then x, then z, in radians."""
    (cy, sy), (cx, sx), (cz, sz) = ((np.cos(angle), np.sin(angle)) for angle in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    result: Floats = about_z @ about_x @ about_y
    return result
