"""Timing exported networks on phones, boards and this machine: measure, keep, compare, show.

A reading is what the runner (or the app's benchmark) prints of one network at one setting, or of a detector
with a landmark network: raw samples, the detections, and the machine. Readings are kept in FOLDER/timing.json
of the exported folder; every statistic is computed from their samples here. A reading made under an emulator
is kept, marked, and never shown as a time.
"""

from __future__ import annotations

import queue
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.device.agreement import TimingJob, compare_detections, timing_job
from toolkit.device.answers import last_line
from toolkit.device.browser import time_in_browser
from toolkit.device.build import LAYERS, build_runner, finished_runner, layers_of
from toolkit.device.connect import Device, open_device
from toolkit.device.engines import time_engine
from toolkit.device.facts import ask_device, device_facts, device_state
from toolkit.device.readings import Reading, check_files, keep, read_reading
from toolkit.device.report import Timings
from toolkit.device.settings import RUNNER_FORMATS, Load, load_picture, swept_settings, timed_formats
from toolkit.device.web import FORMAT, page_networks
from toolkit.export.folder import Exported
from toolkit.files import temporary_folder
from toolkit.moved import at_old_place
from toolkit.runtime import InputError, progress
from toolkit.text import parse_json


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
    browser: bool = False,
    show: Callable[[Timings], object] = lambda timings: None,
) -> Timings:
    """Times exported networks on devices, all devices at the same time, and then in browsers, one after the
    other.

    A reading is added to timing.json as soon as it is complete; after an interruption every device finishes
    the one it is at.

    Args:
        folders: exported detectors.
        devices: addresses for `connect.open_device`; "browser" is Chromium on this machine.
        formats: "ncnn" unless given, or among `settings.RUNNER_FORMATS`; on this machine also among
            `settings.HERE_FORMATS`. A browser has the format onnx.
        threads: numbers of threads.
        powersave: ncnn's sets of cores, 0 all, 1 little, 2 big.
        sweep: 1, 2 and 4 threads as far as there are cores, all and big cores where they differ, and all
            formats of a folder, instead of what is given.
        picture: scikit-image's astronaut unless given.
        load: loops, warm-up and rest.
        ssh_config: instead of ~/.ssh/config.
        landmarks: an exported landmark network that places points in every detection, in the same format.
        browser: in Chrome on the phones that are named, instead of by the runner.
        show: called with the readings so far whenever one has come; what it does takes time from the runs on
            this machine.

    Returns:
        (folder, reading) of every run.

    Raises:
        InputError: bad input, before any device is touched; a device that is missing or named twice,
            before any is timed; devices that failed, at the end.
    """
    paths = [Path(folder) for folder in folders]
    points = None if landmarks is None else Path(landmarks)
    _check_tasks(paths, points)
    phones = [name for name in devices if browser and name.partition(":")[0] == "adb"]
    browsers = [name for name in devices if name == "browser" or name in phones]
    others = [name for name in devices if name not in browsers]
    if browser and not phones:
        raise InputError("there is no phone to open a browser on: name one with adb; here it is browser")
    if len(set(browsers)) < len(browsers):
        raise InputError(f"{max(browsers, key=browsers.count)} is named twice: name it once")
    if browsers:
        page_networks([*paths, *([points] if points else [])])
        if not others and (set(formats) - {FORMAT} or set(powersave) - {0}):
            raise InputError(
                "a browser runs the format onnx, on cores that it chooses: leave formats and cores out"
            )
    done = Timings()
    if others:
        done += _measure_natively(
            paths, others, formats, threads, powersave, sweep, picture, load, ssh_config, points, show
        )
    for name in browsers:
        done += time_in_browser(paths, name, () if sweep else threads, picture, load, points)
        show(done)
    return done


def _check_tasks(folders: Sequence[Path], landmarks: Path | None) -> None:
    for folder in folders:
        if Exported.read(folder).io.task != "detection":
            raise InputError(
                f"{folder} places landmarks and finds no objects: name a detector, and this one with "
                "--landmarks"
            )
    if landmarks is not None and Exported.read(landmarks).io.task != "landmarks":
        raise InputError(
            f"{landmarks} finds objects and places no landmarks: name it without --landmarks, and with it an "
            "exported landmark network"
        )


