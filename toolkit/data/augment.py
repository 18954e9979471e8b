"""Augmentation for detectors: darknet's, as the seed trained with it, and a mild modern one with mosaic.

Pictures are uint8 RGB (H, W, 3), boxes are relative to their picture (0..1) on the way in and out, so that it
does not matter at which size a picture was stored. Everything random comes from the numpy Generator passed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.boxes import xyxy_to_cxcywh
from toolkit.runtime import InputError

KINDS = ("seed", "modern")
ZOOM = 4.0  # most that `focus` enlarges, or its inverse
SMALLEST_PX = {"seed": 1.0, "modern": 2.0}  # sides of a box at the network's input, below which it is dropped


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures as the network sees them and their M truths."""

    images: torch.Tensor  # (N, H, W, 3) uint8 RGB
    boxes: torch.Tensor  # (M, 4) float32 cxcywh relative to the network's input, 0..1
    labels: torch.Tensor  # (M,) int64
    picture: torch.Tensor  # (M,) int64, index within the batch, rising
    ignore: torch.Tensor  # (M,) bool: neither a truth nor background (crowd, difficult, invalid)
    indices: torch.Tensor  # (N,) int64, rows in the Dataset

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return Batch(**moved)


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and its boxes."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (K, 4) xyxy relative to the picture, 0..1
    labels: NDArray[np.int64]  # (K,)
    ignore: NDArray[np.bool_]  # (K,)


@dataclass(frozen=True)
class Augmentation:
    """The levers. At their defaults a picture is stretched to the network's input and nothing else.

    `kind`: "seed" uses `jitter`, `flip`, `hue`, `saturation`, `exposure`; "modern" all but `jitter`.
    `hue`: largest shift, as a part of the colour circle. `saturation`, `exposure`: largest factor, applied
    or its inverse applied. `flip`: probability of a mirror image (0 for text and digits).
    `jitter`: each edge moves by up to this part of the picture's size.
    `scale`: least and greatest enlargement, 1 = the picture just fills the input. `aspect`: greatest factor
    between the enlargements of width and height. `translate`: the picture moves by up to this part of the
    input. `rotate`: degrees either way. `mosaic`: probability of four pictures in one, each enlarged by
    `mosaic_scale`. `focus`: probability that `scale` or `mosaic_scale` gives way to a zoom (at most `ZOOM`
    either way) at which one of the objects, drawn at random, has a size between the two of `focus_px`, px at
    the network's input, all magnitudes alike; the object stays in view (PyramidBox's data-anchor-sampling,
    arXiv:1803.07737). `fill`: grey level where there is no picture; None: the picture's mean colour.
    `keep`: a box stays where at least this part of its area is still to be seen.

    Of faces with landmarks (toolkit.training.landmarks): `flip`, `hue`, `saturation`, `exposure`, `scale`,
    `aspect`, `translate`, `rotate`, and two of their own. `occlude`: probability that a patch hides a part of
    the face. `poses`: how much more often unusual poses are shown, a face k standard deviations from the mean
    one about 1 + poses (k - 1) times.
    """

    kind: str = "modern"
    flip: float = 0.0
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    jitter: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    translate: float = 0.0
    rotate: float = 0.0
    mosaic: float = 0.0
    mosaic_scale: tuple[float, float] = (0.4, 1.0)
    focus: float = 0.0
    focus_px: tuple[float, float] = (8.0, 128.0)
    fill: int | None = 114
    keep: float = 0.3
    occlude: float = 0.0
    poses: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"the kind of augmentation must be one of {', '.join(KINDS)}, not {self.kind!r}")
        ranges = {
            "flip": (0, 1),
            "hue": (0, 0.5),
            "saturation": (1, 100),
            "exposure": (1, 100),
            "jitter": (0, 0.49),
            "aspect": (1, 4),
            "translate": (0, 1),
            "rotate": (0, 45),
            "mosaic": (0, 1),
            "focus": (0, 1),
            "fill": (0, 255),
            "keep": (0, 1),
            "occlude": (0, 1),
            "poses": (0, 10),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} of an augmentation must be between {low} and {high}, not {value}")
        for name, (least, most) in {
            "scale": (0.05, 20),
            "mosaic_scale": (0.05, 20),
            "focus_px": (1, 1e4),
        }.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise InputError(
                    f"{name} of an augmentation is a range within {least:g} and {most:g}, not {low} to {high}"
                )


def augment(
    samples: Sequence[Sample], size: tuple[int, int], settings: Augmentation, rng: np.random.Generator
) -> Sample:
    """One sample at the network's input `size` (w, h) from one picture or, for a mosaic, from four.

    Boxes are cut to what is to be seen; those that are then too small are dropped (see SMALLEST_PX).
    """
    if settings.kind == "seed":
        return augment_seed(samples[0], size, settings, rng)
    return augment_modern(samples, size, settings, rng)


