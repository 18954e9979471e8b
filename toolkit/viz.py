"""Drawing from plain arrays: boxes on pictures, grids, bars, curves, precision-recall, confusion, anchors.

Charts return a matplotlib Figure that is already closed in pyplot: a notebook shows it once, `savefig` works,
and figures do not accumulate. The palette is Okabe and Ito's, which suits all kinds of colour vision
(https://jfly.uni-koeln.de/color/); beyond seven series the line style changes as well.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit import fonts
from toolkit.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ON_PICTURES = (*PALETTE[:6], "#F0E442", "#FFFFFF")  # black frames are invisible on dark pictures
WHITE = 7  # the class number that is drawn white on pictures
_LINES = ("-", "--", ":", "-.")
_GREY = "#666666"
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
}


@cache
def _chart() -> type[Figure]:
    """matplotlib's figure; a file with a suffix is saved whole or not at all, and in a notebook it has an
    alternative text."""
    from matplotlib.figure import Figure

    class Chart(Figure):
        def savefig(self, fname: Any, **options: Any) -> None:
            if isinstance(fname, str | Path) and Path(fname).suffix:
                with whole_file(fname) as temporary:
                    super().savefig(temporary, **options)
            else:  # a stream, or a name to which matplotlib adds a suffix
                super().savefig(fname, **options)

        def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, bytes], dict[str, dict[str, str]]]:
            picture = BytesIO()
            self.savefig(picture, format="png", dpi=self.dpi, bbox_inches="tight")
            return {"image/png": picture.getvalue()}, {"image/png": {"alt": alternative(self)}}

    return Chart


@contextmanager
def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    import matplotlib.pyplot as plt

    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), FigureClass=_chart())
        plt.close(figure)
        yield figure, axes
        fonts.mend_texts(figure)


def _name(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title)


def _label(name: str) -> str:
    """For a legend, which leaves out what begins with an underscore: with a space of no width before it."""
    name = fonts.short_name(name)
    return f"\u200b{name}" if name.startswith("_") else name


def _line(i: int) -> dict[str, Any]:
    return {"color": PALETTE[i % 7], "linestyle": _LINES[i // 7 % len(_LINES)]}


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    class_ids: NDArray[np.integer] | None = None,
    scores: NDArray[np.floating] | None = None,
    classes: Sequence[str] = (),
    long_side: int = 640,
    scale: float = 1.0,
    in_place: bool = False,
) -> NDArray[np.uint8]:
    """Draw boxes with their class names and scores.

    Args:
        image: RGB uint8 (H, W, 3); it is not changed unless `in_place` is given.
        boxes: (N, 4) xyxy px.
        class_ids: (N,) choose the colours; by default all 0.
        scores: (N,) written after the class name.
        classes: names by class id; none are written for other ids.
        long_side: a picture with a shorter long side (px) is enlarged by a whole factor first, so that lines
            and letters stay sharp.
        scale: of lines and letters; 2 suits a cell of `image_grid`.
        in_place: draw into `image` where it is not enlarged: a copy of a large picture takes 600 MB.

    Returns:
        The drawing, RGB uint8, enlarged or not. A box without a side as long as its letters has no text.

    >>> draw_boxes(np.zeros((96, 128, 3), np.uint8), np.array([[16, 16, 64, 64]])).shape
    (480, 640, 3)
    """
    import supervision as sv

    factor = max(1, round(long_side / max(image.shape[:2])))
    picture: Any = image
    if factor > 1 or not in_place:  # also a copy
        picture = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * factor
    ids = np.zeros(len(boxes), int) if class_ids is None else np.asarray(class_ids, int)
    side = max(picture.shape[:2])
    font = max(11, round(side / 50 * scale))
    names = fonts.all_drawable(classes)
    texts = np.array(
        [
            " ".join(
                ([names[c]] if c < len(names) else []) + ([] if scores is None else [f"{scores[i]:.2f}"])
            )
            for i, c in enumerate(ids)
        ],
        object,
    )
    # in order of decreasing area, so that the label of a large box never hides a small one
    sizes = boxes[:, 2:] - boxes[:, :2]
    order = np.argsort(-sizes.prod(axis=1), kind="stable")
    drawn: Any = sv.Detections(boxes[order], class_id=ids[order])
    texts, sizes = texts[order], sizes[order]
    # supervision draws in BGR; exchanged here, where it costs nothing, and not in a picture of 600 MB
    colours = sv.ColorPalette([sv.Color(*_rgb(colour)[::-1]) for colour in ON_PICTURES])
    picture = sv.BoxAnnotator(colours, thickness=max(1, round(side / 320 * scale))).annotate(picture, drawn)
    readable = (texts != "") & (sizes.max(axis=1, initial=0) >= font)
    for (x, y), text, c in zip(
        drawn.xyxy[readable, :2], texts[readable], drawn.class_id[readable], strict=True
    ):
        _write_label(picture, x, y, text, ON_PICTURES[c % len(ON_PICTURES)], font)
    drawing: NDArray[np.uint8] = picture
    return drawing


def _write_label(picture: NDArray[np.uint8], x: float, y: float, text: str, colour: str, font: int) -> None:
    """Write text on a patch of colour above (x, y), the corner of a box, into the picture: inside the box
    where there is no room above it, and left of the right border."""
    padding = max(2, font // 5)
    coverage, below = fonts.letters(text, font)
    # rows for letters of the usual height, so that the labels of a picture are alike
    rise, drop = max(coverage.shape[0] - below, round(0.8 * font)), max(below, round(0.2 * font))
    height, width = rise + drop + 2 * padding, coverage.shape[1] + 2 * padding
    left = max(0, min(int(x), picture.shape[1] - width))
    top = int(y) - height if y >= height else int(y)
    patch = np.zeros((height, width, 1), np.float32)
    first = padding + rise + below - coverage.shape[0]
    patch[first : first + coverage.shape[0], padding:-padding, 0] = coverage / np.float32(255)
    paper, ink = (np.array(rgb, np.float32) for rgb in (_rgb(colour), _rgb(_ink(colour))))
    target = picture[max(top, 0) : top + height, left : left + width]
    patch = patch[: target.shape[0], : target.shape[1]]
    target[:] = np.round(paper + (ink - paper) * patch)


def draw_points(
    image: NDArray[np.uint8],
    points: NDArray[np.floating],
    colour: str = "#F0E442",
    in_place: bool = False,
) -> NDArray[np.uint8]:
    """Draw landmarks as dots, whose diameter is about a hundredth of the face.

    Args:
        image: RGB uint8 (H, W, 3); it is not changed unless `in_place` is given.
        points: (K, P, 2) px of K faces; points outside the picture, or not finite, are left out.
        colour: "#RRGGBB".

    Returns:
        The drawing, RGB uint8 (H, W, 3): a copy unless `in_place` is given.
    """
    drawing = image if in_place else image.copy()
    ink = _rgb(colour)
    for face in np.asarray(points, float):
        inside = np.isfinite(face).all(1) & (face >= 0).all(1) & (face < image.shape[1::-1]).all(1)
        if not inside.any():
            continue
        radius = max(1.0, np.ptp(face[inside], axis=0).max() / 150)
        for x, y in face[inside]:
            # in sixteenths of a pixel, relative to pixel centres
            centre = (round((x - 0.5) * 16), round((y - 0.5) * 16))
            cv2.circle(drawing, centre, round(radius * 16), ink, -1, cv2.LINE_AA, 4)
    return drawing


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _ink(colour: str) -> str:
    red, green, blue = _rgb(colour)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#FFFFFF"


def image_grid(
    images: Sequence[NDArray[np.uint8]],
    titles: Sequence[str] = (),
    columns: int | None = None,
    title: str = "",
    cell: float = 2.4,
) -> Figure:
    """Pictures in rows.

    Args:
        images: RGB (H, W, 3) or grey (H, W) uint8, of any sizes.
        titles: one per picture, or none.
        columns: by default at most five.
        title: of the figure.
        cell: width of a picture in inches.
    """
    columns = columns or min(len(images), 5) or 1
    rows = max(1, -(-len(images) // columns))
    aspects = [image.shape[0] / image.shape[1] for image in images] or [1.0]
    height = cell * float(np.clip(np.median(aspects), 0.4, 2.0)) + (0.3 if titles else 0.05)
    with _figure(cell * columns, height * rows + (0.4 if title else 0), rows, columns) as (figure, axes):
        for i, axis in enumerate(np.ravel(axes)):
            axis.axis("off")
            if i < len(images):
                axis.imshow(images[i], cmap="gray", interpolation="antialiased")
                if titles:
                    axis.set_title(titles[i], fontsize=9, fontweight="normal", loc="center")
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def bars(
    names: Sequence[str],
    values: ArrayLike | Mapping[str, ArrayLike],
    errors: ArrayLike | Mapping[str, ArrayLike] | None = None,
    xlabel: str = "",
    title: str = "",
    form: str = "{:#.3g}",
) -> Figure:
    """Horizontal bars with their values written next to them, first name on top.

    Args:
        names: (N,) of the bars.
        values: (N,), or several series {name: (N,)}; NaN reads "not measured".
        errors: (N,) half widths or (2, N) below and above; a mapping if `values` is one.
        xlabel: with the unit.
        title: of the figure.
        form: format of the written values.
    """
    series = dict(values) if isinstance(values, Mapping) else {"": values}
    spreads = dict(errors) if isinstance(errors, Mapping) else dict.fromkeys(series, errors)
    thick = 0.8 / max(1, len(series))
    height = 0.9 + 0.26 * len(names) * max(1, len(series) * 0.75) + (0.3 if title else 0)
    with _figure(6.4, max(1.8, height)) as (figure, axes):
        rows, least = np.arange(len(names)), 0.0
        for s, (name, column) in enumerate(series.items()):
            numbers = np.asarray(column, float)
            shown = np.nan_to_num(numbers)
            spread = np.zeros_like(shown) if spreads.get(name) is None else np.asarray(spreads[name], float)
            at = rows + (s - (len(series) - 1) / 2) * thick
            axes.barh(at, shown, thick * 0.92, color=PALETTE[s % 7], label=_label(name))
            marked = ~np.isnan(numbers) & (np.atleast_2d(spread) > 0).any(axis=0)
            axes.errorbar(
                shown[marked], at[marked], xerr=spread[..., marked], fmt="none", ecolor="black", lw=1
            )
            least = min(least, *(shown - np.atleast_2d(spread)[0] * marked))
            reach = shown + np.atleast_2d(spread)[-1] * marked
            for y, end, number in zip(at, reach, numbers, strict=True):
                text = "not measured" if np.isnan(number) else form.format(number)
                axes.annotate(
                    text, (max(end, 0), y), (3, 0), textcoords="offset points", va="center", fontsize=8
                )
        axes.set_yticks(rows, fonts.all_drawable(names))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.14, y=0.02)
        axes.locator_params(axis="x", nbins=6)
        if least >= 0:
            axes.set_xlim(left=0)
        else:
            axes.axvline(0, color="black", lw=0.8)
        _name(axes, title, xlabel, "")
        if len(series) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def stacked(
    names: Sequence[str],
    parts: Mapping[str, ArrayLike],
    xlabel: str = "",
    title: str = "",
    form: str = "{:#.3g}",
) -> Figure:
    """Horizontal bars stacked from `parts` {name: (N,)}, with their sums next to them, first name on top."""
    rows, reach = np.arange(len(names)), np.zeros(len(names))
    with _figure(7.2, max(1.8, 1.1 + 0.26 * len(names))) as (figure, axes):
        for i, (part, column) in enumerate(parts.items()):
            axes.barh(
                rows, np.asarray(column, float), 0.75, left=reach, color=PALETTE[i % 7], label=_label(part)
            )
            reach = reach + np.asarray(column, float)
        for y, end in zip(rows, reach, strict=True):
            axes.annotate(
                form.format(end), (end, y), (3, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_yticks(rows, fonts.all_drawable(names))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.14, y=0.02)
        _name(axes, title, xlabel, "")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def dots(
    names: Sequence[str],
    values: ArrayLike,
    groups: Sequence[str] = (),
    xlabel: str = "",
    title: str = "",
    form: str = "{:.2g}",
) -> Figure:
    """Values (N,) of very different magnitudes as dots on a logarithmic axis, first name on top, coloured by
    `groups` (N,). A zero is drawn at the left edge, labelled 0."""
    written = np.asarray(values, float)
    positive = written[written > 0]
    numbers = np.where(written > 0, written, (positive.min() if len(positive) else 1.0) / 10)
    groups = groups or [""] * len(names)
    kinds = list(dict.fromkeys(groups))
    with _figure(6.4, max(1.8, 1.0 + 0.27 * len(names))) as (figure, axes):
        for i, kind in enumerate(kinds):
            rows = np.array([row for row, group in enumerate(groups) if group == kind])
            axes.plot(numbers[rows], rows, "o", color=PALETTE[i % 7], label=_label(kind))
        for row, number in enumerate(numbers):
            axes.annotate(
                form.format(number),
                (number, row),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), fonts.all_drawable(names))
        axes.invert_yaxis()
        axes.margins(x=0.16, y=0.08)
        if len(numbers) and numbers.max() < 10 * numbers.min():
            axes.set_xlim(_decades(numbers))
            axes.tick_params(which="minor", labelbottom=False)
        _name(axes, title, xlabel, "")
        if len(kinds) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _decades(numbers: NDArray[np.floating]) -> tuple[float, float]:
    """Whole powers of ten around positive numbers: those are labelled on a logarithmic axis."""
    low, high = np.log10(numbers.min()), np.log10(numbers.max())
    return float(10 ** np.floor(low)), float(10 ** np.ceil(high + 0.3))


def layer_profile(
    kinds: Sequence[str], quantities: Mapping[str, ArrayLike], xlabel: str = "", title: str = ""
) -> Figure:
    """Layers of a network as columns in running order.

    Args:
        kinds: (L,) kind of each layer, for the colour.
        quantities: name -> (L,) values; one panel each.
        xlabel: of the last panel.
        title: of the figure.
    """
    names = list(dict.fromkeys(kinds))
    x = np.arange(len(kinds))
    with _figure(9.0, 0.9 + 1.5 * len(quantities), len(quantities)) as (figure, axes):
        panels = np.ravel(axes)
        for panel, (quantity, column) in zip(panels, quantities.items(), strict=True):
            numbers = np.asarray(column, float)
            for i, name in enumerate(names):
                selected = np.array([kind == name for kind in kinds])
                colour = PALETTE[i] if i < 7 else _GREY
                panel.bar(x[selected], numbers[selected], 0.85, color=colour, label=_label(name))
            panel.set_title(quantity, fontsize=10, fontweight="normal")
            panel.grid(axis="x", visible=False)
            panel.margins(x=0.01)
            panel.tick_params(labelbottom=panel is panels[-1])
        panels[-1].set_xlabel(xlabel)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def curves(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    log: str = "",
) -> Figure:
    """Lines.

    Args:
        series: name -> (x, y).
        xlabel: with the unit.
        ylabel: with the unit.
        title: of the figure.
        bands: name -> (low, high) at the same x, shaded.
        log: logarithmic axes: "", "x", "y" or "xy".
    """
    with _figure(6.4, 3.8) as (figure, axes):
        for i, (name, (x, y)) in enumerate(series.items()):
            points = np.asarray(x)
            axes.plot(
                points, y, label=_label(name), lw=1.8, marker="o" if points.size == 1 else None, **_line(i)
            )
            if bands and name in bands:
                axes.fill_between(points, *bands[name], color=_line(i)["color"], alpha=0.18, lw=0)
        axes.set_xscale("log" if "x" in log else "linear")
        axes.set_yscale("log" if "y" in log else "linear")
        _name(axes, title, xlabel, ylabel)
        _legend(axes, len(series))
    return figure


def _legend(axes: Axes, count: int) -> None:
    longest = max((len(name) for name in axes.get_legend_handles_labels()[1]), default=0)
    if count > 6 or (count > 1 and longest > 24):  # it would cover lines
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), ncols=-(-count // 20))
    elif count > 1:
        axes.legend()


def pareto(
    points: Mapping[str, tuple[float, float]],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log: str = "",
    groups: Mapping[str, str] | None = None,
) -> Figure:
    """Points and their Pareto front: smaller x and larger y are better.

    Args:
        points: name -> (x, y).
        xlabel: with the unit.
        ylabel: with the unit.
        title: of the figure.
        log: logarithmic axes: "", "x", "y" or "xy".
        groups: name -> group, for the colour.
    """
    names = list(points)
    xy = np.array([points[name] for name in names], float).reshape(-1, 2)
    order = np.lexsort((-xy[:, 1], xy[:, 0]))
    best = np.maximum.accumulate(np.append(-np.inf, xy[order, 1]))[:-1]
    front = order[xy[order, 1] > best]
    kinds = list(dict.fromkeys(groups.values())) if groups else []
    with _figure(7.6, 4.2) as (figure, axes):
        axes.plot(*xy[front].T, drawstyle="steps-post", color=_GREY, lw=1.2, zorder=1)
        for i, name in enumerate(names):
            on_front = i in front
            colour = PALETTE[kinds.index(groups[name]) % 7] if groups else PALETTE[0 if on_front else 5]
            axes.scatter(
                *xy[i], s=42, zorder=3, edgecolor=colour, color=colour if on_front else "white", lw=1.5
            )
        axes.set_xscale("log" if "x" in log else "linear")
        axes.set_yscale("log" if "y" in log else "linear")
        axes.margins(x=0.3, y=0.12)
        for i, kind in enumerate(kinds):
            axes.scatter([], [], color=PALETTE[i % 7], label=_label(kind))
        axes.plot([], [], color=_GREY, lw=1.2, label="Pareto front")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        _name(axes, title, xlabel, ylabel)
        fonts.mend_texts(figure)
        figure.draw_without_rendering()  # labels are placed after the layout has moved the points
        _spread_labels(axes, xy, names, set(front.tolist()))
    return figure


def _spread_labels(axes: Axes, xy: NDArray[np.float64], names: Sequence[str], front: set[int]) -> None:
    """Names next to their points, at the first position that overlaps nothing and is inside the axes."""
    # the front reaches a point from below and leaves it to the right
    near = [(-6, 4, "right"), (6, -12, "left"), (0, 8, "center"), (0, -15, "center"), (7, -3, "left")]
    far = [(6, 16, "left"), (6, -24, "left"), (-6, 16, "right"), (-6, -24, "right")]
    dots = axes.transData.transform(xy)
    per_point = axes.figure.dpi / 72
    (x0, _), (x1, _) = axes.bbox.get_points()
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    labels: list[tuple[float, float, float, float]] = []
    for (x, y), (after, above) in pairwise(dots[sorted(front, key=lambda i: xy[i, 0])]):
        taken += [(x, y, after, y), (after, y, after, above)]
    for i, (point, dot, name) in enumerate(zip(xy, dots, names, strict=True)):
        label = axes.annotate(
            fonts.short_name(name), tuple(point), (0, 0), textcoords="offset points", fontsize=8.5
        )
        fonts.mend_text(label)
        extent = label.get_window_extent()
        options: list[tuple[Any, ...]] = []
        for dx, dy, align in (near if i in front else near[::-1]) + far:
            back = {"left": 0, "right": extent.width, "center": extent.width / 2}[align]
            left, low = dot[0] + dx * per_point - back, dot[1] + dy * per_point
            box = (left, low, left + extent.width, low + extent.height)
            hits = sum(  # overlapping text is worse than text over a line
                box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3]
                for b in (*taken, *labels, *labels, *labels)
            )
            hits += box[0] < x0 or box[2] > x1
            options.append((hits, len(options), dx, dy, align, box))
        _, _, dx, dy, align, box = min(options)
        labels.append(box)
        label.set(position=(dx, dy), ha=align)


def tradeoffs(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    xlabel: str = "",
    ylabel: str = "",
    groups: Mapping[str, str] | None = None,
    xscale: Literal["log", "linear"] = "log",
) -> Figure:
    """Lines over an axis of costs, in panels side by side, each named at its right end.

    Args:
        panels: title -> name -> (x, y), points in any order.
        xlabel: with the unit.
        ylabel: with the unit.
        groups: name -> group: its lines share a colour and differ in markers and dashes.
        xscale: "log" or "linear", of the axis of costs.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    group = {name: (groups or {}).get(name, name) for name in names}
    kinds = list(dict.fromkeys(group.values()))
    looks = {}
    for name in names:
        members = [other for other in names if group[other] == group[name]]
        i = members.index(name)
        look = {"linestyle": _LINES[i % len(_LINES)], "marker": "os^D"[i % 4]}
        looks[name] = {"color": PALETTE[kinds.index(group[name]) % 7], **look}
    with _figure(4.1 * len(panels), 4.6, 1, len(panels)) as (figure, axes):
        for axis, (title, series) in zip(np.ravel(axes), panels.items(), strict=True):
            ends = {}
            for name, (x, y) in series.items():
                points = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
                points = points[np.argsort(points[:, 0])]
                axis.plot(*points.T, lw=1.6, ms=4, **looks[name])
                ends[name] = points[-1]
            axis.set_xscale(xscale)
            axis.xaxis.set_major_formatter("{x:g}")
            _name(axis, title, xlabel, ylabel if axis is np.ravel(axes)[0] else "")
            _name_ends(axis, ends, {name: look["color"] for name, look in looks.items()})
    return figure


