"""Pictures of a training: batches, assigned anchors, curves, detections."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

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
from toolkit.tables import Shown
from toolkit.training.assign import yolo_layers
from toolkit.training.loader import BatchMaker, PictureCache, batches, network_input
from toolkit.training.losses.modern import answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History: TypeAlias = list[dict[str, float]]  # an entry for each validation

PLAIN = Augmentation()
PARTS = ("box", "objectness", "classes", "distill")  # of the loss, in an entry of the history


def first_batch(
    dataset: Dataset,
    size: tuple[int, int],
    settings: Augmentation = PLAIN,
    count: int = 6,
    seed: int = 0,
    fit: str = "stretch",
) -> Batch:
    """The first pictures of a training, as the network sees them.

    Args:
        dataset: pictures to train on.
        size: network input (w, h) px.
        settings: augmentation; none unless named.
        count: pictures.
        seed: of the training.
        fit: "stretch" or "letterbox", as the network's io says.

    Returns:
        A batch of `count` pictures with their boxes.

    Raises:
        InputError: for a picture that is missing or does not decode.
    """
    cache = PictureCache(dataset, max(size))
    maker = BatchMaker(dataset, cache, seed, fit)
    stream = batches(maker, count, lambda _: size, lambda _: settings, 0, 1)
    try:
        return next(stream)
    finally:
        stream.close()


def batch_grid(batch: Batch, classes: tuple[str, ...], title: str = "") -> Figure:
    """The pictures of a batch in one row, with their labels drawn.

    Args:
        batch: of a training.
        classes: names of the labels.
        title: above the row.

    Returns:
        A matplotlib figure.
    """
    boxes, owners = _pixels(batch), batch.picture.numpy()
    pictures = [
        viz.draw_boxes(image, boxes[owners == i], batch.labels.numpy()[owners == i], None, classes, scale=2)
        for i, image in enumerate(batch.images.numpy())
    ]
    return viz.image_grid(pictures, columns=len(pictures), title=title, cell=2.2)


def answer_grid(model: Detector, batch: Batch, rules: tuple[str, ...]) -> Figure:
    """Which anchors answer for each object under several rules of assignment.

    Args:
        model: a detector made from a spec or a darknet cfg.
        batch: pictures with boxes at the network's input size.
        rules: of toolkit.training.losses.modern.answers: "seed", "anchor", "simota" or "tal".

    Returns:
        A matplotlib figure, a row for each rule and a column for each picture: objects green, the anchors
        that answer for them orange, in their own size and place.

    Raises:
        InputError: for an unknown rule.
    """
    with evaluating(model), torch.no_grad():
        maps = model(network_input(batch.images, model.io))
    truths, owners = _pixels(batch), batch.picture.numpy()
    pictures, titles = [], []
    for rule in rules:
        chosen = answers(maps, batch.boxes, batch.labels, batch.picture, model.io, rule, yolo_layers(model))
        chosen_heads = [(answer, model.io.heads[answer.head]) for answer in chosen]
        cells = [[(a.column + 0.5) * h.stride, (a.row + 0.5) * h.stride] for a, h in chosen_heads]
        centres = np.reshape(cells, (-1, 2))
        halves = np.reshape([h.anchors[a.anchor] for a, h in chosen_heads], (-1, 2)) / 2
        anchors = np.concatenate([centres - halves, centres + halves], 1).astype(np.float32)
        picture = owners[[answer.truth for answer in chosen]]
        for i, image in enumerate(batch.images.numpy()):
            answering, objects = anchors[picture == i], truths[owners == i]
            colours = np.repeat([1, 2], [len(answering), len(objects)])
            pictures.append(viz.draw_boxes(image, np.concatenate([answering, objects]), colours))
            titles.append(f"{rule}: {len(answering)} for {len(objects)}")
    return viz.image_grid(pictures, titles, len(batch.images))


def curve(history: History, names: tuple[str, ...] = ("map50",), ylabel: str = "mAP50") -> Figure:
    """Figures of a run over its steps.

    Args:
        history: entries of metrics.jsonl, at least one.
        names: keys of the entries; those that the history lacks are left out.
        ylabel: name of the axis.

    Returns:
        A matplotlib figure with a line for each name.
    """
    steps = [entry["step"] for entry in history]
    lines = {n: (steps, [entry[n] for entry in history]) for n in names if n in history[0]}
    return viz.curves(lines, "step", ylabel)


@dataclass(frozen=True, eq=False)
class RunHistory(Shown):
    """The validations of a run.

    Attributes:
        entries: of metrics.jsonl, at least one.
        metric: name of the score in them.
        sign: 1 where a higher score is better, else -1.
    """

    entries: History
    metric: str = "map50"
    sign: int = 1

    @classmethod
    def read(cls, folder: str | Path, metric: str = "map50", sign: int = 1) -> RunHistory | None:
        """Of a run's folder; None before its first validation."""
        file = Path(folder) / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.is_file() else []
        return cls([json.loads(line) for line in lines], metric, sign) if lines else None

    @property
    def best(self) -> int:
        """Index of the validation whose weights are kept: the first of the best."""
        return int(np.argmax([self.sign * entry[self.metric] for entry in self.entries]))

    def _parts(self) -> list[str]:
        return [name for name in PARTS if name in self.entries[0]]

    def columns(self) -> dict[str, list[str]]:
        """A row for each validation."""
        columns = {
            "step": [f"{entry['step']:,.0f}" for entry in self.entries],
            self.metric: [f"{entry[self.metric]:.4f}" for entry in self.entries],
            "loss": [f"{entry['loss']:.3f}" for entry in self.entries],
        }
        for name in self._parts():
            columns[f"loss: {name}"] = [f"{entry[name]:.3f}" for entry in self.entries]
        return columns | {"learning rate": [f"{entry['learning_rate']:.2g}" for entry in self.entries]}

    def strong(self) -> str:
        """The best validation."""
        return self.columns()["step"][self.best]

    def figure(self) -> Figure:
        """Score and parts of the loss; the title says where the best validation is."""
        steps, best = [entry["step"] for entry in self.entries], self.entries[self.best]
        parts = {name: [entry[name] for entry in self.entries] for name in self._parts()}
        scores = [entry[self.metric] for entry in self.entries]
        last = self.best == len(steps) - 1
        place = "the last validation" if last else f"step {best['step']:,.0f} of {steps[-1]:,.0f}"
        title = f"Best {self.metric} {best[self.metric]:.4f}, at {place}"
        return viz.validations(steps, scores, self.best, parts, self.metric, title)


