"""ONNX: opset, batch and simplification; detections in the file, equal to toolkit.detect's; int8 close to
float32."""

import json

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from tests.cfgs import SPLIT, conv, net, output, plain_head
from toolkit.boxes import nms
from toolkit.cli import app
from toolkit.export.onnx import (
    EndToEndModel,
    OnnxModel,
    OnnxSettings,
    export,
    export_end2end,
    export_int8,
)
from toolkit.export.openvino import OpenVinoModel, load_openvino
from toolkit.export.parity import probe_input
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
from toolkit.models.darknet.network import load_darknet
from toolkit.models.decode import Boxes, decode
from toolkit.models.io import HeadIO, ModelIO
from toolkit.models.network import fold
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def small(trained, tmp_path_factory):
    """yoloface-50k and its model.onnx."""
    model = trained("yoloface-50k").eval()
    (source,) = export(fold(model), tmp_path_factory.mktemp("onnx"), model.io.input_size)
    return model, source


def assert_same(wanted: Boxes, found: Boxes, atol: float) -> None:
    """Rows of nearly the same score may change places."""
    assert len(wanted.scores) == len(found.scores)
    np.testing.assert_allclose(wanted.scores, found.scores, atol=1e-5)
    for box, score, label in zip(wanted.boxes, wanted.scores, wanted.class_ids, strict=True):
        near = (np.abs(found.scores - score) < 1e-5) & (found.class_ids == label)
        assert np.abs(found.boxes[near] - box).max(1).min() < atol


# What older opsets say otherwise or not at all: Mish, parts of a Split, a Resize, means over a feature map.
CSP = (
    net()
    + conv(16, stride=2, activation="mish", batch_normalize=0)
    + SPLIT
    + conv(16, stride=2, activation="swish", batch_normalize=0)
    + "[avgpool]\n"
    + output(16, "logistic")
    + "[scale_channels]\nfrom=-3\n[upsample]\nstride=2\n[route]\nlayers=-1,0\n"
    + output(12)
    + plain_head(1, "8,8, 24,24")
)


@pytest.fixture(scope="module")
def csp(tmp_path_factory):
    """A network from a cfg, with random weights."""
    path = tmp_path_factory.mktemp("csp") / "csp.cfg"
    path.write_text(CSP)
    torch.manual_seed(0)
    return load_darknet(path).eval()


def opset_of(path) -> int:
    """The opset of a file, which says only one, and whose operators are all known in it."""
    proto = onnx.load(str(path))
    onnx.checker.check_model(proto, full_check=True)
    (opset,) = proto.opset_import
    return opset.version


def assert_close(wanted, found) -> None:
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(a).max()))


@pytest.mark.parametrize(
    ("name", "opset"),
    [("csp", 13), ("csp", 17), ("csp", 18), ("csp", 20), ("landmark106", 13), ("fastest-v2", 13)],
)
def test_opset(name, opset, csp, trained, tmp_path):
    model = csp if name == "csp" else trained(name).eval()
    (path,) = export(fold(model), tmp_path, model.io.input_size, OnnxSettings(opset))
    assert opset_of(path) == opset
    x = np.random.default_rng(0).random((3, 3, *model.io.input_size[::-1]), np.float32)
    assert_close(model.predict(x), OnnxModel(path, model.io).predict(x))


def test_default_opset_and_what_older_ones_lack(csp, tmp_path):
    """17 in a file version that onnxruntime of 2023 reads, and Mish spelled out."""
    (path,) = export(fold(csp), tmp_path, csp.io.input_size)
    proto = onnx.load(str(path))
    assert (opset_of(path), proto.ir_version) == (17, 8)
    operators = {node.op_type for node in proto.graph.node}
    assert {"Softplus", "Tanh", "Split", "GlobalAveragePool"} <= operators
    assert not {"Mish", "ReduceMean"} & operators
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    (path,) = export(fold(csp), tmp_path, csp.io.input_size, OnnxSettings(18))
    assert "Mish" in {node.op_type for node in onnx.load(str(path)).graph.node}


class _Odd(torch.nn.Module):
    """A network that ends in an operator of a test's choice."""

    io = ModelIO((32, 32), ("a",), (HeadIO(8, ((10.0, 14.0),)),), 8)

    def __init__(self, last):
        super().__init__()
        self.conv, self.last = torch.nn.Conv2d(3, 6, 8, 8), last

    def forward(self, x):
        return [self.last(self.conv(x))]


def _resize_with_antialias(x):
    return torch.nn.functional.interpolate(x, size=(3, 3), mode="bilinear", antialias=True)


