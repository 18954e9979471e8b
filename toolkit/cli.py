"""The `toolkit` command: reads options, calls the library, prints a table or one JSON object."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from toolkit.runtime import InputError, progress

if TYPE_CHECKING:
    from toolkit.detect import Video

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
parity_app = typer.Typer(no_args_is_help=True, help="Prove that two backends of one network agree.")
app.add_typer(parity_app, name="parity")
data_app = typer.Typer(no_args_is_help=True, help="Bring data in, check it, curate it, fit anchors to it.")
app.add_typer(data_app, name="data")
evaluate_app = typer.Typer(no_args_is_help=True, help="Score a network by the protocols of published tables.")
app.add_typer(evaluate_app, name="evaluate")
ablate_app = typer.Typer(no_args_is_help=True, help="Controlled studies: factors, a budget, honest effects.")
app.add_typer(ablate_app, name="ablate")


class _RunFirst(typer.core.TyperGroup):
    """`toolkit time FOLDER` is `toolkit time run FOLDER`."""

    def parse_args(self, context: typer.Context, words: list[str]) -> list[str]:  # type: ignore[override]
        if words and words[0] not in (*self.commands, "--help"):
            words = ["run", *words]
        return super().parse_args(context, words)


time_app = typer.Typer(
    no_args_is_help=True, cls=_RunFirst, help="Time exported networks on phones, boards and this machine."
)
app.add_typer(time_app, name="time")
device_app = typer.Typer(no_args_is_help=True, help="The program that runs on phones and boards.")
app.add_typer(device_app, name="device")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
Model = Annotated[
    str, typer.Option(help="A network of the zoo, a darknet .cfg, or an exported folder (FOLDER:FORMAT).")
]
Weights = Annotated[
    Path | None, typer.Option(help="A .weights or .pt file; the published ones unless given.")
]
Size = Annotated[
    str, typer.Option(help="Network input, one side or WIDTHxHEIGHT; the network's own unless given.")
]
Devices = Annotated[
    list[str],
    typer.Option("--device", help="adb, adb:SERIAL, ssh:user@host[:port] or local; may be repeated."),
]
Loops = Annotated[int, typer.Option(min=1, help="Timed loops, after 8 others.")]
Picture = Annotated[Path | None, typer.Option(help="What to look at; scikit-image's astronaut unless given.")]
SshConfig = Annotated[Path | None, typer.Option(help="Instead of ~/.ssh/config.")]
Scores = Annotated[list[str] | None, typer.Option("--score", help="NETWORK=SCORE; may be repeated.")]


def _drawable(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in (".png", ".jpg", ".pdf", ".svg"):
        raise InputError(f"a drawing is a .png, .jpg, .pdf or .svg file, not {path.name}")
    return path


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _answer(data: dict[str, Any], as_json: bool, table: Table | str = "") -> None:
    if as_json:
        print(json.dumps(data))
    elif isinstance(table, str):
        print(table)
    else:  # without markup: names of files and extras have brackets and colons too
        width = None if sys.stdout.isatty() else 160
        Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise InputError(f"--size takes one side or WIDTHxHEIGHT such as 352x288, not {text!r}")
    return int(sides[0]), int(sides[-1])


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """First column to the left, numbers to the right."""
    result = Table(title=title or None, title_justify="left")
    for i, column in enumerate(columns):
        result.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


@app.command()
def models(as_json: Json = False) -> None:
    """The seed's networks: size, parameters, cost, and whether weights are published."""
    from toolkit.models import create_model, list_models
    from toolkit.models.cost import measure
    from toolkit.models.spec import ModelIO
    from toolkit.models.zoo import has_published_weights

    entries: list[dict[str, Any]] = []
    for name in list_models():
        model = create_model(name)
        cost = measure(model)
        io: Any = model.io
        detector = isinstance(io, ModelIO)
        entries.append(
            {
                "name": name,
                "input_size": list(cost.input_size),
                "classes": len(io.classes) if detector else 0,
                "points": 0 if detector else io.points,
                "strides": [head.stride for head in io.heads] if detector else [],
                "params": cost.params,
                "macs": cost.macs,
                "bflops": cost.bflops,
                "peak_memory": cost.peak_memory,
                "published_weights": has_published_weights(name),
            }
        )
    columns = ["network", "input", "finds", "strides", "parameters", "MMAC", "BFLOPs", "peak MB", "weights"]
    rows = [
        [
            e["name"],
            "x".join(str(v) for v in e["input_size"]),
            f"{e['points']} points" if e["points"] else f"{e['classes']} classes",
            "/".join(str(v) for v in e["strides"]) or "-",
            f"{e['params']:,}",
            f"{e['macs'] / 1e6:.1f}",
            f"{e['bflops']:.3f}",
            f"{e['peak_memory'] / 1e6:.1f}",
            "published" if e["published_weights"] else "-",
        ]
        for e in entries
    ]
    _answer({"models": entries}, as_json, table("", columns, rows))


def _moving(source: str, frames: int, folder: Path) -> tuple[Video, Path] | None:
    """The video or camera that `source` names, and the file in `folder` for its annotated copy. None where
    it names pictures."""
    from toolkit.detect import VIDEO_SUFFIXES, Video

    camera = source.isdigit() and not Path(source).exists()
    if not camera and Path(source).suffix.lower() not in VIDEO_SUFFIXES:
        return None
    if camera and not frames:
        raise InputError("a camera has no end: say how many frames with --frames")
    video = Video(int(source) if camera else source)
    return video, folder / f"{'camera' if camera else Path(source).stem}.mp4"


