"""The face cascade: a detector finds faces, a landmark network places points in each, any backend for both.

A face is cut out by the network's crop rule (`LandmarkIO.crop`). In a video the next cut comes from the last
points, and the detector only runs again where a face is lost, and now and then for new ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.boxes import iou, match_greedily
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
from toolkit.models import create_model
from toolkit.models.io import LandmarkIO
from toolkit.models.network import Detecting, Landmarking
from toolkit.pictures import Image, load_image
from toolkit.runtime import InputError
from toolkit.tables import Shown
from toolkit.videos import Video, write_video

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float32]

DETECTOR, LANDMARKS = "yoloface-100k", "landmark106"
# Boxes at the picture's border stay whole: a face that is half outside is cut half outside.
FACES = DetectSettings(conf=0.5, clip=False)
# Where the bounds of the points are in a cut, relative to it (x1, y1, x2, y2): there landmark106 puts them on
# WFLW's faces, and around there its error hardly changes.
BOUNDS = (0.06, 0.08, 0.94, 0.97)
OUTSIDE = 127  # grey of a cut where there is no picture


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of one picture, by falling score. Nothing is clipped to the picture."""

    boxes: Floats  # (K, 4) xyxy px
    scores: Floats  # (K,) the detector's, 0..1
    points: Floats  # (K, P, 2) x, y px

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Any) -> Faces:
        """Some of the faces: rows as numpy has them, such as an index array or a slice."""
        return Faces(self.boxes[rows], self.scores[rows], self.points[rows])


def windows_of_boxes(boxes: Floats, io: LandmarkIO) -> Floats:
    """Face boxes (K, 4) xyxy px -> what to cut out for the network (K, 4) xyxy px, which may reach outside
    the picture."""
    side, up, down = io.crop
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.concatenate((centres - sizes * (side, up), centres + sizes * (side, down)), 1, dtype=np.float32)


def windows_of_points(points: Floats, bounds: tuple[float, float, float, float] = BOUNDS) -> Floats:
    """Points (K, P, 2) px -> what to cut out, (K, 4) xyxy px, for the bounds of the points to be there."""
    low, high = points.min(1), points.max(1)
    size = (high - low) / np.subtract(bounds[2:], bounds[:2])
    start = low - size * bounds[:2]
    return np.concatenate((start, start + size), 1, dtype=np.float32)


def boxes_of_windows(windows: Floats, io: LandmarkIO) -> Floats:
    """The inverse of `windows_of_boxes`."""
    side, up, down = io.crop
    sizes = (windows[:, 2:] - windows[:, :2]) / (2 * side, up + down)
    centres = windows[:, :2] + sizes * (side, up)
    return np.concatenate((centres - sizes / 2, centres + sizes / 2), 1, dtype=np.float32)


