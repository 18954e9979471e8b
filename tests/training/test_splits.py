"""What a run trains on and validates with, from sets of any splits to a single picture."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.data.test_dividing import dataset
from toolkit.data.formats import canonical
from toolkit.runtime import InputError
from toolkit.training.config import read_config
from toolkit.training.splits import choose_parts

CONFIG = read_config({"data": "my set", "model": "fastest-v2"})


def test_splits_that_are_there_are_taken(tmp_path):
    made = dataset(tmp_path, [f"p{i}.png" for i in range(4)], splits=lambda i: "train" if i < 3 else "val")
    parts = choose_parts(CONFIG, made)
    assert (parts.train.files, parts.val.files, parts.note) == (
        ["p0.png", "p1.png", "p2.png"],
        ["p3.png"],
        "",
    )


@pytest.mark.parametrize(("split", "lack"), [("", "my set has no splits"), ("train", "has no split 'val'")])
def test_a_tenth_is_held_out_in_whole_clips_for_every_seed(split, lack, tmp_path):
    names = [f"clip{c:02d}_{i:02d}.png" for c in range(20) for i in range(3)]
    made = dataset(tmp_path, names, splits=lambda i: split, seeds=lambda i: i // 3)
    parts = choose_parts(CONFIG, made)
    clips = [{name[:6] for name in part.files} for part in (parts.train, parts.val)]
    assert (len(parts.train), len(parts.val)) == (54, 6)
    assert not clips[0] & clips[1]
    assert lack in parts.note
    assert "6 of 60 pictures are held out" in parts.note
    assert "20 groups of frames of one clip kept whole" in parts.note
    other = choose_parts(CONFIG.model_copy(update={"seed": 5}), made.subset(np.arange(60)[::-1]))
    assert set(other.val.files) == set(parts.val.files)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_pictures_are_both_parts(count, tmp_path):
    parts = choose_parts(CONFIG, dataset(tmp_path, [f"p{i}.png" for i in range(count)]))
    assert parts.train.files == parts.val.files == [f"p{i}.png" for i in range(count)]
    assert f"only {count} picture" in parts.note
    assert "the scores are those of the training pictures" in parts.note


def test_the_only_labelled_picture_is_both_parts(tmp_path):
    made = dataset(tmp_path, [f"p{i}.png" for i in range(30)], lambda i: [0] if i == 7 else [])
    parts = choose_parts(CONFIG, made)
    assert parts.train.files == parts.val.files
    assert "none of its 30 pictures with objects can be held out" in parts.note


def test_without_training_pictures_the_sentence_names_a_command_that_works(tmp_path):
    made = dataset(
        tmp_path / "a", [f"p{i}.png" for i in range(20)], splits=lambda i: "test" if i < 4 else "val"
    )
    with pytest.raises(InputError, match=r"only in test \(4\), val \(16\)") as error:
        choose_parts(CONFIG, made)
    assert "`toolkit data split 'my set' OUTPUT --keep-test`" in str(error.value)
    canonical.save(made, tmp_path / "my set")
    command = [sys.executable, "-m", "toolkit.cli", "data", "split", "my set", "new", "--keep-test", "--json"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [part["pictures"] for part in json.loads(run.stdout)["splits"].values()] == [14, 2, 4]


@pytest.mark.parametrize(
    ("labelled", "match"), [("val", "to train on have no objects"), ("train", "to validate")]
)
def test_a_part_without_objects_is_one_sentence(labelled, match, tmp_path):
    names = ["train", "train", "val"]
    labels = [[0] if name == labelled else [] for name in names]
    made = dataset(tmp_path, ["a.png", "b.png", "c.png"], lambda i: labels[i], lambda i: names[i])
    with pytest.raises(InputError, match=match):
        choose_parts(CONFIG, made)
