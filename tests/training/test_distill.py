"""Learning from another network."""

import pytest
import torch

from toolkit import create_model
from toolkit.runtime import InputError
from toolkit.training.distill import check_teacher, distill_loss

IO = create_model("fastest-v2", input_size=128, classes=3).io


def test_the_student_is_drawn_to_the_teacher():
    generator = torch.Generator().manual_seed(1)
    maps, taught = (
        [torch.randn(2, 24, side, side, generator=generator).requires_grad_() for side in (4, 8)]
        for _ in range(2)
    )
    far = distill_loss(maps, taught, IO, IO)
    near = distill_loss([t + 0.01 for t in taught], taught, IO, IO)
    far.backward()
    assert near < far
    assert all(m.grad.abs().sum() > 0 for m in maps)
    assert all(t.grad is None for t in taught)


def test_a_teacher_must_know_the_same():
    check_teacher(IO, IO)
    with pytest.raises(InputError, match="same classes"):
        check_teacher(IO, create_model("fastest-v2").io)
    with pytest.raises(InputError, match="must agree"):
        check_teacher(create_model("yoloface-100k").io, create_model("yoloface-500k-v2").io)
