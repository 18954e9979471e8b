"""Weights of a .caffemodel, read from protobuf's wire format without Caffe or protobuf.

Field numbers are those of BVLC's caffe.proto; the encoding is https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.runtime import InputError
from toolkit.text import read_bytes

FILE_BYTES = 64_000_000  # that of landmark106 has 1,300,000
MOST_FIELDS = 1_000_000  # of a message
LAYER = 100  # of NetParameter
NAME, TYPE, BLOBS = 1, 2, 7  # of LayerParameter
DATA, SHAPE = 5, 7  # of BlobProto
DIM = 1  # of BlobShape
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, eq=False)
class CaffeLayer:
    """A layer with weights: its blobs in Caffe's order, such as a convolution's filters and bias."""

    name: str
    kind: str
    blobs: tuple[NDArray[np.float32], ...]


def read_caffemodel(path: str | Path) -> list[CaffeLayer]:
    """Layers with weights of a .caffemodel, in running order.

    Raises InputError if the file is missing, damaged, or has no such layer (the format before 2014).
    """
    path = Path(path)
    net = read_bytes(path, FILE_BYTES)
    try:
        layers = [_layer(value) for number, value in _fields(net) if number == LAYER]
    except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError):
        raise InputError(f"{path.name} is damaged or not a .caffemodel: expected Caffe's weights") from None
    layers = [layer for layer in layers if layer.blobs]
    if not layers:
        raise InputError(f"{path.name} has no layer with weights: expected a .caffemodel written since 2014")
    return layers


def _layer(message: bytes) -> CaffeLayer:
    fields = list(_fields(message))
    texts = {number: value.decode() for number, value in fields if number in (NAME, TYPE)}
    blobs = tuple(_blob(value) for number, value in fields if number == BLOBS)
    return CaffeLayer(texts.get(NAME, ""), texts.get(TYPE, ""), blobs)


def _blob(message: bytes) -> NDArray[np.float32]:
    fields = list(_fields(message))
    # packed, as Caffe writes it, or one number at a time
    data = np.frombuffer(b"".join(value for number, value in fields if number == DATA), "<f4")
    dims: list[int] = []
    for number, value in fields:
        if number == SHAPE:
            dims = [size for _, part in _fields(value) for size in _varints(part)]
    return data.reshape(dims) if dims else data


def _varints(part: Any) -> list[int]:
    """Numbers of a packed field, or the one of a field that is not packed."""
    if isinstance(part, int):
        return [part]
    values, at = [], 0
    while at < len(part):
        value, at = _varint(part, at)
        values.append(value)
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits per byte, lowest first; the top bit is set if more follow. -> value, end position."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: int for a varint, otherwise bytes."""
    at = fields = 0
    while at < len(message):
        key, at = _varint(message, at)
        fields += 1
        if fields > MOST_FIELDS:
            raise ValueError("too many fields")
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FOUR_BYTES, EIGHT_BYTES):
            size = 4 if kind == FOUR_BYTES else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("a field runs past the end")
        yield number, message[at : at + size]
        at += size
