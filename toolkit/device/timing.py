"""Timing exported networks on phones, boards and this machine: measure, keep, compare, show.

A reading is what the runner (or the app's benchmark) prints of one network at one setting, or of a detector
with a landmark network: raw samples, the detections, and the machine. Readings are kept in FOLDER/timing.json
of the exported folder; every statistic is computed from their samples here. A reading made under an emulator
is kept, marked, and never shown as a time.
"""

from __future__ import annotations

import json
import queue
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from toolkit import viz
from toolkit.boxes import iou
from toolkit.detect import Boxes, Image, LandmarkBackend, load_image, suppress
from toolkit.detect import Settings as Rules
from toolkit.device.adb import AdbDevice
from toolkit.device.build import build_runner, layers_of
from toolkit.device.local import LocalDevice
from toolkit.device.ssh import SshDevice
from toolkit.export import open_export, read_spec
from toolkit.faces import OUTSIDE, windows_of_boxes
from toolkit.models.detector import decode
from toolkit.models.landmarks import LandmarkIO, decode_points, read_io
from toolkit.models.spec import ModelIO
from toolkit.runtime import InputError, progress, require, whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES = ("preprocess", "inference", "postprocess", "landmarks")  # the last one where a cascade was timed
# The seed's NCNN column times forward and post-processing, its MNN column the forward pass alone.
NCNN_COLUMN, MNN_COLUMN = "inference + postprocess", "inference"
# Largest difference of a score to the wheel's that agrees; of a box, this part of the longest side of the
# picture or of the box; of a landmark, this part of the longest side of the box.
TOLERANCES = {"ncnn": 1e-3, "ncnn-fp16": 0.04, "ncnn-int8": 0.04}
CORES = ("all", "little", "big")  # by ncnn's number for it, "powersave"
EMULATORS = ("goldfish", "ranchu")  # Build.HARDWARE of Android's own
NOT_A_TIMING = "emulated, not a timing"
REPLACED = "other files"  # the folder was exported again since


