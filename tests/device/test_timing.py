"""Readings: what is accepted, kept, computed and shown; and timing on this machine."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.small import KINDS, small, wide_and_tall
from toolkit.ablation import report
from toolkit.device import agreement, settings, timing
from toolkit.device.build import build_runner
from toolkit.device.readings import Reading, import_readings, keep, read_reading, read_timings
from toolkit.device.report import (
    MNN_COLUMN,
    NCNN_COLUMN,
    Timings,
    draw_accuracy,
    draw_stages,
    draw_warming,
    record,
    summarise,
    summary,
    table,
    table_of_engines,
)
from toolkit.device.settings import Load
from toolkit.device.timing import measure
from toolkit.export.folder import Exported, write_threshold
from toolkit.export.write import export_model
from toolkit.models.decode import Boxes
from toolkit.pictures import save_image
from toolkit.runtime import InputError
from toolkit.samples import untrained

STATED = {
    "schema": 1,
    "kind": "bench",
    "input": {"picture": "astronaut.rgb", "width": 512, "height": 512},
    "settings": {"threads": 1, "powersave": 0, "precision": "fp32", "vulkan": False, "warmup": 8,
                 "conf": 0.25, "run_as": "app"},
    "runtime": {"ncnn": "1.0", "compiler": "clang", "threads": "libomp", "abi": "arm64-v8a"},
    "cpu": {"cores": 8, "big": 4, "little": 4, "features": ["neon"]},
    "load_ms": 3.0,
    "first_ms": {"preprocess": 1, "inference": 9, "postprocess": 1},
    "samples": {"start_ms": [0, 6, 12, 18], "preprocess_ms": [1, 1, 1, 1], "inference_ms": [4, 2, 3, 5],
                "postprocess_ms": [0.5, 0.5, 0.5, 0.5]},
    "rss_kb": {"start": 1, "loaded": 2, "peak": 3},
    "detections": [],
    "device": {"manufacturer": "Maker", "model": "Phone", "hardware": "chip", "android": "15"},
    "date": "2026-01-02T03:04:05Z",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def runner():
    """The one for this machine, which takes the place of ncnn's Python package once it is built."""
    return build_runner("x86_64")


@pytest.fixture
def stated(network):
    """What an app would write of the network."""
    files = Exported.read(network).facts("ncnn")
    hashes = {name: facts.sha256 for name, facts in files.items()}
    return {**STATED, "model": {"name": "yoloface-50k", "format": "ncnn", "sha256": hashes}}


def write(path, data):
    path.write_text(json.dumps(data))
    return path


def test_statistics_by_hand(stated):
    found = summary(read_reading(stated, "a test"))
    inference = found[MNN_COLUMN]
    assert (inference.min, inference.p50, inference.max, inference.mean) == (2, 3.5, 5, 3.5)
    assert inference.p90 == pytest.approx(4.7)
    assert inference.std == pytest.approx(np.sqrt(5 / 3))
    assert (inference.first, inference.last) == (4, 5)
    assert found[NCNN_COLUMN].p50 == 4.0
    assert found["total"].p50 == 5.0
    assert summarise([2.0]).std == 0


def test_timings_show_what_differs_and_warn_of_other_work(stated, network):
    quiet = read_reading(stated, "a test")
    shown = Timings([(network, quiet)])
    assert list(shown.columns().values())[0:5] == [["yoloface-50k"], ["ncnn"], ["1"], ["4"], ["3.5"]]
    assert "Maker Phone; 2026-01-02." in shown.caption()
    assert "WARNING" not in shown.caption()
    busy = quiet.model_copy(update={"device": {**quiet.device, "model": "Other", "before": {"busy": 0.65}}})
    both = Timings([(network, quiet), (network, busy)])
    assert both.columns()["device"] == ["Maker Phone", "Maker Other"]
    assert "WARNING: up to 65% of the cores' time" in both.caption()
    for unknown in ({"busy": None}, {"busy": "much"}, None):
        other = quiet.model_copy(update={"device": {**quiet.device, "before": unknown}})
        assert "WARNING" not in Timings([(network, other)]).caption()


def test_app_readings_find_their_network(stated, network, tmp_path):
    one = write(tmp_path / "one.json", stated)
    two = write(tmp_path / "two.json", {"readings": [{**stated, "date": "2026-01-02T04:00:00Z"}, stated]})
    assert import_readings([one], network.parent) == {network: 1}
    assert import_readings([one, two], network.parent) == {network: 1}  # one of them is new
    kept = read_timings(network)
    assert [reading.date[11:13] for reading in kept] == ["03", "04"]
    assert kept[0].as_dict()["first_ms"] == stated["first_ms"]  # nothing that was measured is lost
    columns = table([(network, reading) for reading in kept], {"yoloface-50k": 0.5})
    assert columns["device"] == ["Maker Phone"] * 2
    assert columns["score"] == ["0.5"] * 2
    assert [c[0] for name, c in columns.items() if "ms" in name] == ["4", "3.5", "6.2"]
    assert columns["detections as here"][0] == "not compared"


