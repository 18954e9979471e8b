"""Workers of a study that end before their cell, and what the next call does about it."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.ablation.test_study import stated
from toolkit.ablation.cells import cells
from toolkit.ablation.plan import read_plan
from toolkit.ablation.store import Store, is_dead, worker_of
from toolkit.ablation.study import PATIENCE


def begun(folder, workers, toy):
    """A study whose first cell is at work: (process, plan, store)."""
    data = stated(toy, budget={"steps": 4000}, validations=100, seeds=[0])
    (folder / "study.yaml").write_text(yaml.safe_dump(data))
    command = [sys.executable, "-m", "toolkit.cli", "ablate", "run", str(folder / "study.yaml")]
    command += ["--output", str(folder / "out"), "--workers", str(workers)]
    messages = folder / "messages.txt"
    with messages.open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    while len(list((folder / "out/cells").glob("*/last.pt"))) < workers:
        assert process.poll() is None, messages.read_text()
        time.sleep(0.05)
    plan = read_plan(data)
    return process, plan, Store(plan, f"sqlite:///{folder / 'out/study.db'}")


def running(folder):
    """Processes whose command names the folder."""
    numbers = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if os.fsencode(folder) in file.read():
                        numbers.append(int(entry))
            except OSError:
                pass
    return numbers


CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
CASES = [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGTERM, 1), (signal.SIGINT, 2)]


@pytest.mark.parametrize(("number", "workers"), CASES)
def test_the_cells_of_a_worker_that_was_ended_wait_again_at_once(number, workers, toy, tmp_path):
    process, _, store = begun(tmp_path, workers, toy)
    states = store.optuna.trial.TrialState
    at_work = {trial.user_attrs["key"] for trial in store.study.get_trials(states=(states.RUNNING,))}
    assert len(at_work) == workers
    process.send_signal(number)
    assert process.wait(2 * PATIENCE) == CODES[number], (tmp_path / "messages.txt").read_text()
    begin = time.monotonic()
    while running(tmp_path):  # a killed parent's workers end by themselves
        assert time.monotonic() - begin < 120  # they save and draw what they have
        time.sleep(0.05)
    taken = [store.take() for _ in range(2)]
    assert at_work <= {trial.user_attrs["key"] for trial in taken}


def test_a_worker_is_dead_only_where_that_is_sure(toy, tmp_path):
    plan = read_plan(stated(toy, seeds=[0]))
    store = Store(plan, f"sqlite:///{tmp_path / 'study.db'}")
    store.enter(cells(plan))
    trial = store.take()
    with subprocess.Popen(["true"]) as process:
        pass
    me = worker_of(trial)
    here, ours, number = me.split("/")
    gone = f"{process.pid} {ours.split()[1]}"
    assert not is_dead(me, trial)
    assert is_dead(f"{here}/{gone}/{number}", trial)
    assert not is_dead(f"{here}/{gone}/99", trial)  # a copy of an earlier trial's entry
    assert not is_dead(f"another machine/{gone}/{number}", trial)
    assert not is_dead("", trial)
