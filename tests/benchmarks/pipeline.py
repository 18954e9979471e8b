"""What evaluation costs beside the bare network: files to detections against forward passes alone.

python -m tests.benchmarks.pipeline        (three minutes; needs TOOLKIT_ZOO and TOOLKIT_DATA)
"""

import time
from typing import Any

import numpy as np

from tests.benchmarks.record import options, write
from toolkit.data.dataset import load
from toolkit.detect import load_image, preprocess
from toolkit.evaluation import PUBLISHED, predict
from toolkit.models import create_model


def overhead(rounds: int, pictures: int = 640) -> dict[str, Any]:
    """End to end (files to detections) against the bare network on tensors in memory, same batch, in turn."""
    model = create_model("yoloface-500k-v2", "published")
    dataset = load("widerface_val")
    dataset = dataset.subset(np.arange(0, len(dataset), len(dataset) // pictures)[:pictures])
    figures = {}
    x = np.stack([preprocess(load_image(dataset.path(i)), model.io)[0] for i in range(pictures)])
    for batch in (8, 32):
        bare, whole = [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            for i in range(0, pictures, batch):
                model.predict(x[i : i + batch])
            bare.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            predict(model, dataset, PUBLISHED, batch)
            whole.append(time.perf_counter() - begin)
        figures[f"batch {batch}"] = {
            "bare_pictures_per_second": round(pictures / float(np.median(bare)), 1),
            "whole_pictures_per_second": round(pictures / float(np.median(whole)), 1),
            "ratio": round(float(np.median(bare)) / float(np.median(whole)), 3),
        }
        print(batch, figures[f"batch {batch}"], flush=True)
    return figures


if __name__ == "__main__":
    given = options("pipeline", __doc__ or "", "rounds", 5)
    write("pipeline", given, [], {"yoloface-500k-v2": overhead(given.rounds)})
