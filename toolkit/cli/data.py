"""`toolkit data`: import, doctor, curate, anchors, prelabel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import Data, Format, Json, Model, Overwrite, Size, Weights, drawable, parse_size

app = typer.Typer(no_args_is_help=True, help="Bring data in, check it, curate it, fit anchors to it.")


@app.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="A folder, label file, .zip, or the name of a card.")],
    output: Annotated[Path, typer.Argument(help="The canonical folder to make: COCO JSON and pictures.")],
    format: Format = "",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, where labels lie apart.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Class names wanted, by commas.")] = "",
    copy: Annotated[bool, typer.Option("--copy", help="Copy pictures instead of linking them.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Bring labels of any known format into the canonical one."""
    from toolkit.data.importing import import_dataset

    names = classes.split(",") if classes else None
    found = import_dataset(
        source, output, format or None, classes=names, images=images, link=not copy, overwrite=overwrite
    )
    counts = {name: int((found.labels == i).sum()) for i, name in enumerate(found.classes)}
    splits = {str(s): int((found.splits == s).sum()) for s in sorted(set(found.splits.tolist()))}
    summary = {"folder": str(output), "pictures": len(found), "boxes": len(found.labels)}
    rows = [["pictures", str(len(found))], ["boxes", str(len(found.labels))]]
    rows += [[f"split {name or '(none)'}", str(n)] for name, n in splits.items()]
    rows += [[name, str(n)] for name, n in counts.items()]
    print_answer(
        {**summary, "splits": splits, "classes": counts}, as_json, table(str(output), ["", "count"], rows)
    )


@app.command("doctor")
def data_doctor(
    data: Data,
    model: Annotated[
        str, typer.Option(help="Also hold sizes and anchors against this network of the zoo.")
    ] = "",
    fix: Annotated[
        Path | None, typer.Option(help="Write a mended copy here; the data set stays as it is.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures of the findings.")] = None,
    pictures: Annotated[
        bool, typer.Option(help="Decode the pictures; without, five faults are not seen.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Find the label faults that make a training fail. Exit code 1 where there are any."""
    from toolkit.data import doctor as examiner
    from toolkit.data.catalog import load
    from toolkit.models import create_model

    dataset = load(data, strict=False)
    report = examiner.examine(dataset, create_model(model).io if model else None, pictures)
    result = report.as_dict()
    if html is not None:
        examiner.write_page(dataset, report, html)
    if fix is not None:
        result["fixes"] = examiner.fix(dataset, report, fix)
        print_message(f"{len(result['fixes'])} changes, in {fix}")
    for note in report.notes:
        print_message(f"note: {note}")
    for finding in report.findings[:20]:
        print_message(f"{finding.fault}: {finding.sentence}")
    if len(report.findings) > 20:
        print_message(f"... {len(report.findings)} findings in all: --json or --html has them")
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
        Path, typer.Argument(help="Folder for the views' pictures, the record and the curated set.")
    ],
    model: Annotated[
        str, typer.Option(help="Network of the zoo for embeddings and predictions.")
    ] = "fastest-v2",
    weights: Weights = None,
    count: Annotated[int, typer.Option(help="Pictures in each view.")] = 50,
    drop_duplicates: Annotated[
        bool,
        typer.Option("--drop-duplicates", help="Leave exact and near duplicates out of the curated set."),
    ] = False,
    with_app: Annotated[
        bool, typer.Option("--app", help="Open FiftyOne's App and go on when it is closed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look through a data set in FiftyOne; what stays comes back as a data set with a record of the rest."""
    from toolkit.data import curation
    from toolkit.data.catalog import load
    from toolkit.networks import open_model

    network, dataset = open_model(model, weights), load(data)
    if network.io.classes != dataset.classes:
        print_message(f"{model} has other classes than {data}: views by its predictions are left out")
    views, chosen = curation.curate(dataset, network, output, count, drop_duplicates, with_app)
    summary = {"folder": str(output), "views": views, "pictures": len(dataset), "kept": len(chosen)}
    rows = [[name, str(n)] for name, n in [*views.items(), ("kept", len(chosen))]]
    print_answer(summary, as_json, table(f"{data}: {len(dataset)} pictures", ["view", "pictures"], rows))


@app.command("anchors")
def data_anchors(
    data: Data,
    model: Annotated[
        str, typer.Option(help="Network of the zoo whose input, heads and anchors are the base.")
    ] = "fastest-v2",
    count: Annotated[int, typer.Option(help="How many; as many as the network has unless given.")] = 0,
    split: Annotated[str, typer.Option(help="One split only.")] = "",
    size: Size = "",
    fit: Annotated[str, typer.Option(help="stretch or letterbox.")] = "stretch",
    picture: Annotated[
        Path | None, typer.Option(callback=drawable, help="Draw boxes and anchors into this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Anchors that suit a data set, beside the network's own."""
    import numpy as np

    from toolkit import viz
    from toolkit.data import anchors as anchor_search
    from toolkit.data.catalog import load
    from toolkit.models import create_model

    changes: dict[str, Any] = {"input_size": parse_size(size)} if size else {}
    io = create_model(model, **changes).io
    dataset = load(data)
    dataset = dataset.split(split) if split else dataset
    strides = [head.stride for head in io.heads]
    own = np.array(sorted((a for head in io.heads for a in head.anchors), key=lambda a: a[0] * a[1]))
    sizes = anchor_search.object_sizes(dataset, io.input_size, fit)
    found = anchor_search.find(sizes, count or len(own), own)
    fits = {name: anchor_search.fit(sizes, a, strides) for name, a in ((model, own), ("found", found))}
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        viz.anchors_on_boxes(sizes, {model: own, "found": found}).savefig(picture)
    masks = anchor_search.to_heads(found, strides) if len(found) % len(strides) == 0 else ()
    text = ", ".join(f"{w:.1f},{h:.1f}" for w, h in found)
    rows = [[name, f"{f.recall:.4f}", f"{f.mean_iou:.4f}"] for name, f in fits.items()]
    print_answer(
        {
            "input_size": list(io.input_size),
            "anchors": found.tolist(),
            "masks": [list(mask) for mask in masks],
            "fits": {name: f.as_dict() for name, f in fits.items()},
        },
        as_json,
        table(f"anchors={text}", ["anchors", "best possible recall", "mean best IoU"], rows),
    )


@app.command("prelabel")
def data_prelabel(
    data: Data,
    output: Annotated[Path, typer.Argument(help="Folder for the annotation tool.")],
    model: Model = "nano-coco",
    weights: Weights = None,
    conf: Annotated[float, typer.Option(help="Threshold on the score, 0..1.")] = 0.3,
    format: Annotated[str, typer.Option(help="label-studio, coco (CVAT), voc, yolo.")] = "label-studio",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Label pictures by a network, for correction in an annotation tool."""
    from toolkit.data.catalog import load
    from toolkit.data.importing import prelabel
    from toolkit.inference.backend import DetectSettings
    from toolkit.inference.run import run
    from toolkit.networks import open_model

    network, dataset = open_model(model, weights), load(data)
    paths = [dataset.path(i) for i in range(len(dataset))]
    found = (
        (b.boxes, b.scores, b.class_ids) for b in run(network, paths, DetectSettings(conf=conf), batch=8)
    )
    made = prelabel(dataset, found, network.io.classes, output, format, overwrite=overwrite)
    summary = {"folder": str(output), "pictures": len(made), "boxes": len(made.labels)}
    print_answer(summary, as_json, f"{len(made.labels)} boxes in {len(made)} pictures, in {output}")
