"""The ladder on a real export: good rungs pass, a bad one is named with the layer where it begins."""

import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from toolkit.data.builder import Columns
from toolkit.evaluation.paired import Figures
from toolkit.evaluation.score import evaluate
from toolkit.export import ladder, parity
from toolkit.export.folder import Exported, open_export
from toolkit.export.parity import matched, probe_input
from toolkit.export.write import export_model
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.models.decode import Boxes
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def rungs(exported, pictures):
    model, folder = exported("yoloface-500k-v2")
    return ladder.ladder(model, folder, list(pictures.values()), rungs=RUNGS, rounds=5)


RUNGS = ("onnx", "openvino", "ncnn", "ncnn-fp16", "mnn", "caffe", "darknet")


def test_every_rung_holds(rungs):
    assert [rung.name for rung in rungs] == ["torch", *RUNGS]
    assert rungs[0].wanted >= 1
    for rung in rungs[1:]:
        assert rung.fault == ""
        assert (rung.matched, rung.extra) == (rung.wanted, 0)
        assert (rung.relative > 1e-5) == (rung.name == "ncnn-fp16")
        assert rung.latency_ms > 0
    by_name = {rung.name: rung for rung in rungs}
    assert by_name["ncnn-fp16"].kilobytes < 0.6 * by_name["ncnn"].kilobytes
    columns = ladder.table(rungs)
    assert {len(column) for column in columns.values()} == {len(rungs)}
    assert ladder.picture(rungs).axes[0].get_xscale() == "log"


def test_a_wrong_file_is_named_with_its_first_layer(exported, tmp_path, pictures):
    """One filter of the tenth convolution written with the wrong sign."""
    import hashlib
    import json

    from toolkit.models.ncnn_file import read_model

    model, folder = exported("yoloface-100k")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    layers = read_model(copy / "model-fp32.param", copy / "model-fp32.bin")
    weighted = [i for i, layer in enumerate(layers) if layer.weight is not None]
    layers[weighted[9]].weight[0] *= -1
    spec = Exported.read(copy).as_dict()
    data = (copy / "model-fp32.bin").read_bytes()
    offset = 0
    for layer in layers[: weighted[9]]:
        if layer.weight is not None:
            offset += 4 + layer.weight.nbytes + (0 if layer.bias is None else layer.bias.nbytes)
    row = layers[weighted[9]].weight
    data = data[: offset + 4] + row.tobytes() + data[offset + 4 + row.nbytes :]
    (copy / "model-fp32.bin").write_bytes(data)
    spec["formats"]["ncnn"]["files"]["model-fp32.bin"]["sha256"] = hashlib.sha256(data).hexdigest()
    (copy / "spec.json").write_text(json.dumps(spec))
    _, rung = ladder.ladder(model, copy, list(pictures.values()), rungs=["ncnn"], rounds=5)
    names = [name for name, module in model.named_modules() if type(module).__name__ == "ConvBNAct"]
    assert rung.fault.endswith(f"first at {names[9]}")
    assert "outputs differ by" in rung.fault


@pytest.fixture(scope="module")
def labelled(trained, pictures, tmp_path_factory):
    """Photographs whose labels are what fastest-v2 finds in them, so that it scores high."""
    root, columns = tmp_path_factory.mktemp("labelled"), Columns()
    model = trained("fastest-v2").eval()
    found = run(model, pictures.values(), DetectSettings(conf=0.3))
    for (name, image), boxes in zip(pictures.items(), found, strict=True):
        Image.fromarray(image).save(root / f"{name}.png")
        picture = columns.add_picture(f"{name}.png", (image.shape[1], image.shape[0]))
        for box, label in zip(boxes.boxes, boxes.class_ids, strict=True):
            columns.add_box(picture, box.tolist(), int(label))
    return model, columns.dataset(root, model.io.classes, root)


