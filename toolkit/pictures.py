"""Pictures, videos and streams: the picture type, reading, writing, and finding files."""

from __future__ import annotations

import glob
import os
import re
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.runtime import InputError, MissingExtra, progress, require, whole_file

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

T = TypeVar("T")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what does not decode is said by us
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its decoder of videos too
Image = NDArray[np.uint8]  # (H, W, 3) RGB
# Which files are pictures, by name; what is inside decides how one is read.
IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2"),
    *(".avif", ".heic", ".heif", ".hif", ".pbm", ".pgm", ".ppm", ".pnm"),
}
OTHER_PICTURE_SUFFIXES = {  # pictures that are not read, and are named where they are left out
    *(".jxl", ".jxr", ".svg", ".psd", ".xcf", ".ico", ".tga", ".pcx", ".dds", ".eps", ".hdr", ".exr", ".pfm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".dcm", ".nii"),
}
COPY_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
}  # OpenCV writes these well
TOO_LARGE = "has more than 2^30 pixels, or is damaged: cut it into smaller pictures"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Videos by name; a file of another name is one if it is not a picture and OpenCV finds frames in it.
VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mjpeg", ".mjpg", ".wmv", ".flv", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".y4m"),
}
_PICTURE_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM|II[*+]\0|MM\0[*+]|RIFF....WEBP|P[1-7]\s|\0\0\0\x0cjP|\xff\x4f\xff\x51|"
    rb"....ftyp(avi|mif1|msf1|he)",
    re.DOTALL,
)
_STREAM = re.compile(r"(rtsps?|https?|rtmps?|udp|tcp|rtp|srt)://", re.IGNORECASE)
_STREAM_TIMEOUT_MS = 10_000
DRAWING_SUFFIXES = {".png", ".jpg", ".pdf", ".svg"}


class Unreadable(InputError):
    """A picture that is missing, damaged or of a kind that is not read; `.reason` is the message without its
    name."""

    def __init__(self, name: str | Path, reason: str):
        super().__init__(str(name), reason)  # both, so that it can pass from one process to another
        self.reason = reason

    def __str__(self) -> str:
        return " ".join(self.args)


def load_image(path: str | Path) -> Image:
    """Read a picture.

    What the file holds decides, not its suffix. Of several frames it is the first. 16 bits per channel are
    reduced to 8. Transparency is dropped; a GIF, AVIF or HEIC is laid on white.

    Args:
        path: a file of one of the types in `IMAGE_SUFFIXES`.

    Returns:
        (H, W, 3) RGB, rotated as its EXIF tag says.

    Raises:
        Unreadable: the file is missing or does not decode; an InputError.
    """
    path = Path(path)
    if not path.is_file():
        raise Unreadable(path, "is missing")
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise Unreadable(path, f"cannot be read ({error.strerror or error})") from None
    return decode(data, str(path))


def load_readable(path: str | Path, position: int, unreadable: dict[int, str] | None) -> Image | None:
    """`load_image` of a picture among many: where it does not decode, its `position` and the reason are
    entered in `unreadable`, and there is None. Without `unreadable` (None) it raises."""
    try:
        return load_image(path)
    except Unreadable as error:
        if unreadable is None:
            raise
        unreadable[position] = error.reason
        return None


def decode(data: NDArray[np.uint8], name: str, turned: bool = True) -> Image:
    """A picture from the bytes (n,) of its file, as `load_image` gives it; with `turned=False` before the
    rotation of its EXIF tag (the decoders of TIFF and HEIC always turn). `name` is for Unreadable's message.
    """
    head = data[:12].tobytes()
    if head[:4] == b"GIF8" or head[4:8] == b"ftyp":  # OpenCV has no HEIC, and turns neither colours nor AVIFs
        return _decode_with_pillow(data, name, turned)
    flag = cv2.IMREAD_COLOR_RGB | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(data, flag) if data.size else None
    except cv2.error:
        raise Unreadable(name, TOO_LARGE) from None
    if image is not None:
        return image  # type: ignore[return-value]
    _check_depth(data, name)
    return _decode_with_pillow(data, name, turned)


def _check_depth(data: NDArray[np.uint8], name: str) -> None:
    """Unreadable for numbers that have no range which could be taken as 0..255."""
    if data[:4].tobytes() in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is not None and image.dtype not in (np.uint8, np.uint16):
            kind = "floating point" if image.dtype.kind == "f" else "whole"
            raise Unreadable(
                name,
                f"holds {8 * image.itemsize}-bit {kind} numbers, and 8 or 16 bits per channel are read: "
                "scale its values to 0..255 and save it as an 8-bit picture",
            )


