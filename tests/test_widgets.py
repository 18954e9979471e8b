"""What notebooks show: choices and tables."""

import pytest

from toolkit import widgets
from toolkit.runtime import InputError


@pytest.fixture(autouse=True)
def _close_widgets():
    """Widgets that live until the interpreter ends complain while it ends."""
    yield
    from ipywidgets import Widget

    Widget.close_all()


def test_dropdown_starts_at_its_default():
    choice = widgets.dropdown("network", ["a", "b", "c"], "b")
    assert choice.value == "b"
    assert choice.options == ("a", "b", "c")
    choice.value = "c"
    assert choice.value == "c"


def test_dropdown_refuses_a_default_that_is_no_option():
    with pytest.raises(InputError, match="network must be one of a, b, not 'x'"):
        widgets.dropdown("network", ["a", "b"], "x")


def test_table_holds_every_cell_in_order():
    html = widgets.table({"name": {"first": 1, "second": 2}, "value": (0.5, None)}, strong="second").data
    cells = ["name", "value", "first", "0.5", "second", "None"]
    places = [html.index(f">{cell}<") for cell in cells]
    assert places == sorted(places)
    assert html.count("<tr>") == 3
    first, second = (row for row in html.split("<tr>") if "<td" in row)
    assert "bold" not in first
    assert second.count("bold") == 2
    assert first.count("text-align: right") == 1  # all but the first column


def test_table_shows_markup_as_text():
    html = widgets.table({"<b>": ["<script>alert(1)</script>"]}).data
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;b&gt;" in html


def test_table_refuses_columns_of_different_length():
    with pytest.raises(InputError, match="one length, found a 1, b 2"):
        widgets.table({"a": [1], "b": [1, 2]})


def test_empty_table_shows_its_titles():
    assert ">only<" in widgets.table({"only": []}).data
