"""The one door to a network: by name, cfg, checkpoint or exported folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from toolkit.export.folder import open_export, split_format
from toolkit.export.parity import DarknetReference, Parity, layer_parity, probe_input
from toolkit.inference.preprocess import preprocess
from toolkit.models.darknet.cfg import is_cfg
from toolkit.models.darknet.names import find_names
from toolkit.models.darknet.network import CfgDetector, load_darknet
from toolkit.models.darknet.weights import load_weights
from toolkit.models.detector import Detector
from toolkit.models.io import ModelIO, NetworkIO
from toolkit.models.network import Detecting, Landmarking, Network, finds_objects, places_landmarks
from toolkit.models.zoo import ZOO, create_model, list_models
from toolkit.pictures import load_image
from toolkit.runtime import InputError
from toolkit.samples import untrained
from toolkit.training.checkpoint import trained

PUBLISHED = "published"


def open_network(
    source: str,
    weights: str | Path | None = None,
    threads: int = 0,
    names: str | Path | None = None,
    partial: bool = False,
) -> Network:
    """Opens what people name on the command line.

    Args:
        source: a network of the zoo (`fastest-v2`), a darknet .cfg (with the .weights of its name next to
            it), a checkpoint of a training (`RUN/best.pt`), or an exported folder, `FOLDER` or
            `FOLDER:FORMAT`.
        weights: of a zoo network or cfg: a file, or "published" for those of a zoo network, which are also
            taken unless weights are given.
        threads: of an exported network's engine; 0 leaves the choice to it.
        names: file with a class name per line, of a cfg. Where it is not given, the one file that
            `darknet.names.find_names` finds; the choice is printed on stderr.
        partial: load a darknet weights file as far as it goes, such as yolov4-tiny.conv.29; where it ends is
            printed on stderr.

    Returns:
        A network with `io` and `predict`; a detector also has `find`.

    Raises:
        InputError: there is no such network, or its weights or names are missing or do not fit.
    """
    path, fmt = split_format(source)
    if names is not None and not is_cfg(path):
        raise InputError(f"{source} has its class names: --names belongs to a .cfg")
    if source in list_models():
        return _of_zoo(source, weights or PUBLISHED, partial)
    if is_cfg(path):
        return _of_cfg(Path(path), weights, names, partial)
    if Path(path).suffix == ".pt":
        _check_no_weights(path, "a checkpoint", weights)
        return trained(path).eval()
    if Path(path).is_dir():
        _check_no_weights(path, "an exported network", weights)
        return open_export(path, fmt, threads)
    raise InputError(
        f"{source!r} is not a network: expected one of {', '.join(list_models())}, a .cfg or .pt file or an "
        "exported folder"
    )


def _check_no_weights(path: str, kind: str, weights: str | Path | None) -> None:
    if weights is not None:
        raise InputError(f"{path} is {kind} and has its weights: leave --weights out")


def _of_zoo(name: str, weights: str | Path, partial: bool) -> Network:
    weights = PUBLISHED if str(weights) == PUBLISHED else weights
    if not partial or weights == PUBLISHED:
        return create_model(name, weights)
    model = create_model(name)
    if not isinstance(model, Detector):
        raise InputError(f"{name} has no darknet weights: leave --partial out")
    load_weights(model, weights, partial)
    _tell_extent(model, weights, partial)
    return model


def _tell_extent(model: Detector, weights: str | Path, partial: bool) -> None:
    if partial:
        print(f"{weights}: {model.loaded}", file=sys.stderr)


def _of_cfg(cfg: Path, weights: str | Path | None, names: str | Path | None, partial: bool) -> CfgDetector:
    own = cfg.with_suffix(".weights")
    if str(weights) == PUBLISHED:
        raise InputError(
            f"published weights belong to the networks of the zoo ({', '.join(list_models())}): name the "
            f".weights file of {cfg} with --weights"
        )
    if weights is None and cfg.is_file() and not own.is_file():
        raise InputError(f"there is no {own} next to the cfg: name the weights with --weights")
    model = load_darknet(cfg, weights or own, names, partial)
    _tell_extent(model, weights or own, partial)
    if names is None:
        _name_classes(model, cfg)
    kinds = sorted({section.options.get("nms_kind", "default") for section in model.sections} - {"default"})
    if kinds:
        print(
            f"{cfg.name} has nms_kind={', '.join(kinds)}, which is not followed: suppression is plain unless "
            "--nms diou is given",
            file=sys.stderr,
        )
    return model


def _name_classes(model: CfgDetector, cfg: Path) -> None:
    """The names of the file that belongs to the cfg; said on stderr, as is their lack."""
    count = len(model.io.classes)
    found = find_names(cfg, count)
    if found.names:
        model.io = replace(model.io, classes=found.names)
        print(found.sentence, file=sys.stderr)
        return
    last = f" to class{count - 1}" * (count > 1)
    print(
        f"{found.sentence}: the classes are called class0{last}; name their file with --names",
        file=sys.stderr,
    )


def network_io(source: str, names: str | Path | None = None) -> NetworkIO:
    """The `io` of a network of the zoo, a cfg (its weights are not needed), checkpoint or exported folder.

    Raises InputError as `open_network`.
    """
    if is_cfg(source):
        with torch.device("meta"):  # its weights are not needed
            model = load_darknet(source, None, names)
        if names is None:
            _name_classes(model, Path(source))
        return model.io
    if source in list_models():
        return ZOO[source].io
    return open_network(source, names=names).io


def detector_io(source: str, names: str | Path | None = None) -> ModelIO:
    """As `network_io`. Raises InputError also where the network is not a detector."""
    io = network_io(source, names)
    if not isinstance(io, ModelIO):
        raise _no_detector(source)
    return io


def open_model(
    source: str,
    weights: str | Path | None = None,
    threads: int = 0,
    names: str | Path | None = None,
    partial: bool = False,
) -> Detecting:
    """Opens a detector, as `open_network`. Raises InputError also where the network is not a detector."""
    network = open_network(source, weights, threads, names, partial)
    if not finds_objects(network):
        raise _no_detector(source)
    return network


def _no_detector(source: str) -> InputError:
    return InputError(
        f"{source} places landmarks and finds no objects: name one of "
        f"{', '.join(list_models('detection'))}, a .cfg file or an exported detector"
    )


def open_landmarks(source: str, weights: str | Path | None = None, threads: int = 0) -> Landmarking:
    """Opens a landmark network, as `open_network`. Raises InputError also where it is a detector."""
    network = open_network(source, weights, threads)
    if not places_landmarks(network):
        raise InputError(
            f"{source} finds objects and places no landmarks: name {', '.join(list_models('landmarks'))} or "
            "an exported landmark network"
        )
    return network


def compare_networks(
    first: str,
    second: str,
    weights: str | Path | None = None,
    image: str | Path | None = None,
    names: str | Path | None = None,
    partial: bool = False,
) -> Parity:
    """Opens two networks, or a darknet reference (.npz) in place of one, and compares them layer by layer.

    Args:
        first, second: as for `open_network`, or a .npz with darknet's own outputs.
        weights: of the zoo network or cfg among them, as for `open_network`.
        image: what both see; a photograph unless given. A reference has an input of its own.
        names: class names of the cfg among them.
        partial: load the weights as far as they go; the layers behind are drawn alike on both sides.

    Raises:
        InputError: a side cannot be opened, both are references, or none of them takes the weights.
    """
    if names is not None and not any(is_cfg(source) for source in (first, second)):
        raise InputError("--names belongs to a .cfg, and neither network is one")
    _check_takers((first, second), weights, partial)
    sides: list[Network | DarknetReference] = [
        DarknetReference(source)
        if source.endswith(".npz")
        else _open_alike(source, _options_of(source, weights, names, partial))
        for source in (first, second)
    ]
    ios = [side.io for side in sides if not isinstance(side, DarknetReference)]
    if not ios:
        raise InputError("two darknet references cannot be run: name a network on one side")
    x = None
    if len(ios) == len(sides):
        x = probe_input(ios[0]) if image is None else preprocess(load_image(image), ios[0])[0][None]
    return layer_parity(sides[0], sides[1], x, (Path(first).name, Path(second).name))


def _check_takers(sources: tuple[str, str], weights: str | Path | None, partial: bool) -> None:
    """InputError for weights that no side of a comparison takes."""
    zoo = any(source in list_models() for source in sources)
    cfg = any(is_cfg(source) for source in sources)
    if str(weights) == PUBLISHED and not zoo:
        raise InputError(
            "published weights belong to a network of the zoo, and neither side is one: leave --weights out"
        )
    if (weights is not None or partial) and not (zoo or cfg):
        option = "--partial" if weights is None else "--weights"
        raise InputError(
            f"{option} belongs to a network of the zoo or a .cfg, and neither side is one: leave it out"
        )


def _open_alike(source: str, options: dict[str, Any]) -> Network:
    """`open_network`, with the same draw for layers that a partial file does not reach."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return open_network(source, **options)


def _options_of(
    source: str, weights: str | Path | None, names: str | Path | None, partial: bool
) -> dict[str, Any]:
    """Those of the options of `open_network` that a side of a comparison can take."""
    if is_cfg(source):
        published = str(weights) == PUBLISHED  # of the other side
        return {"weights": None if published else weights, "names": names, "partial": partial}
    return {"weights": weights, "partial": partial} if source in list_models() else {}


def open_or_untrained(source: str) -> tuple[Detecting, str]:
    """As `open_model`; where weights cannot be fetched, the network of the zoo with random ones, so that a
    notebook goes on without a network connection.

    Args:
        source: as of `open_network`.

    Returns:
        The detector, and "" or why its weights are random.

    Raises:
        InputError: the source is not a network of the zoo, and as `open_model`.
    """
    try:
        return open_model(source), ""
    except InputError as error:
        if source not in list_models("detection"):
            raise
        return untrained(source), f"Random weights, so its boxes mean nothing: {error}"
