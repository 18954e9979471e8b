"""Weights files: partial ones, damaged ones, and what is not a weights file."""

import pytest
import torch

from tests.models.test_darknet import conv, section, yolo
from toolkit import create_model
from toolkit.models.darknet.cfg import parse_cfg_text
from toolkit.models.darknet.network import CfgDetector
from toolkit.models.darknet.stored import Loaded, stored_layers
from toolkit.models.darknet.weights import load_weights, save_weights
from toolkit.runtime import InputError

NET = section("net", width=64, height=64)
BODY = NET + conv(8, 3, 32) + section("dropout") + conv(6) + conv(24, activation="linear", norm=0)
TEXT = BODY + yolo("0,1,2")
LAYER_BYTES = [4 * (4 * 8 + 3 * 8 * 9), 4 * (4 * 6 + 8 * 6), 4 * (24 + 6 * 24)]


def network(text=TEXT, seed=0):
    torch.manual_seed(seed)
    return CfgDetector(parse_cfg_text(text, "a.cfg"))


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "a.weights"
    save_weights(network(), path)
    return path


def test_layers_in_the_order_of_the_file(whole):
    layers = stored_layers(network())
    assert [layer.name for layer in layers] == ["layers.0", "layers.2", "layers.3"]
    assert [4 * layer.floats for layer in layers] == LAYER_BYTES
    assert whole.stat().st_size == 20 + sum(LAYER_BYTES)


@pytest.mark.parametrize(("layers", "missing"), [(1, "layers.2"), (2, "layers.3")])
def test_a_partial_file_loads_as_far_as_it_goes(layers, missing, whole):
    source, model, untouched = network(), network(seed=1), network(seed=1)
    data = whole.read_bytes()[: 20 + sum(LAYER_BYTES[:layers])]
    whole.write_bytes(data)
    with pytest.raises(
        InputError, match=f"partial file of {layers} layers.*{missing}.*train --partial. and load_darknet"
    ):
        load_weights(model, whole)
    assert torch.equal(model.layers[0].conv.weight, untouched.layers[0].conv.weight)
    load_weights(model, whole, partial=True)
    assert model.loaded == Loaded(layers, 3, missing, 0)
    assert missing in str(model.loaded)
    for i, expected in ((0, source), (2, source if layers == 2 else untouched), (3, untouched)):
        assert torch.equal(model.layers[i].conv.weight, expected.layers[i].conv.weight)


def test_a_partial_file_that_ends_inside_a_layer(whole):
    whole.write_bytes(whole.read_bytes()[: 20 + LAYER_BYTES[0] + 10])
    model = network(seed=1)
    with pytest.warns(
        UserWarning, match="layers.2; the file ends 10 bytes into it, where darknet writes whole"
    ):
        load_weights(model, whole, partial=True)
    assert model.loaded == Loaded(1, 3, "layers.2", 10)
    assert torch.equal(model.layers[0].conv.weight, network().layers[0].conv.weight)


def test_a_whole_file_says_so(whole):
    model = network(seed=1)
    load_weights(model, whole, partial=True)
    assert model.loaded == Loaded(3, 3, "", 0)
    assert str(model.loaded) == "all 3 layers were loaded"


def test_other_classes_are_named(whole):
    other = network(BODY.replace("filters=24", "filters=255") + yolo("0,1,2", classes=80))
    with pytest.raises(InputError, match=r"it would fit with classes=3\)"):
        load_weights(other, whole)


FAULTS = {
    "400 bytes gone": (
        lambda good: good[:-400],
        r"44,612 bytes, .* 45,012, 400 more: .*truncated inside heads",
    ),
    "3 bytes gone": (lambda good: good[:-3], "45,009 bytes.* 3 more"),
    "8 bytes more": (lambda good: good + b"\0" * 8, "45,020 bytes.* 45,012, 8 fewer: .*over-long"),
    "7 bytes": (lambda good: good[:7], "7 bytes and is truncated"),
    "empty": (lambda good: b"", "0 bytes and is truncated"),
    "header alone": (lambda good: good[:20], "truncated inside stem.0"),
    "no numbers": (
        lambda good: good[:20] + b"\xff" * (len(good) - 20),
        "stem.0 are negative variances or not",
    ),
    "web page": (lambda good: b"<!DOCTYPE html><html><body>Not found", "36 bytes. is a web page"),
    "git lfs": (
        lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 45012\n",
        "a Git LFS pointer to a file of 45,012 bytes: run `git lfs pull`",
    ),
    "pytorch": (lambda good: b"PK\x03\x04" + good, "a zip file, as PyTorch writes"),
    "old pytorch": (lambda good: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a Python pickle"),
    "safetensors": (lambda good: b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32"', "a safetensors file"),
    "gzip": (lambda good: b"\x1f\x8b\x08" + good, "a packed file: unpack it"),
    "cfg": (lambda good: b"[net]\nwidth=416\n", "is a cfg"),
    "words": (lambda good: b"404: Not Found", "text .'404: Not Found'."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_files_are_told_apart_and_change_nothing(fault, tmp_path):
    model, path = create_model("yoloface-50k"), tmp_path / "a.weights"
    save_weights(model, path)
    before = model.stem[0].conv.weight.clone()
    damage, message = FAULTS[fault]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        load_weights(model, path)
    assert "\n" not in str(caught.value)
    assert (model.stem[0].conv.weight == before).all()


def test_weights_of_another_network_and_none(tmp_path):
    path = tmp_path / "a.weights"
    save_weights(create_model("yoloface-50k"), path)
    with pytest.raises(InputError, match=r"45,012 bytes, .* 109,300, .*belongs to another network"):
        load_weights(create_model("yoloface-100k"), path)
    with pytest.raises(InputError, match="none.weights is missing"):
        load_weights(create_model("yoloface-50k"), tmp_path / "none.weights")
