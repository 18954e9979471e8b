"""What TensorFlow Lite Micro needs for a .tflite file: operators, flash and RAM, read from the file alone."""

from __future__ import annotations

import struct
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from toolkit.export.litert.file import ALIGNMENT, schema
from toolkit.runtime import InputError
from toolkit.text import read_bytes, short

LARGEST_FILE = 256 * 1024 * 1024  # bytes; no microcontroller has as much
MOST_ENTRIES = 4096  # tensors, operators, or numbers of one of them
MOST_BYTES = 2**31 - 1  # of a tensor: TFLM counts them in an int
# MicroMutableOpResolver of tflite-micro, August 2026, without operators that are not LiteRT's own.
CALLS = (
    "Abs Add AddN ArgMax ArgMin AssignVariable AveragePool2D BatchMatMul BatchToSpaceNd BroadcastArgs "
    "BroadcastTo CallOnce Cast Ceil Concatenation Conv2D Cos CumSum DepthToSpace DepthwiseConv2D Dequantize "
    "Div DynamicUpdateSlice EmbeddingLookup Elu Equal Exp ExpandDims Fill Floor FloorDiv FloorMod "
    "FullyConnected Gather GatherNd Greater GreaterEqual HardSwish If L2Normalization L2Pool2D LeakyRelu "
    "Less LessEqual Log LogicalAnd LogicalNot LogicalOr Logistic LogSoftmax Maximum MaxPool2D MirrorPad Mean "
    "Minimum Mul Neg NotEqual Pack Pad PadV2 Prelu Quantize ReadVariable ReduceAll ReduceMax ReduceMin Relu "
    "Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2 Round Rsqrt SelectV2 Shape Sin Slice "
    "Softmax SpaceToBatchNd SpaceToDepth Split SplitV Squeeze Sqrt Square SquaredDifference StridedSlice Sub "
    "Sum Svdf Tanh TransposeConv Transpose Unpack UnidirectionalSequenceLSTM VarHandle While ZerosLike"
).split()
_CALLS = {name.upper(): f"Add{name}" for name in CALLS}
_BYTES = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8"), 1),
    **dict.fromkeys(("FLOAT16", "INT16", "UINT16"), 2),
    **dict.fromkeys(("FLOAT32", "INT32", "UINT32"), 4),
    **dict.fromkeys(("FLOAT64", "INT64", "UINT64"), 8),
}
# Bytes of TFLM's own structures: those of a 64-bit machine, which are the larger ones, rounded up. An
# interpreter; a tensor and an operator for as long as it lives; what a kernel keeps, and for each channel of
# its weights a multiplier and a shift; what planning takes for a tensor before there are activations.
_INTERPRETER, _TENSOR, _OPERATOR, _KERNEL, _CHANNEL, _PLANNED = 2048, 24, 64, 128, 8, 96
_WITH_CHANNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True)
class MicroOperator:
    """A kind of operator in a file.

    Attributes:
        kind: its name in schema.fbs, "CONV_2D"; of a custom one, "CUSTOM 'its own'".
        version: of the kind, as in the file.
        count: how often it is used.
        call: what MicroMutableOpResolver has for it, "AddConv2D"; "" where there is nothing.
    """

    kind: str
    version: int
    count: int
    call: str