def found_grid(model: Detector, dataset: Dataset, count: int = 6) -> Figure:
    """Labels and detections of a few pictures.

    Args:
        model: a torch detector.
        dataset: pictures, from which `count` are taken at equal distances.
        count: pictures.

    Returns:
        A matplotlib figure: labels in the upper row, detections with a score of .25 or more in the lower.

    Raises:
        InputError: for a picture that does not decode.
    """
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    images = [load_image(dataset.path(i)) for i in chosen]
    labelled = [
        viz.draw_boxes(image, dataset.boxes[rows], dataset.labels[rows], None, dataset.classes, scale=2)
        for image, rows in zip(images, map(dataset.rows, chosen), strict=True)
    ]
    settings = DetectSettings(conf=0.25)
    found = list(run(model, images, settings))
    detected = [
        viz.draw_boxes(image, boxes.boxes, boxes.class_ids, boxes.scores, model.io.classes, scale=2)
        for image, boxes in zip(images, found, strict=True)
    ]
    titles = ["labelled"] * len(images)
    titles += [f"above {settings.conf:g}: {len(boxes.scores)}" for boxes in found]
    return viz.image_grid(labelled + detected, titles, len(images))


def draw_run(folder: Path, history: History, model: Detector, dataset: Dataset) -> None:
    """curves.png and losses.png from the history; pictures.png, detections in the data set."""
    curve(history).savefig(folder / "curves.png")
    curve(history, PARTS, "loss per object").savefig(folder / "losses.png")
    found_grid(model, dataset).savefig(folder / "pictures.png")


def _pixels(batch: Batch) -> NDArray[np.float32]:
    """Boxes xyxy in pixels of the input."""
    height, width = batch.images.shape[1:3]
    sides = np.array([width, height] * 2, np.float32)
    return np.asarray(cxcywh_to_xyxy(batch.boxes.numpy()) * sides, np.float32)
