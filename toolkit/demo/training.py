"""Stages of training and evaluation."""

from __future__ import annotations

from pathlib import Path

from toolkit import viz
from toolkit.demo.shared import (
    ANCHORS,
    BEST,
    DETECTIONS,
    NETWORK,
    SCORES,
    SEED,
    curated_data,
    draw_detections,
    facts_table,
    right_and_wrong,
    sample,
    scale,
)
from toolkit.evaluation.average_precision import voc as voc_scores
from toolkit.evaluation.coco import coco as coco_scores
from toolkit.evaluation.operating import operating_point
from toolkit.evaluation.score import evaluate_by
from toolkit.files import write_json
from toolkit.models.detector import Detector
from toolkit.page import Section
from toolkit.text import read_json
from toolkit.training.checkpoint import trained
from toolkit.training.config import read_config
from toolkit.training.detection import VALIDATION
from toolkit.training.loop import train
from toolkit.training.recipe import recipe


def train_network(output: Path) -> Section:
    folder, size, dataset = output / "train", scale(), curated_data(output)
    begun = (folder / "config.yaml").exists()
    config = read_config(
        folder / "config.yaml"
        if begun
        else {
            "data": str(dataset.root.parent.resolve()),
            "model": NETWORK,
            "changes": read_json(output / ANCHORS)["changes"],
            "recipe": recipe("modern", **size.levers),
            "seed": SEED,
            "validations": size.validations,
        }
    )
    result = train(config, folder, begun, dataset)
    if not result.finished:  # a signal asked to leave
        raise KeyboardInterrupt
    weights = folder / "best.weights"
    facts = {
        "mAP50 on the validation pictures": f"{result.score:.4f}",
        "epochs": f"{config.recipe.epochs:g}",
        "steps": f"{result.steps:,}",
        "seconds": f"{result.seconds:.0f}",
        "pictures per second": f"{result.pictures_per_second:.0f}",
        "weights, kB": f"{weights.stat().st_size / 1000:,.0f}",
    }
    return Section(
        f"{NETWORK} trained from scratch with the recipe modern: task-aligned assignment, CIoU, AdamW, "
        "averaged weights.",
        {
            "train/pictures.png": "Validation pictures: labels above, all detections below, right and wrong",
            "train/curves.png": "mAP50 on the validation pictures during training",
            "train/losses.png": "Parts of the loss during training",
        },
        [facts_table("The run", "train/result.json", facts)],
        files={"train/config.yaml": "all settings", "train/best.cfg": "the network, for every other command"},
    )


def evaluate_network(output: Path) -> Section:
    folder = output / "evaluate"
    dataset = curated_data(output).split("val")
    network = trained(output / BEST, Detector).eval()
    evaluation = evaluate_by(coco_scores, network, dataset, VALIDATION)
    coco, voc = evaluation.scores, voc_scores(evaluation.truth, evaluation.detections)
    point = operating_point(evaluation.matches)
    evaluation.draw(folder, point)
    names = [f"{c.name} ({c.truths})" for c in voc.per_class]
    figure = viz.bars(names, [c.ap for c in voc.per_class], xlabel="VOC AP50", title="By class (objects)")
    figure.savefig(folder / "classes.png")
    scores = {"coco": coco.as_dict(), "voc": voc.as_dict(), "operating_point": point.as_dict()}
    write_json(output / SCORES, scores)
    draw_detections(network, sample(dataset, 6), point.threshold, output / DETECTIONS, columns=3)
    facts = {
        "COCO AP": f"{coco.ap:.4f}",
        "COCO AP50": f"{coco.ap50:.4f}",
        "VOC AP50": f"{voc.map:.4f}",
        "threshold of the best F1": f"{point.threshold:.3f}",
        "precision at it": f"{point.precision:.3f}",
        "recall at it": f"{point.recall:.3f}",
    }
    return Section(
        f"The best weights on {len(dataset)} validation pictures, by the COCO and the VOC protocol. The "
        "weights and the threshold were chosen on the same pictures, so these scores are slightly too high.",
        {
            DETECTIONS: f"Validation pictures: {right_and_wrong(output)}",
            "evaluate/precision_recall.png": "Precision and recall of all classes, and the chosen threshold",
            "evaluate/classes.png": "Average precision of each class",
            "evaluate/confusion.png": "Confusion matrix",
            "evaluate/failures.png": "The mistakes with the highest scores (orange) and the labels (green)",
        },
        [facts_table("Scores", SCORES, facts)],
        {"AP50, validation": f"{coco.ap50:.3f}"},
    )