@app.command()
def detect(
    source: Annotated[str, typer.Argument(help="A picture, a folder, a video, or the index of a camera.")],
    model: Model = "nano-coco",
    weights: Weights = None,
    conf: Annotated[float, typer.Option(help="Threshold on the score, 0..1.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Suppress above this overlap, 0..1.")] = 0.45,
    nms: Annotated[str, typer.Option(help="plain or diou (newer darknet's greedynms).")] = "plain",
    resize: Annotated[str, typer.Option(help="bilinear (OpenCV) or darknet (exact).")] = "bilinear",
    fit: Annotated[str, typer.Option(help="stretch or letterbox.")] = "stretch",
    size: Size = "",
    output: Annotated[Path | None, typer.Option(help="Folder for annotated pictures or the video.")] = None,
    coco: Annotated[Path | None, typer.Option(help="Write detections as a COCO results file.")] = None,
    frames: Annotated[
        int, typer.Option(help="Stop a video or camera after so many frames; 0: at its end.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Find objects in a picture, a folder, a video or a camera."""
    from toolkit.detect import (
        Settings,
        annotate,
        annotate_video,
        as_coco,
        as_records,
        find_images,
        load_image,
        run,
        save_image,
    )
    from toolkit.export import open_model
    from toolkit.runtime import whole_file

    settings = Settings(conf, iou, nms, resize, fit, _size(size))
    network = open_model(model, weights)
    begin = time.perf_counter()
    if moving := _moving(source, frames, output or Path("detections")):
        video, target = moving
        found = annotate_video(network, video, target, frames, settings)
        names = [f"frame {i}" for i in range(len(found))]
        _say(f"wrote {target}")
    else:
        paths = find_images(source)
        names = [str(path) for path in paths]
        found = list(progress(run(network, paths, settings), "pictures", len(paths)))
        if output is not None:
            root = Path(source) if Path(source).is_dir() else Path(source).parent
            for path, boxes in zip(paths, found, strict=True):
                picture = annotate(load_image(path), boxes, network.io)
                save_image(output / path.relative_to(root), picture)
    seconds = time.perf_counter() - begin
    if coco is not None:
        rows = [row for i, boxes in enumerate(found) for row in as_coco(boxes, i + 1)]
        with whole_file(coco) as temporary:
            temporary.write_text(json.dumps(rows))
    records = [(name, as_records(boxes, network.io)) for name, boxes in zip(names, found, strict=True)]
    lines = [
        [name, d["class"], f"{d['score']:.3f}", " ".join(f"{v:.0f}" for v in d["box"])]
        for name, detections in records
        for d in detections
    ]
    if len(lines) > 200:
        _say(f"the table shows the first 200 of {len(lines)} detections: --json has all")
    fps = len(found) / seconds
    _say(f"{len(found)} pictures, {len(lines)} detections, {seconds:.2f} s, {fps:.1f} pictures/s")
    _answer(
        {
            "results": [{"image": name, "detections": detections} for name, detections in records],
            "seconds": seconds,
            "pictures_per_second": fps,
        },
        as_json,
        table("", ["picture", "class", "score", "x1 y1 x2 y2 (px)"], lines[:200]),
    )


@app.command()
def landmarks(
    source: Annotated[str, typer.Argument(help="A picture, a folder, a video, or the index of a camera.")],
    detector: Annotated[
        str, typer.Option(help="A network that finds faces, as for detect.")
    ] = "yoloface-100k",
    points: Annotated[
        str, typer.Option(help="A landmark network of the zoo or an exported folder (FOLDER:FORMAT).")
    ] = "landmark106",
    weights: Annotated[
        Path | None, typer.Option(help="Of the landmark network: a .caffemodel, .param or .pt file.")
    ] = None,
    conf: Annotated[float, typer.Option(help="Threshold on a face's score, 0..1.")] = 0.5,
    size: Annotated[str, typer.Option(help="The detector's input, one side or WIDTHxHEIGHT.")] = "",
    every: Annotated[
        int, typer.Option(help="In a video, look for new faces after so many frames; 1: in every frame.")
    ] = 30,
    smoothing: Annotated[
        float, typer.Option(help="In a video, the filter's cut-off in Hz on still points; 0: none.")
    ] = 3.0,
    output: Annotated[Path | None, typer.Option(help="Folder for annotated pictures or the video.")] = None,
    frames: Annotated[
        int, typer.Option(help="Stop a video or camera after so many frames; 0: at its end.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Faces and their landmarks in a picture, a folder, a video or a camera; in a video they are followed."""
    from dataclasses import replace

    from toolkit import faces
    from toolkit.detect import find_images, load_image, save_image
    from toolkit.export import open_landmarks, open_model

    settings = replace(faces.FACES, conf=conf, size=_size(size))
    networks = open_model(detector), open_landmarks(points, weights)
    begin = time.perf_counter()
    if moving := _moving(source, frames, output or Path("landmarks")):
        video, target = moving
        tracking = faces.Tracking(every=every, smoothing=smoothing)
        tracker = faces.FaceTracker(*networks, settings, tracking, video.fps)
        found = faces.annotate_faces_video(tracker, video, target, frames)
        names = [f"frame {i}" for i in range(len(found))]
        _say(f"wrote {target}; the detector ran on {tracker.detections} of {len(found)} frames")
    else:
        paths = find_images(source)
        names = [str(path) for path in paths]
        found = [faces.detect_faces(path, *networks, settings) for path in progress(paths, "pictures")]
        if output is not None:
            root = Path(source) if Path(source).is_dir() else Path(source).parent
            for path, each in zip(paths, found, strict=True):
                save_image(output / path.relative_to(root), faces.annotate_faces(load_image(path), each))
    seconds = time.perf_counter() - begin
    records = [(name, faces.as_records(each)) for name, each in zip(names, found, strict=True)]
    rows = [
        [name, f"{face['score']:.3f}", " ".join(f"{v:.0f}" for v in face["box"])]
        for name, each in records
        for face in each
    ]
    _say(f"{len(found)} pictures, {len(rows)} faces, {seconds:.2f} s, {len(found) / seconds:.1f} pictures/s")
    _answer(
        {
            "results": [{"image": name, "faces": each} for name, each in records],
            "seconds": seconds,
            "pictures_per_second": len(found) / seconds,
        },
        as_json,
        table("", ["picture", "score", "x1 y1 x2 y2 (px)"], rows[:200]),
    )


@app.command()
def export(
    model: Model,
    output: Annotated[
        Path | None, typer.Option(help="The folder to make; exports/NETWORK unless given.")
    ] = None,
    weights: Weights = None,
    to: Annotated[
        str,
        typer.Option(
            help="Formats, by commas: onnx, onnx-end2end, onnx-int8, ncnn, ncnn-fp16, ncnn-int8, mnn, "
            "mnn-fp16, mnn-int8-weights, mnn-int8, caffe, darknet; or all."
        ),
    ] = "onnx,ncnn,ncnn-fp16",
    end2end: Annotated[
        bool, typer.Option("--end2end", help="Add the ONNX file with decoding and suppression inside.")
    ] = False,
    size: Size = "",
    calibration: Annotated[
        Path | None,
        typer.Option(help="Pictures for int8: a folder, or a text file with a path in each line."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Ranges of ncnn int8: best, minmax, percentile, mse or kl.")
    ] = "best",
    float_layers: Annotated[
        str | None,
        typer.Option(help="Layers of the .param that ncnn int8 keeps float, by commas; else it measures."),
    ] = None,
    detection_output: Annotated[
        bool,
        typer.Option(
            "--detection-output",
            help="Add an ncnn .param that ends in Yolov3DetectionOutput, for older apps. That layer cannot "
            "express scale_x_y: centres are off by up to (scale_x_y - 1) / 2 of a cell (1.6 px in nano). Its "
            "scores are too high, its labels count from 1, its suppression ignores classes.",
        ),
    ] = False,
    cpp: Annotated[
        bool, typer.Option("--cpp", help="Add a C++ sample that runs the ncnn files, with its CMakeLists.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a network in every format that is asked for, each file checked against torch."""
    from toolkit.export import export_model, formats_of, open_network
    from toolkit.models.landmarks import TorchNetwork

    network = open_network(model, weights)
    if not isinstance(network, TorchNetwork):
        raise InputError(f"{model} is exported already: name the network or cfg that it came from")
    folder = output or Path("exports") / Path(model).stem
    name = folder.resolve().name  # a run's best.cfg says less
    formats = formats_of(network) if to == "all" else to.split(",") + ["onnx-end2end"] * end2end
    floats = None if float_layers is None else [part for part in float_layers.split(",") if part]
    parity = export_model(
        network, folder, formats, _size(size), calibration, detection_output, method, floats, cpp, name
    )
    spec = json.loads((folder / "spec.json").read_text())
    if spec.get("threshold", 0.25) != 0.25:
        _say(f"{folder} keeps the threshold that was chosen for it, {spec['threshold']:.4g}")
    sizes = {f: sum(v["bytes"] for v in spec["formats"][f]["files"].values()) for f in parity}
    rows = [
        [fmt, f"{sizes[fmt] / 1000:.1f}", f"{p['max_difference']:.2g}", f"{p['relative_difference']:.2g}"]
        if "max_difference" in p
        else [fmt, f"{sizes[fmt] / 1000:.1f}", f"{p['matched']} of {p['detections']} detections", ""]
        for fmt, p in parity.items()
    ]
    _answer(
        {"folder": str(folder), "parity": parity, "bytes": sizes},
        as_json,
        table(str(folder), ["format", "kB", "max difference to torch", "relative to largest output"], rows),
    )


@app.command()
def package(
    model: Annotated[
        list[Path],
        typer.Option(
            help="A folder that toolkit export made, with ncnn files; may be repeated, once for landmarks."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The project to make.")],
    android: Annotated[bool, typer.Option("--android", help="A Gradle project for an Android app.")] = False,
    name: Annotated[str, typer.Option(help="The app's name on the screen.")] = "Detector",
    package_id: Annotated[str, typer.Option(help="What tells it from other apps.")] = "org.example.detector",
    as_zip: Annotated[bool, typer.Option("--zip", help="Add OUTPUT.zip, for hand-over.")] = False,
    build: Annotated[bool, typer.Option("--build", help="Build the APK; needs an Android SDK.")] = False,
    as_json: Json = False,
) -> None:
    """Write an app around exported networks: camera, gallery, sliders, and timing on the phone."""
    from toolkit.device.package import build_apk, find_sdk, package_android, zip_project

    if not android:
        raise InputError("say what to package for: --android is what there is")
    if build:
        find_sdk()  # before anything is written
    networks = package_android(model, output, name, package_id)
    answer: dict[str, Any] = {"project": str(output), "models": [vars(network) for network in networks]}
    if as_zip:
        answer["zip"] = str(zip_project(output))
    if build:
        answer["apk"] = str(build_apk(output))
    else:
        _say(f"to build: open {output} in Android Studio, or see its README.md for the commands")
    rows = [
        [
            n.name,
            f"{n.points} points" if n.points else str(n.classes),
            f"{n.input_size[0]}x{n.input_size[1]}",
            ", ".join(n.formats),
            str(n.kilobytes),
        ]
        for n in networks
    ]
    made = ", ".join(str(answer[key]) for key in ("project", "zip", "apk") if key in answer)
    _answer(answer, as_json, table(made, ["network", "classes", "input", "formats", "kB"], rows))


@parity_app.command("ladder")
def parity_ladder(
    model: Model,
    weights: Weights = None,
    folder: Annotated[
        Path | None, typer.Option(help="What toolkit export made; exports/NETWORK unless given.")
    ] = None,
    rungs: Annotated[
        str, typer.Option(help="Formats, by commas, and openvino; all in the folder unless given.")
    ] = "",
    images: Annotated[Path | None, typer.Option(help="Picture or folder to compare detections on.")] = None,
    data: Annotated[str, typer.Option(help="A data set to score every rung on.")] = "",
    split: Annotated[str, typer.Option(help="Its split; all pictures unless given.")] = "",
    metric: Annotated[str, typer.Option(help="coco, voc, darknet or widerface.")] = "coco",
    threads: Annotated[int, typer.Option(help="Of every engine, for the timing.")] = 1,
    rounds: Annotated[int, typer.Option(help="Of timing, after a first.")] = 30,
    picture: Annotated[
        Path | None, typer.Option(callback=_drawable, help="Draw the differences into this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """All formats of an exported network beside torch: outputs, detections, score, size, time.

    Exit code 1 where a rung falls short; the table says where it begins.
    """
    from toolkit.detect import find_images
    from toolkit.export import ladder, open_model
    from toolkit.models.detector import Detector
    from toolkit.samples import photographs

    network = open_model(model, weights)
    if not isinstance(network, Detector):
        raise InputError(f"{model} is exported already: name the network or cfg that it came from")
    score = None
    if data:
        from toolkit import evaluation
        from toolkit.data.dataset import load

        dataset = load(data).split(split) if split else load(data)
        score = partial(evaluation.score, dataset=dataset, metric=metric, name=data)
    pictures = list(photographs().values()) if images is None else find_images(images)
    wanted = [rung for rung in rungs.split(",") if rung]
    folder = folder or Path("exports") / Path(model).stem
    found = ladder.ladder(network, folder, pictures, score, wanted, threads, rounds)
    columns = ladder.table(found)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    _answer({"rungs": [rung.as_dict() for rung in found]}, as_json, table(model, list(columns), rows))
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        ladder.picture(found, Path(model).stem).savefig(picture)
    if any(rung.fault for rung in found):
        raise typer.Exit(1)


@parity_app.command("compare")
def parity_compare(
    first: Annotated[str, typer.Argument(help="A network as for --model, or a darknet reference .npz.")],
    second: Annotated[str, typer.Argument(help="The same, to hold against it.")],
    weights: Weights = None,
    image: Annotated[
        Path | None, typer.Option(help="Picture to run; a photograph of scikit-image unless given.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference that passes.")] = 1e-5,
    picture: Annotated[
        Path | None, typer.Option(callback=_drawable, help="Draw the difference per layer into this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two of {darknet reference, torch, onnx, ncnn}: layer by layer where both show layers.

    Exit code 1 where they differ by more than the tolerance.
    """
    from toolkit.detect import load_image, preprocess
    from toolkit.export import open_network, parity, probe_input
    from toolkit.models import list_models

    def open_side(source: str) -> Any:
        if source.endswith(".npz"):
            return parity.DarknetReference(source)
        own = source in list_models() or source.endswith(".cfg")
        return open_network(source, weights if own else None)

    sides = [open_side(source) for source in (first, second)]
    x = None
    ios = [side.io for side in sides if hasattr(side, "io")]
    if len(ios) == len(sides):
        x = probe_input(ios[0]) if image is None else preprocess(load_image(image), ios[0])[0][None]
    elif not ios:
        raise InputError("two darknet references cannot be run: name a network on one side")
    result = parity.compare(sides[0], sides[1], x, (Path(first).name, Path(second).name))
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        parity.picture(result, tolerance).savefig(picture)
    diverging = result.first_divergence(tolerance)
    good = result.relative <= tolerance
    rows = [
        [r.name, f"{r.difference:.2e}", f"{r.largest:.2f}", f"{r.relative:.2e}"]
        for r in (*result.layers, *result.outputs)
    ]
    _answer(
        {**result.as_dict(), "tolerance": tolerance, "passed": good, "first_divergence": diverging},
        as_json,
        table(
            f"{result.first} against {result.second}",
            ["layer", "max difference", "largest value", "relative"],
            rows,
        ),
    )
    if not good:
        _say(f"the outputs differ by {result.relative:.2e}, more than {tolerance:g}; first at {diverging}")
        raise typer.Exit(1)
    _say(f"equal within {tolerance:g}: the outputs differ by {result.relative:.2e}")


# --- data ----------------------------------------------------------------------------------------------

Data = Annotated[str, typer.Argument(help="A data set by name (a card in datasets/) or by path.")]
Format = Annotated[
    str, typer.Option(help="coco, voc, yolo, widerface, landmarks, label-studio; found out unless given.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a data set that lies there.")]


@data_app.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="A folder, label file, .zip, or the name of a card.")],
    output: Annotated[Path, typer.Argument(help="The canonical folder to make: COCO JSON and pictures.")],
    format: Format = "",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, where labels lie apart.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Class names wanted, by commas.")] = "",
    copy: Annotated[bool, typer.Option("--copy", help="Copy pictures instead of linking them.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Bring labels of any known format into the canonical one."""
    from toolkit.data.formats import import_dataset

    names = classes.split(",") if classes else None
    found = import_dataset(
        source, output, format or None, classes=names, images=images, link=not copy, overwrite=overwrite
    )
    counts = {name: int((found.labels == i).sum()) for i, name in enumerate(found.classes)}
    splits = {str(s): int((found.splits == s).sum()) for s in sorted(set(found.splits.tolist()))}
    summary = {"folder": str(output), "pictures": len(found), "boxes": len(found.labels)}
    rows = [["pictures", str(len(found))], ["boxes", str(len(found.labels))]]
    rows += [[f"split {name or '(none)'}", str(n)] for name, n in splits.items()]
    rows += [[name, str(n)] for name, n in counts.items()]
    _answer(
        {**summary, "splits": splits, "classes": counts}, as_json, table(str(output), ["", "count"], rows)
    )


@data_app.command("doctor")
def data_doctor(
    data: Data,
    model: Annotated[
        str, typer.Option(help="Also hold sizes and anchors against this network of the zoo.")
    ] = "",
    fix: Annotated[
        Path | None, typer.Option(help="Write a mended copy here; the data set stays as it is.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures of the findings.")] = None,
    pictures: Annotated[
        bool, typer.Option(help="Decode the pictures; without, five faults are not seen.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Find the label faults that make a training fail. Exit code 1 where there are any."""
    from toolkit.data import doctor as examiner
    from toolkit.data.dataset import load
    from toolkit.models import create_model

    dataset = load(data, strict=False)
    report = examiner.examine(dataset, create_model(model).io if model else None, pictures)
    result = report.as_dict()
    if html is not None:
        examiner.write_page(dataset, report, html)
    if fix is not None:
        result["fixes"] = examiner.fix(dataset, report, fix)
        _say(f"{len(result['fixes'])} changes, in {fix}")
    for note in report.notes:
        _say(f"note: {note}")
    for finding in report.findings[:20]:
        _say(f"{finding.fault}: {finding.sentence}")
    if len(report.findings) > 20:
        _say(f"... {len(report.findings)} findings in all: --json or --html has them")
    rows = [
        [examiner.FAULTS[fault], str(count) if report.decoded or fault not in examiner.NEED_PICTURES else "-"]
        for fault, count in report.counts.items()
    ]
    _answer(result, as_json, table(f"{data}: {report.pictures} pictures", ["fault", "found"], rows))
    if report.findings:
        raise typer.Exit(1)


@data_app.command("curate")
def data_curate(
    data: Data,
    output: Annotated[
        Path, typer.Argument(help="Folder for the views' pictures, the record and the curated set.")
    ],
    model: Annotated[
        str, typer.Option(help="Network of the zoo for embeddings and predictions.")
    ] = "fastest-v2",
    weights: Weights = None,
    count: Annotated[int, typer.Option(help="Pictures in each view.")] = 50,
    drop_duplicates: Annotated[
        bool,
        typer.Option("--drop-duplicates", help="Leave exact and near duplicates out of the curated set."),
    ] = False,
    with_app: Annotated[
        bool, typer.Option("--app", help="Open FiftyOne's App and go on when it is closed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look through a data set in FiftyOne; what stays comes back as a data set with a record of the rest."""
    from toolkit.data import curation
    from toolkit.data.dataset import load
    from toolkit.export import open_model

    network, dataset = open_model(model, weights), load(data)
    if network.io.classes != dataset.classes:
        _say(f"{model} has other classes than {data}: views by its predictions are left out")
    views, chosen = curation.curate(dataset, network, output, count, drop_duplicates, with_app)
    summary = {"folder": str(output), "views": views, "pictures": len(dataset), "kept": len(chosen)}
    rows = [[name, str(n)] for name, n in [*views.items(), ("kept", len(chosen))]]
    _answer(summary, as_json, table(f"{data}: {len(dataset)} pictures", ["view", "pictures"], rows))


@data_app.command("anchors")
def data_anchors(
    data: Data,
    model: Annotated[
        str, typer.Option(help="Network of the zoo whose input, heads and anchors are the base.")
    ] = "fastest-v2",
    count: Annotated[int, typer.Option(help="How many; as many as the network has unless given.")] = 0,
    split: Annotated[str, typer.Option(help="One split only.")] = "",
    size: Size = "",
    fit: Annotated[str, typer.Option(help="stretch or letterbox.")] = "stretch",
    picture: Annotated[
        Path | None, typer.Option(callback=_drawable, help="Draw boxes and anchors into this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Anchors that suit a data set, beside the network's own."""
    import numpy as np

    from toolkit import viz
    from toolkit.data import anchors as anchor_search
    from toolkit.data.dataset import load
    from toolkit.models import create_model

    changes: dict[str, Any] = {"input_size": _size(size)} if size else {}
    io = create_model(model, **changes).io
    dataset = load(data)
    dataset = dataset.split(split) if split else dataset
    strides = [head.stride for head in io.heads]
    own = np.array(sorted((a for head in io.heads for a in head.anchors), key=lambda a: a[0] * a[1]))
    sizes = anchor_search.object_sizes(dataset, io.input_size, fit)
    found = anchor_search.find(sizes, count or len(own), own)
    fits = {name: anchor_search.fit(sizes, a, strides) for name, a in ((model, own), ("found", found))}
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        viz.anchors_on_boxes(sizes, {model: own, "found": found}).savefig(picture)
    masks = anchor_search.to_heads(found, strides) if len(found) % len(strides) == 0 else ()
    text = ", ".join(f"{w:.1f},{h:.1f}" for w, h in found)
    rows = [[name, f"{f.recall:.4f}", f"{f.mean_iou:.4f}"] for name, f in fits.items()]
    _answer(
        {
            "input_size": list(io.input_size),
            "anchors": found.tolist(),
            "masks": [list(mask) for mask in masks],
            "fits": {name: f.as_dict() for name, f in fits.items()},
        },
        as_json,
        table(f"anchors={text}", ["anchors", "best possible recall", "mean best IoU"], rows),
    )


@data_app.command("prelabel")
def data_prelabel(
    data: Data,
    output: Annotated[Path, typer.Argument(help="Folder for the annotation tool.")],
    model: Model = "nano-coco",
    weights: Weights = None,
    conf: Annotated[float, typer.Option(help="Threshold on the score, 0..1.")] = 0.3,
    format: Annotated[str, typer.Option(help="label-studio, coco (CVAT), voc, yolo.")] = "label-studio",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Label pictures by a network, for correction in an annotation tool."""
    from toolkit.data.dataset import load
    from toolkit.data.formats import prelabel
    from toolkit.detect import Settings, run
    from toolkit.export import open_model

    network, dataset = open_model(model, weights), load(data)
    paths = [dataset.path(i) for i in range(len(dataset))]
    found = ((b.boxes, b.scores, b.class_ids) for b in run(network, paths, Settings(conf=conf), batch=8))
    made = prelabel(dataset, found, network.io.classes, output, format, overwrite=overwrite)
    summary = {"folder": str(output), "pictures": len(made), "boxes": len(made.labels)}
    _answer(summary, as_json, f"{len(made.labels)} boxes in {len(made)} pictures, in {output}")


# --- evaluate ------------------------------------------------------------------------------------------

DataOption = Annotated[str, typer.Option(help="A data set by name (a card in datasets/) or by path.")]
Split = Annotated[str, typer.Option(help="One split only.")]
Conf = Annotated[float, typer.Option(help="Threshold on the score, 0..1.")]
Nms = Annotated[str, typer.Option(help="plain or diou.")]
Resize = Annotated[str, typer.Option(help="bilinear or darknet.")]
Fit = Annotated[str, typer.Option(help="stretch or letterbox.")]
Pictures = Annotated[Path | None, typer.Option(help="Folder for precision-recall, confusion and failures.")]
Wish = Annotated[
    str,
    typer.Option(
        help="precision=.9, recall=.8, fp=.1 (false positives per picture) or f1: the threshold for it, "
        "written into spec.json of an exported network."
    ),
]


def _operating_point(wish: str, matches: Any) -> dict[str, float]:
    from toolkit.evaluation.detection import operating_point

    name, _, value = wish.partition("=")
    keys = {"precision": "precision", "recall": "recall", "fp": "false_positives"}
    if name == "f1":
        return operating_point(matches).as_dict()
    try:
        return operating_point(matches, **{keys[name]: float(value)}).as_dict()
    except (KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--operating-point takes precision=, recall=, fp= or f1, not {wish!r}") from None


def _evaluate(
    protocol: str,
    model: str,
    weights: Path | None,
    data: str,
    split: str,
    settings: Any,
    score: Any,
    wish: str,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Detect, score by `score(truth, detections)`, and what every protocol offers beside its figures."""
    from toolkit.data.dataset import load
    from toolkit.evaluation import detection, predict
    from toolkit.export import open_model, write_threshold

    network, dataset = open_model(model, weights), load(data)
    if split:
        dataset = dataset.split(split)
    if not len(dataset):
        raise InputError(f"{data} has no pictures in the split {split!r}: nothing to evaluate")
    truth, found = detection.Truth.from_dataset(dataset), predict(network, dataset, settings)
    scores = score(truth, found)
    result = {"protocol": protocol, "model": model, "data": data, "split": split, **scores.as_dict()}
    matches = detection.match(truth, found)
    if wish:
        result["operating_point"] = _operating_point(wish, matches)
        write_threshold(model, result["operating_point"]["threshold"])
    if pictures is not None:
        best = result.get("operating_point") or _operating_point("f1", matches)
        detection.draw(pictures, dataset, found, matches, detection.OperatingPoint(**best))
    flat = {k: v for k, v in result.items() if isinstance(v, float)}
    rows = [[name, f"{value:.4f}"] for name, value in flat.items()]
    rows += [[f"at {k}", f"{v:.4f}"] for k, v in result.get("operating_point", {}).items()]
    _answer(result, as_json, table(f"{protocol}: {model} on {data} {split}", ["", ""], rows))


@evaluate_app.command("coco")
def evaluate_coco(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "stretch",
    size: Size = "",
    ignored: Annotated[str, typer.Option(help="Ignored objects: once, crowd or counted.")] = "once",
    max_detections: Annotated[int, typer.Option(help="Detections counted per picture.")] = 100,
    operating_point: Wish = "",
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """COCO's average precision, per class and per size."""
    from toolkit.detect import Settings
    from toolkit.evaluation import detection

    def score(truth: Any, found: Any) -> Any:
        return detection.coco(truth, found, ignored, max_detections)

    settings = Settings(conf, 0.45, nms, resize, fit, _size(size))
    _evaluate("coco", model, weights, data, split, settings, score, operating_point, pictures, as_json)


@evaluate_app.command("voc")
def evaluate_voc(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "stretch",
    size: Size = "",
    iou: Annotated[float, typer.Option(help="Overlap that counts as found.")] = 0.5,
    points: Annotated[str, typer.Option(help="area, or 11 (VOC 2007).")] = "area",
    difficult: Annotated[str, typer.Option(help="ignored or counted.")] = "ignored",
    operating_point: Wish = "",
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """PASCAL VOC's average precision."""
    from toolkit.detect import Settings
    from toolkit.evaluation import detection

    def score(truth: Any, found: Any) -> Any:
        return detection.voc(truth, found, iou, points, difficult)

    settings = Settings(conf, 0.45, nms, resize, fit, _size(size))
    _evaluate("voc", model, weights, data, split, settings, score, operating_point, pictures, as_json)


@evaluate_app.command("darknet")
def evaluate_darknet(
    model: Model,
    data: DataOption,
    weights: Weights = None,
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "darknet",
    fit: Fit = "stretch",
    size: Size = "",
    iou: Annotated[float, typer.Option(help="Overlap that counts as found.")] = 0.5,
    points: Annotated[str, typer.Option(help="area (-points 0), 11 or 101.")] = "area",
    difficult: Annotated[
        str,
        typer.Option(help="counted; dropped (not in the labels); ignored (difficult= in the .data file)."),
    ] = "counted",
    operating_point: Wish = "",
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """darknet's own mAP (detector map): boxes not clipped, the resize and duplicates as it has them."""
    from toolkit.detect import Settings
    from toolkit.evaluation import detection

    def score(truth: Any, found: Any) -> Any:
        return detection.darknet(truth, found, iou, points, difficult)

    settings = Settings(conf, 0.45, nms, resize, fit, _size(size), clip=False)
    _evaluate("darknet", model, weights, data, split, settings, score, operating_point, pictures, as_json)


@evaluate_app.command("widerface")
def evaluate_widerface(
    model: Annotated[str, typer.Option(help="A network as for detect; not needed with --detections.")] = "",
    weights: Weights = None,
    data: DataOption = "widerface_val",
    split: Split = "",
    conf: Conf = 0.005,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "stretch",
    size: Size = "",
    protocol: Annotated[
        str,
        typer.Option(help="Input: own (the network's size), 640 (long side), original (picture by picture)."),
    ] = "own",
    detections: Annotated[Path | None, typer.Option(help="Score text files in the official layout.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write the detections in the official layout.")] = None,
    pictures: Pictures = None,
    as_json: Json = False,
) -> None:
    """WIDER FACE easy, medium and hard by the official protocol."""
    from toolkit import viz
    from toolkit.data.dataset import load
    from toolkit.detect import Settings
    from toolkit.evaluation import in_originals, predict, wider_truth, widerface
    from toolkit.export import open_model

    sides = {"own": None, "640": 640, "original": 0}
    if protocol not in sides:
        raise InputError(f"--protocol is one of {', '.join(sides)}, not {protocol!r}")
    if bool(model) == bool(detections):
        raise InputError("name a network with --model or finished detections with --detections, one of them")
    dataset = load(data)
    if split:
        dataset = dataset.split(split)
    if not len(dataset):
        raise InputError(f"{data} has no pictures in the split {split!r}: nothing to evaluate")
    truth = wider_truth(data, dataset)
    if detections is not None:
        found = widerface.read_detections(detections, truth)
    else:
        network = open_model(model, weights)
        settings = Settings(conf, 0.45, nms, resize, fit, _size(size), clip=False, long_side=sides[protocol])
        found = in_originals(predict(network, dataset, settings), dataset)
    begin = time.perf_counter()
    scores = widerface.evaluate(truth, found)
    seconds = time.perf_counter() - begin
    if write is not None:
        widerface.write_detections(write, truth, found)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        viz.precision_recall(scores.curves).savefig(pictures / "precision_recall.png")
    result = {"model": model, "data": data, "split": split, "input": protocol, **scores.as_dict()}
    rows = [[name, f"{result[name]:.4f}"] for name in ("easy", "medium", "hard")]
    _say(f"{len(found)} detections in {len(truth)} pictures scored in {seconds:.2f} s")
    _answer(
        {**result, "evaluation_seconds": seconds}, as_json, table(f"{model or detections}", ["", "AP"], rows)
    )


@evaluate_app.command("landmarks")
def evaluate_landmarks(
    model: Annotated[str, typer.Option(help="A landmark network; not needed with --predictions.")] = "",
    weights: Weights = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help=".npy of points (faces, points, 2) in pixels, in the order of the data set."),
    ] = None,
    data: DataOption = "wflw98",
    split: Split = "",
    normaliser: Annotated[str, typer.Option(help="inter-ocular or box.")] = "inter-ocular",
    as_json: Json = False,
) -> None:
    """Normalised mean error, area under the error curve and failure rate of landmarks.

    A network sees each face cut out by the bounds of its true points; 106 points are scored on 98 by the map
    of their numbers.
    """
    import numpy as np

    from toolkit.data.dataset import load
    from toolkit.evaluation import landmarks
    from toolkit.export import open_landmarks

    if bool(model) == bool(predictions):
        raise InputError("name a network with --model or finished points with --predictions, one of them")
    dataset = load(data)
    if split:
        dataset = dataset.split(split)
    if dataset.keypoints is None:
        raise InputError(f"{data} has no landmarks: nothing to evaluate")
    if predictions is None:
        scores = landmarks.score(open_landmarks(model, weights), dataset, normaliser)
    else:
        try:
            points = np.asarray(np.load(predictions), np.float64)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise InputError(f"cannot read {predictions} as .npy: {error}") from None
        scores = landmarks.score_points(points, dataset, normaliser)
    if scores.left_out:
        _say(f"{scores.left_out} faces without labels for the {normaliser} length are left out")
    result = scores.as_dict()
    rows = [[k, f"{v:.4f}"] for k, v in result.items() if isinstance(v, float)]
    _answer(result, as_json, table(f"landmarks on {data}", ["", ""], rows))


@ablate_app.command("run")
def ablate_run(
    study: Annotated[Path, typer.Argument(help="A study.yaml: factors, levels, seeds, budget.")],
    output: Annotated[Path | None, typer.Option(help="Its folder; else exports/studies/NAME.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Start the workers through Ray.")] = False,
    storage: Annotated[
        str, typer.Option(help="An SQLAlchemy address shared by several machines; a file unless given.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Run what is left of a study; what is finished is not run again."""
    from toolkit.ablation.report import runs
    from toolkit.ablation.study import read_plan, run_study

    plan = read_plan(study)
    folder = output or Path("exports/studies") / plan.name
    rows = runs(run_study(plan, folder, workers, storage, ray))
    failed = [row for row in rows if "fault" in row]
    for row in failed:
        _say(f"failed: {row['key']}: {row['fault']}")
    answer = {"folder": str(folder), "cells": len(rows), "failed": len(failed)}
    _answer(answer, as_json, table("", ["", ""], [[name, str(value)] for name, value in answer.items()]))


@ablate_app.command("report")
def ablate_report(
    study: Annotated[Path, typer.Argument(help="The folder of a study.")],
    score: Annotated[str, typer.Option(help="score, or a figure that cells keep, such as easy.")] = "score",
    storage: Annotated[str, typer.Option(help="As given to `ablate run`.")] = "",
    as_json: Json = False,
) -> None:
    """Effects with intervals, and accuracy beside cost: report.md and pictures in the folder."""
    from toolkit.ablation.report import write_report

    answer = write_report(study, storage, score)
    _answer(answer, as_json, (study / "report.md").read_text())


@ablate_app.command("time")
def ablate_time(
    study: Annotated[Path, typer.Argument(help="The folder of a study.")],
    device: Devices,
    loops: Loops = 50,
    ssh_config: SshConfig = None,
    as_json: Json = False,
) -> None:
    """Time every network of a study on a device: a column of cost in its report."""
    from toolkit.ablation.report import time_study

    networks = time_study(study, device, loops, ssh_config)
    _say(f"run toolkit ablate report {study} to see them beside the scores")
    _answer({"networks": networks}, as_json, f"{networks} networks timed")


@app.command()
def train(
    output: Annotated[Path, typer.Option(help="The run's folder.")],
    data: Annotated[str, typer.Option(help="A data set by the name of its card, or a folder.")] = "",
    model: Annotated[str, typer.Option(help="A network of the zoo.")] = "",
    recipe: Annotated[str, typer.Option(help="seed, modern, landmarks, or a .yaml of levers.")] = "",
    config: Annotated[Path | None, typer.Option(help="All settings from a config.yaml.")] = None,
    weights: Annotated[
        str, typer.Option(help="Start from: published, or a .weights or .pt file; nothing: from scratch.")
    ] = "",
    epochs: Annotated[float, typer.Option(help="Budget; the recipe's own unless given.")] = 0,
    size: Size = "",
    lever: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the recipe, such as ema=0; may be repeated.")
    ] = None,
    teacher: Annotated[str, typer.Option(help="Learn from a network of the zoo or a run's folder.")] = "",
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes or GPUs.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that make batches; 0: a thread.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network of the zoo on your data: config, curves and best weights in one folder."""
    import yaml

    from toolkit.training.loop import read_config
    from toolkit.training.loop import train as run_training
    from toolkit.training.recipe import default_recipe, read_yaml
    from toolkit.training.recipe import recipe as find_recipe

    settings: dict[str, Any] = {}
    source = output / "config.yaml" if resume and config is None else config
    if source is not None:
        settings = read_yaml(source, f"there is no settings file {source}")
    named = {"data": data, "model": model, "weights": weights, "teacher": teacher}
    settings |= {name: value for name, value in named.items() if value}
    if not resume:
        settings.setdefault("data", "toy")
        settings.setdefault("model", "fastest-v2")
        settings["seed"] = seed if config is None else settings.get("seed", seed)
        levers: dict[str, Any] = {"epochs": epochs} if epochs else {}
        for text in lever or []:
            name, _, value = text.partition("=")
            levers[name] = yaml.safe_load(value)
        if recipe or config is None:
            settings["recipe"] = find_recipe(recipe or default_recipe(settings["model"]), **levers)
        elif levers:
            settings["recipe"] = find_recipe(read_config(settings).recipe, **levers)
        if _size(size):
            settings["size"] = _size(size)
    settings |= {"device": device, "devices": devices, "workers": workers}
    result = run_training(read_config(settings), output, resume)
    answer = {**vars(result)}
    rows = [[name, str(value)] for name, value in answer.items()]
    _answer(answer, as_json, table("", ["", ""], rows))
    if not result.finished:
        _say(f"stopped at step {result.step} of {result.steps}: go on with --resume")
        raise typer.Exit(130)


def _scores(texts: list[str] | None) -> dict[str, float]:
    found = {}
    for text in texts or []:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(f"--score takes NETWORK=SCORE such as fastest-v2=0.50, not {text!r}") from None
    return found


def _columns(columns: dict[str, list[str]]) -> Table:
    return table("", list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def _whole_numbers(option: str, text: str, least: int, most: int) -> list[int]:
    parts = text.split(",")
    if not all(part.isdigit() and least <= int(part) <= most for part in parts):
        raise InputError(f"{option} takes whole numbers from {least} to {most}, by commas, not {text!r}")
    return [int(part) for part in parts]


@device_app.command("build")
def device_build(
    abi: Annotated[
        list[str] | None,
        typer.Option(help="arm64-v8a, armeabi-v7a or x86_64; may be repeated; all if left out."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="An exported folder whose layers it must have; may be repeated; the zoo's if left out."
        ),
    ] = None,
    ndk: Annotated[
        bool, typer.Option(help="By the NDK that ANDROID_NDK names, if any, rather than zig.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Compile the timing runner, once: minutes for each processor, then it comes from the user's cache."""
    from toolkit.device.build import ABIS, build_runner, compiler_for, layers_of

    chosen = abi or list(ABIS)
    for name in chosen:
        compiler_for(name, ndk)  # nothing is built where one of them cannot be
    layers = sorted(layers_of(model or []))
    entries: list[dict[str, Any]] = []
    for name in chosen:
        begin = time.monotonic()
        path = build_runner(name, layers, ndk)
        seconds = round(time.monotonic() - begin, 1)
        entries.append({"abi": name, "path": str(path), "bytes": path.stat().st_size, "seconds": seconds})
    rows = [[e["abi"], f"{e['bytes'] / 1e6:.1f}", f"{e['seconds']:.1f}", e["path"]] for e in entries]
    _answer(
        {"runners": entries, "layers": layers},
        as_json,
        table(f"{len(layers)} layers: {' '.join(layers)}", ["processor", "MB", "seconds", "runner"], rows),
    )


@time_app.command("run")
def time_run(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `toolkit export` made.")],
    device: Devices,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="1, 2, 4 threads x all and big cores x the folder's formats.")
    ] = False,
    to: Annotated[
        str, typer.Option("--format", help="ncnn, ncnn-fp16, ncnn-int8, by commas; ncnn unless given.")
    ] = "",
    threads: Annotated[str, typer.Option(help="Numbers of threads, by commas.")] = "1",
    powersave: Annotated[str, typer.Option(help="0 all cores, 1 little, 2 big ones; by commas.")] = "0",
    picture: Picture = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="An exported landmark network: the cascade is timed, with points in every box."),
    ] = None,
    loops: Loops = 50,
    seconds: Annotated[
        float, typer.Option(min=0, help="Instead of loops: keep going so long; 60 and more show warming.")
    ] = 0,
    cooldown: Annotated[float, typer.Option(min=0, help="Seconds of rest after each run.")] = 1,
    ssh_config: SshConfig = None,
    as_json: Json = False,
) -> None:
    """Push, run, pull: one reading for each setting into FOLDER/timing.json. Exit code 1 where detections
    are not those of ncnn on this machine."""
    from toolkit.device import timing

    found = timing.measure(
        folders,
        device,
        [part for part in to.split(",") if part],
        _whole_numbers("--threads", threads, 1, 64),
        _whole_numbers("--powersave", powersave, 0, 2),
        sweep,
        picture,
        timing.Load(loops=loops, seconds=seconds, cooldown=cooldown),
        ssh_config,
        landmarks,
    )
    records = [timing.record(*entry) for entry in found]
    _answer({"readings": records}, as_json, _columns(timing.table(found)))
    wrong = [reading for _, reading in found if reading.parity["agrees"] is False]
    for reading in wrong:
        _say(f"WRONG DETECTIONS: {reading.model.name} on {reading.machine}: {timing.parity_text(reading)}")
    if wrong:
        raise typer.Exit(1)


@time_app.command("import")
def time_import(
    files: Annotated[list[Path], typer.Argument(help="Readings that the app's benchmark wrote.")],
    exports: Annotated[Path, typer.Option(help="Where the exported folders are.")] = Path("exports"),
    as_json: Json = False,
) -> None:
    """Keep readings made inside the app in the exported folder that has the same sha256."""
    from toolkit.device.timing import import_readings

    added = {str(folder): count for folder, count in import_readings(files, exports).items()}
    rows = [[folder, str(count)] for folder, count in added.items()]
    _answer({"added": added}, as_json, table("", ["folder", "new readings"], rows))


@time_app.command("table")
def time_table(
    folders: Annotated[list[Path], typer.Argument(help="Exported folders that were timed.")],
    score: Scores = None,
    output: Annotated[Path | None, typer.Option(help="A folder for the pictures.")] = None,
    as_json: Json = False,
) -> None:
    """The table in the seed's form, and pictures: per stage, against the score, while warming."""
    from toolkit.device import timing

    found = [(folder, reading) for folder in folders for reading in timing.read_timings(folder)]
    if not found:
        raise InputError("none of these folders was timed: run toolkit time FOLDER --device ... first")
    scores = _scores(score)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        readings = [reading for _, reading in found]
        timing.draw_stages(readings).savefig(output / "stages.png")
        timing.draw_warming(readings).savefig(output / "warming.png")
        if scores:
            timing.draw_accuracy(readings, scores).savefig(output / "accuracy.png")
    records = [timing.record(*entry) for entry in found]
    _answer({"readings": records}, as_json, _columns(timing.table(found, scores)))


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend FiftyOne's database server where it cannot start.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What this machine has and lacks. Exit code 1 where something lacks."""
    from importlib.util import find_spec

    from toolkit.data.mongod import check_mongod, repair_mongod
    from toolkit.runtime import environment

    if fix and find_spec("fiftyone") is not None and check_mongod():
        repair_mongod()
    packages = {
        "notebooks": "jupyterlab",
        "curation": "fiftyone",
        "export": "ncnn",
        "device": "adbutils",
        "search": "optuna",
        "training": "lightning",
        "cluster": "ray",
    }
    lacking = {
        f"extra {extra}": f'pip install -e ".[{extra}]"'
        for extra, name in packages.items()
        if find_spec(name) is None
    }
    fault = check_mongod() if find_spec("fiftyone") is not None else None
    if fault:
        lacking["database"] = fault
    stamp = environment()
    rows = [[key, str(value)] for key, value in {**stamp, **lacking}.items()]
    _answer({"environment": stamp, "lacking": lacking}, as_json, table("", ["", ""], rows))
    if lacking:
        raise typer.Exit(1)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path("exports/demo"),
    as_json: Json = False,
) -> None:
    """The whole chain on a made data set: curate, ablate, train, export, package, time; and a page of it.

    Interrupted, it goes on where it was. TOOLKIT_FAST=1 makes it small."""
    from toolkit.demo import run

    answer = run(output)
    _answer(answer, as_json, f"everything is on the page {answer['page']}")


def main() -> None:
    """Entry point: bad input is one sentence on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _say(f"error: {error.strerror or error}{where}")
        sys.exit(2)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
