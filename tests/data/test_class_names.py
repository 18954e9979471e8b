"""Class names that are the same, nearly the same, and not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from toolkit import create_model
from toolkit.data.builder import Columns
from toolkit.data.class_names import compare_classes, difference, nearest
from toolkit.data.dataset import Dataset, match_classes
from toolkit.evaluation.average_precision import voc
from toolkit.evaluation.score import evaluate_by
from toolkit.pictures import save_image
from toolkit.runtime import InputError
from toolkit.training.config import read_config
from toolkit.training.detection import DetectionTask


@pytest.mark.parametrize(
    ("name", "other", "how"),
    [
        (" screw", "screw", "blanks"),
        ("traffic  light", "traffic_light", "blanks"),
        ("hex-nut\u200b", "hex nut", "blanks"),
        ("Screw", "screw", "upper and lower case"),
        ("STRASSE", "straße", "upper and lower case"),
        ("screws", "screw", "plural"),
        ("boxes", "box", "plural"),
        ("buses", "bus", "plural"),
        ("berries", "berry", "plural"),
        ("knives", "knife", "plural"),
        ("cafe\u0301", "caf\u00e9", "Unicode form"),
        ("\uff53\uff43\uff52\uff45\uff57", "screw", "Unicode form"),
        ("Hex_Nuts", "hex nut", "upper and lower case, blanks, plural"),
        ("aeroplaine", "aeroplane", "spelling"),
    ],
)
def test_near_names(name, other, how):
    assert nearest(name, ["wheel", other]) == other
    assert nearest(other, [name, "wheel"]) == name
    assert difference(name, other) == difference(other, name) == how


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("cat", "car"),
        ("class 1", "class 2"),
        ("1", "2"),
        ("+", "-"),
        ("C", "C++"),
        ("glass", "gla"),
        ("a", "a"),
    ],
)
def test_other_names(name, other):
    assert nearest(name, [other]) is None


def test_the_nearest_is_the_one_that_differs_least():
    assert nearest("Screws", ["screwx", "screw", "screws"]) == "screws"


def test_both_lists():
    match = compare_classes(["nut", "screw", "wheel"], ["bolt", "nut", "Screws"])
    assert (match.matched, match.only_network, match.only_dataset) == (
        ("nut",),
        ("screw", "wheel"),
        ("bolt", "Screws"),
    )
    assert match.near == (("Screws", "screw"),)
    lists, advice = match.sentences("lite-coco", "mine")
    assert "only lite-coco has: screw, wheel; only mine has: bolt, Screws" in lists
    assert "'Screws' of mine is nearly 'screw' of lite-coco" in advice
    assert compare_classes(["a", "b"], ["b", "a"]).sentences() == []


def labelled(*names: str) -> Dataset:
    """A picture with a box of each class."""
    columns = Columns()
    columns.add_picture("a.jpg", (100, 100))
    for label in range(len(names)):
        columns.add_box(0, (10, 10, 50, 50), label)
    return columns.dataset("/nowhere", names, "here")


def test_classes_asked_for_that_nearly_match_are_advised_and_not_taken():
    part = match_classes(labelled("nut", "Screws"), ["nut", "screw"], "skip")
    assert np.array_equal(part.labels, [0])
    notes = "; ".join(part.intake.notes)
    assert "1 boxes of classes that were not asked for" in notes
    assert "'Screws' of the data set is nearly 'screw' of the names asked for" in notes
    with pytest.raises(InputError, match="'Screws' of the data set is nearly 'screw'"):
        match_classes(labelled("nut", "Screws"), ["nut", "screw"], "refuse")
    with pytest.raises(InputError, match=r"no box of the classes asked for \(screw\).*nut, Screws.*nearly"):
        match_classes(labelled("nut", "Screws"), ["screw"], "skip")


def test_a_class_asked_for_that_nobody_labelled_is_noted():
    part = match_classes(labelled("nut"), ["nut", "wheel"], "skip")
    assert part.intake.notes == (
        "the labels have no class wheel, which was asked for: their classes are nut",
    )
    assert match_classes(labelled("nut"), ["nut"], "skip").intake.notes == ()


def test_a_network_and_a_data_set_that_share_some_classes(tmp_path):
    """The network is trained elsewhere: it is scored on what both have, and says what they do not."""
    save_image(tmp_path / "a.jpg", np.full((100, 100, 3), 120, np.uint8))
    network = create_model("yoloface-50k")
    dataset = replace(labelled("face", "Faces"), root=tmp_path)
    lists, *advice = evaluate_by(voc, network, dataset).notes
    assert "1 class of the network and the data set match by name" in lists
    assert "only the data set has: Faces" in lists
    assert "'Faces' of the data set is nearly 'face' of the network" in advice[0]
    assert evaluate_by(voc, network, replace(labelled("face"), root=tmp_path)).notes == ()
    with pytest.raises(InputError, match=r"share no class.*'Faces' of the data set is nearly 'face'"):
        evaluate_by(voc, network, replace(labelled("Faces"), root=tmp_path))


def test_training_says_which_classes_do_not_match(tmp_path):
    dataset = replace(labelled("face", "Hand"), root=tmp_path)
    changes = {"classes": ["Hand", "face", "foot"]}
    config = read_config({"data": "mine", "model": "yoloface-50k", "changes": changes})
    notes = DetectionTask().complete(config, dataset).notes
    assert "only the network has: foot" in notes["classes"]
    config = config.model_copy(update={"changes": {}})
    assert "classes" not in DetectionTask().complete(config, dataset).notes
