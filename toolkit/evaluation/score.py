"""A network scored on a data set by a named protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from toolkit.data.catalog import locate
from toolkit.data.dataset import Dataset
from toolkit.evaluation import widerface
from toolkit.evaluation.average_precision import darknet, voc
from toolkit.evaluation.coco import coco
from toolkit.evaluation.columns import Detections, Truth
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.models.network import Detecting
from toolkit.moved import callable_as
from toolkit.runtime import InputError, progress

# What the published scores were made with: no threshold to speak of, boxes as the network gives them.
PUBLISHED = DetectSettings(conf=0.005, iou=0.45, clip=False)
METRICS = ("coco", "voc", "darknet", "widerface")


def predict(
    model: Detecting, dataset: Dataset, settings: DetectSettings = PUBLISHED, batch: int = 8
) -> Detections:
    """Detections of every picture of `dataset`, class ids by name in the order of `dataset.classes`.

    Reading, resizing and decoding overlap with the network. Raises InputError where a picture does not decode
    or network and data set share no class.
    """
    paths = [dataset.path(i) for i in range(len(dataset))]
    found = progress(run(model, paths, settings, batch), "detecting", len(paths))
    columns = Detections.from_pictures((b.boxes, b.scores, b.class_ids) for b in found)
    return columns.by_name(model.io.classes, dataset.classes)


def wider_truth(name: str, dataset: Dataset) -> widerface.WiderTruth:
    """The official ground truth of these pictures: `eval_gt` in the folder of the data set `name`."""
    folder = Path(name) if Path(name).is_dir() else locate(name)
    if folder is None or not (folder / "eval_gt").is_dir():
        raise InputError(f"{folder} has no eval_gt: WIDER FACE's evaluation toolbox holds it as ground_truth")
    truth = widerface.read_truth(folder / "eval_gt")
    return truth.subset([_event_and_name(file) for file in dataset.files])


def _event_and_name(file: str) -> str:
    return "/".join(file.split("/")[-2:])


def in_originals(detections: Detections, dataset: Dataset) -> Detections:
    """Boxes in the pixels of the original pictures, where `dataset` holds reduced ones."""
    scale = np.tile(dataset.original_scale(), 2)[detections.images]
    return replace(detections, boxes=(detections.boxes * scale).astype(np.float32))


def evaluate(
    model: Detecting, dataset: Dataset, metric: str, name: str = "", size: tuple[int, int] | None = None
) -> dict[str, float]:
    """The figures by which networks are compared: "coco" -> AP, AP50; "voc" and "darknet" -> mAP50 in points
    (difficult objects left out); "widerface" -> easy, medium, hard, with `name` the data set's. `size`:
    network input (w, h), the network's own unless given."""
    if metric not in METRICS:
        raise InputError(f"the metric is one of {', '.join(METRICS)}, not {metric!r}")
    settings = replace(PUBLISHED, size=size, resize="darknet" if metric == "darknet" else "bilinear")
    if metric == "widerface":
        found = in_originals(predict(model, dataset, settings), dataset)
        scores = widerface.evaluate(wider_truth(name, dataset), found)
        return {level: getattr(scores, level) for level in widerface.SETTINGS}
    truth, found = Truth.from_dataset(dataset), predict(model, dataset, settings)
    if metric == "coco":
        result = coco(truth, found)
        return {"AP": float(result.ap), "AP50": float(result.ap50)}
    answer = voc(truth, found) if metric == "voc" else darknet(truth, found, difficult="dropped")
    return {"mAP50": 100 * answer.map}


callable_as(__name__, "evaluate")  # toolkit.evaluation.score(...) of version 0.1
