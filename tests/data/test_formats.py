"""Label formats: round trips, other tools' layouts, bad input."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.sets import CLASSES, assert_same, by_split, make, small, specs, write_picture
from toolkit.data import importing
from toolkit.data.formats import registry
from toolkit.data.formats.common import picture_size
from toolkit.data.formats.json_stream import stream_json
from toolkit.data.splitting import split_of
from toolkit.runtime import InputError

quick = settings(max_examples=40, deadline=None)
FEW = ("image_ids", "box_ids", "crowd", "keypoints", "areas", "original_sizes")


def there_and_back(dataset, format, **options):
    """Through `format` on disk, with the format found out again."""
    folder = dataset.root.parent / "written"
    registry.write(dataset, folder, format)
    assert registry.detect_format(folder) == format
    return registry.read(folder, **options)


# ---- round trips ----


@quick
@given(specs(points=2))
def test_coco_round_trip(pictures):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "pictures", pictures, points=2)
        found = there_and_back(dataset, "coco", faults="keep")  # also boxes without an area
        assert_same(found, by_split(dataset))


@quick
@given(specs())
def test_voc_round_trip(pictures):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "pictures", pictures)
        found = there_and_back(dataset, "voc", faults="keep")  # boxes of any order of corners
        assert found.classes == CLASSES
        assert_same(found, by_split(dataset), without=FEW)


@quick
@given(specs())
def test_yolo_round_trip(pictures):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "pictures", pictures)
        found = there_and_back(dataset, "yolo", faults="keep")  # also boxes without an area
        assert found.classes == CLASSES
        assert_same(found, by_split(dataset), without=(*FEW, "ignore"), tolerance=1e-5)


@quick
@given(specs())
def test_cvat_round_trip(pictures):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "pictures", pictures)
        found = there_and_back(dataset, "cvat", faults="keep")  # also boxes without an area
        assert found.classes == CLASSES
        assert_same(found, dataset, without=(*FEW, "ignore"), tolerance=1e-5)


@quick
@given(specs(classes=1))
def test_widerface_round_trip(pictures):
    with TemporaryDirectory() as folder:
        one_split = [(name, size, "val", boxes) for name, size, _, boxes in pictures]
        dataset = make(Path(folder) / "pictures", one_split, ("face",))
        found = there_and_back(dataset, "widerface", faults="keep")  # boxes of any order of corners
        assert_same(found, dataset, without=FEW, tolerance=2e-5)


@quick
@given(specs())
def test_label_studio_round_trip(pictures):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "pictures", pictures)
        found = there_and_back(dataset, "label-studio", faults="keep")  # boxes of any order of corners
        assert found.classes == CLASSES
        assert_same(found, dataset, tolerance=1e-5)  # one list: the order of the splits stays


@quick
@given(specs(classes=1, points=5, faces=True, blanks=False))
def test_landmarks_round_trip(pictures):
    with TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "pictures", pictures, ("face",), points=5)
        found = there_and_back(dataset, "landmarks", faults="keep")  # boxes of any order of corners
        lost = ("image_ids", "box_ids", "crowd", "ignore", "areas")
        assert_same(found, by_split(dataset), without=lost)


def test_pictures_round_trip(tmp_path):
    dataset = small(tmp_path / "pictures")
    found = there_and_back(dataset, "folder")
    assert found.files == ["deep/two.jpg", "one.png", "three.png"]
    assert found.sizes.tolist() == [[20, 50], [40, 30], [64, 64]]
    assert found.classes == ()
    assert len(found.boxes) == 0


def test_widerface_with_several_splits_keeps_boxes_and_splits(tmp_path):
    pictures = [
        ("0--Parade/a.png", (40, 30), "train", [((1, 2, 11, 22), 0, 0, 0, ())]),
        ("0--Parade/b.png", (40, 30), "val", [((3, 4, 13, 24), 0, 0, 1, ())]),
    ]
    found = there_and_back(make(tmp_path / "pictures", pictures, ("face",)), "widerface")
    assert found.files == ["WIDER_train/images/0--Parade/a.png", "WIDER_val/images/0--Parade/b.png"]
    assert found.splits.tolist() == ["train", "val"]
    assert found.boxes.tolist() == [[1, 2, 11, 22], [3, 4, 13, 24]]
    registry.write(found, tmp_path / "again", "widerface")
    again = registry.read(tmp_path / "again")
    assert again.files == found.files
    assert again.ignore.tolist() == [False, True]


def test_reduced_widerface_keeps_the_originals_sizes(tmp_path):
    pictures = [("0--Parade/a.png", (384, 307), "val", [((1.5, 3, 38.25, 30.7), 0, 0, 0, ())])]
    dataset = make(tmp_path / "pictures", pictures, ("face",))
    dataset = replace(dataset, original_sizes=np.array([[1024, 819]], np.int32))
    found = there_and_back(dataset, "widerface")
    assert found.original_sizes.tolist() == [[1024, 819]]
    np.testing.assert_allclose(found.original_scale(), [[1024 / 384, 819 / 307]])
    np.testing.assert_allclose(found.boxes, dataset.boxes, atol=1e-3)
    line = (tmp_path / "written/wider_face_split/wider_face_val_bbx_gt.txt").read_text().splitlines()[2]
    assert line.split()[:4] == ["4", "8.003", "98", "73.897"]


def test_areas_and_original_sizes_survive_coco(tmp_path):
    dataset = small(tmp_path / "pictures")
    dataset = replace(
        dataset,
        areas=np.array([12.5, 300, 1000.25], np.float32),
        original_sizes=dataset.sizes * 2,
    )
    assert_same(there_and_back(dataset, "coco"), dataset)


@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "label-studio", "cvat"])
def test_names_that_would_fall_together_are_kept_apart(tmp_path, format):
    boxes = [((1, 2, 3, 4), 0, 0, 0, ())]
    pictures = [("a.png", (9, 9), "", boxes), ("a.jpg", (8, 8), "", []), ("A.png", (7, 7), "", boxes * 2)]
    found = there_and_back(make(tmp_path / "pictures", pictures), format)
    assert len(set(found.files)) == 3
    assert found.sizes.tolist() == [[9, 9], [8, 8], [7, 7]]
    assert np.diff(found.starts).tolist() == [1, 0, 2]


def test_pictures_are_hard_links_unless_told_otherwise(tmp_path):
    dataset = small(tmp_path / "pictures")
    registry.write(dataset, tmp_path / "linked", "voc")
    registry.write(dataset, tmp_path / "copied", "voc", link=False)
    source = (tmp_path / "pictures/one.png").stat().st_ino
    assert (tmp_path / "linked/JPEGImages/one.png").stat().st_ino == source
    assert (tmp_path / "copied/JPEGImages/one.png").stat().st_ino != source


# ---- layouts of other tools ----

VOC_XML = """<annotation><folder/><filename>{filename}</filename>
<source><database>Unknown</database></source><size><width>40</width><height>30</height><depth></depth></size>
<segmented>0</segmented>
<object><name>cat</name><truncated>0</truncated><occluded>1</occluded><difficult>1</difficult>
<bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22.25</ymax></bndbox>
<attributes><attribute><name>rotation</name><value>0.0</value></attribute></attributes></object>
<object><name>dog</name><pose>Left</pose><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>7</xmax><ymax>8</ymax></bndbox>
<part><name>head</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>6</xmax><ymax>7</ymax></bndbox></part></object>
</annotation>"""


def files(folder: Path, **texts: str) -> Path:
    """Text files by path; `__` stands for a slash, `_dot_` for the dot of the extension."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_cvat_voc(tmp_path):
    files(
        tmp_path,
        Annotations__sub__a_dot_xml=VOC_XML.format(filename="sub/a.jpg"),
        ImageSets__Main__default_dot_txt="sub/a\n",
        labelmap_dot_txt="# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:1,2,3::\ncat:3,4,5::\n",
    )
    write_picture(tmp_path / "JPEGImages/sub/a.jpg", 40, 30)
    found = registry.read(tmp_path)
    assert found.classes == ("dog", "cat")
    assert found.files == ["sub/a.jpg"]
    assert found.splits.tolist() == [""]
    assert found.labels.tolist() == [1, 0]
    assert found.ignore.tolist() == [True, False]
    assert found.boxes.tolist() == [[1.5, 2, 11, 22.25], [5, 6, 7, 8]]


