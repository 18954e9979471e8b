"""Landmark training: mirrored points, poses, augmentation, losses, runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import create_model
from toolkit.data.augment import Augmentation
from toolkit.data.toy import make_toy
from toolkit.data.toy_faces import head, make_toy_faces
from toolkit.evaluation import landmarks as evaluation
from toolkit.faces import windows_of_points
from toolkit.networks import open_landmarks
from toolkit.runtime import InputError
from toolkit.training.checkpoint import load_checkpoint, trained
from toolkit.training.config import read_config
from toolkit.training.landmarks import FaceBatch, augment_face, mirror_map, relative_shapes, repeats
from toolkit.training.loop import train
from toolkit.training.losses.points import landmark_loss
from toolkit.training.recipe import recipe
from toolkit.training.tasks import task_of

# WFLW's points of the mirrored face: contour, brows, nose, eyes, mouth, pupils
MIRRORED = [
    *range(32, -1, -1),
    *(46, 45, 44, 43, 42, 50, 49, 48, 47, 37, 36, 35, 34, 33, 41, 40, 39, 38),
    *(51, 52, 53, 54, 59, 58, 57, 56, 55),
    *(72, 71, 70, 69, 68, 75, 74, 73, 64, 63, 62, 61, 60, 67, 66, 65),
    *(82, 81, 80, 79, 78, 77, 76, 87, 86, 85, 84, 83, 92, 91, 90, 89, 88, 95, 94, 93),
    *(97, 96),
]


@pytest.fixture(scope="module")
def toy_faces(tmp_path_factory):
    return make_toy_faces(tmp_path_factory.mktemp("faces") / "set", count=240, size=96)


def points_of(dataset):
    return dataset.keypoints[:, :, :2]


# --- shapes ------------------------------------------------------------------------------------------


def test_points_are_paired_left_and_right(toy_faces):
    assert mirror_map(points_of(toy_faces)).tolist() == MIRRORED


def test_points_of_real_faces_are_paired(data):
    from toolkit.data.catalog import load

    assert mirror_map(points_of(load("wflw98"))).tolist() == MIRRORED


def test_landmark106_pairs_its_own_points(data, zoo):
    from toolkit.data.catalog import load

    dataset = load("wflw98").subset(np.arange(0, 400, 8))
    found = evaluation.predict(create_model("landmark106", "published"), dataset)
    pairs = mirror_map(found)
    assert pairs[:33].tolist() == list(range(32, -1, -1))
    # through the map of numbers, the pairs of the 98 points
    of_106 = evaluation.WFLW_FROM_106
    assert (pairs[of_106] == of_106[MIRRORED]).mean() > 0.95


def test_points_without_two_sides_do_not_pair():
    rng = np.random.default_rng(0)
    one_sided = rng.uniform(0, 1, (1, 7, 2)) * (0.3, 1) + rng.normal(0, 1e-3, (10, 7, 2))
    with pytest.raises(InputError, match="do not pair left and right"):
        mirror_map(one_sided.astype(np.float32) * 100)


def test_turned_heads_are_shown_more_often():
    rng = np.random.default_rng(0)
    angles = np.radians(np.concatenate((rng.normal(0, 8, 190), rng.choice((-1, 1), 10) * 35)))
    solid = head(rng)
    faces = np.stack([solid[:, :2] * (np.cos(a), 1) + solid[:, 2:] * (np.sin(a), 0) for a in angles])
    counts = repeats((faces * 50).astype(np.float32), 1.0)
    assert counts[190:].min() >= 2
    assert counts[np.abs(angles) < np.radians(5)].max() == 1
    assert (repeats(faces.astype(np.float32), 0.0) == 1).all()


# --- augmentation ------------------------------------------------------------------------------------


def dotted(points, size=120):
    """A picture with a bright dot at each point."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    apart = (columns[..., None] - points[:, 0]) ** 2 + (rows[..., None] - points[:, 1]) ** 2
    return np.repeat((255 * np.exp(-apart / 8).max(-1))[..., None], 3, 2).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_points_move_with_their_pixels(seed):
    rng = np.random.default_rng(seed)
    points = np.float32([[30, 30], [90, 32], [60, 60], [40, 90], [82, 88]])
    mirror = np.array([1, 0, 2, 4, 3])
    levers = Augmentation(flip=0.5, rotate=40, scale=(0.8, 1.2), aspect=1.3, translate=0.1)
    picture, relative, labelled = augment_face(
        dotted(points), points, np.ones(5, bool), (112, 112), levers, rng, mirror
    )
    assert labelled.all()
    for x, y in relative * 112:
        if 4 < x < 108 and 4 < y < 108:
            window = picture[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4, 0].astype(float)
            rows, columns = np.mgrid[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] + 0.5
            centre = (columns * window).sum() / window.sum(), (rows * window).sum() / window.sum()
            assert np.hypot(centre[0] - x, centre[1] - y) < 0.7


