"""An export that fails in part, the gate for files of lower precision, and what engines print."""

import copy
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.cfgs import conv, net, output, plain_head
from toolkit.export.fidelity import BEST_MARGIN, LIMIT, MARGIN, fidelity, sample_inputs
from toolkit.export.folder import Exported, open_export
from toolkit.export.ncnn import NcnnModel, check_detection_output
from toolkit.export.registry import FORMATS
from toolkit.export.write import export_model, faults_of
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.models import create_model
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import calibrate
from toolkit.models.io import HeadIO, ModelIO
from toolkit.pictures import save_image
from toolkit.runtime import InputError, engine_lines, seed_everything


def cfg_text(activation: str, channels: int) -> str:
    body = conv(16, stride=2, activation=activation) + conv(32, stride=2)
    return net(96, 64, channels) + body + output(16) + plain_head(3)


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    """(activation, channels) -> the path of a small cfg."""
    folder = tmp_path_factory.mktemp("cfgs")

    def write(activation="leaky", channels=3):
        path = folder / f"{activation}{channels}.cfg"
        path.write_text(cfg_text(activation, channels))
        return path

    return write


@pytest.fixture(scope="module")
def calibration(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    for i, picture in enumerate([p[:, ::side] for p in pictures.values() for side in (1, -1)]):
        save_image(folder / f"{i}.png", np.ascontiguousarray(picture))
    return folder


def test_what_passes_is_written(cfg, tmp_path):
    """A hard swish is not written for Caffe: it is left out, with the reason."""
    model = load_darknet(cfg("hardswish")).eval()
    found = export_model(model, tmp_path / "net", ["onnx", "ncnn", "caffe"])
    assert list(found) == ["onnx", "ncnn", "caffe"]
    assert "hardswish as layers.0" in faults_of(found)["caffe"]
    exported = Exported.read(tmp_path / "net")
    assert exported.formats == ("onnx", "ncnn")
    assert exported.parity() == json.loads(json.dumps(found))
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "model-fp32.bin",
        "model-fp32.param",
        "model.onnx",
        "parity.json",
        "spec.json",
    ]
    with pytest.raises(InputError, match="has no caffe: it has onnx, ncnn"):
        open_export(tmp_path / "net", "caffe")


def test_strict_and_nothing_that_passes_write_nothing(cfg, tmp_path):
    model = load_darknet(cfg("hardswish")).eval()
    for formats, strict in ((["caffe", "darknet"], True), (["caffe"], False)):
        with pytest.raises(InputError, match="caffe failed: .*hardswish.*nothing was written"):
            export_model(model, tmp_path / "net", formats, strict=strict)
    assert list(tmp_path.iterdir()) == []
    export_model(model, tmp_path / "net", ["darknet"])
    before = (tmp_path / "net" / "spec.json").read_bytes()
    with pytest.raises(InputError, match="nothing was written"):
        export_model(model, tmp_path / "net", ["caffe"])
    assert (tmp_path / "net" / "spec.json").read_bytes() == before


def _broken(error):
    def write(job, folder):
        (folder / "half.onnx").write_text("half")
        raise error

    return write


