"""What is timed and how: formats, threads, cores, loops, the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from toolkit.export.folder import Exported
from toolkit.export.registry import FORMATS
from toolkit.pictures import Image, load_image
from toolkit.runtime import InputError

# Largest difference of a score to the same file's here that agrees; of a box, this part of the longest side
# of the picture or of the box; of a landmark, this part of the longest side of the box. A page resizes by
# itself.
TOLERANCES = {"ncnn": 1e-3, "ncnn-fp16": 0.04, "ncnn-int8": 0.04, "onnx": 0.005}
RUNNER_FORMATS = ("ncnn", "ncnn-fp16", "ncnn-int8")  # of the program for phones and boards
HERE_FORMATS = tuple(  # by their engines' Python packages, on this machine alone
    name for name, row in FORMATS.items() if row.engine in ("onnx", "mnn", "litert") and len(row.tasks) > 1
)


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


def timed_formats(folder: Path, wanted: Sequence[str], sweep: bool = False) -> list[str]:
    """The formats to time: those that are wanted, with `sweep` all that the runner takes, else ncnn. Raises
    InputError where the folder has not all of them."""
    there = Exported.read(folder).formats
    chosen = [fmt for fmt in RUNNER_FORMATS if fmt in there] if sweep and not wanted else list(wanted)
    chosen = chosen or ["ncnn"]
    for fmt in chosen:
        if fmt not in (*RUNNER_FORMATS, *HERE_FORMATS):
            raise InputError(
                f"{fmt} is not a format that can be timed: expected {', '.join(RUNNER_FORMATS)}, or on this "
                f"machine {', '.join(HERE_FORMATS)}"
            )
        if fmt not in there:
            raise InputError(
                f"{folder} has no {fmt}, it has {', '.join(there)}: export the network with --to {fmt}"
            )
    return chosen


def swept_settings(about: Mapping[str, Any]) -> list[tuple[int, int]]:
    threads = [count for count in (1, 2, 4) if count <= about["cores"]]
    return list(product(threads, (0, 2) if len(set(about["max_khz"])) > 1 else (0,)))
