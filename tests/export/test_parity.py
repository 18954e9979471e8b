import numpy as np
import pytest

from toolkit import create_model
from toolkit.export.folder import open_export
from toolkit.export.parity import DarknetReference, Parity, Row, layer_parity, picture, probe_input
from toolkit.export.write import export_model
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.write import to_cfg
from toolkit.runtime import InputError


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    model = trained("yoloface-500k-v2")
    folder = tmp_path_factory.mktemp("parity") / "net"
    export_model(model, folder)
    return model, folder


@pytest.mark.parametrize("pair", [("torch", "onnx"), ("torch", "ncnn"), ("ncnn", "onnx"), ("onnx", "onnx")])
def test_any_two_backends_layer_by_layer(made, pair):
    model, folder = made
    sides = [model if fmt == "torch" else open_export(folder, fmt) for fmt in pair]
    parity = layer_parity(*sides, probe_input(model.io), pair)
    assert len(parity.layers) == 61
    assert len(parity.outputs) == 3
    assert parity.first_divergence(2e-5) is None
    assert (parity.relative == 0) == (pair == ("onnx", "onnx"))


def test_darknet_against_exports(made, reference):
    _, folder = made
    for fmt in ("onnx", "ncnn"):
        parity = layer_parity(
            DarknetReference(reference / "yoloface-500k-v2.raw.npz"), open_export(folder, fmt)
        )
        assert max(row.difference for row in parity.outputs) < 1e-4
        assert len(parity.layers) == 61
        assert parity.first_divergence(1e-5) is None


def test_the_first_wrong_layer_is_named(made):
    """The fault of the seed's Android file: a pool that pads to the right and below alone."""
    model, _ = made
    wrong = create_model(model.spec)
    wrong.load_state_dict(model.state_dict())
    wrong.stages[1].merge.norm.weight.data *= 1.01
    parity = layer_parity(model, wrong, probe_input(model.io))
    assert parity.first_divergence(1e-4) == "stages.1.merge"
    assert not parity.relative <= 1e-4


def test_nan_is_a_divergence():
    parity = Parity("a", "b", (Row("one", float("nan"), 1.0),), (Row("out", 0.0, 1.0),))
    assert parity.first_divergence(1.0) == "one"


def test_spec_and_cfg_builds(made, tmp_path):
    model, _ = made
    (tmp_path / "a.cfg").write_text(to_cfg(model.spec))
    other = load_darknet(tmp_path / "a.cfg")
    other.load_state_dict(dict(zip(other.state_dict(), model.state_dict().values(), strict=True)))
    assert layer_parity(model, other, probe_input(model.io)).relative == 0


def test_picture_and_dictionary(made, tmp_path):
    model, folder = made
    parity = layer_parity(
        model, open_export(folder, "ncnn-fp16"), probe_input(model.io), ("torch", "ncnn-fp16")
    )
    picture(parity, 1e-5).savefig(tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000
    data = parity.as_dict()
    assert len(data["layers"]) == 61
    assert 1e-4 < data["relative"] < 0.05


def test_bad_input(made, tmp_path):
    model, _ = made
    other = create_model("yoloface-100k")
    x = probe_input(model.io)
    with pytest.raises(InputError, match="has 3 outputs and b 1: they are two networks"):
        layer_parity(model, other, x, ("a", "b"))
    with pytest.raises(InputError, match="the shape .* on one side and .* on the other"):
        layer_parity(model, create_model("yoloface-500k-v2", classes=2), x)
    with pytest.raises(InputError, match="parity needs an input"):
        layer_parity(model, model)
    np.savez(tmp_path / "a.npz", x=x)
    with pytest.raises(InputError, match="is not a darknet reference"):
        DarknetReference(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"cannot read .*b\.npz"):
        DarknetReference(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", input=x, logits_3=x[0])
    with pytest.raises(InputError, match="its own input alone"):
        DarknetReference(tmp_path / "c.npz").predict(x + 1)
