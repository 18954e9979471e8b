"""Which label file belongs to which picture, where each has its own; the splits of lists and folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from toolkit.data.builder import Columns
from toolkit.data.formats.common import (
    NameIndex,
    PictureFolder,
    add_named_picture,
    is_picture,
    list_files,
    path_parts,
)
from toolkit.data.formats.text import numbered_lines
from toolkit.data.splitting import SPLIT_WORDS, split_of, split_of_folders, split_order
from toolkit.runtime import InputError

_LABEL_FOLDERS = {"annotations", "annotation", "xml", "xmls", "json", "jsons", "labels", "label", "label_2"}
PICTURE_FOLDERS = {"jpegimages", "images", "image", "imgs", "img", "pictures", "photos", "image_2", "data"}
_LABEL_ENDINGS = (".xml", ".json", ".txt")
_LISTS = {*(word for word in SPLIT_WORDS if word), "trainval"}
_CLASS_LISTS = ("labelmap.txt", "label_list.txt", "labels.txt", "classes.txt")
_NO_CLASSES = {"background", "_background_", "__ignore__"}
NAMES = {"labels", "classes", "label_list", "labelmap", "names"}
_FLAG = re.compile(r"-?\d+")  # the devkit's -1, 0 or 1 behind a name; others have several
_FLAGS, _LONGEST = 16, 4096  # numbers behind a name; characters of a path
_OF_ONE_CLASS = re.compile(r".+_(train|val|trainval|test)$")


@dataclass(frozen=True)
class Pair:
    """A label file and its picture, of which one may be missing ("")."""

    label: str  # relative to the labels' folder
    picture: str  # relative to the pictures' folder


def key_of(name: str) -> str:
    """What a label file and its picture have in common: the path without ending, and without the folders that
    only say which of the two it is.

    >>> key_of("train/Annotations/a.xml"), key_of("train/images/a.jpg")
    ('train/a', 'train/a')
    """
    folder, _, last = name.rpartition("/")
    return _plain_folder(folder) + os.path.splitext(last)[0]


@cache
def _plain_folder(folder: str) -> str:
    parts = folder.split("/") if folder else []
    return "".join(f"{part}/" for part in parts if part.casefold() not in _LABEL_FOLDERS | PICTURE_FOLDERS)


@dataclass(frozen=True)
class Pairing:
    """The label files below `top`, the pictures below `pictures.folder`, and what belongs together."""

    top: Path
    labels: Sequence[str]
    pictures: PictureFolder
    columns: Columns  # for what stays outside
    alone: bool = False  # one label file: neither lists nor other pictures
    inside: Callable[[Path], Sequence[str]] = lambda path: ()  # what a label file calls its picture

    def pairs(self) -> list[Pair]:
        """All label files, sorted, each with its picture; then the pictures without one."""
        by_key: dict[str, list[str]] = {}
        for name in self.pictures.names:
            by_key.setdefault(key_of(name), []).append(name)
        pairs: list[Pair] = []
        claimed: dict[str, str] = {}
        apart: list[str] = []  # label files that are named otherwise than their picture
        for file in self.labels:
            choices = by_key.get(key_of(file), [])
            if not choices:
                apart.append(file)
                continue
            picture = choices[0] if len(choices) == 1 else self._by_inside(file, choices) or choices[0]
            self._claim(pairs, claimed, file, picture)
            for other in choices:
                if len(choices) > 1 and other != picture:
                    claimed[other] = file
                    self.columns.skip(other, f"{other} shares its label file {file} with {picture}")
        for file in apart:
            self._claim(pairs, claimed, file, self._by_inside(file))
        pairs.sort(key=lambda pair: pair.label)
        return pairs if self.alone else pairs + self._bare(pairs, claimed)

    def _claim(self, pairs: list[Pair], claimed: dict[str, str], file: str, picture: str) -> None:
        if picture and picture in claimed:
            self.columns.leave_out(
                "label files of pictures that have one already",
                f"{self.top / file}: its picture {picture} has the label file {claimed[picture]} already",
            )
            return
        claimed[picture] = file
        pairs.append(Pair(file, picture))

    def _by_inside(self, file: str, choices: Sequence[str] = ()) -> str:
        """The picture that a label file names, or that is called like it; "" for none."""
        try:
            texts = [text for text in self.inside(self.top / file) if text]
        except InputError:
            return ""  # said where it is read
        if choices:
            lasts = [path_parts(text)[-1:] for text in texts]
            return next((name for name in choices if [name.rsplit("/", 1)[-1]] in lasts), "")
        near = file.rpartition("/")[0]
        names = [self.pictures.find(text, near) for text in texts]
        by_stem = self.pictures.find(key_of(file).rsplit("/", 1)[-1], near)
        # Masks are called like their picture, too.
        names.append(by_stem if by_stem and not _is_mask(by_stem) else None)
        return next((name for name in names if name), "")

    def _bare(self, pairs: Sequence[Pair], claimed: dict[str, str]) -> list[Pair]:
        """Pictures without a label file: of folders that have pictures with one, or are called for pictures
        or for a split without any; masks are none."""
        folders = {pair.picture.rpartition("/")[0] for pair in pairs if pair.picture}
        labelled = {split_of_folders(f"{folder}/") for folder in folders} | {""}
        bare = []
        for name in self.pictures.names:
            folder = name.rpartition("/")[0]
            words = {part.casefold() for part in folder.split("/")}
            inside = words & PICTURE_FOLDERS or split_of_folders(name) not in labelled
            if name not in claimed and (folder in folders or (inside and not _is_mask(name))):
                bare.append(Pair("", name))
        if bare:
            count = f"{len(bare)} of {len(self.pictures.names)} pictures have no label file"
            self.columns.note(f"{count}: they count as pictures without objects", bare[0].picture)
        return bare

    def with_splits(self) -> list[tuple[Pair, str]]:
        """Every pair and its split: list by list, then those of no list by their folders."""
        pairs = self.pairs()
        split_by_pair = {} if self.alone else self._listed(_Names(pairs))
        rest = {
            i: split_of_folders(pair.picture or pair.label) or split_of_folders(pair.label)
            for i, pair in enumerate(pairs)
            if i not in split_by_pair
        }
        return [(pairs[i], split) for i, split in _by_split(split_by_pair) + _by_split(rest)]

    def leave_out_damaged(self, pair: Pair, split: str, sentence: str) -> None:
        """Count a label file that cannot be read, and skip its picture, which is not one without objects."""
        self.columns.leave_out("label files that cannot be read", sentence)
        if pair.picture and self.columns.faults != "keep":
            self.columns.skip(pair.picture, sentence)
        elif pair.picture:
            add_named_picture(self.columns, self.pictures, pair.picture, split, str(self.top / pair.label))

    def _listed(self, names: _Names) -> dict[int, str]:
        """Number of a pair -> the split of the first list that names it."""
        split_by_pair: dict[int, str] = {}
        for file, split in self._lists(names):
            base = _base(file)
            for number, line in self._lines(file):
                i = names.find(line, base)
                if i is None:
                    self.columns.leave_out(
                        "names in lists without a label file or picture",
                        f"{self.top / file}, line {number}: {line[:80]!r} has neither a label file nor a "
                        "picture",
                    )
                elif split_by_pair.setdefault(i, split) != split and split and not _is_trainval(file):
                    self.columns.leave_out(
                        "names in the list of a second split",
                        f"{self.top / file}, line {number}: {line[:80]!r} is in the split "
                        f"{split_by_pair[i]!r} already",
                    )
        return split_by_pair

    def _lines(self, file: str) -> list[tuple[int, str]]:
        try:
            return numbered_lines(self.top / file, self.columns.note)
        except InputError as error:
            self.columns.leave_out("lists that cannot be read", str(error))
            return []

    def _lists(self, names: _Names) -> list[tuple[str, str]]:
        """Lists with the splits that they give, in order: those of ImageSets/Main, or of ImageSets, or any
        that are called as a split. trainval only tells where a picture of neither train nor val belongs; a
        list of one class counts where there is no other."""
        texts = list_files(self.top, lambda name: name.lower().endswith(".txt"))
        texts = [text for text in texts if _stem(text) not in NAMES]
        main = [text for text in texts if f"/{text.lower()}".rpartition("/")[0].endswith("/imagesets/main")]
        sets = [text for text in texts if f"/{text.lower()}".rpartition("/")[0].endswith("/imagesets")]
        called = [
            text
            for text in texts
            if _stem(text).removesuffix("_list") in _LISTS and not names.has_picture(text)
        ]
        lists = main or sets or called
        whole = [text for text in lists if not self._is_of_one_class(text, names)]
        splits = {text: _split_of_list(text, not whole) for text in whole or lists}
        order = split_order(splits.values())
        return sorted(splits.items(), key=lambda item: (_is_trainval(item[0]), order.index(item[1]), item[0]))

    def _is_of_one_class(self, file: str, names: _Names) -> bool:
        """The devkit's cat_train.txt: every picture with -1, 0 or 1."""
        if not _OF_ONE_CLASS.match(_stem(file)):
            return False
        _, line = next(iter(self._lines(file)), (0, ""))
        return bool(re.search(r"\s-?[01]$", line)) and names.find(line, _base(file), whole=True) is None


