"""ONNX, batch dimension free, one file: raw head maps; detections (decoding and suppression inside); int8."""

from __future__ import annotations

import ast
import contextlib
import io as textio
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.inference.backend import DetectSettings
from toolkit.models.decode import Boxes, Suppression, box_numbers, confidences, decode_boxes
from toolkit.models.detector import Detector
from toolkit.models.io import NetworkIO
from toolkit.models.network import FromMaps, TorchNetwork
from toolkit.runtime import InputError, require, whole_file

INPUT = "images"
# What follows `boxes_per_cell` (N, K, 4) and `scores_per_class` (N, C, K) in model-end2end.onnx. `conf` and
# `iou` are inputs with a default value. NonMaxSuppression works within a class of a picture and drops what
# overlaps by strictly more than `iou`; its limit per class is the number of cells, so there is none.
SUPPRESSION = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
suppression (float[batch, {cells}, 4] boxes_per_cell, float[batch, {classes}, {cells}] scores_per_class,
             float conf = {{{conf}}}, float iou = {{{iou}}})
    => (float[found, 4] boxes, float[found] scores, int64[found] labels, int64[found] batch_index)
<int64 limit = {{{cells}}}, int64[1] ends = {{-1}}, int64[2] picture_and_cell = {{0, 2}}, int64 zero = {{0}},
 int64 one = {{1}}>
{{
    kept = NonMaxSuppression(boxes_per_cell, scores_per_class, limit, iou, conf)
    kept_scores = GatherND(scores_per_class, kept)
    count = Shape(kept_scores)
    scores, order = TopK <axis = 0, largest = 1, sorted = 1> (kept_scores, count)
    rows = Gather <axis = 0> (kept, order)
    batch_index = Gather <axis = 1> (rows, zero)
    labels = Gather <axis = 1> (rows, one)
    cell = Gather <axis = 1> (rows, picture_and_cell)
    boxes = GatherND(boxes_per_cell, cell)
}}
"""


def export(model: TorchNetwork, folder: Path, size: tuple[int, int]) -> list[Path]:
    """Write `model.onnx` into `folder` for inputs of `size` (w, h); the batch is free. -> [file]."""
    path = folder / "model.onnx"
    outputs = [f"map{i}" for i in range(model.io.outputs)]
    path.write_bytes(_to_onnx(model, model.io.channels, size, outputs).SerializeToString())
    return [path]


def export_end2end(
    model: Detector, folder: Path, size: tuple[int, int], conf: float = 0.25, iou: float = 0.45
) -> list[Path]:
    """Write `model-end2end.onnx` into `folder`: pictures of `size` (w, h) in, detections out. -> [file].

    Inputs: `images` (N, 3, H, W), and optionally `conf` and `iou`, scalars whose defaults are given here
    (onnxruntime takes others at each call, OpenVINO keeps the defaults). Outputs, by falling score:
    `boxes` (K, 4) xyxy relative to the network input (0..1, unclipped), `scores` (K,) objectness x class
    probability, `labels` (K,) int64 from 0, `batch_index` (K,) int64, the picture. As `decode` and plain
    suppression (`toolkit.boxes.nms`) have it, without a limit on the number of boxes.
    """
    onnx = require("onnx", "export")
    DetectSettings(conf=conf, iou=iou)  # checks their ranges
    proto = _to_onnx(Decoded(model).eval(), model.io.channels, size, ["boxes_per_cell", "scores_per_class"])
    cells = sum(
        len(head.anchors) * (size[0] // head.stride) * (size[1] // head.stride) for head in model.io.heads
    )
    text = SUPPRESSION.format(
        ir_version=proto.ir_version,
        opset=proto.opset_import[0].version,
        cells=cells,
        classes=len(model.io.classes),
        conf=float(conf),
        iou=float(iou),
    )
    names = [output.name for output in proto.graph.output]
    merged = onnx.compose.merge_models(proto, onnx.parser.parse_model(text), [(name, name) for name in names])
    onnx.checker.check_model(merged, full_check=True)
    path = folder / "model-end2end.onnx"
    path.write_bytes(merged.SerializeToString())
    return [path]


class Decoded(nn.Module):
    """A detector with `toolkit.models.decode.decode` behind it, dense and in torch, for tracing."""

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> xyxy relative to the input (N, K, 4) and scores (N, C, K) of all K anchors."""
        boxes, scores = [], []
        for raw, head in zip(self.model(x), self.model.io.heads, strict=True):
            h, w = raw.shape[2:]
            cells = raw.reshape(-1, len(head.anchors), head.values + len(self.model.io.classes), h, w)
            cells = cells.permute(0, 1, 3, 4, 2)  # (N, A, h, w, 5 + C)
            row, column = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            corner = torch.stack((column, row), -1).float()  # (h, w, 2)
            anchors = torch.from_numpy(head.relative_anchors((w, h)))[:, None, None]  # (A, 1, 1, 2)
            grid = torch.tensor([w, h], dtype=torch.float32)
            _, box = decode_boxes(box_numbers(cells, head), corner, grid, anchors, head)
            half = box[..., 2:] / 2
            boxes.append(torch.cat((box[..., :2] - half, box[..., :2] + half), -1).flatten(1, 3))
            objectness, classes = confidences(cells, head)
            scores.append((objectness[..., None] * classes).flatten(1, 3).transpose(1, 2))
        return torch.cat(boxes, 1), torch.cat(scores, 2)


