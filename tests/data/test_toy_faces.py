"""Toy faces: the same for the same seed, points where they are drawn, bad wishes."""

import numpy as np
import pytest

from toolkit.data.catalog import load
from toolkit.data.toy_faces import draw_face, head, make_toy_faces
from toolkit.pictures import load_image
from toolkit.runtime import InputError


def test_the_same_seed_gives_the_same_faces(tmp_path):
    one, other, third = (
        make_toy_faces(tmp_path / name, seed, count=8, size=96)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.keypoints.shape == (8, 98, 3)
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    np.testing.assert_array_equal(load_image(one.path(3)), load_image(other.path(3)))
    assert np.abs(one.keypoints - third.keypoints).max() > 1
    assert [str(s) for s in one.splits].count("val") == 2
    again = load(str(tmp_path / "a"))
    np.testing.assert_allclose(again.keypoints, one.keypoints, atol=0.01)


def test_pupils_are_dark_and_eyes_are_white():
    found = []
    for seed in range(20):
        picture = np.full((200, 200, 3), 90, np.uint8)
        points = draw_face(np.random.default_rng(seed), picture)
        for corner, pupil in ((60, 96), (72, 97)):
            towards = points[pupil] + 0.75 * (points[corner] - points[pupil])
            values = [
                int(picture[tuple(np.floor(p[::-1]).astype(int))].mean()) for p in (points[pupil], towards)
            ]
            found.append(values[1] - values[0])
    assert np.median(found) > 60


def test_a_head_looks_ahead():
    points = head(np.random.default_rng(0))
    assert points.shape == (98, 3)
    assert abs(points[:33, 0].mean()) < 1e-9
    assert points[54, 2] == points[:, 2].max()  # the tip of the nose
    assert points[16, 1] == points[:, 1].max()  # the chin


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"size": 32}, "at least 64 px"),
        ({"count": 1}, "one for each split"),
        ({"splits": {"train": 0.5, "val": 0.4}}, "add up to 1"),
        ({"splits": {"train": 1.2, "val": -0.2}}, "positive shares"),
    ],
)
def test_bad_wishes(wish, message, tmp_path):
    with pytest.raises(InputError, match=message):
        make_toy_faces(tmp_path / "a", **wish)
    assert not (tmp_path / "a").exists()