def _name_ends(axes: Axes, ends: Mapping[str, NDArray[np.float64]], colours: Mapping[str, str]) -> None:
    """Names in a column right of the axes, in the order of the ends of their lines, each tied to its own."""
    names = sorted(ends, key=lambda name: ends[name][1])
    low, high = axes.get_ylim()
    wanted = [(ends[name][1] - low) / (high - low) for name in names]
    for name, y in zip(names, _apart(wanted, 0.05), strict=True):
        axes.annotate(
            fonts.short_name(name),
            tuple(ends[name]),
            (1.04, y),
            textcoords="axes fraction",
            color=colours[name],
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colours[name], "lw": 0.5, "alpha": 0.6, "shrinkA": 0},
        )


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising places up to 1 as near to the wanted ones as `gap` between them allows: neighbours that would
    touch become a block around the mean of their wishes."""
    blocks: list[list[float]] = []
    for place in wanted:
        blocks.append([place])
        while len(blocks) > 1 and _start(blocks[-1], gap) < _start(blocks[-2], gap) + gap * len(blocks[-2]):
            last = blocks.pop()
            blocks[-1] += last
    places = [_start(block, gap) + gap * i for block in blocks for i in range(len(block))]
    return [min(place, 1 - gap * (len(places) - 1 - i)) for i, place in enumerate(places)]


def _start(block: Sequence[float], gap: float) -> float:
    return sum(block) / len(block) - gap * (len(block) - 1) / 2


def precision_recall(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    aps: Mapping[str, float] | None = None,
    point: tuple[float, float] | None = None,
    title: str = "",
) -> Figure:
    """Precision-recall curves.

    Args:
        series: name -> (recall, precision), each in 0..1.
        aps: name -> average precision, written in the legend, the best first.
        point: (recall, precision) of an operating point to mark.
        title: of the figure.
    """
    order = sorted(series, key=lambda name: -(aps or {}).get(name, 0.0)) if aps else list(series)
    with _figure(6.4, 4.2) as (figure, axes):
        for i, name in enumerate(order):
            recall, precision = np.asarray(series[name][0]), np.asarray(series[name][1])
            label = f"{_label(name)}  {aps[name]:.3f}" if aps and name in aps else _label(name)
            axes.plot(recall, precision, label=label, lw=1.6, **_line(i))
        if point:
            axes.scatter(*point, s=60, color="black", zorder=5)
            axes.annotate(
                f"precision {point[1]:.2f}\nrecall {point[0]:.2f}",
                point,
                (-8, -8),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
            )
        axes.set(xlim=(0, 1.01), ylim=(0, 1.03))
        _name(axes, title, "recall", "precision")
        heading = "average precision" if aps else None
        if len(order) > 1 or aps:
            axes.legend(
                loc="upper left",
                bbox_to_anchor=(1.02, 1),
                title=heading,
                alignment="left",
                title_fontsize=9,
                ncols=-(-len(order) // 20),
            )
    return figure


def confusion(matrix: ArrayLike, classes: Sequence[str], title: str = "") -> Figure:
    """Confusion matrix.

    Args:
        matrix: (C + 1, C + 1) counts; rows are labels, the last one background; columns are detections, the
            last one missed objects. A cell is shaded by its share of the row.
        classes: (C,) names. Counts are written for up to 25 classes.
        title: of the figure.
    """
    counts = np.asarray(matrix, float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(classes) + 1
    cell = float(np.clip(9.0 / size, 0.17, 0.62))
    side = cell * size + 1.6
    with _figure(side + 0.9, side) as (figure, axes):
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        font = float(np.clip(cell * 22, 4.5, 10))
        names = fonts.all_drawable(classes)
        axes.set_xticks(range(size), [*names, "missed"], rotation=90 if size > 6 else 0, fontsize=font)
        axes.set_yticks(range(size), [*names, "background"], fontsize=font)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.axhline(size - 1.5, color="white", lw=2)
        axes.axvline(size - 1.5, color="white", lw=2)
        if size <= 26:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    dark = share[row, column] > 0.55
                    axes.text(
                        column,
                        row,
                        f"{count:.0f}",
                        ha="center",
                        va="center",
                        fontsize=font * 0.85,
                        color="white" if dark else "black",
                    )
        figure.colorbar(picture, ax=axes, shrink=0.6, label="share of the row")
        _name(axes, title, "detected class", "labelled class")
    return figure


def anchors_on_boxes(
    sizes: ArrayLike,
    anchors: Mapping[str, ArrayLike],
    title: str = "",
    limit: int = 5000,
) -> Figure:
    """Anchors over the sizes of the objects, on logarithmic axes.

    Args:
        sizes: (N, 2) width and height in px of the network input.
        anchors: name of a set -> (A, 2) width and height.
        title: of the figure.
        limit: at most this many objects are drawn, evenly chosen.
    """
    objects = np.asarray(sizes, float)
    objects = objects[np.linspace(0, len(objects) - 1, min(limit, len(objects))).astype(int)]
    with _figure(5.6, 4.8) as (figure, axes):
        axes.scatter(*objects.T, s=5, color="#999999", alpha=0.35, lw=0, label="objects", rasterized=True)
        for i, (name, group) in enumerate(anchors.items()):
            w, h = np.asarray(group, float).reshape(-1, 2).T
            axes.scatter(
                w,
                h,
                s=70,
                marker="os^D"[i % 4],
                color=PALETTE[i % 7],
                edgecolor="white",
                lw=1.2,
                label=_label(name),
                zorder=3,
            )
        axes.set(xscale="log", yscale="log")
        everything = np.concatenate(
            [objects, *(np.asarray(g, float).reshape(-1, 2) for g in anchors.values())]
        )
        low, high = max(everything.min() * 0.85, 0.5), everything.max() * 1.2
        ticks = [t for t in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if low <= t <= high]
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_yticks(ticks, map(str, ticks))
        axes.minorticks_off()
        _name(axes, title, "width at the network input, px", "height, px")
        axes.legend(loc="upper left", framealpha=0.9, frameon=True, edgecolor="none")
    return figure


def alternative(figure: Figure) -> str:
    """The alternative text of a figure: its titles, else the names of its axes.

    >>> alternative(bars(["a"], [1.0], xlabel="kB", title="Files"))
    'Files: kB'
    """
    titles = [figure.get_suptitle(), *(axes.get_title("left") or axes.get_title() for axes in figure.axes)]
    names = dict.fromkeys(
        name for axes in figure.axes for name in (axes.get_ylabel(), axes.get_xlabel()) if name
    )
    return ": ".join(filter(None, (", ".join(filter(None, titles)), ", ".join(names)))) or "Pictures"


def _head(figure: Figure, title: str) -> None:
    """A sentence as the title of a whole figure, in lines that fit it."""
    lines = (textwrap.fill(line, int(figure.get_figwidth() * 9)) for line in title.splitlines())
    figure.suptitle("\n".join(lines), fontsize=11, fontweight="bold", x=0.01, ha="left")


def _halves(estimates: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) values with their bounds -> (2, N) lengths below and above, as matplotlib takes them."""
    below, above = estimates[:, 0] - estimates[:, 1], estimates[:, 2] - estimates[:, 0]
    return np.nan_to_num(np.maximum([below, above], 0))