class Device(Protocol):
    """A place that takes files and runs them, in a temporary folder that `close` removes. Every step raises
    InputError where the device does not answer."""

    name: str  # as it was asked for: adb:SERIAL, ssh:user@host, local
    folder: str

    def push(self, files: Sequence[Path], folder: str = ".") -> None:
        """Copy files into a subfolder, made where it is missing."""
        ...

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A line of POSIX shell in the folder; whatever its exit code, no error."""
        ...

    def pull(self, file: str) -> bytes: ...

    def close(self) -> None: ...


def open_device(address: str, ssh_config: str | Path | None = None) -> Device:
    """adb[:SERIAL], ssh:[user@]host[:port] or local. Raises InputError where there is no such device."""
    kind, _, rest = address.partition(":")
    if kind == "adb":
        return AdbDevice(rest)
    if kind == "ssh":
        return SshDevice(rest, ssh_config)
    if address == "local":
        return LocalDevice()
    raise InputError(f"unknown device {address!r}: expected adb, adb:SERIAL, ssh:user@host or local")


# --- readings --------------------------------------------------------------------------------------------

Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Model(_Part):
    name: str
    format: Literal["ncnn", "ncnn-fp16", "ncnn-int8"]
    sha256: dict[str, str] = Field(min_length=1)


class Input(_Part):
    picture: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class Settings(_Part):
    threads: int = Field(ge=1)
    powersave: Literal[0, 1, 2]
    precision: Literal["fp32", "fp16", "int8"]
    vulkan: bool = False
    conf: float
    run_as: Literal["program", "app"]


class Samples(_Part):
    """One entry for each timed loop; `start_ms` counts from the first, `landmarks_ms` is of all faces
    together."""

    start_ms: list[Milliseconds] = Field(min_length=1)
    preprocess_ms: list[Milliseconds]
    inference_ms: list[Milliseconds]
    postprocess_ms: list[Milliseconds]
    landmarks_ms: list[Milliseconds] | None = None

    @model_validator(mode="after")
    def _even(self) -> Samples:
        lists = [getattr(self, name) for name in type(self).model_fields]
        if len({len(values) for values in lists if values is not None}) > 1:
            raise ValueError("the lists of samples differ in length")
        return self

    @property
    def stages(self) -> dict[str, NDArray[np.float64]]:
        """Milliseconds (N,) of each stage that was timed, in running order."""
        lists = {stage: getattr(self, f"{stage}_ms") for stage in STAGES}
        return {stage: np.array(values) for stage, values in lists.items() if values is not None}


class Detection(_Part):
    label: str = Field(alias="class")
    score: float
    box: tuple[float, float, float, float]  # xyxy px of the picture, not clipped
    landmarks: list[tuple[float, float]] | None = None  # x, y px of the picture


class Reading(_Part):
    """A benchmark as the runner prints it, with the device, the date and the parity that `measure` adds."""

    version: Literal[1] = Field(alias="schema")
    kind: Literal["bench"]
    model: Model
    landmarks: Model | None = None  # the landmark network of a cascade
    input: Input
    settings: Settings
    runtime: dict[str, Any]
    cpu: dict[str, Any]
    load_ms: Milliseconds
    samples: Samples
    detections: list[Detection]
    device: dict[str, Any] = {}
    date: str = ""
    emulated: bool = False
    parity: dict[str, Any] = {}

    def as_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def network(self) -> str:
        """The name of the network, or of both of a cascade."""
        return self.model.name if self.landmarks is None else f"{self.model.name} + {self.landmarks.name}"

    @property
    def machine(self) -> str:
        """Where it was made, in words for tables and figures."""
        if self.device.get("kind") == "local":
            return f"this machine: {self.device['cpu']}, not a phone"
        words = [str(self.device[key]) for key in ("manufacturer", "model") if self.device.get(key)]
        return " ".join(dict.fromkeys(words)) or "unknown device"


def read_reading(data: Any, source: str) -> Reading:
    """A reading from parsed JSON; `source` names it in the error."""
    try:
        return Reading.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the whole"
        raise InputError(
            f"{source} is no reading of this version (schema 1): {where}: {fault['msg'].lower()}; make it "
            "with toolkit time or the app's benchmark"
        ) from None


def read_timings(folder: str | Path) -> list[Reading]:
    """The readings that an exported folder keeps, oldest first; none where it was never timed."""
    read_spec(folder)
    file = Path(folder) / "timing.json"
    return _read_file(file) if file.exists() else []


def _read_file(file: Path) -> list[Reading]:
    """A file with one reading, a list of them, or {"readings": [...]}."""
    try:
        data = json.loads(file.read_text())
    except OSError:
        raise InputError(f"there is no file {file} with readings") from None
    except ValueError:
        raise InputError(f"{file} is no JSON: expected readings of toolkit time or of the app") from None
    rows = data.get("readings", [data]) if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise InputError(f"{file} holds no readings: expected those of toolkit time or of the app")
    return [read_reading(row, str(file)) for row in rows]


def keep(folder: str | Path, readings: Iterable[Reading]) -> int:
    """Add readings to timing.json of an exported folder; one that is there already is left out. -> how many
    are new."""
    file = Path(folder) / "timing.json"
    with FileLock(file.with_name(".timing.json.lock")):  # two terminals may time two phones at once
        known = read_timings(folder)
        new = [reading for reading in readings if reading not in known]
        with whole_file(file) as temporary:
            rows = [reading.as_dict() for reading in (*known, *new)]
            temporary.write_text(json.dumps({"readings": rows}) + "\n")
    return len(new)


def import_readings(files: Sequence[str | Path], exports: str | Path = "exports") -> dict[Path, int]:
    """Readings made inside the app, into the exported folders below `exports` that have the same sha256.
    -> {folder: new readings}. A cascade's go to its detector. Raises InputError, and keeps nothing, where one
    fits no folder."""
    found_specs = sorted(Path(exports).rglob("spec.json"))
    folders = [path.parent for path in found_specs if "assets" not in path.parts]  # an app's copies
    by_hash = {
        _fingerprint({name: facts["sha256"] for name, facts in entry["files"].items()}): folder
        for folder in folders
        for entry in read_spec(folder)["formats"].values()
    }
    found: dict[Path, list[Reading]] = {}
    for file in files:
        for reading in _read_file(Path(file)):
            networks = [reading.model, *([reading.landmarks] if reading.landmarks else [])]
            for network in networks:
                if _fingerprint(network.sha256) not in by_hash:
                    raise InputError(
                        f"{file} is of a network {network.name} ({network.format}) whose sha256 none of the "
                        f"{len(folders)} exported networks in {exports} has: name their folder with --exports"
                    )
            folder = by_hash[_fingerprint(reading.model.sha256)]
            emulated = reading.emulated or reading.device.get("hardware") in EMULATORS
            found.setdefault(folder, []).append(reading.model_copy(update={"emulated": emulated}))
    return {folder: keep(folder, readings) for folder, readings in found.items()}


def _fingerprint(hashes: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """What an ncnn format consists of; a .detection.param beside it is none of the runner's."""
    return frozenset((name, value) for name, value in hashes.items() if not name.endswith(".detection.param"))


