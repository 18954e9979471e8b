import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.evaluation import landmarks
from toolkit.runtime import InputError


def faces(n: int = 20, points: int = 98, seed: int = 0) -> np.ndarray:
    real = np.random.default_rng(seed).uniform(0, 40, (n, points, 2))
    left, right = landmarks.LAYOUTS[points].eye_corners
    real[:, left], real[:, right] = (0.0, 0.0), (30.0, 40.0)  # 50 px apart
    return real


@pytest.mark.parametrize("points", [68, 98, 106])
def test_a_shift_is_measured_in_eye_distances(points):
    real = faces(points=points)
    scores = landmarks.evaluate(real + np.array([3.0, 4.0]), real)
    assert scores.nme == pytest.approx(0.1)
    assert scores.regions == pytest.approx(dict.fromkeys(("contour", "brows", "nose", "eyes", "mouth"), 0.1))
    assert scores.failure_rate[0.08] == 1


@pytest.mark.parametrize("points", [68, 98, 106])
def test_regions_share_out_all_points(points):
    shared = np.concatenate(list(landmarks.LAYOUTS[points].regions.values()))
    assert sorted(shared.tolist()) == list(range(points))


def test_regions_are_told_apart():
    real = faces()
    found = real.copy()
    found[:, 76:96] += (0.0, 5.0)
    scores = landmarks.evaluate(found, real)
    assert scores.regions["mouth"] == pytest.approx(0.1)
    assert scores.regions["eyes"] == 0
    assert scores.nme == pytest.approx(0.1 * 20 / 98)


def test_the_box_diagonal_normalises():
    real = np.zeros((1, 5, 2))
    real[0, 1] = (30, 40)
    assert landmarks.evaluate(real + np.array([5.0, 0.0]), real, "box").nme == pytest.approx(0.1)
    boxes = [[0, 0, 60, 80]]
    scores = landmarks.evaluate(real + np.array([5.0, 0.0]), real, "box", boxes=boxes)
    assert scores.nme == pytest.approx(0.05)
    assert scores.regions == {}


@given(errors=st.lists(st.floats(0, 0.3), min_size=1, max_size=30))
def test_area_and_failure_rate_are_those_of_the_cumulative_curve(errors):
    real = faces(len(errors))
    scores = landmarks.evaluate(real + np.array(errors)[:, None, None] * (50.0, 0.0), real)
    grid = (np.arange(20000) + 0.5) / 20000 * 0.08
    curve = (scores.per_face[:, None] <= grid).mean(axis=0)
    assert scores.auc[0.08] == pytest.approx(curve.mean(), abs=1e-3)
    assert scores.failure_rate[0.08] == pytest.approx((scores.per_face > 0.08).mean())
    x, y = scores.curve(0.08)
    assert y[-1] == pytest.approx(1 - scores.failure_rate[0.08])
    assert (np.diff(y) >= 0).all()
    assert x[-1] == 0.08


def test_a_face_that_was_not_found_is_a_failure():
    real = faces(4)
    found = real.copy()
    found[0] = np.nan
    scores = landmarks.evaluate(found, real)
    assert (scores.missed, scores.nme, scores.failure_rate[0.10], scores.auc[0.10]) == (1, 0, 0.25, 0.75)
    nothing = landmarks.evaluate(np.full_like(real, np.nan), real)
    assert nothing.missed == 4
    record = json.loads(json.dumps(nothing.as_dict(), allow_nan=False))
    assert (record["nme"], record["regions"]) == (None, {})


def test_points_without_a_label_are_left_out():
    real = faces(3)
    found = real.copy()
    found[:, 5] += 1000
    labelled = np.ones((3, 98), bool)
    labelled[:, 5] = False
    assert landmarks.evaluate(found, real, labelled=labelled).nme == 0


