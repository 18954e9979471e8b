"""JSON files read element by element, so that a million annotations need no memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from toolkit.data.formats.text import TEXT_BYTES, check_depth, encoding_of
from toolkit.runtime import InputError, progress
from toolkit.text import DEPTH, check_weight

T = TypeVar("T")
_BLANK = re.compile(r"[ \t\r\n]*")


def stream_json(path: Path, chunk: int = 1 << 20) -> Iterator[tuple[str, Any]]:
    """The elements of the lists at the top of a JSON file, one by one, without holding the whole file.

    An object gives (key, element) for each list in it and (key, value) for anything else; a list at the top
    gives ("", element). Malformed text, an element that is nested too deeply and one that is too long to be
    held in memory raise InputError, the first with the line.
    """
    decoder = json.JSONDecoder()
    with path.open(encoding=encoding_of(path)) as file:
        buffer, at, lines = "", 0, 1

        def fail(what: str, place: int) -> NoReturn:
            raise InputError(
                f"{path} is not valid JSON: line {lines + buffer.count(chr(10), 0, place)}: {what}"
            )

        def more() -> bool:
            nonlocal buffer, at, lines
            try:
                piece = file.read(max(chunk, len(buffer) - at))
            except UnicodeDecodeError:
                fail("it is not UTF-8 text", len(buffer))
            if piece:
                lines += buffer.count("\n", 0, at)
                buffer, at = buffer[at:] + piece, 0
            return bool(piece)

        def peek() -> str:
            nonlocal at
            while True:
                at = _BLANK.match(buffer, at).end()  # type: ignore[union-attr]
                if at < len(buffer):
                    return buffer[at]
                if not more():
                    fail("it ends too early" if lines > 1 or buffer else "it is empty", at)

        def take(allowed: str) -> str:
            nonlocal at
            character = peek()
            if character not in allowed:
                fail(f"found {character!r} in place of {' or '.join(allowed)}", at)
            at += 1
            return character

        def check_long() -> None:
            """Raises InputError where the part of a value that has been read is too long already."""
            if len(buffer) - at > TEXT_BYTES:
                fail("an entry is too long to be read", at)
            check_weight(buffer[at:], path)

        def value() -> Any:
            nonlocal at
            peek()
            while True:
                try:
                    result, end = decoder.raw_decode(buffer, at)
                except json.JSONDecodeError as error:
                    check_long()
                    if not more():
                        fail(error.msg, error.pos)
                    continue
                except ValueError:
                    fail("it has a number of too many digits", at)
                except RecursionError:
                    fail("it is nested too deeply", at)
                if (end == len(buffer) or buffer[end] not in " \t\r\n:,]}") and more():
                    continue  # a number may go on in the next piece
                if buffer.count("[", at, end) + buffer.count("{", at, end) > DEPTH:
                    check_depth(result, path)
                at = end
                return result

        def elements() -> Iterator[Any]:
            take("[")
            if peek() == "]":
                take("]")
                return
            while True:
                yield value()
                if take(",]") == "]":
                    return

        if peek() == "[":
            for element in elements():
                yield "", element
        else:
            take("{")
            while peek() != "}":
                if peek() != '"':
                    fail(f"found {peek()!r} in place of a name", at)
                key = value()
                take(":")
                if peek() == "[":
                    for element in elements():
                        yield key, element
                else:
                    yield key, value()
                if peek() == ",":
                    take(",")
                elif peek() != "}":
                    fail(f"found {peek()!r} in place of , or }}", at)
            take("}")
        try:
            trailing = peek()
        except InputError:
            return
        fail(f"found {trailing!r} after the end", at)


def counted(items: Iterator[T], title: str) -> Iterator[T]:
    """`items` with a progress bar that moves once in a thousand: a bar costs more than a record."""
    blocks = iter(lambda: list(islice(items, 1000)), [])
    return chain.from_iterable(progress(blocks, title))
