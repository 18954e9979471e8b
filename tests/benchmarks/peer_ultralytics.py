"""The cost of ultralytics' training loop beside bare steps of its own network, as `training_step` has ours.

Runs in an environment of its own, without this project: python peer_ultralytics.py DATA.yaml
SIDE BATCH ROUNDS prints one line of JSON. `make bench-peers` installs and calls it.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
import ultralytics
from ultralytics import YOLO

MODEL = "yolov8n"


def bare(side: int, batch: int) -> float:
    """Seconds of a forward, backward and optimiser step on random pictures in memory."""
    network = YOLO(f"{MODEL}.yaml").model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-6, 0.9)
    x = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)

    def tensors(answer):
        if isinstance(answer, torch.Tensor):
            return [answer] if answer.is_floating_point() and answer.requires_grad else []
        parts = answer.values() if isinstance(answer, dict) else answer
        return [tensor for part in parts for tensor in tensors(part)]

    def step() -> None:
        optimizer.zero_grad()
        sum(t.float().square().mean() for t in tensors(network(x))).backward()
        optimizer.step()

    step()
    begin = time.perf_counter()
    for _ in range(4):
        step()
    return (time.perf_counter() - begin) / 4


def loop(data: str, side: int, batch: int, folder: str) -> float:
    """Seconds of a step in one epoch of its trainer, data loading and all, validation left out."""
    ends = []
    model = YOLO(f"{MODEL}.yaml")
    model.add_callback("on_train_epoch_start", lambda trainer: ends.append(time.perf_counter()))
    model.add_callback("on_train_batch_end", lambda trainer: ends.append(time.perf_counter()))
    model.train(
        data=data, imgsz=side, batch=batch, epochs=1, device="cpu", val=False, plots=False, cache="ram",
        workers=2, project=folder, name="run", exist_ok=True, verbose=False, save=False,
    )  # fmt: skip
    return (ends[-1] - ends[0]) / (len(ends) - 1)


if __name__ == "__main__":
    data, side, batch, rounds = sys.argv[1], *map(int, sys.argv[2:5])
    bares, loops = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for _ in range(rounds):
            bares.append(bare(side, batch))
            loops.append(loop(data, side, batch, str(Path(temporary))))
    answer = {"version": ultralytics.__version__, "network": MODEL, "bare": bares, "loop": loops}
    print(json.dumps(answer), flush=True)
