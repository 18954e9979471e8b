"""What a network offers on any engine, and what all torch networks share."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.models.blocks import ConvBNAct, LinearBN
from toolkit.models.decode import Boxes, Floats, Suppression, decode, suppress
from toolkit.models.io import LandmarkIO, ModelIO, NetworkIO

Module = TypeVar("Module", bound=nn.Module)


class Network(Protocol):
    """A network on any engine: torch, or an exported file opened again."""

    @property
    def io(self) -> NetworkIO: ...

    def predict(self, x: Floats) -> list[Floats]:
        """float32 (N, 3, H, W) -> the raw outputs, N rows each."""
        ...


class Detecting(Protocol):
    """A detector on any engine."""

    @property
    def io(self) -> ModelIO: ...

    def predict(self, x: Floats) -> list[Floats]:
        """float32 (N, 3, H, W) -> raw head maps (N, A * (5 + C), h, w), coarsest first."""
        ...

    def find(self, x: Floats, settings: Suppression) -> list[Boxes]:
        """float32 (N, 3, H, W) -> detections of each picture, boxes xyxy relative to the input."""
        ...

    def at_once(self) -> AbstractContextManager[int]:
        """Inside, `predict` and `find` may be called from so many threads at once."""
        ...


class Landmarking(Protocol):
    """A landmark network on any engine."""

    @property
    def io(self) -> LandmarkIO: ...

    def predict(self, x: Floats) -> list[Floats]:
        """float32 (N, 3, H, W) of faces cut out -> [(N, 2 points)]."""
        ...


@runtime_checkable
class ShowsLayers(Protocol):
    """A network whose inner feature maps can be compared."""

    def layer_outputs(self, x: Floats) -> list[Floats]:
        """What every convolution gives after its activation, in running order, for x (1, 3, H, W)."""
        ...


class FromMaps:
    """`find` and `at_once` for a detector that gives raw maps: the one decoding, one call at a time."""

    io: Any
    predict: Any

    def find(self, x: Floats, settings: Suppression) -> list[Boxes]:
        """float32 (N, 3, H, W) -> detections of each picture, boxes xyxy relative to the input."""
        return [suppress(each, settings) for each in decode(self.predict(x), self.io, settings.conf)]

    def at_once(self) -> AbstractContextManager[int]:
        """Most engines take their threads from one pool: one call at a time."""
        return nullcontext(1)


class TorchNetwork(nn.Module):
    """What every torch network here offers. `forward(x)`: (N, 3, H, W) -> list of outputs."""

    io: Any

    def predict(self, x: Floats) -> list[Floats]:
        """Numpy in, numpy out, in evaluation mode and without gradients."""
        return infer(self, x)

    @contextmanager
    def at_once(self) -> Iterator[int]:
        """On a CPU as many threads as torch has: for small networks one core each is faster than all cores
        on one batch. In evaluation mode, which a call by itself would set and set back."""
        with evaluating(self):
            yield torch.get_num_threads() if next(self.parameters()).device.type == "cpu" else 1

    def named_layers(self, x: Floats) -> dict[str, Floats]:
        """Every convolution's name and what it gives after its activation, in running order."""
        outputs: dict[str, Floats] = {}

        def keeping(name: str) -> Any:
            def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
                outputs[name] = output.detach().float().cpu().numpy().copy()

            return keep

        hooks = [
            module.register_forward_hook(keeping(name))
            for name, module in self.named_modules()
            if isinstance(module, ConvBNAct)
        ]
        try:
            self.predict(x)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs

    def layer_outputs(self, x: Floats) -> list[Floats]:
        """What every convolution gives after its activation, in running order."""
        return list(self.named_layers(x).values())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block, the mode it had afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def infer(model: nn.Module, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The outputs of a torch network for (N, 3, H, W), in evaluation mode and without gradients."""
    with evaluating(model), torch.inference_mode():
        like = next(model.parameters())
        batch = torch.from_numpy(x).to(like.device, like.dtype)
        outputs = model(batch.to(memory_format=torch.channels_last))  # 3 x faster on a CPU
    return [output.cpu().numpy() for output in outputs]


def fold(model: Module) -> Module:
    """A copy for inference with every batch norm folded, in float64, into the layer before it."""
    model = copy.deepcopy(model).eval()
    for block in model.modules():
        if isinstance(block, (ConvBNAct, LinearBN)) and block.norm is not None:
            layer, norm = block.conv if isinstance(block, ConvBNAct) else block.linear, block.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            shift = norm.bias.double() - norm.running_mean.double() * gain
            if layer.bias is not None:
                shift += layer.bias.double() * gain
            per_filter = gain.view(-1, *[1] * (layer.weight.ndim - 1))
            layer.bias = nn.Parameter(shift.to(layer.weight.dtype))
            layer.weight = nn.Parameter((layer.weight.double() * per_filter).to(layer.weight.dtype))
            block.norm = None
    return model
