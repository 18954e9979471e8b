"""A detection dataset: in memory plain numpy columns, on disk COCO JSON beside its pictures.

The canonical folder is `annotations/<split>.json` (pictures of no split: `all.json`) and `images/...`;
`file_name` is relative to `images`. Beside COCO's own fields an annotation carries `ignore`, and a picture
that was reduced carries `original_width` and `original_height`.
"""

from __future__ import annotations

import os
import re
import shutil
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import boxes as box_formats
from toolkit.runtime import InputError, progress, whole_folder

SPLITS = ("train", "val", "test")  # first in every folder, in this order; others follow by name, "" last


@dataclass(frozen=True, eq=False)
class Dataset:
    """Columns of n pictures and m boxes; the boxes of picture i are the rows `starts[i]:starts[i + 1]`.

    A hundred thousand pictures with a million boxes take about 60 MB.
    """

    root: Path  # the folder that `files` are relative to
    classes: tuple[str, ...]
    files: list[str]  # n
    image_ids: NDArray[np.int64]  # (n,)
    sizes: NDArray[np.int32]  # (n, 2) width, height; 0 where not recorded
    splits: NDArray[np.str_]  # (n,) "train", "val", "test" or ""
    starts: NDArray[np.int64]  # (n + 1,)
    box_ids: NDArray[np.int64]  # (m,)
    boxes: NDArray[np.float32]  # (m, 4) absolute xyxy pixels
    labels: NDArray[np.int32]  # (m,) index into classes
    crowd: NDArray[np.bool_]  # (m,) COCO's iscrowd
    ignore: NDArray[np.bool_]  # (m,) VOC's difficult, WIDER FACE's invalid
    keypoints: NDArray[np.float32] | None = None  # (m, k, 3) x, y, visibility as COCO has them
    areas: NDArray[np.float32] | None = None  # (m,) COCO's mask areas; None: the areas of the boxes
    original_sizes: NDArray[np.int32] | None = (
        None  # (n, 2) before the pictures were reduced; None: as `sizes`
    )

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, i: int) -> slice:
        """The rows of picture i in the box columns."""
        return slice(int(self.starts[i]), int(self.starts[i + 1]))

    def path(self, i: int) -> Path:
        return self.root / self.files[i]

    def subset(self, indices: NDArray[np.integer]) -> Dataset:
        """The pictures at `indices` in that order, with their boxes; identifiers are kept."""
        indices = np.asarray(indices, np.int64)
        counts = np.diff(self.starts)[indices]
        starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        rows = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[indices], counts)
        return replace(
            self,
            files=[self.files[i] for i in indices],
            image_ids=self.image_ids[indices],
            sizes=self.sizes[indices],
            splits=self.splits[indices],
            starts=starts,
            original_sizes=None if self.original_sizes is None else self.original_sizes[indices],
            **self._box_columns(rows),
        )

    def keep_boxes(self, keep: NDArray[np.bool_]) -> Dataset:
        """The boxes where `keep` (m,) is true; all pictures stay."""
        starts = np.concatenate(([0], np.cumsum(keep)))[self.starts].astype(np.int64)
        return replace(self, starts=starts, **self._box_columns(keep))

    def _box_columns(self, rows: NDArray[Any]) -> dict[str, Any]:
        names = ("box_ids", "boxes", "labels", "crowd", "ignore", "keypoints", "areas")
        columns = {name: getattr(self, name) for name in names}
        return {name: None if column is None else column[rows] for name, column in columns.items()}

    def split(self, name: str) -> Dataset:
        """The pictures of one split, in their order."""
        return self.subset(np.flatnonzero(self.splits == name))

    def original_scale(self) -> NDArray[np.float64]:
        """(n, 2) factors that take x, y in the pixels of a picture to those of its original.

        Ones where nothing was reduced. Boxes are always in the pixels of the pictures that are there; an
        evaluation protocol that is defined on the originals multiplies by these.
        """
        if self.original_sizes is None:
            return np.ones((len(self), 2))
        return self.original_sizes / np.maximum(self.sizes, 1)


