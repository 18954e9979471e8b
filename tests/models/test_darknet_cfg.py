"""cfg and names as darknet reads them: options, encodings, line ends, and what nothing reads."""

import warnings

import pytest
import torch

from tests.cfgs import BODY, NET, TINY, conv, head, output
from toolkit.models.darknet.cfg import parse_cfg, parse_cfg_text, read_names
from toolkit.models.darknet.keys import KEYS
from toolkit.models.darknet.network import CfgDetector, load_darknet
from toolkit.models.darknet.write import save_darknet, to_cfg
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError

CFG = """[net]
width=64
height=64
letter_box=1
channels=1

[convolutional]
filters=7  # 5 + classes
size=3
stride=32
pad=1
activation=silu

[yolo]
mask=0
anchors = 16,32
classes=2
num=1
"""


def test_of_a_key_given_twice_the_first_counts():
    text = CFG.replace("size=3\n", "size=3\nsize=5\n")
    with pytest.warns(UserWarning, match=r"a.cfg: unused field size= in \[convolutional\] .*line 10"):
        sections = parse_cfg_text(text, "a.cfg")
    assert sections[1].options["size"] == "3"


def test_fields_that_nothing_reads_are_named_in_one_warning():
    text = CFG.replace("[yolo]\n", "[yolo]\ncolour=red\n").replace("stride=32", "strde=32\nbatch_normalize=")
    with pytest.warns(UserWarning, match="a.cfg: unused field") as caught:
        parse_cfg_text(text, "a.cfg")
    assert len(caught) == 1
    for part in (
        "strde= in [convolutional]",
        "(line 10)",
        "colour= in [yolo]",
        "(line 16)",
        "without a value",
    ):
        assert part in str(caught[0].message)


def test_training_options_and_the_cfgs_written_here_have_no_unused_fields():
    training = "jitter=.3\nignore_thresh=.7\nnms_kind=greedynms\nstopbackward=1\ntrain_only_bn=1\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_cfg_text(CFG.replace("[yolo]\n", f"[yolo]\n{training}"), "a.cfg")
        for spec in SPECS.values():
            parse_cfg_text(to_cfg(spec), "a.cfg")
    assert "stopbackward" not in KEYS["net"]


