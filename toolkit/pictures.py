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
DRAWING_SUFFIXES = {".png", ".jpg", ".pdf", ".svg"}


def load_image(path: str | Path) -> Image:
    """Read a picture.

    Args:
        path: a file in a format that OpenCV reads.

    Returns:
        (H, W, 3) RGB, rotated as its EXIF tag says.

    Raises:
        InputError: the file is missing or does not decode.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no picture {path}")
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise InputError(f"{path} does not decode as a picture: it is damaged, empty or of another type")
    return image  # type: ignore[return-value]


def check_drawing(path: Path) -> Path:
    """`path` itself where its suffix is one that drawings are written as; InputError otherwise."""
    if path.suffix.lower() not in DRAWING_SUFFIXES:
        raise InputError(f"a drawing is a .png, .jpg, .pdf or .svg file, not {path.name}")
    return path


def find_images(path: str | Path) -> list[Path]:
    """Find pictures.

    Args:
        path: a picture or a folder, which is searched with its subfolders.

    Returns:
        The picture itself, or the folder's pictures sorted by path.

    Raises:
        InputError: there is no picture.
    """
    path = Path(path)
    if path.is_dir():
        pictures = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not pictures:
            raise InputError(f"there is no picture in {path}: expected {', '.join(sorted(IMAGE_SUFFIXES))}")
        return pictures
    if not path.is_file():
        raise InputError(f"there is no picture, folder or video {path}")
    return [path]


class Video:
    """Frames (RGB) of a video file or of a camera; `.fps`, `.size` (w, h), `.copy_name` (file name
    of an annotated copy), and `len` (0 if unknown)."""

    def __init__(self, source: str | Path | int):
        self.capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self.capture.isOpened():
            kind = "camera" if isinstance(source, int) else "video"
            raise InputError(
                f"cannot open the {kind} {source}: it is missing, in use or of an unknown format"
            )
        self.copy_name = "camera.mp4" if isinstance(source, int) else f"{Path(source).stem}.mp4"
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
                success, frame = self.capture.read()
                if not success:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # type: ignore[misc]
        finally:
            self.capture.release()


def open_video(source: str, frames: int = 0) -> Video | None:
    """The video file or camera (by its index) that `source` names; None where it names pictures.

    Raises InputError for a camera without a number of `frames`, or where it cannot be opened.
    """
    camera = source.isdigit() and not Path(source).exists()
    if not camera and Path(source).suffix.lower() not in VIDEO_SUFFIXES:
        return None
    if camera and not frames:
        raise InputError("a camera has no end: say how many frames with --frames")
    return Video(int(source) if camera else source)


def save_image(path: Path, image: Image) -> None:
    """Write an RGB picture in the format of its suffix; InputError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise InputError(f"cannot write the picture {path}: is the folder writable and the disk not full?")


def write_video(
    video: Video,
    path: Path,
    draw: Callable[[Iterator[Image]], Iterator[tuple[Image, T]]],
    frames: int = 0,
) -> list[T]:
    """Write an annotated copy of a video. The file appears complete or not at all.

    Args:
        video: source of the frames.
        path: file to write, .mp4.
        draw: turns frames into (annotated frame, result) pairs, in order.
        frames: maximum number of frames; 0 for all. A camera needs a maximum.

    Returns:
        The results of all frames.

    Raises:
        InputError: the file cannot be written, or no frame decodes.
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
            raise InputError("the video has no frame that decodes")
    return results
