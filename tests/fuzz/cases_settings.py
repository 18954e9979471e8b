"""Settings, studies, readings, options and places for results."""

# ruff: noqa: E501 (a case in a line)
from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from tests import cfgs
from tests.fuzz.cases_data import yaml_bomb
from tests.fuzz.places import ASCII, Build, Place, case, jpeg, noise, swapped

SHORT = "name: modern, batch: 2, epochs: 0.2"  # where the rest is accepted
SET = f"data: {{base}}/set\nmodel: yoloface-50k\nsize: [64, 64]\nrecipe: {{{SHORT}}}\n"


def _put(name: str, data: bytes | str) -> Build:
    """A text in which {base} and {outside} stand for their folders."""

    def build(place: Place) -> None:
        whole = (
            data
            if isinstance(data, bytes)
            else data.replace("{base}", str(place.base)).replace("{outside}", str(place.outside))
        )
        place.put(name, whole)

    return build


# ---- YAML of every kind ----

MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 9))]
)
YAML = {
    "a billion laughs": yaml_bomb("seed"),
    "merges of merges": MERGES,
    "100,000 brackets": "seed: " + "[" * 100_000,
    "100,000 closed brackets": "seed: " + "[" * 100_000 + "]" * 100_000,
    "3,000 levels of lines": "\n".join(" " * i + "a:" for i in range(3000)),
    "a circle": "seed: &a [*a]\n",
    "a program": 'seed: !!python/object/apply:os.system [touch "$MARKER"]\n',
    "a program in a class": 'seed: !!python/name:os.system\nrecipe: !!python/object/new:os.system ["touch $MARKER"]\n',
    "a number of 10^5 digits": "seed: " + "9" * 100_000 + "\n",
    "a number to the base 60": "seed: " + "1:" * 5000 + "1\n",
    "a date that is none": "seed: 2024-99-99\n",
    "a time that is none": "seed: 2024-01-01T99:99:99Z\n",
    "keys that are lists": "? [1, 2]\n: 3\n",
    "keys that are numbers": "1: 2\n3.5: x\nnull: y\n",
    "a set": "seed: !!set {a, b}\n",
    "binary": "seed: !!binary x\n",
    "an unknown tag": "seed: !evil x\n",
    "an open quote": 'seed: "x\n',
    "tabs": "seed:\t\t1\n\tdata: x\n",
    "zeros": "\0" * 1000,
    "a list": "[1, 2]\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "a key twice": "seed: 1\nseed: 2\n",
    "UTF-16": "seed: 1\n".encode("utf-16"),
    "a word of 10 MB": "seed: " + "x" * 10_000_000 + "\n",
    "10^5 keys": "\n".join(f"k{i}: 1" for i in range(100_000)),
    "nothing": "",
}
for _name, _text in YAML.items():
    case(
        "YAML",
        f"settings: {_name}",
        "train --config x.yaml --output out",
        _put("x.yaml", _text if isinstance(_text, bytes) else SET + _text),
    )
    case(
        "YAML",
        f"study: {_name}",
        "ablate run x.yaml --output out",
        _put(
            "x.yaml",
            _text
            if isinstance(_text, bytes)
            else f"name: x\ndata: {{base}}/set\nfactors: {{ema: [0, .9]}}\nbudget: {{steps: 2}}\n{_text.replace('seed:', 'seeds:')}",
        ),
    )
for _name in (
    "a billion laughs",
    "100,000 brackets",
    "a circle",
    "a program",
    "a number of 10^5 digits",
    "keys that are lists",
):
    case(
        "YAML",
        f"recipe: {_name}",
        "train --data {base}/set --recipe x.yaml --output out",
        _put("x.yaml", "name: modern\n" + YAML[_name].replace("seed:", "batch:")),
    )
