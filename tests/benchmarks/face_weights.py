"""Face detectors of our own: trained on WIDER FACE's part "train" of our split and on pictures that a teacher
has labelled, compared with the published networks on the part "test".

python -m tests.benchmarks.face_weights small|formats|tried     (an hour on two cores, without the labelling;
                                                                 2 minutes; 40 minutes)

WORK/faces has the labelled sources: `python -m tests.benchmarks.face_pictures` gathers the pictures,
`python -m tests.benchmarks.face_labels` labels them. A training that was stopped goes on where it was.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.exports import bytes_of, scored
from tests.benchmarks.record import run_part
from tests.benchmarks.training import run, wider_split
from toolkit import create_model
from toolkit.data.catalog import load
from toolkit.data.dataset import Dataset
from toolkit.evaluation import widerface
from toolkit.evaluation.columns import Detections
from toolkit.evaluation.score import PUBLISHED, in_originals, predict, wider_truth
from toolkit.models.blocks import InvertedResidual
from toolkit.models.cost import measure
from toolkit.models.detector import Detector
from toolkit.runtime import InputError
from toolkit.training.checkpoint import fitting, open_added, save_checkpoint, trained
from toolkit.training.loop import Result
from toolkit.training.origin import Origin

SEEDS = (0, 1, 2)
WIDER = 3  # times that each picture of WIDER FACE is in an epoch
LEVERS: dict[str, dict[str, Any]] = {
    "yoloface-100k-v2": {
        "learning_rate": 0.005,
        "epochs": 24,
        "batch": 32,
        "spare_iou": 0.6,
        "plain_share": 0.25,
        "scale": (0.8, 1.4),
        "mosaic": 0.3,
        "mosaic_scale": (0.6, 1.1),
        "focus": 0.4,
        "focus_px": (5, 100),
    },
}
FURTHER = "yoloface-500k-v2"
BRIEF = {"learning_rate": 0.003, "epochs": 4, "batch": 16}
CALM = {"learning_rate": 0.001, "mosaic": 0.0, "spare_iou": 0.5}
TRIED: dict[str, dict[str, Any]] = {
    "modern": {},
    "modern, three times as long": {"epochs": 12},
    "objectness learns 1, near boxes spared": {"iou_aware": False, "spare_iou": 0.5},
    "near boxes spared, no mosaic": {"mosaic": 0.0, "spare_iou": 0.5},
    "and a third of the rate, focus": {**CALM, "focus": 0.5, "focus_px": (8, 160)},
    "and a third of the rate, own cells only": {**CALM, "assigner": "anchor"},
}
ORIGINS = {"yoloface-100k-v2": "yoloface-500k-v2"}  # whose weights a training starts from
RIVALS = {"yoloface-100k-v2": "yoloface-100k"}


def joined(parts: Sequence[Dataset]) -> Dataset:
    """The pictures of all parts, which have the class face alone; to train on."""

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    files = [part.path(i).resolve().as_posix().lstrip("/") for part in parts for i in range(len(part))]
    starts = np.concatenate(([0], np.concatenate([np.diff(part.starts) for part in parts]).cumsum()))
    return Dataset(
        root=Path("/"),
        classes=("face",),
        files=files,
        image_ids=np.arange(len(files)),
        sizes=column("sizes"),
        splits=column("splits"),
        starts=starts.astype(np.int64),
        box_ids=np.arange(starts[-1]),
        boxes=column("boxes"),
        labels=column("labels"),
        crowd=column("crowd"),
        ignore=column("ignore"),
    )


def with_faces(dataset: Dataset) -> Dataset:
    """The pictures of a labelled source that have a face to learn, all to train on."""
    faces = [bool((~dataset.ignore[dataset.rows(i)]).any()) for i in range(len(dataset))]
    part = dataset.subset(np.flatnonzero(faces))
    return replace(part, splits=np.full(len(part), "train"))


def pictures(work: Path) -> tuple[Dataset, dict[str, dict[str, int]]]:
    """The training set, with WIDER FACE's part to validate on, and of each source the number of pictures that
    are trained on and of those without a face to learn, which are left out."""
    folders = sorted(path for path in (work / "faces").glob("*") if path.is_dir())
    if not folders:
        raise InputError(
            f"{work / 'faces'} has no labelled pictures: run face_pictures and face_labels first"
        )
    labelled = {folder.name: load(str(folder)) for folder in folders}
    sources = {name: with_faces(dataset) for name, dataset in labelled.items()}
    wider, _ = wider_split()
    training, validation = (wider.split(name) for name in ("train", "val"))
    counts = {"widerface": {"used": len(training), "left out": 0}}
    for name, part in sources.items():
        counts[name] = {"used": len(part), "left out": len(labelled[name]) - len(part)}
    return joined([*[training] * WIDER, validation, *sources.values()]), counts


def train_one(work: Path, name: str, seed: int, dataset: Dataset | None = None) -> Result:
    """One training; several at a time may run in processes of their own."""
    return run(
        work / f"face-weights-{name}-{seed}",
        pictures(work)[0] if dataset is None else dataset,
        LEVERS[name],
        data="widerface_val",
        model=name,
        weights=str(pruned(name, work / f"face-weights-{name}.pt")),
        seed=seed,
        validations=10,
        threads=1,
        memory_format="channels_last",
        precision="fp32",
    )


def pruned(name: str, file: Path) -> Path:
    """A checkpoint of the network with the weights of `ORIGINS[name]`, which has more blocks and more hidden
    channels: the first blocks stay, and the hidden channels with most effect on what their block adds."""
    origin = create_model(ORIGINS[name], "published")
    network = create_model(name)
    theirs = dict(origin.named_modules())
    tensors = fitting(origin, network)
    for prefix, block in network.named_modules():
        if not isinstance(block, InvertedResidual):
            continue
        source = theirs[prefix]
        assert isinstance(source, InvertedResidual)
        norm = source.depthwise.norm
        assert norm is not None
        effect = norm.weight.abs() * source.project.conv.weight[:, :, 0, 0].norm(dim=0)
        kept = effect.topk(block.depthwise.conv.out_channels).indices.sort().values
        for layer, dim in (("expand", 0), ("depthwise", 0), ("project", 1)):
            for key, tensor in source.get_submodule(layer).state_dict().items():
                narrow = tensor.dim() > 0 and (dim == 0 or tensor.dim() > 1)
                tensors[f"{prefix}.{layer}.{key}"] = tensor.index_select(dim, kept) if narrow else tensor
    network.load_state_dict(tensors, strict=False)
    open_added(network, tensors)
    save_checkpoint(file, {**Origin(name).record({}), "model": network.state_dict(), "step": 0})
    return file


def detections(network: Detector, test: Dataset) -> Detections:
    return in_originals(predict(network, test, PUBLISHED), test)


def compared(work: Path, name: str) -> dict[str, Any]:
    """Trainings of all seeds, their scores on the test pictures, and the difference to the rival's."""
    dataset, counts = pictures(work)
    runs = [train_one(work, name, seed, dataset) for seed in SEEDS]
    _, test = wider_split()
    truth = wider_truth("widerface_val", test)
    networks = [trained(Path(result.folder) / "best.pt", Detector) for result in runs]
    found = [detections(network, test) for network in networks]
    rival = create_model(RIVALS[name], "published")
    theirs = detections(rival, test)
    differences = widerface.compare(truth, found, [theirs])

    def scores(each: Detections) -> dict[str, float]:
        answer = widerface.evaluate(truth, each)
        return {setting: round(getattr(answer, setting), 4) for setting in widerface.SETTINGS}

    cost = {each: measure(network) for each, network in ((name, networks[0]), (RIVALS[name], rival))}
    return {
        "network": name,
        "rival": RIVALS[name],
        "pictures": counts,
        "levers": LEVERS[name],
        "cost": {key: {"params": c.params, "mmac": round(c.macs / 1e6, 2)} for key, c in cost.items()},
        "seeds": [
            {
                "seed": seed,
                "val_map50": result.score,
                "seconds": result.seconds,
                "pictures_per_second": result.pictures_per_second,
                "test": scores(each),
            }
            for seed, result, each in zip(SEEDS, runs, found, strict=True)
        ],
        "published": scores(theirs),
        "difference": {
            setting: {key: round(value, 4) for key, value in asdict(each).items()}
            for setting, each in differences.items()
        },
    }