# --- statistics ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Of the timed loops, in milliseconds."""

    min: float
    p50: float
    p90: float
    max: float
    mean: float
    std: float
    first: float
    last: float


def summarise(samples: ArrayLike) -> Summary:
    """Statistics of (N,) milliseconds in the order in which they were measured; `std` of one is 0."""
    x = np.asarray(samples, float)
    p50, p90 = np.percentile(x, [50, 90])
    values = (x.min(), p50, p90, x.max(), x.mean(), x.std(ddof=1) if x.size > 1 else 0.0, x[0], x[-1])
    return Summary(*map(float, values))


def summary(reading: Reading) -> dict[str, Summary]:
    """Statistics of every stage, of `NCNN_COLUMN`, and of all stages together ("total"). Raises InputError
    for an emulated reading, which is no timing."""
    if reading.emulated:
        raise InputError(f"the reading of {reading.model.name} from {reading.date} is {NOT_A_TIMING}")
    stages = reading.samples.stages
    parts = {
        **stages,
        NCNN_COLUMN: stages["inference"] + stages["postprocess"],
        "total": np.sum(list(stages.values()), axis=0),
    }
    return {name: summarise(samples) for name, samples in parts.items()}


# --- the device ------------------------------------------------------------------------------------------

_ASK = r"""
echo "machine=$(uname -m)"; echo "kernel=$(uname -sr)"; echo "shell=$(readlink /proc/$$/exe)"
for key in ro.product.manufacturer ro.product.model ro.build.version.release ro.product.cpu.abilist \
    ro.soc.model ro.kernel.qemu ro.boot.qemu; do echo "$key=$(getprop $key 2>/dev/null)"; done
echo "board=$(cat /proc/device-tree/model 2>/dev/null | tr -d '\000')"
echo "os=$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
echo "cpu=$(grep -m1 -i -E '^(model name|hardware)' /proc/cpuinfo | cut -d: -f2-)"
echo "implementer=$(grep -m1 -i '^CPU implementer' /proc/cpuinfo | cut -d: -f2-)"
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    echo "core=1"; f=$cpu/cpufreq
    echo "max_khz=$(cat $f/cpuinfo_max_freq 2>/dev/null)"; echo "khz=$(cat $f/scaling_cur_freq 2>/dev/null)"
    echo "governor=$(cat $f/scaling_governor 2>/dev/null)"
done
for zone in /sys/class/thermal/thermal_zone*; do
    echo "zone=$(cat $zone/type 2>/dev/null) $(cat $zone/temp 2>/dev/null)"
done
echo "free_kb=$(df -kP . 2>/dev/null | tail -n 1 | tr -s ' ' | cut -d' ' -f4)"
"""
_ABIS = {
    "aarch64": "arm64-v8a", "arm64": "arm64-v8a", "armv8l": "armeabi-v7a", "armv7l": "armeabi-v7a",
    "x86_64": "x86_64",
}  # fmt: skip


def _ask(device: Device) -> dict[str, list[str]]:
    answer: dict[str, list[str]] = {}
    for line in device.run(_ASK, 60).stdout.splitlines():
        key, _, value = line.partition("=")
        if value.strip():
            answer.setdefault(key, []).append(value.strip())
    return answer


