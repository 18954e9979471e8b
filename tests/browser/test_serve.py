"""`toolkit serve` and `toolkit time --device browser`: a phone's page here, its milliseconds back."""

import errno
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from tests.browser.conftest import ready
from tests.test_readme import SERVED
from toolkit import create_model, widgets
from toolkit.device.readings import read_timings
from toolkit.device.serve import PageServer
from toolkit.export.write import export_model
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def exported(zoo, page_engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    for name in ("yoloface-500k-v2", "landmark106"):
        export_model(create_model(name, "published"), folder / name, ["onnx", "ncnn"], name=name)
    return folder


@pytest.fixture
def networks(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "exports")
    return [tmp_path / "exports/yoloface-500k-v2", tmp_path / "exports/landmark106"]


def run_benchmark(page, threads):
    page.select_option("#threads", str(threads))
    ready(page)
    if page.get_attribute("#timing", "open") is None:
        page.locator("#timing summary").click()
    page.locator("#bench").click()
    page.get_by_text("Timing.").wait_for()
    page.get_by_text("pictures timed, and sent to the computer.").wait_for()


def listening(process):
    """(address, port) of what a process and those that it started listen at."""
    family = [process, *process.children(recursive=True)]
    found = [connection for each in family for connection in each.net_connections("tcp")]
    return [tuple(c.laddr) for c in found if c.status == psutil.CONN_LISTEN]


def refuses(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_reading_goes_from_the_page_into_timing_json(page, start, address, networks, tmp_path):
    program, command, _, *options = shlex.split(SERVED[0], comments=True)
    assert (program, command, options) == (
        "toolkit",
        "serve",
        ["--lan", "--picture", "picture.jpg"],
    )  # here it answers this machine alone, with the usual picture
    process = start("toolkit.cli", command, *networks, "--readings", 2, "--json")
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    page.goto(address(process) + "/")
    ((host, port),) = listening(psutil.Process(process.pid))
    assert host == "127.0.0.1"
    ready(page)
    # the picture is there before anybody has chosen one
    page.locator("#count", has_text="1").wait_for()
    assert page.evaluate("crossOriginIsolated")
    for threads in (1, 2):
        run_benchmark(page, threads)
    assert process.wait(timeout=60) == 0
    assert faults == []
    rows = json.loads((tmp_path / "answer.txt").read_text())["readings"]
    assert [row["settings"]["threads"] for row in rows] == [1, 2]
    assert all(row["parity"]["agrees"] and row["parity"]["matched"] == 1 for row in rows)
    kept = read_timings(networks[0])
    assert [reading.landmarks.name for reading in kept] == ["landmark106"] * 2
    assert kept[0].device["user_agent"].startswith("Mozilla")
    assert all(row["parity"]["points"] < 0.005 for row in rows)
    assert refuses(port)
    log = (tmp_path / "log.txt").read_text()
    assert log.count("browser (wasm), not native") == 2
    assert "\u2588" in log


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_it_ends_and_nothing_listens(kind, code, start, address, networks):
    process = start("toolkit.cli", "serve", networks[0])
    address(process)
    ((_, port),) = listening(psutil.Process(process.pid))
    process.send_signal(kind)
    assert process.wait(timeout=30) == code
    assert refuses(port)


def test_the_notebooks_code(page, networks):
    box = widgets.phone(networks[:1])
    try:
        code, rows = box.children
        assert "<svg" in code.value
        assert box.server.address in code.value
        assert "No reading yet" in rows.value
        page.goto(box.server.address)
        ready(page)
        run_benchmark(page, 1)
        assert rows.value.count("<tr>") == 2
        assert "browser (wasm), not native: Chrome" in rows.value
        assert len(read_timings(networks[0])) == 1
    finally:
        box.server.close()


def timed(*words):
    command = [sys.executable, "-m", "toolkit.cli", "time", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: see `make debian`")
def test_this_machines_browser_in_the_table_of_the_others(networks):
    face, points = networks
    run = timed(
        face, "--device", "browser", "--landmarks", points, "--threads", "1,2", "--loops", 5, "--json"
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)["readings"]
    assert [(row["settings"]["threads"], row["settings"]["run_as"]) for row in rows] == [
        (1, "browser"),
        (2, "browser"),
    ]
    assert all(row["parity"]["agrees"] for row in rows)
    assert all(len(reading.samples.start_ms) == 5 for reading in read_timings(face))
    assert timed(face, "--device", "local", "--format", "onnx", "--loops", 3, "--cooldown", 0).returncode == 0
    run = timed("table", face, "--json")
    columns = json.loads(run.stdout)["engines"]
    # a cascade and a detector alone are different networks
    assert columns["network"] == ["yoloface-500k-v2 + landmark106"] * 2 + ["yoloface-500k-v2"]
    assert columns["onnxruntime, ms"][:2] == ["not measured"] * 2
    assert columns["browser, WASM, ms"][2] == "not measured"
    assert len(set(columns["device"])) == 1


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: see `make debian`")
def test_what_a_page_cannot_do_is_said_and_the_rest_is_kept(networks):
    face, _ = networks
    run = timed(face, "--device", "browser", "--threads", "64,1", "--loops", 3)
    assert run.returncode == 2
    assert "could not time all: yoloface-500k-v2: this browser gives the page" in run.stderr
    assert [reading.settings.threads for reading in read_timings(face)] == [1]


def test_what_a_browser_cannot_do(networks, tmp_path):
    face, points = networks
    for words, said in (
        ((face, "--device", "local", "--browser"), "there is no phone to open a browser on"),
        ((face, "--device", "browser", "--format", "ncnn"), "a browser runs the format onnx"),
        ((face, "--device", "browser", "--powersave", "2"), "a browser runs the format onnx"),
        ((face, "--device", "browser", "--device", "browser"), "browser is named twice"),
        ((points, "--device", "browser"), "places landmarks and finds no objects"),
        (
            (face, "--device", "local", "--format", "onnx-end2end"),
            "is not a format that can be timed",
        ),
        ((face, "--device", "local", "--format", "onnx", "--landmarks", points), "with ncnn formats alone"),
    ):
        run = timed(*words)
        assert run.returncode == 2, run.stderr
        assert said in run.stderr
    assert not (face / "timing.json").exists()


def test_in_the_network_the_page_may_use_camera_and_threads(page, networks):
    """After the one warning, which this browser is told to ignore."""
    try:
        server = PageServer(networks[:1], lan=True)
    except InputError as error:
        pytest.skip(str(error))
    with server, page.context.browser.new_context(ignore_https_errors=True) as context:
        phone = context.new_page()
        phone.goto(server.address)
        ready(phone)
        assert (
            phone.evaluate("[isSecureContext, crossOriginIsolated, !!navigator.mediaDevices]") == [True] * 3
        )
        run_benchmark(phone, 1)
        assert len(server.inbox.readings) == 1
