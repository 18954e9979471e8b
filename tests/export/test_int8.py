"""NCNN int8: its arithmetic in numpy, files that open again, choices that lower the error, bad input."""

import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from toolkit.data.toy import make_toy
from toolkit.export.int8.exact import integers, on_grid, weight_scales
from toolkit.export.int8.file import encode
from toolkit.export.int8.judge import Bench
from toolkit.export.int8.pictures import calibration_inputs, set_apart
from toolkit.export.int8.quantize import Int8Facts, picture, quantize
from toolkit.export.int8.ranges import METHODS, equalise, threshold
from toolkit.export.ncnn import NcnnModel
from toolkit.inference.preprocess import preprocess
from toolkit.models.ncnn_file import Layer, read_model
from toolkit.pictures import load_image
from toolkit.runtime import InputError
from toolkit.samples import photograph_parts


def crops(pictures, io, count=12):
    """Parts of the photographs as network inputs (count, 3, H, W)."""
    rng = np.random.default_rng(0)
    images = list(pictures.values())
    samples = []
    for i in range(count):
        image = images[i % len(images)]
        h, w = (int(side * rng.uniform(0.5, 1)) for side in image.shape[:2])
        top, left = rng.integers(0, image.shape[0] - h + 1), rng.integers(0, image.shape[1] - w + 1)
        samples.append(preprocess(np.ascontiguousarray(image[top : top + h, left : left + w]), io)[0])
    return np.stack(samples)


@pytest.fixture(scope="module")
def given(exported, pictures):
    """name -> float32 .param and .bin, io, calibration inputs."""

    def get(name):
        model, folder = exported(name)
        return folder / "model-fp32.param", folder / "model-fp32.bin", model.io, crops(pictures, model.io)

    return get


@pytest.fixture(scope="module")
def quantized(given, tmp_path_factory):
    """yoloface-500k-v2 with the settings' own choices."""
    return quantize(*given("yoloface-500k-v2"), tmp_path_factory.mktemp("int8"))


def two_layers(rng, activation="1"):
    """A convolution, with ReLU if not told otherwise, and a depthwise one with leaky ReLU behind it."""
    weights = rng.normal(size=(8, 27)), rng.normal(size=(8, 9))
    biases = rng.normal(size=8), rng.normal(size=8)
    (w1, w2), (b1, b2) = ([v.astype(np.float32) for v in pair] for pair in (weights, biases))
    common = {"0": "8", "1": "3", "11": "3", "4": "1", "5": "1"}
    first = {**common, "3": "2", "6": "216", **({"9": activation} if activation else {})}
    return [
        Layer("Input", "in0", (), ("in0",), {}),
        Layer("Convolution", "a", ("in0",), ("1",), first, w1, b1),
        Layer(
            "ConvolutionDepthWise", "b", ("1",), ("out0",),
            {**common, "6": "72", "7": "8", "9": "2", "-23310": "1,0.1"}, w2, b2,
        ),
    ]  # fmt: skip


def run_ncnn(folder, param, binary, x, blob):
    import ncnn

    (folder / "m.param").write_text(param)
    (folder / "m.bin").write_bytes(binary)
    net = ncnn.Net()
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(folder / "m.param")) == 0
    assert net.load_model(str(folder / "m.bin")) == 0
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(x))
    return np.array(extractor.extract(blob)[1])


def by_hand(x, weight, bias, peak, stride, groups, slope):
    """An int8 convolution in whole numbers: quantise, convolve, scale, add, rectify."""
    top = np.rint(x * np.float32(127 / peak)).clip(-127, 127)
    scales = weight_scales(weight, np.float32(127 / peak))
    kernel = integers(weight, scales).reshape(len(weight), -1, 3, 3)
    whole = (torch.from_numpy(v.astype(np.float64)) for v in (top[None], kernel))
    summed = conv2d(*whole, stride=stride, padding=1, groups=groups)[0].numpy()
    result = summed / (np.float32(127 / peak) * scales)[:, None, None] + bias[:, None, None]
    return np.where(result > 0, result, slope * result)


