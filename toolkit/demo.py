"""The whole chain on the toy set, from made pictures to a detector timed on this machine, and a page of it.

Every stage writes into a folder of its own name; what it came to is kept in demo.json, so that a call after
an interruption goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from toolkit import viz
from toolkit.ablation.effects import Effect
from toolkit.ablation.plan import read_plan
from toolkit.ablation.report import write_report
from toolkit.ablation.study import run_study
from toolkit.data import anchors, curation, doctor
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.data.toy import make_toy
from toolkit.device import package, timing
from toolkit.device.report import NCNN_COLUMN, draw_stages, record, summary, table
from toolkit.device.settings import Load
from toolkit.evaluation import average_precision, failures, matching, operating
from toolkit.evaluation.coco import coco as coco_scores
from toolkit.evaluation.columns import Truth
from toolkit.evaluation.score import evaluate, predict
from toolkit.export import ladder
from toolkit.export.folder import open_export, read_spec, write_threshold
from toolkit.export.registry import formats_of
from toolkit.export.write import export_model
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run as run_detector
from toolkit.models import create_model, list_models
from toolkit.models.cost import measure
from toolkit.models.detector import Detector
from toolkit.page import Section, Table, read_section, write_page
from toolkit.pictures import load_image
from toolkit.runtime import InputError, MissingExtra, environment, fast, whole_file
from toolkit.samples import photographs, untrained
from toolkit.training.checkpoint import trained
from toolkit.training.config import read_config
from toolkit.training.detection import VALIDATION, input_size
from toolkit.training.loop import train
from toolkit.training.recipe import recipe

SEED = 0
STUDY_SEEDS = [0, 1]
NETWORK = "fastest-v2"
PUBLISHED = ("nano-coco", "fastest-v2", "yoloface-500k-v2")
# Files of one stage that others take.
TOY, CURATED, ANCHORS = "toy/data", "curate/curated", "anchors/anchors.json"
BEST, SCORES, EXPORTED = "train/best.pt", "evaluate/scores.json", "export/network"


@dataclass(frozen=True)
class Scale:
    """How large the chain is."""

    pictures: int  # of the toy set
    side: int  # of a picture, px
    classes: int
    budget: Mapping[str, float]  # of each cell of the study
    levers: Mapping[str, Any]  # of the training's recipe
    validations: int  # while training
    calibration: int  # pictures for int8
    rounds: int  # of timing all formats in turns
    loops: int  # of timing the runner


FULL = Scale(
    pictures=1000, side=160, classes=10, budget={"epochs": 4}, levers={}, validations=10,
    calibration=200, rounds=30, loops=200,
)  # fmt: skip
FAST = Scale(
    pictures=200, side=96, classes=3, budget={"steps": 12}, levers={"epochs": 20, "batch": 8}, validations=4,
    calibration=24, rounds=5, loops=20,
)  # fmt: skip


def scale() -> Scale:
    return FAST if fast() else FULL


# --- what stages share -----------------------------------------------------------------------------------


def _keep(file: Path, data: Any) -> None:
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n")


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def _data(output: Path) -> Dataset:
    """The curated set, or the toy set itself where nobody could curate it."""
    return load(output / CURATED if (output / CURATED).is_dir() else output / TOY)


def _paths(dataset: Dataset, count: int) -> list[Path]:
    """`count` pictures, evenly spread."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    return [dataset.path(int(i)) for i in chosen]


def _facts(title: str, file: str, facts: Mapping[str, str]) -> Table:
    return Table(title, file, {"figure": list(facts), "value": list(facts.values())})


# --- the stages ------------------------------------------------------------------------------------------


