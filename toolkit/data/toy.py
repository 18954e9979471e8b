"""The toy dataset: handwritten digits on photographs, made from what scikit-learn and scikit-image ship.

It needs no network, takes seconds, and is what the whole chain runs on where nothing else is at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.folders import fresh_folder
from toolkit.data.formats.canonical import write_annotations
from toolkit.data.formats.coco import read_coco
from toolkit.data.toy_faults import plant_faults
from toolkit.runtime import InputError, progress

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# photographs inside the wheels: scikit-image's own loader would download others
PHOTOGRAPHS = {
    "skimage": "data/astronaut.png data/brick.png data/camera.png data/chelsea.png data/coffee.png "
    "data/coins.png data/grass.png data/gravel.png data/hubble_deep_field.jpg data/ihc.png data/moon.png "
    "data/motorcycle_left.png data/retina.jpg data/rocket.jpg",
    "sklearn": "datasets/images/china.jpg datasets/images/flower.jpg",
}
SIDES = (0.1, 0.5)  # shortest and longest side of a box relative to the picture's: 16 to 80 px of 160
LOWEST_ALPHA = 0.1  # fainter parts of a digit are not pasted, so that its box is exact
MOST_OVERLAP = 0.3  # IoU of two boxes
MOST_COVERED = 0.5  # of a box, by all others
APART = 0.7  # share of the digits that get a place of their own where there is one

Picture = NDArray[np.uint8]


def make_toy(
    folder: str | Path,
    seed: int = 0,
    count: int = 1000,
    size: int = 160,
    classes: int = 10,
    splits: Mapping[str, float] | None = None,
    objects: tuple[int, int] = (1, 6),
    overwrite: bool = False,
    faults: bool = False,
) -> Dataset:
    """Makes the toy data set.

    Each picture is a piece of a photograph with a few strokes that mean nothing and, over them, digits:
    turned by up to 15 degrees, blurred, in a colour easy to see, the sides of their boxes between a tenth
    and half of the picture's, overlapping by an IoU of up to .3. Boxes are the exact bounds of what was
    pasted. No digit and no photograph occurs in two splits. The same arguments and library versions give
    the same files; a larger `count` keeps the first pictures of every split.

    Args:
        folder: the canonical folder to make.
        seed: of everything drawn.
        count: pictures in all.
        size: their width and height in px, at least 64.
        classes: 1 to 10, the digits from zero on.
        splits: the share of each split; {"train": .8, "val": .2} unless given.
        objects: the fewest and most digits in a picture.
        overwrite: replace a data set that is there.
        faults: plant each fault that the doctor looks for, once (`toy_faults.plant_faults`); needs the splits
            train and val.

    Returns:
        The data set in `folder`, with `faults` as the doctor reads it.
    """
    splits = dict(splits or {"train": 0.8, "val": 0.2})
    if not 1 <= classes <= len(CLASSES) or size < 64 or not 1 <= objects[0] <= objects[1]:
        raise InputError(
            f"the toy set has 1 to 10 classes, pictures of at least 64 px and at least one object: "
            f"asked for {classes} classes, {size} px, {objects[0]} to {objects[1]} objects"
        )
    if min(splits.values()) <= 0 or not np.isclose(sum(splits.values()), 1) or count < len(splits):
        raise InputError(
            f"the shares of the splits must be positive and add up to 1, with a picture for each: "
            f"got {splits} and {count} pictures"
        )
    counts = np.diff(np.round(np.cumsum([0.0, *splits.values()]) * count)).astype(int)
    sources = _sources(seed, classes, tuple(splits.values()))
    columns = Columns()
    jobs = [(s, i) for s, wanted in enumerate(counts) for i in range(wanted)]
    with fresh_folder(folder, overwrite) as temporary:
        (temporary / "images").mkdir()
        for s, i in progress(jobs, "making the toy set"):
            rng = np.random.default_rng((seed, s, i))
            photographs, digits = sources[s]
            picture = background(rng, photographs, size)
            boxes, labels = add_digits(rng, picture, digits, objects)
            split = list(splits)[s]
            name = f"{split}_{i:05d}.jpg"
            _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (temporary / "images" / name).write_bytes(coded.tobytes())
            row = columns.add_picture(name, (size, size), split)
            for box, label in zip(boxes, labels, strict=True):
                columns.add_box(row, box, label)
        dataset = columns.dataset(Path(folder) / "images", CLASSES[:classes], folder)
        write_annotations(dataset, temporary)
        if faults:
            plant_faults(temporary)
    return read_coco(folder, faults="keep") if faults else dataset


def _sources(
    seed: int, classes: int, shares: Sequence[float]
) -> list[tuple[list[Picture], list[NDArray[np.float32]]]]:
    """For each split its photographs and, for each class, its digits (k, 8, 8) in 0..1; nothing is in two."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng((seed, len(shares)))
    data = load_digits()
    pixels = (data.images / 16).astype(np.float32)
    ends = np.cumsum(shares)
    photographs = _share_photographs(rng, shares)
    digits: list[list[NDArray[np.float32]]] = [[] for _ in shares]
    for label in range(classes):
        own = rng.permutation(np.flatnonzero(data.target == label))
        for part, chosen in zip(
            digits, np.split(own, np.round(ends[:-1] * len(own)).astype(int)), strict=True
        ):
            part.append(pixels[chosen])
    return list(zip(photographs, digits, strict=True))