def test_int8_layers_equal_numpy(tmp_path):
    """One layer alone in int8, and both with the first one's output staying int8."""
    rng = np.random.default_rng(0)
    layers = two_layers(rng, activation="")
    x = rng.random((3, 14, 18), np.float32)
    peaks = {"in0": 0.9, "1": 3.0}  # below the largest values: clipping counts too
    _, a, b = layers
    first = by_hand(x, a.weight, a.bias, 0.9, 2, 1, 1.0)
    assert first.max() > 3.0
    second = by_hand(first, b.weight, b.bias, 3.0, 1, 8, 0.1)

    param, binary = encode(layers[:2], peaks, ["a"])
    assert " 8=1\n" in param
    np.testing.assert_allclose(run_ncnn(tmp_path, param, binary, x, "1"), first, atol=1e-5)

    param, binary = encode(layers, peaks, ["a", "b"])
    assert param.count(" 8=101\n") == param.count(" 8=1\n") == 1
    # ncnn's depthwise kernel for x86 divides by the scales with rcpps, which has 12 bits
    atol = 4e-4 * np.abs(second).max()
    np.testing.assert_allclose(run_ncnn(tmp_path, param, binary, x, "out0"), second, rtol=0, atol=atol)
    wrong = by_hand(first, b.weight, b.bias, 3.1, 1, 8, 0.1)
    assert np.abs(wrong - second).max() > 4 * atol
    # weights + bias + scales of the weights, the input and, in the first, the output
    assert len(binary) == (4 + 216 + 32 + 32 + 8) + (4 + 72 + 32 + 32 + 4)
    # behind an activation, processors scale differently
    param, _ = encode(two_layers(rng), peaks, ["a", "b"])
    assert param.count(" 8=1\n") == 2


@pytest.mark.parametrize("inputs", [9, 27, 200, 1500])
def test_sums_of_integers_become_float32_without_rounding(inputs):
    rng = np.random.default_rng(inputs)
    for _ in range(50):
        weight = (rng.normal(size=(16, inputs)) * 10 ** rng.uniform(-3, 3)).astype(np.float32)
        weight[3] = 0
        input_scale = np.float32(10 ** rng.uniform(-3, 3))
        scales = weight_scales(weight, input_scale)
        assert scales[3] == 0
        live = np.arange(16) != 3
        largest = np.abs(weight).max(1)[live]
        used = scales[live] * largest / 127
        assert used.max() <= 1 + 1e-6
        assert used.min() > 0.5
        whole = integers(weight, scales)
        sums = (whole.astype(np.int64) @ rng.integers(0, 128, inputs))[live].astype(np.float32)
        factor = 1 / (input_scale * scales[live])  # as ncnn computes it
        np.testing.assert_array_equal((sums * factor).astype(np.float64), sums.astype(float) * factor)


@pytest.mark.parametrize("inputs", [9, 25, 27, 400])
def test_sums_on_a_grid_are_exact_in_any_order(inputs):
    rng = np.random.default_rng(inputs)
    weight = rng.normal(size=(8, inputs)).astype(np.float32)
    bias = (3 * rng.normal(size=8)).astype(np.float32)
    weight[5] = bias[5] = 0
    for peak in (0.03, 7.0, 900.0):
        grid, rounded, shifted = on_grid(weight, bias, peak)
        x = (peak * rng.random(inputs)).astype(np.float32)
        whole = np.floor(x * np.float32(1 / grid) + np.float32(0.5))
        assert whole.max() <= 2**11
        wanted = rounded.astype(float) @ whole + shifted
        error = np.abs(wanted - (weight.astype(float) @ x + bias))
        assert error.max() < 0.01 * peak * np.abs(weight).sum(1).max()
        for row in range(8):  # the largest sums that there are
            whole = np.float32(1 / grid * peak) * np.sign(rounded[row])
            whole = np.rint(whole).astype(np.float32)
            total = np.float32(shifted[row])
            for i in rng.permutation(inputs):
                total += rounded[row, i] * whole[i]
            assert total == rounded[row].astype(float) @ whole.astype(float) + shifted[row]
        assert not rounded[5].any()


def activated(values, activation):
    """ncnn's key 9 in numpy."""
    if activation == "4":
        return 1 / (1 + np.exp(-values))
    slope = {"": 1.0, "1": 0.0, "2": 0.1}[activation]
    return np.where(values > 0, values, slope * values)


