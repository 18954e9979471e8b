"""The small data sets that people's reports describe: a function makes each in a folder and gives its truth.

Only what is special differs from the tool's own layout, so that a failing case says which kind is broken.
"""

import json
import zipfile
from math import cos, sin
from pathlib import Path

from tests.data.labelling import (
    Box,
    Truth,
    boxes_for,
    coco,
    coco_folders,
    cvat,
    cvat_box,
    cvat_image,
    draw,
    encoded,
    labelme,
    labelme_rectangle,
    pictures,
    polygon_line,
    polygon_of,
    polygon_region,
    put,
    rectangle_region,
    retinaface_record,
    studio_tasks,
    train_and_valid,
    voc_object,
    voc_xml,
    write_voc,
    write_yolo,
    yolo_line,
)

CHINESE = ("螺母", "螺栓")
ONE_FOLDER = "train: ../train/images\nval: ../train/images\nnc: 2\nnames: ['nut','bolt']\n"


# ---- YOLO ----


def yolo_names_inside_labels(top: Path) -> Truth:
    """classes.txt lies in labels/, as labelImg writes it."""
    truth = yolo_without_names(top)
    put(top / "labels/classes.txt", "nut\nbolt\n")
    return truth


def yolo_without_names(top: Path) -> Truth:
    """No names anywhere."""
    truth = pictures(top, *(f"images/p{i}.jpg" for i in range(4)))
    write_yolo(top, truth)
    return truth


def yolo_polygons(top: Path) -> Truth:
    """Ultralytics' segmentation labels; val is train."""
    truth = pictures(top, "train/images/t0.jpg", "train/images/t1.jpg", count=1)
    write_yolo(top, truth, line=polygon_line)
    put(top / "data.yaml", ONE_FOLDER)
    return truth


def yolo_boxes_and_polygons(top: Path) -> Truth:
    """Boxes and polygons in one file."""
    truth = {"train/images/t0.jpg": draw(top / "train/images/t0.jpg")}
    truth |= pictures(top, "train/images/t1.jpg", count=1)
    last = truth["train/images/t0.jpg"][-1]
    write_yolo(top, truth, line=lambda box, names: (polygon_line if box is last else yolo_line)(box, names))
    put(top / "data.yaml", ONE_FOLDER)
    return truth


def yolo_class_as_float(top: Path) -> Truth:
    """`0.000000` and `1.0` as classes."""
    truth = pictures(top, "train/images/t0.jpg")
    floats = ("0.000000", "1.0")
    write_yolo(top, truth, line=lambda box, names: f"{floats[names.index(box[0])]} {yolo_line(box)[2:]}")
    put(top / "data.yaml", ONE_FOLDER)
    return truth


def yaml_absent_test(top: Path) -> Truth:
    """data.yaml names a test folder that is not there, and has a `roboflow:` block."""
    truth = train_and_valid(top, "{split}/images/{name}")
    write_yolo(top, truth)
    lists = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
    block = "roboflow:\n  workspace: w\n  project: p\n  version: 1\n  license: CC BY 4.0\n  url: https://a.org/p\n"
    put(top / "data.yaml", f"{lists}names: ['nut', 'bolt']\n\n{block}")
    return truth


def yaml_download_key(top: Path) -> Truth:
    """A `path:` of another machine, an empty `test:`, and `download:` with an address."""
    truth = train_and_valid(top, "images/{split}/{name}")
    write_yolo(top, truth)
    lists = "path: download # dataset root dir\ntrain: images/train # train images\nval: images/valid\n"
    names = "test: # optional\n\nnames:\n  0: nut\n  1: bolt\n"
    put(top / "data.yaml", f"{lists}{names}\n# Script\ndownload: https://example.org/assets/download.zip\n")
    return truth


def yolo_gbk(top: Path) -> Truth:
    """Names and lists in GBK."""
    truth = pictures(top, *(f"obj_train_data/工件 {i}.jpg" for i in range(3)), names=CHINESE)
    write_yolo(top, truth, CHINESE)
    put(top / "obj.names", "螺母\n螺栓\n", "gbk")
    put(top / "train.txt", "".join(f"data/{file}\n" for file in truth), "gbk")
    lists = "train = data/train.txt\nvalid = data/train.txt\n"
    put(top / "obj.data", f"classes = 2\n{lists}names = data/obj.names\nbackup = backup/\n")
    return truth


def from_a_mac(top: Path) -> Truth:
    """A zip with __MACOSX and .DS_Store inside."""
    truth = one_folder_too_high(top / "made")
    with zipfile.ZipFile(top / "from-a-mac.zip", "w") as archive:
        for file in sorted((top / "made").rglob("*.*")):
            name = file.relative_to(top / "made").as_posix()
            archive.write(file, name)
            if file.suffix == ".jpg":
                archive.writestr(f"__MACOSX/{name.replace('/z', '/._z')}", b"\0\5\x16\7\0\2\0\0")
        archive.writestr("screws/.DS_Store", b"\0")
    return truth


