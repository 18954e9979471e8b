"""The bridge to darknet: any cfg -> module, weights in and out byte for byte, spec -> cfg.

Semantics after AlexeyAB's darknet (parser.c, convolutional_layer.c, maxpool_layer.c, yolo_layer.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.models import spec as specs
from toolkit.models.blocks import ACTIVATIONS, ConvBNAct, MaxPool, Shortcut
from toolkit.models.detector import Detector, SpecDetector
from toolkit.models.spec import DetectorSpec, HeadIO, ModelIO
from toolkit.runtime import InputError, whole_file


@dataclass(frozen=True)
class Section:
    """One [kind] of a cfg with its options; `line` and `source` are where it stands, for messages."""

    kind: str
    options: dict[str, str]
    line: int
    source: str

    def fail(self, sentence: str) -> InputError:
        return InputError(f"{self.source}, [{self.kind}] in line {self.line}: {sentence}")

    def _number(self, key: str, default: Any, convert: type) -> Any:
        value = self.options.get(key)
        if value is None:
            if default is None:
                raise self.fail(f"{key}= is missing")
            return default
        try:
            return convert(value)
        except ValueError:
            raise self.fail(f"{key}={value} is not a number") from None

    def integer(self, key: str, default: int | None = None) -> int:
        return self._number(key, default, int)

    def real(self, key: str, default: float | None = None) -> float:
        return self._number(key, default, float)

    def numbers(self, key: str, convert: type = int) -> list[Any]:
        values = [part.strip() for part in self.options.get(key, "").split(",")]
        try:
            return [convert(part) for part in values if part]
        except ValueError:
            raise self.fail(f"{key}={self.options[key]} is not a list of numbers") from None


def parse_cfg(path: str | Path) -> list[Section]:
    """Sections of a cfg file, [net] first. Comments may begin with # or ; and stand behind a value."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read the cfg {path}: {error.strerror or error}") from None
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#")[0].split(";")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            sections.append(Section(line.strip("[] \t"), {}, number, path.name))
        elif "=" in line and sections:
            key, value = line.split("=", 1)
            sections[-1].options[key.strip()] = value.strip()
        else:
            raise InputError(
                f"{path.name} line {number}: expected [section] or key=value, found {line[:60]!r}"
            )
    if not sections or sections[0].kind not in ("net", "network"):
        raise InputError(f"{path.name} is no darknet cfg: it does not begin with [net]")
    return sections


class Concat(nn.Module):
    """darknet's [route]: feature maps one behind the other; of each only group `group_id` of `groups`."""

    def __init__(self, groups: int = 1, group_id: int = 0):
        super().__init__()
        self.groups, self.group_id = groups, group_id

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.groups > 1:
            inputs = tuple(x.chunk(self.groups, 1)[self.group_id] for x in inputs)
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)


class ScaleChannels(nn.Module):
    """darknet's [scale_channels]: the maps of `from` times one factor per channel, then an activation."""

    def __init__(self, activation: str = "linear"):
        super().__init__()
        self.act = ACTIVATIONS[activation]()

    def forward(self, factors: Tensor, x: Tensor) -> Tensor:
        return self.act(x * factors)  # (N, C, H, W) * (N, C, 1, 1)


class Built(NamedTuple):
    module: nn.Module
    sources: list[int]  # indices of the layers it reads, -1 for the network's input
    shape: tuple[int, int, int]  # channels, height, width


