"""Two processes train as one that accumulates the same two half-batches."""

import torch

from toolkit.data.toy import make_toy
from toolkit.training.checkpoint import load_checkpoint
from toolkit.training.config import read_config
from toolkit.training.loop import train
from toolkit.training.recipe import recipe


def test_two_processes_equal_two_accumulated_batches(tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    toy = make_toy(tmp_path / "toy", count=100, size=64)
    states = []
    for name, devices, accumulate in (("two", 2, 1), ("one", 1, 2)):
        levers = recipe("modern", batch=8, accumulate=accumulate, epochs=4, optimizer="sgd", momentum=0.9)
        config = read_config(
            {"data": "made", "model": "yoloface-100k", "recipe": levers, "precision": "fp32", "device": "cpu",
             "memory_format": "channels_last", "validations": 1, "devices": devices, "threads": 1}
        )  # fmt: skip
        result = train(config, tmp_path / name, dataset=toy)
        assert result.step == 20
        states.append(load_checkpoint(tmp_path / name / "last.pt")["model"])
    two, one = states
    for key, value in one.items():
        if "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(two[key], value, atol=1e-6, rtol=0, msg=key)
