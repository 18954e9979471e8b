"""How good face landmarks are: normalised mean error, area under its curve, failure rate, regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.arrays import read_array
from toolkit.data.dataset import Dataset
from toolkit.data.intake import Faults, Skipped
from toolkit.data.readable import skipped_pictures
from toolkit.faces import place_points, windows_of_points
from toolkit.models.network import Landmarking
from toolkit.pictures import load_readable
from toolkit.runtime import InputError, progress
from toolkit.text import json_number

Ints = NDArray[np.int64]


def _span(*ranges: tuple[int, int]) -> Ints:
    return np.concatenate([np.arange(first, last + 1) for first, last in ranges])


@dataclass(frozen=True, eq=False)
class Layout:
    """A way to number the points of a face."""

    eye_corners: tuple[int, int]  # the outer ones, whose distance normalises the error
    regions: dict[str, Ints]


LAYOUTS = {
    68: Layout(  # iBUG 300-W
        (36, 45),
        {
            "contour": _span((0, 16)),
            "brows": _span((17, 26)),
            "nose": _span((27, 35)),
            "eyes": _span((36, 47)),
            "mouth": _span((48, 67)),
        },
    ),
    98: Layout(  # WFLW
        (60, 72),
        {
            "contour": _span((0, 32)),
            "brows": _span((33, 50)),
            "nose": _span((51, 59)),
            "eyes": _span((60, 75), (96, 97)),
            "mouth": _span((76, 95)),
        },
    ),
    106: Layout(  # JD-landmark, which landmark106 follows
        (52, 61),
        {
            "contour": _span((0, 32)),
            "brows": _span((33, 42), (64, 71)),
            "nose": _span((43, 51), (78, 83)),
            "eyes": _span((52, 63), (72, 77), (104, 105)),
            "mouth": _span((84, 103)),
        },
    ),
}

# WFLW's point i is point WFLW_FROM_106[i] of the 106: a 106-point network is scored on WFLW by
# predicted[:, WFLW_FROM_106]. Found by the nearest points of landmark106's output on WFLW faces.
WFLW_FROM_106: Ints = np.array(
    [
        *range(33),  # contour
        *(33, 34, 35, 36, 37, 67, 66, 65, 64, 38, 39, 40, 41, 42, 71, 70, 69, 68),  # brows
        *range(43, 52),  # nose
        *(52, 53, 72, 54, 55, 56, 73, 57, 58, 59, 75, 60, 61, 62, 76, 63),  # eyes
        *range(84, 104),  # mouth
        *(104, 105),  # pupils
    ]
)


@dataclass(frozen=True, eq=False)
class LandmarkScores:
    """Errors are parts of the normalising length: .05 is 5 % of it."""

    nme: float  # mean over the faces that were found
    auc: dict[float, float]  # threshold -> area under the cumulative error curve up to it, 0..1
    failure_rate: dict[float, float]  # threshold -> part of the faces above it
    regions: dict[str, float]  # region -> mean error of its points
    per_face: NDArray[np.float64]  # (n,) of the faces that count, infinite for one that was not found
    missed: int
    left_out: int  # faces without a length to divide by, which count nowhere
    normaliser: str
    skipped: tuple[Skipped, ...] = ()  # pictures that do not decode, whose faces count nowhere

    def as_dict(self) -> dict[str, Any]:
        """For JSON: nme, auc@T and failure@T per threshold, regions, faces, missed, left_out."""
        return {
            "nme": json_number(self.nme),
            **{f"auc@{t:.2f}": value for t, value in self.auc.items()},
            **{f"failure@{t:.2f}": value for t, value in self.failure_rate.items()},
            "regions": self.regions,
            "faces": len(self.per_face),
            "missed": self.missed,
            "left_out": self.left_out,
            "normaliser": self.normaliser,
        }

    def curve(self, limit: float = 0.1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The cumulative error curve to draw: errors 0..limit and the part of the faces at or below each."""
        errors = np.linspace(0, limit, 201)
        return errors, np.searchsorted(np.sort(self.per_face), errors, "right") / len(self.per_face)