ENCODINGS = {
    "utf-8": CFG.encode(),
    "utf-8 with a mark": b"\xef\xbb\xbf" + CFG.encode(),
    "utf-16": CFG.encode("utf-16"),
    "utf-16 big-endian": b"\xfe\xff" + CFG.encode("utf-16-be"),
    "gb2312": CFG.replace("5 + classes", "类别").encode("gb2312"),
    "cr lf": CFG.replace("\n", "\r\n").encode(),
    "cr": CFG.replace("\n", "\r").encode(),
    "no last line end": CFG.rstrip().encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_and_line_ends(encoding, tmp_path):
    (tmp_path / "a.cfg").write_bytes(ENCODINGS[encoding])
    expected = [(s.kind, s.options, s.line) for s in parse_cfg_text(CFG, "a.cfg")]
    assert [(s.kind, s.options, s.line) for s in parse_cfg(tmp_path / "a.cfg")] == expected


def test_a_cfg_that_is_no_text(tmp_path):
    (tmp_path / "a.cfg").write_bytes(bytes(range(256)) * 2)
    with pytest.raises(InputError, match="cannot read the cfg .*expected a text file"):
        parse_cfg(tmp_path / "a.cfg")


def test_other_names_and_blanks(tmp_path):
    text = (
        CFG.replace("[net]", "[ network ]")
        .replace("[convolutional]", "[conv]")
        .replace("size=3", " size\t= 3")
    )
    sections = parse_cfg_text(text, "a.cfg")
    assert [section.kind for section in sections] == ["net", "convolutional", "yolo"]
    assert sections[1].options["activation"] == "swish"
    assert sections[1].integer("size") == 3


def test_letter_box_and_grey_reach_the_io_and_the_written_cfg(tmp_path):
    (tmp_path / "a.cfg").write_text(CFG)
    model = load_darknet(tmp_path / "a.cfg")
    assert (model.io.fit, model.io.channel_order, model.io.channels) == ("letterbox", "GRAY", 1)
    assert model.layers[0].conv.weight.shape == (7, 1, 3, 3)
    again = load_darknet(*save_darknet(model, tmp_path / "again"))
    assert again.io == model.io
    (tmp_path / "a.cfg").write_text(CFG.replace("letter_box=1\nchannels=1\n", ""))
    plain = load_darknet(tmp_path / "a.cfg").io
    assert (plain.fit, plain.channel_order) == ("stretch", "RGB")


NAMES = {
    b"cat\ndog\n": ("cat", "dog"),
    b"cat\r\ndog\r\n\r\n": ("cat", "dog"),
    b"cat\rdog": ("cat", "dog"),
    b"\xef\xbb\xbfcat\ndog": ("cat", "dog"),
    "cat\ndog\n".encode("utf-16"): ("cat", "dog"),
    "猫\nrace car \n".encode(): ("猫", "race car"),
    b"": (),
}


@pytest.mark.parametrize("data", NAMES)
def test_names(data, tmp_path):
    (tmp_path / "a.names").write_bytes(data)
    assert read_names(tmp_path / "a.names") == NAMES[data]


def test_a_blank_line_between_names_keeps_its_number(tmp_path):
    (tmp_path / "a.names").write_bytes(b"cat\n\ndog\n\n")
    with pytest.warns(UserWarning, match="a.names: line 2 is blank and counts as a class.*class1"):
        assert read_names(tmp_path / "a.names") == ("cat", "class1", "dog")


def test_a_guessed_encoding_of_names_is_said(tmp_path):
    (tmp_path / "a.names").write_bytes("猫\n狗\n".encode("gb2312"))
    with pytest.warns(UserWarning, match="read as GB2312"):
        assert read_names(tmp_path / "a.names") == ("猫", "狗")


def test_more_and_fewer_anchors_than_num_are_read_and_said():
    head = CFG[: CFG.index("[yolo]")].replace("filters=7", "filters=14")
    text = head + "[yolo]\nmask=1,2\nanchors=1,2, 3,4, 5,6\nclasses=2\nnum=2\n"
    with pytest.warns(UserWarning, match="in line 14: anchors= has 6 numbers for num=2"):
        model = CfgDetector(parse_cfg_text(text, "a.cfg"))
    assert model.io.heads[0].anchors == ((3, 4), (5, 6))
    text = head + "[yolo]\nmask=0,1\nanchors=1,2, 3\nclasses=2\nnum=2\n"
    with pytest.warns(UserWarning, match="read as 2 pairs"):
        model = CfgDetector(parse_cfg_text(text, "a.cfg"))
    assert model.io.heads[0].anchors == ((1, 2), (3, 0.5))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (TINY.replace("filters=8", "filters=999999999999", 1), r"line 10: filters=999999999999 .* 65536"),
        (TINY.replace("size=3", "size=99999999", 1), r"line 10: size=99999999 .* 1024 or less"),
        (TINY.replace("[upsample]\nstride=2", "[upsample]\nstride=65"), r"\[upsample\] .* 64 or less"),
        (TINY.replace("width=64", "width=9600000"), r"\[net\] in line 1: width=9600000 .* 16384"),
        (NET + conv(65536, size=1000) + head(2, "0"), r"line 9: .* need 196,608,000,000 weights"),
        (f"{NET}{conv(32000, 1) * 4}{output(14)}{head(2, '2,3')}", r"line 25: .* has 2,048,864,000 weights"),
        (NET + "[empty]\n" * 10001 + head(2, "0"), "too many layers"),
    ],
)
def test_numbers_too_large_for_any_network_are_refused_before_there_is_memory_for_them(text, fact):
    with pytest.raises(InputError, match=rf"a\.cfg.*{fact}"):
        CfgDetector(parse_cfg_text(text, "a.cfg"))


def test_a_map_too_large_is_refused():
    route = "[route]\nlayers=-1,-1,-1,-1,-1,-1,-1,-1\n"
    with pytest.raises(InputError, match=r"\[route\] in line 25: its output of 262144 channels"):
        CfgDetector(parse_cfg_text(f"{NET}{conv(8)}{route * 20}{head(2, '0')}", "a.cfg"))


def test_the_weights_are_the_first_that_a_seed_gives():
    """The check of their number draws none."""
    torch.manual_seed(4)
    model = CfgDetector(parse_cfg_text(TINY, "a.cfg"))
    torch.manual_seed(4)
    assert torch.equal(model.layers[0].conv.weight, torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False).weight)


@pytest.mark.parametrize("layer", ["[route]\nlayers=-1,2\n", "[shortcut]\nfrom=2\n", "[reorg]\nstride=2\n"])
def test_an_input_that_is_no_multiple_of_the_stride_is_named(layer):
    net = NET.replace("width=64", "width=100")
    text = f"{net}{BODY}[upsample]\n{layer}{output(14)}{head(2, '2,3')}"
    with pytest.raises(InputError, match=r"100x64 is not a multiple of .* stride 16: use for example 96x64"):
        CfgDetector(parse_cfg_text(text, "a.cfg"))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (NET + conv(8), r"a network that ends with \[convolutional\] in line 9"),
        (NET + conv(8) + "[softmax]\n", r"a classifier with \[softmax\] in line 17"),
        ("[net]\n[gru]\noutput=3\n[softmax]\n", r"\[gru\] in line 2: .* memory"),
    ],
)
def test_what_a_network_without_a_head_is(text, fact):
    with pytest.raises(InputError, match=rf"a\.cfg.*{fact}"):
        CfgDetector(parse_cfg_text(text, "a.cfg"))
