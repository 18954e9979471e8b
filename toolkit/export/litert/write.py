"""LiteRT files of a torch network: float32, weights of half precision, and whole numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.export.litert import int8
from toolkit.export.litert.file import Graph, Operator, Scale, Tensor, save, tensor_order
from toolkit.export.litert.graph import build
from toolkit.export.litert.model import LiteRtModel, open_interpreter
from toolkit.files import temporary_folder, whole_file
from toolkit.models.io import NetworkIO
from toolkit.models.network import TorchNetwork

METADATA = "toolkit.io"  # name of the entry that has the network's io as JSON: classes, anchors, colours
MARGIN = 0.25  # of the range of points, on each side: those of other faces lie further out
JUDGES = 16  # calibration pictures on which the methods are compared


def export(
    model: TorchNetwork, folder: Path, io: NetworkIO, precision: str, samples: NDArray[np.float32]
) -> list[Path]:
    """Write `model-<precision>.tflite` into `folder`. -> [file].

    The input is `images` (1, h, w, channels), outputs are `map0`, `map1`, ..., coarsest first; nothing is
    transposed on the way. "fp16" stores the weights of convolutions in half precision; arithmetic is
    float32 unless an engine is told otherwise. "int8" is whole numbers throughout (see `int8`): uint8 in,
    which are the pixels as they are where the mean is a whole number, int8 out, with a scale and a zero
    point each, which file and spec.json have.

    Args:
        model: with its batch norms folded.
        folder: where the file goes.
        io: of the network, at the size that the file is for.
        precision: "fp32", "fp16" or "int8".
        samples: network inputs (N, C, H, W) for int8.

    Raises:
        InputError: the network uses an operator that is not written here.
    """
    graph = build(model, io.input_size)
    if precision == "fp16":
        graph = halved(graph)
    elif precision == "int8":
        graph = _quantised(graph, io, samples)
    path = folder / f"model-{precision}.tflite"
    with whole_file(path) as temporary:
        _save(graph, temporary, io)
    return [path]


def _save(graph: Graph, path: Path, io: NetworkIO) -> None:
    save(graph, path, {METADATA: json.dumps(io.as_dict()).encode()}, io.summary)


def halved(graph: Graph) -> Graph:
    """The graph with weights of convolutions and of fully connected layers in half precision."""
    operators = []
    for each in graph.operators:
        if each.kind in int8.CONVOLUTIONS:
            for tensor in each.inputs[1:]:
                assert tensor.values is not None
                half = Tensor(
                    f"{tensor.name}/half", tensor.shape, tensor.values.astype(np.float16), "float16"
                )
                tensor.values = None
                operators.append(Operator("DEQUANTIZE", [half], [tensor]))
        operators.append(each)
    return Graph(operators, graph.inputs, graph.outputs)


def _quantised(graph: Graph, io: NetworkIO, samples: NDArray[np.float32]) -> Graph:
    """The graph in whole numbers, by the method whose outputs are closest to float32 on some pictures."""
    judges = samples[np.linspace(0, len(samples) - 1, min(JUDGES, len(samples))).round().astype(int)]
    entry = Scale(np.array([io.scale], np.float32), round(io.mean))
    with temporary_folder() as work:
        path = work / "trial.tflite"

        def observer() -> int8.Observer:
            _save(graph, path, io)
            return int8.Observer(open_interpreter(path, keep=True), graph, tensor_order(graph))

        def outputs(candidate: Graph) -> Sequence[Sequence[NDArray[np.float32]]]:
            _save(candidate, path, io)
            opened = LiteRtModel(path, io)
            return [opened.predict(x[None]) for x in judges]

        expected = outputs(graph)
        int8.equalise(graph, observer().measure(samples))
        equal = observer()
        found = equal.measure(samples)
        equal.count(samples, found)
        margin = MARGIN if io.task == "landmarks" else 0.0
        candidates = [int8.quantised(graph, found, method, entry, margin) for method in int8.METHODS]
        errors = [io.output_error(expected, outputs(candidate)) for candidate in candidates]
    return candidates[int(np.argmin(errors))]