def test_a_face_without_a_length_is_left_out():
    real = faces(4)
    found, labelled = real + np.array([3.0, 4.0]), np.ones((4, 98), bool)
    found[:2] += 1000
    labelled[0, landmarks.LAYOUTS[98].eye_corners[0]] = False
    labelled[1] = False
    scores = landmarks.evaluate(found, real, labelled=labelled)
    assert (scores.left_out, scores.missed, scores.per_face.tolist()) == (2, 0, pytest.approx([0.1, 0.1]))
    assert scores.regions["mouth"] == pytest.approx(0.1)
    assert scores.as_dict()["left_out"] == 2
    by_box = landmarks.evaluate(found, real, "box", labelled=labelled)
    assert (by_box.left_out, len(by_box.per_face)) == (1, 3)


def test_wflw_points_are_found_among_the_106():
    mapping = landmarks.WFLW_FROM_106
    assert len(mapping) == len(set(mapping.tolist())) == 98
    wflw, jd = landmarks.LAYOUTS[98], landmarks.LAYOUTS[106]
    assert tuple(mapping[list(wflw.eye_corners)]) == jd.eye_corners
    for region, points in wflw.regions.items():
        assert set(mapping[points]) <= set(jd.regions[region].tolist())


def test_perfect_points_of_wflw_score_nothing():
    if "TOOLKIT_DATA" not in os.environ:
        pytest.skip("TOOLKIT_DATA is not set: no WFLW to evaluate on")
    rows = json.loads(Path(os.environ["TOOLKIT_DATA"], "wflw98/annotations.json").read_text())
    real = np.array([row["landmarks98_original"] for row in rows])
    scores = landmarks.evaluate(real, real)
    assert (len(scores.per_face), scores.nme, scores.auc[0.10]) == (425, 0, 1)


@pytest.mark.parametrize(
    ("found", "real", "more", "message"),
    [
        (np.zeros((2, 106, 2)), np.zeros((2, 98, 2)), {}, "WFLW_FROM_106"),
        (np.zeros((0, 98, 2)), np.zeros((0, 98, 2)), {}, "no faces"),
        (np.zeros((2, 5, 2)), np.zeros((2, 5, 2)), {}, "use normaliser='box'"),
        (np.zeros((2, 98, 2)), np.zeros((2, 98, 2)), {}, "none of the 2 faces .* inter-ocular length"),
        (np.zeros((2, 98, 2)), np.zeros((2, 98, 2)), {"normaliser": "head"}, "normaliser must be"),
    ],
)
def test_bad_input_is_one_sentence(found, real, more, message):
    with pytest.raises(InputError, match=message):
        landmarks.evaluate(found, real, **more)


def test_a_map_from_one_numbering_to_another():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (60, 7, 2)) + rng.uniform(0, 500, (60, 1, 2))
    order = np.array([3, 0, 5])
    start, end = points.min(1, keepdims=True), points.max(1, keepdims=True)
    others = points[:, order] + 0.02 * (end - start)
    found = landmarks.fit_map(points[:30], others[:30])
    assert found.nearest.tolist() == order.tolist()
    np.testing.assert_allclose(found(points[30:]), others[30:], atol=0.05)
    with pytest.raises(InputError, match="the same faces twice, at least 20"):
        landmarks.fit_map(points[:10], others[:10])
    with pytest.raises(InputError, match="the same faces twice"):
        landmarks.fit_map(points, others[:30])


def test_landmark106_on_hard_faces(data, zoo):
    from toolkit import create_model
    from toolkit.data.catalog import load

    dataset = load("wflw98").subset(np.arange(0, 425, 5))
    scores = landmarks.score(create_model("landmark106", "published"), dataset)
    assert 0.07 < scores.nme < 0.13
    assert scores.missed == 0
    assert scores.normaliser == "inter-ocular"
    turned = dataset.keep_boxes(np.ones(len(dataset.labels), bool))
    turned.keypoints[0, 40:, 2] = 0  # half of a face is not labelled
    again = landmarks.score(create_model("landmark106", "published"), turned, "box")
    assert again.missed == 0


def test_a_data_set_without_landmarks(tmp_path):
    from toolkit import create_model
    from toolkit.data.toy import make_toy

    with pytest.raises(InputError, match="has no landmarks"):
        landmarks.predict(create_model("landmark106"), make_toy(tmp_path / "toy", count=4))
