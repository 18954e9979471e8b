"""Every detector cfg in folders of cfg files, such as unpacked repositories: whether it is read, agrees with
OpenCV's reader, survives being written and read again, and agrees with its ONNX and ncnn files. Seeded random
weights with calibrated batch norms, at the smallest input that the network takes from 96 px on.

python -m tests.benchmarks.darknet_cfgs FOLDER=NAME@COMMIT ...      (15 minutes)
"""

import copy
import filecmp
import gc
import hashlib
import re
import sys
import tempfile
import time
import warnings
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from tests.benchmarks.record import RESULTS, peak_mb, write
from tests.small import with_large_variances
from toolkit.export.parity import NOISE, output_difference, probe_input
from toolkit.export.registry import FORMATS, WriteJob
from toolkit.models.darknet.adapt import adapt, cfg_text
from toolkit.models.darknet.cfg import Section, parse_cfg
from toolkit.models.darknet.heads import HEADS, anchors_of, class_count
from toolkit.models.darknet.network import CfgDetector, load_darknet
from toolkit.models.darknet.write import save_darknet
from toolkit.models.detector import calibrate
from toolkit.models.network import fold
from toolkit.runtime import InputError, seed_everything
from toolkit.samples import photographs

MODULE = "darknet_cfgs"
DETECTOR = re.compile(r"^\s*\[(yolo|region|Gaussian_yolo|detection)\]", re.MULTILINE)
SIDE = 96  # px, at least
LARGEST = 150  # million weights of a network that is exported
EQUAL = 1e-4  # relative difference to OpenCV, whose batch norms have an eps of 1e-6
OPENCV_IGNORES = {
    "dilation",
    "stride_x",
    "stride_y",
    "share_index",
    "antialiasing",
    "weights_type",
    "maxpool_depth",
}
BIASES = 0.5, 1.5
FORMATS_COMPARED = ("onnx", "ncnn")


def detector_cfgs(folder: Path) -> Iterator[Path]:
    """The cfgs with the head of a detector, YOLOv1's too."""
    for path in sorted(folder.rglob("*.cfg")):
        if DETECTOR.search(path.read_text(encoding="utf-8", errors="replace")):
            yield path


