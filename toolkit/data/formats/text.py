"""Reading label files as text, in the encodings that people's systems write; numbers to and from text."""

from __future__ import annotations

import codecs
import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.etree.ElementTree import fromstring as parse_plain

import numpy as np
from defusedxml import DefusedXmlException, ElementTree
from numpy.typing import NDArray

from toolkit.data.reach import OPTION, is_inside
from toolkit.runtime import InputError
from toolkit.text import DEPTH, decode_text, file_bytes, parse_json, read_bytes

TEXT_BYTES = 100_000_000  # of a text that is read as a whole
LINES, LONGEST = 3_000_000, 2_000_000  # number of lines, characters of one
WEIGHT = 600_000_000  # bytes of memory that the elements of one XML may take
Note = Callable[[str, str], None]  # a sentence, an example
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"  # as text files have them
_NUMBER = re.compile(NUMBER)
_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines cuts

_CHUNK = 1 << 20  # bytes
ROW = 10_000_000  # characters of a table's row: masks in fields are longer than the library's 131,072
csv.field_size_limit(ROW)


def are_numbers(fields: Iterable[str]) -> bool:
    """Whether all texts are numbers.

    >>> are_numbers(["1", "-.5", "2e3"]), are_numbers(["1", "nan"])
    (True, False)
    """
    return all(_NUMBER.fullmatch(field) for field in fields)


def check_label_file(path: Path) -> None:
    """Raises InputError for a label file, of any length, that is outside of the data set, or is not a file
    but a pipe or a device."""
    _check_inside(path)
    file_bytes(path, sys.maxsize)


def _check_inside(path: Path) -> None:
    if not is_inside(path):
        raise InputError(f"{path} is outside the data set: {OPTION} takes it in")


def check_depth(value: Any, source: str | Path) -> None:
    """Raises InputError for lists and mappings that are nested deeper than `DEPTH`."""
    level = [value]
    for _ in range(DEPTH):
        level = [
            part
            for each in level
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return
    raise InputError(f"{source} is nested deeper than {DEPTH} lists and mappings")


def encoding_of(path: Path) -> str:
    """The encoding of a text file of any length, for `open`; "utf-8-sig" where nothing else can be told."""
    check_label_file(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        chunk = file.read(_CHUNK)
        if chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        if b"\0" in chunk[:4]:
            return "utf-16-be" if chunk[:1] == b"\0" else "utf-16-le"
        while chunk and b"\0" not in chunk:  # which no text has: what reads it says so at once
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                whole = chunk if len(chunk) < _CHUNK else chunk[: chunk.rfind(b"\n") + 1] or chunk
                with suppress(UnicodeError):
                    return decode_text(whole)[1]
                break
            chunk = file.read(_CHUNK)
    return "utf-8-sig"


def read_text(path: Path, note: Note | None = None, declared: str = "") -> str:
    """The text of a file; `note` is told of an encoding that was guessed. InputError where it is missing or
    no text."""
    _check_inside(path)
    try:
        text, encoding = decode_text(read_bytes(path, TEXT_BYTES), declared)
    except UnicodeError:
        raise InputError(f"{path} is not a text file: expected UTF-8 text") from None
    if sum(map(text.count, _ENDS)) > LINES:
        raise InputError(f"{path} has more than {LINES:,} lines: divide it into several files")
    if note:
        note_guess(encoding, path, note)
    return text


def note_guess(encoding: str, path: Path, note: Note) -> None:
    """`note` is told of an encoding that no mark in the file says, and which is not UTF-8."""
    if not encoding.startswith("utf"):
        note(f"files that are not UTF-8 were read as {encoding.upper()}", str(path))


def stream_lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text file of any length, with their ends; one at a time is held. InputError for a line
    longer than any, and where the text is not of that encoding."""
    with path.open(encoding=encoding, newline="") as file:
        try:
            while line := file.readline(ROW + 1):
                if len(line) > ROW:
                    raise InputError(f"{path} has a line of more than {ROW:,} characters: divide it")
                yield line
        except UnicodeError:
            raise InputError(f"{path} is not a text file in {encoding.upper()}: save it as UTF-8") from None


def read_json(path: Path, note: Note | None = None) -> Any:
    """What a JSON file holds, in whatever encoding it is; InputError as `read_text` and `parse_json`."""
    return parse_json(read_text(path, note), path, lenient=True)


def xml_root(path: Path, note: Note | None = None) -> Element:
    """The root of an XML file, in whatever encoding it is, declared or not.

    Raises:
        InputError: it is empty or malformed, or it declares entities, which can fill the memory.
    """
    _check_inside(path)
    data = read_bytes(path, TEXT_BYTES)
    if not data.strip():
        raise InputError(f"{path} is empty: expected XML")
    if 150 * data.count(b"<") + 120 * data.count(b"=") > WEIGHT:  # objects of Python for each
        raise InputError(f"{path} holds more elements than can be read at once: divide it into several files")
    try:
        try:
            # Entities need a document type; without one the parser in C is safe, in a third of the time.
            plain = b"<!DOCTYPE" not in data and b"\0" not in data
            root: Element = parse_plain(data) if plain else ElementTree.fromstring(data)
        except DefusedXmlException:
            raise
        except (ParseError, ValueError, LookupError):  # an encoding that is not the declared one, or unknown
            declaration = re.search(rb"^<\?xml[^>]*encoding=[\"']([\w.-]+)", data[:200])
            text = read_text(path, note, declaration[1].decode() if declaration else "")
            text = text.lstrip("\ufeff\n\r\t ")
            text = re.sub(r"^<\?xml.*?\?>", "", text, flags=re.S)
            root = ElementTree.fromstring(re.sub(r"&(?!#?\w+;)", "&amp;", text))  # "cup & saucer"
    except DefusedXmlException as error:
        raise InputError(f"{path} is refused: {error}") from None
    except ParseError as error:
        raise InputError(f"{path} is not valid XML: {error}") from None
    level = list(root)
    for _ in range(DEPTH):
        level = [child for element in level for child in element]
    if level:
        raise InputError(f"{path} is nested deeper than {DEPTH} elements")
    return root


def numbered_lines(path: Path, note: Note | None = None) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers. InputError as `read_text`, and for a line
    longer than any."""
    lines = read_text(path, note).splitlines()
    if (length := max(map(len, lines), default=0)) > LONGEST:
        raise InputError(f"{path} has a line of {length:,} characters: expected {LONGEST:,} at most")
    return [(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]


def written(values: NDArray[np.floating]) -> NDArray[np.str_]:
    """Numbers as the shortest text that gives the same float32 again; whole ones without a point."""
    values = np.asarray(values, np.float32)
    whole = (values == np.round(values)) & (np.abs(values) < 1e9)
    return np.where(
        whole, np.where(whole, values, 0).astype(np.int64).astype(np.str_), values.astype(np.str_)
    )
