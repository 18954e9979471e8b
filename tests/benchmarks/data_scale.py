"""How much memory and time a large dataset takes: 100,000 made pictures with a million boxes by default.

    python -m tests.benchmarks.data_scale [--pictures N] [--boxes M] [--result FILE]        (fifteen minutes)

Every step runs in its own process, whose peak resident memory is reported, without the workers in which the
doctor decodes. Pictures are hard links to a hundred small ones, so that the files are real and the disk stays
small. The detections that are evaluated are three to a box.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.evaluators import near
from tests.benchmarks.record import RESULTS, alone, peak_mb
from toolkit.data import doctor, importing
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.data.formats import registry
from toolkit.data.formats.canonical import save
from toolkit.evaluation.average_precision import voc
from toolkit.evaluation.columns import Truth
from toolkit.files import whole_file
from toolkit.runtime import environment

CLASSES = tuple(f"class {i}" for i in range(20))
STEPS = {  # in this order, and what people read
    "make canonical": "write the canonical form",
    "load canonical": "load it",
    "doctor canonical": "doctor, with every picture opened, and its page",
    "evaluate voc": "VOC's mAP, three detections to a box",
    "write coco": "write COCO",
    "import coco": "import COCO",
    "write yolo": "write YOLO",
    "import yolo": "import YOLO",
    "write voc": "write VOC",
    "import voc": "import VOC",
}


def made(folder: Path, pictures: int, boxes: int) -> Dataset:
    """Boxes anywhere in pictures of 160 x 120; the pictures are written below `folder`."""
    rng = np.random.default_rng(0)
    (folder / "base").mkdir(parents=True)
    for i in range(100):
        noise = rng.integers(256, size=(120, 160, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "base" / f"{i}.jpg"), cv2.GaussianBlur(noise, (0, 0), 9))
    files = [f"{i // 1000:03d}/{i:06d}.jpg" for i in range(pictures)]
    for i, name in enumerate(files):
        if i % 1000 == 0:
            (folder / name).parent.mkdir()
        os.link(folder / "base" / f"{i % 100}.jpg", folder / name)
    corners = np.sort(rng.uniform(0, 1, (boxes, 2, 2)), axis=1).reshape(boxes, 4) * (160, 120, 160, 120)
    boxes_px = np.round(corners, 2).astype(np.float32)
    boxes_px[:, 2:] = np.maximum(boxes_px[:, 2:], boxes_px[:, :2] + np.float32(0.01))  # each has an area
    owners = np.sort(rng.integers(pictures, size=boxes))
    return Dataset(
        root=folder,
        classes=CLASSES,
        files=files,
        image_ids=np.arange(1, pictures + 1),
        sizes=np.tile(np.array([[160, 120]], np.int32), (pictures, 1)),
        splits=np.where(np.arange(pictures) % 5, "train", "val"),
        starts=np.searchsorted(owners, np.arange(pictures + 1)).astype(np.int64),
        box_ids=np.arange(1, boxes + 1),
        boxes=boxes_px,
        labels=rng.integers(len(CLASSES), size=boxes).astype(np.int32),
        crowd=np.zeros(boxes, np.bool_),
        ignore=rng.random(boxes) < 0.1,
    )


def step(action: str, folder: Path, pictures: int, boxes: int) -> int:
    """One step; returns the number of boxes it went through."""
    kind, _, name = action.partition(" ")
    if kind == "start":
        return 0
    if kind == "make":
        return len(save(made(folder / "pictures", pictures, boxes), folder / "made").labels)
    if kind == "load":
        return len(load(folder / "made").labels)
    if kind == "doctor":
        dataset = load(folder / "made")
        report = doctor.examine(dataset)
        doctor.write_page(dataset, report, folder / "faults.html")
        return report.boxes
    if kind == "evaluate":
        truth = Truth.from_dataset(load(folder / "made"))
        voc(truth, near(truth, seed=0))
        return len(truth.labels)
    if kind == "write":
        dataset = load(folder / "made")
        registry.write(dataset, folder / name, name)
        return len(dataset.labels)
    return len(importing.import_dataset(folder / name, folder / f"from-{name}").labels)


def measured(action: str, folder: Path, pictures: int, boxes: int) -> dict[str, float]:
    """Seconds and peak memory of a step, taken inside its own process."""
    start = time.perf_counter()
    count = step(action, folder, pictures, boxes)
    seconds = time.perf_counter() - start
    return {"boxes": count, "seconds": round(seconds, 1), "peak_mb": peak_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--boxes", type=int, default=1_000_000)
    parser.add_argument("--result", type=Path, default=RESULTS / "data_scale.json")
    wanted = parser.parse_args()
    steps = {}
    with tempfile.TemporaryDirectory() as folder:
        for action in ("start", *STEPS):
            steps[action] = alone(measured, action, Path(folder), wanted.pictures, wanted.boxes)
            print(action, steps[action], file=sys.stderr, flush=True)
            assert action == "start" or steps[action]["boxes"] == wanted.boxes
    size = f"--pictures {wanted.pictures} --boxes {wanted.boxes}"
    result = {
        "command": f"python -m tests.benchmarks.data_scale {size}",
        "pictures": wanted.pictures,
        "boxes": wanted.boxes,
        "peak_mb": max(values["peak_mb"] for values in steps.values()),
        "steps": steps,
        "environment": environment(),
    }
    with whole_file(wanted.result) as file:
        file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"peak_mb": result["peak_mb"], "result": str(wanted.result)}))


if __name__ == "__main__":
    main()
