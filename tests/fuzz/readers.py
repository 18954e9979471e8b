"""Every reader of strangers' files: small valid files, and the call that opens them."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import yaml
from hypothesis import strategies as st

from tests import cfgs
from tests.data import labelling
from tests.fuzz.mutations import DEEP, ODD, changed, damaged
from tests.fuzz.watched import LONGEST_SENTENCE

Seeds = Sequence[bytes]


def _nothing(folder: Path) -> None:
    pass


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    Attributes:
        seeds: makes small valid files.
        read: opens a file of these bytes in a folder.
        trees: makes valid contents as dicts and lists, where `encode` gives the bytes of such a content.
        prepare: puts what else is needed into the folder, once.
        text: whether its words can be told apart.
        odd: what nodes of a tree are replaced with.
    """

    seeds: Callable[[], Seeds]
    read: Callable[[Path, bytes], Any]
    trees: Callable[[], Sequence[Any]] | None = None
    encode: Callable[[Any], bytes] | None = None
    prepare: Callable[[Path], None] = _nothing
    text: bool = True
    odd: Callable[[], Sequence[Any]] = lambda: ODD

    def inputs(self) -> st.SearchStrategy[bytes]:
        """Damaged files, and files whose content is odd."""
        plain = damaged(self.seeds(), self.text)
        if self.trees is None or self.encode is None:
            return plain
        return plain | changed(self.trees(), self.odd()).map(self.encode)


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# ---- encoders of trees ----


def json_bytes(tree: Any) -> bytes:
    text = json.dumps(tree).replace(f'"{DEEP}"', "[" * 20_000 + "]" * 20_000)
    return text.encode("utf-8", "surrogatepass")


def yaml_bytes(tree: Any) -> bytes:
    """JSON is YAML, and knows no odd value that YAML's own writer refuses."""
    return json_bytes(tree)


