"""New splits for a data set: every class in each, clips and duplicates whole, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data import catalog
from toolkit.data.dataset import Dataset
from toolkit.data.folders import check_apart
from toolkit.data.formats import canonical
from toolkit.data.grouping import (
    COPIES,
    Numbers,
    exact_copies,
    groups_by_name,
    joined,
    members_of,
    near_copies,
    seen_pictures,
)
from toolkit.data.splitting import SPLITS
from toolkit.pictures import natural
from toolkit.runtime import InputError

EXACT, NEAR = "exact duplicates", "near duplicates"


@dataclass(frozen=True)
class Part:
    """One split."""

    split: str
    pictures: int
    boxes: int
    groups: int
    classes: dict[str, int]  # boxes of each


@dataclass(frozen=True)
class KeptTogether:
    """Pictures that went into the same split, and why."""

    kind: str  # "frames of one clip"
    groups: int
    pictures: int
    example: str  # two of them

    def sentence(self) -> str:
        groups = number_of(self.groups, "group")
        return f"{self.kind}: {self.pictures} pictures in {groups}, such as {self.example}"


@dataclass(frozen=True, eq=False)
class Division:
    """A data set with new splits, and how they came about."""

    dataset: Dataset
    seed: int
    parts: tuple[Part, ...]  # train, val, test
    groups: int  # of pictures that stay together; one that is alone counts as one
    kept_together: tuple[KeptTogether, ...]
    unmet: tuple[str, ...]  # what could not be had: sentences
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the data set, as plain JSON values."""
        names = ("seed", "groups", "unmet", "notes")
        return {
            **{name: getattr(self, name) for name in names},
            "splits": {part.split: asdict(part) for part in self.parts},
            "kept_together": [asdict(kept) for kept in self.kept_together],
        }


def divide(
    dataset: Dataset,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    keep_test: bool = False,
    look: bool = True,
) -> Division:
    """New splits: stratified by class, with the pictures of one clip, one burst or one source, and exact and
    near duplicates, in the same split.

    A class of a single picture is trained on. Where all pictures belong together, as those of one clip do,
    runs of consecutive pictures are divided instead, and a note says so.

    Args:
        dataset: pictures, with splits or without; their order does not matter.
        val: part of the pictures to validate with, 0..1.
        test: part of the pictures to test with, 0..1.
        seed: of what is left to chance.
        keep_test: the pictures of the split "test" stay there, and the others are divided into train and val.
        look: decode the pictures to find duplicates; otherwise only their names count.

    Returns:
        The division, whose `dataset` has the same pictures in the same order.

    Raises:
        InputError: no pictures, parts that leave none to train on, or no test split to keep.
    """
    check_parts(val, test)
    if not len(dataset):
        raise InputError("there are no pictures to divide: expected at least one")
    kept = (dataset.splits == "test") & keep_test
    if keep_test and (not kept.any() or kept.all()):
        raise InputError(
            f"there is no test split to keep next to other pictures ({_splits_in_words(dataset)}): leave out "
            "--keep-test (keep_test) to divide all pictures"
        )
    fractions = [1 - val - (0 if keep_test else test), val, 0 if keep_test else test]
    order = np.array(sorted(range(len(dataset)), key=lambda i: (dataset.files[i], dataset.image_ids[i])))
    ordered = dataset.subset(order)
    grouped = _grouped(ordered, fractions[1:], look)
    open_rows = np.flatnonzero(~kept[order])
    numbers = _share_out(ordered.subset(open_rows), grouped.numbers[open_rows], fractions, seed)
    splits = np.full(len(dataset), SPLITS.index("test"))
    splits[order[open_rows]] = numbers
    divided = replace(dataset, splits=np.array(SPLITS)[splits])
    groups = np.empty(len(dataset), np.int64)
    groups[order] = grouped.numbers
    parts = [_part(divided, groups, split) for split in SPLITS]
    notes = [*grouped.notes]
    if any(dataset.splits):
        stays = "the split test stays as it is, all others" if keep_test else "all pictures"
        notes.insert(0, f"the set had splits ({_splits_in_words(dataset)}): {stays} are divided anew")
    unmet = _unmet(divided, groups, parts[: 2 if keep_test else 3], fractions)
    if keep_test:
        unmet += _torn_apart(ordered, grouped.numbers, kept[order])
    return Division(
        divided,
        seed,
        tuple(part for part, asked in zip(parts, (1, val, test or keep_test), strict=True) if asked),
        len(np.unique(groups)),
        tuple(grouped.kept),
        tuple(unmet),
        tuple(notes),
    )


