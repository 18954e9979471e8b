"""From a picture to the network's input: resize (OpenCV's or darknet's), stretch or letterbox, normalise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.boxes import Placement, padded
from toolkit.inference.backend import FITS, DetectSettings
from toolkit.models.io import NetworkIO
from toolkit.pictures import Image
from toolkit.runtime import InputError


def resize_darknet(image: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(H, W, C) float -> (height, width, C), as darknet's resize_image: align-corners bilinear, columns
    first, in float32 arithmetic."""

    def taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        scale = np.float32(source - 1) / np.float32(max(target - 1, 1))
        position = np.arange(target, dtype=np.float32) * scale
        index = position.astype(np.intp)
        return index, position - index.astype(np.float32)

    h, w = image.shape[:2]
    index, part = taps(w, width)
    right = np.minimum(index + 1, w - 1)
    columns = (1 - part)[None, :, None] * image[:, index] + part[None, :, None] * image[:, right]
    columns[:, -1] = image[:, -1]
    index, part = taps(h, height)
    below = np.minimum(index + 1, h - 1)
    # darknet adds no lower row at the bottom edge, whatever the fraction that rounding leaves there
    weight = part.copy()
    weight[-1] = 0
    return (1 - part)[:, None, None] * columns[index] + weight[:, None, None] * columns[below]


def preprocess(
    image: Image,
    io: NetworkIO,
    settings: DetectSettings = DetectSettings(),
    out: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], Placement]:
    """RGB (H, W, 3) uint8 -> network input (3, h, w) float32, and where the picture lies in it.

    Letterbox borders are grey (0.5), as darknet's. With `out`, (h, w, 3) memory to use, the three colours of
    a pixel lie together, which torch's convolutions take without a copy (channels_last); without, each colour
    is a plane of its own, which any engine may be pointed at.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"expected an RGB picture (H, W, 3) of uint8, found {image.shape} of {image.dtype}")
    own = (image.shape[1], image.shape[0])
    if settings.long_side is None:
        placement = FITS[settings.fit](own, io.check_size(settings.size or io.input_size))
    else:
        placement = padded(own, settings.long_side or max(own), io.stride)
    outer = placement.outer
    (w, h), (x, y) = placement.inner, placement.offset
    if settings.resize == "darknet":
        inner = resize_darknet(image.astype(np.float32), w, h)
    else:
        inner = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if io.channel_order == "BGR":
        inner = inner[..., ::-1]
    pixels = np.empty((outer[1], outer[0], 3), np.float32) if out is None else out
    if placement.inner != outer:
        pixels[:] = 127.5
    pixels[y : y + h, x : x + w] = inner
    if io.mean:
        pixels -= np.float32(io.mean)
    pixels *= np.float32(io.scale)
    chw = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(chw) if out is None else chw, placement
