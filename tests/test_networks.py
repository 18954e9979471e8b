"""The one door: what opens a network, and what its weights and names may be."""

import numpy as np
import pytest

from toolkit import create_model
from toolkit.export.folder import split_format
from toolkit.models.darknet.weights import save_weights
from toolkit.models.darknet.write import to_cfg
from toolkit.networks import (
    compare_networks,
    detector_io,
    network_io,
    open_model,
    open_network,
    open_or_untrained,
)
from toolkit.runtime import InputError


@pytest.fixture
def cfg(tmp_path):
    """yoloface-50k as a cfg with weights of its name."""
    model = create_model("yoloface-50k")
    (tmp_path / "net.cfg").write_text(to_cfg(model.spec))
    save_weights(model, tmp_path / "net.weights")
    return tmp_path / "net.cfg"


def test_published_weights_are_those_that_are_taken_unless_given(zoo):
    x = np.random.default_rng(0).random((1, 3, 56, 56), np.float32)
    outputs = [open_network("yoloface-50k", weights).predict(x)[0] for weights in (None, "published")]
    np.testing.assert_array_equal(*outputs)
    with pytest.raises(InputError, match="belong to the networks of the zoo"):
        open_network("some.cfg", "published")


def test_weights_as_far_as_they_go(cfg, tmp_path, capsys):
    """Of a cfg and of a network of the zoo; where they end is said."""
    data = (tmp_path / "net.weights").read_bytes()
    first = 20 + 4 * (8 * 3 * 9 + 4 * 8)  # the header, and the first convolution with its batch norm
    (tmp_path / "net.conv.1").write_bytes(data[:first])
    for source in (str(cfg), "yoloface-50k"):
        with pytest.raises(InputError, match="--partial"):
            open_network(source, tmp_path / "net.conv.1")
        open_network(source, tmp_path / "net.conv.1", partial=True)
        assert "net.conv.1: 1 of 24 layers were loaded" in capsys.readouterr().err
    with pytest.raises(InputError, match="has no darknet weights: leave --partial out"):
        open_network("landmark106", tmp_path / "net.conv.1", partial=True)
    parity = compare_networks(str(cfg), str(cfg), tmp_path / "net.conv.1", partial=True)
    assert parity.relative == 0  # what follows is drawn alike
    for options in ({"weights": tmp_path / "net.conv.1"}, {"partial": True}, {"weights": "published"}):
        with pytest.raises(InputError, match="and neither side is one: leave"):
            compare_networks("some/folder", "other/folder:onnx", **options)


def test_names_are_told(cfg, tmp_path, capsys):
    assert open_model(str(cfg)).io.classes == ("class0",)
    assert "no file of class names was found: the classes are called class0; name" in capsys.readouterr().err
    (tmp_path / "label.names").write_text("face\n")
    assert open_model(str(cfg)).io.classes == detector_io(str(cfg)).classes == ("face",)
    assert capsys.readouterr().err.count(f"class names from {tmp_path / 'label.names'}") == 2
    (tmp_path / "mine.txt").write_text("head\n")
    for io in (
        open_model(str(cfg), names=tmp_path / "mine.txt").io,
        detector_io(str(cfg), tmp_path / "mine.txt"),
    ):
        assert io.classes == ("head",)
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match="--names belongs to a .cfg"):
        compare_networks("yoloface-50k", "yoloface-100k", names=tmp_path / "mine.txt")


def test_what_a_network_takes_is_known_without_its_weights(cfg, tmp_path):
    (tmp_path / "net.weights").unlink()
    assert network_io(str(cfg)).input_size == network_io("yoloface-50k").input_size == (56, 56)
    assert network_io("lite-voc").input_size == (320, 320)
    with pytest.raises(InputError, match="finds no objects"):
        detector_io("landmark106")
    with pytest.raises(InputError, match="is not a network"):
        detector_io("none")


def test_a_format_is_behind_the_last_colon(tmp_path):
    assert split_format("C:\\nets\\net") == ("C:\\nets\\net", "")
    assert split_format("C:\\nets\\net:ncnn") == ("C:\\nets\\net", "ncnn")
    (tmp_path / "a:b").mkdir()
    assert split_format(str(tmp_path / "a:b")) == (str(tmp_path / "a:b"), "")


def test_the_suppression_that_a_cfg_asks_for_is_told(cfg, capsys):
    text = cfg.read_text()
    open_network(str(cfg))
    assert "nms_kind" not in capsys.readouterr().err
    cfg.write_text(text.replace("iou_loss=ciou", "iou_loss=ciou\nnms_kind=greedynms\nbeta_nms=0.6"))
    open_network(str(cfg))
    assert "nms_kind=greedynms, which is not followed" in capsys.readouterr().err


def test_without_weights_a_network_of_the_zoo_is_random_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("TOOLKIT_ZOO", str(tmp_path))
    model, why = open_or_untrained("yoloface-50k")
    assert model.io == create_model("yoloface-50k").io
    assert why.startswith("Random weights")
    assert "yoloface-50k.weights is missing" in why
    with pytest.raises(InputError, match="is not a network"):
        open_or_untrained("nothing")


def test_with_weights_nothing_is_to_be_said(zoo):
    assert open_or_untrained("yoloface-50k")[1] == ""