def one_folder_too_high(top: Path) -> Truth:
    """The data set lies one folder deeper."""
    truth = pictures(top, "screws/images/z0.jpg", "screws/images/z1.jpg")
    write_yolo(top, truth)
    put(top / "screws/classes.txt", "nut\nbolt\n")
    return truth


def all_of_one_size(top: Path) -> Truth:
    """Every object has one size."""
    counts, truth = {"train": 12, "val": 4}, {}
    for split, count in counts.items():
        for i in range(count):
            file = f"images/{split}/{split}{i}.jpg"
            places = [box[:3] for box in boxes_for(file, count=4)]
            truth[file] = [(name, x, y, x + 12, y + 12) for name, x, y in places]
            put(top / file, encoded(truth[file], "JPEG"))
    write_yolo(top, truth)
    put(top / "data.yaml", "train: images/train\nval: images/val\nnames: [nut, bolt]\n")
    return truth


def pictures_of_other_types(top: Path) -> Truth:
    """Half of the pictures are GIFs; val is train."""
    truth = pictures(top, *(f"train/images/a{i}.{'gif' if i % 2 else 'jpg'}" for i in range(6)))
    write_yolo(top, truth)
    put(top / "data.yaml", ONE_FOLDER)
    return truth


# ---- VOC ----


def voc_beside_pictures(top: Path) -> Truth:
    """XML beside the pictures in train/, valid/ and test/."""
    counts = {"train": 4, "valid": 2, "test": 1}
    truth = pictures(top, *(f"{s}/{s}{i}_jpg.rf.0a1b.jpg" for s, n in counts.items() for i in range(n)))
    write_voc(top, truth)
    put(top / "README.dataset.txt", "made up\n")
    return truth


def voc_gb2312(top: Path) -> Truth:
    """XML in GB2312, declared; Chinese names with a blank and upper-case endings."""
    truth = {}
    for file in (f"JPEGImages/图 片{i}.JPG" for i in range(3)):
        truth[file] = boxes_for(file, CHINESE)
        put(top / file, encoded(truth[file], "JPEG", CHINESE))
    head = '<?xml version="1.0" encoding="gb2312"?>\n'
    write_voc(top, truth, "Annotations", head=head, encoding="gb2312")
    return truth


def voc_gb2312_undeclared(top: Path) -> Truth:
    """The same without saying so."""
    truth = voc_gb2312(top)
    write_voc(top, truth, "Annotations", encoding="gb2312")
    return truth


ODD: Box = (  # a box of 20 x 10 px turned by 0.3 radians about (50, 40)
    "nut",
    50 - (10 * cos(0.3) + 5 * sin(0.3)),
    40 - (10 * sin(0.3) + 5 * cos(0.3)),
    50 + (10 * cos(0.3) + 5 * sin(0.3)),
    40 + (10 * sin(0.3) + 5 * cos(0.3)),
)


def voc_one_odd_object(top: Path) -> Truth:
    """One rotated box of roLabelImg among the others."""
    truth = pictures(top, *(f"JPEGImages/{i:03}.jpg" for i in range(4)))
    write_voc(top, truth, "Annotations")
    turned = "<robndbox><cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>0.3</angle></robndbox>"
    odd = voc_object("nut", turned).replace("<object>", "<object><type>robndbox</type>")
    put(top / "Annotations/001.xml", voc_xml("001.jpg", truth["JPEGImages/001.jpg"], odd))
    truth["JPEGImages/001.jpg"].append(ODD)
    return truth


def voc_lists_with_endings(top: Path) -> Truth:
    """The lists of ImageSets have `x.jpg` instead of `x`."""
    truth = pictures(top, *(f"JPEGImages/{i:03}.jpg" for i in range(4)))
    write_voc(top, truth, "Annotations")
    put(top / "ImageSets/Main/train.txt", "000.jpg\n001.jpg\n002.jpg\n")
    put(top / "ImageSets/Main/val.txt", "003.jpg\n")
    return truth


def exif_labels_as_stored(top: Path) -> Truth:
    """Photographs that EXIF turns; boxes in the pixels that are stored."""
    truth = {}
    for file in (f"JPEGImages/e{i}.jpg" for i in range(4)):
        shown = boxes_for(file, size=(120, 160))
        put(top / file, encoded(shown, "JPEG", size=(120, 160), turn=6))
        truth[file] = [(name, y1, 120 - x2, y2, 120 - x1) for name, x1, y1, x2, y2 in shown]
    write_voc(top, truth, "Annotations")
    return truth


# ---- COCO ----


def coco_root_category(top: Path) -> Truth:
    """A parent category that owns no box."""

    def with_root(labels: dict) -> None:
        root = {"id": 0, "name": "screws", "supercategory": "none"}
        children = [{**category, "supercategory": "screws"} for category in labels["categories"]]
        labels["categories"] = [root, *children]

    return coco_folders(top, with_root)


