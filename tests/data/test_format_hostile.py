"""Labels in which any one value is replaced by something else: a reader takes them or says what is wrong."""

import copy
import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.data.labelling import put
from tests.data.sets import write_picture
from toolkit.data.formats import registry
from toolkit.runtime import InputError

OTHERS = [
    None,
    True,
    0,
    -3,
    1e308,
    float("nan"),
    10**400,
    "",
    "x",
    "../a.jpg",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"x": 1},
]
WORDS = ["", "x", "-1", "nan", "1e400", "999999999999", "../a.jpg", "\0", "#", "1,2", "[", "a.jpg", '"']
BOX = {"x": 1.0, "y": 1, "width": 2, "height": 2, "rotation": 5}
SIZE = {"original_width": 40, "original_height": 30}
TREES = {
    "createml": ("x.json", [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": BOX}]}]),
    "label-studio": (
        "x.json",
        [
            {
                "id": 1,
                "data": {"image": "/data/upload/1/1a2b3c4d-a.jpg", "split": "train", "image_id": 4},
                "annotations": [
                    {
                        "created_at": "2024",
                        "result": [
                            {"id": "1", "type": "rectanglelabels", **SIZE, "meta": {"text": ["crowd"]},
                             "value": {**BOX, "rectanglelabels": ["cat"]}},
                            {"type": "polygonlabels", **SIZE,
                             "value": {"points": [[1, 1], [9, 1], [9, 9]], "polygonlabels": ["cat"]}},
                            {"type": "ellipselabels", **SIZE,
                             "value": {"x": 5, "y": 5, "radiusX": 1, "radiusY": 2, "ellipselabels": ["cat"]}},
                            {"type": "brushlabels", **SIZE,
                             "value": {"format": "rle", "rle": [0, 0, 0], "brushlabels": ["cat"]}},
                        ],
                    }
                ],
            }
        ],
    ),
    "fiftyone": (
        "samples.json",
        {
            "samples": [
                {
                    "filepath": "data/a.jpg",
                    "tags": ["train"],
                    "metadata": {"width": 40, "height": 30},
                    "ground_truth": {
                        "_cls": "Detections",
                        "detections": [
                            {
                                "label": "cat",
                                "bounding_box": [0.1, 0.1, 0.5, 0.5],
                                "attributes": {"iscrowd": {"value": 1}},
                            }
                        ],
                    },
                    "lines": {
                        "_cls": "Polylines",
                        "polylines": [{"label": "cat", "points": [[[0, 0], [1, 1]]]}],
                    },
                }
            ]
        },
    ),
    "face-crops": (
        "annotations.json",
        [{"crop": "a.jpg", "size": 40, "landmarks98_crop": [[1.0, 2.0]] * 2}],
    ),
}  # fmt: skip
TEXTS = {
    "table": ("x.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,30,cat,1,2,9,9\n"),
    "retinaface": ("label.txt", "# a.jpg\n1 2 9 9 3 3 0 4 4 0 5 5 0 6 6 0 7 7 0 0.5\n"),
    "widerface": ("x.txt", "a.jpg\n1\n1 2 9 9 0 0 0 0 0 0\n"),
    "landmarks": ("x.txt", "3 3 4 4 5 5 6 6 7 7 1 2 9 9 a.jpg\n"),
}


def changed(tree: object) -> Iterator[object]:
    """The tree with each node replaced by each of the others, and with each key left out."""
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            for part in changed(tree[key]):
                whole = copy.copy(tree)
                whole[key] = part
                yield whole
            yield {k: v for k, v in tree.items() if k != key} if isinstance(tree, dict) else tree[:key]
    yield from OTHERS


def read_all(folder, name: str, format: str, data: bytes) -> int:
    """Read with every answer to faults; how many times it went without an error."""
    put(folder / name, data)
    count = 0
    for faults in ("skip", "keep", "refuse"):
        try:
            dataset = registry.read(folder / name, format, images=folder, faults=faults)
        except InputError:
            continue
        assert np.isfinite(dataset.boxes).all()
        assert all(".." not in file for file in dataset.files)
        count += 1
    return count


@pytest.mark.parametrize("format", TREES)
def test_json(format, tmp_path):
    write_picture(tmp_path / "data/a.jpg", 40, 30)
    name, tree = TREES[format]
    texts = {json.dumps(each) for each in changed(tree)}
    assert len(texts) > 100
    counts = [read_all(tmp_path, name, format, text.encode()) for text in sorted(texts)]
    assert sum(counts) > len(texts) / 4 or format == "face-crops"  # of which none has its 98 points


@pytest.mark.parametrize("format", TEXTS)
def test_text(format, tmp_path):
    write_picture(tmp_path / "a.jpg", 40, 30)
    name, text = TEXTS[format]
    sign = "," if "," in text else " "
    words = text.replace("\n", f"{sign}\n{sign}").split(sign)
    texts = {sign.join([*words[:i], word, *words[i + 1 :]]) for i in range(len(words)) for word in WORDS}
    texts |= {text[:i] for i in range(len(text))}
    assert sum(read_all(tmp_path, name, format, each.encode()) for each in sorted(texts)) > 40
