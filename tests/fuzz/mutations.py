"""Strategies that damage files: bytes, words of a text, and nodes of a tree."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

LARGEST = 300_000  # bytes of a mutated file
DEEP = "@deep@"  # in a tree: encoders put thousands of brackets there
NUMBERS = (
    *("0", "-1", "1", "2", "-0.0", "1e308", "-1e308", "1e-320", "nan", "NaN", "inf", "-Infinity", "1e400"),
    *("65536", "2147483647", "2147483648", "4294967295", "1000000000", "9223372036854775808", "9" * 400),
)
WORDS = (
    *(
        "",
        "x",
        "true",
        "null",
        "~",
        "[",
        "{",
        "]",
        "}",
        "&a",
        "*a",
        "!!python/name:os.system",
        "---",
        "<<",
        "#",
        ";",
    ),
    *(
        "../../secret.txt",
        "/etc/passwd",
        "$(id)",
        "`id`",
        "%s%n",
        "\x1b[2J",
        "a\nb",
        "\\",
        '"',
        "'",
        "x" * 70_000,
    ),
    *("é", "日本", "e\u0301", "😀", "\u202e", "\u2028", "[" * 3000, "(" * 3000, "a: " * 200, "\t"),
)
PIECES = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b"\xed\xa0\x80", b"\x1a", b"\r", b"\r\n", b"\n" * 50),
    *(
        b"\0" * 4096,
        b"\xff" * 64,
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b"PK\x03\x04",
        b"\x80\x04c",
        b"<!ENTITY a 'b'>",
    ),
    *(
        b"\x00\x00\x00\x80",
        b"\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff",
        b"\x00\x00\xc0\x7f",
        b"\x00\x00\x80\x7f",
    ),
)
ODD = (
    *(None, True, 0, -1, 1, 2, 10**9, 2**31, 2**63, 10**400, 1e308, -1e308, 1e-320, 0.5),
    *(float("nan"), float("inf"), float("-inf"), "", "x", "0", "nan", "1e400", "x" * 70_000, DEEP),
    *("../../secret.txt", "/etc/passwd", "\0", "\ud800", "\x1b[2J", "$x^2$", "a\nb", [], {}, [[]], [None]),
    *({"x": 1}, [0] * 5000, {str(i): i for i in range(300)}),
)


def _at(draw: Callable[..., Any], data: bytes) -> int:
    return draw(st.integers(0, len(data)))


def _flip(draw: Callable[..., Any], data: bytes) -> bytes:
    array = bytearray(data)
    for _ in range(draw(st.integers(1, 8)) if data else 0):
        array[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(array)


def _truncate(draw: Callable[..., Any], data: bytes) -> bytes:
    return data[: _at(draw, data)]


def _cut_out(draw: Callable[..., Any], data: bytes) -> bytes:
    a, b = sorted((_at(draw, data), _at(draw, data)))
    return data[:a] + data[b:]


def _insert(draw: Callable[..., Any], data: bytes) -> bytes:
    at = _at(draw, data)
    return data[:at] + draw(st.sampled_from(PIECES)) + data[at:]


def _overwrite(draw: Callable[..., Any], data: bytes) -> bytes:
    at, piece = _at(draw, data), draw(st.sampled_from(PIECES))
    return data[:at] + piece + data[at + len(piece) :]


def _repeat(draw: Callable[..., Any], data: bytes) -> bytes:
    a, b = sorted((_at(draw, data), _at(draw, data)))
    times = draw(st.sampled_from((2, 3, 20, 1000)))
    return data[:a] + data[a:b] * min(times, 1 + LARGEST // max(b - a, 1)) + data[b:]


def _exchange(draw: Callable[..., Any], data: bytes) -> bytes:
    a, b, c = sorted(_at(draw, data) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _replaced(draw: Callable[..., Any], data: bytes, pattern: bytes, others: Sequence[str]) -> bytes:
    matches = list(re.finditer(pattern, data))[:2000]
    if not matches:
        return data
    match, other = draw(st.sampled_from(matches)), draw(st.sampled_from(others))
    return data[: match.start()] + other.encode("utf-8", "surrogatepass") + data[match.end() :]


def _number(draw: Callable[..., Any], data: bytes) -> bytes:
    return _replaced(draw, data, rb"-?[0-9][0-9.e]*", NUMBERS)


def _word(draw: Callable[..., Any], data: bytes) -> bytes:
    return _replaced(draw, data, rb"[^\s,;:=<>\"\[\]{}]+", WORDS)


def _lines(draw: Callable[..., Any], data: bytes) -> bytes:
    lines = data.split(b"\n")[:5000]
    i, j = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines[: draw(st.integers(1, len(lines)))])


def _encoding(draw: Callable[..., Any], data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(draw(st.sampled_from(("utf-16", "utf-32", "utf-16-le", "utf-8-sig"))), "replace")


BINARY = (_flip, _truncate, _cut_out, _insert, _overwrite, _repeat, _exchange)
TEXT = (*BINARY, _number, _number, _word, _word, _lines, _encoding)


@st.composite
def damaged(draw: Callable[..., Any], seeds: Sequence[bytes], text: bool) -> bytes:
    """A file that is damaged in one to four ways, or spliced from two."""
    data = draw(st.sampled_from(seeds))
    if draw(st.integers(0, 9)) == 0:
        other = draw(st.sampled_from(seeds))
        data = data[: _at(draw, data)] + other[_at(draw, other) :]
    for _ in range(draw(st.integers(1, 4))):
        data = draw(st.sampled_from(TEXT if text else BINARY))(draw, data)[:LARGEST]
    return data


def paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every node of a tree of dicts and lists."""
    found = [path]
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            found += paths(tree[key], (*path, key))
    return found


def node(tree: Any, path: Sequence[Any]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def changed(draw: Callable[..., Any], trees: Sequence[Any], odd: Sequence[Any] = ODD) -> Any:
    """A tree with one to three nodes replaced, exchanged, repeated or left out."""
    tree = copy.deepcopy(draw(st.sampled_from(trees)))
    for _ in range(draw(st.integers(1, 3))):
        ways = paths(tree)[1:]
        if not ways:
            return draw(st.sampled_from(odd))
        path = draw(st.sampled_from(ways))
        place, key = node(tree, path[:-1]), path[-1]
        action = draw(st.sampled_from(("odd", "odd", "odd", "other node", "left out", "repeated")))
        if action == "odd":
            place[key] = copy.deepcopy(draw(st.sampled_from(odd)))
        elif action == "other node":
            place[key] = copy.deepcopy(node(tree, draw(st.sampled_from(ways))))
        elif action == "left out":
            del place[key]
        elif isinstance(place[key], list):
            place[key] = place[key] * draw(st.sampled_from((2, 100)))
        elif isinstance(place, list):
            place.append(copy.deepcopy(place[key]))
    return tree
