"""ONNX beyond raw maps: detections in the file, equal to toolkit.detect's; int8 close to float32."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from toolkit.boxes import nms
from toolkit.export.onnx import EndToEndModel, OnnxModel, export, export_end2end, export_int8
from toolkit.export.openvino import load_openvino
from toolkit.export.parity import probe_input
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
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
        [np.array(answers[output]) for output in openvino.outputs],
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
    assert len(convolutions) == 24
    for node in convolutions:
        weights, scales, *_ = makers[node.input[1]].input
        assert constants[weights].dtype == np.int8
        assert constants[scales].shape == constants[weights].shape[:1]  # one for each channel
    for a, b in zip(model.predict(x), OnnxModel(path, model.io).predict(x), strict=True):
        error = np.sqrt(((a - b) ** 2).mean() / (a**2).mean())
        assert 1e-4 < error < 0.2


def test_int8_ranges_come_from_the_samples(small, tmp_path):
    """Calibrated on black, a network cannot tell brighter pictures apart."""
    model, source = small
    x = probe_input(model.io)
    errors = []
    for samples in (x, np.zeros_like(x)):
        (path,) = export_int8(source, tmp_path, samples)
        (wanted,), (found,) = model.predict(x), OnnxModel(path, model.io).predict(x)
        errors.append(np.sqrt(((wanted - found) ** 2).mean() / (wanted**2).mean()))
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
