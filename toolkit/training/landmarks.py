"""Training of landmark networks, any number of points: faces, their augmentation, validation by NME."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit import viz
from toolkit.data.augment import Augmentation, draw_colours, recolour
from toolkit.data.dataset import Dataset
from toolkit.evaluation import landmarks as evaluation
from toolkit.faces import BOUNDS, OUTSIDE, windows_of_points
from toolkit.models.landmarks import LandmarkNet
from toolkit.models.network import Landmarking
from toolkit.pictures import Image, load_image
from toolkit.runtime import InputError, seed_everything
from toolkit.training.checkpoint import fitting, start_from
from toolkit.training.config import Config
from toolkit.training.loader import PictureCache, Work
from toolkit.training.losses.common import Losses
from toolkit.training.losses.points import landmark_loss
from toolkit.training.recipe import DEFAULTS, LandmarkRecipe, Recipe
from toolkit.training.show import History, curve
from toolkit.training.splits import Parts, choose_parts

if TYPE_CHECKING:
    from cv2.typing import MatLike
    from matplotlib.figure import Figure

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
SYMMETRY = 0.15  # of the cut: how far a mean face may be from its own mirror image


def relative_shapes(points: Floats) -> Floats:
    """(n, P, 2) px -> the same relative to each face's cut (`windows_of_points`)."""
    windows = windows_of_points(points)
    start, size = windows[:, None, :2], windows[:, None, 2:] - windows[:, None, :2]
    shapes: Floats = (points - start) / size
    return shapes


def mirror_map(points: Floats) -> Indices:
    """Which point of a mirrored face is which, found from the faces themselves.

    The mean face is nearly its own mirror image, so points are paired by the least sum of distances between
    both.

    Args:
        points: (n, P, 2) px, all labelled.

    Returns:
        (P,) such that points[:, map] are those of the mirror image.

    Raises:
        InputError: where they do not pair, or are further apart than `SYMMETRY` of the cut.

    >>> mirror_map(np.float32([[[30, 30], [90, 30], [60, 60], [40, 90], [80, 90]]])).tolist()
    [1, 0, 2, 4, 3]
    """
    from scipy.optimize import linear_sum_assignment

    mean = relative_shapes(points).mean(0)
    mirrored = mean * (-1, 1) + (BOUNDS[0] + BOUNDS[2], 0)
    distances = np.linalg.norm(mean[:, None] - mirrored[None], axis=2)
    rows, pairs = linear_sum_assignment(distances)
    if (pairs[pairs] != rows).any() or distances[rows, pairs].max() > SYMMETRY:
        raise InputError(
            "the points of these faces do not pair left and right: set the lever flip to 0, or label more "
            "faces"
        )
    return np.asarray(pairs, np.int64)


def repeats(points: Floats, poses: float) -> Indices:
    """How often to show each face (n, P, 2) in an epoch: once, and more where its pose is unusual.

    Along the first principal component of all shapes, which is how far a head is turned, a face k standard
    deviations from the mean is shown about 1 + `poses` (k - 1) times, at most four.
    """
    shapes = relative_shapes(points).reshape(len(points), -1)
    centred = shapes - shapes.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    turn = np.abs(centred @ axes[0])
    far = turn / max(float(turn.std()), 1e-6) - 1
    counts: Indices = 1 + np.rint(np.clip(poses * far, 0, 3)).astype(np.int64)
    return counts


@dataclass(frozen=True, eq=False)
class FaceBatch:
    """Faces as the network sees them."""

    images: Tensor  # (N, H, W, 3) uint8 RGB
    points: Tensor  # (N, P, 2) float32 relative to the cut
    labelled: Tensor  # (N, P) bool

    def to(self, device: torch.device | str) -> FaceBatch:
        """The same batch on `device`."""
        return FaceBatch(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )


@dataclass(frozen=True, eq=False)
class FaceMaker:
    """Makes a FaceBatch; an epoch shows every face of `rows`. See `toolkit.training.loader.Maker`."""

    dataset: Dataset
    cache: PictureCache
    seed: int
    rows: Indices  # of the data set's boxes; unusual poses several times
    mirror: Indices  # (P,)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, work: Work) -> FaceBatch | InputError:
        faces = []
        try:
            for position, i in zip(work.positions.tolist(), work.indices.tolist(), strict=True):
                rng = np.random.default_rng((self.seed, work.epoch, position + 1))
                image, points, labelled = self.face(i)
                faces.append(
                    augment_face(image, points, labelled, work.size, work.settings, rng, self.mirror)
                )
        except InputError as error:
            return error
        images, points, labelled = (np.stack(column) for column in zip(*faces, strict=True))
        return FaceBatch(torch.from_numpy(images), torch.from_numpy(points), torch.from_numpy(labelled))

    def face(self, i: int) -> tuple[Image, Floats, NDArray[np.bool_]]:
        """The picture of face i of `rows`, its points (P, 2) in pixels of that picture, and which of them are
        labelled. Where it cannot be read, the next face whose picture can."""
        assert self.dataset.keypoints is not None
        for row in (int(self.rows[k]) for k in chain(range(i, len(self)), range(i))):
            picture = int(np.searchsorted(self.dataset.starts, row, side="right")) - 1
            if (found := self.cache.read(picture)) is not None:
                image, own = found
                keypoints = self.dataset.keypoints[row]
                scale = np.array(image.shape[1::-1], np.float32) / own
                return image, keypoints[:, :2] * scale, keypoints[:, 2] > 0
        raise InputError("no face to train on is in a picture that can be read")