def _state(answer: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What changes while a device works: governor, frequencies, temperatures, where it lets them be read."""
    zones = [zone.rpartition(" ") for zone in answer.get("zone", ())]
    temperatures = {name: int(value) for name, _, value in zones if value.lstrip("-").isdigit()}
    return {
        "governor": sorted(set(answer.get("governor", ()))),
        "khz": [int(v) for v in answer.get("khz", ()) if v.isdigit()],
        # the kernel's unit is a thousandth of a degree; some vendors give degrees
        "celsius": {name: v / 1000 if abs(v) > 1000 else float(v) for name, v in temperatures.items()},
    }


def facts(device: Device) -> dict[str, Any]:
    """What a device says of itself: model, system, ABI of the runner it takes, processor, cores. Raises
    InputError where no runner exists for it."""
    answer = _ask(device)

    def one(key: str) -> str:
        return answer.get(key, [""])[0]

    machine, kernel = one("machine"), one("kernel")
    offered = [abi for abi in one("ro.product.cpu.abilist").split(",") if abi in _ABIS.values()]
    abi = offered[0] if offered else _ABIS.get(machine)
    if abi is None or not kernel.startswith("Linux"):
        raise InputError(
            f"{device.name} is a {kernel or 'machine without uname'} on {machine or 'an unknown processor'}: "
            "there are runners for Linux and Android on arm64, armv7 and x86_64"
        )
    kind = device.name.partition(":")[0]
    phone = " ".join(
        dict.fromkeys(answer.get("ro.product.manufacturer", []) + answer.get("ro.product.model", []))
    )
    cpu = one("ro.soc.model") or one("cpu") or machine
    android = one("ro.build.version.release")
    frequencies = [int(v) for v in answer.get("max_khz", ()) if v.isdigit()]
    return {
        "address": device.name,
        "kind": kind,
        "model": phone or one("board") or f"{cpu} ({device.name})",
        "system": f"Android {android}" if android else one("os") or kernel,
        "abi": abi,
        "cpu": cpu,
        "cores": len(answer.get("core", ())) or 1,
        "max_khz": frequencies,
        "emulated": _emulated(answer, abi),
        "free_kb": int(one("free_kb")) if one("free_kb").isdigit() else None,
    }


def _emulated(answer: Mapping[str, Sequence[str]], abi: str) -> bool:
    """Whether the processor is imitated by software: Android's emulators say so; a shell under qemu's user
    mode is qemu's process; ARM code on another processor (qemu's user mode, native bridges) finds no
    implementer in /proc/cpuinfo, or qemu's own, 0."""
    if "1" in (*answer.get("ro.kernel.qemu", ()), *answer.get("ro.boot.qemu", ())):
        return True
    if any("qemu" in shell for shell in answer.get("shell", ())):
        return True
    return abi != "x86_64" and answer.get("implementer", ["0x00"])[0] == "0x00"


