"""Small networks for writers of files: layers side by side, and what cfg files use beyond the zoo."""

import torch
from torch import nn

from toolkit.models.blocks import MaxPool, Shortcut
from toolkit.models.darknet.layers import Concat, ScaleChannels
from toolkit.models.io import HeadIO, ModelIO


class Branches(nn.Module):
    """Layers side by side, each an output."""

    def __init__(self, *layers, size=(32, 32)):
        super().__init__()
        self.io = ModelIO(size, ("thing",), (HeadIO(1, ((1.0, 1.0),)),) * len(layers), 1)
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return [layer(x) for layer in self.layers]


class Few(nn.Module):
    """Layers of several inputs: maps of 3 channels with some of 2, and a factor and a shift for each."""

    def __init__(self):
        super().__init__()
        self.narrow, self.add = nn.Conv2d(3, 2, 1), Shortcut("mish")
        self.mean, self.scale, self.groups = nn.AdaptiveAvgPool2d(1), ScaleChannels(), Concat(3, 1)

    def forward(self, x):
        few = self.narrow(x)
        wide = self.add(few, x)
        scaled = self.scale(self.mean(x), x) + self.mean(x)
        return torch.cat((self.add(x, few, wide), scaled, self.groups(x, scaled)), 1)


POOLS = [(2, 2), (3, 2), (4, 2), (5, 2), (8, 2), (2, 1), (3, 1), (4, 1), (9, 1), (3, 3)]
POOLS += [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 1, 0), (4, 4, 1), (4, 4), (4, 1, 6), (3, 1, 1), (2, 1, 2)]


def layers_beyond_the_zoo():
    """darknet's pooling with any padding, and what other cfg files use, with random weights."""
    torch.manual_seed(0)
    layers = [MaxPool(*pool) for pool in POOLS]
    layers += [nn.SiLU(), nn.Mish(), nn.LeakyReLU(0.1), nn.Upsample(scale_factor=3.0), Few()]
    return [*layers, nn.Sequential(nn.Conv2d(3, 4, 5, 3, 1, bias=False), nn.Dropout())]
