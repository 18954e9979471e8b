"""Faults 6, 12, 13 and 14: classes that are not in the list, and pictures that nobody labelled."""

from __future__ import annotations

import os

import numpy as np

from toolkit.data.class_names import difference, nearest
from toolkit.data.dataset import Dataset
from toolkit.data.doctor.findings import NOWHERE, Finding, of_box, of_picture
from toolkit.data.formats.common import is_picture
from toolkit.data.splitting import split_order


def class_findings(dataset: Dataset) -> list[Finding]:
    """Fault 6: numbers out of range, and names that look like a slip for another class."""
    owners, count = dataset.owners(), len(dataset.classes)
    nameless = (dataset.labels < 0) | (dataset.labels >= count)
    slips = _slips(dataset)
    findings = []
    for row in np.flatnonzero(nameless | np.isin(dataset.labels, list(slips))):
        label = int(dataset.labels[row])
        what = slips.get(label) or (
            "has a class that is not in the list of classes"
            if label < 0
            else f"has class number {label}, and there are {count} classes (0 to {count - 1})"
        )
        mend = "drop box" if nameless[row] else ""  # nothing can learn a class that has no name
        findings.append(of_box("class-range", dataset, int(owners[row]), int(row), what, mend))
    return findings


def _slips(dataset: Dataset) -> dict[int, str]:
    """{class: what is odd about it}: few boxes, and a name that is a number among words, or nearly that of a
    frequent class, or that of one or two boxes where every other class has hundreds."""
    names = dataset.classes
    counts = np.bincount(
        dataset.labels[(dataset.labels >= 0) & (dataset.labels < len(names))], minlength=len(names)
    )
    numbers = [name.strip().isdigit() for name in names]
    usual = counts[counts > 2].min(initial=counts.sum())
    slips = {}
    for c, name in enumerate(names):
        if counts[c] == 0:
            continue
        likely = nearest(name, [names[k] for k in np.flatnonzero(counts > 20 * counts[c])])
        if likely is not None:
            slips[c] = f"has the class {name!r}, probably a slip for {likely!r} ({difference(name, likely)})"
        elif numbers[c] and sum(numbers) <= len(names) / 2:
            slips[c] = f"has the class {name!r}: a number where the other classes have names"
        elif counts[c] <= 2 and usual >= 100:
            slips[c] = f"is one of {counts[c]} of class {name!r}, and the usual classes have {usual} or more"
    return slips


def unlabelled(dataset: Dataset) -> list[Finding]:
    """Fault 12. In a set where nothing is labelled there is nothing to forget."""
    empty = np.flatnonzero(np.diff(dataset.starts) == 0)
    labelled = len(dataset) - len(empty)
    if not labelled:
        return []
    what = f"has no labels, and {labelled} other pictures have: forgotten, or truly empty?"
    findings = [of_picture("unlabelled", dataset, int(i), what) for i in empty]
    folders = sorted({file.rpartition("/")[0] for file in dataset.files})
    beside = {
        f"{folder}/{name}" if folder else name
        for folder in folders
        if (dataset.root / folder).is_dir()
        for name in os.listdir(dataset.root / folder)
        if is_picture(name)
    }
    strangers = sorted(beside.difference(dataset.files))
    if len(strangers) <= 0.2 * len(dataset):  # more of them, and this is a part of a set on purpose
        findings += [
            Finding(
                "unlabelled", NOWHERE, name, f"{name} is among labelled pictures, but no label file names it"
            )
            for name in strangers
        ]
    return findings


def without_objects(dataset: Dataset) -> list[Finding]:
    """Faults 13 and 14: a set, or a split of a labelled set, without a single box."""
    root = str(dataset.root)
    if not len(dataset.boxes):
        return [
            Finding("no-labels", NOWHERE, root, f"{root} has {len(dataset)} pictures and not a single box")
        ]
    boxes = np.diff(dataset.starts)
    findings = []
    for name in split_order(dataset.splits.tolist()):
        mine = dataset.splits == name
        if not boxes[mine].any():
            part = f"the split {name}" if name else "the pictures of no split"
            sentence = f"{part} of {root} has {mine.sum()} pictures and not a single box"
            findings.append(Finding("empty-split", NOWHERE, root, sentence))
    return findings
