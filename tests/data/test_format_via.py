"""VGG Image Annotator, versions 1 to 3, projects and exports."""

import csv
import json
from io import StringIO
from math import pi
from pathlib import Path

import pytest

from tests.data.labelling import corners, pictures, put, via_regions
from tests.data.reading import contents, left_out, read_one, splits
from toolkit.data.formats import registry
from toolkit.runtime import InputError

BOX = ("nut", 10, 20, 50, 40)
XS, YS = (list(numbers) for numbers in zip(*corners(BOX), strict=True))
RECT = {"name": "rect", "x": 10, "y": 20, "width": 40, "height": 20}


def region(shape: dict, **attributes: object) -> dict:
    return {"shape_attributes": shape, "region_attributes": attributes or {"class": "nut"}}


def entry(name: str, regions: object) -> dict:
    """What a project has for a picture."""
    return {f"{name}1234": {"filename": name, "size": 1234, "regions": regions, "file_attributes": {}}}


def project(images: dict, attributes: dict | None = None) -> str:
    """A project of version 2."""
    parts = {"_via_settings": {"ui": {}}, "_via_img_metadata": images, "_via_data_format_version": "2.0.10"}
    return json.dumps({**parts, "_via_attributes": {"region": attributes or {}, "file": {}}})


def table(truth: dict[str, list[dict]], hash: str = "") -> str:
    """CSV as versions 1 (with a #) and 2 write it."""
    text = StringIO()
    rows = csv.writer(text)
    tail = ["file_attributes", "region_count", "region_id", "region_shape_attributes", "region_attributes"]
    rows.writerow([f"{hash}filename", "file_size", *tail])
    for name, regions in truth.items():
        for i, each in enumerate(regions):
            shape, attributes = map(json.dumps, each.values())
            rows.writerow([name, 1234, "{}", len(regions), i, shape, attributes])
        if not regions:
            rows.writerow([name, 1234, "{}", 0, 0, "{}", "{}"])
    return text.getvalue()


def version_3(name: str, shapes: list[list]) -> str:
    parts = {
        "project": {"pid": "__VIA_PROJECT_ID__", "creator": "VGG Image Annotator", "vid_list": ["1"]},
        "config": {"file": {}, "ui": {}},
        "attribute": {"1": {"aname": "kind", "type": 4, "options": {"0": "nut", "1": "bolt"}}},
        "file": {"1": {"fid": "1", "fname": name, "type": 2, "loc": 1, "src": ""}},
        "metadata": {
            f"1_{i}": {"vid": "1", "z": [], "xy": xy, "av": {"1": "0"}} for i, xy in enumerate(shapes)
        },
        "view": {"1": {"fid_list": ["1"]}},
    }
    return json.dumps(parts)


def one(top: Path, *regions: object, **attributes: dict) -> Path:
    pictures(top, "a.jpg")
    put(top / "via_project.json", project(entry("a.jpg", regions), attributes))
    return top


@pytest.mark.parametrize("version", ["project", "json", "json of version 1", "csv", "csv of version 1"])
def test_versions(tmp_path, version):
    truth = pictures(tmp_path, "a b.jpg", "sub/b.jpg") | pictures(tmp_path, "c.jpg", count=0)
    regions = {Path(name).name: via_regions(boxes) for name, boxes in truth.items()}
    images = {key: value for name, each in regions.items() for key, value in entry(name, each).items()}
    if version == "project":
        put(tmp_path / "via_project_1Jan2024_10h.json", project(images))
    elif version == "json":
        put(tmp_path / "via_region_data.json", json.dumps(images))
    elif version == "json of version 1":
        for value in images.values():
            value |= {"regions": dict(enumerate(value["regions"])), "base64_img_data": "", "fileref": ""}
        put(tmp_path / "via_region_data.json", json.dumps(images))
    else:
        put(tmp_path / "via_export_csv.csv", table(regions, "#" * version.endswith("1")))
    assert registry.detect_format(tmp_path) == "via"
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert dataset.intake.whole


def test_version_3(tmp_path):
    pictures(tmp_path, "a.jpg")
    polygon = [7, *(number for point in corners(BOX) for number in point)]
    shapes = [[2, 10, 20, 40, 20], [3, 30, 30, 10], [4, 30, 30, 20, 10], polygon, [1, 5, 5], [99, 1]]
    put(tmp_path / "via_project.json", version_3("a.jpg", shapes))
    boxes, dataset = read_one(tmp_path, "via")
    assert boxes == [BOX, ("nut", 20, 20, 40, 40), BOX, BOX]
    assert left_out(dataset) == {"points without a box": 1, "regions of odd shapes": 1}


