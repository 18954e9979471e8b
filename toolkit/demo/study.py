"""Stage of the ablation study: squeeze-and-excite and CSP on and off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.ablation.effects import Effect
from toolkit.ablation.plan import read_plan
from toolkit.ablation.report import write_report
from toolkit.ablation.study import run_study
from toolkit.demo.shared import ANCHORS, NETWORK, curated_data, scale
from toolkit.page import Section, Table
from toolkit.text import read_json
from toolkit.training.recipe import recipe

SEEDS = [0, 1]


def ablate(output: Path) -> Section:
    size, folder = scale(), output / "ablate"
    plan = read_plan(
        {
            "name": "demo",
            "data": str(curated_data(output).root.parent.resolve()),
            "model": NETWORK,
            "changes": read_json(output / ANCHORS)["changes"],
            "recipe": recipe("modern", flip=0.0),  # a mirrored digit is not a digit
            "factors": {"se": [False, True], "csp": [False, True]},
            "seeds": SEEDS,
            "budget": dict(size.budget),
            "validations": 1,
        }
    )
    run_study(plan, folder)
    report = write_report(folder)
    lines = report["table"]
    columns = {
        "squeeze-and-excite": [line["se"] for line in lines],
        "CSP": [line["csp"] for line in lines],
        "seeds": [str(line["seeds"]) for line in lines],
        "mAP50": [_number(line, "mean", ".4f") for line in lines],
        "sd": [_number(line, "sd", ".4f") for line in lines],
        "MMAC": [_number(line, "mmac", ".1f") for line in lines],
        "BFLOPs": [_number(line, "bflops", ".4f") for line in lines],
        "kB (fp16)": [_number(line, "kilobytes", ".1f") for line in lines],
        "ncnn, ms": [_number(line, "latency_ms", ".2f") for line in lines],
    }
    effects = [Effect(**{k: v for k, v in e.items() if k != "shown"}) for e in report["effects"]["as-is"]]
    pictures = {
        "ablate/effects-as-is.png": "Effect of each factor on mAP50, with 95 % intervals",
        "ablate/cost-latency_ms.png": "Accuracy against ncnn's time, by squeeze-and-excite and CSP",
    }
    budget = ", ".join(f"{value:g} {name}" for name, value in size.budget.items())
    return Section(
        f"Squeeze-and-excite and CSP on and off: four networks, {len(SEEDS)} seeds, {budget} for each of the "
        f"{report['cells']} trainings. A budget this small shows how a study works and proves nothing. "
        + " ".join(effect.sentence() for effect in effects),
        {file: caption for file, caption in pictures.items() if (output / file).exists()},
        [Table("Cells", "ablate/report.json", columns)],
        {},
        {"ablate/report.md": "the report", "ablate/study.db": "the store; more seeds can be added to it"},
    )


def _number(line: Mapping[str, Any], name: str, form: str) -> str:
    """A figure of a line, which a failed cell does not have."""
    value = line.get(name)
    return "not measured" if value is None else format(value, form)
