"""Caffe: a .prototxt and a .caffemodel of stock layers alone, which OpenCV and MNN's converter read as well.

The messages are the part of BVLC's caffe.proto that is needed here; Caffe itself is not.
"""

from __future__ import annotations

import math
import operator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from toolkit.export.traced import Names, Traced, arguments_of, shape_of, unsupported
from toolkit.models.io import NetworkIO
from toolkit.models.network import FromMaps, TorchNetwork, check_exported_size
from toolkit.runtime import InputError, require

INPUT = "images"

# message -> field -> (number, type); * repeats it. Names and numbers are caffe.proto's.
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "BlobShape": {"dim": (1, "int64*")},
    "BlobProto": {"data": (5, "float*"), "shape": (7, "BlobShape")},
    "InputParameter": {"shape": (1, "BlobShape*")},
    "ConvolutionParameter": {
        "num_output": (1, "uint32"),
        "bias_term": (2, "bool"),
        "pad": (3, "uint32*"),
        "kernel_size": (4, "uint32*"),
        "group": (5, "uint32"),
        "stride": (6, "uint32*"),
    },
    "PoolingParameter": {
        "pool": (1, "PoolMethod"),
        "kernel_size": (2, "uint32"),
        "stride": (3, "uint32"),
        "pad": (4, "uint32"),
        "kernel_h": (5, "uint32"),
        "kernel_w": (6, "uint32"),
        "pad_h": (9, "uint32"),
        "pad_w": (10, "uint32"),
        "global_pooling": (12, "bool"),
    },
    "ReLUParameter": {"negative_slope": (1, "float")},
    "EltwiseParameter": {"operation": (1, "EltwiseOp")},
    "ConcatParameter": {"axis": (2, "int32")},
    "InnerProductParameter": {"num_output": (1, "uint32"), "bias_term": (2, "bool")},
    "SliceParameter": {"slice_point": (2, "uint32*"), "axis": (3, "int32")},
    "LayerParameter": {
        "name": (1, "string"),
        "type": (2, "string"),
        "bottom": (3, "string*"),
        "top": (4, "string*"),
        "blobs": (7, "BlobProto*"),
        "concat_param": (104, "ConcatParameter"),
        "convolution_param": (106, "ConvolutionParameter"),
        "eltwise_param": (110, "EltwiseParameter"),
        "inner_product_param": (117, "InnerProductParameter"),
        "pooling_param": (121, "PoolingParameter"),
        "relu_param": (123, "ReLUParameter"),
        "slice_param": (126, "SliceParameter"),
        "input_param": (143, "InputParameter"),
    },
    "NetParameter": {"name": (1, "string"), "layer": (100, "LayerParameter*")},
}
ENUMS = {"PoolMethod": ("MAX", "AVE"), "EltwiseOp": ("PROD", "SUM")}

aten = torch.ops.aten


@cache
def net_parameter() -> Any:
    """The class of caffe.NetParameter, in a pool of its own: a program that has Caffe keeps its own."""
    descriptors = require("google.protobuf.descriptor_pb2", "export")
    field = descriptors.FieldDescriptorProto
    file = descriptors.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            base = kind.rstrip("*")
            entry = message.field.add(name=field_name, number=number)
            entry.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            if base in MESSAGES or base in ENUMS:
                entry.type = field.TYPE_MESSAGE if base in MESSAGES else field.TYPE_ENUM
                entry.type_name = f".caffe.{base}"
            else:
                entry.type = field.Type.Value(f"TYPE_{base.upper()}")
                entry.options.packed = kind in ("int64*", "float*")  # BlobShape.dim and BlobProto.data
    pool = require("google.protobuf.descriptor_pool", "export").DescriptorPool()
    pool.Add(file)
    factory = require("google.protobuf.message_factory", "export")
    return factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def export(model: TorchNetwork, folder: Path, size: tuple[int, int]) -> list[Path]:
    """Write `model.prototxt` and `model.caffemodel` into `folder` for one picture of `size` (w, h).

    `model` has its batch norms folded. The input blob is `images`, the outputs are `map0`, `map1`, ...,
    coarsest first; layers and blobs are named after the torch modules. Raises InputError where the network
    uses an operator that is not written here. -> the files.
    """
    net = build(model, size)
    weights, text = folder / "model.caffemodel", folder / "model.prototxt"
    weights.write_bytes(net.SerializeToString())
    for layer in net.layer:
        layer.ClearField("blobs")
    text.write_text(require("google.protobuf.text_format", "export").MessageToString(net))
    return [text, weights]


