"""The toy dataset."""

import hashlib
from functools import partial
from inspect import signature

import cv2
import numpy as np
import pytest

from toolkit import boxes as box_formats
from toolkit.data import cards, doctor, toy
from toolkit.data.catalog import load
from toolkit.data.toy_faults import plant_faults
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "set"
    return toy.make_toy(folder, count=100)


def digest(dataset):
    return [hashlib.sha256(dataset.path(i).read_bytes()).hexdigest() for i in range(len(dataset))]


def test_what_is_promised(made):
    assert [int((made.splits == s).sum()) for s in ("train", "val")] == [80, 20]
    assert (made.sizes == 160).all()
    counts = np.diff(made.starts)
    assert counts.min() >= 1
    assert counts.max() <= 6
    sides = made.boxes[:, 2:] - made.boxes[:, :2]
    assert sides.min() >= 16
    assert sides.max() <= 80
    assert sides.min(axis=1).min() < 20  # the small end is there
    assert sides.max(axis=1).max() > 70
    assert made.boxes.min() >= 0
    assert made.boxes.max() <= 160
    assert set(made.labels.tolist()) == set(range(10))
    for i in range(len(made)):
        boxes = made.boxes[made.rows(i)].astype(float)
        overlap = box_formats.iou(boxes, boxes)
        np.fill_diagonal(overlap, 0)
        assert overlap.max() <= 0.3
    for i in range(0, 100, 10):
        assert cv2.imread(str(made.path(i))).shape == (160, 160, 3)


def test_it_loads_as_it_was_made(made):
    loaded = load(made.root.parent)
    assert loaded.files == made.files
    assert loaded.classes == made.classes == tuple(cards.card("toy").classes)
    np.testing.assert_array_equal(loaded.boxes, made.boxes)
    np.testing.assert_array_equal(loaded.labels, made.labels)


def test_the_same_every_time_and_the_first_pictures_stay(made, tmp_path):
    again = toy.make_toy(tmp_path / "again", count=50)
    of = dict(zip(made.files, digest(made), strict=True))
    assert [of[name] for name in again.files] == digest(again)
    other = toy.make_toy(tmp_path / "other", seed=1, count=10)
    assert not set(digest(other)) & set(of.values())


def test_boxes_are_exactly_what_was_pasted():
    (photographs, digits), _ = toy._sources(0, 10, (0.8, 0.2))
    for seed in range(60):
        rng = np.random.default_rng(seed)
        before = toy.background(rng, photographs, 160)
        after = before.copy()
        boxes, labels = toy.add_digits(rng, after, digits, (1, 1))
        assert len(labels) == 1
        rows, columns = np.nonzero((before != after).any(axis=2))
        assert boxes == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]


def test_nothing_is_in_two_splits():
    sources = toy._sources(0, 10, (0.6, 0.2, 0.2))
    pictures = [{p.tobytes() for p in photographs} for photographs, _ in sources]
    digits = [{d.tobytes() for label in of_class for d in label} for _, of_class in sources]
    for kind in (pictures, digits):
        assert all(kind)
        for i in range(3):
            for j in range(i):
                shared = kind[i] & kind[j]
                assert len(shared) <= (
                    3 if kind is digits else 0
                )  # the digits themselves repeat a few bitmaps
    counts = [sum(map(len, of_class)) for _, of_class in sources]
    assert sum(counts) == 1797
    assert abs(counts[0] - 0.6 * 1797) < 10


def test_other_sizes_classes_and_splits(tmp_path):
    found = toy.make_toy(
        tmp_path / "set",
        count=20,
        size=96,
        classes=3,
        splits={"train": 0.5, "val": 0.25, "test": 0.25},
        objects=(2, 3),
    )
    assert found.classes == ("zero", "one", "two")
    assert found.labels.max() <= 2
    assert [int((found.splits == s).sum()) for s in ("train", "val", "test")] == [10, 5, 5]
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert sides.min() >= 9.6
    assert sides.max() <= 48
    assert np.diff(found.starts).max() <= 3


def test_digits_can_be_told_apart(made, tmp_path):
    """A nearest neighbour on small grey crops of the training split names most digits of the other one: the
    pictures are legible, and labels and boxes belong together."""
    dataset = toy.make_toy(tmp_path / "set", count=300, objects=(1, 2))

    def crops(split):
        part = dataset.split(split)
        rows = []
        for i in range(len(part)):
            grey = cv2.imread(str(part.path(i)), cv2.IMREAD_GRAYSCALE).astype(np.float32)
            for x1, y1, x2, y2 in part.boxes[part.rows(i)].astype(int):
                crop = cv2.resize(grey[y1:y2, x1:x2], (12, 12), interpolation=cv2.INTER_AREA)
                crop = (crop - crop.mean()) / (crop.std() + 1)
                rows.append(crop.reshape(-1))
        return np.array(rows), part.labels

    known, labels = crops("train")
    asked, wanted = crops("val")
    # a digit may be lighter or darker than what lies under it
    similar = np.abs(asked @ known.T).argmax(axis=1)
    assert (labels[similar] == wanted).mean() > 0.6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": 11}, "1 to 10 classes"),
        ({"classes": 0}, "1 to 10 classes"),
        ({"size": 32}, "at least 64 px"),
        ({"objects": (0, 3)}, "at least one object"),
        ({"splits": {"train": 0.5}}, "add up to 1"),
        ({"splits": {"train": 1.5, "val": -0.5}}, "must be positive"),
        ({"count": 1}, "a picture for each"),
    ],
)
def test_bad_arguments(tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        toy.make_toy(tmp_path / "set", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_name_makes_it_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "toy.yaml").write_text((cards.FOLDER / "toy.yaml").read_text())
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    monkeypatch.setattr(toy, "make_toy", partial(toy.make_toy, count=20))
    monkeypatch.delenv("TOOLKIT_DATA", raising=False)
    found = load("toy")
    assert len(found) == 20
    assert found.root == tmp_path / "toy/images"
    assert load("toy").files == found.files


def test_the_card_tells_the_defaults():
    defaults = {name: p.default for name, p in signature(toy.make_toy).parameters.items()}
    assert (defaults["seed"], defaults["count"], defaults["size"], defaults["classes"]) == (0, 1000, 160, 10)
    assert cards.card("toy").splits == {"train": 800, "val": 200}
    assert toy.SIDES == (16 / 160, 80 / 160)


def test_planted_faults_are_what_the_doctor_finds(tmp_path):
    """Each fault that a labelled set can have, in the picture that was named, whatever is drawn."""
    for seed in (0, 1):
        faulty = toy.make_toy(tmp_path / f"toy{seed}", seed, count=40, classes=4, faults=True)
        report = doctor.examine(faulty)
        assert [fault for fault, count in report.counts.items() if not count] == ["no-labels"]
        assert len(faulty) == 40
    plain = toy.make_toy(tmp_path / "plain", 1, count=40, classes=4)
    assert doctor.examine(plain).findings == []
    planted = plant_faults(tmp_path / "plain")
    report = doctor.examine(load(tmp_path / "plain", faults="keep"))
    found = {(finding.fault, finding.file) for finding in report.findings}
    assert {pair for pair in planted.items() if pair[0] != "empty-split"} <= found
    assert report.counts["empty-split"] == 1
    with pytest.raises(InputError, match="expected 10 and 3 or more"):
        toy.make_toy(tmp_path / "few", count=8, faults=True)
    assert not (tmp_path / "few").exists()
