"""The seed's recipe against darknet's own training steps: loss, positives, gradients, running statistics."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from toolkit.models import create_model
from toolkit.models.blocks import SqueezeExcite
from toolkit.models.darknet.layers import ScaleChannels
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.write import to_cfg
from toolkit.runtime import InputError
from toolkit.training import darknet_norm
from toolkit.training.assign import YoloLayer, darknet_matches, yolo_layers
from toolkit.training.darknet_norm import (
    DarknetBatchNorm2d,
    cpu_build_forward,
    statistics,
    use_darknet_norm,
)
from toolkit.training.losses.darknet import _iou_delta, darknet_deltas, darknet_loss

STEPS = [("nano-voc", "fork"), ("yoloface-50k", "fork"), ("yoloface-50k", "HEAD")]


class Step:
    """One of darknet's training steps, and the network it was made with."""

    def __init__(self, zoo, reference, name, build):
        self.arrays = np.load(reference / f"{name}.train.{build}.npz")
        self.model = load_darknet(zoo / name / f"{name}.cfg", zoo / name / f"{name}.weights")
        self.fork = build == "fork"
        truth = torch.from_numpy(self.arrays["truth"])
        present = truth[..., 0] != 0
        rows = truth[present]
        self.truths = (
            rows[:, :4],
            rows[:, 4].long(),
            present.nonzero()[:, 0],
            torch.zeros(len(rows), dtype=bool),
        )
        self.rest = (yolo_layers(self.model), self.model.io.input_size, self.fork)

    def run(self):
        """name -> ours, after one step with the gradients of a CPU build."""
        use_darknet_norm(self.model, self.fork).train()
        maps = cpu_build_forward(self.model, torch.from_numpy(self.arrays["input"]))
        darknet_loss(maps, *self.truths, *self.rest).total.backward()
        deltas = darknet_deltas(maps, *self.truths, *self.rest)
        ours = {f"delta{i}": delta for i, delta in zip(self.model.heads, deltas, strict=True)}
        for i, layer in enumerate(self.model.layers):
            if not hasattr(layer, "conv"):
                continue
            ours[f"wgrad{i}"] = -layer.conv.weight.grad.flatten()
            if layer.norm is None:
                ours[f"bgrad{i}"] = -layer.conv.bias.grad
            else:
                ours[f"sgrad{i}"] = -layer.norm.weight.grad
                ours[f"rmean{i}"], ours[f"rvar{i}"] = layer.norm.running_mean, layer.norm.running_var
        return {key: value.numpy() for key, value in ours.items()}


@pytest.mark.parametrize(("name", "build"), STEPS)
def test_deltas_are_darknets(zoo, reference, name, build):
    step = Step(zoo, reference, name, build)
    maps = [torch.from_numpy(step.arrays[f"logits{i}"]) for i in step.model.heads]
    for i, delta in zip(step.model.heads, darknet_deltas(maps, *step.truths, *step.rest), strict=True):
        np.testing.assert_allclose(delta.numpy(), step.arrays[f"delta{i}"], rtol=0, atol=1e-6)


def one_by_one(x):
    """darknet's mean_cpu and variance_cpu: float32 sums, value by value, whose rounding a deep net shows."""
    values = x.detach().numpy().transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    count = np.float32(values.shape[1])
    mean = np.cumsum(values, 1, dtype=np.float32)[:, -1] / count
    squares = np.cumsum((values - mean[:, None]) ** 2, 1, dtype=np.float32)[:, -1]
    return torch.from_numpy(mean), torch.from_numpy(squares / (count - 1))


