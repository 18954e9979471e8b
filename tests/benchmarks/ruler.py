"""Face detectors on one ruler: WIDER FACE's easy, medium and hard against multiply-adds, each network at
several input sizes, on the test part of our split. The seed's networks, those of other projects, and others.

python -m tests.benchmarks.ruler --peers FOLDER --cache FOLDER [--ours NAME=PATH ...]

An hour on one core; what is in the cache is not run again. Needs TOOLKIT_ZOO and TOOLKIT_DATA; the
files of `--peers` are listed in tests/benchmarks/face_peers.py.
"""

import hashlib
import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch

from tests.benchmarks.face_peers import CONF, FITS, IOU, PEERS, PeerDetector, missing, onnx_cost
from tests.benchmarks.record import RESULTS, write
from tests.benchmarks.tables import RULER, by_network
from tests.benchmarks.training import wider_split
from toolkit import viz
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.evaluation import widerface
from toolkit.evaluation.columns import Detections
from toolkit.evaluation.score import PUBLISHED, in_originals, wider_truth
from toolkit.files import whole_file
from toolkit.inference.run import run
from toolkit.models import create_model
from toolkit.models.cost import measure
from toolkit.models.network import fold
from toolkit.networks import open_model
from toolkit.pictures import load_image
from toolkit.runtime import InputError, progress

MODULE = "ruler"
BATCH = 8
GRID = 8  # of cached boxes: parts of a pixel
Size = tuple[int, int]
SIZES: tuple[Size, ...] = ((160, 128), (192, 160), (256, 192), (320, 256), (352, 288), (448, 352), (640, 480))
SEED = "yoloface-100k", "yoloface-500k-v1", "yoloface-500k-se", "yoloface-500k-v2"
OWN = ("yoloface-100k-v2",)  # whose weights come with this project
SEED_SOURCE = "dog-qiuqiu/MobileNetv2-YOLOV3"
# On all 3,226 pictures: the scores of an independent implementation on the same pictures, or on the
# originals, whose small faces are sharper.
KNOWN: dict[tuple[str, Size, str], tuple[str, tuple[float, float, float]]] = {
    ("yoloface-500k-v2", (352, 288), "stretch"): ("the same pictures", (0.7632, 0.7202, 0.4462)),
    ("yoloface-500k-v1", (320, 256), "stretch"): ("the same pictures", (0.7286, 0.6844, 0.4311)),
    ("RFB-320", (320, 240), "stretch"): ("originals, as published", (0.787, 0.698, 0.438)),
    ("YuNet_n", (320, 320), "stretch"): ("originals", (0.8115, 0.7329, 0.4315)),
    ("YuNet_s", (320, 320), "stretch"): ("originals", (0.7502, 0.6597, 0.3353)),
}


class Entrant(Protocol):
    """A network that is measured."""

    name: str
    conf: float  # threshold
    fit: str  # its own
    own_size: Size
    stride: int
    fingerprint: str  # of its weights
    facts: Mapping[str, str]  # family, licence, source

    def cost(self, size: Size) -> tuple[int, int]:
        """Multiply-adds and parameters."""
        ...

    def detect(self, dataset: Dataset, size: Size, fit: str) -> Detections:
        """Boxes in pixels of the pictures."""
        ...


class Ours:
    """A network of this package."""

    def __init__(self, name: str, path: str = "") -> None:
        self.name, self.conf = name, CONF
        self.model: Any = open_model(path) if path else create_model(name, "published")
        io = self.model.io
        if len(io.classes) != 1:
            raise InputError(f"{path} is not a face detector: it has {len(io.classes)} classes")
        self.fit, self.own_size, self.stride = io.fit, io.input_size, io.stride
        if path or name in OWN:
            self.facts = {"family": "ours", "licence": "research", "source": "this project"}
        else:
            self.facts = {"family": "seed", "licence": "public domain", "source": SEED_SOURCE}
        digest = hashlib.sha256()
        if isinstance(self.model, torch.nn.Module):
            for key, value in self.model.state_dict().items():
                digest.update(key.encode() + value.numpy().tobytes())
        else:
            self.file = next(Path(path.rpartition(":")[0]).glob("*.onnx"))
            digest.update(self.file.read_bytes())
        self.fingerprint = digest.hexdigest()

    def cost(self, size: Size) -> tuple[int, int]:
        if isinstance(self.model, torch.nn.Module):
            params = sum(parameter.numel() for parameter in fold(self.model).parameters())
            return measure(self.model, size).macs, params
        return onnx_cost(onnx.load(self.file), size)

    def detect(self, dataset: Dataset, size: Size, fit: str) -> Detections:
        settings = replace(PUBLISHED, conf=CONF, iou=IOU, size=size, fit=fit)
        paths = progress([dataset.path(i) for i in range(len(dataset))], f"{self.name} {label(size)} {fit}")
        boxes = run(self.model, paths, settings, BATCH)  # its one class may be called Face
        return Detections.from_pictures((b.boxes, b.scores, b.class_ids) for b in boxes)


