"""Our NCNN files of yoloface-500k-v1 and nano-coco against the seed's own, in one process and in turns.

Speed: (a) up to the raw head maps, (b) from the input to boxes through ncnn's Yolov3DetectionOutput, with 1
and 2 threads; the seed's file opened a second time is the control. Boxes: nano-coco's widths and heights per
head, against torch. Run on a quiet machine, with TOOLKIT_ZOO set: python -m tests.benchmarks.ncnn_seed
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from tests.benchmarks.record import options, ratio, spread, write
from toolkit.boxes import iou, nms
from toolkit.export.ncnn import detection_param
from toolkit.export.parity import probe_input
from toolkit.export.write import export_model
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.models import create_model
from toolkit.models.decode import decode
from toolkit.models.detector import Detector
from toolkit.models.io import ModelIO
from toolkit.models.published import fetch, published_files
from toolkit.pictures import load_image
from toolkit.samples import photographs
from toolkit.stopwatch import interleave

LIMIT = 1.02
WIDEST = 0.05  # an interval wider than this says nothing: the machine was busy or the run too short
THREADS = (1, 2)
SEED_FILES = {"yoloface-500k-v1": "yoloface-500k", "nano-coco": "nano-coco"}
REOPENED = 4  # each comparison opens the files afresh so often: where memory happens to lie matters too


@dataclass(frozen=True)
class File:
    """A network on disk: its .param text, its .bin, its input and head blobs (coarsest first), its boxes."""

    param: str
    binary: Path
    input: str
    maps: tuple[str, ...]
    boxes: str

    def open(self, threads: int) -> ncnn.Net:
        net = ncnn.Net()
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        assert net.load_param_mem(self.param) == 0
        assert net.load_model(str(self.binary)) == 0
        return net

    def run(self, net: ncnn.Net, chw: np.ndarray, blobs: tuple[str, ...]) -> list[np.ndarray]:
        extractor = net.create_extractor()
        extractor.input(self.input, ncnn.Mat(chw))
        found = [extractor.extract(blob)[1] for blob in blobs]
        return [np.zeros((0, 6), np.float32) if mat.empty() else np.array(mat) for mat in found]


def seed_file(name: str) -> File:
    """The seed's own; its last layer names its inputs, which are the raw head maps."""
    stem = f"{name}/ncnn/{SEED_FILES[name]}"
    param = fetch(f"{stem}.param").read_text()
    kind, _, count, _, *rest = param.split("\n")[-1 if param[-1] != "\n" else -2].split()
    assert kind == "Yolov3DetectionOutput"
    maps, boxes = tuple(rest[: int(count)]), rest[int(count)]
    return File(param, fetch(f"{stem}.bin"), "data", maps, boxes)


def our_file(folder: Path, io: ModelIO, conf: float) -> File:
    """Ours, its boxes cut at the seed's own threshold so that both hand on as many."""
    raw = folder / "model-fp32.param"
    maps = tuple(f"out{i}" for i in range(len(io.heads)))
    param = detection_param(raw.read_text(), io, conf)
    return File(param, raw.with_suffix(".bin"), "in0", maps, "detections")


def threshold(file: File) -> float:
    line = next(line for line in file.param.splitlines() if line.startswith("Yolov3DetectionOutput"))
    return float(next(word for word in line.split() if word.startswith("2=")).removeprefix("2="))


def time_pair(
    ours: File, seeds: File, chw: np.ndarray, part: str, threads: int, seconds: float, seed: int
) -> dict[str, Any]:
    rows: dict[str, list[np.ndarray]] = {"ours": [], "seed": [], "seed_again": []}
    for opening in range(REOPENED):
        files = {"ours": ours, "seed": seeds, "seed_again": seeds}
        names = list(files) if opening % 2 else list(files)[::-1]
        calls = {}
        for name in names:
            file = files[name]
            blobs = file.maps if part == "maps" else (file.boxes,)
            calls[name] = partial(file.run, file.open(threads), chw, blobs)
        for name, times in interleave(calls, seconds / REOPENED, seed=seed + opening).items():
            rows[name].append(times)
    times = {name: np.concatenate(parts) for name, parts in rows.items()}
    found = ratio(times["ours"], times["seed"])
    return {
        "part": part,
        "threads": threads,
        "rounds": len(times["ours"]),
        "ours": spread(times["ours"]),
        "seed": spread(times["seed"]),
        "ours_to_seed": found,
        "seed_to_itself": ratio(times["seed_again"], times["seed"]),
        "passed": found["low"] <= LIMIT and found["high"] - found["low"] <= WIDEST,
    }


