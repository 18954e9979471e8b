"""Running the stages of the demo, and resuming after an interruption.

Every stage writes into a folder of its own name. Its part of the page is kept in demo.json, so that a call
after an interruption continues where it was; the page is written anew before each stage and at the end.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toolkit.demo.page import write_demo_page
from toolkit.demo.screen import RULE, output_into, progress_view
from toolkit.demo.stages import STAGES, DemoStage
from toolkit.files import check_place, locked, write_json
from toolkit.runtime import InputError, MissingExtra, environment, fast
from toolkit.text import read_json


def run(output: Path) -> dict[str, Any]:
    """Run what is left of the demo and write its page.

    A stage that misses an extra, or cannot run for another reason that InputError states, is skipped with
    that sentence and tried again by the next call; the others continue. If TOOLKIT_FAST differs from the
    call that began the folder, everything starts anew.

    Args:
        output: a new folder, or that of an earlier demo.

    Returns:
        "page" (path of index.html), "fast", "environment", and "stages": for each stage its section of the
        page or why it was "skipped", and its "seconds".

    Raises:
        InputError: `output` is not a demo, or another process works in it; or, after the page is written, a
            stage failed for another reason than a missing extra or network connection.
        KeyboardInterrupt: a signal ended a training; finished stages are kept.
    """
    with locked(output):
        return _run(output)


def _run(output: Path) -> dict[str, Any]:
    state = _begin(output)
    log = output / "demo.log"
    try:
        with output_into(log) as screen, progress_view(screen, log) as tell:
            _run_stages(output, state, tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("run the same command again to continue") from None
    stages = {stage.name: state["stages"][stage.name] for stage in STAGES}
    state = {**state, "stages": stages, "environment": environment()}
    write_json(output / "demo.json", state)
    write_demo_page(output, state)
    failures = [
        f"{stage.title} ({stages[stage.name]['skipped']})"
        for stage in STAGES
        if stages[stage.name].get("failed")
    ]
    if failures:
        raise InputError(f"{output / 'index.html'} lacks the stages that failed: {'; '.join(failures)}")
    return {"page": str(output / "index.html"), **state}


def _run_stages(output: Path, state: Mapping[str, Any], tell: Callable[[DemoStage, str], None]) -> None:
    entries: dict[str, dict[str, Any]] = state["stages"]
    for stage in STAGES:
        missing = [s.title for s in STAGES if s.name in stage.needs and "skipped" in entries[s.name]]
        previous = entries.get(stage.name, {"skipped": ""})
        if "skipped" not in previous and not missing and (output / stage.name).is_dir():
            tell(stage, f"finished before, in {previous['seconds']:.1f} s")
            continue
        if not stage.resumes:
            shutil.rmtree(output / stage.name, ignore_errors=True)
        (output / stage.name).mkdir(exist_ok=True)
        print(f"{RULE} {stage.title}", flush=True)
        tell(stage, "")
        write_demo_page(output, state, stage.title)
        start = time.monotonic()
        entry: dict[str, Any]
        if missing:
            entry = {"skipped": f"it needs the stage {missing[0]!r}, which was skipped", "failed": False}
        else:
            try:
                entry = {"section": asdict(stage.run(output))}
                _forget(output, entries, [s for s in STAGES if stage.name in (*s.needs, *s.takes)])
            except InputError as error:
                failed = not (stage.fetches or isinstance(error, MissingExtra))
                entry = {"skipped": str(error), "failed": failed}
        seconds = round(time.monotonic() - start, 1)
        entries[stage.name] = {**entry, "seconds": seconds}
        write_json(output / "demo.json", state)
        tell(stage, f"skipped: {entry['skipped']}" if "skipped" in entry else f"done in {seconds:.1f} s")


def _forget(output: Path, entries: dict[str, dict[str, Any]], stages: Iterable[DemoStage]) -> None:
    """Remove the results of stages that used one which has run again."""
    for stage in stages:
        shutil.rmtree(output / stage.name, ignore_errors=True)
        entries.pop(stage.name, None)


def _begin(output: Path) -> dict[str, Any]:
    """demo.json of the folder as an earlier call left it, or a new one."""
    file = output / "demo.json"
    check_place(output, file.name, "a demo")
    state = {"fast": fast(), "stages": {}}
    if file.exists():
        try:
            stored = read_json(file)
            if stored["fast"] == state["fast"]:
                return {**stored, "stages": dict(stored["stages"])}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file} is damaged: remove {output} to start anew") from None
        was, now = ("fast", "full") if stored["fast"] else ("full", "fast")
        print(f"{output} holds a {was} demo, and this is a {now} one: starting anew", file=sys.stderr)
        _forget(output, {}, STAGES)
        for name in ("index.html", "demo.log"):
            (output / name).unlink(missing_ok=True)
    write_json(file, state)
    return state
