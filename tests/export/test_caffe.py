"""Caffe files in OpenCV and through MNN's converter, equal to torch; the seed's own files beside ours."""

import re

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.cfgs import conv, net, output, plain_head
from tests.export.layers import Branches, layers_beyond_the_zoo
from toolkit import create_model, list_models
from toolkit.export import caffe, mnn
from toolkit.export.parity import output_difference, probe_input
from toolkit.models.blocks import ConvBNAct
from toolkit.models.darknet.network import load_darknet
from toolkit.models.io import HeadIO, ModelIO, read_io
from toolkit.models.network import fold
from toolkit.runtime import InputError


def in_mnn(folder, io, x, work):
    """Outputs of the same files, converted and run by MNN."""
    mnn.convert(folder / "model.prototxt", work / "caffe.mnn", "CAFFE", folder / "model.caffemodel")
    return mnn.MnnModel(work / "caffe.mnn", io).predict(x)


def assert_equal(wanted, found):
    """Within 1e-4, of a tenth of the largest value where that is more than 1."""
    difference, largest = output_difference(wanted, found)
    assert difference < 1e-4 * max(1, largest / 10)


@pytest.mark.parametrize("name", list_models("detection"))
def test_every_network_in_opencv_and_mnn(name, exported, tmp_path):
    model, folder = exported(name)
    x = probe_input(model.io)
    wanted = model.predict(x)
    assert_equal(wanted, caffe.CaffeModel(folder / "model.caffemodel", model.io).predict(x))
    assert_equal(wanted, in_mnn(folder, model.io, x, tmp_path))


@pytest.mark.parametrize("name", ["fastest-v1", "fastest-v2"])
def test_networks_made_from_a_cfg(name, zoo, tmp_path):
    model = load_darknet(zoo / name / f"{name}.cfg", zoo / name / f"{name}.weights")
    caffe.export(fold(model), tmp_path, model.io.input_size)
    x = probe_input(model.io)
    assert_equal(model.predict(x), caffe.CaffeModel(tmp_path / "model.caffemodel", model.io).predict(x))


def test_another_size_than_the_networks_own(tmp_path):
    model = create_model("yoloface-500k-se", "published")
    io = read_io({**model.io.as_dict(), "input_size": (192, 320)})
    files = caffe.export(fold(model), tmp_path, io.input_size)
    assert [file.name for file in files] == ["model.prototxt", "model.caffemodel"]
    x = np.concatenate([probe_input(io), probe_input(io)[:, :, ::-1]])
    before = cv2.getNumThreads()
    assert_equal(model.predict(x), caffe.CaffeModel(files[1], io, threads=1).predict(x))
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("size", [(24, 32), (23, 19), (22, 25)])
def test_operators_beyond_the_zoo(size, tmp_path):
    """darknet's pooling with any padding, at even and odd sides, and what other cfg files use."""
    layers = layers_beyond_the_zoo()
    model = Branches(*layers).eval()
    caffe.export(model, tmp_path, size)
    io = ModelIO(size, ("thing",), (HeadIO(1, ((1.0, 1.0),)),) * len(layers), 1)
    x = np.random.default_rng(0).normal(0, 3, (1, 3, *size[::-1])).astype(np.float32)
    with torch.inference_mode():
        wanted = [out.numpy() for out in model(torch.from_numpy(x))]
    found = caffe.CaffeModel(tmp_path / "model.caffemodel", io).predict(x), in_mnn(tmp_path, io, x, tmp_path)
    for layer, a, *others in zip(layers, wanted, *found, strict=True):
        for b in others:
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=str(layer))


def published(name, zoo, folder, model):
    """Network and outputs (coarsest first) of the seed's files in OpenCV, their Upsample, which OpenCV and
    stock Caffe lack, replaced by our Deconvolution; and the caffe.NetParameter with their weights."""
    ours = [layer for layer in caffe.build(fold(model), model.io.input_size).layer if "Deconv" in layer.type]
    theirs = caffe.net_parameter().FromString((zoo / name / "caffe" / f"{name}.caffemodel").read_bytes())
    text = (zoo / name / "caffe" / f"{name}.prototxt").read_text()
    old = [layer for layer in theirs.layer if layer.type == "Upsample"]
    assert len(old) == len(ours) == text.count('"Upsample"')
    for layer, new in zip(old, ours, strict=True):
        layer.type = new.type
        layer.blobs.extend(new.blobs)
        options = re.sub(r"\s+", " ", str(new.convolution_param))
        text = re.sub(
            r'type: "Upsample"\s*upsample_param {[^}]*}',
            f'type: "Deconvolution" convolution_param {{ {options} }}',
            text,
            count=1,
        )
    (folder / "a.prototxt").write_text(text)
    (folder / "a.caffemodel").write_bytes(theirs.SerializeToString())
    net = cv2.dnn.readNetFromCaffe(str(folder / "a.prototxt"), str(folder / "a.caffemodel"))
    net.setInput(probe_input(model.io))
    maps = net.forward(net.getUnconnectedOutLayersNames())
    return sorted(maps, key=lambda m: m.shape[2]), theirs


