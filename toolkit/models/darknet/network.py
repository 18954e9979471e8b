"""A darknet cfg as a torch network, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil, prod
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.models.bounds import LONGEST_SIDE, MOST_WEIGHTS, check_memory
from toolkit.models.cost import counts
from toolkit.models.darknet.build import RECURRENT, REFUSED, build_layer
from toolkit.models.darknet.cfg import Section, cut, parse_cfg, read_names
from toolkit.models.darknet.heads import HEADS, Shape, check_cells, class_count, head_io
from toolkit.models.darknet.weights import read_weights
from toolkit.models.darknet.wiring import Built, Layers
from toolkit.models.detector import Detector
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError

_CHANNEL_ORDERS = {1: "GRAY", 3: "RGB"}
_MOST_OPERATIONS = 2**42  # for a picture; yolov4-p7 has a tenth at 1536 x 1536


class CfgDetector(Detector):
    """A network built layer by layer from a cfg; `layers[i]` is darknet's layer i.

    Layers that no head needs, such as the embeddings of a tracker, have weights and do not run.
    """

    def __init__(self, sections: list[Section], classes: tuple[str, ...] | None = None):
        super().__init__()
        net = sections[0]
        self.sections = sections
        count = _check_kinds(sections)
        plan, weights = _planned(sections)
        check_memory(net.source, weights, 0)
        layers = plan if torch.get_default_device().type == "meta" else _build(sections)
        if classes is not None and len(classes) != count:
            raise InputError(f"{net.source} has classes={count}, but there are {len(classes)} class names")
        self.layers = nn.ModuleList()
        self.sources: list[list[int]] = []
        shapes: list[Shape] = [_input_shape(net)]  # shapes[i + 1] is the output of layer i
        self.input_size = (shapes[0][2], shapes[0][1])
        strides = [Fraction(1)]  # in the same order
        heads: list[tuple[int, HeadIO]] = []
        for i, (section, built) in enumerate(zip(sections[1:], layers, strict=True)):
            _check_sources(section, built.sources, [k for k, _ in heads], sections)
            if section.kind in HEADS:
                heads.append((i, head_io(section, shapes[-1], self.input_size)))
            self.layers.append(built.module)
            self.sources.append(built.sources)
            shapes.append(built.shape)
            strides.append(_stride(built, strides))
        heads.sort(key=lambda head: -head[1].stride)
        self.heads = [i for i, _ in heads]
        self.output_names = [f"layers.{i - 1}" for i in self.heads]
        self.io = ModelIO(
            self.input_size,
            classes or tuple(f"class{i}" for i in range(count)),
            tuple(head for _, head in heads),
            ceil(max(strides)),
            _CHANNEL_ORDERS[shapes[0][0]],
            fit="letterbox" if net.integer("letter_box", 0) else "stretch",
        )
        self.io.check_size(self.input_size)
        for i in self.heads:
            check_cells(sections[i + 1], shapes[i + 1], self.input_size)
        self.running = self._needed()
        self.last_use = {source: i for i in self.running for source in self.sources[i]}
        check_memory(net.source, weights, self._peak([prod(shape) for shape in shapes]))

    def _needed(self) -> list[int]:
        """The layers that the heads need, in running order."""
        needed = set(self.heads)
        for i in reversed(range(len(self.sources))):
            if i in needed:
                needed.update(self.sources[i])
        return sorted(needed - {-1})

    def _peak(self, values: Sequence[int]) -> int:
        """Numbers of the feature maps that exist at the worst moment of `forward`, for one picture; `values`
        are those of the network's input and of each layer."""
        peak = held = values[0]
        for i in self.running:
            held += values[i + 1]
            peak = max(peak, held)
            for source in set(self.sources[i]):
                if self.last_use[source] == i and source not in self.heads:
                    held -= values[source + 1]
        return peak

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = {-1: x}
        for i in self.running:
            outputs[i] = self.layers[i](*(outputs[source] for source in self.sources[i]))
            for source in self.sources[i]:
                if self.last_use[source] == i and source not in self.heads:
                    outputs.pop(source, None)
        return [outputs[i] for i in self.heads]


def _input_shape(net: Section) -> Shape:
    channels = net.integer("channels", 3)
    if channels not in _CHANNEL_ORDERS:
        raise net.fail(f"channels={channels} is not supported: expected 3 (RGB) or 1 (grey)")
    height, width = (net.integer(key, low=1, high=LONGEST_SIDE) for key in ("height", "width"))
    return channels, height, width


