"""A LiteRT (TensorFlow Lite) file as tensors and operators, and its flatbuffer.

The classes of the flatbuffer are those that ai-edge-litert ships (schema.fbs, version 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.runtime import require

ALIGNMENT = 16  # bytes, of a buffer: schema.fbs asks for it, and Python's flatbuffers do not heed it
DTYPES = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32", "uint8": "UINT8", "int8": "INT8"}


@dataclass(frozen=True)
class Scale:
    """What the whole numbers of a tensor mean: real = scale * (number - zero_point).

    Attributes:
        scale: one, or one for each index of `axis`.
        zero_point: of all.
        axis: that has a scale for each of its indices.
    """

    scale: NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0


@dataclass(eq=False)
class Tensor:
    """A tensor of the graph; `values` of a constant, else None."""

    name: str
    shape: tuple[int, ...]
    values: NDArray[Any] | None = None
    dtype: str = "float32"
    scale: Scale | None = None

    @property
    def known(self) -> NDArray[Any]:
        """The values of a constant."""
        assert self.values is not None
        return self.values


@dataclass
class Operator:
    """`kind` is its name in schema.fbs, "CONV_2D"; `options` are those of its table there, without the
    ones that have their default."""

    kind: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Operators in running order."""

    operators: list[Operator]
    inputs: list[Tensor]
    outputs: list[Tensor]


# Table of options of each operator that has one.
OPTIONS = {
    "ADD": "Add",
    "AVERAGE_POOL_2D": "Pool2D",
    "CONCATENATION": "Concatenation",
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "DEQUANTIZE": "Dequantize",
    "DIV": "Div",
    "EXP": "Exp",
    "FULLY_CONNECTED": "FullyConnected",
    "GELU": "Gelu",
    "HARD_SWISH": "HardSwish",
    "LEAKY_RELU": "LeakyRelu",
    "MAXIMUM": "MaximumMinimum",
    "MAX_POOL_2D": "Pool2D",
    "MEAN": "Reducer",
    "MINIMUM": "MaximumMinimum",
    "MUL": "Mul",
    "PAD": "Pad",
    "PADV2": "PadV2",
    "QUANTIZE": "Quantize",
    "REDUCE_MAX": "Reducer",
    "RESHAPE": "Reshape",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor",
    "SLICE": "Slice",
    "SUB": "Sub",
    "TRANSPOSE": "Transpose",
}
# Versions of operators on int8 that differ from those on float32, and of those on more than four axes; all
# others are 1. An interpreter refuses versions that it does not know (tensorflow/lite/tools/versioning).
INT8_VERSIONS = {
    **dict.fromkeys(("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D"), 2),
    **dict.fromkeys(("MEAN", "MINIMUM", "MUL", "PAD", "PADV2", "RELU", "RELU6", "SLICE", "SUB", "TANH"), 2),
    **dict.fromkeys(("RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE"), 2),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), 3),
    "FULLY_CONNECTED": 4,
}
WIDE_VERSIONS = {"SLICE": 5, "TRANSPOSE": 4}


@cache
def schema() -> Any:
    """The flatbuffer's classes."""
    return require("ai_edge_litert.schema_py_generated", "export")


def save(graph: Graph, path: Path, metadata: Mapping[str, bytes], description: str) -> None:
    """Write a graph. `metadata`: name -> what the file carries beside it. Inputs and outputs keep their names
    in the signature "serving_default", which interpreters call by name."""
    s = schema()
    flatbuffers = require("flatbuffers", "export")
    buffers: list[Any] = [s.BufferT()]  # the first is that of tensors without values

    buffer_class, quantization_class = _packed()

    def buffer(data: NDArray[np.uint8]) -> int:
        buffers.append(buffer_class(data=data))
        return len(buffers) - 1

    def quantization(scale: Scale) -> Any:
        made = quantization_class(
            scale=scale.scale, zeroPoint=scale.zero_point, quantizedDimension=scale.axis
        )
        made.shared = shared
        return made

    shared: dict[tuple[int, ...], Any] = {}
    index = tensor_order(graph)
    codes: dict[tuple[str, int], int] = {}
    operators = []
    for each in graph.operators:
        code = codes.setdefault((each.kind, _version(each)), len(codes))
        operators.append(_operator(each, code, index))
    subgraph = s.SubGraphT(
        tensors=[_tensor(tensor, buffer, quantization) for tensor in index],
        inputs=[index[tensor] for tensor in graph.inputs],
        outputs=[index[tensor] for tensor in graph.outputs],
        operators=operators,
        name="main",
    )
    model = s.ModelT(
        version=3,
        operatorCodes=[_code(kind, version) for kind, version in codes],
        subgraphs=[subgraph],
        description=description,
        metadata=[
            s.MetadataT(name=name, buffer=buffer(np.frombuffer(data, np.uint8)))
            for name, data in metadata.items()
        ],
        signatureDefs=[_signature(graph, index)],
        buffers=buffers,
    )
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())


