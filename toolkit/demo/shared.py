"""What the stages of the demo share: its size, and the files that one stage writes for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit import viz
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run as run_detector
from toolkit.models.network import Detecting
from toolkit.page import Table
from toolkit.pictures import Image, load_image
from toolkit.runtime import fast
from toolkit.text import read_json

SEED = 0
NETWORK = "fastest-v2"
# Files of one stage that others read.
TOY, CURATED, ANCHORS = "toy/data", "curate/curated", "anchors/anchors.json"
BEST, SCORES, EXPORTED = "train/best.pt", "evaluate/scores.json", "export/network"
DETECTIONS = "evaluate/detections.png"


@dataclass(frozen=True)
class Scale:
    """How large the demo is."""

    pictures: int  # of the toy set
    side: int  # of a picture, px
    classes: int
    budget: Mapping[str, float]  # of each cell of the study
    levers: Mapping[str, float]  # changes to the training recipe
    validations: int  # during training
    calibration: int  # pictures for int8
    rounds: int  # of interleaved timing of all formats
    loops: int  # of timing the runner


FULL = Scale(
    pictures=1000, side=160, classes=10, budget={"epochs": 4}, levers={}, validations=10,
    calibration=200, rounds=30, loops=200,
)  # fmt: skip
FAST = Scale(
    pictures=200, side=96, classes=3, budget={"steps": 12}, levers={"epochs": 20, "batch": 8}, validations=4,
    calibration=24, rounds=5, loops=20,
)  # fmt: skip


def scale() -> Scale:
    """The small demo with TOOLKIT_FAST=1, otherwise the full one."""
    return FAST if fast() else FULL


def curated_data(output: Path) -> Dataset:
    """The curated set, or the toy set itself if curation was skipped."""
    return load(output / CURATED if (output / CURATED).is_dir() else output / TOY)


def picture_paths(dataset: Dataset, count: int) -> list[Path]:
    """Paths of `count` pictures, evenly distributed over the set."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    return [dataset.path(int(i)) for i in chosen]


def sample(dataset: Dataset, count: int) -> list[Image]:
    """`count` pictures, evenly distributed over the set."""
    return [load_image(path) for path in picture_paths(dataset, count)]


def draw_detections(
    backend: Detecting, images: Sequence[Image], conf: float, file: Path, columns: int, scale: float = 2
) -> list[int]:
    """Draw a network's detections above `conf` on pictures into one PNG file; return how many each has."""
    boxes = list(run_detector(backend, images, DetectSettings(conf=conf)))
    drawings = [
        viz.draw_boxes(image, b.boxes, b.class_ids, b.scores, backend.io.classes, scale=scale)
        for image, b in zip(images, boxes, strict=True)
    ]
    viz.image_grid(drawings, columns=columns, cell=2.4).savefig(file)
    return [len(b.scores) for b in boxes]


def right_and_wrong(output: Path) -> str:
    """How many of the network's detections are right, for the captions of its pictures."""
    if not (output / SCORES).exists():
        return "detections, right and wrong"
    point = read_json(output / SCORES)["operating_point"]
    return (
        f"detections above {point['threshold']:.2f}, of which {100 * point['precision']:.0f} % are right; "
        f"{100 * point['recall']:.0f} % of the objects are found"
    )


def facts_table(title: str, file: str, facts: Mapping[str, str]) -> Table:
    return Table(title, file, {"figure": list(facts), "value": list(facts.values())})