def export_int8(source: Path, folder: Path, samples: NDArray[np.float32]) -> list[Path]:
    """Write `model-int8.onnx` into `folder` from a `model.onnx` of this toolkit. -> [file].

    QDQ nodes: weights int8 per channel, activations uint8, whose ranges are the smallest and largest values
    met over `samples` (N, 3, H, W), network inputs at the exported size. Processors without VNNI add in 16
    bits, where sums of uint8 x int8 may saturate.
    """
    quantization = require("onnxruntime.quantization", "export")
    shape_inference = require("onnxruntime.quantization.shape_inference", "export")
    graph_input = _session(source, 1).get_inputs()[0]
    if not len(samples) or samples.shape[1:] != tuple(graph_input.shape[1:]):
        shape = ", ".join(map(str, graph_input.shape[1:]))
        raise InputError(f"int8 is calibrated on network inputs (N, {shape}), found {samples.shape}")
    path = folder / "model-int8.onnx"
    with tempfile.TemporaryDirectory() as work, whole_file(path) as temporary:
        prepared = Path(work) / "model.onnx"
        shape_inference.quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            temporary,
            _Samples(samples, graph_input.name),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    return [path]


class _Samples:
    """What onnxruntime's calibration reads: one input at a time, None at the end."""

    def __init__(self, samples: NDArray[np.float32], name: str):
        self.rows = iter(samples)
        self.name = name

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        chw = next(self.rows, None)
        return None if chw is None else {self.name: np.ascontiguousarray(chw[None])}


def _to_onnx(model: nn.Module, channels: int, size: tuple[int, int], outputs: Sequence[str]) -> Any:
    """A ModelProto for inputs (N, channels, h, w) of `size` (w, h)."""
    require("onnxscript", "export")
    x = torch.zeros(2, channels, size[1], size[0])
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of a missing torchvision, which nothing here needs
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(textio.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (x,),
                dynamo=True,
                external_data=False,
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    proto = program.model_proto
    _name_by_module(proto)
    return proto


def _name_by_module(proto: Any) -> None:
    """Name nodes after the torch modules they come from, and drop the exporter's notes (which hold source
    paths of this machine and can outweigh the weights of a small network)."""
    seen: dict[str, int] = {}
    for node in proto.graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = [s for s in ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]")) if s]
        name = f"{scopes[-2] if len(scopes) > 1 else 'graph'}.{node.op_type}"
        seen[name] = seen.get(name, 0) + 1
        node.name = name if seen[name] == 1 else f"{name}.{seen[name]}"
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        if hasattr(value, "metadata_props"):
            del value.metadata_props[:]
        value.doc_string = ""
    del proto.graph.value_info[:], proto.graph.metadata_props[:], proto.metadata_props[:]


def _session(path: Path, threads: int) -> Any:
    runtime = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"onnxruntime cannot open {path}: {str(error).splitlines()[0]}") from None


