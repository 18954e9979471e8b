"""Faults 7 to 11: what only the pictures tell. Each is opened and decoded once, in worker processes."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.data.doctor.boxes import ODDS, fractions_of_the_turned_picture, inside, shape_odds
from toolkit.data.doctor.findings import Finding, by, of_picture, owners_of
from toolkit.data.splitting import split_order
from toolkit.runtime import progress

AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
EXIF_ORIENTATION = 0x0112
NEAR = 0.85  # likeness of pictures: re-encoded, resized, turned or brightened copies reach .9, strangers .79
_SIDE = 32  # a picture's look is taken from this many pixels square
_WAVES = 10  # and from this many waves each way
_LOOK = (2, _WAVES * _WAVES)


@dataclass(frozen=True)
class Pictures:
    """What was seen of n pictures."""

    damage: list[str]  # n, "" where the picture decodes
    sizes: NDArray[np.int32]  # (n, 2) width, height as stored, before any rotation; 0 where unknown
    turns: NDArray[np.int8]  # (n,) EXIF orientation 1..8
    digests: list[bytes]  # n, of the decoded pixels; empty where there are none
    looks: NDArray[np.float32]  # (n, 2, 100), see `_look_of`


Seen = tuple[str, tuple[int, int], int, bytes, NDArray[np.float32]]  # one picture's


class _Files(torch.utils.data.Dataset[Seen]):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Seen:
        return _see(self.paths[i])


def look_at(dataset: Dataset) -> Pictures:
    """Open every picture."""
    n = len(dataset)
    damage, digests = [""] * n, [b""] * n
    sizes, turns = np.zeros((n, 2), np.int32), np.ones(n, np.int8)
    looks = np.zeros((n, *_LOOK), np.float32)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    loader = torch.utils.data.DataLoader(
        _Files([str(dataset.path(i)) for i in range(n)]),
        batch_size=32,
        num_workers=max(1, min(cores, n // 64)),  # never none: a worker's decoder is heard on its stderr
        collate_fn=list,
        worker_init_fn=_one_thread,
    )
    i = 0
    for batch in progress(loader, "pictures", total=len(loader)):
        for damage[i], sizes[i], turns[i], digests[i], looks[i] in batch:
            i += 1
    return Pictures(damage, sizes, turns, digests, looks)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)


def _see(path: str) -> Seen:
    from PIL import Image

    blank = np.zeros(_LOOK, np.float32)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}", (0, 0), 1, b"", blank
    size, turn = (0, 0), 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures and untidy EXIF blocks
            with Image.open(io.BytesIO(data)) as header:
                size = header.size
                turn = header.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # whatever a broken header makes the library raise: the decoder has the last word
        pass
    turn = turn if turn in range(1, 9) else 1
    pixels: Any = None
    with _stderr() as messages, suppress(cv2.error):  # nothing to decode, or larger than OpenCV takes
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), AS_STORED)
    if pixels is None:
        what = "is empty" if not data else "does not decode" if size == (0, 0) else "is cut short or damaged"
        return what, size, turn, b"", blank
    # The JPEG decoder goes on after damage and only says so. Stray bytes between markers lose nothing.
    complaints = [line for line in messages if "Corrupt" in line and "extraneous" not in line]
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels)
    damage = f"is damaged ({complaints[0].strip()})" if complaints else ""
    return damage, pixels.shape[1::-1], turn, digest.digest(), _look_of(pixels)


@contextmanager
def _stderr() -> Iterator[list[str]]:
    """The lines that C libraries write to stderr inside the block; there once it has ended."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(0)
            lines += sink.read().decode(errors="replace").splitlines()


