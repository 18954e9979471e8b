"""ONNX, one file each: raw head maps; detections (decoding and suppression inside); int8."""

from __future__ import annotations

import ast
import contextlib
import io as textio
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.files import temporary_folder, whole_file
from toolkit.inference.backend import DetectSettings
from toolkit.models.decode import Boxes, Suppression, box_numbers, confidences, decode_boxes
from toolkit.models.detector import Detector
from toolkit.models.io import ModelIO, NetworkIO
from toolkit.models.network import FromMaps, TorchNetwork
from toolkit.runtime import InputError, require

INPUT = "images"
OPSETS = (13, 26)  # int8 needs 13 for its scales per channel; onnxruntime 1.31 takes no more than 26
TRACED_OPSET = 18  # torch.onnx writes in this one; asked for an older one, it stays here and says so nowhere
# Operators that have changed since opset 13 in nothing that these graphs use: in types, and in attributes,
# which `_older` looks at one by one.
SAME_SINCE_13 = frozenset(
    "Add Div Identity LeakyRelu Mul PRelu Pad Pow ReduceMax ReduceMean ReduceMin Relu Reshape Resize Shape "
    "Split Sub Where".split()
)
# What follows `boxes_per_cell` (N, K, 4) and `scores_per_class` (N, C, K) in model-end2end.onnx. `conf` and
# `iou` are inputs with a default value. NonMaxSuppression works within a class of a picture and drops what
# overlaps by strictly more than `iou`; its limit per class is the number of cells, so there is none.
SUPPRESSION = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
suppression (float[{batch}, {cells}, 4] boxes_per_cell, float[{batch}, {classes}, {cells}] scores_per_class,
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


@dataclass(frozen=True)
class OnnxSettings:
    """How ONNX files are written, so that the programs that read them take them (`make takers` tries them).

    Attributes:
        opset: of the operators, 13 to 26. 17 is the highest that all programs tried take: 18 has an
            operator Mish, which RKNN's toolkit 2.5.0 and OpenVINO 2023.3 do not know; 20 is refused by
            RKNN's toolkit and by onnxruntime 1.16; TensorRT 8.6, which needs a GPU, is documented for 17.
        batch: pictures per call, from 1. None leaves it to the caller, which every program tried takes;
            OpenCV 4.5.5 still runs one picture a call where there is an [avgpool], RKNN's toolkit wants
            `inputs` and `input_size_list`, TensorRT an optimisation profile.
        simplify: runs onnxslim over the graph, which needs the extra `simplify`.

    Raises:
        InputError: a number is out of range, or onnxslim is asked for and not installed.

    >>> OnnxSettings(batch=1)
    OnnxSettings(opset=17, batch=1, simplify=False)
    """

    opset: int = 17
    batch: int | None = None
    simplify: bool = False

    def __post_init__(self) -> None:
        low, high = OPSETS
        if not low <= self.opset <= high:
            raise InputError(f"ONNX files are written in opset {low} to {high}, found {self.opset}")
        if self.batch is not None and self.batch < 1:
            raise InputError(
                f"the batch of an ONNX file is at least 1 picture, found {self.batch}: leave it out for a "
                "batch that the caller chooses"
            )
        if self.simplify:
            require("onnxslim", "simplify")

    def as_dict(self) -> dict[str, Any]:
        """What parity.json keeps."""
        return {"opset": self.opset, "batch": self.batch or "free", "simplified": self.simplify}


def export(
    model: TorchNetwork, folder: Path, size: tuple[int, int], settings: OnnxSettings = OnnxSettings()
) -> list[Path]:
    """Write `model.onnx` into `folder` for inputs of `size` (w, h). -> [file].

    >>> from tempfile import mkdtemp
    >>> from toolkit.models.zoo import create_model
    >>> model = create_model("yoloface-50k").eval()
    >>> (path,) = export(model, Path(mkdtemp()), model.io.input_size, OnnxSettings(batch=1))
    >>> path.name
    'model.onnx'
    """
    outputs = [f"map{i}" for i in range(model.io.outputs)]
    proto = _to_onnx(model, model.io.channels, size, outputs, settings)
    return [_save(proto, folder / "model.onnx")]


def export_end2end(
    model: Detector,
    folder: Path,
    size: tuple[int, int],
    conf: float = 0.25,
    iou: float = 0.45,
    settings: OnnxSettings = OnnxSettings(),
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
    names = ["boxes_per_cell", "scores_per_class"]
    proto = _to_onnx(Decoded(model).eval(), model.io.channels, size, names, settings)
    cells = sum(
        len(head.anchors) * (size[0] // head.stride) * (size[1] // head.stride) for head in model.io.heads
    )
    text = SUPPRESSION.format(
        ir_version=proto.ir_version,
        opset=settings.opset,
        batch=settings.batch or "batch",
        cells=cells,
        classes=len(model.io.classes),
        conf=float(conf),
        iou=float(iou),
    )
    merged = onnx.compose.merge_models(proto, onnx.parser.parse_model(text), [(name, name) for name in names])
    del merged.opset_import[1:]  # it keeps both
    return [_save(merged, folder / "model-end2end.onnx")]


def _save(proto: Any, path: Path) -> Path:
    onnx = require("onnx", "export")
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())
    return path


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

    QDQ nodes: weights uint8 per channel, activations uint8, whose ranges are the smallest and largest values
    met over `samples` (N, 3, H, W), network inputs at the exported size. Weights of int8 would cost points on
    processors without VNNI: onnxruntime and OpenVINO multiply uint8 by int8 there with sums that saturate at
    16 bits. The layers that give the outputs stay float32: 256 steps are too few for boxes and scores.
    """
    onnx = require("onnx", "export")
    quantization = require("onnxruntime.quantization", "export")
    shape_inference = require("onnxruntime.quantization.shape_inference", "export")
    graph_input = _session(source, 1).get_inputs()[0]
    if not len(samples) or samples.shape[1:] != tuple(graph_input.shape[1:]):
        shape = ", ".join(map(str, graph_input.shape[1:]))
        raise InputError(f"int8 is calibrated on network inputs (N, {shape}), found {samples.shape}")
    path = folder / "model-int8.onnx"
    with temporary_folder() as work, whole_file(path) as temporary:
        prepared = work / "model.onnx"
        shape_inference.quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        graph = onnx.load(str(prepared)).graph
        outputs = {output.name for output in graph.output}
        quantization.quantize_static(
            prepared,
            work / "int8.onnx",
            _Samples(samples, graph_input.name, fixed_batch(graph_input.shape[0]) or 1),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=[node.name for node in graph.node if outputs & set(node.output)],
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        quantised = onnx.load(str(work / "int8.onnx"))
        _shift_to_uint8(quantised.graph)
        _save(quantised, temporary)
    return [path]


def _shift_to_uint8(graph: Any) -> None:
    """The same weights 128 higher, and so their zero points: asked for uint8, onnxruntime would take steps in
    which the largest weight of a channel is half a step off."""
    onnx = require("onnx", "export")
    for constant in graph.initializer:
        if constant.data_type == onnx.TensorProto.INT8:
            values = onnx.numpy_helper.to_array(constant).astype(np.int16) + 128
            constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.uint8), constant.name))


class _Samples:
    """What onnxruntime's calibration reads: one batch at a time, None at the end."""

    def __init__(self, samples: NDArray[np.float32], name: str, batch: int):
        self.batches = full_batches(samples, batch)
        self.name = name

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        x, _ = next(self.batches, (None, 0))
        return None if x is None else {self.name: x}


def full_batches(x: NDArray[np.float32], batch: int | None) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Inputs (N, 3, H, W) in parts of `batch`, all at once where that is None, and how many rows of each part
    count: the last part is filled up with its own pictures. No picture at all is one part, too."""
    size = batch or max(1, len(x))
    for start in range(0, max(1, len(x)), size):
        part = x[start : start + size]
        filled = np.resize(part, (batch, *part.shape[1:])) if batch else part
        yield np.ascontiguousarray(filled, np.float32), len(part)


def by_batch(
    run: Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]],
    x: NDArray[np.float32],
    batch: int | None,
) -> list[NDArray[np.float32]]:
    """The outputs of a file whose batch may be fixed, for as many pictures as there are."""
    parts = [[output[:count] for output in run(part)] for part, count in full_batches(x, batch)]
    return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _to_onnx(
    model: nn.Module, channels: int, size: tuple[int, int], outputs: Sequence[str], settings: OnnxSettings
) -> Any:
    """A ModelProto for inputs (N, channels, h, w) of `size` (w, h)."""
    require("onnxscript", "export")
    x = torch.zeros(settings.batch or 2, channels, size[1], size[0])
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
                dynamic_shapes=None if settings.batch else ({0: torch.export.Dim("batch", min=1)},),
                opset_version=TRACED_OPSET,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    proto = program.model_proto
    _say_plainly(proto)
    _name_by_module(proto)
    proto = _in_opset(proto, settings.opset)
    return require("onnxslim", "simplify").slim(proto) if settings.simplify else proto


def _in_opset(proto: Any, opset: int) -> Any:
    """The same graph in another opset, and in the oldest file version that holds it: a reader of 2023 stops
    at version 9 whatever is inside."""
    onnx = require("onnx", "export")
    if opset < TRACED_OPSET:
        proto = _older(proto, opset)
    elif opset > TRACED_OPSET:
        proto = onnx.version_converter.convert_version(proto, opset)
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    del proto.graph.value_info[:]
    return proto


def _say_plainly(proto: Any) -> None:
    """Operators that readers look for, where torch writes others: means over the whole of a feature map as
    GlobalAveragePool (OpenCV 4.5.5 takes no ReduceMean over negative axes, OpenCV 4.7 and OpenVINO 2023.3
    none of opset 18), and a Split with the sizes of its parts, not their number, which 17 has no name for
    (pnnx crashes where neither is given)."""
    onnx = require("onnx", "export")
    constants = {constant.name: constant for constant in proto.graph.initializer}
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.value_info, *proto.graph.output)
    }
    for node in proto.graph.node:
        values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "ReduceMean" and len(node.input) == 2 and len(shapes[node.input[0]]) == 4:
            axes = {int(axis) % 4 for axis in onnx.numpy_helper.to_array(constants[node.input[1]])}
            if axes == {2, 3} and values.get("keepdims", 1):
                node.op_type = "GlobalAveragePool"
                del node.input[1:], node.attribute[:]
        elif node.op_type == "Split" and "num_outputs" in values:
            axis = values.get("axis", 0)
            sizes = np.array([shapes[name][axis] for name in node.output], np.int64)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(sizes, f"{node.output[0]}_sizes"))
            node.input.append(f"{node.output[0]}_sizes")
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("axis", axis))
    _drop_unused(proto)


def _drop_unused(proto: Any) -> None:
    used = {name for node in proto.graph.node for name in node.input}
    for constant in [constant for constant in proto.graph.initializer if constant.name not in used]:
        proto.graph.initializer.remove(constant)


def _older(proto: Any, opset: int) -> Any:
    """The graph as an opset before `TRACED_OPSET` says it. onnx's own converter has no way back for Split and
    Mish, nor from 14 for Add and Relu."""
    onnx = require("onnx", "export")
    schemas = {name: onnx.defs.get_schema(name, TRACED_OPSET) for name in _operators(proto) - SAME_SINCE_13}
    newer = {name for name, schema in schemas.items() if schema.since_version > opset}
    composed = [("", name) for name in sorted(newer) if schemas[name].has_function]
    if composed:  # Mish is a Softplus, a Tanh and a Mul
        inliner = require("onnx.inliner", "export")
        proto = inliner.inline_selected_functions(proto, composed, inline_schema_functions=True)
    missing = sorted(newer & _operators(proto))
    if missing:
        raise InputError(
            f"ONNX opset {opset} has no {missing[0]}, which this network needs: choose {TRACED_OPSET}"
        )
    constants = {constant.name: constant for constant in proto.graph.initializer}
    for node in proto.graph.node:
        attributes = onnx.defs.get_schema(node.op_type, opset).attributes
        kept = [attribute for attribute in node.attribute if attribute.name in attributes]
        # allowzero: how to read a 0 in a shape, which only an empty batch has
        for attribute in node.attribute:
            if attribute.name not in (*attributes, "allowzero"):
                _check_default(node.op_type, attribute, opset)
        if "axes" in attributes and node.op_type.startswith("Reduce") and len(node.input) == 2:
            axes = onnx.numpy_helper.to_array(constants[node.input.pop()]).tolist()
            kept.append(onnx.helper.make_attribute("axes", axes))
        del node.attribute[:]
        node.attribute.extend(kept)
    _drop_unused(proto)
    proto.opset_import[0].version = opset
    return proto


def _operators(proto: Any) -> set[str]:
    return {node.op_type for node in proto.graph.node}


def _check_default(operator: str, attribute: Any, opset: int) -> None:
    """Raise InputError where an attribute that `opset` does not know says anything but its default."""
    onnx = require("onnx", "export")
    default = onnx.defs.get_schema(operator, TRACED_OPSET).attributes[attribute.name].default_value
    value = onnx.helper.get_attribute_value(attribute)
    if value != onnx.helper.get_attribute_value(default):
        raise InputError(
            f"ONNX opset {opset} has no {operator} with {attribute.name} = {value}, which this network "
            f"needs: choose {TRACED_OPSET}"
        )


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


def fixed_batch(side: object) -> int | None:
    """What onnxruntime says of a batch: a number where it is fixed, else a name."""
    return side if isinstance(side, int) else None


def check_shape(path: Path, shape: tuple[int, ...], x: NDArray[np.float32]) -> None:
    """Raise InputError where an input (N, C, H, W) is not of the shape (C, h, w) that the file takes."""
    if x.shape[1:2] != shape[:1]:
        raise InputError(f"{path.name} takes inputs of the shape {shape}, not {x.shape[1:]}: export it again")
    if x.shape[1:] != shape:
        taken, given = ("x".join(map(str, sides[:0:-1])) for sides in (shape, x.shape[1:]))
        raise InputError(f"{path.name} takes {taken}, not {given}: export it again with --size")


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
        self.batch = fixed_batch(inputs[0].shape[0])
        self.shape = tuple(inputs[0].shape[1:])

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W) at the exported size -> raw head maps."""
        check_shape(self.path, self.shape, x)
        return by_batch(lambda part: self.session.run(None, {self.input: part}), x, self.batch)

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
                if follow.keys() in ({"Sigmoid", "Mul"}, {"Softplus", "Mul"}):  # swish, mish: their product
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
        return by_batch(lambda part: session.run(names, {self.input: part}), x, self.batch)


class EndToEndModel(FromMaps):
    """A `model-end2end.onnx` in onnxruntime, which `toolkit.detect.run` takes as any other network."""

    def __init__(self, path: Path, io: NetworkIO, threads: int = 0):
        self.path, self.io = path, io
        self.session = _session(path, threads)
        shape = self.session.get_inputs()[0].shape
        self.batch, self.shape = fixed_batch(shape[0]), tuple(shape[1:])
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
        thresholds = {"conf": np.array(settings.conf, np.float32), "iou": np.array(settings.iou, np.float32)}
        detections = []
        for part, count in full_batches(x, self.batch):
            boxes, scores, labels, batch_index = self.session.run(None, {INPUT: part, **thresholds})
            classes = len(self.io.classes) if isinstance(self.io, ModelIO) else 0
            if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
                raise InputError(
                    f"{self.path.name} gives the class {labels.max()}, and spec.json has {classes} classes: "
                    "export it again"
                )
            mine = [batch_index == i for i in range(count)]
            detections += [Boxes(boxes[rows], scores[rows], labels[rows]) for rows in mine]
        return detections