@pytest.mark.parametrize(
    ("last", "opset", "reason"),
    [(torch.tril, 13, "no Trilu"), (_resize_with_antialias, 17, "no Resize with antialias = 1")],
)
def test_a_network_that_an_opset_cannot_say(last, opset, reason, tmp_path):
    (path,) = export(_Odd(last), tmp_path, (32, 32), OnnxSettings(18))
    path.unlink()
    with pytest.raises(InputError, match=f"opset {opset} has {reason}.*choose 18"):
        export(_Odd(last), tmp_path, (32, 32), OnnxSettings(opset))
    assert not list(tmp_path.iterdir())


def test_a_mean_that_is_no_pooling_keeps_its_axes(tmp_path):
    model = _Odd(lambda x: x.mean((1, 3), keepdim=True))
    (path,) = export(model, tmp_path, (32, 32))
    operators = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert "ReduceMean" in operators
    x = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    with torch.inference_mode():
        (wanted,) = model(torch.from_numpy(x))
    assert_close([wanted.numpy()], OnnxModel(path, model.io).predict(x))


@pytest.mark.parametrize("batch", [1, 4, None])
@pytest.mark.parametrize("name", ["yoloface-50k", "landmark106"])
def test_batch(name, batch, trained, tmp_path):
    """Any number of pictures goes through a file whose batch is fixed, in both engines."""
    model = trained(name).eval()
    (path,) = export(fold(model), tmp_path, model.io.input_size, OnnxSettings(batch=batch))
    side = onnx.load(str(path)).graph.input[0].type.tensor_type.shape.dim[0]
    assert side.dim_value == (batch or 0)
    x = np.random.default_rng(0).random((6, 3, *model.io.input_size[::-1]), np.float32)
    wanted = model.predict(x)
    for opened in (OnnxModel(path, model.io, 1), OpenVinoModel(path, model.io, 1)):
        assert opened.batch == batch
        assert_close(wanted, opened.predict(x))
        for count in (0, 1):
            few = [maps[:count] for maps in wanted]
            assert [maps.shape for maps in opened.predict(x[:count])] == [maps.shape for maps in few]
        assert_close(few, opened.predict(x[:1]))
    assert len(OnnxModel(path, model.io).layer_outputs(x[:1])[0]) == 1


def test_simplify(csp, tmp_path):
    """Fewer or as many operators, the same outputs, names and batch; conf and iou stay inputs."""
    size = csp.io.input_size
    (plain,) = export(fold(csp), tmp_path, size)
    before = onnx.load(str(plain)).graph
    (path,) = export(fold(csp), tmp_path, size, OnnxSettings(simplify=True))
    after = onnx.load(str(path)).graph
    assert opset_of(path) == 17
    assert 0 < len(after.node) <= len(before.node)
    assert [value.name for value in (*after.input, *after.output)] == ["images", "map0"]
    assert after.input[0].type.tensor_type.shape.dim[0].dim_param
    x = np.random.default_rng(0).random((2, 3, *size[::-1]), np.float32)
    assert_close(csp.predict(x), OnnxModel(path, csp.io).predict(x))
    (path,) = export_end2end(fold(csp), tmp_path, size, settings=OnnxSettings(simplify=True))
    assert [value.name for value in onnx.load(str(path)).graph.input] == ["images", "conf", "iou"]


@pytest.mark.parametrize("settings", [OnnxSettings(13, 1), OnnxSettings(17, 4, True), OnnxSettings(20)])
def test_end2end_and_int8_follow_the_settings(settings, trained, tmp_path, pictures):
    model = trained("yoloface-50k").eval()
    size = model.io.input_size
    (path,) = export_end2end(fold(model), tmp_path, size, settings=settings)
    assert opset_of(path) == settings.opset
    images = list(pictures.values())
    both = run(model, images, DetectSettings()), run(EndToEndModel(path, model.io), images, DetectSettings())
    for image, wanted, found in zip(images, *both, strict=True):
        assert_same(wanted, found, 1e-5 * max(image.shape))
    (source,) = export(fold(model), tmp_path, size, settings)
    x = np.stack([preprocess(image, model.io)[0] for image in images])
    (path,) = export_int8(source, tmp_path, x)
    for a, b in zip(model.predict(x), OnnxModel(path, model.io).predict(x), strict=True):
        assert 1e-4 < np.sqrt(((a - b) ** 2).mean() / (a**2).mean()) < 0.2


