"""The pictures to train on and those to validate with."""

from __future__ import annotations

import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.runtime import InputError
from toolkit.training.config import Config


def splits(config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The pictures to train on and those to validate with.

    Args:
        config: names the splits. Without a validation split, a tenth of the training pictures is held out,
            the same for every seed.
        dataset: the whole data set.

    Returns:
        Training set and validation set.

    Raises:
        InputError: for an unknown training split, and where either part has no objects.
    """
    train_set, val_set = dataset.split(config.train_split), dataset.split(config.val_split)
    if not len(train_set):
        names = ", ".join(sorted({str(s) or "(none)" for s in dataset.splits}))
        raise InputError(f"{config.data} has no split {config.train_split!r}: name one of {names}")
    if not len(val_set):
        order = np.random.default_rng(0).permutation(len(train_set))
        count = max(1, len(order) // 10)
        held_out, rest = np.sort(order[:count]), np.sort(order[count:])
        train_set, val_set = train_set.subset(rest), train_set.subset(held_out)
    for name, part in (("training", train_set), ("validation", val_set)):
        if not (~(part.ignore | part.crowd)).any():
            raise InputError(
                f"the {name} pictures of {config.data} have no objects to learn from: label some, or name "
                "another split"
            )
    return train_set, val_set
