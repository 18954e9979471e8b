"""New splits: stratified, clips and duplicates whole, the same for the same seed."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tests.data.sets import make
from toolkit.data.catalog import load
from toolkit.data.dividing import divide, divide_folder
from toolkit.data.grouping import BURSTS, CLIPS, COPIES, groups_by_name, joined
from toolkit.data.stratifying import stratified
from toolkit.runtime import InputError

R = range


def write(path: Path, seed: int, flip: bool = False) -> None:
    """A picture of its own for each seed; `flip` turns it, makes it darker and writes it anew."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (110, 90), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), cv2.resize(picture[::-1] // 2 + 40, (80, 60)) if flip else picture)


def dataset(root, names, labels=lambda i: [i % 3], splits=lambda i: "", seeds=lambda i: i):
    rows = [
        (name, (110, 90), splits(i), [((5, 5, 30, 30), k, 0, 0, ()) for k in labels(i)])
        for i, name in enumerate(names)
    ]
    made = make(root, rows)
    for i, name in enumerate(names):
        write(root / name, seeds(i))
    return made


def split_of(division) -> dict[str, str]:
    return dict(zip(division.dataset.files, division.dataset.splits.tolist(), strict=True))


def counts(division) -> list[int]:
    return [part.pictures for part in division.parts]


@pytest.mark.parametrize(
    ("files", "groups"),
    [
        ([f"clip{c:02d}_{i:04d}.jpg" for c in R(2) for i in R(0, 30, 10)], {CLIPS: [(0, 1, 2), (3, 4, 5)]}),
        ([f"IMG_{v}_frame_{i:06d}.jpg" for v in (1234, 1235) for i in R(2)], {CLIPS: [(0, 1), (2, 3)]}),
        ([f"s{c}-{i}.png" for c in R(2) for i in (10, 9, 11)], {CLIPS: [(1, 0, 2), (4, 3, 5)]}),
        ([f"{c}/{i:05d}.jpg" for c in ("walk", "jump") for i in R(3)], {CLIPS: [(0, 1, 2), (3, 4, 5)]}),
        ([f"train/x{i}_jpg.rf.{k:032x}.jpg" for i in R(2) for k in R(2)], {COPIES: [(0, 1), (2, 3)]}),
        (["train/v1_frame_1_jpg.rf.aa.jpg", "valid/v1_frame_2_jpg.rf.bb.jpg"], {CLIPS: [(0, 1)]}),
        (["20240101_120000_001.jpg", "20240101_120000_002.jpg", "20240101_120001.jpg"], {BURSTS: [(0, 1)]}),
        (["00000IMG_00000_BURST20180101120000123_COVER.jpg", "00001IMG_00001_BURST20180101120000123.jpg"],
         {BURSTS: [(0, 1)]}),
        # numberings of cameras and data sets, folders of classes and splits: nothing
        ([f"IMG_{i:04d}.jpg" for i in R(50)], {}),
        ([f"{i:012d}.jpg" for i in R(50)], {}),
        ([f"COCO_{s}2014_{i:012d}.jpg" for s in ("train", "val") for i in R(9)], {}),
        ([f"{year}_{i:06d}.jpg" for year in (2007, 2008) for i in R(9)], {}),
        ([f"nut_{i:03d}.jpg" for i in R(9)] + [f"bolt_{i:03d}.jpg" for i in R(9)], {}),
        ([f"{c}/{i:03d}.jpg" for c in ("nuts", "bolts") for i in R(9)], {}),
        ([f"{c}/{i:03d}.jpg" for c in ("train", "valid") for i in R(9)], {}),
        ([f"{c}CANON/IMG_{i:04d}.jpg" for c in (100, 101) for i in R(9)], {}),
        ([f"n{c}_{i}.jpg" for c in (1, 2) for i in (7, 90, 4011, 612, 3333)], {}),
    ],
)  # fmt: skip
def test_names_that_belong_together(files, groups):
    together: dict[str, list] = {}
    for group in groups_by_name(files, ["nut", "bolt"]):
        together.setdefault(group.kind, []).append(group.pictures)
    assert {kind: sorted(members) for kind, members in together.items()} == groups


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.3, 0), (0.9, 0, 0.1)]),
)
def test_sizes_and_classes_are_met_where_groups_allow(seed, n, fractions):
    classes = csr_array((np.random.default_rng(seed).random((n, 4)) < (0.9, 0.5, 0.2, 0.05)).astype(int))
    splits = stratified(np.ones(n, np.int64), classes, fractions, seed)
    taken = np.bincount(splits, minlength=3)
    asked = [i for i in R(3) if fractions[i]][:n]
    assert taken[0] > 0
    assert not taken[[i for i in R(3) if i not in asked]].any()
    for i in asked[1:]:
        assert abs(taken[i] - max(1, fractions[i] * n)) <= 1 or taken[i] == 0
    for column in classes.toarray().T:
        if column.any():  # a class is trained on
            assert column[splits == 0].any()
        if n >= 20 and column.sum() * min(f for f in fractions if f) >= 1:  # and is in every split
            assert all(column[splits == i].any() for i in asked)


def test_a_rare_class_reaches_every_split():
    rare = np.zeros((200, 2), int)
    rare[:, 0], rare[:3, 1] = 1, 1
    for seed in R(20):
        assert sorted(stratified(np.ones(200, int), csr_array(rare), (0.8, 0.1, 0.1), seed)[:3]) == [0, 1, 2]


