"""Widgets and tables of the notebooks: choices with a default, and the sizing of a network."""

from __future__ import annotations

import atexit
import difflib
import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import viz
from toolkit.data import anchors, cards, catalog
from toolkit.data.dataset import Dataset
from toolkit.models import create_model, list_models
from toolkit.models.cost import Cost, LayerCost, measure
from toolkit.models.network import TorchNetwork
from toolkit.runtime import InputError, require
from toolkit.stopwatch import interleave
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

    def tell(note: str) -> None:
        menu.description = f"{title} ({note})" if note else title

    menu.observe(lambda _: _mark_stale(tell), "value")
    return menu


def _mark_stale(show: Callable[[str], None]) -> None:
    """Shows that the cells below are stale until a cell runs: outside IPython, where none does, for good."""
    show(f'<b style="color: {viz.PALETTE[1]}">changed: run the cells below again</b>')
    shell = require("IPython", "notebooks").get_ipython()

    def restore(*_: Any) -> None:
        show("")
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
    """A menu of networks and switches for SE, CSP, width and input size, and below them the cost, the layers
    next to those of the unchanged network, and how the heads suit the objects of the data set.

    Args:
        dataset: with the objects.
        network: name in the zoo, chosen at the start.

    Returns:
        The widget; its `.network` is the chosen one, its `.changes` are the settings that differ from the
        network's own, and `.model()` makes the network that it is set to.
    """
    widgets = require("ipywidgets", "notebooks")
    style: Any = {"indent": False, "layout": {"width": "auto", "margin": "2px 1em 2px 2px"}}
    menu = widgets.Dropdown(options=list_models("detection"), value=network, description="network")
    switches = {
        "se": widgets.Checkbox(description="squeeze-and-excite", **style),
        "csp": widgets.Checkbox(description="cross-stage partial", **style),
        "width": widgets.FloatSlider(
            1, min=0.25, max=2, step=0.05, description="width", continuous_update=False
        ),
        "input_size": widgets.Dropdown(description="input"),
    }
    note, page = widgets.HTML(), widgets.HTML()
    row = widgets.HBox([menu, *switches.values()], layout={"flex_flow": "row wrap"})
    box = widgets.VBox([row, note, page])
    own: dict[str, Any] = {}

    def choose() -> None:
        """Puts the switches where the chosen network has them."""
        model = create_model(menu.value)
        spec, box.network = model.spec, menu.value
        sides = sorted({*range(spec.stride * 3, 449, spec.stride), max(spec.input_size)})
        own.update(se=any(spec.se), csp=any(spec.csp), width=spec.width, input_size=None)
        switches["input_size"].options = [("as it is", None), *((f"{side} px", side) for side in sides)]
        switches["input_size"].index = 0  # otherwise a value of None is shown as no choice
        for name in ("se", "csp", "width"):
            switches[name].value = own[name]
        box.base = measure(model), fastest(model)

    def update() -> None:
        values = {name: switch.value for name, switch in switches.items()}
        box.changes = {name: value for name, value in values.items() if value != own[name]}
        box.model = partial(create_model, box.network, **box.changes)
        gc.disable()  # a full collection takes longer than the page itself
        try:
            page.value = sizing_page(dataset, box.network, box.changes, *box.base)
        finally:
            gc.enable()

    def moved(change: Any) -> None:
        if change.owner is menu:
            for switch in switches.values():
                switch.unobserve(moved, "value")
            choose()
            watch()
        update()
        _mark_stale(lambda text: setattr(note, "value", text))

    def watch() -> None:
        for switch in switches.values():
            switch.observe(moved, "value")

    choose()
    watch()
    menu.observe(moved, "value")
    update()
    return box


def fastest(model: TorchNetwork, rounds: int = 2) -> float:
    """Milliseconds of the fastest of some calls on an empty picture, after one that is not timed: about what
    a network takes, while somebody waits for it."""
    width, height = model.io.input_size
    call = partial(model.predict, np.zeros((1, model.io.channels, height, width), np.float32))
    return float(interleave({"": call}, rounds=rounds, warmup=0)[""].min())


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
    from toolkit.device.readings import Reading
    from toolkit.device.report import Timings
    from toolkit.device.serve import PageServer, code_svg

    widgets = require("ipywidgets", "notebooks")
    rows = widgets.HTML("<p>No reading yet.</p>")

    def told(folder: Path, reading: Reading) -> None:
        rows.value = Timings(box.server.inbox.readings)._repr_html_()

    server = PageServer(folders, lan, tls, picture=picture, told=told)
    atexit.register(server.close)
    link = (
        f'<p><a href="{server.address}" target="_blank">{server.address}</a></p><p>{escape(server.note)}</p>'
    )
    box: VBox = widgets.VBox([widgets.HTML(code_svg(server.address) + link), rows])
    box.server = server
    return box


def sizing_page(
    dataset: Dataset, network: str, changes: Mapping[str, Any], base: Cost, base_ms: float
) -> str:
    """HTML: totals next to those of `base`, the layers by multiply-adds with those of `base` in grey, and the
    heads with the sizes of the objects they can see."""
    model = create_model(network, **changes)
    cost = measure(model)
    totals = {
        "parameters": (base.params, cost.params),
        "kB in half precision": (base.params / 500, cost.params / 500),
        "MMAC": (base.macs / 1e6, cost.macs / 1e6),
        "BFLOPs": (base.bflops, cost.bflops),
        "peak memory, kB": (base.peak_memory / 1000, cost.peak_memory / 1000),
        "ms, torch on this machine": (base_ms, fastest(model) if changes else base_ms),
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
    """An SVG with one bar per layer, coloured by kind, over the grey one of the unchanged network; drawn
    faster than a matplotlib figure."""
    before, now = ({layer.name: layer for layer in each.layers if layer.macs} for each in (base, cost))
    names = _merged(list(before), list(now))
    kinds = list(dict.fromkeys(layer.kind for layer in now.values()))
    colours = {kind: viz.PALETTE[i % len(viz.PALETTE)] for i, kind in enumerate(kinds)}
    top = max(layer.macs for layer in (*before.values(), *now.values()))

    def bar(i: int, layer: LayerCost, left: float, width: float, colour: str) -> str:
        height = 90 * layer.macs / top
        return (
            f'<rect x="{8 * i + left}" y="{90 - height:.1f}" width="{width}" height="{height:.1f}" '
            f'fill="{colour}"><title>{escape(layer.name)}, {layer.macs / 1e6:.3g} MMAC</title></rect>'
        )

    places = {name: i for i, name in enumerate(names)}
    bars = [bar(places[name], layer, 0, 7.5, "#cccccc") for name, layer in before.items()]
    bars += [bar(places[name], layer, 1.5, 4.5, colours[layer.kind]) for name, layer in now.items()]
    legend = {**colours, "as it is": "#999999"}
    texts = "".join(
        f'<tspan fill="{colour}">\u25a0 {escape(kind)}  </tspan>' for kind, colour in legend.items()
    )
    return (
        f'<svg width="{8 * len(names)}" height="112" font-size="11">{"".join(bars)}'
        f'<text x="0" y="106" xml:space="preserve">{texts}</text></svg>'
        f"<p>Multiply-adds of each layer, from the input to the heads; the full height is {top / 1e6:.3g} "
        "million</p>"
    )


def _merged(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The names of both lists, each once, in the order of both."""
    matcher = difflib.SequenceMatcher(None, before, now, autojunk=False)
    blocks = matcher.get_opcodes()
    return list(dict.fromkeys(name for _, i, j, k, m in blocks for name in (*before[i:j], *now[k:m])))
