"""What a network may need: bounds above all detectors that people have, and the memory of this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from toolkit.runtime import InputError

# yolov4-p7, among the largest networks of darknet, has 0.29 billion weights and, at 1536 x 1536, maps of 0.1
# billion numbers.
MOST_WEIGHTS = 2**30  # of a network
WEIGHTS_BYTES = 4 * MOST_WEIGHTS + 1000  # of a file with them, and its header
MOST_VALUES = 2**29  # of a feature map
LONGEST_SIDE = 16_384  # of the input, px
MOST_CLASSES = 65_536
MOST_ANCHORS = 1024  # of a head
LARGEST_ANCHOR = 65_536.0  # px, or cells of [region]
MOST_INPUTS = 1024  # of a layer
LARGEST_WINDOW = 1024  # px, with its step and padding; the largest squeeze ratio too
MOST_POINTS = 10_000  # of a face
LONGEST_NAME = 1_000  # characters of a class
GIGABYTE = 1e9
CONTAINERS = Path("/sys/fs/cgroup")  # Linux: limits of the container that the process runs in
# Files with a container's limit and use, and the prefix in memory.stat, of both versions of control groups.
CONTROL_GROUPS = (
    ("memory.max", "memory.current", ""),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_"),
)


def free_memory() -> int:
    """Bytes that this process can still take: those of the machine, or of its container if that has less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used, prefix in CONTROL_GROUPS:
        with suppress(OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
            left = int((CONTAINERS / limit).read_text()) - int((CONTAINERS / used).read_text())
            lines = (CONTAINERS / used).with_name("memory.stat").read_text().splitlines()
            numbers = dict(line.split() for line in lines)
            # files that were read count as used, and make room for whoever needs it
            kept = sum(int(numbers[f"{prefix}{name}"]) for name in ("inactive_file", "active_file"))
            free = min(free, max(0, left + kept))
    return free


def check_memory(name: str, weights: int, values: int) -> None:
    """InputError where a network does not fit into the memory that is free.

    Args:
        name: of the network, for the message.
        weights: its numbers, float32.
        values: those of the feature maps that exist at the same time, for one picture.
    """
    if torch.get_default_device().type == "meta":  # shapes alone
        return
    need, free = 4 * (weights + values), free_memory()
    if need > free:
        raise InputError(
            f"{name} needs {need / GIGABYTE:,.1f} GB ({weights:,} weights, and feature maps of {values:,} "
            f"numbers for a picture), and {free / GIGABYTE:,.1f} GB of memory are free: use a smaller "
            "network or input size, or a machine with more memory"
        )