def symmetric_pools(file: File) -> File:
    """The seed's file with its stride-1 pools padded on all sides, as the network was trained; it pads right
    and bottom only, which moves every feature behind them."""
    lines = []
    for line in file.param.splitlines():
        if line.startswith("Pooling"):
            (size,) = (int(word[2:]) for word in line.split() if word.startswith("1="))
            words = [word for word in line.split() if not word.startswith(("14=", "15="))]
            line = " ".join([*words, f"3={size // 2}"])
        lines.append(line)
    return replace(file, param="\n".join(lines) + "\n")


def suppressed(maps: list[np.ndarray], io: ModelIO) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (K, 4) relative to the input, their classes (K,) and heads (K,), decoded as darknet does."""
    parts = [
        decode([m[None] if m.ndim == 3 else m], replace(io, heads=(head,)), 0.2)[0]
        for m, head in zip(maps, io.heads, strict=True)
    ]
    boxes = np.concatenate([part.boxes_norm for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    classes = np.concatenate([part.class_ids for part in parts])
    heads = np.concatenate([np.full(len(part.scores), i) for i, part in enumerate(parts)])
    keep = nms(boxes, scores, classes, 0.45)
    return boxes[keep], classes[keep], heads[keep]


def box_sizes(ours: File, seeds: File, model: Detector) -> dict[str, Any]:
    """Per head, the median width and height of boxes against torch's box of the same object."""
    sources = {
        "ours": ours,
        "seed": seeds,
        "seed_with_symmetric_pools": symmetric_pools(seeds),
    }
    nets = {name: file.open(1) for name, file in sources.items()}
    ratios: dict[str, list[list[np.ndarray]]] = {
        name: [[] for _ in model.io.heads] for name in (*sources, "ours_from_maps")
    }
    for picture in pictures():
        chw = preprocess(picture, model.io, DetectSettings())[0]
        wanted, classes, heads = suppressed(model.predict(chw[None]), model.io)
        found = {}
        for name, file in sources.items():
            (rows,) = file.run(nets[name], chw, (file.boxes,))
            found[name] = rows[:, 2:], rows[:, 0].astype(int) - 1  # label from 1, score, xyxy
        found["ours_from_maps"] = suppressed(ours.run(nets["ours"], chw, ours.maps), model.io)[:2]
        for name, (boxes, labels) in found.items():
            overlap = iou(boxes, wanted) * (labels[:, None] == classes)
            for i, j in enumerate(overlap.argmax(axis=1) if wanted.size else []):
                if overlap[i, j] >= 0.5:
                    sides = [box[2:] - box[:2] for box in (boxes[i], wanted[j])]
                    ratios[name][heads[j]].append(sides[0] / sides[1])
    return {
        name: {
            f"stride {head.stride}": {
                "boxes": len(rows),
                "width": round(float(np.median([row[0] for row in rows])), 4),
                "height": round(float(np.median([row[1] for row in rows])), 4),
            }
            for head, rows in zip(model.io.heads, per_head, strict=True)
        }
        for name, per_head in ratios.items()
    }


def pictures() -> Iterator[np.ndarray]:
    yield from photographs().values()
    for file in published_files():
        if file.startswith("images/"):
            yield load_image(fetch(file))


def main() -> None:
    given = options("ncnn_seed", __doc__.splitlines()[0], "seconds", 15)
    speed: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for name in SEED_FILES:
            model = create_model(name, "published")
            export_model(model, Path(work) / name, ("ncnn",), name=name)
            seeds = seed_file(name)
            ours = our_file(Path(work) / name, model.io, threshold(seeds))
            chw = probe_input(model.io)[0]
            speed[name] = [
                time_pair(ours, seeds, chw, part, threads, given.seconds, given.seed)
                for part in ("maps", "boxes")
                for threads in THREADS
            ]
        sizes = box_sizes(ours, seeds, model)
    figures = {
        "limit": LIMIT,
        "widest_interval": WIDEST,
        "speed": speed,
        "speed_passed": all(row["passed"] for rows in speed.values() for row in rows),
        "nano_coco_box_size_against_torch": sizes,
        "sizes_passed": all(
            abs(head[side] - 1) < 0.001
            for name in ("ours", "ours_from_maps")
            for head in sizes[name].values()
            for side in ("width", "height")
        ),
    }
    write("ncnn_seed", given, ["ncnn", "pnnx"], figures)


if __name__ == "__main__":
    main()