def check_parts(val: float, test: float) -> None:
    """Raises InputError unless both are parts that leave something to train on."""
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise InputError(
            f"val and test are parts of the pictures, 0 or more and together below 1, such as 0.1 and 0.1: "
            f"found {val:g} and {test:g}"
        )


def divide_folder(
    source: str | Path,
    output: str | Path,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    *,
    keep_test: bool = False,
    link: bool = True,
    overwrite: bool = False,
) -> Division:
    """Write a data set with new splits (`divide`) as a canonical folder.

    Args:
        source: a data set by name or by path.
        output: the new folder; it appears whole or not at all.
        val, test, seed, keep_test: as in `divide`.
        link: hard links instead of copies of the pictures, where the file system allows it.
        overwrite: replace a data set that is there.

    Returns:
        The division, whose `dataset` is the one in `output`.

    Raises:
        InputError: as `divide`, where the source cannot be read, and where the output holds it.
    """
    check_parts(val, test)
    dataset = catalog.load(source)
    check_apart(Path(output), [dataset.root, *([Path(source)] if Path(source).exists() else [])])
    division = divide(dataset, val, test, seed, keep_test)
    return replace(division, dataset=canonical.save(division.dataset, output, link, overwrite))


# ---- which pictures stay together -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Grouped:
    numbers: Numbers  # (n,)
    kept: list[KeptTogether]
    notes: list[str]


def _grouped(dataset: Dataset, parts: Sequence[float], look: bool) -> _Grouped:
    """Pictures, sorted by name, in groups that are not to be torn apart."""
    files = dataset.files
    names = groups_by_name(files, dataset.classes)
    copies = _links([group.pictures for group in names if group.kind == COPIES])
    kept = [
        _kept(kind, dataset, _links([group.pictures for group in names if group.kind == kind]))
        for kind in dict.fromkeys(group.kind for group in names)
    ]
    if look:
        seen = seen_pictures(dataset)
        exact = np.array(exact_copies(seen.digests, seen.looks), np.int64).reshape(-1, 2)
        copies = np.concatenate((copies, exact))
        kept.append(_kept(EXACT, dataset, exact))
    whole = joined(np.arange(len(dataset)), *copies.T)
    numbers = joined(whole, *_links([group.pictures for group in names]).T)
    if look:
        numbers, near = near_copies(seen.looks, numbers)
        kept.append(_kept(NEAR, dataset, near))
    kept = [each for each in kept if each.groups]
    if numbers.any() or not any(parts) or len(np.unique(whole)) == 1:
        return _Grouped(numbers, kept, [])
    length = max(1, round(min(part for part in parts if part) * len(dataset)))
    by_name = np.array(sorted(range(len(dataset)), key=lambda i: natural(files[i])))
    runs = np.empty(len(dataset), np.int64)
    runs[by_name] = np.arange(len(dataset)) // length
    numbers = joined(joined(np.arange(len(dataset)), *copies.T), *_links(members_of(runs)).T)
    runs_of = f"runs of {length} consecutive" if length > 1 else "single"
    note = (
        f"all {len(dataset)} pictures belong together ({', '.join(each.kind for each in kept)}): {runs_of} "
        "pictures are divided instead, so that those of different splits are alike and scores too good"
    )
    return _Grouped(numbers, kept, [note])


def _links(groups: Sequence[Sequence[int] | Numbers]) -> Numbers:
    """(k, 2) pairs that join the pictures of each group."""
    pairs = [(group[0], other) for group in groups for other in group[1:]]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _kept(kind: str, dataset: Dataset, pairs: Numbers) -> KeptTogether:
    pictures = np.unique(pairs)
    groups = joined(np.arange(len(dataset)), *pairs.T)[pictures]
    example = " and ".join(dataset.files[i] for i in pairs[0]) if len(pairs) else ""
    return KeptTogether(kind, len(np.unique(groups)), len(pictures), example)