def check_shape(path: Path, shape: tuple[int, ...], x: NDArray[np.float32]) -> None:
    """Raise InputError where the input (N, 3, H, W) has not the sides (h, w) that the file was made for."""
    if x.shape[2:] != shape:
        raise InputError(
            f"{path.name} takes {shape[1]}x{shape[0]}, not {x.shape[3]}x{x.shape[2]}: "
            "export it again with --size"
        )


class OnnxModel(FromMaps):
    """An ONNX file in onnxruntime: `.io` and `.predict` as every backend has them."""

    def __init__(self, path: Path, io: NetworkIO, threads: int = 0):
        self.path, self.io = path, io
        self.session = _session(path, threads)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(self.session.get_outputs()) != io.outputs:
            raise InputError(
                f"{path} is not an export of this toolkit: expected one input and {io.outputs} outputs"
            )
        self.input = inputs[0].name
        self.shape = tuple(inputs[0].shape[2:])

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W) at the exported size -> raw head maps."""
        check_shape(self.path, self.shape, x)
        result: list[NDArray[np.float32]] = self.session.run(None, {self.input: np.ascontiguousarray(x)})
        return result

    def layer_outputs(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What every convolution gives after its activation, in the order in which they run."""
        onnx = require("onnx", "export")
        runtime = require("onnxruntime", "export")
        graph_model = onnx.load(str(self.path))
        graph = graph_model.graph
        activations = {"Relu", "LeakyRelu", "PRelu", "Sigmoid", "Clip", "HardSwish", "Mish"}
        names = []
        for node in graph.node:
            if node.op_type == "Conv":
                follow = {n.op_type: n for n in graph.node if node.output[0] in n.input}
                if follow.keys() == {"Sigmoid", "Mul"}:  # swish: the product of both
                    names.append(follow["Mul"].output[0])
                elif len(follow) == 1 and activations & follow.keys():
                    names.append(next(iter(follow.values())).output[0])
                else:
                    names.append(node.output[0])
        have = {output.name for output in graph.output}
        graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in dict.fromkeys(names)
            if name not in have
        )
        session = runtime.InferenceSession(
            graph_model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        result: list[NDArray[np.float32]] = session.run(names, {self.input: x})
        return result


class EndToEndModel(FromMaps):
    """A `model-end2end.onnx` in onnxruntime, which `toolkit.detect.run` takes as any other network."""

    def __init__(self, path: Path, io: NetworkIO, threads: int = 0):
        self.path, self.io = path, io
        self.session = _session(path, threads)
        self.shape = tuple(self.session.get_inputs()[0].shape[2:])
        names = [output.name for output in self.session.get_outputs()]
        if names != ["boxes", "scores", "labels", "batch_index"]:
            raise InputError(
                f"{path} gives {', '.join(names)}: it is not a model-end2end.onnx of this toolkit"
            )

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The raw maps stay inside the file: InputError."""
        raise InputError(
            f"{self.path.name} gives detections, not maps to compare: name onnx, or use toolkit parity ladder"
        )

    def find(self, x: NDArray[np.float32], settings: Suppression) -> list[Boxes]:
        """(N, 3, H, W) at the exported size -> detections of each picture, boxes relative to the input."""
        if settings.nms != "plain":
            raise InputError(f"this network has plain suppression inside: {settings.nms!r} cannot be chosen")
        check_shape(self.path, self.shape, x)
        inputs = {
            INPUT: np.ascontiguousarray(x),
            "conf": np.array(settings.conf, np.float32),
            "iou": np.array(settings.iou, np.float32),
        }
        boxes, scores, labels, batch_index = self.session.run(None, inputs)
        mine = [batch_index == i for i in range(len(x))]
        return [Boxes(boxes[rows], scores[rows], labels[rows]) for rows in mine]