def _decode_with_pillow(data: NDArray[np.uint8], name: str, turned: bool) -> Image:
    from PIL import Image as pillow
    from PIL import ImageOps

    try:
        with _opened(BytesIO(data.tobytes()), name) as picture:
            clear = picture.has_transparency_data
            upright = ImageOps.exif_transpose(picture) if turned else picture
            if not clear:
                return np.array(upright.convert("RGB"))
            upright = upright.convert("RGBA")
            white = pillow.new("RGBA", upright.size, "white")
            return np.array(pillow.alpha_composite(white, upright).convert("RGB"))
    except Unreadable:
        raise
    except Exception:  # whatever damage makes a decoder raise
        raise Unreadable(
            name, "does not decode as a picture: it is damaged, empty or of another type"
        ) from None


def picture_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of a picture as `load_image` gives it, from its header, without decoding.

    Raises Unreadable where the file is missing or is not a picture.
    """
    from PIL import UnidentifiedImageError

    try:
        with open(path, "rb") as stream:
            (width, height), turn = stored_header(stream, str(path))
        return (height, width) if turn >= 5 else (width, height)
    except UnidentifiedImageError:  # a kind of TIFF that only OpenCV reads, or no picture
        height, width = load_image(path).shape[:2]
        return width, height
    except FileNotFoundError:
        raise Unreadable(path, "is missing") from None
    except Unreadable:
        raise
    except (OSError, SyntaxError, ValueError, KeyError, struct.error) as error:
        raise Unreadable(path, f"cannot be read ({error})") from None


def stored_header(stream: BinaryIO, name: str) -> tuple[tuple[int, int], int]:
    """(width, height) of a picture as it is stored, and EXIF's orientation 1..8, from the header of its file.

    Raises what pillow raises for one that it does not know, and Unreadable as `load_image`.
    """
    with _opened(stream, name) as picture:
        width, height = picture.size
        if picture.format == "TIFF":  # versions of pillow differ in whether `size` is turned
            width, height = picture.tag_v2[256], picture.tag_v2[257]  # type: ignore[attr-defined]
        return (width, height), _turn(picture)


def _turn(picture: PillowImage) -> int:
    """EXIF's orientation, 1..8. `picture.getexif()` would decode a PNG, and ask XMP as OpenCV does not."""
    from PIL.Image import Exif

    if picture.format == "TIFF":
        turn = picture.tag_v2.get(0x0112, 1)  # type: ignore[attr-defined]
    else:
        exif = Exif()
        try:
            exif.load(picture.info.get("exif", b""))
        except Exception:  # whatever an untidy block makes the library raise: it says nothing then
            return 1
        turn = exif.get(0x0112, 1)
    return turn if turn in range(1, 9) else 1


def _opened(stream: BinaryIO, name: str) -> PillowImage:
    """The header of a picture, by pillow: of the types that we read only, since for others it runs programs.
    Raises Unreadable for one that is too large or a HEIC without its plugin, and what pillow raises."""
    from PIL import Image as pillow

    pillow.MAX_IMAGE_PIXELS = 1 << 29  # it refuses twice as many, as OpenCV does
    kinds = ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF"]
    brands = stream.read(64)
    stream.seek(0)
    if brands[4:8] == b"ftyp" and any(brand in brands for brand in _HEIC_BRANDS) and b"avi" not in brands:
        try:
            require("pi_heif", "pictures").register_heif_opener()
        except MissingExtra as error:
            raise Unreadable(name, f"is a HEIC picture, and {error}") from None
        kinds = ["HEIF"]
    try:
        return pillow.open(stream, formats=kinds)
    except pillow.DecompressionBombError:
        raise Unreadable(name, TOO_LARGE) from None


def check_drawing(path: Path) -> Path:
    """`path` itself where its suffix is one that drawings are written as; InputError otherwise."""
    if path.suffix.lower() not in DRAWING_SUFFIXES:
        raise InputError(f"a drawing is a .png, .jpg, .pdf or .svg file, not {path.name}")
    return path


def find_images(path: str | Path) -> list[Path]:
    """Find pictures.

    Args:
        path: a picture; a folder, which is searched with its subfolders, except for hidden ones; or a pattern
            such as `shots/*.jpg` or `shots/**/*.png`.

    Returns:
        The picture itself, the folder's pictures sorted by path, or the pattern's pictures with numbers in
        order (`a2` before `a10`); `other_pictures` lists those of types that are not read.

    Raises:
        InputError: there is no picture.
    """
    if is_pattern(path):
        return _matching_pictures(str(path))
    path = Path(path)
    if path.is_dir():
        pictures = _files(path, IMAGE_SUFFIXES)
        if not pictures:
            others = other_pictures(path)
            instead = f"found {len(others)} of other types, such as {others[0].name}; " if others else ""
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise InputError(f"there is no picture in {path}: {instead}expected {kinds}")
        return pictures
    if not path.is_file():
        raise InputError(f"there is no picture, folder or video {path}{_hint_of_backslashes(str(path))}")
    return [path]


