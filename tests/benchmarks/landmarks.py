"""Faces with landmarks. `accuracy`: landmark106 on 425 faces of WFLW that are hard and few, through two maps
from 106 to 98 points and in every precision, and 98-point networks trained on a part of them. `speed`: the
cascade on one picture and on a film of it, engine by engine, and tracking against detection in every frame.

python -m tests.benchmarks.landmarks accuracy|speed      (20 minutes; 2, on a quiet machine)
"""

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.record import ratio, run_part, spread
from toolkit import create_model, detect_faces
from toolkit.data.catalog import load, locate
from toolkit.data.dataset import Dataset
from toolkit.evaluation import landmarks as evaluation
from toolkit.export.folder import open_export
from toolkit.export.registry import formats_of
from toolkit.export.write import export_model
from toolkit.faces import FACES, Faces, FaceTracker, Tracking, face_sizes, windows_of_points
from toolkit.models.network import FromMaps
from toolkit.models.published import fetch
from toolkit.pictures import load_image
from toolkit.samples import pan_and_zoom
from toolkit.stopwatch import interleave
from toolkit.training.checkpoint import trained
from toolkit.training.config import read_config
from toolkit.training.landmarks import relative_shapes
from toolkit.training.loop import train
from toolkit.training.recipe import recipe

TEST, VALIDATION = 0.3, 0.1  # of the source pictures
EPOCHS = {"from scratch": 120, "from landmark106's features": 40}
ENGINES = ("torch", "onnx", "ncnn")
FRAMES, ROUNDS = 100, 15


# --- accuracy ----------------------------------------------------------------------------------------


def sources() -> NDArray[np.str_]:
    """The picture that each face of wflw98 was cut from."""
    folder = locate("wflw98")
    assert folder is not None
    return np.array([face["image"] for face in json.loads((folder / "annotations.json").read_text())])


def parted(dataset: Dataset) -> Dataset:
    """The data set with its splits by source picture: no picture is in two."""
    names = np.unique(sources())
    share = np.random.default_rng(0).permutation(len(names)) / len(names)
    of_picture = dict(zip(names, share, strict=True))
    shares = np.array([of_picture[name] for name in sources()])
    splits = np.where(shares < TEST, "test", np.where(shares < TEST + VALIDATION, "val", "train"))
    return replace(dataset, splits=splits)


def points_of(dataset: Dataset) -> NDArray[np.float32]:
    assert dataset.keypoints is not None
    return dataset.keypoints[:, :, :2]


def short(scores: evaluation.LandmarkScores) -> dict[str, Any]:
    """NME, AUC and failure rate at .1, and NME by region."""
    figures = scores.as_dict()
    regions = {name: round(value, 4) for name, value in figures["regions"].items()}
    return {
        **{name: round(figures[name], 4) for name in ("nme", "auc@0.10", "failure@0.10")},
        "faces": figures["faces"],
        "regions": regions,
    }


