"""KITTI's text files."""

from pathlib import Path

import pytest

from tests.data.labelling import Box, Truth, pictures, put
from tests.data.reading import contents, left_out, read_one, splits
from toolkit.data.formats import registry
from toolkit.runtime import InputError

BOX = ("Car", 10, 20, 50, 40)


def line(box: Box, tail: str = "") -> str:
    name, x1, y1, x2, y2 = box
    return f"{name} 0.00 0 -1.57 {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f} 1.5 1.6 3.9 1.0 2.0 30.0 -1.6{tail}\n"


def write(top: Path, truth: Truth, labels: str = "label_2", images: str = "image_2") -> None:
    for file, boxes in truth.items():
        put(top / Path(file.replace(images, labels)).with_suffix(".txt"), "".join(map(line, boxes)))


@pytest.mark.parametrize(
    ("images", "labels"), [("image_2", "label_2"), ("images", "labels"), ("data", "labels"), ("img", "label")]
)
def test_folders(tmp_path, images, labels):
    truth = pictures(tmp_path, f"training/{images}/000000.png", f"training/{images}/000001.png")
    write(tmp_path, truth, labels, images)
    truth |= pictures(tmp_path, f"testing/{images}/000000.png", count=0)
    put(tmp_path / "training/calib/000000.txt", "P0: 7.2e+02 0 6.0e+02 0 0 7.2e+02 1.8e+02 0 0 0 1 0\n")
    assert registry.detect_format(tmp_path) == "kitti"
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert dataset.splits.tolist() == ["train", "train", "test"]
    assert dataset.intake.whole


def test_labels_beside_and_the_right_camera(tmp_path):
    truth = pictures(tmp_path, "a b.png", "b.png")
    write(tmp_path, truth)
    put(tmp_path / "readme.md", "nothing")
    assert contents(registry.read(tmp_path)) == truth
    assert registry.detect_format(tmp_path) == "kitti"


def test_lists(tmp_path):
    truth = pictures(tmp_path, *(f"training/image_2/00000{i}.png" for i in range(3)))
    write(tmp_path, truth)
    pictures(tmp_path, "training/image_3/000000.png")
    put(tmp_path / "ImageSets/train.txt", "000002\n000000\n")
    put(tmp_path / "ImageSets/val.txt", "000001\n")
    dataset = registry.read(tmp_path)
    numbers = {Path(file).stem[-1]: split for file, split in splits(dataset).items()}
    assert numbers == {"2": "train", "0": "train", "1": "val"}
    assert contents(dataset) == truth


@pytest.mark.parametrize(
    ("text", "boxes", "note"),
    [
        (line(BOX), [BOX], ""),
        (line(BOX, " 0.87"), [BOX], "scores"),
        (line(("traffic light", *BOX[1:])), [("traffic light", *BOX[1:])], ""),
        (line(("Car", 50, 40, 10, 20)), [BOX], "wrong order"),
        ("Car -1 -1 -10 1e1 20 5e+1 40 -1 -1 -1 -1000 -1000 -1000 -10\r\n", [BOX], ""),
        (line(BOX) + "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n" * 2, [BOX], "2 DontCare"),
        ("", [], "no label at all"),
    ],
)
def test_lines(tmp_path, text, boxes, note):
    pictures(tmp_path, "image_2/a.png")
    put(tmp_path / "label_2/a.txt", text)
    dataset = registry.read(tmp_path, "kitti")
    assert contents(dataset) == {dataset.files[0]: boxes}
    assert [note in sentence for sentence in dataset.intake.notes] == [True] * bool(note)


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        ("Car 0 0 0 1 2 3\n", "lines that are not as KITTI has them"),
        (line(BOX).replace("10.00", "nan"), "lines that are not as KITTI has them"),
        (line(BOX).replace("10.00", "1e300"), "lines that are not as KITTI has them"),
        (line(BOX).replace("Car ", ""), "lines that are not as KITTI has them"),
        (line(("Car", 10, 20, 10, 40)), "boxes without an area"),
    ],
)
def test_what_stays_outside(tmp_path, odd, kind):
    pictures(tmp_path, "image_2/a.png")
    put(tmp_path / "label_2/a.txt", line(BOX) + odd)
    boxes, dataset = read_one(tmp_path, "kitti")
    assert boxes == [BOX]
    assert left_out(dataset) == {kind: 1}
    with pytest.raises(InputError, match=r"a\.txt, line 2"):
        registry.read(tmp_path, faults="refuse")


def test_pictures_that_are_not_there_and_files_that_are_no_text(tmp_path):
    truth = pictures(tmp_path, "image_2/a.png", "image_2/b.png", "image_2/c.png")
    write(tmp_path, truth)
    (tmp_path / "image_2/b.png").unlink()
    put(tmp_path / "label_2/c.txt", b"abcd\0\xff" * 99)
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {"image_2/a.png": truth["image_2/a.png"]}
    assert left_out(dataset) == {
        "boxes of pictures that did not come in": 2,
        "label files that cannot be read": 1,
    }
