"""Every fault is planted in the files of a real set, never twice the same way, and found where it is."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from toolkit.data import doctor
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.doctor.boxes import SAME_BOX_IOU
from toolkit.data.doctor.findings import WHOLE
from toolkit.data.doctor.pictures import pixels_as_stored
from toolkit.data.formats import registry
from toolkit.data.formats.canonical import save
from toolkit.data.intake import Intake, LeftOut, Skipped
from toolkit.data.toy import make_toy
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError

# What is wrong in BCCD as it stands: eight cells labelled twice, one field of view photographed twice.
REAL = {
    *(("duplicate-box", f"BloodImage_{n:05d}.jpg") for n in (13, 20, 100, 104, 251, 284, 331, 403)),
    ("near-duplicate", "BloodImage_00037.jpg"),
}
OF_THE_SET = {"no-labels", "empty-split"}  # faults of no single picture


@pytest.fixture(scope="session")
def bccd() -> Path:
    folder = os.environ.get("TOOLKIT_DATA")
    if not folder:
        pytest.skip("TOOLKIT_DATA does not name a folder with datasets")
    return Path(folder) / "bccd"


def copy(bccd: Path, to: Path) -> Path:
    shutil.copytree(bccd, to, copy_function=shutil.copyfile)
    for path in (to, *to.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return to


def found(report: doctor.Report) -> set[tuple[str, str]]:
    return {(finding.fault, Path(finding.file).name) for finding in report.findings}


def set_orientation(path: Path, value: int) -> None:
    """An EXIF block with nothing but the orientation, put behind the start of the JPEG file."""
    tiff = b"II*\0" + (8).to_bytes(4, "little") + (1).to_bytes(2, "little")
    tiff += (0x0112).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    tiff += value.to_bytes(2, "little") + bytes(6)
    block = b"Exif\0\0" + tiff
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:])


def shot(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR)


@dataclass
class Voc:
    """A copy of a VOC folder; every picture is used for one plant only."""

    root: Path
    planted: set[tuple[str, str]]
    allowed: set[tuple[str, str]]  # a second name for the same fault

    def __post_init__(self) -> None:
        self.boxes = {
            xml.stem: [tuple(map(int, m)) for m in _BOX.findall(xml.read_text())]
            for xml in sorted((self.root / "Annotations").glob("*.xml"))
        }
        spoiled = {Path(name).stem for _, name in REAL} | {"BloodImage_00038"}
        lists = {s: (self.root / f"ImageSets/Main/{s}.txt").read_text().split() for s in ("train", "test")}
        self.free = {split: [stem for stem in stems if stem not in spoiled] for split, stems in lists.items()}

    def take(self, which=lambda boxes: True, split: str = "train") -> str:
        stem = next(stem for stem in self.free[split] if which(self.boxes[stem]))
        self.free[split].remove(stem)
        return stem

    def plant(self, fault: str, stem: str, also: str = "", suffix: str = ".jpg") -> None:
        self.planted.add((fault, stem + suffix))
        if also:
            self.allowed.add((also, stem + suffix))

    def edit(self, stem: str, change) -> None:
        xml = self.root / "Annotations" / f"{stem}.xml"
        xml.write_text(change(xml.read_text()))

    def move(self, stem: str, row: int, box: tuple) -> None:
        def change(text: str) -> str:
            hits = list(_BOX.finditer(text))
            tags = "".join(f"<{t}>{v}</{t}>" for t, v in zip(_TAGS, box, strict=True))
            return text[: hits[row].start()] + tags + text[hits[row].end() :]

        self.edit(stem, change)

    def record_size(self, stem: str, width: int, height: int) -> None:
        self.edit(stem, lambda text: re.sub(r"<width>\d+", f"<width>{width}", text))
        self.edit(stem, lambda text: re.sub(r"<height>\d+", f"<height>{height}", text))

    def picture(self, stem: str) -> Path:
        return self.root / "JPEGImages" / f"{stem}.jpg"

    def add_picture(self, like: str, name: str, pixels: np.ndarray | bytes, suffix: str = ".jpg") -> None:
        """A picture of the split test with the labels of `like`, scaled to its size."""
        path = self.root / "JPEGImages" / f"{name}{suffix}"
        if isinstance(pixels, bytes):
            path.write_bytes(pixels)
        else:
            cv2.imwrite(str(path), pixels)
        height, width = shot(path).shape[:2]
        text = (self.root / "Annotations" / f"{like}.xml").read_text().replace(f"{like}.jpg", path.name)
        text = re.sub(r"<([xy]m\w\w)>(\d+)", lambda m: f"<{m[1]}>{int(m[2]) * width / 640:.1f}", text)
        (self.root / "Annotations" / f"{name}.xml").write_text(text)
        self.record_size(name, width, height)
        with (self.root / "ImageSets/Main/test.txt").open("a") as file:
            file.write(f"{name}\n")


_TAGS = ("xmin", "ymin", "xmax", "ymax")
_BOX = re.compile(r"\s*".join(rf"<{tag}>([^<]+)</{tag}>" for tag in _TAGS))


def enclosed(pixels: np.ndarray, box: np.ndarray) -> list[int]:
    """The values inside a box, in whatever direction it is turned."""
    x1, y1, x2, y2 = box.astype(int)
    return np.sort(pixels[y1:y2, x1:x2], axis=None).tolist()


def middle(boxes) -> bool:
    """The first box is away from the borders."""
    x1, y1, x2, y2 = boxes[0]
    return x1 > 60 and y1 > 60 and x2 < 580 and y2 < 420


@pytest.fixture(scope="module")
def sick(bccd: Path, tmp_path_factory: pytest.TempPathFactory) -> Voc:
    voc = Voc(copy(bccd, tmp_path_factory.mktemp("sick") / "cells"), set(), set())

    # 1 outside: over an edge by 3 px; half over the top; wholly to the right
    for box in ((100, 100, 643, 200), (300, -60, 400, 60), (700, 100, 760, 160)):
        stem = voc.take(middle)
        voc.move(stem, 0, box)
        voc.plant("outside", stem)
    # 2 degenerate: no width; no height; left and right exchanged; everything zero
    for box in ((200, 200, 200, 260), (200, 260, 280, 260), (300, 100, 200, 180), (0, 0, 0, 0)):
        stem = voc.take(middle)
        voc.move(stem, 0, box)
        voc.plant("degenerate", stem)
    # 3 duplicate: the same object again; moved by a pixel; smaller by two; under another class
    for number, (dx, dw) in enumerate(((0, 0), (1, 1), (1, -1), (0, 0))):
        stem = voc.take(middle)
        again = re.search(
            r"\t<object>.*?</object>\n", (voc.root / f"Annotations/{stem}.xml").read_text(), re.S
        )[0]
        x1, y1, x2, y2 = voc.boxes[stem][0]
        tags = zip(_TAGS, (x1 + dx, y1 + dx, x2 + dw, y2 + dw), strict=True)
        again = _BOX.sub("".join(f"<{t}>{v}</{t}>" for t, v in tags), again)
        if number == 3:
            again = re.sub("<name>.*?<", lambda m: "<name>RBC<" if "WBC" in m[0] else "<name>WBC<", again)
        voc.edit(stem, lambda text, again=again: text.replace("</annotation>", again + "</annotation>"))
        voc.plant("duplicate-box", stem)
    # 4 swapped: one box; the whole file; one corner of one box
    stem = voc.take(lambda boxes: boxes[0][0] > 490 and boxes[0][2] < 630)
    x1, y1, x2, y2 = voc.boxes[stem][0]
    voc.move(stem, 0, (y1, x1, y2, x2))
    voc.plant("swapped-xy", stem, also="outside")
    stem = voc.take(lambda boxes: sum(b[2] > 500 for b in boxes) > 2)
    for row, (x1, y1, x2, y2) in enumerate(voc.boxes[stem]):
        voc.move(stem, row, (y1, x1, y2, x2))
    voc.plant("swapped-xy", stem)
    stem = voc.take(lambda boxes: boxes[0][0] > 485)
    x1, y1, x2, y2 = voc.boxes[stem][0]
    voc.move(stem, 0, (y1, x1, x2, y2))
    voc.plant("swapped-xy", stem, also="degenerate")
    # 5 unit: fractions in one box, in a whole file
    stem = voc.take(middle)
    x1, y1, x2, y2 = voc.boxes[stem][0]
    voc.move(stem, 0, (x1 / 640, y1 / 480, x2 / 640, y2 / 480))
    voc.plant("wrong-unit", stem)
    stem = voc.take(lambda boxes: len(boxes) > 3)
    for row, (x1, y1, x2, y2) in enumerate(voc.boxes[stem]):
        voc.move(stem, row, tuple(round(v, 3) for v in (x1 / 640, y1 / 480, x2 / 640, y2 / 480)))
    voc.plant("wrong-unit", stem)
    # 6 class: a number for a name; a slip of the pen; a class from somewhere else
    for name in ("7", "Platelet", "Basophil"):
        stem = voc.take(lambda boxes: len(boxes) > 2)
        voc.edit(stem, lambda text, name=name: re.sub("<name>.*?<", f"<name>{name}<", text, count=1))
        voc.plant("class-range", stem)
    # 7 undecodable: cut short; empty; a web page; overwritten in the middle; missing
    stems = [voc.take() for _ in range(5)]
    data = [voc.picture(stem).read_bytes() for stem in stems]
    voc.picture(stems[0]).write_bytes(data[0][: len(data[0]) * 2 // 3])
    voc.picture(stems[1]).write_bytes(b"")
    voc.picture(stems[2]).write_text("<html>404 not found</html>")
    half = len(data[3]) // 2
    voc.picture(stems[3]).write_bytes(data[3][:half] + bytes(range(256)) + data[3][half + 256 :])
    voc.picture(stems[4]).unlink()
    for stem in stems:
        voc.plant("undecodable", stem)
    # 8 EXIF: a quarter turn either way, half a turn
    for value in (6, 8, 3):
        stem = voc.take()
        set_orientation(voc.picture(stem), value)
        voc.plant("exif-rotation", stem)
    # 9 recorded size: exchanged; another size altogether; off by little
    for w, h in ((480, 640), (320, 240), (641, 480)):
        stem = voc.take()
        voc.record_size(stem, w, h)
        voc.plant("size-mismatch", stem)
    # 10 the same picture in test: the same file; the same pixels in another format
    stem = voc.take()
    voc.add_picture(stem, "copied", voc.picture(stem).read_bytes())
    voc.plant("exact-duplicate", "copied")
    stem = voc.take()
    voc.add_picture(stem, "repacked", shot(voc.picture(stem)), ".png")
    voc.plant("exact-duplicate", "repacked", suffix=".png")
    # 11 nearly the same picture: half the size, brighter, mirrored, re-encoded
    stem = voc.take()
    voc.add_picture(stem, "halved", cv2.resize(shot(voc.picture(stem)), (320, 240)))
    voc.plant("near-duplicate", "halved")
    stem = voc.take()
    voc.add_picture(stem, "brighter", np.clip(shot(voc.picture(stem)) * 1.2 + 10, 0, 255).astype(np.uint8))
    voc.plant("near-duplicate", "brighter")
    stem = voc.take()
    voc.add_picture(stem, "mirrored", shot(voc.picture(stem))[:, ::-1].copy())
    voc.plant("near-duplicate", "mirrored")
    stem = voc.take()
    worse = cv2.imencode(".jpg", shot(voc.picture(stem)), [cv2.IMWRITE_JPEG_QUALITY, 20])[1].tobytes()
    voc.add_picture(stem, "squeezed", worse)
    voc.plant("near-duplicate", "squeezed")
    # 12 unlabelled: no file; a file without objects
    stem = voc.take(split="test")
    (voc.root / f"Annotations/{stem}.xml").unlink()
    voc.plant("unlabelled", stem)
    stem = voc.take(split="test")
    voc.edit(stem, lambda text: re.sub(r"\t<object>.*</object>\n", "", text, flags=re.S))
    voc.plant("unlabelled", stem)
    return voc


@pytest.fixture(scope="module")
def sick_report(sick: Voc) -> tuple[Dataset, doctor.Report]:
    dataset = registry.read(sick.root, faults="keep")
    return dataset, doctor.examine(dataset)


def test_every_fault_planted_in_voc_files_is_found_and_nothing_else(sick, sick_report):
    report = sick_report[1]
    assert {fault for fault, _ in sick.planted} == set(doctor.FAULTS) - OF_THE_SET
    assert sick.planted - found(report) == set()
    assert found(report) - sick.planted - sick.allowed - REAL == set()
    counts = Counter(finding.fault for finding in report.findings)
    assert report.counts == {fault: counts[fault] for fault in doctor.FAULTS}
    for finding in report.findings:
        assert Path(finding.file).name.split(".")[0] in finding.sentence


def test_what_is_wrong_in_bccd_as_it_stands(bccd):
    report = doctor.examine(registry.read(bccd))
    assert found(report) == REAL
    assert report.summary["balance"]["ratio"] == pytest.approx(4153 / 361, abs=0.01)
    assert [c["name"] for c in report.summary["balance"]["classes"]] == ["Platelets", "RBC", "WBC"]


def test_faults_planted_in_yolo_files(bccd, tmp_path):
    registry.write(registry.read(bccd), tmp_path / "yolo", "yolo", link=False)
    data, planted = tmp_path / "yolo" / "obj_data", set()
    stems = iter(
        sorted(
            p.stem for p in data.glob("*.txt") if (f := p.stem + ".jpg") and ("duplicate-box", f) not in REAL
        )[40:]
    )

    def plant(fault, change):
        stem = next(stems)
        file = data / f"{stem}.txt"
        rows = [line.split() for line in file.read_text().splitlines()]
        file.write_text("".join(" ".join(map(str, row)) + "\n" for row in change(rows)))
        planted.add((fault, f"{stem}.jpg"))
        return stem

    def first(*values):
        return lambda rows: [[values[0] if values[0] is not None else rows[0][0], *values[1:]], *rows[1:]]

    plant("outside", first(None, 0.97, 0.5, 0.1, 0.2))
    plant("degenerate", first(None, 0.5, 0.5, 0, 0.1))
    plant("degenerate", first(None, 0.5, 0.5, -0.1, 0.1))
    plant("duplicate-box", lambda rows: [*rows, rows[0]])
    plant("wrong-unit", first(None, 320, 240, 100, 90))
    plant(
        "wrong-unit",
        lambda rows: [
            [c, float(x) * 640, float(y) * 480, float(w) * 640, float(h) * 480] for c, x, y, w, h in rows
        ],
    )
    plant("class-range", first(3, 0.5, 0.5, 0.1, 0.12))
    plant("class-range", first(-1, 0.5, 0.5, 0.1, 0.12))
    plant("unlabelled", lambda rows: [])
    # A whole file of fractions with x and y exchanged stays inside the picture: its shapes give it away.
    while True:
        stem = next(stems)
        rows = [line.split() for line in (data / f"{stem}.txt").read_text().splitlines()]
        if len(rows) > 12:
            break
    text = "".join(f"{c} {y} {x} {h} {w}\n" for c, x, y, w, h in rows)
    (data / f"{stem}.txt").write_text(text)
    planted.add(("swapped-xy", f"{stem}.jpg"))
    while True:  # the same with a rotation: fractions have no recorded size to compare
        stem = next(stems)
        if len((data / f"{stem}.txt").read_text().splitlines()) > 12:
            break
    set_orientation(data / f"{stem}.jpg", 6)
    planted.add(("exif-rotation", f"{stem}.jpg"))
    (data / f"{(stem := next(stems))}.txt").unlink()
    planted.add(("unlabelled", f"{stem}.jpg"))

    for content in (b"", b"GIF89a"):
        stem = next(stems)
        (data / f"{stem}.jpg").write_bytes(content)
        planted.add(("undecodable", f"{stem}.jpg"))

    dataset = registry.read(tmp_path / "yolo", faults="keep")
    report = doctor.examine(dataset)
    assert planted - found(report) == set()
    assert found(report) - planted - REAL == set()
    mended = {(f.file, f.box) for f in report.findings if f.fault == "wrong-unit"}
    assert (270.0, 195.0, 370.0, 285.0) in {tuple(np.round(box, 1)) for _, box in mended}


def test_faults_planted_in_coco_files(bccd, tmp_path):
    save(registry.read(bccd), tmp_path / "coco", link=False)
    file = tmp_path / "coco/annotations/train.json"
    coco = json.loads(file.read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    spoiled = {name for _, name in REAL}
    first = {}
    for annotation in coco["annotations"]:
        first.setdefault(annotation["image_id"], annotation)
    usable = iter([a for a in first.values() if names[a["image_id"]] not in spoiled])
    planted, allowed = set(), set()

    def plant(fault, change, where=lambda box: True):
        annotation = next(a for a in usable if where(a["bbox"]))
        change(annotation)
        planted.add((fault, names[annotation["image_id"]]))
        allowed.add(("outside", names[annotation["image_id"]]))

    def box(*values):
        return lambda annotation: annotation.update(bbox=list(values))

    plant("outside", box(600, 100, 60, 60))
    plant("degenerate", box(100, 100, 0, 50))
    plant("degenerate", box(300, 100, -50, 50))  # right edge left of the left edge
    plant(
        "swapped-xy",  # xywh written as yxhw
        lambda a: a.update(bbox=[a["bbox"][i] for i in (1, 0, 3, 2)]),
        lambda b: b[0] > 500,
    )
    plant(
        "wrong-unit", lambda a: a.update(bbox=[v / s for v, s in zip(a["bbox"], (640, 480) * 2, strict=True)])
    )
    plant("class-range", lambda a: a.update(category_id=99))
    gone = next(usable)["image_id"]
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] != gone]
    planted.add(("unlabelled", names[gone]))
    lost = next(usable)["image_id"]  # on disk and in no list
    coco["images"] = [image for image in coco["images"] if image["id"] != lost]
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] != lost]
    planted.add(("unlabelled", names[lost]))
    wrong = next(usable)["image_id"]
    next(image for image in coco["images"] if image["id"] == wrong).update(width=1280, height=960)
    planted.add(("size-mismatch", names[wrong]))
    file.write_text(json.dumps(coco))

    report = doctor.examine(registry.read(tmp_path / "coco", faults="keep"))
    assert planted - found(report) == set()
    assert found(report) - planted - allowed - REAL == set()


def test_a_set_in_per_cent(bccd):
    dataset = registry.read(bccd)
    report = doctor.examine(
        replace(dataset, boxes=(dataset.boxes / [6.4, 4.8, 6.4, 4.8]).astype(np.float32)), pictures=False
    )
    assert report.counts["wrong-unit"] == len(dataset)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_false_alarm_on_the_toy_set(tmp_path, seed):
    dataset = make_toy(tmp_path / "toy", seed=seed, count=400)
    report = doctor.examine(dataset)
    assert [finding.sentence for finding in report.findings] == []
    assert report.summary["repeated_within_split"] == 0


def test_a_mended_copy(sick, sick_report, tmp_path):
    dataset, report = sick_report
    before = {path: path.read_bytes() for path in sick.root.rglob("*") if path.is_file()}
    changes = doctor.fix(dataset, report, tmp_path / "mended")
    assert before == {path: path.read_bytes() for path in sick.root.rglob("*") if path.is_file()}
    assert json.loads((tmp_path / "mended/fixes.json").read_text()) == json.loads(json.dumps(changes))

    mended = registry.read(tmp_path / "mended")  # strict: nothing unreadable is left
    after = doctor.examine(mended)
    left = {(f.fault, Path(f.file).name) for f in report.findings if not f.mend}
    assert found(after) - left == set()
    gone = {"degenerate", "wrong-unit", "undecodable"}
    assert not gone & {fault for fault, _ in found(after)}
    exif = [f for f in report.findings if f.fault == "exif-rotation"]
    assert sorted(bool(f.mend) for f in exif) == [False, True, True]  # half a turn could be either
    for finding in exif:
        if finding.mend:  # each box has the same pixels, now in the picture as it is shown
            flag = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            source = cv2.imread(str(dataset.root / finding.file), flag)
            shown = cv2.imread(str(mended.root / finding.file))
            turned = mended.boxes[mended.rows(mended.files.index(finding.file))]
            boxes = dataset.boxes[dataset.rows(finding.picture)]
            assert [enclosed(shown, box) for box in turned] == [enclosed(source, box) for box in boxes]
    # A file whose every box was swapped has its boxes back.
    whole = next(f for f in report.findings if f.mend == "swap picture")
    rows = mended.rows(mended.files.index(whole.file))
    stem = Path(whole.file).stem
    assert mended.boxes[rows].astype(int).tolist() == [list(b) for b in sick.boxes[stem]]


def test_mending_needs_a_free_place(sick_report, tmp_path):
    dataset, report = sick_report
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        doctor.fix(dataset, report, tmp_path / "taken")
    assert [p.name for p in tmp_path.rglob("*")] == ["taken", "notes.txt"]


def test_the_page_carries_everything_with_it(sick, sick_report, tmp_path):
    dataset, report = sick_report
    doctor.write_page(dataset, report, tmp_path / "page.html", per_fault=4)
    page = (tmp_path / "page.html").read_text()
    for fault in set(doctor.FAULTS) - OF_THE_SET:
        assert f'<section id="{fault}">' in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert page.count("data:image/jpeg;base64,") > 30
    first = json.loads(json.dumps(report.as_dict()))["faults"][0]
    count = report.counts["outside"]
    assert first == {"number": 1, "fault": "outside", "title": doctor.FAULTS["outside"], "count": count}


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_is_seen_as_it_is_stored(big):
    """OpenCV turns it always."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(stream, "TIFF", big_tiff=big, tiffinfo=exif)
    assert pixels_as_stored(stream.getvalue(), "a.tif", 6).shape == (30, 40, 3)