def make_data(output: Path) -> Section:
    size = scale()
    dataset = make_toy(output / TOY, SEED, size.pictures, size.side, size.classes)
    drawn = []
    for i in np.linspace(0, len(dataset) - 1, 10).astype(int):
        image, rows = load_image(dataset.path(i)), dataset.rows(i)
        labelled = dataset.boxes[rows], dataset.labels[rows], None, dataset.classes
        drawn.append(viz.draw_boxes(image, *labelled, scale=2))
    viz.image_grid(drawn, columns=5, cell=2).savefig(output / "toy/pictures.png")
    parts = {name: dataset.split(name) for name in dict.fromkeys(dataset.splits.tolist())}
    columns = {
        "split": list(parts),
        "pictures": [f"{len(part):,}" for part in parts.values()],
        "objects": [f"{len(part.labels):,}" for part in parts.values()],
    }
    return Section(
        "Handwritten digits on pieces of photographs, made on the spot from what scikit-learn and "
        "scikit-image ship. No digit and no photograph occurs in two splits.",
        {"toy/pictures.png": "Ten pictures of the toy set with their labels"},
        [Table(f"Pictures of {size.side} x {size.side} px", TOY, columns)],
        {"pictures": f"{len(dataset):,}"},
    )


def examine(output: Path) -> Section:
    dataset = load(output / TOY, strict=False)
    report = doctor.examine(dataset, create_model(NETWORK).io)
    doctor.write_page(dataset, report, output / "doctor/doctor.html")
    _keep(output / "doctor/report.json", report.as_dict())
    labels = np.arange(len(dataset.classes))
    boxes = {name: (dataset.split(name).labels[:, None] == labels).sum(axis=0) for name in ("train", "val")}
    figure = viz.bars(dataset.classes, boxes, xlabel="objects", title="Objects of each class", form="{:.0f}")
    figure.savefig(output / "doctor/classes.png")
    faults = {doctor.FAULTS[fault]: str(count) for fault, count in report.counts.items()}
    return Section(
        "Twelve faults that ruin a training, looked for in labels and pictures. "
        + " ".join(f"{note[:1].upper()}{note[1:]}." for note in report.notes),
        {"doctor/classes.png": "Objects of each class in both splits"},
        [Table("Faults", "doctor/report.json", {"fault": list(faults), "found": list(faults.values())})],
        {"label faults": str(len(report.findings))},
        {"doctor/doctor.html": "the doctor's own page"},
    )


def curate(output: Path) -> Section:
    dataset = load(output / TOY)
    try:
        network: Detector = create_model(NETWORK, "published")
        origin = "with its published weights"
    except InputError:
        network, origin = untrained(NETWORK), "with random weights, for want of published ones"
    views, kept = curation.curate(dataset, network, output / "curate", count=10, drop_duplicates=True)
    counts = {f"view: {name}": str(count) for name, count in views.items()}
    pictures = {
        f"curate/views/{name}.png": f"FiftyOne's view: {name}"
        for name in ("smallest", "most unique")
        if views.get(name)
    }
    return Section(
        f"The set was put into FiftyOne, whose own MongoDB server ran for this stage. {NETWORK} {origin} "
        "told which pictures are alike. Those that repeat another one were left out; the record names them.",
        pictures,
        [
            _facts(
                "Pictures",
                "curate/record.json",
                {"before": str(len(dataset)), **counts, "curated": str(len(kept))},
            )
        ],
        {"pictures after curation": f"{len(kept):,}"},
        {CURATED: "the curated data set"},
    )