FILES: dict[str, Build] = {
    "a FIFO": lambda p: p.fifo("x.yaml"),
    "a folder": lambda p: (p.folder / "x.yaml").mkdir(),
    "/dev/zero": lambda p: p.link("x.yaml", "/dev/zero"),
    "50 GB": lambda p: p.sparse("x.yaml", start=b"data: toy\n"),
    "a file that cannot be opened": lambda p: p.put("x.yaml", SET).chmod(0),
}
for _name, _build in FILES.items():
    for _what, _command in {
        "settings": "train --config",
        "study": "ablate run",
        "recipe": "train --data {base}/set --recipe",
    }.items():
        case("YAML", f"{_what}: {_name}", f"{_command} x.yaml --output out", _build, plain_user=True)

# ---- values of settings ----


def _recipe(lever: str) -> str:
    return f"recipe: {{{SHORT}, {lever}}}"


SETTINGS = {
    "a seed of 10^30": "seed: 1" + "0" * 30,
    "a seed of -1": "seed: -1",
    "10^9 threads": "threads: 1000000000",
    "-1 threads": "threads: -1",
    "10^9 workers": "workers: 1000000000",
    "10^9 processes": "devices: 1000000000",
    "a cache of NaN": "cache_gb: .nan",
    "an input of 10^9": "size: [1000000000, 1000000000]",
    "an input of 100,000": "size: [99968, 99968]",
    "an input of 0": "size: [0, 0]",
    "10^9 validations": "validations: 1000000000",
    "a width of 10^9": "changes: {width: 1.0e+9}",
    "a width of NaN": "changes: {width: .nan}",
    "10^9 classes": "changes: {classes: 1000000000}",
    "changes that are a list": "changes: [1]",
    "an infinite budget": "recipe: {name: modern, batch: 2, epochs: .inf}",
    "10^300 epochs": "recipe: {name: modern, batch: 2, epochs: 1.0e+300}",
    "a budget of NaN": "recipe: {name: modern, batch: 2, epochs: .nan}",
    "a batch of 10^9": "recipe: {name: modern, epochs: 0.2, batch: 1000000000}",
    "accumulation of 10^12": _recipe("accumulate: 1000000000000"),
    "a learning rate of 10^300": _recipe("learning_rate: 1.0e+300"),
    "a scale of 10^9": _recipe("augmentation: {scale: [1.0e-9, 1.0e+9]}"),
    "a scale of NaN": _recipe("augmentation: {scale: [.nan, .inf]}"),
    "a flip of 7": _recipe("augmentation: {flip: 7}"),
    "a mosaic of NaN": _recipe("augmentation: {mosaic: .nan}"),
    "multi-scale of 10^9": _recipe("multi_scale: 1.0e+9"),
    "weights outside": "weights: {outside}/secret.txt",
    "names outside": "names: {outside}/secret.txt",
    "a teacher that is a file": "teacher: {outside}/secret.txt",
    "a cfg of 10^9 filters": "model: x.cfg\ncfg: |\n" + "".join(f"  {line}\n" for line in swapped(cfgs.TINY, "filters=8", "filters=1000000000").splitlines()),
    "a device with escape sequences": 'device: "\\e[2J"',
    "splits with ../": "train_split: ../../x\nval_split: ../y",
    "an unknown field of 1 MB": "x" * 1_000_000 + ": 1",
}  # fmt: skip
for _name, _text in SETTINGS.items():
    case(
        "settings",
        _name,
        "train --config x.yaml --output out",
        _put(
            "x.yaml",
            f"{SET}{_text}\n"
            if "data:" not in _text and "model:" not in _text
            else f"data: {{base}}/set\n{_text}\n",
        ),
    )
