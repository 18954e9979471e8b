"""Lists of faces: RetinaFace's, WIDER FACE's in all its forms, landmarks, cut out faces."""

import json

import pytest

from tests.data.labelling import put
from tests.data.sets import labels_of, write_picture
from toolkit.data.formats import registry
from toolkit.runtime import InputError

FACE = ("face", 20, 10, 60, 50)
POINTS = "30 20 0.0 50 20 0.0 40 30 1.0 30 40 0.0 50 40 0.0"


def read(top, text, name="label.txt", pictures=("images/a.jpg",), format=None, **options):
    for picture in pictures:
        write_picture(top / picture, 200, 100)
    put(top / name, text)
    return registry.read(top, format, **options)


# ---- RetinaFace ----


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        (f"# a.jpg\n20 10 40 40 {POINTS} 0.82\n", 5),
        (f"# 0--Parade/a.jpg\n20 10 40 40 {POINTS}\n", 5),
        ("# a.jpg\n20 10 40 40\n", None),  # val/label.txt
        ("#a.jpg\n20 10 40 40 " + "-1.0 " * 15 + "0.1\n", None),
        ("# a.jpg\n20 10 40 40 30 20 0 50 20 0 -1 -1 -1 -1 -1 -1 -1 -1 -1 0.5\n", 2),
        ("# a.jpg\n20 10 40 40 30 20 50 20 40 30 30 40 50 40 0.5\n", 5),  # points without flags
        (f"# a.jpg 200 100\n20 10 60 50 {POINTS}\n", 5),  # SCRFD: corners
    ],
)
def test_retinaface(text, visible, tmp_path):
    dataset = read(tmp_path, text)
    assert dataset.intake.format == "retinaface"
    assert labels_of(dataset) == {"images/a.jpg": [FACE]}
    if visible is None:
        assert dataset.keypoints is None
    else:
        assert (dataset.keypoints[0, :, 2] == 2).sum() == visible
        assert dataset.keypoints[0, :2].tolist() == [[30, 20, 2], [50, 20, 2]]
        assert dataset.keypoints[0, visible:].tolist() == [[0, 0, 0]] * (5 - visible)


def test_retinaface_in_folders_of_splits(tmp_path):
    """The same names in both; faces with points beside faces without."""
    for split, x in (("train", 20), ("val", 30)):
        write_picture(tmp_path / split / "images/0--Parade/a.jpg", 200, 100)
        put(tmp_path / split / "label.txt", f"# 0--Parade/a.jpg\n{x} 10 40 40 {POINTS} 0.8\n1 2 3 4\n")
    dataset = registry.read(tmp_path)
    assert dataset.files == ["train/images/0--Parade/a.jpg", "val/images/0--Parade/a.jpg"]
    assert dataset.splits.tolist() == ["train", "val"]
    assert dataset.boxes.tolist() == [[20, 10, 60, 50], [1, 2, 4, 6], [30, 10, 70, 50], [1, 2, 4, 6]]
    assert dataset.keypoints[1].any() == False  # noqa: E712


def test_retinaface_faults(tmp_path):
    text = "1 2 3 4\n# a.jpg\n20 10 40 40\n1 2 x 4\n1 2\n9 9 0 9\n# gone.jpg\n1 2 3 4\n5 6 7 8\n"
    write_picture(tmp_path / "a.jpg", 200, 100)
    list_file = put(tmp_path / "label.txt", text)
    with pytest.raises(InputError, match="line 1: expected '# picture', found '1 2 3 4'"):
        registry.read(list_file, "retinaface", faults="refuse")
    dataset = registry.read(list_file, "retinaface")
    assert labels_of(dataset) == {"a.jpg": [FACE]}
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "lines before the first picture": 1,
        "lines without a box": 2,
        "boxes without an area": 1,
        "boxes of pictures that did not come in": 2,
    }
    assert [picture.file for picture in dataset.intake.skipped] == ["gone.jpg"]


# ---- WIDER FACE ----

TEN = "20 10 40 40 0 0 0 0 0 0"


@pytest.mark.parametrize(
    ("text", "faces"),
    [
        (f"a.jpg\n1\n{TEN}\n", 1),
        (f"a.jpg\n{TEN}\n", 1),  # no counts
        ("a.jpg\n20 10 40 40\n", 1),
        ("a.jpg\n1\n20 10 40 40 0.98\n", 1),  # a detector's
        ("photos/0--Parade/a.jpg\n1\n20 10 40 40\n", 1),
        ("0--Parade/a\n1\n20 10 40 40\n", 1),  # names without endings
        ("a.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n", 0),
        ("a.jpg\n0 0 0 0 0 0 0 0 0 0\n", 0),
        ("a.jpg\n0\n", 0),
        (f"a.jpg\n2\n{TEN}\n", 1),  # counts that are wrong
        (f"a.jpg\n1\n{TEN}\n{TEN}\n", 2),
        (f"a.jpg\n0\n{TEN}\n", 1),
    ],
)
def test_lists_like_those_of_wider_face(text, faces, tmp_path):
    other = "" if "\n20" in text else f"b.jpg\n{TEN}\n"  # a list of no face at all is of no kind
    dataset = read(tmp_path, text + other, pictures=("images/a.jpg", "images/b.jpg"))
    assert dataset.intake.format == "widerface"
    assert labels_of(dataset)["a.jpg"] == [FACE] * faces


