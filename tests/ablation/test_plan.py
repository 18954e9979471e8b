"""Plans that a stranger wrote: every field is checked and the cells are counted before any is made."""

import random
import time
from pathlib import Path

import pytest

from toolkit.ablation.cells import Cell, cells
from toolkit.ablation.costs import read_costs
from toolkit.ablation.plan import MOST_CELLS, read_plan, stored_plan
from toolkit.ablation.search import nearest_left
from toolkit.runtime import InputError

STATED = {"name": "tiny", "factors": {"learning_rate": [0.001, 0.01]}, "budget": {"steps": 3}}
LEVERS = ("ema", "warmup", "hue", "flip", "mosaic", "momentum", "last_rate")
RATES = [0.001 + i / 1e6 for i in range(1000)]


@pytest.mark.parametrize(
    "change",
    [
        {"factors": dict.fromkeys(("learning_rate", "weight_decay", "box_weight", "cls_weight"), RATES)},
        {
            "factors": {
                name: [0, 0.1, 0.2, 0.3] for name in ("ema", "warmup", "hue", "flip", "mosaic", "momentum")
            }
        },
        {"seeds": list(range(MOST_CELLS))},
        {"factors": {"learning_rate": RATES}, "seeds": list(range(6)), "matching": "both"},
    ],
)
def test_a_study_has_a_bound_on_cells(change):
    begin = time.monotonic()
    with pytest.raises(InputError, match=f"cells.*expected {MOST_CELLS} at most"):
        read_plan({**STATED, **change})
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(("name", "count"), [("toy_study", 24), ("faces_study", 36)])
def test_the_studies_of_the_notebooks_have_the_cells_that_they_name(name, count):
    path = Path(__file__).parents[2] / "notebooks" / f"{name}.yaml"
    assert len(cells(read_plan(path))) == count
    assert f" {count} " in path.read_text()


def test_a_search_makes_no_product():
    factors = {name: [i / 1000 for i in range(1000)] for name in LEVERS}
    plan = read_plan({**STATED, "factors": factors, "search": {"trials": 5}})
    first = Cell(dict.fromkeys(LEVERS, 0.0), "as-is", 0)
    nearest = nearest_left(first, plan.factors, {first.key}, random.Random(0))
    assert sorted(nearest.levels.values()) == [0.0] * 6 + [0.001]


def test_the_nearest_cell_that_is_left():
    """One step is the next of ordered levels, or any other of those without an order; at the end none."""
    factors = {"a": [1, 2, 3, 4], "b": ["x", "y", "z"], "c": [True, False]}
    start = {"a": 1, "b": "z", "c": False}
    rng, tried, steps = random.Random(0), set(), []
    while (cell := nearest_left(Cell(start, "as-is", 0), factors, tried, rng)) is not None:
        tried.add(cell.key)
        steps.append(cell.levels["a"] - 1 + (cell.levels["b"] != "z") + cell.levels["c"])
    assert len(tried) == len(steps) == 4 * 3 * 2
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"factors": {"learning_rate": [*RATES, 1.0]}}, "learning_rate"),
        ({"factors": {"learning_rate": [0.1, 0.1]}}, "learning_rate"),
        ({"factors": {"x" * 10_000: [1, 2]}}, "unknown factor"),
        ({"factors": []}, "factors"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [2**64]}, "seeds"),
        ({"budget": {"epochs": float("inf")}}, "budget"),
        ({"budget": {"seconds": 1e300}}, "budget"),
        ({"budget": {"steps": 10**12}}, "budget"),
        ({"validations": 10**9}, "validations"),
        ({"search": {"trials": 10**9}}, "trials"),
        ({"search": {"trials": 5, "latency_ms": float("inf")}}, "latency_ms"),
        ({"recipe": {"batch": 10**9}}, "batch"),
    ],
)
def test_a_plan_is_refused_by_its_field(change, field):
    with pytest.raises(InputError, match=field) as caught:
        read_plan({**STATED, **change})
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10_000, "NaN", '{"name": 3}'])
def test_a_kept_plan_or_cost_that_is_damaged(text, tmp_path):
    for name, read in (("plan.json", stored_plan), ("costs.json", read_costs)):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError):
            read(tmp_path)


def test_costs_are_of_folders_of_the_study(tmp_path):
    row = '{"params": 1, "macs": 2, "bflops": 0.1, "kilobytes": 3, "network": "0", "latency_ms": 0.5}'
    (tmp_path / "costs.json").write_text(f'{{"a": {row}}}')
    assert read_costs(tmp_path)["a"]["latency_ms"] == 0.5
    for change in (('"0"', '"../0"'), ("0.5", "-1"), ("0.5", "1e999"), ("3", "null")):
        (tmp_path / "costs.json").write_text(f'{{"a": {row.replace(*change)}}}')
        with pytest.raises(InputError, match="costs.json is damaged"):
            read_costs(tmp_path)
