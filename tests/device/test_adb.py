"""The real adb client and adbutils against a device on loopback that runs ARM files through qemu."""

import gc
import json
import os
import shutil
import socket
import subprocess
import sys

import psutil
import pytest

from tests.device.fake_adb import FakePhone, adb_server, adb_server_that_sees
from toolkit import create_model
from toolkit.device import adb
from toolkit.device.readings import read_timings
from toolkit.device.settings import Load
from toolkit.device.timing import measure
from toolkit.export.write import export_model
from toolkit.runtime import InputError

adbutils = pytest.importorskip("adbutils")
if shutil.which("qemu-aarch64-static") is None:
    pytest.skip("needs qemu-user-static, which runs the ARM files", allow_module_level=True)
# adbutils leaves sockets to the garbage collector where adb refuses a request
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
SHORT = Load(warmup=1, loops=2, cooldown=0)


@pytest.fixture(autouse=True)
def collected():
    """What is left to the garbage collector goes while the filters above hold."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with adb_server(tmp_path_factory.mktemp("home")) as port:
        yield port


@pytest.fixture
def phones(server, tmp_path, monkeypatch):
    """Makes phones, and disconnects adb from them afterwards."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", server)
    made = []

    def make(**options) -> FakePhone:
        made.append(FakePhone(tmp_path / f"phone{len(made)}", **options))
        return made[-1]

    yield make
    for phone in made:
        phone.close()
    subprocess.run([adbutils.adb_path(), "disconnect"], check=True, capture_output=True)


def left_behind(network):
    return sorted(path.name for path in network.parent.rglob(".*-*"))


def test_sweep_from_end_to_end(phones, network):
    """Connect, push, sweep, pull, table, as the command does it."""
    phone = phones()
    command = [sys.executable, "-m", "toolkit.cli", "time", str(network), "--device", f"adb:{phone.serial}"]
    command += ["--loops", "2", "--cooldown", "0", "--sweep"]
    run = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    threads = [count for count in (1, 2, 4) if count <= (os.cpu_count() or 1)]
    wanted = [(fmt, count) for fmt in ("ncnn", "ncnn-fp16") for count in threads]
    rows = json.loads(run.stdout)["readings"]
    assert [(row["model"]["format"], row["settings"]["threads"]) for row in rows] == wanted
    for row in rows:
        assert row["emulated"]
        assert row["milliseconds"] is None
        assert row["parity"]["wanted"] > 10
        assert row["parity"]["agrees"]
        assert row["device"]["model"] == "Imagined Phone"
        assert row["device"]["system"] == "Android 15"
        assert row["device"]["abi"] == "arm64-v8a"
        assert "celsius" in row["device"]["before"]
    assert rows[0]["parity"]["matched"] == rows[0]["parity"]["wanted"]
    assert rows[0]["parity"]["score"] < 1e-4
    readings = read_timings(network)
    assert len(readings) == len(wanted)
    assert all(len(reading.samples.inference_ms) == 2 for reading in readings)
    assert list((phone.root / "tmp").iterdir()) == []  # nothing stays on the phone

    table = subprocess.run([*command[:4], "table", str(network)], capture_output=True, text=True)
    assert table.returncode == 0, table.stderr
    assert "emulated" in table.stdout
    pictures = subprocess.run(
        [*command[:4], "table", str(network), "--output", str(network.parent / "p")],
        capture_output=True,
        text=True,
    )
    assert pictures.returncode == 2
    assert "no timing to draw" in pictures.stderr


def test_an_old_phone_takes_the_runner_of_32_bits(phones, network):
    phone = phones(machine="armv7l", properties={"ro.product.cpu.abilist": "armeabi-v7a,armeabi"})
    ((_, reading),) = measure([network], [f"adb:{phone.serial}"], load=SHORT)
    assert reading.runtime["abi"] == reading.device["abi"] == "armeabi-v7a"
    assert reading.parity["agrees"]


def test_qemu_is_found_out_by_its_processor(phones, network):
    """A phone that hides its emulation still has no ARM processor to show."""
    phone = phones(properties={"ro.kernel.qemu": ""})
    ((_, reading),) = measure([network], [f"adb:{phone.serial}"], load=SHORT)
    assert reading.emulated


