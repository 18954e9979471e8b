"""The runners for every processor, and a small exported network, for the tests of devices."""

import os
import shutil
import subprocess

import pytest

from toolkit.device.build import ABIS, build_runner
from toolkit.export import export_model
from toolkit.samples import untrained

QEMU = {"arm64-v8a": "qemu-aarch64-static", "armeabi-v7a": "qemu-arm-static"}


@pytest.fixture(scope="session")
def runners():
    """ABI -> the runner, which the first run of the tests builds and later ones find in the user's cache."""
    return {abi: build_runner(abi, ndk=False) for abi in ABIS}


@pytest.fixture(scope="session")
def execute(runners):
    """Calls (abi, words of the runner's command line) -> the finished process, under qemu if not for this
    machine. `cpu`: what qemu imitates; `emulator`: options of qemu's own."""

    def call(abi, *words, cpu="max", emulator=(), timeout=300):
        emulated = [QEMU[abi], *emulator] if abi in QEMU else []
        if emulated and shutil.which(emulated[0]) is None:
            pytest.skip(f"{emulated[0]} is not installed: apt-get install qemu-user-static")
        return subprocess.run(
            [*emulated, runners[abi], *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "QEMU_CPU": cpu},
        )

    return call


@pytest.fixture(scope="session")
def exported_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device") / "yoloface-50k"
    export_model(untrained("yoloface-50k"), folder, ["ncnn", "ncnn-fp16"], name="yoloface-50k")
    return folder


@pytest.fixture
def network(exported_once, tmp_path):
    """An exported folder of the test's own: readings are kept in it."""
    return shutil.copytree(exported_once, tmp_path / "yoloface-50k")