def test_a_mirrored_face_has_mirrored_points(toy_faces):
    points = points_of(toy_faces)[0]
    image = np.zeros((96, 96, 3), np.uint8)
    plain = Augmentation()
    arguments = (image, points, np.ones(98, bool), (112, 112))
    _, straight, _ = augment_face(*arguments, plain, np.random.default_rng(0), np.array(MIRRORED))
    flipped = Augmentation(flip=1.0)
    _, mirrored, _ = augment_face(*arguments, flipped, np.random.default_rng(0), np.array(MIRRORED))
    np.testing.assert_allclose(mirrored, (straight * (-1, 1) + (1, 0))[MIRRORED], atol=1e-5)


def test_a_large_face_is_reduced_without_skipping_pixels():
    stripes = np.repeat((np.arange(1200) % 2 * 255)[None, :, None], 1200, 0).repeat(3, 2).astype(np.uint8)
    points = np.float32([[100, 100], [1100, 1100], [600, 600]])
    picture, _, _ = augment_face(
        stripes, points, np.ones(3, bool), (112, 112), Augmentation(), np.random.default_rng(0), np.arange(3)
    )
    assert np.abs(picture[10:-10, 10:-10].astype(int) - 127).max() < 40


def test_part_of_a_face_is_hidden():
    image = np.full((100, 100, 3), 90, np.uint8)
    points, levers = np.float32([[20, 20], [80, 80], [50, 50]]), Augmentation(occlude=1.0)
    arguments = (image, points, np.ones(3, bool), (64, 64), levers)
    cuts = [augment_face(*arguments, np.random.default_rng(i), np.arange(3))[0] for i in range(30)]
    changed = [(picture[16:48, 16:48] != 90).mean() for picture in cuts]
    assert 0.02 < np.mean(changed) < 0.4


# --- losses ------------------------------------------------------------------------------------------


def batch_of(points, labelled=None):
    points = torch.tensor(points, dtype=torch.float32)
    mask = torch.ones(points.shape[:2], dtype=torch.bool) if labelled is None else torch.tensor(labelled)
    return FaceBatch(torch.zeros(len(points), 1, 1, 3, dtype=torch.uint8), points, mask)


def test_losses_at_known_distances():
    io = create_model("landmark106", points=1).io
    batch = batch_of([[[0.5, 0.5]]])
    for distance, wing, smooth in ((0.0, 0.0, 0.0), (0.5, 10 * np.log(1.25), 0.125), (20.0, None, 19.5)):
        found = torch.tensor([[0.5 + distance / 112, 0.5 + distance / 112]])
        expected = 20 - 10 + 10 * np.log(6) if wing is None else wing
        assert landmark_loss([found], batch, io, "wing").total.item() == pytest.approx(expected, abs=1e-3)
        assert landmark_loss([found], batch, io, "smooth-l1").total.item() == pytest.approx(smooth, abs=1e-3)
    found = torch.tensor([[0.5 + 3 / 112, 0.5 + 4 / 112]])
    spread = torch.tensor([[np.log(5 / np.sqrt(2))]], requires_grad=True)
    landmark_loss([found, spread], batch, io, "gaussian").total.backward()
    assert abs(spread.grad.item()) < 1e-4  # the density is largest at its own distance


def test_points_that_are_not_labelled_teach_nothing():
    io = create_model("landmark106", points=2).io
    batch = batch_of([[[0.5, 0.5], [9.0, 9.0]]], [[True, False]])
    found = torch.tensor([[0.5, 0.5, 0.0, 0.0]], requires_grad=True)
    for kind in ("wing", "smooth-l1"):
        loss = landmark_loss([found], batch, io, kind)
        assert loss.total.item() == pytest.approx(0, abs=1e-6)
        assert loss.positives == 1


# --- runs --------------------------------------------------------------------------------------------


def settings_of(**levers):
    more = {"epochs": 14, "batch": 24, "learning_rate": 0.006, **levers}
    return read_config(
        {"data": "faces", "model": "landmark106", "recipe": recipe("landmarks", **more), "device": "cpu",
         "changes": {"width": 0.5, "input_size": [64, 64]}, "threads": 1, "precision": "fp32",
         "memory_format": "channels_last", "validations": 2}
    )  # fmt: skip