def published(dataset: Dataset, work: Path) -> dict[str, Any]:
    """landmark106 on all faces by the map of numbers; by a map fitted on one half of the source pictures on
    the other half; in every format on the test split, calibrated on the others."""
    model = create_model("landmark106", "published")
    found, truth = evaluation.predict(model, dataset), points_of(dataset)
    names = np.unique(sources())
    half = set(np.random.default_rng(1).permutation(names)[: len(names) // 2])
    fitting = np.array([name in half for name in sources()])
    by_numbers = found[:, evaluation.WFLW_FROM_106]
    fitted = evaluation.fit_map(found[fitting], truth[fitting])(found)
    test = dataset.split("test")
    calibration = [dataset.path(int(i)) for i in np.flatnonzero(dataset.splits != "test")]
    folder = work / "landmark106"
    export_model(model, folder, formats_of(model), calibration=calibration, accept_loss=True)
    return {
        "map of numbers, all faces": short(evaluation.evaluate(by_numbers, truth)),
        "map of numbers, second half": short(evaluation.evaluate(by_numbers[~fitting], truth[~fitting])),
        "map fitted on the first half, second half": short(
            evaluation.evaluate(fitted[~fitting], truth[~fitting])
        ),
        "nme of formats, map of numbers, test split": {
            fmt: round(evaluation.score(open_export(folder, fmt, threads=1), test).nme, 4)
            for fmt in formats_of(model)
        },
    }


def mean_shape(dataset: Dataset) -> evaluation.LandmarkScores:
    """The training faces' mean shape as the answer for every test face."""
    truth = points_of(dataset.split("test"))
    windows = windows_of_points(truth)
    mean = relative_shapes(points_of(dataset.split("train"))).mean(0)
    found = windows[:, None, :2] + mean * (windows[:, 2:] - windows[:, :2])[:, None]
    return evaluation.evaluate(found, truth)


def training(dataset: Dataset, work: Path, weights: str | None, epochs: int) -> dict[str, Any]:
    folder = work / f"landmarks-{weights or 'scratch'}-{epochs}"
    config = read_config(
        {"data": "wflw98", "model": "landmark106", "recipe": recipe("landmarks", epochs=epochs),
         "weights": weights, "device": "cpu", "threads": 1, "precision": "fp32",
         "memory_format": "channels_last", "validations": 6}
    )  # fmt: skip
    result = train(config, folder, (folder / "config.yaml").exists(), dataset)
    scores = evaluation.score(trained(folder / "best.pt"), dataset.split("test"))
    return {"epochs": epochs, "seconds": result.seconds, **short(scores)}


def accuracy(work: Path) -> dict[str, Any]:
    dataset = parted(load("wflw98"))
    counts = {name: int((dataset.splits == name).sum()) for name in ("train", "val", "test")}
    baseline = mean_shape(dataset)
    trainings = {
        name: training(dataset, work, None if name == "from scratch" else "published", epochs)
        for name, epochs in EPOCHS.items()
    }
    return {
        "note": "425 faces of WFLW's test set with a difficult attribute, cut out by their labelled points; "
        "splits by source picture; networks are chosen on val and scored once on test",
        "faces": counts,
        "landmark106": published(dataset, work),
        "98 points, mean shape of the training faces": short(baseline),
        "98 points, trained": trainings,
        "nme by that of the mean shape": {
            name: round(row["nme"] / baseline.nme, 3) for name, row in trainings.items()
        },
    }


# --- speed -------------------------------------------------------------------------------------------


class Timed(FromMaps):
    """A network that adds up the seconds of its inference."""

    def __init__(self, network: Any):
        self.network, self.io, self.seconds = network, network.io, 0.0

    def predict(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        begin = time.perf_counter()
        outputs = self.network.predict(x)
        self.seconds += time.perf_counter() - begin
        return outputs


def cascades(work: Path, size: tuple[int, int]) -> dict[str, tuple[Any, Any]]:
    """Detector, at this input size, and landmark network in every engine, one thread each."""
    detector = create_model("yoloface-100k", "published")
    landmarks = create_model("landmark106", "published")
    folders = work / f"yoloface-100k-{size[0]}", work / "landmark106-engines"
    export_model(detector, folders[0], ENGINES[1:], size)
    export_model(landmarks, folders[1], ENGINES[1:])
    opened = {
        engine: tuple(open_export(folder, engine, threads=1) for folder in folders) for engine in ENGINES[1:]
    }
    return {"torch": (detector, landmarks), **opened}


def left_to_right(faces: Faces) -> Faces:
    return faces[np.argsort(faces.points.mean(1)[:, 0])]


def tracked(networks: tuple[Any, Any], film: list[Any], tracking: bool) -> tuple[float, list[Faces], int]:
    """Milliseconds of inference a frame, the faces of every frame, and how often the detector ran."""
    timed = Timed(networks[0]), Timed(networks[1])
    settings = replace(FACES, size=(224, 224))
    if tracking:
        tracker = FaceTracker(*timed, settings, Tracking())
        faces, runs = [tracker(frame) for frame in film], tracker.detections
    else:
        faces, runs = [detect_faces(frame, *timed, settings) for frame in film], len(film)
    return 1e3 * sum(network.seconds for network in timed) / len(film), faces, runs


def against_detection(networks: tuple[Any, Any], film: list[Any]) -> dict[str, Any]:
    """Tracking and detection in every frame, in turn, and how far their points are apart."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for i in range(ROUNDS + 1):
        for tracking in (True, False) if i % 2 else (False, True):
            spent, faces, runs = tracked(networks, film, tracking)
            times[tracking].append(spent)
            if tracking:
                followed, detections = faces, runs
            else:
                alone = faces
    pairs = [(left_to_right(a), left_to_right(b)) for a, b in zip(followed, alone, strict=True)]
    both = [(a, b) for a, b in pairs if len(a) == len(b)]
    apart = np.concatenate(
        [np.linalg.norm(a.points - b.points, axis=2).mean(1) / face_sizes(b.points) for a, b in both]
    )
    first, second = (np.array(times[tracking][1:]) for tracking in (False, True))
    return {
        "frames": len(film),
        "frames with as many faces": len(both),
        "detections": detections,
        "detector in every frame": spread(first),
        "tracking": spread(second),
        "times as fast": ratio(first, second),
        "points apart, in face sizes": {
            "mean": round(float(apart.mean()), 4),
            "p90": round(float(np.quantile(apart, 0.9)), 4),
            "largest": round(float(apart.max()), 4),
            "part of the faces within .02": round(float((apart < 0.02).mean()), 3),
        },
    }


def speed(work: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    image = load_image(fetch("images/landmark-test.jpeg"))
    film = pan_and_zoom(image, FRAMES)
    own, wide = cascades(work, (112, 112)), cascades(work, (224, 224))
    calls = {name: partial(detect_faces, image, *networks) for name, networks in own.items()}
    picture = interleave(calls, rounds=200)
    frames = {
        name: partial(lambda n: [detect_faces(frame, *n) for frame in film[::10]], networks)
        for name, networks in own.items()
    }
    a_frame = {name: times / len(film[::10]) for name, times in interleave(frames, rounds=30).items()}
    return {
        "cascade on landmark-test.jpeg, two faces, 112x112, one thread": {
            name: spread(times) for name, times in picture.items()
        },
        "cascade on a frame of the film": {name: spread(times) for name, times in a_frame.items()},
        "ncnn, inference alone, detector at 224x224": against_detection(wide["ncnn"], film),
    }


if __name__ == "__main__":
    packages = ["ncnn", "onnxruntime", "MNN"]
    run_part("landmarks", __doc__ or "", {"accuracy": accuracy, "speed": speed}, packages)
