"""Every command of README, the start page and the guides as it stands there, in its order, each once, in one
folder with small inputs; and Python too. What other pages print has options that exist."""

import getpass
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.device.fake_adb import FakePhone, adb_server
from tests.device.loopback_board import READY, Board
from toolkit.cli import COMMANDS as CLI
from toolkit.cli import load_command
from toolkit.data.formats import registry
from toolkit.data.toy import make_toy
from toolkit.data.toy_faces import make_toy_faces
from toolkit.export.write import export_model
from toolkit.models import create_model
from toolkit.pictures import save_image
from toolkit.samples import pan_and_zoom, photographs

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "pages"
GUIDES = (
    "data architecture-and-anchors training ablation evaluation export-and-int8 phones-and-boards faces "
    "larger-machines"
).split()
TEXTS = {
    page.stem: page.read_text(encoding="utf-8")
    for page in (
        ROOT / "README.md",
        PAGES / "start.md",
        *(PAGES / "guides" / f"{name}.md" for name in GUIDES),
    )
}
OTHERS = {
    str(page.relative_to(PAGES)): page.read_text(encoding="utf-8")
    for page in sorted(PAGES.rglob("*.md"))
    if page.stem not in TEXTS or page.parent == PAGES
}
INSTALLING = "make ", "sdkmanager ", "cd ", "python3 -m venv ", ". .venv/", "pip install "


def printed(text: str) -> list[str]:
    """The indented commands of a page, without comments."""
    lines = re.findall(r"^    (?! )(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE)
    return [re.sub(r" +# .*", "", line).strip() for line in lines]


# command -> its name here: the page, and the first that has it
NAMED: dict[str, str] = {}
for page, text in TEXTS.items():
    for line in printed(text):
        if not line.startswith(INSTALLING):
            NAMED.setdefault(line, f"{page}-{len(NAMED):02}-{' '.join(line.split()[1:4])}")
COMMANDS = list(NAMED)
PYTHON = {
    f"{page}-{i}": code
    for page, text in TEXTS.items()
    for i, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
}
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
    shutil.copytree(ROOT / "notebooks", place / "notebooks")
    study = place / "notebooks" / "toy_study.yaml"  # its 24 trainings take minutes
    shortened = {**yaml.safe_load(study.read_text()), "budget": {"steps": 2}, "seeds": [0]}
    study.write_text(yaml.safe_dump(shortened))
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


@pytest.mark.parametrize("command", COMMANDS, ids=NAMED.values())
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


@pytest.mark.parametrize("name", PYTHON)
def test_python(name, shell):
    check = (
        "\nprint(len(detections), small.spec.input_size, len(other.io.classes))" if name == "README-0" else ""
    )
    run = shell(sys.executable, "-c", f"{PYTHON[name]}{check}")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert bool(run.stdout.strip()) == ("print(" in PYTHON[name] + check)


def test_the_blocks_were_found():
    assert len(COMMANDS) > 40
    assert len(set(NAMED.values())) == len(COMMANDS)
    assert 1 <= len(WITH_DEVICE) < 5
    assert set(PYTHON) == {"README-0", "start-0", "architecture-and-anchors-0", "faces-0"}
    assert all(line.startswith("toolkit ") for line in COMMANDS)
    assert {path.stem for path in (PAGES / "guides").glob("*.md")} == set(GUIDES)


def mentioned(text: str) -> list[str]:
    """Commands in a page, indented or between backticks."""
    inline = [" ".join(code.split()) for code in re.findall(r"`(toolkit [^`]+)`", text)]
    return [line for line in (*printed(text), *inline) if re.match(r"toolkit [a-z]", line)]


def options_of(words: list[str]) -> tuple[str, set[str]]:
    """The command that words name, and its options."""
    command, path = load_command(words[1]), words[1]
    if hasattr(command, "commands"):
        name = words[2] if words[2:] and words[2] in command.commands else "run"  # `toolkit time FOLDER`
        command, path = command.commands.get(name, command), f"{words[1]} {name}"
    return path, {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize("page", [*TEXTS, *OTHERS])
def test_what_is_mentioned_exists(page):
    unknown = []
    for line in mentioned({**TEXTS, **OTHERS}[page]):
        words = shlex.split(line, comments=True)
        if words[1] not in CLI:
            unknown.append(line)
            continue
        path, options = options_of(words)
        wrong = {word for word in words if word.startswith("--")} - options - {"--help", "--version"}
        unknown += [f"{path}: {word}" for word in wrong]
    assert unknown == []


def test_extras_and_targets_that_are_named_exist():
    everything = "\n".join((*TEXTS.values(), *OTHERS.values()))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        name for names in re.findall(r"-e \.?\"?\.?\[([a-z,]+)\]", everything) for name in names.split(",")
    }
    assert named
    assert named <= set(extras)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = set(re.findall(r"(?:`|    |=1 )make ([a-z-]+)", everything))
    assert said
    assert said <= targets
    assert len((ROOT / "README.md").read_bytes()) <= 8000


def test_every_picture_of_a_page_is_there_and_says_what_it_shows():
    for page in (ROOT / "README.md", *PAGES.rglob("*.md")):
        for words, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert words, page
            assert (page.parent / path).is_file() or path == "ruler.png", (page, path)
