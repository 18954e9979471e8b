"""`toolkit evaluate`: COCO, VOC, darknet, WIDER FACE, landmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli.answer import as_json_list, end_in_part, print_answer, print_intake, print_message, table
from toolkit.cli.options import (
    Conf,
    DataOption,
    Fit,
    Iou,
    Json,
    Model,
    Names,
    Nms,
    Pictures,
    Resize,
    Size,
    Split,
    Strict,
    Weights,
    Wish,
    faults_of,
    parse_size,
)
from toolkit.runtime import InputError

if TYPE_CHECKING:
    from toolkit.evaluation.average_precision import MapScores
    from toolkit.evaluation.coco import CocoScores
    from toolkit.evaluation.columns import Detections, Truth
    from toolkit.inference.backend import DetectSettings
    from toolkit.models.network import Detecting

app = typer.Typer(no_args_is_help=True)
MOST_ROWS = 100  # classes in a table for people
MatchIou = Annotated[float, typer.Option("--match-iou", min=0, max=1, help="Smallest IoU of a match.")]


def _evaluate(
    name: str,
    protocol: Callable[[Truth, Detections], MapScores | CocoScores],
    network: Callable[[], Detecting],
    model: str,
    data: str,
    split: str,
    settings: DetectSettings,
    wish: str,
    pictures: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    from toolkit.data.catalog import load_part
    from toolkit.evaluation.operating import operating_point_for
    from toolkit.evaluation.score import evaluate_by, input_choices
    from toolkit.export.folder import write_threshold

    faults = faults_of(strict)
    dataset = load_part(data, split, faults)
    detector = network()
    evaluation = evaluate_by(protocol, detector, dataset, settings, faults)
    skipped = print_intake(dataset.intake) + evaluation.skipped
    for note in evaluation.notes:
        print_message(f"note: {note}")
    scores = evaluation.scores.as_dict()
    choices = {"split": split or "all"} | evaluation.scores.choices() | input_choices(detector.io, settings)
    result = {"protocol": name, "model": model, "data": data, "split": split, **scores, "choices": choices}
    result |= {"skipped": as_json_list(skipped), "notes": list(evaluation.notes)}
    point = operating_point_for(wish, evaluation.matches) if wish else None
    if point is not None:
        result["operating_point"] = point.as_dict()
        if write_threshold(model, point.threshold):
            print_message(f"{model} keeps the threshold {point.threshold:.4g} from now on")
    if pictures is not None:
        evaluation.draw(pictures, point or operating_point_for("f1", evaluation.matches))
        print_message(f"wrote {pictures}")
    figures = {key: value for key, value in scores.items() if isinstance(value, float) and key not in choices}
    rows = [[key, f"{value:.4f}"] for key, value in figures.items()]
    rows += [[f"at {key}", f"{value:.4f}"] for key, value in result.get("operating_point", {}).items()]
    rows += [["AP of each class", "at IoU .5" if name == "coco" else f"at IoU {choices['match_iou']:g}"]]
    rows += _class_rows(scores["per_class"])
    rows += [["network", model], ["data", data], *_choice_rows(choices)]
    print_answer(result, as_json, table(f"{name} scores", ["", ""], rows))
    end_in_part(skipped)


def _class_rows(classes: Mapping[str, Mapping[str, float | None]]) -> list[list[str]]:
    """COCO's AP50 of each class, or the AP at the IoU that was chosen."""
    scores = {name: found.get("ap50", found.get("ap")) for name, found in classes.items()}
    rows = [
        [f"class {name}", "no objects" if score is None or score < 0 else f"{score:.4f}"]
        for name, score in islice(scores.items(), MOST_ROWS)
    ]
    left = len(scores) - len(rows)
    return rows + ([["...", f"{left} more classes: --json has all"]] if left else [])


def _choice_rows(choices: dict[str, Any]) -> list[list[str]]:
    return [[name.replace("_", " "), str(value)] for name, value in choices.items()]


