"""The page of `toolkit package --web` in Chromium beside onnxruntime and ncnn on this machine, in one run;
and what its first visit loads.

python -m tests.benchmarks.browser
"""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.record import options, ratio, write
from toolkit import create_model
from toolkit.device.browser import BROWSERS, find_browser
from toolkit.device.serve import PageServer
from toolkit.device.settings import Load
from toolkit.device.timing import measure
from toolkit.export.write import export_model
from toolkit.files import temporary_folder
from toolkit.runtime import InputError

NETWORKS = ("yoloface-500k-v2", "nano-voc", "fastest-v2")
THREADS = (1, 2)
FORWARD, ALL = "forward", "forward and post-processing"


def rounds_of(folder: Path, rounds: int, load: Load) -> dict[str, dict[str, np.ndarray]]:
    """{"engine, threads": {stage: medians of each round, ms}}: the engines in turns, a process each."""
    medians: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        readings = measure([folder], ["local"], ["ncnn", "onnx"], THREADS, load=load)
        readings += measure([folder], ["browser"], threads=THREADS, load=load)
        for _, reading in readings:
            engine = "browser" if reading.settings.run_as == "browser" else reading.model.format
            stages = reading.samples.stages
            row = medians[f"{engine}, {reading.settings.threads} threads"]
            row[FORWARD].append(float(np.median(stages["inference"])))
            row[ALL].append(float(np.median(stages["inference"] + stages["postprocess"])))
            if engine == "browser" and not reading.parity["agrees"]:
                raise InputError(f"the browser finds other objects: {reading.parity}")
    return {name: {stage: np.array(v) for stage, v in row.items()} for name, row in medians.items()}


def compared(medians: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, row in medians.items():
        threads = name.partition(", ")[2]
        rows[name] = {f"{stage}_ms": round(float(np.median(v)), 3) for stage, v in row.items()}
        if name.startswith("browser"):
            for other in ("onnx", "ncnn"):
                rows[name][f"by {other}"] = ratio(row[FORWARD], medians[f"{other}, {threads}"][FORWARD])
    return rows


def first_visit(folder: Path, visits: int) -> dict[str, Any]:
    """kB that a browser without a cache reads, and ms until the first boxes are there."""
    from playwright.sync_api import sync_playwright

    sizes, times = [], []
    sent = "performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.encodedBodySize, 0)"
    with PageServer([folder]) as server, sync_playwright() as playwright:
        for _ in range(visits):
            options = {"executable_path": find_browser(), "args": ["--no-sandbox"]}
            with playwright.chromium.launch(**options) as browser:
                page = browser.new_page()
                begin = time.perf_counter()
                page.goto(server.address)
                page.locator("#count", has_text="1").wait_for()
                times.append(1000 * (time.perf_counter() - begin))
                sizes.append(page.evaluate(sent) / 1000)
    return {"kB": round(max(sizes)), "median_ms": round(float(np.median(times)))}


def main() -> None:
    given = options("browser", __doc__, "rounds", 5, loops=60)
    if find_browser() is None:
        raise InputError(f"no browser is installed: expected one of {', '.join(BROWSERS)}")
    figures: dict[str, Any] = {}
    with temporary_folder() as work:
        for name in NETWORKS:
            folder = work / name
            export_model(create_model(name, "published"), folder, ["onnx", "ncnn"], name=name)
            load = Load(warmup=10, loops=given.loops, cooldown=0)
            figures[name] = compared(rounds_of(folder, given.rounds, load))
        figures["first visit"] = first_visit(work / NETWORKS[0], given.rounds)
    write("browser", given, ["ncnn", "onnxruntime"], figures)


if __name__ == "__main__":
    main()
