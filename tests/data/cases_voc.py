"""VOC labels of the kinds of `cases` and neighbouring ones."""

from pathlib import Path

from tests.data.cases import CHINESE
from tests.data.labelling import (
    Truth,
    bndbox,
    boxes_for,
    corners,
    draw,
    encoded,
    pictures,
    put,
    train_and_valid,
    voc_object,
    voc_xml,
    write_voc,
)


def devkit(top: Path, count: int = 3) -> Truth:
    """Annotations/ and JPEGImages/."""
    truth = pictures(top, *(f"JPEGImages/{i:03}.jpg" for i in range(count)))
    write_voc(top, truth, "Annotations")
    return truth


def extra_object(top: Path, place: str) -> Truth:
    """The same, with an object more in the first file that has this in place of <bndbox>."""
    truth = devkit(top)
    boxes = truth["JPEGImages/000.jpg"]
    put(top / "Annotations/000.xml", voc_xml("000.jpg", boxes, voc_object("nut", place)))
    return truth


# ---- folders ----


def lower_case_folders(top: Path) -> Truth:
    truth = pictures(top, "jpegimages/a.jpg", "jpegimages/b.jpg")
    write_voc(top, truth, "annotations")
    put(top / "imagesets/main/train.txt", "a\n")
    put(top / "imagesets/main/val.txt", "b\n")
    return truth


def images_and_annotations(top: Path) -> Truth:
    """Kaggle's folders."""
    truth = pictures(top, "images/road0.png", "images/road1.png")
    write_voc(top, truth, "annotations")
    return truth


def images_and_labels(top: Path) -> Truth:
    truth = pictures(top, "images/a.jpg", "images/b.jpg")
    write_voc(top, truth, "labels")
    return truth


def devkit_of_one_year(top: Path) -> Truth:
    """The folder given is above VOCdevkit/VOC2007."""
    truth = devkit(top / "VOCdevkit/VOC2007")
    put(top / "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt", "000\n001\n")
    put(top / "VOCdevkit/VOC2007/ImageSets/Main/test.txt", "002\n")
    return {f"VOCdevkit/VOC2007/{file}": boxes for file, boxes in truth.items()}


def folders_of_splits(top: Path) -> Truth:
    """train/Annotations, train/JPEGImages and the same of valid."""
    truth = train_and_valid(top, "{split}/JPEGImages/{name}")
    for split in ("train", "valid"):
        write_voc(top / split, {file: boxes for file, boxes in truth.items() if split in file}, "Annotations")
    return truth


def folders_of_splits_inside(top: Path) -> Truth:
    """Annotations/train, JPEGImages/train and the same of valid."""
    truth = train_and_valid(top, "JPEGImages/{split}/{name}")
    for split in ("train", "valid"):
        part = {file: boxes for file, boxes in truth.items() if f"/{split}/" in file}
        write_voc(top, part, f"Annotations/{split}")
    return truth


def upper_case_xml(top: Path) -> Truth:
    truth = {"A.JPG": draw(top / "A.JPG"), "B.JPG": draw(top / "B.JPG")}
    write_voc(top, truth, ending=".XML")
    return truth


def lists_with_paths(top: Path) -> Truth:
    truth = devkit(top, 4)
    put(top / "ImageSets/Main/train.txt", "JPEGImages/000.jpg\n/home/me/VOC/JPEGImages/001.jpg\n")
    put(top / "ImageSets/Main/val.txt", "D:\\VOC\\JPEGImages\\002.jpg\r\nAnnotations/003.xml\r\n")
    return truth


def lists_name_absent_pictures(top: Path) -> Truth:
    truth = devkit(top)
    put(top / "ImageSets/Main/train.txt", "000\n001\n777\n")
    put(top / "ImageSets/Main/val.txt", "002\n778\n")
    return truth


# ---- encodings and names ----


def chinese(top: Path, head: str, encoding: str) -> Truth:
    truth = {}
    for file in ("JPEGImages/工件 0.jpg", "JPEGImages/工件 1.jpg"):
        truth[file] = boxes_for(file, CHINESE)
        put(top / file, encoded(truth[file], "JPEG", CHINESE))
    write_voc(top, truth, "Annotations", head=head, encoding=encoding)
    return truth


def in_utf16(top: Path) -> Truth:
    return chinese(top, '<?xml version="1.0" encoding="utf-16"?>\n', "utf-16")


def in_utf16_undeclared(top: Path) -> Truth:
    return chinese(top, "", "utf-16")


def in_utf8_with_mark(top: Path) -> Truth:
    return chinese(top, '<?xml version="1.0"?>\n', "utf-8-sig")


def in_gbk_that_says_utf8(top: Path) -> Truth:
    return chinese(top, '<?xml version="1.0" encoding="utf-8"?>\n', "gbk")


def in_utf8_that_says_gbk(top: Path) -> Truth:
    return chinese(top, '<?xml version="1.0" encoding="gbk"?>\n', "utf-8")


def filename_of_another_machine(top: Path) -> Truth:
    """<filename> and <path> of Windows; the XML file's own name is right."""
    truth = devkit(top)
    for file, boxes in truth.items():
        text = voc_xml(f"C:\\Users\\me\\VOC\\{Path(file).name}", boxes)
        path = f"<path>C:\\Users\\me\\VOC\\{Path(file).name}</path>"
        put(top / "Annotations" / f"{Path(file).stem}.xml", text.replace("<size>", f"{path}<size>"))
    return truth