def test_an_emulators_reading_is_no_timing(stated, network, tmp_path):
    stated = {**stated, "device": {**stated["device"], "hardware": "ranchu"}}
    import_readings([write(tmp_path / "one.json", stated)], network.parent)
    (reading,) = read_timings(network)
    assert reading.emulated
    columns = table([(network, reading)])
    assert {c[0] for name, c in columns.items() if "ms" in name} == {"emulated, not a timing"}
    with pytest.raises(InputError, match="not a timing"):
        summary(reading)
    for draw in (draw_stages, draw_warming):
        with pytest.raises(InputError, match="no timing to draw"):
            draw([reading])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema: input should be 1"),
        ({"kind": "detect"}, "kind: input should be 'bench'"),
        ({"samples": {}}, "samples.start_ms: field required"),
        ({"samples": {**STATED["samples"], "inference_ms": [1.0]}}, "the lists of samples differ in length"),
        ({"samples": {**STATED["samples"], "inference_ms": [1, 2, 3, float("nan")]}}, "NaN"),
        ({"samples": {**STATED["samples"], "inference_ms": [1, 2, 3, -1]}}, "greater than or equal to 0"),
        (
            {"model": {"name": "x", "format": "ncnn", "sha256": {"a": "0" * 64}}},
            "none of the 1 exported networks",
        ),
    ],
)
def test_readings_that_are_none(change, said, stated, network, tmp_path):
    good = write(tmp_path / "good.json", stated)
    bad = write(tmp_path / "bad.json", {**stated, **change})
    with pytest.raises(InputError, match=said) as error:
        import_readings([good, bad], network.parent)
    assert "\n" not in str(error.value)
    assert not (network / "timing.json").exists()


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is not valid JSON"), ("3", "holds no readings"), ("[1]", "not a reading")]
)
def test_files_that_are_none(text, said, network, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=said):
        import_readings([tmp_path / "x.json"], network.parent)
    with pytest.raises(InputError, match="missing.json is missing"):
        import_readings([tmp_path / "missing.json"], network.parent)


def test_agreement_tells_wrong_detections(network, stated):
    task = agreement.timing_job(network, "ncnn", settings.load_picture()[0])
    rows = [
        {"class": task.classes[c], "score": float(s), "box": [float(v) for v in b]}
        for b, s, c in zip(task.wanted.boxes, task.wanted.scores, task.wanted.class_ids, strict=True)
    ]

    def agrees(detections) -> bool:
        return agreement.compare_detections(
            task, read_reading({**stated, "detections": detections}, "a test")
        )["agrees"]

    assert len(rows) > 5
    assert agrees(rows)
    assert agrees(rows[::-1])
    assert not agrees(rows[1:])
    assert not agrees([*rows, rows[0]])
    assert not agrees([{**rows[0], "score": rows[0]["score"] - 0.01}, *rows[1:]])
    assert not agrees([{**rows[0], "box": [v + 3 for v in rows[0]["box"]]}, *rows[1:]])
    assert agrees([*rows, {**rows[0], "score": task.conf + 5e-4}])  # rounding at the threshold


@pytest.mark.parametrize("kind", KINDS)
def test_agreement_is_that_of_the_networks_own_fit_colours_and_heads(kind, tmp_path):
    folder = tmp_path / "net"
    export_model(small(kind), folder, ["ncnn"], name="small")
    for name, image in wide_and_tall().items():
        save_image(tmp_path / f"{name}.png", image)
        words = {"picture": tmp_path / f"{name}.png", "load": Load(warmup=1, loops=1, cooldown=0)}
        ((_, reading),) = measure([folder], ["local"], **words)
        assert reading.parity["agrees"]
        assert reading.parity["matched"] > 3
    spec = Exported.read(folder).as_dict()
    spec["io"]["fit"] = "stretch" if spec["io"]["fit"] == "letterbox" else "letterbox"
    write(folder / "spec.json", spec)
    other = agreement.timing_job(folder, "ncnn", image)
    assert agreement.compare_detections(other, reading)["agrees"] is False


