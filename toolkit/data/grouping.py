"""Which pictures belong together: by their names (frames of a clip, bursts, copies of one picture) and by
their looks (exact and near duplicates)."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.splitting import SPLIT_WORDS, split_of
from toolkit.pictures import natural
from toolkit.runtime import progress

if TYPE_CHECKING:
    from toolkit.data.doctor.pictures import Pictures

Numbers = NDArray[np.int64]

COPIES, BURSTS, CLIPS = "copies of one picture", "pictures of one burst", "frames of one clip"

_ROBOFLOW = re.compile(r"(?P<source>.+?)(?:_(?:jpe?g|png|bmp|webp|tiff?|gif))?\.rf\.[\w-]+", re.I)
_AUGMENTED = re.compile(r"(?P<source>.+?)[-_ .]aug(?:mented)?[-_ ]?\d*", re.I)
_BURST = re.compile(r"(?P<before>.*?)[\W_]*burst[\W_]*(?P<stamp>\d*)", re.I)
_FRAME = re.compile(r"(?P<clip>.*?)[\W_]*(?:frames?|(?<=[\W_\d])(?:frm|fr|f))[\W_]*(?P<number>\d+)", re.I)
_MOMENT = re.compile(r"(?P<clip>.*(?<!\d)\d{8}[-_]?\d{6,9})[\W_]+(?P<number>\d{1,4})")
_NUMBERED = re.compile(r"(?P<clip>.*?)[\W_]*(?P<number>\d+)")
_CAMERA_FOLDER = re.compile(r"\d{3}[A-Z_]{5}|\d{3}_\d{4}", re.I)  # 100CANON, as cameras make them
_CLIP_WORD = re.compile(
    r"(?:clip|video|footage|sequence|scene|recording|camera|stream)[a-z]?s?|vid|mvi|mov|movie|seq|cam|rec"
)
_PLAIN_WORDS = {  # of cameras, telephones and data sets: who shares them need not share anything else
    *SPLIT_WORDS, *"""img image images imgs pic pics picture pictures photo photos foto snapshot screenshot
    scan dsc dscn dscf dscp pict cimg sam mg pxl mvimg dji gopr gp p wa wp win whatsapp signal telegram
    coco voc data dataset frame frames jpegimages obj rgb jpg jpeg png""".split(),
}  # fmt: skip
_DATE = re.compile(r"(?:19|20)\d\d(?:\d{4})?")


@dataclass(frozen=True)
class NameGroup:
    """Pictures that belong together by their names."""

    kind: str
    pictures: tuple[int, ...]  # two or more, in the order of their names


def groups_by_name(files: Sequence[str], classes: Sequence[str] = ()) -> list[NameGroup]:
    """Pictures whose names say that they belong together.

    Copies that Roboflow (`a_jpg.rf.<hash>.jpg`) and others (`a_aug1.jpg`) make of one picture; pictures of a
    burst; frames of a clip, where the name says so (`IMG_1234_frame_000010.jpg`, `video2_0001.jpg`) or where
    several names or folders with a number of their own (`s3_0001.jpg`; `a/0001.jpg` and `b/0001.jpg`) count
    on in equal steps. The numbering of a camera or a data set (`IMG_0001.jpg`, `000000001234.jpg`), folders
    of splits, and folders with the name of a class join nothing.

    Args:
        files: relative names.
        classes: class names of the data set.

    Returns:
        The groups; a picture may be in one of copies and in another one besides.

    >>> [group.pictures for group in groups_by_name(["a_frame_1.jpg", "b_frame_1.jpg", "a_frame_2.jpg"])]
    [(0, 2)]
    >>> groups_by_name([f"IMG_{i:04d}.jpg" for i in range(500)])
    []
    """
    copies: dict[tuple[str, ...], list[int]] = defaultdict(list)
    marked, clips = set(), _Clips(classes)
    for i in sorted(range(len(files)), key=lambda i: (natural(files[i]), i)):
        path = PurePosixPath(files[i])
        folder = tuple(part for part in path.parent.parts if not _plain(part))
        source = path.stem
        while copy := _ROBOFLOW.fullmatch(source) or _AUGMENTED.fullmatch(source):
            source = copy["source"]
        copies[*folder, source].append(i)
        if source != path.stem:
            marked.add((*folder, source))
        clips.add(folder, source, i)
    groups = [NameGroup(COPIES, tuple(copies[key])) for key in copies if key in marked]
    return [group for group in (*groups, *clips.groups()) if len(group.pictures) > 1]


def _plain(word: str) -> bool:
    """Whether all words of a name are a camera's, a data set's, or dates."""
    parts = re.findall(r"[^\W\d_]+|\d+", word.lower())
    return split_of(word) in ("train", "val", "test", "") or all(
        part in _PLAIN_WORDS or _DATE.fullmatch(part) for part in parts
    )


def _says_clip(words: Iterable[str]) -> bool:
    """Whether one of the names has the word for a clip."""
    return any(
        _CLIP_WORD.fullmatch(part) for word in words for part in re.findall(r"[^\W\d_]+", word.lower())
    )


class _Clips:
    """Collects the pictures of clips and bursts; those that only a comparison can tell are kept for it."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = {_bare(name) for name in classes}
        self.sure: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self.bursts: dict[tuple[str, ...], list[int]] = defaultdict(list)
        # by the name before the number and by the folder: pictures and their numbers
        self.names: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        self.folders: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)

    def add(self, folder: tuple[str, ...], stem: str, picture: int) -> None:
        if burst := _BURST.match(stem):
            stamp = burst["stamp"] if len(burst["stamp"]) >= 8 else burst["before"]
            self.bursts[*folder, stamp].append(picture)
        elif moment := _MOMENT.fullmatch(stem):
            self.bursts[*folder, moment["clip"]].append(picture)
        elif frame := _FRAME.fullmatch(stem):
            self.sure[*folder, frame["clip"]].append(picture)
        elif numbered := _NUMBERED.fullmatch(stem):
            member = (int(numbered["number"]), picture)
            if not _plain(numbered["clip"]):
                self.names[*folder, numbered["clip"]].append(member)
            elif folder:
                self.folders[folder].append(member)

    def groups(self) -> list[NameGroup]:
        groups = [NameGroup(BURSTS, tuple(pictures)) for pictures in self.bursts.values()]
        groups += [NameGroup(CLIPS, tuple(pictures)) for pictures in self.sure.values()]
        for members in (*self._named(), *self._in_folders()):
            groups.append(NameGroup(CLIPS, tuple(picture for _, picture in members)))
        return groups

    def _named(self) -> list[list[tuple[int, int]]]:
        """Names with a number of their own, of which there are several: `clip03` of `clip03_0001`."""
        several = len(self.names) > 1
        groups = []
        for (*_, name), members in self.names.items():
            numbered = re.search(r"\d", name) is not None
            counted = numbered and several and _in_equal_steps(members)
            named = _says_clip([name]) and (numbered or several)
            if (counted or named) and _bare(name) not in self.classes:
                groups.append(members)
        return groups

    def _in_folders(self) -> list[list[tuple[int, int]]]:
        """Folders, several of which count from the same numbers."""
        owners = Counter(number for members in self.folders.values() for number in {m[0] for m in members})
        return [
            members
            for folder, members in self.folders.items()
            if _says_clip(folder)
            or (
                _bare(folder[-1]) not in self.classes
                and not _CAMERA_FOLDER.fullmatch(folder[-1])
                and _in_equal_steps(members)
                and any(owners[number] > 1 for number, _ in members)
            )
        ]


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold()).rstrip("s")


