"""Pictures with faces from public repositories, for training small detectors that are tested on our part of
WIDER FACE's validation set.

python -m tests.benchmarks.face_pictures OUT --fddb FOLDER --helen FOLDER ...        (a minute per 1,000)

Nobody's pictures are in this project: a person fetches what `SOURCES` lists and gives the folders. Each
source becomes a folder of OUT: a data set in the canonical form where it has boxes, a folder of pictures
where it has none (for pseudo labels). Pictures are reduced to a long side of 512. Those that look like a
picture of the test part, and all but the first of those that look alike, are dropped.
"""

import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from math import radians
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit import boxes
from toolkit.data.builder import Columns
from toolkit.data.catalog import load_part
from toolkit.data.dataset import Dataset
from toolkit.data.doctor.pictures import look_at
from toolkit.data.folders import place_pictures, unique_names
from toolkit.data.formats import registry
from toolkit.data.formats.canonical import save
from toolkit.data.formats.shapes import Box, enclosing, turned, turned_ellipse
from toolkit.data.grouping import near_copies
from toolkit.pictures import Unreadable, find_images, load_image, picture_size
from toolkit.runtime import InputError, progress

SIDE, QUALITY = 512, 92  # long side of the pictures, and of their JPEG files
TEST = "widerface_val_ours"  # whose part "test" no picture may come from
# From faces of the part "train" of TEST that have WFLW's points too (320, of which 268 upright).
FOREHEAD = 0.27  # of the landmarks' height: the median
BOX = np.array([[1.16, 1.02], [0.85, 1.89]])  # width and height by the eyes' distance and eyes to mouth
RISE = 0.14  # of eyes to mouth: the middle of the box over the middle of the two
FACE = ("face",)


@dataclass(frozen=True)
class Source:
    """Where pictures come from, and what is known of them."""

    title: str
    repository: str  # of GitHub
    commit: str
    folder: str  # in the repository
    licence: str
    labels: str  # "" where there are none
    read: Callable[[Path], Dataset]


def pictures_only(folder: Path) -> Dataset:
    """All pictures below a folder, without boxes; those that do not open are left out."""
    columns = Columns("skip")
    for path in find_images(folder):
        add(columns, folder, path)
    return columns.dataset(folder, FACE, folder)


def labelled(folder: Path) -> Dataset:
    """Any format that the project reads. Every class is a face."""
    dataset = registry.read(folder)
    return replace(dataset, classes=FACE, labels=np.zeros_like(dataset.labels))


def heads(folder: Path) -> Dataset:
    """VOC files with boxes of heads, which are no faces: their class stays "head"."""
    dataset = registry.read(folder)
    return replace(dataset, classes=("head",), labels=np.zeros_like(dataset.labels))


def widerface(folder: Path) -> Dataset:
    """WIDER FACE, or part of its training set in any folders, with its list of boxes.

    The list (`wider_face_train_bbx_gt.txt`, anywhere below) tells which pictures are of the training set.
    """
    lists = sorted(folder.rglob("wider_face_train_bbx_gt.txt"))
    if not lists:
        raise InputError(f"{folder} has no wider_face_train_bbx_gt.txt")
    places = {path.name: path for path in find_images(folder)}
    columns, lines = Columns("skip"), iter(lists[0].read_text().splitlines())
    for name in lines:
        count = int(next(lines))
        rows = [[int(word) for word in next(lines).split()] for _ in range(max(count, 1))][:count]
        path = places.get(name.split("/")[-1])
        if path is None or (picture := add(columns, folder, path)) is None:
            continue
        for x, y, w, h, *marks in rows:
            columns.add_box(picture, (x, y, x + w, y + h), 0, ignore=bool(marks[3]) or w < 1 or h < 1)
    return columns.dataset(folder, FACE, folder)


def add(columns: Columns, folder: Path, path: Path) -> int | None:
    """Enter a picture; None where it does not open."""
    name = path.relative_to(folder).as_posix()
    try:
        return columns.add_picture(name, picture_size(path))
    except Unreadable as error:
        columns.skip(name, error.reason)
        return None


def add_face(columns: Columns, picture: int, box: Box) -> None:
    """Enter what of a face's box is inside its picture."""
    inside = boxes.clip(np.array([box]), *columns.size_of(picture))[0]
    if (inside[2:] > inside[:2]).all():
        columns.add_box(picture, inside.tolist(), 0)


# ---- FDDB -----------------------------------------------------------------------------------------------

Ellipse = tuple[float, float, float, float, float]  # radii, long one first, angle, centre


