"""Boxes by a teacher for the pictures that `face_pictures` gathers, so that all have one kind of box.

python -m tests.benchmarks.face_labels FOLDER OUT --peers FOLDER     (two cores: an hour for 20,000 pictures)

Each source becomes a data set of OUT. A box by the teacher (SCRFD-2.5G, which has learnt from WIDER FACE's
training set) counts from a score of .5 on; from .1 on it is a region that teaches nothing, and so is a box
by hand that the teacher does not see: the sources box faces differently, and leave many out.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.face_peers import PeerDetector
from toolkit import boxes
from toolkit.data.builder import Columns
from toolkit.data.formats import registry
from toolkit.data.formats.canonical import save
from toolkit.pictures import Unreadable, find_images, load_image
from toolkit.runtime import InputError, progress

TEACHER = "SCRFD-2.5G"
SURE, UNSURE = 0.5, 0.1  # scores from which a box is a face, and a region to be left alone
SAME = 0.4  # IoU of a box by hand with one by the teacher
LONG_SIDE, STRIDE = 640, 32  # px of the teacher's input


class Face(NamedTuple):
    box: tuple[float, float, float, float]  # xyxy px
    ignore: bool


def label(teacher: PeerDetector, image: NDArray[np.uint8], by_hand: NDArray[np.float32]) -> list[Face]:
    """Faces of a picture: of the teacher, and the boxes by hand (M, 4) xyxy px that it does not see."""
    height, width = image.shape[:2]
    scale = LONG_SIDE / max(height, width)
    w, h = (max(STRIDE, int(np.ceil(side * scale / STRIDE)) * STRIDE) for side in (width, height))
    found = teacher.find(image, (w, h), conf=UNSURE)
    boxed = boxes.clip(found.boxes, width, height)
    unseen = by_hand
    if len(boxed) and len(by_hand):
        unseen = by_hand[boxes.iou(by_hand, boxed).max(axis=1) < SAME]
    faces = [
        Face(tuple(box.tolist()), bool(score < SURE)) for box, score in zip(boxed, found.scores, strict=True)
    ]
    return faces + [Face(tuple(box.tolist()), True) for box in unseen]


def label_source(teacher: PeerDetector, folder: Path, out: Path) -> None:
    """Label one source, once."""
    if out.exists():
        return
    by_hand = {}
    if (folder / "annotations").is_dir():
        dataset = registry.read(folder)
        by_hand = {dataset.path(i): dataset.boxes[dataset.rows(i)] for i in range(len(dataset))}
    paths = sorted(find_images(folder))
    columns = Columns("skip")
    for path in progress(paths, f"labelling {folder.name}", len(paths)):
        try:
            image = load_image(path)
        except Unreadable as error:
            columns.skip(path.relative_to(folder).as_posix(), error.reason)
            continue
        faces = label(teacher, image, by_hand.get(path, np.zeros((0, 4), np.float32)))
        picture = columns.add_picture(path.relative_to(folder).as_posix(), image.shape[1::-1])
        for face in faces:
            if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) < 1:
                columns.leave_out("boxes less than a pixel wide or high", f"{path.name}: {face.box}")
            else:
                columns.add_box(picture, face.box, 0, ignore=face.ignore)
    dataset = columns.dataset(folder, ("face",), folder)
    for sentence in dataset.intake.sentences():
        print(sentence, file=sys.stderr)
    save(dataset, out)


def main() -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what face_pictures has written")
    parser.add_argument("out", type=Path)
    parser.add_argument("--peers", type=Path, required=True, help="the folder of the teacher's ONNX file")
    parser.add_argument("--only", nargs="*", help="names of sources")
    arguments = parser.parse_args()
    teacher = PeerDetector(TEACHER, arguments.peers)
    for folder in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        if not arguments.only or folder.name in arguments.only:
            label_source(teacher, folder, arguments.out / folder.name)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
