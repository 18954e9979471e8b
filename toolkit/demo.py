"""The main job on one page: networks, detections, exports and the proof that they agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit import viz
from toolkit.detect import Image, Settings, annotate, save_image
from toolkit.detect import run as run_detector
from toolkit.export import export_model, open_export, parity, probe_input
from toolkit.faces import cut
from toolkit.models import create_model, list_models
from toolkit.models.blocks import ConvBNAct
from toolkit.models.cost import measure
from toolkit.models.detector import Detector, calibrate
from toolkit.runtime import InputError, fast, seed_everything


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


def run(output: Path) -> dict[str, Any]:
    """Write pictures, exports and parity of some networks into `output`; -> the figures.

    Where the published weights cannot be had, this is said once, and untrained networks take their place.
    """
    names = ["nano-coco", "yoloface-500k-v2"] if fast() else ["nano-coco", "fastest-v2", "yoloface-500k-v2"]
    formats = ("onnx", "ncnn", "ncnn-fp16")
    results: dict[str, Any] = {"networks": {}, "exports": {}}
    for name in list_models():
        cost = measure(create_model(name))
        results["networks"][name] = {"params": cost.params, "bflops": cost.bflops}
        print(f"{name:18} {cost.params:>10,} parameters {cost.bflops:6.3f} BFLOPs", file=sys.stderr)

    pictures = photographs()
    told = False
    gallery: list[tuple[np.ndarray, str]] = []
    for name in names:
        try:
            model: Detector = create_model(name, "published")
        except InputError as error:
            if not told:
                print(
                    f"{error}; the demo goes on with untrained networks and shows no detections",
                    file=sys.stderr,
                )
                told = True
            model = untrained(name)
        else:
            found = list(run_detector(model, pictures.values(), Settings(conf=0.3)))
            drawn = [annotate(i, b, model.io) for i, b in zip(pictures.values(), found, strict=True)]
            for title, picture in zip(pictures, drawn, strict=True):
                save_image(output / "detections" / name / f"{title}.jpg", picture)
            results["networks"][name]["detections"] = {
                title: len(b.scores) for title, b in zip(pictures, found, strict=True)
            }
            image, surest = max(
                zip(pictures.values(), found, strict=True), key=lambda pair: pair[1].scores.max(initial=0)
            )
            shown = (image, surest.boxes, surest.class_ids, surest.scores, model.io.classes)
            gallery.append((viz.draw_boxes(*shown, scale=2), name))
        folder = output / name
        results["exports"][name] = export_model(model, folder, formats, name=name)
        for fmt in formats:
            compared = parity.compare(model, open_export(folder, fmt), probe_input(model.io), ("torch", fmt))
            parity.picture(compared, 1e-5).savefig(folder / f"parity-{fmt}.png")
            print(
                f"{name:18} {fmt:10} differs from torch by {compared.relative:.1e} of the largest output",
                file=sys.stderr,
            )
    if gallery:
        images, titles = zip(*gallery, strict=True)
        viz.image_grid(images, titles, cell=3.2).savefig(output / "detections.png")
    figure = viz.bars(
        list(results["networks"]),
        [v["bflops"] for v in results["networks"].values()],
        xlabel="BFLOPs (darknet's count)",
        title="Cost of the networks",
    )
    figure.savefig(output / "cost.png")
    return results
