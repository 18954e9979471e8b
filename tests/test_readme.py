"""Every command of the README as it stands there, in its order, in one folder with small inputs."""

import getpass
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.device.fake_adb import FakePhone, adb_server
from tests.device.loopback_board import READY, Board
from toolkit.data.formats import registry
from toolkit.data.toy import make_toy
from toolkit.data.toy_faces import make_toy_faces
from toolkit.export.write import export_model
from toolkit.models import create_model
from toolkit.pictures import save_image
from toolkit.samples import pan_and_zoom, photographs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.strip()
    for line in re.findall(r"^    (?! )(.*)$", README, re.MULTILINE)
    if not line.startswith(("make ", "sdkmanager ", "cd "))
]
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
WITH_APP = [command for command in COMMANDS if "--app" in command]  # tests/browser runs them
SERVED = [command for command in COMMANDS if command.startswith("toolkit serve")]  # and these
WITH_DEVICE = [command for command in COMMANDS if "adb" in command or "ssh:" in command]
DEVICES = READY and find_spec("adbutils") is not None and shutil.which("qemu-aarch64-static") is not None


def film(path: Path) -> None:
    import cv2

    frames = pan_and_zoom(photographs()["astronaut"], 24)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 24, (width, height))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()


@pytest.fixture(scope="module")
def place(zoo, data, tmp_path_factory):
    """The folder of a reader who has pictures, labels, a film, faces with points, and darknet files."""
    place = tmp_path_factory.mktemp("reader")
    (place / "notebooks").symlink_to(ROOT / "notebooks")
    toy = make_toy(place / "data" / "toy", count=48, size=96, classes=3)
    for shared in data.iterdir():
        if shared.name != "toy":
            (place / "data" / shared.name).symlink_to(shared)
    registry.write(toy, place / "my-labels", "voc")
    make_toy_faces(place / "datasets" / "faces", count=48, size=96)
    (place / "pictures").mkdir()
    for name, image in photographs().items():
        save_image(place / "pictures" / f"{name}.jpg", image)
    shutil.copy(place / "pictures" / "astronaut.jpg", place / "picture.jpg")
    film(place / "clip.mp4")
    export_model(create_model("fastest-v2", "published"), place / "other", ["darknet"])
    for suffix in (".cfg", ".weights"):
        shutil.copy(next((place / "other").glob(f"*{suffix}")), place / f"yolov4-tiny{suffix}")
    return place


@pytest.fixture(scope="module")
def shell(place, tmp_path_factory):
    """Runs a command line; where DEVICES are, adb reaches a phone and ssh a board named raspberrypi."""
    programs = tmp_path_factory.mktemp("bin")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "TOOLKIT_DATA": str(place / "data"),
    }
    with ExitStack() as stack:
        if DEVICES:
            import adbutils

            board = stack.enter_context(closing(Board(tmp_path_factory.mktemp("sshd"))))
            ssh = programs / "ssh"
            words = f'"${{@/pi@raspberrypi/{getpass.getuser()}@board}}"'
            ssh.write_text(f"#!/bin/bash\nexec {shutil.which('ssh')} -F {board.config} {words}\n")
            ssh.chmod(0o755)
            phone = stack.enter_context(closing(FakePhone(tmp_path_factory.mktemp("phone"))))
            port = stack.enter_context(adb_server(tmp_path_factory.mktemp("home")))
            environment["ANDROID_ADB_SERVER_PORT"] = port
            subprocess.run([adbutils.adb_path(), "connect", phone.serial], env=environment, check=True)
        yield lambda *words: subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.split()[1:4]))
def test_command(command, shell, place):
    if command in WITH_APP:
        pytest.skip("tests/browser opens and closes the App")
    if command in SERVED:
        pytest.skip("tests/browser is the phone")
    if "--device browser" in command and shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: see `make debian`")
    if command in WITH_DEVICE and not DEVICES:
        pytest.skip("needs adbutils, openssh-server and qemu-user-static")
    words = shlex.split(command, comments=True)
    assert words[0] == "toolkit"
    run = shell("bash", "-c", command)
    if ("--web" in words or "browser" in words) and "cannot download" in run.stderr:
        pytest.skip("the engine of the page cannot be downloaded here")
    # a network trained for a moment may lose too much in some format of all: done in part
    assert run.returncode in ((0, 3) if "--to all" in command else (0,)), run.stderr
    assert "Traceback" not in run.stderr
    for option, value in itertools.pairwise(words):
        if option in ("--output", "--picture", "--html"):
            assert (place / value).exists()


@pytest.mark.parametrize("text", PYTHON)
def test_python(text, shell):
    run = shell(
        sys.executable, "-c", f"{text}\nprint(len(detections), small.spec.input_size, len(other.io.classes))"
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_the_blocks_were_found():
    assert len(COMMANDS) > 30
    assert 1 <= len(WITH_DEVICE) < 5
    assert len(PYTHON) == 1
