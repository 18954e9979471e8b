"""The page of the demo: one section per stage, the machine, the times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.demo.shared import facts_table
from toolkit.demo.stages import STAGES
from toolkit.page import Section, Table, read_section, write_page

LEAD = ("train/pictures.png", "ladder/ladder.png", "runner/stages.png")


def write_demo_page(output: Path, state: Mapping[str, Any]) -> None:
    """Write index.html from the content of demo.json."""
    entries = state["stages"]
    sections: dict[str, Section | str] = {
        stage.title: entry["skipped"] if "skipped" in entry else read_section(entry["section"])
        for stage, entry in ((stage, entries[stage.name]) for stage in STAGES)
    }
    stamp = {name: str(value) for name, value in state["environment"].items()}
    seconds = [entries[stage.name]["seconds"] for stage in STAGES]
    columns = {
        "stage": [stage.title for stage in STAGES] + ["all"],
        "seconds": [f"{value:.1f}" for value in (*seconds, sum(seconds))],
    }
    sections["Machine and times"] = Section(
        "The time of a stage that was interrupted counts from its continuation.",
        tables=[
            facts_table("Machine and versions", "demo.json", stamp),
            Table("Time of each stage", "demo.json", columns),
        ],
        files={"demo.log": "messages of the stages"},
    )
    size = "small enough for continuous integration (TOOLKIT_FAST=1)" if state["fast"] else "in full"
    text = (
        f"The whole chain on a generated data set, {size}: pictures and labels, checked and curated, a small "
        "study, a network trained, scored, exported in every format, compared with torch, packaged for a "
        f"phone and timed on this machine ({stamp['cpu']}, {stamp['cores']} cores, {stamp['date']}). Every "
        "figure links to the file that it comes from."
    )
    write_page(output / "index.html", "From pictures to a timed detector", text, sections, LEAD)
