"""Random data sets, exported and imported again in every format that is written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.sets import SPLITS, assert_same, by_split, make, thousandths
from toolkit.data.dataset import Dataset
from toolkit.data.formats import registry

SETS = 200
WORDS = "abzXY09éßłжё螺母栓ñ한글عين日本🔩अ"
CLASS_SIGNS = " -_./:,;&<>'\"%#+=()[]{}@!?*|\\~`^$"
FILE_SIGNS = " -_.#%&+=,;'()[]{}!@~^$"
POINTS = 5
FEW = ("image_ids", "box_ids", "crowd", "keypoints", "areas", "original_sizes")  # VOC and less keep none
FACES = ("image_ids", "box_ids", "crowd", "ignore", "areas")


@dataclass(frozen=True)
class Held:
    """What a format can hold of a data set."""

    without: tuple[str, ...] = ()  # columns that are lost
    tolerance: float = 0.0  # px
    one_class: bool = False
    points: bool = False  # every box has key points
    one_split: bool = False
    blanks: bool = True  # in the names of pictures
    empty: bool = True  # pictures without boxes
    order: Callable[[Dataset], Dataset] = by_split  # in which pictures come back


def as_it_is(dataset: Dataset) -> Dataset:
    return dataset


HELD = {
    "coco": Held(points=True),
    "voc": Held(FEW),
    "yolo": Held((*FEW, "ignore"), 1e-4),
    "widerface": Held(FEW, 1e-4, one_class=True, one_split=True),
    "landmarks": Held(FACES, one_class=True, points=True, blanks=False, empty=False),
    "cvat": Held((*FEW, "ignore"), 1e-2, order=as_it_is),
    "label-studio": Held(("keypoints", "areas"), 1e-4, order=as_it_is),
}


def text(signs: str) -> st.SearchStrategy[str]:
    """Letters of several scripts and signs; no blanks or dots at the ends."""
    letters = st.text(st.sampled_from(WORDS + signs), min_size=1, max_size=8)
    return letters.filter(lambda word: word.strip(" .") == word)


def stem(name: str) -> str:
    return name.rsplit(".", 1)[0].casefold()


@st.composite
def boxes(draw, size: tuple[int, int], classes: int, points: int, least: int):
    """Rows for `make`: boxes of an area, in thousandths of a px, that may reach over the picture's edge."""
    corner = st.tuples(thousandths(-3, size[0] - 2), thousandths(-3, size[1] - 2))
    side = thousandths(1, max(size)).map(lambda v: v + 0.25)
    point = st.tuples(thousandths(0, size[0]), thousandths(0, size[1]), st.just(2.0))
    rows = []
    for _ in range(draw(st.integers(least, 3))):
        (x, y), w, h = draw(corner), draw(side), draw(side)
        row_points = [draw(point) for _ in range(points)]
        label = draw(st.integers(0, classes - 1))
        rows.append(((x, y, x + w, y + h), label, draw(st.booleans()), draw(st.booleans()), row_points))
    return rows


@st.composite
def random_sets(draw, held: Held):
    """(pictures for `make`, class names)."""
    most = 1 if held.one_class else 4
    classes = draw(st.lists(text(CLASS_SIGNS), min_size=1, max_size=most, unique=True))
    word = text(FILE_SIGNS).filter(lambda word: not word.startswith("."))
    word = word if held.blanks else word.map(lambda word: word.replace(" ", "_"))
    ending = st.sampled_from([".png", ".jpg", ".PNG", ".bmp"])
    name = st.builds(lambda parts, end: "/".join(parts) + end, st.lists(word, min_size=1, max_size=3), ending)
    names = draw(st.lists(name, min_size=1, max_size=3, unique_by=stem))
    split = draw(st.sampled_from(SPLITS))
    points, least = POINTS if held.points else 0, int(not held.empty)
    pictures = []
    for file in names:
        size = (draw(st.integers(4, 64)), draw(st.integers(4, 64)))
        own = split if held.one_split else draw(st.sampled_from(SPLITS))
        pictures.append((file, size, own, draw(boxes(size, len(classes), points, least))))
    return pictures, tuple(classes)


def there_and_back(folder: str, held: Held, made, format: str) -> tuple[Dataset, Dataset]:
    """The data set that was made, in the order it comes back, and what came back."""
    pictures, classes = made
    classes = ("face",) if held.one_class else classes
    dataset = make(Path(folder) / "pictures", pictures, classes, POINTS if held.points else 0)
    registry.write(dataset, Path(folder) / "written", format)
    assert registry.detect_format(Path(folder) / "written") == format
    return held.order(dataset), registry.read(Path(folder) / "written")


@pytest.mark.parametrize("format", HELD)
def test_what_goes_out_comes_back(format):
    held = HELD[format]

    @settings(max_examples=SETS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(random_sets(held))
    def check(made):
        with TemporaryDirectory() as folder:
            original, returned = there_and_back(folder, held, made, format)
            assert returned.classes == original.classes
            assert_same(returned, original, held.without, held.tolerance)
            assert returned.intake.whole, returned.intake.sentences()

    check()


@settings(max_examples=SETS, deadline=None)
@given(random_sets(Held()))
def test_pictures_alone_come_back(made):
    with TemporaryDirectory() as folder:
        original, returned = there_and_back(folder, Held(order=as_it_is), made, "folder")
        above = len(min(original.files)) - len(min(returned.files))  # a lone folder is passed
        assert sorted(name[above:] for name in original.files) == sorted(returned.files)
        assert sorted(returned.sizes.tolist()) == sorted(original.sizes.tolist())
        assert (len(returned.labels), returned.classes) == (0, ())
        assert returned.intake.whole


def test_every_format_that_is_written_is_tried():
    written = {name for name, row in registry.FORMATS.items() if row.write}
    assert written == {*HELD, "folder"}
