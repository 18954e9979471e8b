"""A device's detections compared with those of the same file on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.boxes import FITS, Placement, iou, match_greedily
from toolkit.device.readings import Reading
from toolkit.device.settings import RUNNER_FORMATS, TOLERANCES, timed_formats
from toolkit.export.folder import Exported
from toolkit.faces import OUTSIDE, windows_of_boxes
from toolkit.inference.backend import DetectSettings as Rules
from toolkit.inference.preprocess import preprocess
from toolkit.inference.run import place
from toolkit.models.decode import Boxes, decode, suppress
from toolkit.models.io import NetworkIO
from toolkit.models.network import Landmarking, finds_objects, places_landmarks
from toolkit.pictures import Image
from toolkit.runtime import require


@dataclass(frozen=True)
class TimingJob:
    """One network at one setting, and the detections of the same file on this machine; of a cascade both
    networks, and the points (K, P, 2) px of each detection."""

    folder: Path
    format: str
    wanted: Boxes
    classes: tuple[str, ...]
    conf: float
    landmarks: Path | None = None
    points: NDArray[np.float32] | None = None


def timing_job(
    folder: Path,
    fmt: str,
    image: Image,
    landmarks: Path | None = None,
    conf: float | None = None,
    iou: float | None = None,
) -> TimingJob:
    """Opens the files, which checks their sha256, and asks their engine's Python package for its detections
    and their points. For ncnn the picture is resized by ncnn, as the runner does it.

    Args:
        folder: an exported detector.
        fmt: one of its formats.
        image: RGB (H, W, 3) uint8.
        landmarks: an exported landmark network with this format.
        conf: least score; by default that of the export.
        iou: most overlap of two detections of one class; by default the usual one.

    Raises:
        InputError: a file is missing, or differs from its sha256.
    """
    exported = Exported.read(folder)
    model = exported.open(fmt, 1)
    assert finds_objects(model)
    assert exported.threshold is not None
    io, rules = model.io, Rules(conf=exported.threshold if conf is None else conf, clip=False)
    rules = rules if iou is None else replace(rules, iou=iou)
    x, placement = ncnn_input(image, io) if fmt in RUNNER_FORMATS else preprocess(image, io)
    (candidates,) = decode(model.predict(x[None]), io, rules.conf)
    wanted = place(suppress(candidates, rules), placement, rules)
    task = TimingJob(folder, fmt, wanted, tuple(io.classes), rules.conf)
    if landmarks is None:
        return task
    timed_formats(landmarks, [fmt])  # that it has this one
    network = Exported.read(landmarks).open(fmt, 1)
    assert places_landmarks(network)
    return replace(task, landmarks=landmarks, points=_points(image, wanted.boxes, network))


def ncnn_input(image: Image, io: NetworkIO) -> tuple[NDArray[np.float32], Placement]:
    """As `toolkit.inference.preprocess` with the network's own settings, but resized by ncnn.

    Args:
        image: RGB (H, W, 3) uint8.
        io: size, fit, colours and normalisation of the network input.

    Returns:
        The network input, float32 (channels, h, w), and the placement of the picture in it.
    """
    pixels = require("ncnn", "export").Mat
    kinds = pixels.PixelType
    kind = {"RGB": kinds.PIXEL_RGB, "BGR": kinds.PIXEL_RGB2BGR, "GRAY": kinds.PIXEL_GRAY}[io.channel_order]
    size = (image.shape[1], image.shape[0])
    placement = FITS[io.fit](size, io.input_size)
    source = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if io.channels == 1 else np.ascontiguousarray(image)
    (w, h), (left, top) = placement.inner, placement.offset
    x = np.full((io.channels, *io.input_size[::-1]), 127.5, np.float32)
    x[:, top : top + h, left : left + w] = pixels.from_pixels_resize(source, kind, *size, w, h)
    return (x - np.float32(io.mean)) * np.float32(io.scale), placement


def _points(image: Image, boxes: NDArray[np.float32], network: Landmarking) -> NDArray[np.float32]:
    """Landmarks (K, P, 2) px in boxes (K, 4) px. Faces are cut out in floats, as the runner does it:
    `toolkit.faces.cut` rounds to bytes, which in a face of a few pixels is seen."""
    from skimage.transform import warp

    io = network.io
    windows = windows_of_boxes(boxes, io)
    start, size = windows[:, :2], np.maximum(windows[:, 2:] - windows[:, :2], 1)
    step = size / io.input_size  # px of the picture to one of the cut
    x = np.empty((len(windows), 3, *io.input_size[::-1]), np.float32)
    pixels = (image[..., ::-1] if io.channel_order == "BGR" else image).astype(np.float32)
    for i, shift in enumerate(start + step / 2 - 0.5):  # warp counts from the centres of pixels
        matrix = np.diag([*step[i], 1.0])
        matrix[:2, 2] = shift
        face = warp(pixels, matrix, output_shape=x.shape[2:], cval=OUTSIDE, clip=False, preserve_range=True)
        x[i] = (face.transpose(2, 0, 1) - io.mean) * io.scale
    relative = io.points_of(network.predict(x)) if len(x) else np.empty((0, io.points, 2), np.float32)
    result: NDArray[np.float32] = start[:, None] + relative * size[:, None]
    return result


def compare_detections(task: TimingJob, reading: Reading) -> dict[str, Any]:
    """How far a reading's detections are from those of the same file on this machine.

    "agrees" is None where neither side has a detection. A detection whose score is that near to the threshold
    may be on one side alone.

    Returns:
        Counts of both sides and of pairs (same class, IoU above .5, each once), the largest differences
        within pairs, and whether all are within `TOLERANCES`.
    """
    tolerance, detections, reference = TOLERANCES[task.format], reading.detections, task.wanted
    overlaps = iou(reference.boxes, np.array([d.box for d in detections], np.float32).reshape(-1, 4))
    for i, class_id in enumerate(reference.class_ids):
        overlaps[i, [d.label != task.classes[class_id] for d in detections]] = 0
    pairs = match_greedily(overlaps, 0.5)
    scores, boxes, reach, points = [0.0], [0.0], [0.0], [0.0]
    for i in np.flatnonzero(pairs >= 0).tolist():
        box, mate = reference.boxes[i], detections[pairs[i]]
        scores.append(abs(mate.score - float(reference.scores[i])))
        boxes.append(float(np.abs(np.array(mate.box, np.float32) - box).max()))
        long_side = max(reading.input.width, reading.input.height, *np.abs(box[2:] - box[:2]))
        reach.append(boxes[-1] / float(long_side))
        if task.points is not None:
            landmarks = np.array(mate.landmarks or [], np.float32).reshape(-1, 2)
            side = float(max(1, *(box[2:] - box[:2])))  # missing points count as that much off
            whole = landmarks.shape == task.points[i].shape
            points.append(float(np.abs(landmarks - task.points[i]).max()) / side if whole else 1.0)
    lost = reference.scores[pairs < 0].tolist()
    extra = [d.score for i, d in enumerate(detections) if i not in pairs]
    alone = [*lost, *extra]
    return {
        "wanted": len(task.wanted.scores),
        "found": len(reading.detections),
        "matched": len(scores) - 1,
        "score": float(np.max(scores)),
        "box_px": float(np.max(boxes)),
        **({} if task.points is None else {"points": float(np.max(points))}),
        "agrees": None
        if len(scores) == 1 and not alone
        else bool(
            np.max(scores) <= tolerance
            and np.max(reach) <= tolerance
            and np.max(points) <= tolerance
            and all(score <= task.conf + tolerance for score in alone)
        ),
    }