# ---- sharing out ----------------------------------------------------------------------------------------


def _share_out(dataset: Dataset, numbers: Numbers, fractions: Sequence[float], seed: int) -> Numbers:
    """The split of each picture (n,): an index into SPLITS."""
    from scipy.sparse import csr_array

    from toolkit.data.stratifying import stratified

    groups = np.unique(numbers, return_inverse=True)[1]
    has = pictures_with(dataset)
    columns = sorted(np.flatnonzero(has.any(axis=0)), key=lambda i: dataset.classes[i])
    table = np.column_stack((has[:, columns], ~has.any(axis=1)))  # without objects: a class of its own
    rows, classes = np.nonzero(table)
    shape = (groups.max() + 1, table.shape[1])
    counts = csr_array((np.ones(len(rows), np.int64), (groups[rows], classes)), shape=shape)
    return stratified(np.bincount(groups), counts, fractions, seed)[groups]


def pictures_with(dataset: Dataset) -> NDArray[np.bool_]:
    """(n, classes) whether a picture has an object of a class; crowd regions and ignored boxes are none."""
    has = np.zeros((len(dataset), len(dataset.classes)), np.bool_)
    real = ~(dataset.ignore | dataset.crowd) & (dataset.labels >= 0)
    real &= dataset.labels < len(dataset.classes)
    owners = dataset.owners()
    has[owners[real], dataset.labels[real]] = True
    return has


# ---- what came of it ------------------------------------------------------------------------------------


def _part(dataset: Dataset, groups: Numbers, split: str) -> Part:
    part = dataset.split(split)
    classes = part.counts()["classes"]
    return Part(split, len(part), len(part.labels), len(np.unique(groups[dataset.splits == split])), classes)


def _splits_in_words(dataset: Dataset) -> str:
    return ", ".join(f"{name or 'none'} {count}" for name, count in dataset.counts()["splits"].items())


def _unmet(dataset: Dataset, groups: Numbers, parts: Sequence[Part], fractions: Sequence[float]) -> list[str]:
    """Sentences about empty parts, parts of another size than asked for, and classes that a part lacks."""
    sentences, total, count = [], sum(part.pictures for part in parts), len(np.unique(groups))
    reason = "each group of pictures has the only ones of a class, which are trained on"
    if count < 1 + sum(fraction > 0 for fraction in fractions[1:]):
        reason = f"{number_of(count, 'group')} of pictures cannot fill all splits"
    for part, fraction in zip(parts, fractions, strict=False):
        if fraction and not part.pictures:
            sentences.append(f"{part.split} has no pictures: {reason}")
        elif part.split != "train" and abs(part.pictures - fraction * total) > max(2, 0.02 * total):
            sentences.append(
                f"{part.split} has {part.pictures} of {total} pictures ({part.pictures / total:.0%}) instead "
                f"of {fraction:.0%}, as groups stay whole"
            )
    has = pictures_with(dataset)
    for i, name in enumerate(dataset.classes):
        rows = np.flatnonzero(has[:, i])
        lacking = [
            part.split
            for part, fraction in zip(parts, fractions, strict=False)
            if fraction and part.pictures and not (dataset.splits[rows] == part.split).any()
        ]
        if len(rows) and lacking:
            count = len(np.unique(groups[rows]))
            where = f" in {number_of(count, 'group')}" if count < len(rows) else ""
            pictures = number_of(len(rows), "picture")
            sentences.append(f"class {name!r} has {pictures}{where}: none in {' and '.join(lacking)}")
    return sentences


def number_of(count: int, what: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _torn_apart(dataset: Dataset, groups: Numbers, kept: NDArray[np.bool_]) -> list[str]:
    """A sentence about groups of which a part is in the test split that stays."""
    torn = np.isin(groups, groups[kept]) & ~kept
    if not torn.any():
        return []
    first = int(np.flatnonzero(torn)[0])
    test = int(np.flatnonzero(kept & (groups == groups[first]))[0])
    return [
        f"{torn.sum()} pictures of train and val belong to pictures of the split test, such as "
        f"{dataset.files[first]} to {dataset.files[test]}, so scores on it are too good: leave out "
        "--keep-test (keep_test) to divide all pictures anew"
    ]
