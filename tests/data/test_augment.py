"""Augmentation: boxes stay on their objects, colours are darknet's, every lever moves something."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from toolkit.data.augment import Augmentation, Sample, augment, make_batch, recolour
from toolkit.runtime import InputError

SIZE = (96, 80)
SEED = Augmentation("seed", flip=0.5, jitter=0.2)
AFFINE = Augmentation(flip=0.5, scale=(0.4, 1.6), aspect=1.4, translate=0.2, fill=0)
MOSAIC = replace(AFFINE, mosaic=1.0, mosaic_scale=(0.3, 1.2))
RECTANGLES = ((10, 10, 60, 50), (100, 20, 140, 110), (30, 70, 80, 130), (150, 60, 200, 140))


def sample(visible, first_label=0, width=210, height=150):
    """Black with one white rectangle out of those whose boxes are given."""
    image = np.zeros((height, width, 3), np.uint8)
    if visible is not None:
        x1, y1, x2, y2 = RECTANGLES[visible]
        image[y1:y2, x1:x2] = 255
    boxes = np.array(RECTANGLES, np.float32) / (width, height, width, height)
    labels = first_label + np.arange(len(RECTANGLES))
    return Sample(image, boxes.astype(np.float32), labels, np.zeros(len(RECTANGLES), bool))


def noise(seed=0, shape=(90, 120, 3)):
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))


FOCUS = replace(AFFINE, focus=1.0, focus_px=(10.0, 200.0))


@pytest.mark.parametrize("settings", [SEED, AFFINE, MOSAIC, FOCUS], ids=["seed", "affine", "mosaic", "focus"])
def test_boxes_are_the_bounds_of_what_they_hold(settings):
    pictures = 4 if settings.mosaic else 1
    kept = dropped = cut = 0
    for seed in range(30):
        for label in range(0, 4 * pictures, 3):
            samples = [sample(label - 4 * i if label // 4 == i else None, 4 * i) for i in range(pictures)]
            out = augment(samples, SIZE, settings, np.random.default_rng(seed))
            assert out.image.shape == (SIZE[1], SIZE[0], 3)
            ys, xs = np.nonzero(out.image[..., 0] > 127)
            row = np.flatnonzero(out.labels == label)
            if len(row):
                box = out.boxes[row[0]] * (*SIZE, *SIZE)
                bounds = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                np.testing.assert_allclose(box, bounds, atol=1.2)
                kept += 1
                cut += box.min() == 0 or box[2] == SIZE[0] or box[3] == SIZE[1]
            elif len(xs):
                # a tenth of a large object, or a thin strip of it, at the border
                assert len(xs) < 0.4 * SIZE[0] * SIZE[1] * 0.25
                dropped += 1
    assert kept > 30
    assert cut > 3
    if settings.kind == "modern":
        assert dropped > 0


def test_boxes_hold_what_is_turned():
    settings = Augmentation(rotate=20, scale=(0.5, 0.6), fill=0)
    wider = 0
    for seed in range(20):
        out = augment([sample(1)], SIZE, settings, np.random.default_rng(seed))
        ys, xs = np.nonzero(out.image[..., 0] > 127)
        box = out.boxes[out.labels == 1][0] * (*SIZE, *SIZE)
        np.testing.assert_allclose(box, (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), atol=1.6)
        wider += (box[2] - box[0]) > 1.15 * 40 / 210 * SIZE[0] * 0.6
    assert wider > 5


def test_share_that_must_be_seen():
    def share_left(keep, ignore=False):
        shares = []
        for seed in range(200):
            whole = np.array([[0.3, 0.3, 0.7, 0.7]], np.float32)
            one = Sample(noise().image, whole, np.zeros(1, np.int64), np.array([ignore]))
            settings = Augmentation(translate=0.7, keep=keep)
            out = augment([one], SIZE, settings, np.random.default_rng(seed))
            shares += list((out.boxes[:, 2:] - out.boxes[:, :2]).prod(axis=1) / 0.16)
        return np.array(shares)

    assert share_left(0.0).min() < 0.2
    assert 0.5 <= share_left(0.5).min() < 0.6
    assert len(share_left(0.0)) > len(share_left(0.5)) > 50
    # an ignored region that shows is not background
    assert share_left(0.5, ignore=True).min() < 0.2


@pytest.mark.parametrize(("kind", "smallest"), [("seed", 1), ("modern", 2)])
def test_small_boxes_are_dropped(kind, smallest):
    sides = np.array([0.5, 0.99, 1.01, 1.9, 2.1, 9]) / 100
    boxes = np.array([[0.5, 0.5, 0.5 + s, 0.9] for s in sides], np.float32)
    one = Sample(noise().image, boxes, np.arange(6), np.zeros(6, bool))
    out = augment([one], (100, 100), Augmentation(kind), np.random.default_rng(0))
    assert set(out.labels.tolist()) == {i for i in range(6) if sides[i] * 100 >= smallest}


def test_defaults_only_stretch():
    for kind in ("seed", "modern"):
        one = noise(shape=(80, 96, 3))
        out = augment([one], SIZE, Augmentation(kind), np.random.default_rng(0))
        np.testing.assert_array_equal(out.image, one.image)
    # enlarged, both ways of resampling agree to a rounding
    image = cv2.GaussianBlur(noise(shape=(40, 60, 3)).image, (0, 0), 2)
    one = replace(noise(), image=image)
    seed, modern = (
        augment([one], SIZE, Augmentation(k), np.random.default_rng(0)) for k in ("seed", "modern")
    )
    difference = np.abs(seed.image.astype(int) - modern.image.astype(int))
    assert difference.max() <= 3


def test_the_seed_fills_with_the_mean_and_stays_within_its_jitter():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:50] = (200, 100, 50)
    full = Sample(image, np.array([[0, 0, 1, 1]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool))
    filled, sides = 0, []
    for seed in range(100):
        out = augment([full], (100, 100), Augmentation("seed", jitter=0.2), np.random.default_rng(seed))
        x1, y1, x2, y2 = out.boxes[0]
        sides.append((x2 - x1, y2 - y1))
        if x1 > 0.02 and y1 > 0.02:
            filled += 1
            assert out.image[0, 0].tolist() == [100, 50, 25]
    assert filled > 10
    # at the most .2 of the picture is added at either edge: 1 / 1.4 of the input is left
    assert 1 / 1.4 - 0.02 <= np.min(sides) < 0.8
    assert np.max(sides) == 1


def test_the_seed_shuffles_its_truths():
    orders = {
        tuple(augment([sample(0)], SIZE, Augmentation("seed"), np.random.default_rng(s)).labels.tolist())
        for s in range(30)
    }
    assert len(orders) > 10


@pytest.mark.parametrize(("hue", "saturation", "value"), [(7.3, 1.5, 0.7), (-20.6, 0.66, 1.31), (12, 1, 1)])
def test_colours_are_darknets(hue, saturation, value):
    """The same in OpenCV's arithmetic on matrices, as darknet has it."""
    image = noise().image
    h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    h = cv2.add(h.reshape(-1, 1), (hue, 0, 0, 0)).reshape(h.shape)
    s, v = cv2.convertScaleAbs(s, alpha=saturation), cv2.convertScaleAbs(v, alpha=value)
    expected = cv2.cvtColor(cv2.merge((h, s, v)), cv2.COLOR_HSV2RGB)
    difference = np.abs(recolour(image, hue, saturation, value, wrap=False).astype(int) - expected)
    assert (difference > 0).mean() < 0.01  # products that end in exactly a half
    assert difference.max() <= 3