# --- measuring -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """How a network is timed: `loops` after `warmup` ones, or for `seconds` where above 0 (60 and more show
    what heat does); then `cooldown` seconds of rest."""

    warmup: int = 8
    loops: int = 50
    seconds: float = 0
    cooldown: float = 1


@dataclass(frozen=True)
class Task:
    """One network at one setting, and the detections of the ncnn wheel on this machine; of a cascade both
    networks, and the points (K, P, 2) px of each detection."""

    folder: Path
    format: str
    wanted: Boxes
    classes: tuple[str, ...]
    conf: float
    landmarks: Path | None = None
    points: NDArray[np.float32] | None = None


def measure(
    folders: Sequence[str | Path],
    devices: Sequence[str] = ("local",),
    formats: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    powersave: Sequence[int] = (0,),
    sweep: bool = False,
    picture: str | Path | None = None,
    load: Load = Load(),
    ssh_config: str | Path | None = None,
    landmarks: str | Path | None = None,
) -> list[tuple[Path, Reading]]:
    """Time exported networks on devices (`open_device`), all devices at once -> (folder, reading) of each.

    `formats`: among "ncnn", "ncnn-fp16" and "ncnn-int8", "ncnn" unless given. `powersave`: 0 all cores, 1
    little, 2 big ones. `sweep`: 1, 2 and 4 threads as far as there are cores, all and big cores where they
    differ, and all formats of a folder, instead of what is given. `picture`: scikit-image's astronaut unless
    given. `landmarks`: a landmark network that places points in every detection, in the detector's format.

    A reading is added to timing.json as soon as it is complete; interrupted, every device ends with the one
    that it is at. Raises InputError for bad input before any device is touched (a file that differs from
    spec.json among it), for a device that is not there or is named twice before any is timed, and at the end
    for devices that failed.
    """
    image, name = load_picture(picture)
    for folder in folders:
        if isinstance(read_io(read_spec(folder)["io"]), LandmarkIO):
            raise InputError(
                f"{folder} places landmarks and finds no objects: name a detector, and this one with "
                "--landmarks"
            )
    points = None if landmarks is None else Path(landmarks)
    if points is not None and not isinstance(read_io(read_spec(points)["io"]), LandmarkIO):
        raise InputError(
            f"{points} finds objects and places no landmarks: name it without --landmarks, and with it an "
            "exported landmark network"
        )
    layers = layers_of([*folders, *([points] if points else [])])
    tasks = [
        _task(Path(folder), fmt, image, points)
        for folder in progress(folders, "checking")
        for fmt in _formats(Path(folder), formats, sweep)
    ]
    done: list[tuple[Path, Reading]] = []
    arrivals: queue.SimpleQueue[tuple[Path, Reading] | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(device: Device, about: dict[str, Any], runner: Path, raw: Path) -> None:
        try:
            _push(device, about, runner, raw, tasks)
            settings = _sweep(about) if sweep else list(product(threads, powersave))
            size = f"{image.shape[1]}x{image.shape[0]}"
            for task, (count, cores) in product(tasks, settings):
                if stop.is_set():
                    return
                options = ["--format", task.format, "--raw", raw.name, "--size", size]
                options += ["--conf", f"{task.conf:.6f}", "--threads", str(count), "--powersave", str(cores)]
                reading = _run(device, about, task, tasks, options, load)
                keep(task.folder, [reading])  # here, so that one which ends after an interruption is kept
                arrivals.put((task.folder, reading))
                stop.wait(load.cooldown)
        finally:
            arrivals.put(None)

    with ExitStack() as stack:
        raw = Path(stack.enter_context(tempfile.TemporaryDirectory()), f"{name}.rgb")
        raw.write_bytes(image.tobytes())
        opened: dict[str, Device] = {}
        for address in devices:
            device = stack.enter_context(closing(open_device(address, ssh_config)))
            if device.name in opened:
                raise InputError(f"{device.name} is named twice, and would be timed at once: name it once")
            opened[device.name] = device
        ready = []
        for device in opened.values():
            about = facts(device)
            runner = build_runner(about["abi"], layers, ndk=about["kind"] == "adb")
            ready.append((device, about, runner, raw))
        with ThreadPoolExecutor(max(1, len(ready))) as pool:
            try:
                jobs = [pool.submit(work, *place) for place in ready]
                done.extend(progress(_until_all(arrivals, len(jobs)), "timing"))
            except BaseException:  # Ctrl-C: the pool waits for its threads
                stop.set()
                raise
    faults = [error for job in jobs if (error := job.exception())]
    for error in faults:
        if not isinstance(error, InputError):
            raise error
    if faults:
        raise InputError("; ".join(map(str, faults)))
    return done


def _until_all(arrivals: queue.SimpleQueue[Any], workers: int) -> Iterator[tuple[Path, Reading]]:
    while workers:
        item = arrivals.get()
        if item is None:
            workers -= 1
        else:
            yield item


def load_picture(path: str | Path | None = None) -> tuple[Image, str]:
    """RGB pixels (H, W, 3) of a file and its name; scikit-image's astronaut unless given."""
    if path is not None:
        return load_image(path), Path(path).stem
    from skimage.data import astronaut

    return astronaut(), "astronaut"


def _formats(folder: Path, wanted: Sequence[str], sweep: bool) -> list[str]:
    there = [fmt for fmt in read_spec(folder)["formats"] if fmt in TOLERANCES]
    chosen = there if sweep and not wanted else list(wanted) or ["ncnn"]
    missing = [fmt for fmt in chosen if fmt not in there]
    if missing or not chosen:
        lacking = missing[0] if missing else "ncnn"
        has = ", ".join(there) or "no ncnn format"
        raise InputError(f"{folder} has no {lacking}, it has {has}: export the network with --to {lacking}")
    return chosen


def _task(folder: Path, fmt: str, image: Image, landmarks: Path | None = None) -> Task:
    """Opens the files, which checks their sha256, and asks the ncnn wheel for its detections and their
    points. The picture is resized by ncnn, as the runner does it."""
    model: Any = open_export(folder, fmt, 1)
    io: ModelIO = model.io
    ncnn = require("ncnn", "export")
    order = ncnn.Mat.PixelType.PIXEL_RGB2BGR if io.channel_order == "BGR" else ncnn.Mat.PixelType.PIXEL_RGB
    height, width = image.shape[:2]
    mat = ncnn.Mat.from_pixels_resize(np.ascontiguousarray(image), order, width, height, *io.input_size)
    mat.substract_mean_normalize([io.mean] * 3, [io.scale] * 3)
    conf = float(read_spec(folder)["threshold"])
    (candidates,) = decode(model.predict(np.array(mat)[None]), io, conf)
    found = suppress(candidates, Rules(conf=conf))
    boxes = found.boxes * np.array([width, height, width, height], np.float32)
    task = Task(folder, fmt, Boxes(boxes, found.scores, found.class_ids), tuple(io.classes), conf)
    if landmarks is None:
        return task
    _formats(landmarks, [fmt], sweep=False)  # that it has this one
    network = open_export(landmarks, fmt, 1)
    return replace(task, landmarks=landmarks, points=_points(image, boxes, network))


