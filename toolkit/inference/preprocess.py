"""Picture to network input: resize (OpenCV's or darknet's), stretch or letterbox, normalise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.boxes import FITS, Placement, padded
from toolkit.inference.backend import DetectSettings
from toolkit.models.io import NetworkIO
from toolkit.pictures import Image
from toolkit.runtime import InputError


def resize_darknet(image: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """(H, W, C) float -> (height, width, C), as darknet's resize_image: bilinear with aligned corners,
    columns first, in float32."""

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
    # at the bottom edge darknet adds no lower row, even if rounding leaves a fraction
    weight = part.copy()
    weight[-1] = 0
    rows: NDArray[np.float32] = (1 - part)[:, None, None] * columns[index]
    rows += weight[:, None, None] * columns[below]
    return rows


def preprocess(
    image: Image,
    io: NetworkIO,
    settings: DetectSettings = DetectSettings(),
    out: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], Placement]:
    """Resize and normalise a picture for a network. Letterbox borders are grey (0.5), as in darknet.

    Args:
        image: RGB (H, W, 3) uint8.
        io: size, colour order and normalisation of the network input.
        settings: `resize`, `fit`, `size` and `long_side` are used.
        out: float32 (h, w, channels) memory to use for the pixels. The colours of a pixel are then adjacent,
            the memory format (channels_last) that torch's convolutions take without a copy; by default the
            result is contiguous, which every engine takes.

    Returns:
        The network input, float32 (channels, h, w), and the placement of the picture in it.

    Raises:
        InputError: `image` is not RGB uint8, or the network does not accept the size.

    >>> from toolkit.models.zoo import create_model
    >>> picture = np.zeros((100, 200, 3), np.uint8)
    >>> x, placement = preprocess(picture, create_model("fastest-v2").io, DetectSettings(fit="letterbox"))
    >>> x.shape, float(x.max()), placement.inner, placement.offset
    ((3, 320, 320), 0.5, (320, 160), (0, 80))
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"expected an RGB picture (H, W, 3) of uint8, found {image.shape} of {image.dtype}")
    source = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] if io.channels == 1 else image
    inner: NDArray[np.generic]
    own = (image.shape[1], image.shape[0])
    if settings.long_side is None:
        placement = FITS[settings.fit or io.fit](own, io.check_size(settings.size or io.input_size))
    else:
        placement = padded(own, settings.long_side or max(own), io.stride)
    outer = placement.outer
    (w, h), (x, y) = placement.inner, placement.offset
    if settings.resize == "darknet":
        inner = resize_darknet(source.astype(np.float32), w, h)
    else:
        inner = cv2.resize(source, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, -1)
    if io.channel_order == "BGR":
        inner = inner[..., ::-1]
    pixels = np.empty((outer[1], outer[0], io.channels), np.float32) if out is None else out
    if placement.inner != outer:
        pixels[:] = 127.5
    pixels[y : y + h, x : x + w] = inner
    if io.mean:
        pixels -= np.float32(io.mean)
    pixels *= np.float32(io.scale)
    chw = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(chw) if out is None else chw, placement
