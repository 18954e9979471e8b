"""darknet cfg and names files: sections and options as text."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from toolkit.models.bounds import LONGEST_NAME, MOST_CLASSES
from toolkit.models.darknet.keys import ACTIVATION_NAMES, KEYS, KIND_NAMES
from toolkit.runtime import InputError
from toolkit.text import decode_text, read_bytes, short

Number = TypeVar("Number", int, float)
MOST_LAYERS = 10_000
TEXT_BYTES = 4_000_000  # of a cfg or a names file; the longest known cfg has 40,000
LONGEST_LINE = 20_000  # characters of a cfg's line
_LISTED = 5  # unused fields that a warning names


def cut(text: str) -> str:
    """A text of a cfg as it stands in a sentence: without control characters, and short."""
    return short(text)[1:-1]


def _integer(text: str) -> int:
    """int() without what it takes beyond darknet's atoi: 1_000, digits of other scripts."""
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError
    return value


@dataclass(frozen=True)
class Section:
    """A [kind] section of a cfg with its options; `line` and `source` locate it in messages."""

    kind: str
    options: dict[str, str]
    line: int
    source: str

    def fail(self, sentence: str) -> InputError:
        return InputError(f"{self.source}, [{cut(self.kind)}] in line {self.line}: {sentence}")

    def shown(self, key: str) -> str:
        """An option as it stands in a sentence, such as `stride=2`."""
        return f"{key}={cut(self.options.get(key, ''))}"

    def _number(
        self,
        key: str,
        default: Number | None,
        low: Number | None,
        high: Number | None,
        convert: Callable[[str], Number],
    ) -> Number:
        text = self.options.get(key)
        if text is None:
            if default is None:
                raise self.fail(f"{key}= is missing")
            return default
        try:
            value = convert(text)
        except ValueError:
            kind = "a whole number" if convert is _integer else "a number"
            raise self.fail(f"{self.shown(key)} is not {kind}") from None
        if low is not None and value < low:
            raise self.fail(f"{self.shown(key)} is too small: expected {low} or more")
        if high is not None and value > high:
            raise self.fail(f"{self.shown(key)} is too large: expected {high} or less")
        return value

    def integer(
        self, key: str, default: int | None = None, low: int | None = None, high: int | None = None
    ) -> int:
        return self._number(key, default, low, high, _integer)

    def real(
        self, key: str, default: float | None = None, low: float | None = None, high: float | None = None
    ) -> float:
        return self._number(key, default, low, high, _real)

    def _numbers(self, key: str, convert: Callable[[str], Number]) -> list[Number]:
        values = [part.strip() for part in self.options.get(key, "").split(",")]
        try:
            return [convert(part) for part in values if part]
        except ValueError:
            raise self.fail(f"{self.shown(key)} is not a list of numbers") from None

    def integers(self, key: str) -> list[int]:
        return self._numbers(key, _integer)

    def reals(self, key: str) -> list[float]:
        return self._numbers(key, _real)


def _lines(path: Path, what: str) -> tuple[list[str], str]:
    """Lines of a text file, which may end in LF, CR LF or CR, and its encoding."""
    try:
        text, encoding = decode_text(read_bytes(path, TEXT_BYTES))
    except UnicodeError:
        raise InputError(f"cannot read the {what} {path}: expected a text file") from None
    return re.split(r"\r\n|\r|\n", text), encoding


def is_cfg(path: str | Path) -> bool:
    """Whether a file is a darknet cfg, by its name.

    >>> is_cfg("yolov4-tiny.cfg"), is_cfg("yolo-fastest")
    (True, False)
    """
    return Path(path).suffix == ".cfg"


def parse_cfg(path: str | Path) -> list[Section]:
    """Read a darknet cfg, as darknet's read_cfg. Comments begin with # or ; and may follow a value.

    Of a key that a section has twice the first counts, as in darknet's option_find. What nothing reads is
    named in one warning, as by darknet's option_unused. Other names of sections and activations ([conv],
    silu) become the usual ones.

    Args:
        path: the cfg file, in UTF-8, UTF-16 or what other systems write, with any line ends.

    Returns:
        Its sections, [net] first.

    Raises:
        InputError: the file cannot be read, has a line that is not [section] or key=value, or does not
            begin with [net].

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "tiny.cfg")
    ...     _ = path.write_text("[net]\\nwidth = 320  # px\\n[yolo]\\nclasses=2\\n")
    ...     net, yolo = parse_cfg(path)
    >>> net.integer("width"), yolo.options
    (320, {'classes': '2'})
    """
    path = Path(path)
    return _parse(_lines(path, "cfg")[0], path.name)


