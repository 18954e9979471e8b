"""YOLO labels of the kinds of `cases` and neighbouring ones, and archives and folders around them."""

import zipfile
from pathlib import Path

from tests.data.cases import CHINESE
from tests.data.labelling import (
    NAMES,
    Box,
    Truth,
    draw,
    fractions,
    pictures,
    polygon_line,
    put,
    train_and_valid,
    write_yolo,
    yolo_line,
)


def flat(top: Path, names=NAMES, **options) -> Truth:
    """Two pictures in images/ and labels in labels/."""
    truth = pictures(top, "images/p0.jpg", "images/p1.jpg", names=names)
    write_yolo(top, truth, names, **options)
    return truth


def named(top: Path, **options) -> Truth:
    """The same with classes.txt."""
    put(top / "classes.txt", "nut\nbolt\n")
    return flat(top, **options)


def split_folders(
    top: Path, settings: str, pattern: str = "{split}/images/{name}", file: str = "data.yaml"
) -> Truth:
    """train and valid, and a data.yaml."""
    truth = train_and_valid(top, pattern)
    write_yolo(top, truth)
    put(top / file, settings)
    return truth


# ---- names ----


def names_as_numbers(top: Path) -> Truth:
    """No names anywhere, and none given: the numbers are the names."""
    truth = flat(top)
    return {file: [(str(NAMES.index(n)), *place) for n, *place in boxes] for file, boxes in truth.items()}


def names_in_utf16(top: Path) -> Truth:
    put(top / "classes.txt", "螺母\r\n螺栓\r\n", "utf-16")
    return flat(top, CHINESE)


def names_with_mark(top: Path) -> Truth:
    """classes.txt of Notepad: UTF-8 with BOM, CRLF, blank lines at its end."""
    put(top / "classes.txt", "nut\r\nbolt\r\n\r\n", "utf-8-sig")
    return flat(top)


def names_in_yaml_with_mark(top: Path) -> Truth:
    put(top / "data.yaml", "names:\r\n- nut\r\n- bolt\r\nnc: 2\r\ntrain: images\r\n", "utf-8-sig")
    return flat(top)


def names_in_other_yaml(top: Path) -> Truth:
    """The yaml has the name of the data set."""
    put(top / "screws.yaml", "names: {0: nut, 1: bolt}\ntrain: images\nval:\n")
    return flat(top)


def names_in_yaml_above(top: Path) -> Truth:
    """The folder given is train/; data.yaml is above it."""
    truth = split_folders(top, "train: train/images\nval: valid/images\nnames: [nut, bolt]\n")
    return {file: boxes for file, boxes in truth.items() if file.startswith("train/")}


def names_quoted_numbers(top: Path) -> Truth:
    put(top / "data.yaml", "train: images\nnames: {'0': nut, '1': bolt}\nauthor: me\ndate: 2024-01-01\n")
    return flat(top)


def names_that_yaml_reads_otherwise(top: Path) -> Truth:
    """`on` and `off` are true and false in YAML, and 1 is a number."""
    put(top / "data.yaml", "train: images\nnames: [on, off, 1]\n")
    return flat(top, ("on", "off", "1"))


def names_of_darknet_by_roboflow(top: Path) -> Truth:
    """_darknet.labels in each split, text beside pictures."""
    truth = train_and_valid(top, "{split}/{name}")
    write_yolo(top, truth)
    for split in ("train", "valid"):
        put(top / split / "_darknet.labels", "nut\nbolt")
    return truth


def names_only_counted(top: Path) -> Truth:
    """data.yaml has nc and no names."""
    put(top / "data.yaml", "train: images\nnc: 2\n")
    return names_as_numbers(top)


# ---- paths ----

ELSEWHERE = "names: [nut, bolt]\ntrain: images/train\nval: images/valid\n"


def path_of_another_machine(top: Path) -> Truth:
    return split_folders(top, f"path: /home/somebody/datasets/screws\n{ELSEWHERE}", "images/{split}/{name}")


def path_of_windows(top: Path) -> Truth:
    settings = "path: D:\\datasets\\screws\ntrain: images\\train\nval: images\\valid\nnames: [nut, bolt]\n"
    return split_folders(top, settings, "images/{split}/{name}")


def path_is_absolute_here(top: Path) -> Truth:
    return split_folders(top, f"path: {top}\n{ELSEWHERE}", "images/{split}/{name}")


def path_of_colab(top: Path) -> Truth:
    """Absolute folders of another machine as train and val."""
    away = "/content/drive/MyDrive/screws"
    return split_folders(top, f"train: {away}/train/images\nval: {away}/valid/images\nnames: [nut, bolt]\n")


