"""The runners for every processor, and a small exported network, for the tests of devices."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from toolkit import create_model
from toolkit.device.build import ABIS, build_runner
from toolkit.export.write import export_model
from toolkit.faces import windows_of_boxes
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


@pytest.fixture(scope="session")
def cascade(zoo, tmp_path_factory):
    """The exported folders of detector and landmark network."""
    root = tmp_path_factory.mktemp("cascade")
    for name in ("yoloface-100k", "landmark106"):
        export_model(create_model(name, "published"), root / name, ["ncnn", "ncnn-fp16"], name=name)
    return root / "yoloface-100k", root / "landmark106"


@pytest.fixture
def network(exported_once, tmp_path):
    """An exported folder of the test's own: readings are kept in it."""
    return shutil.copytree(exported_once, tmp_path / "yoloface-50k")


def wheel_points(image, boxes, network):
    """The points (K, P, 2) px of the ncnn wheel in boxes (K, 4) px, and the sizes (K, 1, 2) of the windows.
    Faces are cut out in floats: `toolkit.faces.cut` rounds to bytes."""
    io = network.io
    windows = windows_of_boxes(np.asarray(boxes, np.float32), io)
    start, size = windows[:, None, :2], np.maximum(windows[:, None, 2:] - windows[:, None, :2], 1)
    x = []
    for (first,), (whole,) in zip(start, size, strict=True):
        columns, rows = (
            first[i] + (np.arange(n) + 0.5) * whole[i] / n - 0.5 for i, n in enumerate(io.input_size)
        )
        grid = np.meshgrid(rows, columns, indexing="ij")
        x.append(
            [
                map_coordinates(image[..., c] * 1.0, grid, order=1, mode="grid-constant", cval=127)
                for c in (2, 1, 0)
            ]
        )
    cuts = (np.array(x) - io.mean) * io.scale
    return start + io.points_of(network.predict(cuts.astype(np.float32))) * size, size
