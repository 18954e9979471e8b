"""What notebooks show: choices and tables."""

import shutil

import pytest

from toolkit import create_model, widgets
from toolkit.data import cards
from toolkit.data.toy import make_toy
from toolkit.models.cost import measure
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


def test_a_changed_dropdown_says_that_the_cells_below_are_stale_until_one_runs():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        choice = widgets.dropdown("network", ["a", "b"], "a")
        shell.run_cell("1", store_history=False)
        assert choice.description == "network"
        choice.value = "b"
        assert "run the cells below again" in choice.description
        shell.run_cell("1", store_history=False)
        assert choice.description == "network"
        choice.value = "a"
        assert "run the cells below again" in choice.description
    finally:
        InteractiveShell.clear_instance()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """TOOLKIT_DATA, with the data sets bccd and wflw98; nothing lies beside the cards."""
    (tmp_path / "cards").mkdir()
    for file in cards.FOLDER.glob("*.yaml"):
        shutil.copy(file, tmp_path / "cards")
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "cards")
    for name in ("bccd", "wflw98"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path))
    return tmp_path


def test_data_sets_are_those_that_are_here(folder):
    choice = widgets.data_sets("bccd")
    assert choice.options == ("bccd", "toy", "wflw98")
    assert choice.value == "bccd"


def test_data_sets_start_at_what_can_be_made_where_the_default_is_not_here(folder):
    assert widgets.data_sets("coco2017").value == "toy"
    (folder / "wflw98").rmdir()
    faces = widgets.data_sets("wflw98", "toy faces", ("wflw", "wflw98"))
    assert faces.options == ("toy faces",)


def test_data_sets_take_a_folder_and_refuse_what_is_none(folder):
    mine = str(folder / "bccd")
    assert widgets.data_sets(mine).value == mine
    assert widgets.data_sets(mine).label == "bccd"
    curated = folder / "curate" / "bccd" / "curated"
    curated.mkdir(parents=True)
    choice = widgets.data_sets(str(curated))
    assert (choice.label, choice.value) == ("bccd-curated", str(curated))
    with pytest.raises(InputError, match="data set must be one of bccd, toy, wflw98, not 'bcdd'"):
        widgets.data_sets("bcdd")


def test_the_desk_makes_the_network_that_it_is_set_to(tmp_path):
    desk = widgets.sizing(make_toy(tmp_path / "toy", count=10, size=96), "fastest-v2")
    menu, se, csp, width, size = desk.children[0].children
    note, page = desk.children[1:]
    assert (desk.network, desk.changes, note.value) == ("fastest-v2", {}, "")
    assert "#cccccc" in page.value  # of the network as it is
    csp.value, size.value = False, 224
    assert desk.changes == {"csp": False, "input_size": 224}
    assert "run the cells below again" in note.value
    assert desk.model(classes=["cell"]).io.input_size == (224, 224)
    cost = measure(desk.model())
    for row in ("kB in half precision", "ms, torch on this machine", f"{cost.params:,}"):
        assert row in page.value
    menu.value = "yoloface-50k"
    assert (desk.network, desk.changes) == ("yoloface-50k", {})
    spec = create_model("yoloface-50k").spec
    own = (any(spec.se), any(spec.csp), spec.width, None)
    assert (se.value, csp.value, width.value, size.value) == own
    size.value = size.options[1][1]
    assert desk.model().spec.name == "yoloface-50k"
    assert list(desk.changes) == ["input_size"]


def test_layers_of_two_networks_are_put_in_one_order():
    assert widgets._merged(["a", "b", "c"], ["a", "c", "d"]) == ["a", "b", "c", "d"]
    assert widgets._merged(["a", "c"], ["a", "b", "c"]) == ["a", "b", "c"]


def test_checked_has_the_checks_before_the_stamp():
    html = widgets.checked({"boxes": 3}, {"python": "3.11"}).data
    places = [html.index(f">{cell}<") for cell in ("checked", "boxes", "3", "environment", "python", "3.11")]
    assert places == sorted(places)


def test_table_holds_every_cell_in_order():
    html = widgets.table({"name": {"first": 1, "second": 2}, "value": (0.5, -1)}, strong="second").data
    cells = ["name", "value", "first", "0.5", "second", "-1"]
    places = [html.index(f">{cell}<") for cell in cells]
    assert places == sorted(places)
    assert html.count("<tr>") == 3
    first, second = (row for row in html.split("<tr>") if "<td" in row)
    assert "bold" not in first
    assert second.count("bold") == 2
    assert first.count("text-align: right") == 1  # all but the first column


def test_table_has_numbers_to_the_right_and_text_to_the_left():
    columns = {"1": ["2"], "count": [3], "range": ["1.0 to 2.0"], "none": [""], "why": ["it is so"]}
    _, row = (line for line in widgets.table(columns).data.split("<tr>") if "</t" in line)
    assert [cell.split("align: ")[1].split('"')[0] for cell in row.split("<td")[1:]] == [
        *("left", "right", "right", "right", "left")
    ]


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
