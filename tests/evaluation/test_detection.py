"""The evaluators against plain retellings of each protocol, and against pycocotools itself, whose figures on
one made set are also written down here.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.retold import darknet_ap, figures, iou, pycocotools, share_inside, voc_ap
from toolkit.data.dataset import Dataset
from toolkit.evaluation import average_precision, coco, failures, matching, operating
from toolkit.evaluation.columns import Detections, Truth
from toolkit.runtime import InputError

# pycocotools 2.0.11 on scene(0): with `ignore` honoured, with ignored objects as crowds, and as it is.
PYCOCOTOOLS = {
    "once": [
        0.22813696594018076,
        0.4011191901421045,
        0.21959655192061076,
        0.27380505220851753,
        0.23027800762267545,
        0.34521598672215864,
        0.24667483660130718,
        0.5798080065359477,
        0.5798080065359477,
        0.62625,
        0.5535937499999999,
        0.6567002442002442,
    ],
    "crowd": [
        0.24121744702403555,
        0.41494645434900496,
        0.24132750713767345,
        0.27791182414944793,
        0.24383485718863168,
        0.3634540819572798,
        0.24667483660130718,
        0.5798080065359477,
        0.5798080065359477,
        0.62625,
        0.5535937499999999,
        0.6567002442002442,
    ],
    "counted": [
        0.2591727977953815,
        0.45124177223411865,
        0.25006654550562557,
        0.3066225798404016,
        0.26888924892275723,
        0.3464344713940853,
        0.2392714388829816,
        0.5785024700604612,
        0.5785024700604612,
        0.5895833333333333,
        0.5639068719882674,
        0.6192307692307691,
    ],
}


def scene(seed: int, pictures: int = 60, classes: int = 4, crowds: bool = True) -> tuple[Truth, Detections]:
    """Objects on whole pixels with crowd regions and ignored objects, detections near them and elsewhere.

    Only `integers` and `random` of the generator are used: numpy keeps their streams.
    """
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for picture in range(pictures):
        for _ in range(generator.integers(0, 9)):
            w, h = generator.integers(8, 150, 2)
            x, y = generator.integers(0, 200, 2)
            label, kind = generator.integers(0, classes), generator.random()
            box = np.array([x, y, x + w, y + h])
            truth.append(
                (picture, *box, label, crowds and kind < 0.1, crowds and (kind < 0.03 or 0.1 <= kind < 0.3))
            )
            for _ in range(generator.integers(0, 4)):
                near = np.round(
                    box + (generator.random(4) - 0.5) * 0.5 * generator.random() * np.array([w, h, w, h])
                )
                other = generator.random() < 0.15
                said = generator.integers(0, classes) if other else label
                found.append((picture, *near, said, np.float32(generator.random())))
        for _ in range(generator.integers(0, 4)):
            x, y, w, h = generator.integers(8, 100, 4)
            found.append(
                (picture, x, y, x + w, y + h, generator.integers(0, classes), np.float32(generator.random()))
            )
    t = np.array(truth, float).reshape(-1, 8)
    d = np.array(found, float).reshape(-1, 7)
    return (
        Truth(
            tuple(f"class {c}" for c in range(classes)),
            np.searchsorted(t[:, 0], np.arange(pictures + 1)),
            t[:, 1:5].astype(np.float32),
            t[:, 5].astype(np.int32),
            t[:, 6].astype(bool),
            t[:, 7].astype(bool),
        ),
        Detections(
            d[:, 0].astype(np.int64),
            d[:, 1:5].astype(np.float32),
            d[:, 6].astype(np.float32),
            d[:, 5].astype(np.int64),
        ),
    )


@pytest.mark.parametrize("mode", ["once", "crowd", "counted"])
def test_coco_gives_the_figures_that_pycocotools_gave(mode):
    scores = coco.coco(*scene(0), ignored=mode)
    np.testing.assert_allclose(figures(scores), PYCOCOTOOLS[mode], rtol=0, atol=1e-12)


def test_how_ignored_objects_are_taken_makes_a_difference():
    assert len({tuple(row) for row in PYCOCOTOOLS.values()}) == 3


@pytest.mark.parametrize("mode", ["once", "crowd", "counted"])
@pytest.mark.parametrize("seed", [1, 2])
def test_coco_is_identical_to_pycocotools_on_made_sets(seed, mode):
    truth, detections = scene(seed, classes=1 + 9 * seed)
    expected = pycocotools(truth, detections, mode)
    np.testing.assert_allclose(
        figures(coco.coco(truth, detections, ignored=mode)), expected, rtol=0, atol=1e-12
    )


def bccd() -> tuple[Dataset, Detections]:
    """BCCD as it is, and detections made from its labels."""
    if "TOOLKIT_DATA" not in os.environ:
        pytest.skip("TOOLKIT_DATA is not set: no BCCD to evaluate on")
    root = Path(os.environ["TOOLKIT_DATA"], "bccd")
    classes = ("RBC", "WBC", "Platelets")
    generator = np.random.default_rng(0)
    files, counts, boxes, labels, found = [], [], [], [], []
    for path in sorted((root / "Annotations").glob("*.xml")):
        objects = ElementTree.parse(path).findall("object")
        for o in objects:
            box = np.array([float(o.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")])
            boxes.append(box)
            labels.append(classes.index(o.findtext("name")))
            for _ in range(generator.integers(0, 3)):
                near = np.round(box + (generator.random(4) - 0.5) * 0.4 * np.tile(box[2:] - box[:2], 2))
                said = labels[-1] if generator.random() < 0.9 else generator.integers(0, 3)
                found.append((len(files), *near, said, np.float32(generator.random())))
        counts.append(len(objects))
        files.append(f"JPEGImages/{path.stem}.jpg")
    n, m, d = len(files), len(boxes), np.array(found)
    dataset = Dataset(
        root,
        classes,
        files,
        np.arange(n),
        np.full((n, 2), (640, 480), np.int32),
        np.full(n, ""),
        np.concatenate(([0], np.cumsum(counts))),
        np.arange(m),
        np.array(boxes, np.float32),
        np.array(labels, np.int32),
        np.zeros(m, bool),
        np.zeros(m, bool),
    )
    return dataset, Detections(
        d[:, 0].astype(int), d[:, 1:5].astype(np.float32), d[:, 6].astype(np.float32), d[:, 5].astype(int)
    )


def test_coco_is_identical_to_pycocotools_on_bccd():
    dataset, detections = bccd()
    truth = Truth.from_dataset(dataset)
    expected = pycocotools(truth, detections, "counted")
    assert 0.05 < expected[0] < 0.95
    np.testing.assert_allclose(figures(coco.coco(truth, detections)), expected, rtol=0, atol=1e-12)


def test_coco_marks_what_it_cannot_measure():
    truth, detections = one_picture([[0, 0, 200, 200]], [[0, 0, 200, 186]])
    scores = coco.coco(truth, detections)
    assert scores.ap_small == scores.ap_medium == -1
    assert scores.ap50 == scores.ap_large / 0.9 == pytest.approx(1.0)
    assert scores.per_class["class 0"]["ap75"] == pytest.approx(1.0)
    assert scores.precision.shape == (1, 101)
    assert json.loads(json.dumps(scores.as_dict()))["ar100"] == pytest.approx(0.9)


def test_coco_sizes_follow_given_areas():
    truth, detections = one_picture([[0, 0, 200, 200]], [[0, 0, 200, 200]])
    scores = coco.coco(replace(truth, areas=np.array([900.0])), detections)
    assert scores.ap_small == pytest.approx(1.0)
    assert scores.ap_large == -1


def test_coco_without_detections_is_zero():
    truth, _ = scene(3)
    assert coco.coco(truth, Detections.from_pictures([])).ap == 0


# ---------------------------------------------------------------- VOC, darknet


def one_picture(objects, found, scores=None, labels=None, said=None, classes=1) -> tuple[Truth, Detections]:
    m, k = len(objects), len(found)
    truth = Truth(
        tuple(f"class {c}" for c in range(classes)),
        np.array([0, m]),
        np.array(objects, np.float32).reshape(-1, 4),
        np.array(labels or [0] * m, np.int32),
        np.zeros(m, bool),
        np.zeros(m, bool),
    )
    return truth, Detections.from_pictures(
        [
            (
                np.array(found, np.float32).reshape(-1, 4),
                np.array(scores or np.linspace(0.9, 0.1, k), np.float32),
                np.array(said or [0] * k),
            )
        ]
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    points=st.sampled_from(["area", "11", "101"]),
    difficult=st.sampled_from(["counted", "dropped", "ignored"]),
    coarse=st.booleans(),
)
def test_darknet_is_its_loops_retold(seed, points, difficult, coarse):
    truth, detections = scene(seed, pictures=6, classes=3)
    if coarse:  # equal scores keep their order
        detections = replace(detections, scores=np.round(detections.scores, 1))
    expected, aps = darknet_ap(truth, detections, 0 if points == "area" else int(points), difficult)
    known = ~truth.crowd if difficult == "counted" else ~truth.crowd & ~truth.ignore
    if not known.any():
        with pytest.raises(InputError, match="nothing to find"):
            average_precision.darknet(truth, detections, points=points, difficult=difficult)
        return
    scores = average_precision.darknet(truth, detections, points=points, difficult=difficult)
    assert scores.map == pytest.approx(expected, abs=1e-12)
    assert [np.nan_to_num(c.ap) for c in scores.per_class] == pytest.approx(aps, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    points=st.sampled_from(["area", "11"]),
    difficult=st.sampled_from(["counted", "ignored"]),
    pixel=st.sampled_from([0.0, 1.0]),
)
def test_voc_is_the_devkit_retold(seed, points, difficult, pixel):
    truth, detections = scene(seed, pictures=6, classes=3)
    expected = [voc_ap(truth, detections, c, points, difficult, pixel) for c in range(3)]
    if np.isnan(expected).all():
        return
    scores = average_precision.voc(truth, detections, points=points, difficult=difficult, pixel=pixel)
    assert [c.ap for c in scores.per_class] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert scores.map == pytest.approx(np.nanmean(expected), abs=1e-12)


def test_a_second_detection_of_an_object_is_wrong():
    truth, detections = one_picture(
        [[0, 0, 10, 10], [50, 50, 60, 60]], [[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]
    )
    scores = average_precision.voc(truth, detections)
    assert scores.matches.right.tolist() == [True, False, True]
    assert scores.map == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert scores.as_dict()["map50"] == scores.map


def test_the_protocols_differ_where_the_overlap_is_exactly_the_threshold():
    truth, detections = one_picture([[0, 0, 10, 10]], [[0, 0, 10, 20]])
    assert average_precision.voc(truth, detections).map == 1
    assert average_precision.darknet(truth, detections).map == 0


def test_darknet_means_over_classes_without_objects_and_voc_does_not():
    truth, detections = one_picture([[0, 0, 10, 10]], [[0, 0, 10, 10]], classes=4)
    assert average_precision.voc(truth, detections).map == 1
    assert average_precision.darknet(truth, detections).map == 0.25
    assert average_precision.voc(truth, detections).as_dict()["per_class"]["class 3"]["ap"] is None


def test_difficult_objects_cost_nothing_unless_counted():
    truth, detections = one_picture([[0, 0, 10, 10], [50, 0, 60, 10]], [[50, 0, 60, 10], [0, 0, 10, 10]])
    truth = replace(truth, ignore=np.array([False, True]))
    assert average_precision.voc(truth, detections).map == 1
    assert average_precision.darknet(truth, detections, difficult="ignored").map == 1
    assert average_precision.darknet(truth, detections).map == 0.5  # as published: not in the labels
    assert average_precision.darknet(truth, detections, difficult="counted").map == 1
    assert average_precision.voc(truth, detections.select([1]), difficult="counted").map == 0.5


def test_order_of_pictures_and_detections_does_not_matter():
    truth, detections = scene(7)
    shuffled = detections.select(np.random.default_rng(0).permutation(len(detections)))
    assert average_precision.darknet(truth, shuffled).map == pytest.approx(
        average_precision.darknet(truth, detections).map
    )
    assert average_precision.voc(truth, shuffled).map == pytest.approx(
        average_precision.voc(truth, detections).map
    )


def test_many_pairs_are_compared_in_parts(monkeypatch):
    truth, detections = scene(8)
    whole = average_precision.voc(truth, detections).map
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 7)
    assert average_precision.voc(truth, detections).map == whole


# ---------------------------------------------------------------- operating points


def applied(truth: Truth, detections: Detections, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and false positives per picture of what a threshold leaves."""
    matches = matching.match(truth, detections.select(detections.scores > threshold))
    same = matching.match(truth, detections.select(detections.scores >= threshold))
    assert len(same.rows) == len(matches.rows)
    right = matches.right.sum()
    return (
        right / max(len(matches.right), 1),
        right / matches.truths.sum(),
        (len(matches.right) - right) / len(truth),
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    wish=st.sampled_from(["precision", "recall", "false_positives"]),
    value=st.floats(0.01, 1),
    digits=st.sampled_from([1, 6]),
)
def test_an_operating_point_holds_when_applied_and_none_is_better(seed, wish, value, digits):
    truth, detections = scene(seed, pictures=8, classes=2)
    detections = replace(detections, scores=np.round(detections.scores, digits))
    table = operating.operating_points(matching.match(truth, detections))
    column = {"precision": 1, "recall": 2, "false_positives": 4}[wish]
    fits = table[:, column] <= value if wish == "false_positives" else table[:, column] >= value
    if not fits.any():
        with pytest.raises(InputError, match="no threshold gives"):
            operating.operating_point(matching.match(truth, detections), **{wish: value})
        return
    point = operating.operating_point(matching.match(truth, detections), **{wish: value})
    precision, recall, wrong = applied(truth, detections, point.threshold)
    assert (precision, recall, wrong) == pytest.approx((point.precision, point.recall, point.false_positives))
    other = 1 if wish == "recall" else 2
    assert table[fits, other].max() == pytest.approx((precision, recall)[other - 1])


