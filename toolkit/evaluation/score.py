"""A network scored on a data set by a named protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from toolkit import viz
from toolkit.data.catalog import locate
from toolkit.data.class_names import compare_classes
from toolkit.data.dataset import Dataset
from toolkit.data.intake import Faults, Skipped
from toolkit.data.readable import readable_part
from toolkit.evaluation import failures, widerface
from toolkit.evaluation.average_precision import MapScores, darknet, voc
from toolkit.evaluation.coco import CocoScores, coco
from toolkit.evaluation.columns import Bools, Detections, Truth
from toolkit.evaluation.matching import Matches, match
from toolkit.evaluation.operating import OperatingPoint
from toolkit.evaluation.paired import Figures
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.models.io import ModelIO
from toolkit.models.network import Detecting
from toolkit.moved import callable_as
from toolkit.runtime import InputError, progress
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

S = TypeVar("S")
# What the published scores were made with: no threshold to speak of, boxes as the network gives them.
PUBLISHED = DetectSettings(conf=0.005, iou=0.45, clip=False)
# The detections that each protocol takes: darknet writes those for VOC and COCO clipped to the picture, and
# its own `detector map` and the scripts for WIDER FACE do not clip.
PROTOCOLS = {
    "coco": replace(PUBLISHED, clip=True),
    "voc": replace(PUBLISHED, clip=True),
    "darknet": replace(PUBLISHED, resize="darknet"),
    "widerface": PUBLISHED,
}
# `DetectSettings.long_side` for the network's own input, a long side of 640 px, or each picture's size.
WIDER_INPUTS = {"own": None, "640": 640, "original": 0}


def input_choices(io: ModelIO, settings: DetectSettings) -> dict[str, Any]:
    """What a score depends on beside the network, the data and the protocol, by name: network input, resize
    and fit, clipping, threshold, and NMS."""
    width, height = settings.size or io.input_size
    own = settings.long_side is None
    side = f"{settings.long_side} px" if settings.long_side else "of the picture"
    return {
        "input_size": f"{width}x{height}" if own else f"long side {side}, padded",
        "fit": (settings.fit or io.fit) if own else "proportions of the picture",
        "resize": settings.resize,
        "clip": settings.clip,
        "conf": settings.conf,
        "nms": settings.nms,
        "nms_iou": settings.iou,
    }


def predict(
    model: Detecting,
    dataset: Dataset,
    settings: DetectSettings = PUBLISHED,
    batch: int = 8,
    unreadable: dict[int, str] | None = None,
) -> Detections:
    """Detections of every picture of a data set.

    Reading, resizing and decoding overlap with the network.

    Args:
        model: on any engine.
        dataset: pictures; labels are not used.
        settings: of the detector.
        batch: pictures in one call of the network.
        unreadable: pictures that do not decode are entered here, as `toolkit.inference.run.run` does.

    Returns:
        Columns of detections, class ids by name in the order of `dataset.classes`.

    Raises:
        InputError: a picture does not decode (unless `unreadable` is given), or network and data set share no
            class.
    """
    paths = [dataset.path(i) for i in range(len(dataset))]
    detections = progress(run(model, paths, settings, batch, unreadable), "detecting", len(paths))
    columns = Detections.from_pictures((b.boxes, b.scores, b.class_ids) for b in detections)
    return columns.by_name(model.io.classes, dataset.classes)


def predict_readable(
    model: Detecting, dataset: Dataset, settings: DetectSettings, faults: Faults
) -> tuple[Dataset, Detections, tuple[Skipped, ...]]:
    """The pictures that decode, their detections, and the pictures left out with their labels: none with the
    faults "refuse", which raises InputError at the first, as where none decodes."""
    unreadable: dict[int, str] | None = None if faults == "refuse" else {}
    detections = predict(model, dataset, settings, unreadable=unreadable)
    part, skipped = readable_part(dataset, unreadable or {})
    if skipped:
        kept = np.setdiff1d(np.arange(len(dataset)), list(unreadable or {}))
        detections = replace(detections, images=np.searchsorted(kept, detections.images))
    return part, detections, skipped


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


@dataclass(frozen=True, eq=False)
class Evaluation(Generic[S]):
    """A network's detections on a data set beside its labels, and the scores of a protocol."""

    dataset: Dataset
    truth: Truth
    detections: Detections
    scores: S
    skipped: tuple[Skipped, ...] = ()  # pictures that do not decode; their labels count nowhere
    notes: tuple[str, ...] = ()  # classes of the network and of the data set that do not match by name

    @cached_property
    def matches(self) -> Matches:
        """Detections paired with objects, for operating points and pictures."""
        return match(self.truth, self.detections)

    def draw(self, folder: Path, point: OperatingPoint) -> None:
        """Pictures of precision and recall, confusion and failures at an operating point."""
        failures.draw(folder, self.dataset, self.detections, self.matches, point)