def test_nothing_found_is_nothing_compared(network, stated, tmp_path):
    """A picture without objects: no parity is shown, in words or in JSON, and it is no failure."""
    task = agreement.timing_job(network, "ncnn", settings.load_picture()[0])
    none = replace(task, wanted=Boxes(*(np.array(part)[:0] for part in vars(task.wanted).values())))

    def compared(task, detections):
        reading = read_reading({**stated, "detections": detections}, "a test")
        return reading.model_copy(update={"parity": agreement.compare_detections(task, reading)})

    reading = compared(none, [])
    assert reading.parity["agrees"] is None
    keep(network, [reading])
    (kept,) = read_timings(network)
    assert table([(network, kept)])["detections as here"] == ["nothing to compare"]
    assert json.loads(json.dumps(record(network, kept)))["parity"]["agrees"] is None
    row = {"class": task.classes[0], "score": 0.9, "box": [0, 0, 9, 9]}
    assert compared(none, [row]).parity["agrees"] is False
    assert compared(task, []).parity["agrees"] is False

    spec = Exported.read(network).as_dict()
    write(network / "spec.json", {**spec, "threshold": 1.0})
    command = [sys.executable, "-m", "toolkit.cli", "time", str(network), "--device", "local", "--loops", "1"]
    run = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)["readings"][0]["parity"]["agrees"] is None


def test_on_this_machine(network, tmp_path):
    counts, load = [], Load(warmup=2, loops=30, cooldown=0)
    found = measure(
        [network], ["local"], ("ncnn", "ncnn-fp16"), load=load, show=lambda rows: counts.append(len(rows))
    )
    assert counts == [1, 2]
    assert found.columns()["format"] == ["ncnn", "ncnn-fp16"]
    assert "device" not in found.columns()
    assert all(0 <= reading.device["before"]["busy"] <= 1 for _, reading in found)
    assert read_timings(network) == [reading for _, reading in found]
    readings = [reading for _, reading in found]
    for reading in readings:
        assert reading.parity["agrees"]
        assert reading.machine.startswith("this machine: ")
        assert reading.machine.endswith(", not a phone")
        assert len(reading.samples.start_ms) == 30
    assert readings[0].parity["score"] < 1e-4
    figures = [
        draw_stages(readings),
        draw_warming(readings),
        draw_accuracy(readings, {"yoloface-50k": 0.4}),
    ]
    for figure in figures:
        assert "not a phone" in figure.axes[0].get_title(loc="left")
    with pytest.raises(InputError, match="none of the timed networks has a score"):
        draw_accuracy(readings, {"other": 0.4})