def build(model: TorchNetwork, size: tuple[int, int]) -> Any:
    """The caffe.NetParameter of the model, with its weights, from the graph that torch.export traces."""
    traced = Traced(model, size)
    net = net_parameter()(name=type(model).__name__)
    shape = list(shape_of(traced.entry))
    net.layer.add(name=INPUT, type="Input", top=[INPUT], input_param={"shape": [{"dim": shape}]})
    # A parameter's or buffer's tensor; a node's blob, or blobs where it gives several.
    values: dict[Any, Any] = {**traced.constants, traced.entry: INPUT}
    blobs = Names()
    for node in traced.nodes:
        values[node] = _add_node(net, node, values, blobs.of(node))
    names = {values[node]: f"map{i}" for i, node in enumerate(traced.outputs)}
    for layer in net.layer:  # layers as well as blobs: OpenCV asks for outputs by the layer's name
        layer.name = names.get(layer.name, layer.name)
        layer.bottom[:] = [names.get(blob, blob) for blob in layer.bottom]
        layer.top[:] = [names.get(blob, blob) for blob in layer.top]
    return net


def _one(node: Node, numbers: list[int]) -> int:
    """The number that holds for both axes."""
    if len(set(numbers)) != 1:
        raise unsupported(node, "Caffe")
    return numbers[0]


def _add(
    net: Any, kind: str, bottoms: list[str], top: str, weights: tuple[Tensor, ...] = (), **parameters: Any
) -> str:
    """Append a layer with one top, whose name is the layer's too; -> the top."""
    layer = net.layer.add(name=top, type=kind, bottom=bottoms, top=[top], **parameters)
    for tensor in weights:
        layer.blobs.add(shape={"dim": list(tensor.shape)}, data=tensor.flatten().tolist())
    return top


def _add_convolution(
    net: Any,
    bottom: str,
    top: str,
    weights: tuple[Tensor, ...],
    stride: int,
    pad: int,
    group: int,
    kind: str = "Convolution",
) -> str:
    """`weights`: square filters (C_out, C_in / group, k, k) and, where there are two tensors, a bias. For a
    Deconvolution C_in comes first, which is C_out here."""
    options = {
        "num_output": len(weights[0]),
        "bias_term": len(weights) == 2,
        "pad": [pad],
        "kernel_size": [weights[0].shape[-1]],
        "group": group,
        "stride": [stride],
    }
    return _add(net, kind, [bottom], top, weights, convolution_param=options)


def _add_node(net: Any, node: Node, values: dict[Any, Any], top: str) -> Any:
    """Append the layers of one node; -> its blob, or blobs. Raises InputError where none are written here."""
    if node.target is operator.getitem:
        source, index = node.args
        return values[source][index]
    x, *arguments = arguments_of(node)
    if isinstance(x, Node) and isinstance(values[x], Tensor):  # weights that are computed
        raise unsupported(node, "Caffe")
    match node.target:
        case aten.conv2d.default:
            weight, bias, stride, pad, dilation, group = arguments
            _one(node, list(shape_of(weight)[2:]))
            if _one(node, dilation) != 1:
                raise unsupported(node, "Caffe")
            tensors = tuple(values[tensor] for tensor in (weight, bias) if tensor is not None)
            return _add_convolution(net, values[x], top, tensors, _one(node, stride), _one(node, pad), group)
        case aten.relu.default:
            return _add(net, "ReLU", [values[x]], top)
        case aten.leaky_relu.default:
            return _add(net, "ReLU", [values[x]], top, relu_param={"negative_slope": arguments[0]})
        case aten.prelu.default:
            return _add(net, "PReLU", [values[x]], top, (values[arguments[0]],))
        case aten.linear.default:
            tensors = tuple(values[tensor] for tensor in arguments if tensor is not None)
            sizes = {"num_output": len(tensors[0]), "bias_term": len(tensors) == 2}
            return _add(net, "InnerProduct", [values[x]], top, tensors, inner_product_param=sizes)
        case aten.flatten.using_ints if arguments == [1, -1]:
            return values[x]  # InnerProduct takes all of a picture's numbers in a row
        case aten.sigmoid.default:
            return _add(net, "Sigmoid", [values[x]], top)
        case aten.silu.default | aten.mish.default:  # x sigmoid(x), x tanh(log(1 + exp(x)))
            gate = values[x]
            for kind in ("Sigmoid",) if node.target is aten.silu.default else ("BNLL", "TanH"):
                gate = _add(net, kind, [gate], f"{top}/{kind}")
            return _add(net, "Eltwise", [values[x], gate], top, eltwise_param={"operation": "PROD"})
        case aten.dropout.default:
            return values[x]
        case aten.cat.default:
            (axis,) = arguments
            return _add(net, "Concat", [values[part] for part in x], top, concat_param={"axis": axis})
        case aten.chunk.default:
            axis = arguments[1]
            return _add_slice(net, values[x], top, axis, [part.shape[axis] for part in node.meta["val"]])
        case aten.slice.Tensor:
            axis, start, end, step = arguments
            side = shape_of(x)[axis]
            start, end = start or 0, side if end is None else min(end, side)
            if step != 1 or not 0 <= start < end:
                raise unsupported(node, "Caffe")
            if axis > 1 and end == side:
                return _add_corner(net, node, values, top)
            return _add_slice(net, values[x], top, axis, [start, end - start, side - end])[1]
        case aten.add.Tensor | aten.mul.Tensor:
            other, *alpha = arguments
            if not isinstance(other, Node) or alpha not in ([], [1]):
                raise unsupported(node, "Caffe")
            bottoms = []
            for term in (x, other):
                blob = values[term]
                if shape_of(term) != shape_of(node):
                    if shape_of(term) != (*shape_of(node)[:2], 1, 1):
                        raise unsupported(node, "Caffe")
                    blob = _add_spread(net, blob, f"{top}/spread", shape_of(node)[2:])
                bottoms.append(blob)
            operation = "SUM" if node.target is aten.add.Tensor else "PROD"
            return _add(net, "Eltwise", bottoms, top, eltwise_param={"operation": operation})
        case aten.adaptive_avg_pool2d.default if arguments == [[1, 1]]:
            options = {"pool": "AVE", "global_pooling": True}
            return _add(net, "Pooling", [values[x]], top, pooling_param=options)
        case aten.upsample_nearest2d.vec:
            _, channels, height, width = shape_of(x)
            factor = shape_of(node)[2] // height
            if shape_of(node)[2:] != (factor * height, factor * width):
                raise unsupported(node, "Caffe")
            ones = torch.ones(channels, 1, factor, factor)
            return _add_convolution(net, values[x], top, (ones,), factor, 0, channels, "Deconvolution")
        case aten.pad.default if all(user.target is aten.max_pool2d.default for user in node.users):
            return None  # the pooling takes it in
        case aten.max_pool2d.default:
            return _add_max_pool(net, node, values, top)
    raise unsupported(node, "Caffe")


