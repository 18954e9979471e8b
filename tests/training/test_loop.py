"""Training end to end on a small toy set, and what each part of it must keep."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit import create_model, list_models
from toolkit.data.toy import make_toy
from toolkit.models.detector import Detector
from toolkit.models.landmarks import LandmarkNet
from toolkit.networks import open_model
from toolkit.runtime import InputError
from toolkit.training.assign import yolo_layers
from toolkit.training.checkpoint import load_checkpoint, start_from, transfer
from toolkit.training.config import read_config, write_config
from toolkit.training.detection import DetectionTask
from toolkit.training.loop import train
from toolkit.training.losses.darknet import darknet_loss
from toolkit.training.losses.modern import modern_loss
from toolkit.training.origin import Origin
from toolkit.training.recipe import RECIPES, recipe

FIXED = {"threads": 1, "precision": "fp32", "memory_format": "channels_last", "validations": 2}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy(
        tmp_path_factory.mktemp("toy") / "toy", count=40, size=96, splits={"train": 0.8, "val": 0.2}
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))


def settings(name="modern", **more):
    levers = {"batch": 8, "epochs": 2, **more.pop("levers", {})}
    chosen = recipe(more.pop("recipe", name), **levers)
    return read_config({"data": "made", "model": "fastest-v2", "recipe": chosen, **FIXED, **more})


@pytest.mark.parametrize("name", ["seed", "modern"])
def test_a_run_leaves_what_the_other_commands_take(name, toy, tmp_path):
    result = train(settings(name), tmp_path / "run", dataset=toy)
    assert result.finished
    assert result.step == result.steps == 8
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]
    assert all(np.isfinite(line["loss"]) for line in lines)
    for picture in ("curves.png", "losses.png", "pictures.png"):
        assert (tmp_path / "run" / picture).stat().st_size > 1000
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    network = open_model(str(tmp_path / "run" / "best.cfg"))
    assert network.io.classes == toy.classes
    assert network.io.input_size == (96, 96)
    best = load_checkpoint(tmp_path / "run" / "best.pt")
    ours = create_model(best["model_name"], str(tmp_path / "run" / "best.pt"), **best["changes"])
    x = np.random.default_rng(0).random((1, 3, 96, 96), np.float32)
    for a, b in zip(network.predict(x), ours.predict(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name", ["seed", "modern"])
def test_resumed_equals_uninterrupted(name, toy, tmp_path):
    train(settings(name), tmp_path / "whole", dataset=toy)
    stopped = train(settings(name, stop_at=3), tmp_path / "parts", dataset=toy)
    assert (stopped.finished, stopped.step) == (False, 3)
    train(settings(name), tmp_path / "parts", resume=True, dataset=toy)
    whole, parts = (load_checkpoint(tmp_path / run / "last.pt") for run in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 8
    for key, value in whole["model"].items():
        assert torch.equal(value, parts["model"][key]), key


def test_a_run_that_learns_nothing_says_so(toy, tmp_path, capsys):
    result = train(settings(levers={"learning_rate": 1e-12}), tmp_path / "still", dataset=toy)
    assert "map50 was never better than 0" in result.diverged
    assert result.diverged in capsys.readouterr().err
    assert json.loads((tmp_path / "still" / "result.json").read_text())["diverged"] == result.diverged


def test_a_loss_that_grows_is_told(toy, tmp_path):
    levers = {"learning_rate": 30.0, "clip": 0.0, "warmup": 0.9}
    try:
        diverged = train(settings(levers=levers), tmp_path / "grown", dataset=toy).diverged
    except InputError as error:
        diverged = str(error)
    assert "learning_rate" in diverged


def test_a_score_that_is_no_number_stops_the_run(toy, tmp_path, monkeypatch):
    """As of landmarks none of which is found: half of the weights are NaN, and no loss has told it yet."""
    monkeypatch.setattr(DetectionTask, "validate", lambda self, network, val_set: float("nan"))
    with pytest.raises(InputError, match="map50 is no longer a finite number at step 4"):
        train(settings(), tmp_path / "run", dataset=toy)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""
    assert not (tmp_path / "run" / "best.pt").exists()


def test_accumulating_changes_the_steps_and_ema_the_best(toy, tmp_path):
    train(settings(), tmp_path / "a", dataset=toy)
    train(settings(levers={"ema": 0}), tmp_path / "b", dataset=toy)
    train(settings(levers={"accumulate": 2}), tmp_path / "c", dataset=toy)
    a, b, c = (load_checkpoint(tmp_path / run / "last.pt") for run in "abc")
    key = "stem.0.conv.weight"
    assert torch.equal(a["model"][key], b["model"][key])
    assert b["average"] is None
    assert not torch.equal(a["average"][key], a["model"][key])
    assert c["step"] == 4


def test_levers_reach_the_training(toy, tmp_path):
    def weights(name, teacher=None, **levers):
        chosen = settings(stop_at=2, teacher=teacher, levers=levers)
        train(chosen, tmp_path / name, dataset=toy)
        return load_checkpoint(tmp_path / name / "last.pt")["model"]["stem.0.conv.weight"]

    plain = weights("plain")
    assert torch.equal(weights("again"), plain)
    for name, lever in {
        "assigner": "simota", "mosaic": 1.0, "multi_scale": 0.9, "class_weights": "balanced", "clip": 0.001,
        "label_smoothing": 0.2, "iou_aware": False, "iou_kind": "giou", "freeze": 1.0, "warmup": 0.0,
    }.items():  # fmt: skip
        assert not torch.equal(weights(name, **{name: lever}), plain), name
    train(settings(), tmp_path / "teacher", dataset=toy)
    assert not torch.equal(weights("taught", teacher=str(tmp_path / "teacher")), plain)


def test_a_rate_that_diverges_stops_and_keeps_the_last_good_state(toy, tmp_path):
    train(settings(stop_at=2), tmp_path / "run", dataset=toy)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    wild = settings(levers={"learning_rate": 1e30, "clip": 0, "warmup": 0, "optimizer": "sgd"})
    with pytest.raises(InputError, match="no longer a finite number"):
        train(wild, tmp_path / "wild", dataset=toy)
    assert (tmp_path / "wild" / "not_finite.pt").is_file()
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on_to_the_same_weights(kind, toy, tmp_path):
    toy_folder = toy.path(0).parents[1]
    config = settings(data=str(toy_folder), validations=12, levers={"epochs": 15})
    write_config(tmp_path / "config.yaml", config)
    command = [Path(sys.executable).with_name("toolkit"), "train", "--config", tmp_path / "config.yaml"]
    run = subprocess.Popen([*command, "--output", tmp_path / "killed"], stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "last.pt").exists():
        assert run.poll() is None
        time.sleep(0.01)
    time.sleep(random.random())
    run.send_signal(kind)
    assert run.wait() == (-kind if kind == signal.SIGKILL else 128 + kind)
    result = train(config, tmp_path / "killed", resume=True)
    train(config, tmp_path / "whole")
    whole, killed = (load_checkpoint(tmp_path / folder / "last.pt") for folder in ("whole", "killed"))
    assert result.finished
    assert [entry["step"] for entry in whole["history"]] == [entry["step"] for entry in killed["history"]]
    for key, value in whole["model"].items():
        assert torch.equal(value, killed["model"][key]), key


def test_a_full_disk_leaves_the_last_checkpoint_whole(toy, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(history):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))

    try:
        with pytest.raises(OSError, match="too large") as caught:
            train(settings(), tmp_path / "run", dataset=toy, show=fill_the_disk)
        assert caught.value.filename == str(tmp_path / "run" / "last.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 4
    assert train(settings(), tmp_path / "run", resume=True, dataset=toy).finished


def test_a_picture_that_vanishes_stops_the_run(tmp_path):
    small = make_toy(tmp_path / "toy", count=20, size=64)

    def remove(history):
        for i in range(len(small)):
            small.path(i).unlink()

    with pytest.raises(InputError, match="is missing"):
        train(settings(cache_gb=0), tmp_path / "run", dataset=small, show=remove)
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 2


def test_a_folder_holds_one_run(toy, tmp_path):
    train(settings(stop_at=1), tmp_path / "run", dataset=toy)
    with pytest.raises(InputError, match="holds a run already"):
        train(settings(), tmp_path / "run", dataset=toy)
    with pytest.raises(InputError, match="resume with the same"):
        train(settings(model="fastest-v1"), tmp_path / "run", resume=True, dataset=toy)
    with pytest.raises(InputError, match="the run has seed = 0, not 5: resume it without that"):
        train(settings(seed=5), tmp_path / "run", resume=True, dataset=toy)
    with pytest.raises(InputError, match="no run to resume"):
        train(settings(), tmp_path / "other", resume=True, dataset=toy)


def test_a_set_without_splits_is_trained_on_and_the_run_says_how(toy, tmp_path, capsys):
    whole = replace(toy, splits=np.full(len(toy), ""))
    result = train(settings(stop_at=1), tmp_path / "whole", dataset=whole)
    assert "made has no splits: 4 of 40 pictures are held out for validation" in result.notes[0]
    assert result.notes[0] in capsys.readouterr().err
    assert json.loads((tmp_path / "whole" / "result.json").read_text())["notes"] == list(result.notes)
    assert read_config(tmp_path / "whole" / "config.yaml").notes == {"validation": result.notes[0]}
    one = train(settings(anchors="fit"), tmp_path / "one", dataset=whole.subset(np.array([0])))
    assert one.finished
    assert one.score is not None
    assert "only 1 picture: validation uses the training pictures" in one.notes[0]
    assert "of 6 anchors: the others are spread around" in one.notes[1]


def test_bad_settings_are_one_sentence(toy, tmp_path):
    for wrong, match in (
        ({"model": "yolo-9000"}, "unknown network"),
        ({"device": "cuda"} if not torch.cuda.is_available() else {"device": "tpu9"}, "not usable"),
        ({"teacher": "nano-voc", "recipe": "seed"}, "leave out the teacher"),
        ({"changes": {"classes": ["zero", "one"]}}, "'two'|has boxes of class"),
    ):
        with pytest.raises(InputError, match=match):
            train(settings(**wrong), tmp_path / "run", dataset=toy)
        assert not (tmp_path / "run" / "last.pt").exists()
    with pytest.raises(InputError, match="unknown lever"):
        recipe("modern", mozaic=1)
    with pytest.raises(InputError, match="learning_rate"):
        recipe("modern", learning_rate=-1)
    empty = toy.keep_boxes(np.zeros(len(toy.boxes), bool))
    with pytest.raises(InputError, match="no objects"):
        train(settings(), tmp_path / "run", dataset=empty)


def test_another_network_of_the_zoo_starts_one_that_adds_to_it(zoo):
    """What is new lets through what is there: squeeze-and-excite begins with factors near 1."""
    origin, changes = Origin("yoloface-500k-v2"), {"stage_se": 4}
    start = start_from(Detector, Origin("yoloface-500k-v2"), "yoloface-500k-v2")
    assert start.note == "starts from yoloface-500k-v2"
    with pytest.raises(InputError, match="--partial is for darknet weights"):
        start_from(Detector, Origin("yoloface-500k-v2"), "yoloface-500k-v2", partial=True)
    with pytest.raises(InputError, match="yoloface-100k is a network of detection"):
        start_from(LandmarkNet, Origin("landmark106"), "yoloface-100k")
    model = origin.build(Detector, **changes)
    transfer(model, start, "yoloface-500k-v2")
    x = torch.rand(1, 3, 288, 352, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        added, own = model.eval()(x), start.network.eval()(x)
    for a, b in zip(added, own, strict=True):
        assert not torch.equal(a, b)
        assert (a - b).abs().mean() < 0.15 * b.abs().mean()


def test_transfer_takes_classes_by_name(tmp_path):
    source = create_model("yoloface-50k", classes=["cat", "dog"])
    torch.save(
        {"model_name": "yoloface-50k", "changes": {"classes": ["cat", "dog"]}, "step": 0,
         "model": source.state_dict()},
        tmp_path / "w.pt",
    )  # fmt: skip
    model = create_model("yoloface-50k", classes=["bird", "dog", "cat"])
    start = start_from(Detector, Origin("yoloface-50k"), str(tmp_path / "w.pt"))
    transfer(model, start, "w.pt")
    theirs = source.heads[0].out.conv.weight.view(3, 7, -1)
    ours = model.heads[0].out.conv.weight.view(3, 8, -1)
    assert torch.equal(ours[:, :5], theirs[:, :5])
    assert torch.equal(ours[:, 6], theirs[:, 6])
    assert torch.equal(ours[:, 7], theirs[:, 5])
    assert not torch.equal(ours[:, 5], theirs[:, 5])
    assert torch.equal(model.stem[0].conv.weight, source.stem[0].conv.weight)


@pytest.mark.parametrize("loss", ["modern", "darknet-fork"])
@pytest.mark.parametrize("name", list_models("detection"))
def test_every_network_takes_a_step(name, loss):
    torch.manual_seed(0)
    model = create_model(name).train()
    w, h = model.io.input_size
    boxes = torch.tensor([[0.5, 0.5, 0.3, 0.4], [0.2, 0.3, 0.1, 0.1], [0.7, 0.6, 0.8, 0.7]])
    truths = (boxes, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 1]), torch.zeros(3, dtype=bool))
    maps = model(torch.rand(2, 3, h, w))
    if loss == "modern":
        losses = modern_loss(maps, *truths, model.io)
    else:
        losses = darknet_loss(maps, *truths, yolo_layers(model), (w, h))
    losses.total.backward()
    assert float(losses.positives) >= 2
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)


def test_a_recipe_of_ones_own_comes_back_from_its_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nlearning_rate: 0.003\naugmentation: {mosaic: 0.7}\n")
    mine = recipe(file, ema=0)
    assert (mine.name, mine.learning_rate, mine.ema) == ("mine", 0.003, 0)
    assert mine.augmentation.mosaic == 0.7
    assert mine.augmentation.scale == RECIPES["modern"].augmentation.scale
    config = read_config({"data": "toy", "model": "fastest-v2", "recipe": mine})
    write_config(tmp_path / "config.yaml", config)
    assert read_config(tmp_path / "config.yaml") == config


def test_schedules():
    modern, seed = RECIPES["modern"], RECIPES["seed"]
    assert modern.rate(0, 0.01) > 0
    assert modern.rate(modern.warmup) == pytest.approx(1)
    assert modern.rate(1) == pytest.approx(modern.last_rate)
    assert seed.rate(0.01) == pytest.approx(0.5**4)
    assert [seed.rate(share) for share in (0.5, 0.8, 0.95)] == pytest.approx([1, 0.1, 0.01])
