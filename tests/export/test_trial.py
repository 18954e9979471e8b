"""Exported files of strangers that crash an engine or fill the memory, with a spec.json that agrees."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import onnx
import pytest

from toolkit.export.folder import Exported, FileFacts
from toolkit.export.registry import FORMATS
from toolkit.export.write import export_model
from toolkit.models import create_model
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    export_model(create_model("yoloface-50k"), folder, ["onnx", "ncnn", "mnn", "litert"], accept_loss=True)
    return folder


def damaged(exported, folder, name, data):
    """A copy of the exported folder with another content of a file, whose sha256 spec.json has."""
    shutil.copytree(exported, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(data)
    read = Exported.read(folder)
    files = {fmt: {file: FileFacts.of(folder / file) for file in facts} for fmt, facts in read.files.items()}
    replace(read, files=files).save()


OPTIONS = {
    "a window of five million": ("1=4 11=4", "1=5000000 11=5000000"),
    "filters beyond the weights": (" 0=8 ", " 0=5000000 "),
    "weights without end": ("6=128", "6=2147483647"),
    "a stride of five million": ("2=2 3=1", "2=5000000 3=1"),
    "lines that end early": ("Convolution ", "Convolution\n"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_hostile_param_is_one_sentence(exported, tmp_path, kind):
    name = "model-fp32.param"
    text = (exported / name).read_text()
    assert OPTIONS[kind][0] in text
    damaged(exported, tmp_path, name, text.replace(*OPTIONS[kind], 1).encode())
    with pytest.raises(InputError, match=r"model-fp32"):
        Exported.read(tmp_path).open("ncnn")


@pytest.mark.parametrize("fmt", ["mnn", "litert"])
def test_a_damaged_file_does_not_end_the_process(fmt, exported, tmp_path):
    name = FORMATS[fmt].file
    whole = bytearray((exported / name).read_bytes())
    whole[8:400] = b"\xff" * 392
    damaged(exported, tmp_path, name, bytes(whole))
    with pytest.raises(InputError, match=name):
        Exported.read(tmp_path).open(fmt)


def test_whole_files_open(exported):
    for fmt in ("onnx", "ncnn", "mnn", "litert"):
        assert Exported.read(exported).open(fmt).io.input_size == (56, 56)


def test_a_small_onnx_file_does_not_fill_the_memory(exported, tmp_path):
    kind, sides = onnx.TensorProto.FLOAT, [1, 3, 56, 56]
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("ConstantOfShape", ["count"], ["zeros"]),
            node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
            node("Add", ["images", "sum"], ["map0"]),
        ],
        "hostile",
        [value("images", kind, sides)],
        [value("map0", kind, sides)],
        [onnx.helper.make_tensor("count", onnx.TensorProto.INT64, [1], [2_000_000_000])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    damaged(exported, tmp_path, "model.onnx", model.SerializeToString())
    with pytest.raises(InputError, match="onnxruntime cannot open .*model.onnx"):
        Exported.read(tmp_path).open("onnx")


def test_a_lower_limit_of_the_user_is_kept(exported, tmp_path):
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (950_000_000,) * 2)\n"
        "from toolkit.export.folder import Exported\n"
        "Exported.read(sys.argv[1]).open('ncnn')\n"
    )
    variables = {**os.environ, "TOOLKIT_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, str(exported)]
    run = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert run.returncode == 0, run.stderr
