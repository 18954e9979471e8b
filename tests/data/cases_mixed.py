"""Labels of several formats in a folder, names that two systems write differently, a file as the source."""

import json
import re
import unicodedata
from pathlib import Path

from tests.data.cases_coco import one_file, renamed
from tests.data.cases_voc import devkit
from tests.data.cases_yolo import flat, named, split_folders
from tests.data.labelling import (
    Truth,
    boxes_for,
    coco,
    draw,
    encoded,
    pictures,
    put,
    retinaface_record,
    train_and_valid,
    voc_xml,
    write_voc,
    write_yolo,
    yolo_line,
)

YAML = "names: [nut, bolt]\n"


# ---- several formats ----


def yolo_of_label_studio(top: Path) -> Truth:
    """Label Studio's YOLO export has a notes.json with categories."""
    classes = [{"id": 0, "name": "nut"}, {"id": 1, "name": "bolt"}]
    put(top / "notes.json", json.dumps({"categories": classes, "info": {"year": 2024, "contributor": "x"}}))
    return named(top)


def voc_and_yolo(top: Path) -> Truth:
    """The same boxes in XML and in text."""
    truth = pictures(top, "images/p0.jpg", "images/p1.jpg")
    write_voc(top, truth, "Annotations")
    write_yolo(top, truth)
    put(top / "classes.txt", "nut\nbolt\n")
    return truth


def roboflow_with_readmes(top: Path) -> Truth:
    put(top / "README.dataset.txt", "# screws > 2024-01-01\nhttps://example.org\nProvided by a user\n")
    put(top / "README.roboflow.txt", "screws - v1\nThis dataset was exported.\nIt includes 6 images.\n")
    return split_folders(top, f"train: ../train/images\nval: ../valid/images\n{YAML}")


def coco_with_other_json(top: Path) -> Truth:
    """A tool's settings beside the labels."""
    put(top / ".vscode/settings.json", "{}")
    put(top / "config.json", json.dumps({"model": "yolo", "epochs": 3}))
    return one_file(top)


def coco_of_other_orders(top: Path) -> Truth:
    """train and valid number the classes differently."""
    truth = train_and_valid(top, "{split}/{name}")
    for split, names in (("train", ("nut", "bolt")), ("valid", ("bolt", "nut"))):
        part = {file: boxes for file, boxes in truth.items() if file.startswith(split)}
        put(top / split / "_annotations.coco.json", json.dumps(coco(part, names)))
    return truth


def coco_files_beside_folders(top: Path) -> Truth:
    """train.json and val.json beside train/ and val/."""
    truth = pictures(top, "train/a.jpg", "train/b.jpg", "val/c.jpg")
    for split in ("train", "val"):
        part = {file: boxes for file, boxes in truth.items() if file.startswith(split)}
        put(top / f"{split}.json", json.dumps(coco(part)))
    return truth


def retinaface_splits(top: Path) -> Truth:
    """train/label.txt and val/label.txt with their images/."""
    truth = pictures(top, "train/images/0--Parade/a.jpg", "val/images/0--Parade/b.jpg", names=("face",))
    for file, boxes in truth.items():
        split, _, name = file.split("/", 2)
        put(top / split / "label.txt", retinaface_record(name, boxes))
    return truth


# ---- no labels, though there are label files ----


def yolo_files_all_empty(top: Path) -> Truth:
    truth = {file: [] for file in named(top)}
    write_yolo(top, truth)
    return truth


def voc_without_objects(top: Path) -> Truth:
    truth = {file: [] for file in devkit(top)}
    write_voc(top, truth, "Annotations")
    return truth


# ---- places ----


def labels_below_pictures(top: Path) -> Truth:
    """Pictures at the top, labels/ below it."""
    truth = pictures(top, "p0.jpg", "p1.jpg")
    for file, boxes in truth.items():
        put(top / f"labels/{Path(file).stem}.txt", "".join(f"{yolo_line(box)}\n" for box in boxes))
    put(top / "classes.txt", "nut\nbolt\n")
    return truth


def yaml_names_split_folders(top: Path) -> Truth:
    """train: train, where train/ has images/ and labels/."""
    return split_folders(top, f"train: ./train\nval: ./valid\n{YAML}")


def source_is_the_yaml(top: Path) -> Truth:
    return split_folders(top, f"train: train/images\nval: valid/images\n{YAML}")


def source_is_the_json(top: Path) -> Truth:
    return one_file(top)


def images_are_in_another_folder(top: Path) -> Truth:
    """A label file alone, and --images."""
    return one_file(top, folder="photos/", name="exports/result.json")