def cfg_bytes(tree: Any) -> bytes:
    """From a list of [kind, {key: value}]."""
    lines: list[str] = []
    for section in tree if isinstance(tree, list) else [tree]:
        kind, options = section if isinstance(section, list) and len(section) == 2 else (section, {})
        lines.append(f"[{kind}]")
        lines += [f"{k}={v}" for k, v in options.items()] if isinstance(options, dict) else [str(options)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def xml_bytes(tree: Any) -> bytes:
    """From [tag, {attribute: value}, children or text]."""

    def text(part: Any) -> str:
        if isinstance(part, list) and len(part) == 3 and isinstance(part[1], dict):
            tag, attributes, inside = part
            given = "".join(f' {name}="{value}"' for name, value in attributes.items())
            nodes = inside if isinstance(inside, list) else [inside]
            return f"<{tag}{given}>{''.join(text(each) for each in nodes)}</{tag}>"
        return "<a>" * 5000 + "</a>" * 5000 if part == DEEP else str(part)

    return text(tree).encode("utf-8", "surrogatepass")


def zip_bytes(tree: Any) -> bytes:
    """From [[name, text, how often]]."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # about names that repeat
        for entry in tree if isinstance(tree, list) else []:
            name, text, times = [*entry, "", 1, 1][:3] if isinstance(entry, list) else (entry, "", 1)
            whole = str(text)[:1000].encode("latin-1", "replace")
            size = max(0, min(times, 20_000)) if isinstance(times, int) else 1
            name = str(name).encode("utf-8", "replace").decode()[:60_000]
            archive.writestr(zipfile.ZipInfo(name or "x"), whole * size, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


# ---- darknet ----


def _trees_of(text: str) -> list[Any]:
    sections: list[Any] = []
    for line in text.splitlines():
        if line.startswith("["):
            sections.append([line.strip("[]"), {}])
        elif "=" in line:
            key, _, value = line.partition("=")
            sections[-1][1][key] = value
    return sections


CFGS = (cfgs.TINY, cfgs.REGION, cfgs.GAUSSIAN)
CFG_ODD = (
    *ODD,
    "route",
    "shortcut",
    "yolo",
    "crnn",
    "-1",
    "-5",
    "999999999",
    "100000",
    "1,2,3",
    "0,0",
    "1e9",
    "2.5",
)
MORE_SECTIONS = (
    *(["maxpool", {"size": "2", "stride": "2"}], ["upsample", {"stride": "2"}], ["sam", {"from": "-2"}]),
    *(
        ["shortcut", {"from": "-2", "activation": "linear", "weights_type": "per_feature"}],
        ["reorg", {"stride": "2"}],
    ),
    *(["route", {"layers": "-1,-2", "groups": "2", "group_id": "1"}], ["avgpool", {}], ["local_avgpool", {}]),
    *(["reorg3d", {"stride": "2"}], ["dropout", {"probability": ".5"}], ["scale_channels", {"from": "-3"}]),
)


def _read_cfg(folder: Path, data: bytes) -> Any:
    from toolkit.models.cost import measure
    from toolkit.models.darknet.network import load_darknet

    model = load_darknet(put(folder / "net.cfg", data))
    return measure(model)


def _read_names(folder: Path, data: bytes) -> Any:
    from toolkit.models.darknet.cfg import read_names
    from toolkit.models.darknet.names import find_names

    put(folder / "net.cfg", cfgs.TINY.encode())
    path = put(folder / "net.names", data)
    return read_names(path), find_names(folder / "net.cfg", 2)


def _read_data_file(folder: Path, data: bytes) -> Any:
    from toolkit.models.darknet.names import find_names

    put(folder / "net.cfg", cfgs.TINY.encode())
    put(folder / "obj.data", data)
    return find_names(folder / "net.cfg", 2)


@cache
def _weights() -> Seeds:
    from toolkit.models.darknet.network import load_darknet
    from toolkit.models.darknet.weights import save_weights

    with TemporaryDirectory() as folder:
        path = Path(folder, "net.weights")
        save_weights(load_darknet(put(Path(folder, "net.cfg"), cfgs.TINY.encode())), path)
        return (path.read_bytes(), path.read_bytes()[:2000])


def _read_weights(folder: Path, data: bytes) -> Any:
    from toolkit.models.darknet.network import load_darknet
    from toolkit.models.darknet.weights import load_weights
    from toolkit.runtime import InputError

    model = load_darknet(put(folder / "net.cfg", cfgs.TINY.encode()))
    path = put(folder / "net.weights", data)
    try:
        load_weights(model, path)
    except InputError:
        load_weights(model, path, partial=True)


# ---- torch, Caffe, ncnn, LiteRT ----


@cache
def _tflites() -> Seeds:
    from toolkit.export.litert.file import Graph, Operator, Scale, Tensor, save

    scale = Scale(np.array([0.5], np.float32), -3)
    entry, inner, output = (Tensor(name, (1, 4, 4, 2), None, "int8", scale) for name in "abc")
    weights = Tensor("w", (2, 1, 1, 2), np.ones((2, 1, 1, 2), np.int8), "int8", scale)
    operators = [Operator("CONV_2D", [entry, weights], [inner]), Operator("LOGISTIC", [inner], [output])]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.tflite")
        save(Graph(operators, [entry], [output]), path, {"toolkit.io": b"{}"}, "")
        return (path.read_bytes(),)


def _read_tflite(folder: Path, data: bytes) -> Any:
    from toolkit.export.litert.micro import requirements

    return requirements(put(folder / "a.tflite", data))


@cache
def _states() -> Sequence[Any]:
    from toolkit.models.darknet.cfg import cfg_text, parse_cfg_text
    from toolkit.models.network import TorchNetwork
    from toolkit.training.origin import Origin

    origin = Origin("net.cfg", cfg_text(parse_cfg_text(cfgs.TINY, "net.cfg")))
    state = dict(origin.build(TorchNetwork).state_dict())
    return ({**origin.record({"classes": ["a", "b"]}), "model": state, "step": 3, "map50": 0.5},)


def _checkpoint(tree: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(tree, stream)
    return stream.getvalue()


@cache
def _checkpoint_odd() -> Sequence[Any]:
    import torch

    small = [value for value in ODD if not isinstance(value, str) or len(value) < 1000]
    vast = torch.zeros(1).expand(1 << 40)  # one number, and a stride of 0
    tensors = [
        torch.zeros(0),
        torch.zeros(3, 3),
        torch.full((8,), float("nan")),
        torch.zeros(8, dtype=torch.int64),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about checks of what is sparse
        sparse = torch.sparse_coo_tensor(torch.zeros(1, 0, dtype=torch.long), torch.zeros(0), (10**9,))
    return (
        *small,
        *tensors,
        vast,
        sparse,
        torch.zeros(8, dtype=torch.complex64),
        torch.zeros((), device="meta"),
    )


@cache
def _checkpoints() -> Seeds:
    return [_checkpoint(tree) for tree in _states()]


def _read_checkpoint(folder: Path, data: bytes) -> Any:
    from toolkit.training.checkpoint import trained

    return trained(put(folder / "best.pt", data))


def varint(value: int) -> bytes:
    out = b""
    while True:
        value, byte = value >> 7, value & 127
        out += bytes([byte | (128 if value else 0)])
        if not value:
            return out


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def _caffemodels() -> Seeds:
    def blob(*dims: int) -> bytes:
        values = np.ones(int(np.prod(dims)), "<f4").tobytes()
        return field(7, field(7, field(1, b"".join(map(varint, dims)))) + field(5, values))

    layers = [
        field(100, field(1, b"conv1") + field(2, b"Convolution") + blob(4, 3, 3, 3) + blob(4)),
        field(100, field(1, b"relu1") + field(2, b"ReLU")),
        field(100, field(1, b"fc") + field(2, b"InnerProduct") + blob(2, 4) + blob(2)),
    ]
    return [field(1, b"net") + b"".join(layers)]


def _read_caffemodel(folder: Path, data: bytes) -> Any:
    from toolkit.models.caffe_file import read_caffemodel

    return read_caffemodel(put(folder / "net.caffemodel", data))


def _params() -> Seeds:
    return [
        b"7767517\n3 3\nInput data 0 1 data\n"
        b"Convolution conv1 1 1 data conv1 0=4 1=3 3=1 4=1 5=1 6=108\n"
        b"InnerProduct fc 1 1 conv1 fc 0=2 1=1 2=8\n"
    ]


def _bin(folder: Path) -> None:
    flag = struct.pack("<I", 0)
    put(folder / "net.bin", flag + bytes(4 * 112) + flag + bytes(4 * 10))


def _read_param(folder: Path, data: bytes) -> Any:
    from toolkit.models.ncnn_file import read_model

    return read_model(put(folder / "net.param", data), folder / "net.bin")


def _read_ncnn_bin(folder: Path, data: bytes) -> Any:
    from toolkit.models.ncnn_file import read_model

    return read_model(put(folder / "net.param", _params()[0]), put(folder / "net.bin", data))


def _bins() -> Seeds:
    with TemporaryDirectory() as folder:
        _bin(Path(folder))
        return [Path(folder, "net.bin").read_bytes()]


# ---- settings ----


def _settings() -> Sequence[Any]:
    short = {"data": "toy", "model": "fastest-v2", "recipe": "modern", "seed": 1, "size": [96, 96]}
    return (
        {**short, "changes": {"classes": ["a", "b"], "width": 0.5}, "weights": None, "validations": 3},
        {
            "data": "toy",
            "model": "net.cfg",
            "cfg": cfgs.TINY,
            "recipe": {"name": "seed", "batch": 8, "loss": "darknet"},
        },
        {
            "data": "toy",
            "model": "landmark106",
            "recipe": {"name": "landmarks", "augmentation": {"flip": 0.5}},
        },
    )


def _read_settings(folder: Path, data: bytes) -> Any:
    from toolkit.training.config import merged_config

    return merged_config(put(folder / "config.yaml", data), {"ema": 0.9}, epochs=None)


def _studies() -> Sequence[Any]:
    factors = {"se": [False, True], "ema": [0, 0.99], "width": [0.5, 1.0]}
    search = {"trials": 4, "sampler": "tpe", "bflops": 0.3}
    return (
        {
            "name": "se",
            "data": "toy",
            "factors": factors,
            "seeds": [0, 1],
            "budget": {"steps": 10},
            "fraction": 2,
        },
        {
            "name": "s",
            "factors": {"activation": ["relu", "leaky"]},
            "budget": {"seconds": 5},
            "search": search,
        },
        {
            "name": "c",
            "model": "net.cfg",
            "cfg": cfgs.TINY,
            "factors": {"batch": [4, 8]},
            "budget": {"seconds": 2},
        },
    )


def _read_study(folder: Path, data: bytes) -> Any:
    from toolkit.ablation.cells import cells
    from toolkit.ablation.plan import check, read_plan

    plan = read_plan(put(folder / "study.yaml", data))
    check(plan)
    return None if plan.search else cells(plan)


def _read_stored_plan(folder: Path, data: bytes) -> Any:
    from toolkit.ablation.plan import stored_plan

    put(folder / "plan.json", data)
    return stored_plan(folder)


def _recipes() -> Sequence[Any]:
    return (
        {"name": "modern", "ema": 0.9, "augmentation": {"scale": [0.9, 1.1], "flip": 0.5}},
        {"name": "mine", "loss": "darknet", "batch": 8, "learning_rate": 0.1, "schedule": "steps"},
    )


def _read_recipe(folder: Path, data: bytes) -> Any:
    from toolkit.training.recipe import recipe

    return recipe(put(folder / "recipe.yaml", data), batch=4)


def _cards() -> Sequence[Any]:
    return (
        {
            "name": "bccd", "title": "Cells", "source": "https://example.org/a", "licence": "MIT",
            "classes": ["a"],
            "splits": {"train": 3, "val": None}, "folder": "bccd", "layout": {"format": "voc", "options": {}},
            "get": "Clone it.",
        },
    )  # fmt: skip


def _read_card(folder: Path, data: bytes) -> Any:
    from toolkit.data import cards

    cards.FOLDER = put(folder / "cards/bccd.yaml", data).parent
    return cards.names(), cards.card("bccd")


# ---- exported folders, readings ----


@cache
def _specs() -> Sequence[Any]:
    from tests.small import KINDS
    from toolkit.export.folder import Exported, FileFacts
    from toolkit.models.zoo import create_model

    files = {"darknet": {"model.cfg": FileFacts(3, "0" * 64), "model.weights": FileFacts(4, "1" * 64)}}
    ncnn = {"ncnn": {"model-fp32.param": FileFacts(3, "2" * 64), "model-fp32.bin": FileFacts(4, "3" * 64)}}
    detector = Exported(
        Path(), "net", KINDS["grey letterbox"], {**files, **ncnn}, 0.3, {"torch": "2"}, {"cpu": "x"}
    )
    faces = Exported(Path(), "faces", create_model("landmark106").io, ncnn, None, {}, {})
    trees = [detector.as_dict(), faces.as_dict()]
    return json.loads(json.dumps(trees))


def _read_spec(folder: Path, data: bytes) -> Any:
    from toolkit.export.folder import Exported

    put(folder / "spec.json", data)
    exported = Exported.read(folder)
    for fmt in exported.formats:
        exported.bytes(fmt)
        for path in exported.paths(fmt):
            assert path.resolve().is_relative_to(folder.resolve()), path
    return exported.as_dict()


def _parities() -> Sequence[Any]:
    facts = {
        "max_difference": 1e-6,
        "largest_output": 3.0,
        "relative_difference": 3e-7,
        "float32_noise": 1e-7,
    }
    lossy = {**facts, "fidelity": {"kept": 99, "lost": 1, "new": 0, "score_change": 0.01}}
    return ({"onnx": {**facts, "tolerance": 1e-5}, "ncnn-int8": lossy, "caffe": {"fault": "fails"}},)


def _spec_beside(folder: Path) -> None:
    put(folder / "spec.json", json.dumps(_specs()[0]).encode())


def _read_parity(folder: Path, data: bytes) -> Any:
    from toolkit.export.folder import Exported
    from toolkit.runtime import InputError

    put(folder / "parity.json", data)
    exported = Exported.read(folder)
    try:
        exported.facts("caffe")
    except InputError as error:
        if "has no" not in str(error):
            raise
    return exported.parity()


def _hashes() -> dict[str, str]:
    return {"model-fp32.param": "2" * 64, "model-fp32.bin": "3" * 64}


def _readings() -> Sequence[Any]:
    reading = {
        "schema": 1,
        "kind": "bench",
        "model": {"name": "net", "format": "ncnn", "sha256": _hashes()},
        "input": {"picture": "astronaut.rgb", "width": 512, "height": 512},
        "settings": {"threads": 1, "powersave": 0, "precision": "fp32", "vulkan": False, "warmup": 8,
                     "conf": 0.25, "run_as": "app"},
        "runtime": {"ncnn": "1.0", "compiler": "clang", "threads": "libomp", "abi": "arm64-v8a"},
        "cpu": {"cores": 8, "big": 4, "little": 4, "features": ["neon"]},
        "load_ms": 3.0,
        "samples": {"start_ms": [0, 6, 12], "preprocess_ms": [1, 1, 1], "inference_ms": [4, 2, 3],
                    "postprocess_ms": [0.5, 0.5, 0.5]},
        "detections": [{"class": "cat", "score": 0.5, "box": [1, 2, 3, 4]}],
        "device": {"manufacturer": "Maker", "model": "Phone", "hardware": "chip", "kind": "adb"},
        "date": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    return ({"readings": [reading]},)


def _report(folder: Path) -> None:
    from toolkit.device import report
    from toolkit.device.readings import read_timings

    entries = [(folder, reading) for reading in read_timings(folder)]
    json.dumps([report.record(*entry) for entry in entries], allow_nan=False)
    report.table(entries)


def _read_timing(folder: Path, data: bytes) -> Any:
    put(folder / "timing.json", data)
    _report(folder)


def _read_import(folder: Path, data: bytes) -> Any:
    from toolkit.device.readings import import_readings

    (folder / "timing.json").unlink(missing_ok=True)
    import_readings([put(folder / "reading.txt", data)], folder)
    _report(folder)


# ---- labels ----


def _label_reader(name: str, format: str) -> Callable[[Path, bytes], Any]:
    def read(folder: Path, data: bytes) -> Any:
        from toolkit.data.formats import registry
        from toolkit.runtime import InputError

        path = put(folder / name, data)
        faults: list[InputError] = []
        datasets: list[Any] = []
        for given in ("keep", "refuse", "skip", ""):
            try:
                if given:
                    source = folder if format == "yolo" else path
                    datasets.append(registry.read(source, format, images=folder, faults=given))
                else:
                    datasets.append(registry.read(folder))  # as what it looks like
            except InputError as error:
                faults.append(error)
                continue
            # "keep" is for the doctor, who tells of numbers that are not finite
            assert given == "keep" or np.isfinite(datasets[-1].boxes).all()
            assert all(".." not in Path(file).parts for file in datasets[-1].files)
        longest = max(faults, key=lambda error: len(str(error)), default=None)
        if longest is not None and (not datasets or len(str(longest)) > LONGEST_SENTENCE):
            raise longest

    return read


def _picture_at(*names: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for name in names:
            put(folder / name, cv2.imencode(name[-4:], np.full((30, 40, 3), 99, np.uint8))[1].tobytes())

    return prepare


_pictures = _picture_at("a.jpg", "b.png")
TRUTH = {"a.jpg": [("nut", 1, 2, 20, 22), ("bolt", 5, 5, 30, 25)], "b.png": [("nut", 0, 0, 40, 30)]}
BOX = TRUTH["a.jpg"][0]


def _cocos() -> Sequence[Any]:
    tree = labelling.coco(TRUTH)
    tree["annotations"][0]["segmentation"] = [[1, 2, 20, 2, 20, 22]]
    tree["annotations"][1]["segmentation"] = {"size": [30, 40], "counts": [100, 20, 1080]}
    tree["annotations"][1] |= {"iscrowd": 1, "ignore": 1, "keypoints": [1, 2, 2, 3, 4, 1], "num_keypoints": 2}
    compressed = json.loads(json.dumps(tree))
    compressed["annotations"][1]["segmentation"] = {"size": [30, 40], "counts": "SVh02m0"}
    return (tree, compressed)


def _createml() -> Sequence[Any]:
    place = {"x": 10, "y": 12, "width": 19, "height": 20}
    return (
        [{"image": "a.jpg", "annotations": [{"label": "nut", "coordinates": place}]}, {"image": "b.png"}],
    )


def _labelme() -> Sequence[Any]:
    shapes = [
        labelling.labelme_rectangle(BOX),
        {"label": "bolt", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"},
        {"label": "bolt", "points": [[9, 9], [12, 9]], "shape_type": "circle"},
        {"label": "bolt", "points": [[9, 9], [12, 12]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
    ]
    data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    plain = json.loads(labelling.labelme("a.jpg", shapes))
    return ({**plain, "imageWidth": 40, "imageHeight": 30}, {**plain, "imageData": data})


def _via() -> Sequence[Any]:
    regions = labelling.via_regions(TRUTH["a.jpg"])
    others = ({"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]},
              {"name": "circle", "cx": 9, "cy": 9, "r": 4},
              {"name": "ellipse", "cx": 9, "cy": 9, "rx": 4, "ry": 2})  # fmt: skip
    regions += [{"shape_attributes": shape, "region_attributes": {"class": "nut"}} for shape in others]
    second = {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": regions, "file_attributes": {}}}
    project = {
        "_via_settings": {},
        "_via_img_metadata": second,
        "_via_attributes": {"region": {"class": {"type": "text"}}},
    }
    third = {
        "project": {"pname": "x"}, "attribute": {"1": {"aname": "class", "type": 4, "options": {"0": "nut"}}},
        "file": {"1": {"fid": 1, "fname": "a.jpg", "loc": 1, "src": ""}}, "view": {"1": {"fid_list": [1]}},
        "metadata": {"1_a": {"vid": "1", "z": [], "xy": [2, 1, 2, 20, 20], "av": {"1": "0"}}},
    }  # fmt: skip
    return (second, project, third)


def _studio() -> Sequence[Any]:
    tasks = labelling.studio_tasks(
        {"a.jpg": TRUTH["a.jpg"]},
        lambda i, box: (labelling.rectangle_region, labelling.polygon_region)[i % 2](box),
    )
    brush = {"type": "brushlabels", "original_width": 40, "original_height": 30,
             "value": {"rle": [0, 0, 0, 160, 1, 2, 3, 4], "brushlabels": ["nut"]}}  # fmt: skip
    tasks[0]["annotations"][0]["result"].append(brush)
    small = [{"image": "/data/upload/1/1a2b3c4d-a.jpg", "id": 1,
              "label": [{"x": 1, "y": 2, "width": 30, "height": 40, "rotation": 5, "rectanglelabels": ["nut"],
                         "original_width": 40, "original_height": 30}]}]  # fmt: skip
    return (json.loads(json.dumps(tasks)), small)


def _fiftyones() -> Sequence[Any]:
    detection = {
        "label": "nut",
        "bounding_box": [0.1, 0.1, 0.5, 0.5],
        "attributes": {"iscrowd": {"value": 1}},
    }
    sample = {
        "filepath": "data/a.jpg", "tags": ["train"], "metadata": {"width": 40, "height": 30},
        "ground_truth": {"_cls": "Detections", "detections": [detection]},
        "lines": {"_cls": "Polylines", "polylines": [{"label": "nut", "points": [[[0, 0], [1, 1]]]}]},
    }  # fmt: skip
    labels = {"classes": ["nut"], "labels": {"a": [{"label": 0, "bounding_box": [0.1, 0.1, 0.5, 0.5]}]}}
    return ({"samples": [sample]}, labels)


def _crops() -> Sequence[Any]:
    return ([{"crop": "a.jpg", "size": 40, "landmarks98_crop": [[1.0, 2.0]] * 98}],)


def _vocs() -> Sequence[Any]:
    numbers = zip(("xmin", "ymin", "xmax", "ymax"), BOX[1:], strict=True)
    box = ["bndbox", {}, [[tag, {}, str(value)] for tag, value in numbers]]
    thing = ["object", {}, [["name", {}, "nut"], ["difficult", {}, "0"], box]]
    size = ["size", {}, [["width", {}, "40"], ["height", {}, "30"], ["depth", {}, "3"]]]
    return (["annotation", {}, [["folder", {}, "x"], ["filename", {}, "a.jpg"], size, thing]],)


def _cvats() -> Sequence[Any]:
    box = ["box", {"label": "nut", "xtl": "1", "ytl": "2", "xbr": "9", "ybr": "9", "rotation": "5"}, ""]
    shape = ["polygon", {"label": "nut", "points": "1,1;9,1;9,9"}, ""]
    mask = [
        "mask",
        {"label": "nut", "rle": "3, 4, 5", "left": "1", "top": "1", "width": "4", "height": "3"},
        "",
    ]
    picture = ["image", {"id": "0", "name": "a.jpg", "width": "40", "height": "30"}, [box, shape, mask]]
    frame = [
        "box",
        {"frame": "0", "outside": "0", "keyframe": "1", "xtl": "1", "ytl": "2", "xbr": "9", "ybr": "9"},
        "",
    ]
    track = ["track", {"id": "0", "label": "nut"}, [frame]]
    return (["annotations", {}, [["version", {}, "1.1"], picture]], ["annotations", {}, [track]])


XML_BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c SYSTEM "file:///etc/passwd">]><annotation><filename>&b;&c;</filename></annotation>'
)
TEXTS = {
    "table": (
        "x.csv",
        b"filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,30,nut,1,2,9,9\nb.png,40,30,bolt,1,2,9,9\n",
    ),
    "retinaface": ("label.txt", b"# a.jpg\n1 2 9 9 3 3 0 4 4 0 5 5 0 6 6 0 7 7 0 0.5\n# b.png\n1 2 9 9\n"),
    "widerface": ("x.txt", b"a.jpg\n1\n1 2 9 9 0 0 0 0 0 0\nb.png\n1\n1 2 3 4 0 0 0 1 0 0\n"),
    "kitti": (
        "a.txt",
        b"Car 0 0 -1.57 10 20 30 29 1.5 1.6 3.9 1 2 30 -1.6\n"
        b"DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n",
    ),
    "yolo": ("a.txt", b"0 .5 .5 .2 .2\n1 .1 .1 .2 .2 .3 .3\n0 .5 .5 .2 .2 .9\n"),
    "landmarks": ("x.txt", b"3 3 4 4 5 5 6 6 7 7 1 2 9 9 a.jpg\n1 1 2 2 3 3 4 4 5 5 1 2 9 9 b.png\n"),
}  # fmt: skip
JSONS = {
    "coco": ("x.json", "a.jpg", _cocos), "createml": ("x.json", "a.jpg", _createml),
    "labelme": ("a.json", "a.jpg", _labelme), "via": ("x.json", "a.jpg", _via),
    "label-studio": ("x.json", "a.jpg", _studio), "fiftyone": ("samples.json", "data/a.jpg", _fiftyones),
    "face-crops": ("annotations.json", "crops/a.jpg", _crops),
}  # fmt: skip


def _yolo_settings() -> Sequence[Any]:
    return (
        {"path": ".", "train": "images", "val": ["images"], "names": {0: "nut", 1: "bolt"}, "nc": 2},
        {"train": "train.txt", "names": ["nut", "bolt"], "download": "https://example.org/x.zip"},
    )


def _yolo_set(folder: Path) -> None:
    _picture_at("images/a.jpg", "images/b.png")(folder)
    put(folder / "labels/a.txt", b"0 .5 .5 .2 .2\n")
    put(folder / "train.txt", b"images/a.jpg\n")


# ---- pictures, videos, archives ----


def picture(kind: str) -> bytes:
    """A small picture of a type, by its suffix."""
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    if kind == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
        image = np.zeros((64, 64, 3), np.uint8)
    stream = io.BytesIO()
    names = {".jpg": "JPEG", ".jp2": "JPEG2000", ".tif": "TIFF", ".ppm": "PPM", ".heic": "HEIF"}
    extra: dict[str, Any] = {}
    if kind == ".jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        extra = {"exif": exif}
    Image.fromarray(image).save(stream, names.get(kind, kind[1:].upper()), **extra)
    return stream.getvalue()


def _read_picture(suffix: str) -> Callable[[Path, bytes], Any]:
    def read(folder: Path, data: bytes) -> Any:
        from toolkit.pictures import load_image, picture_size
        from toolkit.runtime import InputError

        path = put(folder / f"a{suffix}", data)
        with suppress(InputError):
            picture_size(path)
        image = load_image(path)
        assert image.dtype == np.uint8
        assert image.ndim == 3

    return read


def png(width: int, height: int, depth: int = 8, kind: int = 2, body: bytes = b"") -> bytes:
    """A PNG that claims a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def flood(kind: str, width: int, height: int) -> bytes:
    """A small file that claims to be a picture of that size."""
    if kind == "png":
        return png(width, height)
    if kind == "ppm":
        return b"P6 %d %d 255\n" % (width, height)
    if kind == "bmp":
        return b"BM" + struct.pack(
            "<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
        )
    if kind == "gif":
        screen = struct.pack("<HHBBB", width & 0xFFFF, height & 0xFFFF, 0x80, 0, 0) + bytes(6)
        frame = b"," + struct.pack("<HHHHB", 0, 0, width & 0xFFFF, height & 0xFFFF, 0)
        return b"GIF89a" + screen + frame + b"\x02\x02\x44\x01\x00;"
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 1), (278, 4, height), (279, 4, 1)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


