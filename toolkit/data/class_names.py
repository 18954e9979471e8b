"""Class names of a network and of a data set: which are the same, and which are nearly the same.

Names match only where they are equal. What nearly matches (blanks, upper and lower case, plural, Unicode
form, a slip of the pen) is named, never taken for a match.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from toolkit.text import one_line, short

_SLIP = 0.85  # likeness (difflib's ratio) of two spellings of one word
_LONG = 200  # names among which slips of the pen are looked for; of more, the exact forms only
# Blanks, what is written in their place, and what nobody sees.
_BLANKS = re.compile("[\\s_\\-\u2010-\u2015\u200b-\u200d\u2060\ufeff]+")
_NUMBER = re.compile(r"\d+")


def shown(names: Sequence[str], limit: int = 8) -> str:
    """Names for a message: the first few, then how many there are.

    >>> shown(["nut", "bolt", "screw"], limit=2)
    'nut, bolt, ... 3 in all'
    """
    first = [one_line(name, 100) for name in names[:limit]]
    if len(names) <= limit:
        return ", ".join(first) or "none"
    return ", ".join(first) + f", ... {len(names)} in all"


def _one_form(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _one_blank(name: str) -> str:
    return _BLANKS.sub(" ", name).strip()


_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("Unicode form", _one_form),
    ("upper and lower case", str.casefold),
    ("blanks", _one_blank),
)


@lru_cache(maxsize=10_000)
def plain(name: str, without: str = "") -> str:
    """A name freed of what writers do differently, except for the step `without`.

    >>> plain(" Hex-Nut ")
    'hex nut'
    """
    for step, change in _STEPS:
        name = name if step == without else change(name)
    return name


def _singulars(name: str) -> set[str]:
    """What an English plural may be the plural of: fuses -> fuse, fus."""
    forms = {
        name.removesuffix(ending) + instead
        for ending, instead in (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"))
        if name.endswith(ending)
    }
    return forms if len(name) > 2 and not name.endswith("ss") else set()


def _same_word(name: str, other: str) -> bool:
    return name == other or name in _singulars(other) or other in _singulars(name)


def difference(name: str, other: str) -> str:
    """In what two names differ that are nearly the same; "spelling" for a slip of the pen.

    >>> difference("Screws", "screw")
    'upper and lower case, plural'
    """
    mine, theirs = plain(name), plain(other)
    steps = [
        step for step, _ in _STEPS if not _same_word(plain(name, without=step), plain(other, without=step))
    ]
    if not _same_word(mine, theirs):
        return "spelling"
    return ", ".join([*steps, *(["plural"] if mine != theirs else [])]) or "writing"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is nearly `name`: but for blanks, case, plural, Unicode form or a slip of the
    pen. None where none is. Names that differ in a number are two.

    >>> nearest("Screws", ["nut", "screw"])
    'screw'
    >>> nearest("class 1", ["class 2", "class 3"])
    """
    return _Names(names).nearest(name, slips=True)


class _Names:
    """Names to look for near ones among."""

    def __init__(self, names: Iterable[str]) -> None:
        self.forms: dict[str, list[str]] = {}
        for name in names:
            self.forms.setdefault(plain(name), []).append(name)
        self.plurals = {singular: form for form in self.forms for singular in _singulars(form)}

    def nearest(self, name: str, slips: bool) -> str | None:
        mine = plain(name)
        same = [other for other in self.forms.get(mine, ()) if other != name]
        if same:
            return same[0]
        likely = [form for form in (self.plurals.get(mine), *sorted(_singulars(mine))) if form in self.forms]
        if slips and not likely:
            numbers = _NUMBER.findall(mine)
            alike = [form for form in self.forms if form != mine and _NUMBER.findall(form) == numbers]
            likely = [*difflib.get_close_matches(mine, alike, 1, _SLIP)]
        return self.forms[likely[0]][0] if likely and likely[0] is not None else None


@dataclass(frozen=True)
class ClassMatch:
    """The classes of a network and of a data set, by name."""

    matched: tuple[str, ...]
    only_network: tuple[str, ...]
    only_dataset: tuple[str, ...]
    near: tuple[tuple[str, str], ...]  # of `only_dataset`, and what it nearly is of the network's

    @property
    def whole(self) -> bool:
        """Whether both have the same classes."""
        return not self.only_network and not self.only_dataset

    def sentences(self, network: str = "the network", dataset: str = "the data set") -> list[str]:
        """What does not match, with both lists, and a line for each near match; nothing where all match.

        >>> compare_classes(["nut", "screw"], ["nut", "Screws"]).sentences()[1]
        "'Screws' of the data set is nearly 'screw' of the network (upper and lower case, plural): rename one"
        """
        if self.whole:
            return []
        count = len(self.matched)
        lines = [
            f"{count or 'no'} class{'' if count == 1 else 'es'} of {network} and {dataset} match by name; "
            f"only {network} has: {shown(self.only_network)}; only {dataset} has: {shown(self.only_dataset)}"
        ]
        return lines + self.advice(network, dataset)

    def advice(self, network: str = "the network", dataset: str = "the data set") -> list[str]:
        """A line for each name of the data set that is nearly one of the network."""
        return [
            f"{short(name)} of {dataset} is nearly {short(other)} of {network} ({difference(name, other)}): "
            "rename one"
            for name, other in self.near
        ]


def compare_classes(network: Sequence[str], dataset: Sequence[str]) -> ClassMatch:
    """Which class names of a network and of a data set match.

    Args:
        network: names of a network, or those asked for.
        dataset: names of a data set.

    Returns:
        Names in both, in the network's order; those in one only; and what the data set's nearly are.
    """
    theirs, ours = set(dataset), set(network)
    only_network = tuple(name for name in network if name not in theirs)
    only_dataset = tuple(name for name in dataset if name not in ours)
    candidates = _Names(network)
    slips = max(len(candidates.forms), len(only_dataset)) <= _LONG
    near = [(name, candidates.nearest(name, slips)) for name in only_dataset]
    return ClassMatch(
        tuple(name for name in network if name in theirs),
        only_network,
        only_dataset,
        tuple((name, other) for name, other in near if other is not None),
    )
