"""The stages of the demo in their order, and what each needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.demo.data import curate, examine, fit_anchors, make_data
from toolkit.demo.device import build_app, build_page, time_here
from toolkit.demo.export import climb, export
from toolkit.demo.networks import count_costs, show_published
from toolkit.demo.study import ablate
from toolkit.demo.training import evaluate_network, train_network
from toolkit.page import Section


@dataclass(frozen=True)
class DemoStage:
    """One stage of the demo; it writes into the folder `name` of the output and returns its part of the page.

    Attributes:
        name: also the name of its folder.
        title: heading of its section.
        run: takes the output folder of the demo. Raises InputError if the stage cannot run here.
        needs: stages without which it cannot run.
        takes: stages whose files it uses if they exist.
        resumes: it continues in its folder as an interrupted call left it.
        fetches: it downloads files, so that it may be skipped without a network connection.
    """

    name: str
    title: str
    run: Callable[[Path], Section]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    resumes: bool = False
    fetches: bool = False


STAGES = (
    DemoStage("toy", "Toy data", make_data),
    DemoStage("doctor", "Doctor", examine, ("toy",)),
    DemoStage("curate", "Curation in FiftyOne", curate, ("toy",)),
    DemoStage("anchors", "Anchors", fit_anchors, ("toy",), ("curate",)),
    DemoStage("ablate", "Ablation", ablate, ("anchors",), ("curate",), resumes=True),
    DemoStage("train", "Training", train_network, ("anchors",), ("curate",), resumes=True),
    DemoStage("evaluate", "Evaluation", evaluate_network, ("train",)),
    DemoStage("export", "Export", export, ("train",), ("evaluate",)),
    DemoStage("ladder", "Parity ladder", climb, ("export",)),
    DemoStage("app", "Android project", build_app, ("export",)),
    DemoStage("page", "Page for any phone", build_page, ("export",), fetches=True),
    DemoStage("runner", "Timing on this machine", time_here, ("export",)),
    DemoStage("published", "Published networks", show_published, fetches=True),
    DemoStage("costs", "Costs", count_costs),
)
