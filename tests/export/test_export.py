"""All twelve networks to ONNX and NCNN and back, equal to torch; folders whole or absent."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.cfgs import conv, net, output, plain_head
from toolkit import create_model, detect, list_models
from toolkit.export import parity
from toolkit.export.folder import Exported, open_export
from toolkit.export.parity import output_difference, probe_input
from toolkit.export.write import export_model
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
from toolkit.models.darknet.network import load_darknet
from toolkit.models.decode import decode
from toolkit.models.detector import calibrate
from toolkit.models.published import can_fetch
from toolkit.networks import open_model
from toolkit.pictures import save_image
from toolkit.runtime import InputError, seed_everything


def other_size(io):
    return io.input_size[0] + 2 * io.stride, io.input_size[1] - io.stride


def test_a_folder_shows_its_formats(exported):
    folder = exported("yoloface-50k")[1]
    shown = Exported.read(folder)
    columns = shown.columns()
    assert columns["format"] == list(shown.formats)
    onnx, fp16 = columns["format"].index("onnx"), columns["format"].index("ncnn-fp16")
    assert float(columns["difference / largest output"][onnx]) <= float(columns["allowed"][onnx]) == 1e-5
    assert columns["allowed"][fp16] == "any"
    assert shown.caption() == "yoloface-50k, 56x56"
    record = json.loads((folder / "parity.json").read_text())
    sizes = shown.figure().axes[0]
    assert len(sizes.patches) == len(record)


@pytest.mark.parametrize("name", list_models("detection"))
def test_every_network_at_its_own_size_and_another(name, exported, tmp_path, pictures):
    model, folder = exported(name)
    x = probe_input(model.io)
    found = len(decode(model.predict(x), model.io, 0.005)[0].scores)
    assert found >= (1 if can_fetch(f"{name}/{name}.weights") else 20)  # or the check would be empty
    parity = json.loads((folder / "parity.json").read_text())
    limits = {"ncnn": 1e-4, "ncnn-fp16": 0.05, "mnn-fp16": 0.05}
    for fmt in ("onnx", "ncnn", "ncnn-fp16", "mnn", "mnn-fp16", "caffe", "darknet", "openvino"):
        limit = limits.get(fmt, 1e-5)
        difference, largest = output_difference(model.predict(x), open_export(folder, fmt).predict(x))
        assert difference / max(1, largest) < limit, fmt
        if fmt != "openvino":
            assert parity[fmt]["max_difference"] == pytest.approx(difference, rel=0.5)
    size = other_size(model.io)
    export_model(model, tmp_path / "other", ["onnx"], size)
    image = np.random.default_rng(0).random((1, 3, size[1], size[0]), np.float32)
    wanted = model.predict(image)
    for backend, limit in ((open_export(tmp_path / "other"), 1e-5), (open_export(folder, "ncnn"), 1e-4)):
        difference, largest = output_difference(wanted, backend.predict(image))
        assert difference / max(1, largest) < limit


def test_the_batch_is_free(exported):
    model, folder = exported("yoloface-100k")
    x = np.random.default_rng(0).random((3, 3, 112, 112), np.float32)
    for fmt in ("onnx", "ncnn"):
        for a, b in zip(model.predict(x), open_export(folder, fmt).predict(x), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("fmt", ["onnx", "ncnn", "ncnn-fp16"])
def test_an_export_detects_like_torch(fmt, exported, pictures):
    model, folder = exported("yoloface-500k-v2")
    wanted, found = (detect(m, pictures["astronaut"]) for m in (model, open_model(f"{folder}:{fmt}")))
    np.testing.assert_allclose(wanted.xyxy, found.xyxy, atol=1.0)
    assert wanted.data["class_name"].tolist() == found.data["class_name"].tolist() == ["face"]


def test_spec_json_is_all_that_a_reader_needs(exported):
    model, folder = exported("fastest-v2")
    spec = json.loads((folder / "spec.json").read_text())
    assert spec["name"] == "fastest-v2"
    assert spec["io"]["input_size"] == [320, 320]
    assert spec["io"]["heads"][0]["anchors"][2] == [265.0, 259.0]
    assert spec["outputs"]["onnx"] == spec["outputs"]["caffe"] == ["map0", "map1"]
    assert spec["outputs"]["ncnn"] == ["out0", "out1"]
    assert open_export(folder).io == model.io
    for entry in spec["formats"].values():
        assert all((folder / file).stat().st_size == facts["bytes"] for file, facts in entry["files"].items())
    fp32, fp16 = (
        spec["formats"][f]["files"][f"model-{p}.bin"]["bytes"]
        for f, p in (("ncnn", "fp32"), ("ncnn-fp16", "fp16"))
    )
    assert fp16 < 0.55 * fp32
    text = (folder / "model.onnx").read_bytes()
    assert b"site-packages" not in text
    assert b".py" not in text


def test_detection_output_for_older_apps(tmp_path, zoo, pictures):
    """ncnn's own layer on our raw maps: box sizes as torch has them, centres within its known error."""
    import ncnn

    model = create_model("nano-coco", "published")
    export_model(model, tmp_path / "nano", ["ncnn"], detection_output=True)
    net = ncnn.Net()
    assert net.load_param(str(tmp_path / "nano" / "model-fp32.detection.param")) == 0
    assert net.load_model(str(tmp_path / "nano" / "model-fp32.bin")) == 0
    compared = 0
    for image in pictures.values():
        x, _ = preprocess(image, model.io)
        extractor = net.create_extractor()
        mat = ncnn.Mat(x)
        extractor.input("in0", mat)
        _, out = extractor.extract("detections")
        maps = [m.reshape(3, 85, -1) for m in model.predict(x[None])]
        raw = np.concatenate([m.transpose(0, 2, 1).reshape(-1, 85) for m in maps])
        objectness, classes = raw[:, 4], raw[:, 5:].max(1)
        scores = 1 / (1 + np.exp(-objectness) * (1 + np.exp(-classes)))
        boxes = decode(model.predict(x[None]), model.io, 0.0)[0].boxes_norm
        sizes, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
        for label, score, x1, y1, x2, y2 in np.array(out) if not out.empty() else ():
            (cell,) = np.flatnonzero(np.abs(scores - score) < 1e-5)
            assert label - 1 == raw[cell, 5:].argmax()
            assert score > 1 / ((1 + np.exp(-objectness[cell])) * (1 + np.exp(-classes[cell])))
            same = np.abs(sizes - [x2 - x1, y2 - y1]).max(1) < 1e-4
            apart = np.abs(centres[same] - [(x1 + x2) / 2, (y1 + y2) / 2]).max(1)
            assert apart.min() < 0.05 * 32 / 320
            compared += 1
    assert compared >= 2


