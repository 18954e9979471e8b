"""numpy's files: what is in them comes back, what they claim is not believed."""

import io
import struct
import zipfile

import numpy as np
import pytest

from toolkit import arrays
from toolkit.arrays import read_array, read_arrays
from toolkit.runtime import InputError


def header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)[:2]), np.array(7)]
)
def test_arrays_come_back(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", first=array, second=array + 1)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array)
    arrays = read_arrays(tmp_path / "a.npz")
    assert list(arrays) == ["first", "second"]
    np.testing.assert_array_equal(arrays["second"], array + 1)


def objects() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "magic"),
        (b"x" * 99, "magic"),
        (header("(1000000, 1000000, 1000)") + bytes(64), "claims .1000000, 1000000, 1000. of float32"),
        (header("(-1, 2)") + bytes(64), "claims .-1, 2."),
        (header("(" * 500), "a.npy"),
        (header("(2,)", "|O") + bytes(64), "claims"),
        (header("(9,)") + bytes(8), "a.npy"),
        (objects(), "claims .1,. of object"),
    ],
)
def test_what_a_file_claims_is_compared_with_it(data, words, tmp_path):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    with pytest.raises(InputError, match=r"a\.npz"):
        read_arrays(tmp_path / "a.npz")


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path):
    packed = zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("x.npy", "w") as file:
        file.write(header("(150000000,)"))
        for _ in range(600):
            file.write(bytes(1_000_000))
    with pytest.raises(InputError, match="unpacks to more than"):
        read_arrays(tmp_path / "a.npz")


def test_a_list_of_arrays_that_is_too_long(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **{f"array{i}": np.zeros(1) for i in range(100)})
    assert len(read_arrays(tmp_path / "a.npz")) == 100
    monkeypatch.setattr(arrays, "DIRECTORY_BYTES", 5000)
    with pytest.raises(InputError, match="list of arrays is too long"):
        read_arrays(tmp_path / "a.npz")
