"""What there is to show things with where nothing else is at hand: photographs, a film, random weights."""

from __future__ import annotations

import numpy as np
import torch

from toolkit.faces import cut
from toolkit.models import create_model
from toolkit.models.blocks import ConvBNAct
from toolkit.models.detector import Detector, calibrate
from toolkit.pictures import Image
from toolkit.runtime import seed_everything


def photographs() -> dict[str, np.ndarray]:
    """RGB photographs that scikit-image and scikit-learn ship."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    return {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "motorcycle": data.stereo_motorcycle()[0],
        "rocket": data.rocket(),
        "china": china,
        "flower": flower,
    }


def pan_and_zoom(image: np.ndarray, count: int = 100, size: tuple[int, int] = (640, 360)) -> list[Image]:
    """A film of a picture: `count` frames of `size` (w, h), in which the view goes round once, draws
    away and near again, with grey around the picture."""
    height, width = image.shape[:2]
    frames = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        side = width * (1.15 + 0.15 * np.cos(angle))
        half = np.array([side, side * size[1] / size[0]]) / 2
        centre = (width * (0.5 + 0.06 * np.sin(angle)), height * (0.5 + 0.08 * np.sin(2 * angle)))
        frames.append(cut(image, np.concatenate((centre - half, centre + half)), size))
    return frames


def untrained(name: str) -> Detector:
    """A network with random weights whose batch norms have seen real pictures: its outputs are of the usual
    size, so exports can be checked, but its boxes mean nothing.

    Shifts of 2 keep most rectifiers open, as training does; without them a random network amplifies rounding
    a hundredfold, and no two engines agree about it.
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