def test_a_hue_below_zero_goes_round_in_the_modern_kind_only():
    red = np.full((4, 4, 3), (250, 10, 10), np.uint8)
    turned, stopped = (recolour(red, -20, 1, 1, wrap) for wrap in (True, False))
    assert turned[0, 0, 2] > 100  # towards violet
    np.testing.assert_array_equal(stopped, red)


@pytest.mark.parametrize("kind", ["seed", "modern"])
def test_colour_levers(kind):
    image = np.full((20, 20, 3), (180, 90, 60), np.uint8)
    one = replace(noise(), image=image)

    def hsv(**levers):
        outs = [
            augment([one], (20, 20), Augmentation(kind, **levers), np.random.default_rng(s)).image
            for s in range(60)
        ]
        return np.stack([cv2.cvtColor(o, cv2.COLOR_RGB2HSV)[0, 0] for o in outs]).astype(int)

    own = hsv()[0]
    for channel, levers in enumerate(({"hue": 0.1}, {"saturation": 1.4}, {"exposure": 1.4})):
        found = hsv(**levers)
        spread = np.ptp(found, axis=0)
        assert spread[channel] > 10
        assert (np.delete(spread, channel) <= 4).all()
        middle = found[:, channel]
        assert middle.min() < own[channel] < middle.max() or channel == 0