def test_exports_replace_exports_and_nothing_else(tmp_path):
    model = create_model("yoloface-50k")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="mine exists and is not an exported network"):
        export_model(model, tmp_path / "mine", ["ncnn"])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    for formats in (["ncnn"], ["ncnn-fp16"]):
        export_model(model, tmp_path / "net", formats)
    assert sorted(p.name for p in (tmp_path / "net").iterdir()) == [
        "model-fp16.bin",
        "model-fp16.param",
        "parity.json",
        "spec.json",
    ]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    import toolkit.export as exporting

    model = create_model("yoloface-50k")
    monkeypatch.setitem(exporting.FORMATS, "ncnn", replace(exporting.FORMATS["ncnn"], tolerance=-1.0))
    with pytest.raises(InputError, match="ncnn differs from torch .* nothing was written"):
        export_model(model, tmp_path / "net", ["ncnn"])
    assert list(tmp_path.iterdir()) == []


def test_bad_input(exported, tmp_path):
    model, folder = exported("yoloface-100k")
    with pytest.raises(InputError, match="unknown format tflite: known are onnx, onnx-end2end, onnx-int8"):
        export_model(model, tmp_path / "a", ["tflite"])
    with pytest.raises(InputError, match="not a multiple of this network's stride 16"):
        export_model(model, tmp_path / "a", ["ncnn"], (100, 112))
    with pytest.raises(InputError, match="has no ncnn-int8: it has onnx, ncnn, ncnn-fp16, mnn"):
        open_export(folder, "ncnn-int8")
    with pytest.raises(InputError, match="mnn-int8 is calibrated on pictures: name a folder or list"):
        export_model(model, tmp_path / "a", ["mnn-int8"])
    with pytest.raises(InputError, match="has no spec.json"):
        open_export(tmp_path)
    with pytest.raises(InputError, match="takes 112x112, not 128x112"):
        list(
            run(open_export(folder, "onnx"), [np.zeros((9, 9, 3), np.uint8)], DetectSettings(size=(128, 112)))
        )
    for source, message in (
        ("yolov9", "'yolov9' is not a network: expected one of .*fastest-v2"),
        ("lite-voc", "lite-voc.weights is missing in TOOLKIT_ZOO"),
        (str(tmp_path / "x.cfg"), r"x\.cfg is missing"),
    ):
        with pytest.raises(InputError, match=message):
            open_model(source)
    with pytest.raises(InputError, match="leave --weights out"):
        open_model(str(folder), "a.weights")
    assert not (tmp_path / "a").exists()