def _add_corner(net: Any, node: Node, values: dict[Any, Any], top: str) -> Any:
    """A map without its first rows and as many columns: two slices in torch, here a depthwise convolution
    whose filters hold a single 1 (the piece that a Slice leaves over would be one more output)."""
    x, axis, start, *_ = arguments_of(node)
    if axis == 2 and all(_cuts_columns(user, start) for user in node.users):
        return None  # the second slice takes it in
    if not _cuts_columns(node, start) or x.target is not aten.slice.Tensor:
        raise unsupported(node, "Caffe")
    source, first_axis, first, *_ = arguments_of(x)
    if (first_axis, first) != (2, start):
        raise unsupported(node, "Caffe")
    return _add_pick(net, values[source], top, shape_of(source)[1], start, 1)


def _cuts_columns(node: Any, start: int) -> bool:
    return node.target is aten.slice.Tensor and arguments_of(node)[1:3] == [3, start]


def _add_pick(net: Any, bottom: str, top: str, channels: int, first: int, stride: int) -> str:
    """Every `stride`-th row and column from the one numbered `first`."""
    pick = torch.zeros(channels, 1, first + 1, first + 1)
    pick[:, :, first, first] = 1
    return _add_convolution(net, bottom, top, (pick,), stride, 0, channels)


def _add_slice(net: Any, bottom: str, top: str, axis: int, sizes: list[int]) -> list[str]:
    """Cut a blob along `axis` into pieces of these sizes; -> a blob for each, "" where the size is 0."""
    tops = [f"{top}/part{i}" if size else "" for i, size in enumerate(sizes)]
    kept = [name for name in tops if name]
    if len(kept) == 1:
        return [name and bottom for name in tops]
    points = [sum(sizes[:i]) for i, size in enumerate(sizes) if size][1:]
    options = {"axis": axis, "slice_point": points}
    net.layer.add(name=top, type="Slice", bottom=[bottom], top=kept, slice_param=options)
    return tops


def _add_spread(net: Any, bottom: str, top: str, sides: tuple[int, ...]) -> str:
    """One value per channel, (1, C, 1, 1), to all of (1, C, h, w).

    Eltwise does not broadcast, and MNN's converter takes no Scale with two bottoms. A maximum over windows
    so large that each holds the only pixel is exact, and every reader knows it.
    """
    height, width = sides
    options = {"kernel_h": height, "kernel_w": width, "pad_h": height - 1, "pad_w": width - 1, "stride": 1}
    return _add(net, "Pooling", [bottom], top, pooling_param={"pool": "MAX", **options})