def evaluate(
    predicted: ArrayLike,
    truth: ArrayLike,
    normaliser: str = "inter-ocular",
    boxes: ArrayLike | None = None,
    labelled: ArrayLike | None = None,
    thresholds: Sequence[float] = (0.08, 0.10),
) -> LandmarkScores:
    """Errors of points compared with the labelled ones.

    A face's error is the mean distance of its points divided by a length. A face whose prediction is not
    finite was not found: it counts as a failure and as nothing in the area, and not in the mean errors.

    Args:
        predicted, truth: (n, k, 2) px.
        normaliser: "inter-ocular" for the distance of the outer eye corners (k = 68, 98 or 106), or "box"
            for the diagonal of the face's box.
        boxes: (n, 4) xyxy; the bounds of the true points unless given.
        labelled: (n, k); points without a label do not count, and a face without a label for an eye corner,
            or for any point, is left out and counted.
        thresholds: errors above which a face is a failure.

    Raises:
        InputError: other shapes, an unknown layout, or no face with a length to divide by.
    """
    found, real = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if found.shape != real.shape or real.ndim != 3 or real.shape[2] != 2:
        raise InputError(
            f"landmarks should be two arrays (faces, points, 2), not {found.shape} against {real.shape}: "
            "a 106-point network is scored on WFLW's 98 points through WFLW_FROM_106"
        )
    if not len(real):
        raise InputError("there are no faces: nothing to evaluate")
    mask = np.ones(real.shape[:2], bool) if labelled is None else np.asarray(labelled, bool)
    lengths = _lengths(real, normaliser, boxes, mask)
    counted = (lengths > 0) & mask.any(axis=1)
    if not counted.any():
        raise InputError(
            f"none of the {len(real)} faces has labels that give the {normaliser} length to divide its error "
            "by: label the outer eye corners, or use the other of inter-ocular and box"
        )
    found, real, mask, lengths = found[counted], real[counted], mask[counted], lengths[counted]
    seen = np.isfinite(found).all(axis=(1, 2))
    errors = np.linalg.norm(found - real, axis=2) / lengths[:, None]
    errors[~mask] = np.nan
    per_face = np.where(seen, _mean(errors, axis=1), np.inf)
    layout = LAYOUTS.get(real.shape[1])
    regions = {} if layout is None or not seen.any() else layout.regions
    return LandmarkScores(
        nme=float(per_face[seen].mean()) if seen.any() else float("nan"),
        # The exact integral of the cumulative curve, a step per face.
        auc={t: float(np.clip(1 - per_face / t, 0, None).mean()) for t in thresholds},
        failure_rate={t: float((per_face > t).mean()) for t in thresholds},
        regions={name: float(_mean(errors[seen][:, points])) for name, points in regions.items()},
        per_face=per_face,
        missed=int((~seen).sum()),
        left_out=int((~counted).sum()),
        normaliser=normaliser,
    )


def read_points(path: str | Path) -> NDArray[np.float64]:
    """Points (faces, points, 2) px from a .npy file. Raises InputError where it does not read as one."""
    points = read_array(path)
    if points.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {points.dtype}: expected points (faces, points, 2) in pixels")
    return points.astype(np.float64)


def predict(
    network: Landmarking, dataset: Dataset, unreadable: dict[int, str] | None = None
) -> NDArray[np.float32]:
    """A landmark network's points for every labelled face, without a detector.

    Args:
        network: on any engine.
        dataset: with landmarks; each face is cut out by the bounds of its true points
            (`toolkit.faces.windows_of_points`), as benchmarks do.
        unreadable: where given, the positions of pictures that do not decode are entered here with the
            reasons, and the points of their faces are NaN.

    Returns:
        (m, P, 2) px.

    Raises:
        InputError: a picture does not decode (unless `unreadable` is given), or the data set has no
            landmarks.
    """
    if dataset.keypoints is None:
        raise InputError("the data set has no landmarks: name one with keypoints")
    points = np.full((len(dataset.labels), network.io.points, 2), np.nan, np.float32)
    for i in progress(range(len(dataset)), "placing points"):
        rows = dataset.rows(i)
        faces = np.flatnonzero((dataset.keypoints[rows, :, 2] > 0).any(1)) + rows.start
        if len(faces):
            windows = np.concatenate([_window(dataset.keypoints[face]) for face in faces])
            picture = load_readable(dataset.path(i), i, unreadable)
            if picture is not None:
                points[faces] = place_points(picture, windows, network)[0]
    return points


