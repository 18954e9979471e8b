import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from toolkit import create_model, list_models
from toolkit.models.cost import measure
from toolkit.models.darknet.network import load_darknet
from toolkit.runtime import InputError


@pytest.mark.parametrize("name", list_models("detection"))
def test_macs_as_torch_counts_them(name):
    model = create_model(name)
    w, h = model.io.input_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, h, w))
    assert 2 * measure(model).macs == counter.get_total_flops()


def test_parameters_as_torch_counts_them():
    model = create_model("fastest-v2")
    statistics = sum(b.numel() for n, b in model.named_buffers() if "running" in n)
    assert measure(model).params == sum(p.numel() for p in model.parameters()) + statistics


@pytest.mark.parametrize("name", ["yoloface-50k", "yoloface-100k", "yoloface-500k-v1"])
def test_receptive_field_as_gradients_see_it(name):
    """The centre cell of each head reacts to no pixel outside the receptive field, and to its borders."""
    model = create_model(name)
    stride = model.io.stride
    side = -(-int(measure(model).heads[0].receptive_field * 1.3) // (2 * stride)) * 2 * stride
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, torch.nn.MaxPool2d):
            module.forward = lambda x, m=module: torch.nn.functional.avg_pool2d(
                x, m.kernel_size, m.stride, m.padding, m.ceil_mode, count_include_pad=False
            )
    x = torch.ones(1, 3, side, side, requires_grad=True)
    for head, raw in zip(measure(model).heads, model(x), strict=True):
        (gradient,) = torch.autograd.grad(
            raw[0, 0, raw.shape[2] // 2, raw.shape[3] // 2], x, retain_graph=True
        )
        rows = torch.nonzero(gradient.abs().sum((0, 1, 3))).flatten()
        seen = int(rows.max() - rows.min() + 1)
        assert seen <= head.receptive_field
        assert seen >= head.receptive_field - 2 * model.io.stride


def test_cost_follows_the_input_size():
    model = create_model("nano-voc")
    half, full = measure(model, (160, 160)), measure(model)
    assert full.macs == pytest.approx(4 * half.macs, rel=1e-9)
    assert full.peak_memory == 4 * half.peak_memory
    assert half.params == full.params
    with pytest.raises(InputError, match="not a multiple of this network's stride 32"):
        measure(model, (170, 160))


def test_peak_memory_by_hand(tmp_path):
    cfg = tmp_path / "tiny.cfg"
    cfg.write_text(
        "[net]\nwidth=32\nheight=32\n"
        "[convolutional]\nfilters=4\nsize=3\nstride=1\npad=1\nactivation=relu\n"  # 4 x 32 x 32
        "[maxpool]\nsize=2\nstride=2\n"  # 4 x 16 x 16
        "[convolutional]\nfilters=6\nsize=1\nstride=1\nactivation=linear\n"
        "[yolo]\nanchors=1,1\nclasses=1\n"
    )
    cost = measure(load_darknet(cfg))
    # the input (3 x 32 x 32) and the first map live together; later maps are smaller
    assert cost.peak_memory == 4 * (3 + 4) * 32 * 32
    assert [layer.kind for layer in cost.layers] == ["convolutional", "maxpool", "convolutional"]
    assert cost.bflops == pytest.approx((2 * 27 * 4 * 1024 + 4 * 4 * 256 + 2 * 4 * 6 * 256) / 1e9)
    assert cost.heads[0].receptive_field == 4
    assert np.prod(cost.heads[0].output_shape) == 6 * 16 * 16
