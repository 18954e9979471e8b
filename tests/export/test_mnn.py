"""MNN and OpenVINO on all twelve networks, equal to torch; MNN int8 calibrated on what the network sees."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import toolkit.export.onnx
from toolkit import create_model, list_models
from toolkit.export.folder import open_export
from toolkit.export.mnn import MnnModel, convert, export
from toolkit.export.openvino import OpenVinoModel
from toolkit.export.parity import output_difference, probe_input
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import run
from toolkit.models.io import HeadIO, ModelIO, channels_of
from toolkit.runtime import InputError


@pytest.mark.parametrize("name", list_models("detection"))
def test_every_network(name, exported):
    """A batch of two; MNN at another size as well, which its files allow."""
    model, folder = exported(name)
    width, height = model.io.input_size
    other = np.random.default_rng(0).random(
        (1, 3, height - model.io.stride, width + model.io.stride), np.float32
    )
    x = np.concatenate((probe_input(model.io), probe_input(model.io)[..., ::-1]))
    wanted = model.predict(x)
    for fmt, limit in {"mnn": 1e-5, "mnn-fp16": 0.03, "onnx": 1e-5, "openvino": 1e-5}.items():
        difference, largest = output_difference(wanted, open_export(folder, fmt).predict(x))
        assert difference / max(1, largest) < limit, fmt
        assert (difference / max(1, largest) > 1e-5) == (fmt == "mnn-fp16"), fmt
    difference, largest = output_difference(model.predict(other), open_export(folder, "mnn").predict(other))
    assert difference / max(1, largest) < 1e-5
    sizes = [(folder / f"model-{precision}.mnn").stat().st_size for precision in ("fp32", "fp16")]
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("engine", [MnnModel, OpenVinoModel])
def test_an_export_detects_like_torch(engine, exported, tmp_path, pictures):
    """Through the threads of `run`, more pictures than threads."""
    model, folder = exported("yoloface-500k-v2")
    path = (
        folder / "model.onnx"
        if engine is OpenVinoModel
        else export(folder / "model.onnx", tmp_path, "fp32", model.io)[0]
    )
    images = list(pictures.values())
    count = 0
    for wanted, found in zip(run(model, images), run(engine(path, model.io, 1), images), strict=True):
        np.testing.assert_allclose(wanted.boxes, found.boxes, atol=1e-2)
        np.testing.assert_allclose(wanted.scores, found.scores, atol=1e-4)
        count += len(wanted.boxes)
    assert count >= 3


@pytest.mark.parametrize("precision", ["int8", "int8-weights"])
def test_int8(precision, exported, tmp_path, pictures):
    model, folder = exported("yoloface-50k")
    x = np.stack([preprocess(image, model.io)[0] for image in pictures.values()])
    (path,) = export(folder / "model.onnx", tmp_path, precision, model.io, x)
    wanted, found = model.predict(x), MnnModel(path, model.io).predict(x)
    for a, b in zip(wanted, found, strict=True):
        error = np.sqrt(((a - b) ** 2).mean() / (a**2).mean())
        assert 1e-4 < error < 0.2
    assert [p.name for p in tmp_path.iterdir()] == [f"model-{precision}.mnn"]


@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_int8_is_calibrated_on_the_very_pixels(order, tmp_path):
    """A network that looks at one pixel of each colour, or at three grey ones; a reader that swaps colours or
    resizes would find black there, and the quantised outputs would be 0."""
    channels = channels_of(order)
    places = ((0, 0, 200), (0, 15, 100), (15, 0, 50))  # row, column, value of red, green, blue

    class Pixels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.looks = torch.nn.ModuleList(torch.nn.Conv2d(channels, 6, 16, bias=False) for _ in places)
            for colour, (row, column, _) in enumerate(places):
                weight = self.looks[colour].weight.data.zero_()
                weight[:, colour % channels, row, column] = 1

        def forward(self, x):
            return [look(x) for look in self.looks]

    model = Pixels()
    model.io = ModelIO((16, 16), ("a",), (HeadIO(16, ((1.0, 1.0),)),) * 3, 16, order)
    toolkit.export.onnx.export(model, tmp_path, (16, 16))
    x = np.zeros((8, channels, 16, 16), np.float32)
    for colour, (row, column, value) in enumerate(places):
        x[:, colour % channels, row, column] = value / 255
    (path,) = export(tmp_path / "model.onnx", tmp_path, "int8", model.io, x)
    found = MnnModel(path, model.io).predict(x[:1])
    for (*_, value), out in zip(places, found, strict=True):
        np.testing.assert_allclose(out, value / 255, atol=2 / 255)


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="no account of threads on this system")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads(threads, exported, tmp_path):
    """How many threads do work, in a process of its own, where no other engine has threads."""
    _, folder = exported("yoloface-500k-v2")
    io, source = create_model("yoloface-500k-v2").io, folder / "model.onnx"
    assert OpenVinoModel(source, io, threads).model.get_property("INFERENCE_NUM_THREADS") == threads
    (path,) = export(source, tmp_path, "fp32", io)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from toolkit import create_model\n"
        "from toolkit.export.mnn import MnnModel\n"
        "model = MnnModel(Path(sys.argv[1]), create_model('yoloface-500k-v2').io, int(sys.argv[2]))\n"
        "x = np.zeros((1, 3, 288, 352), np.float32)\n"
        "model.predict(x)\n"
        "def spent():\n"
        "    tasks = Path('/proc/self/task').iterdir()\n"
        "    return {task.name: int((task / 'schedstat').read_text().split()[0]) for task in tasks}\n"
        "before = spent()\n"
        "for _ in range(20):\n"
        "    model.predict(x)\n"
        "after = spent()\n"
        "print(sum(after[task] - before.get(task, 0) > 5e6 for task in after))\n"  # nanoseconds
    )
    command = [sys.executable, "-c", script, str(path), str(threads)]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) == threads


def test_nothing_on_standard_output_and_no_telemetry(exported, tmp_path):
    model, folder = exported("yoloface-50k")
    export(folder / "model.onnx", tmp_path, "fp32", model.io)
    (tmp_path / "bad.mnn").write_bytes(b"no")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from toolkit import create_model\n"
        "from toolkit.export.mnn import MnnModel\n"
        "from toolkit.export.openvino import OpenVinoModel\n"
        "from toolkit.runtime import InputError\n"
        "io = create_model('yoloface-50k').io\n"
        "for path in sys.argv[1:3]:\n"
        "    try:\n"
        "        MnnModel(Path(path), io)\n"
        "    except InputError:\n"
        "        print('refused')\n"
        "OpenVinoModel(Path(sys.argv[3]), io)\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
    )
    paths = [tmp_path / "model-fp32.mnn", tmp_path / "bad.mnn", folder / "model.onnx"]
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home)},
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    assert not (home / "intel").exists()


def test_bad_input(exported, tmp_path):
    model, folder = exported("yoloface-50k")
    source, io = folder / "model.onnx", model.io
    good = np.zeros((1, 3, 56, 56), np.float32)
    for precision, samples, message in (
        ("int4", None, "unknown precision 'int4': MNN has fp32, fp16, int8-weights, int8"),
        ("int8", None, "none were given"),
        ("int8", good[:0], "none were given"),
        ("int8", good[0], r"network inputs \(N, 3, H, W\) in 0..1, found \(3, 56, 56\)"),
        ("int8", good + 255, "in 255..255"),
    ):
        with pytest.raises(InputError, match=message):
            export(source, tmp_path, precision, io, samples)
    with pytest.raises(InputError, match="there is no .*nowhere.onnx to convert"):
        convert(tmp_path / "nowhere.onnx", tmp_path / "a.mnn", "ONNX")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(source.read_bytes()[:1000])
    with pytest.raises(InputError, match="mnnconvert cannot take this file: .*read onnx model failed"):
        convert(damaged, tmp_path / "a.mnn", "ONNX")
    with pytest.raises(InputError, match="mnnconvert cannot take this file"):
        convert(source, tmp_path / "a.mnn", "CAFFE")
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.onnx"]
    (path,) = export(source, tmp_path, "fp32", io)
    with pytest.raises(InputError, match="not a multiple of this network's stride"):
        MnnModel(path, io).predict(np.zeros((1, 3, 56, 57), np.float32))
    with pytest.raises(InputError, match="there is no .*a.mnn"):
        MnnModel(tmp_path / "a.mnn", io)
    with pytest.raises(InputError, match="no export of a network with 2 outputs"):
        MnnModel(path, create_model("fastest-v2").io)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(InputError, match="it is damaged"):
        MnnModel(path, io)
    with pytest.raises(InputError, match="OpenVINO cannot open .*damaged.onnx"):
        OpenVinoModel(damaged, io)
    with pytest.raises(InputError, match="expected one input and 2 outputs"):
        OpenVinoModel(source, create_model("fastest-v2").io)
    with pytest.raises(InputError, match="takes 56x56, not 64x56"):
        OpenVinoModel(source, io).predict(np.zeros((1, 3, 56, 64), np.float32))
