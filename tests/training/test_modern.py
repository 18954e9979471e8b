"""The modern loss: each lever is measured."""

import numpy as np
import pytest
import torch

from toolkit import boxes as bx
from toolkit import create_model
from toolkit.models.detector import decode
from toolkit.runtime import InputError
from toolkit.training.distill import check_teacher, distill_loss
from toolkit.training.modern import ASSIGNERS, assign, flatten, modern_loss, pair_iou

IO = create_model("fastest-v2", input_size=128, classes=3).io
TRUTHS = torch.tensor([[0.3, 0.4, 0.3, 0.35], [0.7, 0.6, 0.4, 0.5], [0.5, 0.5, 0.2, 0.3]])
LABELS, PICTURE = torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1])
NONE = torch.zeros(3, dtype=torch.bool)


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 24, side, side, generator=generator).requires_grad_() for side in (4, 8)]


def test_boxes_are_those_of_decode(maps):
    boxes, logits, _, _ = flatten(maps, IO)
    score = logits[..., :1].sigmoid() * logits[..., 1:].sigmoid()
    for i, found in enumerate(decode(maps, IO, 0.3)):
        rows, _ = (score[i] * (logits[i, :, :1].sigmoid() > 0.3) > 0.3).nonzero(as_tuple=True)
        assert len(found.scores) == len(rows) > 0
        ours = bx.cxcywh_to_xyxy(boxes[i, rows].detach().numpy())
        order, other = np.lexsort(ours.T.round(4)), np.lexsort(found.boxes_norm.T.round(4))
        np.testing.assert_allclose(ours[order], found.boxes_norm[other], atol=1e-4)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_overlaps_are_those_of_numpy(kind):
    rng = np.random.default_rng(0)
    a, b = (np.concatenate((rng.random((50, 2)), rng.uniform(0.1, 0.6, (50, 2))), 1) for _ in range(2))
    ours = pair_iou(torch.tensor(a), torch.tensor(b), kind).numpy()
    theirs = bx.iou_aligned(bx.cxcywh_to_xyxy(a), bx.cxcywh_to_xyxy(b), kind)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("assigner", ASSIGNERS)
def test_every_truth_is_answered_and_no_candidate_twice(maps, assigner):
    matches = assign(*flatten(maps, IO), TRUTHS, LABELS, PICTURE, assigner)
    place, truth = matches.place, matches.truth
    assert set(truth.tolist()) == {0, 1, 2}
    assert len(place.unique()) == len(place)
    assert torch.equal(place // sum(3 * m.shape[2] ** 2 for m in maps), PICTURE[truth])


def test_simota_prefers_the_better_box(maps):
    """The same anchors, but one candidate already lies on the truth: only simota follows it."""
    boxes, logits, anchors, origins = flatten([m.detach() for m in maps], IO)
    near = int((origins == torch.tensor([1, 0, 3, 2])).all(1).nonzero())  # in the first truth's cell
    results = {}
    for assigner in ASSIGNERS:
        before = assign(boxes, logits, anchors, origins, TRUTHS, LABELS, PICTURE, assigner)
        moved, sure = boxes.clone(), logits.clone()
        moved[0, near], sure[0, near] = TRUTHS[0], torch.tensor([9.0, 9, -9, -9])
        moved[0, near + 1 :], moved[0, :near] = 2.0, 2.0
        after = assign(moved, sure, anchors, origins, TRUTHS, LABELS, PICTURE, assigner)
        results[assigner] = [
            sorted(zip(m.place.tolist(), m.truth.tolist(), strict=True)) for m in (before, after)
        ]
    assert results["anchor"][0] == results["anchor"][1]
    assert results["simota"][0] != results["simota"][1]


def test_levers_are_connected(maps):
    def parts(**levers):
        return modern_loss(maps, TRUTHS, LABELS, PICTURE, NONE, IO, **levers).parts

    plain = parts()
    assert parts(iou_aware=False)["objectness"] != plain["objectness"]
    assert parts(label_smoothing=0.2)["classes"] != plain["classes"]
    assert parts(assigner="anchor")["box"] != plain["box"]
    assert parts(iou_kind="giou")["box"] != plain["box"]
    doubled = parts(class_weights=torch.full((3,), 2.0))
    torch.testing.assert_close(doubled["classes"], 2 * plain["classes"])
    torch.testing.assert_close(doubled["box"], 2 * plain["box"])
    torch.testing.assert_close(doubled["objectness"], plain["objectness"])


def test_ignored_regions_are_no_background(maps):
    ignore = torch.tensor([False, False, True])
    region = TRUTHS.clone()
    region[2] = torch.tensor([0.5, 0.5, 3.0, 3.0])
    modern_loss(maps, region, LABELS, PICTURE, ignore, IO).total.backward()
    assert maps[0].grad[1].abs().sum() < maps[0].grad[0].abs().sum()
    inside = maps[0].grad.view(2, 3, 8, 4, 4)[1, :, 4]
    assert (inside == 0).any()


@pytest.mark.parametrize("assigner", ASSIGNERS)
def test_a_batch_without_objects(maps, assigner):
    nothing = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    losses = modern_loss(maps, *nothing, torch.zeros(0, dtype=torch.bool), IO, assigner)
    losses.total.backward()
    assert losses.positives == 0
    assert losses.parts["objectness"] > 0
    assert all(m.grad.isfinite().all() for m in maps)


@pytest.mark.parametrize("assigner", ASSIGNERS)
def test_free_maps_come_to_the_truth(maps, assigner):
    optimizer = torch.optim.Adam(maps, 0.1)
    for _ in range(150):
        losses = modern_loss(maps, TRUTHS, LABELS, PICTURE, NONE, IO, assigner)
        optimizer.zero_grad()
        (losses.total / losses.positives).backward()
        optimizer.step()
    for i, found in enumerate(decode(maps, IO, 0.4)):
        mine = (i == PICTURE).numpy()
        wanted = bx.cxcywh_to_xyxy(TRUTHS[mine].numpy())
        overlap = bx.iou(wanted, found.boxes_norm)
        assert (overlap.max(1) > 0.8).all()
        assert found.class_ids[overlap.argmax(1)].tolist() == LABELS[mine].tolist()


def test_distillation_draws_the_student_to_the_teacher(maps):
    taught = [torch.randn_like(m) for m in maps]
    far = distill_loss(maps, taught, IO, IO)
    near = distill_loss([t + 0.01 for t in taught], taught, IO, IO)
    far.backward()
    assert near < far
    assert all(m.grad.abs().sum() > 0 for m in maps)
    check_teacher(IO, IO)
    with pytest.raises(InputError, match="same classes"):
        check_teacher(IO, create_model("fastest-v2").io)
    with pytest.raises(InputError, match="must agree"):
        check_teacher(create_model("yoloface-100k").io, create_model("yoloface-500k-v2").io)
