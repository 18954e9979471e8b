"""Every small data set that people's reports describe, and others of the same kinds, through the command:
what comes in is what was painted, and what stays outside is named."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data import cases
from tests.data import cases_coco as coco
from tests.data import cases_lists as lists
from tests.data import cases_mixed as mixed
from tests.data import cases_voc as voc
from tests.data.case_table import NEIGHBOURS, README, Case
from tests.data.labelling import Truth
from toolkit import cli
from toolkit.data.catalog import load
from toolkit.pictures import load_image

KEYS = ("format", "why", "candidates", "left_out", "skipped", "notes")


def run(monkeypatch, capsys, *args) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    monkeypatch.setattr(sys, "argv", ["toolkit", *map(str, args)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0, *capsys.readouterr()


@pytest.fixture
def toolkit(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *args: run(monkeypatch, capsys, *args)


def imported(toolkit, case: Case, tmp_path: Path, *more: str):
    """What was painted, then exit code, stdout and stderr."""
    top = tmp_path / "made"
    top.mkdir()
    truth = case.make(top)
    options = [option.format(top=top) for option in case.options]
    return truth, *toolkit("data", "import", top / case.source, tmp_path / "out", "--json", *options, *more)


def same_place(one: str, other: str) -> bool:
    """Whether one of two relative paths is the end of the other."""
    short, long = sorted((one, other), key=len)
    return long == short or long.endswith(f"/{short}")


def assert_painted(dataset, truth: Truth) -> None:
    """The same pictures and, in each, the same boxes of the same classes in the same order."""
    assert len(dataset) == len(truth)
    for file, boxes in truth.items():
        (i,) = (i for i, name in enumerate(dataset.files) if same_place(name, file))
        rows = dataset.rows(i)
        assert [dataset.classes[label] for label in dataset.labels[rows]] == [name for name, *_ in boxes], (
            file
        )
        expected = np.array([box[1:] for box in boxes], float).reshape(-1, 4)
        np.testing.assert_allclose(dataset.boxes[rows], expected, atol=0.02, err_msg=file)


@pytest.mark.parametrize("case", [*README, *NEIGHBOURS], ids=lambda case: case.id)
def test_what_comes_in_is_what_was_painted(case, toolkit, tmp_path):
    truth, code, out, messages = imported(toolkit, case, tmp_path)
    truth = {file: [] for file in truth} if case.empty else truth
    assert code == case.code, messages
    answer = json.loads(out)
    assert answer["format"] == case.format
    assert answer["why"]
    names = [candidate["format"] for candidate in answer["candidates"]]
    assert "--format" in case.options or names[0] == case.format
    scores = [candidate["score"] for candidate in answer["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["pictures"] == len(truth)
    assert answer["splits"] == case.splits
    total = sum(map(len, truth.values())) if case.boxes is None else case.boxes
    assert answer["boxes"] == total
    counts = Counter(name for boxes in truth.values() for name, *_ in boxes)
    assert [*answer["classes"].items()] == [(name, counts[name]) for name in case.names]
    assert_painted(load(tmp_path / "out"), truth)
    assert_named(case, answer)
    kept = json.loads((tmp_path / "out/import.json").read_text(encoding="utf-8"))
    assert {key: kept[key] for key in KEYS} == {key: answer[key] for key in KEYS}


def assert_named(case: Case, answer: dict) -> None:
    """What stays outside is in the answer, with kind, number and first example; nothing else is."""
    left_out = answer["left_out"]
    for word, count in case.left_out.items():
        parts = [part for part in left_out if word in f"{part['kind']} {part['example']}".lower()]
        assert sum(part["count"] for part in parts) == count, left_out
    assert sum(part["count"] for part in left_out) == sum(case.left_out.values()), left_out
    files = [picture["file"] for picture in answer["skipped"]]
    assert len(files) == len(case.skipped), answer["skipped"]
    for end in case.skipped:
        assert any(end in file for file in files), files
    assert all(picture["reason"] for picture in answer["skipped"])
    for word in case.notes:
        assert any(re.search(word, note) for note in answer["notes"]), answer["notes"]


STRICT = [case for case in (*README, *NEIGHBOURS) if case.left_out or case.skipped]


@pytest.mark.parametrize("case", STRICT, ids=lambda case: case.id)
def test_strict_takes_all_or_nothing(case, toolkit, tmp_path):
    _, code, out, messages = imported(toolkit, case, tmp_path, "--strict")
    assert (code, out) == (2, "")
    assert one_error(messages)
    assert not (tmp_path / "out").exists()


def one_error(messages: str) -> str:
    """The sentence of the only error."""
    (line,) = (line for line in messages.splitlines() if line.startswith("error: "))
    assert "Traceback" not in messages
    return line


@pytest.mark.parametrize(
    ("make", "source", "words"),
    [
        (lists.unknown_text, "", ["p0.txt", "expected"]),
        (lists.unknown_xml, "", ["p0.xml", "p1.xml", "voc"]),
        (lists.unknown_json, "", ["settings.json", "coco"]),
        (lists.unknown_csv, "", ["weather.csv"]),
        (mixed.supervisely, "", ["p0.jpg.json"]),
        (mixed.classes_of_pictures, "", ["labels.csv"]),
        (mixed.yolo_in_pixels, "", ["p0.txt"]),
        (lists.labels_are_next_door, "images", ["labels"]),
        (lists.nothing, "", ["pictures"]),
        (lists.not_an_archive, "made.zip", ["made.zip"]),
        (coco.only_results, "", ["results.json"]),
        (coco.every_picture_is_missing, "", ["labels.json", "--images"]),
        (coco.every_picture_is_another, "", ["q0.jpg", "labels.json"]),
        (voc.every_picture_is_missing, "", ["000.xml", "--images"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_nothing_to_take_is_one_sentence_that_names_the_files(make, source, words, toolkit, tmp_path):
    case = Case(make, "", {}, source=source)
    _, code, out, messages = imported(toolkit, case, tmp_path)
    assert (code, out) == (2, "")
    sentence = one_error(messages)
    assert [word for word in words if word not in sentence] == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [cases.exif_labels_as_shown, cases.exif_labels_as_stored])
def test_the_doctor_leaves_boxes_on_their_objects(make, toolkit, tmp_path):
    """After `data doctor --fix` every box is filled with its class's paint, and grey begins beyond it."""
    imported(toolkit, Case(make, "", {}), tmp_path)
    code, _, messages = toolkit("data", "doctor", tmp_path / "out", "--fix", tmp_path / "fixed", "--json")
    assert code in (0, 1), messages
    dataset = load(tmp_path / "fixed")
    assert len(dataset.labels) in (8, 12)
    for i in range(len(dataset)):
        picture = load_image(dataset.path(i)).astype(int)
        assert dataset.sizes[i].tolist() == [picture.shape[1], picture.shape[0]]
        colourful = np.ptp(picture, axis=2) > 80
        for box in dataset.boxes[dataset.rows(i)]:
            x1, y1, x2, y2 = box.round().astype(int)
            assert colourful[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all(), (dataset.files[i], box)
        assert (
            abs(
                colourful.sum()
                - np.prod(
                    dataset.boxes[dataset.rows(i), 2:] - dataset.boxes[dataset.rows(i), :2], axis=1
                ).sum()
            )
            < 400
        )


@pytest.mark.parametrize("make", [cases.all_of_one_size, cases.two_pictures, cases.yolo_class_as_float])
def test_few_objects_or_sizes_have_anchors(make, toolkit, tmp_path):
    imported(toolkit, Case(make, "", {}), tmp_path)
    code, out, messages = toolkit("data", "anchors", tmp_path / "out", "--json")
    assert code == 0, messages
    anchors = np.array(json.loads(out)["anchors"])
    assert anchors.shape == (6, 2)
    assert (anchors > 0).all()
