"""Commands whose output finds no room: a sentence that names the place, exit code 2, nothing half-written."""

import resource
import subprocess
import sys

import numpy as np
import pytest

from toolkit.data.toy import make_toy
from toolkit.export.write import export_model
from toolkit.models import create_model
from toolkit.pictures import save_image

KILOBYTES = 8  # the largest file; a file over it fails as on a full disk, with another number (EFBIG)


def starved() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (KILOBYTES * 1024, KILOBYTES * 1024))


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "toolkit.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        preexec_fn=starved,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, an exported network, a noisy picture that does not compress."""
    folder = tmp_path_factory.mktemp("place")
    toy = make_toy(folder / "toy", count=30, size=96, splits={"train": 0.8, "val": 0.2})
    model = create_model("yoloface-50k", classes=toy.classes)
    export_model(model, folder / "net", ["ncnn", "darknet"])
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    save_image(folder / "noise" / "a.png", noise)
    study = f"name: s\ndata: {folder / 'toy'}\nmodel: yoloface-50k\nfactors: {{ema: [0, .9]}}\n"
    (folder / "study.yaml").write_text(study + "budget: {steps: 3}\nseeds: [0]\n")
    return folder


CASES = {
    "export": ["export", "--model", "net/model.cfg", "--weights", "net/model.weights", "--to", "onnx"],
    "import": ["data", "import", "noise", "--format", "folder", "--copy"],
    "detect": ["detect", "--model", "net", "noise"],
    "train": ["train", "--data", "toy", "--model", "yoloface-50k", "--epochs", "1"],
    "ablate": ["ablate", "run", "study.yaml"],
    "package": ["package", "--android", "--model", "net"],
    "pictures": ["evaluate", "coco", "--model", "net", "--data", "toy", "--split", "val"],
    "demo": ["demo"],
}


FOLDER = {"import": [], "pictures": ["--pictures"]}  # the option for the output, where it is another


@pytest.mark.parametrize("name", CASES)
def test_no_room_is_one_sentence_that_names_the_place(name, place, tmp_path):
    out = tmp_path / "out"
    process = run(*CASES[name], *FOLDER.get(name, ["--output"]), out, cwd=place)
    last = process.stderr.strip().splitlines()[-1]
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert str(tmp_path) in last or "(TMPDIR)" in last
    left = [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert left == [], process.stderr