@dataclass(frozen=True)
class MicroTensor:
    """An input or output: value = scale * (number - zero_point); `scale` is 0 where the numbers are values.

    `dtype` is its name in schema.fbs, "INT8".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Micro:
    """What a file asks of a microcontroller, in bytes.

    Attributes:
        operators: that it uses, by kind and version.
        flash: of the file. The code of the kernels comes on top.
        activations: what TFLM's GreedyMemoryPlanner takes for inputs, outputs and all tensors between them.
        structures: room for TFLM's own structures in the arena, estimated from above. Scratch buffers, as
            optimised kernels (CMSIS-NN) ask for, come on top.
        inputs, outputs: in the order of the file, which is that of `MicroInterpreter::output`.
    """

    operators: tuple[MicroOperator, ...]
    flash: int
    activations: int
    structures: int
    inputs: tuple[MicroTensor, ...]
    outputs: tuple[MicroTensor, ...]

    @property
    def arena(self) -> int:
        """Bytes of an arena in which TFLM's reference kernels run the file."""
        return _aligned(self.activations) + _aligned(self.structures)

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls of MicroMutableOpResolver that add the operators."""
        return tuple(sorted({each.call for each in self.operators if each.call}))

    @property
    def missing(self) -> tuple[str, ...]:
        """Operators that TFLM does not have."""
        return tuple(sorted({each.kind for each in self.operators if not each.call}))


@dataclass(frozen=True)
class Buffer:
    """A tensor in the arena.

    Attributes:
        size: in bytes.
        first: the step that creates it: 0 for an input of the network, then 1 for the first operator.
        last: the last step that uses it.
    """

    size: int
    first: int
    last: int


def requirements(path: str | Path) -> Micro:
    """Operators, flash and RAM that TensorFlow Lite Micro needs for a file.

    Args:
        path: any .tflite file with one subgraph.

    Returns:
        Sizes in bytes. `activations` is what the interpreter of tflite-micro records as the head of its
        arena (`python -m tests.benchmarks.micro` compares them).

    Raises:
        InputError: the file is missing, damaged, too large, or has several subgraphs.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no {path}: expected a .tflite file made by toolkit export")
    data = read_bytes(path, LARGEST_FILE)
    if data[4:8] != b"TFL3":
        raise InputError(f"{path} is not a .tflite file: export the network again")
    try:
        model = schema().Model.GetRootAs(data)
        if model.SubgraphsLength() != 1:
            raise InputError(f"{path} has {model.SubgraphsLength()} subgraphs: expected one")
        return _measured(model, len(data))
    except _DAMAGE:
        raise InputError(f"{path} is damaged: export the network again") from None


def arena_size(buffers: Iterable[Buffer]) -> int:
    """Bytes that TFLM's GreedyMemoryPlanner takes: the largest buffer is placed first, each at the lowest
    offset that is free while it lives; of equal ones the last is first.

    Source: tensorflow/lite/micro/memory_planner/greedy_memory_planner.cc of tflite-micro.

    >>> arena_size([Buffer(64, 0, 1), Buffer(32, 1, 2), Buffer(48, 2, 3)])
    96
    """
    placed: list[tuple[int, Buffer]] = []  # by offset
    largest_first = list(buffers)[::-1]
    largest_first.sort(key=lambda each: -each.size)
    for buffer in largest_first:
        offset = 0
        for start, other in placed:
            if other.first > buffer.last or buffer.first > other.last:
                continue
            if start - offset >= _aligned(buffer.size):
                break
            offset = max(offset, start + _aligned(other.size))
        insort(placed, (offset, buffer), key=lambda each: each[0])
    return max((offset + _aligned(each.size) for offset, each in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _measured(model: Any, flash: int) -> Micro:
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(_bounded(graph.TensorsLength()))]
    operators = [graph.Operators(i) for i in range(_bounded(graph.OperatorsLength()))]
    kinds = _kinds(model, operators)
    sizes = [_size(tensor) for tensor in tensors]
    lives = _lives(graph, operators)
    empty = [i for i, tensor in enumerate(tensors) if sizes[i] and not _is_constant(model, tensor)]
    # A variable keeps its value between calls, so that TFLM has it among its structures.
    variables = sum(_aligned(sizes[i]) for i in empty if tensors[i].IsVariable())
    activations = arena_size(
        Buffer(sizes[i], *lives.get(i, (-1, -1))) for i in empty if not tensors[i].IsVariable()
    )
    pairs = zip(operators, kinds, strict=True)
    channels = sum(_channels(graph, operator) for operator, (kind, _) in pairs if kind in _WITH_CHANNELS)
    structures = _INTERPRETER + len(tensors) * _TENSOR + len(operators) * (_OPERATOR + _KERNEL)
    structures += channels * _CHANNEL + variables
    planning = max(0, len(tensors) * _PLANNED - activations)
    counted = tuple(
        MicroOperator(kind, version, count, _CALLS.get(kind.replace("_", ""), ""))
        for (kind, version), count in sorted(Counter(kinds).items())
    )
    inputs = _numbers(graph.InputsLength(), graph.Inputs, len(tensors))
    outputs = _numbers(graph.OutputsLength(), graph.Outputs, len(tensors))
    return Micro(
        counted,
        flash,
        activations,
        structures + planning,
        tuple(_described(tensors[i]) for i in inputs),
        tuple(_described(tensors[i]) for i in outputs),
    )


def _bounded(count: int) -> int:
    if count > MOST_ENTRIES:
        raise ValueError(count)
    return count


def _numbers(count: int, number: Callable[[int], int], below: int) -> list[int]:
    """Indices of tensors; -1 stands for an input that is left out."""
    numbers = [number(i) for i in range(_bounded(count))]
    if not all(-1 <= each < below for each in numbers):
        raise ValueError(numbers)
    return [each for each in numbers if each >= 0]


def _is_constant(model: Any, tensor: Any) -> bool:
    """Whether the file has its values. ValueError where they go beyond its end."""
    if tensor.Buffer() >= model.BuffersLength():
        raise ValueError(tensor.Buffer())
    buffer = model.Buffers(tensor.Buffer())
    return not buffer.DataIsNone() and len(buffer.DataAsNumpy()) > 0


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.Shape(i) for i in range(_bounded(tensor.ShapeLength())))


