"""Comparisons of sizes and anchors that show themselves."""

import numpy as np
import pytest

from toolkit import create_model
from toolkit.data import anchors
from toolkit.data.anchor_tables import AnchorSets, ByHead, by_count, fit_sizes, on_pictures
from toolkit.data.toy import make_toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("toy") / "set", count=20, size=96, classes=3)


@pytest.fixture(scope="module")
def io():
    return create_model("fastest-v2").io


def test_both_ways_to_resize_are_measured(toy, io):
    result = fit_sizes(toy, io)
    columns = result.columns()
    assert columns["resize"] == ["stretch", "letterbox"]
    median = np.median(anchors.object_sizes(toy, io.input_size, "letterbox")[:, 0])
    assert columns["median width, px"][1] == f"{median:.1f}"
    assert len(result.figure().axes[0].lines) == 2
    assert "320 x 320" in result.caption()


def test_sets_are_compared_and_the_last_matters():
    sizes = np.array([[10, 10], [40, 60]], np.float32)
    result = AnchorSets(sizes, {"one": sizes[:1], "both": sizes})
    assert result.columns()["best possible recall"] == ["50.0%", "100.0%"]
    assert result.columns()["width x height, px"][1] == "10x10  40x60"
    assert result.strong() == "both"
    assert [line.get_ydata()[-1] for line in result.figure().axes[0].lines] == [0.5, 1.0]


def test_more_anchors_fit_better(toy, io):
    sizes = anchors.object_sizes(toy, io.input_size)
    result = by_count(sizes, 4)
    assert result.columns()["anchors"] == [1, 2, 3, 4]
    overlaps = [fit.mean_iou for fit in result.fits]
    assert overlaps == sorted(overlaps)
    assert len(result.figure().axes[0].lines) == 2
    assert len(by_count(np.ones((5, 2), np.float32)).fits) == 1


def test_anchors_are_those_of_the_heads_from_small_to_large(toy, io):
    sizes = anchors.object_sizes(toy, io.input_size)
    columns = ByHead(io, sizes).columns()
    assert columns["anchor, px"][0] == "26 x 48"
    assert columns["head of stride"] == ["16"] * 3 + ["32"] * 3
    parts = [float(cell.split("%")[0]) for cell in columns["best anchor of"]]
    assert sum(parts) == pytest.approx(100, abs=0.5)
    assert columns["head by size alone"][-1] == "32"


def test_pictures_have_a_row_for_each_set(toy, io):
    sets = {"own": np.array(io.heads[0].anchors), "new": np.array([[30, 30]])}
    figure = on_pictures(toy, sets, io.input_size, "letterbox", count=2)
    assert [axes.get_title() for axes in figure.axes] == ["own", "own", "new", "new"]
