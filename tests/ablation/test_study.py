"""Studies end to end on tiny toy sets: what they are made of, who runs what, what survives a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from toolkit import create_model
from toolkit.ablation.report import runs, write_report
from toolkit.ablation.study import TRIES, Store, cell_config, cells, matched_width, read_plan, run_study
from toolkit.data.dataset import load
from toolkit.data.toy import make_toy
from toolkit.export import export_model
from toolkit.models.cost import measure
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError
from toolkit.training.checkpoint import trained


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "toy"
    make_toy(folder, count=30, size=64)
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def stated(toy, **more):
    return {
        "name": "tiny",
        "data": str(toy),
        "model": "yoloface-50k",
        "recipe": {"batch": 8},
        "factors": {"learning_rate": [0.001, 0.01]},
        "seeds": [0, 1],
        "budget": {"steps": 3},
        "validations": 1,
        **more,
    }


def test_the_factorial_and_its_half(toy):
    factors = {"se": [False, True], "ema": [0, 0.99], "learning_rate": [0.001, 0.01]}
    whole = cells(read_plan(stated(toy, factors=factors)))
    assert len({cell.key for cell in whole}) == len(whole) == 16
    half = cells(read_plan(stated(toy, factors=factors, fraction=2)))
    assert len(half) == 8
    for name, levels in factors.items():
        assert [sum(cell.levels[name] == level for cell in half) for level in levels] == [4, 4]


def test_matching_by_width_within_two_percent(toy):
    factors = {"se": [False, True], "csp": [False, True]}
    plan = read_plan(stated(toy, model="yoloface-500k-v2", factors=factors, matching="both", seeds=[0]))
    found = cells(plan)
    matchings = {tuple(cell.levels.values()): [] for cell in found}
    for cell in found:
        matchings[tuple(cell.levels.values())].append(cell.matching)
    both = ["as-is", "width"]  # squeeze-and-excite costs too little to need any
    assert matchings == {
        (False, False): both, (False, True): ["base"], (True, False): both, (True, True): ["base"]
    }  # fmt: skip
    dataset = load(str(toy))
    base = next(cell for cell in found if all(cell.levels.values()))
    cost = {
        (str(cell.levels), cell.matching): measure(
            create_model(plan.model, **cell_config(plan, cell, dataset).changes)
        ).bflops
        for cell in (base, *(c for c in found if c.levels == {"se": False, "csp": False}))
    }
    wanted = cost[str(base.levels), "base"]
    plain = str({"se": False, "csp": False})
    assert cost[plain, "width"] == pytest.approx(wanted, rel=0.02)
    assert cost[plain, "as-is"] < 0.98 * wanted
    with pytest.raises(InputError, match="no width brings"):
        matched_width("yoloface-500k-v2", {}, 1000.0)


@pytest.mark.parametrize("name", ["yoloface-500k-v2", "fastest-v2"])
def test_the_corner_with_everything_on_is_the_published_network(name):
    base = create_model(name)
    corner = create_model(name, se=base.spec.se, csp=base.spec.csp)
    assert corner.spec == SPECS[name]
    assert measure(corner).params == measure(base).params


def test_a_study_runs_once_and_reports(toy, tmp_path):
    plan = read_plan(stated(toy, budget={"steps": 40}))
    store = run_study(plan, tmp_path / "study")
    rows = runs(store)
    assert len(rows) == 4
    assert {row["steps"] for row in rows} == {40}
    assert {row["pictures"] for row in rows} == {320}
    assert all(row["bflops"] > 0 and row["latency_ms"] > 0 and row["kilobytes"] > 0 for row in rows)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "study" / "cells").rglob("last.pt")}
    assert runs(run_study(plan, tmp_path / "study")) == rows
    assert {p: p.stat().st_mtime_ns for p in before} == before
    answer = write_report(tmp_path / "study")
    assert [e["name"] for e in answer["effects"]["as-is"]] == ["learning_rate: 0.001 to 0.01"]
    assert "learning_rate" in (tmp_path / "study" / "report.md").read_text()
    assert (tmp_path / "study" / "effects-as-is.png").exists()
    with pytest.raises(InputError, match="began with another seeds"):
        run_study(read_plan(stated(toy, budget={"steps": 40}, seeds=[0, 1, 2])), tmp_path / "study")


def test_cells_that_fail_are_kept_and_the_rest_goes_on(toy, tmp_path):
    factors = {"input_size": [64, 70], "learning_rate": [0.01, 1e30]}
    plan = read_plan(stated(toy, factors=factors, seeds=[0], recipe={"batch": 8, "clip": 0, "warmup": 0}))
    rows = {json.dumps(row["levels"]): row for row in runs(run_study(plan, tmp_path / "study"))}
    assert len(rows) == 4
    faults = [row.get("fault", "") for row in rows.values()]
    assert sum("no multiple" in fault for fault in faults) == 2
    assert sum("no longer a finite number" in fault for fault in faults) == 1
    assert "fault" not in rows[json.dumps({"input_size": 64, "learning_rate": 0.01})]


def test_killed_cells_are_taken_up_again(toy, tmp_path):
    """Two workers; both are killed in the middle; the study then ends as one that was left alone."""
    data = stated(toy, budget={"steps": 30}, seeds=[0, 1, 2])
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    command = [sys.executable, "-m", "toolkit.cli", "ablate", "run", str(tmp_path / "study.yaml")]
    command += ["--output", str(tmp_path / "killed"), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    plan = read_plan(data)
    while len(list((tmp_path / "killed" / "cells").glob("*/last.pt"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    store = Store(plan, f"sqlite:///{tmp_path / 'killed' / 'study.db'}")
    done = {row["key"] for row in runs(store)}
    times = {p: p.stat().st_mtime_ns for k in done for p in (tmp_path / "killed" / "cells" / k).glob("*.pt")}
    killed = runs(run_study(plan, tmp_path / "killed", workers=2))
    assert {p: p.stat().st_mtime_ns for p in times} == times
    whole = runs(run_study(plan, tmp_path / "whole", workers=2))
    assert [row["key"] for row in killed] == [row["key"] for row in whole]
    assert [row["score"] for row in killed] == pytest.approx([row["score"] for row in whole])


def test_ray_workers_share_the_cells(toy, tmp_path):
    plan = read_plan(stated(toy))
    rows = runs(run_study(plan, tmp_path / "study", workers=2, use_ray=True))
    assert sorted(row["key"] for row in rows) == sorted(cell.key for cell in cells(plan))
    assert len(list((tmp_path / "study" / "cells").iterdir())) == 4


def test_two_claims_on_one_cell(toy, tmp_path):
    """Whatever the store says, a cell is one worker's."""
    plan = read_plan(stated(toy))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    stores = [Store(plan, url), Store(plan, url)]
    for store in stores:
        store.enter(cells(plan))
    taken = [store.take() for store in (*stores, *stores)]
    assert len({trial.user_attrs["key"] for trial in taken}) == 4
    assert all(store.take() is None for store in stores)


