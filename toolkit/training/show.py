"""Pictures of a training: what the network is shown, who answers for what, curves, what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit import viz
from toolkit.boxes import cxcywh_to_xyxy
from toolkit.data.augment import Augmentation, Batch
from toolkit.data.dataset import Dataset
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.models.detector import Detector
from toolkit.models.network import evaluating
from toolkit.pictures import load_image
from toolkit.training.assign import yolo_layers
from toolkit.training.loader import BatchMaker, PictureCache, batches
from toolkit.training.losses.modern import answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = Augmentation()
PARTS = ("box", "objectness", "classes", "distill")  # of the loss, in an entry of the history


def first_batch(
    dataset: Dataset,
    size: tuple[int, int],
    settings: Augmentation = PLAIN,
    count: int = 6,
    seed: int = 0,
) -> Batch:
    """The first `count` pictures of a training with this seed, at the network's input `size` (w, h)."""
    cache = PictureCache(dataset, max(size))
    maker = BatchMaker(dataset, cache, seed)
    stream = batches(maker, count, lambda _: size, lambda _: settings, 0, 1)
    try:
        return next(stream)
    finally:
        stream.close()  # type: ignore[attr-defined]


def batch_grid(batch: Batch, classes: tuple[str, ...], title: str = "") -> Figure:
    """A batch's pictures in one row, with their truths."""
    boxes, owners = _pixels(batch), batch.picture.numpy()
    drawn = [
        viz.draw_boxes(image, boxes[owners == i], batch.labels.numpy()[owners == i], None, classes, scale=2)
        for i, image in enumerate(batch.images.numpy())
    ]
    return viz.image_grid(drawn, columns=len(drawn), title=title, cell=2.2)


def answer_grid(model: Detector, batch: Batch, rules: tuple[str, ...]) -> Figure:
    """Which anchors answer for each truth (green) by each of the `rules` of toolkit.training.modern.answers:
    orange, with their own size, where they stand. A row for each rule, a column for each picture."""
    with evaluating(model), torch.no_grad():
        maps = model((batch.images.float() / 255).permute(0, 3, 1, 2))
    truths, owners = _pixels(batch), batch.picture.numpy()
    drawn, titles = [], []
    for rule in rules:
        chosen = answers(maps, batch.boxes, batch.labels, batch.picture, model.io, rule, yolo_layers(model))
        chosen_heads = [(answer, model.io.heads[answer.head]) for answer in chosen]
        cells = [[(a.column + 0.5) * h.stride, (a.row + 0.5) * h.stride] for a, h in chosen_heads]
        centres = np.reshape(cells, (-1, 2))
        halves = np.reshape([h.anchors[a.anchor] for a, h in chosen_heads], (-1, 2)) / 2
        anchors = np.concatenate([centres - halves, centres + halves], 1).astype(np.float32)
        picture = owners[[answer.truth for answer in chosen]]
        for i, image in enumerate(batch.images.numpy()):
            mine, objects = anchors[picture == i], truths[owners == i]
            colours = np.repeat([1, 2], [len(mine), len(objects)])
            drawn.append(viz.draw_boxes(image, np.concatenate([mine, objects]), colours))
            titles.append(f"{rule}: {len(mine)} for {len(objects)}")
    return viz.image_grid(drawn, titles, len(batch.images))


def curve(
    history: list[dict[str, Any]], names: tuple[str, ...] = ("map50",), ylabel: str = "mAP50"
) -> Figure:
    """Entries of a run's history over its steps; names that it does not have are left out."""
    steps = [entry["step"] for entry in history]
    lines = {n: (steps, [entry[n] for entry in history]) for n in names if n in history[0]}
    return viz.curves(lines, "step", ylabel)


def found_grid(model: Detector, dataset: Dataset, count: int = 6) -> Figure:
    """What is labelled in a few pictures of the set and, below, what the network finds with a score of .25 or
    more."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    images = [load_image(dataset.path(i)) for i in chosen]
    labelled = [
        viz.draw_boxes(image, dataset.boxes[rows], dataset.labels[rows], None, dataset.classes, scale=2)
        for image, rows in zip(images, map(dataset.rows, chosen), strict=True)
    ]
    found = [
        viz.draw_boxes(image, boxes.boxes, boxes.class_ids, boxes.scores, model.io.classes, scale=2)
        for image, boxes in zip(images, run(model, images, DetectSettings(conf=0.25)), strict=True)
    ]
    titles = ["labelled"] * len(images) + ["found"] * len(images)
    return viz.image_grid(labelled + found, titles, len(images))


def draw_run(folder: Path, history: list[dict[str, Any]], model: Detector, dataset: Dataset) -> None:
    """curves.png and losses.png from the history; pictures.png, what the network finds in the data set."""
    curve(history).savefig(folder / "curves.png")
    curve(history, PARTS, "loss per object").savefig(folder / "losses.png")
    found_grid(model, dataset).savefig(folder / "pictures.png")


def _pixels(batch: Batch) -> NDArray[np.float32]:
    """The truths xyxy in pixels of the input."""
    height, width = batch.images.shape[1:3]
    sides = np.array([width, height] * 2, np.float32)
    return (cxcywh_to_xyxy(batch.boxes.numpy()) * sides).astype(np.float32)