KINDS = ("png", "ppm", "bmp", "gif", "tif")  # of `flood`
FLOODS = [[kind, side, other] for kind in KINDS for side, other in ((12, 9), (60_000, 60_000), (1 << 30, 1))]


def _flood_bytes(tree: Any) -> bytes:
    values = tree if isinstance(tree, list) and len(tree) == 3 else ["png", 5, 5]
    kind = values[0] if values[0] in KINDS else "png"
    sides = [int(v) & 0x7FFFFFFF if isinstance(v, int) else 40_000 for v in values[1:]]
    return flood(kind, *sides)


@cache
def _videos() -> Seeds:
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "a.avi"))
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 24))
        for shade in (10, 100, 200):
            writer.write(np.full((24, 32, 3), shade, np.uint8))
        writer.release()
        return [Path(path).read_bytes()]


def _read_video(folder: Path, data: bytes) -> Any:
    from toolkit.videos import open_video

    video = open_video(str(put(folder / "a.avi", data)))
    for count, _ in enumerate(video or ()):
        if count > 20:
            break


def _archives() -> Sequence[Any]:
    jpg = cv2.imencode(".jpg", np.full((30, 40, 3), 99, np.uint8))[1].tobytes().decode("latin-1")
    return (
        [["set/a.jpg", jpg, 1], ["set/a.txt", "0 .5 .5 .2 .2\n", 1], ["set/data.yaml", "names: [a]\n", 1]],
    )