def tensor_order(graph: Graph) -> dict[Tensor, int]:
    """Index of each tensor in the file."""
    tensors = dict.fromkeys(t for each in graph.operators for t in (*each.inputs, *each.outputs))
    return {tensor: i for i, tensor in enumerate(tensors)}


@cache
def _packed() -> tuple[Any, Any]:
    """The schema's classes of a buffer and of a tensor's scales, packed as flatbuffers' own are not: bytes
    begin at a multiple of `ALIGNMENT`, and equal lists of zero points are written once."""
    s = schema()

    class Buffer(s.BufferT):  # type: ignore[misc, name-defined]
        def Pack(self, builder: Any) -> Any:
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data.tobytes()
            data = builder.EndVector()
            s.BufferStart(builder)
            s.BufferAddData(builder, data)
            return s.BufferEnd(builder)

    class Quantization(s.QuantizationParametersT):  # type: ignore[misc, name-defined]
        shared: dict[tuple[int, ...], Any]

        def Pack(self, builder: Any) -> Any:
            scale = builder.CreateNumpyVector(self.scale)
            key = (self.zeroPoint, len(self.scale))
            if key not in self.shared:
                self.shared[key] = builder.CreateNumpyVector(
                    np.full(len(self.scale), self.zeroPoint, np.int64)
                )
            s.QuantizationParametersStart(builder)
            s.QuantizationParametersAddScale(builder, scale)
            s.QuantizationParametersAddZeroPoint(builder, self.shared[key])
            s.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
            return s.QuantizationParametersEnd(builder)

    return Buffer, Quantization


def _tensor(
    tensor: Tensor, buffer: Callable[[NDArray[np.uint8]], int], quantization: Callable[[Scale], Any]
) -> Any:
    s = schema()
    data = None if tensor.values is None else np.ascontiguousarray(tensor.values).reshape(-1).view(np.uint8)
    return s.TensorT(
        shape=list(tensor.shape),
        type=getattr(s.TensorType, DTYPES[tensor.dtype]),
        buffer=0 if data is None else buffer(data),
        name=tensor.name,
        quantization=None if tensor.scale is None else quantization(tensor.scale),
        hasRank=True,
    )


def _operator(operator: Operator, code: int, index: Mapping[Tensor, int]) -> Any:
    s = schema()
    made = s.OperatorT(
        opcodeIndex=code,
        inputs=[index[tensor] for tensor in operator.inputs],
        outputs=[index[tensor] for tensor in operator.outputs],
    )
    if table := OPTIONS.get(operator.kind):
        made.builtinOptionsType = getattr(s.BuiltinOptions, f"{table}Options")
        made.builtinOptions = getattr(s, f"{table}OptionsT")(**operator.options)
    return made


def _version(operator: Operator) -> int:
    kind, (first, *rest) = operator.kind, operator.inputs
    if kind == "DEQUANTIZE":  # here of float16
        return 3
    if kind == "CONV_2D" and rest[0].shape[3] != first.shape[3]:  # groups
        return 6
    if len(first.shape) > 4:
        return WIDE_VERSIONS.get(kind, 1)
    if first.dtype == "int8":
        return 3 if kind == "MUL" and _grows(operator) else INT8_VERSIONS.get(kind, 1)
    dilated = any(operator.options.get(f"dilation{axis}Factor", 1) > 1 for axis in "HW")
    return 2 if kind == "DEPTHWISE_CONV_2D" and dilated else 1


def _grows(product: Operator) -> bool:
    """Whether a unit of the numbers' product is at least one of the output's."""
    first, second, output = (tensor.scale for tensor in (*product.inputs, *product.outputs))
    assert first is not None
    assert second is not None
    assert output is not None
    return bool(first.scale[0] * second.scale[0] >= output.scale[0])


def _code(kind: str, version: int) -> Any:
    s = schema()
    number = getattr(s.BuiltinOperator, kind)
    # Programs older than the 128th operator read the first of the two.
    return s.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=version)


def _signature(graph: Graph, index: Mapping[Tensor, int]) -> Any:
    s = schema()

    def named(tensors: Sequence[Tensor]) -> list[Any]:
        return [s.TensorMapT(name=tensor.name, tensorIndex=index[tensor]) for tensor in tensors]

    return s.SignatureDefT(
        inputs=named(graph.inputs), outputs=named(graph.outputs), signatureKey="serving_default"
    )


def read_operators(path: Path) -> list[tuple[str, str]]:
    """Kind and name of the output of each operator of a file, in running order."""
    s = schema()
    model = s.ModelT.InitFromPackedBuf(path.read_bytes())
    kinds = {number: kind for kind, number in vars(s.BuiltinOperator).items() if not kind.startswith("_")}
    (graph,) = model.subgraphs
    return [
        (
            kinds[model.operatorCodes[each.opcodeIndex].builtinCode],
            graph.tensors[each.outputs[0]].name.decode(),
        )
        for each in graph.operators
    ]
