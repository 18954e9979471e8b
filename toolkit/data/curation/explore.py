"""What to look at: embeddings, duplicates, mistakes, the smallest, rarest and hardest, as FiftyOne views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.data.curation.desk import TRUTH, asks_database, fiftyone
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
from toolkit.models.network import Detecting
from toolkit.pictures import load_image
from toolkit.runtime import InputError, progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = list[NDArray[np.uint8]]  # RGB, H x W x 3
Embed = Callable[[Images], NDArray[np.floating]]  # pictures -> (N, D)
Detect = Callable[
    [Images], Sequence[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]]
]  # pictures -> per picture boxes (K, 4) xyxy px, scores (K,), class numbers (K,)
MATCH_IOU = 0.5


def embed_with(model: Any, cells: int = 4) -> Embed:
    """A network of `toolkit.create_model` as an embedding: the output of its last stage, averaged in
    `cells` x `cells` parts of the picture, (N, channels * cells * cells). Nothing is downloaded."""
    if not hasattr(model, "stages"):
        raise InputError("embeddings come from a network that toolkit.create_model has built from its spec")

    def embed(images: Images) -> NDArray[np.floating]:
        kept: list[torch.Tensor] = []
        hook = model.stages[-1].register_forward_hook(lambda stage, args, output: kept.append(output[0]))
        try:
            model.predict(np.stack([preprocess(image, model.io)[0] for image in images]))
        finally:
            hook.remove()
        return torch.nn.functional.adaptive_avg_pool2d(kept[0], cells).flatten(1).float().cpu().numpy()

    return embed


def detect_with(model: Detecting, settings: DetectSettings | None = None) -> Detect:
    """Any backend's detections in the form that `add_predictions` takes; conf .1 by default."""

    def detect(images: Images) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        detections = run(model, images, settings or DetectSettings(conf=0.1))
        return [(boxes.boxes, boxes.scores, boxes.class_ids) for boxes in detections]

    return detect


def embedding_model(embed: Embed) -> Any:
    """`embed` (pictures -> (N, D)) as a FiftyOne model, for FiftyOne's own functions that take one."""
    fiftyone()
    from fiftyone.core.models import EmbeddingsMixin, Model

    class Embedder(EmbeddingsMixin, Model):  # type: ignore[misc]  # FiftyOne has no types
        media_type = "image"
        has_embeddings = True
        ragged_batches = False
        transforms = None
        preprocess = False

        def embed(self, arg: NDArray[np.uint8]) -> NDArray[np.floating]:
            result: NDArray[np.floating] = np.asarray(embed([arg]))[0]
            return result

        def embed_all(self, args: Images) -> NDArray[np.floating]:
            return np.asarray(embed(list(args)))

    return Embedder()


@asks_database
def add_embeddings(
    view: Any, embed: Embed, field: str = "embedding", batch_size: int = 32
) -> NDArray[np.floating]:
    """Embeddings (N, D) of the view's pictures, also kept in `field` of each."""
    try:
        view.compute_embeddings(
            embedding_model(embed),
            field,
            batch_size=batch_size,
            skip_failures=False,
            progress=_bar("embeddings"),
        )
    except (OSError, ValueError) as error:
        raise InputError(f"a picture could not be embedded: {error}") from error
    return np.array(view.values(field))


@asks_database
def add_uniqueness(view: Any, embeddings: NDArray[np.floating]) -> None:
    """`uniqueness` in 0..1 of each picture: how far its nearest neighbours are, 1 for the loneliest."""
    import fiftyone.brain as brain

    if len(embeddings) and not np.ptp(embeddings, axis=0).any():
        view.set_values("uniqueness", [0.0] * len(embeddings))  # all alike: FiftyOne would divide by zero
        return
    brain.compute_uniqueness(view, embeddings=np.asarray(embeddings, np.float64), progress=_bar("uniqueness"))


