"""Training of detectors: network, batches, losses, and validation by mAP50."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
from toolkit.models.darknet.cfg import Section
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import Detector
from toolkit.runtime import InputError, seed_everything
from toolkit.training.assign import yolo_layers
from toolkit.training.checkpoint import Start, inner_tensors, open_teacher, start_from, transfer
from toolkit.training.config import Config
from toolkit.training.darknet_norm import use_darknet_norm
from toolkit.training.distill import check_teacher, distill_loss
from toolkit.training.loader import BatchMaker, PictureCache, network_input
from toolkit.training.losses.common import Losses
from toolkit.training.losses.darknet import darknet_loss
from toolkit.training.losses.modern import modern_loss
from toolkit.training.recipe import DEFAULTS, DetectionRecipe, Recipe
from toolkit.training.show import History, draw_run
from toolkit.training.splits import choose_parts, splits

VALIDATION = DetectSettings(conf=0.001, clip=False)
# Options of a cfg's [net] and of its layers that steer darknet's training.
OF_THE_RECIPE = "batch momentum decay learning_rate burn_in policy mosaic cutmix mixup ema_alpha".split()
OF_LAYERS = (
    "stopbackward onlyforward dont_update burnin_update train_only_bn learning_rate random resize".split()
)


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
    config: Config, network: Detector, train_set: Dataset, start: Start[Detector] | None = None
) -> tuple[list[list[float]] | None, str]:
    """Anchors to change to, by `config.anchors`; None where the network's own stay. And a note where they
    are out of the ordinary, "" otherwise.

    Args:
        config: of the run.
        network: with its classes and input size.
        train_set: pictures to train on.
        start: the network of `config.weights`.
    """
    own = own_anchors(network)
    if start and config.anchors == "auto" and start.whole and _same_outputs(start.network, network):
        theirs = own_anchors(start.network)  # its boxes continue as they are
        return (None if theirs == own else theirs), ""
    if config.anchors == "keep":
        return None, ""
    sizes = anchor_tools.object_sizes(train_set, network.io.input_size, network.io.fit)
    if not len(sizes):  # only empty boxes: nothing to fit to
        return None, "the objects have no area: the network keeps its own anchors"
    if config.anchors == "auto" and anchor_tools.fit(sizes, own).recall >= 0.98:
        return None, ""
    fitted = anchor_tools.fitted(sizes, len(own))
    pixels: list[list[float]] = [[max(1, round(float(side))) for side in size] for size in fitted.anchors]
    return pixels, " ".join(fitted.notes)


def _same_outputs(network: Detector, other: Detector) -> bool:
    """Whether two networks have the same classes, and heads with as many anchors."""
    (classes, counts), others = (
        (each.io.classes, [len(head.anchors) for head in each.io.heads]) for each in (network, other)
    )
    return (classes, counts) == others


def own_anchors(network: Detector) -> list[list[float]]:
    """Of all heads, (w, h) px in the order of the change `anchors`: those of the coarsest head last."""
    return [list(anchor) for head in reversed(network.io.heads) for anchor in head.anchors]


def _class_notes(network: Detector, dataset: Dataset, start: Start[Detector] | None) -> str:
    """What does not match by name between the network, the data set and the weights to start from."""
    classes = network.io.classes
    sentences = compare_classes(classes, dataset.classes).sentences()
    if start and start.whole:
        weights = start.network.io.classes
        sentences += compare_classes(weights, classes).sentences("the weights", "the new network")
    return ". ".join(sentences)


def check_trainable(config: Config, network: Detector) -> None:
    """Raises InputError for a network that the recipe cannot train."""
    levers = config.recipe_as(DetectionRecipe)
    if any(head.gaussian for head in network.io.heads):
        raise InputError(
            f"{config.model} has [Gaussian_yolo] heads, whose uncertainties no recipe here trains: detect, "
            "evaluate and export it, or put [yolo] heads in their place"
        )
    if levers.loss != "modern":
        yolo_layers(network)
    if levers.freeze and config.cfg:
        raise InputError(
            f"freeze = {levers.freeze:g} needs a network of the zoo: a cfg does not say where its backbone "
            "ends, set freeze to 0"
        )


def cfg_note(config: Config) -> str:
    """Which options of training in a cfg are left to the recipe, and which are followed; "" for a network of
    the zoo."""
    if not config.cfg:
        return ""
    levers, (net, *layers) = config.recipe, config.origin.sections
    options = _stated(net, OF_THE_RECIPE)
    options += sorted({option for layer in layers for option in _stated(layer, OF_LAYERS)})
    sentences = []
    if options:
        sentences.append(
            f"{', '.join(options)} of {config.model} are not followed: the recipe {levers.name} has its own "
            f"levers, such as learning_rate = {levers.learning_rate:g} and batch = {levers.batch}"
        )
    if levers.loss != "modern":
        sentences.append(
            f"the loss follows the options of the cfg's heads; jitter = {levers.augmentation.jitter:g}"
        )
    return "; ".join(sentences)


def _stated(section: Section, keys: Sequence[str]) -> list[str]:
    return [f"{key}={section.options[key]}" for key in keys if section.options.get(key, "0") != "0"]


def initialise(model: Detector, darknet: bool) -> None:
    """Fresh weights as darknet's make_convolutional_layer draws them, or as the modern loss needs them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if darknet:
                bound = math.sqrt(2 / module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    with torch.no_grad():
        for layer, head in zip(model.output_layers(), model.io.heads, strict=True):
            assert layer.conv.bias is not None
            bias = layer.conv.bias.view(len(head.anchors), -1)
            bias.zero_()
            if not darknet:
                layer.conv.weight.mul_(0.1)
                # an object is expected in one cell of a hundred
                bias[:, head.values - 1 :] = -math.log(99)


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
    useless = 0.0
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
        origin = config.origin
        network = origin.shadow(Detector, **changes)
        check_trainable(config, network)
        start = None
        if config.weights:
            start = start_from(Detector, origin, config.weights, config.partial)
            inner_tensors(network, start, config.weights)
        chosen = choose_parts(config, match_classes(dataset, network.io.classes))
        notes = {**config.notes, "classes": _class_notes(network, dataset, start), "validation": chosen.note}
        if "input_size" not in changes:
            changes["input_size"] = list(input_size(chosen.train, network.io.input_size, network.io.stride))
            network = origin.shadow(Detector, **changes)
        if "anchors" not in changes:
            anchors, notes["anchors"] = fitting_anchors(config, network, chosen.train, start)
            if anchors:
                changes["anchors"] = anchors
        if config.teacher:
            check_teacher(network.io, open_teacher(config.teacher).io)
        notes |= {"weights": start.note if start else "", "cfg": cfg_note(config)}
        if config.data in cards.names() and not cards.card(config.data).mirrored:
            plain = replace(levers.augmentation, flip=0.0)  # a mirrored digit is no digit
            levers = levers.model_copy(update={"augmentation": plain})
        notes = {name: note for name, note in notes.items() if note}
        return config.model_copy(update={"changes": changes, "recipe": levers, "notes": notes})

    def parts(self, config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
        """By the data set's splits, with the network's classes."""
        return splits(config, match_classes(dataset, config.changes["classes"]))

    def build(self, config: Config) -> Detector:
        """Fresh weights, and of `config.weights` what fits, with the outputs of classes of the same name."""
        seed_everything(config.seed)
        model = config.origin.build(Detector, **config.changes)
        initialise(model, config.recipe.loss != "modern")
        if config.weights:
            transfer(
                model, start_from(Detector, config.origin, config.weights, config.partial), config.weights
            )
        return model

    def maker(self, config: Config, model: Detector, train_set: Dataset) -> BatchMaker:
        """Pictures with boxes, decoded at the largest size that is trained."""
        side = round(max(model.io.input_size) * (1 + config.recipe_as(DetectionRecipe).multi_scale))
        cache = PictureCache(train_set, side, limit_gb=config.cache_gb)
        seed = config.seed if config.order is None else config.order
        return BatchMaker(train_set, cache, seed, model.io.fit)

    def losses(
        self, config: Config, model: Detector, train_set: Dataset, device: torch.device
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
        own_input = (model.io.channel_order, model.io.mean, model.io.scale)

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
                levers.spare_iou,
            )
            if teacher is None or not levers.distill_weight:
                return labelled
            with torch.no_grad():
                same = (teacher.io.channel_order, teacher.io.mean, teacher.io.scale) == own_input
                teacher_maps = teacher(x if same else network_input(batch.images, teacher.io))
            lesson = levers.distill_weight * distill_loss(maps, teacher_maps, model.io, teacher.io)
            parts = {**labelled.parts, "distill": lesson.detach()}
            return Losses(labelled.total + lesson, labelled.positives, parts)

        return modern

    def validate(self, network: Detector, val_set: Dataset) -> float:
        """COCO's mAP at IoU .5 on the validation pictures, 0..1."""
        return float(evaluate_by(coco, network, val_set, VALIDATION).scores.ap50)

    def save(self, network: Detector, folder: Path) -> None:
        """best.cfg, best.weights and best.names."""
        save_darknet(network, folder, "best")

    def draw(self, folder: Path, history: History, network: Detector, val_set: Dataset) -> None:
        """curves.png, losses.png and pictures.png."""
        draw_run(folder, history, network, val_set)
