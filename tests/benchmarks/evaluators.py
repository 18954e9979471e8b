"""Our evaluators beside reference implementations on the same made detections: time, scores, memory.

COCO's reference is pycocotools. The other three are the official programs retold in plain Python by our tests
(tests/evaluation/retold.py), on a tenth of the pictures: they show that the scores are right and what loops
cost in Python, and say nothing about the speed of the originals in MATLAB and C.

python -m tests.benchmarks.evaluators        (three minutes)
"""

import sys
from collections.abc import Callable
from functools import partial
from operator import attrgetter

import numpy as np

from tests.benchmarks.record import alone, options, peak_mb, ratio, spread, write
from tests.evaluation.retold import darknet_ap, figures, pycocotools, voc_ap, wider_ap
from toolkit.evaluation import widerface
from toolkit.evaluation.average_precision import darknet, voc
from toolkit.evaluation.coco import coco
from toolkit.evaluation.columns import Detections, Truth
from toolkit.evaluation.widerface import SETTINGS, WiderTruth
from toolkit.stopwatch import interleave

TOLERANCE = 1e-9  # of scores in 0..1
CLASSES = 20
LIMITS = {"COCO": 1 / 3, "WIDER FACE": 0.01}  # times as long as the reference
RETOLD = "its loops retold"
Evaluator = Callable[[Truth, Detections], list[float]]


def made(pictures: int, seed: int) -> Truth:
    """Eight objects to a picture on whole pixels, a tenth difficult and one in fifty a crowd."""
    rng = np.random.default_rng(seed)
    m = 8 * pictures
    corner, size = rng.integers(0, 400, (m, 2)), rng.integers(8, 200, (m, 2))
    return Truth(
        tuple(f"class {c}" for c in range(CLASSES)),
        np.searchsorted(np.sort(rng.integers(pictures, size=m)), np.arange(pictures + 1)),
        np.hstack((corner, corner + size)).astype(np.float32),
        rng.integers(CLASSES, size=m).astype(np.int32),
        rng.random(m) < 0.02,
        rng.random(m) < 0.1,
    )


def near(truth: Truth, seed: int) -> Detections:
    """Three detections to an object, by chance more or fewer, up to .3 of its sides away on whole pixels; one
    in ten of another class."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(len(truth.labels), size=3 * len(truth.labels)))
    boxes, k = truth.boxes[rows], len(rows)
    away = rng.random((k, 1)) * rng.uniform(-0.3, 0.3, (k, 4)) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    other = rng.integers(len(truth.classes), size=k)
    return Detections(
        truth.images[rows],
        np.round(boxes + away).astype(np.float32),
        rng.random(k),
        np.where(rng.random(k) < 0.1, other, truth.labels[rows]).astype(np.int64),
    )


def faces(truth: Truth) -> WiderTruth:
    """Objects over 100 px high are easy faces, over 50 px medium ones, all hard ones; no difficult one is."""
    height = truth.boxes[:, 3] - truth.boxes[:, 1]
    counted = np.stack([(height > least) & ~truth.ignore for least in (100, 50, 0)])
    return WiderTruth(tuple(f"made/{i}.jpg" for i in range(len(truth))), truth.starts, truth.boxes, counted)


EVALUATORS: dict[str, tuple[str, Evaluator, Evaluator]] = {
    "COCO": (
        "pycocotools",
        lambda truth, found: figures(coco(truth, found, ignored="counted")),
        lambda truth, found: pycocotools(truth, found, "counted"),
    ),
    "VOC": (
        RETOLD,
        lambda truth, found: [c.ap for c in voc(truth, found).per_class],
        lambda truth, found: [voc_ap(truth, found, c, "area", "ignored", 0.0) for c in range(CLASSES)],
    ),
    "darknet": (
        RETOLD,
        lambda truth, found: np.nan_to_num(
            [c.ap for c in darknet(truth, found, difficult="counted").per_class]
        ).tolist(),
        lambda truth, found: darknet_ap(truth, found, 0, "counted")[1],
    ),
    "WIDER FACE": (
        RETOLD,
        lambda truth, found: list(attrgetter(*SETTINGS)(widerface.evaluate(faces(truth), found))),
        lambda truth, found: [wider_ap(faces(truth), found, s) for s in range(len(SETTINGS))],
    ),
}


def added_mb(protocol: str, which: int, pictures: int, seed: int) -> float:
    """What one evaluation by us (1) or by the reference (2) adds to the peak of a process that holds the
    imports and the columns."""
    truth = made(pictures, seed)
    found = near(truth, seed)
    before = peak_mb()
    EVALUATORS[protocol][which](truth, found)
    return round(peak_mb() - before, 1)


def main() -> None:
    given = options("evaluators", __doc__ or "", "rounds", 3, pictures=3000)
    rows = {}
    for protocol, (reference, *both) in EVALUATORS.items():
        share = 10 if reference == RETOLD else 1  # all of them would be a quarter of an hour of loops
        pictures = given.pictures // share
        truth = made(pictures, given.seed)
        found = near(truth, given.seed)
        ours, theirs = (call(truth, found) for call in both)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
        calls = {"ours": partial(both[0], truth, found), "theirs": partial(both[1], truth, found)}
        times = interleave(calls, rounds=given.rounds, warmup=0, seed=given.seed)
        print(protocol, {name: spread(values) for name, values in times.items()}, file=sys.stderr, flush=True)
        rows[protocol] = {
            "reference": reference,
            "pictures": pictures,
            "objects": len(truth.labels),
            "detections": len(found),
            "scores": len(ours),
            "largest difference": float(np.nanmax(np.abs(np.subtract(ours, theirs)))),
            **{name: spread(values) for name, values in times.items()},
            "ours by theirs": ratio(times["ours"], times["theirs"]),
            "limit": LIMITS.get(protocol),
            "added_mb": {
                name: alone(added_mb, protocol, which, pictures, given.seed)
                for which, name in enumerate(calls, start=1)
            },
        }
    write("evaluators", given, ["pycocotools", "faster-coco-eval"], rows)


if __name__ == "__main__":
    main()