def mean_shape_nme(training, held):
    points = points_of(held)
    windows = windows_of_points(points)
    mean = relative_shapes(points_of(training)).mean(0)
    found = windows[:, None, :2] + mean * (windows[:, 2:] - windows[:, :2])[:, None]
    return evaluation.evaluate(found, points).nme


@pytest.fixture(scope="module")
def run(toy_faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "gaussian"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CACHE", str(folder / "cache"))
        return train(settings_of(loss="gaussian"), folder, dataset=toy_faces), folder


def test_a_short_training_beats_the_mean_face(run, toy_faces):
    result, folder = run
    baseline = mean_shape_nme(toy_faces.split("train"), toy_faces.split("val"))
    assert result.finished
    assert result.metric == "nme"
    assert result.score < 0.75 * baseline
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert min(entry["nme"] for entry in history) == result.score
    assert (folder / "curves.png").is_file()
    assert (folder / "pictures.png").is_file()


def test_the_head_for_the_spread_is_left_out(run, toy_faces):
    result, folder = run
    network = open_landmarks(str(folder / "best.pt"))
    assert network.io.points == 98
    (found,) = network.predict(np.zeros((1, 3, 64, 64), np.float32))
    assert found.shape == (1, 196)
    assert "spread.weight" in load_checkpoint(folder / "last.pt")["model"]
    assert evaluation.score(network, toy_faces.split("val")).nme == pytest.approx(result.score, abs=1e-4)


def test_killed_and_resumed_ends_with_the_same_weights(toy_faces, tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    config = settings_of(epochs=2)
    whole = train(config, tmp_path / "whole", dataset=toy_faces)
    stopped = train(config.model_copy(update={"stop_at": 5}), tmp_path / "parts", dataset=toy_faces)
    assert (whole.finished, stopped.finished) == (True, False)
    train(config, tmp_path / "parts", resume=True, dataset=toy_faces)
    one, other = (trained(tmp_path / name / "best.pt").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_settings_that_do_not_fit(toy_faces, tmp_path):
    digits = make_toy(tmp_path / "toy", count=4)
    with pytest.raises(InputError, match="has no landmarks"):
        train(settings_of(), tmp_path / "a", dataset=digits)
    config = settings_of()
    six = config.model_copy(update={"changes": {"points": 6}})
    with pytest.raises(InputError, match="98 points a face, not 6"):
        train(six, tmp_path / "a", dataset=toy_faces)
    for model, levers in (("landmark106", recipe("modern")), ("fastest-v2", recipe("landmarks"))):
        wrong = config.model_copy(update={"model": model, "recipe": levers})
        with pytest.raises(InputError, match="does not fit"):
            task_of(wrong)
    with pytest.raises(InputError, match="set multi_scale to 0"):
        train(settings_of(multi_scale=0.3), tmp_path / "a", dataset=toy_faces)
    taught = config.model_copy(update={"teacher": "landmark106"})
    with pytest.raises(InputError, match="leave out the teacher"):
        train(taught, tmp_path / "a", dataset=toy_faces)


def test_a_face_without_an_eye_corner_is_left_out_of_the_validation(toy_faces, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    points = toy_faces.keypoints.copy()
    val = np.flatnonzero(toy_faces.splits == "val")  # a picture has one face
    points[val[0], evaluation.LAYOUTS[98].eye_corners[0], 2] = 0
    config = settings_of(epochs=1).model_copy(update={"stop_at": 5, "validations": 40})
    train(config, tmp_path / "run", dataset=replace(toy_faces, keypoints=points))
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("nme") >= 1
    assert "1 faces without labels for the inter-ocular length are left out" in capsys.readouterr().err
    points[val, evaluation.LAYOUTS[98].eye_corners[0], 2] = 0
    with pytest.raises(InputError, match=f"none of the {len(val)} faces has labels"):
        train(settings_of(), tmp_path / "none", dataset=replace(toy_faces, keypoints=points))


def test_it_starts_from_published_features(zoo):
    config = settings_of().model_copy(update={"weights": "published", "changes": {"points": 98}})
    model, source = task_of(config).build(config), create_model("landmark106", "published")
    mine = model.state_dict()
    for key, value in source.state_dict().items():
        if not key.startswith("points"):
            assert torch.equal(mine[key], value), key