def fit_anchors(output: Path) -> Section:
    dataset = _data(output).split("train")
    spec = create_model(NETWORK).spec
    size = input_size(dataset, spec.input_size, spec.stride)
    sizes = anchors.object_sizes(dataset, size)
    own = [anchor for head in reversed(spec.heads) for anchor in head.anchors]
    found = np.maximum(anchors.find(sizes, len(own), own).round(), 1).astype(int)
    sets = {f"{NETWORK}'s own": np.array(own), "found": found}
    fits = {name: anchors.fit(sizes, each) for name, each in sets.items()}
    figure = viz.anchors_on_boxes(sizes, sets, "The toy set at {} x {} px".format(*size))
    figure.savefig(output / "anchors/anchors.png")
    changes = {"input_size": list(size), "anchors": found.tolist()}
    _keep(output / ANCHORS, {"changes": changes, "fits": {n: f.as_dict() for n, f in fits.items()}})
    columns = {
        "anchors": list(sets),
        "best possible recall": [f"{f.recall:.4f}" for f in fits.values()],
        "mean IoU": [f"{f.mean_iou:.4f}" for f in fits.values()],
        "width x height, px": [", ".join(f"{w:.0f}x{h:.0f}" for w, h in each) for each in sets.values()],
    }
    return Section(
        "Anchors that suit these objects at the network's input, by k-means on 1 - IoU and a refinement. The "
        "stages below train with them.",
        {"anchors/anchors.png": "Sizes of the objects, the network's own anchors and those found"},
        [Table("Anchors", ANCHORS, columns)],
        {"anchors' recall": f"{fits['found'].recall:.3f}"},
    )


def ablate(output: Path) -> Section:
    size, folder = scale(), output / "ablate"
    plan = read_plan(
        {
            "name": "demo",
            "data": str(_data(output).root.parent.resolve()),
            "model": NETWORK,
            "changes": _read(output / ANCHORS)["changes"],
            "recipe": recipe("modern", flip=0.0),  # a mirrored digit is no digit
            "factors": {"se": [False, True], "csp": [False, True]},
            "seeds": STUDY_SEEDS,
            "budget": dict(size.budget),
            "validations": 1,
        }
    )
    run_study(plan, folder)
    answer = write_report(folder)
    lines = answer["table"]
    columns = {
        "squeeze-and-excite": [line["se"] for line in lines],
        "CSP": [line["csp"] for line in lines],
        "seeds": [str(line["seeds"]) for line in lines],
        "mAP50": [_number(line, "mean", ".4f") for line in lines],
        "sd": [_number(line, "sd", ".4f") for line in lines],
        "BFLOPs": [_number(line, "bflops", ".4f") for line in lines],
        "kB (fp16)": [_number(line, "kilobytes", ".1f") for line in lines],
        "ncnn, ms": [_number(line, "latency_ms", ".2f") for line in lines],
    }
    found = [Effect(**{k: v for k, v in e.items() if k != "shown"}) for e in answer["effects"]["as-is"]]
    pictures = {
        "ablate/effects-as-is.png": "Effect of each factor on mAP50, with 95 % intervals",
        "ablate/pareto-latency_ms.png": "Accuracy beside ncnn's time, by squeeze-and-excite and CSP",
    }
    budget = ", ".join(f"{value:g} {name}" for name, value in size.budget.items())
    return Section(
        f"Squeeze-and-excite and CSP on and off: four networks, {len(STUDY_SEEDS)} seeds, {budget} for each "
        f"of the {answer['cells']} trainings. So small a budget shows how a study works and settles nothing. "
        + " ".join(effect.sentence() for effect in found),
        {file: said for file, said in pictures.items() if (output / file).exists()},
        [Table("Cells", "ablate/report.json", columns)],
        {},
        {"ablate/report.md": "the report", "ablate/study.db": "the store, which goes on with more seeds"},
    )


def _number(line: Mapping[str, Any], name: str, form: str) -> str:
    """A figure of a study's line, which a cell that failed does not have."""
    value = line.get(name)
    return "not measured" if value is None else format(value, form)