def test_lists_without_counts_may_begin_with_pictures_without_faces(tmp_path):
    pictures = tuple(f"{name}.jpg" for name in "abc")
    dataset = read(tmp_path, "a.jpg\nb.jpg\n20 10 40 40\nc.jpg\n", "train_faces.txt", pictures)
    assert labels_of(dataset) == {"a.jpg": [], "b.jpg": [FACE], "c.jpg": []}
    assert dataset.splits.tolist() == ["train"] * 3


def test_official_lists_in_any_place(tmp_path):
    """Lists apart from wider_face_split, pictures apart from their events' folders."""
    for split in ("train", "val"):
        write_picture(tmp_path / f"pictures/{split}/deep/{split}.jpg", 200, 100)
        text = f"0--Parade/{split}.jpg\n1\n20 10 40 40 0 0 0 1 0 0\n"
        put(tmp_path / f"annotations/wider_face_{split}_bbx_gt.txt", text)
    put(tmp_path / "annotations/._wider_face_train_bbx_gt.txt", b"\0\5")
    dataset = registry.read(tmp_path)
    assert labels_of(dataset) == {
        "pictures/train/deep/train.jpg": [FACE],
        "pictures/val/deep/val.jpg": [FACE],
    }
    assert dataset.splits.tolist() == ["train", "val"]
    assert dataset.ignore.all()


def test_wider_faults(tmp_path):
    text = f"{TEN}\na.jpg\n4\n{TEN}\n1 2 x 4\n1 2 3\n1 2 3 1e300\ngone.jpg\n1\n{TEN}\n"
    write_picture(tmp_path / "images/a.jpg", 9, 9)
    put(tmp_path / "list.txt", text)
    dataset = registry.read(tmp_path / "list.txt", "widerface")
    assert labels_of(dataset) == {"a.jpg": [FACE]}
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "lines before the first picture": 1,
        "lines without a box": 3,
        "boxes of pictures that did not come in": 1,
    }
    kept = registry.read(tmp_path / "list.txt", "widerface", faults="keep")
    assert kept.files == ["a.jpg", "gone.jpg"]


def test_wider_matlab_files_are_not_read(tmp_path):
    write_picture(tmp_path / "WIDER_val/images/a.jpg", 9, 9)
    put(tmp_path / "wider_face_split/wider_face_val.mat", b"MATLAB 5.0 MAT-file\0\1\2")
    with pytest.raises(InputError, match=r"wider_face_val\.mat"):
        registry.read(tmp_path)
    with pytest.raises(InputError, match=r"wider_face_val\.mat is MATLAB's, which is not read"):
        registry.read(tmp_path, "widerface")


def test_a_picture_without_sizes_is_skipped(tmp_path):
    put(tmp_path / "sizes.csv", "file,orig_w,orig_h,w,h\na.jpg,400,200,200,100\n")
    put(tmp_path / "wider_face_split/wider_face_val_bbx_gt.txt", f"a.jpg\n1\n{TEN}\nb.jpg\n1\n{TEN}\n")
    for name in "ab":
        write_picture(tmp_path / f"WIDER_val/images/{name}.jpg", 200, 100)
    dataset = registry.read(tmp_path)
    assert labels_of(dataset) == {"a.jpg": [("face", 10, 5, 30, 25)]}
    assert [picture.file for picture in dataset.intake.skipped] == ["b.jpg"]
    with pytest.raises(InputError, match=r"sizes\.csv has no line for 'b\.jpg'"):
        registry.read(tmp_path, faults="refuse")


# ---- landmarks and cut out faces ----

FIVE = "30 20 50 20 40 30 30 40 50 40"


def test_landmark_faults(tmp_path):
    text = (
        f"{FIVE} 20 10 60 50 a.jpg\n{FIVE} a.jpg\n{FIVE} gone.jpg\n1 2 3 a.jpg\n"
        f"{FIVE.replace('50', 'nan')} a.jpg\n{'1 ' * 136}a.jpg\nnonsense\n"
    )
    dataset = read(tmp_path, text, "list_train.txt")
    assert dataset.intake.format == "landmarks"
    assert labels_of(dataset) == {"a.jpg": [FACE, ("face", 30, 20, 50, 40)]}
    assert dataset.splits.tolist() == ["train"]
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "boxes of pictures that did not come in": 1,
        "lines that are not points and a picture's name": 4,
    }
    with pytest.raises(InputError, match=r"line 3: .*gone\.jpg|'gone\.jpg' that .*line 3"):
        registry.read(tmp_path, faults="refuse")


def test_cut_out_faces(tmp_path):
    points = [[float(i), float(i + 1)] for i in range(98)]
    records = [
        {"crop": "a.jpg", "size": 200, "landmarks98_crop": points},
        {"crop": "a.jpg", "size": 200, "landmarks98_crop": points[:5]},
        {"crop": "gone.jpg", "size": 200, "landmarks98_crop": points},
        {"crop": "a.jpg", "size": None},
    ]
    dataset = read(tmp_path, json.dumps(records), "annotations.json", ("crops/a.jpg",))
    assert labels_of(dataset) == {"a.jpg": [("face", 0, 1, 97, 98)]}
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "faces without their 98 points": 2,
        "boxes of pictures that did not come in": 1,
    }
    assert [picture.file for picture in dataset.intake.skipped] == ["gone.jpg"]
