"""Layers of darknet that no other reader here has, computed again with loops after darknet's C sources; heads
decoded again; and YOLOv2, which OpenCV reads too."""

import math

import cv2
import numpy as np
import pytest
import torch

from tests.models.test_darknet import built, conv, pool, section, yolo  # noqa: F401 (built is a fixture)
from toolkit.export.folder import open_export
from toolkit.export.write import export_model
from toolkit.models.blocks import ACTIVATIONS
from toolkit.models.cost import measure
from toolkit.models.darknet.build import build_layer
from toolkit.models.darknet.cfg import parse_cfg_text
from toolkit.models.darknet.network import CfgDetector, load_darknet
from toolkit.models.darknet.weights import save_weights
from toolkit.models.darknet.wiring import Layers
from toolkit.models.darknet.write import save_darknet
from toolkit.models.decode import decode
from toolkit.models.network import fold
from toolkit.runtime import InputError

NET = section("net", width=64, height=64)
END = conv(24, activation="linear", norm=0) + yolo("0,1,2")


def made(layer, *shapes):
    """A layer after layers of those shapes."""
    torch.manual_seed(0)
    before = Layers([torch.nn.Identity()] * len(shapes), [(3, 64, 64), *shapes])
    result = build_layer(parse_cfg_text(NET + layer, "a.cfg")[1], before)
    result.module.eval()
    return result


def run(layer, *inputs):
    """Output of a layer after layers that give `inputs` (C, H, W), in its own order of them."""
    result = made(layer, *(x.shape for x in inputs))
    with torch.no_grad():
        y = result.module(*(torch.from_numpy(inputs[k][None]) for k in result.sources))[0]
    assert y.shape == result.shape
    return y.numpy(), result.module


def values(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def network(layers, net=NET, end=END):
    torch.manual_seed(0)
    return CfgDetector(parse_cfg_text(net + layers + end, "a.cfg")).eval()


def reorg_cpu(x, w, h, c, stride, forward):
    """blas.c, on one picture."""
    x, out = x.reshape(-1), np.zeros(x.size, x.dtype)
    in_c = c // (stride * stride)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                first = i + w * (j + h * k)
                offset = k // in_c
                w2, h2 = i * stride + offset % stride, j * stride + offset // stride
                second = w2 + w * stride * (h2 + h * stride * (k % in_c))
                out[second if forward else first] = x[first if forward else second]
    return out


@pytest.mark.parametrize("kind", ["reorg", "reorg3d"])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("stride", [2, 3])
def test_reorg(kind, reverse, stride):
    c, h, w = stride**4, 6, 12
    x = values(c, h, w)
    ours, _ = run(section(kind, stride=stride, reverse=reverse), x)
    # reorg_old_layer.c hands over the size of its input, reorg_layer.c that of its output
    sizes = (w, h, c) if kind == "reorg" else ours.shape[::-1]
    np.testing.assert_array_equal(ours, reorg_cpu(x, *sizes, stride, reverse).reshape(ours.shape))
    assert ours.shape[0] == (c // stride**2 if reverse else c * stride**2)


def window(i, size, stride, padding, side):
    start = i * stride - padding // 2
    return [k for k in range(start, start + size) if 0 <= k < side]


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 1, 2), (2, 2, 1), (4, 4, 3), (4, 1, 2), (5, 2, 1)]
)
def test_local_avgpool(size, stride, padding):
    x = values(3, 9, 12)
    y, _ = run(section("local_avgpool", size=size, stride=stride, padding=padding), x)
    for i, j in np.ndindex(*y.shape[1:]):
        rows, columns = window(i, size, stride, padding, 9), window(j, size, stride, padding, 12)
        np.testing.assert_allclose(y[:, i, j], x[:, rows][:, :, columns].mean((1, 2)), rtol=1e-4, atol=1e-6)


