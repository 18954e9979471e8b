"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from toolkit.runtime import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; messages go to stderr.")]
Model = Annotated[
    str, typer.Option(help="A network of the zoo, a darknet .cfg, or an exported folder (FOLDER:FORMAT).")
]
Weights = Annotated[
    Path | None, typer.Option(help="A .weights or .pt file (default: the published weights).")
]
Size = Annotated[
    str, typer.Option(help="Network input, one side or WIDTHxHEIGHT (default: the network's own).")
]
Devices = Annotated[
    list[str],
    typer.Option("--device", help="adb, adb:SERIAL, ssh:user@host[:port] or local; may be repeated."),
]
Loops = Annotated[int, typer.Option(min=1, help="Timed loops, after 8 warm-up loops.")]
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
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--size takes one side or WIDTHxHEIGHT such as 352x288, not {text!r}")
    return int(sides[0]), int(sides[-1])


Strict = Annotated[
    bool, typer.Option("--strict", help="Stop with exit code 2 at the first fault instead of skipping it.")
]


def faults_of(strict: bool) -> Literal["skip", "refuse"]:
    """What readers do about faults, by --strict."""
    return "refuse" if strict else "skip"


Data = Annotated[str, typer.Argument(help="A data set by name (a card in datasets/) or by path.")]
Format = Annotated[
    str,
    typer.Option(
        help="coco, voc, yolo, label-studio, cvat, labelme, createml, via, fiftyone, kitti, table, "
        "widerface, retinaface, landmarks, face-crops or folder (default: detected)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing data set.")]
DataOption = Annotated[str, typer.Option(help="A data set by name (a card in datasets/) or by path.")]
Split = Annotated[str, typer.Option(help="One split only.")]
Conf = Annotated[float, typer.Option(help="Score threshold, 0..1.")]
Nms = Annotated[str, typer.Option(help="plain or diou.")]
Resize = Annotated[str, typer.Option(help="bilinear or darknet.")]
Fit = Annotated[str, typer.Option(help="stretch or letterbox.")]
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
            raise InputError(f"--score takes NETWORK=SCORE such as fastest-v2=0.50, not {text!r}") from None
    return scores


def parse_whole_numbers(option: str, text: str, least: int, most: int) -> list[int]:
    parts = text.split(",")
    if not all(part.isdigit() and least <= int(part) <= most for part in parts):
        raise InputError(f"{option} takes whole numbers from {least} to {most}, by commas, not {text!r}")
    return [int(part) for part in parts]