def test_label_studio_voc_has_no_file_for_a_picture_without_boxes(tmp_path):
    files(tmp_path, Annotations__a_dot_xml=VOC_XML.format(filename="a.jpg"))
    for name in ("a", "b"):
        write_picture(tmp_path / f"images/{name}.jpg", 40, 30)
    found = registry.read(tmp_path)
    assert found.files == ["a.jpg", "b.jpg"]
    assert found.classes == ("cat", "dog")
    assert np.diff(found.starts).tolist() == [2, 0]
    assert found.sizes.tolist() == [[40, 30], [40, 30]]


def test_voc_devkit_lists(tmp_path):
    for stem in "abcd":
        files(tmp_path, **{f"Annotations__{stem}_dot_xml": VOC_XML.format(filename=f"{stem}.jpg")})
        write_picture(tmp_path / f"JPEGImages/{stem}.jpg", 40, 30)
    files(
        tmp_path,
        ImageSets__Main__train_dot_txt="c\na\n",
        ImageSets__Main__test_dot_txt="d\n",
        ImageSets__Main__trainval_dot_txt="a\nb\nc\n",
        ImageSets__Main__cat_train_dot_txt="c -1\na  1\n",
    )
    found = registry.read(tmp_path)
    assert found.files == ["c.jpg", "a.jpg", "b.jpg", "d.jpg"]
    assert found.splits.tolist() == ["train", "train", "train", "test"]
    shifted = registry.read(tmp_path, one_based=True)
    np.testing.assert_array_equal(found.boxes - shifted.boxes, np.tile([1, 1, 0, 0], (8, 1)))


def test_voc_finds_a_picture_by_its_filename_tag(tmp_path):
    files(tmp_path, x0001_dot_xml=VOC_XML.format(filename="holiday.jpg"))
    write_picture(tmp_path / "holiday.jpg", 40, 30)
    assert registry.read(tmp_path).files == ["holiday.jpg"]


def test_cvat_yolo(tmp_path):
    files(
        tmp_path,
        obj_dot_data="classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        obj_dot_names="cat\ndog\n",
        train_dot_txt="data/obj_train_data/sub/a.png\ndata/obj_train_data/b.png\n",
        obj_train_data__sub__a_dot_txt="1 0.500000 0.500000 0.250000 0.100000\n",
        obj_train_data__b_dot_txt="",
    )
    write_picture(tmp_path / "obj_train_data/sub/a.png", 40, 30)
    write_picture(tmp_path / "obj_train_data/b.png", 20, 20)
    found = registry.read(tmp_path)
    assert found.files == ["sub/a.png", "b.png"]
    assert found.splits.tolist() == ["train", "train"]
    np.testing.assert_allclose(found.boxes, [[15, 13.5, 25, 16.5]])
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [1]


def test_yolo_labels_without_their_pictures_take_them_from_elsewhere(tmp_path):
    export = files(
        tmp_path / "export",
        obj_dot_data="train = data/train.txt\nnames = data/obj.names\n",
        obj_dot_names="cat\n",
        train_dot_txt="data/obj_train_data/a.png\n",
        obj_train_data__a_dot_txt="0 0.5 0.5 1 1\n",
    )
    write_picture(tmp_path / "mine/a.png", 40, 30)
    found = registry.read(export, images=tmp_path / "mine")
    assert found.path(0) == tmp_path / "mine/a.png"
    assert found.boxes.tolist() == [[0, 0, 40, 30]]


