"""Hostile inputs as they are on a disk: a folder of the stranger's, secrets outside it, and the command."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from typing import Any

import cv2
import numpy as np

from tests import cfgs

SECRET = "do-not-copy-3f9a1c"  # a string that no output may have
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
NAMES = ("nut", "bolt")


def jpeg(width: int = 160, height: int = 120, shade: int = 99) -> bytes:
    image = np.full((height, width, 3), shade, np.uint8)
    cv2.rectangle(image, (width // 4, height // 4), (width // 2, height // 2), (20, 200, 40), -1)
    data: bytes = cv2.imencode(".jpg", image)[1].tobytes()
    return data


def noise(count: int) -> bytes:
    """Random bytes, the same in every run."""
    return np.random.default_rng(0).bytes(count)


@dataclass(frozen=True)
class Place:
    """Where an input is.

    Attributes:
        folder: the stranger's, in which the command runs.
        outside: has a secret text, picture and label.
        base: good things: a network (net.cfg, net.weights, best.pt), its exported folder `net`, a data set
            `set` and a picture.
    """

    folder: Path
    outside: Path
    base: Path

    def put(self, name: str, data: bytes | str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        return path

    def json(self, name: str, tree: Any) -> Path:
        return self.put(name, json.dumps(tree))

    def link(self, name: str, target: str | Path) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def fifo(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)

    def sparse(self, name: str, size: int = 50 << 30, start: bytes = b"") -> None:
        """A file of that size that takes no disk."""
        path = self.put(name, start)
        with path.open("ab") as file:
            file.truncate(size)

    def copy(self, name: str) -> Path:
        """A good folder of `base`, to be damaged."""
        return Path(copytree(self.base / name, self.folder / name))

    def changed(self, file: str, change: Callable[[Any], Any]) -> None:
        """Change a JSON file of the folder; what `change` returns replaces it, unless that is None."""
        path = self.folder / file
        tree = json.loads(path.read_text())
        result = change(tree)
        path.write_text(json.dumps(tree if result is None else result))


Build = Callable[[Place], Any]


def swapped(text: str, old: str, new: str, count: int = -1) -> str:
    """`text` with `new` in place of `old`, which it must have: else a case would be as harmless as `text`."""
    assert old in text, old
    return text.replace(old, new, count)


def nothing(place: Place) -> None:
    """For a case whose command is all."""


@dataclass(frozen=True)
class Case:
    """A hostile input.

    Attributes:
        name: what is odd.
        kind: of input; one of each is tried in the suite.
        command: the words after `toolkit`, with {base}, {folder} and {outside}.
        build: makes the files.
        environment: variables that are set.
        real: a new process of its own, as people start one.
        plain_user: without the rights of root over files.
    """

    name: str
    kind: str
    command: str
    build: Build = nothing
    environment: dict[str, str] = field(default_factory=dict)
    real: bool = False
    plain_user: bool = False

    def words(self, place: Place) -> list[str]:
        names = {"base": str(place.base), "folder": str(place.folder), "outside": str(place.outside)}
        return [word.format(**names) for word in shlex.split(self.command)]


CASES: list[Case] = []


def case(kind: str, name: str, command: str, build: Build = nothing, **more: Any) -> None:
    """Enter a case into the list."""
    CASES.append(Case(name, kind, command, build, **more))


def make_outside(folder: Path) -> None:
    """What nobody gave to a command."""
    folder.mkdir(parents=True)
    (folder / "secret.txt").write_text(f"{SECRET}\n{SECRET} 2\n")
    for name in ("secret.jpg", "images/secret.jpg", "a.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(jpeg() + SECRET.encode())
    (folder / "secret.json").write_text(json.dumps({"name": SECRET, "images": [], "readings": []}))
    (folder / "labels").mkdir()
    (folder / "labels/secret.txt").write_text("0 .5 .5 .2 .2\n")


def make_base(folder: Path) -> None:
    """Good files, from which hostile ones are made. The network is small and its weights are seeded."""
    from toolkit.export.write import export_model
    from toolkit.models.darknet.cfg import cfg_text, parse_cfg
    from toolkit.models.darknet.network import load_darknet
    from toolkit.models.darknet.weights import save_weights
    from toolkit.runtime import seed_everything
    from toolkit.training.checkpoint import save_checkpoint
    from toolkit.training.origin import Origin

    folder.mkdir(parents=True)
    (folder / "net.cfg").write_text(cfgs.TINY)
    (folder / "net.names").write_text("nut\nbolt\n")
    (folder / "a.jpg").write_bytes(jpeg())
    seed_everything(0)
    model = load_darknet(folder / "net.cfg", None, folder / "net.names")
    save_weights(model, folder / "net.weights")
    origin = Origin("net.cfg", cfg_text(parse_cfg(folder / "net.cfg")))
    record = origin.record({"classes": list(NAMES)})
    save_checkpoint(folder / "best.pt", {**record, "model": model.state_dict(), "step": 3})
    export_model(model, folder / "net", ["ncnn", "onnx"], name="net")
    for i in range(6):
        split = "train" if i < 4 else "valid"
        path = folder / f"set/{split}/images/p{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(shade=30 * i))
        label = folder / f"set/{split}/labels/p{i}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(f"{i % 2} .375 .375 .25 .25\n")
    (folder / "set/data.yaml").write_text("train: train/images\nval: valid/images\nnames: [nut, bolt]\n")