def parse_cfg_text(text: str, source: str) -> list[Section]:
    """The sections of a cfg's text, as `parse_cfg`; `source` names it in messages."""
    return _parse(re.split(r"\r\n|\r|\n", text), source)


def _parse(lines: list[str], source: str) -> list[Section]:
    sections: list[Section] = []
    unused: dict[str, list[int]] = {}
    for number, raw in enumerate(lines, 1):
        if len(raw) > LONGEST_LINE:
            raise InputError(
                f"{source} line {number} has {len(raw):,} characters: expected {LONGEST_LINE:,} or less"
            )
        line = "".join(re.split("[#;]", raw, maxsplit=1)[0].split())  # darknet's strip: no blanks at all
        if not line:
            continue
        if line.startswith("["):
            kind = line.strip("[]")
            sections.append(Section(KIND_NAMES.get(kind, kind), {}, number, source))
            if len(sections) > MOST_LAYERS + 1:
                raise sections[-1].fail(f"too many layers: expected {MOST_LAYERS:,} or less")
        elif "=" in line and sections:
            fault = _add(sections[-1], *line.split("=", 1))
            if fault:
                unused.setdefault(fault, []).append(number)
        else:
            raise InputError(
                f"{source} line {number}: expected [section] or key=value, found {short(raw.strip())}"
            )
    if not sections or sections[0].kind != "net":
        raise InputError(f"{source} is not a darknet cfg: it does not begin with [net]")
    if unused:
        fields = [f"{fault} (line {', '.join(map(str, at[:_LISTED]))})" for fault, at in unused.items()]
        more = f"; and {len(fields) - _LISTED} more" if len(fields) > _LISTED else ""
        warnings.warn(f"{source}: unused field {'; '.join(fields[:_LISTED])}{more}", stacklevel=3)
    return sections


def _add(section: Section, key: str, value: str) -> str:
    """Put an option into a section; why it is not used, or nothing."""
    name = f"{cut(key)}= in [{cut(section.kind)}]"
    if not value:
        return f"{name} without a value"
    if key in section.options:
        return f"{name} for a second time, where the first counts"
    section.options[key] = ACTIVATION_NAMES.get(value, value) if key == "activation" else value
    return f"{name}, which darknet does not read" if key not in KEYS.get(section.kind, (key,)) else ""


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read a names file: one class name per line, in UTF-8, UTF-16 or what other systems write.

    As in darknet's get_labels a blank line between names is a class too, so that the numbers of the others
    stay: it is called class1 (with its number), and a warning says so. Blank lines at the end do not count.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pets.names")
    ...     _ = path.write_bytes(b"\\xef\\xbb\\xbfcat\\r\\ndog\\r\\n\\r\\n")
    ...     read_names(path)
    ('cat', 'dog')
    """
    path = Path(path)
    lines, encoding = _lines(path, "class names")
    names = [line.strip() for line in lines]
    longest = max(range(len(names)), key=lambda i: len(names[i]))
    if len(names[longest]) > LONGEST_NAME:
        raise InputError(
            f"{path.name} line {longest + 1} has {len(names[longest]):,} characters: expected a class "
            f"name of {LONGEST_NAME:,} or less"
        )
    while names and not names[-1]:
        names.pop()
    if len(names) > MOST_CLASSES:
        raise InputError(f"{path.name} has {len(names):,} class names: expected {MOST_CLASSES:,} or less")
    blank = [number for number, name in enumerate(names, 1) if not name]
    if blank:
        warnings.warn(
            f"{path.name}: line {', '.join(map(str, blank[:_LISTED]))} is blank and counts as a class, as in "
            f"darknet: it is called class{blank[0] - 1}; remove it if it is not a class",
            stacklevel=2,
        )
    if not encoding.startswith("utf"):
        warnings.warn(f"{path.name} is not UTF-8 and was read as {encoding.upper()}", stacklevel=2)
    return tuple(name or f"class{i}" for i, name in enumerate(names))


def section_text(kind: str, options: Mapping[str, object]) -> str:
    """Text of a section of a cfg."""
    return "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in options.items())]) + "\n"


def cfg_text(sections: Sequence[Section]) -> str:
    """The text of a cfg, which `parse_cfg_text` reads: without comments and what darknet does not read, each
    section in its own line, so that messages name the lines of the file that people have."""
    lines: list[str] = []
    for section in sections:
        lines += [""] * (section.line - 1 - len(lines))
        read = KEYS.get(section.kind, section.options)
        options = {key: value for key, value in section.options.items() if key in read}
        lines += section_text(section.kind, options).splitlines()
    return "\n".join(lines) + "\n"