def smallest(sections: list[Section]) -> tuple[int, int]:
    """Input size of the network near `SIDE`."""
    with torch.device("meta"):
        stride = CfgDetector(sections).io.stride
    side = -(-SIDE // stride) * stride
    return side, side


def network(sections: list[Section], seed: int) -> CfgDetector:
    """Random weights whose batch norms have seen pictures. Their biases keep most values where activations
    are smooth, or rounding grows from layer to layer; their variances are 100: OpenCV adds 1e-6 to them
    where darknet adds 1e-5."""
    seed_everything(seed)
    model = CfgDetector(adapt(sections, input_size=smallest(sections)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.uniform_(module.bias, *BIASES)
    calibrate(model, list(photographs().values()))
    with_large_variances(model)
    return model


def attempt(call: Callable[[], Any]) -> Any:
    """What it returns, or the first line of what it says instead: an InputError's sentence, or the name and
    words of any other error."""
    try:
        return call()
    except InputError as error:
        return str(error)
    except Exception as error:
        words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        return re.sub(r"/\S+/", "", f"{type(error).__name__}: {words}")[:200]


def for_opencv(section: Section) -> Section:
    """The same maps in sections that OpenCV has: a [Gaussian_yolo] is a [yolo] with four classes more, a
    [route_lhalf] a [route] of groups, and it wants as many anchors as `num` says."""
    if section.kind == "route_lhalf":
        return replace(section, kind="route", options={**section.options, "groups": "2", "group_id": "0"})
    if section.kind not in HEADS:
        return section
    pairs = anchors_of(section)
    anchors = ",".join(f"{w:g},{h:g}" for w, h in pairs)
    classes = class_count(section) + (4 if section.kind == "Gaussian_yolo" else 0)
    options = {**section.options, "anchors": anchors, "num": str(len(pairs)), "classes": str(classes)}
    return replace(section, kind="yolo" if section.kind == "Gaussian_yolo" else section.kind, options=options)


def opencv_parity(model: CfgDetector, folder: Path, x: np.ndarray) -> dict[str, Any]:
    """Of the maps before the heads."""
    ignored = {key for section in model.sections for key in OPENCV_IGNORES & set(section.options)}
    if ignored:
        raise InputError(f"OpenCV ignores {', '.join(sorted(ignored))}")
    cfg, weights = folder / "opencv.cfg", folder / "model.weights"
    cfg.write_text(cfg_text([for_opencv(section) for section in model.sections]))
    reader = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    reader.enableWinograd(False)  # which keeps another copy of the weights
    names = list(reader.getLayerNames())
    maps = [names[names.index(f"permute_{head}") - 1] for head in model.heads]
    reader.setInput(x)
    return compared(model, reader.forward(maps), x, EQUAL)


def compared(
    model: CfgDetector, maps: Sequence[np.ndarray], x: np.ndarray, tolerance: float
) -> dict[str, Any]:
    """Difference relative to the largest value, and whether it passes: it is within the tolerance or no more
    than rounding explains, as in `map_parity`."""
    expected = model.predict(x)
    difference, reach = output_difference(expected, maps)
    passes = difference <= tolerance * max(1.0, reach)
    if not passes:
        noise, _ = output_difference(copy.deepcopy(model).double().predict(x), expected)
        passes = difference <= NOISE * noise
    return {"difference": difference / max(1.0, reach), "passes": passes}


def again(model: CfgDetector, folder: Path, x: np.ndarray) -> bool:
    """Whether cfg and weights, written and read again, give the same sections, file and maps."""
    cfg, weights, _ = save_darknet(model, folder)
    read = load_darknet(cfg, weights)
    options = [[(s.kind, s.options) for s in each.sections] for each in (model, read)]
    maps = zip(model.predict(x), read.predict(x), strict=True)
    equal_maps = all(np.array_equal(a, b) for a, b in maps)
    files = zip((cfg, weights), save_darknet(read, folder / "again")[:2], strict=True)
    return equal_maps and options[0] == options[1] and all(filecmp.cmp(a, b, shallow=False) for a, b in files)


def format_parity(model: CfgDetector, fmt: str, folder: Path, x: np.ndarray) -> dict[str, Any]:
    """Relative difference to torch, and whether it is within the format's tolerance."""
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    if millions > LARGEST:
        raise InputError(f"not compared: {millions:.0f} million weights need more than 4 GB")
    row = FORMATS[fmt]
    job = WriteJob(
        model=model,
        folded=fold(model),
        io=model.io,
        work=folder,
        samples=np.zeros((0, *x.shape[1:]), np.float32),
    )
    opened = row.open(job.write(fmt)[0], model.io, 0)
    return compared(model, opened.predict(x), x, row.tolerance or 0.0)


def examine(path: Path, seed: int, formats: Sequence[str]) -> dict[str, Any]:
    """The row of a cfg."""
    sections = attempt(lambda: parse_cfg(path))
    model = sections if isinstance(sections, str) else attempt(lambda: network(sections, seed))
    if isinstance(model, str):
        return {"read": False, "reason": model}
    x = probe_input(model.io)
    row: dict[str, Any] = {
        "read": True,
        "input": model.io.input_size,
        "millions_of_weights": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
    }
    with tempfile.TemporaryDirectory() as work:
        row["written_and_read_again"] = attempt(lambda: again(model, Path(work), x))
        row["opencv"] = attempt(lambda: opencv_parity(model, Path(work), x))
        for fmt in formats:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                row[fmt] = attempt(lambda f=fmt, d=folder: format_parity(model, f, Path(d), x))
            gc.collect()
    return row


def equal(cell: Any) -> bool:
    """Whether a cell of the table says that two agree."""
    return bool(cell["passes"]) if isinstance(cell, dict) else cell is True


def shown(cell: Any) -> str:
    if isinstance(cell, dict):
        return f"{cell['difference']:.0e}" + ("" if cell["passes"] else " !")
    return {True: "yes", False: "no"}[cell] if isinstance(cell, bool) else str(cell)


def counts(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> dict[str, int]:
    read = [row for row in rows if row["read"]]
    agree = {column: sum(equal(row[column]) for row in read) for column in columns}
    return {"detectors": len(rows), "read": len(read), **agree}


def main() -> None:
    parser = ArgumentParser(prog=f"python -m tests.benchmarks.{MODULE}", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER=NAME@COMMIT")
    parser.add_argument("--formats", nargs="*", default=FORMATS_COMPARED, help="compared with torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / f"{MODULE}.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    columns = ("opencv", "written_and_read_again", *given.formats)
    begin = time.monotonic()
    rows: dict[str, dict[str, Any]] = {}
    first_of: dict[str, str] = {}  # hash -> the file that has it
    tables: dict[str, Any] = {}
    for text in given.folders:
        folder, _, source = text.partition("=")
        name = source.partition("@")[0] or Path(folder).name
        table: dict[str, dict[str, Any]] = {}
        for path in detector_cfgs(Path(folder)):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            key = f"{name}/{path.relative_to(folder)}"
            if digest not in first_of:
                first_of[digest] = key
                rows[key] = examine(path, given.seed, given.formats)
                cells = "  ".join(f"{column} {shown(rows[key].get(column))}" for column in columns)
                print(f"{key}: {rows[key].get('reason', cells)}", file=sys.stderr, flush=True)
            same = {} if first_of[digest] == key else {"same_file_as": first_of[digest]}
            table[str(path.relative_to(folder))] = {**rows[first_of[digest]], **same}
        every = list(table.values())
        alone = [row for row in every if "same_file_as" not in row]
        tables[name] = {
            "source": source,
            "counts": counts(every, columns),
            "counts_without_repeated_files": counts(alone, columns),
            "cfgs": {
                file: {key: row[key] for key in ("read", "same_file_as")} if "same_file_as" in row else row
                for file, row in table.items()
            },
        }
    reasons = Counter(re.sub(r"^\S+, ", "", row["reason"]) for row in rows.values() if not row["read"])
    figures = {
        "equal_to_opencv_up_to": EQUAL,
        "files": counts(list(rows.values()), columns),
        "not_read": dict(reasons.most_common()),
        "repositories": tables,
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "peak_mb": peak_mb(),
    }
    # folders and the result are places of this machine
    words = [re.sub(r"^[^=]*=", "FOLDER=", word) for word in sys.argv[1:]]
    sys.argv[1:] = [word for word in words if word not in ("--result", str(given.result))]
    write(MODULE, given, ["onnxruntime", "ncnn", "pnnx"], figures)


if __name__ == "__main__":
    main()
