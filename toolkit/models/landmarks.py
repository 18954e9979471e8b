"""Landmark networks: face points by regression, with weights from Caffe and ncnn files.

The published one, landmark106, has MobileNetV2-like bottlenecks with PReLU; its input is a face crop, see
`LandmarkIO`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.models.blocks import ConvBNAct, InvertedResidual, LinearBN
from toolkit.models.bounds import MOST_POINTS
from toolkit.models.caffe_file import read_caffemodel
from toolkit.models.io import LandmarkIO
from toolkit.models.ncnn_file import Floats, Layer, read_model
from toolkit.models.network import TorchNetwork, fold
from toolkit.models.spec import WIDTHS, check_number, sides_of
from toolkit.runtime import InputError

STRIDE = 16  # of the last feature map, which the final convolution covers whole

# Channels and residual blocks of each stage; a depthwise convolution of stride 2 leads to the next stage.
STAGES = ((8, 1), (16, 2), (32, 3), (64, 2))


@dataclass(frozen=True)
class LandmarkSpec:
    """A landmark network. `width` is a factor on all channels, `input_size` (w, h) is square.

    Raises InputError unless the side is a multiple of 16 of at least 32, and points and width are above 0 and
    within bounds.

    >>> LandmarkSpec("small", points=68, width=0.5).io.summary
    '68 points'
    """

    name: str
    points: int = 106
    width: float = 1.0
    input_size: tuple[int, int] = (112, 112)

    def __post_init__(self) -> None:
        check_number("points", self.points, 1, MOST_POINTS)
        check_number("width", self.width, *WIDTHS)
        width, height = self.input_size
        if width != height or width < 2 * STRIDE or width % STRIDE:
            raise InputError(
                f"the input of a landmark network must be square, its side a multiple of {STRIDE} from "
                f"{2 * STRIDE} on, not {width}x{height}"
            )

    def scaled(self, channels: int) -> int:
        """Channels under the width multiplier."""
        return max(1, round(channels * self.width))

    @property
    def io(self) -> LandmarkIO:
        return LandmarkIO(self.input_size, self.points)


LANDMARK_SPECS = {"landmark106": LandmarkSpec("landmark106")}


def change_landmarks(spec: LandmarkSpec, **changes: Any) -> LandmarkSpec:
    """A new spec. Keys are its fields; `input_size` is a side or (w, h). InputError for any other key."""
    unknown = sorted(set(changes) - {field.name for field in fields(LandmarkSpec)})
    if unknown:
        raise InputError(
            f"unknown change {unknown[0]!r}: a landmark network has points, width and input_size"
        )
    if "input_size" in changes:
        changes["input_size"] = sides_of(changes["input_size"])
    if "points" in changes:
        check_number("points", changes["points"], 1, MOST_POINTS)
        changes["points"] = int(changes["points"])
    return replace(spec, **changes)


class LandmarkNet(TorchNetwork):
    """The network of a `LandmarkSpec`. Shapes are those of landmark106."""

    io: LandmarkIO

    def __init__(self, spec: LandmarkSpec):
        super().__init__()
        self.spec, self.io = spec, spec.io
        c = spec.scaled(STAGES[0][0])
        self.stem = ConvBNAct(3, c, 3, 2, activation="prelu")
        stages: list[nn.Module] = []
        for i, (channels, blocks) in enumerate(STAGES):
            c_next = spec.scaled(channels)
            if i:
                stages.append(InvertedResidual(c, c_next, c_next, "prelu", residual=False, stride=2))
            stages += [InvertedResidual(c_next, c_next, c_next, "prelu") for _ in range(blocks)]
            c = c_next
        self.stages = nn.Sequential(*stages)
        whole = spec.input_size[0] // STRIDE
        widths = [spec.scaled(n) for n in (64, 128, 256)]
        self.summary = nn.Sequential(
            ConvBNAct(c, widths[0], whole, padding=0, activation="prelu"),
            ConvBNAct(widths[0], widths[1], activation="prelu"),
            ConvBNAct(widths[1], widths[2], activation="prelu"),
        )
        self.points = LinearBN(widths[2], 2 * spec.points)
        # A head for the uncertainty of each point, used in training only (toolkit.training.landmarks).
        self.spread: nn.Linear | None = None
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
                module.eps = 1e-3  # as the published weights were trained

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, 112, 112) -> (N, 256)."""
        features: Tensor = self.summary(self.stages(self.stem(x)))
        return features.flatten(1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, 112, 112) -> [(N, 212)], a list like the maps of a detector; with `spread` followed by
        its (N, 106)."""
        features = self.features(x)
        points = self.points(features)
        return [points] if self.spread is None else [points, self.spread(features)]


def load_landmark_weights(model: LandmarkNet, path: str | Path) -> LandmarkNet:
    """Load the weights of a .caffemodel, or of an ncnn .param with its .bin next to it.

    Args:
        model: a landmark network with batch norms.
        path: the .caffemodel or .param file.

    Returns:
        `model`; for an ncnn file, whose batch norms are folded, a copy without batch norms.

    Raises:
        InputError: the file is damaged or belongs to another network; `model` is then unchanged.
    """
    path = Path(path)
    if path.suffix == ".caffemodel":
        stored = [(layer.kind, layer.blobs) for layer in read_caffemodel(path)]
        slots = [slot for block in _blocks(model) for slot in _caffe_slots(block)]
    else:
        model = fold(model)
        layers = [layer for layer in read_model(path, path.with_suffix(".bin")) if _arrays(layer)]
        stored = [(layer.kind, _arrays(layer)) for layer in layers]
        slots = [slot for block in _blocks(model) for slot in _ncnn_slots(block)]
    same = [
        kind == other and [t.numel() for t in tensors] == [a.size for a in arrays]
        for (kind, tensors), (other, arrays) in zip(slots, stored, strict=False)
    ]
    if not all(same) or len(slots) != len(stored):
        at = same.index(False) if not all(same) else min(len(slots), len(stored))
        raise InputError(
            f"{path.name} belongs to another network than {model.spec.name}: expected {_text(slots, at)} as "
            f"layer {at + 1} with weights, found {_text(stored, at)}"
        )
    with torch.no_grad():
        for (_, tensors), (kind, arrays) in zip(slots, stored, strict=True):
            factor = 1 / arrays[2].item() if kind == "BatchNorm" and arrays[2].item() else 1.0
            for tensor, array in zip(tensors, arrays, strict=True):
                tensor.copy_(torch.from_numpy(array * np.float32(factor)).view(tensor.shape))
    return model


def _blocks(model: LandmarkNet) -> list[ConvBNAct | LinearBN]:
    """In running order."""
    return [module for module in model.modules() if isinstance(module, (ConvBNAct, LinearBN))]


def _caffe_slots(block: ConvBNAct | LinearBN) -> Iterator[tuple[str, list[Tensor]]]:
    """Kind of each Caffe layer of a block, and the tensors of its blobs."""
    norm = block.norm
    if norm is None:
        raise InputError(
            "a .caffemodel does not fit a network with folded batch norms: create the network again"
        )
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if isinstance(block, LinearBN):
        yield "InnerProduct", [block.linear.weight, block.linear.bias]
    else:
        yield "Convolution", [block.conv.weight]
    # Caffe stores sums of mean and variance, and their divisor
    yield "BatchNorm", [norm.running_mean, norm.running_var, torch.zeros(1)]
    yield "Scale", [norm.weight, norm.bias]
    if isinstance(block, ConvBNAct) and isinstance(block.act, nn.PReLU):
        yield "PReLU", [block.act.weight]


def _ncnn_slots(block: ConvBNAct | LinearBN) -> Iterator[tuple[str, list[Tensor]]]:
    """The same for an ncnn file and a folded block."""
    if isinstance(block, LinearBN):
        yield "InnerProduct", [block.linear.weight, block.linear.bias]
        return
    assert block.conv.bias is not None
    kind = "ConvolutionDepthWise" if block.conv.groups > 1 else "Convolution"
    yield kind, [block.conv.weight, block.conv.bias]
    if isinstance(block.act, nn.PReLU):
        yield "PReLU", [block.act.weight]


def _arrays(layer: Layer) -> tuple[Floats, ...]:
    return tuple(array for array in (layer.weight, layer.bias, layer.slopes) if array is not None)


def _text(slots: Sequence[tuple[str, Sequence[Tensor | Floats]]], i: int) -> str:
    if i >= len(slots):
        return "nothing"
    kind, arrays = slots[i]
    sizes = " + ".join(str(a.numel() if isinstance(a, Tensor) else a.size) for a in arrays)
    return f"{kind} with {sizes} numbers"
