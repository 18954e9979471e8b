"""Training of networks from darknet cfgs: both recipes, other classes and anchors, weights, and refusals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.cfgs import GAUSSIAN, NET, REGION, TINY, head, output, text_of, tiny
from toolkit.data.augment import Augmentation, Sample
from toolkit.data.toy import make_toy
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.stored import stored_layers
from toolkit.models.darknet.weights import load_weights, save_weights
from toolkit.models.decode import decode
from toolkit.models.detector import Detector
from toolkit.models.io import HeadIO, ModelIO
from toolkit.networks import open_model
from toolkit.runtime import InputError
from toolkit.training.assign import yolo_layers
from toolkit.training.checkpoint import load_checkpoint, save_checkpoint, start_from, trained
from toolkit.training.config import merged_config, read_config, write_config
from toolkit.training.loader import BatchMaker, PictureCache, Work, letterboxed, network_input
from toolkit.training.loop import train
from toolkit.training.losses.modern import flatten
from toolkit.training.origin import Origin, read_origin
from toolkit.training.tasks import build, complete

FIXED = {
    "data": "made",
    "threads": 1,
    "precision": "fp32",
    "memory_format": "channels_last",
    "validations": 2,
}
X = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy(
        tmp_path_factory.mktemp("toy") / "toy", count=24, size=64, splits={"train": 0.75, "val": 0.25}
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cfg(tmp_path) -> Path:
    file = tmp_path / "cfg" / "tiny.cfg"
    file.parent.mkdir()
    file.write_text(TINY)
    return file


def settings(cfg, name="modern", levers=None, **more):
    return merged_config(
        FIXED, {"batch": 6, "epochs": 2, **(levers or {})}, model=str(cfg), recipe=name, **more
    )


def opencv(folder: Path) -> list[np.ndarray]:
    """Maps of best.cfg and best.weights by OpenCV's darknet reader, which puts the channels last."""
    net = cv2.dnn.readNetFromDarknet(str(folder / "best.cfg"), str(folder / "best.weights"))
    net.setInput(X)
    heads = [i for i, name in enumerate(net.getLayerNames()) if name.startswith("yolo_")]
    return net.forward([net.getLayerNames()[i - 1] for i in heads])