@pytest.mark.parametrize("name", ["fastest-v2", "landmark106", "csp"])
def test_opencv_reads_it(name, csp, trained, tmp_path):
    model = csp if name == "csp" else trained(name).eval()
    (path,) = export(fold(model), tmp_path, model.io.input_size)
    network = cv2.dnn.readNetFromONNX(str(path))
    x = probe_input(model.io)
    network.setInput(x)
    assert_close(model.predict(x), network.forward(network.getUnconnectedOutLayersNames()))


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"opset": 5}, "opset 13 to 26, found 5"),
        ({"opset": 99}, "opset 13 to 26, found 99"),
        ({"batch": 0}, "at least 1 picture, found 0"),
        ({"batch": -1}, "at least 1 picture, found -1"),
    ],
)
def test_settings_out_of_range(numbers, reason):
    with pytest.raises(InputError, match=reason):
        OnnxSettings(**numbers)


def test_the_command_passes_settings_on(tmp_path):
    """MNN takes any batch, whatever is asked of the ONNX files."""
    output = tmp_path / "net"
    command = ["export", "--model", "yoloface-50k", "--to", "onnx,onnx-end2end,mnn", "--output", str(output)]
    run = CliRunner().invoke(app, [*command, "--opset", "13", "--batch", "4", "--simplify", "--json"])
    assert run.exit_code == 0, run.output
    parity = json.loads((output / "parity.json").read_text())
    for fmt in ("onnx", "onnx-end2end"):
        assert {"opset": 13, "batch": 4, "simplified": True}.items() <= parity[fmt].items()
    assert opset_of(output / "model.onnx") == opset_of(output / "model-end2end.onnx") == 13
    assert parity["mnn"]["max_difference"] <= parity["mnn"]["tolerance"]


@pytest.mark.parametrize("name", ["yoloface-500k-v2", "nano-coco", "yoloface-50k", "fastest-v2"])
def test_end2end_detects_like_torch(name, trained, tmp_path, pictures):
    """One class and eighty, one head to three, with scale_x_y and without."""
    model = trained(name).eval()
    (path,) = export_end2end(fold(model), tmp_path, model.io.input_size)
    end2end = EndToEndModel(path, model.io, 1)
    count = 0
    images = list(pictures.values())
    for settings in (
        DetectSettings(),
        DetectSettings(conf=0.05, iou=0.3),
        DetectSettings(fit="letterbox", clip=False),
    ):
        both = run(model, images, settings), run(end2end, images, settings)
        for image, wanted, found in zip(images, *both, strict=True):
            # pixels of pictures up to 700 wide: 1e-5 of the side is float32's own precision here
            assert_same(wanted, found, 1e-5 * max(image.shape))
            count += len(wanted.scores)
    assert count >= 5


def dense_head(new_coords: bool) -> torch.nn.Module:
    """A single convolution that scatters overlapping boxes: two anchors, three classes."""

    class Maps(torch.nn.Module):
        io = ModelIO(
            (64, 96),
            ("a", "b", "c"),
            (HeadIO(8, ((10.0, 14.0), (30.0, 20.0)), 1.2, new_coords),),
            8,
        )

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 16, 8, 8)

        def forward(self, x):
            raw = self.conv(x)
            return [raw.sigmoid() if new_coords else raw]

        def predict(self, x):
            with torch.inference_mode():
                return [m.numpy() for m in self(torch.from_numpy(x))]

    torch.manual_seed(0)
    return Maps().eval()


@pytest.mark.parametrize("new_coords", [False, True])
def test_end2end_in_onnxruntime_and_openvino(new_coords, tmp_path):
    """Many overlapping boxes in a batch of three; both engines with the thresholds in the file."""
    model = dense_head(new_coords)
    (path,) = export_end2end(model, tmp_path, model.io.input_size, conf=0.3, iou=0.4)
    x = np.random.default_rng(1).random((3, 3, 96, 64), np.float32)
    wanted = []
    for found in decode(model.predict(x), model.io, 0.3):
        keep = nms(found.boxes_norm, found.scores, found.class_ids, 0.4)
        assert 20 < len(keep) < len(found.scores)
        wanted.append(Boxes(found.boxes_norm[keep], found.scores[keep], found.class_ids[keep]))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    openvino = load_openvino().Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers = openvino(x)
    for outputs in (
        session.run(None, {"images": x}),
        [np.array(answers[each]) for each in openvino.outputs],
    ):
        boxes, scores, labels, batch_index = outputs
        assert (boxes.dtype, labels.dtype, batch_index.dtype) == (np.float32, np.int64, np.int64)
        assert (np.diff(scores) <= 0).all()
        for i, picture in enumerate(wanted):
            mine = batch_index == i
            assert_same(picture, Boxes(boxes[mine], scores[mine], labels[mine]), 1e-5)
    for picture, found in zip(
        wanted, EndToEndModel(path, model.io).find(x, DetectSettings(conf=0.3, iou=0.4)), strict=True
    ):
        assert_same(picture, found, 1e-5)
    nothing = EndToEndModel(path, model.io).find(x, DetectSettings(conf=1.0))
    assert [len(found.scores) for found in nothing] == [0, 0, 0]