def train_network(output: Path) -> Section:
    folder, size = output / "train", scale()
    config = read_config(
        {
            "data": "toy",
            "model": NETWORK,
            "changes": _read(output / ANCHORS)["changes"],
            "recipe": recipe("modern", **size.levers),
            "seed": SEED,
            "validations": size.validations,
        }
    )
    result = train(config, folder, (folder / "config.yaml").exists(), _data(output))
    if not result.finished:  # a signal asked to leave
        raise KeyboardInterrupt
    weights = folder / "best.weights"
    facts = {
        "mAP50 on the validation pictures": f"{result.score:.4f}",
        "epochs": f"{config.recipe.epochs:g}",
        "steps": f"{result.steps:,}",
        "seconds": f"{result.seconds:.0f}",
        "pictures per second": f"{result.pictures_per_second:.0f}",
        "weights, kB": f"{weights.stat().st_size / 1000:,.0f}",
    }
    return Section(
        f"{NETWORK} from scratch with the recipe modern: task-aligned assignment, CIoU, AdamW, averaged "
        "weights.",
        {
            "train/pictures.png": "Validation pictures: labelled above, found by the trained network below",
            "train/curves.png": "mAP50 on the validation pictures while training",
            "train/losses.png": "Parts of the loss while training",
        },
        [_facts("The run", "train/result.json", facts)],
        {"mAP50, trained": f"{result.score:.3f}"},
        {"train/config.yaml": "all settings", "train/best.cfg": "what every other command takes"},
    )


def evaluation_section(output: Path) -> Section:
    folder = output / "evaluate"
    dataset = _data(output).split("val")
    truth = Truth.from_dataset(dataset)
    found = predict(trained(output / BEST), dataset, VALIDATION)
    matches = matching.match(truth, found)
    point = operating.operating_point(matches)
    coco, voc = coco_scores(truth, found), average_precision.voc(truth, found)
    failures.draw(folder, dataset, found, matches, point)
    names = [f"{c.name} ({c.truths})" for c in voc.per_class]
    figure = viz.bars(names, [c.ap for c in voc.per_class], xlabel="VOC AP50", title="By class (objects)")
    figure.savefig(folder / "classes.png")
    scores = {"coco": coco.as_dict(), "voc": voc.as_dict(), "operating_point": point.as_dict()}
    _keep(output / SCORES, scores)
    facts = {
        "COCO AP": f"{coco.ap:.4f}",
        "COCO AP50": f"{coco.ap50:.4f}",
        "VOC AP50": f"{voc.map:.4f}",
        "threshold of the best F1": f"{point.threshold:.3f}",
        "precision there": f"{point.precision:.3f}",
        "recall there": f"{point.recall:.3f}",
    }
    return Section(
        f"The best weights on {len(dataset)} validation pictures, by COCO's and by VOC's protocol. These "
        "pictures also chose the weights and the threshold, so the figures are a little too good.",
        {
            "evaluate/precision_recall.png": "Precision and recall of all classes, and the threshold chosen",
            "evaluate/classes.png": "Average precision of each class",
            "evaluate/confusion.png": "What is taken for what",
            "evaluate/failures.png": "The surest mistakes (orange) beside the labels (green)",
        },
        [_facts("Scores", SCORES, facts)],
        {"COCO AP": f"{coco.ap:.3f}"},
    )


def export(output: Path) -> Section:
    model = trained(output / BEST).eval()
    pictures = _paths(_data(output).split("train"), scale().calibration)
    folder = output / EXPORTED
    report = export_model(
        model, folder, formats_of(model), calibration=pictures, cpp=True, name=f"toy-{NETWORK}"
    )
    if (output / SCORES).exists():
        write_threshold(str(folder), _read(output / SCORES)["operating_point"]["threshold"])
    entries = read_spec(folder)["formats"]
    kilobytes = {f: sum(file["bytes"] for file in e["files"].values()) / 1000 for f, e in entries.items()}
    figure = viz.bars(list(kilobytes), list(kilobytes.values()), xlabel="kB", title="Files", form="{:.0f}")
    figure.savefig(output / "export/files.png")
    columns = {
        "format": list(report),
        "kB": [f"{kilobytes[fmt]:.1f}" for fmt in report],
        "largest difference to torch": [_difference(facts, "max_difference") for facts in report.values()],
        "of the largest output": [_difference(facts, "relative_difference") for facts in report.values()],
    }
    return Section(
        "Every file was opened again in its engine and held against torch before the folder appeared; a "
        f"32-bit file that strays further than rounding explains is refused. Int8 was calibrated on "
        f"{len(pictures)} training pictures.",
        {"export/files.png": "Size of each format's files"},
        [Table("Formats", f"{EXPORTED}/parity.json", columns)],
        {"formats": str(len(report)), "kB, ncnn fp16": f"{kilobytes['ncnn-fp16']:.0f}"},
        {EXPORTED: "the files with spec.json", f"{EXPORTED}/cpp": "a C++ sample that runs them"},
    )


