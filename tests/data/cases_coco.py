"""COCO labels of the kinds of `cases` and neighbouring ones."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np

from tests.data.labelling import SIZE, Truth, coco, coco_folders, corners, pictures, polygon_of, put


def one_file(
    top: Path, change=lambda labels: None, folder: str = "images/", name: str = "labels.json"
) -> Truth:
    """A file beside images/, after `change` of its object."""
    truth = pictures(top, *(f"{folder}p{i}.jpg" for i in range(3)))
    labels = coco(truth)
    change(labels)
    put(top / name, json.dumps(labels))
    return truth


def each_annotation(top: Path, change) -> Truth:
    """The same, after `change` of every annotation."""

    def every(labels: dict) -> None:
        for annotation in labels["annotations"]:
            change(annotation)

    return one_file(top, every)


def renamed(top: Path, pattern: str, **options) -> Truth:
    """The same with another file_name."""

    def rename(labels: dict) -> None:
        for image in labels["images"]:
            image["file_name"] = pattern.format(image["file_name"])

    return one_file(top, rename, **options)


# ---- masks ----


def painted_mask(bbox: list[float]) -> np.ndarray:
    x, y, w, h = map(int, bbox)
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's counts: column by column, beginning with zeros."""
    runs = [(bit, len(list(group))) for bit, group in groupby(mask.T.reshape(-1).tolist())]
    counts = [length for _, length in runs]
    return [0, *counts] if runs[0][0] else counts


def packed(counts: list[int]) -> str:
    """Counts as pycocotools' text: differences to the one before the last, five bits a character."""
    text = ""
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


def masks_as_lists(top: Path) -> Truth:
    """Uncompressed RLE and no bbox."""

    def change(annotation: dict) -> None:
        counts = run_lengths(painted_mask(annotation.pop("bbox")))
        annotation["segmentation"] = {"counts": counts, "size": [SIZE[1], SIZE[0]]}

    return each_annotation(top, change)


def masks_as_text(top: Path) -> Truth:
    """Compressed RLE and no bbox."""

    def change(annotation: dict) -> None:
        counts = packed(run_lengths(painted_mask(annotation.pop("bbox"))))
        annotation["segmentation"] = {"counts": counts, "size": [SIZE[1], SIZE[0]]}

    return each_annotation(top, change)


def masks_of_two_parts(top: Path) -> Truth:
    """An object in two polygons; bbox is null."""

    def change(annotation: dict) -> None:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = None
        annotation["segmentation"] = [polygon_of([x, y, 5, h]), polygon_of([x + w - 5, y, 5, h])]

    return each_annotation(top, change)


def mask_in_place_of_an_empty_box(top: Path) -> Truth:
    def change(annotation: dict) -> None:
        annotation["segmentation"] = [polygon_of(annotation["bbox"])]
        annotation["bbox"] = []

    return each_annotation(top, change)


# ---- boxes ----


def boxes_as_text(top: Path) -> Truth:
    return each_annotation(top, lambda annotation: annotation.update(bbox=[*map(str, annotation["bbox"])]))


def box_is_one_text(top: Path) -> Truth:
    return each_annotation(top, lambda annotation: annotation.update(bbox=str(annotation["bbox"])))


def least_keys(top: Path) -> Truth:
    """No area, iscrowd, segmentation, id; pictures without sizes."""

    def change(labels: dict) -> None:
        keys = ("image_id", "category_id", "bbox")
        labels["annotations"] = [{key: a[key] for key in keys} for a in labels["annotations"]]
        labels["images"] = [{key: image[key] for key in ("id", "file_name")} for image in labels["images"]]
        labels["categories"] = [{key: c[key] for key in ("id", "name")} for c in labels["categories"]]

    return one_file(top, change)


def null_keys(top: Path) -> Truth:
    nothing = {"area": None, "iscrowd": None, "segmentation": None, "keypoints": None, "attributes": None}
    return each_annotation(top, lambda annotation: annotation.update(nothing))


def odd_boxes(top: Path) -> Truth:
    """Null, NaN, words, three numbers, no area: one each, of the first picture."""

    def change(labels: dict) -> None:
        for bbox in (None, [float("nan"), 1, 2, 3], ["a", 1, 2, 3], [1, 2, 3], [5, 5, 0, 9]):
            labels["annotations"].append(
                {**labels["annotations"][0], "bbox": bbox, "id": len(labels["annotations"])}
            )

    return one_file(top, change)


# ---- identifiers and categories ----


def ids_of_other_types(top: Path) -> Truth:
    """Numbers on one side, the same as text on the other."""

    def change(annotation: dict) -> None:
        annotation["image_id"] = str(annotation["image_id"])
        annotation["category_id"] = str(annotation["category_id"])

    return each_annotation(top, change)


