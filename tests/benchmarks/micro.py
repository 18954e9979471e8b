"""int8 networks on microcontrollers: flash, RAM and operators, in TensorFlow Lite Micro and in Vela.

python -m tests.benchmarks.micro [--environments .venv-takers]      (2 minutes)

TFLM's interpreter (x86_64, reference kernels) runs each file in an arena of the size that
`toolkit.export.litert.micro` says, and its outputs are compared with LiteRT's. Vela compiles the file for an
Ethos-U55 with 128 multipliers; its figures are its own estimates.
"""

import csv
import re
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from tests.benchmarks.exports import PICTURES, network, split
from tests.benchmarks.record import RESULTS, write
from tests.benchmarks.takers import Taker, interpreter
from toolkit.export.litert.micro import requirements
from toolkit.export.registry import FORMATS
from toolkit.export.write import export_model
from toolkit.models.detector import Detector
from toolkit.pictures import load_image
from toolkit.runtime import require

NETWORKS = ("yoloface-50k", "yoloface-100k", "yoloface-500k-v2")
FORMAT = "litert-int8"
TFLM = Taker("tflm", ("tflite-micro==0.dev20261023182759", "numpy"), newest_python=(3, 13))
VELA = Taker("vela", ("ethos-u-vela==5.2.0",))
CHIP = ("--accelerator-config", "ethos-u55-128", "--system-config", "Ethos_U55_High_End_Embedded")
CHIP += ("--memory-mode", "Shared_Sram")
PROGRAM = Path(__file__).with_name("tflm.py")
KEPT = 16  # pictures whose outputs are compared


def files(folder: Path) -> dict[str, tuple[Detector, Path, np.ndarray]]:
    """Each network, its file in int8, calibrated on `PICTURES` of its training pictures, and inputs
    (N, 1, h, w, 3) in whole numbers: pictures of the test part."""
    made = {}
    for name in NETWORKS:
        training, test = split(name)
        chosen = np.linspace(0, len(training) - 1, PICTURES).round().astype(int)
        model = network(name)
        paths = [training.path(int(i)) for i in chosen]
        export_model(model, folder / name, [FORMAT], calibration=paths, accept_loss=True)
        size = model.io.input_size
        pictures = [
            cv2.resize(load_image(test.path(i)), size, interpolation=cv2.INTER_AREA) for i in range(KEPT)
        ]
        made[name] = model, folder / name / FORMATS[FORMAT].file, np.stack(pictures)[:, None]
    return made


def in_litert(path: Path, inputs: np.ndarray, resolver: str) -> list[np.ndarray]:
    """Outputs (N, ...) in the order of the file, by the kernels of a resolver of LiteRT."""
    module = require("ai_edge_litert.interpreter", "export")
    kernels = getattr(module.OpResolverType, resolver)
    opened = module.Interpreter(str(path), num_threads=1, experimental_op_resolver_type=kernels)
    opened.allocate_tensors()
    rows = []
    for x in inputs:
        opened.set_tensor(opened.get_input_details()[0]["index"], x)
        opened.invoke()
        rows.append([opened.get_tensor(each["index"]) for each in opened.get_output_details()])
    return [np.stack(maps) for maps in zip(*rows, strict=True)]


def in_tflm(
    python: Path, path: Path, inputs: np.ndarray, arena: int, outputs: int
) -> tuple[list[np.ndarray], str]:
    """Outputs as of `in_litert`, and what TFLM says of its arena."""
    with TemporaryDirectory() as work:
        case, answer = Path(work) / "case.npz", Path(work) / "answer.npz"
        np.savez(case, x=inputs, outputs=outputs)
        command = [python.absolute(), PROGRAM, path.absolute(), arena, case, answer]
        run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
        with np.load(answer) as arrays:
            return [arrays[str(i)] for i in range(outputs)], run.stderr


def least_arena(python: Path, path: Path, inputs: np.ndarray, outputs: int, enough: int) -> int:
    """Bytes of the smallest arena, a multiple of 16, in which TFLM runs the file."""
    low, high = 0, enough // 16
    while high - low > 1:
        middle = (low + high) // 2
        try:
            in_tflm(python, path, inputs[:1], 16 * middle, outputs)
            high = middle
        except subprocess.CalledProcessError:
            low = middle
    return 16 * high


