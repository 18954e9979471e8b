"""Faults 7, 10 and 11, and what 8 and 9 need. Each picture is decoded once, in worker processes."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.data.dataset import Dataset
from toolkit.data.doctor.findings import Finding, of_picture
from toolkit.data.doctor.orientation import Scores, score_readings, stored_pixels
from toolkit.data.splitting import split_order
from toolkit.headers import TIFF_MARKS
from toolkit.machine import allowed_cores
from toolkit.pictures import Unreadable, decode, image_bytes, stored_header
from toolkit.runtime import progress

NEAR = 0.85  # likeness of pictures: re-encoded, resized, turned or brightened copies reach .9, strangers .79
_SIDE = 32  # a picture's look is taken from this many pixels square
_WAVES = 10  # and from this many waves each way
_LOOK = (2, _WAVES * _WAVES)
_FREQUENCY = np.hypot(*np.mgrid[:_WAVES, :_WAVES])
_NO_SCORES: Scores = np.zeros((4, 0), np.float32)


@dataclass(frozen=True)
class Pictures:
    """What was seen of n pictures."""

    damage: list[str]  # n, "" where the picture decodes
    sizes: NDArray[np.int32]  # (n, 2) width, height as stored, before any rotation; 0 where unknown
    turns: NDArray[np.int8]  # (n,) EXIF orientation 1..8
    digests: list[bytes]  # n, of the decoded pixels; empty where there are none
    looks: NDArray[np.float32]  # (n, 2, 100), see `_look_of`
    scores: list[Scores]  # n, see `orientation.score_readings`; (4, 0) for a picture that is not turned


Seen = tuple[str, tuple[int, int], int, bytes, NDArray[np.float32], Scores]  # one picture's


class _Files(torch.utils.data.Dataset[Seen]):
    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Seen:
        boxes = self.dataset.boxes[self.dataset.rows(i)][~self.dataset.crowd[self.dataset.rows(i)]]
        proper = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        width, height = self.dataset.sizes[i].tolist()
        return _see(str(self.dataset.path(i)), boxes[proper], (width, height))


def look_at(dataset: Dataset) -> Pictures:
    """Open every picture."""
    n = len(dataset)
    damage, digests = [""] * n, [b""] * n
    sizes, turns = np.zeros((n, 2), np.int32), np.ones(n, np.int8)
    looks, scores = np.zeros((n, *_LOOK), np.float32), [_NO_SCORES] * n
    loader = torch.utils.data.DataLoader(
        _Files(dataset),
        batch_size=32,
        # never none: a worker's decoder is heard on its stderr
        num_workers=max(1, min(allowed_cores(), n // 64)),
        collate_fn=list,
        worker_init_fn=_one_thread,
    )
    i = 0
    for batch in progress(loader, "pictures", total=len(loader)):
        for damage[i], sizes[i], turns[i], digests[i], looks[i], scores[i] in batch:
            i += 1
    return Pictures(damage, sizes, turns, digests, looks, scores)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)


def header(data: bytes) -> tuple[tuple[int, int], int]:
    """Size (w, h) by the header of a picture file, (0, 0) where it has none, and EXIF orientation 1..8."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures and untidy EXIF blocks
            return stored_header(io.BytesIO(data), "the picture")
    except Exception:  # whatever a broken header makes the library raise: the decoder has the last word
        return (0, 0), 1


def pixels_as_stored(data: bytes, name: str, turn: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB before the rotation `turn` of EXIF. Raises Unreadable for what does not decode."""
    pixels = decode(np.frombuffer(data, np.uint8), name, turned=False)
    return stored_pixels(pixels, turn) if data[:4] in TIFF_MARKS else pixels  # which OpenCV turns always


def _see(path: str, boxes: NDArray[np.float32], recorded: tuple[int, int]) -> Seen:
    blank = np.zeros(_LOOK, np.float32)
    try:
        data = image_bytes(path).tobytes()
    except Unreadable as error:
        return error.reason, (0, 0), 1, b"", blank, _NO_SCORES
    size, turn = header(data)
    pixels, damage = None, ""
    with _stderr() as messages:
        try:
            pixels = pixels_as_stored(data, path, turn)
        except Unreadable as error:
            damage = error.reason
    if pixels is None:
        if damage.startswith("does not decode"):
            damage = "does not decode" if size == (0, 0) else "is cut short or damaged"
        return damage if data else "is empty", size, turn, b"", blank, _NO_SCORES
    # The JPEG decoder goes on after damage and only says so. Stray bytes between markers lose nothing.
    complaints = [line for line in messages if "Corrupt" in line and "extraneous" not in line]
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.data)
    damage = f"is damaged ({complaints[0].strip()})" if complaints else ""
    scores = _NO_SCORES if turn == 1 else score_readings(pixels, boxes, recorded, turn)
    return damage, pixels.shape[1::-1], turn, digest.digest(), _look_of(pixels), scores


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
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    looks = np.zeros(_LOOK, np.float32)
    for look, (dx, dy) in zip(looks, ((0, 0), (width // 20, height // 20)), strict=True):
        part = grey[dy : height - dy, dx : width - dx]
        small = cv2.resize(part, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        if small.std() > 1:  # a plain picture looks like every other plain picture
            waves = cv2.dct(small)[:_WAVES, :_WAVES]
            waves = waves * _FREQUENCY  # the mean, frequency 0, drops out
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
        turned = poses(ours[here, 0])
        for b in range(0, len(theirs), block):
            whole, inner = them[b : b + block, 0], them[b : b + block, 1]
            for looks, others in (
                *((pose, whole) for pose in turned),
                (ours[here, 1], whole),
                (turned[0], inner),
            ):
                likeness, place = (looks @ others.T).max(dim=1)
                better = likeness > best[here]
                best[here] = torch.where(better, likeness, best[here])
                where[here] = torch.where(better, place + b, where[here])
    return best.numpy(), where.numpy()


def poses(looks: torch.Tensor) -> list[torch.Tensor]:
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
