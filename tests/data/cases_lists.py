"""Labels of other tools in one file for many pictures: lists, tables and JSON; files of no format."""

import csv
import json
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

from tests.data.cases_tools import three
from tests.data.labelling import (
    NAMES,
    SIZE,
    Box,
    Truth,
    corners,
    pictures,
    put,
    retinaface_record,
    train_and_valid,
    via_regions,
    xywh,
)

# ---- KITTI, CreateML, VIA, FiftyOne ----


def kitti_line(box: Box) -> str:
    corner = " ".join(f"{value:.2f}" for value in box[1:])
    return f"{box[0]} 0.00 0 -1.57 {corner} 1.50 1.60 3.90 1.00 1.50 20.00 -1.50"


def kitti(top: Path) -> Truth:
    truth = three(top, ("Car", "Pedestrian"), "training/image_2/", "png")
    for file, boxes in truth.items():
        put(top / f"training/label_2/{Path(file).stem}.txt", "".join(f"{kitti_line(box)}\n" for box in boxes))
    return truth


def kitti_with_dont_care(top: Path) -> Truth:
    """A region that nobody labelled is no object."""
    truth = kitti(top)
    with (top / "training/label_2/p0.txt").open("a") as file:
        file.write("DontCare -1 -1 -10 5.00 5.00 20.00 15.00 -1 -1 -1 -1000 -1000 -1000 -10\n")
    return truth


def createml(top: Path, keys: Sequence[str] = ("image", "annotations")) -> Truth:
    """Boxes by their centres, as Roboflow and Apple write them."""
    truth = train_and_valid(top, "{split}/{name}")
    for split in ("train", "valid"):
        records = []
        for file, boxes in truth.items():
            if file.startswith(split):
                coordinates = [
                    {"x": x + w / 2, "y": y + h / 2, "width": w, "height": h}
                    for x, y, w, h in map(xywh, boxes)
                ]
                marks = [{"label": b[0], "coordinates": c} for b, c in zip(boxes, coordinates, strict=True)]
                records.append({keys[0]: Path(file).name, keys[1]: marks})
        put(top / split / "_annotations.createml.json", json.dumps(records))
    return truth


def createml_of_other_keys(top: Path) -> Truth:
    return createml(top, ("imagefilename", "annotation"))


def via_table(truth: Truth) -> dict:
    return {
        f"{file}1234": {"filename": file, "size": 1234, "regions": via_regions(boxes), "file_attributes": {}}
        for file, boxes in truth.items()
    }


def via_annotations(top: Path) -> Truth:
    truth = three(top)
    put(top / "via_region_data.json", json.dumps(via_table(truth)))
    return truth


def via_project(top: Path) -> Truth:
    """A project; a polygon, a circle, and a point, which stays outside."""
    truth = three(top)
    table = via_table(truth)
    regions = table["p0.jpg1234"]["regions"]
    xs, ys = zip(*corners(truth["p0.jpg"][0]), strict=True)
    regions[0]["shape_attributes"] = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
    for shape in ({"name": "circle", "cx": 50, "cy": 50, "r": 9.5}, {"name": "point", "cx": 5, "cy": 5}):
        regions.append({"shape_attributes": shape, "region_attributes": {"class": "nut"}})
    truth["p0.jpg"].append(("nut", 40.5, 40.5, 59.5, 59.5))
    project = {"_via_settings": {"ui": {}}, "_via_img_metadata": table, "_via_attributes": {"region": {}}}
    put(top / "via_project_1Jan2024.json", json.dumps(project))
    return truth