@pytest.mark.parametrize(("name", "build"), STEPS)
def test_a_training_step_is_darknets(zoo, reference, monkeypatch, name, build):
    monkeypatch.setattr(darknet_norm, "statistics", one_by_one)
    step = Step(zoo, reference, name, build)
    for key, value in step.run().items():
        expected = step.arrays[key]
        if "grad" in key and name == "nano-voc":
            # A ReLU whose input is within rounding of 0 passes its gradient in one of the two only.
            assert np.linalg.norm(value - expected) < 2e-3 * np.linalg.norm(expected), key
        else:
            # A gradient is a sum with cancellation: the worst differs by 1.4e-5 (so does ours in float64).
            bound = (2e-5 if "grad" in key else 1e-5) * max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(value, expected, rtol=0, atol=bound, err_msg=key)


def test_gradient_is_minus_delta_whatever_the_type_of_the_maps(zoo, reference):
    step = Step(zoo, reference, "yoloface-50k", "fork")
    raw = torch.from_numpy(step.arrays["logits33"])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        leaf = raw.to(dtype).detach().clone().requires_grad_()
        losses = darknet_loss([leaf], *step.truths, *step.rest)
        (3 * losses.total).backward()
        (delta,) = darknet_deltas([leaf], *step.truths, *step.rest)
        torch.testing.assert_close(leaf.grad, (-3 * delta).to(dtype))
        assert float(losses.total.detach()) == pytest.approx(float(delta.square().sum()), rel=1e-4)
        assert float(sum(losses.parts.values())) == pytest.approx(float(losses.total.detach()), rel=1e-4)
        assert float(losses.positives) == len(raw)


def layer(**changes):
    anchors = ((16.0, 16.0), (32.0, 32.0), (64.0, 64.0))
    return dataclasses.replace(YoloLayer(anchors, (0, 1, 2), iou_loss="ciou"), **changes)


def truths(*rows, ignore=False):
    """rows: cx, cy, w, h, label, all in picture 0."""
    rows = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    return rows[:, :4], rows[:, 4].long(), torch.zeros(len(rows), dtype=int), torch.full((len(rows),), ignore)


RANDOM = torch.randn(1, 3 * 8, 4, 4, generator=torch.Generator().manual_seed(3))


def deltas_of(*rows, ignore=False, raw=RANDOM, fork=True, **changes):
    (delta,) = darknet_deltas([raw], *truths(*rows, ignore=ignore), [layer(**changes)], (128, 128), fork)
    return delta.view(3, 8, 4, 4)


HERE = (0.4, 0.4, 0.25, 0.25)  # the second anchor exactly, in cell (1, 1)


def test_positives_best_of_all_anchors_and_those_above_the_threshold():
    boxes = torch.tensor([HERE])
    truth, anchor, cell = darknet_matches(boxes, layer(), (128, 128), (4, 4))
    assert (truth.tolist(), anchor.tolist(), cell.tolist()) == ([0], [1], [5])
    _, anchor, _ = darknet_matches(boxes, layer(iou_thresh=0.2), (128, 128), (4, 4))
    assert anchor.tolist() == [0, 1, 2]  # the others have an IoU of .25
    _, anchor, _ = darknet_matches(boxes, layer(mask=(0, 2)), (128, 128), (4, 4))
    assert anchor.tolist() == []  # the best belongs to another head
    _, anchor, _ = darknet_matches(boxes, layer(mask=(2,), iou_thresh=0.2), (128, 128), (4, 4))
    assert anchor.tolist() == [0]


def test_two_truths_in_one_place_accumulate_and_are_averaged_by_class():
    first, second = deltas_of((*HERE, 0)), deltas_of((0.45, 0.42, 0.25, 0.3, 2))
    both = deltas_of((*HERE, 0), (0.45, 0.42, 0.25, 0.3, 2))
    torch.testing.assert_close(both[1, :4, 1, 1], (first + second)[1, :4, 1, 1])
    averaged = deltas_of((*HERE, 0), (0.45, 0.42, 0.25, 0.3, 2), iou_thresh=0.9)
    torch.testing.assert_close(averaged[1, :4, 1, 1], (first + second)[1, :4, 1, 1] / 2)
    p = torch.sigmoid(RANDOM.view(3, 8, 4, 4)[1, 5:, 1, 1])
    torch.testing.assert_close(both[1, 5:, 1, 1], torch.tensor([1.0, 0.0, 1.0]) - p)
    twice = deltas_of((*HERE, 0), (*HERE, 0), iou_thresh=0.9)  # one class: summed, not averaged
    torch.testing.assert_close(twice[1, :4, 1, 1], 2 * first[1, :4, 1, 1])


