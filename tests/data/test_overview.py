"""Figures of a data set."""

from toolkit.data import overview
from toolkit.data.toy import make_toy


def test_pictures_and_classes_of_a_data_set(tmp_path):
    toy = make_toy(tmp_path / "toy", count=24, size=64, classes=3)
    shown = [axis for axis in overview.picture_grid(toy, 5, "toy").axes if axis.images]
    assert [shown[0].get_title(), shown[-1].get_title()] == [toy.files[0], toy.files[-1]]
    assert len(shown) == 5
    (axis,) = overview.class_bars(toy).axes
    widths = sorted(round(bar.get_width()) for bar in axis.patches)
    counts = toy.columns()
    assert widths == sorted([*counts["train"], *counts["val"]])
