"""The face cascade: cuts, faces that are hard to cut, tracking in a generated video, drawing, the command."""

from contextlib import nullcontext
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.test_cli import answer, toolkit
from toolkit import create_model, detect_faces, viz
from toolkit.export.folder import open_export
from toolkit.export.write import export_model
from toolkit.faces import (
    BOUNDS,
    FACES,
    FaceTracker,
    Smooth,
    Tracking,
    annotate_faces,
    annotate_faces_video,
    as_records,
    boxes_of_windows,
    correlation,
    cut,
    face_sizes,
    follow,
    place_points,
    windows_of_boxes,
    windows_of_points,
)
from toolkit.models.decode import Boxes
from toolkit.models.io import LandmarkIO
from toolkit.pictures import load_image, save_image
from toolkit.runtime import InputError
from toolkit.samples import pan_and_zoom
from toolkit.videos import Video

IO = LandmarkIO((112, 112), 106)
WIDE = replace(FACES, size=(224, 224))


@pytest.fixture(scope="module")
def networks(zoo):
    return create_model("yoloface-100k", "published"), create_model("landmark106", "published")


@pytest.fixture(scope="module")
def two_faces(zoo):
    return load_image(zoo / "images/landmark-test.jpeg")


@pytest.fixture(scope="module")
def clip(two_faces):
    return pan_and_zoom(two_faces, 40)


def left_to_right(faces):
    return faces[np.argsort(faces.points.mean(1)[:, 0])]


def apart(found, wanted):
    """Mean distance of the points of each face, in face sizes."""
    return np.linalg.norm(found.points - wanted.points, axis=2).mean(1) / face_sizes(wanted.points)


class Finds:
    """A detector that finds the boxes that it is given, relative to the picture."""

    io = create_model("yoloface-50k").io

    def __init__(self, *boxes):
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)

    def concurrency(self):
        return nullcontext(1)

    def find(self, x, settings):
        count = len(self.boxes)
        return [Boxes(self.boxes, np.ones(count, np.float32), np.zeros(count, np.int64))] * len(x)


# --- cuts --------------------------------------------------------------------------------------------


def test_the_crop_rule_of_the_seed():
    (window,) = windows_of_boxes(np.float32([[100, 200, 300, 400]]), IO)
    np.testing.assert_allclose(window, [90, 230, 310, 410], rtol=1e-6)
    np.testing.assert_allclose(boxes_of_windows(window[None], IO), [[100, 200, 300, 400]], rtol=1e-6)


def test_the_bounds_of_points_lie_where_they_should():
    points = np.random.default_rng(0).uniform(-50, 300, (4, 106, 2)).astype(np.float32)
    windows = windows_of_points(points)
    size = windows[:, 2:] - windows[:, :2]
    np.testing.assert_allclose((points.min(1) - windows[:, :2]) / size, [BOUNDS[:2]] * 4, atol=1e-5)
    np.testing.assert_allclose((points.max(1) - windows[:, :2]) / size, [BOUNDS[2:]] * 4, atol=1e-5)


def test_a_cut_of_the_whole_is_a_resize(pictures):
    image = pictures["astronaut"]
    whole = np.float32([0, 0, image.shape[1], image.shape[0]])
    expected = cv2.resize(image, (112, 112), interpolation=cv2.INTER_LINEAR)
    differences = cut(image, whole, (112, 112)).astype(int) - expected
    assert np.abs(differences).mean() < 1
    own = cut(image, np.float32([10, 20, 74, 84]), (64, 64))
    np.testing.assert_array_equal(own, image[20:84, 10:74])


def test_what_is_outside_is_grey(pictures):
    image = pictures["astronaut"]
    piece = cut(image, np.float32([-50, -50, 50, 50]), (100, 100))
    assert (piece[:49, :49] == 127).all()
    np.testing.assert_array_equal(piece[51:, 51:], image[1:50, 1:50])
    assert (cut(image, np.float32([9000, 0, 9100, 100]), (20, 20)) == 127).all()
    with pytest.raises(InputError, match="expected an RGB picture"):
        cut(image[..., 0], np.float32([0, 0, 1, 1]), (20, 20))


# --- pictures ----------------------------------------------------------------------------------------


def test_two_faces(two_faces, networks):
    faces = left_to_right(detect_faces(two_faces, *networks))
    assert len(faces) == 2
    # outer eye corners, tip of the nose, corners of the mouth and chin, as anybody sees them in the picture
    seen = np.array(
        [
            [[124, 190], [275, 188], [200, 238], [158, 282], [244, 279], [199, 361]],
            [[536, 188], [676, 187], [600, 228], [570, 292], [635, 293], [599, 358]],
        ]
    )
    found = faces.points[:, [52, 61, 46, 84, 90, 16]]
    assert np.linalg.norm(found - seen, axis=2).max() < 0.07 * face_sizes(faces.points).min()
    assert (faces.scores > 0.9).all()
    by_name = detect_faces(two_faces)
    np.testing.assert_array_equal(left_to_right(by_name).points, faces.points)