def photographs_of(seed: int, shares: Sequence[float]) -> list[list[Picture]]:
    """The photographs (BGR) of each split; none is in two."""
    return _share_photographs(np.random.default_rng((seed, len(shares))), shares)


def _share_photographs(rng: np.random.Generator, shares: Sequence[float]) -> list[list[Picture]]:
    photographs: list[list[Picture]] = [[] for _ in shares]
    ends = np.cumsum(shares)
    paths = [
        files(package).joinpath(name) for package, names in PHOTOGRAPHS.items() for name in names.split()
    ]
    if len(shares) > len(paths):
        raise InputError(f"the toy set has {len(paths)} photographs: it cannot have {len(shares)} splits")
    # one photograph for each split, the rest by share
    rest = np.linspace(0, 1, len(paths) - len(shares), endpoint=False)
    owners = np.concatenate((np.arange(len(shares)), np.searchsorted(ends, rest, side="right")))
    for i, owner in zip(rng.permutation(len(paths)), owners.clip(max=len(shares) - 1), strict=True):
        coded = np.frombuffer(paths[i].read_bytes(), np.uint8)
        photographs[owner].append(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return photographs


def background(rng: np.random.Generator, photographs: Sequence[Picture], size: int) -> Picture:
    """A random square of a random photograph, mirrored, its contrast changed, and up to four strokes."""
    photograph = photographs[int(rng.integers(len(photographs)))]
    height, width = photograph.shape[:2]
    side = int(min(height, width) * rng.uniform(0.4, 1))
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    piece = cv2.resize(photograph[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    mean = piece.mean()
    calmed = mean + (piece - mean) * rng.uniform(0.5, 1) + rng.uniform(-20, 20)
    picture = np.clip(calmed, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(5)):
        colour = rng.integers(256, size=3).tolist()
        centre, axes = (
            rng.integers(size, size=2).tolist(),
            rng.integers(size // 8, size // 2, size=2).tolist(),
        )
        start, sweep = rng.uniform(0, 360), rng.uniform(40, 160)
        cv2.ellipse(picture, centre, axes, rng.uniform(0, 180), start, start + sweep, colour, 1, cv2.LINE_AA)
    result: Picture = picture
    return result


def add_digits(
    rng: np.random.Generator,
    picture: Picture,
    digits: Sequence[NDArray[np.float32]],
    objects: tuple[int, int] = (1, 6),
) -> tuple[list[list[int]], list[int]]:
    """Paste digits into `picture` (in place), larger ones first. Returns boxes xyxy, the exact bounds of the
    changed pixels, and labels; fewer than asked for where no free place was found."""
    size = picture.shape[0]
    drawn = []
    for _ in range(rng.integers(objects[0], objects[1] + 1)):
        label = int(rng.integers(len(digits)))
        digit = digits[label][rng.integers(len(digits[label]))]
        drawn.append((label, _shape(rng, digit, size * SIDES[0], size * SIDES[1])))
    drawn.sort(key=lambda item: -item[1].size)
    boxes: list[list[int]] = []
    labels: list[int] = []
    for label, alpha in drawn:
        height, width = alpha.shape
        alone = 30 if rng.random() < APART else 0
        for attempt in range(60):
            x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
            box = [x, y, x + width, y + height]
            if _has_room([*boxes, box], 0 if attempt < alone else MOST_OVERLAP):
                _paste(rng, picture[y : y + height, x : x + width], alpha)
                boxes.append(box)
                labels.append(label)
                break
    return boxes, labels


def _shape(
    rng: np.random.Generator, digit: NDArray[np.float32], shortest: float, longest: float
) -> NDArray[np.float32]:
    """The alpha mask of a digit, cut to its bounds, with both sides between `shortest` and `longest`."""
    angle, blur, position = rng.uniform(-15, 15), rng.uniform(0, 0.16), rng.random()
    scale = longest / 20
    alpha = _drawn(digit, angle, blur, scale)
    # the first drawing tells the proportions, from which the size is chosen; what is left is rounding
    narrowest = shortest * max(alpha.shape) / min(alpha.shape)
    scale *= (narrowest + max(0, longest - narrowest) * position) / max(alpha.shape)
    for _ in range(20):
        alpha = _drawn(digit, angle, blur, scale)
        if min(alpha.shape) < shortest:
            scale *= 1.03
        elif max(alpha.shape) > longest:
            scale *= 0.98
        else:
            return alpha
    sides = [int(np.clip(side, np.ceil(shortest), longest)) for side in alpha.shape]
    return np.asarray(cv2.resize(alpha, sides[::-1], interpolation=cv2.INTER_NEAREST), np.float32)


def _drawn(digit: NDArray[np.float32], angle: float, blur: float, scale: float) -> NDArray[np.float32]:
    """A digit (8, 8) enlarged `scale` times and turned: its alpha, cut to its bounds."""
    canvas = int(scale * 16)
    turn = cv2.getRotationMatrix2D((5.5, 5.5), angle, scale)
    turn[:, 2] = turn[:, 2] + canvas / 2 - 5.5
    padded = cv2.copyMakeBorder(digit, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    enlarged = cv2.warpAffine(padded, turn, (canvas, canvas), flags=cv2.INTER_CUBIC)
    alpha = cv2.GaussianBlur(np.clip((enlarged - 0.2) / 0.5, 0, 1), (0, 0), max(0.3, blur * scale))
    alpha[alpha < LOWEST_ALPHA] = 0
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    result: NDArray[np.float32] = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(
        np.float32
    )
    return result


def _has_room(boxes: Sequence[Sequence[int]], most: float) -> bool:
    """Whether no two boxes overlap by more than `most` and none is mostly covered by the others together."""
    corners = np.array(boxes, np.float64)
    overlap = box_formats.iou(corners, corners)
    np.fill_diagonal(overlap, 0)
    areas = box_formats.area(corners)
    covered = overlap / (1 + overlap) * (areas[:, None] + areas) / areas[:, None]
    return bool(overlap.max() <= most and covered.sum(axis=1).max() <= MOST_COVERED)


def _paste(rng: np.random.Generator, place: Picture, alpha: NDArray[np.float32]) -> None:
    """Blend one colour into `place` (h, w, 3, in place): of twenty the first that is 60 levels a channel off
    nine tenths of what it covers, otherwise the one that is farthest off."""
    under = place[alpha > 0.5].astype(np.float32)
    best, farthest = np.zeros(3, np.float32), -1.0
    for colour in rng.integers(256, size=(20, 3)).astype(np.float32):
        distance = np.percentile(np.abs(under - colour).mean(axis=1), 10)
        if distance > farthest:
            best, farthest = colour, distance
        if distance >= 60:
            break
    strength = (alpha * rng.uniform(0.85, 1))[..., None]
    place[:] = np.round(place + (best - place.astype(np.float32)) * strength).astype(np.uint8)