def _difference(facts: Mapping[str, Any], name: str) -> str:
    return f"{facts[name]:.2g}" if name in facts else f"{facts['matched']} of {facts['detections']} boxes"


def climb(output: Path) -> Section:
    model, dataset = trained(output / BEST).eval(), _data(output).split("val")
    score = partial(evaluate, dataset=dataset, metric="coco")
    found = ladder.ladder(model, output / EXPORTED, _paths(dataset, 24), score, rounds=scale().rounds)
    ladder.picture(found, "Every format against torch").savefig(output / "ladder/ladder.png")
    figure = viz.bars(
        [rung.name for rung in found],
        [rung.latency_ms for rung in found],
        xlabel="milliseconds for one picture, one thread, this machine",
        title="Time",
        form="{:.2f}",
    )
    figure.savefig(output / "ladder/times.png")
    _keep(output / "ladder/ladder.json", [rung.as_dict() for rung in found])
    faults = [f"{rung.name}: {rung.fault}." for rung in found if rung.fault]
    said = " ".join(faults) if faults else "No rung falls short."
    if not found[0].wanted:
        said += " Torch finds nothing above .25 there, so that no detections could be compared."
    return Section(
        "All formats beside torch: outputs on one photograph, detections on 24 validation pictures, scores "
        "on all of them, and time measured in turns. "
        f"{said}",
        {
            "ladder/ladder.png": "Largest difference to torch of each format",
            "ladder/times.png": "Milliseconds for one picture in each engine",
        },
        [Table("Rungs", "ladder/ladder.json", ladder.table(found))],
        {"rungs that fall short": str(len(faults))},
    )


def build_app(output: Path) -> Section:
    project = output / "app/Detector"
    (network,) = package.package_android([output / EXPORTED], project, "Digits", "org.example.digits")
    archive = package.zip_project(project)
    folder = project / package.MODELS / network.folder
    images = [load_image(path) for path in _paths(_data(output).split("val"), 5)]
    backend, settings = (
        open_export(folder, network.formats[0]),
        DetectSettings(conf=read_spec(folder)["threshold"]),
    )
    found = run_detector(backend, images, settings)
    drawn = [
        viz.draw_boxes(image, b.boxes, b.class_ids, b.scores, backend.io.classes, scale=2)
        for image, b in zip(images, found, strict=True)
    ]
    viz.image_grid(drawn, columns=5, cell=2).savefig(output / "app/pictures.png")
    facts = {
        "files": str(sum(path.is_file() for path in project.rglob("*"))),
        "zip, kB": f"{archive.stat().st_size / 1000:.0f}",
        "network, kB": f"{network.kilobytes}",
        "formats": ", ".join(network.formats),
        "threshold at first": f"{settings.conf:.3f}",
    }
    return Section(
        "A Gradle project around the network: camera with live boxes, gallery, sliders, and a benchmark. It "
        "was rendered, not built: that takes an Android SDK, and its README.md has the commands.",
        {"app/pictures.png": "What the app will show: the network inside the project, run by ncnn here"},
        [_facts("The project", "app/Detector/README.md", facts)],
        {},
        {"app/Detector": "opens in Android Studio", "app/Detector.zip": "the same for hand-over"},
    )