case(
    "settings",
    "a data set that is a link to outside",
    "train --config x.yaml --output out",
    lambda p: (_put("x.yaml", f"{SET}data: x\n")(p), p.link("x", p.outside)),
)
STUDIES = {
    "2^40 cells": "factors: {" + ", ".join(f"{f}: [1.0e-3, 2.0e-3]" for f in ("learning_rate", "weight_decay", "warmup", "last_rate", "ema", "label_smoothing", "clip", "momentum", "freeze", "box_weight", "obj_weight", "cls_weight", "plain_share", "multi_scale")) + "}\nbudget: {seconds: 1}",
    "10^6 seeds": "factors: {ema: [0, .9]}\nbudget: {steps: 1}\nseeds: [" + "0, " * 10**6 + "1]",
    "10^5 levels": "factors: {ema: [" + ", ".join(f"0.{i:06}" for i in range(10**5)) + "]}\nbudget: {steps: 1}",
    "levels of 1 MB": "factors: {activation: [relu, " + "x" * 10**6 + "]}\nbudget: {steps: 1}",
    "levels that are NaN": "factors: {ema: [.nan, .inf]}\nbudget: {steps: 1}",
    "widths of 10^9": "factors: {width: [1.0e+9, 1]}\nbudget: {steps: 1}",
    "inputs of 10^9": "factors: {input_size: [1000000000, 99968]}\nbudget: {steps: 1}",
    "a batch of 10^9": "factors: {batch: [1000000000, 999999999]}\nbudget: {seconds: 1}",
    "a budget of NaN": "factors: {ema: [0, .9]}\nbudget: {seconds: .nan}",
    "an infinite budget": "factors: {ema: [0, .9]}\nbudget: {epochs: .inf}",
    "10^300 epochs": "factors: {ema: [0, .9]}\nbudget: {epochs: 1.0e+300}",
    "10^12 trials": "factors: {ema: [0, .9]}\nbudget: {steps: 1}\nsearch: {trials: 1000000000000}",
    "limits of NaN": "factors: {ema: [0, .9]}\nbudget: {steps: 1}\nsearch: {trials: 2, bflops: .nan}",
    "a name with a path": "name: ../../evil\nfactors: {ema: [0, .9]}\nbudget: {steps: 0}",
    "a name with escape sequences": 'name: "\\e[2J\\0$x$"\nfactors: {ema: [0, .9]}\nbudget: {steps: 0}',
    "a name of 10,000 letters": "name: " + "x" * 10_000 + "\nfactors: {ema: [0, .9]}\nbudget: {steps: 0}",
    "factors that are a list": "factors: [ema]\nbudget: {steps: 1}",
    "a factor called name": "factors: {name: [a, b]}\nbudget: {steps: 1}",
}  # fmt: skip
for _name, _text in STUDIES.items():
    _build = _put(
        "x.yaml", ("" if _text.startswith("name") else "name: x\n") + f"data: {{base}}/set\n{_text}\n"
    )
    case("studies", _name, "ablate run x.yaml --output out", _build)
    case("studies", f"{_name}, without a folder", "ablate run x.yaml", _build)
PLAN = {"name": "x", "data": "toy", "factors": {"ema": [0, 0.9]}, "budget": {"steps": 1}}


def _database(place: Place) -> None:
    place.json("study/plan.json", PLAN)
    with sqlite3.connect(place.folder / "study/study.db") as database:
        database.execute("create table studies (study_id integer, study_name text)")
        database.execute("insert into studies values (1, 'x')")


REPORTS: dict[str, Build] = {
    "a plan of 100,000 brackets": _put("study/plan.json", "[" * 100_000),
    "a plan that is a list": _put("study/plan.json", "[1]"),
    "a plan of 50 GB": lambda p: p.sparse("study/plan.json", start=b"{"),
    "a plan that is a FIFO": lambda p: p.fifo("study/plan.json"),
    "a database of random bytes": lambda p: (
        p.json("study/plan.json", PLAN),
        p.put("study/study.db", noise(5000)),
    ),
    "a database of another program": _database,
    "a database that is a FIFO": lambda p: (p.json("study/plan.json", PLAN), p.fifo("study/study.db")),
    "no database": lambda p: p.json("study/plan.json", PLAN),
}
for _name, _build in REPORTS.items():
    case("studies", f"report: {_name}", "ablate report study", _build)
