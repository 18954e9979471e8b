"""Labels in which any one value is replaced by something else: a reader takes them or says what is wrong."""

import copy
import json
import os
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest

from tests.data.labelling import put
from tests.data.sets import write_picture
from toolkit.data import importing
from toolkit.data.folders import unique_names
from toolkit.data.formats import registry
from toolkit.runtime import InputError

OTHERS = [
    None,
    True,
    0,
    -3,
    1e308,
    float("nan"),
    10**400,
    "",
    "x",
    "../a.jpg",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"x": 1},
]
WORDS = ["", "x", "-1", "nan", "1e400", "999999999999", "../a.jpg", "\0", "#", "1,2", "[", "a.jpg", '"']
BOX = {"x": 1.0, "y": 1, "width": 2, "height": 2, "rotation": 5}
SIZE = {"original_width": 40, "original_height": 30}
TREES = {
    "createml": ("x.json", [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": BOX}]}]),
    "label-studio": (
        "x.json",
        [
            {
                "id": 1,
                "data": {"image": "/data/upload/1/1a2b3c4d-a.jpg", "split": "train", "image_id": 4},
                "annotations": [
                    {
                        "created_at": "2024",
                        "result": [
                            {"id": "1", "type": "rectanglelabels", **SIZE, "meta": {"text": ["crowd"]},
                             "value": {**BOX, "rectanglelabels": ["cat"]}},
                            {"type": "polygonlabels", **SIZE,
                             "value": {"points": [[1, 1], [9, 1], [9, 9]], "polygonlabels": ["cat"]}},
                            {"type": "ellipselabels", **SIZE,
                             "value": {"x": 5, "y": 5, "radiusX": 1, "radiusY": 2, "ellipselabels": ["cat"]}},
                            {"type": "brushlabels", **SIZE,
                             "value": {"format": "rle", "rle": [0, 0, 0], "brushlabels": ["cat"]}},
                        ],
                    }
                ],
            }
        ],
    ),
    "fiftyone": (
        "samples.json",
        {
            "samples": [
                {
                    "filepath": "data/a.jpg",
                    "tags": ["train"],
                    "metadata": {"width": 40, "height": 30},
                    "ground_truth": {
                        "_cls": "Detections",
                        "detections": [
                            {
                                "label": "cat",
                                "bounding_box": [0.1, 0.1, 0.5, 0.5],
                                "attributes": {"iscrowd": {"value": 1}},
                            }
                        ],
                    },
                    "lines": {
                        "_cls": "Polylines",
                        "polylines": [{"label": "cat", "points": [[[0, 0], [1, 1]]]}],
                    },
                }
            ]
        },
    ),
    "coco": (
        "x.json",
        {
            "images": [
                {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30,
                 "original_width": 80, "original_height": 60}
            ],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
                 "keypoints": [1, 2, 2]},
                {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]},
                {"id": 3, "image_id": 1, "category_id": 1,
                 "segmentation": {"size": [30, 40], "counts": [100, 20, 1080]}},
            ],
            "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}],
        },
    ),
    "labelme": (
        "x.json",
        {
            "imagePath": "a.jpg", "imageWidth": 40, "imageHeight": 30, "imageData": None,
            "shapes": [
                {"label": "cat", "points": [[1, 2], [3, 4]], "shape_type": "rectangle", "group_id": 1}
            ],
        },
    ),
    "via": (
        "x.json",
        {
            "a.jpg1": {
                "filename": "a.jpg",
                "regions": [
                    {"shape_attributes": {"name": "rect", **BOX}, "region_attributes": {"class": "cat"}}
                ],
            }
        },
    ),
    "face-crops": (
        "annotations.json",
        [{"crop": "a.jpg", "size": 40, "landmarks98_crop": [[1.0, 2.0]] * 2}],
    ),
}  # fmt: skip
TEXTS = {
    "table": ("x.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,30,cat,1,2,9,9\n"),
    "retinaface": ("label.txt", "# a.jpg\n1 2 9 9 3 3 0 4 4 0 5 5 0 6 6 0 7 7 0 0.5\n"),
    "widerface": ("x.txt", "a.jpg\n1\n1 2 9 9 0 0 0 0 0 0\n"),
    "kitti": ("a.txt", "Car 0 0 -1.57 10 20 50 40 1.5 1.6 3.9 1 2 30 -1.6 0.5\n"),
    "yolo": ("a.txt", "0 .5 .5 .2 .2\n1 .1 .1 .2 .2 .3 .3\n0 .5 .5 .2 .2 .9\n"),
    "landmarks": ("x.txt", "3 3 4 4 5 5 6 6 7 7 1 2 9 9 a.jpg\n"),
}