class Columns:
    """Collects the columns of a Dataset, picture by picture, in packed arrays (no object per box)."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.splits: list[str] = []
        self._image_ids = array("q")
        self._sizes = array("i")
        self._original_sizes = array("i")
        self._box_pictures = array("q")
        self._box_ids = array("q")
        self._boxes = array("f")
        self._labels = array("i")
        self._crowd = array("b")
        self._ignore = array("b")
        self._areas = array("f")
        self._keypoints = array("f")
        self._keypoint_rows = array("q")
        self._points = 0

    def __len__(self) -> int:
        return len(self.files)

    def add_picture(
        self,
        file: str,
        size: tuple[int, int] = (0, 0),
        split: str = "",
        image_id: int | None = None,
        original_size: tuple[int, int] | None = None,
    ) -> int:
        """Append a picture and return its index; `file` must stay inside the dataset's folder."""
        parts = PurePosixPath(file).parts
        if not parts or ".." in parts or parts[0] == "/":
            raise InputError(f"the picture name {file!r} leads out of the dataset's folder")
        self._image_ids.append(len(self.files) + 1 if image_id is None else image_id)
        self._sizes.extend((int(size[0]), int(size[1])))
        if original_size is not None:
            if len(self._original_sizes) != 2 * len(self.files):
                raise InputError(f"{file} has an original size and pictures before it have none")
            self._original_sizes.extend((int(original_size[0]), int(original_size[1])))
        self.files.append(file)
        self.splits.append(split)
        return len(self.files) - 1

    def add_box(
        self,
        picture: int,
        box: Sequence[float],
        label: int,
        crowd: bool = False,
        ignore: bool = False,
        box_id: int | None = None,
        keypoints: Sequence[float] = (),
        area: float | None = None,
    ) -> None:
        """Append a box xyxy of picture number `picture`; `keypoints` is a flat x, y, visibility, x, ..."""
        row = len(self._labels)
        if keypoints:
            if len(keypoints) % 3 or (self._points and len(keypoints) != 3 * self._points):
                raise InputError(
                    f"every box with keypoints needs the same number of x, y, visibility triplets: "
                    f"found {len(keypoints)} numbers after boxes with {3 * self._points}"
                )
            self._points = len(keypoints) // 3
            self._keypoints.extend(keypoints)
            self._keypoint_rows.append(row)
        self._box_pictures.append(picture)
        self._box_ids.append(row + 1 if box_id is None else box_id)
        self._boxes.extend(box)
        self._labels.append(label)
        self._crowd.append(bool(crowd))
        self._ignore.append(bool(ignore))
        self._areas.append(np.nan if area is None else area)

    @property
    def boxes_so_far(self) -> int:
        return len(self._labels)

    def resolve(
        self, first: int, first_box: int, labels: Mapping[int, int], source: Path, strict: bool
    ) -> None:
        """Turn the image and category identifiers that the boxes from `first_box` on were added with into
        indices: pictures from `first` on by their identifier, categories by `labels`."""
        ids = np.array(self._image_ids[first:], np.int64)
        order = np.argsort(ids, kind="stable")
        if (np.diff(ids[order]) == 0).any():
            raise InputError(f"{source} gives two pictures the same id")
        if first_box == self.boxes_so_far:
            return
        wanted = np.frombuffer(self._box_pictures, np.int64)[first_box:]
        place = np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)
        found = ids[order[place]] == wanted
        if not found.all():
            raise InputError(
                f"{source} has an annotation of picture id {wanted[~found][0]}, which is not among its images"
            )
        wanted[:] = order[place] + first
        given = np.frombuffer(self._labels, np.int32)[first_box:]
        categories, inverse = np.unique(given, return_inverse=True)
        unknown = [c for c in categories.tolist() if c not in labels]
        if unknown and strict:
            raise InputError(
                f"{source} has an annotation of category id {unknown[0]}, which is not among its categories"
            )
        given[:] = np.array([labels.get(c, -1) for c in categories.tolist()], np.int32)[inverse]

    def dataset(self, root: Path, classes: Sequence[str], source: str | Path) -> Dataset:
        """The finished Dataset, boxes sorted by picture (their order within a picture is kept).

        Raises InputError for no pictures and for numbers that are not finite; identifiers that are not unique
        (several files that each count from one) are numbered anew.
        """
        n, m = len(self.files), len(self._labels)
        if n == 0:
            raise InputError(f"{source} has no pictures: expected at least one")
        pictures = np.frombuffer(self._box_pictures, np.int64) if m else np.zeros(0, np.int64)
        boxes = np.array(self._boxes, np.float32).reshape(m, 4)
        if not np.isfinite(boxes).all():
            bad = self.files[int(pictures[np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0]])]
            raise InputError(f"{source}: a box of {bad} is not made of finite numbers")
        keypoints = None
        if self._points:
            keypoints = np.zeros((m, self._points, 3), np.float32)
            keypoints[np.array(self._keypoint_rows, np.int64)] = np.array(
                self._keypoints, np.float32
            ).reshape(-1, self._points, 3)
            if not np.isfinite(keypoints).all():
                raise InputError(f"{source}: a keypoint is not made of finite numbers")
        if self._original_sizes and len(self._original_sizes) != 2 * n:
            raise InputError(f"{source}: only some of the pictures have an original size")
        columns: dict[str, NDArray[Any]] = {
            "box_ids": _unique(np.array(self._box_ids, np.int64)),
            "boxes": boxes,
            "labels": np.array(self._labels, np.int32),
            "crowd": np.array(self._crowd, np.bool_),
            "ignore": np.array(self._ignore, np.bool_),
        }
        areas = np.array(self._areas, np.float32)
        own = box_formats.area(boxes)
        areas = np.where(np.isfinite(areas), areas, own)
        if not np.allclose(areas, own, rtol=1e-3, atol=0.01):
            columns["areas"] = areas
        if keypoints is not None:
            columns["keypoints"] = keypoints
        if m and (np.diff(pictures) < 0).any():
            order = np.argsort(pictures, kind="stable")
            pictures = pictures[order]
            columns = {name: column[order] for name, column in columns.items()}
        return Dataset(
            root=root,
            classes=tuple(classes),
            files=self.files,
            image_ids=_unique(np.array(self._image_ids, np.int64)),
            sizes=np.array(self._sizes, np.int32).reshape(n, 2),
            splits=np.array(self.splits, np.str_),
            starts=np.searchsorted(pictures, np.arange(n + 1)).astype(np.int64),
            original_sizes=np.array(self._original_sizes, np.int32).reshape(n, 2)
            if self._original_sizes
            else None,
            **columns,
        )