def test_darknet_lists_from_another_machine(tmp_path):
    files(
        tmp_path,
        voc_dot_data="classes= 1\ntrain  = /home/x/train.txt\nvalid=/home/x/2007_test.txt\nnames=voc.names\n",
        voc_dot_names="cat\n",
        train_dot_txt="/home/x/voc/JPEGImages/a.jpg\n",
        **{"2007_test_dot_txt": "/home/x/voc/JPEGImages/b.jpg\n"},
        labels__a_dot_txt="0 .5 .5 .5 .5\n",
        labels__b_dot_txt="\n",
    )
    for name in "ab":
        write_picture(tmp_path / f"JPEGImages/{name}.jpg", 16, 8)
    found = registry.read(tmp_path / "voc.data")
    assert found.files == ["a.jpg", "b.jpg"]
    assert found.splits.tolist() == ["train", "val"]
    assert found.boxes.tolist() == [[4, 2, 12, 6]]


def test_label_studio_yolo(tmp_path):
    files(
        tmp_path,
        classes_dot_txt="cat\ndog\n",
        notes_dot_json='{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "info": {}}',
        labels__a_dot_txt="0 0.5 0.5 0.25 0.1\n",
    )
    for name in "ab":
        write_picture(tmp_path / f"images/{name}.png", 40, 30)
    found = registry.read(tmp_path)
    assert found.files == ["a.png", "b.png"]
    assert found.labels.tolist() == [0]


def test_data_yaml(tmp_path):
    files(
        tmp_path,
        data_dot_yaml="path: .\ntrain: images/train\nval: [images/val]\nnames: {0: cat, 1: dog}\nnc: 2\n",
        labels__train__a_dot_txt="1 0.5 0.5 1 1\n",
        labels__val__b_dot_txt="0 0.5 0.5 1 1\n",
    )
    write_picture(tmp_path / "images/train/a.png", 4, 2)
    write_picture(tmp_path / "images/val/b.png", 8, 4)
    found = registry.read(tmp_path)
    assert found.files == ["train/a.png", "val/b.png"]
    assert found.splits.tolist() == ["train", "val"]
    assert found.boxes.tolist() == [[0, 0, 4, 2], [0, 0, 8, 4]]


def coco(pictures, annotations, categories):
    return json.dumps(
        {
            "licenses": [{"name": "", "id": 0, "url": ""}],
            "info": {"contributor": "", "year": ""},
            "annotations": annotations,
            "images": pictures,
            "categories": categories,
        },
        indent=1,
    )


def test_cvat_coco_of_two_tasks(tmp_path):
    """Both files count from one, have the classes in another order and annotations before images."""
    picture = {"width": 40, "height": 30, "license": 0, "date_captured": 0}
    common = {"segmentation": [], "area": 20.0, "attributes": {"occluded": False, "rotation": 0.0}}
    files(
        tmp_path,
        annotations__instances_train_dot_json=coco(
            [{"id": 1, "file_name": "a.jpg", **picture}],
            [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 4, 5], "iscrowd": 0, **common}],
            [{"id": 1, "name": "cat", "supercategory": ""}, {"id": 2, "name": "dog", "supercategory": ""}],
        ),
        annotations__instances_val_dot_json=coco(
            [{"id": 1, "file_name": "a.jpg", **picture}],
            [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 4, 5], "iscrowd": 1, **common}],
            [{"id": 1, "name": "dog", "supercategory": ""}],
        ),
    )
    write_picture(tmp_path / "images/train/a.jpg", 40, 30)
    write_picture(tmp_path / "images/val/a.jpg", 40, 30)
    found = registry.read(tmp_path)
    assert found.files == ["train/a.jpg", "val/a.jpg"]
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [1, 1]
    assert found.image_ids.tolist() == [1, 2]
    assert found.crowd.tolist() == [False, True]
    assert found.areas is None


@pytest.mark.parametrize(
    ("json_name", "picture_name", "split"),
    [
        ("annotations/instances_default.json", "images/a.jpg", ""),
        ("annotations/instances_train2017.json", "train2017/a.jpg", "train"),
        ("result.json", "images/a.jpg", ""),  # Label Studio
        ("valid/_annotations.coco.json", "valid/a.jpg", "val"),  # Roboflow
        ("validation/labels.json", "validation/data/a.jpg", "val"),  # FiftyOne
        ("my_labels.json", "a.jpg", ""),
    ],
)
def test_coco_layouts(tmp_path, json_name, picture_name, split):
    name = picture_name if json_name == "result.json" else "a.jpg"
    text = coco(
        [{"id": 0, "file_name": name, "width": 40, "height": 30}],
        [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1.5, 2, 4, 5], "ignore": 0, "iscrowd": 0}],
        [{"id": 0, "name": "cat"}],
    )
    files(tmp_path, **{json_name.replace("/", "__").replace(".json", "_dot_json"): text})
    write_picture(tmp_path / picture_name, 40, 30)
    found = registry.read(tmp_path)
    assert found.splits.tolist() == [split]
    assert found.path(0) == tmp_path / picture_name
    assert found.boxes.tolist() == [[1.5, 2, 5.5, 7]]
    assert found.classes == ("cat",)


def region(x, y, w, h, label, rotation=0.0, **more):
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": rotation, "rectanglelabels": [label]}
    return {
        "from_name": "tag", "id": "Dx_aB91ISN", "to_name": "img", "type": "rectanglelabels",
        "image_rotation": 0, "original_width": 200, "original_height": 100, "value": value, **more,
    }  # fmt: skip