def cut(image: Image, window: NDArray[np.floating], size: tuple[int, int]) -> Image:
    """A window (4,) xyxy px of a picture at `size` (w, h), bilinear; grey where there is no picture."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"expected an RGB picture (H, W, 3) of uint8, found {image.shape} of {image.dtype}")
    step = np.maximum(window[2:] - window[:2], 1) / size  # px of the picture to one of the cut
    # cv2 counts from the centres of pixels, we from their edges
    shift = window[:2] + step / 2 - 0.5
    return cv2.warpAffine(
        image,
        np.column_stack((np.diag(step), shift)),
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderValue=(OUTSIDE,) * 3,
    )  # type: ignore[return-value]


def place_points(image: Image, windows: Floats, network: Landmarking) -> tuple[Floats, Floats]:
    """The points (K, P, 2) px that the network finds in windows (K, 4) of a picture, and what it was shown
    (K, C, H, W)."""
    io = network.io
    x = np.empty((len(windows), io.channels, *io.input_size[::-1]), np.float32)
    for i, window in enumerate(windows):
        x[i] = preprocess(cut(image, window, io.input_size), io)[0]
    if not len(windows):
        return np.empty((0, io.points, 2), np.float32), x
    relative = io.points_of(network.predict(x))
    start, size = windows[:, None, :2], np.maximum(windows[:, None, 2:] - windows[:, None, :2], 1)
    return (start + relative * size).astype(np.float32), x


@cache
def _published(name: str) -> Any:
    return create_model(name, "published")


def detect_faces(
    image: Image | str | Path,
    detector: Detecting | str = DETECTOR,
    landmarks: Landmarking | str = LANDMARKS,
    settings: DetectSettings = FACES,
) -> Faces:
    """Faces of one picture and their points.

    Args:
        image: a path, or RGB (H, W, 3) uint8.
        detector, landmarks: networks on any engine, or names of published ones in the zoo.
        settings: of the detector.

    Returns:
        Boxes, scores and points by falling score; no rows where there is no face.

    Raises:
        InputError: the picture does not decode.
    """
    detector = _published(detector) if isinstance(detector, str) else detector
    landmarks = _published(landmarks) if isinstance(landmarks, str) else landmarks
    picture = load_image(image) if isinstance(image, (str, Path)) else image
    detections = next(run(detector, [picture], settings))
    points, _ = place_points(picture, windows_of_boxes(detections.boxes, landmarks.io), landmarks)
    return Faces(detections.boxes, detections.scores, points)


# --- video -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tracking:
    """How faces are followed.

    `same`: a face is lost where its cut correlates with that of its last detection by less, -1..1.
    `every`: the detector looks for new faces after so many frames; 0: only where one is lost.
    `overlap`: IoU from which a detected face is one that was followed.
    `smoothing`: the one-euro filter's cut-off frequency at rest, in Hz; 0 leaves points as they are.
    `following`: how much the cut-off grows with speed, in Hz for each face size a second.
    """

    same: float = 0.6
    every: int = 30
    overlap: float = 0.3
    smoothing: float = 3.0
    following: float = 30.0

    def __post_init__(self) -> None:
        ranges = {"same": (-1, 1), "overlap": (0, 1), "every": (0, math.inf)}
        for name, (low, high) in {**ranges, "smoothing": (0, math.inf), "following": (0, math.inf)}.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} must be between {low} and {high}, not {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Smooth:
    """The one-euro filter (Casiez et al., CHI 2012) over the points of faces, in face sizes.

    It is a low-pass filter whose cut-off frequency rises with the speed: still points do not tremble, moving
    ones do not lag.
    """

    points: Floats  # (K, P, 2) px, filtered
    speed: Floats  # (K, P, 2) face sizes a second, filtered

    def step(self, points: Floats, sizes: Floats, fps: float, settings: Tracking) -> Smooth:
        """With the next frame's points (K, P, 2) of faces of `sizes` (K,) px."""
        scale = sizes[:, None, None]
        speed = (points - self.points) / scale * fps
        speed = self.speed + _share(1.0, fps) * (speed - self.speed)
        cutoff = settings.smoothing + settings.following * np.linalg.norm(speed, axis=2, keepdims=True)
        return Smooth(self.points + _share(cutoff, fps) * (points - self.points), speed.astype(np.float32))


def _share(cutoff: Any, fps: float) -> Any:
    """What a first-order low-pass filter takes of each new value."""
    return 1 / (1 + fps / (2 * math.pi * cutoff))


