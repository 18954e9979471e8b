"""Scores of networks of the zoo whose published protocol cannot be repeated here: those of objects on VOC2012
pictures, yoloface-50k on WIDER FACE val.

python -m tests.benchmarks.zoo_scores        (ten minutes; needs TOOLKIT_ZOO and TOOLKIT_DATA)

Lite and SPP are missing: their weights could not be downloaded from the seed's repository here.
"""

from typing import Any

from tests.benchmarks.record import options, write
from toolkit.data.catalog import load
from toolkit.evaluation import widerface
from toolkit.evaluation.average_precision import darknet
from toolkit.evaluation.columns import Truth
from toolkit.evaluation.score import in_originals, predict, wider_truth
from toolkit.inference.backend import DetectSettings
from toolkit.models import create_model


def objects() -> dict[str, float]:
    """darknet's mAP50 in points over the 20 classes of VOC, 1,200 pictures, difficult objects left out."""
    dataset = load("voc2012_sub1200")
    truth = Truth.from_dataset(dataset)
    settings = DetectSettings(conf=0.005, resize="darknet", clip=False)
    figures = {}
    for name in ("nano-voc", "fastest-v1", "fastest-v2", "nano-coco"):
        found = predict(create_model(name, "published"), dataset, settings)
        figures[name] = round(100 * darknet(truth, found, difficult="dropped").as_dict()["map50"], 3)
        print(name, figures[name], flush=True)
    return figures


def faces() -> dict[str, dict[str, float]]:
    """The official protocol on all reduced pictures of WIDER FACE val, stretched to the network input."""
    dataset = load("widerface_val")
    found = in_originals(predict(create_model("yoloface-50k", "published"), dataset), dataset)
    scores = widerface.evaluate(wider_truth("widerface_val", dataset), found).as_dict()
    return {"yoloface-50k": {level: round(scores[level], 5) for level in ("easy", "medium", "hard")}}


if __name__ == "__main__":
    given = options("zoo_scores", __doc__ or "", "rounds", 1)
    figures: dict[str, Any] = {"voc2012_sub1200": objects(), "widerface_val": faces()}
    write("zoo_scores", given, [], figures)
