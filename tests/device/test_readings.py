"""Readings that a stranger wrote: what is refused, by its field, and what is not shown as it stands."""

import copy
import json
from functools import reduce

import pytest

from tests.device.test_timing import STATED
from toolkit.device.readings import MOST_SAMPLES, import_readings, keep, read_reading, read_timings
from toolkit.export.folder import Exported, FileFacts
from toolkit.models.zoo import SPECS
from toolkit.runtime import InputError

FILES = {"model-fp32.param": "2" * 64, "model-fp32.bin": "3" * 64}
READING = {**STATED, "model": {"name": "net", "format": "ncnn", "sha256": FILES}}
AGREEMENT = {"wanted": 1, "found": 1, "matched": 1, "score": 0.1, "box_px": 1.0, "agrees": True}
DETECTION = {"class": "a", "score": 0.5, "box": [0, 0, 1, 1]}
INFINITE = float("inf")


def changed(path, value, data=READING):
    """A copy with another value at a path such as "model.name"."""
    result = copy.deepcopy(data)
    *parts, last = path.split(".")
    reduce(lambda place, part: place[part], parts, result)[last] = value
    return result


@pytest.fixture
def folder(tmp_path):
    """An exported folder, as far as readings look at it."""
    path = tmp_path / "net"
    path.mkdir()
    files = {"ncnn": {name: FileFacts(1, sha256) for name, sha256 in FILES.items()}}
    Exported(path, "net", SPECS["yoloface-50k"].io, files, 0.25).save()
    return path


REFUSED = [
    ("schema", 2),
    ("kind", "count"),
    ("model", None),
    ("model.name", "a" * 1001),
    ("model.name", "\x1b[31mred"),
    ("model.format", "caffe"),
    ("model.sha256", {}),
    ("model.sha256", {"a.bin": "0" * 63}),
    ("model.sha256", {"a.bin": "Z" * 64}),
    ("model.sha256", {"../a.bin": "0" * 64}),
    ("model.sha256", {f"{i}.bin": "0" * 64 for i in range(101)}),
    ("input.width", 0),
    ("input.height", 10**30),
    ("settings.threads", 0),
    ("settings.threads", 10**6),
    ("settings.powersave", 3),
    ("settings.conf", 1.5),
    ("settings.conf", INFINITE),
    ("load_ms", -1),
    ("load_ms", INFINITE),
    ("load_ms", 10**400),
    ("samples.start_ms", []),
    ("samples.start_ms", "0"),
    ("samples.inference_ms", [1, 2, 3]),
    ("samples.inference_ms", [1, 2, 3, INFINITE]),
    ("samples.inference_ms", [1, 2, 3, -1]),
    ("samples.inference_ms", [1] * (MOST_SAMPLES + 1)),
    ("detections", [{**DETECTION, "score": 1.5}]),
    ("detections", [{**DETECTION, "box": [0, 0, 1]}]),
    ("detections", [{**DETECTION, "box": [0, 0, 1, INFINITE]}]),
    ("detections", [{**DETECTION, "class": "a" * 1001}]),
    ("detections", [{**DETECTION, "landmarks": [[0, 0]] * 10_001}]),
    ("detections", [DETECTION] * 100_001),
    ("device", []),
    ("date", "\n" * 9),
    ("parity", {"agrees": True}),
    ("parity", {**AGREEMENT, "matched": -1}),
    ("parity", {**AGREEMENT, "score": INFINITE}),
    ("parity", {**AGREEMENT, "agrees": "perhaps"}),
]


@pytest.mark.parametrize(("path", "value"), REFUSED)
def test_a_reading_is_refused_by_its_field(path, value):
    with pytest.raises(InputError, match=path.partition(".")[0]) as caught:
        read_reading(changed(path, value), "a reading")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data", [None, [], 3, "reading", {}, {"schema": 1}])
def test_what_is_no_reading(data):
    with pytest.raises(InputError, match="a file is not a reading"):
        read_reading(data, "a file")


def test_what_a_device_says_is_not_shown_as_it_stands():
    device = {"manufacturer": "Maker\x1b[31m\n", "model": "x" * 10_000}
    machine = read_reading(changed("device", device), "a test").machine
    assert machine.isprintable()
    assert len(machine) < 400
    assert read_reading(changed("device", {"kind": "local"}), "a test").machine


def test_a_reading_of_other_files_is_not_kept(folder):
    other = changed("model.sha256", {**FILES, "model-fp32.bin": "4" * 64})
    with pytest.raises(InputError, match="sha256"):
        keep(folder, [read_reading(READING, "a test"), read_reading(other, "a test")])
    assert read_timings(folder) == []
    assert keep(folder, [read_reading(READING, "a test")]) == 1
    with pytest.raises(InputError, match="has no ncnn-fp16"):
        keep(folder, [read_reading(changed("model.format", "ncnn-fp16"), "a test")])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"readings": {}}',
        '{"readings": [NaN]}',
        json.dumps(READING).replace("3.0", "1e999"),
        json.dumps(READING).replace("3.0", "9" * 5000),
    ],
)
def test_a_file_of_readings_that_is_damaged(text, folder):
    (folder / "timing.json").write_text(text)
    with pytest.raises(InputError, match="timing.json"):
        read_timings(folder)
    (folder / "timing.json").rename(folder / "other.json")
    with pytest.raises(InputError, match="other.json"):
        import_readings([folder / "other.json"], folder)


def test_a_file_of_readings_has_a_bound(folder):
    with (folder / "timing.json").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(InputError, match="bytes"):
        read_timings(folder)
