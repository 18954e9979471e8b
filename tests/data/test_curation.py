"""Curation in a real FiftyOne: nothing is lost on the way in or out, nor when the database is killed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.network import listening
from toolkit.data import curation, doctor
from toolkit.data.dataset import Dataset
from toolkit.data.toy import make_toy
from toolkit.runtime import InputError

names = map("set{}".format, itertools.count())


def same(a: Dataset, b: Dataset) -> bool:
    """Every column equal, to the last bit."""
    for field in dataclasses.fields(Dataset):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            if not np.array_equal(x, y) or (x.dtype != y.dtype and x.dtype.kind != "U"):
                return False
        elif x != y:
            return False
    return True


finite = st.floats(-50, 2000, width=32, allow_nan=False)


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """Up to four pictures with anything in their columns that a reader may bring."""
    n = draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    m, k = sum(counts), draw(st.sampled_from([0, 0, 3]))
    low = np.array(draw(st.lists(st.tuples(finite, finite), min_size=m, max_size=m)), np.float32).reshape(
        m, 2
    )
    side = st.floats(0.125, 900, width=32)
    size = np.array(draw(st.lists(st.tuples(side, side), min_size=m, max_size=m)), np.float32).reshape(m, 2)
    flags = st.lists(st.booleans(), min_size=m, max_size=m)
    ids = st.lists(st.integers(1, 10**6), min_size=m, max_size=m, unique=True)
    keypoints = None
    if k:
        marks = st.tuples(finite, finite, st.sampled_from([0.0, 1.0, 2.0]))
        keypoints = np.array(draw(st.lists(marks, min_size=m * k, max_size=m * k)), np.float32).reshape(
            m, k, 3
        )
    sizes = st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=n, max_size=n)
    return Dataset(
        root=Path("/pictures"),
        classes=("cell", "plate let", "größe"),
        files=[f"a/{i} b.jpg" for i in range(n)],
        image_ids=np.array(
            draw(st.lists(st.integers(0, 10**9), min_size=n, max_size=n, unique=True)), np.int64
        ),
        sizes=np.array(draw(sizes), np.int32),
        splits=np.array(
            draw(st.lists(st.sampled_from(["train", "val", "test", ""]), min_size=n, max_size=n))
        ),
        starts=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        box_ids=np.array(draw(ids), np.int64),
        boxes=np.concatenate((low, low + size), axis=1).astype(np.float32),
        labels=np.array(draw(st.lists(st.integers(0, 2), min_size=m, max_size=m)), np.int32),
        crowd=np.array(draw(flags), bool),
        ignore=np.array(draw(flags), bool),
        keypoints=keypoints,
        areas=(size.prod(axis=1) / 3).astype(np.float32) if draw(st.booleans()) else None,
        original_sizes=np.array(draw(sizes), np.int32) if draw(st.booleans()) else None,
    )


@given(datasets())
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_there_and_back_nothing_changes(fiftyone_database, dataset):
    made = curation.to_fiftyone(dataset, next(names))
    back = curation.from_fiftyone(made)
    made.delete()
    assert same(dataset, back)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_toy(tmp_path_factory.mktemp("toy") / "toy", count=24, classes=4)


@pytest.fixture
def desk(fiftyone_database, toy):
    made = curation.to_fiftyone(toy, next(names))
    yield made
    made.delete()


def detect_truth(dataset: Dataset, worse: float = 0.0):
    """A detector that knows the answers: picture i's boxes with score .9 - worse * i, told by the pixels."""
    known = {cv2.imread(str(dataset.path(i))).tobytes(): i for i in range(len(dataset))}

    def detect(images):
        answers = []
        for image in images:
            i = known[image[..., ::-1].tobytes()]
            rows = dataset.rows(i)
            scores = np.full(len(dataset.labels[rows]), 0.9 - worse * i, np.float32)
            answers.append((dataset.boxes[rows], scores, dataset.labels[rows]))
        return answers

    return detect


def pixels(images):
    """The plainest embedding: 8 x 8 grey values."""
    small = [
        cv2.resize(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), (8, 8), interpolation=cv2.INTER_AREA) for i in images
    ]
    grey = np.array(small, np.float32).reshape(len(images), -1)
    return grey - grey.mean(axis=1, keepdims=True)