@dataclass(eq=False)
class FaceTracker:
    """Faces from frame to frame: call it with each frame of a video, in order.

    Between detections a face's cut comes from its last points. The detector runs on a frame where there is no
    face yet, where one is lost (`Tracking.same`), and after `Tracking.every` frames. `.detections` counts how
    often it ran, `.detected` says whether on the last frame.
    """

    detector: Detecting
    landmarks: Landmarking
    settings: DetectSettings = FACES
    tracking: Tracking = Tracking()
    fps: float = 25.0
    detections: int = 0
    detected: bool = False
    _faces: Faces | None = None  # of the last frame, as the network gave them
    _seen: Floats = field(default_factory=lambda: np.empty(0, np.float32))  # their cuts when detected
    _smooth: Smooth | None = None
    _since: int = 0  # frames since the last detection

    def __call__(self, frame: Image) -> Faces:
        """The faces of the next frame, smoothed."""
        last, self.detected = self._faces, False
        self._since += 1
        if last is not None and len(last) and not 0 < self.tracking.every <= self._since:
            windows = windows_of_points(last.points)
            points, x = place_points(frame, windows, self.landmarks)
            if (correlation(x, self._seen) >= self.tracking.same).all():
                boxes = boxes_of_windows(windows_of_points(points), self.landmarks.io)
                self._faces = Faces(boxes, last.scores, points)
                return self._smoothed(np.arange(len(points)))
        return self._detect(frame)

    def _detect(self, frame: Image) -> Faces:
        self.detections += 1
        self.detected, self._since = True, 0
        last = self._faces
        detections = next(run(self.detector, [frame], self.settings))
        points, _ = place_points(frame, windows_of_boxes(detections.boxes, self.landmarks.io), self.landmarks)
        self._faces = Faces(detections.boxes, detections.scores, points)
        # how the faces look where tracking will cut them
        self._seen = place_points(frame, windows_of_points(points), self.landmarks)[1]
        return self._smoothed(self._same_faces(last, self._faces))

    def _same_faces(self, last: Faces | None, now: Faces) -> NDArray[np.int64]:
        """For each face its row among the last frame's, -1 for a new one."""
        if last is None or not len(last) or not len(now):
            return np.full(len(now), -1)
        overlaps = iou(windows_of_points(now.points), windows_of_points(last.points))
        # `overlap` itself is enough, and match_greedily asks for strictly more
        threshold = np.nextafter(np.float32(self.tracking.overlap), np.float32(-1))
        return match_greedily(overlaps, float(threshold), best_first=True)

    def _smoothed(self, rows: NDArray[np.int64]) -> Faces:
        """The frame's faces, each filtered on from row `rows` of the last frame, afresh where that is -1."""
        faces = self._faces
        assert faces is not None
        if not self.tracking.smoothing:
            return faces
        state = Smooth(faces.points.copy(), np.zeros_like(faces.points))
        if self._smooth is not None and (rows >= 0).any():
            tracked = np.flatnonzero(rows >= 0)
            before = Smooth(self._smooth.points[rows[tracked]], self._smooth.speed[rows[tracked]])
            after = before.step(
                faces.points[tracked], face_sizes(faces.points[tracked]), self.fps, self.tracking
            )
            state.points[tracked], state.speed[tracked] = after.points, after.speed
        self._smooth = state
        return replace(faces, points=state.points)


def face_sizes(points: Floats) -> Floats:
    """(K, P, 2) -> (K,): the square root of the area of the points' bounds, px, at least 1."""
    result: Floats = np.sqrt(np.prod(points.max(1) - points.min(1), axis=1)).clip(min=1)
    return result


def correlation(first: Floats, second: Floats) -> Floats:
    """Pearson's correlation of cuts (K, C, H, W), pair by pair, over all pixels and colours. (K,)"""
    a, b = (v.reshape(len(v), -1) - v.reshape(len(v), -1).mean(1, keepdims=True) for v in (first, second))
    result: Floats = (a * b).sum(1) / np.maximum(np.sqrt((a**2).sum(1) * (b**2).sum(1)), 1e-9)
    return result


# --- pictures and records ----------------------------------------------------------------------------


def annotate_faces(image: Image, faces: Faces, in_place: bool = False, tracked: bool = False) -> Image:
    """A copy of the picture, at its own size, with boxes, scores and points; with `in_place` the picture
    itself. Boxes that were `tracked` have another colour and no scores: those are of an earlier frame."""
    from toolkit import viz

    kind, scores = np.full(len(faces), int(tracked)), None if tracked else faces.scores
    boxed = viz.draw_boxes(image, faces.boxes, kind, scores, long_side=0, in_place=in_place)
    return viz.draw_points(boxed, faces.points, in_place=True)