def convolved(x, weight, bias, stride, groups):
    parts = (torch.from_numpy(v.astype(np.float64)) for v in (x[None], weight.reshape(len(weight), -1, 3, 3)))
    return conv2d(*parts, stride=stride, padding=1, groups=groups)[0].numpy() + bias[:, None, None]


@pytest.mark.parametrize("whole_numbers", [False, True], ids=["scaled by a layer", "by the layer before"])
@pytest.mark.parametrize("activation", ["", "1", "2", "4"], ids=["none", "ReLU", "leaky ReLU", "sigmoid"])
def test_what_stays_float_is_rounded_before(activation, whole_numbers, tmp_path):
    """A convolution and a depthwise one stay float, an int8 one follows: equal to sums of whole numbers, and
    near to what nothing was rounded in."""
    rng = np.random.default_rng(3)
    source, a, b = two_layers(rng, activation)
    if activation == "2":
        a = replace(a, options={**a.options, "-23310": "1,0.1"})
    x = rng.random((3, 14, 18), np.float32)
    plain = activated(convolved(x, a.weight, a.bias, 2, 1), activation)
    if whole_numbers and activation != "4":  # as equalising leaves it
        factor = np.float32(2**10 / np.abs(plain).max())
        a, b = (
            replace(a, weight=a.weight * factor, bias=a.bias * factor),
            replace(b, weight=b.weight / factor),
        )
        plain = plain * factor
    c = replace(a, name="c", inputs=("2",), outputs=("out0",), options={**a.options, "6": "576", "9": "0"})
    c = replace(c, weight=rng.normal(size=(8, 72)).astype(np.float32), input_peak=4.0)
    peak = float(np.abs(plain).max())
    a, b = replace(a, input_peak=1.0), replace(b, outputs=("2",), input_peak=peak)
    exact = activated(convolved(plain, b.weight, b.bias, 1, 8), "2")
    peaks = {"in0": 1.0, "1": peak, "2": float(np.abs(exact).max())}

    grid, weight, bias = on_grid(a.weight, a.bias, 1.0)
    first = activated(convolved(np.floor(x / grid + 0.5), weight, bias, 2, 1), activation)
    if activation == "4":
        first = np.floor(first * 1024 + 0.5) / 1024
    grid, weight, bias = on_grid(b.weight, b.bias, peak)
    assert (grid == 1) == (whole_numbers and activation != "4")
    second = activated(convolved(np.floor(first / grid + 0.5), weight, bias, 1, 8), "2")
    assert np.abs(second - exact).max() < 0.01 * np.abs(exact).max()
    wanted = by_hand(second.astype(np.float32), c.weight, c.bias, peaks["2"], 2, 1, 1.0)

    param, binary = encode([source, a, b, c], peaks, ["c"])
    found = run_ncnn(tmp_path, param, binary, x, "out0")
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())
    scaled = sum(line.startswith("Scale ") for line in param.splitlines())
    centred_before = whole_numbers and activation in ("", "1")
    assert scaled == (1 if centred_before else 2) + (activation == "4")


def test_an_input_with_two_readers(tmp_path):
    """Both round it, neither in the caller's memory."""
    rng = np.random.default_rng(4)
    source, a, _ = two_layers(rng)
    split = Layer("Split", "split", ("in0",), ("1", "2"), {})
    a = replace(a, input_peak=1.0, inputs=("1",), outputs=("3",))
    b = replace(a, name="b", inputs=("2",), outputs=("4",), weight=a.weight[::-1].copy())
    add = Layer("BinaryOp", "add", ("3", "4"), ("5",), {"0": "0"})
    c = replace(a, name="c", inputs=("5",), outputs=("out0",), options={**a.options, "6": "576"})
    c = replace(c, weight=rng.normal(size=(8, 72)).astype(np.float32))
    x = rng.random((3, 14, 18), np.float32)
    before = x.copy()
    layers, peaks = [source, split, a, b, add, c], {"in0": 1.0, "5": 20.0}
    found = run_ncnn(tmp_path, *encode(layers, peaks, ["c"]), x, "out0")
    wanted = run_ncnn(tmp_path, *encode(layers, {}, ()), x, "out0")
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())
    np.testing.assert_array_equal(x, before)


