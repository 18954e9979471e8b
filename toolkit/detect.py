"""From a picture, folder, video or camera to detections, for any backend.

A backend is any object with `.io` (toolkit.models.spec.ModelIO) and `.predict(x)`: float32 (N, 3, H, W) ->
list of raw head maps. Torch detectors and opened exports have both.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.boxes import NMS_KINDS, Placement, clip, letterbox, nms, padded, stretch
from toolkit.models.detector import Candidates, Detector, decode, evaluating
from toolkit.models.landmarks import LandmarkIO, NetworkIO
from toolkit.models.spec import ModelIO
from toolkit.runtime import InputError, progress, whole_file

if TYPE_CHECKING:
    import supervision

T = TypeVar("T")
Image = NDArray[np.uint8]  # (H, W, 3) RGB
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
RESIZES = ("bilinear", "darknet")
FITS: dict[str, Callable[[tuple[int, int], tuple[int, int]], Placement]] = {
    "stretch": stretch,
    "letterbox": letterbox,
}


class Backend(Protocol):
    @property
    def io(self) -> ModelIO: ...

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]: ...


class LandmarkBackend(Protocol):
    """A network that places points in a face cut out; `predict` gives [(N, 2 points)]."""

    @property
    def io(self) -> LandmarkIO: ...

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]: ...


@runtime_checkable
class Suppressing(Protocol):
    """A network with decoding and plain suppression inside, such as a model-end2end.onnx."""

    @property
    def io(self) -> ModelIO: ...

    def find(self, x: NDArray[np.float32], conf: float, iou: float) -> list[Boxes]:
        """(N, 3, H, W) -> detections of each picture, boxes xyxy relative to the input."""
        ...


@dataclass(frozen=True)
class Settings:
    """How pictures go in and boxes come out.

    `conf`: threshold on objectness and on score, 0..1. `iou`: suppression above this overlap, within a class.
    `nms`: "plain" or "diou" (toolkit.boxes.nms). `resize`: "bilinear" (OpenCV, on bytes) or "darknet"
    (align-corners, on floats, exact). `fit`: "stretch" or "letterbox". `size`: network input (w, h), the
    network's own unless given. `clip`: cut boxes to the picture, which darknet does not.
    `long_side`: makes the input for each picture by its own proportions, that side long (0: as the picture
    is), padded to a multiple of the stride; overrules `size` and `fit`.
    """

    conf: float = 0.25
    iou: float = 0.45
    nms: str = "plain"
    resize: str = "bilinear"
    fit: str = "stretch"
    size: tuple[int, int] | None = None
    clip: bool = True
    long_side: int | None = None

    def __post_init__(self) -> None:
        choices = (
            ("nms", self.nms, NMS_KINDS),
            ("resize", self.resize, RESIZES),
            ("fit", self.fit, tuple(FITS)),
        )
        for name, value, known in choices:
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        for name, number in (("conf", self.conf), ("iou", self.iou)):
            if not isinstance(number, (int, float)) or not 0 <= number <= 1:
                raise InputError(f"{name} is a number between 0 and 1, {number!r} was given")


@dataclass(frozen=True)
class Boxes:
    """Detections of one picture, by falling score."""

    boxes: NDArray[np.float32]  # (K, 4) xyxy in pixels of the picture
    scores: NDArray[np.float32]  # (K,)
    class_ids: NDArray[np.int64]  # (K,)


def load_image(path: str | Path) -> Image:
    """A picture file as RGB, upright by its EXIF tag. Raises InputError where it does not decode."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no picture {path}")
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise InputError(f"{path} does not decode as a picture: it is damaged, empty or of another type")
    return image  # type: ignore[return-value]


