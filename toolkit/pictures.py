"""Pictures and videos: the picture type, reading, writing, and finding files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.runtime import InputError, progress, whole_file

T = TypeVar("T")
Image = NDArray[np.uint8]  # (H, W, 3) RGB
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}


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