def test_an_engine_that_breaks_costs_its_formats_alone(cfg, tmp_path, monkeypatch):
    """And those that start from its file; a full disk ends everything."""
    model = load_darknet(cfg()).eval()
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=_broken(RuntimeError("a\nb"))))
    found = export_model(model, tmp_path / "net", ["onnx", "mnn", "darknet"])
    faults = faults_of(found)
    assert faults == {
        "onnx": "failed: RuntimeError: a",
        "mnn": "failed: it starts from onnx, which could not be made",
    }
    assert not (tmp_path / "net" / "half.onnx").exists()
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=_broken(full)))
    with pytest.raises(OSError, match="No space left"):
        export_model(model, tmp_path / "other", ["onnx", "darknet"])
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_what_cannot_succeed_is_said_before_work(cfg, tmp_path):
    model = load_darknet(cfg()).eval()
    for formats, more, message in (
        (["ncnn-int8"], {}, "ncnn-int8 is calibrated on pictures"),
        (["onnx", "ncnn-int8"], {"strict": True}, "ncnn-int8 is calibrated on pictures"),
        (
            "all",
            {"strict": True},
            "each of onnx-int8, ncnn-int8, mnn-int8, litert-int8 is calibrated on pictures",
        ),
        (["ncnn-int8"], {"method": "guess", "calibration": tmp_path}, "unknown method 'guess'"),
        ("tflite", {}, "unknown format tflite"),
    ):
        with pytest.raises(InputError, match=message):
            export_model(model, tmp_path / "net", formats, **more)
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match="^left out: ncnn-int8 is calibrated on pictures"):
        found = export_model(model, tmp_path / "net", ["ncnn-int8", "darknet"])
    assert list(faults_of(found)) == ["ncnn-int8"]
    assert Exported.read(tmp_path / "net").formats == ("darknet",)


def test_a_missing_package_costs_its_formats_alone(cfg, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], packages=("no_such_package",)))
    with pytest.warns(UserWarning, match="left out: onnx needs the package 'no_such_package'"):
        found = export_model(load_darknet(cfg()), tmp_path / "net", ["onnx", "darknet"])
    assert list(faults_of(found)) == ["onnx"]


def test_a_cfg_is_written_without_what_darknet_does_not_read(cfg, tmp_path, recwarn):
    path = tmp_path / "own.cfg"
    path.write_text(cfg().read_text().replace("stride=2", "stride=2\nspeed=9", 1))
    with pytest.warns(UserWarning, match="speed="):
        model = load_darknet(path)
    assert "fault" not in export_model(model, tmp_path / "net", ["darknet"])["darknet"]
    assert "speed" not in (tmp_path / "net" / "model.cfg").read_text()


@pytest.mark.parametrize("place", ["io", "head"])
def test_an_export_of_a_newer_version_is_not_called_damaged(place, cfg, tmp_path):
    export_model(load_darknet(cfg()), tmp_path / "net", ["darknet"])
    file = tmp_path / "net" / "spec.json"
    spec = json.loads(file.read_text())
    (spec["io"] if place == "io" else spec["io"]["heads"][0])["tilt"] = 1
    file.write_text(json.dumps(spec))
    with pytest.raises(InputError, match="'tilt' in .*, which this version does not know: update it"):
        Exported.read(tmp_path / "net")