def _look_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) -> (2, 100): unit vectors of the whole picture and of the inner 90 % of it, which stay where
    they are under re-encoding, rescaling and brightening; zero for a plain picture.

    The lowest waves (2-D DCT) of the picture at 32 x 32, each weighted by its frequency: pictures of the
    world have amplitudes that fall with frequency, so every wave then says about as much as any other, and
    the vectors of unrelated pictures are nearly at right angles. Their product is the likeness.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    looks = np.zeros(_LOOK, np.float32)
    for look, (dx, dy) in zip(looks, ((0, 0), (width // 20, height // 20)), strict=True):
        part = grey[dy : height - dy, dx : width - dx]
        small = cv2.resize(part, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        if small.std() > 1:  # a plain picture looks like every other plain picture
            waves = cv2.dct(small)[:_WAVES, :_WAVES]
            waves = waves * np.hypot(*np.mgrid[:_WAVES, :_WAVES])  # the mean, frequency 0, drops out
            look[:] = (waves / np.linalg.norm(waves)).ravel()
    return looks


# ---- 7, 8, 9: damage, rotation, recorded size ---------------------------------------------------------


def undecodable(dataset: Dataset, seen: Pictures) -> list[Finding]:
    """Fault 7."""
    return [
        of_picture("undecodable", dataset, i, damage, "drop picture")
        for i, damage in enumerate(seen.damage)
        if damage
    ]


def size_findings(dataset: Dataset, seen: Pictures | None) -> tuple[NDArray[np.int32], list[Finding]]:
    """Faults 8 and 9, and the size (n, 2) that the labels of each picture are meant for."""
    recorded = dataset.sizes
    if seen is None:
        return recorded, []
    frames = recorded.copy()
    recorded_rows = np.all(recorded > 0, axis=1)
    decodes = np.array([bool(digest) for digest in seen.digests], np.bool_)
    stored = seen.sizes
    shown = np.where((seen.turns >= 5)[:, None], stored[:, ::-1], stored)
    is_stored, is_shown = np.all(recorded == stored, axis=1), np.all(recorded == shown, axis=1)
    frames[decodes & ~recorded_rows] = stored[decodes & ~recorded_rows]
    # The labels say which of two sizes is theirs: the one that fewer boxes leave.
    out_of_stored, out_of_shown = _boxes_outside(dataset, stored), _boxes_outside(dataset, shown)
    out_of_recorded = _boxes_outside(dataset, recorded)

    findings = []
    for i in np.flatnonzero(decodes & recorded_rows & ~is_stored & ~is_shown):
        backwards = bool((recorded[i] == stored[i, ::-1]).all())
        sure = out_of_stored[i] < out_of_recorded[i] or (backwards and out_of_stored[i] == out_of_recorded[i])
        if sure:
            frames[i] = stored[i]
        what = "width and height are swapped" if backwards else "the boxes may be at another scale"
        if sure and not backwards:
            what = "the boxes fit the picture"
        findings.append(
            of_picture(
                "size-mismatch",
                dataset,
                int(i),
                f"is recorded as {by(recorded[i])} and is {by(stored[i])}: {what}",
                "record size" if sure else "",
            )
        )
    # Fractions have no size of their own: their reader took the one that is shown. Their shapes may tell.
    odds = shape_odds(dataset, shown, fractions_of_the_turned_picture)
    for i in np.flatnonzero(decodes & (seen.turns != 1)):
        follows = is_shown[i] and not is_stored[i]
        if (follows and odds[i] <= ODDS) or (not recorded_rows[i] and out_of_shown[i] < out_of_stored[i]):
            frames[i] = shown[i]
            continue
        ignores = (is_stored[i] and not is_shown[i]) or out_of_stored[i] < out_of_shown[i]
        what = "do not say whether they are for the picture as stored or as shown"
        if ignores:
            what = f"are for {by(stored[i])} as stored"
        elif follows:
            what = "have the usual shapes of their classes only in the picture as stored"
        jpeg = dataset.files[i].lower().endswith((".jpg", ".jpeg"))
        findings.append(
            of_picture(
                "exif-rotation",
                dataset,
                int(i),
                f"asks to be shown {_TURNS[int(seen.turns[i])]} (EXIF orientation {seen.turns[i]}), and its "
                f"labels {what}",
                "upright" if ignores and jpeg else "",
            )
        )
    return frames, findings


_TURNS = {
    2: "mirrored",
    3: "upside down",
    4: "mirrored and upside down",
    5: "mirrored and turned by 90 degrees",
    6: "turned by 90 degrees",
    7: "mirrored and turned by 270 degrees",
    8: "turned by 270 degrees",
}


def _boxes_outside(dataset: Dataset, sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) how many boxes leave pictures of `sizes` (n, 2)."""
    owners = owners_of(dataset)
    return np.bincount(owners[~inside(dataset.boxes, sizes[owners])], minlength=len(dataset))


# ---- 10, 11: the same picture twice -------------------------------------------------------------------


def duplicate_pictures(dataset: Dataset, seen: Pictures) -> list[Finding]:
    """Faults 10 and 11: each picture that an earlier split (train, val, test) has already."""
    findings = []
    groups = [np.flatnonzero(dataset.splits == name) for name in split_order(dataset.splits.tolist())]
    for later, mine in enumerate(groups):
        best, match = np.zeros(len(mine), np.float32), np.zeros(len(mine), np.int64)
        exact: dict[int, int] = {}
        for theirs in groups[:later]:
            first = {seen.digests[i]: i for i in reversed(theirs.tolist())}
            exact = {i: first[seen.digests[i]] for i in mine.tolist() if seen.digests[i] in first} | exact
            likeness, where = most_alike(seen.looks[mine], seen.looks[theirs])
            better = likeness > best
            best[better], match[better] = likeness[better], theirs[where[better]]
        for i, other in exact.items():
            if seen.digests[i]:
                findings.append(_pair("exact-duplicate", dataset, i, other, "is the same picture as"))
        for k in np.flatnonzero(best >= NEAR):
            i, other = int(mine[k]), int(match[k])
            if i not in exact:
                what = f"is nearly the same picture (likeness {best[k]:.2f}) as"
                findings.append(_pair("near-duplicate", dataset, i, other, what))
    return findings


def _pair(fault: str, dataset: Dataset, i: int, other: int, what: str) -> Finding:
    mine, theirs = (f"{dataset.files[k]} ({dataset.splits[k] or 'no split'})" for k in (i, other))
    return Finding(fault, i, dataset.files[i], f"{mine} {what} {theirs}", other=dataset.files[other])


def most_alike(
    mine: NDArray[np.float32], theirs: NDArray[np.float32], block: int = 1024
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each of N looks (N, 2, 100) the likeness and place of the nearest of M: as it is, mirrored or
    turned, or the inner part of the one against the whole of the other."""
    best, where = torch.zeros(len(mine)), torch.zeros(len(mine), dtype=torch.int64)
    ours, them = torch.from_numpy(mine), torch.from_numpy(theirs)
    for a in range(0, len(mine), block):
        here = slice(a, min(a + block, len(mine)))
        poses = _poses(ours[here, 0])
        for b in range(0, len(theirs), block):
            whole, inner = them[b : b + block, 0], them[b : b + block, 1]
            for looks, others in (
                *((pose, whole) for pose in poses),
                (ours[here, 1], whole),
                (poses[0], inner),
            ):
                likeness, place = (looks @ others.T).max(dim=1)
                better = likeness > best[here]
                best[here] = torch.where(better, likeness, best[here])
                where[here] = torch.where(better, place + b, where[here])
    return best.numpy(), where.numpy()


def _poses(looks: torch.Tensor) -> list[torch.Tensor]:
    """The looks (N, 100) of the same pictures mirrored and turned by quarters: eight, the first as given.

    Mirroring a picture changes the sign of its odd waves; exchanging x and y transposes them.
    """
    waves = looks.reshape(-1, _WAVES, _WAVES)
    odd = 1.0 - 2 * (torch.arange(_WAVES) % 2)
    mirrored = [waves, waves * odd, waves * odd[:, None], waves * odd * odd[:, None]]
    return [pose.reshape(len(looks), -1) for w in mirrored for pose in (w, w.mT)]


def repeated(dataset: Dataset, seen: Pictures) -> int:
    """How many pictures repeat another of their own split: harmless for a test, but they weigh double."""
    counts = Counter(zip(dataset.splits.tolist(), seen.digests, strict=True))
    return sum(count - 1 for (_, digest), count in counts.items() if digest)