class _Names:
    """Numbers of pairs by the names that lists give them."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.numbers: dict[str, int] = {}
        self.pictures: set[str] = set()
        for i, pair in enumerate(pairs):
            for name in (pair.picture, pair.label):
                if name:
                    self.numbers.setdefault(key_of(name), i)
            self.pictures.add(pair.picture.rpartition(".")[0])

    @cached_property
    def _by_key(self) -> NameIndex[int]:
        return NameIndex(self.numbers.items())

    def has_picture(self, file: str) -> bool:
        """Whether a text file is called as a picture beside it: then it is no list."""
        return file.rpartition(".")[0] in self.pictures

    def find(self, line: str, base: str, whole: bool = False) -> int | None:
        """The pair that a line of a list names: with or without ending, folders, and what tools put behind;
        `base` is the folder of the list's data set. `whole`: with nothing behind."""
        if len(line) > _LONGEST:
            return None
        number = self.numbers.get(f"{base}{line}")
        if number is None and base:
            number = self.numbers.get(line)
        if number is not None:
            return number
        texts = [line] if whole else _readings(line)
        return next((i for text in texts if (i := self._by_parts(text, base)) is not None), None)

    def _by_parts(self, text: str, base: str) -> int | None:
        parts = path_parts(text)
        if not parts:
            return None
        last = parts[-1]
        ending = is_picture(last) or last.lower().endswith(_LABEL_ENDINGS)
        name = "/".join([*parts[:-1], last if ending else f"{last}."])
        numbers = set(self._by_key.fitting((base + key_of(name)).split("/")))
        return numbers.pop() if len(numbers) == 1 else None