def test_pictures_that_are_not_opened(sick, sick_report):
    dataset, _ = sick_report
    quick = doctor.examine(dataset, pictures=False)
    needs_pictures = {"undecodable", "exif-rotation", "size-mismatch", "exact-duplicate", "near-duplicate"}
    assert {fault for fault, _ in found(quick)} == set(doctor.FAULTS) - needs_pictures - OF_THE_SET


def made(
    boxes: list[list[float]], labels: list[int] | None = None, size=(640, 480), classes=("a", "b")
) -> Dataset:
    """One picture with these boxes."""
    m = len(boxes)
    return Dataset(
        root=Path("/nowhere"),
        classes=classes,
        files=["x.jpg"],
        image_ids=np.array([1]),
        sizes=np.array([size], np.int32),
        splits=np.array(["train"]),
        starts=np.array([0, m]),
        box_ids=np.arange(1, m + 1),
        boxes=np.array(boxes, np.float32).reshape(m, 4),
        labels=np.array(labels or [0] * m, np.int32),
        crowd=np.zeros(m, bool),
        ignore=np.zeros(m, bool),
    )


def test_objects_too_small_and_anchors_that_do_not_fit():
    dataset = made([[0, 0, 20, 20], [100, 100, 108, 400], [300, 100, 428, 196]])
    heads = (HeadIO(32, ((64, 48),)), HeadIO(16, ((10, 10), (200, 200))))
    io = ModelIO((320, 240), dataset.classes, heads, 16)
    network = doctor.examine(dataset, io, pictures=False).summary["network"]
    assert network["cell_px"] == 16
    assert network["too_small"] == 1  # 10 px at the network's input
    assert network["anchor_misfits"] == 1  # 4 x 150: a pole
    assert network["anchors_unused"] == [[200.0, 200.0]]
    assert network["anchor_overlap_mean"] == pytest.approx((1 + 1 + 40 / 660) / 3, abs=1e-4)
    assert len(network["sentences"]) == 3
    square = replace(io, input_size=(320, 320))  # where a letterbox has the same 320 x 240
    seen = {
        fit: doctor.examine(dataset, replace(square, fit=fit), pictures=False).summary["network"]
        for fit in ("stretch", "letterbox")
    }
    assert seen["letterbox"]["anchor_overlap_mean"] == network["anchor_overlap_mean"]
    assert seen["stretch"]["anchor_overlap_mean"] != network["anchor_overlap_mean"]