def _type(tensor: Any) -> str:
    names = {number: name for name, number in vars(schema().TensorType).items() if not name.startswith("_")}
    name: str = names[tensor.Type()]
    return name


def _size(tensor: Any) -> int:
    sides = _shape(tensor)
    size = prod(sides) * _BYTES[_type(tensor)]
    if min(sides, default=0) < 0 or size > MOST_BYTES:
        raise ValueError(sides)
    return size


def _described(tensor: Any) -> MicroTensor:
    quantization = tensor.Quantization()
    scaled = quantization is not None and quantization.ScaleLength() == 1
    scale, zero_point = (quantization.Scale(0), quantization.ZeroPoint(0)) if scaled else (0.0, 0)
    return MicroTensor(tensor.Name().decode(), _shape(tensor), _type(tensor), scale, zero_point)


def _channels(graph: Any, operator: Any) -> int:
    *_, channels = _shape(graph.Tensors(operator.Outputs(0)))
    return max(0, channels)


def _lives(graph: Any, operators: Sequence[Any]) -> dict[int, tuple[int, int]]:
    """First and last step of each tensor: an input lives from the start, an output to the end.

    Source: AllocationInfoBuilder::MarkAllocationLifetimes of tflite-micro.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    count = graph.TensorsLength()
    for tensor in _numbers(graph.InputsLength(), graph.Inputs, count):
        first[tensor] = last[tensor] = 0
    for step, operator in enumerate(operators, 1):
        outputs = _numbers(operator.OutputsLength(), operator.Outputs, count)
        for tensor in outputs:
            first.setdefault(tensor, step)
        for tensor in [*_numbers(operator.InputsLength(), operator.Inputs, count), *outputs]:
            last[tensor] = step
    for tensor in _numbers(graph.OutputsLength(), graph.Outputs, count):
        first.setdefault(tensor, len(operators))
        last[tensor] = len(operators)
    return {tensor: (step, last[tensor]) for tensor, step in first.items()}


def _kinds(model: Any, operators: Sequence[Any]) -> list[tuple[str, int]]:
    """Kind and version of each operator."""
    names = {number: name for name, number in vars(schema().BuiltinOperator).items()}
    kinds = []
    for i in range(_bounded(model.OperatorCodesLength())):
        code = model.OperatorCodes(i)
        # Files older than the 128th operator have the second of the two alone.
        kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if kind == "CUSTOM":
            kind = f"CUSTOM {short((code.CustomCode() or b'').decode())}"
        kinds.append((kind, code.Version()))
    return [kinds[operator.OpcodeIndex()] for operator in operators]
