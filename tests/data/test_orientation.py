"""Pictures that EXIF turns, with labels that are turned with them or not: boxes end on their objects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from toolkit.data import doctor
from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.doctor import orientation
from toolkit.data.formats import registry
from toolkit.pictures import load_image

STORED_SIZE = (320, 240)
UNDO = {6: 8, 8: 6}  # the orientation that takes a picture as shown back to the stored one


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Plain, shaded, clouds, tiles or clutter."""
    kind = rng.integers(5)
    picture = np.full((height, width, 3), rng.integers(40, 200, 3), np.uint8)
    if kind == 1:
        picture = (np.linspace(0.3, 1, width)[None, :, None] * picture).astype(np.uint8)
    elif kind == 2:
        octaves = [
            cv2.resize(rng.normal(0, 1, (n, n, 3)), (width, height)) / n**0.6 for n in (3, 5, 9, 17, 33)
        ]
        picture = np.clip(128 + 60 * sum(octaves), 0, 255).astype(np.uint8)
    elif kind == 3:
        y, x = np.mgrid[:height, :width] // rng.integers(10, 40)
        picture[(x + y) % 2 == 0] = rng.integers(40, 200, 3)
    elif kind == 4:
        for _ in range(40):
            x, y = rng.integers(0, [width, height])
            w, h = rng.integers(5, 60, 2)
            colour = tuple(map(int, rng.integers(40, 200, 3)))
            cv2.rectangle(
                picture, (int(x), int(y)), (int(x + w), int(y + h)), colour, int(rng.choice([-1, 1]))
            )
    return picture


