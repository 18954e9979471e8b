"""What is timed and how: formats, threads, cores, loops, the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from toolkit.export.folder import Exported
from toolkit.pictures import Image, load_image
from toolkit.runtime import InputError

# Largest difference of a score to the wheel's that agrees; of a box, this part of the longest side of the
# picture or of the box; of a landmark, this part of the longest side of the box.
TOLERANCES = {"ncnn": 1e-3, "ncnn-fp16": 0.04, "ncnn-int8": 0.04}


@dataclass(frozen=True)
class Load:
    """How a network is timed: `loops` after `warmup` ones, or for `seconds` where above 0 (60 and more show
    what heat does); then `cooldown` seconds of rest."""

    warmup: int = 8
    loops: int = 50
    seconds: float = 0
    cooldown: float = 1


def load_picture(path: str | Path | None = None) -> tuple[Image, str]:
    """RGB pixels (H, W, 3) of a file and its name; scikit-image's astronaut unless given."""
    if path is not None:
        return load_image(path), Path(path).stem
    from skimage.data import astronaut

    return astronaut(), "astronaut"


def timed_formats(folder: Path, wanted: Sequence[str], sweep: bool) -> list[str]:
    there = [fmt for fmt in Exported.read(folder).formats if fmt in TOLERANCES]
    chosen = there if sweep and not wanted else list(wanted) or ["ncnn"]
    missing = [fmt for fmt in chosen if fmt not in there]
    if missing or not chosen:
        lacking = missing[0] if missing else "ncnn"
        has = ", ".join(there) or "no ncnn format"
        raise InputError(f"{folder} has no {lacking}, it has {has}: export the network with --to {lacking}")
    return chosen


def swept_settings(about: Mapping[str, Any]) -> list[tuple[int, int]]:
    threads = [count for count in (1, 2, 4) if count <= about["cores"]]
    return list(product(threads, (0, 2) if len(set(about["max_khz"])) > 1 else (0,)))