def resize_darknet(image: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(H, W, C) float -> (height, width, C), as darknet's resize_image: align-corners bilinear, columns
    first, in float32 arithmetic."""

    def taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        scale = np.float32(source - 1) / np.float32(max(target - 1, 1))
        position = np.arange(target, dtype=np.float32) * scale
        index = position.astype(np.intp)
        return index, position - index.astype(np.float32)

    h, w = image.shape[:2]
    index, part = taps(w, width)
    right = np.minimum(index + 1, w - 1)
    columns = (1 - part)[None, :, None] * image[:, index] + part[None, :, None] * image[:, right]
    columns[:, -1] = image[:, -1]
    index, part = taps(h, height)
    below = np.minimum(index + 1, h - 1)
    # darknet adds no lower row at the bottom edge, whatever the fraction that rounding leaves there
    weight = part.copy()
    weight[-1] = 0
    return (1 - part)[:, None, None] * columns[index] + weight[:, None, None] * columns[below]


def preprocess(
    image: Image,
    io: NetworkIO,
    settings: Settings = Settings(),
    out: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], Placement]:
    """RGB (H, W, 3) uint8 -> network input (3, h, w) float32, and where the picture lies in it.

    Letterbox borders are grey (0.5), as darknet's. With `out`, (h, w, 3) memory to use, the three colours of
    a pixel lie together, which torch's convolutions take without a copy (channels_last); without, each colour
    is a plane of its own, which any engine may be pointed at.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"expected an RGB picture (H, W, 3) of uint8, found {image.shape} of {image.dtype}")
    own = (image.shape[1], image.shape[0])
    if settings.long_side is None:
        placement = FITS[settings.fit](own, io.check_size(settings.size or io.input_size))
    else:
        placement = padded(own, settings.long_side or max(own), io.stride)
    outer = placement.outer
    (w, h), (x, y) = placement.inner, placement.offset
    if settings.resize == "darknet":
        inner = resize_darknet(image.astype(np.float32), w, h)
    else:
        inner = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if io.channel_order == "BGR":
        inner = inner[..., ::-1]
    pixels = np.empty((outer[1], outer[0], 3), np.float32) if out is None else out
    if placement.inner != outer:
        pixels[:] = 127.5
    pixels[y : y + h, x : x + w] = inner
    if io.mean:
        pixels -= np.float32(io.mean)
    pixels *= np.float32(io.scale)
    chw = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(chw) if out is None else chw, placement


def suppress(candidates: Candidates, settings: Settings) -> Boxes:
    """Candidates of one picture -> what is left of them, by falling score, still relative to the input."""
    keep = nms(candidates.boxes_norm, candidates.scores, candidates.class_ids, settings.iou, settings.nms)
    return Boxes(candidates.boxes_norm[keep], candidates.scores[keep], candidates.class_ids[keep])


def place(found: Boxes, placement: Placement, settings: Settings) -> Boxes:
    """Boxes relative to the network's input -> pixels of the picture."""
    boxes = placement.to_image(found.boxes)
    return replace(found, boxes=clip(boxes, *placement.size) if settings.clip else boxes)


def run(
    model: Backend | Suppressing,
    images: Iterable[Image | str | Path],
    settings: Settings = Settings(),
    batch: int = 1,
) -> Iterator[Boxes]:
    """Detections of every picture (RGB arrays or paths), in order.

    A few threads each take a batch from file to boxes. A torch network on the CPU runs in all of them at
    once, one core each, which for small networks is faster than all cores on one batch; any other network
    runs in one at a time while the others read and decode. Inputs of different sizes (`long_side`) run one
    by one.
    """
    if isinstance(model, Suppressing) and settings.nms != "plain":
        raise InputError(f"this network has plain suppression inside: {settings.nms!r} cannot be chosen")
    if settings.long_side is not None:
        batch = 1
    items = iter(images)
    chunks = iter(lambda: list(islice(items, batch)), [])
    turn, mine = threading.Lock(), threading.local()
    spread = isinstance(model, Detector) and next(model.parameters()).device.type == "cpu"

    def work(chunk: list[Image | str | Path]) -> list[Boxes]:
        pictures = [load_image(item) if isinstance(item, (str, Path)) else item for item in chunk]
        if settings.long_side is not None:
            x, placement = preprocess(pictures[0], model.io, settings)
            x, placements = x[None], [placement]
        else:
            if not hasattr(mine, "pixels"):  # fresh memory for every batch costs more than resizing it
                w, h = model.io.check_size(settings.size or model.io.input_size)
                mine.pixels = np.empty((batch, h, w, 3), np.float32)
            pixels = mine.pixels[: len(chunk)]
            placements = [
                preprocess(picture, model.io, settings, out)[1]
                for picture, out in zip(pictures, pixels, strict=True)
            ]
            x = pixels.transpose(0, 3, 1, 2)
        if isinstance(model, Suppressing):
            with turn:
                found = model.find(x, settings.conf, settings.iou)
        else:
            with nullcontext() if spread else turn:
                maps = model.predict(x)
            found = [suppress(c, settings) for c in decode(maps, model.io, settings.conf)]
        return [place(f, p, settings) for f, p in zip(found, placements, strict=True)]

    first = list(islice(chunks, 2))
    if len(first) < 2:  # one picture or one batch: all cores on it
        for chunk in first:
            yield from work(chunk)
        return
    cores, threads = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)  # for one small picture its threads only take the cores from the network
    if spread:
        pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    else:
        pool = ThreadPoolExecutor(3)
    with evaluating(model) if isinstance(model, Detector) else nullcontext():
        try:
            waiting = deque(pool.submit(work, chunk) for chunk in (*first, *islice(chunks, cores)))
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(work, chunk) for chunk in islice(chunks, 1))
                yield from done
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(cores)  # what threads started from now on take; ours has kept it
            cv2.setNumThreads(threads)


