"""From a Dataset to batches for training: decoded pictures kept on disk, augmented ahead of the network.

Which picture is where in an epoch, and what happens to it, follows from (seed, epoch, position) alone: not
from the number of workers, processes or restarts. In place of a picture that cannot be read comes the next
one that can.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from toolkit.data.augment import Augmentation, Batch, Sample, augment, make_batch
from toolkit.data.dataset import Dataset
from toolkit.files import whole_file
from toolkit.machine import allowed_cores, cache_folder
from toolkit.models.io import NetworkIO
from toolkit.pictures import Image, Unreadable, load_image
from toolkit.runtime import InputError, progress

CACHE_VERSION = 1  # part of the key: raise it when what is stored changes
LISTED = 20  # pictures left out that are named
AHEAD = 3  # batches that wait, for each worker
GREY = 127  # of a letterbox's borders, which detection fills with 127.5
T = TypeVar("T")
U = TypeVar("U")


class PictureCache:
    """The pictures of a dataset, decoded once: one file of pixels that all processes map.

    A picture is upright by its EXIF tag and keeps its proportions. Where both its sides are longer than
    `side`, it is reduced (INTER_AREA) until the shorter one is `side`: as few pixels as still fill an input
    of `side` x `side` without enlargement. `side=None` keeps all pixels.

    The file is in `folder` (default: `cache_folder()`), named by a hash of `side` and of the names, sizes and
    times of the pictures' files; it can be removed whenever nothing trains. Where it would be larger than
    `limit_gb` or than the free disk, nothing is kept and pictures are decoded at every use: `.file` is None,
    and `.warning`, also printed to stderr, says why. The pictures are the same either way.

    A picture that is missing or does not decode is entered in `.unreadable` (picture -> reason), at the start
    or when it is found, and `nearest` gives another in its place. Raises InputError where that is so of more
    than half of them.
    """

    def __init__(
        self,
        dataset: Dataset,
        side: int | None = None,
        folder: str | Path | None = None,
        limit_gb: float = 8.0,
    ):
        self.paths = [dataset.path(i) for i in range(len(dataset))]
        self.side = side
        self.file: Path | None = None
        self.warning = ""
        self.unreadable: dict[int, str] = {}
        self._announced: set[int] = set()
        if limit_gb <= 0:
            return
        file = (Path(folder) if folder else cache_folder()) / f"pictures-{_key(dataset, side)}.bin"
        try:
            if not file.is_file():
                self._write(file, limit_gb, _expected_bytes(dataset, side))
            self.file = file
            for i in np.flatnonzero(_mapped(file, len(self))[1][:, 0] == 0).tolist():
                self.read(i)
            self.announce(self.unreadable)
        except _NoRoom as reason:
            self.warning = f"{reason}: pictures are decoded anew at every use, which is slower"
        except OSError as error:
            self.warning = (
                f"decoded pictures cannot be kept in {file.parent} ({error.strerror or error}): "
                "they are decoded anew at every use, which is slower"
            )
        if self.warning:
            print(f"warning: {self.warning}", file=sys.stderr)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Image, tuple[int, int]]:
        """Picture i (read-only where it is mapped) and the width and height it has in its file. Unreadable
        where it is missing or does not decode."""
        if self.file is None:
            return _decode(self.paths[i], self.side)
        pixels, table, starts = _mapped(self.file, len(self.paths))
        height, width, own_width, own_height = table[i].tolist()
        if not height:
            return _decode(self.paths[i], self.side)
        start = starts[i]
        image = pixels[start : start + height * width * 3].reshape(height, width, 3)
        return image, (own_width, own_height)

    def nearest(self, i: int) -> tuple[int, Image, tuple[int, int]]:
        """Picture i or, where it cannot be read, the first one after it that can: its number, and as `[]`
        gives it. InputError where more than half of the pictures cannot be read."""
        for j in chain(range(i, len(self)), range(i)):
            if (found := self.read(j)) is not None:
                return j, *found
        raise InputError("no picture to train on can be read")

    def read(self, i: int) -> tuple[Image, tuple[int, int]] | None:
        """As `[]`; None where the picture cannot be read, which is entered in `unreadable`."""
        if i in self.unreadable:
            return None
        try:
            return self[i]
        except Unreadable as error:
            self.unreadable[i] = error.reason
        if 2 * len(self.unreadable) > len(self):
            first = min(self.unreadable)
            raise InputError(
                f"{len(self.unreadable)} of the {len(self)} pictures to train on cannot be read; the first: "
                f"{self.paths[first]} {self.unreadable[first]}"
            )
        return None

    def announce(self, unreadable: Mapping[int, str]) -> None:
        """Take over what another process has found to be unreadable, and name each such picture once on
        stderr."""
        for i in sorted(unreadable.keys() - self._announced):
            self.unreadable[i] = unreadable[i]
            self._announced.add(i)
            if len(self._announced) <= LISTED:
                print(f"skipped: {self.paths[i]} {unreadable[i]}; others take its place", file=sys.stderr)
            elif len(self._announced) == LISTED + 1:
                print("skipped: more pictures; the run's notes have their number", file=sys.stderr)

    @property
    def note(self) -> str:
        """A sentence on the pictures that were left out, "" where none was."""
        if not self.unreadable:
            return ""
        first = min(self.unreadable)
        return (
            f"{len(self.unreadable)} of {len(self)} pictures cannot be read, and others take their place "
            f"(the first: {self.paths[first]} {self.unreadable[first]})"
        )

    def _write(self, file: Path, limit_gb: float, expected: int) -> None:
        """Pixels of all pictures, then a row (height, width, own width, own height) of int64 for each."""

        def check(size: int, written: int = 0) -> None:
            if size > limit_gb * 1e9:
                raise _NoRoom(f"the decoded pictures take more than the {limit_gb:g} GB allowed (limit_gb)")
            if size - written > shutil.disk_usage(file.parent).free:
                raise _NoRoom(f"the decoded pictures do not fit on the disk of {file.parent}")

        file.parent.mkdir(parents=True, exist_ok=True)
        check(expected)
        written, table = 0, []
        with whole_file(file) as temporary, temporary.open("wb") as stream:
            decoded = ahead(self.read, range(len(self)), allowed_cores(), 64)
            for read in progress(decoded, "decoding pictures", len(self)):
                if read is None:
                    table.append((0, 0, 0, 0))
                    continue
                image, own = read
                check(written + image.nbytes, written)
                stream.write(image.tobytes())
                written += image.nbytes
                table.append((*image.shape[:2], *own))
            stream.write(np.array(table, np.int64).tobytes())


class _NoRoom(Exception):
    """The pictures do not fit."""


def _decode(path: Path, side: int | None) -> tuple[Image, tuple[int, int]]:
    try:
        image = load_image(path)
    except Unreadable as error:
        advice = "toolkit data doctor lists such pictures, and its --fix leaves them out"
        raise Unreadable(path, f"{error.reason}; {advice}") from None
    height, width = image.shape[:2]
    own = (width, height)
    if side is not None and min(own) > side:
        image = cv2.resize(image, _reduced(own, side), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return image, own


def _reduced(size: tuple[int, int], side: int) -> tuple[int, int]:
    width, height = size
    return max(side, round(width * side / height)), max(side, round(height * side / width))


def _expected_bytes(dataset: Dataset, side: int | None) -> int:
    """Of the pictures whose size is recorded."""
    total = 0
    for width, height in dataset.sizes.tolist():
        if side is not None and min(width, height) > side:
            width, height = _reduced((width, height), side)
        total += 3 * width * height
    return total


def _key(dataset: Dataset, side: int | None) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {side}".encode())
    for i, name in enumerate(dataset.files):
        try:
            status = os.stat(dataset.path(i))
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            facts = "missing"
        digest.update(f"\n{name} {facts}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


@lru_cache(maxsize=8)
def _mapped(file: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[int]]:
    """Pixels, table and starts of a file of `count` pictures: opened once by each process."""
    try:
        everything = np.memmap(file, np.uint8, "r")
    except OSError:
        raise InputError(
            f"the decoded pictures {file} have vanished: resume the run, which decodes them again"
        ) from None
    split = len(everything) - count * 4 * 8
    table = np.frombuffer(everything[split:].tobytes(), np.int64).reshape(count, 4)
    starts = np.concatenate(([0], np.cumsum(table[:, 0] * table[:, 1] * 3))).tolist()
    return np.asarray(everything[:split]), table, starts


def ahead(work: Callable[[T], U], items: Iterable[T], threads: int, waiting: int) -> Iterator[U]:
    """Results of `work` in the order of `items`, computed by a few threads up to `waiting` items ahead."""
    items = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        futures = deque(pool.submit(work, item) for item in islice(items, waiting))
        while futures:
            done = futures.popleft().result()
            futures.extend(pool.submit(work, item) for item in islice(items, 1))
            yield done
    finally:
        pool.shutdown(cancel_futures=True)


def steps_per_epoch(pictures: int, batch: int, world: int = 1, accumulate: int = 1) -> int:
    """Whole steps of batch x world x accumulate pictures; 1 where there are too few for one whole step."""
    return max(1, pictures // (batch * world * accumulate))


@dataclass(frozen=True)
class Work:
    """What goes into one batch, and how."""

    epoch: int
    positions: NDArray[np.int64]  # (N,) within the epoch
    indices: NDArray[np.int64]  # (N,) rows in the Dataset
    size: tuple[int, int]  # w, h
    settings: Augmentation


class TrainingBatch(Protocol):
    """What every batch has; what is to be learnt is the task's own."""

    @property
    def images(self) -> torch.Tensor: ...  # (N, H, W, 3) uint8 RGB

    def to(self, device: torch.device | str) -> Self: ...