def _in_equal_steps(members: Sequence[tuple[int, int]]) -> bool:
    """Whether at least half of three or more numbers follow one another in the same step."""
    gaps = np.diff(np.unique([number for number, _ in members]))
    most = int(np.unique(gaps, return_counts=True)[1].max(initial=0))
    return most >= max(2, len(gaps) / 2)


def joined(groups: Numbers, first: ArrayLike, second: ArrayLike) -> Numbers:
    """Numbers of groups (n,), from 0, after picture `first[k]` has come into the group of `second[k]`, for
    all k.

    >>> joined(np.arange(5), [0, 3], [1, 1]).tolist()
    [0, 0, 1, 0, 2]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = groups[np.asarray(first, np.int64)], groups[np.asarray(second, np.int64)]
    links = coo_matrix((np.ones(len(ends[0]), np.bool_), ends), shape=(len(groups), len(groups)))
    numbers = connected_components(links, directed=False)[1][groups]
    _, first_seen, new = np.unique(numbers, return_index=True, return_inverse=True)
    ranked: Numbers = np.argsort(np.argsort(first_seen))[new]
    return ranked


def members_of(numbers: Numbers) -> list[Numbers]:
    """The pictures of each group."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def seen_pictures(dataset: Dataset) -> Pictures:
    """The looks of all pictures; once for as long as their files do not change."""
    return _seen_files(dataset.root, dataset.files)