def scene(
    rng: np.random.Generator, width: int, height: int, count: int, vivid: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of `count` things, sharp or blurred, with noise, and their boxes (k, 4). `vivid`: red or blue
    ones on grey, which a test can tell by colour; else of any colour but that of what is behind them."""
    picture, boxes = background(rng, width, height), []
    if vivid:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    while len(boxes) < count:
        w, h = rng.integers(24, 90, 2)
        x, y = rng.integers(0, [width - w, height - h])
        if any(x < b[2] + 9 and b[0] < x + w + 9 and y < b[3] + 9 and b[1] < y + h + 9 for b in boxes):
            continue
        behind = picture[y + h // 2, x + w // 2].astype(int)
        colour = behind + rng.choice([-1, 1], 3) * rng.integers(10, 110, 3)
        if vivid:
            colour = np.array(((220, 20, 30), (30, 20, 220))[rng.integers(2)])
        colour = tuple(map(int, np.clip(colour, 0, 255)))
        if rng.integers(2):
            picture[y : y + h, x : x + w] = colour
        else:
            half = ((w - 1) / 2, (h - 1) / 2)
            cv2.ellipse(picture, ((x + half[0], y + half[1]), (2 * half[0], 2 * half[1]), 0), colour, -1)
        boxes.append((x, y, x + w, y + h))
    if blur := rng.choice([0, 0, 1, 2]):
        picture = cv2.GaussianBlur(picture, (0, 0), float(blur))
    noisy = np.clip(picture + rng.normal(0, rng.choice([0, 4, 12]), picture.shape), 0, 255)
    return noisy.astype(np.uint8), np.array(boxes, np.float32)


def turn_pixels(pixels: np.ndarray, turn: int) -> np.ndarray:
    """By Pillow, which knows EXIF by itself."""
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = turn
    return np.array(ImageOps.exif_transpose(picture))


def phone_set(
    folder: Path,
    turns: list[int],
    as_shown: bool,
    seed: int = 0,
    suffix: str = ".jpg",
    recorded: str = "stored",
) -> tuple[Dataset, list[np.ndarray]]:
    """Pictures stored as 320 x 240 with an EXIF orientation, labelled as stored or as shown; and the boxes
    where they are in the pictures as shown."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    columns, truth = Columns(), []
    for i, turn in enumerate(turns):
        shown_size = STORED_SIZE[::-1] if turn >= 5 else STORED_SIZE
        count = int(rng.integers(1, 4))
        pixels, boxes = scene(rng, *(shown_size if as_shown else STORED_SIZE), count, vivid=True)
        stored = turn_pixels(pixels, UNDO.get(turn, turn)) if as_shown else pixels
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(stored).save(folder / f"p{i}{suffix}", exif=exif, quality=90)
        size = {"stored": STORED_SIZE, "shown": shown_size, "none": (0, 0)}[recorded]
        columns.add_picture(f"p{i}{suffix}", size)
        for box in boxes:
            columns.add_box(i, box.tolist(), 0)
        moved = (
            boxes if as_shown else orientation.corners(orientation.turned_points, boxes, turn, STORED_SIZE)
        )
        truth.append(moved)
    return columns.dataset(folder, ["thing"], folder), truth


def on_object(picture: np.ndarray, box: np.ndarray) -> bool:
    """Whether a box encloses one red or blue thing: much of it inside, hardly any around it."""
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    thing = np.abs(red - blue) - green > 60
    x1, y1, x2, y2 = np.round(box).astype(int)
    around = thing[max(0, y1 - 6) : y2 + 6, max(0, x1 - 6) : x2 + 6].sum()
    return bool(thing[y1:y2, x1:x2].mean() > 0.6 and thing[y1:y2, x1:x2].sum() > 0.8 * around)


@pytest.mark.parametrize("turn", range(2, 9))
def test_points_are_turned_as_pillow_turns_pixels(turn):
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[4:9, 20:32] = 255
    box = np.array([[20, 4, 32, 9]], np.float32)
    (x1, y1, x2, y2), *_ = orientation.corners(orientation.turned_points, box, turn, (50, 30)).astype(int)
    shown = turn_pixels(pixels, turn)
    assert shown[y1:y2, x1:x2].all()
    assert shown.sum() == shown[y1:y2, x1:x2].sum()
    assert np.array_equal(orientation.stored_pixels(shown, turn), pixels)


@pytest.mark.parametrize("as_shown", [True, False], ids=["as shown", "as stored"])
@pytest.mark.parametrize(
    ("turns", "suffix", "recorded"),
    [
        ([6] * 6, ".jpg", "stored"),
        ([8] * 6, ".png", "stored"),
        ([3] * 6, ".jpg", "stored"),
        ([2, 4, 2, 4, 2, 4], ".webp", "stored"),
        ([5, 7, 5, 7, 5, 7], ".jpg", "stored"),
        ([6, 8, 5, 7, 6, 8], ".tif", "none"),
    ],
)
def test_a_mended_copy_has_its_boxes_on_their_objects(tmp_path, turns, suffix, recorded, as_shown):
    dataset, truth = phone_set(tmp_path / "phone", turns, as_shown, suffix=suffix, recorded=recorded)
    report = doctor.examine(dataset)
    fault = "exif-rotation" if not as_shown else "size-mismatch"
    exchanged = turns[0] >= 5 and recorded == "stored"
    assert report.counts[fault] == (0 if as_shown and not exchanged else len(turns))
    doctor.fix(dataset, report, tmp_path / "mended")
    mended = registry.read(tmp_path / "mended", faults="refuse")
    assert len(mended.boxes) == len(dataset.boxes)
    for i in range(len(mended)):
        boxes = mended.boxes[mended.rows(i)]
        assert boxes == pytest.approx(truth[i])
        picture = load_image(mended.path(i))
        assert mended.sizes[i].tolist() in ([0, 0], [picture.shape[1], picture.shape[0]])
        assert [on_object(picture, box) for box in boxes] == [True] * len(boxes)
        assert mended.path(i).read_bytes() == dataset.path(i).read_bytes()  # nothing is encoded anew
    assert doctor.examine(mended).counts == dict.fromkeys(doctor.FAULTS, 0)


def test_fractions_that_were_read_as_of_the_shown_picture(tmp_path):
    """YOLO's labels have no size of their own: the reader takes the one that is shown."""
    dataset, truth = phone_set(tmp_path / "phone", [6, 8] * 5, as_shown=False, recorded="shown")
    dataset.boxes[:] *= np.tile(np.divide(STORED_SIZE[::-1], STORED_SIZE), 2)
    report = doctor.examine(dataset)
    assert {finding.mend for finding in report.findings} == {"turn fractions"}
    doctor.fix(dataset, report, tmp_path / "mended")
    mended = registry.read(tmp_path / "mended")
    assert mended.boxes == pytest.approx(np.concatenate(truth), abs=0.01)


def test_labels_that_fit_both_readings_are_left_alone(tmp_path):
    dataset, _ = phone_set(tmp_path / "phone", [6, 3, 8, 5], as_shown=False)
    for i in range(len(dataset)):  # nothing to see in any of them
        exif = Image.Exif()
        exif[0x0112] = [6, 3, 8, 5][i]
        Image.new("RGB", STORED_SIZE, (120, 130, 125)).save(dataset.path(i), exif=exif)
    dataset.boxes[:] = np.clip(dataset.boxes, 0, 240)  # inside, either way
    report = doctor.examine(dataset)
    rotation = [finding for finding in report.findings if finding.fault == "exif-rotation"]
    assert len(rotation) == 4
    assert all("undecided" in finding.sentence and not finding.mend for finding in rotation)
    dropped = [finding for finding in report.findings if finding.mend]
    assert {finding.mend for finding in dropped} <= {"drop box"}
    doctor.fix(dataset, report, tmp_path / "mended")
    kept = np.setdiff1d(np.arange(len(dataset.boxes)), [finding.row for finding in dropped])
    assert np.array_equal(registry.read(tmp_path / "mended").boxes, dataset.boxes[kept])


def test_two_tools_in_one_set_do_not_outvote_each_other(tmp_path):
    shown = [np.array([[3.0, 3.0], [0.0, 0.0], [np.nan] * 2, [np.nan] * 2])] * 6
    stored = [scores[[1, 0, 2, 3]] for scores in shown[:2]]
    weak = np.array([[0.5], [0.0], [np.nan], [np.nan]])
    same = ["stored"] * 7
    assert orientation.readings_of([*shown, weak], same)[-1] == orientation.STORED
    assert orientation.readings_of([*shown[:4], *stored, weak], same)[-1] is None


def test_the_rule_is_as_good_as_never_wrong():
    """Single pictures with one to four objects: the hardest case, as nothing but the picture itself tells."""
    rng = np.random.default_rng(7)
    results: Counter[str] = Counter()
    for _ in range(250):
        turn, as_shown = int(rng.integers(2, 9)), bool(rng.integers(2))
        shown_size = orientation.turned_size(STORED_SIZE, turn)
        pixels, boxes = scene(rng, *(shown_size if as_shown else STORED_SIZE), int(rng.integers(1, 5)))
        boxes = boxes + rng.normal(0, 1.0, boxes.shape).astype(np.float32)
        stored = turn_pixels(pixels, UNDO.get(turn, turn)) if as_shown else pixels
        scores = orientation.score_readings(stored, boxes, STORED_SIZE, turn)
        reading = orientation.decide(scores, orientation.MARGIN)
        right = orientation.SHOWN if as_shown else orientation.STORED
        results["undecided" if reading is None else "right" if reading == right else "wrong"] += 1
    assert results["wrong"] == 0
    assert results["right"] > 100, results