def test_boxes_beyond_all_numbers_are_finite_at_the_end(tmp_path):
    model = dense_head(False)
    model.conv.bias.data[2:4] = 200.0
    (path,) = export_end2end(model, tmp_path, model.io.input_size, conf=0.3, iou=0.4)
    x = np.random.default_rng(1).random((1, 3, 96, 64), np.float32)
    (found,) = decode(model.predict(x), model.io, 0.3)
    keep = nms(found.boxes_norm, found.scores, found.class_ids, 0.4)
    (boxes,) = EndToEndModel(path, model.io).find(x, DetectSettings(conf=0.3, iou=0.4))
    assert np.isfinite(boxes.boxes).all()
    assert boxes.boxes.max() > 1e7
    np.testing.assert_allclose(boxes.boxes, found.boxes_norm[keep], rtol=1e-4, atol=1e-4)


def test_int8(small, tmp_path, pictures):
    model, source = small
    x = np.stack([preprocess(image, model.io)[0] for image in pictures.values()])
    (path,) = export_int8(source, tmp_path, x)
    quantised = onnx.load(str(path)).graph
    makers = {name: node for node in quantised.node for name in node.output}
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in quantised.initializer}
    convolutions = [node for node in quantised.node if node.op_type == "Conv"]
    last = [node for node in convolutions if node.output[0] in {output.name for output in quantised.output}]
    assert (len(convolutions), len(last)) == (24, 1)
    assert constants[last[0].input[1]].dtype == np.float32
    for node in convolutions:
        if node in last:
            continue
        weights, scales, zeros = makers[node.input[1]].input
        assert constants[weights].dtype == np.uint8
        assert (constants[zeros] == 128).all()
        assert np.abs(constants[weights].astype(int) - 128).max() == 127
        assert constants[scales].shape == constants[weights].shape[:1]  # one for each channel
    found = OnnxModel(path, model.io).predict(x)
    for a, b in zip(model.predict(x), found, strict=True):
        assert 1e-4 < relative_error(a, b) < 0.2
    for a, b in zip(by_its_nodes(path, x), found, strict=True):
        assert relative_error(a, b) < 0.02  # .4 with int8 weights on a processor without VNNI


def relative_error(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(np.sqrt(((wanted - found) ** 2).mean() / (wanted**2).mean()))


def by_its_nodes(path, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of a QDQ file as it is written: in float32, rounded at its nodes, on any processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def test_int8_ranges_come_from_the_samples(small, tmp_path):
    """Calibrated on black, a network cannot tell brighter pictures apart."""
    model, source = small
    x = probe_input(model.io)
    errors = []
    for samples in (x, np.zeros_like(x)):
        (path,) = export_int8(source, tmp_path, samples)
        (wanted,), (found,) = model.predict(x), OnnxModel(path, model.io).predict(x)
        errors.append(relative_error(wanted, found))
    assert errors[1] > 3 * errors[0]


def test_bad_input(small, tmp_path):
    model, source = small
    size = model.io.input_size
    for samples in (np.zeros((0, 3, 56, 56), np.float32), np.zeros((4, 3, 64, 56), np.float32)):
        with pytest.raises(InputError, match=r"network inputs \(N, 3, 56, 56\), found"):
            export_int8(source, tmp_path, samples)
    with pytest.raises(InputError, match="conf .* between 0 and 1.* 25"):
        export_end2end(fold(model), tmp_path, size, conf=25)
    with pytest.raises(InputError, match="gives map0: it is not a model-end2end.onnx"):
        EndToEndModel(source, model.io)
    (path,) = export_end2end(fold(model), tmp_path, size)
    with pytest.raises(InputError, match="has plain suppression inside: 'diou' cannot be chosen"):
        next(run(EndToEndModel(path, model.io), [np.zeros((9, 9, 3), np.uint8)], DetectSettings(nms="diou")))
    with pytest.raises(InputError, match="takes 56x56, not 64x56"):
        EndToEndModel(path, model.io).find(np.zeros((1, 3, 56, 64), np.float32), DetectSettings())
    with pytest.raises(InputError, match="expected one input and 1 outputs"):
        OnnxModel(path, model.io)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(source.read_bytes()[:1000])
    for opener in (OnnxModel, EndToEndModel):
        with pytest.raises(InputError, match="onnxruntime cannot open .*damaged.onnx"):
            opener(damaged, model.io)
    with pytest.raises(InputError, match="onnxruntime cannot open .*damaged.onnx"):
        export_int8(damaged, tmp_path, probe_input(model.io))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged.onnx", "model-end2end.onnx"]
