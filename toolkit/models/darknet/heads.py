"""The heads of darknet's detectors: [yolo], [Gaussian_yolo] and [region] sections as `HeadIO`."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from toolkit.models.bounds import LARGEST_ANCHOR, MOST_ANCHORS, MOST_CLASSES
from toolkit.models.darknet.cfg import Section
from toolkit.models.io import HeadIO

Shape = tuple[int, int, int]  # channels, height, width
Anchors = list[tuple[float, float]]
_LARGEST_SCALE = 100.0  # of scale_x_y


def anchors_of(section: Section) -> Anchors:
    """All anchors of a head's section, as they are written there. As in darknet an anchor that `num` counts
    and `anchors` lacks is 0.5 x 0.5; those beyond `num`, where darknet reads past its memory, are kept."""
    numbers = section.reals("anchors")
    if not numbers:
        raise section.fail("anchors= is missing")
    if min(numbers) <= 0:
        raise section.fail(f"anchors= has {min(numbers):g}, expected widths and heights above 0")
    if max(numbers) > LARGEST_ANCHOR or len(numbers) > 2 * MOST_ANCHORS:
        raise section.fail(
            f"anchors= has {len(numbers):,} numbers up to {max(numbers):g}: expected {2 * MOST_ANCHORS:,} or "
            f"less, up to {LARGEST_ANCHOR:,g}"
        )
    count = section.integer("num", max(1, len(numbers) // 2), low=1)
    if 2 * count > len(numbers) + 2:
        raise section.fail(f"num={count}, but anchors= has {len(numbers)} numbers, expected {2 * count}")
    numbers = [*numbers, 0.5, 0.5][: 2 * max(count, len(numbers) // 2)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _counted(section: Section) -> Anchors:
    """The same, with a warning if they are not `num` pairs."""
    anchors, given = anchors_of(section), len(section.reals("anchors"))
    if given != 2 * section.integer("num", len(anchors)) or given % 2:
        warnings.warn(
            f"{section.source}, [{section.kind}] in line {section.line}: anchors= has {given} numbers for "
            f"num={section.integer('num', len(anchors))} and is read as {len(anchors)} pairs",
            stacklevel=5,
        )
    return anchors


def _masked(section: Section) -> Anchors:
    """The anchors that mask= gives to a [yolo] or [Gaussian_yolo]."""
    anchors = _counted(section)
    mask = section.integers("mask") or list(range(len(anchors)))
    if len(mask) > MOST_ANCHORS:
        raise section.fail(f"mask= has {len(mask):,} numbers: expected {MOST_ANCHORS:,} or less")
    if any(not 0 <= m < len(anchors) for m in mask):
        raise section.fail(f"{section.shown('mask')} points beyond the {len(anchors)} anchors")
    return [anchors[m] for m in mask]


def _scale(section: Section) -> float:
    return section.real("scale_x_y", 1.0, high=_LARGEST_SCALE)


def _yolo(section: Section, stride: int) -> HeadIO:
    return HeadIO(
        stride,
        tuple(_masked(section)),
        _scale(section),
        new_coords=bool(section.integer("new_coords", 0)),
    )


def _gaussian(section: Section, stride: int) -> HeadIO:
    if section.options.get("yolo_point", "center") != "center":
        raise section.fail(f"{section.shown('yolo_point')} is not supported: expected center")
    return HeadIO(stride, tuple(_masked(section)), _scale(section), gaussian=True)


def _region(section: Section, stride: int) -> HeadIO:
    if "tree" in section.options:
        raise section.fail(f"{section.shown('tree')}: classes in a tree (YOLO9000) are not supported")
    if section.integer("coords", 4) != 4:
        raise section.fail(f"{section.shown('coords')} is not supported: expected 4 numbers of a box")
    if section.integer("softmax", 0) != 1:
        raise section.fail("softmax=1 is missing: classes without a softmax are not supported")
    if section.integer("classfix", 0) < 0:
        raise section.fail(f"{section.shown('classfix')} is not supported")
    cells = _counted(section)  # in cells of the map, unlike those of [yolo]
    return HeadIO(stride, tuple((w * stride, h * stride) for w, h in cells), softmax=True)


HEADS: dict[str, Callable[[Section, int], HeadIO]] = {
    "yolo": _yolo,
    "Gaussian_yolo": _gaussian,
    "region": _region,
}


def class_count(section: Section) -> int:
    """Number of classes of a head."""
    return section.integer("classes", 20, low=1, high=MOST_CLASSES)


def head_io(section: Section, shape: Shape, input_size: tuple[int, int]) -> HeadIO:
    """The head that a section describes, after darknet's parse_yolo, parse_gaussian_yolo and parse_region.

    Args:
        section: of a kind in `HEADS`.
        shape: (channels, height, width) of its input, the raw map.
        input_size: (w, h) of the network in px.

    Raises:
        InputError: with file, section and line, if its numbers do not fit or it is not supported.
    """
    channels, _, width = shape
    stride = max(1, input_size[0] // width)
    head = HEADS[section.kind](section, stride)
    classes = class_count(section)
    if channels != head.channels(classes):
        raise section.fail(
            f"{len(head.anchors)} anchors and {classes} classes need {head.channels(classes)} channels, but "
            f"its input has {channels}"
        )
    return head


def check_cells(section: Section, shape: Shape, input_size: tuple[int, int]) -> None:
    """InputError unless the cells of a head's map are square; sides of the input are multiples of the
    network's stride."""
    _, height, width = shape
    stride = max(1, input_size[0] // width)
    if (width * stride, height * stride) != input_size:
        raise section.fail(
            f"its map has {width}x{height} cells for an input of {input_size[0]}x{input_size[1]} px: cells "
            "that are not square are not supported"
        )
