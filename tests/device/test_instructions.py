"""Instructions under the real qemu: of every layer, and the same each time but for some hundred."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from toolkit import create_model
from toolkit.cli import app
from toolkit.device.instructions import EMULATORS, count_formats, count_instructions
from toolkit.export.write import export_model
from toolkit.runtime import InputError
from toolkit.samples import untrained


@pytest.fixture(scope="module")
def qemu(runners):
    missing = [name for name in EMULATORS.values() if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: apt-get install qemu-user")


def of_param(folder, file):
    """Names of the layers in running order, without the input."""
    lines = (folder / file).read_text().splitlines()[2:]
    return [line.split()[1] for line in lines if not line.startswith("Input ")]


def about(counts):
    """Where memory is requested the path depends on the addresses that the system gave."""
    return pytest.approx(counts, abs=1000)


@pytest.mark.parametrize("fmt", ["ncnn", "ncnn-fp16"])
@pytest.mark.parametrize("abi", EMULATORS)
def test_every_layer_is_counted_and_counted_alike(abi, fmt, exported_once, qemu):
    first, second = (count_instructions(exported_once, fmt, abi) for _ in range(2))
    assert second.total == about(first.total)
    assert second.layers == about(first.layers)
    file = {"ncnn": "model-fp32.param", "ncnn-fp16": "model-fp16.param"}[fmt]
    assert list(first.layers) == of_param(exported_once, file)
    assert min(first.layers.values()) > 0
    assert first.total == pytest.approx(sum(first.layers.values()), rel=0.05)


def test_blocks_of_one_instruction_give_the_same_count(exported_once, qemu, monkeypatch):
    """qemu may cut a program into pieces as it likes."""
    plain = count_instructions(exported_once)
    monkeypatch.setenv("QEMU_SINGLESTEP", "1")
    single = count_instructions(exported_once)
    assert single.total == about(plain.total)
    assert single.layers == about(plain.layers)


def test_work_shows_in_the_count(exported_once, tmp_path, qemu):
    """Four times the pixels: about four times the instructions in a convolution."""
    small, large = (tmp_path / name for name in ("small", "large"))
    for folder, side in ((small, 96), (large, 192)):
        export_model(untrained("yoloface-50k"), folder, ["ncnn"], (side, side))
    convolution = of_param(small, "model-fp32.param")[0]
    few, many = (count_instructions(folder).layers[convolution] for folder in (small, large))
    assert many / few == pytest.approx(4, rel=0.1)


def test_what_is_missing_is_said(exported_once, tmp_path, qemu, monkeypatch):
    with pytest.raises(InputError, match="has no ncnn-int8"):
        count_instructions(exported_once, "ncnn-int8")
    with pytest.raises(InputError, match="unknown ABI 'riscv64'"):
        count_instructions(exported_once, abi="riscv64")
    assert count_formats(exported_once, ["torch", "onnx"]) == {}

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt-get install qemu-user"):
        count_formats(exported_once, ["ncnn"])
    static = tmp_path / "qemu-aarch64"
    static.write_text("#!/bin/sh\necho usage: qemu-aarch64 program\n")
    static.chmod(0o755)
    with pytest.raises(InputError, match="takes no plugins"):
        count_formats(exported_once, ["ncnn"])

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="toolkit device build --abi arm64-v8a"):
        count_formats(exported_once, ["ncnn"])


def test_the_ladder_shows_them_where_they_can_be_counted(zoo, tmp_path, qemu, monkeypatch):
    folder = tmp_path / "net"
    export_model(create_model("yoloface-50k", "published"), folder, ["onnx", "ncnn"], name="yoloface-50k")
    words = ["parity", "ladder", "--model", "yoloface-50k", "--folder", str(folder), "--rounds", "5"]
    counted = CliRunner().invoke(app, [*words, "--json"])
    assert counted.exit_code == 0
    rungs = {rung["name"]: rung["instructions"] for rung in json.loads(counted.stdout)["rungs"]}
    assert rungs == {"torch": None, "onnx": None, "ncnn": count_instructions(folder).total}
    assert f"{rungs['ncnn']:,}" in CliRunner(env={"COLUMNS": "300"}).invoke(app, words).stdout

    monkeypatch.setenv("PATH", str(tmp_path))
    without = CliRunner(env={"COLUMNS": "300"}).invoke(app, words)
    assert without.exit_code == 0
    assert "qemu-aarch64 is not installed" in without.stderr
    assert "instructions" not in without.stdout