def lists_in_yaml(top: Path) -> Truth:
    """train.txt and val.txt with ./images/..., as COCO for ultralytics has them."""
    settings = (
        "path: ../coco\ntrain: train2017.txt\nval: val2017.txt\ntest: test-dev2017.txt\nnames: [nut, bolt]\n"
    )
    truth = split_folders(top, settings, "images/{split}/{name}")
    for split, name in (("train", "train2017.txt"), ("valid", "val2017.txt")):
        put(top / name, "".join(f"./{file}\n" for file in truth if f"/{split}/" in file))
    return truth


def lists_of_windows(top: Path) -> Truth:
    """obj.data and a list of C:\\ paths, CRLF."""
    truth = pictures(top, "obj_train_data/a 0.jpg", "obj_train_data/a 1.jpg")
    write_yolo(top, truth)
    put(
        top / "train.txt",
        "".join(f"C:\\Users\\me\\darknet\\data\\{file}\r\n".replace("/", "\\") for file in truth),
    )
    put(top / "obj.names", "nut\r\nbolt\r\n")
    put(
        top / "obj.data", "classes=2\r\ntrain=data\\train.txt\r\nnames=data\\obj.names\r\nbackup=backup\\\r\n"
    )
    return truth


def list_of_folders(top: Path) -> Truth:
    """train is a list of folders."""
    settings = "train:\n  - train/images\n  - valid/images\nval:\nnames: [nut, bolt]\n"
    return split_folders(top, settings)


def list_names_an_absent_picture(top: Path) -> Truth:
    truth = flat(top)
    put(top / "data.yaml", "train: train.txt\nnames: [nut, bolt]\n")
    put(top / "train.txt", "".join(f"{file}\n" for file in truth) + "images/gone.jpg\n")
    return truth


def list_leaves_pictures_out(top: Path) -> Truth:
    """A picture with labels that is there, and that no list names."""
    truth = flat(top)
    put(top / "data.yaml", "train: train.txt\nnames: [nut, bolt]\n")
    put(top / "train.txt", "".join(f"{file}\n" for file in truth))
    write_yolo(top, pictures(top, "images/extra.jpg"))
    return truth


def same_names_in_both_splits(top: Path) -> Truth:
    truth = {file: draw(top / file) for file in ("train/images/001.jpg", "val/images/001.jpg")}
    truth |= pictures(top, "train/images/002.jpg")
    write_yolo(top, truth)
    put(top / "data.yaml", "train: train/images\nval: val/images\nnames: [nut, bolt]\n")
    return truth


def splits_without_yaml(top: Path) -> Truth:
    return split_folders(top, "nut\nbolt\n", file="classes.txt")


def upper_case_endings(top: Path) -> Truth:
    put(top / "classes.txt", "nut\nbolt\n")
    truth = pictures(top, "images/P0.JPG", "images/P1.JPEG", "images/P2.PNG")
    write_yolo(top, truth, ending=".TXT")
    return truth


# ---- lines ----


def sixth_field(top: Path) -> Truth:
    """Scores of a network's predictions."""
    return named(top, line=lambda box, names: f"{yolo_line(box, names)} 0.87")


def turned_boxes(top: Path) -> Truth:
    """DOTA-like lines of ultralytics' OBB: the corners of a box."""
    return named(top, line=polygon_line)


def pose_lines(top: Path) -> Truth:
    """Five points with visibility after the box."""
    put(
        top / "data.yaml", "train: images\nkpt_shape: [5, 3]\nflip_idx: [1, 0, 2, 4, 3]\nnames: [nut, bolt]\n"
    )
    points = " 0.100000 0.100000 2" * 5
    return flat(top, line=lambda box, names: yolo_line(box, names) + points)


def pose_lines_without_visibility(top: Path) -> Truth:
    """Four points x y after the box: as many numbers as a polygon of six points has."""
    put(top / "data.yaml", "train: images\nkpt_shape: [4, 2]\nnames: [nut, bolt]\n")
    points = " 0.100000 0.900000" * 4
    return flat(top, line=lambda box, names: yolo_line(box, names) + points)


def blanks_and_tabs(top: Path) -> Truth:
    """Tabs, several blanks, blanks at the end, blank lines, CRLF."""
    return named(top, line=lambda box, names: "  " + yolo_line(box, names).replace(" ", " \t ") + "  \r\n\r")