def time_here(output: Path) -> Section:
    (picture,) = _paths(_data(output).split("val"), 1)
    load = Load(loops=scale().loops, cooldown=0)
    found = timing.measure([output / EXPORTED], ["local"], sweep=True, picture=picture, load=load)
    readings = [reading for _, reading in found]
    draw_stages(readings).savefig(output / "runner/stages.png")
    _keep(output / "runner/readings.json", [record(*entry) for entry in found])
    columns = table(found)
    hidden = ("network", "score", "device", "cores", "date")
    fastest = min(summary(reading)[NCNN_COLUMN].p50 for reading in readings)
    return Section(
        "The program that toolkit time pushes to phones and boards, here on this computer, which is no "
        "phone. Its detections are held against those of ncnn's Python package.",
        {"runner/stages.png": "Median milliseconds of each stage, by format and threads"},
        [
            Table(
                readings[0].machine,
                "runner/readings.json",
                {title: cells for title, cells in columns.items() if title not in hidden},
            )
        ],
        {"ms for one picture, runner": f"{fastest:.2f}"},
        {f"{EXPORTED}/timing.json": "every sample"},
    )


def show_published(output: Path) -> Section:
    pictures, drawn, counts = photographs(), {}, {}
    for name in PUBLISHED:
        model: Detector = create_model(name, "published")
        found = list(run_detector(model, pictures.values(), DetectSettings(conf=0.3)))
        counts[name] = {title: len(b.scores) for title, b in zip(pictures, found, strict=True)}
        drawn[name] = [
            viz.draw_boxes(image, b.boxes, b.class_ids, b.scores, model.io.classes, scale=3)
            for image, b in zip(pictures.values(), found, strict=True)
        ]
    for name, images in drawn.items():
        viz.image_grid(images, columns=4, cell=2.6).savefig(output / f"published/{name}.png")
    _keep(output / "published/detections.json", counts)
    columns = {"photograph": list(pictures)}
    columns |= {name: [str(count) for count in found.values()] for name, found in counts.items()}
    return Section(
        "Networks of the zoo with the weights that the seed published, on photographs that scikit-image and "
        "scikit-learn ship; detections above .3. The last one knows faces alone.",
        {f"published/{name}.png": f"What {name} finds" for name in drawn},
        [Table("Detections", "published/detections.json", columns)],
    )


def count_costs(output: Path) -> Section:
    costs = {name: measure(create_model(name)) for name in list_models()}
    figure = viz.bars(
        list(costs), [c.bflops for c in costs.values()], xlabel="BFLOPs (darknet's count)", title="Cost"
    )
    figure.savefig(output / "costs/costs.png")
    quantities = ("params", "macs", "bflops", "peak_memory")
    _keep(output / "costs/costs.json", {n: {q: getattr(c, q) for q in quantities} for n, c in costs.items()})
    each = costs.values()
    columns = {
        "network": list(costs),
        "input": ["{}x{}".format(*c.input_size) for c in each],
        "parameters": [f"{c.params:,}" for c in each],
        "multiply-adds, M": [f"{c.macs / 1e6:.1f}" for c in each],
        "BFLOPs": [f"{c.bflops:.3f}" for c in each],
        "peak memory, MB": [f"{c.peak_memory / 1e6:.2f}" for c in each],
    }
    return Section(
        "The networks of the zoo. Parameters count every float of the weights file; peak memory is what the "
        "maps of one picture need at once as 32-bit floats.",
        {"costs/costs.png": "BFLOPs of every network of the zoo"},
        [Table("Costs", "costs/costs.json", columns)],
    )


@dataclass(frozen=True)
class Stage:
    """`name` is also its folder. It cannot run without those it `needs`, and uses what those that it `takes`
    left where they could run. One that `resumes` finds its folder as an interrupted call left it; one that
    `fetches` takes files from the net."""

    name: str
    title: str
    run: Callable[[Path], Section]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    resumes: bool = False
    fetches: bool = False