def test_equalising_changes_nothing_in_float(tmp_path):
    rng = np.random.default_rng(1)
    layers = two_layers(rng)
    layers[1].weight[:4] *= 50
    x = rng.random((3, 14, 18), np.float32)
    wanted = run_ncnn(tmp_path, *encode(layers, {}, ()), x, "out0")
    peak = np.abs(run_ncnn(tmp_path, *encode(layers, {}, ()), x, "1")).max((1, 2))
    changed, peaks = equalise(layers, {"in0": np.ones(3, np.float32), "1": peak})
    assert np.ptp(peaks["1"]) < 1e-3 * peaks["1"].max()
    assert np.ptp(peak) > 0.5 * peak.max()
    assert on_grid(changed[2].weight, changed[2].bias, float(peaks["1"].max()))[0] == 1
    found = run_ncnn(tmp_path, *encode(changed, {}, ()), x, "out0")
    np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=5e-3 * np.abs(wanted).max())


def test_a_blob_that_is_also_an_output_stays_as_it_is(tmp_path):
    """Neither equalised nor int8: it is seen from outside."""
    rng = np.random.default_rng(2)
    source, a, b = two_layers(rng)
    split = Layer("Split", "split", ("1",), ("2", "out1"), {})
    layers = [source, a, split, replace(b, inputs=("2",))]
    x = rng.random((3, 14, 18), np.float32)
    changed, _ = equalise(layers, {"in0": np.ones(3, np.float32), "1": np.arange(1, 9, dtype=np.float32)})
    np.testing.assert_array_equal(changed[1].weight, a.weight)
    param, binary = encode(layers, {"in0": 0.9, "1": 3.0}, ["a", "b"])
    found = run_ncnn(tmp_path, param, binary, x, "out1")
    np.testing.assert_allclose(found, by_hand(x, a.weight, a.bias, 0.9, 2, 1, 0.0), atol=1e-5)


def test_thresholds():
    """A bell with one far value: only minmax pays for it."""
    histogram = np.zeros(2048, int)
    histogram[:300] = (1e6 * np.exp(-((np.arange(300) / 100) ** 2))).astype(int)
    histogram[-1] = 1
    assert threshold(histogram, 10.0, "minmax") == 10.0
    for method in METHODS[1:]:
        assert 1.0 < threshold(histogram, 10.0, method) < 4.0, method
    assert all(threshold(np.zeros(2048, int), 1.0, method) == 1.0 for method in METHODS)


def test_defaults(quantized, given, pictures):
    param, binary, io, _ = given("yoloface-500k-v2")
    assert quantized.bytes == sum(file.stat().st_size for file in quantized.files)
    assert quantized.bytes <= 0.35 * quantized.float_bytes
    assert quantized.float_bytes == param.stat().st_size + binary.stat().st_size
    assert set(quantized.errors) == set(METHODS)
    assert quantized.method == min(quantized.errors, key=quantized.errors.get)
    weighted = [layer for layer in read_model(param, binary) if layer.weight is not None]
    names = [layer.name for layer in weighted]
    assert [row.name for row in quantized.sensitivity] == names
    depthwise = {row.name for row in quantized.sensitivity if row.kind == "ConvolutionDepthWise"}
    assert len(depthwise) == 16
    window = {layer.name: int(layer.options.get("1", "1")) ** 2 for layer in weighted}
    few = {
        layer.name
        for layer in weighted
        if layer.kind == "Convolution" and layer.weight.shape[1] < 8 * window[layer.name]
    }
    assert few == {"convrelu_0", "convrelu_1", "convrelu_2", "convrelu_3"}  # of 3, 4, 6 and 6 channels
    assert few < {*quantized.float_layers}
    chosen = {*quantized.float_layers} - depthwise - few
    # other float layers were worth it, and they are among the more sensitive
    assert 0 < len(chosen) <= len(names) / 5
    assert quantized.error < 0.9 * quantized.errors[quantized.method]
    errors = {row.name: row.error for row in quantized.sensitivity}
    assert min(errors[name] for name in chosen) > np.median(list(errors.values()))
    assert all(0 < error < quantized.errors[quantized.method] for error in errors.values())

    both = NcnnModel(param, io, threads=1), NcnnModel(quantized.files[0], io, "int8", threads=1)
    x, _ = preprocess(pictures["astronaut"], io)
    wanted, found = (model.predict(x[None]) for model in both)
    assert 0 < io.output_error([wanted], [found]) < 3 * quantized.error
    stored = [line.split() for line in quantized.files[0].read_text().splitlines()[2:]]
    int8 = {words[1] for words in stored if {"8=1", "8=101"} & {*words}}
    assert int8 == {*names} - {*quantized.float_layers}
    # every float convolution that an int8 layer follows reads whole numbers
    read_by = {words[4]: words[1] for words in stored if words[0].startswith("Convolution")}
    assert depthwise <= {read_by.get(words[1], "") for words in stored if words[0] == "UnaryOp"}


