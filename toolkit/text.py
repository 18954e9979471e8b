"""Text of strangers' files: encodings, JSON and YAML within bounds, values cut for a sentence."""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import unicodedata
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

from toolkit.regular import opened, why_not_regular
from toolkit.runtime import InputError

if TYPE_CHECKING:
    import yaml
    from pydantic import ValidationError

T = TypeVar("T")
MEGABYTE = 1_000_000
JSON_BYTES = 16 * MEGABYTE  # of a record; a file of labels has its own bound
YAML_BYTES = 2 * MEGABYTE
JSON_WEIGHT = 500 * MEGABYTE  # of memory that the values of one JSON text may take
DEPTH = 100  # lists and mappings inside each other
YAML_VALUES = 50_000  # with those that aliases repeat
DIGITS = 100  # of a number
# What joins signs into one, in emoji and several scripts, and is not printable by itself.
JOINERS = re.compile("[\u200c\u200d\U000e0020-\U000e007f]")
# half of a pair \ud83d\ude00 without the other
_HALF = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]", re.DOTALL)
_NOT_BRACKETS = bytes(code for code in range(256) if code not in b'"[]{}')
_STEPS = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")  # what opens a list or a mapping counts 1, its end -1


def decode_text(data: bytes, declared: str = "") -> tuple[str, str]:
    """The text of a file and its encoding: UTF-8, UTF-16 (also without a mark) or, where neither fits,
    the declared one, or else a guess at what other systems write (GB2312 and GBK before Shift-JIS, Big5,
    Windows 1251 and 1252).

    >>> decode_text("螺母".encode("gb2312"))
    ('螺母', 'gb2312')

    Raises:
        UnicodeError: it is not text.
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


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60

    def repr_int(self, number: int, level: int) -> str:
        # a number of over 4,300 digits has no repr
        return repr(number) if number.bit_length() <= 200 else f"<a number of {number.bit_length()} bits>"


def json_number(value: float) -> float | None:
    """A number as JSON has it: None for NaN and infinity.

    >>> json_number(0.5), json_number(float("nan"))
    (0.5, None)
    """
    return float(value) if math.isfinite(value) else None


def short(value: Any) -> str:
    """A value of a stranger's file for a sentence: on one line, and cut where it is long.

    >>> short("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    """
    return " ".join(_Short().repr(value).split())


def one_line(text: str, limit: int = 160) -> str:
    """A text from outside as it may be printed: one line without control characters, cut at `limit`.

    >>> one_line("two\\n lines \\x1b[31m", 12)
    'two lines...'
    """
    line = " ".join("".join(letter if _is_shown(letter) else " " for letter in text[:100_000]).split())
    return line if len(line) <= limit else f"{line[: limit - 3].rstrip()}..."


def _is_shown(letter: str) -> bool:
    """Whether a terminal draws a letter, and does not obey it; names of files have spaces of all widths."""
    return bool(letter.isprintable() or unicodedata.category(letter) == "Zs" or JOINERS.match(letter))


def printable(text: str) -> str:
    r"""A text as it may be written to a terminal, which obeys control characters: with code points for them.

    >>> printable("\x1b[31mcat\n")
    '\\x1b[31mcat\n'
    """
    return "".join(
        letter if letter == "\n" or _is_shown(letter) else letter.encode("unicode_escape").decode()
        for letter in text
    )


def in_markdown(text: str) -> str:
    r"""A text as words of one line or cell of Markdown, whatever it has of Markdown and HTML.

    >>> in_markdown("[x](y) a|b snake_case <b>")
    '\\[x\\](y) a\\|b snake_case \\<b\\>'
    """
    marks = r"[\\`*\[\]<>|~&#]|(?<![^\W_])_|_(?![^\W_])"
    return re.sub(marks, r"\\\g<0>", one_line(text, len(text) + 3))


def first_fault(what: str, error: ValidationError) -> str:
    """pydantic's first complaint as one sentence; `what`: the file or settings that it is about."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part)[:40] for part in fault["loc"]) or "its content"
    if fault["type"] == "missing":
        return f"{what}: {where} is missing"
    if fault["type"] == "value_error":  # a sentence of a validator of ours
        return f"{what}: {fault['ctx']['error']}"
    return f"{what}: {where} = {short(fault['input'])} is not accepted: {one_line(fault['msg'].lower())}"


def _checked_size(file: BinaryIO, limit: int) -> int:
    size = os.fstat(file.fileno()).st_size
    if size > limit:
        raise InputError(
            f"{file.name} has {size:,} bytes: expected {limit:,} at most; check that it is the right file"
        )
    return size


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """A file, open for reading; errors of the system inside the block are InputError."""
    try:
        with opened(path) as file:
            yield file
    except OSError as error:
        reason = why_not_regular(path) or f"cannot be read: {error.strerror}"
        raise InputError(f"{printable(str(path))} {reason}") from None


def file_bytes(path: str | Path, limit: int) -> int:
    """The size of a file.

    Raises:
        InputError: it is missing, is not a file (a folder, a pipe, a device), cannot be read, or is longer
            than `limit` bytes.
    """
    with _opened(path) as file:
        return _checked_size(file, limit)


def read_bytes(path: str | Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes; InputError as in `file_bytes`."""
    with _opened(path) as file:
        # files of the system have no size before they are read; a larger buffer than needed is made at once
        most = _checked_size(file, limit) or min(limit, MEGABYTE)
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(f"{path} has more than {most:,} bytes: check that it is the right file")
    return data


def read_text(path: str | Path, limit: int) -> str:
    """The text of a file of at most `limit` bytes, in whatever encoding; InputError as in `file_bytes`, or
    where it is not text."""
    try:
        return decode_text(read_bytes(path, limit))[0]
    except UnicodeError:
        raise InputError(f"{path} is not a text file: expected UTF-8 text") from None


def _count(text: str | bytes, mark: str) -> int:
    return text.count(mark) if isinstance(text, str) else text.count(mark.encode())


def check_weight(text: str | bytes, source: str | Path) -> None:
    """Raises InputError for a JSON text that would fill the memory: every list, mapping and value in it is an
    object of many times its length."""
    if len(text) < JSON_WEIGHT // 100:
        return
    # of lists, mappings, values, and of what `_depth` takes
    sizes = {"[": 100, "{": 200, ",": 50, '"': 8}
    if sum(size * _count(text, mark) for mark, size in sizes.items()) > JSON_WEIGHT:
        raise InputError(f"{source} holds more values than can be read at once: divide it into several files")


def parse_json(text: str | bytes, source: str | Path, lenient: bool = False) -> Any:
    """What a JSON text holds.

    Args:
        text: text, or its bytes in UTF-8.
        source: the file or place that it is from, for the sentence.
        lenient: take what other programs write against the standard: NaN, infinity, and halves of characters
            (lone surrogates), as names of files that are not UTF-8 have them.

    Returns:
        Dictionaries, lists, texts, finite numbers, booleans and None.

    Raises:
        InputError: it is damaged, not UTF-8, nested deeper than 100, holds too many values (`check_weight`),
            or has NaN, infinity, a number of more than 100 digits or half a character (a lone surrogate).

    >>> parse_json('{"threshold": 0.4}', "spec.json")
    {'threshold': 0.4}
    """
    check_weight(text, source)
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        _check_json(text.encode(), lenient)
        value = json.loads(
            text, parse_float=_float, parse_int=_int, parse_constant=float if lenient else _constant
        )
    except UnicodeError as error:
        raise InputError(f"{source} is not JSON in UTF-8: {_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not valid JSON: {error}") from None
    return value


def read_json(path: str | Path, limit: int = JSON_BYTES) -> Any:
    """What a JSON file of at most `limit` bytes holds; InputError as in `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, limit), path)


def check_record(data: Any, kind: type[T], source: str | Path, remedy: str) -> T:
    """Parsed JSON as what it should be.

    Args:
        data: what was parsed.
        kind: a pydantic model, or another type that pydantic knows.
        source: the file or place that it is from, for the sentence.
        remedy: what to do about a damaged one, for the sentence.

    Raises:
        InputError: names the first field that does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise InputError(f"{first_fault(f'{source} is damaged', error)}: {remedy}") from None


def read_record(path: str | Path, kind: type[T], remedy: str, limit: int = JSON_BYTES) -> T:
    """What a JSON file holds, as `check_record` gives it; InputError also as in `read_bytes`."""
    content = read_bytes(path, limit)
    try:
        data = parse_json(content, "it")
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}: {remedy}") from None
    return check_record(data, kind, path, remedy)