def evaluate_by(
    protocol: Callable[[Truth, Detections], S],
    model: Detecting,
    dataset: Dataset,
    settings: DetectSettings = PUBLISHED,
    faults: Faults = "refuse",
) -> Evaluation[S]:
    """Predict, and compare with the labels by a protocol such as `coco`, `voc` or `darknet`.

    With the faults "skip", pictures that do not decode are left out and listed in `Evaluation.skipped`.
    Raises InputError where the data set has no pictures, one does not decode, or no class is shared.
    """
    if not len(dataset):
        raise InputError("this part of the data set has no pictures: there is nothing to evaluate")
    part, detections, skipped = predict_readable(model, dataset, settings, faults)
    truth = Truth.from_dataset(part)
    notes = tuple(compare_classes(model.io.classes, part.classes).sentences())
    return Evaluation(part, truth, detections, protocol(truth, detections), skipped, notes)


@dataclass(frozen=True, eq=False)
class Protocols(Shown):
    """One network's detections scored by the protocols of published tables."""

    truth: Truth
    detections: Detections
    coco: CocoScores
    voc: MapScores
    voc07: MapScores  # VOC2007's eleven points
    darknet: MapScores  # with darknet's own resize, boxes not clipped
    darknet_same: MapScores  # darknet's rules on `detections`

    def columns(self) -> dict[str, list[str]]:
        """A row for each figure, and what it depends on."""
        empty = sum(not c.truths for c in self.voc.per_class)
        dropped = f"difficult objects left out, {empty} empty classes as 0; its own resize"
        clipped = "its rules on the detections of the rows above, which are clipped"
        rows = [
            ("COCO AP", self.coco.ap, "mean over IoU .50, .55, ... .95: needs exact boxes"),
            ("COCO AP50", self.coco.ap50, "at 101 recalls, at most 100 detections per picture"),
            ("VOC AP50", self.voc.map, "exact area, all detections, difficult objects ignored"),
            ("VOC2007 AP50", self.voc07.map, "the same curves at 11 recalls"),
            ("darknet mAP50", self.darknet.map, dropped),
            ("darknet, same boxes", self.darknet_same.map, clipped),
        ]
        figures, values, details = zip(*rows, strict=True)
        return {"figure": list(figures), "value": [f"{v:.4f}" for v in values], "details": list(details)}

    def figure(self) -> Figure:
        """Bars of the figures."""
        columns = self.columns()
        values = [float(value) for value in columns["value"]]
        title = f"The five figures at IoU .5 differ by up to {max(values[1:]) - min(values[1:]):.3f}"
        return viz.bars(columns["figure"], values, title=title, form="{:.3f}")


def score_by_all(model: Detecting, dataset: Dataset, conf: float = PUBLISHED.conf) -> Protocols:
    """Score a network by COCO's, VOC's and darknet's protocols.

    Args:
        model: on any engine.
        dataset: labelled pictures.
        conf: least score of a detection.

    Raises:
        InputError: as `predict`, or there is nothing to find.
    """
    truth = Truth.from_dataset(dataset)
    detections = predict(model, dataset, replace(PROTOCOLS["voc"], conf=conf))
    own = predict(model, dataset, replace(PROTOCOLS["darknet"], conf=conf))
    return Protocols(
        truth=truth,
        detections=detections,
        coco=coco(truth, detections),
        voc=voc(truth, detections),
        voc07=voc(truth, detections, points="11"),
        darknet=darknet(truth, own),
        darknet_same=darknet(truth, detections),
    )


@dataclass(frozen=True, eq=False)
class WiderEvaluation:
    """Detections of faces next to WIDER FACE's ground truth, and their scores."""

    truth: widerface.WiderTruth
    detections: Detections
    scores: widerface.WiderScores
    seconds: float  # of scoring, without the network
    skipped: tuple[Skipped, ...] = ()  # pictures that do not decode; their faces count nowhere

    def draw(self, folder: Path) -> None:
        """A picture of precision and recall."""
        folder.mkdir(parents=True, exist_ok=True)
        viz.precision_recall(self.scores.curves).savefig(folder / "precision_recall.png")