def augment_seed(
    sample: Sample, size: tuple[int, int], settings: Augmentation, rng: np.random.Generator
) -> Sample:
    """Darknet's augmentation (load_data_detection, image_data_augmentation, fill_truth_detection).

    Each edge moves by up to `jitter` x size, whole pixels; what is then outside the picture gets its mean
    colour; the piece is stretched to `size` (w, h) bilinearly; mirrored with probability `flip`; hue moves by
    179 U(-hue, hue) and, as bytes, stops at 0 but runs on past 180; saturation and exposure are scaled.
    Boxes are cut to the piece, dropped where a side is below 1 px, and shuffled: a loss that takes a limited
    number of truths takes them from the front.
    """
    image = sample.image
    height, width = image.shape[:2]
    reach = np.array([int(width * settings.jitter), int(height * settings.jitter)] * 2)
    moved = rng.uniform(-1, 1, 4) * reach  # left, top, right, bottom; positive is inwards
    left, top, right, bottom = (int(v) for v in moved)
    flip = rng.random() < settings.flip
    colours = draw_colours(settings, rng)
    right, bottom = width - right, height - bottom
    piece = image[max(top, 0) : bottom, max(left, 0) : right]
    borders = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if any(borders):
        mean = _mean_colour(image)
        piece = cv2.copyMakeBorder(piece, *borders, cv2.BORDER_CONSTANT, value=mean)  # type: ignore[assignment]
    piece = cv2.resize(piece, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if flip:
        piece = cv2.flip(piece, 1)  # type: ignore[assignment]
    origin = np.array([left / width, top / height], np.float32)
    extent = np.array([(right - left) / width, (bottom - top) / height], np.float32)
    boxes = ((sample.boxes.reshape(-1, 2, 2) - origin) / extent).reshape(-1, 4)
    if flip:
        boxes[:, [0, 2]] = 1 - boxes[:, [2, 0]]
    boxes = boxes.clip(0, 1)
    large = ((boxes[:, 2:] - boxes[:, :2]) * size >= SMALLEST_PX["seed"]).all(axis=1)
    kept = rng.permutation(np.flatnonzero(large))
    image = recolour(piece, *colours, wrap=False)
    return Sample(image, boxes[kept], sample.labels[kept], sample.ignore[kept])


def augment_modern(
    samples: Sequence[Sample], size: tuple[int, int], settings: Augmentation, rng: np.random.Generator
) -> Sample:
    """A random affine view of one picture, or of four around a random corner point (mosaic, as in
    arXiv:2004.10934), then colour jitter. `size` (w, h).

    A picture is stretched to the input before it is scaled, as it is when the network detects. What is larger
    than its place is cut at random, what is smaller is placed in it at random.
    """
    width, height = size
    canvas = np.empty((height, width, 3), np.uint8)
    if len(samples) == 1:
        placed = [_place(canvas, samples[0], (0, 0, width, height), settings.scale, settings, rng)]
    else:
        x, y = (int(v) for v in rng.uniform(0.25, 0.75, 2) * size)
        quarters = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
        placed = [
            _place(canvas, sample, quarter, settings.mosaic_scale, settings, rng)
            for sample, quarter in zip(samples, quarters, strict=True)
        ]
    boxes, labels, ignore = (np.concatenate(columns) for columns in zip(*placed, strict=True))
    image = recolour(canvas, *draw_colours(settings, rng), wrap=True)
    return Sample(image, boxes, labels, ignore)


def _place(
    canvas: NDArray[np.uint8],
    sample: Sample,
    window: tuple[int, int, int, int],
    scale: tuple[float, float],
    settings: Augmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Draw one picture into `window` (xyxy px) of the canvas. Returns boxes relative to the canvas, labels
    and ignore of what is still to be seen."""
    size = np.array(canvas.shape[1::-1])
    low, high = np.array(window[:2]), np.array(window[2:])
    side = math.sqrt(settings.aspect) ** rng.uniform(-1, 1)
    focus = _focus(sample, rng) if settings.focus and rng.random() < settings.focus else None
    zoom = rng.uniform(*scale) if focus is None else _zoom(focus * np.tile(size, 2), settings, rng)
    enlarged = size * zoom * (side, 1 / side)
    # the centre of the picture in the window, px
    centre = enlarged / 2 + rng.random(2) * (high - low - enlarged)
    centre += rng.uniform(-1, 1, 2) * settings.translate * size
    angle = math.radians(rng.uniform(-1, 1) * settings.rotate)
    mirror = -1 if rng.random() < settings.flip else 1
    if focus is not None:  # the object anywhere in the window, as far as the picture then fills it
        apart = ((focus[:2] + focus[2:]) / 2 - 0.5) * (mirror, 1) * enlarged
        ends = np.sort([enlarged / 2, high - low - enlarged / 2], axis=0)
        centre = (rng.random(2) * (high - low) - apart).clip(*ends)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn * (enlarged * (mirror, 1))  # from the unit square of the picture to px
    shift = centre - linear.sum(axis=1) / 2

    image = sample.image
    width, height = float(image.shape[1]), float(image.shape[0])
    while min(width / enlarged[0], height / enlarged[1]) >= 2:  # else bilinear sampling would skip pixels
        rows, columns = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * rows, : 2 * columns]
        image = cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        width, height = width / 2, height / 2
    # outermost pixels twice, as `resize` has them: else the border would mix into an enlarged picture
    image = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    pixels = linear / (width, height)
    # from the centre of the border's first pixel, at -.5; cv2 counts from centres, we from edges
    offset = shift - pixels.sum(axis=1) / 2 - 0.5
    fill = _mean_colour(image) if settings.fill is None else (settings.fill,) * 3
    canvas[low[1] : high[1], low[0] : high[0]] = cv2.warpAffine(
        image,
        np.column_stack((pixels, offset)),
        (int(high[0] - low[0]), int(high[1] - low[1])),
        flags=cv2.INTER_LINEAR,
        borderValue=fill,
    )

    corners = sample.boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]] @ linear.T + shift  # (K, 4, 2) px in window
    first, last = corners.min(axis=1), corners.max(axis=1)
    whole = (last - first).prod(axis=1)
    first, last = first.clip(0, high - low), last.clip(0, high - low)
    seen = (last - first).prod(axis=1)
    kept = (last - first).min(axis=1) >= SMALLEST_PX["modern"]
    kept &= sample.ignore | (
        seen >= settings.keep * whole
    )  # what shows of an ignored region is still ignored
    boxes = np.concatenate((first + low, last + low), axis=1)[kept] / np.tile(size, 2)
    return boxes.astype(np.float32), sample.labels[kept], sample.ignore[kept]


def _focus(sample: Sample, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """One of the objects to learn, (4,) xyxy 0..1; None where there is none."""
    candidates = np.flatnonzero(~sample.ignore & (sample.boxes[:, 2:] > sample.boxes[:, :2]).all(1))
    return sample.boxes[rng.choice(candidates)] if len(candidates) else None


def _zoom(box: NDArray[np.floating], settings: Augmentation, rng: np.random.Generator) -> float:
    """The factor that gives `box` (4,) xyxy px a random size within `focus_px`."""
    low, high = settings.focus_px
    wanted = math.exp(rng.uniform(math.log(low), math.log(high)))
    return min(max(wanted / math.sqrt((box[2:] - box[:2]).prod()), 1 / ZOOM), ZOOM)


def _mean_colour(image: NDArray[np.uint8]) -> tuple[float, ...]:
    return tuple(round(v) for v in cv2.mean(image)[:3])


def draw_colours(settings: Augmentation, rng: np.random.Generator) -> tuple[float, float, float]:
    """Shift of the hue in OpenCV's units (180 to the circle), factors of saturation and value."""
    hue = 179 * rng.uniform(-1, 1) * settings.hue
    factors = [
        rng.uniform(1, largest) ** (1 if rng.random() < 0.5 else -1)
        for largest in (settings.saturation, settings.exposure)
    ]
    return hue, *factors  # type: ignore[return-value]


def recolour(
    image: NDArray[np.uint8], hue: float, saturation: float, value: float, wrap: bool
) -> NDArray[np.uint8]:
    """Hue shifted, saturation and value scaled; `wrap`: a hue below 0 goes round the circle."""
    if hue == 0 and saturation == 1 and value == 1:
        return image
    levels = np.arange(256)
    table = np.stack((levels + hue, levels * saturation, levels * value), axis=-1)
    if wrap:
        table[:, 0] %= 180
    table = table.round().clip(0, 255).astype(np.uint8)[None]
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def make_batch(samples: Sequence[Sample], indices: Sequence[int] | NDArray[np.integer]) -> Batch:
    """Samples of one size and their rows in the Dataset -> Batch."""
    boxes = xyxy_to_cxcywh(np.concatenate([s.boxes for s in samples]).astype(np.float32))
    picture = np.repeat(np.arange(len(samples)), [len(s.boxes) for s in samples])
    return Batch(
        images=torch.from_numpy(np.stack([s.image for s in samples])),
        boxes=torch.from_numpy(boxes),
        labels=torch.from_numpy(np.concatenate([s.labels for s in samples]).astype(np.int64)),
        picture=torch.from_numpy(picture.astype(np.int64)),
        ignore=torch.from_numpy(np.concatenate([s.ignore for s in samples])),
        indices=torch.from_numpy(np.array(indices, np.int64)),
    )