@asks_database
def tag_duplicates(
    view: Any, embeddings: NDArray[np.floating] | None = None, threshold: float = 0.02
) -> dict[str, list[int]]:
    """Tag repeated pictures "exact duplicate" (equal files) or "near duplicate" (embeddings nearer than
    `threshold` in cosine distance), all but the one that is kept, whose file goes into `duplicate_of`.

    Returns the picture identifiers under each tag. Without `embeddings` only exact ones are looked for.
    """
    import fiftyone.brain as brain

    ids, files, image_ids = view.values(["id", "file", "image_id"])
    exact: dict[str, str] = {}  # the sample that goes: the sample that stays
    near: dict[str, str] = {}
    for first, others in brain.compute_exact_duplicates(view, progress=_bar("exact duplicates")).items():
        exact |= dict.fromkeys(others, first)
    alone = [k for k, sample_id in enumerate(ids) if sample_id not in exact]
    if embeddings is not None and len(alone) > 1:
        index = brain.compute_near_duplicates(
            view.exclude(list(exact)),
            threshold=threshold,
            embeddings=np.asarray(embeddings, np.float64)[alone],
            progress=False,
        )
        for first, pairs in index.neighbors_map.items():
            near |= {other: first for other, _ in pairs}
    file_of, image_of = dict(zip(ids, files, strict=True)), dict(zip(ids, image_ids, strict=True))
    view._root_dataset.add_sample_field("duplicate_of", fiftyone().StringField)
    for tag, pairs_ in (("exact duplicate", exact), ("near duplicate", near)):
        if pairs_:
            view.select(list(pairs_)).tag_samples(tag)
            view.set_values("duplicate_of", {a: file_of[b] for a, b in pairs_.items()}, key_field="id")
    return {
        "exact duplicate": [image_of[sample_id] for sample_id in exact],
        "near duplicate": [image_of[sample_id] for sample_id in near],
    }


@asks_database
def add_predictions(
    view: Any,
    detect: Detect,
    classes: Sequence[str] | None = None,
    field: str = "predictions",
    batch_size: int = 16,
) -> None:
    """A detector's boxes into `field`. `classes` names its class numbers (the dataset's own by default)."""
    fo = fiftyone()
    names = list(classes or view._root_dataset.default_classes)
    ids, paths = view.values(["id", "filepath"])
    labels = {}
    for first in progress(range(0, len(ids), batch_size), "predictions"):
        images = [load_image(path) for path in paths[first : first + batch_size]]
        answers = zip(ids[first : first + batch_size], images, detect(images), strict=True)
        for sample_id, image, (boxes, scores, numbers) in answers:
            height, width = image.shape[:2]
            rel = np.asarray(boxes, np.float64).reshape(-1, 4) / [width, height, width, height]
            labels[sample_id] = fo.Detections(
                detections=[
                    fo.Detection(
                        label=names[int(c)],
                        bounding_box=[b[0], b[1], b[2] - b[0], b[3] - b[1]],
                        confidence=float(s),
                    )
                    for b, s, c in zip(rel.tolist(), scores, numbers, strict=True)
                ]
            )
    view.set_values(field, labels, key_field="id")


@asks_database
def add_mistakenness(view: Any, field: str = "predictions") -> None:
    """`mistakenness` of pictures and boxes (0..1, how likely the label is wrong), `possible_missing` and
    `possible_spurious` counts: where confident predictions and labels disagree."""
    import fiftyone.brain as brain

    brain.compute_mistakenness(view, field, label_field=TRUTH, progress=_bar("mistakenness"))


