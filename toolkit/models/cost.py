"""Cost of a network, per layer: parameters, multiply-adds, darknet's BFLOPs, memory, receptive field."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, fx, nn

from toolkit.models.blocks import ConvBNAct, LinearBN, MaxPool, Shortcut
from toolkit.models.darknet.layers import Blur, LocalAvgPool, Reorg, SharedConv, WeightedShortcut
from toolkit.models.network import TorchNetwork
from toolkit.tables import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer for one picture.

    `stride` and `receptive_field` follow the spatial path: squeeze-and-excite, which sees the whole picture
    through its average, does not count.
    """

    name: str
    kind: str  # as in a cfg, and "depthwise"
    input_shape: tuple[int, ...]  # C, H, W of the first input
    output_shape: tuple[int, ...]
    params: int  # floats in a weights file: batch norm counts four per channel
    macs: int
    bflops: float  # darknet's count
    stride: float
    receptive_field: int  # side in px of the network input
    live_bytes: int  # of float32 feature maps that exist while it runs


@dataclass(frozen=True)
class HeadCost:
    """Receptive field and output of one head."""

    stride: int
    receptive_field: int  # side in px of the network input
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Cost(Shown):
    """Totals for one picture at `input_size` (w, h), and the layers in running order. As a table: the layers.

    >>> from toolkit import create_model
    >>> measure(create_model("yoloface-50k")).caption()
    '56x56: 11,248 parameters, 1.03 MMAC (0.002 BFLOPs), 0.12 MB of feature maps at once'
    """

    picture_alone: ClassVar[bool] = True

    input_size: tuple[int, int]
    params: int
    macs: int
    bflops: float
    peak_memory: int  # bytes of float32 feature maps at the worst moment
    heads: tuple[HeadCost, ...]
    layers: tuple[LayerCost, ...]

    def caption(self) -> str:
        """The totals."""
        width, height = self.input_size
        return (
            f"{width}x{height}: {self.params:,} parameters, {self.macs / 1e6:.3g} MMAC ({self.bflops:.3f} "
            f"BFLOPs), {self.peak_memory / 1e6:.2g} MB of feature maps at once"
        )

    def columns(self) -> dict[str, list[object]]:
        """The layers."""
        rows = self.layers
        return {
            "layer": [row.name for row in rows],
            "kind": [row.kind for row in rows],
            "output": ["x".join(map(str, row.output_shape)) for row in rows],
            "parameters": [row.params for row in rows],
            "MMAC": [round(row.macs / 1e6, 3) for row in rows],
            "receptive field, px": [row.receptive_field for row in rows],
        }

    def figure(self) -> Figure:
        """Multiply-adds, parameters and memory layer by layer."""
        from toolkit import viz

        quantities: dict[str, list[float]] = {
            "MMAC": [row.macs / 1e6 for row in self.layers],
            "parameters": [row.params for row in self.layers],
            "feature maps, MB": [row.live_bytes / 1e6 for row in self.layers],
        }
        return viz.layer_profile([row.kind for row in self.layers], quantities, "layer")


class Costs(dict[str, Cost], Shown):
    """Costs by the names of networks, to be compared."""

    def columns(self) -> dict[str, list[str]]:
        """A row for each network."""
        costs = self.values()
        return {
            "network": list(self),
            "input": ["{}x{}".format(*cost.input_size) for cost in costs],
            "parameters": [f"{cost.params:,}" for cost in costs],
            "MMAC": [f"{cost.macs / 1e6:.1f}" for cost in costs],
            "BFLOPs": [f"{cost.bflops:.3f}" for cost in costs],
            "feature maps, MB": [f"{cost.peak_memory / 1e6:.2f}" for cost in costs],
        }

    def figure(self) -> Figure:
        """Multiply-adds by size, on a logarithmic axis, on which small networks can be seen."""
        from toolkit import viz

        names = sorted(self, key=lambda name: self[name].macs)
        millions = [self[name].macs / 1e6 for name in names]
        title = "Multiply-adds of a picture"
        return viz.dots(names, millions, xlabel="MMAC", title=title, form="{:,.4g}")


