"""What training costs beside its arithmetic: the loop, pictures and all, against bare steps in memory.

python -m tests.benchmarks.training_step        (five minutes)
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tests.benchmarks.record import options, write
from toolkit.data.toy import make_toy
from toolkit.models import create_model
from toolkit.runtime import keep_freed_memory
from toolkit.training.autotune import bare_step
from toolkit.training.config import read_config
from toolkit.training.loop import train
from toolkit.training.recipe import recipe

BATCH, SIDE, STEPS = 32, 320, 24


def overhead(rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds of a step of fastest-v2, in turn: forward, backward and optimiser on tensors in memory in the
    four configurations, and the loop under both recipes in the fastest of them."""
    os.environ["TOOLKIT_CACHE"] = str(folder / "cache")
    keep_freed_memory()  # as `train` does: the bare steps have it too
    toy = make_toy(folder / "toy", count=BATCH * STEPS * 5 // 4, size=SIDE)
    threads = torch.get_num_threads()  # of both sides, whatever else the machine does
    configurations = [(a, b) for a in ("channels_last", "contiguous") for b in ("fp32", "bf16")]
    seconds: dict[str, list[float]] = {}
    for round_ in range(rounds):
        for layout, precision in configurations:
            model = create_model("fastest-v2", classes=toy.classes, input_size=[SIDE, SIDE]).train()
            step = bare_step(model, BATCH, layout, precision, torch.device("cpu"))
            step()
            begin = time.perf_counter()
            for _ in range(STEPS // 3):
                step()
            spent = (time.perf_counter() - begin) / (STEPS // 3)
            seconds.setdefault(f"bare {layout} {precision}", []).append(spent)
        fastest = min(configurations, key=lambda c: float(np.median(seconds[f"bare {c[0]} {c[1]}"])))
        for name in ("seed", "modern"):
            config = read_config(
                {"data": "made", "model": "fastest-v2", "recipe": recipe(name, batch=BATCH, epochs=1),
                 "memory_format": fastest[0], "precision": fastest[1], "threads": threads, "device": "cpu",
                 "validations": 1, "size": (SIDE, SIDE)}
            )  # fmt: skip
            result = train(config, folder / f"{name}{round_}", dataset=toy)
            seconds.setdefault(f"loop {name}", []).append(BATCH / result.pictures_per_second)
    medians = {name: round(float(np.median(times)), 4) for name, times in seconds.items()}
    bare = min(value for name, value in medians.items() if name.startswith("bare"))
    return {
        "seconds_a_step": medians,
        "loop_by_fastest_bare": {n: round(medians[f"loop {n}"] / bare, 3) for n in ("seed", "modern")},
    }


if __name__ == "__main__":
    given = options("training_step", __doc__ or "", "rounds", 3)
    with TemporaryDirectory() as temporary:
        figures = overhead(given.rounds, Path(temporary))
    write("training_step", given, ["torch"], {"fastest-v2, 320 x 320, batch 32": figures})
