"""Exported files of strangers that crash an engine or fill the memory, with a spec.json that agrees."""

from dataclasses import replace

import pytest

from toolkit.export.folder import Exported, FileFacts
from toolkit.export.write import export_model
from toolkit.models import create_model
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    export_model(create_model("yoloface-50k"), folder, ["ncnn", "mnn"], accept_loss=True)
    return folder


def damaged(folder, name, data):
    """The folder with another content of a file, whose sha256 spec.json has."""
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
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (exported / name).read_text()
    assert OPTIONS[kind][0] in text
    damaged(tmp_path, name, text.replace(*OPTIONS[kind], 1).encode())
    with pytest.raises(InputError, match=r"model-fp32"):
        Exported.read(tmp_path).open("ncnn")


def test_a_damaged_mnn_file_does_not_end_the_process(exported, tmp_path):
    name = next(path.name for path in exported.iterdir() if path.suffix == ".mnn")
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = bytearray((exported / name).read_bytes())
    whole[8:400] = b"\xff" * 392
    damaged(tmp_path, name, bytes(whole))
    with pytest.raises(InputError, match=name):
        Exported.read(tmp_path).open("mnn")


def test_whole_files_open(exported):
    assert [Exported.read(exported).open(fmt).io.input_size for fmt in ("ncnn", "mnn")] == [(56, 56)] * 2
