import dataclasses

import numpy as np
import pytest

from toolkit import create_model, list_models
from toolkit.models.cost import measure
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.weights import load_weights, save_weights
from toolkit.models.darknet.write import to_cfg
from toolkit.models.io import read_io
from toolkit.models.spec import change
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError


def test_se_and_csp_of_the_published_networks():
    assert SPECS["fastest-v2"].se == (True, True)
    assert SPECS["fastest-v2"].csp == (True, True, True, True)
    assert SPECS["fastest-v1"].se == (False, False)
    assert SPECS["yoloface-500k-se"].se == (False, True, True, True)
    assert SPECS["yoloface-500k-v1"].strides == (16, 8, 4)


@pytest.mark.parametrize("name", ["fastest-v2", "yoloface-500k-v2"])
@pytest.mark.parametrize("se", [0, 2, 4])
@pytest.mark.parametrize("csp", [False, True])
def test_every_corner_builds_and_survives_the_cfg(name, se, csp, tmp_path):
    size = (64, 96)
    model = create_model(name, se=se, csp=csp, input_size=size, spp=(3, 5), width=0.6, classes=["a", "b"])
    assert all(on == bool(se) for on in model.spec.se)
    assert all(on == csp for on in model.spec.csp)
    x = np.random.default_rng(0).random((1, 3, 96, 64), np.float32)
    maps = model.predict(x)
    assert [m.shape for m in maps] == [(1, 21, 96 // s, 64 // s) for s in model.spec.strides]
    cfg, weights = tmp_path / "a.cfg", tmp_path / "a.weights"
    cfg.write_text(to_cfg(model.spec))
    save_weights(model, weights)
    for a, b in zip(maps, load_darknet(cfg, weights).predict(x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_se_in_the_stages_survives_the_cfg(tmp_path):
    model = create_model("yoloface-500k-v2", stage_se=[0, True, 4, 8], input_size=(96, 64))
    assert [stage.se for stage in model.spec.stages] == [0, 2, 4, 8]
    plain = measure(create_model("yoloface-500k-v2", input_size=(96, 64)))
    assert measure(model).params > plain.params
    x = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    (tmp_path / "a.cfg").write_text(to_cfg(model.spec))
    save_weights(model, tmp_path / "a.weights")
    read = load_darknet(tmp_path / "a.cfg", tmp_path / "a.weights")
    for a, b in zip(model.predict(x), read.predict(x), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match="stage_se takes one value or 4"):
        change(model.spec, stage_se=[4, 4])


def test_switching_off_and_on_again_is_the_published_network():
    for name in ("fastest-v2", "yoloface-500k-v2"):
        spec = SPECS[name]
        assert change(change(spec, se=False, csp=False), se=2, csp=2) == spec
    per_part = change(SPECS["fastest-v2"], csp=[0, 2, 0, 2], se=[4, 0])
    assert per_part.csp == (False, True, False, True)
    assert per_part.se == (True, False)


def test_width_scales_the_cost():
    full, half = (measure(create_model("nano-voc", width=w)) for w in (1.0, 0.5))
    assert half.macs < 0.35 * full.macs


def test_anchors_and_classes():
    anchors = [(i, i) for i in range(1, 7)]
    model = create_model("fastest-v2", anchors=anchors, classes=7)
    assert [head.anchors[0] for head in model.io.heads] == [(4.0, 4.0), (1.0, 1.0)]
    assert len(model.io.classes) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wide": 2}, "unknown change 'wide'"),
        ({"input_size": 100}, "the input size 100x100 is not a multiple .* use for example 96x96"),
        ({"input_size": 0}, "input_size is 0"),
        ({"classes": []}, "0 were given"),
        ({"anchors": [(1, 2)]}, "has 6 anchors, 1 were given"),
        ({"se": (1, 2, 3)}, "se takes one value or 2 of them, 3 were given"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_changes_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        create_model("fastest-v2", **changes)


def test_unknown_names_and_weights(tmp_path):
    with pytest.raises(InputError, match="unknown network 'yolov9'.* lite-voc, lite-coco"):
        create_model("yolov9")
    mine = dataclasses.replace(SPECS["lite-voc"], name="mine")
    with pytest.raises(InputError, match="mine has no published weights.* nano-voc, nano-coco"):
        create_model(mine, "published")
    for name, content, message in (
        ("a.onnx", b"x", "expected a .weights or .pt file"),
        ("a.pt", b"not a checkpoint", "a.pt is damaged or not a file of this toolkit"),
        ("a.weights", b"1234", "4 bytes.* expected a darknet weights file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            create_model("fastest-v2", tmp_path / name)
    with pytest.raises(InputError, match="is missing"):
        create_model("fastest-v2", tmp_path / "none.pt")


def test_checkpoints(tmp_path):
    import torch

    model = create_model("yoloface-50k")
    torch.save(model.state_dict(), tmp_path / "a.pt")
    again = create_model("yoloface-50k", tmp_path / "a.pt")
    x = np.random.default_rng(0).random((1, 3, 56, 56), np.float32)
    np.testing.assert_array_equal(model.predict(x)[0], again.predict(x)[0])
    with pytest.raises(InputError, match="belongs to another network than yoloface-100k"):
        create_model("yoloface-100k", tmp_path / "a.pt")
    weights = tmp_path / "a.weights"
    save_weights(model, weights)
    load_weights(again, weights)


@pytest.mark.parametrize("name", list_models("detection"))
def test_io_survives_json(name):
    import json

    io = create_model(name).io
    assert read_io(json.loads(json.dumps(io.as_dict()))) == io
    with pytest.raises(dataclasses.FrozenInstanceError):
        io.input_size = (1, 1)
