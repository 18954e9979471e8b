"""A headless browser, and the programs that it looks at."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ready(page):
    """Waits until the page of `toolkit package --web` has its network."""
    page.locator("#file:enabled").wait_for(state="attached")


@pytest.fixture
def page(tmp_path):
    """A page of Debian's Chromium, for one test only: its event loop stays in this thread, and other tests
    have their own. What was last to be seen is kept in `last.png`."""
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: see `make debian`")
    options = {"executable_path": chromium, "args": ["--no-sandbox"]}
    with api.sync_playwright() as playwright, playwright.chromium.launch(**options) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        api.expect.set_options(timeout=60_000)
        yield page
        if not page.is_closed():
            page.screenshot(path=tmp_path / "last.png")


@pytest.fixture
def start(tmp_path):
    """start(module, arguments..., VARIABLE=value...) -> the process of this copy of the package; what it says
    is in `answer.txt` and `log.txt`. It ends with the test."""
    running = []

    def start(*arguments, **environment):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        with (tmp_path / "answer.txt").open("w") as answer, (tmp_path / "log.txt").open("w") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", *map(str, arguments)],
                    stdout=answer,
                    stderr=log,
                    cwd=tmp_path,
                    env={**os.environ, "PYTHONPATH": path, **environment},
                )
            )
        return running[-1]

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def address(tmp_path):
    """address(process) -> the first one that its log names, as soon as it does."""

    def address(process, seconds=120):
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            if found := re.search(
                r"http://(127\.0\.0\.1|localhost):\d+\S*\b", (tmp_path / "log.txt").read_text()
            ):
                return found[0]
            time.sleep(0.1)
        pytest.fail(f"no address after {seconds} s: {(tmp_path / 'log.txt').read_text()}")

    return address
