"""Class names of a cfg: the one file that belongs to it, or none, and which it was."""

import re
import warnings

import pytest

from toolkit.models.darknet.names import find_names

TWO, THREE = "cat\ndog\n", "a\nb\nc\n"
# files in the folder of the cfg's repository -> (count of classes, names, words of the sentence)
CASES = {
    "nothing": ({}, 2, "", "no file of class names"),
    "of the cfg's own name": ({"cfg/net.names": TWO, "cfg/other.names": "x\ny\n"}, 2, TWO, "net.names"),
    "the only one": ({"cfg/coco.names": TWO}, 2, TWO, "coco.names"),
    "darknet's data": ({"data/coco.names": TWO, "data/voc.names": THREE}, 2, TWO, "data/coco.names"),
    "data in the folder": ({"cfg/data/coco.names": TWO}, 2, TWO, "data/coco.names"),
    "a .data file": ({"cfg/net.data": "names = lists/c.txt\n", "lists/c.txt": TWO}, 2, TWO, "lists/c.txt"),
    "beside the .data file": ({"cfg/a.data": "classes= 2\nnames=c.txt\n", "cfg/c.txt": TWO}, 2, TWO, "c.txt"),
    "wrong count": ({"cfg/net.names": THREE}, 2, "", "no file of 2 class names .* has 3"),
    "own does not fit": ({"cfg/net.names": THREE, "data/coco.names": TWO}, 2, TWO, "coco.names"),
    "several": (
        {"data/a.names": TWO, "data/b.names": "x\ny\n"},
        2,
        "",
        "2 files have 2 .*a.names.*none is used",
    ),
    "copies": ({"data/a.names": TWO, "cfg/b.names": TWO}, 2, TWO, "b.names"),
    "outside": ({"cfg/net.data": "names=../../secret.txt\n", "../secret.txt": TWO}, 2, "", "no file"),
    "not text": ({"cfg/net.names": "\0\1", "data/a.names": TWO}, 2, TWO, "a.names"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_file_that_belongs_to_a_cfg(case, tmp_path, monkeypatch):
    files, count, names, words = CASES[case]
    root = tmp_path / "repository"
    (root / "cfg").mkdir(parents=True)
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.chdir(root / "cfg")
    for cfg in ("net.cfg", root / "cfg" / "net.cfg"):
        found = find_names(cfg, count)
        assert found.names == tuple(names.split())
        assert re.search(words, found.sentence)


def test_only_the_chosen_file_is_warned_of(tmp_path):
    (tmp_path / "other.names").write_text("a\n\nb\n")
    (tmp_path / "net.names").write_text(TWO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_names(tmp_path / "net.cfg", 2).names == ("cat", "dog")
    with pytest.warns(UserWarning, match=r"other\.names: line 2 is blank"):
        assert find_names(tmp_path / "net.cfg", 3).names == ("a", "class1", "b")


def test_a_link_that_leads_out_is_named_and_not_read(tmp_path):
    (tmp_path / "secret.txt").write_text(TWO)
    (tmp_path / "net").mkdir()
    link = tmp_path / "net" / "x.names"
    link.symlink_to("../secret.txt")
    found = find_names(tmp_path / "net" / "x.cfg", 2)
    assert found.names == ()
    assert f"{link} is a link that leads out of its folder: name it with --names" in found.sentence
    link.unlink()
    (tmp_path / "net" / "own.txt").write_text(TWO)
    link.symlink_to("own.txt")
    assert find_names(tmp_path / "net" / "x.cfg", 2).names == ("cat", "dog")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.names").write_text(TWO)
    link.unlink()
    link.symlink_to("../data/a.names")  # which counts by itself
    assert find_names(tmp_path / "net" / "x.cfg", 2).names == ("cat", "dog")
