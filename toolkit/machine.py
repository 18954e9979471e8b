"""The machine: environment of the engines before they load, our cache, and the cores that are free."""

from __future__ import annotations

import os
from pathlib import Path

# How OpenMP's threads wait for each other. Left to itself libgomp spins for milliseconds, which takes the
# core from whoever else wants it, often from the very thread that is waited for: beside two busy processes a
# training step on two cores took 15 times as long. A thousand turns (some 50 us) bridge the gaps between
# layers; then the thread sleeps. Other runtimes (macOS, Windows) know the policy alone.
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
# The user's own choice of any of these leaves all of WAITING alone.
WAITING_CHOICES = (*WAITING, "KMP_BLOCKTIME")
# Engines report to their makers unless told not to; onnxruntime reads this when it loads, its Python call is
# too late.
SILENCE = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0", "FIFTYONE_DO_NOT_TRACK": "true"}


def prepare_engines() -> None:
    """Set what engines read from the environment when they load; what is set already stays. `import toolkit`
    calls it, so it holds for the command, notebooks and every process that they start."""
    if not any(name in os.environ for name in WAITING_CHOICES):
        os.environ.update(WAITING)
    for name, value in {**SILENCE, **_own_folders()}.items():
        os.environ.setdefault(name, value)


def _own_folders() -> dict[str, str]:
    """Folders that libraries make when they load, inside our cache; matplotlib's stays where it is one with
    the user's settings."""
    cache = cache_folder()
    folders = {"TORCHINDUCTOR_CACHE_DIR": str(cache / "torchinductor")}
    if not any(
        Path.home().joinpath(*place).is_dir() for place in ((".config", "matplotlib"), (".matplotlib",))
    ):
        folders["MPLCONFIGDIR"] = str(cache / "matplotlib")
    return folders


def cache_folder() -> Path:
    """The folder that TOOLKIT_CACHE names, or `toolkit` in the user's folder of caches."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("TOOLKIT_CACHE") or user_cache_dir("toolkit"))


def allowed_cores() -> int:
    """Cores that this process may use: those of the machine, less what affinity and the quota of a container
    keep from it."""
    from joblib import cpu_count

    return int(cpu_count())


def free_cores(seconds: float = 0.3) -> float:
    """Cores, 0..`allowed_cores()`, that nobody used while this call waited `seconds`."""
    import psutil

    idle = 1 - float(psutil.cpu_percent(interval=seconds)) / 100
    return min(float(allowed_cores()), idle * (psutil.cpu_count() or 1))
