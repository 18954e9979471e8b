"""The length of a zip's list of entries is the one that the library reads, whatever decoys there are."""

import io
import struct
import zipfile

import pytest

from toolkit.archives import directory_bytes

ENTRIES = 50


def packed(comment: bytes = b"") -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        for i in range(ENTRIES):
            archive.writestr(f"{i:02}.txt", b"x")
        archive.comment = comment
    return stream.getvalue()


def wide() -> bytes:
    """With zip64's records, as archives of over 65,535 entries have them; the length is in them alone."""
    data = packed()
    length, place = struct.unpack("<II", data[-10:-2])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, ENTRIES, ENTRIES, length, place)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(data) - 22, 1)
    return data[:-22] + record + locator + data[-22:-10] + b"\xff" * 8 + data[-2:]


def decoyed() -> bytes:
    """With the mark of the record in the record itself, in the place of the number of disks."""
    data = bytearray(packed())
    data[-18:-14] = b"PK\5\6"
    return bytes(data)


@pytest.mark.parametrize(
    "data", [packed(), packed(b"a comment"), packed(b"long" * 10_000), wide(), decoyed()],
    ids=["plain", "comment", "long comment", "zip64", "decoy"],
)  # fmt: skip
def test_the_length_is_that_of_the_entries(data):
    assert len(zipfile.ZipFile(io.BytesIO(data)).infolist()) == ENTRIES
    assert directory_bytes(io.BytesIO(data), len(data)) == ENTRIES * (46 + len("00.txt"))


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 100, b"PK\5\6"])
def test_what_is_no_archive_has_no_list(data):
    assert directory_bytes(io.BytesIO(data), len(data)) == 0
