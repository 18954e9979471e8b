"""Every dataset card, and the local copies they lead to."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.data.sets import small
from toolkit.data import cards, catalog
from toolkit.data.catalog import load
from toolkit.data.formats.canonical import save
from toolkit.runtime import InputError

EXPECTED = {
    "bccd", "coco2017", "toy", "voc2007", "voc2012", "voc2012_sub1200", "wflw", "wflw98", "widerface",
    "widerface_val", "widerface_val_ours",
}  # fmt: skip


def test_the_cards_that_there_should_be():
    assert set(cards.names()) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_card(name):
    card = cards.card(name)
    assert card.name == name
    assert len(card.get) > 20
    assert card.classes
    if name.startswith("voc"):
        assert len(card.classes) == 20
    if name == "coco2017":
        assert len(card.classes) == 80


GOOD = """name: mine
title: Mine
source: https://example.org
licence: CC0
classes: [a, b]
splits: {train: 1}
folder: mine
layout: {format: voc}
get: Draw it yourself.
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("licence: CC0\n", "", "licence is missing"),
        ("[a, b]", "[a, a]", "class names repeat"),
        ("[a, b]", "[]", "classes = .*at least 1 item"),
        ("format: voc", "format: vocal", "expected one of coco, voc"),
        ("https://example.org", "ftp://example.org", "source = 'ftp:.*should match"),
        ("{train: 1}", "{train: 0}", "splits.train.* greater than or equal to 1"),
        ("title: Mine", "titel: Mine", "title is missing"),
        ("get: Draw", "extra: 1\nget: Draw", "extra = 1 .*not permitted"),
        ("name: mine", "name: yours", "is the card of 'yours'"),
        ("name: mine", "name: {", "is not valid YAML"),
    ],
)
def test_bad_cards(tmp_path, monkeypatch, old, new, words):
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert cards.card("mine").classes == ["a", "b"]
    (tmp_path / "mine.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=words):
        cards.card("mine")


def test_a_data_set_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "datasets")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/mine.yaml").write_text(
        GOOD.replace("[a, b]", "[größe, wheel, traffic light, a & b <c>]")
    )
    monkeypatch.delenv("TOOLKIT_DATA", raising=False)
    with pytest.raises(InputError, match=r"'mine' is not here: set TOOLKIT_DATA .* \(Draw it yourself"):
        load("mine")
    with pytest.raises(InputError, match="there is no dataset card 'yours': choose one of mine"):
        cards.card("yours")
    save(small(tmp_path / "pictures"), tmp_path / "datasets/mine")  # canonical, whatever the card says
    assert load("mine").classes == ("größe", "wheel", "traffic light", "a & b <c>")
    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path / "shared"))
    assert catalog.locate("mine") == tmp_path / "datasets/mine"
    (tmp_path / "shared/mine").mkdir(parents=True)
    assert catalog.locate("mine") == tmp_path / "shared/mine"


def local(name: str) -> Path:
    if "TOOLKIT_DATA" not in os.environ or catalog.locate(name) is None:
        pytest.skip(f"TOOLKIT_DATA names no folder with {name!r}")
    return catalog.locate(name)


@pytest.mark.parametrize(
    ("name", "boxes", "ignored"),
    [
        ("bccd", 4886, 0),
        ("voc2012_sub1200", 3707, 627),
        ("widerface_val", 39708, 585),
        ("widerface_val_ours", 39708, 585),
        ("wflw98", 425, 0),
    ],
)
def test_local_copies_hold_what_their_cards_say(name, boxes, ignored):
    local(name)
    found, card = load(name), cards.card(name)
    assert {split: int((found.splits == split).sum()) for split in np.unique(found.splits)} == card.splits
    assert list(found.classes) == card.classes
    assert len(found.boxes) == boxes
    assert int(found.ignore.sum()) == ignored
    assert (found.sizes > 0).all()


def test_reduced_widerface_goes_back_to_the_official_numbers():
    """The ground truth file has whole numbers in the originals' pixels: they must come back."""
    folder = local("widerface_val")
    found = load("widerface_val")
    scale = np.repeat(found.original_scale(), np.diff(found.starts), axis=0)
    original = found.boxes * np.concatenate((scale, scale), axis=1)
    np.testing.assert_allclose(original, np.round(original), atol=1e-3)
    official: dict[str, list[list[int]]] = {}
    name = ""
    for line in (folder / "wider_face_split/wider_face_val_bbx_gt.txt").read_text().splitlines():
        fields = line.split()
        if len(fields) == 10:
            official[name].append([int(v) for v in fields[:4]])
        elif line.endswith(".jpg"):
            name = line
            official[name] = []
    whole = np.round(original).astype(int)
    whole[:, 2:] -= whole[:, :2]
    assert {file: whole[found.rows(i)].tolist() for i, file in enumerate(found.files)} == official


def test_widerface_boxes_lie_in_the_pictures_that_are_there():
    local("widerface_val")
    found = load("widerface_val")
    sizes = np.repeat(found.sizes, np.diff(found.starts), axis=0)
    assert (found.boxes[:, 2:] <= sizes + 1).mean() > 0.999
    assert found.sizes.max() == 384
    assert found.original_sizes.max() > 1000
