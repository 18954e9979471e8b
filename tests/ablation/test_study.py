"""Studies end to end on tiny toy sets: what they are made of, who runs what, what survives a kill."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import pytest
import sqlalchemy
import yaml

from tests.network import listening
from toolkit import create_model
from toolkit.ablation import run_cell, study
from toolkit.ablation.cells import cell_config, cells, matched_width
from toolkit.ablation.costs import costs, measure_costs
from toolkit.ablation.plan import read_plan
from toolkit.ablation.report import runs, write_report
from toolkit.ablation.search import TRIES
from toolkit.ablation.store import CRASHES, Store
from toolkit.ablation.study import run_study, work
from toolkit.bootstrap import Interval
from toolkit.data.catalog import load
from toolkit.device import readings, report
from toolkit.export.write import export_model
from toolkit.models.cost import measure
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError
from toolkit.training.checkpoint import load_checkpoint, trained


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
    plan, seen = read_plan(stated(toy, budget={"steps": 40})), []
    store = run_study(plan, tmp_path / "study", show=seen.append)
    rows = runs(store)
    assert (seen[-1].ended, seen[-1].cells, seen[-1].seconds_left) == (4, 4, 0)
    assert [networks.ended for networks in seen] == sorted({networks.ended for networks in seen})
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
    pictures = ("effects-as-is", "networks", "cost-latency_ms")
    assert all((tmp_path / "study" / f"{name}.png").exists() for name in pictures)
    assert (tmp_path / "study" / "report.html").read_text().count("<img") == len(
        list((tmp_path / "study").glob("*.png"))
    )
    with pytest.raises(InputError, match="began with other values of seeds"):
        run_study(read_plan(stated(toy, budget={"steps": 40}, seeds=[0, 1, 2])), tmp_path / "study")


def test_cells_that_fail_are_kept_and_the_rest_goes_on(toy, tmp_path):
    factors = {"input_size": [64, 70], "learning_rate": [0.01, 1e30]}
    plan = read_plan(stated(toy, factors=factors, seeds=[0], recipe={"batch": 8, "clip": 0, "warmup": 0}))
    rows = {json.dumps(row["levels"]): row for row in runs(run_study(plan, tmp_path / "study"))}
    assert len(rows) == 4
    faults = [row.get("fault", "") for row in rows.values()]
    assert sum("multiple of" in fault for fault in faults) == 2
    assert sum("no longer a finite number" in fault for fault in faults) == 1
    assert "fault" not in rows[json.dumps({"input_size": 64, "learning_rate": 0.01})]


def test_killed_cells_are_taken_up_again(toy, tmp_path):
    """Two workers; both are killed with one cell done and one in the middle; the study then ends as one that
    was left alone, without doing anything twice."""
    data = stated(toy, budget={"steps": 60}, validations=3, seeds=[0, 1])
    folder = tmp_path / "killed"
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    command = [sys.executable, "-m", "toolkit.cli", "ablate", "run", str(tmp_path / "study.yaml")]
    command += ["--output", str(folder), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)

    def halves():
        kept = {path.parent: load_checkpoint(path)["step"] for path in (folder / "cells").glob("*/last.pt")}
        return [cell for cell, step in kept.items() if 0 < step < 60]

    plan, url = read_plan(data), f"sqlite:///{folder / 'study.db'}"
    while not (folder / "cells").exists():
        assert process.poll() is None
        time.sleep(0.1)
    store = Store(plan, url)
    while True:
        assert process.poll() is None
        if runs(store) and halves():
            os.killpg(process.pid, signal.SIGSTOP)  # so that it does not end meanwhile
            if half := halves():
                break
            os.killpg(process.pid, signal.SIGCONT)
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {row["key"] for row in runs(store)}
    assert done
    assert len(done) < 4
    times = {p: p.stat().st_mtime_ns for k in done for p in (folder / "cells" / k).glob("*.pt")}
    killed = runs(run_study(plan, folder, workers=2))
    assert {p: p.stat().st_mtime_ns for p in times} == times
    for cell in half:  # went on where it was: the first part's events are joined by the second's
        assert len(list((cell / "tensorboard").iterdir())) == 2
        assert [entry["step"] for entry in _history(cell)] == [20, 40, 60]
    whole = runs(run_study(plan, tmp_path / "whole", workers=2))
    assert [row["key"] for row in killed] == [row["key"] for row in whole]
    assert [row["score"] for row in killed] == pytest.approx([row["score"] for row in whole])


def _history(cell):
    return [json.loads(line) for line in (cell / "metrics.jsonl").read_text().splitlines()]


def test_ray_workers_share_the_cells_and_listen_to_this_machine_alone(toy, tmp_path):
    plan = read_plan(stated(toy))
    before, during, over = listening(), set(), threading.Event()

    def watch():
        while not over.wait(1):
            during.update(listening())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        rows = runs(run_study(plan, tmp_path / "study", workers=2, use_ray=True))
    finally:
        over.set()
        watcher.join()
    assert len(during) > 4  # its store, its scheduler, a server for each worker
    assert [server for server in during if not server[0].is_loopback] == []
    assert listening() == before
    assert sorted(row["key"] for row in rows) == sorted(cell.key for cell in cells(plan))
    folders = list((tmp_path / "study" / "cells").iterdir())
    assert len(folders) == 4
    for folder in folders:  # one training each: every one opens a file of events
        assert len(list((folder / "tensorboard").iterdir())) == 1


def test_a_named_ray_cluster_that_is_not_there_is_refused(toy, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=f"{address}.*RAY_ADDRESS"):
        run_study(read_plan(stated(toy)), tmp_path / "study", use_ray=True)


def test_a_cell_is_one_workers(toy, tmp_path):
    """Four workers that reach for the cells at the same moments, and all find them waiting before one of them
    has written that it took it."""
    plan = read_plan(stated(toy))
    stores = [Store(plan, f"sqlite:///{tmp_path / 'study.db'}") for _ in range(4)]
    stores[0].enter(cells(plan))
    barrier = threading.Barrier(len(stores))

    def wait(connection, cursor, statement, *rest):
        if statement.startswith("UPDATE trials"):
            time.sleep(0.2)

    for store in stores:
        sqlalchemy.event.listen(store.storage.engine, "before_cursor_execute", wait)

    def reach(store):
        taken = []
        for _ in range(4):
            barrier.wait(60)
            trial = store.take()
            taken += [trial.user_attrs["key"]] if trial is not None else []
        return taken

    with ThreadPoolExecutor(len(stores)) as pool:
        taken = [key for part in pool.map(reach, stores) for key in part]
    assert len(taken) == len(set(taken)) == 4


# --- with trainings that take no time ---------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Trainings and costs that are made up: `quick.train(config, folder, show)` -> score; `quick.folders` is
    where they ran, `quick.at_once` how many costs were measured side by side."""
    made = SimpleNamespace(folders=[], now=0, at_once=0, train=lambda config, folder, show: 0.5)

    def run_cell(config, dataset, folder, plan, show=None):
        made.folders.append(folder)
        score = made.train(config, folder, show)
        return {"score": score, "map50": score, "steps": 1, "seconds": 1.0, "training_seconds": 1.0}

    def costs(config, folder):
        made.now += 1
        made.at_once = max(made.at_once, made.now)
        time.sleep(0.05)
        made.now -= 1
        return {"params": 1, "macs": 1, "bflops": 0.1, "kilobytes": 0.1, "network": folder.name}

    for module in ("study", "search"):
        monkeypatch.setattr(f"toolkit.ablation.{module}.run_cell", run_cell)
    for module in ("costs", "search"):
        monkeypatch.setattr(f"toolkit.ablation.{module}.costs", costs)
    monkeypatch.setattr(
        "toolkit.ablation.costs.latencies", lambda folders: [Interval(1.0, 0.9, 1.2)] * len(folders)
    )
    for module in ("store", "study", "search"):
        monkeypatch.setattr(f"toolkit.ablation.{module}.HEARTBEAT", 0.5)
    return made