B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Maker(Protocol[B_co]):
    """Makes a batch from a Work, in any process; its length is that of an epoch.

    An InputError is returned and not raised, since torch would wrap what a worker raises.
    """

    @property
    def seed(self) -> int: ...

    @property
    def cache(self) -> PictureCache: ...

    def __len__(self) -> int: ...

    def __getitem__(self, work: Work) -> B_co | InputError: ...


@dataclass(frozen=True, eq=False)
class BatchMaker:
    """Makes a Batch of pictures and boxes; see `Maker`."""

    dataset: Dataset
    cache: PictureCache  # of the same pictures
    seed: int
    fit: str = "stretch"  # or "letterbox", as the network's io says

    def __post_init__(self) -> None:
        if len(self.cache) != len(self.dataset):
            raise InputError(
                f"the cache holds {len(self.cache)} pictures and the dataset {len(self.dataset)}"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, work: Work) -> Batch | InputError:
        samples = []
        try:
            for position, i in zip(work.positions.tolist(), work.indices.tolist(), strict=True):
                # streams that differ only by zeros at the end are the same: 0 is the permutation's
                rng = np.random.default_rng((self.seed, work.epoch, position + 1))
                rows = [i]
                if rng.random() < work.settings.mosaic:
                    rows += rng.integers(len(self.dataset), size=3).tolist()
                sources = [self.sample(row) for row in rows]
                if self.fit == "letterbox":
                    sources = [letterboxed(source, work.size) for source in sources]
                samples.append(augment(sources, work.size, work.settings, rng))
        except InputError as error:
            return error
        return make_batch(samples, work.indices)

    def sample(self, i: int) -> Sample:
        """Picture i with its boxes, cut to the picture; boxes without area are left out. What is crowd,
        ignored, or of a class that is not trained (label -1) is to be ignored. Where it cannot be read, the
        next one that can."""
        i, image, own = self.cache.nearest(i)
        rows = self.dataset.rows(i)
        boxes = (self.dataset.boxes[rows] / np.array(own * 2, np.float32)).clip(0, 1)
        labels = self.dataset.labels[rows].astype(np.int64)
        ignore = self.dataset.crowd[rows] | self.dataset.ignore[rows] | (labels < 0)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return Sample(image, boxes[kept], labels[kept], ignore[kept])


