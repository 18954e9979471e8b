"""CreateML's JSON as Roboflow, RectLabel and Apple write it."""

import json

import pytest

from tests.data.labelling import put
from tests.data.sets import labels_of, write_picture
from toolkit.data.formats import registry
from toolkit.runtime import InputError


def mark(label, x, y, w, h, **more):
    return {"label": label, "coordinates": {"x": x, "y": y, "width": w, "height": h}, **more}


def read(top, *records, name="_annotations.createml.json", **options):
    write_picture(top / "a.jpg", 200, 100)
    put(top / name, json.dumps(records))
    return registry.read(top, **options)


CAT = mark("cat", 40, 30, 40, 40)


@pytest.mark.parametrize(
    "record",
    [
        {"image": "a.jpg", "annotations": [CAT]},
        {"image": "a.jpg", "annotations": [CAT], "verified": True},
        {"imagefilename": "photos/A.JPG", "annotation": [CAT]},
        {"image": "a.jpg", "annotation": CAT},
        {"image": "a.jpg", "annotations": [mark("cat", "40", "30.0", 40.0, 40)]},
        {"image": "a.jpg", "annotations": [mark("cat", 40, 30, -40, 40)]},
        {"image": "a.jpg", "annotations": [mark("cat", 0.2, 0.3, 0.2, 0.4)]},  # fractions
    ],
)
def test_records(record, tmp_path):
    dataset = read(tmp_path, record)
    assert dataset.intake.format == "createml"
    assert labels_of(dataset) == {"a.jpg": [("cat", 20, 10, 60, 50)]}
    assert dataset.intake.whole


def test_folders_of_splits_with_the_same_names(tmp_path):
    for split, x in (("train", 40), ("valid", 50), ("test", 60)):
        write_picture(tmp_path / split / "0.jpg", 200, 100)
        write_picture(tmp_path / split / "background.jpg", 200, 100)
        records = [
            {"image": "0.jpg", "annotations": [mark("cat", x, 30, 40, 40)]},
            {"image": "background.jpg", "annotations": []},
        ]
        put(tmp_path / split / "_annotations.createml.json", json.dumps(records))
    write_picture(tmp_path / "train/forgotten.jpg", 9, 9)
    dataset = registry.read(tmp_path)
    assert dict(zip(dataset.files, dataset.splits.tolist(), strict=True)) == {
        "train/0.jpg": "train", "train/background.jpg": "train",
        "valid/0.jpg": "val", "valid/background.jpg": "val",
        "test/0.jpg": "test", "test/background.jpg": "test",
    }  # fmt: skip
    assert labels_of(dataset)["valid/0.jpg"] == [("cat", 30, 10, 70, 50)]
    assert labels_of(dataset)["valid/background.jpg"] == []
    assert any("1 pictures are in no label file" in note for note in dataset.intake.notes)


def test_what_is_left_out_is_counted(tmp_path):
    records = [
        {
            "image": "a.jpg",
            "annotations": [
                *(CAT, mark("", 1, 1, 1, 1), mark("cat", 4, 4, 0, 4), "cat", None),
                *(mark("cat", None, 1, 1, 1), mark("dog", "x", 1, 1, 1), {"label": "x"}),
            ],
        },
        {"image": "a.jpg", "annotations": [CAT]},
        {"image": "gone.jpg", "annotations": [CAT, CAT]},
        {"annotations": [CAT]},
    ]
    dataset = read(tmp_path, *records)
    assert labels_of(dataset)["a.jpg"] == [] or len(dataset.labels) == 1
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "annotations without a box": 5,
        "boxes without a class": 1,
        "boxes without an area": 1,
        "boxes of pictures that came in before": 1,
        "boxes of pictures that did not come in": 2,
        "entries without a picture's name": 1,
    }
    assert [picture.file for picture in dataset.intake.skipped] == ["gone.jpg"]
    with pytest.raises(InputError, match="picture 1: an annotation has no 'label'"):
        registry.read(tmp_path, faults="refuse")
    kept = registry.read(tmp_path, faults="keep")
    assert [4, 2, 4, 6] in kept.boxes.tolist()
    assert "gone.jpg" in kept.files


def test_labels_of_whole_pictures_are_no_boxes(tmp_path):
    with pytest.raises(InputError, match="none of its labels could be read: 1 annotations without a box"):
        read(tmp_path, {"image": "a.jpg", "annotations": "cat"})
