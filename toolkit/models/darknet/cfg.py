"""darknet cfg and names files as text: sections and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.runtime import InputError


@dataclass(frozen=True)
class Section:
    """One [kind] of a cfg with its options; `line` and `source` are where it stands, for messages."""

    kind: str
    options: dict[str, str]
    line: int
    source: str

    def fail(self, sentence: str) -> InputError:
        return InputError(f"{self.source}, [{self.kind}] in line {self.line}: {sentence}")

    def _number(self, key: str, default: Any, convert: type) -> Any:
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

    def numbers(self, key: str, convert: type = int) -> list[Any]:
        values = [part.strip() for part in self.options.get(key, "").split(",")]
        try:
            return [convert(part) for part in values if part]
        except ValueError:
            raise self.fail(f"{key}={self.options[key]} is not a list of numbers") from None


def parse_cfg(path: str | Path) -> list[Section]:
    """Sections of a cfg file, [net] first. Comments may begin with # or ; and stand behind a value."""
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
        raise InputError(f"{path.name} is no darknet cfg: it does not begin with [net]")
    return sections


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names, one a line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the class names {path}: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def section_text(kind: str, options: Mapping[str, Any]) -> str:
    return "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in options.items())]) + "\n"
