"""VOC XML as people's tools and archives have it: layouts, lists, shapes, what stays outside."""

from math import pi
from pathlib import Path

import pytest

from tests.data.labelling import bndbox, corners, pictures, put, voc_object, voc_xml, write_voc
from tests.data.reading import contents, left_out, read_one, splits
from toolkit.data.formats import registry
from toolkit.pictures import load_image
from toolkit.runtime import InputError

BOX = ("nut", 10, 20, 50, 40)


def one(top: Path, objects: str, encoding: str = "utf-8", **texts: str) -> Path:
    """A picture beside its XML file of these objects."""
    pictures(top, "a.jpg")
    xml = voc_xml("a.jpg", [], objects)
    for old, new in texts.items():
        xml = xml.replace(f"<{old}>", new)
    put(top / "a.xml", xml, encoding)
    return top


# ---- layouts ----


@pytest.mark.parametrize(
    ("picture", "xml", "root", "split"),
    [
        ("a.jpg", "a.xml", "", ""),
        ("JPEGImages/a.jpg", "Annotations/a.xml", "JPEGImages", ""),
        ("jpegimages/a.jpg", "annotations/a.XML", "jpegimages", ""),
        ("images/a.JPG", "xmls/a.xml", "images", ""),
        ("images/a.jpg", "annotations/xmls/a.xml", "images", ""),
        ("images/valid/a.jpg", "annotations/valid/a.xml", "images", "val"),
        ("test/images/a.jpg", "test/annotations/a.xml", "", "test"),
        ("train/a.jpg", "train/a.xml", "", "train"),
        ("photos of us/a.jpg", "boxes/a.xml", "", ""),
        ("JPEGImages/a b.1.jpg", "Annotations/a b.1.xml", "JPEGImages", ""),
        ("VOCdevkit/VOC2007/JPEGImages/a.jpg", "VOCdevkit/VOC2007/Annotations/a.xml", "", ""),
    ],
)
def test_pictures_and_xml_files_find_each_other(tmp_path, picture, xml, root, split):
    boxes = pictures(tmp_path, picture)[picture]
    put(tmp_path / xml, voc_xml(Path(picture).name, boxes))
    read, dataset = read_one(tmp_path, "voc")
    assert read == boxes
    assert dataset.path(0) == tmp_path / picture
    assert dataset.root.name == (root or dataset.root.name)
    assert dataset.splits.tolist() == [split]
    assert dataset.intake.whole


@pytest.mark.parametrize("tag", ["filename", "path"])
@pytest.mark.parametrize(
    "name", ["holiday.jpg", "holiday", r"C:\Users\me\pictures\holiday.jpg", "HOLIDAY.JPG"]
)
def test_a_picture_of_another_name_than_its_xml_file(tmp_path, tag, name):
    boxes = pictures(tmp_path, "images/holiday.jpg", "images/other.jpg")["images/holiday.jpg"]
    put(tmp_path / "0001.xml", voc_xml("", boxes).replace("<filename></filename>", f"<{tag}>{name}</{tag}>"))
    assert contents(registry.read(tmp_path)) == {"holiday.jpg": boxes, "other.jpg": []}


