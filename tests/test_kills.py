"""A few kills at random moments; `tests.benchmarks.kills` has the other commands, and more of them."""

import pytest

from tests.benchmarks.kills import try_job


@pytest.mark.parametrize("job", ["import", "train"])
def test_a_killed_command_loses_nothing_and_leaves_nothing(job):
    facts = try_job(job, kills=2, seed=0)
    assert facts["kills"] == 2
    assert facts["left_in_the_temporary_folder"] == []