def _unique(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1, dtype=np.int64)


def match_classes(dataset: Dataset, classes: Sequence[str], strict: bool = True) -> Dataset:
    """The same boxes with labels that count in `classes`, matched by name.

    Classes that the dataset lacks stay without boxes. A box whose class is not in `classes`, or whose number
    is beyond the dataset's own names, raises InputError; with `strict=False` it gets the label -1.
    """
    known = {name: i for i, name in enumerate(classes)}
    n = len(dataset.classes)
    used = np.unique(dataset.labels).tolist()
    beyond = [label for label in used if not 0 <= label < n]
    unknown = [dataset.classes[i] for i in used if 0 <= i < n and dataset.classes[i] not in known]
    if strict and beyond:
        raise InputError(f"{dataset.root} has a box of class number {beyond[0]} and {n} class names")
    if strict and unknown:
        raise InputError(
            f"{dataset.root} has boxes of class {unknown[0]!r}, which is not among the names asked for "
            f"({shown(classes)})"
        )
    table = np.array([*(known.get(name, -1) for name in dataset.classes), -1], np.int32)
    inside = (dataset.labels >= 0) & (dataset.labels < n)
    return replace(dataset, classes=tuple(classes), labels=table[np.where(inside, dataset.labels, n)])


def shown(names: Sequence[str], limit: int = 8) -> str:
    """Names for an error message: the first few, then how many there are."""
    if len(names) <= limit:
        return ", ".join(names) or "none"
    return ", ".join(names[:limit]) + f", ... {len(names)} in all"


def split_order(splits: Iterable[str]) -> list[str]:
    """The distinct splits in the order in which they are written: train, val, test, others by name, ""."""
    return sorted(set(splits), key=lambda s: (s == "", SPLITS.index(s) if s in SPLITS else len(SPLITS), s))