def test_masks_of_the_devkit_are_no_pictures(tmp_path):
    truth = pictures(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg")
    write_voc(tmp_path, truth, "Annotations")
    pictures(tmp_path, "SegmentationClass/a.png", "SegmentationClass/c.png")
    dataset = registry.read(tmp_path)
    assert dataset.files == ["a.jpg", "b.jpg"]
    assert ["2 pictures" in note for note in dataset.intake.notes] == [True]


def test_one_xml_file(tmp_path):
    truth = pictures(tmp_path, "a.jpg", "b.jpg")
    write_voc(tmp_path, truth)
    assert contents(registry.read(tmp_path / "b.xml")) == {"b.jpg": truth["b.jpg"]}


def test_labels_and_pictures_in_two_places(tmp_path):
    truth = pictures(tmp_path / "here", "train/a.jpg", "val/b.jpg")
    write_voc(tmp_path / "there", truth)
    dataset = registry.read(tmp_path / "there", images=tmp_path / "here")
    assert contents(dataset) == truth
    assert dataset.splits.tolist() == ["train", "val"]


# ---- lists ----


@pytest.mark.parametrize("folder", ["ImageSets/Main", "imagesets/main", "ImageSets", "."])
@pytest.mark.parametrize(
    "line",
    [
        "{stem}",
        "{stem}.jpg",
        "{stem}.xml",
        "JPEGImages/{stem}.jpg",
        "/home/x/VOCdevkit/VOC2007/JPEGImages/{stem}.jpg",
        r"D:\data\JPEGImages\{stem}.jpg",
        "{stem}  1",
        "{stem} -1",
        "./JPEGImages/{stem}.jpg ./Annotations/{stem}.xml",
    ],
)
def test_lists(tmp_path, folder, line):
    write_voc(tmp_path, pictures(tmp_path, *(f"JPEGImages/{s} 1.jpg" for s in "abcd")), "Annotations")
    for split, stems in (("train", "ba"), ("val", "c")):
        put(tmp_path / folder / f"{split}.txt", "".join(line.format(stem=f"{s} 1") + "\r\n" for s in stems))
    by_file = splits(registry.read(tmp_path))
    assert by_file == {"b 1.jpg": "train", "a 1.jpg": "train", "c 1.jpg": "val", "d 1.jpg": ""}
    assert list(by_file) == ["b 1.jpg", "a 1.jpg", "c 1.jpg", "d 1.jpg"]


def test_lists_of_one_class_count_where_there_are_no_others(tmp_path):
    write_voc(tmp_path, pictures(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg"), "Annotations")
    put(tmp_path / "ImageSets/Main/cat_train.txt", "a -1\n")
    put(tmp_path / "ImageSets/Main/cat_val.txt", "b  1\n")
    assert splits(registry.read(tmp_path)) == {"a.jpg": "train", "b.jpg": "val"}


def test_two_devkits_in_one_folder(tmp_path):
    for year, split in (("VOC2007", "train"), ("VOC2012", "val")):
        truth = pictures(tmp_path / year, "JPEGImages/a.jpg")
        write_voc(tmp_path / year, truth, "Annotations")
        put(tmp_path / year / f"ImageSets/Main/{split}.txt", "a\n")
    by_file = splits(registry.read(tmp_path))
    assert by_file == {"VOC2007/JPEGImages/a.jpg": "train", "VOC2012/JPEGImages/a.jpg": "val"}


def test_names_that_nobody_has_and_second_splits_are_counted(tmp_path):
    write_voc(tmp_path, pictures(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg"), "Annotations")
    put(tmp_path / "ImageSets/Main/train.txt", "a\nb\n")
    put(tmp_path / "ImageSets/Main/val.txt", "b\n")
    put(tmp_path / "ImageSets/Main/test.txt", "x\ny\nz\n")
    dataset = registry.read(tmp_path)
    assert splits(dataset) == {"a.jpg": "train", "b.jpg": "train"}
    assert left_out(dataset) == {
        "names in the list of a second split": 1,
        "names in lists without a label file or picture": 3,
    }
    with pytest.raises(InputError, match=r"val\.txt, line 1: 'b' is in the split 'train' already"):
        registry.read(tmp_path, faults="refuse")


@pytest.mark.parametrize("name", ["labelmap.txt", "label_list.txt", "labels.txt", "classes.txt"])
def test_classes_in_the_order_of_their_file(tmp_path, name):
    one(tmp_path, voc_object("nut", bndbox(BOX)))
    put(tmp_path / name, "washer\nnut\n")
    assert registry.read(tmp_path).classes == ("washer", "nut")


# ---- shapes ----

TOO_FEW = "<polygon><x1>1</x1><y1>2</y1><x2>3</x2><y2>4</y2></polygon>"
POINTS = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(corners(BOX), 1))
PAIRS = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners(BOX))
TURNED = "<cx>30</cx><cy>30</cy><w>20</w><h>40</h><angle>{}</angle>"


@pytest.mark.parametrize(
    ("place", "note"),
    [
        (bndbox(BOX), ""),
        ("<bndbox><ymax> 4e1 </ymax><xmax>50.0</xmax><ymin>20</ymin><xmin>\n10\n</xmin></bndbox>", ""),
        ("<bndbox><xmin>10,0</xmin><ymin>20</ymin><xmax>50</xmax><ymax>40</ymax></bndbox>", "comma"),
        (f"<polygon>{POINTS}</polygon>{bndbox(BOX)}", ""),
        (f"<polygon>{POINTS}</polygon>", "polygons"),
        (f"<polygon><username>me</username>{PAIRS}</polygon>", "polygons"),
        (f"<type>bounding_box</type><polygon>{PAIRS}</polygon>", ""),
        (f"<segmentation>{POINTS}</segmentation>", "masks"),
        ("<segmentation>10,20;50,20;50,40</segmentation>", "masks"),
        ("<points><point>10,20</point><point>50,20</point><point>50,40</point></points>", "points"),
        (f"<robndbox>{TURNED.format(pi / 2)}</robndbox>", "rotated"),
        (f"<robndbox>{TURNED.format(90)}</robndbox>", "rotated"),
        ("<robndbox>" + POINTS.replace("1>", "_left_top>") + "</robndbox>", "rotated"),
        ("<bndbox><x>10</x><y>20</y><w>40</w><h>20</h></bndbox>", ""),
        (f"{bndbox(BOX)}<confidence>.9</confidence>", "scores"),
        (bndbox(("", 50, 40, 10, 20)), "wrong order"),
    ],
)  # fmt: skip
def test_shapes(tmp_path, place, note):
    boxes, dataset = read_one(one(tmp_path, voc_object("nut", place)), "voc")
    ((name, *box),) = boxes
    assert name == "nut"
    assert box == pytest.approx(BOX[1:])
    assert [note in sentence for sentence in dataset.intake.notes] == [True] * bool(note)
    assert dataset.intake.whole


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (voc_object("", bndbox(BOX)), "objects without a class"),
        (voc_object("nut", ""), "objects without a box"),
        (voc_object("nut", "<point><x>1</x><y>2</y></point>"), "points without a box"),
        (voc_object("nut", TOO_FEW), "polygons of too few points"),
        (voc_object("nut", bndbox(("", 1, 2, "five", 3))), "boxes with something else than numbers"),
        (voc_object("nut", bndbox(("", 1, 2, "nan", 3))), "boxes with something else than numbers"),
        (voc_object("nut", bndbox(("", 1, 2, "9" * 400, 3))), "boxes with something else than numbers"),
        (voc_object("nut", "<bndbox><xmin>1</xmin></bndbox>"), "boxes with something else than numbers"),
        (voc_object("nut", bndbox(("", 1, 2, 1, 3))), "boxes without an area"),
        (voc_object("nut", "<bndbox/>"), "polygons of too few points"),
    ],
)  # fmt: skip
def test_what_stays_outside(tmp_path, odd, kind):
    one(tmp_path, odd + voc_object("bolt", bndbox(BOX)))
    boxes, dataset = read_one(tmp_path, "voc")
    assert boxes == [("bolt", *BOX[1:])]
    assert dataset.classes == ("bolt",)
    assert left_out(dataset) == {kind: 1}
    with pytest.raises(InputError, match=r"a\.xml"):
        registry.read(tmp_path, faults="refuse")
    one(tmp_path, odd)
    with pytest.raises(InputError, match="none of its labels could be read: 1 "):
        registry.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "ignore"),
    [("1", True), ("0", False), ("", False), ("true", True), ("Unspecified", False), (" 0 ", False)],
)
def test_difficult(tmp_path, text, ignore):
    one(tmp_path, voc_object("nut", bndbox(BOX)).replace("<difficult>0", f"<difficult>{text}"))
    assert registry.read(tmp_path).ignore.tolist() == [ignore]


