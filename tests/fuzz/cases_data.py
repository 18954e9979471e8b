"""Data sets: labels of every format, archives, what leads out of a folder, names of classes."""

# ruff: noqa: E501 (a case in a line)
from __future__ import annotations

import base64
import io
import json
import stat
import struct
import zipfile
from typing import Any

from tests.data import labelling
from tests.fuzz.places import Build, Place, case, jpeg, noise, swapped
from tests.fuzz.readers import flood

IMPORT = "data import set out"
BOX = ("nut", 10.0, 20.0, 60.0, 70.0)
DEEP = 100_000
LABEL = "0 .5 .5 .2 .2\n"  # of YOLO


def _with(name: str, data: bytes | str, picture: str = "a.jpg") -> Build:
    """A label file next to a picture."""
    return lambda place: (place.put(f"set/{picture}", jpeg()), place.put(f"set/{name}", data))


def _json(name: str, tree: Any, picture: str = "a.jpg") -> Build:
    return lambda place: _with(name, json.dumps(tree), picture)(place)


def _coco(**more: Any) -> dict[str, Any]:
    return {**labelling.coco({"a.jpg": [BOX]}), **more}


def _coco_box(**more: Any) -> dict[str, Any]:
    tree = _coco()
    tree["annotations"][0] |= more
    return tree


def _coco_picture(**more: Any) -> dict[str, Any]:
    tree = _coco()
    tree["images"][0] |= more
    return tree


def _xml(text: str, entities: str = "") -> str:
    return f'<?xml version="1.0"?><!DOCTYPE a [{entities}]>{text}' if entities else text


LAUGHS = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
OUTSIDE = '<!ENTITY s SYSTEM "../outside/secret.txt">'
VOC = labelling.voc_xml("a.jpg", [BOX])
CVAT = labelling.cvat(labelling.cvat_image(0, "a.jpg", [labelling.cvat_box(BOX)]))
TRACK = '<track id="0" label="nut"><box frame="0" outside="0" keyframe="1" xtl="1" ytl="2" xbr="9" ybr="9"></box><box frame="1000000000" outside="0" keyframe="1" xtl="1" ytl="2" xbr="9" ybr="9"></box></track>'


def _labelme(**more: Any) -> Any:
    return {**json.loads(labelling.labelme("a.jpg", [labelling.labelme_rectangle(BOX)])), **more}


def _task(value: dict[str, Any], kind: str = "rectanglelabels") -> list[Any]:
    result = {"type": kind, "original_width": 160, "original_height": 120, "value": {**value, kind: ["nut"]}}
    return [
        {"id": 1, "data": {"image": "/data/upload/1/1a2b3c4d-a.jpg"}, "annotations": [{"result": [result]}]}
    ]


