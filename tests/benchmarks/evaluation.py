"""The published networks on WIDER FACE and VOC pictures.

python -m tests.benchmarks.evaluation        (ten minutes; needs TOOLKIT_ZOO and TOOLKIT_DATA)
"""

import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from tests.benchmarks.record import options, write
from toolkit.data.catalog import load
from toolkit.evaluation import widerface
from toolkit.evaluation.average_precision import darknet
from toolkit.evaluation.columns import Truth
from toolkit.evaluation.score import in_originals, predict, wider_truth
from toolkit.export.folder import open_export
from toolkit.export.write import export_model
from toolkit.inference.backend import DetectSettings
from toolkit.models import create_model


def wider() -> dict[str, Any]:
    """Easy, medium, hard: torch and NCNN, stretched, bilinear; and end-to-end time against bare forwards."""
    dataset = load("widerface_val")
    truth = wider_truth("widerface_val", dataset)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("yoloface-500k-v2", "yoloface-500k-v1"):
            model = create_model(name, "published")
            export_model(model, Path(folder) / name, ["ncnn"])
            for engine, backend in (("torch", model), ("ncnn", open_export(Path(folder) / name))):
                begin = time.perf_counter()
                found = predict(backend, dataset)
                seconds = time.perf_counter() - begin
                scores = widerface.evaluate(truth, in_originals(found, dataset)).as_dict()
                figures[f"{name} {engine}"] = {
                    **{key: round(scores[key], 5) for key in ("easy", "medium", "hard")},
                    "pictures_per_second": round(len(dataset) / seconds, 1),
                }
                print(name, engine, figures[f"{name} {engine}"], flush=True)
    return figures


def voc() -> dict[str, float]:
    """darknet's mAP50 in points, all 1,200 pictures, difficult objects left out of the labels."""
    dataset = load("voc2012_sub1200")
    truth = Truth.from_dataset(dataset)
    figures = {}
    for name, nms in product(("nano-voc", "fastest-v2"), ("plain", "diou")):
        settings = DetectSettings(conf=0.005, nms=nms, resize="darknet", clip=False)
        found = predict(create_model(name, "published"), dataset, settings)
        figures[f"{name} {nms}"] = round(
            100 * darknet(truth, found, difficult="dropped").as_dict()["map50"], 3
        )
        print(name, nms, figures[f"{name} {nms}"], flush=True)
    return figures


if __name__ == "__main__":
    given = options("evaluation", __doc__ or "", "rounds", 5)
    write(
        "evaluation",
        given,
        ["ncnn"],
        {"widerface_val": wider(), "voc2012_sub1200": voc()},
    )