def test_a_box_that_is_not_finite():
    report = doctor.examine(made([[0, 0, np.nan, 5], [5, 5, np.inf, 50], [5, 5, 50, 50]]), pictures=False)
    assert report.counts == dict.fromkeys(doctor.FAULTS, 0) | {"degenerate": 2}


def of_splits(splits: list[str], labelled: list[bool]) -> Dataset:
    """A picture for each split, with a box or none."""
    columns = Columns()
    for i, (split, box) in enumerate(zip(splits, labelled, strict=True)):
        columns.add_picture(f"{i}.jpg", (640, 480), split)
        if box:
            columns.add_box(i, (10, 10, 60, 60), 0)
    return columns.dataset(Path("/nowhere"), ["a"], "here")


@pytest.mark.parametrize(
    ("splits", "labelled", "no_labels", "empty"),
    [
        (["train", "val"], [True, True], 0, []),
        (["train", "val"], [False, False], 1, []),
        (["train", "val", "test"], [True, False, False], 0, ["val", "test"]),
        (["train", "train", ""], [True, False, False], 0, ["no split"]),
    ],
)
def test_sets_and_splits_without_objects(splits, labelled, no_labels, empty):
    report = doctor.examine(of_splits(splits, labelled), pictures=False)
    assert report.counts["no-labels"] == no_labels
    sentences = [finding.sentence for finding in report.findings if finding.fault == "empty-split"]
    assert len(sentences) == len(empty)
    assert all(name in sentence for name, sentence in zip(empty, sentences, strict=True))


