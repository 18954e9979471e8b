"""The published networks by name, as specs, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from toolkit.models.bounds import MOST_VALUES, MOST_WEIGHTS, check_memory
from toolkit.models.cost import TRACING
from toolkit.models.darknet.stored import is_partial
from toolkit.models.darknet.weights import load_weights
from toolkit.models.detector import SpecDetector
from toolkit.models.landmarks import (
    LANDMARK_SPECS,
    LandmarkNet,
    LandmarkSpec,
    change_landmarks,
    load_landmark_weights,
)
from toolkit.models.pt_file import check_fit, read_pt
from toolkit.models.published import fetch, published_files
from toolkit.models.spec import (
    SE,
    Conv,
    Depthwise,
    DetectorSpec,
    Head,
    HeadLayer,
    Neck,
    Residual,
    Stage,
    Stem,
    WrongKind,
    change,
)
from toolkit.runtime import InputError
from toolkit.text import short

VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow "
    "diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor"
).split()


COCO = (
    "person,bicycle,car,motorbike,aeroplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,"
    "tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,"
    "tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,"
    "hot dog,pizza,donut,cake,chair,sofa,pottedplant,bed,diningtable,toilet,tvmonitor,laptop,mouse,remote,"
    "keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush"
).split(",")


VOC_ANCHORS = ((26, 48), (67, 84), (72, 175), (189, 126), (137, 236), (265, 259))


COCO_ANCHORS = ((12, 18), (37, 49), (52, 132), (115, 74), (119, 199), (243, 238))


SPP_ANCHORS = (
    (13, 20),
    (34, 47),
    (48, 117),
    (100, 56),
    (130, 129),
    (79, 229),
    (265, 166),
    (163, 294),
    (328, 341),
)


FACE_ANCHORS = ((4, 6), (7, 10), (11, 15), (16, 24), (33, 25), (26, 41), (47, 60), (83, 97), (141, 149))


FACE_SE_ANCHORS = (
    *((4, 6), (6, 9), (8, 13), (12, 10), (13, 19), (19, 25)),
    *((26, 42), (38, 28), (42, 60), (71, 76), (101, 122), (162, 163)),
)


# fmt: off
LITE_BACKBONE = (Stem(32, 16, expand=True), (
    Stage(96, 24, 144, 1), Stage(144, 32, 192, 2), Stage(192, 64, 384, 3, stride=1),
    Stage(384, 96, 576, 2), Stage(576, 160, 960, 2)))


NANO_BACKBONE = (Stem(16, 8), (
    Stage(48, 12, 72, 1), Stage(72, 16, 96, 2), Stage(96, 32, 192, 3),
    Stage(192, 48, 288, 2, stride=1), Stage(288, 80, 480, 2)))


FASTEST_BACKBONE = (Stem(8, 4), (
    Stage(24, 6, 36, 1), Stage(36, 8, 48, 2), Stage(48, 16, 96, 3),
    Stage(96, 24, 144, 2, stride=1), Stage(144, 40, 240, 2)))


CSP_BACKBONE = (Stem(8, 4), (
    Stage(18, 6, 36, 1, csp=2), Stage(24, 8, 48, 2, csp=2), Stage(48, 16, 96, 3, csp=2),
    Stage(96, 24, 144, 2, csp=2)))


LITE_BODIES = ((Conv(288), Depthwise(), Conv(96), Conv(384)),
               (Conv(80), Conv(288), Depthwise(), Conv(192), Conv(288)))


FASTEST_BODIES = ((Conv(144), Depthwise(), Conv(48), Conv(144)),
                  (Conv(40), Conv(96), Depthwise(), Conv(48), Conv(96)))


def _spec(
    name: str,
    size: tuple[int, int],
    classes: Sequence[str],
    backbone: tuple[Stem, tuple[Stage, ...]],
    anchors: tuple[tuple[int, int], ...],
    bodies: tuple[tuple[HeadLayer, ...], ...],
    scales: tuple[float, ...] | None = None,
    taps: tuple[int, ...] | None = None,
    reduce: tuple[int, ...] | None = None,
    spp: tuple[int, ...] = (),
    top: int = 0,
    activation: str = "relu",
) -> DetectorSpec:
    """A spec with three anchors per head. `anchors` are sorted from small to large; `bodies`, `scales`,
    `taps` and `reduce` start with the coarsest head."""
    count = len(bodies)
    heads = tuple(
        Head(
            anchors=anchors[3 * (count - 1 - i) : 3 * (count - i)],
            body=body,
            scale_x_y=scales[i] if scales else 1.0,
            reduce=reduce[i] if reduce else 0,
            tap=taps[i] if taps else 0,
        )
        for i, body in enumerate(bodies)
    )
    return DetectorSpec(
        name, size, tuple(classes), *backbone, heads, Neck(spp=spp, top=top), activation=activation
    )


def _published() -> list[DetectorSpec]:
    side = (320, 320)
    face = ["face"]
    dw = Depthwise()
    pool = (3, 5, 9)
    scales = (1.1, 1.05)
    return [
        _spec("lite-voc", side, VOC, LITE_BACKBONE, VOC_ANCHORS, LITE_BODIES, spp=pool),
        _spec("lite-coco", side, COCO, LITE_BACKBONE, COCO_ANCHORS, LITE_BODIES, spp=pool),
        _spec("nano-voc", side, VOC, NANO_BACKBONE, VOC_ANCHORS, LITE_BODIES, scales, spp=pool),
        _spec("nano-coco", side, COCO, NANO_BACKBONE, COCO_ANCHORS, LITE_BODIES, scales, spp=pool),
        _spec(
            "spp-coco",
            (416, 416),
            COCO,
            LITE_BACKBONE,
            SPP_ANCHORS,
            (
                (Conv(160, linear=True), Residual(960), Conv(960), dw, Conv(320, linear=True), Conv(1280)),
                (Conv(96), Residual(576), Residual(576), Conv(480), dw, Conv(160, linear=True), Conv(640)),
                (
                    *(Conv(64), Residual(384), Conv(64), Residual(384), Conv(64), Residual(384)),
                    *(Conv(240), dw, Conv(80, linear=True), Conv(320)),
                ),
            ),
            scales=(1.05, 1.1, 1.2),
            taps=(2, 3, 0),
            reduce=(0, 256, 128),
            spp=(5, 9, 13),
        ),
        _spec("fastest-v1", side, VOC, FASTEST_BACKBONE, VOC_ANCHORS, FASTEST_BODIES, scales, spp=pool),
        _spec(
            "fastest-v2",
            side,
            VOC,
            CSP_BACKBONE,
            VOC_ANCHORS,
            (
                (Conv(72), SE(2), dw, Conv(144), dw, Conv(288)),
                (Conv(48), SE(2), dw, Conv(96), dw, Conv(192)),
            ),
            scales,
        ),
        _spec(
            "yoloface-500k-v1",
            (320, 256),
            face,
            FASTEST_BACKBONE,
            FACE_ANCHORS,
            ((Conv(48), dw, Conv(36)), (Conv(24), dw, Conv(30)), (Conv(18), dw, Conv(24))),
            top=80,
        ),
        _spec(
            "yoloface-500k-se",
            (320, 256),
            face,
            FASTEST_BACKBONE,
            FACE_SE_ANCHORS,
            (
                (Conv(72), dw, Conv(48)),
                (Conv(48), SE(2), dw, Conv(36)),
                (Conv(24), SE(2), dw, Conv(30)),
                (Conv(18), SE(2), dw, Conv(24)),
            ),
        ),
        _spec(
            "yoloface-500k-v2",
            (352, 288),
            face,
            CSP_BACKBONE,
            FACE_ANCHORS,
            (
                (Conv(72), SE(2), dw, Conv(48)),
                (Conv(48), SE(2), dw, Conv(36)),
                (Conv(24), SE(2), dw, Conv(30)),
            ),
        ),
        _spec(
            "yoloface-100k",
            (112, 112),
            face,
            (
                Stem(8, 4),
                (
                    Stage(18, 6, 36, 1, csp=2),
                    Stage(24, 8, 40, 2, csp=2),
                    Stage(40, 16, 80, 3, csp=2),
                ),
            ),
            ((21, 28), (34, 49), (61, 77)),
            ((Conv(40), dw),),
        ),
        _spec(
            "yoloface-50k",
            (56, 56),
            face,
            (Stem(8, 4), (Stage(18, 6, 36, 1, csp=8), Stage(24, 8, 40, 2, csp=4))),
            ((9, 14), (12, 17), (22, 21)),
            ((Conv(40), dw, Conv(32)),),
            activation="leaky",
        ),
    ]


def _own() -> list[DetectorSpec]:
    """Trained by this project, each from the weights of a network that it changes."""
    faces = next(spec for spec in _published() if spec.name == "yoloface-500k-v2")
    small = (
        Stage(18, 6, 24, 1, csp=2),
        Stage(24, 8, 36, 2, csp=2),
        Stage(48, 16, 72, 2, csp=2, se=4),
        Stage(96, 24, 108, 1, csp=2, se=4),
    )
    return [replace(faces, name="yoloface-100k-v2", input_size=(96, 96), stages=small)]


SPECS = {spec.name: spec for spec in (*_published(), *_own())}
ZOO: dict[str, DetectorSpec | LandmarkSpec] = {**SPECS, **LANDMARK_SPECS}


def list_models(task: str = "") -> list[str]:
    """Names of the networks that `create_model` builds.

    Args:
        task: "detection", "landmarks", or "" for all.

    Raises:
        InputError: unknown task.

    >>> list_models("landmarks")
    ['landmark106']
    """
    tasks = list(dict.fromkeys(spec.io.task for spec in ZOO.values()))
    if task and task not in tasks:
        raise InputError(f"unknown task {task!r}: expected one of {', '.join(tasks)}")
    return [name for name, spec in ZOO.items() if task in ("", spec.io.task)]


@overload
def create_model(
    name: Literal["landmark106"] | LandmarkSpec, weights: str | Path | None = None, **changes: Any
) -> LandmarkNet: ...


@overload
def create_model(
    name: str | DetectorSpec, weights: str | Path | None = None, **changes: Any
) -> SpecDetector: ...


def create_model(
    name: str | DetectorSpec | LandmarkSpec, weights: str | Path | None = None, **changes: Any
) -> SpecDetector | LandmarkNet:
    """Create a detector or a landmark network.

    Args:
        name: one of `list_models()`, or a spec.
        weights: None for random weights; "published" for the seed's (downloaded once and checked); or a file:
            .weights or .pt for a detector, .caffemodel, .param (ncnn, batch norms folded) or .pt for a
            landmark network.
        **changes: changes of the spec, see `toolkit.models.spec.change`, for example `se=False, csp=False,
            width=0.75, input_size=160, classes=["cat", "dog"]`; for a landmark network `points`, `width` and
            `input_size`.

    Returns:
        The network in evaluation mode. `forward` maps (N, 3, H, W) in 0..1 to raw head maps, coarsest first.

    Raises:
        InputError: unknown name or change, a value that does not fit (WrongKind if its type is wrong, such
            as a word for a width), or weights of another network.

    >>> model = create_model("fastest-v2", se=False, csp=False, width=0.75, input_size=160, classes=["cat"])
    >>> model.io.input_size, model.io.classes, [head.stride for head in model.io.heads]
    ((160, 160), ('cat',), [32, 16])
    """
    spec = ZOO.get(name) if isinstance(name, str) else name
    if spec is None:
        raise InputError(f"unknown network {name!r}: expected one of {', '.join(list_models())}")
    if weights == "published":
        weights = published_weights(spec.name)
    spec = _changed(spec, changes)
    if isinstance(spec, LandmarkSpec):
        return _landmarks(spec, weights)
    return _detector(spec, weights)


def _landmarks(spec: LandmarkSpec, weights: str | Path | None) -> LandmarkNet:
    model = LandmarkNet(spec)
    if weights is not None and Path(weights).suffix in (".caffemodel", ".param"):
        model = load_landmark_weights(model, weights)
    elif weights is not None:
        load_state(model, Path(weights), ".caffemodel, .param or .pt")
    return model.eval()


def _changed(
    spec: DetectorSpec | LandmarkSpec, changes: dict[str, Any]
) -> DetectorSpec | LandmarkSpec:
    """The spec with its changes, of a network that can be built and fits into memory."""
    if not changes and ZOO.get(spec.name) is spec:
        return spec
    try:
        with torch.device("meta"):
            shadow = (
                LandmarkNet(change_landmarks(spec, **changes))
                if isinstance(spec, LandmarkSpec)
                else SpecDetector(change(spec, **changes))
            )
            numbers = _numbers(shadow)
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        stated = ", ".join(f"{key} = {short(value)}" for key, value in changes.items())
        raise WrongKind(
            f"the changes {stated} do not fit {spec.name}: {type(error).__name__} {short(str(error))}"
        ) from error
    check_memory(spec.name, *numbers)
    return shadow.spec


def _numbers(shadow: SpecDetector | LandmarkNet) -> tuple[int, int]:
    """Numbers of the weights, and of the largest feature map with what it is made from, for a picture.
    InputError where there are too many. `shadow` is on torch's device "meta"."""
    weights = sum(tensor.numel() for tensor in shadow.state_dict().values())
    if weights > MOST_WEIGHTS:
        raise InputError(
            f"{shadow.spec.name} would have {weights:,} weights: expected {MOST_WEIGHTS:,} or less, choose a "
            "smaller width"
        )
    values = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal values
        if isinstance(output, Tensor):
            values = max(values, output.numel() + sum(x.numel() for x in inputs if isinstance(x, Tensor)))

    for module in shadow.modules():
        module.register_forward_hook(note)
    width, height = shadow.io.input_size
    with TRACING, torch.no_grad():
        shadow.eval()(torch.empty(1, shadow.io.channels, height, width))
    if values > 2 * MOST_VALUES:
        raise InputError(
            f"{shadow.spec.name} would have feature maps of {values:,} numbers for an input of "
            f"{width}x{height}: expected {2 * MOST_VALUES:,} or less, choose a smaller input or width"
        )
    return weights, values