def _points(image: Image, boxes: NDArray[np.float32], network: LandmarkBackend) -> NDArray[np.float32]:
    """Landmarks (K, P, 2) px in boxes (K, 4) px. Faces are cut out in floats, as the runner does it:
    `toolkit.faces.cut` rounds to bytes, which in a face of a few pixels is seen."""
    from skimage.transform import warp

    io = network.io
    windows = windows_of_boxes(boxes, io)
    start, size = windows[:, :2], np.maximum(windows[:, 2:] - windows[:, :2], 1)
    step = size / io.input_size  # px of the picture to one of the cut
    x = np.empty((len(windows), 3, *io.input_size[::-1]), np.float32)
    pixels = (image[..., ::-1] if io.channel_order == "BGR" else image).astype(np.float32)
    for i, shift in enumerate(start + step / 2 - 0.5):  # warp counts from the centres of pixels
        matrix = np.diag([*step[i], 1.0])
        matrix[:2, 2] = shift
        face = warp(pixels, matrix, output_shape=x.shape[2:], cval=OUTSIDE, clip=False, preserve_range=True)
        x[i] = (face.transpose(2, 0, 1) - io.mean) * io.scale
    relative = decode_points(network.predict(x), io) if len(x) else np.empty((0, io.points, 2), np.float32)
    return start[:, None] + relative * size[:, None]


def _sweep(about: Mapping[str, Any]) -> list[tuple[int, int]]:
    threads = [count for count in (1, 2, 4) if count <= about["cores"]]
    return list(product(threads, (0, 2) if len(set(about["max_khz"])) > 1 else (0,)))


def _push(device: Device, about: Mapping[str, Any], runner: Path, raw: Path, tasks: Sequence[Task]) -> None:
    """The runner and the picture, every folder's files under the number of its first task, and those of the
    landmark network."""
    batches: dict[str, dict[Path, None]] = {".": dict.fromkeys([runner, raw])}
    for task in tasks:
        places = {_place(task, tasks): task.folder}
        if task.landmarks:
            places["landmarks"] = task.landmarks
        for place, folder in places.items():
            entry = read_spec(folder)["formats"][task.format]
            files = [folder / "spec.json", *(folder / name for name in entry["files"])]
            batches.setdefault(place, {}).update(dict.fromkeys(files))
    needed = sum(path.stat().st_size for batch in batches.values() for path in batch) // 1000 + 1000
    if about["free_kb"] is not None and about["free_kb"] < needed:
        raise InputError(
            f"{device.name} has {about['free_kb']} kB of space left in {device.folder}, and {needed} kB are "
            "needed: free some there"
        )
    for place, batch in batches.items():
        device.push(list(batch), place)


def _place(task: Task, tasks: Sequence[Task]) -> str:
    return str(next(i for i, other in enumerate(tasks) if other.folder == task.folder))


def _run(
    device: Device,
    about: Mapping[str, Any],
    task: Task,
    tasks: Sequence[Task],
    options: Sequence[str],
    load: Load,
) -> Reading:
    length = ["--seconds", f"{load.seconds:g}"] if load.seconds else ["--loops", str(load.loops)]
    words = ["./runner", "bench", _place(task, tasks), *options, "--warmup", str(load.warmup), *length]
    if task.landmarks:
        words += ["--landmarks", "landmarks"]
    before = _state(_ask(device))
    ended = device.run(f"{shlex.join(words)} > reading.json", 600 + 2 * load.seconds)
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}, no message"])[-1]
        raise InputError(f"{device.name} cannot time {task.folder} ({task.format}): {said}")
    text = device.pull("reading.json")
    try:
        data = json.loads(text)
    except ValueError:
        raise InputError(
            f"{device.name} gave no complete reading of {task.folder}: free space there"
        ) from None
    reading = read_reading(data, f"what the runner printed on {device.name}")
    state = {"before": before, "after": _state(_ask(device))}
    return reading.model_copy(
        update={
            "device": {**about, **state},
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "emulated": bool(about["emulated"]),
            "parity": agreement(task, reading),
        }
    )