# ---- files at fault ----


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "gb2312"),
        ('<?xml version="1.0" encoding="gbk"?>', "gbk"),
        ('<?xml version="1.0" encoding="utf-8"?>\n', "gb2312"),
        ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16"),
        ("", "utf-8-sig"),
    ],
)
def test_encodings(tmp_path, head, encoding):
    pictures(tmp_path, "图 片.jpg")
    put(tmp_path / "图 片.xml", head + voc_xml("图 片.jpg", [("螺母", *BOX[1:])]), encoding)
    boxes, dataset = read_one(tmp_path, "voc")
    assert boxes == [("螺母", *BOX[1:])]
    assert len(dataset.intake.notes) == encoding.startswith("gb")


@pytest.mark.parametrize(
    "text",
    ["", "<annotation><object>", "<svg/>", '<!DOCTYPE x [<!ENTITY a "b">]><annotation>&a;</annotation>'],
)
def test_a_damaged_xml_file_takes_its_picture_along(tmp_path, text):
    write_voc(tmp_path, pictures(tmp_path, "a.jpg", "b.jpg"))
    put(tmp_path / "a.xml", text)
    dataset = registry.read(tmp_path, "voc")
    assert dataset.files == ["b.jpg"]
    assert left_out(dataset) == {"label files that cannot be read": 1}
    assert [picture.file for picture in dataset.intake.skipped] == ["a.jpg"]
    assert registry.read(tmp_path, "voc", faults="keep").files == ["a.jpg", "b.jpg"]