RATES = {"learning_rate": [0.001 * (i + 1) for i in range(20)]}


def searching(toy, trials, sampler="random", **more):
    return read_plan(
        stated(toy, factors=RATES, seeds=[0], search={"trials": trials, "sampler": sampler, **more})
    )


def keys(store):
    return [trial.user_attrs["key"] for trial in store.study.trials if "key" in trial.user_attrs]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])  # which Optuna leaves as a kill would
def test_an_ended_cell_of_a_search_is_taken_up_again(end, toy, tmp_path, quick):
    plan, url = searching(toy, 1), f"sqlite:///{tmp_path / 'study.db'}"
    store = Store(plan, url)

    def die(config, folder, show):
        folder.mkdir()
        raise end

    quick.train = die
    with pytest.raises(end):
        work(plan, url, tmp_path)
    trial = store.study.trials[0]
    with store.storage.engine.begin() as connection:  # the worker has been silent for years
        connection.execute(sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat='2020-01-01 00:00:00'"))
    quick.train = lambda config, folder, show: float(folder.exists())
    work(plan, url, tmp_path)
    (row,) = runs(store)
    assert row["key"] == trial.user_attrs["key"]
    assert row["score"] == 1  # in the folder that it had
    assert quick.folders == [tmp_path / "cells" / row["key"]] * 2


# warnings.catch_warnings is the whole process's: of workers that are threads, one ends another's
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("trials", [1, 7])
def test_workers_of_a_search_keep_to_the_number_of_trials(trials, toy, tmp_path, quick, monkeypatch):
    plan, url = searching(toy, trials), f"sqlite:///{tmp_path / 'study.db'}"
    store, barrier = Store(plan, url), threading.Barrier(3)

    def load_together(name):  # the last before the search begins
        barrier.wait(60)
        return load(name)

    monkeypatch.setattr(study, "load", load_together)

    def train(config, folder, show):
        time.sleep(0.3)
        return 0.5

    quick.train = train
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, plan, url, tmp_path, 0, i) for i in range(3)]:
            done.result()
    assert len(runs(store)) == len(quick.folders) == len(set(quick.folders)) == trials
    assert quick.at_once == 1  # all have one network