@asks_database
def add_hardness(view: Any, field: str = "predictions") -> None:
    """`hardness` of each picture in 0..1: how much of its truth the detector misses or invents.

    One minus a soft Jaccard index: scores of right detections over (number of true boxes + scores of wrong
    detections); right is IoU at least .5 with a box of its class, each box once. Crowds are left to
    FiftyOne's matching.
    """
    key = "hardness_matches"
    view.evaluate_detections(
        field, gt_field=TRUTH, eval_key=key, iou=MATCH_IOU, classwise=True, progress=_bar("hardness")
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


def smallest(view: Any, count: int = 50) -> Any:
    """The pictures with the smallest labelled objects (share of the picture), smallest first."""
    expression = fiftyone().ViewField
    sides = expression("bounding_box")
    smallest_box = expression(f"{TRUTH}.detections").map(sides[2] * sides[3]).min()
    return view.match(expression(f"{TRUTH}.detections").length() > 0).sort_by(smallest_box).limit(count)


def rarest(view: Any, count: int = 50) -> Any:
    """Pictures with an object of the class that has the fewest boxes."""
    counts = view.count_values(f"{TRUTH}.detections.label")
    if not counts:
        return view.limit(0)
    label = min(counts, key=lambda name: (counts[name], name))
    return view.match(fiftyone().ViewField(f"{TRUTH}.detections.label").contains(label)).limit(count)


def hardest(view: Any, count: int = 50, by: str = "hardness") -> Any:
    """The pictures with the largest value of a field: "hardness", "mistakenness", "uniqueness"."""
    if by not in view.get_field_schema():
        raise InputError(f"the pictures have no field {by!r} yet: call add_{by} first")
    return view.sort_by(by, reverse=True).limit(count)


@asks_database
def prepare(
    fo_dataset: Any, embed: Embed | None = None, detect: Detect | None = None, count: int = 50
) -> dict[str, int]:
    """All of this module in one go, as far as there is a backbone and a detector; saves the views to look at.

    Returns the number of pictures in each saved view.
    """
    if embed is not None:
        embeddings = add_embeddings(fo_dataset, embed)
        add_uniqueness(fo_dataset, embeddings)
        tag_duplicates(fo_dataset, embeddings)
    else:
        tag_duplicates(fo_dataset)
    views = {"smallest": smallest(fo_dataset, count), "rarest": rarest(fo_dataset, count)}
    views["duplicates"] = fo_dataset.match_tags(["exact duplicate", "near duplicate"])
    if embed is not None:
        views["most unique"] = hardest(fo_dataset, count, "uniqueness")
    if detect is not None:
        add_predictions(fo_dataset, detect)
        add_mistakenness(fo_dataset)
        add_hardness(fo_dataset)
        views["hardest"] = hardest(fo_dataset, count)
        views["most mistaken"] = hardest(fo_dataset, count, "mistakenness")
    for name, view in views.items():
        fo_dataset.save_view(name, view, overwrite=True)
    return {name: view.count() for name, view in views.items()}


@asks_database
def grid(view: Any, count: int = 12, field: str = TRUTH, title: str = "") -> Figure:
    """The first pictures of a view with their boxes, as a matplotlib figure: what the App would show."""
    from toolkit.viz import draw_boxes, image_grid

    classes = list(view._root_dataset.default_classes)
    drawn, titles = [], []
    for sample in view.limit(count):
        image = load_image(sample.filepath)
        height, width = image.shape[:2]
        detections = sample[field].detections if field in sample.field_names and sample[field] else []
        rel = np.array([detection.bounding_box for detection in detections], np.float64).reshape(-1, 4)
        boxes = np.concatenate((rel[:, :2], rel[:, :2] + rel[:, 2:]), axis=1) * [width, height, width, height]
        names = classes + sorted({detection.label for detection in detections} - set(classes))
        numbers = np.array([names.index(detection.label) for detection in detections], int)
        drawn.append(draw_boxes(image, boxes.astype(np.float32), numbers, classes=names, scale=2))
        titles.append(Path(sample.filepath).name)
    return image_grid(drawn, titles, title=title)


def _bar(title: str) -> Callable[[Any], None]:
    """A callback that turns FiftyOne's progress into this project's bar."""
    steps: list[Iterator[int]] = []
    at = 0

    def tick(state: Any) -> None:
        nonlocal at
        if not steps:
            steps.append(progress(range(int(state.total or 0) + 1), title))
        while at <= state.iteration and next(steps[0], None) is not None:
            at += 1

    return tick
