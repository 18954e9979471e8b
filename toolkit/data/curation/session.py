"""Curation without a person at the desk: everything prepared, looked at and brought back in one call."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.data.curation.app import open_app, wait_for_pages
from toolkit.data.curation.desk import curated, saving, to_fiftyone
from toolkit.data.curation.explore import REASONS, picture_of, prepare
from toolkit.data.curation.features import detect_known, embed_with
from toolkit.data.curation.record import export_record
from toolkit.data.dataset import Dataset
from toolkit.data.doctor.findings import Report
from toolkit.data.formats.canonical import save
from toolkit.data.mongod import database
from toolkit.runtime import InputError, announced


def first_to_look_at(dataset: Dataset, report: Report, most: int, seed: int = 0) -> Dataset:
    """At most so many pictures of a data set: those that the doctor's findings name, then any others. The
    rest stays in the curated set as it is (`curated`)."""
    suspects = {name for finding in report.findings for name in (finding.file, finding.other)}
    order = np.random.default_rng(seed).permutation(len(dataset))
    chosen = sorted(order, key=lambda i: dataset.files[i] not in suspects)[:most]
    return dataset.subset(np.sort(chosen))


def curate(
    dataset: Dataset,
    network: Any,
    output: str | Path,
    count: int = 50,
    drop_duplicates: bool = False,
    with_app: bool = False,
) -> tuple[dict[str, int], Dataset]:
    """Prepares views of a data set in FiftyOne, and brings back what stays.

    Args:
        dataset: to look through.
        network: a detector on any engine, whose features tell which pictures differ; where it has all
            classes of the data set, its detections add views of hard pictures, of labels that look wrong,
            and of what to label next.
        output: gets views/NAME.png, record.json and the data set curated/.
        count: pictures in each view.
        drop_duplicates: leave exact and near duplicates out.
        with_app: open FiftyOne's App and continue when it is closed.

    Returns:
        Pictures in each view, and the curated data set.

    Raises:
        InputError: `output` holds something already, or FiftyOne or its database is missing.
    """
    output = Path(output)
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} holds something already: name a new folder")
    finds = detect_known(network, dataset.classes)
    with database():
        with announced("starting FiftyOne"):
            desk = to_fiftyone(dataset, "curation")
        views = prepare(desk, embed_with(network), finds, count)
        for name in [name for name, pictures in views.items() if pictures]:
            (output / "views").mkdir(parents=True, exist_ok=True)
            picture_of(desk, name).savefig(output / "views" / f"{name}.png")
        if with_app:
            # FiftyOne prints that it is slow to start, and stdout is for answers
            with saving(desk, dataset, output / "record.json"), redirect_stdout(sys.stderr):
                app = open_app(desk)
                print(f"FiftyOne's App is at {app.url}: close its page to go on", file=sys.stderr)
                try:
                    wait_for_pages(app)
                finally:
                    app.close()  # its server, before the database goes
        chosen, record = curated(dataset, desk, REASONS if drop_duplicates else {})
        saved = save(chosen, output / "curated")
        export_record(record, output / "record.json")
    return views, saved
