"""darknet cfg and names files: sections and options as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from toolkit.runtime import InputError

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Section:
    """A [kind] section of a cfg with its options; `line` and `source` locate it in messages."""

    kind: str
    options: dict[str, str]
    line: int
    source: str

    def fail(self, sentence: str) -> InputError:
        return InputError(f"{self.source}, [{self.kind}] in line {self.line}: {sentence}")

    def _number(self, key: str, default: Number | None, convert: Callable[[str], Number]) -> Number:
        value = self.options.get(key)
        if value is None:
            if default is None:
                raise self.fail(f"{key}= is missing")
            return default
        try:
            return convert(value)
        except ValueError:
            raise self.fail(f"{key}={value} is not a number") from None

    def integer(self, key: str, default: int | None = None) -> int:
        return self._number(key, default, int)

    def real(self, key: str, default: float | None = None) -> float:
        return self._number(key, default, float)

    def _numbers(self, key: str, convert: Callable[[str], Number]) -> list[Number]:
        values = [part.strip() for part in self.options.get(key, "").split(",")]
        try:
            return [convert(part) for part in values if part]
        except ValueError:
            raise self.fail(f"{key}={self.options[key]} is not a list of numbers") from None

    def integers(self, key: str) -> list[int]:
        return self._numbers(key, int)

    def reals(self, key: str) -> list[float]:
        return self._numbers(key, float)


def parse_cfg(path: str | Path) -> list[Section]:
    """Read a darknet cfg, as darknet's read_cfg. Comments begin with # or ; and may follow a value.

    Args:
        path: the cfg file.

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
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read the cfg {path}: {error.strerror or error}") from None
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#")[0].split(";")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            sections.append(Section(line.strip("[] \t"), {}, number, path.name))
        elif "=" in line and sections:
            key, value = line.split("=", 1)
            sections[-1].options[key.strip()] = value.strip()
        else:
            raise InputError(
                f"{path.name} line {number}: expected [section] or key=value, found {line[:60]!r}"
            )
    if not sections or sections[0].kind not in ("net", "network"):
        raise InputError(f"{path.name} is not a darknet cfg: it does not begin with [net]")
    return sections


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read a names file: one class name per line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the class names {path}: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def section_text(kind: str, options: Mapping[str, object]) -> str:
    """Text of a section of a cfg."""
    return "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in options.items())]) + "\n"