def test_what_the_import_left_out_is_shown(tmp_path):
    dataset = of_splits(["train"], [True])
    assert doctor.examine(dataset, pictures=False).import_sentences == []  # made in memory
    intake = Intake("yolo", "labels/", left_out=(LeftOut("boxes <without> area", 3, "a.txt, line 2: 0 0"),))
    intake = replace(intake, skipped=(Skipped("b.gif", "is damaged"),), notes=("one folder deeper",))
    report = doctor.examine(replace(dataset, intake=intake), pictures=False)
    answer = json.loads(json.dumps(report.as_dict()))
    assert answer["left_out"] == [
        {"kind": "boxes <without> area", "count": 3, "example": "a.txt, line 2: 0 0"}
    ]
    assert answer["skipped"] == [{"file": "b.gif", "reason": "is damaged"}]
    assert answer["intake"]["notes"] == ["one folder deeper"]
    doctor.write_page(dataset, report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for text in (
        "boxes &lt;without&gt; area",
        "<td>3</td>",
        "a.txt, line 2",
        "b.gif: is damaged",
        "one folder",
    ):
        assert text in page
    assert WHOLE.capitalize() not in page
    whole = doctor.examine(replace(dataset, intake=Intake("voc", "Annotations/")), pictures=False)
    assert whole.import_sentences == [WHOLE]
    doctor.write_page(dataset, whole, tmp_path / "whole.html")
    assert WHOLE.capitalize() in (tmp_path / "whole.html").read_text()


def test_the_page_counts_what_it_has_no_place_for(tmp_path):
    dataset = replace(of_splits(["train"], [True]), classes=tuple(f"class {i}" for i in range(501)))
    kinds = tuple(LeftOut(f"kind {i}", 1, "a.txt") for i in range(102))
    notes = tuple(f"note {i}" for i in range(103))
    intake = Intake("yolo", "", left_out=kinds, skipped=(Skipped("b.gif", "is damaged"),), notes=notes)
    report = doctor.examine(replace(dataset, intake=intake), pictures=False)
    doctor.write_page(dataset, report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert re.findall(r">and (\d+) more", page) == ["2", "3", "1"]
    assert "b.gif: is damaged" in page


def test_a_picture_with_very_many_boxes_is_named(monkeypatch):
    """They are not compared with each other: that takes minutes from some hundred thousand on."""
    monkeypatch.setattr("toolkit.data.doctor.boxes.MOST_COMPARED", 2)
    (finding,) = doctor.examine(made([[10, 10, 90, 90]] * 3), pictures=False).findings
    assert finding.sentence == "x.jpg has more than 2 boxes, which are not compared with each other"


def test_a_crowd_may_repeat_its_members():
    dataset = made([[10, 10, 90, 90], [10, 10, 90, 90]])
    assert doctor.examine(dataset, pictures=False).counts["duplicate-box"] == 1
    crowd = replace(dataset, crowd=np.array([False, True]))
    assert doctor.examine(crowd, pictures=False).counts["duplicate-box"] == 0


corners = st.tuples(st.integers(0, 600), st.integers(0, 440), st.integers(4, 300), st.integers(4, 300)).map(
    lambda b: [b[0], b[1], min(640, b[0] + b[2]), min(480, b[1] + b[3])]
)


@given(st.lists(corners, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_only_complaint_about_good_boxes_is_that_two_are_one(boxes):
    from toolkit.boxes import iou

    dataset = made(boxes)
    report = doctor.examine(dataset, pictures=False)
    overlap = np.triu(iou(dataset.boxes, dataset.boxes), 1)
    apart = np.abs(dataset.boxes[:, None] - dataset.boxes[None]).max(axis=2)
    twice = (overlap >= SAME_BOX_IOU) | (
        np.triu(apart <= 1, 1) & np.triu(np.ones_like(apart), 1).astype(bool)
    )
    assert report.counts == dict.fromkeys(doctor.FAULTS, 0) | {"duplicate-box": int(twice.any(axis=0).sum())}
    rows = {finding.row for finding in report.findings}
    assert rows == set(np.flatnonzero(twice.any(axis=0)).tolist())


@given(corners, st.sampled_from([(-1, 0), (1, 0), (0, -1), (0, 1)]), st.floats(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_box_over_the_border_is_cut_at_the_border(box, direction, by):
    x, y = direction
    width, height = box[2] - box[0], box[3] - box[1]
    out = list(map(float, box))
    if x:
        out[0], out[2] = (-by, -by + width + by) if x < 0 else (640 - width, 640 + by)
    if y:
        out[1], out[3] = (-by, -by + height + by) if y < 0 else (480 - height, 480 + by)
    report = doctor.examine(made([out]), pictures=False)
    assert report.counts["outside"] == 1
    finding = next(f for f in report.findings if f.fault == "outside")
    if finding.mend:
        assert 0 <= finding.box[0] < finding.box[2] <= 640
        assert 0 <= finding.box[1] < finding.box[3] <= 480


def test_a_hundred_thousand_pictures_with_a_million_boxes(tmp_path):
    """In a process of its own: the peak of the whole process is measured."""
    script = Path(tmp_path, "large.py")
    script.write_text(
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from toolkit.data import doctor\n"
        "from toolkit.data.dataset import Dataset\n"
        "rng = np.random.default_rng(0); n, m = 100_000, 1_000_000\n"
        "low = rng.uniform(0, 500, (m, 2)); boxes = np.hstack((low, low + rng.uniform(5, 130, (m, 2))))\n"
        "boxes[::100_000, 2] = 700\n"
        "starts = np.searchsorted(np.sort(rng.integers(0, n, m)), np.arange(n + 1)).astype(np.int64)\n"
        "d = Dataset(Path('/nowhere'), ('a', 'b'), [f'{i}.jpg' for i in range(n)], np.arange(n),\n"
        "    np.full((n, 2), 640, np.int32), np.full(n, 'train'), starts, np.arange(m),\n"
        "    boxes.astype(np.float32), rng.integers(0, 2, m).astype(np.int32), np.zeros(m, bool),\n"
        "    np.zeros(m, bool))\n"
        "print(doctor.examine(d, pictures=False).counts['outside'])\n"
        # not ru_maxrss, which a new process takes over from the one that started it
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(int(status['VmHWM'].split()[0]) // 1024)\n"
    )
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    outside, peak_mb = map(int, answer.stdout.split())
    assert outside == 10
    assert peak_mb < 1000


def test_pictures_of_findings_show_every_kind(tmp_path):
    """The first of each fault before the second of any; of a pair both pictures."""
    from toolkit.data.toy import make_toy

    faulty = make_toy(tmp_path / "faulty", count=40, classes=4, faults=True)
    figure = doctor.findings_grid(faulty, doctor.examine(faulty), 11)
    shown = [axis for axis in figure.axes if axis.images]
    titles = [" ".join(axis.get_title().split()) for axis in shown]
    with_picture = set(doctor.FAULTS) - {"undecodable", "no-labels", "empty-split"}
    assert sorted(titles) == sorted(doctor.FAULTS[fault] for fault in with_picture)
    (pair,) = (axis for axis, title in zip(shown, titles, strict=True) if title.startswith("nearly"))
    height, width = pair.images[0].get_array().shape[:2]
    assert width == 2 * height
