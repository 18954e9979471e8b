"""Any cfg: agreement with OpenCV's reader on other families, and what bad files say."""

import cv2
import numpy as np
import pytest

from tests.small import with_large_variances
from toolkit import create_model
from toolkit.models.darknet.cfg import parse_cfg, read_names
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.weights import Header, load_weights, save_weights
from toolkit.models.detector import calibrate
from toolkit.runtime import InputError


def section(kind, **options):
    lines = "".join(f"{key.rstrip('_')}={value}\n" for key, value in options.items())
    return f"[{kind}]\n{lines}\n"


def conv(filters, size=1, stride=1, activation="leaky", groups=1, norm=1):
    return section(
        "convolutional",
        **{"batch_normalize": norm} if norm else {},
        filters=filters,
        size=size,
        stride=stride,
        pad=1,
        **{"groups": groups} if groups > 1 else {},
        activation=activation,
    )


ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"


def yolo(mask, classes=3, **options):
    return section("yolo", mask=mask, anchors=ANCHORS, classes=classes, num=6, **options)


def pool(size, stride):
    return section("maxpool", size=size, stride=stride)


def yolov3_tiny():
    net = section("net", width=96, height=64, channels=3)
    net += conv(8, 3) + pool(2, 2) + conv(12, 3) + pool(2, 2) + conv(16, 3) + pool(2, 2)
    net += conv(24, 3) + pool(2, 2) + conv(32, 3) + pool(2, 2) + conv(40, 3) + pool(2, 1)  # 10, 11
    net += conv(48, 3) + conv(24) + conv(40, 3) + conv(24, activation="linear", norm=0) + yolo("3,4,5")
    net += section("route", layers=-4) + conv(12) + section("upsample", stride=2)
    net += section("route", layers="-1, 8") + conv(20, 3) + conv(24, activation="linear", norm=0)
    return net + yolo("1,2,3")


def yolov3_tiny_prn():
    net = section("net", width=96, height=64, channels=3)
    net += conv(8, 3) + pool(2, 2) + conv(12, 3) + pool(2, 2) + conv(16, 3) + pool(2, 2)
    net += conv(24, 3) + pool(2, 2) + conv(32, 3) + pool(2, 2)  # 8: stride 16, 9: stride 32
    net += conv(32, 3) + pool(2, 1) + conv(40, 3)  # 12
    net += section("shortcut", from_=-3, activation="leaky")  # 40 channels + 32 channels
    net += conv(24) + conv(32, 3) + section("shortcut", activation="leaky", from_=8 + 1)
    net += conv(24, activation="linear", norm=0) + yolo("3,4,5", scale_x_y=1.05)
    net += section("route", layers=14) + conv(32) + section("upsample", stride=2)
    net += section("shortcut", from_=8, activation="leaky") + conv(20, 3)
    return net + conv(24, activation="linear", norm=0) + yolo("0,1,2", scale_x_y=1.1)


