"""NCNN int8 against float32: scores, float layers, sizes and time, with the default settings.

python -m tests.benchmarks.int8        (half an hour on one core; needs TOOLKIT_ZOO and TOOLKIT_DATA)
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import toolkit.export.ncnn
from tests.benchmarks.record import options, ratio, spread, write
from tests.benchmarks.training import wider_split
from toolkit.data.dataset import Dataset, load
from toolkit.demo import untrained
from toolkit.detect import Backend, Settings
from toolkit.evaluation import PUBLISHED, in_originals, predict, wider_truth, widerface
from toolkit.evaluation.detection import Truth, darknet
from toolkit.export.int8 import calibration_inputs, quantize
from toolkit.export.ncnn import NcnnModel
from toolkit.models import create_model, list_models
from toolkit.models.detector import fold
from toolkit.models.zoo import published_files

SCORED = ("yoloface-500k-v2", "yoloface-500k-v1", "fastest-v2", "fastest-v1", "nano-voc")
PICTURES = 200


def faces() -> tuple[Dataset, Callable[[Backend], dict[str, float]]]:
    """Pictures to calibrate on, and easy, medium and hard on our test split."""
    training, test = wider_split()
    truth = wider_truth("widerface_val", test)

    def score(model: Backend) -> dict[str, float]:
        found = widerface.evaluate(truth, in_originals(predict(model, test, PUBLISHED), test))
        return {name: round(getattr(found, name), 4) for name in widerface.SETTINGS}

    return training, score


def voc() -> tuple[Dataset, Callable[[Backend], dict[str, float]]]:
    """The same with darknet's mAP50 in points on the test split."""
    dataset = load("voc2012_sub1200")
    test = dataset.split("test")
    truth = Truth.from_dataset(test)
    settings = Settings(conf=0.005, resize="darknet", clip=False)

    def score(model: Backend) -> dict[str, float]:
        found = darknet(truth, predict(model, test, settings), difficult="dropped")
        return {"map50": round(100 * found.as_dict()["map50"], 3)}

    return dataset.split("train"), score


def latency(first: NcnnModel, second: NcnnModel, rounds: int) -> dict[str, Any]:
    """Both networks whole, one thread, in turns."""
    w, h = first.io.input_size
    x = np.full((1, 3, h, w), 0.5, np.float32)
    times = np.empty((2, rounds))
    for column in range(-2, rounds):
        for row, model in enumerate((first, second)):
            begin = time.perf_counter()
            model.predict(x)
            if column >= 0:  # the first two warm up
                times[row, column] = 1e3 * (time.perf_counter() - begin)
    return {"fp32": spread(times[0]), "int8": spread(times[1]), "int8 / fp32": ratio(times[1], times[0])}


def measure(name: str, parts: dict[str, Any], rounds: int, folder: Path) -> dict[str, Any]:
    published = f"{name}/{name}.weights" in published_files()
    model = create_model(name, "published") if published else untrained(name)
    param, binary = toolkit.export.ncnn.export(fold(model.eval()), folder, model.io.input_size, "fp32")
    training, score = parts["faces" if "face" in name else "voc"]
    paths = [training.path(i) for i in range(len(training))]
    samples = calibration_inputs(paths, model.io, PICTURES)
    begin, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = quantize(param, binary, model.io, samples, folder)
    seconds = time.perf_counter() - begin, time.process_time() - cpu
    both = (NcnnModel(param, model.io, "fp32", 1), NcnnModel(result.files[0], model.io, "int8", 1))
    figures: dict[str, Any] = {
        "published weights": published,
        "method": result.method,
        "float layers": list(result.float_layers),
        "layers": len(result.sensitivity),
        "output error": round(result.error, 4),
        "errors all int8": {key: round(value, 4) for key, value in result.errors.items()},
        "bytes": {"fp32": result.float_bytes, "int8": result.bytes},
        "size": round(result.bytes / result.float_bytes, 4),
        "seconds": round(seconds[0], 1),
        "cpu seconds": round(seconds[1], 1),
        "latency": latency(*both, rounds),
    }
    if name in SCORED:
        figures["score"] = {key: score(each) for key, each in zip(("fp32", "int8"), both, strict=True)}
    print(name, figures, file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    given = options("int8", __doc__ or "", "rounds", 50)
    torch.set_num_threads(1)
    parts = {"faces": faces(), "voc": voc()}
    figures = {}
    for name in list_models():
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = measure(name, parts, given.rounds, Path(folder))
    write("int8", given, ["ncnn", "pnnx"], figures)