def test_named_float_layers(given, tmp_path):
    """All layers float is float32 but for float16 weights; one of the worst is better than none."""
    files = given("yoloface-100k")
    names = [layer.name for layer in read_model(*files[:2]) if layer.weight is not None]
    everything = quantize(*files, tmp_path / "a", "mse", names)
    assert everything.error < 1e-3
    none = quantize(*files, tmp_path / "b", "mse", ())
    assert none.float_layers == ()
    assert " 8=101\n" in none.files[0].read_text()  # some pass int8 on
    worst = max(none.sensitivity, key=lambda row: row.error).name
    one = quantize(*files, tmp_path / "c", "mse", [worst])
    assert one.float_layers == (worst,)
    assert everything.error < one.error < none.error == none.errors["mse"]


def test_what_came_before_a_layer_need_not_run_again(given, tmp_path, monkeypatch):
    """The sensitivity of each, with what came before taken as known, is what it is from the picture on."""
    error, pairs = Bench.error, []

    def both(bench, peaks, floats, start=0):
        found = error(bench, peaks, floats, start)
        if start:
            pairs.append((found, error(bench, peaks, floats)))
        return found

    monkeypatch.setattr(Bench, "error", both)
    rows = quantize(*given("yoloface-100k"), tmp_path, "mse", ()).sensitivity
    assert len(pairs) == len(rows)
    known, whole = zip(*pairs, strict=True)
    assert known == pytest.approx(whole, rel=1e-3)


def test_leaky_networks_and_the_picture(given, tmp_path):
    result = quantize(*given("yoloface-50k"), tmp_path)
    assert 0 < result.error < 0.5
    picture(result).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert result.as_dict()["sensitivity"][0]["name"] == result.sensitivity[0].name


