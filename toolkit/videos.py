"""Videos, cameras and streams: their frames, and annotated copies."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import cv2
import numpy as np

from toolkit.files import whole_file
from toolkit.pictures import (
    OTHER_PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Image,
    check_pixels,
    hint_of_backslashes,
    is_encodable,
    is_pattern,
)
from toolkit.regular import opened, why_not_regular
from toolkit.runtime import InputError, progress

T = TypeVar("T")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what OpenCV does not open is said by us
_PICTURE_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM|II[*+]\0|MM\0[*+]|RIFF....WEBP|P[1-7]\s|\0\0\0\x0cjP|\xff\x4f\xff\x51|"
    rb"....ftyp(avi|mif1|msf1|he)",
    re.DOTALL,
)
_STREAM = re.compile(r"(rtsps?|https?|rtmps?|udp|tcp|rtp|srt)://", re.IGNORECASE)
_STREAM_TIMEOUT_MS = 10_000


class Video:
    """Frames (RGB) of a video file, of a camera (its index) or of a stream (its address, such as
    rtsp://camera/live).

    Attributes:
        live: whether it has no end of its own, as a camera and most streams; `stop` ends it.
        fps: frames per second, 25 where it does not say.
        size: (width, height).
        copy_name: file name of an annotated copy.
        broke_off: why frames are missing, a sentence: a live one ended by itself, or a stream of known length
            did so more than a second before its end; "" otherwise.

    `len` is the number of frames, 0 where it is not known. InputError for one that cannot be opened.
    """

    def __init__(self, source: str | Path | int):
        stream = is_stream(source)
        if not stream and not isinstance(source, int):
            _check_file(source)
        with _quiet():
            self.capture = cv2.VideoCapture(*_opening(source))
        if not self.capture.isOpened():
            raise InputError(_not_opened(source))
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 1 <= fps <= 1000 else 25.0  # a stream's clock may stand here
        self.live = isinstance(source, int) or (stream and len(self) == 0)
        self.copy_name = _copy_name(source)
        self.size = (
            int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        check_pixels(*self.size, without_password(str(source)))
        self.broke_off = ""
        self._stream = stream
        self._stopped = threading.Event()

    def __len__(self) -> int:
        return max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Image]:
        length, count = len(self), 0
        try:
            while not self._stopped.is_set():
                success, frame = self.capture.read()
                if not success:
                    self.broke_off = "" if self._stopped.is_set() else self._loss(count, length)
                    return
                count += 1
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # type: ignore[misc]
        finally:
            self.capture.release()

    def _loss(self, count: int, length: int) -> str:
        """What to say of an end after `count` frames. The length may be an estimate, by its duration."""
        if self.live:
            return f"it ended by itself after {count} frames"
        short = self._stream and length - count > self.fps
        return f"it ended after {count} of {length} frames" if short else ""

    def stop(self) -> None:
        """End the frames after the one that is being read."""
        self._stopped.set()


def is_stream(source: str | Path | int) -> bool:
    """Whether `source` is the address of a stream.

    >>> is_stream("rtsp://192.168.0.7/live"), is_stream("C:/films/a.mp4")
    (True, False)
    """
    return isinstance(source, str) and bool(_STREAM.match(source))


def _check_file(path: str | Path) -> None:
    """InputError for what is not a file, and for a text: a playlist would have FFmpeg open what it names."""
    if not is_encodable(path):
        raise InputError(f"cannot open the video {path}: its name is not text in UTF-8; rename it")
    if reason := why_not_regular(path):
        raise InputError(f"cannot open the video {path}: it {reason}{hint_of_backslashes(str(path))}")
    try:
        head = _head(path)
    except OSError as error:
        raise InputError(f"cannot open the video {path}: {error.strerror or error}") from None
    if _is_text(head):
        raise InputError(f"cannot open the video {path}: it is a text file, not a video")


def _head(path: str | Path) -> bytes:
    with opened(path) as file:
        return file.read(4096)


def _is_text(head: bytes) -> bool:
    """Whether there is no zero byte at the beginning of a file, as in every video but those of .y4m."""
    return b"\0" not in head and not head.startswith(b"YUV4MPEG2")


def _opening(source: str | Path | int) -> tuple[Any, ...]:
    """Arguments of cv2.VideoCapture."""
    if isinstance(source, int):
        return (source,)
    if not is_stream(source):
        return (str(source),)
    limits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
    return (source, cv2.CAP_FFMPEG, [value for limit in limits for value in (limit, _STREAM_TIMEOUT_MS)])


def _not_opened(source: str | Path | int) -> str:
    if is_stream(source):
        return (
            f"cannot open the stream {without_password(str(source))}: nothing answers there within "
            f"{_STREAM_TIMEOUT_MS // 1000} s, or what it sends is not a video: check address and network, "
            "and whether another program plays it"
        )
    kind = "camera" if isinstance(source, int) else "video"
    hint = "" if isinstance(source, int) else hint_of_backslashes(str(source))
    return f"cannot open the {kind} {source}: it is missing, in use or of an unknown format{hint}"


def without_password(address: str) -> str:
    """The address of a stream, for messages."""
    return re.sub(r"://[^/@]*@", "://", address)


def _copy_name(source: str | Path | int) -> str:
    if isinstance(source, int):
        return "camera.mp4"
    name = Path(urlsplit(str(source)).path if is_stream(source) else source).stem
    return f"{name or 'stream'}.mp4"


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV's own messages about what cannot be opened are not shown: ours is."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def open_video(source: str) -> Video | None:
    """The video file, camera (by its index) or stream (by its address) that `source` names; None where it
    names pictures.

    Raises InputError where it cannot be opened.
    """
    if re.fullmatch(r"[0-9]{1,4}", source) and not Path(source).exists():
        return Video(int(source))
    return Video(source) if is_stream(source) or is_video(source) else None


def is_video(path: str | Path) -> bool:
    """Whether a file is a video: by its name, or, where it is not a picture, since frames are found in it."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return not is_pattern(path)
    if suffix in OTHER_PICTURE_SUFFIXES or not path.is_file() or not is_encodable(path):
        return False
    head = _head(path)
    # What OpenCV makes of a text (its decoder of text art) is not a video.
    if _PICTURE_MAGIC.match(head) or _is_text(head):
        return False
    with _quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        try:
            return bool(capture.read()[0])
        finally:
            capture.release()


@contextmanager
def ended_by_interrupt(video: Video) -> Iterator[None]:
    """Within the context Ctrl-C ends a live video after its current frame, as if it had come to its end; a
    second one interrupts as ever. Does nothing for other videos, and outside of the main thread."""
    if not video.live or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGINT, previous)
        video.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


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
        frames: maximum number of frames; 0 for all. Ctrl-C ends a stream or camera, and the frames so far are
            kept.

    Returns:
        The results of all frames.

    Raises:
        InputError: the file cannot be written, or no frame decodes.
    """
    total = min(frames, len(video)) if frames and len(video) else frames or len(video) or None
    results = []
    with whole_file(path) as temporary, ended_by_interrupt(video):
        writer: cv2.VideoWriter | None = None
        size = video.size
        stream = islice(video, frames) if frames else iter(video)
        for picture, result in progress(draw(stream), "frames", total):
            if writer is None:  # by the size of the first frame, which a stream tells late
                size = (picture.shape[1], picture.shape[0])
                writer = _video_writer(temporary, path, video.fps, size)
            if picture.shape[1::-1] != size:  # a stream that changes its size
                picture = cv2.resize(picture, size).astype(np.uint8)
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            results.append(result)
        if writer is None:
            raise InputError("the video has no frame that decodes")
        writer.release()
    return results


def _video_writer(temporary: Path, path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    if not is_encodable(temporary):
        raise InputError(f"cannot write the video {path}: its name is not text in UTF-8; name another file")
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise InputError(f"cannot write the video {path}: expected a name that ends in .mp4")
    return writer