HUGE = 10**400
LABELS: dict[str, Build] = {
    "COCO: 100,000 brackets": _with("x.json", '{"images": ' + "[" * DEEP),
    "COCO: numbers of 400 digits": _json("x.json", _coco_box(bbox=[HUGE, 1, 2, 3], area=HUGE)),
    "COCO: numbers of 10,000 digits": _with("x.json", json.dumps(_coco_box(area="@")).replace('"@"', "9" * 10_000)),
    "COCO: NaN": _json("x.json", _coco_box(bbox=[float("nan"), float("inf"), 2, 3])),
    "COCO: a mask of 10^9 x 10^9": _json("x.json", _coco_box(segmentation={"size": [10**9, 10**9], "counts": [10**18]})),
    "COCO: a packed mask of odd letters": _json("x.json", _coco_box(segmentation={"size": [120, 160], "counts": "\x7f~zzzzzz" * 5000})),
    "COCO: a polygon of 10^6 points": _json("x.json", _coco_box(segmentation=[[1.5] * 2_000_000])),
    "COCO: keypoints of the wrong length": _json("x.json", _coco_box(keypoints=[1] * 100_001)),
    "COCO: a category of 10^18": _json("x.json", _coco_box(category_id=10**18)),
    "COCO: a picture of 10^12 px": _json("x.json", _coco_picture(width=10**12, height=-1)),
    "COCO: an identifier that is a list": _json("x.json", _coco_picture(id=[[]])),
    "COCO: 50 GB": lambda p: (p.put("set/a.jpg", jpeg()), p.sparse("set/x.json", start=b'{"images": [')),
    "COCO: a FIFO": lambda p: (p.put("set/a.jpg", jpeg()), p.fifo("set/x.json")),
    "VOC: a billion laughs": _with("a.xml", _xml(swapped(VOC, "nut", "&a11;"), LAUGHS)),
    "VOC: an entity outside": _with("a.xml", _xml(swapped(VOC, "nut", "&s;"), OUTSIDE)),
    "VOC: 100,000 tags in each other": _with("a.xml", "<annotation>" + "<a>" * DEEP),
    "VOC: a name of 10 MB": _with("a.xml", swapped(VOC, "nut", "x" * 10_000_000)),
    "VOC: NaN": _with("a.xml", swapped(swapped(VOC, "10.0", "nan"), "60.0", "1e400")),
    "VOC: 50 GB": lambda p: (p.put("set/a.jpg", jpeg()), p.sparse("set/a.xml", start=b"<annotation>")),
    "CVAT: a billion laughs": _with("x.xml", _xml(swapped(CVAT.split("?>", 1)[1], "nut", "&a11;"), LAUGHS)),
    "CVAT: an entity outside": _with("x.xml", _xml(swapped(CVAT.split("?>", 1)[1], 'label="nut"', 'label="&s;"'), OUTSIDE)),
    "CVAT: a track of 10^9 frames": _with("x.xml", f"<annotations><version>1.1</version>{TRACK}</annotations>", "frame_000000.jpg"),
    "CVAT: a mask of 10^9 x 10^9": _with("x.xml", swapped(CVAT, "</image>", '<mask label="nut" rle="1000000000000" left="0" top="0" width="1000000000" height="1000000000"></mask></image>')),
    "YOLO: a class of 10^9": _with("a.txt", "1000000000 .5 .5 .2 .2\n"),
    "YOLO: a class of 10^9 and names": lambda p: (_with("a.txt", "1000000000 .5 .5 .2 .2\n")(p), p.put("set/data.yaml", "names: {1000000000: nut}\n")),
    "YOLO: nc of 10^9": lambda p: _yolo(p, "nc: 1000000000\n"),
    "YOLO: a line of 20 MB": _with("a.txt", "0 " + ".5 " * 7_000_000),
    "YOLO: 10^6 boxes": _with("a.txt", LABEL * 1_000_000),
    "YOLO: zeros": _with("a.txt", bytes(100_000)),
    "YOLO: a data.yaml of a billion laughs": lambda p: _yolo(p, yaml_bomb("names")),
    "YOLO: a data.yaml with Python in it": lambda p: _yolo(p, 'names: !!python/object/apply:os.system ["touch \\"$MARKER\\""]\n'),
    "YOLO: a data.yaml in a circle": lambda p: _yolo(p, "names: &a [*a]\n"),
    "YOLO: a data.yaml with odd keys": lambda p: _yolo(p, "names: {? [1, 2] : x}\n? {a: b}\n: 3\n"),
    "YOLO: a data.yaml of 100,000 brackets": lambda p: _yolo(p, "names: " + "[" * DEEP),
    "YOLO: a data.yaml of 50 GB": lambda p: (_yolo(p), p.sparse("set/data.yaml", start=b"names: [a]\n")),
    "YOLO: labels of 50 GB": lambda p: (p.put("set/a.jpg", jpeg()), p.sparse("set/a.txt", start=LABEL.encode())),
    "YOLO: labels that are a FIFO": lambda p: (p.put("set/a.jpg", jpeg()), p.fifo("set/a.txt")),
    "LabelMe: 10,000 brackets": _with("a.json", '{"shapes": ' + "[" * 10_000),
    "LabelMe: a picture inside of 60,000 x 60,000": _json("x.json", _labelme(imageData=base64.b64encode(flood("png", 60_000, 60_000)).decode(), imagePath="b.png")),
    "LabelMe: a picture inside with a path": _json("x.json", _labelme(imageData=base64.b64encode(jpeg()).decode(), imagePath="../../evil.jpg")),
    "LabelMe: base64 that is none": _json("x.json", _labelme(imageData="%" * 100_000, imagePath="b.png")),
    "LabelMe: a mask of 60,000 x 60,000": _json("a.json", _labelme(shapes=[{"label": "nut", "points": [[1, 1], [9, 9]], "shape_type": "mask", "mask": base64.b64encode(flood("png", 60_000, 60_000)).decode()}])),
    "Label Studio: a brush of 10^9 numbers": _json("x.json", _task({"format": "rle", "rle": list(struct.pack(">I", 4_000_000_000)) + [255] * 5000}, "brushlabels")),
    "Label Studio: percents that are NaN": _json("x.json", _task({"x": float("nan"), "y": 1, "width": 1e308, "height": -1e308, "rotation": float("inf")})),
    "Label Studio: a size of 10^12": _json("x.json", [{**_task({"x": 1, "y": 1, "width": 9, "height": 9})[0], "annotations": [{"result": [{"type": "rectanglelabels", "original_width": 10**12, "original_height": 0, "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["nut"]}}]}]}]),
    "VIA: 10^6 points": _json("x.json", {"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": [{"shape_attributes": {"name": "polygon", "all_points_x": [1] * 10**6, "all_points_y": [2] * 10**6}, "region_attributes": {"class": "nut"}}]}}),
    "VIA: regions in each other": _with("x.json", '{"a.jpg1": {"filename": "a.jpg", "regions": ' + "[" * DEEP + "]" * DEEP + "}}"),
    "CreateML: 10^400 px": _json("x.json", [{"image": "a.jpg", "annotations": [{"label": "nut", "coordinates": {"x": HUGE, "y": 1, "width": 2, "height": 3}}]}]),
    "FiftyOne: a box of words": _json("samples.json", {"samples": [{"filepath": "a.jpg", "ground_truth": {"_cls": "Detections", "detections": [{"label": "nut", "bounding_box": ["x"] * 4}]}}]}),
    "table: 10^5 columns": _with("x.csv", "filename,class,xmin,ymin,xmax,ymax" + ",x" * 100_000 + "\na.jpg,nut,1,2,9,9\n"),
    "table: zeros": _with("x.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,nu\0t,1,2,9,9\n" + "\0" * 9000),
    "table: a field of 10 MB": _with("x.csv", 'filename,class,xmin,ymin,xmax,ymax\na.jpg,"' + "x" * 10_000_000 + '",1,2,9,9\n'),
    "table: NaN": _with("x.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,nut,nan,inf,1e400,-1\n"),
    "table: formulas": _with("x.csv", 'filename,class,xmin,ymin,xmax,ymax\na.jpg,"=cmd|\' /C calc\'!A0",1,2,9,9\n'),
    "KITTI: NaN": _with("a.txt", "Car nan 0 inf 10 20 30 29 1.5 1.6 3.9 1 2 30 -1.6\n"),
    "WIDER: a count of 10^9": _with("x.txt", "a.jpg\n1000000000\n1 2 9 9 0 0 0 0 0 0\n"),
    "WIDER: a count of 5,000 digits": _with("x.txt", "a.jpg\n" + "9" * 5000 + "\n1 2 9 9 0 0 0 0 0 0\n"),
    "RetinaFace: a box of 10^400": _with("label.txt", "# a.jpg\n1" + "0" * 400 + " 2 9 9 3 3 0 4 4 0 5 5 0 6 6 0 7 7 0 0.5\n"),
    "landmarks: 10^6 points": _with("x.txt", "1 " * 2_000_000 + "1 2 9 9 a.jpg\n"),
    "face crops: points of NaN": _json("annotations.json", [{"crop": "a.jpg", "size": 40, "landmarks98_crop": [[float("nan"), 2.0]] * 98}], "crops/a.jpg"),
    "import.json: 100,000 brackets": lambda p: (_json("annotations/train.json", _coco(), "images/a.jpg")(p), p.put("set/import.json", "[" * DEEP)),
    "import.json: odd types": lambda p: (_json("annotations/train.json", _coco(), "images/a.jpg")(p), p.json("set/import.json", {"format": [], "notes": 7, "left_out": [[]], "skipped": {"x": "y"}, "candidates": "x"})),
    "a label file of each of ten odd encodings": lambda p: [_with(f"{i}.txt", LABEL.encode(e), f"{i}.jpg")(p) for i, e in enumerate(("utf-16", "utf-32", "utf-7", "cp037", "utf-8-sig", "shift_jis", "gb18030", "koi8_r", "cp437", "big5"))],
}  # fmt: skip


def yaml_bomb(key: str) -> str:
    lines = ["x0: &x0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, f"{key}: *x9"]) + "\n"


for _name, _build in LABELS.items():
    case("labels", _name, IMPORT, _build)
for _name in (
    "COCO: NaN",
    "YOLO: a data.yaml of a billion laughs",
    "VOC: an entity outside",
    "COCO: a FIFO",
    "YOLO: a class of 10^9",
    "table: formulas",
    "YOLO: 10^6 boxes",
):
    case("labels", f"{_name}, examined", "data doctor set --html page.html", LABELS[_name])
    case("labels", f"{_name}, for anchors", "data anchors set --model {base}/net.cfg", LABELS[_name])
    case("labels", f"{_name}, divided", "data split set out --val .3 --test .3", LABELS[_name])
for _name in ("COCO: NaN", "YOLO: a class of 10^9", "YOLO: labels that are a FIFO"):
    case(
        "labels",
        f"{_name}, to train",
        "train --data set --model {base}/net.cfg --epochs 1 --output out",
        LABELS[_name],
    )
    case(
        "labels",
        f"{_name}, to evaluate",
        "evaluate coco --model {base}/net.cfg --data set --json",
        LABELS[_name],
    )


# ---- what leads out of the set ----


def _yolo(place: Place, settings: str = "", **more: str) -> None:
    place.put("set/images/a.jpg", jpeg())
    place.put("set/labels/a.txt", LABEL)
    if settings:
        place.put("set/data.yaml", settings)
    for name, text in more.items():
        place.put(f"set/{name}.txt", text)


WAYS_OUT: dict[str, Build] = {
    "a picture that is a link": lambda p: (_yolo(p), p.link("set/images/secret.jpg", p.outside / "secret.jpg")),
    "a picture that is a relative link": lambda p: (_yolo(p), p.link("set/images/secret.jpg", "../../../outside/secret.jpg")),
    "a folder of pictures that is a link": lambda p: (_yolo(p), p.link("set/more", p.outside)),
    "a folder of pictures called images": lambda p: (p.link("set/images", p.outside / "images"), p.put("set/labels/secret.txt", LABEL)),
    "the folder itself is a link": lambda p: (p.put("set2/b.jpg", jpeg()), p.put("set2/b.txt", LABEL), p.link("set2/c.jpg", p.outside / "secret.jpg"), p.link("set", "set2")),
    "names of classes that are a link": lambda p: (_yolo(p), p.link("set/classes.txt", p.outside / "secret.txt")),
    "labels that are a link": lambda p: (_yolo(p), p.link("set/labels/b.txt", p.outside / "secret.txt"), p.put("set/images/b.jpg", jpeg())),
    "data.yaml with a path outside": lambda p: _yolo(p, f"path: {p.outside}\ntrain: images\nnames: [a]\n"),
    "data.yaml with ../": lambda p: _yolo(p, "train: ../outside/images\nval: images\nnames: [a]\n"),
    "data.yaml with names outside": lambda p: _yolo(p, "train: images\nnames: ../outside/secret.txt\n"),
    "a list outside": lambda p: _yolo(p, "train: ../outside/secret.txt\nnames: [a]\n"),
    "a list of pictures outside": lambda p: _yolo(p, "train: train.txt\nnames: [a]\n", train=f"{p.outside}/secret.jpg\n../outside/secret.jpg\nimages/a.jpg\n"),
    "a .data file with names outside": lambda p: (_yolo(p), p.put("set/obj.data", f"names = {p.outside}/secret.txt\ntrain = ../outside/secret.txt\n")),
    "COCO: file_name with ../": _json("x.json", _coco_picture(file_name="../outside/secret.jpg")),
    "COCO: file_name with an absolute path": lambda p: _json("x.json", _coco_picture(file_name=str(p.outside / "secret.jpg")))(p),
    "COCO: file_name through a link": lambda p: (_json("x.json", _coco_picture(file_name="deep/secret.jpg"))(p), p.link("set/deep", p.outside)),
    "COCO: labels that are a link": lambda p: (p.put("set/a.jpg", jpeg()), p.link("set/x.json", p.outside / "secret.json")),
    "VOC: filename with ../": _with("a.xml", swapped(VOC, "a.jpg", "../outside/secret.jpg")),
    "VOC: a path outside": lambda p: _with("b.xml", swapped(VOC, "<filename>", f"<path>{p.outside}/secret.jpg</path><filename>"))(p),
    "CVAT: a name with ../": _with("x.xml", swapped(CVAT, 'name="a.jpg"', 'name="../outside/secret.jpg"')),
    "LabelMe: imagePath with ../": _json("x.json", _labelme(imagePath="../outside/secret.jpg")),
    "Label Studio: a local file": lambda p: _json("x.json", [{**_task({"x": 1, "y": 1, "width": 9, "height": 9})[0], "data": {"image": f"/data/local-files/?d={p.outside}/secret.jpg"}}])(p),
    "Label Studio: a file address": lambda p: _json("x.json", [{**_task({"x": 1, "y": 1, "width": 9, "height": 9})[0], "data": {"image": f"file://{p.outside}/secret.jpg"}}])(p),
    "CreateML: ../": _json("x.json", [{"image": "../outside/secret.jpg", "annotations": [{"label": "nut", "coordinates": {"x": 9, "y": 9, "width": 9, "height": 9}}]}]),
    "VIA: ../": _json("x.json", {"k": {"filename": "../outside/secret.jpg", "size": 1, "regions": [{"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 9, "height": 9}, "region_attributes": {"class": "nut"}}]}}),
    "FiftyOne: an absolute path": lambda p: _json("samples.json", {"samples": [{"filepath": f"{p.outside}/secret.jpg", "ground_truth": {"_cls": "Detections", "detections": [{"label": "nut", "bounding_box": [0.1, 0.1, 0.5, 0.5]}]}}]})(p),
    "table: ../": _with("x.csv", "filename,class,xmin,ymin,xmax,ymax\n../outside/secret.jpg,nut,1,2,9,9\n"),
    "WIDER: ../": _with("x.txt", "../outside/secret.jpg\n1\n1 2 9 9 0 0 0 0 0 0\n"),
    "RetinaFace: ../": _with("label.txt", "# ../outside/secret.jpg\n1 2 9 9 3 3 0 4 4 0 5 5 0 6 6 0 7 7 0 0.5\n"),
    "landmarks: ../": _with("x.txt", "3 3 4 4 5 5 6 6 7 7 1 2 9 9 ../outside/secret.jpg\n"),
    "face crops: ../": _json("annotations.json", [{"crop": "../../outside/secret.jpg", "size": 40, "landmarks98_crop": [[1.0, 2.0]] * 98}], "crops/a.jpg"),
}  # fmt: skip
for _name, _build in WAYS_OUT.items():
    case("ways out", _name, IMPORT, _build)
    case("ways out", f"{_name}, copied", f"{IMPORT} --copy", _build)
for _name in list(WAYS_OUT)[:13:2]:
    case("ways out", f"{_name}, divided", "data split set out --copy", WAYS_OUT[_name])
    case("ways out", f"{_name}, examined", "data doctor set --html page.html --fix out", WAYS_OUT[_name])


# ---- archives ----


def _zip(*entries: tuple[Any, bytes | str], packed: int = zipfile.ZIP_DEFLATED, **sizes: int) -> Build:
    def build(place: Place) -> None:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", packed) as archive:
            for entry, data in (("set/a.jpg", jpeg()), ("set/a.txt", LABEL), *entries):
                archive.writestr(entry, data, packed)
        place.put("x.zip", stream.getvalue())

    return build


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    entry.create_system = 3
    return entry


def _bomb(size_mb: int, name: str = "set/b.txt") -> Build:
    def build(place: Place) -> None:
        with zipfile.ZipFile(place.folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("set/a.jpg", jpeg())
            archive.writestr("set/a.txt", LABEL)
            with archive.open(name, "w", force_zip64=True) as out:
                for _ in range(size_mb):
                    out.write(bytes(1 << 20))

    return build


def _overlapping(place: Place) -> None:
    """5,000 entries that are one and the same packed file of 20 MB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/a.jpg", jpeg())
        archive.writestr("set/b.txt", bytes(20 << 20))
        kernel = archive.infolist()[-1]
        for i in range(5000):
            twin = zipfile.ZipInfo(f"set/b{i}.txt")
            for key in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(twin, key, getattr(kernel, key))
            archive.filelist.append(twin)
    place.put("x.zip", stream.getvalue())


def _lying(place: Place) -> None:
    """Sizes in the directory that are smaller than what is inside."""
    _bomb(300)(place)
    data = bytearray((place.folder / "x.zip").read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)
    place.put("x.zip", bytes(data))


ARCHIVES: dict[str, Build] = {
    "a bomb of 8 GB": _bomb(8000),
    "a bomb of 1 GB called like a picture": _bomb(1000, "set/b.jpg"),
    "a bomb of overlapping files": _overlapping,
    "sizes that lie": _lying,
    "a zip in a zip": lambda p: (_bomb(100)(p), _zip(("set/b.zip", (p.folder / "x.zip").read_bytes()))(p)),
    "50,000 entries": _zip(*((f"set/{i}.txt", "") for i in range(50_000))),
    "../": _zip(("../evil.txt", "x"), ("../../in/evil2.txt", "x")),
    "an absolute path": _zip(("/tmp/evil-of-a-zip.txt", "x")),
    "a path of Windows": _zip(("..\\..\\evil.txt", "x"), ("C:\\evil.txt", "x")),
    "a link": _zip((_entry("set/c.jpg", stat.S_IFLNK | 0o777), "../../outside/secret.jpg")),
    "a folder that is a link": _zip((_entry("set/more", stat.S_IFLNK | 0o777), "../../outside"), ("set/more/x.txt", "x")),
    "a device": _zip((_entry("set/c.jpg", stat.S_IFCHR | 0o666), "")),
    "names with escape sequences": _zip(("set/\x1b[2J\x07.jpg", jpeg()), ("set/a\nb.jpg", jpeg())),
    "a name of 60,000 letters": _zip(("set/" + "x" * 60_000, "x")),
    "folders in each other, 5,000 times": _zip(("a/" * 5000 + "b.txt", "x")),
    "a file and a folder of one name": _zip(("set/b", "x"), ("set/b/c.txt", "x")),
    "names that repeat": _zip(*[("set/b.jpg", jpeg(shade=i)) for i in range(20)]),
    "an unknown compression": lambda p: (_zip()(p), _patch(p, b"PK\x01\x02", 10, b"\x63\x00")),
    "a password": lambda p: (_zip()(p), _patch(p, b"PK\x01\x02", 8, b"\x01\x00")),
    "a cut file": lambda p: (_zip()(p), p.put("x.zip", (p.folder / "x.zip").read_bytes()[:-30])),
    "nothing": lambda p: p.put("x.zip", b""),
    "an empty archive": lambda p: p.put("x.zip", b"PK\x05\x06" + bytes(18)),
    "50 GB": lambda p: p.sparse("x.zip", start=b"PK\x03\x04"),
    "a FIFO": lambda p: p.fifo("x.zip"),
    "programs and secrets among pictures": _zip(("set/run.sh", "#!/bin/sh\ntouch marker\n"), ("set/.bashrc", "x"), ("set/__init__.py", "x")),
}  # fmt: skip


def _patch(place: Place, mark: bytes, offset: int, value: bytes) -> None:
    data = bytearray((place.folder / "x.zip").read_bytes())
    at = data.index(mark) + offset
    data[at : at + len(value)] = value
    place.put("x.zip", bytes(data))


for _name, _build in ARCHIVES.items():
    case("archives", _name, "data import x.zip out", _build)
for _name, _file in {"a tar": "x.tar", "a gz": "x.json.gz", "a 7z": "x.7z"}.items():
    case(
        "archives",
        _name,
        f"data import {_file} out",
        lambda p, file=_file: p.put(file, b"\x1f\x8b" + noise(500)),
    )


# ---- names of classes, in tables and drawings ----

CLASS_NAMES = {
    "dollars": ["$x^2$", "$\\frac{1}{0}$", "$", "a_b^c"],
    "escape sequences": ["\x1b[2J\x1b[31mred", "a\nb\r\nc", "\x07", "\x00"],
    "markup": ["[bold]x[/bold]", "[/]", "[link=http://a]b[/link]", "<script>alert(1)</script>"],
    "letters without end": ["x" * 1_000_000, "y" * 70_000, "z", "w"],
    "many scripts": ["\u202eesrever", "👩‍👩‍👧‍👦", "e\u0301\u0301\u0301" * 500, "ﷺ" * 100],
    "lone surrogates": ["\ud800", "\udfff", "a\ud800b", "ok"],
    "blanks": ["", " ", "\t", "\u3000"],
    "numbers": ["1", "nan", "-inf", "1e400"],
    "paths": ["../../x", "/etc/passwd", "a/b", "."],
}  # fmt: skip


def _classes(names: list[str]) -> Build:
    def build(place: Place) -> None:
        tree = labelling.coco(
            {f"p{i}.jpg": [(names[i % 4], 10.0 + i, 20.0, 60.0, 70.0)] for i in range(8)}, names
        )
        for i in range(8):
            place.put(f"set/p{i}.jpg", jpeg(shade=i * 20))
        place.put("set/x.json", json.dumps(tree))

    return build


COMMANDS = {
    "imported": "data import set out",
    "examined": "data doctor set --html page.html --fix out",
    "for anchors": "data anchors set --model {base}/net.cfg --picture anchors.png",
    "evaluated": "evaluate voc --model {base}/net.cfg --data set --conf 0.001 --pictures drawn",
    "divided": "data split set out --val .3 --test .3",
}
for _name, _names in CLASS_NAMES.items():
    for _what, _command in COMMANDS.items():
        case("names of classes", f"{_name}, {_what}", _command, _classes(_names))
for _name in ("dollars", "markup", "many scripts"):
    case(
        "names of classes",
        f"{_name}, trained",
        "train --data set --model {base}/net.cfg --epochs 1 --size 64 --output out --lever batch=4 --lever mosaic=0",
        _classes(CLASS_NAMES[_name]),
    )
    case(
        "names of classes",
        f"{_name}, for annotation",
        "data prelabel set out --model {base}/net.cfg --conf .01",
        _classes(CLASS_NAMES[_name]),
    )