def test_label_studio_export(tmp_path):
    """The newest annotation that was not cancelled; predictions do not count once a person was there."""
    tasks = [
        {
            "id": 1,
            "data": {"image": "/data/upload/3/1a2b3c4d-a%20b.png"},
            "annotations": [
                {"result": [region(0, 0, 1, 1, "old")], "created_at": "2024-01-01T00:00:00Z"},
                {
                    "result": [
                        region(10, 20, 30, 40, "cat"),
                        region(50, 50, 10, 20, "dog", rotation=90),
                        {"type": "choices", "value": {"choices": ["sunny"]}},
                    ],
                    "created_at": "2024-02-01T00:00:00Z",
                },
                {"result": [], "was_cancelled": True, "created_at": "2024-03-01T00:00:00Z"},
            ],
            "predictions": [{"result": [region(0, 0, 1, 1, "guess")]}],
        },
        {"id": 2, "data": {"image": "http://localhost:8080/images/b.png"}, "annotations": [{"result": []}]},
        {"id": 3, "data": {"image": "gone.png"}, "annotations": [{"result": [], "was_cancelled": True}]},
    ]
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    write_picture(tmp_path / "images/a b.png", 200, 100)
    write_picture(tmp_path / "images/b.png", 50, 60)
    found = registry.read(tmp_path / "project.json")
    assert found.files == ["a b.png", "b.png"]
    assert found.classes == ("cat", "dog")
    # 20 x 20 px at (100, 50), turned clockwise about that corner
    np.testing.assert_allclose(found.boxes, [[20, 20, 80, 60], [80, 50, 100, 70]], atol=1e-4)
    assert found.sizes.tolist() == [[200, 100], [50, 60]]


def test_label_studio_min_json(tmp_path):
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
    task = {
        "image": "/data/local-files/?d=shelf/a.png",
        "id": 1,
        "label": [{**box, "original_width": 200, "original_height": 100}],
        "annotator": 1,
    }
    (tmp_path / "min.json").write_text(json.dumps([task]))
    write_picture(tmp_path / "a.png", 200, 100)
    found = registry.read(tmp_path)
    np.testing.assert_allclose(found.boxes, [[20, 20, 80, 60]])


def test_prelabelled_pictures_come_back_corrected(tmp_path):
    dataset = replace(small(tmp_path / "pictures"), classes=())
    detections = [
        (np.array([[1, 2, 500, 20], [-9, -9, -1, -1]], np.float32), np.array([0.9, 0.8]), np.array([1, 0])),
        (np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, int)),
        (np.array([[10, 10, 20, 20]], np.float32), np.array([0.25]), np.array([0])),
    ]
    labelled = importing.prelabel(dataset, detections, ["cat", "dog"], tmp_path / "out")
    assert labelled.boxes.tolist() == [[1, 2, 40, 20], [10, 10, 20, 20]]  # cut to the picture
    tasks = json.loads((tmp_path / "out/tasks.json").read_text())
    assert [r["score"] for task in tasks for p in task["predictions"] for r in p["result"]] == [0.9, 0.25]
    assert_same(registry.read(tmp_path / "out"), labelled, tolerance=1e-5)

    for task in tasks:  # a person moves the first box and throws the other one away
        task["annotations"] = [{"result": task["predictions"][0]["result"], "created_at": "2025-01-01"}]
    tasks[0]["annotations"][0]["result"][0]["value"].update(x=0, y=0, width=50, height=100)
    tasks[2]["annotations"][0]["result"] = []
    (tmp_path / "out/tasks.json").write_text(json.dumps(tasks))
    corrected = importing.import_dataset(tmp_path / "out", tmp_path / "corrected")
    assert corrected.files == dataset.files
    assert corrected.splits.tolist() == dataset.splits.tolist()
    assert corrected.image_ids.tolist() == dataset.image_ids.tolist()
    assert corrected.boxes.tolist() == [[0, 0, 20, 30]]
    assert corrected.classes == ("cat", "dog")


def test_new_labels_come_onto_the_set_that_they_were_taken_from(tmp_path):
    dataset = small(tmp_path / "pictures")
    labels = dataset.subset(np.array([2, 1]))
    labels = replace(
        labels,
        classes=("tram", *reversed(labels.classes)),
        labels=np.zeros(len(labels.labels), np.int32),
        boxes=labels.boxes + 1,
    )
    merged = importing.with_labels(dataset, labels)
    assert merged.classes == (*dataset.classes, "tram")
    assert merged.files == dataset.files
    assert merged.image_ids.tolist() == dataset.image_ids.tolist()
    assert merged.boxes.tolist() == [*dataset.boxes[:2].tolist(), *labels.boxes.tolist()]
    assert [merged.classes[label] for label in merged.labels] == ["wheel", "a & b <c>", "tram"]
    assert len(set(merged.box_ids.tolist())) == 3
    with pytest.raises(InputError, match=r"has no picture 'other.png': 1 of 2 pictures with new labels"):
        importing.with_labels(dataset, replace(labels, files=["other.png", "deep/two.jpg"]))


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "cvat"])
def test_prelabel_for_cvat(tmp_path, format):
    dataset = small(tmp_path / "pictures")
    detections = [(np.array([[1, 2, 9, 20]]), np.array([0.5]), np.array([1]))] * 3
    labelled = importing.prelabel(dataset, detections, ["cat", "dog"], tmp_path / "out", format)
    found = registry.read(tmp_path / "out")
    lost = () if format == "coco" else (*FEW, "ignore")
    assert_same(found, labelled, without=lost, tolerance=1e-5)
    if format == "coco":
        text = (tmp_path / "out/annotations/instances_val.json").read_text()
        assert json.loads(text)["annotations"][0]["score"] == 0.5


