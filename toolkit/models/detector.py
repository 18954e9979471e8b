"""Detectors in torch: the common base, and the detector that is built from a spec."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.models import spec as specs
from toolkit.models.blocks import SPP, ConvBNAct, InvertedResidual, SqueezeExcite, Stage, depthwise
from toolkit.models.decode import Candidates, Floats, decode
from toolkit.models.io import ModelIO
from toolkit.models.network import FromMaps, TorchNetwork
from toolkit.models.spec import DetectorSpec


class Detector(TorchNetwork, FromMaps):
    """Base of every torch detector here. `forward(x)`: (N, channels, H, W) in 0..1 -> list of raw head maps
    (N, A * (5 + C), H / stride, W / stride), coarsest first."""

    io: ModelIO
    output_names: Sequence[str]  # of the module that gives each map, in the order of the maps

    def decode(self, maps: Sequence[Tensor] | Sequence[Floats], conf: float = 0.25) -> list[Candidates]:
        """Raw head maps -> boxes above `conf` in each picture, before suppression; see `decode.decode`."""
        return decode(maps, self.io, conf)

    def output_layers(self) -> list[ConvBNAct]:
        """The convolution that gives each map, in the order of the maps; a map that is something else, as a
        cfg may have it, is left out."""
        layers = [self.get_submodule(name) for name in self.output_names]
        return [layer for layer in layers if isinstance(layer, ConvBNAct)]


class DetectionHead(nn.Module):
    """Body and map of a head, after the optional `reduce` -> upsample -> concatenate."""

    def __init__(self, spec: DetectorSpec, head: specs.Head, c_in: int, c_tap: int, c_lateral: int):
        super().__init__()
        act = spec.activation
        self.reduce = ConvBNAct(c_tap, spec.scaled(head.reduce), activation=act) if head.reduce else None
        self.upsample = nn.Upsample(scale_factor=2.0, mode="nearest") if c_lateral else None
        c = c_in
        if c_lateral:
            c = c_lateral + (spec.scaled(head.reduce) if head.reduce else c_tap)
        layers: list[nn.Module] = []
        widths = []
        for layer in head.body:
            match layer:
                case specs.Conv(channels, linear):
                    width = spec.scaled(channels)
                    layers.append(ConvBNAct(c, width, activation="linear" if linear else act))
                    c = width
                case specs.Depthwise():
                    layers.append(depthwise(c, activation=act))
                case specs.SE(ratio):
                    layers.append(SqueezeExcite(c, ratio))
                case specs.Residual(hidden):
                    layers.append(InvertedResidual(c, spec.scaled(hidden), c, act))
            widths.append(c)
        self.body = nn.ModuleList(layers)
        outputs = len(head.anchors) * (5 + len(spec.classes))
        self.out = ConvBNAct(c, outputs, activation="linear", norm=False)
        self.tap = head.tap
        self.tap_channels: int = widths[head.tap]

    def forward(self, x: Tensor, lateral: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """-> raw map and tap. With `lateral`, x is the tap of the previous head."""
        if lateral is not None and self.upsample is not None:
            if self.reduce is not None:
                x = self.reduce(x)
            x = torch.cat((self.upsample(x), lateral), 1)
        tap = x
        for i, layer in enumerate(self.body):
            x = layer(x)
            if i == self.tap:
                tap = x
        return self.out(x), tap


class SpecDetector(Detector):
    """A detector built from a `DetectorSpec`; parameters are registered in darknet's order."""

    def __init__(self, spec: DetectorSpec):
        super().__init__()
        self.spec = spec
        self.io = spec.io
        act, stem = spec.activation, spec.stem
        c = spec.scaled(stem.channels)
        layers = [ConvBNAct(3, c, 3, 2, activation=act)]
        if stem.expand:
            layers.append(ConvBNAct(c, c, activation=act))
        layers += [
            depthwise(c, activation=act),
            ConvBNAct(c, spec.scaled(stem.out), activation="linear"),
        ]
        self.stem = nn.Sequential(*layers)

        c, stride = spec.scaled(stem.out), 2
        laterals: dict[int, int] = {}  # stride -> channels
        self.stages = nn.ModuleList()
        for stage in spec.stages:
            hidden = spec.scaled(stage.hidden)
            block = Stage(
                c,
                hidden,
                spec.scaled(stage.channels),
                spec.scaled(stage.block_hidden),
                stage.repeats,
                stage.stride,
                stage.csp,
                act,
                stage.se,
            )
            if stage.stride == 2:
                laterals[stride] = hidden
            self.stages.append(block)
            c, stride = block.out_channels, stride * stage.stride

        self.spp = SPP(spec.neck.spp) if spec.neck.spp else None
        c *= 1 + len(spec.neck.spp)
        c_tap = spec.scaled(spec.neck.top)
        self.top = ConvBNAct(c, c_tap, activation=act) if spec.neck.top else None

        self.heads = nn.ModuleList()
        for i, (head, head_stride) in enumerate(zip(spec.heads, spec.strides, strict=True)):
            c_lateral = laterals[head_stride] if i or spec.neck.top else 0
            detection = DetectionHead(spec, head, c, c_tap, c_lateral)
            self.heads.append(detection)
            c_tap = detection.tap_channels
        self.output_names = [f"heads.{i}.out" for i in range(len(self.heads))]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        stride = 2
        laterals = {}
        for stage, block in zip(self.spec.stages, self.stages, strict=True):
            x, hidden = block(x)
            if stage.stride == 2:
                laterals[stride] = hidden
            stride *= stage.stride
        if self.spp is not None:
            x = self.spp(x)
        if self.top is not None:
            x = self.top(x)
        maps = []
        for i, (head, head_stride) in enumerate(zip(self.heads, self.spec.strides, strict=True)):
            first = i == 0 and self.top is None
            raw, x = head(x) if first else head(x, laterals[head_stride])
            maps.append(raw)
        return maps


def calibrate(model: Detector, images: Sequence[NDArray[np.uint8]]) -> Detector:
    """Set the running statistics of the batch norms from one pass over pictures; weights stay.

    Gives an untrained network activations of a sensible size.

    Args:
        model: a detector; changed in place.
        images: RGB pictures (H, W, 3) uint8, stretched to the input size.

    Returns:
        `model`, in evaluation mode.

    >>> from toolkit.models.zoo import create_model
    >>> picture = np.random.default_rng(0).integers(0, 256, (56, 56, 3), np.uint8)
    >>> calibrate(create_model("yoloface-50k"), [picture]).training
    False
    """
    import cv2

    size = model.io.input_size
    resized = [cv2.resize(image, size) for image in images]
    if model.io.channels == 1:
        resized = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] for image in resized]
    batch = np.stack(resized).transpose(0, 3, 1, 2)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over what is seen
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(batch.astype(np.float32) / 255))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
