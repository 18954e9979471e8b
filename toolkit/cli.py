"""The `toolkit` command: reads options, calls the library, prints a table or one JSON object."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from toolkit.runtime import InputError, progress

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
parity_app = typer.Typer(no_args_is_help=True, help="Prove that two backends of one network agree.")
app.add_typer(parity_app, name="parity")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
Model = Annotated[
    str, typer.Option(help="A network of the zoo, a darknet .cfg, or an exported folder (FOLDER:FORMAT).")
]
Weights = Annotated[
    Path | None, typer.Option(help="A .weights or .pt file; the published ones unless given.")
]
Size = Annotated[
    str, typer.Option(help="Network input, one side or WIDTHxHEIGHT; the network's own unless given.")
]


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _answer(data: dict[str, Any], as_json: bool, table: Table | str = "") -> None:
    if as_json:
        print(json.dumps(data))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(table)


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--size takes one side or WIDTHxHEIGHT such as 352x288, not {text!r}")
    return int(sides[0]), int(sides[-1])


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """First column to the left, numbers to the right."""
    result = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        result.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


@app.command()
def models(as_json: Json = False) -> None:
    """The seed's networks: size, parameters, cost, and whether weights are published."""
    from toolkit.models import create_model, list_models
    from toolkit.models.cost import measure
    from toolkit.models.zoo import published_files

    entries: list[dict[str, Any]] = []
    for name in list_models():
        model = create_model(name)
        cost = measure(model)
        entries.append(
            {
                "name": name,
                "input_size": list(cost.input_size),
                "classes": len(model.io.classes),
                "strides": [head.stride for head in model.io.heads],
                "params": cost.params,
                "macs": cost.macs,
                "bflops": cost.bflops,
                "peak_memory": cost.peak_memory,
                "published_weights": f"{name}/{name}.weights" in published_files(),
            }
        )
    columns = ["network", "input", "classes", "strides", "parameters", "MMAC", "BFLOPs", "peak MB", "weights"]
    rows = [
        [
            e["name"],
            "x".join(str(v) for v in e["input_size"]),
            str(e["classes"]),
            "/".join(str(v) for v in e["strides"]),
            f"{e['params']:,}",
            f"{e['macs'] / 1e6:.1f}",
            f"{e['bflops']:.3f}",
            f"{e['peak_memory'] / 1e6:.1f}",
            "published" if e["published_weights"] else "-",
        ]
        for e in entries
    ]
    _answer({"models": entries}, as_json, table("", columns, rows))


