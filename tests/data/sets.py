"""Made datasets with real pictures on disk, and what it means that two datasets are the same."""

from pathlib import Path

import cv2
import numpy as np
from hypothesis import strategies as st

from toolkit.data.dataset import Dataset
from toolkit.data.splitting import split_order

CLASSES = ("wheel", "traffic light", "a & b <c>", "größe")
SPLITS = ("train", "val", "test", "")


def write_picture(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = np.full((height, width, 3), sum(path.name.encode()) % 256, np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, shade)[1].tobytes())


def make(
    root: Path,
    pictures: list[tuple[str, tuple[int, int], str, list[tuple]]],
    classes: tuple[str, ...] = CLASSES,
    points: int = 0,
) -> Dataset:
    """Dataset with pictures written below `root`; a picture is (name, size, split, boxes), a box is (corners,
    label, crowd, ignore, keypoints). Identifiers count down, so that nothing gets them right by counting."""
    for name, (width, height), _, _ in pictures:
        write_picture(root / name, width, height)
    counts = [len(boxes) for *_, boxes in pictures]
    rows = [row for *_, boxes in pictures for row in boxes]
    n, m = len(pictures), len(rows)
    return Dataset(
        root=root,
        classes=classes,
        files=[name for name, *_ in pictures],
        image_ids=np.arange(n, dtype=np.int64)[::-1] * 3 + 7,
        sizes=np.array([size for _, size, _, _ in pictures], np.int32).reshape(n, 2),
        splits=np.array([split for _, _, split, _ in pictures], np.str_),
        starts=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        box_ids=np.arange(m, dtype=np.int64)[::-1] * 2 + 5,
        boxes=np.array([row[0] for row in rows], np.float32).reshape(m, 4),
        labels=np.array([row[1] for row in rows], np.int32),
        crowd=np.array([row[2] for row in rows], np.bool_),
        ignore=np.array([row[3] for row in rows], np.bool_),
        keypoints=np.array([row[4] for row in rows], np.float32).reshape(m, points, 3)
        if points and m
        else None,
    )


def small(root: Path) -> Dataset:
    """Three pictures: two boxes in a training picture, none in another, one in a validation picture."""
    return make(
        root,
        [
            (
                "one.png",
                (40, 30),
                "train",
                [((1, 2, 11, 22), 0, 0, 0, ()), ((5.5, 6.25, 30, 29), 2, 0, 1, ())],
            ),
            ("deep/two.jpg", (20, 50), "train", []),
            ("three.png", (64, 64), "val", [((0, 0, 64, 64), 1, 1, 0, ())]),
        ],
    )


_letters = st.sampled_from("abcxyz019-_ .é#%+&")
_word = st.text(_letters, min_size=1, max_size=6).filter(
    lambda s: s.strip(" .") == s and not s.startswith(".")
)
_name = st.builds(
    lambda folders, stem, extension: "/".join([*folders, stem]) + extension,
    st.lists(_word, max_size=2),
    _word,
    st.sampled_from([".png", ".jpg", ".PNG"]),
)


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0].casefold()


def thousandths(low: int, high: int) -> st.SearchStrategy[float]:
    """float32 numbers as labels have them: whole ones and thousandths of a px. (A corner of 1e-38 px beside
    one of 1 px would be lost in a width.)"""
    fine = st.integers(low * 1000, high * 1000).map(lambda v: float(np.float32(v / 1000)))
    return st.integers(low, high).map(float) | fine


_coordinate = thousandths(-20, 200)


@st.composite
def specs(draw, classes: int = len(CLASSES), points: int = 0, faces: bool = False, blanks: bool = True):
    """Pictures for `make`: names that differ without regard to case and extension, boxes of any order and
    place, pictures without boxes (not with `faces`)."""
    name = _name if blanks else _name.map(lambda name: name.replace(" ", "_"))
    names = draw(st.lists(name, min_size=1, max_size=4, unique_by=_stem))
    number = thousandths(-50, 300)
    point = st.tuples(number, number, st.just(2.0) if faces else st.sampled_from([0.0, 1.0, 2.0]))
    box = st.tuples(
        st.tuples(_coordinate, _coordinate, _coordinate, _coordinate),
        st.integers(0, classes - 1),
        st.booleans(),
        st.booleans(),
        st.lists(point, min_size=points, max_size=points),
    )
    return [
        (
            name,
            (draw(st.integers(1, 64)), draw(st.integers(1, 64))),
            draw(st.sampled_from(SPLITS)),
            draw(st.lists(box, min_size=int(faces), max_size=3)),
        )
        for name in names
    ]


def by_split(dataset: Dataset) -> Dataset:
    """In the order in which it comes back from disk."""
    order = split_order(dataset.splits.tolist())
    return dataset.subset(np.array(sorted(range(len(dataset)), key=lambda i: order.index(dataset.splits[i]))))


def assert_same(found: Dataset, wanted: Dataset, without: tuple[str, ...] = (), tolerance: float = 0) -> None:
    """The same pictures with the same bytes and the same boxes in the same order; `without` names columns
    that the format cannot hold, `tolerance` is in px."""
    assert found.files == wanted.files
    for i in range(len(wanted)):
        assert found.path(i).read_bytes() == wanted.path(i).read_bytes()
    assert found.splits.tolist() == wanted.splits.tolist()
    assert found.sizes.tolist() == wanted.sizes.tolist()
    assert found.starts.tolist() == wanted.starts.tolist()
    assert [found.classes[i] for i in found.labels] == [wanted.classes[i] for i in wanted.labels]
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=tolerance)
    for column in {"image_ids", "box_ids", "crowd", "ignore"} - set(without):
        assert getattr(found, column).tolist() == getattr(wanted, column).tolist(), column
    for column in {"keypoints", "areas", "original_sizes"} - set(without):
        a, b = getattr(found, column), getattr(wanted, column)
        assert (a is None) == (b is None), column
        if a is not None:
            np.testing.assert_array_equal(a, b)


def labels_of(dataset: Dataset, digits: int = 3) -> dict[str, list[tuple]]:
    """Picture -> (class, xyxy px) of its boxes, rounded."""
    return {
        name: [
            (dataset.classes[dataset.labels[row]], *(round(v, digits) for v in dataset.boxes[row].tolist()))
            for row in range(dataset.starts[i], dataset.starts[i + 1])
        ]
        for i, name in enumerate(dataset.files)
    }