def changed(tree: object) -> Iterator[object]:
    """The tree with each node replaced by each of the others, and with each key left out."""
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            for part in changed(tree[key]):
                whole = copy.copy(tree)
                whole[key] = part
                yield whole
            yield {k: v for k, v in tree.items() if k != key} if isinstance(tree, dict) else tree[:key]
    yield from OTHERS


def read_all(folder, name: str, format: str, data: bytes) -> int:
    """Read with every answer to faults; how many times it went without an error."""
    put(folder / name, data)
    count = 0
    for faults in ("skip", "keep", "refuse"):
        try:
            dataset = registry.read(folder / name, format, images=folder, faults=faults)
        except InputError:
            continue
        assert np.isfinite(dataset.boxes).all()
        assert all(".." not in file for file in dataset.files)
        count += 1
    return count


@pytest.mark.parametrize("format", TREES)
def test_json(format, tmp_path):
    write_picture(tmp_path / "data/a.jpg", 40, 30)
    name, tree = TREES[format]
    texts = {json.dumps(each) for each in changed(tree)}
    assert len(texts) > 100
    counts = [read_all(tmp_path, name, format, text.encode()) for text in sorted(texts)]
    assert sum(counts) > len(texts) / 4 or format == "face-crops"  # of which none has its 98 points


@pytest.mark.parametrize("format", TEXTS)
def test_text(format, tmp_path):
    write_picture(tmp_path / "a.jpg", 40, 30)
    name, text = TEXTS[format]
    sign = "," if "," in text else " "
    words = text.replace("\n", f"{sign}\n{sign}").split(sign)
    texts = {sign.join([*words[:i], word, *words[i + 1 :]]) for i in range(len(words)) for word in WORDS}
    texts |= {text[:i] for i in range(len(text))}
    assert sum(read_all(tmp_path, name, format, each.encode()) for each in sorted(texts)) > 30


def coco(*names: str, **more: object) -> bytes:
    images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in range(len(names))]
    tree = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}], **more}
    return json.dumps(tree).encode()


def test_a_number_that_is_none_leaves_no_half_of_a_picture(tmp_path):
    """A size, or an area, beyond every machine number comes after what was added before it."""
    write_picture(tmp_path / "a.jpg", 40, 30)
    tree = json.loads(coco("a.jpg"))
    tree["images"].insert(0, {"id": 7, "file_name": "b.jpg", "width": 1e12, "height": 3})
    tree["annotations"].insert(0, {"image_id": 0, "category_id": 1, "bbox": [9, 9, 9, 9], "area": 10**400})
    put(tmp_path / "x.json", json.dumps(tree).encode())
    dataset = registry.read(tmp_path)
    assert dataset.sizes.tolist() == [[40, 30]]
    assert dataset.boxes.tolist() == [[1, 2, 4, 6]]
    assert {part.count for part in dataset.intake.left_out} == {1}


def test_names_that_are_no_text_come_back(tmp_path):
    """Names of files are bytes, and JSON has halves of characters."""
    name = os.fsdecode(b"\xe9\xff.jpg")
    write_picture(tmp_path / "set/a.jpg", 40, 30)
    os.rename(tmp_path / "set/a.jpg", os.path.join(tmp_path / "set", name))
    put(tmp_path / "set/x.json", coco(name, "\ud800.jpg", categories=[{"id": 1, "name": "\ud800"}]))
    importing.import_dataset(tmp_path / "set", tmp_path / "out")
    dataset = registry.read(tmp_path / "out")
    assert (dataset.files, dataset.classes) == ([name], ("\ud800",))
    assert [picture.file for picture in dataset.intake.skipped] == ["\ud800.jpg"]
    with pytest.raises(InputError, match="voc cannot hold a name that is no text"):
        registry.write(dataset, tmp_path / "voc", "voc")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "names: {secret}\n"),
        ("obj.data", "names = {secret}\ntrain = {secret}\n"),
        ("obj.data", "names = ../secret.txt\n"),
        ("data.yaml", "names: [cat]\nval: ../set2/images\n"),
        ("data.yaml", "names: [cat]\npath: {outside}\nval: images\n"),
    ],
)
def test_nothing_outside_the_folder_is_read(name, text, tmp_path):
    put(tmp_path / "secret.txt", b"password\n")
    write_picture(tmp_path / "set2/images/secret.jpg", 40, 30)
    write_picture(tmp_path / "set/a.jpg", 40, 30)
    put(tmp_path / "set/a.txt", b"0 .5 .5 .2 .2\n")
    text = text.format(secret=tmp_path / "secret.txt", outside=tmp_path / "set2")
    put(tmp_path / "set" / name, text.encode())
    dataset = registry.read(tmp_path / "set")
    assert dataset.files == ["a.jpg"]
    assert dataset.classes in (("cat",), ("0",))
    assert any(note.startswith(("the names file", "the split")) for note in dataset.intake.notes)


