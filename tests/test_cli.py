"""The command as people type it: real processes, JSON on stdout alone, exit code 2 on bad input."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.streams import served, wait_for, write_film
from toolkit.cli import COMMANDS, app, load_command
from toolkit.cli.answer import explained, print_answer, print_message, table
from toolkit.export.registry import written_formats
from toolkit.pictures import save_image
from toolkit.runtime import InputError
from toolkit.videos import Video


def toolkit(*args, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "toolkit.cli", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def answer(*args, cwd, **environment):
    run = toolkit(*args, "--json", cwd=cwd, **environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_help_lists_every_command_as_its_file_has_it():
    from typer.main import get_command

    assert list(get_command(app).commands) == list(COMMANDS)
    for name, (_, _, text) in COMMANDS.items():
        command = load_command(name)
        assert command.name == name
        assert command.help.replace("\n", " ").startswith(text)


# An option of one name has one meaning: the same type and help in every command, but for those whose object
# differs. There, what it is of.
HOMONYMS = {
    # several, which are exported; one that is made
    "--model": {"package": "folders", "device build": "folders", "train": "fresh"},
    "--count": {"data curate": "pictures", "data anchors": "anchors", "data toy": "made"},
    "--fix": {"doctor": "the machine", "data doctor": "a data set"},
    "--format": {"data import": "read", "data prelabel": "written", "time run": "timed"},
    "--images": {"data import": "of labels", "parity ladder": "compared"},
    "--conf": {"detect": "of the folder"},
    "--device": {"train": "of torch"},
    "--weights": {"train": "to start from"},
    "--picture": {
        "time run": "input",
        "serve": "input",
        "data anchors": "of anchors",
        "parity ladder": "of formats",
    },
    "--pictures": {"data doctor": "decoded"},
    "--points": {
        "landmarks": "network",
        "evaluate voc": "of a curve",
        "evaluate darknet": "of a curve, also 101",
    },
    "--difficult": {"evaluate voc": "two ways", "evaluate darknet": "three ways"},
    "--score": {"ablate report": "figure", "time table": "scores"},
    "--seed": {"train": "none given"},
    "--storage": {"ablate report": "of the run"},
    "--threads": {"time run": "several"},
    "--workers": {"train": "of batches"},
}
SHARED = "--model --data --output --json --split --size --weights --names --strict --conf --iou".split()


def every_parameter():
    """(command, parameter) of every command."""

    def walk(name, command):
        for child, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {child}", inner)
        if not hasattr(command, "commands"):
            yield from ((name, parameter) for parameter in command.params)

    for name in COMMANDS:
        yield from walk(name, load_command(name))


def every_option():
    """(option, command, type, help) of every command."""
    for name, parameter in every_parameter():
        for option in parameter.opts:
            if option.startswith("--"):
                yield option, name, parameter.type_descriptor.annotation, parameter.help


def test_every_number_has_bounds():
    descriptors = [(name, each, each.type_descriptor.annotation) for name, each in every_parameter()]
    numbers = [(name, each) for name, each, kind in descriptors if kind in (int, float)]
    assert len(numbers) > 30
    for name, parameter in numbers:
        assert None not in (parameter.min, parameter.max), (name, parameter.name)


def test_an_option_has_one_meaning():
    meanings = {}
    listed = {(option, command) for option, commands in HOMONYMS.items() for command in commands}
    for option, command, kind, text in every_option():
        listed.discard((option, command))
        key = option, HOMONYMS.get(option, {}).get(command, "")
        meanings.setdefault(key, {}).setdefault((str(kind), text), []).append(command)
    assert {key: found for key, found in meanings.items() if len(found) > 1} == {}
    assert listed == set()
    for option in SHARED:
        assert len(next(iter(meanings[option, ""].values()))) > 3, option


def test_a_long_line_is_cut_in_its_middle(capsys):
    print_message(f"error: {'x' * 5000} is missing\nshort")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: xxx")
    assert first.endswith("xxx is missing")
    assert (len(first) < 2000, second) == (True, "short")


def test_who_takes_a_cfg_takes_its_names():
    options = {}
    for option, command, _, _ in every_option():
        options.setdefault(command, set()).add(option)
    takers = {c for c, own in options.items() if own & {"--model", "--weights"}}
    without = {"package", "device build", "evaluate landmarks"}  # of exported folders and of points
    assert {c for c, own in options.items() if "--names" in own} == takers - without


def completions(script, words, cwd):
    """What bash offers after `words`, by the script that `toolkit --show-completion bash` prints."""
    code = (
        f"source {script}\nCOMP_WORDS=({words}) COMP_CWORD={len(words.split()) - 1}\n"
        f"_toolkit_completion toolkit\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "--norc", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, "PATH": path},
    )
    return run.stdout.split()


def test_completion_in_bash(tmp_path):
    shown = toolkit("--show-completion", "bash", cwd=tmp_path)
    assert shown.returncode == 0
    (tmp_path / "shown.sh").write_text(shown.stdout)
    environment = {"HOME": str(tmp_path), "SHELL": "/bin/bash"}
    installed = toolkit("--install-completion", "bash", cwd=tmp_path, **environment)
    assert installed.returncode == 0, installed.stderr
    assert "toolkit" in (tmp_path / ".bashrc").read_text()
    for script in (tmp_path / "shown.sh", tmp_path / ".bash_completions" / "toolkit.sh"):
        assert completions(script, "toolkit la", tmp_path) == ["landmarks"]
        assert completions(script, "toolkit data im", tmp_path) == ["import"]
        assert completions(script, "toolkit time ta", tmp_path) == ["table"]
        assert "--classes" in completions(script, "toolkit data import --c", tmp_path)


def test_models(tmp_path):
    models = answer("models", cwd=tmp_path)["models"]
    assert len(models) == 14
    assert (models[-1]["name"], models[-1]["points"]) == ("landmark106", 106)
    assert models[6]["name"] == "fastest-v2"
    assert models[6]["params"] == 209_864
    run = toolkit("models", cwd=tmp_path)
    assert "yoloface-500k-v2" in run.stdout
    assert "104,624" in run.stdout


def test_detect_export_and_parity(tmp_path, zoo, reference, pictures):
    cv2.imwrite(str(tmp_path / "a.png"), pictures["astronaut"][..., ::-1])
    args = ("detect", "a.png", "--model", "yoloface-100k", "--output", "out", "--coco", "r.json")
    (result,) = answer(*args, cwd=tmp_path)["results"]
    assert result["image"] == "a.png"
    assert cv2.imread(str(tmp_path / "out" / "a.png")).shape == pictures["astronaut"].shape
    assert len(json.loads((tmp_path / "r.json").read_text())) == len(result["detections"])

    args = ("export", "--model", "yoloface-100k", "--output", "net", "--to", "onnx,ncnn")
    assert sorted(answer(*args, cwd=tmp_path)["parity"]) == ["ncnn", "onnx"]
    again = answer("detect", "a.png", "--model", "net:ncnn", cwd=tmp_path)["results"]
    assert len(again[0]["detections"]) == len(result["detections"])

    args = ("parity", "compare", "net:onnx", "net:ncnn", "--picture", "p.png", "--tolerance", "2e-5")
    parity = answer(*args, cwd=tmp_path)
    assert parity["passed"]
    assert (tmp_path / "p.png").exists()
    run = toolkit("parity", "compare", "yoloface-100k", "net:ncnn", "--tolerance", "0", cwd=tmp_path)
    assert run.returncode == 1
    assert "more than 0; first at" in run.stderr
    npz = reference / "fastest-v2.raw.npz"
    assert answer("parity", "compare", npz, "fastest-v2", cwd=tmp_path)["passed"]


def test_export_to_everything_and_the_ladder(tmp_path, zoo, pictures):
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate([p[:, ::side] for p in pictures.values() for side in (1, -1)]):
        cv2.imwrite(str(tmp_path / "pictures" / f"{i}.png"), picture[..., ::-1])
    args = ("export", "--model", "yoloface-100k", "--to", "all", "--calibration", "pictures", "--cpp")
    made = answer(*args, "--accept-loss", "--output", "net", cwd=tmp_path)  # MNN's int8, on few pictures
    assert set(made["bytes"]) == set(written_formats())
    assert {path.name for path in (tmp_path / "net" / "cpp").iterdir()} >= {"CMakeLists.txt", "detector.hpp"}
    args = ("parity", "ladder", "--model", "yoloface-100k", "--folder", "net", "--rounds", "5")
    rungs = ("--rungs", "onnx,onnx-end2end,openvino,ncnn,ncnn-fp16,mnn,caffe,darknet", "--picture", "l.png")
    found = answer(*args, *rungs, cwd=tmp_path)["rungs"]
    assert [rung["fault"] for rung in found] == [""] * 9
    assert (tmp_path / "l.png").exists()
    args += ("--rungs", "mnn-fp16,ncnn-int8", "--images", "pictures", "--json")
    run = toolkit(*args, cwd=tmp_path)
    found = json.loads(run.stdout)["rungs"]
    assert [rung["name"] for rung in found] == ["torch", "mnn-fp16", "ncnn-int8"]
    assert run.returncode == any(rung["fault"] for rung in found)
    assert json.loads(run.stdout)["verdict"] in run.stderr


def test_folders_go_on_over_pictures_that_do_not_decode(tmp_path, zoo, pictures):
    folder = tmp_path / "in"
    for name in ("a.png", "c.tiff"):
        save_image(folder / name, pictures["astronaut"])
    (folder / "b.jpg").write_bytes(b"no picture")
    for command, options in (("detect", ("--model", "yoloface-100k", "--coco", "r.json")), ("landmarks", ())):
        words = (command, "in", *options, "--output", command)
        run = toolkit(*words, "--json", cwd=tmp_path)
        assert run.returncode == 3
        told = json.loads(run.stdout)
        assert [result["image"] for result in told["results"]] == ["in/a.png", "in/c.tiff"]
        (skipped,) = told["skipped"]
        assert skipped["file"] == "in/b.jpg"
        assert skipped["reason"].startswith("does not decode as a picture")
        assert "skipped: in/b.jpg: does not decode" in run.stderr
        assert sorted(path.name for path in (tmp_path / command).iterdir()) == ["a.png", "c.tiff"]
        strict = toolkit(*words, "--strict", cwd=tmp_path)
        assert (strict.returncode, strict.stdout) == (2, "")
        assert "in/b.jpg does not decode" in strict.stderr
    assert {row["image_id"] for row in json.loads((tmp_path / "r.json").read_text())} == {1, 3}
    (folder / "logo.svg").write_text("<svg/>")
    (folder / "b.jpg").unlink()
    for options, code in (((), 3), (("--strict",), 2)):
        run = toolkit("detect", "in", "--model", "yoloface-100k", *options, cwd=tmp_path)
        assert run.returncode == code
        assert "in/logo.svg: pictures of this type are not read" in run.stderr
    for name in ("a.png", "c.tiff"):
        (folder / name).write_bytes(b"no picture")
    run = toolkit("detect", "in", "--model", "yoloface-100k", cwd=tmp_path)
    assert run.returncode == 2
    assert "none of the 2 pictures can be read; the first: in/a.png does not decode" in run.stderr


BAD = {
    "unknown network": (("detect", "a.png", "--model", "yolov9"), "'yolov9'.*fastest-v2"),
    "no picture": (("detect", "none.png", "--model", "yoloface-50k"), "there is no picture, folder or video"),
    "broken picture": (("detect", "broken.jpg", "--model", "yoloface-50k"), "does not decode as a picture"),
    "copies": (("detect", "a.png", "--model", "yoloface-50k", "--output", "."), "would replace the pictures"),
    "size": (("export", "--model", "yoloface-50k", "--size", "57", "--output", "o"), "multiple of"),
    "size text": (("export", "--model", "yoloface-50k", "--size", "big", "--output", "o"), "WIDTHxHEIGHT"),
    "format": (("export", "--model", "yoloface-50k", "--to", "tflite", "--output", "o"), "unknown format"),
    "no calibration": (
        ("export", "--model", "yoloface-50k", "--to", "ncnn-int8", "--output", "o"),
        "ncnn-int8 is calibrated on pictures",
    ),
    "empty calibration": (
        ("export", "--model", "yoloface-50k", "--to", "ncnn-int8", "--calibration", "empty", "--output", "o"),
        "there is no picture in empty",
    ),
    "broken calibration": (
        (
            "export",
            "--model",
            "yoloface-50k",
            "--to",
            "mnn-int8",
            "--calibration",
            "list.txt",
            "--output",
            "o",
        ),
        "does not decode as a picture",
    ),
    "one picture": (
        ("export", "--model", "yoloface-50k", "--to", "onnx-int8", "--calibration", "a.png", "--output", "o"),
        "at least 8 pictures, better 200, and 1 were given",
    ),
    "no ladder": (("parity", "ladder", "--model", "yoloface-50k", "--folder", "empty"), "has no spec.json"),
    "weights": (
        ("detect", "a.png", "--model", "fastest-v2", "--weights", "short.weights"),
        "expected a darknet weights file",
    ),
    "cfg": (("detect", "a.png", "--model", "bad.cfg", "--weights", "short.weights"), r"\[lstm\] in line 4"),
    "camera": (("detect", "0", "--model", "yoloface-50k"), "cannot open the camera 0"),
    "a run in place of a network": (
        ("train", "--model", "run/best.pt", "--data", "toy", "--output", "o"),
        "to go on from a run: --model NETWORK --weights run/best.pt",
    ),
    "two references": (("parity", "compare", "a.npz", "b.npz"), "a.npz is missing"),
    "threads": (("time", "empty", "--device", "local", "--threads", "²"), "whole numbers from 1 to 64"),
    "large size": (("export", "--model", "yoloface-50k", "--size", "99992", "--output", "o"), "16,?384"),
    "large batch": (("train", "--lever", "batch=99999999", "--output", "o"), "batch = 99999999"),
    "many epochs": (("train", "--lever", "epochs=1e99", "--output", "o"), "epochs"),
    "endless epochs": (("train", "--lever", "epochs=.inf", "--output", "o"), "NAME=VALUE"),
    "deep lever": (("train", "--lever", "scale=" + "[" * 9999, "--output", "o"), "NAME=VALUE"),
    "score": (("time", "table", "empty", "--score", "a=nan"), "has no spec.json|NETWORK=SCORE"),
    "option": (("detect", "a.png", "--speed", "9"), "No such option"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_code_2(case, tmp_path, zoo):
    import re

    args, message = BAD[case]
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("broken.jpg\n" * 9)
    (tmp_path / "short.weights").write_bytes(b"1234")
    (tmp_path / "bad.cfg").write_text("[net]\nwidth=32\nheight=32\n[lstm]\n[yolo]\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    run = toolkit(*args, cwd=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    assert re.search(message, run.stderr)
    assert "Traceback" not in run.stderr
    if case != "option":
        own = [line for line in run.stderr.strip().splitlines() if "VIDEOIO" not in line]  # OpenCV's
        assert len(own) == 1
        assert own[0].startswith("error: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def without(module, *words, cwd):
    """The command in an interpreter that lacks a module."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from toolkit.cli import main\n"
        f"sys.argv = {['toolkit', *words]!r}\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)


