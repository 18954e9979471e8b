import csv
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import boxes as bx
from toolkit.data import anchors
from toolkit.data.dataset import Dataset
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError

VOC = [(26, 48), (67, 84), (72, 175), (189, 126), (137, 236), (265, 259)]
FACES = [(4, 6), (7, 10), (11, 15), (16, 24), (33, 25), (26, 41), (47, 60), (83, 97), (141, 149)]


def dataset(sizes, counts, boxes, ignore=None) -> Dataset:
    n, m = len(counts), len(boxes)
    return Dataset(
        Path(),
        ("thing",),
        [f"{i}.jpg" for i in range(n)],
        np.arange(n),
        np.array(sizes, np.int32).reshape(-1, 2),
        np.full(n, ""),
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        np.arange(m),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(m, np.int32),
        np.zeros(m, bool),
        np.zeros(m, bool) if ignore is None else np.array(ignore),
    )


def voc_folder(name: str) -> Dataset:
    sizes, counts, boxes, hard = [], [], [], []
    for path in sorted((data() / name / "Annotations").glob("*.xml")):
        root = ElementTree.parse(path)
        objects = root.findall("object")
        sizes.append([int(root.findtext(f"size/{side}")) for side in ("width", "height")])
        counts.append(len(objects))
        for o in objects:
            boxes.append([float(o.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax")])
            hard.append(o.findtext("difficult") == "1")
    return dataset(sizes, counts, boxes, hard)


def faces() -> Dataset:
    root = data() / "widerface_val"
    with open(root / "sizes.csv", newline="") as stream:
        sizes = {row["file"]: (row["orig_w"], row["orig_h"]) for row in csv.DictReader(stream)}
    lines = (root / "wider_face_split/wider_face_val_bbx_gt.txt").read_text().splitlines()
    shapes, counts, boxes, invalid, at = [], [], [], [], 0
    while at < len(lines):
        count = int(lines[at + 1])
        rows = [list(map(int, line.split())) for line in lines[at + 2 : at + 2 + max(count, 1)]][:count]
        shapes.append([int(side) for side in sizes[lines[at].strip()]])
        counts.append(count)
        boxes += [[x, y, x + w, y + h] for x, y, w, h, *_ in rows]
        invalid += [row[7] == 1 for row in rows]
        at += 2 + max(count, 1)
    return dataset(shapes, counts, boxes, invalid)


def data() -> Path:
    if "TOOLKIT_DATA" not in os.environ:
        pytest.skip("TOOLKIT_DATA is not set: no data sets to fit anchors to")
    return Path(os.environ["TOOLKIT_DATA"])


def made(m: int = 500, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    groups = np.array([(10, 12), (40, 30), (90, 160)])
    return groups[generator.integers(0, 3, m)] * np.exp(generator.normal(0, 0.08, (m, 2)))


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize(
    ("read", "input_size", "strides", "published"),
    [
        (lambda: voc_folder("bccd"), (320, 320), (32, 16), VOC),
        (lambda: voc_folder("voc2012_sub1200"), (320, 320), (32, 16), VOC),
        (faces, (352, 288), (32, 16, 8), FACES),
    ],
    ids=["bccd", "voc2012_sub1200", "widerface_val"],
)
def test_refined_anchors_recall_no_less_than_the_published(read, input_size, strides, published, resize):
    sizes = anchors.object_sizes(read(), input_size, resize)
    theirs = anchors.fit(sizes, published, strides)
    ours = anchors.fit(sizes, anchors.find(sizes, len(published), generations=300), strides)
    assert ours.recall >= theirs.recall
    assert ours.mean_iou >= theirs.mean_iou


def test_overlap_of_sizes_is_that_of_boxes_with_one_centre():
    sizes, others = made(20), made(7, 1)
    corners, other_corners = (
        bx.cxcywh_to_xyxy(np.concatenate((np.zeros_like(s), s), axis=1)) for s in (sizes, others)
    )
    np.testing.assert_allclose(anchors.wh_iou(sizes, others), bx.iou(corners, other_corners), rtol=1e-5)


def test_fit_by_hand():
    fit = anchors.fit([(10, 10), (10, 20), (100, 100)], [(10, 10), (10, 16)], strides=(16, 8))
    assert fit.recall == pytest.approx(2 / 3)
    assert fit.mean_iou == pytest.approx((1 + 0.8 + 160 / 10000) / 3)
    assert fit.share == pytest.approx((1 / 3, 2 / 3))
    assert fit.below_stride == 0
    assert anchors.fit([(4, 4), (10, 4)], [(10, 10)], strides=(8,)).below_stride == 0.5
    assert set(fit.as_dict()) == {"recall", "mean_iou", "threshold", "share", "below_stride"}


def test_kmeans_finds_planted_groups():
    found = anchors.kmeans(made(), 3)
    np.testing.assert_allclose(found, [(10, 12), (40, 30), (90, 160)], rtol=0.04)
    np.testing.assert_array_equal(found, anchors.kmeans(made(), 3))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6))
def test_refining_never_lowers_the_recall(seed, count):
    sizes = made(80, seed)
    start = np.random.default_rng(seed).uniform(5, 200, (count, 2)).astype(np.float32)
    before = anchors.fit(sizes, start)
    after = anchors.fit(sizes, anchors.refine(sizes, start, generations=40, seed=seed))
    assert after.recall >= before.recall
    assert after.recall + 2 * after.mean_iou >= before.recall + 2 * before.mean_iou - 1e-6


def test_refining_improves_poor_anchors():
    start = np.array([(20, 20), (60, 60), (150, 150)], np.float32)
    before = anchors.fit(made(), start)
    after = anchors.fit(made(), anchors.refine(made(), start, generations=500))
    assert after.recall >= before.recall
    assert after.mean_iou > before.mean_iou + 0.1


def test_find_starts_from_the_published_where_they_are_better():
    sizes = made()
    published = anchors.refine(sizes, anchors.kmeans(sizes, 3), generations=400, seed=5)
    found = anchors.find(sizes, 3, published, generations=1)
    assert anchors.fit(sizes, found).recall >= anchors.fit(sizes, published).recall


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_sizes_at_the_input_are_those_of_the_placement(resize):
    boxes = [[10, 20, 110, 70], [0, 0, 40, 30], [5, 5, 5, 9], [0, 0, 20, 20]]
    made_set = dataset([(640, 480), (300, 500)], [1, 3], boxes, [False, False, False, True])
    sizes = anchors.object_sizes(made_set, (320, 256), resize)
    place = getattr(bx, resize)
    expected = [
        place((640, 480), (320, 256)).to_input(made_set.boxes[:1]),
        place((300, 500), (320, 256)).to_input(made_set.boxes[1:2]),
    ]
    np.testing.assert_allclose(sizes, [box[0, 2:] - box[0, :2] for box in expected], rtol=1e-5)


def test_a_search_follows_the_networks_own_fit():
    io = ModelIO((320, 320), ("a",), (HeadIO(32, ((40.0, 40.0),)),), 32, fit="letterbox")
    made_set = dataset([(640, 320)], [1], [[0, 0, 64, 64]])
    assert anchors.search(made_set, io).sizes.tolist() == [[32, 32]]
    assert anchors.search(made_set, io, resize="stretch").sizes.tolist() == [[32, 64]]


def test_heads_take_anchors_by_size():
    assert anchors.to_heads(VOC, (32, 16)) == ((3, 4, 5), (0, 1, 2))
    assert anchors.to_heads(FACES, (8, 32, 16)) == ((0, 1, 2), (6, 7, 8), (3, 4, 5))
    assert anchors.to_heads([(10, 10), (40, 40), (70, 70), (200, 200)], (32, 16), "stride") == (
        (2, 3),
        (0, 1),
    )
    assert anchors.to_heads([(10, 10), (12, 12)], (32, 16), "stride") == ((), (0, 1))
    with pytest.raises(InputError, match="cannot be shared evenly"):
        anchors.to_heads(VOC[:5], (32, 16))
    with pytest.raises(InputError, match="rule must be"):
        anchors.to_heads(VOC, (32, 16), "odd")


@pytest.mark.parametrize("count", [1, 6, 9])
@pytest.mark.parametrize(
    "sizes",
    [
        [(20, 30)],
        [(20, 30)] * 64,
        [(3, 3)] * 5,
        [(300, 2), (20, 20)],
        np.random.default_rng(0).uniform(20, 21, (64, 2)),
        [*[(20, 20)] * 90, *[(10 + i, 40) for i in range(10)]],
    ],
    ids=["one", "one-size", "tiny", "two", "nearly-one-size", "most-of-one-size"],
)
def test_few_sizes_give_anchors_that_differ_and_reach_the_objects(sizes, count):
    fitted = anchors.fitted(sizes, count, generations=50)
    assert fitted.anchors.shape == (count, 2)
    assert np.isfinite(fitted.anchors).all()
    assert (fitted.anchors > 0).all()
    assert (np.diff(fitted.anchors.prod(axis=1)) >= 0).all()
    assert len(np.unique(np.maximum(np.rint(fitted.anchors), 1), axis=0)) == count
    assert anchors.fit(sizes, fitted.anchors).recall == 1 or count == 1
    np.testing.assert_array_equal(anchors.find(sizes, count, generations=50), fitted.anchors)
    if count == 6 and len(np.unique(np.rint(sizes), axis=0)) == 1:  # each of two heads has one that fits
        overlap = anchors.wh_iou(sizes[:1], fitted.anchors)[0]
        assert all(overlap[list(mask)].max() > 0.5 for mask in anchors.to_heads(fitted.anchors, (32, 16)))
        assert "1 of 6 anchors: the others are spread around it" in fitted.notes[0]


def test_a_search_says_what_was_out_of_the_ordinary():
    from toolkit import create_model

    io = create_model("fastest-v2").io
    result = anchors.search(dataset([(640, 640)], [1], [[0, 0, 100, 100]]), io)
    assert result.anchors.shape == result.own.shape
    assert result.masks == ((3, 4, 5), (0, 1, 2))
    assert "1 of 6 anchors" in result.notes[0]
    boxes = [[0, 0, w, h] for w in range(30, 600, 30) for h in range(20, 600, 30)]
    assert anchors.search(dataset([(640, 640)], [len(boxes)], boxes), io).notes == ()
    with pytest.raises(InputError, match="there are no objects to fit anchors to: label some"):
        anchors.search(dataset([(640, 640)], [0], []), io)
    with pytest.raises(InputError, match="at least 1, found -2"):
        anchors.search(dataset([(640, 640)], [1], [[0, 0, 9, 9]]), io, -2)


def test_bad_input_is_one_sentence():
    with pytest.raises(InputError, match="no objects"):
        anchors.kmeans(np.zeros((0, 2)), 3)
    with pytest.raises(InputError, match="fewer anchors"):
        anchors.kmeans([(3, 4)] * 10, 2)
    with pytest.raises(InputError, match="positive numbers"):
        anchors.fit([(3, 0)], [(1, 1)])
    with pytest.raises(InputError, match=r"no recorded size, the first is '0\.jpg'"):
        anchors.object_sizes(dataset([(0, 0)], [1], [[0, 0, 1, 1]]), (320, 320))
    with pytest.raises(InputError, match="fit must be"):
        anchors.object_sizes(dataset([(9, 9)], [1], [[0, 0, 1, 1]]), (320, 320), "crop")
