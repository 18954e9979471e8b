"""The page of the demo: the result first, then one section per stage, the machine, the times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.demo.shared import DETECTIONS, facts_table
from toolkit.demo.stages import STAGES
from toolkit.page import Section, Table, read_section, write_page
from toolkit.runtime import environment

LEAD = (DETECTIONS,)


def write_demo_page(output: Path, state: Mapping[str, Any], running: str = "") -> None:
    """Write index.html from the content of demo.json, of as many stages as it has; `running` is the title of
    the stage that begins."""
    entries, stamp = state["stages"], environment()
    finished = [
        stage
        for stage in STAGES
        if stage.name in entries and stage.title != running and (output / stage.name).is_dir()
    ]
    sections: dict[str, Section | str] = {
        stage.title: entry["skipped"] if "skipped" in entry else read_section(entry["section"])
        for stage, entry in ((stage, entries[stage.name]) for stage in finished)
    }
    contents = {stage.title: "running" if stage.title == running else "to come" for stage in STAGES}
    contents |= {stage.title: _remark(entries[stage.name]) for stage in finished}
    seconds = [entries[stage.name]["seconds"] for stage in finished]
    columns = {
        "stage": [stage.title for stage in finished] + ["all"],
        "minutes": [f"{value / 60:.1f}" for value in (*seconds, sum(seconds))],
        "seconds": [f"{value:.1f}" for value in (*seconds, sum(seconds))],
    }
    sections["Machine and times"] = Section(
        "The time of a stage that was interrupted counts from its continuation.",
        tables=[
            facts_table("Machine and versions", "demo.json", {name: str(v) for name, v in stamp.items()}),
            Table("Time of each stage", "demo.json", columns),
        ],
        files={"demo.log": "messages of the stages"},
    )
    contents["Machine and times"] = f"{_minutes(sum(seconds))} in all"
    size = "in the small form (TOOLKIT_FAST=1)" if state["fast"] else "in full"
    text = (
        f"A detector of generated digits, trained, exported and timed on {stamp['cpu']}, {stamp['cores']} "
        f"cores, {stamp['date']}, {size}. Every figure links to its file."
    )
    if running:
        text = f"Stage {list(contents).index(running) + 1} of {len(STAGES)}, {running}, is running. {text}"
    write_page(output / "index.html", "From pictures to a timed detector", text, sections, LEAD, contents)


def _remark(entry: Mapping[str, Any]) -> str:
    return "skipped" if "skipped" in entry else _minutes(entry["seconds"])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 6 else "under 0.1 min"
