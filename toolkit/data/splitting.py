"""The splits of a data set: their order, and the names of files and folders that stand for them."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = ("train", "val", "test")  # first in every folder, in this order; others follow by name, "" last

SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
    "all": "", "default": "", "": "",
}  # fmt: skip
_NO_SPLIT = ("result", "annotations", "labels", "instances", "coco", "_annotations", "_annotations.coco")


def split_order(splits: Iterable[str]) -> list[str]:
    """The distinct splits in the order in which they are written: train, val, test, others by name, "".

    >>> split_order(["", "test", "extra", "train"])
    ['train', 'test', 'extra', '']
    """
    return sorted(set(splits), key=lambda s: (s == "", SPLITS.index(s) if s in SPLITS else len(SPLITS), s))


def split_of(stem: str) -> str:
    """The split that a file or folder name means: `instances_train2017` -> "train", `valid` -> "val",
    `all`, `default` and names that only say what the file is -> "".

    >>> split_of("instances_train2017"), split_of("valid"), split_of("all")
    ('train', 'val', '')
    """
    stem = re.sub(r"^(instances|person_keypoints|keypoints)_", "", stem)
    word = re.sub(r"(?<=[a-z])[12]\d{3}$", "", stem)
    if word.lower() in SPLIT_WORDS:
        return SPLIT_WORDS[word.lower()]
    return "" if stem in _NO_SPLIT else stem