def test_until_the_runner_is_built_the_package_is_timed(network, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    load = Load(warmup=1, loops=3, cooldown=0)
    entries = measure([network], ["local"], ("ncnn", "ncnn-fp16"), threads=(1, 2), load=load)
    assert "toolkit device build --abi x86_64\n" in capsys.readouterr().err
    assert [reading.settings.threads for _, reading in entries] == [1, 2, 1, 2]
    for _, reading in entries:
        assert reading.settings.run_as == "package"
        assert reading.runtime["engine"] == "ncnn"
        assert len(reading.samples.start_ms) == 3
    assert not (tmp_path / "cache" / "device").exists()
    assert read_timings(network) == [reading for _, reading in entries]


def test_sustained(network):
    ((_, reading),) = measure([network], ["local"], load=Load(warmup=1, seconds=1, cooldown=0))
    assert 0.9e3 < reading.samples.start_ms[-1] < 3e3


def test_a_network_with_no_ncnn_files(network):
    spec = json.loads((network / "spec.json").read_text())
    del spec["formats"]["ncnn-fp16"]
    write(network / "spec.json", spec)
    with pytest.raises(
        InputError, match="has no ncnn-fp16, it has ncnn: export the network with --to ncnn-fp16"
    ):
        measure([network], ["local"], ("ncnn-fp16",))
    with pytest.raises(InputError, match="unknown device 'usb'"):
        measure([network], ["usb"])


def test_the_command(stated, network, tmp_path):
    def toolkit(*words):
        command = [sys.executable, "-m", "toolkit.cli", "time", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    file = write(tmp_path / "one.json", stated)
    run = toolkit("import", file, "--exports", network.parent, "--json")
    assert json.loads(run.stdout) == {"added": {str(network): 1}}
    run = toolkit(
        "table", network, "--score", "yoloface-50k=0.4", "--output", tmp_path / "pictures", "--json"
    )
    (row,) = json.loads(run.stdout)["readings"]
    assert row["milliseconds"]["total"]["p50"] == 5.0
    made = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert made == ["accuracy.png", "stages.png", "warming.png"]
    for words, said in (
        (("table", network, "--score", "x"), "NETWORK=SCORE"),
        ((network, "--device", "local", "--threads", "0"), "--threads takes whole numbers"),
        ((tmp_path, "--device", "local"), "has no spec.json"),
    ):
        run = toolkit(*words)
        assert (run.returncode, run.stdout) == (2, "")
        assert said in run.stderr
        assert run.stderr.count("\n") == 1


def test_an_export_into_the_same_folder_keeps_readings_and_threshold(stated, network):
    keep(network, [read_reading(stated, "a test")])
    write_threshold(str(network), 0.4)
    model = untrained("yoloface-50k")
    export_model(model, network, ["ncnn"], name="yoloface-50k")
    (reading,) = read_timings(network)
    columns = table([(network, reading)])
    assert Exported.read(network).threshold == 0.4
    assert (columns["input"], columns["kB"][0].isdigit()) == (["56x56"], True)

    export_model(model, network, ["ncnn"], (64, 64), name="yoloface-50k")
    assert read_timings(network) == [reading]
    assert Exported.read(network).threshold == 0.25  # another input, another threshold
    export_model(model, network, ["onnx"], name="another")
    columns = table([(network, reading)])
    assert (columns["input"], columns["kB"]) == (["other files"], ["other files"])  # than those timed
    assert [c[0] for name, c in columns.items() if "ms" in name] == ["4", "3.5", "6.2"]

    (network / "spec.json").write_text("{")
    export_model(model, network, ["ncnn"], name="yoloface-50k")
    assert read_timings(network) == [reading]


def test_ctrl_c_ends_a_sweep_and_keeps_what_arrived(network):
    command = [sys.executable, "-m", "toolkit.cli", "time", str(network), "--device", "local", "--loops", "1"]
    command += ["--threads", ",".join(map(str, range(1, 61)))]  # a second of rest after each
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (network / "timing.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in said
    assert 1 <= len(read_timings(network)) < 10


def test_a_full_disk_ends_a_sweep(network, monkeypatch):
    runs, run = [], timing._run

    def full(folder, readings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(timing, "keep", full)
    monkeypatch.setattr(timing, "_run", lambda *words: runs.append(1) or run(*words))
    with pytest.raises(OSError, match="No space left"):
        measure([network], ["local"], threads=(1, 2, 3), load=Load(warmup=1, loops=1, cooldown=0))
    assert len(runs) == 1


def test_a_device_named_twice_is_not_timed_at_once(network):
    with pytest.raises(InputError, match="local is named twice"):
        measure([network], ["local", "local"])
    assert not (network / "timing.json").exists()


def test_two_writers_lose_nothing(stated, network):
    """Processes that add readings at the same time."""
    code = (
        "import json, sys; from toolkit.device.timing import keep, read_reading\n"
        "stated = json.loads(sys.argv[2])\n"
        "for i in range(10): keep(sys.argv[1], [read_reading({**stated, 'date': sys.argv[3] + str(i)}, '')])"
    )
    words = [sys.executable, "-c", code, str(network), json.dumps(stated)]
    writers = [subprocess.Popen([*words, name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len({reading.date for reading in read_timings(network)}) == 20
    assert keep(network, [Reading.model_validate(stated)]) == 1


def test_a_study_has_the_device_as_a_cost(network, tmp_path):
    shutil.copytree(network, tmp_path / "study" / "networks" / "0")
    with pytest.raises(InputError, match="no networks of a study"):
        report.time_study(tmp_path, ["local"])
    assert report.time_study(tmp_path / "study", ["local"], loops=5) == 1
    rows = [
        {"levels": {"se": se}, "seed": 0, "score": 0.5, "network": name} for se, name in ((0, "0"), (1, "1"))
    ]
    ((title, value),) = report.device_costs(tmp_path / "study", rows)["0"].items()
    assert title.endswith("not a phone, ms")
    rows[0] |= {title: value.value, "intervals": {title: [value.low, value.high]}}
    text = report.markdown(report.study_table(rows, costs={title: title}), costs={title: title})
    assert title in text
    assert f"{value.value:.3f} \\[{value.low:.3f}, {value.high:.3f}\\]" in text
    assert "not measured" in text  # of the network that was not timed


def test_no_setting_hides_another_in_the_table_by_engine(network):
    (reading,) = [kept for _, kept in measure([network], load=Load(warmup=1, loops=2, cooldown=0))]
    big = reading.model_copy(update={"settings": reading.settings.model_copy(update={"powersave": 2})})
    vulkan = reading.model_copy(update={"settings": reading.settings.model_copy(update={"vulkan": True})})
    emulated = reading.model_copy(update={"emulated": True})
    columns = table_of_engines([(network, each) for each in (reading, big, vulkan, emulated)])
    assert columns["threads"] == ["1", "1, big cores"]
    assert columns["NCNN, Vulkan, ms"] == [columns["NCNN, ms"][0], "not measured"]
    assert "not measured" not in columns["NCNN, ms"]
