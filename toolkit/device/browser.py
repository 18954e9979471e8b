"""Timing in a browser: Chromium on this machine, or Chrome on a phone through adb."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from toolkit.device.adb import AdbDevice
from toolkit.device.answers import last_line
from toolkit.device.facts import device_facts
from toolkit.device.local import LocalDevice
from toolkit.device.readings import Reading
from toolkit.device.serve import PageServer, PageTask
from toolkit.device.settings import Load
from toolkit.export.folder import Exported
from toolkit.files import temporary_folder
from toolkit.runtime import InputError, progress

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Without a window, and without a word to anybody: no name is looked up but this machine's.
OPTIONS = (
    "--headless=new", "--no-first-run", "--no-default-browser-check", "--disable-extensions",
    "--disable-sync", "--disable-background-networking", "--disable-component-update",
    "--disable-domain-reliability", "--disable-breakpad", "--disable-dev-shm-usage",
    "--disable-features=MediaRouter,OptimizationHints,Translate,AsyncDns",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server",
)  # fmt: skip
# A program that ends with this process, even where it is killed.
LAUNCH = "import os, sys; from toolkit.signals import end_with_parent; "
LAUNCH += "end_with_parent(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
PATIENCE = 120.0  # s for a page to open, and for each network on top of its benchmark


def find_browser() -> str | None:
    """A browser of this machine that needs no window; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def time_in_browser(
    folders: Sequence[Path],
    address: str,
    threads: Sequence[int],
    picture: str | Path | None,
    load: Load,
    landmarks: Path | None = None,
) -> list[tuple[Path, Reading]]:
    """Times exported networks in a browser, one after the other; readings are kept as they come.

    Args:
        folders: exported detectors with ONNX files.
        address: "browser" for this machine, adb[:SERIAL] for Chrome on a phone.
        threads: numbers of WebAssembly's threads; () for 1, 2 and 4 as far as there are cores.
        picture: scikit-image's astronaut unless given.
        load: how long.
        landmarks: an exported landmark network that places points in every detection.

    Returns:
        (folder, reading) of each network and number of threads.

    Raises:
        InputError: a folder has no ONNX file, there is no browser, or the page did not do what it was asked.
    """
    with closing(LocalDevice() if address == "browser" else AdbDevice(address.partition(":")[2])) as device:
        about = {**device_facts(device), "address": "browser" if address == "browser" else device.name}
        counts = threads or [count for count in (1, 2, 4) if count <= about["cores"]]
        names = [Exported.read(folder).name for folder in folders]
        tasks = [
            PageTask(name, "wasm", count, load.warmup, load.loops, load.seconds, load.cooldown)
            for name in names
            for count in counts
        ]
        news: queue.SimpleQueue[str] = queue.SimpleQueue()  # "" for a reading, else what the page says
        page = [*folders, *([landmarks] if landmarks else [])]
        with PageServer(
            page,
            picture=picture,
            tasks=tasks,
            about=about,
            told=lambda folder, reading: news.put(""),
            failed=news.put,
        ) as server:
            opened = _chromium(server) if isinstance(device, LocalDevice) else _chrome(device, server)
            patience = PATIENCE + 2 * load.seconds + load.cooldown
            with opened as ended:
                said = [_next(news, ended, patience) for _ in progress(tasks, "timing in a browser")]
        if faults := [sentence for sentence in said if sentence]:
            raise InputError(f"the browser of {about['model']} could not time all: {'; '.join(faults)}")
        return server.inbox.readings


def _next(news: queue.SimpleQueue[str], ended: Callable[[], str], seconds: float) -> str:
    """What comes next: "" for a reading, else what the page says of a task. Raises InputError where nothing
    comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return news.get(timeout=1)
        except queue.Empty:
            if fault := ended():
                raise InputError(fault) from None
    raise InputError(f"nothing came from the browser for {seconds:.0f} s: see whether it shows the page")


@contextmanager
def _chromium(server: PageServer) -> Iterator[Callable[[], str]]:
    """A headless browser with the page, and a function that tells why it has ended; "" while it runs."""
    program = find_browser()
    if program is None:
        raise InputError(
            f"no browser is installed: expected one of {', '.join(BROWSERS)} in PATH (Debian and Ubuntu: apt "
            "install chromium)"
        )
    with temporary_folder() as folder:
        options = [*OPTIONS, f"--user-data-dir={folder}", *(["--no-sandbox"] if _is_root() else [])]
        command = [sys.executable, "-c", LAUNCH, str(os.getpid()), program, *options, server.address]
        log = folder / "log.txt"
        own = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        with log.open("w") as messages:  # with a home of its own, where nothing stays
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=messages, env={**own, "HOME": str(folder)}
            )

        def ended() -> str:
            if process.poll() is None:
                return ""
            return f"{program} ended by itself ({last_line(log.read_text(errors='replace'))})"

        try:
            yield ended
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _settle(folder)


def _settle(folder: Path) -> None:
    """Waits until the helpers of a browser have left its folder."""
    deadline, before = time.monotonic() + 5, None
    while time.monotonic() < deadline:
        now = sorted(path.name for path in folder.iterdir())
        if now == before:
            return
        before = now
        time.sleep(0.2)


def _is_root() -> bool:
    """Chromium refuses its sandbox to the superuser, as whom containers run."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@contextmanager
def _chrome(phone: AdbDevice, server: PageServer) -> Iterator[Callable[[], str]]:
    """Chrome on a phone with the page, which is on the phone's own localhost. The tab stays open."""
    with phone.reversed(server.port) as port:
        phone.open_page(f"http://localhost:{port}{server.path}")
        yield lambda: ""
