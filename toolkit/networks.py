"""The one door to a network: by name, cfg, checkpoint or exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.export.folder import open_export
from toolkit.models.darknet.network import load_darknet
from toolkit.models.network import Detecting, Landmarking
from toolkit.models.zoo import create_model, has_published_weights, list_models
from toolkit.runtime import InputError
from toolkit.training.checkpoint import trained


def open_model(source: str, weights: str | Path | None = None, threads: int = 0) -> Detecting:
    """The detector that `open_network` finds. Raises InputError where it is none."""
    network = open_network(source, weights, threads)
    if network.io.task != "detection":
        raise InputError(
            f"{source} places landmarks and finds no objects: name one of "
            f"{', '.join(list_models('detection'))}, a .cfg file or an exported detector"
        )
    return network


def open_landmarks(source: str, weights: str | Path | None = None, threads: int = 0) -> Landmarking:
    """The landmark network that `open_network` finds. Raises InputError where it is none."""
    network = open_network(source, weights, threads)
    if network.io.task != "landmarks":
        raise InputError(
            f"{source} finds objects and places no landmarks: name {', '.join(list_models('landmarks'))} or "
            "an exported landmark network"
        )
    return network


def open_network(source: str, weights: str | Path | None = None, threads: int = 0) -> Any:
    """What people name on the command line, a `Detecting` or a `Landmarking`:

    a network of the zoo (`fastest-v2`; published weights where there are any and none are given), a darknet
    .cfg (with the .weights and .names of its name, or the only .names, beside it), a checkpoint of a training
    (`RUN/best.pt`), or an exported folder, `FOLDER` or `FOLDER:FORMAT`.
    """
    if source in list_models():
        if weights is None and has_published_weights(source):
            weights = "published"
        if weights is None:
            raise InputError(f"{source} has no published weights: name a .weights or .pt file with --weights")
        return create_model(source, weights)
    path, _, fmt = source.partition(":")
    if Path(path).suffix == ".cfg":
        beside = Path(path).with_suffix(".weights")
        if weights is None and not beside.is_file():
            raise InputError(f"there is no {beside} beside the cfg: name the weights with --weights")
        named = Path(path).with_suffix(".names")
        others = list(Path(path).parent.glob("*.names"))
        names = named if named.is_file() else others[0] if len(others) == 1 else None
        return load_darknet(path, weights or beside, names)
    if Path(path).suffix == ".pt" and weights is None:
        return trained(path).eval()
    if Path(path).is_dir():
        if weights is not None:
            raise InputError(f"{path} is an exported network and has its weights: leave --weights out")
        return open_export(path, fmt, threads)
    raise InputError(
        f"{source!r} is no network: expected one of {', '.join(list_models())}, a .cfg or .pt file or an "
        "exported folder"
    )