def test_scores_of_every_rung(labelled, exported, tmp_path):
    model, dataset = labelled
    score = partial(evaluate, dataset=dataset, metric="coco")
    faces, of_faces = exported("yoloface-50k")
    with pytest.raises(InputError, match="share no class"):
        ladder.ladder(faces, of_faces, [], score, ["ncnn"])
    export_model(model, tmp_path / "network", ["onnx-end2end", "ncnn"])
    pictures = [dataset.path(i) for i in range(len(dataset))]
    found = ladder.ladder(model, tmp_path / "network", pictures, score, rounds=5)
    assert [set(rung.scores) for rung in found] == [{"AP", "AP50"}] * 3
    assert found[0].scores["AP50"] > 0.9
    for rung in found[1:]:
        assert dict(rung.scores) == pytest.approx(dict(found[0].scores), abs=1e-3)
        assert rung.fault == ""
        assert abs(rung.changes["AP"].value) < 0.1
    assert found[1].relative is None
    with pytest.raises(InputError, match="holds another network"):
        ladder.ladder(faces, tmp_path / "network", [])
    with pytest.raises(InputError, match="the metric is one of coco, voc, darknet, widerface"):
        evaluate(model, dataset, "accuracy")


def test_int8_is_judged_by_its_score_and_shows_rung_by_rung(exported, labelled, pictures, tmp_path):
    """Real files, whose scores are set to those of good and of bad ones."""
    model, _ = exported("yoloface-50k")
    folder, dataset = tmp_path / "net", labelled[1]
    calibration = [dataset.path(i) for i in range(len(dataset))] * 4
    formats = ["ncnn", "ncnn-fp16", "ncnn-int8"]
    export_model(model, folder, formats, calibration=calibration, accept_loss=True)
    share, counts = {"ncnn": 0.5, "ncnn-fp16": 0.5, "ncnn-int8": 0.9}, []
    names = iter(["torch", *share])

    def score(backend, size):
        hits = np.random.default_rng(1).random(200) < share.get(next(names), 0.5)
        return Figures(200, lambda kept: {"AP": float(hits[kept].mean())}, 100)

    def climb(int8):
        nonlocal names
        share["ncnn-int8"], names = int8, iter(["torch", *share])
        settings = {"rungs": list(share), "rounds": 5, "show": lambda rungs: counts.append(len(rungs))}
        return ladder.ladder(model, folder, list(pictures.values()), score, **settings)

    better = climb(0.9)
    assert counts == [1, 2, 3, 4]
    assert better[-1].changes["AP"].low > 30
    assert [rung.fault for rung in better] == [""] * 4
    assert better.caption().startswith("ncnn-int8: ")
    assert "No format falls short" in better.caption()
    assert "of the size of ncnn, AP +" in better.caption()
    worse = climb(0.3)
    assert worse[-1].fault.startswith("AP -")
    assert "detections are lost" not in worse[-1].fault
    assert worse.caption().startswith("ncnn-fp16: ")
    assert "1 of 3 formats fall short: ncnn-int8." in worse.caption()
    assert 0 < worse[-1].speed.low <= worse[-1].speed.value <= worse[-1].speed.high
    assert worse[1].speed is None


def test_torch_is_scored_at_the_exported_size(exported, tmp_path):
    model, _ = exported("yoloface-50k")
    export_model(model, tmp_path / "other", ["onnx"], (72, 64))
    asked = []

    def score(backend, size):
        asked.append(size)
        return {"sides": float(sum(size))}

    ladder.ladder(model, tmp_path / "other", [], score, rounds=5)
    assert asked == [(72, 64)] * 2


def test_maps_and_detections_do_not_compare(exported, tmp_path):
    model, _ = exported("yoloface-50k")
    export_model(model, tmp_path / "net", ["onnx-end2end"])
    with pytest.raises(InputError, match="onnx gives detections.* name onnx"):
        parity.layer_parity(model, open_export(tmp_path / "net"), probe_input(model.io))


def test_matched():
    def boxes(*rows):
        table = np.array(rows, np.float32).reshape(-1, 6)
        return Boxes(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))

    one, other_class, apart = (0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 1), (20, 0, 30, 10, 0.7, 0)
    assert matched(boxes(one, other_class, apart), boxes(apart, one)) == 2
    assert matched(boxes(one, one), boxes(one)) == 1
    assert matched(boxes(one), boxes(other_class)) == 0
    assert matched(boxes(), boxes(one)) == matched(boxes(one), boxes()) == 0
