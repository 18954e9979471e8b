"""A darknet cfg as a torch network, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path

from torch import Tensor, nn

from toolkit.models.blocks import ConvBNAct
from toolkit.models.darknet.build import REFUSED, build_layer
from toolkit.models.darknet.cfg import Section, parse_cfg, read_names
from toolkit.models.darknet.heads import HEADS, Shape, check_cells, class_count, head_io
from toolkit.models.darknet.place import Built, Layers
from toolkit.models.darknet.weights import load_weights
from toolkit.models.detector import Detector
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError

_CHANNEL_ORDERS = {1: "GRAY", 3: "RGB"}


class CfgDetector(Detector):
    """A network built layer by layer from a cfg; `layers[i]` is darknet's layer i.

    Layers that no head needs, such as the embeddings of a tracker, have weights and do not run.
    """

    def __init__(self, sections: list[Section], classes: tuple[str, ...] | None = None):
        super().__init__()
        net = sections[0]
        self.sections = sections
        count = _check_kinds(sections)
        if classes is not None and len(classes) != count:
            raise InputError(f"{net.source} has classes={count}, but there are {len(classes)} class names")
        self.layers = nn.ModuleList()
        self.sources: list[list[int]] = []
        shapes: list[Shape] = [_input_shape(net)]  # shapes[i + 1] is the output of layer i
        self.input_size = (shapes[0][2], shapes[0][1])
        strides = [Fraction(1)]  # in the same order
        heads: list[tuple[int, HeadIO]] = []
        for i, section in enumerate(sections[1:]):
            if section.kind in HEADS:
                head = head_io(section, shapes[-1], self.input_size)
                built = Built(nn.Identity(), [i - 1], shapes[-1])
            else:
                built = build_layer(section, Layers(list(self.layers), shapes))
            _check_sources(section, built.sources, [k for k, _ in heads], sections)
            if section.kind in HEADS:
                heads.append((i, head))
            self.layers.append(built.module)
            self.sources.append(built.sources)
            shapes.append(built.shape)
            strides.append(strides[built.sources[0] + 1] * built.stride)
        heads.sort(key=lambda head: -head[1].stride)
        self.heads = [i for i, _ in heads]
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

    def _needed(self) -> list[int]:
        """The layers that the heads need, in running order."""
        needed = set(self.heads)
        for i in reversed(range(len(self.sources))):
            if i in needed:
                needed.update(self.sources[i])
        return sorted(needed - {-1})

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = {-1: x}
        for i in self.running:
            outputs[i] = self.layers[i](*(outputs[source] for source in self.sources[i]))
            for source in self.sources[i]:
                if self.last_use[source] == i and source not in self.heads:
                    outputs.pop(source, None)
        return [outputs[i] for i in self.heads]

    def output_layers(self) -> list[ConvBNAct]:
        before = [self.layers[i - 1] for i in self.heads]
        return [layer for layer in before if isinstance(layer, ConvBNAct)]


def _input_shape(net: Section) -> Shape:
    channels = net.integer("channels", 3)
    if channels not in _CHANNEL_ORDERS:
        raise net.fail(f"channels={channels} is not supported: expected 3 (RGB) or 1 (grey)")
    return channels, net.integer("height", low=1), net.integer("width", low=1)


def _check_kinds(sections: Sequence[Section]) -> int:
    """Number of classes of a detector; InputError if it is another kind of network."""
    heads = [section for section in sections if section.kind in HEADS]
    if not heads:
        source = sections[0].source
        last = next(
            (section for section in sections if section.kind in ("detection", "softmax", "cost")), None
        )
        if last is not None and last.kind == "detection":
            raise last.fail(REFUSED["detection"])
        instead = "" if last is None else f", found a classifier with [{last.kind}] in line {last.line}"
        kinds = " or ".join(f"[{kind}]" for kind in HEADS)
        raise InputError(f"{source} has no {kinds} section: expected a YOLO detector{instead}")
    counts = sorted({class_count(section) for section in heads})
    if len(counts) > 1:
        raise InputError(f"{sections[0].source}: its heads have different classes=: {counts}")
    return counts[0]


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
    cfg: str | Path, weights: str | Path | None = None, names: str | Path | None = None
) -> CfgDetector:
    """Load any darknet detector; layers as in AlexeyAB's darknet (parser.c).

    Args:
        cfg: the .cfg file. Options that change a layer and are not supported are refused.
        weights: the .weights file; None for random weights.
        names: file with a class name per line; None for class0, class1, ...

    Returns:
        The network in evaluation mode. `layers[i]` is darknet's layer i; `forward` maps (N, 3, H, W) in 0..1
        to raw head maps, coarsest first.

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
    model = CfgDetector(parse_cfg(cfg), read_names(names) if names else None)
    if weights is not None:
        load_weights(model, weights)
    return model.eval()
