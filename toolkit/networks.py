"""The one door to a network: by name, cfg, checkpoint or exported folder."""

from __future__ import annotations

from pathlib import Path

from toolkit.export.folder import open_export
from toolkit.export.parity import DarknetReference, Parity, layer_parity, probe_input
from toolkit.inference.preprocess import preprocess
from toolkit.models.darknet.network import load_darknet
from toolkit.models.network import Detecting, Landmarking, Network, finds_objects, places_landmarks
from toolkit.models.zoo import create_model, has_published_weights, list_models
from toolkit.pictures import load_image
from toolkit.runtime import InputError
from toolkit.training.checkpoint import trained


def open_network(source: str, weights: str | Path | None = None, threads: int = 0) -> Network:
    """Opens what people name on the command line.

    Args:
        source: a network of the zoo (`fastest-v2`), a darknet .cfg (with the .weights and .names of its name,
            or the only .names, next to it), a checkpoint of a training (`RUN/best.pt`), or an exported
            folder, `FOLDER` or `FOLDER:FORMAT`.
        weights: of a zoo network or cfg; the published ones of a zoo network unless given.
        threads: of an exported network's engine; 0 leaves the choice to it.

    Returns:
        A network with `io` and `predict`; a detector also has `find`.

    Raises:
        InputError: there is no such network, or its weights are missing or do not fit.
    """
    if source in list_models():
        if weights is None and has_published_weights(source):
            weights = "published"
        if weights is None:
            raise InputError(f"{source} has no published weights: name a .weights or .pt file with --weights")
        return create_model(source, weights)
    path, _, fmt = source.partition(":")
    if Path(path).suffix == ".cfg":
        own_weights, own_names = Path(path).with_suffix(".weights"), Path(path).with_suffix(".names")
        if weights is None and not own_weights.is_file():
            raise InputError(f"there is no {own_weights} next to the cfg: name the weights with --weights")
        others = list(Path(path).parent.glob("*.names"))
        names = own_names if own_names.is_file() else others[0] if len(others) == 1 else None
        return load_darknet(path, weights or own_weights, names)
    if Path(path).suffix == ".pt" and weights is None:
        return trained(path).eval()
    if Path(path).is_dir():
        if weights is not None:
            raise InputError(f"{path} is an exported network and has its weights: leave --weights out")
        return open_export(path, fmt, threads)
    raise InputError(
        f"{source!r} is not a network: expected one of {', '.join(list_models())}, a .cfg or .pt file or an "
        "exported folder"
    )


def open_model(source: str, weights: str | Path | None = None, threads: int = 0) -> Detecting:
    """Opens a detector, as `open_network`. Raises InputError also where the network is not a detector."""
    network = open_network(source, weights, threads)
    if not finds_objects(network):
        raise InputError(
            f"{source} places landmarks and finds no objects: name one of "
            f"{', '.join(list_models('detection'))}, a .cfg file or an exported detector"
        )
    return network


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
    first: str, second: str, weights: str | Path | None = None, image: str | Path | None = None
) -> Parity:
    """Opens two networks, or a darknet reference (.npz) in place of one, and compares them layer by layer.

    Args:
        first, second: as for `open_network`, or a .npz with darknet's own outputs.
        weights: of the zoo network or cfg among them.
        image: what both see; a photograph unless given. A reference has an input of its own.

    Raises:
        InputError: a side cannot be opened, both are references, or they are two networks.
    """
    own = [name if name in list_models() or name.endswith(".cfg") else "" for name in (first, second)]
    sides: list[Network | DarknetReference] = [
        DarknetReference(name) if name.endswith(".npz") else open_network(name, weights if zoo else None)
        for name, zoo in zip((first, second), own, strict=True)
    ]
    ios = [side.io for side in sides if not isinstance(side, DarknetReference)]
    if not ios:
        raise InputError("two darknet references cannot be run: name a network on one side")
    x = None
    if len(ios) == len(sides):
        x = probe_input(ios[0]) if image is None else preprocess(load_image(image), ios[0])[0][None]
    return layer_parity(sides[0], sides[1], x, (Path(first).name, Path(second).name))
