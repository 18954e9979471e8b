"""What a reader made of labels, as plain values to compare."""

from tests.data.labelling import Truth
from toolkit.data.dataset import Dataset
from toolkit.data.formats import registry


def contents(dataset: Dataset) -> Truth:
    """The boxes of every picture, as `labelling` has them."""
    truth: Truth = {}
    for i, file in enumerate(dataset.files):
        rows = dataset.rows(i)
        names = [dataset.classes[label] for label in dataset.labels[rows]]
        boxes = dataset.boxes[rows].tolist()
        truth[file] = [(name, *box) for name, box in zip(names, boxes, strict=True)]
    return truth


def left_out(dataset: Dataset) -> dict[str, int]:
    """What stayed outside: kind -> how many."""
    return {part.kind: part.count for part in dataset.intake.left_out}


def splits(dataset: Dataset) -> dict[str, str]:
    """The split of every picture."""
    return dict(zip(dataset.files, dataset.splits.tolist(), strict=True))


def read_one(folder, format: str, **options) -> tuple[list, Dataset]:
    """The boxes of the only picture, and the data set; `format` is what must be recognised."""
    assert registry.detect_format(folder) == format
    dataset = registry.read(folder, **options)
    ((_, boxes),) = contents(dataset).items()
    return boxes, dataset
