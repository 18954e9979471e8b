"""Stages on the data: the toy set, the doctor, curation, anchors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from toolkit import viz
from toolkit.data import anchors, curation, doctor
from toolkit.data.catalog import load
from toolkit.data.toy import make_toy
from toolkit.demo.shared import ANCHORS, CURATED, NETWORK, SEED, TOY, curated_data, facts_table, scale
from toolkit.files import write_json
from toolkit.models import create_model
from toolkit.models.detector import Detector
from toolkit.page import Section, Table
from toolkit.pictures import load_image
from toolkit.runtime import InputError
from toolkit.samples import untrained
from toolkit.training.detection import input_size


def make_data(output: Path) -> Section:
    size = scale()
    dataset = make_toy(output / TOY, SEED, size.pictures, size.side, size.classes)
    drawings = []
    for i in np.linspace(0, len(dataset) - 1, 10).astype(int):
        image, rows = load_image(dataset.path(i)), dataset.rows(i)
        labels = dataset.boxes[rows], dataset.labels[rows], None, dataset.classes
        drawings.append(viz.draw_boxes(image, *labels, scale=2))
    viz.image_grid(drawings, columns=5, cell=2).savefig(output / "toy/pictures.png")
    parts = {name: dataset.split(name) for name in dict.fromkeys(dataset.splits.tolist())}
    columns = {
        "split": list(parts),
        "pictures": [f"{len(part):,}" for part in parts.values()],
        "objects": [f"{len(part.labels):,}" for part in parts.values()],
    }
    return Section(
        "Handwritten digits on pieces of photographs, generated from samples that scikit-learn and "
        "scikit-image ship. No digit and no photograph occurs in two splits.",
        {"toy/pictures.png": "Ten pictures of the toy set with their labels"},
        [Table(f"Pictures of {size.side} x {size.side} px", TOY, columns)],
    )


def examine(output: Path) -> Section:
    dataset = load(output / TOY, faults="keep")
    report = doctor.examine(dataset, create_model(NETWORK).io)
    doctor.write_page(dataset, report, output / "doctor/doctor.html")
    write_json(output / "doctor/report.json", report.as_dict())
    labels = np.arange(len(dataset.classes))
    counts = {name: (dataset.split(name).labels[:, None] == labels).sum(axis=0) for name in ("train", "val")}
    figure = viz.bars(dataset.classes, counts, xlabel="objects", title="Objects of each class", form="{:.0f}")
    figure.savefig(output / "doctor/classes.png")
    faults = {doctor.FAULTS[fault]: str(count) for fault, count in report.counts.items()}
    return Section(
        "The labels and pictures are checked for fourteen faults that spoil a training. "
        + " ".join(f"{note[:1].upper()}{note[1:]}." for note in report.notes),
        {"doctor/classes.png": "Objects of each class in both splits"},
        [Table("Faults", "doctor/report.json", {"fault": list(faults), "found": list(faults.values())})],
        files={"doctor/doctor.html": "the full report of the doctor"},
    )


def curate(output: Path) -> Section:
    dataset = load(output / TOY)
    try:
        network: Detector = create_model(NETWORK, "published")
        weights = "with its published weights"
    except InputError:
        network, weights = untrained(NETWORK), "with random weights (the published ones are not available)"
    views, curated = curation.curate(dataset, network, output / "curate", count=10, drop_duplicates=True)
    counts = {f"view: {name}": str(count) for name, count in views.items()}
    pictures = {
        f"curate/views/{name}.png": f"FiftyOne view: {name}"
        for name in ("smallest", "most unique")
        if views.get(name)
    }
    facts = {"before": str(len(dataset)), **counts, "curated": str(len(curated))}
    return Section(
        "The set was loaded into FiftyOne, with its own MongoDB server for this stage. Features of "
        f"{NETWORK} {weights} showed which pictures are alike. Duplicates were left out; the record lists "
        "them.",
        pictures,
        [facts_table("Pictures", "curate/record.json", facts)],
        files={CURATED: "the curated data set"},
    )


def fit_anchors(output: Path) -> Section:
    dataset = curated_data(output).split("train")
    spec = create_model(NETWORK).spec
    size = input_size(dataset, spec.input_size, spec.stride)
    sizes = anchors.object_sizes(dataset, size)
    own = [anchor for head in reversed(spec.heads) for anchor in head.anchors]
    fitted = np.maximum(anchors.find(sizes, len(own), own).round(), 1).astype(int)
    sets = {f"{NETWORK}'s own": np.array(own), "found": fitted}
    fits = {name: anchors.fit(sizes, each) for name, each in sets.items()}
    figure = viz.anchors_on_boxes(sizes, sets, "The toy set at {} x {} px".format(*size))
    figure.savefig(output / "anchors/anchors.png")
    changes = {"input_size": list(size), "anchors": fitted.tolist()}
    write_json(output / ANCHORS, {"changes": changes, "fits": {n: f.as_dict() for n, f in fits.items()}})
    columns = {
        "anchors": list(sets),
        "best possible recall": [f"{f.recall:.4f}" for f in fits.values()],
        "mean IoU": [f"{f.mean_iou:.4f}" for f in fits.values()],
        "width x height, px": [", ".join(f"{w:.0f}x{h:.0f}" for w, h in each) for each in sets.values()],
    }
    return Section(
        "Anchors fitted to these objects at the input size of the network: k-means on 1 - IoU, then refined. "
        "The stages below train with them.",
        {"anchors/anchors.png": "Object sizes, the network's own anchors and the fitted ones"},
        [Table("Anchors", ANCHORS, columns)],
    )
