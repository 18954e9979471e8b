"""Small seeded detectors, one for each way to take a picture and to say what is in it."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.cfgs import conv, output
from toolkit.inference.preprocess import preprocess
from toolkit.models.blocks import ConvBNAct
from toolkit.models.darknet.network import load_darknet
from toolkit.models.detector import Detector
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import seed_everything
from toolkit.samples import photographs

CLASSES = ("car", "cat", "face")
ANCHORS = ((10.0, 14.0), (30.0, 25.0))
PLAIN = (HeadIO(16, ANCHORS), HeadIO(8, ANCHORS[:1], scale_x_y=1.1))
KINDS = {
    "letterbox": ModelIO((96, 64), CLASSES, PLAIN, 16, fit="letterbox"),
    "tall letterbox in BGR": ModelIO((64, 96), CLASSES, PLAIN, 16, "BGR", 127.5, 1 / 127.5, "letterbox"),
    "grey": ModelIO((96, 64), CLASSES, PLAIN, 16, "GRAY"),
    "grey letterbox": ModelIO((64, 64), CLASSES, PLAIN, 16, "GRAY", fit="letterbox"),
    "softmax": ModelIO((96, 64), CLASSES, (HeadIO(16, ANCHORS, softmax=True),), 16),
    "gaussian": ModelIO((96, 64), CLASSES, (HeadIO(16, ANCHORS, 1.1, gaussian=True),), 16, fit="letterbox"),
}


class Small(Detector):
    """A few convolutions, and a map for each head of `io`, coarsest first; random weights."""

    def __init__(self, io: ModelIO):
        super().__init__()
        self.io = io
        self.stem = nn.Sequential(ConvBNAct(io.channels, 8, 3, 2), ConvBNAct(8, 16, 3, 2))
        strides = [head.stride for head in io.heads]
        self.down = nn.ModuleList(ConvBNAct(16, 16, 3, stride // 4) for stride in strides)
        sizes = [head.channels(len(io.classes)) for head in io.heads]
        self.out = nn.ModuleList(ConvBNAct(16, n, activation="linear", norm=False) for n in sizes)

    def forward(self, x):
        x = self.stem(x)
        return [out(down(x)) for down, out in zip(self.down, self.out, strict=True)]


def small(kind: str) -> Small:
    """The detector of a kind."""
    seed_everything(0)
    model = Small(KINDS[kind]).eval()
    spread(model, list(model.out))
    return model


def spread(model: Detector, last: list[ConvBNAct]) -> None:
    """Sets the layers before the heads so that raw values have mean 0 and standard deviation 2."""
    x = np.stack([preprocess(picture, model.io)[0] for picture in photographs().values()])
    for layer, raw in zip(last, model.predict(x), strict=True):
        factor = 2 / raw.std((0, 2, 3))
        layer.conv.weight.data *= torch.from_numpy(factor)[:, None, None, None]
        layer.conv.bias.data = torch.from_numpy(factor) * (layer.conv.bias.data - raw.mean((0, 2, 3)))


_BODY = conv(8, stride=2) + conv(16, stride=2) + conv(16, stride=2)
CFGS = {
    "region": "[net]\nwidth=96\nheight=64\nchannels=1\nletter_box=1\n"
    + _BODY
    + "[maxpool]\nsize=2\nstride=2\n"
    + output(16)
    + "[region]\nanchors=1,2, 3,2\nclasses=3\nnum=2\ncoords=4\nsoftmax=1\n",
    "gaussian": "[net]\nwidth=64\nheight=96\nchannels=1\nletter_box=1\n"
    + _BODY
    + output(24)
    + "[Gaussian_yolo]\nmask=0,1\nanchors=10,14, 30,25\nclasses=3\nnum=2\nscale_x_y=1.1\n",
}


def from_cfg(name: str, folder: Path) -> Detector:
    """The detector of one of `CFGS`, whose file goes into `folder`."""
    path = folder / f"{name}.cfg"
    path.write_text(CFGS[name])
    seed_everything(0)
    model = load_darknet(path)
    spread(model, model.output_layers())
    return model


def wide_and_tall() -> dict[str, np.ndarray]:
    """RGB pictures (H, W, 3) that no input here has the proportions of."""
    wide = photographs()["motorcycle"]
    return {"wide": wide[:300], "tall": np.ascontiguousarray(np.rot90(wide)[:, 40:290])}


def with_large_variances(model: nn.Module) -> None:
    """The same network with variances of 100 in its batch norms: OpenCV adds 1e-6 to them where darknet adds
    1e-5, which shows in small ones."""
    for module in model.modules():
        if isinstance(module, ConvBNAct) and module.norm is not None:
            spread = module.norm.running_var.sqrt() / 10
            module.conv.weight.data /= spread[:, None, None, None]
            module.norm.running_mean /= spread
            module.norm.running_var.fill_(100)