def _detector(spec: DetectorSpec, weights: str | Path | None) -> SpecDetector:
    model = SpecDetector(spec)
    if weights is not None:
        load_any_weights(model, weights)
    return model.eval()


def load_any_weights(model: SpecDetector, path: str | Path) -> None:
    """Load a darknet .weights file or a .pt state dict into `model`."""
    path = Path(path)
    if path.suffix == ".weights" or is_partial(path):
        load_weights(model, path)
    else:
        load_state(model, path, ".weights or .pt")


def load_state(model: SpecDetector | LandmarkNet, path: Path, suffixes: str) -> None:
    """Load a .pt state dict into `model`, without executing pickles. `suffixes`: for the error message."""
    if path.suffix != ".pt":
        raise InputError(f"{path} ends in {path.suffix or 'nothing'}: expected a {suffixes} file")
    state = read_pt(path)
    tensors = state.get("model", state) if isinstance(state, dict) else state
    model.load_state_dict(check_fit(path, tensors, model.state_dict(), model.spec.name))


def published_weights(name: str) -> Path:
    """Path of the published weights: a .weights file, for a landmark network a .caffemodel.

    Raises InputError if the seed did not publish any.
    """
    if not has_published_weights(name):
        others = [other for other in list_models() if has_published_weights(other)]
        raise InputError(f"{name} has no published weights: choose one of {', '.join(others)}")
    return fetch(_weights_file(name))


def has_published_weights(name: str) -> bool:
    """Whether the seed published weights of this network; `published_weights` fetches them.

    >>> has_published_weights("nano-voc"), has_published_weights("yolov9")
    (True, False)
    """
    return _weights_file(name) in published_files()


def _weights_file(name: str) -> str:
    """Published file of a network: darknet's if there is one, otherwise Caffe's."""
    darknet = f"{name}/{name}.weights"
    return darknet if darknet in published_files() else f"{name}/caffe/{name}.caffemodel"