def yolov4_tiny():
    net = section("net", width=96, height=64, channels=3)
    net += conv(8, 3, 2) + conv(16, 3, 2)
    channels = 16
    for _ in range(3):
        net += conv(channels, 3) + section("route", layers=-1, groups=2, group_id=1)
        net += conv(channels // 2, 3) + conv(channels // 2, 3) + section("route", layers="-1,-2")
        net += conv(channels) + section("route", layers="-6,-1") + pool(2, 2)
        channels *= 2
    net += conv(channels, 3) + conv(32) + conv(64, 3) + conv(24, activation="linear", norm=0)
    net += yolo("3,4,5", scale_x_y=1.05)
    net += section("route", layers=-4) + conv(16) + section("upsample", stride=2)
    net += section("route", layers="-1, 23") + conv(32, 3) + conv(24, activation="linear", norm=0)
    return net + yolo("1,2,3", scale_x_y=1.05)


def yolo_fastest():
    net = section("net", width=96, height=64, channels=3)
    net += conv(8, 3, 2) + conv(8) + conv(8, 3, groups=8) + conv(4, activation="linear")
    net += conv(8) + conv(8, 3, groups=8) + conv(4, activation="linear")
    net += section("dropout", probability=0.15) + section("shortcut", from_=-5, activation="linear")
    net += conv(24) + conv(24, 3, 2, groups=24) + conv(8, activation="linear")
    net += conv(32) + conv(32, 3, 2, groups=32) + conv(8, activation="linear")
    net += (
        conv(32)
        + conv(32, 3, groups=32)
        + conv(8, activation="linear")
        + section("dropout", probability=0.15)
    )
    net += section("shortcut", from_=-5, activation="linear") + conv(48) + conv(48, 3, 2, groups=48)  # 20, 21
    net += (
        conv(16, activation="linear") + conv(48) + conv(48, 3, 2, groups=48) + conv(24, activation="linear")
    )
    net += pool(3, 1) + section("route", layers=-2) + pool(5, 1) + section("route", layers=-4) + pool(9, 1)
    net += section("route", layers="-1,-3,-5,-6") + conv(32) + conv(32, 5, groups=32)
    net += conv(24, activation="linear", norm=0) + yolo("3,4,5")
    net += section("route", layers=32) + section("upsample", stride=2) + section("route", layers="-1,22")
    net += conv(24) + conv(24, 5, groups=24) + conv(24, activation="linear", norm=0)
    return net + yolo("0,1,2")


FAMILIES = {f.__name__: f for f in (yolov3_tiny, yolov3_tiny_prn, yolov4_tiny, yolo_fastest)}


@pytest.fixture
def built(tmp_path, pictures):
    def build(text):
        cfg, weights = tmp_path / "made.cfg", tmp_path / "made.weights"
        cfg.write_text(text)
        model = calibrate(load_darknet(cfg), list(pictures.values()))
        with_large_variances(model)
        save_weights(model, weights)
        return cfg, weights, load_darknet(cfg, weights)

    return build


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_agree_with_opencv(family, built, pictures):
    cfg, weights, model = built(FAMILIES[family]())
    w, h = model.io.input_size
    x = cv2.resize(pictures["astronaut"], (w, h)).astype(np.float32).transpose(2, 0, 1)[None] / 255
    ours = model.predict(x)
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(x)
    theirs = net.forward([f"conv_{head - 1}" for head in model.heads])
    assert [m.shape[1] for m in ours] == [24, 24]
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_new_coords_decode():
    head = section("yolo", mask="0", anchors="16,32", classes=1, num=1, new_coords=1, scale_x_y=2.0)
    text = (
        section("net", width=64, height=64) + conv(8, 3, 32) + conv(6, activation="logistic", norm=0) + head
    )
    from toolkit.models.decode import decode
    from toolkit.models.io import HeadIO, ModelIO

    io = ModelIO((64, 64), ("thing",), (HeadIO(32, ((16.0, 32.0),), 2.0, True),), 32)
    raw = np.zeros((1, 6, 2, 2), np.float32)
    raw[0, :, 1, 0] = [0.5, 0.25, 0.6, 0.5, 0.9, 0.8]
    (found,) = decode([raw], io, 0.5)
    # x = (0 + .5 * 2 - .5) / 2, y = (1 + .25 * 2 - .5) / 2, w = (2 * .6)^2 * 16 / 64, h = 1 * 32 / 64
    np.testing.assert_allclose(
        found.boxes_norm, [[0.25 - 0.18, 0.5 - 0.25, 0.25 + 0.18, 0.5 + 0.25]], atol=1e-6
    )
    np.testing.assert_allclose(found.scores, [0.72], atol=1e-6)
    assert "new_coords=1" in text


def test_comments_blanks_and_defaults(tmp_path):
    cfg = tmp_path / "loose.cfg"
    cfg.write_text(
        "# first\n[net]\nwidth = 32 # side\nheight=32\n; note\n"
        "[convolutional]\nfilters = 4\nsize=3\nstride=2\npad=1\nactivation=relu\n"
        "[shortcut]\nfrom=-1\n"
        "[convolutional]\nfilters=7\nsize=1\nstride=16\nactivation=linear\n"
        "[yolo]\nanchors = 3,4\nclasses=2\n"
    )
    model = load_darknet(cfg)
    assert model.io.input_size == (32, 32)
    assert model.io.heads[0].anchors == ((3.0, 4.0),)
    assert parse_cfg(cfg)[0].options == {"width": "32", "height": "32"}
    (raw,) = model.predict(np.ones((1, 3, 32, 32), np.float32))
    assert raw.shape == (1, 7, 1, 1)


GOOD = (
    section("net", width=64, height=64)
    + conv(8, 3, 32)
    + conv(24, activation="linear", norm=0)
    + yolo("0,1,2")
)
BAD_CFGS = {
    "not a cfg": ("hello\n", "expected .section. or key=value, found 'hello'"),
    "empty": ("", "does not begin with"),
    "no net": (conv(8), "does not begin with"),
    "no yolo": (
        section("net", width=64, height=64) + conv(8),
        "no .yolo. or .Gaussian_yolo. or .region. section: expected a YOLO detector",
    ),
    "unknown layer": (
        GOOD.replace("[yolo]", "[shift]\n[yolo]"),
        "shift.* unknown layer.* convolutional, maxpool, .* yolo",
    ),
    "recurrent": (GOOD.replace("[yolo]", "[crnn]\noutput=8\n[yolo]"), "crnn.* in line 20: .*memory"),
    "classifier": (
        section("net", width=64, height=64) + conv(8) + section("avgpool") + section("softmax"),
        "expected a YOLO detector, found a classifier with .softmax. in line 15",
    ),
    "yolov1": (
        section("net", width=64, height=64)
        + conv(8)
        + section("connected", output=99)
        + section("detection"),
        "detection.* in line 16: the fully connected detectors of YOLOv1",
    ),
    "xnor": (GOOD.replace("size=3", "xnor=1\nsize=3"), "in line 5: xnor=1 is not supported"),
    "head of a head": (GOOD + conv(8), "its input is the .yolo. in line 20"),
    "many channels": (GOOD.replace("[net]\n", "[net]\nchannels=4\n"), "channels=4 .* expected 3 .* or 1"),
    "negative size": (GOOD.replace("size=3", "size=-3"), "in line 5: size=-3 is too small: expected 1"),
    "no stride": (GOOD.replace("stride=32", "stride=0"), "stride=0 is too small: expected 1"),
    "no filters": (GOOD.replace("filters=8", "filters=0"), "filters=0 is too small"),
    "infinite": (GOOD.replace("mask=", "scale_x_y=inf\nmask="), "scale_x_y=inf is not a number"),
    "underscore": (GOOD.replace("filters=8", "filters=1_0"), "filters=1_0 is not a whole number"),
    "negative side": (GOOD.replace("width=64", "width=-64"), "width=-64 is too small"),
    "negative anchor": (GOOD.replace("10,14", "10,-14"), "anchors= has -14, expected widths and heights"),
    "no anchors": (GOOD.replace(f"anchors={ANCHORS}\n", ""), "anchors= is missing"),
    "too few anchors": (GOOD.replace("num=6", "num=9"), "num=9, but anchors= has 12 numbers, expected 18"),
    "no classes": (GOOD.replace("classes=3", "classes=0"), "classes=0 is too small"),
    "oblong cells": (
        GOOD.replace("stride=32", "stride_x=32\nstride_y=16"),
        "map has 2x4 cells for an input of 64x64 px: cells that are not square",
    ),
    "unknown activation": (GOOD.replace("leaky", "wavy"), "unknown activation 'wavy'"),
    "cyclic route": (GOOD.replace("[yolo]", "[route]\nlayers=2\n[yolo]"), "layers=2 means layer 2"),
    "route too far": (
        GOOD.replace("[yolo]", "[route]\nlayers=-9\n[yolo]"),
        "expected one of the layers 0 to 1",
    ),
    "route to text": (GOOD.replace("[yolo]", "[route]\nlayers=a\n[yolo]"), "not a list of numbers"),
    "route of sizes": (
        section("net", width=64, height=64)
        + conv(8, 3, 2)
        + conv(8, 3, 2)
        + section("route", layers="0,1")
        + yolo("0,1,2"),
        "differ in size: 32x32, 16x16",
    ),
    "mask too far": (GOOD.replace("mask=0,1,2", "mask=4,5,6"), "points beyond the 6 anchors"),
    "filters": (GOOD.replace("filters=24", "filters=25"), "need 24 channels.* 25"),
    "groups": (
        section("net", width=64, height=64) + conv(8, 3, 2) + conv(9, 3, groups=3) + yolo("0,1,2"),
        "groups=3 .* do not fit 8 input channels",
    ),
    "no number": (GOOD.replace("filters=8", "filters=many"), "filters=many is not a whole number"),
    "missing width": (GOOD.replace("width=64", ""), "width= is missing"),
    "stride": (GOOD.replace("width=64", "width=70"), "not a multiple of this network's stride"),
    "shortcut size": (
        section("net", width=64, height=64)
        + conv(8, 3, 2)
        + conv(8, 3, 2)
        + section("shortcut", from_=-2)
        + yolo("0,1,2"),
        "layer 0 gives 32x32, expected 16x16",
    ),
    "dilation": (
        GOOD.replace("size=3", "size=2\ndilation=2"),
        "dilation=2 with size=2 and a padding of 1 is not supported",
    ),
    "weighted shortcut": (
        section("net", width=64, height=64)
        + conv(8)
        + conv(8)
        + section("shortcut", from_=-2, weights_type="x")
        + GOOD[GOOD.index("[yolo]") :],
        "weights_type=x is unknown",
    ),
}


@pytest.mark.parametrize("fault", BAD_CFGS)
def test_bad_cfg(fault, tmp_path):
    text, message = BAD_CFGS[fault]
    cfg = tmp_path / "bad.cfg"
    cfg.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_darknet(cfg)
    assert "\n" not in str(caught.value)
    assert "bad.cfg" in str(caught.value) or "input size" in str(caught.value)


def test_missing_cfg_and_names(tmp_path):
    with pytest.raises(InputError, match="none.cfg is missing"):
        load_darknet(tmp_path / "none.cfg")
    with pytest.raises(InputError, match="none.names is missing"):
        read_names(tmp_path / "none.names")
    names, cfg = tmp_path / "a.names", tmp_path / "a.cfg"
    names.write_text("cat\ndog\n\n")
    cfg.write_text(GOOD)
    with pytest.raises(InputError, match="classes=3.* 2 class names"):
        load_darknet(cfg, names=names)
    names.write_text("cat\ndog\ncow\n")
    assert load_darknet(cfg, names=names).io.classes == ("cat", "dog", "cow")


@pytest.mark.parametrize("header", [Header(0, 1, 0, 77), Header(0, 2, 5, 2**40), Header(1, 0, 0, 3)])
def test_old_and_new_headers_survive(header, tmp_path):
    model, path = create_model("yoloface-50k"), tmp_path / "a.weights"
    save_weights(model, path, header)
    again = create_model("yoloface-50k")
    assert load_weights(again, path) == header
    save_weights(again, tmp_path / "b.weights")
    assert (tmp_path / "b.weights").read_bytes() == path.read_bytes()
    assert path.stat().st_size == 4 * 11248 + (20 if header.long else 16)
