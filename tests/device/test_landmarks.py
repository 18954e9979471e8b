"""The cascade on devices: the runner's landmarks against Python's, and what timing makes of them."""

import json
import shutil

import numpy as np
import pytest

from tests.device.conftest import wheel_points
from tests.small import small
from toolkit import create_model
from toolkit.device import agreement, readings, report, settings
from toolkit.device.build import ABIS, layers_of
from toolkit.device.readings import import_readings, read_reading, read_timings
from toolkit.device.settings import Load
from toolkit.device.timing import measure
from toolkit.export.folder import open_export
from toolkit.export.write import export_model
from toolkit.faces import detect_faces, windows_of_boxes
from toolkit.inference.backend import DetectSettings
from toolkit.pictures import load_image, save_image
from toolkit.runtime import InputError

SHORT = Load(warmup=1, loops=3, cooldown=0)


@pytest.fixture(scope="session")
def photograph(zoo):
    return zoo / "images" / "landmark-test.jpeg"


def answer(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def raw(image, path):
    path.write_bytes(np.ascontiguousarray(image).tobytes())
    return "--raw", path, "--size", f"{image.shape[1]}x{image.shape[0]}"


def apart(reading, image, network):
    """The largest difference to the wheel's points, as a part of the window, beyond two thousandths of a
    pixel: a reading rounds boxes and points."""
    found = np.array([row["landmarks"] for row in reading["detections"]])
    wanted, size = wheel_points(image, [row["box"] for row in reading["detections"]], network)
    assert found.shape == wanted.shape
    return ((np.abs(found - wanted) - 0.002) / size).max()


@pytest.mark.parametrize("fmt", ["ncnn", "ncnn-fp16"])
@pytest.mark.parametrize("abi", ABIS)
def test_the_points_of_python(abi, fmt, cascade, photograph, execute, tmp_path):
    detector, landmarks = cascade
    image = load_image(photograph)
    words = ("detect", detector, "--landmarks", landmarks, *raw(image, tmp_path / "x.rgb"), "--format", fmt)
    reading = answer(execute(abi, *words))
    assert reading["landmarks"]["name"] == "landmark106"
    assert reading["landmarks"]["format"] == fmt
    assert len(reading["detections"]) == 2
    assert apart(reading, image, open_export(landmarks, fmt, 1)) < (1e-4 if fmt == "ncnn" else 0.01)


def test_from_the_jpeg_as_detect_faces(cascade, photograph, execute):
    """Two decoders and two ways to resize lie between."""
    detector, landmarks = cascade
    reading = answer(execute("x86_64", "detect", detector, "--landmarks", landmarks, "--picture", photograph))
    wanted = detect_faces(photograph)
    assert len(reading["detections"]) == len(wanted) == 2
    for row, box, points in zip(reading["detections"], wanted.boxes, wanted.points, strict=True):
        far = np.abs(np.array(row["landmarks"]) - points).max()
        assert far < 0.02 * np.sqrt(np.prod(box[2:] - box[:2]))


def test_faces_of_a_grey_letterboxed_detector(cascade, photograph, tmp_path):
    """Landmarks are placed in colours, in boxes mapped back from the letterbox."""
    folder = tmp_path / "grey"
    export_model(small("grey letterbox"), folder, ["ncnn"], name="grey")
    ((_, reading),) = measure([folder], picture=photograph, load=SHORT, landmarks=cascade[1])
    assert reading.parity["agrees"]
    assert reading.parity["matched"] > 3
    wanted = detect_faces(
        photograph, open_export(folder), open_export(cascade[1]), DetectSettings(clip=False)
    )
    for row, box, points in zip(reading.detections, wanted.boxes, wanted.points, strict=True):
        side = (box[2:] - box[:2]).max()
        assert np.abs(np.array(row.box) - box).max() < 0.02 * side
        assert np.abs(np.array(row.landmarks) - points).max() < 0.02 * side


def test_faces_at_the_border_tiny_ones_and_none(cascade, photograph, execute, tmp_path):
    """Windows far outside the picture, boxes of less than a pixel, and pictures of one pixel."""
    detector, landmarks = cascade
    network = open_export(landmarks, "ncnn", 1)
    image = load_image(photograph)
    pictures = {
        "border": image[90:, 90:640],  # both faces are cut
        "tiny": image[::12, ::12],
        "narrow": image[:, 500:520],
        "pixel": image[:1, :1],
    }
    for name, picture in pictures.items():
        words = (
            "detect",
            detector,
            "--landmarks",
            landmarks,
            *raw(picture, tmp_path / name),
            "--conf",
            0.001,
        )
        reading = answer(execute("x86_64", *words))
        assert reading["detections"], name
        assert apart(reading, picture, network) < 1e-4
        none = answer(execute("x86_64", *words[:-1], 1))
        assert none["detections"] == []
        boxes = np.array([row["box"] for row in reading["detections"]], np.float32)
        windows, (height, width) = windows_of_boxes(boxes, network.io), picture.shape[:2]
        if name == "border":
            assert windows[:, :2].min() < 0
            assert (windows[:, 2:] > (width, height)).any()
        if name == "pixel":
            assert (boxes[:, 2:] - boxes[:, :2]).max() < 1


def test_a_bench_has_the_step(cascade, photograph, execute):
    detector, landmarks = cascade
    words = (
        "bench",
        detector,
        "--landmarks",
        landmarks,
        "--picture",
        photograph,
        "--warmup",
        1,
        "--loops",
        4,
    )
    reading = answer(execute("x86_64", *words))
    steps = ["preprocess", "inference", "postprocess", "landmarks"]
    assert list(reading["first_ms"]) == steps
    assert list(reading["samples"]) == ["start_ms", *(f"{step}_ms" for step in steps)]
    assert len(reading["samples"]["landmarks_ms"]) == 4
    assert min(reading["samples"]["landmarks_ms"]) > 0
    files = json.loads((landmarks / "spec.json").read_text())["formats"]["ncnn"]["files"]
    hashes = {name: facts["sha256"] for name, facts in files.items()}
    assert reading["landmarks"] == {"name": "landmark106", "format": "ncnn", "sha256": hashes}


def test_the_wrong_folder_is_one_sentence(cascade, photograph, execute, tmp_path):
    detector, landmarks = cascade
    single = shutil.copytree(landmarks, tmp_path / "single")
    spec = json.loads((single / "spec.json").read_text())
    del spec["formats"]["ncnn-fp16"]
    (single / "spec.json").write_text(json.dumps(spec))
    cut = shutil.copytree(landmarks, tmp_path / "cut")
    (cut / "model-fp32.bin").write_bytes((cut / "model-fp32.bin").read_bytes()[:-4])
    for words, said in (
        ((landmarks,), "landmark106 places landmarks and finds no objects: name it with --landmarks"),
        ((detector, "--landmarks", detector), "yoloface-100k finds objects and places no landmarks"),
        ((detector, "--landmarks", "nowhere"), "cannot read nowhere/spec.json"),
        ((detector, "--landmarks", single, "--format", "ncnn-fp16"), "landmark106 has no ncnn-fp16"),
        ((detector, "--landmarks", cut), "cannot open model-fp32.param: it is damaged"),
    ):
        done = execute("x86_64", "detect", *words, "--picture", photograph)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr.splitlines()[-1]


# --- timing -----------------------------------------------------------------------------------------------


def test_a_cascade_is_timed_on_this_machine(cascade, photograph, tmp_path):
    detector, landmarks = cascade[0], cascade[1]
    folder = shutil.copytree(detector, tmp_path / "detector")
    found = measure([folder], picture=photograph, load=SHORT)
    found += measure(
        [folder], formats=("ncnn", "ncnn-fp16"), picture=photograph, load=SHORT, landmarks=landmarks
    )
    assert read_timings(folder) == [reading for _, reading in found]
    for _, reading in found[1:]:
        assert reading.parity["agrees"], reading.parity
        assert reading.parity["points"] < 1e-4
        stages = report.summary(reading)
        assert stages["landmarks"].p50 > 0
        parts = sum(values[0] for values in reading.samples.stages.values())
        assert stages["total"].first == pytest.approx(parts)
    columns = report.table(found)
    assert columns["network"] == ["yoloface-100k", *["yoloface-100k + landmark106"] * 2]
    assert columns["landmarks, ms"][0] == "none"
    assert float(columns["landmarks, ms"][1]) > 0
    assert "landmarks, ms" not in report.table(found[:1])
    axes = report.draw_stages([reading for _, reading in found]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(readings.STAGES)
    assert len(axes.get_yticks()) == 3  # the cascade beside the detector alone
    report.draw_warming([reading for _, reading in found])


def test_agreement_tells_wrong_points(cascade, photograph, execute, tmp_path):
    detector, landmarks = cascade
    image, _ = settings.load_picture(photograph)
    task = agreement.timing_job(detector, "ncnn", image, landmarks)
    words = ("bench", detector, "--landmarks", landmarks, *raw(image, tmp_path / "x.rgb"), "--loops", 1)
    stated = answer(execute("x86_64", *words))

    def agrees(change) -> bool:
        rows = [change(row) for row in json.loads(json.dumps(stated["detections"]))]
        return agreement.compare_detections(task, read_reading({**stated, "detections": rows}, "a test"))[
            "agrees"
        ]

    def moved(row, pixels):
        row["landmarks"][50][1] += pixels
        return row

    assert agrees(lambda row: row)
    assert agrees(lambda row: moved(row, 0.1))
    assert not agrees(lambda row: moved(row, 1))
    assert not agrees(lambda row: {**row, "landmarks": row["landmarks"][1:]})
    assert not agrees(lambda row: {key: value for key, value in row.items() if key != "landmarks"})


def test_both_networks_of_an_apps_reading_are_looked_for(cascade, photograph, execute, tmp_path):
    detector, landmarks = cascade
    words = ("bench", detector, "--landmarks", landmarks, "--picture", photograph, "--loops", 1)
    file = tmp_path / "reading.json"
    file.write_text(json.dumps(answer(execute("x86_64", *words))))
    folder = shutil.copytree(detector, tmp_path / "exports" / "detector")
    with pytest.raises(InputError, match=r"is of a network landmark106 \(ncnn\) whose sha256 none"):
        import_readings([file], tmp_path / "exports")
    shutil.copytree(landmarks, tmp_path / "exports" / "points")
    assert import_readings([file], tmp_path / "exports") == {folder: 1}
    assert read_timings(folder)[0].network == "yoloface-100k + landmark106"


def test_what_cannot_be_timed_is_one_sentence(cascade, photograph, tmp_path):
    detector, landmarks = cascade
    assert layers_of([landmarks]) == layers_of([])
    damaged = shutil.copytree(landmarks, tmp_path / "damaged")
    (damaged / "model-fp32.bin").write_bytes(b"oops")
    export_model(create_model("landmark106"), tmp_path / "single", ["ncnn"])
    for folder, points, said in (
        (
            landmarks,
            None,
            "places landmarks and finds no objects: name a detector, and this one with --landmarks",
        ),
        (detector, detector, "finds objects and places no landmarks"),
        (detector, damaged, r"model-fp32\.bin is missing or differs from spec\.json \(sha256\)"),
        (detector, tmp_path / "single", "has no ncnn-fp16, it has ncnn"),
    ):
        with pytest.raises(InputError, match=said) as error:
            measure([folder], formats=("ncnn", "ncnn-fp16"), picture=photograph, landmarks=points)
        assert "\n" not in str(error.value)
    assert not (detector / "timing.json").exists()


def test_no_face_is_nothing_to_compare(cascade, tmp_path):
    folder = shutil.copytree(cascade[0], tmp_path / "detector")
    save_image(tmp_path / "grey.png", np.full((40, 60, 3), 127, np.uint8))
    ((_, reading),) = measure([folder], picture=tmp_path / "grey.png", load=SHORT, landmarks=cascade[1])
    assert reading.detections == []
    assert reading.parity["agrees"] is None
    assert len(reading.samples.landmarks_ms) == 3