def _read_archive(folder: Path, data: bytes) -> Any:
    import shutil

    from toolkit.data.importing import import_dataset

    shutil.rmtree(folder / "out", ignore_errors=True)
    return import_dataset(str(put(folder / "set.zip", data)), folder / "out")


def _arrays() -> Seeds:
    plain, packed = io.BytesIO(), io.BytesIO()
    np.save(plain, np.zeros((2, 98, 2), np.float32))
    np.save(packed, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return [plain.getvalue(), packed.getvalue()]


def _read_points(folder: Path, data: bytes) -> Any:
    from toolkit.evaluation.landmarks import read_points

    return read_points(put(folder / "points.npy", data))


def _references() -> Seeds:
    stream = io.BytesIO()
    np.savez(stream, input=np.zeros((3, 8, 8), np.float32), logits_3=np.zeros((4, 2, 2), np.float32))
    return [stream.getvalue()]


def _read_reference(folder: Path, data: bytes) -> Any:
    from toolkit.export.parity import DarknetReference

    reference = DarknetReference(put(folder / "a.npz", data))
    return reference.predict(reference.x)


def _records() -> Sequence[Any]:
    box = {"box_id": 1, "class": "nut", "box": [1, 2, 9, 9], "crowd": False, "ignore": False}
    changes = {"removed_boxes": [{"box_id": 0}], "changed_boxes": [{"box_id": 1, "to": box}]}
    new = {"file": "c.jpg", "new": {"size": [40, 30], "split": "val"}, "added_boxes": [{**box, "box_id": 7}]}
    moved = {"file": "a.jpg", "split": {"from": "train", "to": "val"}, **changes}
    return (
        {
            "pictures": {"0": moved, "9": new, "1": {"file": "b.png", "removed": ["x"]}},
            "classes": ["nut", "bolt"],
        },
    )


def _read_record(folder: Path, data: bytes) -> Any:
    from toolkit.data.curation.record import read_record, replay
    from toolkit.data.formats import registry

    record = read_record(put(folder / "record.json", data))
    return replay(registry.read(folder), record)


def _read_intake(folder: Path, data: bytes) -> Any:
    from toolkit.data.formats import registry

    put(folder / "import.json", data)
    return registry.read(folder)


def _canonical(folder: Path) -> None:
    _picture_at("images/a.jpg", "images/b.png")(folder)
    put(folder / "annotations/train.json", json.dumps(labelling.coco(TRUTH)).encode())


def _intakes() -> Sequence[Any]:
    skipped, left = (
        [{"file": "x.jpg", "reason": "is missing"}],
        [{"kind": "boxes", "count": 3, "example": "a"}],
    )
    return ({"format": "voc", "why": "XML", "candidates": [], "notes": ["a"], "left_out": left,
             "skipped": skipped, "source": "x"},)  # fmt: skip


def _tree_reader(
    trees: Callable[[], Sequence[Any]],
    read: Callable[[Path, bytes], Any],
    prepare: Callable[[Path], None] = _nothing,
    encode: Callable[[Any], bytes] = json_bytes,
    *more: bytes,
) -> Reader:
    return Reader(lambda: [*map(encode, trees()), *more], read, trees, encode, prepare)


def _yaml_reader(
    trees: Callable[[], Sequence[Any]], read: Any, prepare: Callable[[Path], None] = _nothing
) -> Reader:
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (k + 1, k + 1, b",".join([b"*%c" % k] * 9)) for k in range(97, 106)
    )
    texts = [yaml.safe_dump(tree).encode() for tree in trees()]
    return Reader(lambda: [*texts, texts[0] + bomb], read, trees, yaml_bytes, prepare)