for _url in (
    "sqlite:////proc/none/x.db",
    "nothing",
    "mysql://root@127.0.0.1:9/x",
    "sqlite:///../../x.db?mode=ro",
    "\x1b[2J://x",
):
    case(
        "studies",
        f"report with the storage {_url!r}",
        f"ablate report study --storage '{_url}'",
        REPORTS["no database"],
    )


# ---- readings ----


def _reading(place: Place) -> dict[str, Any]:
    spec = json.loads((place.base / "net/spec.json").read_text())
    hashes = {name: facts["sha256"] for name, facts in spec["formats"]["ncnn"]["files"].items()}
    return {
        "schema": 1, "kind": "bench", "model": {"name": "net", "format": "ncnn", "sha256": hashes},
        "input": {"picture": "astronaut.rgb", "width": 512, "height": 512},
        "settings": {"threads": 1, "powersave": 0, "precision": "fp32", "conf": 0.25, "run_as": "app"},
        "runtime": {"ncnn": "1.0", "compiler": "clang", "threads": "libomp", "abi": "arm64-v8a"},
        "cpu": {"cores": 8, "big": 4, "little": 4, "features": ["neon"]}, "load_ms": 3.0,
        "samples": {"start_ms": [0, 6], "preprocess_ms": [1, 1], "inference_ms": [4, 2], "postprocess_ms": [1, 1]},
        "detections": [], "device": {"manufacturer": "Maker", "model": "Phone"}, "date": "2026-01-02T03:04:05Z",
    }  # fmt: skip


def _read(change: Callable[[dict[str, Any]], Any]) -> Build:
    def build(place: Place) -> None:
        place.copy("net")
        reading = _reading(place)
        result = change(reading)
        place.json("x.json", reading if result is None else result)

    return build


def _samples(count: int) -> dict[str, list[float]]:
    return {name: [1.0] * count for name in ("start_ms", "preprocess_ms", "inference_ms", "postprocess_ms")}


READINGS: dict[str, Build] = {
    "another sha256": _read(lambda r: r["model"].update(sha256={"a": "0" * 64})),
    "samples that are NaN": _read(lambda r: r["samples"].update(inference_ms=[float("nan")] * 2)),
    "samples that are infinite": _read(lambda r: r["samples"].update(inference_ms=[float("inf")] * 2)),
    "negative samples": _read(lambda r: r["samples"].update(inference_ms=[-1, -2])),
    "samples of 10^300 ms": _read(lambda r: r["samples"].update(inference_ms=[1e300, 1e308])),
    "2 million samples": _read(lambda r: r.update(samples=_samples(2_000_000))),
    "100,000 readings": _read(lambda r: [r] * 100_000),
    "a score that is NaN": _read(lambda r: r.update(detections=[{"class": "a", "score": float("nan"), "box": [1, 2, 3, float("inf")]}])),
    "10^6 detections": _read(lambda r: r.update(detections=[{"class": "a", "score": 0.5, "box": [1, 2, 3, 4]}] * 10**6)),
    "a runtime of 100,000 brackets": lambda p: (p.copy("net"), p.put("x.json", swapped(json.dumps(_reading(p)), '"1.0"', "[" * 100_000 + "]" * 100_000))),
    "a runtime of 900 brackets": lambda p: (p.copy("net"), p.put("x.json", swapped(json.dumps(_reading(p)), '"1.0"', "[" * 900 + "]" * 900))),
    "a runtime that is NaN": _read(lambda r: r["runtime"].update(x=float("nan"))),
    "10^400 threads": _read(lambda r: r["settings"].update(threads=10**400)),
    "a picture of 10^18 px": _read(lambda r: r["input"].update(width=10**18)),
    "names with escape sequences": _read(lambda r: r.update(device={"manufacturer": "\x1b[2J", "model": "$x$\n[bold]\ud800"})),
    "a name of 10 MB": _read(lambda r: r["model"].update(name="x" * 10_000_000)),
    "cores that are a word": _read(lambda r: r.update(cpu={"cores": "x", "features": 3}, device={"kind": "local"})),
    "a date of another calendar": _read(lambda r: r.update(date="99999-99-99")),
    "nothing": lambda p: (p.copy("net"), p.put("x.json", b"")),
    "random bytes": lambda p: (p.copy("net"), p.put("x.json", noise(4000))),
    "50 GB": lambda p: (p.copy("net"), p.sparse("x.json", start=b"[")),
    "a FIFO": lambda p: (p.copy("net"), p.fifo("x.json")),
    "a link to outside": lambda p: (p.copy("net"), p.link("x.json", p.outside / "secret.json")),
    "a folder": lambda p: (p.copy("net"), (p.folder / "x.json").mkdir()),
}  # fmt: skip
for _name, _build in READINGS.items():
    case("readings", _name, "time import x.json --exports .", _build)