class CfgDetector(Detector):
    """A network built layer by layer from a cfg; `layers[i]` is darknet's layer i."""

    def __init__(self, sections: list[Section], classes: tuple[str, ...] | None = None):
        super().__init__()
        net = sections[0]
        self.sections = sections
        self.layers = nn.ModuleList()
        self.sources: list[list[int]] = []
        shape = (net.integer("channels", 3), net.integer("height"), net.integer("width"))
        if shape[0] != 3:
            raise net.fail(f"channels={shape[0]}, expected 3 (RGB)")
        self.input_size = (shape[2], shape[1])
        shapes = [shape]  # shapes[i + 1] is what layer i gives
        strides = [1]  # likewise
        heads: list[tuple[int, HeadIO]] = []
        class_counts = set()
        for i, section in enumerate(sections[1:]):
            if section.kind == "yolo":
                heads.append((i, _head(section, shapes[-1], self.input_size)))
                class_counts.add(section.integer("classes", 20))
                built = Built(nn.Identity(), [i - 1], shapes[-1])
            else:
                built = _build(section, i, shapes)
            self.layers.append(built.module)
            self.sources.append(built.sources)
            shapes.append(built.shape)
            stride = strides[built.sources[0] + 1]
            if section.kind == "upsample":
                stride //= section.integer("stride", 2)
            elif section.kind in ("convolutional", "maxpool"):
                stride *= section.integer("stride", 1)
            strides.append(stride)
        if not heads:
            raise InputError(f"{net.source} has no [yolo] section: expected a YOLO detector")
        if len(class_counts) > 1:
            raise InputError(
                f"{net.source}: its [yolo] sections disagree about classes: {sorted(class_counts)}"
            )
        count = class_counts.pop()
        if classes is not None and len(classes) != count:
            raise InputError(f"{net.source} has classes={count}, {len(classes)} names were given")
        heads.sort(key=lambda head: -head[1].stride)
        self.heads = [i for i, _ in heads]
        names = classes or tuple(f"class{i}" for i in range(count))
        self.io = ModelIO(self.input_size, names, tuple(head for _, head in heads), max(strides))
        self.io.check_size(self.input_size)
        self.last_use = {source: i for i, sources in enumerate(self.sources) for source in sources}

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = {-1: x}
        for i, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            outputs[i] = layer(*(outputs[source] for source in sources))
            for source in sources:
                if self.last_use[source] == i and source not in self.heads:
                    outputs.pop(source, None)
        return [outputs[i] for i in self.heads]


def _head(section: Section, shape: tuple[int, int, int], input_size: tuple[int, int]) -> HeadIO:
    numbers = section.numbers("anchors", float)
    if len(numbers) % 2:
        raise section.fail(f"anchors= has {len(numbers)} numbers, expected pairs of width and height")
    anchors = list(zip(numbers[::2], numbers[1::2], strict=True))
    if section.integer("num", len(anchors)) != len(anchors):
        raise section.fail(f"num={section.options['num']}, but anchors= has {len(anchors)} pairs")
    mask = section.numbers("mask") or list(range(len(anchors)))
    if any(not 0 <= m < len(anchors) for m in mask):
        raise section.fail(f"mask={section.options['mask']} points beyond the {len(anchors)} anchors")
    expected = len(mask) * (5 + section.integer("classes", 20))
    if shape[0] != expected:
        raise section.fail(
            f"{len(mask)} anchors and its classes need {expected} channels, it gets {shape[0]}"
        )
    return HeadIO(
        stride=input_size[0] // shape[2],
        anchors=tuple(anchors[m] for m in mask),
        scale_x_y=section.real("scale_x_y", 1.0),
        new_coords=bool(section.integer("new_coords", 0)),
    )


# Options that change what a layer computes and that nothing here implements: refused, not ignored.
UNSUPPORTED = {
    "dilation": "1",
    **dict.fromkeys(("antialiasing", "binary", "xnor", "share_index", "maxpool_depth", "reverse"), "0"),
    **dict.fromkeys(("rotate", "stretch", "stretch_sway", "sway", "deform", "assisted_excitation"), "0"),
    **dict.fromkeys(("stride_x", "stride_y"), None),
}