READERS: dict[str, Reader] = {
    "cfg": Reader(
        lambda: [text.encode() for text in CFGS],
        _read_cfg,
        lambda: (
            [
                [*_trees_of(text)[:4], *MORE_SECTIONS[i::3], *_trees_of(text)[4:]]
                for i, text in enumerate(CFGS)
            ]
            + [_trees_of(text) for text in CFGS]
        ),
        cfg_bytes,
        odd=lambda: CFG_ODD,
    ),
    "names": Reader(lambda: [b"cat\ndog\n", b"\xef\xbb\xbfcat\r\nd\xc3\xb6g\r\n"], _read_names),
    "data file": Reader(lambda: [b"classes=2\ntrain=train.txt\nnames = net.names\n"], _read_data_file),
    "weights": Reader(_weights, _read_weights, text=False),
    "checkpoint": Reader(
        _checkpoints, _read_checkpoint, _states, _checkpoint, text=False, odd=_checkpoint_odd
    ),
    "caffemodel": Reader(_caffemodels, _read_caffemodel, text=False),
    "param": Reader(_params, _read_param, prepare=_bin),
    "ncnn bin": Reader(_bins, _read_ncnn_bin, text=False),
    "tflite": Reader(_tflites, _read_tflite, text=False),
    "settings": _yaml_reader(_settings, _read_settings),
    "study": _yaml_reader(_studies, _read_study),
    "recipe": _yaml_reader(_recipes, _read_recipe),
    "card": _yaml_reader(_cards, _read_card),
    "plan.json": _tree_reader(_studies, _read_stored_plan),
    "spec.json": _tree_reader(_specs, _read_spec),
    "parity.json": _tree_reader(_parities, _read_parity, _spec_beside),
    "timing.json": _tree_reader(_readings, _read_timing, _spec_beside),
    "reading": _tree_reader(_readings, _read_import, _spec_beside),
    "import.json": _tree_reader(_intakes, _read_intake, _canonical),
    "curation record": _tree_reader(_records, _read_record, _canonical),
    "data.yaml": _yaml_reader(_yolo_settings, _label_reader("data.yaml", "yolo"), _yolo_set),
    "voc": _tree_reader(_vocs, _label_reader("a.xml", "voc"), _pictures, xml_bytes, XML_BOMB),
    "cvat": _tree_reader(_cvats, _label_reader("x.xml", "cvat"), _pictures, xml_bytes, XML_BOMB),
    **{
        name: _tree_reader(trees, _label_reader(file, name), _picture_at(picture, "b.png"))
        for name, (file, picture, trees) in JSONS.items()
    },
    **{
        name: Reader(lambda seed=seed: [seed], _label_reader(file, name), prepare=_pictures)
        for name, (file, seed) in TEXTS.items()
    },
    **{
        f"picture {kind}": Reader(lambda kind=kind: [picture(kind)], _read_picture(kind), text=False)
        for kind in (".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".jp2", ".ppm", ".avif", ".heic")
    },
    "picture size": Reader(
        lambda: [_flood_bytes(tree) for tree in FLOODS],
        _read_picture(".png"),
        lambda: FLOODS,
        _flood_bytes,
        text=False,
    ),
    "video": Reader(_videos, _read_video, text=False),
    "archive": Reader(
        lambda: [zip_bytes(tree) for tree in _archives()], _read_archive, _archives, zip_bytes, text=False
    ),
    "points": Reader(_arrays, _read_points, text=False),
    "darknet reference": Reader(_references, _read_reference, text=False),
}


def read_file(folder: Path, name: str, data: bytes) -> Any:
    """What the reader `name` makes of a file of these bytes, in a folder of its own below `folder`."""
    place = folder / name.replace(" ", "-")
    if not place.exists():
        place.mkdir()
        READERS[name].prepare(place)
    return READERS[name].read(place, data)
