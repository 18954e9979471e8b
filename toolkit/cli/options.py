"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.runtime import InputError

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
Devices = Annotated[
    list[str],
    typer.Option("--device", help="adb, adb:SERIAL, ssh:user@host[:port] or local; may be repeated."),
]
Loops = Annotated[int, typer.Option(min=1, help="Timed loops, after 8 others.")]
Picture = Annotated[Path | None, typer.Option(help="What to look at; scikit-image's astronaut unless given.")]
SshConfig = Annotated[Path | None, typer.Option(help="Instead of ~/.ssh/config.")]
Scores = Annotated[list[str] | None, typer.Option("--score", help="NETWORK=SCORE; may be repeated.")]


def drawable(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in (".png", ".jpg", ".pdf", ".svg"):
        raise InputError(f"a drawing is a .png, .jpg, .pdf or .svg file, not {path.name}")
    return path


def parse_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--size takes one side or WIDTHxHEIGHT such as 352x288, not {text!r}")
    return int(sides[0]), int(sides[-1])


Data = Annotated[str, typer.Argument(help="A data set by name (a card in datasets/) or by path.")]
Format = Annotated[
    str, typer.Option(help="coco, voc, yolo, widerface, landmarks, label-studio; found out unless given.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a data set that lies there.")]
DataOption = Annotated[str, typer.Option(help="A data set by name (a card in datasets/) or by path.")]
Split = Annotated[str, typer.Option(help="One split only.")]
Conf = Annotated[float, typer.Option(help="Threshold on the score, 0..1.")]
Nms = Annotated[str, typer.Option(help="plain or diou.")]
Resize = Annotated[str, typer.Option(help="bilinear or darknet.")]
Fit = Annotated[str, typer.Option(help="stretch or letterbox.")]
Pictures = Annotated[Path | None, typer.Option(help="Folder for precision-recall, confusion and failures.")]
Wish = Annotated[
    str,
    typer.Option(
        help="precision=.9, recall=.8, fp=.1 (false positives per picture) or f1: the threshold for it, "
        "written into spec.json of an exported network."
    ),
]


def parse_scores(texts: list[str] | None) -> dict[str, float]:
    found = {}
    for text in texts or []:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(f"--score takes NETWORK=SCORE such as fastest-v2=0.50, not {text!r}") from None
    return found


def parse_whole_numbers(option: str, text: str, least: int, most: int) -> list[int]:
    parts = text.split(",")
    if not all(part.isdigit() and least <= int(part) <= most for part in parts):
        raise InputError(f"{option} takes whole numbers from {least} to {most}, by commas, not {text!r}")
    return [int(part) for part in parts]