def ellipses(folder: Path) -> Iterator[tuple[str, list[Ellipse]]]:
    """Names and faces of FDDB's lists, in their order."""
    for path in sorted(folder.rglob("FDDB-fold-*-ellipseList.txt")):
        lines = (line for line in path.read_text().splitlines() if line.strip())
        for name in lines:
            rows = [next(lines).split() for _ in range(int(next(lines)))]
            yield name.strip(), [tuple(map(float, row[:5])) for row in rows]  # type: ignore[misc]


def fddb(folder: Path) -> Dataset:
    """FDDB's lists with its pictures under their own names, or numbered in the lists' order beside VOC files
    of the boxes around the turned rectangles, in which those that lead out of the picture are missing (and
    pictures without any other face)."""
    pictures = find_images(folder)
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in pictures}
    faces = list(ellipses(folder))
    if not faces:
        raise InputError(f"{folder} has no FDDB-fold-*-ellipseList.txt")
    by_name = any(name.endswith(faces[0][0]) for name in named)
    columns = Columns("skip")
    for path, found in named_pictures(faces, named) if by_name else numbered_pictures(faces, pictures):
        picture = add(columns, folder, path)
        if picture is None:
            continue
        for long, short, angle, x, y in found:
            add_face(columns, picture, turned_ellipse(x, y, long, short, angle))
    return columns.dataset(folder, FACE, folder)


def named_pictures(
    faces: Sequence[tuple[str, list[Ellipse]]], named: dict[str, Path]
) -> Iterator[tuple[Path, list[Ellipse]]]:
    """By the end of the path: .../2002/08/11/big/img_591."""
    ends = {"/".join(name.split("/")[-5:]): path for name, path in named.items()}
    for name, found in faces:
        if name in ends:
            yield ends[name], found


def numbered_pictures(
    faces: Sequence[tuple[str, list[Ellipse]]], pictures: Sequence[Path]
) -> Iterator[tuple[Path, list[Ellipse]]]:
    """By the VOC file of the same number: the next entry of the lists that has all its boxes."""
    entries = iter(faces)
    for path in sorted(pictures, key=lambda path: path.stem):
        label = path.parent.parent / "Annotations" / f"{path.stem}.xml"
        known = [voc_box(node) for node in ElementTree.parse(label).iter("bndbox")]
        for _, found in entries:
            near = np.array([rectangle(ellipse) for ellipse in found])
            if all((np.abs(near - box).max(axis=1) <= 1).any() for box in known):  # whole pixels
                yield path, found
                break
        else:
            raise InputError(f"{label} has boxes that are not those of the next pictures of FDDB's lists")