@pytest.mark.parametrize(
    ("shape", "box", "note"),
    [
        ({**RECT, "x": "10"}, BOX[1:], ""),
        ({**RECT, "x": 50, "width": -40}, BOX[1:], "wrong order"),
        ({"name": "circle", "cx": 30, "cy": 30, "r": 10}, (20, 20, 40, 40), "circles"),
        ({"name": "ellipse", "cx": 30, "cy": 30, "rx": 20, "ry": 10}, BOX[1:], "ellipses"),
        (
            {"name": "ellipse", "cx": 30, "cy": 30, "rx": 10, "ry": 20, "theta": pi / 2},
            BOX[1:],
            "ellipses",
        ),
        ({"name": "polygon", "all_points_x": XS, "all_points_y": YS}, BOX[1:], "polygons"),
    ],
)
def test_shapes(tmp_path, shape, box, note):
    boxes, dataset = read_one(one(tmp_path, region(shape)), "via")
    assert boxes[0][1:] == pytest.approx(box, abs=1e-4)
    assert [note in sentence for sentence in dataset.intake.notes] == [True] * bool(note)
    assert dataset.intake.whole


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (region({"name": "point", "cx": 1, "cy": 2}), "points without a box"),
        (region({"name": "polyline", "all_points_x": XS, "all_points_y": YS}), "lines without a box"),
        (
            region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}),
            "regions of odd shapes",
        ),
        (region({"name": "polygon", "all_points_x": XS, "all_points_y": YS[1:]}), "regions of odd shapes"),
        (region({"name": "star"}), "regions of odd shapes"),
        (region({**RECT, "x": None}), "regions of odd shapes"),
        (region({**RECT, "x": float("nan")}), "regions of odd shapes"),
        (region({}), "regions of odd shapes"),
        (None, "regions of odd shapes"),
        ({"shape_attributes": RECT, "region_attributes": None}, "regions without a class"),
        (region(RECT, size="big"), "regions without a class"),
        (region({**RECT, "width": 0}), "boxes without an area"),
    ],
)
def test_what_stays_outside(tmp_path, odd, kind):
    boxes, dataset = read_one(one(tmp_path, odd, region(RECT), region(RECT)), "via")
    assert boxes == [BOX, BOX]
    assert left_out(dataset) == {kind: 1}
    with pytest.raises(InputError, match=r"via_project\.json, a\.jpg"):
        registry.read(tmp_path, faults="refuse")


# ---- which attribute is the class ----

OPTIONS = {"type": "dropdown", "options": {"washer": "", "nut": "", "bolt": ""}}
NUMBERED = {"type": "dropdown", "options": {"1": "washer", "2": "nut"}}


@pytest.mark.parametrize(
    ("attributes", "settings", "classes", "boxes"),
    [
        ([{"part": "nut"}, {"part": "bolt"}], {}, ("bolt", "nut"), ["nut", "bolt"]),
        ([{"part": "nut"}, {"part": "bolt"}], {"part": OPTIONS}, ("washer", "nut", "bolt"), ["nut", "bolt"]),
        ([{"part": "2"}, {"part": "1"}], {"part": NUMBERED}, ("washer", "nut"), ["nut", "washer"]),
        ([{"id": "1", "label": "nut"}, {"id": "2", "label": "nut"}], {}, ("nut",), ["nut", "nut"]),
        ([{"id": "1", "part": "nut"}, {"id": "2", "part": "nut"}], {}, ("nut",), ["nut", "nut"]),
        ([{"id": "1", "part": "nut"}, {"id": "1", "part": "bolt"}], {"part": OPTIONS}, None, ["nut", "bolt"]),
        ([{"part": {"nut": True}}, {"part": {"bolt": True, "nut": True}}], {}, None, ["nut", "bolt", "nut"]),
        ([{"part": {"nut": True, "bolt": False}}, {"part": {"bolt": True}}], {}, None, ["nut", "bolt"]),
        ([{"part": ["nut"]}, {"part": 7}], {}, ("7", "nut"), ["nut", "7"]),
        ([{"note": ""}, {}], {}, ("object",), ["object", "object"]),
    ],
)
def test_the_class(tmp_path, attributes, settings, classes, boxes):
    regions = [{"shape_attributes": RECT, "region_attributes": each} for each in attributes]
    read, dataset = read_one(one(tmp_path, *regions, **settings), "via")
    assert [name for name, *_ in read] == boxes
    assert classes in (None, dataset.classes)
    assert dataset.intake.whole


# ---- files ----


def test_a_file_for_each_split_and_a_project_beside_its_exports(tmp_path):
    truth = pictures(tmp_path, "train/a.jpg", "val/a.jpg")
    for file, boxes in truth.items():
        folder = tmp_path / Path(file).parent
        put(folder / "via_region_data.json", json.dumps(entry("a.jpg", via_regions(boxes))))
        put(folder / "via_project.json", project(entry("a.jpg", via_regions(boxes))))
        put(folder / "via_export_csv.csv", table({"a.jpg": via_regions(boxes)}))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert splits(dataset) == {"train/a.jpg": "train", "val/a.jpg": "val"}
    assert dataset.intake.whole
    put(tmp_path / "val/other.json", json.dumps(entry("a.jpg", via_regions([BOX]))))
    assert left_out(registry.read(tmp_path)) == {"boxes of pictures that came in before": 1}


def test_pictures_that_are_not_there_and_damaged_files(tmp_path):
    one(tmp_path, region(RECT))
    others = entry("gone.jpg", [region(RECT)]) | entry("https://x.org/y/a.jpg?z", []) | {"b": {"size": 3}}
    put(tmp_path / "other.json", json.dumps(others))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {"a.jpg": [BOX]}
    assert left_out(dataset) == {"boxes of pictures that did not come in": 1, "pictures without a name": 1}
    assert [picture.file for picture in dataset.intake.skipped] == ["gone.jpg"]
    with pytest.raises(InputError, match="none of its labels|no pictures|not valid JSON"):
        registry.read(put(tmp_path / "bad/via.json", "[" * 9999), "via")
