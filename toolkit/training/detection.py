"""Training of detectors: network, batches, losses, and validation by mAP50."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.data import anchors as anchor_tools
from toolkit.data import cards
from toolkit.data.augment import Batch
from toolkit.data.class_names import compare_classes
from toolkit.data.dataset import Dataset, match_classes
from toolkit.evaluation.coco import coco
from toolkit.evaluation.score import evaluate_by
from toolkit.inference.backend import DetectSettings
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import DetectionHead, SpecDetector
from toolkit.runtime import InputError, seed_everything
from toolkit.training.assign import yolo_layers
from toolkit.training.checkpoint import network_as, open_teacher, start_from, transfer
from toolkit.training.config import Config
from toolkit.training.darknet_norm import use_darknet_norm
from toolkit.training.distill import check_teacher, distill_loss
from toolkit.training.loader import BatchMaker, PictureCache
from toolkit.training.losses.common import Losses
from toolkit.training.losses.darknet import darknet_loss
from toolkit.training.losses.modern import modern_loss
from toolkit.training.recipe import DEFAULTS, DetectionRecipe, Recipe
from toolkit.training.show import History, draw_run
from toolkit.training.splits import choose_parts, splits

VALIDATION = DetectSettings(conf=0.001, clip=False)


def input_size(dataset: Dataset, own: tuple[int, int], stride: int) -> tuple[int, int]:
    """The network input for a data set: enlarged pictures cost time and show nothing new.

    Args:
        dataset: pictures to train on; those of unknown size do not count.
        own: the network's own input (w, h) px.
        stride: the network's.

    Returns:
        `own`, or where the median picture is smaller, its sides rounded up to the stride, (w, h) px.
    """
    sizes = dataset.sizes[(dataset.sizes > 0).all(1)]
    if not len(sizes):
        return own
    median = np.ceil(np.median(sizes, axis=0) / stride).astype(int) * stride
    width, height = (min(a, int(b)) for a, b in zip(own, median, strict=True))
    return width, height


def fitting_anchors(
    config: Config, network: SpecDetector, train_set: Dataset
) -> tuple[list[list[float]] | None, str]:
    """Anchors to change to, by `config.anchors`; None where the network's own stay. And a note where they
    are out of the ordinary, "" otherwise."""
    if config.weights and config.anchors == "auto":
        source = start_from(SpecDetector, config.model, config.weights)
        if source.io.classes == network.io.classes:  # its boxes continue as they are
            return [list(anchor) for head in reversed(source.spec.heads) for anchor in head.anchors], ""
    if config.anchors == "keep":
        return None, ""
    sizes = anchor_tools.object_sizes(train_set, network.io.input_size)
    own = [anchor for head in network.spec.heads for anchor in head.anchors]
    if not len(sizes):  # only empty boxes: nothing to fit to
        return None, "the objects have no area: the network keeps its own anchors"
    if config.anchors == "auto" and anchor_tools.fit(sizes, own).recall >= 0.98:
        return None, ""
    fitted = anchor_tools.fitted(sizes, len(own))
    pixels: list[list[float]] = [[max(1, round(float(side))) for side in size] for size in fitted.anchors]
    return pixels, " ".join(fitted.notes)


def _class_notes(config: Config, network: SpecDetector, dataset: Dataset) -> str:
    """What does not match by name between the network, the data set and the weights to start from."""
    classes = network.io.classes
    sentences = compare_classes(classes, dataset.classes).sentences()
    if config.weights:
        source = start_from(SpecDetector, config.model, config.weights)
        sentences += compare_classes(source.io.classes, classes).sentences("the weights", "the new network")
    return ". ".join(sentences)


def initialise(model: SpecDetector, darknet: bool) -> None:
    """Fresh weights as darknet's make_convolutional_layer draws them, or as the modern loss needs them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if darknet:
                bound = math.sqrt(2 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    with torch.no_grad():
        for head in model.heads:
            assert isinstance(head, DetectionHead)
            assert head.out.conv.bias is not None
            bias = head.out.conv.bias.view(-1, 5 + len(model.io.classes))
            bias.zero_()
            if not darknet:
                head.out.conv.weight.mul_(0.1)
                bias[:, 4:] = -math.log(99)  # an object is expected in one cell of a hundred


def balanced(dataset: Dataset) -> Tensor:
    """(C,) weights by 1 / sqrt(objects of the class), with mean 1 over the objects."""
    counts = np.bincount(dataset.labels[~(dataset.ignore | dataset.crowd)], minlength=len(dataset.classes))
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


class DetectionTask:
    """Detectors, chosen by mAP50; see `toolkit.training.tasks.TrainingTask`."""

    name = "detection"
    metric = "map50"
    sign = 1
    recipe: type[Recipe] = DetectionRecipe
    default_recipe = DEFAULTS[name]
    best = "best.weights"

    def complete(self, config: Config, dataset: Dataset) -> Config:
        """With the data set's classes, the network's input size and fitting anchors in `changes`."""
        levers = config.recipe_as(DetectionRecipe)
        if config.teacher and levers.loss != "modern":
            raise InputError(
                f"the loss {levers.loss!r} learns from labels alone: leave out the teacher, or train with "
                "the recipe modern"
            )
        changes = {"classes": list(dataset.classes), **config.changes}
        if config.size is not None:
            changes["input_size"] = list(config.size)
        network = network_as(SpecDetector, config.model, **changes)
        chosen = choose_parts(config, match_classes(dataset, network.io.classes))
        notes = {**config.notes, "classes": _class_notes(config, network, dataset), "validation": chosen.note}
        if "input_size" not in changes:
            changes["input_size"] = list(input_size(chosen.train, network.io.input_size, network.io.stride))
            network = network_as(SpecDetector, config.model, **changes)
        if "anchors" not in changes:
            anchors, notes["anchors"] = fitting_anchors(config, network, chosen.train)
            if anchors:
                changes["anchors"] = anchors
        if config.data in cards.names() and not cards.card(config.data).mirrored:
            plain = replace(levers.augmentation, flip=0.0)  # a mirrored digit is no digit
            levers = levers.model_copy(update={"augmentation": plain})
        notes = {name: note for name, note in notes.items() if note}
        return config.model_copy(update={"changes": changes, "recipe": levers, "notes": notes})

    def parts(self, config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
        """By the data set's splits, with the network's classes."""
        return splits(config, match_classes(dataset, config.changes["classes"]))

    def build(self, config: Config) -> SpecDetector:
        """Fresh weights, and of `config.weights` what fits, with the outputs of classes of the same name."""
        seed_everything(config.seed)
        model = network_as(SpecDetector, config.model, **config.changes)
        initialise(model, config.recipe.loss != "modern")
        if config.weights:
            transfer(model, config.weights, config.model)
        return model

    def maker(self, config: Config, model: SpecDetector, train_set: Dataset) -> BatchMaker:
        """Pictures with boxes, decoded at the largest size that is trained."""
        side = round(max(model.io.input_size) * (1 + config.recipe_as(DetectionRecipe).multi_scale))
        cache = PictureCache(train_set, side, limit_gb=config.cache_gb)
        return BatchMaker(train_set, cache, config.seed if config.order is None else config.order)

    def losses(
        self, config: Config, model: SpecDetector, train_set: Dataset, device: torch.device
    ) -> Callable[[list[Tensor], Batch, Tensor], Losses]:
        """darknet's loss, whose batch norm the network then has, or the modern one, with a teacher or not."""
        levers = config.recipe_as(DetectionRecipe)
        fork = levers.loss == "darknet-fork"
        if levers.loss != "modern":
            use_darknet_norm(model, fork)
            layers = yolo_layers(model)

            def darknet(maps: list[Tensor], batch: Batch, x: Tensor) -> Losses:
                truths = (batch.boxes, batch.labels, batch.picture, batch.ignore)
                return darknet_loss(maps, *truths, layers, (x.shape[3], x.shape[2]), fork)

            return darknet
        classes = balanced(train_set).to(device) if levers.class_weights == "balanced" else None
        teacher = open_teacher(config.teacher).to(device) if config.teacher else None
        if teacher is not None:
            check_teacher(model.io, teacher.io)

        def modern(maps: list[Tensor], batch: Batch, x: Tensor) -> Losses:
            labelled = modern_loss(
                maps,
                batch.boxes,
                batch.labels,
                batch.picture,
                batch.ignore,
                model.io,
                levers.assigner,
                levers.iou_kind,
                levers.iou_aware,
                levers.label_smoothing,
                classes,
                levers.box_weight,
                levers.obj_weight,
                levers.cls_weight,
            )
            if teacher is None or not levers.distill_weight:
                return labelled
            with torch.no_grad():
                teacher_maps = teacher(x)
            lesson = levers.distill_weight * distill_loss(maps, teacher_maps, model.io, teacher.io)
            parts = {**labelled.parts, "distill": lesson.detach()}
            return Losses(labelled.total + lesson, labelled.positives, parts)

        return modern

    def validate(self, network: SpecDetector, val_set: Dataset) -> float:
        """COCO's mAP at IoU .5 on the validation pictures, 0..1."""
        return float(evaluate_by(coco, network, val_set, VALIDATION).scores.ap50)

    def save(self, network: SpecDetector, folder: Path) -> None:
        """best.cfg, best.weights and best.names."""
        save_darknet(network, folder, "best")

    def draw(self, folder: Path, history: History, network: SpecDetector, val_set: Dataset) -> None:
        """curves.png, losses.png and pictures.png."""
        draw_run(folder, history, network, val_set)