def test_sizes_that_are_not_recorded_are_read(fiftyone_database, toy):
    made = curation.to_fiftyone(replace(toy, sizes=np.zeros_like(toy.sizes)), next(names))
    assert same(curation.from_fiftyone(made), toy)
    made.delete()
    lost = replace(toy, sizes=np.zeros_like(toy.sizes), root=Path("/nowhere"))
    with pytest.raises(InputError, match="its size is not recorded"):
        curation.to_fiftyone(lost, "lost")
    import fiftyone as fo

    assert not fo.dataset_exists("lost")


def test_a_name_is_taken_once(desk, toy):
    with pytest.raises(InputError, match="already"):
        curation.to_fiftyone(toy, desk.name)


def test_a_class_without_a_name_is_refused(fiftyone_database, toy):
    with pytest.raises(InputError, match="class without a name"):
        curation.to_fiftyone(replace(toy, labels=toy.labels + 4), "bad")


def test_edits_come_back(desk, toy):
    import fiftyone as fo

    first, second = desk.limit(2)
    first.tags = ["test"]
    first.ground_truth.detections[0].label = toy.classes[3]
    x, y, w, h = first.ground_truth.detections[0].bounding_box
    first.ground_truth.detections[0].bounding_box = [x, y, w / 2, h]
    twin = fo.Detection(
        label=toy.classes[1], bounding_box=[0.25, 0.5, 0.125, 0.125], box_id=int(toy.box_ids[0])
    )
    first.ground_truth.detections.append(twin)
    first.save()
    second.ground_truth.detections = []
    second.save()
    desk.add_sample(fo.Sample(toy.path(3), tags=["val"]))

    back = curation.from_fiftyone(desk)
    assert back.splits[0] == "test"
    count = int(toy.starts[1])
    assert back.labels[back.rows(0)].tolist() == [3, *toy.labels[1:count], 1]
    x1, y1, x2, y2 = toy.boxes[0]
    assert back.boxes[0].tolist() == pytest.approx([x1, y1, (x1 + x2) / 2, y2])
    assert back.boxes[count].tolist() == [40, 80, 60, 100]
    assert back.box_ids[count] == toy.box_ids.max() + 1  # the copy does not keep its original's identifier
    assert back.starts[2] == back.starts[1]
    assert back.files[-1] == toy.files[3]
    assert back.image_ids[-1] == toy.image_ids.max() + 1
    assert len(np.unique(back.box_ids)) == len(back.box_ids)


def test_labels_and_splits_that_make_no_sense(desk):
    sample = desk.first()
    sample.tags = ["train", "val"]
    sample.save()
    with pytest.raises(InputError, match="train and val in FiftyOne: a picture has one split"):
        curation.from_fiftyone(desk)
    sample.tags = ["train"]
    sample.ground_truth.detections[0].label = "tpyo"
    sample.save()
    with pytest.raises(InputError, match="tpyo"):
        curation.from_fiftyone(desk)
    desk.default_classes = [*desk.default_classes, "tpyo"]
    assert curation.from_fiftyone(desk).classes[-1] == "tpyo"


def test_what_was_removed_and_why(desk, toy, tmp_path):
    blurred, odd = desk.limit(2)
    blurred.tags.append("blurred")
    blurred.save()
    odd.ground_truth.detections[0].tags.append("wrong")
    odd.save()
    deleted = desk.skip(2).first()
    desk.delete_samples([deleted])
    fourth = desk.skip(2).first()
    fourth.tags = ["test", "check again"]
    fourth.save()
    view = desk.limit(20)
    reasons = {"blurred": "out of focus", "wrong": "not a digit"}
    kept, record = curation.curated(toy, view, reasons)

    ids = toy.image_ids
    entries = record["pictures"]
    assert entries[str(ids[0])]["removed"] == ["out of focus"]
    assert entries[str(ids[2])]["removed"] == ["deleted in FiftyOne"]
    assert entries[str(ids[23])]["removed"] == ["not in the view"]
    assert entries[str(ids[3])]["split"] == {"from": str(toy.splits[3]), "to": "test"}
    assert entries[str(ids[3])]["tags"] == ["check again"]
    (box,) = entries[str(ids[1])]["removed_boxes"]
    assert box["reasons"] == ["not a digit"]
    assert box["box_id"] == toy.box_ids[toy.starts[1]]
    assert kept.image_ids.tolist() == [i for k, i in enumerate(ids.tolist()) if k not in (0, 2, 21, 22, 23)]
    assert toy.box_ids[toy.starts[1]] not in kept.box_ids
    assert record["view"] == ["Limit(limit=20)"]
    assert record["before"]["pictures"] == 24
    assert record["after"] == {
        "pictures": 19,
        "boxes": len(kept.boxes),
        "splits": {
            "test": 1,
            "train": int((kept.splits == "train").sum()),
            "val": int((kept.splits == "val").sum()),
        },
    }
    curation.export_record(record, tmp_path / "record.json")
    assert same(curation.replay(toy, curation.read_record(tmp_path / "record.json")), kept)

    again = curation.to_fiftyone(toy, next(names), record=record)
    assert again.count_sample_tags()["check again"] == 1
    assert same(curation.from_fiftyone(again), kept)
    again.delete()


