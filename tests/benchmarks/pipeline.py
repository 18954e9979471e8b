"""What evaluation costs beside the bare network: files to detections against forward passes alone.

python -m tests.benchmarks.pipeline        (three minutes; needs TOOLKIT_ZOO and TOOLKIT_DATA)
"""

import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from tests.benchmarks.record import options, ratio, write
from toolkit.data.catalog import load
from toolkit.evaluation.score import PUBLISHED
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
from toolkit.models import create_model
from toolkit.pictures import load_image
from toolkit.runtime import keep_freed_memory
from toolkit.stopwatch import interleave

IN_MEMORY = 256  # inputs that the bare network goes round


def overhead(pictures: int, rounds: int, seed: int) -> dict[str, Any]:
    """Files to detections against the bare network on tensors in memory: every picture once, in turn.

    The network alone runs with all cores on one batch, and with a batch on each core; the ratio is against
    the faster of the two. Both sides keep freed memory, as `run` does.
    """
    keep_freed_memory()
    model = create_model("yoloface-500k-v2", "published").eval()
    dataset, cores = load("widerface_val"), torch.get_num_threads()
    paths = [dataset.path(int(i)) for i in np.linspace(0, len(dataset) - 1, pictures)]
    pixels = np.empty((min(IN_MEMORY, pictures), *model.io.input_size[::-1], 3), np.float32)
    for path, out in zip(paths, pixels, strict=False):
        preprocess(load_image(path), model.io, out=out)
    x = pixels.transpose(0, 3, 1, 2)
    figures = {}
    for batch in (8, 32):
        batches = [x[i % len(x) : i % len(x) + batch] for i in range(0, pictures, batch)]

        def all_cores(batches: list[np.ndarray] = batches) -> None:
            deque(map(model.predict, batches), maxlen=0)

        def core_each(batches: list[np.ndarray] = batches) -> None:
            with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                deque(pool.map(model.predict, batches), maxlen=0)
            torch.set_num_threads(cores)

        def whole(batch: int = batch) -> None:
            deque(run(model, paths, PUBLISHED, batch), maxlen=0)

        calls = {"bare": all_cores, "bare_core_each": core_each, "whole": whole}
        times = interleave(calls, rounds=rounds, warmup=0, seed=seed)
        best = min(("bare", "bare_core_each"), key=lambda name: float(np.median(times[name])))
        by_bare = ratio(times[best], times["whole"])  # of pictures a second
        figures[f"batch {batch}"] = {
            **{
                f"{name}_pictures_per_second": round(1e3 * pictures / float(np.median(row)), 1)
                for name, row in times.items()
            },
            "ratio": round(by_bare["median"], 3),
            "interval": [by_bare["low"], by_bare["high"]],
        }
        print(batch, figures[f"batch {batch}"], file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    given = options("pipeline", __doc__ or "", "rounds", 7, pictures=768)
    write("pipeline", given, [], {"yoloface-500k-v2": overhead(given.pictures, given.rounds, given.seed)})
