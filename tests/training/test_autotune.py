"""What a training chooses by timing, and what that costs."""

import json

import pytest
import torch

from toolkit.data.toy import make_toy
from toolkit.machine import cache_folder
from toolkit.training import autotune
from toolkit.training.config import read_config
from toolkit.training.tasks import complete


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    dataset = make_toy(tmp_path / "set", count=12, size=64)
    levers = {"name": "modern", "batch": 2}
    return complete(
        read_config({"data": "set", "model": "yoloface-50k", "size": (64, 64), "recipe": levers}), dataset
    )


@pytest.fixture
def steps(monkeypatch):
    """Every step that was timed: threads, memory format, precision."""
    done = []
    real = autotune.bare_step

    def counted(model, batch, memory_format, precision, device):
        step = real(model, batch, memory_format, precision, device)

        def count():
            done.append((torch.get_num_threads(), memory_format, precision))
            step()

        return count

    monkeypatch.setattr(autotune, "bare_step", counted)
    return done


def free(monkeypatch, cores):
    monkeypatch.setattr(autotune, "free_cores", lambda: cores)
    monkeypatch.setattr(autotune, "allowed_cores", lambda: 2)


def test_a_short_run_times_nothing(config, steps, monkeypatch):
    free(monkeypatch, 2.0)
    chosen = autotune.autotuned(config, 100)
    assert steps == []
    assert (chosen.memory_format, chosen.precision) == ("channels_last", "fp32")
    assert "not timed" in chosen.notes["machine"]


def test_timing_costs_a_twentieth_of_the_steps_and_is_remembered(config, steps, monkeypatch):
    free(monkeypatch, 2.0)
    monkeypatch.setattr(autotune, "has_bf16", lambda device: False)
    first = autotune.autotuned(config, 200)
    assert 0 < len(steps) <= 200 * autotune.SHARE
    assert {precision for _, _, precision in steps} == {"fp32"}
    steps.clear()
    again = autotune.autotuned(config, 200)
    assert steps == []
    assert (again.memory_format, again.threads) == (first.memory_format, first.threads)
    assert "as timed before" in again.notes["machine"]
    autotune.autotuned(config.model_copy(update={"changes": {**config.changes, "input_size": [96, 96]}}), 200)
    assert steps, "another input size is timed anew"


def test_what_was_stated_is_not_remembered_as_a_choice(config, steps, monkeypatch):
    free(monkeypatch, 2.0)
    stated = config.model_copy(update={"memory_format": "contiguous", "precision": "auto"})
    monkeypatch.setattr(autotune, "has_bf16", lambda device: True)
    autotune.autotuned(stated, 10_000)
    steps.clear()
    autotune.autotuned(config, 10_000)
    assert {memory_format for _, memory_format, _ in steps} == {"channels_last", "contiguous"}
    fixed = config.model_copy(update={"memory_format": "contiguous", "precision": "fp32"})
    assert "timed" not in autotune.autotuned(fixed, 10_000).notes["machine"]


def test_a_damaged_memory_is_timed_again(config, steps, monkeypatch):
    free(monkeypatch, 2.0)
    autotune.autotuned(config, 10_000)
    (file,) = (cache_folder() / "choices").iterdir()
    for text in ("", "[" * 1000, json.dumps({"memory_format": "upside_down", "precision": "fp32"})):
        file.write_text(text)
        steps.clear()
        autotune.autotuned(config, 10_000)
        assert steps


def test_slow_steps_end_the_timing(config, steps, monkeypatch):
    free(monkeypatch, 2.0)
    monkeypatch.setattr(autotune, "LIMIT", 0.0)
    assert autotune.autotuned(config, 10_000).memory_format == "channels_last"
    assert len(steps) <= 1


def test_threads_are_chosen_by_the_free_cores(config, steps, monkeypatch):
    if torch.get_num_threads() < 2:
        pytest.skip("one core")
    free(monkeypatch, 0.8)
    short = autotune.autotuned(config, 10)
    assert short.threads == 1
    assert "others keep 1 of 2 cores busy" in short.notes["machine"]
    assert steps == []
    before = torch.get_num_threads()
    autotune.autotuned(config, 400)
    assert 0 < len(steps) <= 400 * autotune.SHARE, "threads and the rest share one budget"
    steps.clear()
    autotune.autotuned(config, 10_000)
    assert {threads for threads, _, _ in steps} >= {1, 2}
    assert torch.get_num_threads() == before
    assert autotune.autotuned(config.model_copy(update={"threads": 2}), 10).threads == 2