def _check_json(data: bytes, lenient: bool) -> None:
    """Raises ValueError for half a character, and for lists that would fill a parser's stack."""
    data = data.replace(b"\\\\", b"__")  # no backslash is escaped in what follows
    if not lenient and _HALF.search(data):
        raise ValueError("it has half a character")
    if _depth(data.replace(b'\\"', b"")) > DEPTH:
        raise ValueError(f"lists are nested deeper than {DEPTH}")


def _depth(data: bytes) -> int:
    """How deep a JSON text without escaped quotes is nested, or deeper where it is damaged."""
    brackets = b"".join(data.translate(None, _NOT_BRACKETS).split(b'"')[::2])  # outside texts
    return max(accumulate(array("b", brackets.translate(_STEPS))), default=0)


def _float(text: str) -> float:
    number = float(text)
    if len(text) > DIGITS or not math.isfinite(number):
        raise ValueError(f"the number {short(text)} is too large")
    return number


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"the number {short(text)} is too large")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def parse_yaml(text: str | bytes, source: str | Path, plain: bool = False) -> Any:
    """What a YAML text holds.

    Args:
        text: text, or its bytes in UTF-8.
        source: the file or place that it is from, for the sentence.
        plain: numbers, dates, "on" and "null" stay text.

    Returns:
        Dictionaries, lists, texts, finite numbers, booleans, dates and None.

    Raises:
        InputError: it is damaged, not UTF-8, longer than 2 MB, nested deeper than 100, holds more than 50,000
            values (what an alias repeats counts again), an alias of itself, NaN, infinity, a number of more
            than 100 characters, or a tag of a program's own objects.

    >>> parse_yaml("model: fastest-v2", "config.yaml")
    {'model': 'fastest-v2'}
    """
    import yaml

    try:
        if len(text) > YAML_BYTES:
            raise ValueError(f"it has {len(text):,} characters: expected {YAML_BYTES:,} at most")
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return yaml.load(text, _loader(plain))
    except UnicodeError as error:
        raise InputError(f"{source} is not YAML in UTF-8: {_reason(error)}") from None
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"{source} is not valid YAML: {place}{one_line(problem)}") from None
    except (yaml.YAMLError, ValueError) as error:  # also the loader's, at the date 2024-99-99
        raise InputError(f"{source} is not valid YAML: {one_line(str(error))}") from None
    except (LookupError, AttributeError, ArithmeticError, TypeError):  # the loader's, at !!bool maybe
        raise InputError(f"{source} is not valid YAML: a value does not fit its tag") from None


