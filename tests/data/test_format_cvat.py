"""CVAT's XML for images and for videos."""

from math import sqrt
from pathlib import Path

import pytest

from tests.data.labelling import corners, cvat, cvat_box, cvat_image, cvat_polygon, pictures, put
from tests.data.reading import contents, left_out, read_one, splits
from toolkit.data.formats import registry
from toolkit.runtime import InputError

BOX = ("nut", 10, 20, 50, 40)
PLACE = 'xtl="10" ytl="20" xbr="50" ybr="40"'
POINTS = ";".join(f"{x},{y}" for x, y in corners(BOX))


def one(top: Path, *shapes: str, attributes: str = "", picture: str = "a.jpg", name: str = "a.jpg") -> Path:
    """A picture, and its annotations.xml."""
    pictures(top, picture)
    put(top / "annotations.xml", cvat(cvat_image(0, name, shapes, attributes)))
    return top


@pytest.mark.parametrize(
    ("shape", "box", "note"),
    [
        (f'<box label="nut" {PLACE} rotation="0.00"/>', BOX[1:], ""),
        (f'<box label="nut" {PLACE} rotation="90"/>', (20, 10, 40, 50), "rotated"),
        ('<box label="nut" xtl="50" ytl="40" xbr="10" ybr="20"/>', BOX[1:], "wrong order"),
        (f'<polygon label="nut" points="{POINTS}"/>', BOX[1:], "polygons"),
        ('<ellipse label="nut" cx="30" cy="30" rx="20" ry="10"/>', BOX[1:], "ellipses"),
        (
            '<ellipse label="nut" cx="30" cy="30" rx="20" ry="10" rotation="90"/>',
            (20, 10, 40, 50),
            "ellipses",
        ),
        (
            '<ellipse label="nut" cx="40" cy="40" rx="20" ry="20" rotation="45"/>',
            (20, 20, 60, 60),
            "ellipses",
        ),
        (
            '<box label="nut" xtl="20" ytl="20" xbr="40" ybr="40" rotation="45.0"/>',
            (30 - 10 * sqrt(2), 30 - 10 * sqrt(2), 30 + 10 * sqrt(2), 30 + 10 * sqrt(2)),
            "rotated",
        ),
        ('<mask label="nut" rle="0, 800" left="10" top="20" width="40" height="20"/>', BOX[1:], "masks"),
        (
            '<cuboid label="nut" xtl1="10" ytl1="20" xbl1="12" ybl1="40" xtr1="50" ytr1="22"/>',
            BOX[1:],
            "cuboids",
        ),
        (
            '<skeleton label="nut"><points label="1" points="10,20"/><points label="2" points="50,40"/>'
            '<points label="3" outside="1" points="0,0"/></skeleton>',
            BOX[1:],
            "skeletons",
        ),
    ],
)
def test_shapes(tmp_path, shape, box, note):
    boxes, dataset = read_one(one(tmp_path, shape), "cvat")
    assert [name for name, *_ in boxes] == ["nut"]
    assert boxes[0][1:] == pytest.approx(box, abs=1e-4)
    assert [note in sentence for sentence in dataset.intake.notes] == [True] * bool(note)
    assert dataset.intake.whole


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ('<points label="nut" points="1,2;3,4"/>', "points without a box"),
        ('<polyline label="nut" points="1,2;3,4;5,6"/>', "lines without a box"),
        ('<tag label="nut"/>', "tags of whole pictures"),
        ('<polygon label="nut" points="1,2;3,4"/>', "shapes of odd numbers"),
        ('<polygon label="nut" points="1,2;3,4;5"/>', "shapes of odd numbers"),
        ('<polygon label="nut"/>', "shapes of odd numbers"),
        ('<box label="nut" xtl="a" ytl="1" xbr="2" ybr="3"/>', "shapes of odd numbers"),
        ('<box label="nut" xtl="nan" ytl="1" xbr="2" ybr="3"/>', "shapes of odd numbers"),
        ('<box label="nut" xtl="1" ytl="1"/>', "shapes of odd numbers"),
        ('<box xtl="1" ytl="1" xbr="3" ybr="4"/>', "shapes without a class"),
        ('<box label="nut" xtl="1" ytl="1" xbr="1" ybr="4"/>', "boxes without an area"),
        ('<skeleton label="nut"><points label="1" points="1,2"/></skeleton>', "shapes of odd numbers"),
        ('<sphere label="nut"/>', "shapes of the kind sphere"),
    ],
)
def test_what_stays_outside(tmp_path, shape, kind):
    boxes, dataset = read_one(one(tmp_path, shape, cvat_box(BOX)), "cvat")
    assert boxes == [BOX]
    assert left_out(dataset) == {kind: 1}
    with pytest.raises(InputError, match=r"annotations\.xml, image 0"):
        registry.read(tmp_path, faults="refuse")


def test_classes_are_in_the_order_of_the_task_s_labels(tmp_path):
    pictures(tmp_path, "a.jpg")
    parts = "<label><name>left eye</name><parent>face</parent></label>"
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("washer", "nut", "face")) + parts
    meta = f"<meta><project><id>1</id><labels>{labels}</labels></project></meta>"
    image = cvat_image(0, "a.jpg", [cvat_box(BOX), cvat_box(("bolt", *BOX[1:]))])
    put(tmp_path / "annotations.xml", f"<annotations><version>1.1</version>{meta}{image}</annotations>")
    assert registry.read(tmp_path).classes == ("washer", "nut", "face", "bolt")


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("images/a.jpg", "a.jpg"),
        ("images/deep/a.jpg", "deep/a.jpg"),
        ("a.jpg", "/home/django/data/a.jpg"),
        ("a.JPG", r"C:\data\a.jpg"),
        ("images/a b (1).jpg", "a b (1).jpg"),
    ],
)
def test_names_of_pictures(tmp_path, picture, name):
    assert contents(registry.read(one(tmp_path, cvat_box(BOX), picture=picture, name=name))) == {
        picture: [BOX]
    }