def test_a_search_keeps_to_its_budget(toy, tmp_path):
    most = measure(create_model("yoloface-50k", input_size=64, classes=10)).bflops
    factors = {"width": [0.5, 1.0, 2.0], "learning_rate": [0.001, 0.01]}
    search = {"trials": 8, "bflops": most * 1.05, "sampler": "tpe"}
    plan = read_plan(stated(toy, factors=factors, search=search, seeds=[0], changes={"input_size": 64}))
    store = run_study(plan, tmp_path / "study")
    trained = runs(store)
    tried = [trial.user_attrs["key"] for trial in store.study.trials if "key" in trial.user_attrs]
    assert len(tried) == len(set(tried)) == 6  # all that there are: none is tried twice
    assert len(trained) == 4
    assert all(row["bflops"] <= most * 1.05 for row in trained)
    assert write_report(tmp_path / "study")["table"]


def test_a_search_ends_where_no_network_is_within_its_budget(toy, tmp_path):
    factors = {"width": [0.5 + i / 100 for i in range(30)]}
    search = {"trials": 1, "bflops": 1e-9}
    plan = read_plan(stated(toy, factors=factors, search=search, seeds=[0], changes={"input_size": 64}))
    store = run_study(plan, tmp_path / "study")
    tried = [trial for trial in store.study.trials if "key" in trial.user_attrs]
    assert len(tried) == TRIES
    assert not runs(store)


def test_a_budget_of_seconds_sets_the_steps(toy, tmp_path):
    plan = read_plan(stated(toy, factors={"batch": [4, 8]}, budget={"seconds": 3}, seeds=[0]))
    rows = runs(run_study(plan, tmp_path / "study"))
    assert len(rows) == 2
    assert all(row["steps"] > 1 for row in rows)
    assert len(list((tmp_path / "study" / "cells").iterdir())) == 2


def test_a_search_ends_where_every_training_diverges(toy, tmp_path):
    factors = {"learning_rate": [1e29, 1e30]}
    levers = {"batch": 8, "clip": 0, "warmup": 0, "optimizer": "sgd"}
    plan = read_plan(stated(toy, factors=factors, search={"trials": 2}, recipe=levers, seeds=[0]))
    rows = runs(run_study(plan, tmp_path / "study"))
    assert len(rows) == 2
    assert all("no longer a finite number" in row["fault"] for row in rows)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"factors": {"speed": [1, 2]}}, "unknown factor 'speed'"),
        ({"factors": {"ema": [0.9]}}, "two or more levels"),
        ({"factors": {}}, "needs a factor"),
        ({"factors": {"batch": [8, 16]}}, "in seconds"),
        ({"budget": {"steps": 3, "epochs": 1}}, "one of epochs, steps and seconds"),
        ({"model": "yolo-9000"}, "unknown network"),
        ({"fraction": 2}, "fewer than three"),
        ({"matching": "width", "factors": {"width": [1, 2]}}, "cannot be a factor"),
        ({"seeds": []}, "seeds"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_bad_studies_are_one_sentence(toy, more, words):
    with pytest.raises(InputError, match=words):
        read_plan(stated(toy, **more))


@pytest.mark.parametrize("name", ["fastest-v2", "yoloface-500k-v2"])
def test_every_corner_trains_a_step_and_exports_equal(name, toy, tmp_path):
    factors = {"se": [False, True], "csp": [False, True]}
    changes = {"input_size": [96, 64]}
    study = stated(toy, model=name, factors=factors, seeds=[0], budget={"steps": 1}, changes=changes)
    rows = runs(run_study(read_plan(study), tmp_path / "study"))
    assert len(rows) == 4
    assert len({row["params"] for row in rows}) == 4
    for folder in (tmp_path / "study" / "cells").iterdir():
        parity = export_model(trained(folder / "best.pt"), tmp_path / folder.name, ["onnx", "ncnn"])
        for fmt in ("onnx", "ncnn"):
            assert parity[fmt]["max_difference"] <= parity[fmt]["tolerance"]
