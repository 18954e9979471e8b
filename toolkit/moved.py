"""Names at their places in version 0.1; each use warns where the name is now. To be removed after 0.2."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import lazy_loader

_EVALUATION = "toolkit.evaluation"
MOVED: dict[str, dict[str, str]] = {
    "toolkit.detect": {
        "Settings": "toolkit.inference.backend.DetectSettings",
        "annotate": "toolkit.inference.results.annotate",
        "detect": "toolkit.inference.run.detect",
        "find_images": "toolkit.pictures.find_images",
        "load_image": "toolkit.pictures.load_image",
        "run": "toolkit.inference.run.run",
        "save_image": "toolkit.pictures.save_image",
    },
    "toolkit.timing": {
        "interleave": "toolkit.stopwatch.interleave",
        "paired_ratio": "toolkit.stopwatch.paired_ratio",
    },
    "toolkit.ablation.report": {"table": "toolkit.ablation.report.study_table"},
    "toolkit.ablation.study": {
        "Store": "toolkit.ablation.store.Store",
        "cell_config": "toolkit.ablation.cells.cell_config",
        "cells": "toolkit.ablation.cells.cells",
        "read_plan": "toolkit.ablation.plan.read_plan",
    },
    "toolkit.data.dataset": {
        "load": "toolkit.data.catalog.load",
        "save": "toolkit.data.formats.canonical.save",
    },
    "toolkit.device.timing": {
        "Load": "toolkit.device.settings.Load",
        "load_picture": "toolkit.device.settings.load_picture",
        **{
            name: f"toolkit.device.report.{name}"
            for name in ("draw_accuracy", "draw_stages", "draw_warming", "parity_text", "summary", "table")
        },
    },
    "toolkit.evaluation.detection": {
        "Truth": f"{_EVALUATION}.columns.Truth",
        "coco": f"{_EVALUATION}.coco.coco",
        "match": f"{_EVALUATION}.matching.match",
        **{
            name: f"{_EVALUATION}.average_precision.{name}" for name in ("darknet", "precision_recall", "voc")
        },
        **{name: f"{_EVALUATION}.failures.{name}" for name in ("confusion", "failure_gallery", "failures")},
        **{name: f"{_EVALUATION}.operating.{name}" for name in ("operating_point", "operating_points")},
    },
    "toolkit.evaluation": {"score": f"{_EVALUATION}.score.evaluate"},
    "toolkit.export": {
        "open_landmarks": "toolkit.networks.open_landmarks",
        "open_model": "toolkit.networks.open_model",
        "read_spec": "toolkit.export.folder.read_spec",
    },
    "toolkit.export.parity": {"compare": "toolkit.export.parity.layer_parity"},
    "toolkit.runtime": {
        name: f"toolkit.files.{name}" for name in ("check_place", "whole_file", "whole_folder")
    },
    "toolkit.training.loop": {
        "VALIDATION": "toolkit.training.detection.VALIDATION",
        "build": "toolkit.training.tasks.build",
        "complete": "toolkit.training.tasks.complete",
        "read_config": "toolkit.training.config.read_config",
        "splits": "toolkit.training.splits.splits",
    },
}


def at_old_place(module: str, stacklevel: int = 2) -> Callable[[str], Any]:
    """A `__getattr__` (PEP 562) for `module` that forwards the names of `MOVED` with a DeprecationWarning."""

    def __getattr__(name: str) -> Any:
        if name not in MOVED[module]:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = MOVED[module][name].rpartition(".")
        warnings.warn(
            f"{module}.{name} is now {place}.{new}: import it from there", DeprecationWarning, stacklevel
        )
        return getattr(importlib.import_module(place), new)

    return __getattr__


def face_with_old_names(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`lazy_loader.attach_stub` for a package that also hands on names of `MOVED`."""
    attached, names_of, names = lazy_loader.attach_stub(package, file)
    old = at_old_place(package, stacklevel=3)

    def __getattr__(name: str) -> Any:
        return old(name) if name in MOVED[package] else attached(name)

    return __getattr__, names_of, names


def callable_as(module: str, target: str) -> None:
    """Make `module` callable as its function `target`, which used to have the module's name: importing a
    submodule hides a function of the same name in its package."""

    class Callable(types.ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(self, target)(*args, **kwargs)

    sys.modules[module].__class__ = Callable