def test_a_missing_extra_is_named(tmp_path, zoo):
    words = ("export", "--model", "yoloface-50k", "--to", "onnx", "--output", "net")
    run = without("onnxscript", *words, cwd=tmp_path)
    assert run.returncode == 2
    assert 'pip install -e ".[export]"' in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_names_the_extra_in_its_table(tmp_path):
    """Brackets are text and no markup."""
    run = without("optuna", "doctor", cwd=tmp_path)
    assert run.returncode == 0, "extras are a choice"
    assert 'pip install -e ".[search]"' in run.stdout


def test_detect_takes_the_threshold_that_a_folder_keeps(tmp_path, zoo, pictures):
    from toolkit.export.folder import kept_threshold, write_threshold
    from toolkit.pictures import save_image

    save_image(tmp_path / "face.png", pictures["astronaut"])
    toolkit("export", "--model", "yoloface-50k", "--to", "onnx", "--output", "net", cwd=tmp_path)
    found = answer("detect", "face.png", "--model", "net", "--conf", "0.1", cwd=tmp_path)
    (best, *_) = sorted((d["score"] for d in found["results"][0]["detections"]), reverse=True)
    assert kept_threshold(str(tmp_path / "net")) == 0.25
    assert not write_threshold("yoloface-50k", 0.5)
    assert write_threshold(f"{tmp_path / 'net'}:onnx", (1 + best) / 2)
    run = toolkit("detect", "face.png", "--model", "net:onnx", "--json", cwd=tmp_path)
    assert json.loads(run.stdout)["results"][0]["detections"] == []
    assert "the threshold that net:onnx keeps" in run.stderr


