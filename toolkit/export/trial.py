"""An exported file of a stranger, run once in a process of its own, where it may crash or fill the memory."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from toolkit.export.ncnn import reason
from toolkit.machine import cache_folder
from toolkit.models.io import NetworkIO
from toolkit.runtime import InputError, announced

SECONDS = 120
SPARE_BYTES = 1_500_000_000  # beyond some copies of the file: engine, Python and feature maps
COPIES = 6
_LIMIT = """
import sys, numpy
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
except ImportError:
    pass
shape, path, outputs = [int(side) for side in sys.argv[2].split(",")], sys.argv[3], sys.argv[4:]
"""
REFUSED = 3  # exit code where the engine itself says no
# Engines whose files crash the process where they are damaged.
SCRIPTS = {
    "ncnn": """
import ncnn
net = ncnn.Net()
net.opt.num_threads = 1
if net.load_param(path) or net.load_model(path.removesuffix(".param") + ".bin"):
    sys.exit(3)
extractor, x = net.create_extractor(), numpy.zeros(shape[1:], numpy.float32)
extractor.input("in0", ncnn.Mat(x))
for name in outputs:
    if extractor.extract(name.replace("map", "out"))[0]:
        sys.exit(3)
""",
    "mnn": """
import MNN
try:
    module = MNN.nn.load_module_from_file(path, ["images"], outputs)
except SystemError:
    sys.exit(3)
x = MNN.expr.const(numpy.zeros(shape, numpy.float32), shape, MNN.expr.NCHW)
for raw in module.forward([x]):
    MNN.expr.convert(raw, MNN.expr.NCHW).read()
""",
}


def try_out(engine: str, path: Path, io: NetworkIO, hashes: Sequence[str]) -> None:
    """Run a file of ncnn or MNN once, on an empty picture; other engines refuse damage by themselves. What
    has run is remembered in our cache.

    Args:
        engine: that runs it.
        path: the .param or .mnn file.
        io: of the network.
        hashes: sha256 of the files of its format.

    Raises:
        InputError: it crashes, takes longer than two minutes, or far more memory than it is long.
    """
    if engine not in SCRIPTS:
        return
    width, height = io.input_size
    shape = f"1,{io.channels},{height},{width}"
    outputs = [f"map{i}" for i in range(io.outputs)]
    trial = hashlib.sha256("\n".join([SCRIPTS[engine], shape, *outputs, *hashes]).encode())
    passed = cache_folder() / "tried" / trial.hexdigest()
    if passed.exists():
        return
    size = sum(part.stat().st_size for part in (path, path.with_suffix(".bin")) if part.is_file())
    arguments = [str(SPARE_BYTES + COPIES * size), shape, str(path.resolve()), *outputs]
    with announced(f"trying {path.name} in a process of its own"):
        code, lines = _ended(_LIMIT + SCRIPTS[engine], arguments)
    if code == REFUSED and engine == "ncnn":
        raise InputError(f"ncnn cannot open {path}: {reason(path, lines)}")
    if code:
        why = f"it ends with code {code}" if code < 256 else f"it takes over {SECONDS} seconds"
        why = "it opens no further" if code == REFUSED else why
        raise InputError(
            f"{path} cannot be run by {engine} ({why}, tried in a process of its own): it is damaged, takes "
            f"too much memory, or is no export of a network with {io.outputs} outputs"
        )
    with suppress(OSError):  # a cache that cannot be written: it is tried again
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()


def _ended(script: str, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Exit code of a Python program, 256 where it took too long, and what it printed."""
    command = [sys.executable, "-P", "-c", script, *arguments]
    try:
        run = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return 256, []
    return run.returncode, (run.stdout + run.stderr).decode(errors="replace").splitlines()
