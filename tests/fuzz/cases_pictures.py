"""Pictures, videos and their names."""

# ruff: noqa: E501 (a case in a line)
from __future__ import annotations

import os
import socket
import struct
import zlib
from pathlib import Path

from tests.fuzz.places import ASCII, Build, Place, case, jpeg, noise
from tests.fuzz.readers import KINDS, flood, picture, png

DETECT = "detect {folder}/pics --model {base}/net.cfg --output out --json"
ALONE = "detect pics/x.jpg --model {base}/net.cfg --output out"


def _among(data: bytes, name: str = "x.jpg") -> Build:
    """A bad picture next to a good one."""

    def build(place: Place) -> None:
        place.put("pics/good.jpg", jpeg())
        place.put(f"pics/{name}", data)

    return build


def _packed(width: int, height: int, depth: int, kind: int) -> bytes:
    """A whole PNG of zeros."""
    row = 1 + (width * depth * (3 if kind == 2 else 1) + 7) // 8
    squeeze = zlib.compressobj(9)
    body = b"".join(squeeze.compress(bytes(row * 100)) for _ in range(height // 100)) + squeeze.flush()
    whole = png(width, height, depth, kind)
    at = whole.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    return whole[:at] + chunk + whole[whole.index(b"IEND") - 4 :]


def _looped_tiff() -> bytes:
    data = bytearray(flood("tif", 8, 8))
    data[-4:] = struct.pack("<I", 8)  # the next directory is the first
    return bytes(data)


def _with_text(data: bytes) -> bytes:
    """A PNG with a compressed text of 200 MB."""
    squeeze = zlib.compressobj(9)
    body = b"a\0\0" + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200)) + squeeze.flush()
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    return data[:33] + chunk + data[33:]