def test_the_default_operating_point_has_the_best_f1():
    truth, detections = scene(11)
    point = operating.operating_point(matching.match(truth, detections))
    for score in np.unique(detections.scores):
        precision, recall, _ = applied(truth, detections, float(score) - 1e-7)
        assert 2 * precision * recall <= (precision + recall) * (point.f1 + 1e-9)
    assert set(point.as_dict()) == {"threshold", "precision", "recall", "f1", "false_positives"}


def test_operating_point_takes_one_wish_and_needs_detections():
    truth, detections = scene(12)
    with pytest.raises(InputError, match="one wish"):
        operating.operating_point(matching.match(truth, detections), precision=0.5, recall=0.5)
    with pytest.raises(InputError, match="found nothing"):
        operating.operating_point(matching.match(truth, Detections.from_pictures([])))


# ---------------------------------------------------------------- confusion and failures


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.floats(0, 0.9))
def test_confusion_is_the_greedy_pairing_retold(seed, threshold):
    truth, detections = scene(seed, pictures=5, classes=3)
    images, countable = truth.images, ~truth.crowd & ~truth.ignore
    expected = np.zeros((4, 4), int)
    for picture in range(5):
        shown = np.flatnonzero((detections.images == picture) & (detections.scores >= threshold))
        real = np.flatnonzero(images == picture)
        pairs = [
            (detections.class_ids[d] != truth.labels[t], -iou(detections.boxes[d], truth.boxes[t]), d, t)
            for d in shown
            for t in real[countable[real]]
            if iou(detections.boxes[d], truth.boxes[t]) >= 0.5
        ]
        took, taken = set(), set()
        for _, _, d, t in sorted(pairs):
            if d not in took and t not in taken:
                took.add(d)
                taken.add(t)
                expected[truth.labels[t], detections.class_ids[d]] += 1
        for t in set(real[countable[real]]) - taken:
            expected[truth.labels[t], 3] += 1
        for d in set(shown) - took:
            box = detections.boxes[d]
            lost = any(iou(box, truth.boxes[t]) >= 0.5 for t in real[(truth.ignore & ~truth.crowd)[real]])
            crowd = any(share_inside(box, truth.boxes[t]) >= 0.5 for t in real[truth.crowd[real]])
            if not lost and not crowd:
                expected[3, detections.class_ids[d]] += 1
    if not len(truth.labels):
        return
    np.testing.assert_array_equal(failures.confusion(truth, detections, threshold), expected)


