"""Studies of a network from a darknet cfg: its levers and input size, and what needs a network of the zoo."""

import shutil

import pytest

from tests.cfgs import TINY, tiny
from toolkit.ablation.cells import Cell, cell_config, cells
from toolkit.ablation.plan import check, plan_record, read_plan, stored_plan
from toolkit.ablation.report import runs, write_report
from toolkit.ablation.study import run_study
from toolkit.data.catalog import load
from toolkit.networks import open_model
from toolkit.runtime import InputError


@pytest.fixture
def cfg(tmp_path):
    file = tmp_path / "cfg" / "tiny.cfg"
    file.parent.mkdir()
    file.write_text(TINY)
    return file


def stated(toy, cfg, **more):
    return {
        "name": "strangers",
        "data": str(toy),
        "model": str(cfg),
        "recipe": "modern",
        "factors": {"ema": [0, 0.9], "input_size": [[64, 64], [96, 64]]},
        "seeds": [0],
        "budget": {"steps": 2},
        "validations": 1,
        **more,
    }


def test_a_study_of_a_cfg_goes_on_elsewhere(toy, cfg, tmp_path):
    plan = read_plan(stated(toy, cfg))
    assert (plan.model, plan.cfg.splitlines()[0]) == ("tiny.cfg", "[net]")
    assert {cell.matching for cell in cells(plan)} == {"base"}
    first = run_study(plan, tmp_path / "study")
    rows = runs(first)
    assert len(rows) == 4
    assert all("fault" not in row and row["kilobytes"] > 0 for row in rows)
    assert len({row["params"] for row in rows}) == 1
    assert len({row["bflops"] for row in rows}) == 2  # of the two sizes
    shutil.rmtree(cfg.parent)
    shutil.move(tmp_path / "study", tmp_path / "moved")
    again = stored_plan(tmp_path / "moved")
    assert again == plan
    assert runs(run_study(again, tmp_path / "moved")) == rows
    write_report(tmp_path / "moved")
    assert "input_size" in (tmp_path / "moved" / "report.md").read_text()
    cell = next((tmp_path / "moved" / "cells").iterdir())
    assert len(open_model(str(cell / "best.pt")).io.classes) == 10


def test_levers_reach_the_cells(toy, cfg):
    plan = read_plan(
        stated(toy, cfg, recipe="seed", factors={"jitter": [0.1, 0.2], "loss": ["darknet", "darknet-fork"]})
    )
    assert plan.recipe.augmentation.jitter == 0.3  # the cfg's own, where no factor says otherwise
    levels = {"jitter": 0.1, "loss": "darknet-fork"}
    config = cell_config(plan, Cell(levels, "base", 0), load(str(toy)))
    assert (config.recipe.augmentation.jitter, config.recipe.loss) == (0.1, "darknet-fork")
    assert (config.cfg, config.model) == (plan.cfg, "tiny.cfg")
    check(plan)


def test_the_record_of_a_study_of_the_zoo_is_that_of_version_0_1(toy):
    record = plan_record(read_plan(stated(toy, "yoloface-50k")))
    assert not {"cfg", "names", "partial"} & set(record)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"factors": {"se": [False, True]}}, "factor se needs a network of the zoo.*tiny.cfg"),
        ({"factors": {"csp": [False, True]}}, "factor csp needs a network of the zoo"),
        ({"factors": {"width": [0.5, 1]}}, "factor width needs a network of the zoo"),
        ({"factors": {"activation": ["relu", "mish"]}}, "factor activation needs a network of the zoo"),
        ({"matching": "width"}, "matching = width.*as-is"),
        ({"factors": {"input_size": ["wide", 64]}}, "input_size takes one side.*'wide'"),
        ({"changes": {"se": True}}, "unknown change 'se'.*input_size"),
        ({"names": ["cat"]}, "classes=2, but there are 1"),
    ],
)
def test_what_needs_a_network_of_the_zoo_is_refused_before_anything_runs(more, words, toy, cfg, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        run_study(read_plan(stated(toy, cfg, **more)), tmp_path / "study")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_a_study_keeps_to_its_cfg(toy, cfg, tmp_path):
    plan = read_plan(stated(toy, cfg, factors={"ema": [0, 0.9]}, budget={"steps": 1}))
    run_study(plan, tmp_path / "study")
    cfg.write_text(tiny(3))
    with pytest.raises(InputError, match="began with other values of cfg"):
        run_study(
            read_plan(stated(toy, cfg, factors={"ema": [0, 0.9]}, budget={"steps": 1})), tmp_path / "study"
        )


def test_published_weights_of_a_cfg_are_refused_at_reading(toy, cfg):
    with pytest.raises(InputError, match="published weights belong to the networks of the zoo"):
        read_plan(stated(toy, cfg, weights="published"))
