"""`toolkit evaluate`: COCO, VOC, darknet, WIDER FACE, landmarks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import (
    Conf,
    DataOption,
    Fit,
    Json,
    Model,
    Nms,
    Pictures,
    Resize,
    Size,
    Split,
    Weights,
    Wish,
    parse_size,
)
from toolkit.runtime import InputError

app = typer.Typer(no_args_is_help=True, help="Score a network by the protocols of published tables.")


def _operating_point(wish: str, matches: Any) -> dict[str, float]:
    from toolkit.evaluation.operating import operating_point

    name, _, value = wish.partition("=")
    keys = {"precision": "precision", "recall": "recall", "fp": "false_positives"}
    if name == "f1":
        return operating_point(matches).as_dict()
    try:
        return operating_point(matches, **{keys[name]: float(value)}).as_dict()
    except (KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--operating-point takes precision=, recall=, fp= or f1, not {wish!r}") from None


def _evaluate(
    protocol: str,
    model: str,
    weights: Path | None,
    data: str,
    split: str,
    settings: Any,
    score: Any,
    wish: str,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Detect, score by `score(truth, detections)`, and what every protocol offers beside its figures."""
    from toolkit.data.catalog import load
    from toolkit.evaluation import columns, failures, matching, operating
    from toolkit.evaluation.score import predict
    from toolkit.export.folder import write_threshold
    from toolkit.networks import open_model

    network, dataset = open_model(model, weights), load(data)
    if split:
        dataset = dataset.split(split)
    if not len(dataset):
        raise InputError(f"{data} has no pictures in the split {split!r}: nothing to evaluate")
    truth, found = columns.Truth.from_dataset(dataset), predict(network, dataset, settings)
    scores = score(truth, found)
    result = {"protocol": protocol, "model": model, "data": data, "split": split, **scores.as_dict()}
    matches = matching.match(truth, found)
    if wish:
        result["operating_point"] = _operating_point(wish, matches)
        write_threshold(model, result["operating_point"]["threshold"])
    if pictures is not None:
        best = result.get("operating_point") or _operating_point("f1", matches)
        failures.draw(pictures, dataset, found, matches, operating.OperatingPoint(**best))
    flat = {k: v for k, v in result.items() if isinstance(v, float)}
    rows = [[name, f"{value:.4f}"] for name, value in flat.items()]
    rows += [[f"at {k}", f"{v:.4f}"] for k, v in result.get("operating_point", {}).items()]
    print_answer(result, as_json, table(f"{protocol}: {model} on {data} {split}", ["", ""], rows))


