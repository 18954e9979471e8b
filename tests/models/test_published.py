"""The twelve published detectors: cost to the last digit, outputs as darknet's, both builds alike."""

import numpy as np
import pytest

from toolkit import create_model, list_models
from toolkit.export.parity import DarknetReference, layer_parity
from toolkit.models.cost import measure
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.weights import load_weights, save_weights
from toolkit.models.darknet.write import to_cfg
from toolkit.models.published import can_fetch

# name: input, convolutions, depthwise ones, floats in the weights file, BFLOPs
PUBLISHED = {
    "lite-voc": ((320, 320), 60, 18, 1_882_102, 1.811),
    "lite-coco": ((320, 320), 60, 18, 2_003_422, 1.866),
    "nano-voc": ((320, 320), 59, 18, 769_750, 0.495),
    "nano-coco": ((320, 320), 59, 18, 891_070, 0.551),
    "spp-coco": ((416, 416), 89, 25, 4_400_845, 6.184),
    "fastest-v1": ((320, 320), 59, 18, 191_214, 0.126),
    "fastest-v2": ((320, 320), 59, 17, 209_864, 0.142),
    "yoloface-500k-v1": ((320, 256), 61, 19, 130_140, 0.112),
    "yoloface-500k-se": ((320, 256), 70, 20, 138_209, 0.112),
    "yoloface-500k-v2": ((352, 288), 61, 16, 104_624, 0.110),
    "yoloface-100k": ((112, 112), 36, 11, 27_320, 0.009),
    "yoloface-50k": ((56, 56), 24, 7, 11_248, 0.002),
}
WITH_WEIGHTS = [n for n in PUBLISHED if can_fetch(f"{n}/{n}.weights")]
WITH_REFERENCE = ["nano-voc", "fastest-v2", "yoloface-500k-v2"]


def random_input(io, seed=0):
    return np.random.default_rng(seed).random((2, 3, *io.input_size[::-1]), np.float32)


def assert_cost(model, name):
    size, convolutions, depthwise, params, bflops = PUBLISHED[name]
    cost = measure(model)
    assert model.io.input_size == size
    assert cost.params == params
    assert round(cost.bflops, 3) == bflops
    kinds = [layer.kind for layer in cost.layers]
    assert kinds.count("depthwise") == depthwise
    assert kinds.count("depthwise") + kinds.count("convolutional") == convolutions


OWN = ["yoloface-100k-v2"]  # trained by this project


def test_the_zoo_is_complete():
    assert list_models("detection") == [*PUBLISHED, *OWN]


def test_the_small_face_detector_costs_no_more_than_the_published_one():
    small, published = (measure(create_model(name)) for name in ("yoloface-100k-v2", "yoloface-100k"))
    assert small.macs <= published.macs
    assert small.bflops <= 1.005 * published.bflops  # which counts pooling, too


@pytest.mark.parametrize("name", PUBLISHED)
def test_cost_of_the_spec(name):
    assert_cost(create_model(name), name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_cost_of_the_cfg(name, zoo):
    assert_cost(load_darknet(zoo / name / f"{name}.cfg"), name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_spec_to_cfg_to_weights_and_back(name, tmp_path):
    model = create_model(name)
    cfg, weights = tmp_path / f"{name}.cfg", tmp_path / f"{name}.weights"
    cfg.write_text(to_cfg(model.spec))
    save_weights(model, weights)
    again = load_darknet(cfg, weights)
    assert again.io.heads == model.io.heads
    x = random_input(model.io)
    for a, b in zip(model.predict(x), again.predict(x), strict=True):
        np.testing.assert_array_equal(a, b)
    save_weights(again, tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == weights.read_bytes()


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_published_weights_in_both_builds(name, zoo, tmp_path):
    file = zoo / name / f"{name}.weights"
    model, from_cfg = create_model(name, "published"), load_darknet(zoo / name / f"{name}.cfg", file)
    assert model.io.heads == from_cfg.io.heads
    x = random_input(model.io)
    for a, b in zip(model.predict(x), from_cfg.predict(x), strict=True):
        np.testing.assert_array_equal(a, b)
    for i, one in enumerate((model, from_cfg)):
        save_weights(one, tmp_path / f"{i}.weights")
        assert (tmp_path / f"{i}.weights").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", WITH_REFERENCE)
@pytest.mark.parametrize("build", ["spec", "cfg"])
def test_raw_maps_as_darknet_has_them(name, build, zoo, reference):
    file = zoo / name / f"{name}.weights"
    model = create_model(name, file) if build == "spec" else load_darknet(zoo / name / f"{name}.cfg", file)
    parity = layer_parity(DarknetReference(reference / f"{name}.raw.npz"), model)
    assert max(row.difference for row in parity.outputs) < 1e-4
    assert len(parity.layers) == PUBLISHED[name][1]
    assert max(row.relative for row in parity.layers) < 1e-5


def test_a_shuffled_weights_file_shows_in_the_parity(zoo, reference, tmp_path):
    name = "fastest-v2"
    model = create_model(name, "published")
    model.stem[0].conv.weight.data = model.stem[0].conv.weight.data.flip(1)  # BGR for RGB
    parity = layer_parity(DarknetReference(reference / f"{name}.raw.npz"), model)
    assert parity.first_divergence(1e-5) == "stem.0"
    save_weights(model, tmp_path / "flipped.weights")
    load_weights(model, zoo / name / f"{name}.weights")
    assert layer_parity(DarknetReference(reference / f"{name}.raw.npz"), model).first_divergence(1e-5) is None