STAGES = (
    Stage("toy", "Toy data", make_data),
    Stage("doctor", "Doctor", examine, ("toy",)),
    Stage("curate", "Curation in FiftyOne", curate, ("toy",)),
    Stage("anchors", "Anchors", fit_anchors, ("toy",), ("curate",)),
    Stage("ablate", "Ablation", ablate, ("anchors",), ("curate",), resumes=True),
    Stage("train", "Training", train_network, ("anchors",), ("curate",), resumes=True),
    Stage("evaluate", "Evaluation", evaluation_section, ("train",)),
    Stage("export", "Export", export, ("train",), ("evaluate",)),
    Stage("ladder", "Parity ladder", climb, ("export",)),
    Stage("app", "Android project", build_app, ("export",)),
    Stage("runner", "Timing on this machine", time_here, ("export",)),
    Stage("published", "Published networks", show_published, fetches=True),
    Stage("costs", "Costs", count_costs),
)
RULE = "-----"  # before a stage's title in the log
LEAD = ("train/pictures.png", "ladder/ladder.png", "runner/stages.png")


# --- running them ----------------------------------------------------------------------------------------


def run(output: Path) -> dict[str, Any]:
    """Run what is left of the chain in the folder `output` and write index.html; -> what each stage came to.

    A stage whose extra is missing, or that cannot do its part for another reason that InputError names, is
    skipped with that sentence and tried again by the next call; the rest goes on. With another TOOLKIT_FAST
    than the folder was begun with, everything starts anew. Raises InputError where `output` holds something
    else, and after the page is written where a stage failed for want of anything but an extra or the net;
    KeyboardInterrupt where a signal ended a training: what is finished is kept.
    """
    state = _begin(output)
    try:
        with _aside(output / "demo.log") as screen, _view(screen, output / "demo.log") as tell:
            _go_on(output, state, tell)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what is left", file=sys.stderr)
        raise
    stages = {stage.name: state["stages"][stage.name] for stage in STAGES}
    state = {**state, "stages": stages, "environment": environment()}
    _keep(output / "demo.json", state)
    _write(output, state)
    failed = [
        f"{stage.title} ({stages[stage.name]['skipped']})"
        for stage in STAGES
        if stages[stage.name].get("failed")
    ]
    if failed:
        raise InputError(f"{output / 'index.html'} lacks what failed: {'; '.join(failed)}")
    return {"page": str(output / "index.html"), **state}


def _go_on(output: Path, state: Mapping[str, Any], tell: Callable[[Stage, str], None]) -> None:
    entries: dict[str, dict[str, Any]] = state["stages"]
    for stage in STAGES:
        wanting = [s.title for s in STAGES if s.name in stage.needs and "skipped" in entries[s.name]]
        known = entries.get(stage.name, {"skipped": ""})
        if "skipped" not in known and not wanting and (output / stage.name).is_dir():
            tell(stage, f"finished before, in {known['seconds']:.1f} s")
            continue
        if not stage.resumes:
            shutil.rmtree(output / stage.name, ignore_errors=True)
        (output / stage.name).mkdir(exist_ok=True)
        print(f"{RULE} {stage.title}", flush=True)
        tell(stage, "")
        begin = time.monotonic()
        entry: dict[str, Any]
        if wanting:
            said = f"it needs what the stage {wanting[0]!r} makes, which was skipped"
            entry = {"skipped": said, "failed": False}
        else:
            try:
                entry = {"section": asdict(stage.run(output))}
                _forget(output, entries, [s for s in STAGES if stage.name in (*s.needs, *s.takes)])
            except InputError as error:
                failed = not (stage.fetches or isinstance(error, MissingExtra))
                entry = {"skipped": str(error), "failed": failed}
        seconds = round(time.monotonic() - begin, 1)
        entries[stage.name] = {**entry, "seconds": seconds}
        _keep(output / "demo.json", state)
        tell(stage, f"skipped: {entry['skipped']}" if "skipped" in entry else f"done in {seconds:.1f} s")