def test_landmark_lists(tmp_path):
    """Name first or last; with and without rectangle; several faces in a picture."""
    write_picture(tmp_path / "WFLW_images/x/a.jpg", 60, 60)
    points = [float(v) for v in range(212)]
    with_rectangle = [*map(str, points), "1", "2", "50", "60", *"010101", "x/a.jpg"]
    name_first = ["x/a.jpg", *(str(v + 0.5) for v in points)]
    listed = " ".join(with_rectangle) + "\n" + " ".join(name_first) + "\n"
    files(tmp_path, WFLW_annotations__list_106pt_rect_attr_test_dot_txt=listed)
    found = registry.read(tmp_path)
    assert found.files == ["x/a.jpg"]
    assert found.splits.tolist() == ["test"]
    assert found.keypoints.shape == (2, 106, 3)
    assert found.keypoints[1, 105].tolist() == [210.5, 211.5, 2]
    np.testing.assert_allclose(found.boxes, [[1, 2, 50, 60], [0.5, 1.5, 210.5, 211.5]])


def test_widerface_counts_of_zero_have_a_line_of_zeros_or_none(tmp_path):
    text = "a/x.png\n0\n0 0 0 0 0 0 0 0 0 0 \na/y.png\n0\na/z.png\n1\n1 2 3 4 0 0 0 1 0 0\n"
    files(tmp_path, wider_face_split__wider_face_train_bbx_gt_dot_txt=text)
    for name in "xyz":
        write_picture(tmp_path / f"WIDER_train/images/a/{name}.png", 9, 9)
    found = registry.read(tmp_path)
    assert np.diff(found.starts).tolist() == [0, 0, 1]
    assert found.ignore.tolist() == [True]
    assert found.boxes.tolist() == [[1, 2, 4, 6]]