@pytest.mark.parametrize("name", ["nano-voc", "yoloface-500k-v2", "yoloface-100k"])
def test_the_seeds_caffe_files_give_our_outputs(name, zoo, tmp_path):
    model = create_model(name, "published")
    maps, _ = published(name, zoo, tmp_path, model)
    assert_equal(model.predict(probe_input(model.io)), maps)


def test_the_seeds_50k_is_the_same_network_with_other_weights(zoo, tmp_path):
    model = create_model("yoloface-50k", "published")
    maps, theirs = published("yoloface-50k", zoo, tmp_path, model)
    x = probe_input(model.io)
    assert output_difference(model.predict(x), maps)[0] > 0.1
    blobs = iter([np.array(b.data, np.float32) for layer in theirs.layer for b in layer.blobs])
    for block in model.modules():
        if isinstance(block, ConvBNAct):
            tensors = [block.conv.weight]
            if block.norm is None:
                tensors.append(block.conv.bias)
            else:
                tensors += [block.norm.running_mean, block.norm.running_var]
            for tensor in tensors:
                tensor.data = torch.from_numpy(next(blobs)).view_as(tensor)
            if block.norm is not None:
                divisor = next(blobs).item()  # Caffe keeps sums
                block.norm.running_mean /= divisor
                block.norm.running_var /= divisor
                for tensor in (block.norm.weight, block.norm.bias):
                    tensor.data = torch.from_numpy(next(blobs))
    assert next(blobs, None) is None
    assert_equal(model.predict(x), maps)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.ReLU6(), "hardtanh as layers.0 .ReLU6. uses it is not written for Caffe here: export .* ONNX"),
        (nn.Hardswish(), "hardswish as layers.0"),
        (nn.Upsample(scale_factor=2.0, mode="bilinear"), "upsample_bilinear2d as layers.0"),
        (nn.Upsample(size=(20, 30)), "upsample_nearest2d as layers.0"),
        (nn.AdaptiveAvgPool2d(2), "adaptive_avg_pool2d as layers.0"),
        (nn.Conv2d(3, 4, (1, 3)), "conv2d as layers.0"),
        (nn.Conv2d(3, 4, 3, dilation=2), "conv2d as layers.0"),
        (nn.MaxPool2d((2, 1)), "max_pool2d as layers.0"),
        (nn.ZeroPad2d(1), "pad as layers.0"),
        (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), "max_pool2d as layers.0.1"),
    ],
)
def test_an_operator_that_is_not_written_for_caffe(layer, message, tmp_path):
    with pytest.raises(InputError, match=message):
        caffe.export(Branches(layer).eval(), tmp_path, (16, 16))
    assert list(tmp_path.iterdir()) == []


def test_bad_input(exported, tmp_path):
    model, folder = exported("yoloface-100k")
    opened = caffe.CaffeModel(folder / "model.caffemodel", model.io)
    with pytest.raises(InputError, match="model.caffemodel takes 112x112, not 96x128: export it again"):
        opened.predict(np.zeros((1, 3, 128, 96), np.float32))
    weights, text = tmp_path / "model.caffemodel", tmp_path / "model.prototxt"
    good = (folder / weights.name).read_bytes()
    weights.write_bytes(good)
    with pytest.raises(InputError, match="there is no .*model.prototxt"):
        caffe.CaffeModel(weights, model.io)
    text.write_text((folder / text.name).read_text())
    other = exported("yoloface-50k")[1]
    no_end = caffe.net_parameter().FromString(good)
    del no_end.layer[-1]
    for bad in (good[:-9], b"", no_end.SerializeToString(), (other / weights.name).read_bytes()):
        weights.write_bytes(bad)
        with pytest.raises(InputError, match="OpenCV cannot open .* damaged, do not belong together"):
            caffe.CaffeModel(weights, model.io)
    weights.write_bytes(good)
    for bad_text in ("layer {", "", (other / text.name).read_text()):
        text.write_text(bad_text)
        with pytest.raises(InputError, match="OpenCV cannot open"):
            caffe.CaffeModel(weights, model.io)


BLURRED = net() + conv(8, stride=2, antialiasing=1) + output(8)


def test_constant_filters_are_written_and_computed_weights_refused(tmp_path):
    path = tmp_path / "blurred.cfg"
    path.write_text(f"{BLURRED}[shortcut]\nfrom=-2\n{output(14)}{plain_head(2)}")
    model = fold(load_darknet(path))
    caffe.export(model, tmp_path, model.io.input_size)
    x = probe_input(model.io)
    opened = caffe.CaffeModel(tmp_path / "model.prototxt", model.io)
    assert output_difference(model.predict(x), opened.predict(x))[0] < 1e-5
    path.write_text(f"{BLURRED}[shortcut]\nfrom=-2\nweights_type=per_feature\n{output(14)}{plain_head(2)}")
    weighted = fold(load_darknet(path))
    with pytest.raises(InputError, match=r"\(WeightedShortcut\) uses it is not written for Caffe"):
        caffe.export(weighted, tmp_path, weighted.io.input_size)
