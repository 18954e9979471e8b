"""The dataset doctor: twelve faults that ruin a training, found in the label columns and in the pictures.

`examine` looks and changes nothing; `fix` writes a mended copy for what can be mended without guessing;
`write_page` shows the findings to people. A Dataset may hold bad values here (read with `strict=False`):
boxes of any size and place, classes out of range, recorded sizes that are wrong.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import html
import io
import json
import math
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from toolkit import boxes as geometry
from toolkit.data.dataset import Dataset, save, split_order
from toolkit.data.formats.common import is_picture
from toolkit.runtime import InputError, progress, whole_file, whole_folder

FAULTS = {
    "outside": "box outside the picture",
    "degenerate": "box without an area",
    "duplicate-box": "the same box twice",
    "swapped-xy": "x and y swapped",
    "wrong-unit": "fractions and pixels mixed up",
    "class-range": "class that the list of classes does not have",
    "undecodable": "picture that does not decode",
    "exif-rotation": "EXIF rotation that the labels ignore",
    "size-mismatch": "recorded size that is not the picture's",
    "exact-duplicate": "the same picture in two splits",
    "near-duplicate": "nearly the same picture in two splits",
    "unlabelled": "picture without labels in a labelled set",
}
BORDER_PX = 0.5  # how far rounding may carry a box over the border
SAME_BOX_IOU = 0.8  # two objects of one class hardly ever overlap this much
SURE_IOU = 0.9  # and never this much: the second box can be dropped without looking
NEAR = 0.8  # likeness of pictures: re-encoded, resized or brightened copies reach .9, strangers .7
ODDS = 20.0  # log likelihood ratio for "this whole picture is swapped"; 4,800 good pictures stay under 19
EXIF_ORIENTATION = 0x0112
NOWHERE = -1  # the index of a picture that lies on disk and not in the dataset


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault at one place. `mend` says what `fix` does about it, "" where that would be a guess."""

    fault: str  # a key of FAULTS
    picture: int  # index into the dataset, or NOWHERE
    file: str
    sentence: str
    row: int | None = None  # row in the box columns
    box_id: int | None = None
    other: str | None = None  # the other picture of a pair
    mend: str = ""  # "move box", "drop box", "swap picture", "drop picture", "upright", "record size"
    box: tuple[float, float, float, float] | None = None  # where "move box" puts it, xyxy px


@dataclass(frozen=True)
class Pictures:
    """What was seen of n pictures, decoded once."""

    damage: list[str]  # n, "" where the picture decodes
    sizes: NDArray[np.int32]  # (n, 2) width, height as stored, before any rotation; 0 where unknown
    turns: NDArray[np.int8]  # (n,) EXIF orientation 1..8
    digests: list[bytes]  # n, of the decoded pixels; empty where there are none
    looks: NDArray[np.float32]  # (n, LOOK) unit vectors, zero for plain or damaged pictures: see `_look_of`


@dataclass(frozen=True)
class Report:
    """What `examine` found. `summary` holds the reports that are not faults: balance, sizes, anchors."""

    source: str
    pictures: int
    boxes: int
    decoded: bool
    findings: list[Finding]
    summary: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Findings per fault, every fault named."""
        found = Counter(finding.fault for finding in self.findings)
        return {fault: found[fault] for fault in FAULTS}

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        numbers = {fault: number for number, fault in enumerate(FAULTS, start=1)}
        return {
            "source": self.source,
            "pictures": self.pictures,
            "boxes": self.boxes,
            "decoded": self.decoded,
            "faults": [
                {"number": numbers[fault], "fault": fault, "title": FAULTS[fault], "count": count}
                for fault, count in self.counts.items()
            ],
            "findings": [asdict(finding) for finding in self.findings],
            **self.summary,
        }


def examine(dataset: Dataset, model_io: Any = None, pictures: bool = True) -> Report:
    """Look for the twelve faults, and measure balance, object sizes and anchors.

    Parameters
    ----------
    model_io: a detector's `.io` (input size, heads with strides and anchors), for the last two reports.
    pictures: False skips everything that needs a picture to be opened (faults 7 to 11).
    """
    seen = _see(dataset) if pictures else None
    frames, findings = _frame_findings(dataset, seen)
    turned = {finding.picture for finding in findings if finding.fault == "exif-rotation"}
    findings += _box_findings(dataset, frames, turned)
    findings += _class_findings(dataset)
    findings += _duplicate_boxes(dataset, frames)
    findings += _unlabelled(dataset)
    if seen is not None:
        findings += [
            Finding("undecodable", i, dataset.files[i], f"{dataset.files[i]} {damage}", mend="drop picture")
            for i, damage in enumerate(seen.damage)
            if damage
        ]
        findings += _duplicate_pictures(dataset, seen)
    order = {fault: number for number, fault in enumerate(FAULTS)}
    findings.sort(key=lambda finding: (order[finding.fault], finding.picture, finding.row or 0))
    summary = {"balance": _balance(dataset), **_repeated(dataset, seen)}
    if model_io is not None:
        summary |= _fit_to_network(dataset, frames, model_io)
    return Report(str(dataset.root), len(dataset), len(dataset.boxes), pictures, findings, summary)


# ---- pictures: opened once, in worker processes -------------------------------------------------------

_SIDE = 32  # a picture's look is taken from this many pixels square
_WAVES = 10  # and from this many waves each way


class _Looks(torch.utils.data.Dataset):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[str, tuple[int, int], int, bytes, NDArray[np.float32]]:
        return _look(self.paths[i])


def _see(dataset: Dataset) -> Pictures:
    n = len(dataset)
    damage, digests = [""] * n, [b""] * n
    sizes, turns = np.zeros((n, 2), np.int32), np.ones(n, np.int8)
    looks = np.zeros((n, _WAVES * _WAVES), np.float32)
    workers = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16
    )
    loader = torch.utils.data.DataLoader(
        _Looks([str(dataset.path(i)) for i in range(n)]),
        batch_size=32,
        num_workers=max(1, min(workers, n // 64)),  # never none: a worker's messages are read off its stderr
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


def _look(path: str) -> tuple[str, tuple[int, int], int, bytes, NDArray[np.float32]]:
    """Damage, stored size, EXIF orientation, digest of the pixels, look."""
    from PIL import Image

    nothing = (b"", np.zeros(_WAVES * _WAVES, np.float32))
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}", (0, 0), 1, *nothing
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
    with _messages() as said:
        try:
            pixels = cv2.imdecode(
                np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            )
        except cv2.error:
            pixels = None
    if pixels is None:
        what = "is empty" if not data else "does not decode" if size == (0, 0) else "is cut short or damaged"
        return what, size, turn, *nothing
    # The JPEG decoder goes on after damage and only says so. Stray bytes between markers lose nothing.
    complaints = [line for line in said() if "Corrupt" in line and "extraneous" not in line]
    damage = f"is damaged ({complaints[0].strip()})" if complaints else ""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels)
    return damage, pixels.shape[1::-1], turn, digest.digest(), _look_of(pixels)


def _look_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) -> a unit vector that stays where it is under re-encoding, rescaling and brightening.

    The lowest waves (2-D DCT) of the picture at 32 x 32, each weighted by its frequency: pictures of the
    world have amplitudes that fall with frequency, so every wave then says about as much as any other, and
    the vectors of unrelated pictures are nearly at right angles. Their product is the likeness.
    """
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    if grey.std() < 1:  # a plain picture looks like every other plain picture
        return np.zeros(_WAVES * _WAVES, np.float32)
    waves = cv2.dct(grey.astype(np.float32))[:_WAVES, :_WAVES]
    waves *= np.hypot(*np.mgrid[:_WAVES, :_WAVES])  # the mean, frequency 0, drops out
    return (waves / np.linalg.norm(waves)).ravel()