def evaluate_widerface(
    source: Detecting | Path,
    dataset: Dataset,
    name: str,
    settings: DetectSettings = PUBLISHED,
    network_input: str = "own",
    faults: Faults = "refuse",
) -> WiderEvaluation:
    """Score faces by WIDER FACE's official protocol.

    Args:
        source: a detector, or a folder of score files in the official layout.
        dataset: pictures of WIDER FACE, reduced or not.
        name: of the data set, whose folder has the ground truth in `eval_gt`.
        settings: of the detector.
        network_input: a key of `WIDER_INPUTS`.
        faults: what a picture that does not decode is: as of `evaluate_by`.

    Raises:
        InputError: the input is unknown, settings contradict it, or ground truth or score files are missing.
    """
    if network_input not in WIDER_INPUTS:
        raise InputError(f"the input is one of {', '.join(WIDER_INPUTS)}, not {network_input!r}")
    if WIDER_INPUTS[network_input] is not None and (settings.size or settings.fit):
        raise InputError(
            f"the input {network_input!r} has size and proportions of the picture: leave out --size and --fit"
        )
    truth = wider_truth(name, dataset)
    skipped: tuple[Skipped, ...] = ()
    if isinstance(source, Path):
        detections = widerface.read_detections(source, truth)
    else:
        settings = replace(settings, long_side=WIDER_INPUTS[network_input])
        part, detections, skipped = predict_readable(source, dataset, settings, faults)
        detections = in_originals(detections, part)
        truth = wider_truth(name, part) if skipped else truth
    begin = perf_counter()
    scores = widerface.evaluate(truth, detections)
    return WiderEvaluation(truth, detections, scores, perf_counter() - begin, skipped)


def evaluate(
    model: Detecting, dataset: Dataset, metric: str, name: str = "", size: tuple[int, int] | None = None
) -> Figures:
    """The figures by which networks are compared, and `Figures.minus` to compare them.

    Args:
        model: a detector on any engine.
        dataset: labelled pictures.
        metric: a key of `PROTOCOLS`: "coco" for AP and AP50; "voc" and "darknet" for mAP50 in points;
            "widerface" for easy, medium and hard.
        name: of the data set, for WIDER FACE.
        size: network input (w, h), the network's own unless given.

    Returns:
        Figure -> value.

    Raises:
        InputError: the metric is unknown, or as `evaluate_by`.
    """
    if metric not in PROTOCOLS:
        raise InputError(f"the metric is one of {', '.join(PROTOCOLS)}, not {metric!r}")
    settings = replace(PROTOCOLS[metric], size=size)
    if metric == "widerface":
        faces = evaluate_widerface(model, dataset, name, settings)
        verdicts = widerface.judge(faces.truth, faces.detections)
        return Figures(len(faces.truth), partial(_wider_figures, verdicts), 100)
    evaluation = evaluate_by(partial(_figures, metric), model, dataset, settings)
    points = 100 if metric == "coco" else 1
    return Figures(len(dataset), partial(_figures_of_part, metric, evaluation), points)


def _wider_figures(verdicts: widerface.Verdicts, kept: Bools) -> dict[str, float]:
    levels = widerface.score(verdicts, kept.astype(np.int64))
    return {level: getattr(levels, level) for level in widerface.SETTINGS}


def _figures(metric: str, truth: Truth, detections: Detections) -> dict[str, float]:
    if metric == "coco":
        scores = coco(truth, detections)
        return {"AP": float(scores.ap), "AP50": float(scores.ap50)}
    return {"mAP50": 100 * (voc if metric == "voc" else darknet)(truth, detections).map}


def _figures_of_part(metric: str, evaluation: Evaluation[dict[str, float]], kept: Bools) -> dict[str, float]:
    if kept.all():
        return evaluation.scores
    part = Truth.from_dataset(evaluation.dataset.subset(np.flatnonzero(kept)))
    detections = evaluation.detections.select(kept[evaluation.detections.images])
    return _figures(metric, part, replace(detections, images=np.cumsum(kept)[detections.images] - 1))


callable_as(__name__, "evaluate")  # toolkit.evaluation.score(...) of version 0.1
