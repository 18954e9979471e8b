"""MNN, LiteRT, onnxruntime and ncnn timed on this machine by their Python packages, in the stages of
the runner."""

from __future__ import annotations

from importlib.metadata import version
from time import perf_counter
from typing import Any

from toolkit.device.agreement import TimingJob
from toolkit.device.readings import Reading, read_reading
from toolkit.device.settings import Load
from toolkit.export.folder import Exported
from toolkit.export.registry import FORMATS
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import place
from toolkit.models.decode import Boxes, decode, suppress
from toolkit.models.network import finds_objects
from toolkit.pictures import Image
from toolkit.runtime import cpu_name

PACKAGES = {"onnx": "onnxruntime", "mnn": "MNN", "litert": "ai-edge-litert", "ncnn": "ncnn"}


def time_engine(job: TimingJob, image: Image, picture: str, threads: int, load: Load) -> Reading:
    """A reading of an exported detector, made here and in this process.

    Args:
        job: with a format of `settings.HERE_FORMATS` or `settings.RUNNER_FORMATS`.
        image: RGB (H, W, 3) uint8.
        picture: its name.
        threads: of the engine; the stages before and after it have one.
        load: how long.

    Raises:
        InputError: the engine is missing or refuses the file.
    """
    exported, row = Exported.read(job.folder), FORMATS[job.format]
    begin = perf_counter()
    network = exported.open(job.format, threads)
    load_ms = 1000 * (perf_counter() - begin)
    assert finds_objects(network)
    rules = DetectSettings(conf=job.conf, clip=False)

    def once() -> tuple[Boxes, list[float]]:
        times = [perf_counter()]
        x, placement = preprocess(image, network.io)
        times.append(perf_counter())
        maps = network.predict(x[None])
        times.append(perf_counter())
        (candidates,) = decode(maps, network.io, rules.conf)
        boxes = place(suppress(candidates, rules), placement, rules)
        return boxes, [*times, perf_counter()]

    for _ in range(load.warmup):
        once()
    boxes, times = once()
    rows = [times]
    while times[-1] - rows[0][0] < load.seconds if load.seconds else len(rows) < load.loops:
        boxes, times = once()
        rows.append(times)
    data: dict[str, Any] = {
        "schema": 1,
        "kind": "bench",
        "model": {
            "name": exported.name,
            "format": job.format,
            "sha256": exported.sha256(job.format),
        },
        "input": {"picture": picture, "width": image.shape[1], "height": image.shape[0]},
        "settings": {
            "threads": threads,
            "powersave": 0,
            "precision": row.precision,
            "conf": job.conf,
            "run_as": "package",
        },
        "runtime": {"engine": PACKAGES[row.engine], "version": version(PACKAGES[row.engine])},
        "cpu": {"name": cpu_name()},
        "load_ms": load_ms,
        "samples": {
            "start_ms": [1000 * (times[0] - rows[0][0]) for times in rows],
            **{
                f"{stage}_ms": [1000 * (times[i + 1] - times[i]) for times in rows]
                for i, stage in enumerate(("preprocess", "inference", "postprocess"))
            },
        },
        "detections": [
            {"class": job.classes[label], "score": float(score), "box": box.tolist()}
            for label, score, box in zip(boxes.class_ids, boxes.scores, boxes.boxes, strict=True)
        ],
    }
    return read_reading(data, f"the reading of {job.folder} ({job.format})")
