"""Settings of a run: recipes of each task, files of version 0.1, merging, and the tasks that they lead to."""

import pytest
import torch
import yaml

from toolkit import create_model, list_models
from toolkit.models.detector import SpecDetector
from toolkit.models.landmarks import LandmarkNet
from toolkit.models.zoo import ZOO
from toolkit.runtime import InputError
from toolkit.training.checkpoint import load_checkpoint, open_teacher, save_checkpoint, trained
from toolkit.training.config import (
    check_step_memory,
    data_of,
    merged_config,
    read_config,
    read_levers,
    write_config,
)
from toolkit.training.recipe import RECIPES, DetectionRecipe, LandmarkRecipe, default_recipe, recipe
from toolkit.training.state import RunState
from toolkit.training.tasks import TASKS, build, task_of

# What version 0.1 wrote for landmarks too: the levers of detectors at their defaults.
DETECTORS_LEVERS = {
    "assigner": "simota", "iou_kind": "ciou", "iou_aware": True, "label_smoothing": 0.0,
    "class_weights": "none", "box_weight": 5.0, "obj_weight": 1.0, "cls_weight": 1.0, "distill_weight": 1.0,
    "plain_share": 0.15, "multi_scale": 0.0,
}  # fmt: skip
STORED = {
    "name": "landmarks", "loss": "gaussian", **DETECTORS_LEVERS, "optimizer": "adamw", "learning_rate": 0.004,
    "momentum": 0.9, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.05, "last_rate": 0.01,
    "batch": 8, "accumulate": 1, "clip": 10.0, "ema": 0.998, "freeze": 0.0, "epochs": 2.0,
    "augmentation": {"kind": "modern", "flip": 0.5, "scale": [0.9, 1.15], "mosaic": 0.0, "occlude": 0.3},
}  # fmt: skip


def test_each_network_has_a_task_with_its_recipe():
    assert {spec.io.task for spec in ZOO.values()} == set(TASKS)
    for name in list_models():
        task = task_of(read_config({"data": "toy", "model": name}))
        assert task.name == ZOO[name].io.task == task.default_recipe.task
        assert task.default_recipe.name == default_recipe(name)
        assert isinstance(task.default_recipe, task.recipe)
        assert task.default_recipe.loss in task.recipe.losses


def test_a_recipe_has_the_levers_of_its_task():
    levers = set(DetectionRecipe.model_fields) - set(LandmarkRecipe.model_fields)
    assert levers == {*DETECTORS_LEVERS, "spare_iou"}  # which version 0.1 did not have
    assert type(recipe("landmarks", ema=0)) is LandmarkRecipe
    assert type(recipe("seed", loss="darknet")) is DetectionRecipe
    for name, loss in (("landmarks", "modern"), ("modern", "wing")):
        with pytest.raises(InputError, match=f"loss = '{loss}' is not accepted"):
            recipe(name, loss=loss)


def test_settings_of_version_0_1_are_read(tmp_path):
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({"data": "faces", "model": "landmark106", "recipe": STORED})
    )
    config = read_config(tmp_path / "config.yaml")
    assert type(config.recipe) is LandmarkRecipe
    assert (config.recipe.loss, config.recipe.batch, config.recipe.augmentation.occlude) == (
        "gaussian",
        8,
        0.3,
    )
    write_config(tmp_path / "again.yaml", config)
    assert read_config(tmp_path / "again.yaml") == config
    assert not set(DETECTORS_LEVERS) & set(yaml.safe_load((tmp_path / "again.yaml").read_text())["recipe"])


@pytest.mark.parametrize(
    ("lever", "value"), [("multi_scale", 0.3), ("assigner", "anchor"), ("box_weight", 2)]
)
def test_another_tasks_lever_is_named(lever, value):
    default = DETECTORS_LEVERS[lever]
    for wrong in ({**STORED, lever: value}, {"name": "mine", "loss": "wing", lever: value}):
        with pytest.raises(InputError, match=f"{lever} = {value!r}.*detection.*set {lever} to {default!r}"):
            recipe(wrong)
    with pytest.raises(InputError, match=f"{lever} = {value!r}"):
        recipe("landmarks", **{lever: value})
    assert recipe("landmarks", **{lever: default}) == RECIPES["landmarks"]


