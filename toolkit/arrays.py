"""numpy's files from strangers: sizes are checked against the file before an array is made."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from toolkit.archives import directory_bytes
from toolkit.regular import opened
from toolkit.runtime import InputError
from toolkit.text import file_bytes, one_line

ARRAYS_BYTES = 1 << 29  # of a file, unpacked
DIRECTORY_BYTES = 4_000_000  # of an .npz's list of arrays, some 50,000
# what numpy raises for damage: in its header, which is a Python literal, in a zip, and in what that packs (a
# password, an unknown compression and nesting too deep are all RuntimeErrors)
_DAMAGE = (OSError, ValueError, TypeError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile)
_PACKED = (zlib.error, RuntimeError, MemoryError)


def read_array(path: str | Path) -> NDArray[Any]:
    """The array of a .npy file.

    Raises:
        InputError: it is missing, damaged, larger than 512 MB, or holds Python's objects.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.eye(2))
    ...     read_array(f"{folder}/a.npy").shape
    (2, 2)
    """
    size = file_bytes(path, ARRAYS_BYTES)
    try:
        with opened(path) as file:
            return _array(file, size)
    except (*_DAMAGE, *_PACKED) as error:
        raise InputError(f"cannot read {path} as .npy: {one_line(str(error))}") from None


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name; InputError as `read_array`."""
    size = file_bytes(path, ARRAYS_BYTES)
    try:
        with opened(path) as stream:
            if directory_bytes(stream, size) > DIRECTORY_BYTES:
                raise ValueError("its list of arrays is too long")
            packed = zipfile.ZipFile(stream)
            entries = packed.infolist()
            if sum(entry.file_size for entry in entries) > ARRAYS_BYTES:
                raise ValueError(f"it unpacks to more than {ARRAYS_BYTES:,} bytes")
            arrays = {}
            for entry in entries:
                with packed.open(entry) as file:
                    arrays[entry.filename.removesuffix(".npy")] = _array(file, entry.file_size)
            return arrays
    except (*_DAMAGE, *_PACKED) as error:
        raise InputError(f"cannot read {path} as .npz: {one_line(str(error))}") from None


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    """An array from a file of `size` bytes, which its header must fit."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its version is {version}: expected 1.0 or 2.0")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, kind = header(file)
    count = 1
    for side in shape:
        count *= side
    if kind.hasobject or min(shape, default=0) < 0 or count * kind.itemsize > size:
        raise ValueError(f"its header claims {shape} of {kind}, and the file has {size:,} bytes")
    values = np.frombuffer(file.read(count * kind.itemsize), kind, count)
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)