def toolkit(*words):
    command = [sys.executable, "-m", "toolkit.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_lists_what_it_left_out(cfg, tmp_path):
    """All formats without pictures: int8 is missing, with exit code 3; with --strict nothing is written."""
    save_darknet(load_darknet(cfg()), tmp_path)
    words = ("export", "--model", tmp_path / "model.cfg", "--to", "all", "--output", tmp_path / "net")
    run = toolkit(*words, "--strict")
    assert run.returncode == 2, run.stderr
    assert not (tmp_path / "net").exists()
    run = toolkit(*words, "--json")
    assert run.returncode == 3, run.stderr
    answer = json.loads(run.stdout)
    assert {fmt for fmt in answer["left_out"] if FORMATS[fmt].calibrated} == {
        "onnx-int8",
        "ncnn-int8",
        "mnn-int8",
        "litert-int8",
    }
    assert all(fault == answer["parity"][fmt]["fault"] for fmt, fault in answer["left_out"].items())
    assert set(answer["bytes"]) == set(answer["parity"]) - set(answer["left_out"])
    run = toolkit(*words[:-3], "darknet, ncnn-int8", *words[-2:])
    assert run.returncode == 3, run.stderr
    assert "warning: left out: ncnn-int8" in run.stderr
    assert Exported.read(tmp_path / "net").formats == ("darknet",)


@pytest.fixture(scope="module")
def trained_small(trained):
    return trained("yoloface-50k").eval()


@pytest.fixture(scope="module")
def inputs(trained_small, pictures):
    """Faces, or there would be little to lose."""
    faces = [pictures["astronaut"][y : y + 300, x : x + 300] for x in (60, 90, 120) for y in (0, 20, 40)]
    return np.stack([preprocess(np.ascontiguousarray(face), trained_small.io)[0] for face in faces])


def test_a_network_keeps_what_it_finds(trained_small, inputs):
    facts = fidelity(trained_small, inputs)(trained_small).facts
    assert facts["detections"] == facts["kept"] > 0
    assert (facts["lost"], facts["new"], facts["score_change"]) == (0, 0, 0.0)


def _shifted(model, shift):
    """The same network with all objectness lower by `shift`."""
    changed = copy.deepcopy(model)
    for layer in changed.output_layers():
        bias = layer.conv.bias.data.view(len(model.io.heads[0].anchors), -1)
        bias[:, 4] -= shift
    return changed


def test_the_gate_counts_what_is_lost(trained_small, inputs):
    judge = fidelity(trained_small, inputs)
    lower = judge(_shifted(trained_small, 0.1))
    assert lower.fault == ""
    assert -0.1 < lower.facts["score_change"] < 0
    blind = judge(_shifted(trained_small, 20.0))
    assert blind.facts["kept"] == 0
    assert "keeps 0 of" in blind.fault
    assert f"{LIMIT:.0%}" in blind.fault
    assert "besides" in judge(_shifted(trained_small, -20.0)).fault
    bad = copy.deepcopy(trained_small)
    bad.output_layers()[0].conv.bias.data[:] = torch.nan
    assert "not finite" in judge(bad).fault


def test_the_gate_counts_at_the_threshold_in_both_directions(trained_small, inputs, monkeypatch):
    """Objectness a little lower loses what is just above the threshold; higher, it finds more."""
    monkeypatch.setattr("toolkit.export.fidelity.ENOUGH", 1)
    fewer = fidelity(trained_small, inputs)(_shifted(trained_small, 1.2))
    assert fewer.fault.startswith(f"keeps {fewer.facts['kept']} of")
    assert fewer.facts["new"] == 0 < fewer.facts["kept"]
    assert fewer.facts["margin"] == pytest.approx(MARGIN * fewer.facts["threshold"])
    more = fidelity(_shifted(trained_small, 1.2), inputs)(trained_small)
    assert more.fault.startswith(f"finds {more.facts['new']} besides")
    assert more.facts["lost"] == 0


@pytest.mark.parametrize("enough", [0, 10**6])
def test_a_handful_of_detections_does_not_judge(enough, trained_small, inputs, monkeypatch):
    monkeypatch.setattr("toolkit.export.fidelity.ENOUGH", enough)
    monkeypatch.setattr("toolkit.export.fidelity.BEST", 10**6)  # all candidates, most of which are low
    threshold = fidelity(trained_small, inputs)(trained_small).facts["threshold"]
    assert (threshold == trained_small.io.threshold) == (enough == 0)


def test_a_network_with_low_scores_is_judged_by_its_best_candidates(trained_small, inputs):
    low = _shifted(trained_small, 12.0)
    assert not any(len(boxes.scores) for boxes in low.find(inputs, DetectSettings()))
    judge = fidelity(low, inputs)
    same = judge(low)
    assert same.facts["threshold"] < 0.25
    assert same.facts["margin"] == pytest.approx(BEST_MARGIN * same.facts["threshold"])
    assert same.facts["kept"] == same.facts["detections"] > 20
    assert judge(_shifted(low, 12.0)).facts["kept"] == 0


def test_points_of_landmarks():
    model = create_model("landmark106").eval()
    judge = fidelity(model, sample_inputs(model.io))
    assert judge(model).facts["point_error"] == 0
    moved = copy.deepcopy(model)
    list(moved.parameters())[-1].data += 0.5
    assert "moves points" in judge(moved).fault


def test_a_file_that_loses_much_is_refused_unless_accepted(cfg, calibration, tmp_path, monkeypatch):
    """With a limit that nothing reaches: how much MNN's quantiser loses is up to it."""
    monkeypatch.setattr("toolkit.export.fidelity.LIMIT", 1.5)
    seed_everything(0)
    model = load_darknet(cfg()).eval()
    formats = ["ncnn", "ncnn-fp16", "mnn-int8"]
    found = export_model(model, tmp_path / "net", formats, calibration=calibration)
    assert set(faults_of(found)) == {"ncnn-fp16", "mnn-int8"}
    assert "use ncnn, or accept" in found["ncnn-fp16"]["fault"]
    assert found["mnn-int8"]["fidelity"]["detections"] > 0
    found = export_model(model, tmp_path / "net", formats, calibration=calibration, accept_loss=True)
    assert faults_of(found) == {}
    assert "keeps" in found["mnn-int8"]["accepted"]
    assert open_export(tmp_path / "net", "mnn-int8").io == model.io


def test_grey_networks_in_every_format(cfg, calibration, pictures, tmp_path):
    seed_everything(0)
    model = calibrate(load_darknet(cfg(channels=1)), list(pictures.values()))
    assert model.io.channels == 1
    found = export_model(model, tmp_path / "net", "all", calibration=calibration, accept_loss=True)
    assert faults_of(found) == {}
    for fmt in ("onnx-int8", "ncnn-int8", "mnn-int8-weights"):
        fidelity_facts = found[fmt]["fidelity"]
        assert fidelity_facts["kept"] >= LIMIT * fidelity_facts["detections"] > 0, fmt


@pytest.mark.parametrize("head", [{"softmax": True}, {"gaussian": True}, {"new_coords": True}])
def test_the_detection_output_refuses_what_it_cannot_decode(head):
    io = ModelIO((64, 64), ("one",), (HeadIO(32, ((10.0, 14.0),), **head),), 32)
    with pytest.raises(InputError, match="Yolov3DetectionOutput cannot decode"):
        check_detection_output(io)
    assert check_detection_output(ModelIO((64, 64), ("one",), (HeadIO(32, ((10.0, 14.0),)),), 32)) == 1


def test_ncnn_names_the_layer_and_keeps_the_terminal_clean(exported, tmp_path, capfd):
    model, folder = exported("yoloface-50k")
    param, binary = (folder / f"model-fp32.{suffix}" for suffix in ("param", "bin"))
    text, weights = param.read_text(), binary.read_bytes()
    first = next(line.split() for line in text.splitlines() if line.startswith("Convolution "))
    cases = {
        "layer": (text.replace(" 5=1 ", " 5=-inf ", 1), weights, f"cannot run layer {first[1]} of type"),
        "type": (text.replace("Convolution ", "Strange ", 1), weights, "a layer of type Strange"),
        "weights": (text, weights[:-100], "are damaged or do not belong together"),
        "half": (text[: len(text) // 2], weights, "are damaged or do not belong together"),
        "other": (text.replace(" out0 ", " outx ", 1), weights, "has no blob out0"),
    }
    for name, (param_text, data, message) in cases.items():
        (tmp_path / f"{name}.param").write_text(param_text)
        (tmp_path / f"{name}.bin").write_bytes(data)
        with pytest.raises(InputError, match=message):
            NcnnModel(tmp_path / f"{name}.param", model.io).predict(np.zeros((1, 3, 56, 56), np.float32))
    assert capfd.readouterr() == ("", "")


def test_lines_of_an_engine_are_kept(capfd):
    with engine_lines() as lines:
        os.write(1, b"one\n")
        os.write(2, b"two\n")
    print("three")
    assert lines == ["one", "two"]
    assert capfd.readouterr() == ("three\n", "")
