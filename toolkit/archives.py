"""Zip archives from strangers: how long the list of entries is, before the library makes objects of it."""

from __future__ import annotations

import re
from typing import BinaryIO

_END, _LOCATOR, _WIDE = b"PK\5\6", b"PK\6\7", b"PK\6\6"  # marks of the records at the end; zip64's two
_END_BYTES, _LOCATOR_BYTES, _WIDE_BYTES = 22, 20, 56
_COMMENT_BYTES = 1 << 16  # that may follow


def directory_bytes(file: BinaryIO, size: int) -> int:
    """The length in bytes of a zip's list of entries, of which zipfile makes objects of several times that.

    Args:
        file: the archive, open for reading in any place; it is left elsewhere.
        size: of the archive in bytes.

    Returns:
        The most that any record says which may be the one that the library takes: the last 22 bytes, or the
        last that looks like one; 0 where there is none.

    >>> import io, zipfile
    >>> with zipfile.ZipFile(file := io.BytesIO(), "w") as packed:
    ...     packed.writestr("a", "")
    >>> directory_bytes(file, len(file.getvalue()))
    47
    """
    file.seek(max(0, size - _COMMENT_BYTES - _END_BYTES - _LOCATOR_BYTES - _WIDE_BYTES))
    tail = file.read()
    lengths = [0]
    for at in (len(tail) - _END_BYTES, tail.rfind(_END)):
        if at < 0 or not tail.startswith(_END, at):
            continue
        wide = []
        if tail.startswith(_LOCATOR, max(0, at - _LOCATOR_BYTES)):
            places = [place.start() for place in re.finditer(_WIDE, tail[:at])]
            wide = [int.from_bytes(tail[place + 40 : place + 48], "little") for place in places]
        plain = int.from_bytes(tail[at + 12 : at + 16], "little")
        lengths += wide if wide and plain == 0xFFFFFFFF else [plain, *wide]
    return max(lengths)
