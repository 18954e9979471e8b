"""A cfg for other classes, anchors and input sizes: what changes in its sections, and what is refused."""

import pytest
import torch

from tests.cfgs import REGION, TINY, head, text_of
from toolkit.models.darknet.adapt import adapt, cfg_text
from toolkit.models.darknet.cfg import parse_cfg, parse_cfg_text
from toolkit.models.darknet.network import CfgDetector
from toolkit.runtime import InputError

NEW = [(4, 5), (9, 9), (14, 20), (30, 28)]


def sections(text=TINY):
    return parse_cfg_text(text, "tiny.cfg")


def test_filters_follow_the_classes_and_nothing_else_changes():
    before = sections()
    after = adapt(before, classes=7)
    changed = [
        (a.kind, key, a.options.get(key), b.options[key])
        for a, b in zip(before, after, strict=True)
        for key in b.options
        if a.options.get(key) != b.options[key]
    ]
    assert changed == [
        ("convolutional", "filters", "14", "24"),
        ("yolo", "classes", "2", "7"),
        ("convolutional", "filters", "14", "24"),
        ("yolo", "classes", "2", "7"),
    ]
    assert before == sections()  # itself unchanged
    maps = CfgDetector(after)(torch.zeros(1, 3, 64, 64))
    assert [tuple(raw.shape) for raw in maps] == [(1, 24, 4, 4), (1, 24, 8, 8)]


def test_anchors_are_dealt_the_largest_to_the_coarsest_head():
    """The heads share an anchor, as those of yolov4-tiny.cfg: afterwards each has its own."""
    shared = sections()
    assert [s.options["mask"] for s in shared if s.kind == "yolo"] == ["2,3", "1,2"]
    after = adapt(shared, anchors=NEW, input_size=(96, 32))
    heads = [s.options for s in after if s.kind == "yolo"]
    assert [options["mask"] for options in heads] == ["2,3", "0,1"]
    assert {options["anchors"] for options in heads} == {"4,5, 9,9, 14,20, 30,28"}
    io = CfgDetector(after).io
    assert io.input_size == (96, 32)
    assert [head.anchors for head in io.heads] == [((14, 20), (30, 28)), ((4, 5), (9, 9))]
    assert [head.stride for head in io.heads] == [16, 8]


def test_a_head_that_has_all_anchors_is_changed_too():
    """Three heads with no order in the file, and anchors of [region] in cells."""
    finest_first = (
        TINY.replace("mask=2,3", "mask=9").replace("mask=1,2", "mask=2,3").replace("mask=9", "mask=1,2")
    )
    assert [h.anchors for h in CfgDetector(adapt(sections(finest_first), anchors=NEW)).io.heads] == [
        ((14, 20), (30, 28)), ((4, 5), (9, 9)),
    ]  # fmt: skip
    region = adapt(sections(REGION), classes=3, anchors=[(8, 12), (40, 24)])
    assert region[-1].options["anchors"] == "0.5,0.75, 2.5,1.5"
    io = CfgDetector(region).io
    assert io.heads[0].anchors == ((8, 12), (40, 24))
    assert io.heads[0].softmax


def test_the_text_comes_back_with_its_lines(tmp_path):
    own = tmp_path / "own.cfg"
    own.write_text("# a comment\n\n" + TINY.replace("[yolo]", "\n# a head\n[yolo]"))
    parsed = parse_cfg(own)
    again = parse_cfg_text(cfg_text(parsed), "own.cfg")
    assert [(s.kind, s.options, s.line) for s in again] == [(s.kind, s.options, s.line) for s in parsed]


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        (TINY, {"classes": 0}, "at least one class"),
        (TINY, {"anchors": NEW[:3]}, "has 4 anchors, 3 were given"),
        (TINY, {"input_size": (60, 64)}, r"60x64|64"),
        (
            text_of("[route]\nlayers=-1\n", head(2, "0,1")),
            {"classes": 2},
            r"\[yolo\] in line \d+: its input is \[route\]",
        ),
        (
            text_of("[shortcut]\nfrom=-1\nactivation=linear\n", head(2, "0,1")),
            {"classes": 2},
            r"its input is \[shortcut\]",
        ),
        (
            TINY.replace("filters=14\n", "filters=14\nbatch_normalize=1\n", 1),
            {"classes": 2},
            "without batch norm",
        ),
    ],
)
def test_what_cannot_be_changed_is_one_sentence(text, changes, words):
    with pytest.raises(InputError, match=words) as caught:
        adapt(sections(text), **changes)
    assert "\n" not in str(caught.value)
