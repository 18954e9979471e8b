"""`toolkit parity`: compare two networks, or all formats of one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import DataOption, Json, Model, Names, Partial, Split, Weights, drawable
from toolkit.runtime import InputError

app = typer.Typer(no_args_is_help=True)


@app.command("ladder")
def parity_ladder(
    model: Model,
    weights: Weights = None,
    names: Names = None,
    folder: Annotated[Path | None, typer.Option(help="Exported folder (default: exports/NETWORK).")] = None,
    rungs: Annotated[
        str, typer.Option(help="Formats and openvino, separated by commas (default: all in the folder).")
    ] = "",
    images: Annotated[
        Path | None, typer.Option(help="Picture or folder for the comparison of detections.")
    ] = None,
    data: DataOption = "",
    split: Split = "",
    metric: Annotated[str, typer.Option(help="Metric: coco, voc, darknet or widerface.")] = "coco",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads of each engine in the timing.")] = 1,
    rounds: Annotated[
        int, typer.Option(min=1, max=100_000, help="Timing rounds (one warm-up round is discarded).")
    ] = 30,
    picture: Annotated[
        Path | None, typer.Option(callback=drawable, help="Drawing of the differences.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare all formats of an exported network with torch: outputs, detections, score, size, time.

    With --data every rung is scored as well, with the change from torch and its 95 % interval: int8 fails if
    a score falls by more than one point with its whole interval, and without --data if it loses a fourth of
    the detections. For ncnn the table also has the instructions that an emulated
    arm64 processor executes, if qemu is installed and a runner built (toolkit device build). Their number
    hardly varies, but says little of milliseconds: for those time a device (toolkit time). Exit code 1 if a
    rung fails; the table shows where the difference begins.
    """
    from toolkit.device.instructions import count_formats
    from toolkit.export import ladder
    from toolkit.inference.backend import DetectSettings
    from toolkit.models.detector import Detector
    from toolkit.networks import open_model
    from toolkit.pictures import find_images
    from toolkit.samples import photographs

    network = open_model(model, weights, names=names)
    if not isinstance(network, Detector):
        raise InputError(f"{model} is already exported: name the network or cfg it was exported from")
    score = None
    if data:
        from toolkit.data.catalog import load_part
        from toolkit.evaluation.score import evaluate

        scored = load_part(data, split)
        score = partial(evaluate, dataset=scored, metric=metric, name=data)
    pictures = list(photographs().values()) if images is None else find_images(images)
    formats = [rung for rung in rungs.split(",") if rung]
    folder = folder or Path("exports") / Path(model).stem
    results = ladder.ladder(network, folder, pictures, score, formats, threads, rounds)
    try:
        counts = count_formats(folder, [rung.name for rung in results])
        results = ladder.Ladder(replace(rung, instructions=counts.get(rung.name)) for rung in results)
    except InputError as error:
        print_message(f"no instructions on arm64 are shown: {error}")
    print_message(
        f"detections above {DetectSettings().conf:g} are compared in {len(pictures)} pictures"
        + (f", scores are of {len(scored)} of {data}" if data else "")
    )
    columns, verdict = ladder.table(results), ladder.verdict(results)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    answer = {"rungs": [rung.as_dict() for rung in results], "verdict": verdict}
    print_answer(answer, as_json, table(model, list(columns), rows))
    print_message(verdict)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        ladder.picture(results, Path(model).stem).savefig(picture)
    if any(rung.fault for rung in results):
        raise typer.Exit(1)


@app.command("compare")
def parity_compare(
    first: Annotated[str, typer.Argument(help="First network, as --model, or a darknet reference .npz.")],
    second: Annotated[str, typer.Argument(help="Second network, compared with the first.")],
    weights: Weights = None,
    names: Names = None,
    as_far: Partial = False,
    image: Annotated[
        Path | None, typer.Option(help="Input picture (default: a photograph of scikit-image).")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=10, help="Largest accepted relative difference.")
    ] = 1e-5,
    picture: Annotated[
        Path | None, typer.Option(callback=drawable, help="Drawing of the difference per layer.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two of {darknet reference, torch, onnx, ncnn}, layer by layer where both show layers.

    Exit code 1 if they differ by more than the tolerance.
    """
    from toolkit.export.parity import picture as draw
    from toolkit.networks import compare_networks

    result = compare_networks(first, second, weights, image, names, as_far)
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw(result, tolerance).savefig(picture)
    diverging = result.first_divergence(tolerance)
    good = result.relative <= tolerance
    rows = [
        [r.name, f"{r.difference:.2e}", f"{r.largest:.2f}", f"{r.relative:.2e}"]
        for r in (*result.layers, *result.outputs)
    ]
    print_answer(
        {**result.as_dict(), "tolerance": tolerance, "passed": good, "first_divergence": diverging},
        as_json,
        table(
            f"{result.first} against {result.second}",
            ["layer", "max difference", "largest value", "relative"],
            rows,
        ),
    )
    if not good:
        print_message(
            f"the outputs differ by {result.relative:.2e}, more than {tolerance:g}; first at {diverging}"
        )
        raise typer.Exit(1)
    print_message(f"equal within {tolerance:g}: the outputs differ by {result.relative:.2e}")
