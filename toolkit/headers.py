"""A picture's size by its header, before anything is decoded, for the types that OpenCV decodes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

TIFF_MARKS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # whole numbers
_TIFF_TAGS = 1000  # of one picture; more are not looked at
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 277, 322, 323
_CHUNK = 1 << 26  # bytes that a chunk of a PNG may claim, however short the file is
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of the segments that have the size
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_JPEG_SEGMENTS = 20_000  # before the one with the size; each has up to 64 KB
# As in libjpeg, bytes between segments are passed over, and so are markers without a segment.
_JPEG_MARKER = re.compile(rb"\xff[^\xff\x00\x01\xd0-\xd8]")
_NETPBM = re.compile(rb"P[1-6]((?:\s|#[^\n]*\n)+)(\d{1,9})((?:\s|#[^\n]*\n)+)(\d{1,9})\s")


@dataclass(frozen=True)
class Header:
    """The size that a picture is stored with, and what it takes to decode it."""

    width: int
    height: int
    bytes_per_pixel: float = 6.0  # that OpenCV holds at once: its picture, and the copy that it gives

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def memory(self) -> float:
        """Bytes of memory that decoding takes."""
        return self.pixels * self.bytes_per_pixel


def header_of(data: bytes | memoryview) -> Header | None:
    """The header of a JPEG, PNG, BMP, WebP, TIFF, netpbm or JPEG 2000.

    Args:
        data: the whole file; as much of the beginning as has the size is enough.

    Returns:
        None where it is of another type, or its header is damaged: then it is not decoded.
    """
    head = bytes(data[:12])
    read = next((read for mark, read in _READERS if head.startswith(mark)), None)
    try:
        header = read(data) if read else None
    except (struct.error, IndexError, OverflowError):  # it ends too early, or leads beyond its end
        return None
    return header if header and header.width > 0 < header.height else None


def _jpeg(data: bytes | memoryview) -> Header | None:
    at = 2
    for _ in range(_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            return None
        at = found.end() - 1
        marker = data[at]
        if marker in _JPEG_FRAMES:
            height, width, components = struct.unpack_from(">HHB", data, at + 4)
            if marker not in _PROGRESSIVE:
                return Header(width, height)
            # Held as coefficients of 16 bits until its last scan.
            factors = [data[at + 10 + 3 * i] for i in range(components)]
            areas = [(factor >> 4) * (factor & 15) for factor in factors]
            coefficients = 2 * sum(areas) / max([1, *areas])
            return Header(width, height, 6.0 if coefficients <= 3 else 3.0 + coefficients)
        if marker in (0xD9, 0xDA):
            return None
        at += 1 + max(2, struct.unpack_from(">H", data, at + 1)[0])
    return None


def _png(data: bytes | memoryview) -> Header | None:
    if bytes(data[12:16]) != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if length > max(_CHUNK, len(data) - at):  # the decoder takes the memory before it looks
            return None
        at += 12 + length
    animated = b"acTL" in bytes(data[:4096])  # which is held as RGBA of up to 16 bits, frame and canvas
    return Header(width, height, 22.0 if animated else 6.0)


def _bmp(data: bytes | memoryview) -> Header | None:
    (length,) = struct.unpack_from("<I", data, 14)
    if length != 12 and not 16 <= length <= 124:  # a text that begins with BM
        return None
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return Header(abs(width), abs(height))


def _webp(data: bytes | memoryview) -> Header | None:
    kind = bytes(data[8:16])
    if kind == b"WEBPVP8X":
        low, high = struct.unpack_from("<HB", data, 24), struct.unpack_from("<HB", data, 27)
        return Header(1 + low[0] + (low[1] << 16), 1 + high[0] + (high[1] << 16), 8.0)
    if kind == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), 8.0)
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(width & 0x3FFF, height & 0x3FFF, 8.0)
    return None


def _netpbm(data: bytes | memoryview) -> Header | None:
    match = _NETPBM.match(bytes(data[:4096]))
    return Header(int(match[2]), int(match[4])) if match else None


def _jpeg2000(data: bytes | memoryview) -> Header | None:
    """Of all the places that may begin the pixels, the largest size: boxes before them can hold a decoy."""
    headers = []
    for place in re.finditer(rb"\xff\x4f\xff\x51", data):
        x2, y2, x1, y1 = struct.unpack_from(">IIII", data, place.start() + 8)
        (components,) = struct.unpack_from(">H", data, place.start() + 40)
        headers.append(Header(x2 - x1, y2 - y1, 3.0 + 4 * components))
        if len(headers) > 100:
            return None
    return max(headers, key=lambda header: header.memory, default=None)


def _tiff(data: bytes | memoryview) -> Header | None:
    """Of the first picture; a tile that is larger than the picture counts."""
    order, big = TIFF_MARKS[bytes(data[:4])], bytes(data[2:4]) in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    values = {}
    for i in range(min(count, _TIFF_TAGS)):
        at = start + (8 + 20 * i if big else 2 + 12 * i)
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag in (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT) and kind in _TIFF_TYPES:
            (values[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, at + (12 if big else 8))
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    samples = values.get(_SAMPLES, 1)
    tile = values.get(_TILE_WIDTH, 0) * values.get(_TILE_HEIGHT, 0)
    # The tag has the number of bits for up to two samples; for more it is elsewhere, and 16 are assumed.
    depth = values.get(_BITS, 1) if samples <= 2 else 16
    strips = 3.0 + samples * max(1, depth / 8)  # one may be as high as the picture
    return Header(width, height, max(6.0, strips * max(1.0, tile / max(1, width * height))))


_READERS: tuple[tuple[bytes, Callable[[bytes | memoryview], Header | None]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    *((mark, _tiff) for mark in TIFF_MARKS),
    (b"\0\0\0\x0cjP", _jpeg2000),
    (b"\xff\x4f\xff\x51", _jpeg2000),
    *((f"P{digit}".encode(), _netpbm) for digit in range(1, 7)),
)