def _add_max_pool(net: Any, node: Node, values: dict[Any, Any], top: str) -> str:
    """Maximum pooling, with the padding before it.

    The left padding says where the windows are, the right one only how many there are. Caffe pads both
    sides alike and rounds the number of windows up; where that is another number, every window is taken
    (stride 1), and a depthwise convolution whose filters hold a single 1 picks the wanted ones. The same is
    done where the last window would hold nothing but padding: Caffe drops it, MNN does not.
    """
    x, kernel, stride, pad, dilation, _ = arguments_of(node)
    kernel, stride = _one(node, kernel), _one(node, stride)
    left = right = _one(node, pad)
    if x.target is aten.pad.default:
        x, extra, mode, value = arguments_of(x)
        if extra[:2] != extra[2:] or (mode != "replicate" and (mode, value) != ("constant", -torch.inf)):
            raise unsupported(node, "Caffe")
        left, right = left + extra[0], right + extra[1]
    if _one(node, dilation) != 1 or not left <= right < kernel:
        raise unsupported(node, "Caffe")
    options = {"pool": "MAX", "kernel_size": kernel, "stride": stride, "pad": left}
    sides = [1 + math.ceil((side + 2 * left - kernel) / stride) for side in shape_of(x)[2:]]
    if tuple(sides) == shape_of(node)[2:]:
        return _add(net, "Pooling", [values[x]], top, pooling_param=options)
    options |= {"stride": 1, "pad": right}
    every = _add(net, "Pooling", [values[x]], f"{top}/every", pooling_param=options)
    return _add_pick(net, every, top, shape_of(x)[1], right - left, stride)


class CaffeModel(FromMaps):
    """A .caffemodel, its .prototxt beside it, in OpenCV 4: `.io` and `.predict` as every backend has them.

    `threads` holds for all of OpenCV while the network runs; 0 means as many as OpenCV has now.
    """

    def __init__(self, path: Path, io: NetworkIO, threads: int = 0):
        self.path, self.io, self.threads = path, io, threads or cv2.getNumThreads()
        self.outputs = [f"map{i}" for i in range(io.outputs)]
        text, weights = path.with_suffix(".prototxt"), path.with_suffix(".caffemodel")
        for file in (text, weights):
            if not file.is_file():
                raise InputError(f"there is no {file}: a Caffe model is a .prototxt with its .caffemodel")
        try:
            self.net = cv2.dnn.readNetFromCaffe(str(text), str(weights))
            self.net.enableWinograd(False)  # it is four times as far from the exact sums
            blank = np.zeros((1, io.channels, io.input_size[1], io.input_size[0]), np.float32)
            self.predict(blank)  # OpenCV reads the weights of a layer when it first runs
        except cv2.error as error:
            raise InputError(
                f"OpenCV cannot open {text} and {weights.name}: they are damaged, do not belong together or "
                f"are not for {io.input_size[0]}x{io.input_size[1]} ({error.err})"
            ) from None

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W) at the exported size -> raw head maps. Pictures run one after the other."""
        check_exported_size(x, self.io, self.path.name)
        before = cv2.getNumThreads()
        cv2.setNumThreads(self.threads)
        try:
            rows = []
            for chw in x:
                self.net.setInput(np.ascontiguousarray(chw[None]), INPUT)
                rows.append(self.net.forward(self.outputs))
        finally:
            cv2.setNumThreads(before)
        return [np.concatenate(maps) for maps in zip(*rows, strict=True)]

    def layer_outputs(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What every convolution gives after its activation, in the order in which they run."""
        text, weights = self.path.with_suffix(".prototxt"), self.path.with_suffix(".caffemodel")
        net = net_parameter()()
        require("google.protobuf.text_format", "export").Parse(text.read_text(), net)
        names = []
        for layer in net.layer:
            if layer.type == "Convolution" and (layer.name.endswith(".conv") or layer.name in self.outputs):
                follow = {other.type: other.name for other in net.layer if layer.top[0] in other.bottom}
                if follow.keys() in ({"Sigmoid", "Eltwise"}, {"BNLL", "Eltwise"}):  # swish, mish: the product
                    names.append(follow["Eltwise"])
                else:
                    names.append(
                        follow.get("ReLU") or follow.get("PReLU") or follow.get("Sigmoid") or layer.name
                    )
        plain = cv2.dnn.readNetFromCaffe(str(text), str(weights))
        plain.enableWinograd(False)
        plain.enableFusion(False)  # which writes what is concatenated straight into its place
        plain.setInput(np.ascontiguousarray(x[:1]), INPUT)
        return list(plain.forward(names))
