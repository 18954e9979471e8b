"""LiteRT files in the interpreter with XNNPACK, equal to torch; what the files hold; whole numbers."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from tests.cfgs import conv, net, output, plain_head
from tests.export.layers import Branches, layers_beyond_the_zoo
from toolkit import create_model, list_models
from toolkit.export.folder import Exported, open_export
from toolkit.export.litert import write
from toolkit.export.litert.file import ALIGNMENT, read_operators, schema
from toolkit.export.litert.int8 import Statistics, limits
from toolkit.export.litert.model import LiteRtModel, open_interpreter
from toolkit.export.parity import layer_parity, output_difference, probe_input
from toolkit.export.write import export_model
from toolkit.models.blocks import ACTIVATIONS
from toolkit.models.darknet.layers import Blur, DepthMaxPool, LocalAvgPool, Reorg, WeightedShortcut
from toolkit.models.darknet.network import load_darknet
from toolkit.models.network import fold
from toolkit.pictures import save_image
from toolkit.runtime import InputError

FORMATS = ("litert", "litert-fp16", "litert-int8")
NONE = np.zeros((0, 3, 8, 8), np.float32)


def written(model, folder, precision="fp32", samples=NONE):
    (path,) = write.export(fold(model), folder, model.io, precision, samples)
    return path


def content(path):
    return schema().ModelT.InitFromPackedBuf(path.read_bytes())


@pytest.mark.parametrize("name", [*list_models("detection"), *list_models("landmarks")])
def test_every_network_is_equal_to_torch(name, trained, tmp_path):
    model = trained(name).eval()
    path = written(model, tmp_path)
    x = probe_input(model.io)
    for threads in (1, 2):
        difference, largest = output_difference(
            model.predict(x), LiteRtModel(path, model.io, threads).predict(x)
        )
        assert difference < 1e-5 * max(1, largest)
    kinds = {kind for kind, _ in read_operators(path)}
    assert not kinds & {"TRANSPOSE", "DEQUANTIZE"}


def test_what_a_file_holds(tmp_path):
    model = create_model("yoloface-500k-v2").eval()
    path = written(model, tmp_path)
    data, made = path.read_bytes(), content(path)
    assert data[4:8] == b"TFL3"
    (entry,) = made.metadata
    assert entry.name == write.METADATA.encode()
    io = json.loads(bytes(made.buffers[entry.buffer].data))
    assert (io["classes"], io["heads"][0]["stride"]) == (list(model.io.classes), model.io.heads[0].stride)
    runner = open_interpreter(path).get_signature_runner()
    assert list(runner.get_input_details()["images"]["shape"]) == [1, 288, 352, 3]
    assert sorted(runner.get_output_details()) == ["map0", "map1", "map2"]
    root = schema().Model.GetRootAs(data)
    for i in range(root.BuffersLength()):
        values = root.Buffers(i).DataAsNumpy()
        if not isinstance(values, int):
            assert (values.ctypes.data - np.frombuffer(data, np.uint8).ctypes.data) % ALIGNMENT == 0


@pytest.mark.parametrize("size", [(24, 32), (23, 19), (22, 25)])
def test_operators_beyond_the_zoo(size, tmp_path):
    layers = layers_beyond_the_zoo()
    layers += [make() for name, make in ACTIVATIONS.items() if name != "linear"]
    layers += [
        nn.Conv2d(3, 6, (1, 3), (2, 1), (0, 1)),
        nn.Conv2d(3, 4, 3, dilation=2, padding=2),
        nn.ZeroPad2d(1),
    ]
    layers += [
        Blur(3, 2, (2, 2)),
        Blur(3, 3, (2, 2)),
        LocalAvgPool(2, 2, 0),
        LocalAvgPool(3, 1, 2),
        DepthMaxPool(1),
    ]
    layers += [nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4), nn.ReLU6())]
    model = Branches(*layers, size=size).eval()
    x = np.random.default_rng(0).normal(0, 3, (2, 3, *size[::-1])).astype(np.float32)
    with torch.inference_mode():
        wanted = [out.numpy() for out in model(torch.from_numpy(x))]
    for layer, a, b in zip(
        layers, wanted, LiteRtModel(written(model, tmp_path), model.io).predict(x), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-5, err_msg=str(layer))


def versions(path):
    made = content(path)
    kinds = {number: kind for kind, number in vars(schema().BuiltinOperator).items()}
    return {(kinds[code.builtinCode], code.version) for code in made.operatorCodes}


def test_versions_are_those_that_an_older_interpreter_knows(tmp_path):
    plain, grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 6, 1, groups=3)
    dilated = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, dilation=2, padding=2, groups=4))
    model = Branches(plain, nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2)), dilated).eval()
    path = written(model, tmp_path)
    assert versions(path) == {("CONV_2D", 1), ("CONV_2D", 6), ("DEPTHWISE_CONV_2D", 2)}
    assert ("DEQUANTIZE", 3) in versions(written(model, tmp_path, "fp16"))
    x = np.random.default_rng(0).random((8, 3, 32, 32), np.float32)
    whole = written(Branches(nn.Sequential(plain, nn.LeakyReLU(0.1)), grouped).eval(), tmp_path, "int8", x)
    assert versions(whole) == {("QUANTIZE", 1), ("CONV_2D", 3), ("LEAKY_RELU", 1), ("DEPTHWISE_CONV_2D", 3)}


class Maps(nn.Module):
    """Both ways of each [reorg], and a weighted sum."""

    def __init__(self):
        super().__init__()
        self.io = Branches(*[nn.Identity()] * 5, size=(16, 24)).io
        self.wide = nn.Conv2d(3, 8, 1)
        self.reorgs = nn.ModuleList(
            Reorg(2, cubic, reverse) for cubic in (False, True) for reverse in (False, True)
        )
        self.sum = WeightedShortcut(2, 8, True, "softmax", "leaky")

    def forward(self, x):
        wide = self.wide(x)
        return [*(reorg(wide) for reorg in self.reorgs), self.sum(wide, wide.relu())]


def test_reorg_and_weighted_sums(tmp_path):
    torch.manual_seed(0)
    model = Maps().eval()
    x = np.random.default_rng(0).normal(0, 3, (1, 3, 24, 16)).astype(np.float32)
    with torch.inference_mode():
        wanted = [out.numpy() for out in model(torch.from_numpy(x))]
    for a, b in zip(wanted, LiteRtModel(written(model, tmp_path), model.io).predict(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Softsign(), "as layers.0 .Softsign. uses it is not written for LiteRT here: export .* ONNX"),
        (nn.Upsample(scale_factor=2.0, mode="bilinear"), "upsample_bilinear2d as layers.0"),
        (nn.AdaptiveAvgPool2d(2), "adaptive_avg_pool2d as layers.0"),
        (nn.Identity(), "output 0 of the network is another output or its input"),
    ],
)
def test_an_operator_that_is_not_written(layer, message, tmp_path):
    with pytest.raises(InputError, match=message):
        written(Branches(layer).eval(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["yoloface-500k-v2", "yoloface-50k", "nano-voc"])
def test_layers_are_compared(name, trained, tmp_path):
    model = trained(name).eval()
    found = layer_parity(model, LiteRtModel(written(model, tmp_path), model.io), probe_input(model.io))
    assert len(found.layers) == len(model.layer_outputs(probe_input(model.io)))
    assert found.first_divergence(1e-4) is None


@pytest.fixture(scope="module")
def face(pictures, tmp_path_factory):
    """Folder with the LiteRT formats of a face detector, and the detector."""
    folder = tmp_path_factory.mktemp("litert")
    model = create_model("yoloface-500k-v2", "published").eval()
    (folder / "pictures").mkdir()
    for i in range(12):
        save_image(folder / "pictures" / f"{i}.png", np.roll(pictures["astronaut"], 7 * i, 1))
    export_model(
        model,
        folder / "net",
        FORMATS,
        calibration=folder / "pictures",
        strict=True,
    )
    return model, folder / "net"


def test_smaller_files(face, pictures):
    model, folder = face
    sizes = {fmt: Exported.read(folder).bytes(fmt) for fmt in FORMATS}
    assert sizes["litert-fp16"] < 0.6 * sizes["litert"]
    assert sizes["litert-int8"] < 0.45 * sizes["litert"]
    x = probe_input(model.io)
    difference, largest = output_difference(model.predict(x), open_export(folder, "litert-fp16").predict(x))
    assert 1e-7 < difference < 0.01 * largest


def test_pixels_go_in_as_they_are(face):
    """uint8 in, with the scale and the zero point that spec.json has; int8 out."""
    model, folder = face
    path = folder / "model-int8.tflite"
    interpreter = open_interpreter(path)
    (entry,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    told = json.loads((folder / "spec.json").read_text())["formats"]["litert-int8"]["tensors"]
    assert entry["dtype"] == np.uint8
    assert told["images"] == {"dtype": "uint8", "scale": pytest.approx(model.io.scale), "zero_point": 0}
    assert {each["name"] for each in outputs} | {"images"} == set(told)
    for each in outputs:
        assert told[each["name"]]["dtype"] == "int8"
        assert (told[each["name"]]["scale"], told[each["name"]]["zero_point"]) == pytest.approx(
            each["quantization"]
        )
    pixels = np.random.default_rng(0).integers(0, 256, (1, 288, 352, 3), np.uint8)
    interpreter.set_tensor(entry["index"], pixels)
    interpreter.invoke()
    x = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - np.float32(model.io.mean)) * np.float32(
        model.io.scale
    )
    for raw, found in zip(
        sorted(outputs, key=lambda each: each["name"]),
        open_export(folder, "litert-int8").predict(x),
        strict=True,
    ):
        scale, zero = raw["quantization"]
        wanted = (interpreter.get_tensor(raw["index"]).astype(np.float32) - zero) * np.float32(scale)
        np.testing.assert_array_equal(wanted.transpose(0, 3, 1, 2), found)


def test_whole_numbers_throughout(face):
    _, folder = face
    made = content(folder / "model-int8.tflite")
    (graph,) = made.subgraphs
    types = schema().TensorType
    assert {tensor.type for tensor in graph.tensors} <= {types.INT8, types.UINT8, types.INT32}


def test_ranges():
    counts = np.zeros(2048, np.int64)
    counts[:1024], counts[2047] = 1000, 1  # uniform in 0..5, and one value at 10
    stat = Statistics(0.0, 10.0, np.ones(1), np.ones(1), counts)
    assert limits(stat, "minmax") == (0, 10)
    assert limits(stat, "percentile")[1] == pytest.approx(5, abs=0.01)
    assert 5 <= limits(stat, "mse")[1] < 10
    assert limits(Statistics(2.0, 2.0, np.ones(1), np.ones(1)), "mse") == (0, 2)


def test_a_network_of_a_cfg_in_whole_numbers(tmp_path):
    """SE, leaky ReLU and a pooling that is padded."""
    layers = conv(8, stride=2, batch_normalize=0) + "[maxpool]\nsize=3\nstride=2\npadding=1\n" + conv(16)
    (tmp_path / "a.cfg").write_text(net(64, 64) + layers + output(16) + plain_head(3))
    torch.manual_seed(0)
    model = load_darknet(tmp_path / "a.cfg").eval()
    x = np.random.default_rng(0).random((8, 3, 64, 64), np.float32)
    opened = LiteRtModel(written(model, tmp_path, "int8", x), model.io)
    difference, largest = output_difference(model.predict(x), opened.predict(x))
    assert difference < 0.05 * max(1, largest)


def test_bad_input(tmp_path):
    model = create_model("yoloface-100k").eval()
    path = written(model, tmp_path)
    opened = LiteRtModel(path, model.io)
    with pytest.raises(InputError, match="model-fp32.tflite takes 112x112, not 96x128: export it again"):
        opened.predict(np.zeros((1, 3, 128, 96), np.float32))
    with pytest.raises(InputError, match="there is no .*other.tflite"):
        LiteRtModel(tmp_path / "other.tflite", model.io)
    with pytest.raises(InputError, match="is no export of this network"):
        LiteRtModel(path, create_model("yoloface-50k").io)
    path.write_bytes(b"TFL3" + bytes(100))
    with pytest.raises(InputError, match="LiteRT cannot open"):
        LiteRtModel(path, model.io)
