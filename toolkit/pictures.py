"""Pictures: the picture type, reading, writing, and finding files."""

from __future__ import annotations

import glob
import os
import re
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.files import whole_file
from toolkit.headers import TIFF_MARKS, Header, header_of
from toolkit.regular import opened, why_not_regular
from toolkit.runtime import InputError, MissingExtra, require

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)  # what does not decode is said by us
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
# OpenCV writes these well.
COPY_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MAX_PIXELS = 200_000_000  # of a picture that is read; TOOLKIT_MAX_PIXELS names another number
_BYTES_PER_PIXEL = 6.5  # of memory that decoding may take, for a picture of so many pixels
_PILLOW_BYTES = 20.0  # that pillow takes for a pixel, with all copies
LARGE = 30_000_000  # pixels above which one copy less counts
_NO_PICTURE = "does not decode as a picture: it is damaged, empty or of another type"
_RAISE = "or set TOOLKIT_MAX_PIXELS to a larger number"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Videos by name; a file of another name is one if it is not a picture and OpenCV finds frames in it.
VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mjpeg", ".mjpg", ".wmv", ".flv", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".y4m"),
}
DRAWING_SUFFIXES = {".png", ".jpg", ".pdf", ".svg"}


class Unreadable(InputError):
    """A picture that is missing, damaged or of a kind that is not read; `.reason` is the message without its
    name."""

    def __init__(self, name: str | Path, reason: str):
        super().__init__(str(name), reason)  # both, so that it can pass from one process to another
        self.reason = reason

    def __str__(self) -> str:
        return " ".join(self.args)


def max_pixels() -> int:
    """The number of pixels up to which a picture is read: 200 million, or what TOOLKIT_MAX_PIXELS says.
    InputError where that is not a positive whole number."""
    text = os.environ.get("TOOLKIT_MAX_PIXELS") or str(MAX_PIXELS)
    if not re.fullmatch(r"[1-9]\d{0,17}", text.strip()):
        raise InputError(f"TOOLKIT_MAX_PIXELS is a number of pixels, such as {MAX_PIXELS}, not {text[:40]!r}")
    return int(text)


def check_pixels(width: int, height: int, name: str | Path, memory: float = 0.0) -> None:
    """Raises Unreadable for a picture that is too large.

    Args:
        width, height: as its header has them.
        name: of its file.
        memory: bytes that decoding takes.
    """
    limit = max_pixels()
    size = f"has {width} x {height} pixels"
    if width * height > limit:
        raise Unreadable(
            name, f"{size}, and up to {limit / 1e6:g} million are read: cut it into smaller ones, {_RAISE}"
        )
    if memory > limit * _BYTES_PER_PIXEL:
        raise Unreadable(
            name,
            f"{size}, and a file of its type and size takes {memory / 1e9:.1f} GB of memory to decode, where "
            f"{limit * _BYTES_PER_PIXEL / 1e9:.1f} GB are allowed: save it as a JPEG, cut it, {_RAISE}",
        )


def load_image(path: str | Path) -> Image:
    """Read a picture.

    What the file holds decides, not its suffix. Of several frames it is the first. 16 bits per channel are
    reduced to 8. Transparency is dropped; a GIF, AVIF or HEIC is laid on white.

    Args:
        path: a file of one of the types in `IMAGE_SUFFIXES`.

    Returns:
        (H, W, 3) RGB, rotated as its EXIF tag says.

    Raises:
        Unreadable: the file is missing, is not a file but a pipe or a folder, has more pixels than
            `max_pixels()`, or does not decode; an InputError.
    """
    data = image_bytes(path)
    header = header_of(data.data)
    if header is not None and header.pixels > LARGE:
        check_pixels(header.width, header.height, path, header.memory + data.size)
        if (image := _decode_file(path)) is not None:
            return image
    return _decoded(data, header, str(path))


def image_bytes(path: str | Path) -> NDArray[np.uint8]:
    """What a picture's file holds (n,); Unreadable where it is not a file, or too long."""
    limit = int(max_pixels() * _BYTES_PER_PIXEL)
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = np.fromfile(file, np.uint8, size) if size <= limit else None
    except OSError as error:
        raise Unreadable(path, why_unreadable(path, error)) from None
    if data is None:
        raise Unreadable(
            path, f"is longer than {limit / 1e9:.1f} GB, the most that is read: cut it, {_RAISE}"
        )
    return data