def via_csv(top: Path) -> Truth:
    truth = three(top)
    rows = [
        [
            file,
            1234,
            "{}",
            len(boxes),
            i,
            json.dumps(r["shape_attributes"]),
            json.dumps(r["region_attributes"]),
        ]
        for file, boxes in truth.items()
        for i, r in enumerate(via_regions(boxes))
    ]
    head = (
        "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    )
    put(top / "via_region_data.csv", table_text(head.split(","), rows))
    return truth


def relative(box: Box) -> list[float]:
    x, y, w, h = xywh(box)
    return [x / SIZE[0], y / SIZE[1], w / SIZE[0], h / SIZE[1]]


def fiftyone_dataset(top: Path) -> Truth:
    """FiftyOneDataset: metadata.json, samples.json, data/."""
    truth = three(top, folder="data/")
    samples = []
    for file, boxes in truth.items():
        found = [{"_cls": "Detection", "label": box[0], "bounding_box": relative(box)} for box in boxes]
        truths = {"_cls": "Detections", "detections": found}
        samples.append({"_cls": "Sample", "filepath": file, "tags": ["train"], "ground_truth": truths})
    put(top / "samples.json", json.dumps({"samples": samples}))
    put(top / "metadata.json", json.dumps({"name": "screws", "media_type": "image", "sample_fields": []}))
    return truth


def fiftyone_detections(top: Path) -> Truth:
    """FiftyOneImageDetectionDataset: labels.json, data/; names without endings."""
    truth = three(top, folder="data/")
    labels = {
        Path(file).stem: [{"label": box[0], "bounding_box": relative(box)} for box in boxes]
        for file, boxes in truth.items()
    }
    put(top / "labels.json", json.dumps({"classes": list(NAMES), "labels": labels}))
    return truth


# ---- tables and lists ----


def table_text(head: Sequence[str], rows: Sequence[Sequence], delimiter: str = ",") -> str:
    text = StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([head, *rows] if head else rows)
    return text.getvalue()


def in_table(
    top: Path, head: str, row: Callable[[str, Box], list], name: str = "boxes.csv", **options
) -> Truth:
    truth = three(top, folder="images/")
    rows = [row(Path(file).name, box) for file, boxes in truth.items() for box in boxes]
    put(top / name, table_text(head.split(",") if head else (), rows, **options))
    return truth


def table_of_tensorflow(top: Path) -> Truth:
    head = "filename,width,height,class,xmin,ymin,xmax,ymax"
    return in_table(top, head, lambda file, box: [file, *SIZE, *box])


def table_of_roboflow(top: Path) -> Truth:
    """_annotations.csv in each split's folder."""
    truth = train_and_valid(top, "{split}/{name}")
    for split in ("train", "valid"):
        rows = [
            [Path(file).name, *SIZE, *box]
            for file, boxes in truth.items()
            if file.startswith(split)
            for box in boxes
        ]
        head = "filename,width,height,class,xmin,ymin,xmax,ymax"
        put(top / split / "_annotations.csv", table_text(head.split(","), rows))
    return truth


def table_of_retinanet(top: Path) -> Truth:
    """No header; an empty row for a picture without boxes."""
    truth = in_table(top, "", lambda file, box: [f"/home/me/images/{file}", *box[1:], box[0]])
    truth |= pictures(top, "images/none.jpg", count=0)
    with (top / "boxes.csv").open("a") as file:
        file.write("images/none.jpg,,,,,\n")
    return truth


def table_of_kaggle(top: Path) -> Truth:
    """image_id without an ending, bbox as a list in text."""
    row = lambda file, box: [Path(file).stem, *SIZE, str([float(v) for v in xywh(box)]), box[0]]  # noqa: E731
    return in_table(top, "image_id,width,height,bbox,class", row)


def table_of_vott(top: Path) -> Truth:
    return in_table(top, "image,xmin,ymin,xmax,ymax,label", lambda file, box: [file, *box[1:], box[0]])


def table_of_corner_and_size(top: Path) -> Truth:
    return in_table(top, "image,label,x,y,width,height", lambda file, box: [file, box[0], *xywh(box)])


def table_with_semicolons(top: Path) -> Truth:
    """GTSRB's columns."""
    row = lambda file, box: [file, *SIZE, *box[1:], NAMES.index(box[0])]  # noqa: E731
    head = "Filename,Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId"
    truth = in_table(top, head, row, delimiter=";")
    return {file: [(str(NAMES.index(n)), *place) for n, *place in boxes] for file, boxes in truth.items()}


def table_of_open_images(top: Path) -> Truth:
    """Fractions, in another order of columns."""

    def row(file: str, box: Box) -> list:
        _, x1, y1, x2, y2 = box
        places = [x1 / SIZE[0], x2 / SIZE[0], y1 / SIZE[1], y2 / SIZE[1]]
        return [Path(file).stem, "xclick", box[0], 1, *(f"{v:.7f}" for v in places), 0, 0, 0, 0, 0]

    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax"
    return in_table(top, f"{head},IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside", row)


def list_of_keras_yolo(top: Path) -> Truth:
    """path x1,y1,x2,y2,class x1,...: a picture a line, classes by number."""
    truth = three(top, folder="images/")
    lines = [
        " ".join(
            [f"images/{Path(file).name}", *(",".join(map(str, [*b[1:], NAMES.index(b[0])])) for b in boxes)]
        )
        for file, boxes in truth.items()
    ]
    put(top / "train.txt", "\n".join(lines) + "\n")
    return {file: [(str(NAMES.index(n)), *place) for n, *place in boxes] for file, boxes in truth.items()}


def retinaface_without_points(top: Path) -> Truth:
    truth = three(top, ("face",), "images/")
    records = (
        retinaface_record(f"0--Parade/{Path(file).name}", boxes, False) for file, boxes in truth.items()
    )
    put(top / "label.txt", "".join(records))
    return truth


def wider(top: Path, counts: bool, tail: str) -> Truth:
    truth = three(top, ("face",), "images/")
    lines = []
    for file, boxes in truth.items():
        lines += [Path(file).name, *([str(len(boxes))] if counts else [])]
        lines += [" ".join(map(str, xywh(box))) + tail for box in boxes]
    put(top / "label.txt", "".join(f"{line}\n" for line in lines))
    return truth


def wider_with_counts(top: Path) -> Truth:
    """A list of WIDER FACE's form under another name."""
    return wider(top, True, " 0 0 0 0 0 0")


def wider_without_counts(top: Path) -> Truth:
    return wider(top, False, "")


# ---- of no format that is read, or no labels ----


def unknown_text(top: Path) -> Truth:
    truth = three(top)
    for file in truth:
        put(
            (top / file).with_suffix(".txt"),
            "On the left there is a nut, and on the right of it there are bolts: three.\n",
        )
    return truth


def unknown_xml(top: Path) -> Truth:
    truth = three(top)
    for file in truth:
        put((top / file).with_suffix(".xml"), "<note><to>you</to></note>")
    return truth


def unknown_json(top: Path) -> Truth:
    truth = three(top)
    put(top / "settings.json", json.dumps({"colour": "red"}))
    return truth


def unknown_csv(top: Path) -> Truth:
    truth = three(top)
    put(top / "weather.csv", "day,rain\nMonday,3\n")
    return truth


def labels_are_next_door(top: Path) -> Truth:
    """The folder given is images/; labels/ is beside it."""
    truth = three(top, folder="images/")
    for file in truth:
        put(top / f"labels/{Path(file).stem}.txt", "0 0.5 0.5 0.2 0.2\n")
    return truth


def pictures_alone(top: Path) -> Truth:
    """And a README."""
    put(top / "README.txt", "Photographs of screws.\n")
    return {file: [] for file in three(top)}


def nothing(top: Path) -> Truth:
    return {}


def not_an_archive(top: Path) -> Truth:
    put(top / "made.zip", b"PK\3\4 and no more")
    return {}