def test_exif_rotation_counts_for_the_size(tmp_path):
    from PIL import Image

    picture = Image.new("RGB", (40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg") == (30, 40)
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (40, 30, 3)


# ---- what others read of what we write ----


def test_supervision_reads_our_coco_voc_and_yolo(tmp_path):
    """An independent reader finds the same boxes and names."""
    import supervision as sv

    dataset = small(tmp_path / "pictures").subset(np.array([0, 1]))
    for format in ("coco", "voc", "yolo"):
        registry.write(dataset, tmp_path / format, format)
    (tmp_path / "data.yaml").write_text(
        f"names: {json.dumps(CLASSES, ensure_ascii=False)}\n", encoding="utf-8"
    )
    coco, voc, yolo = tmp_path / "coco", tmp_path / "voc", tmp_path / "yolo"
    (voc / "JPEGImages/two.jpg").write_bytes(
        dataset.path(1).read_bytes()
    )  # it does not look into sub-folders
    (yolo / "obj_data/two.jpg").write_bytes(dataset.path(1).read_bytes())
    others = (
        sv.DetectionDataset.from_coco(str(coco / "images"), str(coco / "annotations/instances_train.json")),
        sv.DetectionDataset.from_pascal_voc(str(voc / "JPEGImages"), str(voc / "Annotations")),
        sv.DetectionDataset.from_yolo(
            str(yolo / "obj_data"), str(yolo / "obj_data"), str(tmp_path / "data.yaml")
        ),
    )
    for other in others:
        found = next(value for path, value in other.annotations.items() if path.endswith("one.png"))
        names = [other.classes[i] for i in found.class_id]
        order = np.argsort(names)
        assert [names[i] for i in order] == ["a & b <c>", "wheel"]
        # two of them cut to whole pixels
        np.testing.assert_allclose(found.xyxy[order], dataset.boxes[::-1], atol=1)
        assert sum(len(value) for value in other.annotations.values()) == 2


# ---- choosing classes ----


def test_classes_are_matched_by_name(tmp_path):
    dataset = small(tmp_path / "pictures")
    registry.write(dataset, tmp_path / "voc", "voc")
    wanted = ["new", *reversed(CLASSES)]
    found = registry.read(tmp_path / "voc", classes=wanted)
    assert found.classes == tuple(wanted)
    assert [wanted[i] for i in found.labels] == [CLASSES[i] for i in dataset.labels]
    two = ["traffic light", "a & b <c>"]
    with pytest.raises(InputError, match="class 'wheel', which is not among"):
        registry.read(tmp_path / "voc", classes=two, faults="refuse")
    part = registry.read(tmp_path / "voc", classes=two)
    assert part.counts()["classes"] == {name: dataset.counts()["classes"][name] for name in two}
    lost = len(dataset.labels) - len(part.labels)
    assert part.intake.notes == (f"{lost} boxes of classes that were not asked for stay outside: wheel",)
    with pytest.raises(InputError, match="has no box of the classes asked for .cat.: its classes are"):
        registry.read(tmp_path / "voc", classes=["cat"])


# ---- archives ----


def test_a_zip_is_imported(tmp_path):
    dataset = small(tmp_path / "pictures")
    registry.write(dataset, tmp_path / "written", "coco")
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as packed:
        for file in (tmp_path / "written").rglob("*"):
            packed.write(file, file.relative_to(tmp_path / "written"))
    found = importing.import_dataset(tmp_path / "task.zip", tmp_path / "out")
    assert_same(found, dataset)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures", "task.zip", "written"]
    with pytest.raises(InputError, match="is an archive"):
        registry.read(tmp_path / "task.zip")


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_a_zip_that_leads_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
        packed.writestr("fine.txt", "x")
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        packed.writestr(entry, "x")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="leads out of it"):
        importing.unpack(tmp_path / "bad.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_zip_with_a_link_or_without_sense_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as packed:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        packed.writestr(entry, "/etc/passwd")
    (tmp_path / "not.zip").write_bytes(b"PK nonsense")
    for name, words in (("link.zip", "is a link"), ("not.zip", "not a readable")):
        with pytest.raises(InputError, match=words):
            importing.import_dataset(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"  # headers: flags 6 and 8 bytes in, the method 2 bytes later


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [(2, 99, "compression"), (0, 1, "password"), (None, None, "decompress")],
    ids=["unknown compression", "password", "damaged"],
)
def test_a_zip_that_cannot_be_unpacked_is_refused(offset, value, words, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.txt", "words " * 1000)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    if offset is None:
        data[40:44] = b"\xff" * 4  # of the compressed bytes, behind 30 of a header and the name
    else:
        data[data.index(LOCAL) + 6 + offset] = data[data.index(CENTRAL) + 8 + offset] = value
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=f"a.zip is not a readable .zip archive .*{words}"):
        importing.import_dataset(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- bad input ----


def broken_voc(folder, old, new):
    files(folder, Annotations__a_dot_xml=VOC_XML.format(filename="a.jpg").replace(old, new))
    write_picture(folder / "JPEGImages/a.jpg", 40, 30)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<xmin>5</xmin>", "<xmin>five</xmin>", r"a\.xml, line 7: expected a number in <xmin>, found 'five'"),
        ("<xmin>5</xmin>", "", r"a\.xml, line \d+: expected a number in <xmin>, found ''"),
        ("<width>40</width>", "<width>wide</width>", r"a\.xml, line 2: expected a number in <width>"),
        ("</annotation>", "", r"a\.xml is not valid XML: .*line"),
        ("<name>dog</name>", "", r"a\.xml: an <object> has no <name>"),
        ("annotation>", "svg>", r"a\.xml is not a VOC label file: expected <annotation>, found <svg>"),
        (VOC_XML.format(filename="a.jpg"), "", r"a\.xml is empty"),
        (
            "<annotation><folder/>",
            '<!DOCTYPE x [<!ENTITY a "b">]><annotation><folder>&a;</folder>',
            r"a\.xml is refused",
        ),
    ],
)
def test_bad_voc(tmp_path, old, new, words):
    broken_voc(tmp_path, old, new)
    with pytest.raises(InputError, match=words):
        registry.read(tmp_path, "voc", faults="refuse")


def test_voc_without_its_picture(tmp_path):
    broken_voc(tmp_path, "", "")
    (tmp_path / "JPEGImages/a.jpg").rename(tmp_path / "JPEGImages/b.jpg")
    with pytest.raises(InputError, match=r"the picture 'a\.jpg' that .*a\.xml names is missing"):
        registry.read(tmp_path, faults="refuse")
    assert registry.read(tmp_path, faults="keep").files == ["a.jpg", "JPEGImages/b.jpg"]


def test_voc_picture_in_two_splits_or_in_none(tmp_path):
    broken_voc(tmp_path, "", "")
    files(tmp_path, ImageSets__Main__train_dot_txt="a\n", ImageSets__Main__test_dot_txt="a\n")
    with pytest.raises(InputError, match=r"test\.txt, line 1: 'a' is in the split 'train' already"):
        registry.read(tmp_path, faults="refuse")
    files(tmp_path, ImageSets__Main__test_dot_txt="gone\n")
    with pytest.raises(InputError, match=r"test\.txt, line 1: 'gone' has neither"):
        registry.read(tmp_path, faults="refuse")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 .5 .5 .5", r"a\.txt, line 2: expected 'class cx cy w h', found 4 fields"),
        ("0 .5 .5 .5 x", r"a\.txt, line 2: expected 'class cx cy w h', found other than numbers"),
        ("0 .5 .5 .5 nan", r"a\.txt, line 2: expected 'class cx cy w h', found other than numbers"),
        ("bird .5 .5 .5 .5", r"a\.txt, line 2: expected a whole class number, found 'bird'"),
        ("0.5 .5 .5 .5 .5", r"a\.txt, line 2: expected a whole class number, found '0.5'"),
        ("2 .5 .5 .5 .5", r"a\.txt, line 2: class 2 is not among the 2 names"),
        ("-1 .5 .5 .5 .5", r"a\.txt, line 2: class -1 is not among the 2 names"),
        ("<annotation>", r"a\.txt, line 2: expected 'class cx cy w h', found 1 fields"),
    ],
)
def test_bad_yolo_line(tmp_path, line, words):
    files(tmp_path, classes_dot_txt="cat\ndog\n", labels__a_dot_txt=f"1 .5 .5 .5 .5\n{line}\n")
    write_picture(tmp_path / "images/a.png", 10, 10)
    with pytest.raises(InputError, match=words):
        registry.read(tmp_path, faults="refuse")
    if "class" in words and "names" in words and line[0] == "2":
        assert registry.read(tmp_path, faults="keep").labels.tolist() == [1, 2]


def test_bad_yolo_layouts(tmp_path):
    write_picture(tmp_path / "images/a.png", 10, 10)
    with pytest.raises(InputError, match="no YOLO label files"):
        registry.read(tmp_path, "yolo")
    files(tmp_path, classes_dot_txt="cat\n")
    with pytest.raises(InputError, match="no YOLO label files"):
        registry.read(tmp_path, faults="refuse")
    files(tmp_path, labels__b_dot_txt="0 .5 .5 .5 .5\n", labels__a_dot_txt="")
    with pytest.raises(InputError, match=r"the picture of the label file .*b\.txt is missing"):
        registry.read(tmp_path, faults="refuse")
    (tmp_path / "labels/b.txt").unlink()
    assert len(registry.read(tmp_path, faults="refuse").boxes) == 0
    files(tmp_path, x_dot_data="names = classes.txt\ntrain = list.txt\n")
    with pytest.raises(InputError, match=r"the list of pictures 'list\.txt' is missing"):
        registry.read(tmp_path, faults="refuse")
    files(tmp_path, list_dot_txt="images/a.png\n\nimages/c.png\n")
    with pytest.raises(InputError, match=r"list\.txt, line 3: the picture 'images/c\.png' is missing"):
        registry.read(tmp_path, faults="refuse")
    files(tmp_path, list_dot_txt="\n")
    with pytest.raises(InputError, match="no pictures: expected at least one"):
        registry.read(tmp_path, faults="refuse")
    files(tmp_path, list_dot_txt="images/a.png\n", x_dot_data="train\n")
    with pytest.raises(InputError, match=r"x\.data, line 1: expected key = value"):
        registry.read(tmp_path, faults="refuse")
    (tmp_path / "labels/a.txt").write_bytes(b"\xff\xfe\x00")
    files(tmp_path, x_dot_data="names = classes.txt\ntrain = list.txt\n")
    with pytest.raises(InputError, match=r"a\.txt is not a text file"):
        registry.read(tmp_path, faults="refuse")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat\n\ndog\n", r"classes\.txt, line 2: expected the name of a class, found a blank line"),
        ("cat\ncat\n", r"gives two classes the same name \(cat, cat\)"),
    ],
)
def test_bad_yolo_names(tmp_path, text, words):
    files(tmp_path, classes_dot_txt=text)
    write_picture(tmp_path / "a.png", 4, 4)
    with pytest.raises(InputError, match=words):
        registry.read(tmp_path, faults="refuse")