def augment_face(
    image: Image,
    points: Floats,
    labelled: NDArray[np.bool_],
    size: tuple[int, int],
    settings: Augmentation,
    rng: np.random.Generator,
    mirror: Indices,
) -> tuple[Image, Floats, NDArray[np.bool_]]:
    """One face cut out at `size` (w, h): turned, enlarged, moved, mirrored, in part hidden, recoloured.

    `points` (P, 2) px; those that are not `labelled` (P,) are left out of the cut. -> the cut, its points
    relative to it, which of them are labelled.
    """
    window = windows_of_points(points[None, labelled])[0]
    extent = np.maximum(window[2:] - window[:2], 1)
    side = math.sqrt(settings.aspect) ** rng.uniform(-1, 1)
    extent = extent / rng.uniform(*settings.scale) * (side, 1 / side)
    centre = (window[:2] + window[2:]) / 2 + rng.uniform(-1, 1, 2) * settings.translate * extent
    angle = math.radians(rng.uniform(-1, 1) * settings.rotate)
    flip = rng.random() < settings.flip
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    # from the unit square of the cut to px of the picture
    linear = turn @ np.diag(extent * (-1 if flip else 1, 1))
    start = centre - linear.sum(1) / 2

    factor = 1
    while extent.min() / factor / max(size) >= 2:  # else bilinear sampling would skip pixels
        factor *= 2
    if factor > 1:
        reduced = (image.shape[1] // factor, image.shape[0] // factor)
        even = image[: reduced[1] * factor, : reduced[0] * factor]
        image = cv2.resize(even, reduced, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    pixels = linear / size / factor
    picture = cv2.warpAffine(
        image,
        np.column_stack((pixels, start / factor + pixels.sum(1) / 2 - 0.5)),
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderValue=(OUTSIDE,) * 3,
    )
    relative = ((points - start) @ np.linalg.inv(linear).T).astype(np.float32)
    if flip:
        relative, labelled = relative[mirror], labelled[mirror]
    if rng.random() < settings.occlude:
        _hide(picture, rng)
    return recolour(picture, *draw_colours(settings, rng), wrap=True), relative, labelled  # type: ignore[arg-type]


def _hide(picture: MatLike, rng: np.random.Generator) -> None:
    """Cover a turned rectangle of a tenth to half of each side, in place, with one colour."""
    height, width = picture.shape[:2]
    centre, sides = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.1, 0.5, 2) * (width, height)
    corners = cv2.boxPoints((centre.tolist(), sides.tolist(), rng.uniform(0, 90)))
    cv2.fillPoly(picture, [np.rint(corners).astype(np.int32)], rng.integers(256, size=3).tolist())


def labelled_faces(dataset: Dataset, name: str = "the data set") -> NDArray[np.float32]:
    """Keypoints (m, P, 3) of the faces: x and y in px, and more than 0 where labelled."""
    if dataset.keypoints is None:
        raise InputError(f"{name} has no landmarks: name a data set with keypoints")
    return dataset.keypoints


def _labelled_parts(config: Config, dataset: Dataset) -> Parts:
    return choose_parts(config, dataset.keep_boxes((labelled_faces(dataset)[:, :, 2] > 0).sum(1) >= 2))


def _trained_features(config: Config, model: LandmarkNet) -> dict[str, Tensor]:
    """The tensors of `config.weights` that fit `model`. InputError where no features do."""
    assert config.weights is not None
    fits = fitting(start_from(LandmarkNet, config.origin, config.weights).network, model)
    if not any(key.startswith("stages") for key in fits):
        raise InputError(
            f"nothing of {config.weights} fits {config.model}: it belongs to another network, leave out the "
            "weights"
        )
    return fits


class LandmarkTask:
    """Landmark networks, chosen by normalised mean error; see `toolkit.training.tasks.TrainingTask`."""

    name = "landmarks"
    metric = "nme"
    sign = -1
    useless = 1.0  # the distance of the eyes
    recipe: type[Recipe] = LandmarkRecipe
    default_recipe = DEFAULTS[name]
    best = "best.pt"

    def complete(self, config: Config, dataset: Dataset) -> Config:
        """With the number of points in `changes`; says how many faces the validation leaves out."""
        config.recipe_as(LandmarkRecipe)
        points = labelled_faces(dataset, config.data).shape[1]
        if config.teacher:
            raise InputError("landmark networks learn from labels alone: leave out the teacher")
        changes: dict[str, Any] = {"points": points, **config.changes}
        if config.size is not None:
            changes["input_size"] = list(config.size)
        if changes["points"] != points:
            raise InputError(
                f"{config.data} has {points} points a face, not {changes['points']}: leave points out of the "
                "changes in the settings"
            )
        network = config.origin.build(LandmarkNet, **changes)
        if config.weights:
            _trained_features(config, network)
        parts = _labelled_parts(config, dataset)
        val_set = parts.val
        perfect = evaluation.score_points(labelled_faces(val_set)[:, :, :2], val_set)
        if perfect.left_out:
            print(
                f"{perfect.left_out} faces without labels for the {perfect.normaliser} length are left out "
                "of the validation",
                file=sys.stderr,
            )
        notes = {"validation": parts.note} if parts.note else {}
        return config.model_copy(update={"changes": changes, "notes": notes})

    def parts(self, config: Config, dataset: Dataset) -> tuple[Dataset, Dataset]:
        """Faces with at least two labelled points: others have no bounds to cut out."""
        parts = _labelled_parts(config, dataset)
        return parts.train, parts.val

    def build(self, config: Config) -> LandmarkNet:
        """Fresh weights, and of `config.weights` what fits."""
        seed_everything(config.seed)
        model = config.origin.build(LandmarkNet, **config.changes)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(model.points.linear.weight, std=0.01)
        assert model.points.norm is not None
        nn.init.constant_(model.points.norm.bias, 0.5)  # the middle of the cut
        nn.init.constant_(model.points.norm.weight, 0.1)
        if config.weights:
            model.load_state_dict(_trained_features(config, model), strict=False)
        if config.recipe.loss == "gaussian":
            model.spread = nn.Linear(model.points.linear.in_features, model.spec.points)
            nn.init.zeros_(model.spread.weight)
            nn.init.constant_(model.spread.bias, 1.0)
        return model

    def maker(self, config: Config, model: LandmarkNet, train_set: Dataset) -> FaceMaker:
        """Faces, those of unusual pose several times."""
        levers = config.recipe.augmentation
        keypoints = labelled_faces(train_set)
        points, whole = keypoints[:, :, :2], (keypoints[:, :, 2] > 0).all(1)
        rows, mirror = np.arange(len(points)), np.arange(model.spec.points)
        if levers.flip or levers.poses:
            if not whole.any():
                raise InputError(
                    "no face has all its points: set the levers flip and poses to 0, or label more"
                )
            mirror = mirror_map(points[whole]) if levers.flip else mirror
            counts = np.ones(len(points), np.int64)
            counts[whole] = repeats(points[whole], levers.poses)
            rows = np.repeat(rows, counts)
        cache = PictureCache(train_set, None, limit_gb=config.cache_gb)
        return FaceMaker(
            train_set, cache, config.seed if config.order is None else config.order, rows, mirror
        )

    def losses(
        self, config: Config, model: LandmarkNet, train_set: Dataset, device: torch.device
    ) -> Callable[[list[Tensor], FaceBatch, Tensor], Losses]:
        """`landmark_loss` of the recipe."""
        kind = config.recipe_as(LandmarkRecipe).loss
        return lambda outputs, batch, x: landmark_loss(outputs, batch, model.io, kind)

    def validate(self, network: LandmarkNet, val_set: Dataset) -> float:
        """Mean error of the points, by the distance of the outer eye corners where these are known."""
        return evaluation.score(network, val_set).nme

    def save(self, network: LandmarkNet, folder: Path) -> None:
        """Nothing: best.pt has it all."""

    def draw(self, folder: Path, history: History, network: LandmarkNet, val_set: Dataset) -> None:
        """curves.png from the history; pictures.png, a few faces of the validation."""
        curve(history, ("nme",), "normalised mean error").savefig(folder / "curves.png")
        chosen = np.unique(np.linspace(0, len(val_set) - 1, 10).astype(int))
        face_grid(network, val_set.subset(chosen)).savefig(folder / "pictures.png")


def face_grid(network: Landmarking, dataset: Dataset, columns: int = 5) -> Figure:
    """Pictures with the network's points (yellow) over the labelled ones (white).

    Args:
        network: on any engine.
        dataset: a few pictures of faces with keypoints.
        columns: of the grid.

    Returns:
        A matplotlib figure.

    Raises:
        InputError: where the data set has no landmarks, or a picture does not decode.
    """
    keypoints = labelled_faces(dataset)
    points = evaluation.predict(network, dataset)
    pictures = []
    for i in range(len(dataset)):
        rows, image = dataset.rows(i), load_image(dataset.path(i))
        factor = max(1, round(400 / max(image.shape[:2])))  # dots are no smaller than a pixel
        picture = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        picture = viz.draw_points(picture, keypoints[rows, :, :2] * factor, "#FFFFFF")  # type: ignore[arg-type]
        pictures.append(viz.draw_points(picture, points[rows] * factor))
    return viz.image_grid(pictures, columns=columns)
