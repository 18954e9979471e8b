"""A torch network as LiteRT operators: channels last, one picture, float32."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import Node

from toolkit.export.litert.file import Graph, Operator, Tensor
from toolkit.export.traced import Names, Traced, arguments_of, shape_of, unsupported
from toolkit.models.network import TorchNetwork
from toolkit.runtime import InputError

INPUT = "images"
SAME, VALID = 0, 1  # Padding in schema.fbs
RELU, RELU6 = 1, 3  # ActivationFunctionType in schema.fbs
FUSES = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD"}  # take a ReLU in
LOWEST = float(np.finfo(np.float32).min)  # what lies around a maximum; readers know no infinity
PLACE = {0: 0, 1: 3, 2: 1, 3: 2}  # of torch's axes (N, C, H, W) in (N, H, W, C)
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

aten = torch.ops.aten
# Of one input, without options.
PLAIN: dict[Any, str] = {
    aten.relu.default: "RELU",
    aten.relu6.default: "RELU6",
    aten.sigmoid.default: "LOGISTIC",
    aten.tanh.default: "TANH",
    aten.hardswish.default: "HARD_SWISH",
    aten.floor.default: "FLOOR",
    aten.exp.default: "EXP",
}
ARITHMETIC: dict[Any, str] = {
    aten.add.Tensor: "ADD",
    aten.sub.Tensor: "SUB",
    aten.mul.Tensor: "MUL",
    aten.div.Tensor: "DIV",
}
UNCHANGED = {aten.alias.default, aten.clone.default, aten.contiguous.default, aten.dropout.default}


@dataclass(frozen=True)
class Map:
    """A tensor, and whether its four axes are (N, H, W, C) where torch has (N, C, H, W)."""

    tensor: Tensor
    last: bool


@dataclass(frozen=True)
class Windows:
    """Rows and columns that a window spans, steps between windows, and what is padded above and on the
    left."""

    span: Sequence[int]
    step: Sequence[int]
    pad: Sequence[int]


def build(model: TorchNetwork, size: tuple[int, int]) -> Graph:
    """The operators of `model`, whose batch norms are folded, for one picture of `size` (w, h).

    The input is `images` (1, h, w, channels), the outputs are `map0`, `map1`, ..., coarsest first, channels
    last where they are maps; other tensors are named after the torch modules. Raises InputError where the
    network uses an operator that is not written here.
    """
    return _Writer(Traced(model, size)).graph


class _Writer:
    """The graph of a traced network."""

    def __init__(self, traced: Traced) -> None:
        n, c, h, w = shape_of(traced.entry)
        images = Tensor(INPUT, (n, h, w, c))
        self.operators: list[Operator] = []
        self.names = Names()
        # A node's map, maps where it gives several, or torch's tensor where it is the same for all pictures.
        self.values: dict[Any, Any] = {**traced.constants, traced.entry: Map(images, True)}
        for node in traced.nodes:
            self.values[node] = self._value(node)
        outputs: list[Tensor] = []
        for i, node in enumerate(traced.outputs):
            tensor = self.last(self.values[node])
            if tensor in (images, *outputs):  # it has one name
                raise InputError(f"output {i} of the network is another output or its input: leave it out")
            tensor.name = f"map{i}"
            outputs.append(tensor)
        self.graph = Graph(self.operators, [images], outputs)

    def _value(self, node: Any) -> Any:
        """What a node gives; its operators are appended."""
        if node.target is operator.getitem:
            source, index = node.args
            return self.values[source][index]
        constant = _constant_of(node, self.values)
        if constant is not None:
            return constant
        if node.target in UNCHANGED:
            return self.values[node.args[0]]
        name = self.names.of(node)
        if node.target in PLAIN:
            return self._plain_operator(node, PLAIN[node.target], name)
        if node.target not in HANDLERS:
            raise unsupported(node, "LiteRT")
        return HANDLERS[node.target](self, node, arguments_of(node), name)

    # ---- tensors ----

    def add(
        self, kind: str, inputs: Sequence[Tensor], shape: Sequence[int], name: str, **options: Any
    ) -> Tensor:
        """Append an operator with one output; -> the output."""
        made = Tensor(name, tuple(shape))
        self.operators.append(Operator(kind, list(inputs), [made], options))
        return made

    def like(self, kind: str, inputs: Sequence[Tensor], name: str, **options: Any) -> Tensor:
        """An operator whose output has the shape of its first input."""
        return self.add(kind, inputs, inputs[0].shape, name, **options)

    def last(self, value: Map) -> Tensor:
        """With channels last, where there are four axes."""
        if value.last or len(value.tensor.shape) != 4:
            return value.tensor
        return self.transpose(value.tensor, (0, 2, 3, 1), f"{value.tensor.name}/last")

    def plain(self, value: Map) -> Tensor:
        """With torch's order of axes."""
        if not value.last:
            return value.tensor
        return self.transpose(value.tensor, (0, 3, 1, 2), f"{value.tensor.name}/plain")

    def transpose(self, x: Tensor, order: Sequence[int], name: str) -> Tensor:
        shape = [x.shape[axis] for axis in order]
        return self.add("TRANSPOSE", [x, integers(order, f"{name}/order")], shape, name)

    # ---- activations ----

    def _plain_operator(self, node: Any, kind: str, name: str, **options: Any) -> Map:
        x: Map = self.values[node.args[0]]
        if kind in ("RELU", "RELU6") and self._fused(node, x.tensor, kind):
            return x
        return Map(self.like(kind, [x.tensor], name, **options), x.last)

    def _fused(self, node: Any, x: Tensor, kind: str) -> bool:
        """Whether the operator before an activation takes it in, as nothing else reads its output."""
        before = self.operators[-1] if self.operators else None
        if before is None or before.outputs[0] is not x or before.kind not in FUSES:
            return False
        if len(node.args[0].users) > 1:
            return False
        before.options["fusedActivationFunction"] = RELU if kind == "RELU" else RELU6
        return True

    def leaky_relu(self, node: Any, arguments: list[Any], name: str) -> Map:
        return self._plain_operator(node, "LEAKY_RELU", name, alpha=float(arguments[1]))

    def gelu(self, node: Any, arguments: list[Any], name: str) -> Map:
        return self._plain_operator(node, "GELU", name, approximate=arguments[1] == "tanh")

    def elu(self, node: Any, arguments: list[Any], name: str) -> Map:
        if arguments[1:] != [1, 1, 1]:
            raise unsupported(node, "LiteRT")
        return self._plain_operator(node, "ELU", name)

    def selu(self, node: Any, arguments: list[Any], name: str) -> Map:
        x: Map = self.values[node.args[0]]
        low = self.like("MINIMUM", [x.tensor, scalar(0, f"{name}/zero")], f"{name}/low")
        curve = self.like("ELU", [low], f"{name}/curve")
        below = self.like("MUL", [curve, scalar(SELU_ALPHA * SELU_SCALE, f"{name}/alpha")], f"{name}/below")
        high = self.like("RELU", [x.tensor], f"{name}/high")
        above = self.like("MUL", [high, scalar(SELU_SCALE, f"{name}/scale")], f"{name}/above")
        return Map(self.like("ADD", [below, above], name), x.last)

    def silu(self, node: Any, arguments: list[Any], name: str) -> Map:
        x: Map = self.values[node.args[0]]
        gate = self.like("LOGISTIC", [x.tensor], f"{name}/gate")
        return Map(self.like("MUL", [x.tensor, gate], name), x.last)

    def mish(self, node: Any, arguments: list[Any], name: str) -> Map:
        """x tanh(log(1 + e)) with e = exp(x), which is x m / (m + 2) with m = e (e + 2)."""
        x: Map = self.values[node.args[0]]
        two = scalar(2, f"{name}/two")
        # from 20 on the fraction is 1 in float32, and exp(x)^2 would overflow some way behind
        low = self.like("MINIMUM", [x.tensor, scalar(20, f"{name}/most")], f"{name}/low")
        power = self.like("EXP", [low], f"{name}/power")
        more = self.like("ADD", [power, two], f"{name}/more")
        product = self.like("MUL", [power, more], f"{name}/product")
        below = self.like("ADD", [product, two], f"{name}/below")
        gate = self.like("DIV", [product, below], f"{name}/gate")
        return Map(self.like("MUL", [x.tensor, gate], name), x.last)

    def prelu(self, node: Any, arguments: list[Any], name: str) -> Map:
        x = self.last(self.values[node.args[0]])
        slope = constant(self.values[arguments[1]].reshape(1, 1, -1), f"{name}/slope")
        return Map(self.like("PRELU", [x, slope], name), True)

    def clamp(self, node: Any, arguments: list[Any], name: str) -> Map:
        x: Map = self.values[node.args[0]]
        made = x.tensor
        for kind, bound in (("MAXIMUM", arguments[1]), ("MINIMUM", arguments[2])):
            if bound is not None:
                label = f"{name}/{kind.lower()}"
                made = self.like(kind, [made, scalar(bound, f"{label}/bound")], label)
        return Map(made, x.last)

    # ---- windows ----

    def _source(
        self, x: Tensor, node: Any, windows: Windows, fill: float | None, name: str
    ) -> tuple[Tensor, int]:
        """The map that windows are taken from, and the kind of padding: the map itself where one of the two
        kinds gives the same windows, else one that is padded before.

        `fill`: what lies around the map; None where windows leave out what is outside, which only SAME does.
        """
        axes = list(
            zip(x.shape[1:3], shape_of(node)[2:], windows.span, windows.step, windows.pad, strict=True)
        )
        if all(pad == 0 and out == (side - span) // step + 1 for side, out, span, step, pad in axes):
            return x, VALID
        reach = [max((out - 1) * step + span - side, 0) for side, out, span, step, _ in axes]
        if all(
            pad == more // 2 and out == math.ceil(side / step)
            for (side, out, _, step, pad), more in zip(axes, reach, strict=True)
        ):
            return x, SAME
        if fill is None:
            raise unsupported(node, "LiteRT")
        pads = [(pad, max(more - pad, 0)) for more, pad in zip(reach, windows.pad, strict=True)]
        return self._padded(x, pads, fill, f"{name}/padded"), VALID

    def _padded(self, x: Tensor, pads: Sequence[tuple[int, int]], fill: float, name: str) -> Tensor:
        """A map with rows and columns around it; `pads`: above and below, left and right."""
        widths = [(0, 0), *pads, (0, 0)]
        shape = [side + before + after for side, (before, after) in zip(x.shape, widths, strict=True)]
        inputs = [x, integers(widths, f"{name}/widths")]
        if fill == 0:
            return self.add("PAD", inputs, shape, name)
        return self.add("PADV2", [*inputs, scalar(fill, f"{name}/fill")], shape, name)

    def convolution(self, node: Any, arguments: list[Any], name: str) -> Map:
        _, weight, bias, stride, pad, dilation, groups = arguments
        x = self.last(self.values[node.args[0]])
        filters = self.values[weight].numpy()  # (C_out, C_in / groups, kh, kw)
        shift = np.zeros(len(filters), np.float32) if bias is None else self.values[bias].numpy()
        spans = [(side - 1) * gap + 1 for side, gap in zip(filters.shape[2:], dilation, strict=True)]
        source, padding = self._source(x, node, Windows(spans, stride, pad), 0.0, name)
        options = {"padding": padding, "strideH": stride[0], "strideW": stride[1]}
        options |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
        depthwise = groups > 1 and filters.shape[1] == 1
        if depthwise:
            options["depthMultiplier"] = len(filters) // groups
            filters = filters[:, 0].transpose(1, 2, 0)[None]  # (1, kh, kw, C_out)
        else:
            filters = filters.transpose(0, 2, 3, 1)  # (C_out, kh, kw, C_in / groups)
        inputs = [source, constant(filters, f"{name}/weight"), constant(shift, f"{name}/bias")]
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        return Map(self.add(kind, inputs, last_shape(node), name, **options), True)

    def linear(self, node: Any, arguments: list[Any], name: str) -> Map:
        _, weight, bias = arguments
        x = self.plain(self.values[node.args[0]])
        if len(x.shape) != 2:
            raise unsupported(node, "LiteRT")
        shift = torch.zeros(shape_of(node)[-1]) if bias is None else self.values[bias]
        inputs = [x, constant(self.values[weight], f"{name}/weight"), constant(shift, f"{name}/bias")]
        return Map(self.add("FULLY_CONNECTED", inputs, shape_of(node), name), False)

    def max_pool(self, node: Any, arguments: list[Any], name: str) -> Map:
        _, kernel, stride, pad, dilation, _ = arguments
        if set(dilation) != {1}:
            raise unsupported(node, "LiteRT")
        return self._pooled(node, "MAX_POOL_2D", Windows(kernel, stride or kernel, pad), LOWEST, name)

    def average_pool(self, node: Any, arguments: list[Any], name: str) -> Map:
        _, kernel, stride, pad, _, counts_padding, divisor = arguments
        if divisor is not None or (counts_padding and any(pad)):
            raise unsupported(node, "LiteRT")
        return self._pooled(node, "AVERAGE_POOL_2D", Windows(kernel, stride or kernel, pad), None, name)

    def _pooled(self, node: Any, kind: str, windows: Windows, fill: float | None, name: str) -> Map:
        x = self.last(self.values[node.args[0]])
        windows = Windows(*(_both(each) for each in (windows.span, windows.step, windows.pad)))
        source, padding = self._source(x, node, windows, fill, name)
        options = {"padding": padding, "strideH": windows.step[0], "strideW": windows.step[1]}
        options |= {"filterHeight": windows.span[0], "filterWidth": windows.span[1]}
        return Map(self.add(kind, [source], last_shape(node), name, **options), True)

    def padding(self, node: Any, arguments: list[Any], name: str) -> Map:
        _, widths, mode, value = arguments
        # repeating the edge adds nothing to a maximum
        replaced = mode == "replicate" and all(user.target is aten.max_pool2d.default for user in node.users)
        if len(widths) != 4 or min(widths) < 0 or not (mode == "constant" or replaced):
            raise unsupported(node, "LiteRT")
        left, right, top, bottom = widths
        fill = LOWEST if replaced else max(float(value or 0), LOWEST)
        x = self.last(self.values[node.args[0]])
        return Map(self._padded(x, [(top, bottom), (left, right)], fill, name), True)

    def mean(self, node: Any, arguments: list[Any], name: str) -> Map:
        """Over all rows and columns, which stay as axes of length 1."""
        adaptive = node.target is aten.adaptive_avg_pool2d.default
        axes, kept = ([2, 3], True) if adaptive else (arguments[1], arguments[2])
        x = self.last(self.values[node.args[0]])
        if len(x.shape) != 4 or not kept or sorted(axis % 4 for axis in axes) != [2, 3]:
            raise unsupported(node, "LiteRT")
        if adaptive and list(arguments[1]) != [1, 1]:
            raise unsupported(node, "LiteRT")
        inputs = [x, integers([1, 2], f"{name}/axes")]
        return Map(self.add("MEAN", inputs, last_shape(node), name, keepDims=True), True)

    def upsample(self, node: Any, arguments: list[Any], name: str) -> Map:
        x = self.last(self.values[node.args[0]])
        _, height, width, _ = shape = last_shape(node)
        if height % x.shape[1] or width % x.shape[2]:
            raise unsupported(node, "LiteRT")
        return Map(
            self.add("RESIZE_NEAREST_NEIGHBOR", [x, integers([height, width], f"{name}/size")], shape, name),
            True,
        )

    # ---- several maps, and other shapes ----

    def arithmetic(self, node: Any, arguments: list[Any], name: str) -> Map:
        first, second, *factor = arguments
        if factor not in ([], [1]):
            raise unsupported(node, "LiteRT")
        last = len(shape_of(node)) == 4
        inputs = []
        for i, term in enumerate((first, second)):
            value = self.values[term] if isinstance(term, Node) else torch.tensor([float(term)])
            if isinstance(value, Map):
                inputs.append(self.last(value) if last else self.plain(value))
                continue
            if last and value.ndim > 1:
                value = value.reshape([1] * (4 - value.ndim) + list(value.shape)).permute(0, 2, 3, 1)
            inputs.append(constant(value.float(), f"{name}/{i}"))
        shape = last_shape(node) if last else shape_of(node)
        return Map(self.add(ARITHMETIC[node.target], inputs, shape, name), last)

    def concatenation(self, node: Any, arguments: list[Any], name: str) -> Map:
        parts, axis = arguments
        maps = [self.values[part] for part in parts]
        if len(shape_of(node)) != 4 or not all(isinstance(each, Map) for each in maps):
            raise unsupported(node, "LiteRT")
        tensors = [self.last(each) for each in maps]
        return Map(self.add("CONCATENATION", tensors, last_shape(node), name, axis=PLACE[axis % 4]), True)

    def chunks(self, node: Any, arguments: list[Any], name: str) -> list[Map]:
        axis = arguments[2]
        ends = np.cumsum([part.shape[axis] for part in node.meta["val"]]).tolist()
        starts = [0, *ends[:-1]]
        x = self.values[node.args[0]]
        return [
            self._part(x, axis, start, end, f"{name}/part{i}")
            for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]

    def slice(self, node: Any, arguments: list[Any], name: str) -> Map:
        _, axis, start, end, step = arguments
        side = shape_of(node.args[0])[axis]
        start, end = start or 0, side if end is None else min(end, side)
        if step != 1 or not 0 <= start < end:
            raise unsupported(node, "LiteRT")
        return self._part(self.values[node.args[0]], axis, start, end, name)

    def _part(self, x: Map, axis: int, start: int, end: int, name: str) -> Map:
        """The part from `start` to before `end` along one of torch's axes."""
        tensor, rank = self.last(x), len(x.tensor.shape)
        place = PLACE[axis % 4] if rank == 4 else axis % rank
        if end - start == tensor.shape[place]:
            return x
        begin, size = [0] * rank, list(tensor.shape)
        begin[place], size[place] = start, end - start
        inputs = [tensor, integers(begin, f"{name}/begin"), integers(size, f"{name}/size")]
        return Map(self.add("SLICE", inputs, size, name), rank == 4)

    def reshape(self, node: Any, arguments: list[Any], name: str) -> Map:
        x: Map = self.values[node.args[0]]
        shape = shape_of(node)
        # of a single pixel both orders of axes are the same numbers in a row
        pixel = x.last and x.tensor.shape[1:3] == (1, 1) and len(shape) == 2
        inputs = [x.tensor if pixel else self.plain(x), integers(shape, f"{name}/shape")]
        return Map(self.add("RESHAPE", inputs, shape, name, newShape=list(shape)), False)

    def permute(self, node: Any, arguments: list[Any], name: str) -> Map:
        return Map(self.transpose(self.plain(self.values[node.args[0]]), arguments[1], name), False)

    def maximum(self, node: Any, arguments: list[Any], name: str) -> Map:
        """Along axes."""
        x = self.plain(self.values[node.args[0]])
        axes = integers([axis % len(x.shape) for axis in arguments[1]], f"{name}/axes")
        return Map(self.add("REDUCE_MAX", [x, axes], shape_of(node), name, keepDims=arguments[2]), False)


# What writes a node: (writer, node, all its arguments, name of its output) -> its map or maps.
HANDLERS: dict[Any, Callable[[_Writer, Any, list[Any], str], Any]] = {
    aten.leaky_relu.default: _Writer.leaky_relu,
    aten.gelu.default: _Writer.gelu,
    aten.elu.default: _Writer.elu,
    aten.selu.default: _Writer.selu,
    aten.silu.default: _Writer.silu,
    aten.mish.default: _Writer.mish,
    aten.prelu.default: _Writer.prelu,
    aten.clamp.default: _Writer.clamp,
    aten.hardtanh.default: _Writer.clamp,
    aten.conv2d.default: _Writer.convolution,
    aten.linear.default: _Writer.linear,
    aten.max_pool2d.default: _Writer.max_pool,
    aten.avg_pool2d.default: _Writer.average_pool,
    aten.pad.default: _Writer.padding,
    aten.adaptive_avg_pool2d.default: _Writer.mean,
    aten.mean.dim: _Writer.mean,
    aten.upsample_nearest2d.vec: _Writer.upsample,
    **dict.fromkeys(ARITHMETIC, _Writer.arithmetic),
    aten.cat.default: _Writer.concatenation,
    aten.chunk.default: _Writer.chunks,
    aten.slice.Tensor: _Writer.slice,
    aten.flatten.using_ints: _Writer.reshape,
    aten.reshape.default: _Writer.reshape,
    aten.view.default: _Writer.reshape,
    aten.permute.default: _Writer.permute,
    aten.amax.default: _Writer.maximum,
}


def constant(values: NDArray[Any] | torch.Tensor, name: str) -> Tensor:
    array = np.ascontiguousarray(values.numpy() if isinstance(values, torch.Tensor) else values)
    return Tensor(name, array.shape, array, str(array.dtype))


def integers(numbers: Sequence[int] | Sequence[Sequence[int]], name: str) -> Tensor:
    return constant(np.array(numbers, np.int32), name)


def scalar(value: float, name: str) -> Tensor:
    return constant(np.array([value], np.float32), name)


def last_shape(node: Any) -> tuple[int, ...]:
    """(N, H, W, C) of a node's map."""
    n, c, h, w = shape_of(node)
    return n, h, w, c


def _both(numbers: Sequence[int]) -> list[int]:
    """A number for rows and one for columns."""
    return [*numbers] * (3 - len(numbers))


def _constant_of(node: Any, values: dict[Any, Any]) -> Any:
    """torch's tensor, or tensors, that a node gives whatever the picture is; None where it depends on it."""
    if node.target is aten.ones_like.default:
        return torch.ones(shape_of(node))
    if not all(isinstance(values[each], torch.Tensor) for each in node.all_input_nodes):
        return None
    return node.target(*torch.fx.node.map_arg(node.args, values.__getitem__), **node.kwargs)