def _seen_files(root: Path, files: Sequence[str]) -> Pictures:
    paths = [root / name for name in files]
    stamps = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
    return _seen(root, tuple(files), stamps)


@lru_cache(maxsize=1)  # a training asks twice for the same pictures
def _seen(root: Path, files: tuple[str, ...], stamps: tuple[int, ...]) -> Pictures:
    from toolkit.data.doctor.pictures import look_at

    pictures = Columns()  # without boxes, which the look does not need
    for name in files:
        pictures.add_picture(name)
    return look_at(pictures.dataset(root, (), root))


def exact_copies(digests: Sequence[bytes], looks: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs (first, later) of pictures with the same pixels. Plain pictures, whose look is zero, are none:
    that they are alike says nothing."""
    first: dict[bytes, int] = {}
    pairs = []
    for i in np.flatnonzero(looks[:, 0].any(axis=1)).tolist():
        earlier = first.setdefault(digests[i], i)
        if earlier != i:
            pairs.append((earlier, i))
    return pairs


def near_copies(looks: NDArray[np.float32], groups: Numbers, block: int = 1024) -> tuple[Numbers, Numbers]:
    """Groups joined where pictures are nearly the same.

    Args:
        looks: (n, 2, 100) of `toolkit.data.doctor.pictures.look_at`.
        groups: (n,) numbers of groups so far.
        block: pictures that are compared at once.

    Returns:
        The new groups (n,), and pairs (k, 2) of pictures that joined two of them.
    """
    import torch

    from toolkit.data.doctor.pictures import NEAR, poses

    pairs = [np.zeros((0, 2), np.int64)]
    everything = torch.from_numpy(looks)
    starts = range(0, len(looks), block)
    for a in progress(starts, "near duplicates"):
        mine = everything[a : a + block]
        turned = poses(mine[:, 0])
        for b in range(a, len(looks), block):
            theirs = everything[b : b + block]
            likeness = torch.maximum(mine[:, 1] @ theirs[:, 0].T, mine[:, 0] @ theirs[:, 1].T)
            for pose in turned:
                likeness = torch.maximum(likeness, pose @ theirs[:, 0].T)
            rows = (likeness >= NEAR).nonzero().numpy() + np.array([a, b])
            rows = rows[groups[rows[:, 0]] != groups[rows[:, 1]]]
            if len(rows):
                groups = joined(groups, rows[:, 0], rows[:, 1])
                pairs.append(rows)
    return groups, np.concatenate(pairs)


@dataclass(frozen=True)
class CopyGroups:
    """Pictures that are copies of one another."""

    groups: tuple[tuple[int, ...], ...]  # two or more, in their order
    exact: frozenset[int]  # those of which an earlier picture has every pixel


def copy_groups(paths: Sequence[str | Path]) -> CopyGroups:
    """Exact and near duplicates among pictures, by the measure of the doctor. What is alike by way of others
    is in one group. Pictures that do not decode are copies of none.

    Args:
        paths: of the pictures.
    """
    whole = [Path(os.path.abspath(path)) for path in paths]
    root = Path(whole[0].anchor) if whole else Path()
    seen = _seen_files(root, [path.relative_to(root).as_posix() for path in whole])
    first: dict[bytes, int] = {}
    earlier = [first.setdefault(digest, i) if digest else i for i, digest in enumerate(seen.digests)]
    exact = frozenset(i for i, other in enumerate(earlier) if other < i)
    numbers = joined(np.arange(len(paths)), np.arange(len(paths)), earlier)
    numbers, _ = near_copies(seen.looks, numbers)
    groups = (tuple(each.tolist()) for each in members_of(numbers) if len(each) > 1)
    return CopyGroups(tuple(groups), exact)