def test_a_damaged_export_is_refused(exported, tmp_path):
    import shutil

    _, folder = exported("yoloface-100k")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file = copy / "model-fp32.bin"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match=r"differs from spec.json \(sha256\)"):
        open_export(copy, "ncnn")
    spec = json.loads((copy / "spec.json").read_text())
    faults = [{}, {**spec, "formats": {}}, {**spec, "formats": {"ncnn": {}}}, {**spec, "io": []}]
    faults += [{**spec, "io": {**spec["io"], "input_size": [100, None]}}, {**spec, "formats": ["ncnn"]}, []]
    for fault in faults:
        (copy / "spec.json").write_text(json.dumps(fault))
        with pytest.raises(InputError, match=r"spec\.json"):
            open_export(copy, "ncnn")
    strange = {**spec["formats"], "tflite": {"file": "a", "files": {"a": {}}}}
    (copy / "spec.json").write_text(json.dumps({**spec, "formats": strange}))
    with pytest.raises(InputError, match="holds the format 'tflite', which this version does not know"):
        open_export(copy, "ncnn")


def test_a_nan_in_any_map_is_a_difference():
    maps = [np.zeros((1, 2, 2, 2), np.float32) for _ in range(3)]
    for i in range(3):
        bad = [m.copy() for m in maps]
        bad[i][0, 0, 0, 0] = np.nan
        assert np.isnan(output_difference(maps, bad)[0])


FOREIGN = (
    net(96, 64)
    + conv(16, stride=2, activation="swish")
    + conv(16, stride=2, activation="mish", groups=4)
    + conv(32, stride=2, activation="relu", groups=16)
    + output(16)
    + plain_head(3)
)


def test_a_cfg_of_other_people(tmp_path, pictures):
    """Swish, mish, grouped convolutions: every layer compares, and int8 keeps what ncnn cannot have float."""
    (tmp_path / "a.cfg").write_text(FOREIGN)
    seed_everything(0)  # of a random network, some are surer of pictures with red and blue exchanged
    model = calibrate(load_darknet(tmp_path / "a.cfg"), list(pictures.values())).eval()
    halves = [picture[:, ::side] for picture in pictures.values() for side in (1, -1)]
    for i, picture in enumerate(halves):
        save_image(tmp_path / "pictures" / f"{i}.png", np.ascontiguousarray(picture))
    formats = ["onnx", "ncnn", "ncnn-int8", "mnn", "caffe", "darknet"]
    found = export_model(model, tmp_path / "net", formats, calibration=tmp_path / "pictures")
    for fmt in ("onnx", "ncnn", "caffe"):
        result = parity.layer_parity(model, open_export(tmp_path / "net", fmt), probe_input(model.io))
        assert len(result.layers) == 4
        assert result.first_divergence(1e-4) is None, fmt
    facts = found["ncnn-int8"]
    assert len(facts["sensitivity"]) == 2  # neither four channels a group nor two outputs for each
    assert facts["relative_difference"] < 0.1
