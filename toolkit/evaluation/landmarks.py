"""How good face landmarks are: normalised mean error, area under its curve, failure rate, regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.runtime import InputError

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
    per_face: NDArray[np.float64]  # (n,), infinite for a face that was not found
    missed: int
    normaliser: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON: nme, auc@T and failure@T per threshold, regions, faces, missed."""
        return {
            "nme": None if np.isnan(self.nme) else self.nme,
            **{f"auc@{t:.2f}": value for t, value in self.auc.items()},
            **{f"failure@{t:.2f}": value for t, value in self.failure_rate.items()},
            "regions": self.regions,
            "faces": len(self.per_face),
            "missed": self.missed,
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
    """Points (n, k, 2) in pixels against the true ones.

    A face's error is the mean distance of its points divided by a length: "inter-ocular", the distance of the
    outer eye corners (k = 68, 98 or 106), or "box", the diagonal of `boxes` (n, 4) xyxy, by default the
    bounds of the true points. `labelled` (n, k) leaves points out. A face whose prediction is not finite was
    not found: it counts as a failure and as nothing in the area, and not in the mean errors.
    InputError for other shapes, an unknown layout, or a face without a length to divide by.
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
    if not (lengths > 0).all():
        face = int(np.flatnonzero(~(lengths > 0))[0])
        raise InputError(f"face {face} has no {normaliser} length to divide its error by: check its labels")
    seen = np.isfinite(found).all(axis=(1, 2))
    errors = np.linalg.norm(found - real, axis=2) / lengths[:, None]
    errors[~mask] = np.nan
    per_face = np.where(seen, _mean(errors, axis=1), np.inf)
    layout = LAYOUTS.get(real.shape[1])
    regions = {} if layout is None else layout.regions
    return LandmarkScores(
        nme=float(per_face[seen].mean()) if seen.any() else float("nan"),
        # The exact integral of the cumulative curve, a step per face.
        auc={t: float(np.clip(1 - per_face / t, 0, None).mean()) for t in thresholds},
        failure_rate={t: float((per_face > t).mean()) for t in thresholds},
        regions={name: float(_mean(errors[seen][:, points])) for name, points in regions.items()},
        per_face=per_face,
        missed=int((~seen).sum()),
        normaliser=normaliser,
    )


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
        return np.linalg.norm(high - low, axis=1)
    raise InputError(f"normaliser must be 'inter-ocular' or 'box', not {normaliser!r}")


def _mean(errors: NDArray[np.float64], axis: int | None = None) -> Any:
    known = ~np.isnan(errors)
    return np.where(known, errors, 0).sum(axis=axis) / np.maximum(known.sum(axis=axis), 1)
