"""NCNN through pnnx, the upstream converter: .param and .bin with fp32 or fp16 weights."""

from __future__ import annotations

import io as io_module
import re
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.files import temporary_folder
from toolkit.models.io import ModelIO, NetworkIO
from toolkit.models.network import FromMaps, TorchNetwork, finds_objects
from toolkit.runtime import InputError, engine_lines, require

INPUT = "in0"
# Types that pnnx may leave behind a convolution instead of fusing them into it.
ACTIVATION_LAYERS = {"ReLU", "PReLU", "Clip", "Sigmoid", "Mish", "Swish", "HardSwish"}
CONVOLUTIONS = {"Convolution", "ConvolutionDepthWise", "InnerProduct"}


def export(
    model: TorchNetwork, folder: Path, size: tuple[int, int], precision: str, detection_output: bool = False
) -> list[Path]:
    """Write `model-<precision>.param` and `.bin` into `folder`; precision "fp32" or "fp16" (weights).

    `detection_output` adds `model-<precision>.detection.param`, which ends in ncnn's Yolov3DetectionOutput
    for older apps (its limits: see `detection_param`). -> the files.
    """
    pnnx = require("pnnx", "export")
    param, binary = folder / f"model-{precision}.param", folder / f"model-{precision}.bin"
    with temporary_folder() as work:
        script = work / "model.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            buffer = io_module.BytesIO()  # on a full disk torch.jit.save aborts the process
            torch.jit.save(
                torch.jit.trace(model, torch.zeros(1, model.io.channels, size[1], size[0])), buffer
            )
        script.write_bytes(buffer.getvalue())
        run = subprocess.run(
            [pnnx.EXEC_PATH, script.name, f"fp16={int(precision == 'fp16')}"],
            cwd=work,
            capture_output=True,
            text=True,
        )
        converted = work / "model.ncnn.param", work / "model.ncnn.bin"
        if run.returncode or not all(path.exists() for path in converted):
            lines = (run.stdout + run.stderr).strip().splitlines()
            raise InputError(f"pnnx cannot convert this network: {lines[-1] if lines else 'no message'}")
        unknown = {layer for layer, *_ in _read(converted[0]) if "." in layer}
        if unknown:
            raise InputError(f"ncnn has no layer for {', '.join(sorted(unknown))}, which this network uses")
        endless = [row for row in _read(converted[0]) if any(word.endswith("=-inf") for word in row[4])]
        if endless:
            kind, name, *_ = endless[0]
            raise InputError(f"ncnn cannot run layer {name} of type {kind}: a .param cannot hold -inf")
        shutil.copyfile(converted[0], param)
        shutil.copyfile(converted[1], binary)
    files = [param, binary]
    if detection_output:
        assert finds_objects(model)  # the caller has made sure of it, by check_detection_output
        files.append(folder / f"model-{precision}.detection.param")
        files[-1].write_text(detection_param(param.read_text(), model.io))
    return files


def _read(param: Path) -> list[tuple[str, str, list[str], list[str], list[str]]]:
    """Layers of a .param: type, name, inputs, outputs, options."""
    rows = []
    for line in param.read_text().splitlines()[2:]:
        kind, name, n_in, n_out, *rest = line.split()
        first, last = int(n_in), int(n_in) + int(n_out)
        rows.append((kind, name, rest[:first], rest[first:last], rest[last:]))
    return rows


def check_detection_output(io: NetworkIO) -> int:
    """Anchors of each head. Raises InputError where Yolov3DetectionOutput cannot decode the network."""
    if not io.heads:
        raise InputError(
            f"a network that finds {io.summary} has no boxes to decode: leave the detection output out"
        )
    faults = {
        "heads with different numbers of anchors": len({len(head.anchors) for head in io.heads}) > 1,
        "new_coords": any(head.new_coords for head in io.heads),
        "the classes of [region], which exclude each other": any(head.softmax for head in io.heads),
        "the uncertainties of [Gaussian_yolo]": any(head.gaussian for head in io.heads),
    }
    beyond = [name for name, is_so in faults.items() if is_so]
    if beyond:
        raise InputError(
            f"Yolov3DetectionOutput cannot decode {', '.join(beyond)}: leave the detection output out, and "
            "decode the raw maps"
        )
    return len(io.heads[0].anchors)


def detection_param(param: str, io: ModelIO, conf: float = 0.25, iou: float = 0.45) -> str:
    """A .param text with Yolov3DetectionOutput behind the raw maps: rows of label, score and xyxy in 0..1.

    ncnn's layer counts labels from 1, keeps one class a box, suppresses across classes, gives a score of
    1 / (1 + exp(-o) (1 + exp(-c))) that is above the product of objectness and class probability, and cannot
    express scale_x_y: box sizes are right here, centres are off by up to (scale_x_y - 1) / 2 of a cell.
    (darknet2ncnn hides scale_x_y in the anchors' scale instead, which makes boxes 9 % and 5 % small.)
    """
    count = check_detection_output(io)
    numbers = [v for head in io.heads for anchor in head.anchors for v in anchor]
    arrays = {
        4: numbers,
        5: [float(i) for i in range(count * len(io.heads))],
        6: [float(head.stride) for head in io.heads],
    }
    options = [f"0={len(io.classes)}", f"1={count}", f"2={conf:e}", f"3={iou:e}"] + [
        f"-{23300 + key}={len(values)},{','.join(f'{v:e}' for v in values)}" for key, values in arrays.items()
    ]
    names = [f"out{i}" for i in range(len(io.heads))]
    line = ["Yolov3DetectionOutput", "detection", str(len(names)), "1", *names, "detections", *options]
    magic, totals, *layers = param.strip().splitlines()
    layer_count, blob_count = (int(v) for v in totals.split())
    return "\n".join([magic, f"{layer_count + 1} {blob_count + 1}", *layers, " ".join(line)]) + "\n"