def _rows_of(names: Sequence[str], axes: Axes) -> NDArray[np.intp]:
    """Places of the names on the vertical axis, first on top."""
    rows = np.arange(len(names))
    axes.set_yticks(rows, fonts.all_drawable(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=6)
    return rows


def forest(
    names: Sequence[str],
    series: Mapping[str, ArrayLike],
    solid: Mapping[str, ArrayLike],
    notes: Mapping[str, Sequence[str]],
    xlabel: str = "",
    title: str = "",
) -> Figure:
    """Forest plot: differences with their intervals and a line at zero, first name on top.

    Args:
        names: (N,) of the differences.
        series: name -> (N, 3) value, lower and upper bound; NaN where there is none.
        solid: name -> (N,) whether the dot is filled; others are hollow and grey.
        notes: name -> (N,) texts at the right border, such as p values.
        xlabel: with the unit.
        title: of the figure.
    """
    with _figure(7.6, 1.3 + 0.3 * len(names) * max(1.0, 0.75 * len(series))) as (figure, axes):
        rows = _rows_of(names, axes)
        axes.axvline(0, color="black", lw=0.8)
        step = 0.6 / len(series)
        for i, (name, values) in enumerate(series.items()):
            estimates = np.asarray(values, float).reshape(-1, 3)
            at = rows + (i - (len(series) - 1) / 2) * step
            for y, row, reach, filled, note in zip(
                at, estimates, _halves(estimates).T, np.asarray(solid[name], bool), notes[name], strict=True
            ):
                if np.isnan(row[0]):
                    continue
                colour = PALETTE[i % 7] if filled else _GREY
                axes.errorbar(
                    row[0], y, xerr=reach[:, None], fmt="os^D"[i % 4], color=colour, ms=6, lw=1.6,
                    markerfacecolor=colour if filled else "white",
                )  # fmt: skip
                axes.annotate(
                    note, (1.01, y), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8.5,
                    color="black" if filled else _GREY, annotation_clip=False,
                )  # fmt: skip
            if len(series) > 1:
                axes.plot([], [], "os^D"[i % 4], color=PALETTE[i % 7], label=_label(name))
        axes.margins(x=0.06)
        _name(axes, "", xlabel, "")
        _head(figure, title)
        if len(series) > 1:
            figure.legend(loc="outside lower right", ncols=len(series))
    return figure


def strips(
    names: Sequence[str],
    samples: Sequence[ArrayLike],
    intervals: ArrayLike,
    xlabel: str = "",
    title: str = "",
    strong: str = "",
) -> Figure:
    """Every value of some groups as a dot, with the mean of each group and its interval; first name on top.

    Args:
        names: (N,) of the groups.
        samples: (N,) values of each group, such as one for each seed.
        intervals: (N, 3) mean and bounds; NaN for what is not known.
        xlabel: with the unit.
        title: of the figure.
        strong: the group that is drawn in another colour.
    """
    estimates = np.asarray(intervals, float).reshape(-1, 3)
    with _figure(7.6, 1.2 + 0.32 * len(names)) as (figure, axes):
        rows = _rows_of(names, axes)
        for y, name, values, row, reach in zip(
            rows, names, samples, estimates, _halves(estimates).T, strict=True
        ):
            colour = PALETTE[1 if name == strong else 0]
            axes.plot(values, np.full(np.size(values), y), "o", ms=5, color=colour, alpha=0.45, mew=0)
            if not np.isnan(row[0]):
                axes.errorbar(row[0], y, xerr=reach[:, None], fmt="|", ms=13, mew=2, color=colour, lw=1.6)
        axes.margins(x=0.06)
        _name(axes, "", xlabel, "")
        _head(figure, title)
    return figure


def interactions(
    panels: Mapping[str, tuple[Sequence[str], Mapping[str, ArrayLike]]],
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Means over the levels of one factor, a line for each level of another; lines that are not parallel
    are an interaction.

    Args:
        panels: name of the horizontal factor and of the lines, as "a, by b" -> levels (L,), and for each
            line (L, 3) means with their bounds.
        ylabel: with the unit.
        title: of the figure.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = max(7.6, 2.9 * columns)
    with _figure(width, 2.7 * rows + 0.5, rows, columns) as (figure, axes):
        for axis in np.ravel(axes)[len(panels) :]:
            axis.axis("off")
        for axis, (name, (levels, lines)) in zip(np.ravel(axes), panels.items(), strict=False):
            for i, (line, means) in enumerate(lines.items()):
                estimates = np.asarray(means, float).reshape(-1, 3)
                at = np.arange(len(levels)) + 0.06 * (i - (len(lines) - 1) / 2)
                axis.errorbar(
                    at, estimates[:, 0], yerr=_halves(estimates), marker="os^D"[i % 4], lw=1.6, ms=5,
                    capsize=2, label=_label(line), **_line(i),
                )  # fmt: skip
            axis.set_xticks(range(len(levels)), fonts.all_drawable(levels))
            axis.margins(x=0.2)
            axis.grid(axis="x", visible=False)
            _name(axis, "", name, ylabel)
            axis.legend(fontsize=8)
        _head(figure, title)
    return figure


def crosses(
    points: Mapping[str, tuple[ArrayLike, ArrayLike]],
    strong: Collection[str] = (),
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Named points with intervals in both directions.

    Args:
        points: name -> x and y, each (3,): value, lower and upper bound.
        strong: names of the points that are filled; others are hollow.
        xlabel: with the unit.
        ylabel: with the unit.
        title: of the figure.
    """
    names = list(points)
    x, y = (np.array([points[name][i] for name in names], float).reshape(-1, 3) for i in range(2))
    with _figure(7.6, 4.4) as (figure, axes):
        for i, name in enumerate(names):
            colour = PALETTE[0] if name in strong else _GREY
            axes.errorbar(
                x[i, 0], y[i, 0], xerr=_halves(x)[:, [i]], yerr=_halves(y)[:, [i]], fmt="o", ms=6,
                color=colour, ecolor=colour, elinewidth=1, alpha=0.9,
                markerfacecolor=colour if name in strong else "white",
            )  # fmt: skip
        axes.margins(x=0.22, y=0.1)
        _name(axes, "", xlabel, ylabel)
        _head(figure, title)
        fonts.mend_texts(figure)
        figure.draw_without_rendering()  # labels are placed after the layout has moved the points
        _spread_labels(axes, np.column_stack([x[:, 0], y[:, 0]]), names, set(range(len(names))))
    return figure


def thresholds(
    threshold: ArrayLike, series: Mapping[str, ArrayLike], chosen: float, title: str = ""
) -> Figure:
    """Figures over the threshold, and the chosen threshold as a line with the figures there as dots.

    Args:
        threshold: (N,) falling.
        series: name -> (N,) figures in 0..1.
        chosen: one of the thresholds.
        title: of the figure.
    """
    at = np.asarray(threshold, float)
    place = int(np.argmin(np.abs(at - chosen)))
    with _figure(6.4, 3.8) as (figure, axes):
        axes.axvline(chosen, color="black", lw=1)
        for i, (name, column) in enumerate(series.items()):
            values = np.asarray(column, float)
            axes.plot(at, values, lw=1.8, label=f"{_label(name)}  {values[place]:.2f}", **_line(i))
            axes.plot(chosen, values[place], "o", ms=6, color=PALETTE[i % 7])
        axes.set(xlim=(0, 1), ylim=(0, 1.03))
        _name(axes, title, "threshold on the score", "")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title=f"at {chosen:.3f}", alignment="left")
    return figure


def panels(
    names: Sequence[str],
    columns: Mapping[str, ArrayLike],
    spans: Mapping[str, tuple[ArrayLike, ArrayLike]] = {},
    groups: Sequence[str] = (),
    log: Sequence[str] = (),
    title: str = "",
    form: str = "{:,.3g}",
) -> Figure:
    """Several quantities of the same things side by side, first name on top.

    Args:
        names: (N,) of the rows.
        columns: title with the unit -> (N,) values, a panel each; NaN leaves its place empty.
        spans: title -> (low, high), (N,) each: a dot in its interval instead of a bar, with a line at 0.
        groups: (N,) for the colour.
        log: titles of panels with a logarithmic axis, on which there are dots.
        title: of the figure.
        form: format of the written values.
    """
    rows = np.arange(len(names))
    groups = groups or [""] * len(names)
    kinds = list(dict.fromkeys(groups))
    colours = [PALETTE[kinds.index(group) % 7] for group in groups]
    height = max(2.0, 1.1 + 0.27 * len(names) + 0.3 * bool(title))
    with _figure(1.4 + 2.6 * len(columns), height, 1, len(columns)) as (figure, axes):
        for panel, (quantity, column) in zip(np.ravel(axes), columns.items(), strict=True):
            numbers = np.asarray(column, float)
            shown = np.isfinite(numbers)
            ends = numbers.copy()
            if quantity in spans or quantity in log:
                panel.scatter(numbers[shown], rows[shown], 22, np.array(colours)[shown], zorder=3)
            else:
                panel.barh(rows[shown], numbers[shown], 0.7, color=np.array(colours)[shown])
            if quantity in spans:
                low, ends = (np.asarray(side, float) for side in spans[quantity])
                panel.hlines(rows[shown], low[shown], ends[shown], np.array(colours)[shown], lw=1.4)
                panel.axvline(0, color=_GREY, lw=0.8)
            for row, end, number in zip(rows[shown], ends[shown], numbers[shown], strict=True):
                panel.annotate(
                    f"{round(number, 2) + 0.0:+.2f}" if quantity in spans else form.format(number),
                    (end, row),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7.5,
                )
            panel.set_xscale("log" if quantity in log else "linear")
            panel.set_yticks(rows, fonts.all_drawable(names) if panel is np.ravel(axes)[0] else [])
            panel.set_ylim(len(names) - 0.4, -0.6)
            panel.grid(axis="y", visible=False)
            panel.margins(x=0.24)
            positive = numbers[numbers > 0]
            if quantity in log and len(positive):
                panel.set_xlim(_decades(positive))
                panel.tick_params(which="minor", labelbottom=False)
            elif quantity not in spans:
                panel.set_xlim(left=0)
            if quantity not in log:
                panel.locator_params(axis="x", nbins=4)
            panel.set_title(quantity, fontsize=9, fontweight="normal")
        if len(kinds) > 1:
            handles = [figure.axes[0].scatter([], [], 22, PALETTE[i % 7]) for i in range(len(kinds))]
            figure.legend(handles, map(_label, kinds), loc="outside lower center", ncols=len(kinds))
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def validations(
    steps: ArrayLike,
    scores: ArrayLike,
    best: int,
    parts: Mapping[str, ArrayLike],
    ylabel: str,
    title: str = "",
) -> Figure:
    """A training: the score of each validation with the best one marked, and the parts of its loss.

    Args:
        steps: (N,) of the validations.
        scores: (N,).
        best: index of the validation whose weights are kept.
        parts: name -> (N,) parts of the loss, on a logarithmic axis.
        ylabel: name of the score.
        title: of the figure.
    """
    at, values = np.asarray(steps), np.asarray(scores, float)
    with _figure(9.6, 3.6, 1, 2) as (figure, (left, right)):
        left.plot(at, values, marker="o", ms=3, lw=1.8, color=PALETTE[0])
        left.plot(at[best], values[best], "o", ms=9, mfc="none", mew=2, color=PALETTE[1])
        for i, (name, column) in enumerate(parts.items()):
            right.plot(at, column, marker="o", ms=3, lw=1.8, label=_label(name), **_line(i))
        right.set_yscale("log")
        _name(left, "", "step", ylabel)
        _name(right, "", "step", "loss per object")
        if parts:
            right.legend()
        _head(figure, title)
    return figure
