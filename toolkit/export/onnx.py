"""ONNX: raw head maps, batch dimension free, one file."""

from __future__ import annotations

import ast
import contextlib
import io as textio
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.models.detector import Detector
from toolkit.models.spec import ModelIO
from toolkit.runtime import InputError, require

INPUT = "images"


def export(model: Detector, folder: Path, size: tuple[int, int]) -> list[Path]:
    """Write `model.onnx` into `folder` for inputs of `size` (w, h); the batch is free. -> [file]."""
    require("onnxscript", "export")
    outputs = [f"map{i}" for i in range(len(model.io.heads))]
    x = torch.zeros(2, 3, size[1], size[0])
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
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    path = folder / "model.onnx"
    assert program is not None
    proto = program.model_proto
    _name_by_module(proto)
    path.write_bytes(proto.SerializeToString())
    return [path]


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


class OnnxModel:
    """An ONNX file in onnxruntime: `.io` and `.predict` as every backend has them."""

    def __init__(self, path: Path, io: ModelIO, threads: int = 0):
        runtime = require("onnxruntime", "export")
        self.path, self.io = path, io
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"onnxruntime cannot open {path}: {str(error).splitlines()[0]}") from None
        given = self.session.get_inputs()
        if len(given) != 1 or len(self.session.get_outputs()) != len(io.heads):
            raise InputError(
                f"{path} has not one input and {len(io.heads)} outputs: it is no export of this toolkit"
            )
        self.input = given[0].name
        self.shape = tuple(given[0].shape[2:])

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W) at the exported size -> raw head maps."""
        if x.shape[2:] != self.shape:
            raise InputError(
                f"{self.path.name} takes {self.shape[1]}x{self.shape[0]}, not {x.shape[3]}x{x.shape[2]}: "
                "export it again with --size"
            )
        return self.session.run(None, {self.input: np.ascontiguousarray(x)})

    def layers(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What every convolution gives after its activation, in the order in which they run."""
        onnx = require("onnx", "export")
        runtime = require("onnxruntime", "export")
        graph_model = onnx.load(str(self.path))
        graph = graph_model.graph
        activations = {"Relu", "LeakyRelu", "Sigmoid", "Clip", "HardSwish", "Mish"}
        names = []
        for node in graph.node:
            if node.op_type == "Conv":
                follow = [n for n in graph.node if node.output[0] in n.input]
                single = len(follow) == 1 and follow[0].op_type in activations
                names.append(follow[0].output[0] if single else node.output[0])
        have = {output.name for output in graph.output}
        graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in dict.fromkeys(names)
            if name not in have
        )
        session = runtime.InferenceSession(
            graph_model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(names, {self.input: x})
