"""Executed instructions of an exported network on an ARM processor, counted under qemu.

The number is the same each time but for some hundred, which vary with the layout of memory. It does not tell
milliseconds: a processor executes several instructions at once, and waits for data.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.device.answers import last_line
from toolkit.device.build import RUNNER, build_runner, cache, layers_of
from toolkit.device.settings import RUNNER_FORMATS, load_picture, timed_formats
from toolkit.files import temporary_folder, whole_file
from toolkit.runtime import InputError, progress, require
from toolkit.text import one_line

EMULATORS = {"arm64-v8a": "qemu-aarch64", "armeabi-v7a": "qemu-arm"}
COUNTER = RUNNER / "emulator" / "counter.c"
LONGEST = 600  # seconds of one count


@dataclass(frozen=True)
class Instructions:
    """Executed for one picture on one thread.

    Attributes:
        total: of the network from its input to its raw outputs.
        layers: name in the .param -> instructions of this layer alone, in running order.
    """

    total: int
    layers: Mapping[str, int]


def count_instructions(folder: str | Path, fmt: str = "ncnn", abi: str = "arm64-v8a") -> Instructions:
    """The instructions that the timing runner executes for scikit-image's astronaut, the second time that it
    runs the network. Builds the runner where it is missing (minutes, once); a count takes seconds.

    Args:
        folder: what `export_model` wrote.
        fmt: "ncnn", "ncnn-fp16" or "ncnn-int8".
        abi: one of `EMULATORS`; the processor is qemu's newest, with half precision and dot products.

    Raises:
        InputError: no qemu that takes plugins, no such format, a runner that cannot be built, or a network
            that does not run.
    """
    if fmt not in RUNNER_FORMATS:
        raise InputError(f"instructions are counted for {', '.join(RUNNER_FORMATS)}, not {fmt}")
    timed_formats(Path(folder), [fmt])  # that it has this one
    emulator, counter = _emulator(abi), _counter()
    runner = build_runner(abi, layers_of([folder]), ndk=False)
    image, name = load_picture()
    with temporary_folder() as work:
        raw, marks = work / f"{name}.rgb", work / "marks"
        raw.write_bytes(image.tobytes())
        plugin = ",out=".join(str(path).replace(",", ",,") for path in (counter, marks))
        size = f"{image.shape[1]}x{image.shape[0]}"
        words = ["-cpu", "max", "-plugin", plugin, runner, "count", folder]
        words += ["--raw", raw, "--size", size, "--format", fmt]
        try:
            done = subprocess.run(
                [emulator, *map(str, words)], capture_output=True, text=True, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{folder} did not run within {LONGEST} s under {emulator}") from None
        if done.returncode:
            message = last_line(done.stderr, f"exit code {done.returncode}")
            raise InputError(f"{folder} does not run under {emulator}: {message}")
        counts = [int(line) for line in marks.read_text().split()]
    total, _, *spans = (after - before for before, after in itertools.pairwise(counts))
    return Instructions(total, dict(zip(json.loads(done.stdout)["layers"], spans, strict=True)))


def count_formats(folder: str | Path, formats: Iterable[str], abi: str = "arm64-v8a") -> dict[str, int]:
    """Those of `formats` that the runner opens -> `Instructions.total`. Raises InputError as
    `count_instructions`, and where no runner was ever built: that takes minutes."""
    counted = [fmt for fmt in formats if fmt in RUNNER_FORMATS]
    if counted and not any(cache().glob(f"runner-{abi}-*/runner")):
        raise InputError(
            f"there is no runner for {abi} here yet: build it with toolkit device build --abi {abi}"
        )
    return {fmt: count_instructions(folder, fmt, abi).total for fmt in progress(counted, "instructions")}


def _emulator(abi: str) -> str:
    """The qemu that runs programs for `abi` and takes plugins, which static builds of qemu do not."""
    if abi not in EMULATORS:
        raise InputError(f"unknown ABI {abi!r}: instructions are counted for {', '.join(EMULATORS)}")
    program = shutil.which(EMULATORS[abi])
    if program is None:
        raise InputError(f"{EMULATORS[abi]} is not installed: apt-get install qemu-user")
    options = subprocess.run([program, "-help"], capture_output=True, text=True).stdout
    if "-plugin" not in options:
        raise InputError(f"{program} takes no plugins: install a qemu-user that was built with them")
    return program


def _counter() -> Path:
    """The plugin for qemu on this machine, compiled when first asked for."""
    require("ziglang", "device")
    library = cache() / f"counter-{hashlib.sha256(COUNTER.read_bytes()).hexdigest()[:16]}.so"
    if not library.is_file():
        options = ("-std=c2x", "-O2", "-shared", "-fPIC", "-fvisibility=hidden")
        with whole_file(library) as whole:
            command = [sys.executable, "-m", "ziglang", "cc", *options, "-o", str(whole), str(COUNTER)]
            environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache() / "zig")}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise InputError(f"{COUNTER.name} does not compile: {one_line(done.stderr, 400)}")
    return library
