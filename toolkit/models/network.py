"""Protocols of a network on any engine, and what all torch networks share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.models.blocks import ConvBNAct, LinearBN
from toolkit.models.decode import Boxes, Floats, Suppression, decode, suppress
from toolkit.models.io import LandmarkIO, ModelIO, NetworkIO
from toolkit.runtime import InputError

Module = TypeVar("Module", bound=nn.Module)


class Network(Protocol):
    """A network on any engine: in torch, or opened from an exported file."""

    @property
    def io(self) -> NetworkIO: ...

    def predict(self, x: Floats) -> list[Floats]:
        """float32 (N, channels, H, W) -> raw outputs, N rows each."""
        ...


class Detecting(Protocol):
    """A detector on any engine."""

    @property
    def io(self) -> ModelIO: ...

    def predict(self, x: Floats) -> list[Floats]:
        """float32 (N, channels, H, W) -> raw head maps (N, A * (5 + C), h, w), coarsest first."""
        ...

    def find(self, x: Floats, settings: Suppression) -> list[Boxes]:
        """float32 (N, channels, H, W) -> detections of each picture, boxes xyxy relative to the input."""
        ...

    def concurrency(self) -> AbstractContextManager[int]:
        """Context with the number of threads that may call `predict` and `find` at the same time."""
        ...


class Landmarking(Protocol):
    """A landmark network on any engine."""

    @property
    def io(self) -> LandmarkIO: ...

    def predict(self, x: Floats) -> list[Floats]:
        """float32 face crops (N, 3, H, W) -> [(N, 2 * points)]."""
        ...


def finds_objects(network: Network) -> TypeGuard[Detecting]:
    """Whether the network is a detector."""
    return network.io.task == "detection"


def places_landmarks(network: Network) -> TypeGuard[Landmarking]:
    """Whether the network places landmarks."""
    return network.io.task == "landmarks"


@runtime_checkable
class ShowsLayers(Protocol):
    """A network that shows its inner feature maps, for comparison layer by layer."""

    def layer_outputs(self, x: Floats) -> list[Floats]:
        """Output of every convolution after its activation, in running order, for x (1, channels, H, W)."""
        ...


class GivesMaps(Protocol):
    """A network whose outputs are raw head maps."""

    @property
    def io(self) -> ModelIO: ...

    def predict(self, x: Floats) -> list[Floats]: ...


class FromMaps:
    """Mixin that completes a detector with raw maps: `find` by the one decoding, one call at a time."""

    def find(self: GivesMaps, x: Floats, settings: Suppression) -> list[Boxes]:
        """float32 (N, channels, H, W) -> detections of each picture, boxes xyxy relative to the input."""
        return [suppress(each, settings) for each in decode(self.predict(x), self.io, settings.conf)]

    def concurrency(self) -> AbstractContextManager[int]:
        """One: most engines take their threads from one pool."""
        return nullcontext(1)


class TorchNetwork(nn.Module):
    """Base of every torch network here. `forward(x)`: (N, channels, H, W) -> list of outputs."""

    io: NetworkIO

    def predict(self, x: Floats) -> list[Floats]:
        """Numpy in, numpy out, in evaluation mode and without gradients."""
        return infer(self, x)

    @contextmanager
    def concurrency(self) -> Iterator[int]:
        """On a CPU as many threads as torch has: with small networks a core per batch is faster than all
        cores on one batch. Evaluation mode holds for the whole context, so no thread changes it."""
        with evaluating(self):
            yield torch.get_num_threads() if next(self.parameters()).device.type == "cpu" else 1

    def named_layers(self, x: Floats) -> dict[str, Floats]:
        """Name of every convolution and its output after the activation, in running order."""
        outputs: dict[str, Floats] = {}

        def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                outputs[name] = output.detach().float().cpu().numpy().copy()

            return record

        hooks = [
            module.register_forward_hook(recorder(name))
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
        """Output of every convolution after its activation, in running order."""
        return list(self.named_layers(x).values())


def check_exported_size(x: Floats, io: NetworkIO, file: str) -> None:
    """InputError where inputs (N, C, H, W) are not of the one size that a file takes."""
    width, height = io.input_size
    if x.shape[2:] != (height, width):
        raise InputError(
            f"{file} takes {width}x{height}, not {x.shape[3]}x{x.shape[2]}: export it again with --size"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the context; the previous mode is restored."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def infer(model: nn.Module, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Outputs for float32 (N, channels, H, W), in evaluation mode and without gradients."""
    with evaluating(model), torch.inference_mode():
        like = next(model.parameters())
        batch = torch.from_numpy(x).to(like.device, like.dtype)
        outputs = model(batch.to(memory_format=torch.channels_last))  # 3 x faster on a CPU
    return [output.cpu().numpy() for output in outputs]


def fold(model: Module) -> Module:
    """Fold every batch norm into the layer before it, for inference.

    Args:
        model: any network made of this package's blocks; it is not changed.

    Returns:
        A copy in evaluation mode without batch norms. Its outputs differ by rounding only: the folding is
        computed in float64.

    >>> from toolkit.models.zoo import create_model
    >>> folded = fold(create_model("yoloface-50k"))
    >>> any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    False
    """
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
