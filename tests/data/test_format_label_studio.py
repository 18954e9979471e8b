"""Label Studio's exports: shapes, addresses of pictures, what a person decided, and faults."""

import csv
import io
import json
from base64 import urlsafe_b64encode
from math import sqrt

import numpy as np
import pytest

from tests.data.labelling import put
from tests.data.sets import labels_of, write_picture
from toolkit.data.formats import registry
from toolkit.data.formats.label_studio_shapes import decode_rle
from toolkit.runtime import InputError

WIDTH, HEIGHT = 200, 100
CAT = ("cat", 20, 10, 60, 50)
PLACE = {"x": 10, "y": 10, "width": 20, "height": 40, "rotation": 0}


def region(value, kind="", **more):
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    name = kind or next((key for key in value if key.endswith("labels")), "rectangle")
    return {
        "id": "Dx_aB91ISN",
        "type": name,
        "from_name": "tag",
        "to_name": "img",
        **size,
        "value": value,
        **more,
    }


def rectangle(**changes):
    return region({**PLACE, "rectanglelabels": ["cat"], **changes})


def task(*regions, address="/data/upload/3/1a2b3c4d-a.png", **more):
    annotations = [{"result": list(regions), "created_at": "2024-01-01", "was_cancelled": False}]
    return {"id": 7, "data": {"image": address}, "annotations": annotations, **more}


def read(top, *tasks, name="project-3.json", picture="a.png", **options):
    write_picture(top / picture, WIDTH, HEIGHT)
    put(top / name, json.dumps(tasks))
    return registry.read(top, **options)


def packed(mask):
    """A mask in Label Studio's run lengths, as its editor packs them: runs and single values."""
    values = np.repeat(mask.reshape(-1).astype(np.uint8) * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    ends = [*np.flatnonzero(np.diff(values)).tolist(), len(values) - 1]
    start = 0
    for end in ends:
        count = end + 1 - start
        while count:
            part = min(count, 1 << 16)
            bits += f"111{part - 1:016b}{values[end]:08b}" if part > 1 else f"000000{values[end]:08b}"
            count -= part
        start = end + 1
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def painted():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:50, 20:60] = np.eye(40, dtype=bool)
    return mask


def png(mask):
    from base64 import b64encode

    import cv2

    alpha = np.dstack([np.zeros((*mask.shape, 3), np.uint8), mask.astype(np.uint8) * 255])
    return "data:image/png;base64," + b64encode(cv2.imencode(".png", alpha)[1].tobytes()).decode()


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ({**PLACE, "rectanglelabels": ["cat"]}, ""),
        ({**PLACE, "labels": ["cat"]}, ""),
        ({"x": "10", "y": "10.0", "width": 20, "height": 40, "rectanglelabels": ["cat"]}, ""),
        ({"points": [[10, 10], [30, 50], [30, 10]], "closed": True, "polygonlabels": ["cat"]}, "polygons"),
        ({"x": 20, "y": 30, "radiusX": 10, "radiusY": 20, "rotation": 0, "ellipselabels": ["cat"]},
         "ellipses"),
        # 20 x 40 px, turned by 90 degrees about the top left corner, which is at (60, 10)
        ({"x": 30, "y": 10, "width": 20, "height": 40, "rotation": 90, "rectanglelabels": ["cat"]},
         "rotated"),
        ({"vertices": [{"x": 10, "y": 10}, {"x": 30, "y": 50}, {"x": 30, "y": 10}], "closed": True,
          "vectorlabels": ["cat"]}, "polygons"),
        ({"format": "rle", "rle": packed(painted()), "brushlabels": ["cat"]}, "masks"),
        ({"imageDataURL": png(painted()), "bitmasklabels": ["cat"]}, "masks"),
    ],
)  # fmt: skip
def test_shapes(value, note, tmp_path):
    dataset = read(tmp_path, task(region(value)))
    assert dataset.intake.format == "label-studio"
    assert labels_of(dataset) == {"a.png": [CAT]}
    assert dataset.intake.whole
    assert len(dataset.intake.notes) == bool(note)
    assert all(note in each for each in dataset.intake.notes)