def letterboxed(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample with grey borders that give it the proportions of `size` (w, h): stretched to `size`, it is
    the letterboxed picture that detection sees."""
    height, width = sample.image.shape[:2]
    scale = max(width / size[0], height / size[1])  # of the input, in pixels of the picture
    outer = (max(width, round(size[0] * scale)), max(height, round(size[1] * scale)))
    left, top = (outer[0] - width) // 2, (outer[1] - height) // 2
    borders = (top, outer[1] - height - top, left, outer[0] - width - left)
    image = cv2.copyMakeBorder(sample.image, *borders, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    boxes = (sample.boxes * ([width, height] * 2) + [left, top] * 2) / (outer * 2)
    return replace(sample, image=image, boxes=boxes.astype(np.float32))  # type: ignore[arg-type]


def network_input(images: torch.Tensor, io: NetworkIO) -> torch.Tensor:
    """Pictures as a network takes them: what `toolkit.inference.preprocess` does after it has resized them.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        io: colour order, channels and normalisation.

    Returns:
        (N, channels, H, W) float32.
    """
    pixels = _IN_ORDER[io.channel_order](images)
    return ((pixels.float() - io.mean) * io.scale).permute(0, 3, 1, 2)


def _luminance(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8 RGB -> (N, H, W, 1), equal to OpenCV's RGB2GRAY on a GPU too: .299, .587 and .114 in
    parts of 2^15."""
    parts = torch.tensor([9798, 19235, 3735], dtype=torch.int32, device=images.device)
    return ((images.int() * parts).sum(-1, keepdim=True) + (1 << 14)) >> 15


_IN_ORDER: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "RGB": lambda images: images,
    "BGR": lambda images: images.flip(-1),
    "GRAY": _luminance,
}