def test_one_worker_searches_the_same_again(toy, tmp_path, quick):
    order = []
    for name, worker in (("a", 0), ("b", 0), ("c", 1)):
        plan, url = searching(toy, 6, "tpe"), f"sqlite:///{tmp_path / name}.db"
        work(plan, url, tmp_path / name, worker=worker)
        order.append(keys(Store(plan, url)))
    assert order[0] == order[1] != order[2]


def test_nsga2_searches_to_the_end(toy, tmp_path, quick):
    plan = searching(toy, 15, "nsga2", bflops=1.0)
    quick.train = lambda config, folder, show: config.recipe.learning_rate
    store = run_study(plan, tmp_path / "study")
    assert len(runs(store)) == len(set(keys(store))) == 15


def test_a_search_times_its_networks_on_a_device(toy, tmp_path, quick, monkeypatch):
    """Here on this machine, by the runner that goes to phones; an emulated one is refused."""

    def costs(config, folder):
        if not folder.exists():
            export_model(create_model("yoloface-50k"), folder, ["ncnn"])
        return {"network": folder.name}

    monkeypatch.delenv("TOOLKIT_CACHE")  # the user's, which has the runner: building it takes minutes
    monkeypatch.setattr("toolkit.ablation.search.costs", costs)
    rows = runs(run_study(searching(toy, 2, latency_ms=1e3, device="local"), tmp_path / "study"))
    ((_, reading),) = [
        (file, reading)
        for file in (tmp_path / "study" / "networks").glob("*/timing.json")
        for reading in readings.read_timings(file.parent)
    ]
    took = report.summary(reading)[report.NCNN_COLUMN].p50
    assert [row["latency_ms"] for row in rows] == [took, took]
    emulated = reading.model_copy(update={"emulated": True})
    monkeypatch.setattr("toolkit.device.timing.measure", lambda *given: [(None, emulated)])
    with pytest.raises(InputError, match="emulated, not a timing"):
        run_study(searching(toy, 2, latency_ms=1e3, device="local"), tmp_path / "other")
    assert not list((tmp_path / "other" / "networks").glob("*/latency.json"))


def test_a_search_prunes_what_is_behind(toy, tmp_path, quick):
    def train(config, folder, show):
        score = 0.5 if len(quick.folders) <= 5 else 0.1
        show([{"map50": score, "step": 10}])
        return score

    quick.train = train
    store = run_study(searching(toy, 8), tmp_path / "a")
    states = [trial.state.name for trial in store.study.trials if "key" in trial.user_attrs]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"] * 3
    quick.folders.clear()
    store = run_study(searching(toy, 8, prune=False), tmp_path / "b")
    assert len(runs(store)) == 8


