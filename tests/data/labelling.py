"""Pictures with painted objects, and label text as people's tools write it. What is painted is the truth."""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw

Box = tuple[str, float, float, float, float]  # class, xyxy px
Truth = dict[str, list[Box]]  # a picture's name below the folder -> its boxes

NAMES = ("nut", "bolt")
SIZE = (160, 120)
KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP"}
PAINT = ("#d02020", "#2030d0", "#20a020")  # by class


def put(path: Path, text: str | bytes, encoding: str = "utf-8") -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def boxes_for(
    key: str, names: Sequence[str] = NAMES, count: int = 2, size: tuple[int, int] = SIZE
) -> list[Box]:
    """Boxes of whole pixels that do not overlap, always the same for a key."""
    chance = random.Random(key)
    boxes: list[Box] = []
    while len(boxes) < count:
        w, h = chance.randint(20, 40), chance.randint(20, 40)
        x, y = chance.randint(1, size[0] - w - 1), chance.randint(1, size[1] - h - 1)
        if all(x >= x2 or x + w <= x1 or y >= y2 or y + h <= y1 for _, x1, y1, x2, y2 in boxes):
            boxes.append((names[chance.randrange(len(names))], x, y, x + w, y + h))
    return boxes


def encoded(
    boxes: Sequence[Box], kind: str, names: Sequence[str] = NAMES, size: tuple[int, int] = SIZE, turn: int = 0
) -> bytes:
    """A picture with its objects painted; with `turn=6` stored lying, with EXIF's tag that turns it up."""
    picture = Image.new("RGB", size, "#808080")
    paint = ImageDraw.Draw(picture)
    for name, x1, y1, x2, y2 in boxes:
        paint.rectangle((x1, y1, x2 - 1, y2 - 1), PAINT[list(names).index(name) % len(PAINT)])
    stream = BytesIO()
    if turn:
        exif = Image.Exif()
        exif[0x0112] = turn
        picture.transpose(Image.Transpose.ROTATE_90).save(stream, kind, exif=exif, quality=95)
    else:
        picture.save(stream, kind)
    return stream.getvalue()


def draw(path: Path, names: Sequence[str] = NAMES, count: int = 2) -> list[Box]:
    """Paint a picture of two objects and give their boxes."""
    boxes = boxes_for(path.name, names, count)
    put(path, encoded(boxes, KINDS[path.suffix.lower()], names))
    return boxes


def pictures(top: Path, *files: str, names: Sequence[str] = NAMES, count: int = 2) -> Truth:
    """Paint several pictures below `top`."""
    return {file: draw(top / file, names, count) for file in files}


def train_and_valid(top: Path, pattern: str) -> Truth:
    """Four pictures for training and two for validation: `pattern` has {split}, and {name} of the picture."""
    counts = {"train": 4, "valid": 2}
    files = [pattern.format(split=s, name=f"{s}{i}.jpg") for s, n in counts.items() for i in range(n)]
    return pictures(top, *files)


def xywh(box: Box) -> list[float]:
    _, x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def corners(box: Box) -> list[tuple[float, float]]:
    """The corners of a box, around it."""
    _, x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


# ---- YOLO ----


def fractions(box: Box, size: tuple[int, int] = SIZE) -> list[str]:
    x, y, w, h = xywh(box)
    return [f"{v:.6f}" for v in ((x + w / 2) / size[0], (y + h / 2) / size[1], w / size[0], h / size[1])]


def yolo_line(box: Box, names: Sequence[str] = NAMES) -> str:
    return " ".join([str(list(names).index(box[0])), *fractions(box)])


def polygon_line(box: Box, names: Sequence[str] = NAMES) -> str:
    points = (f"{x / SIZE[0]:.6f} {y / SIZE[1]:.6f}" for x, y in corners(box))
    return " ".join([str(list(names).index(box[0])), *points])


def text_beside(file: str, ending: str = ".txt") -> str:
    """Where the label file of a picture is: in labels/ for one in images/, otherwise beside it."""
    return str(Path(re.sub(r"(^|/)images/", r"\1labels/", file)).with_suffix(ending))


def write_yolo(
    top: Path,
    truth: Truth,
    names: Sequence[str] = NAMES,
    line: Callable[[Box, Sequence[str]], str] = yolo_line,
    ending: str = ".txt",
) -> None:
    for file, boxes in truth.items():
        put(top / text_beside(file, ending), "".join(f"{line(box, names)}\n" for box in boxes))


# ---- VOC ----


def voc_object(name: str, place: str) -> str:
    return (
        f"<object><name>{escape(name)}</name><pose>Unspecified</pose><difficult>0</difficult>{place}</object>"
    )


def bndbox(box: Box) -> str:
    numbers = zip(("xmin", "ymin", "xmax", "ymax"), box[1:], strict=True)
    return "<bndbox>" + "".join(f"<{tag}>{value}</{tag}>" for tag, value in numbers) + "</bndbox>"


def voc_xml(filename: str, boxes: Sequence[Box], extra: str = "") -> str:
    objects = "".join(voc_object(box[0], bndbox(box)) for box in boxes)
    size = "<size><width>160</width><height>120</height><depth>3</depth></size>"
    return f"<annotation><folder>x</folder><filename>{filename}</filename>{size}{objects}{extra}</annotation>"


def write_voc(
    top: Path,
    truth: Truth,
    folder: str | None = None,
    ending: str = ".xml",
    head: str = "",
    encoding: str = "utf-8",
) -> None:
    """An XML file for each picture: in `folder`, or beside it where that is None."""
    for file, boxes in truth.items():
        place = Path(file).with_suffix(ending)
        place = place if folder is None else Path(folder) / place.name
        put(top / place, head + voc_xml(Path(file).name, boxes), encoding)


