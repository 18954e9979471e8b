"""Calibration pictures: reading them, and warnings about pictures that do not suit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.export.ncnn import NcnnModel
from toolkit.inference.preprocess import preprocess
from toolkit.models.io import NetworkIO
from toolkit.models.ncnn_file import Floats
from toolkit.pictures import Unreadable, find_images, load_image
from toolkit.runtime import InputError, progress
from toolkit.text import read_text

MINIMUM = 8  # calibration pictures
LIST_BYTES = 16_000_000  # of a list of pictures


def calibration_inputs(
    pictures: str | Path | Sequence[str | Path], io: NetworkIO, limit: int = 200
) -> Floats:
    """Network inputs for `quantize`, from pictures.

    Args:
        pictures: a folder, a .txt with one path a line (relative to itself), or paths. Pictures of a folder
            that do not decode are left out with a warning.
        io: of the network.
        limit: the most pictures, evenly spread where there are more.

    Returns:
        (N, 3, H, W) float32, as `toolkit.inference.preprocess` makes them.

    Raises:
        InputError: a picture that is named is missing or does not decode, or there are fewer than `MINIMUM`.
    """
    paths: list[str | Path]
    if not isinstance(pictures, (str, Path)):
        paths = list(pictures)
    elif Path(pictures).suffix == ".txt":
        lines = read_text(pictures, LIST_BYTES).splitlines()
        paths = [Path(pictures).parent / line.strip() for line in lines if line.strip()]
    else:
        paths = list(find_images(pictures))
    _check_count(min(len(paths), limit))
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)
    named = not isinstance(pictures, (str, Path)) or Path(pictures).is_file()
    samples, unreadable = [], []
    for i in progress(chosen, "reading calibration pictures"):
        try:
            samples.append(preprocess(load_image(paths[i]), io)[0])
        except Unreadable as error:
            if named:
                raise
            unreadable.append(str(error))
    if unreadable:
        warnings.warn(
            f"{len(unreadable)} of {len(chosen)} calibration pictures are left out: "
            f"{'; '.join(unreadable[:5])}",
            stacklevel=2,
        )
        _check_count(len(samples))
    return np.stack(samples)


def set_apart(dataset: Dataset, calibration: int, scored: int, seed: int = 0) -> tuple[list[Path], Dataset]:
    """Pictures that set the ranges of int8, and others to score it on: of the splits train and val where both
    have pictures, else drawn from all.

    Args:
        dataset: with a picture for each of both at least.
        calibration, scored: the most pictures of each.
        seed: of the drawing.

    Returns:
        The paths of the first and the data set of the second.
    """
    order = np.random.default_rng(seed).permutation(len(dataset))
    train, val = (order[dataset.splits[order] == split] for split in ("train", "val"))
    if not (len(train) and len(val)):
        train, val = order[:calibration], order[calibration:]
    return [dataset.path(int(i)) for i in train[:calibration]], dataset.subset(np.sort(val[:scored]))


def _check_count(pictures: int) -> None:
    if pictures < MINIMUM:
        raise InputError(
            f"calibration needs at least {MINIMUM} pictures, better 200, and {pictures} were given: name a "
            "folder or a list with pictures like those the network will see"
        )


def checked_samples(samples: Floats, io: NetworkIO) -> Floats:
    samples = np.asarray(samples)
    if samples.ndim != 4 or samples.shape[1] != io.channels or samples.dtype != np.float32:
        raise InputError(
            f"calibration takes float32 (N, {io.channels}, H, W), found {samples.dtype} {samples.shape}: "
            "make it with calibration_inputs"
        )
    if len(samples) < MINIMUM:
        raise InputError(f"calibration needs at least {MINIMUM} pictures, {len(samples)} were given")
    io.check_size((samples.shape[3], samples.shape[2]))
    low, high = (0 - io.mean) * io.scale, (255 - io.mean) * io.scale
    least, most = float(samples.min()), float(samples.max())
    if not low - 1e-3 <= least <= most <= high + 1e-3:
        raise InputError(
            f"this network takes values in {low:g}..{high:g}, the calibration pictures are in "
            f"{least:g}..{most:g}: make them with calibration_inputs"
        )
    return np.ascontiguousarray(samples)


def warn_of_colours(model: NcnnModel, io: NetworkIO, samples: Floats) -> None:
    """The files cannot say the order of their colours, but the network can: it was trained on one."""
    if io.channels == 1:
        return
    grey = np.abs(samples - samples[:, :1]).max((1, 2, 3)) < 1e-3
    if grey.mean() > 0.5:
        warnings.warn(
            f"{grey.sum()} of {len(grey)} calibration pictures are grey: ranges found on them may not fit "
            "coloured ones",
            stacklevel=3,
        )
        return
    as_given, exchanged = (_best_scores(model, io, x) for x in (samples, samples[:, ::-1]))
    if exchanged.mean() > 1.1 * as_given.mean() and (exchanged > as_given).mean() > 0.7:
        warnings.warn(
            f"the network is surer of the calibration pictures with red and blue exchanged (best score "
            f"{exchanged.mean():.2f} on average, not {as_given.mean():.2f}): are they "
            f"{io.channel_order}?",
            stacklevel=3,
        )


def _best_scores(model: NcnnModel, io: NetworkIO, samples: Floats) -> NDArray[np.float64]:
    """(N,): the best score in each picture."""
    best = []
    for x in samples:
        maps = zip(model.predict(x[None]), io.heads, strict=True)
        best.append(max(head.cell_scores(head.cells(m)).max() for m, head in maps))
    return np.array(best)
