"""WIDER FACE's own protocol: easy, medium and hard average precision of a face detector.

Source: the evaluation toolbox of WIDER FACE (http://shuoyang1213.me/WIDERFACE/). All coordinates are those of
the original pictures, whatever size the detector saw.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as bx
from toolkit.bootstrap import Interval, intervals
from toolkit.evaluation.average_precision import average_precision
from toolkit.evaluation.columns import Detections, Truth
from toolkit.evaluation.mat_file import read_mat
from toolkit.evaluation.matching import best_object
from toolkit.files import check_place, whole_folder
from toolkit.runtime import InputError, progress
from toolkit.tables import Shown
from toolkit.text import read_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = ("easy", "medium", "hard")
_THRESHOLDS = 1000
_IOU = 0.5
_TEXT_BYTES = 4_000_000  # of a picture's detections, or of the list of sizes


@dataclass(frozen=True, eq=False)
class WiderTruth:
    """n pictures, m faces; the faces of picture i are the rows `starts[i]:starts[i + 1]`."""

    files: tuple[str, ...]  # n, "0--Parade/0_Parade_marchingband_1_465.jpg"
    starts: NDArray[np.int64]  # (n + 1,)
    boxes: NDArray[np.float32]  # (m, 4) xyxy pixels of the original picture
    counted: NDArray[np.bool_]  # (3, m) whether easy, medium, hard ask for the face; others are ignored there

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, files: Sequence[str]) -> WiderTruth:
        """The pictures `files` in that order; InputError for one that is not there."""
        at = {name: i for i, name in enumerate(self.files)}
        unknown = [name for name in files if name not in at]
        if unknown:
            raise InputError(
                f"{len(unknown)} of {len(files)} pictures are not in the ground truth, the first is "
                f"{unknown[0]!r}: names look like {self.files[0]!r}"
            )
        rows = [np.arange(self.starts[at[name]], self.starts[at[name] + 1]) for name in files]
        starts = np.concatenate(([0], np.cumsum([len(r) for r in rows]))).astype(np.int64)
        chosen = np.concatenate([np.zeros(0, np.int64), *rows])
        return WiderTruth(tuple(files), starts, self.boxes[chosen], self.counted[:, chosen])


@dataclass(frozen=True, eq=False)
class WiderScores(Shown):
    """Average precisions in 0..1, and the curves they are the areas of."""

    easy: float
    medium: float
    hard: float
    faces: dict[str, int]  # setting -> faces it asks for
    pictures: int
    curves: dict[
        str, tuple[NDArray[np.floating], NDArray[np.floating]]
    ]  # setting -> recall, precision (1000,)

    def caption(self) -> str:
        """The size of the set."""
        return f"{self.pictures:,} pictures"

    def columns(self) -> dict[str, list[str]]:
        """A row for each setting."""
        return {
            "faces": list(SETTINGS),
            "number": [f"{self.faces[name]:,}" for name in SETTINGS],
            "AP": [f"{getattr(self, name):.4f}" for name in SETTINGS],
        }

    def figure(self) -> Figure:
        """The curves."""
        from toolkit import viz

        return viz.precision_recall(self.curves, {name: getattr(self, name) for name in SETTINGS})

    def as_dict(self) -> dict[str, Any]:
        """For JSON: easy, medium, hard, pictures, and the faces of each setting."""
        return {
            **{name: getattr(self, name) for name in SETTINGS},
            "pictures": self.pictures,
            "faces": self.faces,
        }


def read_truth(folder: str | Path) -> WiderTruth:
    """The official wider_face_val.mat and wider_{easy,medium,hard}_val.mat of a folder."""

    def column(name: str, key: str) -> list[NDArray[Any]]:
        path = Path(folder) / f"wider_{name}_val.mat"
        if not path.exists():
            raise InputError(
                f"{path} is missing: WIDER FACE's evaluation needs the official ground-truth files"
            )
        try:
            return [row[0] for row in read_mat(path, key)]
        except (InputError, IndexError) as error:
            raise InputError(f"{path} is not WIDER FACE's ground truth: {error}") from None

    events = column("face", "event_list")  # per event: its name
    names = column("face", "file_list")  # per event: (pictures, 1) cells of a name
    faces = column("face", "face_bbx_list")  # per event: (pictures, 1) cells of (faces, 4) x, y, w, h
    asked = [column(setting, "gt_list") for setting in SETTINGS]  # likewise of (faces, 1) numbers from 1
    files, boxes, counted = [], [], []
    try:
        for e, event in enumerate(events):
            for i, name in enumerate(names[e][:, 0]):
                xywh = np.asarray(faces[e][i, 0], np.float32).reshape(-1, 4)
                mask = np.zeros((len(SETTINGS), len(xywh)), bool)
                for s in range(len(SETTINGS)):
                    mask[s, asked[s][e][i, 0].astype(int).ravel() - 1] = True
                files.append(f"{event[0]}/{name[0]}.jpg")
                boxes.append(bx.xywh_to_xyxy(xywh))
                counted.append(mask)
        starts = np.concatenate(([0], np.cumsum([len(b) for b in boxes]))).astype(np.int64)
        return WiderTruth(tuple(files), starts, np.concatenate(boxes), np.concatenate(counted, axis=1))
    except (IndexError, ValueError, OverflowError, TypeError, AttributeError):
        raise InputError(
            f"{folder} is not WIDER FACE's ground truth: its files have no pictures, or other events, "
            "pictures or faces than each other; fetch them again"
        ) from None


def original_sizes(path: str | Path, files: Sequence[str]) -> NDArray[np.float32]:
    """(n, 2) original width and height of `files`, from a CSV with columns file, orig_w, orig_h: boxes found
    on a reduced copy are brought back by original size / copy's size."""
    lines = read_text(path, _TEXT_BYTES).splitlines()
    try:
        rows = csv.DictReader(lines)
        table = {row["file"]: (float(row["orig_w"]), float(row["orig_h"])) for row in rows}
        sizes = np.array([table[name] for name in files], np.float32).reshape(-1, 2)
        if not ((sizes > 0) & (sizes < np.inf)).all():
            raise ValueError("a side is not a positive number of pixels")
        return sizes
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} should have columns file, orig_w, orig_h for every picture: {error}"
        ) from None


