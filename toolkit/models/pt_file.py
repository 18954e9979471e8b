"""torch's .pt files from anywhere: nothing in them is executed, what they claim takes no memory."""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from toolkit.archives import directory_bytes
from toolkit.models.bounds import WEIGHTS_BYTES
from toolkit.runtime import InputError
from toolkit.text import file_bytes, short

# What the pickle inside may name. torch.load allows more, such as sparse and quantised tensors, whose sizes
# are words alone, and arrays of bytes of any length.
PLAIN = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(
        f"torch {name}Storage"
        for name in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
    ),
}
CHECKPOINT_BYTES = 6 * WEIGHTS_BYTES  # weights, averages and two moments of the optimiser
DIRECTORY_BYTES = 16_000_000  # of the zip's list of files, some 200,000 tensors
PICKLE_BYTES = 32_000_000
MOST_VALUES = 1_000_000
DEPTH = 20  # lists and mappings inside each other
LONGEST_TEXT = 4_000_000  # of a cfg
_END_BYTES = 22  # of the last record, which has a mark


def read_pt(path: str | Path) -> Any:
    """What a .pt file holds: mappings, lists, texts, finite numbers and plain tensors.

    The tensors are mapped from the file, so that they take memory only where they are used, and their numbers
    are no more than the file has. They may hold NaN.

    Args:
        path: a file of torch.save since torch 1.6, a zip.

    Raises:
        InputError: it is missing, is not such a file, is damaged, or holds anything else.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"step": 3, "model": {"weight": torch.ones(2)}}, Path(folder, "a.pt"))
    ...     read_pt(Path(folder, "a.pt"))["model"]["weight"]
    tensor([1., 1.])
    """
    size = file_bytes(path, CHECKPOINT_BYTES)
    try:
        with open(path, "rb") as file:
            _check_zip(file, size)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        _check_plain(state)
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except Exception as error:  # torch has many for damage
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{path} is damaged or not a file of this toolkit: {reason}") from None
    return state


def _check_zip(file: BinaryIO, size: int) -> None:
    """ValueError unless the file is a zip of files that are stored as they are, together no longer than it,
    with a pickle of plain values."""
    if size < _END_BYTES:
        raise ValueError(f"it has {size} bytes")
    file.seek(size - _END_BYTES)
    if file.read(4) != b"PK\5\6":
        raise ValueError("it is not a zip, as torch writes since version 1.6, or is cut")
    if directory_bytes(file, size) > DIRECTORY_BYTES:
        raise ValueError("its list of files is too long")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError("two of the files in it have one name")
        packed = [entry for entry in entries if entry.compress_type or entry.file_size != entry.compress_size]
        total = sum(entry.file_size for entry in entries)
        if packed or total > size:
            raise ValueError(f"it unpacks to {total:,} bytes, the file has {size:,}")
        pickles = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or pickles[0].file_size > PICKLE_BYTES:
            raise ValueError("the part that says what it holds is missing or too long")
        _check_pickle(archive.read(pickles[0]))


def _check_pickle(data: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4") or (
            opcode.name == "GLOBAL" and argument not in PLAIN
        ):
            found = short(argument or opcode.name)
            raise ValueError(f"it holds {found}: expected plain tensors and numbers")


def _check_plain(state: Any) -> None:
    """ValueError for what is not plain, too deep or too much; what is there twice counts twice."""
    todo, count = [(state, 0)], 1
    while todo:
        value, depth = todo.pop()
        count += 2 * len(value) if isinstance(value, Mapping | list | tuple) else 0
        if count > MOST_VALUES or depth > DEPTH:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values, or {DEPTH} levels of them")
        match value:
            case Tensor():
                _check_tensor(value)
            case Mapping():
                todo += [(part, depth + 1) for pair in value.items() for part in pair]
            case list() | tuple():
                todo += [(part, depth + 1) for part in value]
            case str() if len(value) > LONGEST_TEXT:
                raise ValueError(f"it holds a text of {len(value):,} characters")
            case int() if value.bit_length() > 63:
                raise ValueError(f"it holds the number {short(value)}")
            case float() if not math.isfinite(value):
                raise ValueError(f"it holds the number {value}")
            case str() | int() | float() | None:
                pass
            case _:
                raise ValueError(f"it holds a {type(value).__name__}: expected plain tensors and numbers")


def _check_tensor(tensor: Tensor) -> None:
    """ValueError for a tensor that claims more numbers than the file has for it."""
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(
            f"a tensor of {'x'.join(map(str, tensor.shape))} has memory for "
            f"{tensor.untyped_storage().nbytes() // tensor.element_size():,} numbers"
        )


def check_fit(
    path: str | Path, tensors: Any, expected: Mapping[str, Tensor], network: str
) -> dict[str, Tensor]:
    """Tensors of a .pt file that have names, shapes and kinds of a network's, and are finite.

    Args:
        path: of the file, for messages.
        tensors: what it has under "model" or the like.
        expected: the network's state_dict, on torch's device "meta" or with its weights.
        network: its name, for messages.

    Returns:
        `tensors`, as they are.

    Raises:
        InputError: they are not, belong to another network, or hold NaN or infinity.
    """
    if not isinstance(tensors, Mapping):
        raise InputError(f"{path} has no weights: expected tensors by name, found {short(tensors)}")
    problem = ""
    if missing := [name for name in expected if name not in tensors]:
        problem = f"it lacks {missing[0]}"
    elif unknown := [name for name in tensors if name not in expected]:
        problem = f"it has {short(unknown[0])}"
    for name, tensor in expected.items() if not problem else ():
        value = tensors[name]
        if not isinstance(value, Tensor):
            problem = f"{name} is {short(value)}, expected a tensor"
        elif value.shape != tensor.shape:
            sizes = ["x".join(map(str, each.shape)) or "one number" for each in (value, tensor)]
            problem = f"{name} is {sizes[0]}, expected {sizes[1]}"
        elif value.is_floating_point() != tensor.is_floating_point():
            problem = f"{name} has numbers of type {value.dtype}, expected {tensor.dtype}"
        if problem:
            break
    if problem:
        raise InputError(f"{path} belongs to another network than {network}: {problem}")
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(
            f"{path} has weights that are not finite numbers, the first in {broken[0]}: its training "
            "diverged, or the file is damaged"
        )
    return dict(tensors)