def compared(outputs: list[np.ndarray], others: list[np.ndarray]) -> dict[str, Any]:
    """Share of equal numbers, and the largest difference in steps of an output."""
    steps = np.concatenate(
        [np.abs(a.astype(int) - b.astype(int)).ravel() for a, b in zip(outputs, others, strict=True)]
    )
    return {
        "numbers": steps.size,
        "equal": round(float((steps == 0).mean()), 6),
        "largest_steps": int(steps.max()),
    }


def errors(model: Detector, path: Path, inputs: np.ndarray, kernels: list[list[np.ndarray]]) -> list[float]:
    """`output_error` of outputs in whole numbers by the network in float32, for each of `kernels`."""
    needs = requirements(path)
    pixels = np.float32(inputs[:, 0].transpose(0, 3, 1, 2))
    wanted = [model.predict((x[None] - model.io.mean) * np.float32(model.io.scale)) for x in pixels]
    order = np.argsort([tensor.name for tensor in needs.outputs])  # map0, map1, ...

    def values(outputs: list[np.ndarray], picture: int) -> list[np.ndarray]:
        pairs = [(outputs[i][picture].astype(np.float32), needs.outputs[i]) for i in order]
        return [(n.transpose(0, 3, 1, 2) - t.zero_point) * np.float32(t.scale) for n, t in pairs]

    counted = range(len(inputs))
    return [
        round(model.io.output_error(wanted, [values(outputs, i) for i in counted]), 4) for outputs in kernels
    ]


def measured(python: Path, model: Detector, path: Path, inputs: np.ndarray) -> dict[str, Any]:
    needs = requirements(path)
    count = len(needs.outputs)
    outputs, messages = in_tflm(python, path, inputs, needs.arena, count)
    recorded = {
        part: int(number) for part, number in re.findall(r"Arena allocation (\w+) (\d+) bytes", messages)
    }
    reference, xnnpack = (in_litert(path, inputs, resolver) for resolver in ("BUILTIN_REF", "AUTO"))
    own_error, other_error = errors(model, path, inputs, [outputs, xnnpack])
    return {
        "flash": needs.flash,
        "activations": needs.activations,
        "arena": needs.arena,
        "operators": [f"{each.kind} {each.version}" for each in needs.operators],
        "calls": list(needs.calls),
        "tflm": {
            **recorded,
            "least": least_arena(python, path, inputs, count, needs.arena),
            "by LiteRT's reference kernels": compared(outputs, reference),
            "by LiteRT with XNNPACK": compared(outputs, xnnpack),
            "output error by float32": own_error,
            "that of LiteRT with XNNPACK": other_error,
        },
    }


def in_vela(python: Path, path: Path) -> dict[str, float]:
    """Vela's summary: kB of RAM and flash, milliseconds at its clock, and operators left to the CPU."""
    with TemporaryDirectory() as work:
        command = [python.with_name("vela").absolute(), path.absolute(), "--output-dir", work, *CHIP]
        words = [str(part) for part in command]
        run = subprocess.run(words, capture_output=True, text=True, check=True)
        (summary,) = Path(work).glob("*_summary_*.csv")
        with summary.open(newline="") as table:
            (row,) = csv.DictReader(table)
    return {
        "sram_kB": round(float(row["sram_memory_used"]) * 1.024, 1),
        "flash_kB": round(float(row["off_chip_flash_memory_used"]) * 1.024, 1),
        "clock_MHz": float(row["core_clock"]) / 1e6,
        "milliseconds": round(1e3 * float(row["inference_time"]), 3),
        "cpu_operators": int(re.search(r"CPU operators = (\d+)", run.stdout)[1]),
        "npu_operators": int(re.search(r"NPU operators = (\d+)", run.stdout)[1]),
    }


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.micro", description=__doc__)
    parser.add_argument("--environments", type=Path, default=Path(".venv-takers"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / "micro.json")
    given = parser.parse_args()
    pythons = {
        taker.program: interpreter(taker, given.environments / taker.program) for taker in (TFLM, VELA)
    }
    figures: dict[str, Any] = {"requirements": [*TFLM.requirements[:1], *VELA.requirements]}
    with TemporaryDirectory() as work:
        for name, (model, path, inputs) in files(Path(work)).items():
            figures[name] = {
                **measured(pythons["tflm"], model, path, inputs),
                "vela": in_vela(pythons["vela"], path),
            }
            print(name, figures[name], file=sys.stderr)
    figures["chip"] = " ".join(CHIP)
    write("micro", given, ["torch", "ai-edge-litert"], figures)


if __name__ == "__main__":
    main()
