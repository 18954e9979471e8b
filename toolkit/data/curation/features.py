"""What a network makes of pictures: embeddings, how alike they are, and predictions, as FiftyOne fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.data.class_names import compare_classes
from toolkit.data.curation.desk import asks_database, fiftyone
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
from toolkit.models.detector import Detector
from toolkit.models.network import Detecting
from toolkit.pictures import load_image, load_readable
from toolkit.runtime import InputError, progress

Images = list[NDArray[np.uint8]]  # RGB, H x W x 3
Embed = Callable[[Images], NDArray[np.floating]]  # pictures -> (N, D)
Detect = Callable[
    [Images], Sequence[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]]
]  # pictures -> per picture boxes (K, 4) xyxy px, scores (K,), class numbers (K,)
MOST = 100  # detections of a picture, as in COCO's protocol
FEWEST, PLOTTED = 100, 3000  # pictures of which t-SNE shows groups, in seconds; PCA of fewer and of more
MAP, SIMILAR = "embeddings", "similar"  # FiftyOne's keys of the two


def embed_with(model: Detecting, cells: int = 4) -> Embed:
    """A detector on any engine as an embedding: what its coarsest head sees, averaged in `cells` x `cells`
    parts of the picture, (N, channels * cells * cells). An exported network shows no layers: of it the raw
    map of that head is averaged. Nothing is downloaded."""

    def embed(images: Images) -> NDArray[np.floating]:
        with _seen_by_the_head(model) as seen:
            maps = model.predict(np.stack([preprocess(image, model.io)[0] for image in images]))
        features = seen[0] if seen else torch.from_numpy(np.asarray(maps[0]))
        return torch.nn.functional.adaptive_avg_pool2d(features, cells).flatten(1).float().cpu().numpy()

    return embed


@contextmanager
def _seen_by_the_head(model: Any) -> Iterator[list[torch.Tensor]]:
    """The input of the layer that gives the coarsest map, for each call inside the block; nothing where the
    layers are closed."""
    seen: list[torch.Tensor] = []
    if not isinstance(model, Detector):
        yield seen
        return
    layer = model.get_submodule(model.output_names[0])
    hook = layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def detect_with(
    model: Detecting, settings: DetectSettings | None = None, classes: Sequence[str] | None = None
) -> Detect:
    """Any backend's detections in the form that `add_predictions` takes; conf .1 by default. With `classes`
    their numbers are those of these names, and what the network finds of other classes is left out. Of each
    picture the `MOST` best count: an untrained network has thousands."""
    names = model.io.classes
    wanted = names if classes is None else tuple(classes)
    numbers = np.array([wanted.index(name) if name in wanted else -1 for name in names])

    def detect(images: Images) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        answers = []
        for boxes in run(model, images, settings or DetectSettings(conf=0.1)):
            keep = np.flatnonzero(numbers[boxes.class_ids] >= 0)[:MOST]
            answers.append((boxes.boxes[keep], boxes.scores[keep], numbers[boxes.class_ids[keep]]))
        return answers

    return detect


def embeddings_of(
    paths: Sequence[str | Path],
    embed: Embed,
    batch_size: int = 32,
    unreadable: dict[int, str] | None = None,
) -> NDArray[np.floating]:
    """Embeddings (N, D) of picture files; zeros for those that do not decode, which are entered in
    `unreadable` as by `toolkit.inference.run.run`. InputError where none decodes."""
    rows: dict[int, NDArray[np.floating]] = {}
    for first in progress(range(0, len(paths), batch_size), "embeddings"):
        batch = range(first, min(first + batch_size, len(paths)))
        images = {i: load_readable(paths[i], i, unreadable) for i in batch}
        there = {i: image for i, image in images.items() if image is not None}
        if there:
            rows |= zip(there, np.asarray(embed(list(there.values()))), strict=True)
    if not rows:
        raise InputError(f"none of {len(paths)} pictures decodes: expected some to compare")
    blank = np.zeros_like(next(iter(rows.values())))
    return np.stack([rows.get(i, blank) for i in range(len(paths))])


@asks_database
def add_embeddings(
    view: Any, embed: Embed, field: str = "embedding", batch_size: int = 32
) -> NDArray[np.floating]:
    """Embeddings (N, D) of the view's pictures, also kept in `field` of each."""
    ids, paths = view.values(["id", "filepath"])
    embeddings = embeddings_of(paths, embed, batch_size)
    view.set_values(field, dict(zip(ids, embeddings, strict=True)), key_field="id")
    return embeddings


@asks_database
def add_map(view: Any, embeddings: NDArray[np.floating]) -> NDArray[np.floating]:
    """For the App: a map on which pictures that look alike are near one another (its panel Embeddings, key
    "embeddings"), and sorting by similarity (key "similar"). Fewer than three pictures have none.

    Returns:
        (N, 2) the places on the map.
    """
    if len(embeddings) < 3:
        return np.zeros((len(embeddings), 2))
    import fiftyone.brain as brain

    vectors = np.asarray(embeddings, np.float64)
    by_groups = FEWEST <= len(vectors) <= PLOTTED
    options = {"pca_dims": min(50, *vectors.shape), "verbose": False} if by_groups else {}
    results = brain.compute_visualization(
        view,
        embeddings=vectors,
        method="tsne" if by_groups else "pca",
        brain_key=MAP,
        seed=0,
        progress=False,
        **options,
    )
    if SIMILAR in view.list_brain_runs():  # of another network
        view.delete_brain_run(SIMILAR)
    brain.compute_similarity(view, embeddings=vectors, brain_key=SIMILAR, backend="sklearn", progress=False)
    places: NDArray[np.floating] = results.points
    return places


def detect_known(model: Detecting, classes: Sequence[str]) -> Detect | None:
    """`detect_with` these classes where the network has all of them; None where it has not, so that what it
    misses says nothing about the labels, and where there are none."""
    known = classes and not compare_classes(model.io.classes, classes).only_dataset
    return detect_with(model, classes=classes) if known else None


@asks_database
def add_uniqueness(view: Any, embeddings: NDArray[np.floating]) -> None:
    """`uniqueness` in 0..1 of each picture: how far its nearest neighbours are, 1 for the loneliest."""
    import fiftyone.brain as brain

    if len(embeddings) and not np.ptp(embeddings, axis=0).any():
        view.set_values("uniqueness", [0.0] * len(embeddings))  # all alike: FiftyOne would divide by zero
        return
    brain.compute_uniqueness(view, embeddings=np.asarray(embeddings, np.float64), progress=bar("uniqueness"))


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


def bar(title: str) -> Callable[[Any], None]:
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