def _window(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    return windows_of_points(keypoints[None, keypoints[:, 2] > 0, :2])


def score(
    network: Landmarking,
    dataset: Dataset,
    normaliser: str = "",
    point_map: PointMap | None = None,
    faults: Faults = "refuse",
) -> LandmarkScores:
    """`score_points` of what a network gives for a data set, through `point_map` where given. With the faults
    "skip", pictures that do not decode are left out and listed in `LandmarkScores.skipped`."""
    unreadable: dict[int, str] | None = None if faults == "refuse" else {}
    points = predict(network, dataset, unreadable)
    skipped = skipped_pictures(dataset.files, unreadable or {})
    if skipped:
        readable = np.ones(len(dataset), bool)
        readable[list(unreadable or {})] = False
        points = points[np.repeat(readable, np.diff(dataset.starts))]
        dataset = dataset.subset(np.flatnonzero(readable))
    mapped = points if point_map is None else point_map(points)
    return replace(score_points(mapped, dataset, normaliser), skipped=skipped)


def score_points(points: ArrayLike, dataset: Dataset, normaliser: str = "") -> LandmarkScores:
    """`evaluate` points (m, P, 2) px in the order of a data set's faces, by its labels and boxes, and unless
    given by the outer eye corners where these are known for so many points, otherwise by the box. 106 points
    are scored on 98 through WFLW_FROM_106. Raises InputError where the data set has no landmarks."""
    if dataset.keypoints is None:
        raise InputError("the data set has no landmarks: name one with keypoints")
    predicted = np.asarray(points)
    truth, labelled = dataset.keypoints[:, :, :2], dataset.keypoints[:, :, 2] > 0
    if predicted.shape[1:2] == (106,) and truth.shape[1] == 98:
        predicted = predicted[:, WFLW_FROM_106]
    normaliser = normaliser or ("inter-ocular" if truth.shape[1] in LAYOUTS else "box")
    return evaluate(predicted, truth, normaliser, dataset.boxes, labelled)


@dataclass(frozen=True, eq=False)
class PointMap:
    """From one way to number the points of a face to another: each point of the second is an affine function
    of its nearest point of the first, relative to the face. Found from faces that have both (`fit_map`)."""

    nearest: Ints  # (T,)
    linear: NDArray[np.float64]  # (T, 2, 2)
    offset: NDArray[np.float64]  # (T, 2)

    def __call__(self, points: ArrayLike) -> NDArray[np.float32]:
        """(n, S, 2) px -> (n, T, 2) px."""
        start, size = _frames(points)
        relative = ((np.asarray(points, np.float64) - start) / size)[:, self.nearest]
        mapped = np.einsum("tij,ntj->nti", self.linear, relative) + self.offset
        result: NDArray[np.float32] = (start + mapped * size).astype(np.float32)
        return result


def fit_map(points: ArrayLike, others: ArrayLike) -> PointMap:
    """The map from `points` (n, S, 2) to `others` (n, T, 2) of the same faces, px, by least squares.

    It also takes out what a network that gave `points` does wrong on average: score it on other faces than
    those it was fitted on. Raises InputError for fewer than 20 faces.
    """
    first, second = np.asarray(points, np.float64), np.asarray(others, np.float64)
    if len(first) != len(second) or len(first) < 20:
        raise InputError(
            f"a map needs the same faces twice, at least 20: found {len(first)} and {len(second)}"
        )
    start, size = _frames(points)
    first, second = (first - start) / size, (second - start) / size
    apart = [
        np.median(np.linalg.norm(first - second[:, [t]], axis=2), axis=0) for t in range(second.shape[1])
    ]
    nearest = np.argmin(apart, axis=1)
    linear, offset = np.empty((len(nearest), 2, 2)), np.empty((len(nearest), 2))
    for t, s in enumerate(nearest):
        terms = np.column_stack((first[:, s], np.ones(len(first))))
        solution = np.linalg.lstsq(terms, second[:, t], rcond=None)[0]
        linear[t], offset[t] = solution[:2].T, solution[2]
    return PointMap(nearest, linear, offset)


def _frames(points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start and size of each face's cut, (n, 1, 2)."""
    windows = windows_of_points(np.asarray(points, np.float32)).astype(np.float64)
    return windows[:, None, :2], (windows[:, 2:] - windows[:, :2])[:, None]


def _lengths(
    real: NDArray[np.float64], normaliser: str, boxes: ArrayLike | None, mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    if normaliser == "inter-ocular":
        layout = LAYOUTS.get(real.shape[1])
        if layout is None:
            raise InputError(
                f"the outer eye corners of {real.shape[1]} points are not known (they are for "
                f"{', '.join(map(str, LAYOUTS))}): use normaliser='box'"
            )
        left, right = layout.eye_corners
        return np.where(
            mask[:, [left, right]].all(axis=1), np.linalg.norm(real[:, left] - real[:, right], axis=1), 0.0
        )
    if normaliser == "box":
        if boxes is not None:
            corners = np.asarray(boxes, np.float64).reshape(-1, 4)
            return np.hypot(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        low = np.where(mask[..., None], real, np.inf).min(axis=1)
        high = np.where(mask[..., None], real, -np.inf).max(axis=1)
        result: NDArray[np.float64] = np.linalg.norm(high - low, axis=1)
        return result
    raise InputError(f"normaliser must be 'inter-ocular' or 'box', not {normaliser!r}")


def _mean(errors: NDArray[np.float64], axis: int | None = None) -> Any:
    valid = ~np.isnan(errors)
    return np.where(valid, errors, 0).sum(axis=axis) / np.maximum(valid.sum(axis=axis), 1)