def test_pictures_that_are_missing_or_none(tmp_path):
    write_voc(tmp_path, pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg"))
    (tmp_path / "b.jpg").unlink()
    put(tmp_path / "c.jpg", "no picture")
    put(tmp_path / "d.jpg", "")
    dataset = registry.read(tmp_path)
    assert dataset.files == ["a.jpg"]
    assert [picture.file for picture in dataset.intake.skipped] == ["b.jpg", "c.jpg", "d.jpg"]
    assert left_out(dataset) == {"boxes of pictures that did not come in": 6}


def test_two_label_files_for_a_picture(tmp_path):
    truth = pictures(tmp_path, "a.jpg")
    write_voc(tmp_path, truth)
    put(tmp_path / "copy of a.xml", voc_xml("a.jpg", truth["a.jpg"]))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == truth
    assert left_out(dataset) == {"label files of pictures that have one already": 1}


def test_two_pictures_for_a_label_file(tmp_path):
    truth = pictures(tmp_path, "a.jpg", "a.png")
    put(tmp_path / "a.xml", voc_xml("a.png", truth["a.png"]))
    dataset = registry.read(tmp_path)
    assert contents(dataset) == {"a.png": truth["a.png"]}
    assert [picture.file for picture in dataset.intake.skipped] == ["a.jpg"]


@pytest.mark.parametrize(
    "size", ["", "<size/>", "<width>0</width>", "<width>wide</width>", "<width>1e99</width>"]
)
def test_a_size_that_is_not_recorded_is_the_picture_s(tmp_path, size):
    one(tmp_path, voc_object("nut", bndbox(BOX)))
    xml = (tmp_path / "a.xml").read_text()
    old = xml[xml.index("<size>") : xml.index("</size>") + 7]
    put(
        tmp_path / "a.xml",
        xml.replace(old, size if "size" in size else f"<size>{size}<height>9</height></size>"),
    )
    height, width = load_image(tmp_path / "a.jpg").shape[:2]
    assert registry.read(tmp_path).sizes.tolist() == [[width, height]]
