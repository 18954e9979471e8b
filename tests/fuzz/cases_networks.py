"""Weights, cfgs, checkpoints and exported folders."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests import cfgs
from tests.fuzz.places import NAMES, Build, Place, case, noise, swapped
from tests.fuzz.readers import field, varint


class Marked:
    """What a pickle runs where it is opened as one: a file appears that says so."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ('touch "$MARKER"',)


# ---- weights ----

WITH_WEIGHTS = "detect a.jpg --model {base}/net.cfg --weights x.weights"


def _floats(value: float) -> Build:
    return lambda place: place.put(
        "x.weights",
        struct.pack("<iiiQ", 0, 2, 5, 0)
        + np.full((place.base / "net.weights").stat().st_size // 4 - 5, value, "<f4").tobytes(),
    )


WEIGHTS: dict[str, Build] = {
    "empty": lambda p: p.put("x.weights", b""),
    "three bytes": lambda p: p.put("x.weights", b"abc"),
    "19 bytes": lambda p: p.put("x.weights", bytes(19)),
    "a header alone": lambda p: p.put("x.weights", bytes(20)),
    "cut": lambda p: p.put("x.weights", (p.base / "net.weights").read_bytes()[:-1001]),
    "twice": lambda p: p.put("x.weights", (p.base / "net.weights").read_bytes() * 2),
    "NaN": _floats(float("nan")),
    "infinite": _floats(float("inf")),
    "1e38": _floats(1e38),
    "a pickle": lambda p: p.put("x.weights", pickle.dumps(Marked())),
    "a checkpoint": lambda p: p.put("x.weights", (p.base / "best.pt").read_bytes()),
    "HTML": lambda p: p.put("x.weights", b"<!DOCTYPE html>" * 9000),
    "a program": lambda p: p.put("x.weights", b"\x7fELF" * 9000),
    "50 GB": lambda p: p.sparse("x.weights"),
    "50 GB after a good file": lambda p: p.sparse("x.weights", start=(p.base / "net.weights").read_bytes()),
    "a FIFO": lambda p: p.fifo("x.weights"),
    "a folder": lambda p: (p.folder / "x.weights").mkdir(),
    "/dev/zero": lambda p: p.link("x.weights", "/dev/zero"),
    "a major version of 2^31-1": lambda p: p.put("x.weights", b"\xff\xff\xff\x7f" * 5000),
}
for _name, _build in WEIGHTS.items():
    case("weights", _name, WITH_WEIGHTS, _build)
for _name in ("50 GB", "a FIFO", "NaN", "cut", "empty"):
    case(
        "weights",
        f"{_name}, to start from",
        "train --data {base}/set --model {base}/net.cfg --weights x.weights --epochs 1 --output out",
        WEIGHTS[_name],
    )
CAFFE: dict[str, Build] = {
    "empty": lambda p: p.put("x.caffemodel", b""),
    "a blob of 2^60 numbers": lambda p: p.put(
        "x.caffemodel",
        field(100, field(1, b"a") + field(2, b"b") + field(7, field(7, field(1, varint(2**60))))),
    ),
    "a number without end": lambda p: p.put("x.caffemodel", b"\xff" * 2_000_000),
    "50 GB": lambda p: p.sparse("x.caffemodel"),
    "a FIFO": lambda p: p.fifo("x.caffemodel"),
}
for _name, _build in CAFFE.items():
    case(
        "weights",
        f"of Caffe, {_name}",
        "landmarks a.jpg --detector {base}/net.cfg --points landmark106 --weights x.caffemodel",
        _build,
    )


# ---- cfgs ----

ON_CFG = "data anchors {base}/set --model x.cfg"


def _cfg(text: str | bytes) -> Build:
    return lambda place: place.put("x.cfg", text)


def _first(old: str, new: str) -> str:
    return swapped(cfgs.TINY, old, new, 1)


def _every(old: str, new: str) -> str:
    return swapped(cfgs.TINY, old, new)


BIG = "1000000000"
CFGS = {
    "10^9 filters": _first("filters=8", f"filters={BIG}"),
    "100,000 filters in each of four layers": swapped(
        _first("filters=8", "filters=100000"), "filters=16", "filters=100000"
    ),
    "a kernel of 10^9": _first("size=3", f"size={BIG}"),
    "a kernel of 20,001": _first("size=3", "size=20001"),
    "a stride of 10^9": _first("stride=2", f"stride={BIG}"),
    "a stride of 0": _first("stride=2", "stride=0"),
    "a padding of 10^9": _first("pad=1", f"padding={BIG}"),
    "a dilation of 10^9": _first("pad=1", f"pad=1\ndilation={BIG}"),
    "10^9 groups": _first("pad=1", f"pad=1\ngroups={BIG}"),
    "0 groups": _first("pad=1", "pad=1\ngroups=0"),
    "an input of 10^9 px": _first("width=64", f"width={BIG}"),
    "an input of 100,000 x 100,000": swapped(_first("width=64", "width=99968"), "height=64", "height=99968"),
    "a height of 0": _first("height=64", "height=0"),
    "10^9 channels": _first("channels=3", f"channels={BIG}"),
    "10^9 classes": _every("classes=2", f"classes={BIG}"),
    "10^7 classes and their filters": cfgs.tiny(10**7),
    "10^9 anchors": _every("num=4", f"num={BIG}"),
    "anchors that are NaN": _every(cfgs.ANCHORS, "nan,nan, inf,inf, 1e400,1, -1,0"),
    "a mask of 10^9": _every("mask=2,3", f"mask={BIG},-1"),
    "a mask of 10^6 numbers": _every("mask=2,3", "mask=" + "2," * 10**6),
    "a route of 10^6 layers": _every("layers=-3", "layers=" + "-3," * 10**6),
    "a route to 10^9": _every("layers=-3", f"layers=-{BIG}"),
    "a route to itself": _every("layers=-3", "layers=0,6"),
    "an upsampling of 10^9": _every("[upsample]\nstride=2", f"[upsample]\nstride={BIG}"),
    "an upsampling of 1,000": _every("[upsample]\nstride=2", "[upsample]\nstride=1000"),
    "ten upsamplings of 16": cfgs.NET + cfgs.conv(8) + "[upsample]\nstride=16\n" * 10,
    "a maxpool of 10^9": cfgs.NET + f"[maxpool]\nsize={BIG}\nstride=1\n" + cfgs.tiny(start=""),
    "a reorg of 0": cfgs.NET + "[reorg]\nstride=0\n" + cfgs.tiny(start=""),
    "30,000 layers": cfgs.NET + cfgs.conv(1, 1) * 30_000,
    "100,000 layers without options": cfgs.NET + "[dropout]\n" * 100_000,
    "a line of 30 MB": cfgs.NET + "#" + "x" * 30_000_000,
    "a key of 5 MB": cfgs.NET + "x" * 5_000_000 + "=1\n",
    "a number of 10,000 digits": _first("filters=8", "filters=" + "9" * 10_000),
    "NaN as the learning rate": _first("learning_rate=0.00261", "learning_rate=nan"),
    "an unknown section with escape sequences": cfgs.NET + "[\x1b[2J\x1b]0;x\x07]\n",
    "no section": "x" * 100,
    "no [net]": _every("[net]", "[network]"),
    "a head alone": cfgs.NET + cfgs.head(2, "0,1"),
    "no head": cfgs.NET + cfgs.conv(8),
    "nothing": "",
    "zeros": "\0" * 5000,
    "a batch of 0": _first("batch=64", "batch=0\nsubdivisions=0"),
    "10^9 subdivisions": _first("batch=64", f"batch={BIG}\nsubdivisions={BIG}"),
}
for _name, _text in CFGS.items():
    case("cfg", _name, ON_CFG, _cfg(_text))
for _name in (
    "10^9 filters",
    "an input of 100,000 x 100,000",
    "ten upsamplings of 16",
    "10^7 classes and their filters",
    "30,000 layers",
):
    case(
        "cfg",
        f"{_name}, to train",
        "train --data {base}/set --model x.cfg --epochs 1 --output out",
        _cfg(CFGS[_name]),
    )
    case(
        "cfg",
        f"{_name}, to export",
        "export --model x.cfg --weights {base}/net.weights --output out",
        _cfg(CFGS[_name]),
    )
CFG_FILES: dict[str, Build] = {
    "a FIFO": lambda p: p.fifo("x.cfg"),
    "50 GB": lambda p: p.sparse("x.cfg", start=cfgs.TINY.encode()),
    "a folder": lambda p: (p.folder / "x.cfg").mkdir(),
    "UTF-16": lambda p: p.put("x.cfg", cfgs.TINY.encode("utf-16")),
    "names outside its folder": lambda p: (
        p.put("x.cfg", cfgs.TINY),
        p.put("x.data", "names = ../outside/secret.txt\n"),
    ),
    "names by an absolute path": lambda p: (
        p.put("x.cfg", cfgs.TINY),
        p.put("x.data", f"names = {p.outside}/secret.txt\n"),
    ),
    "names that are a link to outside": lambda p: (
        p.put("x.cfg", cfgs.TINY),
        p.link("x.names", p.outside / "secret.txt"),
    ),
    "names that are a FIFO": lambda p: (p.put("x.cfg", cfgs.TINY), p.fifo("x.names")),
    "names of 50 GB": lambda p: (p.put("x.cfg", cfgs.TINY), p.sparse("x.names")),
    "10^6 names": lambda p: (p.put("x.cfg", cfgs.TINY), p.put("x.names", "a\n" * 10**6)),
}
for _name, _build in CFG_FILES.items():
    case("cfg", f"a cfg with {_name}" if "name" in _name else f"a cfg that is {_name}", ON_CFG, _build)
for _name in ("names outside its folder", "names that are a link to outside"):
    case(
        "cfg",
        f"{_name}, detections",
        "detect a.jpg --model x.cfg --weights {base}/net.weights --conf 0.01 --json",
        CFG_FILES[_name],
    )


# ---- checkpoints ----

ON_CHECKPOINT = "detect a.jpg --model x.pt"


def _state(change: Callable[[dict[str, Any]], Any]) -> Build:
    """The good checkpoint with a change."""

    def build(place: Place) -> None:
        import torch

        state = torch.load(place.base / "best.pt", weights_only=True)
        result = change(state)
        stream = io.BytesIO()
        torch.save(state if result is None else result, stream)
        place.put("x.pt", stream.getvalue())

    return build


def _with_entry(name: str, data: bytes, times: int = 1) -> Build:
    """The good checkpoint with one file in its zip replaced."""

    def build(place: Place) -> None:
        stream = io.BytesIO()
        with (
            zipfile.ZipFile(place.base / "best.pt") as old,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for entry in old.infolist():
                if entry.filename.endswith(name):
                    with new.open(entry.filename, "w", force_zip64=True) as out:
                        for _ in range(times):
                            out.write(data)
                else:
                    new.writestr(entry.filename, old.read(entry))
        place.put("x.pt", stream.getvalue())

    return build


def _vast(state: dict[str, Any]) -> None:
    import torch

    for key in list(state["model"])[:1]:
        state["model"][key] = torch.zeros(1).expand(1 << 40)


def _tensors(value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(state: dict[str, Any]) -> None:
        state["model"] = dict.fromkeys(state["model"], value)

    return change


def _each(call: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    def change(state: dict[str, Any]) -> None:
        state["model"] = {key: call(tensor) for key, tensor in state["model"].items()}

    return change


CHECKPOINTS: dict[str, Build] = {
    "a pickle that runs a program": lambda p: p.put("x.pt", pickle.dumps(Marked())),
    "a program in the weights": _state(lambda s: {**s, "model": Marked()}),
    "a program in the zip": _with_entry("data.pkl", pickle.dumps({"model": Marked(), "step": 1})),
    "a program of the protocol 0": lambda p: p.put("x.pt", b"cos\nsystem\n(S'touch \"$MARKER\"'\ntR."),
    "empty": lambda p: p.put("x.pt", b""),
    "cut": lambda p: p.put("x.pt", (p.base / "best.pt").read_bytes()[:-500]),
    "a FIFO": lambda p: p.fifo("x.pt"),
    "a folder": lambda p: (p.folder / "x.pt").mkdir(),
    "50 GB": lambda p: p.sparse("x.pt", start=b"PK\x03\x04"),
    "a picture": lambda p: p.put("x.pt", (p.base / "a.jpg").read_bytes()),
    "a zip bomb of 3 GB": _with_entry("data/0", bytes(1 << 20), 3000),
    "a pickle of 1 GB in a small zip": _with_entry("data.pkl", b"(" * (1 << 20), 1000),
    "a tensor of 2^40 numbers": _state(_vast),
    "tensors that are words": _state(_tensors("x")),
    "tensors that are numbers": _state(_tensors(1.0)),
    "NaN weights": _state(_each(lambda t: t * float("nan"))),
    "flat tensors": _state(_each(lambda t: t.reshape(-1))),
    "complex tensors": _state(_each(lambda t: t.cfloat())),
    "sparse tensors": _state(_each(lambda t: t.to_sparse() if t.ndim else t)),
    "keys that are numbers": _state(lambda s: s.update(model=dict(enumerate(s["model"].values())))),
    "no weights": _state(lambda s: s.update(model={})),
    "no changes": _state(lambda s: s.pop("changes") and None),
    "a list": _state(lambda s: [1, 2, 3]),
    "a tensor": _state(lambda s: s["model"][next(iter(s["model"]))]),
    "a cfg with 10^9 filters": _state(lambda s: s.update(cfg=CFGS["10^9 filters"])),
    "a cfg of 100,000 x 100,000 px": _state(lambda s: s.update(cfg=CFGS["an input of 100,000 x 100,000"])),
    "a cfg that is a number": _state(lambda s: s.update(cfg=7)),
    "10^9 classes": _state(lambda s: s.update(changes={"classes": 10**9})),
    "10^6 class names": _state(lambda s: s.update(changes={"classes": [f"c{i}" for i in range(10**6)]})),
    "changes that are a word": _state(lambda s: s.update(changes="x")),
    "a width of 10^6": _state(lambda s: s.update(model_name="fastest-v2", cfg="", changes={"width": 10**6})),
    "a width that is NaN": _state(
        lambda s: s.update(model_name="fastest-v2", cfg="", changes={"width": float("nan")})
    ),
    "an input of 10^9 px": _state(
        lambda s: s.update(changes={"classes": list(NAMES), "input_size": [10**9, 10**9]})
    ),
    "a network called ../../x": _state(lambda s: s.update(model_name="../../x", cfg="")),
    "class names with escape sequences": _state(
        lambda s: s.update(changes={"classes": ["\x1b[2J$x$", "\ud800"]})
    ),
}
for _name, _build in CHECKPOINTS.items():
    case("checkpoints", _name, ON_CHECKPOINT, _build)
for _name in (
    "a pickle that runs a program",
    "a program in the weights",
    "a tensor of 2^40 numbers",
    "tensors that are words",
    "a zip bomb of 3 GB",
):
    case(
        "checkpoints",
        f"{_name}, to start from",
        "train --data {base}/set --model {base}/net.cfg --weights x.pt --epochs 1 --output out",
        CHECKPOINTS[_name],
    )
    case(
        "checkpoints",
        f"{_name}, as a teacher",
        "train --data {base}/set --model {base}/net.cfg --teacher x.pt --epochs 1 --output out",
        CHECKPOINTS[_name],
    )


def _run_with(name: str) -> Build:
    """The folder of a run, whose last.pt is bad."""

    def build(place: Place) -> None:
        CHECKPOINTS[name](place)
        (place.folder / "run").mkdir()
        (place.folder / "x.pt").rename(place.folder / "run/last.pt")
        place.put(
            "run/config.yaml",
            f"data: {place.base}/set\nmodel: net.cfg\ncfg: |\n"
            + "".join(f"  {line}\n" for line in cfgs.TINY.splitlines()),
        )

    return build


for _name in ("a pickle that runs a program", "tensors that are words", "empty", "a list", "a FIFO"):
    case("checkpoints", f"{_name}, to resume", "train --output run --resume", _run_with(_name))


# ---- exported folders ----

ON_EXPORT = "detect a.jpg --model net"
HERE = "../outside/secret.txt"


def _spec(change: Callable[[Any], Any]) -> Build:
    def build(place: Place) -> None:
        place.copy("net")
        place.changed("net/spec.json", change)

    return build


def _file(name: str, data: bytes) -> Build:
    """A file of a format replaced, with the right sha256."""

    def build(place: Place) -> None:
        place.copy("net")
        place.put(f"net/{name}", data)
        facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        place.changed("net/spec.json", lambda s: _facts(s, name, facts))

    return build


def _facts(spec: Any, name: str, facts: dict[str, Any]) -> None:
    for entry in spec["formats"].values():
        if name in entry["files"]:
            entry["files"][name] = facts


def _rename(spec: Any, name: str) -> None:
    entry = spec["formats"]["ncnn"]
    entry["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    entry["file"] = name


def _param(old: str, new: str) -> Build:
    return lambda place: _file(
        "model-fp32.param", swapped((place.base / "net/model-fp32.param").read_text(), old, new, 1).encode()
    )(place)


def _instead(name: str, make: Callable[[Place, str], Any]) -> Build:
    """The exported folder with something else in place of a file."""

    def build(place: Place) -> None:
        place.copy("net")
        (place.folder / name).unlink()
        make(place, name)

    return build


def _io(**more: Any) -> Build:
    return _spec(lambda spec: spec["io"].update(more))


def _heads(**more: Any) -> Build:
    return _spec(lambda spec: [head.update(more) for head in spec["io"]["heads"]] and None)


SPECS: dict[str, Build] = {
    "nothing": _instead("net/spec.json", lambda p, name: p.put(name, b"")),
    "100,000 brackets": _instead("net/spec.json", lambda p, name: p.put(name, b"[" * 100_000)),
    "50 GB": _instead("net/spec.json", lambda p, name: p.sparse(name, start=b"{")),
    "a FIFO": _instead("net/spec.json", Place.fifo),
    "a link to outside": _instead("net/spec.json", lambda p, name: p.link(name, p.outside / "secret.json")),
    "a list": _spec(lambda s: [s]),
    "a name with a path": _spec(lambda s: s.update(name="../../x")),
    "a threshold that is NaN": _spec(lambda s: s.update(threshold=float("nan"))),
    "a threshold that is a word": _spec(lambda s: s.update(threshold="x")),
    "a file outside": _spec(lambda s: _rename(s, HERE)),
    "a file by an absolute path": _spec(lambda s: _rename(s, "/etc/passwd")),
    "a file called ''": _spec(lambda s: _rename(s, "")),
    "an input of 10^9 px": _io(input_size=[10**9, 10**9]),
    "an input of 100,000 px": _io(input_size=[99_968, 99_968]),
    "an input of -64 px": _io(input_size=[-64, -64]),
    "an input that is a word": _io(input_size="64x64"),
    "10^6 classes": _io(classes=[str(i) for i in range(10**6)]),
    "no classes": _io(classes=[]),
    "classes that are numbers": _io(classes=[1, 2]),
    "a stride of 0": _heads(stride=0),
    "a stride of 10^9": _heads(stride=10**9),
    "anchors that are NaN": _heads(anchors=[[float("nan"), 1]] * 2),
    "no anchors": _heads(anchors=[]),
    "10^6 heads": _spec(lambda s: s["io"].update(heads=s["io"]["heads"] * 500_000)),
    "no heads": _io(heads=[]),
    "a scale that is infinite": _io(scale=float("inf")),
    "a mean that is a list": _io(mean=[[1]]),
    "10^9 points": _spec(lambda s: s.update(io={"input_size": [96, 96], "points": 10**9})),
    "an unknown key": _spec(lambda s: s["io"].update({"x" * 70_000: 1})),
    "formats that are a list": _spec(lambda s: s.update(formats=["ncnn"])),
    "versions that are a number": _spec(lambda s: s.update(versions=3)),
    "another sha256": _spec(lambda s: _facts(s, "model-fp32.param", {"bytes": 3, "sha256": "0" * 64})),
}
for _name, _build in SPECS.items():
    case("spec.json", _name, ON_EXPORT, _build)
for _name in (
    "a file outside",
    "a file by an absolute path",
    "a link to outside",
    "a name with a path",
    "a threshold that is NaN",
    "10^6 classes",
    "a stride of 0",
):
    case("spec.json", f"{_name}, packaged", "package --android --model net --output app", SPECS[_name])
FILES: dict[str, Build] = {
    "an ncnn .param of 10^9 layers": _param("7767517\n", "7767517\n1000000000 1000000000\n"),
    "an ncnn layer of 10^9 filters": _param("0=8", "0=1000000000"),
    "an ncnn kernel of 10^9": _param("1=3", "1=1000000000"),
    "an ncnn .param of random bytes": _file("model-fp32.param", noise(3000)),
    "an empty ncnn .param": _file("model-fp32.param", b""),
    "a cut ncnn .bin": _file("model-fp32.bin", bytes(100)),
    "an ONNX file of random bytes": _file("model.onnx", noise(3000)),
    "an empty ONNX file": _file("model.onnx", b""),
    "an ncnn .bin that is a link to outside": _instead(
        "net/model-fp32.bin", lambda p, name: p.link(name, p.outside / "secret.txt")
    ),
    "an ncnn .bin of 50 GB": _instead("net/model-fp32.bin", Place.sparse),
    "an ncnn .param that is a FIFO": _instead("net/model-fp32.param", Place.fifo),
}
for _name, _build in FILES.items():
    case("exported files", _name, f"detect a.jpg --model net:{'onnx' if 'ONNX' in _name else 'ncnn'}", _build)
    case("exported files", f"{_name}, packaged", "package --android --model net --output app", _build)


def _onnx_outside(place: Place) -> None:
    """An ONNX file whose weights are said to be outside."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=1, dims=[8], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../../outside/secret.txt"), ("offset", "0"), ("length", "32")):
        tensor.external_data.add(key=key, value=value)
    inputs = [helper.make_tensor_value_info("images", 1, [1, 3, 64, 64])]
    outputs = [helper.make_tensor_value_info("output0", 1, [8])]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["output0"])], "g", inputs, outputs, [tensor]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _file("model.onnx", model.SerializeToString())(place)


case(
    "exported files", "an ONNX file whose weights are outside", "detect a.jpg --model net:onnx", _onnx_outside
)


def _record(name: str, data: bytes | str) -> Build:
    return lambda place: (place.copy("net"), place.put(f"net/{name}", data))


PARITIES = {
    "100,000 brackets": "[" * 100_000,
    "a list": "[1, 2]",
    "NaN": '{"onnx": {"max_difference": NaN}, "caffe": {"fault": NaN}}',
    "a fault of 5 MB": json.dumps({"caffe": {"fault": "x" * 5_000_000}}),
    "a word": '"x"',
    "nothing": "",
}
for _name, _text in PARITIES.items():
    case(
        "parity.json",
        f"{_name}, asked for what was left out",
        "detect a.jpg --model net:caffe",
        _record("parity.json", _text),
    )
case(
    "parity.json",
    "100,000 brackets, exported again",
    "export --model {base}/net.cfg --to onnx --output net",
    _record("parity.json", PARITIES["100,000 brackets"]),
)

ARRAYS = {
    "a pickle": lambda: _npy(np.array([Marked()], dtype=object), True),
    "a shape of 10^15": lambda: _npy_header("(1000000, 1000000, 1000)"),
    "a negative shape": lambda: _npy_header("(-1, 98, 2)"),
    "an open bracket": lambda: _npy_header("(" * 500),
    "NaN": lambda: _npy(np.full((2, 98, 2), np.nan)),
    "words": lambda: _npy(np.array(["x", "y"])),
    "another number of faces": lambda: _npy(np.zeros((3, 5, 2))),
    "nothing": lambda: b"",
}


def _npy(array: Any, pickles: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickles)
    return stream.getvalue()


def _npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + bytes(64)


def _faces(place: Place) -> None:
    place.put("faces/label.txt", "# a.jpg\n10 20 60 70 20 30 0 40 30 0 30 40 0 22 50 0 38 50 0 0.9\n")
    place.put("faces/a.jpg", (place.base / "a.jpg").read_bytes())


for _name, _make in ARRAYS.items():
    case(
        "arrays",
        f"points: {_name}",
        "evaluate landmarks --predictions x.npy --data faces",
        lambda p, make=_make: (_faces(p), p.put("x.npy", make())),
    )
for _name in ("a pickle", "a shape of 10^15", "an open bracket", "NaN"):

    def _reference(place: Place, make: Any = ARRAYS[_name]) -> None:
        with zipfile.ZipFile(place.folder / "x.npz", "w") as archive:
            archive.writestr("input.npy", make())
            archive.writestr("logits_1.npy", make())

    case("arrays", f"a darknet reference: {_name}", "parity compare x.npz {base}/net.cfg", _reference)
case(
    "arrays",
    "a darknet reference: a text",
    "parity compare x.npz {base}/net.cfg",
    lambda p: p.put("x.npz", b"x" * 99),
)
case(
    "arrays",
    "a darknet reference: a zip bomb",
    "parity compare x.npz {base}/net.cfg",
    lambda p: _bomb(p.folder / "x.npz"),
)


def _bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("input.npy", "w", force_zip64=True) as out,
    ):
        out.write(_npy_header("(800000000,)")[:-64])
        for _ in range(3200):
            out.write(bytes(1 << 20))
