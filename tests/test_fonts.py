"""Names of any script in pictures and charts: drawn with an installed font, or as code points.

The fonts of these tests are those that a package of tests/debian.txt installs, and DejaVu Sans alone.
"""

import io
import warnings

import numpy as np
import pytest

from toolkit import fonts, viz

NAMES = ("安全帽", "شخص", "Каска", "हेलमेट", "หมวก", "😀", "안전모", "$5 to $10", "a\nb", "nut")
CHINESE = "安全帽"
HIDDEN = "\U000e0067"  # a part of the flags of England, Scotland and Wales


@pytest.fixture
def dejavu_alone(monkeypatch):
    """As on a machine without other fonts."""
    fonts.font_of.cache_clear()
    fonts._named_packages.clear()
    monkeypatch.setattr(fonts, "_others", lambda: ())
    yield
    fonts.font_of.cache_clear()


@pytest.fixture
def chinese_font():
    fonts.font_of.cache_clear()
    if not all(map(fonts.font_of, CHINESE)):
        pytest.skip("no installed font has Chinese characters: make debian installs fonts-wqy-microhei")


def charts(names):
    """Each kind of chart that writes names."""
    n = np.arange(1.0, len(names) + 1)
    grey = [np.full((8, 8, 3), 99, np.uint8)] * len(names)
    yield viz.bars(names, n, title=names[0], xlabel=names[1])
    yield viz.bars(["x"], {name: [1] for name in names})
    yield viz.stacked(names, dict.fromkeys(names, n))
    yield viz.dots(names, n, names)
    yield viz.curves({name: ([1, 2], [1, 2]) for name in names}, names[0], names[1], names[2], log="y")
    yield viz.pareto(
        {name: (x, x) for name, x in zip(names, n, strict=True)},
        log="x",
        groups=dict(zip(names, names, strict=True)),
    )
    yield viz.precision_recall({name: ([0, 1], [1, 0]) for name in names}, dict.fromkeys(names, 0.5))
    yield viz.confusion(np.ones((len(names) + 1,) * 2), names, names[0])
    yield viz.anchors_on_boxes(np.ones((3, 2)), {name: [[4, 4]] for name in names})
    yield viz.image_grid(grey, names, title=names[0])


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_no_name_makes_a_chart_warn(dejavu_alone, kind):
    drawn = list(charts(NAMES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in drawn:
            figure.savefig(io.BytesIO(), format=kind)
    assert len(drawn) == 10


def test_names_along_axes_and_in_legends_are_written(dejavu_alone):
    figure = viz.bars(NAMES, np.ones(len(NAMES)))
    written = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert written[:3] == [r"\u5b89\u5168\u5e3d", "شخص", "Каска"]
    assert written[-3:] == ["$5 to $10", "a b", "nut"]
    figure = viz.curves({CHINESE: ([1, 2], [1, 2]), "nut": ([1, 2], [1, 2])})
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        r"\u5b89\u5168\u5e3d",
        "nut",
    ]


def test_what_no_font_has_is_drawn_as_code_points_and_said_once(dejavu_alone, capsys):
    cases = {
        "nut": "nut",
        "größe Яблоко": "größe Яблоко",
        CHINESE: r"\u5b89\u5168\u5e3d",
        f"helmet {CHINESE}{CHINESE}!": r"helmet \u5b89\u5168…\u5168\u5e3d!",
        f"❤{HIDDEN}": "❤",
        "\U0001f9ba": r"\U0001f9ba",
        "tab\there": r"tab\there",
    }
    assert {text: fonts.drawable(text) for text in cases} == cases
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition("on Debian and Ubuntu ")[2] for line in told] == [
        "fonts-wqy-microhei or fonts-noto-cjk",
        "fonts-noto-core (for emoji fonts-symbola)",
    ]


def test_names_that_would_look_alike_get_their_numbers(dejavu_alone):
    drawn = fonts.all_drawable(["安全一二三帽子", "安全四帽子", "nut", "nut"])
    assert drawn == [r"\u5b89\u5168…\u5e3d\u5b50 #0", r"\u5b89\u5168…\u5e3d\u5b50 #1", "nut", "nut"]


def patch(text):
    """The coverage of a line, without empty borders."""
    coverage, below = fonts.letters(fonts.drawable(text), 32)
    assert 0 <= below < coverage.shape[0]
    columns = np.flatnonzero(coverage.any(0))
    return coverage[:, columns[0] : columns[-1] + 1]


def test_arabic_runs_to_the_left_and_is_joined():
    """Three letters joined are narrower than apart, and the first one is at the right."""
    joined = patch("سسس")
    assert joined.shape[1] < 2.8 * patch("س").shape[1]
    first, pair = patch("ا"), patch("اس")  # a stroke, then a broad letter to its left
    stroke = (pair[: first.shape[0]] > 128).any(0)[-first.shape[1] :]
    assert stroke.mean() > 0.5
    assert pair.shape[1] > first.shape[1] * 3


def test_letters_of_another_font(chinese_font):
    path = fonts.font_of("安")
    assert "DejaVu" not in path
    assert fonts.fonts_for(f"nut {CHINESE}") == [fonts._dejavu(), path]
    assert fonts.drawable(CHINESE) == CHINESE
    width = patch(CHINESE).shape[1]
    assert 2.5 * 32 < width < 3.3 * 32  # three squares
    inks = [patch(character) for character in CHINESE]
    assert len({ink.tobytes() for ink in inks}) == 3


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_charts_with_another_font_do_not_warn(chinese_font, kind):
    for figure in charts((CHINESE, f"nut {CHINESE}", "nut")):
        figure.savefig(io.BytesIO(), format=kind)
        assert not any("\\u" in text.get_text() for axes in figure.axes for text in axes.texts)


def test_boxes_with_names_of_any_script():
    grey = np.full((200, 300, 3), 128, np.uint8)
    boxes, ids = np.array([[40, 80, 260, 190]]), np.array([0])
    bare = viz.draw_boxes(grey, boxes, ids, long_side=0)
    pictures = [viz.draw_boxes(grey, boxes, ids, classes=(name,), long_side=0) for name in NAMES]
    for picture in pictures:
        rows, columns = np.nonzero((picture != bare).any(2))
        assert 60 < rows.min() < rows.max() <= 81  # above the box, whatever the letters
        assert columns.min() == 40
    assert len({picture.tobytes() for picture in pictures}) == len(NAMES)
