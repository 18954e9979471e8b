import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from toolkit import boxes as B

coordinates = st.floats(0, 1000, width=32)


@st.composite
def box_arrays(draw, most=12):
    n = draw(st.integers(0, most))
    corner = draw(arrays(np.float32, (n, 2), elements=coordinates))
    size = draw(arrays(np.float32, (n, 2), elements=st.floats(1, 500, width=32)))
    return np.concatenate((corner, corner + size), 1)


@given(box_arrays())
def test_formats_round_trip(boxes):
    np.testing.assert_allclose(B.cxcywh_to_xyxy(B.xyxy_to_cxcywh(boxes)), boxes, atol=1e-3)
    np.testing.assert_allclose(B.xywh_to_xyxy(B.xyxy_to_xywh(boxes)), boxes, atol=1e-3)


@given(box_arrays(), box_arrays())
def test_overlap_measures_keep_their_bounds(a, b):
    iou = B.iou(a, b)
    assert iou.shape == (len(a), len(b))
    assert np.all((iou >= 0) & (iou <= 1 + 1e-6))
    for kind in ("giou", "diou", "ciou"):
        other = B.iou(a, b, kind)
        assert np.all((other <= iou + 1e-5) & (other >= -2))


@given(box_arrays())
def test_a_box_overlaps_itself_fully(boxes):
    for kind in ("iou", "giou", "diou", "ciou"):
        np.testing.assert_allclose(B.iou_aligned(boxes, boxes, kind), 1, atol=1e-5)


def test_overlap_by_hand():
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 9]], np.float32)
    np.testing.assert_allclose(B.iou(a, b)[0], [1 / 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(B.iou(a, b, "giou")[0, 1], 0 - (900 - 200) / 900, atol=1e-6)
    np.testing.assert_allclose(B.iou(a, b, "diou")[0, 0], 1 / 3 - 25 / (225 + 100), atol=1e-6)
    with pytest.raises(ValueError, match="iou kind"):
        B.iou(a, b, "wiou")


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 6), st.integers(0, 6)),
        elements=st.sampled_from([0, 0.4, 0.5, 0.9]),
    ),
    st.booleans(),
)
def test_greedy_matching_equals_the_plain_rule(overlaps, best_first):
    expected, left = [-1] * len(overlaps), overlaps.copy()
    for row in range(len(left) if left.size else 0):
        i = int(left.argmax()) // left.shape[1] if best_first else row
        j = int(left[i].argmax())
        if left[i, j] > 0.4:
            expected[i] = j
            left[:, j] = -1
        if best_first:
            left[i] = -1
    assert B.match_greedily(overlaps, float(np.float32(0.4)), best_first).tolist() == expected


def slow_nms(boxes, scores, class_ids, threshold, kind):
    """The same rule, one pair after the other."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            if class_ids[i] != class_ids[j]:
                continue
            overlap = float(B.iou(boxes[[i]], boxes[[j]])[0, 0])
            if kind == "diou":
                d2 = np.sum((B.xyxy_to_cxcywh(boxes[i])[:2] - B.xyxy_to_cxcywh(boxes[j])[:2]) ** 2)
                low, high = np.minimum(boxes[i], boxes[j])[:2], np.maximum(boxes[i], boxes[j])[2:]
                overlap -= float((d2 / np.sum((high - low) ** 2)) ** 0.6)
            if overlap > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("kind", B.NMS_KINDS)
@given(boxes=box_arrays(most=30), seed=st.integers(0, 99))
def test_nms_equals_the_plain_rule(kind, boxes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(len(boxes)).astype(np.float32)
    class_ids = rng.integers(0, 2, len(boxes))
    kept = B.nms(boxes, scores, class_ids, 0.3, kind)
    assert kept.tolist() == slow_nms(boxes, scores, class_ids, 0.3, kind)


def test_nms_keeps_a_box_exactly_at_the_threshold():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU .5
    kept = B.nms(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 0]), 0.5)
    assert kept.tolist() == [0, 1]
    with pytest.raises(ValueError, match="NMS kind"):
        B.nms(boxes, np.ones(2, np.float32), np.zeros(2, int), 0.5, "soft")


@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([B.stretch, B.letterbox]),
    box_arrays(),
)
def test_placement_round_trip(size, cells, fit, boxes):
    outer = (cells[0] * 32, cells[1] * 32)
    placement = fit(size, outer)
    assert all(
        o >= 0 and o + i <= s for o, i, s in zip(placement.offset, placement.inner, outer, strict=True)
    )
    back = placement.to_image(placement.to_input(boxes) / np.array(outer * 2, np.float32))
    np.testing.assert_allclose(back, boxes, atol=0.02 * max(1, max(size)))


def test_letterbox_as_darknet_places_it():
    placement = B.letterbox((768, 576), (416, 416))
    assert placement.inner == (416, 312)
    assert placement.offset == (0, 52)