@pytest.mark.parametrize("formats", [("ncnn", "ncnn"), ("torch", "mnn")])
def test_any_backend_for_both(formats, two_faces, networks, tmp_path):
    opened = []
    for i, (network, fmt) in enumerate(zip(networks, formats, strict=True)):
        if fmt != "torch":
            export_model(network, tmp_path / str(i), [fmt])
        opened.append(network if fmt == "torch" else open_export(tmp_path / str(i), fmt, threads=1))
    wanted, found = detect_faces(two_faces, *networks), detect_faces(two_faces, *opened)
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.05)
    np.testing.assert_allclose(found.points, wanted.points, atol=0.1)


def test_no_face(pictures, networks):
    blank = np.full((80, 120, 3), 127, np.uint8)
    faces = detect_faces(blank, *networks)
    assert faces.points.shape == (0, 106, 2)
    assert as_records(faces) == []
    np.testing.assert_array_equal(annotate_faces(blank, faces), blank)
    tracker = FaceTracker(*networks)
    assert [len(tracker(blank)) for _ in range(3)] == [0, 0, 0]
    assert tracker.detections == 3  # it goes on looking


def test_a_face_at_the_border(two_faces, networks):
    whole = left_to_right(detect_faces(two_faces, *networks, WIDE))[:1]
    left, _, right, _ = whole.boxes[0]
    column = int(left + 0.25 * (right - left))
    faces = left_to_right(detect_faces(two_faces[:, column:], *networks, WIDE))
    assert len(faces) >= 1
    assert np.isfinite(faces.points).all()
    # with the face known, its cut reaches out of the picture and the visible half is still found
    window = windows_of_boxes(whole.boxes - np.float32([column, 0, column, 0]), IO)
    assert window[0, 0] < -20
    points, _ = place_points(two_faces[:, column:], window, networks[1])
    visible = whole.points[0, :, 0] > column + 20
    errors = np.linalg.norm(points[0] + (column, 0) - whole.points[0], axis=1)[visible]
    assert errors.mean() < 0.1 * face_sizes(whole.points)[0]
    assert annotate_faces(two_faces, faces).shape == two_faces.shape


def test_a_face_of_8_pixels(two_faces, networks):
    small = cv2.resize(two_faces, None, fx=8 / 220, fy=8 / 220, interpolation=cv2.INTER_AREA)
    big = left_to_right(detect_faces(two_faces, *networks))
    scale = np.array(small.shape[1::-1]) / two_faces.shape[1::-1]
    window = windows_of_boxes((big.boxes * np.tile(scale, 2)).astype(np.float32), IO)
    points, _ = place_points(small, window, networks[1])
    errors = np.linalg.norm(points - big.points * scale, axis=2).mean(1)
    assert (errors < 0.15 * face_sizes(points)).all()
    assert len(detect_faces(small, Finds([0, 0, 0.001, 0.001]), networks[1])) == 1  # not even a pixel


def test_points_outside_the_picture_are_not_drawn(pictures):
    image = pictures["astronaut"]
    points = np.full((1, 3, 2), 1e9, np.float32)
    points[0, 1] = np.nan
    np.testing.assert_array_equal(viz.draw_points(image, points), image)
    points[0, 2] = (100, 50)
    drawn = viz.draw_points(image, points)
    assert (drawn != image).any(2).nonzero()[0].mean() == pytest.approx(50, abs=1)


def test_pictures_that_are_none(networks, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="does not decode"):
        detect_faces(tmp_path / "a.jpg", *networks)


# --- video -------------------------------------------------------------------------------------------


def test_faces_are_followed(clip, networks):
    tracker = FaceTracker(*networks, WIDE)
    errors = []
    for frame in clip:
        found, alone = (
            left_to_right(faces) for faces in (tracker(frame), detect_faces(frame, *networks, WIDE))
        )
        assert len(found) == 2
        if len(alone) == 2:
            errors.append(apart(found, alone))
    assert 2 <= tracker.detections <= 4  # at the start, after 30 frames, where the view moves fast
    assert np.mean(errors) < 0.02
    assert np.max(errors) < 0.05


def test_tracking_is_compared_with_detecting_in_every_frame(clip, networks):
    followed = follow(clip[:12], FaceTracker(*networks, WIDE, Tracking(every=6)))
    assert list(followed.detected) == [i % 6 == 0 for i in range(12)]
    assert followed.caption() == "The detector ran on 2 of 12 frames"
    columns = followed.columns()
    assert columns["detector runs"] == [2, 12]
    tracked, each = map(float, columns["median jitter of a point, px"])
    assert 0 < tracked < each
    titles = [axes.get_title() for axes in followed.figure().axes]
    assert titles[0] == "frame 0, detected"
    assert titles[1] == "frame 2, tracked"
    blue, orange = (
        annotate_faces(np.zeros_like(clip[0]), followed.tracked[0], tracked=tracked)
        for tracked in (False, True)
    )
    left, top = followed.tracked[0].boxes[0, :2].astype(int)
    assert blue[top + 40, left, 2] > blue[top + 40, left, 0]
    assert orange[top + 40, left, 0] > orange[top + 40, left, 2]
    assert len(followed.jitter().axes[0].lines) == 2


