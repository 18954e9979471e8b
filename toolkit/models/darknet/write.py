"""Write networks as darknet cfg, weights and names files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toolkit.files import whole_file
from toolkit.models import spec as specs
from toolkit.models.darknet.cfg import cfg_text, section_text
from toolkit.models.darknet.network import CfgDetector
from toolkit.models.darknet.weights import save_weights
from toolkit.models.detector import Detector, SpecDetector
from toolkit.models.spec import DetectorSpec


def save_darknet(
    model: Detector, folder: str | Path, stem: str = "model", size: tuple[int, int] | None = None
) -> list[Path]:
    """Write a detector as .cfg, .weights and .names, which darknet, OpenCV and `load_darknet` read.

    Args:
        model: a detector built from a spec or a cfg, with its batch norms; the options of a cfg that
            darknet reads are kept.
        folder: where to write.
        stem: name of the files without suffix.
        size: input size (w, h) in px; the network's own by default.

    Returns:
        The paths of cfg, weights and names.

    Raises:
        InputError: the network does not accept this size.

    >>> import tempfile
    >>> from toolkit.models.darknet.network import load_darknet
    >>> from toolkit.models.zoo import create_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cfg, weights, names = save_darknet(create_model("yoloface-50k"), folder, size=(64, 64))
    ...     model = load_darknet(cfg, weights, names)
    >>> model.io.input_size, model.io.classes
    ((64, 64), ('face',))
    """
    size = size or model.io.input_size
    if isinstance(model, CfgDetector):
        net, *layers = model.sections
        net = replace(net, options={**net.options, "width": str(size[0]), "height": str(size[1])})
        text = cfg_text([net, *layers])
    else:
        assert isinstance(model, SpecDetector)
        text = to_cfg(specs.change(model.spec, input_size=size))
    cfg, weights, names = (Path(folder) / f"{stem}.{suffix}" for suffix in ("cfg", "weights", "names"))
    save_weights(model, weights)
    for path, content in ((cfg, text), (names, "\n".join(model.io.classes) + "\n")):
        with whole_file(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [cfg, weights, names]


def to_cfg(spec: DetectorSpec) -> str:
    """Text of a darknet cfg of the same network.

    Args:
        spec: the spec of a detector, `model.spec`.

    >>> from toolkit.models.zoo import SPECS
    >>> to_cfg(SPECS["yoloface-50k"]).splitlines()[:2]
    ['# yoloface-50k', '[net]']
    """
    sections: list[str] = []  # without [net], so that the index of a section is the index of its layer

    def add(kind: str, **options: object) -> int:
        sections.append(section_text(kind, options))
        return len(sections) - 1

    def conv(
        filters: int, size: int = 1, stride: int = 1, groups: int = 1, activation: str = spec.activation
    ) -> int:
        options = {"filters": filters, "size": size, "groups": groups, "stride": stride, "pad": 1}
        return add("convolutional", **options, batch_normalize=1, activation=activation)

    def residual(c_in: int, hidden: int, se: int = 0) -> int:
        first = conv(hidden)
        conv(hidden, 3, groups=hidden)
        if se:
            squeeze_excite(hidden, se)
        conv(c_in, activation="linear")
        return add("shortcut", **{"from": first - 1 - len(sections), "activation": "linear"})

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
            last = residual(n(stage.channels), n(stage.block_hidden), stage.se)
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