def test_a_mapping_is_filled_in_by_its_name_or_loss():
    assert recipe({"name": "seed", "batch": 4}).loss == "darknet-fork"
    assert recipe({"name": "mine"}).learning_rate == RECIPES["modern"].learning_rate
    points = recipe({"name": "points", "loss": "gaussian"})
    assert (type(points), points.epochs) == (LandmarkRecipe, RECIPES["landmarks"].epochs)
    filled_by_modern = {"name": "points", "loss": "gaussian", "assigner": "tal", "plain_share": 0.2}  # by 0.1
    assert recipe(filled_by_modern) == points
    with pytest.raises(InputError, match="augmentation should be a mapping.*5"):
        recipe({"name": "mine", "augmentation": 5})


def test_options_take_precedence_over_the_file(tmp_path):
    stored = {
        "data": "faces",
        "model": "nano-voc",
        "seed": 4,
        "device": "cpu",
        "recipe": {"name": "seed", "batch": 4},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    assert merged_config(tmp_path / "config.yaml") == read_config(stored)
    merged = merged_config(
        tmp_path / "config.yaml", {"ema": 0.5}, seed=7, data="", device=None, size=(64, 32)
    )
    assert (merged.data, merged.seed, merged.device, merged.size) == ("faces", 7, "cpu", (64, 32))
    assert (merged.recipe.name, merged.recipe.batch, merged.recipe.ema) == ("seed", 4, 0.5)
    assert merged_config(stored, recipe="modern").recipe == RECIPES["modern"]
    assert merged_config({"cfg": "[net]"}, model="nano-voc").cfg == ""  # a text without its network's name
    plain = merged_config()
    assert (plain.data, plain.model, plain.seed, plain.recipe.name) == ("toy", "fastest-v2", 0, "modern")
    assert merged_config(model="landmark106").recipe == RECIPES["landmarks"]
    for source, levers, message in (
        (tmp_path / "none.yaml", {}, "no settings file.*none.yaml"),
        (stored, {"mozaic": 1}, "unknown lever 'mozaic'"),
        ({"workers": "many"}, {}, "workers = 'many'"),
    ):
        with pytest.raises(InputError, match=message):
            merged_config(source, levers)


SETTINGS = {
    "size": ([1, 10**9], [0, 8], [8], "8x8"),
    "seed": (-1, 2**63, 1.5),
    "order": (-1,),
    "validations": (0, 10**9),
    "device": (3,),
    "devices": (0, 10**6),
    "threads": (-1, 10**9),
    "workers": (-1, 10**6),
    "cache_gb": (-1, float("nan"), float("inf"), 10**400),
    "stop_at": (-1,),
    "changes": ("width",),
    "recipe": (3, [], ["modern"], "x" * 5000, "a\0b", {"name": []}, {"loss": []}),
    "notes": ([],),
}
LEVERS = {
    "batch": (0, 10**9, 1.5, "many"),
    "accumulate": (0, 10**9),
    "epochs": (0, -1, float("nan"), float("inf"), 10**9),
    "learning_rate": (0, float("nan"), float("inf"), 10**400),
    "weight_decay": (float("inf"), [1]),
    "box_weight": (float("nan"),),
    "ema": (1, float("nan")),
    "multi_scale": (1,),
    "optimizer": ("sgd\n" * 1000,),
    "mosaic": (float("nan"), "often", [0.5]),
    "scale": (1, [1], [1, 2, 3], ["a", "b"], [float("nan"), 1], [2, 1]),
    "exposure": (float("inf"), 10**400),
    "fill": (256, [1]),
    "kind": ("else",),
}


def refusal(call, name, value):
    with pytest.raises(InputError, match=name) as caught:
        call(value)
    return str(caught.value)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_have_bounds(name):
    for value in SETTINGS[name]:
        sentence = refusal(lambda v: read_config({"data": "toy", "model": "nano-voc", name: v}), name, value)
        assert len(sentence) < 500
        assert sentence.isprintable()


@pytest.mark.parametrize("name", LEVERS)
def test_levers_have_bounds(name):
    for value in LEVERS[name]:
        for base in ("modern", {"name": "mine", "augmentation": {}}):
            sentence = refusal(lambda v, base=base: recipe(base, **{name: v}), name, value)
            assert len(sentence) < 500
            assert sentence.isprintable()


def test_a_batch_fits_into_the_memory():
    stated = {"data": "toy", "model": "yoloface-50k"}
    check_step_memory(read_config(stated))
    large = {**stated, "size": [4096, 4096], "recipe": {"name": "modern", "batch": 16384}}
    with pytest.raises(InputError, match=r"batch = 16384 at 4096x4096.*smaller batch"):
        check_step_memory(read_config(large))


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "a: " + "[" * 9999, "- a", "1: 2", "a: .nan", "\0", "data: {}"]
)
def test_a_file_of_settings_that_is_damaged(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    for read in (read_config, recipe, merged_config):
        with pytest.raises(InputError):
            read(tmp_path / "config.yaml")


@pytest.mark.parametrize("text", ["ema", "scale=[0.9", ""])
def test_a_lever_has_a_value(text):
    with pytest.raises(InputError, match="NAME=VALUE.*found"):
        read_levers(["ema=0", text])


def test_a_state_comes_back_from_its_file(tmp_path):
    config = read_config({"data": "toy", "model": "yoloface-50k"})
    state = RunState.fresh(config, build(config))
    state.start(torch.device("cpu"))
    (state.model(torch.rand(1, 3, 56, 56))[0].square().mean()).backward()
    state.optimizer.step()
    state.step, state.history, state.best = 1, [{"step": 1, "map50": 0.25}], 0.25
    state.update_average(0.9)
    state.save(tmp_path / "last.pt")
    stored = load_checkpoint(tmp_path / "last.pt")
    # the keys of version 0.1, whose runs are resumed too
    assert set(stored) == {
        "model_name", "changes", "model", "optimizer", "average", "step", "history", "best", "seconds",
    }  # fmt: skip
    other = RunState.fresh(config, create_model("yoloface-50k"))
    other.load(tmp_path / "last.pt")
    assert (other.step, other.history, other.best) == (1, state.history, 0.25)
    for key, value in state.average.items():
        assert torch.equal(other.average[key], value)
        assert torch.equal(other.network().state_dict()[key], value)
    first, second = (each.optimizer.state_dict()["state"][0]["exp_avg"] for each in (state, other))
    assert torch.equal(first, second)


def test_a_checkpoint_opens_as_what_it_is(tmp_path):
    for name, kind, other in (
        ("yoloface-50k", SpecDetector, LandmarkNet),
        ("landmark106", LandmarkNet, SpecDetector),
    ):
        model, path = create_model(name), tmp_path / f"{name}.pt"
        save_checkpoint(path, {"model_name": name, "changes": {}, "step": 0, "model": model.state_dict()})
        assert type(trained(path)) is type(trained(path, kind)) is kind
        with pytest.raises(InputError, match=f"{name} is a network for {model.io.task}"):
            trained(path, other)
    with pytest.raises(InputError, match="a network for landmarks"):
        open_teacher(str(tmp_path / "landmark106.pt"))
    with pytest.raises(InputError, match=r"a teacher is trained: .* not 'nets/y3t\.cfg'"):
        open_teacher("nets/y3t.cfg")
    save_checkpoint(
        tmp_path / "part.pt", {"model_name": "yoloface-50k", "changes": {}, "step": 0, "model": {}}
    )
    with pytest.raises(
        InputError, match="part.pt belongs to another network than yoloface-50k: it lacks stem"
    ):
        trained(tmp_path / "part.pt")


@pytest.mark.parametrize("name", ["name", "weights"])
def test_changes_shape_the_network_and_name_no_other(name):
    with pytest.raises(InputError, match=f"'{name}'"):
        read_config({"data": "toy", "model": "fastest-v2", "changes": {name: "../other.pt"}})


def test_a_network_of_a_training_has_its_data(tmp_path):
    network = tmp_path / "best.cfg"
    assert data_of(network, "bccd") == data_of("fastest-v2", "bccd") == "bccd"
    write_config(tmp_path / "config.yaml", read_config({"data": "mine", "model": "fastest-v2"}))
    assert data_of(network, "bccd") == "mine"
