"""What evaluation costs beside the bare network: files to detections against forward passes alone.

python -m tests.benchmarks.pipeline        (six minutes; needs TOOLKIT_ZOO and TOOLKIT_DATA)
"""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from tests.benchmarks.record import options, write
from toolkit.data.catalog import load
from toolkit.evaluation.score import PUBLISHED, predict
from toolkit.inference.preprocess import preprocess
from toolkit.models import create_model
from toolkit.pictures import load_image


def overhead(rounds: int) -> dict[str, Any]:
    """Files to detections against the bare network on tensors in memory: every picture once, in turn.

    The network alone runs with all cores on one batch, and with a batch on each core; the ratio is against
    the faster of the two.
    """
    model = create_model("yoloface-500k-v2", "published")
    dataset = load("widerface_val")
    n, cores = len(dataset), torch.get_num_threads()
    pixels = np.empty((256, *model.io.input_size[::-1], 3), np.float32)
    for i, out in enumerate(pixels):
        preprocess(load_image(dataset.path(i)), model.io, out=out)
    x = pixels.transpose(0, 3, 1, 2)
    figures = {}
    for batch in (8, 32):
        batches = [x[i % len(x) : i % len(x) + batch] for i in range(0, n, batch)]
        seconds: dict[str, list[float]] = {"bare": [], "bare_core_each": [], "whole": []}
        for _ in range(rounds):
            begin = time.perf_counter()
            for part in batches:
                model.predict(part)
            seconds["bare"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                deque(pool.map(model.predict, batches), maxlen=0)
            torch.set_num_threads(cores)
            seconds["bare_core_each"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            predict(model, dataset, PUBLISHED, batch)
            seconds["whole"].append(time.perf_counter() - begin)
        rates = {name: round(n / float(np.median(times)), 1) for name, times in seconds.items()}
        best = max(rates["bare"], rates["bare_core_each"])
        figures[f"batch {batch}"] = {
            **{f"{name}_pictures_per_second": rate for name, rate in rates.items()},
            "ratio": round(rates["whole"] / best, 3),
        }
        print(batch, figures[f"batch {batch}"], flush=True)
    return figures


if __name__ == "__main__":
    given = options("pipeline", __doc__ or "", "rounds", 3)
    write("pipeline", given, [], {"yoloface-500k-v2": overhead(given.rounds)})