# torch.fx changes how modules are called while it traces, in every thread: who runs networks of shapes waits
TRACING = threading.Lock()


# Modules that are one layer of darknet, and torch's own -> their kind.
_KINDS: dict[type[nn.Module], str] = {
    ConvBNAct: "convolutional",
    LinearBN: "connected",
    MaxPool: "maxpool",
    LocalAvgPool: "local_avgpool",
    Shortcut: "shortcut",
    WeightedShortcut: "shortcut",
    Reorg: "reorg",
    Blur: "antialiasing",
    nn.BatchNorm2d: "batchnorm",
    nn.AdaptiveAvgPool2d: "avgpool",
    nn.Upsample: "upsample",
}


class _LayerTracer(fx.Tracer):
    """Keeps a layer of darknet as one node."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, tuple(_KINDS)) or super().is_leaf_module(module, qualified_name)


class _Shapes(fx.Interpreter):
    """Runs the graph on shapes only and records them in the nodes."""

    def call_module(self, target: fx.node.Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(str(target))
        if isinstance(module, ConvBNAct):  # neither the norm nor the activation changes a shape
            return module.conv(*args)
        if isinstance(module, LinearBN):
            return module.linear(*args)
        return super().call_module(target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = tuple(result.shape[1:])
        return result


def _kind(node: fx.Node, module: nn.Module | None) -> str:
    if isinstance(module, ConvBNAct) and 1 < module.conv.groups == module.conv.in_channels:
        return "depthwise"
    kind = next((kind for layer, kind in _KINDS.items() if isinstance(module, layer)), "")
    name = getattr(node.target, "__name__", str(node.target))
    return kind or {"cat": "route", "mul": "scale_channels"}.get(name, "")


def _window(module: nn.Module | None) -> tuple[int, int]:
    """Side of what a cell of the output sees, and stride; the larger where they differ down and across."""
    match module:
        case ConvBNAct():
            size, dilation = module.conv.kernel_size[0], module.conv.dilation[0]
            return dilation * (size - 1) + 1, max(module.conv.stride)
        case MaxPool() | LocalAvgPool():
            return module.size, module.stride
        case Blur():
            return module.kernel.shape[2], max(module.stride)
        case Reorg() if not module.reverse:
            return module.stride, module.stride
    return 1, 1


def _enlargement(module: nn.Module | None, sides: tuple[int, int]) -> float:
    """How much larger the output (second of the sides) of a layer is that enlarges its input."""
    enlarges = isinstance(module, nn.Upsample) or (isinstance(module, Reorg) and module.reverse)
    return sides[1] / sides[0] if enlarges else 1.0


def _receptive_field(node: fx.Node, before: list[fx.Node]) -> int:
    """Side in input px of the receptive field of `node`, at the cell where it is largest: goes backwards
    and counts the neighbouring cells that are needed of each earlier map."""
    cells = {node: 1}
    seen = 1
    for current in [node, *(n for n in reversed(before) if n is not node)]:
        if current not in cells:
            continue
        count, module = cells[current], current.meta.get("module")
        if isinstance(module, nn.AdaptiveAvgPool2d):
            continue
        if isinstance(module, nn.Upsample):
            count = count // 2 + 1 if count > 1 else 1  # at the least favourable position
        size, stride = _window(module)
        count = (count - 1) * stride + size
        if current.op == "placeholder":
            seen = max(seen, count)
        for source in current.all_input_nodes:
            cells[source] = max(cells.get(source, 0), count)
    return seen


def counts(module: nn.Module | None, shape: tuple[int, ...], inputs: int) -> tuple[int, int, int]:
    """Parameters, multiply-adds and further operations of a layer with that output."""
    match module:
        case ConvBNAct():
            per_channel = 4 if module.norm is not None else 1
            params = module.conv.weight.numel() + per_channel * module.conv.out_channels
            params += sum(slopes.numel() for slopes in module.act.parameters())
            macs = module.conv.weight.numel() * shape[1] * shape[2]
            return 0 if isinstance(module, SharedConv) else params, macs, 0
        case LinearBN():
            per_channel = 5 if module.norm is not None else 1
            weights = module.linear.weight.numel()
            return weights + per_channel * shape[0], weights, 0
        case MaxPool() | LocalAvgPool():
            return 0, 0, module.size**2 * prod(shape)
        case Shortcut():
            return 0, 0, prod(shape) * (inputs - 1)
        case WeightedShortcut():
            return module.weight.numel(), 0, 2 * prod(shape) * (inputs - 1)
        case nn.BatchNorm2d():
            return 4 * module.num_features, 0, 0
    return 0, 0, 0


def measure(model: TorchNetwork, input_size: tuple[int, int] | None = None) -> Cost:
    """Cost of a network for one picture, counted on shapes; nothing is computed.

    BFLOPs are darknet's count: twice the multiply-adds of convolutions and connected layers, size^2 per
    max-pool output and one per shortcut output, in units of 1e9.

    Args:
        model: a torch network of this package.
        input_size: (w, h) in px; the network's own by default.

    Returns:
        Totals, a row per layer in running order and a row per head.

    Raises:
        InputError: the network does not accept this size.

    >>> from toolkit.models.zoo import create_model
    >>> cost = measure(create_model("yoloface-50k"))
    >>> cost.params, cost.macs, round(cost.bflops, 4), cost.layers[0].output_shape
    (11248, 1029000, 0.0023, (8, 28, 28))
    """
    size = model.io.check_size(input_size or model.io.input_size)
    shadow = copy.deepcopy(model).eval().to("meta")
    with TRACING, torch.no_grad():
        graph = _LayerTracer().trace(shadow)
        _Shapes(fx.GraphModule(shadow, graph)).run(
            torch.empty(1, model.io.channels, size[1], size[0], device="meta")
        )

    nodes = list(graph.nodes)
    last_use = {source: i for i, node in enumerate(nodes) for source in node.all_input_nodes}
    strides: dict[fx.Node, float] = {}
    live: set[fx.Node] = set()
    rows: list[LayerCost] = []
    for i, node in enumerate(nodes):
        sources = [source for source in node.all_input_nodes if "shape" in source.meta]
        if "shape" not in node.meta:
            continue
        module = shadow.get_submodule(node.target) if node.op == "call_module" else None
        shape = node.meta["shape"]
        kind = _kind(node, module)
        node.meta["module"] = module
        strides[node] = max((strides[source] for source in sources), default=1.0)
        strides[node] *= _window(module)[1]
        if sources:
            strides[node] /= _enlargement(module, (sources[0].meta["shape"][-1], shape[-1]))

        live.add(node)
        live_bytes = sum(4 * prod(n.meta["shape"]) for n in live)
        live -= {n for n in live if last_use.get(n, -1) <= i and n is not node}

        params, macs, extra = counts(module, shape, len(sources))
        if kind:
            rows.append(
                LayerCost(
                    name=str(node.target) if module is not None else node.name,
                    kind=kind,
                    input_shape=sources[0].meta["shape"],
                    output_shape=shape,
                    params=params,
                    macs=macs,
                    bflops=(2 * macs + extra) / 1e9,
                    stride=strides[node],
                    receptive_field=_receptive_field(node, nodes[:i]),
                    live_bytes=live_bytes,
                )
            )
    outputs = nodes[-1].all_input_nodes
    heads = tuple(
        HeadCost(head.stride, _receptive_field(node, nodes), node.meta["shape"])
        for head, node in zip(
            model.io.heads, outputs, strict=False
        )  # a landmark network has an output but no head
    )
    return Cost(
        input_size=size,
        params=sum(row.params for row in rows),
        macs=sum(row.macs for row in rows),
        bflops=sum(row.bflops for row in rows),
        peak_memory=max(row.live_bytes for row in rows),
        heads=heads,
        layers=tuple(rows),
    )