def _hint_of_backslashes(path: str) -> str:
    """Why a path of Windows is not found on another system."""
    if "\\" not in path or os.sep == "\\":
        return ""
    drive = re.match(r"([A-Za-z]):\\", path)
    here = path.replace("\\", "/")
    if drive:
        here = f"/mnt/{drive[1].lower()}/{here[3:]}"
        return f": this is a path of Windows; under WSL its place is {here}, other systems have no drives"
    return f": folders are separated by / on this system, as in {here}"


def is_pattern(path: str | Path) -> bool:
    """Whether `path` is a pattern with `*`, `?` or `[...]`; a file or folder of that name goes first."""
    return glob.has_magic(str(path)) and not Path(path).exists()


def holds_many(path: str | Path) -> bool:
    """Whether `path` names a folder or a pattern: pictures that `find_images` finds."""
    return Path(path).is_dir() or is_pattern(path)


def common_folder(path: str | Path, pictures: list[Path]) -> Path:
    """The folder below which the pictures that `find_images` found for `path` have their relative names."""
    if is_pattern(path):
        return Path(os.path.commonpath([picture.parent for picture in pictures]))
    return Path(path) if Path(path).is_dir() else Path(path).parent


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts names with their numbers in order: `a2` before `a10`."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name))


def _literal_folders(pattern: str) -> str:
    """A pattern whose leading folders that are there mean themselves, with brackets in their names too."""
    folder = next((parent for parent in Path(pattern).parents if parent.is_dir()), Path())
    return os.path.join(glob.escape(str(folder)), Path(pattern).relative_to(folder))


def _matches(pattern: str, suffixes: set[str] | None = None) -> list[Path]:
    names = sorted(glob.glob(_literal_folders(pattern), recursive=True), key=natural)
    files = [Path(name) for name in names if os.path.isfile(name)]
    return [file for file in files if suffixes is None or file.suffix.lower() in suffixes]


def _matching_pictures(pattern: str) -> list[Path]:
    pictures = _matches(pattern, IMAGE_SUFFIXES)
    if not pictures:
        files = _matches(pattern)
        hint = _hint_of_backslashes(pattern)
        if not files:
            raise InputError(f"no file matches {pattern}{hint}")
        if _matches(pattern, VIDEO_SUFFIXES):
            raise InputError(f"{pattern} matches videos, such as {files[0]}: name one video, or pictures")
        raise InputError(
            f"of the {len(files)} files that match {pattern}, such as {files[0]}, none is a picture"
        )
    return pictures


def other_pictures(path: str | Path) -> list[Path]:
    """Pictures in a folder and its subfolders, or of a pattern, of types that are not read, sorted; none in a
    file."""
    if is_pattern(path):
        return _matches(str(path), OTHER_PICTURE_SUFFIXES)
    return _files(Path(path), OTHER_PICTURE_SUFFIXES)


def _files(folder: Path, suffixes: set[str]) -> list[Path]:
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
        ]
    return sorted(paths)


def copy_name(path: Path) -> Path:
    """The name of a drawn-on copy: the picture's own, with .png behind it where its type is not written."""
    return path if path.suffix.lower() in COPY_SUFFIXES else path.with_name(path.name + ".png")


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
    hint = "" if isinstance(source, int) else _hint_of_backslashes(str(source))
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
    if source.isdigit() and not Path(source).exists():
        return Video(int(source))
    return Video(source) if is_stream(source) or is_video(source) else None


def is_video(path: str | Path) -> bool:
    """Whether a file is a video: by its name, or, where it is not a picture, since frames are found in it."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return not is_pattern(path)
    if suffix in OTHER_PICTURE_SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    # What OpenCV makes of a text (its decoder of text art) is not a video.
    if _PICTURE_MAGIC.match(head) or b"\0" not in head:
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


def save_image(path: Path, image: Image) -> None:
    """Write an RGB picture in the format of its suffix; InputError if it cannot be written. A picture that is
    there is replaced, not written into: it may be a hard link to someone's original."""
    with whole_file(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise InputError(
                f"cannot write the picture {path}: is the folder writable and the disk not full?"
            )


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
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    if not writer.isOpened():
        raise InputError(f"cannot write the video {path}: expected a name that ends in .mp4")
    return writer
