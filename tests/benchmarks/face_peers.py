"""Face detectors of other projects, from their published ONNX files: YuNet, Ultra-Light (RFB) and SCRFD.

The files are not part of this project. A folder holds them under the names of `PEERS`; `missing` says where
each comes from. Preprocessing is that of each project; boxes are decoded here by their formulas.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from toolkit.boxes import Placement, cxcywh_to_xyxy, nms, stretch
from toolkit.models.decode import Boxes
from toolkit.pictures import Image
from toolkit.runtime import InputError

Floats = NDArray[np.float32]
CONF, IOU = 0.005, 0.45
CANDIDATES = 5000  # before suppression, the best
# Nearly every prior of RFB scores .05 on background; its AP from .08 on is that from .005 on, less .0004.
# That of SCRFD is the same from .02 on, its project's own limit.
RFB_CONF, SCRFD_CONF = 0.08, 0.02
LANDMARKS = 10  # numbers of five points
STRIDES = (8, 16, 32)
RFB_STRIDES = (8, 16, 32, 64)
RFB_SIDES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))  # px of the input
RFB_VARIANCES = (0.1, 0.2)  # of centres and of sides


@dataclass(frozen=True)
class Peer:
    """A published file. `decode` takes its outputs by name and the input size, and returns boxes (N, 4) xyxy
    in pixels of the input and scores (N,)."""

    file: str
    repository: str
    commit: str
    path: str
    sha256: str
    licence: str
    decode: Callable[[dict[str, Floats], tuple[int, int]], tuple[Floats, Floats]]
    mean: float = 0.0
    scale: float = 1.0
    bgr: bool = False
    fit: str = "letterbox"  # the project's own
    conf: float = CONF
    own_size: tuple[int, int] = (320, 320)
    stride: int = 32  # sides of the input are multiples of it

    @property
    def source(self) -> str:
        return f"{self.repository}@{self.commit[:7]}/{self.path}"


def top_left(size: tuple[int, int], outer: tuple[int, int]) -> Placement:
    """The picture keeps its proportions, in the upper left corner: YuNet's and SCRFD's way."""
    scale = min(outer[0] / size[0], outer[1] / size[1])
    inner = (max(1, int(size[0] * scale + 1e-6)), max(1, int(size[1] * scale + 1e-6)))
    return Placement(size, outer, inner, (0, 0))


FITS: dict[str, Callable[[tuple[int, int], tuple[int, int]], Placement]] = {
    "letterbox": top_left,
    "stretch": stretch,
}


def corners(size: tuple[int, int], stride: int, times: int) -> Floats:
    """(N, 2) upper left corners of the cells, row by row, each `times` times."""
    x, y = np.meshgrid(np.arange(size[0] // stride), np.arange(size[1] // stride))
    return np.repeat(np.stack([x, y], -1).reshape(-1, 2) * stride, times, axis=0).astype(np.float32)


def yunet(maps: dict[str, Floats], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """A box a cell: its centre from the cell's corner, the logarithms of its sides, all in strides. The score
    is that of the class times objectness."""
    boxes, scores = [], []
    for stride in STRIDES:
        cls, obj, box = (maps[f"{name}_{stride}"][0] for name in ("cls", "obj", "bbox"))
        centres = corners(size, stride, 1) + box[:, :2] * stride
        boxes.append(cxcywh_to_xyxy(np.concatenate([centres, np.exp(box[:, 2:]) * stride], 1)))
        scores.append((cls * obj)[:, 0])
    return np.concatenate(boxes), np.concatenate(scores)


def scrfd(maps: dict[str, Floats], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Two boxes a cell: distances of the four sides from the cell's corner, in strides."""
    parts: dict[int, list[Floats]] = {1: [], 4: []}  # scores and boxes, finest first
    for values in maps.values():
        parts[values.shape[-1]].append(values.reshape(-1, values.shape[-1]))
    boxes = []
    for stride, distances in zip(STRIDES, parts[4], strict=True):
        points = corners(size, stride, 2)
        near, far = distances[:, :2] * stride, distances[:, 2:] * stride
        boxes.append(np.concatenate([points - near, points + far], 1))
    return np.concatenate(boxes), np.concatenate(parts[1])[:, 0]


def rfb_priors(size: tuple[int, int]) -> Floats:
    """(N, 4) centres and sides relative to the input, cell by cell."""
    rows = []
    for stride, sides in zip(RFB_STRIDES, RFB_SIDES, strict=True):
        w, h = -(-size[0] // stride), -(-size[1] // stride)
        x, y, side = np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h, sides, indexing="ij")
        cells = np.stack([x, y, side / size[0], side / size[1]], -1).transpose(1, 0, 2, 3)
        rows.append(cells.reshape(-1, 4))
    return np.clip(np.concatenate(rows), 0, 1).astype(np.float32)


