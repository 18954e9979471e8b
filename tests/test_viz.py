import io

import numpy as np
import pytest
from matplotlib.text import Text

from toolkit import viz


def rendered(figure) -> int:
    """Draw it for real; the number of bytes of the picture."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return len(stream.getvalue())


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


GREY = np.full((96, 128, 3), 128, np.uint8)


def test_boxes_are_drawn_where_they_are_in_their_class_colour():
    picture = viz.draw_boxes(GREY, np.array([[16, 16, 64, 64]]), np.array([1]), long_side=128)
    assert picture.shape == GREY.shape
    assert picture[40, 16].tolist() == [0xD5, 0x5E, 0x00]
    assert picture[40, 40].tolist() == [128] * 3
    assert (GREY == 128).all()


def test_boxes_and_points_are_drawn_in_place_where_that_is_asked_for():
    own, boxes, points = GREY.copy(), np.array([[16, 16, 64, 64]]), np.array([[[30.0, 30.0]]])
    wanted = viz.draw_points(viz.draw_boxes(GREY, boxes, long_side=0), points)
    found = viz.draw_points(viz.draw_boxes(own, boxes, long_side=0, in_place=True), points, in_place=True)
    assert found is own
    assert np.array_equal(found, wanted)
    assert (GREY == 128).all()


def test_small_pictures_are_enlarged_by_a_whole_factor():
    picture = viz.draw_boxes(GREY, np.array([[16, 16, 64, 64]]))
    assert picture.shape == (480, 640, 3)
    assert picture[200, 80].tolist() == [0x00, 0x72, 0xB2]


def test_text_lies_above_the_box_or_inside_where_there_is_no_room():
    plain, named = (
        viz.draw_boxes(GREY, np.array([[16, y, 64, y + 40]]), np.array([0]), np.array([0.5]), names)
        for y, names in ((40, ()), (40, ("cat",)))
    )
    changed = np.flatnonzero((plain != named).any(axis=(1, 2)))
    assert len(changed)
    assert changed.max() <= 200
    top = viz.draw_boxes(GREY, np.array([[16, 0, 64, 40]]), np.array([0]), classes=("cat",))
    bare = viz.draw_boxes(GREY, np.array([[16, 0, 64, 40]]), np.array([0]))
    assert (top != bare).any(axis=(1, 2))[2:30].any()


def test_text_at_the_right_border_is_moved_not_cut():
    """The label is as wide as that of a box with room beside it, and ends at the border."""
    boxes = ([[20, 40, 30, 80]], [[GREY.shape[1] - 10, 40, GREY.shape[1], 80]])
    bare, named = (
        [viz.draw_boxes(GREY, np.array(box), np.array([0]), classes=names) for box in boxes]
        for names in ((), ("a long name",))
    )
    free, moved = (np.flatnonzero((b != n).any(axis=(0, 2))) for b, n in zip(bare, named, strict=True))
    assert abs(len(moved) - len(free)) <= 1  # a part of a pixel
    assert moved[-1] >= named[1].shape[1] - 2


def test_a_box_smaller_than_its_letters_has_no_text():
    box = np.array([[10, 10, 12, 12]])
    named = viz.draw_boxes(GREY, box, np.array([0]), classes=("cat",))
    np.testing.assert_array_equal(named, viz.draw_boxes(GREY, box, np.array([0])))


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.array([])])
def test_no_boxes_leave_the_picture_as_it_is(boxes):
    np.testing.assert_array_equal(viz.draw_boxes(GREY, boxes, long_side=128), GREY)


def test_class_colours_go_round():
    ids = np.arange(20)
    boxes = np.stack([ids * 6, ids * 4, ids * 6 + 5, ids * 4 + 5], axis=1)
    assert viz.draw_boxes(GREY, boxes, ids, np.full(20, 0.5), [f"c{i}" for i in ids]).any()


def test_grids_have_a_cell_per_picture():
    figure = viz.image_grid([GREY] * 7, [str(i) for i in range(7)], columns=3, title="seven")
    assert [axes.get_title() for axes in figure.axes if axes.images] == [str(i) for i in range(7)]
    assert rendered(figure) > 1000
    assert rendered(viz.image_grid([GREY[..., 0]])) > 500
    assert rendered(viz.image_grid([])) > 100


def test_bars_say_what_nobody_measured():
    figure = viz.bars(
        ["a", "b"], {"x": [0.5, np.nan], "y": [0.25, 0.125]}, {"x": [0.1, 0.1], "y": [0.0, 0.0]}
    )
    assert texts(figure) == ["0.500", "not measured", "0.250", "0.125"]
    assert figure.axes[0].get_xlim()[0] == 0
    assert rendered(figure) > 1000
    assert figure.axes[0].get_legend() is not None
    assert rendered(viz.bars(["a"], [-1.0], [[0.5], [0.2]])) > 1000
    assert rendered(viz.bars(["a"], [np.nan])) > 1000


def test_curves_have_a_legend_from_two_on():
    x = np.arange(1, 5)
    one = viz.curves({"a": (x, x)}, "epoch", "loss", log="y")
    assert one.axes[0].get_legend() is None
    assert one.axes[0].get_yscale() == "log"
    many = viz.curves({f"s{i}": (x, x + i) for i in range(9)}, bands={"s0": (x - 1, x + 1)})
    assert len(many.axes[0].get_legend().get_texts()) == 9
    styles = {(line.get_color(), line.get_linestyle()) for line in many.axes[0].lines}
    assert len(styles) == 9
    assert rendered(many) > 1000


def test_pareto_joins_what_no_other_beats():
    points = {"good": (1.0, 3.0), "beaten": (2.0, 2.0), "better": (3.0, 5.0), "cheap": (0.5, 1.0)}
    figure = viz.pareto(points, log="x", groups=dict.fromkeys(points, "ours"))
    front = figure.axes[0].lines[0].get_xydata()
    np.testing.assert_array_equal(front, [(0.5, 1.0), (1.0, 3.0), (3.0, 5.0)])
    assert texts(figure) == list(points)
    assert rendered(figure) > 1000


@pytest.mark.parametrize("xscale", ["log", "linear"])
def test_tradeoffs_name_each_line_once_and_apart(xscale):
    lines = {name: ([30.0, 3.0, 10.0], [0.7, 0.3, 0.5 + i / 1000]) for i, name in enumerate("abcdefgh")}
    figure = viz.tradeoffs({"easy": lines, "hard": lines}, "MMAC", "AP", {"a": "one", "b": "one"}, xscale)
    for axes in figure.axes:
        assert axes.get_xscale() == xscale
        assert sorted(text.get_text() for text in axes.texts) == list(lines)
        heights = sorted(text.xyann[1] for text in axes.texts)
        assert np.diff(heights).min() > 0.049
        assert axes.lines[0].get_xdata().tolist() == [3.0, 10.0, 30.0]
        assert axes.lines[0].get_color() == axes.lines[1].get_color() != axes.lines[2].get_color()
        assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    assert rendered(figure) > 1000


def test_precision_recall_lists_the_best_first():
    curve = (np.array([0.5, 1.0]), np.array([1.0, 0.5]))
    figure = viz.precision_recall({"a": curve, "b": curve}, {"a": 0.2, "b": 0.7}, point=(0.5, 0.9))
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["b  0.700", "a  0.200"]
    assert texts(figure) == ["precision 0.90\nrecall 0.50"]
    assert rendered(figure) > 1000


def test_confusion_writes_the_counts():
    figure = viz.confusion([[5, 0, 1], [2, 3, 0], [4, 0, 0]], ["cat", "dog"])
    assert texts(figure) == ["5", "1", "2", "3", "4"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["cat", "dog", "background"]
    assert rendered(figure) > 1000
    assert texts(viz.confusion(np.ones((81, 81)), [str(i) for i in range(80)])) == []


def test_anchors_lie_over_the_boxes():
    sizes = np.random.default_rng(0).uniform(4, 200, (300, 2))
    figure = viz.anchors_on_boxes(
        sizes, {"published": [(10, 20), (50, 60)], "refined": [(12, 22)]}, limit=100
    )
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [100, 2, 1]
    assert rendered(figure) > 1000


def test_figures_do_not_pile_up():
    import matplotlib.pyplot as plt

    for _ in range(25):
        viz.curves({"a": ([1, 2], [1, 2])})
    assert plt.get_fignums() == []


STRANGE = (
    *("$x^2$", "$\\frac$", "$\\mathdefault{\\frac}$", "a_b^c\\", "_hidden", "_hidden2"),
    *("<b>&amp;", "cost $5", "x" * 500),
)  # fmt: skip
COUNTS = np.arange(1.0, len(STRANGE) + 1)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: viz.confusion(np.eye(len(STRANGE) + 1), STRANGE, STRANGE[1]),
        lambda: viz.bars(STRANGE, dict.fromkeys(STRANGE, COUNTS), xlabel=STRANGE[1], title=STRANGE[1]),
        lambda: viz.stacked(STRANGE, dict.fromkeys(STRANGE, COUNTS), title=STRANGE[1]),
        lambda: viz.dots(STRANGE, 10**COUNTS, STRANGE, title=STRANGE[1]),
        lambda: viz.layer_profile(STRANGE, dict.fromkeys(STRANGE[:3], COUNTS), STRANGE[1], STRANGE[1]),
        lambda: viz.curves(dict.fromkeys(STRANGE, ([1, 1000], [0, 1])), *STRANGE[:3], log="x"),
        lambda: viz.pareto(
            {name: (i + 1, i) for i, name in enumerate(STRANGE)},
            *STRANGE[:3],
            groups={name: name for name in STRANGE},
        ),
        lambda: viz.precision_recall(dict.fromkeys(STRANGE, ([0, 1], [1, 0])), dict.fromkeys(STRANGE, 0.5)),
        lambda: viz.anchors_on_boxes([[20, 20]], {name: [[10, 10]] for name in STRANGE}, STRANGE[1]),
        lambda: viz.image_grid([GREY] * len(STRANGE), STRANGE, title=STRANGE[1]),
    ],
)
def test_names_are_neither_formulas_nor_left_out(figure):
    drawn = figure()
    assert rendered(drawn)
    shown = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text()]
    assert [text.get_text() for text in shown if "x^2" in text.get_text() and text.get_parse_math()] == []
    assert [text.get_text() for text in shown if "frac" in text.get_text() and text.get_parse_math()] == []
    legends = [*drawn.legends, *filter(None, (axes.get_legend() for axes in drawn.axes))]
    for legend in legends:
        labels = [text.get_text() for text in legend.get_texts()]
        assert sum("_hidden" in label for label in labels) == 2
        assert max(map(len, labels)) < 80


def test_powers_of_ten_are_written_as_such():
    drawn = viz.dots(["a", "b"], [10, 1e6])
    rendered(drawn)
    ticks = [label for label in drawn.axes[0].get_xticklabels() if "10^" in label.get_text()]
    assert ticks
    assert all(label.get_parse_math() for label in ticks)


def test_a_chart_is_saved_under_the_name_that_is_given_or_with_a_suffix(tmp_path):
    figure = viz.bars(["a"], [1.0])
    for name in ("plot", "chart.svg"):
        figure.savefig(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.svg", "plot.png"]