def test_bad_data_yaml(tmp_path):
    write_picture(tmp_path / "a.png", 4, 4)
    for text, words in (
        ("names: {1: cat, 3: dog}\n", "expected names numbered from 0 on, found 1, 3"),
        ("names: [cat\n", r"data\.yaml is not valid YAML"),
        ("- cat\n", r"label files of no format that is read \(data\.yaml\)"),
        ("names: [cat]\ntrain: images/train\n", "the folder of pictures 'images/train' is missing"),
    ):
        files(tmp_path, data_dot_yaml=text)
        with pytest.raises(InputError, match=words):
            registry.read(tmp_path, faults="refuse")


def test_what_the_doctor_should_see_is_kept(tmp_path):
    files(
        tmp_path,
        x_dot_data="names = x.names\ntrain = list.txt\n",
        x_dot_names="cat\n",
        list_dot_txt="a.png\nb.png\nc.png\n",
        a_dot_txt="0 .5 .5 .5 .5\n",
        b_dot_txt="4 .5 .5 .5 .5\n",
    )
    write_picture(tmp_path / "a.png", 4, 4)
    (tmp_path / "b.png").write_bytes(b"broken")
    found = registry.read(tmp_path, faults="keep")
    assert found.files == ["a.png", "b.png", "c.png"]
    assert found.sizes.tolist() == [[4, 4], [0, 0], [0, 0]]
    assert found.labels.tolist() == [0, 4]
    assert registry.read(tmp_path, faults="keep", classes=["dog", "cat"]).labels.tolist() == [1, -1]
    with pytest.raises(InputError, match=r"c\.png' is missing"):
        registry.read(tmp_path, faults="refuse")
    rest = registry.read(tmp_path)
    assert (rest.files, rest.labels.tolist()) == (["a.png"], [0])
    assert [picture.file for picture in rest.intake.skipped] == ["c.png", "b.png"]


def one_coco(**changes):
    text = {
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    return json.dumps(text | changes, indent=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not valid JSON: line 1: it is empty"),
        (one_coco()[:-30], r"is not valid JSON: line \d+"),
        (one_coco().replace('"id": 1,\n   "image', '"id" 1,\n   "image'), r"is not valid JSON: line \d+"),
        (one_coco() + "}", r"is not valid JSON: line \d+: found '}' after the end"),
        (one_coco(images=[]), "has no pictures"),
        (one_coco(images=[{"id": 1}]), "an entry of 'images' is not as COCO has it"),
        (one_coco(images=[{"id": [], "file_name": "a.png"}]), "an entry of 'images' is not as COCO has it"),
        (one_coco(images=[{"id": 1, "file_name": ".."}]), "leads out of the dataset"),
        (one_coco(images=[{"id": 1, "file_name": "b.png"}]), r"the picture 'b\.png' .* is missing"),
        (one_coco(images=[{"id": 1, "file_name": "a.png"}] * 2), "two pictures the same id"),
        (one_coco(categories=[]), "category id 1, which is not among its categories"),
        (one_coco(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]), "the same name"),
        (
            one_coco(annotations=[{"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]),
            "picture id 9",
        ),
        (one_coco(annotations=[{"id": 1, "image_id": 1, "category_id": 1}]), "an entry of 'annotations'"),
        (
            one_coco(annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, "a", 1]}]),
            "an entry of 'annotations'",
        ),
        (
            one_coco(
                annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, float("nan"), 1]}]
            ),
            "an entry of 'annotations'",
        ),
        ("[]", "has no pictures"),
        ('[{"data": 1}]', "expected an object with images, found a list"),
        ('{"a": ' * 100000, "nested too deeply"),
    ],
)
def test_bad_coco(tmp_path, text, words):
    (tmp_path / "labels.json").write_text(text)
    write_picture(tmp_path / "a.png", 4, 4)
    with pytest.raises(InputError, match=words):
        registry.read(tmp_path, "coco", faults="refuse")


@pytest.mark.parametrize("name", ["../a.png", "/secret/a.png", "C:\\secret\\a.png", "other/../../a.png"])
def test_a_name_that_leads_out_is_searched_inside(tmp_path, name):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "labels.json").write_text(one_coco(images=[{"id": 1, "file_name": name}]))
    write_picture(tmp_path / "a.png", 9, 9)
    with pytest.raises(InputError, match="and no pictures: --images names their folder"):
        registry.read(tmp_path / "set")
    write_picture(tmp_path / "set" / "a.png", 4, 4)
    read = registry.read(tmp_path / "set")
    assert (read.files, read.sizes.tolist()) == (["a.png"], [[4, 4]])