def _as_timing(build: Build) -> Build:
    """The reading as the timing.json of an exported folder."""

    def place_it(place: Place) -> None:
        build(place)
        if not (place.folder / "x.json").is_dir():
            (place.folder / "x.json").rename(place.folder / "net/timing.json")

    return place_it


for _name in list(READINGS):
    if _name not in ("a folder", "another sha256"):
        case("timing.json", _name, "time table net --output drawn", _as_timing(READINGS[_name]))


# ---- options out of range ----

NET = "--model {base}/net.cfg"
TRAIN = f"train --data {{base}}/set {NET} --output out --size 64"
OPTIONS = {
    **{f"detect --size {v}": f"detect a.jpg {NET} --size {v}" for v in ("1000000000", "99968x99968", "0", "-64", "64x", "1e9", "٣٢", "64x64x64", "9" * 5000)},
    **{f"detect --conf {v}": f"detect a.jpg {NET} --conf {v}" for v in ("nan", "inf", "-1", "2", "1e400")},
    **{f"detect --iou {v}": f"detect a.jpg {NET} --iou {v}" for v in ("nan", "-1", "7")},
    "detect --frames -1": f"detect a.jpg {NET} --frames -1",
    "detect --nms x": f"detect a.jpg {NET} --nms x --resize y --fit z",
    "detect --coco in a folder that is a file": f"detect a.jpg {NET} --coco a.jpg/x.json",
    "detect --output that is a file": f"detect a.jpg {NET} --output a.jpg",
    "detect --output in /proc": f"detect a.jpg {NET} --output /proc/self/x",
    **{f"train --epochs {v}": f"{TRAIN} --epochs {v}" for v in ("nan", "inf", "-1", "0", "1e300")},
    **{f"train --workers {v}": f"{TRAIN} --epochs 1 --workers {v}" for v in ("1000000000", "-1", "5000")},
    **{f"train --devices {v}": f"{TRAIN} --epochs 1 --devices {v}" for v in ("1000000000", "0", "500")},
    **{f"train --seed {v}": f"{TRAIN} --epochs .1 --seed {v}" for v in ("-5", "1" + "0" * 30)},
    **{f"train --size {v}": f"train --data {{base}}/set {NET} --output out --epochs 1 --size {v}" for v in ("1000000000", "99968", "1")},
    **{f"train --lever {v[:40]}": f"{TRAIN} --epochs 1 --lever '{v}'" for v in ("batch=1000000000", "batch=-1", "batch=nan", "batch=" + "9" * 10_000, "accumulate=1000000000000", "mosaic=.nan", "=", "ema=[[[", "learning_rate=1e400", "learning_rate=.inf", "scale=[0, 0]", "scale=7", "warmup=&a [*a]", "clip=-1", "name=../../x", "augmentation=7", "ema=" + "[" * 50_000)},
    "train --device cuda:99": f"{TRAIN} --epochs 1 --device cuda:99",
    "train --device meta": f"{TRAIN} --epochs 1 --device meta",
    "train --recipe of nothing": f"{TRAIN} --recipe ''",
    "train --output in /proc": f"train --data {{base}}/set {NET} --output /proc/x --epochs 1",
    "train --output that is a file": f"train --data {{base}}/set {NET} --output a.jpg --epochs 1",
    **{f"data anchors --count {v}": f"data anchors {{base}}/set {NET} --count {v}" for v in ("1000000000", "-1", "100000")},
    "data anchors --size 10^9": f"data anchors {{base}}/set {NET} --size 1000000000",
    **{f"data split --val {v}": f"data split {{base}}/set out --val {v}" for v in ("nan", "inf", "-1", "2", "1e-300")},
    "data split --seed 10^30": "data split {base}/set out --seed 1" + "0" * 30,
    "data split into its source": "data split set set",
    "data import into its source": "data import {base}/set {base}/set/out",
    "data import over a file": "data import {base}/set a.jpg",
    "data import over a file, overwriting": "data import {base}/set a.jpg --overwrite",
    "data import over the folder itself": "data import {base}/set . --overwrite",
    "data import over /": "data import {base}/set / --overwrite",
    "data import of an unknown format": "data import {base}/set out --format '$(id)'",
    "data import of 20,000 classes": "data import {base}/set out --classes " + ",".join(f"c{i}" for i in range(20_000)),
    "data curate of -1 pictures": f"data curate {{base}}/set out {NET} --count -1",
    "evaluate --max-detections 10^12": f"evaluate coco {NET} --data {{base}}/set --max-detections 1000000000000",
    "evaluate --max-detections -1": f"evaluate coco {NET} --data {{base}}/set --max-detections -1",
    "evaluate --match-iou nan": f"evaluate voc {NET} --data {{base}}/set --match-iou nan",
    "evaluate --operating-point nan": f"evaluate voc {NET} --data {{base}}/set --operating-point precision=nan",
    "evaluate --operating-point x": f"evaluate voc {NET} --data {{base}}/set --operating-point fp=inf",
    "evaluate --split ../": f"evaluate voc {NET} --data {{base}}/set --split ../../x",
    "evaluate --points 10^9": f"evaluate darknet {NET} --data {{base}}/set --points 1000000000",
    "export --opset 10^9": f"export {NET} --to onnx --output out --opset 1000000000",
    "export --batch 10^9": f"export {NET} --to onnx --output out --batch 1000000000",
    "export --batch -1": f"export {NET} --to onnx --output out --batch -1",
    "export --size 10^9": f"export {NET} --to onnx --output out --size 1000000000",
    "export --size 99968": f"export {NET} --to onnx --output out --size 99968",
    "export --to a path": f"export {NET} --to ../../x --output out",
    "export --output that is a file": f"export {NET} --to onnx --output a.jpg",
    "export --output a folder of others": f"export {NET} --to onnx --output .",
    "parity compare --tolerance nan": "parity compare {base}/net.cfg {base}/net --tolerance nan",
    "parity ladder --rounds 10^9": f"parity ladder {NET} --folder {{base}}/net --rounds 1000000000 --rungs onnx",
    "parity ladder --rounds -1": f"parity ladder {NET} --folder {{base}}/net --rounds -1 --rungs onnx",
    "parity ladder --threads 10^9": f"parity ladder {NET} --folder {{base}}/net --threads 1000000000 --rounds 1 --rungs ncnn",
    "parity ladder --threads -1": f"parity ladder {NET} --folder {{base}}/net --threads -1 --rounds 1 --rungs onnx",
    "time --threads 10^9": "time run {base}/net --device local --threads 1000000000",
    "time --loops 10^12": "time run {base}/net --device local --loops 1000000000000",
    "time --seconds inf": "time run {base}/net --device local --seconds inf",
    "time --cooldown nan": "time run {base}/net --device local --cooldown nan",
    "time --device with a command": "time run {base}/net --device 'ssh:-oProxyCommand=touch marker'",
    "time --device of nothing": "time run {base}/net --device ''",
    "ablate run --workers 10^9": "ablate run x.yaml --output out --workers 1000000000",
    "package --package-id with a path": "package --android --model {base}/net --output app --package-id ../../x",
    "package over other files": "package --android --model {base}/net --output .",
    **{f"package --name {name!r}": f"package --android --model {{base}}/net --output app --name '{name}'" for name in ("@TITLE@", "@APPLICATION_ID@", "👩‍👩‍👧‍👦", "$x \\u0041 %s", "</string><x>", "a\nb", " ", "x" * 100_000, "\u202eppa")},
    "a folder that is no export": "package --android --model . --output app",
}  # fmt: skip


