"""Detection on pictures, folders and videos, for any engine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from toolkit.boxes import Placement, clip
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.results import Found, annotate, to_supervision
from toolkit.models.decode import Boxes
from toolkit.models.network import Detecting
from toolkit.pictures import Image, load_readable
from toolkit.runtime import InputError, keep_freed_memory
from toolkit.videos import Video, write_video

if TYPE_CHECKING:
    import supervision

NOTHING = Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def place(detections: Boxes, placement: Placement, settings: DetectSettings) -> Boxes:
    """Boxes relative to the network input -> pixels of the picture."""
    boxes = placement.to_image(detections.boxes)
    return replace(detections, boxes=clip(boxes, *placement.size) if settings.clip else boxes)


def run(
    model: Detecting,
    images: Iterable[Image | str | Path],
    settings: DetectSettings = DetectSettings(),
    batch: int = 1,
    unreadable: dict[int, str] | None = None,
) -> Iterator[Boxes]:
    """Detect objects in many pictures.

    A few threads each take a batch from file to boxes. A torch network on the CPU runs in all of them at the
    same time, a core each, which with small networks is faster than all cores on one batch; any other
    network runs in one thread at a time while the others read and decode.

    Args:
        model: a detector in torch, or an exported one opened again.
        images: RGB arrays (H, W, 3) uint8, or paths.
        settings: thresholds and preprocessing.
        batch: pictures per call of the network; 1 if `settings.long_side` makes inputs of several sizes.
        unreadable: where given, a picture that does not decode has no detections, and its position among
            `images` and the reason are entered here before they are yielded.

    Yields:
        Detections of each picture in order, boxes xyxy in its pixels.

    Raises:
        InputError: a picture cannot be decoded (unless `unreadable` is given), or the network does not accept
            the input size.

    >>> from toolkit.models.zoo import create_model
    >>> pictures = [np.zeros((60, 80, 3), np.uint8)] * 2
    >>> [boxes.boxes.shape[1] for boxes in run(create_model("yoloface-50k"), pictures)]
    [4, 4]
    """
    if settings.long_side is not None:
        batch = 1
    items = enumerate(images)
    chunks = iter(lambda: list(islice(items, batch)), [])
    turns, own = threading.Semaphore(1), threading.local()

    def work(chunk: list[tuple[int, Image | str | Path]]) -> list[Boxes]:
        slots = [
            load_readable(item, i, unreadable) if isinstance(item, (str, Path)) else item for i, item in chunk
        ]
        pictures = [picture for picture in slots if picture is not None]
        if not pictures:
            return [NOTHING] * len(slots)
        if settings.long_side is not None:
            x, placement = preprocess(pictures[0], model.io, settings)
            x, placements = x[None], [placement]
        else:
            if not hasattr(own, "pixels"):  # new memory for every batch takes longer than resizing
                w, h = model.io.check_size(settings.size or model.io.input_size)
                own.pixels = np.empty((batch, h, w, model.io.channels), np.float32)
            pixels = own.pixels[: len(pictures)]
            placements = [
                preprocess(picture, model.io, settings, out)[1]
                for picture, out in zip(pictures, pixels, strict=True)
            ]
            x = pixels.transpose(0, 3, 1, 2)
        with turns:
            detections = model.find(x, settings)
        placed = iter([place(boxes, p, settings) for boxes, p in zip(detections, placements, strict=True)])
        return [NOTHING if picture is None else next(placed) for picture in slots]

    first = list(islice(chunks, 2))
    if len(first) < 2:  # one picture or one batch: all cores on it
        for chunk in first:
            yield from work(chunk)
        return
    keep_freed_memory()  # else torch's maps of every batch are mapped page by page: up to twice the time
    cores, threads = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)  # on small pictures its threads only take cores away from the network
    with model.concurrency() as workers:
        if workers > 1:
            turns = threading.Semaphore(workers)
            pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        else:
            pool = ThreadPoolExecutor(3)
        try:
            waiting = deque(pool.submit(work, chunk) for chunk in (*first, *islice(chunks, cores)))
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(work, chunk) for chunk in islice(chunks, 1))
                yield from done
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(cores)  # of threads that start later; this one has kept its own
            cv2.setNumThreads(threads)


def find_in(model: Detecting, pictures: Mapping[str, Image], conf: float = 0.5) -> Found:
    """Detections in named pictures, which show themselves.

    Args:
        model: a detector in torch, or an exported one opened again.
        pictures: name -> RGB array (H, W, 3) uint8.
        conf: smallest score of a box, 0..1.

    >>> from toolkit.models.zoo import create_model
    >>> print(find_in(create_model("yoloface-50k"), {"black": np.zeros((60, 80, 3), np.uint8)}, 1.0))
    0 boxes with a score above 1 in 1 pictures
    picture  boxes  highest scores
    black        0
    """
    settings = DetectSettings(conf=conf)
    return Found(pictures, list(run(model, pictures.values(), settings)), model.io, conf)


def detect(
    model: Detecting, image: Image | str | Path, conf: float = 0.25, iou: float = 0.45, **settings: Any
) -> supervision.Detections:
    """Detect objects in one picture.

    Args:
        model: a detector in torch, or an exported one opened again.
        image: RGB array (H, W, 3) uint8, or a path.
        conf: threshold of objectness and score, 0..1.
        iou: overlap above which boxes of one class suppress each other, 0..1.
        **settings: further fields of `DetectSettings`: nms, resize, fit, size, clip, long_side.

    Returns:
        Boxes xyxy in pixels by falling score, with class names in `data["class_name"]`.

    Raises:
        InputError: the picture cannot be decoded, or a setting is unknown or out of range.

    >>> from toolkit.models.zoo import create_model
    >>> detections = detect(create_model("yoloface-50k"), np.zeros((60, 80, 3), np.uint8), conf=0.9)
    >>> detections.xyxy.shape[1]
    4
    """
    names = [field.name for field in fields(DetectSettings)]
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}: expected one of {', '.join(names)}")
    detections = next(run(model, [image], DetectSettings(conf=conf, iou=iou, **settings)))
    return to_supervision(detections, model.io)


def annotate_video(
    model: Detecting,
    video: Video,
    path: Path,
    frames: int = 0,
    settings: DetectSettings = DetectSettings(),
) -> list[Boxes]:
    """Write a video with its detections as .mp4 (see `write_video`).

    Args:
        model: a detector in torch, or an exported one opened again.
        video: a film, camera or stream.
        path: the .mp4 file.
        frames: stop after this many; 0 for all.
        settings: thresholds and preprocessing.

    Returns:
        The detections of every frame.
    """

    def draw(stream: Iterator[Image]) -> Iterator[tuple[Image, Boxes]]:
        waiting: deque[Image] = deque()

        def kept() -> Iterator[Image]:
            for frame in stream:
                waiting.append(frame)
                yield frame

        for detections in run(model, kept(), settings):
            yield annotate(waiting.popleft(), detections, model.io), detections

    return write_video(video, path, draw, frames)