@dataclass(frozen=True, eq=False)
class Followed(Shown):
    """Faces tracked through a video, next to those of a detection in every frame."""

    frames: Sequence[Image]
    tracked: Sequence[Faces]  # of each frame
    detected: Sequence[bool]  # whether the detector ran on it
    each: Sequence[Faces]  # of each frame, detected anew

    def caption(self) -> str:
        """How often the detector ran."""
        return f"The detector ran on {sum(self.detected)} of {len(self.frames)} frames"

    def columns(self) -> dict[str, list[object]]:
        """Both ways."""
        series = [values[np.isfinite(values)] for values in self._jitter().values()]
        jitter = [np.median(values) if len(values) else np.nan for values in series]
        return {
            "faces": list(self._jitter()),
            "detector runs": [sum(self.detected), len(self.frames)],
            "median jitter of a point, px": [f"{value:.2f}" for value in jitter],
        }

    def figure(self) -> Figure:
        """Six frames, with boxes in one colour where the detector ran and in another where they were
        tracked."""
        from toolkit import viz

        chosen = np.unique(np.linspace(0, len(self.frames) - 1, 6).astype(int))
        stills = [
            annotate_faces(self.frames[i], self.tracked[i], tracked=not self.detected[i]) for i in chosen
        ]
        titles = [f"frame {i}, {'detected' if self.detected[i] else 'tracked'}" for i in chosen]
        return viz.image_grid(stills, titles, columns=3, cell=3.2)

    def _jitter(self) -> dict[str, Floats]:
        """Name -> (frames - 2,) px: by how much the step of the points of the leftmost face changes from one
        frame to the next, on average over its points; NaN where there is no face."""
        series = {"tracked and smoothed": self.tracked, "detected in every frame": self.each}
        result = {}
        for name, faces in series.items():
            nothing = np.full(self._points(), np.nan, np.float32)
            leftmost = [f.points[f.boxes[:, 0].argmin()] if len(f) else nothing for f in faces]
            change = np.diff(np.array(leftmost), 2, axis=0)
            result[name] = np.linalg.norm(change, axis=2).mean(axis=1)
        return result

    def _points(self) -> tuple[int, ...]:
        return self.tracked[0].points.shape[1:]

    def jitter(self) -> Figure:
        """Jitter over the video."""
        from toolkit import viz

        lines = {name: (np.arange(2, len(self.frames)), y) for name, y in self._jitter().items()}
        return viz.curves(lines, "frame", "change of a point's step, px", "Jitter")


def follow(video: Sequence[Image], tracker: FaceTracker) -> Followed:
    """Tracks faces through a video, and detects them in every frame for comparison.

    Args:
        video: at least three frames, RGB uint8.
        tracker: a new one; its networks and settings are used for both.
    """
    tracked, detected = [], []
    for frame in video:
        tracked.append(tracker(frame))
        detected.append(tracker.detected)
    each = [detect_faces(frame, tracker.detector, tracker.landmarks, tracker.settings) for frame in video]
    return Followed(video, tracked, detected, each)


def as_records(faces: Faces) -> list[dict[str, Any]]:
    """Faces as plain dictionaries: score, box (xyxy px), points (x, y px)."""
    return [
        {
            "score": round(float(score), 5),
            "box": [round(float(v), 2) for v in box],
            "points": [[round(float(v), 2) for v in point] for point in points],
        }
        for score, box, points in zip(faces.scores, faces.boxes, faces.points, strict=True)
    ]


def annotate_faces_video(tracker: FaceTracker, video: Video, path: Path, frames: int = 0) -> list[Faces]:
    """Write `video` with its faces as an .mp4 and return those of every frame.

    `frames` > 0 stops there: a camera has no end. The file appears whole or not at all.
    """

    def drawn(stream: Iterable[Image]) -> Iterator[tuple[Image, Faces]]:
        for frame in stream:
            faces = tracker(frame)
            yield annotate_faces(frame, faces), faces

    return write_video(video, path, drawn, frames)
