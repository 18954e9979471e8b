"""Writes the README's measured tables from tests/benchmarks/results; a figure nobody measured reads so.

python -m tests.benchmarks.tables
"""

import json
import re
from pathlib import Path
from typing import Any

from tests.benchmarks.record import RESULTS

README = Path(__file__).parents[2] / "README.md"
NOBODY = "not measured"
FACES = {"yoloface-500k-v1": ".728 / .682 / .431", "yoloface-500k-v2": ".768 / .729 / .490"}


def result(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def faces() -> str:
    measured = result("evaluation").get("widerface_val", {})

    def cell(name: str, engine: str) -> str:
        row = measured.get(f"{name} {engine}")
        return " / ".join(f"{row[k]:.4f}"[1:] for k in ("easy", "medium", "hard")) if row else NOBODY

    lines = [
        "| WIDER FACE val, easy / medium / hard | torch | NCNN | the seed published |",
        "|---|---|---|---|",
        *(f"| {n} | {cell(n, 'torch')} | {cell(n, 'ncnn')} | {said} |" for n, said in FACES.items()),
    ]
    return "\n".join(lines)


def objects() -> str:
    measured = result("evaluation").get("voc2012_sub1200", {})

    def cell(name: str, nms: str) -> str:
        value = measured.get(f"{name} {nms}")
        return f"{value:.2f}" if value is not None else NOBODY

    lines = ["| darknet's mAP50 on 1,200 VOC pictures | plain NMS | diou NMS |", "|---|---|---|"]
    lines += [f"| {n} | {cell(n, 'plain')} | {cell(n, 'diou')} |" for n in ("nano-voc", "fastest-v2")]
    return "\n".join(lines)


def measured() -> str:
    """The text between the README's marks."""
    stamp = result("evaluation").get("environment", {})
    machine = f"{stamp['cpu']}, {stamp['cores']} cores, {stamp['date']}" if stamp else NOBODY
    return f"\n{faces()}\n\n{objects()}\n\nMeasured by `make figures` on: {machine}.\n"


def rewritten(text: str) -> str:
    return re.sub(r"(<!-- measured -->)(.*?)(<!-- end -->)", rf"\1\n{measured()}\n\3", text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
