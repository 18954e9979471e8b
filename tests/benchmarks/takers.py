"""Programs that read ONNX files, tried on this project's, each in an environment of its own (make takers).

python -m tests.benchmarks.takers [--environments .venv-takers] [--only "OpenCV 4.5.5.64"]   (half an hour)

Each program reads the file, runs it and is compared with torch. RKNN's toolkit builds a .rknn file for a
chip, which its simulator runs.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from rich.console import Console

from tests.benchmarks.record import RESULTS, write
from tests.cfgs import SPLIT, conv, net, output, plain_head
from toolkit.cli.answer import table
from toolkit.export.onnx import OnnxSettings, export, export_end2end, export_int8
from toolkit.export.parity import probe_input
from toolkit.models.darknet.network import load_darknet
from toolkit.models.network import TorchNetwork, fold
from toolkit.models.zoo import create_model
from toolkit.runtime import progress

PROGRAM = Path(__file__).with_name("taker.py")
SECONDS = 300  # for one file


@dataclass(frozen=True)
class Taker:
    """A program, by a function of taker.py, and what pip installs for it.

    Attributes:
        program: the function.
        requirements: of the environment; none where it is this project's own.
        bare: requirements installed without what they ask for.
        options: of the function.
        newest_python: that has wheels of it.
        tolerance: of the relative difference; None where precision is given away on purpose.
        complaint: a pattern for what it prints where it goes on without having taken all.
    """

    program: str
    requirements: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    newest_python: tuple[int, int] = (3, 13)
    tolerance: float | None = 1e-4
    complaint: str = ""


def _rknn(release: str, target: str, quantized: bool = False) -> Taker:
    # The toolkit asks for torch <= 2.4, which it imports for its own PyTorch reader alone: this project's
    # will do, and 2.5 GB stay where they are.
    requirements = (
        "numpy<=1.26.4", "onnx>=1.16.1,<=1.18.0", "onnxruntime>=1.17,<1.20", "protobuf>=4.21.6,<=4.25.4",
        "scipy", "psutil", "tqdm", "fast-histogram", "ruamel.yaml", "opencv-python-headless<4.12",
        "setuptools<80",
    )  # fmt: skip
    bare = (f"rknn-toolkit2=={release}",)
    options = {"target": target, "quantized": quantized}
    complaint = "No lowering found for: .*"  # the simulator runs it, the chip has no such operator
    return Taker("rknn", requirements, bare, options, (3, 12), None if quantized else 0.02, complaint)


def _opencv(release: str) -> Taker:
    return Taker("opencv", (f"opencv-python-headless=={release}", "numpy<2"), newest_python=(3, 12))


def _openvino(release: str) -> Taker:
    return Taker("openvino", (f"openvino=={release}", "numpy<2"), newest_python=(3, 11))


def _onnxruntime(release: str, newest: tuple[int, int]) -> Taker:
    return Taker("onnxruntime", (f"onnxruntime=={release}", "numpy<2"), newest_python=newest)


TAKERS = {
    "onnxruntime 1.16.3 (2023)": _onnxruntime("1.16.3", (3, 11)),
    "onnxruntime 1.20.1 (2024)": _onnxruntime("1.20.1", (3, 13)),
    f"onnxruntime {version('onnxruntime')}": Taker("onnxruntime"),
    "OpenCV 4.5.5.64": _opencv("4.5.5.64"),
    "OpenCV 4.7.0.72": _opencv("4.7.0.72"),
    "OpenCV 4.10.0.84": _opencv("4.10.0.84"),
    f"OpenCV {cv2.__version__}": Taker("opencv"),
    "OpenVINO 2023.3.0": _openvino("2023.3.0"),
    "OpenVINO 2024.6.0": _openvino("2024.6.0"),
    f"OpenVINO {version('openvino')}": Taker("openvino"),
    f"pnnx {version('pnnx')}": Taker("pnnx"),
    "TVM 0.27.0.post1": Taker(
        "tvm", ("apache-tvm==0.27.0.post1", "onnx<1.19", "numpy<2.3"), newest_python=(3, 12)
    ),
    "RKNN 2.3.2 rk3588": _rknn("2.3.2", "rk3588"),
    "RKNN 2.5.0 rk3588": _rknn("2.5.0", "rk3588"),
    "RKNN 2.5.0 rk3566": _rknn("2.5.0", "rk3566"),
    "RKNN 2.5.0 rv1106, int8": _rknn("2.5.0", "rv1106", quantized=True),
}
# Programs that people ask for, and why nothing is known of them here.
NOT_TRIED = {
    "TensorRT 8.6": "its parser needs its builder, and that a GPU: without one the wheel of 8.6.0 ends with "
    "CUDA error 35; its documentation names opset 17",
}
NETWORKS = ("fastest-v2", "yoloface-500k-v2", "nano-coco", "landmark106")
# What the zoo does not have and strangers' networks do: Mish, a Split, an upsampling.
CSP = (
    net(96, 96)
    + conv(16, stride=2, activation="mish")
    + SPLIT
    + conv(16, stride=2, activation="mish")
    + "[upsample]\nstride=2\n[route]\nlayers=-1,0\n[maxpool]\nsize=2\nstride=2\n"
    + output(18)
    + plain_head(1, "8,8, 24,24, 48,48")
)
OPSETS = (13, 18, 19, 20)  # tried besides the default


@dataclass(frozen=True)
class Case:
    """A file, and an input with torch's outputs next to it."""

    network: str
    kind: str
    path: Path
    tolerance: float = 0.0  # where the file itself is rounded

    @property
    def arrays(self) -> Path:
        return self.path.with_suffix(".npz")


