"""spec.json and parity.json that a stranger wrote: refused by their field, and no file outside the folder."""

import copy
import json
import os
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from toolkit import create_model
from toolkit.export.folder import Exported, FileFacts, open_export
from toolkit.export.onnx import check_shape
from toolkit.export.parity import Parity, Row, map_parity, probe_input
from toolkit.models.darknet.write import save_darknet
from toolkit.models.decode import decode
from toolkit.models.io import read_io
from toolkit.models.zoo import SPECS, ZOO
from toolkit.runtime import InputError

INFINITE = float("inf")


@pytest.fixture(scope="module")
def model():
    return create_model("yoloface-50k")


@pytest.fixture
def folder(model, tmp_path):
    """An exported folder with a darknet format, which is written in a moment."""
    path = tmp_path / "net"
    path.mkdir()
    files = {"darknet": {file.name: FileFacts.of(file) for file in save_darknet(model, path)}}
    Exported(path, "net", model.io, files, 0.25, {"torch": "2"}, {"cpu": "x", "cores": 2}).save()
    return path


def rewrite(folder, path, value):
    """spec.json with another value at a path such as "io.stride"."""
    data = json.loads((folder / "spec.json").read_text())
    *parts, last = path.split(".")
    reduce(lambda place, part: place[int(part) if part.isdigit() else part], parts, data)[last] = value
    (folder / "spec.json").write_text(json.dumps(data))


def test_what_is_written_is_read(folder, model):
    exported = Exported.read(folder)
    before = (folder / "spec.json").read_bytes()
    exported.save()
    assert (folder / "spec.json").read_bytes() == before
    assert exported.io == model.io
    assert exported.parity() == {}
    assert exported.open("darknet").io.heads == model.io.heads
    assert read_io(ZOO["landmark106"].io.as_dict()) == ZOO["landmark106"].io


SPEC = [
    ("name", None),
    ("name", "a" * 2000),
    ("name", "a\x1b[31m"),
    ("threshold", 1.5),
    ("threshold", -0.1),
    ("threshold", "high"),
    ("versions", []),
    ("formats", []),
    ("formats", {}),
    ("formats.darknet", None),
    ("formats.darknet.file", "other.cfg"),
    ("formats.darknet.files", ["model.cfg"]),
    ("io", 3),
    ("io.input_size", [0, 56]),
    ("io.input_size", [56]),
    ("io.input_size", [56, 10**9]),
    ("io.input_size", [16_384, 16_384]),
    ("io.input_size", [56, 57]),
    ("io.input_size", "5656"),
    ("io.classes", []),
    ("io.classes", "face"),
    ("io.classes", ["a"] * 100_000),
    ("io.classes", [["face"]]),
    ("io.classes", ["a" * 2000]),
    ("io.stride", 0),
    ("io.stride", -8),
    ("io.stride", 10**30),
    ("io.scale", "small"),
    ("io.scale", 1e300),
    ("io.channel_order", "CMYK"),
    ("io.fit", ["stretch"]),
    ("io.heads", []),
    ("io.heads", {}),
    ("io.heads", None),
    ("io.heads.0.stride", 0),
    ("io.heads.0.anchors", []),
    ("io.heads.0.anchors", [[1, 2, 3]]),
    ("io.heads.0.anchors", [[1, -1]]),
    ("io.heads.0.anchors", [[1, 1]] * 5000),
    ("io.heads.0.scale_x_y", "nan"),
    ("io.heads.0.softmax", 7),
]


@pytest.mark.parametrize(("path", "value"), SPEC)
def test_a_spec_is_refused_by_its_field(path, value, folder):
    rewrite(folder, path, value)
    with pytest.raises(InputError, match=path.split(".")[-1].replace("_", ".")) as caught:
        Exported.read(folder)
    assert "spec.json" in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(folder))
    assert str(caught.value).isprintable()


def test_a_network_of_landmarks_is_refused_by_its_field():
    data = ZOO["landmark106"].io.as_dict()
    faults = {"points": 0, "crop": [1, 2], "mean": None, "scale": INFINITE, "input_size": [10**9, 1]}
    for key, value in faults.items():
        with pytest.raises(InputError, match=key):
            read_io({**data, key: value})
    with pytest.raises(InputError, match="points"):
        read_io({**data, "points": 10**9})


def test_heads_that_together_are_too_large():
    data = SPECS["fastest-v2"].io.as_dict()
    head = {**data["heads"][0], "stride": 1, "anchors": [[1, 1]] * 100}
    with pytest.raises(InputError, match="heads"):
        read_io({**data, "heads": [head]})


