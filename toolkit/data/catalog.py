"""Data sets by the name of a card, or by path."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from toolkit.data import cards
from toolkit.data.cards import Layout, card, names
from toolkit.data.class_names import shown
from toolkit.data.dataset import Dataset
from toolkit.data.folders import is_canonical
from toolkit.data.formats import registry
from toolkit.data.intake import Faults
from toolkit.runtime import InputError


def locate(name: str) -> Path | None:
    """The folder that holds the data set: below the folder that TOOLKIT_DATA names, or `datasets/<name>`
    where `data import` or a person put it; None where it is not here."""
    shared = os.environ.get("TOOLKIT_DATA")
    places = [Path(shared) / card(name).folder] if shared else []
    return next((place for place in (*places, cards.FOLDER / name) if place.is_dir()), None)


def load(source: str | Path, faults: Faults = "skip", allow_outside: bool = False) -> Dataset:
    """Loads a data set by name or from a folder.

    Args:
        source: the name of a card in `datasets/` ("bccd", "toy", ...), looked for below TOOLKIT_DATA and in
            `datasets/<name>`, in any format (the toy set is made where it is missing); or a path: the
            canonical folder, or any format that `formats.detect_format` knows. A folder with the name of a
            card is given as "./name".
        faults: as in `formats.read`: "skip", "refuse" or "keep".
        allow_outside: as in `formats.read`.

    Returns:
        The pictures and boxes of all splits.

    Raises:
        InputError: nothing is there, or the labels cannot be read.
    """
    text = str(source)
    if isinstance(source, str) and re.fullmatch(r"\w+", text) and text in names():
        return _load_card(text, faults, allow_outside)
    if not Path(source).exists():
        raise InputError(
            f"there is no dataset {text!r}: neither a file or folder nor one of {shown(names(), 20)}"
        )
    return registry.read(source, faults=faults, allow_outside=allow_outside)


def load_pictures(source: str | Path, faults: Faults = "skip") -> Dataset:
    """As `load`; where the labels cannot be read, the pictures alone, with a note of the reason."""
    try:
        return load(source, faults)
    except InputError as error:
        if not Path(source).is_dir():
            raise
        dataset = registry.read(source, "folder", faults=faults)
        notes = (*dataset.intake.notes, f"only the pictures count: {error}")
        return replace(dataset, intake=replace(dataset.intake, notes=notes))


def load_part(source: str | Path, split: str = "", faults: Faults = "skip") -> Dataset:
    """One split of a data set, or all of it. Raises InputError as `load`, and where the split is empty."""
    dataset = load(source, faults)
    part = dataset.split(split) if split else dataset
    if not len(part):
        splits = ", ".join(sorted(set(dataset.splits.tolist()) - {""}))
        known = f"its splits are {splits}" if splits else "it has no splits, `toolkit data split` makes them"
        raise InputError(f"{source} has no pictures in the split {split!r}: {known}")
    return part


def _load_card(name: str, faults: Faults, allow_outside: bool) -> Dataset:
    """The data set of that name, from wherever `locate` finds it, with the classes of its card.

    The toy set is made in `datasets/toy` where it is missing. `faults` and `allow_outside` as in
    `formats.read`. InputError with what to do where the data set is not here.
    """
    data_card = card(name)
    folder = locate(name)
    if folder is None and name == "toy":
        from toolkit.data.toy import make_toy  # scikit-learn and scikit-image are slow to import

        folder = cards.FOLDER / name
        make_toy(folder)
    if folder is None:
        raise InputError(
            f"the data set {name!r} is not here: set TOOLKIT_DATA to the folder that holds "
            f"{data_card.folder!r}, "
            f"or put it into {cards.FOLDER / name} ({' '.join(data_card.get.split())})"
        )
    layout = Layout(format="coco") if is_canonical(folder) else data_card.layout
    return registry.read(
        folder,
        layout.format,
        classes=data_card.classes,
        faults=faults,
        allow_outside=allow_outside,
        **layout.options,
    )
