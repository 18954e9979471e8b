"""Data sets of strangers: what leads out of them, what blocks, what would fill the memory."""

import json
import os
import zipfile

import numpy as np
import pytest

from tests.data.labelling import put
from tests.data.sets import write_picture
from toolkit.data import importing
from toolkit.data.builder import CLASSES
from toolkit.data.formats import registry
from toolkit.data.formats.text import LINES, LONGEST, ROW, TEXT_BYTES
from toolkit.data.intake import kept_intake
from toolkit.runtime import InputError

LINE = b"0 .5 .5 .2 .2\n"


def yolo(top):
    write_picture(top / "a.jpg", 40, 30)
    put(top / "a.txt", LINE)
    return top


def coco(top, *names, images=()):
    """Its pictures are `names`, a box in each."""
    pictures = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in range(len(names))]
    tree = {"images": pictures, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    put(top / "x.json", json.dumps(tree).encode())
    for name in images:
        write_picture(top / name, 40, 30)
    return top


# ---- what leads out ----


def linked_picture(top, outside):
    yolo(top)
    (top / "b.jpg").symlink_to(outside / "b.jpg")
    put(top / "b.txt", LINE)


def linked_labels(top, outside):
    yolo(top)
    write_picture(top / "b.jpg", 40, 30)
    (top / "b.txt").symlink_to(outside / "b.txt")


def linked_folder(top, outside):
    yolo(top)
    (top / "more").symlink_to(outside)


def linked_names(top, outside):
    yolo(top)
    (top / "classes.txt").symlink_to(outside / "names.txt")


def link_to_a_device(top, outside):
    yolo(top)
    (top / "b.jpg").symlink_to("/dev/zero")


def through_a_linked_folder(top, outside):
    coco(top, "a.jpg", "more/b.jpg", images=["a.jpg"])
    (top / "more").symlink_to(outside)


def canonical_with_a_link(top, outside):
    coco(top / "annotations", "a.jpg", "b.jpg")
    write_picture(top / "images/a.jpg", 40, 30)
    (top / "images/b.jpg").symlink_to(outside / "b.jpg")


def names_of_settings(top, outside):
    yolo(top)
    put(top / "obj.data", f"names = {outside}/names.txt\n".encode())


def names_of_yaml(top, outside):
    yolo(top)
    put(top / "data.yaml", b"train: .\nnames: ../outside/names.txt\n")


def folder_of_yaml(top, outside):
    yolo(top)
    put(top / "data.yaml", b"train: .\nval: ../outside\nnames: [cat]\n")


def base_of_yaml(top, outside):
    yolo(top)
    put(top / "data.yaml", f"path: {outside}\ntrain: .\nnames: [cat]\n".encode())


def list_of_pictures(top, outside):
    yolo(top)
    put(top / "obj.data", b"train = train.txt\nclasses = 1\n")
    put(top / "train.txt", f"{outside}/b.jpg\n{top}/a.jpg\n".encode())


WAYS_OUT = [
    linked_picture, linked_labels, linked_folder, linked_names, link_to_a_device, through_a_linked_folder,
    canonical_with_a_link, names_of_settings, names_of_yaml, folder_of_yaml, base_of_yaml, list_of_pictures,
]  # fmt: skip


@pytest.fixture
def outside(tmp_path):
    write_picture(tmp_path / "outside/b.jpg", 40, 30)
    put(tmp_path / "outside/b.txt", LINE)
    put(tmp_path / "outside/names.txt", b"password\n")
    return tmp_path / "outside"


@pytest.mark.parametrize("make", WAYS_OUT)
def test_nothing_comes_from_outside(make, outside, tmp_path):
    make(tmp_path / "set", outside)
    dataset = importing.import_dataset(tmp_path / "set", tmp_path / "out")
    assert "password" not in dataset.classes
    secret = os.stat(outside / "b.jpg")
    copies = [os.stat(dataset.path(i)) for i in range(len(dataset))]
    assert not any(os.path.samestat(secret, copy) for copy in copies)
    assert [name for name in dataset.files if name not in ("a.jpg", "b.jpg")] == []
    assert not dataset.intake.whole
    assert any("--allow-outside" in note for note in dataset.intake.notes)
    with pytest.raises(InputError, match="--allow-outside"):
        registry.read(tmp_path / "set", faults="refuse")


@pytest.mark.parametrize("make", [make for make in WAYS_OUT if make is not link_to_a_device])
def test_what_is_outside_comes_in_where_it_is_allowed(make, outside, tmp_path):
    make(tmp_path / "set", outside)
    dataset = registry.read(tmp_path / "set", allow_outside=True)
    boxes = dict(zip(map(os.path.basename, dataset.files), np.diff(dataset.starts).tolist(), strict=True))
    if make in (linked_names, names_of_settings, names_of_yaml):
        assert (dataset.classes, boxes) == (("password",), {"a.jpg": 1})
    else:
        assert boxes == {"b.jpg": 1} if make is base_of_yaml else {"a.jpg": 1, "b.jpg": 1}
    assert not any("--allow-outside" in note for note in dataset.intake.notes)
    assert any("(the first: a.jpg)" in note for note in dataset.intake.notes) == ("a.jpg" not in boxes)


def test_a_set_of_nothing_but_links_is_refused(outside, tmp_path):
    yolo(tmp_path / "set")
    (tmp_path / "set/a.jpg").unlink()
    (tmp_path / "set/a.jpg").symlink_to(outside / "b.jpg")
    with pytest.raises(InputError, match="--allow-outside"):
        importing.import_dataset(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_inside_a_set_are_followed(tmp_path):
    yolo(tmp_path / "set/first")
    (tmp_path / "set/second").mkdir()
    (tmp_path / "set/second/b.jpg").symlink_to("../first/a.jpg")
    put(tmp_path / "set/second/b.txt", LINE)
    dataset = registry.read(tmp_path / "set")
    assert (len(dataset), dataset.intake.skipped) == (2, ())


@pytest.mark.parametrize("name", ["../outside/b.jpg", "{outside}/b.jpg", "../../../../etc/passwd", "a\0.jpg"])
def test_names_that_lead_out_name_nothing(name, outside, tmp_path):
    coco(tmp_path / "set", "a.jpg", name.format(outside=outside), images=["a.jpg"])
    dataset = registry.read(tmp_path / "set")
    assert (dataset.files, len(dataset.intake.skipped)) == (["a.jpg"], 1)


def split_elsewhere(top):
    """Pictures in one place, labels beside them, and ultralytics' settings in another."""
    write_picture(top / "disk/images/train/a.jpg", 40, 30)
    put(top / "disk/labels/train/a.txt", LINE)
    put(top / "set/data.yaml", f"train: {top}/disk/images/train\nnames: [cat]\n".encode())
    return top / "set/data.yaml"


def list_elsewhere(top):
    """darknet's list with pictures below it, whose settings are in another place."""
    write_picture(top / "disk/voc/a.jpg", 40, 30)
    put(top / "disk/voc/a.txt", LINE)
    put(top / "disk/train.txt", f"{top}/disk/voc/a.jpg\n{top}/outside/b.jpg\n".encode())
    put(top / "set/voc.names", b"cat\n")
    put(top / "set/voc.data", f"train = {top}/disk/train.txt\nnames = voc.names\n".encode())
    return top / "set/voc.data"


@pytest.mark.parametrize("make", [split_elsewhere, list_elsewhere])
def test_settings_that_are_chosen_name_folders_elsewhere(make, outside, tmp_path):
    """And no more than these: what a list in them names must be in them."""
    settings = make(tmp_path)
    dataset = registry.read(settings)
    assert ([os.path.basename(name) for name in dataset.files], dataset.classes) == (["a.jpg"], ("cat",))
    assert len(dataset.labels) == 1
    strays = [skipped.file for skipped in dataset.intake.skipped]
    assert strays == ([str(outside / "b.jpg")] if make is list_elsewhere else [])
    write_picture(settings.parent / "c.jpg", 40, 30)
    put(settings.parent / "c.txt", LINE)
    dataset = registry.read(settings.parent)
    assert [dataset.files, len(dataset.intake.skipped)] == [["c.jpg"], 1]


def test_strays_of_an_imported_set_are_news(outside, tmp_path):
    yolo(tmp_path / "set")
    write_picture(tmp_path / "set/b.jpg", 40, 30)
    put(tmp_path / "set/c.jpg", b"no picture")
    imported = importing.import_dataset(tmp_path / "set", tmp_path / "out")
    assert registry.read(tmp_path / "out").intake == imported.intake
    (tmp_path / "out/images/b.jpg").unlink()
    (tmp_path / "out/images/b.jpg").symlink_to(outside / "b.jpg")
    intake = registry.read(tmp_path / "out").intake
    assert intake.source == ""
    assert [skipped.file for skipped in intake.skipped] == [str(tmp_path / "out/images/b.jpg")]
    assert any("toolkit data import --allow-outside" in sentence for sentence in intake.sentences())


def test_what_is_no_file_is_not_said_to_come_in(tmp_path):
    yolo(tmp_path / "set")
    os.mkfifo(tmp_path / "set/b.jpg")
    intake = registry.read(tmp_path / "set").intake
    assert [note for note in intake.notes if "outside" in note] == []
    assert [note for note in intake.notes if "are not files" in note] != []


def test_a_record_of_an_import_that_cannot_be(tmp_path):
    yolo(tmp_path)
    left_out = [{"kind": "boxes", "count": float("inf"), "example": "a.txt"}]
    put(tmp_path / "import.json", json.dumps({"format": "coco", "left_out": left_out}).encode())
    assert kept_intake(tmp_path) is None
    assert registry.read(tmp_path).files == ["a.jpg"]


@pytest.mark.parametrize("name", ["b.jpg", "labels.txt", "data.json", "data.yaml", "import.json", "b.xml"])
def test_a_pipe_blocks_nothing(name, tmp_path):
    yolo(tmp_path / "set")
    os.mkfifo(tmp_path / "set" / name)
    dataset = registry.read(tmp_path / "set")
    assert dataset.files == ["a.jpg"]
    assert "pipe" in dataset.intake.skipped[0].reason


@pytest.mark.parametrize(
    "data",
    [
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"\x7fELF" + bytes(60),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BM is how this text begins, which goes on and on for some time still.",
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(60),
    ],
)
def test_what_is_no_picture_is_not_copied(data, tmp_path):
    """Also where the labels have its size, so that nobody need look."""
    coco(tmp_path / "set", "a.jpg", "b.jpg", images=["a.jpg"])
    put(tmp_path / "set/b.jpg", data)
    dataset = importing.import_dataset(tmp_path / "set", tmp_path / "out")
    assert [dataset.files, os.listdir(tmp_path / "out/images")] == [["a.jpg"]] * 2
    assert [skipped.file for skipped in dataset.intake.skipped] == ["b.jpg"]


# ---- what would fill the memory ----

DEEP = "[" * 900 + "]" * 900
JSON = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"x": %s}], "categories": []}'
HEADER = "filename,class,xmin,ymin,xmax,ymax\n"
TOO_MUCH = {
    "deep labelme": ("a.json", f'{{"imagePath": "a.jpg", "shapes": {DEEP}}}', "no LabelMe labels"),
    "deep coco": ("x.json", JSON % DEEP, "nested deeper"),
    "deeper coco": ("x.json", JSON % ("[" * 100_000), "nested too deeply"),
    "many mappings": ("x.json", JSON % ("[" + "{}," * 6_000_000 + "{}]"), "more values"),
    "entities": ("a.xml", '<!DOCTYPE a [<!ENTITY a "a">]><annotation>&a;</annotation>', "is refused"),
    "external": (
        "a.xml",
        '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>',
        "is refused",
    ),
    "deep xml": ("a.xml", f"<annotation>{'<a>' * 1000}{'</a>' * 1000}</annotation>", "nested deeper"),
    "many elements": ("a.xml", f"<annotation>{'<a/>' * 4_100_000}</annotation>", "more elements"),
    "line": ("a.txt", "0 " + ".1 .2 " * (LONGEST // 6 + 1), "a line of"),
    "lines": ("a.txt", "0 .5 .5 .1 .1\n" + "\n" * LINES, "lines"),
    "field": ("x.csv", f"{HEADER}{'a' * ROW},c,1,2,3,4\n", "a line of"),
    "row": ("x.csv", HEADER + '"\n",' * (ROW // 4 + 1), "a row of"),
    "classes": ("classes.txt", "".join(f"{i}\n" for i in range(CLASSES + 1)), "classes"),
    "aliases": ("data.yaml", "train: .\na: &a [x]\nb: [" + "*a," * 50_000 + "]\n", "values"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_too_much_is_refused_with_a_sentence(case, tmp_path):
    name, text, words = TOO_MUCH[case]
    write_picture(tmp_path / "a.jpg", 40, 30)
    put(tmp_path / "a.txt" if name in ("classes.txt", "data.yaml") else tmp_path / "b.md", LINE)
    put(tmp_path / name, text.encode())
    with pytest.raises(InputError, match=words) as caught:
        registry.read(tmp_path)
    assert len(str(caught.value)) < 3000


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    yolo(tmp_path)
    write_picture(tmp_path / "b.jpg", 40, 30)
    with open(tmp_path / "b.txt", "wb") as file:
        file.truncate(TEXT_BYTES + 1)
    dataset = registry.read(tmp_path)
    assert (dataset.files, dataset.intake.skipped[0].file) == (["a.jpg"], "b.jpg")


def test_numbers_that_cannot_be(tmp_path):
    yolo(tmp_path)
    odd = ["9" * 5000, "1000000000000", str(CLASSES), "-1", "nan", "1e400"]
    put(tmp_path / "a.txt", LINE + "".join(f"{number} .5 .5 .2 .2\n" for number in odd).encode())
    dataset = registry.read(tmp_path)
    assert (dataset.classes, len(dataset.labels)) == (("0",), 1)
    assert sum(part.count for part in dataset.intake.left_out) == len(odd)


def test_key_points_that_cannot_be(tmp_path):
    coco(tmp_path, "a.jpg", images=["a.jpg"])
    tree = json.loads((tmp_path / "x.json").read_text())
    tree["annotations"] *= 50
    tree["annotations"][0] = {**tree["annotations"][0], "keypoints": [1, 1, 2] * 100_000}
    put(tmp_path / "x.json", json.dumps(tree).encode())
    dataset = registry.read(tmp_path)
    assert (dataset.keypoints, len(dataset.labels)) == (None, 50)


def test_a_mask_of_a_picture_that_cannot_be(tmp_path):
    coco(tmp_path, "a.jpg", images=["a.jpg"])
    tree = json.loads((tmp_path / "x.json").read_text())
    masks = ([10, 10**12 - 10], "o" * 100_000, [10**30], [[1, 2], [3]])
    tree["annotations"] += [
        {"image_id": 0, "category_id": 1, "segmentation": {"size": [10**6] * 2, "counts": counts}}
        for counts in masks
    ]
    put(tmp_path / "x.json", json.dumps(tree).encode())
    assert np.isfinite(registry.read(tmp_path).boxes).all()


# ---- archives ----


def packed(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def special(mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("a.jpg")
    entry.external_attr = mode << 16
    return entry


ARCHIVES = {
    "ratio": ([("a.txt", bytes(150_000_000))], "unpack to"),
    "above": ([("../a.txt", b"x")], "leads out"),
    "backslashes": ([("..\\a.txt", b"x")], "leads out"),
    "absolute": ([("/a.txt", b"x")], "leads out"),
    "drive": ([("C:\\a.txt", b"x")], "leads out"),
    "link": ([(special(0o120777), b"/etc/passwd")], "is a link or a device"),
    "pipe": ([(special(0o010666), b"")], "is a link or a device"),
    "device": ([(special(0o020666), b"")], "is a link or a device"),
    "archive in it": ([("b.zip", b"PK")], "archive"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_hostile_archives(case, tmp_path):
    entries, words = ARCHIVES[case]
    with pytest.raises(InputError, match=words):
        importing.import_dataset(packed(tmp_path / "x.zip", *entries), tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.zip"]


def test_an_archive_with_too_many_entries(tmp_path, monkeypatch):
    path = packed(tmp_path / "x.zip", *((f"{i}.txt", b"") for i in range(1000)))
    monkeypatch.setattr(importing, "DIRECTORY", 10_000)
    with pytest.raises(InputError, match="more entries"):
        importing.import_dataset(path, tmp_path / "out")


def test_a_pipe_called_as_an_archive(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(InputError, match="pipe"):
        importing.import_dataset(tmp_path / "x.zip", tmp_path / "out")