def test_failures_are_the_worst_first():
    truth, detections = one_picture(
        [[0, 0, 10, 10], [100, 0, 110, 10], [200, 0, 240, 40], [300, 0, 320, 20]],
        [[0, 0, 10, 10], [100, 0, 110, 10], [500, 500, 510, 510], [600, 600, 610, 610], [300, 0, 320, 20]],
        scores=[0.9, 0.8, 0.3, 0.7, 0.2],
        labels=[0, 1, 0, 1],
        said=[0, 0, 0, 1, 1],
        classes=2,
    )
    worst = failures.failures(truth, detections, threshold=0.25)
    assert worst.false_positives.tolist() == [3, 2]
    assert worst.missed.tolist() == [2, 3]
    assert worst.wrong_class.tolist() == [[1, 1]]
    assert failures.failures(truth, detections, 0.25, limit=1).false_positives.tolist() == [3]
    assert json.loads(json.dumps(worst.as_dict()))["missed"] == [2, 3]


def test_the_gallery_shows_every_kind(tmp_path):
    truth, detections = one_picture(
        [[0, 0, 10, 10], [20, 20, 60, 40]],
        [[0, 0, 10, 10], [40, 0, 60, 10]],
        labels=[0, 1],
        said=[1, 0],
        classes=2,
    )
    dataset = Dataset(
        tmp_path,
        truth.classes,
        ["a.png"],
        np.arange(1),
        np.array([[64, 48]], np.int32),
        np.array([""]),
        truth.starts,
        np.arange(2),
        truth.boxes,
        truth.labels,
        truth.crowd,
        truth.ignore,
    )
    worst = failures.failures(truth, detections, 0.0)
    with pytest.raises(InputError, match=r"a\.png is missing"):
        failures.failure_gallery(dataset, detections, worst)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), 200, np.uint8))
    figure = failures.failure_gallery(dataset, detections, worst)
    assert [axes.get_title() for axes in figure.axes] == [
        "false: class 0 0.10",
        "missed: class 1",
        "class 0 taken for class 1 0.90",
    ]