def test_both_networks_of_a_cascade_are_pushed(phones, cascade, zoo, tmp_path):
    phone, folder = phones(), shutil.copytree(cascade[0], tmp_path / "detector")
    picture = zoo / "images" / "landmark-test.jpeg"
    address = f"adb:{phone.serial}"
    ((_, reading),) = measure([folder], [address], picture=picture, load=SHORT, landmarks=cascade[1])
    assert reading.parity["agrees"]
    assert reading.parity["points"] < 1e-4
    assert (reading.landmarks.name, len(reading.samples.landmarks_ms)) == ("landmark106", 2)
    assert list((phone.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("connect", "adb cannot connect to"),
        ("ask", "went away while running a command"),
        ("push", "went away while copying files to it"),
        ("run", "went away while running a command"),
        ("pull", "went away while copying a result"),
    ],
)
def test_a_phone_that_vanishes(step, said, phones, network):
    phone = phones(vanish_at=step)
    before = sorted(path.name for path in network.iterdir())
    with pytest.raises(InputError, match=said) as error:
        measure([network], [f"adb:{phone.serial}"], load=SHORT)
    assert phone.serial in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in network.iterdir()) == before
    assert left_behind(network) == []


def test_what_was_complete_is_kept(phones, network):
    """Two phones at once; one of them vanishes in its second run."""
    good, bad = phones(), phones(vanish_at="run", survives=1)
    with pytest.raises(InputError, match=f"adb:{bad.serial} went away"):
        measure([network], [f"adb:{good.serial}", f"adb:{bad.serial}"], threads=(1, 2), load=SHORT)
    kept = [(r.device["address"], r.settings.threads) for r in read_timings(network)]
    assert sorted(kept) == sorted(
        [(f"adb:{good.serial}", 1), (f"adb:{good.serial}", 2), (f"adb:{bad.serial}", 1)]
    )


def test_no_device(phones, network):
    with pytest.raises(InputError, match=r"no Android device answers adb: connect one .* USB debugging"):
        measure([network], ["adb"], load=SHORT)


def test_two_devices_and_no_choice(phones, network):
    serials = [phones().serial, phones().serial]
    for serial in serials:
        subprocess.run([adbutils.adb_path(), "connect", serial], check=True, capture_output=True)
    with pytest.raises(InputError, match="2 devices answer adb, .*name one as adb:"):
        measure([network], ["adb"], load=SHORT)


def test_a_phone_that_has_not_authorised_this_computer(phones, network):
    phone = phones(authorised=False)
    with pytest.raises(InputError, match="accept 'Allow USB debugging'"):
        measure([network], [f"adb:{phone.serial}"], load=SHORT)


def test_the_one_good_phone_among_others_is_used(phones, network, capfd):
    """The others are named. Where none is good all are."""
    shy, good = phones(authorised=False), phones()
    for phone in (shy, good):
        subprocess.run([adbutils.adb_path(), "connect", phone.serial], capture_output=True)
    ((_, reading),) = measure([network], ["adb"], load=SHORT)
    assert reading.device["address"] == f"adb:{good.serial}"
    messages = capfd.readouterr().err
    assert f"not used: adb:{shy.serial} has not authorised" in messages
    assert good.serial not in messages
    good.close()
    subprocess.run([adbutils.adb_path(), "disconnect", good.serial], capture_output=True)
    with pytest.raises(InputError, match=f"adb:{shy.serial} has not authorised"):
        measure([network], ["adb"], load=SHORT)


RULES = "no permissions (missing udev rules? user is in the plugdev group); see [http://x.org/device.html]"
SEEN = {
    "0123\tno permissions; see [http://x.org/device.html]\n": ("adb", "adb:0123 .*udev rules.*apt install"),
    f"(no serial number)\t{RULES}\n": ("adb", r"adb:\(no serial number\) .*udev rules.*plugdev"),
    f"0123\t{RULES}\nabcd\toffline\n": ("adb", "adb:0123 .*udev rules.*; adb:abcd is offline"),
    "0123\tdevice\nabcd\toffline\n": ("adb:abcd", "adb:abcd is offline: connect it again"),
    "0123\tsideload\n": ("adb:0123", "in the state 'sideload': restart it"),
    "0123\tdevice\nabcd\tdevice\nefgh\toffline\n": ("adb", "2 devices answer adb, 0123, abcd: name one"),
}


@pytest.mark.parametrize("devices", SEEN, ids=range(len(SEEN)))
def test_states_of_a_usb_port(devices, network, monkeypatch):
    """The real client, of a server that sees such devices."""
    address, words = SEEN[devices]
    with adb_server_that_sees(devices) as port:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", port)
        with pytest.raises(InputError, match=words):
            measure([network], [address], load=SHORT)


@pytest.mark.parametrize("options", [{"full": True}, {"free_kb": 100}], ids=["push", "df"])
def test_a_phone_without_space(options, phones, network):
    phone = phones(**options)
    with pytest.raises(InputError, match=r"space left in /data/local/tmp.*: free some there"):
        measure([network], [f"adb:{phone.serial}"], load=SHORT)
    assert not (network / "timing.json").exists()


