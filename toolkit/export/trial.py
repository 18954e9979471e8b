"""An exported file of a stranger, run once in a process of its own, where it may crash or fill the memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from toolkit.export.ncnn import reason
from toolkit.machine import cache_folder
from toolkit.models.bounds import free_memory
from toolkit.models.io import NetworkIO
from toolkit.runtime import InputError, announced
from toolkit.text import one_line

SECONDS = 120
# What a trial may take beyond some copies of the file: engine and Python, and feature maps for each pixel of
# the input (of yolov4-p7, among the largest networks, the longest map has 42 numbers for a pixel).
SPARE_BYTES = 1_000_000_000
PIXEL_BYTES = 4 * 400
COPIES = 6
_LIMIT = """
import sys
try:
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    room = int(sys.argv[1])
    room = room if soft == resource.RLIM_INFINITY else min(room, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (room, hard))
except (ImportError, ValueError, OSError):
    pass
import numpy
shape, path, outputs = [int(side) for side in sys.argv[2].split(",")], sys.argv[3], sys.argv[4:]
"""
REFUSED = 3  # exit code where the engine itself says no


@dataclass(frozen=True)
class Trial:
    """How an engine runs a file: the Python package that it needs, and the program."""

    package: str
    script: str


_ONNX = Trial(
    "onnxruntime",
    """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
try:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) == 1:
        sides = [side if isinstance(side, int) else 1 for side in inputs[0].shape]
        session.run(None, {inputs[0].name: numpy.zeros(sides, numpy.float32)})
except Exception as error:
    print(error)
    sys.exit(3)
""",
)
# Engines whose files crash the process, or fill its memory, where they are damaged.
TRIALS = {
    "ncnn": Trial(
        "ncnn",
        """
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
    ),
    "mnn": Trial(
        "MNN",
        """
import MNN
try:
    module = MNN.nn.load_module_from_file(path, ["images"], outputs)
except SystemError:
    sys.exit(3)
x = MNN.expr.const(numpy.zeros(shape, numpy.float32), shape, MNN.expr.NCHW)
for raw in module.forward([x]):
    MNN.expr.convert(raw, MNN.expr.NCHW).read()
""",
    ),
    "litert": Trial(
        "ai_edge_litert",
        """
from ai_edge_litert.interpreter import Interpreter
try:
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    for each in interpreter.get_input_details():
        interpreter.set_tensor(each["index"], numpy.zeros(each["shape"], each["dtype"]))
    interpreter.invoke()
except (ValueError, RuntimeError) as error:
    print(error)
    sys.exit(3)
""",
    ),
    "onnx": _ONNX,
    "openvino": _ONNX,  # it opens the same files
}


def try_out(engine: str, path: Path, io: NetworkIO, hashes: Sequence[str]) -> None:
    """Run a file once, on an empty picture; engines that are not named in `TRIALS` refuse damage by
    themselves. What has run is remembered in our cache, for this version of the engine.

    Args:
        engine: that runs it.
        path: its file, of ncnn the .param.
        io: of the network.
        hashes: sha256 of the files of its format.

    Raises:
        InputError: it crashes, takes longer than two minutes, or far more memory than it is long.
    """
    if engine not in TRIALS or find_spec(TRIALS[engine].package) is None:  # opening says what to install
        return
    trial = TRIALS[engine]
    width, height = io.input_size
    shape = f"1,{io.channels},{height},{width}"
    outputs = [f"map{i}" for i in range(io.outputs)]
    facts = [trial.script, _version(trial.package), shape, *outputs, *hashes]
    passed = cache_folder() / "tried" / hashlib.sha256("\n".join(facts).encode()).hexdigest()
    if passed.exists():
        return
    size = sum(part.stat().st_size for part in (path, path.with_suffix(".bin")) if part.is_file())
    room = min(SPARE_BYTES + COPIES * size + PIXEL_BYTES * width * height, free_memory())
    with announced(f"trying {path.name} in a process of its own"):
        code, lines = _ended(_LIMIT + trial.script, [str(room), shape, str(path.resolve()), *outputs])
    if code == REFUSED and engine != "mnn":  # which does not say why
        why = reason(path, lines) if engine == "ncnn" else one_line(" ".join(lines), 400)
        raise InputError(f"{trial.package} cannot open {path}: {why or 'there is not enough memory'}")
    if code:
        why = f"it ends with code {code}" if code < 256 else f"it takes over {SECONDS} seconds"
        why = "it does not open" if code == REFUSED else why
        raise InputError(
            f"{path} cannot be run by {engine} ({why}, tried in a process of its own): it is damaged, takes "
            f"too much memory, or is no export of a network with {io.outputs} outputs"
        )
    with suppress(OSError):  # a cache that cannot be written: it is tried again
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed under another name, as onnxruntime-gpu
        return ""


def _ended(script: str, arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Exit code of a Python program, 256 where it took too long, and what it printed."""
    command = [sys.executable, "-P", "-c", script, *arguments]
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # each thread's stack counts as memory
    try:
        run = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, env=variables)
    except subprocess.TimeoutExpired:
        return 256, []
    return run.returncode, (run.stdout + run.stderr).decode(errors="replace").splitlines()