def test_jitter_without_faces_is_not_known(networks):
    black = [np.zeros((64, 64, 3), np.uint8)] * 4
    followed = follow(black, FaceTracker(*networks, WIDE))
    assert followed.caption() == "The detector ran on 4 of 4 frames"
    assert followed.columns()["median jitter of a point, px"] == ["nan", "nan"]


def test_a_cut_in_the_film_is_noticed(clip, networks, pictures):
    tracker = FaceTracker(*networks, WIDE, Tracking(every=0))
    for frame in clip[:4]:
        assert len(tracker(frame)) == 2
    assert tracker.detections == 1
    other = cv2.resize(pictures["astronaut"], (640, 360))
    faces = tracker(other)
    assert tracker.detected
    assert len(faces) == len(detect_faces(other, *networks, WIDE))
    empty = cv2.resize(pictures["coffee"], (640, 360))
    assert len(tracker(empty)) == len(detect_faces(empty, *networks, WIDE))
    assert tracker.detected
    assert len(tracker(clip[0])) == 2


def test_a_face_that_leaves_is_lost(clip, networks):
    tracker = FaceTracker(*networks, WIDE, Tracking(every=0))
    columns = np.arange(640)
    seen = []
    for shift in range(0, 640, 24):
        moved = np.roll(clip[0], -shift, axis=1)
        moved[:, columns >= 640 - shift] = 0
        seen.append(len(tracker(moved)))
    assert seen[0] == 2
    assert seen[-1] == 0


def test_smoothing_stills_what_trembles_and_follows_what_moves():
    rng = np.random.default_rng(0)
    still = rng.uniform(100, 300, (1, 106, 2)).astype(np.float32)
    sizes, settings = face_sizes(still), Tracking()
    for speed, most in ((0.0, 0.75), (1.0, 1.0)):  # face sizes a second; part of the noise that is left
        state, left, noises = Smooth(still, np.zeros_like(still)), [], []
        for i in range(1, 100):
            real = still + np.float32(i * speed * sizes[0] / 25)
            noise = rng.normal(0, 0.005 * sizes[0], still.shape)
            state = state.step((real + noise).astype(np.float32), sizes, 25.0, settings)
            if i > 20:
                left.append(np.abs(state.points - real).mean())
                noises.append(np.abs(noise).mean())
        assert np.mean(left) < most * np.mean(noises) + 0.004 * speed * sizes[0]


def test_no_smoothing_gives_the_network_s_own_points(clip, networks):
    tracker = FaceTracker(*networks, WIDE, Tracking(smoothing=0, every=1))
    for frame in clip[:2]:
        found, alone = tracker(frame), detect_faces(frame, *networks, WIDE)
        np.testing.assert_array_equal(found.points, alone.points)
    assert tracker.detections == 2


def test_correlation_knows_the_same_from_another():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(correlation(a, a * 2 + 5), 1, atol=1e-5)
    np.testing.assert_allclose(correlation(a, -a), -1, atol=1e-5)
    assert correlation(np.zeros_like(a), a).tolist() == [0, 0, 0]


def test_settings_out_of_range():
    for name, value in (("same", 2), ("overlap", -0.1), ("every", -1), ("smoothing", -3.0)):
        with pytest.raises(InputError, match=f"{name} must be between"):
            Tracking(**{name: value})


def film(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def test_a_video_is_written(clip, networks, tmp_path):
    film(tmp_path / "in.mp4", clip[:6])
    tracker = FaceTracker(*networks, WIDE)
    found = annotate_faces_video(tracker, Video(tmp_path / "in.mp4"), tmp_path / "out.mp4", 5)
    assert [len(faces) for faces in found] == [2] * 5
    assert len(list(Video(tmp_path / "out.mp4"))) == 5


def test_the_command(clip, zoo, two_faces, pictures, tmp_path):
    save_image(tmp_path / "in" / "two.png", two_faces)
    save_image(tmp_path / "in" / "none.png", pictures["coffee"])
    film(tmp_path / "in.mp4", clip[:4])
    told = answer("landmarks", "in", "--output", "out", cwd=tmp_path)
    counts = {result["image"].rsplit("/", 1)[-1]: len(result["faces"]) for result in told["results"]}
    assert counts["two.png"] == 2
    assert len(told["results"][1]["faces"][0]["points"]) == 106
    assert (tmp_path / "out" / "two.png").is_file()
    told = answer("landmarks", "in.mp4", "--size", "224", "--output", "out", cwd=tmp_path)
    assert [len(result["faces"]) for result in told["results"]] == [2] * 4
    assert (tmp_path / "out" / "in.mp4").is_file()
    for arguments, message in (
        (("nowhere.jpg",), "there is no picture"),
        (
            ("in", "--weights", zoo / "yoloface-50k/caffe/yoloface-50k.caffemodel"),
            "belongs to another network",
        ),
    ):
        run = toolkit("landmarks", *arguments, cwd=tmp_path)
        assert run.returncode == 2
        assert message in run.stderr
        assert run.stderr.count("\n") == 1
