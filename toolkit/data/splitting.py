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


def split_of_folders(name: str) -> str:
    """The split that the folders of a relative name give, the first that does; "" where none does.

    >>> split_of_folders("images/valid/a.jpg"), split_of_folders("street/a.jpg")
    ('val', '')
    """
    words = (SPLIT_WORDS.get(split_of(part).lower(), "") for part in name.split("/")[:-1])
    return next((word for word in words if word), "")


def split_of_list(name: str) -> str:
    """The split that the relative name of a label file gives, by its folders or by a word in its own name; ""
    where none does.

    >>> split_of_list("valid/_annotations.csv"), split_of_list("train_labels.csv"), split_of_list("all.csv")
    ('val', 'train', '')
    """
    stem = name.rsplit("/", 1)[-1].rpartition(".")[0]
    words = (SPLIT_WORDS.get(word, "") for word in re.split(r"[^a-z]+", stem.lower()))
    return split_of_folders(name) or next((word for word in words if word), "")
