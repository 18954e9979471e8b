"""Where a network and the labels disagree, as FiftyOne fields and views."""

from __future__ import annotations

from typing import Any

from toolkit.data.curation.desk import TRUTH, asks_database, fiftyone
from toolkit.data.curation.features import bar
from toolkit.runtime import InputError

MATCH_IOU = 0.5
SURE = 0.3  # score from which a detection without a label counts as a false positive
DISAGREEMENTS = ("false positives", "missed", "confused")
OUTCOME = "labels"  # FiftyOne's key of the comparison, which its panel Model Evaluation shows


@asks_database
def add_mistakenness(view: Any, field: str = "predictions") -> None:
    """`mistakenness` of pictures and boxes (0..1, how likely the label is wrong), `possible_missing` and
    `possible_spurious` counts: where confident predictions and labels disagree."""
    import fiftyone.brain as brain

    brain.compute_mistakenness(view, field, label_field=TRUTH, progress=bar("mistakenness"))


@asks_database
def add_hardness(view: Any, field: str = "predictions") -> None:
    """`hardness` of each picture in 0..1: how much of its truth the detector misses or invents.

    One minus a soft Jaccard index: scores of right detections over (number of true boxes + scores of wrong
    detections); right is IoU at least .5 with a box of its class, each box once. Crowds are left to
    FiftyOne's matching.
    """
    key = "hardness_matches"
    view.evaluate_detections(
        field, gt_field=TRUTH, eval_key=key, iou=MATCH_IOU, classwise=True, progress=bar("hardness")
    )
    try:
        outcomes, scores = view.values([f"{field}.detections.{key}", f"{field}.detections.confidence"])
        truths = view.values(f"{TRUTH}.detections.{key}")
    finally:
        view._root_dataset.delete_evaluation(key)
    hardness = []
    for outcome, score, truth in zip(outcomes, scores, truths, strict=True):
        right = sum(s for o, s in zip(outcome or (), score or (), strict=True) if o == "tp")
        wrong = sum(s for o, s in zip(outcome or (), score or (), strict=True) if o == "fp")
        whole = len(truth or ()) + wrong
        hardness.append(1 - right / whole if whole else 0.0)
    view.set_values("hardness", hardness)


def hardest(view: Any, count: int = 50, by: str = "hardness") -> Any:
    """The pictures with the largest value of a field: "hardness", "mistakenness", "uniqueness"."""
    if by not in view.get_field_schema():
        raise InputError(f"the pictures have no field {by!r} yet: call add_{by} first")
    return view.sort_by(by, reverse=True).limit(count)


@asks_database
def disagreements(
    view: Any, count: int = 50, field: str = "predictions", conf: float = SURE
) -> dict[str, Any]:
    """Views of a network against the labels, of the pictures that have labels: of the others nobody knows
    whether they are empty.

    "hardest" and "most mistaken" are pictures; "false positives" (no label is there), "missed" (no detection
    is there) and "confused" (a detection and a label of two classes are at one place) show these boxes alone.
    A label that is to be ignored is not missed. Detections from `conf` count.
    """
    expression = fiftyone().ViewField
    view = view.match(expression(f"{TRUTH}.detections").length() > 0)
    if not view.count():
        return {}
    add_mistakenness(view, field)
    add_hardness(view, field)
    view.filter_labels(field, expression("confidence") >= conf, only_matches=False).evaluate_detections(
        field, gt_field=TRUTH, eval_key=OUTCOME, iou=MATCH_IOU, classwise=False, progress=bar("comparison")
    )
    alone = expression(f"{OUTCOME}_id") == ""
    wrong = expression(OUTCOME) == "fp"
    score = expression(f"{field}.detections").map(expression("confidence")).max()
    views = {
        "false positives": view.filter_labels(field, wrong & alone),
        "confused": view.filter_labels(field, wrong & ~alone),
    }
    lost = (expression(OUTCOME) == "fn") & alone & ~expression("ignore")
    return {
        "hardest": hardest(view, count),
        "most mistaken": hardest(view, count, "mistakenness"),
        **{name: each.sort_by(score, reverse=True).limit(count) for name, each in views.items()},
        "missed": view.filter_labels(TRUTH, lost).limit(count),
    }
