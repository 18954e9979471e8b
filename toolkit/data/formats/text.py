"""Reading label files as text, in the encodings that people's systems write; numbers to and from text."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.etree.ElementTree import fromstring as parse_plain

import numpy as np
from defusedxml import DefusedXmlException, ElementTree
from numpy.typing import NDArray

from toolkit.runtime import InputError
from toolkit.text import decode_text

Note = Callable[[str, str], None]  # a sentence, an example
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"  # as text files have them
_NUMBER = re.compile(NUMBER)

csv.field_size_limit(1 << 30)  # masks in fields are longer than the library's 131,072 characters


def are_numbers(fields: Iterable[str]) -> bool:
    """Whether all texts are numbers.

    >>> are_numbers(["1", "-.5", "2e3"]), are_numbers(["1", "nan"])
    (True, False)
    """
    return all(_NUMBER.fullmatch(field) for field in fields)


def encoding_of(path: Path) -> str:
    """The encoding of a text file of any length, for `open`; "utf-8-sig" where nothing else can be told."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        if b"\0" in head:
            return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
        chunk = head
        while chunk:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                with suppress(UnicodeError):
                    return decode_text(chunk[: chunk.rfind(b"\n") + 1] or chunk)[1]
                break
            chunk = file.read(1 << 20)
    return "utf-8-sig"


def read_text(path: Path, note: Note | None = None, declared: str = "") -> str:
    """The text of a file; `note` is told of an encoding that was guessed. InputError where it is missing or
    no text."""
    try:
        text, encoding = decode_text(path.read_bytes(), declared)
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (UnicodeError, IsADirectoryError):
        raise InputError(f"{path} is not a text file: expected UTF-8 text") from None
    if note and not encoding.startswith("utf"):
        note(f"files that are not UTF-8 were read as {encoding.upper()}", str(path))
    return text


def read_json(path: Path, note: Note | None = None) -> Any:
    """What a JSON file holds, in whatever encoding it is; InputError where it is missing or damaged."""
    try:
        return json.loads(read_text(path, note))
    except (ValueError, RecursionError) as error:  # also numbers of too many digits
        raise InputError(f"{path} is not valid JSON: {error}") from None


def xml_root(path: Path, note: Note | None = None) -> Element:
    """The root of an XML file, in whatever encoding it is, declared or not.

    Raises:
        InputError: it is empty or malformed, or it declares entities, which can fill the memory.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not data.strip():
        raise InputError(f"{path} is empty: expected XML")
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
    return root


def numbered_lines(path: Path, note: Note | None = None) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers."""
    lines = read_text(path, note).splitlines()
    return [(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]


def written(values: NDArray[np.floating]) -> NDArray[np.str_]:
    """Numbers as the shortest text that gives the same float32 again; whole ones without a point."""
    values = np.asarray(values, np.float32)
    whole = (values == np.round(values)) & (np.abs(values) < 1e9)
    return np.where(
        whole, np.where(whole, values, 0).astype(np.int64).astype(np.str_), values.astype(np.str_)
    )
