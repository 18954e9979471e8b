"""Pictures of every type that is read: the right pixels, upright, and the size that the header gives."""

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from toolkit import pictures
from toolkit.headers import header_of
from toolkit.pictures import (
    IMAGE_SUFFIXES,
    OTHER_PICTURE_SUFFIXES,
    Unreadable,
    copy_name,
    decode,
    find_images,
    load_image,
    other_pictures,
    picture_size,
    save_image,
)
from toolkit.runtime import InputError
from toolkit.videos import open_video

COLOURS = np.array([[[250, 10, 10], [10, 10, 250]], [[128, 128, 128], [10, 250, 10]]], np.uint8)
UPRIGHT = np.kron(COLOURS, np.ones((16, 24, 1), np.uint8))  # 48 x 32
TURN = Pillow.Exif()
TURN[0x0112] = 6  # a quarter to the right
TURN = TURN.tobytes()


def coded(kind: str, pixels: np.ndarray = UPRIGHT, mode: str = "", colours: int = 0, **settings) -> bytes:
    """A file by pillow, of the HEIC type by its plugin; with a palette of that many colours."""
    if kind == "HEIF":
        pytest.importorskip(
            "pillow_heif"
        ).register_heif_opener()  # pi_heif, which the toolkit uses, only reads
    picture = Pillow.fromarray(pixels)
    picture = picture.quantize(colours) if colours else picture
    stream = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(stream, kind, **settings)
    return stream.getvalue()


def by_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(suffix, pixels[..., ::-1])[1].tobytes()


def transparent() -> np.ndarray:
    """The first quarter is not to be seen."""
    alpha = np.full(UPRIGHT.shape[:2], 255, np.uint8)
    alpha[:16, :24] = 0
    return np.dstack((UPRIGHT, alpha))