# ---------------------------------------------------------------- columns and bad input


def test_classes_are_matched_by_name():
    _, detections = one_picture([], [[0, 0, 1, 1]] * 3, said=[0, 1, 2])
    matched = detections.by_name(["cat", "dog", "car"], ["car", "bird", "cat"])
    assert matched.class_ids.tolist() == [2, 0]
    np.testing.assert_array_equal(matched.scores, detections.scores[[0, 2]])
    with pytest.raises(InputError, match="share no class"):
        detections.by_name(["cat"] * 3, ["face"])


def test_columns_from_pictures():
    detections = Detections.from_pictures(
        [
            (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)),
            (np.ones((2, 4)), np.array([0.5, 0.25]), np.array([1, 0])),
        ]
    )
    assert detections.images.tolist() == [1, 1]
    assert detections.boxes.dtype == detections.scores.dtype == np.float32
    assert detections.class_ids.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.array([5])}, "the data set has 1"),
        ({"class_ids": np.array([3])}, "has class 3"),
        ({"scores": np.array([np.nan], np.float32)}, "not a number"),
        ({"boxes": np.full((1, 4), np.inf, np.float32)}, "not a number"),
    ],
)
@pytest.mark.parametrize("evaluate", [coco.coco, average_precision.voc, average_precision.darknet])
def test_detections_that_do_not_belong_are_refused(evaluate, change, message):
    truth, detections = one_picture([[0, 0, 10, 10]], [[0, 0, 10, 10]])
    with pytest.raises(InputError, match=message):
        evaluate(truth, replace(detections, **change))


@pytest.mark.parametrize("evaluate", [coco.coco, average_precision.voc, average_precision.darknet])
def test_a_set_without_pictures_or_objects_is_refused(evaluate):
    truth, detections = one_picture([], [])
    with pytest.raises(InputError, match="no labelled objects"):
        evaluate(truth, detections)
    with pytest.raises(InputError, match="no pictures"):
        evaluate(replace(truth, starts=np.array([0])), detections)


def test_unknown_choices_are_refused():
    truth, detections = one_picture([[0, 0, 10, 10]], [[0, 0, 10, 10]])
    with pytest.raises(InputError, match="points must be"):
        average_precision.voc(truth, detections, points="12")
    with pytest.raises(InputError, match="points must be"):
        average_precision.darknet(truth, detections, points="12")
    with pytest.raises(InputError, match="difficult must be"):
        average_precision.voc(truth, detections, difficult="dropped")
    with pytest.raises(InputError, match="difficult must be"):
        average_precision.darknet(truth, detections, difficult="never")
    with pytest.raises(InputError, match="above 0 and at most 1, not 0"):
        average_precision.darknet(truth, detections, iou=0)
    with pytest.raises(InputError, match="ignored must be"):
        coco.coco(truth, detections, ignored="never")