@pytest.mark.parametrize("kind", ["seed", "modern"])
def test_flip(kind):
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    one = Sample(image, np.array([[0.5, 0, 1, 1]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool))

    def flipped(probability):
        outs = [
            augment([one], (40, 40), Augmentation(kind, flip=probability), np.random.default_rng(s))
            for s in range(100)
        ]
        assert all((o.image[20, 5, 0] == 255) == (o.boxes[0, 0] < 0.25) for o in outs)
        return sum(o.image[20, 5, 0] == 255 for o in outs)

    assert flipped(0) == 0
    assert flipped(1) == 100
    assert 30 < flipped(0.5) < 70


def test_mosaic_shows_four_pictures():
    shades = (40, 90, 150, 220)
    samples = [replace(noise(), image=np.full((50, 70, 3), shade, np.uint8)) for shade in shades]
    settings = Augmentation(mosaic_scale=(1, 1), mosaic=1.0)
    out = augment(samples, SIZE, settings, np.random.default_rng(3))
    corners = out.image[[0, 0, -1, -1], [0, -1, 0, -1], 0]
    assert corners.tolist() == list(shades)
    for shade in shades:
        assert (out.image == shade).mean() > 0.25**2 - 0.01


def test_focus_gives_an_object_a_size_between_the_two_and_keeps_it_in_view():
    """All magnitudes alike: the logarithms of the sizes are spread evenly."""
    settings = Augmentation(flip=0.5, focus=1.0, focus_px=(8.0, 32.0))
    box = np.array([[0.45, 0.4, 0.7, 0.8]], np.float32)
    ignored = np.array([[0.0, 0.0, 0.1, 0.1]], np.float32)  # never chosen
    picture = Sample(noise().image, np.concatenate((ignored, box)), np.array([0, 1]), np.array([True, False]))
    sizes = []
    for seed in range(300):
        view = augment([picture], SIZE, settings, np.random.default_rng(seed))
        (seen,) = view.boxes[view.labels == 1]
        sides = (seen[2:] - seen[:2]) * SIZE
        assert sides.min() > 2
        if (seen > 0.001).all() and (seen < 0.999).all():  # whole
            sizes.append(np.sqrt(sides.prod()))
    assert len(sizes) > 150
    assert min(sizes) == pytest.approx(8, rel=0.1)
    assert max(sizes) == pytest.approx(32, rel=0.1)
    assert np.mean(np.log2(sizes)) == pytest.approx(4, abs=0.25)


def test_focus_without_an_object_is_the_usual_scale():
    settings = Augmentation(scale=(0.5, 1.5), focus=1.0, focus_px=(2.0, 2.0))
    box = np.array([[0.45, 0.45, 0.55, 0.55]], np.float32)
    picture = Sample(noise().image, box, np.array([0]), np.array([True]))
    widths = []
    for seed in range(40):
        view = augment([picture], SIZE, settings, np.random.default_rng(seed))
        widths += ((view.boxes[:, 2] - view.boxes[:, 0]) * 10).tolist()
    assert len(widths) > 20
    assert 0.5 < max(widths) < 1.51
    assert np.median(widths) == pytest.approx(1, abs=0.25)


def test_fill():
    image = np.full((50, 70, 3), (10, 60, 200), np.uint8)
    for fill, colour in ((114, (114,) * 3), (None, (10, 60, 200))):
        settings = Augmentation(scale=(0.5, 0.5), fill=fill)
        out = augment([replace(noise(), image=image)], SIZE, settings, np.random.default_rng(1))
        assert {tuple(p) for p in out.image[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()} == {colour}


def test_the_generator_decides():
    settings = replace(MOSAIC, hue=0.1, saturation=1.5, exposure=1.5, rotate=10)
    for kind in ("seed", "modern"):
        of = replace(settings, kind=kind, jitter=0.2)
        samples = [noise(i) for i in range(4)]
        one, again, other = (augment(samples, SIZE, of, np.random.default_rng(s)).image for s in (5, 5, 6))
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()


def test_batch():
    first, second = sample(0), noise(shape=(150, 210, 3))
    third = sample(1, 7)
    third.ignore[2] = True
    batch = make_batch([first, second, third], [5, 3, 9])
    assert batch.images.shape == (3, 150, 210, 3)
    assert batch.images.dtype == torch.uint8
    assert batch.picture.tolist() == [0] * 4 + [2] * 4
    assert batch.labels.tolist() == [0, 1, 2, 3, 7, 8, 9, 10]
    assert batch.ignore.tolist() == [False] * 6 + [True, False]
    assert batch.indices.tolist() == [5, 3, 9]
    x1, y1, x2, y2 = RECTANGLES[1]
    expected = [(x1 + x2) / 420, (y1 + y2) / 300, (x2 - x1) / 210, (y2 - y1) / 150]
    np.testing.assert_allclose(batch.boxes[1].numpy(), expected, rtol=1e-6)
    assert batch.boxes.dtype == torch.float32
    assert batch.to("meta").images.device.type == "meta"
    empty = make_batch([second], [0])
    assert empty.boxes.shape == (0, 4)
    assert empty.labels.dtype == empty.picture.dtype == torch.int64


@pytest.mark.parametrize(
    ("levers", "words"),
    [
        ({"kind": "strong"}, "must be one of seed, modern"),
        ({"jitter": 0.6}, "jitter"),
        ({"flip": -0.1}, "flip"),
        ({"saturation": 0.5}, "saturation"),
        ({"mosaic": 1.5}, "mosaic"),
        ({"scale": (1.5, 0.5)}, "scale"),
        ({"mosaic_scale": (0, 1)}, "mosaic_scale"),
        ({"fill": 300}, "fill"),
        ({"focus": 2}, "focus"),
        ({"focus_px": (0, 8)}, "focus_px"),
    ],
)
def test_bad_levers(levers, words):
    with pytest.raises(InputError, match=words):
        Augmentation(**levers)