def _forget(output: Path, entries: dict[str, dict[str, Any]], stages: Iterable[Stage]) -> None:
    """What stages came to that took from one which has run anew."""
    for stage in stages:
        shutil.rmtree(output / stage.name, ignore_errors=True)
        entries.pop(stage.name, None)


def _begin(output: Path) -> dict[str, Any]:
    """demo.json of the folder as a call before left it, or a new one."""
    file = output / "demo.json"
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder for the demo")
    if output.exists() and any(output.iterdir()) and not file.exists():
        raise InputError(f"{output} holds something that is no demo: name a new folder, or remove it")
    state = {"fast": fast(), "stages": {}}
    if file.exists():
        try:
            stored = _read(file)
            if stored["fast"] == state["fast"]:
                return {**stored, "stages": dict(stored["stages"])}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file} is damaged: remove {output} to begin anew") from None
        was, now = ("fast", "full") if stored["fast"] else ("full", "fast")
        print(f"{output} holds a {was} demo, and this is a {now} one: starting anew", file=sys.stderr)
        _forget(output, {}, STAGES)
        for name in ("index.html", "demo.log"):
            (output / name).unlink(missing_ok=True)
    _keep(file, state)
    return state


def _write(output: Path, state: Mapping[str, Any]) -> None:
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
        "What was interrupted counts from where it went on.",
        tables=[
            _facts("Machine and versions", "demo.json", stamp),
            Table("Time of each stage", "demo.json", columns),
        ],
        files={"demo.log": "what the stages said meanwhile"},
    )
    kind = "small enough for continuous integration (TOOLKIT_FAST=1)" if state["fast"] else "in full"
    text = (
        f"The whole chain on a made data set, {kind}: pictures and labels, checked and curated, a small "
        "study, a network trained, scored, exported in every format, held against torch, packaged for a "
        f"phone and timed on this machine ({stamp['cpu']}, {stamp['cores']} cores, {stamp['date']}). Every "
        "figure names the file that it comes from."
    )
    write_page(output / "index.html", "From pictures to a timed detector", text, sections, LEAD)


# --- the view --------------------------------------------------------------------------------------------


@contextmanager
def _aside(log: Path) -> Iterator[TextIO]:
    """What stages and the programs that they start print goes into `log`; yields the real stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with log.open("ab") as file, os.fdopen(kept[1], "w", closefd=False) as screen:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield screen
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


@contextmanager
def _view(screen: TextIO, log: Path) -> Iterator[Callable[[Stage, str], None]]:
    """A function (stage, what became of it; nothing: it begins): a table on a terminal, else a line each."""
    said: dict[Stage, str] = {}
    begun: dict[Stage, float] = {}

    def tell(stage: Stage, text: str) -> None:
        said[stage] = text
        begun[stage] = time.monotonic()
        if not screen.isatty():
            place = f"[{STAGES.index(stage) + 1}/{len(STAGES)}]"
            print(f"{place} {stage.title}: {text or 'begins'}", file=screen, flush=True)

    if not screen.isatty():
        yield tell
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table as Grid
    from rich.text import Text

    def grid() -> Grid:
        table = Grid.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for stage in STAGES:
            text = said.get(stage)
            if text == "":
                running = f"{time.monotonic() - begun[stage]:.0f} s  {_last_line(log)}"
                table.add_row(Text(stage.title, "bold"), Text(running, "cyan"))
            else:
                style = "yellow" if (text or "").startswith("skipped") else ""
                table.add_row(Text(stage.title, style if text else "dim"), Text(text or "", style))
        return table

    console = Console(file=screen)
    with Live(
        get_renderable=grid,
        console=console,
        refresh_per_second=4,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield tell


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 400))
        lines = file.read().decode(errors="replace").splitlines()
    last = next((line.strip()[:100] for line in reversed(lines) if line.strip()), "")
    return "" if last.startswith(RULE) else "".join(filter(str.isprintable, last))
