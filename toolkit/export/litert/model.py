"""A LiteRT file in the wheel ai-edge-litert, whose interpreter runs it with XNNPACK."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from toolkit.export.litert.file import read_operators
from toolkit.machine import allowed_cores
from toolkit.models.io import NetworkIO
from toolkit.models.network import FromMaps, check_exported_size
from toolkit.runtime import InputError, engine_lines, require
from toolkit.text import one_line


def open_interpreter(path: Path, threads: int = 0, keep: bool = False) -> Any:
    """LiteRT's interpreter with a file.

    Args:
        path: the file.
        threads: 0 takes as many as there are cores.
        keep: inner tensors can be read afterwards; without XNNPACK, whose are its own.

    Raises:
        InputError: it does not open.
    """
    module = require("ai_edge_litert.interpreter", "export")
    settings: dict[str, Any] = {"num_threads": threads or allowed_cores()}
    if keep:
        plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        settings |= {"experimental_op_resolver_type": plain, "experimental_preserve_all_tensors": True}
    with engine_lines():
        try:
            interpreter = module.Interpreter(str(path), **settings)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"LiteRT cannot open {path}: {one_line(str(error), 300)}") from None
    return interpreter


class LiteRtModel(FromMaps):
    """A .tflite file: `.io` and `.predict` as every backend has them."""

    def __init__(self, path: Path, io: NetworkIO, threads: int = 0):
        if not path.is_file():
            raise InputError(f"there is no {path}: expected a .tflite file made by toolkit export")
        self.path, self.io = path, io
        self.interpreter = open_interpreter(path, threads)
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        maps = {each["name"]: each for each in outputs}
        names = [f"map{i}" for i in range(io.outputs)]
        width, height = io.input_size
        shape = (1, height, width, io.channels)
        if len(inputs) != 1 or tuple(inputs[0]["shape"]) != shape or not set(names) <= set(maps):
            raise InputError(
                f"{path} is no export of this network: expected an input {shape} and {', '.join(names)}"
            )
        self.input, self.outputs = inputs[0], [maps[name] for name in names]

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, C, H, W) at the exported size -> raw head maps. Pictures run one after the other."""
        check_exported_size(x, self.io, self.path.name)
        rows = [self._run(self.interpreter, chw, self.outputs) for chw in x]
        return [np.concatenate(maps) for maps in zip(*rows, strict=True)]

    def layer_outputs(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What every convolution gives after its activation, in the order in which they run."""
        rows = read_operators(self.path)
        names = {name for _, name in rows}
        convolutions = [name for kind, name in rows if kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
        activations = [f"{name.removesuffix('.conv')}.act" for name in convolutions]
        wanted = [
            after if after in names else name
            for name, after in zip(convolutions, activations, strict=True)
            if name.endswith(".conv") or name.startswith("map")
        ]
        interpreter = open_interpreter(self.path, keep=True)
        tensors = {each["name"]: each for each in interpreter.get_tensor_details()}
        return self._run(interpreter, x[0], [tensors[name] for name in wanted])

    def _run(
        self, interpreter: Any, chw: NDArray[np.float32], wanted: list[Any]
    ) -> list[NDArray[np.float32]]:
        interpreter.set_tensor(self.input["index"], _numbers(chw.transpose(1, 2, 0)[None], self.input))
        interpreter.invoke()
        return [_values(interpreter.get_tensor(each["index"]), each) for each in wanted]


def _numbers(x: NDArray[np.float32], tensor: Any) -> NDArray[Any]:
    """Values as the numbers of a tensor, which may be whole ones."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return np.ascontiguousarray(x, np.float32)
    bounds = np.iinfo(tensor["dtype"])
    numbers: NDArray[Any] = np.rint(x / np.float32(scale) + zero_point).clip(bounds.min, bounds.max)
    return numbers.astype(tensor["dtype"])


def _values(numbers: NDArray[Any], tensor: Any) -> NDArray[np.float32]:
    """The values of a tensor's numbers, maps as (N, C, H, W)."""
    scale, zero_point = tensor["quantization"]
    values = numbers.astype(np.float32)
    if scale:
        values = (values - np.float32(zero_point)) * np.float32(scale)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if values.ndim == 4 else values


@dataclass(frozen=True)
class Numbers:
    """What the whole numbers of an input or output mean: value = scale * (number - zero_point)."""

    dtype: Literal["uint8", "int8"]
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    zero_point: Annotated[int, Field(ge=-128, le=255)]


def whole_numbers(path: Path) -> dict[str, Numbers]:
    """Of the inputs and outputs of a file that are whole numbers, by name."""
    interpreter = open_interpreter(path)
    tensors = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    kinds: dict[Any, Literal["uint8", "int8"]] = {np.uint8: "uint8", np.int8: "int8"}
    return {
        each["name"]: Numbers(kinds[each["dtype"]], *each["quantization"])
        for each in tensors
        if each["quantization"][0]
    }