class Theirs:
    """A network of another project."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.detector = PeerDetector(name, folder)
        peer = self.detector.peer
        self.fit, self.own_size, self.stride = peer.fit, peer.own_size, peer.stride
        self.fingerprint = peer.sha256
        family = name.partition("-")[0].partition("_")[0]
        self.facts = {"family": family, "licence": peer.licence, "source": peer.source}
        self.conf = peer.conf

    def cost(self, size: Size) -> tuple[int, int]:
        return onnx_cost(self.detector.model, size)

    def detect(self, dataset: Dataset, size: Size, fit: str) -> Detections:
        paths = progress([dataset.path(i) for i in range(len(dataset))], f"{self.name} {label(size)} {fit}")
        boxes = [self.detector.find(load_image(path), size, fit) for path in paths]
        return Detections.from_pictures((b.boxes, b.scores, b.class_ids) for b in boxes)


@dataclass(frozen=True)
class Cache:
    """Detections of every run, a file each: `images` (k,) index among the pictures of the part, `boxes`
    (k, 4) xyxy in eighths of a pixel of the original picture, `scores` (k,); and the number of `pictures`.
    """

    folder: Path
    force: bool = False
    closed: bool = False  # nothing is added

    def path(self, key: str) -> Path:
        return self.folder / f"{key.replace(' ', '_')}.npz"

    def read(self, key: str, fingerprint: str, pictures: int) -> Detections | None:
        if self.force or not self.path(key).is_file():
            return None
        with np.load(self.path(key)) as file:
            if str(file["fingerprint"]) != fingerprint or int(file["pictures"]) != pictures:
                return None
            images = file["images"].astype(np.int64)
            boxes = file["boxes"].astype(np.float32) / GRID
            return Detections(images, boxes, file["scores"], np.zeros(len(images), np.int64))

    def keep(self, key: str, fingerprint: str, pictures: int, detections: Detections) -> Detections:
        """The detections as they will be read."""
        limits = np.iinfo(np.int16)
        boxes = np.clip(np.round(detections.boxes * GRID), limits.min, limits.max).astype(np.int16)
        with whole_file(self.path(key)) as temporary:
            np.savez_compressed(
                temporary,
                fingerprint=fingerprint,
                pictures=pictures,
                images=detections.images.astype(np.uint16),
                boxes=boxes,
                scores=detections.scores.astype(np.float32),
            )
        return replace(detections, boxes=boxes.astype(np.float32) / GRID)


def label(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def path_of(text: str) -> str:
    """What `open_model` takes: the .cfg next to a .weights, the exported folder of an .onnx."""
    path = Path(text)
    if path.suffix == ".weights":
        return str(path.with_suffix(".cfg"))
    return f"{path.parent}:onnx" if path.suffix == ".onnx" else text


def entrants(peers: Path | None, ours: list[str]) -> Iterator[Entrant]:
    absent = missing(peers or Path("FOLDER"))
    for fault in absent.values():
        print(f"left out: {fault}", file=sys.stderr)
    if peers is not None:
        yield from (Theirs(name, peers) for name in PEERS if name not in absent)
    yield from (Ours(name) for name in (*SEED, *OWN))
    for text in ours:
        name, _, path = text.partition("=")
        if not path:
            raise InputError(f"--ours takes NAME=PATH, not {text!r}")
        yield Ours(name, path_of(path))


@cache
def pictures(part: str) -> tuple[Dataset, widerface.WiderTruth]:
    """Those of "test", or "all"."""
    dataset = load("widerface_val") if part == "all" else wider_split()[1]
    return dataset, wider_truth("widerface_val", dataset)


def score(entrant: Entrant, part: str, size: Size, fit: str, kept: Cache) -> dict[str, Any] | None:
    """Easy, medium and hard, and how many detections there were; None where that would have to be run and the
    cache is closed."""
    dataset, truth = pictures(part)
    key = f"{part} {entrant.name} {label(size)} {fit}"
    detections = kept.read(key, entrant.fingerprint, len(dataset))
    if detections is None and kept.closed:
        return None
    if detections is None:
        begin = time.monotonic()
        detections = in_originals(entrant.detect(dataset, size, fit), dataset)
        detections = kept.keep(key, entrant.fingerprint, len(dataset), detections)
        print(f"{key}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    scores = widerface.evaluate(truth, detections)
    levels = {level: round(getattr(scores, level), 4) for level in widerface.SETTINGS}
    print(key, levels, file=sys.stderr, flush=True)
    return {**levels, "detections": len(detections)}


def sizes_of(entrant: Entrant) -> list[Size]:
    """`SIZES` and its own, where its strides allow them; its own alone where the file has one size."""
    if isinstance(entrant, Ours) and not isinstance(entrant.model, torch.nn.Module):
        return [entrant.own_size]
    fitting = (size for size in {*SIZES, entrant.own_size} if not any(side % entrant.stride for side in size))
    return sorted(fitting, key=lambda size: size[0] * size[1])


def draw() -> None:
    """The picture of docs/pages/ruler.md, from the results. Letterboxed squares are in the table alone."""
    kept = {
        name: [r for r in rows if r["fit"] == "stretch" or r["input"][0] != r["input"][1]]
        for name, rows in by_network().items()
    }
    panels = {
        level: {name: ([r["mmac"] for r in rows], [r[level] for r in rows]) for name, rows in kept.items()}
        for level in widerface.SETTINGS
    }
    groups = {name: rows[0]["family"] for name, rows in kept.items()}
    xlabel = "million multiply-adds (MMAC)"
    viz.tradeoffs(panels, xlabel, "average precision", groups).savefig(RULER.with_suffix(".png"))


def main() -> None:
    parser = ArgumentParser(prog=f"python -m tests.benchmarks.{MODULE}", description=__doc__)
    parser.add_argument("--peers", type=Path, help="folder with the files of face_peers.PEERS")
    parser.add_argument(
        "--ours", nargs="*", default=[], metavar="NAME=PATH", help=".cfg, .weights, .onnx, .pt"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder for the detections of every run")
    parser.add_argument("--only", nargs="*", default=[], help="names of the networks to run")
    parser.add_argument("--cached", action="store_true", help="score what is in the cache, run nothing")
    parser.add_argument("--force", action="store_true", help="run again what is in the cache")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / f"{MODULE}.json")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    kept = Cache(given.cache, given.force, given.cached)
    torch.set_num_threads(1)
    chosen = [e for e in entrants(given.peers, given.ours) if not given.only or e.name in given.only]
    old = json.loads(given.result.read_text()) if given.result.is_file() else {}
    known, rows = old.get("known scores", {}), old.get("rows", {})
    for own in (True, False):  # everybody's own fit first
        for entrant in chosen:
            for size in sizes_of(entrant):
                for fit in (fit for fit in FITS if (fit == entrant.fit) == own):
                    if scores := score(entrant, "test", size, fit, kept):
                        macs, params = entrant.cost(size)
                        rows[f"{entrant.name} {label(size)} {fit}"] = {
                            "network": entrant.name,
                            "input": size,
                            "fit": fit,
                            "own_fit": own,
                            "conf": entrant.conf,
                            "mmac": round(macs / 1e6, 2),
                            "params": params,
                            **scores,
                            **entrant.facts,
                        }
    for entrant in chosen:
        for (name, size, fit), (where, levels) in KNOWN.items():
            if name == entrant.name and (scores := score(entrant, "all", size, fit, kept)):
                expected = dict(zip(widerface.SETTINGS, levels, strict=True))
                known[f"{name} {label(size)} {fit}"] = {"found": scores, "known": expected, "known on": where}
    figures = {
        "pictures": len(pictures("test")[0]),
        "nms_iou": IOU,
        "known scores": known,
        "rows": rows,
    }
    # folders are places of this machine
    folders = {str(given.peers): "FOLDER", str(given.cache): "FOLDER"}
    left_out = ("--cached", "--result", str(given.result))
    words = (folders.get(word, word) for word in sys.argv[1:] if word not in left_out)
    sys.argv[1:] = ["=".join((w.partition("=")[0], Path(w).name)) if "=" in w else w for w in words]
    write(MODULE, given, ["onnxruntime"], figures)
    if given.result == RESULTS / f"{MODULE}.json":
        draw()


if __name__ == "__main__":
    main()
