"""The runner against the ncnn wheel: the same detections from the same bytes, on every processor.

The ARM binaries run under qemu, which says nothing about their speed. Networks without published weights have
random ones; the threshold of each is chosen such that about ten boxes lie above it.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import ncnn
import numpy as np
import pytest

from tests.device.wheel import LEAST, Found, Wheel, assert_equal, found_by
from tests.small import CFGS, KINDS, from_cfg, small, wide_and_tall
from toolkit.boxes import iou
from toolkit.device.build import ABIS
from toolkit.export.folder import open_export
from toolkit.export.write import export_model
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run as detect
from toolkit.models.published import can_fetch
from toolkit.models.zoo import SPECS
from toolkit.pictures import load_image, save_image
from toolkit.runtime import InputError
from toolkit.samples import photographs

FORMATS = ("ncnn", "ncnn-fp16", "ncnn-int8")
OTHERS = 0.04  # how far scores and edges may move but in float32
SIZES = {"spp-coco": (224, 224)}  # at its own it needs minutes under qemu
# in squeeze-and-excitation a last bit may still count; all other networks are equal everywhere in int8
EXCITED = ("fastest-v2", "yoloface-500k-se", "yoloface-500k-v2")
# without half precision: several times as fast under qemu, and all that float32 needs
PLAIN_CPU = {"arm64-v8a": "cortex-a57", "armeabi-v7a": "cortex-a15", "x86_64": ""}


@pytest.fixture(scope="session")
def exported(trained, data, tmp_path_factory):
    """name -> a folder with `FORMATS`, quantised roughly: here runners are compared, not scores."""
    root = tmp_path_factory.mktemp("exports")
    pictures = sorted((data / "voc2012_sub1200").rglob("*.jpg"))[:8]

    def get(name: str) -> Path:
        if not (root / name).exists():
            model = trained(name).eval()
            if not can_fetch(f"{name}/{name}.weights"):
                for head in model.heads:  # random ones reach 20, where every score is 1 and boxes are huge
                    head.out.conv.weight.data /= 3
            more = {"method": "minmax", "accept_loss": True}  # speed, and random weights, in part
            more |= {"size": SIZES.get(name), "calibration": pictures, "name": name}
            export_model(model, root / name, FORMATS, **more)
        return root / name

    return get


def picture_of(name: str, zoo: Path) -> Path:
    return zoo / "images" / ("person.jpg" if "face" in name else "dog.jpg")


def assert_similar(found: Found, wheel: Wheel, conf: float, tolerance: float) -> None:
    """Every box found above `conf` is one of the wheel's candidates, and what the wheel finds clearly above
    it is found. Of boxes with nearly equal scores suppression may keep either."""
    assert len(found.scores)
    candidates = wheel.found(max(conf - tolerance, LEAST), suppressed=False)
    assert found.from_nearest(candidates) <= tolerance
    wanted = wheel.found(conf).above(conf + tolerance)
    overlaps = iou(wanted.boxes, found.boxes) * (wanted.classes[:, None] == found.classes[None])
    assert (overlaps.max(axis=1, initial=0) > 0.45).all()


def answer(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def raw_of(zoo, tmp_path_factory):
    """name -> a picture for that network, and the runner's options for its RGB bytes."""

    def get(name):
        image = load_image(picture_of(name, zoo))
        path = tmp_path_factory.getbasetemp() / f"{picture_of(name, zoo).stem}.rgb"
        path.write_bytes(image.tobytes())
        return image, ("--raw", path, "--size", f"{image.shape[1]}x{image.shape[0]}")

    return get


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("abi", ABIS)
def test_float32_equals_the_wheel(abi, name, exported, raw_of, execute):
    image, raw = raw_of(name)
    wheel = Wheel(exported(name), "ncnn", image)
    conf = wheel.conf()
    reading = answer(execute(abi, "detect", exported(name), *raw, "--conf", conf, cpu=PLAIN_CPU[abi]))
    assert reading["runtime"]["abi"] == abi
    assert_equal(found_by(reading), wheel.found(conf))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("fmt", ["ncnn-fp16", "ncnn-int8"])
@pytest.mark.parametrize("abi", ABIS)
def test_other_precisions_are_near_the_wheel(abi, fmt, name, exported, raw_of, execute):
    image, raw = raw_of(name)
    wheel = Wheel(exported(name), fmt, image)
    conf = wheel.conf()
    reading = answer(execute(abi, "detect", exported(name), *raw, "--conf", conf, "--format", fmt))
    assert reading["settings"]["precision"] == fmt.removeprefix("ncnn-")
    assert_similar(found_by(reading), wheel, conf, OTHERS)
    if fmt == "ncnn-int8" and name not in EXCITED:
        assert_equal(found_by(reading), wheel.found(conf))