def _study_beside(place: Place) -> None:
    place.put("x.yaml", f"name: x\ndata: {place.base}/set\nfactors: {{ema: [0, .9]}}\nbudget: {{steps: 1}}\n")


for _name, _command in OPTIONS.items():
    case("options", _name, _command, _study_beside)

# ---- folders without permission, locales, environments ----

for _name, _command in {"export": f"export {NET} --to onnx --output locked/out", "import": "data import {base}/set locked/out",
                        "detect": f"detect a.jpg {NET} --output locked", "train": f"train --data {{base}}/set {NET} --output locked/out --epochs 1",
                        "package": "package --android --model {base}/net --output locked/app"}.items():  # fmt: skip
    case(
        "permissions",
        f"{_name} into a folder that cannot be written",
        _command,
        lambda p: ((p.folder / "locked").mkdir(), (p.folder / "locked").chmod(0o555)),
        plain_user=True,
    )
case(
    "permissions",
    "a data set that cannot be opened",
    "data import set out",
    lambda p: (p.put("set/a.jpg", jpeg()), (p.folder / "set").chmod(0)),
    plain_user=True,
)
case(
    "permissions",
    "labels that cannot be opened",
    "data import set out",
    lambda p: (p.put("set/a.jpg", jpeg()), p.put("set/a.txt", "0 .5 .5 .2 .2\n").chmod(0)),
    plain_user=True,
)
case(
    "permissions",
    "a spec.json that cannot be opened",
    "detect a.jpg --model net",
    lambda p: (p.copy("net"), (p.folder / "net/spec.json").chmod(0)),
    plain_user=True,
)