def agreement(task: Task, reading: Reading) -> dict[str, Any]:
    """A reading's detections beside the ncnn wheel's: how many of each, how many matched (same class, IoU
    above .5, each once), the largest differences among these, and whether all is within TOLERANCES ("agrees":
    None where neither side found anything to compare). One whose score is that near to the threshold may be
    found by one side alone."""
    tolerance = TOLERANCES[task.format]
    left = list(reading.detections)
    scores, boxes, reach, points, lost = [0.0], [0.0], [0.0], [0.0], []
    for i, (box, score, class_id) in enumerate(
        zip(task.wanted.boxes, task.wanted.scores, task.wanted.class_ids, strict=True)
    ):
        same = [d for d in left if d.label == task.classes[class_id]]
        overlaps = iou(box[None], np.array([d.box for d in same], np.float32))[0] if same else np.zeros(0)
        if not same or not overlaps.max() > 0.5:
            lost.append(float(score))
            continue
        mate = same[int(overlaps.argmax())]
        left.remove(mate)
        scores.append(abs(mate.score - float(score)))
        boxes.append(float(np.abs(np.array(mate.box, np.float32) - box).max()))
        long_side = max(reading.input.width, reading.input.height, *np.abs(box[2:] - box[:2]))
        reach.append(boxes[-1] / float(long_side))
        if task.points is not None:
            found = np.array(mate.landmarks or [], np.float32).reshape(-1, 2)
            side = float(max(1, *(box[2:] - box[:2])))  # that much off are points that are not there
            whole = found.shape == task.points[i].shape
            points.append(float(np.abs(found - task.points[i]).max()) / side if whole else 1.0)
    alone = [*lost, *(d.score for d in left)]
    return {
        "wanted": len(task.wanted.scores),
        "found": len(reading.detections),
        "matched": len(scores) - 1,
        "score": float(np.max(scores)),
        "box_px": float(np.max(boxes)),
        **({} if task.points is None else {"points": float(np.max(points))}),
        "agrees": None
        if len(scores) == 1 and not alone
        else bool(
            np.max(scores) <= tolerance
            and np.max(reach) <= tolerance
            and np.max(points) <= tolerance
            and all(score <= task.conf + tolerance for score in alone)
        ),
    }


# --- tables and pictures ---------------------------------------------------------------------------------


def table(
    readings: Sequence[tuple[str | Path, Reading]], scores: Mapping[str, float] = {}
) -> dict[str, list[str]]:
    """Columns of text, a row for each (folder, reading): the seed's table with both of its conventions.
    `scores`: {network: score}, where known. An emulated reading has no times. Landmarks have a column where
    any reading has them; size and input are of the files that were timed, where these are still there."""
    columns: dict[str, list[str]] = {}
    cascade = any(reading.landmarks for _, reading in readings)
    for folder, reading in readings:
        spec = read_spec(folder)
        files = spec["formats"].get(reading.model.format, {"files": {}})["files"]
        hashes = {name: facts["sha256"] for name, facts in files.items()}
        present = _fingerprint(hashes) == _fingerprint(reading.model.sha256)
        score = scores.get(reading.model.name)
        row = {
            "network": reading.network,
            "score": "not measured" if score is None else f"{score:.4g}",
            "format": reading.model.format,
            "input": "x".join(map(str, spec["io"]["input_size"])) if present else REPLACED,
            "kB": f"{sum(facts['bytes'] for facts in files.values()) / 1000:.0f}" if present else REPLACED,
            "device": reading.machine,
            "threads": str(reading.settings.threads),
            "cores": CORES[reading.settings.powersave],
            **_times(reading, cascade),
            "as ncnn here": parity_text(reading),
            "date": reading.date[:10],
        }
        for name, cell in row.items():
            columns.setdefault(name, []).append(cell)
    return columns


def record(folder: str | Path, reading: Reading) -> dict[str, Any]:
    """A reading for machines: statistics in milliseconds instead of samples, None where it is emulated."""
    times = None if reading.emulated else {name: asdict(s) for name, s in summary(reading).items()}
    wanted = ("model", "landmarks", "settings", "device", "date", "emulated", "parity")
    kept = {key: value for key, value in reading.as_dict().items() if key in wanted}
    return {"folder": str(folder), **kept, "milliseconds": times}


