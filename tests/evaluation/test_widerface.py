"""WIDER FACE's protocol against a plain retelling of the official toolbox, and the published detections."""

import json
import os
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from tests.evaluation.retold import wider_ap
from toolkit.evaluation import widerface
from toolkit.evaluation.columns import Detections
from toolkit.evaluation.mat_file import MAT_BYTES, read_mat
from toolkit.evaluation.score import PUBLISHED, evaluate_widerface
from toolkit.evaluation.widerface import WiderTruth
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def data() -> Path:
    if "TOOLKIT_DATA" not in os.environ:
        pytest.skip("TOOLKIT_DATA is not set: no WIDER FACE to evaluate on")
    return Path(os.environ["TOOLKIT_DATA"])


@pytest.fixture(scope="module")
def official(data) -> WiderTruth:
    return widerface.read_truth(data / "widerface_val" / "eval_gt")


def made(seed: int, pictures: int = 8) -> tuple[WiderTruth, Detections]:
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 6, pictures)
    starts = np.concatenate(([0], np.cumsum(counts)))
    corner = generator.integers(0, 60, (starts[-1], 2))
    boxes = np.concatenate((corner, corner + generator.integers(0, 40, (starts[-1], 2))), axis=1)
    images, found, scores = [], [], []
    for picture in range(pictures):
        for _ in range(generator.integers(0, 12)):
            if counts[picture] and generator.random() < 0.7:
                face = boxes[generator.integers(starts[picture], starts[picture + 1])]
                box = face + generator.integers(-4, 5, 4)
            else:
                box = np.tile(generator.integers(0, 60, 2), 2) + np.array([0, 0, 20, 20])
            box[2:] = np.maximum(box[:2], box[2:])
            images.append(picture)
            found.append(box)
            scores.append(generator.random())
    truth = WiderTruth(
        tuple(f"{i % 3}--Event/{i}.jpg" for i in range(pictures)),
        starts,
        boxes.astype(np.float32),
        generator.random((3, starts[-1])) < np.array([[0.3], [0.6], [0.9]]),
    )
    k = len(images)
    return truth, Detections(
        np.array(images, np.int64),
        np.array(found, np.float32).reshape(-1, 4),
        np.array(scores),
        np.zeros(k, np.int64),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_scores_are_those_of_the_toolbox_retold(seed):
    truth, detections = made(seed)
    if len(detections) < 2:
        return
    scores = widerface.evaluate(truth, detections)
    expected = [wider_ap(truth, detections, s) for s in range(3)]
    assert [scores.easy, scores.medium, scores.hard] == pytest.approx(expected, abs=1e-12)


def repeated(truth: WiderTruth, detections: Detections, weights) -> tuple[WiderTruth, Detections]:
    """Picture i `weights[i]` times, under the same name."""
    pictures = np.repeat(np.arange(len(truth)), weights)
    again = truth.subset([truth.files[i] for i in pictures])
    rows = [np.flatnonzero(detections.images == i) for i in pictures]
    chosen = np.concatenate([np.zeros(0, np.int64), *rows])
    images = np.repeat(np.arange(len(pictures)), [len(each) for each in rows])
    return again, Detections(
        images, detections.boxes[chosen], detections.scores[chosen], detections.class_ids[chosen]
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_picture_that_counts_twice_counts_as_two(seed):
    truth, detections = made(seed)
    weights = np.random.default_rng(seed).integers(1, 4, len(truth))
    plain = widerface.evaluate(*repeated(truth, detections, weights))
    weighted = widerface.score(widerface.judge(truth, detections), weights)
    assert weighted.faces == plain.faces
    assert weighted.pictures == plain.pictures
    for name in widerface.SETTINGS:
        assert getattr(weighted, name) == pytest.approx(getattr(plain, name), abs=1e-12)


def test_a_detector_is_compared_on_the_same_pictures(data, official):
    """Equal ones differ by nothing; one that loses a fifth of its detections is worse beyond chance, and by
    less than by chance of pictures alone."""
    detections = widerface.read_detections(data / "widerface_detections" / "rfb320", official)
    kept = np.random.default_rng(0).random(len(detections)) < 0.8
    fewer = Detections(
        detections.images[kept], detections.boxes[kept], detections.scores[kept], detections.class_ids[kept]
    )
    same = widerface.compare(official, [detections], [detections], rounds=20)
    assert all((each.value, each.low, each.high) == (0, 0, 0) for each in same.values())
    worse = widerface.compare(official, [fewer], [detections], rounds=100)
    whole = [widerface.evaluate(official, each) for each in (fewer, detections)]
    for name, each in worse.items():
        assert each.value == pytest.approx(getattr(whole[0], name) - getattr(whole[1], name))
        assert each.low < each.value < each.high < 0
        assert each.high - each.low < 0.03
    mixed = widerface.compare(official, [detections, fewer], [detections], rounds=100)
    assert mixed["easy"].value == pytest.approx(worse["easy"].value / 2)
    assert mixed["easy"].low < worse["easy"].value < mixed["easy"].value < mixed["easy"].high


def test_published_detections_score_as_published(data, official):
    detections = widerface.read_detections(data / "widerface_detections" / "rfb320", official)
    started = time.process_time()
    scores = widerface.evaluate(official, detections)
    assert time.process_time() - started < 5
    assert (scores.easy, scores.medium, scores.hard) == pytest.approx((0.8148, 0.7107, 0.3631), abs=1e-4)
    assert scores.faces == {"easy": 7211, "medium": 13319, "hard": 31958}
    answer = json.loads(json.dumps(scores.as_dict()))
    assert list(answer)[:3] == ["easy", "medium", "hard"]
    assert answer["pictures"] == 3226


def test_perfect_detections_score_one_and_none_score_nothing(official):
    asked = official.counted[2]
    images = np.repeat(np.arange(len(official)), np.diff(official.starts))[asked]
    boxes = official.boxes[asked]
    perfect = Detections(images, boxes, np.ones(len(images), np.float32), np.zeros(len(images), int))
    scores = widerface.evaluate(official, perfect)
    assert scores.easy == pytest.approx(1, abs=0.001)
    assert scores.hard == pytest.approx(1, abs=0.003)  # faces that lie on one another
    nothing = widerface.evaluate(official, Detections.from_pictures([]))
    assert (nothing.easy, nothing.hard) == (0, 0)


def test_a_subset_counts_its_own_faces(data, official):
    files = (data / "widerface_val/project_split/test.txt").read_text().split()
    part = official.subset(files)
    assert len(part) == len(files) == 802
    at = official.files.index(files[5])
    np.testing.assert_array_equal(
        part.boxes[part.starts[5] : part.starts[6]],
        official.boxes[official.starts[at] : official.starts[at + 1]],
    )
    assert 0 < part.counted[2].sum() < official.counted[2].sum()
    with pytest.raises(InputError, match="not in the ground truth"):
        official.subset(["nowhere/1.jpg"])


def test_original_sizes(data, official, tmp_path):
    sizes = widerface.original_sizes(data / "widerface_val/sizes.csv", official.files)
    assert sizes.shape == (3226, 2)
    assert (sizes[:, 0] == 1024).all()
    for text in (
        "file,w\na.jpg,3\n",
        *(f"file,orig_w,orig_h\na.jpg,3,{side}\n" for side in ("nan", "inf", "0")),
    ):
        (tmp_path / "sizes.csv").write_text(text)
        with pytest.raises(InputError, match="columns file, orig_w, orig_h"):
            widerface.original_sizes(tmp_path / "sizes.csv", ["a.jpg"])
    with pytest.raises(InputError, match="is missing"):
        widerface.original_sizes(tmp_path / "none.csv", [])


def test_detection_files_round_trip(tmp_path):
    truth, detections = made(3)
    widerface.write_detections(tmp_path / "out", truth, detections)
    assert (tmp_path / "out/1--Event/1.txt").read_text().split("\n")[0] == "1"
    again = widerface.read_detections(tmp_path / "out", truth)
    order = np.lexsort((-detections.scores, detections.images))
    np.testing.assert_array_equal(again.images, detections.images[order])
    np.testing.assert_allclose(again.boxes, detections.boxes[order], atol=1e-3)
    np.testing.assert_allclose(again.scores, detections.scores[order], rtol=1e-8)
    before, after = widerface.evaluate(truth, detections), widerface.evaluate(truth, again)
    assert after.hard == pytest.approx(before.hard)


@pytest.mark.parametrize(
    "text", ["", "0\n2\n1 2 3 4 0.5\n", "0\n1\n1 2 3 4\n", "0\n1\n1 2 3 4 high\n", "0\nmany\n"]
)
def test_a_file_in_another_layout_is_named(tmp_path, text):
    truth, detections = made(3)
    widerface.write_detections(tmp_path / "out", truth, detections)
    (tmp_path / "out/1--Event/4.txt").write_text(text)
    with pytest.raises(InputError, match=r"4\.txt is not in the official layout"):
        widerface.read_detections(tmp_path / "out", truth)


def test_missing_detections_are_named(tmp_path):
    truth, detections = made(3)
    widerface.write_detections(tmp_path / "out", truth, detections)
    (tmp_path / "out/1--Event/4.txt").unlink()
    with pytest.raises(InputError, match=r"4\.txt is missing"):
        widerface.read_detections(tmp_path / "out", truth)
    with pytest.raises(InputError, match="no folder '0--Event'"):
        widerface.read_detections(tmp_path / "out" / "2--Event", truth)
    with pytest.raises(InputError, match="is not a folder"):
        widerface.read_detections(tmp_path / "none", truth)


def test_a_broken_ground_truth_is_named(tmp_path):
    with pytest.raises(InputError, match=r"wider_face_val\.mat is missing"):
        widerface.read_truth(tmp_path)
    (tmp_path / "wider_face_val.mat").write_bytes(b"no mat file")
    with pytest.raises(InputError, match="is not WIDER FACE's ground truth"):
        widerface.read_truth(tmp_path)
    savemat(tmp_path / "wider_face_val.mat", {"other": np.zeros(3)})
    with pytest.raises(InputError, match="no readable event_list"):
        widerface.read_truth(tmp_path)


@pytest.mark.parametrize("network_input", ["640", "original"])
@pytest.mark.parametrize("change", [{"size": (320, 320)}, {"fit": "letterbox"}])
def test_an_input_of_the_picture_has_no_size_or_fit(network_input, change, tmp_path):
    from toolkit.data.catalog import load_pictures
    from toolkit.pictures import save_image

    save_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    part = load_pictures(str(tmp_path))
    with pytest.raises(InputError, match=f"{network_input}.*leave out --size and --fit"):
        evaluate_widerface(tmp_path, part, "none", replace(PUBLISHED, **change), network_input)


def test_pictures_that_do_not_decode_are_left_out_of_the_truth(data, zoo, tmp_path):
    """The scores are those of the other pictures."""
    from toolkit import create_model
    from toolkit.data.catalog import load

    network, few = (
        create_model("yoloface-50k", "published"),
        load("widerface_val").subset(np.arange(0, 60, 6)),
    )
    others = evaluate_widerface(network, few.subset(np.array([0, 1, 2, 4, 5, 6, 7, 8])), "widerface_val")
    for i, name in enumerate(few.files):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture" if i == 3 else few.path(i).read_bytes())
    damaged = replace(few, root=tmp_path)
    (tmp_path / few.files[9]).unlink()
    with pytest.raises(InputError, match="does not decode"):
        evaluate_widerface(network, damaged, "widerface_val")
    part = evaluate_widerface(network, damaged, "widerface_val", faults="skip")
    assert [picture.file for picture in part.skipped] == [few.files[3], few.files[9]]
    assert part.skipped[1].reason == "is missing"
    assert part.truth.files == others.truth.files
    assert part.scores.as_dict() == others.scores.as_dict()
    assert part.scores.easy > 0


def part(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def mat_of(name: bytes, depth: int) -> bytes:
    """A .mat file with a cell in a cell in a cell ..., the innermost empty."""
    inner = part(14, b"")
    for level in range(depth):
        flags, sides = part(6, struct.pack("<II", 1, 0)), part(5, struct.pack("<ii", 1, 1))
        inner = part(14, flags + sides + part(1, name if level == depth - 1 else b"") + inner)
    return b"MATLAB".ljust(124) + struct.pack("<H", 0x100) + b"IM" + inner


def test_a_hostile_mat_file_is_refused(tmp_path):
    """One that unpacks to much, and one at whose depth scipy's reader would crash."""
    path = tmp_path / "wider_face_val.mat"
    path.write_bytes(mat_of(b"event_list", 2))
    assert read_mat(path, "event_list").shape == (1, 1)
    path.write_bytes(mat_of(b"event_list", 2000))
    with pytest.raises(InputError, match="levels"):
        widerface.read_truth(tmp_path)
    savemat(path, {"event_list": np.zeros(MAT_BYTES // 8)}, do_compression=True)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="unpacks to more"):
        widerface.read_truth(tmp_path)


@pytest.mark.parametrize("events", [0, 2])
def test_ground_truth_of_another_shape_is_named(events, tmp_path):
    for name in ("face", "easy", "medium", "hard"):
        keys = ("event_list", "file_list", "face_bbx_list") if name == "face" else ("gt_list",)
        savemat(tmp_path / f"wider_{name}_val.mat", {key: np.zeros((events, 1)) for key in keys})
    with pytest.raises(InputError, match="other events"):
        widerface.read_truth(tmp_path)


def test_hostile_files_of_detections(tmp_path):
    truth, detections = made(3)
    widerface.write_detections(tmp_path, truth, detections)
    file = tmp_path / "1--Event/4.txt"
    for data, words in (
        (b"\xff\xfe\0", "not a text file"),
        (b"4\n1\n1 2 3 4 nan\n", "official layout"),
        (None, "pipe"),
    ):
        file.unlink()
        file.write_bytes(data) if data else os.mkfifo(file)
        with pytest.raises(InputError, match=words):
            widerface.read_detections(tmp_path, truth)
