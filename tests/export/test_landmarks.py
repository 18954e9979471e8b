"""A landmark network in every format: the reference's outputs, one interface, what does not apply."""

import json

import numpy as np
import pytest

from toolkit import create_model
from toolkit.export import parity
from toolkit.export.folder import open_export
from toolkit.export.registry import formats_of
from toolkit.export.write import export_model
from toolkit.faces import cut, detect_faces, windows_of_boxes
from toolkit.models.io import LandmarkIO
from toolkit.networks import open_landmarks, open_model, open_network
from toolkit.pictures import save_image
from toolkit.runtime import InputError

EXACT = ("onnx", "ncnn", "mnn", "litert", "caffe", "openvino")


@pytest.fixture(scope="module")
def cuts(pictures, tmp_path_factory):
    """A folder with faces cut out, a little apart from each other, to calibrate on."""
    folder = tmp_path_factory.mktemp("cuts")
    image = pictures["astronaut"]
    box = detect_faces(image).boxes[:1]
    for i in range(12):
        window = windows_of_boxes(box + np.float32(i - 6), LandmarkIO((112, 112), 106))[0]
        save_image(folder / f"{i}.png", cut(image, window, (112, 112)))
    return folder


@pytest.fixture(scope="module")
def exported(zoo, cuts, tmp_path_factory):
    model = create_model("landmark106", "published")
    folder = tmp_path_factory.mktemp("export") / "landmark106"
    export_model(model, folder, formats_of(model), calibration=cuts)
    return folder


@pytest.mark.parametrize("fmt", EXACT)
def test_outputs_as_the_reference_has_them(fmt, exported, reference):
    known = np.load(reference / "landmark106.ncnn.npz")
    network = open_export(exported, fmt, threads=1)
    (found,) = network.predict(known["rand_input"][None])
    assert found.shape == (1, 212)
    assert np.abs(found[0] - known["rand_output"]).max() < 1e-4
    x = np.stack([known["face0_input"], known["face1_input"]])
    wanted = np.stack([known["face0_points_norm"], known["face1_points_norm"]])
    assert np.abs(network.io.points_of(network.predict(x)) - wanted).max() < 1e-4


# largest difference of a point, in sides of the cut
@pytest.mark.parametrize(
    ("fmt", "most"),
    [
        ("ncnn-fp16", 2e-3),
        ("mnn-fp16", 2e-3),
        ("mnn-int8-weights", 0.03),
        ("ncnn-int8", 0.06),
        ("litert-fp16", 2e-3),
        ("litert-int8", 0.1),
    ],
)
def test_smaller_formats_stay_near(fmt, most, exported, reference):
    known = np.load(reference / "landmark106.ncnn.npz")
    network = open_export(exported, fmt, threads=1)
    x = np.stack([known["face0_input"], known["face1_input"]])
    wanted = np.stack([known["face0_points_norm"], known["face1_points_norm"]])
    differences = np.abs(network.io.points_of(network.predict(x)) - wanted)
    assert 1e-7 < differences.max() < most


def test_int8_says_what_it_did(exported):
    told = json.loads((exported / "parity.json").read_text())["ncnn-int8"]
    assert told["error"] < max(told["errors"].values()) + 1e-9
    assert told["error"] < 3 * LandmarkIO.good_error
    assert told["bytes"] < 0.4 * told["float_bytes"]


def test_spec_json_tells_all_that_is_needed(exported):
    spec = json.loads((exported / "spec.json").read_text())
    assert spec["io"] == {
        "input_size": [112, 112],
        "points": 106,
        "crop": [0.55, 0.35, 0.55],
        "channel_order": "BGR",
        "mean": 127.5,
        "scale": 1 / 127.5,
    }
    assert spec["outputs"]["ncnn"] == ["out0"]
    assert "threshold" not in spec
    assert open_export(exported, "ncnn").io == create_model("landmark106").io


def test_layers_agree(exported):
    model = create_model("landmark106", "published")
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 112, 112)).astype(np.float32)
    for fmt in ("onnx", "ncnn", "caffe"):
        result = parity.layer_parity(model, open_export(exported, fmt), x)
        assert result.relative < 1e-5
        assert len(result.layers) == 37
        assert max(row.relative for row in result.layers) < 1e-5


def test_our_ncnn_files_go_back_into_torch(exported):
    model = create_model("landmark106", "published")
    again = create_model("landmark106", exported / "model-fp32.param")
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 112, 112)).astype(np.float32)
    np.testing.assert_allclose(again.predict(x)[0], model.predict(x)[0], atol=1e-5)


def test_what_is_for_detectors_is_refused(tmp_path):
    model = create_model("landmark106", points=5)
    for formats, more in (
        (["darknet"], {}),
        (["onnx-end2end"], {}),
        (["ncnn"], {"detection_output": True}),
    ):
        with pytest.raises(InputError, match="5 points has no boxes to decode"):
            export_model(model, tmp_path / "a", formats, **more)
    with pytest.raises(InputError, match="takes 112x112 only, not 128x128"):
        export_model(model, tmp_path / "a", ["ncnn"], size=(128, 128))
    assert not any(tmp_path.iterdir())


def test_names_on_the_command_line(exported, zoo):
    assert open_landmarks("landmark106").io.points == 106
    assert open_landmarks(f"{exported}:mnn").io.points == 106
    assert open_network("yoloface-50k").io.classes == ("face",)
    with pytest.raises(InputError, match="landmark106 places landmarks and finds no objects"):
        open_model("landmark106")
    with pytest.raises(InputError, match="finds objects and places no landmarks"):
        open_landmarks("yoloface-50k")