def test_the_order_of_a_view_is_not_the_order_of_the_set(desk, toy):
    kept, record = curation.curated(toy, desk.shuffle(seed=1))
    assert same(kept, toy)
    assert record["pictures"] == {}


@st.composite
def edited(draw: st.DrawFn) -> tuple[Dataset, Dataset]:
    """A dataset, and what somebody made of it."""
    before = draw(datasets())
    keep = draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before)))
    after = before.subset(np.flatnonzero(keep))
    n, m = len(after), len(after.boxes)
    splits = draw(st.lists(st.sampled_from(["train", "val", "test", ""]), min_size=n, max_size=n))
    moved = np.array(draw(st.lists(st.booleans(), min_size=m, max_size=m)), bool)
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=m, max_size=m)), np.int32)
    boxes = np.where(moved[:, None], after.boxes + np.float32(1.5), after.boxes)
    after = replace(
        after, splits=np.array(splits, np.str_), boxes=boxes, labels=labels, crowd=after.crowd ^ moved
    )
    stays = np.array(draw(st.lists(st.booleans(), min_size=m, max_size=m)), bool)
    columns = ("box_ids", "boxes", "labels", "crowd", "ignore", "keypoints", "areas")
    values = {name: getattr(after, name) for name in columns}
    starts = np.concatenate(([0], np.cumsum(stays)))[after.starts].astype(np.int64)
    values = {name: None if value is None else value[stays] for name, value in values.items()}
    if n and draw(st.booleans()):  # and a new box at the end of the last picture
        new = {
            "box_ids": [10**7], "boxes": [[1, 2, 3, 4]], "labels": [2], "crowd": [False], "ignore": [True],
            "keypoints": None if before.keypoints is None else np.ones((1, 3, 3)), "areas": [4],
        }  # fmt: skip
        values = {
            name: None if value is None else np.concatenate((value, np.array(new[name], value.dtype)))
            for name, value in values.items()
        }
        starts[-1] += 1
    return before, replace(after, starts=starts, **values)


@given(edited())
@settings(max_examples=60, deadline=None)
def test_a_record_replays_every_edit(pair):
    before, after = pair
    record = curation.difference(before, after)
    assert same(curation.replay(before, json.loads(json.dumps(record))), after)
    assert same(curation.replay(before, curation.difference(before, before)), before)


def test_a_record_of_something_else(toy, tmp_path):
    other = replace(toy, image_ids=toy.image_ids + 1000)
    record = curation.difference(other, other.subset(np.arange(3)))
    with pytest.raises(InputError, match="about other pictures"):
        curation.replay(toy, record)
    for text, words in {
        '{"pictures": ': "not valid JSON",
        '{"images": []}': "record of curation",
        '{"classes": [], "pictures": {"1": {"file": "../x.jpg"}}}': "leads out of the data set",
        '{"classes": [], "pictures": {"1": {"file": "a.jpg", "added_boxes": [{"box_id": 1}]}}}': "class",
    }.items():
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=words):
            curation.read_record(tmp_path / "a.json")


def test_a_record_with_null_in_place_of_what_may_be_left_out(toy, tmp_path):
    record = curation.difference(toy.subset(np.arange(0)), toy.subset(np.arange(1)))
    (entry,) = record["pictures"].values()
    entry |= {"split": None, "removed_boxes": []}
    entry["added_boxes"][0] |= {"keypoints": [], "area": None, "crowd": "no"}
    curation.export_record(record, tmp_path / "a.json")
    replayed = curation.replay(toy.subset(np.arange(0)), curation.read_record(tmp_path / "a.json"))
    assert (replayed.files, replayed.crowd[0]) == ([toy.files[0]], False)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"class": "none of them"}, "has no class"), ({"keypoints": [[1, 2, 2]]}, "key points")],
)
def test_a_record_whose_boxes_do_not_fit(change, words, toy):
    record = curation.difference(toy.subset(np.arange(0)), toy.subset(np.arange(1)))
    (entry,) = record["pictures"].values()
    entry["added_boxes"][0] |= change
    with pytest.raises(InputError, match=words):
        curation.replay(toy.subset(np.arange(0)), record)