def unique_names(files: Sequence[str], by_stem: bool = False) -> list[str]:
    """Relative names that stay apart on every file system: a repeated one (upper and lower case are one)
    gets `_2`, `_3`, ... before its extension. `by_stem` also keeps apart names that differ in the
    extension only, for formats that name the label file after the picture."""

    def key(name: str) -> str:
        return (os.path.splitext(name)[0] if by_stem else name).casefold()

    taken = {key(name) for name in files}
    free = set(taken)
    names = []
    for name in files:
        if key(name) in free:
            free.remove(key(name))
        else:
            stem, extension = os.path.splitext(name)
            count = 2
            while key(f"{stem}_{count}{extension}") in taken:
                count += 1
            name = f"{stem}_{count}{extension}"
            taken.add(key(name))
        names.append(name)
    return names


def fresh_folder(folder: str | Path, overwrite: bool = False) -> AbstractContextManager[Path]:
    """`runtime.whole_folder`, which refuses to replace a folder that holds anything unless told to."""
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise InputError(f"{folder} exists already: choose another place for the output or remove it first")
    return whole_folder(folder)


def place_pictures(
    dataset: Dataset, folder: Path, names: Sequence[str], link: bool, title: str = "pictures"
) -> None:
    """Put every picture into `folder` under its name: a hard link where the file system can, else a copy."""
    made: set[Path] = set()
    for i, name in enumerate(progress(names, title)):
        target = folder / name
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        try:
            if link:
                try:
                    os.link(os.path.realpath(dataset.path(i)), target)
                    continue
                except FileNotFoundError:
                    raise
                except OSError:
                    pass  # another file system, or one without hard links
            shutil.copyfile(dataset.path(i), target)
        except FileNotFoundError:
            raise InputError(f"the picture {dataset.path(i)} is missing") from None


def save(dataset: Dataset, folder: str | Path, link: bool = True, overwrite: bool = False) -> Dataset:
    """Write the canonical folder, whole or not at all, and return the dataset as it now lies there.

    Pictures are hard links to the sources where the file system allows it (`link=False` copies: do that
    before editing pictures in place). Identifiers, crowd, ignore, keypoints, areas, sizes and splits are
    kept; on loading, pictures come split by split (`split_order`), within one in the order they have here.
    InputError for a folder that holds something already, a missing picture, no pictures, or a split name that
    cannot be a file name.
    """
    folder = Path(folder)
    if not len(dataset):
        raise InputError(f"there are no pictures to save to {folder}: expected at least one")
    names = unique_names(dataset.files)
    with fresh_folder(folder, overwrite) as temporary:
        placed = replace(dataset, files=names)
        place_pictures(dataset, temporary / "images", names, link)
        write_annotations(placed, temporary)
    return replace(placed, root=folder / "images")


def write_annotations(dataset: Dataset, folder: Path) -> None:
    """The `annotations` of a canonical folder whose `images` are there already."""
    from toolkit.data.formats.coco import split_of, write_coco  # builds on this module

    (folder / "annotations").mkdir()
    for split in split_order(dataset.splits.tolist()):
        if split != "" and (split_of(split) != split or re.fullmatch(r"[\w.-]+", split) is None):
            raise InputError(
                f"{split!r} cannot name a split on disk: use train, val, test or another plain word"
            )
        write_coco(dataset.split(split), folder / "annotations" / f"{split or 'all'}.json")


def load(source: str | Path, strict: bool = True) -> Dataset:
    """A dataset by name or from a folder.

    `source` is the name of a card in `datasets/` ("bccd", "toy", ...: read from the folder that TOOLKIT_DATA
    names, or from `datasets/<name>`, in whatever format it has; the toy set is made where it is missing) or a
    path: the canonical folder, or any format that `formats.detect_format` knows. A folder with the name of a
    card is given as "./name". `strict` as in `formats.read`. InputError where nothing is found.
    """
    from toolkit.data import cards, formats  # they build on this module

    text = str(source)
    if isinstance(source, str) and re.fullmatch(r"\w+", text) and text in cards.names():
        return cards.load(text, strict)
    if not Path(source).exists():
        raise InputError(
            f"there is no dataset {text!r}: neither a file or folder nor one of {shown(cards.names(), 20)}"
        )
    return formats.read(source, strict=strict)