def read_detections(folder: str | Path, truth: WiderTruth) -> Detections:
    """Text files in the official layout, `<event>/<picture>.txt`: name, count, then `x y w h score` a line.

    InputError for a missing file and for a line that is not a detection.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: expected one with WIDER FACE's events in it")
    event = truth.files[0].split("/")[0]
    root = next((p.parent for p in (folder / event, *folder.glob(f"*/{event}")) if p.is_dir()), None)
    if root is None:
        raise InputError(f"{folder} holds no folder {event!r}: expected one folder per event of WIDER FACE")
    images, rows = [], []
    for i, name in enumerate(progress(truth.files, "reading detections")):
        path = (root / name).with_suffix(".txt")
        if not path.exists():
            raise InputError(f"{path} is missing: every picture needs its file, an empty one says 0 faces")
        lines = read_text(path, _TEXT_BYTES).split("\n")
        try:
            table = np.array(" ".join(lines[2:]).split(), np.float64).reshape(-1, 5)
            if len(table) != int(lines[1]) or not np.isfinite(table).all():
                raise ValueError
        except (ValueError, IndexError):
            raise InputError(
                f"{path} is not in the official layout: expected a name, a count and then "
                "as many lines 'x y w h score'"
            ) from None
        images.append(np.full(len(table), i, np.int64))
        rows.append(table)
    table = np.concatenate(rows)
    corners = bx.xywh_to_xyxy(table[:, :4]).astype(np.float32)
    return Detections(np.concatenate(images), corners, table[:, 4], np.zeros(len(table), np.int64))


def check_writable(folder: str | Path, file: str) -> None:
    """InputError where `write_detections` would replace what is not its own: a folder that is neither empty
    nor has the event of the picture `file`."""
    check_place(folder, Path(file).parent.name, "a folder of score files")


def write_detections(folder: str | Path, truth: WiderTruth, detections: Detections) -> None:
    """The files that `read_detections` and the official toolbox read, by falling score. InputError as
    `check_writable`."""
    check_writable(folder, truth.files[0])
    order = np.lexsort((-detections.scores, detections.images))
    bounds = np.searchsorted(detections.images[order], np.arange(len(truth) + 1))
    table = np.column_stack((bx.xyxy_to_xywh(detections.boxes.astype(np.float64)), detections.scores))
    with whole_folder(folder) as root:
        for i, name in enumerate(progress(truth.files, "writing detections")):
            rows = table[order[bounds[i] : bounds[i + 1]]]
            path = (root / name).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{x:.3f} {y:.3f} {w:.3f} {h:.3f} {score:.9g}" for x, y, w, h, score in rows.tolist()]
            text = "\n".join([path.stem, str(len(rows)), *lines, ""])
            path.write_text(text, encoding="utf-8", errors="surrogateescape")


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What each of k detections is in each setting, by falling score; n pictures."""

    images: NDArray[np.int64]  # (k,)
    right: NDArray[np.bool_]  # (3, k) the first to find a face that is asked for
    shown: NDArray[np.bool_]  # (3, k) right or wrong; others found a face that is not asked for
    reached: NDArray[np.int64]  # (1000,) how many are at or above each threshold
    faces: NDArray[np.int64]  # (3, n) asked for in each picture