@app.command("coco")
def evaluate_coco(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "stretch",
    size: Size = "",
    ignored: Annotated[str, typer.Option(help="Ignored objects: once, crowd or counted.")] = "once",
    max_detections: Annotated[int, typer.Option(help="Detections counted per picture.")] = 100,
    operating_point: Wish = "",
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """COCO's average precision, per class and per size."""
    from toolkit.evaluation import coco
    from toolkit.inference.backend import DetectSettings

    def score(truth: Any, found: Any) -> Any:
        return coco.coco(truth, found, ignored, max_detections)

    settings = DetectSettings(conf, 0.45, nms, resize, fit, parse_size(size))
    _evaluate("coco", model, weights, data, split, settings, score, operating_point, pictures, as_json)


@app.command("voc")
def evaluate_voc(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "stretch",
    size: Size = "",
    iou: Annotated[float, typer.Option(help="Overlap that counts as found.")] = 0.5,
    points: Annotated[str, typer.Option(help="area, or 11 (VOC 2007).")] = "area",
    difficult: Annotated[str, typer.Option(help="ignored or counted.")] = "ignored",
    operating_point: Wish = "",
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """PASCAL VOC's average precision."""
    from toolkit.evaluation import average_precision
    from toolkit.inference.backend import DetectSettings

    def score(truth: Any, found: Any) -> Any:
        return average_precision.voc(truth, found, iou, points, difficult)

    settings = DetectSettings(conf, 0.45, nms, resize, fit, parse_size(size))
    _evaluate("voc", model, weights, data, split, settings, score, operating_point, pictures, as_json)


@app.command("darknet")
def evaluate_darknet(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "darknet",
    fit: Fit = "stretch",
    size: Size = "",
    iou: Annotated[float, typer.Option(help="Overlap that counts as found.")] = 0.5,
    points: Annotated[str, typer.Option(help="area (-points 0), 11 or 101.")] = "area",
    difficult: Annotated[
        str,
        typer.Option(help="counted; dropped (not in the labels); ignored (difficult= in the .data file)."),
    ] = "counted",
    operating_point: Wish = "",
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """darknet's own mAP (detector map): boxes not clipped, the resize and duplicates as it has them."""
    from toolkit.evaluation import average_precision
    from toolkit.inference.backend import DetectSettings

    def score(truth: Any, found: Any) -> Any:
        return average_precision.darknet(truth, found, iou, points, difficult)

    settings = DetectSettings(conf, 0.45, nms, resize, fit, parse_size(size), clip=False)
    _evaluate("darknet", model, weights, data, split, settings, score, operating_point, pictures, as_json)


@app.command("widerface")
def evaluate_widerface(
    model: Annotated[str, typer.Option(help="A network as for detect; not needed with --detections.")] = "",
    weights: Weights = None,
    data: DataOption = "widerface_val",
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "stretch",
    size: Size = "",
    protocol: Annotated[
        str,
        typer.Option(help="Input: own (the network's size), 640 (long side), original (picture by picture)."),
    ] = "own",
    detections: Annotated[Path | None, typer.Option(help="Score text files in the official layout.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write the detections in the official layout.")] = None,
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """WIDER FACE easy, medium and hard by the official protocol."""
    from toolkit import viz
    from toolkit.data.catalog import load
    from toolkit.evaluation import widerface
    from toolkit.evaluation.score import in_originals, predict, wider_truth
    from toolkit.inference.backend import DetectSettings
    from toolkit.networks import open_model

    sides = {"own": None, "640": 640, "original": 0}
    if protocol not in sides:
        raise InputError(f"--protocol is one of {', '.join(sides)}, not {protocol!r}")
    if bool(model) == bool(detections):
        raise InputError("name a network with --model or finished detections with --detections, one of them")
    dataset = load(data)
    if split:
        dataset = dataset.split(split)
    if not len(dataset):
        raise InputError(f"{data} has no pictures in the split {split!r}: nothing to evaluate")
    truth = wider_truth(data, dataset)
    if detections is not None:
        found = widerface.read_detections(detections, truth)
    else:
        network = open_model(model, weights)
        settings = DetectSettings(
            conf, 0.45, nms, resize, fit, parse_size(size), clip=False, long_side=sides[protocol]
        )
        found = in_originals(predict(network, dataset, settings), dataset)
    begin = time.perf_counter()
    scores = widerface.evaluate(truth, found)
    seconds = time.perf_counter() - begin
    if write is not None:
        widerface.write_detections(write, truth, found)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        viz.precision_recall(scores.curves).savefig(pictures / "precision_recall.png")
    result = {"model": model, "data": data, "split": split, "input": protocol, **scores.as_dict()}
    rows = [[name, f"{result[name]:.4f}"] for name in ("easy", "medium", "hard")]
    print_message(f"{len(found)} detections in {len(truth)} pictures scored in {seconds:.2f} s")
    print_answer(
        {**result, "evaluation_seconds": seconds}, as_json, table(f"{model or detections}", ["", "AP"], rows)
    )


@app.command("landmarks")
def evaluate_landmarks(
    model: Annotated[str, typer.Option(help="A landmark network; not needed with --predictions.")] = "",
    weights: Weights = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help=".npy of points (faces, points, 2) in pixels, in the order of the data set."),
    ] = None,
    data: DataOption = "wflw98",
    split: Split = "",
    normaliser: Annotated[str, typer.Option(help="inter-ocular or box.")] = "inter-ocular",
    as_json: Json = False,
) -> None:
    """Normalised mean error, area under the error curve and failure rate of landmarks.

    A network sees each face cut out by the bounds of its true points; 106 points are scored on 98 by the map
    of their numbers.
    """
    import numpy as np

    from toolkit.data.catalog import load
    from toolkit.evaluation import landmarks
    from toolkit.networks import open_landmarks

    if bool(model) == bool(predictions):
        raise InputError("name a network with --model or finished points with --predictions, one of them")
    dataset = load(data)
    if split:
        dataset = dataset.split(split)
    if dataset.keypoints is None:
        raise InputError(f"{data} has no landmarks: nothing to evaluate")
    if predictions is None:
        scores = landmarks.score(open_landmarks(model, weights), dataset, normaliser)
    else:
        try:
            points = np.asarray(np.load(predictions), np.float64)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise InputError(f"cannot read {predictions} as .npy: {error}") from None
        scores = landmarks.score_points(points, dataset, normaliser)
    if scores.left_out:
        print_message(f"{scores.left_out} faces without labels for the {normaliser} length are left out")
    result = scores.as_dict()
    rows = [[k, f"{v:.4f}"] for k, v in result.items() if isinstance(v, float)]
    print_answer(result, as_json, table(f"landmarks on {data}", ["", ""], rows))