def test_unknown_categories_are_kept_for_the_doctor(tmp_path):
    (tmp_path / "labels.json").write_text(one_coco(categories=[{"id": 7, "name": "cat"}]))
    found = registry.read(tmp_path, "coco", faults="keep")
    assert found.labels.tolist() == [-1]
    with pytest.raises(InputError, match="class is not among"):
        registry.write(found, tmp_path / "out", "voc")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no pictures"),
        ("a.png\nmany\n", "line 2: expected x y w h and more, found 'many'"),
        ("a.png\n2\n1 2 3 4 0 0 0 0 0 0\n", "line 1: expected 2 faces, found 1 lines"),
        ("a.png\n1\n1 2 3\n", "line 3: expected x y w h and more"),
        ("a.png\n1\n1 2 3 x 0 0 0 0 0 0\n", "line 3: expected x y w h and more"),
        ("a.png\n1\n1 2 3 4 0 0 0 0 0 0\n5 6 7 8 0 0 0 0 0 0\n", "line 1: expected 1 faces, found 2 lines"),
        ("b.png\n0\n", r"the picture 'b\.png' .* is missing"),
    ],
)
def test_bad_widerface(tmp_path, text, words):
    files(tmp_path, wider_face_split__wider_face_val_bbx_gt_dot_txt=text)
    write_picture(tmp_path / "WIDER_val/images/a.png", 9, 9)
    with pytest.raises(InputError, match=words):
        registry.read(tmp_path, "widerface", faults="refuse")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 2 3 a.png", "line 1: expected the coordinates of 5, 68, 98 or 106 points .* found 3 fields"),
        ("1 " * 9 + "x a.png", "line 1: expected the coordinates .* found 10 fields"),
        ("1 " * 10 + "b.png", r"the picture 'b\.png' that .*line 1 names is missing"),
    ],
)
def test_bad_landmarks(tmp_path, line, words):
    files(tmp_path, list_test_dot_txt=line)
    write_picture(tmp_path / "a.png", 9, 9)
    with pytest.raises(InputError, match=words):
        registry.read(tmp_path, "landmarks", faults="refuse")


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([], "has no pictures"),
        ([{"data": {"image": "b.png"}}], r"the picture 'b\.png' that .*task 1 names is missing"),
        ([{"data": {}}], "task 1 is not as Label Studio has it"),
        (
            [
                {
                    "data": {"image": "a.png"},
                    "predictions": [{"result": [{**region(1, 2, 3, 4, "a"), "value": 3}]}],
                }
            ],
            "task 1: a region is none of the shapes",
        ),
        ({"images": [1]}, "expected a list of tasks"),
    ],
)
def test_bad_label_studio(tmp_path, tasks, words):
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    write_picture(tmp_path / "a.png", 9, 9)
    with pytest.raises(InputError, match=words):
        registry.read(tmp_path / "tasks.json", "label-studio", faults="refuse")


def test_the_wrong_format_and_nothing_at_all(tmp_path):
    dataset = small(tmp_path / "pictures")
    registry.write(dataset, tmp_path / "yolo", "yolo")
    for format, words in (
        ("voc", "no VOC label files"),
        ("widerface", "no WIDER FACE labels"),
        ("coco", "no COCO"),
    ):
        with pytest.raises(InputError, match=words):
            registry.read(tmp_path / "yolo", format)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures and no labels"):
        registry.read(tmp_path / "empty")
    with pytest.raises(InputError, match="no pictures: expected at least one"):
        registry.read(tmp_path / "empty", "folder")
    with pytest.raises(InputError, match="is not there"):
        registry.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no format 'nitti': choose one of coco, voc"):
        registry.read(tmp_path / "yolo", "nitti")
    (tmp_path / "pictures/bad.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"bad\.png"):
        registry.read(tmp_path / "pictures", faults="refuse")
    rest = registry.read(tmp_path / "pictures")
    assert len(rest) == len(dataset)
    assert [picture.file for picture in rest.intake.skipped] == ["bad.png"]


def test_writers_refuse_what_they_cannot_hold_and_leave_nothing(tmp_path):
    dataset = small(tmp_path / "pictures")
    for format, words in (
        ("widerface", "holds one class"),
        ("landmarks", "keypoints of one class"),
        ("face-crops", "can only be read"),
    ):
        with pytest.raises(InputError, match=words):
            registry.write(dataset, tmp_path / "out", format)
    (tmp_path / "pictures/three.png").unlink()
    with pytest.raises(InputError, match=r"three\.png is missing"):
        registry.write(dataset, tmp_path / "out", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        registry.write(dataset, tmp_path / "out", "coco")
    assert (tmp_path / "out/mine.txt").read_text() == "precious"


# ---- parts ----

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text(max_size=3), _json, max_size=4) | st.lists(_json, max_size=4), st.integers(1, 9)
)
def test_streamed_json_is_the_json(value, chunk):
    with TemporaryDirectory() as folder:
        file = Path(folder) / "x.json"
        file.write_text(json.dumps(value, indent=1), encoding="utf-8")
        pairs = list(stream_json(file, chunk))
    if isinstance(value, list):
        assert pairs == [("", element) for element in value]
    else:
        flat = [(k, e) for k, v in value.items() for e in (v if isinstance(v, list) else [v])]
        assert pairs == flat


def test_broken_json_names_the_line(tmp_path):
    (tmp_path / "x.json").write_text('{"a": [\n1,\n2\n3]}')
    with pytest.raises(InputError, match="line 4: found '3' in place of , or ]"):
        list(stream_json(tmp_path / "x.json", 2))


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("instances_train2017", "train"), ("valid", "val"), ("Validation", "val"), ("default", ""),
        ("all", ""), ("result", ""), ("fold1", "fold1"), ("test", "test"), ("_annotations.coco", ""),
    ],
)  # fmt: skip
def test_names_of_splits(stem, split):
    assert split_of(stem) == split