def _odd_exif() -> bytes:
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + struct.pack("<HHII", 0x0112, 3, 1, 99)
    return jpeg()[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg()[2:]


BAD = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"this is not a picture\n" * 100,
    "HTML": b"<html><body>404</body></html>",
    "PostScript that runs programs": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch marker) (w) file\n",
    "SVG with an entity": b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "script": b"#!/bin/sh\ntouch marker\n",
    "EXIF that points nowhere": _odd_exif(),
    "TIFF whose directories run in a circle": _looped_tiff(),
    "zeros": bytes(100_000),
    **{f"cut {kind}": picture(kind)[: len(picture(kind)) * 2 // 3] for kind in (".png", ".gif", ".webp", ".tif", ".jp2", ".avif", ".heic")},
    "cut .jpg": jpeg()[:700],
    **{f"{kind} of 60,000 x 60,000 px": flood(kind, 60_000, 60_000) for kind in KINDS},
    **{f"{kind} of 2^30 x 1 px": flood(kind, 1 << 30, 1) for kind in ("png", "ppm", "bmp", "tif")},
    "png of 2^31-1 x 2^31-1 px": flood("png", (1 << 31) - 1, (1 << 31) - 1),
    "ppm of a size with 4,000 digits": b"P6 " + b"9" * 4000 + b" 5 255\n",
    "bmp of negative sides": flood("bmp", -5, -5),
}  # fmt: skip
for _name, _data in BAD.items():
    case("pictures", f"{_name}, among others", DETECT, _among(_data))
for _name in (
    "empty",
    "PostScript that runs programs",
    "png of 60,000 x 60,000 px",
    "cut .heic",
    "EXIF that points nowhere",
):
    case("pictures", f"{_name}, alone", ALONE, _among(BAD[_name]))
case(
    "pictures", "400 million px in 50 kB", ALONE, lambda p: p.put("pics/x.jpg", _packed(20_000, 20_000, 1, 0))
)
case(
    "pictures",
    "190 million px, which is allowed",
    ALONE,
    lambda p: p.put("pics/x.jpg", _packed(14_000, 13_500, 1, 0)),
)
case(
    "pictures",
    "a text of 200 MB in a PNG",
    DETECT,
    lambda p: p.put("pics/x.png", _with_text(png(4, 4, body=bytes(52)))),
)

SPECIAL = {
    "a FIFO": lambda p: p.fifo("pics/x.jpg"),
    "a link to /dev/zero": lambda p: p.link("pics/x.jpg", "/dev/zero"),
    "a link to /dev/tty": lambda p: p.link("pics/x.jpg", "/dev/tty"),
    "a folder": lambda p: (p.folder / "pics/x.jpg").mkdir(parents=True),
    "a link that leads nowhere": lambda p: p.link("pics/x.jpg", "nowhere"),
    "a link to itself": lambda p: p.link("pics/x.jpg", "x.jpg"),
    "a link to /etc/passwd": lambda p: p.link("pics/x.jpg", "/etc/passwd"),
    "a sparse file of 50 GB": lambda p: p.sparse("pics/x.jpg"),
    "a JPEG of 50 GB": lambda p: p.sparse("pics/x.jpg", start=jpeg()),
    "a socket": lambda p: _socket(p.folder / "pics/x.jpg"),
}


def _socket(path: Path) -> None:
    path.parent.mkdir(parents=True)
    here = os.getcwd()
    os.chdir(path.parent)  # their names are short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


for _name, _build in SPECIAL.items():
    case("special files", f"{_name} called x.jpg", ALONE, _build)
    case(
        "special files",
        f"{_name} called x.jpg, in a folder",
        "detect pics --model {base}/net.cfg --json",
        _build,
    )
case(
    "special files",
    "a folder that links to itself",
    DETECT,
    lambda p: (p.put("pics/a.jpg", jpeg()), p.link("pics/in", ".")),
)
case("special files", "/dev/zero as a picture", "detect /dev/zero --model {base}/net.cfg")
case("special files", "/proc/self as a folder", "detect /proc/self/fd --model {base}/net.cfg")
case("special files", "a FIFO as a video", "detect x.mp4 --model {base}/net.cfg", lambda p: p.fifo("x.mp4"))
case(
    "special files",
    "a folder that cannot be opened",
    DETECT,
    lambda p: (p.put("pics/a.jpg", jpeg()), (p.folder / "pics").chmod(0)),
    plain_user=True,
)
case(
    "special files",
    "a picture that cannot be opened",
    DETECT,
    lambda p: (p.put("pics/b.jpg", jpeg()), p.put("pics/a.jpg", jpeg()).chmod(0)),
    plain_user=True,
)

NAMES = {
    "bytes that are not UTF-8": os.fsdecode(b"\xe9\xff.jpg"),
    "line breaks": "a\nerror: b\r\nc.jpg",
    "escape sequences": "\x1b]0;title\x07\x1b[2J\x1b[31mred.jpg",
    "rich's markup": "[bold red]x[/bold red][link=http://a].jpg",
    "dollars": "$x^2$ $\\frac{1}{0}$ $(id).jpg",
    "250 letters": "x" * 246 + ".jpg",
    "a dash": "-rf --json.jpg",
    "percents and braces": "%s%n%d {0} {x}.jpg",
    "writing from right to left": "\u202egpj.exe.jpg",
    "emoji of many parts": "👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿é.jpg",
    "quotes": "a'b\"c`d\\e.jpg",
    "a lone surrogate": os.fsdecode(b"\xed\xa0\x80.jpg"),
    "blanks": "  a  .jpg",
}
for _name, _file in NAMES.items():
    case("names of pictures", f"{_name}, detect", DETECT, _among(jpeg(), _file))
    case(
        "names of pictures",
        f"{_name} of a damaged one",
        DETECT.replace("--json", ""),
        _among(jpeg()[:300], _file),
    )
    case("names of pictures", f"{_name}, in an ASCII locale", DETECT.replace("--json", ""), _among(jpeg(), _file),
         environment=ASCII, real=_name in ("bytes that are not UTF-8", "emoji of many parts"))  # fmt: skip

SOURCES = {
    "a stream that nobody sends": "http://127.0.0.1:9/x.mjpg",
    "an address without a host": "rtsp:///",
    "a camera that is not there": "99",
    "the number of a camera with 30 digits": "9" * 30,
    "an empty source": "''",
    "a pattern that never ends": "'" + "**/" * 40 + "*.jpg'",
    "a pattern with an open bracket": "'pics/[a-.jpg'",
    "a path of 5,000 letters": "x" * 5000,
    "a file below a file": "a.jpg/b.jpg",
    "a pipe of GStreamer": "'videotestsrc ! appsink'",
    "a list of ffmpeg": "'concat:/etc/passwd|/etc/hosts'",
    "a file address": "file:///etc/passwd",
    "the root of the disk as output": "a.jpg --output /proc/none",
}
for _name, _source in SOURCES.items():
    case("sources", _name, f"detect {_source} --model {{base}}/net.cfg")
VIDEOS = {
    "random bytes": noise(5000),
    "a playlist that names /etc/passwd": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "ffmpeg's list of files": b"ffconcat version 1.0\nfile ../outside/secret.txt\nfile /etc/passwd\n",
    "an AVI that claims 10^9 frames": b"RIFF" + struct.pack("<I", 300) + b"AVI LIST" + struct.pack("<I", 192) + b"hdrlavih" + struct.pack("<I", 56) + struct.pack("<14I", 1, 9, 9, 16, 10**9, 0, 1, 9, 60_000, 60_000, 0, 0, 0, 0) + bytes(200),
}  # fmt: skip
for _name, _data in VIDEOS.items():
    case(
        "sources",
        f"a video of {_name}",
        "detect x.mp4 --model {base}/net.cfg",
        lambda p, data=_data: p.put("x.mp4", data),
    )