def test_calibration_inputs(given, pictures, tmp_path):
    io = given("yoloface-50k")[2]
    for i, image in enumerate([*pictures.values()] * 2):
        cv2.imwrite(str(tmp_path / f"{i:02d}.png"), cv2.cvtColor(image[::4, ::4], cv2.COLOR_RGB2BGR))
    paths = sorted(tmp_path.glob("*.png"))
    (tmp_path / "list.txt").write_text("\n".join(path.name for path in paths) + "\n\n")
    wanted = np.stack([preprocess(image, io)[0] for image in [i[::4, ::4] for i in pictures.values()] * 2])
    for source in (tmp_path, tmp_path / "list.txt", paths):
        np.testing.assert_array_equal(calibration_inputs(source, io), wanted)
    assert len(calibration_inputs(paths, io, limit=9)) == 9

    with pytest.raises(InputError, match="at least 8 pictures, better 200, and 1 were given"):
        calibration_inputs(paths[0], io)
    (tmp_path / "empty.txt").write_text("\n")
    for source in (tmp_path / "empty.txt", []):
        with pytest.raises(InputError, match="and 0 were given"):
            calibration_inputs(source, io)
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff" * 9 + b"\0")
    for name, words in (("none", "is missing"), ("pipe", "not a file"), ("bytes", "not a text")):
        with pytest.raises(InputError, match=rf"{name}\.txt .*{words}"):
            calibration_inputs(tmp_path / f"{name}.txt", io)
    (tmp_path / "03.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="1 of 14 .* are left out: .*03.png does not decode"):
        np.testing.assert_array_equal(calibration_inputs(tmp_path, io), np.delete(wanted, 3, 0))
    with pytest.raises(InputError, match="03.png does not decode"):
        calibration_inputs(paths, io)
    with pytest.raises(InputError, match="gone.jpg is missing"):
        calibration_inputs(["gone.jpg", *paths], io)
    for path in paths[4:11]:
        path.write_bytes(b"not a picture")
    with (
        pytest.warns(UserWarning, match="8 of 14"),
        pytest.raises(InputError, match="and 6 were given"),
    ):
        calibration_inputs(tmp_path, io)


def test_wrong_colours_are_noticed(given, data, tmp_path):
    param, binary, io, _ = given("yoloface-500k-v2")
    folder = data / "widerface_val"
    samples = calibration_inputs(sorted(folder.rglob("*.jpg"))[::150], io)
    with pytest.warns(UserWarning, match="with red and blue exchanged .* are they RGB"):
        quantize(param, binary, io, samples[:, ::-1].copy(), tmp_path, "minmax", ())
    param, binary, io, samples = given("yoloface-50k")
    grey = np.repeat(samples.mean(1, keepdims=True), 3, 1)
    with pytest.warns(UserWarning, match="calibration pictures are grey"):
        quantize(param, binary, io, grey, tmp_path, "minmax", ())


def test_bad_input(given, tmp_path):
    param, binary, io, samples = given("yoloface-50k")
    for change, message in (
        ({"method": "entropy"}, "unknown method 'entropy': known are best, minmax, percentile, mse, kl"),
        ({"float_layers": ["conv_99"]}, "has no layer 'conv_99' to quantise: it has convrelu_0"),
        ({"samples": samples[:1]}, "at least 8 pictures, 1 were given"),
        ({"samples": samples[:0]}, "at least 8 pictures, 0 were given"),
        ({"samples": samples * 255}, "takes values in 0..1, the calibration pictures are in"),
        ({"samples": samples.astype(np.float64)}, "takes float32"),
        ({"samples": samples[..., :50]}, "not a multiple of this network's stride"),
        ({"binary": tmp_path / "none.bin"}, "none.bin is missing"),
    ):
        given = {"param": param, "binary": binary, "io": io, "samples": samples, **change}
        with pytest.raises(InputError, match=message):
            quantize(folder=tmp_path / "out", **given)
    for length, message in (
        (-4, "are damaged or do not belong together"),
        (-3, "are damaged or do not belong together"),
    ):
        (tmp_path / "cut.bin").write_bytes(binary.read_bytes()[:length])
        with pytest.raises(InputError, match=message):
            quantize(param, tmp_path / "cut.bin", io, samples, tmp_path / "out")
    (tmp_path / "long.bin").write_bytes(binary.read_bytes() + bytes(4))
    size = binary.stat().st_size
    with pytest.raises(InputError, match=rf"{size + 4} bytes.* {size}\b"):
        read_model(param, tmp_path / "long.bin")
    done = quantize(param, binary, io, samples, tmp_path / "done", "minmax", ())
    with pytest.raises(InputError, match="is not float32"):
        quantize(*done.files, io, samples, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_facts_show_themselves(quantized):
    shown = Int8Facts(quantized.as_dict())
    assert shown.columns()["method for ranges"] == list(METHODS)
    assert shown.strong() == quantized.method
    assert quantized.float_layers[0] in shown.caption()
    bars = shown.figure().axes[0].patches
    assert len(bars) == len(quantized.sensitivity)


def test_what_is_scored_sets_no_ranges(tmp_path):
    dataset = make_toy(tmp_path / "toy", count=20, size=96)
    whole = replace(dataset, splits=np.full(20, "", "U5"))
    paths, scored = set_apart(whole, 8, 100, seed=1)
    assert len(paths) == 8
    assert len(scored) == 12
    assert not set(paths) & {scored.path(i) for i in range(12)}
    splits = np.array(["train"] * 15 + ["val"] * 5)
    paths, scored = set_apart(replace(dataset, splits=splits), 8, 3)
    assert set(paths) <= {dataset.path(i) for i in range(15)}
    assert (len(paths), len(scored), set(scored.splits.tolist())) == (8, 3, {"val"})


def test_photographs_stand_in_for_a_data_set(tmp_path):
    files = photograph_parts(tmp_path)
    assert len(files) == len(set(files)) == 56
    assert load_image(files[0]).shape[1] == 128  # a fourth of the astronaut
