"""The modern recipe's loss: every lever changes what it says, and nothing else."""

import dataclasses

import numpy as np
import pytest
import torch

from toolkit import boxes as box_tools
from toolkit.models import create_model
from toolkit.models.decode import decode
from toolkit.models.io import HeadIO, ModelIO
from toolkit.runtime import InputError
from toolkit.training.assign import IOU_KINDS, yolo_layers
from toolkit.training.losses.darknet import darknet_loss
from toolkit.training.losses.modern import ASSIGNERS, Answer, answers, flatten, modern_loss, pair_iou

IO = ModelIO(
    (128, 128),
    ("a", "b", "c"),
    (
        HeadIO(32, ((60.0, 60.0), (90.0, 50.0)), 1.1),
        HeadIO(16, ((16.0, 16.0), (32.0, 30.0)), 1.05),
    ),
    32,
)
A_LOT = 12.0  # a logit whose probability is all but 1


def random_maps(n=2, seed=0, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(n, len(h.anchors) * 8, 128 // h.stride, 128 // h.stride, generator=generator) * scale
        ).to(dtype)
        for h in IO.heads
    ]


def batch(*rows, dtype=torch.float32):
    """rows: picture, cx, cy, w, h, label, ignore -> truths, labels, picture, ignore."""
    table = torch.tensor(rows, dtype=torch.float64).view(-1, 7)
    return table[:, 1:5].to(dtype), table[:, 5].long(), table[:, 0].long(), table[:, 6].bool()


TWO = batch((0, 0.4, 0.45, 0.3, 0.25, 1, 0), (1, 0.7, 0.2, 0.11, 0.14, 2, 0), (1, 0.3, 0.6, 0.5, 0.55, 0, 0))


def test_flattened_boxes_are_those_of_decode():
    for new_coords in (False, True):
        io = dataclasses.replace(
            IO, heads=tuple(dataclasses.replace(head, new_coords=new_coords) for head in IO.heads)
        )
        maps = random_maps(seed=1)
        maps = [raw.sigmoid() for raw in maps] if new_coords else maps
        boxes, logits, anchors, origins = flatten(maps, io)
        assert len(anchors) == len(origins) == boxes.shape[1] == 2 * 16 + 2 * 64
        chances = logits.sigmoid()
        scores = chances[..., :1] * chances[..., 1:]
        for i, found in enumerate(decode(maps, io, 0.3)):
            candidate, label = (scores[i] > 0.3).nonzero(as_tuple=True)
            keep = chances[i, candidate, 0] > 0.3
            candidate, label = candidate[keep], label[keep]
            expected = box_tools.cxcywh_to_xyxy(boxes[i, candidate].numpy())
            order, other = np.lexsort(expected.T), np.lexsort(found.boxes_norm.T)
            np.testing.assert_allclose(expected[order], found.boxes_norm[other], atol=1e-5)
            assert sorted(label.tolist()) == sorted(found.class_ids.tolist())
    head, anchor, row, column = origins[40].tolist()
    raw = torch.zeros(1, 16, 8, 8)
    raw.view(2, 8, 8, 8)[anchor, 4, row, column] = 1
    assert head == 1
    assert flatten([torch.zeros(1, 16, 4, 4), raw], IO)[1][0, 40, 0] == 1


@pytest.mark.parametrize("kind", IOU_KINDS)
def test_overlaps_are_those_of_the_boxes_module(kind):
    generator = torch.Generator().manual_seed(2)
    a, b = torch.rand(2, 50, 4, generator=generator, dtype=torch.float64) * 0.4 + 0.1
    expected = box_tools.iou_aligned(
        box_tools.cxcywh_to_xyxy(a.numpy()), box_tools.cxcywh_to_xyxy(b.numpy()), kind
    )
    np.testing.assert_allclose(pair_iou(a, b, kind).numpy(), expected, atol=1e-8)
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(pair_iou(a, b, kind).sum(), a)
    step = 1e-6

    def value(moved):
        if kind != "ciou":
            return pair_iou(moved, b, kind)
        # The trade-off is held still, as the paper has it.
        v = 4 / np.pi**2 * (torch.atan2(a[:, 2], a[:, 3]) - torch.atan2(b[:, 2], b[:, 3])).square()
        alpha = v / (1 - pair_iou(a, b) + v + 1e-9)
        new = 4 / np.pi**2 * (torch.atan2(moved[:, 2], moved[:, 3]) - torch.atan2(b[:, 2], b[:, 3])).square()
        return pair_iou(moved, b, "diou") - alpha * new

    with torch.no_grad():
        for d in range(4):
            shift = torch.zeros_like(a)
            shift[:, d] = step
            numeric = (value(a + shift) - value(a - shift)) / (2 * step)
            np.testing.assert_allclose(gradient[:, d].numpy(), numeric.numpy(), rtol=1e-5, atol=1e-6)