def test_a_turned_ellipse(tmp_path):
    """Semi-axes of 30 and 10 px, turned by 45 degrees in the pixels of a picture that is not square."""
    value = {"x": 50, "y": 50, "radiusX": 15, "radiusY": 10, "rotation": 45, "ellipselabels": ["cat"]}
    dataset = read(tmp_path, task(region(value)))
    reach = sqrt((30**2 + 10**2) / 2)
    np.testing.assert_allclose(dataset.boxes, [[100 - reach, 50 - reach, 100 + reach, 50 + reach]], atol=1e-4)


@pytest.mark.parametrize("size", [1, 7, 300, 70_000])
def test_run_lengths(size):
    values = np.random.default_rng(0).integers(0, 2, size).astype(bool)
    data = bytes(packed(values[None]))
    assert (decode_rle(data, 4 * size) == np.repeat(values, 4) * 255).all()
    with pytest.raises(ValueError, match="another size"):
        decode_rle(data, 4 * size + 4)
    with pytest.raises(ValueError, match="cut off|invalid literal"):
        decode_rle(data[: len(data) // 2], 4 * size)


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/data/upload/3/1a2b3c4d-a.png", "a.png"),
        ("/data/upload/3/1a2b3c4d-a.png", "upload/3/1a2b3c4d-a.png"),
        ("/data/upload/3/1a2b3c4d-my_photo_1.png", "images/my photo (1).png"),  # as the server stores it
        ("/data/upload/3/1a2b3c4d-my%20photo.png", "my photo.png"),
        ("/data/local-files/?d=shelf%2Fa.png", "shelf/a.png"),
        ("/data/local-files/?d=C%3A%5Cshelf%5CA.PNG", "a.png"),
        ("s3://bucket/deep/a.png", "images/deep/a.png"),
        ("gs://bucket/a.png", "a.png"),
        ("https://host:8080/x/a.png?X-Amz-Signature=1", "a.png"),
        (
            "/tasks/7/resolve/?fileuri=" + urlsafe_b64encode(b"s3://bucket/a.png").decode().rstrip("="),
            "a.png",
        ),
        ("C:\\photos\\a.png", "a.png"),
        ("a.png", "1/a.png"),
    ],
)
def test_addresses(address, file, tmp_path):
    dataset = read(tmp_path, task(rectangle(), address=address), picture=file)
    assert dataset.path(0) == tmp_path / file
    assert dataset.boxes.tolist() == [[20, 10, 60, 50]]


@pytest.mark.parametrize("key", ["img", "image_url", "photo"])
def test_the_picture_has_any_key(key, tmp_path):
    tasks = task(rectangle())
    tasks["data"] = {"caption": "a cat", key: "http://host/a.png?x=1"}
    assert labels_of(read(tmp_path, tasks)) == {"a.png": [CAT]}