def test_half_precision_has_kernels_of_its_own(exported, raw_of, execute):
    """Without armv8.2's flags in the build, fp16 would silently run in float32."""
    _, raw = raw_of("fastest-v2")
    words = ("detect", exported("fastest-v2"), *raw, "--format", "ncnn-fp16", "--conf", 0.1)
    old, new = (answer(execute("arm64-v8a", *words, cpu=cpu)) for cpu in ("cortex-a57", "max"))
    assert {"asimdhp", "asimddp"} <= set(new["cpu"]["features"])
    assert "asimdhp" not in old["cpu"]["features"]
    assert new["detections"] != old["detections"]


@pytest.mark.parametrize("abi", ABIS)
@pytest.mark.parametrize("name", ["fastest-v2", "yoloface-500k-v2"])
def test_from_the_jpeg(name, abi, exported, zoo, execute):
    """Two decoders and two ways to resize lie between the runner and the library."""
    path = picture_of(name, zoo)
    reading = answer(execute(abi, "detect", exported(name), "--picture", path, cpu=PLAIN_CPU[abi]))
    model, image = open_export(exported(name), "ncnn"), load_image(path)
    (boxes,) = detect(model, [image])
    size = np.array([image.shape[1], image.shape[0]] * 2)
    wanted = Found(boxes.boxes / size, boxes.scores, np.array(model.io.classes)[boxes.class_ids])
    found = found_by(reading)
    assert_equal(Found(found.boxes.clip(0, 1), found.scores, found.classes), wanted, 0.03)


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """kind -> the folder of a small network in float32 and int8, quantised roughly."""
    root = tmp_path_factory.mktemp("kinds")
    for name, picture in {**photographs(), **wide_and_tall()}.items():
        save_image(root / "pictures" / f"{name}.png", picture)

    def get(kind: str) -> Path:
        if not (root / kind).exists():
            formats, pictures = ("ncnn", "ncnn-int8"), root / "pictures"
            more = {"method": "minmax", "accept_loss": True}
            export_model(small(kind), root / kind, formats, calibration=pictures, name=kind, **more)
        return root / kind

    return get


@pytest.fixture(scope="session")
def raw_pictures(tmp_path_factory):
    """(picture, the runner's options for its RGB bytes), a wide and a tall one."""
    root, made = tmp_path_factory.mktemp("raw"), []
    for name, image in wide_and_tall().items():
        (root / name).write_bytes(image.tobytes())
        made.append((image, ("--raw", root / name, "--size", f"{image.shape[1]}x{image.shape[0]}")))
    return made


