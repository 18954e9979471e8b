"""Damaged files end in a result or a sentence: 300 of them here, 10,000 in `make fuzz` (TOOLKIT_FUZZ)."""

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.readers import READERS, read_file
from tests.fuzz.watched import Limits, Outcome, Watched
from toolkit.runtime import require

INPUTS = int(os.environ.get("TOOLKIT_FUZZ", "300"))  # over all readers
SEED = int(os.environ.get("TOOLKIT_FUZZ_SEED", "0"))


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with Watched(tmp_path_factory.mktemp("fuzz")) as child:
        yield child


def faults(watched: Watched, name: str, count: int) -> dict[str, tuple[Outcome, bytes]]:
    """What ended badly among `count` inputs of a reader: fault -> the smallest input with it."""
    found: dict[str, tuple[Outcome, bytes]] = {}

    @seed(SEED)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(READERS[name].inputs())
    def read(data: bytes) -> None:
        outcome = watched.call(read_file, watched.folder, name, data)
        key = f"{outcome.end} {outcome.place}"
        if not outcome.good and (key not in found or len(data) < len(found[key][1])):
            found[key] = (outcome, data)

    read()
    return found


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_gives_a_result_or_a_sentence(name, watched, tmp_path):
    count = -(-INPUTS // len(READERS))
    lines = []
    for i, (key, (outcome, data)) in enumerate(sorted(faults(watched, name, count).items())):
        path = tmp_path / f"{name.replace(' ', '-')}-{i}"
        path.write_bytes(data)
        size = f"{len(data)} bytes, {outcome.seconds} s, {outcome.megabytes} MB"
        lines.append(f"{path} ({size}): {key}\n{outcome.text}")
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("name", READERS)
def test_what_the_inputs_are_made_from_is_read(name, watched):
    """At least one of a reader's own files, else all would end at its door."""
    files = READERS[name].seeds()
    assert any(watched.call(read_file, watched.folder, name, data).end == "result" for data in files)


@pytest.mark.parametrize(
    ("end", "call"),
    [
        ("result", (len, "x")),
        ("sentence", (require, "a_package_that_is_not_there", "export")),
        ("traceback", (len, 3)),
        ("traceback", (os._exit, "x")),
        ("crash", (os.abort,)),
        ("crash", (os._exit, 0)),
        ("hang", (time.sleep, 9)),
        ("memory", (os.urandom, 60 << 20)),
        ("memory", (bytearray, 1 << 40)),
        ("slow", (sum, range(100_000_000))),
    ],
)
def test_each_end_is_seen(end, call, tmp_path):
    with Watched(tmp_path, Limits(0.2, 3 if end == "hang" else 40, 50)) as child:
        assert child.call(*call).end == end
        assert child.call(len, "x").good  # the next input has a child again