def _readings(line: str) -> Iterator[str]:
    """What a line may name: all of it, what is before a label file, or before the devkit's numbers."""
    yield line
    if fields := re.match(r"(.+?\.\w+)[\s,]+\S.*\.(xml|json|txt)$", line, re.I):
        yield fields[1]
    for _ in range(_FLAGS):
        *rest, last = line.rsplit(None, 1)
        if not rest or not _FLAG.fullmatch(last):
            return
        line = rest[0]
        yield line


def _stem(file: str) -> str:
    return file.rsplit("/", 1)[-1].rpartition(".")[0].casefold()


def _is_trainval(file: str) -> bool:
    return _stem(file).endswith("trainval")


def _split_of_list(file: str, of_one_class: bool) -> str:
    stem = file.rsplit("/", 1)[-1].rpartition(".")[0]
    name = re.sub(r"_list$", "", stem, flags=re.I)
    if of_one_class:
        name = name.rpartition("_")[2]
    return "train" if name.casefold() == "trainval" else split_of(name)


def _base(file: str) -> str:
    """The folder, as keys have it, of the data set that a list belongs to."""
    folders = file.split("/")[:-1]
    above = (i for i, part in enumerate(folders) if part.casefold() == "imagesets")
    return _plain_folder("/".join(folders[: next(above, len(folders))]))


def _is_mask(name: str) -> bool:
    """Whether a picture is in a folder of masks, which are called like the pictures."""
    return bool(re.search(r"segmentation|mask|trimap|depth", name.rpartition("/")[0], re.I))


def _by_split(splits: dict[int, str]) -> list[tuple[int, str]]:
    """Split by split, in their order, and within one as it was."""
    order = split_order(splits.values())
    return sorted(splits.items(), key=lambda item: order.index(item[1]))


def listed_classes(top: Path, labels: Iterable[str]) -> list[str]:
    """Classes in the order of the list beside the labels that names some of them; none where there is none.

    Args:
        top: the folder of the data set; CVAT's `labelmap.txt` (name:colour:parts:actions, one class a line)
            counts before lists of names.
        labels: the classes that occur.
    """
    labels = set(labels)
    for file in _CLASS_LISTS:
        lines = numbered_lines(top / file) if (top / file).is_file() else []
        names = [line.rsplit(":", 3)[0] if file == "labelmap.txt" else line for _, line in lines]
        names = [name for name in dict.fromkeys(names) if name != "# label"]  # CVAT's header
        if (file == "labelmap.txt" and names) or set(names) & labels:
            return [name for name in names if name in labels or name not in _NO_CLASSES]
    return []
