"""`toolkit data`: import, doctor, curate, anchors, split, prelabel, toy."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.answer import as_json_list, end_in_part, print_answer, print_intake, print_message, table
from toolkit.cli.options import (
    MOST_SEED,
    Conf,
    Data,
    Fit,
    Format,
    Json,
    Model,
    Names,
    Overwrite,
    Size,
    Split,
    Strict,
    Weights,
    drawable,
    faults_of,
    parse_size,
)

if TYPE_CHECKING:
    from toolkit.data.intake import Skipped
    from toolkit.models.decode import Boxes

ROWS = 100  # classes in a table for people
app = typer.Typer(no_args_is_help=True)


@app.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="A folder, label file, .zip, or the name of a card.")],
    output: Annotated[Path, typer.Argument(help="New data set folder: COCO JSON and pictures.")],
    format: Format = "",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, if not next to the labels.")
    ] = None,
    classes: Annotated[
        str, typer.Option(help="Classes to keep, by commas; of YOLO files without names, the names.")
    ] = "",
    one_based: Annotated[
        bool, typer.Option("--one-based", help="VOC corners count pixels from 1, as the devkit's own do.")
    ] = False,
    onto: Annotated[
        str,
        typer.Option(help="Data set whose pictures these labels are of; its other labels are kept."),
    ] = "",
    copy: Annotated[bool, typer.Option("--copy", help="Copy pictures instead of linking them.")] = False,
    allow_outside: Annotated[
        bool,
        typer.Option(
            "--allow-outside", help="Also read what links, lists and settings name outside the source."
        ),
    ] = False,
    overwrite: Overwrite = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Import labels of any supported format as COCO JSON. Exit code 3 if anything was left out."""
    from toolkit.data.importing import import_dataset

    dataset = import_dataset(
        source,
        output,
        format or None,
        classes=[name.strip() for name in classes.split(",")] if classes else None,
        images=images,
        onto=onto or None,
        link=not copy,
        overwrite=overwrite,
        faults=faults_of(strict),
        allow_outside=allow_outside,
        **({"one_based": True} if one_based else {}),
    )
    intake, counts = dataset.intake, dataset.counts()
    for sentence in intake.sentences():
        print_message(sentence)
    totals = {"pictures": len(dataset), "boxes": len(dataset.labels)}
    rows = [["format", f"{intake.format}: {intake.why}"]]
    rows += [[name, str(n)] for name, n in totals.items()]
    rows += [[f"split {name or '(none)'}", str(n)] for name, n in counts["splits"].items()]
    rows += [[name, str(n)] for name, n in islice(counts["classes"].items(), ROWS)]
    rows += [["...", f"{len(dataset.classes)} classes in all"]] if len(dataset.classes) > ROWS else []
    rows += [[f"left out: {part.kind}", str(part.count)] for part in intake.left_out]
    rows += [["skipped pictures", str(len(intake.skipped))]] if intake.skipped else []
    answer = {"folder": str(output), **totals, **counts, **intake.as_dict()}
    print_answer(answer, as_json, table(str(output), ["", ""], rows))
    unlabelled = [name for name, count in counts["classes"].items() if classes and not count]
    if unlabelled:
        print_message(f"--classes names what no label has: {', '.join(unlabelled)}")
    if not intake.whole or unlabelled or (not len(dataset.labels) and intake.format != "folder"):
        raise typer.Exit(3)