def filename_with_another_ending(top: Path) -> Truth:
    """<filename> says .jpg and without an ending; the pictures are PNG."""
    truth = pictures(top, "JPEGImages/a.png", "JPEGImages/b.png")
    for name, (file, boxes) in zip(("a.jpg", "b"), truth.items(), strict=True):
        put(top / f"Annotations/{Path(file).stem}.xml", voc_xml(name, boxes))
    return truth


def named_by_filename_alone(top: Path) -> Truth:
    """XML files are numbered; <filename> says which picture each is of."""
    truth = pictures(top, "JPEGImages/a.jpg", "JPEGImages/b.jpg")
    for number, (file, boxes) in enumerate(truth.items()):
        put(top / f"Annotations/annotation_{number}.xml", voc_xml(Path(file).name, boxes))
    return truth


# ---- objects ----


def decimals(top: Path) -> Truth:
    truth = devkit(top)
    shifted = {
        file: [(name, x1 + 0.25, y1 + 0.5, x2 - 0.125, y2 - 0.75) for name, x1, y1, x2, y2 in boxes]
        for file, boxes in truth.items()
    }
    write_voc(top, shifted, "Annotations")
    return shifted


def numbers_of_other_tools(top: Path) -> Truth:
    """Blanks and lines around numbers, and the corners in another order."""
    truth = devkit(top)
    for file, boxes in truth.items():
        objects = ""
        for name, x1, y1, x2, y2 in boxes:
            first = f"<ymin>\n{y1}\n</ymin><xmin>{x1}</xmin>"
            place = f"<bndbox>\n<ymax> {y2}.0 </ymax>\n<xmax>{x2}</xmax>{first}</bndbox>"
            objects += voc_object(name, place).replace("<pose>Unspecified</pose><difficult>0</difficult>", "")
        put(top / "Annotations" / f"{Path(file).stem}.xml", voc_xml(Path(file).name, [], objects))
    return truth


def polygons(top: Path) -> Truth:
    """Polygons of Roboflow (<polygon> beside <bndbox>), and one with points alone."""
    truth = devkit(top)
    first, second = truth["JPEGImages/000.jpg"]
    points = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(corners(first), 1))
    alone = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(corners(second), 1))
    objects = voc_object(first[0], bndbox(first) + f"<polygon>{points}</polygon>")
    objects += voc_object(second[0], f"<polygon>{alone}</polygon>")
    put(top / "Annotations/000.xml", voc_xml("000.jpg", [], objects))
    return truth


def polygon_of_pt(top: Path) -> Truth:
    """LabelMe's online tool: <polygon><pt><x>..</x><y>..</y></pt>..."""
    truth = devkit(top)
    boxes = truth["JPEGImages/000.jpg"]
    objects = ""
    for box in boxes:
        points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners(box))
        objects += f"<object><name>{box[0]}</name><deleted>0</deleted><polygon>{points}</polygon></object>"
    put(top / "Annotations/000.xml", voc_xml("000.jpg", [], objects))
    return truth


def object_without_box(top: Path) -> Truth:
    return extra_object(top, "")


def object_of_words(top: Path) -> Truth:
    return extra_object(top, "<bndbox><xmin>a</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>")


def object_without_area(top: Path) -> Truth:
    return extra_object(top, "<bndbox><xmin>20</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>")


def object_with_swapped_corners(top: Path) -> Truth:
    """xmin and xmax changed places."""
    truth = extra_object(top, "<bndbox><xmin>60</xmin><ymin>10</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>")
    truth["JPEGImages/000.jpg"].append(("nut", 20, 10, 60, 30))
    return truth


def object_without_name(top: Path) -> Truth:
    truth = devkit(top)
    nameless = voc_object("", bndbox(("", 1, 1, 20, 20))).replace("<name></name>", "")
    put(top / "Annotations/000.xml", voc_xml("000.jpg", truth["JPEGImages/000.jpg"], nameless))
    return truth


def names_with_signs(top: Path) -> Truth:
    """& and < and blanks in names."""
    names = ("nut & bolt", "a < b")
    truth = pictures(top, "JPEGImages/a & b.jpg", "JPEGImages/it's.jpg", names=names)
    for file, boxes in truth.items():
        put(top / f"Annotations/{Path(file).stem}.xml", voc_xml(Path(file).name.replace("&", "&amp;"), boxes))
    return truth


# ---- files ----


def one_empty_file(top: Path) -> Truth:
    """An XML file of no bytes beside good ones: its picture's labels are not known."""
    truth = devkit(top)
    put(top / "Annotations/000.xml", "")
    del truth["JPEGImages/000.jpg"]
    return truth


def one_damaged_file(top: Path) -> Truth:
    truth = devkit(top)
    text = (top / "Annotations/000.xml").read_text()
    put(top / "Annotations/000.xml", text[: len(text) // 2])
    del truth["JPEGImages/000.jpg"]
    return truth


def picture_is_missing(top: Path) -> Truth:
    truth = devkit(top)
    (top / "JPEGImages/001.jpg").unlink()
    del truth["JPEGImages/001.jpg"]
    return truth


def every_picture_is_missing(top: Path) -> Truth:
    for file in devkit(top):
        (top / file).unlink()
    return {}
