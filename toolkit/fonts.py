"""Letters of any script for what is drawn: the installed fonts that have them, or their code points.

matplotlib brings DejaVu Sans, which has Latin, Greek, Cyrillic, Arabic and some signs. Other characters come
from fonts of the system. A package with such fonts would be larger than this one many times over.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontEntry
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text

# Fonts of systems whose letters look like those of DejaVu Sans come first, whatever else has the character.
PREFERRED = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Malgun Gothic", "Apple SD Gothic Neo"),
    *(
        "Noto Sans Devanagari",
        "Noto Sans Thai",
        "Nirmala UI",
        "Leelawadee UI",
        "Segoe UI",
        "Arial Unicode MS",
    ),
)
LONG, LONGEST = 32, 300  # characters of a name, and of a line of any text
POWER = re.compile(r"\$\\mathdefault\{[-−]?\d+(\.\d+)?(\\times10)?\^\{[-−]?\d+\}\}\$")  # along an axis
# Boxes for every character, or coloured bitmaps, which are not drawn in one colour at any size.
UNFIT = ("Last Resort", ".LastResort", "Adobe Blank", "Noto Color Emoji", "Apple Color Emoji", "Twemoji")
PACKAGES = {  # where a character's name begins so: Debian's and Ubuntu's package with a font
    "CJK": "fonts-wqy-microhei or fonts-noto-cjk",
    "HIRAGANA": "fonts-noto-cjk",
    "KATAKANA": "fonts-noto-cjk",
    "HANGUL": "fonts-noto-cjk",
    "": "fonts-noto-core (for emoji fonts-symbola)",
}


def drawable(text: str) -> str:
    r"""`text` with code points, as Python and JSON write them, in place of characters that no installed font
    has: of more than four in a row the first and last two. That is said once on stderr, with a package that
    has a font.

    >>> drawable("cat"), drawable("Кошка"), drawable("a\x07")
    ('cat', 'Кошка', 'a\\x07')
    """
    if text.isascii() and text.isprintable():
        return text
    visible = [character for character in text if _can_be_drawn(character) or not _is_hint(character)]
    parts = []
    for can_be_drawn, group in groupby(visible, _can_be_drawn):
        characters = list(group)
        if can_be_drawn:
            parts += characters
            continue
        for character in characters:
            if unicodedata.category(character) != "Cc":
                _say_missing(character)
        codes = [character.encode("unicode_escape").decode() for character in characters]
        parts += codes if len(codes) <= 4 else [*codes[:2], "…", *codes[-2:]]
    return "".join(parts)


def all_drawable(names: Sequence[str]) -> list[str]:
    """Names as `drawable` writes them, in one line each and cut at `LONG`; those that would look alike with
    their numbers."""
    drawn = [drawable(short_name(name)) for name in names]
    alike = Counter(dict(zip(names, drawn, strict=True)).values())
    return [f"{name} #{i}" if alike[name] > 1 else name for i, name in enumerate(drawn)]


def short_name(name: str) -> str:
    """A name in one line, cut at `LONG`."""
    return _cut(" ".join(name.split()), LONG)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _can_be_drawn(character: str) -> bool:
    return character in " \n" or bool(font_of(character))


def _is_hint(character: str) -> bool:
    """For the shape of its neighbours, with none of its own."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def _package_for(character: str) -> str:
    name = unicodedata.name(character, "")
    return next(package for script, package in PACKAGES.items() if name.startswith(script))


_named_packages: set[str] = set()  # packages, each named once


def _say_missing(character: str) -> None:
    package = _package_for(character)
    if package not in _named_packages:
        _named_packages.add(package)
        print(
            f"warning: no installed font has {character!r} and others of its script, which are drawn as code "
            f"points: install a font that has them, on Debian and Ubuntu {package}",
            file=sys.stderr,
        )


@cache
def font_of(character: str) -> str:
    """The file of the best installed font that has a character; "" where none has."""
    return next((path for path in (_dejavu(), *_others()) if _has(path, character)), "")


def fonts_for(text: str) -> list[str]:
    """The files of the fonts that `drawable(text)` takes: DejaVu Sans, then what it lacks."""
    return list(dict.fromkeys([_dejavu(), *filter(None, map(font_of, set(text)))]))


@cache
def _others() -> tuple[str, ...]:
    """Files of the fonts that are installed, the best first; some are newer than matplotlib's own list."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    listed = {entry.fname for entry in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in listed:
            with suppress(Exception):  # whatever a font that is damaged, or of bitmaps, makes it raise
                manager.addfont(path)

    def rank(entry: FontEntry) -> tuple[Any, ...]:
        place = PREFERRED.index(entry.name) if entry.name in PREFERRED else len(PREFERRED)
        weight = entry.weight if isinstance(entry.weight, int) else 400
        plain = entry.style != "normal", abs(weight - 400), "Sans" not in entry.name, "Mono" in entry.name
        return place, *plain, entry.name, entry.fname

    entries = [entry for entry in manager.ttflist if not entry.name.startswith(UNFIT)]
    return tuple(dict.fromkeys(entry.fname for entry in sorted(entries, key=rank)))


def _has(path: str, character: str) -> bool:
    try:
        return bool(_face(path).get_char_index(ord(character)))
    except (OSError, RuntimeError):  # removed since, or of bitmaps
        return False


@cache
def _face(path: str) -> FT2Font:
    from matplotlib.ft2font import FT2Font

    return FT2Font(path)


@cache
def _dejavu() -> str:
    from matplotlib import get_data_path

    return str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


def letters(text: str, size: int) -> tuple[NDArray[np.uint8], int]:
    """A line of text as matplotlib draws it: right to left and joined where its script is so.

    Args:
        text: what `drawable` gives.
        size: of the letters, px.

    Returns:
        Coverage (H, W), 0..255, and how many of its rows are below the base line.
    """
    from matplotlib.font_manager import get_font

    font = get_font(fonts_for(text))
    font.set_size(size, 72)
    font.set_text(text)
    font.draw_glyphs_to_bitmap(antialiased=True)
    return np.array(font.get_image()), round(font.get_descent() / 64)


def mend_texts(figure: Figure) -> None:
    """`mend_text` of every text of a figure. Names along an axis must be `drawable` before: the axis writes
    them anew."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        mend_text(text)


def mend_text(text: Text) -> None:
    """Write a text of a figure with the fonts that it needs, and a dollar sign as one. It may have several
    lines, each of which is cut at `LONGEST`."""
    from matplotlib.font_manager import get_font

    lines = text.get_text().split("\n")
    words = drawable("\n".join(_cut(line, LONGEST) for line in lines))
    text.set_text(words)
    if "$" in words and not POWER.fullmatch(words):
        text.set_parse_math(False)
    if not words.isascii():
        families = [get_font(path).family_name for path in fonts_for(words)]
        text.set_fontfamily(families)
        if len(families) > 1:
            text.set_fontweight("normal")  # most fonts of other scripts have no bold face
