"""The pictures to train on and those to validate with."""

from __future__ import annotations

import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.runtime import InputError
from toolkit.training.config import Config


def splits(config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The pictures to train on and those to validate with; without a validation split, a tenth of the
    training pictures, the same for every seed. Raises InputError where either has no objects."""
    train_set, val_set = dataset.split(config.train_split), dataset.split(config.val_split)
    if not len(train_set):
        have = ", ".join(sorted({str(s) or "(none)" for s in dataset.splits}))
        raise InputError(f"{config.data} has no split {config.train_split!r}: it has {have}")
    if not len(val_set):
        order = np.random.default_rng(0).permutation(len(train_set))
        held = max(1, len(order) // 10)
        train_set, val_set = train_set.subset(np.sort(order[held:])), train_set.subset(np.sort(order[:held]))
    for name, part in (("training", train_set), ("validation", val_set)):
        if not (~(part.ignore | part.crowd)).any():
            raise InputError(f"the {name} pictures of {config.data} have no objects: nothing to learn from")
    return train_set, val_set