def plan(
    pictures: int,
    batch: int,
    size_at: Callable[[int], tuple[int, int]],
    settings_at: Callable[[int], Augmentation],
    seed: int,
    start_step: int,
    stop_step: int,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
) -> Iterator[Work]:
    """The work of one process, `accumulate` items for each step; arguments as in `batches`."""
    parts = world * accumulate
    if pictures < parts:
        raise InputError(
            f"there are {pictures} pictures to train on and each step has {parts} parts "
            f"({world} processes, {accumulate} accumulated batches): use fewer devices, a smaller accumulate "
            "or more pictures"
        )
    steps, epoch = steps_per_epoch(pictures, batch, world, accumulate), -1
    for step in range(start_step, stop_step):
        if epoch != step // steps:
            epoch = step // steps
            order = np.random.default_rng((seed, epoch)).permutation(pictures)
        first = step % steps * batch * parts
        positions = np.arange(first, min(first + batch * parts, pictures))
        shares = np.array_split(positions, parts)
        for share in shares[rank::world]:
            yield Work(epoch, share, order[share], size_at(step), settings_at(step))


def batches(
    maker: Maker[B],
    batch: int,
    size_at: Callable[[int], tuple[int, int]],
    settings_at: Callable[[int], Augmentation],
    start_step: int,
    stop_step: int,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
    workers: int = 0,
) -> Generator[B, None, None]:
    """The batches of steps `start_step` to `stop_step`, `accumulate` for each step, prepared ahead.

    Steps count from 0 over the whole training; `steps_per_epoch` of them are an epoch, which takes the
    pictures in an order of its own. An epoch leaves out what does not fill a last step, and has one short
    step where the set does not fill any. A step's pictures are cut into accumulate x world parts; part
    a * world + rank is batch a of process `rank`: one process that accumulates sees what several processes
    see.

    Args:
        maker: its length is the number of pictures, or faces, in an epoch.
        batch: pictures in one batch of one process.
        size_at: step -> the network's input (w, h).
        settings_at: step -> Augmentation.
        start_step: first step.
        stop_step: step after the last.
        rank: number of this process, from 0.
        world: number of processes.
        accumulate: batches in one step of a process.
        workers: processes that make batches; 0: a thread of this process. The batches are the same.

    Yields:
        The batches that `maker` makes.

    Raises:
        InputError: where there are fewer pictures than parts of a step, and where more than half of the
            pictures cannot be read. `maker.cache.unreadable` has those that were left out.
    """
    items = plan(
        len(maker), batch, size_at, settings_at, maker.seed, start_step, stop_step, rank, world, accumulate
    )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # for small pictures its threads only take the cores from the network
    results: Iterator[tuple[B | InputError, dict[int, str]]]
    noting = _Noting(maker)
    if workers:
        results = iter(
            DataLoader(
                noting,  # type: ignore[arg-type]
                sampler=items,
                batch_size=None,
                num_workers=workers,
                prefetch_factor=AHEAD,
                worker_init_fn=_start_worker,
                generator=torch.Generator(),  # else it would draw from the generator of the training
            )
        )
    else:
        results = ahead(noting.__getitem__, items, 1, AHEAD)
    try:
        for result, unreadable in results:
            maker.cache.announce(unreadable)
            if isinstance(result, InputError):
                raise result
            yield result
    finally:
        cv2.setNumThreads(threads)


@dataclass(frozen=True)
class _Noting(Generic[B]):
    """Batches with what was found to be unreadable until then, which a worker's process has for itself."""

    maker: Maker[B]

    def __len__(self) -> int:
        return len(self.maker)

    def __getitem__(self, work: Work) -> tuple[B | InputError, dict[int, str]]:
        return self.maker[work], dict(self.maker.cache.unreadable)


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
