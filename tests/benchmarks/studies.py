"""Studies run for real. On the toy set: the 24 cells of notebooks/toy_study.yaml; a factor that does nothing
beside one that must do something; search against random choice under a latency budget. On faces: SE x CSP x
input size. On three sets: levers of the recipe.

python -m tests.benchmarks.studies cells|finished|sanity|search   (10 minutes; 5; 5; 40)
python -m tests.benchmarks.studies levers|faces     (two hours; seven hours, over several evenings)
python -m tests.benchmarks.studies power      (seconds: simulated studies with the seeds' spread of "cells")
"""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.record import RESULTS, run_part
from toolkit.ablation.effects import contrasts, fit, judged
from toolkit.ablation.example import FILE, open_example, write_example
from toolkit.ablation.plan import read_plan
from toolkit.ablation.report import runs, write_report
from toolkit.ablation.store import Store, own_database
from toolkit.ablation.study import run_study
from toolkit.runtime import environment
from toolkit.text import read_yaml

ROOT = Path(__file__).parents[2]
FACES = RESULTS / "faces_study.yaml"
REPEATS, TRIALS = 5, 16
STUDIES, SEEDS = 2000, (0, 1, 2)
LEVERS: dict[str, dict[str, Any]] = {
    "faces": {
        "data": "widerface_val_ours",
        "model": "yoloface-500k-v2",
        "changes": {"input_size": [288, 224]},
        "budget": {"epochs": 6},
        "score": "widerface",
        "test_split": "test",
        "validations": 2,
    },
    "BCCD": {"data": "bccd", "changes": {"input_size": 224}, "budget": {"epochs": 20}, "validations": 2},
    "toy": {"changes": {"input_size": 128}, "budget": {"epochs": 6}, "validations": 2},
}


def run(plan: dict[str, Any] | Path, folder: Path, workers: int = 2) -> tuple[dict[str, Any], float]:
    """The report of a study and the seconds that it took; what an earlier call finished is not run again."""
    begin = time.perf_counter()
    run_study(read_plan(plan), folder, workers)
    return write_report(folder), time.perf_counter() - begin


def cells(work: Path) -> dict[str, Any]:
    report, seconds = run(ROOT / "notebooks" / "toy_study.yaml", work / "toy-study")
    return {
        "cells": report["cells"],
        "failed": report["failed"],
        "minutes": round(seconds / 60, 1),
        "table": report["table"],
        "effects": report["effects"]["as-is"],
        "importances": report["importances"],
    }


def finished(work: Path) -> dict[str, Any]:
    """The study that comes with the package (CSP x input size), run again by its own plan and written."""
    plan = read_plan(read_yaml(FILE, "")["plan"])
    begin = time.perf_counter()
    rows = runs(run_study(plan, work / "finished-study", workers=2))
    stamp = {"command": "python -m tests.benchmarks.studies finished", "environment": environment()}
    write_example(plan, rows, stamp, FILE)
    return {"cells": len(rows), "minutes": round((time.perf_counter() - begin) / 60, 1)}


def sanity(work: Path) -> dict[str, Any]:
    """The order of the data alone must show nothing, a tenth of the learning rate something."""
    plan = {
        "name": "sanity",
        "factors": {"order": [0, 1], "learning_rate": [0.002, 0.02]},
        "seeds": [0, 1, 2],
        "budget": {"epochs": 5},
        "changes": {"input_size": 128},
    }
    report, seconds = run(plan, work / "sanity")
    effects = {effect["name"]: effect for effect in report["effects"]["as-is"]}
    sds = [line["sd"] for line in report["table"]]
    return {"minutes": round(seconds / 60, 1), "sd_of_seeds": sds, "effects": effects}


def faces(work: Path) -> dict[str, Any]:
    """notebooks/faces_study.yaml, over several evenings: the cells that have ended when it is stopped by
    Ctrl-C are kept beside the results, and are not run again, on no machine."""
    path, folder = ROOT / "notebooks" / "faces_study.yaml", work / "faces-study"
    plan = read_plan(path)
    if FACES.exists():
        open_example(folder, FACES)
    try:
        report, _ = run(path, folder)
    finally:
        if (folder / "study.db").exists():
            stamp = {"command": "python -m tests.benchmarks.studies faces", "environment": environment()}
            write_example(plan, runs(Store(plan, own_database(folder))), stamp, FACES)
    kept = ("cells", "failed", "table", "effects")
    return {"epochs": plan.budget.epochs, **{name: report[name] for name in kept}}