@app.command("coco")
def evaluate_coco(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    names: Names = None,
    split: Split = "",
    conf: Conf = 0.005,
    iou: Iou = 0.45,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "",
    size: Size = "",
    ignored: Annotated[str, typer.Option(help="Ignored objects: once, crowd or counted.")] = "once",
    max_detections: Annotated[
        int, typer.Option(min=1, max=100_000, help="Detections counted per picture.")
    ] = 100,
    operating_point: Wish = "",
    pictures: Pictures = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """COCO's average precision, per class and per size."""
    from toolkit.evaluation.coco import coco
    from toolkit.evaluation.score import PROTOCOLS
    from toolkit.networks import open_model

    def protocol(truth: Truth, detections: Detections) -> CocoScores:
        return coco(truth, detections, ignored, max_detections)

    settings = _changed(PROTOCOLS["coco"], conf, iou, nms, resize, fit, size)
    network = partial(open_model, model, weights, names=names)
    _evaluate(
        *("coco", protocol, network, model, data, split, settings),
        *(operating_point, pictures, strict, as_json),
    )


def _changed(
    settings: DetectSettings, conf: float, iou: float, nms: str, resize: str, fit: str, size: str
) -> DetectSettings:
    """The settings of a protocol with the options of a command."""
    return replace(
        settings, conf=conf, iou=iou, nms=nms, resize=resize, fit=fit or None, size=parse_size(size)
    )


@app.command("voc")
def evaluate_voc(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    names: Names = None,
    split: Split = "",
    conf: Conf = 0.005,
    iou: Iou = 0.45,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "",
    size: Size = "",
    match_iou: MatchIou = 0.5,
    points: Annotated[str, typer.Option(help="area, or 11 (VOC 2007).")] = "area",
    difficult: Annotated[str, typer.Option(help="ignored or counted.")] = "ignored",
    operating_point: Wish = "",
    pictures: Pictures = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """PASCAL VOC's average precision."""
    from toolkit.evaluation.average_precision import voc
    from toolkit.evaluation.score import PROTOCOLS
    from toolkit.networks import open_model

    def protocol(truth: Truth, detections: Detections) -> MapScores:
        return voc(truth, detections, match_iou, points, difficult)

    settings = _changed(PROTOCOLS["voc"], conf, iou, nms, resize, fit, size)
    network = partial(open_model, model, weights, names=names)
    _evaluate(
        *("voc", protocol, network, model, data, split, settings),
        *(operating_point, pictures, strict, as_json),
    )


@app.command("darknet")
def evaluate_darknet(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    names: Names = None,
    split: Split = "",
    conf: Conf = 0.005,
    iou: Iou = 0.45,
    nms: Nms = "plain",
    resize: Resize = "darknet",
    fit: Fit = "",
    size: Size = "",
    match_iou: MatchIou = 0.5,
    points: Annotated[str, typer.Option(help="area (-points 0), 11 or 101.")] = "area",
    difficult: Annotated[
        str,
        typer.Option(
            help="dropped (not in the labels, as darknet's label script leaves them out); counted; ignored "
            "(difficult= in the .data file)."
        ),
    ] = "dropped",
    operating_point: Wish = "",
    pictures: Pictures = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """mAP of darknet's `detector map`: boxes are not clipped; its resize, its duplicates."""
    from toolkit.evaluation.average_precision import darknet
    from toolkit.evaluation.score import PROTOCOLS
    from toolkit.networks import open_model

    def protocol(truth: Truth, detections: Detections) -> MapScores:
        return darknet(truth, detections, match_iou, points, difficult)

    settings = _changed(PROTOCOLS["darknet"], conf, iou, nms, resize, fit, size)
    network = partial(open_model, model, weights, names=names)
    _evaluate(
        *("darknet", protocol, network, model, data, split, settings),
        *(operating_point, pictures, strict, as_json),
    )


@app.command("widerface")
def evaluate_widerface(
    model: Model = "",
    weights: Weights = None,
    names: Names = None,
    data: DataOption = "widerface_val",
    split: Split = "",
    conf: Conf = 0.005,
    iou: Iou = 0.45,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "",
    size: Size = "",
    protocol: Annotated[
        str,
        typer.Option(help="Network input: own, 640 (long side) or original (size of each picture)."),
    ] = "own",
    detections: Annotated[
        Path | None,
        typer.Option(help="Folder of score files in the official layout, in place of a network."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Folder for the detections, in the official layout.")
    ] = None,
    pictures: Pictures = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """WIDER FACE easy, medium and hard by the official protocol."""
    from toolkit.data.catalog import load_part
    from toolkit.evaluation.score import PROTOCOLS, WIDER_INPUTS, input_choices
    from toolkit.evaluation.score import evaluate_widerface as evaluate
    from toolkit.evaluation.widerface import check_writable, write_detections
    from toolkit.networks import open_model

    if bool(model) == bool(detections):
        raise InputError("name a network with --model or finished detections with --detections, one of them")
    settings = _changed(PROTOCOLS["widerface"], conf, iou, nms, resize, fit, size)
    faults = faults_of(strict)
    dataset = load_part(data, split, faults)
    if write is not None:
        check_writable(write, dataset.files[0])
    source = detections or open_model(model, weights, names=names)
    evaluation = evaluate(source, dataset, data, settings, protocol, faults)
    skipped = print_intake(dataset.intake) + evaluation.skipped
    if write is not None:
        write_detections(write, evaluation.truth, evaluation.detections)
    if pictures is not None:
        evaluation.draw(pictures)
    choices = {"split": split or "all"}
    if not isinstance(source, Path):
        choices |= input_choices(source.io, replace(settings, long_side=WIDER_INPUTS[protocol]))
    result = {"model": model, "data": data, "split": split, "input": protocol, **evaluation.scores.as_dict()}
    seconds = evaluation.seconds
    rows = [[name, f"{result[name]:.4f}"] for name in ("easy", "medium", "hard")]
    print_message(
        f"{len(evaluation.detections)} detections in {len(evaluation.truth)} pictures, "
        f"scored in {seconds:.2f} s"
    )
    print_answer(
        {**result, "choices": choices, "skipped": as_json_list(skipped), "evaluation_seconds": seconds},
        as_json,
        table(f"{model or detections}", ["", "AP"], rows + _choice_rows(choices)),
    )
    end_in_part(skipped)


@app.command("landmarks")
def evaluate_landmarks(
    model: Model = "",
    weights: Weights = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help=".npy of points (faces, points, 2) in pixels, in the order of the data set, in place of a "
            "network."
        ),
    ] = None,
    data: DataOption = "wflw98",
    split: Split = "",
    normaliser: Annotated[str, typer.Option(help="inter-ocular or box.")] = "inter-ocular",
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Normalised mean error, area under the error curve and failure rate of landmarks.

    Each face is cropped by the bounds of its labelled points. 106 points are mapped to 98 before scoring.
    """
    from toolkit.data.catalog import load_part
    from toolkit.evaluation import landmarks
    from toolkit.networks import open_landmarks

    if bool(model) == bool(predictions):
        raise InputError("name a network with --model or finished points with --predictions, one of them")
    faults = faults_of(strict)
    dataset = load_part(data, split, faults)
    if dataset.keypoints is None:
        raise InputError(f"{data} has no landmarks: nothing to evaluate")
    if predictions is None:
        scores = landmarks.score(open_landmarks(model, weights), dataset, normaliser, faults=faults)
    else:
        scores = landmarks.score_points(landmarks.read_points(predictions), dataset, normaliser)
    if scores.left_out:
        print_message(f"{scores.left_out} faces without the points of the {normaliser} length are skipped")
    skipped = print_intake(dataset.intake) + scores.skipped
    choices = {"split": split or "all", "normaliser": normaliser, "crop": "bounds of the labelled points"}
    result = {**scores.as_dict(), "choices": choices, "skipped": as_json_list(skipped)}
    rows = [[k, f"{v:.4f}"] for k, v in result.items() if isinstance(v, float)] + _choice_rows(choices)
    print_answer(result, as_json, table(f"landmarks on {data}", ["", ""], rows))
    end_in_part(skipped)