@pytest.mark.parametrize("name", ["seed", "modern"])
def test_a_run_of_a_cfg_needs_no_other_file_and_darknet_reads_it(name, toy, cfg, tmp_path):
    result = train(settings(cfg, name), tmp_path / "run", dataset=toy)
    assert (result.finished, result.step) == (True, 6)
    shutil.rmtree(cfg.parent)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines)
    ours = open_model(str(tmp_path / "run" / "best.pt"))
    assert ours.io.classes == toy.classes
    again = load_darknet(*(tmp_path / "run" / f"best.{end}" for end in ("cfg", "weights", "names")))
    assert again.io == ours.io
    for a, b, c in zip(ours.predict(X), again.predict(X), opencv(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_allclose(a.transpose(0, 2, 3, 1).ravel(), c.ravel(), atol=1e-4)
    sections = [line for line in (tmp_path / "run" / "best.cfg").read_text().splitlines() if "=" in line]
    assert sections.count("filters=30") == 2  # 2 anchors, 5 + 10
    assert sections.count("classes=10") == 2


@pytest.mark.parametrize("name", ["seed", "modern"])
def test_resumed_equals_uninterrupted_without_cfg_and_weights(name, toy, cfg, tmp_path):
    cfg.write_text(TINY.replace("[upsample]", "[dropout]\nprobability=.3\n\n[upsample]"))
    save_weights(load_darknet(cfg), cfg.with_suffix(".weights"))
    weights = {"weights": str(cfg.with_suffix(".weights"))}
    train(settings(cfg, name, **weights), tmp_path / "whole", dataset=toy)
    train(settings(cfg, name, **weights, stop_at=3), tmp_path / "parts", dataset=toy)
    shutil.rmtree(cfg.parent)
    stored = merged_config(tmp_path / "parts" / "config.yaml", model="tiny.cfg")
    train(stored.model_copy(update={"stop_at": None}), tmp_path / "parts", resume=True, dataset=toy)
    whole, parts = (load_checkpoint(tmp_path / run / "last.pt") for run in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 6
    for key, value in whole["model"].items():
        assert torch.equal(value, parts["model"][key]), key


def test_a_folder_holds_a_run_of_one_cfg(toy, cfg, tmp_path):
    train(settings(cfg, stop_at=1), tmp_path / "run", dataset=toy)
    cfg.write_text(TINY.replace("mish", "relu"))
    with pytest.raises(InputError, match=r"a run of another tiny\.cfg"):
        train(settings(cfg), tmp_path / "run", resume=True, dataset=toy)


def test_settings_with_a_cfg_come_back_from_their_file(cfg, tmp_path):
    cfg.with_suffix(".names").write_text("cat\ndog\n")
    config = settings(cfg, "seed")
    assert (config.model, config.names) == ("tiny.cfg", ("cat", "dog"))
    assert str(cfg.with_suffix(".names")) in config.notes["names"]
    write_config(tmp_path / "config.yaml", config)
    assert "  [yolo]\n  mask=2,3\n" in (tmp_path / "config.yaml").read_text()
    assert read_config(tmp_path / "config.yaml") == merged_config(tmp_path / "config.yaml") == config
    other = tmp_path / "other.cfg"
    other.write_text(tiny(3))
    changed = merged_config(tmp_path / "config.yaml", model=str(other))
    assert (changed.model, changed.names) == ("other.cfg", ())
    assert "classes=3" in changed.cfg


def test_the_darknet_recipe_follows_the_heads_of_the_cfg(toy, cfg):
    """iou_thresh and the others by `yolo_layers`; jitter and today's darknet by the recipe's name; a lever
    that is set wins; what [net] says of the schedule is not followed, and said."""
    config = complete(settings(cfg, "seed", {"momentum": 0.8}), toy)
    assert (config.recipe.loss, config.recipe.augmentation.jitter) == ("darknet", 0.3)
    assert settings(cfg, "seed", {"jitter": 0.1, "loss": "darknet-fork"}).recipe.augmentation.jitter == 0.1
    assert settings(cfg, "seed", {"loss": "darknet-fork"}).recipe.loss == "darknet-fork"
    assert settings(cfg, "modern").recipe.augmentation.jitter == 0
    for fact in ("learning_rate=0.00261", "burn_in=1000", "momentum=0.9", "batch=64", "jitter = 0.3"):
        assert fact in config.notes["cfg"]
    assert config.recipe.learning_rate == 0.001
    for layer in yolo_layers(build(config)):
        assert (layer.ignore_thresh, layer.iou_thresh, layer.obj_normalizer) == (0.7, 0.213, 0.4)
        assert layer.scale_x_y == 1.05


def test_anchors_are_kept_or_fitted_as_for_the_zoo(toy, cfg):
    own = [[8.0, 12.0], [16.0, 16.0], [16.0, 16.0], [30.0, 32.0]]
    kept = build(complete(settings(cfg, anchors="keep"), toy))
    assert [s.options["mask"] for s in kept.sections if s.kind == "yolo"] == ["2,3", "1,2"]
    config = complete(settings(cfg, anchors="fit"), toy)
    assert len(config.changes["anchors"]) == 4
    assert config.changes["anchors"] != own
    fitted = build(config)
    assert [s.options["mask"] for s in fitted.sections if s.kind == "yolo"] == ["2,3", "0,1"]
    anchors = [list(anchor) for h in reversed(fitted.io.heads) for anchor in h.anchors]
    assert anchors == [list(map(float, size)) for size in config.changes["anchors"]]
    stated = {"anchors": [[3, 4], [5, 6], [10, 12], [30, 40]], "input_size": [96, 64]}
    changed = build(complete(settings(cfg, changes=stated), toy))
    assert changed.io.input_size == (96, 64)
    assert changed.io.heads[0].anchors == ((10, 12), (30, 40))


def partial_weights(model, path: Path, layers: int) -> None:
    """What darknet's `partial` writes."""
    save_weights(model, path)
    floats = sum(layer.floats for layer in stored_layers(model)[:layers])
    path.write_bytes(path.read_bytes()[: 20 + 4 * floats])


def test_partial_weights_go_as_far_as_they_go(toy, cfg, tmp_path):
    source = load_darknet(cfg)
    partial_weights(source, tmp_path / "tiny.conv.3", 3)
    config = complete(settings(cfg, weights=str(tmp_path / "tiny.conv.3")), toy)
    assert "3 of 7 layers" in config.notes["weights"]
    assert "layers.3" in config.notes["weights"]
    model, fresh = build(config), build(config.model_copy(update={"weights": None}))
    for i in (0, 1, 2):
        assert torch.equal(model.layers[i].conv.weight, source.layers[i].conv.weight)
    for i in (3, 7):
        assert torch.equal(model.layers[i].conv.weight, fresh.layers[i].conv.weight)
    for layer in model.output_layers():  # an object is expected in one cell of a hundred
        torch.testing.assert_close(layer.conv.bias.view(2, 15)[:, 4].sigmoid(), torch.full((2,), 0.01))
    shutil.copy(tmp_path / "tiny.conv.3", tmp_path / "part.weights")
    with pytest.raises(InputError, match="--partial"):
        complete(settings(cfg, weights=str(tmp_path / "part.weights")), toy)
    asked = complete(settings(cfg, weights=str(tmp_path / "part.weights"), partial=True), toy)
    assert torch.equal(build(asked).layers[2].conv.weight, source.layers[2].conv.weight)


def test_partial_weights_start_a_network_of_the_zoo(toy, tmp_path):
    source = Origin("yoloface-50k").build(Detector)
    partial_weights(source, tmp_path / "face.conv.5", 5)
    config = complete(
        settings("yoloface-50k", weights=str(tmp_path / "face.conv.5"), changes={"input_size": 56}), toy
    )
    assert "5 of 24 layers" in config.notes["weights"]
    assert torch.equal(build(config).stem[0].conv.weight, source.stem[0].conv.weight)


def test_whole_weights_of_another_class_count_give_the_classes_of_the_same_name(toy, cfg, tmp_path):
    """The size of the file tells the number of its classes; their names are those of the file next to it."""
    other = tmp_path / "other" / "whole.cfg"
    other.parent.mkdir()
    other.write_text(tiny(3))
    source = load_darknet(other)
    save_weights(source, other.with_suffix(".weights"))
    other.with_suffix(".names").write_text("seven\nbird\nzero\n")
    start = start_from(Detector, read_origin(str(cfg))[0], str(other.with_suffix(".weights")))
    assert start.network.io.classes == ("seven", "bird", "zero")
    config = complete(settings(cfg, weights=str(other.with_suffix(".weights"))), toy)
    for fact in ("has 3 classes, tiny.cfg has 2", "whole.names"):
        assert fact in config.notes["weights"]
    assert "2 classes of the weights and the new network match" in config.notes["classes"]
    model = build(config)
    assert torch.equal(model.layers[3].conv.weight, source.layers[3].conv.weight)
    for ours, theirs in zip(model.output_layers(), source.output_layers(), strict=True):
        own, rows = ours.conv.weight.view(2, 15, -1), theirs.conv.weight.view(2, 8, -1)
        assert torch.equal(own[:, :5], rows[:, :5])
        assert torch.equal(own[:, 5 + toy.classes.index("seven")], rows[:, 5])
        assert torch.equal(own[:, 5 + toy.classes.index("zero")], rows[:, 7])


def test_names_are_those_of_the_cfg_and_its_weights(toy, cfg, tmp_path):
    source = load_darknet(cfg)
    save_weights(source, tmp_path / "own.weights")
    (tmp_path / "mine.names").write_text("three\none\n")
    given = settings(cfg, names=tmp_path / "mine.names", weights=str(tmp_path / "own.weights"))
    model = build(complete(given, toy))
    row, theirs = 5 + toy.classes.index("three"), source.output_layers()[0].conv.weight.view(2, 7, -1)
    assert torch.equal(model.output_layers()[0].conv.weight.view(2, 15, -1)[:, row], theirs[:, 5])
    (tmp_path / "mine.names").write_text("one\n")
    with pytest.raises(InputError, match=r"classes=2, but there are 1 class names"):
        settings(cfg, names=tmp_path / "mine.names")
    with pytest.raises(InputError, match="--names belongs to a .cfg"):
        settings("fastest-v2", names=tmp_path / "mine.names")


def test_a_checkpoint_of_a_cfg_starts_and_teaches_another(toy, cfg, tmp_path):
    train(settings(cfg, levers={"ema": 0}), tmp_path / "first", dataset=toy)
    best = str(tmp_path / "first" / "best.pt")
    model = build(complete(settings(cfg, weights=best), toy))
    source = trained(best)
    for key, value in source.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    result = train(settings(cfg, teacher=str(tmp_path / "first")), tmp_path / "second", dataset=toy)
    assert result.finished


def variant(name: str) -> str:
    grey = NET.replace("channels=3", "channels=1")
    return {
        "grey": tiny(start=grey),
        "letterbox": tiny(start=NET.replace("width=64", "width=96") + "letter_box=1\n"),
        "new_coords": tiny(activation="logistic", new_coords=1),
        "region": REGION,
    }[name]


@pytest.mark.parametrize("name", ["seed", "modern"])
@pytest.mark.parametrize("kind", ["grey", "letterbox", "new_coords", "region"])
def test_every_kind_of_head_and_input_learns(kind, name, toy, cfg, tmp_path):
    cfg.write_text(variant(kind))
    if (kind, name) == ("region", "seed"):
        with pytest.raises(InputError, match=r"tiny\.cfg, \[region\] in line \d+: .*--recipe modern"):
            train(settings(cfg, name), tmp_path / "run", dataset=toy)
        assert not (tmp_path / "run" / "config.yaml").exists()
        return
    before = build(complete(settings(cfg, name), toy)).state_dict()
    assert train(settings(cfg, name), tmp_path / "run", dataset=toy).finished
    network = open_model(str(tmp_path / "run" / "best.pt"))
    assert network.io.fit == ("letterbox" if kind == "letterbox" else "stretch")
    assert network.io.channels == (1 if kind == "grey" else 3)
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    assert [key for key in before if key not in changed and "num_batches" not in key] == []
    assert load_darknet(tmp_path / "run" / "best.cfg", tmp_path / "run" / "best.weights").io.heads == (
        network.io.heads
    )


def test_a_softmax_head_learns_what_detection_reads():
    """The logits of the loss are those of objectness and class probability that decoding multiplies."""
    io = ModelIO((64, 64), ("a", "b", "c"), (HeadIO(16, ((8.0, 8.0), (20.0, 30.0)), softmax=True),), 16)
    raw = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(3))
    boxes, logits, _, _ = flatten([raw], io)
    scores = logits[..., :1].sigmoid() * logits[..., 1:].sigmoid()
    (candidates,) = decode([raw], io, conf=0.0)
    np.testing.assert_allclose(
        np.sort(candidates.scores), np.sort(scores[0].reshape(-1).numpy()), rtol=1e-4, atol=1e-6
    )
    assert torch.allclose(logits[..., 1:].sigmoid().sum(-1), torch.ones(1, 32), atol=1e-4)
    assert boxes.shape == (1, 32, 4)


@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_batches_have_the_pixels_that_detection_has(order):
    picture = np.random.default_rng(2).integers(0, 256, (64, 96, 3), np.uint8)
    io = ModelIO((96, 64), ("a",), (HeadIO(16, ((8.0, 8.0),)),), 16, order, 3.0, 1 / 200)
    expected, _ = preprocess(picture, io)
    ours = network_input(torch.from_numpy(picture)[None], io)[0]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (64, 64)])