@app.command("doctor")
def data_doctor(
    data: Data,
    model: Model = "",
    names: Names = None,
    fix: Annotated[
        Path | None, typer.Option(help="Folder for a corrected copy; the data set is not changed.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="HTML report with pictures of the findings.")] = None,
    pictures: Annotated[
        bool, typer.Option(help="Decode the pictures; five of fourteen faults are not checked otherwise.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check a data set for faults that spoil a training. Exit code 1 if there are any.

    With --model its boxes are also compared with the input size and the anchors of the network.
    """
    from toolkit.data import doctor as examiner
    from toolkit.data.catalog import load
    from toolkit.networks import detector_io

    dataset = load(data, faults="keep")
    report = examiner.examine(dataset, detector_io(model, names) if model else None, pictures)
    result = report.as_dict()
    if html is not None:
        examiner.write_page(dataset, report, html)
    if fix is not None:
        result["fixes"] = examiner.fix(dataset, report, fix)
        print_message(f"{len(result['fixes'])} corrections, written to {fix}")
    for note in report.observations:
        print_message(f"note: {note}")
    for sentence in report.import_sentences:
        print_message(sentence)
    for finding in report.findings[:20]:
        print_message(f"{finding.fault}: {finding.sentence}")
    if len(report.findings) > 20:
        print_message(f"... {len(report.findings)} findings in all: use --json or --html to see them")
    rows = [
        [examiner.FAULTS[fault], str(count) if report.decoded or fault not in examiner.NEED_PICTURES else "-"]
        for fault, count in report.counts.items()
    ]
    print_answer(result, as_json, table(f"{data}: {report.pictures} pictures", ["fault", "found"], rows))
    if report.findings:
        raise typer.Exit(1)


@app.command("curate")
def data_curate(
    data: Data,
    output: Annotated[
        Path, typer.Argument(help="Folder for pictures of the views, the record and the curated set.")
    ],
    model: Model = "fastest-v2",
    weights: Weights = None,
    names: Names = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Pictures in each view.")] = 50,
    drop_duplicates: Annotated[
        bool,
        typer.Option("--drop-duplicates", help="Exclude exact and near duplicates from the curated set."),
    ] = False,
    with_app: Annotated[
        bool, typer.Option("--app", help="Open the FiftyOne App and continue when it is closed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Curate a data set in FiftyOne; writes the curated set and a record of what was removed.

    Embeddings and predictions are those of --model.
    """
    from toolkit.data import curation
    from toolkit.data.catalog import load
    from toolkit.data.class_names import compare_classes
    from toolkit.networks import open_model

    network, dataset = open_model(model, weights, names=names), load(data)
    skipped = print_intake(dataset.intake)
    classes, notes = compare_classes(network.io.classes, dataset.classes), []
    if classes.only_dataset:
        notes = [
            f"{model} does not have all classes of {data}: views by predictions are skipped",
            *classes.sentences(),
        ]
    for note in notes:
        print_message(f"note: {note}")
    views, curated = curation.curate(dataset, network, output, count, drop_duplicates, with_app)
    counts = {"pictures": len(dataset), "kept": len(curated)}
    summary = {
        "folder": str(output),
        "views": views,
        **counts,
        "skipped": as_json_list(skipped),
        "notes": notes,
    }
    rows = [[name, str(n)] for name, n in [*views.items(), ("kept", len(curated))]]
    print_answer(summary, as_json, table(f"{data}: {len(dataset)} pictures", ["view", "pictures"], rows))
    end_in_part(skipped)


@app.command("anchors")
def data_anchors(
    data: Data,
    model: Model = "fastest-v2",
    names: Names = None,
    count: Annotated[
        int, typer.Option(min=0, max=1000, help="Number of anchors; 0: as many as the network has.")
    ] = 0,
    split: Split = "",
    size: Size = "",
    fit: Fit = "",
    picture: Annotated[
        Path | None, typer.Option(callback=drawable, help="Drawing of boxes and anchors.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit anchors to a data set and compare them with those of a network, for its input size and heads."""
    from toolkit import viz
    from toolkit.data.anchors import search
    from toolkit.data.catalog import load_part
    from toolkit.networks import detector_io

    io = detector_io(model, names)
    io = io.with_size(parse_size(size) or io.input_size)
    dataset = load_part(data, split)
    skipped = print_intake(dataset.intake)
    result = search(dataset, io, count, fit or io.fit)
    fits = {model: result.own_fit, "found": result.fit}
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        viz.anchors_on_boxes(result.sizes, {model: result.own, "found": result.anchors}).savefig(picture)
    for note in result.notes:
        print_message(f"note: {note}")
    title = "\n".join(f"anchors={line.text} ({line.unit})" for line in result.cfg_lines)
    rows = [[name, f"{f.recall:.4f}", f"{f.mean_iou:.4f}"] for name, f in fits.items()]
    print_answer(
        {
            "input_size": list(io.input_size),
            "anchors": result.anchors.tolist(),
            "unit": "px of the input",
            "cfg": [line.as_dict() for line in result.cfg_lines],
            "masks": [list(mask) for mask in result.masks],
            "fits": {name: f.as_dict() for name, f in fits.items()},
            "skipped": as_json_list(skipped),
            "notes": list(result.notes),
        },
        as_json,
        table(title, ["anchors", "best possible recall", "mean best IoU"], rows),
    )
    end_in_part(skipped)


@app.command("split")
def data_split(
    source: Data,
    output: Annotated[Path, typer.Argument(help="New data set folder: COCO JSON and pictures.")],
    val: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the pictures for validation, 0..1.")
    ] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Part of the pictures for the test, 0..1.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Random seed.")] = 0,
    keep_test: Annotated[
        bool, typer.Option("--keep-test", help="Keep the test split; divide the other pictures only.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy pictures instead of linking them.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Divide a data set into train, val and test: stratified by class, clips and duplicates kept whole."""
    from toolkit.data.dividing import divide_folder

    division = divide_folder(
        source, output, val, test, seed, keep_test=keep_test, link=not copy, overwrite=overwrite
    )
    skipped = print_intake(division.dataset.intake)
    for note in division.notes:
        print_message(f"note: {note}")
    for kept in division.kept_together:
        print_message(f"kept together: {kept.sentence()}")
    for sentence in division.unmet[:20]:
        print_message(f"not met: {sentence}")
    if len(division.unmet) > 20:
        print_message(f"... {len(division.unmet)} in all: use --json to see them")
    rows = [
        [name, *(str(getattr(part, name)) for part in division.parts)]
        for name in ("pictures", "boxes", "groups")
    ]
    rows += [
        [f"boxes of {name}", *(str(part.classes[name]) for part in division.parts)]
        for name in division.dataset.classes
    ]
    answer = {"folder": str(output), **division.as_dict(), "skipped": as_json_list(skipped)}
    title = f"{output}: {division.groups} groups of pictures that stay together"
    print_answer(answer, as_json, table(title, ["", *(part.split for part in division.parts)], rows))
    end_in_part(skipped)


@app.command("prelabel")
def data_prelabel(
    data: Data,
    output: Annotated[Path, typer.Argument(help="Folder for the annotation tool.")],
    model: Model = "nano-coco",
    weights: Weights = None,
    names: Names = None,
    conf: Conf = 0.3,
    format: Annotated[str, typer.Option(help="label-studio, cvat, coco, voc, yolo.")] = "label-studio",
    following: Annotated[
        int,
        typer.Option(
            "--next",
            min=0,
            max=100_000,
            help="Only so many pictures without labels: those that would teach the network most.",
        ),
    ] = 0,
    overwrite: Overwrite = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Label pictures with a network, for correction in an annotation tool; then `data import --onto` DATA."""
    from toolkit.data.catalog import load_pictures
    from toolkit.data.class_names import compare_classes
    from toolkit.data.importing import prelabel
    from toolkit.data.readable import skipped_pictures
    from toolkit.inference.backend import DetectSettings
    from toolkit.inference.run import run
    from toolkit.networks import open_model

    network, dataset = open_model(model, weights, names=names), load_pictures(data, faults_of(strict))
    notes = compare_classes(network.io.classes, dataset.classes).sentences() if dataset.classes else []
    unreadable: dict[int, str] | None = None if strict else {}
    intake = dataset.intake
    lost: tuple[Skipped, ...] = ()
    boxes: Iterable[Boxes]
    if following:
        from toolkit.data.curation.queue import queue_of

        queue = queue_of(dataset, network, following, conf, unreadable)
        notes.append(f"{len(queue.pictures)} of {queue.unlabelled} pictures without labels were chosen")
        lost = skipped_pictures(dataset.files, unreadable or {})
        dataset, boxes, unreadable = dataset.subset(queue.pictures), queue.detections, {}
    else:
        paths = [dataset.path(i) for i in range(len(dataset))]
        boxes = run(network, paths, DetectSettings(conf=conf), batch=8, unreadable=unreadable)
    detections = ((b.boxes, b.scores, b.class_ids) for b in boxes)
    labelled = prelabel(
        dataset, detections, network.io.classes, output, format, unreadable=unreadable, overwrite=overwrite
    )
    skipped = (*print_intake(intake), *lost, *labelled.intake.skipped)
    for note in notes:
        print_message(f"note: {note}")
    summary = {
        "folder": str(output),
        "pictures": len(labelled),
        "boxes": len(labelled.labels),
        "skipped": as_json_list(skipped),
        "notes": notes,
    }
    print_answer(summary, as_json, f"{len(labelled.labels)} boxes in {len(labelled)} pictures, in {output}")
    end_in_part(skipped)


@app.command("toy")
def data_toy(
    output: Annotated[Path, typer.Argument(help="New data set folder: COCO JSON and pictures.")],
    count: Annotated[int, typer.Option(min=2, max=100_000, help="Number of pictures.")] = 1000,
    size: Annotated[int, typer.Option("--side", min=64, max=4096, help="Width and height, px.")] = 160,
    classes: Annotated[int, typer.Option("--digits", min=1, max=10, help="Classes: digits from 0 on.")] = 10,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Random seed.")] = 0,
    faults: Annotated[
        bool, typer.Option("--faults", help="Plant each fault that the doctor looks for, once.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make the toy data set: handwritten digits on photographs."""
    from toolkit.data.toy import make_toy

    dataset = make_toy(output, seed, count, size, classes, overwrite=overwrite, faults=faults)
    answer = {"folder": str(output), "pictures": len(dataset), "boxes": len(dataset.boxes)}
    print_answer({**answer, **dataset.counts()}, as_json, str(dataset))