def _build(section: Section, i: int, shapes: list[tuple[int, int, int]]) -> Built:
    """The module, sources and output shape of layer i; shapes[k + 1] is what layer k gives."""
    c, h, w = shapes[-1]
    for key, harmless in UNSUPPORTED.items():
        value = section.options.get(key)
        if value is not None and value != harmless:
            raise section.fail(f"{key}={value} is not supported")
    activation = section.options.get(
        "activation", "logistic" if section.kind == "convolutional" else "linear"
    )
    if activation not in ACTIVATIONS:
        raise section.fail(f"unknown activation {activation!r}: known are {', '.join(ACTIVATIONS)}")

    def sources(key: str) -> list[int]:
        values = section.numbers(key)
        if not values:
            raise section.fail(f"{key}= names no layer")
        layers = [value if value >= 0 else i + value for value in values]
        for value, layer in zip(values, layers, strict=True):
            if not 0 <= layer < i:
                raise section.fail(
                    f"{key}={value} means layer {layer}, expected one of the layers 0 to {i - 1} before it"
                )
        return layers

    def pooled(side: int, size: int, stride: int, padding: int) -> int:
        result = (side + padding - size) // stride + 1
        if result < 1:
            raise section.fail(f"size={size} is larger than its input of {w}x{h}")
        return result

    match section.kind:
        case "convolutional":
            size, stride = section.integer("size", 1), section.integer("stride", 1)
            filters, groups = section.integer("filters", 1), section.integer("groups", 1)
            pad = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
            if min(size, stride, filters, groups) < 1 or c % groups or filters % groups:
                raise section.fail(
                    f"filters={filters} groups={groups} size={size} do not fit {c} input channels"
                )
            norm = bool(section.integer("batch_normalize", 0))
            module = ConvBNAct(c, filters, size, stride, groups, activation, norm, pad)
            shape = (filters, pooled(h, size, stride, 2 * pad), pooled(w, size, stride, 2 * pad))
            return Built(module, [i - 1], shape)
        case "maxpool":
            stride = section.integer("stride", 1)
            size = section.integer("size", stride)
            padding = section.integer("padding", size - 1)
            default = None if padding == size - 1 else padding
            shape = (c, pooled(h, size, stride, padding), pooled(w, size, stride, padding))
            return Built(MaxPool(size, stride, default), [i - 1], shape)
        case "avgpool":
            return Built(nn.AdaptiveAvgPool2d(1), [i - 1], (c, 1, 1))
        case "upsample":
            stride = section.integer("stride", 2)
            if section.real("scale", 1) != 1 or stride < 1:
                raise section.fail("only upsampling by a whole stride with scale=1 is known")
            return Built(
                nn.Upsample(scale_factor=float(stride), mode="nearest"), [i - 1], (c, h * stride, w * stride)
            )
        case "route":
            inputs = sources("layers")
            groups, group = section.integer("groups", 1), section.integer("group_id", 0)
            given = [shapes[k + 1] for k in inputs]
            if len({s[1:] for s in given}) > 1:
                raise section.fail(f"its inputs differ in size: {', '.join(f'{s[2]}x{s[1]}' for s in given)}")
            if not 0 <= group < groups or any(s[0] % groups for s in given):
                raise section.fail(f"groups={groups} group_id={group} do not divide its input channels")
            return Built(Concat(groups, group), inputs, (sum(s[0] // groups for s in given), *given[0][1:]))
        case "shortcut":
            if section.options.get("weights_type", "none") != "none":
                raise section.fail(f"weights_type={section.options['weights_type']} is not supported")
            inputs = sources("from")
            for k in inputs:
                if shapes[k + 1][1:] != (h, w):
                    raise section.fail(
                        f"layer {k} gives {shapes[k + 1][2]}x{shapes[k + 1][1]}, expected {w}x{h} here"
                    )
            return Built(Shortcut(activation), [i - 1, *inputs], (c, h, w))
        case "scale_channels":
            inputs = sources("from")
            target = shapes[inputs[0] + 1]
            if section.integer("scale_wh", 0) or (h, w) != (1, 1) or target[0] != c:
                raise section.fail(f"expected {target[0]} factors of 1x1, found {c} of {w}x{h}")
            return Built(ScaleChannels(activation), [i - 1, inputs[0]], target)
        case "dropout":
            return Built(nn.Dropout(section.real("probability", 0.5)), [i - 1], (c, h, w))
    raise section.fail(
        "unknown layer; known are convolutional, maxpool, avgpool, upsample, route, shortcut, "
        "scale_channels, dropout, yolo"
    )


def load_darknet(
    cfg: str | Path, weights: str | Path | None = None, names: str | Path | None = None
) -> CfgDetector:
    """Any darknet cfg, with its weights and class names where given, as a module in evaluation mode.

    Raises InputError that names file, line and reason for a cfg or weights file that does not fit.
    """
    model = CfgDetector(parse_cfg(cfg), read_names(names) if names else None)
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names, one a line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the class names {path}: {error}") from None
    return tuple(line.strip() for line in lines if line.strip())


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and running statistics in the order of a weights file."""
    tensors: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, ConvBNAct):
            norm = module.norm
            if norm is not None:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                tensors += [norm.bias, norm.weight, norm.running_mean, norm.running_var]
            elif module.conv.bias is not None:
                tensors.append(module.conv.bias)
            tensors.append(module.conv.weight)
    return tensors


@dataclass(frozen=True)
class Header:
    """Version and pictures seen, the first bytes of a weights file."""

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def long(self) -> bool:
        return self.major * 10 + self.minor >= 2

    def pack(self) -> bytes:
        version = np.array([self.major, self.minor, self.revision], "<i4").tobytes()
        return version + np.array([self.seen], "<u8" if self.long else "<u4").tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        major, minor, revision = (int(v) for v in np.frombuffer(data, "<i4", 3))
        header = cls(major, minor, revision)
        seen = np.frombuffer(data, "<u8" if header.long else "<u4", 1, 12)
        return cls(major, minor, revision, int(seen[0]))


def load_weights(model: nn.Module, path: str | Path) -> Header:
    """Fill `model` from a darknet weights file, all or nothing; the header is kept as `model.header`.

    Raises InputError where the file does not hold exactly the floats that the network has.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror or error}") from None
    if len(data) < 20:
        raise InputError(
            f"{path.name} has {len(data)} bytes: expected a darknet weights file, it is truncated"
        )
    header = Header.unpack(data)
    body = data[len(header.pack()) :]
    tensors = _tensors(model)
    need, have = sum(t.numel() for t in tensors), len(body) / 4
    if have != need:
        reason = "truncated or of another network" if have < need else "over-long or of another network"
        raise InputError(
            f"{path.name} holds {have:g} floats, this network needs {need}: the file is {reason}"
        )
    values = torch.from_numpy(np.frombuffer(body, "<f4").astype(np.float32))
    variances = [
        m.norm.running_var for m in model.modules() if isinstance(m, ConvBNAct) and m.norm is not None
    ]
    parts = torch.split(values, [t.numel() for t in tensors])
    # Published files hold variances of -7e-44; below -eps the square root fails.
    negative = any(
        bool((part <= -1e-5).any())
        for tensor, part in zip(tensors, parts, strict=True)
        if any(tensor is variance for variance in variances)
    )
    if negative or not torch.isfinite(values).all():
        raise InputError(
            f"{path.name} has the right size, but negative variances or values that are not finite: "
            "it belongs to another network or is damaged"
        )
    with torch.no_grad():
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    model.header = header  # type: ignore[assignment]
    return header


def save_weights(model: nn.Module, path: str | Path, header: Header | None = None) -> None:
    """Write a darknet weights file; the header is the one that `model` was loaded with unless given."""
    header = header or getattr(model, "header", None) or Header()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(header.pack())
        for tensor in _tensors(model):
            file.write(tensor.detach().cpu().numpy().astype("<f4").tobytes())


def save_darknet(
    model: Detector, folder: str | Path, stem: str = "model", size: tuple[int, int] | None = None
) -> list[Path]:
    """Write `stem`.cfg, .weights and .names into `folder`, which darknet, OpenCV and `load_darknet` read, for
    the input `size` (w, h), the network's own unless given. -> the files, the cfg first.

    Batch norms stay as they are; a network made from a cfg keeps that cfg's options.
    """
    size = size or model.io.input_size
    if isinstance(model, CfgDetector):
        net, *layers = model.sections
        net = replace(net, options={**net.options, "width": str(size[0]), "height": str(size[1])})
        text = "\n".join(_section_text(section.kind, section.options) for section in (net, *layers))
    else:
        assert isinstance(model, SpecDetector)
        text = to_cfg(specs.change(model.spec, input_size=size))
    cfg, weights, names = (Path(folder) / f"{stem}.{suffix}" for suffix in ("cfg", "weights", "names"))
    save_weights(model, weights)
    for path, content in ((cfg, text), (names, "\n".join(model.io.classes) + "\n")):
        with whole_file(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [cfg, weights, names]


def _section_text(kind: str, options: Mapping[str, Any]) -> str:
    return "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in options.items())]) + "\n"


def to_cfg(spec: DetectorSpec) -> str:
    """The cfg that darknet, OpenCV and `load_darknet` read as the same network."""
    sections: list[str] = []  # [net] stands outside, so a section's index is its layer's

    def add(kind: str, **options: Any) -> int:
        sections.append(_section_text(kind, options))
        return len(sections) - 1

    def conv(
        filters: int, size: int = 1, stride: int = 1, groups: int = 1, activation: str = spec.activation
    ):
        options = {"filters": filters, "size": size, "groups": groups, "stride": stride, "pad": 1}
        return add("convolutional", **options, batch_normalize=1, activation=activation)

    def residual(c_in: int, hidden: int) -> int:
        conv(hidden)
        conv(hidden, 3, groups=hidden)
        conv(c_in, activation="linear")
        return add("shortcut", **{"from": -4, "activation": "linear"})

    def squeeze_excite(channels: int, ratio: int) -> int:
        add("avgpool")
        add("convolutional", filters=max(1, channels // ratio), size=1, stride=1, activation="relu")
        add("convolutional", filters=channels, size=1, stride=1, activation="logistic")
        return add("scale_channels", **{"from": -4})

    n = spec.scaled
    c = n(spec.stem.channels)
    conv(c, 3, 2)
    if spec.stem.expand:
        conv(c)
    conv(c, 3, groups=c)
    last = conv(n(spec.stem.out), activation="linear")

    stride, laterals = 2, {}
    for stage in spec.stages:
        hidden = n(stage.hidden)
        wide = conv(hidden)
        conv(hidden, 3, stage.stride, hidden)
        last = conv(n(stage.channels), activation="linear")
        for _ in range(stage.repeats):
            last = residual(n(stage.channels), n(stage.block_hidden))
        if stage.csp:
            merged = conv(hidden)
            add("route", layers=wide)
            pooled = add("maxpool", size=stage.csp, stride=stage.stride)
            last = add("route", layers=f"{pooled},{merged}")
        if stage.stride == 2:
            laterals[stride] = wide
        stride *= stage.stride

    if spec.neck.spp:
        pools = []
        for i, size in enumerate(spec.neck.spp):
            if i:
                add("route", layers=last)
            pools.append(add("maxpool", size=size, stride=1))
        last = add("route", layers=",".join(str(k) for k in [*pools[::-1], last]))
    if spec.neck.top:
        last = conv(n(spec.neck.top))

    anchors = [anchor for head in reversed(spec.heads) for anchor in head.anchors]
    end = len(anchors)
    for i, (head, head_stride) in enumerate(zip(spec.heads, spec.strides, strict=True)):
        if i or spec.neck.top:
            if i:
                add("route", layers=last)
            if head.reduce:
                conv(n(head.reduce))
            upsampled = add("upsample", stride=2)
            add("route", layers=f"{upsampled},{laterals[head_stride]}")
        tap = c = 0
        for k, layer in enumerate(head.body):
            match layer:
                case specs.Conv(channels, linear):
                    c = n(channels)
                    index = conv(c, activation="linear" if linear else spec.activation)
                case specs.Depthwise():
                    index = conv(c, 3, groups=c)
                case specs.SE(ratio):
                    index = squeeze_excite(c, ratio)
                case specs.Residual(hidden):
                    index = residual(c, n(hidden))
            if k == head.tap:
                tap = index
        add(
            "convolutional",
            filters=len(head.anchors) * (5 + len(spec.classes)),
            size=1,
            stride=1,
            pad=1,
            activation="linear",
        )
        start = end - len(head.anchors)
        add(
            "yolo",
            mask=",".join(str(k) for k in range(start, end)),
            anchors=", ".join(f"{w:g},{h:g}" for w, h in anchors),
            classes=len(spec.classes),
            num=len(anchors),
            jitter=0.1,
            ignore_thresh=0.5,
            truth_thresh=1,
            random=0,
            scale_x_y=head.scale_x_y,
            iou_thresh=0.213,
            cls_normalizer=1.0,
            iou_normalizer=0.07,
            iou_loss="ciou",
        )
        end, last = start, tap

    width, height = spec.input_size
    net = f"[net]\nbatch=64\nsubdivisions=1\nwidth={width}\nheight={height}\nchannels=3\nmomentum=0.949\n"
    net += "decay=0.0005\nlearning_rate=0.001\nburn_in=1000\nmax_batches=50200\npolicy=steps\n"
    net += "steps=40000,45000\nscales=.1,.1\n"
    return f"# {spec.name}\n" + "\n".join([net, *sections])
