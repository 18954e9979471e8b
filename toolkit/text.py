"""Text of files in unknown encodings."""

from __future__ import annotations

import re
from contextlib import suppress


def decode_text(data: bytes, declared: str = "") -> tuple[str, str]:
    """The text of a file and its encoding: UTF-8, UTF-16 (also without a mark) or, where neither fits,
    the declared one, or else a guess at what other systems write (GB2312 and GBK before Shift-JIS, Big5,
    Windows 1251 and 1252).

    >>> decode_text("螺母".encode("gb2312"))
    ('螺母', 'gb2312')

    Raises:
        UnicodeError: it is no text.
    """
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if data.startswith(mark)), "")
    if not encoding and data[:200].count(0) > len(data[:200]) // 4:
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    if encoding:
        return data.decode(encoding), encoding
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        if b"\0" in data:
            raise
    with suppress(UnicodeDecodeError, LookupError):
        if declared:
            return data.decode(declared), declared
    # A pair of high bytes between Latin letters is two accented letters, not a Chinese character.
    if not re.search(rb"[A-Za-z](?:[\xa1-\xfe]{2})+[A-Za-z]", data):
        with suppress(UnicodeDecodeError):
            return data.decode("gb2312"), "gb2312"
    from charset_normalizer import from_bytes

    best = from_bytes(data, cp_isolation=["shift_jis", "cp1251", "cp1252", "big5", "gb18030"]).best()
    encoding = best.encoding if best else "cp1252"
    return data.decode(encoding), encoding
