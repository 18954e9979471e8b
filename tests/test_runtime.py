import os
import subprocess
import sys
import time

import pytest
import torch

from toolkit import runtime


def test_a_missing_extra_names_its_installation():
    with pytest.raises(runtime.InputError, match=r'pip install -e "\.\[export\]"'):
        runtime.require("a_package_that_nobody_has", "export")


def test_device():
    assert runtime.pick_device("cpu") == torch.device("cpu")
    assert runtime.pick_device("auto").type in ("cpu", "cuda")
    for name in ("cuda:99", "abacus"):
        with pytest.raises(runtime.InputError, match="not usable"):
            runtime.pick_device(name)


def test_progress_yields_everything(capsys):
    import ipykernel.kernelapp  # noqa: F401 (other tests load it too: that makes no notebook of this process)

    assert list(runtime.progress(range(5), "five")) == [0, 1, 2, 3, 4]
    assert list(runtime.progress(iter("ab"), "letters", total=2)) == ["a", "b"]
    assert capsys.readouterr().out == ""


def test_a_log_has_lines_of_long_work(capsys, monkeypatch):
    monkeypatch.setattr(runtime, "LINE_SECONDS", 0.2)
    for _ in runtime.progress(range(5), "five"):
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("five: ")
    assert "of 5" in lines[0]


def test_a_long_wait_is_announced(capfd, monkeypatch):
    monkeypatch.setattr(runtime, "LINE_SECONDS", 0.2)
    with runtime.announced("short", first=1):
        pass
    with runtime.announced("long", first=0.1), runtime.engine_lines() as lines:
        os.write(2, b"a line of the engine\n")
        time.sleep(0.5)
    assert lines == ["a line of the engine"]
    announcements = capfd.readouterr().err.splitlines()
    assert len(announcements) >= 2
    assert all(line.startswith("long: ") for line in announcements)


def test_fast_mode(monkeypatch):
    for value, expected in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("TOOLKIT_FAST", value)
        assert runtime.fast() is expected


def test_seeds_repeat():
    runtime.seed_everything(3)
    first = torch.rand(3)
    runtime.seed_everything(3)
    assert torch.equal(first, torch.rand(3))


def test_environment_stamp():
    stamp = runtime.environment()
    assert stamp["torch"] == torch.__version__
    assert stamp["cpu"]


ENGINES = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from toolkit.runtime import engine_lines

def speak(i):
    with engine_lines() as lines:
        os.write(1, f"engine {i}\\n".encode())
    return lines

with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(speak, range(200))) == [[f"engine {i}"] for i in range(200)]
print("on stdout")
print("on stderr", file=sys.stderr)
"""


def test_engines_in_threads_leave_the_streams_as_they_were():
    run = subprocess.run([sys.executable, "-c", ENGINES], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("on stdout\n", "on stderr\n")


def test_engines_may_speak_where_nobody_listens():
    code = "from toolkit.runtime import engine_lines\nwith engine_lines():\n    print('heard by nobody')\n"
    run = subprocess.run(["bash", "-c", f'exec "{sys.executable}" -c "$0" >&-', code], stderr=subprocess.PIPE)
    assert (run.returncode, run.stderr) == (0, b"")


def test_a_very_long_sentence_is_cut_in_its_middle():
    error = runtime.InputError(f"a.txt has a picture {'x' * 5000}, which is missing")
    assert str(error).startswith("a.txt has a picture xxx")
    assert str(error).endswith("xxx, which is missing")
    assert len(str(error)) < 2000
    assert str(runtime.InputError("short")) == "short"
