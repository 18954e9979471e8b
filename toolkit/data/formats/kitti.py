"""KITTI's object labels, a text file for each picture."""

from __future__ import annotations

from pathlib import Path

from toolkit.data.builder import Columns
from toolkit.data.dataset import Dataset
from toolkit.data.formats.adding import add_box, leave_out_all, number, with_classes
from toolkit.data.formats.common import PictureFolder, add_named_picture, is_picture, list_files
from toolkit.data.formats.pairing import NAMES, Pair, Pairing, listed_classes
from toolkit.data.formats.text import are_numbers, numbered_lines
from toolkit.data.intake import Faults
from toolkit.runtime import InputError, progress

_IGNORED = "dontcare"
_OTHER_FOLDERS = {"calib", "velodyne", "oxts", "imagesets", "planes", "poses"}


def kitti_fields(line: str) -> tuple[str, list[str]] | None:
    """The class and the 14 numbers (15 with a score) of a line; None for another line.

    >>> kitti_fields("Car 0.00 0 -1.57 10 20 50 40 1.5 1.6 3.9 1 2 30 -1.6")[0]
    'Car'
    """
    fields = line.split()
    if len(fields) < 15 or fields[0][0] in "+-.0123456789" or not are_numbers(fields[-14:]):
        return None
    if is_picture(fields[0]):  # a list of landmarks
        return None
    count = 15 if len(fields) > 15 and are_numbers(fields[-15:-14]) else 14
    return line.rsplit(None, count)[0].strip(), fields[-count:]


def read_kitti(path: str | Path, images: str | Path | None = None, faults: Faults = "skip") -> Dataset:
    """KITTI's lines of class, truncated, occluded, alpha, x1, y1, x2, y2, seven numbers in space and perhaps
    a score; what is not the class and the box is dropped. DontCare regions are left out, with a note.

    The text files and the pictures may be anywhere below the folder (`training/label_2/`, `labels/`, beside)
    and have the same name; a picture without a text file has no boxes. Splits are those of
    `ImageSets/<split>.txt`, otherwise of the folders. Classes are sorted.
    """
    path = Path(path)
    top = path if path.is_dir() else path.parent
    files = _label_files(top) if path.is_dir() else [path.name]
    if not files:
        raise InputError(
            f"{path} has no KITTI labels: expected a .txt for each picture, in label_2/ or labels/"
        )
    columns, labels = Columns(faults), dict[str, int]()
    pictures = PictureFolder(Path(images or top))
    pairing = Pairing(top, files, pictures, columns, alone=path.is_file())
    ignored: list[str] = []
    for pair, split in progress(pairing.with_splits(), "reading KITTI"):
        if pair.label:
            _add_file(columns, labels, pairing, pair, split, ignored)
        else:
            add_named_picture(columns, pictures, pair.picture, split, "the folder")
    if ignored:
        columns.note(f"{len(ignored)} DontCare regions were left out", ignored[0])
    return with_classes(columns, pictures.folder, labels, path, listed_classes(top, labels))


def _label_files(top: Path) -> list[str]:
    """Text files in folders that are called for labels; where there are none, all that are neither lists nor
    in KITTI's folders for other things."""
    texts = list_files(top, lambda name: name.lower().endswith(".txt") and name[:-4].lower() not in NAMES)
    folders = {text: {part.casefold() for part in text.split("/")[:-1]} for text in texts}
    inside = [text for text in texts if any(part.startswith("label") for part in folders[text])]
    if inside:
        return inside
    rest = [text for text in texts if not folders[text] & _OTHER_FOLDERS]
    return [text for text in rest if _has_labels(top / text)]


def _has_labels(file: Path) -> bool:
    """Whether the first line is of KITTI, or there is none."""
    try:
        lines = numbered_lines(file)
    except InputError:
        return False
    return not lines or kitti_fields(lines[0][1]) is not None


def _add_file(
    columns: Columns, labels: dict[str, int], pairing: Pairing, pair: Pair, split: str, ignored: list[str]
) -> None:
    file = pairing.top / pair.label
    try:
        lines = numbered_lines(file, columns.note)
    except InputError as error:
        pairing.leave_out_damaged(pair, split, str(error))
        return
    name = pair.picture or f"{Path(pair.label).stem}.png"
    picture = add_named_picture(columns, pairing.pictures, name, split, str(file))
    if picture is None:
        leave_out_all(columns, len(lines), file)
        return
    for i, line in lines:
        place = f"{file}, line {i}"
        fields = kitti_fields(line)
        try:
            if fields is None:
                raise ValueError
            x1, y1, x2, y2 = map(number, fields[1][3:7])
        except ValueError:
            sentence = f"{place}: expected a class and 14 or 15 numbers, found {line[:80]!r}"
            columns.leave_out("lines that are not as KITTI has them", sentence)
            continue
        if fields[0].casefold() == _IGNORED:
            ignored.append(place)
            continue
        if len(fields[1]) == 15:
            columns.note("scores were dropped", place)
        add_box(columns, labels, picture, fields[0], (x1, y1, x2, y2), place)
