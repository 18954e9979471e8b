"""Pictures that do not decode end no good work: they are left out, with their labels, and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.data.intake import Skipped
from toolkit.runtime import InputError


def skipped_pictures(files: Sequence[str | Path], unreadable: Mapping[int, str]) -> tuple[Skipped, ...]:
    """Those of `files` that did not decode, in order.

    Args:
        files: of all pictures, as they are to be named.
        unreadable: position among them -> reason, as `toolkit.inference.run.run` enters it.

    Raises:
        InputError: none decoded.

    >>> skipped_pictures(["a.png", "b.png"], {1: "is missing"})
    (Skipped(file='b.png', reason='is missing'),)
    """
    skipped = tuple(Skipped(str(files[i]), unreadable[i]) for i in sorted(unreadable))
    if skipped and len(skipped) == len(files):
        first = skipped[0]
        raise InputError(
            f"none of the {len(files)} pictures can be read; the first: {first.file} {first.reason}"
        )
    return skipped


def readable_part(dataset: Dataset, unreadable: Mapping[int, str]) -> tuple[Dataset, tuple[Skipped, ...]]:
    """The pictures of a data set that decoded, with their labels, and those that did not.

    Args:
        dataset: all pictures.
        unreadable: position -> reason.

    Raises:
        InputError: none decoded.
    """
    skipped = skipped_pictures(dataset.files, unreadable)
    kept = np.setdiff1d(np.arange(len(dataset)), list(unreadable))
    return (dataset.subset(kept) if skipped else dataset), skipped