def read_yaml(path: str | Path, missing: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: the file.
        missing: the sentence where there is no such file.

    Raises:
        InputError: as in `read_bytes` and `parse_yaml`, or where it holds no mapping of names.
    """
    if not os.path.exists(path):
        raise InputError(missing)
    data = parse_yaml(read_bytes(path, YAML_BYTES), path)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InputError(f"{path} has no settings: expected lines such as `model: fastest-v2`")
    return data


def _reason(error: UnicodeError) -> str:
    return error.reason if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else str(error)


def _loader(plain: bool) -> type[yaml.BaseLoader | yaml.SafeLoader]:
    """A loader that counts while it composes the tree of nodes, before anything is made of it. A new class,
    because yaml is loaded where it is used."""
    import yaml

    kind: Any = yaml.BaseLoader if plain else yaml.SafeLoader

    class Bounded(kind):  # type: ignore[misc]
        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self.depth = self.values = 0
            self.sizes: dict[str, int] = {}  # anchor -> values

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            event = self.peek_event()
            begin = self.values
            alias = isinstance(event, yaml.AliasEvent)
            if alias and event.anchor in self.anchors:
                if event.anchor not in self.sizes:
                    raise ValueError(f"the alias {short(event.anchor)} repeats what it is part of")
                self.values += self.sizes[event.anchor]
            self.values += 1
            self.depth += 1
            if self.depth > DEPTH:
                raise ValueError(f"lists are nested deeper than {DEPTH}")
            if self.values > YAML_VALUES:
                raise ValueError(f"it holds more than {YAML_VALUES:,} values")
            node: yaml.Node | None = super().compose_node(parent, index)
            self.depth -= 1
            if event.anchor and not alias:
                self.sizes[event.anchor] = self.values - begin
            return node

        def construct_scalar(self, node: yaml.ScalarNode) -> Any:
            text = super().construct_scalar(node)
            if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(text) > DIGITS:
                raise ValueError(f"the number {short(text)} is too large")
            text.encode()  # half a character, written as an escape, is refused here
            return text

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            value = super().construct_object(node, deep)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{short(node.value)} is not a finite number")
            return value

    return Bounded