@pytest.mark.parametrize("fmt", ["ncnn", "ncnn-int8"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("abi", ABIS)
def test_the_networks_own_fit_colours_and_heads(abi, kind, fmt, kinds, raw_pictures, execute):
    for image, raw in raw_pictures:
        wheel = Wheel(kinds(kind), fmt, image)
        conf = wheel.conf()
        words = ("detect", kinds(kind), *raw, "--conf", conf, "--format", fmt)
        reading = answer(execute(abi, *words, cpu=PLAIN_CPU[abi]))
        assert_equal(found_by(reading), wheel.found(conf))


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_finds_the_same(kind, kinds, raw_pictures, execute):
    """Without ncnn's way to resize on this side."""
    for image, raw in raw_pictures:
        conf = Wheel(kinds(kind), "ncnn", image).conf()
        reading = answer(execute("x86_64", "detect", kinds(kind), *raw, "--conf", conf))
        model = open_export(kinds(kind), "ncnn")
        (boxes,) = detect(model, [image], DetectSettings(conf=conf, clip=False))
        size = np.array([image.shape[1], image.shape[0]] * 2)
        names = np.array(model.io.classes)[boxes.class_ids]
        assert_equal(found_by(reading), Found(boxes.boxes / size, boxes.scores, names), 0.01)


@pytest.mark.parametrize("name", CFGS)
def test_from_darknets_cfg_to_the_runner(name, raw_pictures, execute, tmp_path):
    """channels=1, letter_box=1, [region] and [Gaussian_yolo] through torch and ncnn into C++."""
    model = from_cfg(name, tmp_path)
    export_model(model, tmp_path / "net", ["ncnn"], name=name)
    for image, raw in raw_pictures:
        wheel = Wheel(tmp_path / "net", "ncnn", image)
        conf = wheel.conf()
        for abi in ("x86_64", "arm64-v8a"):
            words = ("detect", tmp_path / "net", *raw, "--conf", conf)
            found = found_by(answer(execute(abi, *words, cpu=PLAIN_CPU[abi])))
            assert_equal(found, wheel.found(conf))
        (boxes,) = detect(model, [image], DetectSettings(conf=conf, clip=False))
        size = np.array([image.shape[1], image.shape[0]] * 2)
        names = np.array(model.io.classes)[boxes.class_ids]
        assert_equal(found, Found(boxes.boxes / size, boxes.scores, names), 0.01)


def test_a_folder_of_an_older_version_is_read_as_it_was_meant(network, raw_pictures, execute):
    _, raw = raw_pictures[0]
    now = answer(execute("x86_64", "detect", network, *raw))["detections"]

    def make_older(spec):
        del spec["io"]["fit"]
        for head in spec["io"]["heads"]:
            del head["softmax"], head["gaussian"]

    change_spec(network, make_older)
    assert now
    assert answer(execute("x86_64", "detect", network, *raw))["detections"] == now
    assert open_export(network).io.fit == "stretch"


@pytest.mark.parametrize(("key", "value"), [("fit", "crop"), ("channel_order", "YUV")])
def test_python_refuses_what_a_newer_spec_says(key, value, network):
    change_spec(network, lambda spec: spec["io"].update({key: value}))
    with pytest.raises(InputError, match=f"{key} '{value}', which this version does not know.*: update it"):
        open_export(network)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_bench_has_the_members_of_a_reading(threads, exported, raw_of, execute):
    image, raw = raw_of("fastest-v2")
    folder = exported("fastest-v2")
    words = ("bench", folder, *raw, "--threads", threads, "--warmup", 2, "--loops", 5, "--powersave", 0)
    reading = answer(execute("x86_64", *words))
    assert (reading["schema"], reading["kind"]) == (1, "bench")
    spec = json.loads((folder / "spec.json").read_text())
    files = spec["formats"]["ncnn"]["files"]
    assert reading["model"] == {
        "name": "fastest-v2",
        "format": "ncnn",
        "sha256": {name: facts["sha256"] for name, facts in files.items()},
    }
    assert reading["input"] == {"picture": "dog.rgb", "width": image.shape[1], "height": image.shape[0]}
    assert reading["settings"] == {
        "threads": threads,
        "powersave": 0,
        "precision": "fp32",
        "vulkan": False,
        "warmup": 2,
        "conf": spec["threshold"],
        "run_as": "program",
    }
    assert reading["runtime"]["threads"] == "own"
    assert reading["runtime"]["ncnn"] == ncnn.__version__
    assert reading["cpu"]["cores"] >= 1
    samples = reading["samples"]
    assert set(samples) == {"start_ms", "preprocess_ms", "inference_ms", "postprocess_ms"}
    assert all(len(values) == 5 and min(values) >= 0 for values in samples.values())
    assert samples["start_ms"][0] == 0
    assert np.all(np.diff(samples["start_ms"]) > 0)
    parts = sum(samples[f"{part}_ms"][0] for part in reading["first_ms"])
    assert parts == pytest.approx(samples["start_ms"][1], rel=0.2, abs=1)
    assert reading["load_ms"] > 0
    memory = reading["rss_kb"]
    assert 0 < memory["start"] < memory["loaded"] <= memory["peak"]
    once = answer(execute("x86_64", "detect", folder, *raw))
    assert "samples" not in once
    assert reading["detections"] == once["detections"]
    assert once["detections"]


def test_seconds_end_a_bench(exported, raw_of, execute):
    _, raw = raw_of("yoloface-50k")
    words = ("bench", exported("yoloface-50k"), *raw, "--warmup", 1, "--seconds", 0.5, "--loops", 3)
    start = answer(execute("x86_64", *words))["samples"]["start_ms"]
    assert len(start) > 3
    assert start[-1] < 500


def test_more_threads_than_processors_agree(exported, raw_of, execute):
    _, raw = raw_of("nano-coco")
    words = ("detect", exported("nano-coco"), *raw, "--conf", 0.1, "--threads")
    one, many = (found_by(answer(execute("x86_64", *words, threads))) for threads in (1, 7))
    assert_equal(one, many)


BAD = [
    ((), "expected: runner bench|detect|count FOLDER"),
    (("time", "{folder}"), "expected: runner bench|detect|count FOLDER"),
    (("detect", "{folder}"), "either --picture FILE or --raw FILE"),
    (("detect", "{folder}", "--picture"), "--picture needs a value"),
    (("detect", "{folder}", "--picture", "x.jpg", "--colour", "red"), "unknown option --colour"),
    (("detect", "{folder}", "--picture", "nowhere.jpg"), "does not decode as a picture"),
    (("detect", "{folder}", "--raw", "nowhere.rgb", "--size", "4x4"), "cannot read nowhere.rgb"),
    (("detect", "{folder}", "--raw", "{raw}"), "--raw needs --size"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4"), "--size takes WIDTHxHEIGHT"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x0"), "--size takes a number from 1"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x5"), "has 48 bytes, not the 60"),
    (("detect", "nowhere", "--raw", "{raw}", "--size", "4x4"), "cannot read nowhere/spec.json"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x4", "--format", "onnx"), "has no onnx"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x4", "--format", "ncnn-bf16"), "has no ncnn-bf16"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x4", "--threads", "0"), "--threads takes a number"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x4", "--threads", "1.5"), "takes a whole number"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x4", "--conf", "nan"), "--conf takes a number"),
    (("detect", "{folder}", "--raw", "{raw}", "--size", "4x4", "--vulkan", "1"), "has no Vulkan"),
    (("bench", "{folder}", "--raw", "{raw}", "--size", "4x4", "--warmup", "0"), "--warmup takes a number"),
]


@pytest.mark.parametrize(("words", "said"), BAD)
def test_bad_words(words, said, network, tmp_path, execute):
    raw = tmp_path / "4x4.rgb"
    raw.write_bytes(bytes(48))
    done = execute("x86_64", *(word.format(folder=network, raw=raw) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def change_spec(network, change):
    path = network / "spec.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "spec.json").write_text("{"), "spec.json: it ends too early"),
        (lambda f: change_spec(f, lambda spec: spec["io"].pop("heads")), "spec.json: no heads"),
        (
            lambda f: change_spec(f, lambda spec: spec["io"].update(fit="crop")),
            "fit is crop, and this program",
        ),
        (
            lambda f: change_spec(f, lambda spec: spec["io"]["classes"].append("x")),
            "a map of 18 channels, not 21",
        ),
        (lambda f: (f / "model-fp32.bin").unlink(), "model-fp32.bin"),
        (lambda f: (f / "model-fp32.bin").write_bytes((f / "model-fp32.bin").read_bytes()[:-9]), "damaged"),
        (
            lambda f: (f / "model-fp32.bin").write_bytes((f / "model-fp32.bin").read_bytes() + b"12"),
            "damaged",
        ),
        (lambda f: (f / "model-fp32.param").write_text("7767517\n"), "damaged"),
    ],
    ids=[
        "half a spec",
        "no heads",
        "newer",
        "another class",
        "no weights",
        "weights cut off",
        "weights too long",
        "half a param",
    ],
)
def test_damaged_folders(damage, said, network, zoo, execute):
    damage(network)
    done = execute("x86_64", "detect", network, "--picture", zoo / "images" / "dog.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.splitlines()[-1]


def allowed_calls(processor: str) -> set[str]:
    lines = (Path(__file__).parent / "android_syscalls.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {name for name, *places in rows if processor in places}


@pytest.mark.parametrize("words", [("detect",), ("bench", "--threads", "2", "--warmup", "2", "--loops", "3")])
@pytest.mark.parametrize(
    ("abi", "processor"), [("arm64-v8a", "arm64"), ("armeabi-v7a", "arm"), ("x86_64", "x86_64")]
)
def test_system_calls_that_an_android_app_may_make(
    abi, processor, words, runners, network, zoo, tmp_path, execute
):
    picture = ("--picture", zoo / "images" / "dog.jpg")
    kind, *options = words
    if abi == "x86_64":
        if shutil.which("strace") is None:
            pytest.skip("strace is not installed")
        log = tmp_path / "calls"
        command = ["strace", "-f", "-qq", "-o", log, runners[abi], kind, network, *picture, *options]
        subprocess.run(command, check=True, capture_output=True)
        text = log.read_text()
    else:
        done = execute(abi, kind, network, *picture, *options, emulator=["-strace"])
        assert done.returncode == 0
        text = done.stderr
    made = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert {"mmap2" if processor == "arm" else "mmap", "exit_group"} <= made
    assert ("clone" in made) == ("2" in options)
    assert made <= allowed_calls(processor), f"not on Android's list: {made - allowed_calls(processor)}"
