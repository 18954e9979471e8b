"""Stages of export: every format, and the parity ladder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from toolkit import viz
from toolkit.demo.shared import BEST, EXPORTED, NETWORK, SCORES, curated_data, picture_paths, scale
from toolkit.evaluation.score import evaluate
from toolkit.export import ladder
from toolkit.export.folder import Exported, write_threshold
from toolkit.export.write import ALL, export_model, faults_of
from toolkit.files import write_json
from toolkit.models.detector import Detector
from toolkit.page import Section, Table
from toolkit.text import read_json
from toolkit.training.checkpoint import trained


def export(output: Path) -> Section:
    model = trained(output / BEST, Detector).eval()
    pictures = picture_paths(curated_data(output).split("train"), scale().calibration)
    folder = output / EXPORTED
    parity = export_model(model, folder, ALL, calibration=pictures, cpp=True, name=f"toy-{NETWORK}")
    if (output / SCORES).exists():
        write_threshold(str(folder), read_json(output / SCORES)["operating_point"]["threshold"])
    exported, faults = Exported.read(folder), faults_of(parity)
    kilobytes = {fmt: exported.bytes(fmt) / 1000 for fmt in exported.formats}
    figure = viz.bars(list(kilobytes), list(kilobytes.values()), xlabel="kB", title="Files", form="{:.0f}")
    figure.savefig(output / "export/files.png")
    columns = {
        "format": list(parity),
        "kB": [f"{kilobytes[fmt]:.1f}" if fmt in kilobytes else "-" for fmt in parity],
        "largest difference to torch": [_difference(facts, "max_difference") for facts in parity.values()],
        "of the largest output": [_difference(facts, "relative_difference") for facts in parity.values()],
    }
    if faults:
        columns["left out, because it"] = [facts.get("fault", "") for facts in parity.values()]
    return Section(
        "Every file was opened in its engine and compared with torch before the folder appeared; a 32-bit "
        "file whose outputs differ by more than rounding explains is left out, as is one of lower precision "
        "that loses over a tenth of the detections. Int8 was calibrated on "
        f"{len(pictures)} training pictures.",
        {"export/files.png": "Size of each format's files"},
        [Table("Formats", f"{EXPORTED}/parity.json", columns)],
        {
            **({"kB, ncnn fp16": f"{kilobytes['ncnn-fp16']:.0f}"} if "ncnn-fp16" in kilobytes else {}),
            **({"formats left out": ", ".join(faults)} if faults else {}),
        },
        {EXPORTED: "the files with spec.json", f"{EXPORTED}/cpp": "a C++ sample that runs them"},
    )


def _difference(facts: Mapping[str, Any], name: str) -> str:
    if "matched" in facts:
        return f"{facts['matched']} of {facts['detections']} boxes"
    return f"{facts[name]:.2g}" if name in facts else "-"


def climb(output: Path) -> Section:
    model, dataset = trained(output / BEST, Detector).eval(), curated_data(output).split("val")
    score = partial(evaluate, dataset=dataset, metric="coco")
    rungs = ladder.ladder(model, output / EXPORTED, picture_paths(dataset, 24), score, rounds=scale().rounds)
    ladder.picture(rungs, "Every format against torch").savefig(output / "ladder/ladder.png")
    figure = viz.bars(
        [rung.name for rung in rungs],
        [rung.latency_ms for rung in rungs],
        xlabel="milliseconds per picture, one thread, this machine",
        title="Time",
        form="{:.2f}",
    )
    figure.savefig(output / "ladder/times.png")
    write_json(output / "ladder/ladder.json", [rung.as_dict() for rung in rungs])
    faults = [f"{rung.name}: {rung.fault}." for rung in rungs if rung.fault]
    verdict = " ".join(faults) if faults else "Every format passes."
    if not rungs[0].wanted:
        verdict += " Torch finds nothing above .25 there, so no detections could be compared."
    return Section(
        "All formats compared with torch: outputs on one photograph, detections on 24 validation pictures, "
        f"scores on all of them, and interleaved timing. {verdict}",
        {
            "ladder/ladder.png": "Largest difference to torch of each format",
            "ladder/times.png": "Milliseconds per picture in each engine",
        },
        [Table("Rungs", "ladder/ladder.json", ladder.table(rungs))],
        {"formats as torch": f"{len(rungs) - 1 - len(faults)} of {len(rungs) - 1}"},
    )
