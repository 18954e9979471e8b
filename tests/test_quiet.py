"""Nothing phones home: what the engines and the curation say to the network, as the kernel sees it."""

import os
import re
import shutil
import subprocess
import sys

import pooch
import psutil
import pytest

from toolkit.data.mongod import check_mongod
from toolkit.device.browser import find_browser
from toolkit.device.readings import read_timings
from toolkit.export.write import export_model
from toolkit.samples import untrained

# Every package of others that computes, converts, stores or draws in the chain, each at its work.
CHAIN = """
import sys
from importlib.util import find_spec
from pathlib import Path
from toolkit import viz
from toolkit.data import curation
from toolkit.data.mongod import database
from toolkit.data.toy import make_toy
from toolkit.export.folder import open_export
from toolkit.export.openvino import load_openvino
from toolkit.export.write import export_model
from toolkit.runtime import require
from toolkit.samples import untrained

folder = Path(sys.argv[1])
toy = make_toy(folder / "toy", count=4, classes=2)
export_model(untrained("yoloface-50k"), folder / "export", ["onnx", "mnn", "ncnn"], name="quiet")
for fmt in ("onnx", "mnn", "ncnn"):
    open_export(folder / "export", fmt)
viz.bars(["a"], [1.0]).savefig(folder / "bars.png")
for package, extra in (("optuna", "search"), ("lightning.fabric", "training")):
    require(package, extra)
if find_spec("openvino"):
    load_openvino()
with database():
    desk = curation.to_fiftyone(toy, "quiet")
    curation.open_app(desk, auto=False).close()
"""


def traced(home, *words):
    """The lines of strace about the network, of a program and all that it starts, with `home` as its home."""
    if not shutil.which("strace"):
        pytest.skip("needs the Debian package strace")
    trace = home / "trace.txt"
    strace = ["strace", "-f", "-qq", "-e", "trace=network", "-e", "signal=none", "-s", "80", "-o", trace]
    allowed = subprocess.run([*strace, "true"], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"strace may not trace here: {allowed.stderr.strip()}")
    own = ("ORT_", "FIFTYONE_", "RAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment = {**kept, "HOME": str(home), "BROWSER": "true", "MPLBACKEND": "agg"}
    environment.pop("XDG_CACHE_HOME", None)
    ended = subprocess.run([*strace, *words], env=environment, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return trace.read_text(errors="replace").splitlines()


def foreign(lines):
    """Calls that name an address other than this machine's own."""
    calls = [line for line in lines if re.search(r"\b(connect|bind|sendto|sendmsg|sendmmsg)\(", line)]
    addresses = [line for line in calls if re.search(r"sa_family=AF_INET6?\b", line)]
    return [line for line in addresses if not re.search(r'"(127\.[0-9.]+|::1|::ffff:127\.[0-9.]+)"', line)]


def test_a_call_to_elsewhere_is_seen(tmp_path):
    call = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.{}"
    cases = {"connect(('192.0.2.1', 9))": 1, "bind(('', 0))": 1, "bind(('127.0.0.1', 0))": 0}
    for action, seen in cases.items():
        assert len(foreign(traced(tmp_path, sys.executable, "-c", call.format(action)))) == seen, action


def test_the_engines_and_the_desk_talk_to_nobody(tmp_path):
    """A name that is looked up would be a call to the name server."""
    if fault := check_mongod():
        pytest.skip(fault)
    home = tmp_path / "home"
    home.mkdir()
    lines = traced(home, sys.executable, "-c", CHAIN, str(tmp_path))
    assert len(lines) > 20  # the database and the App on this machine
    assert foreign(lines) == []
    assert not (home / ".cache" / "Microsoft").exists()
    environments = [process.info["environ"] for process in psutil.process_iter(["environ"])]
    left = [environment for environment in environments if str(home) in str(environment)]
    assert left == []


# Chromium asks the kernel whether there is a way to this address, and sends nothing there.
PROBE = 'inet_pton(AF_INET6, "2001:4860:4860::8888"'


@pytest.mark.skipif(find_browser() is None, reason="chromium is not installed: see `make debian`")
def test_the_browser_talks_to_this_machine_alone(page_engine, tmp_path):
    home, network = tmp_path / "home", tmp_path / "net"
    (home / ".cache").mkdir(parents=True)
    (home / ".cache" / "toolkit").symlink_to(pooch.os_cache("toolkit"))
    export_model(untrained("yoloface-50k"), network, ["onnx"], name="net")
    words = ("time", str(network), "--device", "browser", "--loops", "2")
    lines = traced(home, sys.executable, "-m", "toolkit.cli", *words)
    assert read_timings(network)
    assert [line for line in foreign(lines) if PROBE not in line] == []
    assert not [line for line in lines if PROBE in line and not line.split()[1].startswith("connect(")]
    assert sorted(path.name for path in home.iterdir()) == [".cache", "trace.txt"]