def why_unreadable(path: str | Path, error: OSError) -> str:
    """What is wrong with a file that did not open, to follow its name in a sentence."""
    return why_not_regular(path) or f"cannot be read ({error.strerror or error})"


def is_encodable(name: str | Path) -> bool:
    """Whether a name can be encoded in UTF-8: at others, bytes of another system, OpenCV crashes."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_file(path: str | Path) -> Image | None:
    """A picture by OpenCV from its file, which takes a copy less than from memory; None where it cannot."""
    if not is_encodable(path):
        return None
    try:
        return cv2.imread(str(path), None, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]
    except cv2.error:
        return None


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
    return _decoded(data, header_of(data.data), name, turned)


def _decoded(data: NDArray[np.uint8], header: Header | None, name: str, turned: bool = True) -> Image:
    head = data[:12].tobytes()
    if head[:4] == b"GIF8" or head[4:8] == b"ftyp":  # OpenCV has no HEIC, and turns neither colours nor AVIFs
        return _decode_with_pillow(data, name, turned)
    if header is None:
        raise Unreadable(name, _NO_PICTURE)
    check_pixels(header.width, header.height, name, header.memory + data.size)
    flag = cv2.IMREAD_COLOR_RGB | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION)
    with suppress(cv2.error):
        image = cv2.imdecode(data, flag)
        if image is not None:
            return image  # type: ignore[return-value]
    _check_depth(data, name)
    return _decode_with_pillow(data, name, turned)


def _check_depth(data: NDArray[np.uint8], name: str) -> None:
    """Unreadable for numbers that have no range which could be taken as 0..255."""
    if data[:4].tobytes() in TIFF_MARKS:
        image = None
        with suppress(cv2.error):
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
            check_pixels(*picture.size, name, picture.width * picture.height * _PILLOW_BYTES + data.size)
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
        raise Unreadable(name, _NO_PICTURE) from None


def picture_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of a picture as `load_image` gives it, from its header, without decoding.

    Raises Unreadable where the file is missing, is not a picture or has more pixels than `max_pixels()`.
    """
    from PIL import UnidentifiedImageError

    try:
        with opened(path) as stream:
            (width, height), turn = stored_header(stream, str(path))
        check_pixels(width, height, path)
        return (height, width) if turn >= 5 else (width, height)
    except UnidentifiedImageError:  # a kind of TIFF that only OpenCV reads, or no picture
        height, width = load_image(path).shape[:2]
        return width, height
    except Unreadable:
        raise
    except OSError as error:
        raise Unreadable(path, why_unreadable(path, error)) from None
    except Exception as error:  # whatever damage makes the library raise
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
        raise Unreadable(
            name, "has more than 2^30 pixels, or is damaged: cut it into smaller pictures"
        ) from None


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
        raise InputError(f"there is no picture, folder or video {path}{hint_of_backslashes(str(path))}")
    return [path]


def hint_of_backslashes(path: str) -> str:
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
        hint = hint_of_backslashes(pattern)
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


def save_image(path: Path, image: Image) -> None:
    """Write an RGB picture in the format of its suffix; InputError if it cannot be written. A picture that is
    there is replaced, not written into: it may be a hard link to someone's original."""
    large = image.nbytes > 3 * LARGE and image.flags.writeable
    with whole_file(path) as temporary:
        bgr: NDArray[Any] = _exchanged(image) if large else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        try:
            data = cv2.imencode(path.suffix, bgr)[1]
        except cv2.error:
            raise InputError(
                f"cannot write the picture {path}: expected a name that ends as a picture's"
            ) from None
        finally:
            if large:
                _exchanged(image)
        temporary.write_bytes(data.data)


def _exchanged(image: Image) -> Image:
    """The picture itself with red and blue exchanged, some rows at a time."""
    for start in range(0, len(image), 256):
        rows = image[start : start + 256]
        rows[:] = rows[..., ::-1].copy()
    return image