def test_subsets_of_a_project_are_splits(tmp_path):
    files = {
        "Train": "images/Train/a.jpg",
        "Validation": "images/Validation/a.jpg",
        "default": "images/default/a.jpg",
    }
    truth = pictures(tmp_path, *files.values())
    images = [
        cvat_image(i, "a.jpg", map(cvat_box, truth[file]), f'subset="{subset}" task_id="{i}"')
        for i, (subset, file) in enumerate(files.items())
    ]
    put(tmp_path / "annotations.xml", cvat("".join(images)))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert dataset.splits.tolist() == ["train", "val", ""]


def test_a_file_for_each_split_and_jobs_that_overlap(tmp_path):
    truth = pictures(tmp_path, "train/images/a.jpg", "train/images/b.jpg", "test/images/a.jpg")
    for folder, names in (("train", "ab"), ("test", "a")):
        images = [cvat_image(0, f"{n}.jpg", map(cvat_box, truth[f"{folder}/images/{n}.jpg"])) for n in names]
        put(tmp_path / folder / "annotations.xml", cvat("".join(images)))
    again = cvat_image(1, "b.jpg", map(cvat_box, truth["train/images/b.jpg"]))
    put(tmp_path / "train/job_2.xml", cvat(again))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert splits(dataset) == {
        "test/images/a.jpg": "test",
        "train/images/a.jpg": "train",
        "train/images/b.jpg": "train",
    }
    assert left_out(dataset) == {"boxes of pictures that came in before": 2}


def test_pictures_that_are_not_there_and_damaged_files(tmp_path):
    truth = pictures(tmp_path, "a.jpg")
    images = [
        cvat_image(0, "a.jpg", map(cvat_box, truth["a.jpg"])),
        cvat_image(1, "gone.jpg", [cvat_box(BOX)]),
    ]
    put(tmp_path / "annotations.xml", cvat("".join(images)))
    put(tmp_path / "other.xml", cvat(images[0])[:-40])
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert left_out(dataset) == {
        "boxes of pictures that did not come in": 1,
        "label files that cannot be read": 1,
    }
    assert [picture.file for picture in dataset.intake.skipped] == ["gone.jpg"]
    with pytest.raises(InputError, match="none of its labels|has no pictures"):
        registry.read(put(tmp_path / "empty/annotations.xml", "<annotations/>"), "cvat", images=tmp_path)


# ---- videos ----


def video(shapes: dict[int, str], size: int, stop: int | None = None) -> str:
    """The XML of a video of `size` frames, of one track with these shapes by frame."""
    end = "" if stop is None else f"<start_frame>0</start_frame><stop_frame>{stop}</stop_frame>"
    whole = "<original_size><width>160</width><height>120</height></original_size>"
    meta = f"<version>1.1</version><meta><task><size>{size}</size>{end}{whole}</task></meta>"
    inside = "".join(shape.format(frame=f'frame="{frame}" keyframe="1"') for frame, shape in shapes.items())
    return f'<annotations>{meta}<track id="0" label="nut" source="manual">{inside}</track></annotations>'


SHAPE = f'<box {{frame}} outside="0" occluded="0" {PLACE}/>'
OUTSIDE = SHAPE.replace('outside="0"', 'outside="1"')


@pytest.mark.parametrize(
    ("pattern", "first", "note"),
    [
        ("images/frame_{:06}.jpg", 0, False),
        ("frame_{:06}.PNG", 0, False),
        ("{}.jpg", 0, False),
        ("clip-{:04}.jpg", 1, True),  # as ffmpeg counts
    ],
)
def test_frames_of_a_video(tmp_path, pattern, first, note):
    files = [pattern.format(i + first) for i in range(12)]
    pictures(tmp_path, *(file.replace(".PNG", ".png") for file in files))
    for file in files:
        if file.endswith(".PNG"):
            (tmp_path / file.replace(".PNG", ".png")).rename(tmp_path / file)
    polygon = f'<polygon {{frame}} outside="0" points="{POINTS}"/>'
    put(tmp_path / "annotations.xml", video({1: SHAPE, 2: SHAPE, 3: OUTSIDE, 10: polygon}, 12, 11))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {file: [BOX] if i in (1, 2, 10) else [] for i, file in enumerate(files)}
    assert any("in their order" in sentence for sentence in dataset.intake.notes) == note
    assert dataset.intake.whole


def test_frames_that_are_not_there_are_counted(tmp_path):
    pictures(tmp_path, "frame_000000.jpg", "frame_000002.jpg")
    put(tmp_path / "annotations.xml", video({0: SHAPE, 1: SHAPE, 2: SHAPE, 7: SHAPE}, 8))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {"frame_000000.jpg": [BOX], "frame_000002.jpg": [BOX]}
    assert left_out(dataset) == {"boxes of pictures that did not come in": 2}


def test_polygons_of_the_maker(tmp_path):
    assert read_one(one(tmp_path, cvat_polygon(BOX)), "cvat")[0] == [BOX]