def small(work: Path) -> dict[str, Any]:
    """At the cost of yoloface-100k."""
    return compared(work, "yoloface-100k-v2")


def formats(work: Path) -> dict[str, Any]:
    """The weights that come with the package, in every format."""
    return {name: {**scored(name, work), "bytes": bytes_of(work / f"export-{name}")} for name in LEVERS}


def tried(work: Path) -> dict[str, Any]:
    """yoloface-500k-v2 trained on from its published weights, on WIDER FACE's part "train" alone: what each
    way changes on the pictures to validate on, by which the checkpoint was chosen, and on every fourth of
    those that were trained on."""
    training, _ = wider_split()
    seen = training.split("train")
    parts = {"validation": training.split("val"), "training": seen.subset(np.arange(0, len(seen), 4))}
    truths = {part: wider_truth("widerface_val", pictures) for part, pictures in parts.items()}
    network = create_model(FURTHER, "published")
    published = {part: detections(network, pictures) for part, pictures in parts.items()}
    counts = {"trained on": len(seen), **{part: len(pictures) for part, pictures in parts.items()}}
    answer: dict[str, Any] = {"network": FURTHER, "pictures": counts}
    for name, levers in TRIED.items():
        folder = work / f"face-weights-tried-{name.replace(' ', '-')}"
        result = run(
            folder,
            training,
            {**BRIEF, **levers},
            data="widerface_val",
            model=FURTHER,
            weights="published",
            threads=1,
            memory_format="channels_last",
            precision="fp32",
            validations=2,
        )
        network = trained(folder / "best.pt", Detector)
        changes = {}
        for part, pictures in parts.items():
            change = widerface.compare(truths[part], [detections(network, pictures)], [published[part]])
            changes[part] = {k: [round(v, 4) for v in (d.value, d.low, d.high)] for k, d in change.items()}
        answer[name] = {"levers": {**BRIEF, **levers}, "val_map50": result.score, "change": changes}
    return answer


if __name__ == "__main__":
    run_part(
        "face_weights", __doc__ or "", {"small": small, "formats": formats, "tried": tried}, ["lightning"]
    )