def test_a_processor_without_a_runner(phones, network):
    phone = phones(machine="mips", properties={"ro.product.cpu.abilist": "mips"})
    with pytest.raises(InputError, match="there are runners for"):
        measure([network], [f"adb:{phone.serial}"], load=SHORT)


def test_no_adb_program(monkeypatch, network):
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/nowhere/adb")
    with pytest.raises(InputError, match="no adb program was found: install"):
        measure([network], ["adb"], load=SHORT)


def test_a_file_that_differs_is_never_pushed(phones, network):
    phone = phones()
    with (network / "model-fp32.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="differs from spec.json"):
        measure([network], [f"adb:{phone.serial}"], load=SHORT)
    assert phone.commands == []


def test_an_answer_without_end_is_cut(phones, network, monkeypatch):
    monkeypatch.setattr(adb, "LIMIT", 2000)
    phone = phones(properties={"ro.product.model": "x" * 5000})
    with pytest.raises(InputError, match=f"adb:{phone.serial} answers more than"):
        measure([network], [f"adb:{phone.serial}"], load=SHORT)


@pytest.mark.parametrize("end", ["", "; raise KeyboardInterrupt", "; raise SystemExit(2)"])
def test_a_server_that_was_started_for_it_ends(tmp_path, end):
    """It listens on this machine alone, and asks nobody in the network."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    watch = (
        "import psutil; from toolkit.device.adb import serials; serials(); "
        "servers = [p for p in psutil.process_iter() if p.name() == 'adb' and "
        f"p.environ().get('ANDROID_ADB_SERVER_PORT') == '{port}']; "
        "print(*(c.laddr.ip for p in servers for c in p.net_connections('inet') "
        "if c.status in ('LISTEN', 'NONE')), flush=True)"
    )
    run = subprocess.run(
        [sys.executable, "-c", watch + end],
        env={**os.environ, "ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.stdout.split() == ["127.0.0.1"], run.stderr
    assert not answers_at(port)


def test_a_server_that_ran_before_stays(server, monkeypatch):
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", server)
    code = "from toolkit.device.adb import serials; serials()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
    assert answers_at(int(server))


def answers_at(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


CHROMIUM = """
exec >/dev/null 2>&1 </dev/null
cd / && setsid chromium --headless=new --no-sandbox --user-data-dir={folder} "$5" & echo $! > {folder}.pid
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: see `make debian`")
def test_chrome_on_a_phone_is_led_to_this_machine(phones, tmp_path):
    """`am` of this phone opens its page in Chromium, which finds the phone's own localhost."""
    folder = tmp_path / "net"
    export_model(create_model("yoloface-50k"), folder, ["onnx"], name="net")
    phone = phones()
    phone.add_program("am", CHROMIUM.format(folder=tmp_path / "profile"))
    try:
        command = [
            "time",
            str(folder),
            "--device",
            f"adb:{phone.serial}",
            "--browser",
            "--loops",
            "3",
            "--json",
        ]
        run = subprocess.run([sys.executable, "-m", "toolkit.cli", *command], capture_output=True, text=True)
    finally:
        browser = psutil.Process(int((tmp_path / "profile.pid").read_text()))
        for process in (*browser.children(recursive=True), browser):
            process.kill()
    if "cannot download" in run.stderr:
        pytest.skip("the engine of the page cannot be downloaded here")
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(run.stdout)["readings"]
    assert row["settings"]["run_as"] == "browser"
    assert row["device"]["model"] == "Imagined Phone"
    assert row["emulated"]
    assert row["parity"]["agrees"] is not False
    (reading,) = read_timings(folder)
    assert reading.machine.endswith("on Imagined Phone")
    assert phone.reversed == {}
    (opened,) = [command for command in phone.commands if command.startswith("am ")]
    assert "http://localhost:" in opened


def test_a_phone_without_chrome(phones, tmp_path):
    folder = tmp_path / "net"
    export_model(create_model("yoloface-50k"), folder, ["onnx"], name="net")
    phone = phones()
    phone.add_program("am", "echo 'Error: Activity not started, unable to resolve Intent'")
    with pytest.raises(InputError, match="does not open a page in Chrome|cannot download") as caught:
        measure([folder], [f"adb:{phone.serial}"], load=SHORT, browser=True)
    if "cannot download" in str(caught.value):
        pytest.skip("the engine of the page cannot be downloaded here")
    assert phone.reversed == {}