# ---- COCO ----


def coco(truth: Truth, names: Sequence[str] = NAMES, first: int = 1, **extra: object) -> dict:
    """COCO's object of lists, as Roboflow writes it; pictures by their last name."""
    images, annotations = [], []
    for number, (file, boxes) in enumerate(truth.items()):
        images.append({"id": number, "file_name": Path(file).name, "width": SIZE[0], "height": SIZE[1]})
        for box in boxes:
            x, y, w, h = xywh(box)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": list(names).index(box[0]) + first,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name, "supercategory": "none"} for i, name in enumerate(names, first)]
    return {"categories": categories, "images": images, "annotations": annotations, **extra}


def polygon_of(bbox: list[float]) -> list[float]:
    """The corners of an xywh box as COCO has polygons."""
    x, y, w, h = bbox
    return [v for corner in corners(("", x, y, x + w, y + h)) for v in corner]


def coco_folders(top: Path, change: Callable[[dict], None] = lambda labels: None) -> Truth:
    """train/ and valid/ of Roboflow, after `change` of each file's object."""
    truth = train_and_valid(top, "{split}/{name}")
    for split in ("train", "valid"):
        labels = coco({file: boxes for file, boxes in truth.items() if file.startswith(split)})
        change(labels)
        put(top / split / "_annotations.coco.json", json.dumps(labels))
    return truth


# ---- Label Studio ----


def percent_points(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    return [[x / SIZE[0] * 100, y / SIZE[1] * 100] for x, y in points]


def rectangle_region(box: Box) -> dict:
    x, y, w, h = xywh(box)
    place = {"x": x / 1.6, "y": y / 1.2, "width": w / 1.6, "height": h / 1.2, "rotation": 0}
    return {"type": "rectanglelabels", "value": {**place, "rectanglelabels": [box[0]]}}


def polygon_region(box: Box) -> dict:
    points = percent_points(corners(box)[:3])  # three corners have the same enclosing box
    return {"type": "polygonlabels", "value": {"points": points, "closed": True, "polygonlabels": [box[0]]}}


def studio_tasks(truth: Truth, region: Callable[[int, Box], dict]) -> list[dict]:
    """Tasks as Label Studio exports them; `region` is given a box and its number in its picture."""
    tasks = []
    for number, (file, boxes) in enumerate(truth.items(), 1):
        common = {
            "from_name": "label",
            "to_name": "image",
            "original_width": SIZE[0],
            "original_height": SIZE[1],
        }
        result = [
            {"id": f"r{number}{i}", **common, "image_rotation": 0, **region(i, box)}
            for i, box in enumerate(boxes)
        ]
        annotation = {"id": number, "result": result, "was_cancelled": False, "created_at": "2024-01-01"}
        address = f"/data/upload/3/1a2b3c4d-{Path(file).name}"
        tasks.append({"id": number, "annotations": [annotation], "data": {"image": address}})
    return tasks


# ---- LabelMe, CVAT, VIA ----


def labelme(file: str, shapes: Sequence[Mapping], **extra: object) -> str:
    whole = {"group_id": None, "flags": {}}
    values = {"version": "5.4.1", "flags": {}, "shapes": [{**whole, **shape} for shape in shapes]}
    tail = {"imagePath": file, "imageData": None, "imageHeight": SIZE[1], "imageWidth": SIZE[0]}
    return json.dumps({**values, **tail, **extra})


def labelme_rectangle(box: Box) -> dict:
    points = [list(corners(box)[0]), list(corners(box)[2])]
    return {"label": box[0], "points": points, "shape_type": "rectangle"}


def cvat_box(box: Box, attributes: str = "") -> str:
    name, x1, y1, x2, y2 = box
    place = f'xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}"'
    return f'<box label="{name}" source="manual" occluded="0" {place} z_order="0" {attributes}></box>'


def cvat_polygon(box: Box, tag: str = "polygon") -> str:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(box))
    return f'<{tag} label="{box[0]}" source="manual" occluded="0" points="{points}" z_order="0"></{tag}>'


def cvat(inside: str, names: Sequence[str] = NAMES) -> str:
    labels = "".join(f"<label><name>{name}</name><color>#fff</color></label>" for name in names)
    task = f"<meta><task><id>1</id><name>screws</name><labels>{labels}</labels></task></meta>"
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    return f"{head}{task}\n{inside}\n</annotations>\n"


def cvat_image(number: int, file: str, shapes: Sequence[str], attributes: str = "") -> str:
    inside = "\n".join(shapes)
    return f'<image id="{number}" name="{file}" width="160" height="120" {attributes}>\n{inside}\n</image>'


def via_regions(boxes: Sequence[Box]) -> list[dict]:
    keys = ("x", "y", "width", "height")
    return [
        {
            "shape_attributes": {"name": "rect", **dict(zip(keys, xywh(box), strict=True))},
            "region_attributes": {"class": box[0]},
        }
        for box in boxes
    ]


# ---- RetinaFace ----


def retinaface_record(name: str, boxes: list[Box], points: bool = True) -> str:
    lines = [f"# {name}"]
    for box in boxes:
        x, y, w, h = xywh(box)
        tail = f"{x + 3:.1f} {y + 4:.1f} 0.0 " * 5 + "0.9"
        lines.append(f"{x} {y} {w} {h} {tail}" if points else f"{x} {y} {w} {h}")
    return "".join(f"{line}\n" for line in lines)