def _build(sections: Sequence[Section]) -> Iterator[Built]:
    """The layers of a cfg, one after the other; a head passes its map on."""
    modules: list[nn.Module] = []
    shapes, strides = [_input_shape(sections[0])], [Fraction(1)]
    for i, section in enumerate(sections[1:]):
        if section.kind in HEADS:
            built = Built(nn.Identity(), [i - 1], shapes[-1])
        else:
            built = build_layer(section, Layers(modules, shapes, strides))
        yield built
        modules.append(built.module)
        shapes.append(built.shape)
        strides.append(_stride(built, strides))


def _stride(built: Built, strides: Sequence[Fraction]) -> Fraction:
    """Of a layer's output, from those of the input of the network and of the layers before it."""
    return strides[built.sources[0] + 1] * built.stride


def _planned(sections: Sequence[Section]) -> tuple[list[Built], int]:
    """The layers without memory for their weights, and the number of these; InputError where there are too
    many, or too many operations for a picture."""
    layers, weights, operations = [], 0, 0
    with torch.device("meta"):
        for section, built in zip(sections[1:], _build(sections), strict=True):
            layers.append(built)
            for module in built.module.modules():
                params, macs, others = counts(module, built.shape, len(built.sources))
                weights, operations = weights + params, operations + macs + others
            if weights > MOST_WEIGHTS:
                raise section.fail(
                    f"the network has {weights:,} weights up to here: expected {MOST_WEIGHTS:,} or less"
                )
            if operations > _MOST_OPERATIONS:
                raise section.fail(
                    f"the network has {operations:,} operations for a picture up to here: expected "
                    f"{_MOST_OPERATIONS:,} or less"
                )
    return layers, weights


def _check_kinds(sections: Sequence[Section]) -> int:
    """Number of classes of a detector; InputError if it is another kind of network."""
    heads = [section for section in sections if section.kind in HEADS]
    if not heads:
        raise _no_detector(sections)
    counts = sorted({class_count(section) for section in heads})
    if len(counts) > 1:
        raise InputError(f"{sections[0].source}: its heads have different classes=: {counts}")
    return counts[0]


def _no_detector(sections: Sequence[Section]) -> InputError:
    """What a network without a head is instead."""
    kinds = " or ".join(f"[{kind}]" for kind in HEADS)
    for section in sections:
        reason = REFUSED.get(section.kind)
        if reason is not None and (section.kind == "detection" or reason == RECURRENT):
            return section.fail(reason)
    last = next((section for section in sections if section.kind in ("softmax", "cost")), sections[-1])
    found = "a network that ends" if last is sections[-1] and last.kind not in REFUSED else "a classifier"
    return InputError(
        f"{last.source} has no {kinds} section: expected a YOLO detector, found {found} with "
        f"[{cut(last.kind)}] in line {last.line}"
    )


def _check_sources(
    section: Section, sources: Sequence[int], heads: Sequence[int], sections: Sequence[Section]
) -> None:
    """darknet's heads change their input in passing; nothing here reads what comes out of them."""
    for source in sources:
        if source in heads:
            head = sections[source + 1]
            raise section.fail(
                f"its input is the [{head.kind}] in line {head.line}: expected a [route] to a layer before it"
            )


def load_darknet(
    cfg: str | Path,
    weights: str | Path | None = None,
    names: str | Path | None = None,
    partial: bool = False,
) -> CfgDetector:
    """Load any darknet detector; layers as in AlexeyAB's darknet (parser.c).

    Args:
        cfg: the .cfg file. Options that change a layer and are not supported are refused.
        weights: the .weights file; None for random weights.
        names: file with a class name per line; None for class0, class1, ...
        partial: load a weights file as far as it goes, such as yolov4-tiny.conv.29; `loaded` of the network
            says how far.

    Returns:
        The network in evaluation mode. `layers[i]` is darknet's layer i; `forward` maps (N, channels, H, W)
        in 0..1 to raw head maps, coarsest first.

    Raises:
        InputError: with file, line and reason, if a file cannot be read or does not fit.

    >>> import tempfile, torch
    >>> text = "[net]\\nwidth=64\\nheight=64\\n[convolutional]\\nfilters=7\\nsize=3\\nstride=32\\npad=1\\n"
    >>> text += "activation=linear\\n[yolo]\\nanchors=16,32\\nclasses=2\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "tiny.cfg").write_text(text)
    ...     model = load_darknet(Path(folder, "tiny.cfg"))
    >>> [tuple(maps.shape) for maps in model(torch.zeros(1, 3, 64, 64))]
    [(1, 7, 2, 2)]
    """
    sections, classes = parse_cfg(cfg), read_names(names) if names else None
    if weights is None:
        return CfgDetector(sections, classes).eval()
    with torch.device("meta"):  # a file of another network is refused before there is memory for this one
        stored = read_weights(CfgDetector(sections, classes), weights, partial)
    model = CfgDetector(sections, classes)
    stored.fill(model)
    return model.eval()