def reason(path: Path, lines: Sequence[str]) -> str:
    """Why ncnn opens a file no further, from what it printed: a layer that it cannot run, or damage."""
    text = "\n".join(lines)
    unknown = re.search(r"layer (\S+) not exists or registered", text)
    if unknown:
        return f"it cannot run a layer of type {unknown[1]}, which this version lacks"
    refused = re.search(r"(?:load_param|create_pipeline)\s+\d*\s*(\S+) failed", text)
    rows = [line.split() for line in path.read_text(errors="replace").splitlines()]
    whole = len(rows) > 1 and rows[1][:1] == [str(len(rows) - 2)]  # the number of layers that it announces
    kinds = {row[1]: row[0] for row in rows[2:] if len(row) > 1} if whole else {}
    if refused and refused[1] in kinds:
        return f"it cannot run layer {refused[1]} of type {kinds[refused[1]]} ({lines[0].strip()})"
    binary = path.with_suffix(".bin").name
    said = f" ({lines[0].strip()})" if lines else ""
    return f"it and {binary} are damaged or do not belong together{said}"


class NcnnModel(FromMaps):
    """A .param with its .bin in the ncnn wheel: `.io` and `.predict` as every backend has them."""

    def __init__(self, path: Path, io: NetworkIO, precision: str = "fp32", threads: int = 0):
        self.ncnn = require("ncnn", "export")
        self.path, self.io = path, io
        self.net = self.ncnn.Net()
        half = precision == "fp16"
        self.net.opt.use_fp16_packed = half
        self.net.opt.use_fp16_storage = half
        self.net.opt.use_fp16_arithmetic = half
        self.net.opt.use_vulkan_compute = False
        if threads:
            self.net.opt.num_threads = threads
        binary = path.with_suffix(".bin")
        for file in (path, binary):
            if not file.is_file():
                raise InputError(f"there is no {file}: an ncnn model is a .param with its .bin beside it")
        with engine_lines() as lines:
            failed = self.net.load_param(str(path)) or self.net.load_model(str(binary))
        if failed:
            raise InputError(f"ncnn cannot open {path}: {reason(path, lines)}")
        try:
            self.blobs = {INPUT, *(blob for _, _, _, blobs, _ in _read(path) for blob in blobs)}
        except ValueError:  # ncnn reads words, wherever the lines end
            raise InputError(f"{path} is damaged: expected a layer on each line") from None
        self.outputs = [f"out{i}" for i in range(io.outputs)]

    def extract(
        self, chw: NDArray[np.float32], blobs: list[str], light: bool = True
    ) -> list[NDArray[np.float32]]:
        """Named feature maps for one input (3, H, W); `light` frees inner ones as soon as it can."""
        missing = [blob for blob in blobs if blob not in self.blobs]
        if missing:  # ncnn would say so on the terminal
            raise InputError(
                f"{self.path.name} has no blob {missing[0]}: it is not an export of this network"
            )
        extractor = self.net.create_extractor()
        extractor.set_light_mode(light)
        chw = np.ascontiguousarray(chw, np.float32)  # the Mat only points into it: it must outlive it
        extractor.input(INPUT, self.ncnn.Mat(chw))
        results = []
        for blob in blobs:
            code, out = extractor.extract(blob)
            if code or out.empty():
                raise InputError(
                    f"{self.path.name} gives no {blob} for an input of {chw.shape[2]}x{chw.shape[1]}"
                )
            results.append(np.array(out))
        return results

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(N, 3, H, W), any multiple of the stride -> raw head maps. Pictures run one after the other."""
        self.io.check_size((x.shape[3], x.shape[2]))
        rows = [self.extract(chw, self.outputs) for chw in x]
        return [np.stack(maps) for maps in zip(*rows, strict=True)]

    def layer_outputs(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What every convolution gives after its activation, in the order in which they run."""
        rows = _read(self.path)
        blobs = []
        for kind, _, _, outputs, _ in rows:
            # a fully connected layer that is an output was not a convolution before pnnx
            if kind in CONVOLUTIONS and not (kind == "InnerProduct" and outputs[0] in self.outputs):
                follow = [row for row in rows if outputs[0] in row[2]]
                single = len(follow) == 1 and follow[0][0] in ACTIVATION_LAYERS
                blobs.append(follow[0][3][0] if single else outputs[0])
        found = self.extract(x[0], blobs, light=False)
        return [blob.reshape(-1, 1, 1)[None] if blob.ndim == 1 else blob[None] for blob in found]