def test_groups_that_touch_become_one():
    assert joined(np.arange(6), [0, 5, 4], [2, 4, 0]).tolist() == [0, 1, 0, 2, 0, 0]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six clips of ten frames, and forty photographs of which two are the same and two nearly."""
    names = [f"clip{c:02d}_{i:04d}.png" for c in R(6) for i in R(10)] + [f"IMG_{i:04d}.png" for i in R(40)]
    made = dataset(tmp_path_factory.mktemp("clips") / "pictures", names)
    write(made.path(63), 67)
    write(made.path(80), 69, flip=True)
    return made


def test_clips_and_duplicates_stay_whole(clips):
    for seed in R(3):
        division = divide(clips, 0.2, 0.1, seed)
        splits = split_of(division)
        for c in R(6):
            assert len({splits[f"clip{c:02d}_{i:04d}.png"] for i in R(10)}) == 1
        assert splits["IMG_0003.png"] == splits["IMG_0007.png"]
        assert splits["IMG_0009.png"] == splits["IMG_0020.png"]
        assert np.abs(np.subtract(counts(division), (70, 20, 10))).max() <= 2
        kept = {each.kind: (each.groups, each.pictures) for each in division.kept_together}
        assert kept == {CLIPS: (6, 60), "exact duplicates": (1, 2), "near duplicates": (1, 2)}
        assert division.groups == 44
        assert (division.unmet, division.notes) == ((), ())
        assert division.dataset.files == clips.files


def test_one_seed_has_one_answer_in_any_order(clips):
    order = np.random.default_rng(3).permutation(len(clips))
    assert split_of(divide(clips.subset(order))) == split_of(divide(clips))
    assert split_of(divide(clips, seed=1)) != split_of(divide(clips))


def test_one_clip_is_divided_into_runs_and_says_so(tmp_path):
    division = divide(dataset(tmp_path, [f"frame_{i}.png" for i in R(30)], lambda i: [0]))
    assert counts(division) == [24, 3, 3]
    assert [part.groups for part in division.parts] == [8, 1, 1]
    assert "belong together (frames of one clip): runs of 3" in division.notes[0]
    splits = split_of(division)
    assert {splits[f"frame_{i}.png"] for i in R(0, 3)} == {splits["frame_0.png"]}


@pytest.mark.parametrize(
    ("labels", "pictures", "sentence"),
    [
        ([[0]], [1, 0, 0], "val has no pictures: 1 group of pictures cannot fill all splits"),
        ([[0], [0]], [1, 1, 0], "test has no pictures: 2 groups of pictures cannot fill all splits"),
        ([[0], [1], [2]], [3, 0, 0], "the only ones of a class"),
        ([[0]] * 19 + [[0, 1]], [16, 2, 2], "class 'traffic light' has 1 picture: none in val and test"),
    ],
)
def test_what_cannot_be_met_is_said(labels, pictures, sentence, tmp_path):
    division = divide(dataset(tmp_path, [f"p{i}.png" for i in R(len(labels))], lambda i: labels[i]))
    assert counts(division) == pictures
    assert any(sentence in each for each in division.unmet), division.unmet


def test_groups_too_large_for_a_part_are_said(tmp_path):
    names = [f"clip{c}_{i:03d}.png" for c in R(2) for i in R(10)]
    division = divide(dataset(tmp_path, names, lambda i: [0]), look=False)
    assert counts(division) == [10, 10, 0]
    assert "val has 10 of 20 pictures (50%) instead of 10%, as groups stay whole" in division.unmet


def test_keeping_the_test_split(clips):
    names = ["test" if i < 5 or i > 95 else "train" for i in R(100)]
    with_test = dataset(clips.root, clips.files, splits=lambda i: names[i])
    division = divide(with_test, keep_test=True, look=False)
    assert [i for i, name in enumerate(division.dataset.splits) if name == "test"] == [
        0,
        1,
        2,
        3,
        4,
        *R(96, 100),
    ]
    assert "test 9, train 91" in division.notes[0]
    assert "5 pictures of train and val belong to pictures of the split test" in division.unmet[-1]
    with pytest.raises(InputError, match="no test split to keep"):
        divide(clips, keep_test=True)


@pytest.mark.parametrize(("val", "test"), [(0.9, 0.2), (-0.1, 0.1), (1, 0), (float("nan"), 0)])
def test_bad_parts_are_one_sentence(val, test, clips):
    with pytest.raises(InputError, match="together below 1"):
        divide(clips, val, test)


def test_the_command_writes_what_it_says(clips, tmp_path):
    from toolkit.data.formats import canonical

    canonical.save(clips, tmp_path / "data")
    command = [sys.executable, "-m", "toolkit.cli", "data", "split", "data", "new", "--val", "0.2", "--json"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answer = json.loads(run.stdout)
    written = load(tmp_path / "new")
    assert {name: part["pictures"] for name, part in answer["splits"].items()} == written.counts()["splits"]
    assert split_of(divide(clips, 0.2)) == dict(zip(written.files, written.splits.tolist(), strict=True))
    assert sum(part["boxes"] for part in answer["splits"].values()) == len(clips.labels)
    assert "kept together: frames of one clip: 60 pictures in 6 groups" in run.stderr
    for output in ("data", "."):
        with pytest.raises(InputError, match="which is read"):
            divide_folder(tmp_path / "data", tmp_path / output, overwrite=True)
    assert len(load(tmp_path / "data")) == 100