def convolved(x, weight, bias, strides, pad, dilation=1):
    """A convolution by its definition; padding in steps of the dilation."""
    n, _, size, _ = weight.shape
    h, w = ((side + 2 * pad - size) // s + 1 for side, s in zip(x.shape[1:], strides, strict=True))
    padded = np.pad(x, ((0, 0), *[(pad * dilation,) * 2] * 2))
    out, reach = np.zeros((n, h, w)), dilation * (size - 1) + 1
    for i, j in np.ndindex(h, w):
        top, left = i * strides[0], j * strides[1]
        cells = padded[:, top : top + reach : dilation, left : left + reach : dilation]
        out[:, i, j] = (weight * cells).sum((1, 2, 3)) + bias
    return out


@pytest.mark.parametrize(
    ("options", "strides", "pad", "dilation"),
    [
        ({"size": 3, "stride": 1, "pad": 1, "dilation": 3}, (1, 1), 1, 3),
        ({"size": 5, "stride": 2, "pad": 1, "dilation": 2}, (2, 2), 2, 2),
        ({"size": 1, "stride": 1, "pad": 1, "dilation": 4}, (1, 1), 0, 1),
        ({"size": 3, "stride": 9, "stride_x": 2, "stride_y": 1, "padding": 2}, (1, 2), 2, 1),
    ],
)
def test_dilation_padding_and_strides(options, strides, pad, dilation):
    x = values(3, 12, 16)
    y, module = run(section("convolutional", filters=5, activation="linear", **options), x)
    weight, bias = (p.detach().numpy() for p in (module.conv.weight, module.conv.bias))
    np.testing.assert_allclose(y, convolved(x, weight, bias, strides, pad, dilation), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [1, 2])
def test_antialiasing(kind):
    x = values(3, 12, 16)
    options = {"filters": 4, "size": 3, "pad": 1, "activation": "relu"}
    y, module = run(section("convolutional", stride=2, antialiasing=kind, **options), x)
    sharp = module[0](torch.from_numpy(x[None]))[0].detach().numpy()
    row = np.array([1, 1] if kind == 2 else [1, 2, 1])
    kernel = np.outer(row, row) / row.sum() ** 2
    for before, after in zip(sharp, y, strict=True):
        expected = convolved(before[None], kernel[None, None], 0, (2, 2), 0 if kind == 2 else 1)
        np.testing.assert_allclose(after, expected[0], rtol=1e-4, atol=1e-6)
    pooled, _ = run(section("maxpool", size=2, stride=2, antialiasing=kind), x)
    assert pooled.shape[1:] == y.shape[1:]


def test_sam_and_scale_channels():
    x, factors = values(4, 5, 6), values(4, 5, 6)[::-1].copy()
    np.testing.assert_array_equal(run(section("sam", from_=-2), x, factors)[0], x * factors)
    wide = factors[:1]
    np.testing.assert_array_equal(run(section("scale_channels", from_=-2, scale_wh=1), x, wide)[0], x * wide)
    with pytest.raises(InputError, match="layer 0 gives 4 channels of 6x5, expected 1 channels of 6x5"):
        run(section("sam", from_=-2), x, wide)
    with pytest.raises(InputError, match="activation=mish does not work"):
        run(section("sam", from_=-2, activation="mish"), x, factors)


def test_maxpool_depth():
    x = values(6, 4, 5)
    y, _ = run(section("maxpool", maxpool_depth=1, out_channels=2), x)
    np.testing.assert_array_equal(y, [x[0::2].max(0), x[1::2].max(0)])


@pytest.mark.parametrize("kind", ["per_feature", "per_channel"])
@pytest.mark.parametrize("normalization", ["none", "relu", "softmax"])
def test_weighted_shortcut(kind, normalization):
    inputs = [values(2, 4, 4), values(5, 4, 4), values(3, 4, 4)]  # the last is the layer before
    layer = section("shortcut", from_="0,1", weights_type=kind, weights_normalization=normalization)
    result = made(layer, *(x.shape for x in inputs))
    weight = torch.from_numpy(values(*result.module.weight.shape))
    result.module.weight.data.copy_(weight)
    y = result.module(*(torch.from_numpy(inputs[k][None]) for k in result.sources))[0].detach().numpy()
    w = np.broadcast_to(weight.numpy(), (3, 3))
    if normalization == "relu":
        w = np.maximum(w, 0) / (np.maximum(w, 0).sum(0) + 1e-4)
    elif normalization == "softmax":
        w = np.exp(w - w.max(0)) / (np.exp(w - w.max(0)).sum(0) + 1e-4)
    for c in range(3):  # shortcut_multilayer_cpu: the layer before, then `from`, as far as they have channels
        expected = inputs[2][c] * w[0, c] + inputs[1][c] * w[2, c]
        if c < 2:
            expected = expected + inputs[0][c] * w[1, c]
        np.testing.assert_allclose(y[c], expected, rtol=1e-4, atol=1e-6)


# activations.h
SCALARS = {
    "linear": lambda x: x,
    "relu": lambda x: x * (x > 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "logistic": lambda x: 1 / (1 + math.exp(-x)),
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "hard_mish": lambda x: x if x > 0 else x * x / 2 + x if x > -2 else 0,
    "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507 * x if x >= 0 else 1.0507 * 1.6732 * (math.exp(x) - 1),
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
    "tanh": lambda x: 2 / (1 + math.exp(-2 * x)) - 1,
    "hardtan": lambda x: -1 if x < -1 else 1 if x > 1 else x,
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "loggy": lambda x: 2 / (1 + math.exp(-x)) - 1,
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "plse": lambda x: 0.01 * (x + 4) if x < -4 else 0.01 * (x - 4) + 1 if x > 4 else 0.125 * x + 0.5,
    "lhtan": lambda x: 0.001 * x if x < 0 else 0.001 * (x - 1) + 1 if x > 1 else x,
    "stair": lambda x: math.floor(x / 2) if math.floor(x) % 2 == 0 else x - math.floor(x) + math.floor(x / 2),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation):
    x = np.linspace(-7, 7, 113, dtype=np.float32)
    ours = ACTIVATIONS[activation]()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, [SCALARS[activation](float(v)) for v in x], rtol=1e-4, atol=1e-4)


SHARED = (
    conv(8, 3, 2)
    + conv(8, 3, 4)
    + section("route", layers=0)
    + conv(8, 3, 4).replace("[convolutional]", "[convolutional]\nshare_index=1\ndilation=3")
    + section("route", layers="-1,1")
    + conv(24, 3, 4, activation="linear", norm=0)
    + yolo("0,1,2")
)


def test_shared_weights_are_stored_once_and_stay_shared(tmp_path):
    model = network(SHARED, end="")
    assert model.layers[3].conv.weight is model.layers[1].conv.weight
    save_weights(model, tmp_path / "a.weights")
    floats = 4 * 8 * 2 + 9 * (3 * 8 + 8 * 8) + 24 + 9 * 16 * 24
    assert (tmp_path / "a.weights").stat().st_size == 20 + 4 * floats
    cost = measure(model)
    assert cost.params == floats
    x = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    np.testing.assert_allclose(fold(model).predict(x)[0], model.predict(x)[0], rtol=1e-3, atol=1e-5)
    again = load_darknet(*save_darknet(model, tmp_path / "again"))
    np.testing.assert_array_equal(again.predict(x)[0], model.predict(x)[0])
    assert again.layers[3].conv.weight is again.layers[1].conv.weight
    with pytest.raises(InputError, match="share_index=0 names layer 0: expected a .convolutional. with its"):
        network(SHARED.replace("share_index=1", "share_index=0"), end="")


def test_a_cfg_of_many_layers_is_measured_written_and_read_again(tmp_path):
    layers = (
        conv(8, 3, 2)  # 0
        + section("batchnorm")
        + section("activation", activation="leaky")
        + section("reorg3d", stride=2)  # 3
        + conv(8)
        + conv(8)
        + section("shortcut", from_=-2, weights_type="per_channel", weights_normalization="softmax")  # 6
        + conv(8)
        + section("sam", from_=-2)
        + section("local_avgpool", size=3, stride=2)  # 9
        + conv(8, 3, 4).replace("pad=1", "pad=1\nantialiasing=1")
        + section("empty")
        + conv(24, activation="linear", norm=0)
        + yolo("0,1,2")
        + section("route", layers=9)
        + conv(8)  # nothing reads it
        + section("contrastive", yolo_layer=-3)
    )
    model = network(layers, end="")
    assert model.io.stride == 32
    assert model.running == list(range(14))
    x = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    cfg, weights, names = save_darknet(model, tmp_path)
    again = load_darknet(cfg, weights, names)
    np.testing.assert_array_equal(again.predict(x)[0], model.predict(x)[0])
    assert [s.options for s in again.sections] == [s.options for s in model.sections]
    save_darknet(again, tmp_path / "again")
    assert (tmp_path / "again" / "model.weights").read_bytes() == weights.read_bytes()
    cost = measure(model)
    kinds = [row.kind for row in cost.layers]
    for kind in ("batchnorm", "reorg", "shortcut", "local_avgpool", "antialiasing", "scale_channels"):
        assert kind in kinds
    assert cost.heads[0].stride == 32
    assert [row.stride for row in cost.layers][-1] == 32
    unused = 4 * 8 + 8 * 8
    assert 4 * (cost.params + unused) + 20 == weights.stat().st_size
    assert list(model.named_layers(x)) == [f"layers.{i}" for i in (0, 4, 5, 7)] + ["layers.10.0", "layers.12"]
    np.testing.assert_allclose(fold(model).predict(x)[0], model.predict(x)[0], rtol=1e-3, atol=1e-5)


def test_onnx_and_ncnn_files_have_these_layers(tmp_path):
    layers = (
        conv(8, 3, 2, activation="hard_mish")  # 0
        + section("reorg", stride=2)
        + conv(16, 3, activation="gelu").replace("pad=1", "pad=1\ndilation=2")  # 2
        + conv(16)
        + section("sam", from_=-2)
        + conv(16)
        + section("shortcut", from_="-2,2", weights_type="per_channel", weights_normalization="relu")  # 6
        + section("reorg3d", stride=2)
        + section("local_avgpool", size=4, stride=2)
        + conv(8, 3, 2, activation="plse").replace("pad=1", "pad=1\nantialiasing=1")
    )
    net = section("net", width=64, height=64, channels=1, letter_box=1)
    model = network(layers, net=net)
    assert model.io.stride == 32
    export_model(model, tmp_path / "out", ["onnx", "ncnn"])
    x = np.random.default_rng(0).random((1, 1, 64, 64), np.float32)
    expected = model.predict(x)[0]
    for fmt in ("onnx", "ncnn"):
        opened = open_export(tmp_path / "out", fmt)
        assert opened.io == model.io
        np.testing.assert_allclose(opened.predict(x)[0], expected, atol=1e-4 * np.abs(expected).max())


def region(**options):
    anchors = "1.5,2.5, 4,3, 6.25,7.75"
    return section("region", anchors=anchors, coords=4, classes=3, num=3, softmax=1, **options)


def yolov2():
    net = section("net", width=96, height=64, channels=3)
    net += conv(8, 3) + pool(2, 2) + conv(12, 3) + pool(2, 2) + conv(16, 3) + pool(2, 2)
    net += conv(24, 3) + pool(2, 2) + conv(32, 3) + pool(2, 2) + conv(40, 3) + conv(40, 3)  # 8: stride 16
    net += section("route", layers=-4) + conv(16) + section("reorg", stride=2)
    net += section("route", layers="-1,-4") + conv(40, 3) + conv(24, activation="linear", norm=0)
    return net + region()


def test_yolov2_agrees_with_opencv(built, pictures):  # noqa: F811
    cfg, weights, model = built(yolov2())
    x = cv2.resize(pictures["astronaut"], (96, 64)).astype(np.float32).transpose(2, 0, 1)[None] / 255
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(x)
    np.testing.assert_allclose(model.predict(x)[0], net.forward(f"conv_{model.heads[0] - 1}"), atol=1e-4)
    head = model.io.heads[0]
    assert (head.stride, head.softmax) == (32, True)
    assert head.anchors == ((48, 80), (128, 96), (200, 248))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_region_decode_as_darknet_computes_it():
    io = network("", end=conv(24, 3, 32, activation="linear", norm=0) + region()).io
    raw = values(1, 24, 2, 2) * 2
    (found,) = decode([raw], io, 0.2)
    expected = []
    biases = [(1.5, 2.5), (4, 3), (6.25, 7.75)]
    for n, j, i in np.ndindex(3, 2, 2):  # get_region_box, get_region_detections
        x = [float(v) for v in raw[0, 8 * n : 8 * n + 8, j, i]]
        powers = [math.exp(v) for v in x[5:]]
        w, h = math.exp(x[2]) * biases[n][0] / 2, math.exp(x[3]) * biases[n][1] / 2
        cx, cy = (i + sigmoid(x[0])) / 2, (j + sigmoid(x[1])) / 2
        for k, power in enumerate(powers):
            score = sigmoid(x[4]) * power / sum(powers)
            if score > 0.2:
                expected.append((score, k, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    ours = [(s, k, *box) for s, k, box in zip(found.scores, found.class_ids, found.boxes_norm, strict=True)]
    assert len(expected) > 4
    np.testing.assert_allclose(sorted(ours), sorted(expected), rtol=1e-4, atol=1e-5)


def test_gaussian_decode_as_darknet_computes_it():
    anchors = "16,32, 40,24"
    head = section("Gaussian_yolo", mask="0,1", anchors=anchors, classes=3, num=2, scale_x_y=1.2)
    io = network("", end=conv(24, 3, 32, activation="linear", norm=0) + head).io
    assert io.heads[0].gaussian
    raw = values(1, 24, 2, 2) * 2
    (found,) = decode([raw], io, 0.1)
    expected = []
    for n, j, i in np.ndindex(2, 2, 2):  # forward_gaussian_yolo_layer, get_gaussian_yolo_detections
        x = [float(v) for v in raw[0, 12 * n : 12 * n + 12, j, i]]
        bias = ((16, 32), (40, 24))[n]
        cx = (i + sigmoid(x[0]) * 1.2 - 0.5 * (1.2 - 1)) / 2
        cy = (j + sigmoid(x[2]) * 1.2 - 0.5 * (1.2 - 1)) / 2
        w, h = math.exp(x[4]) * bias[0] / 64, math.exp(x[6]) * bias[1] / 64
        uncertainty = sum(sigmoid(x[k]) for k in (1, 3, 5, 7)) / 4
        for k in range(3):
            score = sigmoid(x[8]) * sigmoid(x[9 + k]) * (1 - uncertainty)
            if score > 0.1:
                expected.append((score, k, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    ours = [(s, k, *box) for s, k, box in zip(found.scores, found.class_ids, found.boxes_norm, strict=True)]
    assert len(expected) > 4
    np.testing.assert_allclose(sorted(ours), sorted(expected), rtol=1e-4, atol=1e-5)


REFUSED = {
    "tree": (region(tree="9k.tree"), "tree=9k.tree: classes in a tree"),
    "softmax": (region().replace("softmax=1", "softmax=0"), "softmax=1 is missing"),
    "coords": (region().replace("coords=4", "coords=5"), "coords=5 is not supported"),
    "channels": (region().replace("classes=3", "classes=4"), "3 anchors and 4 classes need 27 channels"),
    "point": (
        section("Gaussian_yolo", anchors="9,9, 20,30", num=2, classes=3, yolo_point="left_top"),
        "yolo_point=left_top is not supported: expected center",
    ),
    "reorg": (
        section("reorg", stride=2) + region(),
        "stride=2 does not divide its input, 24 channels of 1x1",
    ),
    "pool": (section("maxpool", size=2, stride_x=1, stride_y=2) + region(), "stride_x=1 stride_y=2"),
    "avgpool": (section("local_avgpool", size=2, padding=4) + region(), "padding=4 is too large for size=2"),
    "dontload": (section("empty", dontload=1) + region(), "dontload=1 is not supported"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_refused(fault):
    end, message = REFUSED[fault]
    with pytest.raises(InputError, match=rf"a.cfg, \[\w+\] in line \d+: {message}"):
        network("", end=conv(24, 3, 64, activation="linear", norm=0) + end)
