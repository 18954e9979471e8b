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
from toolkit.data.dataset import Dataset, match_classes
from toolkit.evaluation import coco, columns
from toolkit.evaluation.score import predict
from toolkit.inference.backend import DetectSettings
from toolkit.models import create_model
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import SpecDetector
from toolkit.runtime import InputError, seed_everything
from toolkit.training.assign import yolo_layers
from toolkit.training.checkpoint import open_teacher, start_from, transfer
from toolkit.training.config import Config
from toolkit.training.darknet_norm import use_darknet_norm
from toolkit.training.distill import check_teacher, distill_loss
from toolkit.training.loader import BatchMaker, PictureCache
from toolkit.training.losses.common import Losses
from toolkit.training.losses.darknet import darknet_loss
from toolkit.training.losses.modern import modern_loss
from toolkit.training.splits import splits

VALIDATION = DetectSettings(conf=0.001, clip=False)


def input_size(dataset: Dataset, own: tuple[int, int], stride: int) -> tuple[int, int]:
    """The network's own input (w, h), or, where the middle one of the pictures is smaller, that picture's
    sides rounded up to the stride: enlarged pictures cost time and show nothing new."""
    known = dataset.sizes[(dataset.sizes > 0).all(1)]
    if not len(known):
        return own
    middle = np.ceil(np.median(known, axis=0) / stride).astype(int) * stride
    width, height = (min(a, int(b)) for a, b in zip(own, middle, strict=True))
    return width, height


def complete(config: Config, dataset: Dataset) -> Config:
    """The configuration with the classes of the data set, the network's input size and anchors that fit
    written into `changes`. Raises InputError for settings that do not fit the data."""
    if config.teacher and config.recipe.loss != "modern":
        raise InputError(
            f"the loss {config.recipe.loss!r} learns from labels alone: leave out the teacher, or train with "
            "the recipe modern"
        )
    train_set, _ = splits(config, dataset)
    changes = {"classes": list(dataset.classes), **config.changes}
    if config.size is not None:
        changes["input_size"] = list(config.size)
    spec = create_model(config.model, **changes).spec
    match_classes(dataset, spec.classes)
    if "input_size" not in changes:
        changes["input_size"] = list(input_size(train_set, spec.input_size, spec.stride))
        spec = create_model(config.model, **changes).spec
    if config.weights and "anchors" not in changes and config.anchors == "auto":
        source = start_from(config.weights, config.model)
        if source.io.classes == spec.classes:  # its boxes go on as they are
            changes["anchors"] = [list(a) for head in reversed(source.spec.heads) for a in head.anchors]
    if config.anchors != "keep" and "anchors" not in changes:
        sizes = anchor_tools.object_sizes(train_set, spec.input_size)
        own = [anchor for head in spec.heads for anchor in head.anchors]
        if config.anchors == "fit" or anchor_tools.fit(sizes, own).recall < 0.98:
            found = anchor_tools.find(sizes, len(own))
            changes["anchors"] = [[max(1, round(float(w))), max(1, round(float(h)))] for w, h in found]
    levers = config.recipe
    if config.data in cards.names() and not cards.card(config.data).mirrored:
        plain = replace(levers.augmentation, flip=0.0)  # a mirrored digit is no digit
        levers = levers.model_copy(update={"augmentation": plain})
    return config.model_copy(update={"changes": changes, "recipe": levers})


def build(config: Config) -> SpecDetector:
    """The network of a run, with the weights that it starts from: of `config.weights`, everything that fits,
    with the outputs of classes that have the same names; the rest is fresh."""
    seed_everything(config.seed)
    model = create_model(config.model, **config.changes)
    modern = config.recipe.loss == "modern"
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if modern:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:  # darknet's make_convolutional_layer
                bound = math.sqrt(2 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
    with torch.no_grad():
        for head in model.heads:
            bias = head.out.conv.bias.view(-1, 5 + len(model.io.classes))  # type: ignore[union-attr, operator]
            bias.zero_()
            if modern:
                head.out.conv.weight.mul_(0.1)  # type: ignore[union-attr, operator]
                bias[:, 4:] = -math.log(99)  # an object is expected in one cell of a hundred
    if config.weights:
        transfer(model, config.weights, config.model)
    return model


def balanced(dataset: Dataset) -> Tensor:
    """(C,) weights by 1 / sqrt(objects of the class), with mean 1 over the objects."""
    counts = np.bincount(dataset.labels[~(dataset.ignore | dataset.crowd)], minlength=len(dataset.classes))
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def detection_parts(config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
    return splits(config, match_classes(dataset, config.changes["classes"]))


def detection_maker(config: Config, model: SpecDetector, train_set: Dataset) -> BatchMaker:
    side = round(max(model.io.input_size) * (1 + config.recipe.multi_scale))
    cache = PictureCache(train_set, side, limit_gb=config.cache_gb)
    return BatchMaker(train_set, cache, config.seed if config.order is None else config.order)


def detection_losses(
    config: Config, model: SpecDetector, train_set: Dataset, device: torch.device
) -> Callable[[list[Tensor], Batch, Tensor], Losses]:
    levers = config.recipe
    darknet = levers.loss != "modern"
    if darknet:
        use_darknet_norm(model, levers.loss == "darknet-fork")
    layers = yolo_layers(model) if darknet else ()
    classes = balanced(train_set).to(device) if levers.class_weights == "balanced" else None
    teacher = None
    if config.teacher:
        teacher = open_teacher(config.teacher).to(device)
        check_teacher(model.io, teacher.io)

    def losses(maps: list[Tensor], batch: Batch, x: Tensor) -> Losses:
        truths = (batch.boxes, batch.labels, batch.picture, batch.ignore)
        if darknet:
            size = (x.shape[3], x.shape[2])
            return darknet_loss(maps, *truths, layers, size, levers.loss == "darknet-fork")
        found = modern_loss(
            maps,
            *truths,
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
            return found
        with torch.no_grad():
            taught = teacher(x)
        lesson = levers.distill_weight * distill_loss(maps, taught, model.io, teacher.io)
        return Losses(found.total + lesson, found.positives, {**found.parts, "distill": lesson.detach()})

    return losses


def map50(network: SpecDetector, val_set: Dataset) -> float:
    """COCO's mAP at IoU .5 on the validation pictures."""
    found = predict(network, val_set, VALIDATION)
    return float(coco.coco(columns.Truth.from_dataset(val_set), found).ap50)


def save_best_darknet(network: SpecDetector, output: Path) -> None:
    save_darknet(network, output, "best")