def exponents(top: Path) -> Truth:
    def line(box: Box, names) -> str:
        values = (float(field) for field in fractions(box))
        return " ".join([f"{names.index(box[0]):.18e}", *(f"{v:.18e}" for v in values)])

    return named(top, line=line)  # what numpy.savetxt writes


def with_bad_lines(top: Path) -> Truth:
    """A line too short, one with a name, NaN, a class beyond the names, a box without an area."""
    truth = named(top)
    bad = (
        "0 0.5 0.5 0.2",
        "washer 0.5 0.5 0.2 0.2",
        "0 nan 0.5 0.2 0.2",
        "7 0.5 0.5 0.2 0.2",
        "1 0.5 0.5 0 0.2",
    )
    with (top / "labels/p1.txt").open("a") as file:
        file.write("".join(f"{line}\n" for line in bad))
    return truth


def background_pictures(top: Path) -> Truth:
    """An empty label file, and no label file."""
    truth = named(top)
    more = pictures(top, "images/empty.jpg", "images/none.jpg", count=0)
    put(top / "labels/empty.txt", "")
    return truth | more


def label_without_picture(top: Path) -> Truth:
    truth = named(top)
    put(top / "labels/gone.txt", "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")
    return truth


# ---- pictures ----


def damaged_pictures(top: Path) -> Truth:
    """One cut short, one empty, one that is no picture, among two good ones."""
    truth = named(top)
    whole = (top / "images/p0.jpg").read_bytes()
    for name, data in {"cut": whole[:100], "empty": b"", "text": b"404 not found"}.items():
        put(top / f"images/{name}.jpg", data)
        put(top / f"labels/{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    return truth


def pictures_not_read(top: Path) -> Truth:
    truth = named(top)
    put(top / "images/drawing.svg", "<svg/>")
    put(top / "images/raw.CR2", b"II*\0")
    put(top / "images/Thumbs.db", b"\0")
    return truth


def pictures_of_many_types(top: Path) -> Truth:
    truth = pictures(
        top, *(f"images/p{i}.{end}" for i, end in enumerate(("jpg", "png", "bmp", "webp", "gif")))
    )
    write_yolo(top, truth)
    put(top / "classes.txt", "nut\nbolt\n")
    return truth


# ---- archives and folders ----


def two_wrappers(top: Path) -> Truth:
    """Two folders too high, with what systems leave behind."""
    truth = named(top / "screws v2/screws")
    put(top / ".DS_Store", b"\0")
    put(top / "screws v2/.DS_Store", b"\0")
    put(top / "screws v2/__MACOSX/._screws", b"\0")
    return {f"screws v2/screws/{file}": boxes for file, boxes in truth.items()}


def zipped(top: Path, truth: Truth, entry=zipfile.ZipInfo) -> Truth:
    """made.zip of all files of `top`."""
    files = sorted(file for file in top.rglob("*") if file.is_file())
    with zipfile.ZipFile(top / "made.zip", "w") as archive:
        for file in files:
            archive.writestr(entry(file.relative_to(top).as_posix()), file.read_bytes())
    return truth


def zip_with_backslashes(top: Path) -> Truth:
    """As old .NET writes archives."""
    truth = zipped(top, split_folders(top, "names: [nut, bolt]\ntrain: train/images\nval: valid/images\n"))
    packed = (top / "made.zip").read_bytes()
    for folder in (b"train", b"valid"):
        for deeper in (b"images", b"labels"):
            packed = packed.replace(folder + b"/" + deeper + b"/", folder + b"\\" + deeper + b"\\")
    put(top / "made.zip", packed)
    return truth


class GbkEntry(zipfile.ZipInfo):
    """zipfile itself writes names beyond ASCII as UTF-8, with the flag that says so."""

    def _encodeFilenameFlags(self):
        return self.filename.encode("gbk"), self.flag_bits


def zip_in_gbk(top: Path) -> Truth:
    """As Windows in China writes archives: names in GBK, without the flag of UTF-8."""
    truth = pictures(top, "images/工件一.jpg", "images/工件二.jpg")
    write_yolo(top, truth)
    put(top / "classes.txt", "nut\nbolt\n")
    return zipped(top, truth, GbkEntry)


def label_names_apart(top: Path) -> Truth:
    """--images names the folder of the pictures."""
    truth = pictures(top, "photos/p0.jpg", "photos/p1.jpg")
    for file, boxes in truth.items():
        put(top / "txt" / f"{Path(file).stem}.txt", "".join(f"{yolo_line(box)}\n" for box in boxes))
    put(top / "txt/classes.txt", "nut\nbolt\n")
    return truth