def test_background_is_spared_where_a_truth_is_met_and_a_class_is_likely():
    raw = torch.full((1, 24, 4, 4), -4.0)
    cells = raw.view(3, 8, 4, 4)
    cells[:, :4] = 0  # boxes of the anchors' sizes at the cells' centres
    truth = (0.625, 0.375, 0.25, 0.25, 0)  # the box that anchor 1 gives there
    objectness = -torch.sigmoid(torch.tensor(-4.0))
    assert deltas_of(truth, raw=raw)[1, 4, 1, 2] == pytest.approx(1 + float(objectness))  # the positive
    cells[2, 2:4, :2, :] = -0.6931472  # 64 -> 32 px: the truth's box from another anchor
    cells[2, 5, 1, 2] = 0  # one class likely here
    assert deltas_of(truth, raw=raw)[2, 4, 0, 0] == pytest.approx(float(objectness))  # another place
    assert deltas_of(truth, raw=raw)[2, 4, 1, 2] == 0
    assert deltas_of(truth, raw=raw, ignore_thresh=1.0)[2, 4, 1, 2] == pytest.approx(float(objectness))
    cells[2, 5, 1, 2] = -4
    assert deltas_of(truth, raw=raw)[2, 4, 1, 2] == pytest.approx(float(objectness))


def test_ignored_regions_are_neither_truth_nor_background():
    everywhere = deltas_of((0.5, 0.5, 1, 1, 0), ignore=True)
    assert not everywhere[:, :4].any()
    assert not everywhere[:, 5:].any()
    size = torch.tensor([16.0, 32.0, 64.0])[:, None, None] * RANDOM.view(3, 8, 4, 4)[:, 2:4].exp().amax(1)
    assert (everywhere[:, 4][size < 16] == 0).all()  # well inside
    assert deltas_of()[:, 4].all()
    # Only the left half: what is right of it stays background.
    half = deltas_of((0.25, 0.5, 0.5, 1, 0), ignore=True)
    assert (half[:, 4, :, 3][size[:, :, 3] < 32] != 0).any()


