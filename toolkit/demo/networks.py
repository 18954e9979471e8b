"""Stages on the zoo: the published networks on photographs, and what every network costs."""

from __future__ import annotations

from pathlib import Path

from toolkit import viz
from toolkit.files import write_json
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run as run_detector
from toolkit.models import create_model, list_models
from toolkit.models.cost import Costs, measure
from toolkit.models.detector import Detector
from toolkit.page import Section, Table
from toolkit.samples import photographs

PUBLISHED = ("nano-coco", "fastest-v2", "yoloface-500k-v2")


def show_published(output: Path) -> Section:
    pictures, drawings, counts = photographs(), {}, {}
    for name in PUBLISHED:
        model: Detector = create_model(name, "published")
        detections = list(run_detector(model, pictures.values(), DetectSettings(conf=0.3)))
        counts[name] = {title: len(b.scores) for title, b in zip(pictures, detections, strict=True)}
        drawings[name] = [
            viz.draw_boxes(image, b.boxes, b.class_ids, b.scores, model.io.classes, scale=3)
            for image, b in zip(pictures.values(), detections, strict=True)
        ]
    for name, images in drawings.items():
        viz.image_grid(images, columns=4, cell=2.6).savefig(output / f"published/{name}.png")
    write_json(output / "published/detections.json", counts)
    columns = {"photograph": list(pictures)}
    columns |= {name: [str(count) for count in each.values()] for name, each in counts.items()}
    return Section(
        "Networks of the zoo with their published weights, on photographs that scikit-image and scikit-learn "
        "ship; detections above .3. The last network detects faces only.",
        {f"published/{name}.png": f"Detections of {name}" for name in drawings},
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