def voc_box(node: ElementTree.Element) -> list[int]:
    return [int(node.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax")]


def rectangle(ellipse: Ellipse) -> Box:
    """The box around the turned rectangle of an ellipse, as the numbered copy has it: with the angle, which
    is in radians, taken for degrees."""
    long, short, angle, x, y = ellipse
    return turned(x, y, 2 * short, 2 * long, radians(angle))


# ---- landmarks ------------------------------------------------------------------------------------------


def points(folder: Path) -> Dataset:
    """Pictures with a .pts file of 68 landmarks each: the box around them, with a forehead. A picture that is
    there once for each of its faces comes in once."""
    columns, copies = Columns("skip"), dict[bytes, int]()
    for path in find_images(folder):
        marks = path.with_suffix(".pts")
        if not marks.exists():
            continue
        digest = blake2b(path.read_bytes()).digest()
        picture = copies[digest] if digest in copies else add(columns, folder, path)
        if picture is None:
            continue
        copies[digest] = picture
        add_face(columns, picture, with_forehead(landmarks(marks.read_text())))
    return columns.dataset(folder, FACE, folder)


def landmarks(text: str) -> list[tuple[float, float]]:
    """The x, y of a .pts file, with or without its header and braces.

    >>> landmarks("version: 1 n_points: 2 { 1 2.5 3e1 4 }")
    [(1.0, 2.5), (30.0, 4.0)]
    """
    numbers = [float(word) for word in text.split("{")[-1].split("}")[0].split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def with_forehead(marks: Sequence[tuple[float, float]]) -> Box:
    """The box of a face by landmarks from brow to chin."""
    x1, y1, x2, y2 = enclosing(marks)
    return x1, y1 - FOREHEAD * (y2 - y1), x2, y2


def caltech(folder: Path) -> Dataset:
    """Pictures and a list with a line for each face: name, eyes, nose, mouth (x, y each)."""
    lists = sorted(folder.rglob("WebFaces_GroundThruth.txt"))  # its name
    if not lists:
        raise InputError(f"{folder} has no WebFaces_GroundThruth.txt")
    faces: dict[str, list[list[float]]] = {}
    for line in lists[0].read_text().splitlines():
        name, *numbers = line.split()
        faces.setdefault(name, []).append([float(number) for number in numbers[:8]])
    columns = Columns("skip")
    for path in find_images(folder):
        if path.name not in faces or (picture := add(columns, folder, path)) is None:
            continue
        for numbers in faces[path.name]:
            add_face(columns, picture, around(np.array(numbers).reshape(4, 2)))
    return columns.dataset(folder, FACE, folder)


def around(marks: NDArray[np.float64]) -> Box:
    """The box of an upright face by its eyes, nose and mouth (4, 2); the median IoU with WIDER FACE's own
    boxes is .74."""
    eyes, mouth = marks[:2].mean(axis=0), marks[3]
    lengths = np.linalg.norm(marks[1] - marks[0]), np.linalg.norm(mouth - eyes)
    size = BOX @ lengths
    x, y = (eyes + mouth) / 2 - (0, RISE * lengths[1])
    return x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2


# ---- the sources, in the order in which they keep what several have ---------------------------------------

BY_HAND, ELLIPSES = "boxes by hand", "boxes around ellipses by hand"
FOUR_POINTS = "boxes by eyes and mouth; frontal faces, others without"
ONE_FACE = "a box by 68 landmarks; one face of most pictures, whatever others there are"
SOURCES = {
    "widerface": Source(
        "WIDER FACE, training set or part of it",
        "SMSajadi99/Custom-Data-YOLOv8-Face-Detection",
        "2aa496cd2f0a78c81cf2ef2eb382f0e71d3bf37f",
        "images/train (9,148 of the 12,880 pictures), to which the official list of boxes is added",
        "academic and other non-commercial research; the pictures belong to their owners",
        BY_HAND,
        widerface,
    ),
    "fddb": Source(
        "FDDB, news photographs",
        "penolove/pyxml",
        "38022d596e847522fc8ae5e10eae6a2ab52d69ee",
        "FDDB2007 and FDDB-folds, removed in later commits",
        "research; the photographs are of news agencies; the repository names no licence",
        ELLIPSES,
        fddb,
    ),
    "masked": Source(
        "People with and without masks, of Kaggle (andrewmvd) and others",
        "Obiot24/dataset_facemask3",
        "1fde0ed9a32efa7bef907260593937eec0f447a3",
        "images and labels",
        "photographs of the web, Kaggle's part CC0 by its author; half are FFHQ's faces with painted masks "
        "(MaskedFace-Net): CC BY-NC-SA; the repository names no licence",
        BY_HAND,
        labelled,
    ),
    "streets": Source(
        "Faces with and without masks, of Google and Baidu",
        "MacwinWin/face_mask_dataset",
        "5791f890b03dc73fb6201e086073545bbd32b2b2",
        "data",
        "photographs of the web; the repository names no licence",
        BY_HAND,
        labelled,
    ),
    "caltech": Source(
        "Caltech 10,000 Web Faces",
        "PigeonDan1/face_reco",
        "4735d6ba6428f110b96b5b9edcfcfbcdfc72e826",
        "the pictures of Caltech_WebFaces, not of its folders, and WebFaces_GroundThruth.txt",
        "research; pictures of the web; the repository names no licence",
        FOUR_POINTS,
        caltech,
    ),
    "helen": Source(
        "Helen and AFW with landmarks of 300-W",
        "Spinkoo/Face-alignement",
        "e08a16aa91ad771df34e75f70bc5aaf20238ff6a",
        "helen and afw",
        "research only (300-W), pictures of Flickr; the repository names no licence",
        ONE_FACE,
        points,
    ),
    "scut": Source(
        "SCUT-HEAD A and B, classrooms and crowds",
        "alexanderbaranof/test-for-image",
        "1519afa835c828e4adab100f0507e5dace8f4ff2",
        "JPEGImages and Annotations",
        "research only; the repository names no licence",
        "boxes of all heads by hand, also from behind: class head, not face",
        heads,
    ),
    "masks": Source(
        "Face-Mask-Detection, portraits with and without masks",
        "chandrikadeb7/Face-Mask-Detection",
        "7e500749401bad4bb338790fbdb89b58e41ef2d9",
        "dataset",
        "MIT for the repository; pictures of the web and of RMFD",
        "",
        pictures_only,
    ),
    "shanghaitech": Source(
        "ShanghaiTech A and B, crowds",
        "MonsterVivy/shanghaitech",
        "ba0c57684796d0509eafec7994ac116f3f5edd73",
        "part_A and part_B",
        "research only; the repository names no licence",
        "",
        pictures_only,
    ),
    "flickr8k": Source(
        "Flickr8k, 1,000 of its pictures",
        "quantumnaan/sic_translator",
        "d27da85cff2dbf143fcaf365aece667d66c4298f",
        "data/images",
        "research and education; pictures of Flickr; the repository names no licence",
        "",
        pictures_only,
    ),
    "voc": Source(
        "PASCAL VOC 2012, the pictures of Animal-Pose, people among them",
        "mateusrafael4/Atividade_programacao_pose_estimation",
        "dab5c74036184926803e5edcf2082b71e0c85c86",
        "images, those named 20*",
        "research; pictures of Flickr under its terms; the repository names no licence",
        "",
        pictures_only,
    ),
}


# ---- making the set -------------------------------------------------------------------------------------


def reduced(dataset: Dataset, folder: Path) -> Dataset:
    """Copies with a long side of `SIDE` at most, in one folder, with their boxes."""
    columns = Columns("skip")
    flat = [re.sub(r"[^\w.-]+", "_", str(Path(name).with_suffix(".jpg"))) for name in dataset.files]
    folder.mkdir()
    for i, name in enumerate(progress(unique_names(flat), folder.name)):
        try:
            image = load_image(dataset.path(i))
        except Unreadable as error:
            columns.skip(dataset.files[i], error.reason)
            continue
        height, width = image.shape[:2]
        if dataset.sizes[i].any() and dataset.sizes[i].tolist() != [width, height]:
            columns.skip(dataset.files[i], "has another size than its labels say")
            continue
        scale = min(1.0, SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        (folder / name).write_bytes(
            cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        )
        picture = columns.add_picture(name, size, "train")
        rows = dataset.rows(i)
        factors = np.tile(np.array(size) / (width, height), 2)
        for box, ignore in zip(dataset.boxes[rows] * factors, dataset.ignore[rows], strict=True):
            columns.add_box(picture, box.tolist(), 0, ignore=bool(ignore))
    return columns.dataset(folder, dataset.classes, folder)


def looks(dataset: Dataset) -> NDArray[np.float32]:
    """(n, 2, 100) of the pictures, as the doctor compares them."""
    pictures = Columns()
    for name in dataset.files:
        pictures.add_picture(name)
    return look_at(pictures.dataset(dataset.root, (), dataset.root)).looks


def without_copies(test: Dataset, parts: Sequence[Dataset]) -> tuple[list[Dataset], list[dict[str, int]]]:
    """The pictures of the parts that look like none of the test set and like none before them, and the
    numbers of others."""
    starts = np.cumsum([len(test), *map(len, parts)])
    groups, _ = near_copies(np.concatenate([looks(test), *map(looks, parts)]), np.arange(starts[-1]))
    first = np.zeros(len(groups), np.bool_)
    first[np.unique(groups, return_index=True)[1]] = True
    of_test = np.isin(groups, groups[: len(test)])
    kept, dropped = [], []
    for part, start in zip(parts, starts, strict=False):
        mine = slice(start, start + len(part))
        kept.append(part.subset(np.flatnonzero(first[mine] & ~of_test[mine])))
        repeats = ~first[mine] & ~of_test[mine]
        dropped.append({"like_test": int(of_test[mine].sum()), "repeats": int(repeats.sum())})
    return kept, dropped


def build(output: Path, folders: dict[str, Path]) -> dict[str, dict[str, object]]:
    """Makes the set; what came of each source."""
    if output.exists():
        raise InputError(f"{output} exists already: choose another place for the output")
    output.mkdir(parents=True)
    with TemporaryDirectory(dir=output) as scratch:
        parts = [
            reduced(SOURCES[name].read(folder), Path(scratch) / name) for name, folder in folders.items()
        ]
        kept, dropped = without_copies(load_part(TEST, "test"), parts)
        report: dict[str, dict[str, object]] = {}
        for (name, part), lost, before in zip(zip(folders, kept, strict=True), dropped, parts, strict=True):
            if not len(part):
                print(f"{name}: no picture is left", file=sys.stderr)
            elif SOURCES[name].labels:
                save(part, output / name)
            else:
                place_pictures(part, output / name, part.files, link=True)
            counts = {"pictures": len(part), "boxes": len(part.labels), "read": len(before), **lost}
            counts["skipped"] = len(before.intake.skipped)
            known = {key: value for key, value in asdict(SOURCES[name]).items() if key != "read"}
            report[name] = {**counts, **known}
    (output / "sources.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def main() -> None:
    parser = ArgumentParser(
        prog="python -m tests.benchmarks.face_pictures", description=__doc__.splitlines()[0]
    )
    parser.add_argument("output", type=Path)
    for name, source in SOURCES.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help=source.title)
    given = vars(parser.parse_args())
    folders = {name: given[name] for name in SOURCES if given[name]}
    if not folders:
        parser.error("no folder is given")
    try:
        report = build(given["output"], folders)
    except InputError as error:
        parser.error(str(error))
    for name, row in report.items():
        print(name, json.dumps({key: value for key, value in row.items() if isinstance(value, int)}))


if __name__ == "__main__":
    main()
