"""The picture of a network's layers."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from toolkit import viz


def test_every_layer_is_a_column_in_its_kinds_colour():
    kinds = ["conv", "pool", "conv", "route"]
    figure = viz.layer_profile(kinds, {"MMAC": [3, 0, 2, 1], "kB": np.arange(4)}, "layer", "a network")
    top, bottom = figure.axes
    assert [axes.get_title(loc="left") for axes in (top, bottom)] == ["MMAC", "kB"]
    columns = sorted((p.get_x() + p.get_width() / 2, p.get_height(), p.get_facecolor()) for p in top.patches)
    assert [(round(x, 6), height) for x, height, _ in columns] == [(0, 3), (1, 0), (2, 2), (3, 1)]
    colours = [to_hex(colour) for *_, colour in columns]
    assert colours[0] == colours[2]
    assert len(set(colours)) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["conv", "pool", "route"]
    assert bottom.get_xlabel() == "layer"
    assert figure.get_suptitle() == "a network"


def test_more_kinds_than_colours_still_draw():
    figure = viz.layer_profile([f"kind {i}" for i in range(9)], {"one": np.ones(9)})
    figure.draw_without_rendering()
    assert len(figure.axes[0].patches) == 9


def test_a_quantity_of_another_length_is_refused():
    with pytest.raises((ValueError, IndexError)):
        viz.layer_profile(["conv", "conv"], {"MMAC": [1, 2, 3]})


def test_panels_share_their_rows_and_leave_out_what_was_not_measured():
    columns = {"kB": [900, 300], "difference": [1e-6, np.nan], "points": [0.1, -2.0]}
    spans = {"points": ([-0.2, -2.5], [0.4, -1.5])}
    figure = viz.panels(["onnx", "onnx-int8"], columns, spans, ["fp32", "int8"], ["difference"])
    sizes, differences, points = figure.axes
    assert [text.get_text() for text in sizes.get_yticklabels()] == ["onnx", "onnx-int8"]
    assert [len(axes.texts) for axes in figure.axes] == [2, 1, 2]
    assert [text.get_text() for text in points.texts] == ["+0.10", "-2.00"]
    assert differences.get_xscale() == "log"
    assert sizes.get_xlim()[0] == 0
    assert points.get_xlim()[0] < -2.5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fp32", "int8"]