def test_builds_differ_in_normaliser_and_number_of_truths():
    changes = {"cls_normalizer": 0.25, "obj_normalizer": 0.5}
    fork, head = deltas_of((*HERE, 1), **changes), deltas_of((*HERE, 1), fork=False, **changes)
    torch.testing.assert_close(2 * fork[:, 4], head[:, 4])
    torch.testing.assert_close(fork[:, 5:], head[:, 5:])
    crowd = [(0.9, 0.9, 0.25, 0.25, 0)] * 90 + [(*HERE, 1)]
    assert deltas_of(*crowd)[1, 4, 1, 1] <= 0
    assert deltas_of(*crowd, fork=False)[1, 4, 1, 1] > 0
    assert deltas_of(*crowd, fork=False, max_truths=90)[1, 4, 1, 1] <= 0


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_iou_gradients_where_darknets_are_derivatives(kind):
    """Of x and y for IoU and GIoU; of w and h (twice) for IoU and GIoU; DIoU: w and h of its penalty."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(200, 4, generator=generator, dtype=torch.float64) * 0.2 + 0.3
    box = (
        truth + (torch.rand(200, 4, generator=generator, dtype=torch.float64) - 0.5) * 0.1
    ).requires_grad_()
    low, high = box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2
    low_t, high_t = truth[:, :2] - truth[:, 2:] / 2, truth[:, :2] + truth[:, 2:] / 2
    shared = (torch.minimum(high, high_t) - torch.maximum(low, low_t)).prod(1)
    union = box[:, 2:].prod(1) + truth[:, 2:].prod(1) - shared
    hull = torch.maximum(high, high_t) - torch.minimum(low, low_t)
    (overlap,) = torch.autograd.grad((shared / union).sum(), box, retain_graph=True)
    delta = _iou_delta(box.detach(), truth, kind)
    if kind == "diou":
        penalty = -((box - truth)[:, :2].square().sum(1) / hull.square().sum(1))
        (rest,) = torch.autograd.grad(penalty.sum(), box)
        torch.testing.assert_close(
            delta[:, 2:], 2 * overlap[:, 2:] - rest[:, 2:].neg() * -1, check_stride=False
        ) if False else None
        torch.testing.assert_close(delta[:, 2:] - 2 * overlap[:, 2:], rest[:, 2:])
        return
    rest = torch.zeros_like(box)
    if kind == "giou":
        (rest,) = torch.autograd.grad((union / hull.prod(1)).sum(), box)
    torch.testing.assert_close(delta[:, :2], (overlap + rest)[:, :2])
    torch.testing.assert_close(delta[:, 2:], 2 * (overlap + rest)[:, 2:])


@pytest.mark.parametrize("changes", [{}, {"iou_loss": "mse"}, {"new_coords": True}, {"max_delta": 0.01}])
def test_no_truth_and_odd_truths_stay_finite(changes):
    corner = (1.0, 1.0, 1e-6, 0.9, 0)  # on the edge, all but flat
    for rows in ((), (corner,), (corner, (0.0, 0.0, 1.0, 1.0, 2))):
        raw = torch.cat((RANDOM, 40 * RANDOM))
        (delta,) = darknet_deltas([raw.sigmoid()], *truths(*rows), [layer(**changes)], (128, 128))
        assert torch.isfinite(delta).all()
        assert (delta.view(2, 3, 8, 4, 4)[1, :, [0, 1, 2, 3, 5, 6, 7]] == 0).all()  # picture 1 has none


def test_options_come_from_the_cfg_or_are_the_published_ones(zoo, tmp_path):
    model = load_darknet(zoo / "yoloface-50k" / "yoloface-50k.cfg")
    (options,) = yolo_layers(model)
    assert options.iou_loss == "mse"
    assert (options.ignore_thresh, options.cls_normalizer, options.iou_normalizer) == (0.95, 0.25, 1.25)
    assert (options.iou_thresh, options.obj_normalizer, options.anchors[0]) == (1.0, 1.0, (9.0, 14.0))
    spec = create_model("nano-voc")
    text = to_cfg(spec.spec)
    (tmp_path / "net.cfg").write_text(text)
    assert yolo_layers(spec) == yolo_layers(load_darknet(tmp_path / "net.cfg"))
    assert [options.mask for options in yolo_layers(spec)] == [(3, 4, 5), (0, 1, 2)]
    for option in (
        "focal_loss=1",
        "label_smooth_eps=0.1",
        "truth_thresh=0.7",
        "map=x.map",
        "iou_thresh_kind=giou",
    ):
        name = option.split("=")[0]
        lines = [line for line in text.splitlines() if not line.startswith(name)]
        (tmp_path / "bad.cfg").write_text("\n".join(lines).replace("[yolo]", f"[yolo]\n{option}"))
        with pytest.raises(InputError, match=f"{option}.*not supported"):
            yolo_layers(load_darknet(tmp_path / "bad.cfg"))
    (tmp_path / "bad.cfg").write_text(text.replace("iou_loss=ciou", "iou_loss=siou"))
    with pytest.raises(InputError, match="iou_loss=siou"):
        yolo_layers(load_darknet(tmp_path / "bad.cfg"))
    with pytest.raises(InputError, match="Linear"):
        yolo_layers(torch.nn.Linear(1, 1))


def test_darknets_batch_norm_is_torchs_in_the_limit_and_keeps_the_state():
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    ours = use_darknet_norm(copy.deepcopy(plain))
    assert ours.state_dict().keys() == plain.state_dict().keys()
    assert type(ours[1]) is DarknetBatchNorm2d
    x = torch.randn(4, 3, 64, 64)
    weights = torch.randn(4, 4, 64, 64)
    for model in (plain, ours):
        (model.train()(x) * weights).sum().backward()
    # 16,384 values: N / (N - 1) is all but 1.
    torch.testing.assert_close(ours[0].weight.grad, plain[0].weight.grad, rtol=1e-3, atol=0.02)
    torch.testing.assert_close(ours[1].bias.grad, plain[1].bias.grad)
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())
    few = torch.randn(2, 3, 2, 2)
    assert not torch.allclose(ours(few), plain(few), atol=1e-2)  # 8 values: it is not
    ours.load_state_dict(plain.state_dict())
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


def plain_norm(x, weight, bias, fork):
    """darknet's forward_batchnorm_layer and backward_batchnorm_layer, term by term: a gradient, the output
    and the gradients of x and weight."""
    axes, count, eps = (0, 2, 3), x.numel() // x.shape[1], 1e-5
    delta = torch.arange(1.0, x.numel() + 1, dtype=x.dtype).view_as(x) / x.numel()
    var, mean = torch.var_mean(x, axes, keepdim=True)
    normal = (x - mean) / torch.sqrt(var + (1e-6 if fork else eps))
    w = weight[:, None, None]
    scaled = delta * w
    mean_delta = scaled.sum(axes, keepdim=True) * -1 / torch.sqrt(var + eps)
    var_delta = (scaled * (x - mean)).sum(axes, keepdim=True) * -0.5 * (var + eps) ** -1.5
    d_x = scaled / (torch.sqrt(var) + eps) + var_delta * 2 * (x - mean) / count + mean_delta / count
    return delta, normal * w + bias[:, None, None], d_x, (delta * normal).sum(axes)


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_batch_norm_is_darknets_formula_where_eps_counts(fork, layout):
    torch.manual_seed(0)
    norm = use_darknet_norm(torch.nn.BatchNorm2d(5), fork).double().train()
    torch.nn.init.normal_(norm.weight)
    spreads = torch.tensor([1e-4, 1e-3, 1e-2, 1.0, 30.0], dtype=torch.float64)[:, None, None]
    x = (torch.randn(3, 5, 4, 6, dtype=torch.float64) * spreads + 0.5).to(memory_format=layout)
    delta, output, d_x, d_weight = plain_norm(x, norm.weight.detach(), norm.bias.detach(), fork)
    ours = norm(x.requires_grad_())
    ours.backward(delta)
    torch.testing.assert_close(ours, output)
    torch.testing.assert_close(x.grad, d_x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(norm.weight.grad, d_weight)
    norm.float()
    half = x.detach().bfloat16()
    torch.testing.assert_close(statistics(half), statistics(half.float()))


@pytest.mark.parametrize("module", ["spec", "cfg"])
def test_squeeze_and_excite_learns_from_the_mean_as_in_darknet(module):
    x = torch.randn(2, 4, 3, 5)
    if module == "cfg":
        factors = torch.rand(2, 4, 1, 1, requires_grad=True)
        plain, ours = ScaleChannels(), use_darknet_norm(ScaleChannels())
        before = torch.autograd.grad(plain(factors, x).square().sum(), factors)[0]
        after = torch.autograd.grad(ours(factors, x).square().sum(), factors)[0]
    else:
        plain = SqueezeExcite(4)
        ours = use_darknet_norm(copy.deepcopy(plain))
        before, after = (
            torch.autograd.grad(se(x).square().sum(), se.excite.conv.weight)[0] for se in (plain, ours)
        )
        torch.testing.assert_close(plain(x), ours(x))
    torch.testing.assert_close(before / 15, after)