def _times(reading: Reading, cascade: bool) -> dict[str, str]:
    shown = {
        "forward + post-processing, ms (seed's NCNN column)": (NCNN_COLUMN, "p50"),
        "forward only, ms (its MNN column)": (MNN_COLUMN, "p50"),
        **({"landmarks, ms": ("landmarks", "p50")} if cascade else {}),
        "p90 of all, ms": ("total", "p90"),
    }
    if reading.emulated:
        return dict.fromkeys(shown, NOT_A_TIMING)
    found = summary(reading)
    return {
        title: f"{getattr(found[stage], statistic):.3g}" if stage in found else "none"
        for title, (stage, statistic) in shown.items()
    }


def parity_text(reading: Reading) -> str:
    """Matched detections, how far off they are and whether they agree, in words."""
    p = reading.parity
    if not p:
        return "not compared"
    if not p["wanted"] and not p["found"]:
        return "nothing to compare"
    text = f"{p['matched']} of {p['wanted']}, score {p['score']:.1g} off"
    if "points" in p:
        text += f", points {p['points']:.1g} of a face"
    return text if p["agrees"] else f"DISAGREES: {text}, {p['found']} found"


def _threads(reading: Reading) -> str:
    count = reading.settings.threads
    return f"{count} thread{'s' * (count > 1)}"


def _label(reading: Reading, differ: Collection[str]) -> str:
    cores = reading.settings.powersave
    words = [f"{reading.network} {reading.model.format}"]
    words += [f"{CORES[cores]} cores"] * bool(cores) + ["Vulkan"] * reading.settings.vulkan
    words += [word for word in (_threads(reading), reading.machine) if word in differ]
    return ", ".join(words)


def _shown(readings: Sequence[Reading]) -> tuple[dict[str, Reading], str]:
    """The latest timing by its label, and in words the machines, and the threads where all have as many.
    Raises InputError where there is none."""
    timed = [reading for reading in readings if not reading.emulated]
    if not timed:
        raise InputError("there is no timing to draw: readings from an emulated processor are none")
    machines = list(dict.fromkeys(reading.machine for reading in timed))
    threads = list(dict.fromkeys(map(_threads, timed)))
    differ = {word for words in (machines, threads) if len(words) > 1 for word in words}
    title = "; ".join([*machines, *(threads if len(threads) == 1 else ())])
    return {_label(reading, differ): reading for reading in timed}, title


def draw_stages(readings: Sequence[Reading]) -> Figure:
    """Median milliseconds of each stage, stacked, for every setting."""
    shown, machines = _shown(readings)
    stages = {label: summary(reading) for label, reading in shown.items()}
    parts = {
        stage: [found[stage].p50 if stage in found else 0.0 for found in stages.values()]
        for stage in STAGES
        if any(stage in found for found in stages.values())
    }
    return viz.stacked(list(shown), parts, "milliseconds, medians", machines)


def draw_accuracy(readings: Sequence[Reading], scores: Mapping[str, float], name: str = "score") -> Figure:
    """Forward and post-processing against the score, for networks in `scores` {network: score}. Raises
    InputError where none was timed."""
    shown, machines = _shown(readings)
    points = {
        label: (summary(r)[NCNN_COLUMN].p50, scores[r.model.name])
        for label, r in shown.items()
        if r.model.name in scores
    }
    if not points:
        raise InputError("none of the timed networks has a score: give one as NETWORK=SCORE")
    return viz.pareto(points, "forward + post-processing, ms", name, machines)


def draw_warming(readings: Sequence[Reading], points: int = 60) -> Figure:
    """All stages together over the seconds of each run: medians of up to `points` parts, with bands from the
    10th to the 90th percentile."""
    shown, machines = _shown(readings)
    lines, bands = {}, {}
    for label, reading in shown.items():
        total = np.sum(list(reading.samples.stages.values()), axis=0)
        parts = np.array_split(np.arange(len(total)), min(points, len(total)))
        seconds = [np.mean(np.array(reading.samples.start_ms)[part]) / 1000 for part in parts]
        low, middle, high = np.array([np.percentile(total[part], [10, 50, 90]) for part in parts]).T
        lines[label], bands[label] = (seconds, middle), (low, high)
    return viz.curves(lines, "seconds", "milliseconds for one picture", machines, bands)