def test_a_search_whose_workers_die_is_no_success(toy, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(InputError, match="2 of 2 workers ended early"):
        run_study(searching(toy, 2), tmp_path / "study", workers=2)


def test_a_worker_ends_with_its_parent_and_says_bad_input_in_one_sentence(tmp_path):
    def ended_worker(parent):
        command = [sys.executable, "-m", "toolkit.cli.worker", str(parent)]
        return subprocess.run(
            [*command, str(tmp_path), "sqlite://", "1", "0"], capture_output=True, text=True
        )

    assert ended_worker(os.getppid()).returncode == -signal.SIGTERM  # who started it has ended meanwhile
    ended = ended_worker(os.getpid())
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"error: {tmp_path} has no study: expected a folder that `toolkit ablate run` wrote"
    ]


@pytest.mark.parametrize("more", [{}, {"search": {"trials": 4, "sampler": "random"}, "seeds": [0]}])
def test_a_cell_that_crashes_is_not_tried_forever(more, toy, tmp_path, quick):
    def train(config, folder, show):
        if config.recipe.learning_rate == 0.01:
            raise ZeroDivisionError("by chance")
        return 0.5

    quick.train = train
    plan = read_plan(stated(toy, **more))
    count = 2 if more else 4
    for _ in range(100):
        try:
            rows = runs(run_study(plan, tmp_path / "study"))
            break
        except ZeroDivisionError:
            continue
    faults = [row["fault"] for row in rows if "fault" in row]
    assert len(rows) == count
    assert faults == ["ZeroDivisionError: by chance"] * (count // 2)
    assert len(quick.folders) == CRASHES * count // 2 + count // 2


def test_lost_cells_are_entered_again(toy, tmp_path):
    """One that failed without a fault (its worker's death was noted, and nobody came to enter it again), even
    behind a second entry that was dropped."""
    plan = read_plan(stated(toy, seeds=[0]))
    store = Store(plan, f"sqlite:///{tmp_path / 'study.db'}")
    store.enter(cells(plan))
    states = store.optuna.trial.TrialState
    lost = store.take()
    store.storage.set_trial_state_values(lost._trial_id, states.FAIL)
    assert [cell.key for cell in store.missing(cells(plan))] == [lost.user_attrs["key"]]
    store.enter(cells(plan))
    second = store.study.trials[-1]
    store.storage.set_trial_state_values(second._trial_id, states.PRUNED)
    store.enter(cells(plan))
    found = {store.take().user_attrs["key"] for _ in range(2)}
    assert found == {cell.key for cell in cells(plan)}
    assert store.take() is None


def test_a_heart_beats_on_after_an_error(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.ablation.store.HEARTBEAT", 0.01)
    plan = read_plan(stated(toy))
    store = Store(plan, f"sqlite:///{tmp_path / 'study.db'}")
    store.enter(cells(plan))
    trial, beats, late = store.take(), [], threading.Event()

    def record(number):
        beats.append(number)
        if len(beats) == 1:
            raise RuntimeError("database is locked")
        late.set()

    monkeypatch.setattr(store.storage, "record_heartbeat", record)
    with store.heartbeat(trial):
        assert late.wait(20)


def test_a_network_that_cannot_be_exported_costs_no_study(toy, tmp_path, quick, monkeypatch):
    plan = read_plan(stated(toy, factors={"input_size": [64, 96]}, seeds=[0]))

    def some(config, folder):
        if config.changes["input_size"] == 64:
            raise InputError("no such layer")
        return costs(config, folder)

    monkeypatch.setattr("toolkit.ablation.costs.costs", some)
    measure_costs(plan, tmp_path, load(str(toy)))
    ((key, found),) = json.loads((tmp_path / "costs.json").read_text()).items()
    assert '"input_size": 96' in key
    assert found["latency_ms"] == 1


def test_a_budget_of_seconds_sets_the_steps(toy, tmp_path, monkeypatch):
    """As many as the speed of a short run makes in that time, whatever the batch."""
    plan = read_plan(stated(toy, factors={"batch": [4, 8]}, budget={"seconds": 6}, seeds=[0]))
    real, short = run_cell.train, []

    def train(config, folder, resume, dataset, show=None):
        if config.stop_at is None:
            return real(config, folder, resume, dataset, show)
        short.append(config.recipe.batch)
        return SimpleNamespace(pictures_per_second=20.0)

    monkeypatch.setattr(run_cell, "train", train)
    monkeypatch.setattr(study, "measure_costs", lambda *given: None)
    rows = runs(run_study(plan, tmp_path / "study"))
    assert short == [4, 8]
    assert {row["levels"]["batch"]: row["steps"] for row in rows} == {4: 30, 8: 15}
    assert all(0 < row["training_seconds"] <= row["seconds"] + 0.1 for row in rows)


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"se": ["yes", False]}, "the factor se takes true, false, a squeeze ratio.*not 'yes'"),
        ({"width": ["a", 1]}, "the factor width takes a factor above 0, not 'a'"),
        ({"activation": ["relu", "foo"]}, "activation takes one of linear, relu.*not 'foo'"),
        ({"spp": [3, 5]}, "spp takes a list of pooling windows.*not 3"),
        ({"input_size": [[128], 160]}, r"input_size takes one side or .*not \[128\]"),
        ({"input_size": ["128", 160]}, "input_size takes one side or .*not '128'"),
        ({"mosaic": ["a", 0.5]}, "the factor mosaic cannot be 'a'"),
        ({"learning_rate": ["a", 0.5]}, "the factor learning_rate cannot be 'a'"),
        ({"order": ["a", 1]}, "the factor order cannot be 'a'"),
    ],
)
def test_levels_that_no_cell_can_have_are_one_sentence(factors, words, toy, tmp_path):
    with pytest.raises(InputError, match=words):
        run_study(read_plan(stated(toy, factors=factors)), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_network_that_cannot_run_is_its_cells_fault(toy, tmp_path, quick):
    plan = read_plan(stated(toy, factors={"spp": [[3], [0]]}, seeds=[0]))
    rows = {str(row["levels"]["spp"]): row for row in runs(run_study(plan, tmp_path / "study"))}
    assert "spp is 0" in rows["[0]"]["fault"]
    assert "fault" not in rows["[3]"]


def test_missing_data_is_one_sentence(tmp_path):
    for search in ({}, {"search": {"trials": 1}}):
        plan = read_plan(stated(tmp_path / "nowhere", **search))
        with pytest.raises(InputError, match="nowhere"):
            run_study(plan, tmp_path / "study", workers=2)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:secret@host/name", "needs the Python package psycopg.*pip install"),
        ("nonsense", "the database nonsense cannot be used .*: expected an address such as sqlite"),
        ("foo://bar", "cannot be used"),
        ("sqlite:////proc/nowhere/study.db", "unable to open database file"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence(url, words, toy, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        run_study(read_plan(stated(toy)), tmp_path / "study", url=url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "study").exists()


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
        ({"factors": {"ema": [0.9]}}, r"ema needs two or more .*\[0.9\]"),
        ({"factors": {}}, "needs a factor"),
        ({"factors": {"batch": [8, 16]}}, "in seconds"),
        ({"factors": {"epochs": [1, 2]}, "budget": {"seconds": 3}}, "epochs cannot be a factor"),
        ({"factors": {"stem": [1, 2]}}, "unknown factor 'stem'"),
        ({"budget": {"steps": 3, "epochs": 1}}, "one of epochs, steps and seconds"),
        ({"model": "yolo-9000"}, "unknown network"),
        ({"recipe": "landmarks"}, "trains detectors.*landmarks"),
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


def test_the_command_ends_with_exit_code_3_where_a_cell_failed(toy, tmp_path):
    plan = stated(toy, factors={"learning_rate": [0.001, 1e9]}, seeds=[0], budget={"steps": 6})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    command = [sys.executable, "-m", "toolkit.cli", "ablate", "run", str(tmp_path / "study.yaml"), "--json"]
    run = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 3
    assert json.loads(run.stdout) == {"folder": str(tmp_path / "out"), "cells": 2, "failed": 1}
    assert "failed" in run.stderr
    assert "1000000000.0" in run.stderr


def test_the_database_of_another_program_is_not_written_into(toy, tmp_path):
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("create table studies (name text)")
        database.commit()
    before = file.read_bytes()
    with pytest.raises(InputError, match="is the database of another program"):
        Store(read_plan(stated(toy)), f"sqlite:///{file}")
    assert file.read_bytes() == before
