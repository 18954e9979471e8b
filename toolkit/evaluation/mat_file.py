"""MATLAB's .mat files from strangers: bounded in what they unpack to and in how deep they are nested."""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.runtime import InputError
from toolkit.text import one_line, read_bytes

MAT_BYTES = 16_000_000  # unpacked; WIDER FACE's have 3 million
LEVELS = 4  # of cells inside each other: scipy's reader crashes at a few thousand
_HEAD = 128  # bytes before the first part
_MATRIX, _COMPRESSED = 14, 15  # kinds of parts
_CELLS, _CHARACTERS, _SPARSE, _LAST_NUMBERS = 1, 4, 5, 15  # classes of matrices
_IS_COMPLEX = 0x800


def read_mat(path: str | Path, name: str) -> NDArray[Any]:
    """A variable of a .mat file of version 5: numbers, characters, or cells of them.

    Args:
        path: the file.
        name: of the variable.

    Returns:
        The array as scipy gives it; cells are an array of objects.

    Raises:
        InputError: the file is missing, damaged or of another version, unpacks to more than 16 MB, holds
            anything else or has no such variable.
    """
    data = read_bytes(path, MAT_BYTES)
    try:
        _check(data)
        from scipy.io import loadmat

        return loadmat(BytesIO(data), variable_names=[name])[name]  # type: ignore[no-any-return]
    except Exception as error:  # scipy's reader fails in many ways on a file that is not a .mat file
        raise InputError(f"{path} has no readable {name} ({one_line(str(error))}): fetch it again") from None


def _check(data: bytes) -> None:
    order = "<" if data[_HEAD - 2 : _HEAD] == b"IM" else ">"
    at, room = _HEAD, MAT_BYTES
    if len(data) < _HEAD or not any(data[:4]):  # as in version 4
        raise ValueError("it is not a .mat file of version 5")
    while at < len(data):
        kind, length = struct.unpack_from(order + "II", data, at)
        part = data[at : at + 8 + length]
        if kind == _COMPRESSED:
            part = zlib.decompressobj().decompress(part[8:], room + 1)
        room -= len(part)
        if room < 0:
            raise ValueError(f"it unpacks to more than {MAT_BYTES:,} bytes")
        _check_part(part, order)
        at += 8 + length


def _check_part(part: bytes, order: str) -> None:
    """ValueError or struct.error unless it is a matrix of numbers, characters or cells of a few levels."""
    at = 0

    def element() -> bytes:
        nonlocal at
        kind, length = struct.unpack_from(order + "II", part, at)
        begin, short = at + 8, kind >> 16  # up to four bytes are in the place of the length
        at = begin if short else begin + length + -length % 8
        return part[begin - 4 : begin - 4 + short] if short else part[begin : begin + length]

    expected = [1]  # matrices that are to come, on each level
    while expected:
        if not expected[-1]:
            expected.pop()
            continue
        expected[-1] -= 1
        kind, length = struct.unpack_from(order + "II", part, at)
        if kind != _MATRIX:
            raise ValueError("it has a part that is not a matrix")
        at += 8
        if not length:
            continue
        (flags,) = struct.unpack_from(order + "I", part, at + 8)
        at += 16
        sides = np.frombuffer(element(), order + "i4").tolist()
        element()  # its name
        if flags & 0xFF == _CELLS:
            count = math.prod(sides)
            if min(sides) < 0 or count > len(part) // 8 or len(expected) > LEVELS:
                raise ValueError(f"it has cells deeper than {LEVELS} levels, or more than there are bytes")
            expected.append(count)
        elif _CHARACTERS <= flags & 0xFF <= _LAST_NUMBERS and flags & 0xFF != _SPARSE:
            for _ in range(2 if flags & _IS_COMPLEX else 1):
                element()
        else:
            raise ValueError("it holds other things than numbers, characters and cells")
