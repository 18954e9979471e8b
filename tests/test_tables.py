"""Results show themselves: as text, as HTML with alternative text, as a pandas frame."""

import numpy as np
import pytest
from IPython.lib.pretty import pretty

from toolkit import create_model
from toolkit.data import anchors
from toolkit.data.doctor import examine
from toolkit.data.toy import make_toy
from toolkit.evaluation.coco import coco
from toolkit.evaluation.columns import Detections, Truth
from toolkit.evaluation.widerface import WiderTruth, evaluate
from toolkit.export.ladder import Ladder, Rung
from toolkit.models.cost import Costs, measure
from toolkit.runtime import InputError
from toolkit.tables import MOST_ROWS, Shown, html_table, text_table
from toolkit.training.loop import Result


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("toy") / "set", count=20, size=96, classes=3)


@pytest.fixture(scope="module")
def results(toy, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    (run / "metrics.jsonl").write_text('{"step": 1, "map50": 0.1}\n{"step": 2, "map50": 0.3}\n')
    truth = Truth.from_dataset(toy)
    found = Detections(
        np.repeat(np.arange(len(toy)), np.diff(toy.starts)), toy.boxes, np.ones(len(toy.boxes)), toy.labels
    )
    face = WiderTruth(("0/a.jpg",), np.array([0, 1]), toy.boxes[:1], np.ones((3, 1), bool))
    one = Detections(np.array([0]), toy.boxes[:1], np.ones(1), np.array([0]))
    network = create_model("yoloface-50k")
    return {
        "cost": measure(network),
        "costs": Costs({"yoloface-50k": measure(network), "fastest-v2": measure(create_model("fastest-v2"))}),
        "dataset": toy,
        "report": examine(toy),
        "fit": anchors.fit([[10, 10], [40, 60]], [[10, 10]]),
        "search": anchors.search(toy, create_model("fastest-v2", classes=3).io),
        "coco": coco(truth, found),
        "wider": evaluate(face, one),
        "ladder": Ladder(Rung(name, 9, 1e-5, 1e-6, 3, 3, 0, {}, 1) for name in ("torch", "ncnn")),
        "result": Result(str(run), "map50", 0.3, 2, 2, 3.5, 20.0, str(run / "best.weights"), True),
    }


SHOWN = {
    "cost": "1.03 MMAC",
    "costs": "fastest-v2",
    "dataset": "20 pictures",
    "report": "fault",
    "fit": "50.0%",
    "search": "new",
    "coco": "1.000",
    "wider": "1.0000",
    "ladder": "ncnn",
    "result": "0.3000",
}
WITH_PICTURE = {"cost", "costs", "search", "wider", "ladder", "result"}


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_shows_itself(name, results):
    result = results[name]
    assert isinstance(result, Shown)
    text, html = str(result), result._repr_html_()
    assert SHOWN[name] in text
    assert SHOWN[name] in html
    assert pretty(result) == text
    assert ('<img alt="' in html) == (name in WITH_PICTURE)
    assert ("<table>" in html) == (name != "cost")
    frame = result.table()
    assert list(frame.columns) == list(result.columns())
    assert len(frame) == len(next(iter(result.columns().values())))


def test_text_is_aligned_and_cut():
    lines = text_table({"": ["a", "long name"], "kB": [1, 20], "file": ["x", "y"]}).splitlines()
    assert lines == ["           kB  file", "a           1  x", "long name  20  y"]
    many = text_table({"row": range(MOST_ROWS + 7)}).splitlines()
    assert len(many) == MOST_ROWS + 2
    assert many[-1] == "... and 7 more"


def test_html_is_escaped_and_columns_are_of_one_length():
    assert "&lt;b&gt;" in html_table({"class": ["<b>"]})
    with pytest.raises(InputError, match="one length"):
        html_table({"a": [1], "b": []})