def _check_engines(
    formats: set[str], devices: Sequence[str], cascade: bool, powersave: Sequence[int]
) -> None:
    """InputError where formats of engines' Python packages are wanted of what only the runner does."""
    named = ", ".join(sorted(formats))
    if not formats:
        return
    if set(devices) != {"local"}:
        raise InputError(
            f"{named}: only this machine (local) times this; phones and boards take ncnn formats"
        )
    if cascade or set(powersave) - {0}:
        raise InputError(f"{named}: landmarks and sets of cores are timed with ncnn formats alone")


def _measure_natively(
    folders: Sequence[Path],
    devices: Sequence[str],
    formats: Sequence[str],
    threads: Sequence[int],
    powersave: Sequence[int],
    sweep: bool,
    picture: str | Path | None,
    load: Load,
    ssh_config: str | Path | None,
    landmarks: Path | None,
    show: Callable[[Timings], object],
) -> Timings:
    image, name = load_picture(picture)
    chosen = {folder: timed_formats(folder, formats, sweep) for folder in folders}
    runs = any(fmt in RUNNER_FORMATS for each in chosen.values() for fmt in each)
    by_packages = {fmt for each in chosen.values() for fmt in each if fmt not in RUNNER_FORMATS}
    _check_engines(by_packages, devices, landmarks is not None, powersave)
    layers = layers_of([*folders, *([landmarks] if landmarks else [])]) if runs else LAYERS
    tasks = [
        timing_job(folder, fmt, image, landmarks)
        for folder in progress(folders, "checking")
        for fmt in chosen[folder]
    ]
    done = Timings()
    arrivals: queue.SimpleQueue[tuple[Path, Reading] | None] = queue.SimpleQueue()
    stop = threading.Event()

    def settings_of(about: Mapping[str, Any]) -> list[tuple[int, int]]:
        return swept_settings(about) if sweep else list(product(threads, powersave))

    def work(device: Device, about: dict[str, Any], runner: Path | None, raw: Path) -> None:
        try:
            if runner:
                _push(device, about, runner, raw, [task for task in tasks if task.format in RUNNER_FORMATS])
            settings = settings_of(about)
            size = f"{image.shape[1]}x{image.shape[0]}"
            for task, (count, cores) in product(tasks, settings):
                if stop.is_set():
                    return
                if runner and task.format in RUNNER_FORMATS:
                    options = ["--format", task.format, "--raw", raw.name, "--size", size]
                    options += ["--conf", f"{task.conf:.6f}", "--threads", str(count)]
                    options += ["--powersave", str(cores)]
                    reading = _run(device, about, task, tasks, options, load)
                else:
                    reading = _dated(time_engine(task, image, name, count, load), about)
                keep(task.folder, [reading])  # here, so that one which ends after an interruption is kept
                arrivals.put((task.folder, reading))
                stop.wait(load.cooldown)
        finally:
            arrivals.put(None)

    with ExitStack() as stack:
        raw = stack.enter_context(temporary_folder()) / f"{name}.rgb"
        raw.write_bytes(image.tobytes())
        opened: dict[str, Device] = {}
        for address in devices:
            device = stack.enter_context(closing(open_device(address, ssh_config)))
            if device.name in opened:
                raise InputError(f"{device.name} is named twice, and would be timed at once: name it once")
            opened[device.name] = device
        ready = []
        for device in opened.values():
            about = device_facts(device)
            plain = landmarks is None and not any(cores for _, cores in settings_of(about))
            runner = _runner_for(about, layers, plain) if runs else None
            ready.append((device, about, runner, raw))
        with ThreadPoolExecutor(max(1, len(ready))) as pool:
            try:
                jobs = [pool.submit(work, *place) for place in ready]
                for entry in progress(_until_all(arrivals, len(jobs)), "timing"):
                    done.append(entry)
                    show(done)
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