def coco_two_of_a_name(top: Path) -> Truth:
    """A root category that has the name of the only class."""
    truth = pictures(top, *(f"train/train{i}.jpg" for i in range(4)), names=("nut",))
    truth |= pictures(top, "valid/valid0.jpg", "valid/valid1.jpg", names=("nut",))
    root = {"id": 0, "name": "nut", "supercategory": "none"}
    for split in ("train", "valid"):
        labels = coco({file: boxes for file, boxes in truth.items() if file.startswith(split)}, ("nut",))
        labels["categories"] = [root, {"id": 1, "name": "nut", "supercategory": "nut"}]
        put(top / split / "_annotations.coco.json", json.dumps(labels))
    return truth


def coco_masks_only(top: Path) -> Truth:
    """Segmentation without bbox, area and iscrowd."""

    def masks(labels: dict) -> None:
        labels["annotations"] = [
            {key: a[key] for key in ("id", "image_id", "category_id")}
            | {"segmentation": [polygon_of(a["bbox"])]}
            for a in labels["annotations"]
        ]

    return coco_folders(top, masks)


def coco_ids_of_text(top: Path) -> Truth:
    """image_id is a file name."""

    def text_ids(labels: dict) -> None:
        names = {image["id"]: image["file_name"] for image in labels["images"]}
        for image in labels["images"]:
            image["id"] = names[image["id"]]
        for annotation in labels["annotations"]:
            annotation["image_id"] = names[annotation["image_id"]]

    return coco_folders(top, text_ids)


def coco_empty_box(top: Path) -> Truth:
    """An empty bbox in each of the two files."""

    def empty(labels: dict) -> None:
        labels["annotations"][1]["bbox"] = []

    truth = coco_folders(top, empty)
    for first in ("train/train0.jpg", "valid/valid0.jpg"):
        del truth[first][1]
    return truth


def coco_no_annotations(top: Path) -> Truth:
    """No list of annotations."""
    truth = coco_folders(top, lambda labels: labels.pop("annotations"))
    return {file: [] for file in truth}


def coco_absolute_names(top: Path) -> Truth:
    """file_name is another machine's path."""
    truth = pictures(top, *(f"images/p{i}.jpg" for i in range(3)))
    labels = coco(truth, first=0)
    for image in labels["images"]:
        image["file_name"] = f"/home/me/screws/images/{image['file_name']}"
    put(top / "result.json", json.dumps(labels))
    return truth


def exif_labels_as_shown(top: Path) -> Truth:
    """Upright phone photographs by EXIF; boxes as shown, width and height as stored."""
    truth = {}
    for file in (f"images/ph{i}.jpg" for i in range(6)):
        truth[file] = boxes_for(file, size=(120, 160))
        put(top / file, encoded(truth[file], "JPEG", size=(120, 160), turn=6))
    labels = coco(truth, first=0)
    for image in labels["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    put(top / "result.json", json.dumps(labels))
    return truth


def two_pictures(top: Path) -> Truth:
    """Two pictures in train/."""
    truth = pictures(top, "train/train0.jpg", "train/train1.jpg")
    put(top / "train/_annotations.coco.json", json.dumps(coco(truth)))
    return truth


# ---- other tools ----


def cvat_for_images(top: Path) -> Truth:
    """CVAT for images 1.1."""
    truth = pictures(top, *(f"images/f{i}.jpg" for i in range(3)))
    images = (
        cvat_image(i, Path(file).name, [cvat_box(box) for box in boxes])
        for i, (file, boxes) in enumerate(truth.items())
    )
    put(top / "annotations.xml", cvat("\n".join(images)))
    return truth


def label_studio(top: Path, region) -> Truth:
    truth = pictures(top, *(f"s{i}.jpg" for i in range(3)))
    put(top / "project-3-at-2024-01-01.json", json.dumps(studio_tasks(truth, region)))
    return truth


def label_studio_polygons(top: Path) -> Truth:
    """Polygons alone."""
    return label_studio(top, lambda i, box: polygon_region(box))


def label_studio_mixed(top: Path) -> Truth:
    """Rectangles and polygons."""
    return label_studio(top, lambda i, box: (polygon_region if i else rectangle_region)(box))


def labelme_files(top: Path) -> Truth:
    """LabelMe's JSON beside pictures."""
    truth = pictures(top, *(f"m{i}.jpg" for i in range(3)))
    for file, boxes in truth.items():
        put((top / file).with_suffix(".json"), labelme(file, [labelme_rectangle(box) for box in boxes]))
    return truth


def retinaface_labels(top: Path) -> Truth:
    """RetinaFace's label.txt with landmarks."""
    truth = pictures(top, *(f"images/r{i}.jpg" for i in range(3)), names=("face",))
    put(
        top / "label.txt", "".join(retinaface_record(Path(file).name, boxes) for file, boxes in truth.items())
    )
    return truth