def detect(
    model: Backend, image: Image | str | Path, conf: float = 0.25, iou: float = 0.45, **settings: Any
) -> supervision.Detections:
    """Detections in one picture (a path or an RGB array), with `data["class_name"]`.

    `settings`: nms, resize, fit, size, as in `Settings`. Raises InputError where the picture does not decode
    or a setting is unknown.
    """
    known = [field.name for field in fields(Settings)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}: detect takes {', '.join(known)}")
    chosen = Settings(conf=conf, iou=iou, **settings)
    return to_supervision(next(run(model, [image], chosen)), model.io)


def to_supervision(found: Boxes, io: ModelIO) -> supervision.Detections:
    """The same detections in supervision's container."""
    import supervision

    names = np.array(io.classes, dtype=object)[found.class_ids].astype(str)
    return supervision.Detections(
        xyxy=found.boxes,
        confidence=found.scores,
        class_id=found.class_ids,
        data={"class_name": names},
    )


def as_records(found: Boxes, io: ModelIO) -> list[dict[str, Any]]:
    """Detections as plain dictionaries: class, score, box (xyxy px)."""
    return [
        {"class": io.classes[c], "score": round(float(s), 5), "box": [round(float(v), 2) for v in b]}
        for b, s, c in zip(found.boxes, found.scores, found.class_ids, strict=True)
    ]


def as_coco(found: Boxes, image_id: int) -> list[dict[str, Any]]:
    """Detections as rows of a COCO results file (category_id = class index + 1, bbox xywh px)."""
    return [
        {
            "image_id": image_id,
            "category_id": int(c) + 1,
            "bbox": [round(float(v), 2) for v in (b[0], b[1], b[2] - b[0], b[3] - b[1])],
            "score": round(float(s), 5),
        }
        for b, s, c in zip(found.boxes, found.scores, found.class_ids, strict=True)
    ]


def find_images(path: str | Path) -> list[Path]:
    """The picture itself, or every picture below a folder by name. Raises InputError where there is none."""
    path = Path(path)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InputError(f"there is no picture in {path}: expected {', '.join(sorted(IMAGE_SUFFIXES))}")
        return found
    if not path.is_file():
        raise InputError(f"there is no picture, folder or video {path}")
    return [path]


class Video:
    """Frames (RGB) of a video file or of a camera; `.fps`, `.size` (w, h), and `len` (0 where unknown)."""

    def __init__(self, source: str | Path | int):
        self.capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self.capture.isOpened():
            kind = "camera" if isinstance(source, int) else "video"
            raise InputError(
                f"cannot open the {kind} {source}: it is missing, in use or of an unknown format"
            )
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.size = (
            int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )

    def __len__(self) -> int:
        return max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Image]:
        try:
            while True:
                good, frame = self.capture.read()
                if not good:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # type: ignore[misc]
        finally:
            self.capture.release()


def annotate(image: Image, found: Boxes, io: ModelIO) -> Image:
    """A copy of the picture, at its own size, with boxes, class names and scores."""
    from toolkit import viz

    return viz.draw_boxes(image, found.boxes, found.class_ids, found.scores, io.classes, long_side=0)


def save_image(path: Path, image: Image) -> None:
    """Write an RGB picture, its type by the suffix. Raises InputError where the folder cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise InputError(f"cannot write the picture {path}: is the folder writable and the disk not full?")


def write_video(
    video: Video,
    path: Path,
    draw: Callable[[Iterator[Image]], Iterator[tuple[Image, T]]],
    frames: int = 0,
) -> list[T]:
    """Write what `draw` makes of the frames of `video` as an .mp4: a picture and a result for each, in order.
    -> the results.

    `frames` > 0 stops there: a camera has no end. The file appears whole or not at all.
    """
    total = min(frames, len(video)) if frames and len(video) else frames or len(video) or None
    results = []
    with whole_file(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), video.fps, video.size)
        if not writer.isOpened():
            raise InputError(f"cannot write the video {path}: expected a name that ends in .mp4")
        stream = islice(video, frames) if frames else iter(video)
        for picture, result in progress(draw(stream), "frames", total):
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            results.append(result)
        writer.release()
        if not results:
            raise InputError("the video holds no frame that decodes")
    return results


def annotate_video(
    model: Backend,
    video: Video,
    path: Path,
    frames: int = 0,
    settings: Settings = Settings(),
) -> list[Boxes]:
    """Write `video` with its detections as an .mp4 (see `write_video`) and return those of every frame."""

    def draw(stream: Iterator[Image]) -> Iterator[tuple[Image, Boxes]]:
        seen: deque[Image] = deque()

        def watched() -> Iterator[Image]:
            for frame in stream:
                seen.append(frame)
                yield frame

        for found in run(model, watched(), settings):
            yield annotate(seen.popleft(), found, model.io), found

    return write_video(video, path, draw, frames)
