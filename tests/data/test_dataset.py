"""The dataset's columns and the canonical folder."""

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.sets import CLASSES, assert_same, by_split, make, small, specs, thousandths, write_picture
from toolkit.data import importing
from toolkit.data.catalog import load
from toolkit.data.dataset import match_classes
from toolkit.data.folders import unique_names
from toolkit.data.formats import registry
from toolkit.data.formats.canonical import save
from toolkit.data.splitting import split_order
from toolkit.runtime import InputError

quick = settings(max_examples=40, deadline=None)


@quick
@given(specs(points=3))
def test_saved_and_loaded_it_is_the_same(pictures):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "pictures", pictures, points=3)
        saved = save(dataset, Path(folder) / "set")
        assert_same(saved, dataset)
        loaded = load(Path(folder) / "set")
        assert loaded.classes == CLASSES
        assert_same(loaded, by_split(dataset))


def test_the_folder_is_plain_coco(tmp_path):
    dataset = replace(
        small(tmp_path / "pictures"), original_sizes=np.array([[80, 60], [40, 100], [64, 64]], np.int32)
    )
    save(dataset, tmp_path / "set")
    assert sorted(p.name for p in (tmp_path / "set/annotations").iterdir()) == ["train.json", "val.json"]
    train = json.loads((tmp_path / "set/annotations/train.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in train["categories"]] == list(CLASSES)
    assert [image["file_name"] for image in train["images"]] == ["one.png", "deep/two.jpg"]
    assert train["images"][0] | {"id": 0} == {
        "id": 0, "file_name": "one.png", "width": 40, "height": 30,
        "original_width": 80, "original_height": 60,
    }  # fmt: skip
    assert train["annotations"][1] == {
        "id": 7, "image_id": 13, "category_id": 3, "bbox": [5.5, 6.25, 24.5, 22.75], "area": 557.375,
        "iscrowd": 0, "ignore": 1, "segmentation": [],
    }  # fmt: skip
    assert load(tmp_path / "set").original_sizes.tolist() == [[80, 60], [40, 100], [64, 64]]


def test_keypoints_carry_coco_counts(tmp_path):
    points = ((1, 2, 2), (3.5, 4, 0), (5, 6, 1))
    dataset = make(
        tmp_path / "pictures", [("a.png", (9, 9), "", [((1, 2, 3, 4), 0, 0, 0, points)])], points=3
    )
    save(dataset, tmp_path / "set")
    found = json.loads((tmp_path / "set/annotations/all.json").read_text(encoding="utf-8"))
    assert found["annotations"][0]["keypoints"] == [1, 2, 2, 3.5, 4, 0, 5, 6, 1]
    assert found["annotations"][0]["num_keypoints"] == 2
    assert found["categories"][0]["keypoints"] == ["1", "2", "3"]


@given(st.lists(thousandths(-10000, 10000), min_size=4, max_size=4))
@settings(max_examples=60, deadline=None)
def test_corners_come_back_exactly(box):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "p", [("a.png", (9, 9), "val", [(tuple(box), 0, 0, 0, ())])])
        save(dataset, Path(folder) / "set")
        assert load(Path(folder) / "set").boxes.tolist() == [box]


def test_subset_and_split_take_every_column_along(tmp_path):
    dataset = replace(
        make(
            tmp_path,
            [
                (
                    "a.png",
                    (1, 2),
                    "val",
                    [((1, 1, 2, 2), 0, 0, 0, ((1, 1, 2),)), ((2, 2, 3, 3), 1, 1, 0, ((2, 2, 2),))],
                ),
                ("b.png", (3, 4), "train", [((3, 3, 4, 4), 2, 0, 1, ((3, 3, 2),))]),
            ],
            points=1,
        ),
        areas=np.array([1, 2, 3], np.float32),
        original_sizes=np.array([[10, 20], [30, 40]], np.int32),
    )
    turned = dataset.subset(np.array([1, 0]))
    assert turned.boxes[:, 0].tolist() == [3, 1, 2]
    assert turned.areas.tolist() == [3, 1, 2]
    assert turned.keypoints[:, 0, 0].tolist() == [3, 1, 2]
    assert turned.original_sizes.tolist() == [[30, 40], [10, 20]]
    assert turned.original_scale().tolist() == [[10, 10], [10, 10]]
    assert dataset.split("train").files == ["b.png"]
    assert small(tmp_path / "other").original_scale().tolist() == [[1, 1]] * 3


def test_save_leaves_what_is_there_alone(tmp_path):
    dataset = small(tmp_path / "pictures")
    (tmp_path / "out").mkdir()
    save(dataset, tmp_path / "out")  # an empty folder is no loss
    (tmp_path / "out/note.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already: name another place"):
        save(dataset, tmp_path / "out")
    assert (tmp_path / "out/note.txt").read_text() == "mine"
    save(dataset, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/note.txt").exists()
    assert_same(load(tmp_path / "out"), dataset)


def test_a_dataset_can_be_saved_over_itself(tmp_path):
    save(small(tmp_path / "pictures"), tmp_path / "set", link=False)
    loaded = load(tmp_path / "set")
    save(loaded.subset(np.array([0, 2])), tmp_path / "set", overwrite=True)
    assert load(tmp_path / "set").files == ["one.png", "three.png"]


def test_nothing_half_written_when_a_picture_is_missing(tmp_path):
    dataset = small(tmp_path / "pictures")
    (tmp_path / "pictures/three.png").unlink()
    with pytest.raises(InputError, match=r"three\.png is missing"):
        save(dataset, tmp_path / "out")
    assert os.listdir(tmp_path) == ["pictures"]


@pytest.mark.parametrize("split", ["all", "valid", "a/b", "train2017", "../x"])
def test_splits_that_would_not_come_back_are_refused(tmp_path, split):
    dataset = small(tmp_path / "pictures")
    with pytest.raises(InputError, match="cannot name a split on disk"):
        save(replace(dataset, splits=np.array(["train", "train", split])), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_split_of_ones_own(tmp_path):
    dataset = replace(small(tmp_path / "pictures"), splits=np.array(["fold1", "fold1", "fold1"]))
    save(dataset, tmp_path / "out")
    assert load(tmp_path / "out").splits.tolist() == ["fold1"] * 3


def test_boxes_that_are_no_numbers_are_refused(tmp_path):
    dataset = small(tmp_path / "pictures")
    boxes = dataset.boxes.copy()
    boxes[1, 2] = np.nan
    with pytest.raises(InputError, match="not made of finite numbers"):
        save(replace(dataset, boxes=boxes), tmp_path / "out")


def test_no_pictures_are_not_saved(tmp_path):
    nothing = small(tmp_path / "pictures").subset(np.zeros(0, int))
    with pytest.raises(InputError, match="no pictures to save"):
        save(nothing, tmp_path / "out")
    with pytest.raises(InputError, match="no pictures to write"):
        registry.write(nothing, tmp_path / "out", "voc")
    assert os.listdir(tmp_path) == ["pictures"]


def test_links_and_copies(tmp_path):
    dataset = small(tmp_path / "pictures")
    save(dataset, tmp_path / "linked")
    save(dataset, tmp_path / "copied", link=False)
    source = dataset.path(0).stat().st_ino
    assert (tmp_path / "linked/images/one.png").stat().st_ino == source
    assert (tmp_path / "copied/images/one.png").stat().st_ino != source


def test_load_takes_any_format_and_says_what_it_did_not_find(tmp_path):
    dataset = small(tmp_path / "pictures")
    registry.write(dataset, tmp_path / "voc", "voc")
    assert load(tmp_path / "voc").boxes.tolist() == dataset.boxes.tolist()
    with pytest.raises(InputError, match=r"there is no dataset 'nonsense': .* bccd, coco2017"):
        load("nonsense")
    with pytest.raises(InputError, match="there is no dataset"):
        load(tmp_path / "nowhere")


def test_match_classes(tmp_path):
    dataset = small(tmp_path)
    assert match_classes(dataset, ["größe", *CLASSES[:3]]).labels.tolist() == [1, 3, 2]
    with pytest.raises(InputError, match="class 'traffic light', which is not among the names asked for"):
        match_classes(dataset, ["wheel", "a & b <c>"])
    broken = replace(dataset, labels=np.array([0, 9, 1], np.int32))
    with pytest.raises(InputError, match="class number 9 and 4 class names"):
        match_classes(broken, CLASSES)
    assert match_classes(broken, ["wheel"], faults="keep").labels.tolist() == [0, -1, -1]


@given(st.lists(st.text("aAbB_2./", min_size=1, max_size=5), max_size=8), st.booleans())
def test_unique_names(files, by_stem):
    names = unique_names(files, by_stem)
    keys = [(os.path.splitext(n)[0] if by_stem else n).casefold() for n in names]
    assert len(set(keys)) == len(files)
    for i, (name, file) in enumerate(zip(names, files, strict=True)):
        if file.casefold() not in [other.casefold() for other in files[:i]] and not by_stem:
            assert name == file  # the first of its name keeps it


def test_split_order():
    assert split_order(["", "zebra", "test", "apple", "train", "val", "train"]) == [
        "train", "val", "test", "apple", "zebra", "",
    ]  # fmt: skip


def test_five_thousand_pictures_stay_small_in_memory(tmp_path):
    """50,000 boxes through YOLO files and the canonical folder."""
    write_picture(tmp_path / "base.png", 64, 64)
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo/classes.txt").write_text("a\nb\n")
    label = "".join(f"{i % 2} 0.{i}5 0.5 0.1 0.25\n" for i in range(10))
    for i in range(5000):
        os.link(tmp_path / "base.png", tmp_path / f"yolo/{i:05d}.png")
        (tmp_path / f"yolo/{i:05d}.txt").write_text(label)
    imported = importing.import_dataset(tmp_path / "yolo", tmp_path / "set")
    tracemalloc.start()
    loaded = load(tmp_path / "set")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(loaded.boxes, imported.boxes)
    np.testing.assert_array_equal(loaded.labels, imported.labels)
    assert loaded.boxes.shape == (50_000, 4)
    assert peak < 30e6
