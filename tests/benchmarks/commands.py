"""What two commands cost beside the bare work in them, each run in a process of its own and in turns.

`toolkit data import`, of COCO, YOLO and VOC: against reading the JSON with Python's own reader, linking every
picture and writing the JSON again. `toolkit parity ladder`: against opening the same files, finding objects
in the same pictures, and running each network as often.

python -m tests.benchmarks.commands        (three minutes; needs TOOLKIT_ZOO)
"""

import subprocess
import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

from tests.benchmarks.data_scale import step
from tests.benchmarks.record import options, ratio, spread, write
from toolkit.export.write import export_model
from toolkit.models import create_model
from toolkit.stopwatch import interleave

FORMATS = ("coco", "yolo", "voc")
NETWORK, RUNGS, TIMED = "yoloface-500k-v2", ("ncnn", "ncnn-fp16", "mnn", "onnx"), 30
BARE_IMPORT = """
import json, os, sys
from pathlib import Path
source, target = map(Path, sys.argv[1:])
(target / "images").mkdir(parents=True)
for file in source.glob("annotations/*.json"):
    labels = json.loads(file.read_text())
    for i, picture in enumerate(labels["images"]):
        os.link(source / "images" / picture["file_name"], target / "images" / f"{file.stem}-{i}.jpg")
    (target / file.name).write_text(json.dumps(labels))
"""


def command(*words: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, words)], capture_output=True, check=True)


def bare_ladder(folder: Path) -> None:
    """The work of a ladder: every engine opened, its detections, one difference, and the timed runs."""
    import torch

    from toolkit.export.folder import open_export
    from toolkit.export.parity import probe_input
    from toolkit.inference.run import run
    from toolkit.samples import photographs

    pictures = list(photographs().values())
    engines = [create_model(NETWORK, "published"), *(open_export(folder, rung, 1) for rung in RUNGS)]
    x = probe_input(engines[0].io)
    for engine in engines:
        list(run(engine, pictures))
        engine.predict(x)
    torch.set_num_threads(1)
    for _ in range(2 * (TIMED + 1)):  # with the untimed call before each
        for engine in engines:
            engine.predict(x)


def main() -> None:
    given = options("commands", __doc__ or "", "rounds", 5, pictures=10_000)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        work, numbers = Path(name), count()
        boxes = 10 * given.pictures
        step("make canonical", work, given.pictures, boxes)
        for fmt in FORMATS:
            step(f"write {fmt}", work, given.pictures, boxes)

        def imported(fmt: str) -> None:
            command("-m", "toolkit.cli", "data", "import", work / fmt, work / f"{next(numbers)}")

        def linked() -> None:
            command("-c", BARE_IMPORT, work / "coco", work / f"{next(numbers)}")

        calls = {fmt: partial(imported, fmt) for fmt in FORMATS} | {"bare": linked}
        times = interleave(calls, rounds=given.rounds, warmup=0, seed=given.seed)
        figures["data import"] = {
            fmt: {**spread(row), "by bare": ratio(row, times["bare"])} for fmt, row in times.items()
        } | {"pictures": given.pictures, "boxes": boxes}

        folder = work / "export"
        export_model(create_model(NETWORK, "published"), folder, list(RUNGS))
        ladder = ("parity", "ladder", "--model", NETWORK, "--weights", "published", "--folder", folder)
        calls = {
            "ladder": partial(command, "-m", "toolkit.cli", *ladder, "--rounds", str(TIMED), "--json"),
            "bare": partial(command, "-m", "tests.benchmarks.commands", "bare", folder),
        }
        times = interleave(calls, rounds=given.rounds, warmup=0, seed=given.seed)
        row = {name: spread(values) for name, values in times.items()}
        figures["parity ladder"] = {"rungs": RUNGS, **row, "by bare": ratio(times["ladder"], times["bare"])}
    write("commands", given, ["ncnn", "MNN", "onnxruntime"], figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        bare_ladder(Path(sys.argv[2]))
    else:
        main()