for _name, _command in {
    "models": "models",
    "the list of commands": "--help",
    "an unknown command": "déjà 日本",
    "a picture called é": "detect é.jpg --model {base}/net.cfg",
    "data import": "data import sét oút",
}.items():
    case(
        "environments",
        f"ASCII: {_name}",
        _command,
        lambda p: (
            p.put("é.jpg", jpeg()),
            p.put("sét/ü.jpg", jpeg()),
            p.put("sét/ü.txt", "0 .5 .5 .2 .2\n"),
            p.put("sét/classes.txt", "größe\n日本\n"),
        ),
        environment=ASCII,
        real=True,
    )
ENVIRONMENTS = {
    "TOOLKIT_ZOO that is a file": {"TOOLKIT_ZOO": "/etc/passwd"},
    "TOOLKIT_ZOO that is not there": {"TOOLKIT_ZOO": "/none/\x1b[2J"},
    "TOOLKIT_DATA that is a file": {"TOOLKIT_DATA": "/etc/passwd"},
    "TOOLKIT_MAX_PIXELS that is a word": {"TOOLKIT_MAX_PIXELS": "many"},
    "TOOLKIT_MAX_PIXELS of 1": {"TOOLKIT_MAX_PIXELS": "1"},
    "TOOLKIT_MAX_PIXELS of 10^400": {"TOOLKIT_MAX_PIXELS": "9" * 400},
    "a TMPDIR that is not there": {"TMPDIR": "/none"},
    "a HOME that is not there": {"HOME": "/none"},
    "10^9 OpenMP threads": {"OMP_NUM_THREADS": "1000000000"},
    "COLUMNS of 0": {"COLUMNS": "0"},
}
for _name, _variables in ENVIRONMENTS.items():
    _command = (
        "detect a.jpg --model yoloface-50k"
        if "ZOO" in _name
        else "evaluate coco --model {base}/net.cfg --data bccd"
        if "DATA" in _name
        else f"detect a.jpg {NET}"
    )
    case("environments", _name, _command, environment=_variables, real="ZOO" not in _name)
