"""Widgets and tables of the notebooks: choices with a default, and the sizing of a network."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import viz
from toolkit.data import anchors, cards, catalog
from toolkit.data.dataset import Dataset
from toolkit.models import create_model
from toolkit.models.cost import Cost, measure
from toolkit.runtime import InputError, require
from toolkit.tables import html_table

if TYPE_CHECKING:
    from IPython.display import HTML
    from ipywidgets import Dropdown, VBox


def dropdown(title: str, options: Sequence[str], default: str, labels: Mapping[str, str] = {}) -> Dropdown:
    """A menu. After a change it says that the cells below are those of the former choice, until one runs.

    Args:
        title: shown before it.
        options: to choose from.
        default: its `.value` until somebody changes it, and so in a headless run.
        labels: option -> what the menu shows for it, its `.label`; the option itself unless given.

    Raises:
        InputError: the default is not one of the options.
    """
    if default not in options:
        raise InputError(f"{title} must be one of {', '.join(options)}, not {default!r}")
    widgets = require("ipywidgets", "notebooks")
    menu: Dropdown = widgets.Dropdown(
        options=[(labels.get(option, option), option) for option in options] if labels else list(options),
        value=default,
        description=title,
        description_allow_html=True,
        style={"description_width": "initial"},
        layout={"width": "max-content"},
    )
    menu.observe(lambda _: _mark_stale(menu, title), "value")
    return menu


def _mark_stale(menu: Dropdown, title: str) -> None:
    """Says so beside the menu until a cell runs; outside IPython, where no cell does, for good."""
    menu.description = f'{title} <b style="color: {viz.PALETTE[1]}">(changed: run the cells below again)</b>'
    shell = require("IPython", "notebooks").get_ipython()

    def restore(*_: Any) -> None:
        menu.description = title
        shell.events.unregister("pre_run_cell", restore)

    if shell is not None:
        shell.events.register("pre_run_cell", restore)


def data_sets(default: str, made: str = "toy", names: Sequence[str] = ()) -> Dropdown:
    """A menu of the data sets on this machine. Its `.label` is a short name for files and titles.

    Args:
        default: initial value: a name or a folder; if the data set of that name is missing, `made`.
        made: a data set that the notebook generates.
        names: of data sets to offer; by default all that have a card.

    Raises:
        InputError: `default` is neither a name nor a folder.
    """
    names = names or cards.names()
    available, labels = {made, *(name for name in names if catalog.locate(name))}, {}
    if default in names and default not in available:
        default = made
    elif Path(default).is_dir() and default not in available:
        folder = Path(default).resolve()
        available.add(default)
        labels[default] = f"{folder.parent.name}-curated" if folder.name == "curated" else folder.name
    return dropdown("data set", sorted(available), default, labels)


def checked(checks: Mapping[str, Any], stamp: Mapping[str, Any]) -> HTML:
    """Last output of a notebook: what was checked, and the `environment` it was checked in."""
    display = require("IPython.display", "notebooks")
    tables = [
        table({title: rows, other: rows.values()}).data
        for title, other, rows in (("checked", "result", checks), ("environment", "", stamp))
    ]
    html: HTML = display.HTML("".join(tables))
    return html


def table(columns: Mapping[str, Iterable[Any]], strong: str = "") -> HTML:
    """A table for a notebook, made by `toolkit.tables.html_table`.

    >>> table({"network": ["a"], "kB": [3]}).data.count("<tr>")
    2
    """
    display = require("IPython.display", "notebooks")
    html: HTML = display.HTML(html_table(columns, strong))
    return html


def sizing(dataset: Dataset, network: str = "fastest-v2") -> VBox:
    """Switches for SE, CSP, width and input size of a network, and below them its cost, its layers, and how
    its heads suit the objects of the data set.

    Args:
        dataset: with the objects.
        network: name in the zoo.

    Returns:
        The widget; its `.changes` are the settings that differ from the network's own.
    """
    widgets = require("ipywidgets", "notebooks")
    spec = create_model(network).spec
    sides = sorted({*range(spec.stride * 3, 449, spec.stride), max(spec.input_size)})
    style: Any = {"indent": False, "layout": {"width": "auto", "margin": "2px 1em 2px 2px"}}
    switches = {
        "se": widgets.Checkbox(any(spec.se), description="squeeze-and-excite", **style),
        "csp": widgets.Checkbox(any(spec.csp), description="cross-stage partial", **style),
        "width": widgets.FloatSlider(
            spec.width, min=0.25, max=2, step=0.05, description="width", continuous_update=False
        ),
        "input_size": widgets.Dropdown(
            options=[("as it is", None), *((f"{side} px", side) for side in sides)],
            index=0,  # otherwise a value of None is shown as no choice
            description="input",
        ),
    }
    page = widgets.HTML()
    box = widgets.VBox([widgets.HBox(list(switches.values()), layout={"flex_flow": "row wrap"}), page])
    base = measure(create_model(network))

    def update(_: Any = None) -> None:
        values = {name: switch.value for name, switch in switches.items()}
        box.changes = {
            name: value
            for name, value in values.items()
            if value != {"se": any(spec.se), "csp": any(spec.csp), "input_size": None}.get(name, spec.width)
        }
        gc.disable()  # a full collection takes longer than the page itself
        try:
            page.value = sizing_page(dataset, network, box.changes, base)
        finally:
            gc.enable()

    for switch in switches.values():
        switch.observe(update, "value")
    update()
    return box


def phone(
    folders: Sequence[str | Path],
    lan: bool = False,
    tls: bool | None = None,
    picture: str | Path | None = None,
) -> VBox:
    """A code for a phone's camera. It opens a page with exported networks, whose readings appear below the
    code as they come, and are kept in timing.json of their folders. The page ends with the notebook.

    Args:
        folders: exported networks with ONNX files.
        lan: for phones in this machine's network, instead of browsers on this machine alone.
        tls: https, which cameras need; by default where `lan` is.
        picture: what the page times; scikit-image's astronaut unless given.

    Returns:
        The widget; its `.server` has `inbox.readings` and `close()`.

    Raises:
        InputError: a folder has no ONNX files, or this machine is in no network.
    """
    from toolkit.device import report
    from toolkit.device.readings import Reading
    from toolkit.device.serve import PageServer, code_svg

    widgets = require("ipywidgets", "notebooks")
    rows = widgets.HTML("<p>No reading yet.</p>")

    def told(folder: Path, reading: Reading) -> None:
        readings = [reading for _, reading in box.server.inbox.readings]
        times = [report.summary(reading) for reading in readings]
        columns = {
            "network": [reading.network for reading in readings],
            "browser": [reading.machine for reading in readings],
            "threads": [reading.settings.threads for reading in readings],
            "forward, ms": [f"{each['inference'].p50:.2f}" for each in times],
            "all, ms": [f"{each['total'].p50:.2f}" for each in times],
            "p90 of all, ms": [f"{each['total'].p90:.2f}" for each in times],
            "the same file here": [report.parity_text(reading) for reading in readings],
        }
        rows.value = table(columns).data

    server = PageServer(folders, lan, tls, picture=picture, told=told)
    atexit.register(server.close)
    link = (
        f'<p><a href="{server.address}" target="_blank">{server.address}</a></p><p>{escape(server.note)}</p>'
    )
    box: VBox = widgets.VBox([widgets.HTML(code_svg(server.address) + link), rows])
    box.server = server
    return box


def sizing_page(dataset: Dataset, network: str, changes: Mapping[str, Any], base: Cost) -> str:
    """HTML: totals next to those of `base`, the layers by multiply-adds on a common scale, and the heads with
    the sizes of the objects they can see."""
    model = create_model(network, **changes)
    cost = measure(model)
    totals = {
        "parameters": (base.params, cost.params),
        "MMAC": (base.macs / 1e6, cost.macs / 1e6),
        "BFLOPs": (base.bflops, cost.bflops),
        "peak memory, kB": (base.peak_memory / 1000, cost.peak_memory / 1000),
    }
    rows = [
        [name, *(f"{n:,.0f}" if n >= 1000 else f"{n:.4g}" for n in (before, now)), f"{now / before - 1:+.1%}"]
        for name, (before, now) in totals.items()
    ]
    sides = np.sqrt(anchors.object_sizes(dataset, model.io.input_size, model.io.fit).prod(axis=1))
    heads = [
        [
            head.stride,
            f"{head.receptive_field} px",
            f"{(sides < head.stride).mean():.1%}",
            f"{((sides >= head.stride) & (sides <= head.receptive_field)).mean():.1%}",
            f"{(sides > head.receptive_field).mean():.1%}",
        ]
        for head in cost.heads
    ]
    width, height = model.io.input_size
    html: str = (
        f"<p>{escape(network)} at {width} x {height}: the side of the median object is "
        f"{np.median(sides):.0f} px</p>"
        + table(dict(zip(("", "as it is", "now", "change"), zip(*rows, strict=True), strict=True))).data
        + _layer_bars(cost, base)
        + table(
            dict(
                zip(
                    (
                        "stride of the head",
                        "receptive field",
                        "objects smaller than a cell",
                        "within the receptive field",
                        "larger",
                    ),
                    zip(*heads, strict=True),
                    strict=True,
                )
            )
        ).data
    )
    return html


def _layer_bars(cost: Cost, base: Cost) -> str:
    """An SVG with one bar per layer, coloured by kind; drawn faster than a matplotlib figure."""
    kinds = list(dict.fromkeys(layer.kind for layer in cost.layers if layer.macs))
    colours = {kind: viz.PALETTE[i % len(viz.PALETTE)] for i, kind in enumerate(kinds)}
    top = max(layer.macs for layer in (*cost.layers, *base.layers)) or 1
    bars = "".join(
        f'<rect x="{8 * i}" y="{90 - 90 * layer.macs / top:.1f}" width="7" '
        f'height="{90 * layer.macs / top:.1f}" fill="{colours[layer.kind]}">'
        f"<title>{escape(layer.name)}, {layer.macs / 1e6:.3g} MMAC</title></rect>"
        for i, layer in enumerate(cost.layers)
        if layer.macs
    )
    names = "".join(
        f'<tspan fill="{colour}">\u25a0 {escape(kind)}  </tspan>' for kind, colour in colours.items()
    )
    return (
        f'<svg width="{8 * len(cost.layers)}" height="112" font-size="11">{bars}'
        f'<text x="0" y="106" xml:space="preserve">{names}</text></svg>'
        f"<p>Multiply-adds of each layer, from the input to the heads; the full height is {top / 1e6:.3g} "
        "million</p>"
    )