def quarters(image: np.ndarray) -> np.ndarray:
    h, w = image.shape[:2]
    return image[[h // 4, h // 4, 3 * h // 4, 3 * h // 4], [w // 4, 3 * w // 4, w // 4, 3 * w // 4]]


OTHER = Pillow.fromarray(255 - UPRIGHT)
FRAMES = {"save_all": True, "append_images": [OTHER]}
AS_IT_IS = {
    "jpeg": lambda: coded("JPEG", quality=95, subsampling=0),
    "cmyk": lambda: coded("JPEG", mode="CMYK", quality=95, subsampling=0),
    "png": lambda: coded("PNG"),
    "palette": lambda: coded("PNG", colours=4),
    "animated png": lambda: coded("PNG", **FRAMES),
    "16-bit png": lambda: by_opencv(".png", UPRIGHT.astype(np.uint16) * 257),
    "bmp": lambda: coded("BMP"),
    "gif": lambda: coded("GIF"),
    "animated gif": lambda: coded("GIF", **FRAMES),
    "webp": lambda: coded("WEBP", lossless=True),
    "animated webp": lambda: coded("WEBP", lossless=True, **FRAMES),
    "avif": lambda: coded("AVIF", quality=100, subsampling="4:4:4"),
    "heic": lambda: coded("HEIF", quality=95, chroma=444),
    "tiff": lambda: coded("TIFF"),
    "two pages": lambda: coded("TIFF", **FRAMES),
    "16-bit tiff": lambda: by_opencv(".tiff", UPRIGHT.astype(np.uint16) * 257),
    "cmyk tiff": lambda: coded("TIFF", mode="CMYK"),
    "ppm": lambda: coded("PPM"),
    "jpeg 2000": lambda: coded("JPEG2000"),
}


@pytest.mark.parametrize("kind", AS_IT_IS)
def test_types_are_read(kind, tmp_path):
    """Under a wrong name, for what is inside decides."""
    path = tmp_path / "picture.jpg"
    path.write_bytes(AS_IT_IS[kind]())
    image = load_image(path)
    assert image.shape == UPRIGHT.shape
    assert image.dtype == np.uint8
    np.testing.assert_allclose(quarters(image).astype(int), quarters(UPRIGHT), atol=8)
    assert picture_size(path) == (48, 32)


GREY = {
    "grey jpeg": ("JPEG", "L"),
    "grey with alpha": ("PNG", "LA"),
    "grey tiff": ("TIFF", "L"),
    "pgm": ("PPM", "L"),
}


@pytest.mark.parametrize("kind", GREY)
def test_grey_is_grey_in_three_colours(kind, tmp_path):
    (tmp_path / "a.png").write_bytes(coded(GREY[kind][0], mode=GREY[kind][1]))
    image = load_image(tmp_path / "a.png").astype(int)
    grey = cv2.cvtColor(UPRIGHT, cv2.COLOR_RGB2GRAY).astype(int)
    np.testing.assert_allclose(quarters(image), np.stack([quarters(grey)] * 3, 1), atol=4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white(kind, tmp_path):
    bits = np.zeros((32, 48), bool)
    bits[:16] = True
    (tmp_path / "a.tif").write_bytes(coded(kind, bits))
    image = load_image(tmp_path / "a.tif")
    assert [image[4, 4].tolist(), image[-4, -4].tolist()] == [[255] * 3, [0] * 3]


TURNED = {
    "jpeg": lambda: coded("JPEG", exif=TURN),
    "png": lambda: coded("PNG", exif=TURN),
    "webp": lambda: coded("WEBP", exif=TURN),
    "avif": lambda: coded("AVIF", quality=95, exif=TURN),
    "heic": lambda: coded("HEIF", quality=95, exif=TURN),
    "tiff": lambda: coded("TIFF", tiffinfo={0x0112: 6}),
}


@pytest.mark.parametrize("kind", TURNED)
def test_orientation_by_exif(kind, tmp_path):
    (tmp_path / "a.jpg").write_bytes(TURNED[kind]())
    image = load_image(tmp_path / "a.jpg")
    assert image.shape == (48, 32, 3)
    np.testing.assert_allclose(quarters(image).astype(int), quarters(np.rot90(UPRIGHT, -1)), atol=12)
    assert picture_size(tmp_path / "a.jpg") == (32, 48)
    stored = decode(np.fromfile(tmp_path / "a.jpg", np.uint8), "a.jpg", turned=False)
    assert stored.shape == ((48, 32, 3) if kind in ("heic", "tiff") else (32, 48, 3))


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "HEIF"])
def test_transparency_is_laid_on_white(kind, tmp_path):
    (tmp_path / "a.gif").write_bytes(coded(kind, transparent()))
    first, second = quarters(load_image(tmp_path / "a.gif"))[:2].astype(int)
    np.testing.assert_allclose(first, 255, atol=4)
    np.testing.assert_allclose(second, quarters(UPRIGHT)[1], atol=30)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_of_others_is_dropped(kind, tmp_path):
    settings = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    (tmp_path / "a.png").write_bytes(coded(kind, transparent(), **settings))
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), UPRIGHT)


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that promises side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