def levers(work: Path) -> dict[str, Any]:
    """Levers that the recipe "modern" leaves off or has at another value, each on (the second level) and off,
    in half of all combinations: what each changes after a short training from scratch."""
    factors = {
        "focus": [0.0, 0.4],
        "spare_iou": [1.0, 0.6],
        "multi_scale": [0.0, 0.25],
        "assigner": ["tal", "simota"],
    }
    figures: dict[str, Any] = {"factors": factors}
    for name, setting in LEVERS.items():
        plan = {"name": f"levers-{name}", "factors": factors, "fraction": 2, "seeds": list(SEEDS), **setting}
        report, seconds = run(plan, work / f"levers-{name}")
        figures[name] = {
            "setting": setting,
            "cells": report["cells"],
            "failed": report["failed"],
            "minutes": round(seconds / 60, 1),
            "mean": float(np.mean([line["mean"] for line in report["table"]])),
            "effects": [
                effect for effect in report["effects"]["as-is"] if effect["name"].partition(":")[0] in factors
            ],
        }
    return figures


def search(work: Path) -> dict[str, Any]:
    """The best mAP50 within the latency budget after equal numbers of trials, TPE and random choice."""
    factors = {
        "width": [0.5, 0.75, 1.0, 1.25, 1.5],
        "input_size": [96, 128, 160],
        "se": [False, True],
        "learning_rate": [0.0002, 0.0006, 0.002, 0.006, 0.02, 0.06],
        "assigner": ["anchor", "simota", "tal"],
        "mosaic": [0.0, 0.3, 0.6],
    }
    best: dict[str, list[float]] = {}
    networks = work / "search-networks"  # with their latencies, the same for all
    networks.mkdir(exist_ok=True)
    for repeat in range(REPEATS):
        for sampler in ("tpe", "random"):
            plan = {
                "name": f"{sampler}-{repeat}",
                "factors": factors,
                "seeds": [repeat],
                "recipe": {"batch": 8},
                "budget": {"epochs": 2},
                "validations": 1,
                "search": {"trials": TRIALS, "sampler": sampler, "latency_ms": 1.0, "prune": False},
            }
            folder = work / f"search-{sampler}-{repeat}"
            folder.mkdir(exist_ok=True)
            if not (folder / "networks").exists():
                (folder / "networks").symlink_to(networks.absolute())
            store = run_study(read_plan(plan), folder)
            best.setdefault(sampler, []).append(max((r.get("score", 0.0) for r in runs(store)), default=0.0))
            print(sampler, best[sampler], file=sys.stderr)
    wins = int(np.sum(np.array(best["tpe"]) > np.array(best["random"])))
    return {"trials": TRIALS, "best": best, "repeats won by tpe": wins}


def spread_of_seeds() -> list[float]:
    """Standard deviation of mAP50 over the seeds, of each cell of the toy study, as it was measured."""
    return [line["sd"] for line in json.loads((RESULTS / "studies-cells.json").read_text())["table"]]


def simulate(
    sds: list[float], differences: list[float], studies: int, seed: int = 0
) -> dict[float, dict[str, float]]:
    """Studies of the toy study's design whose cells have these spreads (in its order) and whose first factor
    makes each of the differences: how many show that ("power"), and how many show something that is not so
    ("false alarms")."""
    factors = {"se": [False, True], "csp": [False, True], "input_size": [128, 160]}
    rows = list(itertools.product(*factors.values())) * len(SEEDS)
    levels = {name: [row[i] for row in rows] for i, name in enumerate(factors)}
    known, on = contrasts(levels, factors), np.array(levels["se"])
    rng = np.random.default_rng(seed)
    answer = {}
    for difference in differences:
        alarms = found = 0
        for _ in range(studies):
            scores = rng.normal(difference * on, np.tile(sds, len(SEEDS)))
            first, *others = judged([fit(known, scores)])[0]
            found += first.shown
            alarms += any(e.shown for e in ([first] if not difference else []) + others)
        answer[difference] = {"power": found / studies, "false alarms": alarms / studies}
    return answer


def power(work: Path) -> dict[str, Any]:
    sds = spread_of_seeds()
    found = simulate(sds, [0.0, 0.02, 0.05, 0.08], STUDIES)
    return {
        "studies": STUDIES,
        "sd_of_seeds": sds,
        "false alarms": found.pop(0.0)["false alarms"],
        "power": {str(difference): row["power"] for difference, row in found.items()},
    }


if __name__ == "__main__":
    run_part(
        "studies",
        __doc__ or "",
        {
            "cells": cells,
            "finished": finished,
            "sanity": sanity,
            "search": search,
            "faces": faces,
            "levers": levers,
            "power": power,
        },
        ["optuna"],
    )