def cases(folder: Path, seed: int) -> Iterator[Case]:
    """Every network with a free batch and a batch of 1; two in other opsets; two pictures, simplified, with
    detections, int8 of one each."""
    kinds = {"batch free": OnnxSettings(), "batch 1": OnnxSettings(batch=1)}
    others = {f"batch 1, opset {opset}": OnnxSettings(opset, 1) for opset in OPSETS}
    for name, model in networks(folder, seed):
        more = others if name in ("fastest-v2", "csp-mish") else {}
        if name == "fastest-v2":
            more = {**more, "batch 1, simplified": OnnxSettings(batch=1, simplify=True)}
        for kind, settings in {**kinds, **more}.items():
            (path,) = export(fold(model), folder, model.io.input_size, settings)
            yield _case(path, name, kind, model, probe_input(model.io))
        x = probe_input(model.io)
        if name == "fastest-v2":
            (path,) = export(fold(model), folder, model.io.input_size)
            yield _case(path, name, "batch free, 2 pictures", model, np.concatenate((x, x[..., ::-1])))
            (path,) = export(fold(model), folder, model.io.input_size, kinds["batch 1"])
            (path,) = export_int8(path, folder, x)
            yield _run_case(path, name, "int8, batch 1", x, 0.05)
        if name == "yoloface-500k-v2":
            for kind, settings in kinds.items():
                (path,) = export_end2end(fold(model), folder, model.io.input_size, settings=settings)
                yield _run_case(path, name, f"end2end, {kind}", x)


def networks(folder: Path, seed: int) -> Iterator[tuple[str, TorchNetwork]]:
    torch.manual_seed(seed)
    cfg = folder / "csp-mish.cfg"
    cfg.write_text(CSP)
    yield "csp-mish", load_darknet(cfg).eval()
    for name in NETWORKS:
        yield name, create_model(name, "published").eval()


def _case(path: Path, name: str, kind: str, model: TorchNetwork, x: np.ndarray) -> Case:
    """With torch's outputs."""
    case = Case(name, kind, path.rename(path.with_name(f"{name}, {kind}.onnx")))
    x = np.ascontiguousarray(x)
    np.savez(case.arrays, x=x, **{f"map{i}": output for i, output in enumerate(model.predict(x))})
    return case


def _run_case(path: Path, name: str, kind: str, x: np.ndarray, tolerance: float = 0.0) -> Case:
    """With the outputs of this project's onnxruntime, which its tests compare with torch's; operator by
    operator, so that an int8 file is computed as it is written."""
    import onnxruntime

    case = Case(name, kind, path.rename(path.with_name(f"{name}, {kind}.onnx")), tolerance)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(case.path), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"images": x})
    assert len(outputs[0]), "nothing is detected to compare"
    np.savez(case.arrays, x=x, **dict(zip([o.name for o in session.get_outputs()], outputs, strict=True)))
    return case


class NoEnvironment(Exception):
    """There is no environment of a taker, and why."""


def interpreter(taker: Taker, folder: Path) -> Path:
    """The Python of a taker's environment, made where it is not there yet."""
    if not taker.requirements:
        return Path(sys.executable)
    wanted = "\n".join((*taker.requirements, *taker.bare))
    made, python = folder / "made.txt", folder / "bin" / "python"
    if made.exists() and made.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([_base(taker.newest_python), "-m", "venv", folder])
    _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *taker.requirements])
    if taker.bare:
        _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", *taker.bare])
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "project.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")  # behind its own packages
    made.write_text(wanted)
    return python