REFUSED = {
    "empty": (b"", "is damaged, empty or of another type"),
    "text": (b"<html></html>", "is damaged, empty or of another type"),
    "cut gif": (coded("GIF")[:-40], "is damaged, empty or of another type"),
    "cut avif": (coded("AVIF")[:-60], "is damaged, empty or of another type"),
    "float": (
        by_opencv(".tiff", UPRIGHT.astype(np.float32) / 255),
        "holds 32-bit floating point numbers, and 8 or 16 bits per channel are read: scale its values to",
    ),
    "grey float": (coded("TIFF", mode="F"), "holds 32-bit floating point numbers"),
    "double": (by_opencv(".tiff", UPRIGHT.astype(np.float64)), "holds 64-bit floating point numbers"),
    "whole": (coded("TIFF", mode="I"), "holds 32-bit whole numbers"),
    "bomb": (bomb(40_000), "has .* pixels"),
    "icon": (coded("ICO"), "of another type"),
    "no colours": (b"\xff\xd8\xff\xc2" + struct.pack(">HBHHB", 8, 8, 32, 48, 0), "does not decode"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_one_true_sentence(case, tmp_path):
    data, words = REFUSED[case]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(Unreadable, match=f"a.png .*{words}"):
        load_image(tmp_path / "a.png")


def test_a_size_is_that_of_the_picture_or_none(tmp_path):
    for case in ("empty", "text", "float", "bomb"):
        (tmp_path / "a.png").write_bytes(REFUSED[case][0])
        with pytest.raises(Unreadable, match=REFUSED[case][1]):
            picture_size(tmp_path / "a.png")
    with pytest.raises(Unreadable, match=r"b\.png is missing"):
        picture_size(tmp_path / "b.png")
    for side in (12_000, 14_000):  # of maps; pillow's own limit would be between them
        (tmp_path / "a.png").write_bytes(bomb(side))
        assert picture_size(tmp_path / "a.png") == (side, side)


def chunked(*parts: tuple[bytes, bytes]) -> bytes:
    """A PNG of these parts."""
    whole = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


SIDE = 60_000
IHDR = (b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0))
ROWS = (b"IDAT", zlib.compress(b"".join(b"\0" + bytes(120) for _ in range(30))))
FULL = zlib.compress(bytes(100_000_000), 9)


def tiff(width: int, height: int, samples: int = 3, tile: int = 0) -> bytes:
    """A TIFF of little more than a header."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2), (277, samples)]
    tags += [(322, tile), (323, tile), (324, 8)] if tile else [(273, 8), (278, height), (279, 1000)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(1000)


def jpeg2000(side: int, components: int) -> bytes:
    sizes = struct.pack(">HHIIIIIIIIH", 38 + 3 * components, 0, *[side, side, 0, 0] * 2, components)
    return b"\xff\x4f\xff\x51" + sizes + b"\7\1\1" * components + bytes(100)


def large_jpeg(kind: bytes) -> bytes:
    data = coded("JPEG", progressive=kind == b"\xff\xc2")
    at = data.index(kind)
    return data[: at + 5] + struct.pack(">HH", SIDE, SIDE) + data[at + 9 :]


def large_gif() -> bytes:
    size = struct.pack("<HH", SIDE, SIDE)
    return b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0;"


BOMBS = {
    "png": bomb(SIDE),
    "a chunk of 2 GB": chunked(IHDR) + b"\x7f\xff\xff\xffIDAT" + bytes(50),
    "jpeg": large_jpeg(b"\xff\xc0"),
    "progressive jpeg": large_jpeg(b"\xff\xc2"),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, SIDE, -SIDE, 1, 24, 0, 0, 0, 0, 0, 0),
    "ppm": b"P6 # a remark\n60000 # another\n60000 255\n" + bytes(1000),
    "bits": b"P4 99999999 99999999\n" + bytes(1000),
    "webp": b"RIFF\x1e\0\0\0WEBPVP8L\x14\0\0\0\x2f\xff\xff\xff\x0f" + bytes(20),
    "gif": large_gif(),
    "tiff": tiff(SIDE, SIDE),
    "tiff of many samples": tiff(8000, 8000, samples=60_000),
    "tiff of a large tile": tiff(100, 100, tile=1 << 15),
    "jpeg 2000": jpeg2000(SIDE, 3),
    "jpeg 2000 of many components": jpeg2000(9000, 16_000),
}


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    """With less memory than any of them would take."""
    for kind, data in BOMBS.items():
        (tmp_path / f"{kind}.png").write_bytes(data)
    code = (
        "import glob, resource\n"
        "from toolkit.pictures import Unreadable, load_image\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "for name in glob.glob('*.png'):\n"
        "    try: load_image(name)\n"
        "    except Unreadable as error: print(error)\n"
        "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
    )
    *sentences, peak = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(sentences) == len(BOMBS)
    assert int(peak) < 400_000  # kB
    assert sum("pixels" in sentence for sentence in sentences) == len(BOMBS) - 1


def test_text_that_unpacks_to_much_spoils_no_picture(tmp_path):
    for kind, data in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        (tmp_path / "a.png").write_bytes(chunked(IHDR, (kind, data + FULL), ROWS, (b"IEND", b"")))
        assert load_image(tmp_path / "a.png").shape == (30, 40, 3)


def test_the_number_of_pixels_can_be_set(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(coded("PNG"))
    (tmp_path / "a.gif").write_bytes(coded("GIF"))
    monkeypatch.setenv("TOOLKIT_MAX_PIXELS", "1535")
    for name in ("a.png", "a.gif"):
        for read in (load_image, picture_size):
            with pytest.raises(Unreadable, match=r"48 x 32 pixels.*TOOLKIT_MAX_PIXELS"):
                read(tmp_path / name)
    monkeypatch.setenv("TOOLKIT_MAX_PIXELS", "100000")
    assert load_image(tmp_path / "a.png").shape == (32, 48, 3)
    for text in ("-1", "many", "1e9"):
        monkeypatch.setenv("TOOLKIT_MAX_PIXELS", text)
        with pytest.raises(InputError, match="TOOLKIT_MAX_PIXELS"):
            load_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_not_a_file_is_not_opened(kind, tmp_path):
    path = tmp_path / "a.jpg"
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](path)
    for read in (load_image, picture_size):
        with pytest.raises(Unreadable, match=rf"a\.jpg is a .*{kind}.*not a file"):
            read(path)


def test_names_that_are_no_text(tmp_path):
    """OpenCV crashes at them."""
    path = tmp_path / os.fsdecode(b"\xe9\xff.png")
    save_image(path, UPRIGHT)
    assert np.array_equal(load_image(path), UPRIGHT)
    assert picture_size(path) == (48, 32)
    assert find_images(tmp_path) == [path]
    path.rename(path.with_suffix(".mp4"))
    with pytest.raises(InputError, match="rename it"):
        open_video(str(path.with_suffix(".mp4")))


def test_a_large_picture_is_written_as_a_small_one(tmp_path, monkeypatch):
    """Without a copy, and it is as it was afterwards."""
    save_image(tmp_path / "a.png", UPRIGHT)
    monkeypatch.setattr(pictures, "LARGE", 0)
    image = UPRIGHT.copy()
    save_image(tmp_path / "b.png", image)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(InputError, match="cannot write the picture"):
        save_image(tmp_path / "c.none", image)
    assert np.array_equal(image, UPRIGHT)


def test_a_large_picture_is_read_as_a_small_one(tmp_path, monkeypatch):
    """It is decoded from the file, with a copy less."""
    for kind in (*AS_IT_IS.values(), *TURNED.values()):
        (tmp_path / "a.jpg").write_bytes(kind())
        plain = load_image(tmp_path / "a.jpg")
        with monkeypatch.context() as patch:
            patch.setattr(pictures, "LARGE", 0)
            assert np.array_equal(load_image(tmp_path / "a.jpg"), plain)


def test_an_untidy_exif_block_turns_nothing(tmp_path):
    (tmp_path / "a.jpg").write_bytes(coded("JPEG", exif=b"Exif\0\0no block at all"))
    assert load_image(tmp_path / "a.jpg").shape == (32, 48, 3)
    assert picture_size(tmp_path / "a.jpg") == (48, 32)


def test_heic_without_its_plugin_names_the_extra(tmp_path):
    (tmp_path / "a.heic").write_bytes(coded("HEIF"))
    code = (
        "import sys; sys.modules['pi_heif'] = None\n"
        "from toolkit.pictures import *; from toolkit.pictures import Unreadable, picture_size\n"
        "for read in (load_image, picture_size):\n"
        "    try: read('a.heic')\n"
        "    except Unreadable as error: print(error)"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    sentence = "a.heic is a HEIC picture, and this step needs the package 'pi_heif', which is not installed"
    assert [line.partition(":")[0] for line in run.stdout.splitlines()] == [sentence] * 2
    assert '-e ".[pictures]"' in run.stdout


def test_an_unreadable_picture_passes_between_processes():
    error = pickle.loads(pickle.dumps(Unreadable("a.png", "is missing")))
    assert (str(error), error.reason) == ("a.png is missing", "is missing")


def test_every_picture_of_a_folder_is_listed_once(tmp_path):
    assert not IMAGE_SUFFIXES & OTHER_PICTURE_SUFFIXES
    for name in (
        "b.GIF",
        "a.heic",
        "sub/c.jpe",
        "photo.CR2",
        "logo.svg",
        "notes.txt",
        "._b.gif",
        ".trash/d.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["a.heic", "b.GIF", "c.jpe"]
    assert [path.name for path in other_pictures(tmp_path)] == ["logo.svg", "photo.CR2"]
    for path in find_images(tmp_path):
        path.unlink()
    with pytest.raises(InputError, match=r"found 2 of other types, such as logo\.svg; expected \.avif"):
        find_images(tmp_path)


def test_a_copy_keeps_the_types_that_are_written():
    names = [copy_name(Path(name)).as_posix() for name in ("a/b.JPG", "a/b.gif", "c.heic")]
    assert names == ["a/b.JPG", "a/b.gif.png", "c.heic.png"]


def test_patterns(tmp_path, monkeypatch):
    """In natural order; a file of that very name goes first."""
    monkeypatch.chdir(tmp_path)
    for name in ("b10.png", "b2.png", "B1.PNG", "c.txt", "d.svg", "more/e.png", "[1].png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"x")
    assert [str(path) for path in find_images("b*.png")] == ["b2.png", "b10.png"]
    assert [str(path) for path in find_images("**/*.png")] == ["[1].png", "b2.png", "b10.png", "more/e.png"]
    assert find_images("[1].png") == [Path("[1].png")]
    assert other_pictures("*") == [Path("d.svg")]
    Path("f.mp4").write_bytes(b"x")
    for pattern, words in (
        ("z*", "no file matches"),
        ("*.txt", "none is a picture"),
        ("*.mp4", "matches videos"),
    ):
        with pytest.raises(InputError, match=words):
            find_images(pattern)


@pytest.mark.skipif(os.sep == "\\", reason="where \\ separates folders there is nothing to explain")
@pytest.mark.parametrize(
    ("path", "words"),
    [(r"C:\Users\me\a.jpg", "path of Windows.*/mnt/c/Users/me/a.jpg"), (r"shots\a.jpg", "as in shots/a.jpg")],
)
def test_a_path_of_windows_is_explained(path, words):
    with pytest.raises(InputError, match=words):
        find_images(path)
    with pytest.raises(InputError, match=words.replace("jpg", "mp4")):
        open_video(path.replace("jpg", "mp4"))


def test_brackets_in_the_folders_of_a_pattern(tmp_path):
    folder = tmp_path / "run [1]" / "a"
    folder.mkdir(parents=True)
    for name in ("2.png", "10.png", "x.txt"):
        (folder / name).write_bytes(b"")
    names = [path.relative_to(tmp_path) for path in find_images(tmp_path / "run [1]" / "**" / "*.png")]
    assert [str(name) for name in names] == ["run [1]/a/2.png", "run [1]/a/10.png"]


def jpeg(*between: bytes) -> bytes:
    """The beginning of a JPEG of 48 x 32 pixels, with what is between its mark and its size."""
    return b"\xff\xd8\xff" + b"".join(between) + b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 32, 48, 3)


@pytest.mark.parametrize(
    ("between", "size"),
    [
        (b"", (48, 32)),
        (b"\xff\xff\x00\x01rest" + b"\xff\x01\xff\xd0" * 9, (48, 32)),
        (b"\xe0\x00\x04\xff\xc0" + bytes(99), (48, 32)),
        (b"\x00" + bytes(200_000_000), (48, 32)),  # Python takes 10 s for as many, byte by byte
        (b"\xff" * 20_000_000 + b"\0", (48, 32)),
        (b"\x00" + b"\xff\xe0\x00\x02" * 10_000_000, None),
    ],
)
def test_the_size_of_a_jpeg_is_found_or_given_up_soon(between, size):
    start = time.process_time()
    header = header_of(jpeg(between))
    assert (header and (header.width, header.height)) == size
    assert time.process_time() - start < 5


def test_a_header_is_read_once_for_a_picture(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(coded("PNG"))
    read = []
    monkeypatch.setattr(pictures, "header_of", lambda data: read.append(1) or header_of(data))
    assert load_image(tmp_path / "a.png").shape == (32, 48, 3)
    assert read == [1]


def test_a_file_longer_than_any_picture_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(Unreadable, match=r"longer than 1\.3 GB, the most that is read"):
        load_image(tmp_path / "a.png")
