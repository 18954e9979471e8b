"""Stages on the zoo: the published networks on photographs, and what every network costs."""

from __future__ import annotations

from pathlib import Path

from toolkit.demo.shared import draw_detections
from toolkit.files import write_json
from toolkit.models import create_model, list_models
from toolkit.models.cost import Costs, measure
from toolkit.models.detector import Detector
from toolkit.page import Section, Table
from toolkit.samples import photographs

PUBLISHED = ("nano-coco", "fastest-v2", "yoloface-500k-v2")


def show_published(output: Path) -> Section:
    pictures, counts = photographs(), {}
    for name in PUBLISHED:
        model: Detector = create_model(name, "published")
        file = output / f"published/{name}.png"
        found = draw_detections(model, list(pictures.values()), 0.3, file, columns=4, scale=3)
        counts[name] = dict(zip(pictures, found, strict=True))
    write_json(output / "published/detections.json", counts)
    columns = {"photograph": list(pictures)}
    columns |= {name: [str(count) for count in each.values()] for name, each in counts.items()}
    return Section(
        "Networks of the zoo with their published weights, on photographs that scikit-image and scikit-learn "
        "ship; all detections above .3, right and wrong. The last network detects faces only.",
        {f"published/{name}.png": f"Detections of {name}" for name in PUBLISHED},
        [Table("Detections", "published/detections.json", columns)],
    )


def count_costs(output: Path) -> Section:
    costs = Costs({name: measure(create_model(name)) for name in list_models()})
    costs.figure().savefig(output / "costs/costs.png")
    quantities = ("params", "macs", "bflops", "peak_memory")
    write_json(
        output / "costs/costs.json", {n: {q: getattr(c, q) for q in quantities} for n, c in costs.items()}
    )
    return Section(
        "The networks of the zoo. Parameters count every float of the weights file; feature maps are those "
        "that one picture needs at the same time, as 32-bit floats.",
        {"costs/costs.png": "Multiply-adds of every network of the zoo, in millions"},
        [Table("Costs", "costs/costs.json", costs.columns())],
    )