def test_brackets_in_names_are_shown(tmp_path, zoo, pictures):
    names = ["a[/b].png", "holiday[beach].png", "x:smile:.png"]
    (tmp_path / "in" / "a[").mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(tmp_path / "in" / name), pictures["astronaut"][..., ::-1])
    run = toolkit("detect", "in", "--model", "yoloface-100k", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert all(f"in/{name}" in run.stdout for name in names)


def test_a_full_disk_leaves_nothing(tmp_path, zoo):
    """A file size limit of 100 kB stands in for the full disk: writes fail the same way."""
    import resource

    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "toolkit.cli",
            "export",
            "--model",
            "fastest-v2",
            "--to",
            "ncnn",
            "--output",
            "net",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert run.returncode == 2, run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    from toolkit.data.toy import make_toy

    folder = tmp_path_factory.mktemp("toy") / "toy"
    make_toy(folder, count=20, size=96)
    return folder


def test_data_commands(toy, zoo, tmp_path):
    made = answer("data", "import", toy, "copy", cwd=tmp_path)
    assert made["pictures"] == 20
    assert sum(made["classes"].values()) == made["boxes"]
    assert toolkit("data", "import", toy, "copy", cwd=tmp_path).returncode == 2  # it holds something already
    slip = toolkit("data", "import", toy, "slip", "--classes", "one,tow", cwd=tmp_path)
    assert slip.returncode == 3
    assert "names what no label has: tow" in slip.stderr
    anchors = answer("data", "anchors", "copy", "--picture", "a.png", cwd=tmp_path)
    assert len(anchors["anchors"]) == 6
    assert anchors["masks"] == [[3, 4, 5], [0, 1, 2]]
    assert anchors["fits"]["found"]["recall"] >= anchors["fits"]["fastest-v2"]["recall"]
    assert (tmp_path / "a.png").exists()
    labelled = answer(
        "data", "prelabel", "copy", "labels", "--model", "fastest-v2", "--conf", "0.1", cwd=tmp_path
    )
    assert labelled["pictures"] == 20
    assert any((tmp_path / "labels").glob("*.json"))


def write_digits(toy, folder):
    """A network whose classes are the digits, untrained."""
    import torch

    from toolkit.data.catalog import load
    from toolkit.models import create_model
    from toolkit.models.darknet.weights import save_weights
    from toolkit.models.darknet.write import to_cfg

    model = create_model("fastest-v2", classes=load(toy).classes, input_size=96)
    torch.nn.init.constant_(model.heads[0].out.conv.bias, 1.0)
    save_weights(model, folder / "digits.weights")
    (folder / "digits.cfg").write_text(to_cfg(model.spec))
    (folder / "digits.names").write_text("\n".join(model.io.classes))


def test_evaluate_and_prelabel_leave_out_pictures_that_do_not_decode(toy, zoo, tmp_path):
    """With their objects: the figures are those of the other pictures."""
    from toolkit.data.catalog import load
    from toolkit.data.formats import canonical

    write_digits(toy, tmp_path)
    whole = load(toy)
    canonical.save(whole.subset(np.delete(np.arange(20), [0, 7])), tmp_path / "others")
    shutil.copytree(toy, tmp_path / "damaged")
    for i in (0, 7):
        (tmp_path / "damaged" / "images" / whole.files[i]).write_bytes(b"no picture")
    files = sorted(whole.files[i] for i in (0, 7))
    for protocol, figure in (("coco", "ap50"), ("voc", "map50"), ("darknet", "map50")):
        base = ("evaluate", protocol, "--model", "digits.cfg", "--conf", "0.01", "--data")
        run = toolkit(*base, "./damaged", "--pictures", f"figures-{protocol}", "--json", cwd=tmp_path)
        assert run.returncode == 3, run.stderr
        told, others = json.loads(run.stdout), answer(*base, "./others", cwd=tmp_path)
        assert sorted(picture["file"] for picture in told["skipped"]) == files
        assert others["skipped"] == []
        assert told[figure] == others[figure] > 0
    strict = toolkit(*base, "./damaged", "--strict", cwd=tmp_path)
    assert (strict.returncode, strict.stdout) == (2, "")
    base = ("data", "prelabel", "./damaged", "labels", "--model", "digits.cfg", "--format", "yolo")
    assert toolkit(*base, "--strict", cwd=tmp_path).returncode == 2
    assert not (tmp_path / "labels").exists()
    run = toolkit(*base, "--json", cwd=tmp_path)
    assert run.returncode == 3
    told = json.loads(run.stdout)
    assert told["pictures"] == 18
    assert sorted(picture["file"] for picture in told["skipped"]) == files
    assert len(load(tmp_path / "labels")) == 18


def test_evaluate_commands(toy, zoo, tmp_path):
    """Low figures, by every protocol."""
    write_digits(toy, tmp_path)
    base = ("--model", "digits.cfg", "--data", toy, "--conf", "0.3")
    coco = answer("evaluate", "coco", *base, "--pictures", "figures", cwd=tmp_path)
    assert 0 <= coco["ap50"] < 0.5
    assert len(list((tmp_path / "figures").glob("*.png"))) == 3
    voc = answer("evaluate", "voc", *base, "--split", "val", "--operating-point", "f1", cwd=tmp_path)
    assert 0 <= voc["operating_point"]["threshold"] <= 1
    assert 0 <= answer("evaluate", "darknet", *base, cwd=tmp_path)["map50"] < 0.5
    for args, message in (
        (("evaluate", "voc", *base, "--split", "night"), "has no pictures in the split 'night'"),
        (("evaluate", "voc", *base, "--operating-point", "luck=1"), "fp= with a number, or f1, not 'luck=1'"),
        (("evaluate", "voc", "--model", "yoloface-50k", "--data", toy), "share no class"),
        (("evaluate", "coco", "--model", "digits.cfg", "--data", "none"), "there is no dataset 'none'"),
        (("evaluate", "widerface"), "one of them"),
    ):
        run = toolkit(*args, cwd=tmp_path)
        assert run.returncode == 2, args
        assert message in run.stderr


def test_wider_from_the_official_text_files(data, tmp_path):
    detections = data / "widerface_detections" / "rfb320"
    scores = answer("evaluate", "widerface", "--detections", detections, cwd=tmp_path)
    assert [round(scores[k], 4) for k in ("easy", "medium", "hard")] == [0.8148, 0.7107, 0.3631]
    assert scores["evaluation_seconds"] < 5
    by_path = answer(
        *("evaluate", "widerface", "--detections", detections, "--data", data / "widerface_val"), cwd=tmp_path
    )
    assert by_path["hard"] == scores["hard"]


def test_landmark_scores(data, tmp_path):
    import numpy as np

    from toolkit.data.catalog import load

    points = load("wflw98").keypoints[..., :2]
    np.save(tmp_path / "p.npy", points + 1)
    scores = answer("evaluate", "landmarks", "--predictions", "p.npy", cwd=tmp_path)
    assert 0 < scores["nme"] < 0.2
    for name, content in (("none.npy", None), ("empty.npy", b""), ("text.npy", b"1 2 3")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        run = toolkit("evaluate", "landmarks", "--predictions", name, cwd=tmp_path)
        assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr


def test_a_network_and_its_points_have_one_score(zoo, tmp_path):
    """Of a set with unlabelled points, and boxes that are not the bounds of the points."""
    import numpy as np

    from toolkit import create_model
    from toolkit.data.catalog import load
    from toolkit.data.toy_faces import make_toy_faces
    from toolkit.evaluation import landmarks

    make_toy_faces(tmp_path / "faces", count=12, size=96)
    for file in (tmp_path / "faces" / "annotations").iterdir():
        labels = json.loads(file.read_text())
        for i, row in enumerate(labels["annotations"]):
            point = 3 * (i or 60)  # 60: an eye corner
            row["keypoints"][point : point + 3] = [0, 0, 0]
            row["bbox"][2] /= 2
        file.write_text(json.dumps(labels))
    dataset = load(tmp_path / "faces")
    found = landmarks.predict(create_model("landmark106", "published"), dataset)
    np.save(tmp_path / "p.npy", found)
    for normaliser, left_out in (("inter-ocular", 2), ("box", 0)):
        args = ("evaluate", "landmarks", "--data", "./faces", "--normaliser", normaliser)
        scores = [
            answer(*args, *source, cwd=tmp_path)
            for source in (("--model", "landmark106"), ("--predictions", "p.npy"))
        ]
        assert scores[0] == scores[1]
        assert scores[0]["left_out"] == left_out
        assert scores[0]["nme"] > 0.01
    others = landmarks.score(create_model("landmark106", "published"), dataset.subset(np.arange(1, 12)))
    dataset.path(0).write_bytes(b"no picture")
    run = toolkit(*args, "--model", "landmark106", "--normaliser", "inter-ocular", "--json", cwd=tmp_path)
    assert run.returncode == 3
    told = json.loads(run.stdout)
    assert [picture["file"] for picture in told["skipped"]] == [dataset.files[0]]
    assert (told["nme"], told["faces"], told["missed"]) == (others.nme, len(others.per_face), 0)


def test_doctor_and_curation(toy, zoo, tmp_path):
    """The real FiftyOne on a real database, which is gone afterwards."""
    assert answer("doctor", cwd=tmp_path)["lacking"] == {}
    clean = answer("data", "doctor", toy, "--html", "page.html", cwd=tmp_path)
    assert clean["findings"] == []
    assert (tmp_path / "page.html").stat().st_size > 1000
    pictures = sorted(shutil.copytree(toy, tmp_path / "twice").glob("images/*"))
    shutil.copyfile(pictures[0], pictures[1])
    args = ("data", "curate", "twice", "out", "--drop-duplicates", "--count", "6")
    curated = answer(*args, cwd=tmp_path)
    assert (curated["pictures"], curated["kept"], curated["views"]["duplicates"]) == (20, 19, 2)
    assert curated["views"]["smallest"] > 0
    assert len(list((tmp_path / "out" / "views").glob("*.png"))) >= 2
    assert answer("data", "import", tmp_path / "out" / "curated", "again", cwd=tmp_path)["pictures"] == 19
    again = toolkit(*args, cwd=tmp_path)
    assert again.returncode == 2
    assert "holds something already" in again.stderr


@pytest.mark.parametrize("format", ["cvat", "label-studio"])
def test_pictures_to_label_next_go_to_a_tool_and_come_back(format, tmp_path):
    from toolkit.data.catalog import load
    from toolkit.data.formats import canonical

    made = answer("data", "toy", "whole", "--count", "20", "--side", "96", "--digits", "3", cwd=tmp_path)
    assert (made["pictures"], made["splits"]) == (20, {"train": 16, "val": 4})
    write_digits(tmp_path / "whole", tmp_path)
    whole = load(tmp_path / "whole")
    hidden = whole.files[4:12]
    canonical.save(whole.keep_boxes(~np.isin(whole.owners(), range(4, 12))), tmp_path / "part")
    args = ("data", "prelabel", "./part", "task", "--model", "digits.cfg", "--next", "5", "--conf", "0.3")
    task = answer(*args, "--format", format, cwd=tmp_path)
    assert (task["pictures"], task["skipped"]) == (5, [])
    assert "5 of 8 pictures without labels were chosen" in task["notes"]
    sent = load(tmp_path / "task")
    assert set(sent.files) < set(hidden)
    assert len(sent.boxes) == task["boxes"] > 0
    back = answer("data", "import", "task", "full", "--onto", "./part", cwd=tmp_path)
    assert back["pictures"] == 20
    full, part = load(tmp_path / "full"), load(tmp_path / "part")
    assert (full.files, full.classes) == (part.files, part.classes)
    for i, file in enumerate(full.files):
        source = sent if file in sent.files else part
        rows = source.rows(source.files.index(file))
        assert full.labels[full.rows(i)].tolist() == source.labels[rows].tolist()
        np.testing.assert_allclose(full.boxes[full.rows(i)], source.boxes[rows], atol=1e-3)
    for words, sentence in (
        (("data", "prelabel", "./whole", "none", *args[4:]), "every picture of"),
        (("data", "import", "task", "none", "--onto", "./digits"), "there is no dataset"),
        (("data", "toy", "whole", "--count", "20"), "exists already"),
    ):
        run = toolkit(*words, cwd=tmp_path)
        assert (run.returncode, sentence in run.stderr) == (2, True), run.stderr
        assert not (tmp_path / "none").exists()
    assert toolkit("data", "toy", "faulty", "--count", "40", "--faults", cwd=tmp_path).returncode == 0
    assert toolkit("data", "doctor", "./faulty", cwd=tmp_path).returncode == 1


def test_train_stops_resumes_and_its_network_is_taken(tmp_path):
    from toolkit.data.toy import make_toy

    make_toy(tmp_path / "toy", count=30, size=64)
    common = {"cwd": tmp_path, "TOOLKIT_CACHE": str(tmp_path / "cache")}
    levers = ("--lever", "batch=8", "--lever", "ema=0", "--epochs", "2")
    args = ("train", "--data", "./toy", "--model", "yoloface-100k", "--output", "run", *levers)
    result = answer(*args, "--size", "64", **common)
    assert result["finished"]
    assert (tmp_path / result["best_weights"]).is_file()
    again = toolkit(*args, **common)
    assert again.returncode == 2
    assert "holds a run already" in again.stderr
    copied = answer("train", "--config", "run/config.yaml", "--output", "copy", **common)
    assert copied["score"] == result["score"]
    evaluate = ("evaluate", "coco", "--model", "run/best.cfg", "--data", "./toy", "--split", "val")
    assert 0 <= answer(*evaluate, "--conf", "0.01", cwd=tmp_path)["ap50"] <= 1
    wrong = toolkit("train", "--lever", "mozaic=1", "--output", "other", **common)
    assert wrong.returncode == 2
    assert "unknown lever" in wrong.stderr
    assert not (tmp_path / "other").exists()


def test_a_stream_of_unknown_length_is_a_video(zoo, tmp_path, monkeypatch):
    """A camera, and some files, have the length 0."""
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    writer = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for frame in frames:
        writer.write(frame)
    writer.release()
    monkeypatch.setattr(Video, "__len__", lambda video: 0)
    words = ["detect", str(tmp_path / "in.mp4"), "--model", "yoloface-50k", "--output", str(tmp_path / "out")]
    answer = CliRunner().invoke(app, [*words, "--json"])
    assert answer.exit_code == 0, answer.output
    assert len(json.loads(answer.stdout)["results"]) == 3
    assert (tmp_path / "out" / "in.mp4").is_file()


def test_ctrl_c_ends_a_stream_and_keeps_it(zoo, tmp_path):
    with served(tmp_path) as (address, sent):
        words = ("detect", f"{address}/camera", "--model", "yoloface-50k", "--output", "out", "--json")
        command = [sys.executable, "-m", "toolkit.cli", *words]
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        wait_for(sent, 60)
        run.send_signal(signal.SIGINT)
        told, messages = run.communicate(timeout=60)
    assert run.returncode == 0, messages
    frames = len(json.loads(told)["results"])
    assert 0 < frames <= len(sent)
    assert len(list(Video(tmp_path / "out" / "camera.mp4"))) == frames
    assert "wrote out/camera.mp4" in messages
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["camera.mp4"]


@pytest.mark.parametrize("command", ["detect", "landmarks"])
def test_a_stream_that_breaks_off_is_told(command, zoo, tmp_path):
    model = ("--model", "yoloface-50k") if command == "detect" else ("--detector", "yoloface-50k")
    with served(tmp_path) as (address, _):
        run = toolkit(
            *(command, f"{address}/camera/20", *model, "--output", "out", "--frames", "40", "--json"),
            cwd=tmp_path,
        )
        whole = toolkit(command, f"{address}/camera", *model, "--frames", "3", "--json", cwd=tmp_path)
    assert (run.returncode, whole.returncode) == (3, 0), run.stderr + whole.stderr
    told = json.loads(run.stdout)
    count = len(told["results"])
    assert f"it ended by itself after {count} frames" in told["skipped"][0]["reason"]
    assert f"it ended by itself after {count} frames" in run.stderr
    assert (tmp_path / "out" / "20.mp4").is_file()
    assert len(json.loads(whole.stdout)["results"]) == 3


@pytest.mark.parametrize("command", ["detect", "landmarks"])
def test_files_in_place_of_a_pattern(command, tmp_path):
    run = toolkit(command, "a.png", "b.png", cwd=tmp_path)
    assert run.returncode == 2
    assert "found also 'b.png': put the pattern in quotes, or name the folder" in run.stderr


REGION = (
    "[net]\nwidth=64\nheight=64\n[convolutional]\nfilters=14\nsize=3\nstride=32\npad=1\n"
    "activation=linear\n[region]\nanchors=1,1,2,2\nnum=2\nclasses=2\nsoftmax=1\n"
)


def test_anchors_of_region_are_in_cells(toy, tmp_path):
    (tmp_path / "tiny.cfg").write_text(REGION)
    told = answer("data", "anchors", toy, "--model", "tiny.cfg", cwd=tmp_path)
    assert told["unit"] == "px of the input"
    cells = np.array(told["anchors"]) / 32
    (line,) = told["cfg"]
    assert line["unit"] == "cells of 32 px"
    assert [float(side) for side in line["anchors"].split(",")] == pytest.approx(cells.ravel(), abs=1e-4)
    shown = toolkit("data", "anchors", toy, "--model", "tiny.cfg", cwd=tmp_path)
    assert "cells of 32 px" in " ".join(shown.stdout.split())
    wrong = toolkit("data", "anchors", toy, "--model", "tiny.cfg", "--fit", "foo", cwd=tmp_path)
    assert "fit must be one of" in wrong.stderr


def test_patterns_and_files_over_http(zoo, tmp_path, pictures):
    for name in ("s/a10.png", "s/a2.png", "s/t/b.png"):
        save_image(tmp_path / name, pictures["astronaut"])
    (tmp_path / "s" / "bad.png").write_bytes(b"no picture")
    base = ("detect", "--model", "yoloface-50k", "--output", "out")
    run = toolkit(*base, "s/**/*.png", "--json", cwd=tmp_path)
    assert run.returncode == 3
    told = json.loads(run.stdout)
    assert [result["image"] for result in told["results"]] == ["s/a2.png", "s/a10.png", "s/t/b.png"]
    assert [picture["file"] for picture in told["skipped"]] == ["s/bad.png"]
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")) == [
        "a10.png",
        "a2.png",
        "t/b.png",
    ]
    write_film(tmp_path / "film.avi", code="MJPG")
    with served(tmp_path) as (address, _):
        assert len(answer(*base, f"{address}/film.avi", cwd=tmp_path)["results"]) == 5


def test_names_of_a_cfg(toy, zoo, tmp_path):
    """Named, guessed where one file fits, or none; always said."""
    write_digits(toy, tmp_path)
    names = (tmp_path / "digits.names").read_text()
    save_image(tmp_path / "a.png", np.full((96, 96, 3), 90, np.uint8))
    base = ("detect", "a.png", "--model", "digits.cfg", "--conf", "0.01", "--json")

    def found(*options):
        run = toolkit(*base, *options, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        return {d["class"] for d in json.loads(run.stdout)["results"][0]["detections"]}, run.stderr

    own, message = found()
    assert own
    assert own <= set(names.split("\n"))
    assert "class names from digits.names" in message
    (tmp_path / "mine.txt").write_text("\n".join(f"n{i}" for i in range(10)))
    given, message = found("--names", "mine.txt")
    assert len(given) == len(own)
    assert all(name.startswith("n") for name in given)
    assert "class names" not in message
    (tmp_path / "digits.names").write_text("one\ntwo\n")
    unnamed, message = found()
    assert all(name.startswith("class") for name in unnamed)
    assert "no file of 10 class names was found" in message
    assert "--names" in message
    for options, words in (
        (("--names", "digits.names"), "classes=10, but there are 2 class names"),
        (("--model", "yoloface-50k", "--names", "mine.txt"), "--names belongs to a .cfg"),
        (("--weights", "published"), "published weights belong to the networks of the zoo"),
    ):
        run = toolkit(*base, *options, cwd=tmp_path)
        assert (run.returncode, run.stdout) == (2, "")
        assert words in run.stderr


TAKES_WEIGHTS = {
    "export": ("export", "--model", "yoloface-50k", "--to", "onnx", "--output", "empty"),
    "detect": ("detect", "a.png", "--model", "yoloface-50k"),
    "landmarks": ("landmarks", "a.png"),
    "parity": ("parity", "compare", "yoloface-50k", "empty:onnx"),
    "evaluate": ("evaluate", "coco", "--model", "yoloface-50k", "--data", "./faces"),
}


def test_published_weights_and_an_empty_folder_are_taken_everywhere(zoo, tmp_path, pictures):
    """As where the option is left out. A folder that holds something else stays as it is."""
    from toolkit.data.toy_faces import make_toy_faces

    save_image(tmp_path / "a.png", pictures["astronaut"])
    save_image(tmp_path / "in" / "a.png", pictures["astronaut"])
    make_toy_faces(tmp_path / "faces", count=4, size=96)
    (tmp_path / "empty").mkdir()
    for words in TAKES_WEIGHTS.values():
        answer(*words, "--weights", "published", cwd=tmp_path)
    assert (tmp_path / "empty" / "spec.json").is_file()
    (tmp_path / "new").mkdir()
    answer("data", "prelabel", "in", "new", "--weights", "published", "--model", "yoloface-50k", cwd=tmp_path)
    for words in (("export", "--model", "yoloface-50k"), ("package", "--android", "--model", "empty")):
        run = toolkit(*words, "--output", "in", cwd=tmp_path)
        assert run.returncode == 2
        assert "in exists and is not" in run.stderr
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]


def test_defaults_are_the_published_protocols(data, zoo, tmp_path):
    """darknet's users score labels without difficult objects, as the published table does."""
    from toolkit.data.catalog import load
    from toolkit.data.formats import canonical

    part = load("voc2012_sub1200").subset(np.arange(40))
    assert part.ignore.any()
    canonical.save(part, tmp_path / "part")
    base = ("evaluate", "darknet", "--model", "fastest-v2", "--data", "./part")
    told = answer(*base, cwd=tmp_path)
    assert told["map50"] == answer(*base, "--difficult", "dropped", cwd=tmp_path)["map50"]
    assert told["map50"] != answer(*base, "--difficult", "counted", cwd=tmp_path)["map50"]
    assert told["choices"] == {
        "split": "all",
        "match_iou": 0.5,
        "points": "area",
        "difficult": "dropped",
        "input_size": "320x320",
        "fit": "stretch",
        "resize": "darknet",
        "clip": False,
        "conf": 0.005,
        "nms": "plain",
        "nms_iou": 0.45,
    }
    shown = toolkit(*base, cwd=tmp_path).stdout
    for choice in ("difficult", "dropped", "resize", "darknet", "nms iou", "0.45", "conf", "0.005", "fit"):
        assert choice in shown


def test_a_warning_is_a_sentence_on_stderr(tmp_path):
    head = "[yolo]\nanchors=16,32\nclasses=2\n"
    conv = "[convolutional]\nfilters=7\nsize=3\nstride=32\npad=1\nactivation=linear\n"
    (tmp_path / "tiny.cfg").write_text(f"[net]\nwidth=64\nheight=64\ncolour=7\n{conv}{head}")
    result = toolkit("data", "anchors", "toy", "--model", "tiny.cfg", cwd=tmp_path)
    assert re.search(r"^warning: tiny.cfg: unused field colour= .*line 4", result.stderr, re.M), result.stderr
    assert "network.py" not in result.stderr


def test_names_do_not_command_the_terminal(capsys):
    print_message("skipped: \x1b[2Ja.jpg")
    print_answer({}, False, table("\x1b]0;t\x07", ["a\x1b[1m"], [["\x1b[31mcat", "\udc80"]]))
    print_answer({}, False, "\x1b[31mdog\n\tb")
    written = capsys.readouterr()
    text = written.out + written.err
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert all(name in text for name in ("a.jpg", "cat", "dog"))


def test_an_answer_has_no_nan():
    with pytest.raises(InputError, match="not finite"):
        print_answer({"score": float("nan")}, True)


def test_a_pipe_that_breaks_is_told_where_pipes_cannot_be_asked(monkeypatch, capsys):
    """As on Windows, which has no `select.poll`."""
    monkeypatch.delattr(select, "poll")
    with pytest.raises(SystemExit) as ended, explained():
        raise BrokenPipeError(32, "Broken pipe")
    assert ended.value.code == 2
    assert "has ended early" in capsys.readouterr().err
