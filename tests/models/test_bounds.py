"""Cfgs, weights, names and changes of strangers: what they claim takes neither memory nor time."""

import math
import os
import resource
import time

import pytest
import torch

from tests.cfgs import BODY, NET, TINY, conv, head, output
from toolkit.models import bounds
from toolkit.models.caffe_file import read_caffemodel
from toolkit.models.darknet.cfg import parse_cfg, parse_cfg_text, read_names
from toolkit.models.darknet.network import CfgDetector, load_darknet
from toolkit.models.darknet.weights import load_weights, save_weights
from toolkit.models.ncnn_file import read_model
from toolkit.models.zoo import create_model
from toolkit.networks import network_io
from toolkit.runtime import InputError

CFGS = {
    "filters": TINY.replace("filters=8", "filters=1000000000", 1),
    "thousands of digits": TINY.replace("filters=8", "filters=" + "9" * 5000, 1),
    "width": TINY.replace("width=64", "width=1000000"),
    "height below 0": TINY.replace("height=64", "height=-64"),
    "size": TINY.replace("size=3", "size=100000", 1),
    "size times filters": NET + conv(65536, 1023) + head(2, "0"),
    "stride": TINY.replace("stride=2", "stride=10000", 1),
    "groups": TINY.replace("filters=8", "filters=8\ngroups=1000000000", 1),
    "padding": TINY.replace("pad=1", "padding=1000000000", 1),
    "dilation": TINY.replace("pad=1", "pad=1\ndilation=1000000000", 1),
    "infinite": TINY.replace("scale_x_y=1.05", "scale_x_y=1e400", 1),
    "not a number": TINY.replace("scale_x_y=1.05", "scale_x_y=nan", 1),
    "scale": TINY.replace("scale_x_y=1.05", "scale_x_y=1e38", 1),
    "classes": TINY.replace("classes=2", "classes=1000000000"),
    "anchors": TINY.replace("anchors=6,6", "anchors=1e30,6"),
    "many anchors": TINY.replace("anchors=6,6", "anchors=" + "1," * 9000 + "6,6"),
    "a long mask": TINY.replace("mask=2,3", "mask=" + "2," * 5000 + "3"),
    "a million sections": NET + "[empty]\n" * 1_000_000,
    "sections that are none": "[net]\n" + "[a]\n" * 10_001,
    "a line of a million numbers": f"{NET}{BODY}[shortcut]\nfrom={'-2,' * 1_000_000}\n",
    "a list of thousands": f"{NET}{BODY}[shortcut]\nfrom={'-2,' * 5_000}\n{output(14)}{head(2, '0,1')}",
    "upsampling": f"{NET}{conv(8)}" + "[upsample]\nstride=64\n" * 9 + head(2, "0"),
    "upsampling a little": f"{NET}{conv(8)}" + "[upsample]\nstride=2\n" * 40 + head(2, "0"),
    "maps of all": f"{NET}{conv(64)}" + "[route]\nlayers=-1,-1\n" * 60 + head(2, "0"),
    "slow pools": NET.replace("=64\n", "=8192\n")
    + conv(4)
    + "[maxpool]\nsize=1024\nstride=1\n" * 9
    + head(2, "0"),
    "slow layers": NET.replace("=64\n", "=8192\n") + conv(8) + conv(8, 9) * 40 + output(14) + head(2, "2,3"),
    "a long word": TINY.replace("activation=leaky", "activation=" + "\x1b[31m" * 3000, 1),
    "a long kind": TINY.replace("[upsample]", "[" + "u" * 15_000 + "]"),
    "no text": "\0\xff" * 1000,
}
CHANGES = {
    "width": {"width": 1e9},
    "infinite width": {"width": math.inf},
    "no width": {"width": math.nan},
    "width of a word": {"width": "x" * 10_000},
    "width that fits no machine": {"width": 60},
    "classes": {"classes": 10**9},
    "digits": {"classes": 10**5000},
    "input size": {"input_size": [10**6, 10**6]},
    "a side": {"input_size": 10**9},
    "a side of a thousand digits": {"input_size": 10**1000},
    "maps": {"input_size": 16_384, "width": 8},
    "no side": {"input_size": [math.nan, 320]},
    "infinite sides": {"input_size": [math.inf, 320]},
    "anchors": {"anchors": [[1, 2]] * 1_000_000},
    "infinite anchors": {"anchors": [[math.inf, 2]] * 6},
    "flat anchors": {"anchors": [1, 2, 3, 4, 5, 6]},
    "pools": {"spp": list(range(1, 100_001, 2))},
    "a pool": {"spp": [10**9 + 1]},
    "a pool of a word": {"spp": "999"},
    "windows": {"csp": 10**9},
    "ratios": {"se": [-1, -1]},
    "infinite ratios": {"se": math.inf},
    "stages": {"stages": [1] * 1_000_000},
    "a word": {"stem": "x" * 1_000_000},
}


