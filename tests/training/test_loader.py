"""Batches: the same pictures at the same steps whatever the workers, processes and restarts."""

import multiprocessing
import shutil
import threading
import time
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from toolkit.data.augment import Augmentation
from toolkit.data.toy import make_toy
from toolkit.machine import cache_folder
from toolkit.runtime import InputError
from toolkit.training import loader
from toolkit.training.loader import BatchMaker, PictureCache, batches, steps_per_epoch

SETTINGS = Augmentation(
    flip=0.5, hue=0.05, saturation=1.4, exposure=1.4, scale=(0.7, 1.4), mosaic=0.5, translate=0.1
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("toy") / "set", count=40, size=96)


@pytest.fixture(scope="module")
def cache(dataset, tmp_path_factory):
    return PictureCache(dataset, 64, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def own_copy(dataset, tmp_path):
    """A copy of the set whose pictures may be spoiled."""
    shutil.copytree(dataset.root, tmp_path / "images")
    return replace(dataset, root=tmp_path / "images")


def make(dataset, cache, start=0, stop=6, batch=8, size=(64, 64), settings=SETTINGS, seed=3, **more):
    maker = BatchMaker(dataset, cache, seed)
    return list(
        batches(maker, batch, lambda _: size, lambda _: settings, start_step=start, stop_step=stop, **more)
    )


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        for f in fields(a):
            assert torch.equal(getattr(a, f.name), getattr(b, f.name)), f.name


def test_what_a_batch_holds(dataset, cache):
    found = make(dataset, cache, stop=5)
    assert all(b.images.shape == (8, 64, 64, 3) for b in found)
    for batch in found:
        assert batch.boxes.min() >= 0
        assert batch.boxes.max() <= 1
        assert (batch.boxes[:, 2:] * 64 >= 2).all()
        assert (batch.picture.diff() >= 0).all()
        assert batch.picture.max() < 8
        assert batch.labels.max() < 10
    seen = torch.cat([b.indices for b in found])
    assert sorted(seen.tolist()) == list(range(40))


def test_the_seed_decides(dataset, cache):
    once = make(dataset, cache)
    assert_same(make(dataset, cache), once)
    other = make(dataset, cache, seed=4)
    assert any((a.indices != b.indices).any() for a, b in zip(once, other, strict=True))


def test_epochs_differ_in_order_and_in_augmentation(dataset, cache):
    both = make(dataset, cache, stop=10)
    orders = [torch.cat([b.indices for b in part]).tolist() for part in (both[:5], both[5:])]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    row = orders[0][0]
    views = [
        next(b.images[(b.indices == row).nonzero()[0, 0]] for b in part if row in b.indices)
        for part in (both[:5], both[5:])
    ]
    assert (views[0] != views[1]).any()


@pytest.mark.parametrize("start", [1, 5, 7])
def test_starting_at_a_step_is_going_on(dataset, cache, start):
    assert_same(make(dataset, cache, start=start, stop=9), make(dataset, cache, stop=9)[start:])


def test_workers_change_nothing(dataset, cache):
    state = torch.get_rng_state()
    threads = cv2.getNumThreads()
    assert_same(make(dataset, cache, workers=2), make(dataset, cache))
    assert torch.equal(torch.get_rng_state(), state)
    assert cv2.getNumThreads() == threads


def test_leaving_early_ends_what_was_started(dataset, cache):
    before = threading.active_count()
    for workers in (0, 1):
        maker = BatchMaker(dataset, cache, 0)
        running = batches(maker, 8, lambda _: (64, 64), lambda _: SETTINGS, 0, 10**9, workers=workers)
        next(running)
        assert threading.active_count() + len(multiprocessing.active_children()) > before
        running.close()
        for _ in range(100):
            if threading.active_count() == before and not multiprocessing.active_children():
                break
            time.sleep(0.05)
        assert threading.active_count() == before
        assert multiprocessing.active_children() == []


@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_share_what_one_accumulates(dataset, cache, accumulate):
    of_rank = [
        make(dataset, cache, batch=4, rank=r, world=2, accumulate=accumulate, stop=4) for r in range(2)
    ]
    alone = make(dataset, cache, batch=4, accumulate=2 * accumulate, stop=4)
    together = [b for pair in zip(*of_rank, strict=True) for b in pair]
    assert len(alone) == 4 * 2 * accumulate
    assert_same(together, alone)


def test_last_and_only_short_steps(dataset, cache):
    assert steps_per_epoch(40, 16) == 2
    assert [len(b.indices) for b in make(dataset, cache, batch=16, stop=4)] == [16] * 4
    assert steps_per_epoch(40, 64) == 1
    short = make(dataset, cache, batch=64, stop=2)
    assert [len(b.indices) for b in short] == [40, 40]
    parts = make(dataset, cache, batch=64, accumulate=3, stop=1)
    assert [len(b.indices) for b in parts] == [14, 13, 13]
    assert_same([parts[1]], make(dataset, cache, batch=64, rank=1, world=3, stop=1))
    with pytest.raises(InputError, match="40 pictures to train on and each step has 41 parts"):
        make(dataset, cache, accumulate=41)


def test_sizes_and_settings_follow_the_step(dataset, cache):
    plain = Augmentation()
    found = list(
        batches(
            BatchMaker(dataset, cache, 0),
            20,
            lambda step: ((64, 64), (96, 32))[step % 2],
            lambda step: replace(plain, mosaic=float(step < 2)),
            start_step=0,
            stop_step=4,
        )
    )
    assert [tuple(b.images.shape[1:3]) for b in found] == [(64, 64), (32, 96)] * 2
    counts = [len(b.labels) for b in found]
    own = [int(np.diff(dataset.starts)[b.indices.numpy()].sum()) for b in found]
    assert counts[2:] == own[2:]  # without mosaic all boxes of the picture, and no other
    # four pictures at .4 to 1 in four quarters: far more objects, most of them smaller
    assert sum(counts[:2]) > 1.5 * sum(own[:2])
    areas = [b.boxes[:, 2:].prod(dim=1).median() for b in found]
    assert max(areas[:2]) < min(areas[2:])


def test_boxes_belong_to_their_pictures(dataset, cache):
    (batch,) = make(dataset, cache, batch=40, settings=Augmentation(), stop=1)
    for n, i in enumerate(batch.indices.tolist()):
        own = dataset.boxes[dataset.rows(i)] / 96
        rows = batch.picture == n
        found = batch.boxes[rows].numpy()
        np.testing.assert_allclose(found[:, :2] - found[:, 2:] / 2, own[:, :2], atol=1e-5)
        np.testing.assert_allclose(found[:, 2:], own[:, 2:] - own[:, :2], atol=1e-5)
        assert batch.labels[rows].tolist() == dataset.labels[dataset.rows(i)].tolist()
        picture = cv2.resize(
            cv2.imread(str(dataset.path(i)))[..., ::-1], (64, 64), interpolation=cv2.INTER_AREA
        )
        np.testing.assert_array_equal(batch.images[n].numpy(), picture)


def test_what_is_no_truth(dataset, cache):
    spoiled = replace(
        dataset,
        sizes=np.zeros_like(dataset.sizes),
        boxes=dataset.boxes.copy(),
        labels=dataset.labels.copy(),
        crowd=dataset.crowd.copy(),
        ignore=dataset.ignore.copy(),
    )
    rows = spoiled.rows(int(np.diff(spoiled.starts).argmax()))
    first = rows.start
    spoiled.crowd[first] = True
    spoiled.ignore[first + 1] = True
    spoiled.labels[first + 2] = -1
    spoiled.boxes[first + 3] = spoiled.boxes[first + 3][[2, 1, 0, 3]]  # right before left
    (batch,) = make(spoiled, cache, batch=40, settings=Augmentation(), stop=1)
    assert len(batch.labels) == len(dataset.labels) - 1
    assert int(batch.ignore.sum()) == 3
    (seed,) = make(spoiled, cache, batch=40, settings=Augmentation("seed", jitter=0.2), stop=1)
    assert int(seed.ignore.sum()) == 3


def test_kept_pictures_are_those_decoded_anew(dataset, cache, tmp_path):
    assert cache.file is not None
    assert cache.file.stat().st_size == 40 * (64 * 64 * 3 + 32)
    anew = PictureCache(dataset, 64, tmp_path, limit_gb=0)
    assert anew.file is None
    assert list(tmp_path.iterdir()) == []
    assert_same(make(dataset, anew), make(dataset, cache))


def test_a_cache_is_made_once_and_again_after_a_change(own_copy, tmp_path):
    folder = tmp_path / "cache"
    first = PictureCache(own_copy, None, folder)
    made = first.file.stat()
    assert PictureCache(own_copy, None, folder).file.stat() == made
    assert PictureCache(own_copy, 64, folder).file != first.file
    black = np.zeros((96, 96, 3), np.uint8)
    cv2.imwrite(str(own_copy.path(7)), black)
    again = PictureCache(own_copy, None, folder)
    assert again.file != first.file
    assert not again[7][0].any()
    assert first[7][0].any()
    assert {p.suffix for p in folder.iterdir()} == {".bin"}


def test_the_folder_of_caches(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "mine"))
    assert PictureCache(dataset, 32).file.parent == tmp_path / "mine"
    monkeypatch.delenv("TOOLKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_folder().name == "toolkit"


@pytest.mark.parametrize(
    ("own", "side", "stored"),
    [((300, 200), 100, (150, 100)), ((200, 300), 100, (100, 150)), ((90, 300), 100, (90, 300)),
     ((301, 97), 96, (298, 96)), ((50, 40), None, (50, 40))],
)  # fmt: skip
def test_pictures_are_reduced_but_never_enlarged(own_copy, tmp_path, own, side, stored):
    one = own_copy.subset(np.array([0]))
    cv2.imwrite(str(one.path(0)), np.zeros((own[1], own[0], 3), np.uint8))
    for limit in (0, 1):
        image, size = PictureCache(one, side, tmp_path / "cache", limit)[0]
        assert image.shape[1::-1] == stored
        assert size == own


def test_pictures_are_upright(own_copy, tmp_path):
    one = own_copy.subset(np.array([0]))
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was turned: what is right in the file is below
    Pillow.fromarray(pixels).save(one.path(0), exif=exif, quality=95)
    image, size = PictureCache(one, None, tmp_path / "cache")[0]
    assert size == (40, 60)
    assert image[:25].max() < 20
    assert image[35:].min() > 235


@pytest.mark.parametrize("recorded", [True, False])
def test_too_many_pictures_are_not_kept(dataset, tmp_path, capsys, recorded):
    some = dataset if recorded else replace(dataset, sizes=np.zeros_like(dataset.sizes))
    cache = PictureCache(some, None, tmp_path, limit_gb=0.0005)
    assert cache.file is None
    assert "more than the 0.0005 GB allowed" in cache.warning
    assert capsys.readouterr().err == f"warning: {cache.warning}\n"
    assert list(tmp_path.iterdir()) == []
    assert cache[0][0].shape == (96, 96, 3)


def test_a_full_disk_and_a_folder_that_is_none(dataset, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "cannot be kept in" in PictureCache(dataset, 64, blocked).warning
    free = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: free)
    cache = PictureCache(dataset, 64, tmp_path / "cache")
    assert "do not fit on the disk" in cache.warning
    assert len(make(dataset, cache)) == 6


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["vanished", "damaged"])
def test_a_picture_that_goes_while_training(own_copy, workers, damage):
    cache = PictureCache(own_copy, 64, limit_gb=0)
    settings = Augmentation()
    running = batches(
        BatchMaker(own_copy, cache, 0), 4, lambda _: (64, 64), lambda _: settings, 0, 100, workers=workers
    )
    next(running)
    for i in range(len(own_copy)):
        own_copy.path(i).unlink()
        if damage == "damaged":
            own_copy.path(i).write_bytes(b"no picture")
    words = "is missing" if damage == "vanished" else "does not decode"
    with pytest.raises(InputError, match=words) as caught:
        list(running)
    assert str(own_copy.root) in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("damage", ["vanished", "damaged"])
