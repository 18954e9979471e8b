"""Options that several commands share."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from toolkit.runtime import InputError
from toolkit.text import short

# One option, one meaning: a name of an option below is used with these texts and types in every command
# (tests/test_cli.py walks them all).
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; messages go to stderr.")]


MOST_SEED = 2**63 - 1
MODEL = "A network of the zoo, a darknet .cfg, the folder of a run, or an exported folder (FOLDER:FORMAT)."


def model_option(default: str = "", text: str = MODEL) -> Any:
    """--model; here and below, `default` is what the command takes where the option is left out."""
    return typer.Option("--model", help=text, show_default=default or True)


def weights_option(default: str = "", names: str = "published") -> Any:
    text = f"{names}, or a file: .weights, .conv.N or .pt; of a landmark network .caffemodel, .param or .pt."
    return typer.Option("--weights", help=text, show_default=default or True)


def data_option(default: str = "") -> Any:
    return typer.Option("--data", help=DATA, show_default=default or True)


def output_option(default: str = "") -> Any:
    text = "Folder for the results; created if missing."
    return typer.Option("--output", help=text, show_default=default or True)


DATA = "A data set by name (a card in datasets/) or by path."
Data = Annotated[str, typer.Argument(help=DATA)]
DataOption = Annotated[str, data_option()]
Model = Annotated[str, model_option()]
Exports = Annotated[list[Path], typer.Option("--model", help="An exported folder; may be repeated.")]
Weights = Annotated[str | None, weights_option("published, or those next to the cfg")]
Names = Annotated[
    Path | None,
    typer.Option("--names", help="Class names of a .cfg, one a line (default: a .names file that fits it)."),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial", help="Load darknet weights as far as they go; the layer where they end is named."
    ),
]
Size = Annotated[
    str, typer.Option("--size", help="Network input, one side or WIDTHxHEIGHT (default: the network's own).")
]
Conf = Annotated[float, typer.Option("--conf", min=0, max=1, help="Score threshold, 0..1.")]
Iou = Annotated[float, typer.Option("--iou", min=0, max=1, help="IoU threshold of NMS, 0..1.")]
Nms = Annotated[str, typer.Option("--nms", help="plain or diou (newer darknet's greedynms).")]
Resize = Annotated[str, typer.Option("--resize", help="bilinear (OpenCV) or darknet (exact).")]
Fit = Annotated[str, typer.Option("--fit", help="stretch or letterbox (default: the network's own).")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop with exit code 2 at the first fault instead of skipping it.")
]
Split = Annotated[str, typer.Option("--split", help="One split only.")]
Devices = Annotated[
    list[str],
    typer.Option("--device", help="adb, adb:SERIAL, ssh:user@host[:port], local or browser; repeatable."),
]
Loops = Annotated[int, typer.Option(min=1, max=500_000, help="Timed loops, after 8 warm-up loops.")]
Picture = Annotated[Path | None, typer.Option(help="Input picture (default: scikit-image's astronaut).")]
SshConfig = Annotated[Path | None, typer.Option(help="SSH configuration file (default: ~/.ssh/config).")]
Scores = Annotated[list[str] | None, typer.Option("--score", help="NETWORK=SCORE; may be repeated.")]


def drawable(path: Path | None) -> Path | None:
    from toolkit.pictures import check_drawing

    return path and check_drawing(path)


def parse_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(re.fullmatch("[0-9]{1,5}", side) for side in sides):
        raise InputError(f"--size takes one side or WIDTHxHEIGHT such as 352x288, not {short(text)}")
    return int(sides[0]), int(sides[-1])


def faults_of(strict: bool) -> Literal["skip", "refuse"]:
    """What readers do about faults, by --strict."""
    return "refuse" if strict else "skip"


Format = Annotated[
    str,
    typer.Option(
        help="coco, voc, yolo, label-studio, cvat, labelme, createml, via, fiftyone, kitti, table, "
        "widerface, retinaface, landmarks, face-crops or folder (default: detected)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing data set.")]
Pictures = Annotated[Path | None, typer.Option(help="Folder for precision-recall, confusion and failures.")]
Wish = Annotated[
    str,
    typer.Option(
        help="Threshold criterion: precision=.9, recall=.8, fp=.1 (false positives per picture) or f1; "
        "the threshold is written to spec.json of an exported network."
    ),
]


def parse_scores(texts: list[str] | None) -> dict[str, float]:
    scores = {}
    for text in texts or []:
        name, _, value = text.rpartition("=")
        try:
            scores[name] = float(value)
        except ValueError:
            scores[name] = math.nan
        if not math.isfinite(scores[name]):
            raise InputError(f"--score takes NETWORK=SCORE such as fastest-v2=0.50, not {short(text)}")
    return scores


def parse_whole_numbers(option: str, text: str, least: int, most: int) -> list[int]:
    parts = text.split(",")
    if not all(re.fullmatch("[0-9]{1,9}", part) and least <= int(part) <= most for part in parts):
        raise InputError(f"{option} takes whole numbers from {least} to {most}, by commas, not {short(text)}")
    return [int(part) for part in parts]