def loss(maps=None, truths=TWO, **levers):
    return modern_loss(random_maps() if maps is None else maps, *truths, IO, **levers)


def gradients(maps, truths=TWO, **levers):
    leaves = [raw.clone().requires_grad_() for raw in maps]
    losses = loss(leaves, truths, **levers)
    losses.total.backward()
    return losses, [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("assigner", ASSIGNERS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_gradients_are_finite_with_and_without_truths(assigner, scale):
    corner = batch((1, 1.0, 1.0, 1e-4, 0.02, 0, 0), (1, 0.0, 0.0, 1e-4, 1e-4, 0, 0))
    for truths in (TWO, batch(), batch((0, 0.5, 0.5, 1, 1, 0, 1)), corner):
        losses, grads = gradients(random_maps(scale=scale), truths, assigner=assigner)
        assert all(torch.isfinite(grad).all() for grad in grads)
        real = int((~truths[3]).sum())
        found = answers(random_maps(scale=scale), *(t[~truths[3]] for t in truths[:3]), IO, assigner)
        assert {answer.truth for answer in found} == set(range(real))  # every truth has somebody
        pictures = truths[2][~truths[3]].tolist()
        taken = {(pictures[a.truth], a.head, a.anchor, a.row, a.column) for a in found}
        assert len(taken) == len(found)  # nobody answers for two
        assert (losses.positives > 0) == (real > 0)
        assert losses.total.detach() == pytest.approx(float(sum(losses.parts.values())), rel=1e-5)
    without = gradients(random_maps(), batch(), assigner=assigner)[1]
    for raw, grad in zip(random_maps(), without, strict=True):
        grad, raw = grad.unflatten(1, (2, 8)), raw.unflatten(1, (2, 8))
        torch.testing.assert_close(grad[:, :, 4], raw[:, :, 4].sigmoid())  # background alone
        assert not grad[:, :, [0, 1, 2, 3, 5, 6, 7]].any()


@pytest.mark.parametrize("assigner", ASSIGNERS)
def test_optimising_the_maps_themselves_finds_the_truths(assigner):
    maps = [(raw * 0.1).requires_grad_() for raw in random_maps(seed=5)]
    optimiser = torch.optim.Adam(maps, 0.2)
    for _ in range(120):
        optimiser.zero_grad()
        losses = loss(maps, assigner=assigner)
        (losses.total / losses.positives).backward()
        optimiser.step()
    truths, labels, picture, _ = TWO
    expected = box_tools.cxcywh_to_xyxy(truths.numpy())
    for i, found in enumerate(decode(maps, IO, 0.3)):
        kept = box_tools.nms(found.boxes_norm, found.scores, found.class_ids, 0.45)
        mine = (picture == i).numpy()
        overlap = box_tools.iou(expected[mine], found.boxes_norm[kept])
        assert (overlap.max(1) > 0.8).all()
        assert (found.class_ids[kept][overlap.argmax(1)] == labels.numpy()[mine]).all()
        assert len(kept) == mine.sum()


def likely_in(maps, head, anchor, row, column, label, box):
    """Let one candidate give `box` (cxcywh) of class `label` with great certainty."""
    h = IO.heads[head]
    cells = 128 // h.stride
    place = maps[head].unflatten(1, (2, 8))[0, anchor, :, row, column]
    inside = torch.tensor([box[0] * cells - column, box[1] * cells - row])
    place[:2] = torch.logit((inside + (h.scale_x_y - 1) / 2) / h.scale_x_y, 1e-6)
    place[2:4] = torch.log(torch.tensor(box[2:]) * 128 / torch.tensor(h.anchors[anchor]))
    place[4:] = -A_LOT
    place[[4, 5 + label]] = A_LOT


def test_assigners_choose_by_shape_by_cost_and_by_alignment():
    """A truth whose best shape is anchor 1 of the fine head, but which anchor 0 beside it already finds."""
    maps = [torch.full_like(raw[:1], -A_LOT) for raw in random_maps()]
    for raw in maps:
        raw.unflatten(1, (2, 8))[:, :, :4] = -3
    box = (0.4375 - 0.06, 0.4375, 0.2, 0.2)  # centre in column 3, near its left edge; row 3
    likely_in(maps, 1, 0, 3, 3, 2, box)
    truth = (torch.tensor([box]), torch.tensor([2]), torch.tensor([0]))
    by_shape = answers(maps, *truth, IO, "anchor")
    assert [(a.head, a.anchor, a.row, a.column) for a in by_shape] == [(1, 1, 3, 3)]
    by_cost = answers(maps, *truth, IO, "simota")
    assert [(a.head, a.anchor, a.row, a.column) for a in by_cost] == [(1, 0, 3, 3)]
    likely_in(
        maps, 1, 1, 3, 2, 2, (box[0] - 0.02, *box[1:])
    )  # another that overlaps: two overlaps sum to > 1
    likely_in(maps, 1, 0, 3, 2, 2, (box[0] - 0.02, *box[1:]))
    assert len(answers(maps, *truth, IO, "simota")) == 2
    aligned = answers(maps, *truth, IO, "tal")
    assert (1, 0, 3, 3) in [(a.head, a.anchor, a.row, a.column) for a in aligned]
    totals = {
        a: float(loss(maps, (*truth, torch.tensor([False])), assigner=a).total.detach()) for a in ASSIGNERS
    }
    assert len(set(totals.values())) == 3
    # Of two truths that want the same candidate the one it suits better gets it.
    two = (torch.tensor([(0.45, 0.45, 0.2, 0.2), box]), torch.tensor([2, 2]), torch.tensor([0, 0]))
    (owner,) = [
        a.truth for a in answers(maps, *two, IO, "simota") if (a.anchor, a.row, a.column) == (0, 3, 3)
    ]
    assert owner == 1


def test_the_seeds_rule_for_the_same_pictures():
    model = create_model("nano-voc")
    maps = [torch.zeros(1, 75, 320 // head.stride, 320 // head.stride) for head in model.io.heads]
    truth = (torch.tensor([[0.52, 0.51, 26 / 320, 48 / 320]]), torch.tensor([3]), torch.tensor([0]))
    found = answers(maps, *truth, model.io, "seed", yolo_layers(model))
    # The first anchor fits; the second's IoU of .2217 is above iou_thresh, .213; the others' are not.
    assert found == [Answer(0, 1, 0, 10, 10), Answer(0, 1, 1, 10, 10)]


def test_alignment_weighs_positives_and_is_their_target():
    losses, grads = gradients(random_maps(), assigner="tal")
    found = answers(random_maps(), *TWO[:3], IO, "tal")
    assert 0 < losses.positives < len(found)
    hard = loss(assigner="simota")
    assert hard.positives == len(answers(random_maps(), *TWO[:3], IO, "simota"))
    best = found[0]
    raw, grad = (
        m[best.head].unflatten(1, (2, 8))[0, best.anchor, 4, best.row, best.column]
        for m in (random_maps(), grads)
    )
    assert float(raw.sigmoid() - grad) < 0.9  # the target: an alignment, not 1


@pytest.mark.parametrize("assigner", ["anchor", "simota"])
def test_iou_aware_objectness_learns_the_overlap(assigner):
    maps = random_maps(seed=3)
    boxes, logits, _, origins = flatten(maps, IO)
    aware, plain = (gradients(maps, assigner=assigner, iou_aware=lever)[1] for lever in (True, False))
    for a in answers(maps, *TWO[:3], IO, assigner):
        i = int(TWO[2][a.truth])
        candidate = int((origins == torch.tensor([a.head, a.anchor, a.row, a.column])).all(1).nonzero())
        overlap = pair_iou(boxes[i, candidate], TWO[0][a.truth])
        chance = logits[i, candidate, 0].sigmoid()
        place = (i, a.anchor, 4, a.row, a.column)
        torch.testing.assert_close(aware[a.head].unflatten(1, (2, 8))[place], chance - overlap)
        torch.testing.assert_close(plain[a.head].unflatten(1, (2, 8))[place], chance - 1)


def test_class_weights_scale_boxes_and_classes_exactly():
    one = batch((0, 0.4, 0.45, 0.3, 0.25, 1, 0))
    plain = loss(truths=one)
    heavy = loss(truths=one, class_weights=torch.tensor([1.0, 3.0, 1.0]))
    other = loss(truths=one, class_weights=torch.tensor([5.0, 1.0, 5.0]))
    torch.testing.assert_close(heavy.parts["classes"], 3 * plain.parts["classes"])
    torch.testing.assert_close(heavy.parts["box"], 3 * plain.parts["box"])
    torch.testing.assert_close(heavy.parts["objectness"], plain.parts["objectness"])
    assert heavy.positives == plain.positives
    assert other.parts == plain.parts


def test_label_smoothing_is_exact():
    one, s = batch((0, 0.4, 0.45, 0.3, 0.25, 1, 0)), 0.2
    maps = random_maps()
    _, logits, _, origins = flatten(maps, IO)
    expected = 0.0
    for a in answers(maps, *one[:3], IO, "anchor"):
        candidate = int((origins == torch.tensor([a.head, a.anchor, a.row, a.column])).all(1).nonzero())
        p = logits[0, candidate, 1:].sigmoid()
        y = torch.tensor([s / 2, 1 - s / 2, s / 2])
        expected -= float((y * p.log() + (1 - y) * (1 - p).log()).sum())
    found = loss(maps, one, assigner="anchor", label_smoothing=s).parts["classes"]
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(found) != pytest.approx(float(loss(maps, one, assigner="anchor").parts["classes"]), rel=1e-3)


def test_parts_follow_their_weights_and_the_kind_of_overlap():
    plain = loss()
    for lever, part in (("box_weight", "box"), ("obj_weight", "objectness"), ("cls_weight", "classes")):
        default = {"box_weight": 5.0}.get(lever, 1.0)
        changed = loss(**{lever: 2 * default})
        for name, value in plain.parts.items():
            torch.testing.assert_close(changed.parts[name], value * (2 if name == part else 1))
    values = {kind: float(loss(iou_kind=kind).parts["box"]) for kind in IOU_KINDS}
    assert len(set(values.values())) == 4
    assert values["iou"] < values["diou"] < values["ciou"]


def test_ignored_regions_are_no_background_and_no_truth():
    maps = random_maps()
    boxes = flatten(maps, IO)[0][0]
    region = batch((0, 0.25, 0.5, 0.5, 1.0, 0, 1))
    _, grads = gradients(maps, region)
    low, high = boxes[:, 0] - boxes[:, 2] / 2, boxes[:, 0] + boxes[:, 2] / 2
    tall = (boxes[:, 1] - boxes[:, 3] / 2).clamp(0), (boxes[:, 1] + boxes[:, 3] / 2).clamp(max=1)
    inside = (high.clamp(max=0.5) - low.clamp(0)).clamp(0) * (tall[1] - tall[0]) / boxes[:, 2:].prod(1)
    flat = torch.cat([g.unflatten(1, (2, 8))[:, :, 4].flatten(1) for g in grads], 1)
    sure = (inside - 0.5).abs() > 1e-4
    assert torch.equal((flat[0] == 0)[sure], (inside > 0.5)[sure])
    assert (flat[1] != 0).all()  # the other picture
    assert not any(g.unflatten(1, (2, 8))[:, :, [0, 1, 2, 3, 5, 6, 7]].any() for g in grads)


def test_boxes_near_a_truth_may_be_spared_as_background():
    maps = [torch.full_like(raw[:1], -A_LOT) for raw in random_maps()]
    box = (0.4375, 0.4375, 0.2, 0.2)
    for anchor in (0, 1):
        likely_in(maps, 1, anchor, 3, 3, 2, box)
    likely_in(maps, 1, 0, 4, 3, 2, (0.4375, 0.5, 0.2, 0.2))  # IoU .52, its centre on the edge of its cell
    truth = batch((0, *box, 2, 0))
    _, strict = gradients(maps, truth, assigner="anchor")
    _, spared = gradients(maps, truth, assigner="anchor", spare_iou=0.5)
    place = (0, 0, 4, 4, 3)
    assert strict[1].unflatten(1, (2, 8))[place] > 0.9
    assert spared[1].unflatten(1, (2, 8))[place] == 0


@pytest.mark.parametrize("assigner", ASSIGNERS)
def test_what_is_not_a_number_shows_in_the_loss_not_as_an_error(assigner):
    maps = random_maps()
    maps[1][0] = torch.nan
    assert torch.isnan(loss(maps, assigner=assigner).total)


def test_half_precision_maps_and_channels_last_give_the_same():
    expected = loss([raw.bfloat16().float() for raw in random_maps()])
    with torch.autocast("cpu", torch.bfloat16):
        found = loss([raw.bfloat16().to(memory_format=torch.channels_last) for raw in random_maps()])
    torch.testing.assert_close(found.total, expected.total)
    assert found.total.dtype == torch.float32
    model = create_model("nano-voc")
    maps = [torch.randn(2, 75, 320 // h.stride, 320 // h.stride) for h in model.io.heads]
    rest = (*TWO, yolo_layers(model), model.io.input_size)
    plain = darknet_loss(maps, *rest).total
    last = darknet_loss([raw.to(memory_format=torch.channels_last) for raw in maps], *rest).total
    torch.testing.assert_close(plain, last)


@pytest.mark.parametrize("levers", [{"assigner": "atss"}, {"iou_kind": "siou"}])
def test_unknown_levers_are_named(levers):
    with pytest.raises(InputError, match=next(iter(levers.values()))):
        loss(**levers)