def judge(truth: WiderTruth, detections: Detections) -> Verdicts:
    """Match detections with faces as `evaluate` says."""
    faces = len(truth.boxes)
    everything = np.ones(faces, bool)
    none = np.zeros(faces, bool)
    plain = Truth(("face",), truth.starts, truth.boxes, np.zeros(faces, np.int32), none, none)
    detections = Detections(
        detections.images, detections.boxes, detections.scores, np.zeros(len(detections), np.int64)
    )
    best = best_object(plain, detections, everything, _IOU, pixel=1.0)
    scores = detections.scores.astype(np.float64)
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 1.0)
    scores = (scores - low) / (high - low) if high > low else np.ones(len(scores))
    order = np.argsort(-scores, kind="stable")
    order = order[np.diff(truth.starts)[detections.images[order]] > 0]
    best, scores = best[order], scores[order]
    thresholds = 1 - np.arange(1, _THRESHOLDS + 1) / _THRESHOLDS
    first = np.zeros(len(best), bool)
    first[np.unique(best, return_index=True)[1]] = True
    first &= best >= 0
    dropped = (best >= 0) & ~truth.counted[:, best]
    before = np.concatenate((np.zeros((len(SETTINGS), 1), np.int64), truth.counted.cumsum(axis=1)), axis=1)
    return Verdicts(
        images=detections.images[order],
        right=first & ~dropped,
        shown=~dropped,
        reached=len(scores) - np.searchsorted(scores[::-1], thresholds, "left"),
        faces=np.diff(before[:, truth.starts], axis=1),
    )


def score(verdicts: Verdicts, weights: NDArray[np.integer] | None = None) -> WiderScores:
    """Average precisions, counting picture i `weights[i]` times; each once unless weights (n,) are given."""
    pictures = verdicts.faces.shape[1]
    if weights is None:
        weights = np.ones(pictures, np.int64)
    times = weights[verdicts.images]
    aps: dict[str, float] = {}
    counts: dict[str, int] = {}
    curves: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]] = {}
    for s, setting in enumerate(SETTINGS):
        right, shown = (
            np.concatenate(([0], np.cumsum(times * marks[s])))[verdicts.reached]
            for marks in (verdicts.right, verdicts.shown)
        )
        counts[setting] = int(verdicts.faces[s] @ weights)
        recall, precision = right / max(counts[setting], 1), right / np.maximum(shown, 1)
        curves[setting] = recall, precision
        aps[setting] = average_precision(recall, precision)
    return WiderScores(**aps, faces=counts, pictures=int(weights.sum()), curves=curves)


def evaluate(truth: WiderTruth, detections: Detections) -> WiderScores:
    """Easy, medium and hard AP as the official toolbox computes them.

    Scores are stretched to 0..1 over all detections. In each picture, by falling score, a detection takes the
    face it overlaps most, if the IoU (corners including their last pixel) is at least .5; where a setting
    does not ask for that face the detection is dropped, where it does the first one finds it and later ones
    are wrong. Detections of pictures without any face are left out. Precision and recall are taken at 1,000
    equal steps of the score, and AP is the area under the falling hull.
    """
    return score(judge(truth, detections))


def compare(
    truth: WiderTruth,
    first: Sequence[Detections],
    second: Sequence[Detections],
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """How much better the first detector is than the second, with intervals by a paired bootstrap (see
    `toolkit.bootstrap`): pictures are drawn with replacement, the same ones for both.

    Args:
        truth: of the pictures.
        first: detections of one detector; of several trainings, of which each round takes one at random, so
            that the interval covers their spread, too.
        second: likewise.
        rounds: draws of pictures.
        level: part of the draws within the interval, 0..1.
        seed: of the draws.

    Returns:
        easy, medium, hard: the mean difference over the trainings on all pictures, and its interval.
    """
    sides = [[judge(truth, each) for each in side] for side in (first, second)]

    def difference(weights: NDArray[np.int64] | None, rng: np.random.Generator) -> NDArray[np.float64]:
        if weights is None:
            better, other = (np.mean([_aps(each, None) for each in side], axis=0) for side in sides)
        else:
            better, other = (_aps(side[rng.integers(len(side))], weights) for side in sides)
        return np.asarray(better - other)

    return dict(zip(SETTINGS, intervals(difference, len(truth), rounds, level, seed), strict=True))


def _aps(verdicts: Verdicts, weights: NDArray[np.integer] | None) -> NDArray[np.float64]:
    scores = score(verdicts, weights)
    return np.array([getattr(scores, name) for name in SETTINGS])
