"""Sample inputs shipped with dependencies: photographs, a synthetic clip, untrained networks."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from toolkit.faces import cut
from toolkit.models import create_model
from toolkit.models.blocks import ConvBNAct
from toolkit.models.detector import Detector, calibrate
from toolkit.pictures import Image, find_images, load_image, save_image
from toolkit.runtime import seed_everything


def photographs() -> dict[str, Image]:
    """Seven photographs that scikit-image and scikit-learn ship.

    Returns:
        Name -> RGB uint8 (H, W, 3).
    """
    from PIL import Image as pillow
    from skimage.data import astronaut, chelsea, coffee, rocket, stereo_motorcycle

    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    pictures = Path(package.origin).parent / "datasets" / "images"  # importing it takes longer than a network
    read_motorcycle: Callable[[], tuple[Image, Image, Image]] = stereo_motorcycle
    readers: dict[str, Callable[[], Image]] = {
        "astronaut": astronaut,
        "cat": chelsea,
        "coffee": coffee,
        "motorcycle": lambda: read_motorcycle()[0],
        "rocket": rocket,
    }
    return {
        **{name: read() for name, read in readers.items()},
        **{name: np.array(pillow.open(pictures / f"{name}.jpg")) for name in ("china", "flower")},
    }


def photograph_parts(folder: str | Path) -> list[Path]:
    """`photographs` and their mirror images, each cut into four, as files: pictures for calibration where
    there is no data set.

    Args:
        folder: where they are written.

    Returns:
        The files, 56 of them.
    """
    files = []
    for name, picture in photographs().items():
        for side, whole in (("", picture), ("-mirrored", picture[:, ::-1])):
            for i, part in enumerate(np.array_split(whole, 4, axis=1)):
                files.append(Path(folder, f"{name}{side}-{i}.png"))
                save_image(files[-1], np.ascontiguousarray(part))
    return files


def named_pictures(source: str = "", most: int = 24) -> dict[str, Image]:
    """Pictures of one's own by file name, or `photographs`.

    Args:
        source: a picture or folder; "" for the photographs.
        most: as many pictures at most.

    Raises:
        InputError: there is no picture, or one does not decode.

    >>> "astronaut" in named_pictures()
    True
    """
    if not source:
        return photographs()
    return {path.name: load_image(path) for path in find_images(source)[:most]}


def pan_and_zoom(image: Image, count: int = 100, size: tuple[int, int] = (640, 360)) -> list[Image]:
    """A synthetic clip of a picture: the view moves round once while it zooms out and in again.

    Args:
        image: RGB uint8 (H, W, 3).
        count: number of frames.
        size: of a frame (w, h) px.

    Returns:
        The frames, RGB uint8; grey outside the picture.

    >>> frames = pan_and_zoom(np.zeros((100, 100, 3), np.uint8), count=3, size=(64, 36))
    >>> len(frames), frames[0].shape
    (3, (36, 64, 3))
    """
    height, width = image.shape[:2]
    frames = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        side = width * (1.15 + 0.15 * np.cos(angle))
        half = np.array([side, side * size[1] / size[0]]) / 2
        centre = (width * (0.5 + 0.06 * np.sin(angle)), height * (0.5 + 0.08 * np.sin(2 * angle)))
        frames.append(cut(image, np.concatenate((centre - half, centre + half)), size))
    return frames


def untrained(name: str) -> Detector:
    """A network with random weights and batch norms calibrated on `photographs`, for checks of exports.

    Its outputs are of the usual size, but its boxes mean nothing. Shifts of 2 keep most rectifiers active, as
    training does; without them a random network amplifies rounding a hundredfold, and engines disagree.

    Args:
        name: of a network in the zoo that detects.

    Returns:
        The detector in evaluation mode, the same one for each call.
    """
    seed_everything(0)
    model = create_model(name)
    for module in model.modules():
        if isinstance(module, ConvBNAct):
            if module.norm is not None:
                torch.nn.init.constant_(module.norm.bias, 2.0)
            else:
                torch.nn.init.normal_(module.conv.weight, std=2 / module.conv.in_channels**0.5)
    return calibrate(model, list(photographs().values()))
