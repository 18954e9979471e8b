"""What engines read when they load, and the cores that are free."""

import json
import os
import subprocess
import sys
import time

import pytest

from toolkit import machine


def environment_of(**settings: str) -> dict[str, str]:
    """The environment of a process after `import toolkit`, which was started with these settings alone."""
    names = (
        *machine.WAITING_CHOICES,
        *machine.SILENCE,
        "MPLCONFIGDIR",
        "TORCHINDUCTOR_CACHE_DIR",
        "XDG_CONFIG_HOME",
    )
    outer = {name: value for name, value in os.environ.items() if name not in names}
    code = "import json, os, sys, toolkit; print(json.dumps([dict(os.environ), 'torch' in sys.modules]))"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**outer, **settings}, capture_output=True, text=True, check=True
    )
    variables, torch_is_loaded = json.loads(run.stdout)
    assert not torch_is_loaded
    return dict(variables)


def test_engines_find_their_settings_before_they_load():
    found = environment_of()
    assert machine.WAITING.items() | machine.SILENCE.items() <= found.items()


@pytest.mark.parametrize("name", machine.WAITING_CHOICES)
def test_the_users_own_policy_stays(name):
    found = environment_of(**{name: "7"})
    assert found[name] == "7"
    assert not (set(machine.WAITING) - {name}) & set(found)


def test_a_busy_core_is_not_free():
    quiet = min(machine.free_cores(0.5) for _ in range(2))
    spin = "import time; end = time.time() + 30\nwhile time.time() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(0.5)
        assert machine.free_cores(0.5) < max(0.5, 0.8 * quiet)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert 0 <= quiet <= machine.allowed_cores()


def test_libraries_make_their_folders_in_our_cache(tmp_path):
    found = environment_of(HOME=str(tmp_path), TOOLKIT_CACHE=str(tmp_path / "cache"))
    assert found["MPLCONFIGDIR"] == str(tmp_path / "cache" / "matplotlib")
    assert found["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path / "cache"))
    (tmp_path / ".config" / "matplotlib").mkdir(parents=True)  # the user's settings
    assert "MPLCONFIGDIR" not in environment_of(HOME=str(tmp_path))