def ids_of_uuids(top: Path) -> Truth:
    def change(labels: dict) -> None:
        for image in labels["images"]:
            image["id"] = f"9b1deb4d-3b7d-4bad-9bdd-{image['id']:012x}"
        for number, annotation in enumerate(labels["annotations"]):
            annotation["image_id"] = f"9b1deb4d-3b7d-4bad-9bdd-{annotation['image_id']:012x}"
            annotation["id"] = f"a-{number}"

    return one_file(top, change)


def annotation_of_no_picture(top: Path) -> Truth:
    def change(labels: dict) -> None:
        labels["annotations"].append({**labels["annotations"][0], "id": 99, "image_id": 4711})

    return one_file(top, change)


def annotation_of_no_category(top: Path) -> Truth:
    def change(labels: dict) -> None:
        labels["annotations"].append({**labels["annotations"][0], "id": 99, "category_id": 4711})

    return one_file(top, change)


def class_without_boxes(top: Path) -> Truth:
    """A class that nobody has drawn yet is a class; it is no parent."""
    return one_file(
        top,
        lambda labels: labels["categories"].append({"id": 9, "name": "washer", "supercategory": "screws"}),
    )


def two_of_a_name_and_another(top: Path) -> Truth:
    """Boxes of both categories of one name, and another class."""

    def with_twin(labels: dict) -> None:
        labels["categories"].append({"id": 7, "name": "nut"})
        for annotation in labels["annotations"][::2]:
            if annotation["category_id"] == 1:
                annotation["category_id"] = 7

    return coco_folders(top, with_twin)


# ---- files ----


def names_of_windows(top: Path) -> Truth:
    return renamed(top, "C:\\Users\\me\\screws\\images\\{}")


def names_with_dots_outside(top: Path) -> Truth:
    """`..` in names, found inside the folder that --images names."""
    return renamed(top, "../images/{}", folder="photos/", name="labels/result.json")


def names_of_label_studio(top: Path) -> Truth:
    """Label Studio's COCO export without its pictures: addresses of uploads."""
    return renamed(top, "../../label-studio/data/media/upload/1/1a2b3c4d-{}")


def names_without_folder(top: Path) -> Truth:
    """Pictures in a folder that no name tells of."""
    return one_file(top, folder="photos of screws/")


def file_with_mark(top: Path) -> Truth:
    truth = one_file(top)
    put(top / "labels.json", (top / "labels.json").read_text(), "utf-8-sig")
    return truth


def file_in_utf16(top: Path) -> Truth:
    """What `>` writes in PowerShell."""
    truth = one_file(top)
    put(top / "labels.json", (top / "labels.json").read_text(), "utf-16")
    return truth


def official_folder(top: Path) -> Truth:
    """COCO's annotations/ with captions and people's points beside the instances."""
    files = {"train": ("000000000001", "000000000002"), "val": ("000000000003",)}
    truth: Truth = {}
    for split, stems in files.items():
        part = pictures(top, *(f"{split}2017/{stem}.jpg" for stem in stems))
        labels = coco(part)
        put(top / f"annotations/instances_{split}2017.json", json.dumps(labels))
        captions = [{"image_id": image["id"], "id": 1, "caption": "Screws."} for image in labels["images"]]
        whole = {"info": {}, "images": labels["images"], "licenses": [], "annotations": captions}
        put(top / f"annotations/captions_{split}2017.json", json.dumps(whole))
        truth |= part
    return truth


def one_picture_is_missing(top: Path) -> Truth:
    truth = one_file(top)
    (top / "images/p1.jpg").unlink()
    del truth["images/p1.jpg"]
    return truth


def every_picture_is_missing(top: Path) -> Truth:
    for file in one_file(top):
        (top / file).unlink()
    return {}


def every_picture_is_another(top: Path) -> Truth:
    """The labels are of other pictures than those that are here."""
    truth = one_file(top)
    put(top / "labels.json", (top / "labels.json").read_text().replace('"p', '"q'))
    return truth


def only_results(top: Path) -> Truth:
    """A network's detections in COCO's form are no data set."""
    truth = pictures(top, "images/p0.jpg")
    put(
        top / "results.json",
        json.dumps([{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]),
    )
    return truth


def crowds(top: Path) -> Truth:
    """Crowds as RLE with a bbox stay boxes."""

    def change(annotation: dict) -> None:
        counts = run_lengths(painted_mask(annotation["bbox"]))
        annotation.update(iscrowd=1, segmentation={"counts": counts, "size": [SIZE[1], SIZE[0]]})

    return each_annotation(top, change)


def points_and_boxes(top: Path) -> Truth:
    """Key points, of which some boxes have none."""
    truth = one_file(top)
    labels = json.loads((top / "labels.json").read_text())
    for annotation, box in zip(
        labels["annotations"][::2], (boxes[0] for boxes in truth.values()), strict=True
    ):
        points = [value for x, y in corners(box)[:2] for value in (x, y, 2)]
        annotation.update(keypoints=points, num_keypoints=2)
    labels["categories"] = [{**c, "keypoints": ["a", "b"], "skeleton": []} for c in labels["categories"]]
    put(top / "labels.json", json.dumps(labels))
    return truth