def test_embeddings_of_a_network_and_duplicates_by_them(fiftyone_database, toy, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    first = cv2.imread(str(toy.path(0)))
    for i in range(5):
        (folder / f"{i}.jpg").write_bytes(toy.path(i).read_bytes())
    (folder / "same.jpg").write_bytes(toy.path(0).read_bytes())
    cv2.imwrite(
        str(folder / "near.jpg"), cv2.resize(first, None, fx=0.7, fy=0.7), [cv2.IMWRITE_JPEG_QUALITY, 70]
    )
    files = [f"{i}.jpg" for i in range(5)] + ["near.jpg", "same.jpg"]
    n = len(files)
    dataset = replace(
        toy.subset(np.zeros(n, int)),
        root=folder, files=files, image_ids=np.arange(n) + 1, box_ids=np.arange(n * int(toy.starts[1])),
        sizes=np.zeros((n, 2), np.int32),
    )  # fmt: skip
    made = curation.to_fiftyone(dataset, next(names))
    vectors = curation.add_embeddings(made, pixels, batch_size=3)
    expected = pixels([cv2.imread(str(dataset.path(i)))[..., ::-1].copy() for i in range(n)])
    assert vectors == pytest.approx(expected, abs=1e-5)
    assert np.array(made.values("embedding")) == pytest.approx(vectors)
    assert curation.tag_duplicates(made) == {"exact duplicate": [7], "near duplicate": [6]}
    assert made.match_tags("near duplicate").values(["file", "duplicate_of"]) == (["near.jpg"], ["0.jpg"])
    assert curation.duplicates(made).values("file") == ["0.jpg", "near.jpg", "same.jpg"]
    assert curation.without_copies(made).values("file") == [f"{i}.jpg" for i in range(1, 5)]
    curation.add_uniqueness(made, vectors)
    unique = dict(zip(*made.values(["file", "uniqueness"]), strict=True))
    assert max(unique["0.jpg"], unique["same.jpg"], unique["near.jpg"]) < min(
        unique[f"{i}.jpg"] for i in range(1, 5)
    )
    curation.add_uniqueness(made, np.ones((n, 4)))  # all alike: nothing divides by zero
    assert made.values("uniqueness") == [0.0] * n
    made.delete()


def test_copies_are_those_of_the_doctor(fiftyone_database, tmp_path):
    """Mirrored, brightened, plain and exact copies in two splits: every pair that the doctor finds is in the
    view, the later split's is tagged, and none of them is among the most unique."""
    toy = make_toy(tmp_path / "toy", count=16, classes=4, splits={"test": 0.5, "train": 0.5})
    test, train = (np.flatnonzero(toy.splits == name) for name in ("test", "train"))
    for k, change in enumerate(
        (lambda x: x[:, ::-1], lambda x: cv2.convertScaleAbs(x, beta=20), lambda x: x)
    ):
        image = change(cv2.imread(str(toy.path(train[k]))))
        cv2.imwrite(str(toy.path(test[k])), image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    toy.path(test[3]).write_bytes(toy.path(train[3]).read_bytes())
    for i in (test[4], train[4]):
        cv2.imwrite(str(toy.path(i)), np.full((160, 160, 3), 90, np.uint8))
    findings = [f for f in doctor.examine(toy).findings if f.other is not None]
    assert len(findings) == 5
    made = curation.to_fiftyone(toy, next(names))
    views = curation.prepare(made, pixels, count=100)
    shown = made.load_saved_view("duplicates").values(["file", "copies"])
    groups = dict(zip(*shown, strict=True))
    assert list(groups.values()) == sorted(groups.values())
    unique = set(made.load_saved_view("most unique").values("file"))
    for finding in findings:
        assert groups[finding.file] == groups[finding.other]
        assert not unique & {finding.file, finding.other}
    assert views["duplicates"] + views["most unique"] == len(toy)
    tagged = made.match_tags(["exact duplicate", "near duplicate"]).values("file")
    assert set(tagged) == {finding.file for finding in findings}
    made.delete()


def test_a_picture_that_does_not_decode_stops_the_embedding(fiftyone_database, toy, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    broken = replace(toy.subset(np.array([0])), root=tmp_path, files=["broken.jpg"])
    made = curation.to_fiftyone(broken, next(names))
    with pytest.raises(InputError, match="does not decode"):
        curation.add_embeddings(made, pixels)
    with pytest.raises(InputError, match="does not decode"):
        curation.add_predictions(made, detect_truth(toy))
    with pytest.raises(InputError, match="does not decode"):
        curation.grid(made)
    made.delete()


def test_our_own_networks_embed_and_detect(desk, toy):
    from toolkit.inference.backend import DetectSettings
    from toolkit.models import create_model

    torch.manual_seed(0)
    model = create_model("yoloface-100k")
    embed = curation.embed_with(model, cells=2)
    layer = model.get_submodule(model.output_names[0])
    images = [cv2.imread(str(toy.path(i)))[..., ::-1].copy() for i in (0, 1, 0)]
    vectors = embed(images)
    assert vectors.shape[0] == 3
    assert vectors.shape[1] % 4 == 0
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])
    assert not layer._forward_pre_hooks  # the network is left as it was
    added = curation.add_embeddings(desk, embed)
    assert added[:2] == pytest.approx(vectors[:2], rel=1e-4, abs=1e-4)
    detect = curation.detect_with(model, DetectSettings(conf=0.6))
    curation.add_predictions(desk, detect, classes=model.io.classes)
    assert set(desk.distinct("predictions.detections.label")) <= set(model.io.classes)


def test_a_trained_network_in_every_form_closes_the_loop(desk, toy, tmp_path):
    """Folder, checkpoint, cfg, weights and export of a training embed alike and find the same."""
    from toolkit.export.write import export_model
    from toolkit.networks import open_model
    from toolkit.training.config import read_config
    from toolkit.training.loop import train

    run = tmp_path / "run"
    levers = {"epochs": 1, "batch": 8, "ema": 0}
    settings = {"data": str(toy.root.parent), "model": "yoloface-100k", "size": (64, 64), "recipe": levers}
    train(read_config(settings), run, dataset=toy)
    export_model(open_model(str(run)), tmp_path / "exported", ["onnx"])
    sources = [run, run / "best.pt", run / "best.cfg", run / "best.weights", tmp_path / "exported"]
    images = [cv2.imread(str(toy.path(i)))[..., ::-1].copy() for i in range(4)]
    networks = [open_model(str(source)) for source in sources]
    first, *others, exported = [curation.embed_with(network)(images) for network in networks]
    for other in others:
        assert other == pytest.approx(first, rel=1e-4, abs=1e-4)
    assert len(exported) == 4
    assert not np.allclose(exported[0], exported[1])
    found = [curation.detect_with(network, classes=toy.classes)(images) for network in networks]
    for answer in found[1:]:
        assert [len(each[0]) for each in answer] == pytest.approx([len(each[0]) for each in found[0]], abs=2)
    for network in (networks[0], networks[-1]):
        detect = curation.detect_with(network, classes=toy.classes)
        views = curation.prepare(desk, curation.embed_with(network), detect, 4)
        assert views["hardest"] == views["most mistaken"] == 4


def test_detections_of_other_classes_are_left_out(toy):
    from toolkit.models import create_model

    torch.manual_seed(0)
    names_there = ("cat", *reversed(toy.classes))
    model = create_model("yoloface-100k", classes=names_there, input_size=64)
    image = cv2.imread(str(toy.path(0)))
    ((_, _, every),) = curation.detect_with(model)([image])
    ((_, _, kept),) = curation.detect_with(model, classes=toy.classes)([image])
    assert set(every.tolist()) == set(range(5))
    assert set(kept.tolist()) == set(range(4))


def test_a_network_is_compared_where_it_has_all_classes(fiftyone_database, toy):
    """With more classes of its own, too; and a set without labels has a queue and nothing to compare."""
    from toolkit.models import create_model

    more = create_model("yoloface-100k", classes=("cat", *reversed(toy.classes)), input_size=64)
    fewer = create_model("yoloface-100k", classes=toy.classes[1:], input_size=64)
    detect = curation.detect_known(more, toy.classes)
    assert detect is not None
    assert curation.detect_known(fewer, toy.classes) is None
    assert curation.detect_known(more, ()) is None
    bare = toy.keep_boxes(np.zeros(len(toy.boxes), bool)).subset(np.arange(6))
    made = curation.to_fiftyone(bare, next(names))
    views = curation.prepare(made, pixels, detect, 4)
    assert (views["label next"], views["rarest"]) == (4, 0)
    assert not {"hardest", "missed"} & views.keys()
    made.delete()


def test_a_wrong_label_is_the_most_mistaken(desk, toy):
    curation.add_predictions(desk, detect_truth(toy))
    sample = desk.skip(5).first()
    sample.ground_truth.detections[0].label = toy.classes[(toy.labels[toy.starts[5]] + 1) % 4]
    sample.save()
    curation.add_mistakenness(desk)
    assert curation.hardest(desk, 1, "mistakenness").first().id == sample.id
    desk.reload()
    assert desk[sample.id].ground_truth.detections[0].mistakenness > 0.9
    # Attributes that FiftyOne put on boxes do not come back as labels.
    assert curation.from_fiftyone(desk).box_ids.tolist() == toy.box_ids.tolist()


def test_hardness_is_what_the_detector_misses(desk, toy):
    curation.add_predictions(desk, detect_truth(toy, worse=0.02))
    first, last = desk.first(), desk.last()
    first.predictions.detections = []  # misses everything
    first.save()
    from fiftyone import Detection

    last.predictions.detections.append(
        Detection(label="zero", bounding_box=[0, 0, 0.01, 0.01], confidence=0.5)
    )
    last.save()
    curation.add_hardness(desk)
    hardness = desk.values("hardness")
    counts = np.diff(toy.starts)
    assert hardness[0] == 1.0
    assert hardness[1:-1] == pytest.approx([1 - (0.9 - 0.02 * i) for i in range(1, len(toy) - 1)], abs=1e-5)
    right = counts[-1] * (0.9 - 0.02 * (len(toy) - 1))
    assert hardness[-1] == pytest.approx(1 - right / (counts[-1] + 0.5), abs=1e-5)
    assert curation.hardest(desk, 1).first().id == first.id
    assert not desk.list_evaluations()


def test_views_to_look_at(desk, toy):
    areas = (toy.boxes[:, 2:] - toy.boxes[:, :2]).prod(axis=1)
    least = [areas[toy.rows(i)].min() for i in range(len(toy))]
    expected = toy.image_ids[np.argsort(least, kind="stable")][:5].tolist()
    assert curation.smallest(desk, 5).values("image_id") == expected
    rare = min(range(4), key=lambda c: ((toy.labels == c).sum(), c))
    have = [int(toy.image_ids[i]) for i in range(len(toy)) if (toy.labels[toy.rows(i)] == rare).any()]
    assert curation.rarest(desk, 100).values("image_id") == have
    with pytest.raises(InputError, match="add_hardness first"):
        curation.hardest(desk)

    views = curation.prepare(desk, pixels, detect_truth(toy), count=6)
    assert views == {"smallest": 6, "rarest": min(6, len(have)), "duplicates": 0, "most unique": 6,
                     "hardest": 6, "most mistaken": 6, "false positives": 0, "confused": 0, "missed": 0,
                     "label next": 0}  # fmt: skip
    assert sorted(desk.list_saved_views()) == sorted(views)
    assert desk.load_saved_view("smallest").values("image_id")[:5] == expected
    assert curation.prepare(desk, count=6).keys() == {"smallest", "rarest", "duplicates"}


def test_a_network_against_the_labels(desk, toy):
    """A box that was invented, one that was missed, and one of another class, each in its view alone."""
    import fiftyone as fo

    curation.add_predictions(desk, detect_truth(toy))
    invented, missing, confused, ignored, bare = desk.limit(5)
    bare.ground_truth.detections = []  # without labels, which says nothing about the detections
    invented.predictions.detections.append(
        fo.Detection(label=toy.classes[0], bounding_box=[0, 0, 0.01, 0.01], confidence=0.8)
    )
    for sample in (missing, ignored):
        sample.predictions.detections = []
    for each in ignored.ground_truth.detections:
        each.ignore = True
    wrong = confused.predictions.detections[0]
    wrong.label = toy.classes[(toy.classes.index(wrong.label) + 1) % 4]
    for sample in (invented, missing, confused, ignored, bare):
        sample.save()
    views = curation.disagreements(desk)
    shown = {name: views[name].values("id") for name in ("false positives", "missed", "confused")}
    assert shown == {
        "false positives": [invented.id],
        "missed": [missing.id],
        "confused": [confused.id],
    }
    (alone,) = views["confused"].first().predictions.detections
    assert alone.label == wrong.label
    assert len(views["missed"].first().ground_truth.detections) == int(toy.starts[2] - toy.starts[1])
    assert desk.list_evaluations() == ["labels"]  # which the App's panel shows


def test_pictures_without_labels_are_a_queue(fiftyone_database, toy):
    """The picture that the network is unsure of comes first, and a copy of a labelled one last."""
    labelled = np.arange(len(toy)) < 12
    made = curation.to_fiftyone(toy.keep_boxes(labelled[toy.owners()]), next(names))
    vectors = np.eye(24)
    vectors[13] = vectors[0]  # looks as one with labels
    scores = iter([0.5 if i in (15, 13) else 0.99 for i in range(24)])

    def detect(images):
        return [(np.array([[1, 1, 9, 9]]), np.array([next(scores)]), np.array([0])) for _ in images]

    curation.add_predictions(made, detect)
    files = curation.next_to_label(made, vectors, 12).values("file")
    assert files[0] == toy.files[15]
    assert files[-1] == toy.files[13]
    assert set(files) == set(toy.files[12:])
    assert made.first()["doubt"] == pytest.approx(4 * 0.99 * 0.01)
    made.delete()


def test_what_never_came_to_the_desk_stays_as_it_is(fiftyone_database, toy, tmp_path):
    some = toy.subset(np.arange(10))
    made = curation.to_fiftyone(some, next(names))
    made.limit(2).tag_samples("blurred")
    with curation.saving(made, toy, tmp_path / "saved.json"):
        pass
    kept, record = curation.curated(toy, made, {"blurred": "out of focus"})
    assert kept.files == toy.files[2:]
    assert record["outside"] == toy.image_ids[10:].tolist()
    assert curation.read_record(tmp_path / "saved.json")["outside"] == record["outside"]
    assert same(curation.replay(toy, json.loads(json.dumps(record))), kept)
    again = curation.to_fiftyone(some, next(names), record=curation.curated(some, made, {"blurred": "b"})[1])
    assert len(curation.curated(some, again)[0]) == 8  # what an earlier session removed is not outside
    for each in (made, again):
        each.delete()


def test_objects_that_the_border_cuts_are_ignored(fiftyone_database, toy):
    boxes = toy.boxes.copy()
    boxes[0], boxes[1] = [0, 50, 4, 90], [100, 50, 104, 90]  # cut by the left border; as thin, and whole
    made = curation.to_fiftyone(replace(toy, boxes=boxes), next(names))
    assert curation.ignore_cut(made, (160, 160), 5) == 1
    assert curation.from_fiftyone(made).ignore.nonzero()[0].tolist() == [0]
    assert curation.ignore_cut(made, (160, 160), 5) == 0  # once
    made.delete()


def test_a_record_in_numbers(desk, toy):
    desk.limit(2).tag_samples("near duplicate")
    moved = desk.skip(2).first()
    moved.tags = ["test"]
    moved.ground_truth.detections.pop()
    moved.save()
    columns = curation.Edits(curation.curated(toy, desk, curation.REASONS)[1]).columns()
    counts = dict(zip(columns["in the record"], columns["count"], strict=True))
    assert counts == {
        "pictures removed": 2,
        "pictures moved to another split": 1,
        "boxes changed": 0,
        "boxes removed": 1,
        "boxes added": 0,
        "removed: nearly the same picture as another": 2,
    }
    assert columns["first picture"][:2] == [toy.files[0], toy.files[2]]


def test_suspects_are_looked_at_first(tmp_path):
    faulty = make_toy(tmp_path / "faulty", count=40, classes=4, faults=True)
    report = doctor.examine(faulty)
    suspects = {name for finding in report.findings for name in (finding.file, finding.other)}
    suspects &= set(faulty.files)
    part = curation.first_to_look_at(faulty, report, len(suspects) + 3)
    assert suspects < set(part.files)
    assert len(part) == len(suspects) + 3


def test_the_app_has_a_colour_for_each_class_and_boxes_to_draw(desk, toy):
    from toolkit.data.curation.app import colour_classes, prepare_annotation

    prepare_annotation(desk)
    schema = desk.label_schemas["ground_truth"]
    assert desk.active_label_schemas == ["ground_truth"]
    assert schema["type"] == "detections"
    assert schema["classes"] == list(toy.classes)
    assert {attribute["name"] for attribute in schema["attributes"]} == {"ignore", "iscrowd"}
    colour_classes(desk)
    scheme = desk.app_config.color_scheme
    (field,) = (field for field in scheme.fields if field["path"] == "ground_truth")
    assert scheme.color_by == "value"
    assert [each["value"] for each in field["valueColors"]] == list(toy.classes)
    assert len({each["color"] for each in field["valueColors"]}) == len(toy.classes)


def test_a_grid_stands_in_for_the_app(desk, toy):
    figure = curation.grid(desk, 5, title="five")
    shown = [axis.get_title() for axis in figure.axes if axis.images]
    assert shown == [Path(name).name for name in toy.files[:5]]


SESSION = """
import json, os, signal, sys, time
from toolkit.data import curation, mongod
from toolkit.data.dataset import load
from toolkit.runtime import InputError

folder, record, home = sys.argv[1:4]
dataset = load(folder)
with mongod.database(home) as running:
    desk = curation.to_fiftyone(dataset, "cells", persistent=True)
    began = time.monotonic()
    try:
        with curation.saving(desk, dataset, record, every=0.2):
            desk.limit(4).tag_samples("blurred")
            sample = desk.skip(4).first()
            sample.tags = ["test"]
            sample.ground_truth.detections.pop()
            sample.save()
            time.sleep(2)
            os.kill(running.pid, signal.SIGKILL)
            began = time.monotonic()
            desk.tag_samples("lost")
    except InputError as error:
        print("error:", error)
    print("seconds:", time.monotonic() - began)
    try:
        curation.from_fiftyone(desk)
    except InputError as error:
        print("error:", error)
"""

NEXT_DAY = """
import sys
from toolkit.data import curation, mongod
from toolkit.data.dataset import load
folder, record, home = sys.argv[1:4]
dataset = load(folder)
with mongod.database(home):
    import fiftyone as fo
    old = fo.load_dataset("cells")
    new = curation.to_fiftyone(dataset, "again", record=curation.read_record(record))
    for desk in (old, new):
        kept = curation.from_fiftyone(desk)
        print(desk.count_sample_tags().get("blurred"), kept.splits[4], len(kept.boxes))
"""


def test_the_app_answers_this_machine_and_sends_pictures_of_its_datasets_alone(
    desk, toy, tmp_path, monkeypatch
):
    monkeypatch.setenv("BROWSER", "true")  # the App opens one, and this program does nothing
    secret, before = tmp_path / "secret.jpg", listening()
    secret.write_bytes(toy.path(0).read_bytes())
    app = curation.open_app(desk, auto=False)
    try:
        servers = listening() - before
        media = f"{app.url}media"

        def status(path: Path | str, **headers: str) -> int:
            return requests.get(media, {"filepath": str(path)}, headers=headers, timeout=20).status_code

        assert servers
        assert [server for server in servers if not server[0].is_loopback] == []
        picture = requests.get(media, {"filepath": str(toy.path(0))}, timeout=20)
        assert picture.content == toy.path(0).read_bytes()
        hidden = toy.path(0).parent / ".." / "images" / toy.path(0).name
        assert [status(path) for path in (secret, "/etc/passwd", "", hidden)] == [404] * 4
        assert status(toy.path(0), Host="elsewhere.example") == 400
    finally:
        app.close()
    assert listening() == before


def test_a_killed_database_costs_nothing(toy, tmp_path):
    folder = toy.root.parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FIFTYONE_")}

    def run(script: str) -> list[str]:
        answer = subprocess.run(
            [sys.executable, "-c", script, folder, tmp_path / "record.json", tmp_path / "home"],
            capture_output=True, text=True, timeout=180, env=environment,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.splitlines()

    error, seconds, second_error = run(SESSION)
    assert "holds the tags, splits and edits of 5 pictures" in error
    assert str(tmp_path / "record.json") in error
    assert float(seconds.split()[1]) < 15
    assert "database stopped" in second_error
    record = curation.read_record(tmp_path / "record.json")
    kept = curation.replay(toy, record)  # no database at all
    assert kept.splits[4] == "test"
    assert len(kept.boxes) == len(toy.boxes) - 1
    expected = f"4 test {len(toy.boxes) - 1}"
    assert run(NEXT_DAY) == [expected, expected]


def test_a_database_that_is_not_there_is_said_at_once(tmp_path):
    script = (
        "from toolkit.data import curation\n"
        "import time; began = time.monotonic()\n"
        "try: curation.fiftyone()\n"
        "except Exception as error: print(type(error).__name__, time.monotonic() - began, error)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "FIFTYONE_DATABASE_URI": "mongodb://127.0.0.1:9"},
    )  # fmt: skip
    kind, seconds, sentence = answer.stdout.split(maxsplit=2)
    assert kind == "InputError"
    assert float(seconds) < 5
    assert "127.0.0.1:9" in sentence


def test_the_package_does_without_fiftyone():
    script = "import sys, toolkit.data.curation, toolkit.data.doctor; print('fiftyone' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"
