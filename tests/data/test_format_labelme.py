"""LabelMe's JSON, of several versions and of X-AnyLabeling."""

import json
from pathlib import Path

import pytest

from tests.data.labelling import corners, labelme, labelme_rectangle, pictures, put
from tests.data.reading import contents, left_out, read_one, splits
from toolkit.data.formats import registry
from toolkit.runtime import InputError

BOX = ("nut", 10, 20, 50, 40)
POINTS = [list(point) for point in corners(BOX)]


def shape(kind: str | None, points: object, **more: object) -> dict:
    """A shape as LabelMe writes it; version 3 has no type."""
    values = {"label": "nut", "points": points, "group_id": None, "flags": {}, **more}
    return values if kind is None else {**values, "shape_type": kind}


def one(top: Path, *shapes: object) -> Path:
    pictures(top, "a.jpg")
    put(top / "a.json", json.dumps({**json.loads(labelme("a.jpg", [])), "shapes": shapes}))
    return top


@pytest.mark.parametrize(
    ("shapes", "boxes", "note"),
    [
        ([shape("rectangle", [[10, 20], [50, 40]])], [BOX], ""),
        ([shape("rectangle", [[50.0, 20], ["10", "40"]])], [BOX], ""),
        ([shape("rectangle", POINTS, difficult=False, score=None)], [BOX], ""),
        ([shape("rectangle", POINTS, score=0.5)], [BOX], "scores"),
        ([shape("polygon", POINTS)], [BOX], "polygons"),
        ([shape(None, POINTS)], [BOX], "polygons"),
        ([shape("circle", [[30, 40], [30, 50]])], [("nut", 20, 30, 40, 50)], "circles"),
        ([shape("rotation", [[30, 10], [50, 30], [30, 50], [10, 30]])], [("nut", 10, 10, 50, 50)], "rotated"),
        ([shape("mask", [[10, 20], [49, 39]], mask="iVBOR")], [BOX], "masks"),
        ([shape("rectangle", POINTS, label=7)], [("7", *BOX[1:])], ""),
        (
            [shape("polygon", POINTS, group_id=1), shape("polygon", [*POINTS, [70, 60]], group_id=1)],
            [("nut", 10, 20, 70, 60)],
            "polygons",
        ),
        ([shape("rectangle", POINTS, group_id=1)] * 2, [BOX, BOX], ""),
    ],
)  # fmt: skip
def test_shapes(tmp_path, shapes, boxes, note):
    read, dataset = read_one(one(tmp_path, *shapes), "labelme")
    assert read == boxes
    assert all(note in sentence for sentence in dataset.intake.notes)
    assert bool(dataset.intake.notes) == bool(note)
    assert dataset.intake.whole


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (shape("point", [[1, 2]]), "points without a box"),
        (shape("line", [[1, 2], [3, 4]]), "lines without a box"),
        (shape("linestrip", POINTS), "lines without a box"),
        (shape("polygon", [[1, 2], [3, 4]]), "shapes of odd points"),
        (shape("rectangle", [[1, 2]]), "shapes of odd points"),
        (shape("rectangle", [[1, 2], [3, None]]), "shapes of odd points"),
        (shape("rectangle", [[1, 2], [3]]), "shapes of odd points"),
        (shape("rectangle", [[1, 2], [3, float("nan")]]), "shapes of odd points"),
        (shape("rectangle", None), "shapes of odd points"),
        (shape("rectangle", [[1, 2], [1, 4]]), "boxes without an area"),
        ({"label": "nut"}, "shapes of odd points"),
        (shape("rectangle", POINTS, label=None), "shapes without a class"),
        (shape("rectangle", POINTS, label=" "), "shapes without a class"),
        ("nut", "shapes that are not as LabelMe has them"),
    ],
)
def test_what_stays_outside(tmp_path, odd, kind):
    boxes, dataset = read_one(one(tmp_path, odd, labelme_rectangle(BOX)), "labelme")
    assert boxes == [BOX]
    assert left_out(dataset) == {kind: 1}
    with pytest.raises(InputError, match=r"a\.json"):
        registry.read(tmp_path, faults="refuse")


def test_difficult_and_no_shapes(tmp_path):
    dataset = registry.read(one(tmp_path, shape("rectangle", POINTS, difficult=True)))
    assert dataset.ignore.tolist() == [True]
    pictures(tmp_path, "b.jpg", "c.jpg")
    put(tmp_path / "b.json", labelme("b.jpg", []))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {"a.jpg": [BOX], "b.jpg": [], "c.jpg": []}
    assert "c.jpg" in dataset.intake.notes[0]


@pytest.mark.parametrize(
    ("picture", "file", "name"),
    [
        ("a.jpg", "a.json", r"..\pictures\a.jpg"),
        ("images/a.jpg", "labels/a.json", r"..\images\a.jpg"),
        ("images/a.jpg", "labels/0001.json", "../images/a.jpg"),
        ("a.JPG", "0001.json", r"C:\Users\me\a.jpg"),
        ("train/images/a.jpg", "train/json/a.json", "/home/me/x.jpg"),
        ("a.jpg", "a.JSON", ""),
        ("a.jpg", "a.json", None),
    ],
)
def test_names_of_pictures(tmp_path, picture, file, name):
    pictures(tmp_path, picture)
    put(tmp_path / file, labelme("", [labelme_rectangle(BOX)], imagePath=name))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {picture: [BOX]}
    assert dataset.splits.tolist() == ["train" if "train" in picture else ""]


def test_a_picture_that_is_only_inside_its_json_file(tmp_path):
    one(tmp_path, labelme_rectangle(BOX))
    put(tmp_path / "gone.json", labelme("gone.jpg", [labelme_rectangle(BOX)], imageData="/9j/4AA="))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {"a.jpg": [BOX]}
    (skipped,) = dataset.intake.skipped
    assert "labelme_export_json" in skipped.reason
    assert left_out(dataset) == {"boxes of pictures that did not come in": 1}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"shapes": ' + "9" * 10_000 + "}"])
def test_a_damaged_file_takes_its_picture_along(tmp_path, text):
    one(tmp_path, labelme_rectangle(BOX))
    pictures(tmp_path, "b.jpg")
    put(tmp_path / "b.json", text)
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {"a.jpg": [BOX]}
    assert [picture.file for picture in dataset.intake.skipped] == ["b.jpg"]
    assert left_out(dataset) == {"label files that cannot be read": 1}


def test_other_json_files_and_classes(tmp_path):
    one(tmp_path, labelme_rectangle(BOX))
    put(tmp_path / "settings.json", json.dumps({"shapes": 3}))
    put(tmp_path / "labels.txt", "__ignore__\n_background_\nwasher\nnut\n")
    dataset = registry.read(tmp_path)
    assert dataset.classes == ("washer", "nut")
    assert left_out(dataset) == {}
    assert any("settings.json" in note for note in dataset.intake.notes)


def test_splits_by_folder(tmp_path):
    truth = pictures(tmp_path, "valid/b.jpg", "train/a.jpg")
    for file, boxes in truth.items():
        put(
            tmp_path / Path(file).with_suffix(".json"),
            labelme(Path(file).name, map(labelme_rectangle, boxes)),
        )
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert list(splits(dataset).items()) == [("train/a.jpg", "train"), ("valid/b.jpg", "val")]