def _base(newest: tuple[int, int]) -> str:
    if sys.version_info[:2] <= newest:
        return sys.executable
    name = f"python{newest[0]}.{newest[1]}"
    found = shutil.which(name)
    if found is None:
        raise NoEnvironment(f"its wheels end at {name}, which is not on the PATH")
    return found


def _run(command: list[object]) -> None:
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if run.returncode:
        lines = (run.stderr or run.stdout).strip().splitlines()
        raise NoEnvironment(f"its environment cannot be made: {lines[-1] if lines else run.returncode}")


def attempt(taker: Taker, python: Path, case: Case) -> float | str:
    """The relative difference of the outputs, or why the file is not taken."""
    with TemporaryDirectory() as work:
        answer = Path(work) / "answer.json"
        options = json.dumps(taker.options)
        command = [python.absolute(), PROGRAM, taker.program, options, case.path, case.arrays, answer]
        quiet = {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        try:
            run = subprocess.run(
                [str(part) for part in command],
                cwd=work,
                env={**os.environ, **quiet},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"no answer in {SECONDS} s"
        if not answer.exists():
            return f"ended with {run.returncode}: {run.stderr.strip().splitlines()[-1:]}"
        result = json.loads(answer.read_text())
    if "refused" in result:
        return str(result["refused"])
    difference = float(result["difference"])
    complaint = re.search(taker.complaint, run.stdout + run.stderr) if taker.complaint else None
    if complaint:
        return complaint[0].strip()
    if taker.tolerance is not None and not difference <= max(taker.tolerance, case.tolerance):
        return f"outputs are off by {difference:.2g} of the largest"
    return float(f"{difference:.2g}")


def highest_opset(answers: dict[str, float | str]) -> int | None:
    """The highest opset up to which every file of a batch of one was taken, of one program's answers."""
    taken = {OnnxSettings.opset: True, **dict.fromkeys(OPSETS, True)}
    for name, answer in answers.items():
        if ", batch 1" in name and "int8" not in name and "end2end" not in name:
            opset = int(name.rpartition("opset ")[2]) if "opset " in name else OnnxSettings.opset
            taken[opset] &= not isinstance(answer, str)
    highest = None
    for opset in sorted(taken):
        if not taken[opset]:
            break
        highest = opset
    return highest


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.takers", description=__doc__)
    parser.add_argument("--environments", type=Path, default=Path(".venv-takers"))
    parser.add_argument("--only", action="append", choices=TAKERS, help="may be repeated (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / "takers.json")
    given = parser.parse_args()
    answers: dict[str, dict[str, float | str]] = {}
    not_tried = dict(NOT_TRIED)
    with TemporaryDirectory() as work:
        files = list(progress(cases(Path(work), given.seed), "files"))
        for name in progress(given.only or TAKERS, "takers"):
            taker = TAKERS[name]
            key = next(iter((*taker.bare, *taker.requirements)), "own").replace("==", "-")
            try:
                python = interpreter(taker, given.environments / key)
            except NoEnvironment as error:
                not_tried[name] = str(error)
                continue
            answers[name] = {f"{c.network}, {c.kind}": attempt(taker, python, c) for c in files}
    highest = {name: highest_opset(row) for name, row in answers.items()}
    figures = {
        "default_opset": OnnxSettings.opset,
        "highest_opset": highest,
        "takers": answers,
        "not_tried": not_tried,
    }
    write("takers", given, ["torch", "onnx", "onnxslim"], figures)
    show(answers, not_tried)


def show(answers: dict[str, dict[str, float | str]], not_tried: dict[str, str]) -> None:
    """A row per program, a column per kind of file: the largest difference, or why one was not taken."""
    reasons: list[str] = []
    rows: dict[str, dict[str, str]] = {}
    for name, row in answers.items():
        kinds: dict[str, list[float | str]] = {}
        for file, answer in row.items():
            kinds.setdefault(file.partition(", ")[2], []).append(answer)
        rows[name] = {}
        for kind, group in kinds.items():
            refusals = [answer for answer in group if isinstance(answer, str)]
            reasons += [answer for answer in dict.fromkeys(refusals) if answer not in reasons]
            rows[name][kind] = " ".join(f"({reasons.index(each) + 1})" for each in dict.fromkeys(refusals))
            rows[name][kind] = rows[name][kind] or f"{max(group):.0e}"
    console = Console(width=160)
    columns = next(iter(rows.values()), {})
    console.print(table("", ["program", *columns], [[name, *cells.values()] for name, cells in rows.items()]))
    for i, reason in enumerate(reasons, 1):
        console.print(f"({i}) {reason}", markup=False)
    for name, reason in not_tried.items():
        console.print(f"not tried: {name}: {reason}", markup=False)


if __name__ == "__main__":
    main()