def test_a_letterboxed_batch_is_what_detection_sees(size, tmp_path):
    dataset = make_toy(tmp_path / "toy", count=2, size=96)
    image = cv2.resize(cv2.imread(str(dataset.path(0))), (120, 80))
    boxes = np.float32([[0.25, 0.25, 0.5, 0.75]])
    sample = Sample(image, boxes, np.zeros(1, np.int64), np.zeros(1, bool))
    boxed = letterboxed(sample, size)
    io = ModelIO(size, ("a",), (HeadIO(16, ((8.0, 8.0),)),), 16, fit="letterbox")
    expected, placement = preprocess(image, io)
    ours = cv2.resize(boxed.image, size).transpose(2, 0, 1) / 255
    assert np.abs(ours - expected).mean() < 0.02
    theirs = placement.to_input(boxes * [120, 80, 120, 80]) / np.tile(size, 2)
    np.testing.assert_allclose(boxed.boxes, theirs, atol=1 / min(size))
    maker = BatchMaker(dataset, PictureCache(dataset, 64), 0, "letterbox")
    work = Work(0, np.arange(1), np.arange(1), size, Augmentation(scale=(1.0, 1.0)))
    first = maker[work]
    grey = (first.images[0] == 127).all(-1)
    w, h = size
    assert int(grey.all(0).sum()) == pytest.approx(max(0, w - h), abs=2)  # a square picture
    assert int(grey.all(1).sum()) == pytest.approx(max(0, h - w), abs=2)
    assert DetectSettings().fit is None


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (GAUSSIAN, {}, r"\[Gaussian_yolo\]"),
        (TINY, {"levers": {"freeze": 0.5}}, "freeze.*zoo"),
        (TINY, {"weights": "published"}, "published weights belong to the networks of the zoo"),
        (TINY, {"partial": True}, "--partial.*--weights"),
        (TINY, {"partial": True, "weights": "best.pt"}, "--partial is for darknet weights"),
        (TINY, {"changes": {"se": True}}, "'se'.*classes, input_size, anchors"),
        (TINY, {"changes": {"input_size": "wide"}}, "input_size takes one side"),
        (TINY, {"size": (60, 64)}, "60"),
        (TINY.replace("iou_loss=ciou", "iou_loss=siou"), {"name": "seed"}, "iou_loss=siou"),
        (TINY.replace("[yolo]", "[yolo]\nfocal_loss=1"), {"name": "seed"}, "focal_loss=1"),
        (text_of("[route]\nlayers=-1\n", head(2, "0,1")), {}, r"line \d+: its input is \[route\]"),
        (TINY.replace("classes=2", "classes=9"), {}, "need 28 channels"),
        (f"{NET}{output(8)}", {}, "has no"),
    ],
)
def test_refusals_are_one_sentence_before_anything_is_written(text, more, words, toy, cfg, tmp_path):
    cfg.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        train(settings(cfg, more.pop("name", "modern"), **more), tmp_path / "run", dataset=toy)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_weights_of_another_network_are_refused(toy, cfg, tmp_path):
    other = tmp_path / "other.cfg"
    other.write_text(TINY.replace("filters=32", "filters=48"))
    save_weights(load_darknet(other), tmp_path / "other.weights")
    with pytest.raises(InputError, match="belongs to another network"):
        train(settings(cfg, weights=str(tmp_path / "other.weights")), tmp_path / "run", dataset=toy)
    with pytest.raises(InputError, match=r"none\.weights"):
        train(settings(cfg, weights=str(tmp_path / "none.weights")), tmp_path / "run", dataset=toy)