def measured(make):
    """The sentence of an InputError, and what it took: seconds of the processor, kB."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InputError) as caught:
        make()
    return (
        str(caught.value),
        time.process_time() - begin,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
    )


@pytest.mark.filterwarnings("ignore:.*unused field")
@pytest.mark.parametrize("kind", CFGS)
def test_a_hostile_cfg_is_one_sentence(tmp_path, kind):
    (tmp_path / "a.cfg").write_text(CFGS[kind])
    sentence, seconds, memory = measured(lambda: load_darknet(tmp_path / "a.cfg"))
    assert len(sentence) < 400
    assert "\x1b" not in sentence
    assert seconds < 20
    assert memory < 500_000


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("name", ["fastest-v2", "landmark106"])
def test_hostile_changes_are_one_sentence(name, kind):
    sentence, seconds, memory = measured(lambda: create_model(name, **CHANGES[kind]))
    assert len(sentence) < 1000
    assert seconds < 20
    assert memory < 300_000


@pytest.mark.parametrize("kind", ["classes", "digits", "input size", "a side", "anchors", "infinite anchors"])
def test_hostile_changes_of_a_cfg_are_one_sentence(kind):
    from toolkit.training.origin import Origin

    origin = Origin("a.cfg", TINY)
    sentence, seconds, memory = measured(lambda: origin.build(CfgDetector, **CHANGES[kind]))
    assert (len(sentence) < 400, seconds < 20, memory < 300_000) == (True, True, True)


def test_the_largest_networks_that_people_have_are_within_the_bounds():
    """yolov4-p7 has 0.29 billion weights, and runs at 1536 x 1536."""
    body = conv(40) + conv(80, stride=2) + conv(160, stride=2) + conv(1280, stride=8) + conv(2560) * 6
    text = NET.replace("=64\n", "=1536\n") + body + output(14) + head(2, "2,3")
    with torch.device("meta"):
        model = CfgDetector(parse_cfg_text(text, "a.cfg"))
    assert sum(weight.numel() for weight in model.parameters()) > 290_000_000


def test_more_than_the_free_memory_is_said_with_both_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(bounds, "free_memory", lambda: 50_000)
    with pytest.raises(InputError, match=r"a\.cfg needs 0\.0 GB .* weights.* 0\.0 GB of memory are free"):
        CfgDetector(parse_cfg_text(TINY, "a.cfg"))
    with pytest.raises(InputError, match=r"fastest-v2 needs"):
        create_model("fastest-v2", width=2.0)
    (tmp_path / "a.cfg").write_text(TINY)
    assert network_io(str(tmp_path / "a.cfg"), names=None).stride == 16  # of shapes alone


def test_free_memory_is_some():
    assert 10_000_000 < bounds.free_memory() < 2**50


@pytest.mark.parametrize("version", [0, 1])
def test_files_that_a_container_has_read_are_free_memory(version, monkeypatch, tmp_path):
    limit, used, prefix = bounds.CONTROL_GROUPS[version]
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("10000\n")
    (tmp_path / used).write_text("9990\n")
    stat = f"anon 90\n{prefix}inactive_file 4000\n{prefix}active_file 500\n"
    (tmp_path / used).with_name("memory.stat").write_text(stat)
    monkeypatch.setattr(bounds, "CONTAINERS", tmp_path)
    assert bounds.free_memory() == 4510


def test_maps_are_counted_at_the_worst_moment(monkeypatch):
    needs = []
    monkeypatch.setattr("toolkit.models.darknet.network.check_memory", lambda *need: needs.append(need))
    CfgDetector(parse_cfg_text(f"{NET}{conv(8)}{output(7)}{head(2, '0')}", "a.cfg"))
    assert needs[-1][2] == 64 * 64 * (8 + 7)


def test_weights_of_another_network_are_refused_before_there_is_memory_for_this_one(tmp_path):
    large = NET + conv(8192, 3) + conv(8192, 3) + output(14) + head(2, "2,3")  # 2.4 GB
    (tmp_path / "a.cfg").write_text(large)
    save_weights(create_model("yoloface-50k"), tmp_path / "a.weights")
    _, seconds, memory = measured(lambda: load_darknet(tmp_path / "a.cfg", tmp_path / "a.weights"))
    assert seconds < 5
    assert memory < 300_000


def test_a_weights_file_is_not_read_further_than_the_network_goes(tmp_path):
    model, path = create_model("yoloface-50k"), tmp_path / "a.weights"
    save_weights(model, path)
    os.truncate(path, 3_000_000_000)  # a sparse file
    _, _, memory = measured(lambda: load_weights(model, path))
    assert memory < 100_000
    os.truncate(path, 2**40)
    assert "bytes" in measured(lambda: load_weights(model, path))[0]


READERS = {
    "cfg": parse_cfg,
    "names": read_names,
    "weights": lambda path: load_weights(create_model("yoloface-50k"), path),
    "pt": lambda path: create_model("yoloface-50k", path),
    "caffemodel": read_caffemodel,
    "param": lambda path: read_model(path, path.with_suffix(".bin")),
}


@pytest.mark.parametrize("suffix", READERS)
def test_folders_pipes_devices_and_long_files_are_not_read(tmp_path, suffix):
    read = READERS[suffix]
    for name, make in {
        "folder": lambda path: path.mkdir(),
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "missing": lambda path: None,
        "long": lambda path: path.touch(),
    }.items():
        path = tmp_path / f"{name}.{suffix}"
        make(path)
        if name == "long":
            os.truncate(path, 2**40)
        _, seconds, memory = measured(lambda path=path: read(path))
        assert (seconds < 5, memory < 200_000) == (True, True)


def test_names_are_bounded(tmp_path):
    path = tmp_path / "a.names"
    for data in (b"a" * 2000, b"a\n" * 70_000):
        path.write_bytes(data)
        assert len(measured(lambda: read_names(path))[0]) < 300


@pytest.mark.parametrize("kind", ["cut", "no end", "a huge shape"])
def test_a_damaged_caffemodel_is_said(zoo, tmp_path, kind):
    whole = (zoo / "landmark106/caffe/landmark106.caffemodel").read_bytes()
    data = {
        "cut": whole[: len(whole) // 2],
        "no end": b"\xff" * 2_000_000,
        "a huge shape": bytes.fromhex("a206 0f 0a01 61 3a0a 2a00 3a06 0a04 ffffff7f".replace(" ", "")),
    }[kind]
    path = tmp_path / "a.caffemodel"
    path.write_bytes(data)
    _, seconds, _ = measured(lambda: read_caffemodel(path))
    assert seconds < 10
