"""The pictures to train on and those to validate with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.data.dividing import divide, number_of
from toolkit.runtime import InputError
from toolkit.training.config import Config

HELD_OUT = 0.1  # part of the training pictures, where there is no validation split
LOOK_LIMIT = 300  # pictures up to which near duplicates are looked for: a few seconds


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run trains on and validates with."""

    train: Dataset
    val: Dataset
    note: str = ""  # how the validation part was made, where the data set has none


def choose_parts(config: Config, dataset: Dataset) -> Parts:
    """The pictures to train on and those to validate with.

    Without a validation split, a tenth of the training pictures is held out (`toolkit.data.dividing.divide`),
    the same for every seed; a set without any split is trained on as a whole but for that tenth. Where that
    leaves nothing to validate with, as with one or two pictures, the training pictures are used for both.

    Args:
        config: names the splits.
        dataset: the whole data set.

    Returns:
        Both parts, and a note where the validation part was made.

    Raises:
        InputError: no training pictures, or a part without objects.
    """
    train, val = dataset.split(config.train_split), dataset.split(config.val_split)
    if not len(train) and not any(dataset.splits):
        train = dataset
    if not len(train):
        counts = dataset.counts()["splits"]
        there = ", ".join(f"{name or 'no split'} ({count})" for name, count in counts.items())
        keep = " --keep-test" if "test" in counts and len(counts) > 1 else ""
        raise InputError(
            f"{config.data} has no pictures in the split {config.train_split!r}, only in {there or 'none'}: "
            f"divide it with `toolkit data split {shlex.quote(config.data)} OUTPUT{keep}`, or set "
            "train_split in a file of settings (toolkit train --config)"
        )
    if not _objects(train):
        raise InputError(
            f"the pictures of {config.data} to train on have no objects to learn from: label some (crowd "
            "regions and ignored boxes do not count)"
        )
    if len(val):
        if not _objects(val):
            raise InputError(
                f"the pictures of {config.data} to validate with (split {config.val_split!r}) have no "
                "objects: label some, or set val_split in a file of settings (toolkit train --config)"
            )
        return Parts(train, val)
    return _held_out(config, train, whole=not any(dataset.splits))


def splits(config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Training set and validation set: those of `choose_parts`, without its note."""
    parts = choose_parts(config, dataset)
    return parts.train, parts.val


def _held_out(config: Config, pictures: Dataset, whole: bool) -> Parts:
    """A part of the training pictures to validate with."""
    lack = f"{config.data} has no splits" if whole else f"{config.data} has no split {config.val_split!r}"
    look = 2 < len(pictures) <= LOOK_LIMIT
    division = divide(pictures, HELD_OUT, 0, look=look) if len(pictures) > 2 else None
    if division is not None:
        names = division.dataset.splits
        train, val = (pictures.subset(np.flatnonzero(names == name)) for name in ("train", "val"))
        if _objects(train) and _objects(val):
            together = [
                f"{number_of(each.groups, 'group')} of {each.kind} kept whole"
                for each in division.kept_together
            ]
            if not look:
                together.append(f"near duplicates not looked for above {LOOK_LIMIT} pictures")
            how = "; ".join(["the same for every seed, stratified by class", *together, *division.notes])
            note = (
                f"{lack}: {len(val)} of {len(pictures)} pictures are held out for validation ({how}); "
                "`toolkit data split` writes such splits for good"
            )
            return Parts(train, val, note)
    count = number_of(len(pictures), "picture")
    reason = f"only {count}" if division is None else f"none of its {count} with objects can be held out"
    note = (
        f"{lack} and {reason}: validation uses the training pictures, so the scores are those of the "
        "training pictures"
    )
    return Parts(pictures, pictures, note)


def _objects(part: Dataset) -> bool:
    return bool((~(part.ignore | part.crowd) & (part.labels >= 0)).any())