@contextmanager
def _messages() -> Iterator[Any]:
    """What C libraries write to stderr inside the block; yields a function that returns the lines."""
    with tempfile.TemporaryFile() as sink:
        stderr = os.dup(2)
        os.dup2(sink.fileno(), 2)

        def lines() -> list[str]:
            sink.seek(0)
            return sink.read().decode(errors="replace").splitlines()

        try:
            yield lambda: said
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said = lines()


# ---- sizes and rotation -------------------------------------------------------------------------------


def _frame_findings(dataset: Dataset, seen: Pictures | None) -> tuple[NDArray[np.int32], list[Finding]]:
    """The size (n, 2) that the labels of each picture are meant for, and what is wrong about it."""
    recorded = dataset.sizes
    if seen is None:
        return recorded, []
    frames, findings = recorded.copy(), []
    known = (recorded > 0).all(axis=1)
    stored = seen.sizes
    turned = seen.turns >= 5
    upright = np.where(turned[:, None], stored[:, ::-1], stored)
    decodes = np.array([digest != b"" for digest in seen.digests], bool)
    like_stored, like_upright = (recorded == stored).all(axis=1), (recorded == upright).all(axis=1)
    fits_stored, fits_upright, fits_recorded = (
        _boxes_outside(dataset, sizes) for sizes in (stored, upright, recorded)
    )
    frames[decodes & ~known] = stored[decodes & ~known]
    mismatch = decodes & known & ~like_stored & ~like_upright
    backwards = mismatch & (recorded == stored[:, ::-1]).all(axis=1)
    # The labels say which of two sizes is theirs: the one that more boxes stay inside of.
    use_stored = mismatch & ((fits_stored < fits_recorded) | (backwards & (fits_stored == fits_recorded)))
    frames[use_stored] = stored[use_stored]
    for i in np.flatnonzero(mismatch):
        what = "width and height are swapped" if backwards[i] else "the boxes may be at another scale"
        if use_stored[i]:
            what = "width and height are swapped" if backwards[i] else "the boxes fit the picture"
        findings.append(
            Finding(
                "size-mismatch",
                int(i),
                dataset.files[i],
                f"{dataset.files[i]} is recorded as {_by(recorded[i])} and is {_by(stored[i])}: {what}",
                mend="record size" if use_stored[i] else "",
            )
        )
    # Fractions have no size of their own: the reader took the one that is shown. Their shapes may tell.
    odds = _shape_odds(
        dataset, dataset.boxes.astype(np.float64), upright, np.ones(len(dataset.boxes), bool), _turned_frame
    )
    for i in np.flatnonzero(decodes & (seen.turns != 1)):
        follows = like_upright[i] and not like_stored[i]
        if (follows and odds[i] <= ODDS) or (not known[i] and fits_upright[i] < fits_stored[i]):
            frames[i] = upright[i]
            continue
        ignores = turned[i] and (like_stored[i] & ~like_upright[i] or fits_stored[i] < fits_upright[i])
        what = (
            f"are for {_by(stored[i])} as stored"
            if ignores
            else "have the usual shapes of their classes only in the picture as stored"
            if follows
            else "do not say whether they are for the picture as stored or as shown"
        )
        findings.append(
            Finding(
                "exif-rotation",
                int(i),
                dataset.files[i],
                f"{dataset.files[i]} asks to be shown {_TURNS[int(seen.turns[i])]} (EXIF orientation "
                f"{seen.turns[i]}), and the labels {what}",
                mend="upright" if ignores else "",
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


def _by(size: NDArray[np.int32]) -> str:
    return f"{size[0]} x {size[1]}"


def _owners(dataset: Dataset) -> NDArray[np.int64]:
    """(m,) the picture of each box."""
    return np.repeat(np.arange(len(dataset)), np.diff(dataset.starts))


def _boxes_outside(dataset: Dataset, sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) how many boxes of each picture leave a picture of `sizes` (n, 2)."""
    owners = _owners(dataset)
    out = ~_inside(dataset.boxes, sizes[owners])
    return np.bincount(owners[out], minlength=len(dataset))


def _inside(boxes: NDArray[np.floating], sizes: NDArray[np.int32]) -> NDArray[np.bool_]:
    return (boxes >= -BORDER_PX).all(axis=1) & (boxes <= np.tile(sizes, 2) + BORDER_PX).all(axis=1)


# ---- boxes --------------------------------------------------------------------------------------------


def _box_findings(dataset: Dataset, frames: NDArray[np.int32], turned: Set[int]) -> list[Finding]:
    """Faults 1, 2, 4 and 5, on columns; sentences are made for the rows that are at fault only.

    `turned`: pictures with a rotation at fault, which explains shapes that look swapped.
    """
    owners = _owners(dataset)
    boxes = dataset.boxes.astype(np.float64)
    sizes = frames[owners]
    known = (sizes > 0).all(axis=1)
    span = np.tile(sizes, 2).astype(np.float64)
    finite = np.isfinite(boxes).all(axis=1)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    wh_px = np.stack((width, height), axis=1) * dataset.original_scale()[owners]
    findings: list[Finding] = []

    def add(fault: str, rows: NDArray[np.intp], say: Any, mend: str = "", to: Any = None) -> None:
        for row in rows:
            box = None if to is None else tuple(round(float(x), 3) for x in to[row])
            file = dataset.files[owners[row]]
            sentence = f"{file}: the box {_corners(boxes[row])} {say(row)}"
            box_id = int(dataset.box_ids[row])
            findings.append(
                Finding(fault, int(owners[row]), file, sentence, int(row), box_id, mend=mend, box=box)  # type: ignore[arg-type]
            )

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        big = known & finite & (sizes >= 16).all(axis=1)
        # Written as fractions where pixels belong: nothing reaches past pixel 1 and the picture is larger. A
        # reader that counts VOC's pixels from 1 has taken 1 off left and top: give it back.
        lowered = (boxes[:, :2] < 0).all(axis=1) & (boxes[:, :2] >= -1).all(axis=1)
        raised = boxes + lowered[:, None] * np.array([1, 1, 0, 0])
        scaled = raised * span
        fractions = big & (raised >= 0).all(axis=1) & (raised <= 1.01).all(axis=1)
        fractions &= ((scaled[:, 2:] - scaled[:, :2]) >= 1).all(axis=1)
        # Written in pixels where fractions belong: a box twice as large as its picture, or far away from it,
        # that lies inside once divided by the picture's size.
        shrunk = boxes / np.maximum(span, 1)
        far = (width >= 2 * sizes[:, 0]) & (height >= 2 * sizes[:, 1])
        pixels = big & far & _inside(shrunk, sizes)
        percent = pixels & (shrunk <= 100 + BORDER_PX).all(axis=1)
        guess = percent.sum() == pixels.sum() and bool(pixels.any()) and sizes[pixels].min() > 200
        add("wrong-unit", np.flatnonzero(fractions), _fractions, "move box", scaled)
        add("wrong-unit", np.flatnonzero(pixels), _pixels, "" if guess else "move box", shrunk)
        unit = fractions | pixels

        degenerate = ~unit & (~finite | (width <= 0) | (height <= 0))
        # A box one pixel wide is what readers make of left = right in formats that count both ends.
        slivers = ~unit & ~degenerate & (np.minimum(*(wh_px.T)) <= 1.001)
        ordered = np.concatenate(
            (np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])), 1
        )
        backwards = degenerate & finite & ((width < 0) | (height < 0)) & known
        tidy = (
            backwards
            & _inside(ordered, sizes)
            & (np.diff(ordered[:, [0, 2]]) > 1)[:, 0]
            & (np.diff(ordered[:, [1, 3]]) > 1)[:, 0]
        )
        halves = np.zeros(len(boxes), bool)
        for columns in ([1, 0, 2, 3], [0, 1, 3, 2]):  # only one of the two corners swapped
            half = boxes[:, columns]
            halves |= _inside(half, sizes) & (half[:, 2] - half[:, 0] > 1) & (half[:, 3] - half[:, 1] > 1)
        halves &= backwards & ~tidy
        add(
            "degenerate",
            np.flatnonzero(tidy),
            lambda row: "has its corners in the wrong order",
            "move box",
            ordered,
        )
        add(
            "degenerate",
            np.flatnonzero(degenerate & ~tidy & ~halves),
            lambda row: _why_empty(boxes[row]),
            "drop box",
        )
        add("degenerate", np.flatnonzero(slivers), lambda row: _why_empty(boxes[row]), "drop box")
        add(
            "swapped-xy",
            np.flatnonzero(halves),
            lambda row: "is one only if x and y of one corner are swapped",
        )

        bad = unit | degenerate | slivers
        outside = known & ~bad & ~_inside(boxes, sizes)
        swapped = boxes[:, [1, 0, 3, 2]]
        fits = outside & _inside(swapped, sizes)
        clipped = np.clip(boxes, 0, span)
        share = geometry.area(clipped) / np.maximum(geometry.area(boxes), 1e-9)
        fits &= share < 0.9  # a box that is out by a little is just that
    whole = _swapped_pictures(dataset, boxes, frames, fits, bad)
    explained = fits & np.isin(owners, list(whole))
    safe = outside & ~fits & (share >= 0.5)
    add("outside", np.flatnonzero(safe), lambda row: _how_far(boxes[row], sizes[row]), "move box", clipped)
    add("outside", np.flatnonzero(outside & ~safe & ~explained), lambda row: _how_far(boxes[row], sizes[row]))
    add(
        "swapped-xy",
        np.flatnonzero(fits & ~explained),
        lambda row: f"lies inside the {_by(sizes[row])} picture if x and y are swapped",
    )
    for i, (sentence, sure) in whole.items():
        if i in turned and not sure:
            continue
        findings.append(
            Finding(
                "swapped-xy",
                i,
                dataset.files[i],
                f"{dataset.files[i]}: {sentence}",
                mend="swap picture" if sure else "",
            )
        )
    findings += _percentages(dataset, boxes, frames, unit)
    return findings


def _swapped_pictures(
    dataset: Dataset,
    boxes: NDArray[np.float64],
    frames: NDArray[np.int32],
    fits: NDArray[np.bool_],
    bad: NDArray[np.bool_],
) -> dict[int, tuple[str, bool]]:
    """Pictures whose every box is swapped: {picture: (sentence, whether that is certain)}.

    Certain: several boxes leave the picture, and all boxes stay inside once swapped. Likely: no box leaves
    it (fractions swapped among themselves never do), but their shapes are far from what their classes have
    elsewhere, and swapped they are usual.
    """
    owners, n = _owners(dataset), len(dataset)
    sizes = frames[owners]
    result: dict[int, tuple[str, bool]] = {}
    total = np.diff(dataset.starts)
    out = np.bincount(owners[fits], minlength=n)
    inside = np.bincount(owners[_inside(boxes[:, [1, 0, 3, 2]], sizes)], minlength=n)
    for i in np.flatnonzero((out >= 2) & (inside == total)):
        result[int(i)] = (
            f"{out[i]} of {total[i]} boxes leave the picture, and all fit with x and y swapped",
            True,
        )

    for change in (_transposed, _transposed_fractions):
        odds = _shape_odds(dataset, boxes, frames, ~bad, change)
        for i in np.flatnonzero(odds > ODDS):
            result.setdefault(
                int(i), ("its boxes have the usual shapes of their classes only with x and y swapped", False)
            )
    return result


def _transposed(shape: NDArray[np.float64], aspect: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(width / height) of boxes whose x and y are swapped in pixels."""
    return -shape


def _transposed_fractions(shape: NDArray[np.float64], aspect: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, swapped as fractions of a picture with log(width / height) `aspect`."""
    return 2 * aspect - shape


def _turned_frame(shape: NDArray[np.float64], aspect: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same, for fractions of a picture that has width and height exchanged."""
    return shape - 2 * aspect


def _shape_odds(
    dataset: Dataset,
    boxes: NDArray[np.float64],
    frames: NDArray[np.int32],
    use: NDArray[np.bool_],
    change: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """(n,) log likelihood ratio that all boxes of a picture were changed, from what shapes their classes have.

    The shape log(width / height) has a heavy-tailed distribution per class (Student t, 3 degrees of freedom,
    around the median, no narrower than .1). Boxes at the border are cut off and say nothing.
    """
    owners, n, classes = _owners(dataset), len(dataset), len(dataset.classes)
    sizes = frames[owners]
    whole = (boxes[:, :2] > 2).all(axis=1) & (boxes[:, 2:] < sizes - 2).all(axis=1)
    rows = np.flatnonzero(
        use
        & whole
        & (dataset.labels >= 0)
        & (dataset.labels < classes)
        & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    )
    labels, owner = dataset.labels[rows], owners[rows]
    shape = np.log((boxes[rows, 2] - boxes[rows, 0]) / (boxes[rows, 3] - boxes[rows, 1]))
    aspect = np.log(sizes[rows, 0] / sizes[rows, 1])
    usual, spread = np.zeros(classes), np.full(classes, np.inf)
    for c in range(classes):
        if (mine := shape[labels == c]).size >= 20:
            usual[c] = np.median(mine)
            spread[c] = max(0.1, 1.48 * float(np.median(np.abs(mine - usual[c]))))

    def log_likelihood(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return -2 * np.log1p(((values - usual[labels]) / spread[labels]) ** 2 / 3)

    return np.bincount(owner, log_likelihood(change(shape, aspect)) - log_likelihood(shape), minlength=n)


def _percentages(
    dataset: Dataset, boxes: NDArray[np.float64], frames: NDArray[np.int32], bad: NDArray[np.bool_]
) -> list[Finding]:
    """A set whose boxes all end at 100 in pictures that go on far beyond: per cent taken for pixels."""
    used = boxes[~bad & np.isfinite(boxes).all(axis=1)]
    labelled = np.flatnonzero(np.diff(dataset.starts))
    large = (frames[labelled] > 200).all(axis=1)
    if len(used) < 20 or len(labelled) < 5 or not large.all() or used.max() > 100.5 or used.max() < 60:
        return []
    return [
        Finding(
            "wrong-unit",
            int(i),
            dataset.files[i],
            f"{dataset.files[i]}: no box of the whole set goes beyond 100, in pictures of {_by(frames[i])} and "
            "the like: they seem to be per cent, not pixels",
        )
        for i in labelled
    ]


def _corners(box: NDArray[np.floating]) -> str:
    return "[" + ", ".join(f"{x:g}" for x in np.round(box, 3)) + "]"


def _fractions(row: int) -> str:
    return "is in fractions of the picture, where pixels belong"


def _pixels(row: int) -> str:
    return "was in pixels, where fractions of the picture belong"


def _why_empty(box: NDArray[np.float64]) -> str:
    if not np.isfinite(box).all():
        return "is not made of finite numbers"
    width, height = box[2] - box[0], box[3] - box[1]
    if width < 0 or height < 0:
        return "ends before it begins"
    return f"is {width:g} px wide and {height:g} px high"


def _how_far(box: NDArray[np.float64], size: NDArray[np.int32]) -> str:
    over = {"left": -box[0], "top": -box[1], "right": box[2] - size[0], "bottom": box[3] - size[1]}
    side = max(over, key=lambda name: over[name])
    apart = box[0] >= size[0] or box[1] >= size[1] or box[2] <= 0 or box[3] <= 0
    how = "lies wholly outside" if apart else f"goes {over[side]:.4g} px over the {side} of"
    return f"{how} the {_by(size)} picture"


def _duplicate_boxes(dataset: Dataset, frames: NDArray[np.int32]) -> list[Finding]:
    """Fault 3. Boxes sorted by picture and left side; each is compared with those that begin near it."""
    owners, boxes = _owners(dataset), dataset.boxes.astype(np.float64)
    with np.errstate(invalid="ignore"):
        proper = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1)
    rows = np.flatnonzero(proper & ~dataset.crowd)  # a crowd's box may well repeat one of its members
    rows = rows[np.lexsort((boxes[rows, 0], owners[rows]))]
    box, owner, label = boxes[rows], owners[rows], dataset.labels[rows]
    reach = np.maximum(1.0, (1 / SAME_BOX_IOU - 1) * (box[:, 2] - box[:, 0]))
    covers = geometry.area(box) > 0.95 * np.maximum(frames[owner].prod(axis=1), 1)
    first: dict[int, tuple[int, float]] = {}
    active, step = np.arange(len(rows)), 1
    while active.size:
        active = active[active + step < len(rows)]
        other = active + step
        near = (owner[other] == owner[active]) & (box[other, 0] - box[active, 0] <= reach[active])
        active, other = active[near], other[near]
        overlap = geometry.iou_aligned(box[active], box[other])
        apart = np.abs(box[active] - box[other]).max(axis=1)
        small = (box[active, 2:] - box[active, :2]).min(axis=1)
        same = (label[active] == label[other]) & ((overlap >= SAME_BOX_IOU) | ((apart <= 1) & (small >= 4)))
        torn = (label[active] != label[other]) & (apart <= BORDER_PX) & ~covers[active]
        hit = same | torn
        for a, b, value in zip(rows[active[hit]], rows[other[hit]], overlap[hit], strict=True):
            low, high = int(min(a, b)), int(max(a, b))
            if high not in first or low < first[high][0]:
                first[high] = (low, float(value))
        step += 1
    findings = []
    for row, (earlier, overlap_) in first.items():
        i = int(owners[row])
        same_class = dataset.labels[earlier] == dataset.labels[row]
        names = " and ".join(_class_name(dataset, int(dataset.labels[r])) for r in (earlier, row))
        what = (
            f"repeats box {dataset.box_ids[earlier]} {_corners(boxes[earlier])} of the same class (IoU {overlap_:.2f})"
            if same_class
            else f"repeats box {dataset.box_ids[earlier]} under another class ({names})"
        )
        findings.append(
            Finding(
                "duplicate-box",
                i,
                dataset.files[i],
                f"{dataset.files[i]}: the box {_corners(boxes[row])} {what}",
                row,
                int(dataset.box_ids[row]),
                mend="drop box" if same_class and overlap_ >= SURE_IOU else "",
            )
        )
    return findings


def _class_name(dataset: Dataset, label: int) -> str:
    return dataset.classes[label] if 0 <= label < len(dataset.classes) else f"class number {label}"


def _class_findings(dataset: Dataset) -> list[Finding]:
    """Fault 6: numbers out of range, and names that look like a slip for another class."""
    owners, count = _owners(dataset), len(dataset.classes)
    findings = []
    bad = (dataset.labels < 0) | (dataset.labels >= count)
    slips = _slips(dataset)
    for row in np.flatnonzero(bad | np.isin(dataset.labels, list(slips))):
        i, label = int(owners[row]), int(dataset.labels[row])
        what = slips.get(label) or (
            "has a class that is not in the list of classes"
            if label < 0
            else f"has class number {label}, and there are {count} classes (0 to {count - 1})"
        )
        sentence = f"{dataset.files[i]}: the box {_corners(dataset.boxes[row])} {what}"
        findings.append(
            Finding(
                "class-range",
                i,
                dataset.files[i],
                sentence,
                int(row),
                int(dataset.box_ids[row]),
                mend="drop box" if bad[row] else "",  # nothing can learn a class that has no name
            )
        )
    return findings


def _slips(dataset: Dataset) -> dict[int, str]:
    """Classes of few boxes whose name is a bare number among words, or nearly the name of a common class."""
    valid = dataset.labels[(dataset.labels >= 0) & (dataset.labels < len(dataset.classes))]
    counts = np.bincount(valid, minlength=len(dataset.classes))
    plain = [
        name.strip().casefold().replace("_", " ").replace("-", " ").rstrip("s") for name in dataset.classes
    ]
    slips = {}
    for c, name in enumerate(dataset.classes):
        larger = [k for k in range(len(plain)) if counts[k] > 20 * counts[c] > 0]
        if name.strip().lstrip("-").isdigit() and sum(other.isdigit() for other in plain) <= len(plain) // 2:
            slips[c] = f"has the class {name!r}: a number where the other classes have names"
        for k in larger:
            if plain[c] == plain[k] or difflib.SequenceMatcher(None, plain[c], plain[k]).ratio() >= 0.85:
                slips[c] = f"has the class {name!r}, probably a slip for {dataset.classes[k]!r}"
        regular = counts[counts > 2].min(initial=len(valid))
        if 0 < counts[c] <= 2 and regular >= 100:
            slips.setdefault(
                c, f"is one of {counts[c]} of class {name!r}, and the usual classes have {regular} or more"
            )
    return slips


def _unlabelled(dataset: Dataset) -> list[Finding]:
    """Fault 12. In a set where nothing is labelled there is nothing to forget."""
    empty = np.flatnonzero(np.diff(dataset.starts) == 0)
    labelled = len(dataset) - len(empty)
    if not labelled:
        return []
    findings = [
        Finding(
            "unlabelled",
            int(i),
            dataset.files[i],
            f"{dataset.files[i]} has no labels, and {labelled} other pictures have: forgotten, or truly empty?",
        )
        for i in empty
    ]
    listed = set(dataset.files)
    beside = [
        f"{folder}/{name}" if folder else name
        for folder in sorted({file.rpartition("/")[0] for file in dataset.files})
        for name in (os.listdir(dataset.root / folder) if (dataset.root / folder).is_dir() else ())
        if is_picture(name)
    ]
    strangers = sorted(name for name in beside if name not in listed)
    if len(strangers) <= 0.2 * len(dataset):  # more of them, and this is a part of a set on purpose
        findings += [
            Finding(
                "unlabelled",
                NOWHERE,
                name,
                f"{name} lies beside labelled pictures and no label file knows it",
            )
            for name in strangers
        ]
    return findings


# ---- the same picture twice ---------------------------------------------------------------------------


def _duplicate_pictures(dataset: Dataset, seen: Pictures) -> list[Finding]:
    """Faults 10 and 11: each picture that an earlier split (train, val, test) has already."""
    findings = []
    groups = {name: np.flatnonzero(dataset.splits == name) for name in split_order(dataset.splits.tolist())}
    names = list(groups)
    for later, split in enumerate(names):
        mine = groups[split]
        best = np.zeros(len(mine), np.float32)
        match = np.full(len(mine), -1)
        exact: dict[int, int] = {}
        for earlier in names[:later]:
            theirs = groups[earlier]
            first = {seen.digests[i]: int(i) for i in reversed(theirs) if seen.digests[i]}
            for i in mine:
                if seen.digests[i] in first:
                    exact.setdefault(int(i), first[seen.digests[i]])
            likeness, where = _most_alike(seen.looks[mine], seen.looks[theirs])
            better = likeness > best
            best[better], match[better] = likeness[better], theirs[where[better]]
        for i, other in exact.items():
            findings.append(_pair("exact-duplicate", dataset, i, other, "is the same picture as"))
        for k in np.flatnonzero(best >= NEAR):
            i, other = int(mine[k]), int(match[k])
            if i not in exact:
                what = f"is nearly the same picture ({best[k]:.2f}) as"
                findings.append(_pair("near-duplicate", dataset, i, other, what))
    return findings


def _pair(fault: str, dataset: Dataset, i: int, other: int, what: str) -> Finding:
    names = [f"{dataset.files[k]} ({dataset.splits[k] or 'no split'})" for k in (i, other)]
    return Finding(fault, i, dataset.files[i], f"{names[0]} {what} {names[1]}", other=dataset.files[other])


def _most_alike(
    mine: NDArray[np.float32], theirs: NDArray[np.float32], block: int = 4096
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """For each look (N, LOOK) the likeness and place of the nearest of (M, LOOK), as it is or mirrored."""
    best, where = np.zeros(len(mine), np.float32), np.zeros(len(mine), np.intp)
    mirror = np.tile(1 - 2 * (np.arange(_WAVES) % 2), _WAVES).astype(np.float32)
    for a in range(0, len(mine), block):
        here = slice(a, min(a + block, len(mine)))
        for b in range(0, len(theirs), block):
            for looks in (mine[here], mine[here] * mirror):
                likeness = looks @ theirs[b : b + block].T
                place = likeness.argmax(axis=1)
                value = likeness[np.arange(len(place)), place]
                better = value > best[here]
                best[here] = np.where(better, value, best[here])
                where[here] = np.where(better, place + b, where[here])
    return best, where


def _repeated(dataset: Dataset, seen: Pictures | None) -> dict[str, Any]:
    """Pictures that one split has more than once: harmless for a test, but they weigh double."""
    if seen is None:
        return {}
    counts = Counter(
        (split, digest) for split, digest in zip(dataset.splits.tolist(), seen.digests, strict=True)
    )
    return {"repeated_within_split": sum(n - 1 for (_, digest), n in counts.items() if digest)}


# ---- reports ------------------------------------------------------------------------------------------


def _balance(dataset: Dataset) -> dict[str, Any]:
    """Boxes and pictures per class; `ratio` is the most frequent class over the rarest that occurs."""
    use = (dataset.labels >= 0) & (dataset.labels < len(dataset.classes)) & ~dataset.ignore
    labels, owners = dataset.labels[use], _owners(dataset)[use]
    boxes = np.bincount(labels, minlength=len(dataset.classes))
    pairs = np.unique(owners * max(1, len(dataset.classes)) + labels)
    pictures = np.bincount(pairs % max(1, len(dataset.classes)), minlength=len(dataset.classes))
    present = boxes[boxes > 0]
    ratio = float(present.max() / present.min()) if present.size else 1.0
    sentences = []
    if ratio >= 10:
        high, low = int(boxes.argmax()), int(np.where(boxes > 0, boxes, boxes.max() + 1).argmin())
        sentences.append(
            f"class {dataset.classes[high]!r} has {ratio:.0f} times as many boxes as {dataset.classes[low]!r} "
            f"({boxes[high]} and {boxes[low]})"
        )
    if missing := [name for name, count in zip(dataset.classes, boxes, strict=True) if count == 0]:
        sentences.append(f"no box of {', '.join(missing)}")
    return {
        "classes": [
            {"name": name, "boxes": int(b), "pictures": int(p)}
            for name, b, p in zip(dataset.classes, boxes, pictures, strict=True)
        ],
        "ratio": round(ratio, 2),
        "sentences": sentences,
    }


def _fit_to_network(dataset: Dataset, frames: NDArray[np.int32], io: Any) -> dict[str, Any]:
    """Object sizes against the network's cells, and against its anchors, with pictures stretched to its input.

    "Too small": the square of the object's area has a side below one cell of the finest head. "Fits no
    anchor": the best overlap of width and height with any anchor is below .25.
    """
    owners = _owners(dataset)
    sizes = frames[owners]
    wh = (dataset.boxes[:, 2:] - dataset.boxes[:, :2]).astype(np.float64)
    use = (sizes > 0).all(axis=1) & np.isfinite(wh).all(axis=1) & (wh > 0).all(axis=1)
    use &= ~dataset.crowd & ~dataset.ignore
    width, height = io.input_size
    wh = wh[use] * np.array([width, height]) / sizes[use]
    if not len(wh):
        return {}
    cell = min(head.stride for head in io.heads)
    side = np.sqrt(wh.prod(axis=1))
    small = side < cell
    anchors = np.concatenate([np.asarray(head.anchors, np.float64).reshape(-1, 2) for head in io.heads])
    best, nearest = np.zeros(len(wh)), np.zeros(len(wh), np.intp)
    for number, anchor in enumerate(anchors):
        both = np.minimum(wh, anchor).prod(axis=1)
        overlap = both / (wh.prod(axis=1) + anchor.prod() - both)
        nearest[overlap > best] = number
        best = np.maximum(best, overlap)
    unused = sorted(set(range(len(anchors))) - set(np.unique(nearest).tolist()))
    need = cell / max(float(np.quantile(side, 0.05)), 1e-6)
    sentences = []
    if small.mean() > 0.01:
        sentences.append(
            f"{small.mean():.0%} of the objects are smaller than one cell ({cell} px) at {width} x {height}; 95 % "
            f"would be larger at {math.ceil(width * need / 32) * 32} x {math.ceil(height * need / 32) * 32}"
        )
    misfit = best < 0.25
    if misfit.mean() > 0.01:
        sentences.append(
            f"{misfit.mean():.0%} of the objects fit no anchor (best overlap below .25): compute anchors for this set"
        )
    if unused:
        shown = ", ".join(f"{anchors[a][0]:g} x {anchors[a][1]:g}" for a in unused)
        sentences.append(f"no object is nearest to the anchors {shown}")
    return {
        "network": {
            "input_size": [int(width), int(height)],
            "cell_px": int(cell),
            "too_small": int(small.sum()),
            "too_small_share": round(float(small.mean()), 5),
            "side_px_quantiles": {
                q: round(float(np.quantile(side, float(q))), 2)
                for q in ("0.05", "0.25", "0.5", "0.75", "0.95")
            },
            "anchor_overlap_mean": round(float(best.mean()), 4),
            "anchor_misfits": int(misfit.sum()),
            "anchors_unused": [anchors[a].tolist() for a in unused],
            "sentences": sentences,
        }
    }


# ---- mending ------------------------------------------------------------------------------------------


def fix(dataset: Dataset, report: Report, output: str | Path) -> list[dict[str, Any]]:
    """Write a mended copy of the dataset (canonical folder) to `output`; the dataset itself is not touched.

    Only what needs no guessing: boxes cut at the border, corners put in order, units converted, repeated and
    empty boxes dropped, certain swaps undone, wrong sizes recorded anew, pictures that do not decode left out,
    EXIF rotation that the labels ignore taken out of the copy. Returns what was done, one entry per change,
    which `output`/fixes.json holds as well. InputError where `output` holds something already.
    """
    output = Path(output)
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise InputError(f"{output} exists already: choose another place for the mended copy")
    boxes, sizes = dataset.boxes.copy(), dataset.sizes.copy()
    keep_box, keep_picture = np.ones(len(boxes), bool), np.ones(len(dataset), bool)
    upright: list[int] = []
    changes = []
    for finding in report.findings:
        match finding.mend:
            case "":
                continue
            case "move box":
                boxes[finding.row] = finding.box
            case "drop box":
                keep_box[finding.row] = False
            case "swap picture":
                rows = dataset.rows(finding.picture)
                boxes[rows] = boxes[rows][:, [1, 0, 3, 2]]
            case "drop picture":
                keep_picture[finding.picture] = False
            case "upright":
                upright.append(finding.picture)
            case "record size":
                sizes[finding.picture] = _stored_size(dataset.path(finding.picture))
        changes.append(
            {"fault": finding.fault, "done": finding.mend, "file": finding.file}
            | {"box_id": finding.box_id, "sentence": finding.sentence, "box": finding.box}
        )
    mended = _drop_boxes(replace(dataset, boxes=boxes, sizes=sizes), keep_box)
    kept = np.flatnonzero(keep_picture)
    if not len(kept):
        raise InputError(f"no picture of {dataset.root} decodes: there is nothing to copy")
    with whole_folder(output) as temporary:
        placed = save(mended.subset(kept), temporary, link=False, overwrite=True)
        for i in upright:
            if keep_picture[i]:
                _clear_orientation(placed.path(int(np.searchsorted(kept, i))))
        (temporary / "fixes.json").write_text(json.dumps(changes, indent=1))
    return changes


def _drop_boxes(dataset: Dataset, keep: NDArray[np.bool_]) -> Dataset:
    """The boxes where `keep` (m,) is true; all pictures stay."""
    starts = np.concatenate(([0], np.cumsum(keep)))[dataset.starts].astype(np.int64)
    columns = ("box_ids", "boxes", "labels", "crowd", "ignore", "keypoints", "areas")
    values = {name: getattr(dataset, name) for name in columns}
    return replace(
        dataset, starts=starts, **{name: value[keep] for name, value in values.items() if value is not None}
    )


def _stored_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as header:
        return header.size


def _clear_orientation(path: Path) -> None:
    """Set EXIF orientation to 1 in the file's bytes: the pixels are not encoded anew."""
    data = bytearray(path.read_bytes())
    start = data.find(b"Exif\0\0") + 6
    if start < 6:  # PNG and WebP hold the bare TIFF block
        start = max(data.find(b"II*\0"), data.find(b"MM\0*"))
    order: Any = "little" if data[start : start + 2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[start + at : start + at + size], order)

    table = number(4, 4)
    for entry in range(table + 2, table + 2 + 12 * number(table, 2), 12):
        if number(entry, 2) == EXIF_ORIENTATION:
            data[start + entry + 8 : start + entry + 10] = (1).to_bytes(2, order)
    path.write_bytes(data)


# ---- the page -----------------------------------------------------------------------------------------


def write_page(dataset: Dataset, report: Report, path: str | Path, per_fault: int = 12) -> None:
    """One HTML file with everything in it: counts, sentences, and up to `per_fault` pictures of each fault."""
    sections = []
    for number, (fault, title) in enumerate(FAULTS.items(), start=1):
        mine = [finding for finding in report.findings if finding.fault == fault]
        if not mine:
            continue
        shown = "".join(_figure(dataset, finding) for finding in mine[:per_fault])
        rest = [f"<li>{html.escape(finding.sentence)}</li>" for finding in mine[per_fault : per_fault + 200]]
        more = f"<details><summary>{len(mine) - per_fault} more</summary><ul>{''.join(rest)}</ul></details>"
        sections.append(
            f'<section id="{fault}"><h2>{number}. {html.escape(title)}: {len(mine)}</h2>'
            f'<div class="grid">{shown}</div>{more if rest else ""}</section>'
        )
    rows = "".join(
        f'<tr class="{"bad" if count else "good"}"><td>{number}</td><td>'
        + (f'<a href="#{fault}">{html.escape(FAULTS[fault])}</a>' if count else html.escape(FAULTS[fault]))
        + f"</td><td>{count if report.decoded or fault not in _NEEDS_PICTURES else 'not looked for'}</td></tr>"
        for number, (fault, count) in enumerate(report.counts.items(), start=1)
    )
    with whole_file(path) as temporary:
        temporary.write_text(
            _PAGE.format(
                title=html.escape(f"Dataset report: {report.source}"),
                pictures=report.pictures,
                boxes=report.boxes,
                rows=rows,
                notes="".join(f"<li>{html.escape(note)}</li>" for note in notes(report)),
                classes=_class_bars(report.summary["balance"]["classes"]),
                sections="".join(sections),
            )
        )


_NEEDS_PICTURES = ("undecodable", "exif-rotation", "size-mismatch", "exact-duplicate", "near-duplicate")

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse }} td {{ padding: .15rem .8rem .15rem 0 }} .bad td:last-child {{ font-weight: 700;
color: #b03000 }} .good {{ color: #666 }} .grid {{ display: grid; gap: 1rem;
grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)) }} figure {{ margin: 0 }} img {{ max-width: 100% }}
figcaption {{ font-size: 13px; overflow-wrap: anywhere }} .bar {{ background: #0072b2; height: .8rem }}
</style><h1>{title}</h1><p>{pictures} pictures, {boxes} boxes.</p><table>{rows}</table><ul>{notes}</ul>
<h2>Classes</h2><table>{classes}</table>{sections}</html>
"""


def notes(report: Report) -> list[str]:
    """The sentences of the reports that are not faults."""
    said = list(report.summary["balance"]["sentences"])
    if count := report.summary.get("repeated_within_split"):
        said.append(f"{count} pictures repeat another one of the same split exactly")
    return said + report.summary.get("network", {}).get("sentences", [])


def _class_bars(classes: list[dict[str, Any]]) -> str:
    most = max([entry["boxes"] for entry in classes], default=0) or 1
    return "".join(
        f"<tr><td>{html.escape(entry['name'])}</td><td>{entry['boxes']} boxes</td><td>{entry['pictures']} pictures"
        f'</td><td><div class="bar" style="width:{300 * entry["boxes"] / most:.0f}px"></div></td></tr>'
        for entry in classes
    )


def _figure(dataset: Dataset, finding: Finding) -> str:
    pictures = [_picture(dataset, finding)]
    if finding.other is not None:
        pictures.append(_encode(_thumbnail(dataset.root / finding.other)[0]))
    images = "".join(f'<img alt="" src="data:image/jpeg;base64,{data}">' for data in pictures if data)
    return f"<figure>{images}<figcaption>{html.escape(finding.sentence)}</figcaption></figure>"


def _picture(dataset: Dataset, finding: Finding) -> str:
    """The picture with the box at fault, or all its boxes; the margin grows where a box lies outside."""
    from toolkit.viz import draw_boxes

    image, scale = _thumbnail(dataset.root / finding.file)
    if image is None or finding.fault in ("exact-duplicate", "near-duplicate", "undecodable", "unlabelled"):
        return _encode(image)
    rows = dataset.rows(finding.picture)
    if finding.row is not None:
        rows = slice(finding.row, finding.row + 1)
    boxes = dataset.boxes[rows] * scale
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    height, width = image.shape[:2]
    low = np.minimum(boxes.min(axis=0, initial=0), 0)[:2]
    high = np.maximum(boxes.max(axis=0, initial=0)[2:], (width, height)) - (width, height)
    left, top = np.minimum(-low, (width, height)).astype(int)
    right, bottom = np.minimum(high, (width, height)).astype(int)
    image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(200, 200, 200))
    drawn = np.clip(boxes + np.array([left, top] * 2), 0, np.array(image.shape[1::-1] * 2))
    return _encode(draw_boxes(image, drawn, long_side=1))


def _thumbnail(path: Path, side: int = 320) -> tuple[NDArray[np.uint8] | None, float]:
    """The picture as stored, RGB, its long side at most `side`, and the factor."""
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except (OSError, cv2.error):
        return None, 1.0
    if pixels is None:
        return None, 1.0
    scale = min(1.0, side / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)[..., ::-1].copy(), scale


def _encode(image: NDArray[np.uint8] | None) -> str:
    if image is None:
        return ""
    return base64.b64encode(
        cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    ).decode()
