"""The graph that torch.export traces of a network, for writers of files that go through its nodes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from toolkit.models.network import TorchNetwork
from toolkit.runtime import InputError


class Traced:
    """A network's nodes in running order, for one picture.

    Attributes:
        nodes: without the placeholders.
        entry: the placeholder of the picture.
        outputs: the nodes whose values the network gives.
        constants: parameters and buffers, by their placeholder.
    """

    def __init__(self, model: TorchNetwork, size: tuple[int, int]) -> None:
        """`model` in evaluation mode, `size` (w, h)."""
        x = torch.zeros(1, model.io.channels, size[1], size[0])
        program = torch.export.export(model, (x,))
        signature = program.graph_signature
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        tensors = {**program.constants, **program.state_dict}
        *nodes, output = program.graph.nodes
        placeholders = [node for node in nodes if node.op == "placeholder"]
        self.nodes = [node for node in nodes if node.op != "placeholder"]
        (self.entry,) = (node for node in placeholders if node.name not in names)
        self.constants: dict[Node, Tensor] = {
            node: tensors[names[node.name]].detach() for node in placeholders if node.name in names
        }
        self.outputs: list[Node] = list(output.args[0])


class Names:
    """A name for each node that is asked for: the path of its torch module, with a number from the second
    node of a module on."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, node: Node) -> str:
        path, _ = module_of(node)
        self._seen[path] += 1
        return path if self._seen[path] == 1 else f"{path}/{self._seen[path]}"


def module_of(node: Node) -> tuple[str, str]:
    """Path and class of the torch module that a node comes from."""
    path, kind = list(node.meta["nn_module_stack"].values())[-1]
    return path or node.name, str(kind).rsplit(".", 1)[-1]


def shape_of(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def arguments_of(node: Any) -> list[Any]:
    """All arguments in the operator's order; torch leaves those out that have their default."""
    rest = node.target._schema.arguments[len(node.args) :]
    return [*node.args, *(node.kwargs.get(a.name, a.default_value) for a in rest)]


def unsupported(node: Node, engine: str) -> InputError:
    """The error for an operator that is not written for an engine."""
    name, (path, kind) = str(node.target).removeprefix("aten.").split(".")[0], module_of(node)
    return InputError(
        f"{name} as {path} ({kind}) uses it is not written for {engine} here: "
        "export this network to ONNX or NCNN"
    )