@app.command()
def detect(
    source: Annotated[str, typer.Argument(help="A picture, a folder, a video, or the index of a camera.")],
    model: Model = "nano-coco",
    weights: Weights = None,
    conf: Annotated[float, typer.Option(help="Threshold on the score, 0..1.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Suppress above this overlap, 0..1.")] = 0.45,
    nms: Annotated[str, typer.Option(help="plain or diou (newer darknet's greedynms).")] = "plain",
    resize: Annotated[str, typer.Option(help="bilinear (OpenCV) or darknet (exact).")] = "bilinear",
    fit: Annotated[str, typer.Option(help="stretch or letterbox.")] = "stretch",
    size: Size = "",
    output: Annotated[Path | None, typer.Option(help="Folder for annotated pictures or the video.")] = None,
    coco: Annotated[Path | None, typer.Option(help="Write detections as a COCO results file.")] = None,
    frames: Annotated[
        int, typer.Option(help="Stop a video or camera after so many frames; 0: at its end.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Find objects in a picture, a folder, a video or a camera."""
    from toolkit.detect import (
        VIDEO_SUFFIXES,
        Settings,
        Video,
        annotate,
        annotate_video,
        as_coco,
        as_records,
        find_images,
        load_image,
        run,
        save_image,
    )
    from toolkit.export import open_model
    from toolkit.runtime import whole_file

    settings = Settings(conf, iou, nms, resize, fit, _size(size))
    network = open_model(model, weights)
    camera = source.isdigit() and not Path(source).exists()
    begin = time.perf_counter()
    if camera or Path(source).suffix.lower() in VIDEO_SUFFIXES:
        video = Video(int(source) if camera else source)
        if camera and not frames:
            raise InputError("a camera has no end: say how many frames with --frames")
        target = (output or Path("detections")) / f"{'camera' if camera else Path(source).stem}.mp4"
        found = annotate_video(network, video, target, frames, settings)
        names = [f"frame {i}" for i in range(len(found))]
        _say(f"wrote {target}")
    else:
        paths = find_images(source)
        names = [str(path) for path in paths]
        found = list(progress(run(network, paths, settings), "pictures", len(paths)))
        if output is not None:
            root = Path(source) if Path(source).is_dir() else Path(source).parent
            for path, boxes in zip(paths, found, strict=True):
                picture = annotate(load_image(path), boxes, network.io)
                save_image(output / path.relative_to(root), picture)
    seconds = time.perf_counter() - begin
    if coco is not None:
        rows = [row for i, boxes in enumerate(found) for row in as_coco(boxes, i + 1)]
        with whole_file(coco) as temporary:
            temporary.write_text(json.dumps(rows))
    records = [(name, as_records(boxes, network.io)) for name, boxes in zip(names, found, strict=True)]
    lines = [
        [name, d["class"], f"{d['score']:.3f}", " ".join(f"{v:.0f}" for v in d["box"])]
        for name, detections in records
        for d in detections
    ]
    if len(lines) > 200:
        _say(f"the table shows the first 200 of {len(lines)} detections: --json has all")
    fps = len(found) / seconds
    _say(f"{len(found)} pictures, {len(lines)} detections, {seconds:.2f} s, {fps:.1f} pictures/s")
    _answer(
        {
            "results": [{"image": name, "detections": detections} for name, detections in records],
            "seconds": seconds,
            "pictures_per_second": fps,
        },
        as_json,
        table("", ["picture", "class", "score", "x1 y1 x2 y2 (px)"], lines[:200]),
    )


@app.command()
def export(
    model: Model,
    output: Annotated[
        Path | None, typer.Option(help="The folder to make; exports/NETWORK unless given.")
    ] = None,
    weights: Weights = None,
    to: Annotated[
        str, typer.Option(help="Formats, by commas: onnx, ncnn, ncnn-fp16.")
    ] = "onnx,ncnn,ncnn-fp16",
    size: Size = "",
    detection_output: Annotated[
        bool,
        typer.Option(
            "--detection-output",
            help="Add an ncnn .param that ends in Yolov3DetectionOutput, for older apps. That layer cannot "
            "express scale_x_y: centres are off by up to (scale_x_y - 1) / 2 of a cell (1.6 px in nano). Its "
            "scores are too high, its labels count from 1, its suppression ignores classes.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX and NCNN, each file checked against torch."""
    from toolkit.export import export_model, open_model
    from toolkit.models.detector import Detector

    network = open_model(model, weights)
    if not isinstance(network, Detector):
        raise InputError(f"{model} is exported already: name the network or cfg that it came from")
    name = Path(model).stem
    folder = output or Path("exports") / name
    parity = export_model(network, folder, to.split(","), _size(size), detection_output, name)
    spec = json.loads((folder / "spec.json").read_text())
    sizes = {f: sum(v["bytes"] for v in spec["formats"][f]["files"].values()) for f in parity}
    rows = [
        [fmt, f"{sizes[fmt] / 1000:.1f}", f"{p['max_difference']:.2g}", f"{p['relative_difference']:.2g}"]
        for fmt, p in parity.items()
    ]
    _answer(
        {"folder": str(folder), "parity": parity, "bytes": sizes},
        as_json,
        table(str(folder), ["format", "kB", "max difference to torch", "relative to largest output"], rows),
    )


@parity_app.command("compare")
def parity_compare(
    first: Annotated[str, typer.Argument(help="A network as for --model, or a darknet reference .npz.")],
    second: Annotated[str, typer.Argument(help="The same, to hold against it.")],
    weights: Weights = None,
    image: Annotated[
        Path | None, typer.Option(help="Picture to run; a photograph of scikit-image unless given.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference that passes.")] = 1e-5,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the difference per layer into this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two of {darknet reference, torch, onnx, ncnn}: layer by layer where both show layers.

    Exit code 1 where they differ by more than the tolerance.
    """
    from toolkit.detect import load_image, preprocess
    from toolkit.export import open_model, parity, probe_input
    from toolkit.models.zoo import SPECS

    def open_side(source: str) -> Any:
        if source.endswith(".npz"):
            return parity.DarknetReference(source)
        return open_model(source, weights if source in SPECS or source.endswith(".cfg") else None)

    sides = [open_side(source) for source in (first, second)]
    x = None
    ios = [side.io for side in sides if hasattr(side, "io")]
    if len(ios) == len(sides):
        x = probe_input(ios[0]) if image is None else preprocess(load_image(image), ios[0])[0][None]
    elif not ios:
        raise InputError("two darknet references cannot be run: name a network on one side")
    result = parity.compare(sides[0], sides[1], x, (Path(first).name, Path(second).name))
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        parity.picture(result, tolerance).savefig(picture)
    diverging = result.first_divergence(tolerance)
    good = result.relative <= tolerance
    rows = [
        [r.name, f"{r.difference:.2e}", f"{r.largest:.2f}", f"{r.relative:.2e}"]
        for r in (*result.layers, *result.outputs)
    ]
    _answer(
        {**result.as_dict(), "tolerance": tolerance, "passed": good, "first_divergence": diverging},
        as_json,
        table(
            f"{result.first} against {result.second}",
            ["layer", "max difference", "largest value", "relative"],
            rows,
        ),
    )
    if not good:
        _say(f"the outputs differ by {result.relative:.2e}, more than {tolerance:g}; first at {diverging}")
        raise typer.Exit(1)
    _say(f"equal within {tolerance:g}: the outputs differ by {result.relative:.2e}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path("exports/demo"),
    as_json: Json = False,
) -> None:
    """Networks, detections in real photographs, exports and their parity, in a few minutes."""
    from toolkit.demo import run

    _answer(run(output), as_json, f"everything lies in {output}")


def main() -> None:
    """Entry point: bad input is one sentence on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _say(f"error: {error.strerror or error}{where}")
        sys.exit(2)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
