"""Labels of other tools, as each writes them, and label files of no format that is read."""

import json
from collections.abc import Sequence
from math import cos, radians, sin
from pathlib import Path

from tests.data.cases import label_studio
from tests.data.labelling import (
    NAMES,
    SIZE,
    Box,
    Truth,
    corners,
    cvat,
    cvat_box,
    cvat_image,
    cvat_polygon,
    labelme,
    labelme_rectangle,
    pictures,
    put,
    rectangle_region,
    studio_tasks,
)


def three(top: Path, names: Sequence[str] = NAMES, folder: str = "", ending: str = "jpg") -> Truth:
    return pictures(top, *(f"{folder}p{i}.{ending}" for i in range(3)), names=names)


# ---- CVAT ----


def cvat_shapes(top: Path) -> Truth:
    """A polygon, points and a polyline beside boxes; subsets."""
    truth = three(top, folder="images/")
    images = []
    for number, (file, (first, second)) in enumerate(truth.items()):
        shapes = [cvat_box(first), cvat_polygon(second)]
        images.append(
            cvat_image(number, Path(file).name, shapes, f'subset="{"Train" if number else "Validation"}"')
        )
    put(top / "annotations.xml", cvat("\n".join(images)))
    return truth


def cvat_points(top: Path) -> Truth:
    """One point and one line: no boxes, so they stay outside."""
    truth = three(top, folder="images/")
    point = '<points label="nut" source="manual" occluded="0" points="5.00,5.00" z_order="0"></points>'
    images = [
        cvat_image(i, Path(file).name, [*map(cvat_box, boxes), *([] if i else [point])])
        for i, (file, boxes) in enumerate(truth.items())
    ]
    put(top / "annotations.xml", cvat("\n".join(images)))
    return truth


def cvat_tracks(top: Path) -> Truth:
    """CVAT for video 1.1: boxes of frames, some of them outside."""
    truth = pictures(top, *(f"images/frame_{i:06}.PNG" for i in range(3)), names=("nut",))
    tracks = ""
    for number in range(2):
        boxes = ""
        for frame, whole in enumerate(truth.values()):
            place = cvat_box(whole[number]).replace(
                ' label="nut" source="manual"', f' frame="{frame}" keyframe="1"'
            )
            boxes += place.replace('occluded="0"', 'outside="0" occluded="0"')
        gone = cvat_box(("nut", 1, 1, 20, 20)).replace(
            ' label="nut" source="manual"', ' frame="2" keyframe="1"'
        )
        tracks += f'<track id="{number}" label="nut" source="manual">{boxes}'
        tracks += gone.replace('occluded="0"', 'outside="1" occluded="0"') + "</track>"
    put(top / "annotations.xml", cvat(tracks, ("nut",)))
    return truth


def cvat_turned(top: Path) -> Truth:
    """rotation="30.00" of one box: clockwise degrees about its centre."""
    truth = three(top, folder="images/")
    first, second = truth["images/p0.jpg"]
    images = [cvat_image(0, "p0.jpg", [cvat_box(first, 'rotation="30.00"'), cvat_box(second)])]
    images += [
        cvat_image(i, Path(file).name, [*map(cvat_box, boxes)])
        for i, (file, boxes) in enumerate(truth.items())
        if i
    ]
    put(top / "annotations.xml", cvat("\n".join(images)))
    truth["images/p0.jpg"][0] = turned_about_centre(first, 30)
    return truth


def turned_about_centre(box: Box, degrees: float) -> Box:
    name, x1, y1, x2, y2 = box
    c, s = cos(radians(degrees)), sin(radians(degrees))
    w, h = ((x2 - x1) * c + (y2 - y1) * s) / 2, ((x2 - x1) * s + (y2 - y1) * c) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return name, x - w, y - h, x + w, y + h


# ---- LabelMe ----


def labelme_kinds(top: Path) -> Truth:
    """Swapped corners, polygon, circle; a point and a line stay outside. Other machines' imagePath."""
    truth = three(top)
    first, second = truth["p0.jpg"]
    swapped = {**labelme_rectangle(first), "points": [list(corners(first)[2]), list(corners(first)[0])]}
    polygon = {
        "label": second[0],
        "points": [list(point) for point in corners(second)],
        "shape_type": "polygon",
    }
    circle = {"label": "bolt", "points": [[50, 50], [50, 60]], "shape_type": "circle"}
    point = {"label": "nut", "points": [[5, 5]], "shape_type": "point"}
    line = {"label": "nut", "points": [[5, 5], [9, 9]], "shape_type": "line"}
    truth["p0.jpg"].append(("bolt", 40, 40, 60, 60))
    put(top / "p0.json", labelme("C:\\Users\\me\\p0.jpg", [swapped, polygon, circle, point, line]))
    for file in ("p1.jpg", "p2.jpg"):
        shapes = [labelme_rectangle(box) for box in truth[file]]
        put((top / file).with_suffix(".json"), labelme(file, shapes, imageData="/9j/4AAQ"))
    return truth


def labelme_apart(top: Path) -> Truth:
    """Labels in another folder; one picture without labels."""
    truth = three(top, folder="images/")
    for file, boxes in truth.items():
        shapes = [labelme_rectangle(box) for box in boxes]
        put(top / f"labels/{Path(file).stem}.json", labelme(f"..\\images\\{Path(file).name}", shapes))
    return truth | pictures(top, "images/none.jpg", count=0)


# ---- Label Studio ----


def studio_kinds(top: Path) -> Truth:
    """An ellipse and a turned rectangle; a key point and a choice stay outside or do not matter."""
    truth = three(top)
    (name, x1, y1, x2, y2), second = truth["p0.jpg"]
    ellipse = {
        "x": (x1 + x2) / 3.2, "y": (y1 + y2) / 2.4,
        "radiusX": (x2 - x1) / 3.2, "radiusY": (y2 - y1) / 2.4, "rotation": 0, "ellipselabels": [name],
    }  # fmt: skip
    tasks = studio_tasks(truth, lambda i, box: rectangle_region(box))
    result = tasks[0]["annotations"][0]["result"]
    result[0].update(type="ellipselabels", value=ellipse)
    result[1]["value"]["rotation"] = 90  # about its top left corner: it lies to the left of it
    w, h = second[3] - second[1], second[4] - second[2]
    truth["p0.jpg"][1] = (second[0], second[1] - h, second[2], second[1], second[2] + w)
    point = {"x": 10, "y": 10, "width": 1, "keypointlabels": ["nut"]}
    result.append({**result[0], "id": "k", "type": "keypointlabels", "value": point})
    result.append(
        {"id": "c", "type": "choices", "from_name": "ok", "to_name": "image", "value": {"choices": ["a"]}}
    )
    put(top / "export.json", json.dumps(tasks))
    return truth


def studio_least(top: Path) -> Truth:
    """JSON-MIN."""
    truth = three(top)
    tasks = []
    for number, (file, boxes) in enumerate(truth.items(), 1):
        size = {"original_width": SIZE[0], "original_height": SIZE[1]}
        regions = [{**rectangle_region(box)["value"], **size} for box in boxes]
        tasks.append(
            {"image": f"/data/upload/1/1a2b3c4d-{file}", "id": number, "label": regions, "annotator": 1}
        )
    put(top / "min.json", json.dumps(tasks))
    return truth


def studio_of_other_pictures(top: Path) -> Truth:
    """A task of a picture that is not here."""
    truth = label_studio(top, lambda i, box: rectangle_region(box))
    (top / "s2.jpg").unlink()
    del truth["s2.jpg"]
    return truth
