"""Max pooling of darknet's cfgs in torch and in every format: even sizes, strides, padding of one's own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cfgs import conv, net, output, plain_head
from toolkit.export.folder import open_export
from toolkit.export.parity import output_difference, probe_input
from toolkit.export.write import export_model
from toolkit.models.blocks import MaxPool
from toolkit.models.darknet.network import load_darknet

BEFORE, AFTER = net(96, 64) + conv(8, stride=2, batch_normalize=0), output(16) + plain_head(3)


@given(
    size=st.integers(1, 6),
    stride=st.integers(1, 4),
    padding=st.one_of(st.none(), st.integers(0, 12)),
    sides=st.tuples(st.integers(7, 17), st.integers(7, 17)),
    seed=st.integers(0, 99),
)
def test_windows_are_darknets(size, stride, padding, sides, seed):
    """Against windows that are cut out one by one, all values negative, so that a 0 from padding shows."""
    total = size - 1 if padding is None else padding
    x = -torch.rand(1, 2, *sides, generator=torch.manual_seed(seed)) - 1
    found = MaxPool(size, stride, padding)(x)
    counts = [(side + total - size) // stride + 1 for side in sides]
    assert found.shape[2:] == tuple(counts)
    for row in range(counts[0]):
        for column in range(counts[1]):
            top, left = row * stride - total // 2, column * stride - total // 2
            window = x[:, :, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)]
            wanted = window.amax((2, 3)) if window.numel() else torch.full((1, 2), -torch.inf)
            assert torch.equal(found[:, :, row, column], wanted)


@pytest.mark.parametrize(
    "options",
    ["size=2\nstride=1", "size=4\nstride=1", "size=3\nstride=2\npadding=1", "size=4\nstride=4"],
)
def test_every_format_has_them(options, tmp_path):
    (tmp_path / "a.cfg").write_text(f"{BEFORE}[maxpool]\n{options}\n{AFTER}")
    torch.manual_seed(0)
    model = load_darknet(tmp_path / "a.cfg").eval()
    formats = ["onnx", "onnx-end2end", "ncnn", "ncnn-fp16", "mnn", "caffe", "darknet"]
    export_model(model, tmp_path / "net", formats, strict=True)
    assert "inf" not in (tmp_path / "net" / "model-fp32.param").read_text()
    x = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    for fmt in ("onnx", "ncnn", "mnn", "caffe"):
        wanted, found = model.predict(x), open_export(tmp_path / "net", fmt).predict(x)
        assert output_difference(wanted, found)[0] < 1e-5, fmt


def test_dense_convolutions_in_mnn_are_exact(tmp_path):
    """64 channels, 3x3, stride 1: MNN's Winograd is off by 1e-3 there, and the hint keeps it out."""
    text = f"{BEFORE}{4 * conv(64)}[maxpool]\nsize=2\nstride=2\n{AFTER}"
    (tmp_path / "a.cfg").write_text(text)
    torch.manual_seed(0)
    model = load_darknet(tmp_path / "a.cfg").eval()
    facts = export_model(model, tmp_path / "net", ["mnn"])["mnn"]
    assert facts["max_difference"] <= facts["tolerance"]
    x = probe_input(model.io)
    difference, largest = output_difference(model.predict(x), open_export(tmp_path / "net", "mnn").predict(x))
    assert difference / max(1, largest) < 1e-5