def rfb(maps: dict[str, Floats], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """SSD's boxes: offsets from priors."""
    raw, priors = maps["raw"][0], rfb_priors(size)
    centres = raw[:, :2] * RFB_VARIANCES[0] * priors[:, 2:] + priors[:, :2]
    sides = np.exp(raw[:, 2:] * RFB_VARIANCES[1]) * priors[:, 2:]
    relative = cxcywh_to_xyxy(np.concatenate([centres, sides], 1))
    return relative * np.array(size * 2, np.float32), maps["scores"][0][:, 1]


_YUNET = "ShiqiYu/libfacedetection.train", "0047ac24afb1a50a0c6105001c89d1b5b805dbf1"
_RFB = "Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB", "dffdddda9794a50607cba8f318507a28c1c27cab"
_SCRFD = "yukkki7/FaceAnalysisApp", "d4126572f7642f97f903cfab7ab73f67e99622db"
_INSIGHTFACE = "InsightFace: non-commercial research"
_RFB_INPUT: dict[str, Any] = {"mean": 127, "scale": 1 / 128, "fit": "stretch", "conf": RFB_CONF, "stride": 1}
_SCRFD_INPUT: dict[str, Any] = {"mean": 127.5, "scale": 1 / 128, "conf": SCRFD_CONF, "own_size": (640, 480)}
PEERS = {
    "YuNet_n": Peer(
        "yunet_n.onnx",
        *_YUNET,
        "onnx/yunet_n_dynamic.onnx",
        "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
        "Apache-2.0",
        yunet,
        bgr=True,
    ),
    "YuNet_s": Peer(
        "yunet_s.onnx",
        *_YUNET,
        "onnx/yunet_s_dynamic.onnx",
        "daede24002cc8590f457998cc5e6c9e8b82f45f6bd969506a8913cd4ed10a2d3",
        "Apache-2.0",
        yunet,
        bgr=True,
    ),
    "RFB-320": Peer(
        "rfb_320.onnx",
        *_RFB,
        "models/onnx/version-RFB-320.onnx",
        "34cd7e60aeff28744c657de7a3dc64e872d506741de66987f3426f2b79f88017",
        "MIT",
        rfb,
        own_size=(320, 240),
        **_RFB_INPUT,
    ),
    "RFB-640": Peer(
        "rfb_640.onnx",
        *_RFB,
        "models/onnx/version-RFB-640.onnx",
        "8f4c659275977e7a3bfbfa339a9c769ad793df50f9c0baa8c14b11baa1646430",
        "MIT",
        rfb,
        own_size=(640, 480),
        **_RFB_INPUT,
    ),
    # byte for byte det_500m.onnx of InsightFace's package buffalo_s
    "SCRFD-500M": Peer(
        "scrfd_500m.onnx",
        *_SCRFD,
        "models/scrfd_500m.onnx",
        "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a",
        _INSIGHTFACE,
        scrfd,
        **_SCRFD_INPUT,
    ),
    # and det_2.5g.onnx of buffalo_m
    "SCRFD-2.5G": Peer(
        "scrfd_2.5g.onnx",
        *_SCRFD,
        "models/scrfd_2.5g.onnx",
        "041f73f47371333d1d17a6fee6c8ab4e6aecabefe398ff32cca4e2d5eaee0af9",
        _INSIGHTFACE,
        scrfd,
        **_SCRFD_INPUT,
    ),
}


def missing(folder: Path) -> dict[str, str]:
    """Peer -> what is wrong with its file and where it comes from."""
    faults = {}
    for name, peer in PEERS.items():
        path = folder / peer.file
        origin = f"{peer.path} of github.com/{peer.repository} at {peer.commit}"
        if not path.is_file():
            faults[name] = f"{path} is missing: it is {origin}"
        elif (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != peer.sha256:
            faults[name] = f"{path} has sha256 {digest}, expected {peer.sha256}: {origin}"
    return faults


def any_size(model: Any) -> None:
    """Height and width of the input become free, and shapes written for another input go. Landmarks, which no
    box needs, are dropped. An SSD's offsets become an output, for its priors are constants of one size."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    (source,) = (value for value in graph.input if value.name not in weights)
    for i, name in ((2, "height"), (3, "width")):
        source.type.tensor_type.shape.dim[i].dim_param = name
    first_slice = next((node for node in graph.node if node.op_type == "Slice"), None)
    if any(output.name == "boxes" for output in graph.output) and first_slice is not None:
        graph.node.append(helper.make_node("Identity", [first_slice.input[0]], ["raw"]))
        graph.output.append(helper.make_tensor_value_info("raw", TensorProto.FLOAT, [4]))
    dropped = [o.name for o in graph.output if o.name == "boxes" or last_side(o) == LANDMARKS]
    keep_outputs(model, [o.name for o in graph.output if o.name not in dropped])
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def last_side(value: Any) -> int:
    return int(value.type.tensor_type.shape.dim[-1].dim_value)


def keep_outputs(model: Any, names: Sequence[str]) -> None:
    """Only these outputs, and the nodes that they need."""
    graph = model.graph
    needed, nodes = set(names), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    outputs = [output for output in graph.output if output.name in names]
    del graph.node[:], graph.output[:]
    graph.node.extend(reversed(nodes))
    graph.output.extend(outputs)


def session(model: Any, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


class PeerDetector:
    """A peer's network at any input size.

    >>> detector = PeerDetector("SCRFD-2.5G", Path("peers"))  # doctest: +SKIP
    >>> detector.find(picture, (640, 480)).boxes  # doctest: +SKIP
    """

    def __init__(self, name: str, folder: Path, threads: int = 1) -> None:
        self.peer = PEERS[name]
        if fault := missing(folder).get(name):
            raise InputError(fault)
        self.model = onnx.load(folder / self.peer.file)
        any_size(self.model)
        self.threads = threads

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return session(self.model, self.threads)

    def maps(self, x: Floats) -> dict[str, Floats]:
        """Outputs by name for x (1, 3, h, w)."""
        names = [output.name for output in self._session.get_outputs()]
        outputs = self._session.run(names, {self._session.get_inputs()[0].name: x})
        return dict(zip(names, outputs, strict=True))

    def preprocess(self, image: Image, size: tuple[int, int], fit: str) -> tuple[Floats, Placement]:
        """(1, 3, h, w) and where the picture is in it; black around it, as in the projects' own code."""
        placement = FITS[fit]((image.shape[1], image.shape[0]), size)
        w, h = placement.inner
        canvas = np.zeros((size[1], size[0], 3), np.uint8)
        canvas[:h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
        pixels = canvas[..., ::-1] if self.peer.bgr else canvas
        x = (pixels.astype(np.float32) - self.peer.mean) * np.float32(self.peer.scale)
        return np.ascontiguousarray(x.transpose(2, 0, 1)[None]), placement

    def find(
        self,
        image: Image,
        size: tuple[int, int] | None = None,
        fit: str | None = None,
        conf: float | None = None,
        iou: float = IOU,
    ) -> Boxes:
        """Faces of a picture, boxes in its pixels and not clipped.

        Args:
            image: RGB uint8 (H, W, 3).
            size: of the input (w, h); the peer's own unless given.
            fit: a key of `FITS`; the peer's own unless given.
            conf: threshold of the score; the peer's own unless given.
            iou: overlap above which boxes suppress each other.
        """
        size = size or self.peer.own_size
        x, placement = self.preprocess(image, size, fit or self.peer.fit)
        boxes, scores = self.peer.decode(self.maps(x), size)
        best = np.argsort(-scores, kind="stable")[:CANDIDATES]
        best = best[scores[best] > (self.peer.conf if conf is None else conf)]
        boxes, scores = boxes[best], scores[best]
        kept = nms(boxes, scores, np.zeros(len(scores), np.int64), iou)
        relative = boxes[kept] / np.array(size * 2, np.float32)
        return Boxes(placement.to_image(relative), scores[kept], np.zeros(len(kept), np.int64))


def onnx_cost(model: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Multiply-adds of convolutions and connected layers for one picture of `size` (w, h), counted from the
    shapes of a run, and the parameters of these layers: weights and a bias a channel, batch norms folded."""
    counted = onnx.ModelProto()
    counted.CopyFrom(model)
    graph = counted.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "ConvTranspose", "MatMul")]
    for node in layers:
        if node.op_type not in ("Conv", "Gemm"):
            raise InputError(f"{node.op_type} is not counted")
    names = [node.output[0] for node in layers]
    known = {output.name for output in graph.output}
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    engine = session(counted)
    source = engine.get_inputs()[0]
    x = np.zeros((1, source.shape[1], size[1], size[0]), np.float32)
    shapes = [np.shape(value) for value in engine.run(names, {source.name: x})]
    macs = params = 0
    for node, shape in zip(layers, shapes, strict=True):
        dims = weights[node.input[1]]
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        outputs = dims[0] if node.op_type == "Conv" or transposed else dims[1]
        numbers = int(np.prod(dims))
        macs += int(np.prod(shape[2:])) * numbers if node.op_type == "Conv" else numbers
        params += numbers + outputs
    return macs, params
