"""Detection on pictures, folders and videos, for any engine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
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
from toolkit.inference.results import annotate, to_supervision
from toolkit.models.decode import Boxes
from toolkit.models.network import Detecting
from toolkit.pictures import Image, Video, load_image, write_video
from toolkit.runtime import InputError

if TYPE_CHECKING:
    import supervision


def place(found: Boxes, placement: Placement, settings: DetectSettings) -> Boxes:
    """Boxes relative to the network's input -> pixels of the picture."""
    boxes = placement.to_image(found.boxes)
    return replace(found, boxes=clip(boxes, *placement.size) if settings.clip else boxes)


def run(
    model: Detecting,
    images: Iterable[Image | str | Path],
    settings: DetectSettings = DetectSettings(),
    batch: int = 1,
) -> Iterator[Boxes]:
    """Detections of every picture (RGB arrays or paths), in order.

    A few threads each take a batch from file to boxes. A torch network on the CPU runs in all of them at
    once, one core each, which for small networks is faster than all cores on one batch; any other network
    runs in one at a time while the others read and decode. Inputs of different sizes (`long_side`) run one
    by one.
    """
    if settings.long_side is not None:
        batch = 1
    items = iter(images)
    chunks = iter(lambda: list(islice(items, batch)), [])
    turns, mine = threading.Semaphore(1), threading.local()

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
        with turns:
            found = model.find(x, settings)
        return [place(each, p, settings) for each, p in zip(found, placements, strict=True)]

    first = list(islice(chunks, 2))
    if len(first) < 2:  # one picture or one batch: all cores on it
        for chunk in first:
            yield from work(chunk)
        return
    cores, threads = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)  # for one small picture its threads only take the cores from the network
    with model.at_once() as many:
        if many > 1:
            turns = threading.Semaphore(many)
            pool = ThreadPoolExecutor(many, initializer=torch.set_num_threads, initargs=(1,))
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
            torch.set_num_threads(cores)  # what threads started from now on take; ours has kept it
            cv2.setNumThreads(threads)


def detect(
    model: Detecting, image: Image | str | Path, conf: float = 0.25, iou: float = 0.45, **settings: Any
) -> supervision.Detections:
    """Detections in one picture (a path or an RGB array), with `data["class_name"]`.

    `settings`: nms, resize, fit, size, as in `Settings`. Raises InputError where the picture does not decode
    or a setting is unknown.
    """
    known = [field.name for field in fields(DetectSettings)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r}: detect takes {', '.join(known)}")
    chosen = DetectSettings(conf=conf, iou=iou, **settings)
    return to_supervision(next(run(model, [image], chosen)), model.io)


def annotate_video(
    model: Detecting,
    video: Video,
    path: Path,
    frames: int = 0,
    settings: DetectSettings = DetectSettings(),
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
