"""The demo end to end, killed in the middle and taken up again; its page; what it says where parts lack."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pooch
import pytest

from tests.test_cli import toolkit
from tests.test_page import Page
from toolkit.demo import screen
from toolkit.demo.stages import STAGES as DEMO_STAGES

COMMAND = [sys.executable, "-m", "toolkit.cli", "demo", "--output", "out"]
ROOT = Path(__file__).parents[1]
STAGES = (
    "toy doctor curate anchors ablate train evaluate export ladder app page runner published costs".split()
)


def stages(out: Path) -> dict:
    return json.loads((out / "demo.json").read_text())["stages"]


def forget(out: Path, *names: str) -> None:
    state = json.loads((out / "demo.json").read_text())
    for name in names:
        del state["stages"][name]
    (out / "demo.json").write_text(json.dumps(state))


def interrupted(out: Path, environment: dict, until: Callable[[], bool], number: int) -> tuple[int, str]:
    """A demo that gets the signal as soon as `until` holds: (exit code, its messages)."""
    file = out.parent / "messages.txt"
    with file.open("w") as stream:
        run = subprocess.Popen(COMMAND, cwd=out.parent, env=environment, stdout=stream, stderr=stream)
    while not until():
        assert run.poll() is None, file.read_text()
        time.sleep(0.1)
    run.send_signal(number)
    return run.wait(), file.read_text()


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A copy of the project as a clone has it, and its files: nothing is to be written there."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "toolkit", folder / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    return folder, files_below(folder)


@pytest.fixture(scope="session")
def environment(tmp_path_factory, clone):
    """Fast, and no published weights to be had; runners that were compiled before are used."""
    cache = tmp_path_factory.mktemp("cache")
    runners = Path(pooch.os_cache("toolkit")) / "device"
    runners.mkdir(parents=True, exist_ok=True)
    (cache / "toolkit").mkdir()
    (cache / "toolkit" / "device").symlink_to(runners)
    home = tmp_path_factory.mktemp("home")
    variables = {"TOOLKIT_ZOO": "", "TOOLKIT_ZOO_HOST": "http://127.0.0.1:1", "TOOLKIT_FAST": "1"}
    places = {"XDG_CACHE_HOME": str(cache), "HOME": str(home), "PYTHONPATH": str(clone[0])}
    return {**os.environ, **variables, **places, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def demo(tmp_path_factory, environment):
    """A demo that was killed while it trained, and the call after it: (folder, stages finished before,
    answer, messages)."""
    place = tmp_path_factory.mktemp("demo")
    out = place / "out"
    interrupted(out, environment, (out / "train/last.pt").exists, signal.SIGKILL)
    before = stages(out)
    run = toolkit("demo", "--output", "out", "--json", cwd=place, **environment)
    assert run.returncode == 0, run.stderr
    return out, before, json.loads(run.stdout), run.stderr


@pytest.fixture
def copy(demo, tmp_path):
    return shutil.copytree(demo[0], tmp_path / "out", symlinks=True)


def test_killed_it_goes_on_where_it_was(demo):
    out, before, answer, messages = demo
    assert list(before) == STAGES[: STAGES.index("train")]
    assert {name: answer["stages"][name] for name in before} == before
    assert messages.count("finished before") == len(before)
    assert list(answer["stages"]) == STAGES
    assert answer["stages"] == stages(out)
    steps = [json.loads(line)["step"] for line in (out / "train/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    result = json.loads((out / "train/result.json").read_text())
    assert (steps[-1], result["finished"]) == (result["steps"], True)


def test_nothing_is_written_but_the_output_and_the_cache(demo, clone, environment):
    out = demo[0]
    assert [path.name for path in out.parent.iterdir() if path.name != "messages.txt"] == ["out"]
    assert files_below(Path(environment["HOME"])) == {}
    folder, before = clone
    assert files_below(folder) == before


def test_a_second_process_is_refused(copy, environment):
    forget(copy, "train")
    shutil.rmtree(copy / "train")
    run = subprocess.Popen(COMMAND, cwd=copy.parent, env=environment, stderr=subprocess.DEVNULL)
    try:
        while not (copy / "train").exists():
            assert run.poll() is None
            time.sleep(0.1)
        second = toolkit("demo", "--output", "out", cwd=copy.parent, **environment)
    finally:
        run.terminate()
        code = run.wait()
    assert (second.returncode, code) == (2, 143)
    assert (
        second.stderr
        == f"error: another process works in {copy}: wait until it ends, or name another folder\n"
    )
    assert not (copy.parent / ".out.lock").exists()


def test_only_the_published_networks_are_skipped(demo):
    out, _, answer, messages = demo
    skipped = {name: entry["skipped"] for name, entry in answer["stages"].items() if "skipped" in entry}
    assert skipped.keys() - {"page"} == {"published"}
    assert "cannot download" in skipped.pop("page", "cannot download")
    assert skipped["published"] in messages
    assert "Traceback" not in messages
    page = Page((out / "index.html").read_text())
    assert skipped["published"] in page.text


def test_the_page_carries_its_pictures_and_names_its_files(demo):
    out, _, answer, _ = demo
    page = Page((out / "index.html").read_text())
    assert not page.tags & {"script", "iframe", "object", "link"}
    assert len(page.ids) == len(set(page.ids)) == len(STAGES) + 1
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert anchors == page.ids
    assert [link for link in page.links if link[0] != "#" and not (out / link).exists()] == []
    sections = [entry["section"] for entry in answer["stages"].values() if "section" in entry]
    assert len(page.images) == sum(len(section["pictures"]) for section in sections)
    named = {file for section in sections for file in section["pictures"]}
    named |= {table["file"] for section in sections for table in section["tables"]}
    assert named <= set(page.links)


def test_the_page_begins_with_the_result(demo):
    head, _, rest = (demo[0] / "index.html").read_text().partition("<nav")
    contents = rest.partition("</nav>")[0]
    assert len(Page(f"<!doctype html>{head.partition('<header>')[2].replace('</header>', '')}").images) == 1
    for figure in ("AP50, validation", "kB, ncnn fp16", "formats as torch", "ms per picture, runner"):
        assert f"<dt>{figure}</dt>" in head
    assert contents.count(" min</span>") + contents.count("skipped</span>") == len(STAGES)


def test_a_log_has_a_line_while_a_stage_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(screen, "LINE_SECONDS", 0.1)
    log, lines = tmp_path / "demo.log", io.StringIO()
    log.write_text("step 3\n")
    with screen.progress_view(lines, log) as tell:
        tell(DEMO_STAGES[5], "")
        while lines.getvalue().count("\n") < 2:
            time.sleep(0.02)
    assert lines.getvalue() == "[6/14] Training: begins\nat work: Training, 0 s  step 3\n"


def test_every_stage_took_what_the_one_before_left(demo):
    out = demo[0]
    changes = json.loads((out / "anchors/anchors.json").read_text())["changes"]
    spec = json.loads((out / "export/network/spec.json").read_text())
    heads = [anchor for head in reversed(spec["io"]["heads"]) for anchor in head["anchors"]]
    assert heads == changes["anchors"]
    assert spec["io"]["input_size"] == changes["input_size"]
    scores = json.loads((out / "evaluate/scores.json").read_text())
    assert spec["threshold"] == scores["operating_point"]["threshold"]
    result = json.loads((out / "train/result.json").read_text())
    assert abs(scores["coco"]["ap50"] - result["score"]) < 1e-3
    rungs = {rung["name"]: rung for rung in json.loads((out / "ladder/ladder.json").read_text())}
    assert set(rungs) == {"torch", *spec["formats"]}
    assert abs(rungs["ncnn"]["scores"]["AP50"] - rungs["torch"]["scores"]["AP50"]) < 1e-3
    readings = json.loads((out / "runner/readings.json").read_text())
    assert {reading["model"]["format"] for reading in readings} == {"ncnn", "ncnn-fp16", "ncnn-int8"}
    assert all(reading["parity"]["agrees"] for reading in readings)
    cells = json.loads((out / "ablate/report.json").read_text())
    assert (len(cells["table"]), cells["failed"]) == (4, 0)


def test_missing_extras_skip_their_stages_alone(copy, environment):
    forget(copy, "curate", "ablate", "export")
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "lacking, find = ('fiftyone', 'optuna', 'onnxruntime'), PathFinder.find_spec\n"
        "PathFinder.find_spec = lambda name, *more: None if name in lacking else find(name, *more)\n"
        "from toolkit.cli import main\n"
        "sys.argv = ['toolkit', 'demo', '--output', 'out', '--json']\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=copy.parent, env=environment)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)["stages"]
    skipped = {name: entry["skipped"] for name, entry in answer.items() if "skipped" in entry}
    for name, extra in {"curate": "curation", "ablate": "search"}.items():
        assert f'pip install -e ".[{extra}]"' in skipped.pop(name)
    skipped.pop("published")
    assert "has no onnx files" in skipped.pop("page")
    assert skipped == {}
    parity = json.loads((copy / "export/network/parity.json").read_text())
    for fmt in ("onnx", "onnx-end2end", "onnx-int8"):  # the stage goes on with the other formats
        assert 'pip install -e ".[export]"' in parity[fmt]["fault"]
    assert "fault" not in parity["ncnn"]
    text = Page((copy / "index.html").read_text()).text
    assert all(entry["skipped"] in text for entry in answer.values() if "skipped" in entry)


def test_a_stage_that_fails_fails_the_demo(copy, environment):
    forget(copy, "train")
    shutil.rmtree(copy / "train")
    file = copy / "anchors/anchors.json"
    file.write_text(file.read_text().replace('"input_size"', '"no_field"'))
    run = toolkit("demo", "--output", "out", "--json", cwd=copy.parent, **environment)
    assert (run.returncode, run.stdout) == (2, "")
    last = run.stderr.splitlines()[-1]
    assert last.startswith("error: out/index.html lacks the stages that failed: Training (")
    text = Page((copy / "index.html").read_text()).text
    assert stages(copy)["train"]["skipped"] in text
    assert stages(copy)["evaluate"]["skipped"] == "it needs the stage 'Training', which was skipped"


def test_what_runs_anew_is_used_by_those_that_take_from_it(copy, environment):
    forget(copy, "export")
    shutil.rmtree(copy / "runner")
    run = toolkit("demo", "--output", "out", "--json", cwd=copy.parent, **environment)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("begins") == len(["export", "ladder", "app", "page", "runner", "published"])
    assert (copy / "runner" / "stages.png").exists()


def test_an_interrupt_keeps_what_is_finished(copy, environment):
    forget(copy, "train")
    shutil.rmtree(copy / "train")
    code, messages = interrupted(copy, environment, (copy / "train/last.pt").exists, signal.SIGINT)
    assert code == 130
    assert messages.splitlines()[-1] == "interrupted: run the same command again to continue"
    assert "train" not in stages(copy)
    assert "evaluate" in stages(copy)
    text = (copy / "index.html").read_text()  # written before the stage began, of the others
    assert "Stage 6 of 14, Training, is running." in text
    assert 'id="evaluation"' in text
    assert 'id="training"' not in text
    assert not json.loads((copy / "train/result.json").read_text())["finished"]


def test_another_scale_starts_anew(copy, environment):
    def begun() -> bool:
        return (copy / "toy").exists() and not (copy / "train").exists()

    _, messages = interrupted(copy, {**environment, "TOOLKIT_FAST": "0"}, begun, signal.SIGKILL)
    assert "out holds a fast demo, and this is a full one: starting anew" in messages
    assert stages(copy) == {}
    assert [path.name for path in copy.iterdir() if path.is_dir()] == ["toy"]


@pytest.mark.parametrize("kind", ["file", "folder", "damaged"])
def test_a_folder_that_is_no_demo_is_left_alone(kind, tmp_path, environment):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / ("demo.json" if kind == "damaged" else "mine.txt")).write_text("mine")
    message = {
        "file": "out exists and is not a demo",
        "folder": "out exists and is not a demo",
        "damaged": "out/demo.json is damaged",
    }[kind]
    run = toolkit("demo", "--output", "out", cwd=tmp_path, **environment)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"error: {message}")
    assert len(run.stderr.splitlines()) == 1
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]