@pytest.mark.parametrize("cached", [0, 8])
def test_a_picture_that_is_missing_or_damaged_at_the_start(own_copy, tmp_path, capsys, damage, cached):
    """Another takes its place, the same one however the batches are made, and it is named once."""
    if damage == "vanished":
        own_copy.path(3).unlink()
    else:
        own_copy.path(3).write_bytes(b"no picture")
    made = []
    for workers in (0, 1):
        cache = PictureCache(own_copy, 64, tmp_path / "cache", limit_gb=cached)
        maker = BatchMaker(own_copy, cache, 0)
        stream = batches(
            maker, 4, lambda _: (64, 64), lambda _: Augmentation(), 0, 2 * len(own_copy) // 4, workers=workers
        )
        made.append(list(stream))
        assert list(cache.unreadable) == [3]
        assert own_copy.files[3] in cache.note
        assert capsys.readouterr().err.count(f"skipped: {own_copy.path(3)} ") == 1
    for one, other in zip(*made, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.boxes, other.boxes)
    number, image, _ = cache.nearest(3)
    assert number == 4
    assert np.array_equal(image, cache[4][0])


def test_most_pictures_damaged_at_the_start(own_copy, tmp_path):
    for i in range(len(own_copy) // 2 + 1):
        own_copy.path(i).write_bytes(b"no picture")
    with pytest.raises(InputError, match="pictures to train on cannot be read"):
        PictureCache(own_copy, 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_of_other_pictures(dataset, cache):
    with pytest.raises(InputError, match="the cache holds 40 pictures and the dataset 32"):
        make(dataset.split("train"), cache)