def _runner_for(about: Mapping[str, Any], layers: frozenset[str], plain: bool) -> Path | None:
    """The runner for a device, built where it is missing. This machine has None until somebody has built it,
    and is timed by ncnn's Python package, where the timing is `plain`: of detectors alone, on all cores."""
    if about["kind"] != "local" or not plain:
        return build_runner(about["abi"], layers, ndk=about["kind"] == "adb")
    runner = finished_runner(about["abi"], layers, ndk=False)
    if runner is None:
        named = "" if layers <= LAYERS else " --model FOLDER"
        print(
            "timed by ncnn's Python package; to have the runner that phones get (minutes, once): toolkit "
            f"device build --abi {about['abi']}{named}",
            file=sys.stderr,
        )
    return runner


def _until_all(arrivals: queue.SimpleQueue[Any], workers: int) -> Iterator[tuple[Path, Reading]]:
    while workers:
        item = arrivals.get()
        if item is None:
            workers -= 1
        else:
            yield item


def _push(
    device: Device, about: Mapping[str, Any], runner: Path, raw: Path, tasks: Sequence[TimingJob]
) -> None:
    """The runner and the picture, every folder's files under the number of its first task, and those of the
    landmark network."""
    batches: dict[str, dict[Path, None]] = {".": dict.fromkeys([runner, raw])}
    for task in tasks:
        places = {_place(task, tasks): task.folder}
        if task.landmarks:
            places["landmarks"] = task.landmarks
        for place, folder in places.items():
            files = [folder / "spec.json", *Exported.read(folder).paths(task.format)]
            batches.setdefault(place, {}).update(dict.fromkeys(files))
    needed = sum(path.stat().st_size for batch in batches.values() for path in batch) // 1000 + 1000
    if about["free_kb"] is not None and about["free_kb"] < needed:
        raise InputError(
            f"{device.name} has {about['free_kb']} kB of space left in {device.folder}, and {needed} kB are "
            "needed: free some there"
        )
    for place, batch in batches.items():
        device.push(list(batch), place)


def _place(task: TimingJob, tasks: Sequence[TimingJob]) -> str:
    return str(next(i for i, other in enumerate(tasks) if other.folder == task.folder))


def _run(
    device: Device,
    about: Mapping[str, Any],
    task: TimingJob,
    tasks: Sequence[TimingJob],
    options: Sequence[str],
    load: Load,
) -> Reading:
    length = ["--seconds", f"{load.seconds:g}"] if load.seconds else ["--loops", str(load.loops)]
    words = ["./runner", "bench", _place(task, tasks), *options, "--warmup", str(load.warmup), *length]
    if task.landmarks:
        words += ["--landmarks", "landmarks"]
    before = device_state(ask_device(device))
    ended = device.run(f"{shlex.join(words)} > reading.json", 600 + 2 * load.seconds)
    if ended.returncode:
        message = last_line(ended.stderr, f"exit code {ended.returncode}, no message")
        raise InputError(f"{device.name} cannot time {task.folder} ({task.format}): {message}")
    text = device.pull("reading.json")
    try:
        data = parse_json(text, "it")
    except InputError as error:
        raise InputError(
            f"{device.name} gave no complete reading of {task.folder} ({error}): free space there"
        ) from None
    reading = read_reading(data, f"what the runner printed on {device.name}")
    check_files(reading.model, Exported.read(task.folder))
    if task.landmarks and reading.landmarks:
        check_files(reading.landmarks, Exported.read(task.landmarks))
    state = {"before": before, "after": device_state(ask_device(device))}
    return _dated(reading, {**about, **state}).model_copy(
        update={"parity": compare_detections(task, reading)}
    )


def _dated(reading: Reading, about: Mapping[str, Any]) -> Reading:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return reading.model_copy(
        update={"device": dict(about), "date": now, "emulated": bool(about["emulated"])}
    )


if not TYPE_CHECKING:
    __getattr__ = at_old_place(__name__)