# ---- names that two systems write differently ----


def accents_in_two_forms(top: Path) -> Truth:
    """A Mac's file names are decomposed; the labels' are not."""
    file = unicodedata.normalize("NFD", "images/größe é.jpg")
    truth = {file: draw(top / file)}
    labels = coco(truth)
    labels["images"][0]["file_name"] = unicodedata.normalize("NFC", Path(file).name)
    put(top / "labels.json", json.dumps(labels))
    return truth


def names_with_percent(top: Path) -> Truth:
    """%20 for a blank."""
    truth = {"images/a b.jpg": draw(top / "images/a b.jpg")}
    labels = coco(truth)
    labels["images"][0]["file_name"] = "https://example.org/upload/a%20b.jpg"
    put(top / "labels.json", json.dumps(labels))
    return truth


def names_in_upper_case(top: Path) -> Truth:
    truth = one_file(top)
    text = (top / "labels.json").read_text()
    put(top / "labels.json", text.replace(".jpg", ".JPG").replace('"p', '"P'))
    return truth


def names_with_another_ending(top: Path) -> Truth:
    """Converted pictures: the labels say .png."""

    def convert(labels: dict) -> None:
        for image in labels["images"]:
            image["file_name"] = image["file_name"].replace(".jpg", ".png")

    return one_file(top, convert)


def names_with_folder(top: Path) -> Truth:
    """file_name has images/ before it, and a blank."""
    return renamed(top, "images/{}")


# ---- text ----


def lines_with_mark(top: Path) -> Truth:
    """Label files with BOM."""
    truth = named(top)
    for file in (top / "labels").glob("*.txt"):
        put(file, file.read_text(), "utf-8-sig")
    return truth


def decimal_commas(top: Path) -> Truth:
    return named(top, line=lambda box, names: yolo_line(box, names).replace(".", ","))


def yolo_two_of_a_name(top: Path) -> Truth:
    """Roboflow lets two classes have one name."""
    put(top / "data.yaml", "train: images\nnames: [nut, bolt, nut]\n")
    truth = flat(top)
    for file in (top / "labels").glob("*.txt"):
        put(file, re.sub("^0 ", "2 ", file.read_text(), count=1, flags=re.M))
    return truth


def yolo_on_turned_pictures(top: Path) -> Truth:
    """EXIF turns the pictures; fractions are of what is shown."""
    truth = {}
    for file in ("images/e0.jpg", "images/e1.jpg"):
        truth[file] = boxes_for(file, size=(120, 160))
        put(top / file, encoded(truth[file], "JPEG", size=(120, 160), turn=6))
    lines = {
        file: "".join(
            f"{('nut', 'bolt').index(n)} {(a + c) / 240} {(b + d) / 320} {(c - a) / 120} {(d - b) / 160}\n"
            for n, a, b, c, d in boxes
        )
        for file, boxes in truth.items()
    }
    for file, text in lines.items():
        put(top / f"labels/{Path(file).stem}.txt", text)
    put(top / "classes.txt", "nut\nbolt\n")
    return truth


def voc_without_filename(top: Path) -> Truth:
    truth = devkit(top)
    for file, boxes in truth.items():
        text = voc_xml("", boxes).replace("<filename></filename>", "").replace("<folder>x</folder>", "")
        put(top / f"Annotations/{Path(file).stem}.xml", text)
    return truth


# ---- of no format that is read ----


def yolo_in_pixels(top: Path) -> Truth:
    """Centres and sizes in pixels: boxes of thousands of pixels if they were taken for fractions."""
    truth = named(top)
    for file, boxes in truth.items():
        lines = (f"0 {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n" for _, x1, y1, x2, y2 in boxes)
        put(top / f"labels/{Path(file).stem}.txt", "".join(lines))
    return truth


def supervisely(top: Path) -> Truth:
    """ann/<picture>.json with exteriors: not read."""
    truth = pictures(top, "ds0/img/p0.jpg", "ds0/img/p1.jpg")
    for file in truth:
        exterior = {"exterior": [[1, 2], [30, 40]], "interior": []}
        objects = [{"classTitle": "nut", "geometryType": "rectangle", "points": exterior}]
        text = json.dumps({"description": "", "size": {"height": 120, "width": 160}, "objects": objects})
        put(top / f"ds0/ann/{Path(file).name}.json", text)
    return truth


def classes_of_pictures(top: Path) -> Truth:
    """A table of a class for each picture, without boxes."""
    truth = pictures(top, "p0.jpg", "p1.jpg")
    put(top / "labels.csv", "filename,label\np0.jpg,nut\np1.jpg,bolt\n")
    return truth