def test_the_command_trains_and_resumes_a_cfg(toy, cfg, tmp_path):
    model = load_darknet(cfg)
    partial_weights(model, tmp_path / "tiny.conv.2", 2)
    data = str(toy.path(0).parents[1])
    command = [Path(sys.executable).with_name("toolkit"), "train", "--output", tmp_path / "run", "--json"]
    (tmp_path / "some.yaml").write_text("stop_at: 2\nprecision: fp32\nmemory_format: channels_last\n")
    given = ["--model", cfg, "--weights", tmp_path / "tiny.conv.2", "--data", data, "--recipe", "seed"]
    levers = ["--epochs", "1", "--lever", "batch=6", "--config", tmp_path / "some.yaml"]
    first = subprocess.run([*command, *given, *levers], capture_output=True, text=True)
    assert first.returncode == 130, first.stderr
    assert "2 of 7 layers" in first.stderr
    shutil.rmtree(cfg.parent)
    (tmp_path / "tiny.conv.2").unlink()
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("stop_at: 2", "stop_at: null"))
    second = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["finished"]
    again = load_darknet(tmp_path / "run" / "best.cfg")
    load_weights(again, tmp_path / "run" / "best.weights")
    assert len(again.io.classes) == 10


def test_weights_of_another_network_are_named_as_such_and_leave_no_folder(toy, cfg, tmp_path):
    """Also where its heads have another number of anchors."""
    changes = {"classes": list(toy.classes), "input_size": 64}
    other = Origin("fastest-v2")
    state = other.build(Detector, **changes).state_dict()
    save_checkpoint(tmp_path / "zoo.pt", {**other.record(changes), "model": state, "step": 1})
    for folder in (tmp_path / "run", tmp_path / "there"):
        if folder.name == "there":
            folder.mkdir()
        with pytest.raises(InputError, match="belongs to another one"):
            train(settings(cfg, weights=str(tmp_path / "zoo.pt")), folder, dataset=toy)
    assert not (tmp_path / "run").exists()
    assert list((tmp_path / "there").iterdir()) == []


def test_no_weights_are_none(cfg):
    assert read_config({"data": "toy", "model": str(cfg), "weights": ""}).weights is None


def test_a_size_that_is_no_multiple_of_the_stride_is_named(toy, cfg):
    with pytest.raises(InputError, match=r"100x100 is not a multiple of .* stride 16: use for example 96x96"):
        complete(settings(cfg, size=(100, 100)), toy)


def test_anchors_of_weights_are_taken_only_by_heads_with_as_many(toy, cfg, tmp_path):
    """The body is the same, the one head of the weights has one anchor: those of the network stay."""
    origin = Origin("one.cfg", text_of(head(2, "2"), filters=7))
    changes = {"classes": list(toy.classes)}
    state = origin.build(Detector, **changes).state_dict()
    save_checkpoint(tmp_path / "one.pt", {**origin.record(changes), "model": state, "step": 1})
    model = build(complete(settings(cfg, weights=str(tmp_path / "one.pt")), toy))
    assert torch.equal(model.layers[0].conv.weight, state["layers.0.conv.weight"])
    assert [len(each.anchors) for each in model.io.heads] == [2, 2]
