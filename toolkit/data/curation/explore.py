"""What to look at, as FiftyOne views: copies, the smallest, rarest, most unique, and what to label next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.data.curation.agreement import DISAGREEMENTS, SURE, disagreements, hardest
from toolkit.data.curation.desk import TRUTH, asks_database, fiftyone
from toolkit.data.curation.features import (
    Detect,
    Embed,
    add_embeddings,
    add_map,
    add_predictions,
    add_uniqueness,
)
from toolkit.data.curation.queue import doubt, label_next
from toolkit.data.grouping import copy_groups
from toolkit.data.splitting import SPLITS, split_order
from toolkit.pictures import load_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COPIES = "copies"  # the field with the number of a group of copies
EDGE = 0.01  # of a picture's sides
REASONS = {  # tag -> why such a picture is not needed
    "exact duplicate": "the same picture as another",
    "near duplicate": "nearly the same picture as another",
}
EXACT, NEAR = REASONS


@asks_database
def tag_duplicates(view: Any) -> dict[str, list[int]]:
    """Tag repeated pictures, by the measure of the doctor and of `data split` (`grouping.copy_groups`).

    Of each group of copies the first stays as it is: of the split that comes first (train, val, test), so
    that a later split loses what an earlier one has. The others are tagged "exact duplicate" (the same
    pixels) or "near duplicate", and `duplicate_of` has the file that stays. `copies` numbers the group of
    every picture that has a copy, those that stay too.

    Returns:
        The picture identifiers under each tag.
    """
    fo = fiftyone()
    ids, paths, files, image_ids, tags = view.values(["id", "filepath", "file", "image_id", "tags"])
    splits = [next((tag for tag in each if tag in SPLITS), "") for each in tags]
    rank = split_order(splits)
    order = sorted(range(len(ids)), key=lambda i: (rank.index(splits[i]), i))
    found = copy_groups([paths[i] for i in order])
    home = view._root_dataset
    home.add_sample_field("duplicate_of", fo.StringField)
    home.add_sample_field(COPIES, fo.IntField)
    tagged: dict[str, list[int]] = {EXACT: [], NEAR: []}
    groups: dict[str, int] = {}
    originals: dict[str, str] = {}
    for number, members in enumerate(found.groups, start=1):
        first, *others = (order[k] for k in members)
        groups |= dict.fromkeys((ids[first], *(ids[i] for i in others)), number)
        originals |= {ids[i]: files[first] for i in others}
    for place, i in enumerate(order):
        if ids[i] in originals:
            tagged[EXACT if place in found.exact else NEAR].append(i)
    for tag, rows in tagged.items():
        if rows:
            view.select([ids[i] for i in rows]).tag_samples(tag)
    if groups:
        view.set_values(COPIES, groups, key_field="id")
        view.set_values("duplicate_of", originals, key_field="id")
    return {tag: [image_ids[i] for i in sorted(rows)] for tag, rows in tagged.items()}


@asks_database
def duplicates(view: Any) -> Any:
    """The pictures that have a copy, and their copies, group by group. `tag_duplicates` comes first."""
    return view.match(fiftyone().ViewField(COPIES) > 0).sort_by(COPIES)


@asks_database
def without_copies(view: Any) -> Any:
    """The pictures that have no copy. `tag_duplicates` comes first."""
    return view.match(~(fiftyone().ViewField(COPIES) > 0))


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


@asks_database
def next_to_label(
    view: Any, embeddings: NDArray[np.floating], count: int = 50, field: str = "predictions"
) -> Any:
    """The pictures without labels that would teach most, the first first (`queue.label_next`); `doubt` of
    each picture is how unsure the network is of it."""
    ids, scores, labels = view.values(["id", f"{field}.detections.confidence", f"{TRUTH}.detections.label"])
    doubts = [doubt(np.array(each or ())) for each in scores]
    view.set_values("doubt", doubts)
    labelled = np.array([bool(each) for each in labels], np.bool_)
    return view.select([ids[i] for i in label_next(embeddings, doubts, labelled, count)], ordered=True)


@asks_database
def prepare(
    fo_dataset: Any, embed: Embed | None = None, detect: Detect | None = None, count: int = 50
) -> dict[str, int]:
    """All views of this package, as far as there is a network to compare or to find; they are saved.

    Returns:
        The number of pictures in each saved view.
    """
    tag_duplicates(fo_dataset)
    views = {"smallest": smallest(fo_dataset, count), "rarest": rarest(fo_dataset, count)}
    views["duplicates"] = duplicates(fo_dataset)
    embeddings = None
    if embed is not None:
        embeddings = add_embeddings(fo_dataset, embed)
        add_uniqueness(fo_dataset, embeddings)
        add_map(fo_dataset, embeddings)
        views["most unique"] = hardest(without_copies(fo_dataset), count, "uniqueness")
    if detect is not None:
        add_predictions(fo_dataset, detect)
        views |= disagreements(fo_dataset, count)
    if embeddings is not None and detect is not None:
        views["label next"] = next_to_label(fo_dataset, embeddings, count)
    for name, view in views.items():
        fo_dataset.save_view(name, view, overwrite=True)
    return {name: view.count() for name, view in views.items()}


@asks_database
def ignore_cut(view: Any, input_size: tuple[int, int], thinnest: float) -> int:
    """Boxes that the border of their picture cuts and that are thinner than `thinnest` px at a network's
    input (width, height) are set to `ignore`. Returns how many there were."""
    expression = fiftyone().ViewField
    x, y, width, height = (expression("bounding_box")[k] for k in range(4))
    cut = (x < EDGE) | (y < EDGE) | (x + width > 1 - EDGE) | (y + height > 1 - EDGE)
    thin = (width * input_size[0] < thinnest) | (height * input_size[1] < thinnest)
    slivers = view.filter_labels(TRUTH, cut & thin & ~expression("ignore"))
    ids = slivers.values(f"{TRUTH}.detections.id", unwind=True)
    view.set_label_values(f"{TRUTH}.detections.ignore", dict.fromkeys(ids, True))
    return len(ids)


@asks_database
def grid(view: Any, count: int = 12, field: str = TRUTH, title: str = "", detections: str = "") -> Figure:
    """The first pictures of a view with their boxes, as a matplotlib figure: what the App would show. With
    `detections`, a field, its boxes are drawn in colours over those of `field` in white."""
    from toolkit.viz import WHITE, draw_boxes, image_grid

    classes = list(view._root_dataset.default_classes)
    drawn, titles = [], []
    for sample in view.limit(count):
        image = load_image(sample.filepath)
        boxes, numbers, names, _ = _drawable(sample, field, image, classes)
        if detections:
            numbers, names = np.full(len(boxes), WHITE), []
        picture = draw_boxes(image, boxes, numbers, classes=names, scale=2)
        if detections:
            boxes, numbers, names, scores = _drawable(sample, detections, picture, classes)
            picture = draw_boxes(picture, boxes, numbers, scores, names, scale=2)
        drawn.append(picture)
        titles.append(Path(sample.filepath).name)
    return image_grid(drawn, titles, title=title)


def _drawable(
    sample: Any, field: str, image: NDArray[np.uint8], classes: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.intp], list[str], NDArray[np.float64]]:
    """Boxes in px of `image`, their class numbers, the names of these, and scores of a picture's `field`."""
    height, width = image.shape[:2]
    every = sample[field].detections if field in sample.field_names and sample[field] else []
    found = [each for each in every if each.confidence is None or each.confidence >= SURE]
    rel = np.array([each.bounding_box for each in found], np.float64).reshape(-1, 4)
    boxes = np.concatenate((rel[:, :2], rel[:, :2] + rel[:, 2:]), axis=1) * [width, height, width, height]
    names = classes + sorted({each.label for each in found} - set(classes))
    numbers = np.array([names.index(each.label) for each in found], np.intp)
    scores = np.array([each.confidence or 0 for each in found], np.float64)
    return boxes.astype(np.float32), numbers, names, scores


def picture_of(fo_dataset: Any, name: str, count: int = 12) -> Figure:
    """A saved view as `grid` draws it; of disagreements the detections in colour over the labels in white."""
    against = name in DISAGREEMENTS
    title = f"{name} (white: labels, colours: detections)" if against else name
    return grid(
        fo_dataset.load_saved_view(name), count, title=title, detections="predictions" if against else ""
    )
