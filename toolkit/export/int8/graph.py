"""The layers of an ncnn network as a graph: who writes a blob and who reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from toolkit.models.ncnn_file import Layer

ACTIVATION, LEAKY, SIGMOID = "9", "2", "4"
LINEAR_FROM_0 = ("0", "1", LEAKY)  # none, ReLU, leaky ReLU: f(s x) = s f(x) for s > 0
DEPTHWISE = "ConvolutionDepthWise"
CONVOLUTIONS = ("Convolution", DEPTHWISE)


def followed_layers(layers: Sequence[Layer], quantised: Collection[str]) -> set[str]:
    """The blobs that lead to an int8 layer."""
    followed: set[str] = set()
    for layer in reversed(layers):
        if layer.name in quantised or followed.intersection(layer.outputs):
            followed.update(layer.inputs)
    return followed


def channels_read(layer: Layer) -> int:
    """Of a convolution's input."""
    if layer.kind == DEPTHWISE or layer.weight is None:
        return int(layer.options["7"])
    width = int(layer.options["1"])
    window = width * int(layer.options.get("11", width))
    return int(layer.weight.shape[1] // window)


def scales_through(layer: Layer) -> bool:
    """Whether weights and bias times s > 0 give the output times s."""
    return layer.weight is not None and layer.options.get(ACTIVATION, "0") in LINEAR_FROM_0


def source_of(layers: Iterable[Layer]) -> dict[str, str]:
    """Blob -> the blob of which it is a copy (behind a Split), or itself."""
    source: dict[str, str] = {}
    for layer in layers:
        for blob in layer.outputs:
            source[blob] = source[layer.inputs[0]] if layer.kind == "Split" else blob
    return source


def readers_of(layers: Iterable[Layer]) -> dict[str, list[Layer]]:
    """Source blob -> the layers that read it, one of kind "Output" where it is an output of the network."""
    layers = list(layers)
    source = source_of(layers)
    read = {blob for layer in layers for blob in layer.inputs}
    results = [Layer("Output", blob, (blob,), (), {}) for blob in source if blob not in read]
    readers: dict[str, list[Layer]] = {blob: [] for blob in source.values()}
    for layer in (*layers, *results):
        if layer.kind != "Split":
            for blob in layer.inputs:
                readers[source[blob]].append(layer)
    return readers
