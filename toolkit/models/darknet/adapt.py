"""A darknet cfg for other classes, anchors or another input size, as a change of its sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from toolkit.models.darknet.cfg import Section
from toolkit.models.darknet.cfg import cfg_text as cfg_text
from toolkit.models.darknet.network import CfgDetector
from toolkit.models.io import HeadIO
from toolkit.models.spec import anchor_sizes
from toolkit.runtime import InputError

Sizes = Sequence[Sequence[float]]


def adapt(
    sections: Sequence[Section],
    classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    anchors: Sizes | None = None,
) -> list[Section]:
    """Change a cfg by the rules of `toolkit.models.spec.change`.

    The filters of the convolution before each head follow its anchors and classes. New anchors are dealt to
    the heads by their stride, with new masks: a head keeps the number of its anchors.

    Args:
        sections: of a detector, as `parse_cfg` returns them; not changed.
        classes: number of classes.
        input_size: (w, h) px.
        anchors: all (w, h) in px of the input from small to large, as many as the heads have together; the
            coarsest head gets the largest.

    Returns:
        The new sections.

    Raises:
        InputError: a head does not follow a plain convolution (one without batch norm), a value does not
            fit, or the changed cfg is not a network.

    >>> from toolkit.models.darknet.cfg import parse_cfg_text
    >>> text = "[net]\\nwidth=64\\nheight=64\\n[convolutional]\\nfilters=7\\nsize=3\\nstride=32\\npad=1\\n"
    >>> text += "activation=linear\\n[yolo]\\nanchors=16,32\\nclasses=2\\nnum=1\\n"
    >>> net, conv, yolo = adapt(parse_cfg_text(text, "tiny.cfg"), classes=5, input_size=(96, 64))
    >>> net.options["width"], conv.options["filters"], yolo.options["classes"]
    ('96', '10', '5')
    """
    network = _network(sections)
    heads = [(layer + 1, head) for layer, head in zip(network.heads, network.io.heads, strict=True)]
    changed = list(sections)
    if input_size is not None:
        width, height = input_size
        changed[0] = _with(changed[0], width=width, height=height)
    if anchors is not None:
        _deal(changed, heads, anchors)
    if classes is not None:
        if classes < 1:
            raise InputError(f"a detector needs at least one class, not {classes}")
        for index, head in heads:
            _check_plain(sections[index], sections[index - 1])
            changed[index] = _with(changed[index], classes=classes)
            changed[index - 1] = _with(changed[index - 1], filters=head.channels(classes))
    _network(changed)
    return changed


def _network(sections: Sequence[Section]) -> CfgDetector:
    """The network, without memory for its weights."""
    with torch.device("meta"):
        return CfgDetector(list(sections))


def _check_plain(head: Section, before: Section) -> None:
    """InputError unless the input of a head is a plain convolution, whose filters can follow its classes."""
    normed = any(before.integer(key, 0) for key in ("batch_normalize", "cbn", "antialiasing"))
    if before.kind != "convolutional" or "share_index" in before.options or normed:
        raise head.fail(
            f"its input is [{before.kind}] in line {before.line}: training and other classes need a plain "
            "convolution there, without batch norm"
        )


def _deal(sections: list[Section], heads: Sequence[tuple[int, HeadIO]], anchors: Sizes) -> None:
    """Write the anchors into the sections of the heads, in place."""
    count = sum(len(head.anchors) for _, head in heads)
    anchors = anchor_sizes(anchors, count)
    end = count
    for index, head in heads:
        start = end - len(head.anchors)
        if sections[index].kind == "region":  # its own anchors alone, in cells
            own = [(width / head.stride, height / head.stride) for width, height in anchors[start:end]]
            sections[index] = _with(sections[index], anchors=_pairs(own), num=len(own))
        else:
            mask = ",".join(str(k) for k in range(start, end))
            sections[index] = _with(sections[index], mask=mask, anchors=_pairs(anchors), num=count)
        end = start


def _pairs(sizes: Sizes) -> str:
    return ", ".join(f"{width:g},{height:g}" for width, height in sizes)


def _with(section: Section, **options: object) -> Section:
    texts = {key: str(value) for key, value in options.items()}
    return replace(section, options={**section.options, **texts})
