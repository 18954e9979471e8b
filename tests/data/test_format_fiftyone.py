"""FiftyOne's exports: made by FiftyOne itself, and what other versions and people write."""

import json

import pytest

from tests.data.labelling import put
from tests.data.sets import labels_of, write_picture
from toolkit.data.formats import registry
from toolkit.runtime import InputError

BOX = [0.1, 0.1, 0.2, 0.4]
CAT = ("cat", 20, 10, 60, 50)


def detections(*labels, **more):
    marks = [{"_cls": "Detection", "label": label, "bounding_box": BOX, **more} for label in labels]
    return {"_cls": "Detections", "detections": marks}


def samples(top, *records, metadata=None, **options):
    for name in ("data/a.jpg", "data/b.jpg"):
        write_picture(top / name, 200, 100)
    put(top / "samples.json", json.dumps({"samples": records}))
    put(top / "metadata.json", json.dumps(metadata or {"name": "x", "sample_fields": []}))
    return registry.read(top, **options)


def test_what_fiftyone_exports(fiftyone_database, tmp_path):
    import fiftyone as fo

    made = fo.Dataset()
    for name, split, labels in (
        ("a", "train", ["cat"]),
        ("b", "validation", []),
        ("c", "test", ["dog", "cat"]),
    ):
        write_picture(tmp_path / f"source/{name}.jpg", 200, 100)
        boxes = fo.Detections(detections=[fo.Detection(label=label, bounding_box=BOX) for label in labels])
        guess = fo.Detections(detections=[fo.Detection(label="owl", bounding_box=BOX, confidence=0.5)] * 4)
        path = str(tmp_path / f"source/{name}.jpg")
        made.add_sample(fo.Sample(path, tags=[split], ground_truth=boxes, guesses=guess))
    made.default_classes = ["dog", "cat"]
    kinds = (
        fo.types.FiftyOneDataset,
        fo.types.LegacyFiftyOneDataset,
        fo.types.FiftyOneImageDetectionDataset,
        fo.types.COCODetectionDataset,
        fo.types.VOCDetectionDataset,
        fo.types.YOLOv5Dataset,
        fo.types.CVATImageDataset,
        fo.types.KITTIDetectionDataset,
    )
    for kind in kinds:
        whole = kind in kinds[:2]
        folder = tmp_path / kind.__name__
        made.export(
            str(folder), dataset_type=kind, label_field=None if whole else "ground_truth", progress=False
        )
        dataset = registry.read(folder)
        expected = {"a.jpg": [CAT], "b.jpg": [], "c.jpg": [("dog", *CAT[1:]), CAT]}
        labels = {name.rsplit("/", 1)[-1]: boxes for name, boxes in labels_of(dataset).items()}
        assert labels == expected, kind.__name__
        assert (dataset.intake.format == "fiftyone") == (kind in kinds[:3])
        if whole:
            assert dataset.classes == ("dog", "cat")
            assert dataset.splits.tolist() == ["train", "val", "test"]
            assert any("'ground_truth' were read; others: guesses (12)" in n for n in dataset.intake.notes)
    made.delete()


@pytest.mark.parametrize(
    ("classes", "label", "order"),
    [(None, "cat", ("cat",)), (["dog", "cat"], 1, ("dog", "cat")), (["dog", "cat"], "cat", ("dog", "cat"))],
)
def test_labels_by_name_or_number(classes, label, order, tmp_path):
    write_picture(tmp_path / "data/deep/a.jpg", 200, 100)
    labels = {
        "deep/a": [{"label": label, "bounding_box": BOX, "attributes": {"iscrowd": 1}, "confidence": None}]
    }
    put(tmp_path / "labels.json", json.dumps({"classes": classes, "labels": labels}))
    dataset = registry.read(tmp_path)
    assert labels_of(dataset) == {"data/deep/a.jpg": [CAT]}
    assert dataset.classes == order
    assert dataset.crowd.tolist() == [True]
    assert dataset.intake.whole


@pytest.mark.parametrize(
    ("record", "boxes"),
    [
        ({"ground_truth": detections("cat")}, [CAT]),
        ({"objects": detections("cat"), "ground_truth": None}, [CAT]),
        ({"guesses": detections("owl", "owl", confidence=0.5), "people": detections("cat")}, [CAT]),
        ({"guesses": detections("cat", confidence=0.5)}, [CAT]),
        ({"one": {"_cls": "Detection", "label": "cat", "bounding_box": BOX}}, [CAT]),
        (
            {
                "outlines": {
                    "_cls": "Polylines",
                    "polylines": [
                        {"label": "cat", "points": [[[0.1, 0.1], [0.3, 0.1], [0.3, 0.5]]], "closed": True}
                    ],
                }
            },
            [CAT],
        ),
        ({}, []),
    ],
)
def test_the_field_of_the_boxes(record, boxes, tmp_path):
    sample = {"filepath": "/home/me/fiftyone/a.jpg", "tags": ["hard", "Validation"], **record}
    dataset = samples(tmp_path, sample)
    assert labels_of(dataset) == {"data/a.jpg": boxes}
    assert dataset.splits.tolist() == ["val"]


def test_what_is_left_out_is_counted(tmp_path):
    marks = [
        {"label": "cat", "bounding_box": BOX},
        {"label": "cat", "bounding_box": None},
        {"label": "cat", "bounding_box": [0.1, 0.1, 0.2]},
        {"label": "cat", "bounding_box": [0.1, 0.1, 0, 0.2]},
        {"label": None, "bounding_box": BOX},
        3,
    ]
    records = [
        {
            "filepath": "data/a.jpg",
            "ground_truth": {"_cls": "Detections", "detections": marks},
            "weather": {"_cls": "Classification", "label": "sunny"},
            "joints": {"_cls": "Keypoints", "keypoints": [{"label": "eye", "points": [[0.1, 0.1]]}] * 2},
        },
        {"filepath": "data/gone.jpg", "ground_truth": detections("cat", "cat")},
        {"tags": []},
        None,
    ]
    dataset = samples(tmp_path, *records)
    assert labels_of(dataset) == {"data/a.jpg": [CAT]}
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "labels without a box": 3,
        "boxes without an area": 1,
        "boxes without a class": 1,
        "classifications": 1,
        "key points": 2,
        "boxes of pictures that did not come in": 2,
        "samples without a picture": 2,
    }
    assert [picture.file for picture in dataset.intake.skipped] == ["data/gone.jpg"]
    assert any("1 pictures are in no label file" in note for note in dataset.intake.notes)
    with pytest.raises(InputError, match=r"samples\.json"):
        registry.read(tmp_path, faults="refuse")


def test_an_export_of_classifications_has_no_boxes(tmp_path):
    write_picture(tmp_path / "data/a.jpg", 200, 100)
    put(tmp_path / "labels.json", json.dumps({"classes": None, "labels": {"a": "sunny"}}))
    with pytest.raises(InputError, match="none of its labels could be read: 1 classifications"):
        registry.read(tmp_path)