def test_odd_files_of_a_folder(tmp_path):
    """A link that leads nowhere or back, and folders that are called like files."""
    write_picture(tmp_path / "a.jpg", 40, 30)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "b.txt").symlink_to(tmp_path / "nowhere")
    for name in ("classes.txt", "data.yaml", "x.data", "annotations/x.json"):
        (tmp_path / name).mkdir(parents=True)
    put(tmp_path / "annotations/instances_train.json", coco("a.jpg", "loop/loop/loop/a\0.jpg"))
    dataset = registry.read(tmp_path)
    assert (dataset.files, dataset.intake.format) == (["a.jpg"], "coco")
    put(tmp_path / "alone/x", b"")
    (tmp_path / "around").mkdir()
    (tmp_path / "around/x").symlink_to(tmp_path)
    with pytest.raises(InputError, match="around has no pictures"):
        registry.read(tmp_path / "around")


def test_one_damaged_label_file_among_others(tmp_path):
    for name in "abc":
        write_picture(tmp_path / f"{name}.jpg", 40, 30)
        put(tmp_path / f"{name}.txt", b"0 .5 .5 .2 .2\n")
    put(tmp_path / "b.txt", b"\xff\xfe\0")
    dataset = registry.read(tmp_path)
    assert dataset.files == ["a.jpg", "c.jpg"]
    assert [part.kind for part in dataset.intake.left_out] == ["label files that cannot be read"]
    assert [picture.file for picture in dataset.intake.skipped] == ["b.jpg"]
    assert len(registry.read(tmp_path, faults="keep")) == 3
    with pytest.raises(InputError, match=r"b\.txt is not a text file"):
        registry.read(tmp_path, faults="refuse")


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 10 10 90 10 90 60", None),  # px
        ("0 .5 .5 .5 .5 .5 .5", None),  # no area
        ("0 .25 .2 .5 .2 .5 .6", [10, 6, 20, 18]),
    ],
)
def test_polygons_are_looked_at_as_boxes_are(line, box, tmp_path):
    write_picture(tmp_path / "a.jpg", 40, 30)
    put(tmp_path / "a.txt", f"0 .5 .5 .5 .5\n{line}\n".encode())
    dataset = registry.read(tmp_path)
    boxes = np.round(dataset.boxes, 3).tolist()
    assert boxes == [[10, 7.5, 30, 22.5], *([box] if box else [])]
    assert sum(part.count for part in dataset.intake.left_out) == (box is None)


def test_corners_of_coco_in_the_wrong_order_are_exchanged(tmp_path):
    write_picture(tmp_path / "a.jpg", 40, 30)
    boxes = [{"image_id": 0, "category_id": 1, "bbox": box} for box in ([9, 9, -4, -5], [1, 1, 0, 5])]
    boxes.append({**boxes[1], "segmentation": [[2, 2, 8, 2, 8, 8]]})
    put(tmp_path / "x.json", coco("a.jpg", annotations=boxes))
    dataset = registry.read(tmp_path)
    assert dataset.boxes.tolist() == [[5, 4, 9, 9], [2, 2, 8, 8]]
    assert [(part.kind, part.count) for part in dataset.intake.left_out] == [("boxes without an area", 1)]
    assert registry.read(tmp_path, faults="keep").boxes.tolist()[0] == [9, 9, 5, 4]


@pytest.mark.parametrize("names", [["a", "a/b.txt"], ["a" * 300 + ".txt"]])
def test_archives_that_no_disk_can_hold(names, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(InputError, match=r"x\.zip cannot be unpacked"):
        importing.import_dataset(tmp_path / "x.zip", tmp_path / "out")


def test_many_of_one_name_take_no_longer(tmp_path):
    """Each of these takes minutes where every name is compared with every other."""
    assert unique_names(["a.jpg"] * 30_000)[-1] == "a_30000.jpg"
    write_picture(tmp_path / "a.jpg", 40, 30)
    put(tmp_path / "x.txt", b"a" + b" " * 60_000 + b"b")
    put(tmp_path / "y.txt", b"a.jpg" + b" 1,2,3,4,0" * 20_000)
    assert len(registry.read(tmp_path).labels) == 20_000


def test_files_that_are_not_read_are_named(tmp_path):
    write_picture(tmp_path / "a.jpg", 40, 30)
    put(tmp_path / "x.xml", b"<annotations><image id='0' name='a.jpg'><box label='cat' xtl='1' ytl='1' "
        b"xbr='9' ybr='9'/></image></annotations>")  # fmt: skip
    put(tmp_path / "y.xml", b"<annotat")
    dataset = registry.read(tmp_path)
    assert dataset.intake.format == "cvat"
    assert "files of no format that is read stay outside: y.xml" in dataset.intake.notes