def test_what_has_no_box_is_left_out_by_kind(tmp_path):
    two = {"points": [[1, 1], [9, 9]], "polygonlabels": ["cat"]}
    others = [
        region({"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["eye"]}),
        region({"choices": ["sunny"]}, "choices"),
        region({"text": ["a cat"]}, "textarea"),
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        region({"sequence": [], "framesCount": 9, "labels": ["cat"]}, "videorectangle"),
        region(two), region(two),
        region({"rle": [1, 2, 3], "format": "rle", "brushlabels": ["cat"]}),
        region({**PLACE}, "rectangle", id="alone"),
        rectangle(width=0),
        rectangle(x=None), rectangle(x=float("nan")), rectangle(height=1e300),
    ]  # fmt: skip
    dataset = read(tmp_path, task(rectangle(), *others))
    assert labels_of(dataset) == {"a.png": [CAT]}
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "key points": 1,
        "choices": 1,
        "texts": 1,
        "relations": 1,
        "regions of type videorectangle": 1,
        "polygons of fewer than three points": 2,
        "regions without a box": 4,
        "regions without a label": 1,
        "boxes without an area": 1,
    }
    assert all("task 7" in part.example for part in dataset.intake.left_out)
    with pytest.raises(InputError, match="task 7: .*keypointlabels"):
        registry.read(tmp_path, faults="refuse")


def test_the_parts_of_a_region_and_several_labels(tmp_path):
    """<Rectangle> and <Labels> write a region twice; two labels are two boxes, as in the YOLO export."""
    twice = [region(PLACE, "rectangle", id="r"), region({**PLACE, "labels": ["cat"]}, "labels", id="r")]
    dataset = read(tmp_path, task(*twice, rectangle(rectanglelabels=["cat", "pet"])))
    assert labels_of(dataset) == {"a.png": [CAT, CAT, ("pet", *CAT[1:])]}
    assert any("several labels" in note for note in dataset.intake.notes)
    assert dataset.intake.whole


def test_tasks_that_nobody_has_finished(tmp_path):
    cancelled = task(rectangle(), address="b.png")
    cancelled["annotations"][0]["was_cancelled"] = True
    untouched = {
        "id": 9,
        "data": {"image": "c.png"},
        "annotations": [],
        "predictions": [{"result": [rectangle()]}],
    }
    for name in "bc":
        write_picture(tmp_path / f"{name}.png", WIDTH, HEIGHT)
    dataset = read(tmp_path, task(rectangle()), cancelled, untouched)
    assert labels_of(dataset) == {"a.png": [CAT], "c.png": []}
    assert [(part.kind, part.count) for part in dataset.intake.left_out] == [
        ("tasks that were skipped in Label Studio", 1),
        ("predictions of tasks that nobody has annotated", 1),
    ]
    assert any("nobody has annotated" in note and "task 9" in note for note in dataset.intake.notes)


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_flat_exports(ending, tmp_path):
    """JSON-MIN and CSV."""
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    row = {
        "image": "/data/upload/3/1a2b3c4d-a.png",
        "id": 7,
        "label": [
            {**PLACE, "rectanglelabels": ["cat"], **size},
            {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["dog"], **size},
        ],
        "annotator": 1,
        "annotation_id": 2,
        "created_at": "2024-01-01",
        "lead_time": 3.5,
    }
    write_picture(tmp_path / "a.png", WIDTH, HEIGHT)
    text = json.dumps([row])
    if ending == ".csv":
        stream = io.StringIO()
        writer = csv.DictWriter(stream, row)
        writer.writeheader()
        writer.writerow({**row, "label": json.dumps(row["label"])})
        text = stream.getvalue()
    put(tmp_path / f"project-3{ending}", text)
    dataset = registry.read(tmp_path)
    assert dataset.intake.format == "label-studio"
    assert labels_of(dataset) == {"a.png": [CAT, ("dog", 0, 0, 100, 50)]}


def test_several_exports(tmp_path):
    """Of two exports of a project the later counts; files in folders of splits have their pictures."""
    put(tmp_path / "project-3-at-2023.json", json.dumps([task(rectangle(x=0))]))
    put(tmp_path / "test/project-4.json", json.dumps([task(rectangle(), address="b.png")]))
    write_picture(tmp_path / "test/b.png", WIDTH, HEIGHT)
    dataset = read(tmp_path, task(rectangle()), name="project-3-at-2024.json")
    assert labels_of(dataset) == {"test/b.png": [CAT], "a.png": [CAT]}
    assert dataset.splits.tolist() == ["test", ""]
    assert [(part.kind, part.count) for part in dataset.intake.left_out] == [
        ("tasks of a picture that has come in already", 1)
    ]


def test_pictures_that_are_missing_or_damaged_are_skipped(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    tasks = [task(rectangle(), address=name) for name in ("a.png", "gone.png", "bad.png")]
    dataset = read(tmp_path, *tasks)
    assert labels_of(dataset) == {"a.png": [CAT]}
    assert [picture.file for picture in dataset.intake.skipped] == ["gone.png", "bad.png"]
    assert [(part.kind, part.count) for part in dataset.intake.left_out] == [
        ("boxes of pictures that did not come in", 2)
    ]
    kept = registry.read(tmp_path, faults="keep")
    assert kept.files == ["a.png", "gone.png", "bad.png"]


@pytest.mark.parametrize(
    "hostile",
    [
        {"id": 1, "data": {"image": 3}},
        {"id": 1, "data": None},
        {"id": 1, "data": {"image": "a.png"}, "annotations": 3},
        {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": "text"}]},
        {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [{"value": 3}]}]},
        {"id": 1, "data": {"image": "http://[bad/x.png"}, "annotations": [{"result": []}]},
        3,
    ],
)
def test_hostile_tasks_are_left_out_or_skipped(hostile, tmp_path):
    write_picture(tmp_path / "b.png", WIDTH, HEIGHT)
    dataset = read(tmp_path, task(rectangle(), address="b.png"), hostile)
    assert labels_of(dataset)["b.png"] == [CAT]
    assert len(dataset.boxes) == 1
    assert not dataset.intake.whole
    with pytest.raises(InputError):
        registry.read(tmp_path, faults="refuse")