OUTSIDE = [
    "../a.cfg",
    "/etc/passwd",
    "..",
    ".",
    "a\\b.cfg",
    "C:a.cfg",
    "a/b.cfg",
    "",
    "a\0",
    "a\n",
    "x" * 300,
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_outside_the_folder_has_no_name(name, folder):
    rewrite(folder, "formats.darknet.files", {name: {"bytes": 1, "sha256": "0" * 64}})
    rewrite(folder, "formats.darknet.file", name)
    with pytest.raises(InputError, match=r"formats\.darknet"):
        Exported.read(folder)


FACTS = [{"bytes": -1}, {"bytes": 10**30}, {"bytes": "many"}, {"sha256": "0" * 63}, {"sha256": "g" * 64}, 3]


@pytest.mark.parametrize("facts", FACTS)
def test_facts_of_files_are_bounded(facts, folder):
    rewrite(folder, "formats.darknet.files", {"model.cfg": facts})
    with pytest.raises(InputError, match=r"formats\.darknet\.files\.model\.cfg"):
        Exported.read(folder)


@pytest.mark.parametrize("name", ["model.weights", "model.names", "timing.json", "parity.json"])
def test_links_stay_in_the_folder(name, folder, tmp_path):
    (tmp_path / "secret").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=f"{name} is a link"):
        Exported.read(folder)


def test_a_link_to_itself_is_said(folder):
    (folder / "model.weights").unlink()
    (folder / "model.weights").symlink_to("model.weights")
    with pytest.raises(InputError, match=r"model\.weights"):
        open_export(folder)


def test_a_link_inside_the_folder_is_a_file(folder):
    (folder / "model.weights").rename(folder / "other")
    (folder / "model.weights").symlink_to("other")
    assert open_export(folder).io


def test_a_file_that_is_opened_is_among_the_files(folder):
    data = json.loads((folder / "spec.json").read_text())
    facts = data["formats"]["darknet"]["files"].pop("model.cfg")
    (folder / "model.cfg").rename(folder / "other.cfg")
    data["formats"]["darknet"] |= {"file": "other.cfg", "files": {"other.cfg": facts}}
    (folder / "spec.json").write_text(json.dumps(data))
    (folder / "model.cfg").write_text("[net]\n")
    with pytest.raises(InputError, match=r"no model\.cfg"):
        open_export(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"a": NaN}', "[" * 100_000, "\udcff", "[1e999]", "9" * 5000]
)
@pytest.mark.parametrize("name", ["spec.json", "parity.json"])
def test_a_damaged_file_is_said(text, name, folder):
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=f"{name}.*export the network again") as caught:
        Exported.read(folder).parity()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["spec.json", "parity.json"])
def test_what_is_no_file_is_not_read(name, folder):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name} is a pipe"):
        Exported.read(folder).parity()
    (folder / name).unlink()
    with (folder / name).open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(InputError, match=f"{name} has .* bytes"):
        Exported.read(folder).parity()


PARITY = {"onnx": {"max_difference": 1e-6, "opset": 17}, "ncnn-int8": {"float_layers": ["a"], "method": 1}}


def test_parity_is_read_as_it_was_written(folder):
    rows = [{"name": "conv", "error": 0.1, "kept": True}]
    facts = {**PARITY, "ncnn-int8": {**PARITY["ncnn-int8"], "sensitivity": rows}, "mnn": {"fault": "fails"}}
    (folder / "parity.json").write_text(json.dumps(facts))
    assert Exported.read(folder).parity() == facts
    with pytest.raises(InputError, match="has no mnn: .*because it fails"):
        Exported.read(folder).facts("mnn")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_difference", "small"),
        ("max_difference", -1),
        ("matched", 1.5),
        ("detections", -1),
        ("fault", ["fails"]),
        ("fidelity", 3),
        ("sensitivity", [3]),
        ("sensitivity", [{"name": "a"}]),
        ("float_layers", "conv"),
    ],
)
def test_parity_is_refused_by_its_field(key, value, folder):
    facts = copy.deepcopy(PARITY)
    facts["onnx"][key] = value
    (folder / "parity.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=key):
        Exported.read(folder).parity()


def test_a_file_of_another_network_is_said(model):
    io = SPECS["fastest-v2"].io
    with pytest.raises(InputError, match=r"need \[75, 75\] channels"):
        decode(model.predict(probe_input(model.io)), io, 0.5)
    with pytest.raises(InputError, match="channels"):
        decode([], io, 0.5)
    with pytest.raises(InputError, match="212 numbers"):
        ZOO["landmark106"].io.points_of([np.zeros((1, 53), np.float32)])
    with pytest.raises(InputError, match="takes inputs of the shape"):
        check_shape(Path("model.onnx"), (3, 56, 56), np.zeros((1, 1, 56, 56), np.float32))


def test_differences_that_are_not_finite_can_be_written(model):
    nan = float("nan")
    parity = Parity("a", "b", (Row("one", nan, 1.0),), (Row("out", INFINITE, 1.0),)).as_dict()
    assert (parity["relative"], parity["layers"][0]["difference"]) == (None, None)
    json.dumps(parity, allow_nan=False)
    x = probe_input(model.io)
    comparison = map_parity(model, model, x * nan, 1e-5)
    assert comparison.fault
    json.dumps(comparison.facts, allow_nan=False)
